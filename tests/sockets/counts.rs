//! Counts of limits that nodes share, over real sockets and with a real Redis: who spreads over three nodes is one sender.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use crate::redis::*;
use crate::sockets::*;
use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::{Login, Session};
use gatehouse::demo::world::{Plan, World};

/// Within which what one node has counted counts at all.
const MERGED: Duration = Duration::from_secs(2);

/// Three nodes of this plan, at a store or each for itself.
async fn three(plan: &dyn Fn() -> Plan, store: Option<(&Redis, &tempfile::TempDir)>) -> Vec<World> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(match store {
            Some((redis, keys)) => node_of(plan(), &redis.store(), keys.path(), OPEN).await,
            None => World::build(&plan()).await.unwrap(),
        });
    }
    if store.is_some() {
        for node in &nodes {
            soon("all nodes to know each other", async || {
                match node.metrics().await.unwrap().sum("cluster_nodes", &[]) {
                    3.0 => Ok(()),
                    count => Err(count.to_string()),
                }
            })
            .await;
        }
    }
    nodes
}

/// One domain that has a stream to a node.
struct Caller<'a> {
    world: &'a World,
    peer: Peer,
    stream: Session,
}

impl<'a> Caller<'a> {
    async fn of(world: &'a World) -> Self {
        let peer = peer(world, 10, FRIEND).await;
        let stream = by_certificate(&peer, HALL).await;
        Self { world, peer, stream }
    }

