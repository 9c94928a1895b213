//! The guide for security teams says what is so: its commands run in its order, in front of a gateway with real streams, and
//! every word that it explains is one that there is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

#[path = "support/sockets.rs"]
mod sockets;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gatehouse::demo::session::Login;
use gatehouse::demo::world::{Plan, World};
use gatehouse::reason::{Cause, Reason};
use sockets::*;

const DOMAIN: &str = "example.com";

fn guide() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/security.md")).unwrap()
}

/// The lines of the block that is named so.
fn block(name: &str) -> String {
    let guide = guide();
    let (_, rest) = guide.split_once(&format!("```{name}\n")).unwrap_or_else(|| panic!("no block {name}"));
    rest.split("```").next().unwrap().to_owned()
}

/// Runs a block of the guide in the gateway's folder: what it said, and how its last command ended.
async fn typed(world: &World, name: &str) -> (String, i32) {
    let bin = world.folder.path().join("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        // The control socket of this world is not where it is by default.
        let script = format!(
            "#!/bin/sh\ncase $1 in\nban|bans|circuits|refusals|status|unban|reload|streams) exec {0} \"$@\" --socket '{1}' ;;\nesac\nexec {0} \"$@\"\n",
            env!("CARGO_BIN_EXE_gatehouse"),
            world.socket().display()
        );
        fs::write(bin.join("gatehouse"), script).unwrap();
        fs::set_permissions(bin.join("gatehouse"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("sh");
    command
        .args(["-e", "-c", &block(&format!("sh guide {name}"))])
        .current_dir(world.folder.path())
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("NO_COLOR", "1");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (said, output.status.code().unwrap())
}

/// Waits until the audit log has a record with these words: the writer is a thread of its own.
async fn recorded(world: &World, words: &[&str]) {
    let until = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        let text = fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap_or_default();
        if text.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "no record with {words:?} in\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_command_of_the_guide_does_what_it_says() {
    let mut plan = Plan::listed(DOMAIN, "version: v1\nrules: []\n");
    plan.hosted[0].federation = "any".to_owned();
    let world = World::build(&plan).await.unwrap();
    // The guide calls the policy file by another name than this world does.
    let policies = world.folder.path().join("policies");
    std::os::unix::fs::symlink(format!("{DOMAIN}.yaml"), policies.join("partners.yaml")).unwrap();
    let partner = peer(&world, 10, "partner.example").await;
    let old = world.old_peer(11, &["old.example"]).await.unwrap();
    let leaky = peer(&world, 12, "leaky.agency.example").await;
    let mut by_name = by_certificate(&partner, DOMAIN).await;
    let mut by_chance = by_dialback(&old, DOMAIN).await;
    still_passes(&world, &mut by_chance, "a@old.example", "j@example.com", "before").await;

    // Writing an allowlist: under `any`, the partner passes to its rule and nobody is cut off.
    fs::write(policies.join("partners.yaml"), block("yaml guide policies/partners.yaml")).unwrap();
    let (said, code) = typed(&world, "write").await;
    assert_eq!(code, 0, "{said}");
    for words in [
        "4 passed, 0 failed",
        "gatehouse.yaml: ",
        "new rule: not-this-agency",
        "1 pairs: from rule default to rule partners (allow)",
        "1 pairs stay as they are\nnothing was changed",
        "reloaded",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    assert!(!said.contains("closes: "), "{said}");
    still_passes(&world, &mut by_name, "a@partner.example", "j@example.com", "after").await;

    // Reading a refusal, and asking why.
    let mut stream = leaky.call(DOMAIN).unwrap().open().await.unwrap();
    assert_ne!(stream.external("leaky.agency.example").await.ok(), Some(Login::Success));
    recorded(&world, &["rejected", "leaky.agency.example"]).await;
    let (said, code) = typed(&world, "refused").await;
    assert!(
        code == 0 && said.contains("\"reason\":\"blocked\",\"rule\":\"not-this-agency\""),
        "{code} {said}"
    );
    let (said, code) = typed(&world, "why").await;
    assert!(code == 1 && said.contains("rule:       not-this-agency at policies/"), "{code} {said}");

    // From `any` to `listed`: who stands under no rule, now and in the past.
    by_chance.close().await.unwrap();
    recorded(&world, &["ended", "old.example"]).await;
    let mut by_chance = by_dialback(&old, DOMAIN).await;
    still_passes(&world, &mut by_chance, "a@old.example", "j@example.com", "again").await;
    let (said, code) = typed(&world, "move").await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("old.example > example.com by dialback\n"), "the living: {said}");
    assert!(said.contains("1 old.example>example.com by dialback\n"), "the past: {said}");
    assert!(!said.contains("partner.example"), "{said}");
    let (said, code) = typed(&world, "watch").await;
    assert_eq!((said.as_str(), code), ("", 0));

    let (said, code) = typed(&world, "ban").await;
    assert!(code == 0 && said.contains("leaky.agency.example") && said.contains("1 bans"), "{code} {said}");
    let (said, code) = typed(&world, "circuits").await;
    assert_eq!((said.as_str(), code), ("0 circuits\n", 0));
    let (said, code) = typed(&world, "audit").await;
    assert_eq!(code, 0, "{said}");

    // Nothing that stands there as a command is left out here.
    let run = ["write", "refused", "why", "move", "watch", "ban", "circuits", "audit"];
    let shown: Vec<String> = guide()
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("```sh").map(|name| name.trim().to_owned()))
        .collect();
    assert_eq!(shown, run.map(|name| format!("guide {name}")));
}

#[test]
fn every_reason_that_the_guide_explains_is_one() {
    // Some rows name the cause beside the reason.
    let reasons = Reason::ALL.iter().map(|reason| reason.label());
    let known: Vec<&str> = reasons.chain(Cause::ALL.iter().map(|cause| cause.label())).collect();
    let guide = guide();
    let table = guide.split("| reason | it says |").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut explained = 0;
    for row in table.lines().skip(2) {
        for word in row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
            assert!(known.contains(&word), "{word} is no reason and no cause");
            explained += 1;
        }
    }
    assert!(explained > 10, "the table was not found");
}
