//! What the policy in the shadow would have decided otherwise: which pairs and stanzas, by which rules, how often, since when.
//!
//! A table of bounded length, for unproven peers can cause entries. It begins anew with another policy in the shadow, and may be
//! kept over a restart.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::metrics::ShadowChange;
use crate::policy::{Beside, RuleName, Verdict};
use crate::reason::{Flow, Outcome, Reason, escaped};
use crate::stream::Pair;

/// A pair that would be decided otherwise, or whose stanzas would. Words of peers in it are escaped and capped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Otherwise {
    /// `s2s-in` or `s2s-out`.
    pub flow: String,
    /// The domain that speaks.
    pub from: String,
    /// The domain that is spoken to.
    pub to: String,
    /// `pair`: the pair as a whole; `stanza`: single stanzas of a pair that stands and would stand; `sender`: those of one sender.
    pub what: String,
    /// The bare address of that sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// What is done now: `allow` or `deny`; `quarantine` where that alone would end.
    pub now: String,
    /// What would be done: `allow`, `deny` or `quarantine`.
    pub next: String,
    /// Why it is refused, or would be: the reason's label.
    pub reason: String,
    /// The rule that decides now, `default` for none.
    pub rule: String,
    /// The rule that would decide.
    pub next_rule: String,
    /// Where that rule stands.
    pub place: Option<String>,
    /// How often the pair was asked about.
    pub asked: u64,
    /// Stanzas that passed and would not, or the other way round.
    pub stanzas: u64,
    /// Their octets.
    pub octets: u64,
    /// Streams that live now and carry it.
    #[serde(default)]
    pub living: usize,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
}

/// Questions about pairs that pass from one rule to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passes {
    /// The rule that decides now.
    pub rule: String,
    /// The rule that would decide.
    pub next_rule: String,
    /// `allow`, or the reason of the refusal now.
    pub now: String,
    /// The same as it would be.
    pub next: String,
    /// How many questions.
    pub asked: u64,
}

/// What there is to tell of the policy in the shadow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The digest of that policy; empty where there is none.
    pub digest: String,
    /// Since when it is compared.
    pub since: Option<Timestamp>,
    /// Questions about pairs on which both say the same, by whatever rule.
    pub alike: u64,
    /// Questions on which they do not.
    pub otherwise: u64,
    /// Questions that another rule decides, by the way that they go; the most frequent first.
    pub rules: Vec<Passes>,
    /// What would be decided otherwise; what has most stanzas first.
    pub changes: Vec<Otherwise>,
    /// Entries that were given up for want of room.
    pub left_out: u64,
}

/// The comparison, as long as it goes on.
#[derive(Debug, Default)]
pub struct Shadow {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    digest: String,
    since: Option<Timestamp>,
    alike: u64,
    otherwise: u64,
    rules: HashMap<(String, String, String, String), u64>,
    changes: HashMap<Key, Otherwise>,
    left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    flow: String,
    from: String,
    to: String,
    what: String,
    sender: Option<String>,
    now: String,
    reason: String,
}

/// What of a pair would be decided otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerned<'a> {
    /// The pair as a whole.
    Pair,
    /// What this bare address sends; the pair would stand.
    Sender(&'a str),
    /// Single stanzas, whoever sends them; the pair would stand.
    Stanzas,
}

impl Concerned<'_> {
    /// What a stanza is told under of which the policy in the shadow says this.
    pub fn of_pair(beside: &Beside) -> Self {
        if beside.is_allow() { Self::Stanzas } else { Self::Pair }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Sender(_) => "sender",
            Self::Stanzas => "stanza",
        }
    }

    fn sender(self) -> Option<String> {
        match self {
            Self::Sender(address) => Some(escaped(address, LONGEST_ADDRESS)),
            Self::Pair | Self::Stanzas => None,
        }
    }
}

