//! The numbers that the outside may watch: one field for each family, one method for each thing that moves it.
//!
//! Labels are values of our own enums, hosted domains and rule names, all from our own source or files; nothing that a
//! peer said can become a label (law `closed_words`). A domain that is not hosted is counted under `none`, so that
//! questions about unknown hosts do not grow the set either. Nothing here reads payload or influences traffic.

mod circuit;
mod cluster;
mod files;
mod limit;
mod lists;
mod maker;
mod process;
mod shadow;
mod table;

pub use circuit::CircuitState;
pub use cluster::Mismatch;
pub use files::Reload;
pub use limit::Limit;
pub use process::log_lost;
pub use shadow::ShadowChange;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{Encoder, IntCounter, Registry, TextEncoder};

use self::maker::Maker;
use self::table::Families;
use crate::jid::Domain;
use crate::policy::{Drift, RuleName};
use crate::reason::{Facing, Flow, Outcome, Reason, StreamCondition};
use crate::relay::{DialbackOutcome, ManagementOutcome, Role, Said, Stroke, Withheld};
use crate::stream::{Method, TlsVersion};
use crate::xml::Kind;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Every family of the gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What moves with each stanza is looked up once for each of these, not once for each stanza.
    hosted: papaya::HashMap<Domain, [Passed; Flow::ALL.len()]>,
    others: [Passed; Flow::ALL.len()],
    all: Families,
    lists: lists::Lists,
    process: process::Process,
    operators_bans: AtomicUsize,
    logins_bans: AtomicUsize,
}

impl Metrics {
    /// All families, with the hosted domains that may appear as labels.
    ///
    /// # Errors
    /// When a family is described wrongly: a fault of this file, seen by its first test.
    pub fn new(hosted: impl IntoIterator<Item = Domain>) -> Result<Self, prometheus::Error> {
        let make = Maker { registry: Registry::new_custom(Some("gatehouse".to_owned()), None)? };
        let build = make.gauges("build_info", "What is running; always 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            all: Families::new(&make)?,
            lists: lists::Lists::new(&make)?,
            process: process::Process::new()?,
            operators_bans: AtomicUsize::new(0),
            logins_bans: AtomicUsize::new(0),
            registry: make.registry,
            hosted: hosted.into_iter().map(|domain| (domain, Default::default())).collect(),
            others: Default::default(),
        };
        // A family that has never moved is shown as 0, so that a rate over it is 0 and not absent.
        for outcome in Reload::ALL {
            metrics.all.reloads.with_label_values(&[outcome.label()]);
            metrics.all.renewals.with_label_values(&[outcome.label()]);
        }
        for state in CircuitState::ALL {
            metrics.all.circuits.with_label_values(&[state.label()]);
        }
        for drift in Drift::ALL {
            metrics.all.peers_changed.with_label_values(&[drift.label()]);
        }
        for limit in Limit::ALL {
            metrics.all.limited.with_label_values(&[limit.label()]);
        }
        for flow in [Flow::S2sIn, Flow::S2sOut] {
            metrics.all.bidi_stanzas.with_label_values(&[flow.label()]);
        }
        for facing in Facing::ALL {
            metrics.all.vouched_for_others.with_label_values(&[facing.label()]);
            metrics.all.keys_astray.with_label_values(&[facing.label()]);
        }
        Ok(metrics)
    }

    /// This domain may appear as a label, too. One that is no longer hosted keeps its series.
    pub fn host(&self, domain: &Domain) {
        self.hosted.pin().get_or_insert_with(domain.clone(), Default::default);
    }

    /// This domain is hosted no longer: nobody is told of the end of its certificate. What was counted stays.
    pub fn unhost(&self, domain: &Domain) {
        for ends in [&self.all.certificate_not_after, &self.all.certificate_ends] {
            let _none = ends.remove_label_values(&[self.domain(domain)]);
        }
    }

    /// This of the proof of a remote domain is another than before.
    pub fn peer_changed(&self, what: &[Drift]) {
        what.iter().for_each(|drift| self.all.peers_changed.with_label_values(&[drift.label()]).inc());
    }

    /// So many pairs wait for an operator, and so many found no room.
    pub fn peers(&self, waiting: usize, left_out: u64) {
        self.all.peers_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.all.peers_left_out.set(i64::try_from(left_out).unwrap_or(i64::MAX));
    }

