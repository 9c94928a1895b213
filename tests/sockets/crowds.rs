//! Crowds that come again and again while all places for the unproven are taken (LIM-02, LIM-06): who is told to go is gone at once,
//! though it keeps its connection, and honest ones come in; from behind a proxy, too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use gatehouse::demo::dial;
use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::session::Greeting;
use gatehouse::demo::world::{Plan, World};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::sockets::*;
use crate::websocket_client::listen;

/// Places for unproven peers, and memory for eight more.
const PLACES: f64 = 24.0;

/// Unproven peers may take their time, and whoever closes in good order, too.
fn crowded() -> Plan {
    plan()
        .timeout("first-byte", "1m")
        .timeout("header", "2m")
        .timeout("unauth", "10m")
        .timeout("close", "60s")
        .limit("conn-unproven", "24")
        .limit("memory-unproven", "1MiB")
}

/// The address of that host in the small world.
fn at_host(world: &World, host: u8) -> IpAddr {
    let IpAddr::V4(ip) = world.at.public.ip() else { panic!("the small world has IPv4") };
    let [a, b, c, _] = ip.octets();
    IpAddr::from([a, b, c, host])
}

/// They come one after the other, again and again, say who they are, and keep what they have, whatever they hear.
struct Crowd(JoinHandle<()>);

impl Crowd {
    /// From these addresses, each with what it says first.
    fn comes(at: SocketAddr, from: Vec<(IpAddr, String)>) -> Self {
        Self(tokio::spawn(async move {
            let mut kept = Vec::new();
            for (source, first) in from.iter().cycle() {
                if let Ok(mut stream) = dial(*source, at).await {
                    let said = format!("{first}{}", Greeting::of("stranger.example", HALL).octets());
                    // It may have been turned away already.
                    let _said = stream.write_all(said.as_bytes()).await;
                    kept.push(stream);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }

    /// Waits until it has filled all places, and more of it has come.
    async fn fills(&self, world: &World) {
        world.counted("limited_total", &[("limit", "unproven")], 10.0).await.unwrap();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who is told to go is gone: no more are open than there are places, but for those that are proven.
async fn nobody_lingers(world: &World, proven: f64) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let open = world.metrics().await.unwrap().sum("connections", &[("listener", "s2s-starttls")]);
        // One may be on its way in or out at this very moment.
        if open <= PLACES + proven + 1.0 {
            return;
        }
        assert!(Instant::now() < until, "{open} are open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn bare(world: &World, host: u8, domain: &str) -> Peer {
    world.peer(host, &[domain], Manner { external: false, ..Manner::default() }).await.unwrap()
}

// LIM-06: "places are shared among source networks fairly"; LIM-02: "all memory of a finished unauthenticated connection is
// released". A few addresses that come again and again have neither the places nor the memory of those who are told to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_again_and_again_keeps_nobody_out() {
    let world = World::build(&crowded()).await.unwrap();
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, bare(&world, 11, COUSIN).await);
    let from = (20..26).map(|host| (at_host(&world, host), String::new())).collect();
    let crowd = Crowd::comes(world.at.public, from);
    crowd.fills(&world).await;
    for n in 0..5 {
        let mut stream = by_certificate(&friend, HALL).await;
        still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", &format!("proven {n}")).await;
        let mut stream = by_dialback(&cousin, HALL).await;
        still_passes(&world, &mut stream, "a@cousin.example", "j@hall.example", &format!("asked {n}")).await;
        world.login_from_outside(&format!("u{n}"), HALL, None).await.unwrap();
        nobody_lingers(&world, 10.0).await;
    }
    assert!(!crowd.0.is_finished());
}

// LIM-06: who is expected keeps the place, however many networks come: each of these holds as little as an honest one, so that
// whoever is not expected loses the place in its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_expected_comes_in_through_a_crowd_of_many_addresses() {
    let world = World::build(&crowded()).await.unwrap();
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, bare(&world, 11, COUSIN).await);
    let mut proven = by_certificate(&friend, HALL).await;
    let from = (20..120).map(|host| (at_host(&world, host), String::new())).collect();
    let crowd = Crowd::comes(world.at.public, from);
    crowd.fills(&world).await;
    // Of the network of one that is proven.
    for _ in 0..3 {
        let _second = by_dialback(&friend, HALL).await;
    }
    // A server that we call, and that calls back to ask about our key.
    world.legacy.message("j@hall.example", "a@cousin.example", "out");
    cousin.inbox.wait_body("out").await.unwrap();
    assert_eq!(cousin.proofs(), ["dialback hall.example"]);
    still_passes(&world, &mut proven, "a@friend.example", "j@hall.example", "not noticed").await;
    assert!(world.legacy.bounces.all().is_empty());
    drop(crowd);
}

/// Hands connections on to this door, with a PROXY header that says from where they come.
async fn proxy(at: SocketAddr) -> SocketAddr {
    let door = TcpListener::bind((at.ip(), 0)).await.unwrap();
    let address = door.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut outer, from)) = door.accept().await {
            tokio::spawn(async move {
                let mut inner = dial(at.ip(), at).await.unwrap();
                inner.write_all(told(from.ip()).as_bytes()).await.unwrap();
                // Either may break it off.
                let _end = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    address
}

fn told(from: IpAddr) -> String {
    format!("PROXY TCP4 {from} 192.0.2.1 4000 5269\r\n")
}

// ACC-03: behind a proxy the address that it tells is the one that counts: one network of the crowd makes room for the other, and
// all of them for honest ones; the one that is called back from there is known by it, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_the_real_addresses_count() {
    let world = World::build(&crowded()).await.unwrap();
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, bare(&world, 11, COUSIN).await);
    let ip = world.at.public.ip();
    let at = listen(&world, &format!("flow: s2s, proxy-protocol: [\"{ip}/32\"]")).await;
    let door = proxy(at).await;
    world.book.lock().unwrap().insert(HALL.to_owned(), door);
    let real = |n: u8| IpAddr::from([203, 0, n % 5, n / 5]);
    let from = (0..20).map(|n| (ip, told(real(n)))).collect();
    let crowd = Crowd::comes(at, from);
    crowd.fills(&world).await;
    for n in 0..5 {
        let mut stream = by_dialback(&friend, HALL).await;
        still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", &format!("in {n}")).await;
    }
    recorded(&world, &[FRIEND, &at_host(&world, 10).to_string()]).await;
    world.legacy.message("j@hall.example", "a@cousin.example", "out");
    cousin.inbox.wait_body("out").await.unwrap();
    assert_eq!(cousin.proofs(), ["dialback hall.example"]);
    nobody_lingers(&world, 6.0).await;
    // One address that comes alone fills what is left, and makes nobody go for itself.
    drop(crowd);
    let turned_away = |metrics: gatehouse::demo::world::Metrics| {
        metrics.sum("connections_refused_total", &[("reason", "too-many-unproven")])
    };
    let before = turned_away(world.metrics().await.unwrap());
    let alone = Crowd::comes(at, vec![(ip, told(IpAddr::from([198, 51, 100, 1])))]);
    let until = Instant::now() + Duration::from_secs(20);
    while turned_away(world.metrics().await.unwrap()) < before + 1.0 {
        assert!(Instant::now() < until, "it is never turned away");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(alone);
}
