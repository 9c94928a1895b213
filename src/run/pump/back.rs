//! Streams that go both ways (XEP-0288): what a backend sends goes back over the stream of the peer, and what a peer sends over a
//! stream of ours goes inside.
//!
//! A pair that may go back takes its stanzas from a cargo, as a courier does, and whoever has one hands it over without knowing
//! which of the two it is. When the way back ends, what has not gone out goes on over a stream of our own, in its order
//! (RLY-05, CLS-02): as long as the outbox of the peer's stream may still give some of it back, what comes waits.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::time::Sleep;

use super::super::cargo::Cargo;
use super::super::leg::Leg;
use super::super::registry::RelayId;
use super::super::{Tools, courier};
use crate::limit::{Allowance, StreamTicket, Valve};
use crate::metrics::Metrics;
use crate::policy::Permit;
use crate::reason::Flow;
use crate::relay::plan;
use crate::stream::Pair;
use crate::xml::Kind;

/// The pairs that go back over the near leg.
#[derive(Default)]
pub(in crate::run) struct Backs(HashMap<Pair, Back>);

struct Back {
    cargo: Arc<Cargo>,
    /// Its rates, and its place in the count of its rule, once it has sent something.
    rates: Option<(Valve, StreamTicket)>,
    /// Its rates let nothing go until then.
    shut: Option<Pin<Box<Sleep>>>,
    /// It goes back no more.
    ending: bool,
    /// What did not go out, oldest first.
    returned: Vec<Bytes>,
}

/// What is found when the pairs are looked at.
#[derive(Default)]
pub(super) struct Taken {
    /// These stanzas go back now.
    pub(super) stanzas: Vec<(Pair, Bytes)>,
    /// Of these pairs none goes back any more, nor will any be returned.
    pub(super) over: Vec<Pair>,
}

/// Whether this permit is for a pair that travels against the flow of its relay.
pub(in crate::run) fn is_against(flow: Flow, permit: &Permit) -> bool {
    flow != Flow::C2s && plan::direction(flow) != permit.direction()
}

impl Backs {
    /// Whether this pair goes back, or did just now.
    pub(in crate::run) fn has(&self, pair: &Pair) -> bool {
        self.0.contains_key(pair)
    }

    /// Whether none of the pairs goes back.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The way back over the stream of that relay is open for this pair from now on.
    pub(in crate::run) fn open(&mut self, tools: &Arc<Tools>, id: RelayId, pair: Pair) {
        match self.0.get_mut(&pair) {
            Some(back) => back.ending = false,
            None => {
                let cargo =
                    tools.peering.couriers.open_back(&tools.relays.limits, &tools.registry, &pair, id);
                let back = Back { cargo, rates: None, shut: None, ending: false, returned: Vec::new() };
                self.0.insert(pair, back);
            }
        }
    }

    /// The way back is open for this pair no more.
    pub(in crate::run) fn close(&mut self, pair: &Pair) {
        if let Some(back) = self.0.get_mut(pair) {
            // However long what is left of it waits, it counts no more.
            (back.ending, back.rates) = (true, None);
        }
    }

    /// Its place is given back, before it takes another.
    pub(in crate::run) fn unrate(&mut self, pair: &Pair) {
        if let Some(back) = self.0.get_mut(pair) {
            back.rates = None;
        }
    }

    /// These rates apply to this pair from now on, and it is counted there.
    pub(in crate::run) fn rate(&mut self, pair: &Pair, valve: Valve, ticket: StreamTicket) {
        if let Some(back) = self.0.get_mut(pair) {
            back.rates = Some((valve, ticket));
        }
    }

    /// A stanza of this pair goes back over that leg.
    pub(in crate::run) fn pass(
        &self,
        near: &mut Leg,
        pair: &Pair,
        stanza: Bytes,
        metrics: &Metrics,
        now: Instant,
    ) {
        if let Some((valve, _)) = self.0.get(pair).and_then(|back| back.rates.as_ref()) {
            let mut spent = Allowance::default();
            spent.add(stanza.len());
            valve.charge(&spent, now);
        }
        metrics.passed(Flow::S2sOut, &pair.sender, Kind::of_stanza(&stanza), 1, stanza.len() as u64);
        metrics.went_back(Flow::S2sOut);
        near.outbox.pass(stanza);
    }

