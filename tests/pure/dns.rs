//! The resolver against servers that tell the truth, lie, loop, flood and keep silent; and the steering server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gatehouse::dns::steer::{self, Hosted, Steering};
use gatehouse::dns::{
    DialGuard, DnsFault, Params, Places, Resolver, Route, Server, SetupFault, Share, TlsMode,
};
use gatehouse::jid::Domain;
use gatehouse::reason::Reason;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// What the server says to one question.
enum Reply {
    Records(Vec<Record>),
    Code(ResponseCode),
    Silence,
}

type Script = dyn Fn(&Name, RecordType) -> Reply + Send + Sync;

/// A DNS server that says what it is told to, over UDP and TCP.
struct World {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl World {
    async fn new(script: impl Fn(&Name, RecordType) -> Reply + Send + Sync + 'static) -> World {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let mut tasks = JoinSet::new();
        let (noted, told) = (Arc::clone(&asked), Arc::clone(&script));
        tasks.spawn(async move {
            let mut octets = [0; 4096];
            while let Ok((count, from)) = udp.recv_from(&mut octets).await {
                if let Some(mut answer) = respond(&octets[..count], &*told, &noted) {
                    if answer.to_vec().unwrap().len() > 512 {
                        answer = answer.truncate();
                    }
                    udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        let noted = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = tcp.accept().await {
                connections.spawn(converse(stream, Arc::clone(&script), Arc::clone(&noted)));
            }
        });
        World { address, asked, _tasks: tasks }
    }

    fn resolver(&self) -> Resolver {
        self.resolver_with(|_| {})
    }

    /// Loopback is where the tests live, so it is allowed unless a test says otherwise.
    fn resolver_with(&self, change: impl FnOnce(&mut Params)) -> Resolver {
        let guard =
            DialGuard { allow_networks: vec!["127.0.0.0/8".parse().unwrap()], ..DialGuard::default() };
        let mut params = Params {
            servers: vec![self.address],
            each: Duration::from_millis(1000),
            total: Duration::from_millis(1500),
            guard,
            ..Params::default()
        };
        change(&mut params);
        Resolver::new(params).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn converse(mut stream: TcpStream, script: Arc<Script>, asked: Arc<Mutex<Vec<String>>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut octets = vec![0; length.into()];
        stream.read_exact(&mut octets).await.unwrap();
        if let Some(answer) = respond(&octets, &*script, &asked) {
            let answer = answer.to_vec().unwrap();
            stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

fn respond(octets: &[u8], script: &Script, asked: &Mutex<Vec<String>>) -> Option<Message> {
    let request = Message::from_vec(octets).unwrap();
    let query = request.queries[0].clone();
    asked.lock().unwrap().push(format!("{} {}", query.name().to_ascii(), query.query_type()));
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_available = true;
    response.add_query(query.clone());
    match script(query.name(), query.query_type()) {
        Reply::Records(records) => {
            response.add_answers(records);
        }
        Reply::Code(code) => response.metadata.response_code = code,
        Reply::Silence => return None,
    }
    Some(response)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn srv(owner: &str, priority: u16, port: u16, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::SRV(SRV::new(priority, 1, port, name(target))))
}

fn host(owner: &str, ip: &str) -> Record {
    let data = match ip.parse().unwrap() {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(name(owner), 60, data)
}

fn alias(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

/// A zone: each record answers its own name and type; a name without the type has none; others do not exist.
fn zone(records: Vec<Record>) -> impl Fn(&Name, RecordType) -> Reply + Send + Sync + 'static {
    move |asked, kind| {
        let here: Vec<_> = records.iter().filter(|record| record.name == *asked).collect();
        let fits =
            |record: &&&Record| record.record_type() == kind || record.record_type() == RecordType::CNAME;
        match here.is_empty() {
            true => Reply::Code(ResponseCode::NXDomain),
            false => Reply::Records(here.iter().filter(fits).map(|record| (*record).clone()).collect()),
        }
    }
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

const DIRECT: &str = "_xmpps-server._tcp.a.example.";
const STARTTLS: &str = "_xmpp-server._tcp.a.example.";

// DNS-01, DNS-04: one list of both services, all addresses of each target.
#[tokio::test]
async fn both_services_are_found_and_merged() {
    let world = World::new(zone(vec![
        srv(STARTTLS, 10, 5269, "s.a.example."),
        srv(STARTTLS, 30, 5269, "gone.a.example."),
        srv(DIRECT, 10, 5270, "d.a.example."),
        srv(DIRECT, 20, 443, "alias.a.example."),
        host("s.a.example.", "127.0.0.1"),
        host("s.a.example.", "127.0.0.2"),
        host("d.a.example.", "127.0.0.3"),
        host("d.a.example.", "2001:db8::3"),
        alias("alias.a.example.", "d.a.example."),
    ]))
    .await;
    let targets = world.resolver().targets(&domain("a.example")).await.unwrap();
    let found: Vec<_> =
        targets.iter().map(|target| (target.host.as_str(), target.mode, target.addresses.len())).collect();
    let expected = [
        ("d.a.example", TlsMode::Direct, 2),
        ("s.a.example", TlsMode::Starttls, 2),
        ("alias.a.example", TlsMode::Direct, 2),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        targets[0].addresses,
        ["[2001:db8::3]:5270".parse().unwrap(), "127.0.0.3:5270".parse().unwrap()]
    );
}

// DNS-07; names are asked as they are, in A-labels, with no search domain.
#[tokio::test]
async fn answers_are_kept_and_lookups_are_shared() {
    let world = World::new(zone(vec![
        srv("_xmpp-server._tcp.xn--bcher-kva.example.", 1, 5269, "s.example."),
        host("s.example.", "127.0.0.1"),
    ]))
    .await;
    let resolver = Arc::new(world.resolver());
    let mut crowd = JoinSet::new();
    for _ in 0..20 {
        let resolver = Arc::clone(&resolver);
        crowd.spawn(async move { resolver.targets(&domain("b\u{fc}cher.example")).await.unwrap() });
    }
    assert_eq!(crowd.join_all().await.len(), 20);
    resolver.targets(&domain("B\u{fc}cher.example")).await.unwrap();
    let mut asked = world.asked();
    asked.sort();
    let expected = [
        "_xmpp-server._tcp.xn--bcher-kva.example. SRV",
        "_xmpps-server._tcp.xn--bcher-kva.example. SRV",
        "s.example. A",
        "s.example. AAAA",
    ];
    assert_eq!(asked, expected);
}

// DNS-07: "negative answers too".
#[tokio::test]
async fn absence_is_kept_as_well() {
    let world = World::new(zone(Vec::new())).await;
    let resolver = world.resolver();
    for _ in 0..3 {
        let fault = resolver.targets(&domain("a.example")).await.unwrap_err();
        assert_eq!((fault, fault.why().reason), (DnsFault::NoDomain, Reason::RemoteNotFound));
    }
    assert_eq!(world.asked().len(), 4);
}

// CLS-07: "forgotten when the domain shows itself alive", or when an operator clears it; for a claim by itself within seconds,
// whatever a zone without SOA lets us believe.
#[tokio::test]
async fn a_domain_that_was_absent_is_looked_for_again() {
    let there = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (truth, told) = (zone(vec![host("bank.example.", "127.0.0.1")]), Arc::clone(&there));
    let nothing = zone(Vec::new());
    let world = World::new(move |asked, kind| match told.load(std::sync::atomic::Ordering::SeqCst) {
        true => truth(asked, kind),
        false => nothing(asked, kind),
    })
    .await;
    let bank = domain("bank.example");
    for forget in [true, false] {
        there.store(false, std::sync::atomic::Ordering::SeqCst);
        let resolver = world.resolver();
        for share in [Share::Own, Share::Claims] {
            assert_eq!(resolver.targets_within(&bank, share).await, Err(DnsFault::NoDomain), "{share:?}");
        }
        there.store(true, std::sync::atomic::Ordering::SeqCst);
        match forget {
            true => resolver.forget_absence(&bank),
            false => tokio::time::sleep(Duration::from_millis(2500)).await,
        }
        let before = world.asked().len();
        assert!(resolver.targets_within(&bank, Share::Claims).await.is_ok(), "{forget}");
        let ours = resolver.targets_within(&bank, Share::Own).await;
        assert_eq!(ours.is_ok(), forget, "what our own users could not find is kept (DNS-07): {ours:?}");
        if !forget {
            continue;
        }
        // What is known to be there is not asked for again.
        let asked = world.asked().len();
        assert!(asked > before);
        resolver.forget_absence(&bank);
        assert!(resolver.targets(&bank).await.is_ok());
        assert_eq!(world.asked().len(), asked);
    }
}

// "no such domain, no SRV": two texts, by what the DNS says of the domain itself.
#[tokio::test]
async fn a_domain_without_a_server_is_told_from_no_domain() {
    // There is something at that name, of another type, and no server.
    let below = zone(vec![srv("a.example.", 0, 25, "mail.example.")]);
    let srv_to_nowhere = zone(vec![srv(STARTTLS, 0, 5269, "gone.example.")]);
    for (records, expected) in [
        (below, DnsFault::NotFound),
        (srv_to_nowhere, DnsFault::NotFound),
        (zone(Vec::new()), DnsFault::NoDomain),
    ] {
        let world = World::new(records).await;
        let fault = world.resolver().targets(&domain("a.example")).await.unwrap_err();
        assert_eq!(fault, expected);
    }
    let text = |fault: DnsFault| fault.why().for_users();
    assert_eq!(text(DnsFault::NoDomain), "there is no such domain (remote-not-found)");
    assert_eq!(text(DnsFault::NotFound), "it has no XMPP server in the DNS (remote-not-found)");
}

// DNS-02: a target of "." is a no, and forbids the address fallback.
#[tokio::test]
async fn a_dot_ends_the_search() {
    let world = World::new(zone(vec![srv(STARTTLS, 0, 0, "."), host("a.example.", "127.0.0.1")])).await;
    assert_eq!(world.resolver().targets(&domain("a.example")).await, Err(DnsFault::NotFound));
    assert_eq!(world.asked().len(), 2);
}

// DNS-03.
#[tokio::test]
async fn without_records_the_domain_itself_is_tried() {
    let world = World::new(zone(vec![host("a.example.", "127.0.0.1")])).await;
    let targets = world.resolver().targets(&domain("a.example")).await.unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!((targets[0].mode, targets[0].host.as_str()), (TlsMode::Starttls, "a.example"));
    assert_eq!(targets[0].addresses, ["127.0.0.1:5269".parse().unwrap()]);
}

/// How a server fails at one question.
#[derive(Clone, Copy, Debug)]
enum Failing {
    Code(ResponseCode),
    Silent,
}

const FAILINGS: [Failing; 4] = [
    Failing::Code(ResponseCode::ServFail),
    Failing::Code(ResponseCode::Refused),
    Failing::Code(ResponseCode::FormErr),
    Failing::Silent,
];

/// This zone, but for the questions at which its server fails.
async fn failing(broken: &[&str], how: Failing, records: Vec<Record>) -> World {
    let broken: Vec<Name> = broken.iter().map(|owner| name(owner)).collect();
    let truth = zone(records);
    World::new(move |asked, kind| match (broken.contains(asked), how) {
        (true, Failing::Code(code)) => Reply::Code(code),
        (true, Failing::Silent) => Reply::Silence,
        (false, _) => truth(asked, kind),
    })
    .await
}

// DNS-10: a failed lookup is not "no records": where nothing else names a server there is no fallback.
#[tokio::test]
async fn a_failure_is_never_taken_for_absence() {
    for how in FAILINGS {
        let table: [(&[&str], Vec<Record>); 4] = [
            (&[DIRECT], vec![]),
            (&[STARTTLS], vec![]),
            (&[DIRECT, STARTTLS], vec![]),
            (&[DIRECT], vec![srv(STARTTLS, 0, 0, ".")]),
        ];
        for (broken, mut records) in table {
            records.push(host("a.example.", "127.0.0.1"));
            let world = failing(broken, how, records).await;
            let fault = world.resolver().targets(&domain("a.example")).await.unwrap_err();
            assert_eq!(fault.why().reason, Reason::DnsFailed, "{how:?} {broken:?}");
            assert!(!world.asked().iter().any(|asked| asked.starts_with("a.example.")), "{how:?} {broken:?}");
        }
    }
}

// DNS-10: "the two services are two questions: where one fails and the other answers, the answer is used", either way round,
// and soon: silence about one of them is not worth the deadline of a query.
#[tokio::test]
async fn a_service_that_fails_does_not_hide_the_other() {
    for how in FAILINGS {
        for (broken, good, mode) in
            [(DIRECT, STARTTLS, TlsMode::Starttls), (STARTTLS, DIRECT, TlsMode::Direct)]
        {
            let records = vec![srv(good, 1, 5269, "s.a.example."), host("s.a.example.", "127.0.0.1")];
            let world = failing(&[broken], how, records).await;
            let resolver = world.resolver_with(|p| (p.each, p.total) = (WHOLE_DAY, WHOLE_DAY));
            let targets = resolver.targets(&domain("a.example")).await.unwrap();
            let found: Vec<_> = targets.iter().map(|t| (t.host.as_str(), t.mode)).collect();
            assert_eq!(found, [("s.a.example", mode)], "{how:?} {broken}");
        }
    }
}

// RFC 8305 3: "a silent AAAA costs nothing", nor does a silent A where there is an AAAA.
#[tokio::test]
async fn a_family_that_is_silent_does_not_hold_up_the_other() {
    for (silent, ip) in [(RecordType::AAAA, "127.0.0.1"), (RecordType::A, "2001:db8::1")] {
        let truth = zone(vec![srv(STARTTLS, 1, 5269, "s.a.example."), host("s.a.example.", ip)]);
        let world = World::new(move |asked, kind| match kind == silent {
            true => Reply::Silence,
            false => truth(asked, kind),
        })
        .await;
        let resolver = world.resolver_with(|p| (p.each, p.total) = (WHOLE_DAY, WHOLE_DAY));
        let targets = resolver.targets(&domain("a.example")).await.unwrap();
        assert_eq!(targets[0].addresses, [SocketAddr::new(ip.parse().unwrap(), 5269)]);
    }
}

/// So long that a test which waits for it never ends.
const WHOLE_DAY: Duration = Duration::from_secs(86_400);

// LIM-06: "the clock starts when work starts": who waited for a place longer than a lookup may take is busy
// or served, and his domain has not failed.
#[tokio::test]
async fn a_lookup_that_waited_is_no_failure_of_its_domain() {
    let truth = zone(vec![host("bank.example.", "127.0.0.1")]);
    let world = World::new(move |asked, kind| match name("slow.example.").zone_of(asked) {
        true => Reply::Silence,
        false => truth(asked, kind),
    })
    .await;
    for share in [Share::Claims, Share::Carried, Share::Own] {
        let total = Duration::from_millis(600);
        let resolver = Arc::new(world.resolver_with(|p| {
            (p.each, p.total) = (total, total);
            p.places = Places { carried: 1, claims: 1, own: 1 };
        }));
        let slow = |n: u32| {
            let (resolver, of) = (Arc::clone(&resolver), domain(&format!("n{n}.slow.example")));
            async move { resolver.targets_within(&of, share).await }
        };
        let first = tokio::spawn(slow(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (found, waited) = resolver.targets_timed(&domain("bank.example"), share).await;
        assert!(found.is_ok() && waited > Duration::ZERO, "{share:?}: {found:?} after {waited:?}");
        assert_eq!(first.await.unwrap(), Err(DnsFault::Timeout));
        // Two before us: our own time is over before it is our turn.
        let (one, two) = (tokio::spawn(slow(2)), tokio::spawn(slow(3)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let late = resolver.targets_within(&domain("cousin.example"), share).await.unwrap_err();
        assert_eq!((late, late.why().reason), (DnsFault::Busy, Reason::Overload), "{share:?}");
        let (_one, _two) = (one.await, two.await);
    }
}

// LIM-06: what unproven peers cause feeds nothing that our own traffic reads, not even what was found to fail.
#[tokio::test]
async fn what_unproven_peers_could_not_find_is_looked_up_anew_for_our_own_users() {
    let down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let truth = zone(vec![host("bank.example.", "127.0.0.1")]);
    let told = Arc::clone(&down);
    let world = World::new(move |asked, kind| match told.load(std::sync::atomic::Ordering::SeqCst) {
        true => Reply::Code(ResponseCode::ServFail),
        false => truth(asked, kind),
    })
    .await;
    let resolver = world.resolver();
    let bank = domain("bank.example");
    assert_eq!(resolver.targets_within(&bank, Share::Claims).await, Err(DnsFault::Failed));
    down.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(resolver.targets(&bank).await.is_ok());
}

// DNS-05: "and of the A and AAAA of hosted domains", in either way to find a remote server, and unless a route says so.
#[tokio::test]
async fn where_the_world_finds_us_nobody_leads_us() {
    let world = World::new(zone(vec![
        host("hall.example.", "127.0.0.7"),
        host("hall.example.", "2001:db8::7"),
        srv(STARTTLS, 1, 6379, "s.a.example."),
        srv(STARTTLS, 2, 6379, "t.a.example."),
        host("s.a.example.", "127.0.0.7"),
        host("t.a.example.", "127.0.0.8"),
        host("t.a.example.", "2001:db8::7"),
    ]))
    .await;
    let resolver = world.resolver_with(|params| {
        params.hosted = vec![domain("hall.example"), domain("silent.example")];
        let to = |of: &str| {
            Route::to(
                domain(of),
                Server { host: "127.0.0.7".to_owned(), port: 5269, mode: TlsMode::Starttls },
            )
        };
        params.routes = vec![to("routed.example")];
    });
    let targets = resolver.targets(&domain("a.example")).await.unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].addresses, ["127.0.0.8:6379".parse().unwrap()]);
    assert_eq!(resolver.host("s.a.example", 6379, Share::Own).await, Err(DnsFault::Guarded));
    assert_eq!(resolver.host("127.0.0.7", 5269, Share::Own).await, Err(DnsFault::Guarded));
    assert!(resolver.targets(&domain("routed.example")).await.unwrap()[0].routed);
}

// The same, where the first answers about ourselves are failures: asked again at once and soon, and what was known is kept.
#[tokio::test]
async fn a_failure_of_the_dns_does_not_hide_where_the_world_finds_us() {
    use std::sync::atomic::Ordering::SeqCst;
    let down = Arc::new(std::sync::atomic::AtomicUsize::new(1));
    let truth = zone(vec![
        host("hall.example.", "192.0.2.7"),
        host("a.example.", "192.0.2.7"),
        host("b.example.", "64:ff9b::192.0.2.7"),
        host("c.example.", "2002:c000:207::1"),
    ]);
    let left = Arc::clone(&down);
    let world = World::new(move |asked, kind| {
        let fails = *asked == name("hall.example.")
            && kind == RecordType::A
            && left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if fails { Reply::Code(ResponseCode::ServFail) } else { truth(asked, kind) }
    })
    .await;
    let hosted = || world.resolver_with(|params| params.hosted = vec![domain("hall.example")]);
    for of in ["a.example", "b.example", "c.example"] {
        down.store(1, SeqCst);
        assert_eq!(hosted().targets(&domain(of)).await, Err(DnsFault::Guarded), "{of}");
    }
    // A longer one is over when the DNS is back.
    down.store(2, SeqCst);
    let resolver = hosted();
    assert!(resolver.targets(&domain("a.example")).await.is_ok());
    let until = Instant::now() + Duration::from_secs(20);
    while resolver.targets(&domain("a.example")).await != Err(DnsFault::Guarded) {
        assert!(Instant::now() < until, "asked again within seconds");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_silent_server_costs_its_deadline_and_no_more() {
    let world = World::new(|_, _| Reply::Silence).await;
    let before = Instant::now();
    assert_eq!(world.resolver().targets(&domain("a.example")).await, Err(DnsFault::Timeout));
    assert!(before.elapsed() < Duration::from_secs(12), "{:?}", before.elapsed());
    // A target that cannot be looked up does not take those with it that can.
    let truth = zone(vec![
        srv(STARTTLS, 1, 5269, "slow.example."),
        srv(STARTTLS, 2, 5269, "quick.example."),
        host("quick.example.", "127.0.0.1"),
    ]);
    let silent = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (told, whole) = (Arc::clone(&silent), zone(vec![host("slow.example.", "127.0.0.2")]));
    let slow = World::new(move |asked, kind| match *asked == name("slow.example.") {
        true if told.load(std::sync::atomic::Ordering::SeqCst) => Reply::Silence,
        true => whole(asked, kind),
        false => truth(asked, kind),
    })
    .await;
    let patient = Duration::from_secs(20);
    let resolver = slow.resolver_with(|params| (params.each, params.total) = (patient, patient));
    let found = async || {
        let targets = resolver.targets(&domain("a.example")).await.unwrap();
        targets.into_iter().map(|target| target.host).collect::<Vec<_>>()
    };
    let before = Instant::now();
    assert_eq!(found().await, ["quick.example"]);
    assert!(
        before.elapsed() < Duration::from_secs(10),
        "nor does it cost their time: {:?}",
        before.elapsed()
    );
    // What is not complete is not kept for long.
    silent.store(false, std::sync::atomic::Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(found().await, ["slow.example", "quick.example"]);
}

// LIM-06: what unproven peers ask for waits for its own share; who has something to say to somebody does not wait behind it.
#[tokio::test]
async fn a_flood_of_claims_leaves_room_for_our_own_lookups() {
    let truth = zone(vec![host("a.example.", "127.0.0.1"), host("b.example.", "127.0.0.1")]);
    let world = World::new(move |asked, kind| match name("flood.example.").zone_of(asked) {
        true => Reply::Silence,
        false => truth(asked, kind),
    })
    .await;
    let long = Duration::from_secs(60);
    let resolver = Arc::new(world.resolver_with(|params| (params.each, params.total) = (long, long)));
    let mut flood = JoinSet::new();
    for n in 0..600 {
        let resolver = Arc::clone(&resolver);
        flood.spawn(async move {
            let of = domain(&format!("n{n}.flood.example"));
            resolver.targets_within(&of, Share::Claims).await
        });
    }
    let begun = || {
        let asked = world.asked();
        let names = asked.iter().filter_map(|asked| asked.split('.').find(|label| label.starts_with('n')));
        names.map(str::to_owned).collect::<std::collections::BTreeSet<_>>().len()
    };
    let until = Instant::now() + Duration::from_secs(40);
    let most = Places::default().claims;
    while begun() < most {
        assert!(Instant::now() < until, "{} lookups were begun", begun());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let late = tokio::spawn({
        let resolver = Arc::clone(&resolver);
        async move { resolver.targets_within(&domain("b.example"), Share::Claims).await }
    });
    assert!(resolver.targets(&domain("a.example")).await.is_ok());
    // And whoever wants what an unproven peer waits for need not wait with it.
    assert!(resolver.targets_within(&domain("b.example"), Share::Carried).await.is_ok());
    assert_eq!(begun(), most, "no more are looked up for unproven peers at one time");
    flood.abort_all();
    assert!(late.await.unwrap().is_ok(), "what is given up makes room");
}

#[tokio::test]
async fn loops_and_endless_chains_of_cname_end() {
    let world = World::new(|asked, _| {
        let labels = asked.num_labels();
        // Each name leads to one that was never asked for.
        let next = name(&format!("n{}.{}", labels, asked.to_ascii()));
        Reply::Records(vec![Record::from_rdata(asked.clone(), 60, RData::CNAME(CNAME(next)))])
    })
    .await;
    assert_eq!(world.resolver().targets(&domain("a.example")).await, Err(DnsFault::Failed));
    assert!(world.asked().len() <= 20, "{}", world.asked().len());
    let world = World::new(zone(vec![
        srv(STARTTLS, 1, 5269, "one.example."),
        alias("one.example.", "two.example."),
        alias("two.example.", "one.example."),
    ]))
    .await;
    assert_eq!(world.resolver().targets(&domain("a.example")).await, Err(DnsFault::Failed));
    assert!(world.asked().len() <= 24, "{}", world.asked().len());
}

#[tokio::test]
async fn answers_for_other_names_are_no_answers() {
    let world = World::new(|_, kind| match kind {
        RecordType::SRV => {
            Reply::Records(vec![srv("_xmpp-server._tcp.evil.example.", 1, 5269, "evil.example.")])
        }
        _ => Reply::Records(vec![host("evil.example.", "127.0.0.66")]),
    })
    .await;
    assert_eq!(world.resolver().targets(&domain("a.example")).await, Err(DnsFault::Failed));
    // Riders beside a true answer are left out.
    let truth = zone(vec![host("a.example.", "127.0.0.1")]);
    let world = World::new(move |asked, kind| match truth(asked, kind) {
        Reply::Records(mut records) if kind == RecordType::A => {
            records.push(host("evil.example.", "127.0.0.66"));
            Reply::Records(records)
        }
        other => other,
    })
    .await;
    let targets = world.resolver().targets(&domain("a.example")).await.unwrap();
    assert_eq!(targets[0].addresses, ["127.0.0.1:5269".parse().unwrap()]);
}

// Records by the thousand, each target with addresses by the hundred: ten targets of eight remain. What does not even
// fit into 64 KiB comes truncated over TCP as well, and is a failure.
#[tokio::test]
async fn a_flood_of_records_stays_small() {
    for (count, fits) in [(1000, true), (10_000, false)] {
        let flood: Vec<_> = (0..count).map(|n| srv(STARTTLS, 1, 5269, &format!("h{n}.a.example."))).collect();
        let world = World::new(move |asked, kind| match kind {
            RecordType::SRV if *asked == name(STARTTLS) => Reply::Records(flood.clone()),
            RecordType::A => {
                Reply::Records((1..=200).map(|n| host(&asked.to_ascii(), &format!("127.0.0.{n}"))).collect())
            }
            _ => Reply::Records(Vec::new()),
        })
        .await;
        let resolver = world.resolver_with(|params| {
            params.each = Duration::from_secs(5);
            params.total = Duration::from_secs(15);
        });
        let before = Instant::now();
        let found = resolver.targets(&domain("a.example")).await;
        assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
        if fits {
            let targets = found.unwrap();
            assert_eq!(targets.len(), 10);
            assert!(targets.iter().all(|target| target.addresses.len() == 8));
        } else {
            assert_eq!(found, Err(DnsFault::Failed));
        }
        // UDP and then TCP for the flooded service and for each A, UDP for the other service and for each AAAA.
        assert!(world.asked().len() <= 33, "{}", world.asked().len());
    }
}

// DNS-05, DNS-06.
#[tokio::test]
async fn addresses_and_ports_that_must_not_be_dialled_are_left_out() {
    let world = World::new(zone(vec![
        srv(STARTTLS, 1, 5269, "inner.example."),
        srv(STARTTLS, 2, 25, "mail.example."),
        srv(STARTTLS, 3, 5269, "outer.example."),
        host("inner.example.", "127.0.0.1"),
        host("inner.example.", "::ffff:10.0.0.1"),
        host("inner.example.", "::1"),
        host("mail.example.", "192.0.2.25"),
        host("outer.example.", "192.0.2.1"),
        host("outer.example.", "192.168.0.1"),
        srv("_xmpp-server._tcp.b.example.", 1, 5269, "inner.example."),
        srv("_xmpp-server._tcp.c.example.", 1, 25, "mail.example."),
    ]))
    .await;
    let resolver = world.resolver_with(|params| params.guard = DialGuard::default());
    let targets = resolver.targets(&domain("a.example")).await.unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].addresses, ["192.0.2.1:5269".parse().unwrap()]);
    for other in ["b.example", "c.example"] {
        let fault = resolver.targets(&domain(other)).await.unwrap_err();
        assert_eq!((fault, fault.why().reason), (DnsFault::Guarded, Reason::RemoteUnreachable), "{other}");
    }
    let ours = world.resolver_with(|params| params.guard.own = vec!["127.0.0.1:5269".parse().unwrap()]);
    assert_eq!(ours.targets(&domain("b.example")).await, Err(DnsFault::Guarded));
}

// DNS-08: the operator's word stands above SRV and guard.
#[tokio::test]
async fn routes_ask_nobody_for_a_service() {
    let world = World::new(zone(vec![host("far.example.", "10.9.9.9")])).await;
    let route = |of: &str, host: &str| {
        Route::to(domain(of), Server { host: host.to_owned(), port: 52, mode: TlsMode::Direct })
    };
    let resolver = world.resolver_with(|params| {
        params.guard = DialGuard::default();
        params.routes = vec![
            route("a.example", "10.1.2.3"),
            route("b.example", "far.example"),
            route("c.example", "::1"),
        ];
    });
    for (of, address) in
        [("a.example", "10.1.2.3:52"), ("b.example", "10.9.9.9:52"), ("c.example", "[::1]:52")]
    {
        let targets = resolver.targets(&domain(of)).await.unwrap();
        assert_eq!((targets.len(), targets[0].mode), (1, TlsMode::Direct));
        assert_eq!(targets[0].addresses, [address.parse().unwrap()]);
    }
    assert!(world.asked().iter().all(|asked| asked.starts_with("far.example.")), "{:?}", world.asked());
}

async fn steering(from: &str) -> Steering {
    let hosted = [
        ("hall.example", Hosted { at: vec!["127.0.0.5:5269".parse().unwrap()], told: true }),
        ("closed.example", Hosted { at: vec!["127.0.0.5:5269".parse().unwrap()], told: false }),
    ];
    Steering::start(steer::Params {
        listen: "127.0.0.1:0".parse().unwrap(),
        from: vec![from.parse().unwrap()],
        answer: vec!["127.0.0.9".parse().unwrap()],
        port: 5299,
        target: steer::TARGET.into(),
        hosted: hosted.map(|(name, hosted)| (domain(name), hosted)).into_iter().collect::<BTreeMap<_, _>>(),
        never: vec![domain("nowhere.example")],
    })
    .unwrap()
}

fn follower(server: SocketAddr) -> Resolver {
    let guard = DialGuard { allow_networks: vec!["127.0.0.0/8".parse().unwrap()], ..DialGuard::default() };
    Resolver::new(Params { servers: vec![server], guard, ..Params::default() }).unwrap()
}

// A resolver stands in for a backend: for any domain it arrives at the inside listener.
#[tokio::test]
async fn steering_leads_backends_to_the_inside_listener() {
    let steering = steering("127.0.0.0/8").await;
    let backend = follower(steering.address());
    for foreign in ["friend.example", "anything.at.all.example", "x.hall.example"] {
        let targets = backend.targets(&domain(foreign)).await.unwrap();
        assert_eq!((targets.len(), targets[0].host.as_str()), (1, steer::TARGET));
        assert_eq!(targets[0].mode, TlsMode::Starttls);
        assert_eq!(targets[0].addresses, ["127.0.0.9:5299".parse().unwrap()]);
    }
    let targets = backend.targets(&domain("hall.example")).await.unwrap();
    assert_eq!(targets[0].addresses, ["127.0.0.5:5269".parse().unwrap()]);
    assert_eq!(backend.targets(&domain("closed.example")).await, Err(DnsFault::Failed));
    for never in ["nowhere.example", "deep.nowhere.example"] {
        assert_eq!(backend.targets(&domain(never)).await, Err(DnsFault::NoDomain), "{never}");
    }

    // Over TCP as well.
    let mut stream = TcpStream::connect(steering.address()).await.unwrap();
    let mut question = Message::query();
    question.add_query(Query::query(name("friend.example."), RecordType::A));
    let octets = question.to_vec().unwrap();
    stream.write_u16(octets.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&octets).await.unwrap();
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.answers[0].data, RData::A(A::new(127, 0, 0, 9)));

    // Tigase's probe, as it is asked: there is no such name, and how long that is true is said.
    let probe = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut question = Message::query();
    question.add_query(Query::query(name("hit-nxdomain.opendns.com."), RecordType::A));
    probe.send_to(&question.to_vec().unwrap(), steering.address()).await.unwrap();
    let mut octets = [0; 512];
    let length = probe.recv(&mut octets).await.unwrap();
    let answer = Message::from_vec(&octets[..length]).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert!(
        answer.answers.is_empty() && answer.authorities[0].record_type() == RecordType::SOA,
        "{answer:?}"
    );
    steering.stop().await;
}

#[tokio::test]
async fn steering_answers_the_backends_only() {
    let steering = steering("10.0.0.0/8").await;
    assert_eq!(follower(steering.address()).targets(&domain("friend.example")).await, Err(DnsFault::Failed));
    // Over TCP nobody else is even read from.
    let mut stream = TcpStream::connect(steering.address()).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(heard, Ok(0) | Err(_)), "{heard:?}");
}

#[tokio::test]
async fn the_resolver_never_asks_the_steering_server() {
    let steering: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let build = |never: &str| {
        Resolver::new(Params {
            servers: vec![steering],
            never: vec![never.parse().unwrap()],
            ..Params::default()
        })
    };
    assert_eq!(build("127.0.0.1:53").unwrap_err(), SetupFault::Steering(steering));
    assert_eq!(build("0.0.0.0:53").unwrap_err(), SetupFault::Steering(steering));
    assert!(build("127.0.0.2:53").is_ok());
    assert!(build("127.0.0.1:54").is_ok());
}
