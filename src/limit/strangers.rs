//! Room for strangers: connections that have not proven yet who they are, and the memory that all of them hold together.
//!
//! Both have a ceiling of their own (requirements LIM-02), so that whoever has proven nothing takes nothing from those who
//! have: at the ceiling strangers are turned away, and a proven stream gives its place back the moment it is proven. And no
//! one part of the Internet takes all the places: whoever has an IPv6 /48 has 65,536 networks to come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{Network, Threshold, held};
use crate::reason::Reason;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections at one time.
    pub connections: u32,
    /// Of those, from one network and all that lies around it ([`Network::around`]).
    pub around: u32,
    /// Octets of memory, for all of them together.
    pub octets: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { connections: 5_000, around: 1_250, octets: 256 << 20 }
    }
}

/// Strangers who are here, and what they hold.
#[derive(Debug)]
pub struct Strangers {
    room: Room,
    connections: AtomicU32,
    around: Mutex<HashMap<Network, u32>>,
    octets: AtomicU64,
}

impl Strangers {
    /// Nobody is here yet.
    pub fn new(room: Room) -> Arc<Self> {
        Arc::new(Self {
            room,
            connections: AtomicU32::new(0),
            around: Mutex::default(),
            octets: AtomicU64::new(0),
        })
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
        let mut stranger = Stranger { strangers: Arc::clone(self), around: None, threshold: None, held: 0 };
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
    around: Option<Network>,
    threshold: Option<Threshold>,
    held: u64,
}

impl Stranger {
    /// It is counted there, too, until it has proven who it is.
    pub fn stands_at(&mut self, threshold: Threshold) {
        self.threshold = Some(threshold);
    }

    /// It is proven who it is, and no stranger any more: its place in its network's count from now on.
    pub fn prove(mut self) -> Option<Threshold> {
        let mut threshold = self.threshold.take()?;
        threshold.prove();
        Some(threshold)
    }

    /// It has shown itself honest, for it asked about a key that we have made: we have called its server, which is no stranger
    /// to its network's count. It holds what it holds, and counts among all strangers, until it proves a domain.
    pub fn is_honest(&mut self) {
        if let Some(threshold) = &mut self.threshold {
            threshold.prove();
        }
    }

    /// It came for an answer that anybody gets, and has it: no attempt to come in.
    pub fn is_answered(&mut self) {
        if let Some(threshold) = &mut self.threshold {
            threshold.give_back();
        }
    }

    /// It claims a domain.
    pub fn claims(&self) {
        if let Some(threshold) = &self.threshold {
            threshold.claim();
        }
    }

    /// It comes from this address, which is told once it is known.
    ///
    /// # Errors
    /// [`Reason::TooManyStrangers`] when there are enough from around there.
    pub fn comes_from(&mut self, address: IpAddr) -> Result<(), Reason> {
        let network = Network::of(address).around();
        let mut around = held(&self.strangers.around);
        let count = around.entry(network).or_default();
        if *count >= self.strangers.room.around {
            return Err(Reason::TooManyStrangers);
        }
        *count += 1;
        self.around = Some(network);
        Ok(())
    }

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
        let Some(network) = self.around else { return };
        let mut around = held(&self.strangers.around);
        if let Some(count) = around.get_mut(&network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                around.remove(&network);
            }
        }
    }
}

/// What a connection costs that has brought nothing: its task, its state, TLS, and one read.
pub const COST: u64 = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_strangers_and_no_more() {
        let strangers = Strangers::new(Room { connections: 2, around: 2, octets: 1 << 30 });
        let first = strangers.admit().unwrap();
        let _second = strangers.admit().unwrap();
        assert_eq!(strangers.admit().unwrap_err(), Reason::TooManyStrangers);
        assert_eq!(strangers.connections(), 2, "who is turned away takes no place");
        drop(first);
        let _third = strangers.admit().unwrap();
    }

    #[test]
    fn one_part_of_the_internet_leaves_room_for_the_others() {
        let strangers = Strangers::new(Room { connections: 100, around: 2, octets: 1 << 30 });
        let come = |from: &str| {
            let mut stranger = strangers.admit().unwrap();
            stranger.comes_from(from.parse().unwrap()).map(|()| stranger)
        };
        let first = come("2001:db8:0:1::1").unwrap();
        let _second = come("2001:db8:0:ffff::1").unwrap();
        assert_eq!(come("2001:db8:0:2::1").unwrap_err(), Reason::TooManyStrangers);
        let _elsewhere =
            [come("2001:db8:1::1").unwrap(), come("192.0.2.1").unwrap(), come("192.0.2.2").unwrap()];
        assert_eq!(come("::ffff:192.0.2.3").unwrap_err(), Reason::TooManyStrangers);
        assert_eq!(strangers.connections(), 5, "who is turned away takes no place");
        drop(first);
        come("2001:db8:0:3::1").unwrap();
        assert_eq!(held(&strangers.around).len(), 3);
    }

    // LIM-02: a global cap on memory, and all of it released.
    #[test]
    fn so_much_memory_for_all_and_no_more() {
        let strangers = Strangers::new(Room { connections: 100, around: 100, octets: 3 * COST });
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
