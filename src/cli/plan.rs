//! What a reload would change, line by line.

use super::Console;
use crate::gateway::protocol::{Plan, ToldFinding};

/// Prints it: what changes in the files, then what that means for those who live.
pub(super) fn print(plan: &Plan, console: &mut Console) {
    for ToldFinding { text, .. } in &plan.warnings {
        console.line(text);
    }
    for line in plan.settings.iter().chain(&plan.certificates) {
        console.line(line);
    }
    if plan.before != plan.after {
        let short = |digest: &str| digest.get(..16).unwrap_or(digest).to_owned();
        console.line(format_args!("policy: {}.. -> {}..", short(&plan.before), short(&plan.after)));
    }
    let rules = [
        ("new rule", &plan.rules_added),
        ("rule gone", &plan.rules_removed),
        ("rule changed", &plan.rules_changed),
    ];
    for (word, rules) in rules {
        for rule in rules {
            console.line(format_args!("{word}: {rule}"));
        }
    }
    for way in &plan.by_rule {
        console.line(format_args!(
            "{} pairs: from rule {} to rule {} ({})",
            way.pairs, way.rule, way.next, way.verdict
        ));
    }
    for change in &plan.changes {
        console.line(format_args!(
            "    {}  {} > {}  from rule {} to rule {} ({})",
            change.stream, change.from, change.to, change.rule, change.next, change.verdict
        ));
    }
    for stream in &plan.closes {
        console.line(format_args!("closes: {stream}"));
    }
    for client in &plan.clients {
        console.line(format_args!("client ends: {client}"));
    }
    for stays in &plan.elsewhere {
        console.line(stays);
    }
    console.line(format_args!("{} pairs stay as they are", plan.stays));
    if plan.silent > 0 {
        console.line(format_args!("{} did not answer", plan.silent));
    }
}
