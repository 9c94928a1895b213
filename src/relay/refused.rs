//! What becomes of a stanza that is legal XML and may not pass: over a limit of ours or of the receiving server, or with
//! something in it that servers read differently (requirements XML-17, XML-18, JID-06).
//!
//! It alone comes back, and its stream goes on. Rooms must lose nobody over it: no presence is answered but a request for a
//! subscription, and no condition is used for which rooms expel.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;

use crate::filter::{self, Answer, Decision, Desk, Route};
use crate::reason::{Direction, Flow, Reason};
use crate::stream::Pair;
use crate::xml::{Edits, Frame, Head, Kind, Refused};

use super::{Effect, Event, FarId, Relay, Sender, Words};

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
    pub(super) fn refused(refused: &'a Refused) -> Self {
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

    /// What has no addresses that anything could be done with.
    pub(super) fn plain(head: &'a Head) -> Self {
        let octets = head.octets_len();
        Self { measure: None, ..Self::beyond(head, Reason::ImproperAddressing, (0, 0), octets) }
    }

    pub(super) fn fate(&self) -> Fate {
        fate(self.kind, self.type_.as_deref())
    }

    /// The error from one address to another. XML-17: the text names the limit in words.
    pub(super) fn error(&self, from: Option<&str>, to: Option<&str>) -> Option<Bytes> {
        let text = words(self.reason, self.measure);
        let answer = Answer { id: self.id.as_deref(), from, to, text: Some(&text) };
        answer.write(self.kind, self.reason, self.reason.stanza_condition())
    }
}

/// Why, in words for the one whose stanza it was.
fn words(reason: Reason, measure: Option<(usize, usize)>) -> String {
    let (words, label) = (reason.words(), reason.label());
    match measure {
        Some((most, found)) => format!("{words}: {found}, and {most} is the most ({label})"),
        None => format!("{words} ({label})"),
    }
}

impl Relay {
    /// A stanza on the near stream that the framer refused.
    pub(super) fn refuse_stanza(&mut self, refused: &Refused, now: Instant, out: &mut Vec<Effect>) {
        if self.flow == Flow::S2sOut {
            return self.refuse_outbound(&Turned::refused(refused), now, out);
        }
        let home = &self.home;
        let desk = Desk {
            guard: &self.guard,
            direction: self.direction(),
            language: None,
            hosted: &|domain| home.hosted.contains_key(domain),
            rfc7622: &|domain| home.reads_rfc7622(domain),
        };
        let turned = Turned::refused(refused);
        match filter::locate(refused.from(), refused.to(), &desk) {
            Ok(index) => {
                let Some(pair) = self.guard.pair(index).map(|admitted| admitted.pair().clone()) else {
                    return;
                };
                self.turn_away(&turned, &pair, out);
            }
            Err(Decision::Fault(reason)) => {
                self.note_unfit(&Turned { reason, measure: None, ..turned }, None, out);
                self.near_fault(reason, now, out);
            }
            // It would not have passed in any case, and where an answer would go is not clear.
            Err(_) => self.note_unfit(&turned, None, out),
        }
    }

    /// This stanza of that pair goes no further.
    pub(super) fn turn_away(&self, turned: &Turned<'_>, pair: &Pair, out: &mut Vec<Effect>) {
        self.note_unfit(turned, Some(pair), out);
        let (from, to) = (turned.from.as_deref(), turned.to.as_deref());
        let effect = match turned.fate() {
            Fate::Answered => turned.error(to, from).map(|octets| self.way_back(pair, octets)),
            Fate::Dropped => None,
            Fate::Replaced if self.flow == Flow::S2sOut => {
                let lane = self.lane_of(pair);
                turned.error(from, to).zip(lane).map(|(octets, lane)| Effect::Hand(lane, octets))
            }
            Fate::Replaced => turned.error(from, to).and_then(|octets| {
                let admitted = self.guard.pairs().iter().find(|admitted| admitted.pair() == pair)?;
                match admitted.route() {
                    Route::Leg(number) => Some(Effect::Pass(FarId(number), octets)),
                    Route::Carried => Some(Effect::Carry(pair.clone(), octets)),
                    Route::Withdrawn(_) => None,
                }
            }),
        };
        if let Some(effect) = effect {
            // It counts as his who has caused it, and who sends too much hears nothing (LIM-09).
            out.extend((self.direction() == Direction::Inbound).then(|| weigh(turned, pair)));
            out.push(effect);
        }
    }

    /// JID-06: an address of this stanza is not clear; who is answered, if anybody can be.
    pub(super) fn unclear(&self, head: &Head, answer: Option<&str>, address: String, out: &mut Vec<Effect>) {
        let pair = super::join::pair_of(head);
        let turned = Turned {
            from: Some(Cow::Owned(address)),
            octets: head.octets_len(),
            measure: None,
            ..Turned::beyond(head, Reason::JidMalformed, (0, 0), 0)
        };
        self.note_unfit(&turned, pair.as_ref(), out);
        let answered = turned.fate() == Fate::Answered && turned.kind != Kind::Presence;
        let Some((pair, answer)) = pair.zip(answer).filter(|_| answered) else { return };
        if let Some(octets) = turned.error(turned.to.as_deref(), Some(answer)) {
            let sender = Turned { from: Some(Cow::Borrowed(answer)), ..turned };
            out.extend((self.direction() == Direction::Inbound).then(|| weigh(&sender, &pair)));
            out.push(self.way_back(&pair, octets));
        }
    }

    /// XML-18: why the stanza, as it leaves on that route, is more than the receiving server takes.
    pub(super) fn excess(
        &self,
        route: Route,
        pair: &Pair,
        frame: &Frame,
        edits: Option<&Edits>,
        octets: usize,
    ) -> Option<(Reason, (usize, usize))> {
        let most = match route {
            Route::Leg(number) => self.largest(FarId(number), &pair.target),
            Route::Carried => self.home.taken(&pair.target),
            Route::Withdrawn(_) => return None,
        };
        let mut measure = frame.head().measure();
        measure.attributes += u32::from(edits.is_some_and(|edits| edits.lang.is_some()));
        self.home.excess(&pair.target, most, octets, measure)
    }

    pub(super) fn note_unfit(&self, turned: &Turned<'_>, pair: Option<&Pair>, out: &mut Vec<Effect>) {
        let hosted = pair.map(|pair| self.home.sides(pair, self.direction()).0.clone());
        out.push(Effect::Note(Event::Unfit {
            pair: pair.cloned(),
            hosted: hosted.filter(|domain| self.home.hosts(domain)),
            reason: turned.reason,
            address: turned.from.as_deref().map(str::to_owned),
            measure: turned.measure,
            octets: turned.octets,
        }));
    }
}

/// Who has caused it, as far as each address is limited (LIM-04).
fn weigh(turned: &Turned<'_>, pair: &Pair) -> Effect {
    let whole = |address: &Option<Cow<'_, str>>| address.as_deref().unwrap_or_default().to_owned();
    let bare = |address| {
        let whole = whole(address);
        Words::Apart(whole.split_once('/').map_or(&*whole, |(bare, _)| bare).into())
    };
    let of_many = turned.kind == Kind::Message && turned.type_.as_deref() == Some("groupchat");
    Effect::Weigh(Sender {
        domain: pair.sender.clone(),
        address: bare(&turned.from),
        occupant: of_many.then(|| Words::Apart(whole(&turned.from).into())),
        recipient: bare(&turned.to),
        subscribes: false,
    })
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
