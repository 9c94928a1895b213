//! Who arrives: connections in all, and for each network those that have proven nothing yet, and how often it tries.
//!
//! An address says little: half a thousand people share the one of their office, and a thousand domains that of their hoster.
//! So it counts only until there is a proof, an attempt that ends in one has cost nothing, and each who is proven makes room for
//! one more of his network: an office that comes back all at once is in after a few waves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{Network, held};
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
}

impl Default for Params {
    fn default() -> Self {
        Self { total: 10_000, per_network: 20, per_minute: NonZeroU32::MIN.saturating_add(29) }
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
}

#[derive(Debug, Default)]
struct Networks {
    known: HashMap<Network, Known>,
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
}

impl Arrivals {
    /// Nothing has arrived yet.
    pub fn new(params: Params, now: Instant) -> Arc<Self> {
        Self::counting(params, Arc::default(), now)
    }

    /// Networks of their own, and the same total.
    pub fn beside(&self, params: Params, now: Instant) -> Arc<Self> {
        Self::counting(params, Arc::clone(&self.total), now)
    }

    fn counting(params: Params, total: Arc<AtomicU32>, now: Instant) -> Arc<Self> {
        Arc::new(Self { params, total, began: now, networks: Mutex::default() })
    }

    /// Lets a connection in, for as long as the ticket lives; it has proven nothing for as long as the other does. Who is
    /// turned away has used up no attempt.
    ///
    /// # Errors
    /// [`Reason::TooManyConnections`], [`Reason::TooManyAttempts`] (both for this network), [`Reason::Overload`].
    pub fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<(Ticket, Threshold), Reason> {
        let network = Network::of(address);
        let now = self.nanos(now);
        let mut networks = held(&self.networks);
        networks.sweep(now);
        let known = networks.known.get(&network).copied().unwrap_or_default();
        if known.unproven >= self.params.per_network.saturating_add(known.proven) {
            return Err(Reason::TooManyConnections);
        }
        let full = known.full.max(now).saturating_add(self.each());
        let room = MINUTE.saturating_add(self.each().saturating_mul(known.proven.into()));
        if full > now.saturating_add(room) {
            return Err(Reason::TooManyAttempts);
        }
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.params.total {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::Overload);
        }
        networks.known.insert(network, Known { unproven: known.unproven + 1, full, ..known });
        drop(networks);
        let threshold = Threshold { arrivals: Arc::clone(self), network, paid: true, proven: false };
        Ok((Ticket { total: Arc::clone(&self.total) }, threshold))
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
    fn sweep(&mut self, now: u64) {
        self.room = self.room.saturating_sub(1);
        if self.room == 0 {
            self.known.retain(|_, known| known.unproven > 0 || known.proven > 0 || known.full > now);
            self.known.shrink_to_fit();
            self.room = self.known.len().max(SWEEP);
        }
    }
}

/// The place of one connection in the count of all.
#[derive(Debug)]
pub struct Ticket {
    total: Arc<AtomicU32>,
}

impl Drop for Ticket {
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
    /// The attempt has shown itself honest: it costs nothing.
    pub fn give_back(&mut self) {
        if std::mem::replace(&mut self.paid, false)
            && let Some(known) = held(&self.arrivals.networks).known.get_mut(&self.network)
        {
            known.full = known.full.saturating_sub(self.arrivals.each());
        }
    }

    /// It is proven who this is.
    pub fn prove(&mut self) {
        self.give_back();
        if !std::mem::replace(&mut self.proven, true)
            && let Some(known) = held(&self.arrivals.networks).known.get_mut(&self.network)
        {
            known.unproven = known.unproven.saturating_sub(1);
            known.proven = known.proven.saturating_add(1);
        }
    }
}

impl Drop for Threshold {
    fn drop(&mut self) {
        if let Some(known) = held(&self.arrivals.networks).known.get_mut(&self.network) {
            let count = if self.proven { &mut known.proven } else { &mut known.unproven };
            *count = count.saturating_sub(1);
        }
    }
}

/// In nanoseconds.
const MINUTE: u64 = 60_000_000_000;

/// What counts no longer is forgotten whenever as many have arrived.
const SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn arrivals(per_network: u32, per_minute: u32, now: Instant) -> Arc<Arrivals> {
        let per_minute = NonZeroU32::new(per_minute).unwrap();
        Arrivals::new(Params { total: 1_000_000, per_network, per_minute }, now)
    }

