//! The life of rules: how each is used, which end soon, and what the policy in the shadow would change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::background;
use super::lists::Copies;
use super::protocol::Answer;
use super::quarantine;
use super::used::{Shadowed, Unused};
use crate::config::settings::Settings;
use crate::policy::{CaseOutcome, Day, Patches, Place, Policy};
use crate::reason::Flow;
use crate::run::observe::capped;
use crate::run::shadow::{Otherwise, Report};
use crate::run::used::{self, Use};
use crate::run::{Tools, kept};

/// The cases that are about pairs: those of policy files, and not those of patches.
pub(super) fn about_pairs(settings: &Settings, cases: Vec<CaseOutcome>) -> Arc<[CaseOutcome]> {
    let patches: Vec<String> = settings.patches.iter().map(|path| path.display().to_string()).collect();
    let is_pair = |case: &CaseOutcome| !patches.iter().any(|file| **file == *case.place.file);
    cases.into_iter().filter(is_pair).collect()
}

/// Does this while streams go on: of many rules it takes a while.
pub(super) async fn apart<T: Send + 'static>(
    tools: &Arc<Tools>,
    work: impl FnOnce(&Tools) -> T + Send + 'static,
) -> Option<T> {
    let tools = Arc::clone(tools);
    let done = background::run(move || work(&tools)).await;
    done.inspect_err(
        |error| tracing::error!(%error, "rules were not gone through: a fault of the gateway; report it"),
    )
    .ok()
}

/// What is counted follows the policy in force, and the one in its shadow; then `recall` brings what is known of before, and
/// what ends soon is announced. Of many rules it takes a while.
pub(super) fn follow(tools: &Tools, cases: &[CaseOutcome], recall: impl FnOnce(&Tools)) {
    let policy = tools.registry.policy();
    policy.prepare_nearest();
    tools.observe.used().follow(&policy, cases);
    let shadow = policy.shadow().map(Policy::digest);
    tools.observe.shadow().follow(shadow.unwrap_or_default());
    tools.observe.metrics().shadow(shadow);
    recall(tools);
    announce(tools);
}

/// A rule or a patch that has a last day.
struct Lasting<'a> {
    what: &'static str,
    name: &'a str,
    place: &'a Place,
    last: Day,
    owner: Option<&'a str>,
    ticket: Option<&'a str>,
    people: String,
}

impl Lasting<'_> {
    /// Under which its announcements are known: no rule has a blank in its name.
    fn key(&self) -> String {
        if self.what == "rule" { self.name.to_owned() } else { used::of_patch(self.name) }
    }
}

fn lasting(policy: &Policy) -> impl Iterator<Item = Lasting<'_>> {
    let rules = policy.rules().filter_map(|rule| {
        let (owner, ticket, people) = (rule.owner, rule.ticket, rule.people());
        let (name, place) = (rule.name.as_str(), rule.place);
        Some(Lasting { what: "rule", name, place, last: rule.expires?, owner, ticket, people })
    });
    let patches = policy.patches().into_iter().flat_map(Patches::iter).filter_map(|patch| {
        let (owner, people) = (patch.owner.as_deref(), patch.people());
        let (name, place) = (patch.name.as_str(), &patch.place);
        Some(Lasting { what: "patch", name, place, last: patch.expires?, owner, ticket: None, people })
    });
    rules.chain(patches)
}

/// What has expired since the day of that policy and before this one, for people, so many at most.
pub(super) fn expired(before: &Policy, today: Day) -> Vec<String> {
    let ended = lasting(before).filter(|one| (before.today()..today).contains(&one.last));
    ended
        .take(ENDING)
        .map(|one| format!("{} {}{} at {}", one.what, one.name, one.people, one.place))
        .collect()
}

