//! What a relay is told: orders that are for it alone, and news that all hear at once, of new policies, new trust, and the phases of
//! the end. What becomes of them is not decided here.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;

use super::super::Later;
use super::super::inbox::Inbox;
use super::super::registry::{News, Order, Phase, Registry};
use crate::tls::TrustStore;

/// What one relay is told.
pub(in crate::run) struct Mail {
    orders: Inbox<Order>,
    pub(super) news: Later<Option<watch::Receiver<News>>>,
    /// What certificates were judged by last, if that is not what their handshakes knew.
    trust: Option<Arc<TrustStore>>,
    /// It began when others already gave back what they held, and may take its time until the end.
    late: bool,
}

impl Mail {
    /// Of a relay that begins now.
    pub(super) fn new(registry: &Registry, orders: Inbox<Order>) -> Self {
        let mut news = registry.news();
        // The relay was made under the policy of a moment ago; it hears of any change since, and of a drain under way.
        news.mark_changed();
        let late = matches!(registry.phase(), Phase::Closing(_));
        Self { orders, news: next(news), trust: None, late }
    }

    /// The next order, if there is one.
    pub(super) fn order(&mut self, cx: &mut Context<'_>) -> Option<Order> {
        match self.orders.poll_next(cx) {
            Poll::Ready(order) => Some(order),
            Poll::Pending => None,
        }
    }

    /// What is new, if anything is.
    pub(super) fn news(&mut self, cx: &mut Context<'_>) -> Option<News> {
        let Poll::Ready(news) = self.news.as_mut().poll(cx) else { return None };
        let Some(mut news) = news else {
            // The registry has gone: nobody is left to give news.
            self.news = Box::pin(std::future::pending());
            return None;
        };
        let told = news.borrow_and_update().clone();
        self.news = next(news);
        Some(told)
    }

    /// Whether certificates are to be judged again by these anchors, and are from now on (CRT-12).
    pub(super) fn is_new(&mut self, trust: &Arc<TrustStore>) -> bool {
        if self.trust.as_ref().is_some_and(|known| Arc::ptr_eq(known, trust)) {
            return false;
        }
        self.trust = Some(Arc::clone(trust));
        true
    }

    /// Whether it began when others already gave back what they held.
    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    /// Nothing more is told; the orders that came too late, one after the other.
    pub(super) fn left(&mut self) -> impl Iterator<Item = Order> {
        self.orders.close();
        std::iter::from_fn(move || self.orders.take())
    }
}

fn next(mut news: watch::Receiver<News>) -> Later<Option<watch::Receiver<News>>> {
    Box::pin(async move { news.changed().await.ok().map(|()| news) })
}
