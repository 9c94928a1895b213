//! The arms of the loop: orders and news, the time, what each leg brings and takes, and what goes to and comes from couriers.
//!
//! Each moves what can be moved and says whether something moved. What the parts of the pump find is told to the relay here.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::courier_lanes::Way;
use super::{Pump, back, charges};
use crate::policy::Policy;
use crate::reason::{Detail, Flow, Reason};
use crate::relay::{ClaimId, Effect, Event, Input, RelayParams, RelaySnapshot, Side, Under};
use crate::run::event_context::overhear;
use crate::run::leg::{Due, Found, Leg};
use crate::run::registry::{INBOX, News, Order, Phase, View};
use crate::stream::{KeyAnswer, Pair};
use crate::tls::TrustStore;
use crate::xml::Token;

impl Pump {
    pub(super) fn hear_orders(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        // At most one inbox full, so that a busy courier still writes.
        for _ in 0..INBOX {
            let Some(order) = self.mail.order(cx) else { break };
            moved = true;
            match order {
                Order::Verified(claim, answer, met) => self.verified(claim, answer, met),
                Order::Report(report) => {
                    let (pair, stanza) = *report;
                    self.step(Side::Near, Input::Report(pair, stanza));
                }
                // Whoever is still to call will find it there. Begun anew, he would stand at the end of the line once more.
                Order::Alive if self.legs.fars.values().any(|far| far.leg.is_ahead_of_call()) => {}
                Order::Alive => self.step(Side::Near, Input::Alive),
                Order::Yield => self.step(Side::Near, Input::Yield),
                Order::GiveWay(id) => self.step(Side::Far(id), Input::Yield),
                Order::Supersede => self.gone(Side::Near, Reason::ConnectionLost),
                Order::GoneOn(taken) => self.step(Side::Near, Input::GoneOn(taken)),
                Order::Forsaken => self.step(Side::Near, Input::Forsaken),
                Order::Overtaken => self.give_back_overtaken(),
                Order::Close(reason) => self.step(Side::Near, Input::Close(reason)),
                Order::Describe(under, trust, tx) => {
                    let snapshot = self.snapshot(under.as_deref(), trust.as_deref());
                    // Whoever asked may have lost patience.
                    let _sent = tx.send(View { meta: self.meta, since: self.life.since(), snapshot });
                }
            }
        }
        moved
    }

    /// The verifier has come back: what it met explains what follows from its answer.
    fn verified(&mut self, claim: ClaimId, answer: KeyAnswer, met: Option<Box<Detail>>) {
        if met.is_some() {
            self.memory.get_or_insert_default().meets(met);
        }
        self.step(Side::Near, Input::Verified(claim, answer));
        if let Some(memory) = &mut self.memory {
            memory.meets(None);
        }
    }

    pub(super) fn hear_news(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(News { policy, phase, tools, trust }) = self.mail.news(cx) else { return false };
        if let Some(trust) = trust.filter(|trust| self.mail.is_new(trust)) {
            self.retrust(&trust);
        }
        // What is new holds for what is done from now on; what was begun with the old goes on.
        if let Some(tools) = tools.and_then(|tools| tools.upgrade())
            && !Arc::ptr_eq(&self.tools, &tools)
        {
            self.give_back_departed(&tools.relays, cx);
            self.tools = tools;
            self.step(Side::Near, Input::RelayParams(Arc::clone(&self.tools.relays)));
        }
        // POL-07: what couriers hold of a remote server knows of itself whose it is, and not from where it has come.
        let bans = Arc::clone(&policy);
        self.step(Side::Near, Input::Policy(policy));
        let banned =
            self.courier_lanes.cargo().is_some_and(|held| held.is_from(|ip| bans.bans().holds_address(ip)));
        if banned && let Some(pair) = self.relay.carries().cloned() {
            self.step(Side::Near, Input::Withdraw(pair, Reason::Banned));
        }
        match phase {
            Phase::Starting | Phase::Running => {}
            // CLS-08: clients have their turns; all others, and who has not logged in yet, leave at once.
            Phase::Draining(until) if self.meta.flow == Flow::C2s && self.relay.is_bound() => {
                self.waits.leave_by(until);
            }
            Phase::Draining(_) => self.step(Side::Near, Input::Drain),
            Phase::Closing(_) => {
                self.step(Side::Near, Input::Drain);
                if !self.mail.is_late() {
                    self.give_back(false);
                }
            }
            Phase::Stopped => {
                // The end is told, and so is every stanza that went nowhere.
                self.give_back(true);
                self.gone(Side::Near, Reason::Shutdown);
                self.wakes.stop();
            }
        }
        true
    }

