//! Rates that slow a sender by not reading from it (requirements LIM-03).
//!
//! What one stanza is charged to is up to three pairs of buckets: its stream's, its peer domain's and its domain pair's.
//! The last two are shared by all streams that carry the domain or the pair, so that a second stream is no second helping,
//! and outlive them for as long as they owe something, so that neither is a new one.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::{Told, held};
use crate::jid::Domain;
use crate::policy::Permit;
use crate::reason::Direction;

/// Rates; none: as fast as it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Stanzas in a second.
    pub stanzas: Option<NonZeroU32>,
    /// Octets in a second.
    pub octets: Option<NonZeroU32>,
}

/// The gateway's own rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateParams {
    /// Of one stream.
    pub stream: Pace,
    /// Of one remote domain, in one direction.
    pub domain: Pace,
    /// Of one domain pair, where its rule says nothing.
    pub pair: Pace,
}

/// The buckets of all who send.
#[derive(Debug, Default)]
pub struct Rates {
    pub(super) params: RateParams,
    shared: Mutex<HashMap<(Whose, Rated), Shared>>,
}

type Shared = Arc<Mutex<Meter>>;

/// Whose bucket it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Domain(Direction, Domain),
    Pair(Direction, Domain, Domain),
}

impl Rates {
    /// Nobody has sent anything yet.
    pub fn new(params: RateParams) -> Self {
        Self { params, shared: Mutex::default() }
    }

    /// The buckets of a new stream.
    pub fn stream(&self, now: Instant) -> Valve {
        let Pace { stanzas, octets } = self.params.stream;
        let made = |rated, rate: Option<NonZeroU32>| rate.map(|rate| (rated, Meter::shared(rate, now)));
        let both = [made(Rated::Stanzas, stanzas), made(Rated::Octets, octets)];
        Valve { meters: both.into_iter().flatten().collect() }
    }

    /// The buckets of this pair on that stream. A bucket whose rate is unchanged stays as full as it was.
    pub fn valve(&self, permit: &Permit, stream: &Valve, now: Instant) -> Valve {
        let (direction, remote) = (permit.direction(), permit.remote());
        let (rule, own) = (permit.quotas(), self.params.pair);
        let pair = Pace {
            stanzas: rule.stanzas.map(|rate| rate.per_second).or(own.stanzas),
            octets: rule.octets.map(|rate| rate.per_second).or(own.octets),
        };
        let mut valve = stream.clone();
        for (whose, pace) in [
            (Whose::Domain(direction, remote.clone()), self.params.domain),
            (Whose::Pair(direction, permit.hosted().clone(), remote.clone()), pair),
        ] {
            for (rated, rate) in [(Rated::Stanzas, pace.stanzas), (Rated::Octets, pace.octets)] {
                valve.meters.extend(rate.map(|rate| (rated, self.take((whose.clone(), rated), rate, now))));
            }
        }
        valve
    }

    /// How many shared buckets are kept.
    pub fn len(&self) -> usize {
        held(&self.shared).len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        held(&self.shared).is_empty()
    }

    fn take(&self, key: (Whose, Rated), rate: NonZeroU32, now: Instant) -> Shared {
        let mut shared = held(&self.shared);
        if shared.len() >= SWEEP && shared.len().is_power_of_two() {
            shared.retain(|_, meter| Arc::strong_count(meter) > 1 || !held(meter).is_rested(now));
        }
        let meter = shared.entry(key).or_insert_with(|| Meter::shared(rate, now));
        if held(meter).rate != rate {
            *meter = Meter::shared(rate, now);
        }
        Arc::clone(meter)
    }
}

/// Buckets that a stanza is charged to, all of them.
///
/// A stanza passes whole and is paid for afterwards: one that is larger than a second's worth of octets must pass too,
/// it only makes the next one wait longer. A clone is the same buckets.
#[derive(Clone, Debug, Default)]
pub struct Valve {
    meters: Vec<(Rated, Shared)>,
}

impl Valve {
    /// Whether there is no rate at all.
    pub fn is_open(&self) -> bool {
        self.meters.is_empty()
    }

    /// A stanza of this size goes now.
    pub fn charge(&self, octets: usize) {
        for (rated, meter) in &self.meters {
            let units = match rated {
                Rated::Octets => octets.try_into().unwrap_or(u64::MAX),
                Rated::Stanzas => 1,
            };
            let mut meter = held(meter);
            meter.owed = meter.owed.saturating_add(units);
        }
    }

    /// When the next stanza may go, and which rate makes it wait; none if it may go now.
    pub fn shut_until(&self, now: Instant) -> Option<(Instant, Rated)> {
        let due = |(rated, meter): &(Rated, Shared)| held(meter).pay(now).map(|at| (at, *rated));
        self.meters.iter().filter_map(due).max()
    }
}

/// Which rate of a valve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rated {
    /// Octets per second.
    Octets,
    /// Stanzas per second.
    Stanzas,
}

/// The valve is shut.
#[derive(Clone, Copy, Debug)]
pub struct Shut {
    /// It was found shut.
    pub since: Instant,
    /// It opens again.
    pub until: Instant,
    /// Which rate shut it.
    pub rated: Rated,
}

/// One bucket, and what has gone on credit.
#[derive(Debug)]
struct Meter {
    rate: NonZeroU32,
    clock: Told,
    limiter: RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>,
    owed: u64,
    /// When it last had to be paid for.
    used: Instant,
}

impl Meter {
    fn shared(rate: NonZeroU32, now: Instant) -> Shared {
        let clock = Told::new(now);
        let limiter = RateLimiter::direct_with_clock(Quota::per_second(rate), clock.clone());
        Arc::new(Mutex::new(Self { rate, clock, limiter, owed: 0, used: now }))
    }

    /// Whether it is full again, and owes nothing.
    fn is_rested(&self, now: Instant) -> bool {
        self.owed == 0 && now.saturating_duration_since(self.used) >= FULL
    }

    /// Pays what is owed as far as the bucket goes; the time of the next payment, if something is left.
    fn pay(&mut self, now: Instant) -> Option<Instant> {
        self.clock.tell(now);
        loop {
            // The bucket holds one second's worth; more than that is paid in parts.
            let part = u32::try_from(self.owed).unwrap_or(u32::MAX).min(self.rate.get());
            let part = NonZeroU32::new(part)?;
            match self.limiter.check_n(part) {
                Ok(Ok(())) => {
                    self.owed -= u64::from(part.get());
                    self.used = now;
                }
                Ok(Err(not_until)) => {
                    return Some(self.clock.instant(not_until.earliest_possible()));
                }
                // The part is never larger than the bucket.
                Err(_capacity) => return None,
            }
        }
    }
}

/// A bucket holds a second's worth, and is full a second after its last use.
const FULL: Duration = Duration::from_secs(1);

/// Buckets that nobody needs are forgotten whenever the table has doubled above this.
const SWEEP: usize = 1024;
