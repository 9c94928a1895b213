//! What a leg brings: octets into its framer, tokens out of it, each to the relay as long as what comes of it has room to go.

use std::task::{Context, Poll};
use std::time::Instant;

use super::super::leg::Leg;
use super::Pump;
use crate::reason::{Flow, Reason};
use crate::relay::{Effect, Event, Input, Side};

impl Pump {
    /// Reads all that has come, within reason, before any of it is sent on: it goes out in one write.
    pub(super) fn poll_in(&mut self, side: Side, cx: &mut Context<'_>, now: Instant) -> bool {
        // Not all that one read has brought at once: the far legs must have their turn before a queue counts as full. What
        // is left in the framer then is taken before more is read.
        let mut tokens = TOKENS;
        let mut moved = self.take_tokens(side, now, &mut tokens);
        for _ in 0..READS {
            let reads = self.wants(side);
            let over = tokens == 0 || *self.budget(side) == 0;
            let Some(leg) = self.leg(side) else { return moved };
            leg.reading(reads, now);
            if !reads || over {
                return moved;
            }
            match leg.poll_in(cx) {
                Poll::Pending => {
                    leg.look(now);
                    return moved;
                }
                Poll::Ready(Ok(0)) => {
                    self.gone(side, Reason::ConnectionLost);
                    return true;
                }
                Poll::Ready(Ok(octets)) => {
                    moved = true;
                    let budget = self.budget(side);
                    *budget = budget.saturating_sub(octets);
                    self.take_tokens(side, now, &mut tokens);
                    let most = self.tools.params.unproven_octets;
                    if self.leg(side).is_some_and(|leg| leg.is_readable() && leg.is_excessive(most)) {
                        self.step(side, Input::Close(Reason::StanzaTooBig));
                    }
                }
                Poll::Ready(Err(reason)) => {
                    self.gone(side, reason);
                    return true;
                }
            }
        }
        moved
    }

    fn take_tokens(&mut self, side: Side, now: Instant, left: &mut usize) -> bool {
        let before = *left;
        while *left > 0 && *self.budget(side) > 0 {
            if side == Side::Near || self.near.is_none() {
                self.hold(now);
            }
            if !self.wants(side) {
                break;
            }
            let token = self.leg(side).and_then(|leg| leg.next(now));
            if side == Side::Near {
                self.charge_skipped(&token, now);
            }
            let Some(token) = token else { break };
            *left -= 1;
            let budget = self.budget(side);
            *budget = budget.saturating_sub(TOKEN);
            self.overhear(side, &token);
            let mut effects = std::mem::take(&mut self.spare);
            self.relay.token(side, token, self.now, &mut effects);
            self.stirred |= effects.is_empty() || !effects.iter().all(is_of_passing);
            self.carry_out(&mut effects);
            self.spare = effects;
        }
        *left < before
    }

    /// What is left for a leg on this side: neither side uses up what is the other's.
    fn budget(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Near => &mut self.budget.0,
            Side::Far(_) => &mut self.budget.1,
        }
    }

    /// Whether what this leg brings has room to go.
    pub(super) fn wants(&self, side: Side) -> bool {
        let leg = match side {
            Side::Near => self.near.as_ref(),
            Side::Far(id) => self.fars.get(id).map(|f| &f.leg),
        };
        let Some(leg) = leg else { return false };
        if !leg.is_readable() || self.is_clogged(leg) || !self.relay.wants_read(side) {
            return false;
        }
        match side {
            Side::Near if self.held.is_some() || self.stalled.is_some() => false,
            Side::Near if self.settling.as_ref().is_some_and(|settling| settling.waits()) => false,
            Side::Near => match self.fars.values().next() {
                Some(far) if self.fars.len() == 1 => !far.leg.is_full() && far.leg.outbox.shut().is_none(),
                // LIM-03: a peer is slowed, whatever it has on the stream.
                _ => self.fars.awake().all(|far| far.leg.outbox.shut().is_none()),
            },
            Side::Far(_) => match &self.near {
                Some(near) => !self.is_clogged(near),
                // What comes back over a courier's leg has its rates, and waits for room, where it is read.
                None => self.held.is_none() && self.stalled.is_none(),
            },
        }
    }
}

impl Pump {
    /// Whether so much waits to go out there that nothing should be read of which more may come. Between servers no stanza goes back
    /// over the leg that brought it: two of them that wait for each other to read would wait for ever.
    fn is_clogged(&self, leg: &Leg) -> bool {
        match self.meta.flow {
            Flow::C2s => leg.is_full(),
            Flow::S2sIn | Flow::S2sOut => leg.is_choked(),
        }
    }
}

/// What comes of a stanza that passes: it puts off what the relay waits for, and nothing else.
fn is_of_passing(effect: &Effect) -> bool {
    matches!(effect, Effect::Pass(..) | Effect::Note(Event::Passed { .. }))
}

/// Reads of one leg before the others have their turn.
const READS: usize = 4;

/// Tokens that one leg brings at once.
const TOKENS: usize = 128;

/// What a token costs as octets do: a small stanza is work, too.
pub(super) const TOKEN: usize = 256;
