//! Carries stanzas for pairs: what backends send, what the gateway itself must deliver, and reports to backends.
//!
//! One courier for each pair keeps their order (RLY-05), whatever streams its stanzas came on. What backends send is bounded
//! by octets alone (L-inside-queue). Of bounces, which others in the world can cause, the number of pairs, the queue of each (L-queue)
//! and the rate are bounded, so that the gateway is no reflector (LIM-09); what comes for a pair that stands and has lost its leg,
//! or given it up to others, has the rates of its pair where it is read, and L-queue here. Reports take the
//! pair's own stream where one stands, else one of few streams for each backend (DB-69). Whoever is turned away decides what
//! becomes of the stanza ([`super::pump`]).

mod back;
mod living;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

pub use self::back::carry_on;

use self::living::Living;
use super::cargo::{Brought, Cargo, Hold, NotTaken};
use super::inbox::InboxSender;
use super::pump::Pump;
use super::registry::{Meta, Order, Phase, RelayId};
use super::{Caller, Later, Tools, now};
use crate::jid::Domain;
use crate::limit::{Quota, Throttle};
use crate::metrics::{Limit, Metrics};
use crate::reason::{Flow, Reason};
use crate::relay::{Event, Load, Relay, RelayParams};
use crate::stream::Pair;

/// Couriers under way.
#[derive(Debug)]
pub struct Couriers {
    living: Mutex<Living>,
    /// Of bounces, by whom they go to.
    bounces: Throttle<(Domain, Box<[u8]>)>,
    hold: Arc<Hold>,
    /// Relays that have a stream of the pair to a backend.
    inside: Mutex<HashMap<Pair, Inside>>,
    /// Streams of peers that take the stanzas of a pair (XEP-0288), the oldest first.
    back: Mutex<HashMap<Pair, VecDeque<WayBack>>>,
    /// Report streams, for each backend.
    places: Mutex<HashMap<usize, Arc<Places>>>,
}

/// A relay that has a stream of a pair to a backend, and where that is.
#[derive(Debug)]
struct Inside {
    id: RelayId,
    tx: InboxSender<Order>,
    at: Arc<[SocketAddr]>,
}

/// A stream of a peer, and what it takes.
type WayBack = (RelayId, Arc<Cargo>);

/// Reports never share a stream with what others have written (law `reports_only`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    pair: Pair,
    /// Where they go.
    reports: Option<Arc<[SocketAddr]>>,
}

#[derive(Debug)]
struct Courier {
    cargo: Arc<Cargo>,
    tx: InboxSender<Order>,
    /// The backend that reports go to.
    server: Option<usize>,
    /// Unproven peers caused it.
    carried: bool,
}

/// Report streams to one backend.
#[derive(Debug)]
struct Places {
    free: Semaphore,
    waiting: AtomicUsize,
}

/// A stanza was not taken.
pub enum Turned {
    /// The pair's courier has no room; there may be some when the wait is over.
    Full(Bytes, Arc<Cargo>, Later<()>),
    /// There is no courier for the pair, and cannot be one now.
    None(Bytes),
    /// The gateway has stopped.
    Stopped,
}

impl Couriers {
    /// Nobody is under way. All backends together may have so many octets waiting.
    pub fn new(inside_all: usize, now: Instant) -> Self {
        Self {
            living: Mutex::default(),
            bounces: Throttle::new(Quota::per_second(RATE).allow_burst(BURST), now),
            hold: Hold::new(inside_all),
            inside: Mutex::default(),
            back: Mutex::default(),
            places: Mutex::default(),
        }
    }

    /// A relay has a stream of this pair to a backend, for as long as the ticket lives.
    pub fn stands(
        self: &Arc<Self>,
        relays: &RelayParams,
        pair: &Pair,
        id: RelayId,
        tx: InboxSender<Order>,
    ) -> InsideTicket {
        let at = relays.reports_to(&pair.target);
        held(&self.inside).insert(pair.clone(), Inside { id, tx, at });
        InsideTicket { couriers: Arc::clone(self), pair: pair.clone(), id }
    }

