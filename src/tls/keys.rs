//! Certificates and keys of the hosted domains. Nothing else reads key bytes.
//!
//! A key goes from its file straight behind rustls' signing trait and cannot be got back out of [`Certificates`], so
//! that a separate key process can be put here without touching another file. [`Certificates`] is a snapshot: a reload
//! makes a new one and hands it to the acceptors and the connector; living channels keep what they have.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::jid::Domain;
use crate::stream::secured::{PresentedName, TrustFault};
use crate::tls::{KeyKind, names, provider, sound};

/// Where one domain's certificate and key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// The hosted domain.
    pub domain: Domain,
    /// Its chain, end entity first, PEM.
    pub chain: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// One domain's chain and key, fit to be shown.
#[derive(Clone, Debug)]
pub struct ChainAndKey(Arc<CertifiedKey>);

impl ChainAndKey {
    /// The chain, end entity first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }

    /// What signs for it.
    pub(super) fn key(&self) -> &dyn SigningKey {
        &*self.0.key
    }

    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.0)))
    }
}

/// The certificates of all hosted domains.
#[derive(Clone, Debug, Default)]
pub struct Certificates(BTreeMap<Domain, ChainAndKey>);

impl Certificates {
    /// Reads them all; every fault is reported, not only the first.
    ///
    /// # Errors
    /// What is wrong with each that will not do.
    pub fn load(params: &[Params]) -> Result<Certificates, Vec<KeyFault>> {
        let mut certificates = BTreeMap::new();
        let mut faults = Vec::new();
        for Params { domain, chain, key } in params {
            match load(chain, key) {
                Ok(identity) => {
                    certificates.insert(domain.clone(), identity);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(Certificates(certificates)) } else { Err(faults) }
    }

    /// From identities at hand.
    pub fn from_identities(identities: impl IntoIterator<Item = (Domain, ChainAndKey)>) -> Certificates {
        Certificates(identities.into_iter().collect())
    }

    /// That of one domain.
    pub fn of(&self, domain: &Domain) -> Option<&ChainAndKey> {
        self.0.get(domain)
    }

    /// Each domain with its identity.
    pub fn iter(&self) -> impl Iterator<Item = (&Domain, &ChainAndKey)> {
        self.0.iter()
    }
}

/// Reads one chain and its key, and refuses what no peer should accept: a key of another certificate, RSA below 2048
/// bits, SHA-1 (RFC 9325 4.5).
///
/// # Errors
/// What is wrong, with the file and the remedy.
pub fn load(chain: &Path, key: &Path) -> Result<ChainAndKey, KeyFault> {
    let certificates = read_chain(chain)?;
    let octets = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&octets).map_err(|error| match error {
        pem::Error::NoItemsFound => KeyFault::new(
            key,
            "no private key in the file",
            "give an unencrypted PEM key (PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY)",
        ),
        _ => KeyFault::new(key, "not a PEM file", "convert the key to PEM, for instance with `openssl pkey`"),
    });
    let private = private.map_err(|fault| encrypted(key, &octets).unwrap_or(fault))?;
    from_der(certificates, private).map_err(|fault| match fault {
        IdentityFault::Key => KeyFault::new(
            key,
            "the key is of no kind that TLS can use",
            "make an ECDSA P-256, Ed25519 or RSA key of 2048 bits or more",
        ),
        IdentityFault::Mismatch => KeyFault::new(
            key,
            format!("the key does not belong to the first certificate in {}", chain.display()),
            "put the end-entity certificate first in the chain, and name the key it was issued for",
        ),
        IdentityFault::Certificate(TrustFault::Weak) => KeyFault::new(
            chain,
            "the chain has an RSA key below 2048 bits, or a signature with SHA-1 or MD5",
            "have the certificate issued anew with current algorithms",
        ),
        IdentityFault::Certificate(_) => KeyFault::new(
            chain,
            "a certificate cannot be read",
            "put PEM certificates in the file, end entity first",
        ),
    })
}

/// Whether there is a key that asks for a passphrase, in the form of PKCS #8 or in that of before (RFC 1421 4.6.1.1).
fn encrypted(path: &Path, octets: &[u8]) -> Option<KeyFault> {
    let signs: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
    let line = |line: &[u8]| signs.iter().any(|sign| line.starts_with(sign));
    octets.split(|octet| *octet == b'\n').any(line).then(|| {
        KeyFault::new(
            path,
            "the key is encrypted, and nobody is there to give the passphrase",
            "write it without one, with `openssl pkey -in KEY -out NEW`, where only the gateway may read it",
        )
    })
}

/// Puts a chain and a key together that are in memory already.
///
/// # Errors
/// Why they do not fit.
pub fn from_der(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ChainAndKey, IdentityFault> {
    sound::soundness(&sound::read(&chain)).map_err(IdentityFault::Certificate)?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| IdentityFault::Key)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| IdentityFault::Mismatch)?;
    Ok(ChainAndKey(Arc::new(certified)))
}

