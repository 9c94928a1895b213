//! The set of pairs that may speak on one stream: the door that two tokens open.

use std::hash::{Hash, Hasher};

use crate::jid::Domain;
use crate::policy::{Permit, RuleName};
use crate::reason::{Direction, Reason};
use crate::stream::{Method, Pair, Proof};

/// Which way stanzas of a pair take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairRoute {
    /// Its far leg ended; the courier carries what still comes.
    Carried,
    /// The far leg of that number.
    Leg(u32),
    /// A new policy took the pair back; the stream goes on for the others.
    Withdrawn(Reason),
}

/// A pair that was proven and permitted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Admitted {
    pair: Pair,
    method: Method,
    permit: Permit,
    route: PairRoute,
    traffic: Traffic,
}

/// What has passed. It is counted and told and decides nothing, so two states that differ in nothing else are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Stanzas.
    pub stanzas: u64,
    /// Their octets.
    pub octets: u64,
}

impl Traffic {
    /// One more stanza.
    pub fn count(&mut self, octets: usize) {
        self.stanzas = self.stanzas.saturating_add(1);
        self.octets = self.octets.saturating_add(octets as u64);
    }
}

impl PartialEq for Traffic {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Traffic {}

impl Hash for Traffic {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Admitted {
    /// Sender and target.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// How it was proven.
    pub fn method(&self) -> Method {
        self.method
    }

    /// By what rule it is here.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Who it is, how that was proven, and by which rule it is here: what a backend may be told (BE-05).
    pub fn introduction(&self) -> (Domain, Method, RuleName) {
        (self.permit.remote().clone(), self.method, self.permit.rule().clone())
    }

    /// How many stanzas passed, and how many octets they had.
    pub fn passed(&self) -> (u64, u64) {
        (self.traffic.stanzas, self.traffic.octets)
    }

    /// Where its stanzas go.
    pub fn route(&self) -> PairRoute {
        self.route
    }
}

/// The admitted pairs of one stream. A backend may have ten thousand on one: what a stanza costs must not grow with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Guard {
    pairs: Vec<Admitted>,
    /// Their places, by sender and target.
    order: Vec<usize>,
}

impl Guard {
    /// Of a relay for which no pair can stand.
    pub const EMPTY: Self = Self { pairs: Vec::new(), order: Vec::new() };

    /// Admits the pair that proof and permit are both about, on that route.
    ///
    /// # Errors
    /// `Internal` when they are about different pairs: then nothing is admitted.
    pub fn admit(&mut self, proof: Proof, permit: Permit, route: PairRoute) -> Result<(), Reason> {
        let pair = proof.pair().clone();
        let (hosted, remote) = match permit.direction() {
            Direction::Inbound => (&pair.target, &pair.sender),
            Direction::Outbound => (&pair.sender, &pair.target),
        };
        if permit.hosted() != hosted || permit.remote() != remote || !permit.is_final() {
            return Err(Reason::Internal);
        }
        self.remove(&pair);
        if let Err(at) = self.search(pair.sender.as_str(), pair.target.as_str()) {
            self.order.insert(at, self.pairs.len());
        }
        self.pairs.push(Admitted {
            pair,
            method: proof.method(),
            permit,
            route,
            traffic: Traffic::default(),
        });
        Ok(())
    }

    /// Where the place of this pair stands among the places, or would.
    fn search(&self, sender: &str, target: &str) -> Result<usize, usize> {
        self.order.binary_search_by(|place| {
            let known = self.pairs.get(*place).map(|a| (a.pair.sender.as_str(), a.pair.target.as_str()));
            known.cmp(&Some((sender, target)))
        })
    }

    /// All of them.
    pub fn pairs(&self) -> &[Admitted] {
        &self.pairs
    }

    /// The pair at that place.
    pub fn pair(&self, index: usize) -> Option<&Admitted> {
        self.pairs.get(index)
    }

    /// The place of this pair.
    pub fn find(&self, sender: &str, target: &str) -> Option<usize> {
        self.search(sender, target).ok().and_then(|at| self.order.get(at).copied())
    }

    /// Whether the sender domain was proven here at all.
    pub fn knows_sender(&self, sender: &str) -> bool {
        let first = self.search(sender, "").unwrap_or_else(|at| at);
        let next = self.order.get(first).and_then(|place| self.pairs.get(*place));
        next.is_some_and(|admitted| admitted.pair.sender.as_str() == sender)
    }

    /// Whether nobody is admitted.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether every pair that is here was taken back.
    pub fn is_withdrawn(&self) -> bool {
        self.pairs.iter().all(|a| matches!(a.route, PairRoute::Withdrawn(_)))
    }

    /// Counts a stanza that passes for the pair at that place.
    pub fn count(&mut self, index: usize, octets: usize) {
        if let Some(admitted) = self.pairs.get_mut(index) {
            admitted.traffic.count(octets);
        }
    }

    /// Gives the pair another route.
    pub fn reroute(&mut self, pair: &Pair, route: PairRoute) {
        if let Some(admitted) = self.of(pair) {
            admitted.route = route;
        }
    }

    /// Gives the pair the permit of a newer policy.
    pub fn repermit(&mut self, pair: &Pair, permit: Permit) {
        if let Some(admitted) = self.of(pair) {
            admitted.permit = permit;
        }
    }

    fn of(&mut self, pair: &Pair) -> Option<&mut Admitted> {
        let place = self.find(pair.sender.as_str(), pair.target.as_str())?;
        self.pairs.get_mut(place)
    }

    /// Removes the pair.
    pub fn remove(&mut self, pair: &Pair) -> Option<Admitted> {
        let at = self.search(pair.sender.as_str(), pair.target.as_str()).ok()?;
        // The last one takes its place.
        let last = self.pairs.last()?;
        let moved = self.search(last.pair.sender.as_str(), last.pair.target.as_str()).ok()?;
        let place = *self.order.get(at)?;
        *self.order.get_mut(moved)? = place;
        self.order.remove(at);
        Some(self.pairs.swap_remove(place))
    }
}
