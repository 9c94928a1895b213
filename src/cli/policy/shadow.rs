//! `gatehouse policy shadow` and `gatehouse policy unused`: what a running gateway has seen, told.

use std::time::Duration;

use super::super::control::{self, Gateway};
use super::super::{Console, Exit, Format, audit};
use crate::gateway::protocol::{Answer, Otherwise, Report, Request, Shadowed, Unused};

/// Arguments of `policy shadow`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShadowArgs {
    #[command(flatten)]
    gateway: Gateway,
}

/// Arguments of `policy unused`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct UnusedArgs {
    /// For how long, like 90d or 24h
    #[arg(long = "for", value_name = "TIME", value_parser = audit::time, default_value = "90d")]
    time: Duration,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) fn shadow(args: &ShadowArgs, console: &mut Console) -> Exit {
    told(&args.gateway, &Request::Shadow {}, console)
}

pub(super) fn unused(args: &UnusedArgs, console: &mut Console) -> Exit {
    told(&args.gateway, &Request::Unused { seconds: args.time.as_secs() }, console)
}

fn told(gateway: &Gateway, request: &Request, console: &mut Console) -> Exit {
    let answer = match control::answer_of(gateway, request, console) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let exit = if matches!(answer, Answer::Refused { .. }) { Exit::No } else { Exit::Done };
    match &answer {
        answer if gateway.report.format == Format::Json => console.json(answer),
        Answer::Refused { message, .. } => console.complain(message),
        Answer::Shadow { domains, report, silent } => print_shadow(domains, report, *silent, console),
        Answer::Unused { rules, cases, young, kept, seconds, silent } => {
            print_unused((rules, cases), (*young, *kept, *seconds), console);
            if *silent > 0 {
                console.line(format_args!("{silent} streams did not answer; what they carry may be in use"));
            }
        }
        _ => {}
    }
    exit
}

/// What the policy in the shadow would change.
fn print_shadow(domains: &[Shadowed], report: &Report, silent: usize, console: &mut Console) {
    for Shadowed { domain, files, federation, federation_now } in domains {
        let files = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
        let federation = match federation == federation_now {
            true => String::new(),
            false => format!(", federation {federation_now} -> {federation}"),
        };
        console.line(format_args!("{domain}: in the shadow {files}{federation}"));
    }
    let since = report.since.map(|at| at.to_string()).unwrap_or_default();
    console.line(format_args!(
        "since {since}: {} questions decided alike, {} otherwise",
        report.alike, report.otherwise
    ));
    for way in &report.rules {
        console.line(format_args!(
            "{} times: from rule {} ({}) to rule {} ({})",
            way.asked, way.rule, way.now, way.next_rule, way.next
        ));
    }
    for change in &report.changes {
        print_change(change, console);
    }
    let count = |is: &dyn Fn(&Otherwise) -> bool| report.changes.iter().filter(|change| is(change)).count();
    let (refused, admitted) = (count(&|change| change.next == "deny"), count(&|change| change.now == "deny"));
    console.line(format_args!("{refused} would be refused, {admitted} would be admitted"));
    let (held, freed) =
        (count(&|change| change.next == "quarantine"), count(&|change| change.now == "quarantine"));
    if held + freed > 0 {
        console.line(format_args!("{held} would be in quarantine, {freed} would be out of it"));
    }
    if report.left_out > 0 {
        console.line(format_args!("{} more were forgotten for want of room", report.left_out));
    }
    if silent > 0 {
        console
            .line(format_args!("{silent} streams did not answer: whether what they carry lives is not told"));
    }
}

fn print_change(change: &Otherwise, console: &mut Console) {
    let would = match (&*change.now, &*change.next) {
        (_, "quarantine") => "would be in quarantine:",
        ("quarantine", _) => "would be out of quarantine, is",
        (_, "allow") => "would be admitted, is",
        _ => "would be refused:",
    };
    let what = match (&*change.what, &change.sender) {
        (_, Some(sender)) => format!("{sender} alone "),
        ("stanza", None) => "some stanzas ".to_owned(),
        _ => String::new(),
    };
    let at = change.place.as_deref().map(|place| format!(" at {place}")).unwrap_or_default();
    let living = if change.living > 0 { format!(", {} live", change.living) } else { String::new() };
    console.line(format_args!(
        "    {} > {}  {what}{would} {}  from rule {} to rule {}{at}  asked {} times{living}  {} stanzas  {} octets  first {}  last {}",
        change.from,
        change.to,
        change.reason,
        change.rule,
        change.next_rule,
        change.asked,
        change.stanzas,
        change.octets,
        change.first,
        change.last
    ));
}

/// Rules and cases that were not used.
fn print_unused(
    (rules, cases): (&[Unused], &[Unused]),
    (young, kept, seconds): (usize, bool, u64),
    console: &mut Console,
) {
    for (what, all) in [("rule", rules), ("case", cases)] {
        for unused in all {
            let last = match &unused.last {
                Some(last) => format!("last used {last}"),
                None => format!("never used since {}", unused.known.as_deref().unwrap_or("the start")),
            };
            let people = [("owner", &unused.owner), ("ticket", &unused.ticket), ("until", &unused.expires)];
            let people: String = people
                .into_iter()
                .filter_map(|(word, value)| Some(format!("  {word} {}", value.as_deref()?)))
                .collect();
            console.line(format_args!(
                "{what} {}  {}  at {}  {last}  {} times{people}",
                unused.name, unused.verdict, unused.place, unused.hits
            ));
        }
    }
    let time = match seconds % 86_400 {
        0 => format!("{} days", seconds / 86_400),
        _ => format!("{seconds} s"),
    };
    console.line(format_args!("{} rules and {} cases not used for {time}", rules.len(), cases.len()));
    if young > 0 {
        console.line(format_args!("{young} more were not used either, and are counted for less than that"));
    }
    if !kept {
        console.line("counted since the start only: `state:` names the folder where it outlives a restart");
    }
}
