//! `gatehouse audit report`: what the audit log says of a time: pairs, proofs, rules, volumes, refusals, starts and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{Console, Exit};
use crate::reason::{Class, Reason};

/// Arguments of `audit report`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The audit files, in any order; without them, those of --config
    #[arg(value_name = "FILE", required_unless_present = "config")]
    files: Vec<PathBuf>,
    /// The configuration, which names the audit file; those that were moved aside beside it are read, too
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    config: Option<PathBuf>,
    /// How far back, like 24h or 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Duration>,
    /// The form of the report
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

/// The form of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A table for other programs, one line for each pair and each kind of refusal
    Csv,
    /// JSON for programs
    Json,
    /// Text for people
    #[default]
    Text,
}

/// A record, as far as the report needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record {
    time: String,
    event: String,
    flow: String,
    pair: Option<String>,
    peer: Option<String>,
    tls: Option<String>,
    proof: Option<String>,
    rule: Option<String>,
    reason: String,
    cause: Option<String>,
    action: Option<String>,
    outcome: Option<String>,
    records: u64,
    stanzas: u64,
    octets: u64,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    /// The first and the last moment that a record was counted for.
    first: Option<String>,
    last: Option<String>,
    records: u64,
    pairs: Vec<Pair>,
    refusals: Vec<Refused>,
    /// What operators asked for, and how often.
    actions: BTreeMap<String, u64>,
    starts: u64,
    stops: u64,
    /// Starts that no stop went before: the process had been killed, or the machine had lost its power.
    unclean: u64,
    /// Records of refusals that were left out, and records that were lost.
    left_out: u64,
    lost: u64,
    /// Lines that are no records.
    unreadable: u64,
}

#[derive(Debug, Default, Serialize)]
struct Pair {
    flow: String,
    pair: String,
    /// How often it was admitted, and how often it ended.
    admitted: u64,
    ended: u64,
    proofs: BTreeSet<String>,
    tls: BTreeSet<String>,
    rules: BTreeSet<String>,
    addresses: BTreeSet<String>,
    stanzas: u64,
    octets: u64,
    first: String,
    last: String,
}

#[derive(Debug, Default, Serialize)]
struct Refused {
    flow: String,
    pair: String,
    reason: String,
    cause: Option<String>,
    rules: BTreeSet<String>,
    times: u64,
    first: String,
    last: String,
}

pub(in crate::cli) fn main(args: &Args, console: &mut Console) -> Exit {
    let files = match files(args) {
        Ok(files) => files,
        Err(message) => {
            console.complain(message);
            return Exit::Config;
        }
    };
    let begin = args.since.map(|since| Timestamp::now() - since);
    let mut gathered = Gathered { begin, ..Gathered::default() };
    for file in &files {
        let read = File::open(file)
            .and_then(|open| super::lines(BufReader::new(open), |_, octets| gathered.line(octets)));
        if let Err(error) = read {
            console.complain(format_args!("{}: cannot be read: {error}", file.display()));
            return Exit::No;
        }
    }
    let report = gathered.report();
    match args.format {
        Form::Csv => console.print(csv(&report)),
        Form::Json => console.json(&report),
        Form::Text => print(&report, console),
    }
    Exit::Done
}

/// The files to read: those named, or those of the configuration.
fn files(args: &Args) -> Result<Vec<PathBuf>, String> {
    match &args.config {
        Some(config) => files_of(config),
        None => Ok(args.files.clone()),
    }
}

/// The audit file of this configuration, with all that were moved aside under its name.
pub(in crate::cli) fn files_of(config: &Path) -> Result<Vec<PathBuf>, String> {
    let settings = crate::config::examine(config).settings;
    let audit = settings.and_then(|settings| settings.audit);
    let audit = audit.ok_or_else(|| format!("{} names no `audit: {{ file: .. }}`", config.display()))?;
    let name = audit.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = audit.file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let beside = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        // `audit.jsonl.000000000123` or `audit.jsonl.1`; what is compressed is no file of lines.
        file.strip_prefix(name.as_str()).is_some_and(|rest| {
            rest.strip_prefix('.').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        })
    });
    let mut files: Vec<PathBuf> = beside.chain([audit.file.clone()]).collect();
    files.sort();
    Ok(files)
}

