//! The settings in force, key by key: what runs, with defaults marked, and no secret in it (files are named, not read).
//!
//! Every type of settings is taken apart without a rest, so that a new key does not compile until it is told here.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::limits::{Limits, Timeouts};
use super::list_file::{Fetch, ListFile};
use super::settings::*;
use crate::dns::Dnssec;
use crate::policy::ListFormat;
use crate::stream::client::certified::{CertificateName, CertificateTerms, Demand};

/// One key of the configuration and what it stands at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpLine {
    /// Where it stands: `limits.stanza`, `domains[example.com].federation`.
    pub key: String,
    /// Its value, as the file would have it.
    pub value: String,
    /// Whether it is what holds where nothing is written.
    pub default: bool,
}

/// Every key of these settings, in the order of the file.
pub fn dump(settings: &Settings) -> Vec<DumpLine> {
    let Settings {
        file: _,
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
    } = settings;
    let mut out = Lines(Vec::new());
    out.list("include", &beside.iter().map(|path| path.display()).collect::<Vec<_>>());
    out.or("threads", threads.as_ref(), "one for each processor");
    listeners.iter().for_each(|listener| out.listener(listener));
    domains.iter().for_each(|domain| out.domain(domain));
    out.or("default-domain", default_domain.as_ref(), "none");
    out.list("retired-domains", retired_domains);
    out.list("own-addresses", own_addresses);
    out.usually_on("explain-to-users", *explain_to_users);
    out.usually_on("bidi", *bidi);
    out.or("dscp", dscp.as_ref(), "none");
    for list in lists {
        out.listed(list);
    }
    out.list("patches", &patches.iter().map(|path| path.display()).collect::<Vec<_>>());
    let Secrets { world, inside } = secrets;
    out.or("dialback.secrets.world", world.as_ref().map(|path| path.display()), "random at start");
    out.or("dialback.secrets.inside", inside.as_ref().map(|path| path.display()), "random at start");
    match cluster {
        Some(Cluster { name, store, password, roots }) => {
            out.put("cluster.name", name, false);
            out.put("cluster.store", store.to_string(), false);
            out.or("cluster.password", password.as_ref().map(|path| path.display()), "none");
            out.or("cluster.roots", roots.as_ref().map(|path| path.display()), "trust.roots");
        }
        None => out.put("cluster", "none", true),
    }
    out.trust(trust);
    out.dns(dns);
    out.steering(steering.as_ref());
    let Admin { http, hosts, status, socket } = admin;
    out.usually_off("admin.status", *status);
    out.or("admin.http", http.as_ref(), "off");
    out.list("admin.hosts", hosts);
    out.or("admin.socket", socket.as_ref().map(|path| path.display()), "off");
    for (key, value, default) in limits.lines(&Limits::default()) {
        out.put(format!("limits.{key}"), value, default);
    }
    for (key, value, default) in timeouts.lines(&Timeouts::default()) {
        out.put(format!("timeouts.{key}"), value, default);
    }
    let Log { format, level } = log;
    out.put(
        "log.format",
        if *format == LogFormat::Json { "json" } else { "text" },
        *format == LogFormat::Text,
    );
    out.put("log.level", level.label(), *level == LogLevel::Info);
    out.audit(audit.as_ref());
    out.or("state", state.as_ref().map(|path| path.display()), "none");
    out.0
}

struct Lines(Vec<DumpLine>);

impl Lines {
    fn put(&mut self, key: impl Into<String>, value: impl Into<String>, default: bool) {
        self.0.push(DumpLine { key: key.into(), value: value.into(), default });
    }

    /// A value, or what holds where there is none.
    fn or(&mut self, key: impl Into<String>, value: Option<impl Display>, default: &str) {
        match value {
            Some(value) => self.put(key, value.to_string(), false),
            None => self.put(key, default, true),
        }
    }

    fn list<T: Display>(&mut self, key: impl Into<String>, list: &[T]) {
        self.put(key, shown(list), list.is_empty());
    }

    fn usually_on(&mut self, key: impl Into<String>, on: bool) {
        self.put(key, if on { "on" } else { "off" }, on);
    }

    fn usually_off(&mut self, key: impl Into<String>, on: bool) {
        self.put(key, if on { "on" } else { "off" }, !on);
    }

    fn listed(&mut self, list: &ListFile) {
        let ListFile { name, file, fetch, format, expires, any_change, minisign, place: _ } = list;
        let at = |key: &str| format!("lists[{name}].{key}");
        self.put(at("file"), file.display().to_string(), fetch.is_some());
        self.or(at("url"), fetch.as_ref().map(|fetch| &fetch.url), "nothing is fetched");
        match fetch {
            Some(Fetch { refresh, .. }) => {
                self.put(
                    at("refresh"),
                    super::units::time_shown(refresh),
                    *refresh == super::listed::REFRESH,
                );
            }
            None => self.put(at("refresh"), "never", true),
        }
        let word = ListFormat::ALL.iter().find(|(_, one)| one == format).map_or("?", |(word, _)| *word);
        self.put(at("format"), word, *format == ListFormat::default());
        self.or(at("expires"), expires.as_ref().map(super::units::time_shown), "any age");
        self.put(at("change"), if *any_change { "any" } else { "third" }, !any_change);
        self.or(at("verify.minisign"), minisign.as_ref(), "none");
    }

