//! Files that the gateway writes itself: none may be one that it reads, nor two of them one.

use std::path::{Path, PathBuf};

use super::{lists, peers};
use crate::config::settings::{Http, Settings};
use crate::config::{self};
use crate::policy::{Finding, Place};
use crate::run::{alone, kept, quarantine};

/// What is wrong with the file of the audit log: all others have names of their own.
pub(super) fn twice(settings: &Settings) -> Option<Finding> {
    let audit = settings.audit.as_ref()?.file.as_path();
    let same = |other: &Path| real(other) == real(audit);
    let socket = settings.admin.http.as_ref().and_then(Http::socket);
    let what = if config::files(settings).iter().any(|file| same(file)) {
        "the gateway reads this file, and would write its audit log into it"
    } else if [settings.admin.socket.as_deref(), socket].into_iter().flatten().any(same) {
        "the audit log and a socket of the gateway have one path"
    } else if is_state(settings, audit) {
        "the gateway keeps what outlives a restart in this file, and would write its audit log into it"
    } else {
        return None;
    };
    let place = Place::whole(&audit.display().to_string());
    Some(Finding::error(place, what, "give the audit log a file of its own (`audit: { file }`)"))
}

/// Whether it is one of those in the folder `state`.
fn is_state(settings: &Settings, file: &Path) -> bool {
    let (Some(state), Some(folder), Some(name)) = (&settings.state, file.parent(), file.file_name()) else {
        return false;
    };
    let name = name.to_string_lossy();
    let ours = [alone::NAME, kept::NAME, quarantine::NAME, peers::NAME].contains(&&*name);
    (ours || name.starts_with(lists::BEFORE)) && real(folder) == real(state)
}

/// The file behind all links; of one that is not there its name in the folder behind them.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned()).join(name)
        }
        _ => path.to_owned(),
    })
}
