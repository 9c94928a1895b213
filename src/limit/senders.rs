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
//! recipient of one domain counts once, whichever node it was reached by (`common`).
//!
//! Each of them is one number under a keyed digest, in tables that all streams share without a lock. The number is the time
//! until which it counts, and tells besides how much there is of it: so one look is enough to know what may be forgotten,
//! and nothing has to be kept together for a domain.

use std::array;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicIsize, AtomicU64};
use std::time::{Duration, Instant};

use papaya::{HashMap, LocalGuard};
use siphasher::sip::SipHasher13;

use super::common::{Counts, Digested, Keyed, MINUTE, Untold};
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

/// Who has sent what lately.
#[derive(Debug)]
pub struct Senders {
    params: Params,
    keyed: Keyed,
    /// What other nodes are to hear; none where there are none.
    untold: Option<Untold>,
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
        Self::counting_by(params, Keyed::drawn(), None, now)
    }

    /// The same, at a node of several that have this secret together.
    pub fn among(params: Params, secret: &[u8; 32], now: Instant) -> Self {
        Self::counting_by(params, Keyed::of(secret), Some(Untold::default()), now)
    }

    fn counting_by(params: Params, keyed: Keyed, untold: Option<Untold>, now: Instant) -> Self {
        // One for all: a guard of one table is then good for the others.
        let collector = Arc::default();
        let tables = array::from_fn(|_| {
            let table = HashMap::builder().hasher(BuildHasherDefault::default());
            let counts = table.shared_collector(Arc::clone(&collector)).build();
            Table { counts, room: AtomicIsize::new(SWEEP) }
        });
        // What other nodes have counted before this one began has a time, too.
        let began = now.checked_sub(BEFORE).unwrap_or(now);
        Self { params, keyed, untold, began, tables }
    }

    /// What so many nodes are to hear of what was counted here; it is told once. What is too little to matter to any of them is
    /// kept until there is more of it.
    pub fn untold(&self, nodes: u32, now: Instant) -> Counts {
        self.untold.as_ref().map(|untold| untold.take(nodes, self.nanos(now))).unwrap_or_default()
    }

    /// Another node has counted this, so long ago.
    pub fn seen_elsewhere(&self, counts: &Counts, ago: Duration, now: Instant) {
        let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        if self.untold.is_none() || ago >= 2 * MINUTE {
            return;
        }
        let counting = self.counting_by_digest(now);
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
    /// [`Reason::TooManySubscriptions`], [`Reason::SenderTooFast`], [`Reason::TooManyRecipients`].
    pub fn ask(
        &self,
        sender: &Sender,
        stanza: &[u8],
        tally: &mut Tally,
        now: Instant,
    ) -> Result<Duration, Reason> {
        let counting = self.counting(&sender.domain, now);
        let Params { stanzas, recipients, subscriptions } = self.params;
        if sender.subscribes && counting.takes(Counted::Subscriptions, b"", subscriptions, 1, 0).is_none() {
            return Err(Reason::TooManySubscriptions);
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
        let slow = slow.ok_or(Reason::SenderTooFast)?;
        let domain = counting.tallies(tally, times(stanzas, DOMAIN)).ok_or(Reason::SenderTooFast)?;
        if !counting.reaches(sender.recipient.of(stanza), recipients) {
            return Err(Reason::TooManyRecipients);
        }
        Ok(Duration::from_nanos(slow.max(domain)))
    }

    fn counting(&self, domain: &Domain, now: Instant) -> Counting<'_> {
        let mut counting = self.counting_by_digest(now);
        counting.domain.write(domain.as_str().as_bytes());
        counting.domain.write_u8(0);
        counting
    }

    fn counting_by_digest(&self, now: Instant) -> Counting<'_> {
        let (now, [any, ..]) = (self.nanos(now), &self.tables);
        let (domain, untold) = (self.keyed.hasher(), self.untold.as_ref());
        Counting { tables: &self.tables, guard: any.counts.guard(), domain, untold, now }
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos().try_into().unwrap_or(u64::MAX)
    }
}

/// Stanzas of a domain that one stream has brought and that are not counted yet: to count each by itself would have all
/// streams of the domain wait for one number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    domain: u64,
    stanzas: u32,
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
    tables: &'a [Table; TABLES],
    guard: LocalGuard<'a>,
    /// Has read the domain already.
    domain: SipHasher13,
    untold: Option<&'a Untold>,
    now: u64,
}

