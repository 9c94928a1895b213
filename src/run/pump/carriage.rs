//! Bounces on their way over couriers: those for which a courier has no room wait.
//!
//! What was accepted is delivered, comes back, or the stream ends so that its sender knows (CLS-02): a stanza that finds no
//! room goes back, and a bounce that nobody takes is the last one on the stream that caused it. The stream is read on while
//! bounces wait: what the courier needs to begin, the question about its key, may come on that very stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::super::Later;
use super::super::cargo::Cargo;
use super::super::courier::{self, Turned};
use super::Pump;
use crate::reason::Reason;
use crate::relay::{Input, Load, Side};
use crate::stream::Pair;

/// Stanzas on their way over couriers.
#[derive(Default)]
pub(super) struct Carriage {
    /// Bounces for which there was no room, oldest first.
    waiting: VecDeque<(Pair, Bytes)>,
    /// Their octets.
    octets: usize,
    /// For room for the first of them.
    wait: Option<(Arc<Cargo>, Later<()>)>,
}

impl Pump {
    /// Has this stanza carried over a stream for this pair.
    pub(in crate::run) fn carry(&mut self, pair: Pair, stanza: Bytes) {
        // Couriers carry on nothing but what goes back to its sender.
        let bounce = self.near.is_none() || courier::flow(&self.tools, &pair) != self.meta.flow;
        if !bounce {
            return self.carry_on(pair, stanza);
        }
        match courier::admits_bounce(&self.tools, &pair, &stanza) {
            // LIM-09: bounces above the rate are dropped, lest the gateway be a reflector.
            false => courier::dropped(&self.tools, &pair, Reason::QueueFull),
            true if self.is_waiting_for_couriers() => self.wait(pair, stanza),
            true => self.hand_over(pair, stanza),
        }
    }

    /// This bounce goes behind those that wait already (RLY-05).
    fn wait(&mut self, pair: Pair, bounce: Bytes) {
        let carriage = self.carriage.get_or_insert_default();
        carriage.octets = carriage.octets.saturating_add(bounce.len());
        carriage.waiting.push_back((pair, bounce));
        if carriage.octets > self.tools.home.limits.queue_octets {
            self.end_of_near();
        }
    }

    fn hand_over(&mut self, pair: Pair, bounce: Bytes) {
        match courier::hand_over(&self.tools, &pair, Load::Carried, bounce) {
            Ok(_) => {}
            Err(Turned::Full(bounce, room, wait)) => {
                let carriage = self.carriage.get_or_insert_default();
                carriage.octets = carriage.octets.saturating_add(bounce.len());
                carriage.waiting.push_front((pair, bounce));
                carriage.wait = Some((room, wait));
            }
            Err(Turned::None(_)) => {
                courier::dropped(&self.tools, &pair, Reason::QueueFull);
                self.end_of_near();
            }
            Err(Turned::Stopped) => courier::lost(&self.tools, &pair, Reason::Shutdown),
        }
    }

    /// Its bounces go nowhere, and more would come.
    fn end_of_near(&mut self) {
        if self.near.is_some() {
            self.step(Side::Near, Input::Close(Reason::QueueFull));
        }
    }

    /// Whether bounces wait for room.
    pub(super) fn is_waiting_for_couriers(&self) -> bool {
        self.carriage.as_ref().is_some_and(|carriage| carriage.wait.is_some())
    }

    /// Hands over what has room now.
    pub(super) fn poll_carriage(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(carriage) = &mut self.carriage else { return false };
        let Some((_, wait)) = &mut carriage.wait else {
            self.carriage = None;
            return false;
        };
        if wait.as_mut().poll(cx) == Poll::Pending {
            return false;
        }
        let gave_up = carriage.wait.take().is_some_and(|(room, _)| room.has_given_up());
        if gave_up && let Some((pair, _)) = self.next_waiting() {
            courier::dropped(&self.tools, &pair, Reason::QueueFull);
            self.end_of_near();
        }
        while !self.is_waiting_for_couriers()
            && let Some((pair, bounce)) = self.next_waiting()
        {
            self.hand_over(pair, bounce);
        }
        true
    }

    fn next_waiting(&mut self) -> Option<(Pair, Bytes)> {
        let carriage = self.carriage.as_mut()?;
        let (pair, bounce) = carriage.waiting.pop_front()?;
        carriage.octets = carriage.octets.saturating_sub(bounce.len());
        Some((pair, bounce))
    }

    /// The relay ends with the gateway: what still waits is told as lost.
    pub(super) fn lose_waiting(&mut self) {
        while let Some((pair, _)) = self.next_waiting() {
            courier::lost(&self.tools, &pair, Reason::Shutdown);
        }
    }
}
