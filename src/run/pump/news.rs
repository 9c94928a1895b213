//! What every relay is told at once: new policies, new trust, and the phases of the end.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;

use super::super::registry::{News, Phase};
use super::super::{Later, Tools};
use super::Pump;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::relay::{Input, Portrait, Side, Under};
use crate::tls::TrustStore;

impl Pump {
    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(news) = self.news.as_mut().poll(cx) else { return false };
        let Some(mut news) = news else {
            // The registry has gone: nobody is left to give news.
            self.news = Box::pin(std::future::pending());
            return false;
        };
        let News { policy, phase, tools, trust } = news.borrow_and_update().clone();
        self.news = next_news(news);
        if let Some(trust) = trust {
            self.retrust(trust);
        }
        if let Some(tools) = tools.and_then(|tools| tools.upgrade()) {
            self.retool(tools);
        }
        self.step(Side::Near, Input::Policy(policy));
        match phase {
            Phase::Starting | Phase::Running => {}
            Phase::Draining(until) => self.leave_by(until),
            Phase::Closing(_) => {
                self.step(Side::Near, Input::Drain);
                if !self.late {
                    self.give_back(false);
                }
            }
            Phase::Stopped => {
                // The end is told, and so is every stanza that went nowhere.
                self.give_back(true);
                self.gone(Side::Near, Reason::Shutdown);
                self.stopped = true;
            }
        }
        true
    }

    /// What is new holds for what is done from now on; what was begun with the old goes on.
    fn retool(&mut self, tools: Arc<Tools>) {
        if Arc::ptr_eq(&self.tools, &tools) {
            return;
        }
        self.tools = tools;
        let home = Arc::clone(&self.tools.home);
        self.step(Side::Near, Input::Home(home));
    }

    /// CRT-12: what was shown at the handshake is judged again by what is known now.
    fn retrust(&mut self, trust: Arc<TrustStore>) {
        if self.trust.as_ref().is_some_and(|known| Arc::ptr_eq(known, &trust)) {
            return;
        }
        for side in self.sides() {
            let again = self.relay.certificate(side).and_then(|shown| trust.describe_again(shown));
            if let Some(certificate) = again {
                self.step(side, Input::Retrusted(certificate));
            }
        }
        self.trust = Some(trust);
    }

    /// What it is, and what it would be under this policy, with certificates judged by that.
    pub(super) fn portrait(&self, policy: Option<&Policy>, trust: Option<&TrustStore>) -> Portrait {
        let again = |trust: &TrustStore| -> Vec<_> {
            let shown =
                self.sides().into_iter().filter_map(|side| Some((side, self.relay.certificate(side)?)));
            shown.filter_map(|(side, shown)| Some((side, trust.describe_again(shown)?))).collect()
        };
        let again = trust.map(again).unwrap_or_default();
        self.relay.portrait_under(&Under { policy, again: &again })
    }

    /// What has not gone out by now goes back to its sender; at the very end, where nobody carries it any more, it is
    /// told as lost, stanza by stanza (CLS-02).
    fn give_back(&mut self, end: bool) {
        self.step(Side::Near, Input::Drain);
        self.step(Side::Near, Input::Close(Reason::Shutdown));
        for side in self.sides() {
            if side == Side::Near {
                continue;
            }
            if end || self.leg(side).is_some_and(|leg| leg.outbox.stanzas() > 0) {
                self.gone(side, Reason::Shutdown);
            }
            if end {
                // A courier's queue waits for a leg that never came to stand.
                self.step(side, Input::Unreachable(Reason::Shutdown.into()));
            }
        }
    }

    /// The legs as they are now.
    fn sides(&self) -> Vec<Side> {
        let near = self.near.is_some().then_some(Side::Near);
        near.into_iter().chain(self.fars.ids().map(Side::Far)).collect()
    }
}

pub(super) fn next_news(mut news: watch::Receiver<News>) -> Later<Option<watch::Receiver<News>>> {
    Box::pin(async move { news.changed().await.ok().map(|()| news) })
}
