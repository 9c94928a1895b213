//! How a courier's leg and the courier itself end, also because the policy says so: what is left goes over another leg, or back.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::event::Event;
use super::super::far::{self, Far, Leave, Lost};
use super::super::origin::{Origin, reread};
use super::super::turn::Turn;
use super::super::{Effect, FarId, Load, RelayParams, Side};
use super::{Courier, Course};
use crate::filter::PairRoute;
use crate::policy::{OnChange, Verdict};
use crate::reason::{Cause, Detail, Direction, Outcome, Reason, Why};
use crate::stream::management::Taken;

impl Courier {
    /// The pair of a backend stands no longer.
    pub(super) fn pair_ended(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        let Some(far) = self.far.as_deref() else { return };
        let own = PairRoute::Leg(far.id().0);
        let admitted = self.guard.pairs().iter().find(|admitted| admitted.route() == own);
        let Some(pair) = admitted.map(|admitted| admitted.pair().clone()) else { return };
        let mut record = self.record(reason);
        let method = self.method();
        if let Some(admitted) = self.guard.remove(&pair) {
            record.admitted(&admitted);
        }
        record.method = method.or(record.method);
        turn.note(Event::Ended { record });
    }

    /// No leg could be had.
    pub(super) fn refused(&mut self, why: &Why, turn: &mut Turn<'_>) {
        if self.answers_alone() && why.reason == Reason::NoRoom {
            if !self.waits_for_room(turn) {
                self.give_up(why, turn);
            }
            return;
        }
        if self.is_report() {
            return self.report_again(why, false, turn);
        }
        if self.is_own() {
            let mut record = self.record(why.reason);
            record.detail.clone_from(&why.detail);
            turn.note(Event::Rejected { record, after: turn.since(self.started) });
        }
        self.give_up(why, turn);
    }

    /// Its leg stood, and is no more.
    pub(super) fn lost(&mut self, lost: Lost, turn: &mut Turn<'_>) {
        // COMPAT(Tigase 8.4): says `valid` before it believes it, and ends the stream at what follows at once.
        if lost.leave == Leave::Doubt && self.is_report() && self.is_young(turn.now) {
            self.queue.recall();
        }
        self.pair_ended(lost.reason, turn);
        self.back.ended(self.pair.reversed(), self.record(lost.reason), turn);
        self.leg_ended(lost, turn);
    }

    /// Its leg is no more: what becomes of what it was given.
    pub(super) fn leg_ended(&mut self, lost: Lost, turn: &mut Turn<'_>) {
        let Some(far) = self.far.take() else { return };
        if far.stands() {
            self.has_taken(far.taken());
        }
        let (closing, reason) = (lost.closing, lost.reason);
        let left = self.unmanage(far.id(), lost, turn);
        self.carry_on(closing, reason, left, turn);
    }

    /// DB-69: whether a backend may still say that it does not believe the `valid` that it gave.
    pub(super) fn is_young(&self, now: Instant) -> bool {
        self.stood.is_some_and(|at| now < at + YOUNG)
    }

    /// What a leg has left goes over another, once.
    pub(super) fn carry_on(
        &mut self,
        closing: bool,
        reason: Reason,
        unsent: Vec<Bytes>,
        turn: &mut Turn<'_>,
    ) {
        let stood = self.stood.take();
        let long = stood.is_some_and(|at| at + LONG <= turn.now);
        let again = !self.again || long;
        self.again = !unsent.is_empty();
        self.queue.put_back(unsent);
        // What the peer has not acknowledged goes on over another stream, as often as it takes.
        if self.resumes() {
            return self.set_out(turn);
        }
        if self.queue.is_empty() {
            if !closing {
                self.course.end();
            }
            return;
        }
        if self.is_report() {
            return self.report_again(&reason.into(), stood.is_some(), turn);
        }
        if (closing || again) && !self.draining && !self.course.is_over() {
            return self.set_out(turn);
        }
        let why = match self.course.failure() {
            Some(why) => why.clone(),
            None if self.draining => Reason::Shutdown.into(),
            None => reason.into(),
        };
        self.give_up(&why, turn);
    }

    fn report_again(&mut self, why: &Why, stood: bool, turn: &mut Turn<'_>) {
        if self.queue.is_empty() {
            self.course.end();
            return;
        }
        if stood {
            self.tries.stood(turn.now);
        }
        if self.course.is_over() || self.draining || !self.tries.again(turn.now) {
            self.give_up(why, turn);
        }
    }

    /// Whether it tries again when this machine has room for a leg: what it carries is the only word that its sender gets.
    fn waits_for_room(&mut self, turn: &Turn<'_>) -> bool {
        let over = self.queue.is_empty() || self.course.is_over() || self.draining;
        !over && self.tries.lacking(turn.now)
    }

    /// Whether it carries nothing but what the gateway itself has to say.
    fn answers_alone(&self) -> bool {
        matches!(self.load, Load::Report | Load::Carried)
    }

