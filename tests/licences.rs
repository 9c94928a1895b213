//! What we build on may be shipped with us: every dependency carries a licence from a short list and comes from
//! crates.io.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use serde_json::Value;

// The lists are closed: a new licence is a decision, made here and read in review.
#[test]
fn every_dependency_has_a_licence_that_fits_ours() {
    let mut refused = Vec::new();
    for package in packages() {
        let (name, version) = (&package["name"], &package["version"]);
        match package["license"].as_str() {
            Some(expression) if accepted(expression) => {}
            other => refused.push(format!("{name} {version}: {other:?}")),
        }
    }
    assert!(refused.is_empty(), "not on the list: {refused:#?}");
}

#[test]
fn every_dependency_comes_from_the_public_registry() {
    for package in packages() {
        match package["source"].as_str() {
            None => assert_eq!(package["name"], "gatehouse", "a package from a path"),
            Some(source) => {
                assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{package}")
            }
        }
    }
}

// SPDX 2.3, annex D: WITH binds closest, then AND, then OR; `/` is cargo's old OR.
#[test]
fn licence_expressions_are_read_as_spdx_says() {
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "(GPL-3.0 OR MIT) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
        "GPL-3.0 AND ISC OR MIT",
    ] {
        assert!(accepted(good), "{good}");
    }
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR ISC) AND GPL-3.0",
        "MIT WITH LLVM-exception",
        "",
        "MIT OR",
        "(MIT",
        "MIT ISC",
    ] {
        assert!(!accepted(bad), "{bad}");
    }
}

/// All packages that the lock file names for the platforms we build for, as cargo tells them.
fn packages() -> Vec<Value> {
    let done = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(done.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&done.stderr));
    let mut metadata: Value = serde_json::from_slice(&done.stdout).expect("cargo writes JSON");
    let Value::Array(packages) = metadata["packages"].take() else { panic!("cargo names no packages") };
    assert!(packages.len() > 50, "only {} packages: has the format changed?", packages.len());
    packages
}

/// Whether the expression can be met with licences of the list alone. What cannot be read is refused.
fn accepted(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

fn any_of(words: &mut &[&str]) -> Option<bool> {
    let mut met = all_of(words)?;
    while take(words, "OR") {
        met |= all_of(words)?;
    }
    Some(met)
}

fn all_of(words: &mut &[&str]) -> Option<bool> {
    let mut met = one(words)?;
    while take(words, "AND") {
        met &= one(words)?;
    }
    Some(met)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    if take(words, "(") {
        let met = any_of(words)?;
        return take(words, ")").then_some(met);
    }
    let (first, rest) = words.split_first()?;
    *words = rest;
    if take(words, "WITH") {
        let (exception, rest) = words.split_first()?;
        *words = rest;
        return Some(LICENCES.contains(&format!("{first} WITH {exception}").as_str()));
    }
    Some(LICENCES.contains(first))
}

fn take(words: &mut &[&str], word: &str) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    let found = *first == word;
    if found {
        *words = rest;
    }
    found
}

/// Licences that ask for no more than their text to be kept.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