    /// Whether one more bounce to the address that it is for is within its rate (LIM-09). Whoever causes bounces without end gets them
    /// one after the other, and the others of his domain get theirs.
    ///
    /// # Errors
    /// When it may be.
    pub fn admits_bounce(&self, pair: &Pair, bounce: &[u8]) -> Result<(), Duration> {
        let to = (pair.target.clone(), addressee(bounce).into());
        self.bounces.asks(&to, now())
    }

    /// The domain has shown itself: whoever calls there for one of ours does not wait for an attempt that hangs (CLS-07).
    pub fn alive(&self, relays: &RelayParams, domain: &Domain) {
        let living = held(&self.living);
        for (_, courier) in living.callers(domain).filter(|(sender, _)| relays.hosts(sender)) {
            // Whoever cannot be told is at work.
            let _sent = courier.tx.send(Order::Alive);
        }
    }

    /// All backends together may have so many octets waiting from now on.
    pub fn resize(&self, inside_all: usize) {
        self.hold.resize(inside_all);
    }

    fn places(&self, server: usize) -> Arc<Places> {
        let new = || Arc::new(Places { free: Semaphore::new(REPORTS), waiting: AtomicUsize::new(0) });
        Arc::clone(held(&self.places).entry(server).or_insert_with(new))
    }

    /// Whether a courier of a backend lives for any of these.
    pub fn serve<'a>(&self, mut pairs: impl Iterator<Item = &'a Pair>) -> bool {
        let (living, back) = (held(&self.living), held(&self.back));
        pairs.any(|pair| {
            back.contains_key(pair) || living.contains_key(&Key { pair: pair.clone(), reports: None })
        })
    }
}

/// A relay has a stream of a pair to a backend.
#[derive(Debug)]
pub struct InsideTicket {
    couriers: Arc<Couriers>,
    pair: Pair,
    id: RelayId,
}

impl Drop for InsideTicket {
    fn drop(&mut self) {
        let mut inside = held(&self.couriers.inside);
        if inside.get(&self.pair).is_some_and(|inside| inside.id == self.id) {
            inside.remove(&self.pair);
        }
    }
}

/// The bare address that a bounce of ours is for: no value before it holds an apostrophe ([`crate::filter::ErrorReply`]).
fn addressee(bounce: &[u8]) -> &[u8] {
    let from = memchr::memmem::find(bounce, TO).map_or(bounce.len(), |at| at + TO.len());
    let whole = bounce.get(from..).unwrap_or_default();
    let end = memchr::memchr2(b'\'', b'/', whole).unwrap_or(whole.len());
    whole.get(..end).unwrap_or_default()
}

/// Has this bounce carried over a stream for this pair; where it went.
///
/// # Errors
/// When it was not taken.
pub fn hand_over(tools: &Arc<Tools>, pair: &Pair, stanza: Bytes) -> Result<Arc<Cargo>, Turned> {
    give(tools, pair, Given::Bounce, stanza)
}

/// The same of a stanza that this remote server has sent, for whom the stream stands in.
///
/// # Errors
/// When it was not taken.
pub fn bring(
    tools: &Arc<Tools>,
    pair: &Pair,
    caller: &Arc<Caller>,
    stanza: Bytes,
) -> Result<Arc<Cargo>, Turned> {
    give(tools, pair, Given::Brought(caller), stanza)
}

/// Has a stanza of a backend carried over the stream of its pair; where the next ones go.
///
/// # Errors
/// When it was not taken.
pub fn send(tools: &Arc<Tools>, pair: &Pair, stanza: Bytes) -> Result<Arc<Cargo>, Turned> {
    give(tools, pair, Given::Own, stanza)
}

/// Tells the backend of `via` what became of its stanza. What finds no room is counted. A stream of the pair that leads to another
/// server is of no use: the domain has moved, or another one has written in its name.
pub fn report(tools: &Arc<Tools>, pair: &Pair, via: Domain, stanza: Bytes, apart: bool) {
    let leads_there = |inside: &&Inside| !apart && inside.at == tools.relays.reports_to(&via);
    let own = held(&tools.peering.couriers.inside).get(pair).filter(leads_there).map(|own| own.tx.clone());
    let stanza = match own.map(|own| own.send(Order::Report(Box::new((pair.clone(), stanza.clone()))))) {
        Some(Ok(())) => return,
        Some(Err(_)) | None => stanza,
    };
    match give(tools, pair, Given::Report(via), stanza) {
        Ok(_) => {}
        Err(Turned::Full(..) | Turned::None(_)) => {
            tools.observe.unanswered(sides(&tools.relays, pair), Reason::QueueFull)
        }
        Err(Turned::Stopped) => lost(tools, pair, Reason::Shutdown),
    }
}

