//! Who lives, which dialback keys are awaited, and the news that every relay must hear.
//!
//! Keys are awaited in two realms, told apart by the network that the waiting leg looks at (D2, DB-04): a key that we
//! sent to a backend can never be vouched for in public.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::Tools;
use super::awaited::Awaited;
use super::inbox::{Inbox, InboxSender, SendError, inbox};
use super::shares::Shares;
use crate::policy::Policy;
use crate::reason::{Detail, Flow, Reason};
use crate::relay::{ClaimId, FarId, RelaySnapshot};
use crate::stream::{KeyAnswer, Pair};
use crate::tls::TrustStore;

/// The name of a relay in logs and records; never used again, also not after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId {
    boot: u32,
    number: u64,
}

impl RelayId {
    /// Which of the relays of this process it is; they are counted from their first.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.boot, self.number)
    }
}

/// How far the gateway is on its way from start to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The listeners are not open yet.
    Starting,
    /// It takes connections.
    Running,
    /// It takes none; relays end in good order until this time.
    Draining(Instant),
    /// What still waits to be delivered goes back to its senders, until this time.
    Closing(Instant),
    /// What is left is cut.
    Stopped,
}

impl Phase {
    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining(_) | Self::Closing(_) => "draining",
            Self::Stopped => "stopped",
        }
    }

    /// How far along it is.
    const fn step(self) -> u8 {
        match self {
            Self::Starting => 0,
            Self::Running => 1,
            Self::Draining(_) => 2,
            Self::Closing(_) => 3,
            Self::Stopped => 4,
        }
    }
}

/// What every relay must hear.
#[derive(Clone, Debug)]
pub struct News {
    /// The policy in force.
    pub policy: Arc<Policy>,
    /// The phase.
    pub phase: Phase,
    /// What relays lean on, once that has changed since the start. Held by whoever runs the gateway, so that the registry does
    /// not hold itself.
    pub tools: Option<Weak<Tools>>,
    /// The anchors and revocation lists, once they have been read again.
    pub trust: Option<Arc<TrustStore>>,
}

/// A living relay, as it shows itself to an operator.
#[derive(Debug)]
pub struct View {
    /// Who it is.
    pub meta: Meta,
    /// When it began.
    pub since: jiff::Timestamp,
    /// What is in it.
    pub snapshot: RelaySnapshot,
}

/// What a question about a key came to: the answer, and what was met on the way to whom it was put.
pub type Learnt = (KeyAnswer, Option<Box<Detail>>);

/// What one relay is told.
#[derive(Debug)]
pub enum Order {
    /// A verification came out, and what it met on its way, where that is known.
    Verified(ClaimId, KeyAnswer, Option<Box<Detail>>),
    /// A report for a pair whose stream stands there (DB-69).
    Report(Box<(Pair, Bytes)>),
    /// Other reports wait for the place of this courier.
    Yield,
    /// The domain that this courier carries to has shown itself.
    Alive,
    /// Others have the turn for the place of this far leg at a server behind.
    GiveWay(FarId),
    /// Another connection goes on with the near stream, whose own broke without a word.
    Supersede,
    /// Somebody goes on with the session of its stream, which broke, and had taken so many of what went back.
    GoneOn(u32),
    /// Nobody is likely to go on with it: its peer has come on another stream, or it is remembered no more.
    Forsaken,
    /// Newer stanzas of the same peer have waited long enough for what this relay still has: that comes back.
    Overtaken,
    /// End, for this reason.
    Close(Reason),
    /// Say what you are, and what you would be under this policy, certificates judged by that.
    Describe(Option<Arc<Policy>>, Option<Arc<TrustStore>>, mpsc::UnboundedSender<View>),
}

/// Who a relay is, for logs, records and caps.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Its name.
    pub id: RelayId,
    /// Its flow.
    pub flow: Flow,
    /// The address of the near leg; none for couriers and verifiers.
    pub peer: Option<SocketAddr>,
    /// The address of ours that the near leg came to, as far as it is known.
    pub local: Option<SocketAddr>,
}

/// Living relays, awaited keys, news.
#[derive(Debug)]
pub struct Registry {
    boot: u32,
    next: AtomicU64,
    living: Mutex<HashMap<RelayId, InboxSender<Order>>>,
    count: watch::Sender<usize>,
    awaited: Arc<Awaited>,
    news: watch::Sender<News>,
    shares: Arc<Shares>,
}

