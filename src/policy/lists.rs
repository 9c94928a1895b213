//! Lists that somebody else keeps: what is on them, and how a rule asks several of them at once.
//!
//! An entry names a domain and all below it, as a ban does, or, where a list is of digests, one bare address. A list of a million
//! domains is one text and the places where entries begin in it, in order: some twenty steps for each label of the domain that is
//! asked about. Digests lie one behind the other, in order.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use crate::jid::Domain;

/// A list, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    name: Arc<str>,
    entries: Entries,
    /// Lines that are no entry.
    unread: LeftOut,
    /// Lines that name a public suffix.
    broad: LeftOut,
}

/// Lines of a list that count for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub lines: usize,
    /// The first of them, from 1.
    pub first: usize,
}

impl LeftOut {
    fn one_more(&mut self, index: usize) {
        if self.lines == 0 {
            self.first = index + 1;
        }
        self.lines += 1;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entries {
    Domains {
        /// All entries, one behind the other, in order.
        text: Box<str>,
        /// Where each begins.
        starts: Box<[u32]>,
    },
    /// Digests of domains and of bare addresses, in order.
    Digests(Box<[[u8; 32]]>),
}

/// What stands in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListFormat {
    /// One domain a line.
    #[default]
    Domains,
    /// One SHA-256 a line, in hexadecimal, of a domain or of a bare address as it is compared: in UTF-8, prepared, in lower case where
    /// that says so; no resource, no scheme, no line end.
    JidSha256,
}

impl ListFormat {
    /// The words in files.
    pub const ALL: &'static [(&'static str, ListFormat)] =
        &[("domains", Self::Domains), ("jid-sha256", Self::JidSha256)];

    /// What an entry is called.
    pub const fn entry(self) -> &'static str {
        match self {
            Self::Domains => "domain",
            Self::JidSha256 => "SHA-256 in hexadecimal",
        }
    }
}

/// The most octets of a list.
pub const MOST: usize = 256 << 20;

impl List {
    /// Reads a list of that format. What is no entry is left out and counted.
    pub fn read_as(name: &str, text: &str, format: ListFormat) -> Self {
        match format {
            ListFormat::Domains => Self::read(name, text),
            ListFormat::JidSha256 => Self::read_digests(name, text),
        }
    }

    /// One of digests that names these domains and bare addresses and nobody else.
    pub(super) fn naming(name: &str, entries: &[&str]) -> Self {
        let of = |entry: &&str| digest(&SHA256, entry.as_bytes()).as_ref().try_into().ok();
        let mut digests: Vec<[u8; 32]> = entries.iter().filter_map(of).collect();
        digests.sort_unstable();
        digests.dedup();
        Self::of(name, Entries::Digests(digests.into()))
    }

    fn of(name: &str, entries: Entries) -> Self {
        let (unread, broad) = (LeftOut::default(), LeftOut::default());
        Self { name: Arc::from(name), entries, unread, broad }
    }

