//! Judges chains, after the handshake and not within it.
//!
//! During the handshake `AnyChain` lets every chain through and checks one thing only: that the peer holds the key it
//! shows. Afterwards [`TrustStore::describe`] writes down what path validation came to (RFC 6120 13.7.2, RFC 5280 6):
//! a resumed session is judged exactly like a full one, since both are judged from the chain (RFC 9325 3.4). Either of
//! the two usages is taken in either direction, because public authorities no longer issue clientAuth.

mod any_chain;
mod held;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use rustls::DistinguishedName;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter,
    OwnedCertRevocationList, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

pub(super) use self::any_chain::AnyChain;
pub use super::anchors::Anchors;
pub use super::sound::fingerprint;
use super::sound::{self, Read};
use crate::jid::Domain;
use crate::reason::escaped;
use crate::stream::secured::{Certificate, Chain, PresentedName, RevocationCheck, Root, Trust, TrustFault};
use crate::tls::keys::KeyFault;
use crate::tls::names::{self, Constraints};

/// What to make of a certificate of whose revocation the lists at hand tell nothing. There is no default here: the
/// configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownRevocation {
    /// Trust it all the same, also by a stale list ("soft-fail").
    Accept,
    /// Trust it if no list of its issuer is at hand: the list of one authority says nothing about the others. A stale
    /// list of its issuer is no answer, and it is not trusted.
    ByIssuer,
    /// Do not trust it.
    Refuse,
}

/// Certificate revocation lists.
#[derive(Debug)]
pub struct Revocation {
    lists: Vec<CertRevocationList<'static>>,
    unknown: UnknownRevocation,
}

impl Revocation {
    /// Reads lists from files, PEM or DER.
    ///
    /// # Errors
    /// When a file cannot be read, or holds no list.
    pub fn load(paths: &[impl AsRef<Path>], unknown: UnknownRevocation) -> Result<Revocation, KeyFault> {
        let mut lists = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let octets = super::keys::read(path)?;
            let fault =
                || KeyFault::new(path, "not a certificate revocation list", "give a CRL in PEM or DER");
            let ders = if octets.starts_with(b"\x30") {
                vec![CertificateRevocationListDer::from(octets.to_vec())]
            } else {
                let ders = CertificateRevocationListDer::pem_slice_iter(&octets);
                ders.collect::<Result<Vec<_>, _>>().map_err(|_| fault())?
            };
            if ders.is_empty() {
                return Err(fault());
            }
            for der in ders {
                lists.push(OwnedCertRevocationList::from_der(&der).map_err(|_| fault())?.into());
            }
        }
        Ok(Revocation { lists, unknown })
    }
}

/// All that path validation leans on; a snapshot, replaced as a whole.
#[derive(Debug, Default)]
pub struct TrustStore {
    /// For every domain that `peers` does not name.
    pub default: Anchors,
    /// Anchors that stand in place of the default ones for these domains (RFC 6120 13.6).
    pub peers: Vec<(Vec<Domain>, Anchors)>,
    /// Revocation lists, where configured.
    pub revocation: Option<Revocation>,
    /// What the clients of hosted domains are judged by that ask for certificates, instead of all that (C2S-15).
    pub clients: BTreeMap<Domain, TrustStore>,
}

