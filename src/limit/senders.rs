//! What single remote addresses, and the domains behind them, may do to our users (requirements LIM-04, LIM-08).
//!
//! Rates of streams and domains slow everybody behind a domain alike; what is counted here is refused alone: the stanzas of
//! one address, the different accounts here that one domain writes to, its requests for subscriptions. Before a stanza is
//! refused for its sender's rate, its stream is slowed for a while: who only was too lively for a moment loses nothing.
//!
//! A room is one bare address, and two thousand people speak in it: presence and what is said in rooms counts for the full
//! address. Lest somebody invent addresses, the bare one and the domain count as well, with many times as much.
//!
//! Nodes that share a store count together: what each has taken the others take from what is left, a moment later, and a
//! recipient of one domain counts once, whichever node it was reached by (`together`).
//!
//! Each of them is one number under a keyed digest, in tables that all streams share without a lock. The number is the time
//! until which it counts, and tells besides how much there is of it: so one look is enough to know what may be forgotten,
//! and nothing has to be kept together for a domain.
//!
//! **What it buys.** A count of an address takes 28 octets, and a table of names with a bucket each 74 without what the heap adds to a
//! name (100,000 addresses, allocations counted). One rate costs 355 instructions for the 586 of such a table under a lock, and waits
//! for no other stream (`valgrind --tool=callgrind`, 100,000 stanzas of 16 addresses): rows `counting` of `cargo bench --bench core`.
//! That the digest of a domain is begun once and not for each stanza, and who comes back is found for a while, took a stanza among those
//! of 5,000 addresses from 1,920 instructions to 1,020: row `mix` of `cargo bench --bench load`.
//! One table in place of [`TABLES`] held streams up for half a second where hundreds of thousands counted.

use std::array;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicIsize, AtomicU64};
use std::time::{Duration, Instant};

use papaya::{HashMap, LocalGuard};
use siphasher::sip::SipHasher13;

use super::together::{Counts, Digested, Keyed, MINUTE, Unsent};
use crate::jid::Domain;
use crate::reason::Reason;
use crate::relay::Sender;

/// How much is borne in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Stanzas of one address; `BARE` times as many of all full addresses of a bare one, `DOMAIN` times of a domain.
    pub stanzas: NonZeroU32,
    /// Different recipients of one domain.
    pub recipients: NonZeroU32,
    /// Requests for subscriptions of one domain.
    pub subscriptions: NonZeroU32,
}

impl Default for Params {
    fn default() -> Self {
        let many = |n: u32| NonZeroU32::MIN.saturating_add(n - 1);
        Self { stanzas: many(6_000), recipients: many(10_000), subscriptions: many(120) }
    }
}

/// What somebody has sent too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    /// Stanzas to different accounts.
    Recipients,
    /// Stanzas of one address, or of a domain in all.
    Stanzas,
    /// Requests for subscriptions.
    Subscriptions,
}

impl TooMuch {
    /// Why what is too much does not pass.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Recipients => Reason::TooManyRecipients,
            Self::Stanzas => Reason::SenderTooFast,
            Self::Subscriptions => Reason::TooManySubscriptions,
        }
    }
}

/// Who has sent what lately.
#[derive(Debug)]
pub struct Senders {
    params: Params,
    keyed: Keyed,
    /// What other nodes are to hear; none where there are none.
    unsent: Option<Unsent>,
    began: Instant,
    tables: [Shard; TABLES],
}

/// A part of all that is counted, by digest.
#[derive(Debug)]
struct Shard {
    /// Times are in nanoseconds since the gateway began.
    counts: HashMap<u64, AtomicU64, BuildHasherDefault<Digested>>,
    /// How many may still come before those that count no longer are forgotten.
    room: AtomicIsize,
}

impl Senders {
    /// Nobody has sent anything yet.
    pub fn new(params: Params, now: Instant) -> Self {
        Self::counting_by(params, Keyed::drawn(), None, now)
    }

    /// The same, at a node of several that have this secret together.
    pub fn among(params: Params, secret: &[u8; 32], now: Instant) -> Self {
        Self::counting_by(params, Keyed::of(secret), Some(Unsent::default()), now)
    }

