//! What single remote addresses, and the domains behind them, may do to our users (requirements LIM-04, LIM-08).
//!
//! Rates of streams and domains slow everybody behind a domain alike; what is counted here is refused alone: the stanzas of
//! one address, the different accounts here that one domain writes to, its requests for subscriptions.
//!
//! Each of them is one number under a keyed digest, in tables that all streams share without a lock. The number is the time
//! until which it counts, and tells besides how much there is of it: so one look is enough to know what may be forgotten,
//! and nothing has to be kept together for a domain.

use std::array;
use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash as _, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicIsize, AtomicU64};
use std::time::Instant;

use papaya::{HashMap, LocalGuard};

use crate::jid::Domain;
use crate::reason::Reason;
use crate::relay::Sender;

/// How much is borne in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Stanzas of one address.
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

/// Who has sent what lately.
#[derive(Debug)]
pub struct Senders {
    params: Params,
    keys: RandomState,
    began: Instant,
    tables: [Table; TABLES],
}

/// A part of all that is counted, by digest.
#[derive(Debug)]
struct Table {
    /// Times are in nanoseconds since the gateway began.
    counts: HashMap<u64, AtomicU64, BuildHasherDefault<Digested>>,
    /// How many may still come before those that count no longer are forgotten.
    room: AtomicIsize,
}

impl Senders {
    /// Nobody has sent anything yet.
    pub fn new(params: Params, now: Instant) -> Self {
        // One for all: a guard of one table is then good for the others.
        let collector = Arc::default();
        let tables = array::from_fn(|_| {
            let table = HashMap::builder().hasher(BuildHasherDefault::default());
            let counts = table.shared_collector(Arc::clone(&collector)).build();
            Table { counts, room: AtomicIsize::new(SWEEP) }
        });
        Self { params, keys: RandomState::new(), began: now, tables }
    }

    /// Whether this stanza is within all of it.
    ///
    /// # Errors
    /// [`Reason::TooManySubscriptions`], [`Reason::SenderTooFast`], [`Reason::TooManyRecipients`].
    pub fn ask(&self, sender: &Sender, stanza: &[u8], now: Instant) -> Result<(), Reason> {
        let counting = self.counting(&sender.domain, now);
        if sender.subscribes && !counting.takes(Counted::Subscriptions, b"", self.params.subscriptions) {
            return Err(Reason::TooManySubscriptions);
        }
        if !counting.takes(Counted::Stanzas, sender.address.of(stanza), self.params.stanzas) {
            return Err(Reason::SenderTooFast);
        }
        if !counting.reaches(sender.recipient.of(stanza), self.params.recipients) {
            return Err(Reason::TooManyRecipients);
        }
        Ok(())
    }

    fn counting(&self, domain: &Domain, now: Instant) -> Counting<'_> {
        let mut keyed = self.keys.build_hasher();
        domain.hash(&mut keyed);
        let now = now.saturating_duration_since(self.began).as_nanos().try_into().unwrap_or(u64::MAX);
        let [any, ..] = &self.tables;
        Counting { tables: &self.tables, guard: any.counts.guard(), domain: keyed, now }
    }
}

/// What is counted of a domain.
#[derive(Clone, Copy)]
enum Counted {
    /// Stanzas of one address: when its bucket, which holds a minute's worth, is full again.
    Stanzas,
    /// Requests for subscriptions: such a bucket, too.
    Subscriptions,
    /// That it has written to an account: the end of the minute in which it did.
    Recipient,
    /// How many accounts: the end of their minute, and as many nanoseconds more.
    Recipients,
}

/// The tables, for the length of one question.
struct Counting<'a> {
    tables: &'a [Table; TABLES],
    guard: LocalGuard<'a>,
    /// Has read the domain already.
    domain: DefaultHasher,
    now: u64,
}

