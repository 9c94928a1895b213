//! Relays without a near leg that carry stanzas for one pair: what a backend sends into the world or to another backend, what
//! the gateway itself must deliver, and reports to a backend (DB-69).
//!
//! One courier for each pair keeps their order (RLY-05). It judges before any cost, opens its leg for the first stanza,
//! judges again by what the channel shows, and sends back each stanza that cannot go, with the true reason.

mod anew;
mod both;
mod course;
mod ends;
mod managed;
mod queue;

use std::time::{Duration, Instant};

use bytes::Bytes;

use self::anew::Anew;
use self::both::WayIn;
use self::course::Course;
use self::managed::Session;
use self::queue::{Queue, Tries};
use super::event::{Event, Record};
use super::far::{self, Far, FarOutcome, Leave, Lost};
use super::incoming::ORIGIN;
use super::leg::{OfLeg, of_leg, of_servers};
use super::origin::{pair_of, reread};
use super::snapshot::CountedPair;
use super::turn::Turn;
use super::{Behalf, Effect, FarId, Input, Load, Side};
use crate::filter::{Guard, PairRoute};
use crate::jid::Domain;
use crate::reason::{Direction, Flow, Outcome, Reason};
use crate::stream::initiating::Errand;
use crate::stream::{Method, Pair, Proof, Secured};
use crate::xml::{Frame, Token};

/// What a courier knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Courier {
    pair: Pair,
    /// The hosted domain whose backend it leads to, or came from.
    via: Option<Domain>,
    /// Which way its stanzas travel.
    direction: Direction,
    /// The most that it has been given of: one stanza of a backend makes it that backend's.
    load: Load,
    /// Its leg. There is never another before it is over.
    far: Option<Box<Far>>,
    /// The pair of a backend, once it stands.
    guard: Guard,
    /// What the peer sends back over its leg.
    back: WayIn,
    queue: Queue,
    /// What the peer counts, if it does.
    session: Option<Box<Session>>,
    /// Whether it opens another leg for what comes.
    course: Course,
    /// The gateway drains: it does not wait for more.
    draining: bool,
    /// Since when a leg stands.
    stood: Option<Instant>,
    /// What was left by a leg has been given to another once.
    again: bool,
    /// Reports: attempts that failed.
    tries: Tries,
    /// The attempt under way, should it hang.
    anew: Anew,
    /// Reports: others wait for its place.
    yields: bool,
    /// Names given to legs.
    issued: u32,
    started: Instant,
    /// When a leg was called, or a stanza came or went, last.
    last: Instant,
}

impl Courier {
    /// A courier that sets out for its first leg.
    pub(super) fn new(pair: Pair, load: Load, via: Option<Domain>, turn: &mut Turn<'_>) -> Self {
        let inward = turn.relays.hosts(&pair.target) && !turn.relays.hosts(&pair.sender);
        let direction = match load == Load::Report || inward {
            true => Direction::Inbound,
            false => Direction::Outbound,
        };
        let mut courier = Self {
            pair,
            via,
            direction,
            load,
            far: None,
            guard: Guard::default(),
            back: WayIn::default(),
            queue: Queue::default(),
            session: None,
            course: Course::GoesOn,
            draining: false,
            stood: None,
            again: false,
            tries: Tries::default(),
            anew: Anew::new(turn.now),
            yields: false,
            issued: 0,
            started: turn.now,
            last: turn.now,
        };
        courier.set_out(turn);
        courier
    }