/// What is given to a courier.
enum Given<'a> {
    /// Of the gateway's own.
    Bounce,
    /// Of a remote server.
    Brought(&'a Arc<Caller>),
    /// Of a backend.
    Own,
    /// To the backend of that domain.
    Report(Domain),
}

fn give(tools: &Arc<Tools>, pair: &Pair, given: Given<'_>, stanza: Bytes) -> Result<Arc<Cargo>, Turned> {
    if tools.registry.phase() == Phase::Stopped {
        return Err(Turned::Stopped);
    }
    let (load, via, caller) = match given {
        Given::Bounce => (Load::Carried, None, None),
        Given::Brought(caller) => (Load::Admitted, None, Some(caller)),
        Given::Own => (Load::Own, None, None),
        Given::Report(via) => (Load::Report, Some(via), None),
    };
    let key = Key { pair: pair.clone(), reports: via.as_ref().map(|via| tools.relays.reports_to(via)) };
    let mut living = held(&tools.peering.couriers.living);
    let Some(courier) = living.get_mut(&key) else {
        if let Some(cargo) = back::way(&tools.peering.couriers, &key) {
            return offer(tools.observe.metrics(), cargo, load, stanza);
        }
        let strange = load == Load::Carried;
        let many =
            strange && living.values().filter(|courier| courier.carried).count() >= tools.params.couriers;
        let brought = caller.map(Brought::by).unwrap_or_default();
        let first = VecDeque::from([(load, stanza.clone())]);
        let started = (!many).then(|| start(tools, &mut living, &key, via, (first, brought)));
        drop(living);
        return started.ok_or_else(|| {
            tools.observe.metrics().limited(Limit::Carried);
            Turned::None(stanza)
        });
    };
    courier.carried &= load == Load::Carried;
    let cargo = Arc::clone(&courier.cargo);
    caller.into_iter().for_each(|caller| cargo.brings(caller));
    offer(tools.observe.metrics(), cargo, load, stanza)
}

/// Hands it to whoever takes from there. The locks under which that is closed and taken out are held.
fn offer(metrics: &Metrics, cargo: Arc<Cargo>, load: Load, stanza: Bytes) -> Result<Arc<Cargo>, Turned> {
    match cargo.offer(load, stanza) {
        Ok(()) => Ok(cargo),
        Err(NotTaken::Closed(stanza)) => Err(Turned::None(stanza)),
        Err(NotTaken::Full(stanza)) => {
            metrics.limited(Limit::Queue);
            let wait = Box::pin(Arc::clone(&cargo).room(load, stanza.len()));
            Err(Turned::Full(stanza, cargo, wait))
        }
    }
}

