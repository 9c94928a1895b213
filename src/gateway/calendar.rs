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
            self.turn_the_page(today()).await;
        }
    }

    /// It is this day now.
    pub async fn turn_the_page(&self, today: Day) {
        // Of many rules it takes a while, and happens once a day.
        let tools = self.tools();
        let turned = rules::apart(&tools, move |tools| {
            let before = tools.registry.policy();
            if before.today() == today {
                return None;
            }
            tools.registry.amend(|policy| (policy.today() != today).then(|| policy.on(today)));
            rules::announce(tools);
            before.next_expiry().filter(|day| *day <= today).map(|_| rules::expired(&before, today))
        });
        match turned.await.flatten() {
            None => {}
            // The first or the last day of a pinned key.
            Some(ended) if ended.is_empty() => {
                tracing::warn!(day = %today, "a rule holds other keys from today on");
            }
            Some(ended) => {
                tracing::warn!(day = %today, what = ended.join("; "), "what was in force until yesterday has expired");
            }
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
