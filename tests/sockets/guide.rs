//! The guide for security teams says what is so: its commands run in its order, in front of a gateway with real streams, and
//! every word that it explains is one that there is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::sockets::*;
use gatehouse::demo::session::Login;
use gatehouse::demo::world::{Plan, World};
use gatehouse::reason::{Cause, Reason};

const DOMAIN: &str = "example.com";

fn guide() -> String {
    page("security.md")
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

/// The lines of the block of the guide that is named so.
fn block(name: &str) -> String {
    block_of("security.md", name)
}

/// The same of another page; a block may be indented, as an item of a list is.
fn block_of(name_of_page: &str, name: &str) -> String {
    let page = page(name_of_page);
    let (before, rest) =
        page.split_once(&format!("```{name}\n")).unwrap_or_else(|| panic!("no block {name}"));
    let indent = before.rsplit('\n').next().unwrap();
    let lines = rest.split("```").next().unwrap().lines();
    lines.map(|line| format!("{}\n", line.strip_prefix(indent).unwrap_or(line))).collect()
}

/// Puts these keys of the domain behind its `policies`.
fn beside(file: &Path, keys: &str) {
    let text = fs::read_to_string(file).unwrap();
    let (before, rest) = text.split_once("    policies: [").unwrap();
    let (own, rest) = rest.split_once('\n').unwrap();
    fs::write(file, format!("{before}    policies: [{own}\n{}\n{rest}", keys.trim_end())).unwrap();
}

/// Runs a block of the guide in the gateway's folder: what it said, and how its last command ended.
async fn typed(world: &World, name: &str) -> (String, i32) {
    entered(world, &block(&format!("sh guide {name}"))).await
}

/// The same of any commands.
async fn entered(world: &World, commands: &str) -> (String, i32) {
    let bin = world.folder.path().join("bin");
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        // The control socket of this world is not where it is by default.
        let script = format!(
            "#!/bin/sh\ncase $1 in\nban|bans|circuits|quarantine|refusals|status|unban|reload|streams) exec {0} \"$@\" --socket '{1}' ;;\nesac\nexec {0} \"$@\"\n",
            env!("CARGO_BIN_EXE_gatehouse"),
            world.socket().display()
        );
        fs::write(bin.join("gatehouse"), script).unwrap();
        fs::set_permissions(bin.join("gatehouse"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("sh");
    command
        .args(["-e", "-c", commands])
        .current_dir(world.folder.path())
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("NO_COLOR", "1");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (said, output.status.code().unwrap())
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

    // From `any` to `listed`: what was used is learned, runs in the shadow, and is promoted; nobody known is cut off.
    by_chance.close().await.unwrap();
    recorded(&world, &["ended", "old.example"]).await;
    let mut by_chance = by_dialback(&old, DOMAIN).await;
    still_passes(&world, &mut by_chance, "a@old.example", "j@example.com", "again").await;
    let (said, code) = typed(&world, "learn").await;
    assert!(code == 0 && said.contains("policies/learned.yaml: 1 rules, 3 cases"), "{code} {said}");
    assert!(said.contains("3 passed, 0 failed"), "{said}");
    let learned = fs::read_to_string(policies.join("learned.yaml")).unwrap();
    for words in [
        "  - name: learned-old.example\n    domains: [\"old.example\"]\n    direction: inbound\n    identity: [certificate, dialback]\n",
        "# - partner.example: rule partners at ",
    ] {
        assert!(learned.contains(words), "no {words:?} in\n{learned}");
    }
    let file = world.folder.path().join("gatehouse.yaml");
    beside(&file, &block("yaml guide shadow"));
    let (said, code) = typed(&world, "shadow").await;
    assert!(code == 0 && said.contains("federation any -> listed"), "{code} {said}");
    assert!(said.contains("0 would be refused, 0 would be admitted"), "{said}");
    // Somebody whom nobody has seen before.
    let late = peer(&world, 13, "late.example").await;
    let mut by_accident = by_certificate(&late, DOMAIN).await;
    still_passes(&world, &mut by_accident, "a@late.example", "j@example.com", "late").await;
    let (said, code) = typed(&world, "shadow").await;
    assert!(
        code == 0 && said.contains("late.example > example.com  would be refused: not-listed"),
        "{code} {said}"
    );
    let (said, code) = typed(&world, "promote").await;
    assert!(code == 0 && said.contains("what was in the shadow is the policy"), "{code} {said}");
    assert_eq!(by_accident.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    still_passes(&world, &mut by_name, "a@partner.example", "j@example.com", "listed").await;
    still_passes(&world, &mut by_chance, "a@old.example", "j@example.com", "listed, too").await;
    let (said, code) = typed(&world, "watch").await;
    assert_eq!((said.as_str(), code), ("", 0));

    let (said, code) = typed(&world, "ban").await;
    assert!(code == 0 && said.contains("leaky.agency.example") && said.contains("1 bans"), "{code} {said}");
    let (said, code) = typed(&world, "circuits").await;
    assert_eq!((said.as_str(), code), ("0 circuits\n", 0));
    let (said, code) = typed(&world, "audit").await;
    assert_eq!(code, 0, "{said}");

    // Nothing that stands there as a command is left out here.
    let run = ["write", "refused", "why", "learn", "shadow", "promote", "watch", "ban", "circuits", "audit"];
    let shown: Vec<String> = guide()
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("```sh").map(|name| name.trim().to_owned()))
        .collect();
    assert_eq!(shown, run.map(|name| format!("guide {name}")));
}

// `deploy/year.md`: the same, in a world of its own.
#[tokio::test]
async fn a_year_goes_by_as_its_page_says() {
    let now = "version: v1\nrules:\n  - { name: partners, domains: [partner.example], identity: [certificate], owner: Ada Novak, ticket: SEC-17 }\n  - { name: press, domains: [press.example], owner: Bo Lind, ticket: SEC-31 }\n";
    let world = World::build(&Plan::listed(DOMAIN, now)).await.unwrap();
    let typed = async |name: &str| entered(&world, &block_of("year.md", &format!("sh year {name}"))).await;
    let (partner, supplier) =
        (peer(&world, 10, "partner.example").await, peer(&world, 11, "supplier.example").await);
    let mut stream = by_certificate(&partner, DOMAIN).await;
    still_passes(&world, &mut stream, "a@partner.example", "j@example.com", "monday").await;
    let refused = async || {
        let mut call = supplier.call(DOMAIN).unwrap().open().await.unwrap();
        assert_ne!(call.external("supplier.example").await.ok(), Some(Login::Success));
    };
    refused().await;
    recorded(&world, &["rejected", "supplier.example"]).await;
    let (said, code) = typed("monday").await;
    assert!(code == 0 && said.contains("supplier.example") && said.contains("not-listed"), "{code} {said}");

    fs::write(
        world.folder.path().join("policies/next.yaml"),
        block_of("year.md", "yaml year policies/next.yaml"),
    )
    .unwrap();
    beside(&world.folder.path().join("gatehouse.yaml"), &block_of("year.md", "yaml year shadow"));
    let (said, code) = typed("partner").await;
    assert!(
        code == 0 && said.contains("4 passed, 0 failed") && said.contains("0 would be refused"),
        "{code} {said}"
    );
    refused().await;
    let (said, _) = typed("partner").await;
    assert!(said.contains("supplier.example > example.com  would be admitted, is not-listed"), "{said}");
    let (said, code) = typed("promote").await;
    assert!(code == 0 && said.contains("new rule: supplier"), "{code} {said}");
    let mut new = by_certificate(&supplier, DOMAIN).await;
    still_passes(&world, &mut new, "a@supplier.example", "j@example.com", "new").await;
    still_passes(&world, &mut stream, "a@partner.example", "j@example.com", "as ever").await;

    // A newcomer is taken in within bounds, and then for good.
    fs::write(
        world.folder.path().join("policies/newcomers.yaml"),
        block_of("year.md", "yaml year policies/newcomers.yaml"),
    )
    .unwrap();
    let file = world.folder.path().join("gatehouse.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let old = text.lines().find(|line| line.trim_start().starts_with("policies:")).unwrap();
    assert!(block_of("year.md", "yaml year newcomers").contains(", policies/newcomers.yaml]"));
    let both = "    policies: [policies/next.yaml, policies/newcomers.yaml]";
    fs::write(&file, text.replace(old, both)).unwrap();
    let newcomer = peer(&world, 12, "new.example").await;
    let (said, code) = typed("newcomers").await;
    assert!(code == 0 && said.contains("2 passed, 0 failed") && said.contains("0 domains"), "{code} {said}");
    let mut few = by_certificate(&newcomer, DOMAIN).await;
    still_passes(&world, &mut few, "n@new.example", "j@example.com", "a first word").await;
    let version = "<query xmlns='jabber:iq:version'/>";
    few.send(format!("<iq from='n@new.example' to='j@example.com/r' id='v' type='get'>{version}</iq>"))
        .await
        .unwrap();
    let told = newcomer.inbox.wait(|node| node.attr("id") == Some("v")).await.unwrap();
    assert!(told.raw.contains("We do not know your server yet"), "{}", told.raw);
    let (said, code) = typed("approve").await;
    assert!(
        code == 0 && said.contains("out of quarantine") && said.contains("new.example was approved"),
        "{code} {said}"
    );

    let (said, code) = typed("unused").await;
    assert!(code == 0 && said.contains("0 rules and 0 cases not used for 90 days"), "{code} {said}");
    let (said, code) = typed("incident").await;
    assert!(code == 0 && said.contains("banned"), "{code} {said}");
    recorded(&world, &["ended", "partner.example>example.com"]).await;
    let (said, code) = typed("end").await;
    assert!(
        code == 0 && said.contains("whole") && said.contains("name: learned-partner.example"),
        "{code} {said}"
    );

    // Nothing that stands there as a command is left out here.
    let run = ["monday", "partner", "promote", "newcomers", "approve", "incident", "unused", "end"];
    let page = page("year.md");
    let shown: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("```sh ")).collect();
    assert_eq!(shown, run.map(|name| format!("year {name}")));
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