    fn counting_by(params: Params, keyed: Keyed, unsent: Option<Unsent>, now: Instant) -> Self {
        // One for all: a guard of one table is then good for the others.
        let collector = Arc::default();
        let tables = array::from_fn(|_| {
            let table = HashMap::builder().hasher(BuildHasherDefault::default());
            let counts = table.shared_collector(Arc::clone(&collector)).build();
            Shard { counts, room: AtomicIsize::new(SWEEP) }
        });
        // What other nodes have counted before this one began has a time, too.
        let began = now.checked_sub(BEFORE).unwrap_or(now);
        Self { params, keyed, unsent, began, tables }
    }

    /// What so many nodes are to hear of what was counted here; it is told once. What is too little to matter to any of them is
    /// kept until there is more of it.
    pub fn unsent(&self, nodes: u32, now: Instant) -> Counts {
        self.unsent.as_ref().map(|unsent| unsent.take(nodes, self.nanos(now))).unwrap_or_default()
    }

    /// Another node has counted this, so long ago.
    pub fn seen_elsewhere(&self, counts: &Counts, ago: Duration, now: Instant) {
        let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        if self.unsent.is_none() || ago >= 2 * MINUTE {
            return;
        }
        let counting = self.counting(self.keyed.hasher(), now);
        let at = counting.now.saturating_sub(ago);
        // What nodes let pass at one moment is owed by all of them; but whatever others say, in a while it is over.
        let most = counting.now.saturating_add(2 * MINUTE + BORNE);
        for (digest, taken) in &counts.taken {
            let later = |full: u64| {
                let next = full.max(at).saturating_add(*taken).min(most);
                (next > full && next > counting.now).then_some(next)
            };
            counting.moves(*digest, later);
        }
        if ago < RECENT {
            for (recipients, recipient) in &counts.reached {
                counting.reaches_one(*recipients, *recipient, u32::MAX);
            }
        }
    }

    /// Whether this stanza is within all of it, and how long its stream should not be read for the next one.
    ///
    /// # Errors
    /// What there is too much of.
    pub fn ask(
        &self,
        sender: &Sender,
        stanza: &[u8],
        tally: &mut Tally,
        now: Instant,
    ) -> Result<Duration, TooMuch> {
        let (begun, of_domain) = tally.begin(&sender.domain, self.keyed);
        let counting = self.counting(begun, now);
        let Params { stanzas, recipients, subscriptions } = self.params;
        if sender.subscribes && counting.takes(Counted::Subscriptions, b"", subscriptions, 1, 0).is_none() {
            return Err(TooMuch::Subscriptions);
        }
        let bare = sender.address.of(stanza);
        let slow = match &sender.occupant {
            None => counting.takes(Counted::Stanzas, bare, stanzas, 1, BORNE),
            Some(occupant) => {
                counting.takes(Counted::Stanzas, occupant.of(stanza), stanzas, 1, BORNE).and_then(|one| {
                    Some(one.max(counting.takes(Counted::Together, bare, times(stanzas, BARE), 1, BORNE)?))
                })
            }
        };
        let slow = slow.ok_or(TooMuch::Stanzas)?;
        let domain = counting.tallies(of_domain, &mut tally.waiting, times(stanzas, DOMAIN));
        let domain = domain.ok_or(TooMuch::Stanzas)?;
        if !counting.reaches(sender.recipient.of(stanza), recipients) {
            return Err(TooMuch::Recipients);
        }
        Ok(Duration::from_nanos(slow.max(domain)))
    }

    fn counting(&self, begun: SipHasher13, now: Instant) -> Counting<'_> {
        let (now, [any, ..]) = (self.nanos(now), &self.tables);
        let unsent = self.unsent.as_ref();
        Counting { tables: &self.tables, guard: any.counts.guard(), begun, unsent, now }
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos().try_into().unwrap_or(u64::MAX)
    }
}

/// Stanzas of a domain that one stream has brought and that are not counted yet: to count each by itself would have all
/// streams of the domain wait for one number.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    waiting: Waiting,
    /// Boxed: most streams are clients', and bring nothing that is counted so.
    last: Option<Box<Last>>,
}

/// How many they are, and of which domain, by its digest.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    domain: u64,
    stanzas: u32,
}

/// The domain that was asked about last: what all of its digests begin with is made once, and its own, too.
#[derive(Clone, Debug)]
struct Last {
    domain: Domain,
    keyed: Keyed,
    begun: SipHasher13,
    digest: u64,
}

