//! What is remembered of one relay so that its events can be completed: what was refused, what was told of that, and how pairs
//! came to stand.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Before;
use crate::policy::{Place, RuleName};
use crate::reason::{Class, Detail, Reason};
use crate::relay::{Event, Record};
use crate::stream::{Method, Pair, Secured};

/// What a relay's events are completed from.
#[derive(Debug, Default)]
pub(in crate::run) struct Memory {
    /// Pairs that may not pass.
    pub(super) denied: HashMap<Pair, Denied>,
    /// The patch or the rule that keeps a stanza away of which the next refusal tells.
    pub(super) ruled: Option<(RuleName, Option<Place>)>,
    /// Why a login was refused last.
    pub(super) login: Option<Reason>,
    /// How pairs stand in public, outbound: a leg may be gone when its end is told.
    pub(super) proven: HashMap<Pair, Proven>,
    /// Why something was refused so far: each reason once.
    refused: Vec<Reason>,
    /// A pair was refused.
    rejected: bool,
    /// What the verifier met whose answer is being dealt with.
    pub(super) met: Option<Box<Detail>>,
}

/// A pair that may not pass, and what was told of that.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) reason: Reason,
    pub(super) rule: Option<RuleName>,
    pub(super) place: Option<Place>,
    told: Option<Instant>,
    /// It was told of the pair, and not of a stanza.
    whole: bool,
}

impl Memory {
    /// The verifier met this, whose answer is being dealt with; or nothing any more.
    pub(in crate::run) fn meets(&mut self, met: Option<Box<Detail>>) {
        self.met = met;
    }

    /// The pair may not pass for this reason; a known one that is the same goes on.
    pub(super) fn deny(&mut self, pair: &Pair, reason: Reason) -> &mut Denied {
        if self.denied.len() >= PAIRS && !self.denied.contains_key(pair) {
            self.denied.clear();
        }
        let fresh = || Denied { reason, rule: None, place: None, told: None, whole: false };
        let denied = self.denied.entry(pair.clone()).or_insert_with(fresh);
        if denied.reason != reason {
            *denied = fresh();
        }
        denied
    }

    /// Whether this refusal is news, which it is no more from now on.
    pub(super) fn once(&mut self, event: &Event, carried: bool, now: Instant) -> Before {
        let Some((pair, reason)) = event.turned_away() else { return Before::News };
        let whole = matches!(event, Event::Rejected { .. });
        if !self.refused.contains(&reason) {
            self.refused.push(reason);
        }
        self.rejected |= whole;
        let Some(pair) = pair else { return Before::News };
        // What was given to a courier goes back for what became of its one pair; so does what comes for one that was taken back.
        let denied = match whole || carried {
            true => self.deny(pair, reason),
            // What is refused for itself, and not for its pair, is told each time.
            false => match self.denied.get_mut(pair).filter(|denied| denied.reason == reason) {
                Some(denied) => denied,
                None => return Before::News,
            },
        };
        if !whole && denied.whole {
            return Before::Follows;
        }
        if denied.told.is_some_and(|at| now < at + AGAIN) {
            return Before::Again;
        }
        (denied.told, denied.whole) = (Some(now), whole);
        Before::News
    }

    /// Whether the end of a stream for this reason follows from what was refused on it and told: for the same reason, or since whoever
    /// was refused had nothing left to do there.
    pub(super) fn explains(&self, reason: Reason) -> bool {
        let left = reason.is(Class::AfterRefusal);
        self.refused.contains(&reason) || self.login == Some(reason) || (self.rejected && left)
    }
}

/// How a pair stands in public.
#[derive(Debug, Default)]
pub(super) struct Proven {
    pub(super) called: Option<SocketAddr>,
    pub(super) channel: Option<Secured>,
    pub(super) method: Option<Method>,
    pub(super) server: Option<Method>,
}

/// What the channel shows, where the record does not tell it.
pub(super) fn show(record: &mut Record, channel: Option<&Secured>) {
    if let Some(channel) = channel.filter(|_| record.tls.is_none()) {
        let shown = Record::of(Some(channel), record.reason);
        (record.tls, record.suite) = (shown.tls, shown.suite);
        (record.fingerprint, record.revocation) = (shown.fingerprint, shown.revocation);
    }
}

/// The record with what was known when the pair came to stand.
pub(super) fn complete(record: &mut Record, known: &Proven) {
    record.server = record.server.or(known.server);
    show(record, known.channel.as_ref());
    if let Some(method) = known.method.filter(|_| matches!(record.method, None | Some(Method::Backend))) {
        record.method = Some(method);
    }
}

/// How soon the same refusal on the same stream is no news.
const AGAIN: Duration = Duration::from_secs(60);

/// Pairs that are remembered as refused, of one stream.
const PAIRS: usize = 1024;
