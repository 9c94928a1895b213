//! The store that nodes of one domain share, on Redis or Valkey: what a node says to it and what it hears.
//!
//! Nothing waits for the store but who keeps it company in a task of its own, and every wait has its end. What it holds is
//! text by node, by ban, by domain in quarantine, and as rows of events and counts; what the texts mean, others know. All its keys begin with one prefix, which
//! keeps them in one slot of a Redis Cluster, and each expires.

mod address;
mod client;
mod shards;

pub use address::{Address, Layout};
pub use client::Store;

use std::collections::BTreeMap;
use std::fmt;

/// Which store, and under which name.
#[derive(Clone, PartialEq, Eq)]
pub struct Params {
    /// Where it is.
    pub address: Address,
    /// What it asks for.
    pub password: Option<String>,
    /// Trust anchors as PEM, for TLS; none: those of the system.
    pub roots: Option<Vec<u8>>,
    /// The name that the nodes have together.
    pub name: String,
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params")
            .field("address", &self.address)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How far a row of events was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// To the one with this name.
    Event(String),
    /// Not at all; what is older than the newest by more than so many milliseconds need not be. The clock of the store counts:
    /// that of the node may be wrong.
    Newest(i64),
}

/// What a node hears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What time it is by its clock when this is heard, in milliseconds since 1970.
    pub time: i64,
    /// The word of each node, by its name.
    pub nodes: BTreeMap<String, String>,
    /// The record of each ban, by its target.
    pub bans: BTreeMap<String, String>,
    /// Who is in quarantine, by domain, where that was asked.
    pub quarantine: BTreeMap<String, String>,
    /// Events that came after the one that was named, each with its name.
    pub events: Vec<(String, String)>,
    /// What was counted, likewise.
    pub counts: Vec<(String, String)>,
}

/// What was heard of a row, each entry with its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// What it holds.
    pub entries: Vec<(String, String)>,
    /// Whether there is no more of it.
    pub is_all: bool,
}

/// What a node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReport {
    /// Its name and its word.
    pub node: (String, String),
    /// Nodes that are no more.
    pub gone: Vec<String>,
    /// Bans with their records.
    pub bans: Vec<(String, String)>,
    /// Bans that nobody needs to know of any more.
    pub over: Vec<String>,
    /// Who is in quarantine, with their records.
    pub quarantine: Vec<(String, String)>,
    /// Those of them whom nobody needs to know any more.
    pub forgotten: Vec<String>,
    /// Events, in their order.
    pub events: Vec<String>,
    /// What was counted, in its order.
    pub counts: Vec<String>,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// It cannot be reached, or does not answer in time.
    Silent(String),
    /// It answers, and says no.
    Refused(String),
    /// It holds what no node of ours has put there.
    Foreign(String),
}

impl StoreFault {
    /// So many entries of it cannot be read; the rest is.
    pub fn unread(count: usize) -> Self {
        let who = "another program writes there, or a node of another version";
        Self::Foreign(format!("{count} of its entries cannot be read, and are passed over: {who}"))
    }
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(why) => write!(f, "the store cannot be reached: {why}"),
            Self::Refused(why) => write!(f, "the store refuses: {why}"),
            Self::Foreign(why) => write!(f, "the store holds something else: {why}"),
        }
    }
}

impl std::error::Error for StoreFault {}
