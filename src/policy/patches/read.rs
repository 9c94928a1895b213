//! From files of patches to a compiled set, or to every finding at once.

use std::collections::{BTreeSet, HashMap};

use super::super::cases::CaseOutcome;
use super::super::day::Day;
use super::super::file::Scalar;
use super::super::finding::{Finding, Place, Placed};
use super::super::question::StanzaKind;
use super::super::read::{Reader, octets};
use super::super::rules::RuleName;
use super::cases;
use super::file::{ConditionSpec, PatchSource, PatchSpec};
use super::judge::content;
use super::{Action, Condition, Patch, Patches};
use crate::jid::Domain;
use crate::reason::Direction;

/// Makes the set and tries every case. `hosted` are the domains served here; none: any may be named. Findings of what keeps no
/// set from being made are beside it.
///
/// # Errors
/// Every finding; a failing case is one.
pub fn compile(
    sources: &[PatchSource],
    hosted: Option<&[Domain]>,
    today: Day,
) -> Result<(Patches, Vec<CaseOutcome>, Vec<Finding>), Vec<Finding>> {
    let (patches, mut findings) = build(sources, hosted, today);
    let Some(patches) = patches else { return Err(findings) };
    let outcomes = cases::run(&patches, sources, today);
    findings.extend(outcomes.iter().filter_map(|outcome| outcome.finding.clone()));
    findings.sort();
    match findings.iter().any(Finding::is_error) {
        true => Err(findings),
        false => Ok((patches, outcomes, findings)),
    }
}

/// Tries the cases of one file by itself: how they came out, and what is to be said beside. None if `findings` has an error, or
/// gets one here.
pub fn try_alone(source: &PatchSource, today: Day, findings: &mut Vec<Finding>) -> Option<Vec<CaseOutcome>> {
    let sources = std::slice::from_ref(source);
    let (patches, more) = build(sources, None, today);
    findings.extend(more);
    let sound = !findings.iter().any(Finding::is_error);
    patches.filter(|_| sound).map(|patches| cases::run(&patches, sources, today))
}

fn build(sources: &[PatchSource], hosted: Option<&[Domain]>, today: Day) -> (Option<Patches>, Vec<Finding>) {
    let mut names: HashMap<String, Place> = HashMap::new();
    let (mut list, mut findings) = (Vec::new(), Vec::new());
    for source in sources {
        let mut reader = Reader::new(&source.name);
        reader.version(source.file.version.as_ref());
        for spec in &source.file.patches {
            list.extend(reader.patch(spec, hosted, &mut names, today));
        }
        findings.append(&mut reader.findings);
    }
    findings.sort();
    let sound = !findings.iter().any(Finding::is_error);
    (sound.then(|| Patches::new(list)), findings)
}

impl Reader {
    fn patch(
        &mut self,
        at: &Placed<PatchSpec>,
        hosted: Option<&[Domain]>,
        names: &mut HashMap<String, Place>,
        today: Day,
    ) -> Option<Patch> {
        let (place, spec) = (at.place(self.file()), &at.value);
        let before = self.findings.iter().filter(|finding| finding.is_error()).count();
        let name = self.patch_name(spec.name.as_ref(), &place, names);
        if spec.reason.is_none() {
            self.error_at(
                &place,
                "this patch does not say why it is there",
                "add `reason:`, for those who find it later",
            );
        }
        self.not_empty("reason", spec.reason.as_ref());
        self.not_empty("payload", spec.payload.as_ref());
        self.not_empty("reference", spec.reference.as_ref());
        self.not_empty("owner", spec.owner.as_ref());
        let action = match &spec.action {
            Some(word) => self.choose(word, "an action", &[("cut", Action::Cut), ("deny", Action::Deny)]),
            None => {
                self.error_at(&place, "this patch has no `action`", "write `action: deny` or `action: cut`");
                None
            }
        };
        let shadow = spec
            .mode
            .as_ref()
            .and_then(|word| self.choose(word, "a mode", &[("act", false), ("shadow", true)]));
        let direction = spec.direction.as_ref().and_then(|word| self.direction(word)).flatten();
        let flows = self.some(spec.flows.as_ref(), "flows", |reader, word| {
            reader.choose(word, "a flow", &[("s2s", true), ("c2s", false)])
        });
        let scope = self.some(spec.hosted.as_ref(), "hosted", |reader, word| {
            let domain = reader.domain(word)?;
            if hosted.is_some_and(|hosted| !hosted.contains(&domain)) {
                reader.error(word, format!("{domain} is not a hosted domain"), "correct the name");
            }
            Some(domain)
        });
        let kinds = self.some(spec.kinds.as_ref(), "kinds", |reader, word| {
            let kind = reader.kind(word)?;
            if kind == StanzaKind::Iq && action == Some(Action::Cut) {
                reader.error(
                    word,
                    "an iq lives by its one child, which cannot be cut",
                    "write `action: deny`, or take `iq` out",
                );
            }
            Some(kind)
        });
        let kinds = kinds.unwrap_or_else(|| {
            let of_iq = action != Some(Action::Cut);
            StanzaKind::ALL.iter().copied().filter(|kind| of_iq || *kind != StanzaKind::Iq).collect()
        });
        let types = self.some(spec.types.as_ref(), "types", |reader, word| {
            reader.not_empty("types", Some(word));
            Some(if word.value == "none" { String::new() } else { word.value.clone() })
        });
        let larger_than = spec.larger_than.as_ref().and_then(|word| self.size(word));
        let payload = spec.payload.as_ref().map(|word| content(&word.value).to_owned());
        if payload.is_none() && action == Some(Action::Cut) {
            self.error_at(
                &place,
                "a patch that cuts must say what",
                "add `payload:` with the namespace of the child to be cut",
            );
        }
        if payload.is_none() && spec.when.is_empty() && larger_than.is_none() {
            self.error_at(
                &place,
                "this patch is about every stanza",
                "say what it is about: `payload:`, `larger-than:` or `when:`",
            );
        }
        let when = spec.when.iter().filter_map(|condition| self.condition(condition)).collect();
        let expires = spec.expires.as_ref().and_then(|word| self.last_day(word, today));
        let words = |word: &Option<Scalar>| word.as_ref().map(|word| word.value.clone());
        let after = self.findings.iter().filter(|finding| finding.is_error()).count();
        (before == after).then_some(Patch {
            name,
            place,
            reason: words(&spec.reason).unwrap_or_default(),
            reference: words(&spec.reference),
            owner: words(&spec.owner),
            expires,
            action: action?,
            shadow: shadow.unwrap_or_default(),
            direction,
            between_servers: flows.as_ref().is_none_or(|flows| flows.contains(&true)),
            of_clients: flows.as_ref().is_none_or(|flows| flows.contains(&false)),
            hosted: scope,
            kinds,
            types,
            payload,
            larger_than,
            when,
        })
    }

