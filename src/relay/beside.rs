//! What the policy in the shadow would have made of a stanza, where that is otherwise than what became of it.
//!
//! Without a shadow a permit carries nothing of the kind, and a stanza pays for one look at that.

use std::sync::Arc;

use super::event::Event;
use super::turn::Turn;
use crate::filter;
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

/// This stanza of the pair passes under the permit.
pub(super) fn passes(
    turn: &mut Turn<'_>,
    (pair, permit): (&Pair, &Permit),
    scope: Scope,
    head: &Head,
    octets: usize,
) {
    let Some(beside) = permit.beside() else { return };
    if scope == Scope::Stanzas && !beside.is_allow() {
        return;
    }
    if let Some(reason) = refusal(beside, head) {
        otherwise(turn, pair, permit, (Outcome::Allow, reason), octets);
    }
}

/// This stanza of the pair is refused for this reason, although the pair stands under the permit.
pub(super) fn refused(
    turn: &mut Turn<'_>,
    (pair, permit): (&Pair, &Permit),
    reason: Reason,
    head: &Head,
    octets: usize,
) {
    let Some(beside) = permit.beside() else { return };
    // What came is counted for the rule in force alone.
    let too_much = reason == Reason::QuarantineRate && beside.stanzas().quarantine().is_none();
    if (reason.is(Class::Compared) || too_much) && refusal(beside, head).is_none() {
        otherwise(turn, pair, permit, (Outcome::Deny, reason), octets);
    }
}

/// A stanza of a pair passes that would not stand.
pub(super) fn stands(turn: &mut Turn<'_>, pair: &Pair, permit: &Permit, octets: usize) {
    if let Some(beside) = permit.beside().filter(|beside| !beside.is_allow()) {
        let reason = beside.reason;
        otherwise(turn, pair, permit, (Outcome::Allow, reason), octets);
    }
}

/// This stanza of the pair passes under the permit, and the policy in the shadow says this of its sender.
pub(super) fn of_sender(
    turn: &mut Turn<'_>,
    (pair, permit): (&Pair, &Permit),
    (sender, word): (&str, Arc<Beside>),
    octets: usize,
) {
    let (outcome, reason, sender) = (Outcome::Allow, word.reason, Some(sender.into()));
    let (pair, rule) = (pair.clone(), permit.rule().clone());
    turn.note(Event::Otherwise { pair, sender, rule, outcome, reason, beside: word, octets });
}

fn otherwise(
    turn: &mut Turn<'_>,
    pair: &Pair,
    permit: &Permit,
    (outcome, reason): (Outcome, Reason),
    octets: usize,
) {
    let Some(beside) = permit.beside().cloned() else { return };
    let (pair, rule) = (pair.clone(), permit.rule().clone());
    turn.note(Event::Otherwise { pair, sender: None, rule, outcome, reason, beside, octets });
}

/// Whether the policy in the shadow would let this stanza of the pair pass.
pub(super) fn would_pass(permit: &Permit, head: &Head) -> bool {
    permit.beside().is_some_and(|beside| refusal(beside, head).is_none())
}

fn refusal(beside: &Beside, head: &Head) -> Option<Reason> {
    match beside.is_allow() {
        true => filter::refusal(head, beside.stanzas()),
        false => Some(beside.reason),
    }
}
