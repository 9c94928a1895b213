//! Where reports go: text or JSON on standard output, colour only on a terminal and never with `NO_COLOR`.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::Exit;
use crate::policy::{Finding, Severity};

/// How much is wanted to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// Only what is wrong (`--quiet`).
    Quiet,
    /// What most want to hear.
    Usual,
    /// More than that (`--verbose`).
    Verbose,
}

/// Standard output and standard error, and how much is wanted of them.
#[derive(Debug)]
pub struct Console {
    volume: Volume,
    out_colour: bool,
    err_colour: bool,
    failed: bool,
}

impl Console {
    #[allow(clippy::disallowed_methods)] // NO_COLOR is of the terminal, not of the configuration
    pub(super) fn new(volume: Volume) -> Console {
        // https://no-color.org: any value but the empty one.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Console {
            volume,
            out_colour: wanted && io::stdout().is_terminal(),
            err_colour: wanted && io::stderr().is_terminal(),
            failed: false,
        }
    }

    /// How much is wanted.
    pub fn volume(&self) -> Volume {
        self.volume
    }

    /// Whether only what is wrong is wanted.
    pub fn is_quiet(&self) -> bool {
        self.volume == Volume::Quiet
    }

    /// Whether more is wanted.
    pub fn is_verbose(&self) -> bool {
        self.volume == Volume::Verbose
    }

    /// Whether standard output takes colour.
    pub fn has_colour(&self) -> bool {
        self.out_colour
    }

    /// Whether standard error takes colour.
    pub fn has_coloured_errors(&self) -> bool {
        self.err_colour
    }

    /// Prints to standard output.
    pub fn print(&mut self, text: impl Display) {
        let outcome = write!(io::stdout().lock(), "{text}");
        self.note(outcome);
    }

    /// Prints a line to standard output.
    pub fn line(&mut self, text: impl Display) {
        self.print(format_args!("{text}\n"));
    }

    /// Prints a value as JSON, one line a field.
    pub fn json(&mut self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(text),
            Err(_) => self.failed = true,
        }
    }

    /// Prints octets as they are.
    pub fn raw(&mut self, octets: &[u8]) {
        let outcome = io::stdout().lock().write_all(octets);
        self.note(outcome);
    }

    /// Prints a line to standard error.
    pub fn complain(&mut self, text: impl Display) {
        let outcome = writeln!(io::stderr().lock(), "{text}");
        self.note(outcome);
    }

    /// The findings of a report, on standard output; warnings only where they are wanted.
    pub fn findings(&mut self, findings: &[Finding]) {
        let quiet = self.is_quiet();
        for finding in findings.iter().filter(|finding| finding.is_error() || !quiet) {
            let text = paint(finding, self.out_colour);
            self.line(text);
        }
    }

    /// Findings that kept a command from its work, on standard error.
    pub fn complain_of(&mut self, findings: &[Finding]) {
        let quiet = self.is_quiet();
        for finding in findings.iter().filter(|finding| finding.is_error() || !quiet) {
            let text = paint(finding, self.err_colour);
            self.complain(text);
        }
    }

    /// A word in green or red, where colour is wanted.
    pub fn mark(&self, word: &str, good: bool) -> String {
        match (self.out_colour, good) {
            (false, _) => word.to_owned(),
            (true, true) => format!("\x1b[32m{word}\x1b[0m"),
            (true, false) => format!("\x1b[31m{word}\x1b[0m"),
        }
    }

    pub(super) fn finish(mut self, exit: Exit) -> Exit {
        let outcome = io::stdout().lock().flush();
        self.note(outcome);
        if self.failed { Exit::Fault } else { exit }
    }

    fn note(&mut self, outcome: io::Result<()>) {
        // A reader that has heard enough (`| head`) is no fault.
        self.failed |= outcome.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
    }
}

fn paint(finding: &Finding, colour: bool) -> String {
    let text = finding.to_string();
    if !colour {
        return text;
    }
    let word = match finding.severity {
        Severity::Error => ("error", "\x1b[31merror\x1b[0m"),
        Severity::Warning => ("warning", "\x1b[33mwarning\x1b[0m"),
    };
    text.replacen(&format!(": {}: ", word.0), &format!(": {}: ", word.1), 1)
}
