//! When a relay is to be looked at although nothing has come: deadlines of the relay and of its legs. It keeps time and decides nothing.

use std::future::Future as _;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::super::leg::Due;
use super::Pump;
use crate::reason::Facing;
use crate::relay::{Input, Side};

impl Pump {
    /// A login has waited long enough.
    pub(super) fn poll_trying(&mut self, cx: &mut Context<'_>) -> bool {
        let over = self.trying.as_mut().is_some_and(|wait| wait.as_mut().poll(cx).is_ready());
        if over {
            self.trying = None;
            self.step(Side::Near, Input::Tried(Ok(())));
        }
        over
    }

    /// What domains publish about the certificate of the near leg has been looked up.
    pub(super) fn poll_inquiries(&mut self, cx: &mut Context<'_>) -> bool {
        let mut found = Vec::new();
        self.inquiries.retain_mut(|inquiry| match inquiry.as_mut().poll(cx) {
            Poll::Ready(evidence) => {
                found.push(evidence);
                false
            }
            Poll::Pending => true,
        });
        let moved = !found.is_empty();
        for evidence in found {
            self.step(Side::Near, Input::Inquired(evidence));
        }
        moved
    }

    pub(super) fn poll_due(&mut self, now: Instant) -> bool {
        let mut moved = false;
        if let Some(deadline) = self.relay.deadline().filter(|d| *d <= now) {
            if self.expired == Some(deadline) {
                tracing::error!(relay = %self.meta.id, "a relay does not let its deadline pass");
                self.stopped = true;
                return true;
            }
            self.expired = Some(deadline);
            self.step(Side::Near, Input::Expired);
            moved = true;
        }
        let params = self.tools.params;
        if self.fars.due().is_some_and(|due| due <= now) {
            self.fars.rouse();
        }
        let mut next = self.side_after(None);
        while let Some(side) = next {
            next = self.side_after(next);
            let Some(due) = self.leg(side).and_then(|leg| leg.due(&params, now)) else { continue };
            moved = true;
            match due {
                Due::Closed | Due::Spoken => {}
                Due::Gone(reason) => self.gone(side, reason),
                Due::Stalled => self.step(side, Input::Stalled),
            }
        }
        moved
    }

    /// How long that side may take no octets, where that is less than usual: at the end of a stream no longer than its end may take,
    /// but where our own server still has to take what was accepted; and no longer than stanzas of ours may wait that go back.
    pub(super) fn patience(&self, side: Side) -> Option<Duration> {
        let times = &self.tools.home.timeouts;
        let leg = match side {
            Side::Near => self.near.as_ref(),
            Side::Far(id) => self.fars.get(id).map(|far| &far.leg),
        }?;
        let owed = leg.outbox.stanzas() > 0;
        match leg.ending {
            true => (!owed || self.facing(side) == Facing::Public).then_some(times.close),
            false => (owed && side == Side::Near && self.backs.is_some()).then_some(times.queue),
        }
    }

    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant, heard: bool) -> Poll<()> {
        // To ask a relay with many legs costs as much as a stanza does. Too early costs one look.
        if self.stirred || !self.fars.are_many() || self.relay_due.is_none_or(|due| due <= now) {
            (self.relay_due, self.stirred) = (self.relay.deadline(), false);
        }
        let legs = self.near.iter().chain(self.fars.awake().map(|f| &f.leg));
        let params = &self.tools.params;
        let due =
            legs.filter_map(|leg| leg.deadline(params)).chain(self.relay_due).chain(self.fars.due()).min();
        let held = self.held.map(|held| held.until);
        let Some(due) = due.into_iter().chain(held).min() else { return Poll::Pending };
        if due <= now {
            return Poll::Ready(());
        }
        self.due = Some(due);
        // Most deadlines move on a little with each stanza. A timer that rings too early costs one look; to set it anew for
        // each stanza costs more, and the timers of all relays hang on one lock.
        if due < self.rings || due > self.rings + SLACK {
            self.set_timer(due);
        } else if !heard && now < self.rings {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.rings >= due {
                return Poll::Ready(());
            }
            self.set_timer(due);
        }
        Poll::Pending
    }

    fn set_timer(&mut self, at: Instant) {
        self.rings = at;
        self.timer.as_mut().reset(tokio::time::Instant::from_std(at));
    }
}

/// How much later a deadline may be than the timer before it is set anew.
const SLACK: Duration = Duration::from_secs(30);
