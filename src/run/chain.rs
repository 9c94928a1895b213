//! The chain of the audit log: each record carries its number and the digest of the record before it.
//!
//! A line that was removed, added, changed or moved breaks the chain at that place, and [`Checker`] says where. What a
//! chain without a secret cannot show is the removal of the newest records, and the work of somebody who writes the whole
//! file anew: for both, keep the number and digest that `gatehouse audit verify` prints somewhere else.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::stream::keyring::hex;

/// The end of a chain: what the next record is tied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// The number of the last record; 0 before the first.
    pub n: u64,
    /// The digest of its line; zeros before the first.
    pub digest: String,
}

impl Default for End {
    fn default() -> Self {
        Self { n: 0, digest: "0".repeat(64) }
    }
}

/// What every record carries at its end.
#[derive(Debug, Deserialize)]
struct Tie {
    n: u64,
    previous: String,
    #[serde(default)]
    event: String,
}

impl End {
    /// This record (one JSON object) as a line of the log, without line end, and the end of the chain after it.
    pub fn tie(&self, record: &str) -> (String, Self) {
        let n = self.n.saturating_add(1);
        let open = record.trim_end().strip_suffix('}').unwrap_or(record);
        let comma = if open.trim_end().ends_with('{') { "" } else { "," };
        let line = format!("{open}{comma}\"n\":{n},\"previous\":\"{}\"}}", self.digest);
        let digest = of(line.as_bytes());
        (line, Self { n, digest })
    }

    /// The end of a chain whose last line is this. A line that carries no number counts as number 0.
    pub fn after(line: &[u8]) -> Self {
        Self { n: tie_of(line).map_or(0, |tie| tie.n), digest: of(line) }
    }
}

/// Whether this record says that the log was closed in good order.
pub fn is_stop(line: &[u8]) -> bool {
    tie_of(line).is_some_and(|tie| tie.event == "stopped")
}

/// Whether this is a whole record.
pub fn is_record(line: &[u8]) -> bool {
    tie_of(line).is_some()
}

fn tie_of(line: &[u8]) -> Option<Tie> {
    serde_json::from_slice(line).ok()
}

fn of(line: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, line).as_ref())
}

/// Checks lines one after the other, over all files of one log, oldest first.
#[derive(Debug, Default)]
pub struct Checker {
    end: Option<End>,
    /// The number and the tie of the first record: what an older file must end with.
    first: Option<(u64, String)>,
    records: u64,
    /// The log was open when the last record was written.
    open: bool,
    unclean: Vec<u64>,
}

impl Checker {
    /// The next line, without its line end.
    ///
    /// # Errors
    /// What is wrong with it, in words; checking goes on behind it.
    pub fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let Some(tie) = tie_of(line) else {
            // The next record is tied to this line or to the one before it; it will be told which.
            self.end = Some(End { n: self.end.as_ref().map_or(0, |end| end.n), digest: of(line) });
            return Err("this is no audit record with a number and a digest".to_owned());
        };
        self.records += 1;
        if std::mem::replace(&mut self.open, tie.event != "stopped") && tie.event == "started" {
            self.unclean.push(tie.n);
        }
        if self.first.is_none() {
            self.first = Some((tie.n, tie.previous.clone()));
        }
        let before = self.end.replace(End { n: tie.n, digest: of(line) });
        let Some(before) = before else { return Ok(()) };
        let due = before.n.saturating_add(1);
        if tie.n > due {
            return Err(format!("records {due} to {} are missing before this one", tie.n - 1));
        }
        if tie.n < due {
            return Err(format!("record {} where record {due} is due: moved, repeated or begun anew", tie.n));
        }
        if tie.previous != before.digest {
            return Err(format!("the record before this one, number {}, was changed", before.n));
        }
        Ok(())
    }

    /// How many records there were.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The number of the first record, and the digest that the one before it must have.
    pub fn first(&self) -> Option<(u64, &str)> {
        self.first.as_ref().map(|(n, previous)| (*n, previous.as_str()))
    }

    /// The numbers of records with which a process began although the one before it had not ended in good order.
    pub fn unclean(&self) -> &[u64] {
        &self.unclean
    }

    /// Whether the last record is not the one with which a log is closed in good order.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Where the chain ends.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(records: usize) -> Vec<String> {
        let mut end = End::default();
        (0..records)
            .map(|i| {
                let (line, next) = end.tie(&format!("{{\"a\":{i}}}"));
                end = next;
                line
            })
            .collect()
    }

    fn faults(lines: &[String]) -> Vec<String> {
        let mut checker = Checker::default();
        lines.iter().filter_map(|line| checker.line(line.as_bytes()).err()).collect()
    }

    #[test]
    fn an_untouched_chain_holds_and_goes_on_from_its_last_line() {
        let lines = chain(5);
        assert!(faults(&lines).is_empty());
        let end = End::after(lines[4].as_bytes());
        assert_eq!(end.n, 5);
        let mut more = lines.clone();
        more.push(end.tie("{}").0);
        assert!(faults(&more).is_empty(), "{more:?}");
    }

    #[test]
    fn every_removed_changed_moved_or_added_line_shows() {
        let lines = chain(6);
        // The last line may go unseen: that is what the printed end is for.
        for at in 1..lines.len() - 1 {
            let mut cut = lines.clone();
            cut.remove(at);
            assert_eq!(faults(&cut).len(), 1, "removed {at}");
            let mut changed = lines.clone();
            changed[at] = changed[at].replace("\"a\":", "\"b\":");
            assert_eq!(faults(&changed).len(), 1, "changed {at}");
            let mut moved = lines.clone();
            moved.swap(at, at + 1);
            assert!(!faults(&moved).is_empty(), "moved {at}");
            let mut added = lines.clone();
            added.insert(at, lines[at].clone());
            assert!(!faults(&added).is_empty(), "added {at}");
            let mut foreign = lines.clone();
            foreign.insert(at, "{\"a\":1}".to_owned());
            assert!(!faults(&foreign).is_empty(), "foreign {at}");
        }
    }
}
