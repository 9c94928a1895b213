//! What happened, told three ways: a counter, a log line, and for streams and refusals an audit record.
//!
//! None of the three holds a body, a key or SASL data (LOG-02); events bring none. What a peer said appears as an
//! escaped and capped value only (LOG-03). Lines that a peer can cause are limited for each network (LOG-05), and so are
//! records of refusals: how many were left out stands in the audit log itself, and the counters see every one.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use serde::Serialize;

use super::audit::Audit;
use super::now;
use super::registry::Meta;
use crate::jid::Domain;
use crate::limit::{Network, Quota, Throttle};
use crate::metrics::{Door, Limit, Metrics};
use crate::reason::{Flow, Outcome, Reason, StreamCondition};
use crate::relay::{DialbackOutcome, Event, Record, Said};
use crate::stream::client::Mechanism;
use crate::stream::{Method, Pair, RevocationCheck, TlsVersion};

/// Turns events into numbers, lines and records.
#[derive(Debug)]
pub struct Observe {
    metrics: Arc<Metrics>,
    /// Another one after a reload that says so.
    audit: RwLock<Option<Arc<Audit>>>,
    lines: Throttle<Option<Network>>,
    suppressed: AtomicU64,
    refusals: Throttle<Option<Network>>,
    /// Records of refusals that the audit log does not hold, and does not tell of yet.
    left_out: AtomicU64,
    proofs: Mutex<HashMap<Domain, Proven>>,
    /// Backends as last seen: up or not.
    backends: Mutex<HashMap<(Domain, Flow), bool>>,
    /// Backends that ask somebody else about our keys.
    astray: Mutex<HashSet<Domain>>,
    /// Backends at which some clients cannot log in, and why.
    half_fit: Mutex<HashSet<(Domain, Reason)>>,
}

/// How a domain was proven the last time (LOG-06).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Proven {
    method: Method,
    fingerprint: Option<String>,
}

