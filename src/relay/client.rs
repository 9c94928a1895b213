//! The relay of one client: the leg that arrived, the one leg to its server, and what goes between them.
//!
//! Nothing goes to the server before TLS stands and the domain is one of ours (C2S-02), no stanza goes either way before
//! the server has said who the client is, and then none is ever dropped, answered or made here (SM-02): what a client
//! may not send ends the stream, and what its server may not has another in its place.

mod certified;
mod ends;
mod far;
mod refused;

use std::time::Instant;

use bytes::Bytes;

use crate::filter::{Traffic, client as filter};
use crate::jid::Domain;
use crate::reason::{Class, Detail, Direction, Facing, Outcome, Reason};
use crate::stream::client::certified::Account;
use crate::stream::client::ended::is_language;
use crate::stream::client::posing::{self, Posing};
use crate::stream::client::serving::{self, Serving};
use crate::stream::client::{Own, Rules};
use crate::stream::{Certificate, Secured, StreamIds};
use crate::xml::{Edits, Frame, Kind, Token, rewrite};

use self::refused::Managed;
use super::leg::{OfLeg, of_leg, of_servers};
use super::life::Life;
use super::patched::Patched;
use super::turn::Turn;
use super::turned::Turned;
use super::{Arrival, Destination, Effect, Event, FarId, Home, Input, Logged, LoginAttempt, Record, Side};

/// A client, its server, and the gateway between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    params: serving::ServingParams,
    /// The server towards the client.
    near: Life<Serving>,
    /// The client towards the server, once that is called.
    far: Life<Posing>,
    terms: Option<posing::PosingParams>,
    address: std::net::IpAddr,
    secured: Option<Secured>,
    /// Whom its certificate lets in, where it is asked for one.
    account: Option<Account>,
    /// What lies behind the reason.
    detail: Option<Detail>,
    /// The `xml:lang` of the client's stream, and of the server's.
    languages: (Option<String>, Option<String>),
    started: Instant,
    bound: bool,
    /// How far the client's stream management is (XEP-0198).
    managed: Managed,
    told: bool,
    traffic: Traffic,
    /// What the client hears together with what its server offers.
    unsaid: Bytes,
    /// The domain that its header was for, served here or not.
    asked_for: Option<Domain>,
}

/// The only far leg.
const FAR: FarId = FarId(1);

impl Client {
    pub(super) fn new(home: &Home, arrival: &Arrival, now: Instant) -> Self {
        let params = serving::ServingParams {
            default_domain: home.default_domain.clone(),
            sasl_attempts: home.limits.sasl_attempts,
            binds: home.limits.binds,
            header_time: home.timeouts.header,
            tls_time: home.timeouts.tls,
        };
        let ids = StreamIds::new(arrival.seed);
        Self {
            near: Life::Open(Serving::new(&params, ids, arrival.secured.clone(), now)),
            far: Life::Over,
            params,
            terms: None,
            address: arrival.address,
            secured: arrival.secured.clone(),
            account: None,
            detail: None,
            languages: (None, None),
            started: now,
            bound: false,
            managed: Managed::No,
            told: false,
            traffic: Traffic::default(),
            unsaid: Bytes::new(),
            asked_for: None,
        }
    }

    pub(super) fn since(&mut self, accepted: Instant) {
        self.started = accepted;
    }

    pub(super) fn is_done(&self) -> bool {
        self.near.is_over() && self.far.is_over()
    }

    pub(super) fn wants_read(&self, side: Side) -> bool {
        match side {
            Side::Near => !self.near.is_over() && self.near.machine().is_none_or(Serving::wants_read),
            Side::Far(_) => !self.far.is_over(),
        }
    }

    pub(super) fn deadline(&self, home: &Home) -> Option<Instant> {
        let login = (self.near.is_open() && !self.bound).then(|| self.started + home.timeouts.unauth);
        let machines =
            [self.near.machine().and_then(Serving::deadline), self.far.machine().and_then(Posing::deadline)];
        let legs = [self.near.until(), self.far.until(), login, self.certificate_end()];
        machines.into_iter().chain(legs).flatten().min()
    }

