//! What a relay may hold, how fast what it passes on may come, and when a client's turn to leave is.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::super::{now, part};
use super::Pump;
use crate::jid::Domain;
use crate::limit::{Allowance, Rated, Valve};
use crate::metrics::Limit;
use crate::reason::{Flow, Reason};
use crate::relay::{Input, Passing, Side};
use crate::xml::{Kind, Token};

/// Stanzas of one hosted domain that have passed and are not written yet: they are counted once, before they are.
#[derive(Debug, Default)]
pub(super) struct Passed {
    hosted: Option<Domain>,
    stanzas: [u64; KINDS.len()],
    octets: u64,
}

/// The near leg is not read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    since: Instant,
    /// It is read again.
    pub(super) until: Instant,
    limit: Limit,
}

impl Pump {
    /// A stanza has passed.
    pub(in super::super) fn passed(&mut self, hosted: Domain, kind: Kind, octets: usize) {
        if self.passed.hosted.as_ref() != Some(&hosted) {
            self.tell_passed();
            self.passed.hosted = Some(hosted);
        }
        let at = KINDS.iter().position(|known| *known == kind);
        if let Some(stanzas) = at.and_then(|at| self.passed.stanzas.get_mut(at)) {
            *stanzas += 1;
        }
        self.passed.octets = self.passed.octets.saturating_add(octets.try_into().unwrap_or(u64::MAX));
    }

    /// Counts what has passed.
    pub(super) fn tell_passed(&mut self) {
        let Some(hosted) = self.passed.hosted.take() else { return };
        let Passed { stanzas, mut octets, .. } = std::mem::take(&mut self.passed);
        for (kind, count) in KINDS.into_iter().zip(stanzas).filter(|(_, count)| *count > 0) {
            let octets = std::mem::take(&mut octets);
            self.tools.observe.metrics().passed(self.meta.flow, &hosted, kind, count, octets);
        }
    }

    /// Whether this stanza may go, if that depends on its sender (LIM-04, LIM-08).
    ///
    /// # Errors
    /// The sender has sent too much, in this way.
    pub(in super::super) fn charge_sender(&mut self, stanza: &Passing) -> Result<(), Reason> {
        let Some(sender) = &stanza.sender else { return Ok(()) };
        let limit = match self.tools.senders.ask(sender, &stanza.octets, &mut self.tally, self.now) {
            Ok(slow) => {
                if !slow.is_zero() {
                    self.slowed = Some(self.slowed.unwrap_or(self.now).max(self.now) + slow);
                }
                // Who is in quarantine may send less than that.
                return match &sender.held {
                    None => Ok(()),
                    Some(held) => self.tools.quarantine.ask(&sender.domain, held),
                };
            }
            Err(reason @ Reason::TooManyRecipients) => (Limit::Recipients, reason),
            Err(reason @ Reason::TooManySubscriptions) => (Limit::Subscriptions, reason),
            Err(reason) => (Limit::Senders, reason),
        };
        self.tools.observe.metrics().limited(limit.0);
        Err(limit.1)
    }

    /// Whether what couriers carry for this stream has met its rate (LIM-03), or a sender on it is above his (LIM-04).
    pub(super) fn hold(&mut self, now: Instant) {
        if !self.carries && !self.skips && self.slowed.is_none() {
            return;
        }
        let carried = self.sending.values().filter(|sending| self.carries && sending.carried);
        let carried = carried.filter_map(|sending| sending.valve.shut_until(now)).max();
        let owed = self.reading_valve().filter(|_| self.skips).and_then(|valve| valve.shut_until(now));
        self.skips = owed.is_some();
        self.slowed = self.slowed.filter(|until| *until > now);
        // No timer is as fine as what one stanza costs: it is waited for many at once.
        let slowed = self.slowed.filter(|until| self.held.is_some() || *until >= now + FINE);
        let rated = carried.max(owed).map(|(until, rated)| (until, limit(rated)));
        let shut = rated.max(slowed.map(|at| (at, Limit::Senders)));
        let metrics = self.tools.observe.metrics();
        match (&self.held, shut) {
            (None, Some((_, limit))) => metrics.limited(limit),
            (Some(held), None) => metrics.waited(held.limit, now.saturating_duration_since(held.since)),
            _ => {}
        }
        let since = self.held.map_or(now, |held| held.since);
        self.held = shut.map(|(until, limit)| Held { since, until, limit });
    }

    /// XML-17: refused stanzas are paid for as they come, lest one fills the line for nothing; each counts as one.
    pub(super) fn charge_skipped(&mut self, token: &Option<Token>, now: Instant) {
        let octets = self.near.as_mut().map_or(0, |leg| leg.framer.take_skipped());
        if octets == 0 {
            return;
        }
        let mut spent = Allowance::default();
        spent.owe(u64::from(matches!(token, Some(Token::Refused(_)))), octets);
        if let Some(valve) = self.reading_valve() {
            valve.charge(&spent, now);
            self.skips = true;
        }
    }

    /// What reading from the near leg is charged to where no stanza goes on: its pair's rates if there is one pair, its
    /// stream's among several, for one of them must not hold up the others (DB-66).
    fn reading_valve(&self) -> Option<&Valve> {
        let far = || self.fars.values().next().map(|far| far.leg.outbox.valve());
        match (self.meta.flow, self.sending.len()) {
            (Flow::C2s, _) => far(),
            (_, 1) => self.sending.values().next().map(|sending| &sending.valve),
            _ => self.rates.as_ref(),
        }
    }

    /// Tells what a stranger holds; who holds more than there is room for is turned away (LIM-02).
    pub(super) fn weigh(&mut self) -> bool {
        let Some(stranger) = &mut self.stranger else { return false };
        let legs = self.near.iter().chain(self.fars.values().map(|far| &far.leg));
        let held = legs.map(|leg| leg.buffered() + leg.outbox.octets()).sum();
        let Err(reason) = stranger.hold(held) else { return false };
        if std::mem::replace(&mut self.unwelcome, true) {
            return false;
        }
        self.tools.observe.turned_away(self.meta.peer, reason);
        self.step(Side::Near, Input::Close(reason));
        true
    }

    /// CLS-08: the gateway drains. Clients leave one after the other, over the first part of the time, so that they do not
    /// all come back to its neighbour in one instant; all others, and who has not logged in yet, at once.
    pub(super) fn leave_by(&mut self, until: Instant) {
        if self.meta.flow != Flow::C2s || !self.relay.is_bound() {
            return self.step(Side::Near, Input::Drain);
        }
        if self.leaving.is_none() {
            let share = until.saturating_duration_since(now()) / SHARE;
            self.leaving = Some(Box::pin(tokio::time::sleep(part(share))));
        }
    }

    pub(super) fn poll_leaving(&mut self, cx: &mut Context<'_>) -> bool {
        let due = self.leaving.as_mut().is_some_and(|turn| turn.as_mut().poll(cx) == Poll::Ready(()));
        if due {
            self.leaving = None;
            self.step(Side::Near, Input::Drain);
        }
        due
    }
}

/// The rate, as it is counted.
pub(super) fn limit(rated: Rated) -> Limit {
    match rated {
        Rated::Octets => Limit::Octets,
        Rated::Stanzas => Limit::Stanzas,
    }
}

/// What stanzas are counted as.
const KINDS: [Kind; 4] = [Kind::Iq, Kind::Message, Kind::Presence, Kind::Other];

/// What is waited for at least when a sender slows his stream.
const FINE: Duration = Duration::from_millis(5);

/// Clients leave within this part of a drain; at its last third, what cannot be delivered goes back.
const SHARE: u32 = 3;
