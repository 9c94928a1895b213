//! A verifier that takes any chain and looks at its signatures alone: what a certificate is worth is judged behind the handshake.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::tls::provider;

/// Lets any chain through the handshake, and checks that the peer holds the private key.
#[derive(Debug)]
pub(in super::super) struct AnyChain {
    algorithms: WebPkiSupportedAlgorithms,
    /// Whom we name as issuers; nobody stands for anybody.
    issuers: Vec<DistinguishedName>,
}

impl AnyChain {
    /// For the connecting side, and for listeners that ask for a certificate.
    pub(in super::super) fn new() -> AnyChain {
        AnyChain::hinting(Vec::new())
    }

    /// For listeners that ask for a certificate of these issuers.
    pub(in super::super) fn hinting(issuers: Vec<DistinguishedName>) -> AnyChain {
        AnyChain { algorithms: provider().signature_verification_algorithms, issuers }
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
        self.algorithms.supported_schemes()
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
        self.algorithms.supported_schemes()
    }
}

/// The key is read apart from the rest, so that a certificate odd in other ways (version 1, an unknown critical
/// extension) makes an untrusted channel and not a failed handshake (RFC 6120 13.14).
pub(super) fn public_key(der: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| bad(CertificateError::BadEncoding))?;
    Ok(SubjectPublicKeyInfoDer::from(certificate.public_key().raw.to_vec()))
}

pub(super) fn bad(error: CertificateError) -> Error {
    Error::InvalidCertificate(error)
}
