//! Counted streams of remote servers (XEP-0198), by the names under which they may be gone on with.
//!
//! Of one that broke nothing is left but a number: how many stanzas had been taken. It is kept for its time, for the domain that
//! had proven itself on that stream and for nobody else, and it is taken once. Their number is bounded, and so is that of one
//! registrable domain: whoever breaks one stream after the other forgets his own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::cargo::Cargo;
use super::inbox::InboxSender;
use super::now;
use super::registry::Order;
use crate::jid::Domain;
use crate::relay::Left;

/// All that may be gone on with.
#[derive(Debug, Default)]
pub struct Sessions {
    all: Mutex<All>,
    /// Some stream has broken, or is over.
    changed: Notify,
}

#[derive(Debug, Default)]
struct All {
    by_id: HashMap<String, Session>,
    /// Those that broke, the oldest first, with the registrable domain of each.
    broken: BTreeMap<u64, (String, String)>,
    /// How many of them each has.
    of: HashMap<String, usize>,
    issued: u64,
}

#[derive(Debug)]
struct Session {
    owner: Domain,
    life: Life,
}

#[derive(Debug)]
enum Life {
    /// Its stream stands; whether it was told to go, because another goes on with it.
    Stands(InboxSender<Order>, bool),
    /// Its stream broke: its place among those, what it has left, until when that is remembered, and the relay that still has what the
    /// peer has not acknowledged, if there is anything.
    Broke(u64, Left, Instant, Option<InboxSender<Order>>, Remains),
}

/// What a stream that broke still has to deliver: all that couriers were given of it, which is all there is as soon as nobody can
/// change it any more.
#[derive(Clone, Debug)]
pub struct Remains {
    given: watch::Receiver<Given>,
    /// The relay that has it.
    tx: InboxSender<Order>,
}

/// What couriers were given of a stream, and how far that came.
pub type Given = Vec<(Arc<Cargo>, u64)>;

impl Remains {
    /// Of a stream whose relay, which is told there, holds the other end until it has nothing left.
    pub fn new(given: Given, tx: InboxSender<Order>) -> (watch::Sender<Given>, Self) {
        let (holds, given) = watch::channel(given);
        (holds, Self { given, tx })
    }

    /// Waits until nothing is left. What is not in within that time comes back to its senders: nothing that is newer goes by it
    /// (RLY-05).
    pub async fn delivered(self, within: Duration) {
        if tokio::time::timeout(within, self.clone().settles()).await.is_ok() {
            return;
        }
        loop {
            // Whoever cannot be told is at work, and is told again.
            let _sent = self.tx.send(Order::Overtaken);
            for (cargo, given) in self.given.borrow().iter() {
                let _settled_or_asked = cargo.has_settled(*given) || cargo.take_back();
            }
            if tokio::time::timeout(AGAIN, self.clone().settles()).await.is_ok() {
                return;
            }
        }
    }

    /// Waits until all that the relay had is in, and all that couriers were given of it.
    async fn settles(mut self) {
        while self.given.changed().await.is_ok() {}
        let given = self.given.borrow().clone();
        for (cargo, given) in given {
            std::future::poll_fn(|cx| cargo.poll_settled(given, cx)).await;
        }
    }
}

/// What is found of a session: what its stream has left, whose it was, and what that still has to deliver.
pub type FoundSession = (Left, Domain, Remains);

/// A stream that stands, for as long as this lives.
#[derive(Debug)]
pub struct SessionTicket {
    sessions: Arc<Sessions>,
    id: String,
}

/// What becomes of a wish to go on.
enum Claim {
    /// It goes on; that domain's stream has left this.
    Granted(FoundSession),
    /// It stands still, and is told to go.
    Stands,
    /// There is none for those who ask.
    None,
}

impl Sessions {
    /// A stream of this domain is counted under this name.
    pub fn begins(self: &Arc<Self>, id: String, owner: Domain, tx: InboxSender<Order>) -> SessionTicket {
        let session = Session { owner, life: Life::Stands(tx, false) };
        self.held().by_id.insert(id.clone(), session);
        SessionTicket { sessions: Arc::clone(self), id }
    }

