//! What a certificate is worth to whoever calls the domain, and what to do about that.

use rustls_pki_types::{CertificateDer, UnixTime};

use super::report::Report;
use crate::jid::Domain;
use crate::stream::identity;
use crate::stream::secured::{Certificate, TrustFault};
use crate::tls::TrustStore;
use crate::tls::keys::Coming;

/// Chain, names and days left. Where a TLSA record proves it (`dane`), the chain and the names need not.
pub(super) fn tell(
    certificate: &Certificate,
    (domain, trust): (&Domain, &TrustStore),
    at: &str,
    dane: bool,
    report: &mut Report,
) {
    match identity::trusted_for(certificate, domain) {
        Ok(()) if is_for_clients_alone(certificate, domain, trust) => report.todo(
            "chain",
            format!(
                "{at}: its extended key usage names clients alone: whoever calls the server may refuse it"
            ),
            "have a certificate issued for serverAuth",
        ),
        Ok(()) => report.good("chain", format!("{at}: trusted, issued by {}", certificate.issuer)),
        // No record makes up for that its issuer has taken it back.
        Err(fault) if dane && fault != TrustFault::Revoked => report.note(
            "chain",
            format!("{at}: not trusted ({}), and proven by its TLSA record", fault.label()),
            "peers that do not look at DANE need a certificate of a public authority, or a pin",
        ),
        Err(fault) => {
            report.todo("chain", format!("{at}: not trusted ({})", fault.label()), remedy(fault));
        }
    }
    let names: Vec<String> = certificate.names.iter().map(super::super::probe::shown).collect();
    let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
    match identity::speaks_for(certificate, domain) {
        true => report.good("names", format!("{at}: {names}")),
        false if dane => {
            report.note("names", format!("{at}: {names}"), format!("have it name {domain}, too"))
        }
        false => report.todo(
            "names",
            format!("{at}: {names}"),
            format!("have a certificate issued that names {domain}"),
        ),
    }
    let days = (certificate.not_after - super::super::unix_seconds()).div_euclid(86_400);
    match days {
        ..0 => report.todo("days left", format!("{at}: expired"), "renew it now"),
        0..SOON => report.todo(
            "days left",
            format!("{at}: {days}"),
            "renew it now: what renews it by itself has not",
        ),
        _ => report.good("days left", format!("{at}: {days}")),
    }
}

/// The same of the certificate that is to come; `lenient`: that of now is proven by its TLSA record, and so will this be.
pub(super) fn coming(next: &Coming, by: (&Domain, &TrustStore), lenient: bool, report: &mut Report) {
    if let Some(certificate) = by.1.describe(&next.chain(), UnixTime::now()) {
        tell(&certificate, by, "the next certificate", lenient, report);
    }
}

/// The gateway takes either usage of either side; others do not.
fn is_for_clients_alone(certificate: &Certificate, domain: &Domain, trust: &TrustStore) -> bool {
    let chain: Vec<CertificateDer<'_>> =
        certificate.chain.certificates().map(CertificateDer::from_slice).collect();
    trust
        .describe_web(&chain, UnixTime::now())
        .is_some_and(|server| identity::trusted_for(&server, domain) == Err(TrustFault::BadUsage))
}

fn remedy(fault: TrustFault) -> &'static str {
    match fault {
        TrustFault::Revoked => {
            "its issuer has taken it back: have one issued for a new key, and publish what belongs to that key"
        }
        TrustFault::RevocationUnknown => {
            "have the revocation list of its issuer fetched anew (`trust: crls`)"
        }
        TrustFault::Expired => "renew it, and what stands behind it in `chain`",
        TrustFault::NotYetValid => "look at the clocks, or wait with it until its day",
        TrustFault::IsCa => "name the certificate of the server, not that of the authority",
        TrustFault::BadUsage => "have a certificate issued for serverAuth",
        TrustFault::Weak => {
            "have one issued for a key of RSA from 2048 bits on, or ECDSA, signed with SHA-256"
        }
        TrustFault::BadSignature
        | TrustFault::Malformed
        | TrustFault::Other
        | TrustFault::SelfSigned
        | TrustFault::UnknownIssuer => {
            "take a certificate of an authority in `trust: roots`, and put its intermediates into `chain`"
        }
    }
}

/// Days before the end of a certificate when something should have been done already.
const SOON: i64 = 14;
