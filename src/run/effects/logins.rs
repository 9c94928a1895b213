//! Logins and new accounts: who may try now, later or not at all, and what came of it.

use super::super::now;
use super::super::pump::Pump;
use crate::limit::Leave;
use crate::metrics::Limit;
use crate::reason::{Outcome, Reason};
use crate::relay::{Attempt, Event, Input, Side};

impl Pump {
    /// Lets a login go at once, after a while, or not at all (C2S-11).
    pub(super) fn try_login(&mut self, attempt: &Attempt) {
        let account = attempt.account.as_deref().map(|account| (attempt.hosted.as_str(), account));
        // A login without a client's address is none that a client can try.
        let leave =
            self.meta.peer.map_or(Leave::Refused, |peer| self.tools.logins.ask(peer.ip(), account, now()));
        match leave {
            Leave::Now => self.step(Side::Near, Input::Tried(Ok(()))),
            Leave::After(wait) => {
                let metrics = self.tools.observe.metrics();
                metrics.limited(Limit::Logins);
                metrics.waited(Limit::Logins, wait);
                self.trying = Some(Box::pin(tokio::time::sleep(wait)));
            }
            Leave::Refused => {
                self.tools.observe.metrics().limited(Limit::Logins);
                self.step(Side::Near, Input::Tried(Err(Reason::LoginThrottled)));
            }
        }
    }

    /// Lets a client ask for a new account, or not now.
    pub(super) fn apply(&mut self) {
        let leave = self.meta.peer.ok_or(Reason::RegistrationThrottled);
        let leave = leave.and_then(|peer| self.tools.registrations.ask(peer.ip(), now()));
        if leave.is_err() {
            self.tools.observe.metrics().limited(Limit::Registrations);
        }
        self.step(Side::Near, Input::Tried(leave));
    }

    /// A login that the backend itself refused counts against its source; what we refused ourselves does not.
    pub(super) fn login_came_out(&self, event: &Event) {
        let (Event::Login { hosted, account, outcome, reason, .. }, Some(peer)) = (event, self.meta.peer)
        else {
            return;
        };
        let account = account.as_deref().map(|account| (hosted.as_str(), account));
        let logins = &self.tools.logins;
        match (outcome, reason) {
            (Outcome::Allow, _) => logins.succeeded(peer.ip(), account, now()),
            (Outcome::Deny, Reason::SaslRefused | Reason::TooManySasl) => {
                if logins.failed(peer.ip(), account, now()) {
                    self.tools.observe.metrics().bans(logins.bans(now()));
                    tracing::info!(peer = %peer, relay = %self.meta.id, "too many failed logins: refused for a while");
                }
            }
            (Outcome::Deny | Outcome::Quarantine, _) => {}
        }
    }
}
