//! What becomes of a leg's transport: it is connected, it is secured, it begins TLS.

use std::sync::Arc;

use super::super::Towards;
use super::super::leg::{Found, Leg, Link};
use super::Pump;
use crate::reason::{Facing, Reason};
use crate::relay::{Destination, Input, Side, plan};

impl Pump {
    /// The network that a leg looks at.
    pub(in crate::run) fn facing(&self, side: Side) -> Facing {
        match side {
            Side::Near => plan::near(self.meta.flow),
            Side::Far(id) => match self.fars.get(id).map(|f| &f.destination) {
                Some(Destination::Backend(_) | Destination::Client(_)) => Facing::Backend,
                Some(Destination::World { .. }) | None => Facing::Public,
            },
        }
    }

    pub(super) fn found(&mut self, side: Side, found: Found) {
        match found {
            Found::Connected(route, outcome) => {
                if let Side::Far(id) = side
                    && let Some(far) = self.fars.get_mut(id)
                {
                    far.route = Some(route);
                }
                self.step(
                    side,
                    outcome.map_or_else(Input::Unreachable, |(address, secured)| {
                        Input::Connected(address, secured)
                    }),
                );
            }
            Found::Secured(secured) => self.step(side, Input::Secured(secured)),
            Found::Failed(reason) => self.gone(side, reason),
        }
    }

    /// Begins TLS once the word before it is out.
    pub(super) fn start_upgrade(&mut self, side: Side) -> bool {
        let due = |leg: &mut Leg| leg.upgrade && leg.outbox.is_empty() && matches!(leg.link, Link::Open(_));
        if !self.leg(side).is_some_and(due) {
            return false;
        }
        let outside = Arc::clone(&self.tools.outside);
        let (flow, peer) = (self.meta.flow, self.meta.peer.map(|peer| peer.ip()));
        let destination = match side {
            Side::Near => None,
            Side::Far(id) => self.fars.get(id).map(|f| f.destination.clone()),
        };
        let Some(leg) = self.leg(side) else { return false };
        leg.upgrade = false;
        let Link::Open(io) = std::mem::replace(&mut leg.link, Link::Closed) else { return false };
        match destination {
            None => {
                let named = leg.named.as_deref().and_then(|d| crate::jid::Domain::parse(d).ok());
                leg.link = Link::Upgrading(outside.secure_near(io, flow, named, peer));
            }
            Some(Destination::World { from, target, posh, via, .. }) => {
                let published = leg.published.take().unwrap_or_default();
                let towards = Towards { from, target, published, posh, via };
                leg.link = Link::Upgrading(outside.secure_far(io, towards));
            }
            // Backends are spoken to in clear; a relay never asks for TLS there.
            Some(Destination::Backend(_) | Destination::Client(_)) => self.gone(side, Reason::Internal),
        }
        true
    }
}

/// Ends a leg when all is said, or before it is begun.
pub(super) fn end(leg: &mut Leg) {
    match leg.link {
        Link::Open(_) => leg.ending = true,
        Link::Connecting(_) | Link::Upgrading(_) => leg.link = Link::Closed,
        Link::Lingering { .. } | Link::Closed => {}
    }
}
