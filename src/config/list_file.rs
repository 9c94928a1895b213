//! What the configuration says of a list that somebody else keeps.

use std::path::PathBuf;
use std::time::Duration;

use crate::policy::{ListFormat, Place};

/// From where a list is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// An absolute `https:` URL; the signature, where one is asked for, lies beside it.
    pub url: String,
    /// The time from one look to the next.
    pub refresh: Duration,
}

/// A list that somebody else keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFile {
    /// Its name.
    pub name: String,
    /// Where it lies; what is fetched is put there.
    pub file: PathBuf,
    /// From where it is fetched, and how often.
    pub fetch: Option<Fetch>,
    /// What stands in it.
    pub format: ListFormat,
    /// How old it may be; none: any age.
    pub expires: Option<Duration>,
    /// Whether all of it may change at once.
    pub any_change: bool,
    /// The minisign public key whose signature must lie beside it.
    pub minisign: Option<String>,
    /// Where the configuration names it.
    pub place: Place,
}
