//! One row of events in the store: how far it was heard, what each node has said in it, and what is still to be said.

use std::collections::{BTreeMap, VecDeque};

use crate::store::After;

/// One row of events.
#[derive(Debug)]
pub(super) struct Row {
    /// The last event that was heard.
    after: Option<String>,
    /// What is to be said, the oldest first.
    unsent: VecDeque<String>,
    most: usize,
    number: u64,
    /// The last event of each node that was heard.
    numbers: BTreeMap<String, u64>,
}

impl Row {
    /// Nothing was heard and nothing is to be said; at most so much will ever wait.
    pub(super) fn new(most: usize) -> Self {
        Self { after: None, unsent: VecDeque::new(), most, number: 0, numbers: BTreeMap::new() }
    }

    /// From where on it is to be heard: at the beginning, what is no older than so many milliseconds before the newest.
    pub(super) fn after(&self, memory: i64) -> After {
        self.after.clone().map_or(After::Newest(memory), After::Event)
    }

    /// This one was heard.
    pub(super) fn heard(&mut self, name: &str) {
        self.after = Some(name.to_owned());
    }

    /// The number of the next word of this node.
    pub(super) fn next(&mut self) -> u64 {
        self.number = self.number.saturating_add(1);
        self.number
    }

    /// This is to be said; the oldest goes where too much waits.
    pub(super) fn say(&mut self, text: String) {
        if self.unsent.len() >= self.most {
            self.unsent.pop_front();
        }
        self.unsent.push_back(text);
    }

    /// What is to be said, at most so much.
    pub(super) fn unsent(&self, most: usize) -> Vec<String> {
        self.unsent.iter().take(most).cloned().collect()
    }

    /// How much is to be said.
    pub(super) fn waiting(&self) -> usize {
        self.unsent.len()
    }

    /// So much of it was said.
    pub(super) fn said(&mut self, count: usize) {
        self.unsent.drain(..count.min(self.unsent.len()));
    }

    /// Whether that node has not said this before: what is heard again, or late, counts once and never backwards.
    pub(super) fn is_news(&mut self, node: &str, number: u64) -> bool {
        let known = self.numbers.get(node).copied().unwrap_or(0);
        if number <= known {
            return false;
        }
        if self.numbers.len() >= FELLOWS && known == 0 {
            self.numbers.clear();
        }
        self.numbers.insert(node.to_owned(), number);
        true
    }
}

/// Nodes whose events are told apart.
const FELLOWS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_again_or_late_is_no_news() {
        let mut row = Row::new(2);
        assert!(row.is_news("a", 1) && row.is_news("a", 3) && row.is_news("b", 1));
        assert!(!row.is_news("a", 3) && !row.is_news("a", 2) && row.is_news("a", 4));
    }

    #[test]
    fn the_oldest_goes_where_too_much_waits() {
        let mut row = Row::new(2);
        ["one", "two", "three"].into_iter().for_each(|text| row.say(text.to_owned()));
        assert_eq!(row.unsent(10), ["two", "three"]);
        row.said(1);
        assert_eq!((row.unsent(10), row.waiting()), (vec!["three".to_owned()], 1));
        row.said(5);
        assert_eq!(row.waiting(), 0);
    }
}
