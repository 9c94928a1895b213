//! How many TLS handshakes are begun in a second, in all.
//!
//! A handshake costs more than anything else that a stranger can ask for. Above the rate the next one waits, unread, in the
//! order of arrival; one that would wait for too long is refused at once, so that no queue of the dead builds up.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::reason::Reason;

/// The pace at which handshakes are begun.
#[derive(Debug)]
pub struct Handshakes {
    each: Duration,
    patience: Duration,
    /// When the next one is due if all come as fast as they may.
    next: Mutex<Instant>,
}

impl Handshakes {
    /// So many a second, and a second's worth at once; none waits for longer than `patience`.
    pub fn new(per_second: NonZeroU32, patience: Duration, now: Instant) -> Self {
        Self { each: Duration::from_secs(1) / per_second.get(), patience, next: Mutex::new(now) }
    }

    /// How long the next handshake waits before it begins; its place is taken.
    ///
    /// # Errors
    /// [`Reason::TooManyHandshakes`] when it would wait for too long: it takes no place.
    pub fn take(&self, now: Instant) -> Result<Duration, Reason> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used is kept for a second and no longer.
        let due = (*next).max(now.checked_sub(BURST - self.each).unwrap_or(now));
        let wait = due.saturating_duration_since(now);
        if wait > self.patience {
            return Err(Reason::TooManyHandshakes);
        }
        *next = due + self.each;
        Ok(wait)
    }
}

/// How long a handshake that nobody began may be begun later.
const BURST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn ten_a_second(now: Instant) -> Handshakes {
        Handshakes::new(NonZeroU32::new(10).unwrap(), Duration::from_secs(2), now)
    }

    #[test]
    fn a_second_of_them_may_come_at_once_and_the_next_ones_wait_in_turn() {
        let start = Instant::now() + Duration::from_secs(60);
        let pace = ten_a_second(start - Duration::from_secs(30));
        for n in 0..10 {
            assert_eq!(pace.take(start), Ok(Duration::ZERO), "{n}");
        }
        for n in 1..=20 {
            assert_eq!(pace.take(start), Ok(Duration::from_millis(100 * n)), "{n}");
        }
        // Twenty wait, which takes two seconds: there is no use in waiting for longer.
        assert_eq!(pace.take(start), Err(Reason::TooManyHandshakes));
        assert_eq!(pace.take(start), Err(Reason::TooManyHandshakes), "who is refused takes no place");
        let later = start + Duration::from_millis(100);
        assert_eq!(pace.take(later), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn over_ten_seconds_no_more_are_begun_than_the_rate_says() {
        let start = Instant::now() + Duration::from_secs(60);
        let pace = ten_a_second(start);
        let mut begun = 0;
        for n in 0..1000 {
            let now = start + Duration::from_millis(10 * n);
            begun += u32::from(pace.take(now).is_ok_and(|wait| now + wait < start + Duration::from_secs(10)));
        }
        assert!((100..=110).contains(&begun), "{begun}");
    }
}
