//! Lists that somebody else keeps: a rule asks several of them, rules of our own go before them, and a file that cannot be trusted
//! changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gatehouse::demo::gate::Gate;
use gatehouse::demo::session::Login;
use gatehouse::demo::world::{Plan, World};

use crate::sockets::*;

const POLICY: &str = "version: v1
rules:
  - { name: on-lists, verdict: deny, lists: [one, two, three], quorum: 2 }
  - { name: our-own-view, domains: [cousin.example] }
expect:
  - { from: x.example, to: hall.example, lists: [one, three], verdict: deny, reason: on-lists, rule: on-lists }
  - { from: x.example, to: hall.example, lists: [one], verdict: allow, rule: default }
  - { from: cousin.example, to: hall.example, lists: [one, two, three], verdict: allow, rule: our-own-view }
";

fn write(folder: &Path, name: &str, entries: &[&str]) {
    std::fs::write(folder.join(name), entries.join("\n") + "\n").unwrap();
}

fn minisign(folder: &Path, arguments: &[&str]) {
    let done =
        Command::new("minisign").current_dir(folder).args(arguments).output().expect("minisign is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn gatehouse(world: &World, words: &[&str]) -> (Option<i32>, String) {
    let config = world.folder.path().join("gatehouse.yaml");
    let done = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .args(words)
        .arg("--config")
        .arg(config)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said =
        [done.stdout, done.stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned()).concat();
    (done.status.code(), said)
}

/// A world of which everybody may write to us whom not two of three lists name; the third list is signed.
async fn world(lists: &Path) -> World {
    minisign(lists, &["-G", "-W", "-f", "-p", "key.pub", "-s", "key.sec"]);
    write(lists, "one.txt", &["friend.example", "a.example", "b.example"]);
    write(lists, "two.txt", &["cousin.example", "c.example", "d.example"]);
    write(lists, "three.txt", &["cousin.example", "e.example", "f.example"]);
    minisign(lists, &["-S", "-W", "-s", "key.sec", "-m", "three.txt"]);
    let key = std::fs::read_to_string(lists.join("key.pub")).unwrap();
    let key = key.lines().nth(1).unwrap();
    let mut plan = Plan::listed(HALL, POLICY).limit("rate", "6000/min");
    plan.hosted[0].federation = "any".to_owned();
    let at = lists.display();
    std::fs::create_dir(lists.join("state")).unwrap();
    plan.more = format!(
        "state: \"{at}/state\"\nlists:\n  - {{ name: one, file: \"{at}/one.txt\" }}\n  - {{ name: two, file: \"{at}/two.txt\" }}\n  \
           - {{ name: three, file: \"{at}/three.txt\", verify: {{ minisign: \"{key}\" }} }}\n"
    );
    World::build(&plan).await.unwrap()
}

async fn domains(world: &World, list: &str, count: f64) {
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = world.metrics().await.unwrap();
        if metrics.sum("list_domains", &[("list", list)]) == count {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{list} never had {count} domains");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn held(world: &World, list: &str, reason: &str) {
    world.counted("list_held", &[("list", list), ("reason", reason)], 1.0).await.unwrap();
}

// POL-13.
// Commands are waited for here, and the gateway goes on beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_lists_as_the_rule_asks_for_keep_a_domain_out() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path();
    let world = world(lists).await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);

    // One list is not enough, and what a rule of ours names goes before two.
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "one list").await;
    let mut ours = by_certificate(&cousin, HALL).await;
    still_passes(&world, &mut ours, "c@cousin.example", "j@hall.example", "our own view").await;

    // A second one names it: the file is taken over by itself, and the living stream ends.
    write(lists, "two.txt", &["cousin.example", "c.example", "d.example", "friend.example"]);
    domains(&world, "two", 4.0).await;
    let end = stream.ending().await.unwrap();
    assert_eq!(end.condition.as_deref(), Some("policy-violation"));
    let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
    assert_ne!(stream.external(FRIEND).await.ok(), Some(Login::Success));
    still_passes(&world, &mut ours, "c@cousin.example", "j@hall.example", "unharmed").await;

    // Who asks reads which lists, and which entry; so does the log of refusals.
    let (code, said) = gatehouse(&world, &["policy", "explain", "--from", "x.friend.example", "--to", HALL]);
    assert!(code == Some(1) && said.contains("(on-lists)"), "{said}");
    assert!(
        said.contains("one (friend.example), two (friend.example); 2 of 3 lists, 2 are enough"),
        "{said}"
    );
    let (_, said) = gatehouse(&world, &["refusals", "--reason", "on-lists", "--format", "json"]);
    assert!(
        said.contains("one (friend.example), two (friend.example)") && said.contains("on-lists"),
        "{said}"
    );
}