    // D10: "What is proven is limited by what it does, not by what it is"; "a connection attempt that ends in a proof gives
    // its token of L-rate back". Each who is turned away tries again after some seconds.
    #[test]
    fn an_office_of_five_hundred_comes_back_within_a_minute_with_the_defaults() {
        let start = Instant::now();
        let arrivals = Arrivals::new(Params::default(), start);
        let office: IpAddr = "192.0.2.1".parse().unwrap();
        let (mut inside, mut coming, mut last) = (Vec::new(), Vec::new(), start);
        // When each tries next: all at once at first, and every five seconds or so then.
        let mut tries: Vec<_> = (0..500).map(|n| start + Duration::from_millis(n % 7)).collect();
        for tick in 0..600 {
            let now = start + Duration::from_millis(100 * tick);
            // A login takes a second.
            while coming.first().is_some_and(|(since, _, _)| now - *since >= Duration::from_secs(1)) {
                let (_, ticket, mut threshold): (Instant, Ticket, Threshold) = coming.remove(0);
                threshold.prove();
                inside.push((ticket, threshold));
                last = now;
            }
            for at in &mut tries {
                if *at <= now {
                    match arrivals.admit(office, now) {
                        Ok((ticket, threshold)) => {
                            coming.push((now, ticket, threshold));
                            *at = start + Duration::from_secs(1_000_000);
                        }
                        Err(_) => *at = now + Duration::from_millis(4_000 + 317 * (tick % 7)),
                    }
                }
            }
        }
        assert_eq!(inside.len(), 500);
        assert!(last - start < Duration::from_secs(60), "{:?}", last - start);
        assert_eq!(arrivals.open(), 500);
    }

    #[test]
    fn who_proves_nothing_is_counted_by_address_as_ever() {
        let start = Instant::now();
        let arrivals = arrivals(2, 30, start);
        let at = |now| arrivals.admit("192.0.2.1".parse().unwrap(), now);
        let (first, second) = (at(start).unwrap(), at(start).unwrap());
        assert_eq!(at(start).unwrap_err(), Reason::TooManyConnections);
        drop((first, second));
        // Those who were turned away have cost nothing, those who came and proved nothing have.
        for _ in 0..28 {
            at(start).unwrap();
        }
        assert_eq!(at(start).unwrap_err(), Reason::TooManyAttempts);
    }

    #[test]
    fn a_token_is_given_back_once() {
        let start = Instant::now();
        let arrivals = arrivals(100, 1, start);
        let at = || arrivals.admit("192.0.2.1".parse().unwrap(), start);
        let (_one, mut threshold) = at().unwrap();
        threshold.give_back();
        threshold.give_back();
        let (_two, _still) = at().unwrap();
        assert_eq!(at().unwrap_err(), Reason::TooManyAttempts);
    }

    // LIM-02: "all memory of a finished unauthenticated connection is released".
    #[test]
    fn a_hundred_thousand_networks_leave_nothing_behind() {
        let start = Instant::now();
        let arrivals = arrivals(20, 30, start);
        for n in 0..100_000_u32 {
            let now = start + Duration::from_millis(n.into());
            arrivals.admit(IpAddr::from(n.to_be_bytes()), now).unwrap();
        }
        let networks = held(&arrivals.networks);
        assert!(networks.known.len() < 8 * SWEEP, "{}", networks.known.len());
    }
}
