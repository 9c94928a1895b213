//! How many TLS handshakes are begun in a second: in all, and with room for those who ask seldom.
//!
//! A handshake costs more than anything else that an unproven peer can ask for. Above the rate the next one waits, unread, in the
//! order of arrival; one that would wait for too long is refused at once, so that no queue of the dead builds up. As long as
//! nobody else comes, one network may have the whole rate; but the second half of the queue is for those who have not asked
//! for more than a small part of the rate lately, so that a few who flood do not keep all others out.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::table::Table;
use super::{Network, held};
use crate::reason::Reason;

/// The pace at which handshakes are begun.
#[derive(Debug)]
pub struct Handshakes {
    each: Duration,
    patience: Duration,
    paces: Mutex<Paces>,
}

#[derive(Debug)]
struct Paces {
    /// When the next one is due if all come as fast as they may.
    next: Instant,
    /// The same for each network and those around it ([`Network::around`]), at its part of the rate.
    own: Table<Network, Instant>,
}

impl Handshakes {
    /// So many a second, and a second's worth at once; none waits for longer than `patience`.
    pub fn new(per_second: NonZeroU32, patience: Duration, now: Instant) -> Self {
        let paces = Paces { next: now, own: Table::new(REMEMBERED, BURST) };
        Self { each: Duration::from_secs(1) / per_second.get(), patience, paces: Mutex::new(paces) }
    }

    /// How long the next handshake, with this address, waits before it begins; its place is taken.
    ///
    /// # Errors
    /// [`Reason::TooManyHandshakes`] when it would wait for too long: it takes no place.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<Duration, Reason> {
        let network = Network::of(address).around();
        let mut paces = held(&self.paces);
        // What was not used is kept for a second and no longer.
        let due = paces.next.max(now.checked_sub(BURST - self.each).unwrap_or(now));
        let wait = due.saturating_duration_since(now);
        let part = self.each.saturating_mul(PARTS);
        let fresh = now.checked_sub(BURST.saturating_sub(part)).unwrap_or(now);
        let own = paces.own.get(&network).map_or(fresh, |next| (*next).max(fresh));
        // Those that have asked for nothing for a while are forgotten.
        let over = |next: &Instant| *next <= fresh;
        let seldom = own <= now && paces.own.has_room(&network, now, over);
        if wait > if seldom { self.patience } else { self.patience / 2 } {
            return Err(Reason::TooManyHandshakes);
        }
        paces.next = due + self.each;
        if let Some(next) = paces.own.place(network, now, over, || own) {
            // Whoever has had far more than its part for a while is forgiven as soon as whoever has had little more.
            *next = (own + part).min(now + BURST + part);
        }
        Ok(wait)
    }
}

/// How long a handshake that nobody began may be begun later.
const BURST: Duration = Duration::from_secs(1);

/// Who asks for less than one of so many parts of the rate asks seldom.
const PARTS: u32 = 16;

/// Networks that are remembered.
const REMEMBERED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ten_a_second(now: Instant) -> Handshakes {
        Handshakes::new(NonZeroU32::new(10).unwrap(), Duration::from_secs(2), now)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// An address of a network of its own.
    fn from(n: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0001 + (n << 8)))
    }

    #[test]
    fn a_second_of_them_may_come_at_once_and_the_next_ones_wait_in_turn() {
        let start = Instant::now() + Duration::from_secs(60);
        let pace = ten_a_second(start - Duration::from_secs(30));
        for n in 0..10 {
            assert_eq!(pace.take(from(n), start), Ok(Duration::ZERO), "{n}");
        }
        for n in 1..=20 {
            assert_eq!(pace.take(from(10 + n), start), Ok(Duration::from_millis(100 * u64::from(n))), "{n}");
        }
        // Twenty wait, which takes two seconds: there is no use in waiting for longer.
        assert_eq!(pace.take(from(40), start), Err(Reason::TooManyHandshakes));
        assert_eq!(
            pace.take(from(41), start),
            Err(Reason::TooManyHandshakes),
            "who is refused takes no place"
        );
        let later = start + Duration::from_millis(100);
        assert_eq!(pace.take(from(40), later), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn over_ten_seconds_no_more_are_begun_than_the_rate_says() {
        let start = Instant::now() + Duration::from_secs(60);
        for many in [1, 1000] {
            let pace = ten_a_second(start);
            let mut begun = 0;
            for n in 0..1000 {
                let now = start + Duration::from_millis(10 * u64::from(n));
                let wait = pace.take(from(n % many), now);
                begun += u32::from(wait.is_ok_and(|wait| now + wait < start + Duration::from_secs(10)));
            }
            assert!((100..=110).contains(&begun), "{begun} of {many} networks");
        }
    }

    // Two networks cannot hold the one pace that is for all.
    #[test]
    fn who_asks_seldom_gets_in_whoever_floods() {
        let start = Instant::now() + Duration::from_secs(60);
        let pace = Handshakes::new(NonZeroU32::new(160).unwrap(), Duration::from_secs(4), start);
        let flood = ["192.0.2.1", "2001:db8::1", "2001:db8:0:ffff::1", "192.0.2.200"].map(ip);
        let (mut flooding, mut refused) = (0, 0);
        for n in 0..2000_u32 {
            let now = start + Duration::from_millis(5 * u64::from(n));
            for address in flood {
                flooding += u32::from(pace.take(address, now).is_ok());
            }
            // Ten a second of others, each from elsewhere.
            if n % 20 == 0 {
                match pace.take(from(n), now) {
                    Ok(wait) => assert!(wait <= Duration::from_millis(2100), "{wait:?}"),
                    Err(_) => refused += 1,
                }
            }
        }
        assert_eq!(refused, 0, "{flooding} of the flood were begun");
        // And what the others leave is had by whoever wants it.
        assert!((1400..=2000).contains(&flooding), "{flooding}");
    }

    #[test]
    fn the_memory_does_not_grow() {
        let start = Instant::now() + Duration::from_secs(60);
        let pace = Handshakes::new(NonZeroU32::new(1_000_000).unwrap(), Duration::from_secs(10), start);
        for n in 0..u32::try_from(REMEMBERED).unwrap() + 500 {
            assert!(pace.take(from(n), start).is_ok(), "{n}");
        }
        assert_eq!(held(&pace.paces).own.len(), REMEMBERED);
        assert!(pace.take(from(1 << 15), start + BURST * 2).is_ok());
        assert_eq!(held(&pace.paces).own.len(), 1);
    }
}
