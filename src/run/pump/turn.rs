//! One turn of the loop: the time of its round, what may still be read before other relays have theirs, and what the relay wants until
//! it is carried out.

use std::collections::VecDeque;
use std::time::Instant;

use super::BUDGET;
use super::passed::Passed;
use crate::relay::{Effect, Side};

/// What a relay has for the length of a turn.
pub(in crate::run) struct Turn {
    /// The time of this round.
    pub(in crate::run) now: Instant,
    /// Stanzas that have passed in it.
    pub(in crate::run) passed: Passed,
    /// What may still be done for the near leg, and for all others, before other relays have their turn: octets read, and for each
    /// token as many as it costs besides.
    budget: (usize, usize),
    /// What follows from effects that are being carried out.
    effects: VecDeque<Effect>,
    carrying: bool,
    /// Room for what the relay wants.
    spare: Vec<Effect>,
}

impl Turn {
    /// Before the first.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now,
            passed: Passed::default(),
            budget: (BUDGET, BUDGET),
            effects: VecDeque::new(),
            carrying: false,
            spare: Vec::new(),
        }
    }

    /// It begins; the near leg may bring so much.
    pub(super) fn begin(&mut self, near: usize) {
        self.budget = (near, BUDGET);
    }

    /// It ends: no relay keeps room between two of them.
    pub(super) fn end(&mut self) {
        self.spare = Vec::new();
    }

    /// What is left for a leg on this side: neither side uses up what is the other's.
    pub(super) fn budget(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Near => &mut self.budget.0,
            Side::Far(_) => &mut self.budget.1,
        }
    }

    /// That side has used so much.
    pub(super) fn spend(&mut self, side: Side, octets: usize) {
        let budget = self.budget(side);
        *budget = budget.saturating_sub(octets);
    }

    /// Whether either side has used up what it had.
    pub(super) fn is_spent(&self) -> bool {
        self.budget.0 == 0 || self.budget.1 == 0
    }

    /// Room for what the relay wants next; what is inside a step finds none, and makes its own.
    pub(super) fn spare(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.spare)
    }

    /// The room is free again.
    pub(super) fn keep(&mut self, spare: Vec<Effect>) {
        self.spare = spare;
    }

    /// Whether these wait until those are carried out from which they follow; if not, others wait for these from now on.
    pub(in crate::run) fn defers(&mut self, effects: &mut Vec<Effect>) -> bool {
        match std::mem::replace(&mut self.carrying, true) {
            true => {
                self.effects.extend(effects.drain(..));
                true
            }
            false => false,
        }
    }

    /// The next one that waits; after the last one nothing waits for others any more.
    pub(in crate::run) fn next(&mut self) -> Option<Effect> {
        let next = self.effects.pop_front();
        if next.is_none() {
            self.carrying = false;
            // Seldom does one follow from another: no relay keeps room for that.
            self.effects = VecDeque::new();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::FarId;

    #[test]
    fn what_follows_from_an_effect_waits_for_those_before_it() {
        let mut turn = Turn::new(Instant::now());
        assert!(!turn.defers(&mut vec![Effect::Finish(Side::Near)]), "they are carried out where they lie");
        assert!(turn.defers(&mut vec![Effect::Cut(Side::Near), Effect::Serves]));
        assert!(turn.defers(&mut vec![Effect::Restart(Side::Near)]));
        let mut waiting = || turn.next().map(|effect| format!("{effect:?}"));
        assert_eq!(waiting().as_deref(), Some("Cut(Near)"));
        assert_eq!(waiting().as_deref(), Some("Serves"));
        assert_eq!(waiting().as_deref(), Some("Restart(Near)"));
        assert_eq!(waiting(), None);
        assert!(!turn.defers(&mut vec![Effect::Serves]), "nobody waits for others any more");
        assert_eq!(turn.effects.capacity(), 0);
    }

    #[test]
    fn neither_side_uses_up_what_is_the_others() {
        let mut turn = Turn::new(Instant::now());
        let far = Side::Far(FarId(1));
        turn.spend(Side::Near, BUDGET - 1);
        assert_eq!((*turn.budget(Side::Near), *turn.budget(far)), (1, BUDGET));
        assert!(!turn.is_spent());
        turn.spend(far, 2 * BUDGET);
        assert!(turn.is_spent());
        turn.begin(7);
        assert_eq!((*turn.budget(Side::Near), *turn.budget(far)), (7, BUDGET));
        assert!(!turn.is_spent());
    }
}
