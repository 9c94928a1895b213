//! Requests for new accounts: so many from one network in an hour, whatever comes of them.
//!
//! Who may make accounts at wire speed fills the backend's tables with names that nobody owns, and learns from refusals which
//! are taken. The networks around one address ([`Network::around`]) may ask for a few times as many together, since one
//! party may well have them all. Full tables refuse: an account can be made an hour later, too.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::table::Table;
use super::{Network, held};
use crate::reason::Reason;

/// Who asked for accounts lately.
#[derive(Debug)]
pub struct Registrations {
    most: u32,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    networks: Table<Network, Asked>,
    around: Table<Network, Asked>,
}

/// So many, in an hour that began then.
#[derive(Clone, Copy, Debug)]
struct Asked {
    count: u32,
    since: Instant,
}

impl Asked {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= HOUR
    }
}

impl Registrations {
    /// One network may ask so often in an hour.
    pub fn new(most: u32) -> Self {
        let table = || Table::new(REMEMBERED, SWEEP);
        Self { most, seen: Mutex::new(Seen { networks: table(), around: table() }) }
    }

    /// Counts one more request from this address.
    ///
    /// # Errors
    /// [`Reason::RegistrationThrottled`] when it is one too many; it is not counted then.
    pub fn ask(&self, address: IpAddr, now: Instant) -> Result<(), Reason> {
        let network = Network::of(address);
        let mut seen = held(&self.seen);
        let Seen { networks, around } = &mut *seen;
        let (near, far) =
            ((networks, network, self.most), (around, network.around(), self.most.saturating_mul(AROUND)));
        // Whoever is refused takes no place in either.
        if !may(near.0, &near.1, near.2, now) || !may(far.0, &far.1, far.2, now) {
            return Err(Reason::RegistrationThrottled);
        }
        for (table, key, _) in [near, far] {
            let fresh = Asked { count: 0, since: now };
            if let Some(asked) = table.place(key, now, |asked| asked.is_over(now), || fresh) {
                *asked = if asked.is_over(now) { fresh } else { *asked };
                asked.count = asked.count.saturating_add(1);
            }
        }
        Ok(())
    }
}

fn may(table: &mut Table<Network, Asked>, key: &Network, most: u32, now: Instant) -> bool {
    match table.get(key) {
        Some(asked) => asked.is_over(now) || asked.count < most,
        None => table.has_room(key, now, |asked| asked.is_over(now)),
    }
}

/// The period.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// How many times as much the networks around an address may ask for together.
const AROUND: u32 = 5;

/// Keys of one table that are remembered.
const REMEMBERED: usize = 100_000;

/// How often tables that are full are looked through.
const SWEEP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(registrations: &Registrations, from: &str, now: Instant) -> bool {
        registrations.ask(from.parse().unwrap(), now).is_ok()
    }

    #[test]
    fn a_network_has_so_many_in_an_hour_and_its_neighbours_have_theirs() {
        let (registrations, now) = (Registrations::new(2), Instant::now());
        for (from, may) in [
            ("192.0.2.1", true),
            ("192.0.2.1", true),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
            ("2001:db8::2", true),
            ("2001:db8::3", false),
            ("2001:db8:0:1::1", true),
        ] {
            assert_eq!(ask(&registrations, from, now), may, "{from}");
        }
        assert!(!ask(&registrations, "192.0.2.1", now + HOUR - Duration::from_secs(1)));
        assert!(ask(&registrations, "192.0.2.1", now + HOUR));
    }

    #[test]
    fn many_networks_of_one_party_are_bounded_together() {
        let (registrations, now) = (Registrations::new(2), Instant::now());
        let came = (0..100).filter(|n| ask(&registrations, &format!("2001:db8:0:{n:x}::1"), now)).count();
        assert_eq!(came, 10);
        assert!(ask(&registrations, "2001:db8:1::1", now));
    }

    // LIM-02: a table that is full must not make accounts free.
    #[test]
    fn full_tables_refuse_and_do_not_grow() {
        let (registrations, now) = (Registrations::new(1), Instant::now());
        let address = |n: usize| format!("2001:{:x}:{:x}::1", n >> 16, n & 0xffff);
        for n in 0..REMEMBERED {
            assert!(ask(&registrations, &address(n), now), "{n}");
        }
        assert!(!ask(&registrations, &address(REMEMBERED), now));
        assert!(ask(&registrations, &address(REMEMBERED), now + HOUR));
        assert_eq!(held(&registrations.seen).networks.len(), 1);
    }
}
