//! Listeners and domains, of `gatehouse.yaml` and of the files that it includes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::agree::{overlap, taken_by};
use super::scalars::ScalarReader;
use super::settings::*;
use super::{backends, clients, spec};
use crate::policy::{Federation, Finding, Place, Placed, Scalar};

/// Another file that counts as if it stood in the first.
pub(super) type Included = (String, spec::FileSpec);

/// One such file, and the words that are read from it.
pub(super) type Part<'a, 'w> = (ScalarReader<'w>, &'a spec::FileSpec);

/// An included file brings listeners and domains, and nothing that holds for all.
pub(super) fn only_lists(spec: &spec::FileSpec, reader: &mut ScalarReader) {
    if let Some(word) = spec.version.as_ref().filter(|word| word.value != "v1") {
        reader.error(word, format!("version \"{}\" is not known", word.value), "write `version: v1`");
    }
    let spec::FileSpec {
        version: _,
        listen: _,
        domains: _,
        certificate: _,
        include,
        threads,
        default_domain,
        retired_domains,
        own_addresses,
        explain_to_users,
        bidi,
        dscp,
        lists: named,
        patches,
        dialback,
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
    } = spec;
    let single = [threads, default_domain, explain_to_users, bidi, dscp, state]
        .map(|word| word.as_ref().map(|word| reader.place(word)));
    let lists = [include, retired_domains, own_addresses, patches]
        .map(|list| list.as_ref().map(|list| reader.place(list)));
    let maps = [
        named.as_ref().map(|at| reader.place(at)),
        dialback.as_ref().map(|at| reader.place(at)),
        cluster.as_ref().map(|at| reader.place(at)),
        trust.as_ref().map(|at| reader.place(at)),
        dns.as_ref().map(|at| reader.place(at)),
        steering.as_ref().map(|at| reader.place(at)),
        admin.as_ref().map(|at| reader.place(at)),
        limits.as_ref().map(|at| reader.place(at)),
        timeouts.as_ref().map(|at| reader.place(at)),
        log.as_ref().map(|at| reader.place(at)),
        audit.as_ref().map(|at| reader.place(at)),
    ];
    for place in single.into_iter().chain(lists).chain(maps).flatten() {
        let message = "an included file has `listen`, `domains` and `certificate` alone";
        reader.findings.push(Finding::error(place, message, "write this in the file that includes it"));
    }
}

pub(super) fn listeners(
    spec: &spec::FileSpec,
    others: &mut [Part<'_, '_>],
    reader: &mut ScalarReader,
) -> Vec<Listener> {
    if spec.listen.is_none() && others.iter().all(|(_, spec)| spec.listen.is_none()) {
        return standard_listeners(&spec.domains, reader);
    }
    let mut found: Vec<Listener> = Vec::new();
    let mut more = |reader: &mut ScalarReader, spec: &spec::FileSpec| {
        let Some(list) = &spec.listen else { return };
        if list.value.is_empty() {
            reader.error(
                list,
                "`listen` is empty",
                "remove the key for the standard ports, or add a listener",
            );
        }
        for at in &list.value {
            let Some(listener) = listener(at, reader) else { continue };
            // One address may have a listener of its own beside the one for all of them: the system hands it who calls there.
            let same = |other: &&Listener| {
                let (at, here) = (other.address, listener.address);
                let all = at.ip().is_unspecified() == here.ip().is_unspecified();
                at == here || (all && overlap(at, here))
            };
            if let Some(first) = found.iter().find(same) {
                let by = format!("the listener at {}", first.place);
                let message = taken_by(listener.address, first.address, &by);
                reader.error(at, message, "give each listener its own address or port");
                continue;
            }
            found.push(listener);
        }
    };
    more(reader, spec);
    others.iter_mut().for_each(|(reader, spec)| more(reader, spec));
    found
}

