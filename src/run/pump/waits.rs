//! What one relay waits for besides octets and orders: its turn to try a login, what domains publish about a certificate, a client's
//! turn to leave; and who waits for it, if it is a verifier's.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::super::registry::Learnt;
use super::super::{Later, now, part};
use crate::relay::Input;
use crate::stream::evidence::Evidence;

/// What one relay waits for.
#[derive(Default)]
pub(in crate::run) struct Waits {
    /// A login that waits before it may be tried.
    trying: Option<Pin<Box<Sleep>>>,
    /// What domains publish about the certificate of the near leg, while it is looked up.
    inquiries: Vec<Later<Evidence>>,
    /// A client's turn to leave, while the gateway drains.
    leaving: Option<Pin<Box<Sleep>>>,
    /// Who waits for the verifier's answer.
    answer: Option<oneshot::Sender<Learnt>>,
}

impl Waits {
    /// A login may be tried after this time.
    pub(in crate::run) fn try_after(&mut self, wait: Duration) {
        self.trying = Some(Box::pin(tokio::time::sleep(wait)));
    }

    /// This is looked up.
    pub(in crate::run) fn inquire(&mut self, inquiry: Later<Evidence>) {
        self.inquiries.push(inquiry);
    }

    /// CLS-08: the gateway drains until then. Clients leave one after the other, over the first part of the time, so that they do not
    /// all come back to its neighbour in one instant.
    pub(super) fn leave_by(&mut self, until: Instant) {
        if self.leaving.is_none() {
            let share = until.saturating_duration_since(now()) / SHARE;
            self.leaving = Some(Box::pin(tokio::time::sleep(part(share))));
        }
    }

    /// The verifier's answer goes there.
    pub(in crate::run) fn owe(&mut self, answer: oneshot::Sender<Learnt>) {
        self.answer = Some(answer);
    }

    /// That is the verifier's answer.
    pub(in crate::run) fn answer(&mut self, learnt: Learnt) {
        // Whoever asked may have gone.
        let _unheard = self.answer.take().map(|tx| tx.send(learnt));
    }

    /// Whether something is looked up: what was just begun wakes nobody before it was looked at.
    pub(super) fn are_inquiring(&self) -> bool {
        !self.inquiries.is_empty()
    }

    /// The next thing of these that has come, for the near side.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Input> {
        if over(&mut self.trying, cx) {
            return Some(Input::Tried(Ok(())));
        }
        for (at, inquiry) in self.inquiries.iter_mut().enumerate() {
            if let Poll::Ready(evidence) = inquiry.as_mut().poll(cx) {
                drop(self.inquiries.remove(at));
                return Some(Input::Inquired(evidence));
            }
        }
        over(&mut self.leaving, cx).then_some(Input::Drain)
    }
}

/// Whether this has just been waited for long enough.
fn over(wait: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    wait.take_if(|wait| wait.as_mut().poll(cx).is_ready()).is_some()
}

/// Clients leave within this part of a drain; at its last third, what cannot be delivered goes back.
const SHARE: u32 = 3;
