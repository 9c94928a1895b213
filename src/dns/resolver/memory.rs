//! What is known of domains, for as long as the DNS says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::fault::DnsFault;
use super::{Known, MAX_KNOWN};
use crate::dns::query::Servers;
use crate::jid::Domain;

/// A resolver's servers, and what they have said.
pub(super) struct Memory {
    pub(super) servers: Servers,
    pub(super) known: Mutex<HashMap<Domain, Arc<OnceCell<Known>>>>,
}

impl Memory {
    /// The place where this domain's lookup is, was or will be.
    pub(super) fn cell(&self, domain: &Domain) -> Result<Arc<OnceCell<Known>>, DnsFault> {
        let now = Instant::now();
        let is_fresh = |cell: &Arc<OnceCell<Known>>| cell.get().is_none_or(|known| known.until > now);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = known.get(domain).filter(|cell| is_fresh(cell)) {
            return Ok(Arc::clone(cell));
        }
        if known.len() >= MAX_KNOWN && !known.contains_key(domain) {
            // An unfinished lookup that nobody waits for any more was abandoned.
            known.retain(|_, cell| is_fresh(cell) && (cell.initialized() || Arc::strong_count(cell) > 1));
            if known.len() >= MAX_KNOWN {
                let finished =
                    known.iter().find(|(_, cell)| cell.initialized()).map(|(domain, _)| domain.clone());
                known.remove(&finished.ok_or(DnsFault::Failed)?);
            }
        }
        let cell = Arc::new(OnceCell::new());
        known.insert(domain.clone(), Arc::clone(&cell));
        Ok(cell)
    }

    /// Whoever asks next looks for himself, unless the domain is known to be somewhere. Lookups under way go on for those who wait.
    pub(super) fn forget_absence(&self, domain: &Domain) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(domain).is_some_and(|cell| cell.get().is_none_or(|known| known.outcome.is_err())) {
            known.remove(domain);
        }
    }
}
