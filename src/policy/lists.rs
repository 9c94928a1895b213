//! Lists of domains that somebody else keeps: what is on them, and how a rule asks several of them at once.
//!
//! An entry names a domain and all below it, as a ban does. A list of a million entries is one text and the places where
//! entries begin in it, in order: some twenty steps for each label of the domain that is asked about.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::jid::Domain;

/// A list, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    name: Arc<str>,
    /// All entries, one behind the other, in order.
    text: Box<str>,
    /// Where each begins.
    starts: Box<[u32]>,
    /// Lines that are no domain.
    unread: usize,
}

/// The most octets of a list.
pub const MOST: usize = 256 << 20;

impl List {
    /// Reads a list: one domain a line; empty lines, and what follows `#`, say nothing. A line that is no domain is left out and
    /// counted.
    pub fn read(name: &str, text: &str) -> Self {
        let mut unread = 0;
        let mut plain: Vec<&str> = Vec::new();
        let mut others: Vec<Domain> = Vec::new();
        for line in text.lines() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            match is_plain(entry) {
                true => plain.push(entry),
                false => match Domain::parse(entry) {
                    Ok(domain) => others.push(domain),
                    Err(_) => unread += 1,
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
        Self { name: Arc::from(name), text: all.into(), starts: starts.into(), unread }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many domains it names.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it names none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Lines that are no domain.
    pub fn unread(&self) -> usize {
        self.unread
    }

    /// Octets that it holds in memory.
    pub fn octets(&self) -> usize {
        self.text.len() + self.starts.len() * size_of::<u32>()
    }

    /// Its entries, one a line, as [`List::read`] reads them.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.text.len() + self.starts.len());
        for index in 0..self.starts.len() {
            text.push_str(self.at(index).unwrap_or_default());
            text.push('\n');
        }
        text
    }

    /// The entry at this place in the order.
    fn at(&self, index: usize) -> Option<&str> {
        let start = self.starts.get(index).map(|start| *start as usize)?;
        let end = self.starts.get(index + 1).map_or(self.text.len(), |end| *end as usize);
        self.text.get(start..end)
    }

    /// The entry that names this domain: itself, or one above it.
    pub fn entry<'a>(&self, domain: &'a str) -> Option<&'a str> {
        let above = |name: &&'a str| name.split_once('.').map(|(_, rest)| rest);
        std::iter::successors(Some(domain), above).find(|name| self.holds(name))
    }

    fn holds(&self, name: &str) -> bool {
        let (mut low, mut high) = (0, self.starts.len());
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
    /// It cannot be read.
    Unreadable,
    /// No good signature lies beside it.
    Unsigned,
}

impl Held {
    /// Every value, for tables and tests.
    pub const ALL: &'static [Held] =
        &[Self::Grown, Self::Shrunk, Self::Stale, Self::Unreadable, Self::Unsigned];

    /// The metric label and log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grown => "grown",
            Self::Shrunk => "shrunk",
            Self::Stale => "stale",
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

    /// What is in force where `before` was.
    fn after(&self, before: &Self) -> Self {
        let held = self.held.or_else(|| match (before.list.len(), self.list.len()) {
            (0, _) => None,
            _ if self.any_change => None,
            (was, now) if now > was && (now - was) > was / 3 => Some(Held::Grown),
            (was, now) if was > now && (was - now) > was / 3 => Some(Held::Shrunk),
            _ => None,
        });
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

    /// Which of the named lists name this domain, and how.
    pub(super) fn asked(&self, asked: &Quorum, domain: &Domain) -> Listed {
        let on = asked.lists.iter().filter_map(|name| {
            let entry = self.get(name)?.list.entry(domain.as_str())?;
            Some((name.clone(), entry.to_owned()))
        });
        Listed { on: on.collect(), of: asked.lists.len(), quorum: asked.quorum }
    }
}

/// How a rule asks lists.
#[derive(Clone, Debug, PartialEq, Eq)]
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
mod tests {
    use super::*;

    #[test]
    fn a_list_names_domains_and_what_is_below_them() {
        let text = "# who sends spam\n\nspam.example\n  Bad.Example.  # once more\nspam.example\nb\u{fc}cher.example\nnot a domain\n\
                    xn--bcher-kva.example\n10.0.0.1.example\na_b.example\n";
        let list = List::read("one", text);
        assert_eq!((list.name(), list.unread()), ("one", 2), "{list:?}");
        for (name, entry) in [
            ("spam.example", Some("spam.example")),
            ("a.b.spam.example", Some("spam.example")),
            ("notspam.example", None),
            ("example", None),
            ("bad.example", Some("bad.example")),
            ("b\u{fc}cher.example", Some("b\u{fc}cher.example")),
            ("a.b\u{fc}cher.example", Some("b\u{fc}cher.example")),
        ] {
            assert_eq!(list.entry(name), entry, "{name}");
        }
        // A copy says the same, and has no lines that say nothing.
        let copy = List::read("one", &list.to_text());
        assert_eq!(copy, List { unread: 0, ..list });
    }

    #[test]
    fn a_million_entries_are_found_each_and_no_other() {
        let text: String = (0..1_000_000).map(|n| format!("d{n}.host{}.example\n", n % 977)).collect();
        let list = List::read("large", &text);
        assert_eq!((list.len(), list.unread()), (1_000_000, 0));
        assert!(list.octets() < 40 << 20, "{}", list.octets());
        for n in (0..1_000_000).step_by(997) {
            let name = format!("d{n}.host{}.example", n % 977);
            assert_eq!(list.entry(&name), Some(name.as_str()));
            assert_eq!(list.entry(&format!("x{name}")), None);
        }
    }

    #[test]
    fn what_cannot_be_used_or_changes_too_much_stays_as_it_was() {
        let of = |count: usize| {
            Slot::of(List::read("one", &(0..count).map(|n| format!("d{n}.example\n")).collect::<String>()))
        };
        let after = |old: usize, new: Slot| {
            let lists = Lists::new(vec![new]).after(&Lists::new(vec![of(old)]));
            let slot = lists.get("one").unwrap();
            (slot.list.len(), slot.held)
        };
        assert_eq!(after(30, of(40)), (40, None));
        assert_eq!(after(30, of(41)), (30, Some(Held::Grown)));
        assert_eq!(after(30, of(20)), (20, None));
        assert_eq!(after(30, of(19)), (30, Some(Held::Shrunk)));
        assert_eq!(after(30, of(0)), (30, Some(Held::Shrunk)));
        assert_eq!(after(0, of(1000)), (1000, None));
        assert_eq!(after(30, Slot { any_change: true, ..of(1) }), (1, None));
        assert_eq!(after(30, Slot { held: Some(Held::Unsigned), ..of(0) }), (30, Some(Held::Unsigned)));
        assert_eq!(
            after(30, Slot { held: Some(Held::Stale), any_change: true, ..of(0) }),
            (30, Some(Held::Stale))
        );
    }
}
