//! Rates that slow a sender by not reading from it (requirements LIM-03).
//!
//! What one stanza is charged to is up to three pairs of buckets: its stream's, its peer domain's and its domain pair's.
//! The last two are shared by all streams that carry the domain or the pair, so that a second stream is no second helping,
//! and outlive them for as long as they owe something, so that neither is a new one. A bucket is one number that says until
//! when all that has gone is paid for: streams share it without a lock, and ask it once for all that waits.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::held;
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

type Shared = Arc<Meter>;

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
            shared.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_rested(now));
        }
        let meter = shared.entry(key).or_insert_with(|| Meter::shared(rate, now));
        if meter.rate != rate {
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

    /// How much may go now.
    ///
    /// # Errors
    /// When the next stanza may go, and which rate makes it wait.
    pub fn allowance(&self, now: Instant) -> Result<Allowance, (Instant, Rated)> {
        let mut all = Allowance { stanzas: u64::MAX, octets: u64::MAX, gone: (0, 0) };
        let mut shut = None;
        for (rated, meter) in &self.meters {
            match (meter.room(now), rated) {
                (Ok(units), Rated::Stanzas) => all.stanzas = all.stanzas.min(units),
                (Ok(units), Rated::Octets) => all.octets = all.octets.min(units),
                (Err(until), rated) => shut = shut.max(Some((until, *rated))),
            }
        }
        shut.map_or(Ok(all), Err)
    }

    /// What has gone is to be paid for.
    pub fn charge(&self, spent: &Allowance, now: Instant) {
        let (stanzas, octets) = spent.gone;
        for (rated, meter) in &self.meters {
            let units = match rated {
                Rated::Octets => octets,
                Rated::Stanzas => stanzas,
            };
            meter.charge(units, now);
        }
    }

    /// When the next stanza may go, and which rate makes it wait; none if it may go now.
    pub fn shut_until(&self, now: Instant) -> Option<(Instant, Rated)> {
        self.allowance(now).err()
    }
}

/// What may go before the next stanza has to wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    stanzas: u64,
    octets: u64,
    /// Stanzas that went, and their octets.
    gone: (u64, u64),
}

impl Allowance {
    /// A stanza of this size goes, if it may.
    #[must_use]
    pub fn take(&mut self, octets: usize) -> bool {
        let goes = self.gone.0 <= self.stanzas && self.gone.1 <= self.octets;
        if goes {
            self.add(octets);
        }
        goes
    }

    /// So much has gone, of a stanza that is not whole yet or that nobody gets.
    pub fn owe(&mut self, stanzas: u64, octets: usize) {
        let (gone, sum) = self.gone;
        let octets = octets.try_into().unwrap_or(u64::MAX);
        self.gone = (gone.saturating_add(stanzas), sum.saturating_add(octets));
    }

    /// A stanza of this size goes in any case.
    pub fn add(&mut self, octets: usize) {
        let (stanzas, sum) = self.gone;
        self.gone = (stanzas + 1, sum.saturating_add(octets.try_into().unwrap_or(u64::MAX)));
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

/// One bucket. It holds a second's worth, and fills as time passes.
#[derive(Debug)]
struct Meter {
    rate: NonZeroU32,
    began: Instant,
    /// When the bucket is full again, if nothing more goes: in nanoseconds since it began.
    full: AtomicU64,
}

impl Meter {
    fn shared(rate: NonZeroU32, now: Instant) -> Shared {
        Arc::new(Self { rate, began: now, full: AtomicU64::new(0) })
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos().try_into().unwrap_or(u64::MAX)
    }

    /// Whether it is full.
    fn is_rested(&self, now: Instant) -> bool {
        self.full.load(Ordering::Relaxed) <= self.nanos(now)
    }

    /// How many units there are in it; when it has any, if it is overdrawn.
    fn room(&self, now: Instant) -> Result<u64, Instant> {
        let (now, full) = (self.nanos(now), self.full.load(Ordering::Relaxed));
        match SECOND.checked_sub(full.saturating_sub(now)) {
            Some(nanos) => Ok(nanos * u64::from(self.rate.get()) / SECOND),
            None => Err(self.began + Duration::from_nanos(full - SECOND)),
        }
    }

    /// So many units go, whether they are there or not.
    fn charge(&self, units: u64, now: Instant) {
        let (now, rate) = (self.nanos(now), u64::from(self.rate.get()));
        let cost = units.saturating_mul(SECOND).div_ceil(rate);
        let charged = |full: u64| Some(full.max(now).saturating_add(cost));
        let (Ok(_) | Err(_)) = self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged);
    }
}

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// Buckets that nobody needs are forgotten whenever the table has doubled above this.
const SWEEP: usize = 1024;