#[derive(Default)]
struct Gathered {
    begin: Option<Timestamp>,
    report: Report,
    pairs: BTreeMap<(String, String), Pair>,
    refusals: BTreeMap<(String, String, String, Option<String>), Refused>,
    /// Whether something was written and no stop after it.
    open: bool,
}

impl Gathered {
    fn line(&mut self, octets: &[u8]) {
        let Ok(record) = serde_json::from_slice::<Record>(octets) else {
            self.report.unreadable += 1;
            return;
        };
        let unclean = record.event == "started" && self.open;
        self.open = record.event != "stopped";
        let at = record.time.parse::<Timestamp>().ok();
        if self.begin.is_some_and(|begin| at.is_none_or(|at| at < begin)) {
            return;
        }
        let report = &mut self.report;
        report.records += 1;
        if report.first.is_none() {
            report.first = Some(record.time.clone());
        }
        report.last = Some(record.time.clone());
        match record.event.as_str() {
            "started" => {
                report.starts += 1;
                report.unclean += u64::from(unclean);
            }
            "stopped" => report.stops += 1,
            "left-out" => report.left_out += record.records,
            "lost" => report.lost += record.records,
            "control" => {
                let action = record.action.unwrap_or_default();
                let word = match record.outcome.as_deref() {
                    Some("refused") => format!("{action} (refused)"),
                    _ => action,
                };
                *report.actions.entry(word).or_default() += 1;
            }
            "admitted" | "ended" if record.pair.is_some() => self.pair(record),
            "rejected" | "refused" => self.refusal(record),
            // A stream that never came to a pair is a refusal where it did not go of itself.
            "closed" if !is_ordinary(&record.reason) => self.refusal(record),
            _ => {}
        }
    }

    fn pair(&mut self, record: Record) {
        let name = record.pair.unwrap_or_default();
        let entry = self.pairs.entry((record.flow.clone(), name.clone())).or_insert_with(|| Pair {
            flow: record.flow,
            pair: name,
            first: record.time.clone(),
            ..Pair::default()
        });
        match record.event.as_str() {
            "admitted" => entry.admitted += 1,
            _ => entry.ended += 1,
        }
        entry.proofs.extend(record.proof);
        entry.tls.extend(record.tls);
        entry.rules.extend(record.rule);
        let host = record.peer.and_then(|peer| peer.rsplit_once(':').map(|(host, _)| host.to_owned()));
        if entry.addresses.len() < ADDRESSES {
            entry.addresses.extend(host);
        }
        entry.stanzas += record.stanzas;
        entry.octets += record.octets;
        entry.last = record.time;
    }

    fn refusal(&mut self, record: Record) {
        let pair = record.pair.unwrap_or_default();
        let key = (record.flow.clone(), pair.clone(), record.reason.clone(), record.cause.clone());
        let entry = self.refusals.entry(key).or_insert_with(|| Refused {
            flow: record.flow,
            pair,
            reason: record.reason,
            cause: record.cause,
            first: record.time.clone(),
            ..Refused::default()
        });
        entry.rules.extend(record.rule);
        entry.times += 1;
        entry.last = record.time;
    }

    fn report(self) -> Report {
        let mut pairs: Vec<Pair> = self.pairs.into_values().collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.stanzas));
        let mut refusals: Vec<Refused> = self.refusals.into_values().collect();
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.times));
        Report { pairs, refusals, ..self.report }
    }
}

fn print(report: &Report, console: &mut Console) {
    let span = |at: &Option<String>| at.as_deref().unwrap_or("-").to_owned();
    console.line(format_args!(
        "{} records, {} to {}",
        report.records,
        span(&report.first),
        span(&report.last)
    ));
    let mut ends = format!("{} starts, {} stops", report.starts, report.stops);
    if report.unclean > 0 {
        ends.push_str(&format!(", {} unclean ends: the process was killed", report.unclean));
    }
    console.line(ends);
    if report.left_out + report.lost + report.unreadable > 0 {
        console.line(format_args!(
            "{} records of refusals were left out, {} records were lost, {} lines are no records",
            report.left_out, report.lost, report.unreadable
        ));
    }
    console.line(format_args!("\n{} pairs", report.pairs.len()));
    for pair in &report.pairs {
        console.line(format_args!(
            "  {:<7} {:<48} {} stanzas  {} octets  {} times  proof {}  TLS {}  rule {}",
            pair.flow,
            pair.pair,
            pair.stanzas,
            pair.octets,
            pair.admitted.max(pair.ended),
            join(&pair.proofs),
            join(&pair.tls),
            join(&pair.rules)
        ));
        if console.is_verbose() {
            let (from, to) = (&pair.first, &pair.last);
            console.line(format_args!("          {from} to {to}  addresses {}", join(&pair.addresses)));
        }
    }
    console.line(format_args!("\n{} kinds of refusals", report.refusals.len()));
    for refused in &report.refusals {
        let cause = refused.cause.as_deref().map(|cause| format!(" ({cause})")).unwrap_or_default();
        let pair = if refused.pair.is_empty() { "-" } else { &refused.pair };
        console.line(format_args!(
            "  {:<7} {pair:<48} {} times  {}{cause}  last {}",
            refused.flow, refused.times, refused.reason, refused.last
        ));
    }
    if !report.actions.is_empty() {
        console.line("\noperators");
        for (action, times) in &report.actions {
            console.line(format_args!("  {action}: {times} times"));
        }
    }
}

