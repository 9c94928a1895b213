//! The far legs: what the initiating entity hears, when an attempt is tried again, and how a leg ends.

use std::time::Instant;

use bytes::Bytes;

use crate::filter::Route;
use crate::jid::Domain;
use crate::reason::{Direction, Facing, Outcome, Reason, StreamCondition, Why};
use crate::stream::fault::Fault;
use crate::stream::initiating::{self, Errand, Established, Initiating, Terms};
use crate::stream::{Answer, Certificate, Method, Secured};
use crate::xml::{CLOSE, Token};

use super::event::{DialbackOutcome, Role, Said};
use super::{Candidate, ClaimId, Destination, Effect, Event, FarId, Input, Relay, Shape, Side};

/// A leg that we opened.
#[derive(Clone, Debug)]
pub(super) struct Far {
    pub(super) terms: Terms,
    pub(super) machine: Option<Initiating>,
    /// The claim that waits for it.
    pub(super) claim: Option<ClaimId>,
    /// How we were proven there, once the pair stands.
    pub(super) method: Option<Method>,
    address: Option<std::net::IpAddr>,
    pub(super) secured: Option<Secured>,
    /// What the last attempt ended with.
    last: Option<Why>,
    pub(super) max_octets: Option<usize>,
    pub(super) standing: bool,
    pub(super) closing: Option<Instant>,
    /// CRT-12: when the certificate expires that the pair stands on.
    pub(super) expires: Option<Instant>,
    pub(super) reason: Reason,
    /// When the last key or question went out.
    asked: Instant,
    keyed: bool,
    /// How often it was sent to another host.
    pub(super) moves: u8,
    /// Its server ended the stream because it was idle, and said so.
    pub(super) idled: bool,
    /// Others have the turn for its place; the near leg has done nothing to end with it.
    pub(super) yields: bool,
    /// Handshakes that broke.
    pub(super) handshakes: u8,
}

impl Far {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let machine = self.machine.as_ref().and_then(Initiating::deadline);
        self.closing.or_else(|| machine.into_iter().chain(self.expires).min())
    }

    pub(super) fn show(&mut self, certificate: Certificate) {
        if let Some(secured) = &mut self.secured {
            secured.certificate = Some(certificate);
        }
    }

    pub(super) fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    fn certificate(&self) -> Option<&Certificate> {
        self.secured.as_ref().and_then(|secured| secured.certificate.as_ref())
    }

    pub(super) fn address(&self) -> Option<std::net::IpAddr> {
        self.address
    }

    /// Another attempt begins.
    pub(super) fn redial(&mut self, last: Why, external: bool) {
        self.terms.external = external;
        self.last = Some(last);
        self.machine = Some(Initiating::Dialling);
        self.secured = None;
    }

    /// Our closing tag is out.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Standing, and neither closing nor over.
    pub(super) fn is_live(&self) -> bool {
        self.standing && self.closing.is_none()
    }
}