impl Key {
    fn of(change: &Otherwise) -> Self {
        Self {
            flow: change.flow.clone(),
            from: change.from.clone(),
            to: change.to.clone(),
            what: change.what.clone(),
            sender: change.sender.clone(),
            now: change.now.clone(),
            reason: change.reason.clone(),
        }
    }
}

impl Shadow {
    /// From now on this policy is in the shadow; an empty digest: none is. Another one is compared from the beginning.
    pub fn follow(&self, digest: &str) {
        let mut table = self.table();
        if table.digest != digest {
            let since = (!digest.is_empty()).then(Timestamp::now);
            *table = Table { digest: digest.to_owned(), since, ..Table::default() };
        }
    }

    /// A pair was asked about.
    pub fn judged(&self, flow: Flow, pair: &Pair, verdict: &Verdict, beside: &Beside) -> ShadowChange {
        let change = ShadowChange::from(verdict.outcome, beside.outcome);
        let word = |outcome, reason: Reason| match outcome {
            Outcome::Allow | Outcome::Quarantine => outcome.label().to_owned(),
            Outcome::Deny => reason.label().to_owned(),
        };
        let mut table = self.table();
        if change == ShadowChange::None {
            table.alike += 1;
        } else {
            table.otherwise += 1;
        }
        if change != ShadowChange::None || verdict.rule != beside.rule {
            let way = (
                verdict.rule.as_str().to_owned(),
                beside.rule.as_str().to_owned(),
                word(verdict.outcome, verdict.reason),
                word(beside.outcome, beside.reason),
            );
            if table.rules.len() < RULES || table.rules.contains_key(&way) {
                *table.rules.entry(way).or_default() += 1;
            }
        }
        if change != ShadowChange::None {
            let (now, next, reason) = match change {
                ShadowChange::Admits => (Outcome::Deny, Outcome::Allow, verdict.reason),
                ShadowChange::Frees => (Outcome::Quarantine, Outcome::Allow, verdict.reason),
                ShadowChange::Holds => (Outcome::Allow, Outcome::Quarantine, beside.reason),
                // Who is in quarantine is let in.
                ShadowChange::None | ShadowChange::Refuses => (Outcome::Allow, Outcome::Deny, beside.reason),
            };
            let entry =
                table.entry((flow, pair, Concerned::Pair), (now, next, reason), &verdict.rule, beside);
            entry.asked += 1;
        }
        change
    }

