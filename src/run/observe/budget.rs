//! How many lines a network may cause in the log: peers must not write it (LOG-05).

use std::sync::atomic::Ordering;

use super::super::now;
use super::super::registry::Meta;
use super::Observe;
use crate::limit::{Network, Throttle};

impl Observe {
    pub(super) fn may_tell(&self, meta: &Meta) -> bool {
        self.may_tell_of(meta.peer.map(|p| Network::of(p.ip())))
    }

    pub(super) fn may_tell_of(&self, network: Option<Network>) -> bool {
        // What nobody listens to need not be counted against the network.
        tracing::enabled!(tracing::Level::INFO) && self.has_room(network)
    }

    pub(super) fn may_tell_refusal(&self, network: Option<Network>) -> bool {
        tracing::enabled!(tracing::Level::INFO) && self.is_within(&self.refusal_lines, network)
    }

    /// Whether one more record of a refusal is written; one that is not is counted.
    pub(super) fn may_record(&self, network: Option<Network>) -> bool {
        let Some(audit) = self.audit_log() else { return false };
        let admits = self.refusals.admits(&network, now());
        match admits {
            true => self.tell_left_out(&audit),
            false => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        admits
    }

    pub(super) fn has_room(&self, network: Option<Network>) -> bool {
        self.is_within(&self.lines, network)
    }

    pub(super) fn is_within(&self, budget: &Throttle<Option<Network>>, network: Option<Network>) -> bool {
        if !budget.admits(&network, now()) {
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
