//! From spec to settings: every key read, every contradiction found, all in one run.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::agree::{agree, apart, no_loops};
use super::backends;
use super::clients;
use super::hosting::{Included, Part, domains, listeners, only_lists};
use super::limits::{Limits, Timeouts};
use super::scalars::{Machine, ScalarReader};
use super::settings::*;
use super::spec;
use crate::dns::{Dnssec, Whom};
use crate::jid::Domain;
use crate::policy::Proxy;
use crate::policy::{Finding, Pattern, Place, Placed, Scalar};

/// Settings from what is right in the spec, and a finding for everything else. Whoever runs on them first makes sure that
/// no finding is an error.
pub(super) fn assemble(
    file: &str,
    spec: &spec::FileSpec,
    included: &[Included],
    machine: &Machine<'_>,
) -> (Settings, Vec<Finding>) {
    let mut reader = ScalarReader::new(file, machine);
    let mut others: Vec<Part<'_, '_>> =
        included.iter().map(|(file, spec)| (ScalarReader::new(file, machine), spec)).collect();
    others.iter_mut().for_each(|(reader, spec)| only_lists(spec, reader));
    match &spec.version {
        Some(word) if word.value == "v1" => {}
        Some(word) => {
            reader.error(word, format!("version \"{}\" is not known", word.value), "write `version: v1`")
        }
        None => reader.whole("`version` is missing", "begin the file with `version: v1`"),
    }
    let threads = spec.threads.as_ref().and_then(|word| threads(word, &mut reader));
    let listeners = listeners(spec, &mut others, &mut reader);
    let domains = domains(spec, &mut others, &mut reader);
    let default_domain =
        spec.default_domain.as_ref().and_then(|word| default_domain(word, &domains, &mut reader));
    clients::defaults(&listeners, &domains, &mut reader);
    let retired_domains = retired_domains(spec, &domains, &mut reader);
    let own_addresses = spec.own_addresses.iter().flat_map(|list| &list.value);
    let own_addresses = own_addresses.filter_map(|word| reader.ip(word)).collect();
    let explain_to_users = reader.on(spec.explain_to_users.as_ref(), true);
    let state = spec.state.as_ref().map(|word| (word, reader.path(word)));
    let state = state.and_then(|(word, path)| (!word.value.is_empty()).then_some(path));
    let lists = super::listed::lists(spec, state.as_deref(), &mut reader);
    let bidi = reader.on(spec.bidi.as_ref(), true);
    let dscp = spec.dscp.as_ref().and_then(|word| dscp(word, &mut reader));
    let patches = super::hosting::files_once(spec.patches.as_ref(), &mut reader);
    let secrets = secrets(spec, &mut reader);
    let cluster = super::cluster::cluster(spec, &secrets, &mut reader);
    let trust = trust(spec, &mut reader);
    let dns = dns(spec, &domains, &mut reader);
    let steering = spec.steering.as_ref().and_then(|at| steering(at, &listeners, &domains, &mut reader));
    let admin = super::watching::admin(spec, &mut reader);
    let limits = Limits::read(spec.limits.as_ref(), &mut reader);
    super::limits::deliverable(spec.limits.as_ref(), &limits, &mut reader);
    let timeouts = Timeouts::read(spec.timeouts.as_ref(), &mut reader);
    agree(spec, &limits, &timeouts, &mut reader);
    clients::agree(spec, &listeners, &domains, &mut reader);
    let doors = (admin.http.as_ref().and_then(Http::address), steering.as_ref());
    no_loops(spec, &listeners, doors, &mut reader);
    apart(spec, &listeners, &mut reader);
    for (reader, spec) in &mut others {
        no_loops(spec, &listeners, doors, reader);
    }
    let log = log(spec, &mut reader);
    let audit = spec.audit.as_ref().and_then(|at| audit(at, &mut reader));
    let mut beside: Vec<PathBuf> = included.iter().map(|(file, _)| PathBuf::from(file)).collect();
    for (more, _) in others {
        beside.extend(more.folders);
        reader.findings.extend(more.findings);
    }
    beside.append(&mut reader.folders);
    let settings = Settings {
        file: Arc::from(file),
        beside,
        threads,
        listeners,
        domains,
        default_domain,
        retired_domains,
        own_addresses,
        explain_to_users,
        bidi,
        dscp,
        lists,
        patches,
        secrets,
        cluster,
        trust,
        dns,
        steering,
        admin,
        limits,
        timeouts,
        log,
        audit,
        state,
    };
    backends::distinct(&settings, &mut reader);
    backends::let_in(&settings, &mut reader);
    backends::agree_on_connections(&settings, &mut reader);
    (settings, reader.findings)
}

