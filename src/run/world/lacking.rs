//! What this machine has had no room for lately.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::Failure;
use super::super::seldom::Seldom;
use crate::reason::Cause;

/// The servers behind that no port was left for, and when the operator was told.
///
/// The kernel looks at each port there is before it says that none is left: 0.8 ms of a processor for 9,000 of them. A burst of logins
/// would pay that for each before the next address is called, so that for a moment the first answer holds for all.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    told: Seldom,
    without_ports: HashMap<SocketAddr, (Instant, Failure)>,
}

impl Lacking {
    /// Whether it may be told now.
    pub(super) fn may_log(&mut self) -> bool {
        self.told.may_log()
    }

    /// What came of calling this address a moment ago, if no port was left for it.
    pub(super) fn of(&mut self, address: SocketAddr, now: Instant) -> Option<Failure> {
        self.without_ports.retain(|_, (since, _)| now.saturating_duration_since(*since) < MOMENT);
        self.without_ports.get(&address).map(|(_, failure)| failure.clone())
    }

    /// This came of calling it.
    pub(super) fn note(&mut self, address: SocketAddr, failure: &Failure, now: Instant) {
        if failure.detail.as_ref().is_some_and(|detail| detail.cause == Cause::NoPorts) {
            self.without_ports.insert(address, (now, failure.clone()));
        }
    }
}

/// How long an answer holds: so long a port that has become free is not found.
const MOMENT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::{Detail, Reason};

    #[test]
    fn an_address_without_ports_is_left_alone_for_a_moment_and_no_other_is() {
        let mut lacking = Lacking::default();
        let (full, other) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.2:1".parse().unwrap());
        let failure = |cause| Failure::new(Reason::NoRoom, Detail::new(cause, ""));
        let begun = Instant::now();
        assert_eq!(lacking.of(full, begun), None);
        lacking.note(full, &failure(Cause::NoPorts), begun);
        lacking.note(other, &failure(Cause::NoSockets), begun);
        assert_eq!(lacking.of(full, begun + MOMENT / 2), Some(failure(Cause::NoPorts)));
        // Descriptors are short for all alike, and asking costs nothing.
        assert_eq!(lacking.of(other, begun), None);
        assert_eq!(lacking.of(full, begun + MOMENT), None);
        assert!(lacking.without_ports.is_empty(), "nothing is kept of what is over");
    }
}
