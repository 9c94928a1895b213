//! Streams of ours to one server behind, taken in turns.
//!
//! Each stream carries one pair of domains, so whoever has domains without end could have streams without end. There are so
//! many seats, and so many of them may be set up at one time; a seat that is free goes to the registrable domain that holds
//! fewest. Where all are taken, the longest idle stream of the domain that holds most gives way for one that holds fewer, and a
//! domain that holds most itself takes turns with itself. Nobody gives way before its stream has stood for a while, and a pair
//! whose stream gives way gets no other until that one has ended: so nothing overtakes what went before (RLY-05). Time comes in
//! as `now`; what is to be done comes out of [`Rota::settle`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::jid::Domain;
use crate::relay::fixed;

/// How many seats there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotaParams {
    /// Streams in all.
    pub most: usize,
    /// Of those, being set up at one time.
    pub setups: usize,
    /// How long a stream has stood before it gives way.
    pub stay: Duration,
}

impl Default for RotaParams {
    fn default() -> Self {
        Self { most: fixed::SEATS, setups: fixed::SEATS_SETTING_UP, stay: fixed::SEAT_STAY }
    }
}

/// The name of somebody who has, or waits for, a seat; who came first has the lesser one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(u64);

/// When a stream was used last: told by whoever writes on it, read where somebody must give way.
#[derive(Clone, Debug, Default)]
pub struct LastUsed(Arc<AtomicU64>);

impl LastUsed {
    /// So many milliseconds after some moment that is the same for all.
    pub fn at(&self, millis: u64) {
        self.0.store(millis, Ordering::Relaxed);
    }
}

/// What has become of those who wait or have a seat.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seated {
    /// These have a seat from now on.
    pub granted: Vec<Seat>,
    /// These are to give way.
    pub asked: Vec<Seat>,
    /// When more can be asked, if nobody leaves before.
    pub again: Option<Instant>,
}

/// Who has a seat, and who waits for one. `P` tells pairs apart.
#[derive(Debug)]
pub struct Rota<P> {
    next: u64,
    /// By registrable domain, each in the order of their coming.
    waiting: HashMap<Box<str>, BTreeMap<Seat, P>>,
    /// Those domains by what they hold, and then by who came first.
    order: BTreeSet<(usize, Seat, Box<str>)>,
    queued: HashMap<Seat, Box<str>>,
    held: BTreeMap<Seat, Holder<P>>,
    counts: HashMap<Box<str>, usize>,
    setting_up: usize,
    /// Pairs whose streams give way, and how many of them.
    leaving: HashMap<P, usize>,
    going: usize,
}

#[derive(Debug)]
struct Holder<P> {
    domain: Box<str>,
    pair: P,
    used: LastUsed,
    /// Since when it stands; none: it is being set up.
    stood: Option<Instant>,
    asked: bool,
}

impl<P> Default for Rota<P> {
    fn default() -> Self {
        Self {
            next: 0,
            waiting: HashMap::new(),
            order: BTreeSet::new(),
            queued: HashMap::new(),
            held: BTreeMap::new(),
            counts: HashMap::new(),
            setting_up: 0,
            leaving: HashMap::new(),
            going: 0,
        }
    }
}

impl<P: Clone + Eq + Hash> Rota<P> {
    /// Somebody asks for a seat, for this pair, of which this domain is not ours.
    pub fn enter(&mut self, domain: &Domain, pair: P) -> Seat {
        let seat = Seat(self.next);
        self.next += 1;
        let domain = domain.registrable();
        self.unorder(&domain);
        self.waiting.entry(domain.clone()).or_default().insert(seat, pair);
        self.reorder(&domain);
        self.queued.insert(seat, domain);
        seat
    }

