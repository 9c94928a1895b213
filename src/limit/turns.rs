//! Places that many networks want at once, given in turns (requirements LIM-06).
//!
//! Who asks pays: a place is charged to the network that asks, never to the domain that is asked about. What finds no place
//! waits. A place that is free goes to the network around (/24, /48) that holds fewest; among those to the one whose askings
//! have come to nothing least often lately, and then to whoever has waited longest. Nobody holds a place for long while
//! others wait: after its turn it is taken from the network that holds most, the oldest first, for one that holds fewer.
//! Time comes in as `now`; what is to be done comes out of [`Turns::settle`].

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::Network;
use crate::jid::Domain;

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnParams {
    /// Places in all. One network around has at most a quarter of them, and one domain is asked about in at most a half.
    pub places: usize,
    /// Of those, for one source (an IPv4 address, an IPv6 /64).
    pub per_source: usize,
    /// Of those, for what one network around asks about one domain.
    pub per_domain: usize,
    /// Who may wait, all together.
    pub waiting: usize,
    /// How long a place is held for certain.
    pub turn: Duration,
}

impl Default for TurnParams {
    fn default() -> Self {
        Self { places: 192, per_source: 20, per_domain: 4, waiting: 10_000, turn: Duration::from_secs(1) }
    }
}

impl TurnParams {
    fn per_around(&self) -> usize {
        (self.places / 4).max(self.per_source.min(self.places))
    }
}

/// The name of somebody who has, or waits for, a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Turn(u64);

/// What has become of those who wait or have a place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SettledTurns {
    /// These have a place from now on.
    pub granted: Vec<Turn>,
    /// These have had their turn; they have no place any more.
    pub ended: Vec<Turn>,
    /// When more can be settled, if nobody leaves before.
    pub again: Option<Instant>,
}

/// Who has a place, and who waits for one.
#[derive(Debug, Default)]
pub struct Turns {
    next: u64,
    /// By network around, each in the order of their coming.
    waiting: BTreeMap<Network, BTreeMap<Turn, Asker>>,
    /// The networks around of those.
    queued: HashMap<Turn, Network>,
    held: BTreeMap<Turn, Asker>,
    counts: Counts,
    vain: HashMap<Network, Vain>,
    /// When that was looked through last.
    swept: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Asker {
    source: Network,
    around: Network,
    about: Domain,
    /// Since when it waits, or has its place.
    since: Instant,
}

/// Places held.
#[derive(Debug, Default)]
struct Counts {
    sources: HashMap<Network, usize>,
    around: HashMap<Network, usize>,
    domains: HashMap<Domain, usize>,
    both: HashMap<Network, HashMap<Domain, usize>>,
}

/// Askings of a network that came to nothing.
#[derive(Clone, Copy, Debug)]
struct Vain {
    times: u8,
    until: Instant,
}

impl Turns {
    /// Somebody asks for a place. Where more wait than may, the last of the network with most who wait goes: perhaps this one.
    pub fn enter(
        &mut self,
        source: Network,
        about: Domain,
        params: &TurnParams,
        now: Instant,
    ) -> (Turn, Option<Turn>) {
        let turn = Turn(self.next);
        self.next += 1;
        let around = source.around();
        self.queued.insert(turn, around);
        let here = self.waiting.entry(around).or_default();
        here.insert(turn, Asker { source, around, about, since: now });
        if self.queued.len() <= params.waiting {
            return (turn, None);
        }
        let most = self.waiting.values().max_by_key(|here| here.len());
        let gone = most.and_then(|here| here.last_key_value()).map(|(turn, _)| *turn);
        if let Some(gone) = gone {
            self.leave(gone);
        }
        (turn, gone)
    }

    /// Somebody goes, with or without having had a place.
    pub fn leave(&mut self, turn: Turn) {
        if self.unqueue(turn).is_none()
            && let Some(asker) = self.held.remove(&turn)
        {
            self.counts.give_back(&asker);
        }
    }

    fn unqueue(&mut self, turn: Turn) -> Option<Asker> {
        let around = self.queued.remove(&turn)?;
        let here = self.waiting.get_mut(&around)?;
        let asker = here.remove(&turn);
        if here.is_empty() {
            self.waiting.remove(&around);
        }
        asker
    }

    /// What came of the asking: nothing counts against the network for a while, something forgives it.
    pub fn came_out(&mut self, source: Network, fruitful: bool, now: Instant) {
        let around = source.around();
        if fruitful {
            self.vain.remove(&around);
            return;
        }
        if self.vain.len() >= REMEMBERED && !self.vain.contains_key(&around) {
            // Not at each asking of a flood: what is full of what is fresh stays so for a while.
            if self.swept.is_none_or(|swept| swept + SWEEP <= now) {
                self.swept = Some(now);
                self.vain.retain(|_, vain| vain.until > now);
            }
            if self.vain.len() >= REMEMBERED {
                return;
            }
        }
        let vain = self.vain.entry(around).or_insert(Vain { times: 0, until: now });
        if vain.until <= now {
            vain.times = 0;
        }
        *vain = Vain { times: vain.times.saturating_add(1).min(MOST_VAIN), until: now + MEMORY };
    }

