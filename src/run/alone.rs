//! What one process alone may write, for as long as it lives: the audit file, and the folder of what outlives a restart.
//!
//! Two writers would tear the chain of the one and undo each other's words in the other. The lock belongs to the open file, so it
//! goes with the process, however that ends. A file system without locks is trusted to have one writer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The folder of what outlives a restart, as ours alone; it is let go with this.
#[derive(Debug)]
pub struct Folder {
    _lock: Option<File>,
}

impl Folder {
    /// Claims it.
    ///
    /// # Errors
    /// When another process has it. Where nothing can be written, nothing can be spoiled.
    pub fn claim(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        match OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(&path) {
            Ok(file) => {
                claim(&file, &path)?;
                Ok(Self { _lock: Some(file) })
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "the folder of what outlives a restart cannot be locked");
                Ok(Self { _lock: None })
            }
        }
    }
}

/// Claims an open file. What is no file, like a terminal or a pipe, may have as many writers as it likes.
///
/// # Errors
/// When another process has it, or this one has it open elsewhere.
pub(super) fn claim(file: &File, path: &Path) -> io::Result<()> {
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another gateway writes there"))
        }
        Err(TryLockError::Error(error)) => {
            tracing::warn!(file = %path.display(), %error, "the file cannot be locked: see that no other gateway writes there");
            Ok(())
        }
    }
}

/// The name of the file in the folder `state` that is locked.
pub const NAME: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_until_that_goes() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::claim(dir.path()).unwrap();
        let error = Folder::claim(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "another gateway writes there");
        drop(first);
        // A program that another test begins just then holds the lock, too, until it is that program.
        let freed = (0..500).any(|_| {
            let claimed = Folder::claim(dir.path()).is_ok();
            if !claimed {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            claimed
        });
        assert!(freed);
    }
}