/// Why a chain and a key do not make an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    /// A certificate is unreadable or too weak.
    Certificate(TrustFault),
    /// The key is of no usable kind.
    Key,
    /// The key belongs to another certificate.
    Mismatch,
}

/// What `gatehouse check` tells of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The names that the end entity presents.
    pub names: Vec<PresentedName>,
    /// When the chain becomes valid: the latest of its certificates, in seconds since 1970.
    pub not_before: i64,
    /// When the chain expires: the earliest of its certificates, in seconds since 1970.
    pub not_after: i64,
    /// SHA-256 of the end entity, lower-case hexadecimal.
    pub fingerprint: String,
    /// Whether the first certificate may issue others, and so is no end entity.
    pub is_authority: bool,
    /// Whether there is no other certificate, though somebody else issued it.
    pub is_alone: bool,
}

/// Reads a chain's names and dates; no key is touched.
///
/// # Errors
/// When the file cannot be read, or holds no certificate.
pub fn inspect(path: &Path) -> Result<Inspection, KeyFault> {
    inspect_chain(&read_chain(path)?).ok_or_else(|| {
        KeyFault::new(
            path,
            "a certificate cannot be read",
            "put PEM certificates in the file, end entity first",
        )
    })
}

/// The same for a chain at hand; `None` for one that is empty or cannot be read.
pub fn inspect_chain(chain: &[CertificateDer<'_>]) -> Option<Inspection> {
    let leaf = chain.first()?;
    let certificates: Option<Vec<_>> =
        chain.iter().map(|der| X509Certificate::from_der(der).ok().map(|(_, c)| c)).collect();
    let certificates = certificates?;
    let first = certificates.first()?;
    Some(Inspection {
        names: names::presented(first),
        is_authority: first.is_ca(),
        is_alone: certificates.len() == 1 && first.issuer() != first.subject(),
        not_before: certificates.iter().map(|c| c.validity().not_before.timestamp()).max()?,
        not_after: certificates.iter().map(|c| c.validity().not_after.timestamp()).min()?,
        fingerprint: sound::fingerprint(leaf),
    })
}

/// What may be published about a certificate, or about a key that has none yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coming {
    /// The certificate in DER, where the file holds one.
    pub certificate: Option<Vec<u8>>,
    /// What stands in the file behind it: those who have issued it.
    pub issuers: Vec<Vec<u8>>,
    /// The public key with its algorithm in DER (SubjectPublicKeyInfo, RFC 5280 4.1).
    pub key: Vec<u8>,
}

impl Coming {
    /// What there is of a certificate in DER; nothing of one that cannot be read.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        let key = read.public_key().raw.to_vec();
        Some(Self { certificate: Some(certificate.to_vec()), issuers: Vec::new(), key })
    }

    /// The chain, end entity first; empty where there is no certificate yet.
    pub fn chain(&self) -> Vec<CertificateDer<'_>> {
        self.certificate.iter().chain(&self.issuers).map(|der| CertificateDer::from_slice(der)).collect()
    }

    /// The kind of the key, if it is one of those that are looked for.
    pub fn kind(&self) -> Option<KeyKind> {
        let (_, key) = SubjectPublicKeyInfo::from_der(&self.key).ok()?;
        match key.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.10045.2.1" => Some(KeyKind::Ecdsa),
            "1.3.101.112" => Some(KeyKind::Ed25519),
            "1.2.840.113549.1.1.1" => Some(KeyKind::Rsa),
            _ => None,
        }
    }
}

