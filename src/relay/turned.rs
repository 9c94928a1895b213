//! What becomes of a stanza that is legal XML and may not pass: over a limit of ours or of the receiving server, or with
//! something in it that servers read differently (requirements XML-17, XML-18, JID-06).
//!
//! It alone comes back, and its stream goes on. Rooms must lose nobody over it: no presence is answered but a request for a
//! subscription, and no condition is used for which rooms expel.

use std::borrow::Cow;

use bytes::Bytes;

use super::event::Event;
use super::origin::{NEUTRAL, Origin, canonical, pair_of};
use super::turn::Turn;
use super::{AddressText, Effect, Passing, RelayParams, Sender, Takes};
use crate::filter::ErrorReply;
use crate::jid::{Domain, Jid};
use crate::reason::{Direction, Reason};
use crate::stream::Pair;
use crate::xml::{Edits, Frame, Head, Kind, RefusedStanza, escape_attr, names};

/// What becomes of a stanza that does not pass, by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its sender hears it.
    Answered,
    /// Nobody does.
    Dropped,
    /// Whoever waits for it hears that it does not come: an error of the same id goes on in its place.
    Replaced,
}

/// XML-17, DB-70.
pub(super) fn fate(kind: Kind, type_: Option<&str>) -> Fate {
    match (kind, type_) {
        (Kind::Message, Some("error")) => Fate::Dropped,
        (Kind::Message, _) | (Kind::Iq, Some("get" | "set")) | (Kind::Presence, Some("subscribe")) => {
            Fate::Answered
        }
        (Kind::Iq, Some("result")) => Fate::Replaced,
        (Kind::Iq | Kind::Presence | Kind::Other, _) => Fate::Dropped,
    }
}

/// A stanza that does not pass, and why.
#[derive(Clone)]
pub(super) struct Turned<'a> {
    pub(super) kind: Kind,
    pub(super) from: Option<Cow<'a, str>>,
    pub(super) to: Option<Cow<'a, str>>,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) type_: Option<Cow<'a, str>>,
    pub(super) reason: Reason,
    /// The limit, and what was found.
    pub(super) measure: Option<(usize, usize)>,
    pub(super) octets: usize,
}

impl<'a> Turned<'a> {
    /// What the framer refused.
    pub(super) fn refused(refused: &'a RefusedStanza) -> Self {
        Self {
            kind: refused.kind(),
            from: refused.from().map(Cow::Borrowed),
            to: refused.to().map(Cow::Borrowed),
            id: refused.id().map(Cow::Borrowed),
            type_: refused.type_().map(Cow::Borrowed),
            reason: refused.why().reason(),
            measure: refused.why().measure(),
            octets: refused.octets(),
        }
    }

    /// What was not read, for it has more octets than this.
    pub(super) fn unread(most: usize) -> Self {
        let found = most.saturating_add(1);
        Self {
            kind: Kind::Other,
            from: None,
            to: None,
            id: None,
            type_: None,
            reason: Reason::OverStanza,
            measure: Some((most, found)),
            octets: found,
        }
    }

    /// What the receiving server does not take.
    pub(super) fn beyond(head: &'a Head, reason: Reason, measure: (usize, usize), octets: usize) -> Self {
        Self {
            kind: head.kind(),
            from: head.from(),
            to: head.to(),
            id: head.id(),
            type_: head.type_(),
            reason,
            measure: Some(measure),
            octets,
        }
    }

    /// What a patch refuses.
    pub(super) fn patched(head: &'a Head) -> Self {
        let octets = head.octets_len();
        Self { measure: None, ..Self::beyond(head, Reason::Patched, (0, 0), octets) }
    }

    /// What has no addresses that anything could be done with.
    pub(super) fn plain(head: &'a Head) -> Self {
        let octets = head.octets_len();
        Self { measure: None, ..Self::beyond(head, Reason::ImproperAddressing, (0, 0), octets) }
    }

    pub(super) fn fate(&self) -> Fate {
        fate(self.kind, self.type_.as_deref())
    }

    /// Why, in words for the one whose stanza it was.
    pub(super) fn words(&self) -> String {
        words(self.reason, self.measure)
    }

    /// The error from one address to another. XML-17: the text names the limit in words.
    pub(super) fn error(&self, from: Option<&str>, to: Option<&str>) -> Option<Bytes> {
        let text = self.words();
        let answer = ErrorReply { id: self.id.as_deref(), from, to, text: Some(&text) };
        answer.write(self.kind, self.reason, self.reason.stanza_condition())
    }
}

