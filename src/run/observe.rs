//! What happened, told three ways: a counter, a log line, and for streams and refusals an audit record.
//!
//! None of the three holds a body, a key or SASL data (LOG-02). What a peer said appears as an escaped and capped value only
//! (LOG-03). Lines that a peer can cause are limited for each network (LOG-05), and so are records of refusals.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use serde::Serialize;

mod behind;
mod budget;
mod line;
mod met;
mod refused;
mod unfit;

use self::budget::Budget;
use self::line::Line;
use self::refused::refusal;
use super::audit::{self, Audit};
use super::event_context::Around;
use super::health::Health;
use super::misnamed::Misnamed;
use super::refusals::{RefusalRecord, Refusals};
use super::registry::Meta;
use super::remembered::Remembered;
use super::seeking::Seeking;
use super::shadow::{Concerned, Shadow};
use super::used::Used;
use crate::jid::Domain;
use crate::limit::{Network, Quota, Throttle};
use crate::metrics::{Limit, Metrics};
use crate::policy::Action;
use crate::reason::{Class, Flow, Outcome, Reason, StreamCondition, escaped};
use crate::relay::plan;
use crate::relay::{DialbackOutcome, Event, Record, Role, Said, Stroke};
use crate::stream::{Method, Pair, RevocationCheck, TlsVersion};

/// Turns events into numbers, lines and records.
#[derive(Debug)]
pub struct Observe {
    metrics: Arc<Metrics>,
    audit: RwLock<Option<Arc<Audit>>>,
    /// How much each network may still cause to be written.
    budget: Budget,
    /// What was told lately of those who were turned away, by limit.
    limits: Throttle<(Option<Network>, Limit)>,
    /// How remote domains were proven (LOG-06).
    peers: Remembered,
    backends: Mutex<HashMap<(Domain, Flow), bool>>,
    astray: Mutex<HashSet<Domain>>,
    /// Backends at which some clients cannot log in, and why.
    half_fit: Mutex<HashSet<(Domain, Reason)>>,
    /// Whether the backends look for others where they should.
    seeking: Seeking,
    /// The last refusals.
    ring: Refusals,
    /// Names that backends used and may not use, and when that was told last.
    misnamed: Misnamed,
    /// How the backends are, by active checks.
    health: Health,
    /// How it stands with other nodes.
    fellows: super::fellows::Fellows,
    /// How often and when each rule and case was used.
    used: Used,
    /// What the policy in the shadow would have decided otherwise.
    shadow: Shadow,
}

impl Observe {
    /// Tells these counters, and this audit file if there is one.
    pub fn new(metrics: Arc<Metrics>, audit: Option<Audit>, now: Instant) -> Self {
        Self {
            audit: RwLock::new(audit.map(Arc::new)),
            budget: Budget::new(Arc::clone(&metrics), now),
            metrics,
            limits: Throttle::new(Quota::per_minute(NonZeroU32::MIN), now),
            peers: Remembered::default(),
            backends: Mutex::default(),
            astray: Mutex::default(),
            half_fit: Mutex::default(),
            seeking: Seeking::default(),
            ring: Refusals::default(),
            misnamed: Misnamed::default(),
            health: Health::default(),
            fellows: super::fellows::Fellows::default(),
            used: Used::default(),
            shadow: Shadow::default(),
        }
    }

    /// How the backends are, by active checks.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How it stands with other nodes.
    pub fn fellows(&self) -> &super::fellows::Fellows {
        &self.fellows
    }

    /// How remote domains were proven.
    pub fn peers(&self) -> &Remembered {
        &self.peers
    }

    /// Tells what has come to wait by what other nodes know of peers.
    pub fn log_met(&self) {
        met::note_met(self);
    }

    /// The last refusals.
    pub fn refusals(&self) -> &Refusals {
        &self.ring
    }

