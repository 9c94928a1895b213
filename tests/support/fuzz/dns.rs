//! Answers of the DNS, questions to the steering server, and which addresses may be dialled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use gatehouse::dns::order::Candidate;
use gatehouse::dns::query::{DnsAnswer, QueryFault, Walk, walk};
use gatehouse::dns::srv::{Service, settle};
use gatehouse::dns::steer::{Answers, Hosted, Params, TARGET};
use gatehouse::dns::{DialGuard, TlsMode};
use gatehouse::jid::Domain;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;

/// Input that begins with `q` is a question on the wire, with `m` an answer on the wire, with `g` an address. Other input
/// makes records of a few names, seven octets each.
pub fn dns(data: &[u8]) {
    match data {
        [b'q', octets @ ..] => question(octets),
        [b'm', octets @ ..] => {
            let Ok(message) = Message::from_vec(octets) else { return };
            let asked = message.queries.first().map_or_else(Name::root, |query| query.name().clone());
            for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
                chain(&message.answers, asked.clone(), kind);
            }
        }
        [b'g', octets @ ..] => address(octets),
        octets => {
            let records = records(octets);
            for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT] {
                chain(&records, name(0), kind);
            }
            services(records);
        }
    }
}

fn name(at: u8) -> Name {
    let names =
        ["a.example.", "A.EXAMPLE.", "b.example.", "c.example.", "x.a.example.", "example.", ".", "d.test."];
    Name::from_ascii(names[usize::from(at) % names.len()]).unwrap()
}

fn records(octets: &[u8]) -> Vec<Record> {
    let record = |octets: &[u8]| {
        let [owner, kind, ttl, target, a, b, c] = *octets else { return None };
        let data = match kind % 6 {
            0 => RData::A(A(Ipv4Addr::new(a, b, c, target))),
            1 => RData::AAAA(AAAA(Ipv6Addr::from([
                0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, target,
            ]))),
            2 | 3 => RData::CNAME(CNAME(name(target))),
            4 => RData::SRV(SRV::new(u16::from(a % 4), u16::from(b), u16::from(c), name(target))),
            _ => RData::TXT(TXT::new(vec!["text".to_owned()])),
        };
        Some(Record::from_rdata(name(owner), u32::from(ttl), data))
    };
    octets.chunks(7).filter_map(record).collect()
}

/// Only records at the end of the chain of the name asked for, and no chain without an end.
fn chain(answers: &[Record], asked: Name, kind: RecordType) {
    let (mut hops, mut ttl) = (0, u32::MAX);
    let outcome = walk(answers, asked.clone(), kind, &mut hops, &mut ttl);
    // The chain by itself: each name with the last alias that stands at it, until records of the kind are found.
    let at = |name: &Name| answers.iter().filter(|r| r.name == *name).collect::<Vec<_>>();
    let (mut here, mut life, mut steps) = (asked.clone(), u32::MAX, 0);
    let expected = loop {
        let found: Vec<_> = at(&here).into_iter().filter(|r| r.data.record_type() == kind).collect();
        if !found.is_empty() {
            life = found.iter().map(|r| r.ttl).min().unwrap().min(life);
            break Ok(Walk::Found(found.into_iter().map(|r| r.data.clone()).collect()));
        }
        let alias = at(&here).into_iter().rev().find_map(|r| match &r.data {
            RData::CNAME(target) => Some((r.ttl, target.0.clone())),
            _ => None,
        });
        match alias {
            Some((age, target)) => (life, here, steps) = (life.min(age), target, steps + 1),
            None if here != asked => break Ok(Walk::Further(here)),
            None if answers.iter().all(|r| r.name == asked) => break Ok(Walk::Nothing),
            None => break Err(QueryFault::Failed),
        }
        if steps > 8 {
            break Err(QueryFault::Failed);
        }
    };
    assert_eq!(outcome, expected, "{asked} {kind} in {answers:?}");
    assert!(hops <= 9 && (outcome.is_err() || ttl == life), "{ttl} {life}");
}

