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

    /// What is asked of two domains served here (POL-08): nothing of channel and proof.
    pub fn inside(hosted: &'a Domain, remote: &'a Domain, direction: Direction) -> Self {
        let (identity, tls, key) = (Identity::Inside, Tls::V13, ShownKey::Unknown);
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

/// The types of stanzas, as cases name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StanzaType {
    /// Of a message.
    Chat,
    /// Of each kind: it answers something.
    Error,
    /// An iq that asks.
    Get,
    /// Of a message in a room.
    Groupchat,
    /// Of a message.
    Headline,
    /// Of a message, as where no type stands.
    Normal,
    /// Of presence: a server asks for it.
    Probe,
    /// An iq that answers.
    Result,
    /// An iq that changes something.
    Set,
    /// Of presence: somebody asks for a subscription.
    Subscribe,
    /// Of presence.
    Subscribed,
    /// Of presence: somebody is no longer there.
    Unavailable,
    /// Of presence.
    Unsubscribe,
    /// Of presence.
    Unsubscribed,
}

impl StanzaType {
    /// Those of a kind, with the words for them.
    pub const fn of(kind: StanzaKind) -> &'static [(&'static str, StanzaType)] {
        match kind {
            StanzaKind::Iq => {
                &[("get", Self::Get), ("set", Self::Set), ("result", Self::Result), ("error", Self::Error)]
            }
            StanzaKind::Message => &[
                ("chat", Self::Chat),
                ("error", Self::Error),
                ("groupchat", Self::Groupchat),
                ("headline", Self::Headline),
                ("normal", Self::Normal),
            ],
            StanzaKind::Presence => &[
                ("error", Self::Error),
                ("probe", Self::Probe),
                ("subscribe", Self::Subscribe),
                ("subscribed", Self::Subscribed),
                ("unavailable", Self::Unavailable),
                ("unsubscribe", Self::Unsubscribe),
                ("unsubscribed", Self::Unsubscribed),
            ],
        }
    }
}

/// A stanza that is supposed, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supposed<'a> {
    /// Its kind.
    pub kind: Option<StanzaKind>,
    /// Its type; none: no type stands there, and of an iq it is not known.
    pub type_: Option<StanzaType>,
    /// The namespace of its payload.
    pub payload: Option<&'a str>,
    /// Whether its addressee has a resource, as an occupant of a room has.
    pub directed: bool,
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

impl Identity {
    /// The word for the proof, as rules and records have it; none where there is none, or none is asked.
    pub const fn proof(self) -> Option<&'static str> {
        match self {
            Self::Unproven | Self::Absent | Self::Inside => None,
            Self::Dialback => Some("dialback"),
            Self::Posh => Some("posh"),
            Self::Certificate => Some("certificate"),
            Self::Dane => Some("dane"),
            Self::Pin => Some("pin"),
        }
    }
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
