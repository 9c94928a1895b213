//! The leg to the server inside: what it says, how it ends, and what its client hears of that.

use bytes::Bytes;

use super::super::event::Said;
use super::super::{Candidate, Effect, Event, Input, Side};
use super::{FAR, Leg, Turn, edited};
use crate::filter::client as filter;
use crate::jid::Domain;
use crate::reason::{Facing, Outcome, Reason, StreamCondition};
use crate::stream::LANGUAGE;
use crate::stream::client::ended::Ending;
use crate::stream::client::posing::{self, Posing};
use crate::stream::client::serving::{self, Serving};
use crate::stream::client::{Cause, Word};
use crate::stream::fault::Fault;
use crate::xml::{CLOSE, Frame, Token};

impl Turn<'_> {
    pub(super) fn far_finish(&mut self) {
        if !matches!(self.client.far, Leg::Absent | Leg::Over) {
            self.client.far = Leg::Over;
            self.client.posing = None;
            self.out.push(Effect::Finish(Side::Far(FAR)));
        }
    }

    pub(super) fn far(&mut self, input: Input) {
        match input {
            Input::Connected(..) => self.pose(posing::Input::Connected),
            Input::Unreachable(_) => {
                self.backend(false);
                self.client.far = Leg::Over;
                self.client.posing = None;
                self.out.push(Effect::Cut(Side::Far(FAR)));
                self.near_fault(Reason::BackendDown, false);
            }
            Input::Gone { .. } => self.far_gone(),
            Input::Stalled => self.far_fault(Reason::StanzaTimeout),
            // Nothing waits at a leg that is open, so this one is not any more.
            Input::Overflow(_) => self.far_gone(),
            // The rest concerns the near leg and other flows.
            _ => {}
        }
    }

    pub(super) fn far_token(&mut self, token: Token) {
        match token {
            Token::Violation(violation) => self.far_fault(violation.reason()),
            Token::Keepalive | Token::Text => {}
            Token::Refused(refused) => self.refuse_far(&refused),
            Token::Header(header) => {
                self.client.languages.1.clone_from(&header.lang);
                if self.is_unheard() {
                    self.backend(true);
                }
                self.pose(posing::Input::Header(header));
            }
            // Most of what comes, and the state stays as it is.
            Token::Element(frame) if self.client.posing.as_ref().is_some_and(|p| p.delivers(&frame)) => {
                self.deliver(frame);
            }
            Token::Element(frame) => self.pose(posing::Input::Element(frame)),
            Token::End => self.pose(posing::Input::End),
        }
    }

    /// One step of the client towards the server, with all that follows from it.
    pub(super) fn pose(&mut self, input: posing::Input) {
        let (Some(machine), Some(terms)) = (self.client.posing.take(), &self.client.terms) else { return };
        match machine.step(terms, input, self.now) {
            Ok((next, effects)) => {
                self.client.posing = Some(next);
                for effect in effects {
                    self.posed(effect);
                }
            }
            Err(fault) => self.far_end(fault),
        }
    }

    fn posed(&mut self, effect: posing::Effect) {
        match effect {
            posing::Effect::Send(octets) => {
                if self.client.far.is_live() {
                    self.out.push(Effect::Send(Side::Far(FAR), octets));
                }
            }
            posing::Effect::Restart => {
                if self.client.far.is_live() {
                    self.out.push(Effect::Restart(Side::Far(FAR)));
                }
            }
            posing::Effect::Offered(offer) => {
                if offer.binds_channel {
                    // CB-02: of those that can bind a channel, some will fail.
                    self.misfit(Reason::BackendOffersBinding);
                }
                self.serve(serving::Input::Offered(offer));
            }
            // CB-09.
            posing::Effect::Signed => self.misfit(Reason::BackendSignsOffer),
            posing::Effect::Word(word, octets) => self.word(word, octets),
            posing::Effect::Deliver(frame) => self.deliver(frame),
            posing::Effect::PeerError(ending) => {
                let condition = StreamCondition::parse(&ending.condition);
                self.note(Event::StreamError { facing: Facing::Backend, said: Said::Received, condition });
                self.client.ending = Some(ending);
            }
            posing::Effect::Closed => self.far_closed(),
        }
    }

    fn word(&mut self, word: Word, octets: Bytes) {
        if let Err(why) = self.is_certified(&word) {
            return self.uncertified(why);
        }
        self.heed_management(&octets);
        let verdict = match &word {
            Word::Success(_) => Some((Outcome::Allow, Reason::Allowed)),
            // What the server cannot do is nobody's guess at a password.
            Word::Failure(Cause::Temporary) => Some((Outcome::Deny, Reason::BackendFault)),
            Word::Failure(Cause::Way) => Some((Outcome::Deny, Reason::LoginUnfit)),
            Word::Failure(Cause::Guess) => Some((Outcome::Deny, Reason::SaslRefused)),
            _ => None,
        };
        let tried = self.client.serving.as_ref().and_then(Serving::attempt);
        if let (Some((outcome, reason)), Some((mechanism, account)), Some(hosted)) =
            (verdict, tried, self.hosted())
        {
            let (mechanism, account) = (Some(mechanism), account.map(str::to_owned));
            self.note(Event::Login { hosted, mechanism, account, outcome, reason, detail: None });
        }
        if self.client.serving.is_some() {
            self.serve(serving::Input::Word(word, octets));
        } else if matches!(self.client.near, Leg::Parting(_)) && word == Word::Nonza {
            self.out.push(Effect::Send(Side::Near, octets));
        }
    }

    /// A stanza of the server, to its client.
    fn deliver(&mut self, frame: Frame) {
        if self.client.bound && matches!(self.client.near, Leg::Live | Leg::Parting(_)) {
            let edits = filter::carried(frame.head(), self.client.languages.1.as_deref(), Some(LANGUAGE));
            let kind = frame.head().kind();
            let octets = edited(&frame, &edits);
            self.count(kind, octets.len());
            self.out.push(Effect::Deliver(octets));
        }
    }

    /// The server closed its stream, or the time for it is over.
    fn far_closed(&mut self) {
        if self.client.far.is_live() {
            self.out.push(Effect::Send(Side::Far(FAR), Bytes::from_static(CLOSE)));
        }
        self.far_finish();
        let at_rest = self.client.serving.as_ref().is_none_or(Serving::is_at_rest);
        match self.client.ending.take() {
            Some(ending) => self.near_error(&ending),
            None if self.client.bound || self.client.serving.is_none() => {
                self.tell(Reason::Finished);
                self.near_close();
            }
            // CLS-06: it has waited long enough, or goes down.
            None if at_rest => self.near_fault(Reason::Finished, false),
            None => self.near_fault(Reason::BackendFault, false),
        }
    }

    /// C2S-18: why the server ended the stream, as far as its client may read it.
    fn near_error(&mut self, ending: &Ending) {
        if self.client.serving.is_none() {
            return self.near_close();
        }
        let home = self.home;
        let hosted = |name: &str| {
            Domain::parse(name).is_ok_and(|d| home.hosted.contains_key(&d) || home.clients.contains_key(&d))
        };
        let Some(condition) = ending.told() else { return self.near_fault(Reason::BackendFault, false) };
        let Some(machine) = self.client.serving.take() else { return };
        match machine.ended(&ending.write(condition, hosted)) {
            Ok(fault) => {
                let condition = Some(condition);
                self.note(Event::StreamError { facing: Facing::Public, said: Said::Sent, condition });
                self.near_end(fault.said(&ending.condition, ending.words()), false);
            }
            Err(machine) => {
                self.client.serving = Some(*machine);
                self.near_fault(Reason::BackendFault, false);
            }
        }
    }

    /// Whether the server has not said a word yet, nor heard one of the client's.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(&self.client.posing, Some(Posing::Opening(step)) if step.is_first())
    }

    /// Nothing of the client's was said yet: another server may take it.
    pub(super) fn next_server(&mut self) {
        self.client.posing = Some(Posing::Dialling);
        self.out.push(Effect::Retry(FAR, Candidate::Next));
    }

    /// The connection to the server ended without a closing tag.
    fn far_gone(&mut self) {
        if self.client.far == Leg::Over {
            return;
        }
        if self.is_unheard() && self.client.far.is_live() {
            return self.next_server();
        }
        self.client.far = Leg::Over;
        self.client.posing = None;
        self.out.push(Effect::Cut(Side::Far(FAR)));
        match (self.client.near, self.client.bound) {
            (Leg::Parting(_), _) => self.near_close(),
            // SM-06: so that the client may resume.
            (Leg::Live, true) => {
                self.tell(Reason::ConnectionLost);
                self.near_finish();
            }
            // CLS-06.
            _ if self.client.serving.as_ref().is_some_and(Serving::is_at_rest) => {
                self.near_fault(Reason::Finished, false);
            }
            _ => self.near_fault(Reason::BackendFault, false),
        }
    }

    fn misfit(&mut self, reason: Reason) {
        if let Some(hosted) = self.hosted() {
            self.note(Event::Misfit { hosted, reason });
        }
    }

    fn far_fault(&mut self, reason: Reason) {
        if let Some(machine) = self.client.posing.take() {
            self.far_end(machine.fault(reason));
        }
    }

    /// The server is at fault: it hears why, its client only that.
    fn far_end(&mut self, fault: Fault) {
        self.client.posing = None;
        if self.client.far.is_live() && !fault.octets.is_empty() {
            if fault.octets.len() > CLOSE.len()
                && let Some(condition) = fault.reason.stream_condition()
            {
                let condition = Some(condition);
                self.note(Event::StreamError { facing: Facing::Backend, said: Said::Sent, condition });
            }
            self.out.push(Effect::Send(Side::Far(FAR), fault.octets));
        }
        self.far_finish();
        let reason = match fault.reason {
            misfit @ (Reason::BackendWantsTls
            | Reason::BackendBindsChannel
            | Reason::NoMechanism
            | Reason::ForeignAddress) => {
                self.misfit(misfit);
                misfit
            }
            _ => Reason::BackendFault,
        };
        match self.client.near {
            Leg::Parting(_) => self.near_close(),
            _ => self.near_fault(reason, false),
        }
    }
}