    /// A stanza takes another way, behind what has come back already and before all that still waits for its pair.
    pub(in crate::run) fn onward(&mut self, tools: &Arc<Tools>, id: RelayId, pair: &Pair, stanza: Bytes) {
        match self.0.get_mut(pair) {
            Some(back) => back.returned.push(stanza),
            None => courier::carry_on(tools, pair, id, vec![stanza]),
        }
    }

    /// These go before what has come back already.
    pub(in crate::run) fn again(&mut self, tools: &Arc<Tools>, id: RelayId, stanzas: Vec<(Pair, Bytes)>) {
        let mut others = Vec::new();
        for (pair, stanza) in stanzas.into_iter().rev() {
            match self.0.get_mut(&pair) {
                Some(back) => back.returned.insert(0, stanza),
                None => others.push((pair, stanza)),
            }
        }
        for (pair, stanza) in others.into_iter().rev() {
            courier::carry_on(tools, &pair, id, vec![stanza]);
        }
    }

    /// Takes what waits to go back, as long as that leg takes it; and tells which pairs go back no more. Where what goes back is counted
    /// there may be room for more of it, or not, and the relay may hold some of it.
    pub(super) fn take(
        &mut self,
        near: Option<&Leg>,
        room: Option<bool>,
        holds: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Taken {
        let full = room == Some(false) || near.is_none_or(Leg::is_full);
        let done = !holds && near.is_none_or(|near| near.is_closed() || near.outbox.is_empty());
        let mut taken = Taken::default();
        for (pair, back) in &mut self.0 {
            if back.ending {
                taken.over.extend(done.then(|| pair.clone()));
                continue;
            }
            if full || back.is_shut(now, cx) {
                continue;
            }
            // Before it is admitted it has no rates that could be asked. What is counted goes one by one, too.
            let most = if back.rates.is_some() && room.is_none() { BATCH } else { 1 };
            let stanzas = back.cargo.take(most, cx).into_iter();
            taken.stanzas.extend(stanzas.map(|(_, stanza)| (pair.clone(), stanza)));
        }
        taken
    }

    /// This pair goes back no more: what did not go out of it takes streams of our own.
    pub(super) fn release(&mut self, tools: &Arc<Tools>, id: RelayId, pair: &Pair) {
        if let Some(back) = self.0.remove(pair) {
            courier::carry_on(tools, pair, id, back.returned);
        }
    }

    /// What is on its way makes room, and where it is counted what the peer has acknowledged: so much it has not, octets and stanzas.
    /// What waits to go out is among that. An outbox that is another pair's, too, counts for each of them.
    pub(super) fn settle(&self, near: Option<&Leg>, (kept, count): (usize, usize)) {
        let outbox = near.map(|near| (near.outbox.octets(), near.outbox.stanzas()));
        let (octets, stanzas) = outbox.unwrap_or_default();
        for back in self.0.values() {
            back.cargo.settle(octets.max(kept), stanzas.max(count), false);
        }
    }

    /// The relay ends: none goes back any more.
    pub(super) fn end(&mut self, tools: &Arc<Tools>, id: RelayId) {
        for (pair, back) in std::mem::take(&mut self.0) {
            courier::carry_on(tools, &pair, id, back.returned);
        }
    }
}

impl Back {
    fn is_shut(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let until = self.rates.as_ref().and_then(|(valve, _)| valve.shut_until(now));
        let Some((until, _)) = until else {
            self.shut = None;
            return false;
        };
        let until = tokio::time::Instant::from_std(until);
        let sleep = self.shut.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(cx) == Poll::Pending
    }
}

/// Stanzas that are taken at once.
pub(super) const BATCH: usize = 128;
