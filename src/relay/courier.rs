//! Relays without a near leg that carry stanzas for one pair: what a backend sends into the world or to another backend, what
//! the gateway itself must deliver, and reports to a backend (DB-69).
//!
//! One courier for each pair keeps their order (RLY-05). It judges before any cost, opens its leg for the first stanza,
//! judges again by what the channel shows, and sends back each stanza that cannot go, with the true reason.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::filter::Route;
use crate::jid::Domain;
use crate::reason::{Direction, Facing, Flow, Reason, Why};
use crate::stream::initiating::Errand;
use crate::stream::{Method, Pair, Proof};
use crate::xml::Kind;

use super::{Effect, Event, FarId, Relay, Shape};

/// What a courier carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// What a remote server sends for a pair that stands and has no stream of its own to the server behind any more: it broke, or
    /// gave way to others.
    Admitted,
    /// What the gateway itself must deliver: a bounce.
    Carried,
    /// What a backend sends.
    Own,
    /// An error that the gateway wrote about a stanza of the backend that it goes to.
    Report,
}

impl Load {
    /// Whether it is strangers that cause it, or peers: bounded by L-queue. What is a backend's is bounded by octets alone.
    pub const fn is_of_the_world(self) -> bool {
        matches!(self, Self::Admitted | Self::Carried)
    }
}

/// What a courier knows.
#[derive(Clone, Debug)]
pub(super) struct Courier {
    pub(super) pair: Pair,
    /// The hosted domain whose backend it leads to, or came from.
    via: Option<Domain>,
    /// The most that it has been given of: one stanza of a backend makes it that backend's.
    load: Load,
    pub(super) queue: VecDeque<Bytes>,
    pub(super) octets: usize,
    /// The last failure, for what still comes.
    pub(super) failed: Option<Why>,
    /// What was left by a leg has been given to another once.
    again: bool,
    /// Since when a leg stands.
    stood: Option<Instant>,
    /// Reports: attempts that failed, and when the first of them began.
    tries: (u8, Option<Instant>),
    /// Reports: the next attempt.
    redial: Option<Instant>,
    /// Reports: what went out in the first second.
    young: Vec<Bytes>,
    /// Reports: others wait for its place.
    yields: bool,
}

impl Courier {
    pub(super) fn push(&mut self, octets: Bytes) {
        self.octets = self.octets.saturating_add(octets.len());
        self.queue.push_back(octets);
    }

    fn take(&mut self) -> VecDeque<Bytes> {
        self.octets = 0;
        std::mem::take(&mut self.queue)
    }

    fn put_back(&mut self, octets: impl DoubleEndedIterator<Item = Bytes>) {
        for stanza in octets.rev() {
            self.octets = self.octets.saturating_add(stanza.len());
            self.queue.push_front(stanza);
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.redial.is_some()
    }

    /// Whether it carries what a backend sends.
    pub(super) fn is_own(&self) -> bool {
        self.load == Load::Own
    }

    fn is_report(&self) -> bool {
        self.load == Load::Report
    }
}

impl Relay {
    pub(super) fn courier_of(&self) -> Option<&Courier> {
        match &self.shape {
            Shape::Courier(courier) => Some(courier),
            Shape::Serving | Shape::Verifier => None,
        }
    }

    pub(super) fn courier_mut(&mut self) -> Option<&mut Courier> {
        match &mut self.shape {
            Shape::Courier(courier) => Some(courier),
            Shape::Serving | Shape::Verifier => None,
        }
    }

    pub(super) fn new_courier(pair: Pair, load: Load, via: Option<Domain>) -> Courier {
        Courier {
            pair,
            via,
            load,
            queue: VecDeque::new(),
            octets: 0,
            failed: None,
            again: false,
            stood: None,
            tries: (0, None),
            redial: None,
            young: Vec::new(),
            yields: false,
        }
    }

