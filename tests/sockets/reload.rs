//! Reloads of a gateway with live peers: told before, all or nothing, exact, and without a lost octet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::path::Path;
use std::time::Duration;

use gatehouse::demo::peer::{Admit, Manner, Welcome};
use gatehouse::demo::session::Login;
use gatehouse::demo::world::{Plan, World};
use serde_json::json;

use crate::sockets::*;
use crate::steering::*;

fn write_policy(world: &World, text: &str) {
    std::fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), text).unwrap();
}

/// friend.example only, under a new rule; cousin.example under none.
const NARROW: &str = "version: v1\nrules:\n  - { name: friends, domains: [friend.example] }\n";

// The set is told before anything happens, and exactly that set is closed.
#[tokio::test]
async fn the_plan_is_told_first_and_then_comes_about_exactly() {
    let world = border().await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let mut stays = by_certificate(&friend, HALL).await;
    let mut goes = by_certificate(&cousin, HALL).await;
    let mut elsewhere = by_certificate(&cousin, ANNEX).await;
    let streams = ask(&world.socket(), &["streams"]).await;
    let name = streams["streams"]
        .as_array()
        .unwrap()
        .iter()
        .find(|stream| stream["pairs"][0]["from"] == COUSIN && stream["pairs"][0]["to"] == HALL)
        .unwrap()["stream"]
        .clone();
    write_policy(&world, NARROW);

    let plan = ask(&world.socket(), &["reload", "--plan"]).await["plan"].clone();
    assert_eq!(plan["closes"], json!([name]));
    assert_eq!((&plan["stays"], &plan["silent"]), (&1.into(), &0.into()), "{plan:#}");
    assert_eq!(plan["rules_added"], json!(["friends"]));
    assert_eq!(plan["rules_removed"], json!(["agencies", "banned", "partners", "pinned", "readers"]));
    assert_eq!(plan["rules_changed"], json!([]));
    assert_eq!(
        plan["by_rule"],
        json!([
            { "rule": "partners", "next": "default", "verdict": "not-listed", "pairs": 1 },
            { "rule": "partners", "next": "friends", "verdict": "allow", "pairs": 1 },
        ])
    );
    assert_ne!(plan["before"], plan["after"]);
    // Nothing has happened.
    still_passes(&world, &mut goes, "c@cousin.example", "j@hall.example", "only a plan").await;
    let said = tell(&world.socket(), &["reload", "--plan"]).await;
    assert!(said.out.contains(&format!("closes: {}", name.as_str().unwrap())), "{said:?}");
    assert!(said.out.ends_with("nothing was changed\n"), "{said:?}");

    let done = ask(&world.socket(), &["reload"]).await["plan"].clone();
    assert_eq!(done, plan);
    assert_eq!(goes.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    still_passes(&world, &mut stays, "a@friend.example", "j@hall.example", "stays").await;
    still_passes(&world, &mut elsewhere, "c@cousin.example", "k@annex.example", "elsewhere").await;
    let streams = ask(&world.socket(), &["streams"]).await;
    assert!(streams.to_string().contains("\"rule\":\"friends\""), "judged under the new rule: {streams}");
}

// "`reload --plan` shows every change": a rule that says another thing under its name, in whatever it says; and none that only
// stands elsewhere.
#[tokio::test]
async fn a_rule_that_is_changed_is_named_in_the_plan() {
    let world = border().await;
    let rules = |edit: &dyn Fn(String) -> String| {
        let text = "version: v1\nrules:\n  - { name: friends, domains: [friend.example, a.example], owner: Ada }\n  \
                    - { name: others, domains: [b.example], verdict: deny }\n";
        write_policy(&world, &edit(text.to_owned()));
    };
    rules(&|text| text);
    assert_eq!(tell(&world.socket(), &["reload"]).await.code, 0);
    for (from, to, changed) in [
        ("friend.example, a", "freind.example, a", json!(["friends"])),
        ("owner: Ada", "owner: Eve", json!(["friends"])),
        ("owner: Ada", "owner: Ada, tls: \"1.3\"", json!(["friends"])),
        ("owner: Ada", "owner: Ada, expires: 2099-01-01", json!(["friends"])),
        ("owner: Ada", "owner: Ada, networks: [192.0.2.0/24]", json!(["friends"])),
        ("verdict: deny", "verdict: allow", json!(["others"])),
        ("version: v1", "version: v1\ndefaults: { tls: \"1.3\" }", json!(["friends", "others"])),
        ("version: v1", "# a word\nversion: v1", json!([])),
        ("friend.example, a.example", "a.example, friend.example", json!([])),
    ] {
        rules(&|text| text.replace(from, to));
        let plan = ask(&world.socket(), &["reload", "--plan"]).await["plan"].clone();
        assert_eq!(plan["rules_changed"], changed, "{from} -> {to}");
        let said = tell(&world.socket(), &["reload", "--plan"]).await.out;
        assert!(said.contains("policy: "), "{said}");
        assert_eq!(said.contains("rule changed: "), changed != json!([]), "{said}");
    }
}

// "No stream that stays allowed loses an octet."
#[tokio::test]
async fn a_stream_that_stays_allowed_loses_nothing_over_many_reloads() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let (wide, narrow) = (POLICY.to_owned(), NARROW.to_owned());
    let sending = async {
        for n in 0..1500 {
            stream.message("a@friend.example", "j@hall.example", &format!("m{n}")).await.unwrap();
            if n % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    let reloading = async {
        for turn in 0..10 {
            write_policy(&world, if turn % 2 == 0 { &narrow } else { &wide });
            world.gate.reload().await.unwrap();
        }
    };
    tokio::join!(sending, reloading);
    world.legacy.inbox.wait_for(Duration::from_secs(20), |n| n.body() == Some("m1499")).await.unwrap();
    let bodies: Vec<String> =
        world.legacy.inbox.all().iter().filter_map(|n| n.body().map(str::to_owned)).collect();
    assert_eq!(bodies, (0..1500).map(|n| format!("m{n}")).collect::<Vec<_>>());
    let applied = world.metrics().await.unwrap().sum("reloads_total", &[("outcome", "applied")]);
    assert!((applied - 10.0).abs() < 1e-9);
}

/// So many rules that concern nobody here, and one for the partner, under this name.
fn very_many(rules: usize, name: &str) -> String {
    let mut text = format!("version: v1\nrules:\n  - {{ name: {name}, domains: [friend.example] }}\n");
    for n in 0..rules {
        text.push_str(&format!("  - {{ name: r{n}, domains: [d{n}.example, \"*.d{n}.example\"] }}\n"));
    }
    text
}

// "100,000-rule reload under traffic loses nothing"; `GATEHOUSE_RULES` makes it another number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_very_many_rules_under_traffic_loses_nothing_either_way() {
    let _alone = BACKGROUND.lock().await;
    let rules = std::env::var("GATEHOUSE_RULES").ok().map_or(100_000, |rules| rules.parse().unwrap());
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    world.legacy.message("j@hall.example", "a@friend.example", "first");
    friend.inbox.wait_body("first").await.unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    let sending = async {
        let mut sent = 0;
        // On and on until all reloads are done, and then some.
        while !over.load(std::sync::atomic::Ordering::SeqCst) || sent % 50 != 0 || sent < 500 {
            stream.message("a@friend.example", "j@hall.example", &format!("in{sent}")).await.unwrap();
            world.legacy.message("j@hall.example", "a@friend.example", &format!("out{sent}"));
            sent += 1;
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        sent
    };
    let reloading = async {
        for turn in 0..4 {
            write_policy(&world, &very_many(rules, if turn % 2 == 0 { "even" } else { "odd" }));
            let begun = std::time::Instant::now();
            world.gate.reload().await.unwrap();
            println!("{rules} rules in {:?}", begun.elapsed());
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let (sent, ()) = tokio::join!(sending, reloading);
    println!("{sent} stanzas each way");
    let last = sent - 1;
    let patience = Duration::from_secs(60);
    world.legacy.inbox.wait_for(patience, |n| n.body() == Some(&format!("in{last}"))).await.unwrap();
    friend.inbox.wait_for(patience, |n| n.body() == Some(&format!("out{last}"))).await.unwrap();
    for (inbox, way) in [(&world.legacy.inbox, "in"), (&friend.inbox, "out")] {
        let all = inbox.all();
        let bodies: Vec<&str> =
            all.iter().filter_map(|n| n.body()).filter(|body| body.starts_with(way)).collect();
        assert_eq!(bodies, (0..sent).map(|n| format!("{way}{n}")).collect::<Vec<_>>(), "{way}");
    }
    assert!(world.legacy.bounces.all().is_empty(), "nothing came back");
    let streams = ask(&world.socket(), &["streams"]).await.to_string();
    assert!(streams.contains("\"rule\":\"odd\""), "the last list is lived by: {streams}");
}

// "A bad file keeps the old state, says where the fault is and answers non-zero."
#[tokio::test]
async fn a_bad_file_keeps_everything_as_it_is_and_is_told_with_its_line() {
    let world = border().await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut stream = by_certificate(&cousin, HALL).await;
    let key = world.folder.path().join(format!("pki/{HALL}.key"));
    let good_key = std::fs::read(&key).unwrap();
    let root = world.folder.path().join("pki/root.pem");
    let good_root = std::fs::read(&root).unwrap();
    let digest = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap()["digest"].clone();
    let before = digest(&world.get("/policy").await.unwrap().1);

    // In each case what is good beside the fault would close the stream, and does not.
    type Spoil<'a> = &'a dyn Fn();
    let cases: [(Spoil<'_>, &str); 4] = [
        (
            &|| write_policy(&world, "version: v1\nrules:\n  - name: x\n    domain: [friend.example]\n"),
            "yaml:4:5",
        ),
        (
            &|| {
                write_policy(
                    &world,
                    &format!(
                        "{NARROW}expect:\n  - {{ from: cousin.example, to: hall.example, verdict: allow }}\n"
                    ),
                );
            },
            "yaml:5:",
        ),
        (
            &|| {
                write_policy(&world, NARROW);
                std::fs::write(&key, &good_key[..good_key.len() / 2]).unwrap();
            },
            "hall.example.key",
        ),
        (
            &|| {
                std::fs::write(&key, &good_key).unwrap();
                std::fs::write(&root, "half").unwrap();
            },
            "root.pem",
        ),
    ];
    for (spoil, place) in cases {
        spoil();
        for arguments in [vec!["reload", "--plan"], vec!["reload"]] {
            let said = tell(&world.socket(), &arguments).await;
            assert_eq!(said.code, 1, "{place}: {said:?}");
            assert!(said.err.contains(place), "{place}: {said:?}");
        }
        assert_eq!(digest(&world.get("/policy").await.unwrap().1), before);
        still_passes(&world, &mut stream, "c@cousin.example", "j@hall.example", place).await;
    }
    std::fs::write(&root, &good_root).unwrap();
    assert_eq!(tell(&world.socket(), &["reload"]).await.code, 0);
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    let audit = world.folder.path().join("audit.jsonl");
    world.gate.stop().await.unwrap();
    let text = std::fs::read_to_string(audit).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"action\":\"reload\"")).count(), 5, "{text}");
}

// CRT-12: who is no longer trusted by what was read is let go, although the handshake was long ago.
#[tokio::test]
async fn a_peer_whose_anchor_is_gone_is_let_go_and_one_proven_by_dialback_stays() {
    let world = border().await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let mut goes = by_certificate(&friend, HALL).await;
    let mut stays = by_dialback(&cousin, HALL).await;
    let other = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap().cert.pem();
    std::fs::write(world.folder.path().join("pki/root.pem"), other).unwrap();
    let plan = ask(&world.socket(), &["reload", "--plan"]).await["plan"].clone();
    assert_eq!((&plan["stays"], &plan["silent"]), (&1.into(), &0.into()), "{plan:#}");
    assert_eq!(plan["changes"][0]["verdict"], "certificate-distrusted", "{plan:#}");
    assert_eq!((&plan["changes"][0]["from"], plan["closes"].as_array().unwrap().len()), (&FRIEND.into(), 1));
    assert_eq!(ask(&world.socket(), &["reload"]).await["plan"], plan);
    assert_eq!(goes.ending().await.unwrap().condition.as_deref(), Some("reset"));
    still_passes(&world, &mut stays, "c@cousin.example", "j@hall.example", "by dialback").await;
    let records = || std::fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap();
    let told = |text: String| {
        text.lines().any(|line| line.contains("certificate-distrusted") && line.contains(FRIEND))
    };
    let begun = std::time::Instant::now();
    while !told(records()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", records());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// All gateways of this process read on one thread: many rules of one keep the others waiting.
static BACKGROUND: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn secret(path: &Path, half: &str) {
    std::fs::write(path, half.repeat(4)).unwrap();
}

// DB-13, CLU-02: a key that is its own and pending is vouched for, whatever has become of the secret that made it.
#[tokio::test]
async fn a_key_on_its_way_survives_changes_of_the_secret() {
    let _alone = BACKGROUND.lock().await;
    for changes in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = (folder.path().join("world"), folder.path().join("inside"));
        secret(&outer, "0123456789abcdef");
        secret(&inner, "fedcba9876543210");
        let lines = format!(
            "dialback: {{ secrets: {{ world: \"{}\", inside: \"{}\" }} }}\n",
            outer.display(),
            inner.display()
        );
        let world = World::build(&plan().with(&lines)).await.unwrap();
        let late =
            Manner { external: false, admit: Admit::Late(Duration::from_secs(4)), ..Manner::default() };
        let friend = world.peer(10, &[FRIEND], late).await.unwrap();
        world.legacy.message("j@hall.example", "a@friend.example", "late");
        while friend.proofs() != [format!("key {HALL}")] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for half in
            ["00112233445566778899aabbccddeeff", "8899aabbccddeeff0011223344556677"].iter().take(changes)
        {
            secret(&outer, half);
            assert_eq!(tell(&world.socket(), &["reload", "--plan"]).await.code, 0);
            // Once more with the same secret is no change.
            for _ in 0..2 {
                assert_eq!(tell(&world.socket(), &["reload"]).await.code, 0);
            }
        }
        assert_eq!(friend.proofs().len(), 1, "the key is still on its way");
        friend.inbox.wait_body("late").await.unwrap();
        // Both realms must differ, also after a reload.
        std::fs::copy(&outer, &inner).unwrap();
        let said = tell(&world.socket(), &["reload"]).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("both realms have the same secret"), "{said:?}");
    }
}

// POL-07: "streams with a pair no longer allowed are closed": `federation: any` becomes `listed`, and the pair of a domain that is not listed ends at
// once, while a pair of another domain stays. What the gateway was said to do is what it does.
#[tokio::test]
async fn an_unlisted_domains_pair_ends_at_once_when_any_becomes_listed() {
    let world = World::build(&Plan::listed(HALL, POLICY).and(ANNEX, "any", None)).await.unwrap();
    let cousin = peer(&world, 11, COUSIN).await;
    let outsider = peer(&world, 12, STRANGER).await;
    let mut unlisted = by_certificate(&outsider, ANNEX).await;
    let mut partner = by_certificate(&cousin, HALL).await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    let (before, after) = text.split_once(&format!("- name: {ANNEX}")).unwrap();
    assert!(after.contains("federation: any"), "{text}");
    std::fs::write(
        &world.config,
        format!("{before}- name: {ANNEX}{}", after.replacen("federation: any", "federation: listed", 1)),
    )
    .unwrap();
    let plan = ask(&world.socket(), &["reload", "--plan"]).await["plan"].clone();
    assert_eq!(plan["settings"], json!([format!("domains[{ANNEX}].federation: any -> listed")]));
    assert_eq!(plan["closes"].as_array().unwrap().len(), 1, "{plan:#}");
    still_passes(&world, &mut unlisted, "x@stranger.example", "k@annex.example", "only a plan").await;
    let done = ask(&world.socket(), &["reload"]).await["plan"].clone();
    assert_eq!(done, plan);
    assert_eq!(unlisted.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    still_passes(&world, &mut partner, "c@cousin.example", "j@hall.example", "stays").await;
}

/// Takes the second hosted domain out of the configuration.
pub fn remove_annex(world: &World) {
    let text = std::fs::read_to_string(&world.config).unwrap();
    let (before, after) = text.split_once(&format!("  - name: {ANNEX}")).unwrap();
    // Up to the next entry of the list, or the next key of the file.
    let rest = after.match_indices('\n').find(|(at, _)| {
        let next = &after[at + 1..];
        next.starts_with("  - name:") || !next.starts_with(' ')
    });
    let rest = &after[rest.unwrap().0 + 1..];
    std::fs::write(&world.config, format!("{before}{rest}")).unwrap();
}

// "Nothing accepted is lost in silence": what a domain has sent that a reload takes out, and what waits for a server that does not
// answer, comes back to whoever wrote it.
#[tokio::test]
async fn what_waits_for_a_silent_server_comes_back_from_a_domain_that_is_removed() {
    let world = border().await;
    let cousin = peer(&world, 11, COUSIN).await;
    cousin.behave(|manner| manner.welcome = Welcome::Mute);
    let stanzas = [
        (
            "message",
            "a",
            "<message from='k@annex.example' to='c@cousin.example' id='a'><body>hi</body></message>",
        ),
        (
            "iq",
            "b",
            "<iq from='k@annex.example/x' to='c@cousin.example/y' type='get' id='b'><ping xmlns='urn:xmpp:ping'/></iq>",
        ),
        (
            "message",
            "c",
            "<message from='l@annex.example' to='c@cousin.example' id='c'><body>ho</body></message>",
        ),
        ("iq", "d", "<iq from='k@annex.example/x' to='c@cousin.example/y' type='result' id='d'/>"),
    ];
    stanzas.iter().for_each(|(.., stanza)| world.legacy.send(*stanza));
    // And one of a domain that stays.
    world
        .legacy
        .send("<message from='j@hall.example' to='c@cousin.example' id='stays'><body>hi</body></message>");
    while cousin.visits() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    remove_annex(&world);
    ask(&world.socket(), &["reload"]).await;
    for (name, id, _) in &stanzas[..3] {
        let error = world.legacy.inbox.wait(|n| n.is_stanza() && n.attr("id") == Some(id)).await.unwrap();
        assert!(
            error.raw.starts_with(&format!("<{name} ")) && error.attr("type") == Some("error"),
            "{}",
            error.raw
        );
        assert!(error.raw.contains("<item-not-found "), "{}", error.raw);
        assert!(error.raw.contains("missing `- name: annex.example` under `domains:`"), "{}", error.raw);
    }
    let heard = |id: &str| world.legacy.inbox.all().iter().filter(|n| n.attr("id") == Some(id)).count();
    assert_eq!(["a", "b", "c", "d", "stays"].map(heard), [1, 1, 1, 0, 0], "each once, and nobody else's");
}

// "Living relays of a removed domain end in good order", and nobody gets in for it any more.
#[tokio::test]
async fn a_domain_that_is_removed_ends_its_streams_in_good_order() {
    let world = border().await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut gone = by_certificate(&cousin, ANNEX).await;
    let mut stays = by_certificate(&cousin, HALL).await;
    remove_annex(&world);
    let plan = ask(&world.socket(), &["reload", "--plan"]).await["plan"].clone();
    assert_eq!(
        (&plan["changes"][0]["to"], &plan["changes"][0]["verdict"]),
        (&json!(ANNEX), &json!("host-gone"))
    );
    ask(&world.socket(), &["reload"]).await;
    assert_eq!(gone.ending().await.unwrap().condition.as_deref(), Some("host-gone"));
    let ended = record(&world, |r| r["event"] == "ended" && r["pair"] == format!("{COUSIN}>{ANNEX}")).await;
    assert_eq!(ended["reason"], "host-gone", "{ended}");
    still_passes(&world, &mut stays, "c@cousin.example", "j@hall.example", "stays").await;
    let again = cousin.call(ANNEX).unwrap().open().await;
    let refused = match again {
        Err(_) => true,
        Ok(mut stream) => !matches!(stream.external(cousin.domain()).await, Ok(Login::Success)),
    };
    assert!(refused, "the domain is served on");
}
