//! What nodes of one domain do for each other, and where they do not agree.

use prometheus::IntCounterVec;

use super::Metrics;
use super::maker::Maker;
use crate::reason::Facing;

/// The families of several nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    vouched_for_others: IntCounterVec,
    astray: IntCounterVec,
}

impl Cluster {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        let made = Self {
            vouched_for_others: make.counters(
                "dialback_vouched_for_others_total",
                "Dialback keys of other nodes that share the secret, vouched for here.",
                &["facing"],
            )?,
            astray: make.counters(
                "dialback_keys_astray_total",
                "Dialback keys of nodes that share the secret and whose clock is not ours, told invalid; one in ten seconds is looked at.",
                &["facing"],
            )?,
        };
        for facing in [Facing::Backend, Facing::Public] {
            made.vouched_for_others.with_label_values(&[facing.label()]);
            made.astray.with_label_values(&[facing.label()]);
        }
        Ok(made)
    }
}

impl Metrics {
    /// A key that another node made was vouched for here.
    pub fn vouched_for_another(&self, facing: Facing) {
        self.cluster.vouched_for_others.with_label_values(&[facing.label()]).inc();
    }

    /// A key of a node that shares the secret bears a time that is not ours.
    pub fn key_astray(&self, facing: Facing) {
        self.cluster.astray.with_label_values(&[facing.label()]).inc();
    }
}