fn threads(word: &Scalar, reader: &mut ScalarReader) -> Option<usize> {
    let found = word.value.parse().ok().filter(|count| (1..=1024).contains(count));
    if found.is_none() {
        reader.error(
            word,
            format!("\"{}\" is no number of threads", word.value),
            "write a number from 1 to 1024",
        );
    }
    found
}

fn dscp(word: &Scalar, reader: &mut ScalarReader) -> Option<u8> {
    let found = word.value.parse().ok().filter(|mark| *mark < 64);
    if found.is_none() {
        reader.error(
            word,
            format!("\"{}\" is no mark that packets bear", word.value),
            "write a number from 0 to 63; 46 is expedited forwarding",
        );
    }
    found
}

fn default_domain(word: &Scalar, domains: &[HostedDomain], reader: &mut ScalarReader) -> Option<Domain> {
    let domain = reader.domain(word)?;
    if !domains.iter().any(|hosted| hosted.name == domain) {
        reader.error(word, format!("{domain} is not one of `domains`"), "name a domain that is served here");
        return None;
    }
    Some(domain)
}

fn retired_domains(
    spec: &spec::FileSpec,
    domains: &[HostedDomain],
    reader: &mut ScalarReader,
) -> Vec<Domain> {
    let mut found = Vec::new();
    for word in spec.retired_domains.iter().flat_map(|list| &list.value) {
        let Some(domain) = reader.domain(word) else { continue };
        if domains.iter().any(|hosted| hosted.name == domain) {
            reader.error(word, format!("{domain} is one of `domains`"), "name it in one of the two lists");
            continue;
        }
        found.push(domain);
    }
    found
}

fn secrets(spec: &spec::FileSpec, reader: &mut ScalarReader) -> Secrets {
    let Some(at) = spec.dialback.as_ref().and_then(|at| at.value.secrets.as_ref()) else {
        return Secrets::default();
    };
    let world = at.value.world.as_ref().map(|word| reader.path(word));
    let inside = at.value.inside.as_ref().map(|word| reader.path(word));
    if world.is_some() && world == inside {
        reader.error(
            at,
            "the two realms share a secret",
            "name two files: a key made for the one must never verify in the other",
        );
    }
    Secrets { world, inside }
}

