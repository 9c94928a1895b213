//! The near leg: what the receiving entity hears, and how it ends.

use std::time::Instant;

use bytes::Bytes;

use crate::filter::Route;
use crate::reason::{Flow, Reason};
use crate::stream::fault::Fault;
use crate::stream::receiving::{self, Desk, Receiving};
use crate::stream::{Certificate, Method, Secured, StreamIds};
use crate::xml::{CLOSE, Kind, Token, names};

use super::event::{DialbackOutcome, Role, Said};
use super::negotiate::Pending;
use super::plan::{self, Home, Timeouts};
use super::{Arrival, Effect, Event, FarId, Input, Record, Relay, Side};

/// The leg that arrived.
#[derive(Clone, Debug)]
pub(super) struct Near {
    /// The machine; none after a fault, and none when the leg is over.
    pub(super) machine: Option<Receiving>,
    pub(super) desk: Desk,
    /// The `xml:lang` of its stream.
    pub(super) language: Option<String>,
    /// The domain that its header came from.
    pub(super) named: Option<crate::jid::Domain>,
    /// When it was last looked whether a far leg stands for it.
    looked: Instant,
    address: std::net::IpAddr,
    /// The facts of its channel.
    secured: Option<Secured>,
    /// When it last heard an answer about a key, if it has claimed nothing since: then it is there for questions only.
    pub(super) answered: Option<Instant>,
    /// Our closing tag is out; until then theirs is awaited.
    closing: Option<Instant>,
    over: bool,
    /// Why it ended, once that is known.
    reason: Reason,
    told: bool,
}

impl Near {
    pub(super) fn new(home: &Home, arrival: &Arrival, now: Instant) -> Self {
        let facing = plan::near(arrival.flow);
        let desk = Desk {
            facing,
            default_domain: (arrival.flow == Flow::S2sIn).then(|| home.default_domain.clone()).flatten(),
            dialback_errors: match arrival.flow {
                Flow::S2sOut => home.hosted.values().any(|domain| domain.multiplex),
                _ => true,
            },
            max_octets: home.limits.proven.element,
            sasl_attempts: home.limits.sasl_attempts,
            questions: home.limits.questions,
            header_time: home.timeouts.header,
            tls_time: home.timeouts.tls,
        };
        let ids = StreamIds::new(arrival.seed);
        Self {
            machine: Some(Receiving::new(&desk, ids, arrival.secured.clone(), now)),
            desk,
            language: None,
            named: None,
            looked: now,
            address: arrival.address,
            secured: arrival.secured.clone(),
            answered: None,
            closing: None,
            over: false,
            reason: Reason::Finished,
            told: false,
        }
    }

    /// Why it ends, as far as that is known.
    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Neither over nor on the way there.
    pub(super) fn is_live(&self) -> bool {
        !self.over && self.closing.is_none() && self.machine.is_some()
    }

    pub(super) fn wants_read(&self) -> bool {
        !self.over && self.machine.as_ref().is_none_or(Receiving::wants_read)
    }

    pub(super) fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    pub(super) fn show(&mut self, certificate: Certificate) {
        if let Some(secured) = &mut self.secured {
            secured.certificate = Some(certificate);
        }
    }

    pub(super) fn address(&self) -> std::net::IpAddr {
        self.address
    }

    /// Whether nothing has come for a while, and nobody has looked since.
    pub(super) fn is_quiet(&self, last: Instant, times: &Timeouts, now: Instant) -> bool {
        self.looked.max(last) + times.report <= now
    }

    pub(super) fn deadline(&self, relay: &Relay, times: &Timeouts) -> Option<Instant> {
        if self.over {
            return None;
        }
        if let Some(closing) = self.closing {
            return Some(closing);
        }
        let machine = self.machine.as_ref().and_then(Receiving::deadline);
        let whole = match (relay.flow, relay.guard.is_empty()) {
            (Flow::S2sOut, _) => self.looked.max(relay.last) + times.report,
            (_, true) => relay.started + times.unauth,
            (_, false) => relay.last + times.idle,
        };
        let certificate = relay.certificate_end();
        [machine, Some(whole), self.done_asking(times), certificate].into_iter().flatten().min()
    }

    /// DB-24: when a stream that came only to ask about keys has asked its last.
    pub(super) fn done_asking(&self, times: &Timeouts) -> Option<Instant> {
        self.answered.map(|at| at + times.verify_idle)
    }
}

