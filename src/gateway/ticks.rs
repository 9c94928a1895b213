//! When what is done now and then is done: at one time, so that a gateway that has nothing else to do sleeps in between.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::since_1970;

/// Ticks at once, and then whenever so much of the wall's time is full.
pub(super) fn every(period: Duration) -> Interval {
    let nanos = since_1970().as_nanos().checked_rem(period.as_nanos());
    let over = Duration::from_nanos(nanos.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default());
    let now = Instant::now();
    let mut tick = interval_at(now.checked_sub(over).unwrap_or(now), period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick
}
