//! Lists that somebody else keeps: what the configuration says of them, and what lies on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};

use super::list_file::ListFile;
use super::spec;
use super::words::Words;
use crate::policy::{Finding, Held, List, Lists, Place, Slot};

/// Reads `lists:`.
pub(super) fn lists(words: &mut Words, spec: &spec::FileSpec) -> Vec<ListFile> {
    let mut found: Vec<ListFile> = Vec::new();
    for at in spec.lists.iter().flat_map(|lists| &lists.value) {
        let list = &at.value;
        let name = words.needed(at, &list.name, "name", "spammers");
        let file = words.needed(at, &list.file, "file", "lists/spammers.txt");
        let expires = list.expires.as_ref().and_then(|word| {
            super::limits::duration(&word.value).map_err(|message| words.error(word, message, "")).ok()
        });
        let change = list
            .change
            .as_ref()
            .and_then(|word| words.choose(word, "how much may change", &[("third", false), ("any", true)]));
        let minisign = list.verify.as_ref().and_then(|verify| {
            let key = words.needed(verify, &verify.value.minisign, "minisign", "RWQf6LRC..")?;
            if PublicKey::from_base64(key.value.trim()).is_err() {
                words.error(
                    key,
                    format!("\"{}\" is no minisign public key", key.value),
                    "write the second line of the `.pub` file",
                );
            }
            Some(key.value.trim().to_owned())
        });
        let (Some(name), Some(file)) = (name, file) else { continue };
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.value.is_empty() || name.value.len() > 64 || !name.value.bytes().all(legal) {
            words.error(
                name,
                format!("\"{}\" cannot be the name of a list", name.value),
                "use up to 64 letters, digits, `-`, `_` and `.`",
            );
        }
        if found.iter().any(|other| other.name == name.value) {
            words.error(name, format!("two lists are called \"{}\"", name.value), "give each its own name");
            continue;
        }
        found.push(ListFile {
            name: name.value.clone(),
            file: words.path(file),
            expires,
            any_change: change.unwrap_or_default(),
            minisign,
        });
    }
    found
}

/// The files of a list: itself, and its signature.
pub fn files_of(list: &ListFile) -> Vec<PathBuf> {
    let signature = list.minisign.as_ref().map(|_| signature_of(&list.file));
    std::iter::once(list.file.clone()).chain(signature).collect()
}

fn signature_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// Reads every list. One that cannot be used is empty, and says why.
pub fn read(lists: &[ListFile]) -> Lists {
    let slots = lists.iter().map(|list| {
        let (read, held) = match one(list) {
            Ok(read) => (read, None),
            Err(held) => (List::read(&list.name, ""), Some(held)),
        };
        Slot { held, any_change: list.any_change, ..Slot::of(read) }
    });
    Lists::new(slots.collect())
}

fn one(list: &ListFile) -> Result<List, Held> {
    if is_stale(list) {
        return Err(Held::Stale);
    }
    let file = list.file.display().to_string();
    let text = super::load::read_text(&list.file, &file).map_err(|_| Held::Unreadable)?;
    if let Some(key) = &list.minisign {
        let signature = fs::read_to_string(signature_of(&list.file)).map_err(|_| Held::Unsigned)?;
        let signature = Signature::decode(&signature).map_err(|_| Held::Unsigned)?;
        let key = PublicKey::from_base64(key).map_err(|_| Held::Unsigned)?;
        key.verify(text.as_bytes(), &signature, false).map_err(|_| Held::Unsigned)?;
    }
    Ok(List::read(&list.name, &text))
}

fn is_stale(list: &ListFile) -> bool {
    let Some(most) = list.expires else { return false };
    let written = fs::metadata(&list.file).and_then(|metadata| metadata.modified());
    let age = written.ok().and_then(|written| written.elapsed().ok());
    age.is_some_and(|age| age > most)
}

/// Whether a list has become too old, or is so no more, since these were read.
pub fn have_aged(files: &[ListFile], lists: &Lists) -> bool {
    files.iter().any(|list| {
        let held = lists.get(&list.name).is_some_and(|slot| slot.held == Some(Held::Stale));
        list.expires.is_some() && is_stale(list) != held
    })
}

/// What is to be looked at: files that are held, and lines that are no domain.
pub fn warnings(files: &[ListFile], lists: &Lists) -> Vec<Finding> {
    let mut findings = Vec::new();
    for list in files {
        let Some(slot) = lists.get(&list.name) else { continue };
        let place = Place::whole(&list.file.display().to_string());
        if let Some(held) = slot.held {
            let message = format!("the list \"{}\" is held: {}", list.name, held.words());
            findings.push(Finding::warning(place.clone(), message, held.remedy()));
        }
        if slot.list.unread() > 0 {
            let message =
                format!("the list \"{}\" has {} lines that are no domain", list.name, slot.list.unread());
            findings.push(Finding::warning(place, message, "they are left out; tell who keeps it"));
        }
    }
    findings
}