    /// The first leg, if the policy allows it (POL-04).
    pub(super) fn set_out(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let Some(Courier { pair, via, load, .. }) = self.courier_of() else { return };
        let (pair, via, load) = (pair.clone(), via.clone(), *load);
        // What the gateway itself has to say to a backend needs nobody's leave.
        if self.flow == Flow::S2sOut {
            let (verdict, into) = self.verdicts(&pair);
            let denied = std::iter::once(verdict).chain(into).find(|verdict| !verdict.is_allow());
            if let Some(verdict) = denied {
                let reason = verdict.reason;
                if load == Load::Own {
                    let mut record = self.record(Some(pair.clone()), None, reason);
                    record.rule = Some(verdict.rule.clone());
                    out.push(Effect::Note(Event::Rejected { record, after: Duration::ZERO }));
                }
                out.push(Effect::Note(Event::Judged { pair, verdict: verdict.into() }));
                return self.give_up(&reason.into(), out);
            }
        }
        if let Some(courier) = self.courier_mut() {
            courier.redial = None;
        }
        self.last = now;
        let facing = self.courier_facing(&pair);
        self.open_far_by(Errand::Speak(pair), (facing, via), None, now, out);
    }

    fn courier_facing(&self, pair: &Pair) -> Facing {
        match self.home.hosts(&pair.target) || self.courier_of().is_some_and(|courier| courier.via.is_some())
        {
            true => Facing::Backend,
            false => Facing::Public,
        }
    }

    /// One more stanza.
    pub(super) fn enqueue(&mut self, load: Load, octets: Bytes, now: Instant, out: &mut Vec<Effect>) {
        if self.courier_of().is_none() {
            return;
        }
        if self.ending {
            let failed = self.courier_of().and_then(|courier| courier.failed.clone());
            let why = failed.unwrap_or_else(|| Reason::RemoteUnreachable.into());
            return self.undeliverable(&octets, &why, out);
        }
        // Law `reports_only`: what others have written takes another stream.
        if self.courier_of().is_some_and(Courier::is_report) != (load == Load::Report) {
            return self.undeliverable(&octets, &Reason::Internal.into(), out);
        }
        let limits = &self.home.limits;
        let (stanzas, most) = match load {
            Load::Admitted | Load::Carried => (limits.queue_stanzas, limits.queue_octets),
            Load::Own | Load::Report => (usize::MAX, limits.inside_queue),
        };
        let standing = self.standing_far();
        let Some(courier) = self.courier_mut() else { return };
        let waits = standing.is_none();
        if waits && (courier.queue.len() >= stanzas || courier.octets.saturating_add(octets.len()) > most) {
            return self.undeliverable(&octets, &Reason::QueueFull.into(), out);
        }
        let first = courier.queue.is_empty();
        let news = load == Load::Own && courier.load != Load::Own;
        if news {
            courier.load = Load::Own;
        }
        courier.push(octets);
        if first {
            self.last = now;
        }
        // The leg was closed because nothing had come for a while: what comes goes over another.
        if self.fars.is_empty() && !self.courier_of().is_some_and(Courier::is_waiting) {
            return self.set_out(now, out);
        }
        if let Some(id) = standing {
            if news {
                self.own_stands(id, Duration::ZERO, out);
            }
            self.last = now;
            self.flush(id, now, out);
        }
    }

    fn standing_far(&self) -> Option<FarId> {
        self.fars.iter().find(|(_, far)| far.is_live()).map(|(id, _)| *id)
    }

    /// The leg stands: what waited goes out in order.
    pub(super) fn flush(&mut self, id: FarId, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get(&id) else { return };
        let target = far.terms.errand.to().clone();
        let limit = self.largest(id, &target);
        let own = self.guard.pairs().iter().position(|admitted| admitted.route() == Route::Leg(id.0));
        let Some(courier) = self.courier_mut() else { return };
        let young = courier.is_report() && courier.stood.is_some_and(|at| now < at + YOUNG);
        let waiting = courier.take();
        for octets in waiting {
            if octets.len() > limit {
                self.undeliverable(&octets, &Reason::BeyondPeerLimit.into(), out);
                continue;
            }
            if young && let Some(courier) = self.courier_mut() {
                courier.young.push(octets.clone());
            }
            // What a backend sends has passed when it goes out on the leg, and not when the courier has it.
            let passed = own.and_then(|index| {
                self.guard.count(index, octets.len());
                let hosted = self.guard.pair(index)?.pair().sender.clone();
                Some(Event::Passed { hosted, kind: Kind::of_stanza(&octets), octets: octets.len() })
            });
            out.push(Effect::Pass(id, octets));
            out.extend(passed.map(Effect::Note));
        }
    }

