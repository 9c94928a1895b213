//! Room for strangers: connections that have not proven yet who they are, and the memory that all of them hold together.
//!
//! Both have a ceiling of their own (requirements LIM-02), so that whoever has proven nothing takes nothing from those who
//! have: at the ceiling strangers are turned away, and a proven stream gives its place back the moment it is proven.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::reason::Reason;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections at one time.
    pub connections: u32,
    /// Octets of memory, for all of them together.
    pub octets: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { connections: 5_000, octets: 256 << 20 }
    }
}

/// Strangers who are here, and what they hold.
#[derive(Debug)]
pub struct Strangers {
    room: Room,
    connections: AtomicU32,
    octets: AtomicU64,
}

impl Strangers {
    /// Nobody is here yet.
    pub fn new(room: Room) -> Arc<Self> {
        Arc::new(Self { room, connections: AtomicU32::new(0), octets: AtomicU64::new(0) })
    }

    /// Lets one in, for as long as the stranger lives; what any connection costs is counted from now on.
    ///
    /// # Errors
    /// [`Reason::TooManyStrangers`], [`Reason::StrangersMemory`].
    pub fn admit(self: &Arc<Self>) -> Result<Stranger, Reason> {
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.room.connections {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Reason::TooManyStrangers);
        }
        // From here on its end gives back what it took.
        let mut stranger = Stranger { strangers: Arc::clone(self), held: 0 };
        stranger.hold(0)?;
        Ok(stranger)
    }

    /// Strangers who are here.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// What they hold.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }
}

/// The place of one stranger.
#[derive(Debug)]
pub struct Stranger {
    strangers: Arc<Strangers>,
    held: u64,
}

impl Stranger {
    /// It holds so many octets now, beside what any connection costs.
    ///
    /// # Errors
    /// [`Reason::StrangersMemory`] when it would hold more than before and that is too much for all together. What it holds
    /// is counted all the same: it holds it until it is gone.
    pub fn hold(&mut self, octets: usize) -> Result<(), Reason> {
        let octets = u64::try_from(octets).unwrap_or(u64::MAX / 2).saturating_add(COST);
        let (total, before) = (&self.strangers.octets, self.held);
        self.held = octets;
        if octets <= before {
            total.fetch_sub(before - octets, Ordering::Relaxed);
            return Ok(());
        }
        let more = octets - before;
        let all = total.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if all > self.strangers.room.octets { Err(Reason::StrangersMemory) } else { Ok(()) }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.octets.fetch_sub(self.held, Ordering::Relaxed);
        self.strangers.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection costs that has brought nothing: its task, its state, TLS, and one read.
pub const COST: u64 = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_strangers_and_no_more() {
        let strangers = Strangers::new(Room { connections: 2, octets: 1 << 30 });
        let first = strangers.admit().unwrap();
        let _second = strangers.admit().unwrap();
        assert_eq!(strangers.admit().unwrap_err(), Reason::TooManyStrangers);
        assert_eq!(strangers.connections(), 2, "who is turned away takes no place");
        drop(first);
        let _third = strangers.admit().unwrap();
    }

    // LIM-02: a global cap on memory, and all of it released.
    #[test]
    fn so_much_memory_for_all_and_no_more() {
        let strangers = Strangers::new(Room { connections: 100, octets: 3 * COST });
        let mut first = strangers.admit().unwrap();
        let mut second = strangers.admit().unwrap();
        let full = usize::try_from(COST).unwrap();
        assert_eq!(first.hold(full), Ok(()), "exactly the ceiling");
        assert_eq!(strangers.octets(), 3 * COST);
        assert_eq!(second.hold(1), Err(Reason::StrangersMemory));
        assert_eq!(second.hold(0), Ok(()), "less is never too much");
        assert_eq!(strangers.admit().unwrap_err(), Reason::StrangersMemory);
        assert_eq!((strangers.connections(), strangers.octets()), (2, 3 * COST));
        assert_eq!(first.hold(10), Ok(()));
        assert_eq!(second.hold(1), Ok(()));
        drop((first, second));
        assert_eq!((strangers.connections(), strangers.octets()), (0, 0));
    }
}
