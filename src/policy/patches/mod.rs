//! Patches: stanzas that the server behind cannot bear and cannot be mended for, described by what stands in them.
//!
//! A set of patches is compiled once. Each child of a stanza pays for one look into a sieve of the namespaces that patches
//! name; only what is found there is read further. There is no order: whatever denies wins over what cuts, everything that
//! cuts does so, and of several that deny the first by name is told.

mod cases;
mod file;
mod judge;
mod matches;
mod read;

use std::collections::{BTreeMap, BTreeSet};

pub use cases::is_stanza;
pub use file::{ConditionSpec, PatchCaseSpec, PatchFile, PatchSource, PatchSpec};
pub use judge::{PatchQuestion, Struck};
pub use matches::PatchWord;
pub use read::{compile as compile_patches, try_alone as try_patches};

pub(in crate::policy) use cases::stanza_of;

use super::day::Day;
use super::finding::Place;
use super::question::StanzaKind;
use super::rules::RuleName;
use crate::jid::Domain;
use crate::reason::{Direction, Flow};

/// What a patch does with a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// It goes on without the payload.
    Cut,
    /// It is refused.
    Deny,
}

impl Action {
    /// The word in files, and the metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Deny => "deny",
        }
    }
}

/// A patch, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Its name.
    pub name: RuleName,
    /// Where it stands.
    pub place: Place,
    /// Why it is there.
    pub reason: String,
    /// Where more is said.
    pub reference: Option<String>,
    /// Who asked for it.
    pub owner: Option<String>,
    /// The last day on which it holds.
    pub expires: Option<Day>,
    /// What it does.
    pub action: Action,
    /// Whether it is only counted and told.
    pub shadow: bool,
    /// None: both.
    direction: Option<Direction>,
    between_servers: bool,
    of_clients: bool,
    /// None: all.
    hosted: Option<BTreeSet<Domain>>,
    kinds: BTreeSet<StanzaKind>,
    /// None: any; the empty word: no such attribute.
    types: Option<BTreeSet<String>>,
    payload: Option<String>,
    larger_than: Option<u64>,
    when: Vec<Condition>,
}

/// Elements of which so many must be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Condition {
    element: Option<String>,
    namespace: Option<String>,
    /// The first and the last depth.
    depth: (u32, u32),
    attribute: Option<String>,
    value: Option<String>,
    value_over: Option<u64>,
    text_over: Option<u64>,
    count: u32,
}

/// A compiled set of patches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patches {
    /// By name.
    list: Vec<Patch>,
    /// Which of them name this namespace as payload.
    by_payload: BTreeMap<String, Vec<usize>>,
    sieve: Sieve,
    /// Those that name none.
    of_any: Vec<usize>,
}

impl Patches {
    /// Every patch, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Patch> {
        self.list.iter()
    }

    /// The first day on which a patch that holds on that day will have expired.
    pub(super) fn next_expiry(&self, today: Day) -> Option<Day> {
        self.list.iter().filter_map(|patch| patch.expires).filter(|last| *last >= today).map(Day::next).min()
    }

    fn new(mut list: Vec<Patch>) -> Self {
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let mut patches = Self { list, ..Self::default() };
        for (index, patch) in patches.list.iter().enumerate() {
            match &patch.payload {
                Some(namespace) => {
                    patches.sieve.add(namespace);
                    patches.by_payload.entry(namespace.clone()).or_default().push(index);
                }
                None => patches.of_any.push(index),
            }
        }
        patches
    }
}

impl Patch {
    fn is_for(&self, asked: &PatchQuestion<'_>) -> bool {
        let flow = match asked.flow {
            Flow::C2s => self.of_clients,
            Flow::S2sIn | Flow::S2sOut => self.between_servers,
        };
        flow && self.direction.is_none_or(|only| only == asked.direction)
            && self.hosted.as_ref().is_none_or(|hosted| hosted.contains(asked.hosted))
            && !self.has_expired(asked.today)
    }

    /// Whether it says the same, wherever it stands.
    pub fn is_like(&self, other: &Patch) -> bool {
        *self == Patch { place: self.place.clone(), ..other.clone() }
    }

    /// Whose it is, for people, as of a rule: ` (owner Ada Novak)`, or nothing.
    pub fn people(&self) -> String {
        super::people(self.owner.as_deref(), None)
    }

    /// Whether its last day is past.
    pub fn has_expired(&self, today: Day) -> bool {
        self.expires.is_some_and(|last| today > last)
    }
}

/// Whether a namespace may be among some, by a few of its octets: no is certain, yes is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sieve(Box<[u64; 64]>);

impl Default for Sieve {
    fn default() -> Self {
        Self(Box::new([0; 64]))
    }
}

impl Sieve {
    fn add(&mut self, word: &str) {
        let (slot, bit) = Self::place(word);
        if let Some(bits) = self.0.get_mut(slot) {
            *bits |= bit;
        }
    }

    fn may_hold(&self, word: &str) -> bool {
        let (slot, bit) = Self::place(word);
        self.0.get(slot).is_some_and(|bits| bits & bit != 0)
    }

    fn place(word: &str) -> (usize, u64) {
        let octets = word.as_bytes();
        let at = |index: usize| u64::from(octets.get(index).copied().unwrap_or_default());
        let len = octets.len();
        let sum = (len as u64).wrapping_mul(0x9e37)
            ^ at(len / 2).wrapping_mul(0x85eb)
            ^ at(len.wrapping_sub(1)).wrapping_mul(0xc2b3)
            ^ at(len.wrapping_sub(3)).wrapping_mul(0x27d5);
        ((sum as usize >> 6) % 64, 1 << (sum % 64))
    }
}
