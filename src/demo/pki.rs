//! The certificate authority of the small world, and the TLS settings of its peers.
//!
//! It issues good certificates and, for the tests, every bad one that a peer might show.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName as DistinguishedNames, RootCertStore,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

use super::{Told, Trouble};

/// The ALPN protocol of direct TLS between servers (XEP-0368 3).
const ALPN: &[u8] = b"xmpp-server";
/// The object identifier of xmppAddr (RFC 6120 13.7.1.4).
const XMPP_ADDR: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 8, 5];

/// A root and its key.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a certificate says.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    /// dNSName entries, octet for octet.
    pub dns: Vec<String>,
    /// xmppAddr entries.
    pub xmpp: Vec<String>,
    /// The common name, which must never count.
    pub common_name: Option<String>,
    /// Whether the validity has ended already.
    pub expired: bool,
    /// Whether the validity has yet to begin.
    pub early: bool,
    /// The extended key usages; none at all if empty.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// Whether it claims to be an authority itself.
    pub authority: bool,
}

impl Leaf {
    /// An ordinary certificate for these names: serverAuth only, as large public authorities issue them.
    pub fn of(names: &[&str]) -> Self {
        Self {
            dns: names.iter().map(|n| (*n).to_owned()).collect(),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            ..Self::default()
        }
    }

    fn params(&self) -> Told<CertificateParams> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        for name in &self.dns {
            params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(name.as_str())?));
        }
        for name in &self.xmpp {
            params.subject_alt_names.push(SanType::OtherName((XMPP_ADDR.to_vec(), name.as_str().into())));
        }
        params.extended_key_usages.clone_from(&self.usages);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = match (self.expired, self.early) {
            (true, _) => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            (_, true) => (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1)),
            _ => (date_time_ymd(2024, 1, 1), date_time_ymd(2090, 1, 1)),
        };
        if self.authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        Ok(params)
    }
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    chain_pem: String,
    key_pem: String,
}

impl Authority {
    /// A new root of this name.
    pub fn new(name: &str) -> Told<Self> {
        let mut named = DistinguishedName::new();
        named.push(DnType::CommonName, name);
        Ok(Self { issuer: CertifiedIssuer::self_signed(Self::params(named), KeyPair::generate()?)? })
    }

    /// A new authority below this one, which calls itself by the name of this organisation.
    pub fn below(&self, organisation: &str) -> Told<Self> {
        let mut named = DistinguishedName::new();
        named.push(DnType::OrganizationName, organisation);
        let issuer = CertifiedIssuer::signed_by(Self::params(named), KeyPair::generate()?, &self.issuer)?;
        Ok(Self { issuer })
    }

    fn params(named: DistinguishedName) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = named;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
        params
    }

    /// The root as a PEM file's content.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its certificate in DER.
    pub fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// The digest of its own key, as `pins` of a rule takes it.
    pub fn pin(&self) -> Told<String> {
        pin_of(self.issuer.der())
    }

    /// Issues a certificate.
    pub fn issue(&self, leaf: &Leaf) -> Told<Identity> {
        let key = KeyPair::generate()?;
        let certificate = leaf.params()?.signed_by(&key, &self.issuer)?;
        Ok(Identity::new(certificate.der().clone(), certificate.pem(), &key))
    }

    /// A TLS client that trusts this root alone and shows that certificate.
    pub fn client(&self, identity: Option<&Identity>, direct: bool) -> Told<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?);
        let mut config = match identity {
            Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.private())?,
            None => builder.with_no_client_auth(),
        };
        if direct {
            config.alpn_protocols = vec![ALPN.to_vec()];
        }
        // RFC 6120 peers may resume; the small world shakes hands in full each time, so that each step stands alone.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// A TLS server with that certificate. It asks for a client certificate, and takes none as well.
    pub fn server(&self, identity: &Identity, direct: bool) -> Told<Arc<ServerConfig>> {
        let provider = Arc::new(default_provider());
        let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let clients = Arc::new(AnyUsage { strict, root: self.issuer.der().clone() });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(identity.chain.clone(), identity.private())?;
        if direct {
            config.alpn_protocols = vec![ALPN.to_vec()];
        }
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Told<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        Ok(roots)
    }
}

