//! Whether a certificate speaks for a domain, and whether it is trusted for it.
//!
//! Two questions, asked for each domain anew (XEP-0344 2.4): [`speaks_for`] compares names, [`trusted_for`] looks up
//! what path validation came to. Both are pure. The Common Name is never read (RFC 9525 2).

use crate::jid::Domain;
use crate::reason::{Cause, Detail, day, escaped};
use crate::stream::secured::{Certificate, PresentedName, Root, TrustFault};

/// Whether some name in the certificate is this very domain (RFC 6120 13.7.2.1, RFC 9525 6).
pub fn speaks_for(certificate: &Certificate, domain: &Domain) -> bool {
    names_speak_for(&certificate.names, domain)
}

/// Whether a dNSName in the certificate is this host, which a secure SRV record names for a domain (RFC 7673 4.1).
pub fn names_host(certificate: &Certificate, host: &str) -> bool {
    certificate.names.iter().any(|name| matches!(name, PresentedName::Dns(name) if dns_matches(name, host)))
}

/// The same for names at hand.
pub fn names_speak_for(names: &[PresentedName], domain: &Domain) -> bool {
    let reference = domain.to_ascii();
    names.iter().any(|name| match name {
        PresentedName::Dns(name) => dns_matches(name, &reference),
        PresentedName::Srv(name) => srv_matches(name, &reference),
        PresentedName::Xmpp(name) => xmpp_matches(name, domain),
        PresentedName::Email(_) => false,
    })
}

/// Whether the certificate's path holds for this domain: anchors set for a peer replace the default ones
/// (RFC 6120 13.6), so neither adds to the other.
///
/// # Errors
/// Why it does not.
pub fn trusted_for(certificate: &Certificate, domain: &Domain) -> Result<(), TrustFault> {
    path_for(certificate, domain).as_ref().map(|_root| ()).map_err(|fault| *fault)
}

/// The anchor that its path ends at, for this domain; none where it is not trusted.
pub fn root_for<'a>(certificate: &'a Certificate, domain: &Domain) -> Option<&'a Root> {
    path_for(certificate, domain).as_ref().ok()
}

fn path_for<'a>(certificate: &'a Certificate, domain: &Domain) -> &'a Result<Root, TrustFault> {
    let trust = &certificate.trust;
    let own = trust.peers.iter().find(|(domains, _)| domains.contains(domain));
    own.map_or(&trust.default, |(_, result)| result)
}

/// Whether the operator's own lists revoke it: whatever else speaks for it, it proves nothing.
pub fn is_revoked(certificate: &Certificate, domain: &Domain) -> bool {
    trusted_for(certificate, domain) == Err(TrustFault::Revoked)
}

/// Why this certificate, or none, does not prove the domain; none if it does.
pub fn doubt(certificate: Option<&Certificate>, domain: &Domain) -> Option<Detail> {
    let Some(certificate) = certificate else { return Some(Detail::new(Cause::NoCertificate, "")) };
    let particulars = match trusted_for(certificate, domain) {
        Ok(()) if speaks_for(certificate, domain) => return None,
        Ok(()) => {
            let mut names: Vec<&str> = certificate.names.iter().map(PresentedName::as_str).collect();
            names.dedup();
            let shown = match names.is_empty() {
                true => "it names none".to_owned(),
                false => escaped(&names.join(", "), NAMES),
            };
            return Some(Detail::new(Cause::OtherName, shown));
        }
        Err(fault) => match fault {
            TrustFault::Expired => format!("on {}", day(certificate.not_after)),
            TrustFault::UnknownIssuer => format!("issuer {}", certificate.issuer),
            TrustFault::IsCa => format!("it says that it is an authority's own ({})", fault.label()),
            TrustFault::BadSignature | TrustFault::BadUsage | TrustFault::Malformed | TrustFault::Other => {
                fault.label().to_owned()
            }
            TrustFault::NotYetValid
            | TrustFault::RevocationUnknown
            | TrustFault::Revoked
            | TrustFault::SelfSigned
            | TrustFault::Weak => String::new(),
        },
    };
    trusted_for(certificate, domain).err().map(|fault| Detail::new(fault.cause(), particulars))
}

/// dNSName: label by label without case; `*` only as the whole left-most label, for exactly one label (RFC 9525 6.3).
fn dns_matches(presented: &str, reference: &str) -> bool {
    if is_void(presented) {
        return false;
    }
    match presented.strip_prefix("*.") {
        None => is_plain(presented) && presented.eq_ignore_ascii_case(reference),
        Some(parent) => {
            is_plain(parent)
                && reference
                    .split_once('.')
                    .is_some_and(|(label, rest)| !label.is_empty() && parent.eq_ignore_ascii_case(rest))
        }
    }
}

/// SRVName: `_Service.Name`, the service without case and only ours, the name exact (RFC 4985 2, RFC 9525 6.5).
fn srv_matches(presented: &str, reference: &str) -> bool {
    if is_void(presented) {
        return false;
    }
    presented.split_once('.').is_some_and(|(service, name)| {
        service.eq_ignore_ascii_case(SERVICE) && is_plain(name) && name.eq_ignore_ascii_case(reference)
    })
}

/// xmppAddr: a bare domain, or it vouches for nobody (RFC 6120 13.7.1.4). It may be written with U-labels.
fn xmpp_matches(presented: &str, domain: &Domain) -> bool {
    if presented.contains(['@', '/', '*', '\0']) || presented.ends_with('.') {
        return false;
    }
    Domain::parse(presented).is_ok_and(|presented| presented == *domain)
}

/// A name with NUL or octets beyond IA5 is no name at all.
fn is_void(presented: &str) -> bool {
    presented.contains('\0') || !presented.is_ascii()
}

/// No wild card left, no empty label.
fn is_plain(name: &str) -> bool {
    !name.contains('*') && name.split('.').all(|label| !label.is_empty())
}

/// Characters of names that are shown of a certificate.
const NAMES: usize = 200;

const SERVICE: &str = "_xmpp-server";

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
