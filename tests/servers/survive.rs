//! Streams that are counted (XEP-0198), with real Prosody on the other side: what its crash and ours cost, with and without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::ca::{Authority, Usage};
use crate::support::client::{Client, Element};
use crate::support::prosody;
use crate::support::release::Release;
use crate::support::scene::{Cast, Scene, Wishes};
use crate::support::server::{Legacy, Place, Proof, Server, Tls};
use crate::support::wait_for;
use rustix::process::Signal;

const FRIEND: &str = "friend.example";

/// The last number of the friend's address.
const PLACE: u8 = 30;

const POLICY: &str = "version: v1\ndefaults: { identity: [certificate, dialback] }\nrules:\n  \
                      - { name: family, domains: [friend.example], verdict: allow }\n";

/// A gateway before a Prosody, and a friend outside whose server counts stanzas, or does not.
fn meet(release: Release, proof: Proof, counts: bool) -> (Scene, Server) {
    let cast = Cast { remotes: &[], legacy: Legacy::Prosody, usage: Usage::Both, policy: POLICY };
    let mut scene = Scene::start_with(&cast, &Wishes { zones: &[(FRIEND, PLACE)], ..Wishes::default() });
    let host = scene.outsider(PLACE);
    let unknown = Authority::new("An authority that nobody knows");
    let authority = if proof == Proof::Dialback { &unknown } else { &scene.authority };
    let leaf = authority.leaf(FRIEND, Usage::Both, host.directory());
    let roots = authority.write_root(host.directory());
    let place = Place { host: &host, address: Scene::outside(PLACE), domain: FRIEND, user: "guest" };
    let tls = Tls { leaf: &leaf, roots: &roots.to_string_lossy(), proof };
    let processes = match counts {
        true => prosody::remote_that_counts(release, &place, &tls),
        false => prosody::remote(release, &place, &tls),
    };
    (scene, Server::new(&place, processes))
}

/// How often stream management came to this.
fn came_to(scene: &Scene, flow: &str, outcome: &str) -> f64 {
    scene.gateway.metric("gatehouse_stream_management_total", &[("flow", flow), ("outcome", outcome)])
}

/// Messages one way, and what became of them.
#[derive(Default)]
struct Way {
    sent: BTreeSet<String>,
    arrived: BTreeMap<String, usize>,
    returned: BTreeMap<String, usize>,
}

impl Way {
    fn say(&mut self, many: usize, from: &mut Client, to: &str) {
        for _ in 0..many {
            self.sent.insert(from.message(to, "is anybody there?"));
            sleep(Duration::from_millis(2));
        }
    }

    fn hear(&mut self, arrived: &[Element], returned: &[Element]) {
        for (heard, all, error) in [(arrived, &mut self.arrived, false), (returned, &mut self.returned, true)]
        {
            for message in heard.iter().filter(|e| e.name == "message" && e.has("type", "error") == error) {
                if let Some(id) = message.attribute("id").filter(|id| self.sent.contains(*id)) {
                    *all.entry(id.to_owned()).or_default() += 1;
                }
            }
        }
    }

    fn lost(&self) -> usize {
        self.sent
            .iter()
            .filter(|id| !self.arrived.contains_key(*id) && !self.returned.contains_key(*id))
            .count()
    }

    fn twice(&self) -> usize {
        self.arrived.values().chain(self.returned.values()).filter(|times| **times > 1).count()
    }

    fn told(&self, what: &str) {
        eprintln!(
            "{what}: {} sent, {} arrived, {} came back, {} of those had arrived, {} lost, {} twice",
            self.sent.len(),
            self.arrived.len(),
            self.returned.len(),
            self.returned.keys().filter(|id| self.arrived.contains_key(*id)).count(),
            self.lost(),
            self.twice()
        );
    }

    /// Until nothing is open, or nothing comes any more.
    fn settle(&mut self, limit: Duration, mut listen: impl FnMut(&mut Self)) {
        let begun = Instant::now();
        while self.lost() > 0 && begun.elapsed() < limit {
            listen(self);
            sleep(Duration::from_millis(50));
        }
        listen(self);
    }
}

fn counts_with(release: Release, proof: Proof, inward: bool) {
    let (scene, friend) = meet(release, proof, true);
    let (mut inside, mut outside) = (scene.legacy.login(), friend.login());
    for _ in 0..20 {
        let id = outside.message(inside.jid(), "in");
        inside.expect_message(outside.jid(), &id);
        let id = inside.message(outside.jid(), "out");
        outside.expect_message(inside.jid(), &id);
    }
    let outward = proof == Proof::External;
    for (flow, counts) in [("s2s-out", outward), ("s2s-in", inward)] {
        let (found, log) = (came_to(&scene, flow, "enabled"), friend.log());
        assert_eq!(found >= 1.0, counts, "{flow}: {found}\n{log}");
    }
    if outward {
        wait_for("everything to be acknowledged", Duration::from_secs(20), || {
            let (code, said) = scene.gateway.command("streams", &["streams", "--format", "json"]);
            assert_eq!(code, Some(0), "{said}");
            let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
            let all: Vec<_> = answer["streams"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|stream| stream["pairs"].as_array().unwrap())
                .filter(|pair| pair["from"] == "hall.example" && pair["to"] == FRIEND)
                .map(|pair| pair["managed"]["unacknowledged"].clone())
                .collect();
            match all.as_slice() {
                [left] if *left == 0 => Ok(()),
                _ => Err(said),
            }
        });
    }
    let family = "gatehouse_stream_errors_total";
    assert_eq!(scene.gateway.metric(family, &[]), 0.0, "{}", scene.gateway.family(family));
    assert_eq!(came_to(&scene, "s2s-out", "returned"), 0.0);
}

