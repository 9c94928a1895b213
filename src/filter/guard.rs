//! The set of pairs that may speak on one stream: the door that two tokens open.

use crate::policy::Permit;
use crate::reason::{Direction, Reason};
use crate::stream::{Method, Pair, Proof};

/// Which way stanzas of a pair take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// Its far leg ended; the courier carries what still comes.
    Carried,
    /// The far leg of that number.
    Leg(u32),
    /// A new policy took the pair back; the stream goes on for the others.
    Withdrawn(Reason),
}

/// A pair that was proven and permitted.
#[derive(Clone, Debug)]
pub struct Admitted {
    pair: Pair,
    method: Method,
    permit: Permit,
    route: Route,
    stanzas: u64,
    octets: u64,
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

    /// How many stanzas passed, and how many octets they had.
    pub fn passed(&self) -> (u64, u64) {
        (self.stanzas, self.octets)
    }

    /// Where its stanzas go.
    pub fn route(&self) -> Route {
        self.route
    }
}

/// The admitted pairs of one stream. At most `pairs-per-stream` of them, so a scan is the fastest search.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    pairs: Vec<Admitted>,
}

impl Guard {
    /// Admits the pair that proof and permit are both about, on that route.
    ///
    /// # Errors
    /// `Internal` when they are about different pairs: then nothing is admitted.
    pub fn admit(&mut self, proof: Proof, permit: Permit, route: Route) -> Result<(), Reason> {
        let pair = proof.pair().clone();
        let (hosted, remote) = match permit.direction() {
            Direction::Inbound => (&pair.target, &pair.sender),
            Direction::Outbound => (&pair.sender, &pair.target),
        };
        if permit.hosted() != hosted || permit.remote() != remote || !permit.is_final() {
            return Err(Reason::Internal);
        }
        self.pairs.retain(|known| known.pair != pair);
        self.pairs.push(Admitted { pair, method: proof.method(), permit, route, stanzas: 0, octets: 0 });
        Ok(())
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
        self.pairs.iter().position(|a| a.pair.sender.as_str() == sender && a.pair.target.as_str() == target)
    }

    /// Whether the sender domain was proven here at all.
    pub fn knows_sender(&self, sender: &str) -> bool {
        self.pairs.iter().any(|a| a.pair.sender.as_str() == sender)
    }

    /// Whether nobody is admitted.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether every pair that is here was taken back.
    pub fn is_withdrawn(&self) -> bool {
        self.pairs.iter().all(|a| matches!(a.route, Route::Withdrawn(_)))
    }

    /// Counts a stanza that passes for the pair at that place.
    pub fn count(&mut self, index: usize, octets: usize) {
        if let Some(admitted) = self.pairs.get_mut(index) {
            admitted.stanzas = admitted.stanzas.saturating_add(1);
            admitted.octets = admitted.octets.saturating_add(octets as u64);
        }
    }

    /// Gives the pair another route.
    pub fn reroute(&mut self, pair: &Pair, route: Route) {
        for admitted in self.pairs.iter_mut().filter(|a| a.pair == *pair) {
            admitted.route = route;
        }
    }

    /// Gives the pair the permit of a newer policy.
    pub fn repermit(&mut self, pair: &Pair, permit: Permit) {
        for admitted in self.pairs.iter_mut().filter(|a| a.pair == *pair) {
            admitted.permit = permit.clone();
        }
    }

    /// Removes the pair.
    pub fn remove(&mut self, pair: &Pair) -> Option<Admitted> {
        let index = self.pairs.iter().position(|a| a.pair == *pair)?;
        Some(self.pairs.swap_remove(index))
    }
}
