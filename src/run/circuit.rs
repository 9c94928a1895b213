//! Remote domains that are not to be had: when they are tried again, and by whom (requirements CLS-07, LIM-06).
//!
//! A failure is remembered for each domain, so that each stanza that waits for it does not knock again. It is no wall of
//! time: whoever has something for the domain may try again after a short while ([`Params::spacing`]), one attempt at a time
//! for all who wait, and they share what comes of it. Only what nothing but time suggests (what the gateway carries on its
//! own) waits longer, at random first and then longer each time. A sign of life, a stream that the domain has proven or a
//! connection that it took from somebody else, is a reason to try at once, once. After repeated failures the circuit counts
//! as open, which is told; an operator can see all of it ([`Circuits::snapshot`]) and forget it ([`Circuits::clear`]).
//!
//! That the DNS failed, or that nobody takes a connection, holds for all who look for the domain. What happens after we have
//! said for whom we speak, in the handshake or in the stream, is held against that pair alone: our own certificate may be
//! the cause. What a server says of a pair or of a key is never remembered. Questions about keys, which anybody can cause,
//! keep a memory of their own that nobody else reads.
//!
//! A hosted domain that calls from an address of its own, or whose rule names a proxy, is apart: what comes of its calls says nothing of
//! those of others, nor theirs of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{now, part};
use crate::jid::Domain;
use crate::metrics::{CircuitState, Limit, Metrics};
use crate::reason::{Class, Reason};
use crate::relay::Behalf;

/// How a domain that is not to be had is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// After so many failures in a row the circuit is open.
    pub failures: u32,
    /// The least time between two attempts for those who have something for the domain.
    pub spacing: Duration,
    /// The longest time until the first attempt that nothing but time suggests; it is random.
    pub first: Duration,
    /// The longest time until any such attempt.
    pub longest: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            failures: 3,
            spacing: Duration::from_secs(1),
            first: Duration::from_secs(60),
            longest: Duration::from_secs(600),
        }
    }
}

/// Domains that failed, and attempts under way.
#[derive(Debug)]
pub struct Circuits {
    params: Params,
    metrics: Arc<Metrics>,
    /// Taken before `failed` where both are.
    trying: Mutex<HashMap<Place, watch::Receiver<Outcome>>>,
    failed: Mutex<HashMap<Domain, Against>>,
    /// Domains that could not be asked about a key, and until when they are not asked again.
    claims: Mutex<HashMap<Domain, Instant>>,
}

/// An attempt: whom, for which hosted domain if that is apart, and on whose behalf.
type Place = (Domain, Option<Domain>, Behalf);

/// What is held against a remote domain: for all, or for one hosted domain as its partner.
type Against = BTreeMap<Option<Domain>, Failed>;

/// A domain is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Failures in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub reason: Reason,
    /// When the first of them was.
    pub since: Instant,
    /// Whether there were so many that the circuit is open.
    pub open: bool,
    /// How often nothing was tried because of it.
    pub untried: u64,
    /// Who has something for it may try from then on.
    pub next: Instant,
    /// What nothing but time suggests waits until then.
    pub until: Instant,
    /// An attempt has been allowed since the last failure.
    granted: bool,
    /// When it was last told that nothing was tried.
    told: Option<Instant>,
}

impl Failed {
    fn allows(&self, behalf: Behalf, now: Instant) -> bool {
        match behalf {
            Behalf::Carried => self.next.max(self.until) <= now,
            Behalf::Claim | Behalf::Own => self.next <= now,
        }
    }
}

/// What is remembered against a remote domain, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// The remote domain.
    pub domain: Domain,
    /// The hosted domain as whose partner it is not to be had; none: nobody's.
    pub hosted: Option<Domain>,
    /// What is remembered.
    pub failed: Failed,
}

/// What came of an attempt; none as long as it is under way, or when it was given up.
type Outcome = Option<Result<(), Reason>>;

impl Circuits {
    /// Nobody has failed yet.
    pub fn new(params: Params, metrics: Arc<Metrics>) -> Arc<Self> {
        let (trying, failed, claims) = Default::default();
        Arc::new(Self { params, metrics, trying, failed, claims })
    }

    /// Whether this domain may be tried now. Whoever comes first tries for all; the others wait, and go on once it answers.
    /// A question about a key is never refused: it waits until the domain may be asked again.
    ///
    /// # Errors
    /// Why it is left alone, or why the attempt that was waited for failed.
    pub async fn enter(
        self: &Arc<Self>,
        domain: &Domain,
        from: &Domain,
        behalf: Behalf,
    ) -> Result<Option<Attempt>, Reason> {
        self.begin((domain.clone(), None, behalf), from).await
    }

    /// The same for a hosted domain that has a way of its own.
    ///
    /// # Errors
    /// The same.
    pub async fn enter_apart(
        self: &Arc<Self>,
        domain: &Domain,
        from: &Domain,
        behalf: Behalf,
    ) -> Result<Option<Attempt>, Reason> {
        self.begin((domain.clone(), Some(from.clone()), behalf), from).await
    }