    /// A connection arrived at this door, and was let in or not.
    pub fn arrived(&self, door: Door, outcome: Outcome) {
        self.all.connections_total.with_label_values(&[door.label(), outcome.label()]).inc();
    }

    /// A connection was ended at this door before a stream began.
    pub fn kept_out(&self, door: Door, reason: Reason) {
        self.all.connections_refused.with_label_values(&[door.label(), reason.label()]).inc();
    }

    /// A connection is open at this door from now on.
    pub fn opened(&self, door: Door) {
        self.all.connections.with_label_values(&[door.label()]).inc();
    }

    /// A connection at this door has ended.
    pub fn closed(&self, door: Door) {
        self.all.connections.with_label_values(&[door.label()]).dec();
    }

    /// A TLS handshake ended; no version if it failed.
    pub fn handshake(&self, door: Door, version: Option<TlsVersion>) {
        let (version, outcome) = version.map_or(("none", "failed"), |v| (v.label(), "done"));
        self.all.tls_handshakes.with_label_values(&[door.label(), version, outcome]).inc();
    }

    /// A stanza that passes takes the way back on a stream between servers.
    pub fn went_back(&self, flow: Flow) {
        self.all.bidi_stanzas.with_label_values(&[flow.label()]).inc();
    }

    /// A proof of identity came out.
    pub fn authenticated(&self, flow: Flow, hosted: &Domain, method: Method, outcome: Outcome) {
        self.all
            .authentications
            .with_label_values(&[flow.label(), self.domain(hosted), method.label(), outcome.label()])
            .inc();
    }

    /// Policy was asked about a pair.
    pub fn judged(&self, flow: Flow, hosted: &Domain, rule: &RuleName, outcome: Outcome, reason: Reason) {
        self.all
            .verdicts
            .with_label_values(&[
                flow.label(),
                self.domain(hosted),
                rule.as_str(),
                outcome.label(),
                reason.label(),
            ])
            .inc();
    }

    /// A stanza met a patch.
    pub fn patched(&self, flow: Flow, patch: &RuleName, stroke: Stroke) {
        self.all.patch_hits.with_label_values(&[flow.label(), patch.as_str(), stroke.label()]).inc();
    }

    /// A rule kept a stanza inside, or a part of it.
    pub fn withheld(&self, hosted: &Domain, rule: &RuleName, what: Withheld) {
        self.all
            .stanzas_withheld
            .with_label_values(&[self.domain(hosted), rule.as_str(), what.label()])
            .inc();
    }

    /// Stream management came to this; of stanzas, so many.
    pub fn managed(&self, flow: Flow, what: ManagementOutcome, number: usize) {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        self.all.stream_management.with_label_values(&[flow.label(), what.label()]).inc_by(number);
    }

    /// A pair was admitted.
    pub fn stream_began(&self, flow: Flow, hosted: &Domain) {
        self.all.streams.with_label_values(&[flow.label(), self.domain(hosted)]).inc();
    }

    /// An admitted pair has ended.
    pub fn stream_ended(&self, flow: Flow, hosted: &Domain) {
        self.all.streams.with_label_values(&[flow.label(), self.domain(hosted)]).dec();
    }

    /// So many stanzas of a kind passed, with so many octets in all.
    pub fn passed(&self, flow: Flow, hosted: &Domain, kind: Kind, count: u64, octets: u64) {
        let all = self.hosted.pin();
        let known = all.get(hosted).unwrap_or(&self.others);
        let Some(passed) = Flow::ALL.iter().position(|f| *f == flow).and_then(|at| known.get(at)) else {
            return;
        };
        let (kind, stanzas) = match kind {
            Kind::Iq => ("iq", &passed.iq),
            Kind::Message => ("message", &passed.message),
            Kind::Presence => ("presence", &passed.presence),
            Kind::Other => ("other", &passed.other),
        };
        let domain = || self.domain(hosted);
        stanzas
            .get_or_init(|| self.all.stanzas.with_label_values(&[flow.label(), domain(), kind]))
            .inc_by(count);
        passed
            .octets
            .get_or_init(|| self.all.octets.with_label_values(&[flow.label(), domain()]))
            .inc_by(octets);
    }

