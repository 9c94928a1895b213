//! Bans of operators: each has its end, and is part of the policy while it holds.
//!
//! A ban is never asked about by itself. It becomes part of the snapshot that everybody judges by, so that living streams
//! hear of it as of any other change (POL-07), and leaves the snapshot when its time is over. Bans end with the process, unless
//! nodes share a store: then each is kept there, and holds on all of them (`shared`).

mod shared;

pub use shared::StoredBan;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::Notify;

use crate::jid::Domain;
use crate::metrics::Metrics;
use crate::policy::{Bans, networks};
use crate::run::now;
use crate::run::observe::capped;
use crate::run::registry::Registry;

/// Whom a ban is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BanTarget {
    /// Everybody at these addresses.
    Network(IpNet),
    /// This domain and those below it.
    Domain(Domain),
}

impl FromStr for BanTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.to_canonical().into()));
        }
        let plain = text.bytes().all(|octet| octet.is_ascii_hexdigit() || b".:/".contains(&octet));
        if plain && text.contains('/') {
            return networks::parse(text).map(Self::Network);
        }
        Domain::parse(text)
            .map(Self::Domain)
            .map_err(|_| format!("\"{}\" is no address, network or domain: write one like 192.0.2.7, 192.0.2.0/24 or spam.example", capped(text)))
    }
}

impl fmt::Display for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

/// One ban.
#[derive(Clone, Debug)]
pub struct Ban {
    /// Whom it is about.
    pub target: BanTarget,
    /// When it ends.
    pub until: Instant,
    /// The user who asked for it.
    pub uid: u32,
    /// When it was asked for, in milliseconds since 1970.
    pub decided: i64,
}

/// All bans in force.
#[derive(Debug)]
pub struct BanList {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    list: Mutex<Vec<Ban>>,
    /// Bans that were lifted, and when.
    lifted: Mutex<BTreeMap<String, i64>>,
    /// Milliseconds by which the clock that nodes have in common is ahead of this one's.
    ahead: AtomicI64,
    changed: Notify,
}

impl BanList {
    /// Nobody is banned.
    pub fn new(registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        let (list, lifted) = (Mutex::default(), Mutex::default());
        Self { registry, metrics, list, lifted, ahead: AtomicI64::new(0), changed: Notify::new() }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Ban>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the bans would be with this one.
    pub fn with(&self, target: &BanTarget) -> Bans {
        let mut list = self.held().clone();
        list.retain(|ban| ban.target != *target);
        list.push(Ban { target: target.clone(), until: now(), uid: 0, decided: 0 });
        bans(&list)
    }

    /// This ban holds from now on; one of the same target is replaced.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add(&self, ban: Ban) -> Result<(), String> {
        let mut list = self.held();
        list.retain(|old| old.target != ban.target);
        if list.len() >= MOST {
            return Err(format!("there are {MOST} bans already; a rule of the policy holds for longer"));
        }
        list.push(ban);
        self.publish(&list);
        drop(list);
        self.changed.notify_one();
        Ok(())
    }

    /// This ban is lifted; whether it was there.
    pub fn lift(&self, target: &BanTarget) -> bool {
        let mut list = self.held();
        let before = list.len();
        list.retain(|ban| ban.target != *target);
        let found = list.len() < before;
        if found {
            self.publish(&list);
            self.note_lifted(target, self.wall());
        }
        found
    }

    /// All of them, those that end first in front.
    pub fn all(&self) -> Vec<Ban> {
        let mut list = self.held().clone();
        list.sort_by_key(|ban| ban.until);
        list
    }

    /// Lifts each ban when its time has come.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            let next = self.held().iter().map(|ban| ban.until).min();
            let pause = next.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(now()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.changed.notified() => {}
            }
            let mut list = self.held();
            let (over, left): (Vec<Ban>, Vec<Ban>) = list.drain(..).partition(|ban| ban.until <= now());
            *list = left;
            if !over.is_empty() {
                self.publish(&list);
            }
            drop(list);
            for ban in over {
                tracing::info!(target = %ban.target, "a ban is over");
            }
        }
    }

    /// The list is locked meanwhile, so that an older one never comes after a newer.
    fn publish(&self, list: &[Ban]) {
        self.metrics.bans_by_operators(list.len());
        self.registry.amend(|policy| Some(policy.with_bans(bans(list))));
    }
}

fn bans(list: &[Ban]) -> Bans {
    let mut bans = Bans::default();
    for ban in list {
        match &ban.target {
            BanTarget::Network(network) => bans.networks.push(*network),
            BanTarget::Domain(domain) => bans.domains.push(domain.clone()),
        }
    }
    bans
}

/// More would make every judgement slow.
const MOST: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_a_network_or_a_domain() {
        for (text, written) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::1"),
            ("Spam.Example", "spam.example"),
        ] {
            assert_eq!(text.parse::<BanTarget>().unwrap().to_string(), written);
        }
        for text in ["192.0.2.1/24", "*.spam.example", "", "a b"] {
            assert!(text.parse::<BanTarget>().is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ban_ends_by_itself() {
        let registry = Registry::new(crate::run::tests::policy(), Duration::from_secs(30), 1);
        let metrics = Arc::new(Metrics::new([]).unwrap());
        let book = Arc::new(BanList::new(Arc::clone(&registry), Arc::clone(&metrics)));
        let keeper = tokio::spawn(Arc::clone(&book).keep_time());
        let ban = |target: &str, seconds| Ban {
            target: target.parse().unwrap(),
            until: now() + Duration::from_secs(seconds),
            uid: 7,
            decided: 0,
        };
        let spam = Domain::parse("a.spam.example").unwrap();
        book.add(ban("spam.example", 60)).unwrap();
        book.add(ban("192.0.2.0/24", 30)).unwrap();
        assert!(registry.policy().bans().holds_domain(&spam));
        assert!(metrics.text().unwrap().contains("gatehouse_bans 2"));
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert!(registry.policy().bans().networks.is_empty());
        assert!(registry.policy().bans().holds_domain(&spam), "the longer one still holds");
        // Asked for once more, it holds from then on.
        book.add(ban("spam.example", 60)).unwrap();
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert!(registry.policy().bans().holds_domain(&spam));
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!registry.policy().bans().holds_domain(&spam));
        assert!(metrics.text().unwrap().contains("gatehouse_bans 0"));
        keeper.abort();
    }
}
