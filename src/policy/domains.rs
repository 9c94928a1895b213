//! Domain patterns and which of them is the most specific.
//!
//! A pattern is a domain, or `*.` and a domain: one or more labels in front of it, never the bare domain, and only at a
//! dot (POL-02). The exact pattern is the most specific, then the wildcard with the most labels. The index answers in as
//! many steps as the domain has labels, however many rules there are.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::jid::{AddressError, Domain};

/// A domain, or everything below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// Every domain below this one.
    Below(Domain),
    /// This domain.
    Exact(Domain),
}

impl Pattern {
    /// Reads `example.com` or `*.example.com`.
    ///
    /// # Errors
    /// What is wrong with its domain.
    pub fn parse(text: &str) -> Result<Pattern, AddressError> {
        match text.strip_prefix("*.") {
            Some(parent) => Domain::parse(parent).map(Pattern::Below),
            None => Domain::parse(text).map(Pattern::Exact),
        }
    }

    /// Whether the pattern stands for this domain.
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            Self::Below(parent) => domain.is_below(parent),
            Self::Exact(exact) => domain == exact,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Exact(exact) => exact.fmt(f),
        }
    }
}

/// From pattern to rules, by index of the rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    exact: ByDomain<Vec<usize>>,
    below: ByDomain<Vec<usize>>,
}

impl Index {
    pub(super) fn insert(&mut self, pattern: Pattern, rule: usize) {
        match pattern {
            Pattern::Below(parent) => self.below.entry(parent).or_default().push(rule),
            Pattern::Exact(exact) => self.exact.entry(exact).or_default().push(rule),
        }
    }

    /// Every pattern, with the first rule that it stands in.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (Pattern, usize)> {
        let first = |rules: &Vec<usize>| rules.first().copied();
        let exact = self.exact.iter().map(move |(d, rules)| (Pattern::Exact(d.clone()), first(rules)));
        let below = self.below.iter().map(move |(d, rules)| (Pattern::Below(d.clone()), first(rules)));
        exact.chain(below).filter_map(|(pattern, rule)| rule.map(|rule| (pattern, rule)))
    }

    /// The rules with this very pattern.
    pub(super) fn at(&self, pattern: &Pattern) -> &[usize] {
        let found = match pattern {
            Pattern::Below(parent) => self.below.get(parent),
            Pattern::Exact(exact) => self.exact.get(exact),
        };
        found.map_or(&[], Vec::as_slice)
    }

    /// Every rule whose pattern stands for `domain`, the most specific first. The second value tells the wildcard's parent.
    pub(super) fn candidates<'a>(
        &'a self,
        domain: &'a Domain,
    ) -> impl Iterator<Item = (usize, Option<&'a str>)> {
        let exact = self.exact.get(domain).into_iter().flatten().map(|&rule| (rule, None));
        let parents =
            std::iter::successors(domain.parent(), |name| name.split_once('.').map(|(_, rest)| rest));
        let below = parents.flat_map(|parent| {
            self.below.get(parent).into_iter().flatten().map(move |&rule| (rule, Some(parent)))
        });
        exact.chain(below)
    }
}

/// What is known of domains, by their names. The operator writes these names and nobody else, so none is there that was chosen to have
/// the place of another; and a judgement looks three of them up.
pub(super) type ByDomain<T> = HashMap<Domain, T, BuildHasherDefault<NameHasher>>;

/// Eight octets at a time: a judgement takes two thirds of the instructions that it does with the hasher for names that unproven peers choose.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NameHasher(u64);

impl NameHasher {
    fn add(&mut self, word: u64) {
        let (low, high) = (self.0 ^ word).carrying_mul(ODD, 0);
        self.0 = low ^ high;
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, octets: &[u8]) {
        for word in octets.as_chunks().0 {
            self.add(u64::from_le_bytes(*word));
        }
        // Some of them a second time, where that saves a look at each.
        self.add(match octets.last_chunk() {
            Some(last) => u64::from_le_bytes(*last),
            None => octets.iter().fold(0, |word, octet| word << 8 | u64::from(*octet)),
        });
    }

    /// What ends each name tells none from another.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// 2^64 by the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::*;

    // A judgement costs the same however many rules there are: names that are much alike, as operators have them, do not share places.
    #[test]
    fn names_that_are_alike_have_places_of_their_own() {
        let hasher = BuildHasherDefault::<NameHasher>::default();
        for spell in [
            (|n| format!("d{n}.example")) as fn(usize) -> String,
            |n| format!("{n}.xmpp.example.org"),
            |n| format!("chat.{n:05}.example"),
            |n| format!("x{n}"),
            |n| format!("{}.example", "a".repeat(n % 60 + 1) + &n.to_string()),
        ] {
            let hashes: Vec<u64> = (0..16_384).map(|n| hasher.hash_one(spell(n).as_str())).collect();
            let different =
                |of: fn(u64) -> u64| hashes.iter().map(|hash| of(*hash)).collect::<HashSet<_>>().len();
            assert_eq!(different(|hash| hash), hashes.len(), "{}", spell(7));
            // By chance 10,356 of 16,384 places are taken, and every one of 128 marks.
            assert!(
                different(|hash| hash & 0x3fff) > 9_000,
                "{}: {}",
                spell(7),
                different(|hash| hash & 0x3fff)
            );
            assert_eq!(different(|hash| hash >> 57), 128, "{}", spell(7));
        }
    }
}
