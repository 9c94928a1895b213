//! How the gateway is, as one snapshot: the page, the JSON beside it and the command line show the same.
//!
//! It gathers nothing itself and changes nothing: whoever runs the gateway fills a [`Snapshot`], and [`page`] and [`text`] say
//! it. Every word in it that comes from outside was escaped and capped before (LOG-03); the page escapes all of it once more
//! for HTML.

pub mod page;
pub mod text;

use serde::{Deserialize, Serialize};

use crate::run::refusals::RefusalRecord;

/// Everything that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The version that runs.
    pub version: String,
    /// When this was gathered, RFC 3339.
    pub time: String,
    /// When the process began.
    pub started: String,
    /// `starting`, `running`, `draining` or `stopped`.
    pub phase: String,
    /// The digest of the policy in force.
    pub policy: String,
    /// The digest of the configuration in force, as in `gatehouse_config_info`.
    pub config: String,
    /// Files that differ on the disk from what runs.
    pub stale: Vec<String>,
    /// What an operator should look at first, in words; empty where all is well.
    pub alarms: Vec<String>,
    /// The servers behind.
    pub backends: Vec<Backend>,
    /// Our certificates, the one that ends first at the top.
    pub certificates: Vec<OwnCertificate>,
    /// The pairs that stand, of this page.
    pub pairs: Vec<Pair>,
    /// How many pairs stand in all.
    pub all_pairs: usize,
    /// Which page this is, from 1, and how many there are.
    pub page: usize,
    /// How many pages there are.
    pub pages: usize,
    /// Clients that are logged in.
    pub clients: usize,
    /// Streams that did not say in time what they are.
    pub silent: usize,
    /// Remote domains that did not answer lately.
    pub circuits: Vec<Circuit>,
    /// The last refusals, the newest first.
    pub refusals: Vec<RefusalRecord>,
    /// The rules, those that expire first at the top.
    pub rules: Vec<Rule>,
    /// How many rules there are in all.
    pub all_rules: usize,
    /// The lists that rules may ask.
    #[serde(default)]
    pub lists: Vec<List>,
    /// Domains that wait in quarantine, and the last that were let out or shut out.
    #[serde(default)]
    pub quarantine: Vec<Quarantined>,
    /// How many there are in all.
    #[serde(default)]
    pub all_quarantine: usize,
    /// Remote domains that are proven in another way than before: what waits first.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// The bans in force.
    pub bans: Vec<Ban>,
    /// Limits that were met since the start.
    pub limits: Vec<Limit>,
    /// What the policy in the shadow would change, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// The nodes that share a store with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// Nodes that share a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The name that they have together.
    pub name: String,
    /// Where the store is.
    pub store: String,
    /// What ails the store; none if nothing does.
    pub trouble: Option<String>,
    /// Since when that is so.
    pub since: String,
    /// Bans, attempts to log in and orders that the others have not heard yet.
    pub untold: usize,
    /// The nodes, this one first.
    pub nodes: Vec<NodeRow>,
    /// In what they differ, in words.
    pub differences: Vec<String>,
}

/// One of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name, new with each start.
    pub node: String,
    /// The name of its machine.
    pub host: String,
    /// Its version.
    pub version: String,
    /// The digest of its configuration, less its own addresses.
    pub config: String,
    /// The digest of its policy.
    pub policy: String,
    /// `starting`, `running`, `draining` or `stopped`.
    pub phase: String,
    /// Connections and errands that live on it.
    pub streams: usize,
    /// Seconds since it was heard.
    pub heard: u64,
    /// Milliseconds by which its clock is ahead of ours.
    pub ahead: i64,
}

impl NodeRow {
    /// Its clock beside ours, in words. What the way to the store may hide is no difference.
    pub fn clock(&self) -> String {
        match self.ahead.unsigned_abs() < TOLD_FROM {
            true => "in step".to_owned(),
            false => format!("{:+} ms", self.ahead),
        }
    }
}

/// Milliseconds between clocks that are told.
const TOLD_FROM: u64 = 100;

/// One side of a server behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The hosted domain.
    pub domain: String,
    /// `s2s-in` or `c2s`.
    pub flow: String,
    /// `up`, `down`, `not looked at yet` or `not checked`.
    pub state: String,
    /// Since when.
    pub since: Option<String>,
    /// The server's name, where its stream tells.
    pub server: Option<String>,
    /// What else is to be known.
    pub note: Option<String>,
    /// Streams of ours that lead there, open or being opened; those of all domains of one server.
    #[serde(default)]
    pub streams: Option<usize>,
    /// Streams that wait until others give way.
    #[serde(default)]
    pub waiting: usize,
    /// Each address with what ails it, if anything does.
    pub addresses: Vec<BackendAddress>,
}

impl Backend {
    /// What is said of the streams that lead there.
    fn streams(&self) -> Option<String> {
        let open = self.streams?;
        Some(match self.waiting {
            0 => format!("{open} streams to it"),
            waiting => {
                format!("{open} streams to it, {waiting} wait for a place (`backend: {{ connections }}`)")
            }
        })
    }
}

/// An address of a server behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendAddress {
    /// Address and port.
    pub address: String,
    /// What is wrong, and what to do; none if nothing is.
    pub trouble: Option<String>,
    /// What else there is to say of it.
    #[serde(default)]
    pub remark: Option<String>,
}

