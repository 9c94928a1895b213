//! The domain that an operator names: read, or what he has written in his own words, and what to write.

use crate::jid::Domain;
use crate::run::observe::capped;

/// The domain of that name.
///
/// # Errors
/// In words: it is none.
pub(super) fn named(name: &str) -> Result<Domain, String> {
    Domain::parse(name)
        .map_err(|why| format!("\"{}\" is no domain ({why}): write one like partner.example", capped(name)))
}
