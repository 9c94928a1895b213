//! The three flows as data, and what does not change while the process lives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::fixed;
use crate::jid::Domain;
use crate::policy::Networks;
use crate::reason::{Direction, Facing, Flow, Reason};
use crate::stream::Keyrings;
use crate::stream::client::Mechanism;
use crate::stream::client::certified::CertificateTerms;
use crate::xml::{self, Content};

/// What every relay of the process shares.
#[derive(Clone, Debug)]
pub struct RelayParams {
    /// The domains served by backends.
    pub hosted: BTreeMap<Domain, HostedDomain>,
    /// Those of them that take clients through the gateway.
    pub clients: BTreeMap<Domain, ClientDomain>,
    /// The dialback secrets of both realms.
    pub keys: Keyrings,
    /// Ceilings.
    pub limits: StreamLimits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// The domain that a peer means who names none (STR-07).
    pub default_domain: Option<Domain>,
    /// Domains that were served here once (STR-06).
    pub retired: BTreeSet<Domain>,
    /// Domains that a reload has taken out, and how their servers were met: what these had sent by then comes back to them.
    pub departed: BTreeMap<Domain, HostedDomain>,
    /// Whether our own users read why they could not reach somebody (`explain-to-users`).
    pub explain: bool,
    /// Whether streams between servers may go both ways, where the other side takes part (`bidi`).
    pub bidi: bool,
    /// Whether signatures in the DNS are looked at, so that a domain may name its certificates there.
    pub dnssec: bool,
}

/// How one hosted domain's backend is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedDomain {
    /// How its own dialback keys are believed (DB-63).
    pub keys_by: KeysBy,
    /// What its server's claim may take in all: less than the server itself waits (DB-64).
    pub budget: Duration,
    /// Whether its server may put several targets on one stream (DB-67).
    pub multiplex: bool,
    /// The largest stanza that its server takes, in octets, where the operator says so (XEP-0478).
    pub max_octets: Option<usize>,
    /// What else of a stanza its server takes (XML-18).
    pub takes: Takes,
    /// Whether its server reads addresses as RFC 7622 has them (JID-06).
    pub rfc7622: bool,
    /// Which server it is: domains with the same number are of one (POL-08).
    pub server: usize,
    /// Where it takes the streams of other servers.
    pub at: Arc<[SocketAddr]>,
}

impl HostedDomain {
    /// Whether whoever calls from there may be its server.
    fn may_call(&self, address: IpAddr) -> bool {
        match &self.keys_by {
            KeysBy::Address(networks) => networks.is_any() || networks.contains(address),
            KeysBy::Verify => true,
        }
    }
}

/// How much a server takes of what receiving servers count in a stanza; none: as much as the gateway lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Attributes of one element, declarations included.
    pub attributes: Option<usize>,
    /// Elements.
    pub nodes: Option<usize>,
    /// Octets of an attribute value.
    pub value: Option<usize>,
}

impl Takes {
    /// What this server takes; as much as the gateway lets through where it is not ours.
    pub fn of(server: Option<&HostedDomain>) -> Self {
        server.map(|server| server.takes).unwrap_or_default()
    }

    /// Why a stanza of so many octets as it leaves is more than a server takes that takes `most`, and the limit with what was found.
    pub fn excess(
        self,
        most: usize,
        octets: usize,
        measure: xml::Measure,
    ) -> Option<(Reason, (usize, usize))> {
        if octets > most {
            return Some((Reason::BeyondPeerLimit, (most, octets)));
        }
        let counted = [
            (Reason::BackendAttrs, self.attributes, measure.attributes),
            (Reason::BackendNodes, self.nodes, measure.nodes),
            (Reason::BackendAttrValue, self.value, measure.value),
        ];
        counted.into_iter().find_map(|(reason, most, found)| {
            let (most, found) = (most?, usize::try_from(found).unwrap_or(usize::MAX));
            (found > most).then_some((reason, (most, found)))
        })
    }
}

/// How the clients of one hosted domain are met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientDomain {
    /// The mechanisms that may be offered (C2S-05).
    pub mechanisms: BTreeSet<Mechanism>,
    /// Whether accounts may be made from outside (C2S-08).
    pub registration: bool,
    /// Namespaces of features that pass beside those that are known (C2S-03).
    pub features: BTreeSet<String>,
    /// Whether they must show a certificate, and by which of its names (C2S-15).
    pub certificate: CertificateTerms,
}

impl Default for ClientDomain {
    fn default() -> Self {
        Self {
            mechanisms: Mechanism::DEFAULT.iter().copied().collect(),
            registration: false,
            features: BTreeSet::new(),
            certificate: CertificateTerms::default(),
        }
    }
}

