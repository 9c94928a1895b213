//! Whether a courier goes on when its leg is no more.

use crate::reason::Why;

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Course {
    /// It opens another for what comes.
    GoesOn,
    /// It ends with its leg: that broke, and nothing was left to carry.
    Ends,
    /// It could not deliver, and that was the last failure: so goes back what still comes.
    GaveUp(Why),
}

impl Course {
    /// Whether it opens no other leg.
    pub(super) fn is_over(&self) -> bool {
        *self != Self::GoesOn
    }

    /// What the last failure was.
    pub(super) fn failure(&self) -> Option<&Why> {
        match self {
            Self::GoesOn | Self::Ends => None,
            Self::GaveUp(why) => Some(why),
        }
    }

    /// It ends with its leg, unless it has given up already.
    pub(super) fn end(&mut self) {
        if *self == Self::GoesOn {
            *self = Self::Ends;
        }
    }
}
