//! How attempts of a far leg end, and which are tried again.

use bytes::Bytes;

use super::super::event::{DialbackOutcome, Event, Role, Said};
use super::super::judge;
use super::super::turn::Turn;
use super::super::{AddressChoice, Effect};
use super::{Far, FarOutcome, Lost, judged, reachability};
use crate::reason::{Cause, Class, Facing, Reason, Why};
use crate::stream::Certificate;
use crate::stream::fault::{Due, Fault};
use crate::stream::initiating::{Errand, Initiating, Input};
use crate::xml::{CLOSE, Frame, names};

impl Far {
    /// Nothing stands yet, and may come to.
    pub(in super::super) fn is_under_way(&self) -> bool {
        !self.stands() && self.life.is_open()
    }

    /// The leg ends because of this, told as its state allows; before the pair stands it is one more attempt that failed.
    pub(in super::super) fn fault(&mut self, reason: Reason, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        let due = self.due();
        let fault = self.life.take()?.fault(reason).waiting_for(due);
        self.failed(fault, turn)
    }

    /// What the peer sends is none of its words.
    pub(in super::super) fn breaks(&mut self, reason: Reason, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        if !self.is_securing() || !self.may_secure_again() {
            return self.fault(reason, turn);
        }
        let due = self.due();
        let fault = self.life.take()?.fault(reason).waiting_for(due);
        self.secure_again(fault.why(), fault.octets, turn);
        None
    }

    /// A step has consumed the machine.
    pub(super) fn failed(&mut self, fault: Fault, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        self.reason = fault.reason;
        if fault.octets.len() > CLOSE.len() {
            turn.sent_error(self.terms.facing, fault.reason.stream_condition());
        }
        if !self.stands() {
            return self.attempt_failed(fault.why(), fault.octets, turn);
        }
        if fault.octets.is_empty() {
            turn.push(Effect::Cut(self.side()));
        } else {
            if !self.is_closing() {
                turn.send(self.side(), fault.octets);
            }
            turn.push(Effect::Finish(self.side()));
        }
        Some(self.lost(fault.reason, Vec::new()))
    }

    /// The connection ended.
    pub(in super::super) fn gone(
        &mut self,
        reason: Reason,
        unsent: Vec<Bytes>,
        turn: &mut Turn<'_>,
    ) -> Option<FarOutcome> {
        if self.stands() {
            turn.push(Effect::Cut(self.side()));
            let reason = if self.is_closing() { Reason::Finished } else { reason };
            return Some(self.lost(reason, unsent));
        }
        if self.is_closing() {
            turn.push(Effect::Cut(self.side()));
            let done = Reason::Finished;
            return Some(FarOutcome::Closed(done, done));
        }
        let due = self.due();
        match self.life.take() {
            Some(machine) if machine.died_of_external() => {
                self.without_external(Bytes::new(), turn);
                None
            }
            Some(machine @ (Initiating::Requesting(_) | Initiating::Upgrading(_)))
                if self.may_secure_again() && !self.was_silent(&machine, turn) =>
            {
                self.secure_again(lost(reason, due), Bytes::new(), turn);
                None
            }
            _ => self.attempt_failed(lost(reason, due), Bytes::new(), turn),
        }
    }

    /// CRT-12: the certificate of the peer is worth this now.
    pub(in super::super) fn retrusted(
        &mut self,
        certificate: Certificate,
        turn: &mut Turn<'_>,
    ) -> Option<FarOutcome> {
        let before = self.server(turn);
        if let Some(secured) = &mut self.secured {
            secured.certificate = Some(certificate);
        }
        let expires = judged::stands_until(self, turn);
        if let Some(stands) = &mut self.stands {
            stands.expires = expires;
        }
        if before.is_none() || self.server(turn).is_some() {
            return None;
        }
        let certificate = self.secured.as_ref().and_then(|secured| secured.certificate.as_ref());
        let reason = judge::distrust(certificate, self.target());
        // What the policy takes without such a proof goes on as it would come to stand now; a revoked certificate is nobody's.
        let stays = reason == Reason::CertificateDistrusted && !self.is_bidi() && self.speaks(turn);
        if stays { None } else { self.fault(reason, turn) }
    }

    /// Whether the policy takes its peer as its channel shows it now.
    fn speaks(&self, turn: &Turn<'_>) -> bool {
        matches!(self.terms.errand, Errand::Speak(_)) && self.verdict(turn).is_allow()
    }