    /// The leg is proven: does the policy let the courier speak over it, by what is known of it now (POL-07)?
    pub(super) fn courier_established(&mut self, id: FarId, now: Instant, out: &mut Vec<Effect>) {
        if !self.courier_stands(id, now, out) {
            return;
        }
        let began = self.last;
        self.last = now;
        let Some(courier) = self.courier_mut() else { return };
        courier.stood = Some(now);
        courier.young.clear();
        if courier.load == Load::Own {
            self.own_stands(id, now.saturating_duration_since(began), out);
        }
        self.flush(id, now, out);
        self.yield_place(now, out);
    }

    /// The pair of a backend stands: both tokens open the door, and its rates and stream count apply.
    fn own_stands(&mut self, id: FarId, after: Duration, out: &mut Vec<Effect>) {
        let Some(pair) = self.courier_of().map(|courier| courier.pair.clone()) else { return };
        if self.guard.find(pair.sender.as_str(), pair.target.as_str()).is_some() {
            return;
        }
        let Ok(proof) = Proof::by_backend(&pair, |domain| self.home.hosts(domain)) else { return };
        let verdict = self.courier_verdict(&pair, id);
        let Some(permit) = verdict.permit() else { return };
        if self.guard.admit(proof, permit.clone(), Route::Leg(id.0)).is_err() {
            return self.give_up(&Reason::Internal.into(), out);
        }
        let method = self.far_method(id).unwrap_or(Method::Backend);
        let server = self.far_shown(id);
        let rule = permit.rule().clone();
        out.push(Effect::Note(Event::Judged { pair: pair.clone(), verdict: verdict.into() }));
        out.push(Effect::Note(Event::Admitted { pair, method, server, rule, after }));
        out.push(Effect::Admitted(Some(id), permit));
    }

    fn courier_verdict(&self, pair: &Pair, id: FarId) -> crate::policy::Verdict {
        if !self.home.hosts(&pair.target) {
            return self.outbound_verdict(pair, Some(id));
        }
        let (out, into) = self.verdicts(pair);
        into.filter(|verdict| out.is_allow() && !verdict.is_allow()).unwrap_or(out)
    }

    /// Whether the policy lets the courier speak over this leg, or at all; if not, what waits goes back, and so does what
    /// comes (POL-07).
    pub(super) fn courier_stands(&mut self, id: FarId, now: Instant, out: &mut Vec<Effect>) -> bool {
        if self.flow != Flow::S2sOut {
            return true;
        }
        let Some(far) = self.fars.get(&id) else { return true };
        let Errand::Speak(pair) = far.terms.errand.clone() else { return true };
        let verdict = match far.standing {
            true => self.courier_verdict(&pair, id),
            false => {
                let (verdict, into) = self.verdicts(&pair);
                into.filter(|into| verdict.is_allow() && !into.is_allow()).unwrap_or(verdict)
            }
        };
        if let Some(permit) = verdict.permit() {
            if let Some(index) = self.guard.find(pair.sender.as_str(), pair.target.as_str())
                && let Some(before) = self.guard.pair(index).map(|admitted| admitted.permit())
                && (before.quotas() != permit.quotas() || before.rule() != permit.rule())
            {
                self.guard.repermit(&pair, permit.clone());
                out.push(Effect::Admitted(Some(id), permit));
            }
            return true;
        }
        let reason = verdict.reason;
        out.push(Effect::Note(Event::Judged { pair, verdict: verdict.into() }));
        self.courier_ended(id, Reason::PolicyChanged, out);
        self.far_close(id, now, out);
        self.give_up(&reason.into(), out);
        false
    }

