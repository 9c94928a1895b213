//! What a reload would do, and what is wrong with what it would read, as it is told.

use serde::{Deserialize, Serialize};

use crate::policy::Finding;

/// What a new policy means to those who live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The digest of the policy before.
    pub before: String,
    /// The digest of the policy after.
    pub after: String,
    /// Rules that are new.
    pub rules_added: Vec<String>,
    /// Rules that are gone.
    pub rules_removed: Vec<String>,
    /// Rules that say another thing than before.
    #[serde(default)]
    pub rules_changed: Vec<String>,
    /// How many pairs pass from a rule and verdict to another, for each such way.
    pub by_rule: Vec<ByRule>,
    /// Pairs whose rule or verdict changes.
    pub changes: Vec<Change>,
    /// Streams that end because no pair of theirs is left.
    pub closes: Vec<String>,
    /// Pairs that stay as they are.
    pub stays: usize,
    /// Relays that did not answer in time; what becomes of them is not told here.
    pub silent: usize,
    /// Keys of the configuration that change, each as a line.
    #[serde(default)]
    pub settings: Vec<String>,
    /// Certificates that change, each as a line.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// Clients that end because their domain is no longer served, each with its stream and address.
    #[serde(default)]
    pub clients: Vec<String>,
    /// Who stays with a server behind at an address that it has no longer, each as a line.
    #[serde(default)]
    pub elsewhere: Vec<String>,
    /// What is to be looked at in the files although they load.
    pub warnings: Vec<ToldFinding>,
}

/// Pairs that pass from one rule to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByRule {
    /// The rule that admitted them.
    pub rule: String,
    /// The rule that decides next.
    pub next: String,
    /// `allow`, or the reason of the refusal.
    pub verdict: String,
    /// How many.
    pub pairs: usize,
}

/// A pair whose rule or verdict changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The stream.
    pub stream: String,
    /// The domain that speaks.
    pub from: String,
    /// The domain that is spoken to.
    pub to: String,
    /// The rule that admitted it.
    pub rule: String,
    /// The rule that decides next.
    pub next: String,
    /// `allow`, or the reason of the refusal.
    pub verdict: String,
}

/// A finding, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldFinding {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 for the whole file.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// All of it in a line, with what to do.
    pub text: String,
}

impl From<&Finding> for ToldFinding {
    fn from(finding: &Finding) -> Self {
        Self {
            file: finding.place.file.to_string(),
            line: finding.place.line,
            column: finding.place.column,
            message: finding.message.clone(),
            text: finding.to_string(),
        }
    }
}
