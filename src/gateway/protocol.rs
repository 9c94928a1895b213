//! What is said over the control socket: one JSON object a line, a request and its answer.
//!
//! `gatehouse streams` and its sisters speak it (`cli/control`), and scripts may. Words of peers appear escaped and
//! capped, as in logs (LOG-03).

mod pairs;
mod plan;
mod questions;
mod shown;

use serde::{Deserialize, Serialize};

pub use self::pairs::{Client, CountedStream, Pair};
pub use self::plan::{ByRule, Change, Plan, ToldFinding};
pub use self::shown::{Ban, Circuit, OfNode, Passed, Quarantined, Stream};
use super::explain::Query;
pub use super::used::{Shadowed, Unused};
use crate::config::DumpLine;
pub use crate::peers::{Named, Peer};
pub use crate::run::quarantine::Disposition;
pub use crate::run::refusals::RefusalRecord;
pub use crate::run::shadow::{Otherwise, Passes, Report};
pub use crate::status::Snapshot;

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Who lives.
    Streams {
        /// On all nodes that share a store with this one, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cluster: bool,
    },
    /// What is remembered against a remote domain.
    Target {
        /// Which one.
        domain: String,
        /// As the partner of this hosted domain; without it, of any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// Which remote domains did not answer lately; what is held against one of them is forgotten first.
    Circuits {
        /// Whose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clear: Option<String>,
    },
    /// End a stream by its name, or all that carry a domain, or the clients of an address.
    Close {
        /// The name, the domain, or the bare or full address.
        target: String,
        /// On all nodes that share a store with this one, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cluster: bool,
    },
    /// Take nothing from an address, a network or a domain for a while.
    Ban {
        /// Whom.
        target: String,
        /// For how long.
        seconds: u64,
        /// Have the other nodes that share a store with this one hear of it before the answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cluster: bool,
    },
    /// Lift a ban.
    Unban {
        /// Whom.
        target: String,
        /// Have the other nodes that share a store with this one hear of it before the answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cluster: bool,
    },
    /// Which bans hold.
    Bans {},
    /// Who is in quarantine, and who was let out or shut out.
    Quarantine {},
    /// Let a domain in quarantine out, shut it out, or take that back.
    Settle {
        /// A domain; what its registrable part names is meant.
        domain: String,
        /// `approved`, `refused` or `held`.
        word: Disposition,
        /// Have the other nodes that share a store with this one hear of it before the answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cluster: bool,
    },
    /// How it stands with the other nodes.
    Cluster {},
    /// Read the configuration and every file that it names again.
    Reload {
        /// Only tell what would come of it.
        #[serde(default)]
        plan: bool,
    },
    /// What the policy in the shadow would change.
    Shadow {},
    /// What a reload would mean if what is in the shadow were in force.
    Promotion {},
    /// Rules and cases that were not used for a while.
    Unused {
        /// For how long.
        seconds: u64,
    },
    /// The last refusals.
    Refusals {
        /// Those in which this domain takes part.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        domain: Option<String>,
        /// Those with this reason or cause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// At most so many, the newest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<usize>,
        /// Those after this number.
        #[serde(default)]
        after: u64,
        /// On all nodes that share a store with this one, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cluster: bool,
    },
    /// How remote domains were proven, and what of that waits.
    Peers {
        /// Of this remote domain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        domain: Option<String>,
    },
    /// What waits of a remote domain is the partner's, or is not.
    Recognise {
        /// Whose.
        domain: String,
        /// What has this key; `none` for what shows no certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Whether it is the partner's.
        approve: bool,
    },
    /// What is known of a remote domain is the partner's no more: it waits from now on, and its streams end.
    Forget {
        /// Whose.
        domain: String,
        /// What has this key; `none` for what shows no certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// End in good order, and begin anew as the files say.
    Restart {},
    /// What is in force.
    Config {},
    /// What the policy in force says to a question.
    Explain(Query),
    /// Log otherwise from now on.
    Log {
        /// `error`, `warn`, `info`, `debug` or `trace`.
        level: String,
        /// Where; everywhere if none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        area: Option<String>,
        /// For how long; until the next word or reload if none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// How everything is.
    Status {
        /// The page of the pairs, from 1.
        #[serde(default)]
        page: usize,
        /// On all nodes that share a store with this one, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cluster: bool,
    },
    /// End in good order.
    Drain {},
}

impl Request {
    /// The word for it in records.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Streams { .. } => "streams",
            Self::Target { .. } => "target",
            Self::Circuits { clear: None } => "circuits",
            Self::Circuits { clear: Some(_) } => "circuits-clear",
            Self::Close { .. } => "close",
            Self::Ban { .. } => "ban",
            Self::Unban { .. } => "unban",
            Self::Bans {} => "bans",
            Self::Quarantine {} => "quarantine",
            Self::Settle { word: Disposition::Approved, .. } => "quarantine-approve",
            Self::Settle { word: Disposition::Held, .. } => "quarantine-hold",
            Self::Settle { word: Disposition::Refused, .. } => "quarantine-refuse",
            Self::Cluster {} => "cluster",
            Self::Reload { plan: false } => "reload",
            Self::Reload { plan: true } => "reload-plan",
            Self::Shadow {} => "shadow",
            Self::Promotion {} => "promotion-plan",
            Self::Unused { .. } => "unused",
            Self::Refusals { .. } => "refusals",
            Self::Peers { .. } => "peers",
            Self::Recognise { approve: true, .. } => "peers-approve",
            Self::Recognise { approve: false, .. } => "peers-dismiss",
            Self::Forget { .. } => "peers-forget",
            Self::Restart {} => "restart",
            Self::Config {} => "config",
            Self::Explain(_) => "explain",
            Self::Log { .. } => "log",
            Self::Status { .. } => "status",
            Self::Drain {} => "drain",
        }
    }

    /// The same of one node alone, where all are asked what they know.
    pub fn of_each(&self) -> Option<Self> {
        let mut one = self.clone();
        match &mut one {
            Self::Streams { cluster } | Self::Refusals { cluster, .. } | Self::Status { cluster, .. } => {
                std::mem::take(cluster).then_some(one)
            }
            _ => None,
        }
    }

    /// What it is about.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Target { domain, .. }
            | Self::Settle { domain, .. }
            | Self::Recognise { domain, .. }
            | Self::Forget { domain, .. } => Some(domain),
            Self::Refusals { domain, .. } | Self::Peers { domain } => domain.as_deref(),
            Self::Log { level, .. } => Some(level),
            Self::Close { target, .. } | Self::Ban { target, .. } | Self::Unban { target, .. } => {
                Some(target)
            }
            Self::Circuits { clear } => clear.as_deref(),
            Self::Streams { .. }
            | Self::Bans {}
            | Self::Quarantine {}
            | Self::Cluster {}
            | Self::Shadow {}
            | Self::Promotion {}
            | Self::Unused { .. }
            | Self::Reload { .. }
            | Self::Restart {}
            | Self::Config {}
            | Self::Status { .. }
            | Self::Explain(_)
            | Self::Drain {} => None,
        }
    }
}

