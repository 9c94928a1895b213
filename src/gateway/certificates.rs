//! Whether a domain's certificate and key can be shown: readable, in date, for that domain, and with its own key (CRT-14).
//!
//! What is wrong with the dates is an error, and yet no reason to take a domain off the network: peers who go by dialback
//! still come, and clients are told by their own programs. What is wrong in any other way cannot be shown to anybody, and
//! the domain stays closed until it is mended, all others open.

use std::path::Path;

use crate::config::settings::HostedDomain;
use crate::policy::{Finding, Place};
use crate::stream::identity;
use crate::tls::keys::{self, Inspection, KeyFault};
use crate::tls::verify::Anchors;

/// What there is to say about the certificate of a domain.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Every finding.
    pub(super) findings: Vec<Finding>,
    /// Whether nothing can be shown for the domain.
    pub(super) closes: bool,
}

/// The certificate of a domain, as it is at this time (Unix). `alone`: it is the only domain.
pub(super) fn check_domain(domain: &HostedDomain, alone: bool, now: i64) -> Checked {
    let files = &domain.certificate;
    let mut word = Checked::default();
    let closed = match alone {
        true => "until then the gateway does not start",
        false => "until then a start leaves this domain closed and opens the others",
    };
    let close = |word: &mut Checked, path: &Path, problem: String, remedy: &str| {
        let remedy = format!("{remedy}; {closed}, and a reload is refused");
        let finding = Finding::error(whole(path), problem, remedy);
        word.closes = true;
        if !word.findings.iter().any(|known| known.message == finding.message) {
            word.findings.push(finding);
        }
    };
    match keys::inspect(&files.chain) {
        Ok(leaf) => {
            word.findings.extend(dates(&files.chain, &leaf, now));
            if leaf.is_authority {
                // `openssl req -x509` makes an issuer's unless it is told otherwise.
                let remedy = "write the domain's certificate first, then its issuers; one that you sign yourself needs \
                              `-addext basicConstraints=critical,CA:FALSE`";
                let problem = "the first certificate is one of an issuer".to_owned();
                close(&mut word, &files.chain, problem, remedy);
            } else if !identity::names_speak_for(&leaf.names, &domain.name) {
                let problem = format!("the certificate is not for {}", domain.name.to_ascii());
                close(&mut word, &files.chain, problem, "get one with that name as dNSName");
            }
            if leaf.is_alone {
                word.findings.push(Finding::warning(
                    whole(&files.chain),
                    "only the domain's own certificate is in the file",
                    "append its issuers, unless a root issued it itself: peers do not fetch what is missing",
                ));
            }
        }
        Err(KeyFault { path, problem, remedy }) => close(&mut word, &path, problem, remedy),
    }
    if let Err(KeyFault { path, problem, remedy }) = keys::load(&files.chain, &files.key) {
        close(&mut word, &path, problem, remedy);
    }
    word
}

/// The system's trust anchors.
pub(super) fn check_system_roots(file: &str) -> Option<Finding> {
    match Anchors::system() {
        Ok(anchors) if !anchors.is_empty() => None,
        _ => Some(Finding::warning(
            Place::whole(file),
            "the system has no trust anchors, so no peer can prove itself by certificate",
            "install the package ca-certificates, or name a PEM file with `trust: { roots: FILE }`",
        )),
    }
}

fn dates(path: &Path, leaf: &Inspection, now: i64) -> Option<Finding> {
    let shown = "until then a start shows it all the same, and a reload is refused";
    // A wrong clock looks like this, too, and nobody sees it who is not shown its day.
    let clock = format!("set the clock of this machine, which says {}", date(now));
    if leaf.not_after < now {
        let message = format!("the certificate expired on {}", date(leaf.not_after));
        Some(Finding::error(whole(path), message, format!("renew it, or {clock}; {shown}")))
    } else if leaf.not_before > now {
        let message = format!("the certificate is not valid before {}", date(leaf.not_before));
        Some(Finding::error(whole(path), message, format!("wait, or {clock}; {shown}")))
    } else if leaf.not_after - now < EXPIRES_SOON {
        let message = format!("the certificate expires on {}", date(leaf.not_after));
        Some(Finding::warning(whole(path), message, format!("renew it, or {clock}")))
    } else {
        None
    }
}

/// The day, as people write it.
fn date(seconds: i64) -> String {
    crate::policy::Day::from_unix_seconds(seconds).to_string()
}

fn whole(path: &Path) -> Place {
    Place::whole(&path.display().to_string())
}

/// A certificate with less than two weeks to live is told.
const EXPIRES_SOON: i64 = 14 * 86_400;
