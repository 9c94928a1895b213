//! Who may try to log in, and when: guessing a password gets slower with every guess, and in the end is refused.
//!
//! What fails is counted for the source network, for the account, and for both together. A network waits longer with
//! each failure and is refused for a while once it has failed too often (C2S-11, LIM-07). An account is never locked: too
//! many failures for it, from wherever, only make those wait whom it does not know, and a network from which its owner has logged in lately
//! is not unproven. No password comes here; account names are kept as keyed digests, for people type passwords into the
//! wrong field.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::logins_shared::{Digests, LoginOutcome};
use super::table::Table;
use super::{Network, held};

/// How much guessing is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Failures of one network for one account, after which that account is refused to it.
    pub per_account: u32,
    /// Failures of one network, after which it is refused.
    pub per_network: u32,
    /// What the third try in a row waits; doubled for each further one.
    pub delay: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// How long a refusal lasts.
    pub ban: Duration,
    /// How long a failure is remembered.
    pub memory: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            per_account: 10,
            per_network: 50,
            delay: Duration::from_millis(500),
            longest: Duration::from_secs(10),
            ban: Duration::from_secs(15 * 60),
            memory: Duration::from_secs(60 * 60),
        }
    }
}

/// Whether a login may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// At once.
    Now,
    /// After this time.
    After(Duration),
    /// Not for a while.
    Refused,
}

/// What has failed lately, and from where.
#[derive(Debug)]
pub struct Logins {
    params: Params,
    digests: Digests,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    networks: Table<Network, Strikes>,
    accounts: Table<u64, Strikes>,
    pairs: Table<(Network, u64), Strikes>,
    /// Where the owner of an account has logged in from, and when last.
    known: Table<(Network, u64), Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Strikes {
    count: u32,
    last: Instant,
}

impl Strikes {
    fn is_old(&self, memory: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= memory
    }
}

impl Logins {
    /// Nothing has failed yet.
    pub fn new(params: Params) -> Self {
        let seen = Seen { networks: table(), accounts: table(), pairs: table(), known: table() };
        Self { params, digests: Digests::default(), seen: Mutex::new(seen) }
    }

    /// Whether somebody from this address may try this account now; none where the mechanism does not show it.
    pub fn ask(&self, address: IpAddr, account: Option<(&str, &str)>, now: Instant) -> Leave {
        let network = Network::of(address);
        let account = account.map(|account| self.digests.of(account));
        let mut seen = held(&self.seen);
        let old = |strikes: &Strikes| strikes.is_old(self.params.memory, now);
        let strikes = self.count(&seen.networks, &network, now);
        if strikes >= self.params.per_network {
            return Leave::Refused;
        }
        // Many may share a network: their single mistakes must not slow one another.
        let mut wait = self.wait(strikes.saturating_sub(self.params.per_account));
        if let Some(account) = account {
            let pair = (network, account);
            let strikes = self.count(&seen.pairs, &pair, now);
            if strikes >= self.params.per_account {
                return Leave::Refused;
            }
            wait = wait.max(self.wait(strikes));
            let lately = |at: &Instant| now.saturating_duration_since(*at) < self.params.memory;
            if !seen.known.get(&pair).is_some_and(lately) {
                let all = self.count(&seen.accounts, &account, now);
                wait = wait.max(self.wait(all.saturating_sub(self.params.per_account)));
                // Where a failure would find no place to be remembered, a guess must not be free.
                let remembered = seen.networks.has_room(&network, now, old)
                    && seen.accounts.has_room(&account, now, old)
                    && seen.pairs.has_room(&pair, now, old);
                if !remembered {
                    wait = self.params.longest;
                }
            }
        } else {
            // Without a name the network stands for it.
            wait = wait.max(self.wait(strikes));
            if !seen.networks.has_room(&network, now, old) {
                wait = self.params.longest;
            }
        }
        if wait.is_zero() { Leave::Now } else { Leave::After(wait) }
    }