/// What the gateway answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Who lives.
    Streams {
        /// One entry for each connection or errand.
        streams: Vec<Stream>,
        /// How many did not answer in time.
        silent: usize,
    },
    /// What is remembered against a remote domain.
    Target {
        /// Failures to reach it, in a row.
        failures: u32,
        /// Whether its circuit is open.
        open: bool,
        /// Seconds until it is tried again.
        seconds: u64,
        /// Why the last attempt failed.
        reason: Option<String>,
    },
    /// Remote domains that did not answer lately.
    Circuits {
        /// In the order of their names.
        circuits: Vec<Circuit>,
        /// What is held against this domain was forgotten.
        cleared: Option<String>,
    },
    /// These were told to end.
    Closed {
        /// Their names.
        streams: Vec<String>,
        /// The other nodes are told within a second, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cluster: bool,
    },
    /// The ban holds.
    Banned {
        /// Whom it is about, as the gateway writes it.
        target: String,
        /// For how long.
        seconds: u64,
        /// Pairs that it ended.
        pairs: usize,
        /// Connections without a pair that it ended.
        connections: usize,
        /// Whether the other nodes know, where that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<Passed>,
    },
    /// The ban is lifted.
    Unbanned {
        /// Whom it was about.
        target: String,
        /// Whether the other nodes know, where that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<Passed>,
    },
    /// Which bans hold.
    Bans {
        /// Those that end first come first.
        bans: Vec<Ban>,
    },
    /// Who is in quarantine, and who was let out or shut out.
    Quarantine {
        /// Those that wait first, then by when they were seen last.
        domains: Vec<Quarantined>,
    },
    /// It was decided.
    Settled {
        /// The registrable domain.
        domain: String,
        /// What.
        word: Disposition,
        /// Whether it was seen before.
        seen: bool,
        /// Pairs that end.
        pairs: usize,
        /// What decides about it before that, in words; none: this counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        overruled: Option<String>,
        /// Whether the other nodes know, where that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<Passed>,
    },
    /// What each node knows.
    Nodes {
        /// This one first.
        nodes: Vec<OfNode>,
        /// Those that did not answer in time: the machine, and behind it the name of the node.
        silent: Vec<String>,
    },
    /// How it stands with the other nodes.
    Cluster {
        /// The same as on the status page.
        cluster: crate::status::Cluster,
    },
    /// What the policy in the shadow would change.
    Shadow {
        /// The domains that have one.
        domains: Vec<Shadowed>,
        /// Pairs, rules and stanzas that would be decided otherwise.
        report: Box<Report>,
        /// How many relays did not answer in time; whether their pairs live is not told.
        silent: usize,
    },
    /// Rules and cases that were not used for a while.
    Unused {
        /// The rules.
        rules: Vec<Unused>,
        /// The cases: nobody has asked for their pairs.
        cases: Vec<Unused>,
        /// Rules and cases that were not used either, and are counted for less than that time.
        young: usize,
        /// Whether what is counted outlives a restart (`state`).
        kept: bool,
        /// The time.
        seconds: u64,
        /// How many relays did not answer in time; what they carry may be in use.
        silent: usize,
    },
    /// The last refusals, the oldest first.
    Refusals {
        /// Each with who, what, why and what to do.
        refusals: Vec<RefusalRecord>,
    },
    /// How remote domains were proven.
    Peers {
        /// What waits first, then what changed last.
        peers: Vec<Peer>,
        /// How many there are besides.
        more: usize,
        /// Whether what is remembered outlives a restart (`state`).
        kept: bool,
    },
    /// What waited does so no longer.
    Recognised {
        /// The pairs as they are remembered now.
        peers: Vec<Peer>,
        /// Whether it is the partner's.
        approved: bool,
        /// Each face of which that was said.
        #[serde(default)]
        faces: Vec<Named>,
    },
    /// What was known is so no more.
    Forgotten {
        /// Each face.
        faces: Vec<Named>,
        /// How many streams of that domain ended here.
        streams: usize,
    },
    /// It is logged so from now on.
    Logging {
        /// The level.
        level: String,
        /// Where; everywhere if none is named.
        area: Option<String>,
        /// For how many seconds.
        seconds: Option<u64>,
    },
    /// How everything is.
    Status {
        /// The same as on the status page.
        snapshot: Box<Snapshot>,
    },
    /// What was read is in force.
    Reloaded {
        /// What has come of it.
        plan: Plan,
    },
    /// What would come of it; nothing has changed.
    Planned {
        /// What would.
        plan: Plan,
    },
    /// No new connections are taken until the program has begun anew; they wait.
    Restarting {
        /// How many relays are left.
        relays: usize,
        /// After so many seconds what is left is cut.
        seconds: u64,
        /// Where its control socket will be, if it has one.
        #[serde(default)]
        socket: Option<String>,
    },
    /// What is in force.
    Config {
        /// The file that it was read from.
        file: String,
        /// The digest of that file.
        digest: String,
        /// The digest of the policy.
        policy: String,
        /// Files that differ on the disk from what is in force.
        stale: Vec<String>,
        /// Hosted domains that are closed for lack of a certificate that could be shown.
        closed: Vec<String>,
        /// Every key.
        lines: Vec<DumpLine>,
    },
    /// What the policy in force says.
    Explained {
        /// Whether it allows.
        allow: bool,
        /// In words, every rule considered.
        text: String,
        /// The same as data.
        explanation: serde_json::Value,
    },
    /// No new connections; the process ends when all is delivered or given back.
    Draining {
        /// How many relays are left.
        relays: usize,
        /// After so many seconds what is left is cut.
        seconds: u64,
    },
    /// The answer is no, and nothing has changed.
    Refused {
        /// Why.
        message: String,
        /// What is wrong with files.
        findings: Vec<ToldFinding>,
    },
}

impl Answer {
    /// A refusal without findings.
    pub fn no(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), findings: Vec::new() }
    }
}

/// Octets of a request, its line end included.
pub const LONGEST: usize = 4096;
