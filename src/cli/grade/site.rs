//! One host and port of the domain: what is shown there, and what the DNS says of that and should say (RFC 6698, RFC 7671).

use std::fmt;
use std::net::SocketAddr;

use rustls_pki_types::UnixTime;

use super::names::{self, dns_advice};
use super::report::{Record, Report};
use super::{publish, shown};
use crate::dns::{DnsFault, Led, LookedUp};
use crate::jid::Domain;
use crate::run::observe::capped;
use crate::stream::dane::{Association, Dane, Published};
use crate::stream::identity;
use crate::stream::secured::Certificate;
use crate::tls::keys::Coming;
use crate::tls::{FaultKind, HandshakeFault, KeyKind, dane};

/// What an address has shown: one of its certificates.
pub(super) struct Met {
    pub(super) address: SocketAddr,
    pub(super) kind: Option<KeyKind>,
    pub(super) certificate: Certificate,
    /// What the TLSA records make of it.
    dane: Dane,
    /// STARTTLS is offered there, and not required.
    pub(super) optional: bool,
}

impl Met {
    pub(super) fn new(address: SocketAddr, certificate: Certificate, dane: Dane, optional: bool) -> Self {
        let kind = certificate.chain.certificates().next().and_then(Coming::of).and_then(|leaf| leaf.kind());
        Self { address, kind, certificate, dane, optional }
    }

    /// The address, and which of its certificates it is.
    pub(super) fn called(&self) -> String {
        format!("{}, {}", self.address, self.kind.map_or("another key", KeyKind::label))
    }

    /// A TLSA record holds for it.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.dane, Dane::Proven(_))
    }

    /// And nothing else does.
    pub(super) fn by_dane_alone(&self, domain: &Domain) -> bool {
        let by_itself = identity::trusted_for(&self.certificate, domain).is_ok()
            && identity::speaks_for(&self.certificate, domain);
        self.is_proven() && !by_itself
    }
}

/// Why an address has shown nothing.
pub(super) enum Trouble {
    /// It did not come to TLS.
    Before(String),
    /// TLS began, and no more came.
    Silent,
    /// TLS did not come about.
    Tls(HandshakeFault),
}

impl Trouble {
    pub(super) fn is_odd_key(&self) -> bool {
        matches!(self, Self::Tls(HandshakeFault { kind: FaultKind::OddKey(_), .. }))
    }

    pub(super) fn is_of_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Tls(_) if self.is_odd_key() => {
                "have a certificate issued for a key of RSA from 2048 bits on, or ECDSA"
            }
            Self::Tls(_) => "the lines of TLS below tell which versions and suites it takes",
            Self::Before(_) | Self::Silent => {
                "is the gateway up, and does the firewall let the world call this port?"
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(words) => f.write_str(words),
            Self::Silent => f.write_str("no TLS: the server is silent in the handshake"),
            Self::Tls(fault) => write!(f, "no TLS: {fault}"),
        }
    }
}

/// A host and port, all that is shown at its addresses, and its records.
pub(super) struct Site {
    pub(super) led: Led,
    /// The way there stands under signatures.
    secure: bool,
    /// The host at whose name the records stand, or should.
    base: String,
    records: Result<LookedUp<Option<Association>>, DnsFault>,
    pub(super) met: Vec<Met>,
}

impl Site {
    pub(super) fn new(
        led: Led,
        secure: bool,
        records: Result<(String, LookedUp<Option<Association>>), DnsFault>,
    ) -> Self {
        let (base, records) = match records {
            Ok((base, told)) => (base, Ok(told)),
            Err(fault) => (led.host.clone(), Err(fault)),
        };
        Self { led, secure, base, records, met: Vec::new() }
    }

    fn usable(&self) -> Vec<Association> {
        self.records.iter().flat_map(|told| &told.values).flatten().cloned().collect()
    }

    /// What counts of it for whoever looks at DANE.
    pub(super) fn published(&self) -> Published {
        let counts = self.secure && self.records.as_ref().is_ok_and(|told| told.secure);
        Published {
            host: self.secure.then(|| self.led.host.as_str().into()),
            associations: if counts { self.usable() } else { Vec::new() },
        }
    }

