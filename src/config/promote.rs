//! What is in the shadow becomes the policy: the change of `gatehouse.yaml` and of what it includes, as text.
//!
//! Only what must change does: `shadow` takes the name of `policies`, whose entry goes, and `federation` the value of
//! `shadow-federation`. Comments and everything else stay as they are. The changed text is read once more, and is taken only if
//! it says just that; what is written in a way that this does not do for is left to the operator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_yaml::granit_parser::{Event, Options, Parser};

use super::load;
use super::settings::{HostedDomain, Settings};
use crate::policy::{Federation, Finding, Place};

impl HostedDomain {
    /// The policy files and the federation that are judged beside those in force, if any are.
    pub fn shadowed(&self) -> Option<(&[PathBuf], Federation)> {
        let policies = match (&self.shadow, self.shadow_federation) {
            (None, None) => return None,
            (Some(shadow), _) => shadow,
            (None, Some(_)) => &self.policies,
        };
        Some((policies, self.shadow_federation.unwrap_or(self.federation)))
    }
}

impl Settings {
    /// Whether any domain has a policy in the shadow.
    pub fn has_shadow(&self) -> bool {
        self.domains.iter().any(|domain| domain.shadowed().is_some())
    }

    /// The same with what is in the shadow in force, and nothing in the shadow.
    pub fn promoted(&self) -> Settings {
        let domain = |domain: &HostedDomain| match domain.shadowed() {
            None => domain.clone(),
            Some((policies, federation)) => HostedDomain {
                policies: policies.to_vec(),
                federation,
                shadow: None,
                shadow_federation: None,
                ..domain.clone()
            },
        };
        Settings { domains: self.domains.iter().map(domain).collect(), ..self.clone() }
    }
}

/// A file before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The file.
    pub path: PathBuf,
    /// What stands in it.
    pub before: String,
    /// What is to stand in it.
    pub after: String,
}

/// The changes of the files of this configuration, its own first.
///
/// # Errors
/// When a file cannot be read, nothing is in the shadow, or the change cannot be made as text.
pub fn promotion(path: &Path) -> Result<Vec<Rewrite>, Vec<Finding>> {
    let examined = super::examine(path);
    let Some(settings) = examined.settings else { return Err(examined.findings) };
    let mut files: Vec<PathBuf> = settings
        .domains
        .iter()
        .filter(|domain| domain.shadowed().is_some())
        .map(|domain| PathBuf::from(domain.place.file.as_ref()))
        .collect();
    files.sort();
    files.dedup();
    if files.is_empty() {
        let message = "no domain has a policy in the shadow, so there is nothing to promote";
        let remedy = "name its files: `shadow: [policies/next.yaml]` of a domain";
        return Err(vec![Finding::error(Place::whole(&settings.file), message, remedy)]);
    }
    let mut rewrites = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let before = load::read_text(&file, &name).map_err(|finding| vec![finding])?;
        match promoted(&before) {
            Some(after) => rewrites.push(Rewrite { path: file, before, after }),
            None => {
                let message = "`shadow` cannot be put in the place of `policies` here without changing more";
                let remedy = "write it by hand: name the files of `shadow` under `policies`, write the word of `shadow-federation` after \
                              `federation`, take both out, and reload";
                return Err(vec![Finding::error(Place::whole(&name), message, remedy)]);
            }
        }
    }
    Ok(rewrites)
}