impl Tally {
    /// What digests of this domain begin with under that key, and the one that its stanzas count by.
    fn begin(&mut self, domain: &Domain, keyed: Keyed) -> (SipHasher13, u64) {
        if let Some(last) = self.last.as_deref()
            && last.domain == *domain
            && last.keyed == keyed
        {
            return (last.begun, last.digest);
        }
        let mut begun = keyed.hasher();
        begun.write(domain.as_str().as_bytes());
        begun.write_u8(0);
        let digest = digest(begun, Counted::Domain, b"");
        self.last = Some(Box::new(Last { domain: domain.clone(), keyed, begun, digest }));
        (begun, digest)
    }
}

fn digest(mut begun: SipHasher13, counted: Counted, words: &[u8]) -> u64 {
    begun.write(words);
    begun.write_u8(counted as u8);
    begun.finish()
}

/// What is counted of a domain.
#[derive(Clone, Copy)]
enum Counted {
    /// Stanzas of one address: when its bucket, which holds a minute's worth, is full again.
    Stanzas,
    /// Stanzas of all full addresses of a bare one: such a bucket, too.
    Together,
    /// Stanzas of a domain: such a bucket, too.
    Domain,
    /// Requests for subscriptions: such a bucket, too.
    Subscriptions,
    /// That it has written to an account: the end of the minute in which it did.
    Recipient,
    /// How many accounts: the end of their minute, and as many nanoseconds more.
    Recipients,
}

/// The tables, for the length of one question.
struct Counting<'a> {
    tables: &'a [Shard; TABLES],
    guard: LocalGuard<'a>,
    /// Has read the domain already.
    begun: SipHasher13,
    unsent: Option<&'a Unsent>,
    now: u64,
}

impl Counting<'_> {
    fn digest(&self, counted: Counted, words: &[u8]) -> u64 {
        digest(self.begun, counted, words)
    }

    /// Takes so many of this rate, if there are any; for how many nanoseconds the stream should not be read then. A while
    /// above the rate is borne, slowed; who goes on is not slowed any more, but refused, so that the others on the stream go on.
    fn takes(&self, counted: Counted, words: &[u8], rate: NonZeroU32, many: u32, borne: u64) -> Option<u64> {
        let each = MINUTE / u64::from(rate.get());
        let most = self.now.saturating_add(MINUTE).saturating_add(borne);
        let taken = |full: u64| {
            let full = full.max(self.now).saturating_add(each * u64::from(many));
            (full <= most).then_some(full)
        };
        let digest = self.digest(counted, words);
        let before = self.moves(digest, taken)?;
        self.notes(digest, each * u64::from(many));
        let above = taken(before)?.saturating_sub(self.now.saturating_add(MINUTE));
        let slowed = above > 0 && above <= SLOWED;
        Some(if slowed { (each * u64::from(many) / 2).min(LONGEST) } else { 0 })
    }

    /// The same for the domain; where one stanza after the other is of the same, for many at once.
    fn tallies(&self, domain: u64, waiting: &mut Waiting, rate: NonZeroU32) -> Option<u64> {
        let Waiting { domain: before, stanzas } = *waiting;
        if before == domain && stanzas < AT_ONCE {
            waiting.stanzas += 1;
            return Some(0);
        }
        let mut many = 1;
        if before == domain {
            many += stanzas;
        } else if stanzas > 0 {
            let left = MINUTE / u64::from(rate.get()) * u64::from(stanzas);
            self.moves(before, |full| Some(full.max(self.now).saturating_add(left)));
            self.notes(before, left);
        }
        let slow = self.takes(Counted::Domain, b"", rate, many, BORNE);
        match slow {
            Some(_) => *waiting = Waiting { domain, stanzas: 0 },
            // Nothing of it passes uncounted then: the next one asks again.
            None if before == domain => {}
            None => *waiting = Waiting::default(),
        }
        slow
    }

    fn reaches(&self, recipient: &[u8], most: NonZeroU32) -> bool {
        let recipient = self.digest(Counted::Recipient, recipient);
        if self.counts(recipient) {
            return true;
        }
        let recipients = self.digest(Counted::Recipients, b"");
        let Some(count) = self.reaches_one(recipients, recipient, most.get()) else { return false };
        if let Some(unsent) = self.unsent {
            unsent.reached((recipients, recipient), count, most);
        }
        true
    }

    fn counts(&self, digest: u64) -> bool {
        self.found(digest).is_some_and(|until| until.load(Relaxed) > self.now)
    }

    /// One more recipient, if there may be one; how many there are with it.
    fn reaches_one(&self, recipients: u64, recipient: u64, most: u32) -> Option<u64> {
        if self.counts(recipient) {
            return Some(0);
        }
        let minute = |until: u64| until - until % MINUTE;
        let this = minute(self.now).saturating_add(MINUTE);
        let one_more = |until: u64| {
            // Another stream may have seen the next minute begin: time does not go back.
            let until = until.max(this);
            (until % MINUTE < u64::from(most)).then(|| until.saturating_add(1))
        };
        let before = self.moves(recipients, one_more)?.max(this);
        let end = minute(before);
        if self.moves(recipient, |until| (until < end).then_some(end)).is_none() {
            // Another stream has counted the same account meanwhile: one place for it is enough.
            let one_less = |until: u64| (until > end && minute(until) == end).then(|| until - 1);
            self.moves(recipients, one_less);
            return Some(0);
        }
        Some(before % MINUTE + 1)
    }

    /// Other nodes are to hear of it.
    fn notes(&self, digest: u64, taken: u64) {
        if let Some(unsent) = self.unsent {
            unsent.taken(digest, taken, self.now);
        }
    }

    /// Not by the highest or the lowest bits: those place it within its table.
    fn table(&self, digest: u64) -> Option<&Shard> {
        self.tables.get((digest >> 32) as usize % TABLES)
    }

    fn found(&self, digest: u64) -> Option<&AtomicU64> {
        self.table(digest)?.counts.get(&digest, &self.guard)
    }

    /// Gives what is found under this digest its next number, if there is one for it; returns the one before.
    fn moves(&self, digest: u64, next: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let until = match self.found(digest) {
            Some(until) => until,
            None => {
                let first = next(0)?;
                let table = self.table(digest)?;
                table.sweep(self.now, &self.guard);
                match table.counts.try_insert(digest, AtomicU64::new(first), &self.guard) {
                    Ok(_) => return Some(0),
                    Err(known) => known.current,
                }
            }
        };
        until.fetch_update(Relaxed, Relaxed, next).ok()
    }
}

