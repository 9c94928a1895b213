//! What the configuration says about the servers behind the gateway, and whether they can be told apart.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::settings::{Backend, DialbackKeys, ProxyVersion, Settings};
use super::words::Words;
use super::{clients, limits, spec};
use crate::policy::{Federation, Finding, Placed};

/// Reads `backend:` of a domain.
pub(super) fn read(
    words: &mut Words,
    at: &Placed<spec::BackendSpec>,
    federation: Option<Federation>,
) -> Option<Backend> {
    let c2s = words.sockets(at.value.c2s.as_ref());
    let s2s = words.sockets(at.value.s2s.as_ref());
    let named = |list: &Option<spec::Words>| list.as_ref().is_some_and(|list| !list.value.is_empty());
    if !named(&at.value.s2s) && federation.is_some_and(|setting| setting != Federation::None) {
        words.error(
            at,
            "the domain federates, but its backend has no s2s address",
            "add `s2s: [\"10.0.0.5:5269\"]`",
        );
    } else if !named(&at.value.s2s) && !named(&at.value.c2s) {
        words.error(
            at,
            "the backend has no address",
            "add `s2s: [\"10.0.0.5:5269\"]` or `c2s: [\"10.0.0.5:5222\"]`",
        );
    }
    let versions = [("off", None), ("v1", Some(ProxyVersion::V1)), ("v2", Some(ProxyVersion::V2))];
    let proxy = match &at.value.proxy_protocol {
        Some(word) => words.choose(word, "a version of the PROXY header", &versions)?,
        None => None,
    };
    let beliefs = [("by-address", DialbackKeys::ByAddress), ("verify", DialbackKeys::Verify)];
    let dialback_keys = match &at.value.dialback_keys {
        Some(word) => words.choose(word, "a way to believe keys", &beliefs)?,
        None => DialbackKeys::ByAddress,
    };
    let features = clients::features(words, at.value.features.as_ref());
    let from = match &at.value.from {
        Some(list) if dialback_keys == DialbackKeys::Verify => {
            let remedy = "remove `from`: a server that is asked back may call from anywhere inside";
            words.error(list, "`from` is for `dialback-keys: by-address`", remedy);
            Vec::new()
        }
        Some(list) => words.own_networks(list),
        None => Vec::new(),
    };
    let dialback_timeout = match &at.value.dialback_timeout {
        Some(word) => match limits::duration(&word.value) {
            Ok(time) if TIMERS.contains(&time) => time,
            Ok(_) => {
                words.error(word, format!("\"{}\" is out of range", word.value), "write 2s to 10m");
                TIMER
            }
            Err(message) => {
                words.error(word, message, "write it like 60s");
                TIMER
            }
        },
        None => TIMER,
    };
    let multiplex = match &at.value.multiplex {
        Some(word) => words.choose(word, "`on` or `off`", &[("on", true), ("off", false)])?,
        None => true,
    };
    let mechanisms = clients::mechanisms(words, at.value.mechanisms.as_ref());
    if let Some(word) = &at.value.channel_binding {
        clients::channel_binding(words, word);
    }
    let register = match &at.value.register {
        Some(word) => {
            words.choose(word, "a setting of in-band registration", &[("off", false), ("on", true)])?
        }
        None => false,
    };
    let stanza = match &at.value.stanza {
        Some(word) => match crate::policy::octets(&word.value) {
            Ok(octets) if octets >= SMALLEST_STANZA => Some(octets),
            outcome => {
                let message = outcome
                    .map_or_else(|message| message, |_| format!("`stanza: {}` is too small", word.value));
                words.error(word, message, "write a size of at least 10000B, like 64KiB (RFC 6120 13.12)");
                None
            }
        },
        None => None,
    };
    Some(Backend {
        c2s,
        s2s,
        proxy,
        mechanisms,
        register,
        features,
        dialback_keys,
        from,
        dialback_timeout,
        multiplex,
        stanza,
    })
}

/// DB-62: a server that is believed by its address alone must have one that no other server has.
pub(super) fn told_apart(words: &mut Words, settings: &Settings) {
    for domain in settings.domains.iter().filter(|d| d.backend.dialback_keys == DialbackKeys::ByAddress) {
        let callers = settings.callers(domain);
        let double = settings.domains.iter().find(|other| {
            let hosts = other.backend.hosts();
            let here =
                callers.is_empty() || hosts.iter().any(|host| callers.iter().any(|net| net.contains(host)));
            other.backend.s2s != domain.backend.s2s && !hosts.is_empty() && here
        });
        if let Some(other) = double {
            words.findings.push(Finding::warning(
                domain.place.clone(),
                format!("the server of {} may speak for {}: it has an address of its", other.name, domain.name),
                "write `dialback-keys: verify` in its `backend`, or `from` with addresses that no other server has",
            ));
        }
    }
}

/// What every server must take (RFC 6120 13.12).
const SMALLEST_STANZA: u64 = 10_000;

/// How long a server waits that does not say how long.
const TIMER: Duration = Duration::from_secs(30);

/// Shorter ones leave no time to ask anybody.
const TIMERS: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(600);
