//! The rule whose pattern looks most like a domain that no rule names: a name misspelt, here or there.
//!
//! It is asked for every domain that is not listed, whoever brings it, among as many rules as there are. So what it costs has an end: of
//! many patterns only those are looked at that stand beside the domain in order, what cannot be alike is passed over by its length and
//! its letters, and of the rest so many letters are compared and no more.

use std::collections::HashSet;
use std::fmt;

use super::Rules;
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

/// What a search for the nearest rule came to, and what it cost: the latter has an end, however many rules there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The rule, if one looks alike.
    pub nearest: Option<Nearest>,
    /// Patterns that were looked at, at most [`Search::MOST`].
    pub looked_at: usize,
    /// Pairs of letters that were compared, at most [`Search::MOST_LETTERS`].
    pub letters: usize,
}

impl Search {
    /// Patterns that one search looks at.
    pub const MOST: usize = 512;

    /// Pairs of letters that one search compares.
    pub const MOST_LETTERS: usize = 1 << 17;
}

/// A pattern as it is compared.
#[derive(Debug)]
struct Spelt {
    pattern: Pattern,
    rule: usize,
    letters: u64,
}

impl Spelt {
    fn name(&self) -> &str {
        named(&self.pattern).as_str()
    }
}

/// Every pattern, in the order of the names and in that of the names read backwards: what is misspelt in one place has the same
/// beginning as what was meant, or the same end, and so stands beside it in one of the two.
#[derive(Debug, Default)]
pub(super) struct Speller {
    forward: Vec<Spelt>,
    /// Places in `forward`.
    backward: Vec<usize>,
}

impl Speller {
    /// Every pattern of an index.
    pub(super) fn of(index: &Index) -> Self {
        let spelt = |(pattern, rule): (Pattern, usize)| {
            let letters = letters(named(&pattern).as_str());
            Spelt { pattern, rule, letters }
        };
        let mut forward: Vec<Spelt> = index.patterns().map(spelt).collect();
        forward.sort_unstable_by(|a, b| a.name().cmp(b.name()).then_with(|| a.pattern.cmp(&b.pattern)));
        let mut backward: Vec<usize> = (0..forward.len()).collect();
        let ends = |place: &usize| forward.get(*place).map_or("", Spelt::name).bytes().rev();
        backward.sort_unstable_by(|a, b| ends(a).cmp(ends(b)));
        Self { forward, backward }
    }

    /// Where patterns stand that may look like one of these names, the likelier first: all of them where they are few.
    fn likely(&self, domain: &str, above: &str) -> Vec<usize> {
        if self.forward.len() <= Search::MOST {
            return (0..self.forward.len()).collect();
        }
        let mut likely = Vec::with_capacity(Search::MOST);
        let mut seen = HashSet::with_capacity(Search::MOST);
        let mut add = |place: usize| {
            if likely.len() < Search::MOST && seen.insert(place) {
                likely.push(place);
            }
        };
        // The domains above, which a rule may name: a domain and everything below it have one name.
        for name in std::iter::successors(Some(domain), |name| name.split_once('.').map(|(_, rest)| rest))
            .take(LABELS)
        {
            let first = self.forward.partition_point(|spelt| spelt.name() < name);
            let same = |place: &usize| self.forward.get(*place).is_some_and(|spelt| spelt.name() == name);
            (first..first + 2).filter(same).for_each(&mut add);
        }
        // Those below stand one behind the other when they are read backwards.
        let below = format!(".{domain}");
        let ends = |place: &usize| self.forward.get(*place).map_or("", Spelt::name).bytes().rev();
        let before = |name: &str| self.backward.partition_point(|place| ends(place).lt(name.bytes().rev()));
        let places = [
            (before(&below), true),
            (self.forward.partition_point(|spelt| spelt.name() < domain), false),
            (before(domain), true),
            (self.forward.partition_point(|spelt| spelt.name() < above), false),
            (before(above), true),
        ];
        for step in 0..BESIDE {
            for (place, backward) in places {
                for place in [place.checked_add(step), place.checked_sub(step + 1)].into_iter().flatten() {
                    match backward {
                        true => self.backward.get(place).copied().into_iter().for_each(&mut add),
                        false if place < self.forward.len() => add(place),
                        false => {}
                    }
                }
            }
        }
        likely
    }
}

impl Rules {
    /// What is searched in, made when it is asked for first.
    pub(super) fn speller(&self) -> &Speller {
        self.near.get_or_init(|| Speller::of(&self.index))
    }

    /// The rule whose pattern looks most like this domain, with what the search cost.
    pub(super) fn search_nearest(&self, domain: &Domain) -> Search {
        let speller = self.speller();
        let above = domain.parent().unwrap_or_default();
        let mut search = Search::default();
        let mut best = None;
        for spelt in
            speller.likely(domain.as_str(), above).into_iter().filter_map(|at| speller.forward.get(at))
        {
            search.looked_at += 1;
            let Some(far) = self.likeness(domain, above, spelt, &mut search.letters) else { continue };
            // Of two that are as near, the one that names a domain itself.
            let rank = (far, matches!(spelt.pattern, Pattern::Below(_)), &spelt.pattern, spelt.rule);
            if best.as_ref().is_none_or(|best| rank < *best) {
                best = Some(rank);
            }
        }
        search.nearest = best.and_then(|(_, _, pattern, rule)| {
            let rule = self.list.get(rule)?;
            Some(Nearest { pattern: pattern.to_string(), rule: rule.name.clone(), place: rule.place.clone() })
        });
        search
    }

    /// How far a pattern is from this domain, which has that parent; none: it is not alike, or enough letters were compared.
    fn likeness(&self, domain: &Domain, above: &str, spelt: &Spelt, spent: &mut usize) -> Option<usize> {
        let of = (spelt.name(), spelt.letters);
        let mut far = |name: &str| distance((name, letters(name)), of, spent);
        match &spelt.pattern {
            Pattern::Exact(other) => {
                let lets_in = || self.list.get(spelt.rule).is_some_and(|r| r.outcome != Outcome::Deny);
                let apart = apart(domain, other).filter(|_| lets_in());
                far(domain.as_str()).into_iter().chain(apart).min()
            }
            Pattern::Below(parent) if parent == domain => Some(0),
            Pattern::Below(_) => {
                let of_parent = far(above);
                of_parent.into_iter().chain(far(domain.as_str())).min()
            }
        }
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

/// How many letters differ, where few enough do that one may be meant by the other; and none where that would compare more letters
/// than one search may.
fn distance((a, in_a): (&str, u64), (b, in_b): (&str, u64), spent: &mut usize) -> Option<usize> {
    let most = a.len().min(b.len()) / 6 + 1;
    // A letter that the other has not is at least one change.
    let apart = (in_a & !in_b).count_ones().max((in_b & !in_a).count_ones());
    if a.len().abs_diff(b.len()) > most || usize::try_from(apart).is_ok_and(|apart| apart > most) {
        return None;
    }
    *spent = spent.checked_add(a.len() * b.len()).filter(|all| *all <= Search::MOST_LETTERS)?;
    Some(strsim::damerau_levenshtein(a, b)).filter(|far| *far <= most)
}

/// Neighbours that are looked at on each side.
const BESIDE: usize = 40;

/// Labels of a domain for which a rule of the same name is looked for: as many as a domain has.
const LABELS: usize = 128;

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
            proptest::prop_assert_eq!(distance((&a, letters(&a)), (&b, letters(&b)), &mut 0), plain);
        }
    }
}
