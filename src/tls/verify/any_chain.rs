//! A verifier that takes any chain and looks at its signatures alone: what a certificate is worth is judged behind the handshake.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::tls::fault::OddKey;
use crate::tls::{KeyKind, provider};

/// Lets any chain through the handshake, and checks that the peer holds the private key.
#[derive(Debug)]
pub(in super::super) struct AnyChain {
    algorithms: WebPkiSupportedAlgorithms,
    /// Whom we name as issuers; nobody stands for anybody.
    issuers: Vec<DistinguishedName>,
    /// The only kind of key that is asked for; none: any.
    only: Option<KeyKind>,
}

impl AnyChain {
    /// For the connecting side, and for listeners that ask for a certificate.
    pub(in super::super) fn new() -> AnyChain {
        AnyChain::hinting(Vec::new())
    }

    /// For listeners that ask for a certificate of these issuers.
    pub(in super::super) fn hinting(issuers: Vec<DistinguishedName>) -> AnyChain {
        AnyChain { algorithms: provider().signature_verification_algorithms, issuers, only: None }
    }

    /// For whoever wants to see what a server shows to those who take no other kind of key.
    pub(in super::super) fn only(kind: KeyKind) -> AnyChain {
        AnyChain { only: Some(kind), ..AnyChain::new() }
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        schemes.retain(|scheme| self.only.is_none_or(|kind| kind.signs(*scheme)));
        schemes
    }

    pub(super) fn tls12(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified {
        let key = public_key(der)?;
        let key =
            webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| bad(CertificateError::BadEncoding))?;
        let (_, candidates) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // TLS 1.2 binds no curve to an ECDSA scheme, so each algorithm of the scheme is a candidate.
        let holds =
            candidates.iter().any(|with| key.verify_signature(*with, message, signed.signature()).is_ok());
        if holds {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(bad(CertificateError::BadSignature))
        }
    }

    pub(super) fn tls13(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified {
        verify_tls13_signature_with_raw_key(message, &public_key(der)?, signed, &self.algorithms)
    }
}

pub(super) type Verified = Result<HandshakeSignatureValid, Error>;

impl ServerCertVerifier for AnyChain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        public_key(end_entity).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Verified {
        self.tls12(m, c, s)
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Verified {
        self.tls13(m, c, s)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for AnyChain {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.issuers
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        public_key(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Verified {
        self.tls12(m, c, s)
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Verified {
        self.tls13(m, c, s)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// The key is read apart from the rest, so that a certificate odd in other ways (version 1, an unknown critical
/// extension) makes an untrusted channel and not a failed handshake (RFC 6120 13.14). A key of a size that no signature is verified by
/// is told as that, and not as a signature that does not hold.
pub(super) fn public_key(der: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| bad(CertificateError::BadEncoding))?;
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed()
        && !RSA.contains(&key.key_size())
    {
        let odd = OtherError(Arc::new(OddKey(key.key_size())));
        return Err(bad(CertificateError::Other(odd)));
    }
    Ok(SubjectPublicKeyInfoDer::from(certificate.public_key().raw.to_vec()))
}

/// Bits of RSA keys that sign here (RFC 9325 4.5).
const RSA: std::ops::RangeInclusive<usize> = 2048..=8192;

pub(super) fn bad(error: CertificateError) -> Error {
    Error::InvalidCertificate(error)
}