    /// A stanza of a pair passed or was refused, and would not have been.
    pub fn stanza(
        &self,
        about: (Flow, &Pair, Concerned<'_>),
        (outcome, reason): (Outcome, Reason),
        rule: &RuleName,
        beside: &Beside,
        octets: usize,
    ) {
        let ways = match outcome {
            Outcome::Deny => (Outcome::Deny, Outcome::Allow, reason),
            Outcome::Allow | Outcome::Quarantine => (Outcome::Allow, Outcome::Deny, reason),
        };
        let mut table = self.table();
        let entry = table.entry(about, ways, rule, beside);
        entry.stanzas += 1;
        entry.octets = entry.octets.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
    }

    /// What there is to tell.
    pub fn report(&self) -> Report {
        let table = self.table();
        let mut rules: Vec<Passes> = table
            .rules
            .iter()
            .map(|((rule, next_rule, now, next), asked)| Passes {
                rule: rule.clone(),
                next_rule: next_rule.clone(),
                now: now.clone(),
                next: next.clone(),
                asked: *asked,
            })
            .collect();
        let mut report = Report {
            digest: table.digest.clone(),
            since: table.since,
            alike: table.alike,
            otherwise: table.otherwise,
            rules: Vec::new(),
            changes: table.changes.values().cloned().collect(),
            left_out: table.left_out,
        };
        drop(table);
        rules.sort_by(|a, b| {
            (b.asked, &a.rule, &a.next_rule, &a.now, &a.next).cmp(&(
                a.asked,
                &b.rule,
                &b.next_rule,
                &b.now,
                &b.next,
            ))
        });
        report.rules = rules;
        report.sort();
        report
    }

    /// Goes on where an earlier process ended, if the same policy is in the shadow.
    pub(super) fn recall(&self, kept: Report) {
        let mut table = self.table();
        if kept.digest.is_empty() || kept.digest != table.digest {
            return;
        }
        table.since = kept.since.or(table.since);
        table.alike = kept.alike;
        table.otherwise = kept.otherwise;
        table.left_out = kept.left_out;
        table.rules = kept
            .rules
            .into_iter()
            .take(RULES)
            .map(|way| ((way.rule, way.next_rule, way.now, way.next), way.asked))
            .collect();
        let changes = kept.changes.into_iter().take(CHANGES);
        table.changes = changes.map(|change| (Key::of(&change), Otherwise { living: 0, ..change })).collect();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// What has most stanzas first.
    pub fn sort(&mut self) {
        self.changes.sort_by(|a, b| {
            (b.stanzas, b.asked, &a.from, &a.to, &a.what, &a.flow)
                .cmp(&(a.stanzas, a.asked, &b.from, &b.to, &b.what, &b.flow))
        });
    }
}

impl Table {
    fn entry(
        &mut self,
        (flow, pair, whose): (Flow, &Pair, Concerned<'_>),
        (outcome, next, reason): (Outcome, Outcome, Reason),
        rule: &RuleName,
        beside: &Beside,
    ) -> &mut Otherwise {
        let key = Key {
            flow: flow.label().to_owned(),
            from: escaped(pair.sender.as_str(), LONGEST),
            to: escaped(pair.target.as_str(), LONGEST),
            what: whose.label().to_owned(),
            sender: whose.sender(),
            now: outcome.label().to_owned(),
            reason: reason.label().to_owned(),
        };
        if self.changes.len() >= CHANGES && !self.changes.contains_key(&key) {
            self.make_room();
        }
        let now = Timestamp::now();
        let fresh = |key: &Key| Otherwise {
            flow: key.flow.clone(),
            from: key.from.clone(),
            to: key.to.clone(),
            what: key.what.clone(),
            sender: key.sender.clone(),
            now: key.now.clone(),
            next: next.label().to_owned(),
            reason: key.reason.clone(),
            rule: String::new(),
            next_rule: String::new(),
            place: None,
            asked: 0,
            stanzas: 0,
            octets: 0,
            living: 0,
            first: now,
            last: now,
        };
        let entry = self.changes.entry(key).or_insert_with_key(fresh);
        if entry.rule != rule.as_str() {
            rule.as_str().clone_into(&mut entry.rule);
        }
        if entry.next_rule != beside.rule.as_str() || entry.asked + entry.stanzas == 0 {
            beside.rule.as_str().clone_into(&mut entry.next_rule);
            entry.place = beside.place.as_ref().map(ToString::to_string);
        }
        entry.last = now;
        entry
    }

    /// Gives up half of the entries: those without stanzas before those with, and what was seen long ago before the rest.
    fn make_room(&mut self) {
        let mut order: Vec<(u64, Timestamp, Key)> =
            self.changes.iter().map(|(key, entry)| (entry.stanzas, entry.last, key.clone())).collect();
        order.sort_by_key(|(stanzas, last, _)| (*stanzas > 0, *last));
        for (_, _, key) in order.into_iter().take(CHANGES / 2) {
            self.changes.remove(&key);
            self.left_out += 1;
        }
    }
}

/// Octets of an address: those of its three parts and two marks between them.
const LONGEST_ADDRESS: usize = 3071;

/// Characters of a domain.
const LONGEST: usize = 253;

/// Entries that are kept.
const CHANGES: usize = 10_000;

/// Ways from rule to rule that are told apart.
const RULES: usize = 10_000;

#[cfg(test)]
#[path = "shadow_tests.rs"]
mod tests;
