//! Whether a server out in the world is to be had at all, for those who remember it (CLS-07).
//!
//! What is told here concerns our own pairs: that no stream could be had with the server, or that there is one to speak
//! with. What it says of a pair, and what our policy says of it, is neither.

use super::super::Effect;
use super::super::turn::Turn;
use super::Far;
use crate::reason::{Class, Facing, Reason};
use crate::stream::initiating::Errand;

impl Far {
    /// There is a server that speaks with us, whatever it says.
    pub(super) fn met(&self, turn: &mut Turn<'_>) {
        if self.is_our_pair() {
            turn.push(Effect::Fared(self.id, Ok(())));
        }
    }

    /// No stream could be had, for this reason, as far as that is the server's.
    pub(super) fn missed(&self, reason: Reason, turn: &mut Turn<'_>) {
        if self.is_our_pair() && reason.is(Class::Absence) {
            turn.push(Effect::Fared(self.id, Err(reason)));
        }
    }

    /// Our patience is over while the server has our connection and nothing stands yet.
    pub(in super::super) fn late(&self, turn: &mut Turn<'_>) {
        if !self.stands() && self.address.is_some() {
            self.missed(Reason::DialbackTimeout, turn);
        }
    }

    fn is_our_pair(&self) -> bool {
        self.terms.facing == Facing::Public && matches!(self.terms.errand, Errand::Speak(_))
    }
}
