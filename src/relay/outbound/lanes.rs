//! The pairs on the stream of a backend, and whether their stanzas may go.
//!
//! A backend may have ten thousand on one stream: what a stanza costs must not grow with them.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use super::super::beside::InForce;
use super::super::turn::Turn;
use super::super::{Effect, LaneId};
use crate::filter;
use crate::jid::Domain;
use crate::policy::Permit;
use crate::reason::Reason;
use crate::stream::Pair;
use crate::xml::{Frame, Head};

/// A pair on the stream of a backend, and whether its stanzas may go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) pair: Pair,
    pub(super) standing: Result<Permits, Reason>,
    /// It was proven by its key, not by the address.
    pub(super) keyed: bool,
}

/// What lets the stanzas of a pair out, and, between two backends, in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Permits {
    pub(super) out: Permit,
    pub(super) into: Option<Permit>,
}

impl Permits {
    /// A stanza of the pair is about to be refused: by the rule that lets it out or by that which lets it in, if it is for what one says.
    pub(super) fn ruled(&self, reason: Reason, head: &Head, turn: &mut Turn<'_>) {
        let refuses = |permit: &Permit| filter::refusal(head, permit.stanzas()).is_some();
        let into = self.into.as_ref().filter(|into| !refuses(&self.out) && refuses(into));
        turn.ruled(into.unwrap_or(&self.out), reason);
    }

    /// A stanza of the pair was refused: what the policy in the shadow, if there is one, would have made of it.
    pub(super) fn refused_beside(&self, pair: &Pair, reason: Reason, frame: &Frame, turn: &mut Turn<'_>) {
        let (head, octets) = (frame.head(), frame.octets().len());
        // Between two backends both must let it pass, so it would pass only if both shadows would have it.
        if self.into.as_ref().is_none_or(|permit| InForce { pair, permit }.would_pass(head)) {
            InForce { pair, permit: &self.out }.refused(reason, head, octets, turn);
        }
    }
}

/// The pairs of one stream, found by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    all: Vec<Lane>,
    /// Where the lanes of a target are in `all`: one for each domain of the backend that writes there.
    by_target: HashMap<Domain, Vec<usize>>,
    /// The lane that was used last.
    last: usize,
    /// Pairs whose lanes were forgotten, and that are believed on this stream all the same: they were proven by key.
    proven: HashSet<Pair>,
}

impl Lanes {
    /// Where the lane of these names is.
    pub(super) fn find(&self, sender: &str, target: &str) -> Option<usize> {
        let is = |at: &&usize| self.all.get(**at).is_some_and(|lane| lane.pair.sender.as_str() == sender);
        self.by_target.get(target)?.iter().find(is).copied()
    }

    /// Adds a lane, or replaces the one of the same pair; where it is.
    pub(super) fn put(&mut self, lane: Lane) -> usize {
        if let Some(at) = self.find(lane.pair.sender.as_str(), lane.pair.target.as_str())
            && let Some(known) = self.all.get_mut(at)
        {
            let id = known.id;
            *known = Lane { id, ..lane };
            return at;
        }
        let at = self.all.len();
        self.by_target.entry(lane.pair.target.clone()).or_default().push(at);
        self.all.push(lane);
        at
    }

    /// Forgets all of them: each opens again by itself at its next stanza, and what was proven stays so.
    pub(super) fn thin(&mut self, turn: &mut Turn<'_>) {
        let Self { all, mut proven, .. } = std::mem::take(self);
        for lane in all {
            turn.push(Effect::CloseLane(lane.id));
            if lane.keyed {
                proven.insert(lane.pair);
            }
        }
        self.proven = proven;
    }

    /// Whether the pair was proven by key on this stream.
    pub(super) fn is_proven(&self, pair: &Pair) -> bool {
        self.of(pair).is_some_and(|lane| lane.keyed) || self.proven.contains(pair)
    }

    /// Pairs that were proven by key, and whose lanes were forgotten.
    pub(super) fn proven(&self) -> usize {
        self.proven.len()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The lane at that place.
    pub(super) fn at(&self, place: usize) -> Option<&Lane> {
        self.all.get(place)
    }

    /// The lane of this pair.
    pub(super) fn of(&self, pair: &Pair) -> Option<&Lane> {
        self.find(pair.sender.as_str(), pair.target.as_str()).and_then(|place| self.at(place))
    }

    /// The lane that was used last, and its place.
    pub(super) fn last(&self) -> Option<(usize, &Lane)> {
        self.at(self.last).map(|lane| (self.last, lane))
    }

    /// That one was used now.
    pub(super) fn used(&mut self, place: usize) {
        self.last = place;
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.all.iter_mut()
    }
}

/// Where lanes are follows from what they are.
impl Hash for Lanes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.all.hash(state);
        self.last.hash(state);
    }
}
