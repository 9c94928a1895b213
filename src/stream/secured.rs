//! Facts of a secured channel, as plain data.
//!
//! The safe (`tls`) fills these in after a handshake; nothing here knows sockets or keys. What a certificate is worth
//! is said by [`crate::stream::identity`], which reads [`Certificate`] and nothing else. Facts are facts: a chain that
//! nobody trusts is still described here, with the reason in [`Trust`] (RFC 6120 13.14).

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use crate::jid::Domain;
use crate::reason::Cause;
use crate::stream::dane::Dane;
use crate::stream::evidence::Evidence;

/// What is known of a channel once TLS stands. Everybody who asks has the same facts in hand, at the price of one pointer;
/// whoever changes one has his own from then on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Secured(Arc<ChannelFacts>);

impl From<ChannelFacts> for Secured {
    fn from(facts: ChannelFacts) -> Self {
        Self(Arc::new(facts))
    }
}

impl Deref for Secured {
    type Target = ChannelFacts;
    fn deref(&self) -> &ChannelFacts {
        &self.0
    }
}

impl DerefMut for Secured {
    fn deref_mut(&mut self) -> &mut ChannelFacts {
        Arc::make_mut(&mut self.0)
    }
}

/// The facts themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelFacts {
    /// The version agreed on.
    pub version: TlsVersion,
    /// The peer's certificate, where it showed one.
    pub certificate: Option<Certificate>,
    /// The application protocol agreed on, where one was (RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// The server name that the connecting side sent, lower case.
    pub sni: Option<String>,
    /// Where we accepted: the hosted domain whose certificate was shown. Servers are known to send the name of the SRV
    /// target, so this need not be the server name.
    pub shown: Option<Domain>,
    /// The name of the cipher suite.
    pub suite: &'static str,
    /// What single domains publish about the certificate, as far as anybody has looked: one entry for a domain.
    pub evidence: Vec<Evidence>,
}

impl ChannelFacts {
    /// What was found for this very domain; none: nobody has looked.
    pub fn evidence(&self, domain: &Domain) -> Option<&Evidence> {
        self.evidence.iter().find(|evidence| evidence.domain == *domain)
    }

    /// What the TLSA records of this domain make of the certificate.
    pub fn dane(&self, domain: &Domain) -> Dane {
        self.evidence(domain).map(|evidence| evidence.dane).unwrap_or_default()
    }

    /// This was found; it takes the place of what was known for its domain.
    pub fn attest(&mut self, found: Evidence) {
        self.evidence.retain(|evidence| evidence.domain != found.domain);
        self.evidence.push(found);
    }
}

/// The versions of TLS that the gateway speaks; older ones do not exist here (RFC 9325 3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS ends at a proxy in front of the listener, by the operator's word; which version it was, nobody has told.
    AtProxy,
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl TlsVersion {
    /// The version as people write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AtProxy => "at-proxy",
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// A peer's end-entity certificate, as far as identity depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// SHA-256 of the DER octets, lower-case hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of its public key with the algorithm (SubjectPublicKeyInfo, RFC 5280 4.1); none if it cannot be read.
    pub key: Option<[u8; 32]>,
    /// The names it presents, raw; void ones (NUL, octets beyond IA5) are left out.
    pub names: Vec<PresentedName>,
    /// Whether its chain holds, by the default anchors and by those of single peers.
    pub trust: Trust,
    /// When the first certificate of its path expires, in seconds since 1970.
    pub not_after: i64,
    /// The same moment on the monotonic clock; `None` when it lies beyond that clock or in the past.
    pub expires: Option<Instant>,
    /// Whether somebody was asked if it was revoked (CRT-09).
    pub revocation: RevocationCheck,
    /// Who issued it, as it says itself: one line, escaped and capped.
    pub issuer: String,
    /// The certificates as the peer showed them: a stream outlives what was known when it began (CRT-12).
    pub chain: Chain,
    /// A client's: the hosted domain by whose authorities it was judged, in place of those for servers (C2S-15).
    pub of_client: Option<Domain>,
}

