//! What several nodes know of who is in quarantine: each node has all of it, and what two of them say of one is joined so that it does not
//! matter who says it first, or how often.
//!
//! Of two decisions the later holds, and of two at one moment the stricter. A bucket is as empty as all nodes together have made it,
//! but for what two of them take at the same moment: what others have taken since the last time is taken here, too.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::{Book, FORGOTTEN, MOST, NAMES, Party, is_party};

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
        for ((full, joined), theirs) in self.full.iter_mut().zip(&mut self.joined).zip(&theirs.full) {
            let taken = if *joined == 0 { 0 } else { theirs.saturating_sub(*joined).max(0) };
            *full = full.saturating_add(taken).max(*theirs);
            *joined = *full;
        }
    }

    /// Whether it can be: nobody is seen tomorrow.
    fn is_possible(&self, now: i64) -> bool {
        let soon = now.saturating_add(GRACE);
        let full = soon.saturating_mul(1000).saturating_add(LONGEST);
        self.since <= soon
            && self.last <= soon
            && self.decision.is_none_or(|decision| decision.at <= soon)
            && self.full.iter().all(|at| *at <= full)
            && self.days.iter().all(|day| *day <= super::day(soon))
            && self.loud <= super::day(soon)
            && self.rule.len() <= RULE
            && self.names.len() <= NAMES
    }
}

impl Book {
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
                Ok(party) if is_party(name) && party.is_possible(now) => {
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
            let said = known.get(&**name).is_some_and(|theirs| is_same(theirs, party));
            let kept = now.saturating_sub(party.last) <= FORGOTTEN + GRACE || party.decision.is_some();
            if !said && kept {
                party.joined = party.full;
                outcome.say.push((name.to_string(), serde_json::to_string(party).unwrap_or_default()));
            }
        }
        outcome
    }
}

fn is_same(theirs: &Party, ours: &Party) -> bool {
    *theirs == Party { joined: theirs.joined, ..ours.clone() }
}

/// Milliseconds by which clocks may differ.
const GRACE: i64 = 5 * 60 * 1000;

/// Microseconds of the longest time of a rate.
const LONGEST: i64 = 24 * 3600 * 1_000_000;

/// Octets of the name of a rule.
const RULE: usize = 64;