    /// The pair of a backend stands no longer.
    pub(super) fn courier_ended(&mut self, id: FarId, reason: Reason, out: &mut Vec<Effect>) {
        let own = self.courier_of().is_some();
        let admitted = self.guard.pairs().iter().find(|admitted| own && admitted.route() == Route::Leg(id.0));
        if let Some(pair) = admitted.map(|admitted| admitted.pair().clone()) {
            self.tell_end(&pair, reason, out);
        }
    }

    /// No leg could be had.
    pub(super) fn courier_refused(&mut self, why: &Why, now: Instant, out: &mut Vec<Effect>) {
        let Some(courier) = self.courier_mut() else { return };
        if courier.is_report() {
            return self.report_again(why, false, now, out);
        }
        let (own, pair) = (courier.load == Load::Own, courier.pair.clone());
        if own {
            let mut record = self.record(Some(pair), None, why.reason);
            record.detail.clone_from(&why.detail);
            let after = now.saturating_duration_since(self.started);
            out.push(Effect::Note(Event::Rejected { record, after }));
        }
        self.give_up(why, out);
    }

    /// A leg that stood is no more. What it left goes over another, once.
    pub(super) fn courier_lost(
        &mut self,
        (closing, reason): (bool, Reason),
        unsent: Vec<Bytes>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let draining = self.draining;
        let Some(courier) = self.courier_mut() else { return };
        let stood = courier.stood.take();
        let long = stood.is_some_and(|at| at + LONG <= now);
        let again = !courier.again || long;
        courier.again = !unsent.is_empty();
        courier.put_back(unsent.into_iter());
        if courier.queue.is_empty() {
            self.ending |= !closing;
            return;
        }
        if courier.is_report() {
            return self.report_again(&reason.into(), stood.is_some(), now, out);
        }
        if (closing || again) && !draining && !self.ending {
            return self.set_out(now, out);
        }
        let reason = if draining { Reason::Shutdown } else { reason };
        self.give_up(&reason.into(), out);
    }

    /// DB-69: a report stream that was refused, or ended before its `valid`, is opened anew, three times within ten seconds.
    fn report_again(&mut self, why: &Why, stood: bool, now: Instant, out: &mut Vec<Effect>) {
        let ending = self.ending || self.draining;
        let Some(courier) = self.courier_mut() else { return };
        if courier.queue.is_empty() {
            self.ending = true;
            return;
        }
        if stood && courier.tries.1.is_none_or(|first| first + WITHIN <= now) {
            courier.tries = (0, None);
        }
        let first = *courier.tries.1.get_or_insert(now);
        let pause = AGAIN.get(usize::from(courier.tries.0)).copied();
        match pause.filter(|_| !ending && now < first + WITHIN) {
            Some(pause) => {
                courier.tries.0 = courier.tries.0.saturating_add(1);
                courier.redial = Some(now + pause);
            }
            None => self.give_up(why, out),
        }
    }

    /// The backend ended a report stream with this condition.
    pub(super) fn report_doubted(&mut self, condition: &str, now: Instant) {
        // COMPAT(Tigase 8.4): says `valid` before it believes it, and ends the stream at what follows at once.
        let Some(courier) = self.courier_mut().filter(|_| condition == "invalid-from") else { return };
        if courier.is_report() && courier.stood.is_some_and(|at| now < at + YOUNG) {
            let young = std::mem::take(&mut courier.young);
            courier.put_back(young.into_iter());
        }
    }

    /// Others wait for the place of this report stream: it goes as soon as nothing is left.
    pub(super) fn yield_asked(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if let Some(courier) = self.courier_mut() {
            courier.yields = true;
        }
        self.yield_place(now, out);
    }

    fn yield_place(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let due = self.courier_of().is_some_and(|courier| courier.yields && courier.queue.is_empty());
        if due && let Some(id) = self.standing_far() {
            self.far_close(id, now, out);
        }
    }

