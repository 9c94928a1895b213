//! Which names backends have used and may not use, and when that was told last (DB-62).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::jid::Domain;
use crate::reason::Reason;

/// The names that were told lately.
#[derive(Debug, Default)]
pub(super) struct Misnamed(Mutex<HashMap<Misuse, Instant>>);

/// A name, what is wrong with its use, and the domain whose backend has used it.
type Misuse = (Domain, Reason, Option<Domain>);

impl Misnamed {
    /// Whether this is to be told now: each name of each backend once an hour, since the remedy is one in the configuration.
    pub(super) fn is_due(&self, name: &Domain, reason: Reason, via: Option<&Domain>, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let misuse = (name.clone(), reason, via.cloned());
        if told.get(&misuse).is_some_and(|last| now < *last + HOUR) {
            return false;
        }
        if told.len() >= NAMES {
            told.clear();
        }
        told.insert(misuse, now);
        true
    }
}

/// How long a name is not told again.
const HOUR: Duration = Duration::from_secs(3600);

/// Names that are remembered.
const NAMES: usize = 10_000;
