//! Delivers stanzas that have no near leg: bounces, and what a broken far leg left unsent.
//!
//! One courier for each pair keeps their order (RLY-05). Their number, the queue of each (L-queue) and the rate of each
//! pair are bounded, so that the gateway is no reflector (LIM-09); what is over a bound is dropped, counted and told.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::inbox::{Teller, Untold};
use super::pump::Pump;
use super::registry::{Meta, Order, Phase};
use super::{Tools, now};
use crate::limit::{Quota, Throttle};
use crate::metrics::Limit;
use crate::reason::{Flow, Reason};
use crate::relay::{Event, Relay};
use crate::stream::Pair;

/// Couriers under way.
#[derive(Debug)]
pub struct Couriers {
    living: Mutex<HashMap<Pair, Courier>>,
    rates: Throttle<Pair>,
}

#[derive(Debug)]
struct Courier {
    tell: Teller<Order>,
    /// Octets that its inbox still has room for.
    room: Arc<Semaphore>,
    /// What came while it was ending: it goes with the next one, after what the inbox still holds.
    late: Vec<(Bytes, OwnedSemaphorePermit)>,
}

impl Couriers {
    /// Nobody is under way.
    pub fn new(now: Instant) -> Self {
        Self {
            living: Mutex::default(),
            rates: Throttle::new(Quota::per_second(RATE).allow_burst(BURST), now),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Pair, Courier>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has this stanza carried over a stream for this pair.
pub fn carry(tools: &Arc<Tools>, pair: Pair, stanza: Bytes) {
    if tools.registry.phase() == Phase::Stopped {
        dropped(tools, &pair, Reason::Shutdown);
    } else if tools.couriers.rates.admits(&pair, now()) {
        hand_over(tools, pair, stanza);
    } else {
        tools.observe.metrics().limited(Limit::Carried);
        dropped(tools, &pair, Reason::QueueFull);
    }
}

fn hand_over(tools: &Arc<Tools>, pair: Pair, stanza: Bytes) {
    if tools.registry.phase() == Phase::Stopped {
        return dropped(tools, &pair, Reason::Shutdown);
    }
    let mut living = tools.couriers.held();
    if let Some(courier) = living.get_mut(&pair) {
        let Some(room) = room(&courier.room, &stanza) else {
            drop(living);
            tools.observe.metrics().limited(Limit::Queue);
            dropped(tools, &pair, Reason::QueueFull);
            return;
        };
        match courier.tell.tell(Order::Queue(Box::new((stanza, room)))) {
            Ok(()) => {}
            Err(Untold::Closed(Order::Queue(waiting)))
                if courier.late.len() < tools.home.limits.queue_stanzas =>
            {
                courier.late.push(*waiting);
            }
            Err(_) => {
                drop(living);
                tools.observe.metrics().limited(Limit::Queue);
                dropped(tools, &pair, Reason::QueueFull);
            }
        }
        return;
    }
    if living.len() >= tools.params.couriers || !start(tools, &mut living, &pair, stanza) {
        drop(living);
        tools.observe.metrics().limited(Limit::Carried);
        dropped(tools, &pair, Reason::QueueFull);
    }
}

fn start(tools: &Arc<Tools>, living: &mut HashMap<Pair, Courier>, pair: &Pair, stanza: Bytes) -> bool {
    let entry = tools.registry.enter();
    let meta = Meta { id: entry.0.id(), flow: flow(tools, pair), peer: None, local: None };
    let tell = entry.0.tell().clone();
    let courier =
        Courier { tell, room: Arc::new(Semaphore::new(tools.home.limits.queue_octets)), late: Vec::new() };
    let Some(room) = room(&courier.room, &stanza) else { return false };
    if courier.tell.tell(Order::Queue(Box::new((stanza, room)))).is_err() {
        return false;
    }
    living.insert(pair.clone(), courier);
    let tools = Arc::clone(tools);
    let pair = pair.clone();
    tokio::spawn(async move {
        let made = Relay::courier(Arc::clone(&tools.home), tools.registry.policy(), pair.clone(), now());
        let left = Pump::sent(Arc::clone(&tools), made, entry, meta).run().await;
        // From here on nobody can reach this courier; what reached it too late goes with the next one.
        let late = tools.couriers.held().remove(&pair).map(|c| c.late).unwrap_or_default();
        for stanza in left.queued.into_iter().chain(late.into_iter().map(|(stanza, _room)| stanza)) {
            hand_over(&tools, pair.clone(), stanza);
        }
    });
    true
}

/// Room for this stanza, given back when the courier has taken it.
fn room(room: &Arc<Semaphore>, stanza: &Bytes) -> Option<OwnedSemaphorePermit> {
    Arc::clone(room).try_acquire_many_owned(u32::try_from(stanza.len()).ok()?).ok()
}

fn dropped(tools: &Arc<Tools>, pair: &Pair, reason: Reason) {
    let flow = flow(tools, pair);
    let meta = Meta { id: tools.registry.unnamed(), flow, peer: None, local: None };
    let hosted = match flow {
        Flow::S2sOut => &pair.sender,
        Flow::C2s | Flow::S2sIn => &pair.target,
    };
    let event = Event::Refused { pair: Some(pair.clone()), hosted: Some(hosted.clone()), reason };
    tools.observe.note(&meta, &event);
}

fn flow(tools: &Tools, pair: &Pair) -> Flow {
    if tools.home.hosts(&pair.target) { Flow::S2sIn } else { Flow::S2sOut }
}

/// Stanzas of one pair per second that couriers take over, and at once: a whole queue that a broken leg left.
const RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1023);

#[cfg(test)]
#[path = "courier_tests.rs"]
mod tests;