    /// Sends so many messages of this user to these accounts; how many arrive. All others come back.
    async fn sends(&mut self, from: &str, to: &dyn Fn(usize) -> String, many: usize) -> usize {
        let name = |n: usize| format!("{from}-{}-{n}", self.world.legacy.inbox.len());
        let ids: Vec<String> = (0..many).map(name).collect();
        for (n, id) in ids.iter().enumerate() {
            let stanza = format!(
                "<message from='{from}@friend.example' to='{}@hall.example' id='{id}'><body>{id}</body></message>",
                to(n)
            );
            self.stream.send(stanza).await.unwrap();
        }
        let begun = Instant::now();
        loop {
            let among = |inbox: Vec<gatehouse::demo::node::Node>| {
                ids.iter().filter(|id| inbox.iter().any(|node| node.attr("id") == Some(id))).count()
            };
            let (here, back) = (among(self.world.legacy.inbox.all()), among(self.peer.inbox.all()));
            if here + back == many {
                return here;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{here} arrived and {back} came back of {many}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

// CLU-03: "counts for the limits by verified domain, sender and network, each merged within two seconds": a sender who spreads over
// three nodes meets the limit as a sum; without a store, at each node alone.
#[tokio::test]
async fn a_sender_who_spreads_over_three_nodes_meets_the_limit_as_a_sum() {
    let (redis, keys) = (Redis::start(&[]), secrets(""));
    let plan = || plan().limit("sender-stanzas", "60/min");
    let one = |_| "j".to_owned();
    for store in [Some((&redis, &keys)), None] {
        let nodes = three(&plan, store).await;
        let mut callers = Vec::new();
        for node in &nodes {
            callers.push(Caller::of(node).await);
        }
        let mut passed = Vec::new();
        for caller in &mut callers {
            passed.push(caller.sends("a", &one, 60).await);
            tokio::time::sleep(MERGED).await;
        }
        // A minute's worth is sent at the first; ten seconds' worth more is borne, and what time brings.
        let [first, second, third] = passed[..] else { panic!("{passed:?}") };
        assert_eq!(first, 60, "{passed:?}");
        match store {
            Some(_) => assert!((10..=30).contains(&(second + third)), "{passed:?}"),
            None => assert_eq!((second, third), (60, 60), "without a store each node counts for itself"),
        }
        // A neighbour of the same domain is not slower for it.
        assert_eq!(callers[2].sends("b", &one, 30).await, 30);
    }
    assert!(redis.say(&["XLEN", "gatehouse:{gate}:counts"]).trim().parse::<u32>().unwrap() > 0);
    let kept = redis.say(&["XRANGE", "gatehouse:{gate}:counts", "-", "+"]);
    assert!(!kept.contains("friend") && !kept.contains("hall"), "digests alone: {kept}");
}

// LIM-04, CLU-03: the recipients of a domain, and its requests for subscriptions.
#[tokio::test]
async fn what_a_domain_may_do_it_may_do_once() {
    let (redis, keys) = (Redis::start(&[]), secrets(""));
    let plan = || plan().limit("recipients", "30/min").limit("subscriptions", "12/min");
    let nodes = three(&plan, Some((&redis, &keys))).await;
    let mut callers = Vec::new();
    for node in &nodes {
        callers.push(Caller::of(node).await);
    }
    // Minutes of recipients begin by the clock of each node: what is sent within a few seconds falls into two of them at most.
    let mut reached = 0;
    for (n, caller) in callers.iter_mut().enumerate() {
        reached += caller.sends("a", &|to| format!("u{n}x{to}"), 30).await;
        tokio::time::sleep(MERGED).await;
    }
    assert!((30..=64).contains(&reached), "{reached} of 90 new recipients, where 30 a minute may be");
    let asked = |node: &World| {
        let requests = node.legacy.inbox.all();
        requests.iter().filter(|node| node.attr("type") == Some("subscribe")).count()
    };
    for (n, caller) in callers.iter_mut().enumerate() {
        for request in 0..12 {
            let asks = format!(
                "<presence from='s{n}x{request}@friend.example' to='u0x0@hall.example' type='subscribe'/>"
            );
            caller.stream.send(asks).await.unwrap();
        }
        // Known at once: this one is behind them.
        let _behind = caller.sends("z", &|_| "u0x0".to_owned(), 1).await;
        tokio::time::sleep(MERGED).await;
    }
    let asked: usize = nodes.iter().map(asked).sum();
    assert!((12..=18).contains(&asked), "{asked} of 36, where 12 a minute may be");
}

// D10, CLU-03: connections of one registrable domain are counted over all nodes; who leaves makes room everywhere, a node that dies
// as well, and what is heard late or again changes nothing.
#[tokio::test]
async fn connections_of_a_domain_are_counted_over_all_nodes() {
    let (redis, keys) = (Redis::start(&[]), secrets(""));
    let plan = || plan().limit("conn-domain", "6");
    let mut nodes = three(&plan, Some((&redis, &keys))).await;
    let mut peers = Vec::new();
    for node in &nodes {
        peers.push(peer(node, 10, FRIEND).await);
    }
    let mut first: Vec<Session> = Vec::new();
    let mut second: Vec<Session> = Vec::new();
    for _ in 0..3 {
        first.push(by_certificate(&peers[0], HALL).await);
        second.push(by_certificate(&peers[1], HALL).await);
    }
    tokio::time::sleep(MERGED).await;
    let enters = async |third: &Peer| {
        let mut stream = third.call(HALL).unwrap().open().await.ok()?;
        matches!(stream.external(FRIEND).await, Ok(Login::Success)).then_some(stream)
    };
    assert!(enters(&peers[2]).await.is_none(), "six are there");
    nodes[2].counted("limited_total", &[("limit", "domain-connections")], 1.0).await.unwrap();
    // What the first has said of its three is said again, late.
    let said = redis.say(&["XRANGE", "gatehouse:{gate}:counts", "-", "+"]);
    let old: Vec<&str> = said.lines().filter(|line| line.starts_with('{')).collect();
    drop(first.pop().unwrap().close().await);
    tokio::time::sleep(MERGED).await;
    for line in &old {
        redis.say(&["XADD", "gatehouse:{gate}:counts", "*", "e", line]);
    }
    tokio::time::sleep(MERGED).await;
    let fifth = enters(&peers[2]).await.expect("one has left, and old words do not bring it back");
    tokio::time::sleep(MERGED).await;
    assert!(enters(&peers[2]).await.is_none());
    assert!(enters(&peers[1]).await.is_none(), "everywhere");
    // The first node dies with its two: there is room within five seconds.
    let died = Instant::now();
    drop(nodes.remove(0));
    let mut more = Vec::new();
    while more.len() < 2 {
        assert!(died.elapsed() < Duration::from_secs(20), "there is no room for who was there");
        more.extend(enters(&peers[2]).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let room = died.elapsed();
    assert!(room < Duration::from_secs(5), "room after {room:?}");
    // With the store gone each goes on by what it knows itself.
    drop((fifth, more, second));
    drop(redis);
    store_is(&nodes[1], Some("cannot be reached")).await;
    // What the others had is forgotten three seconds after their last word.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut alone = Vec::new();
    for _ in 0..6 {
        alone.extend(enters(&peers[2]).await);
    }
    assert_eq!(alone.len(), 6);
    assert!(enters(&peers[2]).await.is_none());
}
