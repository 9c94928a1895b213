//! The near leg between servers: what the receiving entity hears, and how its stream ends.
//!
//! It knows nothing of claims, pairs or other legs. What concerns them it gives back as a [`NearOutcome`], at most one a
//! step and behind everything else; the relay that has it deals with that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::event::{DialbackOutcome, Role};
use super::life::Life;
use super::plan::{self, RelayParams, Timeouts};
use super::turn::Turn;
use super::{Arrival, Effect, Record, Side};
use crate::jid::Domain;
use crate::reason::{Class, Facing, Flow, Reason};
use crate::stream::evidence::{Evidence, Sought};
use crate::stream::fault::{self, Fault};
use crate::stream::management::{self, Nonza};
use crate::stream::receiving::{self, Claim, Receiving, ReceivingParams};
use crate::stream::{Certificate, KeyCheck, Method, Pair, Secured, StreamIds};
use crate::xml::{CLOSE, Frame, Header, Kind, RefusedStanza, Token, names};

/// The leg that arrived.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Near {
    life: Life<Receiving>,
    params: ReceivingParams,
    /// The `xml:lang` of its stream.
    pub(super) language: Option<String>,
    /// The domain that its header came from.
    pub(super) named: Option<Domain>,
    /// The domain that its header was for, served here or not.
    pub(super) asked_for: Option<Domain>,
    /// A pair was offered nothing in answer to the header, and told as refused for that. A claim of it says no more.
    told: Option<(Pair, Reason)>,
    address: IpAddr,
    /// The facts of its channel.
    secured: Option<Secured>,
    /// Why it ends, as far as that is known.
    reason: Reason,
    /// When it was accepted.
    pub(super) started: Instant,
    /// When a stanza, or another element, came last.
    pub(super) heard: Instant,
    /// When it last heard an answer about a key, if it has claimed nothing since: then it is there for questions only.
    pub(super) answered: Option<Instant>,
    /// What these domains publish about the certificate is being looked up, until then at the latest.
    asked: BTreeMap<Domain, Instant>,
    /// A stream header, to be answered once that is known for the domain that it names.
    held: Option<Header>,
}

/// What came of a step, beyond the leg itself.
#[must_use]
pub(super) enum NearOutcome {
    /// Somebody claims a pair.
    Claim(Claim),
    /// The peer says something about counting.
    Counting(Nonza),
    /// The stream hears no more: its error, its closing tag or the end of its connection is behind it.
    Ended(Reason),
    /// A dialback element or a SASL attempt was refused, without a claim.
    Rejected(Reason),
    /// The stream ends and another begins on the same connection, with a handshake first or not.
    Renewed(Renewal),
    /// A stanza, to be compared with what stands.
    Stanza(Frame),
    /// A stanza that the framer refused.
    Unfit(Box<RefusedStanza>),
    /// Somebody asks whether a key is ours.
    Vouch(KeyCheck),
}

/// The relay that a near leg belongs to: it deals with what comes of the leg's steps, and how a step is taken is the same for
/// all.
pub(super) trait HasNear {
    /// The leg.
    fn near_mut(&mut self) -> &mut Near;

