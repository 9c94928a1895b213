//! Who arrives: connections in all, and for each network those that have proven nothing yet, and how often it tries.
//!
//! An address says little: half a thousand people share the one of their office, and a thousand domains that of their hoster.
//! So it counts only until there is a proof, an attempt that ends in one has cost nothing, and each who is proven makes room for
//! one more of his network: an office that comes back all at once is in after a few waves. Who finds no place may wait in
//! line for one ([`Arrivals::line_up`]): servers do not come again by themselves, and what they had to say would be lost.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::lines::Lines;
use super::{Callbacks, Network, held};
use crate::reason::Reason;

/// What may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Open connections in all.
    pub total: u32,
    /// Open connections per network that have proven nothing (L-conn).
    pub per_network: u32,
    /// New connections per network and minute that do not end in a proof (L-rate).
    pub per_minute: NonZeroU32,
    /// Connections, of all networks together, that wait for such a place.
    pub waiting: usize,
}

impl Default for Params {
    fn default() -> Self {
        let per_minute = NonZeroU32::MIN.saturating_add(29);
        Self { total: 20_000, per_network: 20, per_minute, waiting: 2_000 }
    }
}

/// Open connections and attempts, in all and for each network.
#[derive(Debug)]
pub struct Arrivals {
    params: Params,
    /// Shared by all who count against the same total.
    total: Arc<AtomicU32>,
    began: Instant,
    networks: Mutex<Networks>,
    callbacks: Arc<Callbacks>,
}

#[derive(Debug, Default)]
struct Networks {
    known: HashMap<Network, Known>,
    lines: Lines<oneshot::Sender<Threshold>>,
    /// The latest time that was told.
    now: u64,
    /// How many may still come before those that count no longer are forgotten.
    room: usize,
}

/// What is known of a network.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Connections that have proven nothing.
    unproven: u32,
    /// Connections that have.
    proven: u32,
    /// When its bucket of attempts is full again, in nanoseconds since the start.
    full: u64,
    /// When one of its connections has last claimed or proven a domain, if any has.
    life: Option<u64>,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEntry {
    /// Its network has as many that have proven nothing as it may, or others of it wait already: it may wait in line.
    Full,
    /// It is not let in, however long it waits: for this reason.
    Refused(Reason),
}

impl Arrivals {
    /// Nothing has arrived yet. Who is waited for there has room of his own.
    pub fn new(params: Params, callbacks: Arc<Callbacks>, now: Instant) -> Arc<Self> {
        Self::counting(params, callbacks, Arc::default(), now)
    }

    /// Networks of their own, and the same total.
    pub fn beside(&self, params: Params, now: Instant) -> Arc<Self> {
        Self::counting(params, Arc::clone(&self.callbacks), Arc::clone(&self.total), now)
    }

    fn counting(params: Params, callbacks: Arc<Callbacks>, total: Arc<AtomicU32>, now: Instant) -> Arc<Self> {
        Arc::new(Self { params, total, began: now, networks: Mutex::default(), callbacks })
    }

    /// Lets a connection in, for as long as the ticket lives; it has proven nothing for as long as the other does. Who is
    /// turned away has used up no attempt.
    ///
    /// # Errors
    /// The network is full, or has tried too often ([`Reason::TooManyAttempts`]), or all places are taken ([`Reason::Overload`]).
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Result<(ArrivalTicket, Threshold), NoEntry> {
        let network = Network::of(address);
        let mut networks = held(&self.networks);
        networks.now = self.nanos(now);
        networks.sweep();
        if networks.lines.len(network) > 0 {
            return Err(NoEntry::Full);
        }
        let known = self.one_more(&networks, network)?;
        let ticket = self.ticket().map_err(NoEntry::Refused)?;
        networks.known.insert(network, known);
        drop(networks);
        Ok((ticket, Threshold::new(self, network)))
    }

    /// Waits in line for a place, for as long as the line lives; nothing is counted yet but the connection among all.
    ///
    /// # Errors
    /// [`Reason::TooManyConnections`] when there is no room in line, [`Reason::Overload`].
    pub fn line_up(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<(ArrivalTicket, Line), Reason> {
        let network = Network::of(address);
        let (grant, granted) = oneshot::channel();
        let mut networks = held(&self.networks);
        networks.now = self.nanos(now);
        let ticket = self.ticket()?;
        let entered = networks.lines.enter(network, grant, self.params.waiting);
        let (number, _gone) = entered.ok_or(Reason::TooManyConnections)?;
        drop(networks);
        let line = Line { arrivals: Arc::clone(self), network, number, granted };
        // A place may have become free just before.
        line.look(now);
        Ok((ticket, line))
    }

    /// What is known of the network when it has one more connection that has proven nothing, if it may.
    fn one_more(&self, networks: &Networks, network: Network) -> Result<Known, NoEntry> {
        let known = networks.known.get(&network).copied().unwrap_or_default();
        let welcome = known.proven.saturating_add(self.callbacks.from(network));
        if known.unproven >= self.params.per_network.saturating_add(welcome) {
            return Err(NoEntry::Full);
        }
        let full = known.full.max(networks.now).saturating_add(self.each());
        let room = MINUTE.saturating_add(self.each().saturating_mul(welcome.into()));
        if full > networks.now.saturating_add(room) {
            return Err(NoEntry::Refused(Reason::TooManyAttempts));
        }
        Ok(Known { unproven: known.unproven + 1, full, ..known })
    }

    fn ticket(&self) -> Result<ArrivalTicket, Reason> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.params.total {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::Overload);
        }
        Ok(ArrivalTicket { total: Arc::clone(&self.total) })
    }

    /// Gives the first of a network's line what places there are.
    fn grant(self: &Arc<Self>, mut networks: MutexGuard<'_, Networks>, network: Network) {
        let mut unheard = Vec::new();
        while networks.lines.len(network) > 0
            && let Ok(known) = self.one_more(&networks, network)
            && let Some(first) = networks.lines.first(network)
        {
            if !first.is_closed() {
                networks.known.insert(network, known);
                unheard.extend(first.send(Threshold::new(self, network)).err());
            }
        }
        // Who has gone meanwhile gives the place back, which asks for the lock.
        drop(networks);
        drop(unheard);
    }

    /// Open connections in all.
    pub fn open(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// What one attempt costs, in nanoseconds of the bucket's filling.
    fn each(&self) -> u64 {
        MINUTE / u64::from(self.params.per_minute.get())
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos().try_into().unwrap_or(u64::MAX / 2)
    }
}

