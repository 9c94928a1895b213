//! Delivers stanzas that have no near leg: bounces, and what a broken far leg left unsent.
//!
//! One courier for each pair keeps their order (RLY-05). Their number, the queue of each (L-queue) and the rate of each
//! pair are bounded, so that the gateway is no reflector (LIM-09). Whoever is turned away decides what becomes of the
//! stanza ([`super::pump`]).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::inbox::{Teller, Untold};
use super::pump::Pump;
use super::registry::{Meta, Order, Phase};
use super::{Later, Tools, now};
use crate::jid::Domain;
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
    /// Of bounces, by whom they go to.
    bounces: Throttle<(Domain, Box<[u8]>)>,
}

#[derive(Debug)]
struct Courier {
    tell: Teller<Order>,
    room: Arc<Room>,
    /// What came while it was ending: it goes with the next one, after what the inbox still holds.
    late: Vec<(Bytes, Place)>,
}

/// What one courier may still be given (L-queue).
#[derive(Debug)]
pub struct Room {
    stanzas: Semaphore,
    octets: Semaphore,
    /// It could not deliver, and has given back or lost what it held.
    gave_up: AtomicBool,
}

impl Room {
    fn new(tools: &Tools) -> Arc<Self> {
        let limits = &tools.home.limits;
        Arc::new(Self {
            stanzas: Semaphore::new(limits.queue_stanzas),
            octets: Semaphore::new(limits.queue_octets),
            gave_up: AtomicBool::new(false),
        })
    }

    /// A place for a stanza of so many octets, if there is one.
    fn take(self: &Arc<Self>, octets: u32) -> Option<Place> {
        let stanza = self.stanzas.try_acquire().ok()?;
        let whole = self.octets.try_acquire_many(octets).ok()?;
        stanza.forget();
        whole.forget();
        Some(Place { room: Arc::clone(self), octets })
    }

    /// Waits until there may be one.
    async fn wait(self: Arc<Self>, octets: u32) {
        // Neither is ever closed.
        let _whole = self.octets.acquire_many(octets).await;
        let _stanza = self.stanzas.acquire().await;
    }

    /// Whether the courier could not deliver what it held.
    pub fn has_given_up(&self) -> bool {
        self.gave_up.load(Ordering::Acquire)
    }
}

/// The place of a stanza with its courier, from when it is handed over until it is on its way, or on its way back.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    octets: u32,
}

impl Place {
    /// The courier could not deliver it.
    pub fn give_up(&self) {
        self.room.gave_up.store(true, Ordering::Release);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.stanzas.add_permits(1);
        self.room.octets.add_permits(usize::try_from(self.octets).unwrap_or_default());
    }
}

/// A stanza was not taken.
pub enum Turned {
    /// The pair's courier has no room; there may be some when the wait is over.
    Full(Bytes, Arc<Room>, Later<()>),
    /// There is no courier for the pair, and cannot be one now.
    None(Bytes),
    /// The gateway has stopped.
    Stopped,
}