fn trust(spec: &spec::FileSpec, reader: &mut ScalarReader) -> TrustFiles {
    let Some(at) = &spec.trust else {
        return TrustFiles {
            roots: Roots::System,
            crls: Vec::new(),
            unknown_revocation: UnknownRevocation::default(),
            peers: Vec::new(),
        };
    };
    let roots = match &at.value.roots {
        Some(word) if word.value != "system" => Roots::Pem(reader.path(word)),
        _ => Roots::System,
    };
    let unknowns = [
        ("by-issuer", UnknownRevocation::ByIssuer),
        ("accept", UnknownRevocation::Accept),
        ("refuse", UnknownRevocation::Refuse),
    ];
    let crls: Vec<PathBuf> =
        reader.named("crls", at.value.crls.as_ref()).iter().map(|word| reader.path(word)).collect();
    let unknown_revocation = at.value.unknown_revocation.as_ref().and_then(|word| {
        if crls.is_empty() {
            let remedy =
                "name the lists with `crls`, or remove this: without lists revocation is not checked";
            reader.error(word, "there is no revocation list that could tell nothing", remedy);
        }
        reader.choose(word, "what to make of unknown revocation", &unknowns)
    });
    let unknown_revocation = unknown_revocation.unwrap_or_default();
    let mut peers = Vec::new();
    let mut seen: HashMap<Domain, Place> = HashMap::new();
    for peer in at.value.peers.iter().flat_map(|list| &list.value) {
        let list = reader.needed(peer, &peer.value.domains, "domains", "[partner.example]");
        let roots = reader
            .needed(peer, &peer.value.roots, "roots", "pki/partner-ca.pem")
            .map(|word| reader.path(word));
        let mut domains = Vec::new();
        for word in list.iter().flat_map(|list| &list.value) {
            let Some(domain) = reader.domain(word) else { continue };
            if let Some(first) = seen.get(&domain) {
                let message = format!("{domain} has its own trust anchors already, see {first}");
                reader.error(word, message, "name each domain once");
                continue;
            }
            seen.insert(domain.clone(), reader.place(word));
            domains.push(domain);
        }
        if let Some(list) = list.filter(|list| list.value.is_empty()) {
            reader.error(list, "`domains` is empty", "name the peers these trust anchors are for");
        }
        peers.extend(roots.map(|roots| PeerTrust { domains, roots }));
    }
    TrustFiles { roots, crls, unknown_revocation, peers }
}

fn dns(spec: &spec::FileSpec, hosted: &[HostedDomain], reader: &mut ScalarReader) -> Dns {
    let Some(at) = &spec.dns else { return Dns::default() };
    let servers = reader
        .named("servers", at.value.servers.as_ref())
        .iter()
        .filter_map(|word| reader.socket(word, Some(53)))
        .collect();
    let mut routes: Vec<super::ways::Stands<'_>> = Vec::new();
    for spec in at.value.routes.iter().flat_map(|list| &list.value) {
        let Some(route) = route(spec, reader) else { continue };
        if routes.iter().any(|(other, _)| other.domain == route.domain) {
            reader.error(
                spec,
                format!("{} has a route already", route.domain),
                "keep one route for each domain",
            );
        } else if hosted.iter().any(|d| route.domain == Whom::Named(Pattern::Exact(d.name.clone()))) {
            // POL-08
            reader.error(spec, format!("{} is served here", route.domain), "routes are for remote domains");
        } else {
            routes.push((route, spec));
        }
    }
    super::ways::look(&routes, hosted, reader);
    let routes = routes.into_iter().map(|(route, _)| route).collect();
    let allow_networks =
        at.value.allow_networks.as_ref().map_or_else(Vec::new, |list| reader.own_networks(list));
    let ways = [("off", Dnssec::Off), ("resolver", Dnssec::Resolver), ("validate", Dnssec::Validate(None))];
    let named: Vec<(&str, usize)> = ways.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
    let chosen =
        at.value.dnssec.as_ref().and_then(|word| reader.choose(word, "a way to look at signatures", &named));
    let mut dnssec = chosen.and_then(|at| ways.get(at)).map_or(Dnssec::Off, |(_, way)| way.clone());
    for word in at.value.servers.iter().flat_map(|list| &list.value).filter(|_| dnssec == Dnssec::Resolver) {
        if reader.quiet_socket(word, Some(53)).is_some_and(|server| !crate::dns::is_near(server.ip())) {
            reader.error(
                word,
                format!("\"{}\" is asked over networks that are not ours, so what it says of signatures is nobody's word", word.value),
                "write `dnssec: validate`, or name a resolver on this machine or in a private network",
            );
        }
    }
    if let Some(word) = &at.value.anchors {
        match dnssec {
            Dnssec::Validate(_) => dnssec = Dnssec::Validate(Some(reader.path(word))),
            Dnssec::Off | Dnssec::Resolver => reader.error(
                word,
                "`anchors` changes nothing: the gateway does not validate by itself",
                "write `dnssec: validate`, or remove it",
            ),
        }
    }
    Dns { servers, routes, dnssec, allow_networks }
}

