//! What policy answers. A [`Permit`] can be made in this file only, and only of a verdict that allows.

use std::net::IpAddr;
use std::sync::Arc;

use super::beside::Beside;
use super::finding::Place;
use super::peers::{Face, OnChange};
use super::pins::{KeyDigest, Pins, ShownKey};
use super::proxy::Proxy;
use super::quarantine::Quarantine;
use super::question::{Federate, Identity, StanzaKind, StanzaType, Supposed, Tls};
use super::rules::{Conditions, Quotas, RuleName, StanzaRules};
use crate::jid::Domain;
use crate::reason::{Direction, Outcome, Reason};

/// An answer, with its reason and the rule that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// Allow, deny or quarantine.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The rule that decided, [`RuleName::DEFAULT`] when none did.
    pub rule: RuleName,
    /// Where that rule stands; none when no rule decided.
    pub place: Option<Place>,
    /// What the policy in the shadow says; none without one.
    pub beside: Option<Arc<Beside>>,
    permit: Option<Permit>,
}

impl Verdict {
    /// The token that opens the door, if this verdict allows a pair.
    pub fn permit(&self) -> Option<Permit> {
        self.permit.clone()
    }

    /// Whether it may go on.
    pub fn is_allow(&self) -> bool {
        self.outcome != Outcome::Deny
    }

    /// The same with this word of the policy in the shadow, which its permit carries along.
    pub fn shadowed_by(self, other: Verdict) -> Verdict {
        self.with_beside(Some(Arc::new(Beside::from(other))))
    }

    /// The same with what was said beside another verdict on this pair, if anything was.
    pub fn with_beside(mut self, beside: Option<Arc<Beside>>) -> Verdict {
        if let Some(permit) = &mut self.permit {
            permit.beside.clone_from(&beside);
        }
        self.beside = beside;
        self
    }

    /// The verdict for one stanza of the pair: what the rule lets pass narrows what the pair was allowed.
    pub fn for_stanza(self, kind: Option<StanzaKind>, payload: Option<&str>) -> Verdict {
        self.for_supposed(&Supposed { kind, payload, ..Supposed::default() })
    }

    /// The same where more is known of the stanza.
    pub fn for_supposed(self, stanza: &Supposed<'_>) -> Verdict {
        let &Supposed { kind, type_, payload, directed: _ } = stanza;
        let Some(stanzas) = self.permit.as_ref().map(|permit| Arc::clone(permit.stanzas())) else {
            return self;
        };
        let queries = kind == Some(StanzaKind::Iq) && stanzas.quarantine().is_some();
        // What is wrong may say so, and whoever is there to be looked at changes nothing here.
        let asks = |namespace: &str| match type_ {
            Some(StanzaType::Error) => true,
            Some(StanzaType::Set) => false,
            _ => Quarantine::admits_query(namespace),
        };
        let unasked = type_ == Some(StanzaType::Set) || payload.is_some_and(|namespace| !asks(namespace));
        let refusal = if kind.is_some_and(|kind| !stanzas.admits_kind(kind)) {
            Reason::KindDenied
        } else if payload.is_some_and(|namespace| !stanzas.admits_payload(namespace)) {
            Reason::PayloadDenied
        } else if queries && unasked {
            Reason::Quarantined
        } else if self.leaves() && stanzas.egress().is_some_and(|egress| egress.keeps(stanza)) {
            Reason::KeptInside
        } else {
            return self;
        };
        Verdict::deny(refusal, self.rule, self.place)
    }

    /// Whether it is about what leaves for the remote domain.
    fn leaves(&self) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.direction == Direction::Outbound)
    }

    /// The same for a domain that was proven so. One that is `held` waits for an operator.
    pub(super) fn recalled(mut self, face: &Arc<Face>, held: bool) -> Verdict {
        if held {
            return Verdict::deny(Reason::PeerChanged, self.rule, self.place).with_beside(self.beside);
        }
        if let Some(permit) = &mut self.permit {
            permit.face = Some(Arc::clone(face));
        }
        self
    }

    pub(super) fn deny(reason: Reason, rule: RuleName, place: Option<Place>) -> Verdict {
        Verdict { outcome: Outcome::Deny, reason, rule, place, beside: None, permit: None }
    }

    pub(super) fn arrive(rule: RuleName) -> Verdict {
        let (outcome, reason) = (Outcome::Allow, Reason::Allowed);
        Verdict { outcome, reason, rule, place: None, beside: None, permit: None }
    }

    pub(super) fn federate(
        question: &Federate<'_>,
        rule: RuleName,
        place: Option<Place>,
        terms: &Arc<Conditions>,
    ) -> Verdict {
        let permit = Permit {
            hosted: question.hosted.clone(),
            remote: question.remote.clone(),
            direction: question.direction,
            identity: question.identity,
            tls: question.tls,
            address: question.address,
            key: question.key,
            rule: rule.clone(),
            place: place.clone(),
            terms: Arc::clone(terms),
            face: None,
            beside: None,
        };
        let (outcome, reason) = match terms.stanzas.quarantine() {
            None => (Outcome::Allow, Reason::Allowed),
            Some(_) => (Outcome::Quarantine, Reason::Quarantined),
        };
        Verdict { outcome, reason, rule, place, beside: None, permit: Some(permit) }
    }
}

