//! The word of the policy in the shadow, as the verdict and the permit of the one in force carry it along.
//!
//! Nothing in it opens a door: a [`super::Permit`] is made of the verdict in force alone.

use std::sync::Arc;

use super::finding::Place;
use super::quarantine::Quarantine;
use super::question::StanzaKind;
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

    /// Why it would refuse a stanza of the pair of this kind, with these namespaces of child elements; none if it would not.
    pub fn refusal<'a>(
        &self,
        kind: StanzaKind,
        mut payloads: impl Iterator<Item = &'a str>,
    ) -> Option<Reason> {
        if !self.is_allow() {
            return Some(self.reason);
        }
        if self.stanzas.is_open() {
            return None;
        }
        if !self.stanzas.admits_kind(kind) {
            return Some(Reason::KindDenied);
        }
        let queries = kind == StanzaKind::Iq && self.stanzas.quarantine().is_some();
        payloads.find_map(|namespace| match self.stanzas.admits_payload(namespace) {
            false => Some(Reason::PayloadDenied),
            true if queries && !Quarantine::admits_query(namespace) => Some(Reason::Quarantined),
            true => None,
        })
    }
}
