//! Quarantine around the policy: who is let out or shut out becomes part of the snapshot that everybody judges by, as bans do.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::named::named;
use super::protocol::Quarantined;
use crate::config::settings::Settings;
use crate::jid::Domain;
use crate::metrics::Metrics;
use crate::policy::{Policy, SettledParties};
use crate::run::quarantine::{Disposition, NAME, Party, QuarantineFile, QuarantineList};
use crate::run::registry::View;
use crate::run::{Tools, kept};
use crate::status;

/// What an earlier process knew is known again.
pub(super) fn recall(settings: &Settings, tools: &Tools) {
    // Without a name it counts as all processes without one do, which matters where they share a store.
    if let Ok(random) = crate::run::seed() {
        let name: String = random.iter().take(4).map(|octet| format!("{octet:02x}")).collect();
        tools.bounds.quarantine.call(&name);
    }
    if let Some(folder) = &settings.state {
        let path = folder.join(NAME);
        let read = kept::read::<QuarantineFile>(&path).map_err(|error| error.to_string());
        let recalled = read.and_then(|kept| kept.map_or(Ok(()), |kept| tools.bounds.quarantine.recall(kept)));
        if let Err(error) = recalled {
            // Nobody is let in by it: who was approved is in quarantine again, and who was refused too.
            let aside = kept::set_aside(&path);
            tracing::error!(file = %path.display(), aside = %aside.display(), error,
                "what was decided about domains in quarantine cannot be read, and begins anew");
        }
    }
    publish(tools);
}

/// Writes down what has changed.
///
/// # Errors
/// When the disk does not take it; it is tried again the next time.
pub(super) fn keep(folder: &Path, list: &QuarantineList) -> io::Result<()> {
    let Some(kept) = list.to_keep() else { return Ok(()) };
    let written = kept::write(&folder.join(NAME), &kept);
    if written.is_err() {
        list.not_kept();
    }
    written
}

/// Everybody judges by what was decided.
pub(super) fn publish(tools: &Tools) {
    let list = &tools.bounds.quarantine;
    // Looked at inside, so that an older one never comes after a newer.
    tools.registry.amend(|policy| {
        let settled = list.settled();
        (*policy.settled() != settled).then(|| policy.with_settled(settled))
    });
    show(list, tools.observe.metrics());
}

fn show(list: &QuarantineList, metrics: &Metrics) {
    for word in Disposition::ALL {
        metrics.quarantined(word.label(), list.count(*word));
    }
}

/// Quiet days pass.
pub(super) async fn follow(tools: impl Fn() -> Arc<Tools> + Send) {
    let mut tick = super::ticks::every(OFTEN);
    loop {
        tick.tick().await;
        let tools = tools();
        let approved = tools.bounds.quarantine.ripen(&tools.registry.policy());
        match approved.is_empty() {
            true => show(&tools.bounds.quarantine, tools.observe.metrics()),
            false => publish(&tools),
        }
        for domain in approved {
            tracing::info!(domain = &*domain, "a domain is out of quarantine: its quiet days have passed");
            tools.observe.act(&Released::new(&domain));
        }
    }
}

/// All of them, as answers and the status show them.
pub(super) fn shown(list: &QuarantineList, policy: &Policy) -> Vec<Quarantined> {
    first(list, policy, usize::MAX)
}

fn first(list: &QuarantineList, policy: &Policy, most: usize) -> Vec<Quarantined> {
    let now = list.now();
    let time =
        |millis: i64| Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |at| at.to_string());
    let of = |(domain, party): (Box<str>, Party)| Quarantined {
        state: party.word().label().to_owned(),
        since: time(party.since),
        last: time(party.last),
        refused: party.refused,
        quiet: party.quiet(now),
        quiet_days: party.asked(&domain, policy),
        domain: domain.into(),
        decided: party.decision.map(|decision| time(decision.at)),
        uid: party.decision.and_then(|decision| decision.uid),
        rule: party.rule,
    };
    list.all().into_iter().take(most).map(of).collect()
}

/// As many as the status shows.
pub(super) fn on_page(list: &QuarantineList, policy: &Policy) -> Vec<status::Quarantined> {
    let of = |one: Quarantined| status::Quarantined {
        quiet: one
            .quiet_days
            .map_or_else(|| one.quiet.to_string(), |days| format!("{} of {days}", one.quiet)),
        domain: one.domain,
        state: one.state,
        rule: one.rule,
        last: one.last,
        refused: one.refused,
    };
    first(list, policy, status::SHOWN).into_iter().map(of).collect()
}

/// What came of a decision.
pub(super) struct Settlement {
    /// The registrable domain.
    pub(super) party: Box<str>,
    /// Whether it was known before.
    pub(super) seen: bool,
    /// Pairs that end.
    pub(super) pairs: usize,
    /// What decides about it before that, in words.
    pub(super) overruled: Option<String>,
}

/// Decides about somebody in quarantine.
///
/// # Errors
/// In words, why it cannot be.
pub(super) async fn settle(
    tools: &Tools,
    domain: &str,
    word: Disposition,
    uid: u32,
) -> Result<Settlement, String> {
    let named = named(domain)?;
    let party = named.registrable();
    let policy = tools.registry.policy();
    if policy.hosts(&named) {
        return Err(format!("{named} is served here"));
    }
    if named.is_of_a_registry() {
        return Err(format!(
            "{named} is a public suffix, below which everybody may have a domain: name one of those, as `gatehouse quarantine list` has it"
        ));
    }
    let of_party = Domain::parse(&party).ok();
    let anyway = policy
        .stands_anyway(&named)
        .filter(|_| of_party.is_none_or(|party| policy.stands_anyway(&party).is_some()));
    let overruled = anyway.map(|verdict| match verdict.place {
        Some(place) => {
            format!("{}, {} (rule {} at {place})", verdict.outcome, verdict.reason.words(), verdict.rule)
        }
        None => format!("{}, {}", verdict.outcome, verdict.reason.words()),
    });
    let (seen, before) = (tools.bounds.quarantine.knows(&party), policy.settled().clone());
    if word == Disposition::Held && !before.approved.contains(&party) && !before.refused.contains(&party) {
        return Err(format!(
            "nothing was decided about {party}: `gatehouse quarantine list` shows about whom something was"
        ));
    }
    let mut pairs = 0;
    if word == Disposition::Refused {
        let mut refused = before.refused.clone();
        refused.insert(party.clone());
        let under = Arc::new(policy.with_settled(SettledParties { refused, ..before }));
        let (views, _silent) = tools.registry.views(Some(&under)).await;
        let lost = |view: &View| {
            let pairs = view.snapshot.pairs.iter();
            pairs.filter(|pair| pair.verdict.as_ref().is_some_and(|v| !v.is_allow())).count()
        };
        pairs = views.iter().map(lost).sum();
    }
    tools.bounds.quarantine.decide(&party, word, uid)?;
    publish(tools);
    Ok(Settlement { party, seen, pairs, overruled })
}

/// A record of what the gateway has decided by itself.
#[derive(Serialize)]
struct Released<'a> {
    time: String,
    event: &'static str,
    action: &'static str,
    target: &'a str,
    outcome: &'static str,
}

impl<'a> Released<'a> {
    fn new(target: &'a str) -> Self {
        let (event, action, outcome) = ("control", "quarantine-approve", "done");
        Self { time: Timestamp::now().to_string(), event, action, target, outcome }
    }
}

/// How often it is looked whether quiet days have passed.
const OFTEN: Duration = Duration::from_secs(5);
