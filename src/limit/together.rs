//! What nodes of one domain tell each other of what limits count, under digests that all of them make alike.
//!
//! Nobody waits for it: what passes is noted, taken from here twice a second by who keeps the store company, and counted at the
//! others when they hear it. Only what matters is told: of a minute's worth a node keeps at most a sixteenth, shared among all
//! nodes, to itself. So a limit of all together is at most that much higher than one of a single node, beside what passes
//! in the moment until all have heard. Who reads the store learns numbers, and not of whom.

use std::array;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use siphasher::sip::SipHasher13;

use super::held;

/// By what digests are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Keyed([u8; 16]);

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed")
    }
}

impl Keyed {
    /// This process's own.
    pub(super) fn drawn() -> Self {
        let words = [RandomState::new().hash_one(0_u8), RandomState::new().hash_one(1_u8)];
        let mut key = [0; 16];
        for (place, octet) in key.iter_mut().zip(words.into_iter().flat_map(u64::to_le_bytes)) {
            *place = octet;
        }
        Self(key)
    }

    /// That of all who have this secret.
    pub(super) fn of(secret: &[u8; 32]) -> Self {
        let mut key = [0; 16];
        for (place, octet) in key.iter_mut().zip(secret) {
            *place = *octet;
        }
        Self(key)
    }

    pub(super) fn hasher(self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// What was counted at one node in a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What was taken of rates: the digest of each, and for how many nanoseconds it fills again.
    pub taken: Vec<(u64, u64)>,
    /// The digests of a domain's recipients, and of a new one among them.
    pub reached: Vec<(u64, u64)>,
}

impl Counts {
    /// So much of each kind is told at one time, and heard.
    pub const MOST: usize = 500;

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.reached.is_empty()
    }

    /// Whether it is no more than a node tells at one time.
    pub fn is_bounded(&self) -> bool {
        self.taken.len() <= Self::MOST && self.reached.len() <= Self::MOST
    }
}

/// The part of a limit that a node of so many may keep to itself: one in this many.
pub(super) fn parts(nodes: u32) -> u32 {
    nodes.max(1).saturating_mul(16)
}

/// What the others have not heard yet.
#[derive(Debug)]
pub(super) struct Unsent {
    taken: [Mutex<Shard>; SHARDS],
    reached: Mutex<Vec<(u64, u64)>>,
    nodes: AtomicU32,
}

type Shard = HashMap<u64, Taken, BuildHasherDefault<Digested>>;

#[derive(Clone, Copy, Debug)]
struct Taken {
    nanos: u64,
    since: u64,
}

impl Default for Unsent {
    fn default() -> Self {
        let taken = array::from_fn(|_| Mutex::default());
        Self { taken, reached: Mutex::default(), nodes: AtomicU32::new(1) }
    }
}

impl Unsent {
    /// So much was taken of this rate.
    pub(super) fn taken(&self, digest: u64, nanos: u64, now: u64) {
        let Some(shard) = self.taken.get((digest >> 32) as usize % SHARDS) else { return };
        let mut shard = held(shard);
        if let Some(known) = shard.get_mut(&digest) {
            known.nanos = known.nanos.saturating_add(nanos);
            return;
        }
        if shard.len() >= SHARD {
            // A flood of names must not hide who matters: what is next to nothing goes.
            shard.retain(|_, known| known.nanos >= LITTLE && known.since.saturating_add(MINUTE) > now);
        }
        if shard.len() < SHARD {
            shard.insert(digest, Taken { nanos, since: now });
        }
    }

    /// A domain has reached one more recipient, and so many with it.
    pub(super) fn reached(&self, which: (u64, u64), count: u64, most: NonZeroU32) {
        let parts = u64::from(parts(self.nodes.load(Ordering::Relaxed)));
        if count > 0 && count.saturating_mul(parts) >= u64::from(most.get()) {
            let mut reached = held(&self.reached);
            if reached.len() < REACHED {
                reached.push(which);
            }
        }
    }

