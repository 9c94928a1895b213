//! What several nodes know of who is in quarantine: each node has all of it, and what two of them say of one is joined so that it does not
//! matter who says it first, or how often.
//!
//! Of two decisions the later holds, and of two at one moment the stricter. What has passed is what all of them have let pass: only what
//! comes to several of them between two exchanges can be more than a rate says.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::{FORGOTTEN, MOST, NAMES, Party, QuarantineList, is_party};

/// What an exchange comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// What the others should know.
    pub say: Vec<(String, String)>,
    /// What nobody needs to know any more.
    pub over: Vec<String>,
    /// Records that nobody of us wrote.
    pub foreign: usize,
    /// Whether somebody was let out or shut out, or is so no more.
    pub settled: bool,
}

impl Party {
    /// Takes over what others know of it.
    fn join(&mut self, theirs: &Self) {
        self.since = self.since.min(theirs.since);
        if theirs.last > self.last || self.rule.is_empty() {
            self.rule.clone_from(&theirs.rule);
            self.quiet_days = theirs.quiet_days;
        }
        theirs.names.iter().for_each(|name| self.calls_itself(name));
        self.last = self.last.max(theirs.last);
        self.refused = self.refused.max(theirs.refused);
        self.decision = self.decision.max(theirs.decision);
        self.loud = self.loud.max(theirs.loud);
        self.days.extend(&theirs.days);
        let (loud, decided) = (self.loud, self.decision.map_or(0, |decision| super::day(decision.at)));
        // A decision to hold begins the count anew.
        self.days.retain(|day| *day > loud && *day >= decided);
        self.trim();
        for (ours, theirs) in self.passed.iter_mut().zip(&theirs.passed) {
            ours.join(theirs);
        }
    }

    /// What is over need not be said.
    fn forget(&mut self, now: i64) {
        self.passed.iter_mut().for_each(|passed| passed.forget(now));
    }

    /// Whether it can be: nobody is seen tomorrow.
    fn is_possible(&self, now: i64) -> bool {
        let soon = now.saturating_add(GRACE);
        self.since <= soon
            && self.last <= soon
            && self.decision.is_none_or(|decision| decision.at <= soon)
            && self.passed.iter().all(|passed| passed.is_possible(soon))
            && self.days.iter().all(|day| *day <= super::day(soon))
            && self.loud <= super::day(soon)
            && self.rule.len() <= RULE
            && self.names.len() <= NAMES
    }
}

impl QuarantineList {
    /// The clock that nodes have in common is so many milliseconds ahead of this one's.
    pub fn set_ahead(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// Whether something was decided here that the others should hear soon.
    pub fn is_hurried(&self) -> bool {
        self.table().hurried
    }

    /// Takes over what others say, and tells what they do not know yet.
    pub fn exchange(&self, heard: &BTreeMap<String, String>) -> Exchanged {
        let now = self.now();
        let mut outcome = Exchanged::default();
        let mut table = self.table();
        table.hurried = false;
        let mut known: BTreeMap<&str, Party> = BTreeMap::new();
        for (name, text) in heard {
            match serde_json::from_str::<Party>(text) {
                Ok(mut party) if is_party(name) && party.is_possible(now) => {
                    party.forget(now);
                    if party.is_forgotten(now) {
                        outcome.over.push(name.clone());
                    } else {
                        known.insert(name, party);
                    }
                }
                _ => outcome.foreign += 1,
            }
        }
        for (name, theirs) in &known {
            if !table.parties.contains_key(*name) {
                if table.parties.len() >= MOST && !table.make_room() {
                    continue;
                }
                table.parties.insert((*name).into(), Party { since: theirs.since, ..Party::default() });
            }
            let Some(ours) = table.parties.get_mut(*name) else { continue };
            let (word, before) = (ours.word(), ours.clone());
            ours.join(theirs);
            outcome.settled |= ours.word() != word;
            table.changed |= *table.parties.get(*name).unwrap_or(&before) != before;
        }
        for (name, party) in &mut table.parties {
            party.forget(now);
            let said = known.get(&**name).is_some_and(|theirs| theirs == party);
            let kept = now.saturating_sub(party.last) <= FORGOTTEN + GRACE || party.decision.is_some();
            if !said && kept {
                outcome.say.push((name.to_string(), serde_json::to_string(party).unwrap_or_default()));
            }
        }
        outcome
    }
}

/// Milliseconds by which clocks may differ.
const GRACE: i64 = 5 * 60 * 1000;

/// Octets of the name of a rule.
const RULE: usize = 64;
