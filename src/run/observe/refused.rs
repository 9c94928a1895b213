//! What was refused, told once: one line, one entry of the list, whatever follows from it.

use std::net::SocketAddr;

use super::super::event_context::{Around, Before};
use super::super::refusals::RefusalRecord;
use super::super::registry::Meta;
use super::super::{Failure, now};
use super::line::{AtDoor, names, pair_of};
use super::{Observe, address, capped, peer, peer_of, shown};
use crate::jid::Domain;
use crate::limit::Network;
use crate::metrics::{Door, Limit};
use crate::reason::{Class, Detail, Flow, Reason, Room};
use crate::relay::Record;
use crate::stream::{Method, Pair};

impl Observe {
    /// A connection was ended at this door before a stream began.
    pub fn kept_out(&self, door: Door, peer: SocketAddr, failure: impl Into<Failure>) {
        let Failure { reason, detail, .. } = failure.into();
        self.metrics.kept_out(door, reason);
        if door == Door::Inside {
            self.seeking.came(peer.ip());
        }
        // Whoever only looks whether somebody listens has done nothing wrong; load balancers do it all day.
        if reason == Reason::ConnectionLost {
            tracing::debug!(listener = door.label(), %peer, reason = reason.label(), "connection gone");
            return;
        }
        let around = Around { detail: detail.map(|detail| *detail), ..Around::default() };
        let known = RefusalRecord {
            peer: Some(peer.to_string()),
            ..refusal("connection", door.label(), reason, &around)
        };
        self.keep(known);
        if room(reason).is_some() {
            return self.turned_away(Some(peer), reason);
        }
        // A log that cannot be written is not written of in itself.
        if reason != Reason::AuditFull && self.may_record(Some(Network::of(peer.ip()))) {
            self.act(&AtDoor::new(door, peer, reason, around.detail.as_ref()));
        }
        if self.budget.may_log_refusal(Some(Network::of(peer.ip()))) {
            let remedy = remedy(reason, around.detail.as_ref());
            let detail = around.detail.as_ref();
            // For the operator to act on: only an address of ours should come there at all.
            if door == Door::Inside && reason == Reason::NotFromHere {
                tracing::warn!(listener = door.label(), %peer, reason = reason.label(), remedy,
                    "somebody comes to the inside listener from elsewhere");
            } else {
                tracing::info!(listener = door.label(), %peer, reason = reason.label(),
                    cause = detail.map(|detail| detail.cause.label()), detail = detail.map(tracing::field::display),
                    remedy, "connection refused");
            }
        }
    }

    /// An answer of the gateway's own, to a stanza that was refused, goes nowhere (LIM-09): it is counted, and told once a minute. The
    /// stanza that it is about was told.
    pub fn unanswered(&self, (flow, hosted, remote): (Flow, &Domain, &Domain), reason: Reason) {
        self.metrics.refused(flow, Some(hosted), reason);
        if self.limits.admits(&(None, Limit::Carried), now()) {
            tracing::warn!(flow = %flow, domain = %hosted, %remote, reason = reason.label(),
                "answers to refused stanzas are dropped: more of them are due than may go out; told once a minute");
        }
    }

    /// Somebody was turned away for want of room: at the door, or later when it held too much.
    pub fn turned_away(&self, peer: Option<SocketAddr>, reason: Reason) {
        let Some(limit) = room(reason) else { return };
        self.metrics.limited(limit);
        // Whoever meets a ceiling for all comes from anywhere: no network is told apart.
        let network = match limit {
            Limit::Attempts | Limit::Clients | Limit::Connections => peer.map(|p| Network::of(p.ip())),
            Limit::DomainConnections
            | Limit::DomainPairs
            | Limit::Servers
            | Limit::Streams
            | Limit::Unproven => peer.map(|p| Network::of(p.ip()).around()),
            _ => None,
        };
        if self.limits.admits(&(network, limit), now()) && self.budget.may_log_refusal(network) {
            let peer = peer.map_or_else(|| "none".to_owned(), |p| p.to_string());
            tracing::info!(%peer, limit = limit.label(), reason = reason.label(), key = reason.limit(),
                "turned away; told once a minute for a network");
        }
    }

