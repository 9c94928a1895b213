//! The servers behind: whether they are reached, whether they do what they are there for, and who logs in at them.
//!
//! Each is told when it changes: peers and clients bring it about anew with each of their streams, and must not write our log
//! (LOG-05).

use std::sync::PoisonError;

use super::super::event_context::Around;
use super::super::refusals::RefusalRecord;
use super::super::registry::Meta;
use super::refused::refusal;
use super::{Observe, capped, peer};
use crate::jid::Domain;
use crate::limit::Network;
use crate::reason::{Cause, Class, Flow, Outcome, Reason};
use crate::relay::Event;
use crate::stream::client::Mechanism;

/// A stream of ours has reached the server of this domain, or has not.
pub(super) fn reached(observe: &Observe, meta: &Meta, (hosted, up): (&Domain, bool), around: &Around) {
    let flow = meta.flow;
    let between_servers = flow != Flow::C2s;
    if observe.health.is_checked(&(hosted.clone(), flow)) {
        // The checks decide; this only has them look again.
        observe.health.doubt(&(hosted.clone(), flow), up);
        if up && between_servers {
            observe.astray().remove(hosted);
        }
        return;
    }
    // What others meet behind a backend that answers says nothing of the backend.
    let cause = around.detail.as_ref().map(|detail| detail.cause);
    if !up && !matches!(cause, Some(Cause::NotReached | Cause::TimedOut)) {
        return;
    }
    observe.metrics.backend(hosted, flow, up);
    let mut backends = observe.backends.lock().unwrap_or_else(PoisonError::into_inner);
    let was = backends.insert((hosted.clone(), flow), up);
    drop(backends);
    if !up {
        observe.half_fit().retain(|(domain, _)| domain != hosted);
    }
    if up && between_servers {
        observe.astray().remove(hosted);
    }
    match (was, up) {
        (None | Some(true), false) => {
            // For the operator to act on: it is our own backend.
            tracing::warn!(flow = %flow, domain = %hosted, relay = %meta.id,
                address = around.called.map(tracing::field::display),
                detail = around.detail.as_ref().map(tracing::field::display), "backend not reached");
        }
        (Some(false), true) => {
            tracing::info!(flow = %flow, domain = %hosted, relay = %meta.id, "backend reached again");
        }
        _ => tracing::debug!(flow = %flow, domain = %hosted, relay = %meta.id, up, "backend"),
    }
}

/// The server of this domain does not do what it is there for.
pub(super) fn misconfigured(observe: &Observe, meta: &Meta, (hosted, reason): (&Domain, Reason)) {
    let flow = meta.flow;
    if reason.is(Class::HalfFit) {
        // Told once until the backend was away.
        if observe.half_fit().insert((hosted.clone(), reason)) {
            tracing::warn!(flow = %flow, domain = %hosted, relay = %meta.id, reason = reason.label(),
                "some clients cannot log in: {}", reason.words());
        }
        return;
    }
    let (is_news, what) = if reason == Reason::BackendAsksElsewhere {
        // Told once until a pair stands there.
        (observe.astray().insert(hosted.clone()), "no remote server is believed")
    } else {
        let room = observe.budget.has_room(meta.peer.map(|p| Network::of(p.ip())));
        let one = reason == Reason::ForeignAddress;
        (room, if one { "a client cannot log in" } else { "no client can log in" })
    };
    if is_news {
        tracing::error!(flow = %flow, domain = %hosted, relay = %meta.id, reason = reason.label(),
            "{what}: {}", reason.words());
    }
}

/// Tells [`Event::Login`].
pub(super) fn login(observe: &Observe, meta: &Meta, event: &Event, around: &Around) {
    let Event::Login { hosted, mechanism, outcome, reason, .. } = event else { return };
    let mechanism = mechanism.map_or("other", Mechanism::label);
    observe.metrics.logged_in(hosted, mechanism, *outcome);
    if observe.budget.may_log(meta) {
        tracing::info!(flow = %meta.flow, domain = %hosted, peer = %peer(meta, around), relay = %meta.id, mechanism,
            outcome = outcome.label(), reason = reason.label(),
            detail = around.detail.as_ref().map(tracing::field::display), "login");
    }
    if *outcome == Outcome::Deny {
        observe.keep(RefusalRecord {
            to: Some(capped(hosted.as_str())),
            stream: Some(meta.id.to_string()),
            peer: meta.peer.map(|peer| peer.to_string()),
            ..refusal("login", meta.flow.label(), *reason, around)
        });
    }
}