impl Shard {
    /// Makes room for one more. Whoever takes the last place sweeps, and nobody else meanwhile.
    fn sweep(&self, now: u64, guard: &LocalGuard<'_>) {
        if self.room.fetch_sub(1, Relaxed) != 1 {
            return;
        }
        // What begins to count again between the look and the removal loses that one count.
        self.counts.retain(|_, until| until.load(Relaxed) > now, guard);
        let left = self.counts.len().try_into().unwrap_or(isize::MAX);
        self.room.store(left.max(SWEEP), Relaxed);
    }
}

fn times(rate: NonZeroU32, many: NonZeroU32) -> NonZeroU32 {
    rate.saturating_mul(many)
}

/// How many times as much as one address all full addresses of a bare one may send: a room with all its people.
pub const BARE: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);

/// How many times as much as one address its whole domain may send.
pub const DOMAIN: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);

/// Time before the beginning of which other nodes may tell.
const BEFORE: Duration = Duration::from_secs(120);

/// Recipients that another node has seen longer ago belong to another minute, in nanoseconds.
const RECENT: u64 = 5_000_000_000;

/// How many seconds' worth above a minute's is borne before anything is refused.
const BORNE: u64 = 10_000_000_000;

/// Up to here above the rate the stream is slowed, too.
const SLOWED: u64 = BORNE / 4 * 3;

/// The longest that one stanza slows its stream: others are on it, too.
const LONGEST: u64 = 100_000_000;

/// Stanzas of a domain on one stream that are counted at once.
const AT_ONCE: u32 = 16;

/// Whoever sweeps holds up its own streams: many small tables keep that short when hundreds of thousands count.
const TABLES: usize = 64;

/// What counts no longer is forgotten whenever its table has doubled above this: 8,192 in all, in a quarter of a MiB. Who comes back
/// before that is found and needs not be counted anew, which costs twice as much.
const SWEEP: isize = 128;

#[cfg(test)]
#[path = "senders_tests.rs"]
mod tests;