fn start(
    tools: &Arc<Tools>,
    living: &mut Living,
    key: &Key,
    via: Option<Domain>,
    (first, brought): (VecDeque<(Load, Bytes)>, Brought),
) -> Arc<Cargo> {
    let has = |wanted: Load| first.iter().any(|(load, _)| *load == wanted);
    let load = match key.reports.is_some() {
        true => Load::Report,
        false if has(Load::Own) => Load::Own,
        false if has(Load::Admitted) => Load::Admitted,
        false => Load::Carried,
    };
    let entry = tools.registry.enter();
    let meta =
        Meta { id: entry.0.id(), flow: flow_of(&tools.relays, &key.pair, load), peer: None, local: None };
    let tx = entry.0.orders().clone();
    let cargo =
        Cargo::of(Arc::clone(&tools.peering.couriers.hold), &tools.relays.limits, tx.clone(), brought);
    for (load, stanza) in first {
        // What one courier left had room with it, and has room with the next one; but for what came back meanwhile.
        if cargo.offer(load, stanza).is_err() {
            lost(tools, &key.pair, Reason::QueueFull);
        }
    }
    let server = via.as_ref().and_then(|via| tools.relays.hosted.get(via)).map(|hosted| hosted.server);
    let courier = Courier { cargo: Arc::clone(&cargo), tx, server, carried: load == Load::Carried };
    living.insert(key.clone(), courier);
    let (tools, key, own) = (Arc::clone(tools), key.clone(), Arc::clone(&cargo));
    let workers = tools.workers.clone();
    workers.spawn(Box::pin(async move {
        let places = server
            .filter(|_| key.reports.is_some())
            .map(|server| (server, tools.peering.couriers.places(server)));
        let place = match &places {
            Some((server, places)) => wait_for_place(&tools.peering.couriers, *server, places).await,
            None => None,
        };
        let (relays, policy) = (Arc::clone(&tools.relays), tools.registry.policy());
        let made = Relay::courier(relays, policy, key.pair.clone(), (load, via.clone()), now());
        let mut pump = Pump::sent(Arc::clone(&tools), made, entry, meta, Some(own)).laden();
        if places.as_ref().is_some_and(|(_, places)| places.waiting.load(Ordering::Acquire) > 0) {
            pump = pump.yielding();
        }
        pump.run().await;
        drop(place);
        // From here on nobody can reach this courier; what reached it too late goes with the next one.
        let mut living = held(&tools.peering.couriers.living);
        let Some(courier) = living.remove(&key) else { return };
        let (left, brought) = (courier.cargo.close(), courier.cargo.brought());
        if left.is_empty() {
            return;
        }
        if tools.registry.phase() == Phase::Stopped {
            drop(living);
            left.iter().for_each(|_| lost(&tools, &key.pair, Reason::Shutdown));
            return courier.cargo.is_lost();
        }
        let next = start(&tools, &mut living, &key, via, (left, brought));
        courier.cargo.inherited(next, 0);
    }));
    cargo
}

/// At most so many report streams are open to one backend. Whoever waits has those end that have nothing left.
async fn wait_for_place<'a>(
    couriers: &Couriers,
    server: usize,
    places: &'a Places,
) -> Option<tokio::sync::SemaphorePermit<'a>> {
    if let Ok(place) = places.free.try_acquire() {
        return Some(place);
    }
    if places.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
        for courier in held(&couriers.living).values() {
            if courier.server == Some(server) {
                // Whoever cannot be told is at work, and looks for those who wait when it is done.
                let _sent = courier.tx.send(Order::Yield);
            }
        }
    }
    // Never closed.
    let place = places.free.acquire().await.ok();
    places.waiting.fetch_sub(1, Ordering::AcqRel);
    place
}

/// This stanza goes nowhere: it is counted and told.
pub fn lost(tools: &Arc<Tools>, pair: &Pair, reason: Reason) {
    let (flow, hosted, _) = sides(&tools.relays, pair);
    let meta = Meta { id: tools.registry.unnamed(), flow, peer: None, local: None };
    let event = Event::Refused { pair: Some(pair.clone()), hosted: Some(hosted.clone()), reason };
    tools.observe.note(&meta, &event);
}

/// Which way the stanzas of the pair take, whose they are here, and whose elsewhere.
pub fn sides<'a>(relays: &RelayParams, pair: &'a Pair) -> (Flow, &'a Domain, &'a Domain) {
    match flow(relays, pair) {
        Flow::S2sOut => (Flow::S2sOut, &pair.sender, &pair.target),
        flow @ (Flow::C2s | Flow::S2sIn) => (flow, &pair.target, &pair.sender),
    }
}

/// Which way the stanzas of the pair take.
pub fn flow(relays: &RelayParams, pair: &Pair) -> Flow {
    if relays.hosts(&pair.target) { Flow::S2sIn } else { Flow::S2sOut }
}

const TO: &[u8] = b" to='";

fn flow_of(relays: &RelayParams, pair: &Pair, load: Load) -> Flow {
    match load {
        Load::Own => Flow::S2sOut,
        Load::Report => Flow::S2sIn,
        Load::Admitted | Load::Carried => flow(relays, pair),
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// DB-69: report streams that are open for one backend.
const REPORTS: usize = 32;

/// Bounces to one address per second that couriers take over; and at once: a whole queue.
const RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1023);

#[cfg(test)]
#[path = "courier_tests.rs"]
mod tests;
