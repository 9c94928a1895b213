//! What policy is asked: plain data of its own, filled in by others.

use std::net::IpAddr;

use super::pins::ShownKey;
use crate::jid::Domain;
use crate::reason::{Direction, Flow};

/// A question to [`super::Policy::judge`].
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// May a connection from this address go on at all?
    Arrive(Arrive),
    /// May these two domains federate, like this?
    Federate(Federate<'a>),
}

/// A connection at the door, before its first octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrive {
    /// The flow of the listener.
    pub flow: Flow,
    /// The peer's address, from the PROXY header where there is one.
    pub address: IpAddr,
}

/// A pair of domains, and what is known of the channel between them.
///
/// Asked twice: before any cost is spent, with [`Identity::Unproven`], and again with the proof in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Federate<'a> {
    /// The domain that is served here.
    pub hosted: &'a Domain,
    /// The other domain.
    pub remote: &'a Domain,
    /// Which way the stanzas travel.
    pub direction: Direction,
    /// How the remote domain was proved.
    pub identity: Identity,
    /// The channel.
    pub tls: Tls,
    /// The address of the remote server, once it is known.
    pub address: Option<IpAddr>,
    /// The key of the certificate that the remote server showed.
    pub key: ShownKey,
}

impl<'a> Federate<'a> {
    /// What is asked of two domains while nothing is known of channel and proof.
    pub fn of(hosted: &'a Domain, remote: &'a Domain, direction: Direction) -> Self {
        let (identity, tls, key) = (Identity::Unproven, Tls::Unknown, ShownKey::Unknown);
        Self { hosted, remote, direction, identity, tls, address: None, key }
    }
}

/// The kinds of stanza, as rules know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StanzaKind {
    /// `<iq/>`
    Iq,
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
}

impl StanzaKind {
    /// Every kind.
    pub const ALL: &'static [StanzaKind] = &[Self::Iq, Self::Message, Self::Presence];

    /// The element name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Iq => "iq",
            Self::Message => "message",
            Self::Presence => "presence",
        }
    }
}

/// How a remote domain was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// Not yet; the question is asked before any cost is spent. Denied is only what no proof, channel or address could mend
    /// (POL-06: an unproven name may be used to refuse; the later question grants).
    Unproven,
    /// Not at all, and there is no more to come. No rule takes it.
    Absent,
    /// By dialback (XEP-0220).
    Dialback,
    /// By a certificate that the domain names in a file, by HTTPS (RFC 7711).
    Posh,
    /// By a certificate that speaks for the domain.
    Certificate,
    /// By a certificate that the domain names in the DNS, under signatures.
    Dane,
    /// By a key that the rule pins, and by nothing besides.
    Pin,
    /// It is a domain of another backend of ours (POL-08): nothing of the channel or the proof is asked.
    Inside,
}

/// The channel between the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tls {
    /// Not connected yet. Enough for an unproven question only.
    Unknown,
    /// In clear.
    None,
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}
