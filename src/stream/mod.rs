//! The protocol chamber: both roles of a stream, state by state, and what proves a domain.
//!
//! [`receiving::Receiving`] is the entity that was called, [`initiating::Initiating`] the one that calls. Each is an enum
//! with one struct per state; a step consumes the state, a fault consumes the stream. Nothing here knows policy, a peer's
//! address or the time: rulings, facts and `now` come in. [`proof::Proof`] is made in `proof` and nowhere else.

pub mod client;
pub mod dane;
pub mod dialback;
pub mod evidence;
pub mod fault;
pub mod features;
pub mod identity;
pub mod initiating;
pub mod keyring;
pub mod management;
pub mod proof;
pub mod receiving;
pub mod sasl;
pub mod secured;

pub use fault::Fault;
pub use initiating::Initiating;
pub use keyring::{Clock, Keyring, Keyrings};
pub use proof::Proof;
pub use receiving::Receiving;
pub use secured::{
    Certificate, Chain, ChannelFacts, PresentedName, RevocationCheck, Root, Secured, TlsVersion, Trust,
    TrustFault,
};

use std::fmt;

use aws_lc_rs::hmac;

use crate::jid::Domain;
use crate::reason::{Direction, Reason};
use crate::xml::{Content, Header};

/// Sender domain and target domain, in this order (XEP-0220): who speaks, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The domain that the stanzas come from.
    pub sender: Domain,
    /// The domain that they go to.
    pub target: Domain,
}

impl Pair {
    /// The pair of the answers: the same two domains the other way round.
    pub fn reversed(&self) -> Self {
        Self { sender: self.target.clone(), target: self.sender.clone() }
    }

    /// Whether both are domain names. Only what a server behind has written may be none ([`Domain::as_spelt`]).
    pub fn is_of_names(&self) -> bool {
        self.sender.is_name() && self.target.is_name()
    }

    /// The hosted and the remote domain of a pair whose stanzas travel that way.
    pub fn sides(&self, direction: Direction) -> (&Domain, &Domain) {
        match direction {
            Direction::Inbound => (&self.target, &self.sender),
            Direction::Outbound => (&self.sender, &self.target),
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}", self.sender, self.target)
    }
}

/// How a domain was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// It came from the backend's own network, for a domain of that backend.
    Backend,
    /// The certificate of this TLS session speaks for it.
    Certificate,
    /// The certificate of this TLS session is one that its domain names in the DNS, under signatures.
    Dane,
    /// Its authoritative server knew the key.
    Dialback,
    /// The certificate of this TLS session holds a key that policy pins for it.
    Pin,
    /// The certificate of this TLS session is one that its domain names in a file, by HTTPS.
    Posh,
}

impl Method {
    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Certificate => "certificate",
            Self::Dane => "dane",
            Self::Dialback => "dialback",
            Self::Pin => "pin",
            Self::Posh => "posh",
        }
    }
}

/// A dialback key as asked about: sender and target as in the pair, the id of the stream it was sent on (XEP-0220 2.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyCheck {
    /// Who claims to speak, and to whom.
    pub pair: Pair,
    /// The stream id that the receiving server issued.
    pub stream: String,
    /// The key, unchanged.
    pub key: String,
}

/// What became of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAnswer {
    /// The authoritative server knows the key.
    Valid,
    /// It does not.
    Invalid,
    /// It could not be asked, or did not answer.
    Trouble(Reason),
}

/// Stream ids that nobody can guess or sees twice: 128 bits of an HMAC of a counter under a seed from above (STR-05).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamIds {
    seed: [u8; 32],
    issued: u64,
}

impl StreamIds {
    /// Ids from this seed, which must be random and used once.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, issued: 0 }
    }

    /// Ids of another kind from the same seed: none of them is one of the others.
    pub fn apart(seed: [u8; 32]) -> Self {
        Self { seed, issued: 1 << 63 }
    }

    /// The next id.
    pub fn issue(&mut self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.seed);
        let tag = hmac::sign(&key, &self.issued.to_be_bytes());
        self.issued = self.issued.saturating_add(1);
        keyring::hex(tag.as_ref().get(..16).unwrap_or_default())
    }
}

/// A stream header of ours between servers. It declares the dialback namespace with the prefix that old servers look for
/// (STR-13); with a version it is one of RFC 6120, without one a header of the servers before it (STR-10).
pub fn opening(from: Option<&Domain>, to: Option<&Domain>, id: Option<&str>, modern: bool) -> Vec<u8> {
    let header = Header {
        from: from.map(Domain::as_str),
        to: to.map(Domain::as_str),
        id,
        version: modern.then_some((1, 0)),
        // RLY-07: one language on every far stream, so that only stanzas of streams with another one need it written on.
        lang: Some(LANGUAGE),
        dialback: true,
        ..Header::new(Content::Server)
    };
    header.write_open()
}

/// The `xml:lang` of every stream header of ours.
pub const LANGUAGE: &str = "en";
