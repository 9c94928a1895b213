//! What the policy in the shadow would have made of a stanza, where that is otherwise than what became of it.
//!
//! Without a shadow a permit carries nothing of the kind, and a stanza pays for one look at that.

use std::sync::Arc;

use super::event::Event;
use super::turn::Turn;
use crate::filter::{self, Admitted};
use crate::policy::{Beside, Permit};
use crate::reason::{Class, Outcome, Reason};
use crate::stream::Pair;
use crate::xml::Head;

/// How much of the answer is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Whether the pair may stand, and which of its stanzas may pass.
    Whole,
    /// Which stanzas of a pair that may stand may pass; whether it may is looked at elsewhere.
    Stanzas,
}

/// A pair, and the permit by which the policy in force lets it stand.
#[derive(Clone, Copy)]
pub(super) struct InForce<'a> {
    pub(super) pair: &'a Pair,
    pub(super) permit: &'a Permit,
}

impl<'a> From<&'a Admitted> for InForce<'a> {
    fn from(admitted: &'a Admitted) -> Self {
        Self { pair: admitted.pair(), permit: admitted.permit() }
    }
}

impl InForce<'_> {
    /// This stanza passes.
    pub(super) fn passes(self, scope: Scope, head: &Head, octets: usize, turn: &mut Turn<'_>) {
        let Some(beside) = self.permit.beside() else { return };
        if scope == Scope::Stanzas && !beside.is_allow() {
            return;
        }
        if let Some(reason) = refusal(beside, head) {
            self.otherwise((Outcome::Allow, reason), octets, turn);
        }
    }

    /// This stanza is refused for this reason, although the pair stands.
    pub(super) fn refused(self, reason: Reason, head: &Head, octets: usize, turn: &mut Turn<'_>) {
        let Some(beside) = self.permit.beside() else { return };
        // What came is counted for the rule in force alone.
        let too_much = reason == Reason::QuarantineRate && beside.stanzas().quarantine().is_none();
        if (reason.is(Class::Compared) || too_much) && refusal(beside, head).is_none() {
            self.otherwise((Outcome::Deny, reason), octets, turn);
        }
    }

    /// A stanza passes of a pair that would not stand.
    pub(super) fn stands(self, octets: usize, turn: &mut Turn<'_>) {
        if let Some(beside) = self.permit.beside().filter(|beside| !beside.is_allow()) {
            self.otherwise((Outcome::Allow, beside.reason), octets, turn);
        }
    }

    /// This stanza passes, and the policy in the shadow says this of its sender.
    pub(super) fn of_sender(self, (sender, word): (&str, Arc<Beside>), octets: usize, turn: &mut Turn<'_>) {
        let (outcome, reason, sender) = (Outcome::Allow, word.reason, Some(sender.into()));
        let (pair, rule) = (self.pair.clone(), self.permit.rule().clone());
        turn.note(Event::Otherwise { pair, sender, rule, outcome, reason, beside: word, octets });
    }

    /// Whether the policy in the shadow would let this stanza pass.
    pub(super) fn would_pass(self, head: &Head) -> bool {
        self.permit.beside().is_some_and(|beside| refusal(beside, head).is_none())
    }

    fn otherwise(self, (outcome, reason): (Outcome, Reason), octets: usize, turn: &mut Turn<'_>) {
        let Some(beside) = self.permit.beside().cloned() else { return };
        let (pair, rule) = (self.pair.clone(), self.permit.rule().clone());
        turn.note(Event::Otherwise { pair, sender: None, rule, outcome, reason, beside, octets });
    }
}

fn refusal(beside: &Beside, head: &Head) -> Option<Reason> {
    match beside.is_allow() {
        true => filter::refusal(head, beside.stanzas()),
        false => Some(beside.reason),
    }
}
