//! Remote domains that are not to be had: when they are tried again, and by whom (requirements CLS-07).
//!
//! A failure is remembered for each domain, so that each stanza that waits for it does not knock again. The first pause is
//! random, each further one is longer than the last, and none is longer than it may be. One attempt at a time is made for
//! all who wait: they share what comes of it. After repeated failures the circuit counts as open, which is told.
//!
//! That the DNS failed, or that nobody takes a connection, holds for all who look for the domain. What happens after we have
//! said for whom we speak, in the handshake or in the stream, is held against that pair alone: our own certificate may be
//! the cause. What a server says of a pair or of a key is never remembered.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::measure::part;
use super::now;
use crate::jid::Domain;
use crate::metrics::{Limit, Metrics};
use crate::reason::Reason;
use crate::relay::Behalf;

/// How a domain that is not to be had is treated.
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
    failed: Mutex<HashMap<Domain, Against>>,
    trying: Mutex<HashMap<(Domain, Behalf), watch::Receiver<Outcome>>>,
}

/// What is held against a remote domain: for all, or for one hosted domain as its partner.
type Against = BTreeMap<Option<Domain>, Failed>;

/// A domain is not to be had.
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
    pub async fn enter(
        self: &Arc<Self>,
        domain: &Domain,
        from: &Domain,
        behalf: Behalf,
    ) -> Result<Option<Attempt>, Reason> {
        // A question about a key is not our pair: whether that can stand says nothing about it.
        let from = (behalf != Behalf::Claim).then_some(from);
        let place = (domain.clone(), behalf);
        loop {
            let failed = self.worst(domain, |whose| whose.is_none() || whose.as_ref() == from);
            if let Some(failed) = failed.filter(|failed| failed.until > now()) {
                self.metrics.limited(Limit::Circuit);
                return Err(failed.reason);
            }
            let mut outcome = {
                let mut trying = held(&self.trying);
                match trying.get(&place) {
                    Some(outcome) => outcome.clone(),
                    None => {
                        let (tell, hear) = watch::channel(None);
                        trying.insert(place.clone(), hear);
                        return Ok(Some(Attempt { circuits: Arc::clone(self), place, tell }));
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

    /// What is remembered against this domain as a partner of that hosted domain; none: of any.
    pub fn state(&self, domain: &Domain, from: Option<&Domain>) -> Option<Failed> {
        self.worst(domain, |whose| from.is_none() || whose.is_none() || whose.as_ref() == from)
    }

    /// What keeps it away for the longest time.
    fn worst(&self, domain: &Domain, counts: impl Fn(&Option<Domain>) -> bool) -> Option<Failed> {
        let failed = held(&self.failed);
        let against = failed.get(domain)?.iter().filter(|(whose, _)| counts(whose));
        against.map(|(_, failed)| *failed).max_by_key(|failed| failed.until)
    }

    /// Somebody took a connection there; with a hosted domain, a server that speaks with it.
    pub fn answered(&self, domain: &Domain, from: Option<&Domain>) {
        let mut all = held(&self.failed);
        let Some(against) = all.get_mut(domain) else { return };
        let was_open = against.remove(&from.cloned()).is_some_and(|failed| failed.open);
        let is_open = against.values().any(|failed| failed.open);
        if against.is_empty() {
            all.remove(domain);
        }
        if was_open && !is_open {
            self.metrics.circuits(open(&all));
            tracing::info!(%domain, "a remote server answers again");
        }
    }

    /// It is not to be had: by nobody, or by this hosted domain. Attempts that were under way at one time fail once.
    pub fn failed(&self, domain: &Domain, from: Option<&Domain>, reason: Reason) {
        let now = now();
        let mut all = held(&self.failed);
        if all.len() >= REMEMBERED && !all.contains_key(domain) {
            // Those whose pause is over lose their count first; who is new then is forgotten if there is still no room.
            all.retain(|_, against| against.values().any(|failed| failed.until > now));
            if all.len() >= REMEMBERED {
                return;
            }
        }
        let against = all.entry(domain.clone()).or_default();
        let before = against.get(&from.cloned()).copied();
        if before.is_some_and(|failed| failed.until > now) {
            return;
        }
        let failures = before.map_or(0, |failed| failed.failures).saturating_add(1);
        let until = now + self.pause(failures);
        let is_open = failures >= self.params.failures;
        against.insert(from.cloned(), Failed { failures, reason, until, open: is_open });
        if is_open {
            self.metrics.circuits(open(&all));
        }
        drop(all);
        if is_open && before.is_none_or(|failed| !failed.open) {
            let hosted = from.map_or("all", Domain::as_str);
            tracing::info!(%domain, hosted, failures, reason = reason.label(), "a remote server is given up for a while");
        }
    }

    /// Our certificates and whom we trust were read anew: what single pairs have met with the old ones is over, and they may
    /// try again at once.
    pub fn renewed(&self) {
        let mut all = held(&self.failed);
        all.retain(|_, against| {
            against.retain(|whose, _| whose.is_none());
            !against.is_empty()
        });
        self.metrics.circuits(open(&all));
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
    place: (Domain, Behalf),
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
        held(&self.circuits.trying).remove(&self.place);
    }
}

fn open(failed: &HashMap<Domain, Against>) -> usize {
    failed.values().filter(|against| against.values().any(|failed| failed.open)).count()
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

    fn hall() -> Domain {
        Domain::parse("hall.example").unwrap()
    }

    async fn enter(circuits: &Arc<Circuits>, domain: &Domain) -> Result<Option<Attempt>, Reason> {
        circuits.enter(domain, &hall(), Behalf::Own).await
    }

    /// Fails once the last pause is over; the next pause.
    async fn fail(circuits: &Circuits, domain: &Domain) -> Duration {
        let until = circuits.state(domain, None).map_or(now(), |failed| failed.until);
        tokio::time::advance(until.saturating_duration_since(now())).await;
        circuits.failed(domain, None, Reason::RemoteUnreachable);
        circuits.state(domain, None).unwrap().until - now()
    }

    // CLS-07: "first retry after a random 0–60 s, then growing back-off".
    #[tokio::test(start_paused = true)]
    async fn the_first_pause_is_random_and_the_next_ones_grow_to_their_limit() {
        let mut first = Vec::new();
        for n in 0..20 {
            first.push(fail(&circuits(), &Domain::parse(&format!("d{n}.example")).unwrap()).await);
        }
        assert!(first.iter().all(|pause| *pause > Duration::ZERO && *pause <= Duration::from_secs(60)));
        first.sort();
        first.dedup();
        assert!(first.len() > 10, "{first:?}");
        let circuits = circuits();
        let mut pauses = Vec::new();
        for _ in 0..30 {
            pauses.push(fail(&circuits, &friend()).await);
        }
        for (n, least) in [(1, 60), (2, 120), (3, 240), (4, 300), (29, 300)] {
            let least = Duration::from_secs(least);
            assert!(pauses[n] >= least && pauses[n] <= least * 2, "{n}: {:?}", pauses[n]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_circuit_opens_at_its_number_and_closes_with_the_first_answer() {
        let circuits = circuits();
        for n in 1..=4 {
            fail(&circuits, &friend()).await;
            assert_eq!(circuits.state(&friend(), None).unwrap().open, n >= 3, "{n}");
        }
        let shown = || circuits.metrics.text().unwrap();
        assert!(shown().contains("gatehouse_circuits_open 1"));
        assert_eq!(enter(&circuits, &friend()).await.err(), Some(Reason::RemoteUnreachable));
        assert!(shown().contains("gatehouse_limited_total{limit=\"circuit\"} 1"));
        tokio::time::advance(Duration::from_secs(601)).await;
        assert!(enter(&circuits, &friend()).await.is_ok());
        circuits.answered(&friend(), None);
        assert!(shown().contains("gatehouse_circuits_open 0"));
        assert_eq!(circuits.state(&friend(), None), None, "the next failure is the first");
    }

    // "So that each queued stanza does not start its own attempt": what began together is one failure, not as many as waited.
    #[tokio::test(start_paused = true)]
    async fn attempts_under_way_at_one_time_fail_once() {
        let circuits = circuits();
        for _ in 0..10 {
            circuits.failed(&friend(), Some(&hall()), Reason::TlsFailed);
        }
        let failed = circuits.state(&friend(), Some(&hall())).unwrap();
        assert_eq!((failed.failures, failed.reason, failed.open), (1, Reason::TlsFailed, false));
    }

    // What our own certificate may have caused does not keep another hosted domain from the server, nor keep the server
    // from being asked about a key.
    #[tokio::test(start_paused = true)]
    async fn what_one_pair_meets_is_held_against_that_pair_alone() {
        let (circuits, annex) = (circuits(), Domain::parse("annex.example").unwrap());
        circuits.failed(&friend(), Some(&hall()), Reason::TlsFailed);
        let own = circuits.enter(&friend(), &hall(), Behalf::Own).await;
        assert_eq!(own.err(), Some(Reason::TlsFailed));
        assert_eq!(circuits.enter(&friend(), &hall(), Behalf::Carried).await.err(), Some(Reason::TlsFailed));
        assert!(circuits.enter(&friend(), &annex, Behalf::Own).await.is_ok());
        assert!(circuits.enter(&friend(), &hall(), Behalf::Claim).await.is_ok());
        // That nobody takes a connection is told to all.
        circuits.failed(&friend(), None, Reason::RemoteUnreachable);
        for (from, behalf) in [(&annex, Behalf::Own), (&hall(), Behalf::Claim)] {
            let entered = circuits.enter(&friend(), from, behalf).await;
            assert_eq!(entered.err(), Some(Reason::RemoteUnreachable), "{behalf:?}");
        }
        circuits.answered(&friend(), None);
        assert!(circuits.enter(&friend(), &annex, Behalf::Own).await.is_ok());
        assert!(circuits.enter(&friend(), &hall(), Behalf::Own).await.is_err(), "a connection is no stream");
        circuits.answered(&friend(), Some(&hall()));
        assert!(circuits.enter(&friend(), &hall(), Behalf::Own).await.is_ok());
        assert!(held(&circuits.failed).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn new_certificates_are_tried_at_once_and_no_dead_server_is() {
        let circuits = circuits();
        circuits.failed(&friend(), Some(&hall()), Reason::CertificateUntrusted);
        let cousin = Domain::parse("cousin.example").unwrap();
        circuits.failed(&cousin, None, Reason::RemoteUnreachable);
        circuits.renewed();
        assert!(enter(&circuits, &friend()).await.is_ok());
        assert!(enter(&circuits, &cousin).await.is_err());
    }

    // What strangers ask for may wait for long; who has something to say does not wait behind it.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_attempt_of_another_kind() {
        let circuits = circuits();
        let claim = circuits.enter(&friend(), &hall(), Behalf::Claim).await.unwrap();
        assert!(claim.is_some());
        assert!(circuits.enter(&friend(), &hall(), Behalf::Own).await.unwrap().is_some());
    }

    // "So that each queued stanza does not start its own attempt."
    #[tokio::test(start_paused = true)]
    async fn one_attempt_is_made_for_all_who_wait() {
        for (outcome, others) in [(Ok(()), 9), (Err(Reason::RemoteUnreachable), 0)] {
            let circuits = circuits();
            let attempt = enter(&circuits, &friend()).await.unwrap().unwrap();
            let waiting: Vec<_> = (0..9)
                .map(|_| {
                    let circuits = Arc::clone(&circuits);
                    tokio::spawn(async move { enter(&circuits, &friend()).await.map(|own| own.is_none()) })
                })
                .collect();
            let other = enter(&circuits, &Domain::parse("cousin.example").unwrap()).await;
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
        let attempt = enter(&circuits, &friend()).await.unwrap().unwrap();
        let next = tokio::spawn({
            let circuits = Arc::clone(&circuits);
            async move { enter(&circuits, &friend()).await.map(|own| own.is_some()) }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(attempt);
        assert_eq!(next.await.unwrap(), Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_does_not_grow() {
        let circuits = circuits();
        for n in 0..REMEMBERED + 100 {
            let domain = Domain::parse(&format!("d{n}.example")).unwrap();
            circuits.failed(&domain, None, Reason::RemoteUnreachable);
        }
        assert_eq!(held(&circuits.failed).len(), REMEMBERED);
    }
}
