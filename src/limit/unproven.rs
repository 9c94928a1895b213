//! Room for the unproven: connections that have not proven yet who they are, and the memory that all of them hold together.
//!
//! Both have a ceiling of their own (requirements LIM-02), so that whoever has proven nothing takes nothing from those who
//! have: a proven stream gives its place back the moment it is proven. And no one part of the Internet takes all the places
//! (LIM-06): where they are full, or the memory is, the network with most of them ([`Network::around`]) loses its longest-waiting
//! one for a newcomer from a network with fewer, and within one such network the address with most. Whoever holds more than any
//! connection does counts for as many as would hold that. Some of the places are kept for who is expected: servers that we have
//! called and that call back, and networks from which somebody proven is or was here.
//!
//! Whoever loses the place is counted no more from that moment on, so it has to go at once (`run/pump/places.rs`): nobody is
//! kept out by those who are on their way out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Callbacks, Network, Threshold, held};
use crate::reason::Reason;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections at one time.
    pub connections: u32,
    /// Of those, from one network and all that lies around it ([`Network::around`]).
    pub around: u32,
    /// Octets of memory, for all of them together.
    pub octets: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { connections: 5_000, around: 1_250, octets: 256 << 20 }
    }
}

/// Connections that are here unproven, and what they hold.
#[derive(Debug)]
pub struct Unproven {
    room: Room,
    callbacks: Arc<Callbacks>,
    crowd: Mutex<Crowd>,
}

/// Who is here, by where they come from.
#[derive(Debug, Default)]
struct Crowd {
    /// All who have a place.
    count: u32,
    /// What they hold together.
    octets: u64,
    next: u64,
    /// Those who may have to make room.
    parts: HashMap<Network, Part>,
    /// The parts by how much weighs in each, and then by who is there longest; the fullest is the last.
    fullest: BTreeSet<(Fullness, Network)>,
    /// Those who were expected, and make room for nobody.
    expected: HashMap<Network, u32>,
    sheltered: u32,
    friends: HashMap<Network, Friend>,
    /// When somebody last found no place, or lost it.
    full: Option<Instant>,
    /// When somebody last came, or was proven: about now, where there is no clock.
    last: Option<Instant>,
}

/// Those from one part of the Internet, by their networks, the longest here first.
#[derive(Debug, Default)]
struct Part {
    waiting: BTreeSet<u64>,
    weight: u64,
    networks: HashMap<Network, Few>,
}

/// Those of one network.
#[derive(Debug, Default)]
struct Few {
    waiting: BTreeMap<u64, Waiting>,
    weight: u64,
}

/// One who may have to make room.
#[derive(Debug)]
struct Waiting {
    lose: oneshot::Sender<()>,
    held: u64,
}

/// How much all of them weigh, and who is there longest.
type Fullness = (u64, Option<Reverse<u64>>);

impl Part {
    fn fullness(&self) -> Fullness {
        (self.weight, self.waiting.first().copied().map(Reverse))
    }
}

impl Few {
    fn fullness(&self) -> Fullness {
        (self.weight, self.waiting.keys().next().copied().map(Reverse))
    }
}

/// A network from which somebody is here, or was, who has proven who it is.
#[derive(Debug)]
struct Friend {
    living: u32,
    until: Instant,
}

impl Unproven {
    /// Nobody is here yet. Who is waited for among these is expected.
    pub fn new(room: Room, callbacks: Arc<Callbacks>) -> Arc<Self> {
        Arc::new(Self { room, callbacks, crowd: Mutex::default() })
    }