    /// What the servers behind have sent in names that the next params do not know comes back to them by these, as long as it is
    /// known where that is: nothing that was taken is lost in silence.
    fn give_back_departed(&mut self, next: &RelayParams, cx: &mut Context<'_>) {
        let relays = Arc::clone(&self.tools.relays);
        let departs = |pair: &Pair| relays.hosts(&pair.sender) && !next.hosts(&pair.sender);
        if let Some(pair) = self.relay.carries().filter(|pair| departs(pair)).cloned() {
            self.step(Side::Near, Input::Withdraw(pair, Reason::NotConfigured));
            while self.take_cargo(cx) {}
        }
        if let Some(stanza) = self.courier_lanes.take_stalled(departs) {
            self.step(Side::Near, Input::Refused(stanza, Reason::NotConfigured));
        }
    }

    /// CRT-12: what was shown at the handshake is judged again by what is known now.
    fn retrust(&mut self, trust: &TrustStore) {
        for side in self.legs.sides() {
            let again = self.relay.certificate(side).and_then(|shown| trust.describe_again(shown));
            if let Some(certificate) = again {
                self.step(side, Input::Retrusted(certificate));
            }
        }
    }

    /// What it is, and what it would be under this policy, with certificates judged by that.
    fn snapshot(&self, policy: Option<&Policy>, trust: Option<&TrustStore>) -> RelaySnapshot {
        let again = |trust: &TrustStore| -> Vec<_> {
            let sides = self.legs.sides().into_iter();
            let shown = sides.filter_map(|side| Some((side, self.relay.certificate(side)?)));
            shown.filter_map(|(side, shown)| Some((side, trust.describe_again(shown)?))).collect()
        };
        let again = trust.map(again).unwrap_or_default();
        self.relay.snapshot_under(&Under { policy, again: &again })
    }

    /// What has not gone out by now goes back to its sender; at the very end, where nobody carries it any more, it is
    /// told as lost, stanza by stanza (CLS-02).
    fn give_back(&mut self, end: bool) {
        self.step(Side::Near, Input::Drain);
        self.step(Side::Near, Input::Close(Reason::Shutdown));
        for side in self.legs.sides().into_iter().filter(|side| *side != Side::Near) {
            if end || self.legs.get(side).is_some_and(|leg| leg.outbox.stanzas() > 0) {
                self.gone(side, Reason::Shutdown);
            }
            if end {
                // A courier's queue waits for a leg that never came to stand.
                self.step(side, Input::Unreachable(Reason::Shutdown.into()));
            }
        }
    }

    /// Newer stanzas of the same peer wait for what is here: that comes back, with what has begun to go in and is not whole.
    fn give_back_overtaken(&mut self) {
        // Only who has no near leg any more is told so.
        if !self.legs.near.as_ref().is_none_or(Leg::is_closed) {
            return;
        }
        self.step(Side::Near, Input::Overtaken);
        for side in self.legs.sides() {
            if self.legs.get(side).is_some_and(|leg| leg.outbox.stanzas() > 0) {
                self.cut(side);
            }
        }
    }

