//! Whom the operator trusts, and what the key usages in a path let it vouch for (CRT-07).
//!
//! The path validator builds and checks paths ([`super::verify`]); it looks at basic constraints and not at key usage, which
//! is looked at here, and it takes every anchor for an authority.

use std::path::Path;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::VerifiedPath;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::stream::secured::TrustFault;
use crate::tls::keys::KeyFault;

/// Trust anchors, as a set.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    all: Vec<TrustAnchor<'static>>,
    /// Those that may issue nothing (CRT-07), with their keys: they speak for themselves alone.
    pins: Vec<(TrustAnchor<'static>, Vec<u8>)>,
}

impl Anchors {
    /// The operating system's. Certificates there that cannot be read are left out; none at all is a fault.
    ///
    /// # Errors
    /// When there is none.
    pub fn system() -> Result<Anchors, KeyFault> {
        let found = rustls_native_certs::load_native_certs();
        let mut anchors = Anchors::default();
        for der in &found.certs {
            // One that cannot be read is left out.
            let _unread = anchors.add(der);
        }
        if anchors.is_empty() {
            return Err(KeyFault::new(
                Path::new("the system's certificate store"),
                "no trust anchor found",
                "install the package ca-certificates, or name a PEM file in `trust: { roots: FILE }`",
            ));
        }
        Ok(anchors)
    }

    /// From a PEM file of certificates.
    ///
    /// # Errors
    /// When the file cannot be read, or holds what is no anchor.
    pub fn load(path: &Path) -> Result<Anchors, KeyFault> {
        Self::from_certificates(&super::keys::read_chain(path)?).map_err(|_| {
            KeyFault::new(
                path,
                "a certificate cannot serve as a trust anchor",
                "put X.509 certificates in the file",
            )
        })
    }

    /// From certificates at hand.
    ///
    /// # Errors
    /// When one of them cannot be an anchor.
    pub fn from_certificates(certificates: &[CertificateDer<'_>]) -> Result<Anchors, TrustFault> {
        let mut anchors = Anchors::default();
        certificates.iter().try_for_each(|der| anchors.add(der)).map_err(|_| TrustFault::Malformed)?;
        Ok(anchors)
    }

    fn add(&mut self, der: &CertificateDer<'_>) -> Result<(), webpki::Error> {
        let anchor = webpki::anchor_from_trusted_cert(der)?.to_owned();
        if let Ok((_, certificate)) = X509Certificate::from_der(der)
            && !may_issue(&certificate)
        {
            self.pins.push((anchor.clone(), certificate.public_key().raw.to_vec()));
        }
        self.all.push(anchor);
        Ok(())
    }

    pub(super) fn all(&self) -> &[TrustAnchor<'static>] {
        &self.all
    }

    /// CRT-07: whether the key usage of each certificate in the path is that of its place. The path validator looks at basic
    /// constraints and not at this.
    pub(super) fn take(&self, path: &VerifiedPath<'_>, leaf: &X509Certificate<'_>) -> bool {
        let pinned = self.pins.iter().find(|(anchor, _)| anchor == path.anchor());
        may_sign(leaf)
            && pinned.is_none_or(|(_, key)| {
                key == leaf.public_key().raw && path.intermediate_certificates().next().is_none()
            })
            && path.intermediate_certificates().all(|issuer| {
                let der = issuer.der();
                X509Certificate::from_der(&der).is_ok_and(|(_, issuer)| may_issue(&issuer))
            })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nothing is trusted.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// RFC 5280 4.2.1.3, 4.2.1.9: whether this certificate, if it says so at all, may sign others.
fn may_issue(certificate: &X509Certificate<'_>) -> bool {
    let signs = match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    let is_ca = match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        // Certificates of version 1 have no extensions at all.
        Ok(None) => certificate.version() == X509Version::V1,
        Err(_) => false,
    };
    signs && is_ca
}

/// RFC 5280 4.2.1.3: whether the key of this certificate, if it says so at all, may sign a handshake. TLS 1.3 and ECDHE use
/// it for nothing else.
fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.digital_signature(),
        Ok(None) => true,
        Err(_) => false,
    }
}
