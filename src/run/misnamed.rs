//! Names that backends use and may not use: told to the operator, since the remedy is a line in the configuration (DB-62).

use std::sync::PoisonError;
use std::time::Duration;

use super::now;
use super::observe::{Observe, capped, peer};
use super::registry::Meta;
use super::told::Around;
use crate::jid::Domain;
use crate::reason::Reason;
use crate::relay::Record;
use crate::stream::Pair;

impl Observe {
    /// DB-62: a line for each name, backend and hour, since the remedy is one in the configuration; and a record where the name is
    /// another backend's.
    pub(super) fn misnamed(
        &self,
        meta: &Meta,
        name: &Domain,
        reason: Reason,
        via: Option<&Domain>,
        around: &Around,
    ) {
        let mut told = self.misnamed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let told_of = (name.clone(), reason, via.cloned());
        if told.get(&told_of).is_some_and(|last| now < *last + HOUR) {
            return;
        }
        if told.len() >= NAMES {
            told.clear();
        }
        told.insert(told_of, now);
        drop(told);
        let (shown, backend) = (capped(name.as_str()), via.map_or("unknown", Domain::as_str));
        if reason == Reason::OtherBackend {
            tracing::error!(domain = %shown, %backend, peer = %peer(meta, around), relay = %meta.id, reason = reason.label(),
                "ALARM: a backend speaks for a domain of another backend; nothing of it passes");
            let pair = via.map(|via| Pair { sender: name.clone(), target: via.clone() });
            self.audit(meta, "misnamed", &Record { pair, ..Record::of(None, reason) }, around);
        } else {
            tracing::warn!(domain = %shown, %backend, peer = %peer(meta, around), relay = %meta.id, reason = reason.label(),
                "a backend uses a domain that is not configured, and nothing of it passes: add `- name: {shown}` under \
                 `domains:`, with a certificate and the same backend");
        }
    }
}

/// How long a name is not told again.
const HOUR: Duration = Duration::from_secs(3600);

/// Names that are remembered.
const NAMES: usize = 10_000;
