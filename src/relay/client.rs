//! The relay of one client: the leg that arrived, the one leg to its server, and what goes between them.
//!
//! Nothing goes to the server before TLS stands and the domain is one of ours (C2S-02), no stanza goes either way before
//! the server has said who the client is, and then none is ever dropped, answered or made here (SM-02): what a client
//! may not send ends the stream, and what its server may not has another in its place.

mod certified;
mod far;
mod managed;
mod near;

use std::time::Instant;

use bytes::Bytes;

use crate::filter::Traffic;
use crate::jid::Domain;
use crate::reason::{Class, Detail, Direction, Flow, Outcome, Reason, Why};
use crate::stream::client::Own;
use crate::stream::client::initiating::{self, ClientInitiating};
use crate::stream::client::receiving::{self, ClientReceiving};
use crate::stream::{Certificate, Secured, StreamIds};
use crate::xml::{Edits, Frame, Kind, Token, rewrite};

use self::certified::Certified;
use self::managed::Managed;
use super::leg::{of_leg, of_servers};
use super::life::Life;
use super::patched::Patched;
use super::turn::Turn;
use super::turned::Turned;
use super::{Arrival, Event, FarId, Input, Logged, Record, RelayParams, Side};

/// A client, its server, and the gateway between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    params: receiving::ClientReceivingParams,
    /// The server towards the client.
    near: Life<ClientReceiving>,
    /// The client towards the server, once that is called.
    far: Life<ClientInitiating>,
    terms: Option<initiating::ClientInitiatingParams>,
    address: std::net::IpAddr,
    /// Its channel, and whom its certificate lets in.
    certified: Certified,
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
    pub(super) fn new(relays: &RelayParams, arrival: &Arrival, now: Instant) -> Self {
        let params = receiving::ClientReceivingParams {
            default_domain: relays.default_domain.clone(),
            sasl_attempts: relays.limits.sasl_attempts,
            binds: relays.limits.binds,
            header_time: relays.timeouts.header,
            tls_time: relays.timeouts.tls,
        };
        let ids = StreamIds::new(arrival.seed);
        Self {
            near: Life::Open(ClientReceiving::new(&params, ids, arrival.secured.clone(), now)),
            far: Life::Over,
            params,
            terms: None,
            address: arrival.address,
            certified: Certified::new(arrival.secured.clone()),
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
            Side::Near => !self.near.is_over() && self.near.machine().is_none_or(ClientReceiving::wants_read),
            Side::Far(_) => !self.far.is_over(),
        }
    }

    pub(super) fn deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let login = (self.near.is_open() && !self.bound).then(|| self.started + relays.timeouts.unauth);
        let machines = [
            self.near.machine().and_then(ClientReceiving::deadline),
            self.far.machine().and_then(ClientInitiating::deadline),
        ];
        let legs = [self.near.until(), self.far.until(), login, self.certificate_end()];
        machines.into_iter().chain(legs).flatten().min()
    }

    pub(super) fn secured(&self) -> Option<&Secured> {
        self.certified.secured()
    }

    /// When the certificate expires that it was let in by.
    fn certificate_end(&self) -> Option<Instant> {
        self.certified.ends().filter(|_| self.near.is_open())
    }

    /// Whether stanzas may pass.
    pub(super) fn is_bound(&self) -> bool {
        self.bound
    }

    /// Who it is, for an operator.
    pub(super) fn snapshot(&self, again: Option<&Certificate>, relays: &RelayParams) -> Option<Logged> {
        let own = self.own().filter(|_| self.bound)?;
        let Traffic { stanzas, octets } = self.traffic;
        let tls = self.secured().map(|secured| secured.version);
        let doubt = self.certified.foreseen(again, relays);
        Some(Logged { address: own.address(), tls, stanzas, octets, doubt })
    }

    /// Who the client is, once its server has said so.
    fn own(&self) -> Option<&Own> {
        self.near.machine().and_then(ClientReceiving::own)
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
            Input::RelayParams(_) => self.takes_params(),
            Input::Policy(policy) => {
                // A ban that came between the door and here.
                if policy.bans().holds_address(self.client.address) {
                    self.near_fault(Reason::Banned, After::Resumable);
                }
            }
            Input::Tried(result) => self.near_input(receiving::Input::Tried(result)),
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

    fn expire(&mut self) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= self.turn.now);
        let (near, far) = (due(self.client.near.until()), due(self.client.far.until()));
        let near_due = due(self.client.near.machine().and_then(ClientReceiving::deadline));
        let far_due = due(self.client.far.machine().and_then(ClientInitiating::deadline));
        let login = !self.client.bound && self.client.near.is_open();
        let expired = due(self.client.certificate_end());
        let late = login && due(Some(self.client.started + self.turn.relays.timeouts.unauth));
        if far {
            self.far_cut();
        }
        if near {
            match self.client.near {
                Life::Parting { .. } => self.near_close(),
                Life::Open(_) | Life::Closing { .. } | Life::Over => self.near_finish(),
            }
        }
        if near_due {
            self.near_input(receiving::Input::Expired);
        }
        if far_due && self.is_unheard() && self.client.far.is_open() {
            self.next_server();
        } else if far_due {
            self.far_input(initiating::Input::Expired);
        }
        if expired {
            self.near_fault(Reason::CertificateExpired, After::Closed);
        }
        if late {
            self.near_fault(Reason::NegotiationTimeout, After::Closed);
        }
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
    fn report(&mut self, reason: Reason) {
        if std::mem::replace(&mut self.client.told, true) {
            return;
        }
        let secured = self.client.secured();
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

    /// The params of relays have changed. A client of a domain that is no longer served here is told so (RFC 6120 4.9.3.5).
    fn takes_params(&mut self) {
        if self.hosted().is_some_and(|domain| !self.turn.relays.clients.contains_key(&domain)) {
            return self.near_fault(Reason::HostGone, After::Closed);
        }
        self.certify_again(Reason::ClientCertificateUntrusted);
    }

    // -- its certificate

    /// Before anything is offered: whether its certificate lets anybody in at this domain.
    fn admit(&mut self, domain: &Domain) -> Result<(), Reason> {
        let admitted = self.client.certified.admit(domain, self.turn.relays);
        admitted.map_err(|why| self.report_uncertified(domain.clone(), why))
    }

    /// The certificate is worth this now.
    fn show(&mut self, certificate: Certificate) {
        self.client.certified.show(certificate);
        let lost = self.client.certified.distrust(self.hosted().as_ref());
        self.certify_again(lost);
    }

    /// The certificate is worth something else now, or the domain asks for something else (CRT-12).
    fn certify_again(&mut self, otherwise: Reason) {
        let Some(hosted) = self.hosted().filter(|_| self.client.near.is_open()) else { return };
        let own = self.client.own().cloned();
        if let Err(Why { reason, detail }) = self.client.certified.admit_again(&hosted, own, self.turn.relays)
        {
            let reason = if reason.is(Class::Unworthy) { otherwise } else { reason };
            self.uncertified(Why { reason, detail });
        }
    }

    /// The end of a client whose certificate, or want of one, does not let it go on.
    fn uncertified(&mut self, why: Why) {
        let Some(hosted) = self.hosted() else { return };
        let reason = self.report_uncertified(hosted, why);
        self.near_fault(reason, After::Closed);
    }

    fn report_uncertified(&mut self, hosted: Domain, why: Why) -> Reason {
        let Why { reason, detail } = why;
        self.client.detail.clone_from(&detail);
        let (mechanism, account, outcome) = (None, None, Outcome::Deny);
        self.note(Event::Login { hosted, mechanism, account, outcome, reason, detail });
        reason
    }

    // -- for both legs

    /// What the patches say of a stanza of the client (inbound), or of its server.
    fn patched(&mut self, frame: &Frame, direction: Direction) -> Patched {
        if self.turn.policy.patches().is_none() {
            return Patched::Untouched;
        }
        let Some(hosted) = self.hosted() else { return Patched::Untouched };
        self.turn.patched(frame.head(), (Flow::C2s, direction), &hosted, None)
    }

    fn report_unfit(&mut self, turned: &Turned<'_>) {
        let own = self.client.own().map(|own| own.address());
        let hosted = self.hosted();
        self.note(Event::Unfit {
            pair: None,
            hosted,
            reason: turned.reason,
            address: turned.from.as_deref().map(str::to_owned).or(own),
            measure: turned.measure,
            octets: turned.octets,
        });
    }

    /// When a leg that closes now is over at the latest (T-close).
    fn close_by(&self) -> Instant {
        self.turn.now + self.turn.relays.timeouts.close
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