    /// Waits until the stream of that name has broken, if it still stands, and takes its session: what it has left, and whose it was.
    /// None where nobody of those who ask had one of that name. Who goes on has taken so many of what went back over it.
    pub async fn resume(
        self: Arc<Self>,
        id: String,
        taken: u32,
        askers: Vec<Domain>,
    ) -> Option<FoundSession> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.claim(&id, taken, &askers) {
                Claim::Granted(found) => return Some(found),
                Claim::None => return None,
                Claim::Stands => {}
            }
            if tokio::time::timeout_at(end, changed).await.is_err() {
                return None;
            }
        }
    }

    fn claim(&self, id: &str, acknowledged: u32, askers: &[Domain]) -> Claim {
        let mut all = self.held();
        all.expire(now());
        let Some(session) = all.by_id.get_mut(id).filter(|session| askers.contains(&session.owner)) else {
            return Claim::None;
        };
        match &mut session.life {
            Life::Stands(tx, told) => {
                if !std::mem::replace(told, true) {
                    // One that cannot be told is at work, and is waited for in any case.
                    let _sent = tx.send(Order::Supersede);
                }
                Claim::Stands
            }
            Life::Broke(_, left, _, tx, remains) => {
                let found = (*left, session.owner.clone(), remains.clone());
                // One that has given it back has ended. Whom nobody can tell gives back what may have been taken.
                let _sent = tx.as_ref().map(|tx| tx.send(Order::GoneOn(acknowledged)));
                all.forget(id);
                Claim::Granted(found)
            }
        }
    }

    /// How many streams that broke are remembered.
    #[cfg(test)]
    fn broken(&self) -> usize {
        self.held().broken.len()
    }

    fn held(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionTicket {
    /// The stream broke and has left this; that is remembered until then, among so many at most.
    pub fn broke(self, left: Left, until: Instant, most: usize, remains: Remains) {
        let mut all = self.sessions.held();
        all.expire(now());
        all.issued += 1;
        let place = all.issued;
        let Some(session) = all.by_id.get_mut(&self.id) else { return };
        let tx = match &session.life {
            Life::Stands(tx, _) => Some(tx.clone()).filter(|_| left.open > 0),
            Life::Broke(..) => None,
        };
        session.life = Life::Broke(place, left, until, tx, remains);
        let whose = session.owner.registrable().to_string();
        *all.of.entry(whose.clone()).or_default() += 1;
        all.broken.insert(place, (self.id.clone(), whose.clone()));
        all.thin(&whose, most);
        // The rest of it is done by the end of the ticket, which leaves a broken one alone.
        drop(all);
        drop(self);
    }
}

impl Drop for SessionTicket {
    fn drop(&mut self) {
        let mut all = self.sessions.held();
        if all.by_id.get(&self.id).is_some_and(|session| matches!(session.life, Life::Stands(..))) {
            all.by_id.remove(&self.id);
        }
        drop(all);
        self.sessions.changed.notify_waiters();
    }
}

impl All {
    fn forget(&mut self, id: &str) {
        if let Some(Session { life: Life::Broke(place, ..), .. }) = self.by_id.remove(id)
            && let Some((_, whose)) = self.broken.remove(&place)
            && let Some(count) = self.of.get_mut(&whose)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of.remove(&whose);
            }
        }
    }

    fn forget_at(&mut self, place: u64) {
        if let Some(id) = self.broken.get(&place).map(|(id, _)| id.clone()) {
            if let Some(Session { life: Life::Broke(_, _, _, Some(tx), _), .. }) = self.by_id.get(&id) {
                // One that has given it back has ended.
                let _sent = tx.send(Order::Forsaken);
            }
            self.forget(&id);
        }
    }

    /// Those whose time is over.
    fn expire(&mut self, now: Instant) {
        while let Some((&place, (id, _))) = self.broken.first_key_value() {
            let over =
                |session: &Session| matches!(session.life, Life::Broke(_, _, until, ..) if until <= now);
            if !self.by_id.get(id).is_some_and(over) {
                return;
            }
            self.forget_at(place);
        }
    }

    /// Not more than so many, and not more of one domain than its share: the oldest go.
    fn thin(&mut self, whose: &str, most: usize) {
        let share = (most / SHARES).max(1);
        if self.of.get(whose).is_some_and(|count| *count > share) {
            let oldest = self.broken.iter().find(|(_, (_, owner))| owner == whose).map(|(place, _)| *place);
            oldest.into_iter().for_each(|place| self.forget_at(place));
        }
        while self.broken.len() > most
            && let Some((&place, _)) = self.broken.first_key_value()
        {
            self.forget_at(place);
        }
    }
}

/// What one registrable domain may have of all that is remembered: a hundredth.
const SHARES: usize = 100;

/// How soon whoever is to send something back is told that again.
const AGAIN: Duration = Duration::from_millis(100);

