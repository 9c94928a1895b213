//! What the configuration says about the servers behind the gateway, and whether they can be told apart.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::scalars::ScalarReader;
use super::settings::{
    Backend, Callers, DialbackKeys, HostedDomain, ProxyVersion, Settings, Takes, WrittenTargets,
};
use super::{clients, limits, spec};
use crate::policy::{Federation, Finding, Placed, Scalar};

/// Reads `backend:` of a domain.
pub(super) fn read(
    at: &Placed<spec::BackendSpec>,
    federation: Option<Federation>,
    reader: &mut ScalarReader,
) -> Option<Backend> {
    let c2s = reader.targets(at.value.c2s.as_ref());
    let s2s = reader.targets(at.value.s2s.as_ref());
    let addresses = (reader.addresses(&c2s), reader.addresses(&s2s));
    let named = WrittenTargets { c2s: WrittenTargets::those(c2s), s2s: WrittenTargets::those(s2s) };
    let (c2s, s2s) = addresses;
    has_an_address(at, federation, reader);
    let versions = [("off", None), ("v1", Some(ProxyVersion::V1)), ("v2", Some(ProxyVersion::V2))];
    let proxy = match &at.value.proxy_protocol {
        Some(word) => reader.choose(word, "a version of the PROXY header", &versions)?,
        None => None,
    };
    let s2s_proxy = match &at.value.s2s_proxy_protocol {
        Some(word) => reader.choose(
            word,
            "a version of the PROXY header for federation",
            &[("off", false), ("v2", true)],
        )?,
        None => false,
    };
    let beliefs = [("by-address", DialbackKeys::ByAddress), ("verify", DialbackKeys::Verify)];
    let dialback_keys = match &at.value.dialback_keys {
        Some(word) => reader.choose(word, "a way to believe keys", &beliefs)?,
        None => DialbackKeys::ByAddress,
    };
    let features = clients::features(at.value.features.as_ref(), reader);
    let from = match &at.value.from {
        Some(list) if dialback_keys == DialbackKeys::Verify => {
            let remedy = "remove `from`: a server that is asked back may call from anywhere inside";
            reader.error(list, "`from` is for `dialback-keys: by-address`", remedy);
            Vec::new()
        }
        Some(list) => reader.own_networks(list),
        None => Vec::new(),
    };
    let dialback_timeout = dialback_timeout(at.value.dialback_timeout.as_ref(), reader);
    let multiplex = match &at.value.multiplex {
        Some(word) => reader.choose(word, "`on` or `off`", &[("on", true), ("off", false)])?,
        None => true,
    };
    let check = check(at.value.check.as_ref(), reader);
    let mechanisms = clients::mechanisms(at.value.mechanisms.as_ref(), reader);
    if let Some(word) = &at.value.channel_binding {
        clients::channel_binding(word, reader);
    }
    let register = match &at.value.register {
        Some(word) => {
            reader.choose(word, "a setting of in-band registration", &[("off", false), ("on", true)])?
        }
        None => false,
    };
    let server = at.value.server.as_ref().and_then(|word| known(&word.value));
    let takes = takes(&at.value, reader)?;
    let connections = connections(at.value.connections.as_ref(), reader);
    let rfc7622 = match &at.value.rfc7622 {
        Some(word) => reader.choose(word, "`on` or `off`", &[("on", true), ("off", false)])?,
        None => false,
    };
    Some(Backend {
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
        takes,
        connections,
        rfc7622,
    })
}

/// Whether there is a server behind for what the domain does.
fn has_an_address(at: &Placed<spec::BackendSpec>, federation: Option<Federation>, reader: &mut ScalarReader) {
    let written = |list: &Option<spec::Scalars>| list.as_ref().is_some_and(|list| !list.value.is_empty());
    if !written(&at.value.s2s) && federation.is_some_and(|setting| setting != Federation::None) {
        reader.error(
            at,
            "the domain federates, but its backend has no s2s address",
            "add `s2s: [\"10.0.0.5:5269\"]`",
        );
    } else if !written(&at.value.s2s) && !written(&at.value.c2s) {
        reader.error(
            at,
            "the backend has no address",
            "add `s2s: [\"10.0.0.5:5269\"]` or `c2s: [\"10.0.0.5:5222\"]`",
        );
    }
}

