//! A certificate authority and the leaves that servers show: dNSName and SRVName, for both sides of TLS or the
//! server's alone.

#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _,
};

use super::write;

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `serverAuth` and `clientAuth`.
    Both,
    /// `serverAuth` alone, as public authorities issue them today.
    Server,
}

/// Where a leaf and its key lie, as PEM.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The leaf, followed by its issuer.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// An authority with its own root.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    /// A fresh root of that name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        date(&mut params, 365);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root").pem();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// Writes the root as PEM.
    pub fn write_root(&self, directory: &Path) -> PathBuf {
        let path = directory.join("roots.pem");
        write(&path, &self.root);
        path
    }

    /// A leaf that speaks for the domain as dNSName and as SRVName for both server services (RFC 6120 13.7.1.2).
    pub fn leaf(&self, domain: &str, usage: Usage, directory: &Path) -> Leaf {
        self.leaf_for(domain, usage, 90, directory)
    }

    /// The same, but over since a minute.
    pub fn expired_leaf(&self, domain: &str, directory: &Path) -> Leaf {
        self.leaf_for(domain, Usage::Both, 0, directory)
    }

    /// The certificate of a user: xmppAddr, for clientAuth alone.
    pub fn user(&self, address: &str, directory: &Path) -> Leaf {
        let mut other = tagged(OBJECT_IDENTIFIER, ID_ON_XMPP_ADDR);
        other.extend(tagged(EXPLICIT_0, &tagged(UTF8_STRING, address.as_bytes())));
        let names = tagged(SEQUENCE, &tagged(OTHER_NAME, &other));
        self.sign(address, vec![ExtendedKeyUsagePurpose::ClientAuth], 90, names, directory)
    }

    fn leaf_for(&self, domain: &str, usage: Usage, days: u32, directory: &Path) -> Leaf {
        let usages = match usage {
            Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        self.sign(domain, usages, days, names(domain), directory)
    }

    fn sign(
        &self,
        name: &str,
        usages: Vec<ExtendedKeyUsagePurpose>,
        days: u32,
        names: Vec<u8>,
        directory: &Path,
    ) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        date(&mut params, days);
        params.custom_extensions.push(CustomExtension::from_oid_content(SUBJECT_ALT_NAME, names));
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a leaf").pem();
        let (chain, secret) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        write(&chain, &format!("{leaf}{}", self.root));
        write(&secret, &key.serialize_pem());
        private(&secret);
        Leaf { chain, key: secret }
    }
}

/// A certificate of both usages that nobody but its own key has signed, and what may be published of it.
pub struct Lone {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Lone {
    /// A fresh key, and a certificate in the name of the domain.
    pub fn new(domain: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, domain);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        date(&mut params, 90);
        params.custom_extensions.push(CustomExtension::from_oid_content(SUBJECT_ALT_NAME, names(domain)));
        let key = KeyPair::generate().expect("a key");
        Self { certificate: params.self_signed(&key).expect("a certificate"), key }
    }

    /// The certificate as DER.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// The public key (SPKI) as DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// Writes certificate and key as PEM.
    pub fn write(&self, name: &str, directory: &Path) -> Leaf {
        let (chain, secret) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        write(&chain, &self.certificate.pem());
        write(&secret, &self.key.serialize_pem());
        private(&secret);
        Leaf { chain, key: secret }
    }
}

/// Makes a file readable by its owner only.
pub fn private(path: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, mode).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// From yesterday for that many days. (ejabberd sets a timer for the end; rcgen's own year 4096 breaks it.)
fn date(params: &mut CertificateParams, days: u32) {
    let (now, day) = (SystemTime::now(), Duration::from_secs(24 * 60 * 60));
    params.not_before = (now - day).into();
    params.not_after = if days == 0 { now - Duration::from_secs(60) } else { now + day * days }.into();
}

/// GeneralNames in DER. Written by hand, since SRVName is an IA5String (RFC 4985 2) and rcgen writes other names as
/// UTF8String only.
fn names(domain: &str) -> Vec<u8> {
    let mut all = tagged(DNS_NAME, domain.as_bytes());
    for service in ["_xmpp-server", "_xmpps-server"] {
        let srv = tagged(IA5_STRING, format!("{service}.{domain}").as_bytes());
        let mut other = tagged(OBJECT_IDENTIFIER, ID_ON_DNS_SRV);
        other.extend(tagged(EXPLICIT_0, &srv));
        all.extend(tagged(OTHER_NAME, &other));
    }
    tagged(SEQUENCE, &all)
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()).expect("a short value") {
        length @ 0..0x80 => out.push(length),
        length => out.extend([0x81, length]),
    }
    out.extend_from_slice(content);
    out
}

const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
/// 1.3.6.1.5.5.7.8.7
const ID_ON_DNS_SRV: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x07];
/// 1.3.6.1.5.5.7.8.5
const ID_ON_XMPP_ADDR: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x05];
const SEQUENCE: u8 = 0x30;
const UTF8_STRING: u8 = 0x0c;
const OBJECT_IDENTIFIER: u8 = 0x06;
const IA5_STRING: u8 = 0x16;
const OTHER_NAME: u8 = 0xa0;
const EXPLICIT_0: u8 = 0xa0;
const DNS_NAME: u8 = 0x82;
