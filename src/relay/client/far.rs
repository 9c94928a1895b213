//! The leg to the server inside: what it says, how it ends, and what its client hears of that.

use bytes::Bytes;

use super::super::leg::OfLeg;
use super::super::life::Life;
use super::super::patched::Patched;
use super::super::turned::{Fate, Turned};
use super::super::{AddressChoice, Effect, Event, Side};
use super::managed::Managed;
use super::{After, FAR, Step, edited};
use crate::filter::client as filter;
use crate::jid::Domain;
use crate::reason::{Class, Direction, Facing, Outcome, Reason};
use crate::stream::LANGUAGE;
use crate::stream::client::ended::Ending;
use crate::stream::client::initiating::{self, ClientInitiating};
use crate::stream::client::receiving::{self, ClientReceiving};
use crate::stream::client::{Cause, ServerAnswer};
use crate::stream::fault::Fault;
use crate::xml::{CLOSE, Frame, RefusedStanza, Token};

impl Step<'_, '_> {
    pub(super) fn far_finish(&mut self) {
        if !self.client.far.is_over() {
            self.client.far = Life::Over;
            self.turn.push(Effect::Finish(Side::Far(FAR)));
        }
    }

    pub(super) fn far_cut(&mut self) {
        self.client.far = Life::Over;
        self.turn.push(Effect::Cut(Side::Far(FAR)));
    }

