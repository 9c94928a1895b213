//! The parts of a gateway, made from its settings: each part's own parameters, filled in.
//!
//! Everything that can be wrong on this machine and is not wrong in the file is found here: keys, anchors, secrets. What
//! the configuration can say and this version does not do is refused here too, and nowhere else.

mod limits;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use self::limits::{
    arrivals, arrivals_inside, arrivals_of_clients, bounds, bounds_after, circuits, engine, handshakes,
};
use self::limits::{stream_limits, stream_timeouts};
use super::trust::{finding, trust};
use crate::config::settings::{
    self, Audit, DialbackKeys, Encryption, HostedAnswer, Http, OnFull, ProxyVersion, RouteTls, Settings,
    WrittenTarget,
};
use crate::dns::{self, DialGuard, TlsMode, steer};
use crate::jid::Domain;
use crate::policy::{Finding, Networks, Place};
use crate::relay::plan::{self, KeysBy, RelayParams};
use crate::run::{ways, world};
use crate::stream::Keyrings;
use crate::tls::{self, Alpn, Certificates, KeyFault, Mode, TrustStore, client, keys, server};
use crate::{net, run};

/// What the settings ask for and this version does not do: better refused plainly than left out in silence.
pub fn refused(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for route in settings.dns.routes.iter().filter(|r| r.tls == RouteTls::None) {
        findings.push(Finding::error(
            Place::whole(&settings.file),
            format!("the route of {} asks for no TLS at all", route.domain),
            "write `tls: starttls` there; a policy rule with `tls: none` lets a server pass that offers no TLS",
        ));
    }
    for domain in &settings.domains {
        for ip in &domain.source {
            if let Err(error) = std::net::UdpSocket::bind(SocketAddr::new(*ip, 0)) {
                findings.push(Finding::error(
                    domain.place.clone(),
                    format!("{} cannot call other servers from {ip}: {error}", domain.name),
                    "write an address of this machine in `source:`",
                ));
            }
        }
    }
    findings
}

/// What every relay shares.
pub fn relays(settings: &Settings, keys: Keyrings) -> RelayParams {
    let hosted = settings.domains.iter().map(|domain| {
        let keys_by = match domain.backend.dialback_keys {
            DialbackKeys::ByAddress => KeysBy::Address(Networks::new(settings.callers(domain))),
            DialbackKeys::Verify => KeysBy::Verify,
        };
        let settings::Takes { stanza, attrs, nodes, attr_value } = domain.backend.takes;
        let max_octets = stanza.map(size);
        let takes =
            plan::Takes { attributes: attrs.map(size), nodes: nodes.map(size), value: attr_value.map(size) };
        let rfc7622 = domain.backend.rfc7622;
        // DB-64: there is time left to say so before the server itself gives up.
        let budget = domain.backend.dialback_timeout.saturating_sub(Duration::from_secs(1));
        let multiplex = domain.backend.multiplex;
        let server = server(settings, domain);
        let at = domain.backend.s2s.clone().into();
        let hosted =
            plan::HostedDomain { keys_by, budget, multiplex, max_octets, takes, rfc7622, server, at };
        (domain.name.clone(), hosted)
    });
    RelayParams {
        hosted: hosted.collect(),
        // Those with addresses for clients.
        clients: settings
            .domains
            .iter()
            .filter(|domain| !domain.backend.c2s.is_empty())
            .map(|domain| {
                let mechanisms = domain.backend.mechanisms.clone();
                let features = domain.backend.features.clone();
                let certificate = domain.clients.certificate;
                let registration = domain.backend.register && domain.clients.may_register();
                (domain.name.clone(), plan::ClientDomain { mechanisms, registration, features, certificate })
            })
            .collect(),
        keys,
        limits: stream_limits(&settings.limits),
        timeouts: stream_timeouts(&settings.timeouts),
        default_domain: settings.default_domain.clone(),
        retired: settings.retired_domains.iter().cloned().collect(),
        departed: BTreeMap::new(),
        explain: settings.explain_to_users,
        bidi: settings.bidi,
        dnssec: settings.dns.dnssec != dns::Dnssec::Off,
    }
}

/// Which server takes the federation of this domain: the place of the first domain that shares an address with it, directly
/// or over others.
fn server(settings: &Settings, domain: &settings::HostedDomain) -> usize {
    let mut known: BTreeSet<_> = domain.backend.s2s.iter().collect();
    loop {
        let shares =
            |other: &&settings::HostedDomain| other.backend.s2s.iter().any(|address| known.contains(address));
        let more: BTreeSet<_> =
            settings.domains.iter().filter(shares).flat_map(|other| other.backend.s2s.iter()).collect();
        if more.len() <= known.len() {
            break;
        }
        known = more;
    }
    let same = |other: &settings::HostedDomain| {
        other.name == domain.name || other.backend.s2s.iter().any(|address| known.contains(address))
    };
    settings.domains.iter().position(same).unwrap_or_default()
}

