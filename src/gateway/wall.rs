//! The time by the wall: the one place of this room where the system's clock is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::policy::Day;
use crate::run::now;
use crate::stream::Clock;

/// What time it is, for keys that several nodes must date alike (CLU-02).
pub(super) fn clock() -> Clock {
    Clock::new(now(), since_1970())
}

/// Today, UTC, by the system's clock.
pub(super) fn today() -> Day {
    Day::from_unix_seconds(unix_seconds())
}

/// Seconds since 1970, by the system's clock.
pub(super) fn unix_seconds() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970, by the system's clock.
pub(super) fn millis() -> i64 {
    i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX)
}

/// The time since 1970, by the system's clock.
#[allow(clippy::disallowed_methods)] // the one place of this room
pub(super) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
