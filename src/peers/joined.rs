//! What two nodes know of one pair, together.
//!
//! Nodes come to know faces apart: while the store is down, or within the same second. Where they meet, they are judged by the same
//! table as a change at one node: what one has come to know stands there against what the other has. It is all the same who says it
//! first, and how often. Of one face the newest word of an operator counts, and what waits anywhere waits until there is one.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::record::{ChangeFate, Gone, KnownFace, Look, Peer, PeerChange, WaitingFace, order};
use crate::policy::{Face, compare};

/// What both know of one face.
struct Met {
    look: Look,
    first: Timestamp,
    last: Timestamp,
    /// When each of the two saw it pass.
    passed: [Option<Timestamp>; 2],
    /// When it was kept out last, and how often.
    kept_out: Option<(Timestamp, u64)>,
    approved: Option<Timestamp>,
    forgotten: bool,
}

impl Peer {
    /// What two nodes know of the same pair, together; and what has come to wait only now that they have met.
    pub(super) fn join(&self, other: &Peer) -> (Peer, Vec<PeerChange>) {
        let newest = if (self.last, &self.rule) < (other.last, &other.rule) { other } else { self };
        let last_word = if (self.epoch, self.unheard) < (other.epoch, other.unheard) { other } else { self };
        let mut joined = Peer {
            from: self.from.clone(),
            to: self.to.clone(),
            direction: self.direction.clone(),
            rule: newest.rule.clone(),
            hold: self.hold || other.hold,
            first: self.first.min(other.first),
            last: newest.last,
            epoch: last_word.epoch,
            faces: Vec::new(),
            tls: union(&self.tls, &other.tls),
            networks: union(&self.networks, &other.networks),
            waiting: Vec::new(),
            unheard: last_word.unheard,
            gone: Vec::new(),
            changes: union(&self.changes, &other.changes),
        };
        for gone in self.gone.iter().chain(&other.gone) {
            joined.goes(gone.clone());
        }
        let mut met = self.met(other);
        met.retain_mut(|met| met.heed(&joined.gone));
        let mut fresh = Vec::new();
        for (met, passes) in judged(met, joined.hold) {
            if passes {
                let Met { look, first, last, approved, forgotten, .. } = met;
                // Who is believed as the first is so in spite of what was said before: not for this once alone.
                let approved = approved.or(forgotten.then_some(last));
                joined.faces.push(KnownFace { look, first, last, approved });
            } else {
                if met.kept_out.is_none() {
                    fresh.push((met.look.clone(), met.last));
                }
                let (at, times) = met.kept_out.unwrap_or((met.last, 0));
                let (look, first, last) = (met.look, met.first, met.last.max(at));
                joined.waiting.push(WaitingFace { look, what: Vec::new(), first, last, times });
            }
        }
        let known: Vec<Face> = joined.faces.iter().map(|seen| seen.look.face.clone()).collect();
        for waiting in &mut joined.waiting {
            waiting.what = compare(&known, &waiting.look.face).drifts;
        }
        joined.thin();
        let before = joined.look().cloned();
        let told: Vec<PeerChange> = fresh
            .into_iter()
            .map(|(after, at)| {
                let what = compare(&known, &after.face).drifts;
                let before = before.clone().unwrap_or_else(|| after.clone());
                PeerChange { at, what, before, after, fate: ChangeFate::Held }
            })
            .collect();
        joined.changes = union(&joined.changes, &told);
        joined.thin();
        (joined, told)
    }

    fn met(&self, other: &Peer) -> Vec<Met> {
        let mut all: Vec<Met> = Vec::new();
        for (side, peer) in [self, other].into_iter().enumerate() {
            for KnownFace { look, first, last, approved } in &peer.faces {
                Met::add(&mut all, look, (*first, *last), |met| {
                    met.approved = met.approved.max(*approved);
                    met.passed.iter_mut().skip(side).take(1).for_each(|passed| *passed = Some(*last));
                });
            }
            for WaitingFace { look, first, last, times, .. } in &peer.waiting {
                Met::add(&mut all, look, (*first, *last), |met| {
                    met.kept_out = met.kept_out.max(Some((*last, *times)));
                });
            }
        }
        all
    }
}

