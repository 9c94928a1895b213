//! What the peer sends back over the courier's own leg (XEP-0288, SM-08).
//!
//! It is taken for the inverse of the courier's pair alone, and where the channel proves who the peer is: as strictly as on a
//! stream that he opens himself. Other couriers carry it to the backend.

use super::super::event::{Event, Record};
use super::super::far::Far;
use super::super::incoming::{Asked, Incoming, Onwards};
use super::super::judge;
use super::super::turn::Turn;
use super::super::{Effect, FarId};
use crate::filter::{Guard, PairRoute};
use crate::reason::{Direction, Outcome, Reason};
use crate::stream::Pair;
use crate::xml::{Frame, RefusedStanza};

/// The inverse of a courier's pair, on the courier's own leg.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct WayIn {
    /// It, once the peer has sent something.
    guard: Guard,
    /// What lists were asked of about it last, by this policy.
    asked: Option<Asked>,
    /// The peer has misused it: the next leg goes one way.
    closed: bool,
}

impl WayIn {
    /// The pairs that have come back.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Whether the next leg may go both ways.
    pub(super) fn is_open(&self) -> bool {
        !self.closed
    }

    /// The peer has misused it.
    pub(super) fn closes(&mut self) {
        self.closed = true;
    }

    /// A stanza of the peer, which has been let in.
    ///
    /// # Errors
    /// The stream ends for this reason.
    pub(super) fn pass(&mut self, far: &Far, frame: Frame, turn: &mut Turn<'_>) -> Result<(), Reason> {
        self.incoming(far.language(), far.id()).pass(frame, turn)
    }

    /// One that the framer refused.
    ///
    /// # Errors
    /// The stream ends for this reason.
    pub(super) fn refuse(
        &mut self,
        far: &Far,
        refused: &RefusedStanza,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reason> {
        self.admit(far, turn)?;
        self.incoming(far.language(), far.id()).refuse_stanza(refused, turn)
    }

    /// One that its sender may not send now.
    pub(super) fn too_much(&mut self, id: FarId, frame: &Frame, reason: Reason, turn: &mut Turn<'_>) {
        self.incoming(None, id).too_much(frame, reason, turn);
    }

    fn incoming<'a>(&'a mut self, language: Option<&'a str>, id: FarId) -> Incoming<'a> {
        let onwards = Onwards::Inward(id);
        Incoming { guard: &mut self.guard, language, onwards, asked: &mut self.asked }
    }

    /// The first stanza: both tokens open the door.
    ///
    /// # Errors
    /// The stream ends for this reason.
    pub(super) fn admit(&mut self, far: &Far, turn: &mut Turn<'_>) -> Result<(), Reason> {
        if !self.guard.is_empty() {
            return Ok(());
        }
        let (proof, verdict) = far.back(turn).ok_or(Reason::NotAuthorized)?;
        let Some(permit) = verdict.permit() else {
            let (pair, reason) = (proof.pair().clone(), verdict.reason);
            turn.note(Event::Judged { pair, verdict: verdict.into() });
            return Err(reason);
        };
        let (pair, method) = (proof.pair().clone(), proof.method());
        self.guard.admit(proof, permit.clone(), PairRoute::Carried)?;
        let judged = verdict.reason;
        turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
        let (outcome, reason) = (Outcome::Allow, Reason::Allowed);
        turn.note(Event::Authenticated { pair: pair.clone(), method, outcome, reason });
        let (rule, beside) = (permit.rule().clone(), permit.beside().cloned());
        let after = std::time::Duration::ZERO;
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
        turn.note(Event::Admitted { pair, method, server: None, rule, reason: judged, beside, after });
        turn.push(Effect::Admitted(None, permit));
        Ok(())
    }

    /// A new policy: what lists said by the one before counts no more.
    pub(super) fn forget(&mut self) {
        self.asked = None;
    }

    /// POL-07: what may come in at the door may come back this way, and nothing else. `pair` is the inverse of the courier's.
    ///
    /// # Errors
    /// The leg ends for this reason.
    pub(super) fn rejudge(&mut self, far: &Far, pair: &Pair, turn: &mut Turn<'_>) -> Result<(), Reason> {
        if !far.is_bidi() {
            return Ok(());
        }
        let verdict = far.back(turn).map(|(_, verdict)| verdict);
        let Some(permit) = verdict.as_ref().and_then(|verdict| verdict.permit()) else {
            let mut reason = Reason::PolicyChanged;
            if let Some(verdict) = verdict {
                reason = verdict.reason.of_standing();
                turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
            }
            self.take_back(pair, reason, turn);
            return Err(reason);
        };
        let Some(before) = self.guard.pair(0).map(|admitted| admitted.permit().clone()) else {
            return Ok(());
        };
        if before.beside() != permit.beside()
            && permit.beside().is_some()
            && let Some(verdict) = verdict
        {
            turn.note(Event::Shadowed { pair: pair.clone(), verdict: verdict.into() });
        }
        self.guard.repermit(pair, permit.clone());
        if before.quotas() != permit.quotas() || before.rule() != permit.rule() {
            turn.push(Effect::Admitted(None, permit));
        }
        Ok(())
    }

    /// What the peer has under way to us comes back to its senders, also where it waits for room.
    pub(super) fn take_back(&mut self, pair: &Pair, reason: Reason, turn: &mut Turn<'_>) {
        if !self.guard.is_empty() {
            self.withdraw(pair, reason);
            turn.push(Effect::Withdraw(pair.clone(), reason));
        }
    }

    /// The pair is taken back for this reason.
    pub(super) fn withdraw(&mut self, pair: &Pair, reason: Reason) {
        self.guard.reroute(pair, PairRoute::Withdrawn(reason));
    }

    /// The leg is no more, and the record says why.
    pub(super) fn ended(&mut self, pair: Pair, mut record: Box<Record>, turn: &mut Turn<'_>) {
        if let Some(admitted) = self.guard.remove(&pair) {
            record.admitted(&admitted);
            record.pair = Some(pair);
            turn.note(Event::Ended { record });
        }
    }
}