/// Says which rules and patches end soon: once each, 30, 7 and 1 days before. Of many rules it takes a while.
pub(super) fn announce(tools: &Tools) {
    let policy = tools.registry.policy();
    let mut ending = [0; STEPS.len()];
    for one in lasting(&policy) {
        let left = one.last.days() - policy.today().days();
        if left < 0 {
            continue;
        }
        let mut steps =
            STEPS.into_iter().zip(&mut ending).filter(|(days, _)| left <= *days).map(|(days, count)| {
                *count += 1;
                days
            });
        let Some(step) = steps.next() else { continue };
        steps.for_each(drop);
        let last_day = one.last.to_string();
        if !tools.observe.used().announces(&one.key(), &last_day, step) {
            continue;
        }
        match one.what {
            "rule" => {
                tracing::warn!(rule = one.name, at = %one.place, last_day, days = left, owner = one.owner,
                ticket = one.ticket, "a rule expires soon: renew the date if it should go on");
            }
            _ => tracing::warn!(patch = one.name, at = %one.place, last_day, days = left, owner = one.owner,
                "a patch expires soon: renew the date if it should go on"),
        }
    }
    for (days, count) in STEPS.into_iter().zip(ending) {
        tools.observe.metrics().rules_expiring(days, count);
    }
}

/// What is counted is written down now and then.
pub(super) async fn keep(now: impl Fn() -> (Arc<Settings>, Arc<Tools>) + Send + Sync) {
    let mut tick = tokio::time::interval(OFTEN);
    let (mut failing, mut copies) = (false, Copies::default());
    loop {
        let quarantine = Arc::clone(&now().1.bounds.quarantine);
        tokio::select! {
            _ = tick.tick() => {}
            // What an operator was told is done holds after a crash as well.
            () = quarantine.decided() => {}
        }
        let (settings, tools) = now();
        let Some(folder) = settings.state.clone() else { continue };
        let path = folder.clone();
        let mut written = std::mem::take(&mut copies);
        let kept = tokio::task::spawn_blocking(move || {
            let lists = written.keep(&path, &tools);
            let parties = quarantine::keep(&path, &tools.bounds.quarantine);
            (kept::keep(&path, &tools.observe).and(lists).and(parties), written)
        });
        let kept = kept.await.map(|(kept, written)| {
            copies = written;
            kept
        });
        match kept {
            Ok(Err(error)) if !failing => {
                tracing::error!(folder = %folder.display(), %error, "the use of rules, the copies of lists and who is in quarantine cannot be kept over a restart");
                failing = true;
            }
            Ok(Ok(())) if failing => {
                tracing::warn!(folder = %folder.display(), "the use of rules, the copies of lists and who is in quarantine are kept again");
                failing = false;
            }
            _ => {}
        }
    }
}

/// The same once more at the end.
pub(super) fn keep_now(settings: &Settings, tools: &Tools) {
    let Some(folder) = &settings.state else { return };
    let lists = Copies::default().keep(folder, tools);
    let parties = quarantine::keep(folder, &tools.bounds.quarantine);
    if let Err(error) = kept::keep(folder, &tools.observe).and(lists).and(parties) {
        tracing::error!(folder = %folder.display(), %error, "the use of rules, the copies of lists and who is in quarantine are not kept");
    }
}

/// What the policy in the shadow would change, with the pairs that live now.
pub(super) async fn shadow(tools: &Tools, settings: &Settings) -> Answer {
    let policy = tools.registry.policy();
    if policy.shadow().is_none() {
        return Answer::no(NO_SHADOW);
    }
    let (views, silent) = tools.registry.views(None).await;
    let mut report = tools.observe.shadow().report();
    let mut living: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for view in &views {
        for standing in &view.snapshot.pairs {
            let flow = match (view.meta.flow, standing.back) {
                (Flow::S2sIn, true) => Flow::S2sOut,
                (Flow::S2sOut, true) => Flow::S2sIn,
                (flow, _) => flow,
            };
            let key = (
                flow.label().to_owned(),
                capped(standing.pair.sender.as_str()),
                capped(standing.pair.target.as_str()),
            );
            *living.entry(key).or_default() += 1;
        }
    }
    for change in &mut report.changes {
        let key = (change.flow.clone(), change.from.clone(), change.to.clone());
        change.living = living.get(&key).copied().unwrap_or_default();
    }
    let domains = settings.domains.iter().filter_map(|domain| {
        let (files, federation) = domain.shadowed()?;
        Some(Shadowed {
            domain: domain.name.to_string(),
            files: files.iter().map(|path| path.display().to_string()).collect(),
            federation: federation.label().to_owned(),
            federation_now: domain.federation.label().to_owned(),
        })
    });
    Answer::Shadow { domains: domains.collect(), report: Box::new(report), silent }
}