impl Relay {
    pub(super) fn near_input(&mut self, input: Input, now: Instant, out: &mut Vec<Effect>) {
        match input {
            Input::Secured(secured) => {
                if let Some(near) = &mut self.near {
                    near.secured = Some(secured.clone());
                }
                self.near_step(receiving::Input::Secured(secured), now, out);
            }
            Input::Stalled => self.near_fault(Reason::StanzaTimeout, now, out),
            Input::Gone { reason, .. } => self.near_gone(reason, now, out),
            Input::Overflow(octets) => self.no_room(&octets, out),
            // The rest concerns far legs, or was taken before.
            _ => {}
        }
    }

    pub(super) fn near_token(&mut self, token: Token, now: Instant, out: &mut Vec<Effect>) {
        let Some(near) = &mut self.near else { return };
        if near.machine.is_none() {
            // After a fault nothing is looked at any more but the reciprocal close (CLS-01).
            if matches!(token, Token::End | Token::Violation(_)) && !near.over {
                self.near_over(out);
            }
            return;
        }
        match token {
            Token::Violation(violation) => self.near_fault(violation.reason(), now, out),
            // CLS-04: it shows that somebody is there, and not that anybody speaks.
            Token::Keepalive | Token::Text => {}
            Token::Header(header) => {
                near.language = header.lang.clone();
                near.named = header.from.as_deref().and_then(|from| crate::jid::Domain::parse(from).ok());
                if self.flow == Flow::S2sIn {
                    let named = header.to.as_deref().and_then(|to| crate::jid::Domain::parse(to).ok());
                    near.desk.max_octets =
                        self.home.largest(named.as_ref().or(self.home.default_domain.as_ref()));
                }
                let (offer, denied) = self.offer(&header);
                if let Some((pair, verdict)) = denied {
                    self.note_denied(pair, verdict, out);
                }
                self.near_step(receiving::Input::Header(header, offer), now, out);
                // Whoever calls there calls from a backend's network (ACC-02): what it may bring is not a stranger's.
                if self.flow == Flow::S2sOut && self.near.as_deref().is_some_and(Near::is_live) {
                    out.push(Effect::Widen(Side::Near));
                }
            }
            // CLS-01: behind our closing tag stanzas on their way are taken, and nothing is negotiated.
            Token::Element(frame)
                if near.closing.is_some()
                    && frame.head().kind() == Kind::Other
                    && !frame.is(names::STREAMS, "error") => {}
            Token::Element(frame) => {
                self.last = now;
                // Most of what comes, and the state stays as it is.
                match near.machine.as_ref().is_some_and(|machine| machine.passes(&frame)) {
                    true => self.pass(frame, now, out),
                    false => self.near_step(receiving::Input::Element(frame), now, out),
                }
            }
            Token::Refused(refused) => {
                self.last = now;
                match near.machine {
                    Some(Receiving::Open(_)) => self.refuse_stanza(&refused, now, out),
                    _ => self.near_fault(Reason::NotAuthorized, now, out),
                }
            }
            Token::End => self.near_step(receiving::Input::End, now, out),
        }
    }

    /// One step of the receiving entity, with all that follows from it.
    pub(super) fn near_step(&mut self, input: receiving::Input, now: Instant, out: &mut Vec<Effect>) {
        let Some(near) = &mut self.near else { return };
        let Some(machine) = near.machine.take() else { return };
        match machine.step(&near.desk, input, now) {
            Ok((next, effects)) => {
                near.machine = Some(next);
                for effect in effects {
                    self.near_effect(effect, now, out);
                }
            }
            Err(fault) => self.near_end(fault, now, out),
        }
    }

    fn near_effect(&mut self, effect: receiving::Effect, now: Instant, out: &mut Vec<Effect>) {
        let facing = plan::near(self.flow);
        match effect {
            receiving::Effect::Send(octets) => self.near_send(octets, out),
            receiving::Effect::Upgrade => {
                self.forget(now, out);
                out.push(Effect::Upgrade(Side::Near));
            }
            receiving::Effect::Restart => {
                self.forget(now, out);
                out.push(Effect::Restart(Side::Near));
            }
            receiving::Effect::Claim(claim) => self.claim(claim, now, out),
            receiving::Effect::Vouch(check) => self.vouch(check, now, out),
            receiving::Effect::Pass(frame) => self.pass(frame, now, out),
            receiving::Effect::Unasked => out.push(Effect::Note(Event::Dialback {
                role: Role::Receiving,
                facing,
                outcome: DialbackOutcome::Unasked,
                after: std::time::Duration::ZERO,
            })),
            receiving::Effect::Refused(reason) => {
                let record = self.record(None, None, reason);
                out.push(Effect::Note(Event::Rejected { record, after: std::time::Duration::ZERO }));
                self.near_refused(reason, now, out);
            }
            receiving::Effect::PeerError(name) => {
                let condition = crate::reason::StreamCondition::parse(&name);
                out.push(Effect::Note(Event::StreamError { facing, said: Said::Received, condition }));
                if let Some(near) = &mut self.near {
                    near.reason = Reason::PeerError;
                }
            }
            receiving::Effect::Closed => {
                if let Some(near) = &mut self.near {
                    near.machine = None;
                }
                self.near_over(out);
                let reason = self.near.as_ref().map_or(Reason::Finished, |near| near.reason);
                self.wind_down(reason, now, out);
            }
        }
    }