    /// The records to publish, and what is to be said of those that are; `looked`: somebody looks at signatures here.
    pub(super) fn tell(&self, domain: &Domain, next: Option<&Coming>, looked: bool, report: &mut Report) {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for leaf in self.met.iter().filter_map(|met| met.certificate.chain.certificates().next()) {
            if let Some(Coming { key, .. }) = Coming::of(leaf).filter(|leaf| !keys.contains(&leaf.key)) {
                keys.push(key);
            }
        }
        let all = keys.iter().map(|key| ("current", key)).chain(next.map(|next| ("next", &next.key)));
        report.tlsa.extend(all.map(|(key, of)| {
            let record = publish::tlsa(&self.base, self.led.port, of);
            Record { key, record }
        }));
        let place = match self.base == self.led.host {
            true => shown(&self.led),
            false => format!("{}, which stands for {}", shown(&self.led), capped(&self.base)),
        };
        let told = match &self.records {
            Ok(told) => told,
            Err(fault) => {
                report.todo(
                    "TLSA",
                    format!("{place}: {}: whoever looks at DANE does not call", names::words(*fault)),
                    dns_advice(*fault, &format!("TLSA _{}._tcp.{}", self.led.port, self.led.host)),
                );
                return;
            }
        };
        let many = told.values.len();
        report.unseen("TLSA", [], told.more);
        if !looked {
            report.note(
                "TLSA",
                format!("{place}: {many} published; whether they count was not looked at"),
                "switch `dns: { dnssec }` on, and look again",
            );
            return;
        }
        let advice = match keys.len() {
            0 => "look again when the server can be reached: its record is printed then",
            1 => "publish the record below for the current key",
            _ => "publish the records below for all keys that are shown",
        };
        match (many, self.secure) {
            (0, true) => {
                report.todo("TLSA", format!("{place}: none, though the way there is signed"), advice);
            }
            (0, false) => report.note(
                "TLSA",
                format!("{place}: none"),
                "sign the zone first: without signatures it counts for nobody",
            ),
            (_, false) => report.note(
                "TLSA",
                format!("{place}: {many} published, without signatures: they count for nobody"),
                "sign the zone of the domain and that of the host",
            ),
            (_, true) if !told.secure => report.note(
                "TLSA",
                format!("{place}: published without signatures: they count for nobody"),
                "sign the zone that they stand in",
            ),
            (_, true) if self.usable().is_empty() => {
                report.todo("TLSA", format!("{place}: none that can be used"), advice);
            }
            (_, true) => self.compared(domain, next, (&place, advice), report),
        }
        if let Some(next) = next.filter(|_| self.secure && told.secure) {
            match publish::lists(&self.usable(), next) {
                true => report.good("TLSA", format!("{place}: the next key is published, too")),
                false => report.todo(
                    "TLSA",
                    format!("{place}: the next key is not published"),
                    "publish its record below beside the current one, and change the key when the TTL of the old answer has passed twice",
                ),
            }
        }
    }

    /// Records that count, beside all that is shown.
    fn compared(
        &self,
        domain: &Domain,
        next: Option<&Coming>,
        (place, advice): (&str, &str),
        report: &mut Report,
    ) {
        let many = self.records.as_ref().map_or(0, |told| told.values.len());
        let failing: Vec<String> = self.met.iter().filter(|met| !met.is_proven()).map(Met::called).collect();
        if !failing.is_empty() {
            report.todo(
                "TLSA",
                format!(
                    "{place}: {many} published, and none fits what is shown at {}: whoever looks at DANE refuses that",
                    failing.join("; ")
                ),
                format!("{advice} at once, and take away what fits no key"),
            );
            return;
        }
        if self.met.is_empty() {
            return;
        }
        let fits = |association: &Association| {
            let one = Published { associations: vec![association.clone()], ..self.published() };
            let holds = |met: &Met| {
                matches!(dane::judge(&one, Some(&met.certificate), domain, UnixTime::now()), Dane::Proven(_))
            };
            self.met.iter().any(holds)
                || next.is_some_and(|next| publish::lists(std::slice::from_ref(association), next))
        };
        let fitting = self.usable().iter().filter(|association| fits(association)).count();
        match many - fitting {
            0 => report.good("TLSA", format!("{place}: {many} published, and fit")),
            idle => report.note(
                "TLSA",
                format!("{place}: {many} published, {fitting} of which fit, and {idle} no key that is shown"),
                "keep that of a next key (`--next FILE` tells whether it is one), and take others away",
            ),
        }
    }
}
