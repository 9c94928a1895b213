//! Clients whose connections broke, while their servers still take what came over them.
//!
//! A server that is asked on a new connection to go on with a session says how far it has counted, and may yet deliver what reaches it
//! over the old one without counting it (ejabberd does): the client says that again, and it is heard twice. So a resumption goes behind
//! what the gateway still has to deliver of that account (SM-05).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Later;

/// The accounts, by their bare addresses.
#[derive(Debug, Default)]
pub struct Partings {
    all: Mutex<HashMap<String, Parting>>,
}

#[derive(Debug, Default)]
struct Parting {
    legs: usize,
    /// Its end is what is waited for.
    over: watch::Sender<()>,
}

impl Partings {
    /// A leg of this account to its server ends, for as long as the ticket lives.
    pub fn begins(self: &Arc<Self>, account: String) -> PartingTicket {
        let mut all = self.held();
        let parting = all.entry(account.clone()).or_default();
        parting.legs = parting.legs.saturating_add(1);
        drop(all);
        PartingTicket { partings: Arc::clone(self), account }
    }

    /// Waits until those of this account that end now have ended, and for so long at most (RLY-05); none where none does.
    pub fn behind(&self, account: &str) -> Option<Later<()>> {
        let mut over = self.held().get(account)?.over.subscribe();
        Some(Box::pin(async move {
            let all = async { while over.changed().await.is_ok() {} };
            let _late = tokio::time::timeout(PATIENCE, all).await;
        }))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Parting>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A leg that ends.
#[derive(Debug)]
pub struct PartingTicket {
    partings: Arc<Partings>,
    account: String,
}

impl Drop for PartingTicket {
    fn drop(&mut self) {
        let mut all = self.partings.held();
        if let Some(parting) = all.get_mut(&self.account) {
            parting.legs = parting.legs.saturating_sub(1);
            if parting.legs == 0 {
                all.remove(&self.account);
            }
        }
    }
}

/// How long a resumption waits. Its client would give up before long, and a server that takes nothing for so long is no better later.
const PATIENCE: Duration = Duration::from_secs(5);
