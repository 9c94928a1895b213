//! The counts of limits that nodes share: what each has counted is told twice a second, and a node that is heard no more counts no
//! more.
//!
//! Rates are told as what was taken since, and add up; how many connections and pairs a node holds is told as it is, and the newest
//! word of each node holds (CLU-03).

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::row::Row;
use crate::limit::Counts;

/// What a node has counted since it said so last. What a later version says beside is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) node: String,
    pub(super) number: u64,
    /// When, in milliseconds since 1970 by the clock of the store.
    pub(super) time: i64,
    pub(super) taken: Vec<(u64, u64)>,
    pub(super) reached: Vec<(u64, u64)>,
    /// How many are there of what matters, all of it.
    pub(super) held: Vec<(u64, u32)>,
}

impl Batch {
    /// A word of a node, if it is no more than one says at a time.
    pub(super) fn read(text: &str) -> Option<Self> {
        let fits = |batch: &Self| batch.counts().is_bounded() && batch.held.len() <= HELD;
        serde_json::from_str(text).ok().filter(fits)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { taken: self.taken.clone(), reached: self.reached.clone() }
    }
}

/// How counting together stands.
#[derive(Debug)]
pub(super) struct Together {
    pub(super) row: Row,
    /// What was said last of what is held here, and when.
    said: Option<(Vec<(u64, u32)>, Instant)>,
    held: BTreeMap<String, Vec<(u64, u32)>>,
}

impl Together {
    pub(super) fn new() -> Self {
        Self { row: Row::new(WAITING), said: None, held: BTreeMap::new() }
    }

    /// Whether what was said is with the others, so that there may be more.
    pub(super) fn is_told(&self) -> bool {
        self.row.waiting() == 0
    }

    /// This is to be told, if it is anything.
    pub(super) fn say(
        &mut self,
        node: &str,
        (time, at): (i64, Instant),
        counts: Counts,
        held: Vec<(u64, u32)>,
    ) {
        let known = self.said.as_ref().is_some_and(|(said, when)| {
            *said == held && (held.is_empty() || at.saturating_duration_since(*when) < AGAIN)
        });
        if counts.is_empty() && (known || (self.said.is_none() && held.is_empty())) {
            return;
        }
        let Counts { taken, reached } = counts;
        let number = self.row.next();
        let batch = Batch { node: node.to_owned(), number, time, taken, reached, held: held.clone() };
        if let Ok(text) = serde_json::to_string(&batch) {
            self.said = Some((held, at));
            self.row.say(text);
        }
    }

    /// That node holds so many.
    pub(super) fn hear(&mut self, node: String, held: Vec<(u64, u32)>) {
        if self.held.len() < NODES || self.held.contains_key(&node) {
            self.held.insert(node, held);
        }
    }

    /// What all of those who are here hold together; the others are forgotten.
    pub(super) fn sum(&mut self, is_here: impl Fn(&str) -> bool) -> HashMap<u64, u32> {
        self.held.retain(|node, _| is_here(node));
        let mut sum: HashMap<u64, u32> = HashMap::new();
        for (digest, count) in self.held.values().flatten() {
            let all = sum.entry(*digest).or_default();
            *all = all.saturating_add(*count);
        }
        sum
    }
}

/// What a node says of what it holds at one time.
pub(super) const HELD: usize = 500;

/// Batches that wait to be said: while one does, counting goes on where it is.
const WAITING: usize = 2;

/// After this time what is held is said again, for nodes that have begun meanwhile.
const AGAIN: Duration = Duration::from_secs(5);

/// Of so many nodes it is known what they hold.
const NODES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_said_when_it_changes_and_now_and_then() {
        let (mut here, at) = (Together::new(), Instant::now());
        let mut says = |held: &[(u64, u32)], after: u64| {
            here.say("a", (0, at + Duration::from_secs(after)), Counts::default(), held.to_vec());
            let said = here.row.unsent(9).iter().filter_map(|text| Batch::read(text)).next_back();
            here.row.said(9);
            said.map(|batch| batch.held)
        };
        assert_eq!(says(&[], 0), None);
        assert_eq!(says(&[(1, 2)], 0), Some(vec![(1, 2)]));
        assert_eq!(says(&[(1, 2)], 1), None);
        assert_eq!(says(&[(1, 3)], 1), Some(vec![(1, 3)]));
        assert_eq!(says(&[(1, 3)], 6), Some(vec![(1, 3)]));
        assert_eq!(says(&[], 6), Some(vec![]));
        assert_eq!(says(&[], 60), None);
    }

    #[test]
    fn the_newest_word_of_a_node_holds_for_as_long_as_it_is_here() {
        let mut here = Together::new();
        here.hear("a".into(), vec![(1, 2), (2, 1)]);
        here.hear("b".into(), vec![(1, 5)]);
        here.hear("a".into(), vec![(1, u32::MAX)]);
        assert_eq!(here.sum(|_| true), HashMap::from([(1, u32::MAX)]));
        assert_eq!(here.sum(|node| node == "b"), HashMap::from([(1, 5)]));
        assert_eq!(here.sum(|_| true), HashMap::from([(1, 5)]), "who was gone says it anew");
    }

    #[test]
    fn a_word_that_is_too_long_or_no_word_is_not_read() {
        let batch = |taken, held| Batch {
            node: "a".into(),
            number: 1,
            time: 0,
            taken: vec![(u64::MAX, 1); taken],
            reached: vec![],
            held: vec![(1, 1); held],
        };
        for (batch, fits) in [
            (batch(Counts::MOST, HELD), true),
            (batch(Counts::MOST + 1, 0), false),
            (batch(0, HELD + 1), false),
        ] {
            assert_eq!(Batch::read(&serde_json::to_string(&batch).unwrap()).is_some(), fits);
        }
        assert_eq!(Batch::read("{}"), None);
    }
}
