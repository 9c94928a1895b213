//! What `gatehouse grade` found, as data and as text.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::super::Console;

/// What was found, in the order in which it was looked at.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) domain: String,
    pub(super) lines: Vec<Line>,
    /// The records to publish, as a zone file writes them.
    pub(super) tlsa: Vec<Record>,
    /// What was not looked at.
    pub(super) missed: Vec<String>,
    /// The file to publish for POSH.
    pub(super) posh: Option<File>,
    /// How many lines ask for something.
    pub(super) todo: usize,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) mark: Mark,
    /// What it is about, in one word.
    pub(super) what: &'static str,
    pub(super) words: String,
    /// What to do, or what could be done.
    pub(super) advice: Option<String>,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// As it should be.
    Good,
    /// As it may be.
    Note,
    /// Something is to be done.
    Todo,
}

/// A TLSA record.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Record {
    /// `current` or `next`.
    pub(super) key: &'static str,
    pub(super) record: String,
}

/// A file for a web server.
#[derive(Debug, Serialize)]
pub(super) struct File {
    pub(super) url: String,
    pub(super) content: String,
}

impl Report {
    pub(super) fn good(&mut self, what: &'static str, words: impl Into<String>) {
        self.lines.push(Line { mark: Mark::Good, what, words: words.into(), advice: None });
    }

    pub(super) fn note(&mut self, what: &'static str, words: impl Into<String>, advice: impl Into<String>) {
        self.lines.push(Line { mark: Mark::Note, what, words: words.into(), advice: Some(advice.into()) });
    }

    pub(super) fn todo(&mut self, what: &'static str, words: impl Into<String>, advice: impl Into<String>) {
        self.lines.push(Line { mark: Mark::Todo, what, words: words.into(), advice: Some(advice.into()) });
        self.todo += 1;
    }

    /// There was no time for these, within so long.
    pub(super) fn missed(&mut self, missed: Vec<String>, within: Duration) {
        if !missed.is_empty() {
            let words =
                format!("not looked at to the end within {} s: {}", within.as_secs_f64(), missed.join("; "));
            self.todo(
                "time",
                words,
                "what answers slowly is slow for peers, too; look for longer: --within 10m",
            );
        }
        self.missed.extend(missed);
    }

    /// There is more of that than is looked at: these, and so many others.
    pub(super) fn unseen(
        &mut self,
        what: &'static str,
        names: impl IntoIterator<Item = String>,
        others: usize,
    ) {
        let mut unseen: Vec<String> = names.into_iter().collect();
        if others > 0 {
            unseen.push(format!("{others} more"));
        }
        if !unseen.is_empty() {
            let words = format!("not looked at: {}", unseen.join(", "));
            self.todo(
                what,
                words,
                "have fewer, as peers do not look at all of so many either; else look at these by hand",
            );
            self.missed.extend(unseen);
        }
    }

    pub(super) fn text(&self, console: &Console) -> String {
        let quiet = console.is_quiet();
        if quiet && self.todo == 0 {
            return String::new();
        }
        let wanted = |line: &&Line| !quiet || line.mark == Mark::Todo;
        let publish = |what| !quiet || self.lines.iter().any(|l| l.mark == Mark::Todo && l.what == what);
        let mut out = format!("{:<7}{:<13}{}\n", "", "domain", self.domain);
        for line in self.lines.iter().filter(wanted) {
            let mark = match line.mark {
                Mark::Good => "good",
                Mark::Note => "note",
                Mark::Todo => "to do",
            };
            // Writing to a string cannot fail.
            let _written = writeln!(out, "{mark:<7}{:<13}{}", line.what, line.words);
            if let Some(advice) = &line.advice {
                let _written = writeln!(out, "{:<20}-> {advice}", "");
            }
        }
        for record in self.tlsa.iter().filter(|_| publish("TLSA")) {
            let _written = writeln!(out, "\nTLSA for the {} key:\n{}", record.key, record.record);
        }
        if let Some(file) = self.posh.as_ref().filter(|_| publish("POSH")) {
            let _written = writeln!(out, "\nPOSH, at {}:\n{}", file.url, file.content);
        }
        let words = match self.todo {
            0 => "nothing to be done".to_owned(),
            1 => "1 thing to be done".to_owned(),
            many => format!("{many} things to be done"),
        };
        let _written = writeln!(out, "\nresult: {}", console.mark(&words, self.todo == 0));
        out
    }
}