    /// How long a courier keeps its leg when nothing comes.
    pub(super) fn patience(&self) -> Duration {
        let times = &self.home.timeouts;
        let patience = match self.courier_of().map(|courier| courier.load) {
            Some(Load::Own) => times.idle,
            Some(Load::Report) => times.report,
            Some(Load::Admitted | Load::Carried) | None => times.courier,
        };
        if self.draining { patience.min(DRAINING) } else { patience }
    }

    pub(super) fn courier_deadline(&self) -> Option<Instant> {
        let courier = self.courier_of()?;
        if courier.redial.is_some() {
            return courier.redial;
        }
        if self.fars.is_empty() {
            return None;
        }
        match courier.queue.is_empty() {
            true => self.standing_far().map(|_| self.last + self.patience()),
            false => Some(self.last + self.home.timeouts.queue),
        }
    }

    pub(super) fn expire_courier(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let Some(courier) = self.courier_of() else { return };
        if courier.redial.is_some_and(|at| at <= now) {
            return self.set_out(now, out);
        }
        if courier.redial.is_some() {
            return;
        }
        if courier.queue.is_empty() {
            if self.last + self.patience() <= now && self.standing_far().is_some() {
                self.close_fars_for(Reason::Idle, now, out);
            }
            return;
        }
        if self.last + self.home.timeouts.queue <= now && !self.fars.is_empty() {
            let ids: Vec<_> = self.fars.keys().copied().collect();
            for id in ids {
                self.far_late(id, Reason::DialbackTimeout, out);
            }
            let why = Why::because(Reason::DialbackTimeout, crate::reason::Cause::TimedOut);
            self.courier_refused(&why, now, out);
            self.close_fars(now, out);
        }
    }

    /// The courier cannot deliver: everything that waits goes back.
    pub(super) fn give_up(&mut self, why: &Why, out: &mut Vec<Effect>) {
        self.ending = true;
        let Some(courier) = self.courier_mut() else { return };
        courier.failed = Some(why.clone());
        courier.redial = None;
        for octets in courier.take() {
            self.undeliverable(&octets, why, out);
        }
    }

    /// Reports, for a pair whose own stream stands here (DB-69).
    pub(super) fn report(&mut self, pair: Pair, octets: Bytes, out: &mut Vec<Effect>) {
        let stands = self.fars.iter().find(|(_, far)| far.is_live() && far.terms.errand.is_for(&pair));
        let own = stands.filter(|_| self.direction() == Direction::Inbound);
        match own.map(|(id, _)| *id) {
            Some(id) => out.push(Effect::Pass(id, octets)),
            None => {
                let via = pair.target.clone();
                out.push(Effect::Report { pair, via, stanza: octets });
            }
        }
    }

    /// Its legs end for this reason.
    pub(super) fn close_fars_for(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        for far in self.fars.values_mut() {
            far.reason = reason;
        }
        self.close_fars(now, out);
    }

    pub(super) fn close_fars(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let ids: Vec<_> = self.fars.keys().copied().collect();
        for id in ids {
            self.far_close(id, now, out);
        }
    }

    /// A leg is at a limit of its rule: it ends, and what comes goes back for that reason.
    pub(super) fn courier_shut(&mut self, id: FarId, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        self.courier_ended(id, reason, out);
        self.far_close(id, now, out);
        self.give_up(&reason.into(), out);
    }
}

/// While the gateway drains, couriers wait no longer than this for more.
const DRAINING: Duration = Duration::from_secs(1);

/// A stream that stood as long as this has shown that it takes stanzas.
const LONG: Duration = Duration::from_secs(10);

/// DB-69: how long after its `valid` a backend may still say that it does not believe it.
const YOUNG: Duration = Duration::from_secs(1);

/// DB-69: the pauses before a report stream is opened anew, and the time within which.
const AGAIN: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(4)];
const WITHIN: Duration = Duration::from_secs(10);
