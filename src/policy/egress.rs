//! `egress:` of a rule: what of the lives of our users does not leave with their stanzas.
//!
//! It is about the direction outbound alone. What is kept inside is named by namespace, so that it can be said of one
//! payload, offline, whether it leaves: [`super::Verdict::for_stanza`] answers `kept-inside` if it does not.

use std::collections::BTreeSet;

use super::question::{StanzaKind, StanzaType, Supposed};

/// How much of presence leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Presence {
    /// As it is.
    #[default]
    Full,
    /// Whether somebody is there, `show` and `priority`; what is needed in rooms stays, too.
    Plain,
    /// Nothing that says whether somebody is there. Subscriptions are another matter.
    None,
}

/// What does not leave. Default: everything leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Egress {
    pub(super) cut: BTreeSet<String>,
    pub(super) presence: Presence,
    pub(super) client_info: bool,
}

/// Answers about the program and the clock of a user: software version (XEP-0092), time (XEP-0202, XEP-0090) and last
/// activity (XEP-0012), and since when somebody is idle (XEP-0319).
const CLIENT_INFO: [&str; 5] =
    ["jabber:iq:version", "urn:xmpp:time", "jabber:iq:time", "jabber:iq:last", "urn:xmpp:idle:1"];

/// What presence towards or from a room cannot do without (XEP-0045, XEP-0421).
const OF_ROOMS: [&str; 3] =
    ["http://jabber.org/protocol/muc", "http://jabber.org/protocol/muc#user", "urn:xmpp:occupant-id:0"];

impl Egress {
    /// How much of presence leaves.
    pub fn presence(&self) -> Presence {
        self.presence
    }

    /// Whether what has this name, a namespace or a node of personal eventing, is cut by name.
    pub fn cuts(&self, name: &str) -> bool {
        self.cut.contains(name) || (self.client_info && CLIENT_INFO.contains(&name))
    }

    /// Whether presence leaves without a payload of this namespace, which is not that of stanzas themselves.
    pub fn cuts_of_presence(&self, namespace: &str) -> bool {
        self.cuts(namespace) || (self.presence != Presence::Full && !OF_ROOMS.contains(&namespace))
    }

    /// Whether nothing of that kind and type, or no such payload, leaves.
    pub fn keeps(&self, stanza: &Supposed<'_>) -> bool {
        let says_who_is_there = match stanza.type_ {
            None => true,
            // Who was in a room may leave it.
            Some(StanzaType::Unavailable) => !stanza.directed,
            Some(_) => false,
        };
        let silent = self.presence == Presence::None && says_who_is_there;
        match (stanza.kind, stanza.payload) {
            (Some(StanzaKind::Presence), Some(namespace)) => silent || self.cuts_of_presence(namespace),
            (Some(StanzaKind::Presence), None) => silent,
            // A question tells nothing, and neither does what is wrong with one; an answer does.
            (Some(StanzaKind::Iq), _)
                if matches!(stanza.type_, Some(StanzaType::Get | StanzaType::Error)) =>
            {
                false
            }
            (_, Some(namespace)) => self.cuts(namespace),
            (_, None) => false,
        }
    }
}
