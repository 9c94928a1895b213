//! What a domain may publish about its key and certificate: TLSA records (RFC 6698, RFC 7671 5.1) and the POSH file (RFC 7711 3).

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::report::File;
use crate::jid::Domain;
use crate::stream::dane::{Association, Matching, Selector, Usage};
use crate::tls::keys::Coming;

/// `3 1 1`: the key itself, whoever has signed the certificate. It holds over renewals that keep the key.
pub(super) fn tlsa(host: &str, port: u16, key: &[u8]) -> String {
    let mut hex = String::new();
    for octet in digest(&SHA256, key).as_ref() {
        // Writing to a string cannot fail.
        let _written = write!(hex, "{octet:02x}");
    }
    format!("_{port}._tcp.{host}. IN TLSA 3 1 1 {hex}")
}

/// Whether one of these records is about this key or certificate, or about one of those that have issued it, whatever the form.
pub(super) fn lists(records: &[Association], of: &Coming) -> bool {
    let issuers: Vec<Coming> = of.issuers.iter().filter_map(|der| Coming::of(der)).collect();
    records.iter().any(|record| match record.usage {
        Usage::DaneEe | Usage::PkixEe => is_about(record, of),
        Usage::DaneTa | Usage::PkixTa => issuers.iter().any(|issuer| is_about(record, issuer)),
    })
}

fn is_about(record: &Association, of: &Coming) -> bool {
    let octets = match record.selector {
        Selector::Key => Some(&of.key),
        Selector::Certificate => of.certificate.as_ref(),
    };
    octets.is_some_and(|octets| match record.matching {
        Matching::Full => **octets == *record.data,
        Matching::Sha256 => digest(&SHA256, octets).as_ref() == &*record.data,
        Matching::Sha512 => digest(&SHA512, octets).as_ref() == &*record.data,
    })
}

/// The file that names these certificates.
pub(super) fn posh(domain: &Domain, certificates: &[&[u8]]) -> Option<File> {
    if certificates.is_empty() {
        return None;
    }
    let named: Vec<Value> = certificates
        .iter()
        .map(|der| {
            let (short, long) = (digest(&SHA256, der), digest(&SHA512, der));
            json!({ "sha-256": STANDARD.encode(short.as_ref()), "sha-512": STANDARD.encode(long.as_ref()) })
        })
        .collect();
    let content = json!({ "fingerprints": named, "expires": HOLDS });
    Some(File {
        url: format!("https://{}/.well-known/posh/xmpp-server.json", domain.to_ascii()),
        content: serde_json::to_string_pretty(&content).unwrap_or_default(),
    })
}

/// How long others may keep the file, in seconds: a day, so that a change of keys need not wait longer.
const HOLDS: u32 = 86_400;
