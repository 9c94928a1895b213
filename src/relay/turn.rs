//! One step under way: what holds while it lasts, and the list of what is to be done.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::event::{DialbackOutcome, Event, Role, Said};
use super::plan::RelayParams;
use super::{Effect, Side};
use crate::policy::Policy;
use crate::reason::{Facing, StreamCondition};

/// One step under way.
pub(super) struct Turn<'a> {
    pub(super) relays: &'a RelayParams,
    pub(super) policy: &'a Policy,
    pub(super) now: Instant,
    out: &'a mut Vec<Effect>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        relays: &'a RelayParams,
        policy: &'a Policy,
        now: Instant,
        out: &'a mut Vec<Effect>,
    ) -> Self {
        Self { relays, policy, now, out }
    }

    /// This is to be done, behind what is there already.
    pub(super) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    /// Octets of ours go out on that leg.
    pub(super) fn send(&mut self, side: Side, octets: Bytes) {
        self.push(Effect::Send(side, octets));
    }

    /// This happened.
    pub(super) fn note(&mut self, event: Event) {
        self.push(Effect::Note(event));
    }

    /// We have sent a stream error, if the reason has a condition.
    pub(super) fn sent_error(&mut self, facing: Facing, condition: Option<StreamCondition>) {
        if condition.is_some() {
            self.note(Event::StreamError { facing, said: Said::Sent, condition });
        }
    }

    /// The other side has sent a stream error of that name.
    pub(super) fn heard_error(&mut self, facing: Facing, name: &str) {
        let condition = StreamCondition::parse(name);
        self.note(Event::StreamError { facing, said: Said::Received, condition });
    }

    /// A dialback operation of ours came out so, after this time.
    pub(super) fn dialback(&mut self, role: Role, facing: Facing, outcome: DialbackOutcome, after: Duration) {
        self.note(Event::Dialback { role, facing, outcome, after });
    }

    /// How long ago that was.
    pub(super) fn since(&self, began: Instant) -> Duration {
        self.now.saturating_duration_since(began)
    }
}
