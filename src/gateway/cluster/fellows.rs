//! The other nodes: when each was heard, and how far its clock is from ours.
//!
//! Nodes compare their clocks by that of the store: each says in its word by how much its own is behind that one. A word may lie in the
//! store for half a second or for a day, and is as true of the clock as when it was said.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::word::Card;

/// The other nodes, by their names.
#[derive(Debug, Default)]
pub(super) struct Fellows(BTreeMap<String, Fellow>);

/// Another node.
#[derive(Debug)]
pub(super) struct Fellow {
    pub(super) card: Card,
    /// When it said something new.
    pub(super) heard: Instant,
    /// Milliseconds by which its clock is ahead of ours.
    pub(super) ahead: i64,
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) at: Instant,
    /// Milliseconds since 1970 by our clock.
    pub(super) own: i64,
    /// The same by that of the store.
    pub(super) store: i64,
}

impl Fellow {
    /// Whether it was heard in this time.
    pub(super) fn is_heard(&self, at: Instant, within: Duration) -> bool {
        at.saturating_duration_since(self.heard) <= within
    }
}

impl Fellows {
    /// Takes in what the nodes say of themselves. How many cannot be read.
    pub(super) fn meet(&mut self, own: &str, words: &BTreeMap<String, String>, time: Time) -> usize {
        let mut foreign = 0;
        for (name, text) in words.iter().filter(|(name, _)| *name != own) {
            let Ok(card) = serde_json::from_str::<Card>(text) else {
                foreign += 1;
                continue;
            };
            let card = card.capped();
            let heard = match self.0.get(name) {
                Some(fellow) if fellow.card == card => continue,
                Some(_) => time.at,
                // It may lie there since yesterday, of a node that was killed.
                None => {
                    let age = time.store.saturating_sub(card.time.saturating_add(card.behind)).max(0);
                    let age = Duration::from_millis(age.unsigned_abs());
                    time.at.checked_sub(age).unwrap_or(time.at)
                }
            };
            let ahead = time.store.saturating_sub(time.own).saturating_sub(card.behind);
            self.0.insert(name.clone(), Fellow { card, heard, ahead });
        }
        self.0.retain(|name, _| words.contains_key(name));
        foreign
    }

    /// All of them, those that have gone silent too.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Fellow)> {
        self.0.iter()
    }

    /// Those that are heard.
    pub(super) fn here(&self, at: Instant) -> impl Iterator<Item = (&String, &Fellow)> {
        self.0.iter().filter(move |(_, fellow)| fellow.is_heard(at, HERE))
    }

    /// This one.
    pub(super) fn get(&self, name: &str) -> Option<&Fellow> {
        self.0.get(name)
    }

    /// Nodes that have said nothing for long.
    pub(super) fn gone(&self, at: Instant) -> Vec<String> {
        self.0.iter().filter(|(_, f)| !f.is_heard(at, GONE)).map(|(name, _)| name.clone()).collect()
    }
}

/// A node that has said nothing for so long is not counted, and after a longer time not kept.
const HERE: Duration = Duration::from_secs(10);
const GONE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node said whose clock is behind that of the store.
    fn said(behind: i64, time: i64) -> BTreeMap<String, String> {
        let card = Card { behind, time, ..Card::example() };
        BTreeMap::from([("b".to_owned(), serde_json::to_string(&card).unwrap())])
    }

    fn here(fellows: &Fellows, at: Instant) -> Vec<i64> {
        fellows.here(at).map(|(_, fellow)| fellow.ahead).collect()
    }

    #[test]
    fn clocks_are_compared_by_that_of_the_store_however_long_a_word_lay_there() {
        let at = Instant::now();
        let time = |ms| Time { at: at + Duration::from_millis(ms), own: 1_000_000, store: 1_000_200 };
        let mut fellows = Fellows::default();
        // It was said 500 ms ago by a clock that is as ours.
        assert_eq!(fellows.meet("a", &said(200, 999_500), time(0)), 0);
        assert_eq!(here(&fellows, at), [0]);
        fellows.meet("a", &said(200 - 3_600_000, 4_599_900), time(500));
        assert_eq!(here(&fellows, at), [3_600_000]);
        fellows.meet("a", &said(3_600_200, 0), time(900));
        assert_eq!(here(&fellows, at), [-3_600_000]);
    }

    #[test]
    fn who_has_gone_silent_is_not_counted_by_who_comes_later_either() {
        let at = Instant::now();
        let time = Time { at, own: 1_000_000, store: 1_000_000 };
        for (ago, counted, kept) in
            [(0, 1, 0), (9_000, 1, 0), (11_000, 0, 0), (61_000, 0, 1), (i64::MAX, 0, 1)]
        {
            let mut fellows = Fellows::default();
            assert_eq!(fellows.meet("a", &said(0, 1_000_000_i64.saturating_sub(ago)), time), 0);
            assert_eq!((here(&fellows, at).len(), fellows.gone(at).len()), (counted, kept), "{ago}");
        }
        // It lives: what it says anew counts from when it is heard.
        let mut fellows = Fellows::default();
        fellows.meet("a", &said(0, 900_000), time);
        fellows.meet("a", &said(0, 900_500), time);
        assert_eq!(here(&fellows, at), [0]);
        assert_eq!(fellows.meet("a", &BTreeMap::from([("c".to_owned(), "nonsense".to_owned())]), time), 1);
        assert_eq!(here(&fellows, at).len(), 0, "it has taken its leave");
    }
}
