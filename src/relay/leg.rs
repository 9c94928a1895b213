//! What happens to a leg, whatever relay it belongs to: sorted in one place from what concerns the relay as a whole.
//!
//! No use of the relay has an arm for whatever it does not name: an [`Input`] that is new does not compile before each of them has
//! said whether it concerns it.

use std::net::IpAddr;

use bytes::Bytes;

use super::Input;
use super::far::{Far, FarOutcome};
use super::turn::Turn;
use crate::reason::{Reason, Why};
use crate::stream::{Certificate, Secured};

/// The pattern of what [`Input::of_relay`] sorts out, and of tokens: no use of the relay sees them behind it.
macro_rules! of_leg {
    () => {
        Input::Connected(..)
            | Input::Gone { .. }
            | Input::Retrusted(_)
            | Input::Secured(_)
            | Input::Stalled
            | Input::Token(_)
            | Input::Unreachable(_)
    };
}

/// The pattern of what concerns streams that servers have opened, and no others.
macro_rules! of_servers {
    () => {
        Input::Back(..)
            | Input::Forsaken
            | Input::GoneOn(_)
            | Input::Inquired(_)
            | Input::Report(..)
            | Input::Resumed(_)
            | Input::Serves(_)
            | Input::Settled(_)
            | Input::Verified(..)
            | Input::Vouched(..)
    };
}

pub(super) use {of_leg, of_servers};

/// An input that concerns one leg; each as in [`Input`].
pub(super) enum OfLeg {
    Connected(IpAddr, Option<Secured>),
    Gone { reason: Reason, unsent: Vec<Bytes> },
    Retrusted(Box<Certificate>),
    Secured(Secured),
    Stalled,
    Unreachable(Why),
}

impl Input {
    /// The input as it came, if it concerns the relay; else what happens to a leg. Tokens come on a shorter way, and are not
    /// among these.
    pub(super) fn of_relay(self) -> Result<Self, OfLeg> {
        match self {
            Self::Connected(address, secured) => Err(OfLeg::Connected(address, secured)),
            Self::Gone { reason, unsent } => Err(OfLeg::Gone { reason, unsent }),
            Self::Retrusted(certificate) => Err(OfLeg::Retrusted(Box::new(certificate))),
            Self::Secured(secured) => Err(OfLeg::Secured(secured)),
            Self::Stalled => Err(OfLeg::Stalled),
            Self::Unreachable(why) => Err(OfLeg::Unreachable(why)),
            Self::Token(_)
            | of_servers!()
            | Self::Alive
            | Self::Close(_)
            | Self::Drain
            | Self::Expired
            | Self::RelayParams(_)
            | Self::Overflow(_)
            | Self::Overtaken
            | Self::Policy(_)
            | Self::Queue(..)
            | Self::Refused(..)
            | Self::Tried(_)
            | Self::Withdraw(..)
            | Self::Yield => Ok(self),
        }
    }
}

impl OfLeg {
    /// It happens to this far leg.
    pub(super) fn at(self, far: &mut Far, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        match self {
            Self::Connected(address, secured) => far.connected(address, secured, turn),
            Self::Gone { reason, unsent } => far.gone(reason, unsent, turn),
            Self::Retrusted(certificate) => far.retrusted(*certificate, turn),
            Self::Secured(secured) => far.secure(secured, turn),
            Self::Stalled => far.fault(Reason::StanzaTimeout, turn),
            Self::Unreachable(why) => far.unreachable(why, turn),
        }
    }
}