/// How a backend's keys are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysBy {
    /// By the address that it calls from: one of these (DB-62).
    Address(Networks),
    /// By asking it at its configured address.
    Verify,
}

/// Ceilings of requirements 0.2 that concern streams.
#[derive(Clone, Debug)]
pub struct StreamLimits {
    /// The framer's limits before a pair is proven.
    pub before_proof: xml::Limits,
    /// The framer's limits afterwards.
    pub proven: xml::Limits,
    /// The same for what the servers behind us say (L-inside-*).
    pub inside: xml::Limits,
    /// L-pairs.
    pub pairs: usize,
    /// L-pending per stream.
    pub pending: usize,
    /// L-sasl-attempts.
    pub sasl_attempts: u8,
    /// Attempts to bind on one client stream (C2S-14).
    pub binds: u8,
    /// Questions about keys on one stream (DB-43).
    pub questions: u16,
    /// Refusals that a peer's stream may have at once; one more for each second of its life (LIM-09).
    pub refusals: u64,
    /// L-queue, stanzas.
    pub queue_stanzas: usize,
    /// L-queue, octets.
    pub queue_octets: usize,
    /// L-unacked: stanzas that were sent and are not acknowledged; none: peers are not asked to.
    pub unacked_stanzas: usize,
    /// L-unacked, octets.
    pub unacked_octets: usize,
    /// Streams of peers that broke and are remembered, so that they may go on (SM-01).
    pub sessions: usize,
    /// L-inside-queue: octets that wait for one pair of a backend, and for reports to it.
    pub inside_queue: usize,
    /// L-inside-pairs: pairs on one stream of a backend.
    pub inside_pairs: usize,
    /// L-inside-pending: keys of a backend that are being asked about, on one stream.
    pub inside_pending: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            before_proof: xml::Limits::before_proof(),
            proven: xml::Limits::default(),
            inside: xml::Limits::inside(),
            pairs: 50,
            pending: 10,
            sasl_attempts: 3,
            binds: fixed::BINDS,
            questions: fixed::QUESTIONS,
            refusals: fixed::REFUSALS,
            queue_stanzas: 100,
            queue_octets: 1 << 20,
            unacked_stanzas: 1000,
            unacked_octets: 1 << 20,
            sessions: 10_000,
            inside_queue: 8 << 20,
            inside_pairs: 10_000,
            inside_pending: 1_000,
        }
    }
}

/// Deadlines of requirements 0.2 that concern streams.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// T-header.
    pub header: Duration,
    /// T-tls.
    pub tls: Duration,
    /// T-unauth.
    pub unauth: Duration,
    /// T-dialback.
    pub dialback: Duration,
    /// T-queue.
    pub queue: Duration,
    /// T-close.
    pub close: Duration,
    /// T-ack: without any acknowledgement of what was sent.
    pub acknowledgement: Duration,
    /// T-resume: for a stream that broke to go on.
    pub resume: Duration,
    /// T-idle-s2s.
    pub idle: Duration,
    /// T-verify-idle: after the last answer on a stream that only asked about keys.
    pub verify_idle: Duration,
    /// How long a courier waits for more before it closes.
    pub courier: Duration,
    /// How long a report stream waits for more, and a backend's own stream for which no far leg stands (DB-69).
    pub report: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            tls: Duration::from_secs(10),
            unauth: Duration::from_secs(60),
            dialback: Duration::from_secs(30),
            queue: Duration::from_secs(60),
            close: Duration::from_secs(5),
            acknowledgement: Duration::from_secs(60),
            resume: Duration::from_secs(120),
            idle: Duration::from_secs(30 * 60),
            verify_idle: Duration::from_secs(5),
            courier: fixed::COURIER,
            report: fixed::REPORT,
        }
    }
}

impl RelayParams {
    /// Whether that domain is served by a backend of ours.
    pub fn hosts(&self, domain: &Domain) -> bool {
        self.hosted.contains_key(domain)
    }

    /// What is announced to a server before it is proven (SM-09): to one in the world the largest stanza for the domain that its
    /// header names, to a backend what its stream survives.
    pub fn announced(&self, facing: Facing, named: Option<&Domain>) -> usize {
        match facing {
            Facing::Public => self.largest(named.or(self.default_domain.as_ref())),
            Facing::Backend => self.survived(facing),
        }
    }

