//! What the operator says of remote domains, by domain: one by its name, all below one, or all. The most specific holds.

use std::collections::HashMap;
use std::fmt;

use crate::jid::{AddressError, Domain};
use crate::policy::Pattern;

/// Whom something is said of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whom {
    /// Every remote domain.
    All,
    /// A domain, or all below one.
    Named(Pattern),
}

impl Whom {
    /// Reads `example.com`, `*.example.com` or `*`.
    ///
    /// # Errors
    /// What is wrong with the domain.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match text {
            "*" => Ok(Self::All),
            _ => Pattern::parse(text).map(Self::Named),
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Named(pattern) => pattern.fmt(f),
        }
    }
}

/// What is said, by whom it is said of.
#[derive(Clone, Debug)]
pub struct ByDomain<T> {
    all: Option<T>,
    below: HashMap<Domain, T>,
    exact: HashMap<Domain, T>,
}

impl<T> Default for ByDomain<T> {
    fn default() -> Self {
        Self { all: None, below: HashMap::new(), exact: HashMap::new() }
    }
}

impl<T> ByDomain<T> {
    /// What holds for this domain: what is said of it by name, else of the longest name above it, else of all.
    pub fn of(&self, domain: &Domain) -> Option<&T> {
        let parents =
            std::iter::successors(domain.parent(), |name| name.split_once('.').map(|(_, rest)| rest));
        let below = || parents.filter_map(|parent| self.below.get(parent)).next();
        self.exact.get(domain).or_else(below).or(self.all.as_ref())
    }
}

impl<T> FromIterator<(Whom, T)> for ByDomain<T> {
    fn from_iter<I: IntoIterator<Item = (Whom, T)>>(said: I) -> Self {
        let mut all = Self::default();
        for (whom, what) in said {
            match whom {
                Whom::All => all.all = Some(what),
                Whom::Named(Pattern::Below(parent)) => drop(all.below.insert(parent, what)),
                Whom::Named(Pattern::Exact(domain)) => drop(all.exact.insert(domain, what)),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // POL-03: as among rules, order never matters.
    #[test]
    fn the_most_specific_holds() {
        let mut said = [("*", 1), ("*.example", 2), ("*.agency.example", 3), ("a.agency.example", 4)];
        for _ in 0..2 {
            let routes: ByDomain<i32> =
                said.iter().map(|(whom, what)| (Whom::parse(whom).unwrap(), *what)).collect();
            let of = |domain| routes.of(&Domain::parse(domain).unwrap()).copied();
            assert_eq!(of("a.agency.example"), Some(4));
            assert_eq!(of("b.a.agency.example"), Some(3));
            assert_eq!(of("b.agency.example"), Some(3));
            assert_eq!(of("agency.example"), Some(2));
            assert_eq!(of("example"), Some(1));
            assert_eq!(of("elsewhere.test"), Some(1));
            said.reverse();
        }
        let none: ByDomain<i32> = [(Whom::parse("*.example").unwrap(), 1)].into_iter().collect();
        assert_eq!(none.of(&Domain::parse("example").unwrap()), None);
        assert!(Whom::parse("*example").is_err() && Whom::parse("").is_err());
        assert_eq!(Whom::parse("*.a.example").unwrap().to_string(), "*.a.example");
        assert_eq!(Whom::parse("*").unwrap().to_string(), "*");
    }
}