    /// The day after which the patch does nothing.
    fn last_day(&mut self, word: &Scalar, today: Day) -> Option<Day> {
        let last = self.day(word)?;
        if today > last {
            self.warn(
                word,
                "this patch expired and does nothing",
                format!("remove it, or renew the date; the clock of this machine says {today}"),
            );
        }
        Some(last)
    }

    fn patch_name(
        &mut self,
        word: Option<&Scalar>,
        place: &Place,
        names: &mut HashMap<String, Place>,
    ) -> RuleName {
        let Some(word) = word else {
            self.error_at(place, "this patch has no name", "add `name:`, the label in metrics and logs");
            return RuleName::new("");
        };
        let text = word.value.as_str();
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(legal) {
            self.error(
                word,
                format!("\"{text}\" cannot be the name of a patch"),
                "use up to 64 letters, digits, `-`, `_` and `.`",
            );
        } else if let Some(first) = names.get(text) {
            self.error(
                word,
                format!("two patches are called \"{text}\": here and at {first}"),
                "give each patch its own name; names are labels",
            );
        }
        names.entry(text.to_owned()).or_insert_with(|| word.place(self.file()));
        RuleName::new(text)
    }

    fn some<T: Ord>(
        &mut self,
        list: Option<&Placed<Vec<Scalar>>>,
        name: &str,
        mut read: impl FnMut(&mut Self, &Scalar) -> Option<T>,
    ) -> Option<BTreeSet<T>> {
        let list = list?;
        if list.value.is_empty() {
            self.error(
                list,
                format!("`{name}` is empty, so the patch is for nothing"),
                "remove the key, or name one",
            );
        }
        Some(list.value.iter().filter_map(|word| read(self, word)).collect())
    }

    fn condition(&mut self, at: &Placed<ConditionSpec>) -> Option<Condition> {
        let spec = &at.value;
        let asks = [&spec.element, &spec.namespace, &spec.attribute, &spec.text_over, &spec.depth];
        if asks.iter().all(|word| word.is_none()) && spec.count.is_none() {
            self.error(
                at,
                "this condition asks for nothing",
                "name an element, a namespace, a depth, an attribute, a text or a count",
            );
        }
        for (name, word) in
            [("element", &spec.element), ("namespace", &spec.namespace), ("attribute", &spec.attribute)]
        {
            self.not_empty(name, word.as_ref());
        }
        for (name, word) in [("value", &spec.value), ("value-over", &spec.value_over)] {
            if let Some(word) = word
                && spec.attribute.is_none()
            {
                self.error(
                    word,
                    format!("`{name}` without `attribute`"),
                    "say of which attribute: `attribute:`",
                );
            }
        }
        let depth = match &spec.depth {
            Some(word) => self.depth(word)?,
            None => (1, u32::MAX),
        };
        let count = match &spec.count {
            Some(word) => {
                let count = word.value.parse::<u32>().ok().filter(|count| *count > 0);
                if count.is_none() {
                    self.error(word, format!("\"{}\" is no count", word.value), "write a number from 1");
                }
                count?
            }
            None => 1,
        };
        let words = |word: &Option<Scalar>| word.as_ref().map(|word| word.value.clone());
        Some(Condition {
            element: words(&spec.element),
            namespace: spec.namespace.as_ref().map(|word| content(&word.value).to_owned()),
            depth,
            attribute: words(&spec.attribute),
            value: words(&spec.value),
            value_over: spec.value_over.as_ref().and_then(|word| self.size(word)),
            text_over: spec.text_over.as_ref().and_then(|word| self.size(word)),
            count,
        })
    }

    fn size(&mut self, word: &Scalar) -> Option<u64> {
        octets(&word.value).map_err(|message| self.error(word, message, "")).ok()
    }

    fn depth(&mut self, word: &Scalar) -> Option<(u32, u32)> {
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|depth| *depth > 0);
        let found = match word.value.split_once('-') {
            None => number(&word.value).map(|depth| (depth, depth)),
            Some((first, "")) => number(first).map(|first| (first, u32::MAX)),
            Some((first, last)) => number(first).zip(number(last)).filter(|(first, last)| first <= last),
        };
        if found.is_none() {
            self.error(word, format!("\"{}\" is no depth", word.value), "write it like 1, 2-4 or 3-");
        }
        found
    }

    pub(super) fn way(&mut self, word: &Scalar) -> Option<Direction> {
        let ways = [("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];
        self.choose(word, "the direction of a case", &ways)
    }
}
