//! The leg to the client: what it says, what of that goes on to its server, and how its stream ends.

use bytes::Bytes;

use super::super::leg::OfLeg;
use super::super::life::Life;
use super::super::patched::Patched;
use super::super::turned::{Fate, Turned, excess};
use super::super::{Destination, Effect, Event, LoginAttempt, Side, Takes};
use super::managed::Managed;
use super::{After, FAR, Step, edited};
use crate::filter::client as filter;
use crate::jid::Domain;
use crate::reason::{Direction, Facing, Outcome, Reason};
use crate::stream::client::ended::is_language;
use crate::stream::client::initiating::{self, ClientInitiating};
use crate::stream::client::receiving::{self, ClientReceiving};
use crate::stream::client::{Ask, Own, Rules};
use crate::stream::fault::Fault;
use crate::xml::{CLOSE, Edits, Frame, RefusedStanza, Token, Violation};

impl Step<'_, '_> {
    pub(super) fn near(&mut self, input: OfLeg) {
        match input {
            OfLeg::Secured(secured) => {
                self.client.certified.secure(secured.clone());
                self.near_input(receiving::Input::Secured(secured));
            }
            OfLeg::Retrusted(certificate) => self.show(*certificate),
            OfLeg::Stalled => self.near_fault(Reason::StanzaTimeout, After::Resumable),
            OfLeg::Gone { reason, .. } => self.near_gone(reason),
            // It was connected before there was a relay.
            OfLeg::Connected(..) | OfLeg::Unreachable(_) => {}
        }
    }

    pub(super) fn near_token(&mut self, token: Token) {
        if !self.client.near.is_open() {
            // After the end nothing is looked at any more but the reciprocal close (CLS-01).
            if matches!(token, Token::End | Token::Violation(_)) && self.client.near.is_closing() {
                self.near_finish();
            }
            return;
        }
        let input = match token {
            Token::Violation(violation) => return self.near_broke(violation),
            Token::Refused(refused) => return self.refuse_near(&refused),
            Token::Header(header) => {
                self.client.languages.0.clone_from(&header.lang);
                let named = header.to.as_deref().and_then(|to| Domain::parse(to).ok());
                self.client.asked_for.clone_from(&named);
                let served = match named {
                    Some(domain) if self.turn.relays.clients.contains_key(&domain) => self.admit(&domain),
                    Some(domain) => Err(self.turn.relays.absence(&domain)),
                    None => Err(Reason::HostUnknown),
                };
                receiving::Input::Header(header, served)
            }
            // Most of what comes, and the state stays as it is.
            Token::Element(frame) if self.client.near.machine().is_some_and(|s| s.passes(&frame)) => {
                return self.pass(frame);
            }
            Token::Element(frame) => receiving::Input::Element(frame),
            Token::Keepalive => receiving::Input::Space,
            Token::Text => receiving::Input::Text,
            Token::End => receiving::Input::End,
        };
        self.near_input(input);
    }

    /// The connection of the client ended. Without a closing tag its session lives on inside, so that it may come back
    /// for it (SM-06).
    fn near_gone(&mut self, reason: Reason) {
        if self.client.near.is_over() {
            return;
        }
        self.client.near = Life::Over;
        self.turn.push(Effect::Cut(Side::Near));
        self.report(reason);
        self.part(After::Resumable);
    }

    /// One step of the server towards the client, with all that follows from it.
    pub(super) fn near_input(&mut self, input: receiving::Input) {
        let Some(machine) = self.client.near.take() else { return };
        match machine.step(&self.client.params, input, self.turn.now) {
            Ok((next, effects)) => {
                self.client.near.put(next);
                for effect in effects {
                    self.near_effect(effect);
                }
            }
            Err(fault) => {
                let behind = fault.reason == Reason::BackendFault;
                self.near_end(fault, if behind { After::Resumable } else { After::Closed });
            }
        }
    }

    fn near_effect(&mut self, effect: receiving::Effect) {
        match effect {
            receiving::Effect::Send(octets) => self.say_near(octets),
            receiving::Effect::Upgrade => self.turn.push(Effect::Upgrade(Side::Near)),
            receiving::Effect::Restart => self.turn.push(Effect::Restart(Side::Near)),
            receiving::Effect::Call(domain) => self.call(domain),
            receiving::Effect::Say(ask, octets) => {
                self.client.managed.hears(&octets);
                self.goes_on(&ask);
                self.far_input(initiating::Input::Say(ask, octets));
            }
            receiving::Effect::MayLogin(mechanism, account) => {
                let Some(hosted) = self.hosted() else { return };
                if let Err(why) = self.client.certified.may_try(account.as_deref()) {
                    let reason = self.report_uncertified(hosted, why);
                    return self.near_input(receiving::Input::Tried(Err(reason)));
                }
                self.turn.push(Effect::MayLogin(LoginAttempt { hosted, mechanism, account }));
            }
            receiving::Effect::MayRegister => self.turn.push(Effect::MayRegister),
            receiving::Effect::Declined(reason) | receiving::Effect::Overlooked(reason) => {
                let hosted = self.hosted();
                self.note(Event::Refused { pair: None, hosted, reason });
            }
            receiving::Effect::Bound => self.bound(),
            receiving::Effect::Pass(frame) => self.pass(frame),
            receiving::Effect::Refused(reason) => {
                if let Some(hosted) = self.hosted() {
                    let (mechanism, account, outcome) = (None, None, Outcome::Deny);
                    self.note(Event::Login { hosted, mechanism, account, outcome, reason, detail: None });
                }
            }
            receiving::Effect::PeerError(name) => {
                self.turn.heard_error(Facing::Public, &name);
                self.near_closed(Reason::PeerError);
            }
            receiving::Effect::Closed => self.near_closed(Reason::Finished),
        }
    }

