//! The first of the two tokens that open the door: who you are.
//!
//! A [`Proof`] can be made in this file only, by a check that it names. The guard takes a proof and a permit, so a pair
//! that nobody proved cannot be admitted.

use crate::reason::Reason;

use super::dane::Dane;
use super::evidence::Posh;
use super::{KeyAnswer, KeyCheck, Method, Pair, Secured, identity};

/// That the sender domain of a pair speaks here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Proof {
    pair: Pair,
    method: Method,
}

impl Proof {
    /// The certificate of this TLS session is trusted and speaks for exactly the sender domain (CRT-11, EXT-06, DB-30), or
    /// for the host that a secure SRV record of that domain names (DNS-13).
    ///
    /// # Errors
    /// `CertificateUntrusted` when there is none, when its chain is not trusted, or when it names other domains only.
    pub fn by_certificate(secured: Option<&Secured>, pair: &Pair) -> Result<Self, Reason> {
        let evidence = secured.and_then(|secured| secured.evidence(&pair.sender));
        let host = evidence.and_then(|evidence| evidence.host.as_deref());
        let certificate = secured.and_then(|s| s.certificate.as_ref()).ok_or(Reason::CertificateUntrusted)?;
        if identity::trusted_for(certificate, &pair.sender).is_err()
            || !(identity::speaks_for(certificate, &pair.sender)
                || host.is_some_and(|host| identity::names_host(certificate, host)))
        {
            return Err(Reason::CertificateUntrusted);
        }
        Ok(Self { pair: pair.clone(), method: Method::Certificate })
    }

    /// The certificate of this TLS session is one that the DNS names for the sender domain, under signatures (DNS-12, DNS-15).
    /// One that the operator's own lists revoke proves nothing all the same.
    ///
    /// # Errors
    /// `CertificateUntrusted` when no TLSA record holds for it, when there is none, and when it was revoked.
    pub fn by_dane(secured: Option<&Secured>, pair: &Pair) -> Result<Self, Reason> {
        match secured.map(|secured| secured.dane(&pair.sender)) {
            Some(Dane::Proven(_)) if !is_revoked(secured, pair) => {
                Ok(Self { pair: pair.clone(), method: Method::Dane })
            }
            _ => Err(Reason::CertificateUntrusted),
        }
    }

    /// The certificate of this TLS session is in date and one that the sender domain names in its POSH file (DNS-16, DNS-17). One
    /// that the operator's own lists revoke proves nothing all the same.
    ///
    /// # Errors
    /// `CertificateUntrusted` when the file does not name it, when there is none, and when it was revoked.
    pub fn by_posh(secured: Option<&Secured>, pair: &Pair) -> Result<Self, Reason> {
        match secured.and_then(|secured| secured.evidence(&pair.sender)).map(|evidence| &evidence.posh) {
            Some(Posh::Proven) if !is_revoked(secured, pair) => {
                Ok(Self { pair: pair.clone(), method: Method::Posh })
            }
            _ => Err(Reason::CertificateUntrusted),
        }
    }

    /// The certificate of this TLS session holds the key that the policy has pinned for the sender domain and permitted:
    /// no authority, name or date is asked (DNS-18). A certificate that the operator's own lists revoke proves nothing all
    /// the same.
    ///
    /// # Errors
    /// `CertificateUntrusted` when it holds another key, when none is pinned, and when it was revoked.
    pub fn by_pin(secured: Option<&Secured>, pair: &Pair, pinned: Option<[u8; 32]>) -> Result<Self, Reason> {
        let certificate = secured.and_then(|s| s.certificate.as_ref()).ok_or(Reason::CertificateUntrusted)?;
        let pinned = pinned.ok_or(Reason::CertificateUntrusted)?;
        if certificate.key != Some(pinned) || identity::is_revoked(certificate, &pair.sender) {
            return Err(Reason::CertificateUntrusted);
        }
        Ok(Self { pair: pair.clone(), method: Method::Pin })
    }

    /// The authoritative server of the sender domain said `valid` to this very question (DB-25).
    ///
    /// # Errors
    /// The reason that the answer gives: `DialbackInvalid`, or what went wrong in asking.
    pub fn by_dialback(check: &KeyCheck, answer: KeyAnswer) -> Result<Self, Reason> {
        match answer {
            KeyAnswer::Invalid => Err(Reason::DialbackInvalid),
            KeyAnswer::Trouble(reason) => Err(reason),
            KeyAnswer::Valid => Ok(Self { pair: check.pair.clone(), method: Method::Dialback }),
        }
    }

    /// The stream came to the inside listener from the backend's own network (ACC-02), and `hosted` knows the sender
    /// domain as one of that backend's (DB-62, DB-63).
    ///
    /// # Errors
    /// `InvalidFrom` when the sender domain is not hosted.
    pub fn by_backend(pair: &Pair, hosted: impl Fn(&crate::jid::Domain) -> bool) -> Result<Self, Reason> {
        if !hosted(&pair.sender) {
            return Err(Reason::InvalidFrom);
        }
        Ok(Self { pair: pair.clone(), method: Method::Backend })
    }

    /// The pair it is a proof for.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// How it was proven.
    pub fn method(&self) -> Method {
        self.method
    }
}

/// Whether the operator's own lists revoke the certificate of this session, or it has none.
fn is_revoked(secured: Option<&Secured>, pair: &Pair) -> bool {
    let certificate = secured.and_then(|secured| secured.certificate.as_ref());
    certificate.is_none_or(|shown| identity::is_revoked(shown, &pair.sender))
}