impl Observe {
    /// Tells these counters, and this audit file if there is one.
    pub fn new(metrics: Arc<Metrics>, audit: Option<Audit>, now: Instant) -> Self {
        Self {
            metrics,
            audit: RwLock::new(audit.map(Arc::new)),
            lines: Throttle::new(Quota::per_minute(LINES), now),
            suppressed: AtomicU64::new(0),
            refusals: Throttle::new(Quota::per_minute(REFUSALS), now),
            left_out: AtomicU64::new(0),
            proofs: Mutex::default(),
            backends: Mutex::default(),
            astray: Mutex::default(),
            half_fit: Mutex::default(),
        }
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

    /// Records go there from now on; the old file is finished, which may take a moment.
    pub fn audit_to(&self, audit: Option<Audit>) {
        let next = audit.map(Arc::new);
        let old = std::mem::replace(&mut *self.audit.write().unwrap_or_else(PoisonError::into_inner), next);
        if let Some(old) = old {
            self.tell_left_out(&old);
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
            self.tell_left_out(&audit);
            audit.finish();
        }
    }

    /// A relay says that this happened.
    pub fn note(&self, meta: &Meta, event: &Event) {
        let (m, flow) = (&self.metrics, meta.flow);
        match event {
            Event::Judged { pair, verdict } => {
                m.judged(flow, hosted(flow, pair), &verdict.rule, verdict.outcome, verdict.reason);
                if verdict.outcome == Outcome::Deny && self.may_tell(meta) {
                    tracing::info!(flow = %flow, pair = %shown(pair), peer = %peer(meta), relay = %meta.id,
                        reason = verdict.reason.label(), rule = verdict.rule.as_str(), "federation refused");
                }
            }
            Event::Authenticated { pair, method, outcome, reason } => {
                m.authenticated(flow, hosted(flow, pair), *method, *outcome);
                if self.may_tell(meta) {
                    tracing::info!(flow = %flow, pair = %shown(pair), peer = %peer(meta), relay = %meta.id,
                        method = method.label(), outcome = outcome.label(), reason = reason.label(), "identity judged");
                }
            }
            Event::Dialback { role, facing, outcome, after } => {
                m.dialback(*role, *facing, *outcome, *after);
                if matches!(outcome, DialbackOutcome::Invalid | DialbackOutcome::Unasked)
                    && self.may_tell(meta)
                {
                    tracing::info!(flow = %flow, peer = %peer(meta), relay = %meta.id, role = role.label(),
                        facing = %facing, outcome = outcome.label(), "dialback refused");
                }
            }
            Event::Admitted { pair, method, rule, after } => {
                m.stream_began(flow, hosted(flow, pair));
                m.negotiated(flow, Outcome::Allow, *after);
                if self.may_tell(meta) {
                    tracing::info!(flow = %flow, pair = %shown(pair), peer = %peer(meta), relay = %meta.id,
                        method = method.label(), rule = rule.as_str(), "pair admitted");
                }
            }
            Event::Rejected { record, after } => {
                m.negotiated(flow, Outcome::Deny, *after);
                self.told(meta, record, "pair rejected");
                self.audit_refusal(meta, "rejected", record);
            }
            Event::Ended { record } => {
                if let Some(pair) = &record.pair {
                    m.stream_ended(flow, hosted(flow, pair));
                    self.compare(meta, pair, record);
                }
                self.told(meta, record, "pair ended");
                self.audit(meta, "ended", record);
            }
            Event::Closed { record } => {
                self.told(meta, record, "stream closed");
                self.audit(meta, "closed", record);
            }
            Event::Passed { hosted, kind, octets } => m.passed(flow, hosted, *kind, 1, *octets as u64),
            Event::Refused { pair, hosted, reason } => {
                self.refused(meta, pair.as_ref(), hosted.as_ref(), *reason)
            }
            Event::StreamError { facing, said, condition } => {
                m.stream_error(flow, *facing, *said, *condition);
                if self.may_tell(meta) {
                    let words = match said {
                        Said::Received => "stream error received",
                        Said::Sent => "stream error sent",
                    };
                    tracing::info!(flow = %flow, peer = %peer(meta), relay = %meta.id, facing = %facing,
                        condition = condition.map_or("undefined-condition", StreamCondition::name), "{words}");
                }
            }
            Event::Backend { hosted, up } => {
                m.backend(hosted, flow, *up);
                let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
                let was = backends.insert((hosted.clone(), flow), *up);
                drop(backends);
                if !*up {
                    self.half_fit().retain(|(domain, _)| domain != hosted);
                }
                if *up && flow != Flow::C2s {
                    self.astray().remove(hosted);
                }
                // Told when it changes: each claim of a peer knocks anew, and peers must not write our log (LOG-05).
                match (was, *up) {
                    (None | Some(true), false) => {
                        // For the operator to act on: it is our own backend.
                        tracing::warn!(flow = %flow, domain = %hosted, relay = %meta.id, "backend not reached");
                    }
                    (Some(false), true) => {
                        tracing::info!(flow = %flow, domain = %hosted, relay = %meta.id, "backend reached again");
                    }
                    _ => tracing::debug!(flow = %flow, domain = %hosted, relay = %meta.id, up, "backend"),
                }
            }
            Event::Login { hosted, mechanism, outcome, reason, .. } => {
                m.logged_in(hosted, mechanism.map_or("other", Mechanism::label), *outcome);
                if self.may_tell(meta) {
                    tracing::info!(flow = %flow, domain = %hosted, peer = %peer(meta), relay = %meta.id,
                        mechanism = mechanism.map_or("other", Mechanism::label), outcome = outcome.label(),
                        reason = reason.label(), "login");
                }
            }
            Event::Bound { hosted, after } => {
                m.stream_began(flow, hosted);
                m.negotiated(flow, Outcome::Allow, *after);
            }
            Event::Left { hosted, record } => {
                m.stream_ended(flow, hosted);
                self.told(meta, record, "client left");
                self.audit(meta, "ended", record);
            }
            Event::Misfit { hosted, reason: reason @ Reason::BackendAsksElsewhere } => {
                // Told once until a pair stands there: peers must not write our log (LOG-05).
                if self.astray().insert(hosted.clone()) {
                    tracing::error!(flow = %flow, domain = %hosted, relay = %meta.id, reason = reason.label(),
                        "no remote server is believed: {}", reason.words());
                }
            }
            Event::Misfit {
                hosted,
                reason: reason @ (Reason::BackendOffersBinding | Reason::BackendSignsOffer),
            } => {
                // Told once until the backend was away: each client that comes shows it anew (LOG-05).
                if self.half_fit().insert((hosted.clone(), *reason)) {
                    tracing::warn!(flow = %flow, domain = %hosted, relay = %meta.id, reason = reason.label(),
                        "some clients cannot log in: {}", reason.words());
                }
            }
            // Each client that comes shows it anew, and strangers must not write our log (LOG-05).
            Event::Misfit { hosted, reason } if self.has_room(meta.peer.map(|p| Network::of(p.ip()))) => {
                let who = if *reason == Reason::ForeignAddress { "a client cannot" } else { "no client can" };
                tracing::error!(flow = %flow, domain = %hosted, relay = %meta.id, reason = reason.label(),
                    "{who} log in: {}", reason.words());
            }
            Event::Misfit { .. } => {}
        }
    }

    /// A connection was ended at this door before a stream began.
    pub fn kept_out(&self, door: Door, peer: SocketAddr, reason: Reason) {
        self.metrics.kept_out(door, reason);
        match reason {
            // Whoever only looks whether somebody listens has done nothing wrong; load balancers do it all day.
            Reason::ConnectionLost => {
                tracing::debug!(listener = door.label(), %peer, reason = reason.label(), "connection gone");
            }
            reason if room(reason).is_some() => self.turned_away(Some(peer), reason),
            reason if self.may_tell_of(Some(Network::of(peer.ip()))) => {
                tracing::info!(listener = door.label(), %peer, reason = reason.label(), "connection refused");
            }
            _ => {}
        }
    }

    /// Somebody was turned away for want of room: at the door, or later when it held too much.
    pub fn turned_away(&self, peer: Option<SocketAddr>, reason: Reason) {
        let Some(limit) = room(reason) else { return };
        self.metrics.limited(limit);
        // Whoever meets a ceiling for all comes from anywhere: no network is told apart.
        let network = match limit {
            Limit::Attempts | Limit::Connections => peer.map(|p| Network::of(p.ip())),
            _ => None,
        };
        if self.may_tell_of(network) {
            let peer = peer.map_or_else(|| "none".to_owned(), |p| p.to_string());
            tracing::info!(%peer, limit = limit.label(), reason = reason.label(), "turned away");
        }
    }

    fn half_fit(&self) -> MutexGuard<'_, HashSet<(Domain, Reason)>> {
        self.half_fit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn astray(&self) -> MutexGuard<'_, HashSet<Domain>> {
        self.astray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, meta: &Meta, pair: Option<&Pair>, hosted: Option<&Domain>, reason: Reason) {
        self.metrics.refused(meta.flow, hosted, reason);
        let shown = pair.map(shown).unwrap_or_default();
        if self.may_tell(meta) {
            tracing::info!(flow = %meta.flow, pair = %shown, peer = %peer(meta), relay = %meta.id,
                reason = reason.label(), "stanza refused");
        }
        let record = Record { pair: pair.cloned(), ..Record::of(None, reason) };
        self.audit_refusal(meta, "refused", &record);
    }