/// Reads the certificate that is to come, or the private key for which none is issued yet.
///
/// # Errors
/// What is wrong with the file.
pub fn coming(path: &Path) -> Result<Coming, KeyFault> {
    let octets = read(path)?;
    let mut chain = CertificateDer::pem_slice_iter(&octets);
    if let Some(Ok(leaf)) = chain.next() {
        let coming = Coming::of(&leaf).ok_or_else(|| {
            KeyFault::new(path, "its certificate cannot be read", "give it in PEM, end entity first")
        })?;
        let issuers = chain.map_while(Result::ok).map(|der| der.to_vec()).collect();
        return Ok(Coming { issuers, ..coming });
    }
    let remedy = "give the next certificate or the next private key in PEM, unencrypted";
    let private = PrivateKeyDer::from_pem_slice(&octets).map_err(|_| {
        encrypted(path, &octets).unwrap_or_else(|| {
            KeyFault::new(path, "there is neither certificate nor private key in the file", remedy)
        })
    })?;
    let key = provider().key_provider.load_private_key(private).ok();
    match key.as_ref().and_then(|key| key.public_key()) {
        Some(key) => Ok(Coming { certificate: None, issuers: Vec::new(), key: key.to_vec() }),
        None => Err(KeyFault::new(path, "the key is of no kind that TLS can use", remedy)),
    }
}

pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyFault> {
    let octets = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err(KeyFault::new(path, "no certificate in the file", "give the chain in PEM, end entity first"))
        }
        Ok(chain) => Ok(chain),
        Err(_) => Err(KeyFault::new(
            path,
            "not a PEM file",
            "convert the certificates to PEM, for instance with `openssl x509`",
        )),
    }
}

/// Reads a file of sane size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyFault> {
    use std::io::{ErrorKind, Read};
    let mut octets = Vec::new();
    let outcome = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut octets));
    match outcome {
        Ok(_) if octets.len() as u64 > MAX_FILE => {
            Err(KeyFault::new(path, "the file is larger than 64 MiB", "name the right file"))
        }
        Ok(_) => Ok(without_marks(octets)),
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::NotFound => "correct the path, or put the file there",
                ErrorKind::PermissionDenied => "let the gateway's user or group read the file",
                _ => "make the file readable",
            };
            Err(KeyFault::new(path, format!("cannot be read: {error}"), remedy))
        }
    }
}

/// Without the byte order marks that editors write before the first block, and `cat` leaves before later ones: behind one,
/// a block would be passed over in silence.
pub fn without_marks(octets: Vec<u8>) -> Vec<u8> {
    const MARKED: &[u8] = b"\xEF\xBB\xBF-----BEGIN";
    const MARK: usize = 3;
    let places: Vec<_> = memchr::memmem::find_iter(&octets, MARKED).collect();
    if places.is_empty() {
        return octets;
    }
    let mut clean = Vec::with_capacity(octets.len());
    let mut from = 0;
    for place in places {
        clean.extend_from_slice(octets.get(from..place).unwrap_or_default());
        from = place + MARK;
    }
    clean.extend_from_slice(octets.get(from..).unwrap_or_default());
    clean
}

/// A file of certificates, keys or revocation lists that will not do: which, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// What the operator can do.
    pub remedy: &'static str,
}

impl KeyFault {
    /// What is wrong with that file, and what to do.
    pub fn new(path: &Path, problem: impl Into<String>, remedy: &'static str) -> KeyFault {
        KeyFault { path: path.to_owned(), problem: problem.into(), remedy }
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path.display(), self.problem, self.remedy)
    }
}

impl std::error::Error for KeyFault {}

/// Room for large revocation lists and root stores.
const MAX_FILE: u64 = 64 << 20;
