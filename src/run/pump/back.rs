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

use bytes::Bytes;
use tokio::time::Sleep;

use super::super::cargo::Cargo;
use super::super::leg::Leg;
use super::super::{courier, now};
use super::Pump;
use super::far::Sending;
use crate::limit::{Allowance, StreamTicket, Valve};
use crate::policy::Permit;
use crate::reason::{Direction, Flow};
use crate::relay::{FarId, Input, Passing, Side, plan};
use crate::stream::Pair;
use crate::xml::Kind;

/// The pairs that go back over the near leg.
#[derive(Default)]
pub(in crate::run) struct Backs(HashMap<Pair, Back>);

impl Backs {
    /// Whether this pair goes back, or did just now.
    pub(in crate::run) fn has(&self, pair: &Pair) -> bool {
        self.0.contains_key(pair)
    }
}

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

/// Whether this permit is for a pair that travels against the flow of the relay.
pub(in crate::run) fn is_against(pump: &Pump, permit: &Permit) -> bool {
    pump.meta.flow != Flow::C2s && plan::direction(pump.meta.flow) != permit.direction()
}

/// The way back is open for this pair from now on, or it is no more.
pub(in crate::run) fn open(pump: &mut Pump, pair: Pair, open: bool) {
    let backs = pump.backs.get_or_insert_default();
    match backs.0.get_mut(&pair) {
        Some(back) => {
            back.ending = !open;
            // However long what is left of it waits, it counts no more.
            if !open {
                back.rates = None;
            }
        }
        None if open => {
            let cargo = courier::open_back(&pump.tools, &pair, pump.meta.id);
            let back = Back { cargo, rates: None, shut: None, ending: false, returned: Vec::new() };
            backs.0.insert(pair, back);
        }
        None => {}
    }
}

/// A stanza goes back over the near leg.
pub(in crate::run) fn pass(pump: &mut Pump, pair: Pair, stanza: Bytes) {
    let Some(near) = pump.near.as_mut().filter(|near| !near.is_closed()) else {
        return onward(pump, pair, stanza);
    };
    if let Some(back) = pump.backs.as_ref().and_then(|backs| backs.0.get(&pair))
        && let Some((valve, _)) = &back.rates
    {
        charge(valve, &stanza, pump.now);
    }
    let metrics = pump.tools.observe.metrics();
    metrics.passed(Flow::S2sOut, &pair.sender, Kind::of_stanza(&stanza), 1, stanza.len() as u64);
    metrics.went_back(Flow::S2sOut);
    near.outbox.pass(stanza);
}

/// A stanza takes another way, before all that still waits for its pair.
pub(in crate::run) fn onward(pump: &mut Pump, pair: Pair, stanza: Bytes) {
    match pump.backs.as_mut().and_then(|backs| backs.0.get_mut(&pair)) {
        Some(back) => back.returned.push(stanza),
        None => courier::carry_on(&pump.tools, &pair, pump.meta.id, vec![stanza]),
    }
}

/// A stanza that has come back over a leg of ours goes inside.
pub(in crate::run) fn inward(pump: &mut Pump, id: FarId, pair: Pair, stanza: Passing) {
    if let Err(reason) = pump.charge_sender(&stanza) {
        return pump.step(Side::Far(id), Input::Refused(stanza.octets, reason));
    }
    let stanza = stanza.octets;
    if let Some(sending) = pump.sending.get_mut(&pair) {
        pump.carries = true;
        charge(&sending.valve, &stanza, pump.now);
    }
    let metrics = pump.tools.observe.metrics();
    metrics.passed(Flow::S2sIn, &pair.target, Kind::of_stanza(&stanza), 1, stanza.len() as u64);
    metrics.went_back(Flow::S2sIn);
    pump.carry_on(pair, stanza);
}

/// These go before what has come back already.
pub(in crate::run) fn again(pump: &mut Pump, stanzas: Vec<(Pair, Bytes)>) {
    let mut others = Vec::new();
    for (pair, stanza) in stanzas.into_iter().rev() {
        match pump.backs.as_mut().and_then(|backs| backs.0.get_mut(&pair)) {
            Some(back) => back.returned.insert(0, stanza),
            None => others.push((pair, stanza)),
        }
    }
    for (pair, stanza) in others.into_iter().rev() {
        courier::carry_on(&pump.tools, &pair, pump.meta.id, vec![stanza]);
    }
}

fn charge(valve: &Valve, stanza: &Bytes, at: std::time::Instant) {
    let mut spent = Allowance::default();
    spent.add(stanza.len());
    valve.charge(&spent, at);
}

