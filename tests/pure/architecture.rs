//! The floors, the water line and the size of files, read from the sources; and what the pages for people say of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod knots;
mod names;
mod pages;
mod reasons;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A module imports only from floors strictly below its own.
const FLOORS: &[(u8, &[&str])] = &[
    (11, &["cli"]),
    (10, &["demo"]),
    (9, &["gateway"]),
    (8, &["status"]),
    (7, &["run", "config"]),
    (6, &["net", "store"]),
    (5, &["tls", "dns", "limit", "metrics"]),
    (4, &["relay"]),
    (3, &["filter", "peers"]),
    (2, &["stream", "policy"]),
    (1, &["xml"]),
    (0, &["jid", "reason"]),
    // Words only: the manual imports nothing.
    (0, &["manual"]),
];

/// The highest floor below the water line.
const WATER_LINE: u8 = 4;

/// What a module below the water line may import beside the standard library.
const CRATES_BELOW: &[(&str, &[&str])] = &[
    ("relay", &["bytes"]),
    ("filter", &["bytes"]),
    ("peers", &["jiff", "serde", "serde_json"]),
    ("stream", &["bytes", "aws_lc_rs", "base64"]),
    ("policy", &["aws_lc_rs", "ipnet", "jiff", "schemars", "serde", "serde_json", "strsim"]),
    ("xml", &["bytes", "memchr", "quick_xml", "simdutf8", "smallvec", "wide"]),
    ("jid", &["idna", "stringprep", "precis_profiles", "psl", "unicode_normalization"]),
    ("reason", &[]),
    ("manual", &[]),
];

/// Crates with one home above the water line.
const HOMES: &[(&str, &[&str])] = &[
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("governor", &["limit"]),
    ("hickory_resolver", &["dns"]),
    ("hickory_server", &["dns", "demo"]),
    ("hyper", &["gateway", "net"]),
    ("minisign_verify", &["config"]),
    ("papaya", &["limit", "metrics"]),
    ("prometheus", &["metrics"]),
    ("rcgen", &["demo"]),
    ("redis", &["store"]),
    ("tokio_util", &["run"]),
    ("serde_yaml", &["config"]),
    // The demo peers judge certificates by themselves: a fault of ours must not hide on both sides.
    ("webpki", &["tls", "demo"]),
    ("x509_parser", &["tls", "demo"]),
];

/// What asks the world for time, chance, files, sockets or a log.
const ABOVE_ONLY: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "getrandom",
    "println!",
    "eprintln!",
    "tokio",
    "tracing",
    "prometheus",
    "governor",
];

const LONGEST_FILE: usize = 500;

/// Files that are longer, and may not grow: whoever splits one takes it out here.
const LONGER: &[(&str, usize)] = &[];

#[test]
fn imports_go_down_only() {
    let floors = floors();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(module) = module(&path) else { continue };
        let Some(own) = floors.get(module.as_str()) else {
            wrong.push(format!("{}: module `{module}` stands on no floor", path.display()));
            continue;
        };
        for (line, other) in crate_paths(&text) {
            if other == module || other == "VERSION" {
                continue;
            }
            match floors.get(other.as_str()) {
                Some(floor) if floor < own => {}
                Some(floor) => wrong.push(format!(
                    "{}:{line}: `{module}` (floor {own}) imports `{other}` (floor {floor})",
                    path.display()
                )),
                None => wrong.push(format!("{}:{line}: `crate::{other}` is no module", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "edges that go up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn below_the_water_line_nothing_asks_the_world() {
    let floors = floors();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(module) = module(&path) else { continue };
        if floors.get(module.as_str()).is_none_or(|floor| *floor > WATER_LINE) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            for word in ABOVE_ONLY {
                if line.contains(word) {
                    wrong.push(format!("{}:{number}: {word}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the water line leaks:\n{}", wrong.join("\n"));
}

#[test]
fn each_crate_is_used_where_it_lives() {
    let floors = floors();
    let below: BTreeMap<_, _> = CRATES_BELOW.iter().copied().collect();
    let homes: BTreeMap<_, _> = HOMES.iter().copied().collect();
    let dependencies = dependencies();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(module) = module(&path) else { continue };
        let pure = floors.get(module.as_str()).is_some_and(|floor| *floor <= WATER_LINE);
        for (number, line) in code_lines(&text) {
            for name in &dependencies {
                if !mentions(line, name) {
                    continue;
                }
                let allowed = match (pure, homes.get(name.as_str())) {
                    (true, _) => below.get(module.as_str()).is_some_and(|list| list.contains(&name.as_str())),
                    (false, Some(list)) => list.contains(&module.as_str()),
                    (false, None) => true,
                };
                if !allowed {
                    wrong.push(format!("{}:{number}: `{module}` uses `{name}`", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "crates away from home:\n{}", wrong.join("\n"));
}

#[test]
fn proof_and_permit_are_made_in_one_file_each() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let name = path.to_string_lossy().into_owned();
        for (number, line) in code_lines(&text) {
            let line = line.trim_start();
            let made = |word: &str| {
                line.contains(&format!("{word} {{ pair")) || line.contains(&format!("= {word} {{"))
            };
            if made("Proof") && !name.ends_with("stream/proof.rs") {
                wrong.push(format!("{name}:{number}: a Proof"));
            }
            if made("Permit") && !name.ends_with("policy/verdict.rs") {
                wrong.push(format!("{name}:{number}: a Permit"));
            }
        }
    }
    assert!(wrong.is_empty(), "tokens made elsewhere:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_short_and_open_with_a_promise() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let known = LONGER.iter().find(|(name, _)| path.ends_with(name));
        if lines > known.map_or(LONGEST_FILE, |(_, lines)| *lines) {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: no module documentation", path.display()));
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["util", "utils", "common", "misc", "helpers", "manager", "handler"].contains(&name.as_str()) {
            wrong.push(format!("{}: a vague name", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn floors() -> BTreeMap<&'static str, u8> {
    FLOORS.iter().flat_map(|(floor, names)| names.iter().map(|name| (*name, *floor))).collect()
}

/// Every source file that is not a test, with the inline test module cut off.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path(), &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.to_string_lossy().contains("tests.rs")
        {
            let text = fs::read_to_string(&path).unwrap();
            let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
            found.push((path, text[..end].to_owned()));
        }
    }
}

/// The module below `src/` that a file belongs to; none for `lib.rs` and `main.rs`.
fn module(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    match first.strip_suffix(".rs") {
        Some("lib" | "main") => None,
        Some(name) => Some(name.to_owned()),
        None => Some(first),
    }
}

/// Lines of code: comments are words, not imports.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn crate_paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in code_lines(text) {
        for part in line.split("crate::").skip(1) {
            if let Some(list) = part.strip_prefix('{') {
                for name in list.split(['}', ',']).map(str::trim) {
                    found.push((number, word(name)));
                }
            } else {
                found.push((number, word(part)));
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

fn mentions(line: &str, name: &str) -> bool {
    line.match_indices(&format!("{name}::"))
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':'))
}
