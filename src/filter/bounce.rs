//! Stanza errors to send back.

use bytes::Bytes;

use crate::reason::{Reason, StanzaCondition};
use crate::xml::{Head, Kind, escape_attr, names};

/// The error for this stanza for this reason, addressed to its sender (RLY-10): addresses swapped, kind and id kept, no payload, nothing
/// that tells one account from another (RLY-11). None for what is no stanza.
pub fn error_stanza(head: &Head, reason: Reason, condition: StanzaCondition) -> Option<Bytes> {
    let name = match head.kind() {
        Kind::Iq => "iq",
        Kind::Message => "message",
        Kind::Presence => "presence",
        Kind::Other => return None,
    };
    let mut text = format!("<{name} type='error'");
    for (key, value) in [("id", head.id()), ("to", head.from()), ("from", head.to())] {
        if let Some(value) = value {
            text += &format!(" {key}='{}'", escape_attr(&value));
        }
    }
    text += &format!(
        "><error type='{}'><{} xmlns='{}'/></error></{name}>",
        kind(reason, condition),
        condition.name(),
        names::STANZA_ERRORS
    );
    Some(text.into())
}

const fn kind(reason: Reason, condition: StanzaCondition) -> &'static str {
    match (reason, condition) {
        // LIM-04: what the sender can mend by sending later.
        (Reason::SenderTooFast | Reason::TooManyRecipients, _) => "wait",
        // SM-09, C2S: what the sender can mend by sending less.
        (_, StanzaCondition::PolicyViolation) => "modify",
        // DB-52: told as final, for the peer has said no.
        (_, StanzaCondition::InternalServerError) => "cancel",
        (_, other) => other.kind(),
    }
}