impl Registry {
    /// Nobody lives yet. `keep` is T-dialback.
    pub fn new(policy: Arc<Policy>, keep: Duration, boot: u32) -> Arc<Self> {
        Arc::new(Self {
            boot,
            next: AtomicU64::new(1),
            living: Mutex::default(),
            count: watch::Sender::new(0),
            awaited: Awaited::new(keep),
            news: watch::Sender::new(News { policy, phase: Phase::Starting, tools: None, trust: None }),
            shares: Arc::default(),
        })
    }

    /// Names a relay and gives it its inbox.
    pub fn enter(self: &Arc<Self>) -> (Life, Inbox<Order>) {
        let id = self.unnamed();
        let (tx, orders) = inbox(INBOX);
        held(&self.living).insert(id, tx.clone());
        self.count.send_modify(|n| *n += 1);
        (Life { registry: Arc::clone(self), id, tx, since: jiff::Timestamp::now() }, orders)
    }

    /// A name for something that is told and never lived.
    pub fn unnamed(&self) -> RelayId {
        RelayId { boot: self.boot, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    /// How many live.
    pub fn living(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until nobody lives any more.
    pub async fn emptied(&self) {
        let mut count = self.count.subscribe();
        // The sender lives as long as we do.
        let _count = count.wait_for(|n| *n == 0).await;
    }

    /// The names of those that live.
    pub fn ids(&self) -> Vec<RelayId> {
        held(&self.living).keys().copied().collect()
    }

    /// Tells one relay to end; whether it could be told.
    pub fn close(&self, id: RelayId, reason: Reason) -> bool {
        held(&self.living).get(&id).is_some_and(|tx| tx.send(Order::Close(reason)).is_ok())
    }

    /// Tells one relay that its peer has come on another stream.
    pub fn forsake(&self, id: RelayId) {
        // One that cannot be told is at work, and stands.
        let _sent = held(&self.living).get(&id).map(|tx| tx.send(Order::Forsaken));
    }

    /// The news so far, and those to come.
    pub fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.news.borrow().policy)
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.news.borrow().phase
    }

    /// The gateway drains from now on, until this time at most; whether it did not already.
    pub fn begin_drain(&self, deadline: Instant) -> bool {
        self.enter_phase(Phase::Draining(deadline))
    }

    /// A new policy is in force.
    pub fn publish(&self, policy: Arc<Policy>) {
        self.news.send_modify(|news| news.policy = policy);
    }

    /// What `make` makes of the policy in force is in force, if it makes anything; nothing can come between the two, so
    /// that a new day never brings back the policy of before a reload (POL-10).
    pub fn amend(&self, make: impl FnOnce(&Policy) -> Option<Policy>) -> bool {
        self.news.send_if_modified(|news| match make(&news.policy) {
            Some(policy) => {
                news.policy = Arc::new(policy);
                true
            }
            None => false,
        })
    }

    /// All that a reload brings, at one time: what relays lean on, the anchors and revocation lists by which certificates are
    /// judged, also those shown before (CRT-12), and the policy that `make` makes of the one in force, which is given back.
    pub fn renew(
        &self,
        tools: &Arc<Tools>,
        trust: Arc<TrustStore>,
        make: impl FnOnce(&Policy) -> Policy,
    ) -> Arc<Policy> {
        self.awaited.keep(tools.relays.timeouts.dialback);
        let mut old = self.policy();
        self.news.send_modify(|news| {
            news.tools = Some(Arc::downgrade(tools));
            news.trust = Some(trust);
            let new = Arc::new(make(&news.policy));
            old = std::mem::replace(&mut news.policy, new);
        });
        old
    }

    /// Relays lean on these from now on.
    pub fn retool(&self, tools: &Arc<Tools>) {
        self.news.send_modify(|news| news.tools = Some(Arc::downgrade(tools)));
    }

    /// Certificates are judged by these anchors and revocation lists from now on, also those shown before (CRT-12).
    pub fn retrust(&self, trust: Arc<TrustStore>) {
        self.news.send_modify(|news| news.trust = Some(trust));
    }

    /// All that live, with their fate under another policy; and how many did not answer in time.
    pub async fn views(&self, under: Option<&Arc<Policy>>) -> (Vec<View>, usize) {
        self.views_under(under, None).await
    }

    /// The same with other anchors and revocation lists.
    pub async fn views_under(
        &self,
        under: Option<&Arc<Policy>>,
        trust: Option<&Arc<TrustStore>>,
    ) -> (Vec<View>, usize) {
        let (tx, mut hear) = mpsc::unbounded_channel();
        let mut silent = 0;
        let mut asked = 0;
        for relay in held(&self.living).values() {
            match relay.send(Order::Describe(under.cloned(), trust.cloned(), tx.clone())) {
                Ok(()) => asked += 1,
                Err(SendError::Full(_)) => silent += 1,
                // It has just ended.
                Err(SendError::Closed(_)) => {}
            }
        }
        drop(tx);
        let mut views = Vec::new();
        let all = async {
            while let Some(view) = hear.recv().await {
                views.push(view);
            }
        };
        if tokio::time::timeout(ANSWER, all).await.is_err() {
            silent += asked - views.len();
        }
        views.sort_by_key(|view| view.meta.id);
        (views, silent)
    }

    /// The gateway enters this phase; whether it was not as far before. There is no way back: an end that was asked for
    /// while the listeners were still being opened stays asked for.
    pub fn enter_phase(&self, phase: Phase) -> bool {
        self.news.send_if_modified(|news| {
            let onward = phase.step() > news.phase.step();
            if onward {
                news.phase = phase;
            }
            onward
        })
    }

    /// Where those that always have more to do wait for their turn.
    pub(super) fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    /// The keys with which far legs wait.
    pub fn awaited(&self) -> &Arc<Awaited> {
        &self.awaited
    }
}

/// The place of a relay among the living.
#[derive(Debug)]
pub struct Life {
    registry: Arc<Registry>,
    id: RelayId,
    tx: InboxSender<Order>,
    since: jiff::Timestamp,
}

impl Life {
    /// The name of the relay.
    pub fn id(&self) -> RelayId {
        self.id
    }

