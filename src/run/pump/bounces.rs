//! Bounces on their way over couriers: those for which a courier has no room wait, and those of an address that has had many.
//!
//! What was accepted is delivered, comes back, or the stream ends so that its sender knows (CLS-02): a stanza that finds no
//! room goes back, and a bounce that nobody takes is the last one on the stream that caused it. The stream is read on while
//! bounces wait for room: what the courier needs to begin, the question about its key, may come on that very stream.
//!
//! To one address go so many a second, so that the gateway is no reflector (LIM-09). Of whoever causes more each stanza is answered in
//! its turn (DB-70): its stream alone is not read meanwhile. What is late, because others bring as much for it, is counted and told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::cargo::Cargo;
use super::super::courier::{self, Turned};
use super::super::{Later, Tools, now};
use crate::metrics::Limit;
use crate::reason::Reason;
use crate::stream::Pair;

/// The bounces of one relay that wait, while there are any.
#[derive(Default)]
pub(in crate::run) struct Bounces(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// Bounces that have not gone out, oldest first.
    bounces: VecDeque<Bounce>,
    /// Their octets.
    octets: usize,
    /// What the first of them waits for.
    wait: Option<Wait>,
}

/// A bounce, and since when it is due.
struct Bounce {
    pair: Pair,
    stanza: Bytes,
    since: Instant,
}

/// What is waited for.
enum Wait {
    /// The rate of the address that it is for.
    Rate(Later<()>),
    /// Room with the courier.
    Room(Arc<Cargo>, Later<()>),
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
        stanza: Bytes,
    ) -> Result<(), Reason> {
        let bounce = Bounce { pair, stanza, since: now() };
        match self.are_waiting() {
            // It goes behind those that wait already (RLY-05).
            true => self.line_up(tools, bounce),
            false => self.send(tools, bounce),
        }
    }

    fn line_up(&mut self, tools: &Arc<Tools>, bounce: Bounce) -> Result<(), Reason> {
        let (most, slowed) = (tools.relays.limits.queue_octets, self.are_slowed());
        let waiting = self.0.get_or_insert_default();
        let octets = waiting.octets.saturating_add(bounce.stanza.len());
        match octets > most {
            true if slowed => unanswered(tools, &bounce.pair),
            true => return Err(Reason::QueueFull),
            false => {
                waiting.octets = octets;
                waiting.bounces.push_back(bounce);
            }
        }
        Ok(())
    }

    /// This bounce goes before all others, once that is over.
    fn wait(&mut self, bounce: Bounce, wait: Wait) {
        let waiting = self.0.get_or_insert_default();
        waiting.octets = waiting.octets.saturating_add(bounce.stanza.len());
        waiting.bounces.push_front(bounce);
        waiting.wait = Some(wait);
    }

    /// It goes out as soon as it may.
    fn send(&mut self, tools: &Arc<Tools>, bounce: Bounce) -> Result<(), Reason> {
        let (now, metrics) = (now(), tools.observe.metrics());
        let waited = now.saturating_duration_since(bounce.since);
        match tools.peering.couriers.admits_bounce(&bounce.pair, &bounce.stanza) {
            Ok(()) => {
                if !waited.is_zero() {
                    metrics.waited(Limit::Carried, waited);
                }
                return self.hand_over(tools, bounce);
            }
            Err(wait) if waited + wait <= PATIENCE => {
                if waited.is_zero() {
                    metrics.limited(Limit::Carried);
                }
                self.wait(bounce, Wait::Rate(Box::pin(tokio::time::sleep(wait))));
            }
            Err(_late) => {
                metrics.limited(Limit::Carried);
                unanswered(tools, &bounce.pair);
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, tools: &Arc<Tools>, bounce: Bounce) -> Result<(), Reason> {
        let Bounce { pair, stanza, since } = bounce;
        match courier::hand_over(tools, &pair, stanza) {
            Ok(_) => {}
            Err(Turned::Full(stanza, cargo, room)) => {
                self.wait(Bounce { pair, stanza, since }, Wait::Room(cargo, room));
            }
            Err(Turned::None(_)) => {
                unanswered(tools, &pair);
                return Err(Reason::QueueFull);
            }
            Err(Turned::Stopped) => courier::lost(tools, &pair, Reason::Shutdown),
        }
        Ok(())
    }

    /// Whether bounces wait.
    pub(super) fn are_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.wait.is_some())
    }

    /// Whether they wait because more come than may go out: what would bring more is not read.
    pub(super) fn are_slowed(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| matches!(waiting.wait, Some(Wait::Rate(_))))
    }

    /// Sends what may go out now; whether anything might. An error as that of [`Self::carry`].
    pub(super) fn poll(&mut self, tools: &Arc<Tools>, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let Some(waiting) = &mut self.0 else { return Poll::Pending };
        let Some(Wait::Rate(wait) | Wait::Room(_, wait)) = &mut waiting.wait else {
            self.0 = None;
            return Poll::Pending;
        };
        if wait.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let mut outcome = Ok(());
        if let Some(Wait::Room(cargo, _)) = waiting.wait.take()
            && let Some(bounce) = self.next()
        {
            // It is within its rate already.
            if cargo.has_given_up() {
                unanswered(tools, &bounce.pair);
                outcome = Err(Reason::QueueFull);
            } else {
                outcome = self.hand_over(tools, bounce);
            }
        }
        while !self.are_waiting()
            && let Some(bounce) = self.next()
        {
            outcome = outcome.and(self.send(tools, bounce));
        }
        Poll::Ready(outcome)
    }

    fn next(&mut self) -> Option<Bounce> {
        let waiting = self.0.as_mut()?;
        let bounce = waiting.bounces.pop_front()?;
        waiting.octets = waiting.octets.saturating_sub(bounce.stanza.len());
        Some(bounce)
    }

    /// The relay ends with the gateway: what still waits is told as lost.
    pub(super) fn lose(&mut self, tools: &Arc<Tools>) {
        while let Some(bounce) = self.next() {
            courier::lost(tools, &bounce.pair, Reason::Shutdown);
        }
    }
}

/// A bounce of this pair goes nowhere.
fn unanswered(tools: &Tools, pair: &Pair) {
    tools.observe.unanswered(courier::sides(&tools.relays, pair), Reason::QueueFull);
}

/// A bounce that may not go out within this time does not go out.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "bounces_tests.rs"]
mod tests;
