//! Stanzas of a backend, on their way into the world or to another backend.

use super::super::beside::{InForce, Scope};
use super::super::event::{Event, Withheld};
use super::super::patched::Patched;
use super::super::turn::Turn;
use super::super::turned::{Turned, excess};
use super::super::{Effect, Takes};
use super::Outbound;
use super::lanes::{Lane, Permits};
use crate::filter::{self, Ends, Inward, Leaving, Outgoing, StanzaRefusal};
use crate::jid::{Domain, Plain};
use crate::reason::{Class, Direction, Flow};
use crate::stream::Pair;
use crate::xml::{Edits, Frame, RefusedStanza, rewrite};

impl Outbound {
    /// A stanza on the stream.
    pub(super) fn pass(&mut self, frame: Frame, turn: &mut Turn<'_>) {
        // Most stanzas are of the pair of the one before, and most addresses are plain.
        if let Some((place, lane)) = self.lanes.last()
            && let Some(from) = frame.head().from_as_spelt()
            && Plain::read(from, &lane.pair.sender).is_some()
            && let Some(to) = frame.head().to_as_spelt().and_then(|to| Plain::read(to, &lane.pair.target))
        {
            return self.hand(place, frame, (None, to.to_user), turn);
        }
        let found = {
            let (from, to) = (frame.head().from(), frame.head().to());
            let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
            Ends::read(&from, &to).map(|ends| {
                let known = self.lanes.find(ends.sender(), ends.target());
                let pair = match known {
                    Some(_) => None,
                    None => Pair::read(ends.sender(), ends.target()),
                };
                let modern = turn.relays.reads_rfc7622(ends.sender());
                (known, pair, ends.settle(modern))
            })
        };
        match found {
            Ok((known, pair, settled)) => {
                let lane = match (known, pair) {
                    (Some(lane), _) => lane,
                    (None, Some(pair)) => self.open_lane(pair, false, turn),
                    (None, None) => return self.misaddressed(frame.head(), turn),
                };
                match settled {
                    Ok(settled) => self.hand(lane, frame, settled, turn),
                    Err(refusal) => self.refused(&frame, refusal, turn),
                }
            }
            Err(refusal) => self.refused(&frame, refusal, turn),
        }
    }

    fn refused(&self, frame: &Frame, refusal: StanzaRefusal, turn: &mut Turn<'_>) {
        let (origin, head) = (self.origin(), frame.head());
        match refusal {
            StanzaRefusal::Bounce(reason) => origin.sent_back(head, &reason.into(), turn),
            StanzaRefusal::Drop(reason) => origin.note_refused(head, reason, turn),
            // Addresses alone were looked at.
            StanzaRefusal::Withheld(_) => {}
            StanzaRefusal::Unclear { answer, address } => {
                origin.unclear(head, answer.as_deref(), address, turn)
            }
            StanzaRefusal::Fault(_) => self.misaddressed(head, turn),
        }
    }

    /// A stanza of the backend that the framer refused (XML-17): it comes back alone.
    pub(super) fn refuse_stanza(&mut self, refused: &RefusedStanza, turn: &mut Turn<'_>) {
        let turned = Turned::refused(refused);
        let ends = Ends::read(refused.from().unwrap_or_default(), refused.to().unwrap_or_default());
        let Some(pair) = ends.ok().and_then(|ends| Pair::read(ends.sender(), ends.target())) else {
            return self.unaddressed(&turned, turned.fate(), turn);
        };
        if self.lanes.of(&pair).is_none() {
            self.open_lane(pair.clone(), false, turn);
        }
        let standing = self.lanes.of(&pair).and_then(|lane| lane.standing.as_ref().err().copied());
        if let Some(reason) = standing.filter(|reason| reason.is(Class::Misnamed)) {
            self.report_misnamed(&pair, reason, turn);
        }
        self.turn_away(&turned, &pair, turn);
    }

    /// This stanza of that pair goes no further. An error in its place takes the lane, if its stanzas may go.
    fn turn_away(&self, turned: &Turned<'_>, pair: &Pair, turn: &mut Turn<'_>) {
        let lane = self.lanes.of(pair).filter(|lane| lane.standing.is_ok()).map(|lane| lane.id);
        self.origin().turn_away(
            turned,
            pair,
            |stanza| lane.map(|lane| Effect::Hand(lane, stanza.octets)),
            turn,
        );
    }

