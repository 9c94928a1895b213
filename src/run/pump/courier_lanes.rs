//! Stanzas on their way to couriers: those of backends, and those of remote servers whose pair has no leg of its own any more. And a
//! courier's own end of it.
//!
//! Where a stream has one pair, it is not read while the courier has no room: TCP carries the pressure back (LIM-05). Where
//! others wait for the same stream, the stanza that finds no room goes back, and they go on (DB-66).

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;

use super::super::cargo::{Cargo, NotTaken};
use super::super::courier::{self, Couriers, Turned};
use super::super::{Caller, Later, Tools};
use super::bounces::Bounces;
use super::fars::Fars;
use crate::reason::Reason;
use crate::relay::{LaneId, Load};
use crate::stream::Pair;

/// What one relay gives to couriers, or has from its own.
#[derive(Default)]
pub(in crate::run) struct CourierLanes {
    /// Bounces for which there was no room.
    pub(in crate::run) bounces: Bounces,
    /// The pairs of a backend, and where their stanzas go.
    lanes: HashMap<LaneId, LaneEnd>,
    /// A stanza waits for room with the only courier that the stream has.
    stalled: Option<Box<Stalled>>,
    /// What a courier carries.
    cargo: Option<Arc<Cargo>>,
}

/// Where a lane leads: its pair, and the courier of that.
struct LaneEnd {
    pair: Pair,
    /// Where its stanzas went last.
    cargo: Option<Arc<Cargo>>,
}

/// A stanza that waits for room.
struct Stalled {
    way: Way,
    stanza: Bytes,
    wait: Later<()>,
}

/// Where a stanza goes.
pub(super) enum Way {
    /// Over the lane of its pair.
    Lane(LaneId),
    /// To the courier of a pair without a leg of its own.
    Pair(Pair),
}

impl CourierLanes {
    /// Of a courier with what it carries, or of any other relay.
    pub(super) fn of(cargo: Option<Arc<Cargo>>) -> Self {
        Self { cargo, ..Self::default() }
    }

    /// What a courier carries.
    pub(in crate::run) fn cargo(&self) -> Option<&Arc<Cargo>> {
        self.cargo.as_ref()
    }

    /// Whether there is no lane.
    pub(super) fn are_none(&self) -> bool {
        self.lanes.is_empty()
    }

    /// A lane begins.
    pub(in crate::run) fn open(&mut self, id: LaneId, pair: Pair) {
        self.lanes.entry(id).or_insert(LaneEnd { pair, cargo: None });
    }

    /// It ends.
    pub(in crate::run) fn close(&mut self, id: LaneId) {
        self.lanes.remove(&id);
    }

    /// Whether a far leg stands for any pair of a backend's stream.
    pub(in crate::run) fn serves(&self, couriers: &Couriers) -> bool {
        couriers.serve(self.lanes.values().map(|lane| &lane.pair))
    }

