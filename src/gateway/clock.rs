//! The time by the wall, which keys of several nodes bear (CLU-02): read at the start, and again when it was set.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::reload::Reloader;
use super::since_1970;
use crate::run::now;
use crate::stream::Clock;

/// What time it is.
pub(super) fn read() -> Clock {
    Clock::new(now(), since_1970())
}

/// Has keys bear the right time after the system's clock was set, or stood still while the machine slept.
pub(super) async fn follow(reloader: Arc<Reloader>) {
    let mut known = read();
    let mut tick = every(LOOK);
    loop {
        tick.tick().await;
        let (expected, found) = (known.unix(now()), since_1970());
        if expected.abs_diff(found) <= BEARABLE {
            continue;
        }
        known = read();
        let (before, after) = (expected.as_secs(), found.as_secs());
        tracing::warn!(
            before,
            after,
            "the system's clock was set: dialback keys bear the new time from now on"
        );
        // All that leans on the time is made anew, by the settings in force.
        let settings = reloader.settings();
        reloader.readdress(&settings, (*settings).clone()).await;
    }
}

/// Ticks at once, and then whenever so much of the wall's time is full: what is to be done now and then is done together, and a
/// gateway that has nothing else to do sleeps in between.
pub(super) fn every(period: Duration) -> Interval {
    let nanos = since_1970().as_nanos().checked_rem(period.as_nanos());
    let over = Duration::from_nanos(nanos.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default());
    let now = Instant::now();
    let mut tick = interval_at(now.checked_sub(over).unwrap_or(now), period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick
}

/// How often the system's clock is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A difference that keys bear with ease.
const BEARABLE: Duration = Duration::from_secs(1);
