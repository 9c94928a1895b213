//! The word of the policy in the shadow, as the verdict and the permit of the one in force carry it along.
//!
//! Nothing in it opens a door: a [`super::Permit`] is made of the verdict in force alone.

use std::sync::Arc;

use super::finding::Place;
use super::rules::{RuleName, StanzaRules};
use crate::reason::{Outcome, Reason};

/// What the policy in the shadow says to the same question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Beside {
    /// Allow, deny or quarantine.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The rule that would decide, [`RuleName::DEFAULT`] for none.
    pub rule: RuleName,
    /// Where that rule stands; none when no rule would decide.
    pub place: Option<Place>,
    pub(super) stanzas: Arc<StanzaRules>,
}

impl Beside {
    /// Whether it would let the pair go on.
    pub fn is_allow(&self) -> bool {
        self.outcome != Outcome::Deny
    }

    /// Which stanzas of the pair it would let pass, if it would let that go on.
    pub fn stanzas(&self) -> &StanzaRules {
        &self.stanzas
    }
}
