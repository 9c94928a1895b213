//! Logins and new accounts: who may try now, later or not at all, and what came of it.

use std::net::SocketAddr;

use super::super::now;
use super::super::registry::Meta;
use crate::limit::{Leave, Logins, Registrations};
use crate::metrics::{Limit, Metrics};
use crate::reason::{Class, Outcome, Reason};
use crate::relay::{Event, LoginAttempt};

/// Whether this login may be tried at once, after a while, or not at all (C2S-11). A login without a client's address is none that a
/// client can try.
pub(super) fn may_try(
    logins: &Logins,
    metrics: &Metrics,
    peer: Option<SocketAddr>,
    attempt: &LoginAttempt,
) -> Leave {
    let account = attempt.account.as_deref().map(|account| (attempt.hosted.as_str(), account));
    let leave = peer.map_or(Leave::Refused, |peer| logins.ask(peer.ip(), account, now()));
    match leave {
        Leave::Now => {}
        Leave::After(wait) => {
            metrics.limited(Limit::Logins);
            metrics.waited(Limit::Logins, wait);
        }
        Leave::Refused => metrics.limited(Limit::Logins),
    }
    leave
}

/// Lets a client ask for a new account.
///
/// # Errors
/// [`Reason::RegistrationThrottled`]: not now.
pub(super) fn may_register(
    registrations: &Registrations,
    metrics: &Metrics,
    peer: Option<SocketAddr>,
) -> Result<(), Reason> {
    let leave = peer.ok_or(Reason::RegistrationThrottled);
    let leave = leave.and_then(|peer| registrations.ask(peer.ip(), now()));
    if leave.is_err() {
        metrics.limited(Limit::Registrations);
    }
    leave
}

/// A login that the backend itself refused counts against its source; what we refused ourselves does not.
pub(super) fn came_out(logins: &Logins, metrics: &Metrics, meta: &Meta, event: &Event) {
    let (Event::Login { hosted, account, outcome, reason, .. }, Some(peer)) = (event, meta.peer) else {
        return;
    };
    let account = account.as_deref().map(|account| (hosted.as_str(), account));
    match (outcome, reason) {
        (Outcome::Allow, _) => logins.succeeded(peer.ip(), account, now()),
        (Outcome::Deny, reason) if reason.is(Class::Guess) => {
            if logins.failed(peer.ip(), account, now()) {
                metrics.bans(logins.bans(now()));
                tracing::info!(peer = %peer, relay = %meta.id, "too many failed logins: refused for a while");
            }
        }
        (Outcome::Deny | Outcome::Quarantine, _) => {}
    }
}
