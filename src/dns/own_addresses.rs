//! The addresses that the world finds us at: the A and AAAA records of the hosted domains (DNS-05).
//!
//! Behind an address translation no socket of ours has these addresses, and dialling one of them leads back to us all the
//! same. They are looked up when first something is resolved, and again from time to time; a lookup that fails is tried once more
//! at once, and soon again, and leaves what was known.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::dns::guard::inner;
use crate::dns::query::Servers;
use crate::jid::Domain;

/// What is known of our own domains.
pub(super) struct OwnAddresses {
    domains: Vec<Domain>,
    servers: Servers,
    known: Mutex<Known>,
    /// Whether all of them have been looked up once.
    once: watch::Sender<bool>,
}

#[derive(Default)]
struct Known {
    addresses: HashMap<(Domain, RecordType), Vec<IpAddr>>,
    /// When to ask again; none: nobody has asked yet.
    due: Option<Instant>,
    /// How often in a row something could not be found out.
    failures: u32,
}

impl OwnAddresses {
    pub(super) fn new(domains: Vec<Domain>, servers: Servers) -> Arc<Self> {
        let once = watch::Sender::new(domains.is_empty());
        Arc::new(Self { domains, servers, known: Mutex::default(), once })
    }

    /// Whether the DNS gives this address to a hosted domain.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        let ip = inner(ip);
        self.held().addresses.values().flatten().any(|own| *own == ip)
    }

    /// Looks the domains up if it is time. Who comes first waits for a moment; a DNS that is silent about us keeps nobody.
    pub(super) async fn refresh(self: &Arc<Self>) {
        if self.domains.is_empty() {
            return;
        }
        let now = Instant::now();
        let due = {
            let mut known = self.held();
            let due = known.due.is_none_or(|due| due <= now);
            if due {
                known.due = Some(now + REFRESH);
            }
            due
        };
        if due {
            let own = Arc::clone(self);
            tokio::spawn(async move { own.look_up().await });
        }
        let mut once = self.once.subscribe();
        let _late = timeout(PATIENCE, once.wait_for(|once| *once)).await;
    }

    async fn look_up(self: Arc<Self>) {
        let mut left = self.domains.iter().flat_map(|d| [(d, RecordType::A), (d, RecordType::AAAA)]);
        let mut lookups = JoinSet::new();
        let mut failed = false;
        loop {
            while lookups.len() < AT_ONCE
                && let Some((domain, kind)) = left.next()
            {
                let (domain, asker) = (domain.clone(), self.servers.asker());
                lookups.spawn(async move {
                    let name = Name::from_ascii(format!("{}.", domain.to_ascii())).ok()?;
                    let found = match asker.ask(name.clone(), kind).await {
                        Ok(found) => found,
                        Err(_failed) => asker.ask(name, kind).await.ok()?,
                    };
                    Some(((domain, kind), found.records))
                });
            }
            let Some(done) = lookups.join_next().await else { break };
            failed |= !matches!(done, Ok(Some(_)));
            if let Ok(Some((place, records))) = done {
                let addresses = records.iter().filter_map(|data| match data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0).to_canonical()),
                    _ => None,
                });
                self.held().addresses.insert(place, addresses.take(MOST).collect());
            }
        }
        let mut known = self.held();
        known.failures = if failed { known.failures.saturating_add(1) } else { 0 };
        if failed {
            let soon = AGAIN.saturating_mul(1 << (known.failures - 1).min(8)).min(REFRESH);
            known.due = Some(Instant::now() + soon);
        }
        drop(known);
        self.once.send_replace(true);
    }

    fn held(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long what was found is taken for true.
const REFRESH: Duration = Duration::from_secs(300);
/// How long it is until what could not be found out is asked again; twice as long each time, and no longer than that.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the first who asks for anything waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions at one time.
const AT_ONCE: usize = 16;
/// Addresses of one name.
const MOST: usize = 64;