    pub(super) fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    /// Whether stanzas may pass.
    pub(super) fn is_bound(&self) -> bool {
        self.bound
    }

    /// Who it is, for an operator.
    pub(super) fn portrait(&self, again: Option<&Certificate>, home: &Home) -> Option<Logged> {
        let own = self.own().filter(|_| self.bound)?;
        let Traffic { stanzas, octets } = self.traffic;
        let tls = self.secured.as_ref().map(|secured| secured.version);
        let doubt = self.foreseen(again, home);
        Some(Logged { address: own.address(), tls, stanzas, octets, doubt })
    }

    /// Who the client is, once its server has said so.
    fn own(&self) -> Option<&Own> {
        self.near.machine().and_then(Serving::own)
    }

    /// The framer of a leg found this.
    pub(super) fn token(&mut self, side: Side, token: Token, turn: &mut Turn<'_>) {
        let mut step = Step { client: self, turn };
        match side {
            Side::Near => step.near_token(token),
            Side::Far(FAR) => step.far_token(token),
            Side::Far(_) => {}
        }
    }

    /// Something happened.
    pub(super) fn step(&mut self, side: Side, input: Input, turn: &mut Turn<'_>) {
        let mut step = Step { client: self, turn };
        match (side, input.of_relay()) {
            (Side::Near, Err(input)) => step.near(input),
            (Side::Far(FAR), Err(input)) => step.far(input),
            (Side::Far(_), Err(_)) => {}
            (side, Ok(input)) => step.both(side, input),
        }
    }
}

/// What becomes of the session behind when the client's stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Its server hears a closing tag.
    Closed,
    /// The connection ends alone, so that the session may be resumed (SM-06).
    Resumable,
}

/// One step under way.
struct Step<'a, 't> {
    client: &'a mut Client,
    turn: &'a mut Turn<'t>,
}

impl Step<'_, '_> {
    /// What concerns more than one leg.
    fn both(&mut self, side: Side, input: Input) {
        match input {
            Input::Close(reason) => self.near_fault(reason, After::Resumable),
            Input::Drain => self.near_fault(Reason::Shutdown, After::Resumable),
            Input::Expired => self.expire(),
            Input::Home(_) => self.rehomed(),
            Input::Policy(policy) => {
                // A ban that came between the door and here.
                if policy.bans().holds_address(self.client.address) {
                    self.near_fault(Reason::Banned, After::Resumable);
                }
            }
            Input::Tried(result) => self.serve(serving::Input::Tried(result)),
            Input::Overflow(_) => {
                // Nothing waits at a leg that is open, so this one is not any more.
                if side == Side::Far(FAR) {
                    self.far_gone();
                }
            }
            // Of legs, and of other flows.
            of_leg!()
            | of_servers!()
            | Input::Overtaken
            | Input::Alive
            | Input::Queue(..)
            | Input::Refused(..)
            | Input::Withdraw(..)
            | Input::Yield => {}
        }
    }

    fn near(&mut self, input: OfLeg) {
        match input {
            OfLeg::Secured(secured) => {
                self.client.secured = Some(secured.clone());
                self.serve(serving::Input::Secured(secured));
            }
            OfLeg::Retrusted(certificate) => self.show(*certificate),
            OfLeg::Stalled => self.near_fault(Reason::StanzaTimeout, After::Resumable),
            OfLeg::Gone { reason, .. } => self.near_gone(reason),
            // It was connected before there was a relay.
            OfLeg::Connected(..) | OfLeg::Unreachable(_) => {}
        }
    }

