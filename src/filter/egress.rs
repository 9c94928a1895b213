//! What a rule keeps from leaving (`egress:`, RLY-22): chat states, places, moods, pictures, clients' names and times.
//!
//! What a stanza has to say beside that goes on. One that has nothing else to say stays inside whole, as if it had never
//! been sent; an answer becomes the error of a server that does not know of such things. Only what somebody waits for who
//! must learn better is refused: joining a room, and writing what does not leave into another server.

use bytes::Bytes;

use super::bounce::ErrorReply;
use crate::policy::{Egress, Presence};
use crate::reason::{Reason, StanzaCondition};
use crate::xml::{Child, Edits, Element, Head, Kind, names};

/// What of a stanza leaves.
pub(super) enum Leaves {
    /// All of it.
    Whole,
    /// What is left without these children.
    Without(Vec<usize>),
    /// Nothing, and nobody is told.
    Nothing,
    /// An error in its place, with this condition.
    Error(StanzaCondition),
    /// Nothing, and its sender is told.
    Refused,
}

/// What of this stanza leaves.
pub(super) fn judge(head: &Head, egress: &Egress) -> Leaves {
    match head.kind() {
        Kind::Iq => iq(head, egress),
        Kind::Message => message(head, egress),
        Kind::Presence => presence(head, egress),
        Kind::Other => Leaves::Whole,
    }
}

/// The error that leaves in place of an answer, from and to the same addresses.
pub(super) fn answer(head: &Head, edits: Option<&Edits>, condition: StanzaCondition) -> Option<Bytes> {
    let (id, from, to) = (head.id(), head.from(), head.to());
    let from = edits.and_then(|edits| edits.from.as_deref()).or(from.as_deref());
    let to = edits.and_then(|edits| edits.to.as_deref()).or(to.as_deref());
    let answer = ErrorReply { id: id.as_deref(), from, to, text: None };
    answer.write(head.kind(), Reason::KeptInside, condition)
}

/// A question tells nothing; an answer does, and so does what is written into another server.
fn iq(head: &Head, egress: &Egress) -> Leaves {
    let Some(child) = head.children().find(|child| is_kept(child, egress)) else { return Leaves::Whole };
    if head.is_type("set") {
        return Leaves::Refused;
    }
    match (head.is_type("result"), child.namespace()) {
        (false, _) => Leaves::Whole,
        // XEP-0060 6.5.9: a node that does not exist.
        (true, names::PUBSUB) => Leaves::Error(StanzaCondition::ItemNotFound),
        (true, _) => Leaves::Error(StanzaCondition::ServiceUnavailable),
    }
}

fn message(head: &Head, egress: &Egress) -> Leaves {
    let cut = which(head, |child| is_kept(child, egress));
    if cut.is_empty() {
        return Leaves::Whole;
    }
    let mut rest = head.children().enumerate().filter(|(index, _)| !cut.contains(index));
    match head.is_type("error") || rest.any(|(_, child)| says_something(&child)) {
        true => Leaves::Without(cut),
        false => Leaves::Nothing,
    }
}

fn presence(head: &Head, egress: &Egress) -> Leaves {
    let unavailable = head.is_type("unavailable");
    let says_who_is_there = unavailable || head.type_().is_none();
    if says_who_is_there && egress.presence() == Presence::None {
        // Who was in a room before the rule came may still leave it.
        let directed = head.to().is_some_and(|to| to.contains('/'));
        let joins = head.children().any(|child| child.namespace() == names::ROOMS);
        match (unavailable && directed, joins) {
            (true, _) => {}
            (false, true) => return Leaves::Refused,
            (false, false) => return Leaves::Nothing,
        }
    }
    let plain = egress.presence() != Presence::Full;
    // Who asks for a subscription says so in `status` (RFC 6121, 3.1.1); of other types it is what it is without one.
    let stays = |child: &Child<'_>| match says_who_is_there {
        true => child.is_named("show") || child.is_named("priority"),
        false => child.is_named("error") || (head.is_type("subscribe") && child.is_named("status")),
    };
    let cut = which(head, |child| match child.namespace() {
        names::SERVER | names::CLIENT => plain && !stays(child),
        namespace => egress.cuts_of_presence(namespace) || is_kept(child, egress),
    });
    if cut.is_empty() { Leaves::Whole } else { Leaves::Without(cut) }
}

fn which(head: &Head, is: impl Fn(&Child<'_>) -> bool) -> Vec<usize> {
    head.children().enumerate().filter(|(_, child)| is(child)).map(|(index, _)| index).collect()
}

/// Whether this child is kept: by its own namespace, or because it carries items of a kept node, or kept items.
fn is_kept(child: &Child<'_>, egress: &Egress) -> bool {
    egress.cuts(child.namespace())
        || (matches!(child.namespace(), names::PUBSUB | names::PUBSUB_EVENT)
            && carries_kept(&child.tree(), egress))
}

/// XEP-0060: what is done with which node, and in it items, each around one payload.
fn carries_kept(pubsub: &Element, egress: &Egress) -> bool {
    pubsub.elements().any(|deed| {
        deed.attr("node").is_some_and(|node| egress.cuts(node))
            || deed.elements().flat_map(Element::elements).any(|payload| egress.cuts(&payload.namespace))
    })
}

/// Whether a message with this child, and with nothing else but what is kept, is worth sending.
fn says_something(child: &Child<'_>) -> bool {
    match child.namespace() {
        names::SERVER | names::CLIENT => !child.is_named("thread"),
        names::HINTS | names::SID | names::DELAY | names::LEGACY_DELAY => false,
        ADDRESSES | SHIM => false,
        // An invitation, its refusal and a change of the room say something; the mark of a message among occupants does not.
        OF_OCCUPANTS => child.tree().elements().any(|said| said.name != "item"),
        _ => true,
    }
}

/// XEP-0033: for whom else it is, as an event is told by the server of whoever published it.
const ADDRESSES: &str = "http://jabber.org/protocol/address";

/// XEP-0131: headers, which with an event name the collection that it came by.
const SHIM: &str = "http://jabber.org/protocol/shim";

/// XEP-0045.
const OF_OCCUPANTS: &str = "http://jabber.org/protocol/muc#user";

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
