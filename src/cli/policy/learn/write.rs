//! The proposal as a policy file, for people to read and change.

use std::fmt::Write as _;
use std::time::Duration;

use super::propose::{Case, LearnedConditions, LeftOut, Proposal, Rule, Traffic, Way};
use crate::config;
use crate::jid::Domain;
use crate::policy::{self, Day, Finding, PolicyFile, Source, Tls};
use crate::reason::Direction;

/// The whole file.
pub(super) fn file(proposal: &Proposal, hosted: &Domain, since: Duration) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _infallible = write(&mut out, proposal, hosted, since);
    out
}

/// Reads the file as `policy test` does, and runs its cases.
pub(super) fn prove(text: &str) -> Result<(), Vec<Finding>> {
    let (file, findings) = config::load::parse::<PolicyFile>(text, "learned.yaml");
    if !findings.is_empty() {
        return Err(findings);
    }
    let today = Day::from_unix_seconds(super::super::super::unix_seconds());
    let input = policy::stand_alone(Source::new("learned.yaml", file), today);
    policy::compile(&input).map(drop)
}

fn write(out: &mut String, proposal: &Proposal, hosted: &Domain, since: Duration) -> std::fmt::Result {
    writeln!(
        out,
        "# Who spoke with {hosted} in {}, from the audit log and the pairs that lived when",
        span(since)
    )?;
    writeln!(
        out,
        "# this was written: `gatehouse policy learn`. Read it, take out whom nobody knows, give each rule its owner and"
    )?;
    writeln!(
        out,
        "# ticket; then put it into the shadow (`shadow:` and `shadow-federation: listed` of the domain), and look at"
    )?;
    writeln!(out, "# `gatehouse policy shadow` for two weeks before `gatehouse policy promote`.")?;
    writeln!(out, "version: v1")?;
    match proposal.rules.is_empty() {
        true => writeln!(out, "rules: []")?,
        false => writeln!(out, "rules:")?,
    }
    for rule in &proposal.rules {
        write_rule(out, rule)?;
    }
    writeln!(out, "expect:")?;
    for rule in &proposal.rules {
        rule.cases.iter().try_for_each(|case| write_case(out, case, hosted, &rule.name))?;
    }
    writeln!(
        out,
        "  - {{ from: nobody.invalid, to: {}, direction: inbound, federation: listed, verdict: deny, reason: not-listed, rule: default }}",
        quoted(hosted.as_str())
    )?;
    if !proposal.left_out.is_empty() {
        writeln!(out, "# Left out:")?;
    }
    for LeftOut { domain, why } in proposal.left_out.iter().take(TOLD) {
        writeln!(out, "# - {}: {}", one_line(domain), one_line(why))?;
    }
    if let Some(more) = proposal.left_out.len().checked_sub(TOLD).filter(|more| *more > 0) {
        writeln!(out, "# - and {more} more; `--format json` names them all")?;
    }
    Ok(())
}

