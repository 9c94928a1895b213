//! The policy follows the calendar: a rule that ends on a day ends with it, and what is near its end is announced.

use std::sync::Arc;
use std::time::Duration;

use super::reload::Reloader;
use super::{rules, since_1970, today};
use crate::policy::Day;

impl Reloader {
    /// Rules expire at midnight (UTC): then the same policy is judged by on another day. The clock is looked at often, so
    /// that one that is set, or stood still while the machine slept, is followed within a minute.
    pub async fn follow_the_calendar(self: Arc<Self>) {
        loop {
            let into_day = since_1970().as_secs() % DAY.as_secs();
            let left = DAY - Duration::from_secs(into_day);
            tokio::time::sleep(left.min(Duration::from_secs(60))).await;
            self.turn_the_page(today());
        }
    }

    /// It is this day now.
    pub fn turn_the_page(&self, today: Day) {
        let mut expires = false;
        self.tools().registry.amend(|policy| {
            expires = policy.next_expiry().is_some_and(|day| day <= today);
            (policy.today() != today).then(|| policy.on(today))
        });
        if expires {
            tracing::warn!(day = %today, "a rule has expired");
        }
        rules::announce(&self.tools());
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