    pub(super) fn pass_deadlines(&mut self, now: Instant) -> bool {
        let mut moved = false;
        if let Some(deadline) = self.relay.deadline().filter(|deadline| *deadline <= now) {
            moved = true;
            if self.wakes.repeats(deadline) {
                tracing::error!(relay = %self.meta.id, "a relay does not let its deadline pass");
                self.wakes.stop();
                return moved;
            }
            self.step(Side::Near, Input::Expired);
        }
        let params = self.tools.params;
        if self.legs.fars.due().is_some_and(|due| due <= now) {
            self.legs.fars.rouse();
        }
        let mut next = self.legs.after(None);
        while let Some(side) = next {
            next = self.legs.after(next);
            let Some(due) = self.legs.get_mut(side).and_then(|leg| leg.due(&params, now)) else { continue };
            moved = true;
            match due {
                Due::Closed | Due::Spoken => {}
                Due::Gone(reason) => self.gone(side, reason),
                Due::Stalled => self.step(side, Input::Stalled),
            }
        }
        moved
    }

    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant, heard: bool) -> Poll<()> {
        let many = self.legs.fars.are_many();
        let relay = self.wakes.relay_due(many, now, || self.relay.deadline());
        let legs = self.legs.deadline(&self.tools.params);
        let due = [relay, legs, self.charges.held_until()].into_iter().flatten().min();
        self.wakes.poll(due, cx, now, heard)
    }

    pub(super) fn end_waits(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(input) = self.waits.poll(cx) {
            self.step(Side::Near, input);
            moved = true;
        }
        moved
    }

    pub(super) fn poll_bounces(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(outcome) = self.courier_lanes.bounces.poll(&self.tools, cx) else { return false };
        self.bounced(outcome);
        true
    }

    pub(super) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let stalled = self.courier_lanes.poll_stalled(cx);
        let moved = stalled.is_some();
        match stalled {
            Some((Way::Lane(id), stanza)) => self.hand(id, stanza),
            Some((Way::Pair(pair), stanza)) => self.carry_on(pair, stanza),
            None => {}
        }
        moved
    }

    pub(super) fn take_cargo(&mut self, cx: &mut Context<'_>) -> bool {
        let taken = self.courier_lanes.take(&self.legs.fars, cx);
        let moved = !taken.is_empty();
        for (load, stanza) in taken {
            self.step(Side::Near, Input::Queue(load, stanza));
        }
        moved
    }

    pub(super) fn poll_settling(&mut self, cx: &mut Context<'_>) -> bool {
        let within = self.tools.relays.timeouts.acknowledgement / 4 * 3;
        let mut moved = false;
        while let Poll::Ready(input) =
            self.settling.poll(&self.legs.fars, self.courier_lanes.is_stalled(), within, cx)
        {
            moved = true;
            input.into_iter().for_each(|input| self.step(Side::Near, input));
        }
        moved
    }

    pub(super) fn poll_backs(&mut self, cx: &mut Context<'_>) -> bool {
        if self.backs.is_empty() {
            return false;
        }
        if self.relay.holds_back() && self.legs.near.as_ref().is_none_or(Leg::is_closed) {
            self.places.give_up();
        }
        let moved = self.take_back(cx);
        // What is counted goes one by one: each changes how much room there is.
        for _ in 1..back::BATCH {
            if !moved || self.relay.room_back() != Some(true) || !self.take_back(cx) {
                break;
            }
        }
        moved
    }

    fn take_back(&mut self, cx: &mut Context<'_>) -> bool {
        let (room, holds) = (self.relay.room_back(), self.relay.holds_back());
        let taken = self.backs.take(self.legs.near.as_ref(), room, holds, self.turn.now, cx);
        let moved = !taken.stanzas.is_empty() || !taken.over.is_empty();
        for (pair, stanza) in taken.stanzas {
            self.step(Side::Near, Input::Back(pair, stanza));
        }
        for pair in taken.over {
            self.backs.release(&self.tools, self.meta.id, &pair);
        }
        moved
    }

    /// Tells what an unproven peer holds; who holds more than there is room for is turned away (LIM-02), and who has lost the place to
    /// a newcomer (LIM-06).
    pub(super) fn weigh(&mut self, cx: &mut Context<'_>) -> bool {
        let Err(reason) = self.places.hold(|| self.legs.held(), cx) else { return false };
        self.tools.observe.turned_away(self.meta.peer, reason);
        self.step(Side::Near, Input::Close(reason));
        self.leave_at_once(reason, cx);
        true
    }

    /// Somebody else has its place already: it hears why if it takes that at once, and nothing is waited for.
    fn leave_at_once(&mut self, reason: Reason, cx: &mut Context<'_>) {
        self.poll_out(Side::Near, cx, self.turn.now);
        for side in self.legs.sides() {
            self.gone(side, reason);
        }
    }

    pub(super) fn poll_side(&mut self, side: Side, cx: &mut Context<'_>, now: Instant) -> bool {
        let bell = match side {
            Side::Near => None,
            Side::Far(id) => self.legs.fars.bell(id, cx.waker()),
        };
        #[cfg(test)]
        super::tests::looked_at(side);
        match bell {
            None => self.poll_leg(side, cx, now),
            Some(bell) => self.poll_leg(side, &mut Context::from_waker(&bell), now),
        }
    }

    fn poll_leg(&mut self, side: Side, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        if let Some(found) = self.legs.get_mut(side).and_then(|leg| leg.poll_link(cx)) {
            self.found(side, found);
            moved = true;
        }
        match side {
            Side::Near => {
                moved |= self.poll_out(side, cx, now);
                moved |= self.poll_in(side, cx, now);
            }
            // Read first: what is written to a server that has closed already is lost in silence (CLS-02).
            Side::Far(id) => {
                moved |= self.poll_in(side, cx, now);
                let waits = self.legs.fars.get_mut(id).is_some_and(|far| far.is_behind(cx));
                moved |= !waits && self.poll_out(side, cx, now);
            }
        }
        moved
    }

    fn found(&mut self, side: Side, found: Found) {
        match found {
            Found::Connected(route, outcome) => {
                if let Side::Far(id) = side
                    && let Some(far) = self.legs.fars.get_mut(id)
                {
                    far.route = Some(route);
                }
                self.step(
                    side,
                    outcome.map_or_else(Input::Unreachable, |(address, secured)| {
                        Input::Connected(address, secured)
                    }),
                );
            }
            Found::Secured(secured) => self.step(side, Input::Secured(secured)),
            Found::Failed(reason) => self.gone(side, reason),
        }
    }

    pub(super) fn poll_out(&mut self, side: Side, cx: &mut Context<'_>, now: Instant) -> bool {
        // Whoever has a stanza finds it counted.
        self.count_passed();
        let (flow, times) = (self.meta.flow, &self.tools.relays.timeouts);
        let hurry = self.legs.patience(flow, side, !self.backs.is_empty(), times);
        let (stanza, close) = (self.tools.params.stanza, times.close);
        let Some(leg) = self.legs.get_mut(side) else { return false };
        leg.hurry(hurry);
        let mut moved = match leg.poll_out(cx, now, stanza, close) {
            Err(reason) => {
                self.gone(side, reason);
                return true;
            }
            Ok(sent) => {
                let metrics = self.tools.observe.metrics();
                if let Some(rated) = sent.shut {
                    metrics.limited(charges::limit(rated));
                }
                if let Some((rated, time)) = sent.waited {
                    metrics.waited(charges::limit(rated), time);
                }
                sent.moved
            }
        };
        match self.legs.secure(side, &*self.tools.transport, &self.meta) {
            Ok(begun) => moved |= begun,
            Err(reason) => {
                self.gone(side, reason);
                moved = true;
            }
        }
        moved
    }

    /// Reads all that has come, within reason, before any of it is sent on: it goes out in one write.
    fn poll_in(&mut self, side: Side, cx: &mut Context<'_>, now: Instant) -> bool {
        // Not all that one read has brought at once: the far legs must have their turn before a queue counts as full. What
        // is left in the framer then is taken before more is read.
        let mut tokens = self.most_tokens(side);
        let mut moved = self.take_tokens(side, now, &mut tokens);
        for _ in 0..READS {
            let reads = self.wants(side);
            let over = tokens == 0 || *self.turn.budget(side) == 0;
            let Some(leg) = self.legs.get_mut(side) else { return moved };
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
                    leg.breaks();
                    self.gone(side, Reason::ConnectionLost);
                    return true;
                }
                Poll::Ready(Ok(octets)) => {
                    moved = true;
                    self.turn.spend(side, octets);
                    self.take_tokens(side, now, &mut tokens);
                    let most = self.tools.params.unproven_octets;
                    if self.legs.get_mut(side).is_some_and(|leg| leg.is_readable() && leg.is_excessive(most))
                    {
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
        while *left > 0 && *self.turn.budget(side) > 0 {
            if side == Side::Near || self.legs.near.is_none() {
                let metrics = self.tools.observe.metrics();
                self.charges.hold(self.meta.flow, &self.legs.fars, metrics, now);
            }
            if !self.wants(side) {
                break;
            }
            let token = self.legs.get_mut(side).and_then(|leg| leg.next(now));
            if side == Side::Near {
                self.charge_skipped(token.as_ref(), now);
            }
            let Some(token) = token else { break };
            *left -= 1;
            self.turn.spend(side, TOKEN);
            overhear(&mut self.legs, side, &token, self.tools.observe.metrics());
            let mut effects = self.turn.spare();
            self.relay.token(side, token, self.turn.now, &mut effects);
            if effects.is_empty() || !effects.iter().all(is_of_passing) {
                self.wakes.stir();
            }
            self.carry_out(&mut effects);
            self.turn.keep(effects);
        }
        *left < before
    }

    /// XML-17: refused stanzas are paid for as they come, so that none fills the line for nothing; each counts as one.
    fn charge_skipped(&mut self, token: Option<&Token>, now: Instant) {
        let octets = self.legs.near.as_mut().map_or(0, |leg| leg.framer.take_skipped());
        if octets > 0 {
            let stanzas = u64::from(matches!(token, Some(Token::Refused(_))));
            self.charges.skipped(stanzas, octets, self.meta.flow, &self.legs.fars, now);
        }
    }

    /// Whether what this leg brings has room to go. What comes back over a courier's leg has its rates, and waits for room, where it is
    /// read, as what a near leg brings.
    fn wants(&self, side: Side) -> bool {
        let held = self.charges.is_held()
            || self.courier_lanes.is_stalled()
            || self.courier_lanes.bounces.are_slowed();
        let waits = match side {
            Side::Near => held || self.settling.waits(),
            Side::Far(_) => held && self.legs.near.is_none(),
        };
        !waits && self.legs.have_room(self.meta.flow, side) && self.relay.wants_read(side)
    }
}

/// What comes of a stanza that passes: it puts off what the relay waits for, and nothing else.
fn is_of_passing(effect: &Effect) -> bool {
    matches!(effect, Effect::Pass(..) | Effect::Note(Event::Passed { .. }))
}

/// Reads of one leg before the others have their turn.
const READS: usize = 8;

/// What a token costs as octets do: a small stanza is work, too.
pub(super) const TOKEN: usize = 256;
