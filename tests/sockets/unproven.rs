//! A flood of unproven peers beside honest ones (LIM-06): many source networks, over real sockets, that claim domains whose
//! servers are silent, domains whose DNS is silent, and a bank's name with junk keys; beside them an honest dialback of that
//! very bank, one of another domain, a pair that stands, a client, and a message of our own users.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use gatehouse::demo::names;
use gatehouse::demo::peer::{Manner, Peer, Vouch};
use gatehouse::demo::session::{Session, Word};
use gatehouse::demo::world::{Plan, World};

use crate::sockets::*;

const BANK: &str = "bank.example";

/// Networks that attack.
const NETWORKS: u8 = 200;

/// What one stream may have under way (L-pending).
const CLAIMS: usize = 10;

/// An open border, with the limits as shipped but for the rate of new connections.
async fn open_border(change: impl FnOnce(Plan) -> Plan) -> World {
    World::build(&change(Plan::open(HALL).limit("rate", "6000/min"))).await.unwrap()
}

/// A stream from a network of its own, inside TLS.
async fn unproven(from: &Peer, network: u8, host: u8) -> Session {
    let mut call = from.call_bare(HALL).unwrap();
    call.source = Ipv4Addr::new(127, 200, network, host).into();
    call.open().await.unwrap()
}

/// What was measured of one kind.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    async fn take<T>(&mut self, doing: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = doing.await;
        self.0.push(begun.elapsed());
        done
    }

    /// The middle one, the one that a hundredth exceeds, and the worst.
    fn told(&mut self) -> [Duration; 3] {
        self.0.sort();
        [50, 99, 100].map(|share| self.0[(self.0.len() * share / 100).min(self.0.len() - 1)])
    }
}

/// What honest ones see.
#[derive(Default)]
struct Seen {
    bank: Times,
    cousin: Times,
    standing: Times,
    outbound: Times,
    client: Times,
}

/// Honest ones, one after the other, some rounds of them.
async fn honest(world: &World, bank: &Peer, cousin: &Peer, rounds: usize, round: &str) -> Seen {
    let mut seen = Seen::default();
    let mut standing = by_dialback(cousin, HALL).await;
    for n in 0..rounds {
        for (peer, times) in [(bank, &mut seen.bank), (cousin, &mut seen.cousin)] {
            let proven = async {
                let mut stream = peer.call_bare(HALL).unwrap().open().await.unwrap();
                stream.dialback(peer.domain(), HALL).await.unwrap()
            };
            assert_eq!(times.take(proven).await, Word::Valid, "{} in {round} {n}", peer.domain());
        }
        let body = format!("{round} {n}");
        seen.standing
            .take(async {
                standing.message("c@cousin.example", "j@hall.example", &format!("in {body}")).await.unwrap();
                world.legacy.inbox.wait_body(&format!("in {body}")).await.unwrap();
            })
            .await;
        for k in 0..20 {
            seen.outbound
                .take(async {
                    world.legacy.message("j@hall.example", "a@bank.example", &format!("out {body} {k}"));
                    bank.inbox.wait_body(&format!("out {body} {k}")).await.unwrap();
                })
                .await;
        }
        seen.client
            .take(async {
                let user = format!("u{round}{n}");
                world.login_from_outside(&user, HALL, None).await.unwrap();
            })
            .await;
    }
    seen
}