fn route(at: &Placed<spec::RouteSpec>, reader: &mut ScalarReader) -> Option<Route> {
    let domain =
        reader.needed(at, &at.value.domain, "domain", "partner.example").and_then(|word| whom(word, reader));
    let via = at.value.via.as_ref().map(|word| proxy(word, reader));
    // Only a proxy may take the place of a target.
    let found = match (&at.value.target, &via) {
        (None, Some(_)) => None,
        (named, _) => {
            let named = reader.needed(at, named, "target", "\"192.0.2.9:5269\"");
            Some(named.and_then(|word| target(word, reader)))
        }
    };
    let ways = [("starttls", RouteTls::Starttls), ("direct", RouteTls::Direct), ("none", RouteTls::None)];
    let tls = match &at.value.tls {
        Some(word) => reader.choose(word, "a way to begin TLS", &ways),
        None => Some(RouteTls::Starttls),
    };
    if let (Some(RouteTls::None), Some(word)) = (tls, &at.value.tls) {
        reader.warn(
            word,
            "streams on this route travel in clear",
            "a rule must allow it too, with `tls: none`",
        );
    }
    if let (None, Some(word)) = (&found, &at.value.tls) {
        let message = "`tls` without `target`: the DNS says how TLS begins";
        reader.error(word, message, "write the target too, or leave `tls` out");
    }
    let target = match found {
        Some(target) => Some(target?),
        None => None,
    };
    let via = match via {
        Some(via) => Some(via?),
        None => None,
    };
    Some(Route { domain: domain?, target, via, tls: tls? })
}

fn whom(word: &Scalar, reader: &mut ScalarReader) -> Option<Whom> {
    match Whom::parse(&word.value) {
        Ok(whom) => Some(whom),
        Err(error) => {
            let message = format!("\"{}\" is no domain: {error}", word.value);
            reader.error(word, message, "write it like partner.example or \"*.partner.example\"");
            None
        }
    }
}

fn proxy(word: &Scalar, reader: &mut ScalarReader) -> Option<Proxy> {
    let text = reader.filled_or_reported(word)?;
    match Proxy::parse(&text) {
        Ok(proxy) => Some(proxy),
        Err(what) => {
            // What stands there may hold a password.
            reader.error(word, format!("`via` is no proxy: {what}"), Proxy::REMEDY);
            None
        }
    }
}

fn target(word: &Scalar, reader: &mut ScalarReader) -> Option<WrittenTarget> {
    if let Ok(address) = word.value.parse::<SocketAddr>()
        && address.port() != 0
    {
        return Some(WrittenTarget::Address(address));
    }
    let host = word.value.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
        Some(WrittenTarget::Host(Domain::parse(host).ok()?, port))
    });
    if host.is_none() {
        reader.error(
            word,
            format!("\"{}\" is no host with a port", word.value),
            "write it like \"192.0.2.9:5269\" or xmpp.partner.example:5269",
        );
    }
    host
}