fn write_rule(out: &mut String, rule: &Rule) -> std::fmt::Result {
    for (remote, traffic) in rule.seen.iter().take(TOLD) {
        let ways = [("in", &traffic.inbound), ("out", &traffic.outbound)];
        let ways: Vec<String> =
            ways.into_iter().filter(|(_, way)| way.is_used()).map(|(word, way)| told(word, way)).collect();
        writeln!(out, "  # {remote}: {}", ways.join("; "))?;
    }
    if let Some(more) = rule.seen.len().checked_sub(TOLD).filter(|more| *more > 0) {
        writeln!(out, "  # and {more} more")?;
    }
    let uneven = rule.seen.iter().any(|(_, traffic)| {
        let by_dialback = |way: &Way| way.is_used() && way.proofs.contains("dialback");
        by_dialback(&traffic.inbound) != by_dialback(&traffic.outbound)
            && traffic.inbound.is_used()
            && traffic.outbound.is_used()
    });
    if uneven {
        writeln!(
            out,
            "  # One way dialback was all that was shown; a rule is for both ways, so this one takes it both ways."
        )?;
    }
    let no_certificate = |traffic: &Traffic| {
        let ways = [&traffic.inbound, &traffic.outbound];
        ways.into_iter().filter(|way| way.is_used()).all(|way| !way.proofs.contains("certificate"))
    };
    if rule.terms.certificate && rule.seen.iter().any(|(_, traffic)| no_certificate(traffic)) {
        writeln!(
            out,
            "  # A certificate was not what proved it, and is taken all the same: it is the stronger proof."
        )?;
    }
    if rule.terms.tls == Tls::None {
        writeln!(out, "  # It spoke in clear. Ask it for TLS.")?;
    }
    writeln!(out, "  - name: {}", rule.name)?;
    let patterns: Vec<String> = rule.patterns.iter().map(|pattern| quoted(pattern)).collect();
    writeln!(out, "    domains: [{}]", patterns.join(", "))?;
    match rule.terms.direction {
        None => {}
        Some(Direction::Inbound) => writeln!(out, "    direction: inbound")?,
        Some(Direction::Outbound) => writeln!(out, "    direction: outbound")?,
    }
    let LearnedConditions { certificate, posh, dialback, .. } = rule.terms;
    let words = [("certificate", certificate), ("posh", posh), ("dialback", dialback)];
    let words: Vec<&str> = words.into_iter().filter_map(|(word, shown)| shown.then_some(word)).collect();
    // DANE is taken by every rule, as it is stronger than the others.
    writeln!(out, "    identity: [{}]", if words.is_empty() { "dane".to_owned() } else { words.join(", ") })?;
    writeln!(out, "    tls: {}", tls(rule.terms.tls))
}

fn told(word: &str, way: &Way) -> String {
    let proofs: Vec<&str> = way.proofs.iter().map(String::as_str).collect();
    let proofs =
        if proofs.is_empty() { "proof not known".to_owned() } else { format!("by {}", proofs.join(" and ")) };
    let day = way.last.split('T').next().unwrap_or_default();
    let (stanzas, octets) = (way.stanzas, way.octets);
    one_line(&format!("{stanzas} stanzas {word} ({octets} octets), {proofs}, last {day}"))
}

fn write_case(out: &mut String, case: &Case, hosted: &Domain, rule: &str) -> std::fmt::Result {
    let (remote, hosted) = (quoted(case.remote.as_str()), quoted(hosted.as_str()));
    let (from, to, direction) = match case.direction {
        Direction::Inbound => (remote, hosted, "inbound"),
        Direction::Outbound => (hosted, remote, "outbound"),
    };
    let verdict = match case.refused {
        None => "allow".to_owned(),
        Some(reason) => format!("deny, reason: {reason}"),
    };
    writeln!(
        out,
        "  - {{ from: {from}, to: {to}, direction: {direction}, identity: {}, tls: {}, verdict: {verdict}, rule: {rule} }}",
        case.identity,
        tls(case.tls)
    )
}

fn tls(lowest: Tls) -> &'static str {
    match lowest {
        Tls::Unknown | Tls::V12 => "\"1.2\"",
        Tls::V13 => "\"1.3\"",
        Tls::None => "none",
    }
}

fn span(since: Duration) -> String {
    match (since.as_secs() / 86_400, since.as_secs() % 86_400) {
        (days, 0) => format!("{days} days"),
        _ => format!("{} hours", since.as_secs().div_ceil(3600)),
    }
}

/// A word in quotes that YAML takes as it stands.
fn quoted(word: &str) -> String {
    serde_json::to_string(word).unwrap_or_default()
}

/// A comment ends with its line.
fn one_line(words: &str) -> String {
    words
        .chars()
        .map(
            |letter| {
                if letter.is_control() || "\u{85}\u{2028}\u{2029}".contains(letter) { ' ' } else { letter }
            },
        )
        .collect()
}

/// Domains of one rule, and reasons, that are told in the file.
const TOLD: usize = 200;
