//! Relays that ask an authoritative server about one key, and answer once (DB-23 to DB-28).

use std::time::{Duration, Instant};

use super::far::{Far, FarOutcome};
use super::leg::{of_leg, of_servers};
use super::turn::Turn;
use super::{Behalf, Effect, FarId, Input, RelayParams, Side};
use crate::reason::{Cause, Detail, Facing, Flow, Reason};
use crate::stream::fault::Due;
use crate::stream::initiating::Errand;
use crate::stream::management::Manage;
use crate::stream::{KeyAnswer, KeyCheck, Secured};
use crate::xml::Token;

/// One question, and the leg that asks it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Verifier {
    /// The network that the authoritative server is on.
    facing: Facing,
    far: Option<Box<Far>>,
    started: Instant,
    /// Whoever asked has heard the answer, and hears of no other.
    answered: bool,
}

impl Verifier {
    pub(super) fn new(facing: Facing, check: KeyCheck, turn: &mut Turn<'_>) -> Self {
        let (id, errand) = (FarId(1), Errand::Ask(check));
        let far = match facing {
            Facing::Backend => Far::inside(id, errand, None, turn),
            Facing::Public => Far::outside(id, errand, Behalf::Claim, Manage::Off, turn),
        };
        Self { facing, far: Some(far), started: turn.now, answered: false }
    }

    /// Something happened.
    pub(super) fn step(&mut self, side: Side, input: Input, turn: &mut Turn<'_>) {
        let at_leg = matches!(side, Side::Far(id) if self.has(id));
        let input = match input.of_relay() {
            Err(input) if at_leg => return self.far(turn, |far, turn| input.at(far, turn)),
            // Of a leg that is no more.
            Err(_) => return,
            Ok(input) => input,
        };
        match (side, input) {
            (Side::Near, Input::Close(_)) | (_, Input::Drain) => {
                self.answer(KeyAnswer::Trouble(Reason::Shutdown), None, turn);
                self.far(turn, Far::close);
            }
            (Side::Far(_), Input::Close(reason)) => {
                if at_leg {
                    self.far(turn, |far, turn| far.fault(reason, turn));
                }
            }
            (_, Input::Expired) => self.expire(turn),
            // Of legs, and of other relays.
            (
                _,
                of_leg!()
                | of_servers!()
                | Input::RelayParams(_)
                | Input::Overflow(_)
                | Input::Overtaken
                | Input::Policy(_)
                | Input::Alive
                | Input::Queue(..)
                | Input::Refused(..)
                | Input::Tried(_)
                | Input::Withdraw(..)
                | Input::Yield,
            ) => {}
        }
    }

    /// The framer of its leg found this.
    pub(super) fn token(&mut self, side: Side, token: Token, turn: &mut Turn<'_>) {
        if let Side::Far(id) = side
            && self.has(id)
        {
            self.far(turn, |far, turn| far.token(token, turn));
        }
    }

    /// One step of its leg, and what that means for the answer.
    fn far(&mut self, turn: &mut Turn<'_>, step: impl FnOnce(&mut Far, &mut Turn<'_>) -> Option<FarOutcome>) {
        match self.far.as_deref_mut().and_then(|far| step(far, turn)) {
            None => {}
            Some(FarOutcome::Answered(answer)) => {
                self.answer(answer, None, turn);
                self.far(turn, Far::close);
            }
            Some(FarOutcome::Failed(why)) => {
                self.far = None;
                self.answer(KeyAnswer::Trouble(why.reason), why.detail, turn);
            }
            Some(FarOutcome::Closed(..) | FarOutcome::Dropped | FarOutcome::Lost(_)) => self.far = None,
            // Nothing was sent that could be.
            Some(FarOutcome::Acknowledged(_)) => {}
            // Nothing is asked for but an answer.
            Some(FarOutcome::Stands | FarOutcome::Back(_) | FarOutcome::Unfit(_)) => {
                self.far(turn, Far::close);
            }
        }
    }

    fn answer(&mut self, answer: KeyAnswer, detail: Option<Detail>, turn: &mut Turn<'_>) {
        if !std::mem::replace(&mut self.answered, true) {
            turn.push(Effect::Answer(answer, detail.map(Box::new)));
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let far = self.far.as_deref()?;
        let patience = (!self.answered).then(|| self.started + patience(relays));
        far.deadline().into_iter().chain(patience).min()
    }

    fn expire(&mut self, turn: &mut Turn<'_>) {
        self.far(turn, Far::expire);
        if self.started + patience(turn.relays) <= turn.now && !self.answered {
            let due = self.far.as_deref().map_or(Due::Nothing, Far::due);
            let detail = Detail::new(Cause::TimedOut, due.words());
            self.answer(KeyAnswer::Trouble(Reason::DialbackTimeout), Some(detail), turn);
            self.far(turn, Far::close);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.far.is_none()
    }

    pub(super) fn has(&self, id: FarId) -> bool {
        self.far.as_ref().is_some_and(|far| far.id() == id)
    }

    pub(super) fn flow(&self) -> Flow {
        match self.facing {
            Facing::Backend => Flow::S2sIn,
            Facing::Public => Flow::S2sOut,
        }
    }

    pub(super) fn channel(&self) -> Option<&Secured> {
        self.far.as_ref().and_then(|far| far.secured())
    }
}

/// How long after the claim the answer comes at the latest: a little before whoever asked gives up, who else would not hear who
/// was called, and how far that came.
fn patience(relays: &RelayParams) -> Duration {
    relays.timeouts.dialback / 20 * 19
}
