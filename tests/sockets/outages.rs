//! Outages of each party, with traffic that goes on trying in both directions: how long after the return it flows both ways again
//! (within 3 s), with all times as shipped and the habits of three old servers. `GATEHOUSE_OUTAGE` is how many seconds an
//! outage lasts; the table is told with `--nocapture`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::time::{Duration, Instant};

use gatehouse::demo::gate::Gate;
use gatehouse::demo::legacy::Habit;
use gatehouse::demo::names;
use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::session::Word;
use gatehouse::demo::world::{Plan, World};

use crate::sockets::*;

/// Who is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    Remote,
    Backend,
    Dns,
    Gateway,
}

async fn friend_of(world: &World) -> Peer {
    let manner = Manner { external: false, ..Manner::default() };
    world.peer(10, &[FRIEND], manner).await.unwrap()
}

/// One try of the remote server, over a stream of its own.
async fn try_in(friend: &Peer, body: &str) {
    let attempt = async {
        let mut stream = friend.call_bare(HALL).ok()?.open().await.ok()?;
        if stream.dialback(FRIEND, HALL).await.ok()? == Word::Valid {
            stream.message("a@friend.example", "j@hall.example", body).await.ok()?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Some(())
    };
    // A server gives up, too, and tries again.
    let _outcome = tokio::time::timeout(Duration::from_secs(2), attempt).await;
}

/// Traffic both ways that is not told whether anybody is there, for so long.
async fn blindly(world: &World, friend: Option<&Peer>, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        world.legacy.message("j@hall.example", "a@friend.example", "in vain");
        if let Some(friend) = friend {
            let left = end.saturating_duration_since(Instant::now());
            let _cut = tokio::time::timeout(left, try_in(friend, "in vain")).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How long it takes until something that was sent from now on has arrived: outwards, and inwards.
async fn both_ways(world: &World, friend: &Peer, word: &str) -> (Duration, Duration) {
    let begun = Instant::now();
    let until = begun + Duration::from_secs(60);
    let out = async {
        for n in 0.. {
            let body = format!("{word} out {n}");
            world.legacy.message("j@hall.example", "a@friend.example", &body);
            tokio::time::sleep(Duration::from_millis(100)).await;
            let here = |s: &gatehouse::demo::node::Node| {
                s.body().is_some_and(|b| b.starts_with(&format!("{word} out ")))
            };
            if friend.inbox.all().iter().any(here) {
                break;
            }
            assert!(Instant::now() < until, "nothing goes out after {word}");
        }
        begun.elapsed()
    };
    let into = async {
        let here = |s: &gatehouse::demo::node::Node| s.body() == Some(&format!("{word} in"));
        while !world.legacy.inbox.all().iter().any(here) {
            try_in(friend, &format!("{word} in")).await;
            assert!(Instant::now() < until, "nothing comes in after {word}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        begun.elapsed()
    };
    tokio::join!(out, into)
}

async fn outages(habit: Habit, time: Duration) {
    let mut plan = Plan::open(HALL).habit(habit).limit("rate", "6000/min");
    plan.timeouts.clear();
    let mut world = World::build(&plan).await.unwrap();
    let mut friend = friend_of(&world).await;
    both_ways(&world, &friend, "first").await;
    for away in [Away::Remote, Away::Backend, Away::Dns, Away::Gateway] {
        match away {
            Away::Remote => {
                friend.stop().await;
                blindly(&world, None, time).await;
                friend = friend_of(&world).await;
            }
            Away::Backend => {
                world.legacy.stop().await;
                blindly(&world, Some(&friend), time).await;
                world.legacy.resume().await.unwrap();
            }
            Away::Dns => {
                // Nobody asks while a stream stands: they have all been cut.
                world.names.behave(FRIEND, names::Manner::Silent);
                friend.stop().await;
                friend = friend_of(&world).await;
                blindly(&world, Some(&friend), time).await;
                world.names.behave(FRIEND, names::Manner::Slow(Duration::ZERO));
            }
            Away::Gateway => {
                world.gate.stop().await.unwrap();
                blindly(&world, Some(&friend), time).await;
                world.gate = Gate::start(&world.config).await.unwrap();
            }
        }
        let (out, into) = both_ways(&world, &friend, &format!("{away:?}")).await;
        println!("{habit:?}: {away:?} away for {time:?}: out after {out:?}, in after {into:?}");
        assert!(out.max(into) < Duration::from_secs(30), "{habit:?}, {away:?}: {out:?}, {into:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_flows_both_ways_soon_after_each_outage() {
    let seconds = std::env::var("GATEHOUSE_OUTAGE").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let time = Duration::from_secs(seconds);
    tokio::join!(
        outages(Habit::Prosody, time),
        outages(Habit::Ejabberd, time),
        outages(Habit::Jabberd2, time)
    );
}
