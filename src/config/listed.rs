//! Lists that somebody else keeps: what the configuration says of them, and what lies on the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minisign_verify::{PublicKey, Signature};

use super::list_file::{Fetch, ListFile};
use super::spec;
use super::words::Words;
use crate::policy::{Finding, Held, List, ListFormat, Lists, Place, Slot};

/// Reads `lists:`.
pub(super) fn lists(words: &mut Words, spec: &spec::FileSpec, state: Option<&Path>) -> Vec<ListFile> {
    let mut found: Vec<ListFile> = Vec::new();
    for at in spec.lists.iter().flat_map(|lists| &lists.value) {
        let list = &at.value;
        let name = words.needed(at, &list.name, "name", "spammers");
        let fetch = fetched(words, list, state);
        let file = match (&list.file, &list.url) {
            (Some(file), None) => Some(words.path(file)),
            (None, None) => {
                words.needed(at, &list.file, "file", "lists/spammers.txt");
                None
            }
            (Some(file), Some(_)) => {
                words.error(file, "a list is a file or is fetched, not both", "remove `file`, or `url`");
                None
            }
            // One that is wrong has been told.
            (None, Some(_)) => state
                .zip(name)
                .map(|(folder, name)| folder.join(format!("{}{}{}", FETCHED.0, name.value, FETCHED.1))),
        };
        let formats: Vec<(&str, ListFormat)> = ListFormat::ALL.to_vec();
        let format =
            list.format.as_ref().and_then(|word| words.choose(word, "the format of a list", &formats));
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
            file,
            fetch,
            format: format.unwrap_or_default(),
            expires,
            any_change: change.unwrap_or_default(),
            minisign,
        });
    }
    found
}

/// `url` and `refresh` of a list.
fn fetched(words: &mut Words, list: &spec::ListSpec, state: Option<&Path>) -> Option<Fetch> {
    let Some(url) = &list.url else {
        if let Some(refresh) = &list.refresh {
            words.error(refresh, "`refresh` without `url`", "a file is taken over when it has changed");
        }
        return None;
    };
    // What a URL is, `net` knows; here is only what can be said without asking anybody.
    if !url.value.starts_with("https://") || url.value.contains(char::is_whitespace) {
        let message = format!("\"{}\" is no address of HTTPS", url.value);
        words.error(url, message, "write it like https://lists.example/spam.txt");
    }
    if state.is_none() {
        words.error(
            url,
            "a list that is fetched needs a folder to lie in",
            "name one for the whole gateway: `state: /var/lib/gatehouse`",
        );
    }
    let refresh = match &list.refresh {
        None => REFRESH,
        Some(word) => match super::limits::duration(&word.value) {
            Ok(time) if (SHORTEST..=LONGEST).contains(&time) => time,
            Ok(_) => {
                words.error(word, "a list is fetched anew after 5 s to 30 days", "write it like 6h");
                REFRESH
            }
            Err(message) => {
                words.error(word, message, "");
                REFRESH
            }
        },
    };
    Some(Fetch { url: url.value.clone(), refresh })
}

/// The files of a list: itself, and its signature.
pub fn files_of(list: &ListFile) -> Vec<PathBuf> {
    let signature = list.minisign.as_ref().map(|_| signature_of(&list.file));
    std::iter::once(list.file.clone()).chain(signature).collect()
}

/// Where the signature of a list lies.
pub fn signature_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// Reads every list. One that cannot be used is empty, and says why.
pub fn read(lists: &[ListFile]) -> Lists {
    let slots = lists.iter().map(|list| {
        let (read, held) = match one(list) {
            Ok(read) => (read, None),
            Err(held) => (List::read_as(&list.name, "", list.format), Some(held)),
        };
        Slot { held, any_change: list.any_change, ..Slot::of(read) }
    });
    Lists::new(slots.collect())
}

fn one(list: &ListFile) -> Result<List, Held> {
    if is_stale(list) {
        return Err(Held::Stale);
    }
    if list.fetch.is_some() && !list.file.exists() {
        return Err(Held::Unfetched);
    }
    let file = list.file.display().to_string();
    let text = super::load::read_text(&list.file, &file).map_err(|_| Held::Unreadable)?;
    if let Some(key) = &list.minisign {
        let signature = fs::read_to_string(signature_of(&list.file)).map_err(|_| Held::Unsigned)?;
        if !is_signed(key, &text, &signature) {
            return Err(Held::Unsigned);
        }
    }
    Ok(List::read_as(&list.name, &text, list.format))
}

/// Whether that is the signature of this text by that key.
pub fn is_signed(key: &str, text: &str, signature: &str) -> bool {
    let verified = PublicKey::from_base64(key)
        .and_then(|key| key.verify(text.as_bytes(), &Signature::decode(signature)?, false));
    verified.is_ok()
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

/// What is to be looked at: files that are held, and lines that are no entry.
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
            let message = format!(
                "the list \"{}\" has {} lines that are no {}",
                list.name,
                slot.list.unread(),
                list.format.entry()
            );
            findings.push(Finding::warning(place, message, "they are left out; tell who keeps it"));
        }
    }
    findings
}

/// The name of a list that was fetched, around its own, in the folder `state`.
pub const FETCHED: (&str, &str) = ("list-", ".fetched");

/// How often a list is fetched where nothing is said.
const REFRESH: Duration = Duration::from_secs(6 * 3600);

const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