impl From<Verdict> for Beside {
    fn from(verdict: Verdict) -> Self {
        let stanzas = verdict.permit().map(|permit| Arc::clone(permit.stanzas())).unwrap_or_default();
        Self {
            outcome: verdict.outcome,
            reason: verdict.reason,
            rule: verdict.rule,
            place: verdict.place,
            stanzas,
        }
    }
}

/// Permission for one pair in one direction, as it was asked. Fields private, made in this file only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permit {
    hosted: Domain,
    remote: Domain,
    direction: Direction,
    identity: Identity,
    tls: Tls,
    address: Option<IpAddr>,
    key: ShownKey,
    rule: RuleName,
    place: Option<Place>,
    terms: Arc<Conditions>,
    /// How the remote domain was proven, once that was compared with before.
    face: Option<Arc<Face>>,
    beside: Option<Arc<Beside>>,
}

impl Permit {
    /// The domain served here.
    pub fn hosted(&self) -> &Domain {
        &self.hosted
    }

    /// The other domain.
    pub fn remote(&self) -> &Domain {
        &self.remote
    }

    /// Which way stanzas may travel.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The rule that allows it.
    pub fn rule(&self) -> &RuleName {
        &self.rule
    }

    /// Where that rule stands; none when no rule decided.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// What the policy in the shadow said of this pair; none without one.
    pub fn beside(&self) -> Option<&Arc<Beside>> {
        self.beside.as_ref()
    }

    /// Which stanzas may pass.
    pub fn stanzas(&self) -> &Arc<StanzaRules> {
        &self.terms.stanzas
    }

    /// By what bounds the remote domain is in quarantine; none: it is not.
    pub fn quarantine(&self) -> Option<&Arc<Quarantine>> {
        self.terms.stanzas.quarantine()
    }

    /// How much may pass.
    pub fn quotas(&self) -> &Quotas {
        &self.terms.quotas
    }

    /// The keys that the rule pins.
    pub fn pins(&self) -> &Pins {
        &self.terms.pins
    }

    /// The key that this permit was given for, where the rule pins it.
    pub fn pinned(&self) -> Option<KeyDigest> {
        match self.key {
            ShownKey::Digest(key) if self.identity == Identity::Pin => Some(key),
            _ => None,
        }
    }

    /// How the remote domain was proven, where that was compared with before.
    pub fn face(&self) -> Option<&Arc<Face>> {
        self.face.as_ref()
    }

    /// The proxy through which the rule has the remote domain called.
    pub fn via(&self) -> Option<&Arc<Proxy>> {
        self.terms.via.as_ref()
    }

    /// What becomes of it when the remote domain is proven in another way than before.
    pub fn on_change(&self) -> OnChange {
        self.terms.on_change
    }

    /// Whether a file that the remote domain publishes by HTTPS proves it under this rule.
    pub fn takes_posh(&self) -> bool {
        self.terms.pins.is_empty() && self.terms.identities.posh
    }

    /// Whether a server may be spoken to whose certificate does not name its domain (CRT-13).
    pub fn takes_unnamed_servers(&self) -> bool {
        self.terms.takes_unnamed_servers()
    }

    /// The lowest version of TLS; `Tls::None` where none is asked for.
    pub fn lowest_tls(&self) -> Tls {
        self.terms.tls
    }

    /// Whether it was given with the proof in hand. A permit given before that opens no door yet: it says what to offer.
    pub fn is_final(&self) -> bool {
        self.identity != Identity::Unproven
    }

    /// The question as it was asked, to ask it again under another policy.
    pub fn question(&self) -> Federate<'_> {
        Federate {
            hosted: &self.hosted,
            remote: &self.remote,
            direction: self.direction,
            identity: self.identity,
            tls: self.tls,
            address: self.address,
            key: self.key,
        }
    }
}
