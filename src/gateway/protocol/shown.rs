//! What answers show: streams, circuits, bans, who is in quarantine, and what each of several nodes says.

use serde::{Deserialize, Serialize};

use super::Answer;
use super::pairs::{Client, Pair};

/// A living connection or errand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name, as in logs and records.
    pub stream: String,
    /// `stream`, `courier` or `verifier`.
    pub kind: String,
    /// `c2s`, `s2s-in` or `s2s-out`.
    pub flow: String,
    /// The address that it came from; none if it is our own errand.
    pub peer: Option<String>,
    /// When it began.
    pub since: String,
    /// The pairs that stand.
    pub pairs: Vec<Pair>,
    /// The client, once it is logged in.
    pub client: Option<Client>,
}

/// A remote domain that did not answer lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// The remote domain.
    pub domain: String,
    /// The hosted domain as whose partner it did not answer; none: it answered nobody.
    pub hosted: Option<String>,
    /// `failing`, or `open` after repeated failures.
    pub state: String,
    /// Failures in a row.
    pub failures: u32,
    /// Why the last attempt failed.
    pub reason: String,
    /// Seconds since the first of these failures.
    pub since: u64,
    /// Milliseconds until the next stanza for it is a reason to try again.
    pub next: u64,
    /// How often nothing was tried because of it.
    pub untried: u64,
}

/// A ban in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The network or domain.
    pub target: String,
    /// Seconds until it ends.
    pub seconds: u64,
    /// The user who asked for it.
    pub uid: u32,
}

/// A registrable domain that is or was in quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which; what holds for it holds for all below it.
    pub domain: String,
    /// `waiting`, `approved` or `refused`.
    pub state: String,
    /// The rule by which it came there, `default` for `federation: quarantine`; empty if it was not seen yet.
    pub rule: String,
    /// When it was seen first.
    pub since: String,
    /// When it was seen last.
    pub last: String,
    /// Stanzas that were refused for their rate.
    pub refused: u64,
    /// Quiet days that lie behind it.
    pub quiet: usize,
    /// After so many it is approved by itself; none: it never is.
    pub quiet_days: Option<u32>,
    /// When it was decided about.
    pub decided: Option<String>,
    /// The user who decided; none: nobody has, or quiet days have passed.
    pub uid: Option<u32>,
}

/// What one of several nodes answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfNode {
    /// Its name, new with each start.
    pub node: String,
    /// The name of its machine.
    pub host: String,
    /// Its answer.
    pub answer: Answer,
}

/// Whether the store that nodes share has taken something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Why it has not; the others hear of it when it is back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
