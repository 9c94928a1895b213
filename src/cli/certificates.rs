//! What `check` looks for in certificates, keys, trust anchors and revocation lists.

use std::fs;
use std::path::Path;

use rustls::crypto::aws_lc_rs::sign;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::settings::CertificateFiles;
use crate::jid::Domain;
use crate::policy::{Finding, Place};

/// The certificate of a domain: readable, in date, for that domain (CRT-14), and with its own key.
pub(super) fn check_domain(domain: &Domain, files: &CertificateFiles, now: i64) -> Vec<Finding> {
    let chain = read_certificates(&files.chain);
    let key = read(&files.key).and_then(|octets| {
        PrivateKeyDer::from_pem_slice(&octets).map_err(|_| {
            Finding::error(whole(&files.key), "holds no private key", "write a PEM file with one private key")
        })
    });
    let mut findings = Vec::new();
    if let Ok(chain) = &chain {
        findings.extend(check_leaf(domain, &files.chain, chain, now));
    }
    match (chain, key) {
        (Ok(chain), Ok(key)) => findings.extend(check_key(files, chain, &key)),
        (chain, key) => findings.extend(chain.err().into_iter().chain(key.err())),
    }
    findings
}

/// A PEM file of trust anchors.
pub(super) fn check_roots(path: &Path) -> Vec<Finding> {
    read_certificates(path).err().into_iter().collect()
}

/// The system's trust anchors.
pub(super) fn check_system_roots(file: &str) -> Vec<Finding> {
    let loaded = rustls_native_certs::load_native_certs();
    match loaded.certs.is_empty() {
        true => vec![Finding::warning(
            Place::whole(file),
            "the system has no trust anchors, so no peer can prove itself by certificate",
            "install the package ca-certificates, or name a PEM file with `trust: { roots: FILE }`",
        )],
        false => Vec::new(),
    }
}

/// A file of certificate revocation lists, PEM or DER.
pub(super) fn check_crl(path: &Path) -> Vec<Finding> {
    let octets = match read(path) {
        Ok(octets) => octets,
        Err(finding) => return vec![finding],
    };
    let lists: Vec<CertificateRevocationListDer<'_>> =
        CertificateRevocationListDer::pem_slice_iter(&octets).filter_map(Result::ok).collect();
    let lists = if lists.is_empty() { vec![CertificateRevocationListDer::from(octets)] } else { lists };
    let unreadable =
        |list: &CertificateRevocationListDer<'_>| webpki::OwnedCertRevocationList::from_der(list).is_err();
    match lists.iter().any(unreadable) {
        true => {
            vec![Finding::error(whole(path), "is no certificate revocation list", "write it as PEM or DER")]
        }
        false => Vec::new(),
    }
}

fn check_leaf(domain: &Domain, path: &Path, chain: &[CertificateDer<'_>], now: i64) -> Vec<Finding> {
    let Some(leaf) = chain.first() else { return Vec::new() };
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return vec![Finding::error(
            whole(path),
            "the first certificate cannot be read",
            "write the domain's certificate first",
        )];
    };
    let mut findings = Vec::new();
    let validity = leaf.validity();
    let (start, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if end < now {
        findings.push(Finding::error(
            whole(path),
            format!("the certificate expired on {}", validity.not_after),
            "renew it",
        ));
    } else if start > now {
        let message = format!("the certificate is not valid before {}", validity.not_before);
        findings.push(Finding::error(whole(path), message, "check the clock, or wait"));
    } else if end - now < EXPIRES_SOON {
        findings.push(Finding::warning(
            whole(path),
            format!("the certificate expires on {}", validity.not_after),
            "renew it",
        ));
    }
    if leaf.is_ca() {
        // What `openssl req -x509` makes unless it is told otherwise.
        let (message, remedy) = match chain.len() == 1 && leaf.issuer() == leaf.subject() {
            true => (
                "the self-signed certificate says of itself that it is an issuer",
                "make it anew with `-addext basicConstraints=critical,CA:FALSE`",
            ),
            false => (
                "the first certificate is one of an issuer",
                "write the domain's certificate first, then its issuers",
            ),
        };
        findings.push(Finding::error(whole(path), message, remedy));
    } else if !speaks_for(&leaf, domain) {
        findings.push(Finding::error(
            whole(path),
            format!("the certificate is not for {}", domain.to_ascii()),
            "get one with that name as dNSName",
        ));
    }
    if chain.len() == 1 && leaf.issuer() != leaf.subject() {
        findings.push(Finding::warning(
            whole(path),
            "only the domain's own certificate is in the file",
            "append its issuers, unless a root issued it itself: peers do not fetch what is missing",
        ));
    }
    findings
}

/// RFC 6120 13.7.1.2.1 and CRT-05: dNSName, a wildcard only as the whole left-most label.
fn speaks_for(leaf: &X509Certificate<'_>, domain: &Domain) -> bool {
    let name = domain.to_ascii();
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|presented| match presented {
        GeneralName::DNSName(presented) => match presented.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
            None => presented.eq_ignore_ascii_case(&name),
        },
        _ => false,
    })
}

fn check_key(
    files: &CertificateFiles,
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
) -> Option<Finding> {
    let Ok(signing) = sign::any_supported_type(key) else {
        return Some(Finding::error(
            whole(&files.key),
            "the private key is of no kind that TLS takes",
            "use ECDSA P-256, RSA or Ed25519",
        ));
    };
    let remedy = "name the key that the certificate was made for";
    match CertifiedKey::new(chain, signing).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Some(Finding::error(whole(&files.key), "the private key is not the certificate's", remedy))
        }
        _ => None,
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Finding> {
    let octets = read(path)?;
    let remedy = "write a PEM file, BEGIN CERTIFICATE and all";
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(Finding::error(whole(path), "holds no certificate", remedy))
        }
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(Finding::error(whole(path), "cannot be read as PEM", remedy)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Finding> {
    fs::read(path).map_err(|error| {
        Finding::error(whole(path), format!("cannot be read: {error}"), "check the path and its permissions")
    })
}

fn whole(path: &Path) -> Place {
    Place::whole(&path.display().to_string())
}

/// A certificate with less than two weeks to live is told.
const EXPIRES_SOON: i64 = 14 * 86_400;