impl Turned<'_> {
    /// What goes on in its place where stanzas are counted (SM-02), between the same addresses: an answer becomes an error, a question
    /// one that nobody knows an answer to, so that whoever asked hears of it, and all else a message with nothing in it.
    pub(super) fn stand_in(&self) -> Bytes {
        let (from, to) = (self.from.as_deref(), self.to.as_deref());
        let asks = self.kind == Kind::Iq && matches!(self.type_.as_deref(), Some("get" | "set"));
        if self.kind == Kind::Iq
            && !asks
            && let Some(error) = self.error(from, to)
        {
            return error;
        }
        let (name, type_, id) = match asks {
            true => ("iq", self.type_.as_deref(), self.id.as_deref()),
            false => ("message", None, None),
        };
        let mut out = format!("<{name}");
        for (key, value) in [("type", type_), ("id", id), ("to", to), ("from", from)] {
            if let Some(value) = value {
                out += &format!(" {key}='{}'", escape_attr(value));
            }
        }
        match asks {
            true => out += &format!("><policy-violation xmlns='{}'/></{name}>", names::STANZA_ERRORS),
            false => out += "/>",
        }
        out.into()
    }
}

fn words(reason: Reason, measure: Option<(usize, usize)>) -> String {
    let (words, label) = (reason.words(), reason.label());
    match measure {
        Some((most, found)) => format!("{words}: {found}, and {most} is the most ({label})"),
        None => format!("{words} ({label})"),
    }
}

impl Origin<'_> {
    pub(super) fn note_unfit(self, turned: &Turned<'_>, pair: Option<&Pair>, turn: &mut Turn<'_>) {
        turn.note(Event::Unfit {
            pair: pair.cloned(),
            hosted: self.hosted(pair, turn.relays),
            reason: turned.reason,
            address: turned.from.as_deref().map(str::to_owned),
            measure: turned.measure,
            octets: turned.octets,
        });
    }

    /// This stanza of that pair goes no further. `instead` says how an error goes on in its place (XML-17), where it can.
    pub(super) fn turn_away(
        self,
        turned: &Turned<'_>,
        pair: &Pair,
        instead: impl FnOnce(Passing) -> Option<Effect>,
        turn: &mut Turn<'_>,
    ) {
        self.note_unfit(turned, Some(pair), turn);
        let (from, to) = (canonical(turned.from.clone()), canonical(turned.to.clone()));
        let (from, to) = (from.as_deref(), to.as_deref());
        let charged = |octets| self.charged(turned, pair, octets);
        let effect = match turned.fate() {
            Fate::Answered => turned
                .error(to.map(|to| spokesman(to, pair)), from)
                .and_then(|octets| self.way_back(pair, charged(octets), turn.relays)),
            Fate::Dropped => None,
            Fate::Replaced => turned.error(from, to).map(charged).and_then(instead),
        };
        if let Some(effect) = effect {
            turn.push(effect);
        }
    }

    /// JID-06: an address of this stanza is not clear; who is answered, if anybody can be.
    pub(super) fn unclear(self, head: &Head, answer: Option<&str>, address: String, turn: &mut Turn<'_>) {
        let pair = pair_of(head);
        let turned = Turned {
            from: Some(Cow::Owned(address)),
            octets: head.octets_len(),
            measure: None,
            ..Turned::beyond(head, Reason::JidMalformed, (0, 0), 0)
        };
        self.answer_apart(&turned, pair.as_ref(), answer, turn);
    }

    /// The same for a stanza that goes no further for that reason already.
    pub(super) fn answer_apart(
        self,
        turned: &Turned<'_>,
        pair: Option<&Pair>,
        answer: Option<&str>,
        turn: &mut Turn<'_>,
    ) {
        self.note_unfit(turned, pair, turn);
        let answered = turned.fate() == Fate::Answered && turned.kind != Kind::Presence;
        let Some((pair, answer)) = pair.zip(answer).filter(|_| answered) else { return };
        let to = canonical(turned.to.clone());
        if let Some(octets) = turned.error(to.as_deref().map(|to| spokesman(to, pair)), Some(answer)) {
            let sender = Turned { from: Some(Cow::Borrowed(answer)), ..turned.clone() };
            let charged = self.charged(&sender, pair, octets);
            self.way_back(pair, charged, turn.relays).into_iter().for_each(|effect| turn.push(effect));
        }
    }

    /// The error about a stanza of a backend whose addresses name no domain: who says it is whoever can be named on the stream of
    /// that pair, and it names the address.
    pub(super) fn error_in_name_of(
        self,
        turned: &Turned<'_>,
        pair: &Pair,
        (blamed, reason): (&str, Reason),
        relays: &RelayParams,
    ) -> Option<Bytes> {
        let words = match relays.explain {
            true if blamed.is_empty() => words(reason, None),
            true => format!("{blamed}: {}", words(reason, None)),
            false => NEUTRAL.to_owned(),
        };
        let (to, from) = (canonical(turned.from.clone()), canonical(turned.to.clone()));
        // As it is written, which may hide something, and as the server reads it; else the domain alone.
        let or_domain = |address: Option<Cow<'_, str>>, domain: &Domain| match address {
            Some(address)
                if Domain::as_spelt(&address).is_some_and(|spelt| {
                    spelt == *domain || Domain::as_read(&address).is_some_and(|read| read == *domain)
                }) =>
            {
                address.into_owned()
            }
            _ => domain.to_string(),
        };
        let (to, from) = (or_domain(to, &pair.sender), or_domain(from, &pair.target));
        let answer =
            ErrorReply { id: turned.id.as_deref(), from: Some(&from), to: Some(&to), text: Some(&words) };
        answer.write(turned.kind, reason, reason.backend_condition())
    }

    /// It counts as his who has caused it, and who sends too much hears nothing (LIM-09).
    fn charged(self, turned: &Turned<'_>, pair: &Pair, octets: Bytes) -> Passing {
        let sender = (self.direction == Direction::Inbound).then(|| sender(turned, pair));
        Passing { octets, sender }
    }
}