    fn listener(&mut self, listener: &Listener) {
        let Listener { address, role, proxies, default, place: _ } = listener;
        let tls = |encryption: &Encryption| match encryption {
            Encryption::Direct => "tls: direct",
            Encryption::Starttls => "tls: starttls",
        };
        let mut value = match role {
            Callers::C2s(encryption) => format!("flow: c2s, {}", tls(encryption)),
            Callers::Inside(from) => format!("flow: inside, from: {}", shown(from)),
            Callers::Mixed(mixed) => {
                format!("flow: mixed, tls: {}", if mixed.starttls { "any" } else { "direct" })
            }
            Callers::S2s(encryption) => format!("flow: s2s, {}", tls(encryption)),
            Callers::Websocket(web) => {
                format!("flow: websocket, tls: {}", if web.at_proxy { "proxy" } else { "direct" })
            }
        };
        if let Some(web) = role.web() {
            value = format!("{value}, path: {}", web.path);
            if !web.origins.is_empty() {
                value = format!("{value}, origins: {}", shown(&web.origins));
            }
        }
        if let Some(proxies) = proxies {
            value = format!("{value}, proxy-protocol: {}", shown(proxies));
        }
        if let Some(default) = default {
            value = format!("{value}, default: {default}");
        }
        self.put(format!("listen[{address}]"), value, false);
    }

    fn domain(&mut self, domain: &HostedDomain) {
        let HostedDomain {
            name,
            certificate,
            clients,
            backend,
            federation,
            policies,
            shadow,
            shadow_federation,
            source,
            place: _,
        } = domain;
        let CertificateFiles { chain, key } = certificate;
        let at = |key: &str| format!("domains[{name}].{key}");
        self.put(at("certificate.chain"), chain.display().to_string(), false);
        self.put(at("certificate.key"), key.display().to_string(), false);
        let ClientProof { certificate, roots, crls } = clients;
        let CertificateTerms { demand, by } = certificate;
        self.put(at("clients.certificate"), demand.label(), *demand == Demand::Off);
        self.or(at("clients.roots"), roots.as_ref().map(|path| path.display()), "none");
        self.list(at("clients.crls"), &crls.iter().map(|path| path.display()).collect::<Vec<_>>());
        self.put(at("clients.match"), by.label(), *by == CertificateName::XmppAddress);
        self.put(at("federation"), federation.label(), false);
        match source.is_empty() {
            true => self.put(at("source"), "the system's choice", true),
            false => self.list(at("source"), source),
        }
        self.list(at("policies"), &policies.iter().map(|path| path.display()).collect::<Vec<_>>());
        let beside =
            shadow.as_ref().map(|files| shown(&files.iter().map(|path| path.display()).collect::<Vec<_>>()));
        self.or(at("shadow"), beside, "none");
        self.or(at("shadow-federation"), shadow_federation.map(|word| word.label()), "that of the domain");
        let Backend {
            c2s,
            s2s,
            named,
            proxy,
            s2s_proxy,
            mechanisms,
            register,
            features,
            dialback_keys,
            from,
            dialback_timeout,
            multiplex,
            check,
            server,
            takes: Takes { stanza, attrs, nodes, attr_value },
            connections,
            rfc7622,
        } = backend;
        let at = |key: &str| format!("domains[{name}].backend.{key}");
        self.list(at("c2s"), c2s);
        self.list(at("s2s"), s2s);
        for (key, targets) in [("c2s", &named.c2s), ("s2s", &named.s2s)] {
            if !targets.is_empty() {
                let names: Vec<String> = targets.iter().map(target_shown).collect();
                self.put(at(&format!("{key} (looked up)")), shown(&names), false);
            }
        }
        let proxy = proxy.map(|version| if version == ProxyVersion::V1 { "v1" } else { "v2" });
        self.or(at("proxy-protocol"), proxy, "off");
        self.or(at("s2s-proxy-protocol"), s2s_proxy.then_some("v2"), "off");
        let usual = mechanisms.iter().eq(crate::stream::client::Mechanism::DEFAULT
            .iter()
            .copied()
            .collect::<std::collections::BTreeSet<_>>()
            .iter());
        let names: Vec<_> = mechanisms.iter().map(|mechanism| mechanism.name()).collect();
        self.put(at("mechanisms"), shown(&names), usual);
        self.put(at("channel-binding"), "none", true);
        self.usually_off(at("register"), *register);
        self.list(at("features"), &features.iter().collect::<Vec<_>>());
        let by_address = *dialback_keys == DialbackKeys::ByAddress;
        self.put(at("dialback-keys"), if by_address { "by-address" } else { "verify" }, by_address);
        self.list(at("from"), from);
        let usual = dialback_timeout.as_secs() == 30 && dialback_timeout.subsec_millis() == 0;
        self.put(at("dialback-timeout"), super::units::time_shown(dialback_timeout), usual);
        self.usually_on(at("multiplex"), *multiplex);
        let interval = check.map_or_else(|| "off".to_owned(), |time| super::units::time_shown(&time));
        self.put(at("check"), interval, *check == Some(std::time::Duration::from_secs(30)));
        self.or(at("server"), *server, "none is named");
        let ours = "what the gateway takes";
        let size = |size: &Option<u64>| size.map(|size| super::units::size_shown(&size));
        self.or(at("limits.stanza"), size(stanza), ours);
        self.or(at("limits.attrs"), *attrs, ours);
        self.or(at("limits.nodes"), *nodes, ours);
        self.or(at("limits.attr-value"), size(attr_value), ours);
        self.put(at("connections"), connections.to_string(), *connections == 500);
        self.usually_off(at("rfc7622"), *rfc7622);
    }