    /// Something happened.
    pub(super) fn step(&mut self, side: Side, input: Input, turn: &mut Turn<'_>) {
        let input = match (side, input.of_relay()) {
            (Side::Far(id), Err(input)) => return self.far_input(id, input, turn),
            // It has no near leg.
            (Side::Near, Err(_)) => return,
            (_, Ok(input)) => input,
        };
        match (side, input) {
            (Side::Near, Input::Close(reason)) => {
                self.end(reason, turn);
                self.give_back(reason, turn);
            }
            (Side::Far(id), Input::Close(reason)) => self.shut(id, reason, turn),
            (_, Input::Drain) => {
                self.draining = true;
                self.give_up_session(turn);
                self.end(Reason::Shutdown, turn);
            }
            (_, Input::Expired) => self.expire(turn),
            (_, Input::Policy(_)) => {
                self.back.forget();
                if self.may_speak(turn)
                    && let Some(far) = self.far.as_deref()
                    && let Err(reason) = self.back.rejudge(far, &self.pair.reversed(), turn)
                {
                    self.close_for(reason, turn);
                }
            }
            (_, Input::Withdraw(pair, reason)) if pair == self.pair => self.take_back(reason, turn),
            (_, Input::Withdraw(pair, reason)) => self.back.withdraw(&pair, reason),
            (_, Input::Overtaken) => self.take_back(Reason::BackendSlow, turn),
            (_, Input::Queue(load, octets)) => self.enqueue(load, octets, turn),
            (_, Input::Refused(octets, reason)) => self.too_much(&octets, reason, turn),
            // It keeps what comes until the leg has ended.
            (Side::Far(id), Input::Yield) => {
                if self.has(id) && self.standing().is_some() {
                    self.close(turn);
                }
            }
            (Side::Near, Input::Alive) => self.alive(turn),
            (Side::Near, Input::Yield) => {
                self.yields = true;
                self.yield_place(turn);
            }
            // It waits for its acknowledgement, and the end of its leg says what becomes of it.
            (_, Input::Overflow(_)) if self.session.is_some() => {}
            (_, Input::Overflow(octets)) => {
                self.undeliverable(&octets, &Reason::QueueFull.into(), turn);
            }
            // Of legs, and of near ones.
            (_, of_leg!() | of_servers!() | Input::Alive | Input::RelayParams(_) | Input::Tried(_)) => {}
        }
    }

    /// The framer of its leg found this.
    pub(super) fn token(&mut self, side: Side, token: Token, turn: &mut Turn<'_>) {
        if let Side::Far(id) = side {
            if self.has(id) && !matches!(token, Token::Keepalive | Token::Text) {
                self.anew.hears(turn.now);
            }
            self.far(id, turn, |far, turn| far.token(token, turn));
        }
    }

    fn far_input(&mut self, id: FarId, input: OfLeg, turn: &mut Turn<'_>) {
        if matches!(input, OfLeg::Connected(..) | OfLeg::Secured(_)) {
            self.anew.hears(turn.now);
        }
        match input {
            // It has done with the leg, and the connection broke before all was out (CLS-02, BE-11).
            OfLeg::Gone { unsent, .. } if !self.has(id) => {
                let why = self.course.failure().cloned().unwrap_or_else(|| Reason::ConnectionLost.into());
                for octets in unsent {
                    self.undeliverable(&octets, &why, turn);
                }
            }
            input => self.far(id, turn, |far, turn| input.at(far, turn)),
        }
    }