// SM-01: towards and from a real server that counts, both ways, whatever it was proven by.
#[test]
fn prosody_counts_and_is_counted() {
    counts_with(Release::Bookworm, Proof::External, true);
}

#[test]
fn prosody_13_counts_and_is_counted() {
    counts_with(Release::Trixie, Proof::External, true);
}

// Prosody looks at features when they come, and takes nothing of the kind before it is proven.
#[test]
fn prosody_behind_dialback_counts_nothing_and_speaks_as_ever() {
    counts_with(Release::Trixie, Proof::Dialback, false);
}

/// The friend's server stands still, is written to, and dies. What the backend's messages came to.
fn crash_of_the_peer(counts: bool) -> Way {
    let (scene, mut friend) = meet(Release::Bookworm, Proof::External, counts);
    let (mut inside, mut outside) = (scene.legacy.login(), friend.login());
    let mut way = Way::default();
    let to = outside.jid().to_owned();
    way.say(20, &mut inside, &to);
    way.settle(Duration::from_secs(10), |way| way.hear(&outside.so_far(), &inside.so_far()));
    assert_eq!(way.lost(), 0, "before anything happens");
    friend.signal(Signal::STOP);
    way.say(200, &mut inside, &to);
    sleep(Duration::from_millis(500));
    friend.stop();
    way.settle(Duration::from_secs(20), |way| way.hear(&[], &inside.so_far()));
    way.told(if counts { "the peer dies, counted" } else { "the peer dies, not counted" });
    way
}

// "what cannot be resumed is bounced once and never sent again"
#[test]
fn what_a_peer_that_died_had_not_taken_comes_back_once() {
    let before = crash_of_the_peer(false);
    let after = crash_of_the_peer(true);
    assert!(before.lost() > 100, "the test is one: {}", before.lost());
    assert_eq!((after.lost(), after.twice()), (0, 0));
}

/// The gateway stands still, is written to, and is killed. What the friend's messages came to.
fn crash_of_ours(counts: bool) -> Way {
    let (mut scene, friend) = meet(Release::Bookworm, Proof::External, counts);
    let (mut inside, mut outside) = (scene.legacy.login(), friend.login());
    let mut way = Way::default();
    let to = inside.jid().to_owned();
    way.say(20, &mut outside, &to);
    way.settle(Duration::from_secs(10), |way| way.hear(&inside.so_far(), &outside.so_far()));
    assert_eq!(way.lost(), 0, "before anything happens");
    scene.gateway.signal(Signal::STOP);
    way.say(200, &mut outside, &to);
    sleep(Duration::from_millis(500));
    scene.gateway.kill();
    scene.gateway.again();
    way.settle(Duration::from_secs(20), |way| way.hear(&inside.so_far(), &outside.so_far()));
    way.told(if counts { "the gateway dies, counted" } else { "the gateway dies, not counted" });
    way
}

// CLU-06: "A node that dies loses nothing between peers that speak stream management".
#[test]
fn what_a_gateway_that_died_had_not_taken_comes_back() {
    let before = crash_of_ours(false);
    let after = crash_of_ours(true);
    assert!(before.lost() > 100, "the test is one: {}", before.lost());
    assert_eq!((after.lost(), after.twice()), (0, 0));
}

// Killed in the middle of its work, the gateway has acknowledged nothing that it had not handed on. What waits for a stream that is not
// proven yet Prosody writes at once when it is, and begins to count behind that ("Needs to be done after flushing sendq since those
// aren't stored as stanzas", mod_smacks): of that nobody knows anything when the connection breaks, so each round waits until it counts.
#[test]
fn a_gateway_that_is_killed_at_work_has_acknowledged_nothing_that_is_lost() {
    let (mut scene, friend) = meet(Release::Bookworm, Proof::External, true);
    let (mut inside, mut outside) = (scene.legacy.login(), friend.login());
    let mut way = Way::default();
    let to = inside.jid().to_owned();
    for round in 0..3 {
        wait_for("the friend's server to count", Duration::from_secs(30), || {
            way.say(1, &mut outside, &to);
            way.settle(Duration::from_secs(10), |way| way.hear(&inside.so_far(), &outside.so_far()));
            let enabled = came_to(&scene, "s2s-in", "enabled");
            if enabled >= 1.0 && way.lost() == 0 {
                Ok(())
            } else {
                Err(format!("{enabled}, {} open", way.lost()))
            }
        });
        way.say(100 + round * 30, &mut outside, &to);
        scene.gateway.kill();
        scene.gateway.again();
    }
    way.settle(Duration::from_secs(30), |way| way.hear(&inside.so_far(), &outside.so_far()));
    way.told("the gateway dies three times at work, counted");
    assert_eq!((way.lost(), way.twice()), (0, 0));
}