impl Met {
    fn add(
        all: &mut Vec<Met>,
        look: &Look,
        (first, last): (Timestamp, Timestamp),
        say: impl FnOnce(&mut Met),
    ) {
        let known = all.iter().position(|met| met.look.face.is_like(&look.face));
        let mut met = known.map_or_else(|| Met::new(look, first, last), |at| all.swap_remove(at));
        // The newest look stands for all; of two from one moment it does not matter which, if it is always the same.
        if (last, order(look)) > (met.last, order(&met.look)) {
            met.look = look.clone();
        }
        (met.first, met.last) = (met.first.min(first), met.last.max(last));
        say(&mut met);
        all.push(met);
    }

    fn new(look: &Look, first: Timestamp, last: Timestamp) -> Self {
        let look = look.clone();
        Self { look, first, last, passed: [None; 2], kept_out: None, approved: None, forgotten: false }
    }

    /// What was taken away does not come back by a node that has not heard of it: only what was seen later counts. Whether anything is left.
    fn heed(&mut self, gone: &[Gone]) -> bool {
        let Some(gone) = gone.iter().find(|gone| gone.face.is_like(&self.look.face)) else { return true };
        if self.approved.is_some_and(|word| word > gone.at) {
            return true;
        }
        self.approved = None;
        self.forgotten = gone.forgotten;
        for passed in &mut self.passed {
            *passed = passed.filter(|at| *at >= gone.at);
        }
        self.kept_out = self.kept_out.filter(|(at, _)| *at >= gone.at);
        self.passed != [None; 2] || self.kept_out.is_some()
    }

    fn has_passed(&self, side: usize) -> bool {
        self.passed.get(side).is_some_and(Option::is_some)
    }

    fn waits(&self) -> bool {
        self.kept_out.is_some() || self.forgotten
    }

    /// Whether there is nothing to judge: an operator has said so, or both have let it pass.
    fn is_settled(&self) -> bool {
        self.approved.is_some() || self.passed.iter().all(Option::is_some) && !self.waits()
    }
}

/// Which of them pass from now on. What each knows is judged by what the other does: the strongest first, and of those the one that
/// came first; what waits somewhere stands behind all.
fn judged(met: Vec<Met>, hold: bool) -> Vec<(Met, bool)> {
    let (waiting, mut known): (Vec<Met>, Vec<Met>) =
        met.into_iter().partition(|met| met.passed == [None; 2] && met.approved.is_none());
    known.sort_by_cached_key(|met| {
        let contested = met.waits() && met.approved.is_none();
        (contested, Reverse(met.look.face.method), met.first, order(&met.look))
    });
    let mut judged: Vec<(Met, bool)> = Vec::new();
    for met in known {
        let others = judged.iter().filter(|(_, passes)| *passes).map(|(other, _)| other);
        let all: Vec<&Met> = others.collect();
        // What one node knows it has judged already, but for what waits somewhere.
        let apart = |other: &&&Met| {
            met.waits()
                || other.is_settled()
                || (0..2).any(|side| met.has_passed(side) != other.has_passed(side))
        };
        let against: Vec<Face> = all.iter().filter(apart).map(|other| other.look.face.clone()).collect();
        let passes = !hold
            || met.is_settled()
            || (!met.waits() || all.is_empty()) && !compare(&against, &met.look.face).holds;
        judged.push((met, passes));
    }
    judged.extend(waiting.into_iter().map(|met| (met, false)));
    judged
}

/// All of both, once, in one order.
fn union<T: Clone + PartialEq + std::fmt::Debug>(ours: &[T], theirs: &[T]) -> Vec<T> {
    let news = theirs.iter().filter(|one| !ours.contains(one));
    ours.iter().chain(news).cloned().collect()
}
