//! `gatehouse audit verify`: whether the chain of an audit log is whole; and `audit report`, what it says.

mod report;

pub(super) use report::{files_of, time};

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Console, Exit, Format, Reporting};
use crate::run::chain::Checker;

/// What can be done with audit files.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check that no record was removed, changed, added or moved
    #[command(after_help = "Example: gatehouse audit verify /var/log/gatehouse/audit.jsonl")]
    Verify(Args),
    /// Tell what the log says of a time: pairs, proofs, rules, volumes, refusals
    #[command(after_help = "Example: gatehouse audit report --since 7d --config gatehouse.yaml")]
    Report(report::Args),
}

/// Arguments of `audit verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The audit files of one gateway, oldest first
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The digest that the last record must have, as noted earlier: shows whether the newest records were removed
    #[arg(long, value_name = "DIGEST")]
    ends: Option<String>,
    #[command(flatten)]
    report: Reporting,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    whole: bool,
    records: u64,
    first: Option<u64>,
    /// What the record before the first must have as its digest; zeros where the chain begins.
    after: Option<String>,
    last: Option<u64>,
    digest: Option<String>,
    /// The numbers of records that a process wrote first after another that had not ended in good order.
    unclean: Vec<u64>,
    /// Whether the last record says nothing of an end, though nobody writes there any more.
    unended: bool,
    faults: Vec<Fault>,
}

#[derive(Debug, Serialize)]
struct Fault {
    file: String,
    line: u64,
    message: String,
}

pub(super) fn main(command: &Command, console: &mut Console) -> Exit {
    let args = match command {
        Command::Report(args) => return report::main(args, console),
        Command::Verify(args) => args,
    };
    let report = verify(args);
    match args.report.format {
        Format::Json => console.json(&report),
        Format::Text => print(&report, console),
    }
    if report.whole { Exit::Done } else { Exit::No }
}

fn verify(args: &Args) -> Report {
    let mut checker = Checker::default();
    let mut faults = Vec::new();
    for path in &args.files {
        let file = path.display().to_string();
        let mut line = 0;
        let read = File::open(path).and_then(|opened| {
            lines(BufReader::new(opened), |number, octets| {
                line = number;
                if let Err(message) = checker.line(octets) {
                    faults.push(Fault { file: file.clone(), line: number, message });
                }
            })
        });
        if let Err(error) = read {
            faults.push(Fault { file: file.clone(), line, message: format!("cannot be read: {error}") });
        }
    }
    let end = checker.end();
    if let Some(due) = &args.ends
        && end.is_none_or(|end| end.digest != *due)
    {
        let file = args.files.last().map(|path| path.display().to_string()).unwrap_or_default();
        let message = "the last record is not the one that was noted: newer records, or some were removed";
        faults.push(Fault { file, line: 0, message: message.to_owned() });
    }
    if checker.records() == 0 && faults.is_empty() {
        let file = args.files.first().map(|path| path.display().to_string()).unwrap_or_default();
        faults.push(Fault { file, line: 0, message: "there is no record".to_owned() });
    }
    Report {
        whole: faults.is_empty(),
        records: checker.records(),
        first: checker.first().map(|(n, _)| n),
        after: checker.first().map(|(_, previous)| previous.to_owned()),
        last: end.map(|end| end.n),
        digest: end.map(|end| end.digest.clone()),
        unclean: checker.unclean().to_vec(),
        unended: checker.is_open() && args.files.last().is_some_and(|file| is_left(file)),
        faults,
    }
}

/// Whether no gateway has this file open, which is not one that was moved aside: of such a one the log goes on elsewhere.
fn is_left(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let ends = name.char_indices().filter(|(_, c)| matches!(c, '.' | '-')).map(|(at, _)| at);
    let newer = ends.filter_map(|at| name.get(..at)).map(Path::new);
    if newer.filter(|newer| newer.file_name().is_some()).any(Path::is_file) {
        return false;
    }
    // A gateway that writes has the file to itself; let go at once, for one may start at this moment.
    File::open(path).is_ok_and(|file| {
        file.metadata().is_ok_and(|data| data.is_file())
            && file.try_lock_shared().is_ok()
            && file.unlock().is_ok()
    })
}

/// Each line with its number; one that never ends is cut.
pub(super) fn lines(mut lines: impl BufRead, mut each: impl FnMut(u64, &[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        // A line that never ends must not fill the memory.
        if io::Read::take(&mut lines, LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        number += 1;
        each(number, line.strip_suffix(b"\n").unwrap_or(&line));
    }
}

fn print(report: &Report, console: &mut Console) {
    for fault in &report.faults {
        match fault.line {
            0 => console.line(format_args!("{}: {}", fault.file, fault.message)),
            line => console.line(format_args!("{}:{line}: {}", fault.file, fault.message)),
        }
    }
    if console.is_quiet() {
        return;
    }
    let word = console.mark(if report.whole { "whole" } else { "broken" }, report.whole);
    match (report.first, report.last, &report.digest) {
        (Some(first), Some(last), Some(digest)) => {
            console.line(format_args!("{word}: {} records, {first} to {last}", report.records));
            console.line(format_args!("the last one has the digest {digest}"));
        }
        _ => console.line(word),
    }
    for n in &report.unclean {
        console.line(format_args!(
            "record {n} follows an unclean end: the process before it was killed, or the machine lost its power"
        ));
    }
    if report.unended {
        console.line(
            "the last run has no end, and no gateway writes there: it was killed, or the machine lost its power",
        );
    }
}

/// Octets of a line.
const LONGEST: u64 = 1 << 20;