    /// The stream ends and another begins on the same connection: what was proven or claimed on the old one ends with
    /// it (TLS-07, DB-25), but the pair that EXTERNAL has just proven (EXT-06).
    fn forget(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let kept =
            self.near.as_ref().and_then(|near| near.machine.as_ref()).and_then(Receiving::proven).cloned();
        for (_, pending) in std::mem::take(&mut self.claims) {
            self.tell_abandoned(&pending, Reason::Finished, now, out);
            if let Some(far) = pending.far {
                self.far_close(far, now, out);
            }
        }
        let ended: Vec<_> = self.guard.pairs().iter().map(|a| (a.pair().clone(), a.route())).collect();
        for (pair, route) in ended.into_iter().filter(|(pair, _)| Some(pair) != kept.as_ref()) {
            self.tell_end(&pair, Reason::Finished, out);
            if let Route::Leg(number) = route {
                self.far_close(FarId(number), now, out);
            }
        }
    }

    fn near_send(&mut self, octets: Bytes, out: &mut Vec<Effect>) {
        // CLS-01: behind the closing tag nothing is sent.
        if self.near.as_ref().is_some_and(|near| !near.over && near.closing.is_none()) {
            out.push(Effect::Send(Side::Near, octets));
        }
    }

    /// The near stream ends because of this, told as its state allows.
    pub(super) fn near_fault(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        let Some(near) = &mut self.near else { return };
        let Some(machine) = near.machine.take() else { return };
        let fault = machine.fault(&near.desk, reason);
        self.near_end(fault, now, out);
    }

    fn near_end(&mut self, fault: Fault, now: Instant, out: &mut Vec<Effect>) {
        let facing = plan::near(self.flow);
        let close = now + self.home.timeouts.close;
        let Some(near) = &mut self.near else { return };
        near.machine = None;
        near.reason = fault.reason;
        if near.over {
            return;
        }
        if fault.octets.is_empty() {
            near.over = true;
            out.push(Effect::Cut(Side::Near));
        } else if near.closing.is_none() {
            near.closing = Some(close);
            out.push(Effect::Send(Side::Near, fault.octets));
            if let Some(condition) = fault.reason.stream_condition() {
                let condition = Some(condition);
                out.push(Effect::Note(Event::StreamError { facing, said: Said::Sent, condition }));
            }
        }
        self.wind_down(fault.reason, now, out);
    }

    /// Nothing has come over the stream of a backend for a while. It stays as long as a far leg stands for any of its pairs and
    /// T-idle-s2s lasts.
    pub(super) fn near_serves(&mut self, serves: bool, now: Instant, out: &mut Vec<Effect>) {
        if self.near.is_some() && (!serves || self.last + self.home.timeouts.idle <= now) {
            self.near_close(Reason::Idle, now, out);
        }
    }

    pub(super) fn near_looked(&mut self, now: Instant) {
        if let Some(near) = &mut self.near {
            near.looked = now;
        }
    }

    /// The near stream ends in good order, by us: our closing tag now, theirs awaited; until then what they still send
    /// is taken (CLS-01). With a reason that has a stream condition, the error goes before the tag.
    pub(super) fn near_close(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        let facing = plan::near(self.flow);
        let close = now + self.home.timeouts.close;
        let Some(near) = &mut self.near else { return };
        if !near.is_live() {
            return;
        }
        match &near.machine {
            Some(Receiving::Open(_) | Receiving::Proving(_)) => {
                near.closing = Some(close);
                near.reason = reason;
                let mut octets = crate::stream::fault::error_element(reason).unwrap_or_default().into_bytes();
                octets.extend_from_slice(CLOSE);
                out.push(Effect::Send(Side::Near, octets.into()));
                if let Some(condition) = reason.stream_condition() {
                    let condition = Some(condition);
                    out.push(Effect::Note(Event::StreamError { facing, said: Said::Sent, condition }));
                }
            }
            _ => self.near_fault(reason, now, out),
        }
    }

