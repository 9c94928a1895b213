//! What is different between what is in force and what was read, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::from_settings::Credentials;
use super::protocol::{ByRule, Change, Plan};
use crate::config::settings::Settings;
use crate::jid::{Domain, Jid};
use crate::policy::{Day, Finding, Patch, Patches, Place, Policy, Proxy};
use crate::reason::Outcome;
use crate::run::observe::capped;
use crate::run::registry::View;
use crate::tls::keys;

/// Keys that cannot change while a process lives, each with what to do.
pub(super) fn for_a_restart(old: &Settings, new: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if old.threads != new.threads {
        let shown =
            |threads: Option<usize>| threads.map_or("one for each processor".to_owned(), |n| n.to_string());
        findings.push(Finding::error(
            Place::whole(&new.file),
            format!(
                "`threads` goes from {} to {}, which takes a restart",
                shown(old.threads),
                shown(new.threads)
            ),
            "put it back and reload, or `gatehouse restart`",
        ));
    }
    if old.cluster != new.cluster {
        findings.push(Finding::error(
            Place::whole(&new.file),
            "`cluster` changes, which takes a restart",
            "put it back and reload, or `gatehouse restart`",
        ));
    }
    findings
}

/// Every key of the configuration whose value is another, as a line.
pub(super) fn settings(old: &Settings, new: &Settings) -> Vec<String> {
    let lines = |settings: &Settings| -> BTreeMap<String, String> {
        crate::config::dump(settings).into_iter().map(|line| (line.key, line.value)).collect()
    };
    let (before, mut after) = (lines(old), lines(new));
    let mut changes = Vec::new();
    for (key, was) in before {
        match after.remove(&key) {
            Some(is) if is == was => {}
            Some(is) => changes.push(format!("{key}: {was} -> {is}")),
            None => changes.push(format!("{key}: {was} -> gone")),
        }
    }
    changes.extend(after.into_iter().map(|(key, is)| format!("{key}: new, {is}")));
    changes.sort();
    changes
}

/// Every rule that leads another way out than before, as a line. What stands stays on its way; who calls next takes the new one.
pub(super) fn ways(old: &Policy, new: &Policy) -> Vec<String> {
    // Most policies lead nobody another way, and of many rules even their names take a while to sort.
    if old.rules().chain(new.rules()).all(|rule| rule.via.is_none()) {
        return Vec::new();
    }
    let shown = |via: Option<&Proxy>| via.map_or_else(|| "none".to_owned(), Proxy::to_string);
    let before: BTreeMap<&str, Option<&Proxy>> =
        old.rules().map(|rule| (rule.name.as_str(), rule.via)).collect();
    let changed = new.rules().filter_map(|rule| {
        let was = before.get(rule.name.as_str()).copied()?;
        (was != rule.via).then(|| format!("rule {}, via: {} -> {}", rule.name, shown(was), shown(rule.via)))
    });
    changed.collect()
}

/// Every patch that is another, as a line.
pub(super) fn patches(old: &Policy, new: &Policy) -> Vec<String> {
    let by_name = |policy: &'_ Policy| -> BTreeMap<String, Patch> {
        let patches = policy.patches().into_iter().flat_map(Patches::iter);
        patches.map(|patch| (patch.name.to_string(), patch.clone())).collect()
    };
    let (mut before, after) = (by_name(old), by_name(new));
    let mut changes = Vec::new();
    for (name, patch) in after {
        let mode = if patch.shadow { ", in shadow mode" } else { "" };
        let is = format!("{}{mode} at {}", patch.action.label(), patch.place);
        match before.remove(&name) {
            None => changes.push(format!("patch {name}: new, {is}")),
            Some(was) if was.is_like(&patch) => {}
            Some(_) => changes.push(format!("patch {name}: changed, {is}")),
        }
    }
    changes.extend(before.into_keys().map(|name| format!("patch {name}: gone")));
    changes.sort();
    changes
}

/// Every list that is another, or is held, as a line.
pub(super) fn lists(old: &Policy, new: &Policy) -> Vec<String> {
    let mut changes = Vec::new();
    for slot in new.lists().iter() {
        let (name, now) = (slot.list.name(), slot.list.len());
        let held = slot.held.map_or_else(String::new, |held| format!("; the file is held: {}", held.words()));
        match old.lists().get(name) {
            None => changes.push(format!("list {name}: new, {now} domains{held}")),
            Some(was) if was.list == slot.list && was.held == slot.held => {}
            Some(was) => changes.push(format!("list {name}: {} -> {now} domains{held}", was.list.len())),
        }
    }
    let gone = old.lists().iter().filter(|slot| new.lists().get(slot.list.name()).is_none());
    changes.extend(gone.map(|slot| format!("list {}: gone", slot.list.name())));
    changes
}

