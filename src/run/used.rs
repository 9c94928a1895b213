//! How often each rule and each case is used, since when and when last: kept over restarts where there is a folder for it.
//!
//! A rule is used when it decides about a pair, and again when a pair that it admitted ends after stanzas, or when it asks lists and
//! they name a sender; a case when the pair that it describes is asked about. A rule that goes is remembered for a while, for it may come back.
//!
//! There may be a hundred thousand rules, and streams wait for whoever holds the counts: all of them are gone through some at a
//! time, on threads where no stream is served.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::{CaseOutcome, Patches, Policy, RuleName};
use crate::stream::Pair;

/// The use of one rule or case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// How often.
    pub hits: u64,
    /// The first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// The last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// Since when it is in force, and counted.
    pub known: Timestamp,
    /// Since when it is no longer in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
}

impl Use {
    fn new(known: Timestamp) -> Self {
        Self { hits: 0, first: None, last: None, known, gone: None }
    }

    fn touch(&mut self, now: Timestamp) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// Whether it was not used since then, and was there all the while to be used.
    pub fn is_unused_since(&self, then: Timestamp) -> bool {
        self.known <= then && self.last.is_none_or(|last| last < then)
    }
}

/// What is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uses {
    /// By the name of the rule.
    pub rules: BTreeMap<String, Use>,
    /// By sender and target, as `from>to`.
    pub cases: BTreeMap<String, Use>,
    /// What was announced of the end of a rule: its last day, and so many days before.
    pub announced: BTreeMap<String, (String, i64)>,
}

/// Under which the end of this patch was announced: no rule has a blank in its name.
pub fn of_patch(name: &str) -> String {
    format!("patch {name}")
}

/// Counts.
#[derive(Debug, Default)]
pub struct Used {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: BTreeMap<String, Use>,
    cases: BTreeMap<String, Use>,
    announced: BTreeMap<String, (String, i64)>,
    changed: bool,
}

impl Used {
    /// These rules and cases will be in force: from now on it is counted when they decide.
    pub fn expect(&self, policy: &Policy, cases: &[CaseOutcome]) {
        let now = Timestamp::now();
        let mut names = policy.rule_names().map(|name| name.as_str().to_owned());
        self.enter(|inner| &mut inner.rules, &mut names, now);
        self.enter(|inner| &mut inner.cases, &mut cases.iter().map(key_of), now);
    }

    /// These rules and cases are in force, and no others.
    pub fn follow(&self, policy: &Policy, cases: &[CaseOutcome]) {
        self.expect(policy, cases);
        let names: HashSet<&str> = policy.rule_names().map(RuleName::as_str).collect();
        let keys: HashSet<String> = cases.iter().map(key_of).collect();
        self.each(|inner| &mut inner.rules, leaving(|name| names.contains(name)));
        self.each(|inner| &mut inner.cases, leaving(|key| keys.contains(key)));
        let patches: HashSet<String> =
            policy.patches().into_iter().flat_map(Patches::iter).map(|p| of_patch(p.name.as_str())).collect();
        self.each(|inner| &mut inner.announced, |name, _| names.contains(name) || patches.contains(name));
    }

    /// Has these counted.
    fn enter(
        &self,
        all: fn(&mut Inner) -> &mut BTreeMap<String, Use>,
        names: &mut dyn Iterator<Item = String>,
        now: Timestamp,
    ) {
        loop {
            let some: Vec<String> = names.take(PIECE).collect();
            let is_last = some.len() < PIECE;
            let mut inner = self.inner();
            for name in some {
                all(&mut inner).entry(name).or_insert_with(|| Use::new(now)).gone = None;
            }
            inner.changed = true;
            drop(inner);
            if is_last {
                return;
            }
            thread::sleep(BREATH);
        }
    }

    /// Shows each entry, in the order of the names, and forgets those that are not to stay.
    fn each<T>(
        &self,
        all: fn(&mut Inner) -> &mut BTreeMap<String, T>,
        mut stays: impl FnMut(&str, &mut T) -> bool,
    ) {
        let mut last: Option<String> = None;
        loop {
            let mut inner = self.inner();
            let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let (mut going, mut seen, mut next) = (Vec::new(), 0, None);
            for (name, entry) in all(&mut inner).range_mut::<str, _>((from, Bound::Unbounded)).take(PIECE) {
                seen += 1;
                if seen == PIECE {
                    next = Some(name.clone());
                }
                if !stays(name, entry) {
                    going.push(name.clone());
                }
            }
            inner.changed |= !going.is_empty();
            for name in going {
                all(&mut inner).remove(&name);
            }
            drop(inner);
            last = next;
            if last.is_none() {
                return;
            }
            thread::sleep(BREATH);
        }
    }

    /// A copy of all entries.
    fn copy<T: Clone>(&self, all: fn(&mut Inner) -> &mut BTreeMap<String, T>) -> BTreeMap<String, T> {
        let mut copy = Vec::new();
        self.each(all, |name, entry| {
            copy.push((name.to_owned(), entry.clone()));
            true
        });
        copy.into_iter().collect()
    }