    fn near_gone(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        let Some(near) = &mut self.near else { return };
        if near.over {
            return;
        }
        near.over = true;
        let ended = near.machine.take().is_none() || near.closing.is_some();
        if !ended {
            near.reason = reason;
        }
        let reason = near.reason;
        out.push(Effect::Cut(Side::Near));
        self.wind_down(reason, now, out);
    }

    /// Flush and close the near connection; nothing more is expected of it.
    pub(super) fn near_over(&mut self, out: &mut Vec<Effect>) {
        if let Some(near) = &mut self.near
            && !near.over
        {
            near.over = true;
            out.push(Effect::Finish(Side::Near));
        }
    }

    /// The near stream hears no more: claims end, far legs are flushed and closed, the story is told.
    pub(super) fn wind_down(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        for (_, pending) in std::mem::take(&mut self.claims) {
            self.tell_abandoned(&pending, reason, now, out);
        }
        self.tell_ends(reason, out);
        let ids: Vec<_> = self.fars.keys().copied().collect();
        for id in ids {
            self.far_close(id, now, out);
        }
    }

    /// A claim that nobody waits for any more.
    fn tell_abandoned(&self, pending: &Pending, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        let record = self.record(Some(pending.claim.pair.clone()), Some(pending.method()), reason);
        let after = now.saturating_duration_since(pending.since);
        out.push(Effect::Note(Event::Rejected { record, after }));
    }

    /// One audit record for each pair that ends, or one for a stream that never came to a pair.
    fn tell_ends(&mut self, reason: Reason, out: &mut Vec<Effect>) {
        let Some(near) = &mut self.near else { return };
        if std::mem::replace(&mut near.told, true) {
            return;
        }
        if self.guard.is_empty() {
            let record = self.record(None, None, reason);
            out.push(Effect::Note(Event::Closed { record }));
            return;
        }
        let ended: Vec<_> = self.guard.pairs().iter().map(|a| a.pair().clone()).collect();
        for pair in ended {
            self.tell_end(&pair, reason, out);
        }
    }

    /// The pair ends: it leaves the guard and is told.
    pub(super) fn tell_end(&mut self, pair: &crate::stream::Pair, reason: Reason, out: &mut Vec<Effect>) {
        let mut record = self.record(Some(pair.clone()), None, reason);
        if let Some(admitted) = self.guard.remove(pair) {
            let (stanzas, octets) = admitted.passed();
            record.method = self.shown_method(pair).or(Some(admitted.method()));
            record.rule = Some(admitted.permit().rule().clone());
            (record.stanzas, record.octets) = (stanzas, octets);
        }
        out.push(Effect::Note(Event::Ended { record }));
    }

    /// Outbound, the near proof is the backend's network; what counts is how we were proven in public.
    pub(super) fn shown_method(&self, pair: &crate::stream::Pair) -> Option<Method> {
        let far = self.fars.values().find(|far| far.terms.errand.is_for(pair));
        far.and_then(|far| far.method).filter(|_| self.flow == Flow::S2sOut)
    }

    /// Each refusal costs an answer and an audit record, and many cost a backend a connection before (LIM-06, LIM-09): who
    /// goes on and on is shown out. Pairs that only find no room are not counted, for large hosts bring them all at once.
    pub(super) fn near_refused(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        let borne = REFUSALS.saturating_add(now.saturating_duration_since(self.started).as_secs());
        if self.flow != Flow::S2sIn || reason == Reason::TooManyPairs {
            return;
        }
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > borne {
            self.near_close(Reason::TooManyRefusals, now, out);
        }
    }

    /// What the audit log needs to know, as far as this relay knows it.
    pub(super) fn record(
        &self,
        pair: Option<crate::stream::Pair>,
        method: Option<Method>,
        reason: Reason,
    ) -> Box<Record> {
        let public = match self.flow {
            Flow::S2sOut => pair
                .as_ref()
                .and_then(|pair| self.fars.values().find(|far| far.terms.errand.to() == &pair.target))
                .and_then(|far| far.secured()),
            _ => self.near.as_deref().and_then(Near::secured),
        };
        Box::new(Record { pair, method, ..Record::of(public, reason) })
    }

    /// CRT-12: when the certificate that proved a pair here expires.
    pub(super) fn certificate_end(&self) -> Option<Instant> {
        let by_certificate = self.guard.pairs().iter().any(|a| a.method() == Method::Certificate);
        let near = self.near.as_deref().and_then(Near::secured);
        (self.flow != Flow::S2sOut && by_certificate)
            .then(|| near.and_then(|s| s.certificate.as_ref()).and_then(|c| c.expires))
            .flatten()
    }
}

/// Refusals that a peer's stream may have at once; one more for each second of its life.
const REFUSALS: u64 = 100;