    /// No candidate is left.
    pub(in super::super) fn unreachable(&mut self, why: Why, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        let why = self.last.take().unwrap_or(why);
        reachability::missed(self, why.reason, turn);
        Some(self.refused(why, turn))
    }

    /// An attempt before the pair stands failed: the next candidate, or the end of the errand.
    pub(super) fn attempt_failed(
        &mut self,
        why: Why,
        octets: Bytes,
        turn: &mut Turn<'_>,
    ) -> Option<FarOutcome> {
        let closing = self.is_closing();
        if !octets.is_empty() && !closing {
            turn.send(self.side(), octets);
        }
        let (reason, speaks) = (why.reason, matches!(self.terms.errand, Errand::Speak(_)));
        if !closing && reason == Reason::DialbackTimeout && self.terms.claims_anew() {
            self.terms.made_anew();
            self.again(why, self.terms.external, AddressChoice::Same, turn);
            return None;
        }
        match self.terms.facing {
            // COMPAT(Openfire): one connect of its own in a thousand fails under load, and ours is refused or ended for it.
            Facing::Backend if !closing && speaks && !self.broken && reason.is(Class::Broken) => {
                self.broken = true;
                self.again(why, false, AddressChoice::Same, turn);
                return None;
            }
            Facing::Public if !closing && !reason.is(Class::Final) => {
                self.broken = false;
                self.again(why, true, AddressChoice::Next, turn);
                return None;
            }
            Facing::Backend | Facing::Public => {}
        }
        if !closing {
            reachability::met(self, turn);
        }
        turn.push(Effect::Finish(self.side()));
        Some(self.refused(why, turn))
    }

    pub(super) fn lost(&self, reason: Reason, unsent: Vec<Bytes>) -> FarOutcome {
        FarOutcome::Lost(Lost { reason, closing: self.is_closing(), leave: self.leave, unsent })
    }

    /// Our side of the stream ends: flushed, closing tag, theirs awaited.
    pub(in super::super) fn close(&mut self, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        if self.is_closing() {
            return None;
        }
        if matches!(self.life.machine(), Some(Initiating::Dialling | Initiating::Upgrading(_)) | None) {
            turn.push(Effect::Cut(self.side()));
            return Some(FarOutcome::Dropped);
        }
        self.life.close(turn.now + turn.relays.timeouts.close);
        turn.send(self.side(), Bytes::from_static(CLOSE));
        None
    }

    /// The errand of a leg that never stood is over.
    fn refused(&mut self, why: Why, turn: &mut Turn<'_>) -> FarOutcome {
        self.key_rejected(why.reason, turn);
        let facing = self.terms.facing;
        let why = match facing {
            Facing::Backend => why.reason.of_backend().into(),
            Facing::Public => why,
        };
        if let Some(asked) = self.keyed {
            let invalid = why.reason == Reason::DialbackInvalid;
            let outcome = if invalid { DialbackOutcome::Invalid } else { DialbackOutcome::Error };
            turn.dialback(Role::Initiating, facing, outcome, turn.since(asked));
        }
        let hosted = self.target();
        if facing == Facing::Backend && why.reason == Reason::BackendDown && turn.relays.hosts(hosted) {
            turn.note(Event::Backend { hosted: hosted.clone(), up: false });
        }
        FarOutcome::Failed(why)
    }

    /// BE-01: a backend that says no, or nothing, to our key.
    pub(in super::super) fn key_rejected(&self, reason: Reason, turn: &mut Turn<'_>) {
        let keyed = self.keyed.is_some() && self.terms.facing == Facing::Backend;
        if let Some(pair) = self.pair().filter(|_| keyed && reason.is_doubt()) {
            turn.push(Effect::KeyRejected(self.id, pair.sender.clone()));
        }
    }

    /// The attempt ended in EXTERNAL; the same server is tried once more without.
    pub(super) fn without_external(&mut self, octets: Bytes, turn: &mut Turn<'_>) {
        self.redial(Reason::SaslRefused.into(), false);
        if !octets.is_empty() {
            turn.send(self.side(), octets);
        }
        turn.push(Effect::Retry(self.id, AddressChoice::Same));
    }

    fn again(&mut self, last: Why, external: bool, candidate: AddressChoice, turn: &mut Turn<'_>) {
        self.redial(last, external);
        turn.push(Effect::Retry(self.id, candidate));
    }

