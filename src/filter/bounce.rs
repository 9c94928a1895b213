//! Stanza errors to send back.

use bytes::Bytes;

use crate::reason::{Class, Reason, StanzaCondition};
use crate::xml::{Head, Kind, escape_attr, escape_text, names};

/// Whether a stanza that does not pass may be answered (RLY-09, DB-70). Presence to a bare address is only where the cause is
/// lasting: jabberd2 sends a contact whose presence came back no further presence in that session.
pub fn is_answerable(head: &Head, reason: Reason) -> bool {
    let is = |types: &[&str]| types.iter().any(|t| head.is_type(t));
    match head.kind() {
        Kind::Iq => !is(&["error", "result"]),
        Kind::Message => !is(&["error"]),
        Kind::Presence if is(&["error", "probe", "unavailable", "subscribed", "unsubscribed"]) => false,
        Kind::Presence if head.type_().is_some() => true,
        Kind::Presence => reason.is_lasting() || head.to().is_some_and(|to| to.contains('/')),
        Kind::Other => false,
    }
}

/// An error about a stanza, addressed to its sender (RLY-10): addresses swapped, kind and id kept, no payload, nothing that tells one
/// account from another (RLY-11). Its words that come from that stanza, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct ErrorReply<'a> {
    /// The id of that stanza.
    pub id: Option<&'a str>,
    /// Who says it: the addressee of that stanza.
    pub from: Option<&'a str>,
    /// Who hears it.
    pub to: Option<&'a str>,
    /// In words for people.
    pub text: Option<&'a str>,
}

impl ErrorReply<'_> {
    /// The error stanza. None for what is no stanza.
    pub fn write(&self, stanza: Kind, reason: Reason, condition: StanzaCondition) -> Option<Bytes> {
        let name = match stanza {
            Kind::Iq => "iq",
            Kind::Message => "message",
            Kind::Presence => "presence",
            Kind::Other => return None,
        };
        let mut out = format!("<{name} type='error'");
        for (key, value) in [("id", self.id), ("to", self.to), ("from", self.from)] {
            if let Some(value) = value {
                out += &format!(" {key}='{}'", escape_attr(value));
            }
        }
        out += &format!(
            "><error type='{}'><{} xmlns='{}'/>",
            kind(reason, condition),
            condition.name(),
            names::STANZA_ERRORS
        );
        if let Some(text) = self.text {
            let text = escape_text(text);
            out += &format!("<text xmlns='{}' xml:lang='en'>{text}</text>", names::STANZA_ERRORS);
        }
        if reason.is_too_big() {
            out += &format!("<stanza-too-big xmlns='{}'/>", names::ERRORS_APP);
        }
        out += &format!("</error></{name}>");
        Some(out.into())
    }
}

const fn kind(reason: Reason, condition: StanzaCondition) -> &'static str {
    match (reason, condition) {
        // LIM-04: what the sender can mend by sending later.
        _ if reason.is(Class::Later) => "wait",
        // SM-09, C2S: what the sender can mend by sending less.
        (_, StanzaCondition::PolicyViolation) => "modify",
        // JID-06, XML-17: or by writing it otherwise.
        (_, StanzaCondition::NotAcceptable) if reason.is_unfit() => "modify",
        // DB-52: told as final, for the peer has said no.
        (_, StanzaCondition::InternalServerError) => "cancel",
        (_, other) => other.kind(),
    }
}
