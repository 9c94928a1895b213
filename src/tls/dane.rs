//! A server's certificate and the TLSA records of its domain (DNS-12, RFC 7671 5, RFC 7673 4).

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::jid::Domain;
use crate::stream::dane::{Association, Dane, Matching, Published, Selector, Usage};
use crate::stream::identity;
use crate::stream::secured::Certificate;
use crate::tls::verify::{Anchors, TrustStore};

/// What of all that the servers of a domain have published holds for this certificate, with which another of them calls (DNS-15).
pub fn judge_caller(published: &[Arc<Published>], shown: &Certificate, domain: &Domain) -> Dane {
    let now = UnixTime::now();
    Dane::of_caller(published.iter().map(|published| judge(published, Some(shown), domain, now)))
}

/// What of the records holds for this certificate, shown by a server of the domain; the strongest usage counts.
pub fn judge(published: &Published, shown: Option<&Certificate>, domain: &Domain, now: UnixTime) -> Dane {
    if published.associations.is_empty() {
        return if published.host.is_some() { Dane::Unpublished } else { Dane::Unasked };
    }
    let holds = |association: &&Association| {
        shown.is_some_and(|shown| holds(association, published, shown, domain, now))
    };
    match published.associations.iter().filter(holds).map(|association| association.usage).max() {
        Some(usage) => Dane::Proven(usage),
        None => Dane::Failed,
    }
}

fn holds(
    association: &Association,
    published: &Published,
    shown: &Certificate,
    domain: &Domain,
    now: UnixTime,
) -> bool {
    let chain: Vec<CertificateDer<'_>> = shown.chain.certificates().map(CertificateDer::from_slice).collect();
    let Some((leaf, authorities)) = chain.split_first() else { return false };
    let trusted = || identity::trusted_for(shown, domain).is_ok();
    let named = || {
        identity::speaks_for(shown, domain)
            || published.host.as_deref().is_some_and(|host| identity::names_host(shown, host))
    };
    match association.usage {
        Usage::DaneEe => is_of(association, leaf),
        Usage::PkixEe => is_of(association, leaf) && trusted() && named(),
        // RFC 6698 2.1.1: an authority of a path that holds, and not merely one that the server shows: whoever has a certificate of
        // any authority could show that of the right one beside it.
        Usage::PkixTa => {
            let mut meant = authorities.iter().filter(|authority| is_of(association, authority));
            named() && trusted() && meant.any(|authority| leads_to(&chain, authority, now))
        }
        Usage::DaneTa => {
            // RFC 7671 5.2: the record may bring the anchor itself; else it is among what the server shows.
            let whole =
                (association.selector, association.matching) == (Selector::Certificate, Matching::Full);
            let brought = whole.then(|| CertificateDer::from_slice(&association.data));
            let anchors =
                authorities.iter().filter(|authority| is_of(association, authority)).chain(&brought);
            named() && anchors.into_iter().any(|anchor| leads_to(&chain, anchor, now))
        }
    }
}

/// Whether the path of this chain holds with that anchor and no other.
fn leads_to(chain: &[CertificateDer<'_>], anchor: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok(default) = Anchors::from_certificates(std::slice::from_ref(anchor)) else { return false };
    let store = TrustStore { default, ..TrustStore::default() };
    store.describe(chain, now).is_some_and(|described| described.trust.default.is_ok())
}

/// Whether the record is about this certificate.
fn is_of(association: &Association, certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let octets: &[u8] = match association.selector {
        Selector::Certificate => certificate,
        Selector::Key => parsed.public_key().raw,
    };
    let digested = |algorithm| digest::digest(algorithm, octets);
    match association.matching {
        Matching::Full => *association.data == *octets,
        Matching::Sha256 => *association.data == *digested(&digest::SHA256).as_ref(),
        Matching::Sha512 => *association.data == *digested(&digest::SHA512).as_ref(),
    }
}