    fn trust(&mut self, trust: &TrustFiles) {
        let TrustFiles { roots, crls, unknown_revocation, peers } = trust;
        let file = match roots {
            Roots::Pem(path) => Some(path.display()),
            Roots::System => None,
        };
        self.or("trust.roots", file, "system");
        self.list("trust.crls", &crls.iter().map(|path| path.display()).collect::<Vec<_>>());
        let word = match unknown_revocation {
            UnknownRevocation::Accept => "accept",
            UnknownRevocation::ByIssuer => "by-issuer",
            UnknownRevocation::Refuse => "refuse",
        };
        self.put("trust.unknown-revocation", word, *unknown_revocation == UnknownRevocation::ByIssuer);
        for PeerTrust { domains, roots } in peers {
            let domains: Vec<_> = domains.iter().map(|domain| domain.as_str()).collect();
            self.put(format!("trust.peers[{}].roots", domains.join(",")), roots.display().to_string(), false);
        }
    }

    fn dns(&mut self, dns: &Dns) {
        let Dns { servers, routes, dnssec, allow_networks } = dns;
        let (word, anchors) = match dnssec {
            Dnssec::Off => ("off", None),
            Dnssec::Resolver => ("resolver", None),
            Dnssec::Validate(anchors) => ("validate", anchors.as_ref()),
        };
        self.put("dns.dnssec", word, *dnssec == Dnssec::Off);
        self.or("dns.anchors", anchors.map(|path| path.display()), "those of the root");
        match servers.is_empty() {
            true => self.put("dns.servers", "the system's", true),
            false => self.list("dns.servers", servers),
        }
        for Route { domain, target, via, tls } in routes {
            let tls = match tls {
                RouteTls::Direct => "direct",
                RouteTls::None => "none",
                RouteTls::Starttls => "starttls",
            };
            let server =
                target.as_ref().map(|target| format!("target: {}, tls: {tls}", target_shown(target)));
            let via = via.as_ref().map(|proxy| format!("via: {proxy}"));
            let said: Vec<String> = server.into_iter().chain(via).collect();
            self.put(format!("dns.routes[{domain}]"), said.join(", "), false);
        }
        self.list("dns.allow-networks", allow_networks);
    }

    fn steering(&mut self, steering: Option<&Steering>) {
        let Some(Steering { listen, from, answer, port, hosted, never }) = steering else {
            return self.put("steering", "off", true);
        };
        self.put("steering.listen", listen.to_string(), false);
        self.list("steering.from", from);
        self.put("steering.answer", format!("{answer} (port {port})"), false);
        self.list("steering.never", never);
        let refuse = *hosted == HostedAnswer::Refuse;
        self.put("steering.hosted", if refuse { "refuse" } else { "backend" }, refuse);
    }

    fn audit(&mut self, audit: Option<&Audit>) {
        let Some(Audit { file, on_full, rotate_at }) = audit else {
            return self.put("audit", "off", true);
        };
        self.put("audit.file", file.display().to_string(), false);
        let go_on = *on_full == OnFull::GoOn;
        self.put("audit.on-full", if go_on { "go-on" } else { "refuse" }, go_on);
        self.or("audit.rotate-at", rotate_at.map(|size| super::units::size_shown(&size)), "never");
    }
}

fn target_shown(target: &WrittenTarget) -> String {
    match target {
        WrittenTarget::Address(address) => address.to_string(),
        WrittenTarget::Host(host, port) => format!("{host}:{port}"),
    }
}

fn shown<T: Display>(list: &[T]) -> String {
    let words: Vec<String> = list.iter().map(ToString::to_string).collect();
    format!("[{}]", words.join(", "))
}
