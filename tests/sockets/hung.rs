//! Servers that hang, and come back while an attempt of ours still waits for what will never come (CLS-07): as soon as they have
//! proven a stream of their own, another attempt takes its place, and what waits is delivered once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse::demo::peer::{Admit, Manner, Peer, Welcome};
use gatehouse::demo::session::Greeting;
use gatehouse::demo::world::{Plan, World};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::sockets::*;

/// No deadline of an attempt comes within the test.
fn patient() -> Plan {
    ["dialback", "queue", "connect", "connect-total", "tls"]
        .iter()
        .fold(Plan::open(HALL).limit("rate", "6000/min"), |plan, key| plan.timeout(key, "2m"))
        .timeout("header", "20s")
}

/// What a server says in place of what it should, and then nothing.
fn says(rest: &str) -> Welcome {
    let header = Greeting { id: Some("s1".to_owned()), ..Greeting::of("away.example", HALL) }.octets();
    Welcome::Octets(format!("{header}{rest}").into_bytes())
}

/// How it hangs, by where it does.
fn ways_to_hang() -> Vec<(&'static str, Manner)> {
    let tls = "xmlns='urn:ietf:params:xml:ns:xmpp-tls'";
    let starttls = format!("<stream:features><starttls {tls}><required/></starttls></stream:features>");
    let welcome = |welcome| Manner { welcome, ..Manner::default() };
    vec![
        ("says nothing", welcome(Welcome::Mute)),
        ("no features", welcome(says(""))),
        ("no answer to starttls", welcome(says(&starttls))),
        ("no handshake", welcome(Welcome::Handshakeless)),
        ("no features within TLS", welcome(Welcome::Featureless)),
        ("no answer to EXTERNAL", Manner { admit: Admit::Silent, ..Manner::default() }),
        ("no answer to our key", Manner { admit: Admit::Silent, external: false, ..Manner::default() }),
    ]
}

/// A message goes out, and the attempt hangs; the server is itself again, and proves a stream, by certificate or by dialback, as we
/// do to it. How long after that the message was there.
async fn comes_back(world: &World, server: &Peer, way: &str, certificate: bool) -> Duration {
    let (to, body) = (format!("a@{}", server.domain()), format!("{way} {certificate}"));
    world.legacy.message("j@hall.example", &to, &body);
    let until = Instant::now() + Duration::from_secs(20);
    while server.visits() == 0 {
        assert!(Instant::now() < until, "{way}: nobody calls");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Longer than a moment, which is a tenth of T-header.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(server.inbox.is_empty(), "{way}: it does not hang");
    server.behave(|manner| *manner = Manner { external: certificate, ..Manner::default() });
    let _stream = match certificate {
        true => by_certificate(server, HALL).await,
        false => by_dialback(server, HALL).await,
    };
    let proven = Instant::now();
    server.inbox.wait_body(&body).await.unwrap();
    let took = proven.elapsed();
    println!("{way}, {certificate}: {took:?}");
    // Everything that came later would be here before this.
    world.legacy.message("j@hall.example", &to, &format!("{body}, last"));
    server.inbox.wait_body(&format!("{body}, last")).await.unwrap();
    assert_eq!(server.inbox.len(), 2, "{way}: each once");
    took
}

// CLS-07: "what is remembered is forgotten when the domain shows itself alive: a stream it proved .. is a reason to try at once,
// once". Also where the attempt under way hangs: that is in the way of nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hung_is_found_as_soon_as_it_proves_a_stream() {
    let ways = || {
        ways_to_hang()
            .into_iter()
            .flat_map(|(way, manner)| [(way, manner.clone(), true), (way, manner, false)])
    };
    let world = World::build(&patient()).await.unwrap();
    let world = Arc::new(world);
    let mut back = JoinSet::new();
    for (n, (way, manner, certificate)) in ways().enumerate() {
        let (world, domain) = (Arc::clone(&world), format!("d{n}.example"));
        let server = world.peer(10 + u8::try_from(n).unwrap(), &[&domain], manner).await.unwrap();
        back.spawn(async move { (way, certificate, comes_back(&world, &server, way, certificate).await) });
    }
    for (way, certificate, took) in back.join_all().await {
        assert!(took < Duration::from_secs(10), "{way}, {certificate}: {took:?}");
    }
    assert!(world.legacy.bounces.all().is_empty());
}

/// A listener that takes no more connections: what is sent to it is swallowed.
async fn black_hole(at: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(at).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(at)).await {
        waiting.push(stream.unwrap());
    }
    (listener, waiting)
}

// The same where the network swallows what we send: the first attempt waits for its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_network_swallowed_us_is_found_as_soon_as_it_proves_a_stream() {
    let world = World::build(&patient()).await.unwrap();
    let first = peer(&world, 40, FRIEND).await;
    let at = first.address;
    first.stop().await;
    let (hole, _waiting) = black_hole(at).await;
    world.legacy.message("j@hall.example", "a@friend.example", "swallowed");
    // The kernel asks again after 1, 3, 7 and 15 s.
    tokio::time::sleep(Duration::from_secs(8)).await;
    drop(hole);
    let friend = peer(&world, 40, FRIEND).await;
    assert_eq!(friend.address, at);
    assert!(friend.inbox.is_empty());
    let _stream = by_certificate(&friend, HALL).await;
    let proven = Instant::now();
    friend.inbox.wait_body("swallowed").await.unwrap();
    let took = proven.elapsed();
    println!("swallowed: {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(friend.inbox.len(), 1);
    assert!(world.legacy.bounces.all().is_empty());
}