/// Rules and cases that were not used for so long.
pub(super) async fn unused(
    tools: &Arc<Tools>,
    settings: &Settings,
    all_cases: Arc<[CaseOutcome]>,
    seconds: u64,
) -> Answer {
    let span = SignedDuration::try_from(Duration::from_secs(seconds)).unwrap_or(SignedDuration::MAX);
    let Ok(then) = Timestamp::now().checked_sub(span) else {
        return Answer::no("that is longer ago than there is time");
    };
    // A stream may live for months without a question: what carries one is in use.
    let (views, silent) = tools.registry.views(None).await;
    for standing in views.iter().flat_map(|view| &view.snapshot.pairs) {
        tools.observe.used().carried(&standing.rule);
    }
    let sorted = apart(tools, move |tools| unused_since(tools, &all_cases, then)).await;
    let Some((rules, cases, young)) = sorted else {
        return Answer::no("the rules could not be gone through");
    };
    let kept = settings.state.is_some();
    Answer::Unused { rules, cases, young, kept, seconds, silent }
}

/// The rules and the cases that were not used since then; and how many are too young to tell.
fn unused_since(
    tools: &Tools,
    all_cases: &[CaseOutcome],
    then: Timestamp,
) -> (Vec<Unused>, Vec<Unused>, usize) {
    let (policy, used) = (tools.registry.policy(), tools.observe.used());
    let all = used.rules();
    let (mut rules, mut cases, mut young) = (Vec::new(), Vec::new(), 0);
    let mut sort = |uses: Option<&Use>, shown: Unused, into: &mut Vec<Unused>| match uses {
        Some(uses) if uses.is_unused_since(then) => into.push(shown),
        Some(uses) if uses.known > then && uses.last.is_none() => young += 1,
        _ => {}
    };
    for rule in policy.rules() {
        let uses = all.get(rule.name.as_str());
        let shown = Unused {
            name: rule.name.to_string(),
            place: rule.place.to_string(),
            verdict: rule.outcome.label().to_owned(),
            owner: rule.owner.map(str::to_owned),
            ticket: rule.ticket.map(str::to_owned),
            expires: rule.expires.map(|day| day.to_string()),
            ..Unused::of(uses)
        };
        sort(uses, shown, &mut rules);
    }
    for case in all_cases {
        let uses = used.of_case(case);
        let shown = Unused {
            name: format!("{} > {}", case.from, case.to),
            place: case.place.to_string(),
            verdict: case.outcome.split(' ').next().unwrap_or_default().to_owned(),
            ..Unused::of(uses.as_ref())
        };
        sort(uses.as_ref(), shown, &mut cases);
    }
    (rules, cases, young)
}

/// The rules and patches that end within a week, for people, so many at most.
pub(super) fn ending(policy: &Policy) -> Vec<String> {
    let ends = |one: Lasting<'_>| {
        let last = one.last;
        let left = last.days() - policy.today().days();
        if !(0..=7).contains(&left) {
            return None;
        }
        let when = match left {
            0 => "today is its last day".to_owned(),
            1 => "1 day is left".to_owned(),
            left => format!("{left} days are left"),
        };
        Some((last, format!("{} {}{} expires after {last}: {when}", one.what, one.name, one.people)))
    };
    let mut all: Vec<_> = lasting(policy).filter_map(ends).collect();
    all.sort();
    all.into_iter().take(ENDING).map(|(_, words)| words).collect()
}

