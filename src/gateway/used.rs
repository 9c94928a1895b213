//! Rules, cases and domains as answers about the life of a policy name them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::run::used::Use;

/// A domain with a policy in the shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// The hosted domain.
    pub domain: String,
    /// The files in the shadow.
    pub files: Vec<String>,
    /// The federation under which they are judged.
    pub federation: String,
    /// The one in force.
    pub federation_now: String,
}

/// A rule or a case, and how it was used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unused {
    /// The rule's name, or the pair of the case.
    pub name: String,
    /// Where it stands.
    pub place: String,
    /// `allow` or `deny`; of a case what it got when it was run last.
    pub verdict: String,
    /// Who asked for the rule.
    pub owner: Option<String>,
    /// Where it was asked for.
    pub ticket: Option<String>,
    /// The last day on which the rule holds.
    pub expires: Option<String>,
    /// How often it was used.
    pub hits: u64,
    /// The first time.
    pub first: Option<String>,
    /// The last time.
    pub last: Option<String>,
    /// Since when it is counted.
    pub known: Option<String>,
}

impl Unused {
    /// How it was used, with the rest still to be told.
    pub(super) fn of(uses: Option<&Use>) -> Self {
        let at = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Self {
            hits: uses.map_or(0, |uses| uses.hits),
            first: at(uses.and_then(|uses| uses.first)),
            last: at(uses.and_then(|uses| uses.last)),
            known: at(uses.map(|uses| uses.known)),
            ..Self::default()
        }
    }
}