    /// The largest element that a stream from the world, or from a backend, survives: what is announced to a proven server
    /// (SM-09). What is larger than may pass, and no larger than this, comes back alone (XML-17).
    // COMPAT(Prosody 13.0): for each stanza above the number that it was told it opens another stream, on which it loses the
    // stanza in silence. Fifty of one user, and his domain is at `conn-domain`. One that is proven by dialback gets no features
    // behind the proof, and keeps to the number that came before.
    pub fn survived(&self, facing: Facing) -> usize {
        let limits = match facing {
            Facing::Public => &self.limits.proven,
            Facing::Backend => &self.limits.inside,
        };
        limits.element.max(limits.skip)
    }

    /// The largest stanza for this domain, as it is announced: our own limit, or that of its server where it is smaller
    /// (SM-09).
    pub fn largest(&self, target: Option<&Domain>) -> usize {
        target.map_or(self.limits.proven.element, |domain| self.taken(domain)).min(self.limits.proven.element)
    }

    /// The largest stanza that the server of this domain takes: as the operator says, or as much as others may send us once they are proven. What is
    /// measured by it is the stanza as it leaves, which may be longer than it came (XML-18).
    pub fn taken(&self, target: &Domain) -> usize {
        self.taken_by(self.hosted.get(target))
    }

    /// The same of this server; none: it is not ours.
    pub fn taken_by(&self, server: Option<&HostedDomain>) -> usize {
        server.and_then(|server| server.max_octets).unwrap_or(self.limits.proven.element)
    }

    /// Whether the server of this domain reads addresses as RFC 7622 has them.
    pub fn reads_rfc7622(&self, domain: &str) -> bool {
        self.hosted.get(domain).is_some_and(|hosted| hosted.rfc7622)
    }

    /// Whether whoever calls from there may be that domain's server (DB-62): by its address, or because it is asked back
    /// before it is believed.
    pub fn may_call(&self, domain: &Domain, address: IpAddr) -> bool {
        self.hosted.get(domain).is_some_and(|hosted| hosted.may_call(address))
    }

    /// Whether errors about what this domain has sent go to its server, if it was sent from there: also where a reload has taken the
    /// domain out meanwhile.
    pub fn hears_of(&self, domain: &Domain, address: Option<IpAddr>) -> bool {
        let known = self.hosted.get(domain).or_else(|| self.departed.get(domain));
        known.is_some_and(|known| address.is_none_or(|address| known.may_call(address)))
    }

    /// Whether the servers of that domain call from this address, as far as addresses tell.
    pub fn calls_from(&self, domain: &Domain, address: IpAddr) -> bool {
        match self.hosted.get(domain).map(|hosted| &hosted.keys_by) {
            Some(KeysBy::Address(networks)) => networks.is_any() || networks.contains(address),
            Some(KeysBy::Verify) | None => false,
        }
    }

    /// Where errors go about what this domain has sent.
    pub fn reports_to(&self, domain: &Domain) -> Arc<[SocketAddr]> {
        let known = self.hosted.get(domain).or_else(|| self.departed.get(domain));
        known.map(|known| Arc::clone(&known.at)).unwrap_or_default()
    }

    /// Whether both domains are of one server.
    pub fn is_same_server(&self, domain: &str, other: &Domain) -> bool {
        let server = |hosted: &HostedDomain| hosted.server;
        let known = self.hosted.get(domain).map(server);
        known.is_some() && known == self.hosted.get(other).map(server)
    }

    /// Why a stream to a domain that is not hosted here is refused.
    pub fn absence(&self, domain: &Domain) -> Reason {
        if self.retired.contains(domain) { Reason::HostGone } else { Reason::HostUnknown }
    }
}

/// Which network the near leg of a flow looks at.
pub const fn near(flow: Flow) -> Facing {
    match flow {
        Flow::C2s | Flow::S2sIn => Facing::Public,
        Flow::S2sOut => Facing::Backend,
    }
}

/// Which network the far legs of a flow look at.
pub const fn far(flow: Flow) -> Facing {
    match flow {
        Flow::C2s | Flow::S2sIn => Facing::Backend,
        Flow::S2sOut => Facing::Public,
    }
}

/// Which way the stanzas of a flow travel.
pub const fn direction(flow: Flow) -> Direction {
    match flow {
        Flow::C2s | Flow::S2sIn => Direction::Inbound,
        Flow::S2sOut => Direction::Outbound,
    }
}

/// The content namespace of both legs of a flow (STR-02).
pub const fn content(flow: Flow) -> Content {
    match flow {
        Flow::C2s => Content::Client,
        Flow::S2sIn | Flow::S2sOut => Content::Server,
    }
}
