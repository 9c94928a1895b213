//! The rule whose pattern looks most like a domain that no rule names: a name misspelt, here or there.
//!
//! It is asked for every domain that is not listed, whoever brings it, among as many rules as there are: what cannot be alike is passed
//! over by its length and its letters, and only the rest is compared letter by letter.

use std::fmt;

use super::Policy;
use super::domains::{Index, Pattern};
use super::finding::Place;
use super::rules::RuleName;
use crate::jid::Domain;
use crate::reason::Outcome;

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

/// A pattern as it is compared.
#[derive(Debug)]
pub(super) struct Spelt {
    pattern: Pattern,
    rule: usize,
    letters: u64,
}

impl Spelt {
    /// Every pattern of an index.
    pub(super) fn all(index: &Index) -> Vec<Spelt> {
        let spelt = |(pattern, rule): (Pattern, usize)| {
            let letters = letters(named(&pattern).as_str());
            Spelt { pattern, rule, letters }
        };
        index.patterns().map(spelt).collect()
    }
}

impl Policy {
    /// The rule whose pattern looks most like this domain; none where nothing looks alike. A wildcard counts for its parent, too:
    /// it does not stand for that domain itself (POL-02). And a domain counts for those above and below it, which it does not stand for
    /// either: whoever lists a server may have meant its rooms.
    pub fn nearest(&self, domain: &Domain) -> Option<Nearest> {
        let all = self.rules.near.get_or_init(|| Spelt::all(&self.rules.index));
        let name = domain.as_str();
        let above = domain.parent().unwrap_or_default();
        let (name, above) = ((name, letters(name)), (above, letters(above)));
        let likeness = |spelt: &Spelt| {
            let of = (named(&spelt.pattern).as_str(), spelt.letters);
            match &spelt.pattern {
                Pattern::Exact(other) => {
                    let lets_in =
                        || self.rules.list.get(spelt.rule).is_some_and(|r| r.outcome != Outcome::Deny);
                    let apart = apart(domain, other).filter(|_| lets_in());
                    distance(name, of).into_iter().chain(apart).min()
                }
                Pattern::Below(parent) if parent == domain => Some(0),
                Pattern::Below(_) => distance(above, of).into_iter().chain(distance(name, of)).min(),
            }
        };
        // Of two that are as near, the one that names a domain itself.
        let alike = all.iter().filter_map(|spelt| {
            likeness(spelt)
                .map(|far| (far, matches!(spelt.pattern, Pattern::Below(_)), &spelt.pattern, spelt.rule))
        });
        let (_, _, pattern, rule) = alike.min()?;
        let rule = self.rules.list.get(rule)?;
        Some(Nearest { pattern: pattern.to_string(), rule: rule.name.clone(), place: rule.place.clone() })
    }
}

fn named(pattern: &Pattern) -> &Domain {
    match pattern {
        Pattern::Below(domain) | Pattern::Exact(domain) => domain,
    }
}

/// How many labels one of these is below the other, if it is; what is below a top-level domain is not alike for that.
fn apart(one: &Domain, other: &Domain) -> Option<usize> {
    let labels = |domain: &Domain| domain.as_str().split('.').count();
    let (above, below) = if one.is_below(other) { (other, one) } else { (one, other) };
    (below.is_below(above) && !above.is_single_label()).then(|| labels(below) - labels(above))
}

/// Which letters occur, as far as 64 places tell them apart.
fn letters(name: &str) -> u64 {
    name.chars().fold(0, |letters, letter| letters | 1 << (u32::from(letter) % 64))
}

/// How many letters differ, where few enough do that one may be meant by the other.
fn distance((a, in_a): (&str, u64), (b, in_b): (&str, u64)) -> Option<usize> {
    let most = a.len().min(b.len()) / 6 + 1;
    // A letter that the other has not is at least one change.
    let apart = (in_a & !in_b).count_ones().max((in_b & !in_a).count_ones());
    if a.len().abs_diff(b.len()) > most || usize::try_from(apart).is_ok_and(|apart| apart > most) {
        return None;
    }
    Some(strsim::damerau_levenshtein(a, b)).filter(|far| *far <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        // What is passed over by its letters is not alike letter by letter either.
        #[test]
        fn what_is_passed_over_is_not_alike(a in "[a-d\u{fc}.]{0,20}", b in "[a-d\u{fc}.]{0,20}") {
            let most = a.len().min(b.len()) / 6 + 1;
            let far = strsim::damerau_levenshtein(&a, &b);
            let plain = (a.len().abs_diff(b.len()) <= most && far <= most).then_some(far);
            proptest::prop_assert_eq!(distance((&a, letters(&a)), (&b, letters(&b))), plain);
        }
    }
}