    /// A stanza was refused.
    pub fn refused(&self, flow: Flow, hosted: Option<&Domain>, reason: Reason) {
        let domain = hosted.map_or(NONE, |d| self.domain(d));
        self.all.stanzas_refused.with_label_values(&[flow.label(), domain, reason.label()]).inc();
    }

    /// A stream error was sent or received; a condition that we do not know counts as `undefined-condition`.
    pub fn stream_error(&self, flow: Flow, facing: Facing, said: Said, condition: Option<StreamCondition>) {
        let direction = match said {
            Said::Received => "received",
            Said::Sent => "sent",
        };
        let condition = condition.map_or("undefined-condition", StreamCondition::name);
        self.all.stream_errors.with_label_values(&[flow.label(), facing.label(), direction, condition]).inc();
    }

    /// A dialback operation ended.
    pub fn dialback(&self, role: Role, facing: Facing, outcome: DialbackOutcome, after: Duration) {
        self.all.dialback.with_label_values(&[role.label(), facing.label(), outcome.label()]).inc();
        self.all.dialback_seconds.with_label_values(&[role.label()]).observe(after.as_secs_f64());
    }

    /// A limit was met.
    pub fn limited(&self, limit: Limit) {
        self.all.limited.with_label_values(&[limit.label()]).inc();
    }

    /// This long nothing moved because of a limit.
    pub fn waited(&self, limit: Limit, time: Duration) {
        self.all.limited_seconds.with_label_values(&[limit.label()]).inc_by(time.as_secs_f64());
    }

    /// So many refusals of logins are in force.
    pub fn bans(&self, count: usize) {
        self.logins_bans.store(count, Ordering::Relaxed);
        self.count_bans();
    }

    /// A remote domain stands otherwise than before; none: nothing is held against it.
    pub fn circuit(&self, before: Option<CircuitState>, after: Option<CircuitState>) {
        if before == after {
            return;
        }
        for (state, by) in [(before, -1), (after, 1)] {
            let Some(state) = state else { continue };
            self.all.circuits.with_label_values(&[state.label()]).add(by);
            if state != CircuitState::Failing {
                self.all.circuits_open.add(by);
            }
        }
    }

    /// A login came out; `mechanism` is a word of ours.
    pub fn logged_in(&self, hosted: &Domain, mechanism: &'static str, outcome: Outcome) {
        self.all
            .authentications
            .with_label_values(&[Flow::C2s.label(), self.domain(hosted), mechanism, outcome.label()])
            .inc();
    }

    /// A claim came to its end.
    pub fn negotiated(&self, flow: Flow, outcome: Outcome, after: Duration) {
        self.all
            .negotiation_seconds
            .with_label_values(&[flow.label(), outcome.label()])
            .observe(after.as_secs_f64());
    }

    /// The backend of this domain took a connection, or did not.
    pub fn backend(&self, hosted: &Domain, flow: Flow, up: bool) {
        self.all.backend_up.with_label_values(&[self.domain(hosted), flow.label()]).set(i64::from(up));
    }

    /// Nobody looks at the backend of this domain any more, which is neither up nor down.
    pub fn backend_gone(&self, hosted: &Domain, flow: Flow) {
        let _none = self.all.backend_up.remove_label_values(&[self.domain(hosted), flow.label()]);
    }

