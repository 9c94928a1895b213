//! Bans that several nodes have together: each node holds all of them, and what two nodes say of one is joined so that it
//! does not matter who says it first, or how often.
//!
//! Of two bans of one target the one that ends later holds; one that was lifted holds again when it is asked for afterwards.
//! A node that was away brings nothing back that was lifted meanwhile.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Ban, BanList, BanTarget, MOST};
use crate::gateway::millis;
use crate::run::now;

/// What is known of the bans of one target. What a later version says beside is passed over: a ban holds on nodes of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredBan {
    /// It holds until then.
    Banned {
        /// When it ends, in milliseconds since 1970.
        until: i64,
        /// When it was asked for.
        decided: i64,
        /// The user who asked for it.
        uid: u32,
    },
    /// It was lifted at this time.
    Lifted(i64),
}

impl StoredBan {
    /// Both together.
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Lifted(one), Self::Lifted(other)) => Self::Lifted(one.max(other)),
            (Self::Banned { decided, .. }, Self::Lifted(at)) if decided > at => self,
            (Self::Banned { .. }, Self::Lifted(_)) => other,
            (Self::Lifted(_), Self::Banned { .. }) => other.join(self),
            (
                Self::Banned { until: a, decided: x, uid: one },
                Self::Banned { until: b, decided: y, uid: two },
            ) => {
                // Of two that end together the user with the lower number asked: somebody must have.
                let uid = if (a, std::cmp::Reverse(one)) >= (b, std::cmp::Reverse(two)) { one } else { two };
                Self::Banned { until: a.max(b), decided: x.max(y), uid }
            }
        }
    }

    /// Whether nobody needs to know of it any more.
    pub fn is_over(self, now: i64) -> bool {
        match self {
            Self::Banned { until, .. } => until.saturating_add(GRACE) <= now,
            Self::Lifted(at) => at.saturating_add(KEEP) <= now,
        }
    }

    /// Whether an operator may have asked for it by now.
    fn is_possible(self, now: i64) -> bool {
        match self {
            Self::Banned { until, decided, .. } => {
                until.saturating_sub(now) <= LONGEST && decided.saturating_sub(now) <= GRACE
            }
            Self::Lifted(at) => at.saturating_sub(now) <= GRACE,
        }
    }

    /// Whether it says nothing that the other does not say: times of one moment, read from two clocks, are the same.
    fn adds_nothing_to(self, other: Self) -> bool {
        match (self.join(other), other) {
            (Self::Banned { until: a, decided: x, .. }, Self::Banned { until: b, decided: y, .. }) => {
                a.abs_diff(b) <= SAME && x.abs_diff(y) <= SAME
            }
            (joined, other) => joined == other,
        }
    }
}

/// What an exchange of bans comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// What the others should know.
    pub say: Vec<(String, String)>,
    /// What nobody needs to know any more.
    pub over: Vec<String>,
    /// Records that nobody of us wrote.
    pub foreign: usize,
}

