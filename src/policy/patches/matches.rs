//! Which patches look at a stanza, and what they would make of it: for people.

use std::fmt;

use serde::Serialize;

use super::judge::PatchQuestion;
use super::{Patch, Patches};
use crate::policy::finding::Place;
use crate::policy::question::StanzaKind;
use crate::xml::Head;

/// A patch, as explanations name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PatchWord {
    /// Its name.
    pub patch: String,
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// `deny` or `cut`.
    pub action: &'static str,
    /// `act` or `shadow`.
    pub mode: &'static str,
    /// Whether a stanza was shown that it is about; without one it only looks at such stanzas.
    pub meets: bool,
    /// Why it is there.
    pub why: String,
}

impl PatchWord {
    fn of(patch: &Patch, meets: bool) -> Self {
        Self {
            patch: patch.name.to_string(),
            place: patch.place.clone(),
            action: patch.action.label(),
            mode: if patch.shadow { "shadow" } else { "act" },
            meets,
            why: patch.reason.clone(),
        }
    }
}

impl fmt::Display for PatchWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shadow = if self.mode == "shadow" { ", in shadow mode" } else { "" };
        let what = if self.meets { "meets this stanza" } else { "looks at such stanzas" };
        write!(f, "{} at {} ({}{shadow}): {what}: {}", self.patch, self.place, self.action, self.why)
    }
}

impl Patches {
    /// Those that look at stanzas on this way, of this kind and with this payload as far as they are named, in the order of their names.
    pub fn looking_at(
        &self,
        asked: &PatchQuestion<'_>,
        kind: Option<StanzaKind>,
        payload: Option<&str>,
    ) -> Vec<PatchWord> {
        let looks = |patch: &&Patch| {
            patch.is_for(asked)
                && kind.is_none_or(|kind| patch.kinds.contains(&kind))
                && payload.is_none_or(|namespace| patch.payload.as_ref().is_none_or(|own| own == namespace))
        };
        self.list.iter().filter(looks).map(|patch| PatchWord::of(patch, false)).collect()
    }

    /// Those that this stanza meets, the one that decides first.
    pub fn met_by(&self, head: &Head, asked: &PatchQuestion<'_>) -> Vec<PatchWord> {
        let Some(struck) = self.judge(head, asked) else { return Vec::new() };
        let mut all: Vec<PatchWord> = Vec::new();
        let cut = struck.cut.iter().map(|(_, patch)| *patch);
        for patch in struck.deny.into_iter().chain(cut).chain(struck.shadow.iter().copied()) {
            let word = PatchWord::of(patch, true);
            if !all.contains(&word) {
                all.push(word);
            }
        }
        all
    }
}