    /// What so many nodes are to hear now.
    pub(super) fn take(&self, nodes: u32, now: u64) -> Counts {
        self.nodes.store(nodes, Ordering::Relaxed);
        let least = MINUTE / u64::from(parts(nodes));
        let mut taken = Vec::new();
        for shard in &self.taken {
            held(shard).retain(|digest, known| {
                let tells = known.nanos >= least;
                if tells {
                    taken.push((*digest, known.nanos));
                }
                !tells && known.since.saturating_add(MINUTE) > now
            });
        }
        taken.sort_unstable_by_key(|(digest, nanos)| (std::cmp::Reverse(*nanos), *digest));
        for (digest, nanos) in taken.drain(taken.len().min(Counts::MOST)..) {
            self.taken(digest, nanos, now);
        }
        let mut waiting = held(&self.reached);
        let first = waiting.len().min(Counts::MOST);
        let reached = waiting.drain(..first).collect();
        Counts { taken, reached }
    }
}

/// Takes keyed digests for what they are.
#[derive(Debug, Default)]
pub(super) struct Digested(u64);

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.0 = self.0.rotate_left(8) ^ u64::from(*octet));
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

/// In nanoseconds.
pub(super) const MINUTE: u64 = 60_000_000_000;

/// Of a minute's worth, what is forgotten first where there is too much.
const LITTLE: u64 = MINUTE / 64;

/// Rates that wait to be told, in parts that are locked alone, and recipients.
const SHARDS: usize = 64;
const SHARD: usize = 512;
const REACHED: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_told_and_a_flood_of_names_hides_nobody() {
        let unsent = Unsent::default();
        let least = MINUTE / 48;
        unsent.taken(1, least - 1, 0);
        unsent.taken(2, least, 0);
        assert_eq!(unsent.take(3, 0).taken, [(2, least)]);
        assert!(unsent.take(3, 0).is_empty(), "it is told once");
        unsent.taken(1, 1, MINUTE - 1);
        assert_eq!(
            unsent.take(3, MINUTE - 1).taken,
            [(1, least)],
            "what was too little is kept until it is more"
        );
        unsent.taken(1, least - 1, 0);
        assert!(unsent.take(3, MINUTE).is_empty());
        unsent.taken(1, 1, MINUTE);
        assert!(unsent.take(3, MINUTE).is_empty(), "and what is of a minute ago is over");
        // All in one part of it.
        unsent.taken(1 << 40, LITTLE, MINUTE);
        (0..100_000).for_each(|n| unsent.taken(n, 1, MINUTE));
        let kept: usize = unsent.taken.iter().map(|shard| held(shard).len()).sum();
        assert!(kept <= SHARD + 1, "{kept}");
        assert_eq!(unsent.take(64, MINUTE).taken, [(1 << 40, LITTLE)]);
        // Too much for one time is told the next.
        (0..2_000).for_each(|n| unsent.taken(n << 32, MINUTE + n, MINUTE));
        let told: Vec<_> = (0..5).flat_map(|_| unsent.take(3, MINUTE).taken).collect();
        assert!(told.len() == 2_000 && told[0].1 == MINUTE + 1_999 && told[1_999].1 == MINUTE);
    }

    #[test]
    fn recipients_are_told_once_a_domain_has_many() {
        let unsent = Unsent::default();
        let most = NonZeroU32::new(480).unwrap();
        let _nodes = unsent.take(3, 0);
        unsent.reached((1, 2), 9, most);
        unsent.reached((1, 3), 10, most);
        unsent.reached((1, 4), 0, most);
        assert_eq!(unsent.take(3, 0).reached, [(1, 3)]);
        (0..100_000).for_each(|n| unsent.reached((1, n), 10, most));
        let told: usize = (0..100).map(|_| unsent.take(3, 0).reached.len()).sum();
        assert_eq!(told, REACHED);
    }
}
