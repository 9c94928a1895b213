//! Lists that somebody else keeps: how much is on them, and which of their files are not taken.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::maker::Maker;
use crate::policy::Held;

/// Lists that somebody else keeps.
#[derive(Debug)]
pub(super) struct Lists {
    domains: IntGaugeVec,
    held: IntGaugeVec,
    fetches: IntCounterVec,
}

impl Lists {
    pub(super) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        Ok(Self {
            domains: make.gauges(
                "list_domains",
                "Domains, or digests, that the list in force names.",
                &["list"],
            )?,
            held: make.gauges(
                "list_held",
                "Whether the file of a list is not taken, and why: then what was read before is in force.",
                &["list", "reason"],
            )?,
            fetches: make.counters(
                "list_fetches_total",
                "Lists that were fetched: changed, unchanged, or failed.",
                &["list", "outcome"],
            )?,
        })
    }

    pub(super) fn fetched(&self, list: &str, outcome: &str) {
        self.fetches.with_label_values(&[list, outcome]).inc();
    }

    pub(super) fn show(&self, lists: &crate::policy::Lists) {
        self.domains.reset();
        self.held.reset();
        for slot in lists.iter() {
            let name = slot.list.name();
            let count = i64::try_from(slot.list.len()).unwrap_or(i64::MAX);
            self.domains.with_label_values(&[name]).set(count);
            for held in Held::ALL {
                let is = i64::from(slot.held == Some(*held));
                self.held.with_label_values(&[name, held.label()]).set(is);
            }
        }
    }
}