/// Every certificate that is another, as a line; one that stands for several domains is told once.
pub(super) fn certificates(old: &Credentials, new: &Credentials) -> Vec<String> {
    let seen = |credentials: &Credentials| -> BTreeMap<Domain, (String, i64)> {
        let identities = credentials.certificates.iter();
        identities
            .filter_map(|(domain, identity)| {
                let seen = keys::inspect_chain(identity.chain())?;
                Some((domain.clone(), (seen.fingerprint, seen.not_after)))
            })
            .collect()
    };
    let (before, after) = (seen(old), seen(new));
    let mut by_print: BTreeMap<(String, i64), Vec<&str>> = BTreeMap::new();
    for (domain, shown) in &after {
        if before.get(domain) != Some(shown) {
            by_print.entry(shown.clone()).or_default().push(domain.as_str());
        }
    }
    let line = |((print, end), domains): ((String, i64), Vec<&str>)| {
        let (day, print) = (Day::from_unix_seconds(end), print.get(..16).unwrap_or(&print).to_owned());
        format!("certificate of {}: {print}.., valid until {day}", domains.join(", "))
    };
    by_print.into_iter().map(line).collect()
}

/// Those who stay with a server behind where it was, although it is elsewhere from now on: living streams are not moved.
pub(super) fn elsewhere(old: &Settings, new: &Settings, views: &[View]) -> Vec<String> {
    let mut lines = Vec::new();
    for domain in &new.domains {
        let Some(before) = old.domains.iter().find(|before| before.name == domain.name) else { continue };
        let pairs = views.iter().flat_map(|view| &view.snapshot.pairs).filter(|standing| {
            before.backend.s2s != domain.backend.s2s && standing.pair.target == domain.name
        });
        let clients = views.iter().filter_map(|view| view.snapshot.client.as_ref()).filter(|client| {
            before.backend.c2s != domain.backend.c2s
                && Jid::parse(&client.address).is_ok_and(|jid| jid.domain == domain.name.as_str())
        });
        let (pairs, clients) = (pairs.count(), clients.count());
        // DB-62: whom nobody names may call from anywhere.
        let callers = new.callers(domain);
        let speaks = |ip: &IpAddr| callers.is_empty() || callers.iter().any(|net| net.contains(ip));
        let silenced = before.backend.s2s != domain.backend.s2s
            && !before.backend.s2s.iter().all(|address| speaks(&address.ip().to_canonical()));
        let last = match silenced {
            true => {
                "; what its old server still sends comes back, unless `backend: { from }` names that, too"
            }
            false => "",
        };
        if pairs + clients > 0 {
            lines.push(format!(
                "{0}: {pairs} pairs and {clients} clients stay where its server was when they came, until they end; `gatehouse close {0}` \
                 ends the pairs, `gatehouse close USER@{0}` a client{last}",
                domain.name
            ));
        }
    }
    lines
}

/// The streams of clients whose domain is not served to clients any more, and of those whose certificate would not do, with the
/// reason.
pub(super) fn clients_that_end(new: &Settings, views: &[View]) -> Vec<String> {
    let served = |domain: &str| {
        new.domains.iter().any(|hosted| hosted.name.as_str() == domain && !hosted.backend.c2s.is_empty())
    };
    let client = |view: &View| {
        let client = view.snapshot.client.as_ref()?;
        let ends = Jid::parse(&client.address).is_ok_and(|jid| !served(&jid.domain));
        let who = || format!("{} {}", view.meta.id, capped(&client.address));
        match client.doubt {
            Some(doubt) if !ends => Some(format!("{} ({})", who(), doubt.label())),
            _ => ends.then(who),
        }
    };
    views.iter().filter_map(client).collect()
}

/// What becomes of those who live when one policy follows another.
pub(super) fn pairs(before: &Policy, after: &Policy, views: &[View], silent: usize) -> Plan {
    let names = |policy: &Policy| -> BTreeSet<String> {
        policy.rule_names().map(|name| name.as_str().to_owned()).collect()
    };
    let (old, new) = (names(before), names(after));
    let mut plan = Plan {
        before: before.digest().to_owned(),
        after: after.digest().to_owned(),
        rules_added: new.difference(&old).cloned().collect(),
        rules_removed: old.difference(&new).cloned().collect(),
        rules_changed: after.changed_rules(before).map(|name| name.as_str().to_owned()).collect(),
        silent,
        ..Plan::default()
    };
    let mut by_rule: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for view in views {
        let stream = view.meta.id.to_string();
        if view.snapshot.closes {
            plan.closes.push(stream.clone());
        }
        for standing in &view.snapshot.pairs {
            let Some(verdict) = &standing.verdict else { continue };
            let alike = standing.quarantined == (verdict.outcome == Outcome::Quarantine);
            if verdict.is_allow() && verdict.rule == standing.rule && alike && standing.doubt.is_none() {
                plan.stays += 1;
                continue;
            }
            let word = match standing.doubt {
                _ if !verdict.is_allow() => verdict.reason.label(),
                Some(doubt) => doubt.label(),
                None => verdict.outcome.label(),
            };
            let (rule, next) = (standing.rule.as_str().to_owned(), verdict.rule.as_str().to_owned());
            *by_rule.entry((rule.clone(), next.clone(), word.to_owned())).or_default() += 1;
            plan.changes.push(Change {
                stream: stream.clone(),
                from: capped(standing.pair.sender.as_str()),
                to: capped(standing.pair.target.as_str()),
                rule,
                next,
                verdict: word.to_owned(),
            });
        }
    }
    let counted = |((rule, next, verdict), pairs)| ByRule { rule, next, verdict, pairs };
    plan.by_rule = by_rule.into_iter().map(counted).collect();
    plan
}
