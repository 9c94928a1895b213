//! Domain patterns and which of them is the most specific.
//!
//! A pattern is a domain, or `*.` and a domain: one or more labels in front of it, never the bare domain, and only at a
//! dot (POL-02). The exact pattern is the most specific, then the wildcard with the most labels. The index answers in as
//! many steps as the domain has labels, however many rules there are.

use std::collections::HashMap;
use std::fmt;

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
    exact: HashMap<Domain, Vec<usize>>,
    below: HashMap<Domain, Vec<usize>>,
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
