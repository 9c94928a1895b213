//! Lists that somebody else keeps: what the configuration says of them, and what lies on the disk.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minisign_verify::{PublicKey, Signature};

use super::list_file::{Fetch, ListFile};
use super::scalars::ScalarReader;
use super::spec;
use crate::dns::DialGuard;
use crate::jid::Domain;
use crate::net::web::Url;
use crate::policy::{Finding, Held, List, ListFormat, Lists, Place, Scalar, Slot};

/// Reads `lists:`.
pub(super) fn lists(spec: &spec::FileSpec, state: Option<&Path>, reader: &mut ScalarReader) -> Vec<ListFile> {
    let mut found: Vec<ListFile> = Vec::new();
    for at in spec.lists.iter().flat_map(|lists| &lists.value) {
        let list = &at.value;
        let name = reader.needed(at, &list.name, "name", "spammers");
        let fetch = fetched(list, state, reader);
        let file = match (&list.file, &list.url) {
            (Some(file), None) => Some(reader.path(file)).filter(|_| !file.value.is_empty()),
            (None, None) => {
                reader.error(
                    at,
                    "`file` is missing, and `url` as well",
                    "add `file: lists/spammers.txt`, or `url: https://lists.example/spam.txt` with `state:` for the gateway",
                );
                None
            }
            (Some(file), Some(_)) => {
                reader.error(file, "a list is a file or is fetched, not both", "remove `file`, or `url`");
                None
            }
            // One that is wrong has been told.
            (None, Some(_)) => state
                .zip(name)
                .map(|(folder, name)| folder.join(format!("{}{}{}", FETCHED.0, name.value, FETCHED.1))),
        };
        let formats: Vec<(&str, ListFormat)> = ListFormat::ALL.to_vec();
        let format =
            list.format.as_ref().and_then(|word| reader.choose(word, "the format of a list", &formats));
        let expires = list.expires.as_ref().and_then(|word| expires(word, fetch.as_ref(), reader));
        let change = list
            .change
            .as_ref()
            .and_then(|word| reader.choose(word, "how much may change", &[("third", false), ("any", true)]));
        let minisign = list.verify.as_ref().and_then(|verify| {
            let key = reader.needed(verify, &verify.value.minisign, "minisign", "RWQf6LRC..")?;
            if PublicKey::from_base64(key.value.trim()).is_err() {
                reader.error(
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
            reader.error(
                name,
                format!("\"{}\" cannot be the name of a list", name.value),
                "use up to 64 letters, digits, `-`, `_` and `.`",
            );
        }
        if found.iter().any(|other| other.name == name.value) {
            reader.error(name, format!("two lists are called \"{}\"", name.value), "give each its own name");
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
            place: reader.place(at),
        });
    }
    found
}

/// `url` and `refresh` of a list.
fn fetched(list: &spec::ListSpec, state: Option<&Path>, reader: &mut ScalarReader) -> Option<Fetch> {
    let Some(url) = &list.url else {
        if let Some(refresh) = &list.refresh {
            reader.error(refresh, "`refresh` without `url`", "a file is taken over when it has changed");
        }
        return None;
    };
    if let Err(why) = fetchable(&url.value) {
        let message = format!("\"{}\" is no address from where a list is fetched: {why}", url.value);
        reader.error(url, message, "write it like https://lists.example/spam.txt");
    }
    if state.is_none() {
        reader.error(
            url,
            "a list that is fetched needs a folder to lie in",
            "name one for the whole gateway: `state: /var/lib/gatehouse`",
        );
    }
    let refresh = match &list.refresh {
        None => REFRESH,
        Some(word) => match super::units::duration(&word.value) {
            Ok(time) if (SHORTEST..=LONGEST).contains(&time) => time,
            Ok(_) => {
                reader.error(word, "a list is fetched anew after 5 s to 30 days", "write it like 6h or 1d");
                REFRESH
            }
            Err(message) => {
                reader.error(word, message, "");
                REFRESH
            }
        },
    };
    Some(Fetch { url: url.value.clone(), refresh })
}

/// Whether a list may be fetched from there, as far as that can be said without asking anybody.
fn fetchable(url: &str) -> Result<(), String> {
    let place = Url::parse(url)?;
    if url.contains('#') {
        return Err("it has a fragment (`#`), which no server is told".to_owned());
    }
    if place.host.parse::<IpAddr>().is_ok() {
        return Err(
            "it names an address in numbers, and the certificate there must be one of a name".to_owned()
        );
    }
    Domain::parse(&place.host).map_err(|error| format!("{:?} is no name of a host: {error}", place.host))?;
    match DialGuard::default().admits_port(place.port) {
        true => Ok(()),
        false => Err(format!("port {} is not dialled; 443, 5269 and those from 1024 on are", place.port)),
    }
}

/// How old a list may be.
fn expires(word: &Scalar, fetch: Option<&Fetch>, reader: &mut ScalarReader) -> Option<Duration> {
    match super::units::duration(&word.value) {
        Ok(time) if time.is_zero() => {
            reader.error(
                word,
                "a list that may be no age is held for ever",
                "write it like 3d, or leave it out for any age",
            );
            None
        }
        Ok(time) => {
            if let Some(fetch) = fetch.filter(|fetch| fetch.refresh >= time) {
                let refresh = super::units::time_shown(&fetch.refresh);
                reader.warn(
                    word,
                    format!("this list is held before it is fetched anew, after {refresh}"),
                    "let `expires` be twice `refresh` at least",
                );
            }
            Some(time)
        }
        Err(message) => {
            reader.error(word, message, "");
            None
        }
    }
}

/// Lists that no rule asks, in the policy in force or in its shadow.
pub fn unasked(files: &[ListFile], asked: &BTreeSet<&str>) -> Vec<Finding> {
    let told = |list: &ListFile| {
        Finding::warning(
            list.place.clone(),
            format!("no rule asks the list \"{}\", so it keeps nobody out", list.name),
            format!("write a rule, `verdict: deny, lists: [{}]`, or take the list out", list.name),
        )
    };
    files.iter().filter(|list| !asked.contains(&*list.name)).map(told).collect()
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
        // A mark says nothing in a list, and is signed with it.
        let marked = format!("\u{feff}{text}");
        if ![&text, &marked].into_iter().any(|text| is_signed(key, text, &signature)) {
            return Err(Held::Unsigned);
        }
    }
    Ok(List::read_as(&list.name, &text, list.format))
}

/// Whether that is the signature of this text by that key.
pub fn is_signed(key: &str, text: &str, signature: &str) -> bool {
    let signature = signature.strip_prefix('\u{feff}').unwrap_or(signature);
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

/// That a list is held, and why.
pub fn held(list: &ListFile, why: Held) -> Finding {
    let message = format!("the list \"{}\" is held: {}", list.name, why.words());
    Finding::warning(Place::whole(&list.file.display().to_string()), message, why.remedy())
}

/// What is to be looked at: files that are held, and lines that are no entry.
pub fn warnings(files: &[ListFile], lists: &Lists) -> Vec<Finding> {
    let mut findings = Vec::new();
    for list in files {
        let Some(slot) = lists.get(&list.name) else { continue };
        let place = Place::whole(&list.file.display().to_string());
        findings.extend(slot.held.map(|why| held(list, why)));
        let entry = list.format.entry();
        for (left_out, what) in [
            (slot.list.unread(), format!("is no {entry}")),
            (slot.list.broad(), "is a public suffix, below which everybody may have a domain".to_owned()),
        ] {
            let (Some(more), Ok(line)) = (left_out.lines.checked_sub(1), u32::try_from(left_out.first))
            else {
                continue;
            };
            let more = match more {
                0 => String::new(),
                1 => ", and so is another line".to_owned(),
                more => format!(", and so are {more} other lines"),
            };
            findings.push(Finding::warning(
                Place { line, ..place.clone() },
                format!("what stands here in the list \"{}\" {what}{more}", list.name),
                "it is left out; tell who keeps the list",
            ));
        }
    }
    findings
}

/// The name of a list that was fetched, around its own, in the folder `state`.
pub const FETCHED: (&str, &str) = ("list-", ".fetched");

/// How often a list is fetched where nothing is said.
pub(super) const REFRESH: Duration = Duration::from_secs(6 * 3600);

const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