/// Who says that a stanza to this address of that pair was refused: the address itself, unless it is one in no system. Prosody and
/// ejabberd throw away in silence what comes from such, and its sender would hear nothing.
fn spokesman<'a>(to: &'a str, pair: &'a Pair) -> &'a str {
    match Jid::parse_rfc7622(to) {
        Ok(_) => to,
        Err(_) => pair.target.as_str(),
    }
}

/// XML-18: why the stanza, as it leaves for a server that takes so much, is more than that.
pub(super) fn excess(
    (most, takes): (usize, Takes),
    frame: &Frame,
    edits: Option<&Edits>,
    octets: usize,
) -> Option<(Reason, (usize, usize))> {
    let mut measure = frame.head().measure();
    measure.attributes += u32::from(edits.is_some_and(|edits| edits.lang.is_some()));
    takes.excess(most, octets, measure)
}

/// Who has caused it, as far as each address is limited (LIM-04).
fn sender(turned: &Turned<'_>, pair: &Pair) -> Sender {
    let whole = |address: &Option<Cow<'_, str>>| address.as_deref().unwrap_or_default().to_owned();
    let bare = |address| {
        let whole = whole(address);
        AddressText::Apart(whole.split_once('/').map_or(&*whole, |(bare, _)| bare).into())
    };
    let of_many = turned.kind == Kind::Message && turned.type_.as_deref() == Some("groupchat");
    Sender {
        domain: pair.sender.clone(),
        address: bare(&turned.from),
        occupant: of_many.then(|| AddressText::Apart(whole(&turned.from).into())),
        recipient: bare(&turned.to),
        subscribes: false,
        held: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // XML-17: "message (not error) and iq get or set are answered; an iq result becomes, for its addressee, an iq error with
    // the same id; presence is dropped, except `subscribe`". DB-70: never an answer to an error.
    #[test]
    fn each_kind_has_its_fate() {
        use Fate::{Answered, Dropped, Replaced};
        let table = [
            (Kind::Message, None, Answered),
            (Kind::Message, Some("chat"), Answered),
            (Kind::Message, Some("groupchat"), Answered),
            (Kind::Message, Some("odd"), Answered),
            (Kind::Message, Some("error"), Dropped),
            (Kind::Iq, Some("get"), Answered),
            (Kind::Iq, Some("set"), Answered),
            (Kind::Iq, Some("result"), Replaced),
            (Kind::Iq, Some("error"), Dropped),
            (Kind::Iq, None, Dropped),
            (Kind::Presence, None, Dropped),
            (Kind::Presence, Some("unavailable"), Dropped),
            (Kind::Presence, Some("probe"), Dropped),
            (Kind::Presence, Some("subscribed"), Dropped),
            (Kind::Presence, Some("unsubscribe"), Dropped),
            (Kind::Presence, Some("error"), Dropped),
            (Kind::Presence, Some("subscribe"), Answered),
        ];
        for (kind, type_, expected) in table {
            assert_eq!(fate(kind, type_), expected, "{kind:?} {type_:?}");
        }
    }
}
