//! What is remembered of many, with a ceiling: a flood of keys must not fill the memory (LIM-02).

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// So many keys and no more. What may be forgotten is forgotten when a new key finds no place.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: HashMap<K, V>,
    most: usize,
    every: Duration,
    /// When it was full last, and was looked through for what may be forgotten.
    swept: Option<Instant>,
}

impl<K: Hash + Eq, V> Table<K, V> {
    /// An empty one, that is looked through once in this time at most: not for every one who asks.
    pub(super) fn new(most: usize, every: Duration) -> Self {
        Self { entries: HashMap::new(), most, every, swept: None }
    }

    /// What is remembered of this key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// The place of this key, if it has one or can have one: what `made` makes is put there first. A full table forgets what
    /// is `over`.
    pub(super) fn place(
        &mut self,
        key: K,
        now: Instant,
        over: impl Fn(&V) -> bool,
        made: impl FnOnce() -> V,
    ) -> Option<&mut V> {
        self.has_room(&key, now, over).then(|| self.entries.entry(key).or_insert_with(made))
    }

    /// Whether this key has a place, or can have one. A full table forgets what is `over`.
    pub(super) fn has_room(&mut self, key: &K, now: Instant, over: impl Fn(&V) -> bool) -> bool {
        let lately = self.swept.is_some_and(|at| now.saturating_duration_since(at) < self.every);
        if self.entries.len() >= self.most && !lately {
            self.swept = Some(now);
            self.entries.retain(|_, value| !over(value));
        }
        self.entries.len() < self.most || self.entries.contains_key(key)
    }

    /// Forgets this key.
    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// All that is remembered.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }
}

#[cfg(test)]
impl<K, V> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_forgets_what_is_over_and_looks_for_it_now_and_then() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut table = Table::new(2, second);
        let mut put = |key, value, now| table.place(key, now, |over| *over, || value).map(|value| *value);
        assert_eq!((put('a', false, start), put('b', false, start)), (Some(false), Some(false)));
        assert_eq!(put('c', true, start), None, "full of what is not over");
        assert_eq!(put('a', true, start), Some(false), "who has a place keeps it");
        table.remove(&'b');
        let mut put = |key, value, now| table.place(key, now, |over| *over, || value).map(|value| *value);
        assert_eq!(put('c', true, start), Some(true));
        assert_eq!(put('d', false, start), None, "it was looked through just now");
        assert_eq!(put('d', false, start + second), Some(false));
        assert!(table.get(&'c').is_none());
    }
}
