//! How the policy in the shadow differs from what is done, as one closed list of labels (law `closed_words`).

use crate::reason::Outcome;

/// How the shadow differs from what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShadowChange {
    /// It would admit what is refused.
    Admits,
    /// It would let out of quarantine who is in it.
    Frees,
    /// It would put into quarantine who is allowed.
    Holds,
    /// It would do the same.
    None,
    /// It would refuse what is admitted.
    Refuses,
}

impl ShadowChange {
    /// Every value, for tables and tests.
    pub const ALL: &'static [ShadowChange] =
        &[Self::Admits, Self::Frees, Self::Holds, Self::None, Self::Refuses];

    /// From what is done to what would be.
    pub fn from(now: Outcome, next: Outcome) -> Self {
        match (now, next) {
            (Outcome::Deny, Outcome::Allow | Outcome::Quarantine) => Self::Admits,
            (Outcome::Allow | Outcome::Quarantine, Outcome::Deny) => Self::Refuses,
            // Which stanzas of somebody in quarantine do not pass, or would not, is told one by one beside.
            (Outcome::Allow, Outcome::Quarantine) => Self::Holds,
            (Outcome::Quarantine, Outcome::Allow) => Self::Frees,
            (Outcome::Allow, Outcome::Allow)
            | (Outcome::Quarantine, Outcome::Quarantine)
            | (Outcome::Deny, Outcome::Deny) => Self::None,
        }
    }

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Admits => "admits",
            Self::Frees => "frees",
            Self::Holds => "holds",
            Self::None => "none",
            Self::Refuses => "refuses",
        }
    }
}