    async fn begin(self: &Arc<Self>, place: Place, from: &Domain) -> Result<Option<Attempt>, Reason> {
        let (domain, apart, behalf) = (&place.0, place.1.is_some(), place.2);
        loop {
            if behalf == Behalf::Claim {
                let until = held(&self.claims).get(domain).copied();
                if let Some(until) = until.filter(|until| *until > now()) {
                    tokio::time::sleep_until(until.into()).await;
                }
            }
            let mut outcome = {
                let mut trying = held(&self.trying);
                match trying.get(&place) {
                    Some(outcome) => outcome.clone(),
                    None => {
                        if behalf != Behalf::Claim {
                            self.grant(domain, (from, apart), behalf)?;
                        }
                        let (tx, hear) = watch::channel(None);
                        trying.insert(place.clone(), hear);
                        return Ok(Some(Attempt { circuits: Arc::clone(self), place, tx }));
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

    /// One attempt is allowed, if all that is held against the domain as this partner allows it.
    fn grant(&self, domain: &Domain, (from, apart): (&Domain, bool), behalf: Behalf) -> Result<(), Reason> {
        let now = now();
        let counts = |whose: &Option<Domain>, failed: &Failed| match whose {
            Some(whose) => whose == from,
            // What the DNS says is the same on every way.
            None => !apart || failed.reason == Reason::DnsFailed,
        };
        self.change(domain, |against| {
            let mut against: Vec<_> =
                against.iter_mut().filter(|(whose, failed)| counts(whose, failed)).collect();
            let refusal = against.iter_mut().find(|(_, failed)| !failed.allows(behalf, now));
            if let Some((_, failed)) = refusal {
                failed.untried = failed.untried.saturating_add(1);
                self.metrics.limited(Limit::Circuit);
                if failed.told.is_none_or(|told| told + TELL <= now) {
                    failed.told = Some(now);
                    let (reason, untried) = (failed.reason.label(), failed.untried);
                    let since = now.saturating_duration_since(failed.since).as_secs();
                    let next = failed.next.saturating_duration_since(now);
                    tracing::info!(%domain, hosted = %from, reason, since, untried, ?next, "not tried: the domain did not answer lately");
                }
                return Err(failed.reason);
            }
            for (_, failed) in against {
                failed.granted = true;
                failed.next = now + self.params.spacing;
            }
            Ok(())
        })
    }

    /// What is remembered against this domain as a partner of that hosted domain; none: of any.
    pub fn state(&self, domain: &Domain, from: Option<&Domain>) -> Option<Failed> {
        let failed = held(&self.failed);
        let counts = |whose: &Option<Domain>| from.is_none() || whose.is_none() || whose.as_ref() == from;
        let against = failed.get(domain)?.iter().filter(|(whose, _)| counts(whose));
        against.map(|(_, failed)| *failed).max_by_key(|failed| (failed.open, failed.next))
    }

    /// All that is remembered, in the order of the domains.
    pub fn snapshot(&self) -> Vec<Circuit> {
        let failed = held(&self.failed);
        let mut all: Vec<Circuit> = failed
            .iter()
            .flat_map(|(domain, against)| {
                against.iter().map(|(hosted, failed)| Circuit {
                    domain: domain.clone(),
                    hosted: hosted.clone(),
                    failed: *failed,
                })
            })
            .collect();
        drop(failed);
        all.sort_by(|a, b| (&a.domain, &a.hosted).cmp(&(&b.domain, &b.hosted)));
        all
    }

    /// Forgets what is held against this domain; whether anything was.
    pub fn clear(&self, domain: &Domain) -> bool {
        held(&self.claims).remove(domain);
        self.change(domain, |against| {
            let any = !against.is_empty();
            against.clear();
            any
        })
    }

    /// Somebody took a connection there; with a hosted domain, a server that speaks with it.
    pub fn answered(&self, domain: &Domain, from: Option<&Domain>) {
        held(&self.claims).remove(domain);
        let closed = self.change(domain, |against| {
            let was_open = against.remove(&from.cloned()).is_some_and(|failed| failed.open);
            was_open && !against.values().any(|failed| failed.open)
        });
        if closed {
            tracing::info!(%domain, "a remote server answers again");
        }
    }

    /// The domain took a connection on the way that this hosted domain alone has. What is held against that pair for what came after
    /// one stays.
    pub fn reached(&self, domain: &Domain, from: &Domain) {
        held(&self.claims).remove(domain);
        let whose = Some(from.clone());
        self.change(domain, |against| {
            if against.get(&whose).is_some_and(|failed| failed.reason.is(Class::Unreached)) {
                against.remove(&whose);
            }
        });
    }

    /// The domain has shown itself: it has proven a stream, or took a connection for somebody else's sake. That is a reason
    /// to try at once, once.
    pub fn alive(&self, domain: &Domain) {
        let now = now();
        self.change(domain, |against| {
            for failed in against.values_mut() {
                failed.next = failed.next.min(now);
                failed.until = failed.until.min(now);
            }
        });
    }

    /// It is not to be had: by nobody, or by this hosted domain. Attempts that were under way at one time fail once.
    pub fn failed(&self, domain: &Domain, from: Option<&Domain>, reason: Reason) {
        let now = now();
        {
            let mut all = held(&self.failed);
            if all.len() >= REMEMBERED && !all.contains_key(domain) {
                // Those that may be tried lose their count first; who is new then is forgotten if there is still no room.
                let (mut gone, all) = (Vec::new(), &mut *all);
                all.retain(|_, against| {
                    let stays = against.values().any(|failed| failed.until > now);
                    gone.extend(state(against).filter(|_| !stays));
                    stays
                });
                gone.into_iter().for_each(|state| self.metrics.circuit(Some(state), None));
                if all.len() >= REMEMBERED {
                    return;
                }
            }
        }
        let opened = self.change(domain, |against| {
            let before = against.get(&from.cloned()).copied();
            if before.is_some_and(|failed| !failed.granted) {
                return None;
            }
            let failures = before.map_or(0, |failed| failed.failures).saturating_add(1);
            let open = failures >= self.params.failures;
            let failed = Failed {
                failures,
                reason,
                since: before.map_or(now, |failed| failed.since),
                open,
                untried: before.map_or(0, |failed| failed.untried),
                // An attempt that was long on its way need not be followed by a pause.
                next: before.map_or(now + self.params.spacing, |failed| failed.next),
                until: now + self.pause(failures),
                granted: false,
                told: before.and_then(|failed| failed.told),
            };
            against.insert(from.cloned(), failed);
            (open && before.is_none_or(|failed| !failed.open)).then_some(failures)
        });
        if let Some(failures) = opened {
            let hosted = from.map_or("all", Domain::as_str);
            tracing::info!(%domain, hosted, failures, reason = reason.label(), "a remote server is given up for a while");
        }
    }

    /// It could not be asked about a key: others who would ask wait for a moment. Nothing else comes of it, since anybody
    /// can bring us to ask (LIM-06).
    pub fn failed_claim(&self, domain: &Domain) {
        let now = now();
        let mut claims = held(&self.claims);
        if claims.len() >= REMEMBERED && !claims.contains_key(domain) {
            claims.retain(|_, until| *until > now);
            if claims.len() >= REMEMBERED {
                return;
            }
        }
        claims.insert(domain.clone(), now + self.params.spacing);
    }

    /// Our certificates and whom we trust were read anew: what single pairs have met with the old ones is over, and they may
    /// try again at once.
    pub fn renewed(&self) {
        let domains: Vec<Domain> = held(&self.failed).keys().cloned().collect();
        for domain in domains {
            self.change(&domain, |against| against.retain(|whose, _| whose.is_none()));
        }
    }

    /// Changes what is held against a domain, and tells the metrics.
    fn change<T>(&self, domain: &Domain, change: impl FnOnce(&mut Against) -> T) -> T {
        let mut all = held(&self.failed);
        let Some(against) = all.get_mut(domain) else {
            let mut against = Against::new();
            let outcome = change(&mut against);
            if !against.is_empty() {
                self.metrics.circuit(None, state(&against));
                all.insert(domain.clone(), against);
            }
            return outcome;
        };
        let before = state(against);
        let outcome = change(against);
        self.metrics.circuit(before, state(against));
        if against.is_empty() {
            all.remove(domain);
        }
        outcome
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

impl Drop for Circuits {
    /// A reload may put others in its place: what it has counted goes with it.
    fn drop(&mut self) {
        let failed = self.failed.get_mut().unwrap_or_else(PoisonError::into_inner);
        failed.values().for_each(|against| self.metrics.circuit(state(against), None));
    }
}

/// An attempt that is made for all who wait; dropped without a word, it is the next one's turn.
#[derive(Debug)]
pub struct Attempt {
    circuits: Arc<Circuits>,
    place: Place,
    tx: watch::Sender<Outcome>,
}

impl Attempt {
    /// Tells all who wait.
    pub fn end(self, outcome: Result<(), Reason>) {
        self.tx.send_replace(Some(outcome));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.tx.borrow().is_none() {
            let given_up = |against: &mut Against| against.values_mut().for_each(|f| f.granted = false);
            self.circuits.change(&self.place.0, given_up);
        }
        held(&self.circuits.trying).remove(&self.place);
    }
}

/// How a domain stands.
fn state(against: &Against) -> Option<CircuitState> {
    let open = against.values().filter(|failed| failed.open);
    let (open, tried) = open.fold((false, false), |(_, tried), failed| (true, tried | failed.granted));
    match (against.is_empty(), open, tried) {
        (true, ..) => None,
        (_, false, _) => Some(CircuitState::Failing),
        (_, true, true) => Some(CircuitState::HalfOpen),
        (_, true, false) => Some(CircuitState::Open),
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Domains that are remembered.
const REMEMBERED: usize = 10_000;

/// It is told once in so long that a domain is not tried.
const TELL: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "circuit_tests.rs"]
mod tests;