    /// When it began.
    pub fn since(&self) -> jiff::Timestamp {
        self.since
    }

    /// How others reach it.
    pub fn orders(&self) -> &InboxSender<Order> {
        &self.tx
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let mut living = held(&self.registry.living);
        living.remove(&self.id);
        if living.capacity() > 64 && living.len() < living.capacity() / 4 {
            living.shrink_to_fit();
        }
        drop(living);
        self.registry.count.send_modify(|n| *n = n.saturating_sub(1));
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Orders that may wait for one relay: its own verifications (L-pending), a courier's queue, an operator.
pub(super) const INBOX: usize = 256;

/// How long relays may take to say what they are.
const ANSWER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Arc<Registry> {
        Registry::new(crate::run::tests::policy(), Duration::from_secs(30), 7)
    }

    // POL-10: two who change the policy at the same time change it one after the other.
    #[tokio::test]
    async fn a_policy_is_made_from_the_one_in_force_or_not_at_all() {
        let r = registry();
        let mut news = r.news();
        news.mark_unchanged();
        assert!(!r.amend(|_| None));
        assert!(!news.has_changed().unwrap());
        let other = crate::run::tests::federating(crate::policy::Federation::None);
        r.publish(Arc::clone(&other));
        let tomorrow = crate::policy::Day::parse("2027-01-02").unwrap();
        assert!(r.amend(|policy| {
            assert_eq!(policy.digest(), other.digest());
            Some(policy.on(tomorrow))
        }));
        assert_eq!((r.policy().digest(), r.policy().today()), (other.digest(), tomorrow));
        assert!(news.has_changed().unwrap());
    }

    #[tokio::test]
    async fn the_last_to_leave_is_noticed() {
        let r = registry();
        let (life, mut orders) = r.enter();
        assert_eq!(r.living(), 1);
        assert!(r.close(life.id(), Reason::ClosedByOperator));
        assert!(matches!(orders.take(), Some(Order::Close(Reason::ClosedByOperator))));
        let id = life.id();
        drop(life);
        assert!(!r.close(id, Reason::ClosedByOperator));
        r.emptied().await;
    }
}
