//! Who is in quarantine, and what was decided, for people.

use super::Console;
use crate::gateway::protocol::{Disposition, Quarantined};
use crate::jid::Domain;

pub(super) fn print(domains: &[Quarantined], console: &mut Console) {
    for one in domains {
        let rule = if one.rule.is_empty() { "not seen yet".to_owned() } else { format!("rule {}", one.rule) };
        let quiet = match one.quiet_days {
            Some(days) => format!("{} of {days} quiet days", one.quiet),
            None => format!("{} quiet days", one.quiet),
        };
        let by = match (&one.decided, one.uid) {
            (None, _) => String::new(),
            (Some(at), Some(uid)) => format!("  since {at}, by user {uid}"),
            (Some(at), None) => format!("  since {at}, by itself"),
        };
        console.line(format_args!(
            "{:<32} {:<8}  {rule}  first {}  last {}  {quiet}  {} refused{by}",
            one.domain, one.state, one.since, one.last, one.refused
        ));
    }
    let waiting = domains.iter().filter(|one| one.state == Disposition::Held.label()).count();
    console.line(format_args!("{} domains, {waiting} of them in quarantine", domains.len()));
}

pub(super) fn print_settled(
    domain: &str,
    word: Disposition,
    (seen, pairs): (bool, usize),
    overruled: Option<&str>,
    console: &mut Console,
) {
    // Who has a name below `github.io` is another.
    let alone = Domain::parse(domain).is_ok_and(|domain| domain.is_shared());
    let party = if alone { domain.to_owned() } else { format!("{domain}, with all below it") };
    if let Some(verdict) = overruled {
        console.line(format_args!(
            "noted as {}: {party}; it changes nothing now, for it is not in quarantine: {verdict}",
            word.label()
        ));
        return;
    }
    match word {
        Disposition::Approved => console.line(format_args!("{party}: out of quarantine")),
        Disposition::Held => console.line(format_args!("{party}: in quarantine again")),
        Disposition::Refused => {
            console.line(format_args!("{party}: shut out; {pairs} pairs end"));
        }
    }
    if !seen {
        console.line("it was not seen before");
    }
}
