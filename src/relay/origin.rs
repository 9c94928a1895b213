//! How stanzas come back that cannot go on: to whom, over which stream, and in which words.
//!
//! Who sent a stanza from inside reads why; the world reads the condition alone (POL-05).

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;

use super::event::Event;
use super::turn::Turn;
use super::{Effect, Passing, RelayParams};
use crate::filter;
use crate::jid::{Domain, Jid};
use crate::reason::{Class, Direction, Reason, Why};
use crate::stream::Pair;
use crate::xml::{Content, Frame, Framer, Head, Kind, Limits, Token};

/// Where the stanzas of a relay come from, and so how errors about them go back.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// Which way they travel.
    pub(super) direction: Direction,
    /// The stream of a backend that they came on; none where couriers carry them.
    pub(super) caller: Option<Caller<'a>>,
}

/// A backend that has called.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) address: IpAddr,
    /// The domain that its header came from.
    pub(super) named: Option<&'a Domain>,
}

impl Origin<'_> {
    /// What was told already is answered, if it may be (RLY-09, DB-70).
    pub(super) fn answered(self, head: &Head, why: &Why, turn: &mut Turn<'_>) {
        if filter::is_answerable(head, why.reason)
            && let Some(answer) = self.answer(head, why, None, turn.relays)
        {
            turn.push(answer);
        }
    }

    /// The stanza goes back to its sender as an error, with what the operator has written for those in the world who read it; the
    /// other way is another stream, so a courier takes it. Only for what may be answered.
    pub(super) fn bounce_with(self, head: &Head, why: &Why, words: Option<&str>, turn: &mut Turn<'_>) {
        self.note_refused(head, why.reason, turn);
        if let Some(answer) = self.answer(head, why, words, turn.relays) {
            turn.push(answer);
        }
    }

    /// The stanza goes back to its sender as an error, if it may be answered at all (RLY-09, DB-70).
    pub(super) fn sent_back(self, head: &Head, why: &Why, turn: &mut Turn<'_>) {
        self.sent_back_with(head, why, None, turn);
    }

    /// The same, with what the operator has written for those in the world who read it.
    pub(super) fn sent_back_with(self, head: &Head, why: &Why, words: Option<&str>, turn: &mut Turn<'_>) {
        match filter::is_answerable(head, why.reason) {
            true => self.bounce_with(head, why, words, turn),
            false => self.note_refused(head, why.reason, turn),
        }
    }

    /// A stanza that cannot be delivered goes back, once.
    pub(super) fn undeliverable(self, octets: &Bytes, why: &Why, turn: &mut Turn<'_>) {
        if let Some(frame) = reread(octets) {
            self.sent_back(frame.head(), why, turn);
        }
    }

    /// A stanza that its sender may not send now (LIM-04). Presence is not even answered (DB-70), nor a request for a
    /// subscription (LIM-08): a room would hear as many errors as it has occupants.
    pub(super) fn too_much(self, head: &Head, reason: Reason, turn: &mut Turn<'_>) {
        match head.kind() == Kind::Presence && reason.is_of_sender() {
            true => self.note_refused(head, reason, turn),
            false => self.sent_back(head, &reason.into(), turn),
        }
    }

    /// The error stanza that its sender gets.
    fn answer(self, head: &Head, why: &Why, said: Option<&str>, relays: &RelayParams) -> Option<Effect> {
        let reason = why.reason;
        let pair = pair_of(head)?;
        let (id, from, to) = (head.id(), canonical(head.to()), canonical(head.from()));
        let answer =
            filter::ErrorReply { id: id.as_deref(), from: from.as_deref(), to: to.as_deref(), text: said };
        if self.direction == Direction::Inbound {
            let stanza = answer.write(head.kind(), reason, reason.stanza_condition())?;
            return Some(Effect::Carry(pair.reversed(), stanza.into()));
        }
        let words = if !relays.explain {
            NEUTRAL.to_owned()
        } else if reason.is(Class::MissingLine) {
            let name = &pair.sender;
            format!(
                "{name}: {}: the operator of the gateway is missing `- name: {name}` under `domains:` ({})",
                reason.words(),
                reason.label()
            )
        } else if reason.is(Class::Misnamed) {
            // No line is missing: it is the name that is wrong there.
            format!("{}: {}", pair.sender, why.for_users())
        } else {
            format!("{}: {}", pair.target, why.for_users())
        };
        let answer = filter::ErrorReply { text: Some(&words), ..answer };
        let stanza = answer.write(head.kind(), reason, reason.backend_condition())?;
        self.way_back(&pair, stanza.into(), relays)
    }

    /// How an error about a stanza of this pair goes back. What a backend has sent in a name that is not its own goes back to that
    /// backend or nowhere: whoever has the name has sent nothing.
    pub(super) fn way_back(self, pair: &Pair, stanza: Passing, relays: &RelayParams) -> Option<Effect> {
        match self.direction {
            Direction::Inbound => Some(Effect::Carry(pair.reversed(), stanza)),
            Direction::Outbound => {
                let via = self.backend_of(pair, relays)?;
                Some(Effect::Report { pair: pair.reversed(), via, stanza: stanza.octets })
            }
        }
    }

    /// The hosted domain whose backend has sent this: reports go there (DB-69).
    pub(super) fn backend_of(self, pair: &Pair, relays: &RelayParams) -> Option<Domain> {
        let hears_of = |domain: &Domain| relays.hears_of(domain, self.caller.map(|caller| caller.address));
        if hears_of(&pair.sender) {
            return Some(pair.sender.clone());
        }
        let caller = self.caller?;
        if let Some(named) = caller.named.filter(|named| hears_of(named)) {
            return Some(named.clone());
        }
        let callers = relays.hosted.keys().filter(|domain| relays.calls_from(domain, caller.address));
        // A component lies below its server's domain, or beside it.
        let related = |domain: &&Domain| {
            pair.sender.is_below(domain) || domain.parent().is_some_and(|p| Some(p) == pair.sender.parent())
        };
        callers.clone().find(related).or_else(|| callers.clone().next()).cloned()
    }

    pub(super) fn note_refused(self, head: &Head, reason: Reason, turn: &mut Turn<'_>) {
        let pair = pair_of(head);
        let hosted = self.hosted(pair.as_ref(), turn.relays);
        turn.note(Event::Refused { pair, hosted, reason });
    }

    /// Our side of a pair, if it is ours.
    pub(super) fn hosted(self, pair: Option<&Pair>, relays: &RelayParams) -> Option<Domain> {
        let (hosted, _) = pair?.sides(self.direction);
        Some(hosted).filter(|domain| relays.hosts(domain)).cloned()
    }
}