/// DNS-01 to DNS-04 on the two lists, whatever is in them.
fn services(records: Vec<Record>) {
    let half = records.len() / 2;
    let data: Vec<RData> = records.into_iter().map(|record| record.data).collect();
    let (direct, starttls) = data.split_at(half);
    let found = |list: &[RData]| DnsAnswer { records: list.to_vec(), ttl: 60, gone: false, secure: false };
    let fallback = name(0);
    let seed = data.len() as u64;
    let service = settle(found(direct), found(starttls), fallback.clone(), seed);
    assert_eq!(
        service,
        settle(found(direct), found(starttls), fallback.clone(), seed),
        "the same by the same chance"
    );
    let of = |list: &[RData], mode: TlsMode| -> Vec<(Name, u16, TlsMode, u16)> {
        let srv = list.iter().filter_map(|data| if let RData::SRV(srv) = data { Some(srv) } else { None });
        srv.filter(|srv| srv.target != Name::root())
            .map(|srv| (srv.target.to_lowercase(), srv.port, mode, srv.priority))
            .collect()
    };
    let all = [of(direct, TlsMode::Direct), of(starttls, TlsMode::Starttls)].concat();
    let different: HashSet<_> = all.iter().map(|(host, port, mode, _)| (host, port, mode)).collect();
    match service {
        Service::None => assert!(all.is_empty() && !data.is_empty()),
        Service::At(list) if data.is_empty() => {
            let [Candidate { host, port: 5269, rank, .. }] = list.as_slice() else { panic!("{list:?}") };
            assert_eq!((host, rank.mode), (&fallback, TlsMode::Starttls));
        }
        Service::At(list) => {
            assert_eq!(list.len(), different.len().min(10), "{list:?}");
            let told: HashSet<_> = list.iter().map(|c| (&c.host, &c.port, &c.rank.mode)).collect();
            assert_eq!(told.len(), list.len(), "one twice: {list:?}");
            assert!(list.is_sorted_by_key(|c| (c.rank.priority, c.rank.mode)), "{list:?}");
            for c in &list {
                let known = |(host, port, mode, priority): &(Name, u16, TlsMode, u16)| {
                    (host, *port, *mode, *priority) == (&c.host, c.port, c.rank.mode, c.rank.priority)
                };
                assert!(all.iter().any(known), "{c:?} from nowhere");
            }
        }
    }
}

/// A question on the wire, through the steering server's whole handler.
fn question(octets: &[u8]) {
    let from = SocketAddr::from(([10, 0, 0, 5], 5353));
    let Ok(request) = Request::from_bytes(octets.to_vec(), from, Protocol::Udp) else { return };
    let hosted = [
        (
            "hall.example",
            Hosted {
                at: vec!["10.0.0.5:5269".parse().unwrap(), "[fd00::5]:5269".parse().unwrap()],
                told: true,
            },
        ),
        ("closed.example", Hosted { at: vec!["10.0.0.5:5269".parse().unwrap()], told: false }),
        // Another backend's: it leads to the gateway, as all that is foreign.
        ("empty.example", Hosted { at: Vec::new(), told: true }),
    ];
    let hosted = hosted.map(|(name, hosted)| (Domain::parse(name).unwrap(), hosted));
    let answers = Answers::new(&Params {
        listen: "127.0.0.1:0".parse().unwrap(),
        from: Vec::new(),
        answer: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        port: 5299,
        target: TARGET.into(),
        hosted: BTreeMap::from(hosted),
        never: vec![Domain::parse("nowhere.example").unwrap()],
    })
    .unwrap();
    let kept = Kept::default();
    let mut handling =
        pin!(answers.handle_request::<_, hickory_server::net::runtime::TokioTime>(&request, kept.clone()));
    let Poll::Ready(_) = handling.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("nothing is waited for")
    };
    let sent = kept.0.lock().unwrap().clone();
    let [response] = sent.as_slice() else { panic!("{} responses", sent.len()) };
    answered(&request, &Message::from_vec(response).expect("our own message"));
}

