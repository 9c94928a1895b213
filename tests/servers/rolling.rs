//! What may happen to one of three nodes under traffic, with real servers on both sides and a real Redis: it is restarted, killed,
//! frozen, cut off, or has a wrong clock. Every message is numbered and accounted for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::support::client::{Client, Element};
use crate::support::nodes::{Cast, NODE, Node, Nodes};
use crate::support::scene::Peer;
use crate::support::server::{Legacy, Proof, Remote};
use crate::support::{crowd, wait_for};
use rustix::process::Signal;

/// Three nodes with a store; the world is told of all of them, and the server behind asks them in the order last to first.
fn three(nodes: &[Node<'_>; 3]) -> Nodes {
    let friend = [Peer { program: Remote::Prosody, proof: Proof::Dialback, domain: "friend.example" }];
    let (called, callers) = (&[0, 1, 2][..], &[2, 1, 0][..]);
    Nodes::start(&Cast {
        nodes,
        remotes: &friend,
        legacy: Legacy::Prosody,
        policy: POLICY,
        called,
        callers,
        store: true,
    })
}

/// A node with room for a loud friend.
const LOUD: Node<'static> = Node { more: "limits: { sender-stanzas: 600000/min }\n", ..NODE };

/// Messages of one side, and what became of them.
#[derive(Default)]
struct Way {
    sent: BTreeMap<String, Instant>,
    arrived: BTreeMap<String, Instant>,
    returned: BTreeMap<String, Instant>,
    twice: usize,
    /// What the first that came back said of it.
    told: Option<String>,
}

impl Way {
    /// The longest time in which nothing of it arrived.
    fn pause(&self) -> Option<Duration> {
        let mut times: Vec<Instant> = self.arrived.values().copied().collect();
        times.extend(self.sent.values().max());
        times.sort_unstable();
        times.windows(2).map(|two| two[1] - two[0]).max()
    }

    fn open(&self) -> usize {
        self.sent
            .keys()
            .filter(|id| !self.arrived.contains_key(*id) && !self.returned.contains_key(*id))
            .count()
    }

    /// How long after the kill the first message arrives that was sent once the process was dead.
    fn recovered(&self, (killed, dead): (Instant, Instant)) -> Option<Duration> {
        let fresh = self.sent.iter().filter(|(_, at)| **at > dead);
        let first = fresh.filter_map(|(id, _)| self.arrived.get(id)).min()?;
        Some(first.saturating_duration_since(killed))
    }

    fn told(&self) -> String {
        format!(
            "{} sent, {} arrived, {} came back, {} lost, {} twice",
            self.sent.len(),
            self.arrived.len(),
            self.returned.len(),
            self.open(),
            self.twice
        )
    }
}

/// What one side hears: its own messages that came back, and those of the other.
fn hear(heard: &[Element], own: &mut Way, other: &mut Way) {
    let at = Instant::now();
    for message in heard.iter().filter(|element| element.name == "message") {
        let Some(id) = message.attribute("id").map(str::to_owned) else { continue };
        if message.has("type", "error") {
            own.told.get_or_insert_with(|| message.outline());
            own.returned.insert(id, at);
        } else if other.arrived.insert(id, at).is_some() {
            other.twice += 1;
        }
    }
}

/// A friend outside and a warden inside who write to each other.
struct Talk {
    outside: Client,
    inside: Client,
    inward: Way,
    outward: Way,
}

impl Talk {
    fn begin(scene: &Nodes) -> Self {
        let (outside, inside) = (scene.remotes[0].login(), scene.legacy.login());
        let mut talk = Self { outside, inside, inward: Way::default(), outward: Way::default() };
        talk.say(2, Duration::from_millis(10));
        talk.settle();
        assert_eq!((talk.inward.arrived.len(), talk.outward.arrived.len()), (2, 2));
        talk
    }

    /// So many messages each way, one in each pause.
    fn say(&mut self, many: usize, pause: Duration) {
        let begun = Instant::now();
        for n in 0..many {
            let id = self.outside.message(self.inside.jid(), "in");
            self.inward.sent.insert(id, Instant::now());
            let id = self.inside.message(self.outside.jid(), "out");
            self.outward.sent.insert(id, Instant::now());
            self.listen();
            let due = pause * u32::try_from(n + 1).unwrap();
            sleep(due.saturating_sub(begun.elapsed()));
        }
    }

    fn listen(&mut self) {
        let (outside, inside) = (self.outside.so_far(), self.inside.so_far());
        hear(&outside, &mut self.inward, &mut self.outward);
        hear(&inside, &mut self.outward, &mut self.inward);
    }

    /// Waits until everything is accounted for, or nothing comes any more.
    fn settle(&mut self) {
        let (mut last, mut moved) = (usize::MAX, Instant::now());
        loop {
            self.listen();
            let open = self.inward.open() + self.outward.open();
            if open == 0 || moved.elapsed() > SETTLED {
                return;
            }
            if open != last {
                (last, moved) = (open, Instant::now());
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn tell(&self, what: &str) {
        eprintln!("{what}: inward {}; outward {}", self.inward.told(), self.outward.told());
    }

    fn lost(&self) -> (usize, usize) {
        (self.inward.open(), self.outward.open())
    }
}

/// "Within five seconds", of a machine that may be busy with other tests: as many times that as processes wait for each of its
/// processors.
fn fair() -> Duration {
    Duration::from_secs(5).mul_f64(crowd())
}

/// Which node has these stanzas now.
fn serving(scene: &Nodes, talk: &mut Talk, flow: &str) -> usize {
    let counts = || -> Vec<f64> {
        (0..3).map(|node| scene.count(node, "gatehouse_stanzas_total", &[("flow", flow)])).collect()
    };
    let before = counts();
    talk.say(5, Duration::from_millis(10));
    talk.settle();
    let after = counts();
    (0..3).find(|node| after[*node] > before[*node]).expect("a node that serves")
}

fn others_see(scene: &Nodes, node: usize, count: f64) {
    wait_for(&format!("the nodes to be {count}"), Duration::from_secs(30), || {
        match scene.count(node, "gatehouse_cluster_nodes", &[]) {
            seen if seen == count => Ok(()),
            seen => Err(seen.to_string()),
        }
    });
}

fn ban(scene: &Nodes, node: usize, words: &[&str]) {
    let (code, said) = scene.nodes[node].command("ban", words);
    assert_eq!(code, Some(0), "{said}");
}

fn bans(scene: &Nodes, node: usize) -> BTreeMap<String, u64> {
    let (code, said) = scene.nodes[node].command(
        &format!("bans-{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
        &["bans", "--format", "json"],
    );
    assert_eq!(code, Some(0), "{said}");
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
    let entry =
        |ban: &serde_json::Value| Some((ban["target"].as_str()?.to_owned(), ban["seconds"].as_u64()?));
    answer["bans"].as_array().unwrap().iter().filter_map(entry).collect()
}

/// Logs are told apart by it.
static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

fn are_banned(scene: &Nodes, expected: &[&str]) {
    for node in 0..3 {
        wait_for(&format!("node {node} to ban {expected:?}"), Duration::from_secs(30), || {
            let found = bans(scene, node);
            match found.keys().map(String::as_str).eq(expected.iter().copied()) {
                true => Ok(()),
                false => Err(format!("{found:?}")),
            }
        });
    }
}

// CLU-06: "all nodes restarted one by one under traffic": 10,000 numbered messages each way, and none is lost: what a node that goes
// cannot bring on comes back to who wrote it.
#[test]
fn all_nodes_are_restarted_one_by_one_under_traffic() {
    let mut scene = three(&[LOUD; 3]);
    let mut talk = Talk::begin(&scene);
    thread::scope(|scope| {
        let speaker = scope.spawn(|| talk.say(MESSAGES, PACE));
        sleep(Duration::from_secs(3));
        for node in &mut scene.nodes {
            let begun = Instant::now();
            node.drain();
            node.again();
            eprintln!("restarted after {:?}", begun.elapsed());
            sleep(Duration::from_secs(4));
        }
        assert!(!speaker.is_finished(), "all of it happened under traffic");
        speaker.join().unwrap();
    });
    talk.settle();
    talk.tell("all nodes restarted, one by one");
    // A node that drains led the server behind to itself, whose question about a key was lost there: half a minute each time.
    for (name, way) in [("inward", &talk.inward), ("outward", &talk.outward)] {
        let pause = way.pause().expect("something arrived");
        eprintln!("{name}: {pause:?} at most without an arrival");
        assert!(pause < fair(), "{name}: {pause:?}; what came back said {:?}", way.told);
    }
    assert_eq!(talk.lost(), (0, 0));
    for node in 0..3 {
        others_see(&scene, node, 3.0);
    }
}

// CLU-06: "A node that dies loses ... at most what stood in its queues (L-queue a pair)": `kill -9` of the node that serves each
// way, under traffic; the next node takes over within five seconds.
#[test]
fn a_killed_node_costs_little_and_the_next_takes_over_within_five_seconds() {
    for way in ["s2s-in", "s2s-out"] {
        let mut scene = three(&[LOUD; 3]);
        let mut talk = Talk::begin(&scene);
        let victim = serving(&scene, &mut talk, way);
        let killed = thread::scope(|scope| {
            let speaker = scope.spawn(|| talk.say(3_000, Duration::from_millis(5)));
            let carried = |scene: &Nodes| scene.count(victim, "gatehouse_stanzas_total", &[("flow", way)]);
            let before = carried(&scene);
            wait_for(&format!("the node to carry the traffic of {way}"), Duration::from_secs(10), || {
                match carried(&scene) - before {
                    many if many > 400.0 => Ok(()),
                    few => Err(few.to_string()),
                }
            });
            let killed = Instant::now();
            scene.nodes[victim].kill();
            let dead = Instant::now();
            speaker.join().unwrap();
            (killed, dead)
        });
        // On a busy machine the way may be open again only when all of it was said.
        let is_back =
            |talk: &Talk| [&talk.inward, &talk.outward].iter().all(|way| way.recovered(killed).is_some());
        while !is_back(&talk) && killed.0.elapsed() < fair() {
            talk.say(10, Duration::from_millis(20));
        }
        talk.settle();
        talk.tell(&format!("the node of {way} killed"));
        // What a busy process has not read yet dies with it, too.
        let (fair, queue) = (fair(), QUEUE as f64 * crowd());
        for (name, side) in [("inward", &talk.inward), ("outward", &talk.outward)] {
            let recovered = side.recovered(killed).expect("traffic goes on");
            eprintln!("{way} killed: {name} goes on after {recovered:?} of {fair:?}");
            assert!(recovered < fair, "{name} goes on after {recovered:?}");
            assert!(side.open() as f64 <= queue, "{name}: {}; {queue} may be lost", side.told());
        }
        scene.nodes[victim].again();
        others_see(&scene, victim, 3.0);
    }
}

// A node that is frozen and continued: nothing is lost, the others see that it is away, and what it still believes brings back no ban
// that was lifted meanwhile.
#[test]
fn a_frozen_node_comes_back_and_overwrites_nothing() {
    let scene = three(&[LOUD; 3]);
    let mut talk = Talk::begin(&scene);
    let victim = serving(&scene, &mut talk, "s2s-in");
    let other = (victim + 1) % 3;
    ban(&scene, victim, &["ban", "old.example", "--for", "1h", "--cluster"]);
    are_banned(&scene, &["old.example"]);
    scene.nodes[victim].signal(Signal::STOP);
    talk.say(500, Duration::from_millis(10));
    ban(&scene, other, &["unban", "old.example", "--cluster"]);
    ban(&scene, other, &["ban", "new.example", "--for", "1h", "--cluster"]);
    others_see(&scene, other, 2.0);
    scene.nodes[victim].signal(Signal::CONT);
    talk.say(100, Duration::from_millis(10));
    others_see(&scene, other, 3.0);
    are_banned(&scene, &["new.example"]);
    talk.settle();
    talk.tell("a node frozen and continued");
    assert_eq!(talk.lost(), (0, 0));
}

// A node that is cut off from everybody and comes back: it goes on by itself, and each hears what the other has decided.
#[test]
fn a_node_that_was_cut_off_hears_and_is_heard_when_it_is_back() {
    let scene = three(&[LOUD; 3]);
    let mut talk = Talk::begin(&scene);
    let victim = serving(&scene, &mut talk, "s2s-in");
    let other = (victim + 1) % 3;
    scene.nodes[victim].plug(false);
    talk.say(500, Duration::from_millis(10));
    ban(&scene, other, &["ban", "there.example", "--for", "1h", "--cluster"]);
    ban(&scene, victim, &["ban", "here.example", "--for", "1h"]);
    others_see(&scene, other, 2.0);
    wait_for("the node to tell that it is alone", Duration::from_secs(30), || {
        match scene.count(victim, "gatehouse_cluster_store_up", &[]) {
            0.0 => Ok(()),
            up => Err(up.to_string()),
        }
    });
    scene.nodes[victim].plug(true);
    talk.say(100, Duration::from_millis(10));
    are_banned(&scene, &["here.example", "there.example"]);
    others_see(&scene, victim, 3.0);
    talk.settle();
    talk.tell("a node cut off and back");
    let (inward, outward) = talk.lost();
    assert!(inward <= QUEUE && outward <= QUEUE, "{inward} and {outward}");
}

// CLU-04: the store is cut off from all nodes under traffic: nothing comes from it and nothing is refused either. Each node tells it and
// goes on, and what was decided meanwhile is known everywhere when it is back.
#[test]
fn a_store_that_is_cut_off_costs_no_stanza_and_no_ban() {
    let scene = three(&[LOUD; 3]);
    let mut talk = Talk::begin(&scene);
    let up = |value: f64| {
        for node in 0..3 {
            wait_for(&format!("node {node} to tell of the store"), Duration::from_secs(30), || {
                match scene.count(node, "gatehouse_cluster_store_up", &[]) {
                    up if up == value => Ok(()),
                    up => Err(up.to_string()),
                }
            });
        }
    };
    ban(&scene, 0, &["ban", "before.example", "--for", "1h", "--cluster"]);
    are_banned(&scene, &["before.example"]);
    up(1.0);
    scene.plug_store(false);
    talk.say(500, Duration::from_millis(10));
    up(0.0);
    // The admin listener answers 200: the node serves, and says what it does without.
    assert!(scene.nodes[1].admin("/readyz").contains("cluster: "), "{}", scene.nodes[1].admin("/readyz"));
    for (node, domain) in ["first.example", "second.example", "third.example"].into_iter().enumerate() {
        ban(&scene, node, &["ban", domain, "--for", "1h"]);
    }
    assert_eq!(bans(&scene, 1).keys().collect::<Vec<_>>(), ["before.example", "second.example"]);
    talk.say(100, Duration::from_millis(10));
    scene.plug_store(true);
    talk.say(100, Duration::from_millis(10));
    are_banned(&scene, &["before.example", "first.example", "second.example", "third.example"]);
    up(1.0);
    others_see(&scene, 0, 3.0);
    talk.settle();
    talk.tell("the store cut off and back");
    assert_eq!(talk.lost(), (0, 0));
}

// A node whose clock is an hour off: all tell it, bans end everywhere when they should, and who decides them does not matter.
#[test]
fn a_node_with_a_wrong_clock_ends_no_ban_of_others() {
    let scene =
        three(&[Node { clock: Some("+3600s"), ..LOUD }, LOUD, Node { clock: Some("-3600s"), ..LOUD }]);
    for node in 0..3 {
        wait_for("all to tell of the clock", Duration::from_secs(30), || {
            match scene.count(node, "gatehouse_cluster_mismatch", &[("what", "clock")]) {
                1.0 => Ok(()),
                none => Err(none.to_string()),
            }
        });
        let (_, text) = scene.nodes[node].command("cluster", &["cluster"]);
        assert!(text.contains("by its clock"), "{text}");
    }
    for (node, domain) in ["ahead.example", "middle.example", "behind.example"].into_iter().enumerate() {
        ban(&scene, node, &["ban", domain, "--for", "30m", "--cluster"]);
    }
    are_banned(&scene, &["ahead.example", "behind.example", "middle.example"]);
    // Long enough for each to have said what it believes to be over.
    sleep(Duration::from_secs(5));
    for node in 0..3 {
        for (domain, seconds) in bans(&scene, node) {
            assert!((1700..=1801).contains(&seconds), "node {node}: {domain} for {seconds} s");
        }
    }
    are_banned(&scene, &["ahead.example", "behind.example", "middle.example"]);
    for (node, domain) in ["middle.example", "behind.example", "ahead.example"].into_iter().enumerate() {
        ban(&scene, node, &["unban", domain, "--cluster"]);
    }
    are_banned(&scene, &[]);
}

/// Messages each way, and from one to the next.
const MESSAGES: usize = 10_000;
const PACE: Duration = Duration::from_millis(4);

/// What a pair may have in a queue (L-queue).
const QUEUE: usize = 100;

/// Nothing comes any more when nothing has come for so long.
const SETTLED: Duration = Duration::from_secs(15);

const POLICY: &str = r#"version: v1
defaults: { identity: [certificate, dialback], tls: "1.2" }
rules:
  - { name: family, domains: [friend.example], verdict: allow }
"#;
