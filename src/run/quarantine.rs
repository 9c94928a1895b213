//! Who is in quarantine, what each has sent, and what was decided: one entry for each registrable domain that has proven itself.
//!
//! Policy says by what bounds somebody is in quarantine; here is counted what passed (`window`). A quiet day is one (UTC) on which something came and nothing was refused for its rate. All of it outlives a
//! restart where there is a folder, and is joined with what other nodes know where there is a store (`shared`).
//!
//! The table has an end. Who finds no room in it may send nothing: a flood of new domains must not be a way around the bounds.

mod shared;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use serde::{Deserialize, Serialize};

pub use self::shared::Exchanged;
use self::window::Passed;
use crate::jid::Domain;
use crate::policy::{Counted, Federate, Identity, Permit, Policy, Question, SettledParties, ShownKey, Tls};
use crate::reason::{Direction, Reason};
use crate::relay::HeldStanza;

/// What somebody has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// It is treated as if the rule allowed it.
    Approved,
    /// It is in quarantine again, or still.
    Held,
    /// It is kept out.
    Refused,
}

impl Disposition {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Disposition] = &[Self::Approved, Self::Held, Self::Refused];

    /// The metric label, and the word in answers: who is held waits.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Held => "waiting",
            Self::Refused => "refused",
        }
    }
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DispositionRecord {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What.
    pub word: Disposition,
    /// The user who has said so; none: quiet days have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// One registrable domain. What an earlier or a later version says beside is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Party {
    /// When it was seen first, in milliseconds since 1970.
    pub since: i64,
    /// When it was seen last.
    pub last: i64,
    /// The rule by which it is there.
    pub rule: String,
    /// What has passed, by what it counts as.
    #[serde(default)]
    passed: [Passed; Counted::ALL.len()],
    /// The days, since 1970, on which something came and nothing was refused, after the last on which something was.
    #[serde(default)]
    days: BTreeSet<i64>,
    /// The last day on which something was refused for its rate.
    #[serde(default)]
    loud: i64,
    /// Stanzas that were refused for their rate.
    #[serde(default)]
    pub refused: u64,
    /// After so many quiet days it is approved by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_days: Option<u32>,
    /// Its domains that were seen, for other rules may be for other ones: none of them is let out before the strictest says so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) names: BTreeSet<Box<str>>,
    /// What was decided last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DispositionRecord>,
}

impl Party {
    fn new(now: i64) -> Self {
        Self { since: now, last: now, ..Self::default() }
    }

    /// How it stands.
    pub fn word(&self) -> Disposition {
        self.decision.map_or(Disposition::Held, |decision| decision.word)
    }

    /// How many quiet days lie behind it at that time.
    pub fn quiet(&self, now: i64) -> usize {
        self.days.range(..day(now)).count()
    }

    /// Whether so many quiet days, where it is some number of them, lie behind it.
    fn is_ripe(&self, days: Option<u32>, now: i64) -> bool {
        let enough = |days: u32| self.quiet(now) >= usize::try_from(days).unwrap_or(usize::MAX);
        self.word() == Disposition::Held && days.is_some_and(enough)
    }

    /// After so many quiet days it is approved by itself under this policy, as [`QuarantineList::ripen`] has it; none: never.
    pub fn asked(&self, party: &str, policy: &Policy) -> Option<u32> {
        // What its last rule says is known, and tells most of them; only then the policy is asked.
        self.quiet_days.and_then(|_| self.strictest(party, policy))
    }

    fn calls_itself(&mut self, remote: &str) {
        if self.names.len() < NAMES && !self.names.contains(remote) {
            self.names.insert(remote.into());
        }
    }

    /// The quiet days that the strictest rule asks for which is for any of its domains that were seen, towards any domain served
    /// here; none: it is never over by itself, which holds as well for who has had more names than are remembered.
    fn strictest(&self, party: &str, policy: &Policy) -> Option<u32> {
        if self.names.len() >= NAMES {
            return None;
        }
        let names = self.names.iter().map(|name| &**name).chain([party]);
        let mut most = None;
        for remote in names.filter_map(|name| Domain::parse(name).ok()) {
            for hosted in policy.hosted() {
                for direction in [Direction::Inbound, Direction::Outbound] {
                    let asked = Federate {
                        hosted,
                        remote: &remote,
                        direction,
                        identity: Identity::Unproven,
                        tls: Tls::Unknown,
                        address: None,
                        key: ShownKey::Unknown,
                    };
                    let permit = policy.judge(&Question::Federate(asked), &mut ()).permit();
                    if let Some(bounds) = permit.as_ref().and_then(Permit::quarantine) {
                        most = most.max(Some(bounds.quiet_days?.get()));
                    }
                }
            }
        }
        most
    }

    fn is_forgotten(&self, now: i64) -> bool {
        self.decision.is_none() && now.saturating_sub(self.last) > FORGOTTEN
    }

