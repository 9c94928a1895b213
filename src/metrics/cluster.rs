//! What nodes of one domain do for each other, and where they do not agree.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::Metrics;
use super::maker::Maker;
use crate::reason::Facing;

/// The families of several nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    vouched_for_others: IntCounterVec,
    astray: IntCounterVec,
    /// These have no series where no store is shared.
    nodes: IntGaugeVec,
    store_up: IntGaugeVec,
    mismatch: IntGaugeVec,
}

/// In what nodes may differ that should be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mismatch {
    /// The time.
    Clock,
    /// What the configuration says beside addresses.
    Config,
    /// The policy.
    Policy,
    /// The secrets of dialback.
    Secrets,
    /// The version.
    Version,
}

impl Mismatch {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Mismatch] =
        &[Self::Clock, Self::Config, Self::Policy, Self::Secrets, Self::Version];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Config => "config",
            Self::Policy => "policy",
            Self::Secrets => "secrets",
            Self::Version => "version",
        }
    }
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
            nodes: make.gauges("cluster_nodes", "Nodes that share the store, as this one sees them, itself included.", &[])?,
            store_up: make.gauges("cluster_store_up", "Whether the store that nodes share does what it is asked.", &[])?,
            mismatch: make.gauges(
                "cluster_mismatch",
                "Whether another node differs from this one in what should be the same.",
                &["what"],
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

    /// The store that nodes share does what it is asked, or does not.
    pub fn cluster_store(&self, up: bool) {
        self.cluster.store_up.with_label_values(&[] as &[&str]).set(i64::from(up));
    }

    /// So many nodes share it, and some differ in these.
    pub fn cluster_nodes(&self, nodes: usize, differ: &[Mismatch]) {
        self.cluster.nodes.with_label_values(&[] as &[&str]).set(i64::try_from(nodes).unwrap_or(i64::MAX));
        for what in Mismatch::ALL {
            self.cluster.mismatch.with_label_values(&[what.label()]).set(i64::from(differ.contains(what)));
        }
    }

    /// A key of a node that shares the secret bears a time that is not ours.
    pub fn key_astray(&self, facing: Facing) {
        self.cluster.astray.with_label_values(&[facing.label()]).inc();
    }
}
