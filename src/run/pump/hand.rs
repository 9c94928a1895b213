//! Stanzas of backends on their way to couriers, and a courier's own end of it.
//!
//! Those of a remote server whose pair has no leg of its own any more go the same way.
//!
//! Where a stream has one pair, it is not read while the courier has no room: TCP carries the pressure back (LIM-05). Where
//! others wait for the same stream, the stanza that finds no room goes back, and they go on (DB-66).

use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;

use super::super::Later;
use super::super::cargo::{Cargo, Refused};
use super::super::courier::{self, Turned};
use super::super::registry::Order;
use super::{Pump, settling};
use crate::reason::Reason;
use crate::relay::{FarId, Input, LaneId, Load, Side};
use crate::stream::Pair;

/// A pair of a backend.
pub(in crate::run) struct Lane {
    pair: Pair,
    /// Where its stanzas went last.
    cargo: Option<Arc<Cargo>>,
}

/// A stanza that waits for room.
pub(super) struct Stalled {
    way: Way,
    stanza: Bytes,
    wait: Later<()>,
}

/// Where it goes.
enum Way {
    Lane(LaneId),
    /// A pair without a leg of its own.
    Pair(Pair),
}

impl Pump {
    /// A courier takes what it carries from there.
    #[must_use]
    pub fn laden(mut self, cargo: Arc<Cargo>) -> Self {
        self.cargo = Some(cargo);
        // What it was made for is with it before it hears any news.
        self.poll_cargo(&mut Context::from_waker(Waker::noop()));
        self
    }

    /// Others wait for its place from the beginning.
    #[must_use]
    pub fn yielding(mut self) -> Self {
        self.step(Side::Near, Input::Yield);
        self
    }

    pub(in crate::run) fn lane(&mut self, id: LaneId, pair: Pair) {
        self.lanes.entry(id).or_insert(Lane { pair, cargo: None });
    }

    /// A stanza goes to the courier of its pair.
    pub(in crate::run) fn hand(&mut self, id: LaneId, stanza: Bytes) {
        let alone = self.lanes.len() == 1;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let stanza = match &lane.cargo {
            Some(cargo) => match cargo.offer(Load::Own, stanza) {
                Ok(()) => return,
                Err(Refused::Closed(stanza) | Refused::Full(stanza)) => stanza,
            },
            None => stanza,
        };
        match courier::send(&self.tools, &lane.pair, stanza) {
            Ok(cargo) => lane.cargo = Some(cargo),
            Err(Turned::Full(stanza, _, wait)) if alone => {
                self.stalled = Some(Box::new(Stalled { way: Way::Lane(id), stanza, wait }));
            }
            Err(Turned::Full(stanza, ..) | Turned::None(stanza)) => {
                self.step(Side::Near, Input::Overflow(stanza));
            }
            Err(Turned::Stopped) => courier::lost(&self.tools, &lane.pair, Reason::Shutdown),
        }
    }

    /// A stanza goes to the courier of a pair that stands and has no leg of its own.
    pub(super) fn carry_on(&mut self, pair: Pair, stanza: Bytes) {
        // What comes back over a courier's leg is of one pair.
        let alone = self.sending.len() == 1 || self.near.is_none();
        match courier::hand_over(&self.tools, &pair, Load::Admitted, stanza) {
            Ok(cargo) => settling::carries(self, &cargo),
            Err(Turned::Full(stanza, _, wait)) if alone => {
                self.stalled = Some(Box::new(Stalled { way: Way::Pair(pair), stanza, wait }));
            }
            Err(Turned::Full(stanza, ..) | Turned::None(stanza)) => {
                self.step(Side::Near, Input::Refused(stanza, Reason::QueueFull));
            }
            Err(Turned::Stopped) => courier::lost(&self.tools, &pair, Reason::Shutdown),
        }
    }

    /// What waits to go in for this pair comes back: nothing of it goes on that has not begun to.
    pub(in crate::run) fn withdraw(&mut self, pair: &Pair, id: Option<FarId>, reason: Reason) {
        let far = id.and_then(|id| self.fars.get_mut(id));
        let mut waiting = far.map(|far| far.leg.outbox.take_waiting()).unwrap_or_default();
        let stalled = self.stalled.take_if(|stalled| matches!(&stalled.way, Way::Pair(of) if of == pair));
        waiting.extend(stalled.map(|stalled| stalled.stanza));
        for stanza in waiting {
            self.step(Side::Near, Input::Refused(stanza, reason));
        }
    }

    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let ready = self.stalled.as_mut().is_some_and(|stalled| stalled.wait.as_mut().poll(cx).is_ready());
        if ready && let Some(stalled) = self.stalled.take() {
            match stalled.way {
                Way::Lane(id) => self.hand(id, stalled.stanza),
                Way::Pair(pair) => self.carry_on(pair, stalled.stanza),
            }
        }
        ready
    }

    /// The relay ends with the gateway, and so does what waits.
    pub(super) fn lose_stalled(&mut self) {
        let Some(stalled) = self.stalled.take() else { return };
        let pair = match &stalled.way {
            Way::Lane(id) => self.lanes.get(id).map(|lane| &lane.pair),
            Way::Pair(pair) => Some(pair),
        };
        if let Some(pair) = pair {
            courier::lost(&self.tools, pair, Reason::Shutdown);
        }
    }

    /// Reports that came too late for the stream of their pair take another.
    pub(super) fn pass_on_reports(&mut self) {
        while let Some(order) = self.orders.take() {
            if let Order::Report(report) = order {
                let via = report.0.target.clone();
                courier::report(&self.tools, &report.0, via, report.1, true);
            }
        }
    }

    /// Whether a far leg stands for any pair of a backend's stream.
    pub(in crate::run) fn serves(&self) -> bool {
        self.tools.couriers.serve(self.lanes.values().map(|lane| &lane.pair))
    }

    /// A courier takes what waits, as long as its leg takes it.
    pub(super) fn poll_cargo(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(cargo) = self.cargo.as_ref().filter(|_| !self.fars.values().any(|far| far.leg.is_full()))
        else {
            return false;
        };
        let taken = cargo.take(BATCH, cx);
        let any = !taken.is_empty();
        for (load, stanza) in taken {
            self.step(Side::Near, Input::Queue(load, stanza));
        }
        any
    }

    /// What is on its way, or on its way back, makes room.
    pub(super) fn settle_cargo(&mut self) {
        let Some(cargo) = &self.cargo else { return };
        let legs = self.fars.values().map(|far| &far.leg.outbox);
        let (octets, stanzas) =
            legs.fold((0, 0), |(o, s), outbox| (o + outbox.octets(), s + outbox.stanzas()));
        let (waiting, count) = self.relay.queued();
        cargo.settle(octets + waiting, stanzas + count, self.relay.has_given_up());
    }
}

/// Stanzas that a courier takes at once.
const BATCH: usize = 128;
