//! Keys of several nodes bear the time by the wall (CLU-02): it is read anew when the system's clock was set.

use std::sync::Arc;
use std::time::Duration;

use super::reload::Reloader;
use super::ticks::every;
use super::wall::{clock, since_1970};
use crate::run::now;

/// Has keys bear the right time after the system's clock was set, or stood still while the machine slept.
pub(super) async fn follow(reloader: Arc<Reloader>) {
    let mut known = clock();
    let mut tick = every(LOOK);
    loop {
        tick.tick().await;
        let (expected, found) = (known.unix(now()), since_1970());
        if expected.abs_diff(found) <= BEARABLE {
            continue;
        }
        known = clock();
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

/// How often the system's clock is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A difference that keys bear with ease.
const BEARABLE: Duration = Duration::from_secs(1);