    /// Lets one in that comes from this address, for as long as its place lives; what any connection costs is counted from
    /// now on. Where there is no room, somebody else may lose the place for it ([`UnprovenPlace::poll_displaced`]).
    ///
    /// # Errors
    /// [`Reason::TooManyUnproven`] and [`Reason::UnprovenMemory`], when nobody holds more than its own network does.
    pub fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<UnprovenPlace, Reason> {
        let network = Network::of(address);
        let (lose, displaced) = oneshot::channel();
        let mut crowd = held(&self.crowd);
        crowd.last = Some(now);
        let sheltered = self.expects(&crowd, network, now);
        let newcomer = Newcomer { network, sheltered };
        crowd.make_room(&self.room, newcomer, now)?;
        crowd.make_memory(&self.room, newcomer, COST)?;
        crowd.count += 1;
        crowd.octets = crowd.octets.saturating_add(COST);
        crowd.next += 1;
        let number = crowd.next;
        match sheltered {
            true => crowd.shelter(network),
            false => crowd.enter(network, number, Waiting { lose, held: COST }),
        }
        drop(crowd);
        Ok(UnprovenPlace {
            unproven: Arc::clone(self),
            network,
            number,
            sheltered,
            displaced: Some(displaced),
            threshold: None,
            held: COST,
        })
    }

    /// Whether one more from there is waited for: it calls back, or comes from where proven ones come from. At most half of all
    /// places are kept for these.
    fn expects(&self, crowd: &Crowd, network: Network, now: Instant) -> bool {
        let friend = crowd.friends.get(&network).is_some_and(|f| f.living > 0 || f.until > now);
        let most = self.callbacks.from(network).saturating_add(if friend { KEPT } else { 0 });
        let here = crowd.expected.get(&network).copied().unwrap_or_default();
        here < most && crowd.sheltered < self.room.connections / 2
    }

    /// Those who are here unproven.
    pub fn connections(&self) -> u32 {
        held(&self.crowd).count
    }

    /// Whether somebody found no place, or lost it, within the last minute.
    pub fn is_full(&self, now: Instant) -> bool {
        held(&self.crowd).full.is_some_and(|at| now.saturating_duration_since(at) < TELL)
    }

    /// What they hold.
    pub fn octets(&self) -> u64 {
        held(&self.crowd).octets
    }
}

/// One that needs room, from there; one that is expected is let in before whoever holds as little.
#[derive(Clone, Copy, Debug)]
struct Newcomer {
    network: Network,
    sheltered: bool,
}

impl Crowd {
    /// A place for one more of this network, for which another may have to go.
    fn make_room(&mut self, room: &Room, newcomer: Newcomer, now: Instant) -> Result<(), Reason> {
        let part = newcomer.network.around();
        let own = self.parts.get(&part).map_or(0, |part| part.waiting.len());
        if !newcomer.sheltered && own >= usize::try_from(room.around).unwrap_or(usize::MAX) {
            self.full = Some(now);
            return self.displace(part, Some(newcomer.network)).ok_or(Reason::TooManyUnproven);
        }
        if self.count < room.connections {
            return Ok(());
        }
        self.full = Some(now);
        self.displace_for(newcomer).ok_or(Reason::TooManyUnproven)
    }

    /// So much more memory for one of this network, for which others may have to go.
    fn make_memory(&mut self, room: &Room, newcomer: Newcomer, more: u64) -> Result<(), Reason> {
        while self.octets.saturating_add(more) > room.octets {
            self.full = self.last;
            self.displace_for(newcomer).ok_or(Reason::UnprovenMemory)?;
        }
        Ok(())
    }

    /// The longest-waiting of the network with most goes; none where that is the one of the newcomer.
    fn displace_for(&mut self, newcomer: Newcomer) -> Option<()> {
        let part = newcomer.network.around();
        let own = self.parts.get(&part).map_or(0, |part| part.weight);
        match self.fullest.last() {
            Some(&((most, _), fullest)) if newcomer.sheltered || own < most => self.displace(fullest, None),
            _ => self.displace(part, Some(newcomer.network)),
        }
    }

    /// The longest-waiting of the network with most in this part goes, for another part or for a network with fewer.
    fn displace(&mut self, part: Network, newcomer: Option<Network>) -> Option<()> {
        let networks = &self.parts.get(&part)?.networks;
        let own = newcomer.and_then(|network| networks.get(&network)).map_or(0, |few| few.weight);
        let (network, few) = networks.iter().max_by_key(|(_, few)| few.fullness())?;
        let first = few.waiting.keys().next().filter(|_| newcomer.is_none() || own < few.weight);
        let (network, number) = (*network, *first?);
        let lost = self.leave(network, number)?;
        self.forget(lost.held);
        // Whoever is gone already has heard enough.
        let _heard = lost.lose.send(());
        Some(())
    }