impl BanList {
    /// The time by which nodes tell each other when a ban ends, in milliseconds since 1970.
    pub fn wall(&self) -> i64 {
        millis().saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// The clock that nodes have in common is so many milliseconds ahead of this one's. A node whose own clock is wrong must
    /// neither end the bans of others nor make its own last longer there.
    pub fn set_ahead(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// Takes over what others say of bans, and tells what they do not know yet.
    pub fn exchange(&self, heard: &BTreeMap<String, String>) -> Exchanged {
        let (at, wall) = (now(), self.wall());
        let mut outcome = Exchanged::default();
        let mut theirs: BTreeMap<BanTarget, StoredBan> = BTreeMap::new();
        for (target, record) in heard {
            let read = target.parse::<BanTarget>().ok().filter(|read| read.to_string() == *target);
            match (read, serde_json::from_str::<StoredBan>(record)) {
                (Some(_), Ok(record)) if record.is_over(wall) => outcome.over.push(target.clone()),
                (Some(read), Ok(record)) if record.is_possible(wall) => {
                    theirs.insert(read, record);
                }
                _ => outcome.foreign += 1,
            }
        }
        let mut list = self.held();
        let mut lifted = self.lifted.lock().unwrap_or_else(PoisonError::into_inner);
        lifted.retain(|_, when| !StoredBan::Lifted(*when).is_over(wall));
        let mut ours: BTreeMap<BanTarget, StoredBan> = BTreeMap::new();
        for (target, when) in lifted.iter().filter_map(|(target, when)| Some((target.parse().ok()?, *when))) {
            ours.insert(target, StoredBan::Lifted(when));
        }
        for ban in list.iter() {
            let until = wall.saturating_add(signed(ban.until.saturating_duration_since(at)));
            let record = StoredBan::Banned { until, decided: ban.decided, uid: ban.uid };
            let known = ours.remove(&ban.target).map_or(record, |known| known.join(record));
            ours.insert(ban.target.clone(), known);
        }
        let mut changed = false;
        for (target, record) in &theirs {
            let joined = ours.get(target).map_or(*record, |known| known.join(*record));
            changed |= take(&mut list, &mut lifted, target, joined, (at, wall));
            ours.insert(target.clone(), joined);
        }
        if changed {
            self.publish(&list);
        }
        drop((list, lifted));
        if changed {
            self.changed.notify_one();
        }
        for (target, record) in ours {
            let known = theirs.get(&target).is_some_and(|theirs| record.adds_nothing_to(*theirs));
            if !known && !record.is_over(wall) {
                let text = serde_json::to_string(&record).unwrap_or_default();
                outcome.say.push((target.to_string(), text));
            }
        }
        outcome
    }

    pub(super) fn note_lifted(&self, target: &BanTarget, when: i64) {
        let mut lifted = self.lifted.lock().unwrap_or_else(PoisonError::into_inner);
        if lifted.len() >= MOST
            && let Some(oldest) =
                lifted.iter().min_by_key(|(_, when)| **when).map(|(target, _)| target.clone())
        {
            lifted.remove(&oldest);
        }
        lifted.insert(target.to_string(), when);
    }
}

/// Has the list be as the record says; whether it was otherwise.
fn take(
    list: &mut Vec<Ban>,
    lifted: &mut BTreeMap<String, i64>,
    target: &BanTarget,
    record: StoredBan,
    (at, wall): (Instant, i64),
) -> bool {
    let place = list.iter().position(|ban| ban.target == *target);
    match record {
        StoredBan::Lifted(when) => {
            if lifted.len() < MOST {
                lifted.insert(target.to_string(), when);
            }
            place.map(|place| list.remove(place)).is_some()
        }
        StoredBan::Banned { until, decided, uid } => {
            let Ok(left) = u64::try_from(until.saturating_sub(wall)) else { return false };
            let until = at + Duration::from_millis(left);
            if let Some(ban) = place.and_then(|place| list.get_mut(place)) {
                ban.decided = ban.decided.max(decided);
                let longer = until.saturating_duration_since(ban.until) > Duration::from_millis(SAME);
                if longer {
                    (ban.until, ban.uid) = (until, uid);
                }
                return longer;
            }
            let room = list.len() < MOST && left > 0;
            if room {
                list.push(Ban { target: target.clone(), until, uid, decided });
                tracing::info!(target = %target, seconds = left / 1000, "a ban of another node holds here too");
            }
            room
        }
    }
}

fn signed(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds by which two readings of one moment may differ.
const SAME: u64 = 1000;

/// Milliseconds for which a ban that is over is still known, for clocks that are behind.
const GRACE: i64 = 60_000;

/// A ban of more milliseconds is none: a year, and a little for clocks that are ahead.
const LONGEST: i64 = 366 * 24 * 3600 * 1000;

/// Milliseconds for which it is known that a ban was lifted: longer than any node is away and comes back with what it knew.
const KEEP: i64 = 24 * 3600 * 1000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;
    use crate::run::registry::Registry;

    fn book() -> BanList {
        let registry = Registry::new(crate::run::tests::policy(), Duration::from_secs(30), 1);
        BanList::new(registry, Arc::new(Metrics::new([]).unwrap()))
    }

    fn ban(book: &BanList, target: &str, seconds: u64, decided: i64) {
        let until = now() + Duration::from_secs(seconds);
        book.add(Ban { target: target.parse().unwrap(), until, uid: 7, decided }).unwrap();
    }

    /// What a store holds after this node has spoken with it.
    fn meet(book: &BanList, store: &mut BTreeMap<String, String>) -> usize {
        let Exchanged { say, over, foreign } = book.exchange(store);
        store.extend(say);
        over.iter().for_each(|target| drop(store.remove(target)));
        foreign
    }

    fn seconds(book: &BanList, target: &str) -> Option<u64> {
        let target: BanTarget = target.parse().unwrap();
        let ban = book.all().into_iter().find(|ban| ban.target == target)?;
        Some((ban.until - now()).as_secs())
    }

    // CLU-03: "bans"; they hold on every node, and survive each one's restart.
    #[tokio::test]
    async fn a_ban_holds_on_every_node_and_survives_a_restart() {
        let (one, other, mut store) = (book(), book(), BTreeMap::new());
        ban(&one, "spam.example", 3600, millis());
        ban(&other, "192.0.2.0/24", 600, millis());
        for node in [&one, &other, &one] {
            assert_eq!(meet(node, &mut store), 0);
        }
        for node in [&one, &other] {
            assert!(seconds(node, "spam.example").is_some_and(|left| (3590..=3600).contains(&left)));
            assert!(seconds(node, "192.0.2.0/24").is_some());
        }
        // Nothing more is to be said.
        assert_eq!(one.exchange(&store), Exchanged::default());
        assert_eq!(other.exchange(&store), Exchanged::default());
        let again = book();
        meet(&again, &mut store);
        assert_eq!(again.all().len(), 2);
        let spam = crate::jid::Domain::parse("a.spam.example").unwrap();
        assert!(again.registry.policy().bans().holds_domain(&spam));
    }

    // "No stale node overwrites others' bans (newest expiry wins)."
    #[tokio::test]
    async fn the_ban_that_ends_later_holds_whoever_speaks_last() {
        let begin = millis();
        for order in [[0, 1, 0], [1, 0, 1]] {
            let (nodes, mut store) = ([book(), book()], BTreeMap::new());
            ban(&nodes[0], "spam.example", 3600, begin - 1000);
            ban(&nodes[1], "spam.example", 60, begin);
            for node in order {
                meet(&nodes[node], &mut store);
            }
            for node in &nodes {
                meet(node, &mut store);
                assert!(seconds(node, "spam.example").is_some_and(|left| left > 3000), "{order:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_node_that_was_away_brings_no_lifted_ban_back() {
        let (one, away, mut store) = (book(), book(), BTreeMap::new());
        ban(&one, "spam.example", 3600, millis() - 5000);
        meet(&one, &mut store);
        meet(&away, &mut store);
        assert!(one.lift(&"spam.example".parse().unwrap()));
        meet(&one, &mut store);
        meet(&away, &mut store);
        meet(&one, &mut store);
        assert_eq!((seconds(&one, "spam.example"), seconds(&away, "spam.example")), (None, None));
        // Asked for again afterwards, it holds again.
        ban(&away, "spam.example", 60, millis() + 1);
        for node in [&away, &one] {
            meet(node, &mut store);
        }
        assert!(seconds(&one, "spam.example").is_some());
    }

    // CLU-04: "lying (wrong types, foreign data)".
    #[tokio::test]
    async fn what_nobody_of_us_wrote_is_passed_over() {
        let book = book();
        let words = [
            ("spam.example", "{}"),
            ("a b", "{\"lifted\":1}"),
            ("SPAM.example", "{\"banned\":{\"until\":9999999999999,\"decided\":1,\"uid\":0}}"),
            ("192.0.2.0/24", "[]"),
            ("other.example", "{\"banned\":{\"until\":\"x\",\"decided\":1,\"uid\":0}}"),
            ("far.example", "{\"banned\":{\"until\":9223372036854775807,\"decided\":1,\"uid\":0}}"),
        ];
        let store: BTreeMap<_, _> = words.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let outcome = book.exchange(&store);
        assert_eq!((outcome.foreign, outcome.say.len(), book.all().len()), (6, 0, 0));
        let until = millis() + 60_000;
        let later = format!("{{\"banned\":{{\"until\":{until},\"decided\":1,\"uid\":0,\"more\":[1]}}}}");
        let outcome = book.exchange(&BTreeMap::from([("later.example".to_owned(), later)]));
        assert_eq!((outcome.foreign, book.all().len()), (0, 1), "more than this version knows of");
    }

    #[test]
    fn records_are_joined_in_any_order() {
        let banned = |until, decided, uid| StoredBan::Banned { until, decided, uid };
        let all = [
            banned(10, 1, 0),
            banned(20, 2, 1),
            banned(20, 3, 2),
            banned(5, 9, 0),
            StoredBan::Lifted(2),
            StoredBan::Lifted(7),
        ];
        for a in all {
            assert_eq!(a.join(a), a);
            for b in all {
                assert_eq!(a.join(b), b.join(a), "{a:?} {b:?}");
            }
        }
        assert_eq!(banned(20, 3, 0).join(StoredBan::Lifted(3)), StoredBan::Lifted(3));
        assert_eq!(banned(20, 4, 0).join(StoredBan::Lifted(3)), banned(20, 4, 0));
    }
}