/// How long whoever goes on waits for the stream before, which may not know yet that it broke.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::inbox::inbox;
    use super::*;

    fn nothing() -> Remains {
        Remains::new(Vec::new(), inbox(1).0).1
    }

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn broken(sessions: &Arc<Sessions>, id: &str, owner: &str, taken: u32) {
        let (tx, _) = inbox(1);
        let until = now() + Duration::from_secs(60);
        sessions.begins(id.into(), domain(owner), tx).broke(Left::taken(taken), until, 1000, nothing());
    }

    async fn resume(sessions: &Arc<Sessions>, id: &str, asker: &str) -> Option<u32> {
        Arc::clone(sessions).resume(id.into(), 0, vec![domain(asker)]).await.map(|(left, ..)| left.taken)
    }

    // "`resume` from the same proven domain only, one use"
    #[tokio::test(start_paused = true)]
    async fn a_session_is_its_domains_own_and_is_taken_once() {
        let sessions = Arc::new(Sessions::default());
        broken(&sessions, "s1", "friend.example", 7);
        assert_eq!(resume(&sessions, "s1", "evil.example").await, None);
        assert_eq!(resume(&sessions, "s2", "friend.example").await, None);
        assert_eq!(resume(&sessions, "s1", "friend.example").await, Some(7));
        assert_eq!(resume(&sessions, "s1", "friend.example").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_forgotten_in_time_and_a_stream_that_ends_in_order_leaves_none() {
        let sessions = Arc::new(Sessions::default());
        broken(&sessions, "s1", "friend.example", 7);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(resume(&sessions, "s1", "friend.example").await, None);
        assert_eq!(sessions.broken(), 0);
        let (tx, _) = inbox(1);
        drop(sessions.begins("s2".into(), domain("friend.example"), tx));
        assert_eq!(resume(&sessions, "s2", "friend.example").await, None);
    }

    // A connection may be dead for one side only: the other is told, and its last count is waited for.
    #[tokio::test(start_paused = true)]
    async fn a_stream_that_still_stands_is_told_to_go_and_waited_for() {
        let sessions = Arc::new(Sessions::default());
        let (tx, mut orders) = inbox(1);
        let ticket = sessions.begins("s1".into(), domain("friend.example"), tx);
        assert_eq!(resume(&sessions, "s1", "evil.example").await, None);
        assert!(orders.take().is_none(), "nobody else ends it");
        let resumed =
            tokio::spawn(Arc::clone(&sessions).resume("s1".into(), 2, vec![domain("friend.example")]));
        tokio::task::yield_now().await;
        assert!(matches!(orders.take(), Some(Order::Supersede)));
        ticket.broke(Left { taken: 9, sent: 3, open: 2 }, now() + Duration::from_secs(60), 10, nothing());
        assert_eq!(resumed.await.unwrap().map(|(left, ..)| left.taken), Some(9));
        // Who still has what went back hears how much of that arrived.
        assert!(matches!(orders.take(), Some(Order::GoneOn(2))));
        // And one that does not go is not waited for without end.
        let (tx, _orders) = inbox(1);
        let _stands = sessions.begins("s2".into(), domain("friend.example"), tx);
        assert_eq!(resume(&sessions, "s2", "friend.example").await, None);
    }

    // What a broken stream has left need not wait for a session that nobody can go on with any more.
    #[tokio::test(start_paused = true)]
    async fn whoever_is_forgotten_before_his_time_is_told() {
        let sessions = Arc::new(Sessions::default());
        let (tx, mut orders) = inbox(1);
        let left = Left { taken: 0, sent: 1, open: 1 };
        let until = now() + Duration::from_secs(60);
        sessions.begins("s1".into(), domain("friend.example"), tx).broke(left, until, 1, nothing());
        assert!(orders.take().is_none());
        broken(&sessions, "s2", "other.example", 0);
        let (tx, _) = inbox(1);
        sessions.begins("s3".into(), domain("other.example"), tx).broke(left, until, 1, nothing());
        assert!(matches!(orders.take(), Some(Order::Forsaken)));
    }

    // "flood of sessions"
    #[tokio::test(start_paused = true)]
    async fn whoever_breaks_stream_after_stream_forgets_his_own() {
        let sessions = Arc::new(Sessions::default());
        broken(&sessions, "good", "friend.example", 7);
        for n in 0..5000 {
            broken(&sessions, &format!("s{n}"), &format!("n{n}.evil.example.com"), n);
        }
        assert_eq!(sessions.broken(), 1 + 1000 / SHARES);
        assert_eq!(resume(&sessions, "good", "friend.example").await, Some(7));
        for n in 0..5000 {
            broken(&sessions, &format!("s{n}"), &format!("evil{n}.example"), n);
        }
        assert_eq!(sessions.broken(), 1000);
    }
}