    /// A step has ended the attempt.
    pub(super) fn ended(
        &mut self,
        fault: Fault,
        again: Option<Again>,
        turn: &mut Turn<'_>,
    ) -> Option<FarOutcome> {
        match again {
            Some(Again::Secured) if self.may_secure_again() => {
                self.secure_again(fault.why(), Bytes::new(), turn);
                None
            }
            // The peer took its leave instead of saying something about the pair.
            Some(Again::WithoutExternal) if fault.reason.is(Class::Leave) => {
                self.without_external(fault.octets, turn);
                None
            }
            _ => self.failed(fault, turn),
        }
    }

    /// Whether the attempt goes on at the host that this element names (RFC 6120 4.9.3.19).
    pub(super) fn moves_on(&mut self, frame: &Frame, turn: &mut Turn<'_>) -> bool {
        let facing = self.terms.facing;
        if facing != Facing::Public || !frame.is(names::STREAMS, "error") {
            return false;
        }
        if self.stands() || self.is_closing() || self.secured.is_none() {
            return false;
        }
        let Some((host, port)) = self.moves.next(frame) else { return false };
        self.redial(Reason::PeerError.into(), true);
        // The condition is none that we have a word for.
        turn.note(Event::StreamError { facing, said: Said::Received, condition: None });
        turn.send(self.side(), Bytes::from_static(CLOSE));
        turn.push(Effect::Retry(self.id, AddressChoice::Elsewhere(host, port)));
        true
    }

    /// Whether it is on the way from `<starttls/>` to the end of the handshake.
    fn is_securing(&self) -> bool {
        matches!(self.life.machine(), Some(Initiating::Requesting(_) | Initiating::Upgrading(_)))
    }

    /// Whether STARTTLS that breaks is tried once more.
    fn may_secure_again(&self) -> bool {
        !self.broken && !self.is_closing()
    }

    /// Whether the handshake had all its time: whoever gives it up then tells that as a failure, and it is none.
    fn was_silent(&self, machine: &Initiating, turn: &Turn<'_>) -> bool {
        let begun = machine.deadline().and_then(|due| due.checked_sub(self.terms.step_time));
        begun.is_some_and(|at| at + turn.relays.timeouts.tls <= turn.now)
    }

    /// A handshake that broke is tried once more at once, before anything is refused for it: octets that are no TLS, and the end of
    /// the connection among it. Silence is no break: it would be waited for twice, and what waits behind it with it.
    // COMPAT(Tigase 8.4): one in ten serial handshakes with it breaks.
    fn secure_again(&mut self, why: Why, octets: Bytes, turn: &mut Turn<'_>) {
        self.broken = true;
        if !octets.is_empty() {
            turn.send(self.side(), octets);
        }
        self.again(why, self.terms.external, AddressChoice::Same, turn);
    }

    /// There is TLS in the world: what breaks from here on is no handshake. Inside a connection has one more try, whatever it came to.
    pub(super) fn secured_at_last(&mut self) {
        self.broken &= self.terms.facing == Facing::Backend || self.secured.is_none();
    }

    /// Another attempt begins.
    fn redial(&mut self, last: Why, external: bool) {
        self.terms.external = external;
        self.last = Some(last);
        self.life.put(Initiating::Dialling);
        self.secured = None;
    }
}

/// How an attempt that ends may be made once more with the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// STARTTLS broke.
    Secured,
    /// EXTERNAL had not come out well.
    WithoutExternal,
}

impl Again {
    /// The same, if this input ends it in that state.
    pub(super) fn after(machine: &Initiating, input: &Input) -> Option<Self> {
        // What the peer says in a word of its own is no break, nor that it says nothing.
        let breaks = !matches!(input, Input::Expired);
        match (machine, input) {
            (Initiating::Requesting(_), Input::Element(_)) => None,
            (Initiating::Requesting(_) | Initiating::Upgrading(_), _) => breaks.then_some(Self::Secured),
            (machine, _) => machine.died_of_external().then_some(Self::WithoutExternal),
        }
    }
}

/// What lies behind a connection that ended before anything stood.
fn lost(reason: Reason, due: Due) -> Why {
    let causes = [(Reason::TlsFailed, Cause::BadHandshake), (Reason::ConnectionLost, Cause::Cut)];
    let cause = causes.into_iter().find(|(of, _)| *of == reason);
    let mut why = cause.map_or_else(|| Why::from(reason), |(_, cause)| Why::because(reason, cause));
    if let Some(detail) = &mut why.detail {
        due.complete(detail);
    }
    why
}
