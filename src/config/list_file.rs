//! What the configuration says of a list that somebody else keeps.

use std::path::PathBuf;
use std::time::Duration;

/// A list that somebody else keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFile {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub file: PathBuf,
    /// How old it may be; none: any age.
    pub expires: Option<Duration>,
    /// Whether all of it may change at once.
    pub any_change: bool,
    /// The minisign public key whose signature must lie beside it.
    pub minisign: Option<String>,
}
