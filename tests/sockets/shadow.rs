//! A policy in the shadow over real sockets: judged beside the one in force, told in every place, acting nowhere, and made
//! the policy by one command; and what its rules are used for, over restarts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use gatehouse::demo::world::{Plan, World};
use serde_json::Value;

use crate::sockets::*;
use crate::steering::*;

const NOW: &str = "version: v1\nrules:\n  - { name: banned, domains: [spam.example], verdict: deny }\n";

const NEXT: &str = r#"version: v1
rules:
  - name: friends
    domains: [friend.example]
    stanzas: { allow: [message, iq] }
  - { name: forgiven, domains: [spam.example] }
expect:
  - { from: friend.example, to: hall.example, verdict: allow, rule: friends }
"#;

/// A world that speaks with everybody, and keeps what it has counted.
async fn world() -> World {
    let mut plan = Plan::listed(HALL, NOW).limit("rate", "6000/min");
    plan.hosted[0].federation = "any".to_owned();
    let world = World::build(&plan).await.unwrap();
    fs::create_dir(world.folder.path().join("state")).unwrap();
    let file = config(&world);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}state: state\n")).unwrap();
    world
}

fn config(world: &World) -> PathBuf {
    world.folder.path().join("gatehouse.yaml")
}

/// Puts this policy into the shadow of hall.example, as if it were `listed`.
async fn shadow(world: &World, next: &str) {
    fs::write(world.folder.path().join("policies/next.yaml"), next).unwrap();
    let file = config(world);
    let text = fs::read_to_string(&file).unwrap();
    let policies = format!("    policies: [\"policies/{HALL}.yaml\"]\n");
    assert!(text.contains(&policies), "{text}");
    let beside = "    shadow: [policies/next.yaml]   # from next week on\n    shadow-federation: listed\n";
    fs::write(&file, text.replace(&policies, &format!("{policies}{beside}"))).unwrap();
    ask(&world.socket(), &["reload"]).await;
}

/// Asks until the answer is as it should be.
async fn asked(world: &World, what: &[&str], holds: impl Fn(&Value) -> bool) -> Value {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = ask(&world.socket(), what).await;
        if holds(&answer) {
            return answer;
        }
        assert!(tokio::time::Instant::now() < until, "{answer:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn change<'a>(answer: &'a Value, from: &str, to: &str) -> Option<&'a Value> {
    let changes = answer["report"]["changes"].as_array().unwrap();
    changes.iter().find(|change| change["from"] == from && change["to"] == to)
}

// POL-13, POL-21: a list of the shadow that names one address is told as that sender's stanzas; the pair of all others goes on.
#[tokio::test]
async fn what_lists_of_the_shadow_say_of_one_sender_is_told_of_him_alone() {
    let world = world().await;
    let friend = peer(&world, 10, FRIEND).await;
    // What `printf %s bad@friend.example | sha256sum` prints.
    let digest = "09a78af8352c039b11698621070313cc94a0a836f46019c8970a1d6c1c86f8c7";
    fs::write(world.folder.path().join("block.txt"), format!("{digest}\n")).unwrap();
    let file = config(&world);
    let text = fs::read_to_string(&file).unwrap();
    let list = "lists: [{ name: block, file: block.txt, format: jid-sha256 }]\n";
    fs::write(&file, format!("{text}{list}")).unwrap();
    shadow(&world, "version: v1\nrules:\n  - { name: senders, verdict: deny, lists: [block] }\n").await;
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("shadow-federation: listed", "shadow-federation: any")).unwrap();
    ask(&world.socket(), &["reload"]).await;

    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "good@friend.example", "j@hall.example", "good").await;
    still_passes(&world, &mut stream, "bad@friend.example", "j@hall.example", "bad").await;
    let told = asked(&world, &["policy", "shadow"], |answer| change(answer, FRIEND, HALL).is_some()).await;
    let all = told["report"]["changes"].as_array().unwrap();
    let [only] = &all[..] else { panic!("{told:#}") };
    let said = (&only["what"], &only["sender"], &only["reason"], &only["stanzas"]);
    let expected = (&"sender".into(), &"bad@friend.example".into(), &"on-lists".into(), &Value::from(1));
    assert_eq!(said, expected, "{told:#}");
    let text = tell(&world.socket(), &["policy", "shadow"]).await.out;
    let words = "friend.example > hall.example  bad@friend.example alone would be refused: on-lists";
    assert!(text.contains(words), "{text}");
    let (_, page) = world.get("/status.json").await.unwrap();
    assert!(page.contains("sender bad@friend.example"), "{page}");
}

