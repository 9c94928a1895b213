//! Rates that slow, and counts that refuse.
//!
//! A [`Valve`] shapes what a stream sends: it never drops and never reorders, it says when the next stanza may go. [`Arrivals`] counts connections and attempts for each network while they have proven nothing; [`Proven`] counts those who
//! have, by what they proved, and [`Streams`] what a rule has admitted. Nothing here knows a socket or a stanza; time comes in as `now`, so that tests need
//! no clock.

mod arrivals;
mod callbacks;

mod handshakes;
mod lines;
mod logins;
mod logins_shared;
mod proven;
mod registrations;
mod rota;
mod senders;
pub mod setups;
mod table;
mod together;
mod turns;
mod unproven;
mod valve;

pub use arrivals::{ArrivalTicket, Arrivals, Line, NoEntry, Params, Threshold};
pub use callbacks::{Callback, Callbacks};
pub use handshakes::Handshakes;
pub use logins::{Leave, Logins, Params as LoginParams};
pub use logins_shared::{Digests, LoginOutcome};
pub use proven::{Params as ProvenParams, Proven, ProvenSlot};
pub use registrations::Registrations;
pub use rota::{LastUsed, Rota, RotaParams, Seat, Seated};
pub use senders::{Params as SenderParams, Senders, Tally, TooMuch};
pub use setups::SetUpPace;
pub use together::Counts;
pub use turns::{SettledTurns, Turn, TurnParams, Turns};
pub use unproven::{Room, Unproven, UnprovenPlace, Welcome};
pub use valve::{Allowance, Pace, RateParams, Rated, Rates, Shut, Valve};

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many in a period, and how many at once: what a [`Throttle`] is made with.
pub use governor::Quota;
use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;

use crate::policy::{Quotas, RuleName};
use crate::reason::Reason;

/// A network as connections are counted: an IPv4 address, or an IPv6 /64 (requirements ACC-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl Network {
    /// The network of this address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }

    /// The larger network around it, all of which one party may well have: an IPv6 /48, or an IPv4 /24.
    pub fn around(self) -> Self {
        match self.0 {
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)))
            }
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self(IpAddr::from([a, b, c, 0]))
            }
        }
    }
}

/// How many streams each rule has admitted.
#[derive(Debug, Default)]
pub struct Streams {
    open: Mutex<HashMap<RuleName, u32>>,
}

impl Streams {
    /// No streams yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Counts one more stream of this rule.
    ///
    /// # Errors
    /// [`Reason::TooManyStreams`] when the rule has as many as it may.
    pub fn admit(self: &Arc<Self>, rule: &RuleName, quotas: &Quotas) -> Result<StreamTicket, Reason> {
        let mut open = held(&self.open);
        let count = open.entry(rule.clone()).or_default();
        if quotas.streams.is_some_and(|most| *count >= most) {
            return Err(Reason::TooManyStreams);
        }
        *count += 1;
        drop(open);
        Ok(StreamTicket { streams: Arc::clone(self), rule: rule.clone() })
    }
}

/// The place of one stream in the count of its rule.
#[derive(Debug)]
pub struct StreamTicket {
    streams: Arc<Streams>,
    rule: RuleName,
}

impl Drop for StreamTicket {
    fn drop(&mut self) {
        let mut open = held(&self.streams.open);
        if let Some(count) = open.get_mut(&self.rule) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.rule);
            }
        }
    }
}

/// So many of something for each key in a time; those above are refused.
#[derive(Debug)]
pub struct Throttle<K: Hash + Eq + Clone> {
    clock: SetClock,
    limiter: RateLimiter<K, HashMapStateStore<K>, SetClock, NoOpMiddleware<Nanos>>,
    asked: AtomicU64,
}

impl<K: Hash + Eq + Clone> Throttle<K> {
    /// Full buckets for everybody.
    pub fn new(quota: Quota, now: Instant) -> Self {
        let clock = SetClock::new(now);
        let limiter = RateLimiter::hashmap_with_clock(quota, clock.clone());
        Self { clock, limiter, asked: AtomicU64::new(0) }
    }

    /// Whether one more is within the rate.
    pub fn admits(&self, key: &K, now: Instant) -> bool {
        self.asks(key, now).is_ok()
    }

    /// The same.
    ///
    /// # Errors
    /// When it is worth asking again.
    pub fn asks(&self, key: &K, now: Instant) -> Result<(), Duration> {
        self.clock.tell(now);
        if self.asked.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(key).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.limiter.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.limiter.is_empty()
    }
}

/// A clock that knows what it was told last.
#[derive(Clone, Debug)]
struct SetClock {
    start: Instant,
    now: Arc<AtomicU64>,
}

impl SetClock {
    fn new(start: Instant) -> Self {
        Self { start, now: Arc::default() }
    }

    fn tell(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        self.now.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX / 2), Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.now.load(Ordering::Relaxed))
    }
}

/// A lock whose holder cannot panic half-way: a poisoned one is as good as any.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Old keys are forgotten each time this many were asked about.
const SWEEP: u64 = 4096;

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
