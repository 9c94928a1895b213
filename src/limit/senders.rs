//! What single remote addresses, and the domains behind them, may do to our users (requirements LIM-04, LIM-08).
//!
//! Rates of streams and domains slow everybody behind a domain alike; what is counted here is refused alone: the stanzas of
//! one address, the different accounts here that one domain writes to, its requests for subscriptions. Addresses are kept
//! as keyed digests, and for no longer than they count.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::held;
use crate::jid::Domain;
use crate::reason::Reason;
use crate::relay::{Sender, Words};

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
    domains: Mutex<HashMap<Domain, Arc<Mutex<Lately>>>>,
}

/// What one domain has sent lately, for whoever carries its stanzas to hold: only they meet at its lock.
#[derive(Clone, Debug)]
pub struct SenderDomain {
    domain: Domain,
    params: Params,
    keys: RandomState,
    began: Instant,
    lately: Arc<Mutex<Lately>>,
}

/// Times are in nanoseconds since the gateway began.
#[derive(Debug, Default)]
struct Lately {
    /// Stanzas of each address.
    stanzas: HashMap<u64, Bucket, BuildHasherDefault<Digested>>,
    subscriptions: Bucket,
    /// Whom it has written to since then.
    recipients: HashSet<u64, BuildHasherDefault<Digested>>,
    since: u64,
}

impl Senders {
    /// Nobody has sent anything yet.
    pub fn new(params: Params, now: Instant) -> Self {
        Self { params, keys: RandomState::new(), began: now, domains: Mutex::default() }
    }

    /// What is counted for this domain.
    pub fn of(&self, domain: &Domain, now: Instant) -> SenderDomain {
        let mut domains = held(&self.domains);
        if !domains.contains_key(domain) && domains.len() >= SWEEP && domains.len().is_power_of_two() {
            let now = nanos(self.began, now);
            domains.retain(|_, lately| Arc::strong_count(lately) > 1 || !held(lately).is_over(now));
        }
        SenderDomain {
            lately: Arc::clone(domains.entry(domain.clone()).or_default()),
            domain: domain.clone(),
            params: self.params,
            keys: self.keys.clone(),
            began: self.began,
        }
    }
}

impl SenderDomain {
    /// Whether it is about this domain.
    pub fn is_of(&self, domain: &Domain) -> bool {
        self.domain == *domain
    }

    /// Whether this stanza is within all of it.
    ///
    /// # Errors
    /// [`Reason::TooManySubscriptions`], [`Reason::SenderTooFast`], [`Reason::TooManyRecipients`].
    pub fn ask(&self, sender: &Sender, stanza: &[u8], now: Instant) -> Result<(), Reason> {
        let now = nanos(self.began, now);
        let digest = |words: &Words| self.keys.hash_one(words.of(stanza));
        let (address, recipient) = (digest(&sender.address), digest(&sender.recipient));
        let mut lately = held(&self.lately);
        if sender.subscribes && !lately.subscriptions.takes(self.params.subscriptions, now) {
            return Err(Reason::TooManySubscriptions);
        }
        if !lately.bucket(address, now).takes(self.params.stanzas, now) {
            return Err(Reason::SenderTooFast);
        }
        lately.reaches(recipient, self.params.recipients, now)
    }
}

impl Lately {
    /// Whether nothing of it counts any more.
    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= MINUTE
            && self.subscriptions.is_full(now)
            && self.stanzas.values().all(|bucket| bucket.is_full(now))
    }

    fn bucket(&mut self, address: u64, now: u64) -> &mut Bucket {
        if self.stanzas.len() >= SWEEP
            && self.stanzas.len().is_power_of_two()
            && !self.stanzas.contains_key(&address)
        {
            self.stanzas.retain(|_, bucket| !bucket.is_full(now));
        }
        self.stanzas.entry(address).or_default()
    }

    fn reaches(&mut self, recipient: u64, most: NonZeroU32, now: u64) -> Result<(), Reason> {
        let most = usize::try_from(most.get()).unwrap_or(usize::MAX);
        if now.saturating_sub(self.since) >= MINUTE {
            (self.recipients, self.since) = (HashSet::default(), now);
        }
        if self.recipients.len() >= most && !self.recipients.contains(&recipient) {
            return Err(Reason::TooManyRecipients);
        }
        self.recipients.insert(recipient);
        Ok(())
    }
}

/// A bucket that holds a minute's worth: the time at which it is full again.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(u64);

impl Bucket {
    fn is_full(self, now: u64) -> bool {
        self.0 <= now
    }

    /// Takes one of so many in a minute, if there is one.
    fn takes(&mut self, rate: NonZeroU32, now: u64) -> bool {
        let full = self.0.max(now).saturating_add(MINUTE / u64::from(rate.get()));
        let taken = full <= now.saturating_add(MINUTE);
        if taken {
            self.0 = full;
        }
        taken
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

fn nanos(began: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(began).as_nanos().try_into().unwrap_or(u64::MAX)
}

/// In nanoseconds.
const MINUTE: u64 = 60_000_000_000;

/// Domains and addresses that sent nothing lately are forgotten whenever their table has doubled above this.
const SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

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
        senders.of(&sender.domain, now).ask(sender, b"", now)
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

    // LIM-02: all memory is released.
    #[test]
    fn domains_that_are_quiet_are_forgotten() {
        let start = Instant::now();
        let senders = senders(60_000, 1000, 1000, start);
        for n in 0..5_000_u32 {
            let sender = from(&format!("a@d{n}.example"), "j@hall.example", false);
            assert_eq!(ask(&senders, &sender, start + Duration::from_secs(n.into())), Ok(()));
        }
        assert!(held(&senders.domains).len() <= 2 * SWEEP);
    }
}