/// How many streams of ours each server takes, by its domains; the first of them is the name it goes by.
pub fn streams_behind(settings: &Settings) -> run::backends::Servers {
    let mut servers = run::backends::Servers::new();
    let mut least: BTreeMap<usize, usize> = BTreeMap::new();
    let by = |domain| (domain, server(settings, domain));
    let all: Vec<_> = settings.domains.iter().filter(|d| !d.backend.s2s.is_empty()).map(by).collect();
    for (domain, server) in &all {
        let most = count(domain.backend.connections);
        least.entry(*server).and_modify(|least| *least = most.min(*least)).or_insert(most);
    }
    for (domain, server) in all {
        if let (Some(first), Some(most)) = (settings.domains.get(server), least.get(&server)) {
            servers.insert(domain.name.clone(), (first.name.clone(), *most));
        }
    }
    servers
}

/// Where audit records go.
pub fn audit(audit: &Audit) -> run::audit::Params {
    run::audit::Params {
        file: audit.file.clone(),
        refuse: audit.on_full == OnFull::Refuse,
        rotate_at: audit.rotate_at,
    }
}

/// Certificates, keys and trust anchors: what a reload reads again.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The hosted domains' certificates.
    pub certificates: Arc<Certificates>,
    /// What peers' chains are judged by.
    pub trust: Arc<TrustStore>,
    default: Option<Domain>,
}

impl Credentials {
    /// Reads all files, but for the certificates of domains that are known to have none that could be shown.
    ///
    /// # Errors
    /// Every file that will not do.
    pub fn read(settings: &Settings, without: &BTreeSet<Domain>) -> Result<Self, Vec<Finding>> {
        let mut faults = Vec::new();
        let files: Vec<keys::Params> = settings
            .domains
            .iter()
            .filter(|d| !without.contains(&d.name))
            .map(|d| keys::Params {
                domain: d.name.clone(),
                chain: d.certificate.chain.clone(),
                key: d.certificate.key.clone(),
            })
            .collect();
        let certificates = Certificates::load(&files).map_err(|f| faults.extend(f)).ok();
        let trust = trust(settings, &mut faults);
        if let dns::Dnssec::Validate(Some(path)) = &settings.dns.dnssec
            && let Err(why) = dns::check_anchors(&settings.dns.dnssec)
        {
            let remedy = "give DNSKEY records, one a line, or take the keys of the root (no `anchors`)";
            faults.push(KeyFault::new(
                path,
                format!("no trust anchors for DNSSEC can be read: {why}"),
                remedy,
            ));
        }
        match (certificates, trust) {
            (Some(certificates), Some(trust)) if faults.is_empty() => Ok(Self {
                certificates: Arc::new(certificates),
                trust: Arc::new(trust),
                default: settings.default_domain.clone(),
            }),
            _ => Err(faults.iter().map(finding).collect()),
        }
    }

    /// The same with other certificates and other trust.
    pub fn with(&self, certificates: Certificates, trust: Arc<TrustStore>) -> Self {
        Self { certificates: Arc::new(certificates), trust, default: self.default.clone() }
    }

    /// The accepting side for listeners of this kind.
    pub fn accepting(&self, encryption: Encryption, alpn: &[Alpn]) -> server::Params {
        let mode = match encryption {
            Encryption::Direct => Mode::Direct,
            Encryption::Starttls => Mode::Starttls,
        };
        server::Params {
            mode,
            alpn: alpn.to_vec(),
            default: self.default.clone(),
            ask_certificate: alpn.contains(&Alpn::Server),
            certificates: Arc::clone(&self.certificates),
            trust: Arc::clone(&self.trust),
        }
    }

    /// The connecting side.
    pub fn connecting(&self) -> client::Params {
        client::Params { certificates: Arc::clone(&self.certificates), trust: Arc::clone(&self.trust) }
    }

    /// When each certificate of ours ends, as Unix time.
    pub fn ends(&self) -> impl Iterator<Item = (&Domain, i64)> {
        self.certificates.iter().filter_map(|(domain, identity)| {
            tls::keys::inspect_chain(identity.chain()).map(|seen| (domain, seen.not_after))
        })
    }
}

