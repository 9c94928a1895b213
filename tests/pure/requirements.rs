//! The rules, limits and times that the code cites are defined in the repository, and each rule says where it is shown.
//!
//! `src/manual/requirements.md` has one row for each rule; its last column names the files whose tests cite it.
//! `GATEHOUSE_WRITE=1 cargo test --test pure requirements` writes that column from the citations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "src/manual/requirements.md";
const XML_RULES: &str = "src/manual/xml-rules.md";

const FAMILIES: [&str; 21] = [
    "ACC", "BE", "C2S", "CB", "CLS", "CLU", "CRT", "DB", "DNS", "ERR", "EXT", "JID", "LIM", "LOG", "POL",
    "RLY", "SM", "STR", "TLS", "WS", "XML",
];

#[test]
fn every_rule_that_is_cited_is_defined() {
    let defined: BTreeSet<String> = rows().into_keys().collect();
    assert!(defined.len() > 250, "the table was not found: {} rules", defined.len());
    let mut unknown = Vec::new();
    for path in sources().into_iter().chain(files("deploy")).chain(files("policies")) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for id in cited(line).into_iter().filter(|id| !defined.contains(id)) {
                unknown.push(format!("{}:{}: {id}", path.display(), number + 1));
            }
        }
    }
    assert!(unknown.is_empty(), "cited and not defined in {PAGE}:\n{}", unknown.join("\n"));
}

// Limits and times have names of their own in section 0.2, which says as much as the configuration does.
#[test]
fn every_limit_and_time_that_is_cited_is_defined() {
    let defined = bounds();
    assert!(defined.len() > 40, "the table was not found: {} names", defined.len());
    let mut unknown = Vec::new();
    for path in sources().into_iter().chain([PAGE, XML_RULES].map(repository)) {
        let source = fs::read_to_string(&path).unwrap();
        for name in cited_bounds(&source) {
            // `L-inside-*` is all that begin so.
            let is_defined = match name.ends_with('-') {
                true => defined.keys().any(|known| known.starts_with(&name)),
                false => defined.contains_key(&name),
            };
            if !is_defined {
                unknown.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "cited and not defined in {PAGE}:\n{}", unknown.join("\n"));
}

#[test]
fn the_limits_and_times_of_the_page_are_those_of_the_configuration() {
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut comment = String::new();
    for line in text("src/config/limits.rs").lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            comment += words;
            continue;
        }
        let words: Vec<&str> = line.split('"').collect();
        if let ([_, key, kind, default, ..], true) = (words.as_slice(), line.ends_with("\";")) {
            assert!(kind.starts_with("): "), "{line}");
            for name in cited_bounds(&comment) {
                named.entry(name).or_default().insert(format!("{key}: {default}"));
            }
        }
        comment.clear();
    }
    assert_eq!(bounds(), named, "left: {PAGE}; right: the comments of src/config/limits.rs");
}

/// The names of section 0.2, each with its keys and their defaults.
fn bounds() -> BTreeMap<String, BTreeSet<String>> {
    let page = text(PAGE);
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    rows.filter(|(name, _)| cited_bounds(name) == [*name])
        .map(|(name, rest)| {
            let keys = rest.split(" | ").next().unwrap().split('`').skip(1).step_by(2);
            (name.to_owned(), keys.map(str::to_owned).collect())
        })
        .collect()
}

/// The names of limits and times in a text, in their order.
fn cited_bounds(text: &str) -> Vec<String> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split(|c: char| !is_inside(c));
    words
        .filter(|word| word.starts_with("L-") || word.starts_with("T-"))
        .filter(|word| word.as_bytes().get(2).is_some_and(u8::is_ascii_lowercase))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_rule_says_where_it_is_shown_and_is_cited_there() {
    let shown = shown();
    let page = text(PAGE);
    let mut written = String::new();
    for line in page.lines() {
        written += &match row(line) {
            Some((id, _)) => {
                let cells = line.trim_end().trim_end_matches('|');
                let (kept, _) = cells.rsplit_once('|').unwrap();
                format!("{kept}| {} |", column(shown.get(&id)))
            }
            None => line.to_owned(),
        };
        written += "\n";
    }
    if std::env::var_os("GATEHOUSE_WRITE").is_some() {
        fs::write(repository(PAGE), &written).unwrap();
    }
    let same = text(PAGE) == written;
    assert!(same, "{PAGE} is stale; write it with GATEHOUSE_WRITE=1 cargo test --test pure requirements");
}

