//! The configuration as the gateway lives by it: parsed, complete, impossible states gone. Plain data; whoever builds a part
//! of the gateway takes from here what that part's own parameters need.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use super::hosts::{WrittenTarget, WrittenTargets};
use super::hosts::{addresses, by_the_system};
use super::limits::{Limits, Timeouts};
use super::list_file::ListFile;
pub use super::listening::{Callers, Encryption, Listener, Mixed, Web};
pub use super::watching::{Admin, Http};
use crate::dns::{Dnssec, Whom};
use crate::jid::Domain;
use crate::policy::Proxy;
use crate::policy::{Federation, Place};
use crate::stream::client::Mechanism;
use crate::stream::client::certified::{CertificateTerms, Demand};

/// Everything `gatehouse.yaml` says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Files that it includes, and folders in which files were looked for.
    pub beside: Vec<PathBuf>,
    /// How many threads do the work; none: one for each processor.
    pub threads: Option<usize>,
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// The domains served here, each once.
    pub domains: Vec<HostedDomain>,
    /// The domain that stands in where a peer names none (STR-06, STR-07, TLS-16); one of `domains`.
    pub default_domain: Option<Domain>,
    /// Domains that were served here once; none of `domains`.
    pub retired_domains: Vec<Domain>,
    /// Addresses at which the world finds us, and that no socket of ours has (DNS-05).
    pub own_addresses: Vec<IpAddr>,
    /// Whether our own users read why what they sent did not arrive.
    pub explain_to_users: bool,
    /// Whether streams between servers may go both ways.
    pub bidi: bool,
    /// The mark that packets bear.
    pub dscp: Option<u8>,
    /// Lists that somebody else keeps.
    pub lists: Vec<ListFile>,
    /// Files of patches.
    pub patches: Vec<PathBuf>,
    /// Dialback secrets.
    pub secrets: Secrets,
    /// What nodes that serve the same domains share beyond secrets.
    pub cluster: Option<Cluster>,
    /// Whom to trust.
    pub trust: TrustFiles,
    /// How to find remote servers.
    pub dns: Dns,
    /// DNS answers for backends.
    pub steering: Option<Steering>,
    /// Watching and steering the gateway.
    pub admin: Admin,
    /// Limits.
    pub limits: Limits,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Logs.
    pub log: Log,
    /// Audit records.
    pub audit: Option<Audit>,
    /// The folder of what outlives a restart.
    pub state: Option<PathBuf>,
}

impl Settings {
    /// The domain whose certificate this listener shows to who names no server (TLS-16): one that is served there.
    pub fn shown_at<'a>(&'a self, listener: &'a Listener) -> Option<&'a Domain> {
        let served = |domain: &&HostedDomain| match listener.role {
            // A name that leads nowhere now may lead somewhere later.
            Callers::C2s(_) => !(domain.backend.c2s.is_empty() && domain.backend.named.c2s.is_empty()),
            Callers::S2s(_) => !(domain.backend.s2s.is_empty() && domain.backend.named.s2s.is_empty()),
            Callers::Websocket(_) => !(domain.backend.c2s.is_empty() && domain.backend.named.c2s.is_empty()),
            Callers::Inside(_) | Callers::Mixed(_) => true,
        };
        let first = || self.domains.iter().find(served).or(self.domains.first()).map(|domain| &domain.name);
        listener.default.as_ref().or(self.default_domain.as_ref()).or_else(first)
    }

    /// From where the server of this domain is believed by its address (DB-62); none: from wherever the inside listener
    /// takes anybody. Where all domains have one server, the inside network says enough.
    pub fn callers(&self, domain: &HostedDomain) -> Vec<IpNet> {
        let backend = &domain.backend;
        let federating = self.domains.iter().filter(|other| !other.backend.s2s.is_empty());
        let one = federating.map(|other| other.backend.hosts()).all(|hosts| hosts == backend.hosts());
        match (backend.from.is_empty(), one) {
            (false, _) => backend.from.clone(),
            (true, true) => Vec::new(),
            (true, false) => {
                let hosts = backend.s2s.iter().chain(&backend.c2s).map(|a| a.ip().to_canonical());
                hosts.map(IpNet::from).collect()
            }
        }
    }
}

impl Settings {
    /// The domain of that name, if it is served here.
    pub fn domain(&self, name: &Domain) -> Option<&HostedDomain> {
        self.domains.iter().find(|domain| domain.name == *name)
    }

