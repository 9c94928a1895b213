//! The safe: holds keys, terminates TLS, reports facts of the channel.
//!
//! It does not decide who somebody is, and knows nothing of policy: a chain that nobody trusts still makes a channel,
//! and [`crate::stream::secured::Trust`] says what is wrong with it (RFC 6120 13.14). TLS 1.2 needs ECDHE, AEAD and the
//! extended master secret; X25519MLKEM768 is preferred; there is no early data in either direction (RFC 9325).

mod ahead;
mod anchors;
mod channel;
pub mod client;
pub mod dane;
mod far_channel;
mod fault;
pub mod keys;
mod made;
pub mod names;
mod offer;
mod records;
pub mod server;
mod sound;
pub mod verify;
pub mod web;

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::CryptoProvider;

use crate::stream::secured::TlsVersion;

pub use ahead::Ahead;
pub use channel::Channel;
pub use client::Connector;
pub use far_channel::FarChannel;
pub use fault::{FaultKind, HandshakeFault, late};
pub use keys::{Certificates, KeyFault};
pub use server::Acceptor;
pub use verify::TrustStore;

/// Whether TLS begins with the first octet or after a negotiation in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// TLS from the first octet (XEP-0368).
    Direct,
    /// After `<proceed/>` (RFC 6120 5).
    Starttls,
}

/// The kinds of keys that servers have certificates for; one server may have one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Elliptic curves.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ecdsa, Self::Ed25519, Self::Rsa];

    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        }
    }

    /// Whether such a key makes signatures of this scheme.
    fn signs(self, scheme: SignatureScheme) -> bool {
        use SignatureScheme as S;
        match scheme {
            S::ED25519 => self == Self::Ed25519,
            S::RSA_PKCS1_SHA256
            | S::RSA_PKCS1_SHA384
            | S::RSA_PKCS1_SHA512
            | S::RSA_PSS_SHA256
            | S::RSA_PSS_SHA384
            | S::RSA_PSS_SHA512 => self == Self::Rsa,
            S::ECDSA_NISTP256_SHA256 | S::ECDSA_NISTP384_SHA384 | S::ECDSA_NISTP521_SHA512 => {
                self == Self::Ecdsa
            }
            _ => false,
        }
    }
}

/// The application protocols of XEP-0368, and the one that WebSocket begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alpn {
    /// `xmpp-client`.
    Client,
    /// `http/1.1`: a client that asks for a WebSocket.
    Http,
    /// `xmpp-server`.
    Server,
}

impl Alpn {
    /// The octets on the wire.
    pub const fn octets(self) -> &'static [u8] {
        match self {
            Self::Client => b"xmpp-client",
            Self::Http => b"http/1.1",
            Self::Server => b"xmpp-server",
        }
    }
}

/// The one set of algorithms that everything here uses: ECDHE and AEAD suites only, post-quantum key exchange first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Newest first; nothing older exists in the library (RFC 9325 3.1.1).
const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn version(of: Option<rustls::ProtocolVersion>) -> TlsVersion {
    match of {
        Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::V13,
        _ => TlsVersion::V12,
    }
}

fn suite(of: Option<rustls::SupportedCipherSuite>) -> &'static str {
    of.and_then(|suite| suite.suite().as_str()).unwrap_or("unknown")
}