    pub(super) fn far(&mut self, input: OfLeg) {
        match input {
            OfLeg::Connected(..) => self.far_input(initiating::Input::Connected),
            OfLeg::Unreachable(why) => {
                if why.reason == Reason::BackendDown {
                    self.backend(false);
                }
                self.far_cut();
                self.near_fault(why.reason, After::Resumable);
            }
            OfLeg::Gone { .. } => self.far_gone(),
            OfLeg::Stalled => self.far_fault(Reason::StanzaTimeout),
            // It speaks plain.
            OfLeg::Retrusted(_) | OfLeg::Secured(_) => {}
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
                self.far_input(initiating::Input::Header(header));
            }
            // Most of what comes, and the state stays as it is.
            Token::Element(frame) if self.client.far.machine().is_some_and(|p| p.delivers(&frame)) => {
                self.deliver(frame);
            }
            Token::Element(frame) => self.far_input(initiating::Input::Element(frame)),
            Token::End => self.far_input(initiating::Input::End),
        }
    }

    /// One step of the client towards the server, with all that follows from it.
    pub(super) fn far_input(&mut self, input: initiating::Input) {
        let client = &mut *self.client;
        let (Some(machine), Some(terms)) = (client.far.take(), &client.terms) else { return };
        match machine.step(terms, input, self.turn.now) {
            Ok((next, effects)) => {
                self.client.far.put(next);
                for effect in effects {
                    self.far_effect(effect);
                }
            }
            Err(fault) => self.far_end(fault),
        }
    }

    fn far_effect(&mut self, effect: initiating::Effect) {
        match effect {
            initiating::Effect::Send(octets) => {
                if self.client.far.is_open() {
                    self.turn.push(Effect::Send(Side::Far(FAR), octets));
                }
            }
            initiating::Effect::Restart => {
                if self.client.far.is_open() {
                    self.turn.push(Effect::Restart(Side::Far(FAR)));
                }
            }
            initiating::Effect::Offered(offer) => {
                if offer.binds_channel {
                    // CB-02: of those that can bind a channel, some will fail.
                    self.misconfigured(Reason::BackendOffersBinding);
                }
                self.near_input(receiving::Input::Offered(offer));
            }
            // CB-09.
            initiating::Effect::Signed => self.misconfigured(Reason::BackendSignsOffer),
            initiating::Effect::Word(word, octets) => self.word(word, octets),
            initiating::Effect::Deliver(frame) => self.deliver(frame),
            initiating::Effect::PeerError(ending) => {
                self.turn.heard_error(Facing::Backend, &ending.condition);
                self.far_closed(Some(&ending));
            }
            initiating::Effect::Closed => self.far_closed(None),
        }
    }

    fn word(&mut self, word: ServerAnswer, octets: Bytes) {
        let granted = self.client.near.machine().and_then(ClientReceiving::granted);
        if let Err(why) = self.client.certified.is_named(&word, granted) {
            return self.uncertified(why);
        }
        self.client.managed.hears(&octets);
        let verdict = match &word {
            ServerAnswer::Success(_) => Some((Outcome::Allow, Reason::Allowed)),
            // What the server cannot do is nobody's guess at a password.
            ServerAnswer::Failure(Cause::Temporary) => Some((Outcome::Deny, Reason::BackendFault)),
            ServerAnswer::Failure(Cause::Way) => Some((Outcome::Deny, Reason::LoginUnfit)),
            ServerAnswer::Failure(Cause::Guess) => Some((Outcome::Deny, Reason::SaslRefused)),
            _ => None,
        };
        let tried = self.client.near.machine().and_then(ClientReceiving::attempt);
        if let (Some((outcome, reason)), Some((mechanism, account)), Some(hosted)) =
            (verdict, tried, self.hosted())
        {
            let (mechanism, account) = (Some(mechanism), account.map(str::to_owned));
            self.note(Event::Login { hosted, mechanism, account, outcome, reason, detail: None });
        }
        if self.client.near.is_open() {
            self.near_input(receiving::Input::Word(word, octets));
        } else if matches!(self.client.near, Life::Parting { .. }) && word == ServerAnswer::Nonza {
            self.turn.send(Side::Near, octets);
        }
    }

    /// A stanza of the server, to its client.
    fn deliver(&mut self, frame: Frame) {
        if self.client.bound && matches!(self.client.near, Life::Open(_) | Life::Parting { .. }) {
            let mut edits = filter::carried(frame.head(), self.client.languages.1.as_deref(), Some(LANGUAGE));
            match self.patched(&frame, Direction::Outbound) {
                Patched::Untouched => {}
                Patched::Cut(children) => edits.cut = children,
                Patched::Denied => return self.turn_away_far(&Turned::patched(frame.head())),
            }
            let kind = frame.head().kind();
            let octets = edited(&frame, &edits);
            self.count(kind, octets.len());
            self.turn.push(Effect::Deliver(octets));
        }
    }

    /// The server closed its stream, with this error if with any.
    fn far_closed(&mut self, ending: Option<&Ending>) {
        if self.client.far.is_open() {
            self.turn.push(Effect::Send(Side::Far(FAR), Bytes::from_static(CLOSE)));
        }
        self.far_finish();
        let at_rest = self.client.near.machine().is_none_or(ClientReceiving::is_at_rest);
        match ending {
            Some(ending) => self.near_error(ending),
            None if self.client.bound || !self.client.near.is_open() => {
                self.report(Reason::Finished);
                self.near_close();
            }
            // CLS-06: it has waited long enough, or goes down.
            None if at_rest => self.near_fault(Reason::Finished, After::Resumable),
            None => self.near_fault(Reason::BackendFault, After::Resumable),
        }
    }

    /// C2S-18: why the server ended the stream, as far as its client may read it.
    fn near_error(&mut self, ending: &Ending) {
        if !self.client.near.is_open() {
            return self.near_close();
        }
        let relays = self.turn.relays;
        let hosted = |name: &str| {
            Domain::parse(name)
                .is_ok_and(|d| relays.hosted.contains_key(&d) || relays.clients.contains_key(&d))
        };
        let Some(condition) = ending.told() else {
            return self.near_fault(Reason::BackendFault, After::Resumable);
        };
        let Some(machine) = self.client.near.take() else { return };
        match machine.ended(&ending.write(condition, hosted)) {
            Ok(fault) => {
                self.turn.sent_error(Facing::Public, Some(condition));
                self.near_end(fault.said(&ending.condition, ending.words()), After::Resumable);
            }
            Err(machine) => {
                self.client.near.put(*machine);
                self.near_fault(Reason::BackendFault, After::Resumable);
            }
        }
    }

    /// Whether the server has not said a word yet, nor heard one of the client's.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(self.client.far.machine(), Some(ClientInitiating::Opening(step)) if step.is_first())
    }

    /// Nothing of the client's was said yet: another server may take it.
    pub(super) fn next_server(&mut self) {
        self.client.far.put(ClientInitiating::Dialling);
        self.turn.push(Effect::Retry(FAR, AddressChoice::Next));
    }

    /// The connection to the server ended without a closing tag.
    pub(super) fn far_gone(&mut self) {
        if self.client.far.is_over() {
            return;
        }
        if self.is_unheard() && self.client.far.is_open() {
            return self.next_server();
        }
        self.far_cut();
        match (&self.client.near, self.client.bound) {
            (Life::Parting { .. }, _) => self.near_close(),
            // SM-06: so that the client may resume.
            (Life::Open(_), true) => {
                self.report(Reason::ConnectionLost);
                self.near_finish();
            }
            // CLS-06.
            _ if self.client.near.machine().is_some_and(ClientReceiving::is_at_rest) => {
                self.near_fault(Reason::Finished, After::Resumable);
            }
            _ => self.near_fault(Reason::BackendFault, After::Resumable),
        }
    }

    fn misconfigured(&mut self, reason: Reason) {
        if let Some(hosted) = self.hosted() {
            self.note(Event::BackendMisconfigured { hosted, reason });
        }
    }

    fn far_fault(&mut self, reason: Reason) {
        if let Some(machine) = self.client.far.take() {
            self.far_end(machine.fault(reason));
        }
    }

    /// A step has consumed the machine: the server is at fault. It hears why, its client only that.
    fn far_end(&mut self, fault: Fault) {
        if !self.client.far.is_closing() && !fault.octets.is_empty() {
            if fault.octets.len() > CLOSE.len() {
                self.turn.sent_error(Facing::Backend, fault.reason.stream_condition());
            }
            self.turn.send(Side::Far(FAR), fault.octets);
        }
        self.client.far = Life::Over;
        self.turn.push(Effect::Finish(Side::Far(FAR)));
        let misconfigured = fault.reason.is(Class::Misconfigured);
        if misconfigured {
            self.misconfigured(fault.reason);
        }
        let reason = if misconfigured { fault.reason } else { Reason::BackendFault };
        match self.client.near {
            Life::Parting { .. } => self.near_close(),
            Life::Open(_) | Life::Closing { .. } | Life::Over => self.near_fault(reason, After::Resumable),
        }
    }

    /// The framer of the server's leg refused this.
    fn refuse_far(&mut self, refused: &RefusedStanza) {
        if !self.client.bound || !matches!(self.client.near, Life::Open(_) | Life::Parting { .. }) {
            return;
        }
        self.turn_away_far(&Turned::refused(refused));
    }

    /// This stanza of the server does not reach its client. Where stanzas are counted, one that says nothing goes in its place: each
    /// side counts one, and once the client has acknowledged it the server has nothing left to bring again.
    fn turn_away_far(&mut self, turned: &Turned<'_>) {
        self.report_unfit(turned);
        if self.client.managed != Managed::No {
            let octets = turned.stand_in();
            self.count(turned.kind, octets.len());
            self.turn.push(Effect::Deliver(octets));
            return;
        }
        match turned.fate() {
            Fate::Answered if self.client.far.is_open() => {
                if let Some(octets) = turned.error(None, turned.from.as_deref()) {
                    self.turn.push(Effect::Pass(FAR, octets.into()));
                }
            }
            Fate::Replaced => {
                if let Some(octets) = turned.error(turned.from.as_deref(), turned.to.as_deref()) {
                    self.turn.push(Effect::Deliver(octets));
                }
            }
            Fate::Answered | Fate::Dropped => {}
        }
    }
}