fn dialback_timeout(word: Option<&Scalar>, reader: &mut ScalarReader) -> Duration {
    let Some(word) = word else { return TIMER };
    match limits::duration(&word.value) {
        Ok(time) if TIMERS.contains(&time) => return time,
        Ok(_) => reader.error(word, format!("\"{}\" is out of range", word.value), "write 2s to 10m"),
        Err(message) => reader.error(word, message, "write it like 60s"),
    }
    TIMER
}

/// How often it is looked whether the server is there; none: it is not.
fn check(word: Option<&Scalar>, reader: &mut ScalarReader) -> Option<Duration> {
    let Some(word) = word else { return Some(CHECK) };
    if word.value == "off" {
        return None;
    }
    match limits::duration(&word.value) {
        Ok(time) if CHECKS.contains(&time) => return Some(time),
        Ok(_) => reader.error(word, format!("\"{}\" is out of range", word.value), "write 1s to 1h, or off"),
        Err(message) => reader.error(word, message, "write it like 30s, or off"),
    }
    None
}

fn connections(word: Option<&Scalar>, reader: &mut ScalarReader) -> u32 {
    let Some(word) = word else { return STREAMS_USUAL };
    match word.value.parse() {
        Ok(number) if STREAMS.contains(&number) => number,
        _ => {
            let message = format!("\"{}\" is no number of streams", word.value);
            reader.error(word, message, "write a number from 10 to 100000");
            STREAMS_USUAL
        }
    }
}

/// XML-18: what its server takes, by its name and by what the operator says.
fn takes(spec: &spec::BackendSpec, reader: &mut ScalarReader) -> Option<Takes> {
    let known = match &spec.server {
        Some(word) => reader.choose(word, "a server that is known here", SERVERS)?,
        None => Takes::default(),
    };
    let none = spec::BackendLimitsSpec::default();
    let limits = spec.limits.as_ref().map_or(&none, |placed| &placed.value);
    if let (Some(_), Some(word)) = (&spec.stanza, &limits.stanza) {
        reader.error(word, "`stanza` stands in `limits` and beside it", "keep one of them");
    }
    let stanza = limits.stanza.as_ref().or(spec.stanza.as_ref());
    let stanza =
        amount("stanza", stanza, crate::policy::octets, SMALLEST_STANZA, "10000B, like 64KiB", reader);
    let attrs = amount("attrs", limits.attrs.as_ref(), number, SMALLEST_ATTRS, "16", reader);
    let nodes = amount("nodes", limits.nodes.as_ref(), number, SMALLEST_NODES, "256", reader);
    let value = limits.attr_value.as_ref();
    let attr_value =
        amount("attr-value", value, crate::policy::octets, SMALLEST_VALUE, "3072B, like 10KiB", reader);
    Some(Takes {
        stanza: stanza.or(known.stanza),
        attrs: attrs.or(known.attrs),
        nodes: nodes.or(known.nodes),
        attr_value: attr_value.or(known.attr_value),
    })
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no number"))
}

/// A number that is no less than a server must take.
fn amount(
    key: &str,
    word: Option<&Scalar>,
    read: fn(&str) -> Result<u64, String>,
    least: u64,
    remedy: &str,
    reader: &mut ScalarReader,
) -> Option<u64> {
    let word = word?;
    match read(&word.value) {
        Ok(amount) if amount >= least => return Some(amount),
        Ok(_) => {
            let rfc = if key == "stanza" { " (RFC 6120 13.12)" } else { "" };
            let message = format!("`{key}: {}` is too small", word.value);
            reader.error(word, message, format!("write at least {remedy}{rfc}"));
        }
        Err(message) => reader.error(word, message, format!("write at least {remedy}")),
    }
    None
}

/// What servers take as they are shipped, of a stanza to a client or from one of the two kinds of streams, whichever is less.
const SERVERS: &[(&str, Takes)] = &[
    ("ejabberd", octets(262_144)),
    ("jabberd2", octets(65_535)),
    ("mongooseim", octets(65_536)),
    ("openfire", octets(1_048_576)),
    ("prosody", octets(262_144)),
    ("tigase", Takes { stanza: None, attrs: Some(54), nodes: Some(1_000), attr_value: Some(10 << 10) }),
    ("wildfire", octets(1_048_576)),
];

/// The server of this word.
fn known(word: &str) -> Option<&'static str> {
    SERVERS.iter().map(|(name, _)| *name).find(|name| *name == word)
}

