//! What patches say of a stanza that would pass (POL-12): told and counted here, for all who pass one on.

use super::event::{Event, Stroke};
use super::turn::Turn;
use crate::jid::Domain;
use crate::policy::{Action, Patch, PatchQuestion};
use crate::reason::{Direction, Flow};
use crate::stream::Pair;
use crate::xml::Head;

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Patched {
    /// It passes as it would.
    Untouched,
    /// It passes without these direct children.
    Cut(Vec<usize>),
    /// It does not pass.
    Denied,
}

impl Turn<'_> {
    /// What the patches of this way say of a stanza.
    pub(super) fn patched(
        &mut self,
        head: &Head,
        (flow, direction): (Flow, Direction),
        hosted: &Domain,
        pair: Option<&Pair>,
    ) -> Patched {
        // The policy outlives the step, and what is noted is no part of it.
        let policy = self.policy;
        let Some(patches) = policy.patches() else { return Patched::Untouched };
        let asked = PatchQuestion { flow, direction, hosted, today: policy.today() };
        let Some(struck) = patches.judge(head, &asked) else { return Patched::Untouched };
        let mut note = |patch: &Patch, stroke| {
            let (name, place) = (patch.name.clone(), patch.place.clone());
            self.note(Event::Patched {
                pair: pair.cloned(),
                hosted: hosted.clone(),
                patch: name,
                place,
                stroke,
            });
        };
        for patch in &struck.shadow {
            note(patch, Stroke::Shadow(patch.action));
        }
        if let Some(patch) = struck.deny {
            note(patch, Stroke::Acted(Action::Deny));
            return Patched::Denied;
        }
        let mut told: Vec<&str> = Vec::new();
        for (_, patch) in &struck.cut {
            if !told.contains(&patch.name.as_str()) {
                told.push(patch.name.as_str());
                note(patch, Stroke::Acted(Action::Cut));
            }
        }
        match struck.cut.is_empty() {
            true => Patched::Untouched,
            false => Patched::Cut(struck.cut.iter().map(|(child, _)| *child).collect()),
        }
    }
}
