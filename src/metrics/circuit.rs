//! How remote domains that did not answer lately stand, as one closed list of labels (law `closed_words`).

/// How such a domain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CircuitState {
    /// It failed, and not so often yet that it is left alone.
    Failing,
    /// It is left alone, and an attempt is under way.
    HalfOpen,
    /// It is left alone after repeated failures.
    Open,
}

impl CircuitState {
    /// Every value, for tables and tests.
    pub const ALL: &'static [CircuitState] = &[Self::Failing, Self::HalfOpen, Self::Open];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}
