//! Which files are in force, whether others lie on the disk, and what came of taking those over.

use std::sync::{Mutex, PoisonError};

use prometheus::IntGaugeVec;

use super::Metrics;

/// How a reload or a renewal came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reload {
    /// The new state is in force.
    Applied,
    /// The old state was kept.
    Refused,
}

impl Reload {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Reload] = &[Self::Applied, Self::Refused];

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
        }
    }
}

/// A gauge of one series, which tells what is in force by its label.
#[derive(Debug)]
pub(super) struct InForce {
    family: IntGaugeVec,
    digest: Mutex<Option<String>>,
}

impl InForce {
    pub(super) fn new(family: IntGaugeVec) -> Self {
        Self { family, digest: Mutex::new(None) }
    }

    fn is(&self, digest: &str) {
        let mut held = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = held.take() {
            // The old digest may be the new one; the label comes back below.
            let _gone = self.family.remove_label_values(&[&old]);
        }
        self.family.with_label_values(&[digest]).set(1);
        *held = Some(digest.to_owned());
    }
}

impl Metrics {
    /// A reload ended.
    pub fn reloaded(&self, outcome: Reload) {
        self.all.reloads.with_label_values(&[outcome.label()]).inc();
    }

    /// A certificate, or what others are judged by, changed on the disk, and was taken over or not.
    pub fn renewed(&self, outcome: Reload) {
        self.all.renewals.with_label_values(&[outcome.label()]).inc();
    }

    /// This policy is in force now, and no other.
    pub fn policy(&self, digest: &str) {
        self.all.policy_info.is(digest);
    }

    /// This configuration is in force now, and no other.
    pub fn configuration(&self, digest: &str) {
        self.all.config_info.is(digest);
        self.all.config_stale.set(0);
    }

    /// Files differ from what is in force, or no longer do.
    pub fn stale(&self, stale: bool) {
        self.all.config_stale.set(i64::from(stale));
    }
}
