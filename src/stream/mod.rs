//! The protocol chamber: both roles of a stream, state by state, and what proves a domain.
//!
//! [`receiving::Receiving`] is the entity that was called, [`initiating::Initiating`] the one that calls. Each is an enum
//! with one struct per state; a step consumes the state, a fault consumes the stream. Nothing here knows policy, a peer's
//! address or the time: rulings, facts and `now` come in. [`proof::Proof`] is made in `proof` and nowhere else.

pub mod identity;
pub mod secured;

pub use secured::{Secured, TlsVersion};

use std::fmt;

use crate::jid::Domain;
use crate::reason::Reason;

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
    /// Its authoritative server knew the key.
    Dialback,
}

impl Method {
    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Certificate => "certificate",
            Self::Dialback => "dialback",
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
pub enum Answer {
    /// The authoritative server knows the key.
    Valid,
    /// It does not.
    Invalid,
    /// It could not be asked, or did not answer.
    Trouble(Reason),
}