impl TrustStore {
    /// The facts of a peer's chain, end entity first; `None` for an empty chain.
    pub fn describe(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Certificate> {
        self.describe_for(chain, Usage::Either, now)
    }

    /// The facts of a web server's chain; `None` for an empty chain.
    pub fn describe_web(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Certificate> {
        self.describe_for(chain, Usage::Server, now)
    }

    /// The facts of the chain of a client of this hosted domain; `None` for an empty chain, and where
    /// the domain asks its clients for none.
    pub fn describe_client(
        &self,
        domain: &Domain,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<Certificate> {
        let certificate = self.clients.get(domain)?.describe_for(chain, Usage::Client, now)?;
        Some(Certificate { of_client: Some(domain.clone()), ..certificate })
    }

    /// The subjects of those who issue certificates to the clients of this domain, so that a client finds the one that is meant;
    /// `None` where clients are asked for none.
    pub fn issuers_of_clients(&self, domain: &Domain) -> Option<Vec<DistinguishedName>> {
        let store = self.clients.get(domain)?;
        let subject = |anchor: &TrustAnchor<'_>| DistinguishedName::in_sequence(&anchor.subject);
        Some(store.default.all().iter().map(subject).collect())
    }

    fn describe_for(&self, chain: &[CertificateDer<'_>], usage: Usage, now: UnixTime) -> Option<Certificate> {
        let (leaf, intermediates) = chain.split_first()?;
        let mut found = Held::default();
        // Read once: each of them is asked about several times.
        let read = sound::read(chain);
        let parsed = read.first().and_then(Read::certificate);
        let shown = Shown { leaf, intermediates, parsed };
        let sound = sound::soundness(&read);
        let revoked = parsed.is_some_and(|leaf| self.is_listed(leaf));
        let mut judge = |anchors: &Anchors| {
            let worth = sound.and_then(|()| self.validate(&shown, anchors, (usage, now), &mut found));
            worth.map_err(|fault| if revoked { TrustFault::Revoked } else { fault })
        };
        let trust = Trust {
            default: judge(&self.default),
            peers: self.peers.iter().map(|(domains, anchors)| (domains.clone(), judge(anchors))).collect(),
        };
        let names = parsed.map(names::presented).unwrap_or_default();
        let own_end = parsed.map_or(0, |parsed| parsed.validity().not_after.timestamp());
        let not_after = found.not_after.map_or(own_end, |end| end.min(own_end));
        Some(Certificate {
            fingerprint: fingerprint(leaf),
            key: parsed.and_then(|parsed| {
                digest::digest(&digest::SHA256, parsed.public_key().raw).as_ref().try_into().ok()
            }),
            issuer: parsed.map(|parsed| escaped(&parsed.issuer().to_string(), ISSUER)).unwrap_or_default(),
            names: names.into_iter().filter(|name| found.constraints.admit_or_free(name)).collect(),
            trust,
            not_after,
            expires: moment(not_after, now),
            revocation: self.revocation_of(&shown, (usage, now)),
            chain: Chain::new(chain.iter().map(|der| der.as_ref().into())),
            of_client: None,
        })
    }

    /// The facts of a chain that was described before, as they are now and by these anchors and lists (CRT-12).
    pub fn describe_again(&self, before: &Certificate) -> Option<Certificate> {
        let chain: Vec<CertificateDer<'_>> =
            before.chain.certificates().map(CertificateDer::from_slice).collect();
        match &before.of_client {
            Some(domain) => self.describe_client(domain, &chain, UnixTime::now()),
            None => self.describe(&chain, UnixTime::now()),
        }
    }

    /// CRT-09: a chain that is trusted although nobody could be asked about it shows that in the records.
    fn revocation_of(&self, shown: &Shown<'_>, terms: (Usage, UnixTime)) -> RevocationCheck {
        if self.revocation.is_none() {
            return RevocationCheck::Off;
        }
        let checked = std::iter::once(&self.default)
            .chain(self.peers.iter().map(|(_, anchors)| anchors))
            .any(|anchors| {
                let strictly = UnknownRevocation::Refuse;
                self.path(shown, anchors, terms, strictly, &mut Held::default()).is_ok()
            });
        if checked { RevocationCheck::Checked } else { RevocationCheck::Unknown }
    }

    fn validate(
        &self,
        shown: &Shown<'_>,
        anchors: &Anchors,
        terms: (Usage, UnixTime),
        found: &mut Held,
    ) -> Result<Root, TrustFault> {
        let unknown = self.revocation.as_ref().map_or(UnknownRevocation::Accept, |r| r.unknown);
        self.path(shown, anchors, terms, unknown, found)
    }

    /// Whether a list at hand names this very certificate. The lists are the operator's own: where no path leads to an anchor, or
    /// something else is wrong with it, nobody has looked for it there yet, and a pin or a record would speak for it all the same.
    fn is_listed(&self, leaf: &X509Certificate<'_>) -> bool {
        let mut lists = self.revocation.iter().flat_map(|revocation| &revocation.lists);
        lists.any(|list| {
            // A list keeps the name of its issuer without tag and length.
            DistinguishedName::in_sequence(list.issuer()).as_ref() == leaf.issuer().as_raw()
                && list.find_serial(leaf.raw_serial()).is_ok_and(|found| found.is_some())
        })
    }

    /// Looks for a path, and notes what its authorities bind it to. Where it ends.
    fn path(
        &self,
        shown: &Shown<'_>,
        anchors: &Anchors,
        (usage, now): (Usage, UnixTime),
        unknown: UnknownRevocation,
        found: &mut Held,
    ) -> Result<Root, TrustFault> {
        let entity = webpki::EndEntityCert::try_from(shown.leaf).map_err(fault)?;
        let lists: Vec<&CertRevocationList<'_>> = self.revocation.iter().flat_map(|r| &r.lists).collect();
        // Without lists there is nothing to build options from.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| match unknown {
            UnknownRevocation::Accept => builder
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build(),
            UnknownRevocation::ByIssuer => builder
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build(),
            UnknownRevocation::Refuse => builder
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build(),
        });
        // A path that will not do is left for another one.
        let lawful = |path: &VerifiedPath<'_>| match shown.parsed.is_some_and(|leaf| anchors.take(path, leaf))
        {
            true => Ok(()),
            false => Err(webpki::Error::EmptyEkuExtension),
        };
        let (algorithms, others) = (held::algorithms(), shown.intermediates);
        let path = entity
            .verify_for_usage(algorithms, anchors.all(), others, now, usage, revocation, Some(&lawful))
            .map_err(|error| match fault(error) {
                TrustFault::UnknownIssuer if shown.is_self_signed() => TrustFault::SelfSigned,
                other => other,
            })?;
        found.note(&path);
        Ok(root(path.anchor()))
    }
}

/// A chain that was shown, end entity first.
struct Shown<'a> {
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    /// The end entity, if it can be read.
    parsed: Option<&'a X509Certificate<'a>>,
}

impl Shown<'_> {
    fn is_self_signed(&self) -> bool {
        self.parsed.is_some_and(|leaf| leaf.subject() == leaf.issuer())
    }
}

