use tokio::net::TcpListener;

use super::*;
use crate::dns::{self, DialGuard};
use crate::reason::Cause;
use crate::run::circuit;
use crate::run::tests::domain;
use crate::tls::verify::TrustStore;
use crate::tls::{client, server};

/// A world with these addresses for the backend of hall.example, and this one for friend.example.
fn world(backends: Vec<SocketAddr>, friend: SocketAddr) -> World {
    let trust = Arc::new(TrustStore::default());
    let accepting = server::Params {
        mode: Mode::Starttls,
        alpn: Vec::new(),
        default: None,
        ask_certificate: true,
        certificates: Arc::default(),
        trust: Arc::clone(&trust),
    };
    let route = dns::Route::to(
        domain("friend.example"),
        dns::Server { host: friend.ip().to_string(), port: friend.port(), mode: TlsMode::Starttls },
    );
    let resolver = Resolver::new(dns::Params {
        servers: vec!["127.0.0.1:9".parse().unwrap()],
        guard: DialGuard::default(),
        routes: vec![route],
        ..dns::Params::default()
    });
    let metrics = Arc::new(Metrics::new([domain("hall.example")]).unwrap());
    let connector = Connector::new(client::Params { certificates: Arc::default(), trust }).unwrap();
    World::new(
        Params {
            acceptor_clients: Arc::new(Acceptor::new(accepting.clone()).unwrap()),
            acceptor: Arc::new(Acceptor::new(accepting).unwrap()),
            clients: BTreeMap::new(),
            resolver: Arc::new(resolver.unwrap()),
            backends: BTreeMap::from([(domain("hall.example"), backends)]),
            read_proxy_header: std::collections::BTreeSet::new(),
            ways: WaysOut::default(),
            sources: BTreeMap::new(),
            dial: net::connect::Params::default(),
            handshake: Duration::from_secs(5),
            pace: Arc::new(Handshakes::new(std::num::NonZeroU32::MAX, Duration::from_secs(1), now())),
            circuits: Circuits::new(circuit::Params::default(), Arc::clone(&metrics)),
            posh: super::posh::Files::default(),
            metrics,
        },
        connector,
    )
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn closed() -> SocketAddr {
    listener().await.1
}

fn friend() -> Destination {
    Destination::World {
        from: domain("hall.example"),
        target: domain("friend.example"),
        behalf: Behalf::Own,
        posh: false,
        via: None,
    }
}

// Contract 2: "tried in order".
#[tokio::test]
async fn a_backend_is_sought_at_each_of_its_addresses_in_turn() {
    let (first, at_first) = listener().await;
    let (second, at_second) = listener().await;
    let world = world(vec![closed().await, at_first, at_second], at_first);
    let route = world.route(&Destination::Backend(domain("hall.example")), None);
    let (route, outcome) = route.connect(AddressChoice::Next).await;
    assert!(outcome.is_ok());
    first.accept().await.unwrap();
    let (route, outcome) = route.connect(AddressChoice::Same).await;
    assert!(outcome.is_ok());
    first.accept().await.unwrap();
    let (route, outcome) = route.connect(AddressChoice::Next).await;
    assert!(outcome.is_ok());
    second.accept().await.unwrap();
    let (_route, outcome) = route.connect(AddressChoice::Next).await;
    let failure = outcome.err().unwrap();
    assert_eq!(failure.reason, Reason::BackendDown);
    let nobody = world.route(&Destination::Backend(domain("nobody.example")), None);
    assert_eq!(
        nobody.connect(AddressChoice::Next).await.1.err().map(|f| f.reason),
        Some(Reason::BackendDown)
    );
}

// LOG-01: the address that was called and the system's own word, for whoever has to mend it.
#[tokio::test]
async fn a_backend_that_takes_nothing_is_told_with_its_address_and_the_error() {
    let at = closed().await;
    let world = world(vec![at], at);
    let route = world.route(&Destination::Backend(domain("hall.example")), None);
    let failure = route.connect(AddressChoice::Next).await.1.err().unwrap();
    assert_eq!((failure.reason, failure.address), (Reason::BackendDown, Some(at)));
    let detail = failure.detail.unwrap();
    assert_eq!(detail.cause, Cause::NotReached);
    assert!(
        detail.particulars.contains(&at.to_string()) && detail.particulars.contains("refused"),
        "{detail}"
    );
}

// DNS-05: a host that a server names is dialled behind the same guard as one that the DNS names.
#[tokio::test]
async fn a_server_cannot_send_us_where_the_dns_could_not() {
    let (first, at) = listener().await;
    // Another machine, as far as the kernel's sources go.
    let other = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let elsewhere = other.local_addr().unwrap();
    for allowed in [false, true] {
        let mut world = world(vec![at], at);
        if allowed {
            let guard =
                DialGuard { allow_networks: vec!["127.0.0.0/8".parse().unwrap()], ..DialGuard::default() };
            let route = dns::Route::to(
                domain("friend.example"),
                dns::Server { host: at.ip().to_string(), port: at.port(), mode: TlsMode::Starttls },
            );
            let servers = vec!["127.0.0.1:9".parse().unwrap()];
            let params = dns::Params { servers, guard, routes: vec![route], ..dns::Params::default() };
            Arc::get_mut(&mut world.0).unwrap().params.resolver = Arc::new(Resolver::new(params).unwrap());
        }
        let (route, outcome) = world.route(&friend(), None).connect(AddressChoice::Next).await;
        drop(outcome.unwrap());
        first.accept().await.unwrap();
        let named = AddressChoice::Elsewhere(elsewhere.ip().to_string().into(), elsewhere.port());
        let (_route, outcome) = route.connect(named).await;
        assert_eq!(outcome.map(|connected| connected.address).ok(), allowed.then_some(elsewhere));
    }
}

// DNS-05: "every address of this machine .. on every port, unless a static override says so". Redis on our own machine is
// what an unproven peer would have us dial.
#[tokio::test]
async fn the_dns_does_not_lead_back_to_this_machine_and_a_route_may() {
    let (here, at) = listener().await;
    let mut world = world(Vec::new(), at);
    assert!(
        world.route(&friend(), None).connect(AddressChoice::Next).await.1.is_ok(),
        "the operator has named it"
    );
    here.accept().await.unwrap();
    let guard = DialGuard { allow_networks: vec!["127.0.0.0/8".parse().unwrap()], ..DialGuard::default() };
    let params =
        dns::Params { servers: vec!["127.0.0.1:9".parse().unwrap()], guard, ..dns::Params::default() };
    Arc::get_mut(&mut world.0).unwrap().params.resolver = Arc::new(Resolver::new(params).unwrap());
    let way = |left: &[SocketAddr]| Way {
        inner: Arc::clone(&world.0),
        destination: friend(),
        caller: None,
        left: Some(
            left.iter()
                .map(|a| Place { routed: false, target: 0, ..Place::in_turn(&[*a])[0].clone() })
                .collect(),
        ),
        last: None,
        spent: Duration::ZERO,
        answered: false,
        out: None,
        attempt: None,
        progress: Progress::default(),
    };
    let other = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let found = way(&[at, other.local_addr().unwrap()]).go(AddressChoice::Next).await.unwrap();
    assert_eq!(found.address, other.local_addr().unwrap());
    let here_alone = way(&[at]).go(AddressChoice::Next).await;
    assert_eq!(here_alone.err().map(|why| why.reason), Some(Reason::RemoteUnreachable));
    assert!(
        tokio::time::timeout(Duration::from_millis(1), here.accept()).await.is_err(),
        "nobody has knocked here"
    );
}

// RFC 8305: addresses that were not tried to the end are candidates for the next attempt.
#[tokio::test]
async fn what_lost_the_race_is_tried_when_the_winner_will_not_do() {
    let (_first, at_first) = listener().await;
    let (_second, at_second) = listener().await;
    let world = world(Vec::new(), at_first);
    let places = |list: &[SocketAddr]| -> VecDeque<Place> {
        Place::in_turn(list).into_iter().map(|place| Place { target: 0, ..place }).collect()
    };
    let mut way = Way {
        inner: Arc::clone(&world.0),
        destination: friend(),
        caller: None,
        left: Some(places(&[closed().await, at_first, at_second])),
        last: None,
        spent: Duration::ZERO,
        answered: false,
        out: None,
        attempt: None,
        progress: Progress::default(),
    };
    for expected in [Ok(at_first.port()), Ok(at_second.port()), Err(Reason::RemoteUnreachable)] {
        let outcome = way.go(AddressChoice::Next).await;
        let outcome = outcome.map_err(|why| why.reason);
        assert_eq!(outcome.map(|_| way.last.clone().unwrap().address.port()), expected);
    }
}

// BE-05, BE-06: clients are introduced, one by one and before all else; a stream between servers, which carries many, never is.
#[tokio::test]
async fn only_the_connection_of_a_client_begins_with_a_proxy_header() {
    use tokio::io::AsyncReadExt as _;
    let (backend, at) = listener().await;
    let mut world = world(vec![at], at);
    let clients = Clients { addresses: vec![at], proxy: Some(ProxyVersion::V2) };
    Arc::get_mut(&mut world.0).unwrap().params.clients.insert(domain("hall.example"), clients);
    let ends = Some(("192.0.2.7:4000".parse().unwrap(), "192.0.2.1:5222".parse().unwrap()));
    let caller = |ends| {
        let name = "1-1".to_owned();
        Some(Arc::new(Caller { from: None, ends, name, secured: None, facts: None }))
    };
    for (destination, caller, command) in [
        (Destination::Client(domain("hall.example")), caller(ends), Some(0x21)),
        // A connection of our own is LOCAL.
        (Destination::Client(domain("hall.example")), caller(None), Some(0x20)),
        (Destination::Backend(domain("hall.example")), None, None),
    ] {
        let (_route, outcome) = world.route(&destination, caller).connect(AddressChoice::Next).await;
        drop(outcome.unwrap());
        let mut octets = Vec::new();
        backend.accept().await.unwrap().0.read_to_end(&mut octets).await.unwrap();
        assert_eq!(octets.get(12).copied(), command, "{destination:?}: {octets:?}");
    }
}

/// A world where the friend takes TLS from the first octet, at that address.
fn directly(at: SocketAddr) -> World {
    let mut world = world(Vec::new(), at);
    let route = dns::Route::to(
        domain("friend.example"),
        dns::Server { host: at.ip().to_string(), port: at.port(), mode: TlsMode::Direct },
    );
    let params = dns::Params {
        servers: vec!["127.0.0.1:9".parse().unwrap()],
        routes: vec![route],
        ..dns::Params::default()
    };
    let inner = Arc::get_mut(&mut world.0).unwrap();
    inner.params.resolver = Arc::new(Resolver::new(params).unwrap());
    world
}

// "one broken TLS handshake with a peer is tried once more at once": silence is none, and nobody waits for it twice.
#[tokio::test]
async fn a_direct_handshake_that_stays_silent_is_waited_for_once() {
    let (friend, at) = listener().await;
    let mut world = directly(at);
    Arc::get_mut(&mut world.0).unwrap().params.handshake = Duration::from_millis(300);
    let calling =
        tokio::spawn(async move { world.route(&self::friend(), None).connect(AddressChoice::Next).await.1 });
    let _silent = friend.accept().await.unwrap();
    let failure = calling.await.unwrap().err().unwrap();
    assert_eq!((failure.reason, failure.is_late()), (Reason::TlsFailed, true));
    let more = tokio::time::timeout(Duration::from_millis(1), friend.accept()).await;
    assert!(more.is_err(), "once");
}

// "one broken TLS handshake with a peer is tried once more at once, before anything is refused for it": direct TLS, too.
#[tokio::test]
async fn a_direct_handshake_that_breaks_is_tried_once_more() {
    let (friend, at) = listener().await;
    let mut world = directly(at);
    let source: IpAddr = "127.0.0.77".parse().unwrap();
    Arc::get_mut(&mut world.0).unwrap().params.sources.insert(domain("hall.example"), vec![source]);
    let calling =
        tokio::spawn(async move { world.route(&self::friend(), None).connect(AddressChoice::Next).await.1 });
    for _ in 0..2 {
        let (_broken, from) = friend.accept().await.unwrap();
        assert_eq!(from.ip(), source, "and on the same way");
    }
    let failure = calling.await.unwrap().err().unwrap();
    assert_eq!((failure.reason, failure.address), (Reason::TlsFailed, Some(at)));
    let more = tokio::time::timeout(Duration::from_millis(1), friend.accept()).await;
    assert!(more.is_err(), "twice, and not for ever");
}

// CLS-07, LIM-06: "negative DNS and connect results are cached for a short time".
#[tokio::test]
async fn where_nobody_answers_nobody_knocks_for_a_while() {
    let (gone, address) = listener().await;
    drop(gone);
    let world = world(Vec::new(), address);
    let go = |world: &World| world.route(&friend(), None).connect(AddressChoice::Next);
    assert_eq!(go(&world).await.1.err().map(|f| f.reason), Some(Reason::RemoteUnreachable));
    let back = TcpListener::bind(address).await.unwrap();
    assert_eq!(
        go(&world).await.1.err().map(|f| f.reason),
        Some(Reason::RemoteUnreachable),
        "not asked again so soon"
    );
    tokio::time::pause();
    tokio::time::advance(circuit::Params::default().spacing).await;
    tokio::time::resume();
    assert!(go(&world).await.1.is_ok());
    back.accept().await.unwrap();
    // It is well again: the next failure is the first.
    drop(back);
    assert!(go(&world).await.1.is_err());
    let failed = world.0.params.circuits.state(&domain("friend.example"), None);
    assert_eq!(failed.map(|failed| failed.failures), Some(1));
}

// A hosted domain with a way of its own is held to account for that alone: nobody else waits for it, nor it for others.
#[tokio::test]
async fn a_way_of_its_own_fails_for_nobody_else() {
    let (_friend, address) = listener().await;
    let dead = format!("socks5://{}", closed().await);
    let proxy = Some(Arc::new(Proxy::parse(&dead).unwrap()));
    let world = world(Vec::new(), address);
    let to = |from: &str, via: &Option<Arc<Proxy>>| Destination::World {
        from: domain(from),
        target: domain("friend.example"),
        behalf: Behalf::Own,
        posh: false,
        via: via.clone(),
    };
    let go = |from: &str, via| world.route(&to(from, via), None).connect(AddressChoice::Next);
    let why = |outcome: Result<Connected, Failure>| outcome.err().map(|failure| failure.reason);
    let unreachable = Some(Reason::RemoteUnreachable);
    assert_eq!(why(go("hall.example", &proxy).await.1), unreachable);
    assert_eq!(why(go("annex.example", &None).await.1), None);
    assert_eq!(why(go("hall.example", &proxy).await.1), unreachable, "not asked again so soon");
    let state =
        |hosted: &str| world.0.params.circuits.state(&domain("friend.example"), Some(&domain(hosted)));
    assert_eq!(state("hall.example").map(|failed| (failed.failures, failed.untried)), Some((1, 1)));
    assert_eq!(state("annex.example"), None);
    // Nor the other way round.
    world.0.params.circuits.failed(&domain("friend.example"), None, Reason::RemoteUnreachable);
    world.0.params.circuits.clear(&domain("friend.example"));
    world.0.params.circuits.failed(&domain("friend.example"), None, Reason::RemoteUnreachable);
    let begun = go("hall.example", &proxy).await.1;
    assert!(
        begun.is_err() && state("hall.example").is_some_and(|failed| failed.untried == 0),
        "it was tried"
    );
}