impl Counting<'_> {
    fn digest(&self, counted: Counted, words: &[u8]) -> u64 {
        let mut digest = self.domain.clone();
        digest.write(words);
        digest.write_u8(counted as u8);
        digest.finish()
    }

    /// Takes one of so many in a minute, if there is one.
    fn takes(&self, counted: Counted, words: &[u8], rate: NonZeroU32) -> bool {
        let taken = |full: u64| {
            let full = full.max(self.now).saturating_add(MINUTE / u64::from(rate.get()));
            (full <= self.now.saturating_add(MINUTE)).then_some(full)
        };
        self.moves(self.digest(counted, words), taken).is_some()
    }

    fn reaches(&self, recipient: &[u8], most: NonZeroU32) -> bool {
        let recipient = self.digest(Counted::Recipient, recipient);
        if self.found(recipient).is_some_and(|until| until.load(Relaxed) > self.now) {
            return true;
        }
        let recipients = self.digest(Counted::Recipients, b"");
        let minute = |until: u64| until - until % MINUTE;
        let this = minute(self.now).saturating_add(MINUTE);
        let one_more = |until: u64| {
            // Another stream may have seen the next minute begin: time does not go back.
            let until = until.max(this);
            (until % MINUTE < u64::from(most.get())).then(|| until.saturating_add(1))
        };
        let Some(before) = self.moves(recipients, one_more) else { return false };
        let end = minute(before.max(this));
        if self.moves(recipient, |until| (until < end).then_some(end)).is_none() {
            // Another stream has counted the same account meanwhile: one place for it is enough.
            let one_less = |until: u64| (until > end && minute(until) == end).then(|| until - 1);
            self.moves(recipients, one_less);
        }
        true
    }

    /// Not by the highest or the lowest bits: those place it within its table.
    fn table(&self, digest: u64) -> Option<&Table> {
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

impl Table {
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

/// Takes keyed digests for what they are.
#[derive(Debug, Default)]
struct Digested(u64);

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
const MINUTE: u64 = 60_000_000_000;

/// Whoever sweeps holds up its own streams: many small tables keep that short when hundreds of thousands count.
const TABLES: usize = 64;

/// What counts no longer is forgotten whenever its table has doubled above this.
const SWEEP: isize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::relay::Words;

    const MINUTE: Duration = Duration::from_secs(60);
    const THREADS: usize = 4;

    fn senders(stanzas: u32, recipients: u32, subscriptions: u32, now: Instant) -> Senders {
        let many = |n| NonZeroU32::new(n).unwrap();
        let params = Params {
            stanzas: many(stanzas),
            recipients: many(recipients),
            subscriptions: many(subscriptions),
        };
        Senders::new(params, now)
    }

    fn from(address: &str, recipient: &str, subscribes: bool) -> Sender {
        let domain = Domain::parse(address.split_once('@').unwrap().1).unwrap();
        let words = |text: &str| Words::Apart(text.into());
        Sender { domain, address: words(address), recipient: words(recipient), subscribes }
    }

    fn ask(senders: &Senders, sender: &Sender, now: Instant) -> Result<(), Reason> {
        senders.ask(sender, b"", now)
    }

    fn counted(senders: &Senders) -> usize {
        senders.tables.iter().map(|table| table.counts.len()).sum()
    }

    /// Those who came through, where several threads ask for all of them at once.
    fn race<'a>(senders: &Senders, all: &'a [Sender], now: Instant) -> Vec<&'a Sender> {
        let start = &Barrier::new(THREADS);
        let passing = move || {
            start.wait();
            all.iter().filter(|sender| ask(senders, sender, now).is_ok()).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let runners: Vec<_> = (0..THREADS).map(|_| scope.spawn(passing)).collect();
            runners.into_iter().flat_map(|runner| runner.join().unwrap()).collect()
        })
    }

    // LIM-04: "stanza rate .. per sender JID".
    #[test]
    fn one_address_sends_so_much_in_a_minute_and_its_neighbour_too() {
        let start = Instant::now();
        let senders = senders(60, 1000, 1000, start);
        let ask = |who, now| ask(&senders, &from(who, "j@hall.example", false), now);
        for _ in 0..60 {
            assert_eq!(ask("a@friend.example", start), Ok(()));
        }
        assert_eq!(ask("a@friend.example", start), Err(Reason::SenderTooFast));
        assert_eq!(ask("b@friend.example", start), Ok(()));
        let later = start + Duration::from_secs(1);
        assert_eq!(ask("a@friend.example", later), Ok(()));
        assert_eq!(ask("a@friend.example", later), Err(Reason::SenderTooFast));
    }

    // LIM-04: "number of distinct local recipients per sender domain and period".
    #[test]
    fn one_domain_reaches_so_many_accounts_in_a_minute() {
        let start = Instant::now();
        let senders = senders(60_000, 3, 1000, start);
        let allows = |to, now| ask(&senders, &from("a@friend.example", to, false), now);
        for to in ["j@hall.example", "k@hall.example", "j@annex.example"] {
            assert_eq!(allows(to, start), Ok(()), "{to}");
        }
        let other = from("b@friend.example", "l@hall.example", false);
        assert_eq!(ask(&senders, &other, start), Err(Reason::TooManyRecipients), "the domain counts");
        assert_eq!(allows("k@hall.example", start), Ok(()), "whom it knows it may go on writing to");
        let stranger = from("c@cousin.example", "l@hall.example", false);
        assert_eq!(ask(&senders, &stranger, start), Ok(()));
        assert_eq!(allows("l@hall.example", start + MINUTE), Ok(()));
    }

    // LIM-08: "presence subscription requests from a sender domain have their own rate".
    #[test]
    fn one_domain_asks_for_so_many_subscriptions_in_a_minute() {
        let start = Instant::now();
        let senders = senders(60_000, 1000, 2, start);
        let ask = |subscribes| ask(&senders, &from("a@friend.example", "j@hall.example", subscribes), start);
        assert_eq!((ask(true), ask(true)), (Ok(()), Ok(())));
        assert_eq!(ask(true), Err(Reason::TooManySubscriptions));
        assert_eq!(ask(false), Ok(()), "what is no request goes on");
    }

    #[test]
    fn what_is_counted_of_two_domains_or_of_two_kinds_is_apart() {
        let start = Instant::now();
        let senders = senders(1, 1, 1, start);
        for domain in ["friend.example", "cousin.example"] {
            let words = || Words::Apart("j@hall.example".into());
            let domain = Domain::parse(domain).unwrap();
            let sender = Sender { domain, address: words(), recipient: words(), subscribes: true };
            assert_eq!(ask(&senders, &sender, start), Ok(()));
        }
    }

    // LIM-04, LIM-08: streams that send at once get no more, and no less, than one would.
    #[test]
    fn streams_that_meet_at_one_sender_share_what_it_may() {
        let start = Instant::now();
        let senders = senders(5_000, 1000, 700, start);
        let plain = vec![from("a@friend.example", "j@hall.example", false); 4_000];
        assert_eq!(race(&senders, &plain, start).len(), 5_000);
        let subscribes = vec![from("b@friend.example", "j@hall.example", true); 500];
        assert_eq!(race(&senders, &subscribes, start).len(), 700);
    }

    // LIM-04: the same, where the recipients are new to all of them.
    #[test]
    fn streams_that_meet_at_new_recipients_share_their_number() {
        let start = Instant::now();
        let senders = senders(600_000, 1000, 1000, start);
        let to = |n: u32| from("a@friend.example", &format!("j{n}@hall.example"), false);
        let all: Vec<_> = (0..2_000).map(to).collect();
        for minute in 0..10 {
            let now = start + minute * MINUTE;
            let mut reached: HashSet<_> = race(&senders, &all, now).into_iter().collect();
            assert!(reached.iter().all(|sender| ask(&senders, sender, now).is_ok()));
            // Whoever was refused while a place was about to be given back.
            reached.extend(all.iter().filter(|sender| ask(&senders, sender, now).is_ok()));
            assert_eq!(reached.len(), 1000);
        }
    }

    // LIM-02: all memory is released.
    #[test]
    fn what_is_quiet_is_forgotten() {
        let start = Instant::now();
        let senders = senders(60_000, 1000, 1000, start);
        for n in 0..5_000_u32 {
            let sender = from(&format!("a@d{n}.example"), "j@hall.example", true);
            assert_eq!(ask(&senders, &sender, start + Duration::from_secs(n.into())), Ok(()));
        }
        assert!(counted(&senders) <= 2048);
        for n in 5_000..10_000_u32 {
            let sender = from(&format!("a{n}@friend.example"), &format!("j{n}@hall.example"), true);
            assert_eq!(ask(&senders, &sender, start + Duration::from_secs(n.into())), Ok(()));
        }
        assert!(counted(&senders) <= 2048);
    }

    // LIM-02: nobody gets a new bucket by making the table full.
    #[test]
    fn what_still_counts_is_not_forgotten() {
        let start = Instant::now();
        let senders = senders(1, 1, 1, start);
        let first = from("a@friend.example", "j@hall.example", true);
        assert_eq!(ask(&senders, &first, start), Ok(()));
        let now = start + MINUTE - Duration::from_secs(1);
        let others: Vec<_> =
            (0..5_000).map(|n| from(&format!("a@d{n}.example"), "j@hall.example", true)).collect();
        assert_eq!(race(&senders, &others, now).len(), 5_000);
        assert_eq!(counted(&senders), 4 * 5_001);
        assert_eq!(ask(&senders, &first, now), Err(Reason::TooManySubscriptions));
        let plain = |address, recipient| from(address, recipient, false);
        let again = plain("a@friend.example", "j@hall.example");
        assert_eq!(ask(&senders, &again, now), Err(Reason::SenderTooFast));
        let further = plain("b@friend.example", "k@hall.example");
        assert_eq!(ask(&senders, &further, now), Err(Reason::TooManyRecipients));
    }
}
