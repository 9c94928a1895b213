//! Keys that a node made which shares our secret, at another time than ours: one of the two clocks is wrong (CLU-02).
//!
//! Such a key has been answered with `invalid` already; looking for its time is for the operator, who reads which clock to
//! set. Unproven peers may ask about whatever they like, so one key in a while is looked at, and never on the way of a stanza.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::now;
use super::observe::Observe;
use crate::reason::Facing;
use crate::relay::RelayParams;
use crate::stream::KeyCheck;

/// When a key was looked at last.
#[derive(Debug, Default)]
pub struct Strays {
    last: Mutex<Option<Instant>>,
}

impl Strays {
    /// Whether it is time to look at another key.
    fn is_due(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Has a key looked at that nobody here knows.
    pub(super) fn look(
        &self,
        relays: &Arc<RelayParams>,
        observe: &Arc<Observe>,
        facing: Facing,
        check: &KeyCheck,
    ) {
        let shaped =
            check.key.len() == 64 && check.key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !shaped || !relays.keys.facing(facing).is_shared() || !self.is_due(now()) {
            return;
        }
        let (relays, observe, check, asked) = (Arc::clone(relays), Arc::clone(observe), check.clone(), now());
        // Nobody waits for it.
        let _unheard = tokio::task::spawn_blocking(move || {
            let Some(seconds) = relays.keys.facing(facing).astray(&check, asked) else { return };
            observe.metrics().key_astray(facing);
            let (off, way) = (seconds.unsigned_abs(), if seconds < 0 { "before" } else { "after" });
            tracing::warn!(facing = %facing, seconds,
                "a key that this node or one with its secret made bears a time {off} s {way} ours, and was told invalid: one of \
                 the clocks is wrong; have all nodes follow the same time (NTP)");
        });
    }
}

/// Until another key is looked at: tens of milliseconds of one processor each.
const PAUSE: Duration = Duration::from_secs(10);

/// A key that was sent within this time is young by any clock that goes right.
pub(super) const YOUNG: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_in_a_while_is_looked_at() {
        let (strays, begin) = (Strays::default(), Instant::now());
        let due = |seconds| strays.is_due(begin + Duration::from_secs(seconds));
        assert_eq!([0, 1, 9, 10, 19, 20].map(due), [true, false, false, true, false, true]);
    }
}
