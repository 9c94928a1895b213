//! How the backends are: one truth for the gauge, the log, `/readyz`, the status page and whoever asks.
//!
//! It is filled by active checks only ([`super::checkup`], `gateway/doctor`). What others meet behind a backend says nothing
//! of it; a relay that finds one missing has it looked at again, and that is all.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::checkup::{Ailment, CheckResult};
use crate::jid::Domain;
use crate::reason::Flow;

/// A backend, seen from one side.
pub type BackendSide = (Domain, Flow);

/// How one side of a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether it counts as up.
    pub up: bool,
    /// Since when it is as it is.
    pub since: jiff::Timestamp,
    /// When it was looked at last.
    pub checked: jiff::Timestamp,
    /// Checks in a row that found no address well.
    pub failures: u32,
    /// What was seen at each address, in the order of the configuration.
    pub seen: Vec<CheckResult>,
}

/// What a check has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// It was not up, or not known to be.
    Up,
    /// It was up, or not known, and now it is not.
    Down,
    /// It is down for another reason than before.
    Otherwise,
    /// It is up as before, and offers TLS, or at another address than before.
    Remarked,
    /// Nothing that is to be told.
    None,
}

/// All backends that are checked.
#[derive(Debug, Default)]
pub struct Health {
    states: Mutex<BTreeMap<BackendSide, Option<State>>>,
    hint: Notify,
}

impl Health {
    /// These are checked from now on, and no others.
    pub fn follow(&self, sides: &[BackendSide]) {
        let mut states = self.held();
        states.retain(|side, _| sides.contains(side));
        for side in sides {
            states.entry(side.clone()).or_default();
        }
    }

    /// What is known of this side is of another address than it has now.
    pub fn forget(&self, side: &BackendSide) {
        if let Some(state) = self.held().get_mut(side) {
            *state = None;
        }
    }

    /// Whether this side is checked.
    pub fn is_checked(&self, side: &BackendSide) -> bool {
        self.held().contains_key(side)
    }

    /// What a check has seen. Up is up at once; down is what failed so often in a row, or was never up.
    pub fn note(&self, side: &BackendSide, seen: Vec<CheckResult>, threshold: u32) -> HealthChange {
        let mut states = self.held();
        let Some(entry) = states.get_mut(side) else { return HealthChange::None };
        let now = jiff::Timestamp::now();
        let well = seen.iter().any(|seen| seen.ailment.is_none());
        if !well && seen.iter().any(|seen| seen.ailment == Some(Ailment::NotAsked)) {
            // Nothing was learnt of it.
            return HealthChange::None;
        }
        let before = entry.as_ref();
        let failures = if well { 0 } else { before.map_or(0, |state| state.failures).saturating_add(1) };
        let was = before.map(|state| state.up);
        let up = well || (was == Some(true) && failures < threshold);
        let ailments = |seen: &[CheckResult]| seen.iter().map(|seen| seen.ailment).collect::<Vec<_>>();
        let other = before.is_some_and(|state| ailments(&state.seen) != ailments(&seen));
        let offers = |seen: &[CheckResult]| {
            seen.iter().filter(|seen| seen.offers_tls).map(|seen| seen.address).collect::<Vec<_>>()
        };
        let offering = well
            && !offers(&seen).is_empty()
            && before.is_some_and(|state| offers(&state.seen) != offers(&seen));
        let change = match (was, up) {
            (Some(false) | None, true) => HealthChange::Up,
            (Some(true) | None, false) => HealthChange::Down,
            (Some(false), false) if other => HealthChange::Otherwise,
            (Some(true), true) if offering => HealthChange::Remarked,
            _ => HealthChange::None,
        };
        let since = before.filter(|state| state.up == up).map_or(now, |state| state.since);
        *entry = Some(State { up, since, checked: now, failures, seen });
        change
    }

    /// A relay found this side missing, or there again although it counts as missing: it is to be looked at again.
    pub fn doubt(&self, side: &BackendSide, up: bool) {
        let differs =
            self.held().get(side).is_some_and(|state| state.as_ref().is_none_or(|state| state.up != up));
        if differs {
            self.hint.notify_one();
        }
    }

    /// Waits until somebody doubts.
    pub async fn doubted(&self) {
        self.hint.notified().await;
    }

    /// How all are; none: not looked at yet.
    pub fn states(&self) -> Vec<(BackendSide, Option<State>)> {
        self.held().iter().map(|(side, state)| (side.clone(), state.clone())).collect()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<BackendSide, Option<State>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ailment: Option<Ailment>) -> Vec<CheckResult> {
        vec![CheckResult {
            address: "192.0.2.1:5269".parse().unwrap(),
            ailment,
            words: String::new(),
            server: None,
            offers_tls: false,
        }]
    }

    #[test]
    fn one_failure_of_a_backend_that_was_up_is_none_and_what_never_was_up_is_down_at_once() {
        let health = Health::default();
        let side = (Domain::parse("hall.example").unwrap(), Flow::S2sIn);
        assert_eq!(health.note(&side, seen(None), 2), HealthChange::None, "not followed");
        health.follow(std::slice::from_ref(&side));
        assert_eq!(health.note(&side, seen(Some(Ailment::NotReached)), 2), HealthChange::Down);
        assert_eq!(health.note(&side, seen(Some(Ailment::NotReached)), 2), HealthChange::None);
        assert_eq!(health.note(&side, seen(Some(Ailment::Silent)), 2), HealthChange::Otherwise);
        assert_eq!(health.note(&side, seen(None), 2), HealthChange::Up);
        assert_eq!(health.note(&side, seen(Some(Ailment::NotReached)), 2), HealthChange::None);
        assert!(health.states()[0].1.as_ref().unwrap().up);
        assert_eq!(health.note(&side, seen(Some(Ailment::NotReached)), 2), HealthChange::Down);
        assert_eq!(health.note(&side, seen(None), 2), HealthChange::Up);
        // This machine could not ask: that says nothing, of one that is up or of one that is down.
        for state in [None, Some(Ailment::NotReached)] {
            let now_up = state.is_none();
            for _ in 0..2 {
                health.note(&side, seen(state), 2);
            }
            for _ in 0..3 {
                assert_eq!(health.note(&side, seen(Some(Ailment::NotAsked)), 2), HealthChange::None);
                assert_eq!(health.states()[0].1.as_ref().unwrap().up, now_up);
            }
        }
        let mixed = [seen(Some(Ailment::NotAsked)), seen(None)].concat();
        assert_eq!(health.note(&side, mixed, 2), HealthChange::Up, "another address answers");
        // TLS was switched on there: told once.
        let offering = || vec![CheckResult { offers_tls: true, ..seen(None).remove(0) }];
        assert_eq!(health.note(&side, offering(), 2), HealthChange::Remarked);
        assert_eq!(health.note(&side, offering(), 2), HealthChange::None);
        assert_eq!(health.note(&side, seen(None), 2), HealthChange::None);
        health.follow(&[]);
        assert!(health.states().is_empty() && !health.is_checked(&side));
    }

    // The trouble of others behind the backend changes nothing by itself.
    #[tokio::test]
    async fn whoever_doubts_only_has_it_looked_at() {
        let health = Health::default();
        let side = (Domain::parse("hall.example").unwrap(), Flow::S2sIn);
        health.follow(std::slice::from_ref(&side));
        health.note(&side, seen(None), 2);
        health.doubt(&side, true);
        health.doubt(&side, false);
        health.doubted().await;
        assert!(health.states()[0].1.as_ref().unwrap().up);
    }
}