    /// So many streams of ours lead to the server of this domain, and so many wait to be opened.
    pub fn backend_streams(&self, hosted: &Domain, open: usize, waiting: usize) {
        for (state, count) in [("open", open), ("waiting", waiting)] {
            let gauge = self.all.backend_streams.with_label_values(&[self.domain(hosted), state]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Our certificate for this domain is valid until then.
    pub fn certificate(&self, hosted: &Domain, not_after: i64) {
        // Whole seconds of any date a certificate can name are exact in an f64.
        #[allow(clippy::cast_precision_loss)]
        let ends = not_after as f64;
        self.all.certificate_not_after.with_label_values(&[self.domain(hosted)]).set(ends);
        self.all.certificate_ends.with_label_values(&[self.domain(hosted)]).set(ends);
    }

    /// These rules hold until the end of these days, as Unix time, and no others have an end.
    pub fn rules<'a>(&self, ends: impl Iterator<Item = (&'a RuleName, i64)>) {
        self.all.rule_expires.reset();
        for (rule, end) in ends {
            // Whole seconds of any date are exact in an f64.
            #[allow(clippy::cast_precision_loss)]
            self.all.rule_expires.with_label_values(&[rule.as_str()]).set(end as f64);
        }
    }

    /// So many domains are in quarantine, were let out or were shut out.
    pub fn quarantined(&self, state: &str, count: usize) {
        self.all.quarantine.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// These lists are in force, and no others.
    pub fn lists(&self, lists: &crate::policy::Lists) {
        self.lists.show(lists);
    }

    /// A list was looked for where it is fetched from: `changed`, `unchanged` or `failed`.
    pub fn list_fetched(&self, list: &str, outcome: &str) {
        self.lists.fetched(list, outcome);
    }

    /// The limits that were met since the start, and how often.
    pub fn limits_met(&self) -> Vec<(&'static str, u64)> {
        let met = Limit::ALL
            .iter()
            .map(|limit| (limit.label(), self.all.limited.with_label_values(&[limit.label()]).get()));
        met.filter(|(_, times)| *times > 0).collect()
    }

    /// When the process began.
    pub fn started(&self) -> jiff::Timestamp {
        self.process.started()
    }

    /// The two readers disagree about an element; its stream ends.
    pub fn readers_disagree(&self) {
        self.all.readers_disagree.inc();
    }

    /// An audit record was written.
    pub fn audited(&self) {
        self.all.audit_records.inc();
    }

    /// An audit record was lost: no room on the disk, or none in the queue to it.
    pub fn audit_lost(&self, records: u64) {
        self.all.audit_lost.inc_by(records);
    }

    /// Audit records wait because the disk takes none, or no longer do.
    pub fn audit_failing(&self, failing: bool) {
        self.all.audit_failing.set(i64::from(failing));
    }

    /// A log line was left out: too many from one network.
    pub fn log_left_out(&self) {
        self.all.log_left_out.inc();
    }

    /// Whether this domain is hosted here, and may be a label.
    pub fn knows(&self, hosted: &Domain) -> bool {
        self.hosted.pin().contains_key(hosted)
    }

    /// So many bans of operators are in force.
    pub fn bans_by_operators(&self, count: usize) {
        self.operators_bans.store(count, Ordering::Relaxed);
        self.count_bans();
    }

    fn count_bans(&self) {
        let all = self.operators_bans.load(Ordering::Relaxed) + self.logins_bans.load(Ordering::Relaxed);
        self.all.bans.set(i64::try_from(all).unwrap_or(i64::MAX));
    }

    /// All families in Prometheus text format.
    ///
    /// # Errors
    /// When the encoder refuses a family; it cannot for those made here.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut octets = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut octets)?;
        TextEncoder::new().encode(&self.process.gather(), &mut octets)?;
        String::from_utf8(octets).map_err(|e| prometheus::Error::Msg(e.to_string()))
    }

    fn domain<'a>(&self, domain: &'a Domain) -> &'a str {
        if self.hosted.pin().contains_key(domain) { domain.as_str() } else { NONE }
    }
}

/// A listener, or the other way out: connections that we open have no listener and are counted under `outbound`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Door {
    /// Clients, TLS from the first octet.
    C2sDirect,
    /// Clients, STARTTLS.
    C2sStarttls,
    /// The plain listener for backends.
    Inside,
    /// Clients and remote servers, TLS from the first octet.
    Mixed,
    /// A connection that we opened.
    Outbound,
    /// Remote servers, TLS from the first octet.
    S2sDirect,
    /// Remote servers, STARTTLS.
    S2sStarttls,
    /// Clients over WebSocket.
    Websocket,
}

impl Door {
    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::C2sDirect => "c2s-direct",
            Self::C2sStarttls => "c2s-starttls",
            Self::Inside => "inside",
            Self::Mixed => "mixed",
            Self::Outbound => "outbound",
            Self::S2sDirect => "s2s-direct",
            Self::S2sStarttls => "s2s-starttls",
            Self::Websocket => "websocket",
        }
    }
}

/// The counters of stanzas that pass, of one flow and domain. Each is there from its first stanza on.
#[derive(Debug, Default)]
struct Passed {
    iq: OnceLock<IntCounter>,
    message: OnceLock<IntCounter>,
    other: OnceLock<IntCounter>,
    presence: OnceLock<IntCounter>,
    octets: OnceLock<IntCounter>,
}

/// The label of what is not hosted.
const NONE: &str = "none";

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