fn standard_listeners<T>(at: &Option<Placed<T>>, reader: &ScalarReader) -> Vec<Listener> {
    let place = at.as_ref().map_or_else(|| Place::whole(""), |at| reader.place(at));
    let standard = |port, role| Listener {
        address: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        role,
        proxies: None,
        default: None,
        place: Place { line: 0, column: 0, ..place.clone() },
    };
    vec![
        standard(5269, Callers::S2s(Encryption::Starttls)),
        standard(5270, Callers::S2s(Encryption::Direct)),
        standard(5222, Callers::C2s(Encryption::Starttls)),
        standard(5223, Callers::C2s(Encryption::Direct)),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Who {
    C2s,
    Inside,
    Mixed,
    S2s,
    Websocket,
}

/// How TLS begins, in the words of the file.
#[derive(Clone, Copy, PartialEq)]
enum Tls {
    Any,
    Direct,
    Proxy,
    Starttls,
}

fn listener(at: &Placed<spec::ListenSpec>, reader: &mut ScalarReader) -> Option<Listener> {
    let flows = [
        ("s2s", Who::S2s),
        ("c2s", Who::C2s),
        ("mixed", Who::Mixed),
        ("websocket", Who::Websocket),
        ("inside", Who::Inside),
    ];
    let flow = reader
        .needed(at, &at.value.flow, "flow", "s2s")
        .and_then(|word| reader.choose(word, "a flow", &flows));
    let address_word = reader.needed(at, &at.value.address, "address", "\"[::]:5269\"");
    let address = address_word.and_then(|word| reader.socket(word, None));
    let proxies = at.value.proxy_protocol.as_ref().map(|list| reader.own_networks(list));
    if flow == Some(Who::Inside) {
        if let Some(word) = &at.value.tls {
            reader.error(word, "an inside listener speaks plain TCP", "remove `tls`");
        }
        if let Some(list) = &at.value.proxy_protocol {
            reader.error(list, "an inside listener takes no PROXY header", "remove `proxy-protocol`");
        }
        // ACC-02
        if let (Some(address), Some(word)) = (address, address_word)
            && address.ip().to_canonical().is_unspecified()
        {
            reader.error(
                word,
                format!("an inside listener on {address} would be open to everybody"),
                "write the gateway's address on the backends' network",
            );
        }
        let from = match &at.value.from {
            Some(list) => reader.own_networks(list),
            None => {
                reader.error(
                    at,
                    "an inside listener needs `from`",
                    "add the backends' networks: `from: [10.0.0.0/24]`",
                );
                Vec::new()
            }
        };
        web_is_not_here(&at.value, reader);
        return Some(Listener {
            address: address?,
            role: Callers::Inside(from),
            proxies: None,
            default: clients::default(at, false, reader),
            place: reader.place(at),
        });
    }
    let encryptions =
        [("starttls", Tls::Starttls), ("direct", Tls::Direct), ("any", Tls::Any), ("proxy", Tls::Proxy)];
    let usual = if flow == Some(Who::Websocket) { Tls::Direct } else { Tls::Starttls };
    let tls = at
        .value
        .tls
        .as_ref()
        .map_or(Some(usual), |word| reader.choose(word, "a way to begin TLS", &encryptions));
    if let (Some(word), Some(flow), Some(tls)) = (&at.value.tls, flow, tls) {
        fits(word, flow, tls, reader);
    }
    if let (Some(list), Some(_)) = (&at.value.from, flow) {
        reader.error(
            list,
            "`from` is for inside listeners",
            "remove it; who may connect from the world is a matter of policy",
        );
    }
    if flow == Some(Who::Mixed) && tls == Some(Tls::Starttls) {
        reader.error(
            at,
            "a mixed listener tells clients and servers apart by ALPN, which comes with direct TLS only",
            "add `tls: direct`, or `tls: any` for streams that begin in clear besides, or give clients and servers a \
             listener each",
        );
    }
    if tls == Some(Tls::Proxy) && proxies.as_ref().is_none_or(Vec::is_empty) {
        reader.error(
            at,
            "without TLS of its own this listener would take whoever reaches it for a client behind a proxy",
            "add the networks of the proxies, `proxy-protocol: [10.0.0.0/24]`, and let them send the header",
        );
    }
    let web = match flow {
        Some(Who::Websocket | Who::Mixed) => web(&at.value, flow, tls == Some(Tls::Proxy), reader),
        _ => {
            web_is_not_here(&at.value, reader);
            None
        }
    };
    let encryption = if tls? == Tls::Starttls { Encryption::Starttls } else { Encryption::Direct };
    let role = match flow? {
        Who::C2s => Callers::C2s(encryption),
        Who::Mixed => Callers::Mixed(Mixed { starttls: tls? == Tls::Any, web }),
        Who::Inside | Who::S2s => Callers::S2s(encryption),
        Who::Websocket => Callers::Websocket(web?),
    };
    let default = clients::default(at, role.is_direct(), reader);
    Some(Listener { address: address?, role, proxies, default, place: reader.place(at) })
}

/// Whether this flow has that way to begin TLS.
fn fits(word: &Scalar, flow: Who, tls: Tls, reader: &mut ScalarReader) {
    let (message, remedy) = match (flow, tls) {
        (Who::Websocket, Tls::Any | Tls::Starttls) => (
            "a WebSocket has TLS from the first octet, here or at a proxy in front",
            "write `direct` or `proxy`, or leave it out",
        ),
        (Who::C2s | Who::S2s, Tls::Any) => {
            ("`tls: any` is for `flow: mixed`", "write `flow: mixed`, or `starttls` or `direct`")
        }
        (Who::C2s | Who::Mixed | Who::S2s, Tls::Proxy) => {
            ("`tls: proxy` is for `flow: websocket`", "write `starttls` or `direct`")
        }
        _ => return,
    };
    reader.error(word, message, remedy);
}

/// What a listener answers over HTTP; one for all flows does so where the file names a path.
fn web(spec: &spec::ListenSpec, flow: Option<Who>, at_proxy: bool, reader: &mut ScalarReader) -> Option<Web> {
    let path = match (&spec.path, flow) {
        (Some(word), _) => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
            if !word.value.starts_with('/') || word.value.len() < 2 || !word.value.bytes().all(plain) {
                reader.error(
                    word,
                    format!("\"{}\" is no path", word.value),
                    "write letters, figures and `-._~` behind a `/`, as in `/xmpp-websocket`",
                );
            }
            word.value.clone()
        }
        (None, Some(Who::Websocket)) => "/xmpp-websocket".to_owned(),
        (None, _) => {
            if let Some(list) = &spec.origins {
                reader.error(
                    list,
                    "`origins` without `path`: this listener takes no WebSocket",
                    "add `path: /xmpp-websocket`",
                );
            }
            return None;
        }
    };
    let mut origins = Vec::new();
    for word in spec.origins.iter().flat_map(|list| &list.value) {
        match origin(&word.value) {
            Some(origin) => origins.push(origin),
            None => reader.error(
                word,
                format!("\"{}\" is no site as browsers name it", word.value),
                "write `https://HOST` or `https://HOST:PORT`, without a path, or `\"*\"`",
            ),
        }
    }
    Some(Web { path, origins, at_proxy })
}

/// `scheme://host[:port]` in lower case, without the port that the scheme has anyway (RFC 6454 6.2).
fn origin(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://")?;
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        // Programs that are made of pages name themselves so: `capacitor://localhost`.
        _ if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') => "",
        _ => return None,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    let whole = !rest.is_empty() && rest.bytes().all(plain);
    let host = if usual.is_empty() { rest } else { rest.strip_suffix(usual).unwrap_or(rest) };
    whole.then(|| format!("{scheme}://{host}"))
}

fn web_is_not_here(spec: &spec::ListenSpec, reader: &mut ScalarReader) {
    let remedy = "remove it, or write `flow: websocket`";
    if let Some(word) = &spec.path {
        reader.error(word, "`path` is for listeners that take WebSocket", remedy);
    }
    if let Some(list) = &spec.origins {
        reader.error(list, "`origins` is for listeners that take WebSocket", remedy);
    }
}

/// What is said of a configuration without a domain.
pub(super) const NO_DOMAIN: &str = "no domain is served";

pub(super) fn domains(
    spec: &spec::FileSpec,
    others: &mut [Part<'_, '_>],
    reader: &mut ScalarReader,
) -> Vec<HostedDomain> {
    let named = |spec: &spec::FileSpec| spec.domains.as_ref().is_some_and(|list| !list.value.is_empty());
    if !named(spec) && !others.iter().any(|(_, spec)| named(spec)) {
        reader.whole(NO_DOMAIN, "add `domains:` with a name, a certificate, a backend and a federation");
        return Vec::new();
    }
    let common = spec.certificate.as_ref().and_then(|files| certificate(files, reader));
    let mut found: Vec<HostedDomain> = Vec::new();
    let mut more = |reader: &mut ScalarReader, spec: &spec::FileSpec, common: Option<&CertificateFiles>| {
        for at in spec.domains.iter().flat_map(|list| &list.value) {
            let Some(domain) = domain(at, common, reader) else { continue };
            if let Some(first) = found.iter().find(|other| other.name == domain.name) {
                let message = format!("{} is served already, see {}", domain.name, first.place);
                reader.error(at, message, "keep one entry for each domain");
                continue;
            }
            found.push(domain);
        }
    };
    more(reader, spec, common.as_ref());
    for (reader, spec) in others {
        let own = spec.certificate.as_ref().and_then(|files| certificate(files, reader));
        more(reader, spec, own.as_ref().or(common.as_ref()));
    }
    found
}

fn certificate(files: &Placed<spec::CertificateSpec>, reader: &mut ScalarReader) -> Option<CertificateFiles> {
    let chain = reader.needed(files, &files.value.chain, "chain", "pki/example.com.pem");
    let key = reader.needed(files, &files.value.key, "key", "pki/example.com.key");
    Some(CertificateFiles { chain: reader.path(chain?), key: reader.path(key?) })
}

fn domain(
    at: &Placed<spec::DomainSpec>,
    common: Option<&CertificateFiles>,
    reader: &mut ScalarReader,
) -> Option<HostedDomain> {
    let name = reader.needed(at, &at.value.name, "name", "example.com").and_then(|word| reader.domain(word));
    let certificate = match (&at.value.certificate, common) {
        (None, Some(common)) => Some(common.clone()),
        (own, _) => reader
            .needed(at, own, "certificate", "{ chain: pki/example.com.pem, key: pki/example.com.key }")
            .and_then(|files| certificate(files, reader)),
    };
    let settings: Vec<(&str, Federation)> =
        Federation::ALL.iter().map(|setting| (setting.label(), *setting)).collect();
    let federation = reader
        .needed(at, &at.value.federation, "federation", "listed")
        .and_then(|word| reader.choose(word, "a federation setting", &settings));
    let backend = reader
        .needed(at, &at.value.backend, "backend", "{ s2s: [\"10.0.0.5:5269\"] }")
        .and_then(|spec| backends::read(spec, federation, reader));
    let takes_clients = at.value.backend.as_ref().is_some_and(|backend| backend.value.c2s.is_some());
    let clients = at
        .value
        .clients
        .as_ref()
        .map_or_else(ClientProof::default, |at| clients::shown(at, takes_clients, reader));
    if let Some(spec) = &at.value.backend
        && let Some(register) = &spec.value.register
        && backend.as_ref().is_some_and(|backend| backend.register && !clients.may_register())
    {
        reader.warn(
            register,
            "no account is made from outside where clients must show a certificate, for that names an account which is there",
            "remove `register`, or write `certificate: request`",
        );
    }
    let policies = files_once(at.value.policies.as_ref(), reader);
    let shadow = at.value.shadow.as_ref().map(|list| files_once(Some(list), reader));
    let beside = at.value.shadow_federation.as_ref();
    let shadow_federation = beside.and_then(|word| reader.choose(word, "a federation setting", &settings));
    let mut source: Vec<IpAddr> = Vec::new();
    for word in at.value.source.iter().flat_map(|list| &list.value) {
        let Some(ip) = reader.ip(word) else { continue };
        let mapped = ip.to_canonical() != ip;
        if mapped || ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
            reader.error(
                word,
                format!("nobody calls from {ip}"),
                "write one address of this machine, IPv4 as 192.0.2.1",
            );
            continue;
        }
        match source.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
            true => reader.error(
                word,
                format!("{ip} is the second address of its family to call from"),
                "keep one IPv4 and one IPv6 address",
            ),
            false => source.push(ip),
        }
    }
    Some(HostedDomain {
        name: name?,
        certificate: certificate?,
        clients,
        backend: backend?,
        federation: federation?,
        policies,
        shadow,
        shadow_federation,
        source,
        place: reader.place(at),
    })
}

/// The files of a list of paths, each once.
pub(super) fn files_once(list: Option<&spec::Scalars>, reader: &mut ScalarReader) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for word in list.iter().flat_map(|list| &list.value) {
        let (found, sought) = reader.paths(word);
        for path in found {
            match files.contains(&path) {
                // Both by its name and among others: no mistake.
                true if sought => {}
                true => {
                    reader.error(word, format!("\"{}\" stands in this list twice", word.value), "remove one")
                }
                false => files.push(path),
            }
        }
    }
    files
}