    /// Whether the backends look for others where they should.
    pub fn seeking(&self) -> &Seeking {
        &self.seeking
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The audit file may have been renamed.
    pub fn reopen(&self) {
        if let Some(audit) = self.audit_log() {
            audit.reopen();
        }
    }

    /// Whether nobody new may come in, because it could not be written down.
    pub fn refuses(&self) -> bool {
        self.audit_log().is_some_and(|audit| audit.refuses())
    }

    /// This holds for the audit file from now on.
    pub fn audit_under(&self, params: &audit::Params) {
        if let Some(audit) = self.audit_log() {
            audit.change(params);
        }
    }

    /// Records go there from now on; the old file is finished, which may take a moment.
    pub fn audit_to(&self, audit: Option<Audit>) {
        let next = audit.map(Arc::new);
        let old = std::mem::replace(&mut *self.audit.write().unwrap_or_else(PoisonError::into_inner), next);
        if let Some(old) = old {
            self.budget.log_left_out(&old);
            old.finish();
        }
    }

    fn audit_log(&self) -> Option<Arc<Audit>> {
        self.audit.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has a record of its own kind written: what an operator did.
    pub fn act(&self, record: &impl Serialize) {
        let Some(audit) = self.audit_log() else { return };
        match serde_json::to_string(record) {
            Ok(line) => audit.record(line),
            Err(_) => self.metrics.audit_lost(1),
        }
    }

    /// Writes what waits for the disk, and ends.
    pub fn finish(&self) {
        if let Some(audit) = self.audit_log() {
            self.budget.log_left_out(&audit);
            audit.finish();
        }
    }

    /// A relay says that this happened.
    pub fn note(&self, meta: &Meta, event: &Event) {
        self.note_with(meta, event, &Around::default());
    }

    /// The same, with what is known around it.
    pub fn note_with(&self, meta: &Meta, event: &Event, around: &Around) {
        let (m, flow) = (&self.metrics, meta.flow);
        match event {
            Event::Judged { pair, verdict } => {
                m.judged(flow, hosted(flow, pair), &verdict.rule, verdict.outcome, verdict.reason);
                self.used.judged(pair, &verdict.rule);
                self.beside(flow, pair, verdict);
                // What comes of it is told when it comes.
                tracing::debug!(flow = %flow, pair = %Shown(pair), relay = %meta.id, outcome = verdict.outcome.label(),
                    reason = verdict.reason.label(), rule = verdict.rule.as_str(), "judged");
            }
            // Nothing is decided about the pair: it stands, and was judged again.
            Event::Shadowed { pair, verdict } => self.beside(flow, pair, verdict),
            Event::Otherwise { .. } => self.otherwise(flow, event),
            // A rule that admits pairs is used by them; one that asks lists of a sender admits none.
            Event::Ruled { rule, reason, .. } => {
                if reason.is(Class::OfLists) {
                    self.used.refused(rule);
                }
            }
            Event::Authenticated { pair, method, outcome, reason } => {
                m.authenticated(flow, hosted(flow, pair), *method, *outcome);
                tracing::debug!(flow = %flow, pair = %Shown(pair), relay = %meta.id, method = method.label(),
                    outcome = outcome.label(), reason = reason.label(), "identity judged");
            }
            Event::Met { .. } => met::note(self, meta, event),
            Event::Dialback { .. } => self.dialback(meta, event, around),
            Event::Admitted { .. } => self.admitted(meta, event, around),
            Event::Rejected { record, after } => {
                m.negotiated(flow, Outcome::Deny, *after);
                self.refusal(meta, ("pair", "rejected"), record, around, "pair rejected");
            }
            Event::Ended { record } => {
                if let Some(pair) = &record.pair {
                    m.stream_ended(flow, hosted(flow, pair));
                    if let Some(rule) = record.rule.as_ref().filter(|_| record.stanzas > 0) {
                        self.used.carried(rule);
                    }
                }
                self.log_end(meta, record, around, "pair ended");
                self.audit(meta, "ended", record, around);
            }
            Event::Closed { record } => {
                if around.explained || record.reason.is(Class::Ordinary) {
                    tracing::debug!(flow = %flow, peer = %peer(meta, around), relay = %meta.id,
                        reason = record.reason.label(), "stream closed");
                } else {
                    self.report_refusal(meta, "stream", record, around, "stream closed");
                }
                self.audit(meta, "closed", record, around);
            }
            Event::Passed { hosted, kind, octets } => m.passed(flow, hosted, *kind, 1, *octets as u64),
            Event::Managed { what, stanzas } => {
                m.managed(flow, *what, *stanzas);
                tracing::debug!(flow = %flow, relay = %meta.id, outcome = what.label(), stanzas, "stream management");
            }
            Event::Withheld { hosted, rule, what } => m.withheld(hosted, rule, *what),
            Event::Patched { pair, hosted, patch, place, stroke } => {
                m.patched(flow, patch, *stroke);
                // A stanza that is refused for it has a line of its own, which names the patch.
                if !matches!(stroke, Stroke::Acted(Action::Deny)) && self.budget.may_log(meta) {
                    tracing::info!(flow = %flow, pair = %pair.as_ref().map(shown).unwrap_or_default(), domain = %hosted,
                        peer = %peer_of(meta, around, pair.as_ref()), relay = %meta.id, patch = patch.as_str(), place = %place,
                        outcome = stroke.label(), "a stanza met a patch");
                }
            }
            Event::Refused { pair, hosted, reason } => {
                m.refused(flow, hosted.as_ref(), *reason);
                let record = unfit::record(pair.as_ref(), *reason, around);
                self.refusal(meta, ("stanza", "refused"), &record, around, "stanza refused");
            }
            Event::Unfit { .. } => self.unfit(meta, event, around),
            Event::Misnamed { name, reason, via } => self.misnamed(meta, name, *reason, via.as_ref(), around),
            Event::StreamError { facing, said, condition } => {
                m.stream_error(flow, *facing, *said, *condition);
                let words = match said {
                    Said::Received => "stream error received",
                    Said::Sent => "stream error sent",
                };
                let condition = condition.map_or("undefined-condition", StreamCondition::name);
                tracing::debug!(flow = %flow, peer = %peer(meta, around), relay = %meta.id, facing = %facing, condition,
                    detail = around.detail.as_ref().map(tracing::field::display), "{words}");
            }
            Event::Backend { hosted, up } => behind::reached(self, meta, (hosted, *up), around),
            Event::Login { .. } => behind::login(self, meta, event, around),
            Event::Bound { hosted, after } => {
                m.stream_began(flow, hosted);
                m.negotiated(flow, Outcome::Allow, *after);
            }
            Event::Left { hosted, record } => {
                m.stream_ended(flow, hosted);
                self.log_end(meta, record, around, "client left");
                self.audit(meta, "ended", record, around);
            }
            Event::BackendMisconfigured { hosted, reason } => {
                behind::misconfigured(self, meta, (hosted, *reason))
            }
        }
    }

    /// Tells [`Event::Dialback`].
    fn dialback(&self, meta: &Meta, event: &Event, around: &Around) {
        let Event::Dialback { role, facing, outcome, after } = event else { return };
        self.metrics.dialback(*role, *facing, *outcome, *after);
        // A key of ours that is none, or an answer that nobody asked for: no pair comes to an end to tell of it.
        let told = match outcome {
            DialbackOutcome::Unasked => true,
            DialbackOutcome::Invalid => *role == Role::Authoritative,
            DialbackOutcome::Error | DialbackOutcome::Valid => false,
        };
        if told && self.budget.may_log(meta) {
            tracing::info!(flow = %meta.flow, peer = %peer(meta, around), relay = %meta.id, role = role.label(),
                facing = %facing, outcome = outcome.label(), "dialback refused");
        }
    }

    /// Tells [`Event::Admitted`].
    fn admitted(&self, meta: &Meta, event: &Event, around: &Around) {
        let Event::Admitted { pair, method, server, rule, reason, beside, after } = event else { return };
        let flow = meta.flow;
        self.metrics.stream_began(flow, hosted(flow, pair));
        self.metrics.negotiated(flow, Outcome::Allow, *after);
        let record = Record {
            pair: Some(pair.clone()),
            method: Some(*method),
            server: *server,
            rule: Some(rule.clone()),
            beside: beside.clone(),
            ..Record::of(around.channel.as_ref(), *reason)
        };
        if self.budget.may_log(meta) {
            tracing::info!(flow = %flow, pair = %Shown(pair), peer = %peer(meta, around), relay = %meta.id,
                method = method.label(), server = server.map(Method::label), rule = rule.as_str(),
                tls = tls(record.tls), "pair admitted");
        }
        self.audit(meta, "admitted", &record, around);
    }

    fn log_end(&self, meta: &Meta, record: &Record, around: &Around, words: &'static str) {
        if self.budget.may_log(meta) {
            tracing::info!(flow = %meta.flow, pair = %record.pair.as_ref().map(shown).unwrap_or_default(),
                peer = %peer(meta, around), relay = %meta.id, reason = record.reason.label(),
                detail = around.detail.as_ref().map(tracing::field::display),
                rule = record.rule.as_ref().map_or("", |r| r.as_str()), tls = tls(record.tls),
                suite = record.suite.unwrap_or("none"), method = record.method.map_or("none", Method::label),
                revocation = record.revocation.map_or("none", RevocationCheck::label), stanzas = record.stanzas,
                octets = record.octets, "{words}");
        }
    }

    /// A record that costs a peer nothing to cause: so many from one network, so that none fills the disk.
    fn audit_refusal(&self, meta: &Meta, event: &'static str, record: &Record, around: &Around) {
        if self.may_record(meta.peer.map(|p| Network::of(p.ip()))) {
            self.audit(meta, event, record, around);
        }
    }

    fn may_record(&self, network: Option<Network>) -> bool {
        self.audit_log().is_some_and(|audit| self.budget.may_record(network, &audit))
    }

    pub(super) fn audit(&self, meta: &Meta, event: &'static str, record: &Record, around: &Around) {
        let Some(audit) = self.audit_log() else { return };
        self.budget.log_left_out(&audit);
        match serde_json::to_string(&Line::new(meta, event, record, around)) {
            Ok(line) => audit.record(line),
            Err(_) => self.metrics.audit_lost(1),
        }
    }
}

/// A peer's own words as a value: without control characters, and not longer than a domain can be.
pub fn capped(words: &str) -> String {
    escaped(words, CAP)
}

/// The address of the other side: the one that called or, where we called, the one called; never the backend's, outbound.
fn address(meta: &Meta, around: &Around) -> Option<SocketAddr> {
    match meta.flow {
        Flow::S2sOut => around.called,
        Flow::C2s | Flow::S2sIn => meta.peer.or(around.called),
    }
}

/// A pair that is written only where the line is.
struct Shown<'a>(&'a Pair);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(self.0))
    }
}

fn shown(pair: &Pair) -> String {
    format!("{}>{}", capped(pair.sender.as_str()), capped(pair.target.as_str()))
}

/// The other side of this pair, as far as it was met: whoever brought a stanza of our own is the server behind.
fn peer_of(meta: &Meta, around: &Around, pair: Option<&Pair>) -> String {
    match (address(meta, around), pair) {
        (None, Some(_)) => "none".to_owned(),
        _ => peer(meta, around),
    }
}

pub(super) fn peer(meta: &Meta, around: &Around) -> String {
    address(meta, around).or(meta.peer).map_or_else(|| "none".to_owned(), |p| p.to_string())
}

fn hosted(flow: Flow, pair: &Pair) -> &Domain {
    pair.sides(plan::direction(flow)).0
}

fn tls(version: Option<TlsVersion>) -> &'static str {
    version.map_or("none", TlsVersion::label)
}

/// Characters of a peer's word that are shown.
const CAP: usize = 253;

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
