//! A stanza on its way, and who sends it as the limits of each address count it: domains and octets of the stanza itself, which is
//! not copied.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::jid::Domain;
use crate::policy::{Counted, Quarantine};

/// One whole stanza in canonical form, on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Passing {
    /// The stanza.
    pub octets: Bytes,
    /// Whose it is, where that is limited: it goes if the sender has not sent too much lately; else it goes nowhere, and comes back
    /// with [`super::Input::Refused`].
    pub sender: Option<Sender>,
}

impl From<Bytes> for Passing {
    /// A stanza that nobody's limits are asked about.
    fn from(octets: Bytes) -> Self {
        Self { octets, sender: None }
    }
}

/// Who sends a stanza to whom, for the limits that are each address's own (LIM-04, LIM-08).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sender {
    /// The remote domain.
    pub domain: Domain,
    /// The bare address there.
    pub address: AddressText,
    /// The full address there, where that is one of many who share the bare one: presence, and what is said in a room.
    pub occupant: Option<AddressText>,
    /// The bare address here.
    pub recipient: AddressText,
    /// Whether it asks for a subscription to presence.
    pub subscribes: bool,
    /// As what it counts where the domain is in quarantine.
    pub held: Option<HeldStanza>,
}

/// A stanza of a domain in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldStanza {
    /// As what it counts.
    pub counted: Counted,
    /// By what bounds.
    pub bounds: Arc<Quarantine>,
}

/// An address of a stanza.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddressText {
    /// It is not spelt like this in it.
    Apart(Box<str>),
    /// These octets of it.
    Within(Range<usize>),
}

impl AddressText {
    /// What it is in this stanza.
    pub fn of<'a>(&'a self, stanza: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Apart(words) => words.as_bytes(),
            Self::Within(range) => stanza.get(range.clone()).unwrap_or_default(),
        }
    }
}
