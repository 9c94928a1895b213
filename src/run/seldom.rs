//! Lines of the log that would come too often.

use std::time::{Duration, Instant};

use super::now;

/// A line that is due at every try, and told once a minute: whoever uses up our descriptors must not write our log (LOG-05).
#[derive(Debug, Default)]
pub struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it may be told now.
    pub fn may_log(&mut self) -> bool {
        let now = now();
        let due = self.0.is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(60));
        if due {
            self.0 = Some(now);
        }
        due
    }
}
