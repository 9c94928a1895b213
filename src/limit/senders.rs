//! What single remote addresses, and the domains behind them, may do to our users (requirements LIM-04, LIM-08).
//!
//! Rates of streams and domains slow everybody behind a domain alike; what is counted here is refused alone: the stanzas of
//! one address, the different accounts here that one domain writes to, its requests for subscriptions. Addresses are kept
//! as keyed digests, and for no longer than they count.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Quota, Throttle, held};
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
    stanzas: Throttle<u64>,
    subscriptions: Throttle<Domain>,
    recipients: Mutex<HashMap<Domain, Minute>>,
}

/// Whom a domain has written to since then.
#[derive(Debug)]
struct Minute {
    began: Instant,
    seen: HashSet<u64>,
}

impl Senders {
    /// Nobody has sent anything yet.
    pub fn new(params: Params, now: Instant) -> Self {
        Self {
            params,
            keys: RandomState::new(),
            stanzas: Throttle::new(Quota::per_minute(params.stanzas), now),
            subscriptions: Throttle::new(Quota::per_minute(params.subscriptions), now),
            recipients: Mutex::default(),
        }
    }

    /// Whether this stanza is within all of it.
    ///
    /// # Errors
    /// [`Reason::TooManySubscriptions`], [`Reason::SenderTooFast`], [`Reason::TooManyRecipients`].
    pub fn ask(&self, sender: &Sender, now: Instant) -> Result<(), Reason> {
        if sender.subscribes && !self.subscriptions.admits(&sender.domain, now) {
            return Err(Reason::TooManySubscriptions);
        }
        if !self.stanzas.admits(&self.keys.hash_one(&sender.address), now) {
            return Err(Reason::SenderTooFast);
        }
        self.reaches(&sender.domain, self.keys.hash_one(&sender.recipient), now)
    }

    fn reaches(&self, domain: &Domain, recipient: u64, now: Instant) -> Result<(), Reason> {
        let over = |minute: &Minute| now.saturating_duration_since(minute.began) >= MINUTE;
        let most = usize::try_from(self.params.recipients.get()).unwrap_or(usize::MAX);
        let mut recipients = held(&self.recipients);
        let fresh = || Minute { began: now, seen: HashSet::new() };
        if !recipients.contains_key(domain) {
            if recipients.len() >= SWEEP && recipients.len().is_power_of_two() {
                recipients.retain(|_, minute| !over(minute));
            }
            recipients.insert(domain.clone(), fresh());
        }
        let Some(minute) = recipients.get_mut(domain) else { return Ok(()) };
        if over(minute) {
            *minute = fresh();
        }
        if minute.seen.len() >= most && !minute.seen.contains(&recipient) {
            return Err(Reason::TooManyRecipients);
        }
        minute.seen.insert(recipient);
        Ok(())
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Domains that wrote to nobody lately are forgotten whenever the table has doubled above this.
const SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
        Sender { domain, address: address.to_owned(), recipient: recipient.to_owned(), subscribes }
    }

    // LIM-04: "stanza rate .. per sender JID".
    #[test]
    fn one_address_sends_so_much_in_a_minute_and_its_neighbour_too() {
        let start = Instant::now();
        let senders = senders(60, 1000, 1000, start);
        let ask = |who, now| senders.ask(&from(who, "j@hall.example", false), now);
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
        let ask = |to, now| senders.ask(&from("a@friend.example", to, false), now);
        for to in ["j@hall.example", "k@hall.example", "j@annex.example"] {
            assert_eq!(ask(to, start), Ok(()), "{to}");
        }
        let other = from("b@friend.example", "l@hall.example", false);
        assert_eq!(senders.ask(&other, start), Err(Reason::TooManyRecipients), "the domain counts");
        assert_eq!(ask("k@hall.example", start), Ok(()), "whom it knows it may go on writing to");
        let stranger = from("c@cousin.example", "l@hall.example", false);
        assert_eq!(senders.ask(&stranger, start), Ok(()));
        assert_eq!(ask("l@hall.example", start + MINUTE), Ok(()));
    }

    // LIM-08: "presence subscription requests from a sender domain have their own rate".
    #[test]
    fn one_domain_asks_for_so_many_subscriptions_in_a_minute() {
        let start = Instant::now();
        let senders = senders(60_000, 1000, 2, start);
        let ask = |subscribes| senders.ask(&from("a@friend.example", "j@hall.example", subscribes), start);
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
            assert_eq!(senders.ask(&sender, start + Duration::from_secs(n.into())), Ok(()));
        }
        assert!(held(&senders.recipients).len() <= 2 * SWEEP);
    }
}
