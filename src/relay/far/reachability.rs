//! Whether a server out in the world is to be had at all, for those who remember it (CLS-07).
//!
//! What is told here concerns our own pairs: that no stream could be had with the server, or that there is one to speak
//! with. What it says of a pair, and what our policy says of it, is neither.

use super::super::Effect;
use super::super::turn::Turn;
use super::Far;
use crate::reason::{Class, Facing, Reason};
use crate::stream::initiating::Errand;

/// There is a server that speaks with us, whatever it says.
pub(super) fn met(far: &Far, turn: &mut Turn<'_>) {
    if is_of_our_pair(far) {
        turn.push(Effect::Reached(far.id, Ok(())));
    }
}

/// No stream could be had, for this reason, as far as that is the server's.
pub(super) fn missed(far: &Far, reason: Reason, turn: &mut Turn<'_>) {
    if is_of_our_pair(far) && reason.is(Class::Absence) {
        turn.push(Effect::Reached(far.id, Err(reason)));
    }
}

/// Our patience is over while the server has our connection and nothing stands yet.
pub(in super::super) fn silent(far: &Far, turn: &mut Turn<'_>) {
    if !far.stands() && far.address.is_some() {
        missed(far, Reason::DialbackTimeout, turn);
    }
}

fn is_of_our_pair(far: &Far) -> bool {
    far.terms.facing == Facing::Public && matches!(far.terms.errand, Errand::Speak(_))
}