impl Counting<'_> {
    fn digest(&self, counted: Counted, words: &[u8]) -> u64 {
        let mut digest = self.domain;
        digest.write(words);
        digest.write_u8(counted as u8);
        digest.finish()
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
    fn tallies(&self, tally: &mut Tally, rate: NonZeroU32) -> Option<u64> {
        let domain = self.digest(Counted::Domain, b"");
        if tally.domain == domain && tally.stanzas < AT_ONCE {
            tally.stanzas += 1;
            return Some(0);
        }
        let passed = std::mem::take(tally);
        let mut many = 1;
        if passed.domain == domain {
            many += passed.stanzas;
        } else if passed.stanzas > 0 {
            let left = MINUTE / u64::from(rate.get()) * u64::from(passed.stanzas);
            self.moves(passed.domain, |full| Some(full.max(self.now).saturating_add(left)));
            self.notes(passed.domain, left);
        }
        let slow = self.takes(Counted::Domain, b"", rate, many, BORNE);
        match slow {
            Some(_) => tally.domain = domain,
            // Nothing of it passes uncounted then: the next one asks again.
            None if passed.domain == domain => *tally = passed,
            None => {}
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
        if let Some(untold) = self.untold {
            untold.reached((recipients, recipient), count, most);
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
        if let Some(untold) = self.untold {
            untold.taken(digest, taken, self.now);
        }
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
        Sender { domain, address: words(address), occupant: None, recipient: words(recipient), subscribes }
    }

    /// One of many in a room.
    fn occupant(room: &str, nick: u32, recipient: u32) -> Sender {
        let occupant = Some(Words::Apart(format!("{room}/n{nick}").into()));
        Sender { occupant, ..from(room, &format!("u{recipient}@hall.example"), false) }
    }

    fn ask(senders: &Senders, sender: &Sender, now: Instant) -> Result<(), Reason> {
        senders.ask(sender, b"", &mut Tally::default(), now).map(drop)
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
        // A minute's worth, and ten seconds' worth that is borne.
        for _ in 0..70 {
            assert_eq!(ask("a@friend.example", start), Ok(()));
        }
        assert_eq!(ask("a@friend.example", start), Err(Reason::SenderTooFast));
        assert_eq!(ask("b@friend.example", start), Ok(()));
        let later = start + Duration::from_secs(1);
        assert_eq!(ask("a@friend.example", later), Ok(()));
        assert_eq!(ask("a@friend.example", later), Err(Reason::SenderTooFast));
    }

    // "A room of 2,000 occupants and 50 local users rejoining lose nothing with defaults": each hears of each, and some history.
    #[test]
    fn a_large_room_loses_nothing_when_its_people_come_back() {
        let start = Instant::now();
        let senders = Senders::new(Params::default(), start);
        let mut tally = Tally::default();
        for user in 0..50 {
            for nick in 0..2_000 {
                let presence = occupant("room@rooms.example", nick, user);
                assert_eq!(senders.ask(&presence, b"", &mut tally, start), Ok(Duration::ZERO));
            }
            for nick in 0..50 {
                let said = occupant("room@rooms.example", nick, user);
                assert_eq!(senders.ask(&said, b"", &mut tally, start), Ok(Duration::ZERO));
            }
        }
    }

    // "One flooding person is stopped, so is a domain inventing 10,000 resources": whatever they call themselves.
    #[test]
    fn who_invents_addresses_is_stopped_as_who_does_not() {
        let start = Instant::now();
        // A tenth of the defaults.
        let defaults = Params { stanzas: NonZeroU32::new(600).unwrap(), ..Params::default() };
        let passed = |sends: &dyn Fn(u32) -> Sender| {
            let senders = Senders::new(defaults, start);
            let mut tally = Tally::default();
            let asked = (0..40_000).map(|n| senders.ask(&sends(n), b"", &mut tally, start));
            u32::try_from(asked.filter(Result::is_ok).count()).unwrap()
        };
        let borne = |times: u32| defaults.stanzas.get() * times * 7 / 6;
        // As a person, who does not get more for a resource.
        assert_eq!(passed(&|_| from("a@evil.example", "j@hall.example", false)), borne(1));
        // One occupant; 10,000 of them; 10,000 accounts.
        assert_eq!(passed(&|_| occupant("a@evil.example", 1, 1)), borne(1));
        assert_eq!(passed(&|n| occupant("a@evil.example", n % 10_000, 1)), borne(20));
        let most = passed(&|n| from(&format!("a{}@evil.example", n % 10_000), "j@hall.example", false));
        assert!(most.abs_diff(borne(50)) <= AT_ONCE, "{most}");
    }

    // "Stanzas over a rate are slowed before they are refused", and the others on the stream are not slowed for ever.
    #[test]
    fn who_sends_too_fast_slows_his_stream_for_a_while_and_is_refused_then() {
        let start = Instant::now();
        let senders = Senders::new(Params::default(), start);
        let flooder = from("a@friend.example", "j@hall.example", false);
        let mut tally = Tally::default();
        let (mut now, mut slowed, mut passed) = (start, Duration::ZERO, 0);
        // As fast as the stream lets him: it is not read for as long as each stanza slows it.
        while let Ok(slow) = senders.ask(&flooder, b"", &mut tally, now) {
            slowed += slow;
            now += slow;
            passed += 1;
        }
        assert!(passed > 6_000 + 1_000, "{passed}");
        assert!(slowed >= Duration::from_secs(5) && slowed <= Duration::from_secs(10), "{slowed:?}");
        let calm = from("b@friend.example", "j@hall.example", false);
        assert_eq!(senders.ask(&calm, b"", &mut tally, now), Ok(Duration::ZERO));
        // He goes on: what of it passes slows nobody any more.
        for _ in 0..1_000 {
            now += Duration::from_millis(5);
            assert_ne!(
                senders.ask(&flooder, b"", &mut tally, now).unwrap_or_default(),
                Duration::from_millis(5)
            );
        }
    }

    // LIM-04: a stream that brings stanzas of several domains in turn counts them for each.
    #[test]
    fn a_domain_is_counted_among_others_on_its_stream() {
        let start = Instant::now();
        let senders = senders(600, 10_000, 120, start);
        let mut tally = Tally::default();
        let ask = |tally: &mut Tally, who: String| {
            senders.ask(&from(&who, "j@hall.example", false), b"", tally, start).is_ok()
        };
        let mut passed = 0;
        for n in 0..40_000 {
            assert!(ask(&mut tally, format!("a{}@calm{}.example", n % 100, n % 400)));
            passed += u32::from(ask(&mut tally, format!("a{}@evil.example", n % 10_000)));
        }
        assert!(passed.abs_diff(600 * 50 * 7 / 6) <= AT_ONCE, "{passed}");
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
            let (address, recipient) = (words(), words());
            let sender = Sender { domain, address, occupant: None, recipient, subscribes: true };
            assert_eq!(ask(&senders, &sender, start), Ok(()));
        }
    }

    // LIM-04, LIM-08: streams that send at once get no more, and no less, than one would.
    #[test]
    fn streams_that_meet_at_one_sender_share_what_it_may() {
        let start = Instant::now();
        let senders = senders(5_000, 1000, 700, start);
        let plain = vec![from("a@friend.example", "j@hall.example", false); 4_000];
        // A sixth more is borne of these, and of those none.
        assert_eq!(race(&senders, &plain, start).len(), 5_000 * 7 / 6);
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
        // What the first has cost its domain counts no longer.
        assert_eq!(counted(&senders), 5 * 5_001 - 1);
        assert_eq!(ask(&senders, &first, now), Err(Reason::TooManySubscriptions));
        let plain = |address, recipient| from(address, recipient, false);
        let again = plain("a@friend.example", "j@hall.example");
        assert_eq!(ask(&senders, &again, now), Ok(()), "borne");
        assert_eq!(ask(&senders, &again, now), Err(Reason::SenderTooFast));
        let further = plain("b@friend.example", "k@hall.example");
        assert_eq!(ask(&senders, &further, now), Err(Reason::TooManyRecipients));
    }

    fn among(nodes: usize, stanzas: u32, recipients: u32, now: Instant) -> Vec<Senders> {
        let params = Params {
            stanzas: NonZeroU32::new(stanzas).unwrap(),
            recipients: NonZeroU32::new(recipients).unwrap(),
            subscriptions: NonZeroU32::new(120).unwrap(),
        };
        (0..nodes).map(|_| Senders::among(params, &[7; 32], now)).collect()
    }

    /// Every node hears what every other has counted, so long ago.
    fn exchange(nodes: &[Senders], ago: Duration, now: Instant) {
        let told: Vec<_> = nodes.iter().map(|node| node.untold(nodes.len() as u32, now - ago)).collect();
        for (n, node) in nodes.iter().enumerate() {
            let others = told.iter().enumerate().filter(|(other, _)| *other != n);
            others.for_each(|(_, counts)| node.seen_elsewhere(counts, ago, now));
        }
    }

    // CLU-03: "a sender who spreads over three nodes meets the limit as a sum", within what is not told yet.
    #[test]
    fn who_spreads_over_three_nodes_is_one_sender() {
        let start = Instant::now();
        let nodes = among(3, 6_000, 10_000, start);
        let sender = from("a@friend.example", "j@hall.example", false);
        let second = Duration::from_secs(1);
        let passed =
            |node: &Senders, many: u32, now| (0..many).filter(|_| ask(node, &sender, now).is_ok()).count();
        // Three minutes, at each node as much as one node would bear.
        let mut all = 0;
        for at in 0..180 {
            let now = start + second * at;
            all += nodes.iter().map(|node| passed(node, 100, now)).sum::<usize>();
            exchange(&nodes, Duration::from_millis(500), now + second / 2);
        }
        let alone = 6_000 + 1_000 + 179 * 100;
        // What was on the way, and a sixteenth of a minute's worth that need not be told.
        assert!(all >= alone && all <= alone + alone / 16 + 700, "{all} where one node lets {alone} pass");
        // The others of the domain are not slower for it, and a node that hears nothing judges by itself.
        let calm = from("b@friend.example", "j@hall.example", false);
        assert!(nodes.iter().all(|node| ask(node, &calm, start + second * 180).is_ok()));
        let later = start + second * 400;
        assert_eq!(passed(&nodes[0], 10_000, later), 7_000);
    }

    #[test]
    fn subscriptions_and_recipients_of_a_domain_are_counted_together() {
        let start = Instant::now();
        let nodes = among(3, 6_000, 96, start);
        let mut subscribed = 0;
        for n in 0..200 {
            let sender = from(&format!("a{n}@friend.example"), "j@hall.example", true);
            subscribed += u32::from(ask(&nodes[n % 3], &sender, start).is_ok());
            exchange(&nodes, Duration::ZERO, start);
        }
        assert!(subscribed.abs_diff(120) <= 12, "{subscribed}");
        // The same recipient counts once, whichever node it was reached by.
        let reaches = |node: &Senders, n: u32| {
            ask(node, &from("a@cousin.example", &format!("j{n}@hall.example"), false), start).is_ok()
        };
        for n in 0..90 {
            assert!(nodes.iter().all(|node| reaches(node, n)));
            exchange(&nodes, Duration::ZERO, start);
        }
        let more = (90..200).filter(|n| {
            exchange(&nodes, Duration::ZERO, start);
            reaches(&nodes[*n as usize % 3], *n)
        });
        let more = more.count();
        assert!((6..=18).contains(&more), "{more}");
    }

    // CLU-04: whatever a store holds, in a while it is over; what is old changes nothing.
    #[test]
    fn what_others_say_is_bounded_and_over_in_a_while() {
        let start = Instant::now();
        let nodes = among(2, 60, 100, start);
        let now = start + Duration::from_secs(300);
        let sender = from("a@friend.example", "j@hall.example", false);
        (0..60).for_each(|_| ask(&nodes[0], &sender, now).unwrap());
        let told = nodes[0].untold(2, now);
        assert!(!told.taken.is_empty());
        nodes[1].seen_elsewhere(&told, Duration::from_secs(90), now);
        assert_eq!((0..90).filter(|_| ask(&nodes[1], &sender, now).is_ok()).count(), 70);
        let lies =
            Counts { taken: told.taken.iter().map(|(digest, _)| (*digest, u64::MAX)).collect(), ..told };
        let later = now + Duration::from_secs(300);
        nodes[1].seen_elsewhere(&lies, Duration::ZERO, later);
        assert_eq!(ask(&nodes[1], &sender, later), Err(Reason::SenderTooFast));
        assert_eq!(ask(&nodes[1], &sender, later + Duration::from_secs(131)), Ok(()));
        // Nobody shares: nothing is noted, and nothing is believed.
        let alone = senders(60, 100, 100, start);
        alone.seen_elsewhere(&lies, Duration::ZERO, later);
        assert_eq!(ask(&alone, &sender, later), Ok(()));
        assert!(alone.untold(3, later).is_empty());
    }
}
