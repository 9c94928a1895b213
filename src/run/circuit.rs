//! Remote domains where nobody answered lately: when they are tried again, and by whom (requirements CLS-07).
//!
//! A failure is remembered for each domain, so that each stanza that waits for it does not knock again. The first pause is
//! random, each further one is longer than the last, and none is longer than it may be. One attempt at a time is made for
//! all who wait: they share what comes of it. After repeated failures the circuit counts as open, which is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::measure::part;
use super::now;
use crate::jid::Domain;
use crate::metrics::{Limit, Metrics};
use crate::reason::Reason;

/// How a domain that does not answer is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// After so many failures in a row the circuit is open.
    pub failures: u32,
    /// The longest time until the first retry; it is random.
    pub first: Duration,
    /// The longest time until any retry.
    pub longest: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Self { failures: 3, first: Duration::from_secs(60), longest: Duration::from_secs(600) }
    }
}

/// Domains that failed, and attempts under way.
#[derive(Debug)]
pub struct Circuits {
    params: Params,
    metrics: Arc<Metrics>,
    failed: Mutex<HashMap<Domain, Failed>>,
    trying: Mutex<HashMap<Domain, watch::Receiver<Outcome>>>,
}

/// Nobody answered at a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Failures in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub reason: Reason,
    /// It is left alone until then.
    pub until: Instant,
    /// Whether there were so many that the circuit is open.
    pub open: bool,
}

/// What came of an attempt; none as long as it is under way, or when it was given up.
type Outcome = Option<Result<(), Reason>>;

impl Circuits {
    /// Nobody has failed yet.
    pub fn new(params: Params, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { params, metrics, failed: Mutex::default(), trying: Mutex::default() })
    }

    /// Whether this domain may be tried now. Whoever comes first tries for all; the others wait, and go on once it answers.
    ///
    /// # Errors
    /// Why it is left alone, or why the attempt that was waited for failed.
    pub async fn enter(self: &Arc<Self>, domain: &Domain) -> Result<Option<Attempt>, Reason> {
        loop {
            if let Some(failed) = self.state(domain).filter(|failed| failed.until > now()) {
                self.metrics.limited(Limit::Circuit);
                return Err(failed.reason);
            }
            let mut outcome = {
                let mut trying = held(&self.trying);
                match trying.get(domain) {
                    Some(outcome) => outcome.clone(),
                    None => {
                        let (tell, hear) = watch::channel(None);
                        trying.insert(domain.clone(), hear);
                        return Ok(Some(Attempt {
                            circuits: Arc::clone(self),
                            domain: domain.clone(),
                            tell,
                        }));
                    }
                }
            };
            let heard = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| *outcome);
            match heard {
                Some(Ok(())) => return Ok(None),
                Some(Err(reason)) => return Err(reason),
                // Whoever tried went away: the next one tries.
                None => {}
            }
        }
    }

    /// What is remembered against this domain.
    pub fn state(&self, domain: &Domain) -> Option<Failed> {
        held(&self.failed).get(domain).copied()
    }

    /// Somebody answered there.
    pub fn answered(&self, domain: &Domain) {
        let mut failed = held(&self.failed);
        if failed.remove(domain).is_some_and(|failed| failed.open) {
            self.metrics.circuits(open(&failed));
            tracing::info!(%domain, "a remote server answers again");
        }
    }

    /// Nobody answered there.
    pub fn failed(&self, domain: &Domain, reason: Reason) {
        let now = now();
        let mut all = held(&self.failed);
        if all.len() >= REMEMBERED && !all.contains_key(domain) {
            // Those whose pause is over lose their count first; who is new then is forgotten if there is still no room.
            all.retain(|_, failed| failed.until > now);
            if all.len() >= REMEMBERED {
                return;
            }
        }
        let before = all.get(domain).copied();
        let failures = before.map_or(0, |failed| failed.failures).saturating_add(1);
        let until = now + self.pause(failures);
        let is_open = failures >= self.params.failures;
        all.insert(domain.clone(), Failed { failures, reason, until, open: is_open });
        if is_open {
            self.metrics.circuits(open(&all));
        }
        drop(all);
        if is_open && before.is_none_or(|failed| !failed.open) {
            tracing::info!(%domain, failures, reason = reason.label(), "a remote server is given up for a while");
        }
    }

    /// A random time first, then twice as long each time, of which the last half is random: many who lost the same server
    /// must not come back to it together.
    fn pause(&self, failures: u32) -> Duration {
        let Params { first, longest, .. } = self.params;
        if failures <= 1 {
            return first / 8 + part(first - first / 8);
        }
        let whole = first.saturating_mul(1 << (failures - 1).min(20)).min(longest.max(first));
        whole / 2 + part(whole / 2)
    }
}