impl BackendAddress {
    /// How it is, in words.
    pub fn words(&self) -> &str {
        self.trouble.as_deref().or(self.remark.as_deref()).unwrap_or("answers")
    }
}

/// A certificate of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCertificate {
    /// The hosted domain.
    pub domain: String,
    /// When it ends.
    pub not_after: String,
    /// Whole days left; negative when it has ended.
    pub days: i64,
}

/// A pair that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    /// The domain that speaks.
    pub from: String,
    /// The domain that is spoken to.
    pub to: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// How the remote domain was proven; outbound, how we were.
    pub proof: String,
    /// The TLS version of the public leg.
    pub tls: Option<String>,
    /// The rule that admitted it.
    pub rule: String,
    /// Since when its stream is open.
    pub since: String,
    /// Stanzas that passed.
    pub stanzas: u64,
    /// The address of the remote server.
    pub address: Option<String>,
}

/// A remote domain that did not answer lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// The domain.
    pub domain: String,
    /// The hosted domain for which it failed; none: for all.
    pub hosted: Option<String>,
    /// `open` or `failing`.
    pub state: String,
    /// Why it failed last.
    pub reason: String,
    /// Failures in a row.
    pub failures: u32,
    /// Seconds since the first of them.
    pub since: u64,
    /// Seconds until it is tried again.
    pub next: u64,
}

/// A rule of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: String,
    /// `allow` or `deny`.
    pub verdict: String,
    /// The last day on which it holds.
    pub expires: Option<String>,
    /// Whether that day is past.
    pub expired: bool,
    /// When it decided last.
    pub used: Option<String>,
    /// How often it decided.
    #[serde(default)]
    pub hits: u64,
    /// Since when that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

/// A list that somebody else keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Its name.
    pub name: String,
    /// How many domains the one in force names.
    pub domains: usize,
    /// Why its file is not taken, as in `gatehouse_list_held`; none if it is.
    pub held: Option<String>,
    /// The same in words, with what to do.
    pub note: Option<String>,
    /// Why the last fetch of it came to nothing.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Its file.
    pub file: String,
}

impl List {
    /// `in force`, or that its file is held and why.
    fn state(&self) -> String {
        self.held.as_ref().map_or_else(|| "in force".to_owned(), |held| format!("held: {held}"))
    }
}

/// What the policy in the shadow would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// Its digest.
    pub digest: String,
    /// Since when it is compared.
    pub since: String,
    /// Questions about pairs on which both say the same.
    pub alike: u64,
    /// Questions on which they do not.
    pub otherwise: u64,
    /// What is admitted now and would be refused: entries, not questions.
    pub refused: usize,
    /// What is refused now and would be admitted.
    pub admitted: usize,
    /// Stanzas that passed and would be refused.
    pub stanzas: u64,
    /// The changes that concern most.
    pub changes: Vec<ShadowChange>,
}

/// A pair that would be decided otherwise, or whose stanzas would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowChange {
    /// The domain that speaks.
    pub from: String,
    /// The domain that is spoken to.
    pub to: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `pair` or `stanza`; or `sender` and the address of one.
    pub what: String,
    /// What would be done: `allow`, `deny` or `quarantine`.
    pub next: String,
    /// Why it is refused, or would be.
    pub reason: String,
    /// The rule that decides now.
    pub rule: String,
    /// The rule that would decide.
    pub next_rule: String,
    /// How often the pair was asked about.
    pub asked: u64,
    /// Stanzas that it concerns.
    pub stanzas: u64,
    /// When it was seen last.
    pub last: String,
}

/// A registrable domain that is or was in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which.
    pub domain: String,
    /// `waiting`, `approved` or `refused`.
    pub state: String,
    /// The rule by which it came there.
    pub rule: String,
    /// When it was seen last.
    pub last: String,
    /// Stanzas that were refused for their rate.
    pub refused: u64,
    /// Quiet days that lie behind it, and how many are enough.
    pub quiet: String,
}

/// A pair whose remote domain is proven in another way than before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The domain that speaks.
    pub from: String,
    /// The domain that is spoken to.
    pub to: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// The rule that decided.
    pub rule: String,
    /// `waits`, or what was made of the change: `noted`, `approved` or `dismissed`.
    pub state: String,
    /// What has changed.
    pub what: String,
    /// How it was.
    pub before: String,
    /// How it is.
    pub after: String,
    /// When it changed.
    pub at: String,
}

/// A ban in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The network or domain.
    pub target: String,
    /// Seconds until it ends.
    pub seconds: u64,
}

/// A limit that was met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name, as in `gatehouse_limited_total`.
    pub limit: String,
    /// How often.
    pub times: u64,
}

/// Pairs on one page.
pub const PAGE: usize = 100;

impl Snapshot {
    /// Shows this page of all pairs, from 1; one that is not there is the nearest that is.
    pub fn turn_to(&mut self, page: usize, mut pairs: Vec<Pair>) {
        self.all_pairs = pairs.len();
        self.pages = pairs.len().div_ceil(PAGE).max(1);
        self.page = page.clamp(1, self.pages);
        pairs.sort();
        self.pairs = pairs.into_iter().skip((self.page - 1) * PAGE).take(PAGE).collect();
    }
}

/// Rules and refusals that are shown.
pub const SHOWN: usize = 50;