    /// A rule has decided about a pair.
    pub fn judged(&self, pair: &Pair, rule: &RuleName) {
        let now = Timestamp::now();
        let mut inner = self.inner();
        if let Some(uses) = inner.rules.get_mut(rule.as_str()) {
            uses.hits += 1;
            uses.touch(now);
        }
        if !inner.cases.is_empty()
            && let Some(uses) = inner.cases.get_mut(&key(pair.sender.as_str(), pair.target.as_str()))
        {
            uses.hits += 1;
            uses.touch(now);
        }
        inner.changed = true;
    }

    /// The rule has refused a stanza of a pair that others admit.
    pub fn refused(&self, rule: &RuleName) {
        let mut inner = self.inner();
        if let Some(uses) = inner.rules.get_mut(rule.as_str()) {
            uses.hits += 1;
            uses.touch(Timestamp::now());
            inner.changed = true;
        }
    }

    /// A pair that the rule admitted has ended, or lives.
    pub fn carried(&self, rule: &RuleName) {
        let mut inner = self.inner();
        if let Some(uses) = inner.rules.get_mut(rule.as_str()) {
            uses.touch(Timestamp::now());
            inner.changed = true;
        }
    }

    #[cfg(test)]
    fn of_rule(&self, name: &str) -> Option<Use> {
        self.inner().rules.get(name).cloned()
    }

    /// The use of every rule, by its name. Of many it takes a while.
    pub fn rules(&self) -> BTreeMap<String, Use> {
        self.copy(|inner| &mut inner.rules)
    }

    /// The use of a case.
    pub fn of_case(&self, case: &CaseOutcome) -> Option<Use> {
        self.inner().cases.get(&key_of(case)).cloned()
    }

    /// Whether the end of this rule, on that day, is to be announced so many days before; each such word is said once.
    pub fn announces(&self, rule: &str, last_day: &str, days: i64) -> bool {
        let mut inner = self.inner();
        let said = inner.announced.get(rule).is_some_and(|(day, said)| day == last_day && *said <= days);
        if !said {
            inner.announced.insert(rule.to_owned(), (last_day.to_owned(), days));
            inner.changed = true;
        }
        !said
    }

    /// What an earlier process counted is added to what is in force.
    pub(super) fn recall(&self, kept: Uses) {
        let mut inner = self.inner();
        let Inner { rules, cases, announced, .. } = &mut *inner;
        recall(rules, kept.rules);
        recall(cases, kept.cases);
        announced.extend(kept.announced);
    }

    /// What is to be kept, if anything has changed since it was asked last. Of many rules it takes a while.
    pub(super) fn to_keep(&self) -> Option<Uses> {
        let changed = std::mem::take(&mut self.inner().changed);
        // The lock is free again: what follows takes it for some at a time.
        changed.then(|| Uses {
            rules: self.rules(),
            cases: self.copy(|inner| &mut inner.cases),
            announced: self.copy(|inner| &mut inner.announced),
        })
    }

    /// It could not be kept.
    pub(super) fn not_kept(&self) {
        self.inner().changed = true;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is there stays; what is gone is remembered for a while, and so many of it.
fn leaving(is_there: impl Fn(&str) -> bool) -> impl FnMut(&str, &mut Use) -> bool {
    let now = Timestamp::now();
    let long_ago = now.checked_sub(REMEMBERED).unwrap_or(now);
    let mut gone = 0;
    move |name, uses| {
        if is_there(name) {
            return true;
        }
        gone += 1;
        *uses.gone.get_or_insert(now) >= long_ago && gone <= GONE
    }
}

fn recall(all: &mut BTreeMap<String, Use>, kept: BTreeMap<String, Use>) {
    let mut gone = 0;
    for (name, before) in kept {
        match all.get_mut(&name) {
            Some(uses) => {
                uses.hits = uses.hits.saturating_add(before.hits);
                uses.first = before.first.or(uses.first);
                uses.last = uses.last.max(before.last);
                uses.known = before.known.min(uses.known);
            }
            None if gone < GONE => {
                gone += 1;
                let at = before.gone.unwrap_or_else(Timestamp::now);
                all.insert(name, Use { gone: Some(at), ..before });
            }
            None => {}
        }
    }
}

fn key_of(case: &CaseOutcome) -> String {
    let domain = |address: &str| {
        crate::jid::Jid::parse(address).map_or_else(|_| address.to_owned(), |jid| jid.to_domain().to_string())
    };
    key(&domain(&case.from), &domain(&case.to))
}

fn key(from: &str, to: &str) -> String {
    format!("{from}>{to}")
}

/// How long a rule that is gone is remembered, and how many such.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(90 * 24);
const GONE: usize = 1_000;

/// Entries that are gone through while others wait, and for how long whoever waits has his turn then.
const PIECE: usize = 256;
const BREATH: Duration = Duration::from_micros(50);

#[cfg(test)]
#[path = "used_tests.rs"]
mod tests;