    /// Whether stanzas may pass from the server of one domain to that of another (POL-08): they are two, and what the first
    /// sends is not taken for the other's.
    pub fn may_speak(&self, from: &HostedDomain, to: &HostedDomain) -> bool {
        let callers = self.callers(to);
        let hosts = from.backend.hosts();
        let mixed = to.backend.dialback_keys == DialbackKeys::ByAddress
            && (callers.is_empty() || hosts.iter().any(|host| callers.iter().any(|net| net.contains(host))));
        !from.backend.s2s.iter().any(|address| to.backend.s2s.contains(address)) && !mixed
    }
}

/// A domain served here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedDomain {
    /// The domain.
    pub name: Domain,
    /// Its certificate.
    pub certificate: CertificateFiles,
    /// What its clients must show.
    pub clients: ClientProof,
    /// The server behind the gateway.
    pub backend: Backend,
    /// With whom it federates.
    pub federation: Federation,
    /// Its policy files.
    pub policies: Vec<PathBuf>,
    /// Policy files that are judged beside them; none: there are none, or the same under another federation.
    pub shadow: Option<Vec<PathBuf>>,
    /// The federation under which these are judged, where it is another.
    pub shadow_federation: Option<Federation>,
    /// Addresses to call other servers from; empty: the system's choice.
    pub source: Vec<IpAddr>,
    /// Where the configuration names it.
    pub place: Place,
}

/// What the clients of a domain must show beside their password (C2S-15).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientProof {
    /// Whether a certificate, and by which of its names.
    pub certificate: CertificateTerms,
    /// Those who issue them; there is one where certificates are asked for.
    pub roots: Option<PathBuf>,
    /// Their revocation lists.
    pub crls: Vec<PathBuf>,
}

impl ClientProof {
    /// Whether an account may be asked for before the login: not where a certificate must say whose the account is, for nobody knows
    /// yet of which it speaks.
    pub fn may_register(&self) -> bool {
        self.certificate.demand != Demand::Require
    }
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then its issuers.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A server behind the gateway; at least one address in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Addresses for clients, tried in order.
    pub c2s: Vec<SocketAddr>,
    /// Addresses for federation, tried in order.
    pub s2s: Vec<SocketAddr>,
    /// Where those come from that were looked up.
    pub named: WrittenTargets,
    /// The PROXY header on c2s connections to it.
    pub proxy: Option<ProxyVersion>,
    /// Whether it reads a PROXY header of version 2 on s2s connections, with what was verified (BE-05).
    pub s2s_proxy: bool,
    /// SASL mechanisms that clients may use, of those that it offers (C2S-05).
    pub mechanisms: BTreeSet<Mechanism>,
    /// Whether clients may make accounts there (C2S-08).
    pub register: bool,
    /// Namespaces of its features that clients see after the login, beside those that are known (C2S-03).
    pub features: BTreeSet<String>,
    /// How its own dialback keys are believed.
    pub dialback_keys: DialbackKeys,
    /// Networks that its server calls from; none: see [`Settings::callers`].
    pub from: Vec<IpNet>,
    /// How long its server waits for an answer to its own dialback key.
    pub dialback_timeout: Duration,
    /// Whether it may send to several remote domains over one stream (DB-67).
    pub multiplex: bool,
    /// How often it is looked at; none: never.
    pub check: Option<Duration>,
    /// Which server it is, in the word of the file, where that says so.
    pub server: Option<&'static str>,
    /// What it takes of a stanza (XML-18).
    pub takes: Takes,
    /// Streams of ours that its server takes at one time.
    pub connections: u32,
    /// Whether it reads addresses as RFC 7622 has them (JID-06).
    pub rfc7622: bool,
}

/// What a server takes of a stanza; none: what the gateway lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Octets (XEP-0478).
    pub stanza: Option<u64>,
    /// Attributes of one element, declarations included.
    pub attrs: Option<u64>,
    /// Elements.
    pub nodes: Option<u64>,
    /// Octets of an attribute value.
    pub attr_value: Option<u64>,
}

/// Versions of the PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

/// How a backend's own dialback keys are believed (DB-63).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialbackKeys {
    /// It came from the inside network.
    ByAddress,
    /// Asked back at its configured address.
    Verify,
}