    /// A login from there has failed. Whether the network, or the account for it, is refused from now on.
    pub fn failed(&self, address: IpAddr, account: Option<(&str, &str)>, now: Instant) -> bool {
        let account = account.map(|account| self.digests.of(account));
        self.digests.note(LoginOutcome { network: address, account, failed: true }, now);
        self.count_failure(Network::of(address), account, now)
    }

    fn count_failure(&self, network: Network, account: Option<u64>, now: Instant) -> bool {
        let mut seen = held(&self.seen);
        let memory = self.params.memory;
        let mut refused = strike(&mut seen.networks, network, memory, now) == self.params.per_network;
        if let Some(account) = account {
            strike(&mut seen.accounts, account, memory, now);
            refused |= strike(&mut seen.pairs, (network, account), memory, now) == self.params.per_account;
        }
        refused
    }

    /// A login from there has succeeded: the account knows that network from now on.
    pub fn succeeded(&self, address: IpAddr, account: Option<(&str, &str)>, now: Instant) {
        let Some(account) = account.map(|account| self.digests.of(account)) else { return };
        self.digests.note(LoginOutcome { network: address, account: Some(account), failed: false }, now);
        self.count_success((Network::of(address), account), now);
    }

    fn count_success(&self, pair: (Network, u64), now: Instant) {
        let mut seen = held(&self.seen);
        // What the network has failed at stays counted: a guesser may well have an account of its own.
        seen.pairs.remove(&pair);
        let old = |at: &Instant| now.saturating_duration_since(*at) >= self.params.memory;
        if let Some(at) = seen.known.place(pair, now, old, || now) {
            *at = now.max(*at);
        }
    }

    /// What nodes that share it have in common.
    pub fn shared(&self) -> &Digests {
        &self.digests
    }

    /// Another node has seen this so long ago.
    pub fn seen_elsewhere(&self, attempt: LoginOutcome, ago: Duration, now: Instant) {
        if ago >= self.params.memory {
            return;
        }
        let (network, at) = (Network::of(attempt.network), now.checked_sub(ago).unwrap_or(now));
        match (attempt.failed, attempt.account) {
            (true, account) => {
                self.count_failure(network, account, at);
            }
            (false, Some(account)) => self.count_success((network, account), at),
            (false, None) => {}
        }
    }

    /// Refusals in force: networks, and accounts that are refused to single networks.
    pub fn bans(&self, now: Instant) -> usize {
        let seen = held(&self.seen);
        let networks = seen.networks.values().filter(|s| self.counted(s, now) >= self.params.per_network);
        let pairs = seen.pairs.values().filter(|s| self.counted(s, now) >= self.params.per_account);
        networks.count() + pairs.count()
    }

    fn count<K: Hash + Eq>(&self, table: &Table<K, Strikes>, key: &K, now: Instant) -> u32 {
        table.get(key).map_or(0, |strikes| self.counted(strikes, now))
    }

    /// What still counts of these strikes. A ban that is over leaves no more than one strike below it, so that the next
    /// guess is not free.
    fn counted(&self, strikes: &Strikes, now: Instant) -> u32 {
        let age = now.saturating_duration_since(strikes.last);
        if age >= self.params.memory {
            0
        } else if age >= self.params.ban {
            strikes.count.min(self.params.per_account.saturating_sub(1))
        } else {
            strikes.count
        }
    }

    fn wait(&self, strikes: u32) -> Duration {
        match strikes.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                self.params.delay.saturating_mul(factor).min(self.params.longest)
            }
        }
    }
}

/// One more strike; how many there are now. A table that is full of living strikes takes no new key: a flood from many
/// addresses must not fill the memory (LIM-02). Who finds no place in it waits for the longest time instead.
fn strike<K: Hash + Eq>(table: &mut Table<K, Strikes>, key: K, memory: Duration, now: Instant) -> u32 {
    let old = |strikes: &Strikes| strikes.is_old(memory, now);
    let Some(strikes) = table.place(key, now, old, || Strikes { count: 0, last: now }) else { return 0 };
    if old(strikes) {
        strikes.count = 0;
    }
    strikes.count = strikes.count.saturating_add(1);
    // What another node has seen may be heard late.
    strikes.last = strikes.last.max(now);
    strikes.count
}

