//! What `gatehouse probe` found, as data and as text.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::Serialize;

use super::super::Console;
use crate::dns::{Target, TlsMode};
use crate::policy::{KeyDigest, Verdict};
use crate::stream::Secured;
use crate::stream::secured::PresentedName;

/// What was found, in the order in which it was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) from: String,
    pub(super) domain: String,
    pub(super) targets: Vec<Place>,
    /// The proxy on the way, if there is one.
    pub(super) via: Option<String>,
    /// What names it: `rule` or `route`.
    pub(super) via_by: Option<&'static str>,
    /// The address that answered.
    pub(super) address: Option<SocketAddr>,
    pub(super) tls: Option<&'static str>,
    pub(super) chain: Option<String>,
    pub(super) names: Vec<String>,
    /// The digest of the key, as `pins` takes it.
    pub(super) key: Option<String>,
    /// What proves the server, if anything on the channel does.
    pub(super) proof: Option<&'static str>,
    /// The proofs that were tried and do not count, each with its reason.
    pub(super) not_proven: Vec<String>,
    /// The keys that all servers that were called have shown, of each kind.
    pub(super) keys: Vec<String>,
    /// The line to paste, where it was asked for.
    pub(super) pin: Option<String>,
    pub(super) external: bool,
    pub(super) dialback: bool,
    /// The rule that looks most like the domain, where none names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nearest: Option<String>,
    /// What the running gateway remembers against the domain.
    pub(super) circuit: Option<String>,
    pub(super) reachable: bool,
    pub(super) allowed: bool,
    pub(super) rule: String,
    pub(super) reason: &'static str,
    /// What went wrong, and its likely cause.
    pub(super) trouble: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) tls: &'static str,
    pub(super) addresses: Vec<SocketAddr>,
    /// Whether the DNS names it under signatures.
    pub(super) secure: bool,
    /// How many TLSA records it has that can be used.
    pub(super) tlsa: usize,
}

impl Place {
    pub(super) fn of(target: &Target) -> Self {
        let tls = match target.mode {
            TlsMode::Direct => "direct",
            TlsMode::Starttls => "starttls",
        };
        Self {
            host: crate::run::observe::capped(&target.host),
            tls,
            addresses: target.addresses.clone(),
            secure: target.published.host.is_some(),
            tlsa: target.published.associations.len(),
        }
    }
}

impl Report {
    /// A server has shown the key of this channel.
    pub(super) fn has_key(&mut self, secured: &Secured) {
        let key = secured.certificate.as_ref().and_then(|shown| shown.key);
        let key = key.map(|key| KeyDigest::new(key).to_string());
        self.keys.extend(key.filter(|key| !self.keys.contains(key)));
    }

    pub(super) fn judged(&mut self, verdict: &Verdict) {
        self.allowed = verdict.is_allow();
        self.rule = verdict.rule.as_str().to_owned();
        self.reason = verdict.reason.label();
    }

    pub(super) fn text(&self, console: &Console) -> String {
        let mut out = String::new();
        let mut line = |what: &str, words: &str| {
            // Writing to a string cannot fail.
            let _written = writeln!(out, "{what:<12}{words}");
        };
        line("from", &self.from);
        line("domain", &self.domain);
        for place in &self.targets {
            let addresses: Vec<String> = place.addresses.iter().map(ToString::to_string).collect();
            let dnssec = match (place.secure, place.tlsa) {
                (false, _) => String::new(),
                (true, 0) => ", secure (DNSSEC)".to_owned(),
                (true, records) => format!(", secure (DNSSEC), TLSA records: {records}"),
            };
            let addresses = addresses.join(", ");
            line("target", &format!("{} ({}) at {addresses}{dnssec}", place.host, place.tls));
        }
        if let Some(via) = &self.via {
            line("via", &format!("{via}, by the {}", self.via_by.unwrap_or_default()));
        }
        if let Some(address) = self.address {
            line("connected", &address.to_string());
            line("TLS", self.tls.unwrap_or("none"));
            line("certificate", self.chain.as_deref().unwrap_or("none"));
            line("names", &if self.names.is_empty() { "none".to_owned() } else { self.names.join(", ") });
            line("key", self.key.as_deref().unwrap_or("none"));
            line("proven by", self.proof.unwrap_or("nothing that it shows"));
            for proof in &self.not_proven {
                line("not by", proof);
            }
            let offers = [(self.external, "EXTERNAL"), (self.dialback, "dialback")];
            let offers: Vec<&str> =
                offers.into_iter().filter_map(|(has, word)| has.then_some(word)).collect();
            line("offers", &if offers.is_empty() { "nothing".to_owned() } else { offers.join(", ") });
        }
        line(
            "policy",
            &format!(
                "{} by rule {} ({})",
                if self.allowed { "allow" } else { "deny" },
                self.rule,
                self.reason
            ),
        );
        if let Some(nearest) = &self.nearest {
            line("nearest", &format!("{nearest}; a name misspelt?"));
        }
        if let Some(circuit) = &self.circuit {
            line("circuit", circuit);
        }
        for trouble in &self.trouble {
            line("trouble", trouble);
        }
        let good = self.reachable && self.allowed;
        let words = match (self.reachable, self.allowed) {
            (true, true) => "reachable and allowed",
            (true, false) => "reachable and not allowed",
            (false, true) => "not reachable",
            (false, false) => "not allowed",
        };
        line("result", &console.mark(words, good));
        if let Some(pin) = &self.pin {
            line("to paste", pin);
        }
        out
    }
}

pub(in crate::cli) fn shown(name: &PresentedName) -> String {
    let name = match name {
        PresentedName::Dns(name)
        | PresentedName::Srv(name)
        | PresentedName::Xmpp(name)
        | PresentedName::Email(name) => name,
    };
    crate::run::observe::capped(name)
}
