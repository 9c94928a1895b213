//! Bounces on their way over couriers: those for which a courier has no room wait.
//!
//! What was accepted is delivered, comes back, or the stream ends so that its sender knows (CLS-02): a stanza that finds no
//! room goes back, and a bounce that nobody takes is the last one on the stream that caused it. The stream is read on while
//! bounces wait: what the courier needs to begin, the question about its key, may come on that very stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::super::cargo::Cargo;
use super::super::courier::{self, Turned};
use super::super::{Later, Tools};
use crate::reason::Reason;
use crate::stream::Pair;

/// The bounces of one relay that wait, while there are any.
#[derive(Default)]
pub(in crate::run) struct Bounces(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// Bounces for which there was no room, oldest first.
    bounces: VecDeque<(Pair, Bytes)>,
    /// Their octets.
    octets: usize,
    /// For room for the first of them.
    room: Option<(Arc<Cargo>, Later<()>)>,
}

impl Bounces {
    /// Has this bounce carried over a stream for its pair.
    ///
    /// # Errors
    /// Bounces of this stream go nowhere, and more would come: it must end, for this reason.
    pub(in crate::run) fn carry(
        &mut self,
        tools: &Arc<Tools>,
        pair: Pair,
        bounce: Bytes,
    ) -> Result<(), Reason> {
        match courier::admits_bounce(tools, &pair, &bounce) {
            // LIM-09: bounces above the rate are dropped, lest the gateway be a reflector.
            false => {
                courier::dropped(tools, &pair, Reason::QueueFull);
                Ok(())
            }
            true if self.are_waiting() => self.wait(tools.home.limits.queue_octets, pair, bounce),
            true => self.hand_over(tools, pair, bounce),
        }
    }

    /// This bounce goes behind those that wait already (RLY-05).
    fn wait(&mut self, most: usize, pair: Pair, bounce: Bytes) -> Result<(), Reason> {
        let waiting = self.0.get_or_insert_default();
        waiting.octets = waiting.octets.saturating_add(bounce.len());
        waiting.bounces.push_back((pair, bounce));
        if waiting.octets > most { Err(Reason::QueueFull) } else { Ok(()) }
    }

    fn hand_over(&mut self, tools: &Arc<Tools>, pair: Pair, bounce: Bytes) -> Result<(), Reason> {
        match courier::hand_over(tools, &pair, bounce) {
            Ok(_) => {}
            Err(Turned::Full(bounce, cargo, room)) => {
                let waiting = self.0.get_or_insert_default();
                waiting.octets = waiting.octets.saturating_add(bounce.len());
                waiting.bounces.push_front((pair, bounce));
                waiting.room = Some((cargo, room));
            }
            Err(Turned::None(_)) => {
                courier::dropped(tools, &pair, Reason::QueueFull);
                return Err(Reason::QueueFull);
            }
            Err(Turned::Stopped) => courier::lost(tools, &pair, Reason::Shutdown),
        }
        Ok(())
    }

    /// Whether bounces wait for room.
    pub(super) fn are_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.room.is_some())
    }

    /// Hands over what has room now; whether there was any. An error as that of [`Self::carry`].
    pub(super) fn poll(&mut self, tools: &Arc<Tools>, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let Some(waiting) = &mut self.0 else { return Poll::Pending };
        let Some((_, room)) = &mut waiting.room else {
            self.0 = None;
            return Poll::Pending;
        };
        if room.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let mut outcome = Ok(());
        let gave_up = waiting.room.take().is_some_and(|(cargo, _)| cargo.has_given_up());
        if gave_up && let Some((pair, _)) = self.next() {
            courier::dropped(tools, &pair, Reason::QueueFull);
            outcome = Err(Reason::QueueFull);
        }
        while !self.are_waiting()
            && let Some((pair, bounce)) = self.next()
        {
            outcome = outcome.and(self.hand_over(tools, pair, bounce));
        }
        Poll::Ready(outcome)
    }

    fn next(&mut self) -> Option<(Pair, Bytes)> {
        let waiting = self.0.as_mut()?;
        let (pair, bounce) = waiting.bounces.pop_front()?;
        waiting.octets = waiting.octets.saturating_sub(bounce.len());
        Some((pair, bounce))
    }

    /// The relay ends with the gateway: what still waits is told as lost.
    pub(super) fn lose(&mut self, tools: &Arc<Tools>) {
        while let Some((pair, _)) = self.next() {
            courier::lost(tools, &pair, Reason::Shutdown);
        }
    }
}
