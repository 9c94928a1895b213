//! The last refusals, at hand: who, what, which rule or limit, and what to do. A ring of bounded length, in memory.
//!
//! One cause that comes again and again is one entry with a count, so that it does not push out all others. It holds what
//! a log line may hold (LOG-02, LOG-03): addresses, domains and causes, no body and no key.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Something that was refused. Words of peers in it are escaped and capped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalRecord {
    /// Its number; the newest has the highest.
    pub n: u64,
    /// When it happened last, RFC 3339.
    pub time: String,
    /// How often it happened, one time close upon the other.
    pub times: u64,
    /// What was refused: `connection`, `stream`, `pair`, `stanza` or `login`.
    pub what: String,
    /// `c2s`, `s2s-in` or `s2s-out`; the listener where no stream had begun.
    pub flow: String,
    /// The domain that spoke, or would have.
    pub from: Option<String>,
    /// The domain that was spoken to.
    pub to: Option<String>,
    /// The address of the other side, the one called where we called.
    pub peer: Option<String>,
    /// The reason's label.
    pub reason: String,
    /// The reason in words.
    pub words: String,
    /// What it was in particular, as a label.
    pub cause: Option<String>,
    /// The same in words, with particulars.
    pub detail: Option<String>,
    /// The rule that decided; `default` for none.
    pub rule: Option<String>,
    /// Where that rule stands.
    pub place: Option<String>,
    /// The rule that looks most like the domain, where none names it.
    pub nearest: Option<String>,
    /// The key of the configuration that sets the limit, where it was one.
    pub limit: Option<String>,
    /// What to do.
    pub remedy: String,
    /// The stream, as in logs and records.
    pub stream: Option<String>,
}

impl RefusalRecord {
    /// Whether the domain takes part in it.
    pub fn concerns(&self, domain: &str) -> bool {
        [&self.from, &self.to].into_iter().flatten().any(|name| name == domain)
    }

    /// Whether it is the same once more: only the connection differs.
    fn is_like(&self, other: &Self) -> bool {
        let host = |peer: &Option<String>| {
            peer.as_deref().map(|peer| peer.rsplit_once(':').map_or(peer, |(host, _)| host).to_owned())
        };
        (&self.what, &self.flow, &self.reason, &self.detail)
            == (&other.what, &other.flow, &other.reason, &other.detail)
            && (&self.from, &self.to, &self.rule) == (&other.from, &other.to, &other.rule)
            && host(&self.peer) == host(&other.peer)
    }
}

/// Which refusals are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RefusalQuery {
    /// Those in which this domain takes part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Those with this reason or cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// At most so many, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<usize>,
    /// Those after this number.
    #[serde(default)]
    pub after: u64,
}

impl RefusalQuery {
    fn admits(&self, refusal: &RefusalRecord) -> bool {
        refusal.n > self.after
            && self.domain.as_deref().is_none_or(|domain| refusal.concerns(domain))
            && self
                .reason
                .as_deref()
                .is_none_or(|word| refusal.reason == word || refusal.cause.as_deref() == Some(word))
    }
}

/// The last refusals.
#[derive(Debug)]
pub struct Refusals {
    most: AtomicUsize,
    held: Mutex<(u64, VecDeque<RefusalRecord>)>,
}

impl Refusals {
    /// So many at most.
    pub fn new(most: usize) -> Self {
        Self { most: AtomicUsize::new(most), held: Mutex::default() }
    }

    /// Keeps so many from now on.
    pub fn keep(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// One more.
    pub fn add(&self, mut refusal: RefusalRecord) {
        let mut held = self.held();
        let (n, ring) = &mut *held;
        *n += 1;
        refusal.n = *n;
        refusal.times = 1;
        let same = (ring.len().saturating_sub(NEAR)..ring.len())
            .find(|at| ring.get(*at).is_some_and(|r| r.is_like(&refusal)));
        if let Some(same) = same.and_then(|at| ring.remove(at)) {
            refusal.times = same.times.saturating_add(1);
        }
        ring.push_back(refusal);
        while ring.len() > self.most.load(Ordering::Relaxed) {
            ring.pop_front();
        }
    }

    /// Those that are wanted, the oldest first.
    pub fn list(&self, wanted: &RefusalQuery) -> Vec<RefusalRecord> {
        let held = self.held();
        let most = wanted.last.unwrap_or(usize::MAX);
        let mut found: Vec<RefusalRecord> =
            held.1.iter().rev().filter(|refusal| wanted.admits(refusal)).take(most).cloned().collect();
        found.reverse();
        found
    }

    fn held(&self) -> MutexGuard<'_, (u64, VecDeque<RefusalRecord>)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self::new(KEPT)
    }
}

/// How many are kept where nothing else is said.
const KEPT: usize = 1000;

/// Among how many of the last one that is alike is looked for.
const NEAR: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(from: &str, reason: &str, peer: &str) -> RefusalRecord {
        RefusalRecord {
            from: Some(from.to_owned()),
            to: Some("hall.example".to_owned()),
            reason: reason.to_owned(),
            peer: Some(peer.to_owned()),
            ..RefusalRecord::default()
        }
    }

    #[test]
    fn the_same_over_and_over_is_one_entry_and_pushes_nothing_out() {
        let ring = Refusals::new(3);
        ring.add(refusal("a.example", "not-listed", "192.0.2.1:1000"));
        for port in 0..100 {
            ring.add(refusal("b.example", "not-listed", &format!("192.0.2.2:{port}")));
        }
        let all = ring.list(&RefusalQuery::default());
        assert_eq!(all.iter().map(|r| r.times).collect::<Vec<_>>(), [1, 100]);
        assert_eq!(all[1].n, 101, "whoever follows hears of each");
        for n in 0..5 {
            ring.add(refusal(&format!("{n}.example"), "blocked", "192.0.2.3:1"));
        }
        let all = ring.list(&RefusalQuery::default());
        assert_eq!(
            all.iter().filter_map(|r| r.from.as_deref()).collect::<Vec<_>>(),
            ["2.example", "3.example", "4.example"]
        );
    }

    #[test]
    fn what_is_wanted_is_told_by_domain_reason_cause_number_and_count() {
        let ring = Refusals::default();
        for n in 0..4 {
            ring.add(refusal(&format!("{n}.example"), "not-listed", "192.0.2.1:1"));
        }
        let expired = RefusalRecord {
            cause: Some("expired".to_owned()),
            ..refusal("x.example", "certificate-untrusted", "192.0.2.1:1")
        };
        ring.add(expired);
        let count = |wanted: RefusalQuery| ring.list(&wanted).len();
        assert_eq!(
            count(RefusalQuery { domain: Some("2.example".to_owned()), ..RefusalQuery::default() }),
            1
        );
        assert_eq!(
            count(RefusalQuery { domain: Some("hall.example".to_owned()), ..RefusalQuery::default() }),
            5
        );
        assert_eq!(count(RefusalQuery { reason: Some("expired".to_owned()), ..RefusalQuery::default() }), 1);
        assert_eq!(
            count(RefusalQuery { reason: Some("not-listed".to_owned()), ..RefusalQuery::default() }),
            4
        );
        assert_eq!(count(RefusalQuery { after: 3, ..RefusalQuery::default() }), 2);
        let last = ring.list(&RefusalQuery { last: Some(2), ..RefusalQuery::default() });
        assert_eq!(last.iter().map(|r| r.n).collect::<Vec<_>>(), [4, 5]);
        assert!(Refusals::new(0).list(&RefusalQuery::default()).is_empty());
    }
}
