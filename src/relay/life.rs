//! How far a leg is: one answer for every leg of every relay.
//!
//! The machine of a leg is in here and nowhere else, so it cannot be there when the leg is over, nor be missing while words
//! go both ways.

use std::time::Instant;

/// How far a leg is, with its machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life<M> {
    /// Words go both ways.
    Open(M),
    /// Our closing tag is out; until then theirs is awaited. What they still send is heard as long as the machine is there:
    /// behind an error of ours it is not, and nothing counts any more but their closing tag (CLS-01).
    Closing {
        /// Hears what they still send.
        machine: Option<M>,
        /// T-close.
        until: Instant,
    },
    /// They have closed. What the other leg still has to say is passed on to them until then.
    Parting {
        /// T-close of the other leg.
        until: Instant,
    },
    /// It was finished or cut, or is not there yet.
    Over,
}

impl<M> Life<M> {
    /// Whether words go both ways.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Whether our closing tag is out and theirs is awaited.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self, Self::Closing { .. })
    }

    /// Whether nothing more happens on it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// What hears the other side, if anything does.
    pub(super) fn machine(&self) -> Option<&M> {
        match self {
            Self::Open(machine) => Some(machine),
            Self::Closing { machine, .. } => machine.as_ref(),
            Self::Parting { .. } | Self::Over => None,
        }
    }

    /// When a leg that is on its way out is over at the latest.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Self::Closing { until, .. } | Self::Parting { until } => Some(*until),
            Self::Open(_) | Self::Over => None,
        }
    }

    /// Takes the machine for a step, which consumes it. A leg that was open is over if it does not come back.
    pub(super) fn take(&mut self) -> Option<M> {
        match std::mem::replace(self, Self::Over) {
            Self::Open(machine) => Some(machine),
            Self::Closing { machine, until } => {
                *self = Self::Closing { machine: None, until };
                machine
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Puts back what came of the step.
    pub(super) fn put(&mut self, next: M) {
        match self {
            Self::Closing { machine, .. } => *machine = Some(next),
            other => *other = Self::Open(next),
        }
    }

    /// Our closing tag goes out; what they still send is heard.
    pub(super) fn close(&mut self, until: Instant) {
        if let Some(machine) = self.take() {
            *self = Self::Closing { machine: Some(machine), until };
        }
    }
}