    /// A stanza goes to the courier of its pair.
    ///
    /// # Errors
    /// The stanza, which has no room.
    pub(in crate::run) fn hand(
        &mut self,
        tools: &Arc<Tools>,
        id: LaneId,
        stanza: Bytes,
    ) -> Result<(), Bytes> {
        let alone = self.lanes.len() == 1;
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(()) };
        let stanza = match &lane.cargo {
            Some(cargo) => match cargo.offer(Load::Own, stanza) {
                Ok(()) => return Ok(()),
                Err(NotTaken::Closed(stanza) | NotTaken::Full(stanza)) => stanza,
            },
            None => stanza,
        };
        match courier::send(tools, &lane.pair, stanza) {
            Ok(cargo) => lane.cargo = Some(cargo),
            Err(Turned::Full(stanza, _, wait)) if alone => {
                self.stalled = Some(Box::new(Stalled { way: Way::Lane(id), stanza, wait }));
            }
            Err(Turned::Full(stanza, ..) | Turned::None(stanza)) => return Err(stanza),
            Err(Turned::Stopped) => courier::lost(tools, &lane.pair, Reason::Shutdown),
        }
        Ok(())
    }

    /// A stanza of that caller goes to the courier of a pair that stands and has no leg of its own, and may be the only one of its
    /// stream; where it went, if it is not lost and does not wait.
    ///
    /// # Errors
    /// The stanza, which has no room.
    pub(in crate::run) fn carry(
        &mut self,
        tools: &Arc<Tools>,
        (pair, caller): (Pair, &Arc<Caller>),
        alone: bool,
        stanza: Bytes,
    ) -> Result<Option<Arc<Cargo>>, Bytes> {
        match courier::bring(tools, &pair, caller, stanza) {
            Ok(cargo) => return Ok(Some(cargo)),
            Err(Turned::Full(stanza, _, wait)) if alone => {
                self.stalled = Some(Box::new(Stalled { way: Way::Pair(pair), stanza, wait }));
            }
            Err(Turned::Full(stanza, ..) | Turned::None(stanza)) => return Err(stanza),
            Err(Turned::Stopped) => courier::lost(tools, &pair, Reason::Shutdown),
        }
        Ok(None)
    }

    /// Whether a stanza waits for room, and the stream with it.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.is_some()
    }

    /// Whether something waits for couriers.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_stalled() || self.bounces.are_waiting()
    }

    /// The stanza that had to wait, as soon as there may be room.
    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Option<(Way, Bytes)> {
        let stalled = self.stalled.take_if(|stalled| stalled.wait.as_mut().poll(cx).is_ready())?;
        Some((stalled.way, stalled.stanza))
    }

    /// What waits to go in for this pair comes back.
    pub(in crate::run) fn withdraw(&mut self, pair: &Pair) -> Option<Bytes> {
        let stalled = self.stalled.take_if(|stalled| matches!(&stalled.way, Way::Pair(of) if of == pair));
        stalled.map(|stalled| stalled.stanza)
    }

    /// What waits to go out over the lane of such a pair comes back.
    pub(super) fn take_stalled(&mut self, of: impl Fn(&Pair) -> bool) -> Option<Bytes> {
        let lanes = &self.lanes;
        let stalled = self.stalled.take_if(|stalled| match &stalled.way {
            Way::Lane(id) => lanes.get(id).is_some_and(|lane| of(&lane.pair)),
            Way::Pair(_) => false,
        });
        stalled.map(|stalled| stalled.stanza)
    }

    /// The relay ends with the gateway, and so does what waits.
    pub(super) fn lose(&mut self, tools: &Arc<Tools>) {
        self.bounces.lose(tools);
        let Some(stalled) = self.stalled.take() else { return };
        let pair = match &stalled.way {
            Way::Lane(id) => self.lanes.get(id).map(|lane| &lane.pair),
            Way::Pair(pair) => Some(pair),
        };
        if let Some(pair) = pair {
            courier::lost(tools, pair, Reason::Shutdown);
        }
    }

    /// What a courier takes of what waits for it, as long as its legs take it.
    pub(super) fn take(&self, fars: &Fars, cx: &mut Context<'_>) -> Vec<(Load, Bytes)> {
        match &self.cargo {
            Some(cargo) if !fars.values().any(|far| far.leg.is_full()) => cargo.take(BATCH, cx),
            _ => Vec::new(),
        }
    }

    /// What is on its way over these legs, or waits in the relay (octets and stanzas of that, and whether it has given up), makes room.
    pub(super) fn settle(&self, fars: &Fars, queued: impl FnOnce() -> ((usize, usize), bool)) {
        let Some(cargo) = &self.cargo else { return };
        let (queued, gave_up) = queued();
        let legs = fars.values().map(|far| &far.leg.outbox);
        let (octets, stanzas) = legs
            .fold(queued, |(octets, stanzas), outbox| (octets + outbox.octets(), stanzas + outbox.stanzas()));
        cargo.settle(octets, stanzas, gave_up);
    }
}

/// A report that came too late for the stream of its pair takes another.
pub(super) fn report(tools: &Arc<Tools>, pair: &Pair, stanza: Bytes) {
    courier::report(tools, pair, pair.target.clone(), stanza, true);
}

/// Stanzas that a courier takes at once.
const BATCH: usize = 128;
