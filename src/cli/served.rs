//! What a command that asks about one domain must know first: the configuration, and what it says of that domain.

use std::path::Path;

use super::Console;
use crate::config::settings::HostedDomain;
use crate::config::{self, Settings};
use crate::jid::Domain;
use crate::policy::{Finding, Place};

/// What stands in the configuration; none if it does not hold, which is told.
pub(super) fn settings(file: &Path, console: &mut Console) -> Option<Settings> {
    match config::load(file) {
        Ok((settings, _warnings)) => Some(settings),
        Err(findings) => {
            console.complain_of(&findings);
            None
        }
    }
}

/// What it says of this domain; none if it is not served here, which is told.
pub(super) fn hosted<'a>(
    settings: &'a Settings,
    domain: &Domain,
    console: &mut Console,
) -> Option<&'a HostedDomain> {
    let found = settings.domains.iter().find(|hosted| hosted.name == *domain);
    if found.is_none() {
        let message = format!("{domain} is not hosted here");
        let place = Place::whole(&settings.file);
        console.complain_of(&[Finding::error(place, message, "name one of `domains`")]);
    }
    found
}
