//! Compiled rules: what a rule asks of a stream, and what it then lets pass.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::day::Day;
use super::egress::Egress;
use super::finding::Place;
use super::lists::Quorum;
use super::networks::Networks;
use super::peers::OnChange;
use super::pins::Pins;
use super::proxy::Proxy;
use super::quarantine::Quarantine;
use super::question::{StanzaKind, Tls};
use crate::reason::{Direction, Outcome};

/// The name of a rule: a metric label and log field, from our own files only (the law `closed_words`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleName(Arc<str>);

impl RuleName {
    /// The name that stands for "no rule": the hosted domain's own setting decided.
    pub const DEFAULT: &'static str = "default";

    pub(super) fn new(name: &str) -> RuleName {
        RuleName(Arc::from(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which stanzas of an admitted pair may pass; the filter reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StanzaRules {
    pub(super) refused_kinds: BTreeSet<StanzaKind>,
    pub(super) refused_payloads: BTreeSet<String>,
    /// None: everything leaves. Boxed: few rules have it.
    pub(super) egress: Option<Box<Egress>>,
    /// None: it is in no quarantine.
    pub(super) quarantine: Option<Arc<Quarantine>>,
}

impl StanzaRules {
    /// Whether stanzas of this kind may pass.
    pub fn admits_kind(&self, kind: StanzaKind) -> bool {
        !self.refused_kinds.contains(&kind)
    }

    /// Whether a stanza with a child element in this namespace may pass.
    pub fn admits_payload(&self, namespace: &str) -> bool {
        !self.refused_payloads.contains(namespace)
    }

    /// What does not leave for the remote domain; none: everything leaves.
    pub fn egress(&self) -> Option<&Egress> {
        self.egress.as_deref()
    }

    /// By what bounds the remote domain is in quarantine; none: it is not.
    pub fn quarantine(&self) -> Option<&Arc<Quarantine>> {
        self.quarantine.as_ref()
    }

    /// Whether everything may pass, so that nothing need be asked.
    pub fn is_open(&self) -> bool {
        self.refused_kinds.is_empty()
            && self.refused_payloads.is_empty()
            && self.egress.is_none()
            && self.quarantine.is_none()
    }
}

/// So many units in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Units in a second, and how many may come at once.
    pub per_second: NonZeroU32,
}

/// How much of what an admitted pair may send; none stands for the gateway's own limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Quotas {
    /// Stanzas.
    pub stanzas: Option<Rate>,
    /// Octets.
    pub octets: Option<Rate>,
    /// Concurrent streams under the rule.
    pub streams: Option<u32>,
    /// Connections of servers of one registrable domain, in place of the gateway's own number.
    pub connections: Option<u32>,
    /// Pairs of one registrable domain, in place of the gateway's own number.
    pub pairs: Option<u32>,
}

/// The identities a rule accepts: those that it names, and each that is stronger than one of them. The order is fixed: pin, DANE,
/// certificate, POSH, dialback. POSH alone is taken only where it is named, since somebody must be asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identities {
    /// Whether a certificate that speaks for the domain is proof enough: wherever it or a weaker proof is named.
    pub certificate: bool,
    /// Whether a POSH file is.
    pub posh: bool,
    /// Whether dialback is.
    pub dialback: bool,
    /// Whether a file says so in as many words, and not only the built-in default. Outbound, dialback means that the
    /// channel is encrypted to a server that shows no certificate for its name; that is never assumed (CRT-13).
    pub written: bool,
}

/// What a rule that allows asks for, and what it grants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// The proofs that are enough.
    pub identities: Identities,
    /// Keys one of which the remote server must hold; then nothing else is asked, and nothing less is enough (DNS-18).
    pub pins: Pins,
    /// The lowest version of TLS; `Tls::None` asks for no TLS.
    pub tls: Tls,
    /// Which stanzas may pass.
    pub stanzas: Arc<StanzaRules>,
    /// How much.
    pub quotas: Quotas,
    /// What becomes of a change of the proof.
    pub on_change: OnChange,
    /// The proxy through which the remote domain is called; none: the route decides.
    pub via: Option<Arc<Proxy>>,
}

impl Conditions {
    /// The same for somebody in quarantine.
    pub(super) fn within(&self, quarantine: Quarantine) -> Conditions {
        let quarantine = Some(Arc::new(quarantine));
        Conditions {
            stanzas: Arc::new(StanzaRules { quarantine, ..StanzaRules::clone(&self.stanzas) }),
            ..self.clone()
        }
    }

    /// Whether a server may be spoken to whose certificate does not name its domain (CRT-13): only where a file accepts
    /// dialback in as many words, or asks for no TLS at all.
    pub fn takes_unnamed_servers(&self) -> bool {
        self.pins.is_empty()
            && ((self.identities.dialback && self.identities.written) || self.tls == Tls::None)
    }
}

impl Default for Conditions {
    /// What applies where a file says nothing: certificate or dialback, over TLS 1.2 or newer.
    fn default() -> Conditions {
        Conditions {
            identities: Identities { certificate: true, posh: false, dialback: true, written: false },
            pins: Pins::default(),
            tls: Tls::V12,
            stanzas: Arc::default(),
            quotas: Quotas::default(),
            on_change: OnChange::default(),
            via: None,
        }
    }
}

/// One rule, compiled.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: RuleName,
    pub(super) place: Place,
    pub(super) outcome: Outcome,
    /// None: both.
    pub(super) direction: Option<Direction>,
    pub(super) networks: Networks,
    pub(super) expires: Option<Day>,
    pub(super) owner: Option<Arc<str>>,
    pub(super) ticket: Option<Arc<str>>,
    /// Hosted domains the rule is considered for, as sorted indexes.
    pub(super) hosted: Arc<[usize]>,
    pub(super) terms: Arc<Conditions>,
    /// The same for who is out of quarantine; elsewhere the very same.
    pub(super) free: Arc<Conditions>,
    /// The lists that name its domains, where no pattern does.
    pub(super) quorum: Option<Quorum>,
    /// Two rules have the same that say the same, wherever they stand.
    pub(super) mark: u64,
}

/// The mark of all that a rule says.
pub(super) fn mark(said: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    said.hash(&mut hasher);
    hasher.finish()
}

impl Rule {
    pub(super) fn is_for(&self, hosted: usize) -> bool {
        self.hosted.binary_search(&hosted).is_ok()
    }

    pub(super) fn has_expired(&self, today: Day) -> bool {
        self.expires.is_some_and(|last| today > last)
    }
}
