//! Who waits for a place, by network, in the order of their coming; and room for so many.
//!
//! The room is shared fairly: where it is full, the network with most who wait loses its last for one that has fewer. So a
//! crowd behind one address takes nothing from those behind another.

use std::collections::{HashMap, VecDeque};

use super::Network;

/// Those who wait, each with what is to be told to it.
#[derive(Debug)]
pub(super) struct Lines<T> {
    by_network: HashMap<Network, VecDeque<(u64, T)>>,
    count: usize,
    next: u64,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { by_network: HashMap::new(), count: 0, next: 0 }
    }
}

impl<T> Lines<T> {
    /// Somebody comes to wait, where at most so many may: the name of the place in the line, and who has lost theirs for it.
    /// None: there is no room, and nobody waits in a longer line.
    pub(super) fn enter(&mut self, network: Network, who: T, most: usize) -> Option<(u64, Option<T>)> {
        let mut gone = None;
        if self.count >= most {
            let (longest, line) = self.by_network.iter().max_by_key(|(_, line)| line.len())?;
            if line.len() <= self.len(network).saturating_add(1) {
                return None;
            }
            let longest = *longest;
            gone = self.take(longest, VecDeque::pop_back).map(|(_, who)| who);
        }
        let number = self.next;
        self.next += 1;
        self.by_network.entry(network).or_default().push_back((number, who));
        self.count += 1;
        Some((number, gone))
    }

    /// The first of a network.
    pub(super) fn first(&mut self, network: Network) -> Option<T> {
        self.take(network, VecDeque::pop_front).map(|(_, who)| who)
    }

    /// Somebody waits no longer.
    pub(super) fn leave(&mut self, network: Network, number: u64) {
        let _gone = self.take(network, |line| {
            let at = line.iter().position(|(is, _)| *is == number)?;
            line.remove(at)
        });
    }

    /// How many of a network wait.
    pub(super) fn len(&self, network: Network) -> usize {
        self.by_network.get(&network).map_or(0, VecDeque::len)
    }

    fn take(
        &mut self,
        network: Network,
        from: impl FnOnce(&mut VecDeque<(u64, T)>) -> Option<(u64, T)>,
    ) -> Option<(u64, T)> {
        let line = self.by_network.get_mut(&network)?;
        let taken = from(line);
        if line.is_empty() {
            self.by_network.remove(&network);
        }
        self.count -= usize::from(taken.is_some());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(n: u8) -> Network {
        Network::of([192, 0, 2, n].into())
    }

    #[test]
    fn who_came_first_is_first_and_who_has_gone_is_not_asked() {
        let mut lines = Lines::default();
        let [_, (second, _), _] = ["a", "b", "c"].map(|who| lines.enter(network(1), who, 10).unwrap());
        lines.leave(network(1), second);
        lines.leave(network(1), second);
        assert_eq!(lines.len(network(1)), 2);
        assert_eq!([(); 3].map(|()| lines.first(network(1))), [Some("a"), Some("c"), None]);
        assert!(lines.by_network.is_empty() && lines.count == 0);
    }

    #[test]
    fn a_crowd_of_one_network_makes_room_for_another() {
        let mut lines = Lines::default();
        for n in 0..4 {
            assert_eq!(lines.enter(network(1), n, 4).unwrap().1, None);
        }
        assert!(lines.enter(network(1), 4, 4).is_none(), "its own crowd is no reason");
        assert_eq!(lines.enter(network(2), 5, 4).unwrap().1, Some(3), "the last of the crowd goes");
        assert_eq!(lines.enter(network(2), 6, 4).unwrap().1, Some(2));
        assert!(lines.enter(network(2), 7, 4).is_none(), "two and two");
        assert_eq!(lines.enter(network(3), 8, 4).unwrap().1.map(|who| who > 0), Some(true));
        assert_eq!(lines.count, 4);
        assert!(Lines::default().enter(network(4), 9, 0).is_none(), "no room at all");
    }
}