/// The text with what is in the shadow in force; none if that cannot be done without changing more.
fn promoted(text: &str) -> Option<String> {
    let root = read(text)?;
    let letters: Vec<char> = text.chars().collect();
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    for domain in root.of("domains")?.items() {
        let Kind::Map { entries, flow } = &domain.kind else { continue };
        let at = |key: &str| entries.iter().position(|entry| entry.0.is(key));
        let mut remove = |at: usize| -> Option<()> {
            let (start, end) = if *flow { of_flow(entries, at)? } else { of_block(entries, at, &letters)? };
            edits.push((start, end, String::new()));
            Some(())
        };
        let (shadow, federation) = (at("shadow"), at("shadow-federation"));
        if shadow.is_some()
            && let Some(policies) = at("policies")
        {
            remove(policies)?;
        }
        if let Some(federation) = federation {
            remove(federation)?;
            let (_, word) = entries.get(federation)?;
            let (_, old) = entries.get(at("federation")?)?;
            let (Kind::Scalar(_), Kind::Scalar(_)) = (&word.kind, &old.kind) else { return None };
            let word: String = letters.get(word.start..word.end)?.iter().collect();
            edits.push((old.start, old.end, word));
        }
        if let Some(shadow) = shadow {
            let (key, _) = entries.get(shadow)?;
            edits.push((key.start, key.end, "policies".to_owned()));
        }
    }
    edits.sort();
    let mut after = String::with_capacity(text.len());
    let mut done = 0;
    for (start, end, instead) in edits {
        after.extend(letters.get(done..start)?);
        after.push_str(&instead);
        done = end;
    }
    after.extend(letters.get(done..)?);
    // The whole of it says what it should, and nothing else.
    (read(&after)?.meaning() == root.promoted()).then_some(after)
}

/// From where to where an entry of `{ a: b, c: d }` goes, with one of the commas beside it.
fn of_flow(entries: &[(Item, Item)], at: usize) -> Option<(usize, usize)> {
    let (key, value) = entries.get(at)?;
    match (entries.get(at + 1), at.checked_sub(1).and_then(|before| entries.get(before))) {
        (Some((next, _)), _) => Some((key.start, next.start)),
        (None, Some((_, before))) => Some((before.end, value.end)),
        (None, None) => Some((key.start, value.end)),
    }
}

/// From where to where an entry on lines of its own goes.
fn of_block(entries: &[(Item, Item)], at: usize, letters: &[char]) -> Option<(usize, usize)> {
    let (key, value) = entries.get(at)?;
    let before = letters.get(..key.start)?;
    let start = before.iter().rposition(|letter| *letter == '\n').map_or(0, |at| at + 1);
    // Behind a dash the line begins an item, too.
    if !letters.get(start..key.start)?.iter().all(|letter| *letter == ' ') {
        return None;
    }
    let rest = letters.get(value.end..)?;
    let line = rest.iter().position(|letter| *letter == '\n').map_or(rest.len(), |at| at + 1);
    let tail: String = rest.get(..line)?.iter().collect();
    let tail = tail.trim();
    (tail.is_empty() || tail.starts_with('#')).then_some((start, value.end + line))
}

/// A value with where it begins and ends, in characters.
#[derive(Debug)]
struct Item {
    start: usize,
    end: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar(String),
    List(Vec<Item>),
    Map { entries: Vec<(Item, Item)>, flow: bool },
}

/// What a value says, wherever and in whatever order.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Scalar(String),
    List(Vec<Meaning>),
    Map(BTreeMap<String, Meaning>),
}

impl Item {
    fn is(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Scalar(text) if text == word)
    }

    fn of(&self, key: &str) -> Option<&Item> {
        let Kind::Map { entries, .. } = &self.kind else { return None };
        entries.iter().find(|entry| entry.0.is(key)).map(|entry| &entry.1)
    }

    fn items(&self) -> &[Item] {
        match &self.kind {
            Kind::List(items) => items,
            Kind::Scalar(_) | Kind::Map { .. } => &[],
        }
    }

    fn meaning(&self) -> Meaning {
        match &self.kind {
            Kind::Scalar(text) => Meaning::Scalar(text.clone()),
            Kind::List(items) => Meaning::List(items.iter().map(Item::meaning).collect()),
            Kind::Map { entries, .. } => {
                let word = |item: &Item| match &item.kind {
                    Kind::Scalar(text) => text.clone(),
                    Kind::List(_) | Kind::Map { .. } => String::new(),
                };
                Meaning::Map(entries.iter().map(|(key, value)| (word(key), value.meaning())).collect())
            }
        }
    }

    /// What the whole file should say afterwards.
    fn promoted(&self) -> Meaning {
        let mut whole = self.meaning();
        if let Meaning::Map(keys) = &mut whole
            && let Some(Meaning::List(domains)) = keys.get_mut("domains")
        {
            for domain in domains {
                let Meaning::Map(keys) = domain else { continue };
                for (from, to) in [("shadow", "policies"), ("shadow-federation", "federation")] {
                    if let Some(value) = keys.remove(from) {
                        keys.insert(to.to_owned(), value);
                    }
                }
            }
        }
        whole
    }
}