    /// One who held so much is counted no more.
    fn forget(&mut self, held: u64) {
        self.count = self.count.saturating_sub(1);
        self.octets = self.octets.saturating_sub(held);
    }

    fn enter(&mut self, network: Network, number: u64, waiting: Waiting) {
        let around = network.around();
        let part = self.parts.entry(around).or_default();
        self.fullest.remove(&(part.fullness(), around));
        part.waiting.insert(number);
        let few = part.networks.entry(network).or_default();
        part.weight += weight(waiting.held);
        few.weight += weight(waiting.held);
        few.waiting.insert(number, waiting);
        self.fullest.insert((part.fullness(), around));
    }

    /// It is none of those that may have to make room any more; none: it was none.
    fn leave(&mut self, network: Network, number: u64) -> Option<Waiting> {
        let around = network.around();
        let part = self.parts.get_mut(&around)?;
        let few = part.networks.get_mut(&network)?;
        let waiting = few.waiting.remove(&number)?;
        few.weight = few.weight.saturating_sub(weight(waiting.held));
        if few.waiting.is_empty() {
            part.networks.remove(&network);
        }
        self.fullest.remove(&(part.fullness(), around));
        part.waiting.remove(&number);
        part.weight = part.weight.saturating_sub(weight(waiting.held));
        if part.waiting.is_empty() {
            self.parts.remove(&around);
        } else {
            self.fullest.insert((part.fullness(), around));
        }
        Some(waiting)
    }

    /// It holds so much from now on; whether it is one that is counted.
    fn holds(&mut self, network: Network, number: u64, octets: u64) -> bool {
        let around = network.around();
        let Some(part) = self.parts.get_mut(&around) else { return false };
        let before = part.fullness();
        let Some(few) = part.networks.get_mut(&network) else { return false };
        let Some(waiting) = few.waiting.get_mut(&number) else { return false };
        let (less, more) = (weight(waiting.held), weight(octets));
        waiting.held = octets;
        if less != more {
            few.weight = few.weight.saturating_sub(less).saturating_add(more);
            part.weight = part.weight.saturating_sub(less).saturating_add(more);
            self.fullest.remove(&(before, around));
            self.fullest.insert((part.fullness(), around));
        }
        true
    }

    fn shelter(&mut self, network: Network) {
        *self.expected.entry(network).or_default() += 1;
        self.sheltered += 1;
    }

    fn unshelter(&mut self, network: Network) {
        self.sheltered = self.sheltered.saturating_sub(1);
        less(&mut self.expected, network);
    }

    /// Somebody from there has proven who it is.
    fn befriend(&mut self, network: Network, now: Instant) {
        self.last = Some(now);
        if self.friends.len() >= FRIENDS && !self.friends.contains_key(&network) {
            self.friends.retain(|_, friend| friend.living > 0 || friend.until > now);
            if self.friends.len() >= FRIENDS {
                return;
            }
        }
        let friend = self.friends.entry(network).or_insert(Friend { living: 0, until: now });
        friend.living += 1;
        friend.until = now + LATELY;
    }
}

/// One less; nothing is left of none.
fn less(counts: &mut HashMap<Network, u32>, network: Network) {
    if let Some(count) = counts.get_mut(&network) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&network);
        }
    }
}

/// The place of one unproven peer.
#[derive(Debug)]
pub struct UnprovenPlace {
    unproven: Arc<Unproven>,
    network: Network,
    number: u64,
    /// It makes room for nobody.
    sheltered: bool,
    /// Heard when another got the place; closed for who makes room for nobody, none when it was heard.
    displaced: Option<oneshot::Receiver<()>>,
    threshold: Option<Threshold>,
    held: u64,
}

impl UnprovenPlace {
    /// It is counted there, too, until it has proven who it is.
    pub fn stands_at(&mut self, threshold: Threshold) {
        self.threshold = Some(threshold);
    }

