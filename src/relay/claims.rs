//! Claims on their way: "I speak for this pair", not yet believed and not yet refused.

use std::collections::BTreeMap;
use std::time::Instant;

use super::event::DialbackOutcome;
use super::{ClaimId, FarId};
use crate::stream::receiving::{Claim, ClaimBasis, Vouch};
use crate::stream::{KeyAnswer, KeyCheck, Method, Pair, Proof};

/// A claim on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) claim: Claim,
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    /// The same claim, made again meanwhile: each request gets an answer (DB-32).
    repeats: u32,
    pub(super) proof: Option<Proof>,
    /// The leg that claims the pair in turn.
    pub(super) far: Option<FarId>,
}

impl Pending {
    /// A claim about which somebody is asked.
    pub(super) fn new(claim: Claim, since: Instant, deadline: Instant) -> Self {
        Self { claim, since, deadline, repeats: 0, proof: None, far: None }
    }

    /// How many answers are due.
    pub(super) fn answers(&self) -> u32 {
        self.repeats.saturating_add(1)
    }

    /// The key that it leans on, as it is asked about.
    pub(super) fn check(&self) -> Option<KeyCheck> {
        check(&self.claim)
    }

    /// How the pair is proven, or is to be.
    pub(super) fn method(&self) -> Method {
        self.proof.as_ref().map_or_else(|| method(&self.claim), Proof::method)
    }
}

/// The key that a claim leans on, as it is asked about.
pub(super) fn check(claim: &Claim) -> Option<KeyCheck> {
    match &claim.by {
        ClaimBasis::External => None,
        ClaimBasis::Key { stream, key } => {
            Some(KeyCheck { pair: claim.pair.clone(), stream: stream.clone(), key: key.clone() })
        }
    }
}

/// How a claim would have its pair proven.
pub(super) fn method(claim: &Claim) -> Method {
    match &claim.by {
        ClaimBasis::External => Method::Certificate,
        ClaimBasis::Key { .. } => Method::Dialback,
    }
}

/// What an answer about a key is counted as.
pub(super) fn outcome(answer: KeyAnswer) -> DialbackOutcome {
    match answer {
        KeyAnswer::Valid => DialbackOutcome::Valid,
        KeyAnswer::Invalid => DialbackOutcome::Invalid,
        KeyAnswer::Trouble(_) => DialbackOutcome::Error,
    }
}

/// What our own answer about a key is counted as.
pub(super) fn outcome_of(vouch: Vouch) -> DialbackOutcome {
    match vouch {
        Vouch::Valid => DialbackOutcome::Valid,
        Vouch::Invalid => DialbackOutcome::Invalid,
        Vouch::Refused(_) => DialbackOutcome::Error,
    }
}

/// The claims of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Claims(BTreeMap<ClaimId, Pending>);

impl Claims {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn put(&mut self, id: ClaimId, pending: Pending) {
        self.0.insert(id, pending);
    }

    pub(super) fn get_mut(&mut self, id: ClaimId) -> Option<&mut Pending> {
        self.0.get_mut(&id)
    }

    pub(super) fn take(&mut self, id: ClaimId) -> Option<Pending> {
        self.0.remove(&id)
    }

    pub(super) fn take_all(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    /// Whether this very claim is on its way already; then it gets one answer more (DB-32).
    pub(super) fn repeat(&mut self, claim: &Claim) -> bool {
        let Some(pending) = self.0.values_mut().find(|pending| pending.claim == *claim) else { return false };
        pending.repeats = pending.repeats.saturating_add(1).min(MAX_REPEATS);
        true
    }

    /// Whether a claim for this pair is on its way.
    pub(super) fn has(&self, pair: &Pair) -> bool {
        self.0.values().any(|pending| pending.claim.pair == *pair)
    }

    /// The one that waits for that leg.
    pub(super) fn of_leg(&self, far: FarId) -> Option<ClaimId> {
        self.0.iter().find(|(_, pending)| pending.far == Some(far)).map(|(id, _)| *id)
    }

    pub(super) fn ids(&self) -> Vec<ClaimId> {
        self.0.keys().copied().collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Pending> {
        self.0.values()
    }

    /// Those whose time is over.
    pub(super) fn late(&self, now: Instant) -> Vec<ClaimId> {
        self.0.iter().filter(|(_, pending)| pending.deadline <= now).map(|(id, _)| *id).collect()
    }

    /// When the first of them is late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().map(|pending| pending.deadline).min()
    }
}

/// Repeated requests that are each answered.
const MAX_REPEATS: u32 = 10;
