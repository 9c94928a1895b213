//! Pairs whose stream is no more, while something that they have brought may still wait to go in.
//!
//! What is on its way goes on as if the stream stood: it is judged again by a new policy (POL-07), and by what is known now of the
//! certificate that proved it. Where newer stanzas of the same peer wait behind it and the backend does not take it, it comes back:
//! nothing overtakes it (RLY-05).

use super::super::Effect;
use super::super::event::Event;
use super::super::turn::Turn;
use crate::filter::{Admitted, PairRoute};
use crate::reason::Reason;
use crate::stream::{Method, Pair};

/// The pairs that have left, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Parted(Vec<Left>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Left {
    admitted: Admitted,
    /// What it brought comes back for this reason.
    back: Option<Reason>,
}

impl Parted {
    /// This one leaves. What was taken back before has nothing on its way.
    pub(super) fn push(&mut self, admitted: Admitted) {
        if !matches!(admitted.route(), PairRoute::Withdrawn(_)) {
            self.0.push(Left { admitted, back: None });
        }
    }

    /// What was known of that pair when it left.
    pub(super) fn find(&self, pair: &Pair) -> Option<&Admitted> {
        self.0.iter().rev().map(|left| &left.admitted).find(|admitted| admitted.pair() == pair)
    }

    /// Why what that pair has brought comes back, if it does.
    pub(super) fn reason(&self, pair: &Pair) -> Option<Reason> {
        self.0.iter().rev().find(|left| left.admitted.pair() == pair).and_then(|left| left.back)
    }

    /// They, and how each was proven.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Pair, Method)> {
        self.0.iter().map(|left| (left.admitted.pair(), left.admitted.method()))
    }

    /// Newer stanzas wait behind what these have brought, and have waited long enough.
    pub(super) fn overtaken(&mut self, turn: &mut Turn<'_>) {
        self.take_back(turn, |_, _| Some(Reason::BackendSlow));
    }

    /// A new policy judges them as it judges those that stand.
    pub(super) fn rejudge(&mut self, turn: &mut Turn<'_>) {
        self.take_back(turn, |admitted, turn| {
            let verdict = turn.policy.judge_again(admitted.permit());
            if verdict.is_allow() {
                return None;
            }
            let reason = verdict.reason.of_standing();
            turn.note(Event::Judged { pair: admitted.pair().clone(), verdict: verdict.into() });
            Some(reason)
        });
    }

    /// CRT-12: these were proven by what is worth nothing any more.
    pub(super) fn distrust(&mut self, lost: &[Pair], reason: Reason, turn: &mut Turn<'_>) {
        self.take_back(turn, |admitted, _| lost.contains(admitted.pair()).then_some(reason));
    }

    /// What these have brought comes back, each for its reason, but for what has begun to go in.
    fn take_back(&mut self, turn: &mut Turn<'_>, why: impl Fn(&Admitted, &mut Turn<'_>) -> Option<Reason>) {
        for left in self.0.iter_mut().filter(|left| left.back.is_none()) {
            let Some(reason) = why(&left.admitted, turn) else { continue };
            left.back = Some(reason);
            turn.push(Effect::Withdraw(left.admitted.pair().clone(), reason));
        }
    }
}
