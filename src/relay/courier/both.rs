//! What the peer sends back over the courier's own leg (XEP-0288, SM-08).
//!
//! It is taken for the inverse of the courier's pair alone, and where the channel proves who the peer is: as strictly as on a
//! stream that he opens himself. Other couriers carry it to the backend.

use bytes::Bytes;

use super::super::event::Event;
use super::super::far::Far;
use super::super::incoming::{Incoming, ORIGIN, Onwards};
use super::super::judge;
use super::super::origin::{pair_of, reread};
use super::super::turn::Turn;
use super::super::{Effect, FarId};
use super::Courier;
use crate::filter::{Guard, PairRoute};
use crate::reason::{Direction, Outcome, Reason};
use crate::stream::management::Taken;
use crate::xml::{Frame, RefusedStanza};

impl Courier {
    /// The pairs that have come back.
    pub(in super::super) fn back(&self) -> &Guard {
        &self.back
    }

    /// A stanza that its sender may not send now: it came from a backend, or back over the leg.
    pub(super) fn too_much(&mut self, octets: &Bytes, reason: Reason, turn: &mut Turn<'_>) {
        let Some(frame) = reread(octets) else { return };
        if pair_of(frame.head()) != Some(self.pair.reversed()) {
            return self.origin().too_much(frame.head(), reason, turn);
        }
        let onwards = Onwards::Inward(FarId(self.issued));
        let (guard, asked) = (&mut self.back, &mut self.asked);
        Incoming { guard, language: None, onwards, asked }.too_much(&frame, reason, turn);
    }

    /// A stanza of the peer.
    pub(super) fn came_back(&mut self, frame: Frame, turn: &mut Turn<'_>) {
        if let Err(reason) = self.admit_back(turn) {
            ORIGIN.note_refused(frame.head(), reason, turn);
            return self.misused(reason, turn);
        }
        // The gateway waits for nobody who goes on talking while it drains.
        if !self.draining {
            self.last = turn.now;
        }
        self.goes_back();
        self.with_incoming(turn, |mut incoming, turn| incoming.pass(frame, turn));
    }

    /// One that the framer refused.
    pub(super) fn unfit(&mut self, refused: &RefusedStanza, turn: &mut Turn<'_>) {
        match self.admit_back(turn) {
            Ok(()) => self.with_incoming(turn, |mut incoming, turn| incoming.refuse_stanza(refused, turn)),
            Err(reason) => self.misused(reason, turn),
        }
    }

    fn with_incoming(
        &mut self,
        turn: &mut Turn<'_>,
        take: impl FnOnce(Incoming<'_>, &mut Turn<'_>) -> Result<(), Reason>,
    ) {
        let Some(far) = self.far.as_deref() else { return };
        let (language, onwards) = (far.language(), Onwards::Inward(far.id()));
        let incoming = Incoming { guard: &mut self.back, language, onwards, asked: &mut self.asked };
        let taken = take(incoming, turn);
        if let Err(reason) = taken {
            self.misused(reason, turn);
        }
    }

    /// The stream ends because of what the peer sent: the next one goes one way.
    fn misused(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        self.one_way = true;
        if let Some(id) = self.far.as_deref().map(Far::id) {
            self.far(id, turn, |far, turn| {
                far.go_both_ways(false, Taken::default());
                far.fault(reason, turn)
            });
        }
    }

    /// The first stanza: both tokens open the door.
    fn admit_back(&mut self, turn: &mut Turn<'_>) -> Result<(), Reason> {
        if !self.back.is_empty() {
            return Ok(());
        }
        let far = self.far.as_deref().ok_or(Reason::Internal)?;
        let (proof, verdict) = far.back(turn).ok_or(Reason::NotAuthorized)?;
        let Some(permit) = verdict.permit() else {
            let (pair, reason) = (proof.pair().clone(), verdict.reason);
            turn.note(Event::Judged { pair, verdict: verdict.into() });
            return Err(reason);
        };
        let (pair, method) = (proof.pair().clone(), proof.method());
        self.back.admit(proof, permit.clone(), PairRoute::Carried)?;
        let judged = verdict.reason;
        turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
        let (outcome, reason) = (Outcome::Allow, Reason::Allowed);
        turn.note(Event::Authenticated { pair: pair.clone(), method, outcome, reason });
        let (rule, beside) = (permit.rule().clone(), permit.beside().cloned());
        let after = std::time::Duration::ZERO;
        if let Some(far) = self.far.as_deref() {
            turn.note(Event::Met {
                pair: pair.clone(),
                direction: Direction::Inbound,
                face: Box::new(judge::face(&pair.sender, method, far.secured())),
                tls: far.secured().map(|secured| secured.version),
                address: far.address(),
                rule: permit.rule().clone(),
                on_change: permit.on_change(),
                outcome,
            });
        }
        turn.note(Event::Admitted { pair, method, server: None, rule, reason: judged, beside, after });
        turn.push(Effect::Admitted(None, permit));
        Ok(())
    }

    /// POL-07: what may come in at the door may come back this way, and nothing else.
    pub(super) fn rejudge_back(&mut self, turn: &mut Turn<'_>) {
        let Some(far) = self.far.as_deref().filter(|far| far.is_bidi()) else { return };
        let verdict = far.back(turn).map(|(_, verdict)| verdict);
        let Some(permit) = verdict.as_ref().and_then(|verdict| verdict.permit()) else {
            let mut reason = Reason::PolicyChanged;
            if let Some(verdict) = verdict {
                reason = verdict.reason.of_standing();
                turn.note(Event::Judged { pair: self.pair.reversed(), verdict: verdict.into() });
            }
            self.take_back_inward(reason, turn);
            return self.close_for(reason, turn);
        };
        let Some(before) = self.back.pair(0).map(|admitted| admitted.permit().clone()) else { return };
        if before.beside() != permit.beside()
            && permit.beside().is_some()
            && let Some(verdict) = verdict
        {
            turn.note(Event::Shadowed { pair: self.pair.reversed(), verdict: verdict.into() });
        }
        self.back.repermit(&self.pair.reversed(), permit.clone());
        if before.quotas() != permit.quotas() || before.rule() != permit.rule() {
            turn.push(Effect::Admitted(None, permit));
        }
    }

    /// What the peer has under way to us comes back to its senders, also where it waits for room.
    pub(super) fn take_back_inward(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        let pair = self.pair.reversed();
        if !self.back.is_empty() {
            self.back.reroute(&pair, PairRoute::Withdrawn(reason));
            turn.push(Effect::Withdraw(pair, reason));
        }
    }

    /// The leg is no more.
    pub(super) fn back_ended(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        let pair = self.pair.reversed();
        let mut record = self.record(reason);
        if let Some(admitted) = self.back.remove(&pair) {
            record.admitted(&admitted);
            record.pair = Some(pair);
            turn.note(Event::Ended { record });
        }
    }
}
