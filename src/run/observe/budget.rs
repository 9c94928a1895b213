//! How many lines and records a network may cause: peers must not write the log (LOG-05), nor fill the disk.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::super::audit::Audit;
use super::super::now;
use super::super::registry::Meta;
use crate::limit::{Network, Quota, Throttle};
use crate::metrics::Metrics;

/// What each network has left, and what was left out for want of it.
#[derive(Debug)]
pub(super) struct Budget {
    metrics: Arc<Metrics>,
    lines: Throttle<Option<Network>>,
    /// Lines about refusals have a budget of their own: nothing else may use it up.
    refusal_lines: Throttle<Option<Network>>,
    /// Lines that were left out, and are not told of yet.
    suppressed: AtomicU64,
    /// Records of refusals.
    records: Throttle<Option<Network>>,
    /// Records of refusals that the audit log does not hold, and does not tell of yet.
    left_out: AtomicU64,
}

impl Budget {
    /// All of it is left.
    pub(super) fn new(metrics: Arc<Metrics>, now: Instant) -> Self {
        Self {
            metrics,
            lines: Throttle::new(Quota::per_minute(LINES), now),
            refusal_lines: Throttle::new(Quota::per_minute(LINES), now),
            suppressed: AtomicU64::new(0),
            records: Throttle::new(Quota::per_minute(RECORDS), now),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether one more line about this relay is written.
    pub(super) fn may_log(&self, meta: &Meta) -> bool {
        // What nobody listens to need not be counted against the network.
        tracing::enabled!(tracing::Level::INFO) && self.has_room(meta.peer.map(|p| Network::of(p.ip())))
    }

    /// Whether one more line about a refusal is written.
    pub(super) fn may_log_refusal(&self, network: Option<Network>) -> bool {
        tracing::enabled!(tracing::Level::INFO) && self.is_within(&self.refusal_lines, network)
    }

    /// Whether this network may cause one more line, whoever listens.
    pub(super) fn has_room(&self, network: Option<Network>) -> bool {
        self.is_within(&self.lines, network)
    }

    /// Whether one more record of a refusal is written; one that is not is counted.
    pub(super) fn may_record(&self, network: Option<Network>, audit: &Audit) -> bool {
        let admits = self.records.admits(&network, now());
        match admits {
            true => self.log_left_out(audit),
            false => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        admits
    }

    /// The audit log tells of the records that it does not hold.
    pub(super) fn log_left_out(&self, audit: &Audit) {
        let records = self.left_out.swap(0, Ordering::Relaxed);
        if records > 0 {
            audit.left_out(records);
        }
    }

    fn is_within(&self, lines: &Throttle<Option<Network>>, network: Option<Network>) -> bool {
        if !lines.admits(&network, now()) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            self.metrics.log_left_out();
            return false;
        }
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        if suppressed > 0 {
            tracing::info!(lines = suppressed, "lines were left out: too many from one network");
        }
        true
    }
}

/// Lines that one network can cause in a minute.
const LINES: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);

/// Records of refusals that one network can cause in a minute.
pub(super) const RECORDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599);