impl Relay {
    /// Opens a far leg for this errand.
    pub(super) fn open_far(
        &mut self,
        errand: Errand,
        facing: Facing,
        claim: Option<ClaimId>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> FarId {
        self.open_far_by(errand, (facing, None), claim, now, out)
    }

    /// The same, to the backend of that hosted domain.
    pub(super) fn open_far_by(
        &mut self,
        errand: Errand,
        (facing, via): (Facing, Option<Domain>),
        claim: Option<ClaimId>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> FarId {
        let id = FarId(self.issue());
        let destination = match facing {
            Facing::Backend => Destination::Backend(via.unwrap_or_else(|| errand.to().clone())),
            Facing::Public => Destination::World {
                from: errand.from().clone(),
                target: errand.to().clone(),
                behalf: self.behalf(&errand),
            },
        };
        let times = &self.home.timeouts;
        let terms = Terms {
            facing,
            clear: facing == Facing::Public && self.clear_allowed(&errand),
            errand,
            external: facing == Facing::Public,
            dialback: true,
            step_time: times.header,
            proof_time: times.dialback,
        };
        let far = Far {
            terms,
            machine: Some(Initiating::Dialling),
            claim,
            method: None,
            address: None,
            secured: None,
            last: None,
            max_octets: None,
            standing: false,
            closing: None,
            expires: None,
            reason: Reason::Finished,
            asked: now,
            keyed: false,
            moves: 0,
            idled: false,
            yields: false,
            handshakes: 0,
        };
        self.fars.insert(id, Box::new(far));
        out.push(Effect::Connect(id, destination));
        id
    }

    pub(super) fn far_input(&mut self, id: FarId, input: Input, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get_mut(&id) else {
            return match input {
                // The relay has done with the leg, and the connection broke before all was out (CLS-02, BE-11).
                Input::Gone { unsent, .. } => self.left_behind(unsent, out),
                Input::Overflow(octets) => self.far_overflow(&octets, out),
                _ => {}
            };
        };
        match input {
            Input::Connected(address, secured) => {
                far.address = Some(address);
                far.secured = secured.clone();
                if secured.is_some() && !self.far_secured(id, now, out) {
                    return;
                }
                self.far_step(id, initiating::Input::Connected(secured), now, out);
            }
            Input::Secured(secured) => {
                far.secured = Some(secured.clone());
                if self.far_secured(id, now, out) {
                    self.far_step(id, initiating::Input::Secured(secured), now, out);
                }
            }
            Input::Unreachable(why) => {
                let why = far.last.take().unwrap_or(why);
                self.far_missed(id, why.reason, out);
                self.far_refused(id, why, now, out);
            }
            Input::Gone { reason, unsent } => self.far_gone(id, reason, unsent, now, out),
            Input::Stalled => self.far_fault(id, Reason::StanzaTimeout, now, out),
            Input::Overflow(octets) => self.far_overflow(&octets, out),
            // The rest concerns the near leg, or was taken before.
            _ => {}
        }
    }

    pub(super) fn far_token(&mut self, id: FarId, token: Token, now: Instant, out: &mut Vec<Effect>) {
        if !self.fars.contains_key(&id) {
            return;
        }
        let input = match token {
            Token::Violation(violation) => return self.far_fault(id, violation.reason(), now, out),
            Token::Keepalive | Token::Text => return,
            // RLY-04: on a stream that we opened the other side sends no stanza of any kind.
            Token::Refused(_) => return self.far_fault(id, Reason::NotAuthorized, now, out),
            Token::Header(header) => initiating::Input::Header(header),
            Token::Element(frame) if self.far_moves(id, &frame, out) => return,
            Token::Element(frame) => initiating::Input::Element(frame),
            Token::End => initiating::Input::End,
        };
        self.far_step(id, input, now, out);
    }

    /// The handshake is done: does the policy take this peer, by what the channel shows (CRT-13)?
    fn far_secured(&mut self, id: FarId, now: Instant, out: &mut Vec<Effect>) -> bool {
        let Some(far) = self.fars.get(&id) else { return false };
        if far.terms.facing == Facing::Backend {
            return true;
        }
        let pair = match &far.terms.errand {
            Errand::Speak(pair) => pair.clone(),
            Errand::Ask(check) => {
                // DB-24: who vouches for a key must be the domain's server by more than an address, too.
                if self.authority_taken(check, far) {
                    return true;
                }
                let detail = super::doubt(&self.policy, &check.pair, Direction::Inbound, far.certificate());
                let why = Why { reason: Reason::CertificateUntrusted, detail };
                self.far_attempt_failed(id, why, Bytes::new(), now, out);
                return false;
            }
        };
        let verdict = self.outbound_verdict(&pair, Some(id));
        if verdict.is_allow() {
            return true;
        }
        let why = match verdict.reason {
            Reason::IdentityTooWeak => {
                let detail =
                    super::doubt(&self.policy, &pair, Direction::Outbound, self.certificate(Side::Far(id)));
                Why { reason: Reason::CertificateUntrusted, detail }
            }
            other => other.into(),
        };
        out.push(Effect::Note(Event::Judged { pair, verdict: verdict.into() }));
        self.far_attempt_failed(id, why, Bytes::new(), now, out);
        false
    }

    pub(super) fn far_step(
        &mut self,
        id: FarId,
        input: initiating::Input,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let Some(far) = self.fars.get_mut(&id) else { return };
        let Some(machine) = far.machine.take() else { return };
        let external = machine.died_of_external() && far.closing.is_none();
        let keys = self.home.keys.facing(far.terms.facing);
        match machine.step(&far.terms, keys, input, now) {
            Ok((next, effects)) => {
                far.machine = Some(next);
                for effect in effects {
                    self.far_effect(id, effect, now, out);
                }
            }
            Err(fault) if external && is_leave(&fault) => {
                self.far_again(id, fault.octets, out);
            }
            Err(fault) => self.far_failed(id, fault, now, out),
        }
    }

    fn far_effect(&mut self, id: FarId, effect: initiating::Effect, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get_mut(&id) else { return };
        let facing = far.terms.facing;
        match effect {
            initiating::Effect::Send(octets) => {
                if far.closing.is_none() {
                    out.push(Effect::Send(Side::Far(id), octets));
                }
            }
            initiating::Effect::Upgrade => out.push(Effect::Upgrade(Side::Far(id))),
            initiating::Effect::Restart => out.push(Effect::Restart(Side::Far(id))),
            initiating::Effect::Await(check) => {
                far.asked = now;
                far.keyed = true;
                out.push(Effect::Await(id, check));
            }
            initiating::Effect::Established(established) => self.established(id, established, now, out),
            initiating::Effect::Answered(answer) => {
                // Once told that there is none, the verifier hears of no other.
                if !std::mem::replace(&mut self.ending, true) {
                    out.push(Effect::Answer(answer, None));
                }
                self.far_close(id, now, out);
            }
            initiating::Effect::Unasked => out.push(Effect::Note(Event::Dialback {
                role: Role::Initiating,
                facing,
                outcome: DialbackOutcome::Unasked,
                after: std::time::Duration::ZERO,
            })),
            initiating::Effect::PeerError(name) => {
                far.reason = Reason::PeerError;
                far.idled = name == "connection-timeout";
                let condition = StreamCondition::parse(&name);
                out.push(Effect::Note(Event::StreamError { facing, said: Said::Received, condition }));
                self.report_doubted(&name, now);
            }
            initiating::Effect::Closed => {
                let reason = far.reason;
                out.push(Effect::Finish(Side::Far(id)));
                self.far_lost(id, reason, now, out);
            }
        }
    }

    /// The pair stands on the far side: the guard opens, and the near side hears it (D3, DB-26).
    fn established(&mut self, id: FarId, established: Established, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get_mut(&id) else { return };
        let method = if established.external { Method::Certificate } else { Method::Dialback };
        far.method = Some(method);
        far.standing = true;
        far.max_octets = established.max_octets;
        let facing = far.terms.facing;
        if far.keyed {
            let after = now.saturating_duration_since(far.asked);
            let outcome = DialbackOutcome::Valid;
            out.push(Effect::Note(Event::Dialback { role: Role::Initiating, facing, outcome, after }));
        }
        let (claim, errand) = (far.claim.take(), far.terms.errand.clone());
        self.far_met(id, out);
        self.stand_until(id);
        out.push(Effect::Widen(Side::Far(id)));
        let Errand::Speak(pair) = errand else { return };
        if facing == Facing::Public {
            let (outcome, reason) = (Outcome::Allow, Reason::Allowed);
            out.push(Effect::Note(Event::Authenticated { pair: pair.clone(), method, outcome, reason }));
        } else if self.home.hosts(&pair.target) {
            out.push(Effect::Note(Event::Backend { hosted: pair.target.clone(), up: true }));
        }
        match claim {
            Some(claim) => self.admit(claim, id, now, out),
            // In clear nobody has looked at the address yet.
            None => self.courier_established(id, now, out),
        }
    }

    /// The attempt ended in EXTERNAL; the same server is tried once more without.
    pub(super) fn far_again(&mut self, id: FarId, octets: Bytes, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get_mut(&id) else { return };
        far.redial(Reason::SaslRefused.into(), false);
        if !octets.is_empty() {
            out.push(Effect::Send(Side::Far(id), octets));
        }
        out.push(Effect::Retry(id, Candidate::Same));
    }

    fn far_failed(&mut self, id: FarId, fault: Fault, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get_mut(&id) else { return };
        let facing = far.terms.facing;
        far.reason = fault.reason;
        if let (Some(condition), false) = (fault.reason.stream_condition(), fault.octets.is_empty())
            && fault.octets.len() > CLOSE.len()
        {
            let condition = Some(condition);
            out.push(Effect::Note(Event::StreamError { facing, said: Said::Sent, condition }));
        }
        if !far.standing {
            return self.far_attempt_failed(id, fault.why(), fault.octets, now, out);
        }
        let silent = fault.octets.is_empty();
        if !silent && far.closing.is_none() {
            out.push(Effect::Send(Side::Far(id), fault.octets));
        }
        out.push(if silent { Effect::Cut(Side::Far(id)) } else { Effect::Finish(Side::Far(id)) });
        self.far_lost(id, fault.reason, now, out);
    }

    pub(super) fn far_fault(&mut self, id: FarId, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get_mut(&id) else { return };
        let Some(machine) = far.machine.take() else { return };
        let fault = machine.fault(reason);
        self.far_failed(id, fault, now, out);
    }

    /// A far leg is at a limit: it ends with its pair, and the others go on (DB-66). Before the pair stands it is one
    /// more attempt that failed.
    pub(super) fn far_shut(&mut self, id: FarId, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get(&id) else { return };
        let Errand::Speak(pair) = far.terms.errand.clone() else {
            return self.far_fault(id, reason, now, out);
        };
        if !far.standing {
            return self.far_fault(id, reason, now, out);
        }
        if self.courier_of().is_some() {
            return self.courier_shut(id, reason, now, out);
        }
        self.guard.reroute(&pair, Route::Withdrawn(reason));
        self.far_close(id, now, out);
        if self.guard.is_withdrawn() && self.claims.is_empty() {
            self.near_close(reason, now, out);
        }
    }

    /// An attempt before the pair stands failed: the next candidate, or the end of the errand.
    pub(super) fn far_attempt_failed(
        &mut self,
        id: FarId,
        why: Why,
        octets: Bytes,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let Some(far) = self.fars.get_mut(&id) else { return };
        if !octets.is_empty() && far.closing.is_none() {
            out.push(Effect::Send(Side::Far(id), octets));
        }
        // COMPAT(Openfire): one connect of its own in a thousand fails under load, and ours is refused or ended for it.
        let broken = matches!(
            why.reason,
            Reason::ConnectionLost | Reason::DialbackRefused | Reason::PeerError | Reason::RemoteFailed
        );
        let speaks = matches!(far.terms.errand, Errand::Speak(_));
        if far.terms.facing == Facing::Backend
            && far.closing.is_none()
            && (broken && speaks && far.handshakes == 0)
        {
            far.handshakes += 1;
            far.redial(why, false);
            out.push(Effect::Retry(id, Candidate::Same));
            return;
        }
        // A word about the pair is final; a broken channel or a wrong certificate concerns this one address.
        let final_word = matches!(
            why.reason,
            Reason::DialbackInvalid
                | Reason::DialbackRefused
                | Reason::NotAuthorized
                | Reason::RemoteNotFound
        );
        if far.terms.facing == Facing::Public && !final_word && far.closing.is_none() {
            far.redial(why, true);
            out.push(Effect::Retry(id, Candidate::Next));
            return;
        }
        if far.closing.is_none() {
            self.far_met(id, out);
        }
        out.push(Effect::Finish(Side::Far(id)));
        self.far_refused(id, why, now, out);
    }

    /// The errand of a leg that never stood is over.
    fn far_refused(&mut self, id: FarId, why: Why, now: Instant, out: &mut Vec<Effect>) {
        self.far_doubted(id, why.reason, out);
        let Some(far) = self.fars.remove(&id) else { return };
        let why = match far.terms.facing {
            Facing::Backend => backend_reason(why.reason).into(),
            Facing::Public => why,
        };
        let reason = why.reason;
        if far.keyed {
            let outcome = match reason {
                Reason::DialbackInvalid => DialbackOutcome::Invalid,
                _ => DialbackOutcome::Error,
            };
            let after = now.saturating_duration_since(far.asked);
            let facing = far.terms.facing;
            out.push(Effect::Note(Event::Dialback { role: Role::Initiating, facing, outcome, after }));
        }
        let hosted = self.home.hosts(far.terms.errand.to());
        if far.terms.facing == Facing::Backend && reason == Reason::BackendDown && hosted {
            out.push(Effect::Note(Event::Backend { hosted: far.terms.errand.to().clone(), up: false }));
        }
        if let Some(claim) = far.claim {
            self.refuse(claim, why.clone(), now, out);
        }
        match self.shape {
            Shape::Courier(_) => self.courier_refused(&why, now, out),
            Shape::Serving => {}
            Shape::Verifier if self.ending => {}
            Shape::Verifier => {
                self.ending = true;
                out.push(Effect::Answer(Answer::Trouble(reason), why.detail.map(Box::new)));
            }
        }
    }

    /// BE-01: a backend that says no, or nothing, to our key.
    pub(super) fn far_doubted(&self, id: FarId, reason: Reason, out: &mut Vec<Effect>) {
        let far = self.fars.get(&id).filter(|far| far.keyed && far.terms.facing == Facing::Backend);
        if let Some(Errand::Speak(pair)) = far.filter(|_| reason.is_doubt()).map(|far| &far.terms.errand) {
            out.push(Effect::Doubted(id, pair.sender.clone()));
        }
    }

    /// The proof for a claim that is believed, and the permit for it, or the refusal.
    pub(super) fn far_method(&self, id: FarId) -> Option<Method> {
        self.fars.get(&id).and_then(|far| far.method)
    }

    /// What the channel of that leg proves of the domain that was called.
    pub(super) fn far_shown(&self, id: FarId) -> Option<Method> {
        let far = self.fars.get(&id).filter(|far| far.terms.facing == Facing::Public)?;
        let (pair, direction) = match &far.terms.errand {
            Errand::Speak(pair) => (pair, Direction::Outbound),
            Errand::Ask(check) => (&check.pair, Direction::Inbound),
        };
        self.shown(pair, direction, far.secured(), far.address()).0.map(|proof| proof.method())
    }
}

/// Whether the peer took its leave where EXTERNAL had not come out well, instead of saying something about the pair.
fn is_leave(fault: &Fault) -> bool {
    matches!(
        fault.reason,
        Reason::Finished
            | Reason::PeerError
            | Reason::PeerPolicy
            | Reason::RemoteFailed
            | Reason::RemoteNotFound
            | Reason::SaslRefused
    )
}

/// What a failure on the way to a backend is called: the world learns nothing of the inside.
fn backend_reason(reason: Reason) -> Reason {
    match reason {
        Reason::DialbackTimeout => Reason::BackendSilent,
        Reason::Shutdown | Reason::BackendSilent | Reason::TooManyToBackend => reason,
        Reason::BackendDown | Reason::RemoteUnreachable | Reason::ConnectionLost | Reason::RemoteFailed => {
            Reason::BackendDown
        }
        _ => Reason::BackendFault,
    }
}