/// An attempt that is made for all who wait; dropped without a word, it is the next one's turn.
#[derive(Debug)]
pub struct Attempt {
    circuits: Arc<Circuits>,
    domain: Domain,
    tell: watch::Sender<Outcome>,
}

impl Attempt {
    /// Tells all who wait.
    pub fn end(self, outcome: Result<(), Reason>) {
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        held(&self.circuits.trying).remove(&self.domain);
    }
}

fn open(failed: &HashMap<Domain, Failed>) -> usize {
    failed.values().filter(|failed| failed.open).count()
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Domains that are remembered.
const REMEMBERED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn circuits() -> Arc<Circuits> {
        Circuits::new(Params::default(), Arc::new(Metrics::new([]).unwrap()))
    }

    fn friend() -> Domain {
        Domain::parse("friend.example").unwrap()
    }

    fn fail(circuits: &Circuits, domain: &Domain) -> Duration {
        circuits.failed(domain, Reason::RemoteUnreachable);
        circuits.state(domain).unwrap().until - now()
    }

    // CLS-07: "first retry after a random 0–60 s, then growing back-off".
    #[tokio::test(start_paused = true)]
    async fn the_first_pause_is_random_and_the_next_ones_grow_to_their_limit() {
        let mut first = Vec::new();
        for n in 0..20 {
            first.push(fail(&circuits(), &Domain::parse(&format!("d{n}.example")).unwrap()));
        }
        assert!(first.iter().all(|pause| *pause > Duration::ZERO && *pause <= Duration::from_secs(60)));
        first.sort();
        first.dedup();
        assert!(first.len() > 10, "{first:?}");
        let circuits = circuits();
        let pauses: Vec<_> = (0..30).map(|_| fail(&circuits, &friend())).collect();
        for (n, least) in [(1, 60), (2, 120), (3, 240), (4, 300), (29, 300)] {
            let least = Duration::from_secs(least);
            assert!(pauses[n] >= least && pauses[n] <= least * 2, "{n}: {:?}", pauses[n]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_circuit_opens_at_its_number_and_closes_with_the_first_answer() {
        let circuits = circuits();
        for n in 1..=4 {
            fail(&circuits, &friend());
            assert_eq!(circuits.state(&friend()).unwrap().open, n >= 3, "{n}");
        }
        let shown = || circuits.metrics.text().unwrap();
        assert!(shown().contains("gatehouse_circuits_open 1"));
        assert_eq!(circuits.enter(&friend()).await.err(), Some(Reason::RemoteUnreachable));
        assert!(shown().contains("gatehouse_limited_total{limit=\"circuit\"} 1"));
        tokio::time::advance(Duration::from_secs(601)).await;
        assert!(circuits.enter(&friend()).await.is_ok());
        circuits.answered(&friend());
        assert!(shown().contains("gatehouse_circuits_open 0"));
        assert_eq!(circuits.state(&friend()), None, "the next failure is the first");
    }

    // "So that each queued stanza does not start its own attempt."
    #[tokio::test(start_paused = true)]
    async fn one_attempt_is_made_for_all_who_wait() {
        for (outcome, others) in [(Ok(()), 9), (Err(Reason::RemoteUnreachable), 0)] {
            let circuits = circuits();
            let attempt = circuits.enter(&friend()).await.unwrap().unwrap();
            let waiting: Vec<_> = (0..9)
                .map(|_| {
                    let circuits = Arc::clone(&circuits);
                    tokio::spawn(async move { circuits.enter(&friend()).await.map(|own| own.is_none()) })
                })
                .collect();
            let other = circuits.enter(&Domain::parse("cousin.example").unwrap()).await;
            assert!(other.unwrap().is_some(), "another domain waits for nobody");
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(waiting.iter().all(|task| !task.is_finished()));
            attempt.end(outcome);
            let mut gone_on = 0;
            for task in waiting {
                gone_on += usize::from(task.await.unwrap() == Ok(true));
            }
            assert_eq!(gone_on, others);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_given_up_is_the_next_ones() {
        let circuits = circuits();
        let attempt = circuits.enter(&friend()).await.unwrap().unwrap();
        let next = tokio::spawn({
            let circuits = Arc::clone(&circuits);
            async move { circuits.enter(&friend()).await.map(|own| own.is_some()) }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(attempt);
        assert_eq!(next.await.unwrap(), Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_does_not_grow() {
        let circuits = circuits();
        for n in 0..REMEMBERED + 100 {
            circuits.failed(&Domain::parse(&format!("d{n}.example")).unwrap(), Reason::RemoteUnreachable);
        }
        assert_eq!(held(&circuits.failed).len(), REMEMBERED);
    }
}