/// What own users read where they are not to read why.
pub(super) const NEUTRAL: &str = "this could not be delivered";

/// An address with its domain as we write it: on the stream that an error takes, which was proven for that name, no other passes.
pub(super) fn canonical(address: Option<Cow<'_, str>>) -> Option<Cow<'_, str>> {
    address.map(|text| match Jid::parse(&text) {
        Ok(jid) => Cow::Owned(jid.to_string()),
        Err(_) => text,
    })
}

/// The two domains of a stanza, if both are domains.
pub(super) fn pair_of(head: &Head) -> Option<Pair> {
    pair_between(&head.from()?, &head.to()?)
}

/// The domains of these two addresses, if both are domains.
pub(super) fn pair_between(from: &str, to: &str) -> Option<Pair> {
    let domain = |text: &str| -> Option<Domain> {
        if let Ok(jid) = Jid::parse(text) {
            return Some(jid.to_domain());
        }
        let bare = text.split_once('/').map_or(text, |(bare, _)| bare);
        Domain::parse(bare.split_once('@').map_or(bare, |(_, domain)| domain)).ok()
    };
    Some(Pair { sender: domain(from)?, target: domain(to)? })
}

/// A stanza that we wrote or passed, read once more; only on the way back, never on the way there. It kept its budgets when
/// it came, and may be longer now: the canonical form of a CDATA section is.
pub(super) fn reread(octets: &Bytes) -> Option<Frame> {
    let mut framer = Framer::new(Limits::boundless(), Content::Server);
    framer.feed(&crate::stream::opening(None, None, None, true));
    framer.feed(octets);
    std::iter::from_fn(|| framer.next()).find_map(|token| match token {
        Token::Element(frame) => Some(frame),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // XML-19, DB-69: what a server behind may send, several times what the world may, comes back whole when it cannot be delivered.
    #[test]
    fn a_stanza_that_came_within_its_limits_is_read_once_more_whatever_those_are() {
        let inside = Limits::inside();
        let body = "\"".repeat(inside.element - 100);
        let deep = format!("{}{}", "<a>".repeat(inside.depth - 1), "</a>".repeat(inside.depth - 1));
        let many = "<a/>".repeat(inside.nodes - 1);
        for content in [format!("<body>{body}</body>"), deep, many] {
            let octets = format!("<message from='a@hall.example' to='b@friend.example'>{content}</message>");
            let frame = reread(&Bytes::from(octets)).unwrap();
            assert_eq!(frame.head().from().as_deref(), Some("a@hall.example"));
        }
    }
}