fn table<K: Hash + Eq, V>() -> Table<K, V> {
    Table::new(REMEMBERED, SWEEP)
}

/// Keys of one table that are remembered.
const REMEMBERED: usize = 100_000;

/// How often tables that are full are looked through.
const SWEEP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const GUESSER: &str = "192.0.2.66";
    const HOME: &str = "203.0.113.5";
    const ALICE: Option<(&str, &str)> = Some(("hall.example", "alice"));

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(logins: &Logins, from: &str, account: Option<(&str, &str)>, times: u32, now: Instant) {
        for _ in 0..times {
            logins.failed(ip(from), account, now);
        }
    }

    #[test]
    fn waits_double_and_end_in_a_refusal_that_ends() {
        let (logins, start) = (Logins::new(Params::default()), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.push(logins.ask(ip(GUESSER), ALICE, start));
            logins.failed(ip(GUESSER), ALICE, start);
        }
        let after = |millis| Leave::After(Duration::from_millis(millis));
        let expected = [
            Leave::Now,
            Leave::Now,
            after(500),
            after(1000),
            after(2000),
            after(4000),
            after(8000),
            after(10_000),
            after(10_000),
            after(10_000),
        ];
        assert_eq!(waits, expected);
        assert_eq!(logins.ask(ip(GUESSER), ALICE, start), Leave::Refused);
        assert_eq!(logins.bans(start), 1);
        let later = start + Duration::from_secs(15 * 60);
        assert_eq!(logins.ask(ip(GUESSER), ALICE, later), after(10_000), "one more, slowly");
        assert_eq!(logins.bans(later), 0);
        logins.failed(ip(GUESSER), ALICE, later);
        assert_eq!(logins.ask(ip(GUESSER), ALICE, later), Leave::Refused, "and refused again");
        assert_eq!(logins.ask(ip(GUESSER), ALICE, later + Duration::from_secs(3600)), Leave::Now);
    }

    // C2S-11: success by the right owner is not locked out from another network.
    #[test]
    fn the_owner_is_not_locked_out_by_guesses_from_elsewhere() {
        let (logins, now) = (Logins::new(Params::default()), Instant::now());
        logins.succeeded(ip(HOME), ALICE, now);
        for n in 0..20 {
            fail(&logins, &format!("192.0.2.{n}"), ALICE, 10, now);
        }
        assert_eq!(logins.ask(ip("192.0.2.3"), ALICE, now), Leave::Refused);
        assert_eq!(logins.ask(ip(HOME), ALICE, now), Leave::Now, "known there");
        let abroad = logins.ask(ip("198.51.100.9"), ALICE, now);
        assert_eq!(
            abroad,
            Leave::After(Duration::from_secs(10)),
            "who is not known there waits and is let try"
        );
    }

    #[test]
    fn a_network_that_tries_many_accounts_is_refused_all_of_them() {
        let (logins, now) = (Logins::new(Params::default()), Instant::now());
        for n in 0..49 {
            let name = format!("user{n}");
            assert_ne!(logins.ask(ip(GUESSER), Some(("hall.example", &name)), now), Leave::Refused);
            assert!(!logins.failed(ip(GUESSER), Some(("hall.example", &name)), now));
        }
        assert!(logins.failed(ip(GUESSER), Some(("hall.example", "last")), now));
        assert_eq!(logins.ask(ip(GUESSER), ALICE, now), Leave::Refused);
        // A guesser's own account does not wash it clean.
        logins.succeeded(ip(GUESSER), Some(("hall.example", "mallory")), now);
        assert_eq!(logins.ask(ip(GUESSER), ALICE, now), Leave::Refused);
        assert_eq!(logins.ask(ip(HOME), ALICE, now), Leave::Now);
    }

    // LIM-02, C2S-11: a table that is full must not make guesses free.
    #[test]
    fn who_finds_no_place_to_be_remembered_waits() {
        let (logins, now) = (Logins::new(Params::default()), Instant::now());
        logins.succeeded(ip(HOME), ALICE, now);
        for n in 0..REMEMBERED {
            let name = n.to_string();
            logins.failed(
                ip(&format!("2001:db8:{:x}:{:x}::1", n >> 16, n & 0xffff)),
                Some(("h", &name)),
                now,
            );
        }
        let (longest, memory) = (Leave::After(Params::default().longest), Params::default().memory);
        assert_eq!(logins.ask(ip(GUESSER), ALICE, now), longest);
        assert_eq!(logins.ask(ip(GUESSER), None, now), longest);
        assert_eq!(logins.ask(ip(HOME), ALICE, now), Leave::Now, "known there");
        assert_eq!(logins.ask(ip(GUESSER), ALICE, now + memory), Leave::Now, "and forgotten in the end");
        assert!(!logins.failed(ip(GUESSER), ALICE, now + memory));
        assert_eq!(held(&logins.seen).networks.len(), 1);
    }

    // CLU-03: "failures of logins": a password is not guessed at each node anew.
    #[test]
    fn what_fails_at_one_node_counts_at_all() {
        let now = Instant::now();
        let nodes = [Logins::new(Params::default()), Logins::new(Params::default())];
        nodes.iter().for_each(|node| node.shared().share([7; 32]));
        for node in nodes.iter().cycle().take(10) {
            assert_ne!(node.ask(ip(GUESSER), ALICE, now), Leave::Refused);
            node.failed(ip(GUESSER), ALICE, now);
            let heard: Vec<_> = node.shared().take(100).into_iter().map(|(attempt, _)| attempt).collect();
            assert_eq!(heard.len(), 1);
            for other in nodes.iter().filter(|other| !std::ptr::eq(*other, node)) {
                heard.iter().for_each(|attempt| other.seen_elsewhere(*attempt, Duration::from_secs(1), now));
                assert!(other.shared().take(100).is_empty(), "what was heard is not said again");
            }
        }
        for node in &nodes {
            assert_eq!(node.ask(ip(GUESSER), ALICE, now), Leave::Refused);
        }
        // The owner, known at one node, is known to the other.
        nodes[0].succeeded(ip(HOME), ALICE, now);
        for (attempt, _) in nodes[0].shared().take(100) {
            nodes[1].seen_elsewhere(attempt, Duration::ZERO, now);
        }
        for n in 0..20 {
            fail(&nodes[1], &format!("192.0.2.{n}"), ALICE, 10, now);
        }
        assert_eq!(nodes[1].ask(ip(HOME), ALICE, now), Leave::Now);
        // What is older than the memory counts no more, and another secret makes other digests.
        let foreign = Logins::new(Params::default());
        foreign.shared().share([8; 32]);
        foreign.failed(ip(GUESSER), ALICE, now);
        assert_ne!(foreign.shared().take(1)[0].0.account, Some(nodes[0].shared().of(ALICE.unwrap())));
        let fresh = Logins::new(Params::default());
        for _ in 0..60 {
            let attempt = LoginOutcome { network: ip(GUESSER), account: None, failed: true };
            fresh.seen_elsewhere(attempt, Params::default().memory, now);
        }
        assert_eq!(fresh.ask(ip(GUESSER), ALICE, now), Leave::Now);
    }

    #[test]
    fn a_whole_ipv6_network_is_one_guesser_and_no_name_counts_for_the_network() {
        let (logins, now) = (Logins::new(Params::default()), Instant::now());
        fail(&logins, "2001:db8::1", ALICE, 10, now);
        assert_eq!(logins.ask(ip("2001:db8::2"), ALICE, now), Leave::Refused);
        assert_eq!(logins.ask(ip("2001:db8:0:1::1"), ALICE, now), Leave::Now);
        fail(&logins, HOME, None, 3, now);
        assert_eq!(logins.ask(ip(HOME), None, now), Leave::After(Duration::from_secs(1)));
        assert_eq!(logins.ask(ip(HOME), ALICE, now), Leave::Now);
    }
}