    /// One step of its leg, if it is that one.
    fn far(
        &mut self,
        id: FarId,
        turn: &mut Turn<'_>,
        step: impl FnOnce(&mut Far, &mut Turn<'_>) -> Option<FarOutcome>,
    ) {
        let far = self.far.as_deref_mut().filter(|far| far.id() == id);
        if let Some(outcome) = far.and_then(|far| step(far, turn)) {
            self.far_came(outcome, turn);
        }
    }

    /// What a step of its leg means for what it carries.
    fn far_came(&mut self, outcome: FarOutcome, turn: &mut Turn<'_>) {
        match outcome {
            FarOutcome::Acknowledged(taken) => self.acknowledged(taken, turn),
            FarOutcome::Stands => self.established(turn),
            FarOutcome::Back(frame) => self.came_back(frame, turn),
            FarOutcome::Unfit(refused) => {
                let taken = self.far.as_deref().map(|far| self.back.refuse(far, &refused, turn));
                if let Some(Err(reason)) = taken {
                    self.misused(reason, turn);
                }
            }
            FarOutcome::Failed(why) => {
                self.far = None;
                if !self.tries_to_resume(&why, turn) {
                    self.refused(&why, turn);
                }
            }
            FarOutcome::Lost(lost) => self.lost(lost, turn),
            FarOutcome::Closed(ended, reason) => {
                self.pair_ended(ended, turn);
                let lost = Lost { reason, closing: true, leave: Leave::Other, unsent: Vec::new() };
                self.back.ended(self.pair.reversed(), self.record(ended), turn);
                // What came meanwhile goes over another leg.
                self.leg_ended(lost, turn);
            }
            FarOutcome::Dropped => self.far = None,
            // Only a verifier asks.
            FarOutcome::Answered(_) => self.close(turn),
        }
    }

    /// Our side of its leg ends.
    fn close(&mut self, turn: &mut Turn<'_>) {
        self.ask_at_last(turn);
        if let Some(outcome) = self.far.as_deref_mut().and_then(|far| far.close(turn)) {
            self.far_came(outcome, turn);
        }
    }

    // -- what may be asked of it

    /// Octets and number of the stanzas that wait for its leg; of a backend's also the octets that wait to be acknowledged.
    pub(super) fn queued(&self) -> (usize, usize) {
        let (octets, stanzas) = self.queue.size();
        let kept = self.session.as_ref().filter(|_| self.is_own()).map_or(0, |session| session.size().0);
        (octets.saturating_add(kept), stanzas)
    }

    /// Whether its peer counts what it takes: whether the session may be gone on with, and how much is not acknowledged.
    pub(super) fn managed(&self) -> Option<CountedPair> {
        let kept = |session: &Session| CountedPair {
            resumes: session.is_resumable(),
            unacknowledged: session.size().1,
        };
        self.session.as_deref().map(kept)
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.course.is_over()
    }

    pub(super) fn is_done(&self) -> bool {
        self.far.is_none() && !self.tries.is_waiting()
    }

    pub(super) fn has(&self, id: FarId) -> bool {
        self.far.as_ref().is_some_and(|far| far.id() == id)
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    pub(super) fn speaks_for(&self, id: FarId) -> Option<&Pair> {
        self.has(id).then_some(&self.pair)
    }

    pub(super) fn flow(&self) -> Flow {
        match self.direction {
            Direction::Inbound => Flow::S2sIn,
            Direction::Outbound => Flow::S2sOut,
        }
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The pairs that have come back over its leg.
    pub(super) fn back(&self) -> &Guard {
        self.back.guard()
    }

    pub(super) fn channel(&self) -> Option<&Secured> {
        self.far.as_ref().and_then(|far| far.secured())
    }

    /// The pair that it carries to the world, and whether its leg goes both ways.
    pub(super) fn outward(&self) -> Option<(&Pair, bool)> {
        let far = self.far.as_ref().filter(|_| self.direction == Direction::Outbound)?;
        Some((&self.pair, far.is_bidi()))
    }

    /// How we were proven to the world for this pair.
    pub(super) fn method(&self) -> Option<Method> {
        self.far.as_ref().filter(|_| self.direction == Direction::Outbound).and_then(|far| far.method())
    }

    /// What the audit log needs to know.
    pub(super) fn record(&self, reason: Reason) -> Box<Record> {
        let public = self.channel().filter(|_| self.direction == Direction::Outbound);
        Box::new(Record { pair: Some(self.pair.clone()), ..Record::of(public, reason) })
    }

    fn is_own(&self) -> bool {
        self.load == Load::Own
    }

    fn standing(&self) -> Option<&Far> {
        self.far.as_deref().filter(|far| far.is_live())
    }

    // -- stanzas

    /// The next leg, if the policy allows it (POL-04).
    fn set_out(&mut self, turn: &mut Turn<'_>) {
        // What the gateway itself has to say to a backend needs nobody's leave.
        if self.direction == Direction::Outbound
            && let Some(verdict) = self.denied(turn)
        {
            let reason = verdict.reason;
            // Nobody but the gateway asked for the rest.
            if self.is_own() {
                let mut record = self.record(reason);
                record.rule = Some(verdict.rule.clone());
                record.beside.clone_from(&verdict.beside);
                turn.note(Event::Judged { pair: self.pair.clone(), verdict: verdict.into() });
                turn.note(Event::Rejected { record, after: Duration::ZERO });
            }
            return self.give_up(&ends::reason_behind(reason).into(), turn);
        }
        self.tries.begun();
        self.anew = Anew::new(turn.now);
        self.last = turn.now;
        self.issued = self.issued.wrapping_add(1);
        let (id, errand) = (FarId(self.issued), Errand::Speak(self.pair.clone()));
        let inside = turn.relays.hosts(&self.pair.target) || self.via.is_some();
        let mut far = match inside {
            true => Far::inside(id, errand, self.via.clone(), turn),
            false => Far::outside(id, errand, self.behalf(), self.asks_for(turn.relays), turn),
        };
        // What others in the world cause us to call has one way.
        far.go_both_ways(self.is_own() && self.back.is_open(), self.taken());
        self.far = Some(far);
    }

    /// On whose behalf it calls.
    fn behalf(&self) -> Behalf {
        if self.is_own() { Behalf::Own } else { Behalf::Carried }
    }

    /// One more stanza.
    fn enqueue(&mut self, load: Load, octets: Bytes, turn: &mut Turn<'_>) {
        if self.course.is_over() {
            let why = self.course.failure().cloned().unwrap_or_else(|| Reason::RemoteUnreachable.into());
            return self.undeliverable(&octets, &why, turn);
        }
        // Law `reports_only`: what others have written takes another stream.
        if self.is_report() != (load == Load::Report) {
            return self.undeliverable(&octets, &Reason::Internal.into(), turn);
        }
        let stands = self.standing().is_some();
        let limits = &turn.relays.limits;
        let (stanzas, most) = match load {
            Load::Admitted | Load::Carried => (limits.queue_stanzas, limits.queue_octets),
            Load::Own | Load::Report => (usize::MAX, limits.inside_queue),
        };
        if (!stands || !self.queue.is_empty()) && !self.queue.has_room(octets.len(), stanzas, most) {
            return self.undeliverable(&octets, &Reason::QueueFull.into(), turn);
        }
        let first = self.queue.is_empty();
        let news = load == Load::Own && !self.is_own();
        let raised = news || load == Load::Admitted && self.load == Load::Carried;
        if raised {
            self.load = load;
        }
        self.queue.push(octets);
        if first {
            self.last = turn.now;
        }
        // The leg was closed because nothing had come for a while: what comes goes over another. What others have sent is not left to
        // wait for room.
        if self.far.is_none() && (!self.tries.is_waiting() || raised) {
            return self.set_out(turn);
        }
        if stands {
            if news {
                self.own_stands(Duration::ZERO, turn);
            }
            self.last = turn.now;
            self.flush(turn);
        }
    }

    /// A stanza of the peer.
    fn came_back(&mut self, frame: Frame, turn: &mut Turn<'_>) {
        let Some(far) = self.far.as_deref() else { return };
        if let Err(reason) = self.back.admit(far, turn) {
            ORIGIN.note_refused(frame.head(), reason, turn);
            return self.misused(reason, turn);
        }
        // The gateway waits for nobody who goes on talking while it drains.
        if !self.draining {
            self.last = turn.now;
        }
        if let Some(session) = &mut self.session {
            session.goes_back();
        }
        if let Err(reason) = self.back.pass(far, frame, turn) {
            self.misused(reason, turn);
        }
    }

    /// A stanza that its sender may not send now: it came from a backend, or back over the leg.
    fn too_much(&mut self, octets: &Bytes, reason: Reason, turn: &mut Turn<'_>) {
        let Some(frame) = reread(octets) else { return };
        match pair_of(frame.head()) == Some(self.pair.reversed()) {
            true => self.back.too_much(FarId(self.issued), &frame, reason, turn),
            false => self.origin().too_much(frame.head(), reason, turn),
        }
    }

    /// The leg is proven: does the policy let the courier speak over it, by what is known of it now (POL-07)?
    fn established(&mut self, turn: &mut Turn<'_>) {
        if !self.may_speak(turn) {
            return;
        }
        self.met(turn);
        let began = self.last;
        self.last = turn.now;
        self.stood = Some(turn.now);
        self.queue.forget();
        if self.is_own() {
            self.own_stands(turn.since(began), turn);
        }
        let managed = self.far.as_deref_mut().map(Far::take_managed);
        self.manage(managed.unwrap_or_default(), turn);
        self.flush(turn);
        self.yield_place(turn);
    }

    /// A remote domain was met over the leg that stands.
    fn met(&self, turn: &mut Turn<'_>) {
        let Some(far) = self.far.as_deref().filter(|_| self.direction == Direction::Outbound) else { return };
        if let Some(permit) = far.verdict(turn).permit().filter(|_| !turn.relays.hosts(&self.pair.target)) {
            far::shows(far, (permit.rule(), permit.on_change()), Outcome::Allow, turn);
        }
    }

    /// The pair of a backend stands: both tokens open the door, and its rates and stream count apply.
    fn own_stands(&mut self, after: Duration, turn: &mut Turn<'_>) {
        let pair = self.pair.clone();
        if self.guard.find(pair.sender.as_str(), pair.target.as_str()).is_some() {
            return;
        }
        let Some(far) = self.far.as_deref() else { return };
        let (id, method) = (far.id(), far.method().unwrap_or(Method::Backend));
        let server = far.server(turn);
        let Ok(proof) = Proof::by_backend(&pair, |domain| turn.relays.hosts(domain)) else { return };
        let verdict = self.verdict(far, turn);
        let Some(permit) = verdict.permit() else { return };
        if self.guard.admit(proof, permit.clone(), PairRoute::Leg(id.0)).is_err() {
            return self.give_up(&Reason::Internal.into(), turn);
        }
        let (rule, reason, beside) = (permit.rule().clone(), verdict.reason, permit.beside().cloned());
        turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
        turn.note(Event::Admitted { pair, method, server, rule, reason, beside, after });
        turn.push(Effect::Admitted(Some(id), permit));
    }
}