const fn octets(octets: u64) -> Takes {
    Takes { stanza: Some(octets), attrs: None, nodes: None, attr_value: None }
}

/// DB-62: a server that is believed by its address alone must have one that no other server has.
pub(super) fn distinct(settings: &Settings, reader: &mut ScalarReader) {
    for domain in settings.domains.iter().filter(|d| d.backend.dialback_keys == DialbackKeys::ByAddress) {
        let callers = settings.callers(domain);
        let double = settings.domains.iter().find(|other| {
            let hosts = other.backend.hosts();
            let here =
                callers.is_empty() || hosts.iter().any(|host| callers.iter().any(|net| net.contains(host)));
            other.backend.s2s != domain.backend.s2s && !hosts.is_empty() && here
        });
        if let Some(other) = double {
            reader.findings.push(Finding::warning(
                domain.place.clone(),
                format!(
                    "the server of {} may speak for {}, and nothing passes from it to {}: it has an address of its",
                    other.name, domain.name, domain.name
                ),
                "write `dialback-keys: verify` in its `backend`, or `from` with addresses that no other server has",
            ));
        }
    }
}

/// Domains of one server have its streams together.
pub(super) fn agree_on_connections(settings: &Settings, reader: &mut ScalarReader) {
    for (at, domain) in settings.domains.iter().enumerate() {
        let shares = |other: &&HostedDomain| {
            other.backend.s2s.iter().any(|address| domain.backend.s2s.contains(address))
                && other.backend.connections != domain.backend.connections
        };
        if let Some(other) = settings.domains.iter().take(at).find(shares) {
            let (here, there) = (domain.backend.connections, other.backend.connections);
            reader.findings.push(Finding::warning(
                domain.place.clone(),
                format!(
                    "{} and {} are of one server, which takes {here} streams by one and {there} by the other: the least counts",
                    domain.name, other.name
                ),
                "write the same `connections` in both, or in neither",
            ));
        }
    }
}

/// ACC-02, DB-62: a server that calls from where no inside listener takes anybody would never be heard.
pub(super) fn let_in(settings: &Settings, reader: &mut ScalarReader) {
    let inside: Vec<&ipnet::IpNet> = settings
        .listeners
        .iter()
        .filter_map(|listener| match &listener.role {
            Callers::Inside(from) => Some(from),
            Callers::C2s(_) | Callers::Mixed(_) | Callers::S2s(_) | Callers::Websocket(_) => None,
        })
        .flatten()
        .collect();
    if inside.is_empty() {
        return;
    }
    for domain in &settings.domains {
        let hosts = domain.backend.hosts();
        let own = |host: &std::net::IpAddr| inside.iter().any(|net| net.contains(host));
        if !hosts.is_empty() && domain.backend.from.is_empty() && !hosts.iter().any(own) {
            let shown: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            reader.findings.push(Finding::warning(
                domain.place.clone(),
                format!("the server of {} at {} {NOT_LET_IN}", domain.name, shown.join(", ")),
                "add its address to `from` of the inside listener, or write `from` in its `backend` if it calls from another one",
            ));
        }
    }
}

/// How it ends what is said of a server that no inside listener takes.
pub(super) const NOT_LET_IN: &str = "may not call the inside listener";

/// What every server must take (RFC 6120 13.12).
const SMALLEST_STANZA: u64 = 10_000;

/// Fewer, or less, and ordinary stanzas would come back.
const SMALLEST_ATTRS: u64 = 16;
const SMALLEST_NODES: u64 = 256;
const SMALLEST_VALUE: u64 = 3_072;

/// How many streams of ours a server takes, and how many where nothing is said.
const STREAMS: RangeInclusive<u32> = 10..=100_000;
const STREAMS_USUAL: u32 = 500;

/// How long a server waits that does not say how long.
const TIMER: Duration = Duration::from_secs(30);

/// How often a server is looked at where nothing is said, and how often it may be.
const CHECK: Duration = Duration::from_secs(30);
const CHECKS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Shorter ones leave no time to ask anybody.
const TIMERS: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(600);

impl Backend {
    /// The hosts that take its federation.
    pub(super) fn hosts(&self) -> std::collections::BTreeSet<std::net::IpAddr> {
        self.s2s.iter().map(|address| address.ip().to_canonical()).collect()
    }
}