impl TrustFault {
    /// The same as a cause.
    pub const fn cause(self) -> Cause {
        match self {
            Self::Expired => Cause::Expired,
            Self::NotYetValid => Cause::NotYetValid,
            Self::RevocationUnknown => Cause::RevocationUnknown,
            Self::Revoked => Cause::Revoked,
            Self::SelfSigned => Cause::SelfSigned,
            Self::UnknownIssuer => Cause::UnknownIssuer,
            Self::Weak => Cause::WeakCertificate,
            Self::BadSignature | Self::BadUsage | Self::IsCa | Self::Malformed | Self::Other => {
                Cause::BadCertificate
            }
        }
    }
}

/// What is known of the revocation of a certificate and its authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RevocationCheck {
    /// Lists that are in date speak for the whole path.
    Checked,
    /// No list is configured.
    Off,
    /// The lists say nothing about some certificate of the path.
    Unknown,
}

impl RevocationCheck {
    /// The word in logs and records.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Checked => "checked",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

/// Certificates in DER, the end entity's first.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Chain(Arc<[Box<[u8]>]>);

impl Chain {
    /// Of these certificates.
    pub fn new(certificates: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        Self(certificates.into_iter().collect())
    }

    /// The octets of each.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({})", self.0.len())
    }
}

/// An identifier in the subject alternative names that XMPP knows (RFC 6120 13.7.1.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PresentedName {
    /// dNSName.
    Dns(String),
    /// SRVName (RFC 4985), for instance `_xmpp-server.example.com`.
    Srv(String),
    /// xmppAddr (RFC 6120 13.7.1.4).
    Xmpp(String),
    /// rfc822Name (RFC 5280 4.2.1.6); it speaks for no domain, and for accounts only where the configuration says so.
    Email(String),
}

impl PresentedName {
    /// The name as it stands in the certificate.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dns(name) | Self::Srv(name) | Self::Xmpp(name) | Self::Email(name) => name,
        }
    }
}

/// What path validation came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trust {
    /// By the default anchors.
    pub default: Result<Root, TrustFault>,
    /// By anchors that replace the default ones for the domains named.
    pub peers: Vec<(Vec<Domain>, Result<Root, TrustFault>)>,
}

/// The anchor that a path ends at. It is one of those that the operator trusts: whoever shows the path chooses neither its key nor
/// its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    /// Its name: one line, escaped and capped.
    pub name: String,
    /// SHA-256 of its public key with the algorithm (SubjectPublicKeyInfo).
    pub key: [u8; 32],
}

impl Trust {
    /// Whether it holds by the default anchors, wherever it ends.
    ///
    /// # Errors
    /// Why it does not.
    pub fn by_default(&self) -> Result<(), TrustFault> {
        self.default.as_ref().map(|_root| ()).map_err(|fault| *fault)
    }
}

/// Why a chain is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrustFault {
    /// A signature in the path does not verify.
    BadSignature,
    /// The extended key usage names neither server nor client authentication.
    BadUsage,
    /// A certificate of the path has expired.
    Expired,
    /// The end-entity certificate is a certificate authority's.
    IsCa,
    /// It cannot be read as a certificate.
    Malformed,
    /// A certificate of the path is not valid yet.
    NotYetValid,
    /// Another rule of path validation is broken, such as a name constraint or a path length.
    Other,
    /// A revocation list is due, and none speaks for this issuer or the one at hand is stale.
    RevocationUnknown,
    /// A certificate of the path was revoked.
    Revoked,
    /// It was issued by itself, and is no anchor.
    SelfSigned,
    /// No path leads to an anchor.
    UnknownIssuer,
    /// RSA below 2048 bits, or a signature with SHA-1 or MD5 (RFC 9325 4.5).
    Weak,
}

impl TrustFault {
    /// Words for logs and reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadSignature => "bad-signature",
            Self::BadUsage => "bad-usage",
            Self::Expired => "expired",
            Self::IsCa => "is-ca",
            Self::Malformed => "malformed",
            Self::NotYetValid => "not-yet-valid",
            Self::Other => "invalid-path",
            Self::RevocationUnknown => "revocation-unknown",
            Self::Revoked => "revoked",
            Self::SelfSigned => "self-signed",
            Self::UnknownIssuer => "unknown-issuer",
            Self::Weak => "weak",
        }
    }
}