    fn read_digests(name: &str, text: &str) -> Self {
        let (mut unread, mut digests) = (LeftOut::default(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            match (entry.is_empty(), octets(entry)) {
                (true, _) => {}
                (false, Some(digest)) => digests.push(digest),
                (false, None) => unread.one_more(index),
            }
        }
        digests.sort_unstable();
        digests.dedup();
        Self { unread, ..Self::of(name, Entries::Digests(digests.into())) }
    }

    /// Reads a list: one domain a line; empty lines, and what follows `#`, say nothing. A line that is no domain is left out and
    /// counted, and so is a public suffix: who wrote `com` did not mean to shut out half of the world.
    pub fn read(name: &str, text: &str) -> Self {
        let (mut unread, mut broad) = (LeftOut::default(), LeftOut::default());
        let mut plain: Vec<&str> = Vec::new();
        let mut others: Vec<Domain> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            match is_plain(entry) {
                true if Domain::is_suffix(entry) => broad.one_more(index),
                true => plain.push(entry),
                false => match Domain::parse(entry) {
                    Ok(domain) if domain.is_public_suffix() => broad.one_more(index),
                    Ok(domain) => others.push(domain),
                    Err(_) => unread.one_more(index),
                },
            }
        }
        let mut entries: Vec<&str> = plain;
        entries.extend(others.iter().map(Domain::as_str));
        entries.sort_unstable();
        entries.dedup();
        let octets = entries.iter().map(|entry| entry.len()).sum::<usize>().min(MOST);
        let (mut all, mut starts) = (String::with_capacity(octets), Vec::with_capacity(entries.len()));
        for entry in entries {
            let Ok(start) = u32::try_from(all.len()) else { break };
            starts.push(start);
            all.push_str(entry);
        }
        let entries = Entries::Domains { text: all.into(), starts: starts.into() };
        Self { unread, broad, ..Self::of(name, entries) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        match &self.entries {
            Entries::Domains { starts, .. } => starts.len(),
            Entries::Digests(digests) => digests.len(),
        }
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it may name single addresses.
    pub fn is_of_digests(&self) -> bool {
        matches!(self.entries, Entries::Digests(_))
    }

    /// Lines that are no entry.
    pub fn unread(&self) -> LeftOut {
        self.unread
    }

    /// Lines that name a public suffix, under which everybody may have a name.
    pub fn broad(&self) -> LeftOut {
        self.broad
    }

    /// Octets that it holds in memory.
    pub fn octets(&self) -> usize {
        match &self.entries {
            Entries::Domains { text, starts } => text.len() + size_of_val(&**starts),
            Entries::Digests(digests) => size_of_val(&**digests),
        }
    }

    /// Its entries, one a line, as [`List::read`] reads them.
    pub fn to_text(&self) -> String {
        let mut all = String::new();
        match &self.entries {
            Entries::Domains { text, starts } => {
                all.reserve(text.len() + starts.len());
                for index in 0..starts.len() {
                    all.push_str(self.at(index).unwrap_or_default());
                    all.push('\n');
                }
            }
            Entries::Digests(digests) => {
                all.reserve(digests.len() * 65);
                for digest in digests {
                    for octet in digest {
                        for digit in [octet >> 4, octet & 15] {
                            all.extend(char::from_digit(u32::from(digit), 16));
                        }
                    }
                    all.push('\n');
                }
            }
        }
        all
    }

    /// The entry at this place in the order.
    fn at(&self, index: usize) -> Option<&str> {
        let Entries::Domains { text, starts } = &self.entries else { return None };
        let start = starts.get(index).map(|start| *start as usize)?;
        let end = starts.get(index + 1).map_or(text.len(), |end| *end as usize);
        text.get(start..end)
    }

    /// The entry that names this domain: itself, or one above it. A public suffix is asked of nobody.
    pub fn entry<'a>(&self, domain: &'a Domain) -> Option<&'a str> {
        let above = |name: &&'a str| name.split_once('.').map(|(_, rest)| rest);
        let labels = domain.above_suffix();
        std::iter::successors(Some(domain.as_str()), above).take(labels).find(|name| self.holds(name))
    }

    /// Whether it names this bare address.
    pub fn names_address(&self, bare: &str) -> bool {
        self.is_of_digests() && self.holds(bare)
    }

    fn holds(&self, name: &str) -> bool {
        if let Entries::Digests(digests) = &self.entries {
            let found = digest(&SHA256, name.as_bytes());
            return digests.binary_search_by(|entry| entry.as_slice().cmp(found.as_ref())).is_ok();
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at(middle).map(|entry| entry.cmp(name)) {
                Some(std::cmp::Ordering::Equal) => return true,
                Some(std::cmp::Ordering::Less) => low = middle + 1,
                _ => high = middle,
            }
        }
        false
    }
}

/// A digest in hexadecimal.
fn octets(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (octet, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *octet = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(digest)
}

/// Whether it is a canonical domain as it stands; most entries are, and reading a million of them should not take long.
fn is_plain(entry: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        let octets = label.as_bytes();
        (1..=63).contains(&octets.len())
            && octets.iter().all(|b| letter(*b) || *b == b'-')
            && octets.first().is_some_and(|b| letter(*b))
            && octets.last().is_some_and(|b| letter(*b))
            && !label.starts_with("xn--")
            && octets.get(2..4) != Some(b"--")
    };
    // An address in numbers is read by who knows of them.
    let numbers = entry.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    entry.len() <= 253 && !numbers && entry.split('.').all(label)
}

/// Why what lies on the disk is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Held {
    /// More than a third more than before.
    Grown,
    /// More than a third less than before.
    Shrunk,
    /// Older than it may be.
    Stale,
    /// It is to be fetched, and was not yet.
    Unfetched,
    /// It cannot be read.
    Unreadable,
    /// No good signature lies beside it.
    Unsigned,
}