fn steering(
    at: &Placed<spec::SteeringSpec>,
    listeners: &[Listener],
    domains: &[HostedDomain],
    reader: &mut ScalarReader,
) -> Option<Steering> {
    let listen_word = reader.needed(at, &at.value.listen, "listen", "\"10.0.0.1:53\"");
    let listen = listen_word.and_then(|word| reader.socket(word, Some(53)));
    if let (Some(listen), Some(word)) = (listen, listen_word)
        && listen.ip().to_canonical().is_unspecified()
    {
        let remedy = "write the gateway's address on the backends' network";
        reader.error(word, format!("steering on {listen} would answer on every network"), remedy);
    }
    let from =
        reader.needed(at, &at.value.from, "from", "[10.0.0.0/24]").map(|list| reader.own_networks(list));
    let answer_word = reader.needed(at, &at.value.answer, "answer", "10.0.0.1");
    let answer = answer_word.and_then(|word| reader.ip(word));
    let answers = [("refuse", HostedAnswer::Refuse), ("backend", HostedAnswer::Backend)];
    let hosted = match &at.value.hosted {
        Some(word) => reader.choose(word, "an answer for hosted names", &answers),
        None => Some(HostedAnswer::Refuse),
    };
    let never = never(at.value.never.as_ref(), domains, reader);
    let inside = |address: IpAddr| {
        listeners
            .iter()
            // At all addresses it would be as well, if that were not told already.
            .find(|l| {
                let at = l.address.ip().to_canonical();
                matches!(l.role, Callers::Inside(_)) && (at == address || at.is_unspecified())
            })
            .map(|l| l.address.port())
    };
    let port = answer.and_then(inside);
    if let (Some(address), None, Some(word)) = (answer, port, answer_word) {
        reader.error(
            word,
            format!("no inside listener has the address {address}"),
            "answer with an inside listener's address, or add one: `{ flow: inside, address: .., from: [..] }`",
        );
    }
    Some(Steering { listen: listen?, from: from?, answer: answer?, port: port?, hosted: hosted?, never })
}

/// The names that steering denies. With one that is served here, or above it, the backend could not find itself.
fn never(list: Option<&spec::Scalars>, domains: &[HostedDomain], reader: &mut ScalarReader) -> Vec<Domain> {
    let mut never = Vec::new();
    for word in list.into_iter().flat_map(|list| &list.value) {
        let Some(name) = reader.domain(word) else { continue };
        if let Some(hosted) = domains.iter().find(|domain| domain.name == name || domain.name.is_below(&name))
        {
            let remedy = "take it out: what stands here does not exist for the backend";
            reader.error(word, format!("{} is served here", hosted.name), remedy);
        }
        never.push(name);
    }
    never
}

fn audit(at: &Placed<spec::AuditSpec>, reader: &mut ScalarReader) -> Option<Audit> {
    let answers = [("go-on", OnFull::GoOn), ("refuse", OnFull::Refuse)];
    let on_full =
        at.value.on_full.as_ref().and_then(|word| reader.choose(word, "what to do on a full disk", &answers));
    let rotate_at = at.value.rotate_at.as_ref().and_then(|word| {
        let size = crate::policy::octets(&word.value).ok().filter(|size| *size >= SMALLEST_AUDIT);
        if size.is_none() {
            reader.error(
                word,
                format!("\"{}\" is no size of an audit file", word.value),
                "write at least 64KiB, like 100MiB",
            );
        }
        size
    });
    let file = reader.needed(at, &at.value.file, "file", "/var/log/gatehouse/audit.jsonl")?;
    Some(Audit { file: reader.path(file), on_full: on_full.unwrap_or(OnFull::GoOn), rotate_at })
}

fn log(spec: &spec::FileSpec, reader: &mut ScalarReader) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let levels: Vec<(&str, LogLevel)> = levels.iter().map(|level| (level.label(), *level)).collect();
    let at = spec.log.as_ref().map(|at| &at.value);
    let format =
        at.and_then(|at| at.format.as_ref()).and_then(|word| reader.choose(word, "a log format", &formats));
    let level =
        at.and_then(|at| at.level.as_ref()).and_then(|word| reader.choose(word, "a log level", &levels));
    Log { format: format.unwrap_or(LogFormat::Text), level: level.unwrap_or(LogLevel::Info) }
}

/// Smaller audit files would be moved aside all the time.
const SMALLEST_AUDIT: u64 = 64 * 1024;