impl Identity {
    /// A certificate that only speaks for itself.
    pub fn self_signed(leaf: &Leaf) -> Told<Self> {
        let key = KeyPair::generate()?;
        let certificate = leaf.params()?.self_signed(&key)?;
        Ok(Self::new(certificate.der().clone(), certificate.pem(), &key))
    }

    fn new(der: CertificateDer<'static>, chain_pem: String, key: &KeyPair) -> Self {
        Self { chain: vec![der], key: key.serialize_der(), chain_pem, key_pem: key.serialize_pem() }
    }

    /// The same, which shows the certificate of that authority beside its own, whether it has issued it or not.
    #[must_use]
    pub fn beside(mut self, authority: &Authority) -> Self {
        self.chain.push(authority.issuer.der().clone());
        self.chain_pem.push_str(&authority.issuer.pem());
        self
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    /// The digest of its key, as `pins` of a rule takes it.
    pub fn pin(&self) -> Told<String> {
        pin_of(self.chain.first().ok_or_else(|| Trouble::new("a certificate is due"))?)
    }

    /// The certificate, and its public key with the algorithm, in DER: what TLSA records are about.
    pub fn der(&self) -> Told<(Vec<u8>, Vec<u8>)> {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let der = self.chain.first().ok_or_else(|| Trouble::new("a certificate is due"))?;
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|e| Trouble(format!("unreadable certificate: {e}")))?;
        Ok((der.to_vec(), parsed.public_key().raw.to_vec()))
    }

    /// Writes `NAME.pem` and `NAME.key`, the key readable by its owner alone.
    pub fn write(&self, folder: &Path, name: &str) -> Told<(PathBuf, PathBuf)> {
        let (chain, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&chain, &self.chain_pem)?;
        write_secret(&key, &self.key_pem)?;
        Ok((chain, key))
    }
}

/// Takes a chain that leads to the root, also where the leaf says serverAuth alone (RFC 6120 asks for no usage, and large
/// authorities issue nothing else); rustls's own verifier insists on clientAuth.
#[derive(Debug)]
struct AnyUsage {
    strict: Arc<dyn ClientCertVerifier>,
    root: CertificateDer<'static>,
}

impl ClientCertVerifier for AnyUsage {
    fn root_hint_subjects(&self) -> &[DistinguishedNames] {
        // No hints: a client with a certificate from elsewhere is to show it, and be refused.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let refused = |_| rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let anchor = webpki::anchor_from_trusted_cert(&self.root).map_err(refused)?;
        webpki::EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    webpki::ALL_VERIFICATION_ALGS,
                    &[anchor],
                    chain,
                    now,
                    webpki::KeyUsage::server_auth(),
                    None,
                    None,
                )
                .map(|_| ())
            })
            .map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

/// Writes a file that its owner alone may read.
pub fn write_secret(path: &Path, content: &str) -> Told<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    Ok(())
}

fn pin_of(certificate: &CertificateDer<'_>) -> Told<String> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|e| Trouble(format!("unreadable certificate: {e}")))?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parsed.public_key().raw);
    Ok(digest.as_ref().iter().fold("sha256:".to_owned(), |text, octet| text + &format!("{octet:02x}")))
}

/// Whether the certificate names this domain as a dNSName, with a wildcard for one label or without.
pub fn names_domain(certificate: &CertificateDer<'_>, domain: &str) -> Told<bool> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|e| Trouble(format!("unreadable certificate: {e}")))?;
    let names = parsed.subject_alternative_name().map_err(|e| Trouble(format!("unreadable names: {e}")))?;
    Ok(names.is_some_and(|names| {
        names.value.general_names.iter().any(|name| match name {
            GeneralName::DNSName(name) => match name.strip_prefix("*.") {
                Some(parent) => {
                    domain.split_once('.').is_some_and(|(_, above)| above.eq_ignore_ascii_case(parent))
                }
                None => name.eq_ignore_ascii_case(domain),
            },
            _ => false,
        })
    }))
}
