//! What goes out over a courier's leg, and what the peer counts of it (SM-01): it is kept until it is acknowledged. Where the stream breaks,
//! the session goes on over another one, and what was not taken is sent again; where it cannot, that comes back, once.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::beside::InForce;
use super::super::event::{Event, ManagementOutcome};
use super::super::far::Lost;
use super::super::origin::reread;
use super::super::turn::Turn;
use super::super::turned::Turned;
use super::super::{Effect, FarId, Passing, RelayParams, Side};
use super::Courier;
use crate::filter::PairRoute;
use crate::reason::{Class, Reason, Why};
use crate::stream::management::{self, Count, Manage, Managed, ResumableSession, Taken, Unacknowledged};
use crate::xml::Kind;

/// What the peer counts of what it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    /// By what it may be gone on with.
    ticket: Option<ResumableSession>,
    unacknowledged: Unacknowledged,
    /// What came back of the peer, and was taken, until its stream broke (XEP-0288).
    taken: Taken,
    /// Something of the peer has come back: more of it may be on its way, for which it must be gone on with.
    goes_back: bool,
    /// Its stream broke, and it may be gone on with until then; and how often that has been tried.
    broken: Option<(Instant, u8)>,
}

impl Session {
    /// Until when it may be gone on with, if its stream is no more.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.broken.map(|(until, _)| until)
    }

    /// Whether one more of so many octets may be sent.
    pub(super) fn has_room(&self, octets: usize, relays: &RelayParams) -> bool {
        let limits = &relays.limits;
        self.unacknowledged.has_room(octets, (limits.unacked_stanzas, limits.unacked_octets))
    }

    /// This is sent.
    pub(super) fn sends(&mut self, stanza: Bytes, now: Instant) {
        self.unacknowledged.push(stanza, now);
    }

    /// Octets and number of what is not acknowledged.
    pub(super) fn size(&self) -> (usize, usize) {
        self.unacknowledged.size()
    }

    /// Something of the peer has come back.
    pub(super) fn goes_back(&mut self) {
        self.goes_back = true;
    }

    /// Whether it may be gone on with, should its stream break.
    pub(super) fn is_resumable(&self) -> bool {
        self.ticket.is_some()
    }
}

impl Courier {
    /// How many stanzas of the peer the session has taken that has lost its stream.
    pub(super) fn taken(&self) -> Taken {
        self.session.as_ref().map(|session| session.taken).unwrap_or_default()
    }

    /// Its stream is no more: so many were taken on it.
    pub(super) fn has_taken(&mut self, taken: Taken) {
        if let Some(session) = &mut self.session {
            session.taken = taken;
        }
    }

