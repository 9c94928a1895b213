//! How many domains are looked up at one time, and for whom.
//!
//! Each lookup may hold a score of sockets. What the world can cause has places of its own, so that our own users never wait
//! behind it. Who waits for a place waits before any clock of the lookup starts: that we are busy says nothing about a domain.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::dns::resolver::DnsFault;

/// For whom something is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// Stanzas that the gateway carries on its own: bounces, which peers cause, and what a broken stream left.
    Carried,
    /// Questions about keys, which anybody can cause.
    Claims,
    /// What our own users ask for.
    Own,
}

/// Domains that may be looked up at one time; the others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// For stanzas that the gateway carries on its own.
    pub carried: usize,
    /// For questions about keys; as many as may be under way, so that who may ask need not wait once more.
    pub claims: usize,
    /// For our own users.
    pub own: usize,
}

impl Default for Places {
    fn default() -> Self {
        Self { carried: 64, claims: 192, own: 256 }
    }
}

/// Lookups under way.
#[derive(Debug)]
pub(super) struct Gates {
    carried: Semaphore,
    claims: Semaphore,
    own: Semaphore,
}

impl Gates {
    pub(super) fn new(places: Places) -> Self {
        Self {
            carried: Semaphore::new(places.carried),
            claims: Semaphore::new(places.claims),
            own: Semaphore::new(places.own),
        }
    }

    /// A place for one lookup, and how long it was waited for.
    pub(super) async fn enter(
        &self,
        share: Share,
        patience: Duration,
    ) -> Result<(SemaphorePermit<'_>, Duration), DnsFault> {
        let gate = match share {
            Share::Carried => &self.carried,
            Share::Claims => &self.claims,
            Share::Own => &self.own,
        };
        if let Ok(place) = gate.try_acquire() {
            return Ok((place, Duration::ZERO));
        }
        let begun = Instant::now();
        match timeout(patience, gate.acquire()).await {
            Ok(Ok(place)) => Ok((place, begun.elapsed())),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(DnsFault::Busy),
        }
    }
}