impl Couriers {
    /// Nobody is under way.
    pub fn new(now: Instant) -> Self {
        Self {
            living: Mutex::default(),
            rates: Throttle::new(Quota::per_second(RATE).allow_burst(BURST), now),
            bounces: Throttle::new(Quota::per_second(RATE).allow_burst(BURST), now),
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Pair, Courier>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one more stanza of the pair is within its rate.
pub fn admits(tools: &Arc<Tools>, pair: &Pair) -> bool {
    let admits = tools.couriers.rates.admits(pair, now());
    if !admits {
        tools.observe.metrics().limited(Limit::Carried);
    }
    admits
}

/// Whether one more bounce to the address that it is for is within its rate (LIM-09). Whoever causes bounces without end gets no
/// more of them, and the others of his domain get theirs.
pub fn admits_bounce(tools: &Arc<Tools>, pair: &Pair, bounce: &[u8]) -> bool {
    let to = (pair.target.clone(), addressee(bounce).into());
    let admits = tools.couriers.bounces.admits(&to, now());
    if !admits {
        tools.observe.metrics().limited(Limit::Carried);
    }
    admits
}

/// The bare address that a bounce of ours is for: no value before it holds an apostrophe ([`crate::filter::error_stanza`]).
fn addressee(bounce: &[u8]) -> &[u8] {
    let from = memchr::memmem::find(bounce, TO).map_or(bounce.len(), |at| at + TO.len());
    let whole = bounce.get(from..).unwrap_or_default();
    let end = memchr::memchr2(b'\'', b'/', whole).unwrap_or(whole.len());
    whole.get(..end).unwrap_or_default()
}

/// Has this stanza carried over a stream for this pair.
///
/// # Errors
/// When it was not taken.
pub fn hand_over(tools: &Arc<Tools>, pair: &Pair, stanza: Bytes) -> Result<(), Turned> {
    if tools.registry.phase() == Phase::Stopped {
        return Err(Turned::Stopped);
    }
    let mut living = tools.couriers.held();
    let Some(courier) = living.get_mut(pair) else {
        if living.len() < tools.params.couriers && start(tools, &mut living, pair, stanza.clone()) {
            return Ok(());
        }
        drop(living);
        tools.observe.metrics().limited(Limit::Carried);
        return Err(Turned::None(stanza));
    };
    let room = Arc::clone(&courier.room);
    let octets = u32::try_from(stanza.len()).unwrap_or(u32::MAX);
    let Some(place) = room.take(octets) else {
        drop(living);
        tools.observe.metrics().limited(Limit::Queue);
        let wait = Box::pin(Arc::clone(&room).wait(octets));
        return Err(Turned::Full(stanza, room, wait));
    };
    match courier.tell.tell(Order::Queue(Box::new((stanza, place)))) {
        Ok(()) => Ok(()),
        Err(Untold::Closed(Order::Queue(waiting))) => {
            courier.late.push(*waiting);
            Ok(())
        }
        Err(Untold::Full(Order::Queue(waiting))) => {
            let tell = courier.tell.clone();
            drop(living);
            // Whoever closes it makes room, too.
            let wait = Box::pin(async move { tell.vacant().await });
            Err(Turned::Full(waiting.0, room, wait))
        }
        // What was sent was a stanza.
        Err(Untold::Closed(_) | Untold::Full(_)) => Ok(()),
    }
}

fn start(tools: &Arc<Tools>, living: &mut HashMap<Pair, Courier>, pair: &Pair, stanza: Bytes) -> bool {
    let entry = tools.registry.enter();
    let meta = Meta { id: entry.0.id(), flow: flow(tools, pair), peer: None, local: None };
    let tell = entry.0.tell().clone();
    let courier = Courier { tell, room: Room::new(tools), late: Vec::new() };
    let Some(place) = u32::try_from(stanza.len()).ok().and_then(|octets| courier.room.take(octets)) else {
        return false;
    };
    if courier.tell.tell(Order::Queue(Box::new((stanza, place)))).is_err() {
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
        for stanza in left.queued.into_iter().chain(late.into_iter().map(|(stanza, _place)| stanza)) {
            let mut handed = hand_over(&tools, &pair, stanza);
            while let Err(Turned::Full(stanza, _, room)) = handed {
                room.await;
                handed = hand_over(&tools, &pair, stanza);
            }
            match handed {
                Err(Turned::None(_)) => lost(&tools, &pair, Reason::QueueFull),
                Err(Turned::Stopped) => lost(&tools, &pair, Reason::Shutdown),
                Ok(()) | Err(Turned::Full(..)) => {}
            }
        }
    });
    true
}

/// This stanza goes nowhere: it is counted and told.
pub fn lost(tools: &Arc<Tools>, pair: &Pair, reason: Reason) {
    let flow = flow(tools, pair);
    let meta = Meta { id: tools.registry.unnamed(), flow, peer: None, local: None };
    let hosted = match flow {
        Flow::S2sOut => &pair.sender,
        Flow::C2s | Flow::S2sIn => &pair.target,
    };
    let event = Event::Refused { pair: Some(pair.clone()), hosted: Some(hosted.clone()), reason };
    tools.observe.note(&meta, &event);
}

/// Which way the stanzas of the pair take.
pub fn flow(tools: &Tools, pair: &Pair) -> Flow {
    if tools.home.hosts(&pair.target) { Flow::S2sIn } else { Flow::S2sOut }
}

const TO: &[u8] = b" to='";

/// Stanzas of one pair, and bounces to one address, per second that couriers take over; and at once: a whole queue that a
/// broken leg left.
const RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1023);

#[cfg(test)]
#[path = "courier_tests.rs"]
mod tests;