    /// Gives the places that can be given.
    pub fn settle(&mut self, params: &TurnParams, now: Instant) -> SettledTurns {
        let mut settled = SettledTurns::default();
        while let Some((turn, ended)) = self.choose(params, now, &mut settled.again) {
            if let Some(ended) = ended
                && let Some(asker) = self.held.remove(&ended)
            {
                self.counts.give_back(&asker);
                self.came_out(asker.source, false, now);
                settled.ended.push(ended);
            }
            let Some(asker) = self.unqueue(turn) else { break };
            self.counts.take(&asker);
            self.held.insert(turn, Asker { since: now, ..asker });
            settled.granted.push(turn);
        }
        settled
    }

    /// Who is next, and whose turn is over for it.
    fn choose(
        &self,
        params: &TurnParams,
        now: Instant,
        again: &mut Option<Instant>,
    ) -> Option<(Turn, Option<Turn>)> {
        *again = None;
        let all = (self.held.len() >= params.places).then(|| self.oldest_of_most(|_| true, params, now));
        let half = (params.places / 2).max(1);
        let crowded: Vec<(&Domain, Over)> = (self.counts.domains.iter())
            .filter(|(_, count)| **count >= half)
            .map(|(domain, _)| (domain, self.oldest_of_most(|asker| asker.about == *domain, params, now)))
            .collect();
        let mut best: Option<((usize, u8, Turn), Option<Turn>)> = None;
        for (around, here) in &self.waiting {
            let held = count(&self.counts.around, around);
            if held >= params.per_around() {
                continue;
            }
            let vain = self.vain(*around, now);
            for (turn, asker) in here {
                let rank = (held, vain, *turn);
                if best.as_ref().is_some_and(|(other, _)| *other <= rank) {
                    break;
                }
                if !self.counts.within(asker, params) {
                    continue;
                }
                let about = crowded.iter().find(|(domain, _)| **domain == asker.about).map(|(_, over)| *over);
                // Whose turn about this domain is over makes room in all, too.
                let ended = match about.or(all) {
                    None => None,
                    Some(Over { oldest: Some((oldest, most)), .. }) if most > held => Some(oldest),
                    Some(Over { soonest, .. }) => {
                        *again = again.iter().copied().chain(soonest).min();
                        continue;
                    }
                };
                best = Some((rank, ended));
            }
        }
        best.map(|((_, _, turn), ended)| (turn, ended))
    }

    /// Of these the oldest, of the network that holds most, whose turn is over; and when the next one's will be.
    fn oldest_of_most(&self, of: impl Fn(&Asker) -> bool, params: &TurnParams, now: Instant) -> Over {
        let mut over = Over { oldest: None, soonest: None };
        let mut best = None;
        for (turn, asker) in self.held.iter().filter(|(_, asker)| of(asker)) {
            let until = asker.since + params.turn;
            if until > now {
                over.soonest = over.soonest.iter().copied().chain([until]).min();
                continue;
            }
            let most = count(&self.counts.around, &asker.around);
            let rank = (most, std::cmp::Reverse(asker.since));
            if best.is_none_or(|best| rank > best) {
                best = Some(rank);
                over.oldest = Some((*turn, most));
            }
        }
        over
    }

    fn vain(&self, around: Network, now: Instant) -> u8 {
        self.vain.get(&around).filter(|vain| vain.until > now).map_or(0, |vain| vain.times)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queued.len()
    }

    /// How many have a place.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

/// Whose turn is over.
#[derive(Clone, Copy, Debug)]
struct Over {
    /// With how many its network holds.
    oldest: Option<(Turn, usize)>,
    soonest: Option<Instant>,
}

impl Counts {
    /// Whether it may have one more, however many are free.
    fn within(&self, asker: &Asker, params: &TurnParams) -> bool {
        count(&self.sources, &asker.source) < params.per_source
            && self.both.get(&asker.around).is_none_or(|both| count(both, &asker.about) < params.per_domain)
    }

    fn take(&mut self, asker: &Asker) {
        more(&mut self.sources, asker.source);
        more(&mut self.around, asker.around);
        more(&mut self.domains, asker.about.clone());
        more(self.both.entry(asker.around).or_default(), asker.about.clone());
    }

    fn give_back(&mut self, asker: &Asker) {
        less(&mut self.sources, &asker.source);
        less(&mut self.around, &asker.around);
        less(&mut self.domains, &asker.about);
        if let Some(both) = self.both.get_mut(&asker.around) {
            less(both, &asker.about);
            if both.is_empty() {
                self.both.remove(&asker.around);
            }
        }
    }
}

fn count<K: Hash + Eq>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

fn more<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

fn less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(n) = counts.get_mut(key) {
        *n = n.saturating_sub(1);
        if *n == 0 {
            counts.remove(key);
        }
    }
}

/// Networks whose vain askings are remembered, for how long, and how many of them at most.
const REMEMBERED: usize = 10_000;
const MEMORY: Duration = Duration::from_secs(600);
const MOST_VAIN: u8 = 20;
const SWEEP: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
