//! Stanzas that have passed, counted once for many: the metric is touched when something goes out or the domain changes, and not for
//! each stanza. Nothing is written before it is counted.

use crate::jid::Domain;
use crate::metrics::Metrics;
use crate::reason::Flow;
use crate::xml::Kind;

/// Stanzas of one hosted domain that have passed and are not counted yet.
#[derive(Debug, Default)]
pub(in crate::run) struct Passed {
    hosted: Option<Domain>,
    stanzas: [u64; KINDS.len()],
    octets: u64,
}

impl Passed {
    /// A stanza has passed.
    pub(in crate::run) fn add(
        &mut self,
        hosted: Domain,
        kind: Kind,
        octets: usize,
        flow: Flow,
        metrics: &Metrics,
    ) {
        if self.hosted.as_ref() != Some(&hosted) {
            self.count(flow, metrics);
            self.hosted = Some(hosted);
        }
        let at = KINDS.iter().position(|known| *known == kind);
        if let Some(stanzas) = at.and_then(|at| self.stanzas.get_mut(at)) {
            *stanzas += 1;
        }
        self.octets = self.octets.saturating_add(octets.try_into().unwrap_or(u64::MAX));
    }

    /// Counts what has passed.
    pub(super) fn count(&mut self, flow: Flow, metrics: &Metrics) {
        let Some(hosted) = self.hosted.take() else { return };
        let Self { stanzas, mut octets, .. } = std::mem::take(self);
        for (kind, count) in KINDS.into_iter().zip(stanzas).filter(|(_, count)| *count > 0) {
            let octets = std::mem::take(&mut octets);
            metrics.passed(flow, &hosted, kind, count, octets);
        }
    }
}

/// What stanzas are counted as.
const KINDS: [Kind; 4] = [Kind::Iq, Kind::Message, Kind::Presence, Kind::Other];
