//! Servers, peers, clients and the DNS that die, freeze, crawl and come back, around the gateway in a process of its own:
//! what must go on goes on, and nothing accepted is lost in silence.
//!
//! In silence means: it was neither delivered nor sent back, and the stream that brought it did not end with an error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use gatehouse::demo::Inbox;
use gatehouse::demo::client::{Account, Client};
use gatehouse::demo::legacy::{Habit, PASSWORD};
use gatehouse::demo::names::{Manner as Answers, Names};
use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::pki::Leaf;
use gatehouse::demo::session::Login;
use gatehouse::demo::world::{Plan, World};
use rustix::process::Signal;

use crate::apart::*;
use crate::sockets::*;

/// The border with short timers.
fn hasty() -> Plan {
    plan()
        .timeout("stanza", "5s")
        .timeout("dialback", "2s")
        .timeout("dns", "200ms")
        .timeout("dns-total", "1s")
        .timeout("connect", "500ms")
        .timeout("connect-total", "1s")
        .timeout("close", "500ms")
}

/// An address where nobody listens.
fn spare(ip: IpAddr) -> SocketAddr {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// The border where the way to the backend of hall.example is a road; annex.example is reached without one.
async fn by_road(plan: &Plan, rate: u32) -> (Apart, Road) {
    let mut road = None;
    let edit = |text: String, world: &World| {
        let laid = Road::lay_slow(spare(world.legacy.s2s.ip()), world.legacy.s2s, rate);
        let direct = format!("s2s: [\"{}\"]", world.legacy.s2s);
        assert!(text.contains(&direct), "{text}");
        let text = text.replacen(&direct, &format!("s2s: [\"{}\"]", laid.from()), 1);
        road = Some(laid);
        text
    };
    let apart = Apart::build_with(plan, edit, Command::new(env!("CARGO_BIN_EXE_gatehouse"))).await;
    (apart, road.unwrap())
}

/// A message with a number, padded to this size.
fn numbered(from: &str, to: &str, n: usize, size: usize) -> String {
    format!("<message from='{from}' to='{to}' id='n{n}'><body>{}</body></message>", "x".repeat(size))
}

/// The numbers of the messages that have arrived there, or have come back, in order.
fn numbers(inbox: &Inbox, came_back: bool) -> Vec<usize> {
    let all = inbox.all();
    let fits = all.iter().filter(|n| (n.attr("type") == Some("error")) == came_back);
    fits.filter_map(|n| n.attr("id")?.strip_prefix('n')?.parse().ok()).collect()
}

/// Waits until this holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// ------------------------------------------------------------------------------------------------ the backend

// BE-11: "inbound pairs get .. `SE(internal-server-error)`". What was in the dead process's hands is beyond knowing: for
// that the stream ends with an error.
#[tokio::test]
async fn when_the_backend_is_killed_its_peers_are_told_and_others_go_on() {
    let (apart, mut road) = by_road(&hasty(), 0).await;
    let world = &apart.world;
    let mut bystander = Bystander::of(world, "k@annex.example").await;
    let friend = peer(world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let mut sent = 0;
    let ending = loop {
        let message = numbered("a@friend.example", "j@hall.example", sent, 200);
        if stream.send(message).await.is_err() {
            break stream.ending().await.unwrap();
        }
        sent += 1;
        if sent == 300 {
            world.legacy.inbox.wait(|n| n.attr("id") == Some("n100")).await.unwrap();
            road.kill();
        }
        if sent == 600 {
            break stream.ending().await.unwrap();
        }
    };
    assert_eq!(ending.condition.as_deref(), Some("internal-server-error"), "{ending:?}");
    bystander.unharmed(world).await;
    let delivered = numbers(&world.legacy.inbox, false);
    assert_eq!(delivered, (0..delivered.len()).collect::<Vec<_>>(), "in order, none twice, none left out");
    // The same road again: nothing was remembered against anybody.
    let _road = Road::lay(road.from(), world.legacy.s2s);
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(world, &mut stream, "a@friend.example", "j@hall.example", "after").await;
    let twice = |n: &usize| numbers(&friend.inbox, true).contains(n);
    assert!(!numbers(&world.legacy.inbox, false).iter().any(twice), "delivered and sent back");
}

// LIM-05. A server that is stopped for a while (a snapshot, a debugger, swap) costs time and nothing else.
#[tokio::test]
async fn a_backend_that_freezes_for_a_while_gets_all_of_it_in_order() {
    let (apart, road) = by_road(&plan(), 0).await;
    let world = &apart.world;
    let mut bystander = Bystander::of(world, "k@annex.example").await;
    let friend = peer(world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(world, &mut stream, "a@friend.example", "j@hall.example", "before").await;
    let before = apart.memory("VmRSS");
    road.freeze();
    let sending = tokio::spawn(async move {
        for n in 0..600 {
            stream.send(numbered("a@friend.example", "j@hall.example", n, 50_000)).await.unwrap();
        }
        stream
    });
    for _ in 0..5 {
        bystander.unharmed(world).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!sending.is_finished(), "30 MB were taken for a server that reads nothing");
    let grown = apart.memory("VmRSS").saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} octets more");
    road.thaw();
    let _stream = sending.await.unwrap();
    world.legacy.inbox.wait(|n| n.attr("id") == Some("n599")).await.unwrap();
    assert_eq!(numbers(&world.legacy.inbox, false), (0..600).collect::<Vec<_>>());
}

// The same for longer than T-stanza, "also how long a side may take no octets".
#[tokio::test]
async fn a_backend_that_stays_frozen_is_given_up_and_its_peers_are_told() {
    let (apart, road) = by_road(&hasty(), 0).await;
    let world = &apart.world;
    let mut bystander = Bystander::of(world, "k@annex.example").await;
    let friend = peer(world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(world, &mut stream, "a@friend.example", "j@hall.example", "before").await;
    road.freeze();
    let begun = Instant::now();
    let mut sent = 0;
    let message = |n| numbered("a@friend.example", "j@hall.example", n, 50_000);
    while tokio::time::timeout(Duration::from_secs(3), stream.send(message(sent))).await.is_ok() {
        sent += 1;
        assert!(sent < 2000, "100 MB were taken for a server that reads nothing");
    }
    bystander.unharmed(world).await;
    let ending = stream.ending().await.unwrap();
    assert_eq!(ending.condition.as_deref(), Some("internal-server-error"), "{ending:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    // What the gateway itself still held goes back, each once.
    until("what was held to come back", || !numbers(&friend.inbox, true).is_empty()).await;
    let back = numbers(&friend.inbox, true);
    assert!(back.windows(2).all(|pair| pair[0] < pair[1]), "{back:?}");
    // Whoever comes now is told in time, and whoever comes later is served.
    let mut next = friend.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(next.external(FRIEND).await.unwrap(), Login::Failure("temporary-auth-failure".to_owned()));
    road.thaw();
    let mut next = by_certificate(&friend, HALL).await;
    still_passes(world, &mut next, "a@friend.example", "j@hall.example", "after").await;
}

// A slow server gets everything, in order, and slows its own pair alone.
#[tokio::test]
async fn a_slow_backend_slows_its_own_pair_and_loses_nothing() {
    let (apart, _road) = by_road(&plan(), 4 << 20).await;
    let world = &apart.world;
    let mut bystander = Bystander::of(world, "k@annex.example").await;
    let friend = peer(world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        for n in 0..200 {
            stream.send(numbered("a@friend.example", "j@hall.example", n, 50_000)).await.unwrap();
        }
        stream
    });
    world.legacy.inbox.wait(|n| n.attr("id") == Some("n10")).await.unwrap();
    bystander.unharmed(world).await;
    let _stream = sending.await.unwrap();
    world.legacy.inbox.wait(|n| n.attr("id") == Some("n199")).await.unwrap();
    assert_eq!(numbers(&world.legacy.inbox, false), (0..200).collect::<Vec<_>>());
    assert!(begun.elapsed() > Duration::from_secs(2), "this road is not slow: {:?}", begun.elapsed());
}

// ------------------------------------------------------------------------------------------------ the peer

/// A peer that is reached by a road.
async fn distant(world: &World, host: u8, domain: &str) -> (Peer, Road) {
    let identity = world.authority.issue(&Leaf::of(&[domain])).unwrap();
    let peer = world.peer_with(host, &[domain], identity, Manner::default()).await.unwrap();
    let road = Road::lay(spare(peer.address.ip()), peer.address);
    world.names.announce(domain, Some(road.from()), None).unwrap();
    (peer, road)
}

/// Everything that the backend says to the world goes over one stream, which does not end when one of its pairs does: for
/// each stanza there must be an account (DB-66).
fn multiplexed() -> Plan {
    hasty().habit(Habit::Jabberd2).limit("queue-stanzas", "1000")
}

// CLS-02: the end of the connection is there before the next stanza, so that one must not be written into it.
#[tokio::test]
async fn what_a_killed_peer_had_not_taken_comes_back_to_the_backend() {
    let apart = Apart::build(&multiplexed()).await;
    let world = &apart.world;
    let mut bystander = Bystander::of(world, "k@annex.example").await;
    bystander.unharmed(world).await;
    let (friend, mut road) = distant(world, 10, FRIEND).await;
    for n in 0..100 {
        world.legacy.send(numbered("j@hall.example", "a@friend.example", n, 200));
    }
    friend.inbox.wait(|n| n.attr("id") == Some("n99")).await.unwrap();
    road.kill();
    for n in 100..200 {
        world.legacy.send(numbered("j@hall.example", "a@friend.example", n, 200));
    }
    until("every stanza to come back", || numbers(&world.legacy.inbox, true).len() >= 100).await;
    assert_eq!(numbers(&friend.inbox, false), (0..100).collect::<Vec<_>>());
    let mut back = numbers(&world.legacy.inbox, true);
    back.sort_unstable();
    assert_eq!(back, (100..200).collect::<Vec<_>>(), "each once");
    bystander.unharmed(world).await;
}

// T-stanza: a peer that takes nothing is given up. What the kernel held for it is little and beyond knowing; the rest goes
// back, and the other pairs of the same stream do not wait for it.
#[tokio::test]
async fn a_peer_that_stays_frozen_holds_up_nobody_and_what_waits_for_it_goes_back() {
    let apart = Apart::build(&multiplexed()).await;
    let world = &apart.world;
    let mut bystander = Bystander::of(world, "k@annex.example").await;
    let (friend, road) = distant(world, 10, FRIEND).await;
    world.legacy.message("j@hall.example", "a@friend.example", "before");
    friend.inbox.wait_body("before").await.unwrap();
    bystander.unharmed(world).await;
    road.freeze();
    for n in 0..600 {
        world.legacy.send(numbered("j@hall.example", "a@friend.example", n, 50_000));
    }
    bystander.unharmed(world).await;
    until("the last to come back", || numbers(&world.legacy.inbox, true).contains(&599)).await;
    bystander.unharmed(world).await;
    road.thaw();
    // Four at most: TCP_NOTSENT_LOWAT leaves the kernel 128 KiB, and one may be on its way there.
    until("an account of the others", || {
        let (there, back) = (numbers(&friend.inbox, false), numbers(&world.legacy.inbox, true));
        assert!(!there.iter().any(|n| back.contains(n)), "delivered and sent back");
        there.len() + back.len() >= 596
    })
    .await;
}

// A peer that dies in the middle of a stanza has sent all before it, and not that one.
#[tokio::test]
async fn a_peer_that_is_killed_in_mid_stanza_has_said_all_but_that() {
    let apart = Apart::build(&hasty()).await;
    let world = &apart.world;
    let friend = peer(world, 10, FRIEND).await;
    let mut road = Road::lay(spare(friend.address.ip()), world.at.public);
    let mut call = friend.call(HALL).unwrap();
    call.target = road.from();
    let mut stream = call.open().await.unwrap();
    assert_eq!(stream.external(FRIEND).await.unwrap(), Login::Success);
    for n in 0..50 {
        stream.send(numbered("a@friend.example", "j@hall.example", n, 200)).await.unwrap();
    }
    let half = numbered("a@friend.example", "j@hall.example", 50, 200);
    stream.send(&half[..half.len() / 2]).await.unwrap();
    world.legacy.inbox.wait(|n| n.attr("id") == Some("n49")).await.unwrap();
    road.kill();
    let labels = [("flow", "s2s-in")];
    let end = Instant::now() + Duration::from_secs(20);
    while world.metrics().await.unwrap().sum("streams", &labels) > 0.0 {
        assert!(Instant::now() < end, "the stream of a dead peer still counts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(numbers(&world.legacy.inbox, false), (0..50).collect::<Vec<_>>());
}

// ------------------------------------------------------------------------------------------------ clients

/// A user who is online through the gateway, and whose octets come by a road.
async fn online(world: &World, user: &str) -> (Client, Road) {
    let road = Road::lay(spare(world.at.clients.ip()), world.at.clients);
    let account = Account { user, domain: HALL, password: PASSWORD };
    let tls = world.authority.client(None, false).unwrap();
    let client = Client::login_over_tls(road.from().ip(), road.from(), account, tls).await.unwrap();
    (client, road)
}

/// What the backend has in hand for a user.
fn for_user(world: &World, user: &str, n: usize) {
    let message = numbered("k@annex.example", &format!("{user}@hall.example"), n, 50_000);
    world.legacy.send(message);
}

// A client whose window is zero: it takes octets again in time, or its session ends on both sides.
#[tokio::test]
async fn a_client_that_takes_nothing_waits_or_goes_and_holds_up_nobody() {
    let apart = Apart::build(&hasty()).await;
    let world = &apart.world;
    let (slow, road) = online(world, "slow").await;
    let (other, _other_road) = online(world, "other").await;
    let before = apart.memory("VmRSS");
    road.freeze();
    for n in 0..200 {
        for_user(world, "slow", n);
    }
    for_user(world, "other", 0);
    other.inbox.wait(|n| n.attr("id") == Some("n0")).await.unwrap();
    let grown = apart.memory("VmRSS").saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} octets more");
    road.thaw();
    let last = |n: &gatehouse::demo::node::Node| n.attr("id") == Some("n199");
    slow.inbox.wait_for(Duration::from_secs(30), last).await.unwrap();
    assert_eq!(numbers(&slow.inbox, false), (0..200).collect::<Vec<_>>());
    // Now for longer than T-stanza.
    road.freeze();
    for n in 200..600 {
        for_user(world, "slow", n);
    }
    let end = Instant::now() + Duration::from_secs(30);
    while world.metrics().await.unwrap().sum("streams", &[("flow", "c2s")]) > 1.0 {
        assert!(Instant::now() < end, "a client that takes nothing keeps its session");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for_user(world, "other", 1);
    other.inbox.wait(|n| n.attr("id") == Some("n1")).await.unwrap();
}

// ------------------------------------------------------------------------------------------------ the DNS

// Who stands, stands; who is new is told in time; and when the DNS is back, so is the world.
#[tokio::test]
async fn the_dns_goes_falls_silent_and_comes_back() {
    let mut apart = Apart::build(&hasty()).await;
    let mut bystander = Bystander::of(&apart.world, "k@annex.example").await;
    bystander.unharmed(&apart.world).await;
    let address = apart.world.names.address();
    let IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
    let friends: Vec<String> = (0..3).map(|n| format!("f{n}.friend.example")).collect();
    let mut peers = Vec::new();
    for (host, domain) in (10..).zip(&friends) {
        peers.push(peer(&apart.world, host, domain).await);
    }
    // Its port answers with a refusal: nobody is there. The small world goes on with another book.
    let elsewhere = Names::start(std::net::Ipv4Addr::LOCALHOST).await.unwrap();
    drop(std::mem::replace(&mut apart.world.names, elsewhere));
    let to = format!("a@{}", friends[0]);
    apart.world.legacy.message("j@hall.example", &to, "gone");
    let told = apart.world.legacy.bounces.wait_for(Duration::from_secs(30), |n| n.attr("from") == Some(&to));
    assert_eq!(condition(&told.await.unwrap()), Some("remote-server-timeout"));
    bystander.unharmed(&apart.world).await;
    // It is there again, and says nothing about one of them.
    apart.world.names = Names::start(ip).await.unwrap();
    assert_eq!(apart.world.names.address(), address, "another port");
    for (peer, domain) in peers.iter().zip(&friends) {
        apart.world.names.announce(domain, Some(peer.address), None).unwrap();
    }
    apart.world.names.behave(&friends[1], Answers::Silent);
    let to = format!("a@{}", friends[1]);
    apart.world.legacy.message("j@hall.example", &to, "silent");
    let told = apart.world.legacy.bounces.wait_for(Duration::from_secs(30), |n| n.attr("from") == Some(&to));
    assert_eq!(condition(&told.await.unwrap()), Some("remote-server-timeout"));
    bystander.unharmed(&apart.world).await;
    apart.world.legacy.message("j@hall.example", &format!("a@{}", friends[2]), "back");
    peers[2].inbox.wait_body("back").await.unwrap();
    bystander.unharmed(&apart.world).await;
}

// ------------------------------------------------------------------------------------------------ the certificate

// "a bad file keeps the old state, says where the fault is", also by signal, and whichever half is there.
#[tokio::test]
async fn a_certificate_that_is_half_written_changes_nothing_and_is_named() {
    let apart = Apart::build(&Plan { log: "warn", ..plan() }).await;
    let world = &apart.world;
    let mut bystander = Bystander::of(world, "k@annex.example").await;
    let friend = peer(world, 10, FRIEND).await;
    let shown = async || by_certificate(&friend, HALL).await.wire.certificate.unwrap();
    let first = shown().await;
    let folder = world.folder.path().join("pki");
    let chain = folder.join(format!("{HALL}.pem"));
    let key = folder.join(format!("{HALL}.key"));
    let refused = async |count: f64| {
        apart.signal(Signal::HUP);
        world.counted("reloads_total", &[("outcome", "refused")], count).await.unwrap();
    };
    // The new pair is being copied: half a chain; a whole chain and the old key; half a key.
    world.authority.issue(&Leaf::of(&[HALL])).unwrap().write(&folder, "next").unwrap();
    let (next_chain, next_key) =
        (std::fs::read(folder.join("next.pem")).unwrap(), std::fs::read(folder.join("next.key")).unwrap());
    std::fs::write(&chain, &next_chain[..next_chain.len() / 2]).unwrap();
    refused(1.0).await;
    apart.logged("hall.example.pem").await;
    std::fs::write(&chain, &next_chain).unwrap();
    refused(2.0).await;
    std::fs::write(&key, &next_key[..next_key.len() / 2]).unwrap();
    refused(3.0).await;
    apart.logged("hall.example.key").await;
    assert_eq!(shown().await, first, "the old one is shown");
    bystander.unharmed(world).await;
    std::fs::write(&key, &next_key).unwrap();
    apart.signal(Signal::HUP);
    world.counted("reloads_total", &[("outcome", "applied")], 1.0).await.unwrap();
    assert_ne!(shown().await, first, "the new one is shown");
    bystander.unharmed(world).await;
}
