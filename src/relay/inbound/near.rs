//! What a step of the near leg means for everything that a remote server has here.

use std::time::Duration;

use super::super::event::Event;
use super::super::near::{HasNear, Near, NearOutcome, Renewal};
use super::super::turn::Turn;
use super::super::{Effect, Side};
use super::Inbound;
use crate::reason::Reason;
use crate::stream::receiving::Vouch;
use crate::xml::Frame;

impl HasNear for Inbound {
    fn near_mut(&mut self) -> &mut Near {
        &mut self.near
    }

    fn stanza(&mut self, frame: Frame, turn: &mut Turn<'_>) {
        if self.counting.takes(Some(frame.head()), &self.near, turn)
            && let Err(reason) = self.incoming().pass(frame, turn)
        {
            self.near_fault(reason, turn);
        }
    }

    fn near_close(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        self.counting.last_word(&self.near, turn);
        let outcome = self.near.close(reason, turn);
        self.near_came(outcome, turn);
    }

    fn near_fault(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        self.counting.last_word(&self.near, turn);
        let outcome = self.near.fault(reason, turn);
        self.near_came(outcome, turn);
    }

    fn near_came(&mut self, outcome: Option<NearOutcome>, turn: &mut Turn<'_>) {
        match outcome {
            None => {}
            Some(NearOutcome::Claim(claim)) => self.claim(claim, turn),
            Some(NearOutcome::Counting(word)) => {
                if let Err(reason) = self.counting.heard(word, (&self.near, &self.guard), turn) {
                    self.near_fault(reason, turn);
                }
            }
            Some(NearOutcome::Ended(reason)) => self.wind_down(reason, turn),
            Some(NearOutcome::Rejected(reason)) => {
                let record = self.near.record(None, None, reason);
                turn.note(Event::Rejected { record, after: Duration::ZERO });
                self.refusal(reason, turn);
            }
            Some(NearOutcome::Renewed(renewal)) => {
                self.forget(turn);
                turn.push(match renewal {
                    Renewal::Restart => Effect::Restart(Side::Near),
                    Renewal::Upgrade => Effect::Upgrade(Side::Near),
                });
            }
            Some(NearOutcome::Stanza(frame)) => self.stanza(frame, turn),
            Some(NearOutcome::Unfit(refused)) => {
                if self.counting.takes(None, &self.near, turn)
                    && let Err(reason) = self.incoming().refuse_stanza(&refused, turn)
                {
                    self.near_fault(reason, turn);
                }
            }
            Some(NearOutcome::Vouch(check)) => {
                if let Err(reason) = self.near.vouch(&check, turn) {
                    self.vouched(check, Vouch::Refused(reason), turn);
                }
            }
        }
    }
}
