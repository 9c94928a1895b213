//! A stanza that was refused for what it is: which limit, how large, and whose (XML-17, JID-06); and what the policy in the shadow
//! would have made of it.

use super::*;
use crate::metrics::ShadowChange;
use crate::policy::Verdict;

/// The record of a stanza that was refused, with what is known of its pair.
pub(super) fn record(pair: Option<&Pair>, reason: Reason, around: &Around) -> Record {
    let (pair, method, rule) = (pair.cloned(), around.method, around.rule.clone());
    Record { pair, method, rule, ..Record::of(around.channel.as_ref(), reason) }
}

impl Observe {
    /// How often and when each rule and case was used.
    pub fn used(&self) -> &Used {
        &self.used
    }

    /// What the policy in the shadow would have decided otherwise.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// What the policy in the shadow says of a pair.
    pub(super) fn beside(&self, flow: Flow, pair: &Pair, verdict: &Verdict) {
        if let Some(beside) = &verdict.beside {
            let change = self.shadow.judged(flow, pair, verdict, beside);
            self.metrics.shadow_judged(flow, hosted(flow, pair), beside, change);
        }
    }

    /// The policy in the shadow would have decided otherwise about a stanza.
    pub(super) fn otherwise(&self, flow: Flow, event: &Event) {
        let Event::Otherwise { pair, sender, rule, outcome, reason, beside, octets } = event else { return };
        let change = match outcome {
            Outcome::Allow | Outcome::Quarantine => ShadowChange::Refuses,
            Outcome::Deny => ShadowChange::Admits,
        };
        self.metrics.shadow_stanza(flow, Some(hosted(flow, pair)), change);
        let whose = sender.as_deref().map_or(Concerned::of_pair(beside), Concerned::Sender);
        self.shadow.stanza((flow, pair, whose), (*outcome, *reason), rule, beside, *octets);
    }

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
        let record = record(pair.as_ref(), *reason, around);
        let whose = address.as_deref().map(capped);
        let (most, found) = (measure.map(|(most, _)| most), measure.map(|(_, found)| found));
        let detail = match (most, found) {
            (Some(most), Some(found)) => format!("{found}, and {most} is the most; {octets} octets in all"),
            _ => format!("{octets} octets in all"),
        };
        let lists = around.detail.as_ref().map(ToString::to_string);
        let detail = whose.iter().cloned().chain(lists).chain([detail]).collect::<Vec<_>>().join(": ");
        let entry = RefusalRecord {
            from: pair.as_ref().map(|pair| capped(pair.sender.as_str())),
            to: pair.as_ref().map(|pair| capped(pair.target.as_str())),
            peer: super::address(meta, around).map(|peer| peer.to_string()),
            rule: record.rule.as_ref().map(|rule| rule.as_str().to_owned()),
            stream: Some(meta.id.to_string()),
            detail: Some(detail),
            ..refusal("stanza", meta.flow.label(), *reason, around)
        };
        if self.budget.may_log_refusal(meta.peer.map(|p| Network::of(p.ip()))) {
            tracing::info!(flow = %meta.flow, pair = %pair.as_ref().map(shown).unwrap_or_default(),
                peer = %peer_of(meta, around, pair.as_ref()), relay = %meta.id, reason = reason.label(), address = whose,
                most, found, octets, rule = entry.rule, at = entry.place, detail = around.detail.as_ref().map(tracing::field::display), limit = reason.limit(), remedy = entry.remedy, "stanza refused");
        }
        self.keep(entry);
        self.audit_refusal(meta, "refused", &record, around);
    }
}
