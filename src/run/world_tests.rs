use tokio::net::TcpListener;

use super::*;
use crate::dns::{self, Guard};
use crate::run::circuit;
use crate::run::tests::domain;
use crate::tls::verify::{Anchors, TrustStore};
use crate::tls::{client, server};

/// A world with these addresses for the backend of hall.example, and this one for friend.example.
fn world(backends: Vec<SocketAddr>, friend: SocketAddr) -> World {
    let trust = Arc::new(TrustStore { default: Anchors::default(), peers: Vec::new(), revocation: None });
    let accepting = server::Params {
        mode: Mode::Starttls,
        alpn: Vec::new(),
        default: None,
        ask_certificate: true,
        certificates: Arc::default(),
        trust: Arc::clone(&trust),
    };
    let route = dns::Route {
        domain: domain("friend.example"),
        host: friend.ip().to_string(),
        port: friend.port(),
        mode: TlsMode::Starttls,
    };
    let resolver = Resolver::new(dns::Params {
        servers: vec!["127.0.0.1:9".parse().unwrap()],
        guard: Guard::default(),
        routes: vec![route],
        ..dns::Params::default()
    });
    let metrics = Arc::new(Metrics::new([domain("hall.example")]).unwrap());
    World::new(Params {
        acceptor_clients: Arc::new(Acceptor::new(accepting.clone()).unwrap()),
        acceptor: Arc::new(Acceptor::new(accepting).unwrap()),
        clients: BTreeMap::new(),
        connector: Connector::new(client::Params { certificates: Arc::default(), trust }).unwrap(),
        resolver: resolver.unwrap(),
        backends: BTreeMap::from([(domain("hall.example"), backends)]),
        dial: net::connect::Params::default(),
        handshake: Duration::from_secs(5),
        pace: Arc::new(Handshakes::new(std::num::NonZeroU32::MAX, Duration::from_secs(1), now())),
        circuits: Circuits::new(circuit::Params::default(), Arc::clone(&metrics)),
        metrics,
    })
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
    Destination::World { from: domain("hall.example"), target: domain("friend.example") }
}

// Contract 2: "tried in order".
#[tokio::test]
async fn a_backend_is_sought_at_each_of_its_addresses_in_turn() {
    let (first, at_first) = listener().await;
    let (second, at_second) = listener().await;
    let world = world(vec![closed().await, at_first, at_second], at_first);
    let route = world.route(&Destination::Backend(domain("hall.example")), None);
    let (route, outcome) = route.connect(Candidate::Next).await;
    assert!(outcome.is_ok());
    first.accept().await.unwrap();
    let (route, outcome) = route.connect(Candidate::Same).await;
    assert!(outcome.is_ok());
    first.accept().await.unwrap();
    let (route, outcome) = route.connect(Candidate::Next).await;
    assert!(outcome.is_ok());
    second.accept().await.unwrap();
    let (_route, outcome) = route.connect(Candidate::Next).await;
    assert_eq!(outcome.err(), Some(Reason::BackendDown));
    let nobody = world.route(&Destination::Backend(domain("nobody.example")), None);
    assert_eq!(nobody.connect(Candidate::Next).await.1.err(), Some(Reason::BackendDown));
}

// CLS-07, LIM-06: "negative DNS and connect results are cached for a short time".
#[tokio::test]
async fn where_nobody_answers_nobody_knocks_for_a_while() {
    let (gone, address) = listener().await;
    drop(gone);
    let world = world(Vec::new(), address);
    let go = |world: &World| world.route(&friend(), None).connect(Candidate::Next);
    assert_eq!(go(&world).await.1.err(), Some(Reason::RemoteUnreachable));
    let back = TcpListener::bind(address).await.unwrap();
    assert_eq!(go(&world).await.1.err(), Some(Reason::RemoteUnreachable), "not asked again so soon");
    tokio::time::pause();
    tokio::time::advance(circuit::Params::default().first).await;
    tokio::time::resume();
    assert!(go(&world).await.1.is_ok());
    back.accept().await.unwrap();
    // It is well again: the next failure is the first.
    drop(back);
    assert!(go(&world).await.1.is_err());
    let failed = world.0.params.circuits.state(&domain("friend.example"));
    assert_eq!(failed.map(|failed| failed.failures), Some(1));
}
