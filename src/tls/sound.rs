//! What holds of a certificate by itself, whoever signed it; and how it is told apart from others.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::stream::keyring::hex;
use crate::stream::secured::TrustFault;

/// A certificate as it was read; none: it cannot be.
pub(super) struct Read<'a>(Option<(&'a [u8], X509Certificate<'a>)>);

impl Read<'_> {
    /// What was read, whatever follows it.
    pub(super) fn certificate(&self) -> Option<&X509Certificate<'_>> {
        self.0.as_ref().map(|(_, certificate)| certificate)
    }
}

/// Reads each certificate of a chain.
pub(super) fn read<'a>(chain: &'a [CertificateDer<'_>]) -> Vec<Read<'a>> {
    chain.iter().map(|der| Read(X509Certificate::from_der(der).ok())).collect()
}

/// What must hold of each certificate by itself: readable, RSA of 2048 bits, no SHA-1 or MD5 (RFC 9325 4.5).
///
/// A self-signed certificate at the end of the chain may carry any signature: nobody checks an anchor's.
pub(super) fn soundness(chain: &[Read<'_>]) -> Result<(), TrustFault> {
    for Read(read) in chain {
        let Some(([], certificate)) = read else { return Err(TrustFault::Malformed) };
        if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed()
            && key.key_size() < 2048
        {
            return Err(TrustFault::Weak);
        }
        let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
        let is_anchor = certificate.subject() == certificate.issuer() && chain.len() > 1;
        if BROKEN_SIGNATURES.contains(&algorithm.as_str()) && !is_anchor {
            return Err(TrustFault::Weak);
        }
    }
    Ok(())
}

/// SHA-256 of the DER octets, lower-case hexadecimal.
pub fn fingerprint(der: &CertificateDer<'_>) -> String {
    hex(digest::digest(&digest::SHA256, der).as_ref())
}

/// MD2, MD4, MD5 and SHA-1 with RSA; SHA-1 with DSA and with ECDSA.
const BROKEN_SIGNATURES: [&str; 6] = [
    "1.2.840.113549.1.1.2",
    "1.2.840.113549.1.1.3",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.10040.4.3",
    "1.2.840.10045.4.1",
];