    /// Whether a session has lost its stream, and may go on over another.
    pub(super) fn resumes(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.broken.is_some())
    }

    /// What the next stream is to ask for.
    pub(super) fn asks_for(&self, relays: &RelayParams) -> Manage {
        if relays.limits.unacked_stanzas == 0 {
            return Manage::Off;
        }
        let ticket = self.session.as_ref().filter(|session| session.broken.is_some());
        match ticket.and_then(|session| session.ticket.as_ref()) {
            Some(ticket) => Manage::Resume(ticket.id.clone()),
            None => Manage::Enable,
        }
    }

    /// A leg stands: what came of the session before, and the one that begins.
    pub(super) fn manage(&mut self, managed: Managed, turn: &mut Turn<'_>) {
        if let Count::Resumed(taken) = managed.count {
            return self.resumed(taken, turn);
        }
        if let Some(mut session) = self.session.take() {
            // What it tells of a session that is gone is as good as an acknowledgement, if it can be true.
            if let Some(taken) = managed.told {
                let _miscounted = session.unacknowledged.acknowledge(taken, turn.now);
            }
            turn.note(Event::Managed { what: ManagementOutcome::Refused, stanzas: 1 });
            self.unknown(session.unacknowledged.take(), Reason::Unacknowledged, turn);
        }
        if let Count::Anew(ticket) = managed.count {
            turn.note(Event::Managed { what: ManagementOutcome::Enabled, stanzas: 1 });
            let session = Session {
                ticket,
                unacknowledged: Unacknowledged::default(),
                taken: Taken::default(),
                goes_back: false,
                broken: None,
            };
            self.session = Some(Box::new(session));
        }
    }

    /// The session goes on, and what was not taken goes out again.
    fn resumed(&mut self, taken: u32, turn: &mut Turn<'_>) {
        let (Some(session), Some(far)) = (&mut self.session, &self.far) else { return };
        session.broken = None;
        if session.unacknowledged.acknowledge(taken, turn.now).is_err() {
            return self.miscounted(turn);
        }
        let again = session.unacknowledged.resend(turn.now);
        turn.note(Event::Managed { what: ManagementOutcome::Resumed, stanzas: 1 });
        if !again.is_empty() {
            turn.note(Event::Managed { what: ManagementOutcome::Resent, stanzas: again.len() });
        }
        for stanza in again {
            turn.push(Effect::Pass(far.id(), stanza.into()));
        }
    }

    /// The peer has taken so many.
    pub(super) fn acknowledged(&mut self, taken: u32, turn: &mut Turn<'_>) {
        let Some(session) = &mut self.session else { return };
        match session.unacknowledged.acknowledge(taken, turn.now) {
            Ok(_) if self.standing().is_some() => self.flush(turn),
            Ok(_) => {}
            Err(management::Miscounted) => self.miscounted(turn),
        }
    }

    fn miscounted(&mut self, turn: &mut Turn<'_>) {
        if let Some(id) = self.far.as_ref().map(|far| far.id()) {
            self.far(id, turn, |far, turn| far.fault(Reason::Miscounted, turn));
        }
    }

    /// The leg stands: what waited goes out in order.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) {
        let Some(far) = self.far.as_deref() else { return };
        let (id, limit) = (far.id(), far.largest(turn.relays.hosted.get(far.target()), turn.relays));
        let own = self.guard.pairs().iter().position(|admitted| admitted.route() == PairRoute::Leg(id.0));
        let young = self.is_report() && self.is_young(turn.now);
        let mut waiting = self.queue.take();
        while let Some(octets) = waiting.pop_front() {
            // What is not acknowledged has a ceiling: the rest waits.
            if !self.may_send(octets.len(), turn.relays) {
                waiting.push_front(octets);
                break;
            }
            if octets.len() > limit {
                self.too_large(id, limit, &octets, turn);
                continue;
            }
            if young {
                self.queue.remember(octets.clone(), turn.relays.limits.inside_queue);
            }
            // What a backend sends has passed when it goes out on the leg, and not when the courier has it.
            let passed = own.and_then(|index| {
                self.guard.count(index, octets.len());
                if let Some(admitted) = self.guard.pair(index) {
                    InForce::from(admitted).stands(octets.len(), turn);
                }
                let hosted = self.guard.pair(index)?.pair().sender.clone();
                Some(Event::Passed { hosted, kind: Kind::of_stanza(&octets), octets: octets.len() })
            });
            self.count(&octets, turn.now);
            turn.push(Effect::Pass(id, octets.into()));
            if let Some(passed) = passed {
                turn.note(passed);
            }
        }
        self.queue.put_back(waiting.into());
        self.ask(turn);
    }

    /// This goes out, and is kept until the peer has taken it.
    fn count(&mut self, octets: &Bytes, now: Instant) {
        if let Some(session) = &mut self.session {
            session.sends(octets.clone(), now);
        }
    }

    /// XML-18: the peer has told how much it takes, or takes what others may send us, and this stanza is more.
    fn too_large(&mut self, id: FarId, most: usize, octets: &Bytes, turn: &mut Turn<'_>) {
        let Some(frame) = reread(octets) else { return };
        let found = octets.len();
        let turned = Turned::beyond(frame.head(), Reason::BeyondPeerLimit, (most, found), found);
        let now = turn.now;
        let (origin, session) = (self.origin(), &mut self.session);
        let instead = |stanza: Passing| {
            if let Some(session) = session {
                session.sends(stanza.octets.clone(), now);
            }
            Some(Effect::Pass(id, stanza))
        };
        origin.turn_away(&turned, &self.pair, instead, turn);
    }

    /// Whether one more of so many octets may be sent now.
    fn may_send(&self, octets: usize, relays: &RelayParams) -> bool {
        self.session.as_ref().is_none_or(|session| session.has_room(octets, relays))
    }

    /// What has been sent is asked about, if it is time to.
    pub(super) fn ask(&mut self, turn: &mut Turn<'_>) {
        let Some(id) = self.standing().map(|far| far.id()) else { return };
        if self.session.as_mut().is_some_and(|session| session.unacknowledged.asks(turn.now)) {
            turn.send(Side::Far(id), management::write_ask().into());
        }
    }

    /// The stream is about to be closed: whatever is open is asked about before.
    pub(super) fn ask_at_last(&mut self, turn: &mut Turn<'_>) {
        let Some(id) = self.standing().map(|far| far.id()) else { return };
        if self.session.as_mut().is_some_and(|session| session.unacknowledged.asks_at_last()) {
            turn.send(Side::Far(id), management::write_ask().into());
        }
    }

    /// The stream of the session is no more. What is left of it for another stream to carry; the rest waits for the session to
    /// go on, or comes back.
    pub(super) fn unmanage(&mut self, id: FarId, lost: Lost, turn: &mut Turn<'_>) -> Vec<Bytes> {
        let Some(session) = &mut self.session else { return lost.unsent };
        turn.push(Effect::Recall(Side::Far(id), usize::MAX));
        let broke = lost.reason.is(Class::Cut);
        let left = !session.unacknowledged.is_empty() || session.goes_back;
        let time = turn.relays.timeouts.resume;
        let most = session.ticket.as_ref().map(|ticket| ticket.most.unwrap_or(time).min(time));
        if left
            && broke
            && !(lost.closing || self.draining || self.course.is_over())
            && let Some(most) = most.filter(|most| !most.is_zero())
        {
            session.broken = Some((turn.now + most, 0));
            turn.note(Event::Managed { what: ManagementOutcome::Broken, stanzas: 1 });
            return Vec::new();
        }
        let Some(mut session) = self.session.take() else { return lost.unsent };
        // What never went out whole has not been taken, and goes over another stream.
        let mut unknown = session.unacknowledged.take();
        unknown.truncate(unknown.len().saturating_sub(lost.unsent.len()));
        self.unknown(unknown, Reason::Unacknowledged, turn);
        lost.unsent
    }

    /// Nobody knows whether these have arrived: they come back, and are never sent again.
    fn unknown(&mut self, stanzas: Vec<Bytes>, reason: Reason, turn: &mut Turn<'_>) {
        if !stanzas.is_empty() {
            turn.note(Event::Managed { what: ManagementOutcome::Returned, stanzas: stanzas.len() });
        }
        for octets in stanzas {
            self.undeliverable(&octets, &reason.into(), turn);
        }
    }

    /// The session that has lost its stream does not go on.
    pub(super) fn give_up_session(&mut self, turn: &mut Turn<'_>) {
        if self.session.as_ref().is_some_and(|session| session.broken.is_some())
            && let Some(mut session) = self.session.take()
        {
            turn.note(Event::Managed { what: ManagementOutcome::Expired, stanzas: 1 });
            self.unknown(session.unacknowledged.take(), Reason::Unacknowledged, turn);
        }
    }

    /// No leg could be had for the session that has lost its own: whether it is tried again later.
    pub(super) fn tries_to_resume(&mut self, why: &Why, turn: &Turn<'_>) -> bool {
        let Some((until, tried)) = self.session.as_mut().and_then(|session| session.broken.as_mut()) else {
            return false;
        };
        let passing = why.reason.is(Class::Absence) || why.reason.is(Class::Down);
        if self.draining || self.course.is_over() || !passing {
            return false;
        }
        let pause = PAUSES.get(usize::from(*tried)).copied().unwrap_or(LONGEST);
        *tried = tried.saturating_add(1);
        let next = turn.now + pause;
        if next >= *until {
            return false;
        }
        self.tries.wait_until(next);
        true
    }

    /// When the session itself has something due.
    pub(super) fn session_deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let session = self.session.as_ref()?;
        match (session.ends(), self.standing()) {
            (Some(until), _) => Some(until),
            (None, Some(_)) => {
                let (again, dead) = session.unacknowledged.deadlines(relays.timeouts.acknowledgement);
                again.into_iter().chain(dead).min()
            }
            (None, None) => None,
        }
    }

    /// That has come, if it has. Whether there is nothing else to be done.
    pub(super) fn expire_session(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.session_deadline(turn.relays).is_none_or(|at| at > turn.now) {
            return false;
        }
        let Some(session) = &self.session else { return false };
        if session.ends().is_some() {
            self.give_up(&Reason::Unacknowledged.into(), turn);
            self.close(turn);
            return true;
        }
        let (_, dead) = session.unacknowledged.deadlines(turn.relays.timeouts.acknowledgement);
        if dead.is_some_and(|at| at <= turn.now)
            && let Some(id) = self.standing().map(|far| far.id())
        {
            // What waits to go out is kept here, too.
            turn.push(Effect::Recall(Side::Far(id), usize::MAX));
            self.far(id, turn, |far, turn| far.gone(Reason::AckTimeout, Vec::new(), turn));
            return true;
        }
        self.ask(turn);
        false
    }
}

/// The pauses before a stream for a broken session is tried anew; then again and again after the last.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
const LONGEST: Duration = Duration::from_secs(10);