    /// Counts one stanza, if it is within its rate.
    fn takes(&mut self, stanza: &HeldStanza, process: &str, now: i64) -> bool {
        let often = stanza.bounds.often(stanza.counted);
        let passed = self.passed.get_mut(stanza.counted as usize);
        passed.is_some_and(|passed| passed.takes(often, process, now))
    }

    fn counts(&mut self, stanza: &HeldStanza, process: &str, now: i64) -> bool {
        self.last = self.last.max(now);
        self.quiet_days = stanza.bounds.quiet_days.map(Into::into);
        let (passes, today) = (self.takes(stanza, process, now), day(now));
        if !passes {
            self.refused = self.refused.saturating_add(1);
            self.loud = self.loud.max(today);
            self.days.clear();
        } else if self.loud < today {
            self.days.insert(today);
            self.trim();
        }
        passes
    }

    fn trim(&mut self) {
        while self.days.len() > DAYS {
            self.days.pop_first();
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct QuarantineList {
    table: Mutex<Table>,
    /// Under which name this process counts, so that several count together.
    process: OnceLock<Box<str>>,
    /// Milliseconds by which the clock that nodes have in common is ahead of this one's.
    ahead: AtomicI64,
    /// Told when an operator has decided.
    decided: Notify,
}

#[derive(Debug, Default)]
struct Table {
    parties: HashMap<Box<str>, Party>,
    /// What is not on the disk yet.
    changed: bool,
    /// A decision that other nodes should hear soon.
    hurried: bool,
    /// That there is no room was said.
    told: bool,
}

/// What lies in the file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineFile {
    version: u32,
    parties: BTreeMap<Box<str>, Party>,
}

impl QuarantineList {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under which name this process counts from now on, which no other has. It is said once.
    pub fn call(&self, process: &str) {
        let _ = self.process.set(process.into());
    }

    /// The time, in milliseconds since 1970, by the clock that nodes have in common.
    pub fn now(&self) -> i64 {
        jiff::Timestamp::now().as_millisecond().saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    /// A pair of somebody in quarantine stands.
    pub fn seen(&self, permit: &Permit) {
        let Some(bounds) = permit.quarantine() else { return };
        let (party, now) = (permit.remote().registrable(), self.now());
        let mut table = self.table();
        if let Some(entry) = table.entry(&party, now) {
            entry.last = entry.last.max(now);
            entry.quiet_days = bounds.quiet_days.map(Into::into);
            entry.calls_itself(permit.remote().as_str());
            if entry.rule != permit.rule().as_str() {
                permit.rule().as_str().clone_into(&mut entry.rule);
            }
        }
    }

    /// Whether this stanza of that domain passes.
    ///
    /// # Errors
    /// [`Reason::QuarantineRate`]
    pub fn ask(&self, remote: &Domain, stanza: &HeldStanza) -> Result<(), Reason> {
        self.ask_at(remote, stanza, self.now())
    }

    fn ask_at(&self, remote: &Domain, stanza: &HeldStanza, now: i64) -> Result<(), Reason> {
        let mut table = self.table();
        let counts = |entry: &mut Party| {
            entry.calls_itself(remote.as_str());
            entry.counts(stanza, self.process.get().map_or("", |name| name), now)
        };
        match table.entry(&remote.registrable(), now).is_some_and(counts) {
            true => Ok(()),
            false => Err(Reason::QuarantineRate),
        }
    }

    /// Somebody has decided about a registrable domain, whether it was seen already or not.
    ///
    /// # Errors
    /// When there is no room for another.
    pub fn decide(&self, party: &str, word: Disposition, uid: u32) -> Result<(), String> {
        let now = self.now();
        let mut table = self.table();
        let Some(entry) = table.entry(party, now) else {
            return Err(format!(
                "as much is known of {MOST} domains as can be; a rule of the policy that names this one holds without that"
            ));
        };
        let at = entry.decision.map_or(now, |before| now.max(before.at.saturating_add(1)));
        entry.decision = Some(DispositionRecord { at, word, uid: Some(uid) });
        if word != Disposition::Approved {
            entry.days.clear();
        }
        table.hurried = true;
        self.decided.notify_one();
        Ok(())
    }

    /// Waits for a decision that is to be written down at once. One waits at a time.
    pub async fn decided(&self) {
        self.decided.notified().await;
    }

    /// Whether anything is known of this registrable domain.
    pub fn knows(&self, party: &str) -> bool {
        self.table().parties.contains_key(party)
    }

    /// Approves those with enough quiet days under this policy, for what is decided is decided of all their domains towards all that
    /// are served here; and forgets those that have not been seen for long. Who was approved.
    pub fn ripen(&self, policy: &Policy) -> Vec<Box<str>> {
        self.ripen_by(self.now(), |name, party| party.strictest(name, policy))
    }

    fn ripen_by(&self, now: i64, asked: impl Fn(&str, &Party) -> Option<u32>) -> Vec<Box<str>> {
        let mut table = self.table();
        let before = table.parties.len();
        table.parties.retain(|_, party| !party.is_forgotten(now));
        let mut approved = Vec::new();
        for (name, party) in &mut table.parties {
            // As in `asked`.
            if party.is_ripe(party.quiet_days, now) && party.is_ripe(asked(name, party), now) {
                let at = party.decision.map_or(now, |before| now.max(before.at.saturating_add(1)));
                party.decision = Some(DispositionRecord { at, word: Disposition::Approved, uid: None });
                approved.push(name.clone());
            }
        }
        table.changed |= before != table.parties.len() || !approved.is_empty();
        table.hurried |= !approved.is_empty();
        approved.sort();
        approved
    }

    /// Who is let out and who is shut out.
    pub fn settled(&self) -> SettledParties {
        let table = self.table();
        let of = |word| {
            let of_word = table.parties.iter().filter(move |(_, party)| party.word() == word);
            of_word.map(|(name, _)| name.clone()).collect()
        };
        SettledParties { approved: of(Disposition::Approved), refused: of(Disposition::Refused) }
    }

    /// All of them: those that wait first, then by when they were seen last.
    pub fn all(&self) -> Vec<(Box<str>, Party)> {
        let mut all: Vec<_> =
            self.table().parties.iter().map(|(name, party)| (name.clone(), party.clone())).collect();
        let rank = |party: &Party| (party.word() != Disposition::Held, std::cmp::Reverse(party.last));
        all.sort_by(|(one, a), (other, b)| rank(a).cmp(&rank(b)).then_with(|| one.cmp(other)));
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table().parties.len()
    }

    /// Whether nobody is or was in quarantine.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many are in this state.
    pub fn count(&self, word: Disposition) -> usize {
        self.table().parties.values().filter(|party| party.word() == word).count()
    }

    /// What is to be kept over a restart, if anything has changed since it was asked last.
    pub fn to_keep(&self) -> Option<QuarantineFile> {
        let mut table = self.table();
        std::mem::take(&mut table.changed).then(|| QuarantineFile {
            version: VERSION,
            parties: table.parties.iter().map(|(name, party)| (name.clone(), party.clone())).collect(),
        })
    }

    /// It could not be kept.
    pub fn not_kept(&self) {
        self.table().changed = true;
    }

    /// Goes on where an earlier process ended. Names that are none are left out.
    ///
    /// # Errors
    /// When it is of another version.
    pub fn recall(&self, kept: QuarantineFile) -> Result<(), String> {
        if kept.version != VERSION {
            return Err(format!("it is of version {}", kept.version));
        }
        let mut table = self.table();
        for (name, mut party) in kept.parties.into_iter().take(MOST) {
            if is_party(&name) {
                party.trim();
                table.parties.insert(name, party);
            }
        }
        Ok(())
    }
}

impl Table {
    /// The entry of a party, made if there is none; who waits and was not seen for longest makes room. None if nobody can.
    fn entry(&mut self, party: &str, now: i64) -> Option<&mut Party> {
        self.changed = true;
        if !self.parties.contains_key(party) {
            if self.parties.len() >= MOST && !self.make_room() {
                return None;
            }
            self.parties.insert(party.into(), Party::new(now));
            tracing::info!(domain = party, "a domain is in quarantine");
        }
        self.parties.get_mut(party)
    }

    fn make_room(&mut self) -> bool {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                domains = MOST,
                "as many domains are in quarantine as can be remembered; those seen longest ago are forgotten"
            );
        }
        let waiting = self.parties.iter().filter(|(_, party)| party.decision.is_none());
        let Some(oldest) = waiting.min_by_key(|(_, party)| party.last).map(|(name, _)| name.clone()) else {
            return false;
        };
        self.parties.remove(&oldest).is_some()
    }
}

/// Whether this is the name of a party, as they are written.
fn is_party(name: &str) -> bool {
    Domain::parse(name).is_ok_and(|domain| *domain.registrable() == *name)
}

const fn day(millis: i64) -> i64 {
    millis.div_euclid(24 * 3600 * 1000)
}

/// Registrable domains that are remembered.
pub const MOST: usize = 10_000;

/// Quiet days of each that are remembered: as many as a rule may ask for, and today.
const DAYS: usize = 91;

/// Domains of each that are remembered.
const NAMES: usize = 32;

/// Who was not seen for so many milliseconds is forgotten, where nothing was decided.
const FORGOTTEN: i64 = 90 * 24 * 3600 * 1000;

/// The name of the file in the folder `state`.
pub const NAME: &str = "quarantine.json";

const VERSION: u32 = 1;

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
