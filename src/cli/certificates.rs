//! What `check` looks for in certificates, keys, trust anchors and revocation lists.
//!
//! The files are read by the same functions that `run` uses, so what passes here loads there; what is added here is what
//! only a person cares for before a start: dates, names, and a chain without its issuers.

use std::path::Path;

use crate::config::settings::CertificateFiles;
use crate::jid::Domain;
use crate::policy::{Finding, Place};
use crate::stream::identity;
use crate::tls::keys::{self, Inspection, KeyFault};
use crate::tls::verify::{Anchors, Revocation, UnknownRevocation};

/// The certificate of a domain: readable, in date, for that domain (CRT-14), and with its own key.
pub(super) fn check_domain(domain: &Domain, files: &CertificateFiles, now: i64) -> Vec<Finding> {
    let mut findings = match keys::inspect(&files.chain) {
        Ok(leaf) => check_leaf(domain, &files.chain, &leaf, now),
        Err(fault) => vec![finding(fault)],
    };
    if let Err(fault) = keys::load(&files.chain, &files.key) {
        let fault = finding(fault);
        if !findings.iter().any(|known| known.message == fault.message) {
            findings.push(fault);
        }
    }
    findings
}

/// A PEM file of trust anchors.
pub(super) fn check_roots(path: &Path) -> Vec<Finding> {
    Anchors::load(path).err().map(finding).into_iter().collect()
}

/// The system's trust anchors.
pub(super) fn check_system_roots(file: &str) -> Vec<Finding> {
    match Anchors::system() {
        Ok(anchors) if !anchors.is_empty() => Vec::new(),
        _ => vec![Finding::warning(
            Place::whole(file),
            "the system has no trust anchors, so no peer can prove itself by certificate",
            "install the package ca-certificates, or name a PEM file with `trust: { roots: FILE }`",
        )],
    }
}

/// A file of certificate revocation lists, PEM or DER.
pub(super) fn check_crl(path: &Path) -> Vec<Finding> {
    Revocation::load(&[path], UnknownRevocation::Accept).err().map(finding).into_iter().collect()
}

fn check_leaf(domain: &Domain, path: &Path, leaf: &Inspection, now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if leaf.not_after < now {
        let message = format!("the certificate expired on {}", date(leaf.not_after));
        findings.push(Finding::error(whole(path), message, "renew it"));
    } else if leaf.not_before > now {
        let message = format!("the certificate is not valid before {}", date(leaf.not_before));
        findings.push(Finding::error(whole(path), message, "check the clock, or wait"));
    } else if leaf.not_after - now < EXPIRES_SOON {
        let message = format!("the certificate expires on {}", date(leaf.not_after));
        findings.push(Finding::warning(whole(path), message, "renew it"));
    }
    if leaf.is_authority {
        // `openssl req -x509` makes an issuer's unless it is told otherwise.
        let remedy = "write the domain's certificate first, then its issuers; one that you sign yourself needs \
                      `-addext basicConstraints=critical,CA:FALSE`";
        findings.push(Finding::error(whole(path), "the first certificate is one of an issuer", remedy));
    } else if !identity::names_speak_for(&leaf.names, domain) {
        findings.push(Finding::error(
            whole(path),
            format!("the certificate is not for {}", domain.to_ascii()),
            "get one with that name as dNSName",
        ));
    }
    if leaf.is_alone {
        findings.push(Finding::warning(
            whole(path),
            "only the domain's own certificate is in the file",
            "append its issuers, unless a root issued it itself: peers do not fetch what is missing",
        ));
    }
    findings
}

fn finding(fault: KeyFault) -> Finding {
    Finding::error(whole(&fault.path), fault.problem, fault.remedy)
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