/// RFC 4180, with a head.
fn csv(report: &Report) -> String {
    let mut text =
        "kind,flow,from,to,times,stanzas,octets,proof,tls,rule,reason,cause,first,last\r\n".to_owned();
    let mut line = |fields: &[&str]| {
        let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
        text.push_str(&fields.join(","));
        text.push_str("\r\n");
    };
    for pair in &report.pairs {
        let (from, to) = pair.pair.split_once('>').unwrap_or((&pair.pair, ""));
        let (times, stanzas, octets) =
            (pair.admitted.max(pair.ended).to_string(), pair.stanzas.to_string(), pair.octets.to_string());
        let (proofs, tls, rules) = (join(&pair.proofs), join(&pair.tls), join(&pair.rules));
        line(&[
            "pair",
            &pair.flow,
            from,
            to,
            &times,
            &stanzas,
            &octets,
            &proofs,
            &tls,
            &rules,
            "",
            "",
            &pair.first,
            &pair.last,
        ]);
    }
    for refused in &report.refusals {
        let (from, to) = refused.pair.split_once('>').unwrap_or((&refused.pair, ""));
        let (times, rules) = (refused.times.to_string(), join(&refused.rules));
        let cause = refused.cause.as_deref().unwrap_or_default();
        line(&[
            "refusal",
            &refused.flow,
            from,
            to,
            &times,
            "",
            "",
            "",
            "",
            &rules,
            &refused.reason,
            cause,
            &refused.first,
            &refused.last,
        ]);
    }
    text
}

/// A field that a spreadsheet takes for text, whatever a peer has called itself.
fn quoted(field: &str) -> String {
    let field = match field.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("'{field}"),
        _ => field.to_owned(),
    };
    match field.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

fn join(words: &BTreeSet<String>) -> String {
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
    }
}

/// A time as it is typed; days are none of the configuration's units, and wanted here.
pub(in crate::cli) fn time(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let time = match days.and_then(|days| days.checked_mul(24 * 3600)) {
        // Longer than anybody keeps a log, and within what the calendar can reckon with.
        Some(seconds) if seconds < 1 << 33 => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(format!("\"{text}\" is too long")),
        None => crate::config::duration(text)
            .map_err(|_| format!("\"{text}\" is no time; write it like 24h or 7d")),
    };
    // In no time nothing happens, and a report of that would look like good news.
    time.and_then(|time| {
        if time.is_zero() {
            Err("in no time nothing happens; write it like 24h or 7d".to_owned())
        } else {
            Ok(time)
        }
    })
}

/// Whether a stream without a pair that has ended so was no refusal.
fn is_ordinary(label: &str) -> bool {
    Reason::ALL.iter().any(|reason| reason.label() == label && reason.is(Class::Ordinary))
}

/// Addresses of one pair that are told.
const ADDRESSES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_takes_no_name_for_a_formula() {
        assert_eq!(quoted("=1+1"), "'=1+1");
        assert_eq!(quoted("a,b\"c"), "\"a,b\"\"c\"");
        assert_eq!(quoted("friend.example"), "friend.example");
    }

    #[test]
    fn times_may_be_days() {
        assert_eq!(time("7d"), Ok(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(time("24h"), Ok(Duration::from_secs(24 * 3600)));
        assert!(time("7").is_err() && time("99999999999999d").is_err());
        assert!(time("0d").is_err() && time("0s").is_err());
    }
}