    /// Hands a stanza to the courier of its pair, or sends it back.
    fn hand(&mut self, at: usize, frame: Frame, settled: (Option<Box<Edits>>, bool), turn: &mut Turn<'_>) {
        self.lanes.used(at);
        let Some(lane) = self.lanes.at(at) else { return };
        let permits = match &lane.standing {
            Ok(permits) => permits,
            Err(reason) => {
                let reason = *reason;
                if reason.is(Class::Misnamed) {
                    self.report_misnamed(&lane.pair, reason, turn);
                }
                return self.origin().sent_back(frame.head(), &reason.into(), turn);
            }
        };
        let (relays, receiver) = (turn.relays, &lane.pair.target);
        let hosted = |domain: &str| relays.is_same_server(domain, receiver);
        let outgoing = Outgoing {
            rules: permits.out.stanzas(),
            inward: permits.into.as_ref().map(|permit| Inward {
                rules: permit.stanzas(),
                sender: &lane.pair.sender,
                hosted: &hosted,
            }),
            language: self.near.language.as_deref(),
        };
        match filter::inspect_outgoing(frame.head(), settled, &outgoing) {
            Ok(Leaving { mut edits, curtailed }) => {
                let (pair, between) = (&lane.pair, permits.into.is_some());
                for (direction, hosted) in
                    [(Direction::Outbound, &pair.sender), (Direction::Inbound, receiver)]
                {
                    if turn.policy.patches().is_none() || (direction == Direction::Inbound && !between) {
                        continue;
                    }
                    let way = (Flow::S2sOut, direction);
                    match turn.patched(frame.head(), way, hosted, Some(pair)) {
                        Patched::Untouched => {}
                        Patched::Cut(children) => edits.get_or_insert_default().cut.extend(children),
                        Patched::Denied => {
                            return self.turn_away(&Turned::patched(frame.head()), pair, turn);
                        }
                    }
                }
                let rewritten = edits.as_deref().map(|edits| rewrite(&frame, edits));
                let octets = rewritten.as_ref().unwrap_or(frame.octets()).len();
                // XML-18: what another backend does not take; a peer tells by itself, when it is called.
                if permits.into.is_some() {
                    let (pair, server) = (&lane.pair, relays.hosted.get(receiver));
                    let most = (relays.taken_by(server), Takes::of(server));
                    if let Some((reason, measure)) = excess(most, &frame, edits.as_deref(), octets) {
                        let turned = Turned::beyond(frame.head(), reason, measure, octets);
                        return self.turn_away(&turned, pair, turn);
                    }
                }
                // Whether the pair may stand is seen when it goes out on the leg.
                for permit in std::iter::once(&permits.out).chain(&permits.into) {
                    let in_force = InForce { pair: &lane.pair, permit };
                    in_force.passes(Scope::Stanzas, frame.head(), octets, turn);
                }
                if curtailed {
                    turn.note(withheld(lane, permits, Withheld::Cut));
                }
                turn.push(Effect::Hand(lane.id, rewritten.unwrap_or_else(|| frame.into_octets())));
            }
            Err(StanzaRefusal::Withheld(instead)) => {
                let what = if instead.is_some() { Withheld::Answered } else { Withheld::Dropped };
                turn.note(withheld(lane, permits, what));
                if let Some(octets) = instead {
                    turn.push(Effect::Hand(lane.id, octets));
                }
            }
            Err(StanzaRefusal::Bounce(reason)) => {
                permits.ruled(reason, frame.head(), turn);
                self.origin().sent_back(frame.head(), &reason.into(), turn);
                permits.refused_beside(&lane.pair, reason, &frame, turn);
            }
            Err(StanzaRefusal::Drop(reason) | StanzaRefusal::Fault(reason)) => {
                permits.ruled(reason, frame.head(), turn);
                self.origin().note_refused(frame.head(), reason, turn);
                permits.refused_beside(&lane.pair, reason, &frame, turn);
            }
            // Addresses were settled before.
            Err(StanzaRefusal::Unclear { .. }) => {}
        }
    }
}

/// The rule that lets these stanzas out kept something of one inside.
fn withheld(lane: &Lane, permits: &Permits, what: Withheld) -> Event {
    Event::Withheld { hosted: lane.pair.sender.clone(), rule: permits.out.rule().clone(), what }
}

impl Pair {
    /// The pair of these two names, if both are domains.
    fn read(sender: &str, target: &str) -> Option<Self> {
        Some(Self { sender: Domain::parse(sender).ok()?, target: Domain::parse(target).ok()? })
    }
}