    fn near_token(&mut self, token: Token) {
        if !self.client.near.is_open() {
            // After the end nothing is looked at any more but the reciprocal close (CLS-01).
            if matches!(token, Token::End | Token::Violation(_)) && self.client.near.is_closing() {
                self.near_finish();
            }
            return;
        }
        let input = match token {
            Token::Violation(violation) => return self.near_fault(violation.reason(), After::Closed),
            Token::Refused(refused) => return self.refuse_near(&refused),
            Token::Header(header) => {
                self.client.languages.0.clone_from(&header.lang);
                let named = header.to.as_deref().and_then(|to| Domain::parse(to).ok());
                self.client.asked_for.clone_from(&named);
                let served = match named {
                    Some(domain) if self.turn.home.clients.contains_key(&domain) => self.admit(&domain),
                    Some(domain) => Err(self.turn.home.absence(&domain)),
                    None => Err(Reason::HostUnknown),
                };
                serving::Input::Header(header, served)
            }
            // Most of what comes, and the state stays as it is.
            Token::Element(frame) if self.client.near.machine().is_some_and(|s| s.passes(&frame)) => {
                return self.pass(frame);
            }
            Token::Element(frame) => serving::Input::Element(frame),
            Token::Keepalive => serving::Input::Space,
            Token::Text => serving::Input::Text,
            Token::End => serving::Input::End,
        };
        self.serve(input);
    }

    /// The connection of the client ended. Without a closing tag its session lives on inside, so that it may come back
    /// for it (SM-06).
    fn near_gone(&mut self, reason: Reason) {
        if self.client.near.is_over() {
            return;
        }
        self.client.near = Life::Over;
        self.turn.push(Effect::Cut(Side::Near));
        self.tell(reason);
        self.part(After::Resumable);
    }

    /// One step of the server towards the client, with all that follows from it.
    fn serve(&mut self, input: serving::Input) {
        let Some(machine) = self.client.near.take() else { return };
        match machine.step(&self.client.params, input, self.turn.now) {
            Ok((next, effects)) => {
                self.client.near.put(next);
                for effect in effects {
                    self.served(effect);
                }
            }
            Err(fault) => {
                let behind = fault.reason == Reason::BackendFault;
                self.near_end(fault, if behind { After::Resumable } else { After::Closed });
            }
        }
    }

    fn served(&mut self, effect: serving::Effect) {
        match effect {
            serving::Effect::Send(octets) => self.say_near(octets),
            serving::Effect::Upgrade => self.turn.push(Effect::Upgrade(Side::Near)),
            serving::Effect::Restart => self.turn.push(Effect::Restart(Side::Near)),
            serving::Effect::Call(domain) => self.call(domain),
            serving::Effect::Say(ask, octets) => {
                self.heed_management(&octets);
                self.goes_on(&ask);
                self.pose(posing::Input::Say(ask, octets));
            }
            serving::Effect::Try(mechanism, account) => {
                let Some(hosted) = self.hosted() else { return };
                if let Err(why) = self.may_try(account.as_deref()) {
                    let reason = self.told_uncertified(hosted, why);
                    return self.serve(serving::Input::Tried(Err(reason)));
                }
                self.turn.push(Effect::Try(LoginAttempt { hosted, mechanism, account }));
            }
            serving::Effect::Apply => self.turn.push(Effect::Apply),
            serving::Effect::Declined(reason) | serving::Effect::Overlooked(reason) => {
                let hosted = self.hosted();
                self.note(Event::Refused { pair: None, hosted, reason });
            }
            serving::Effect::Bound => self.bound(),
            serving::Effect::Pass(frame) => self.pass(frame),
            serving::Effect::Refused(reason) => {
                if let Some(hosted) = self.hosted() {
                    let (mechanism, account, outcome) = (None, None, Outcome::Deny);
                    self.note(Event::Login { hosted, mechanism, account, outcome, reason, detail: None });
                }
            }
            serving::Effect::PeerError(name) => {
                self.turn.heard_error(Facing::Public, &name);
                self.near_closed(Reason::PeerError);
            }
            serving::Effect::Closed => self.near_closed(Reason::Finished),
        }
    }