    /// C2S-02: TLS stands, and the domain is ours.
    fn call(&mut self, domain: Domain) {
        let Some(client) = self.turn.relays.clients.get(&domain) else { return };
        let rules = Rules {
            mechanisms: client.mechanisms.clone(),
            registration: client.registration,
            features: client.features.clone(),
            max_octets: self.turn.relays.largest(Some(&domain)),
            early_octets: self.turn.relays.limits.before_proof.element,
        };
        let step_time = self.turn.relays.timeouts.header;
        let language = self.client.languages.0.clone().filter(|tag| is_language(tag));
        self.client.terms =
            Some(initiating::ClientInitiatingParams { to: domain.clone(), language, rules, step_time });
        self.client.far = Life::Open(ClientInitiating::Dialling);
        self.turn.push(Effect::Connect(FAR, Destination::Client(domain)));
    }

    fn bound(&mut self) {
        self.client.bound = true;
        self.turn.push(Effect::LeaveUnproven);
        self.turn.push(Effect::EnterClients);
        self.turn.push(Effect::Widen(Side::Near));
        self.turn.push(Effect::Widen(Side::Far(FAR)));
        if let Some(account) = self.client.own().and_then(Own::account) {
            self.turn.push(Effect::Speaks(FAR, account));
        }
        if let Some(hosted) = self.hosted() {
            let after = self.turn.since(self.client.started);
            self.note(Event::Bound { hosted, after });
        }
    }

    /// A stanza of the client, to its server.
    fn pass(&mut self, frame: Frame) {
        let client = &self.client;
        let Some(own) = client.own() else { return };
        let written = client.terms.as_ref().and_then(|terms| terms.language.as_deref());
        match filter::inspect(frame.head(), own, client.languages.0.as_deref(), written) {
            Ok(mut edits) => {
                match self.patched(&frame, Direction::Inbound) {
                    Patched::Untouched => {}
                    Patched::Cut(children) => edits.cut = children,
                    Patched::Denied => return self.turn_away_near(&Turned::patched(frame.head())),
                }
                let octets = edited(&frame, &edits);
                if let Some(excess) = self.excess(&frame, &edits, octets.len()) {
                    return self.beyond_server(&frame, excess, octets.len());
                }
                self.count(frame.head().kind(), octets.len());
                if self.client.far.is_open() {
                    self.turn.push(Effect::Pass(FAR, octets.into()));
                }
            }
            Err(reason) => {
                let hosted = self.hosted();
                self.note(Event::Refused { pair: None, hosted, reason });
                self.near_fault(reason, After::Closed);
            }
        }
    }

    fn say_near(&mut self, octets: Bytes) {
        if !self.client.near.is_open() {
            return;
        }
        // The client can do nothing with our header, or with a success that needs no new one, before the features are there:
        // they go out in one write.
        if matches!(self.client.near.machine(), Some(ClientReceiving::Waiting(_))) {
            self.client.unsaid = self.after_unsaid(octets);
        } else {
            self.out_near(octets);
        }
    }

    fn out_near(&mut self, octets: Bytes) {
        let octets = self.after_unsaid(octets);
        self.turn.send(Side::Near, octets);
    }

    /// What is unsaid, then these octets.
    fn after_unsaid(&mut self, octets: Bytes) -> Bytes {
        let unsaid = std::mem::take(&mut self.client.unsaid);
        if unsaid.is_empty() { octets } else { [unsaid, octets].concat().into() }
    }

    // -- what may not pass

    /// The framer of the client's leg refused this.
    fn refuse_near(&mut self, refused: &RefusedStanza) {
        let turned = Turned::refused(refused);
        let Some(own) = self.client.own() else {
            return self.near_fault(Reason::NotBound, After::Closed);
        };
        if turned.from.as_ref().is_some_and(|from| !own.may_say(from)) {
            self.report_unfit(&Turned { reason: Reason::ForgedFrom, measure: None, ..turned });
            return self.near_fault(Reason::ForgedFrom, After::Closed);
        }
        self.turn_away_near(&turned);
    }

    /// WS-04: what is over the limit in a message of its own was not read, and cannot come back alone. Who sent it reads why.
    fn near_broke(&mut self, violation: Violation) {
        let Some(most) = violation.most_of_unread().filter(|_| self.client.own().is_some()) else {
            return self.near_fault(violation.reason(), After::Closed);
        };
        let turned = Turned::unread(most);
        self.report_unfit(&turned);
        self.near_fault_saying(turned.reason, &turned.words());
    }