// POL-13: what shrinks or grows by more than a third, is not signed, is too old or is gone changes nothing, and is told.
// Commands are waited for here, and the gateway goes on beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_cannot_be_trusted_is_held_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path();
    let world = world(lists).await;
    domains(&world, "three", 3.0).await;

    write(lists, "one.txt", &["friend.example"]);
    held(&world, "one", "shrunk").await;
    write(lists, "two.txt", &["cousin.example", "c.example", "d.example", "e.example", "f.example"]);
    held(&world, "two", "grown").await;
    write(lists, "three.txt", &["friend.example", "e.example", "f.example"]);
    held(&world, "three", "unsigned").await;
    for list in ["one", "two", "three"] {
        domains(&world, list, 3.0).await;
    }
    let (code, said) = gatehouse(&world, &["check"]);
    assert!(
        code == Some(0) && said.contains("\"three\" is held: no good signature lies beside it"),
        "{said}"
    );
    let (_, said) = gatehouse(&world, &["policy", "explain", "--live", "--from", FRIEND, "--to", HALL]);
    assert!(said.contains("one (friend.example); 1 of 3 lists"), "{said}");

    // What is signed is taken, also where an editor has written a byte order mark before the list and the signature.
    let three = std::fs::read_to_string(lists.join("three.txt")).unwrap();
    std::fs::write(lists.join("three.txt"), format!("\u{feff}{three}")).unwrap();
    minisign(lists, &["-S", "-W", "-s", "key.sec", "-m", "three.txt"]);
    let signature = std::fs::read_to_string(lists.join("three.txt.minisig")).unwrap();
    std::fs::write(lists.join("three.txt.minisig"), format!("\u{feff}{signature}")).unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let (_, said) = gatehouse(&world, &["policy", "explain", "--live", "--from", FRIEND, "--to", HALL]);
        if said.contains("one (friend.example), three (friend.example)") {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    std::fs::remove_file(lists.join("two.txt")).unwrap();
    held(&world, "two", "unreadable").await;

    // An operator who has looked takes the change, and the plan says what comes.
    let config = world.folder.path().join("gatehouse.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("/one.txt\" }", "/one.txt\", change: any }")).unwrap();
    let (code, said) = gatehouse(&world, &["reload", "--plan"]);
    assert!(code == Some(0) && said.contains("list one: 3 -> 1 domains"), "{said}");
    world.gate.reload().await.unwrap();
    domains(&world, "one", 1.0).await;
    domains(&world, "two", 3.0).await;

    // One that nobody renews is too old some day.
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("change: any }", "change: any, expires: 1s }")).unwrap();
    world.gate.reload().await.unwrap();
    held(&world, "one", "stale").await;
    domains(&world, "one", 1.0).await;
}

/// What the status says of a list: its state in the text of a terminal, and whether it is an alarm.
async fn told_of(world: &World, list: &str, state: &str) -> bool {
    let (_, page) = world.get("/status").await.unwrap();
    assert!(page.contains("<h2 id=\"lists\">Lists that rules ask</h2>") && page.contains(state), "{page}");
    let (_, text) = gatehouse(world, &["status"]);
    let line =
        text.lines().find(|line| line.starts_with(&format!("  {list} ")) && line.contains(" domains  "));
    assert!(line.is_some_and(|line| line.contains(state)), "{text}");
    let (_, json) = world.get("/status.json").await.unwrap();
    let snapshot: gatehouse::status::Snapshot = serde_json::from_str(&json).unwrap();
    snapshot.alarms.iter().any(|alarm| alarm.starts_with(&format!("the list {list} is held: ")))
}