/// Files of the dialback secrets; where there is none, the caller draws one at random at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// For the world side.
    pub world: Option<PathBuf>,
    /// For the inside.
    pub inside: Option<PathBuf>,
}

/// What nodes that serve the same domains share beyond secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The name that they have together.
    pub name: String,
    /// The store.
    pub store: crate::store::Address,
    /// The file with its password.
    pub password: Option<PathBuf>,
    /// The trust anchors of its certificate, where they are not those of peers.
    pub roots: Option<PathBuf>,
}

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFiles {
    /// Trust anchors for everybody.
    pub roots: Roots,
    /// Certificate revocation lists (CRT-09).
    pub crls: Vec<PathBuf>,
    /// What to make of a certificate of whose revocation they tell nothing.
    pub unknown_revocation: UnknownRevocation,
    /// Trust anchors that replace `roots` for some peers (CRT-10).
    pub peers: Vec<PeerTrust>,
}

/// What to make of a certificate of whose revocation the lists tell nothing (CRT-09).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownRevocation {
    /// Trust it.
    Accept,
    /// Trust it if its issuer has no list here; a list that its issuer has must be up to date.
    #[default]
    ByIssuer,
    /// Do not trust it.
    Refuse,
}

/// A set of trust anchors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those of a PEM file.
    Pem(PathBuf),
    /// Those of the operating system.
    System,
}

/// Trust anchors for some peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTrust {
    /// The peers.
    pub domains: Vec<Domain>,
    /// PEM file.
    pub roots: PathBuf,
}

/// How to find remote servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Resolvers; empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// Where to find some domains without asking (DNS-08), and the way there; each domain or wildcard once.
    pub routes: Vec<Route>,
    /// Who looks at signatures.
    pub dnssec: Dnssec,
    /// Networks that looked-up names may lead to although DNS-05 would refuse them.
    pub allow_networks: Vec<IpNet>,
}

/// Where to find a domain; a target, a proxy or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The remote domain, or those below it.
    pub domain: Whom,
    /// The server, if not the one that the DNS names.
    pub target: Option<WrittenTarget>,
    /// The way out.
    pub via: Option<Proxy>,
    /// How to encrypt.
    pub tls: RouteTls,
}

/// How a routed stream is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteTls {
    /// TLS from the first octet.
    Direct,
    /// Not at all.
    None,
    /// TLS after negotiation.
    Starttls,
}

/// DNS answers that lead a backend's federation here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    /// Where to answer.
    pub listen: SocketAddr,
    /// Whom to answer.
    pub from: Vec<IpNet>,
    /// The address to answer with.
    pub answer: IpAddr,
    /// The port to answer with: that of the inside listener at `answer`.
    pub port: u16,
    /// How hosted names are answered.
    pub hosted: HostedAnswer,
    /// Names that do not exist, nor anything below them.
    pub never: Vec<Domain>,
}

/// How steering answers for hosted names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostedAnswer {
    /// With the addresses of their backend.
    Backend,
    /// With a refusal.
    Refuse,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The file that they are appended to.
    pub file: PathBuf,
    /// What holds while the disk takes none.
    pub on_full: OnFull,
    /// The size at which the file is moved aside.
    pub rotate_at: Option<u64>,
}

/// What holds while audit records cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnFull {
    /// Traffic goes on.
    GoOn,
    /// Nobody new is let in.
    Refuse,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least important level to log.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Text for people.
    Text,
}

/// Levels, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the words of the field
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The word in files and filters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The same settings with what the names of backends lead to now; none where nothing is different. It may take as long as
/// the system's resolver does.
pub fn looked_up_again(settings: &Settings) -> Option<Settings> {
    let mut next: Option<Settings> = None;
    for (at, domain) in settings.domains.iter().enumerate() {
        let backend = &domain.backend;
        let WrittenTargets { c2s, s2s } = &backend.named;
        let again = |targets: &[WrittenTarget], before: &[SocketAddr]| match targets {
            [] => before.to_vec(),
            targets => addresses(targets, before, &by_the_system),
        };
        let (c2s, s2s) = (again(c2s, &backend.c2s), again(s2s, &backend.s2s));
        if (&c2s, &s2s) == (&backend.c2s, &backend.s2s) {
            continue;
        }
        if let Some(domain) = next.get_or_insert_with(|| settings.clone()).domains.get_mut(at) {
            (domain.backend.c2s, domain.backend.s2s) = (c2s, s2s);
        }
    }
    next
}
