//! How many streams between servers are set up at a time with one address, of those that are to carry stanzas.
//!
//! A login may bring two hundred contacts of one hoster at once, each domain with a stream of its own there and another back. A server
//! that sets up a stream in a twentieth of a second, one after the other, comes to the header of the last when T-header is over, and
//! what was written to it comes back although nobody is ill; its queue of connections is full besides. So the first [`FIRST`] go at
//! once, and who comes later waits for one of them to end. A stream that stands soon makes room for one more than before, one that took
//! long for one fewer: a server far away is not held up for long, and a slow one is asked for no more than it can do.
//!
//! Only a server that says something is worth the wait: where nothing has come from the address for [`SILENCE`], whoever waits goes
//! on, and hears as soon as without any of this that nobody is there. Time comes in as `now`.

use std::time::{Duration, Instant};

/// Streams that are set up at a time with an address of which nothing is known.
pub const FIRST: usize = 32;

/// With a slow one, at least.
pub const LEAST: usize = 8;

/// With a fast one, at most.
pub const MOST: usize = 256;

/// A stream that stands within this time makes room for another; one that takes longer takes room away.
pub const BRISK: Duration = Duration::from_secs(3);

/// An address that says nothing to anybody for so long is waited for no longer.
pub const SILENCE: Duration = Duration::from_secs(1);

/// Nobody waits longer: some of those that are set up may be held up for as long as they like by whom they are for, who says a
/// little now and then.
pub const LONGEST: Duration = Duration::from_secs(15);

/// What one address can do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetUpPace {
    /// As many may be set up at a time.
    room: usize,
    held: usize,
    /// When something came from it last.
    heard: Instant,
}

impl SetUpPace {
    /// Nothing is known of the address.
    pub fn new(now: Instant) -> Self {
        Self { room: FIRST, held: 0, heard: now }
    }

    /// Takes a place, if there is one.
    pub fn takes(&mut self) -> bool {
        let free = self.held < self.room;
        self.held += usize::from(free);
        free
    }

    /// Takes one although there is none, for it was worth no longer wait.
    pub fn takes_anyway(&mut self) {
        self.held += 1;
    }

    /// Until when a place is worth the wait to whoever has waited since then.
    pub fn worth_waiting(&self, since: Instant) -> Instant {
        (self.heard.max(since) + SILENCE).min(since + LONGEST)
    }

    /// Something came from the address.
    pub fn hears(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A stream stands, this long after it was called.
    pub fn stood(&mut self, after: Duration) {
        self.room = if after < BRISK { (self.room + 1).min(MOST) } else { (self.room - 1).max(LEAST) };
    }

    /// A place is free again; whether anything came on it.
    pub fn leaves(&mut self, heard: bool) {
        self.held = self.held.saturating_sub(1);
        if !heard {
            self.room = (self.room - 1).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_soon_makes_room_and_what_takes_long_takes_it() {
        let now = Instant::now();
        let mut pace = SetUpPace::new(now);
        let full = |pace: &mut SetUpPace| (0..).take_while(|_| pace.takes()).count();
        assert_eq!(full(&mut pace), FIRST);
        // One that stands soon gives its place back, and another with it.
        pace.stood(Duration::from_secs(1));
        pace.leaves(true);
        assert_eq!(full(&mut pace), 2);
        // One that takes long gives none back.
        pace.stood(BRISK);
        pace.leaves(true);
        assert_eq!(full(&mut pace), 0);
        // Nor one on which nothing came; one that was refused leaves all as it was.
        pace.leaves(false);
        assert_eq!(full(&mut pace), 0);
        pace.leaves(true);
        assert_eq!(full(&mut pace), 1);
        for _ in 0..2 * MOST {
            pace.stood(BRISK);
        }
        assert_eq!(pace.room, LEAST);
        for _ in 0..2 * MOST {
            pace.stood(Duration::ZERO);
        }
        assert_eq!(pace.room, MOST);
    }

    #[test]
    fn a_silent_address_is_worth_a_second_and_one_that_speaks_another_from_then() {
        let now = Instant::now();
        let mut pace = SetUpPace::new(now);
        let since = now + Duration::from_secs(5);
        assert_eq!(pace.worth_waiting(since), since + SILENCE);
        pace.hears(since + Duration::from_millis(900));
        assert_eq!(pace.worth_waiting(since), since + Duration::from_millis(1900));
        // However long it speaks with others.
        pace.hears(since + LONGEST);
        assert_eq!(pace.worth_waiting(since), since + LONGEST);
        for _ in 0..FIRST {
            assert!(pace.takes());
        }
        pace.takes_anyway();
        pace.leaves(true);
        assert!(!pace.takes(), "who went without a place counts as well");
    }
}
