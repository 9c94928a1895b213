//! What can be wrong with an address.

use std::fmt;

/// Why a text is not an address, or not one that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressError {
    /// The two generations of domain names read the domain differently (JID-05).
    Ambiguous,
    /// The two generations of address preparation read the local part or the resource differently (JID-06).
    Differs,
    /// The domain is no domain name (JID-03).
    Domain,
    /// There is no text at all (JID-02).
    Empty,
    /// The local part is empty or holds what it may not (JID-02, JID-04).
    Local,
    /// The resource is empty or holds what it may not (JID-02, JID-04).
    Resource,
    /// A part is longer than 1023 octets, or the whole than 3071 (JID-02).
    TooLong,
}

impl AddressError {
    /// Every error there is, for tables and tests.
    pub const ALL: &'static [AddressError] = &[
        Self::Ambiguous,
        Self::Differs,
        Self::Domain,
        Self::Empty,
        Self::Local,
        Self::Resource,
        Self::TooLong,
    ];

    /// What is wrong, in words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Ambiguous => "old and new rules for international domain names read this name differently",
            Self::Differs => {
                "old and new rules for addresses read the local part or the resource differently"
            }
            Self::Domain => "not a domain name",
            Self::Empty => "empty",
            Self::Local => "the local part (before @) is empty or holds a character that it may not",
            Self::Resource => "the resource (after /) is empty or holds a character that it may not",
            Self::TooLong => "too long",
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for AddressError {}
