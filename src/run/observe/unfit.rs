//! A stanza that was refused for what it is: which limit, how large, and whose (XML-17, JID-06).

use super::*;

impl Observe {
    pub(super) fn half_fit(&self) -> MutexGuard<'_, HashSet<(Domain, Reason)>> {
        self.half_fit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the backend of this domain is known to look for others elsewhere.
    pub fn is_astray(&self, hosted: &Domain) -> bool {
        self.astray().contains(hosted)
    }

    pub(super) fn astray(&self) -> MutexGuard<'_, HashSet<Domain>> {
        self.astray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells [`Event::Unfit`].
    pub(super) fn unfit(&self, meta: &Meta, event: &Event, around: &Around) {
        let Event::Unfit { pair, hosted, reason, address, measure, octets } = event else { return };
        self.metrics.refused(meta.flow, hosted.as_ref(), *reason);
        let record = Record { pair: pair.clone(), ..Record::of(None, *reason) };
        let whose = address.as_deref().map(capped);
        let (most, found) = (measure.map(|(most, _)| most), measure.map(|(_, found)| found));
        let detail = match (most, found) {
            (Some(most), Some(found)) => format!("{found}, and {most} is the most; {octets} octets in all"),
            _ => format!("{octets} octets in all"),
        };
        let detail = whose.iter().cloned().chain([detail]).collect::<Vec<_>>().join(": ");
        let entry = Refusal {
            from: pair.as_ref().map(|pair| capped(pair.sender.as_str())),
            to: pair.as_ref().map(|pair| capped(pair.target.as_str())),
            peer: super::address(meta, around).map(|peer| peer.to_string()),
            stream: Some(meta.id.to_string()),
            detail: Some(detail),
            ..refusal("stanza", meta.flow.label(), *reason, around)
        };
        if self.may_tell_refusal(meta.peer.map(|p| Network::of(p.ip()))) {
            tracing::info!(flow = %meta.flow, pair = %pair.as_ref().map(shown).unwrap_or_default(),
                peer = %peer(meta, around), relay = %meta.id, reason = reason.label(), address = whose, most, found,
                octets, limit = reason.limit(), remedy = entry.remedy, "stanza refused");
        }
        self.keep(entry);
        self.audit_refusal(meta, "refused", &record, around);
    }
}