    /// Its server does not take this stanza of the client.
    fn beyond_server(&mut self, frame: &Frame, (reason, measure): (Reason, (usize, usize)), octets: usize) {
        self.turn_away_near(&Turned::beyond(frame.head(), reason, measure, octets));
    }

    /// XML-18: why the stanza, as it leaves, is more than the client's server takes.
    fn excess(&self, frame: &Frame, edits: &Edits, octets: usize) -> Option<(Reason, (usize, usize))> {
        let to = self.client.terms.as_ref().map(|terms| &terms.to)?;
        let server = self.turn.relays.hosted.get(to);
        excess((self.turn.relays.taken_by(server), Takes::of(server)), frame, Some(edits), octets)
    }

    fn turn_away_near(&mut self, turned: &Turned<'_>) {
        self.report_unfit(turned);
        if self.client.managed != Managed::No {
            return self.near_fault_saying(turned.reason, &turned.words());
        }
        match turned.fate() {
            Fate::Answered if self.client.near.is_open() => {
                // RFC 6120 8.1.1.1: what has no `to` was for the account itself, and its server answers without `from`.
                if let Some(octets) = turned.error(turned.to.as_deref(), None) {
                    self.turn.send(Side::Near, octets);
                }
            }
            Fate::Replaced if self.client.far.is_open() => {
                if let Some(octets) = turned.error(None, turned.to.as_deref()) {
                    self.turn.push(Effect::Pass(FAR, octets.into()));
                }
            }
            Fate::Answered | Fate::Dropped | Fate::Replaced => {}
        }
    }

    // -- how its stream ends

    /// The client closed its stream: its server hears it, and may say what it still has to say (SM-06).
    fn near_closed(&mut self, reason: Reason) {
        self.report(reason);
        self.part(After::Closed);
        match self.client.far {
            Life::Closing { until, .. } => self.client.near = Life::Parting { until },
            Life::Open(_) | Life::Parting { .. } | Life::Over => self.near_close(),
        }
    }

    /// Our closing tag, and the end of the connection.
    pub(super) fn near_close(&mut self) {
        if matches!(self.client.near, Life::Open(_) | Life::Parting { .. }) {
            self.out_near(Bytes::from_static(CLOSE));
            self.near_finish();
        }
    }

    /// The end of the connection: flushed, without another word.
    pub(super) fn near_finish(&mut self) {
        if !self.client.near.is_over() {
            self.client.near = Life::Over;
            self.turn.push(Effect::Finish(Side::Near));
        }
    }

    /// The client's stream ends because of this.
    pub(super) fn near_fault(&mut self, reason: Reason, after: After) {
        let Some(machine) = self.client.near.take() else { return };
        let fault = machine.fault(&self.client.params, reason);
        self.near_end(fault, after);
    }

    /// The same over a stanza, in these words.
    fn near_fault_saying(&mut self, reason: Reason, words: &str) {
        let Some(machine) = self.client.near.take() else { return };
        let fault = machine.fault_saying(&self.client.params, reason, words);
        self.near_end(fault, After::Closed);
    }

    /// A step has consumed the machine.
    pub(super) fn near_end(&mut self, fault: Fault, after: After) {
        self.report(fault.reason);
        if fault.octets.is_empty() {
            self.client.near = Life::Over;
            self.turn.push(Effect::Cut(Side::Near));
        } else {
            self.client.near = Life::Closing { machine: None, until: self.close_by() };
            self.out_near(fault.octets);
            self.turn.sent_error(Facing::Public, fault.reason.stream_condition());
        }
        self.part(after);
    }

    /// The server hears that the client is gone: by a closing tag, or by the end of the connection alone.
    fn part(&mut self, after: After) {
        match &self.client.far {
            Life::Open(ClientInitiating::Dialling) => self.far_cut(),
            Life::Open(_) if after == After::Closed => {
                self.client.far.close(self.close_by());
                self.turn.send(Side::Far(FAR), Bytes::from_static(CLOSE));
            }
            Life::Open(_) => self.far_finish(),
            Life::Closing { .. } | Life::Parting { .. } | Life::Over => {}
        }
    }

    /// SM-05: where the client asks for the session of an earlier stream, that goes behind what a broken stream of its account still has
    /// to deliver. No other account has to wait for it.
    fn goes_on(&mut self, ask: &Ask) {
        let machine = self.client.near.machine();
        let account = match ask {
            Ask::Resume => machine.and_then(ClientReceiving::granted).and_then(Own::account),
            Ask::Auth(_, _, wants) if wants.resume => {
                let tried = machine.and_then(ClientReceiving::attempt).and_then(|(_, account)| account);
                tried.zip(self.client.terms.as_ref()).map(|(local, terms)| format!("{local}@{}", terms.to))
            }
            _ => None,
        };
        if let Some(account) = account {
            self.turn.push(Effect::Behind(FAR, account));
        }
    }
}