impl Held {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Held] =
        &[Self::Grown, Self::Shrunk, Self::Stale, Self::Unfetched, Self::Unreadable, Self::Unsigned];

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grown => "grown",
            Self::Shrunk => "shrunk",
            Self::Stale => "stale",
            Self::Unfetched => "unfetched",
            Self::Unreadable => "unreadable",
            Self::Unsigned => "unsigned",
        }
    }

    /// In words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Grown => "it names more than a third more than before",
            Self::Shrunk => "it names more than a third less than before",
            Self::Stale => "it is older than it may be",
            Self::Unfetched => "it was not fetched yet",
            Self::Unreadable => "it cannot be read",
            Self::Unsigned => "no good signature lies beside it",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Grown | Self::Shrunk => {
                "look at it; if it is right, write `change: any` for this list, and reload"
            }
            Self::Stale => "look why nobody renews it",
            Self::Unfetched => "wait a moment; the log says what is in the way",
            Self::Unreadable => "check the path, its permissions and its size",
            Self::Unsigned => "get the signature (`.minisig`) that belongs to it, or look who has changed it",
        }
    }
}

/// A list in force, and why the file it came from is not, if that is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What rules ask.
    pub list: Arc<List>,
    /// Why what lies on the disk is not taken.
    pub held: Option<Held>,
    /// Whether all of it may change at once.
    pub any_change: bool,
}

impl Slot {
    /// This list, as it is.
    pub fn of(list: List) -> Self {
        Self { list: Arc::new(list), held: None, any_change: false }
    }

    /// Why it is not taken where one with so many entries was before.
    pub fn held_after(&self, was: usize) -> Option<Held> {
        self.held.or_else(|| match (was, self.list.len()) {
            (0, _) => None,
            _ if self.any_change => None,
            (was, now) if now > was && (now - was) > was / 3 => Some(Held::Grown),
            (was, now) if was > now && (was - now) > was / 3 => Some(Held::Shrunk),
            _ => None,
        })
    }

    /// What is in force where `before` was.
    fn after(&self, before: &Self) -> Self {
        let held = self.held_after(before.list.len());
        let list = if held.is_some() { &before.list } else { &self.list };
        Self { list: Arc::clone(list), held, any_change: self.any_change }
    }
}

/// All lists of a policy, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists(Vec<Slot>);

impl Lists {
    /// These lists.
    pub fn new(mut lists: Vec<Slot>) -> Self {
        lists.sort_by(|a, b| a.list.name.cmp(&b.list.name));
        Self(lists)
    }

    /// Each of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter()
    }

    /// The list of that name.
    pub fn get(&self, name: &str) -> Option<&Slot> {
        self.0.binary_search_by(|slot| (*slot.list.name).cmp(name)).ok().and_then(|at| self.0.get(at))
    }

    /// What is in force after `before`: what cannot be used, or has changed too much at once, stays as it was.
    pub fn after(&self, before: &Lists) -> Lists {
        let slots = self
            .iter()
            .map(|slot| before.get(slot.list.name()).map_or_else(|| slot.clone(), |old| slot.after(old)));
        Lists(slots.collect())
    }

    /// Whether some list may name single addresses.
    pub(super) fn name_addresses(&self) -> bool {
        self.0.iter().any(|slot| slot.list.is_of_digests() && !slot.list.is_empty())
    }

    /// Which of the named lists name this domain, or this bare address there, and how.
    pub(super) fn asked(&self, asked: &Quorum, domain: &Domain, bare: Option<&str>) -> Listed {
        let on = asked.lists.iter().filter_map(|name| {
            let list = &self.get(name)?.list;
            let of_address = || bare.filter(|bare| list.names_address(bare));
            let entry = list.entry(domain).or_else(of_address)?;
            Some((name.clone(), entry.to_owned()))
        });
        Listed { on: on.collect(), of: asked.lists.len(), quorum: asked.quorum }
    }
}

/// How a rule asks lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Quorum {
    /// Their names.
    pub(super) lists: BTreeSet<String>,
    /// How many of them must name a domain.
    pub(super) quorum: usize,
}

/// What lists say of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The lists that name it, each with the entry.
    pub on: Vec<(String, String)>,
    /// How many were asked.
    pub of: usize,
    /// How many are enough.
    pub quorum: usize,
}

impl Listed {
    /// Whether they are enough.
    pub fn is_enough(&self) -> bool {
        self.on.len() >= self.quorum
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (list, entry)) in self.on.iter().enumerate() {
            write!(f, "{}{list} ({entry})", if index == 0 { "" } else { ", " })?;
        }
        if self.on.is_empty() {
            f.write_str("none")?;
        }
        write!(f, "; {} of {} lists, {} are enough", self.on.len(), self.of, self.quorum)
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
