//! Which patches a stanza meets.

use super::super::question::StanzaKind;
use super::{Action, Condition, Patch, Patches};
use crate::jid::Domain;
use crate::policy::Day;
use crate::reason::{Direction, Flow};
use crate::xml::{Child, Element, Head, Kind, names};

/// On whose way a stanza is met.
#[derive(Clone, Copy, Debug)]
pub struct PatchQuestion<'a> {
    /// Between servers, or of clients.
    pub flow: Flow,
    /// Which way it travels, seen from the server behind.
    pub direction: Direction,
    /// The domain served here.
    pub hosted: &'a Domain,
    /// The day.
    pub today: Day,
}

/// What a stanza met, if it met any patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struck<'a> {
    /// It is refused, by this one.
    pub deny: Option<&'a Patch>,
    /// These direct children go, each by the first patch by name that cuts it.
    pub cut: Vec<(usize, &'a Patch)>,
    /// These would act, were they not in shadow mode.
    pub shadow: Vec<&'a Patch>,
}

impl Struck<'_> {
    /// Whether it met none.
    pub fn is_nothing(&self) -> bool {
        self.deny.is_none() && self.cut.is_empty() && self.shadow.is_empty()
    }
}

impl Patches {
    /// What this stanza meets; none for most, at the cost of one look for each direct child.
    pub fn judge(&self, head: &Head, asked: &PatchQuestion<'_>) -> Option<Struck<'_>> {
        let named = |child: &Child<'_>| self.sieve.may_hold(content(child.namespace()));
        if self.of_any.is_empty() && !head.children().any(|child| named(&child)) {
            return None;
        }
        let kind = match head.kind() {
            Kind::Iq => StanzaKind::Iq,
            Kind::Message => StanzaKind::Message,
            Kind::Presence => StanzaKind::Presence,
            Kind::Other => return None,
        };
        let mut struck = Struck::default();
        for (index, child) in head.children().enumerate().filter(|(_, child)| named(child)) {
            let Some(patches) = self.by_payload.get(content(child.namespace())) else { continue };
            // Read once, and only if somebody asks what is in it.
            let mut forest: Option<[Element; 1]> = None;
            for patch in patches.iter().filter_map(|patch| self.list.get(*patch)) {
                if !patch.fits(head, kind, asked) {
                    continue;
                }
                let found = patch.when.is_empty() || {
                    let forest = forest.get_or_insert_with(|| [child.tree()]);
                    patch.when.iter().all(|condition| condition.holds(forest))
                };
                if found {
                    struck.add(patch, Some(index));
                }
            }
        }
        let mut forest: Option<Vec<Element>> = None;
        for patch in self.of_any.iter().filter_map(|patch| self.list.get(*patch)) {
            if !patch.fits(head, kind, asked) {
                continue;
            }
            let found = patch.when.is_empty() || {
                let forest =
                    forest.get_or_insert_with(|| head.children().map(|child| child.tree()).collect());
                patch.when.iter().all(|condition| condition.holds(forest))
            };
            if found {
                struck.add(patch, None);
            }
        }
        (!struck.is_nothing()).then_some(struck)
    }
}

impl<'a> Struck<'a> {
    fn add(&mut self, patch: &'a Patch, child: Option<usize>) {
        match (patch.shadow, patch.action, child) {
            (true, _, _) => {
                if !self.shadow.iter().any(|known| known.name == patch.name) {
                    self.shadow.push(patch);
                }
            }
            (false, Action::Cut, Some(child)) => {
                if !self.cut.iter().any(|(known, _)| *known == child) {
                    self.cut.push((child, patch));
                }
            }
            (false, Action::Deny, _) | (false, Action::Cut, None) => {
                if self.deny.is_none_or(|known| patch.name < known.name) {
                    self.deny = Some(patch);
                }
            }
        }
    }
}

impl Patch {
    /// Whether all that is asked of the stanza itself holds.
    fn fits(&self, head: &Head, kind: StanzaKind, asked: &PatchQuestion<'_>) -> bool {
        self.kinds.contains(&kind)
            && self.larger_than.is_none_or(|most| head.octets_len() as u64 > most)
            && self.is_for(asked)
            && self.types.as_ref().is_none_or(|types| types.contains(&*head.type_().unwrap_or_default()))
    }
}

impl Condition {
    /// Whether as many elements as it asks for are there.
    fn holds(&self, forest: &[Element]) -> bool {
        let mut left = self.count;
        // Depth first, by a list of our own: how deep a stanza may be is a matter of limits elsewhere.
        let mut open: Vec<(&Element, u32)> = forest.iter().map(|element| (element, 1)).collect();
        while let Some((element, depth)) = open.pop() {
            if left == 0 {
                break;
            }
            if (self.depth.0..=self.depth.1).contains(&depth) && self.is_like(element) {
                left -= 1;
            }
            if depth < self.depth.1 {
                open.extend(element.elements().map(|child| (child, depth + 1)));
            }
        }
        left == 0
    }

    fn is_like(&self, element: &Element) -> bool {
        let attribute = |name: &String| {
            element.attr(name).is_some_and(|value| {
                self.value.as_ref().is_none_or(|wanted| wanted == value)
                    && self.value_over.is_none_or(|most| value.len() as u64 > most)
            })
        };
        self.element.as_ref().is_none_or(|name| element.name == name.as_str())
            && self.namespace.as_ref().is_none_or(|namespace| content(&element.namespace) == namespace)
            && self.attribute.as_ref().is_none_or(attribute)
            && self.text_over.is_none_or(|most| element.text().len() as u64 > most)
    }
}

/// Stanzas of clients and of servers are one thing here: the namespace is that of clients for both.
pub(super) fn content(namespace: &str) -> &str {
    if namespace == names::SERVER { names::CLIENT } else { namespace }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
