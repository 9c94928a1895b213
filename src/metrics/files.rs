//! Which files are in force and in the shadow, whether others lie on the disk, and what came of taking those over.

use std::sync::{Mutex, PoisonError};

use prometheus::IntGaugeVec;

use super::{Metrics, NONE, ShadowChange};
use crate::jid::Domain;
use crate::policy::Beside;
use crate::reason::Flow;

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
        self.is_or_none(Some(digest));
    }

    pub(super) fn is_or_none(&self, digest: Option<&str>) {
        let mut held = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = held.take() {
            // The old digest may be the new one; the label comes back below.
            let _gone = self.family.remove_label_values(&[&old]);
        }
        if let Some(digest) = digest {
            self.family.with_label_values(&[digest]).set(1);
        }
        *held = digest.map(str::to_owned);
    }
}

impl Metrics {
    /// This policy is in the shadow now, and no other; none: no policy is.
    pub fn shadow(&self, digest: Option<&str>) {
        self.all.shadow_info.is_or_none(digest);
    }

    /// The policy in the shadow was asked about a pair.
    pub fn shadow_judged(&self, flow: Flow, hosted: &Domain, beside: &Beside, change: ShadowChange) {
        self.all
            .shadow_verdicts
            .with_label_values(&[
                flow.label(),
                self.domain(hosted),
                beside.rule.as_str(),
                beside.outcome.label(),
                beside.reason.label(),
                change.label(),
            ])
            .inc();
    }

    /// The policy in the shadow would have decided otherwise about a stanza.
    pub fn shadow_stanza(&self, flow: Flow, hosted: Option<&Domain>, change: ShadowChange) {
        let domain = hosted.map_or(NONE, |hosted| self.domain(hosted));
        self.all.shadow_stanzas.with_label_values(&[flow.label(), domain, change.label()]).inc();
    }

    /// So many rules expire within so many days.
    pub fn rules_expiring(&self, days: i64, rules: usize) {
        let gauge = self.all.rules_expiring.with_label_values(&[&days.to_string()]);
        gauge.set(i64::try_from(rules).unwrap_or(i64::MAX));
    }

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