/// An anchor keeps its name and its key without tag and length.
fn root(anchor: &TrustAnchor<'_>) -> Root {
    let (subject, key) = (&anchor.subject, &anchor.subject_public_key_info);
    let (subject, key) = (DistinguishedName::in_sequence(subject), DistinguishedName::in_sequence(key));
    let name = X509Name::from_der(subject.as_ref()).map(|(_, name)| name.to_string());
    let digest = digest::digest(&digest::SHA256, key.as_ref());
    Root {
        name: escaped(&name.unwrap_or_default(), ISSUER),
        key: digest.as_ref().try_into().unwrap_or_default(),
    }
}

/// What the paths that held have in common.
#[derive(Default)]
struct Held {
    not_after: Option<i64>,
    constraints: Constraints,
}

impl Held {
    fn note(&mut self, path: &VerifiedPath<'_>) {
        for authority in path.intermediate_certificates() {
            let der = authority.der();
            if let Ok((_, authority)) = X509Certificate::from_der(&der) {
                let end = authority.validity().not_after.timestamp();
                self.not_after = Some(self.not_after.map_or(end, |earlier| earlier.min(end)));
                self.constraints.add_certificate(&authority);
            }
        }
        if let Some(constraints) = &path.anchor().name_constraints {
            self.constraints.add_anchor(constraints);
        }
    }
}

impl Constraints {
    /// Names are filtered only where an authority constrains names at all: a name nobody can parse stays visible.
    fn admit_or_free(&self, name: &PresentedName) -> bool {
        self.is_empty() || self.admit(name)
    }
}

/// What an extended key usage must name, where there is one; `anyExtendedKeyUsage` alone names neither.
#[derive(Clone, Copy, Debug)]
enum Usage {
    /// serverAuth or clientAuth: servers, in either direction (CRT-08).
    Either,
    /// clientAuth: users.
    Client,
    /// serverAuth: web servers.
    Server,
}

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut restricted = false;
        let mut fits = false;
        for purpose in purposes {
            let oid = purpose?.to_decoded_oid();
            restricted = true;
            fits |= (oid == CLIENT_AUTH && !matches!(self, Self::Server))
                || (oid == SERVER_AUTH && !matches!(self, Self::Client));
        }
        if restricted && !fits { Err(webpki::Error::EmptyEkuExtension) } else { Ok(()) }
    }
}

fn moment(not_after: i64, now: UnixTime) -> Option<Instant> {
    let left = u64::try_from(not_after).ok()?.checked_sub(now.as_secs())?;
    Instant::now().checked_add(Duration::from_secs(left))
}

fn fault(error: webpki::Error) -> TrustFault {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => TrustFault::Expired,
        E::CertNotValidYet { .. } => TrustFault::NotYetValid,
        E::CaUsedAsEndEntity => TrustFault::IsCa,
        E::UnknownIssuer => TrustFault::UnknownIssuer,
        E::CertRevoked => TrustFault::Revoked,
        E::UnknownRevocationStatus | E::CrlExpired { .. } | E::InvalidCrlSignatureForPublicKey => {
            TrustFault::RevocationUnknown
        }
        E::EmptyEkuExtension | E::RequiredEkuNotFoundContext(_) => TrustFault::BadUsage,
        E::InvalidSignatureForPublicKey => TrustFault::BadSignature,
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::UnsupportedCrlSignatureAlgorithmContext(_) => TrustFault::Weak,
        E::BadDer
        | E::BadDerTime
        | E::TrailingData(_)
        | E::MalformedExtensions
        | E::UnsupportedCertVersion => TrustFault::Malformed,
        _ => TrustFault::Other,
    }
}

/// Characters of an issuer that are shown.
const ISSUER: usize = 120;

const SERVER_AUTH: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: [usize; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 2];