/// A pair that travels against the flow was admitted: its rates apply, and it counts under its rule.
pub(in crate::run) fn admitted(pump: &mut Pump, permit: &Permit, pair: Pair) {
    let tools = Arc::clone(&pump.tools);
    let valve = tools.rates.valve(permit, &tools.rates.stream(now()), now());
    // Judged again after a reload: the old place is given back first.
    drop(pump.sending.remove(&pair));
    let back = |pump: &mut Pump| pump.backs.as_mut().and_then(|backs| backs.0.remove(&pair));
    let inbound = permit.direction() == Direction::Inbound;
    let mut before = if inbound { None } else { back(pump) };
    if let Some(before) = &mut before {
        before.rates = None;
    }
    let counted = tools.streams.admit(permit.rule(), permit.quotas()).and_then(|ticket| {
        let place = inbound.then(|| tools.proven.pair(permit.remote(), permit.quotas())).transpose()?;
        Ok((ticket, place))
    });
    match counted {
        Ok(counted) if inbound => {
            let sending = Sending { valve, carried: true, _counted: counted, _inside: None };
            pump.sending.insert(pair.clone(), sending);
        }
        Ok((ticket, _)) => {
            if let Some(before) = &mut before {
                before.rates = Some((valve, ticket));
            }
        }
        Err(reason) => {
            tools.observe.turned_away(pump.meta.peer, reason);
            pump.step(Side::Near, Input::Withdraw(pair.clone(), reason));
        }
    }
    if let Some(before) = before {
        pump.backs.get_or_insert_default().0.insert(pair, before);
    }
}

/// Takes what waits to go back, as long as the near leg takes it; and gives up what goes back no more.
pub(super) fn poll(pump: &mut Pump, cx: &mut Context<'_>) -> bool {
    if pump.backs.is_none() {
        return false;
    }
    // A connection that broke takes no place from those that stand.
    if pump.relay.holds_back() && pump.near.as_ref().is_none_or(Leg::is_closed) {
        (pump.places, pump.threshold) = ([None, None], None);
    }
    let moved = take(pump, cx);
    // What is counted goes one by one: each changes how much room there is.
    for _ in 1..BATCH {
        if !moved || pump.relay.room_back() != Some(true) || !take(pump, cx) {
            break;
        }
    }
    moved
}

fn take(pump: &mut Pump, cx: &mut Context<'_>) -> bool {
    let (full, done) = match &pump.near {
        Some(near) => (near.is_full(), near.is_closed() || near.outbox.is_empty()),
        None => (true, true),
    };
    let (room, done) = (pump.relay.room_back(), done && !pump.relay.holds_back());
    let full = full || room == Some(false);
    let mut taken: Vec<(Pair, Bytes)> = Vec::new();
    let mut over = Vec::new();
    for (pair, back) in pump.backs.iter_mut().flat_map(|backs| &mut backs.0) {
        if back.ending {
            over.extend(done.then(|| pair.clone()));
            continue;
        }
        if full || back.is_shut(pump.now, cx) {
            continue;
        }
        // Before it is admitted it has no rates that could be asked.
        let most = if back.rates.is_some() && room.is_none() { BATCH } else { 1 };
        let stanzas = back.cargo.take(most, cx).into_iter();
        taken.extend(stanzas.map(|(_, stanza)| (pair.clone(), stanza)));
    }
    let moved = !taken.is_empty() || !over.is_empty();
    for (pair, stanza) in taken {
        pump.step(Side::Near, Input::Back(pair, stanza));
    }
    for pair in over {
        release(pump, &pair);
    }
    moved
}

impl Back {
    fn is_shut(&mut self, now: std::time::Instant, cx: &mut Context<'_>) -> bool {
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

fn release(pump: &mut Pump, pair: &Pair) {
    if let Some(back) = pump.backs.as_mut().and_then(|backs| backs.0.remove(pair)) {
        courier::carry_on(&pump.tools, pair, pump.meta.id, back.returned);
    }
}

/// What is on its way makes room. An outbox that is another pair's, too, counts for each of them.
pub(super) fn settle(pump: &Pump) {
    let Some(backs) = &pump.backs else { return };
    let outbox = pump.near.as_ref().map(|near: &Leg| (near.outbox.octets(), near.outbox.stanzas()));
    let (octets, stanzas) = outbox.unwrap_or_default();
    for back in backs.0.values() {
        back.cargo.settle(octets, stanzas, false);
    }
}

/// The relay ends: what has not gone back takes streams of our own.
pub(super) fn end(pump: &mut Pump) {
    for (pair, back) in pump.backs.take().unwrap_or_default().0 {
        courier::carry_on(&pump.tools, &pair, pump.meta.id, back.returned);
    }
}

/// Stanzas that are taken at once.
const BATCH: usize = 128;
