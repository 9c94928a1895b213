//! What a stream's sending costs: the rates of its pairs and of single senders, and until when the near leg is not read for that.
//!
//! A stanza that goes out on a leg of its own pair is charged there, in its outbox. Here is charged what takes another way: what couriers
//! carry, what is refused while it is read (XML-17), and what depends on who sent it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Caller;
use super::super::quarantine::QuarantineList;
use super::far::Sending;
use super::fars::Fars;
use crate::limit::{Allowance, Rated, Rates, Senders, Tally, TooMuch, Valve};
use crate::metrics::{Limit, Metrics};
use crate::policy::Permit;
use crate::reason::{Flow, Reason};
use crate::relay::Passing;
use crate::stream::Pair;

/// What the stream of one relay is charged.
#[derive(Default)]
pub(in crate::run) struct Charges {
    /// The rates of the stream, once it may send.
    stream: Option<Valve>,
    /// Who may send what on it.
    sending: HashMap<Pair, Sending>,
    /// Couriers carry, or have carried, some of its pairs.
    carries: bool,
    /// Octets of refused stanzas were charged to the near leg's rates, which may still owe them.
    skips: bool,
    /// What it has brought of one domain.
    tally: Tally,
    /// A sender on it is above his rate: so long it should not be read.
    slowed: Option<Instant>,
    /// The near leg is not read: a pair that couriers carry has sent as much as its rate lets it, or one sender has.
    held: Option<Held>,
}

/// The near leg is not read.
#[derive(Clone, Copy, Debug)]
struct Held {
    since: Instant,
    /// It is read again.
    until: Instant,
    limit: Limit,
}

impl Charges {
    /// The rates of the pair of this permit, beside others of the same stream.
    pub(in crate::run) fn valve(&mut self, rates: &Rates, permit: &Permit, now: Instant) -> Valve {
        let stream = self.stream.get_or_insert_with(|| rates.stream(now));
        rates.valve(permit, stream, now)
    }

    /// This pair may send that from now on.
    pub(in crate::run) fn begin(&mut self, pair: Pair, sending: Sending) {
        self.sending.insert(pair, sending);
    }

    /// This pair may send nothing more; what it might.
    pub(in crate::run) fn end(&mut self, pair: &Pair) -> Option<Sending> {
        self.sending.remove(pair)
    }

    /// Only these pairs may still send.
    pub(in crate::run) fn keep(&mut self, stands: impl Fn(&Pair) -> bool) {
        self.sending.retain(|pair, _| stands(pair));
    }

    /// How many pairs may send.
    pub(in crate::run) fn pairs(&self) -> usize {
        self.sending.len()
    }

    /// Who is known to send what comes of this pair, if couriers were told that.
    pub(super) fn caller(&self, pair: &Pair) -> Option<Arc<Caller>> {
        self.sending.get(pair).and_then(|sending| sending.caller.clone())
    }

    /// That is known from now on.
    pub(super) fn name_caller(&mut self, pair: &Pair, caller: &Arc<Caller>) {
        if let Some(sending) = self.sending.get_mut(pair) {
            sending.caller = Some(Arc::clone(caller));
        }
    }

    /// Whether this stanza may go, if that depends on its sender (LIM-04, LIM-08); who is above his rate slows the stream.
    ///
    /// # Errors
    /// The sender has sent too much, in this way.
    pub(in crate::run) fn sender(
        &mut self,
        stanza: &Passing,
        senders: &Senders,
        quarantine: &QuarantineList,
        metrics: &Metrics,
        now: Instant,
    ) -> Result<(), Reason> {
        let Some(sender) = &stanza.sender else { return Ok(()) };
        let slow = senders.ask(sender, &stanza.octets, &mut self.tally, now).map_err(|what| {
            metrics.limited(match what {
                TooMuch::Recipients => Limit::Recipients,
                TooMuch::Stanzas => Limit::Senders,
                TooMuch::Subscriptions => Limit::Subscriptions,
            });
            what.reason()
        })?;
        if !slow.is_zero() {
            self.slowed = Some(self.slowed.unwrap_or(now).max(now) + slow);
        }
        // Who is in quarantine may send less than that.
        match &sender.held {
            None => Ok(()),
            Some(held) => quarantine.ask(&sender.domain, held),
        }
    }

    /// LIM-03: a stanza of this pair goes to a courier. Without a leg of its own the pair is slowed here, where it is read.
    pub(in crate::run) fn carried(&mut self, pair: &Pair, octets: usize, now: Instant) {
        if let Some(sending) = self.sending.get_mut(pair) {
            (sending.carried, self.carries) = (true, true);
            let mut spent = Allowance::default();
            spent.add(octets);
            sending.valve.charge(&spent, now);
        }
    }

    /// XML-17: refused stanzas are paid for as they come, so that none fills the line for nothing; each counts as one, when it is over.
    pub(super) fn skipped(&mut self, stanzas: u64, octets: usize, flow: Flow, fars: &Fars, now: Instant) {
        let mut spent = Allowance::default();
        spent.owe(stanzas, octets);
        if let Some(valve) = self.of_reading(flow, fars) {
            valve.charge(&spent, now);
            self.skips = true;
        }
    }

    /// Looks whether what couriers carry for this stream has met its rate (LIM-03), or a sender on it is above his (LIM-04).
    pub(super) fn hold(&mut self, flow: Flow, fars: &Fars, metrics: &Metrics, now: Instant) {
        if !self.carries && !self.skips && self.slowed.is_none() {
            return;
        }
        let carried = self.sending.values().filter(|sending| self.carries && sending.carried);
        let carried = carried.filter_map(|sending| sending.valve.shut_until(now)).max();
        let owing = self.of_reading(flow, fars).filter(|_| self.skips);
        let owed = owing.and_then(|valve| valve.shut_until(now));
        self.skips = owed.is_some();
        self.slowed = self.slowed.filter(|until| *until > now);
        // No timer is as fine as what one stanza costs: it is waited for many at once.
        let slowed = self.slowed.filter(|until| self.held.is_some() || *until >= now + FINE);
        let rated = carried.max(owed).map(|(until, rated)| (until, limit(rated)));
        let shut = rated.max(slowed.map(|at| (at, Limit::Senders)));
        match (&self.held, shut) {
            (None, Some((_, limit))) => metrics.limited(limit),
            (Some(held), None) => metrics.waited(held.limit, now.saturating_duration_since(held.since)),
            _ => {}
        }
        let since = self.held.map_or(now, |held| held.since);
        self.held = shut.map(|(until, limit)| Held { since, until, limit });
    }

    /// Whether the near leg is not read.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// When it is read again, if it is not.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held.map(|held| held.until)
    }

    /// What reading from the near leg is charged to where no stanza goes on: its pair's rates if there is one pair, its
    /// stream's among several, for one of them must not hold up the others (DB-66).
    fn of_reading<'a>(&'a self, flow: Flow, fars: &'a Fars) -> Option<&'a Valve> {
        match (flow, self.sending.len()) {
            (Flow::C2s, _) => fars.values().next().map(|far| far.leg.outbox.valve()),
            (_, 1) => self.sending.values().next().map(|sending| &sending.valve),
            _ => self.stream.as_ref(),
        }
    }
}

/// The rate, as it is counted.
pub(super) fn limit(rated: Rated) -> Limit {
    match rated {
        Rated::Octets => Limit::Octets,
        Rated::Stanzas => Limit::Stanzas,
    }
}

/// What is waited for at least when a sender slows his stream.
const FINE: Duration = Duration::from_millis(5);