    fn told(&self, meta: &Meta, record: &Record, words: &'static str) {
        if self.may_tell(meta) {
            tracing::info!(flow = %meta.flow, pair = %record.pair.as_ref().map(shown).unwrap_or_default(),
                peer = %peer(meta), relay = %meta.id, reason = record.reason.label(),
                cause = record.detail.as_ref().map(tracing::field::display),
                rule = record.rule.as_ref().map_or("", |r| r.as_str()), tls = tls(record.tls),
                suite = record.suite.unwrap_or("none"), method = record.method.map_or("none", Method::label),
                revocation = record.revocation.map_or("none", RevocationCheck::label), stanzas = record.stanzas,
                octets = record.octets, "{words}");
        }
    }

    /// LOG-06: an operator is told when a peer's certificate or way of proof changes.
    fn compare(&self, meta: &Meta, pair: &Pair, record: &Record) {
        let Some(method) = record.method.filter(|m| *m != Method::Backend) else { return };
        let remote = match meta.flow {
            Flow::S2sOut => &pair.target,
            Flow::C2s | Flow::S2sIn => &pair.sender,
        };
        let proven = Proven { method, fingerprint: record.fingerprint.clone() };
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.len() >= PROOFS && !proofs.contains_key(remote) {
            proofs.clear();
        }
        let old = proofs.insert(remote.clone(), proven.clone());
        drop(proofs);
        if let Some(old) = old.filter(|old| *old != proven) {
            tracing::info!(domain = %capped(remote.as_str()), relay = %meta.id, was = old.method.label(),
                is = proven.method.label(), was_certificate = old.fingerprint.as_deref().unwrap_or("none"),
                is_certificate = proven.fingerprint.as_deref().unwrap_or("none"), "a peer proves itself in another way");
        }
    }

    fn may_tell(&self, meta: &Meta) -> bool {
        self.may_tell_of(meta.peer.map(|p| Network::of(p.ip())))
    }

    fn may_tell_of(&self, network: Option<Network>) -> bool {
        // What nobody listens to need not be counted against the network.
        tracing::enabled!(tracing::Level::INFO) && self.has_room(network)
    }

    fn has_room(&self, network: Option<Network>) -> bool {
        if !self.lines.admits(&network, now()) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        if suppressed > 0 {
            tracing::info!(lines = suppressed, "lines were left out: too many from one network");
        }
        true
    }