    /// Others wait for the place of this report stream: it goes as soon as nothing is left.
    pub(super) fn yield_place(&mut self, turn: &mut Turn<'_>) {
        if self.yields && self.queue.is_empty() && self.standing().is_some() {
            self.close(turn);
        }
    }

    pub(super) fn is_report(&self) -> bool {
        self.load == Load::Report
    }

    pub(super) fn origin(&self) -> Origin<'static> {
        Origin { direction: self.direction, caller: None }
    }

    /// It cannot deliver: everything that waits goes back.
    pub(super) fn give_up(&mut self, why: &Why, turn: &mut Turn<'_>) {
        self.course = Course::GaveUp(why.clone());
        self.tries.begun();
        self.give_up_session(turn);
        for octets in self.queue.take() {
            self.undeliverable(&octets, why, turn);
        }
    }

    /// A stanza that cannot be delivered goes back. Of an answer of the gateway's own nothing is told: the stanza that it is about was.
    pub(super) fn undeliverable(&self, octets: &Bytes, why: &Why, turn: &mut Turn<'_>) {
        let answers = match self.load {
            Load::Report => true,
            Load::Carried => self.direction == Direction::Outbound,
            Load::Admitted | Load::Own => false,
        };
        match reread(octets) {
            Some(frame) if !(answers && frame.head().is_type("error")) => {
                self.origin().sent_back(frame.head(), why, turn);
            }
            _ => {}
        }
    }

    /// What forbids the pair, before any cost.
    pub(super) fn denied(&self, turn: &Turn<'_>) -> Option<Verdict> {
        let (verdict, into) = turn.verdicts(&self.pair);
        std::iter::once(verdict).chain(into).find(|verdict| !verdict.is_allow())
    }

    /// The verdict on its pair: over a leg that stands by what its channel shows.
    pub(super) fn verdict(&self, far: &Far, turn: &Turn<'_>) -> Verdict {
        if far.stands() && !turn.relays.hosts(&self.pair.target) {
            return far.verdict(turn);
        }
        let (out, into) = turn.verdicts(&self.pair);
        match into {
            Some(into) if out.is_allow() && !into.is_allow() => into,
            // The policy in the shadow, too, must let it out and in.
            Some(into) if out.beside.as_ref().is_some_and(|beside| beside.is_allow()) => {
                out.with_beside(into.beside)
            }
            _ => out,
        }
    }

    /// Whether the policy lets it speak over its leg, or at all; if not, what waits goes back, and so does what comes (POL-07).
    pub(super) fn may_speak(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.direction == Direction::Inbound {
            return self.load != Load::Admitted || self.may_bring(turn);
        }
        let Some(far) = self.far.as_deref() else { return true };
        let (id, pair, verdict) = (far.id(), self.pair.clone(), self.verdict(far, turn));
        if let Some(permit) = verdict.permit() {
            let known = self.guard.find(pair.sender.as_str(), pair.target.as_str());
            // Also where its rule is the same: it may be another proof that the permit stands on.
            if let Some(before) = known.and_then(|index| self.guard.pair(index)).map(|a| a.permit()) {
                let changed = before.quotas() != permit.quotas() || before.rule() != permit.rule();
                if before.beside() != permit.beside() && permit.beside().is_some() {
                    turn.note(Event::Shadowed { pair: pair.clone(), verdict: verdict.into() });
                }
                self.guard.repermit(&pair, permit.clone());
                if changed {
                    turn.push(Effect::Admitted(Some(id), permit));
                }
            }
            return true;
        }
        let reason = verdict.reason;
        if reason == Reason::PeerChanged {
            far::shows(far, (&verdict.rule, OnChange::Hold), Outcome::Deny, turn);
        }
        turn.note(Event::Judged { pair, verdict: verdict.into() });
        self.back.take_back(&self.pair.reversed(), reason.of_standing(), turn);
        self.pair_ended(reason.of_standing(), turn);
        self.close(turn);
        self.give_up(&reason_behind(reason).into(), turn);
        false
    }

    /// Whether what a remote server has sent may still go in; if not it comes back, but for what has begun to go (POL-07).
    pub(super) fn may_bring(&mut self, turn: &mut Turn<'_>) -> bool {
        let verdict = turn.inbound_at_all(&self.pair);
        if verdict.is_allow() {
            return true;
        }
        let reason = verdict.reason.of_standing();
        turn.note(Event::Judged { pair: self.pair.clone(), verdict: verdict.into() });
        self.take_back(reason, turn);
        false
    }

    /// All that it has comes back, but for what has begun to go.
    pub(super) fn take_back(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        turn.push(Effect::Withdraw(self.pair.clone(), reason));
        self.give_up(&reason.into(), turn);
        self.close(turn);
    }

    /// Its leg ends because of what the peer sent back: the next one goes one way.
    pub(super) fn misused(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        self.back.closes();
        if let Some(id) = self.far.as_deref().map(Far::id) {
            self.far(id, turn, |far, turn| {
                far.go_both_ways(false, Taken::default());
                far.fault(reason, turn)
            });
        }
    }

    /// Its leg ends for this reason.
    pub(super) fn close_for(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        if let Some(far) = &mut self.far {
            far.ends_for(reason);
        }
        self.close(turn);
    }

    /// The leg is at a limit of its rule: it ends, and what comes goes back for that reason.
    pub(super) fn shut(&mut self, id: FarId, reason: Reason, turn: &mut Turn<'_>) {
        if !self.has(id) {
            return;
        }
        if self.far.as_deref().is_some_and(Far::stands) {
            self.pair_ended(reason, turn);
            self.close(turn);
            return self.give_up(&reason.into(), turn);
        }
        self.far(id, turn, |far, turn| far.fault(reason, turn));
    }

    /// The whole relay ends in good order. What waits is delivered or given back within its own time; and what a backend
    /// sends may still be on its way.
    pub(super) fn end(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        if !self.queue.is_empty() {
            return;
        }
        match self.is_own() && self.draining {
            true => self.last = turn.now,
            false => self.close_for(reason, turn),
        }
    }

    /// The stanzas that wait go back now.
    pub(super) fn give_back(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        if !self.queue.is_empty() {
            self.give_up(&reason.into(), turn);
            self.close(turn);
        }
    }

    // -- time

    /// How long it keeps its leg when nothing comes.
    fn patience(&self, relays: &RelayParams) -> Duration {
        let patience = match self.load {
            Load::Own => relays.timeouts.idle,
            Load::Report => relays.timeouts.report,
            Load::Admitted | Load::Carried => relays.timeouts.courier,
        };
        if self.draining { patience.min(DRAINING) } else { patience }
    }

    /// When something is due.
    pub(in super::super) fn deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let far = self.far.as_ref().and_then(|far| far.deadline());
        [far, self.own_deadline(relays), self.anew_at(relays)].into_iter().flatten().min()
    }

    fn own_deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let session = self.session_deadline(relays);
        if self.tries.is_waiting() {
            return self.tries.next.into_iter().chain(session).min();
        }
        self.far.as_ref()?;
        // For what waits behind a session its own time runs.
        if self.resumes() {
            return session;
        }
        match self.queue.is_empty() {
            true => {
                self.standing().map(|_| self.last + self.patience(relays)).into_iter().chain(session).min()
            }
            false if self.standing().is_some() => session,
            false => Some(self.last + relays.timeouts.queue),
        }
    }

    /// The domain that it carries to has shown itself.
    pub(super) fn alive(&mut self, turn: &mut Turn<'_>) {
        if self.direction != Direction::Outbound
            || turn.relays.hosts(&self.pair.target)
            || self.course.is_over()
        {
            return;
        }
        if self.far.as_deref().is_some_and(Far::is_under_way) {
            self.anew.lives();
            self.try_anew(turn);
        } else if self.far.is_none() && self.tries.is_waiting() {
            self.set_out(turn);
        }
    }

    /// When another attempt takes the place of the one that hangs: a moment after the last that was heard of it.
    pub(super) fn anew_at(&self, relays: &RelayParams) -> Option<Instant> {
        self.anew.due(relays).filter(|_| self.far.as_deref().is_some_and(Far::is_under_way))
    }

    /// Another attempt takes its place, if that is due; whether it did.
    pub(super) fn try_anew(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.anew_at(turn.relays).is_none_or(|at| at > turn.now) {
            return false;
        }
        let Some(far) = self.far.take() else { return false };
        turn.push(Effect::Cut(Side::Far(far.id())));
        let before = self.anew;
        self.set_out(turn);
        self.anew.follows(before);
        true
    }

    /// Some deadline has come.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        if self.try_anew(turn) {
            return;
        }
        if let Some(id) = self.far.as_ref().map(|far| far.id()) {
            self.far(id, turn, Far::expire);
        }
        if self.own_deadline(turn.relays).is_none_or(|at| at > turn.now) {
            return;
        }
        if self.expire_session(turn) {
            return;
        }
        if self.tries.is_waiting() {
            return self.set_out(turn);
        }
        if self.standing().is_some() {
            if self.queue.is_empty() && self.last + self.patience(turn.relays) <= turn.now {
                self.close_for(Reason::Idle, turn);
            }
            return;
        }
        let mut why = Why::because(Reason::DialbackTimeout, Cause::TimedOut);
        if let Some(far) = &self.far {
            far::silent(far, turn);
            why.detail = Some(Detail::new(Cause::TimedOut, far.due().words()));
        }
        self.refused(&why, turn);
        self.close(turn);
    }
}

/// What those behind hear where the policy speaks of this: to them it is their own domain that is missing here.
pub(super) fn reason_behind(reason: Reason) -> Reason {
    if reason == Reason::HostGone { Reason::NotConfigured } else { reason }
}

/// While the gateway drains, couriers wait no longer than this for more.
const DRAINING: Duration = Duration::from_secs(1);

/// A stream that stood as long as this has shown that it takes stanzas.
const LONG: Duration = Duration::from_secs(10);

/// How long after its `valid` a backend may still say that it does not believe it.
const YOUNG: Duration = Duration::from_secs(1);