    /// C2S-02: TLS stands, and the domain is ours.
    fn call(&mut self, domain: Domain) {
        let Some(client) = self.turn.home.clients.get(&domain) else { return };
        let rules = Rules {
            mechanisms: client.mechanisms.clone(),
            registration: client.registration,
            features: client.features.clone(),
            max_octets: self.turn.home.largest(Some(&domain)),
            early_octets: self.turn.home.limits.before_proof.element,
        };
        let step_time = self.turn.home.timeouts.header;
        let language = self.client.languages.0.clone().filter(|tag| is_language(tag));
        self.client.terms = Some(posing::PosingParams { to: domain.clone(), language, rules, step_time });
        self.client.far = Life::Open(Posing::Dialling);
        self.turn.push(Effect::Connect(FAR, Destination::Client(domain)));
    }

    fn bound(&mut self) {
        self.client.bound = true;
        self.turn.push(Effect::Proven(Side::Near));
        self.turn.push(Effect::Proven(Side::Far(FAR)));
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

    fn expire(&mut self) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= self.turn.now);
        let (near, far) = (due(self.client.near.until()), due(self.client.far.until()));
        let serving = due(self.client.near.machine().and_then(Serving::deadline));
        let posing = due(self.client.far.machine().and_then(Posing::deadline));
        let login = !self.client.bound && self.client.near.is_open();
        let expired = due(self.client.certificate_end());
        let late = login && due(Some(self.client.started + self.turn.home.timeouts.unauth));
        if far {
            self.far_cut();
        }
        if near {
            match self.client.near {
                Life::Parting { .. } => self.near_close(),
                Life::Open(_) | Life::Closing { .. } | Life::Over => self.near_finish(),
            }
        }
        if serving {
            self.serve(serving::Input::Expired);
        }
        if posing && self.is_unheard() && self.client.far.is_open() {
            self.next_server();
        } else if posing {
            self.pose(posing::Input::Expired);
        }
        if expired {
            self.near_fault(Reason::CertificateExpired, After::Closed);
        }
        if late {
            self.near_fault(Reason::NegotiationTimeout, After::Closed);
        }
    }

    fn say_near(&mut self, octets: Bytes) {
        if !self.client.near.is_open() {
            return;
        }
        // The client can do nothing with our header, or with a success that needs no new one, before the features are there:
        // they go out in one write.
        if matches!(self.client.near.machine(), Some(Serving::Waiting(_))) {
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

    fn backend(&mut self, up: bool) {
        if let Some(hosted) = self.hosted() {
            self.note(Event::Backend { hosted, up });
        }
    }

    fn count(&mut self, kind: Kind, octets: usize) {
        self.client.traffic.count(octets);
        if let Some(hosted) = self.hosted() {
            self.note(Event::Passed { hosted, kind, octets });
        }
    }

    /// One audit record, when the client's stream ends.
    fn tell(&mut self, reason: Reason) {
        if std::mem::replace(&mut self.client.told, true) {
            return;
        }
        let secured = self.client.secured.as_ref();
        let Traffic { stanzas, octets } = self.client.traffic;
        let detail = self.client.detail.clone();
        let tells = !self.client.bound && !reason.is(Class::Ordinary);
        let named = (None, self.client.asked_for.clone().filter(|_| tells));
        let record = Box::new(Record { named, stanzas, octets, detail, ..Record::of(secured, reason) });
        match self.hosted().filter(|_| self.client.bound) {
            Some(hosted) => self.note(Event::Left { hosted, record }),
            None => self.note(Event::Closed { record }),
        }
    }

    /// Home is another. A client of a domain that is no longer served here is told so (RFC 6120 4.9.3.5).
    fn rehomed(&mut self) {
        if self.hosted().is_some_and(|domain| !self.turn.home.clients.contains_key(&domain)) {
            return self.near_fault(Reason::HostGone, After::Closed);
        }
        self.certify_again(Reason::ClientCertificateUntrusted);
    }

    fn hosted(&self) -> Option<Domain> {
        self.client.terms.as_ref().map(|terms| terms.to.clone())
    }

    fn note(&mut self, event: Event) {
        self.turn.note(event);
    }
}

/// The stanza as it goes on; most go as they came.
fn edited(frame: &Frame, edits: &Edits) -> Bytes {
    rewrite(frame, edits)
}