    /// A record that costs a peer nothing to cause: so many from one network, lest it fill the disk.
    fn audit_refusal(&self, meta: &Meta, event: &'static str, record: &Record) {
        if self.audit_log().is_none() {
            return;
        }
        match self.refusals.admits(&meta.peer.map(|p| Network::of(p.ip())), now()) {
            true => self.audit(meta, event, record),
            false => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn tell_left_out(&self, audit: &Audit) {
        let records = self.left_out.swap(0, Ordering::Relaxed);
        if records > 0 {
            audit.left_out(records);
        }
    }

    fn audit(&self, meta: &Meta, event: &'static str, record: &Record) {
        let Some(audit) = self.audit_log() else { return };
        self.tell_left_out(&audit);
        let pair = record.pair.as_ref().map(shown);
        let ascii = record.pair.as_ref().map(|p| format!("{}>{}", p.sender.to_ascii(), p.target.to_ascii()));
        let line = Line {
            time: jiff::Timestamp::now().to_string(),
            stream: meta.id.to_string(),
            event,
            flow: meta.flow.label(),
            pair_ascii: ascii.filter(|a| Some(a) != pair.as_ref()),
            pair,
            peer: meta.peer.map(|p| p.to_string()),
            tls: record.tls.map(|t| tls(Some(t))),
            suite: record.suite,
            proof: record.method.map(Method::label),
            fingerprint: record.fingerprint.as_deref(),
            revocation: record.revocation.map(RevocationCheck::label),
            rule: record.rule.as_ref().map(|r| r.as_str()),
            reason: record.reason.label(),
            cause: record.detail.as_ref().map(ToString::to_string),
            stanzas: record.stanzas,
            octets: record.octets,
        };
        match serde_json::to_string(&line) {
            Ok(line) => audit.record(line),
            Err(_) => self.metrics.audit_lost(1),
        }
    }
}

/// An audit record as it is written; keys in this order.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    stream: String,
    event: &'static str,
    flow: &'static str,
    pair: Option<String>,
    /// With A-labels, where they differ: look-alike domains must be told apart (JID-09).
    #[serde(skip_serializing_if = "Option::is_none")]
    pair_ascii: Option<String>,
    peer: Option<String>,
    tls: Option<&'static str>,
    suite: Option<&'static str>,
    proof: Option<&'static str>,
    fingerprint: Option<&'a str>,
    revocation: Option<&'static str>,
    rule: Option<&'a str>,
    reason: &'static str,
    /// What lies behind the reason, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    stanzas: u64,
    octets: u64,
}

/// A peer's own words as a value: without control characters, and not longer than a domain can be.
pub fn capped(words: &str) -> String {
    let mut out = String::new();
    for c in words.chars().take(CAP) {
        match c {
            // Also those that change the direction of what follows, so that a line cannot be made to read otherwise.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => {
                let _infallible = write!(out, "{}", c.escape_unicode());
            }
            c if c.is_control() || c == '\\' || c == '"' => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    if words.chars().nth(CAP).is_some() {
        out.push('…');
    }
    out
}

/// What there is no room in, if that is why.
fn room(reason: Reason) -> Option<Limit> {
    match reason {
        Reason::Overload => Some(Limit::Total),
        Reason::StrangersMemory => Some(Limit::Memory),
        Reason::TooManyAttempts => Some(Limit::Attempts),
        Reason::TooManyConnections => Some(Limit::Connections),
        Reason::TooManyHandshakes => Some(Limit::Handshakes),
        Reason::TooManyStrangers => Some(Limit::Unproven),
        _ => None,
    }
}

fn shown(pair: &Pair) -> String {
    format!("{}>{}", capped(pair.sender.as_str()), capped(pair.target.as_str()))
}

fn peer(meta: &Meta) -> String {
    meta.peer.map_or_else(|| "none".to_owned(), |p| p.to_string())
}

fn hosted(flow: Flow, pair: &Pair) -> &Domain {
    match flow {
        Flow::S2sOut => &pair.sender,
        Flow::C2s | Flow::S2sIn => &pair.target,
    }
}

fn tls(version: Option<TlsVersion>) -> &'static str {
    version.map_or("none", TlsVersion::label)
}

/// Lines that one network can cause in a minute.
const LINES: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);

/// Records of refusals that one network can cause in a minute.
const REFUSALS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599);

/// Characters of a peer's word that are shown.
const CAP: usize = 253;

/// Domains whose last proof is remembered.
const PROOFS: usize = 10_000;

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
