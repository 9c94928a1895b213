//! When a leg is to be looked at although nothing has come, and what is due then.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::Params;
use super::{Leg, Link, Next};
use crate::reason::Reason;

impl Leg {
    /// Whose other side takes nothing for so long has ended, from now on: nobody should wait for it as long as usual.
    pub(in crate::run) fn hurry(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    /// Whether the other side may hear a space now and then (CLS-05: never during negotiation).
    fn keeps_alive(&self) -> bool {
        self.unproven.is_none() && self.is_readable() && self.outbox.is_empty()
    }

    /// When its other side has taken nothing for too long.
    fn stuck_until(&self, params: &Params) -> Option<Instant> {
        let patience = self.patience.map_or(params.stanza, |patience| patience.min(params.stanza));
        self.outbox.stuck().map(|since| since + patience)
    }

    /// When the other side may hear white space: it lacks some, or nothing was said to it for long.
    fn silent_until(&self, params: &Params) -> Option<Instant> {
        let at = || self.outbox.blank_due().unwrap_or(self.spoke + params.keepalive);
        self.keeps_alive().then(at)
    }

    /// When all must be out of a leg that ends.
    fn ends_by(&self) -> Option<Instant> {
        match self.next {
            Next::End(by) => by.filter(|_| matches!(self.link, Link::Open(_))),
            Next::Same | Next::Upgrade => None,
        }
    }

    /// The first time at which something is due.
    pub(in crate::run) fn deadline(&self, params: &Params) -> Option<Instant> {
        let begun = if self.held.is_some() { None } else { self.begun.map(|t| t + params.stanza) };
        let stuck = self.stuck_until(params);
        let shut = self.outbox.shut().map(|s| s.until);
        let linger = match &self.link {
            Link::Lingering { until, .. } => Some(*until),
            _ => None,
        };
        let silent = self.silent_until(params);
        [begun, stuck, shut, linger, self.first, silent, self.ends_by()].into_iter().flatten().min()
    }

    /// What is due now.
    pub(in crate::run) fn due(&mut self, params: &Params, now: Instant) -> Option<Due> {
        if matches!(&self.link, Link::Lingering { until, .. } if *until <= now) {
            self.link = Link::Closed;
            return Some(Due::Closed);
        }
        if self.first.is_some_and(|t| t <= now) {
            self.first = None;
            return Some(Due::Gone(Reason::HeaderTimeout));
        }
        let late = self.ends_by().is_some_and(|t| t <= now);
        if late || self.stuck_until(params).is_some_and(|t| t <= now) {
            return Some(Due::Gone(Reason::WriteTimeout));
        }
        if self.silent_until(params).is_some_and(|t| t <= now) {
            self.spoke = now;
            match self.outbox.blank_due() {
                Some(_) => self.outbox.say_blank(),
                None => self.outbox.say(Bytes::from_static(b" ")),
            }
            return Some(Due::Spoken);
        }
        if self.held.is_none() && self.begun.is_some_and(|t| t + params.stanza <= now) {
            self.begun = None;
            return Some(Due::Stalled);
        }
        None
    }
}

/// What the time has brought.
pub(in crate::run) enum Due {
    /// A lingering connection is closed now.
    Closed,
    /// The connection must end.
    Gone(Reason),
    /// White space is on its way.
    Spoken,
    /// An element was not finished in time.
    Stalled,
}