fn read(text: &str) -> Option<Item> {
    let mut options = Options::default();
    options.emit_comments = false;
    let mut open: Vec<(Item, Option<Item>)> = Vec::new();
    let mut root = None;
    let first = |at: usize| text.chars().nth(at);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.ok()?;
        let (start, end) = (span.start.index(), span.end.index());
        let done = match event {
            Event::Scalar(text, ..) => Item { start, end, kind: Kind::Scalar(text.into_owned()) },
            Event::SequenceStart(..) => {
                open.push((Item { start, end, kind: Kind::List(Vec::new()) }, None));
                continue;
            }
            Event::MappingStart(..) => {
                let kind = Kind::Map { entries: Vec::new(), flow: first(start) == Some('{') };
                open.push((Item { start, end, kind }, None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (mut item, _) = open.pop()?;
                // A list or map by lines ends where the last thing in it does.
                let last = match &item.kind {
                    Kind::List(items) => items.last().map(|item| item.end),
                    Kind::Map { entries, .. } => entries.last().map(|entry| entry.1.end),
                    Kind::Scalar(_) => None,
                };
                let flow = matches!(first(item.start), Some('[' | '{'));
                item.end = if flow { end } else { last.unwrap_or(item.end) };
                item
            }
            _ => continue,
        };
        match open.last_mut() {
            None => root = Some(done),
            Some((Item { kind: Kind::List(items), .. }, _)) => items.push(done),
            Some((Item { kind: Kind::Map { entries, .. }, .. }, key)) => match key.take() {
                Some(key) => entries.push((key, done)),
                None => *key = Some(done),
            },
            Some((Item { kind: Kind::Scalar(_), .. }, _)) => return None,
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_shadow_takes_the_place_of_the_policy_and_nothing_else_moves() {
        let before = "# ours\nversion: v1\ndomains:\n  - name: example.com   # home\n    federation: any\n    policies:\n      - policies/a.yaml   # old\n      - policies/b.yaml\n    # what comes\n    shadow:\n      - policies/next.yaml # new\n    shadow-federation: listed # soon\n    backend: { s2s: [\"10.0.0.5:5269\"] }\n  - { name: b.example, policies: [x.yaml], shadow: [\"y,z.yaml\"], federation: listed }\n  - { name: c.example, federation: any, shadow-federation: none }\n  - name: d.example\n    federation: listed\n    shadow: [w.yaml]\n";
        let after = "# ours\nversion: v1\ndomains:\n  - name: example.com   # home\n    federation: listed\n    # what comes\n    policies:\n      - policies/next.yaml # new\n    backend: { s2s: [\"10.0.0.5:5269\"] }\n  - { name: b.example, policies: [\"y,z.yaml\"], federation: listed }\n  - { name: c.example, federation: none }\n  - name: d.example\n    federation: listed\n    policies: [w.yaml]\n";
        assert_eq!(promoted(before).as_deref(), Some(after));
        // What lies behind is no YAML of lines alone: letters of more than one octet, a first entry, a last one.
        let wide = "domains: [{ shadow: [ü.yaml], name: é.example, federation: any, policies: [ä.yaml] }]\n";
        let then = "domains: [{ policies: [ü.yaml], name: é.example, federation: any }]\n";
        assert_eq!(promoted(wide).as_deref(), Some(then));
    }

    #[test]
    fn what_cannot_be_done_line_by_line_is_left_to_the_operator() {
        // The entry that would go begins its item.
        assert_eq!(
            promoted(
                "domains:\n  - policies: [a.yaml]\n    name: x\n    federation: any\n    shadow: [b.yaml]\n"
            ),
            None
        );
        assert_eq!(promoted("domains: {}\n: ["), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z:\\[\\]{}, \n#-]{0,200}") {
            let _any = promoted(&format!("domains:\n{text}"));
        }
    }
}
