//! What nodes of one domain do for each other, and where they do not agree.

use super::Metrics;
use crate::reason::Facing;

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

impl Metrics {
    /// A key that another node made was vouched for here.
    pub fn vouched_for_another(&self, facing: Facing) {
        self.all.vouched_for_others.with_label_values(&[facing.label()]).inc();
    }

    /// The store that nodes share does what it is asked, or does not.
    pub fn cluster_store(&self, up: bool) {
        self.all.cluster_store_up.with_label_values(&[] as &[&str]).set(i64::from(up));
    }

    /// So many nodes share it, and some differ in these.
    pub fn cluster_nodes(&self, nodes: usize, differ: &[Mismatch]) {
        self.all
            .cluster_nodes
            .with_label_values(&[] as &[&str])
            .set(i64::try_from(nodes).unwrap_or(i64::MAX));
        for what in Mismatch::ALL {
            self.all
                .cluster_mismatch
                .with_label_values(&[what.label()])
                .set(i64::from(differ.contains(what)));
        }
    }

    /// A key of a node that shares the secret bears a time that is not ours.
    pub fn key_astray(&self, facing: Facing) {
        self.all.keys_astray.with_label_values(&[facing.label()]).inc();
    }
}