    /// A stanza, to be compared with what stands.
    fn stanza(&mut self, frame: Frame, turn: &mut Turn<'_>);

    /// What a step of the leg means for all others.
    fn near_came(&mut self, outcome: Option<NearOutcome>, turn: &mut Turn<'_>);

    /// The framer found this.
    fn near_token(&mut self, token: Token, turn: &mut Turn<'_>) {
        match token {
            // Most of what comes, and the leg stays as it is: nothing need be told of it.
            Token::Element(frame) if self.near_mut().passes(&frame, turn.now) => self.stanza(frame, turn),
            token => {
                let outcome = self.near_mut().token(token, turn);
                self.near_came(outcome, turn);
            }
        }
    }

    /// One step of the receiving entity.
    fn near_step(&mut self, input: receiving::Input, turn: &mut Turn<'_>) {
        let outcome = self.near_mut().step(input, turn);
        self.near_came(outcome, turn);
    }

    /// The stream ends in good order, for this reason.
    fn near_close(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        let outcome = self.near_mut().close(reason, turn);
        self.near_came(outcome, turn);
    }

    /// The stream ends because of this.
    fn near_fault(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        let outcome = self.near_mut().fault(reason, turn);
        self.near_came(outcome, turn);
    }
}

/// How a stream begins anew.
pub(super) enum Renewal {
    /// The framer starts over.
    Restart,
    /// A TLS handshake comes first.
    Upgrade,
}

impl Near {
    pub(super) fn new(relays: &RelayParams, arrival: &Arrival, now: Instant) -> Self {
        let params = ReceivingParams {
            facing: plan::near(arrival.flow),
            counts: arrival.flow == Flow::S2sIn,
            default_domain: (arrival.flow == Flow::S2sIn).then(|| relays.default_domain.clone()).flatten(),
            dialback_errors: match arrival.flow {
                Flow::S2sOut => relays.hosted.values().any(|domain| domain.multiplex),
                Flow::C2s | Flow::S2sIn => true,
            },
            max_octets: relays.announced(plan::near(arrival.flow), None),
            survived: relays.survived(plan::near(arrival.flow)),
            sasl_attempts: relays.limits.sasl_attempts,
            questions: relays.limits.questions,
            header_time: relays.timeouts.header,
            tls_time: relays.timeouts.tls,
        };
        let ids = StreamIds::new(arrival.seed);
        Self {
            life: Life::Open(Receiving::new(&params, ids, arrival.secured.clone(), now)),
            params,
            language: None,
            named: None,
            asked_for: None,
            told: None,
            address: arrival.address,
            secured: arrival.secured.clone(),
            reason: Reason::Finished,
            started: now,
            heard: now,
            answered: None,
            asked: BTreeMap::new(),
            held: None,
        }
    }

    /// Why it ends, as far as that is known.
    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    pub(super) fn is_over(&self) -> bool {
        self.life.is_over()
    }

    /// Neither over nor on the way there.
    pub(super) fn is_live(&self) -> bool {
        self.life.is_open()
    }

    pub(super) fn wants_read(&self) -> bool {
        !self.is_over() && self.held.is_none() && self.life.machine().is_none_or(Receiving::wants_read)
    }

    /// Whether its peer takes stanzas on it (SM-08).
    pub(super) fn is_bidi(&self) -> bool {
        self.life.machine().is_some_and(Receiving::is_bidi)
    }

    pub(super) fn facing(&self) -> Facing {
        self.params.facing
    }

    pub(super) fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    /// The peer's certificate is worth this now (CRT-12).
    pub(super) fn show(&mut self, certificate: Certificate) {
        if let Some(secured) = &mut self.secured {
            secured.certificate = Some(certificate);
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// The pair that EXTERNAL has just proven.
    pub(super) fn proven(&self) -> Option<&Pair> {
        self.life.machine().and_then(Receiving::proven)
    }

    /// What the audit log needs to know of this stream.
    pub(super) fn record(&self, pair: Option<Pair>, method: Option<Method>, reason: Reason) -> Box<Record> {
        // Of a stream that ends as it should nobody asks which names it bore.
        let tells = pair.is_none() && !reason.is(Class::Ordinary);
        let named = if tells { (self.named.clone(), self.asked_for.clone()) } else { (None, None) };
        Box::new(Record { pair, named, method, ..Record::of(self.secured(), reason) })
    }

    /// Whether the refusal of this pair was told when its header was answered; the first claim of it is meant.
    pub(super) fn was_told(&mut self, pair: &Pair, reason: Reason) -> bool {
        self.told.take_if(|(told, why)| told == pair && *why == reason).is_some()
    }

    /// The refusal of this pair is told with the answer to its header.
    pub(super) fn tells(&mut self, pair: &Pair, reason: Reason) {
        self.told = Some((pair.clone(), reason));
    }

    /// When something is due on it: `whole` is how long it may live as things stand.
    pub(super) fn deadline(&self, whole: Option<Instant>, times: &Timeouts) -> Option<Instant> {
        if self.is_over() || self.life.is_closing() {
            return self.life.until();
        }
        // A header that is here and not answered yet is not late.
        let machine = self.life.machine().filter(|_| self.held.is_none()).and_then(Receiving::deadline);
        let inquiry = self.asked.values().min().copied();
        [machine, whole, inquiry, self.done_asking(times)].into_iter().flatten().min()
    }

    /// Has looked up what the sender of this pair publishes about the certificate of this channel.
    pub(super) fn inquire(&mut self, pair: &Pair, sought: Sought, turn: &mut Turn<'_>) {
        if !self.asked.contains_key(&pair.sender) {
            self.asked.insert(pair.sender.clone(), turn.now + turn.relays.timeouts.dialback);
            turn.push(Effect::Inquire(pair.clone(), sought));
        }
    }

    /// This was found, or it was not found in time; the header that waited for it is answered.
    pub(super) fn inquired(&mut self, found: Evidence, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        // What was asked on the channel before this one is of no worth here.
        self.asked.remove(&found.domain)?;
        let answers = self.held.as_ref().is_some_and(|_| self.named.as_ref() == Some(&found.domain));
        if let Some(secured) = &mut self.secured {
            secured.attest(found);
        }
        let header = self.held.take_if(|_| answers)?;
        if !self.is_live() {
            return None;
        }
        self.header(header, turn)
    }

    /// The domains of which nothing was found in time.
    pub(super) fn late_inquiries(&self, now: Instant) -> Vec<Domain> {
        self.asked.iter().filter(|(_, until)| **until <= now).map(|(domain, _)| domain.clone()).collect()
    }

    /// DB-24: when a stream that came only to ask about keys has asked its last.
    pub(super) fn done_asking(&self, times: &Timeouts) -> Option<Instant> {
        self.answered.map(|at| at + times.verify_idle)
    }

    /// The handshake is done.
    pub(super) fn secure(&mut self, secured: Secured, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        self.secured = Some(secured.clone());
        self.asked.clear();
        self.step(receiving::Input::Secured(secured), turn)
    }

    /// A stream header is answered.
    fn header(&mut self, header: Header, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        let offer = self.offer(&header, turn);
        let outcome = self.step(receiving::Input::Header(header, offer), turn);
        // Whoever calls there calls from a backend's network (ACC-02): what it may bring is not an unproven peer's.
        if self.facing() == Facing::Backend && self.is_live() {
            turn.push(Effect::Widen(Side::Near));
        }
        outcome
    }

    /// Whether this is a stanza that changes nothing here, on its way out or not: it has been heard then.
    fn passes(&mut self, frame: &Frame, now: Instant) -> bool {
        let passes = self.life.machine().is_some_and(|machine| machine.passes(frame));
        if passes {
            self.heard = now;
        }
        passes
    }

    /// The framer found this, which is no stanza that [`Near::passes`].
    fn token(&mut self, token: Token, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        let Some(machine) = self.life.machine() else {
            // After a fault nothing is looked at any more but the reciprocal close (CLS-01).
            if matches!(token, Token::End | Token::Violation(_)) {
                self.finish(turn);
            }
            return None;
        };
        match token {
            Token::Violation(violation) => self.fault(violation.reason(), turn),
            // CLS-04: it shows that somebody is there, and not that anybody speaks.
            Token::Keepalive | Token::Text => None,
            Token::Header(header) => {
                let domain = |name: &Option<String>| name.as_deref().and_then(|n| Domain::parse(n).ok());
                self.language.clone_from(&header.lang);
                self.named = domain(&header.from);
                self.asked_for = domain(&header.to);
                self.params.max_octets = turn.relays.announced(self.facing(), self.asked_for.as_ref());
                self.params.survived = turn.relays.survived(self.facing());
                if let Some((pair, sought)) = self.sought_for(&header, turn) {
                    self.held = Some(header);
                    self.inquire(&pair, sought, turn);
                    return None;
                }
                self.header(header, turn)
            }
            // CLS-01: behind our closing tag stanzas on their way are taken, and nothing is negotiated.
            Token::Element(frame)
                if self.life.is_closing()
                    && frame.head().kind() == Kind::Other
                    && !frame.is(names::STREAMS, "error") =>
            {
                // But what they have taken until then counts (SM-01).
                let counts = self.facing() == Facing::Public && management::is_word(&frame);
                counts.then(|| NearOutcome::Counting(management::read(&frame)))
            }
            Token::Element(frame) => {
                self.heard = turn.now;
                self.step(receiving::Input::Element(frame), turn)
            }
            Token::Refused(refused) => {
                self.heard = turn.now;
                match machine {
                    Receiving::Open(_) => Some(NearOutcome::Unfit(refused)),
                    _ => self.fault(Reason::NotAuthorized, turn),
                }
            }
            Token::End => self.step(receiving::Input::End, turn),
        }
    }

    /// One step of the receiving entity.
    pub(super) fn step(&mut self, input: receiving::Input, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        let machine = self.life.take()?;
        match machine.step(&self.params, input, turn.now) {
            Ok((next, effects)) => {
                self.life.put(next);
                // One at most, and the last.
                let mut outcome = None;
                for effect in effects {
                    outcome = self.act(effect, turn);
                }
                outcome
            }
            Err(fault) => self.end(fault, turn),
        }
    }

    fn act(&mut self, effect: receiving::Effect, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        match effect {
            receiving::Effect::Claim(claim) => return Some(NearOutcome::Claim(claim)),
            receiving::Effect::Counting(word) => return Some(NearOutcome::Counting(word)),
            receiving::Effect::Pass(frame) => return Some(NearOutcome::Stanza(frame)),
            receiving::Effect::Refused(reason) => return Some(NearOutcome::Rejected(reason)),
            receiving::Effect::Restart => return Some(NearOutcome::Renewed(Renewal::Restart)),
            receiving::Effect::Upgrade => return Some(NearOutcome::Renewed(Renewal::Upgrade)),
            receiving::Effect::Vouch(check) => return Some(NearOutcome::Vouch(check)),
            receiving::Effect::Closed => {
                self.finish(turn);
                return Some(NearOutcome::Ended(self.reason));
            }
            receiving::Effect::Send(octets) => {
                // CLS-01: behind the closing tag nothing is sent.
                if self.is_live() {
                    turn.send(Side::Near, octets);
                }
            }
            receiving::Effect::Unasked => turn.dialback(
                Role::Receiving,
                self.facing(),
                DialbackOutcome::Unasked,
                std::time::Duration::ZERO,
            ),
            receiving::Effect::PeerError(name) => {
                turn.heard_error(self.facing(), &name);
                self.reason = Reason::PeerError;
            }
        }
        None
    }

    /// The stream ends because of this, told as its state allows.
    pub(super) fn fault(&mut self, reason: Reason, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        let fault = self.life.take()?.fault(&self.params, reason);
        self.end(fault, turn)
    }

    /// A step has consumed the machine: the error goes out, if nothing of ours has closed the stream before.
    fn end(&mut self, fault: Fault, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        self.reason = fault.reason;
        if fault.octets.is_empty() {
            self.life = Life::Over;
            turn.push(Effect::Cut(Side::Near));
        } else if !self.life.is_closing() {
            self.life = Life::Closing { machine: None, until: turn.now + turn.relays.timeouts.close };
            turn.send(Side::Near, fault.octets);
            turn.sent_error(self.facing(), fault.reason.stream_condition());
        }
        Some(NearOutcome::Ended(fault.reason))
    }

    /// The stream ends in good order, by us: our closing tag now, theirs awaited; until then what they still send is taken
    /// (CLS-01). With a reason that has a stream condition, the error goes before the tag.
    pub(super) fn close(&mut self, reason: Reason, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        let Life::Open(machine) = &self.life else { return None };
        if !matches!(machine, Receiving::Open(_) | Receiving::Proving(_)) {
            return self.fault(reason, turn);
        }
        self.life.close(turn.now + turn.relays.timeouts.close);
        self.reason = reason;
        let mut octets = fault::error_element(reason).unwrap_or_default().into_bytes();
        octets.extend_from_slice(CLOSE);
        turn.send(Side::Near, Bytes::from(octets));
        turn.sent_error(self.facing(), reason.stream_condition());
        None
    }

    /// The connection ended.
    pub(super) fn gone(&mut self, reason: Reason, turn: &mut Turn<'_>) -> Option<NearOutcome> {
        if self.is_over() {
            return None;
        }
        if self.is_live() {
            self.reason = reason;
        }
        self.life = Life::Over;
        turn.push(Effect::Cut(Side::Near));
        Some(NearOutcome::Ended(self.reason))
    }

    /// Nobody has closed in answer (T-close).
    pub(super) fn late(&mut self, turn: &mut Turn<'_>) -> NearOutcome {
        self.finish(turn);
        // Why we closed says more than that nobody answered.
        let closed = self.reason != Reason::Finished;
        NearOutcome::Ended(if closed { self.reason } else { Reason::CloseTimeout })
    }

    /// Flush and close the connection; nothing more is expected of it.
    fn finish(&mut self, turn: &mut Turn<'_>) {
        if !self.is_over() {
            self.life = Life::Over;
            turn.push(Effect::Finish(Side::Near));
        }
    }
}
