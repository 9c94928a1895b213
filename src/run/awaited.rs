//! Keys of ours that somebody may be asking about: those with which far legs wait, and for T-dialback after these are gone.
//!
//! A key is awaited in its realm alone, so one that was sent to a backend can never be vouched for in public (DB-04).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::reason::Facing;
use crate::stream::{KeyCheck, Pair};

/// The keys of this process.
#[derive(Debug)]
pub struct Awaited {
    keys: Mutex<HashMap<Place, Vec<Key>>>,
    /// T-dialback.
    keep: Mutex<Duration>,
}

/// Where keys are awaited: the realm, the pair, and the stream that they were made for.
type Place = (Facing, Pair, String);

/// A key. There are two in one place where an epoch ends between two attempts.
#[derive(Debug)]
struct Key {
    text: String,
    /// When it was sent last.
    sent: Instant,
    legs: usize,
    /// Somebody has asked about it.
    asked: bool,
    until: Option<Instant>,
}

impl Key {
    fn is_awaited(&self, now: Instant) -> bool {
        self.legs > 0 || self.until.is_some_and(|until| until > now)
    }
}

impl Awaited {
    /// None yet. `keep` is T-dialback.
    pub fn new(keep: Duration) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::default(), keep: Mutex::new(keep) })
    }

    /// T-dialback is this from now on.
    pub fn keep(&self, keep: Duration) {
        *held(&self.keep) = keep;
    }

    /// A far leg that looks at this network sends this key now (DB-42, DB-61).
    pub fn sent(self: &Arc<Self>, facing: Facing, check: KeyCheck, now: Instant) -> AwaitTicket {
        let KeyCheck { pair, stream, key: text } = check;
        let place = (facing, pair, stream);
        let mut keys = held(&self.keys);
        if keys.len() >= SWEEP && keys.len().is_power_of_two() {
            keys.retain(|_, here| here.iter().any(|key| key.is_awaited(now)));
        }
        let here = keys.entry(place.clone()).or_default();
        here.retain(|key| key.is_awaited(now) || key.text == text);
        match here.iter_mut().find(|key| key.text == text) {
            Some(key) => (key.legs, key.sent) = (key.legs.saturating_add(1), now),
            None => here.push(Key { text: text.clone(), sent: now, legs: 1, asked: false, until: None }),
        }
        drop(keys);
        AwaitTicket { awaited: Arc::clone(self), place, text }
    }

    /// How long ago this key was sent last, if a far leg that looks at this network waits with it, or did so within
    /// T-dialback. It takes the same time whatever the key (DB-14).
    pub fn vouches(&self, facing: Facing, check: &KeyCheck, now: Instant) -> Option<Duration> {
        let mut keys = held(&self.keys);
        let here = keys.get_mut(&(facing, check.pair.clone(), check.stream.clone()))?;
        let mut age = None;
        for key in here {
            if verify_slices_are_equal(key.text.as_bytes(), check.key.as_bytes()).is_ok() {
                key.asked = true;
                age = key.is_awaited(now).then(|| now.saturating_duration_since(key.sent)).or(age);
            }
        }
        age
    }

    fn left(&self, place: &Place, text: &str, now: Instant) {
        let keep = *held(&self.keep);
        let mut keys = held(&self.keys);
        if let Some(key) = keys.get_mut(place).and_then(|here| here.iter_mut().find(|key| key.text == text)) {
            key.legs = key.legs.saturating_sub(1);
            key.until = Some(now + keep);
        }
    }
}

/// A far leg waits with a key for as long as this lives.
#[derive(Debug)]
pub struct AwaitTicket {
    awaited: Arc<Awaited>,
    place: Place,
    text: String,
}

impl AwaitTicket {
    /// Whether somebody has asked about the key.
    pub fn is_asked(&self) -> bool {
        let keys = held(&self.awaited.keys);
        keys.get(&self.place).is_some_and(|here| here.iter().any(|key| key.text == self.text && key.asked))
    }
}

impl Drop for AwaitTicket {
    fn drop(&mut self) {
        self.awaited.left(&self.place, &self.text, super::now());
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Old keys are forgotten whenever the table has doubled above this.
const SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Domain;
    use crate::run::now;

    fn awaited() -> Arc<Awaited> {
        Awaited::new(Duration::from_secs(30))
    }

    fn check(key: &str) -> KeyCheck {
        let domain = |s| Domain::parse(s).unwrap();
        let pair = Pair { sender: domain("hall.example"), target: domain("friend.example") };
        KeyCheck { pair, stream: "s".into(), key: key.into() }
    }

    // DB-42: or held within T-dialback.
    #[tokio::test(start_paused = true)]
    async fn a_key_is_vouched_for_until_t_dialback_after_its_leg_is_gone() {
        let keys = awaited();
        let ticket = keys.sent(Facing::Public, check("k"), now());
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(keys.vouches(Facing::Public, &check("k"), now()), Some(Duration::from_secs(100)));
        drop(ticket);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(keys.vouches(Facing::Public, &check("k"), now()).is_some());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(keys.vouches(Facing::Public, &check("k"), now()), None);
    }

    // DB-04: an element that arrives on one side never completes an operation of the other.
    #[tokio::test]
    async fn a_key_awaited_from_a_backend_is_unknown_in_public() {
        let keys = awaited();
        let _ticket = keys.sent(Facing::Backend, check("k"), now());
        assert!(keys.vouches(Facing::Backend, &check("k"), now()).is_some());
        assert_eq!(keys.vouches(Facing::Public, &check("k"), now()), None);
        assert_eq!(keys.vouches(Facing::Backend, &check("other"), now()), None);
        let other = KeyCheck { stream: "another".into(), ..check("k") };
        assert_eq!(keys.vouches(Facing::Backend, &other, now()), None);
    }

    // CLU-02: the same pair on a stream of the same id, an epoch later: both keys are awaited, each as long as its leg.
    #[tokio::test(start_paused = true)]
    async fn two_keys_may_be_awaited_in_one_place() {
        let keys = awaited();
        let first = keys.sent(Facing::Public, check("1"), now());
        let _second = keys.sent(Facing::Public, check("2"), now());
        drop(first);
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(keys.vouches(Facing::Public, &check("1"), now()), None);
        assert!(keys.vouches(Facing::Public, &check("2"), now()).is_some());
    }

    // BE-01.
    #[tokio::test]
    async fn it_is_known_whether_anybody_asked_about_a_key() {
        let keys = awaited();
        let (asked, other) = (check("k"), check("other"));
        let tickets = [&asked, &other].map(|c| keys.sent(Facing::Backend, c.clone(), now()));
        assert!(!tickets[0].is_asked());
        assert!(keys.vouches(Facing::Backend, &asked, now()).is_some());
        assert!(tickets[0].is_asked() && !tickets[1].is_asked());
    }

    #[tokio::test(start_paused = true)]
    async fn old_keys_do_not_pile_up() {
        let keys = awaited();
        for n in 0..10 * SWEEP {
            let at = KeyCheck { stream: n.to_string(), ..check("k") };
            drop(keys.sent(Facing::Public, at, now()));
            drop(keys.sent(Facing::Public, check(&n.to_string()), now()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let held = held(&keys.keys);
        assert!(held.len() <= 2 * SWEEP && held.values().all(|here| here.len() <= 64));
    }
}
