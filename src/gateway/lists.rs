//! Lists that somebody else keeps: what is told when one is taken over or held, and the last good copy that outlives the process.
//!
//! The copies lie in the folder `state`, one file a list, and are what a list is compared with at a start: a file that cannot be
//! used then leaves in force what was good before the restart, and so does one that has changed too much meanwhile.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::listed;
use crate::config::settings::Settings;
use crate::policy::{Finding, List, Lists, Policy, Slot};
use crate::run::fetch::Troubles;
use crate::run::{Tools, kept};
use crate::status;

/// The policy with what an earlier process has left of its lists where files are not to be used.
pub(super) fn recalled(settings: &Settings, policy: Policy) -> Policy {
    let Some(before) = copies(settings, policy.lists()) else { return policy };
    let before = policy.with_lists(before);
    let after = policy.after(&before);
    log_changes(None, after.lists());
    after
}

/// Lists that a start would hold although nothing is wrong with their files: they have changed too much since they were in force.
pub(super) fn held(settings: &Settings, lists: &Lists) -> Vec<Finding> {
    let Some(before) = copies(settings, lists) else { return Vec::new() };
    let after = lists.after(&before);
    let told = settings.lists.iter().filter_map(|list| {
        let (read, slot) = (lists.get(&list.name)?, after.get(&list.name)?);
        slot.held.filter(|_| read.held.is_none()).map(|held| listed::held(list, held))
    });
    told.collect()
}

/// What was in force before of each list that is not taken as it is now; none where nothing is written down. Of a copy that only proves
/// that all is well the lines are counted: there may be a million.
fn copies(settings: &Settings, lists: &Lists) -> Option<Lists> {
    let folder = settings.state.as_ref().filter(|_| !settings.lists.is_empty())?;
    let copies = settings.lists.iter().filter_map(|list| {
        let path = path_of(folder, &list.name);
        match read(&path) {
            Ok(text) => {
                let text = text?;
                let was = memchr::memchr_iter(b'\n', text.as_bytes()).count();
                let slot = lists.get(&list.name).filter(|slot| slot.held_after(was).is_some());
                slot.map(|_| Slot::of(List::read_as(&list.name, &text, list.format)))
            }
            Err(error) => {
                tracing::warn!(list = list.name, file = %path.display(), %error,
                    "the copy of a list from before the restart cannot be read, and is left aside");
                None
            }
        }
    });
    Some(Lists::new(copies.collect()))
}

/// Says which lists were taken over and which are held, where that is news after `before`. At a start, without one, only
/// those are told that a copy keeps in force: what is held without a copy is among the warnings of the configuration.
pub(super) fn log_changes(before: Option<&Lists>, after: &Lists) {
    for slot in after.iter() {
        let (list, domains) = (slot.list.name(), slot.list.len());
        let was = before.and_then(|before| before.get(list));
        match slot.held {
            Some(_) if before.is_none() && slot.list.is_empty() => {}
            Some(held) if was.is_none_or(|was| was.held != Some(held)) => {
                tracing::warn!(
                    list,
                    reason = held.label(),
                    words = held.words(),
                    remedy = held.remedy(),
                    domains,
                    "a list is held; what was read before stays in force"
                );
            }
            None if before.is_some() && was.is_none_or(|was| was != slot) => {
                tracing::info!(list, domains, "a list was taken over");
            }
            Some(_) | None => {}
        }
    }
}

/// The lists as the status shows them.
pub(super) fn shown(settings: &Settings, troubles: &Troubles, lists: &Lists) -> Vec<status::List> {
    let file = |name: &str| settings.lists.iter().find(|list| list.name == name).map(|list| &list.file);
    let shown = lists.iter().map(|slot| status::List {
        name: slot.list.name().to_owned(),
        domains: slot.list.len(),
        held: slot.held.map(|held| held.label().to_owned()),
        note: slot.held.map(|held| format!("{}; {}", held.words(), held.remedy())),
        trouble: troubles.of(slot.list.name()),
        file: file(slot.list.name()).map(|file| file.display().to_string()).unwrap_or_default(),
    });
    shown.collect()
}

/// What was written down of lists, so that nothing is written twice.
#[derive(Debug, Default)]
pub(super) struct Copies {
    folder: PathBuf,
    lists: Vec<Arc<List>>,
}

impl Copies {
    /// Writes down what is in force and is not written yet, and removes the copies of lists that are no more. The disk may take its
    /// time.
    ///
    /// # Errors
    /// When the disk does not take it; it is tried again the next time.
    pub(super) fn keep(&mut self, folder: &Path, tools: &Tools) -> io::Result<()> {
        let policy = tools.registry.policy();
        let lists = policy.lists();
        let now: Vec<Arc<List>> =
            lists.iter().filter(|slot| is_good(slot)).map(|slot| Arc::clone(&slot.list)).collect();
        let is_kept = |(now, kept): (&Arc<List>, &Arc<List>)| Arc::ptr_eq(now, kept);
        if folder == self.folder && now.len() == self.lists.len() && now.iter().zip(&self.lists).all(is_kept)
        {
            return Ok(());
        }
        for list in &now {
            let (path, text) = (path_of(folder, list.name()), list.to_text());
            if read(&path).ok().flatten().as_deref() != Some(&*text) {
                kept::put(&path, text.as_bytes())?;
            }
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if name_of(&path).is_some_and(|name| lists.get(name).is_none()) {
                fs::remove_file(&path)?;
            }
        }
        *self = Self { folder: folder.to_owned(), lists: now };
        Ok(())
    }
}

/// Whether something was read once: what is held from the beginning names nobody, and is no copy of anything.
fn is_good(slot: &Slot) -> bool {
    slot.held.is_none() || !slot.list.is_empty()
}

fn path_of(folder: &Path, list: &str) -> PathBuf {
    folder.join(format!("{BEFORE}{list}{BEHIND}"))
}

/// The name of the list of which this is the copy; none if it is something else.
fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix(BEFORE)?.strip_suffix(BEHIND)
}

/// What stands in a copy; none if there is none.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// The name of a copy, around that of its list.
pub(super) const BEFORE: &str = "list-";
const BEHIND: &str = ".kept";

/// Octets of a copy that are read: all that a list may have, and the ends of its lines.
const LARGEST: u64 = 2 * crate::policy::LARGEST_LIST as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_name_of_its_list_whatever_that_is() {
        let folder = Path::new("state");
        for name in ["spam", "..", ".", "a.txt", "list-", "x.new"] {
            let path = path_of(folder, name);
            assert_eq!((name_of(&path), path.parent()), (Some(name), Some(folder)), "{name}");
        }
        for other in ["policy-use.json", "list-a.kept.new", "mylist-a.kept", "list.kept", "list-a.txt"] {
            assert_eq!(name_of(&folder.join(other)), None, "{other}");
        }
    }
}