// What no test shows is said, with the reason; what a test shows is not listed there.
#[test]
fn what_is_not_shown_is_said() {
    let page = text(PAGE);
    let (_, said) = page.split_once("## What is not built or not shown").unwrap();
    let said: BTreeSet<String> =
        said.lines().filter_map(|line| line.strip_prefix("- ")?.split(':').next()).flat_map(cited).collect();
    let silent: BTreeSet<String> =
        rows().into_iter().filter(|(_, column)| column == "-").map(|(id, _)| id).collect();
    assert_eq!(said, silent, "left: said not to be shown; right: rows without a test");
}

// A page that leads to a file which is gone is worse than none.
#[test]
fn every_file_that_the_page_about_architecture_names_exists() {
    let page = text("src/manual/architecture.md");
    let named: Vec<&str> = page
        .split('`')
        .filter(|word| ["src/", "tests/", "deploy/"].iter().any(|at| word.starts_with(at)))
        .collect();
    assert!(named.len() > 30, "the page was not found: {named:?}");
    let missing: Vec<_> = named.into_iter().filter(|path| !repository(path).exists()).collect();
    assert!(missing.is_empty(), "named and not there: {missing:?}");
}

// The ids of the XML rules are those of `xml::Rule`.
#[test]
fn every_xml_rule_is_in_the_page_about_xml() {
    let page = text(XML_RULES);
    for rule in gatehouse::xml::Rule::ALL.iter().map(|rule| rule.id()) {
        let is_id = rule.len() == 2 && rule.ends_with(|c: char| c.is_ascii_digit());
        assert!(!is_id || page.contains(&format!("**{rule}**")), "{XML_RULES} does not define {rule}");
    }
}

/// The rules of the page, each with its last column.
fn rows() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for (id, column) in text(PAGE).lines().filter_map(row) {
        assert!(rows.insert(id.clone(), column).is_none(), "{id} is defined twice");
    }
    rows
}

fn row(line: &str) -> Option<(String, String)> {
    let id = line.strip_prefix("| ")?.split(' ').next()?;
    let column = line.trim_end().trim_end_matches('|').rsplit('|').next()?.trim();
    (cited(id) == [id]).then(|| (id.to_owned(), column.to_owned()))
}

/// For each rule the files with tests that cite it.
fn shown() -> BTreeMap<String, BTreeSet<String>> {
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let root = repository("");
    for path in sources() {
        let source = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        if name == "tests/pure/requirements.rs" {
            continue;
        }
        let of_tests = match source.find("mod tests {") {
            _ if name.starts_with("tests/") || name.ends_with("tests.rs") => source.as_str(),
            Some(at) => &source[at..],
            None => "",
        };
        for id in cited(of_tests) {
            shown.entry(id).or_default().insert(name.clone());
        }
    }
    shown
}

/// At most three of them; the integration tests first.
fn column(files: Option<&BTreeSet<String>>) -> String {
    let Some(files) = files else { return "-".to_owned() };
    let mut files: Vec<&String> = files.iter().collect();
    files.sort_by_key(|file| (file.contains("fuzz"), !file.starts_with("tests/"), file.len(), file.as_str()));
    let names: Vec<String> = files.iter().take(3).map(|file| format!("`{file}`")).collect();
    names.join(", ")
}

/// The ids in a text, in their order.
fn cited(text: &str) -> Vec<String> {
    let octets = text.as_bytes();
    let mut found = Vec::new();
    for (at, _) in text.match_indices('-') {
        let before = &text[..at];
        let Some(family) = FAMILIES.iter().find(|family| before.ends_with(**family)) else { continue };
        let begin = at - family.len();
        let whole = begin == 0
            || !(octets[begin - 1].is_ascii_alphanumeric() || matches!(octets[begin - 1], b'-' | b'_'));
        let digits = octets.get(at + 1..at + 3).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
        let ends = octets.get(at + 3).is_none_or(|b| !b.is_ascii_alphanumeric());
        if whole && digits && ends {
            found.push(text[begin..at + 3].to_owned());
        }
    }
    found
}

fn sources() -> Vec<PathBuf> {
    ["src", "tests", "benches"]
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .collect()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("target") || path.ends_with("corpus") => {}
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}
