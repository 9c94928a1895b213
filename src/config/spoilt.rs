//! What a mistake in a file takes along: a value that could not be read is not missing as well, and nothing that is said of
//! the file without it is true.

use crate::policy::{Finding, Place};

/// A value that somebody wrote, and that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoilt {
    /// Where the map or the list begins that it belongs to; the whole file for the outermost.
    pub place: Place,
    /// What it was.
    pub what: What,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// All of the file.
    File,
    /// An item of the list.
    Item,
    /// The value of this key.
    Key(String),
}

impl Spoilt {
    /// Nothing of this file is known.
    pub fn file(name: &str) -> Self {
        Self { place: Place::whole(name), what: What::File }
    }

    /// This key of the file, as one of all.
    pub fn key(name: &str, key: &str) -> Self {
        Self { place: Place::whole(name), what: What::Key(key.to_owned()) }
    }

    /// Whether nothing of the file is known.
    pub fn is_file(&self) -> bool {
        self.what == What::File
    }

    /// Whether one of these keys, or something in this list, is not known.
    pub fn concerns(&self, keys: &[&str], list: Option<&Place>) -> bool {
        match &self.what {
            What::File => true,
            What::Item => list == Some(&self.place),
            What::Key(key) => keys.contains(&key.as_str()),
        }
    }

    /// Whether this is only said because that value is not there.
    fn explains(&self, finding: &Finding) -> bool {
        if finding.place.file != self.place.file {
            return false;
        }
        let here = finding.place == self.place;
        match &self.what {
            What::File => true,
            What::Item => here && finding.message.contains("is empty"),
            What::Key(key) => {
                let named =
                    |text: &str| text.contains(&format!("`{key}`")) || text.contains(&format!("`{key}:"));
                let outermost = self.place.line == 0;
                (here && (named(&finding.message) || named(&finding.remedy)))
                    || (outermost && finding.message == format!("`{key}` is missing"))
            }
        }
    }
}

/// Leaves out what only follows from those mistakes.
pub fn leave_out(findings: &mut Vec<Finding>, spoilt: &[Spoilt]) {
    findings.retain(|finding| !spoilt.iter().any(|spoilt| spoilt.explains(finding)));
}