// With 200 networks attacking at once an honest dialback of any domain stands within 2 s, and what our own users send
// goes out in at most twice its calm time plus 50 ms. Asserted in orders of magnitude, for a test beside others; what each came
// to is told with `--nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unproven_peers_is_not_noticed() {
    let world = open_border(|plan| plan.limit("verifications", "64")).await;
    let bank = world.peer(10, &[BANK], Manner { external: false, ..Manner::default() }).await.unwrap();
    let cousin = world.peer(11, &[COUSIN], Manner { external: false, ..Manner::default() }).await.unwrap();
    let silent_names: Vec<String> = (0..CLAIMS).map(|n| format!("n{n}.silent.example")).collect();
    let domains: Vec<&str> = silent_names.iter().map(String::as_str).collect();
    let silent = Manner { vouch: Vouch::Silent, external: false, ..Manner::default() };
    let silent = world.peer(12, &domains, silent).await.unwrap();
    world.names.behave("slow.example", names::Manner::Silent);

    let mut calm = honest(&world, &bank, &cousin, 5, "calm").await;
    let mut flood = Vec::new();
    for network in 0..NETWORKS {
        let mut stream = unproven(&silent, network, 1).await;
        for (n, silent) in silent_names.iter().enumerate() {
            let name = match network % 3 {
                0 => silent.clone(),
                1 => format!("n{network}-{n}.slow.example"),
                _ if n == 0 => BANK.to_owned(),
                _ => format!("n{n}.slow.example"),
            };
            stream.send_key(&name, HALL, "6a756e6b").await.unwrap();
        }
        flood.push(stream);
    }
    let mut stormy = honest(&world, &bank, &cousin, 10, "stormy").await;
    let limited = world.metrics().await.unwrap().sum("limited_total", &[("limit", "verifications")]);
    assert!(limited >= 1.0, "places were wanted by more than there are: {limited}");
    for (what, calm, stormy) in [
        ("dialback of the bank", &mut calm.bank, &mut stormy.bank),
        ("dialback of another", &mut calm.cousin, &mut stormy.cousin),
        ("a pair that stands", &mut calm.standing, &mut stormy.standing),
        ("our own outbound", &mut calm.outbound, &mut stormy.outbound),
        ("a login", &mut calm.client, &mut stormy.client),
    ] {
        let (calm, stormy) = (calm.told(), stormy.told());
        println!("{what}: p50, p99, worst: {calm:.1?} when calm, {stormy:.1?} under attack");
        let [_, _, worst] = stormy;
        assert!(worst < Duration::from_secs(8), "{what}: {worst:?}");
    }
    // Nothing is held against anybody.
    assert!(world.metrics().await.unwrap().sum("circuits", &[]) < 1.0);
    drop(flood);
}

// "one IPv4 address .. repeating a junk key for bank.example: 0 of 15 honest claims of bank succeed". Whoever asks
// in vain comes after whoever does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_keys_do_not_keep_a_domain_out() {
    let world = open_border(|plan| plan.limit("conn-s2s", "100")).await;
    let bank = world.peer(10, &[BANK], Manner { external: false, ..Manner::default() }).await.unwrap();
    let mallory = world.peer(11, &["mallory.example"], Manner::default()).await.unwrap();
    let mut attackers = Vec::new();
    for _ in 0..6 {
        let mut stream = by_certificate(&mallory, HALL).await;
        attackers.push(tokio::spawn(async move {
            // Its own pair stands, so that each refusal leaves the stream open.
            loop {
                stream.send_key(BANK, HALL, "6a756e6b").await.unwrap();
                let word = stream.word().await.unwrap();
                assert!(matches!(word, Word::Error(_)), "{word:?}");
            }
        }));
    }
    for n in 0..15 {
        let begun = Instant::now();
        let mut stream = bank.call_bare(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.dialback(BANK, HALL).await.unwrap(), Word::Valid, "{n}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{n}: {:?}", begun.elapsed());
    }
    for attacker in &attackers {
        assert!(!attacker.is_finished());
        attacker.abort();
    }
}

// Lookups for claims that dawdle were held against a healthy domain: "our own users cannot reach bank for 11 to
// 55 s".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_for_the_dns_is_held_against_nobody() {
    let world =
        open_border(|plan| plan.limit("verifications", "4").timeout("dns", "2s").timeout("dns-total", "2s"))
            .await;
    let bank = world.peer(10, &[BANK], Manner { external: false, ..Manner::default() }).await.unwrap();
    world.names.behave("slow.example", names::Manner::Silent);
    let mut flood = Vec::new();
    for network in 0..6 {
        let mut stream = unproven(&bank, network, 1).await;
        for n in 0..CLAIMS {
            stream.claim(&format!("n{n}.slow.example"), HALL).await.unwrap();
        }
        flood.push(stream);
    }
    let mut last = unproven(&bank, 9, 1).await;
    last.send_key(BANK, HALL, "6a756e6b").await.unwrap();
    for n in 0..5 {
        world.legacy.message("j@hall.example", "a@bank.example", &format!("n{n}"));
        bank.inbox.wait_body(&format!("n{n}")).await.unwrap();
    }
    assert!(world.legacy.bounces.all().is_empty());
    // The junk key is found to be one, and no more than that.
    assert!(matches!(last.word().await.unwrap(), Word::Invalid | Word::Ended(_)));
}

// LIM-06: "a place is free, and the answer told, when the answer is there, not when the connection has been closed".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_told_before_its_stream_is_closed() {
    let world = open_border(|plan| plan.limit("verifications", "4").timeout("close", "60s")).await;
    let lingers = Manner { external: false, lingers: true, ..Manner::default() };
    let friend = world.peer(10, &[FRIEND], lingers).await.unwrap();
    // More than there are places, and than may close in all ceremony.
    for n in 0..10 {
        let begun = Instant::now();
        let mut stream = friend.call_bare(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.dialback(FRIEND, HALL).await.unwrap(), Word::Valid, "{n}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{n}: {:?}", begun.elapsed());
    }
}