/// How to find remote servers. `own`: the addresses of our listeners, which are never dialled (DNS-05); nor are the backends,
/// where the DNS says that somebody else is there.
pub fn resolver(settings: &Settings, mut own: Vec<SocketAddr>) -> dns::Params {
    own.extend(settings.admin.http.as_ref().and_then(Http::address));
    own.extend(settings.steering.iter().map(|steering| steering.listen));
    let here = own.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
    let own_addresses = here.chain(settings.own_addresses.iter().copied()).collect();
    let own =
        settings.domains.iter().flat_map(|d| d.backend.s2s.iter().chain(&d.backend.c2s)).copied().collect();
    let limits = &settings.limits;
    let places = dns::Places {
        carried: count(limits.lookups_carried),
        claims: count(limits.verifications),
        own: count(limits.lookups),
    };
    let guard = DialGuard {
        allow_networks: settings.dns.allow_networks.clone(),
        allow_ports: Vec::new(),
        own,
        own_addresses,
    };
    let routes = settings
        .dns
        .routes
        .iter()
        .map(|route| dns::Route { whom: route.domain.clone(), at: server_of(route) });
    dns::Params {
        servers: settings.dns.servers.clone(),
        never: settings.steering.iter().map(|s| s.listen).collect(),
        each: settings.timeouts.dns,
        total: settings.timeouts.dns_total,
        guard,
        routes: routes.collect(),
        hosted: settings.domains.iter().map(|domain| domain.name.clone()).collect(),
        places,
        dnssec: settings.dns.dnssec.clone(),
    }
}

/// The server that a route names.
fn server_of(route: &settings::Route) -> Option<dns::Server> {
    let (host, port) = match route.target.as_ref()? {
        WrittenTarget::Address(address) => (address.ip().to_string(), address.port()),
        WrittenTarget::Host(host, port) => (host.to_ascii().into_owned(), *port),
    };
    let mode = match route.tls {
        RouteTls::Direct => TlsMode::Direct,
        RouteTls::Starttls | RouteTls::None => TlsMode::Starttls,
    };
    Some(dns::Server { host, port, mode })
}

/// What routes say of the ways out, by remote domain.
pub fn ways(settings: &Settings) -> ways::WaysOut {
    let way = |route: &settings::Route| {
        let named = |route: &&settings::Route| matches!(route.target, Some(WrittenTarget::Host(..)));
        let server = Some(route).filter(named).and_then(server_of);
        (route.domain.clone(), ways::Routed { proxy: route.via.clone(), server })
    };
    settings.dns.routes.iter().map(way).collect()
}

/// From where other servers are called for each domain that says so.
pub fn sources(settings: &Settings) -> BTreeMap<Domain, Vec<IpAddr>> {
    let saying = settings.domains.iter().filter(|domain| !domain.source.is_empty());
    saying.map(|domain| (domain.name.clone(), domain.source.clone())).collect()
}

/// How long to dial.
pub fn dial(settings: &Settings) -> net::connect::Params {
    let times = &settings.timeouts;
    let tuning = tuning(settings);
    net::connect::Params { each: times.connect, total: times.connect_total, tuning, sources: Vec::new() }
}

/// What is the same for all connections.
pub fn tuning(settings: &Settings) -> net::Tuning {
    net::Tuning { patience: settings.timeouts.stanza, dscp: settings.dscp }
}

/// Where each backend takes federation.
pub fn backends(settings: &Settings) -> BTreeMap<Domain, Vec<SocketAddr>> {
    settings.domains.iter().map(|d| (d.name.clone(), d.backend.s2s.clone())).collect()
}

/// The domains whose servers read a PROXY header on connections for federation.
pub fn read_proxy_header(settings: &Settings) -> BTreeSet<Domain> {
    let readers = settings.domains.iter().filter(|domain| domain.backend.s2s_proxy);
    readers.map(|domain| domain.name.clone()).collect()
}

/// Where each backend takes clients, and what it is told about them.
pub fn clients(settings: &Settings) -> BTreeMap<Domain, world::Clients> {
    let backend = |domain: &crate::config::settings::HostedDomain| {
        let proxy = domain.backend.proxy.map(|version| match version {
            ProxyVersion::V1 => world::ProxyVersion::V1,
            ProxyVersion::V2 => world::ProxyVersion::V2,
        });
        (domain.name.clone(), world::Clients { addresses: domain.backend.c2s.clone(), proxy })
    };
    settings.domains.iter().filter(|d| !d.backend.c2s.is_empty()).map(backend).collect()
}

/// What the steering server answers, if there is one.
pub fn steering(settings: &Settings) -> Option<steer::Params> {
    let steering = settings.steering.as_ref()?;
    let hosted = settings.domains.iter().map(|domain| {
        let told = steering.hosted == HostedAnswer::Backend;
        (domain.name.clone(), steer::Hosted { at: domain.backend.s2s.clone(), told })
    });
    Some(steer::Params {
        listen: steering.listen,
        from: steering.from.clone(),
        answer: vec![steering.answer],
        port: steering.port,
        target: steer::TARGET.to_owned(),
        hosted: hosted.collect(),
        never: steering.never.clone(),
    })
}

/// How long a drain may last.
pub fn grace(settings: &Settings) -> Duration {
    settings.timeouts.drain
}

fn count(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
