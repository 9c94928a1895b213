//! The legs of one relay: the near one, where it has one, and those that it has opened.
//!
//! What is asked of all of them, in their order, is asked here. Nothing but the legs is touched, and the relay hears nothing: what is
//! found is given back.

use std::time::{Duration, Instant};

use super::super::leg::{Leg, Link};
use super::super::registry::Meta;
use super::super::{Params, Towards, Transport, now};
use super::fars::Fars;
use crate::limit::Valve;
use crate::reason::{Facing, Flow, Reason};
use crate::relay::plan::{self, StreamLimits, Timeouts};
use crate::relay::{Destination, Side};

/// The legs of one relay.
#[derive(Default)]
pub(in crate::run) struct Legs {
    pub(in crate::run) near: Option<Leg>,
    pub(in crate::run) fars: Fars,
}

impl Legs {
    /// That leg, as it is.
    pub(in crate::run) fn get(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Near => self.near.as_ref(),
            Side::Far(id) => self.fars.get(id).map(|far| &far.leg),
        }
    }

    /// That leg, to do something with: it is looked at in this turn.
    pub(in crate::run) fn get_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Near => self.near.as_mut(),
            Side::Far(id) => self.fars.get_mut(id).map(|far| &mut far.leg),
        }
    }

    /// Does this with that leg, if there is one.
    pub(in crate::run) fn on(&mut self, side: Side, deed: impl FnOnce(&mut Leg)) {
        if let Some(leg) = self.get_mut(side) {
            deed(leg);
        }
    }

    /// Does this with that leg, if there is one that has not come to its end.
    pub(in crate::run) fn on_open(&mut self, side: Side, deed: impl FnOnce(&mut Leg)) {
        if let Some(leg) = self.get_mut(side).filter(|leg| !leg.is_closed()) {
            deed(leg);
        }
    }

    /// All of them, also those that rest.
    pub(super) fn all(&self) -> impl Iterator<Item = &Leg> {
        self.near.iter().chain(self.fars.values().map(|far| &far.leg))
    }

    fn awake(&self) -> impl Iterator<Item = &Leg> {
        self.near.iter().chain(self.fars.awake().map(|far| &far.leg))
    }

    /// The sides that there are now.
    pub(super) fn sides(&self) -> Vec<Side> {
        let near = self.near.is_some().then_some(Side::Near);
        near.into_iter().chain(self.fars.ids().map(Side::Far)).collect()
    }

    /// The sides whose legs do not rest, in their order, one after the other; they may come and go meanwhile.
    pub(super) fn after(&self, side: Option<Side>) -> Option<Side> {
        let far = match side {
            None if self.near.is_some() => return Some(Side::Near),
            None | Some(Side::Near) => self.fars.after(None),
            Some(Side::Far(id)) => self.fars.after(Some(id)),
        };
        far.map(Side::Far)
    }

    /// The network that a leg looks at.
    pub(in crate::run) fn facing(&self, flow: Flow, side: Side) -> Facing {
        match side {
            Side::Near => plan::near(flow),
            Side::Far(id) => match self.fars.get(id).map(|far| &far.destination) {
                Some(Destination::Backend(_) | Destination::Client(_)) => Facing::Backend,
                Some(Destination::World { .. }) | None => Facing::Public,
            },
        }
    }

    /// A turn begins: none has been read yet.
    pub(super) fn begin(&mut self) {
        if let Some(near) = &mut self.near {
            near.quiet = false;
        }
        self.fars.begin();
    }

    /// Whether another round could move nothing: each has been read to the end and has nothing to send.
    pub(super) fn are_settled(&self) -> bool {
        self.awake().all(Leg::is_settled)
    }

    /// Ends them all, each when all is said; whether that is so.
    pub(super) fn end(&mut self) -> bool {
        self.near.iter_mut().for_each(Leg::end);
        let ids: Vec<_> = self.fars.ids().collect();
        for id in ids {
            self.fars.get_mut(id).into_iter().for_each(|far| far.leg.end());
        }
        self.all().all(Leg::is_closed)
    }

    /// The first time at which one of them is to be looked at.
    pub(super) fn deadline(&self, params: &Params) -> Option<Instant> {
        self.awake().filter_map(|leg| leg.deadline(params)).chain(self.fars.due()).min()
    }

    /// Octets that they hold.
    pub(super) fn held(&self) -> usize {
        self.all().map(|leg| leg.buffered() + leg.outbox.octets()).sum()
    }

    /// Whether that leg may be read, and what it brings has room to go.
    pub(super) fn have_room(&self, flow: Flow, side: Side) -> bool {
        let Some(leg) = self.get(side) else { return false };
        if !leg.is_readable() || is_clogged(leg, flow) {
            return false;
        }
        match side {
            Side::Near => match self.fars.values().next() {
                Some(far) if self.fars.len() == 1 => !far.leg.is_full() && far.leg.outbox.shut().is_none(),
                // LIM-03: a peer is slowed, whatever it has on the stream.
                _ => self.fars.awake().all(|far| far.leg.outbox.shut().is_none()),
            },
            Side::Far(_) => self.near.as_ref().is_none_or(|near| !is_clogged(near, flow)),
        }
    }

    /// From here on that side is who it says it is: larger limits, and a client's server, which has no pair, is shaped by these rates.
    pub(in crate::run) fn widen(
        &mut self,
        flow: Flow,
        side: Side,
        limits: &StreamLimits,
        number: u64,
        rates: impl FnOnce() -> Valve,
    ) {
        let inside = self.facing(flow, side) == Facing::Backend;
        let client = flow == Flow::C2s;
        if let Side::Far(id) = side
            && let Some(far) = self.fars.get_mut(id)
        {
            if client {
                // It is chosen from here on; others may be told to go elsewhere.
                far.route = None;
                far.leg.outbox.shape(rates());
            }
            if let Some(place) = &mut far.place {
                place.stands(now());
            }
        }
        let Some(leg) = self.get_mut(side) else { return };
        leg.proven(if inside { &limits.inside } else { &limits.proven });
        if inside {
            leg.outbox.read_with_delay();
        }
        leg.framer.compare_from(number);
        if client && side == Side::Near {
            // Table 0.3: servers overlook it.
            leg.framer.pass_over_text();
        }
    }

    /// How long that side may take no octets, where that is less than usual: at the end of a stream no longer than its end may take,
    /// but where our own server still has to take what was accepted; and, where stanzas of ours go back over the near leg, no longer
    /// than those may wait.
    pub(super) fn patience(
        &self,
        flow: Flow,
        side: Side,
        goes_back: bool,
        times: &Timeouts,
    ) -> Option<Duration> {
        let leg = self.get(side)?;
        let owed = leg.outbox.stanzas() > 0;
        match leg.is_ending() {
            true => (!owed || self.facing(flow, side) == Facing::Public).then_some(times.close),
            false => (owed && side == Side::Near && goes_back).then_some(times.queue),
        }
    }

    /// Begins TLS on that leg once the word before it is out; whether it has begun.
    ///
    /// # Errors
    /// [`Reason::Internal`] for a leg to a backend: those are spoken to in clear, and a relay never asks for TLS there. The leg is closed.
    pub(super) fn secure(
        &mut self,
        side: Side,
        transport: &dyn Transport,
        meta: &Meta,
    ) -> Result<bool, Reason> {
        if !self.get(side).is_some_and(Leg::is_upgrade_due) {
            return Ok(false);
        }
        let destination = match side {
            Side::Near => None,
            Side::Far(id) => self.fars.get(id).map(|far| far.destination.clone()),
        };
        let Some(leg) = self.get_mut(side) else { return Ok(false) };
        let Some(io) = leg.take_transport() else { return Ok(false) };
        match destination {
            None => {
                let named = leg.named.as_deref().and_then(|domain| crate::jid::Domain::parse(domain).ok());
                let peer = meta.peer.map(|peer| peer.ip());
                leg.link = Link::Upgrading(transport.secure_near(io, meta.flow, named, peer));
            }
            Some(Destination::World { from, target, posh, via, .. }) => {
                let published = leg.published.take().unwrap_or_default();
                let towards = Towards { from, target, published, posh, via };
                leg.link = Link::Upgrading(transport.secure_far(io, towards));
            }
            Some(Destination::Backend(_) | Destination::Client(_)) => return Err(Reason::Internal),
        }
        Ok(true)
    }
}

/// Whether so much waits to go out there that nothing should be read of which more may come. Between servers no stanza goes back
/// over the leg that brought it: two of them that wait for each other to read would wait for ever.
fn is_clogged(leg: &Leg, flow: Flow) -> bool {
    match flow {
        Flow::C2s => leg.is_full(),
        Flow::S2sIn | Flow::S2sOut => leg.is_choked(),
    }
}
