//! A small file that outlives the process: what was counted of rules, cases and the policy in the shadow.
//!
//! It is written beside and moved into its place, so that it is always one whole state or the one before. A file that cannot
//! be read is told and moved aside: what it held is counted anew, and nothing that decides depends on it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::observe::Observe;
use super::shadow::Report;
use super::used::Uses;

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    version: u32,
    #[serde(default)]
    uses: Uses,
    #[serde(default)]
    shadow: Report,
}

/// Reads what an earlier process has left in this folder.
pub fn recall(folder: &Path, observe: &Observe) {
    let path = folder.join(NAME);
    let trouble = match read::<Kept>(&path) {
        Ok(None) => return,
        Ok(Some(kept)) if kept.version == VERSION => {
            observe.used().recall(kept.uses);
            return observe.shadow().recall(kept.shadow);
        }
        Ok(Some(kept)) => of_version(kept.version),
        Err(error) => error.to_string(),
    };
    let aside = set_aside(&path);
    tracing::warn!(file = %path.display(), aside = %aside.display(), error = trouble,
        "the use of rules is counted anew: the file cannot be read");
}

/// What is in the way of a file that another version of the gateway has written.
pub fn of_version(version: u32) -> String {
    format!("it is of version {version}")
}

/// Moves a file that cannot be read to another name, so that what it may still tell is not written over; where it is then.
pub fn set_aside(path: &Path) -> PathBuf {
    let aside = aside(path);
    // Best effort: where it cannot be moved, it is told all the same.
    let _moved = std::fs::rename(path, &aside);
    aside
}

/// Copies a file of which a part cannot be read, for the same reason; where the copy is then.
pub fn copy_aside(path: &Path) -> PathBuf {
    let aside = aside(path);
    // Best effort: where there is no room, it is told all the same.
    let _copied = std::fs::copy(path, &aside);
    aside
}

fn aside(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.unread", path.display()))
}

/// Writes what is counted, if that has changed.
///
/// # Errors
/// When the disk does not take it; it is tried again the next time.
pub fn keep(folder: &Path, observe: &Observe) -> io::Result<()> {
    let Some(uses) = observe.used().to_keep() else { return Ok(()) };
    let kept = Kept { version: VERSION, uses, shadow: observe.shadow().report() };
    let written = write(&folder.join(NAME), &kept);
    if written.is_err() {
        observe.used().not_kept();
    }
    written
}

/// What stands in a file; none if there is none.
///
/// # Errors
/// When it cannot be read, is too large, or is something else.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut octets = Vec::new();
    file.take(LARGEST).read_to_end(&mut octets)?;
    serde_json::from_slice(&octets).map(Some).map_err(io::Error::other)
}

/// Puts this into the file, all of it or nothing: written beside, on the disk, and then moved into its place.
///
/// # Errors
/// When the disk does not take it; the file is then as it was.
pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    put(path, &serde_json::to_vec(value).map_err(io::Error::other)?)
}

/// The same with octets as they are.
///
/// # Errors
/// When the disk does not take it; the file is then as it was.
pub fn put(path: &Path, octets: &[u8]) -> io::Result<()> {
    let beside = PathBuf::from(format!("{}.new", path.display()));
    let written = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&beside)?;
        file.write_all(octets)?;
        file.sync_data()?;
        std::fs::rename(&beside, path)
    };
    written().inspect_err(|_| {
        // Best effort: half a file is of no use to anybody.
        let _left = std::fs::remove_file(&beside);
    })
}

/// The name of the file in the folder `state`.
pub const NAME: &str = "policy-use.json";

const VERSION: u32 = 1;

/// Octets of a file that is read: a hundred thousand rules and cases take a fifth of it.
const LARGEST: u64 = 128 << 20;