/// What the status page shows of the shadow.
pub(super) fn shadow_shown(report: &Report) -> crate::status::Shadow {
    let refuses = |change: &&Otherwise| change.next == "deny";
    crate::status::Shadow {
        digest: report.digest.clone(),
        since: report.since.map(|at| at.to_string()).unwrap_or_default(),
        alike: report.alike,
        otherwise: report.otherwise,
        refused: report.changes.iter().filter(refuses).count(),
        admitted: report.changes.iter().filter(|change| change.now == "deny").count(),
        stanzas: report.changes.iter().filter(refuses).map(|change| change.stanzas).sum(),
        changes: report
            .changes
            .iter()
            .take(crate::status::SHOWN)
            .map(|change| crate::status::ShadowChange {
                from: change.from.clone(),
                to: change.to.clone(),
                direction: if change.flow == Flow::S2sOut.label() { "outbound" } else { "inbound" }
                    .to_owned(),
                what: match &change.sender {
                    Some(sender) => format!("{} {sender}", change.what),
                    None => change.what.clone(),
                },
                next: change.next.clone(),
                reason: change.reason.clone(),
                rule: change.rule.clone(),
                next_rule: change.next_rule.clone(),
                asked: change.asked,
                stanzas: change.stanzas,
                last: change.last.to_string(),
            })
            .collect(),
    }
}

/// Days before the end of a rule on which it is announced, the last first.
const STEPS: [i64; 3] = [1, 7, 30];

/// Rules and patches that are alarms, or are named as expired, at one time.
const ENDING: usize = 10;

/// How often what is counted is written down.
const OFTEN: Duration = Duration::from_secs(60);

const NO_SHADOW: &str =
    "no policy is in the shadow: name its files, `shadow: [policies/next.yaml]` of a domain, and reload";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::*;

    // POL-22: patches end as rules do, and are told beforehand and by name on the day after.
    #[test]
    fn rules_and_patches_end_alike() {
        let rules = "version: v1\nrules:\n  - { name: r, domains: [a.com], expires: 2027-01-05, owner: Ada, ticket: T-1 }
  - { name: late, domains: [b.com], expires: 2027-06-01 }\n";
        let patches = "version: v1\npatches:\n  - { name: p, reason: r, action: deny, payload: urn:x, expires: 2027-01-04, owner: Bo }\n";
        let (file, _) = crate::config::load::parse::<PolicyFile>(rules, "r.yaml");
        let day = |text: &str| Day::parse(text).unwrap();
        let today = day("2027-01-03");
        let hosted = HostedSource {
            domain: crate::jid::Domain::parse("hall.example").unwrap(),
            federation: Federation::Listed,
            sources: vec![0],
            place: Place::whole("g.yaml"),
        };
        let sources = vec![Source::new("r.yaml", file)];
        let policy =
            build(&Sources { hosted: vec![hosted], sources, today, digest: String::new() }).0.unwrap();
        let (file, _) = crate::config::load::parse::<PatchFile>(patches, "p.yaml");
        let compiled = compile_patches(&[PatchSource::new("p.yaml", file)], None, today).unwrap();
        let policy = policy.with_patches(compiled.0);
        assert_eq!(
            ending(&policy),
            [
                "patch p (owner Bo) expires after 2027-01-04: 1 day is left",
                "rule r (owner Ada, ticket T-1) expires after 2027-01-05: 2 days are left"
            ]
        );
        assert!(expired(&policy, day("2027-01-04")).is_empty());
        let ended = expired(&policy, day("2027-01-05"));
        assert!(ended.len() == 1 && ended[0].starts_with("patch p (owner Bo) at p.yaml:"), "{ended:?}");
        let ended = expired(&policy, day("2027-02-01"));
        assert!(
            ended.len() == 2 && ended[0].starts_with("rule r (owner Ada, ticket T-1) at r.yaml:"),
            "{ended:?}"
        );
        // Each word is said once, also when files are read again meanwhile.
        let uses = used::Used::default();
        for one in lasting(&policy) {
            assert!(uses.announces(&one.key(), "2027-01-04", 7));
        }
        uses.follow(&policy, &[]);
        assert!(lasting(&policy).all(|one| !uses.announces(&one.key(), "2027-01-04", 7)));
        uses.follow(&policy.with_patches(Patches::default()), &[]);
        assert!(uses.announces(&used::of_patch("p"), "2027-01-04", 7), "what is gone is forgotten");
    }
}
