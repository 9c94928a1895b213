//! What the pages for people say of the house is what the house is.

use std::collections::BTreeSet;

use super::{FLOORS, code_lines, sources};

const PAGE: &str = include_str!("../../../src/manual/architecture.md");

/// Words of ours that a newcomer meets in every room: each has its line in the glossary.
const MET: &[&str] = &[
    "cargo",
    "claim",
    "courier",
    "drain",
    "fault",
    "guard",
    "relay",
    "lane",
    "near",
    "far",
    "node",
    "outbox",
    "patch",
    "permit",
    "proof",
    "quarantine",
    "shadow",
    "share",
    "unproven",
    "event",
    "turned",
    "unfit",
    "verifier",
    "valve",
];

/// What stands on the page under that heading.
fn section(heading: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(heading).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// The words that the glossary explains.
fn glossary() -> Vec<&'static str> {
    let entries =
        section("\n## Words\n").lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    entries.skip(2).flat_map(|entry| entry.split([',', ':'])).map(str::trim).collect()
}

/// The words of the names in the code, whole: `turn_away_far` has three, `RefusedStanza` two, and `fars` counts as `far`.
fn words_of_the_code() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in sources() {
        for (_, line) in code_lines(&text) {
            for name in line.split(|c: char| !c.is_alphanumeric()) {
                let mut word = String::new();
                for c in name.chars() {
                    if c.is_uppercase() && !word.is_empty() {
                        found.insert(std::mem::take(&mut word));
                    }
                    word.extend(c.to_lowercase());
                }
                found.insert(word);
            }
        }
    }
    found
}

#[test]
fn each_word_of_the_glossary_is_one_of_the_code() {
    let (words, code) = (glossary(), words_of_the_code());
    assert!(words.len() > 50, "the glossary was not found: {words:?}");
    let is_used = |word: &&&str| {
        let first = word.split(' ').next().unwrap();
        ["", "s", "ed", "d"].iter().any(|end| code.contains(&format!("{first}{end}")))
    };
    let unused: Vec<_> = words.iter().filter(|word| !is_used(word)).collect();
    assert!(unused.is_empty(), "words that the code does not use: {unused:?}");
}

#[test]
fn each_word_that_every_room_uses_is_in_the_glossary() {
    let words = glossary();
    let missing: Vec<_> =
        MET.iter().filter(|word| !words.iter().any(|w| w.split(' ').next() == Some(**word))).collect();
    assert!(missing.is_empty(), "words without a line in the glossary: {missing:?}");
}

// The page and the first words of the crate say which module is on which floor: as the test of the floors has it.
#[test]
fn the_floors_that_people_read_are_those_of_the_test() {
    let library = include_str!("../../../src/lib.rs");
    for (name, text) in [("architecture.md", section("\n## Floors\n")), ("lib.rs", library)] {
        let mut shown = BTreeSet::new();
        for line in text.lines() {
            let line = line.trim_start_matches("//! ");
            let Some((floor, rest)) = line.strip_prefix("| ").and_then(|line| line.split_once(" | ")) else {
                continue;
            };
            let (Ok(floor), Some(modules)) = (floor.parse::<u8>(), rest.split(" |").next()) else { continue };
            shown.extend(modules.split('`').skip(1).step_by(2).map(|module| (floor, module)));
        }
        let held: BTreeSet<_> = FLOORS
            .iter()
            .flat_map(|(floor, modules)| modules.iter().map(|module| (*floor, *module)))
            .collect();
        let held: BTreeSet<_> = held.into_iter().filter(|(_, module)| *module != "manual").collect();
        assert_eq!(shown, held, "{name}");
    }
}

// "The relay on one page", "the pump on one page": every file of theirs is named there, and every outcome of a leg.
#[test]
fn each_file_of_the_two_hardest_rooms_is_on_its_page() {
    let relay = section("\n## The relay on one page\n").to_owned() + section("\n## The pump on one page\n");
    let mut missing = Vec::new();
    for (path, text) in sources() {
        let path = path.to_string_lossy().into_owned();
        let Some((_, inside)) = path.split_once("/src/") else { continue };
        let file = inside.rsplit('/').next().unwrap();
        if (inside.starts_with("relay/") || inside.starts_with("run/pump/"))
            && file != "mod.rs"
            && !relay.contains(file)
        {
            missing.push(inside.to_owned());
        }
        for (home, outcomes) in [("relay/near.rs", "NearOutcome"), ("relay/far.rs", "FarOutcome")] {
            if inside != home {
                continue;
            }
            let (_, list) = text.split_once(&format!("enum {outcomes} {{")).unwrap();
            let list = list.split("\n}").next().unwrap();
            let names = list
                .lines()
                .filter_map(|line| line.strip_prefix("    "))
                .filter(|line| line.starts_with(char::is_uppercase));
            let names =
                names.map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned());
            missing.extend(
                names
                    .filter(|name| !relay.contains(&format!("`{name}`")))
                    .map(|name| format!("{outcomes}::{name}")),
            );
        }
    }
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}
