//! What the tests over real sockets have in common: a border with two hosted domains, and the ways to cross it.

// Each test crate uses its own part of it.
#![allow(dead_code)]

use std::time::Duration;

use gatehouse::demo::node::Node;
use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::session::{Call, Login, Session, Word};
use gatehouse::demo::world::{Metrics, Plan, World};
use serde_json::Value;

/// A hosted domain that federates with listed domains.
pub const HALL: &str = "hall.example";
/// A second hosted domain, at the same backend, with a list of its own.
pub const ANNEX: &str = "annex.example";
/// Listed, and may prove itself either way.
pub const FRIEND: &str = "friend.example";
/// Listed, like its friend.
pub const COUSIN: &str = "cousin.example";
/// Listed nowhere.
pub const STRANGER: &str = "stranger.example";

/// The rules of hall.example.
pub const POLICY: &str = r#"version: v1
rules:
  - name: partners
    domains: [friend.example, "*.friend.example", cousin.example, "bücher.example"]
  - name: agencies
    domains: ["*.agency.example"]
  - { name: pinned, domains: [pinned.example], identity: [certificate] }
  - { name: banned, domains: [spam.friend.example, "*.spam.friend.example"], verdict: deny }
  - { name: readers, domains: [reader.example], direction: outbound }
"#;

/// The rules of annex.example: cousin.example alone.
pub const ANNEX_POLICY: &str = r#"version: v1
rules:
  - { name: annex-partners, domains: [cousin.example] }
"#;

/// The plan of the border. Some tests open many streams from one address, which is what those two limits are there to stop.
pub fn plan() -> Plan {
    Plan::listed(HALL, POLICY)
        .and(ANNEX, "listed", Some(ANNEX_POLICY))
        .limit("conn-s2s", "1000")
        .limit("rate", "6000/min")
}

/// The border, with nobody outside yet.
pub async fn border() -> World {
    World::build(&plan()).await.unwrap()
}

/// An ordinary server for this domain.
pub async fn peer(world: &World, host: u8, domain: &str) -> Peer {
    world.peer(host, &[domain], Manner::default()).await.unwrap()
}

/// A stream of this peer to that hosted domain, proven by certificate.
pub async fn by_certificate(peer: &Peer, hosted: &str) -> Session {
    let mut stream = peer.call(hosted).unwrap().open().await.unwrap();
    assert_eq!(stream.external(peer.domain()).await.unwrap(), Login::Success);
    stream
}

/// A stream of this peer to that hosted domain, proven by dialback.
pub async fn by_dialback(peer: &Peer, hosted: &str) -> Session {
    let mut stream = peer.call_bare(hosted).unwrap().open().await.unwrap();
    assert_eq!(stream.dialback(peer.domain(), hosted).await.unwrap(), Word::Valid);
    stream
}

/// A call with another `from` in its header.
pub fn as_domain(mut call: Call, from: Option<&str>) -> Call {
    call.greeting.from = from.map(str::to_owned);
    call
}

/// What a refusal must not cost: queries about the domain, visits to the backend.
pub struct Costs {
    domain: String,
    queries: usize,
    visits: usize,
    metrics: Metrics,
}

impl Costs {
    /// The costs so far.
    pub async fn of(world: &World, domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            queries: world.names.asked_about(domain),
            visits: world.legacy.visits(),
            metrics: world.metrics().await.unwrap(),
        }
    }

    /// POL-04: nothing was spent since, and the verdict was counted with this reason.
    pub async fn nothing_but(&self, world: &World, reason: &str) {
        let labels = [("outcome", "deny"), ("reason", reason)];
        let before = self.metrics.sum("policy_verdicts_total", &labels);
        world.counted("policy_verdicts_total", &labels, before + 1.0).await.unwrap();
        self.nothing(world);
    }

    /// Nothing was spent since.
    pub fn nothing(&self, world: &World) {
        assert_eq!(
            world.names.asked_about(&self.domain),
            self.queries,
            "the DNS was asked about {}",
            self.domain
        );
        assert_eq!(world.legacy.visits(), self.visits, "the backend was contacted");
    }
}

/// The dialback error with this condition.
pub fn error(condition: &str) -> Word {
    Word::Error(condition.to_owned())
}

/// The condition inside a stanza of type error.
pub fn condition(stanza: &Node) -> Option<&str> {
    assert_eq!(stanza.attr("type"), Some("error"), "{}", stanza.raw);
    stanza.child("error").and_then(Node::condition)
}

/// Shows that the pair still passes stanzas, and waits until this one has arrived; so has, then, all that was sent before.
pub async fn still_passes(world: &World, stream: &mut Session, from: &str, to: &str, body: &str) {
    stream.message(from, to, body).await.unwrap();
    world.legacy.inbox.wait_body(body).await.unwrap();
}

/// The lines of the audit log that fit, once there are so many: an answer is out before its record is on the disk.
async fn lines(world: &World, least: usize, fits: impl Fn(&str) -> bool) -> Vec<String> {
    let path = world.folder.path().join("audit.jsonl");
    for _ in 0..1500 {
        let text = std::fs::read_to_string(&path).unwrap();
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let found: Vec<String> = whole.lines().filter(|line| fits(line)).map(str::to_owned).collect();
        if found.len() >= least {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no {least} such records: {}", std::fs::read_to_string(&path).unwrap());
}

/// The audit records that fit, once there are so many.
pub async fn records(world: &World, least: usize, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    lines(world, least, |line| fits(&read(line))).await.iter().map(|line| read(line)).collect()
}

/// The first of them, once there is one.
pub async fn record(world: &World, fits: impl Fn(&Value) -> bool) -> Value {
    records(world, 1, fits).await.swap_remove(0)
}

/// Waits until an audit record has all of these words.
pub async fn recorded(world: &World, words: &[&str]) {
    lines(world, 1, |line| words.iter().all(|word| line.contains(word))).await;
}

/// The refusals of stanzas counted so far for this reason.
pub async fn refused(world: &World, reason: &str) -> f64 {
    world.metrics().await.unwrap().sum("stanzas_refused_total", &[("reason", reason)])
}

/// Waits until one more refusal is counted.
pub async fn one_more_refused(world: &World, reason: &str, before: f64) {
    world.counted("stanzas_refused_total", &[("reason", reason)], before + 1.0).await.unwrap();
}

/// A pair of cousin.example's that has nothing to do with the trouble, to be asked whether it was harmed.
pub struct Bystander {
    peer: Peer,
    stream: Session,
    user: &'static str,
    words: usize,
}

impl Bystander {
    /// A pair with the domain of this hosted user, who takes part in its talk.
    pub async fn of(world: &World, user: &'static str) -> Self {
        let peer = peer(world, 99, COUSIN).await;
        let stream = by_certificate(&peer, user.split_once('@').unwrap().1).await;
        Self { peer, stream, user, words: 0 }
    }

    /// It passes stanzas both ways, and without delay.
    pub async fn unharmed(&mut self, world: &World) {
        self.words += 1;
        let body = format!("unharmed {}", self.words);
        still_passes(world, &mut self.stream, "c@cousin.example", self.user, &body).await;
        world.legacy.message(self.user, "c@cousin.example", &body);
        self.peer.inbox.wait_body(&body).await.unwrap();
    }
}