impl Networks {
    /// A flood must not leave its table behind (requirements LIM-02).
    fn sweep(&mut self) {
        self.room = self.room.saturating_sub(1);
        if self.room == 0 {
            let now = self.now;
            self.known.retain(|_, known| known.unproven > 0 || known.proven > 0 || known.full > now);
            self.known.shrink_to_fit();
            self.room = self.known.len().max(SWEEP);
        }
    }
}

/// The place of one connection in the count of all.
#[derive(Debug)]
pub struct ArrivalTicket {
    total: Arc<AtomicU32>,
}

impl Drop for ArrivalTicket {
    fn drop(&mut self) {
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of one connection among those of its network: those that have proven nothing, and later those that have.
#[derive(Debug)]
pub struct Threshold {
    arrivals: Arc<Arrivals>,
    network: Network,
    paid: bool,
    proven: bool,
}

impl Threshold {
    fn new(arrivals: &Arc<Arrivals>, network: Network) -> Self {
        Self { arrivals: Arc::clone(arrivals), network, paid: true, proven: false }
    }

    /// The attempt has shown itself honest: it costs nothing.
    pub fn give_back(&mut self) {
        if std::mem::replace(&mut self.paid, false)
            && let Some(known) = held(&self.arrivals.networks).known.get_mut(&self.network)
        {
            known.full = known.full.saturating_sub(self.arrivals.each());
        }
    }

    /// It claims a domain: somebody is at work there, and others may well wait for what comes of it.
    pub fn claim(&self) {
        let mut networks = held(&self.arrivals.networks);
        let now = networks.now;
        if let Some(known) = networks.known.get_mut(&self.network) {
            known.life = Some(now);
        }
    }

    /// It is proven who this is.
    pub fn prove(&mut self) {
        self.give_back();
        if std::mem::replace(&mut self.proven, true) {
            return;
        }
        let mut networks = held(&self.arrivals.networks);
        let now = networks.now;
        if let Some(known) = networks.known.get_mut(&self.network) {
            known.unproven = known.unproven.saturating_sub(1);
            known.proven = known.proven.saturating_add(1);
            known.life = Some(now);
        }
        self.arrivals.grant(networks, self.network);
    }
}

impl Drop for Threshold {
    fn drop(&mut self) {
        let mut networks = held(&self.arrivals.networks);
        if let Some(known) = networks.known.get_mut(&self.network) {
            let count = if self.proven { &mut known.proven } else { &mut known.unproven };
            *count = count.saturating_sub(1);
        }
        self.arrivals.grant(networks, self.network);
    }
}

/// One who waits in line for a place.
#[derive(Debug)]
pub struct Line {
    arrivals: Arc<Arrivals>,
    network: Network,
    number: u64,
    granted: oneshot::Receiver<Threshold>,
}

impl Line {
    /// Waits for the place.
    ///
    /// # Errors
    /// [`Reason::TooManyConnections`] when the place in line went to another network.
    pub async fn place(&mut self) -> Result<Threshold, Reason> {
        (&mut self.granted).await.map_err(|_gone| Reason::TooManyConnections)
    }

    /// Until when it is worth waiting, for one who has waited since then: a little while at first, and for as long as others of
    /// the network claim or prove domains, but not without end.
    pub fn patience(&self, since: Instant, now: Instant) -> Instant {
        let life = held(&self.arrivals.networks).known.get(&self.network).and_then(|known| known.life);
        let life = life.and_then(|at| self.arrivals.began.checked_add(Duration::from_nanos(at)));
        let hope = life.and_then(|at| at.checked_add(HOPE)).unwrap_or(since);
        let least = since.checked_add(LEAST).unwrap_or(now);
        let most = since.checked_add(MOST).unwrap_or(now);
        hope.max(least).min(most)
    }

    /// Looks whether there is a place by now: attempts cost less as time goes by.
    pub fn look(&self, now: Instant) {
        let mut networks = held(&self.arrivals.networks);
        networks.now = networks.now.max(self.arrivals.nanos(now));
        self.arrivals.grant(networks, self.network);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        held(&self.arrivals.networks).lines.leave(self.network, self.number);
    }
}

/// How long anybody waits in line; for how long since another of the network has claimed or proven something; and how long in
/// any case. The first is less than a silent connection may last (T-first-byte): who holds all places is not outwaited.
const LEAST: Duration = Duration::from_secs(4);
const HOPE: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(60);

/// In nanoseconds.
const MINUTE: u64 = 60_000_000_000;

/// What counts no longer is forgotten whenever as many have arrived.
const SWEEP: usize = 1024;

#[cfg(test)]
#[path = "arrivals_tests.rs"]
mod tests;
