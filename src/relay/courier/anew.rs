//! An attempt that hangs while the domain shows that it is there (CLS-07): another one takes its place.
//!
//! A server that comes back knows nothing of a connection that it had before, and does not even say so, for nothing is asked of it:
//! an attempt that was made while it was away would wait for its deadline. As soon as the domain has proven a stream of its own, a
//! leg of which nothing has been heard for a moment is given up for a new one. What waits goes over that: nothing has gone out on a
//! leg that does not stand. An attempt of which something is heard afterwards is none that hangs. The moment grows with the time
//! that nothing has come to stand, or a domain that comes and goes would keep every attempt from its end.

use std::time::Instant;

use super::super::RelayParams;

/// What is known of the attempt under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Anew {
    /// The domain has shown itself, and nothing was heard of the attempt since.
    alive: bool,
    /// When something was heard of it last.
    heard: Instant,
    /// When it was begun.
    begun: Instant,
    /// When the first of those was begun whose places others took.
    first: Instant,
}

impl Anew {
    /// An attempt begins.
    pub(super) fn new(now: Instant) -> Self {
        Self { alive: false, heard: now, begun: now, first: now }
    }

    /// Something was heard of it.
    pub(super) fn hears(&mut self, now: Instant) {
        (self.alive, self.heard) = (false, now);
    }

    /// The domain has shown itself.
    pub(super) fn lives(&mut self) {
        self.alive = true;
    }

    /// It takes the place of that one, which hung.
    pub(super) fn follows(&mut self, before: Self) {
        self.first = before.first;
    }

    /// When another takes its place: a moment after the last that was heard of it, where the domain is there.
    pub(super) fn due(&self, relays: &RelayParams) -> Option<Instant> {
        let longer = self.begun.saturating_duration_since(self.first) / 4;
        self.alive.then(|| self.heard + relays.timeouts.header / MOMENT + longer)
    }
}

/// This part of T-header is the moment.
const MOMENT: u32 = 10;