    /// Somebody goes, with or without having had a seat.
    pub fn leave(&mut self, seat: Seat) {
        if self.unqueue(seat).is_some() {
            return;
        }
        let Some(holder) = self.held.remove(&seat) else { return };
        if holder.stood.is_none() {
            self.setting_up = self.setting_up.saturating_sub(1);
        }
        if holder.asked {
            self.gone(&holder.pair);
        }
        self.unorder(&holder.domain);
        if let Some(count) = self.counts.get_mut(&holder.domain) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&holder.domain);
            }
        }
        self.reorder(&holder.domain);
    }

    /// The stream of this seat stands.
    pub fn stands(&mut self, seat: Seat, now: Instant) {
        if let Some(holder) = self.held.get_mut(&seat)
            && holder.stood.is_none()
        {
            holder.stood = Some(now);
            self.setting_up = self.setting_up.saturating_sub(1);
        }
    }

    /// Whoever was asked to give way could not be told: another time, perhaps.
    pub fn stays(&mut self, seat: Seat, now: Instant) {
        let Some(holder) = self.held.get_mut(&seat).filter(|holder| holder.asked) else { return };
        (holder.asked, holder.stood) = (false, Some(now));
        let pair = holder.pair.clone();
        self.gone(&pair);
    }

    /// One of the streams of this pair gives way no more.
    fn gone(&mut self, pair: &P) {
        self.going = self.going.saturating_sub(1);
        if let Some(count) = self.leaving.get_mut(pair) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.leaving.remove(pair);
            }
        }
    }

    /// When the stream of this seat was used last.
    pub fn used(&self, seat: Seat) -> Option<LastUsed> {
        self.held.get(&seat).map(|holder| holder.used.clone())
    }

    fn unqueue(&mut self, seat: Seat) -> Option<(Box<str>, P)> {
        let domain = self.queued.remove(&seat)?;
        self.unorder(&domain);
        let here = self.waiting.get_mut(&domain)?;
        let pair = here.remove(&seat);
        if here.is_empty() {
            self.waiting.remove(&domain);
        }
        self.reorder(&domain);
        Some((domain, pair?))
    }

    /// Takes a domain out of the order, before what it is ordered by changes.
    fn unorder(&mut self, domain: &str) {
        let first = self.waiting.get(domain).and_then(|here| here.first_key_value());
        if let Some((seat, _)) = first {
            self.order.remove(&(self.holds(domain), *seat, domain.into()));
        }
    }

    fn reorder(&mut self, domain: &str) {
        let first = self.waiting.get(domain).and_then(|here| here.first_key_value());
        if let Some((seat, _)) = first {
            self.order.insert((self.holds(domain), *seat, domain.into()));
        }
    }

    fn holds(&self, domain: &str) -> usize {
        self.counts.get(domain).copied().unwrap_or_default()
    }

    /// Gives the seats that can be given, and asks for those that others should have.
    pub fn settle(&mut self, params: &RotaParams, now: Instant) -> Seated {
        let mut seated = Seated::default();
        while self.held.len() < params.most
            && self.setting_up < params.setups
            && let Some(seat) = self.next_ready()
            && let Some((domain, pair)) = self.unqueue(seat)
        {
            self.unorder(&domain);
            *self.counts.entry(domain.clone()).or_default() += 1;
            self.reorder(&domain);
            self.setting_up += 1;
            let holder = Holder { domain, pair, used: LastUsed::default(), stood: None, asked: false };
            self.held.insert(seat, holder);
            seated.granted.push(seat);
        }
        // Nor do more go at a time than can be set up.
        let waiting = self.ready().take(params.setups).count();
        let short = (self.held.len() + waiting).saturating_sub(params.most);
        while self.going < short {
            // Who comes after those for whom a seat is on its way.
            let ready = || self.ready().take(params.setups);
            let next = ready().nth(self.going).or_else(|| ready().last());
            let next = next.map(|(holds, domain, _)| (holds, domain.to_owned()));
            match self.idlest(next.as_ref(), params, now) {
                Ok(seat) => {
                    if let Some(holder) = self.held.get_mut(&seat) {
                        holder.asked = true;
                        self.going += 1;
                        *self.leaving.entry(holder.pair.clone()).or_default() += 1;
                    }
                    seated.asked.push(seat);
                }
                Err(again) => {
                    seated.again = again;
                    break;
                }
            }
        }
        seated
    }

    /// Who may have the next seat, in order: not those that wait for the end of their own pair's stream.
    fn ready(&self) -> impl Iterator<Item = (usize, &str, Seat)> {
        self.order.iter().flat_map(|(holds, _, domain)| {
            let here = self.waiting.get(domain).into_iter().flatten();
            let ready = here.filter(|(_, pair)| !self.leaving.contains_key(*pair));
            ready.map(|(seat, _)| (*holds, &**domain, *seat))
        })
    }

    fn next_ready(&self) -> Option<Seat> {
        self.ready().next().map(|(.., seat)| seat)
    }

    /// The longest idle stream of the domain that holds most, if it holds more than the one that waits, or is that one; or when
    /// there will be one.
    fn idlest(
        &self,
        next: Option<&(usize, String)>,
        params: &RotaParams,
        now: Instant,
    ) -> Result<Seat, Option<Instant>> {
        let (mut best, mut again) = (None, None::<Instant>);
        for (seat, holder) in self.held.iter().filter(|(_, holder)| !holder.asked) {
            let Some(stood) = holder.stood else { continue };
            let holds = self.holds(&holder.domain);
            let own = next.is_some_and(|(_, domain)| **domain == *holder.domain);
            if next.is_some_and(|(fewer, _)| !own && holds <= *fewer) {
                continue;
            }
            let until = stood + params.stay;
            if until > now {
                again = again.into_iter().chain([until]).min();
                continue;
            }
            let rank = (holds, own, std::cmp::Reverse(holder.used.0.load(Ordering::Relaxed)));
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, *seat));
            }
        }
        best.map(|(_, seat)| seat).ok_or(again)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queued.len()
    }

    /// How many have a seat.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
#[path = "rota_tests.rs"]
mod tests;
