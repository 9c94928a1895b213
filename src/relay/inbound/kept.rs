//! What went back over a counted stream (SM-01, SM-08): it is kept until the peer has acknowledged it.
//!
//! Where the stream breaks it waits as long as that may be gone on with, and all that comes for its pairs waits behind it; but only for a
//! moment once the peer has come on another stream and goes on with none. Whoever goes on tells how much he has taken: the rest goes another way, once and in its order. Of what nobody tells, nobody knows: it comes back.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::contract::Left;
use super::super::event::{Event, ManagementOutcome};
use super::super::near::Near;
use super::super::origin::{Origin, pair_of, reread};
use super::super::turn::Turn;
use super::super::{Effect, RelayParams, Side};
use crate::reason::{Direction, Reason};
use crate::stream::management::{self, Unacknowledged};

/// What went back, and what the peer has said of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Sent {
    unacknowledged: Unacknowledged,
}

/// What a stream has left that broke.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Limbo {
    unacknowledged: Unacknowledged,
    pub(super) until: Instant,
}

impl Sent {
    /// The count begins: behind so many that were taken before, where a session goes on.
    pub(super) fn begins(near: &Near, taken: u32, relays: &RelayParams) -> Option<Self> {
        (near.is_bidi() && relays.limits.unacked_stanzas > 0)
            .then(|| Self { unacknowledged: Unacknowledged::behind(taken) })
    }

    /// This goes back.
    pub(in super::super) fn push(&mut self, stanza: Bytes, now: Instant) {
        self.unacknowledged.push(stanza, now);
    }

    /// Whether another stanza may go back.
    pub(super) fn has_room(&self, relays: &RelayParams) -> bool {
        let limits = &relays.limits;
        self.unacknowledged.has_room(1, (limits.unacked_stanzas, limits.unacked_octets))
    }

    /// How many are not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        self.size().1
    }

    /// Octets and number of what is not acknowledged.
    pub(super) fn size(&self) -> (usize, usize) {
        self.unacknowledged.size()
    }

    /// When something is due.
    pub(super) fn deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let (again, dead) = self.unacknowledged.deadlines(relays.timeouts.acknowledgement);
        again.into_iter().chain(dead).min()
    }

    /// Asks how much was taken, if it is time to.
    pub(super) fn ask(&mut self, turn: &mut Turn<'_>) {
        if self.unacknowledged.asks(turn.now) {
            turn.send(Side::Near, management::write_ask().into());
        }
    }

    /// The peer has taken so many. While its stream lives it is asked about the rest, if it is time to.
    ///
    /// # Errors
    /// The stream ends for this reason.
    pub(super) fn acknowledged(
        &mut self,
        taken: u32,
        near: &Near,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reason> {
        let counted = self.unacknowledged.acknowledge(taken, turn.now);
        counted.map_err(|management::Miscounted| Reason::Miscounted)?;
        if near.is_live() {
            self.ask(turn);
        }
        Ok(())
    }

    /// Some time has come on a stream that lives.
    ///
    /// # Errors
    /// The connection is given up for this reason: nobody can be there.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) -> Result<(), Reason> {
        let (_, dead) = self.unacknowledged.deadlines(turn.relays.timeouts.acknowledgement);
        if dead.is_none_or(|at| at > turn.now) {
            self.ask(turn);
            return Ok(());
        }
        // What waits to go out is kept here, too.
        turn.push(Effect::Recall(Side::Near, self.waiting()));
        Err(Reason::AckTimeout)
    }

    /// The stream is about to be closed.
    pub(super) fn ask_at_last(&mut self, turn: &mut Turn<'_>) {
        if self.unacknowledged.asks_at_last() {
            turn.send(Side::Near, management::write_ask().into());
        }
    }

    /// The stream is no more, and the last so many did not go out: what is told to whoever goes on, and what is left.
    pub(super) fn left(mut self, unsent: usize) -> (Left, Unacknowledged) {
        self.unacknowledged.forget_last(unsent);
        let open = u32::try_from(self.waiting()).unwrap_or(u32::MAX);
        (Left { taken: 0, sent: self.unacknowledged.sent(), open }, self.unacknowledged)
    }
}

impl Limbo {
    /// The stream is no more, and this is left, if anything: it waits for whoever goes on with the stream.
    pub(super) fn begins(left: Unacknowledged, turn: &mut Turn<'_>) -> Option<Self> {
        if left.is_empty() {
            return None;
        }
        // What comes back from here does not go out besides, nor come back a second time.
        turn.push(Effect::Recall(Side::Near, left.size().1));
        Some(Self { unacknowledged: left, until: turn.now + turn.relays.timeouts.resume })
    }

    /// Octets and number of what it keeps.
    pub(super) fn size(&self) -> (usize, usize) {
        self.unacknowledged.size()
    }

    /// Nobody is likely to go on with the session any more.
    pub(super) fn forsaken(&mut self, turn: &Turn<'_>) {
        self.until = self.until.min(turn.now + HOLD);
    }

    /// Somebody has gone on with the session, and had taken so many. Of what cannot be true nothing is believed.
    pub(super) fn gone_on(mut self, taken: u32, turn: &mut Turn<'_>) {
        if self.unacknowledged.acknowledge(taken, turn.now).is_err() {
            return self.give_back(turn);
        }
        let left = self.unacknowledged.take();
        if !left.is_empty() {
            turn.note(Event::Managed { what: ManagementOutcome::Resent, stanzas: left.len() });
        }
        let named = |stanza: Bytes| Some((pair_of(reread(&stanza)?.head())?, stanza));
        turn.push(Effect::Again(left.into_iter().filter_map(named).collect()));
    }

    /// Nobody knows whether these have arrived: they come back, and are never sent again.
    pub(super) fn give_back(mut self, turn: &mut Turn<'_>) {
        let left = self.unacknowledged.take();
        turn.note(Event::Managed { what: ManagementOutcome::Returned, stanzas: left.len() });
        let origin = Origin { direction: Direction::Outbound, caller: None };
        for stanza in left {
            origin.undeliverable(&stanza, &Reason::Unacknowledged.into(), turn);
        }
    }
}

/// How long a peer that is there again has to go on with what it left.
const HOLD: Duration = Duration::from_secs(10);