// POL-13: a list that is held shows on the status page, in its JSON and in the terminal.
// Commands are waited for here, and the gateway goes on beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_shows_every_list_and_alarms_of_one_that_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path();
    let world = world(lists).await;
    domains(&world, "three", 3.0).await;
    assert!(!told_of(&world, "one", "in force").await, "nothing is held");
    write(lists, "one.txt", &["friend.example"]);
    held(&world, "one", "shrunk").await;
    assert!(told_of(&world, "one", "held: shrunk").await, "one is held");
    assert!(!told_of(&world, "two", "in force").await, "two is not");
    let (_, page) = world.get("/status").await.unwrap();
    assert!(page.contains("more than a third less than before; look at it"), "{page}");
}

/// The same gateway once more, as after a restart.
async fn again(world: &mut World) {
    let config: PathBuf = world.folder.path().join("gatehouse.yaml");
    world.gate = Gate::start(&config).await.unwrap();
}

// POL-13: what was good before a restart is in force behind it, too, where the files are not to be used.
// Commands are waited for here, and the gateway goes on beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_copy_of_a_list_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path();
    let state = lists.join("state");
    let mut world = world(lists).await;
    write(lists, "two.txt", &["cousin.example", "c.example", "d.example", "friend.example"]);
    domains(&world, "two", 4.0).await;
    // Copies of lists that are no more go; what only looks like one stays.
    write(&state, "list-gone.kept", &["x.example"]);
    write(&state, "list-gone.txt", &["x.example"]);
    world.gate.stop().await.unwrap();
    let copy = std::fs::read_to_string(state.join("list-two.kept")).unwrap();
    assert_eq!(copy, "c.example\ncousin.example\nd.example\nfriend.example\n");
    assert!(!state.join("list-gone.kept").exists() && state.join("list-gone.txt").exists());

    // Meanwhile one file loses most of its entries, one goes, one is changed by who has no key.
    write(lists, "one.txt", &["x.example"]);
    std::fs::remove_file(lists.join("two.txt")).unwrap();
    write(lists, "three.txt", &["x.example", "e.example", "f.example"]);
    let (code, said) = gatehouse(&world, &["check"]);
    let told = "the list \"one\" is held: it names more than a third less than before; look at it";
    assert!(code == Some(0) && said.contains(told), "{said}");
    again(&mut world).await;
    for (list, reason, count) in
        [("one", "shrunk", 3.0), ("two", "unreadable", 4.0), ("three", "unsigned", 3.0)]
    {
        held(&world, list, reason).await;
        domains(&world, list, count).await;
    }
    let (_, said) = gatehouse(&world, &["policy", "explain", "--live", "--from", FRIEND, "--to", HALL]);
    assert!(said.contains("one (friend.example), two (friend.example); 2 of 3 lists"), "{said}");
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
    assert_ne!(stream.external(FRIEND).await.ok(), Some(Login::Success));

    // A second restart changes nothing of it: what is held is not what is kept.
    world.gate.stop().await.unwrap();
    again(&mut world).await;
    domains(&world, "one", 3.0).await;
    domains(&world, "two", 4.0).await;

    // Good files are taken again, and kept.
    write(lists, "two.txt", &["cousin.example", "c.example", "d.example", "e.example"]);
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while world.metrics().await.unwrap().sum("list_held", &[("list", "two")]) > 0.0 {
        assert!(tokio::time::Instant::now() < until, "two is held for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.gate.stop().await.unwrap();
    let copy = std::fs::read_to_string(state.join("list-two.kept")).unwrap();
    assert!(copy.contains("e.example") && !copy.contains("friend.example"), "{copy}");

    // A copy that is broken is left aside, and the gateway starts; then nobody is named until the file is good.
    std::fs::remove_file(lists.join("two.txt")).unwrap();
    std::fs::write(state.join("list-two.kept"), [0xff, 0xfe, b'\n']).unwrap();
    again(&mut world).await;
    held(&world, "two", "unreadable").await;
    domains(&world, "two", 0.0).await;
    domains(&world, "one", 3.0).await;
}
