//! The rule whose pattern looks most like a domain that no rule names: a name misspelt, here or there.

use std::fmt;

use super::Policy;
use super::domains::Pattern;
use super::finding::Place;
use super::rules::RuleName;
use crate::jid::Domain;

/// A rule that is near, and does not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The pattern that looks like the domain.
    pub pattern: String,
    /// The rule that it stands in.
    pub rule: RuleName,
    /// Where that rule stands.
    pub place: Place,
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in rule {} at {}", self.pattern, self.rule, self.place)
    }
}

impl Policy {
    /// The rule whose pattern looks most like this domain, of so many patterns at most; none where nothing looks alike, or
    /// where there are more patterns. A wildcard counts for its parent, too: it does not stand for that domain itself
    /// (POL-02).
    pub fn nearest(&self, domain: &Domain, most: usize) -> Option<Nearest> {
        if self.rules.index.len() > most {
            return None;
        }
        let name = domain.as_str();
        let likeness = |pattern: &Pattern| match pattern {
            Pattern::Exact(exact) => distance(name, exact.as_str()),
            Pattern::Below(parent) if parent == domain => Some(0),
            Pattern::Below(parent) => {
                let below = domain.parent().unwrap_or_default();
                distance(below, parent.as_str()).into_iter().chain(distance(name, parent.as_str())).min()
            }
        };
        let alike = self
            .rules
            .index
            .patterns()
            .filter_map(|(pattern, rule)| // Of two that are as near, the one that names a domain itself.
            likeness(&pattern).map(|far| (far, matches!(pattern, Pattern::Below(_)), pattern.to_string(), rule)));
        let (_, _, pattern, rule) = alike.min()?;
        let rule = self.rules.list.get(rule)?;
        Some(Nearest { pattern, rule: rule.name.clone(), place: rule.place.clone() })
    }
}

/// How many letters differ, where few enough do that one may be meant by the other.
fn distance(a: &str, b: &str) -> Option<usize> {
    let most = a.len().min(b.len()) / 6 + 1;
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    Some(strsim::damerau_levenshtein(a, b)).filter(|far| *far <= most)
}