fn answered(request: &Request, message: &Message) {
    assert_eq!(message.metadata.id, request.metadata.id);
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert!(message.additionals.is_empty() && message.answers.len() <= 2);
    let Ok(info) = request.request_info() else {
        assert_eq!(message.metadata.response_code, ResponseCode::Refused);
        return;
    };
    let (asked, kind) = (info.query.original().name(), info.query.query_type());
    let labels: Vec<String> =
        asked.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let service = labels.len() > 1 && labels[0].starts_with('_') && labels[1].starts_with('_');
    let subject = labels[if service { 2 } else { 0 }..].join(".");
    let refused = message.metadata.response_code == ResponseCode::Refused;
    if subject == "closed.example" {
        assert!(refused, "{asked}");
    }
    assert!(message.answers.is_empty() || !refused);
    let name = labels.join(".");
    let never = ["nowhere.example", "hit-nxdomain.opendns.com"]
        .iter()
        .any(|never| name == *never || name.ends_with(&format!(".{never}")));
    assert!(!never || message.answers.is_empty(), "{asked}");
    assert!(never || message.metadata.response_code != ResponseCode::NXDomain, "{asked}");
    for record in &message.answers {
        assert_eq!((&record.name, record.data.record_type()), (asked, kind));
        let hosted = subject == "hall.example";
        match &record.data {
            RData::SRV(srv) => {
                assert_eq!(labels[..2], ["_xmpp-server", "_tcp"]);
                let target = srv.target.to_ascii().to_ascii_lowercase();
                let expected =
                    if hosted { (5269, "hall.example.") } else { (5299, "gateway.gatehouse.internal.") };
                assert_eq!((srv.port, target.as_str()), expected, "{asked}");
            }
            RData::A(a) => {
                let expected = if hosted { Ipv4Addr::new(10, 0, 0, 5) } else { Ipv4Addr::new(10, 0, 0, 1) };
                assert!(!service && a.0 == expected, "{asked}");
            }
            RData::AAAA(a) => {
                let last = if hosted { 5 } else { 1 };
                assert!(!service && a.0 == Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last), "{asked}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Keeps what is sent.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);

#[async_trait::async_trait]
impl ResponseHandler for Kept {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut octets = Vec::new();
        let info = response.destructive_emit(&mut BinEncoder::new(&mut octets))?;
        self.0.lock().unwrap().push(octets);
        Ok(info)
    }
}

/// DNS-05: no spelling of an address of ours, of this host or of nobody is dialled.
fn address(octets: &[u8]) {
    let port = octets.first().map_or(5269, |o| u16::from(*o) * 16);
    let rest = octets.get(1..).unwrap_or_default();
    let guard = DialGuard::default();
    assert!(!guard.admits_port(port) || port >= 1024 || port == 443);
    if let Some(four) = rest.first_chunk::<4>() {
        let ip = Ipv4Addr::from(*four);
        let fine = guard.admits(SocketAddr::new(ip.into(), 5269));
        let within = |network: &str| {
            let network: ipnet::Ipv4Net = network.parse().unwrap();
            network.contains(&ip)
        };
        assert!(!fine || !CLOSED_V4.iter().any(|network| within(network)), "{ip}");
        let embedded = |prefix: [u16; 6]| {
            let [a, b, c, d, e, f] = prefix;
            let (high, low) = ((u32::from(ip) >> 16) as u16, u32::from(ip) as u16);
            IpAddr::from(Ipv6Addr::new(a, b, c, d, e, f, high, low))
        };
        let mapped = guard.admits(SocketAddr::new(embedded([0, 0, 0, 0, 0, 0xffff]), 5269));
        let translated = guard.admits(SocketAddr::new(embedded([0x64, 0xff9b, 0, 0, 0, 0]), 5269));
        assert_eq!((mapped, translated), (fine, fine), "{ip} in another spelling");
        let (high, low) = ((u32::from(ip) >> 16) as u16, u32::from(ip) as u16);
        let tunnelled = Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1);
        assert_eq!(guard.admits(SocketAddr::new(tunnelled.into(), 5269)), fine, "{ip} behind 6to4");
    }
    if let Some(six) = rest.first_chunk::<16>() {
        let ip = Ipv6Addr::from(*six);
        let fine = guard.admits(SocketAddr::new(ip.into(), 5269));
        let within = |network: &str| network.parse::<ipnet::Ipv6Net>().unwrap().contains(&ip);
        assert!(!fine || !CLOSED_V6.iter().any(|network| within(network)), "{ip}");
        let own = DialGuard { own: vec![SocketAddr::new(ip.into(), 5269)], ..DialGuard::default() };
        assert!(!own.admits(SocketAddr::new(ip.into(), 5269)), "{ip} is ours");
        assert!(!own.admits(SocketAddr::new(IpAddr::from(ip).to_canonical(), 5269)), "{ip} is ours");
    }
}

/// The special-purpose registries of IANA, as far as nothing there is a server in the world.
const CLOSED_V4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32",
];
const CLOSED_V6: &[&str] = &[
    "::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "::ffff:10.0.0.0/104",
    "::ffff:127.0.0.0/104",
    "2002:7f00::/24",
    "2002:a00::/24",
];