    /// One line, one entry and one record for what was refused, in whatever other events it shows.
    pub(super) fn refusal(
        &self,
        meta: &Meta,
        (what, audited): (&str, &'static str),
        record: &Record,
        around: &Around,
        words: &'static str,
    ) {
        match around.before {
            Before::News => {
                self.report_refusal(meta, what, record, around, words);
                // A backend's use of a name of another one has a record of its own.
                if record.reason != Reason::OtherBackend {
                    self.audit_refusal(meta, audited, record, around);
                }
                return;
            }
            Before::Again => self.keep(entry(meta, what, record, around)),
            Before::Follows => {}
        }
        tracing::debug!(flow = %meta.flow, pair = %record.pair.as_ref().map(shown).unwrap_or_default(),
            relay = %meta.id, reason = record.reason.label(), "{words}, as told before");
    }

    /// One line and one entry.
    pub(super) fn report_refusal(
        &self,
        meta: &Meta,
        what: &str,
        record: &Record,
        around: &Around,
        words: &'static str,
    ) {
        let (reason, detail) = (record.reason, around.detail.as_ref());
        let entry = entry(meta, what, record, around);
        // A name that a backend may not use has a line of its own, with the remedy.
        if !reason.is(Class::Misnamed) && self.budget.may_log_refusal(meta.peer.map(|p| Network::of(p.ip())))
        {
            tracing::info!(flow = %meta.flow, pair = %pair_of(record).unwrap_or_default(),
                peer = %peer_of(meta, around, record.pair.as_ref()), relay = %meta.id, reason = reason.label(),
                cause = detail.map(|detail| detail.cause.label()), detail = detail.map(tracing::field::display),
                rule = record.rule.as_ref().map(|rule| rule.as_str()), at = entry.place, nearest = entry.nearest,
                limit = reason.limit(), method = record.method.map(Method::label), remedy = entry.remedy, "{words}");
        }
        self.keep(entry);
    }

    /// DB-62: a backend uses a name that it may not use. The remedy is a line in the configuration; where the name is another
    /// backend's there is a record, too.
    pub(super) fn misnamed(
        &self,
        meta: &Meta,
        name: &Domain,
        reason: Reason,
        via: Option<&Domain>,
        around: &Around,
    ) {
        if !self.misnamed.is_due(name, reason, via, now()) {
            return;
        }
        let (shown, backend) = (capped(name.as_str()), via.map_or("unknown", Domain::as_str));
        if reason == Reason::OtherBackend {
            tracing::error!(domain = %shown, %backend, peer = %peer(meta, around), relay = %meta.id, reason = reason.label(),
                "ALARM: a backend speaks for a domain of another backend; nothing of it passes");
            let pair = via.map(|via| Pair { sender: name.clone(), target: via.clone() });
            self.audit(meta, "misnamed", &Record { pair, ..Record::of(None, reason) }, around);
        } else {
            tracing::warn!(domain = %shown, %backend, peer = %peer(meta, around), relay = %meta.id, reason = reason.label(),
                "a backend uses a domain that is not configured, and nothing of it passes: add `- name: {shown}` under \
                 `domains:`, with a certificate and the same backend");
        }
    }
    pub(super) fn keep(&self, refusal: RefusalRecord) {
        self.ring.add(RefusalRecord { time: jiff::Timestamp::now().to_string(), ..refusal });
    }
}

/// The entry of the list.
fn entry(meta: &Meta, what: &str, record: &Record, around: &Around) -> RefusalRecord {
    let (from, to) = names(record);
    RefusalRecord {
        from,
        to,
        peer: address(meta, around).map(|peer| peer.to_string()),
        rule: record.rule.as_ref().map(|rule| rule.as_str().to_owned()),
        stream: Some(meta.id.to_string()),
        ..refusal(what, meta.flow.label(), record.reason, around)
    }
}

/// What is known of a refusal before who it concerns.
pub(super) fn refusal(what: &str, flow: &str, reason: Reason, around: &Around) -> RefusalRecord {
    RefusalRecord {
        what: what.to_owned(),
        flow: flow.to_owned(),
        reason: reason.label().to_owned(),
        words: reason.words().to_owned(),
        cause: around.detail.as_ref().map(|detail| detail.cause.label().to_owned()),
        detail: around.detail.as_ref().map(Detail::to_string),
        place: around.place.as_ref().map(ToString::to_string),
        nearest: around.nearest.clone(),
        limit: reason.limit().map(str::to_owned),
        remedy: remedy(reason, around.detail.as_ref()).to_owned(),
        ..RefusalRecord::default()
    }
}

/// What to do: by the cause where it is known, else by the reason.
fn remedy(reason: Reason, detail: Option<&Detail>) -> &'static str {
    let Some(detail) = detail else { return reason.remedy() };
    // Its operators are whoever reads this.
    if reason == Reason::BackendFault && detail.asks_for_tls() {
        return Reason::BackendWantsTls.remedy();
    }
    if reason.is(Class::Backend) { reason.remedy() } else { detail.cause.remedy() }
}

/// What there is no room in, if that is why.
pub(super) fn room(reason: Reason) -> Option<Limit> {
    Some(match reason.room()? {
        Room::Attempts => Limit::Attempts,
        Room::Clients => Limit::Clients,
        Room::Connections => Limit::Connections,
        Room::DomainConnections => Limit::DomainConnections,
        Room::DomainPairs => Limit::DomainPairs,
        Room::Handshakes => Limit::Handshakes,
        Room::Memory => Limit::Memory,
        Room::Servers => Limit::Servers,
        Room::Streams => Limit::Streams,
        Room::Total => Limit::Total,
        Room::Unproven => Limit::Unproven,
    })
}