    /// It is proven who it is, and unproven no more: its place in its network's count from now on. Others from there are
    /// expected while that lives, and for a while after.
    pub fn prove(mut self, now: Instant) -> Welcome {
        let threshold = self.threshold.take().map(|mut threshold| {
            threshold.prove();
            threshold
        });
        held(&self.unproven.crowd).befriend(self.network, now);
        Welcome { unproven: Arc::clone(&self.unproven), network: self.network, _threshold: threshold }
    }

    /// It has shown itself honest, for it asked about a key that we have made: we have called its server, so it counts no
    /// more among the unproven of its network. It holds what it holds, and counts among all of them, until it proves a domain.
    pub fn is_honest(&mut self) {
        if let Some(threshold) = &mut self.threshold {
            threshold.prove();
        }
    }

    /// It came for an answer that anybody gets, and has it: no attempt to come in.
    pub fn is_answered(&mut self) {
        if let Some(threshold) = &mut self.threshold {
            threshold.give_back();
        }
    }

    /// It claims a domain.
    pub fn claims(&self) {
        if let Some(threshold) = &self.threshold {
            threshold.claim();
        }
    }

    /// Ready when another got its place, which is told once.
    pub fn poll_displaced(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(displaced) = &mut self.displaced else { return Poll::Pending };
        let Poll::Ready(heard) = Pin::new(displaced).poll(cx) else { return Poll::Pending };
        self.displaced = None;
        if heard.is_ok() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until another gets its place.
    pub async fn displaced(&mut self) {
        poll_fn(|cx| self.poll_displaced(cx)).await;
    }

    /// It holds so many octets now, beside what any connection costs. Where that is too much for all together, others lose their
    /// places for it, if their network holds more.
    ///
    /// # Errors
    /// [`Reason::UnprovenMemory`] when it would hold more than before and there is no room for it. What it holds is counted all the
    /// same: it holds it until it is gone.
    pub fn hold(&mut self, octets: usize) -> Result<(), Reason> {
        let octets = u64::try_from(octets).unwrap_or(u64::MAX / 2).saturating_add(COST);
        let before = std::mem::replace(&mut self.held, octets);
        if octets == before {
            return Ok(());
        }
        let mut crowd = held(&self.unproven.crowd);
        let (network, sheltered) = (self.network, self.sheltered);
        if !sheltered && !crowd.holds(network, self.number, octets) {
            // Another has its place.
            return Ok(());
        }
        crowd.octets = crowd.octets.saturating_sub(before).saturating_add(octets);
        match octets > before {
            true => crowd.make_memory(&self.unproven.room, Newcomer { network, sheltered }, 0),
            false => Ok(()),
        }
    }
}

impl Drop for UnprovenPlace {
    fn drop(&mut self) {
        let mut crowd = held(&self.unproven.crowd);
        if self.sheltered {
            crowd.unshelter(self.network);
        } else if crowd.leave(self.network, self.number).is_none() {
            // It was counted out when another came in for it.
            return;
        }
        crowd.forget(self.held);
    }
}

/// The place of one that is proven; others of its network are expected.
#[derive(Debug)]
pub struct Welcome {
    unproven: Arc<Unproven>,
    network: Network,
    _threshold: Option<Threshold>,
}

impl Drop for Welcome {
    fn drop(&mut self) {
        let mut crowd = held(&self.unproven.crowd);
        let last = crowd.last;
        if let Some(friend) = crowd.friends.get_mut(&self.network) {
            friend.living = friend.living.saturating_sub(1);
            friend.until = friend.until.max(last.map_or(friend.until, |last| last + LATELY));
        }
    }
}

/// Places kept for a network from which somebody proven is or was here: as many as any one source may have by default.
const KEPT: u32 = 20;
/// For how long after the last one was seen.
const LATELY: Duration = Duration::from_secs(24 * 60 * 60);
/// Such networks that are remembered.
const FRIENDS: usize = 10_000;
/// How long it is told that there was no room.
const TELL: Duration = Duration::from_secs(60);

/// What a connection costs that has brought nothing: its task, its state, TLS, and one read.
pub const COST: u64 = 32 << 10;

/// For how many that have brought nothing one counts that holds so much.
fn weight(held: u64) -> u64 {
    (held / COST).max(1)
}

#[cfg(test)]
#[path = "unproven_tests.rs"]
mod tests;