// POL-21.
#[tokio::test]
async fn what_is_in_the_shadow_is_told_everywhere_and_acts_nowhere_until_it_is_promoted() {
    let world = world().await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let spam = peer(&world, 12, "spam.example").await;
    // One pair lives before there is a shadow, by certificate; one begins after, by dialback.
    let mut early = by_certificate(&friend, HALL).await;
    let mut long = by_certificate(&cousin, HALL).await;
    let none = tell(&world.socket(), &["policy", "shadow"]).await;
    assert!(none.code == 1 && none.err.contains("no policy is in the shadow"), "{none:?}");
    shadow(&world, NEXT).await;
    let unlisted = peer(&world, 13, STRANGER).await;
    let mut late = by_dialback(&unlisted, HALL).await;

    // Nothing of it acts.
    still_passes(&world, &mut early, "a@friend.example", "j@hall.example", "early").await;
    still_passes(&world, &mut long, "c@cousin.example", "j@hall.example", "long").await;
    still_passes(&world, &mut late, "s@stranger.example", "j@hall.example", "late").await;
    early.send("<presence from='a@friend.example/r' to='j@hall.example'/>").await.unwrap();
    still_passes(&world, &mut early, "a@friend.example", "j@hall.example", "behind").await;
    world.legacy.message("j@hall.example", "s@stranger.example", "out");
    let mut refused = spam.call(HALL).unwrap().open().await.unwrap();
    assert!(refused.external("spam.example").await.is_err() || !refused.offers_external());

    // What would be otherwise, both ways; the pair that lived before is among it.
    let told = asked(&world, &["policy", "shadow"], |answer| {
        [(COUSIN, HALL), (STRANGER, HALL), (HALL, STRANGER), ("spam.example", HALL), (FRIEND, HALL)]
            .iter()
            .all(|(from, to)| change(answer, from, to).is_some())
            && change(answer, HALL, STRANGER).is_some_and(|change| change["stanzas"] == 1)
    })
    .await;
    assert_eq!(told["domains"][0]["federation"], "listed", "{told:#}");
    for (from, now, reason, what, rules) in [
        (COUSIN, "allow", "not-listed", "pair", ("default", "default")),
        (STRANGER, "allow", "not-listed", "pair", ("default", "default")),
        ("spam.example", "deny", "blocked", "pair", ("banned", "forgiven")),
        (FRIEND, "allow", "kind-denied", "stanza", ("default", "friends")),
    ] {
        let change = change(&told, from, HALL).unwrap();
        let said = (&change["now"], &change["reason"], &change["what"]);
        assert_eq!(said, (&now.into(), &reason.into(), &what.into()), "{change:#}");
        assert_eq!((&change["rule"], &change["next_rule"]), (&rules.0.into(), &rules.1.into()), "{change:#}");
        assert_ne!(change["now"], change["next"]);
    }
    for (from, stanzas, living) in [(COUSIN, 1, 1), (STRANGER, 1, 1), (FRIEND, 1, 1), ("spam.example", 0, 0)]
    {
        let change = change(&told, from, HALL).unwrap();
        assert_eq!((&change["stanzas"], &change["living"]), (&stanzas.into(), &living.into()), "{change:#}");
    }
    assert!(told["report"]["since"].is_string() && told["report"]["left_out"] == 0, "{told:#}");
    let text = tell(&world.socket(), &["policy", "shadow"]).await.out;
    for words in [
        "hall.example: in the shadow ",
        "federation any -> listed",
        "cousin.example > hall.example  would be refused: not-listed  from rule default",
        "spam.example > hall.example  would be admitted, is blocked  from rule banned to rule forgiven at ",
        "friend.example > hall.example  some stanzas would be refused: kind-denied",
        "4 would be refused, 1 would be admitted",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }

    // Metrics, status page, audit, explain.
    let metrics = world.metrics().await.unwrap();
    for (family, change, least) in [
        ("shadow_verdicts_total", "refuses", 2.0),
        ("shadow_verdicts_total", "admits", 1.0),
        ("shadow_verdicts_total", "none", 1.0),
        ("shadow_stanzas_total", "refuses", 4.0),
    ] {
        let found = metrics.sum(family, &[("change", change)]);
        assert!(found >= least, "{family} {change}: {found}");
    }
    assert_eq!(metrics.sum("shadow_info", &[]), 1.0);
    let (_, json) = world.get("/status.json").await.unwrap();
    let status: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&status["shadow"]["refused"], &status["shadow"]["admitted"]),
        (&4.into(), &1.into()),
        "{json}"
    );
    let (_, page) = world.get("/status").await.unwrap();
    assert!(page.contains("Policy in the shadow: 4 would be refused, 1 admitted"), "{page}");
    let mark = r#""shadow":{"verdict":"deny","reason":"not-listed","rule":"default"}"#;
    recorded(&world, &["\"admitted\"", "stranger.example>hall.example", mark]).await;
    let mark = r#""shadow":{"verdict":"allow","reason":"allowed","rule":"forgiven"}"#;
    recorded(&world, &["\"rejected\"", "spam.example>hall.example", mark]).await;
    let asked_live = ["policy", "explain", "--live", "--from", COUSIN, "--to", HALL];
    let said = tell(&world.socket(), &asked_live).await;
    assert!(said.code == 0 && said.out.contains("shadow:     deny, not-listed (rule default)"), "{said:?}");

    // Promotion shows its plan and waits for a yes; then it is the policy, and the file says so.
    let (file, before) = (config(&world), fs::read_to_string(config(&world)).unwrap());
    let promote = ["policy", "promote", "--config", file.to_str().unwrap()];
    let said = tell(&world.socket(), &promote).await;
    assert!(said.code == 1 && said.out.ends_with("--yes promotes without asking\n"), "{said:?}");
    assert!(said.out.contains("closes: ") && said.out.contains("new rule: friends"), "{said:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    still_passes(&world, &mut late, "s@stranger.example", "j@hall.example", "not yet").await;
    let said = tell(&world.socket(), &[promote.as_slice(), &["--yes"]].concat()).await;
    assert!(said.code == 0 && said.out.ends_with("is the policy\n"), "{said:?}");
    assert_eq!(late.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    assert_eq!(long.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    still_passes(&world, &mut early, "a@friend.example", "j@hall.example", "stays").await;
    let after = fs::read_to_string(&file).unwrap();
    assert!(after.contains("    policies: [policies/next.yaml]   # from next week on\n"), "{after}");
    assert!(after.contains("federation: listed") && !after.contains("shadow"), "{after}");
    let none = tell(&world.socket(), &["policy", "shadow"]).await;
    assert!(none.code == 1 && none.err.contains("no policy is in the shadow"), "{none:?}");
    assert_eq!(world.metrics().await.unwrap().sum("shadow_info", &[]), 0.0);
}

#[tokio::test]
async fn a_shadow_that_is_wrong_is_refused_with_its_line_and_nothing_is_promoted() {
    let world = world().await;
    shadow(&world, NEXT).await;
    let (file, before) = (config(&world), fs::read_to_string(config(&world)).unwrap());
    // A case of the shadow fails: it is told as any other, and what is compared stays as it was.
    let wrong = NEXT.replace("verdict: allow, rule: friends }", "verdict: deny }");
    fs::write(world.folder.path().join("policies/next.yaml"), &wrong).unwrap();
    for what in [&["reload"][..], &["policy", "promote", "--yes", "--config", file.to_str().unwrap()]] {
        let said = tell(&world.socket(), what).await;
        assert!(
            said.code == 1 && said.err.contains("next.yaml:8") && said.err.contains("expects deny"),
            "{said:?}"
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let said = run(&["check", "--config", file.to_str().unwrap()]);
    assert!(said.code == 78 && said.out.contains("next.yaml:8"), "{said:?}");
    let said = ask(&world.socket(), &["policy", "shadow"]).await;
    assert_eq!(said["domains"][0]["files"].as_array().unwrap().len(), 1);
}

// POL-22.
#[tokio::test]
async fn what_rules_are_used_for_outlives_a_restart_and_unused_ones_are_named() {
    let world = world().await;
    let day = |ahead: i64| {
        let now = jiff::Timestamp::now();
        let then = now.checked_add(jiff::SignedDuration::from_hours(24 * ahead)).unwrap();
        then.to_string().split('T').next().unwrap().to_owned()
    };
    let policy = format!(
        "version: v1\nrules:\n  - {{ name: friends, domains: [friend.example], owner: Ada Novak, ticket: SEC-17, expires: {} }}\n  - {{ name: nobody, domains: [nobody.example], owner: Bo }}\nexpect:\n  - {{ from: a@friend.example, to: hall.example, verdict: allow }}\n  - {{ from: nobody.example, to: hall.example, verdict: allow }}\n",
        day(6)
    );
    fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), policy).unwrap();
    ask(&world.socket(), &["reload"]).await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "used").await;
    // Nothing was there long enough to be called unused for a day; for no time at all, what was not used is.
    let answer = ask(&world.socket(), &["policy", "unused", "--for", "1d"]).await;
    assert_eq!((answer["rules"].as_array().unwrap().len(), &answer["young"]), (0, &2.into()), "{answer:#}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let answer = ask(&world.socket(), &["policy", "unused", "--for", "1s"]).await;
    let names =
        |list: &Value| list.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&answer["rules"]), ["nobody"], "what carries a living pair is in use: {answer:#}");
    assert!(names(&answer["cases"]).contains(&"nobody.example > hall.example".into()), "{answer:#}");
    assert_eq!((&answer["kept"], &answer["rules"][0]["owner"]), (&true.into(), &"Bo".into()));
    let text = tell(&world.socket(), &["policy", "unused", "--for", "1s"]).await.out;
    assert!(text.contains("rule nobody  allow  at ") && text.contains("never used since "), "{text}");
    // Whose rule ends soon is told in the status and as a number.
    let (_, json) = world.get("/status.json").await.unwrap();
    let status: Value = serde_json::from_str(&json).unwrap();
    let alarm = "rule friends (owner Ada Novak, ticket SEC-17) expires after ";
    assert!(status["alarms"].to_string().contains(alarm), "{json}");
    assert_eq!((&status["rules"][0]["owner"], &status["rules"][0]["hits"]), (&"Ada Novak".into(), &1.into()));
    let metrics = world.metrics().await.unwrap();
    for (days, rules) in [("1", 0.0), ("7", 1.0), ("30", 1.0)] {
        assert_eq!(metrics.sum("rules_expiring", &[("days", days)]), rules, "{days}");
    }

    // Over a restart, here as a process of its own, it goes on; what it has announced is not announced again.
    drop(stream);
    world.gate.stop().await.unwrap();
    let kept = world.folder.path().join("state/policy-use.json");
    assert!(fs::read_to_string(&kept).unwrap().contains("\"friends\""));
    tokio::task::spawn_blocking(move || {
        let (folder, address) = prepare("");
        fs::create_dir(folder.path().join("state")).unwrap();
        fs::copy(&kept, folder.path().join("state/policy-use.json")).unwrap();
        let policy = world.folder.path().join(format!("policies/{HALL}.yaml"));
        fs::copy(policy, folder.path().join("policy.yaml")).unwrap();
        let file = folder.path().join("gatehouse.yaml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}state: state\n")).unwrap();
        let command = Running::command(folder.path());
        let mut running = Running::of(folder, address, command);
        let hits = |running: &Running| {
            let said = run(&["status", "--format", "json", "--socket", running.socket().to_str().unwrap()]);
            let status: Value = serde_json::from_str(&said.out).unwrap();
            let rule = &status["snapshot"]["rules"][0];
            (rule["name"].clone(), rule["hits"].clone(), rule["used"].is_string())
        };
        assert_eq!(hits(&running), ("friends".into(), 1.into(), true));
        let (_, said) = running.stop();
        assert!(!said.contains("a rule expires soon"), "{said}");
        running.again();
        assert_eq!(hits(&running), ("friends".into(), 1.into(), true));
        let _ended = running.stop();
        // A file that is broken is told, and counted anew.
        fs::write(running.folder.path().join("state/policy-use.json"), "{").unwrap();
        running.again();
        assert_eq!(hits(&running), ("friends".into(), 0.into(), false));
        assert!(running.folder.path().join("state/policy-use.json.unread").exists());
        let (_, said) = running.stop();
        assert!(
            said.contains("the use of rules is counted anew") && said.contains("a rule expires soon"),
            "{said}"
        );
    })
    .await
    .unwrap();
}
