//! What the DNS says of a domain: where servers and clients are told to call, whether that is signed, and who may issue certificates.

use super::report::Report;
use super::{Grade, Spot, shown};
use crate::dns::{Caa, DnsFault, Dnssec, Led, LookedUp};
use crate::run::observe::capped;
use crate::tls::Mode;

impl Grade {
    /// Where other servers are told to call.
    pub(super) async fn servers(&self, report: &mut Report) -> Vec<Spot> {
        let mut spots = Vec::new();
        let (mut known, mut secure, mut records) = (true, true, 0);
        for (service, mode) in [("_xmpp-server", Mode::Starttls), ("_xmpps-server", Mode::Direct)] {
            let name = format!("{service}._tcp.{}", self.domain.to_ascii());
            match self.resolver.services(&self.domain, service).await {
                Err(fault) => {
                    known = false;
                    report.todo("SRV", format!("{name}: {fault}"), dns_advice(fault, &format!("SRV {name}")));
                }
                Ok(told) => {
                    records += told.values.len();
                    secure &= told.secure || told.values.is_empty();
                    self.srv(&name, &told, mode, report);
                    report.unseen("SRV", [], told.more);
                    let led = told.values.into_iter().filter(|led| !led.host.is_empty());
                    spots.extend(led.map(|led| Spot { led, mode, secure: told.secure }));
                }
            }
        }
        match (known, records) {
            (false, _) => {}
            (true, 0) => {
                let host = self.domain.to_ascii().into_owned();
                report.note(
                    "SRV",
                    format!("none for servers: they call {host} at port 5269"),
                    format!("publish `_xmpp-server._tcp.{host}. IN SRV 0 0 5269 HOST.` with the host of the gateway"),
                );
                if let Ok(told) = self.resolver.all_addresses(&host, 5269).await {
                    self.signed(told.secure, report);
                }
                spots.push(Spot { led: Led { host, port: 5269 }, mode: Mode::Starttls, secure: true });
            }
            (true, _) => self.signed(secure, report),
        }
        spots
    }

    fn srv(&self, name: &str, told: &LookedUp<Led>, mode: Mode, report: &mut Report) {
        if told.values.is_empty() {
            if mode == Mode::Direct {
                let advice = format!(
                    "where a listener has `tls: direct`, publish `{name}. IN SRV 0 0 PORT HOST.`: one round trip less"
                );
                report.note("SRV", format!("{name}: none, so nobody calls with direct TLS"), advice);
            }
            return;
        }
        let led: Vec<String> = told.values.iter().map(shown).collect();
        report.good("SRV", format!("{name}: {}", led.join(", ")));
    }

    /// What signatures came to, where records of the domain were found.
    fn signed(&self, secure: bool, report: &mut Report) {
        match (&self.settings.dns.dnssec, secure) {
            (Dnssec::Off, _) => report.note(
                "DNSSEC",
                "not looked at",
                "set `dns: { dnssec: validate }`, or `resolver` with a resolver of yours that validates, and look again",
            ),
            (_, true) => report.good("DNSSEC", "secure: the records of the domain are signed, and the signatures hold"),
            (_, false) => report.note(
                "DNSSEC",
                "insecure: the domain is not signed, so its TLSA records count for nobody",
                "sign the zone, and have the registrar publish its DS record",
            ),
        }
    }

    /// Where clients are told to call.
    pub(super) async fn clients(&self, report: &mut Report) {
        let hosted = self.settings.domains.iter().find(|hosted| hosted.name == self.domain);
        let taken = hosted.is_some_and(|hosted| !hosted.backend.c2s.is_empty());
        let mut none = true;
        for service in ["_xmpp-client", "_xmpps-client"] {
            let name = format!("{service}._tcp.{}", self.domain.to_ascii());
            match self.resolver.services(&self.domain, service).await {
                Err(fault) => {
                    none = false;
                    report.todo("SRV", format!("{name}: {fault}"), dns_advice(fault, &format!("SRV {name}")));
                }
                Ok(told) if !told.values.is_empty() => {
                    none = false;
                    let led: Vec<String> = told.values.iter().map(shown).collect();
                    report.good("SRV", format!("{name}: {}", led.join(", ")));
                }
                Ok(_) => {}
            }
        }
        if none && taken {
            report.note(
                "SRV",
                format!("none for clients: they call {} at port 5222", self.domain.to_ascii()),
                format!("publish `_xmpp-client._tcp.{}. IN SRV 0 0 5222 HOST.`", self.domain.to_ascii()),
            );
        }
    }

    /// Who may issue certificates for the domain.
    pub(super) async fn caa(&self, report: &mut Report) {
        let ascii = self.domain.to_ascii();
        match self.resolver.caa(&self.domain).await {
            Err(fault) => report.todo(
                "CAA",
                format!("{fault}: an authority that cannot read it will not issue"),
                dns_advice(fault, &format!("CAA {ascii}")),
            ),
            Ok(None) => report.note(
                "CAA",
                "none: every authority may issue certificates for the domain",
                format!("publish `{ascii}. IN CAA 0 issue \"AUTHORITY\"` with the domain of yours, like letsencrypt.org"),
            ),
            Ok(Some((name, told))) => {
                let all: Vec<String> = told.values.iter().map(written).collect();
                let words = format!("at {}: {}", capped(&name), all.join(", "));
                let issue = |record: &&Caa| record.tag.eq_ignore_ascii_case("issue");
                let names_one = |record: Caa| !record.value.split(';').next().unwrap_or_default().trim().is_empty();
                let mut issuing = told.values.iter().filter(issue).cloned().peekable();
                let unknown = told.values.iter().find(|record| {
                    record.critical && !KNOWN_TAGS.iter().any(|tag| record.tag.eq_ignore_ascii_case(tag))
                });
                if let Some(record) = unknown {
                    report.todo(
                        "CAA",
                        format!("{words}: no authority issues that does not know the critical `{}`", capped(&record.tag)),
                        "take that record away, or its flag 128",
                    );
                } else if issuing.peek().is_some() && !issuing.any(names_one) {
                    report.note(
                        "CAA",
                        format!("{words}: no public authority may issue a certificate for the domain"),
                        format!("if one is to, publish `{ascii}. IN CAA 0 issue \"AUTHORITY\"`, or the next renewal fails"),
                    );
                } else {
                    report.good("CAA", words);
                }
                report.unseen("CAA", [], told.more);
            }
        }
    }
}

/// A CAA record as a zone file has it.
fn written(record: &Caa) -> String {
    let flags = if record.critical { 128 } else { 0 };
    format!("{flags} {} \"{}\"", capped(&record.tag), capped(&record.value))
}

/// Why a host, or what stands at its name, is not known.
pub(super) fn words(fault: DnsFault) -> String {
    match fault {
        DnsFault::NotFound => "that is no name of a host".to_owned(),
        fault => fault.to_string(),
    }
}

/// What to do where a question was not answered.
pub(super) fn dns_advice(fault: DnsFault, question: &str) -> String {
    match fault {
        DnsFault::Bogus => format!(
            "bogus: sign the zone anew, or mend the DS record at the registrar; `delv {question}` tells which"
        ),
        DnsFault::Failed => format!(
            "`dig {question}` shows what the name server says; a resolver that validates answers so where signatures do not hold"
        ),
        _ => format!("`dig {question}` shows what the name server says"),
    }
}

/// The tags that authorities know (RFC 8659 4, RFC 8657, RFC 9495, and the register of IANA).
const KNOWN_TAGS: [&str; 7] =
    ["issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"];
