//! Quarantine over real sockets: a newcomer may say a little, in both directions, until an operator, a rule or enough quiet days let him
//! out; what was decided outlives a restart and holds on all nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::redis;
use std::fs;
use std::time::Duration;

use gatehouse::demo::gate::Gate;
use gatehouse::demo::node::Node;
use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::{Login, Session};
use gatehouse::demo::world::{Plan, World};
use serde_json::Value;

use crate::redis::{Redis, node_of, secrets, soon};
use crate::sockets::*;
use crate::steering::*;

const FRIEND_JID: &str = "a@friend.example";
const OURS: &str = "j@hall.example";
const WORDS: &str = "We do not know your server yet; write to postmaster@hall.example";

const POLICY: &str = r#"version: v1
defaults: { quarantine: { messages: 2/day } }
rules:
  - name: newcomers
    domains: [friend.example]
    verdict: quarantine
    quarantine: { messages: 3/day, subscriptions: 1/day, text: "We do not know your server yet; write to postmaster@hall.example" }
  - { name: spammers, domains: [spam.example], verdict: deny }
expect:
  - { from: friend.example, to: hall.example, verdict: quarantine, reason: quarantined, rule: newcomers }
  - { from: friend.example, to: hall.example, kind: message, verdict: quarantine }
  - { from: friend.example, to: hall.example, kind: iq, payload: "urn:xmpp:ping", verdict: quarantine }
  - { from: friend.example, to: hall.example, kind: iq, payload: "jabber:iq:version", verdict: deny, reason: quarantined }
  - { from: hall.example, to: friend.example, kind: iq, payload: "vcard-temp", verdict: deny, reason: quarantined }
  - { from: nobody.example, to: hall.example, federation: quarantine, verdict: quarantine, rule: default }
  - { from: spam.example, to: hall.example, federation: quarantine, verdict: deny, reason: blocked }
"#;

/// A world that takes everybody in, but into quarantine.
async fn world() -> World {
    let mut plan = Plan::listed(HALL, POLICY).limit("rate", "6000/min");
    plan.hosted[0].federation = "quarantine".to_owned();
    let world = World::build(&plan).await.unwrap();
    fs::create_dir(world.folder.path().join("state")).unwrap();
    let file = world.folder.path().join("gatehouse.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}state: state\n")).unwrap();
    again(world).await
}

/// The same gateway once more, as after a restart.
async fn again(mut world: World) -> World {
    world.gate.stop().await.unwrap();
    world.gate = Gate::start(&world.folder.path().join("gatehouse.yaml")).await.unwrap();
    world
}

async fn one(world: &World, domain: &str) -> Value {
    let answer = ask(&world.socket(), &["quarantine", "list"]).await;
    let all = answer["domains"].as_array().unwrap();
    all.iter().find(|one| one["domain"] == domain).cloned().unwrap_or_default()
}

async fn decide(world: &World, word: &str, domain: &str) -> Value {
    ask(&world.socket(), &["quarantine", word, domain]).await
}

/// What came back for the stanza with this id.
async fn answer(peer: &Peer, id: &str) -> Node {
    peer.inbox.wait(|node| node.attr("id") == Some(id)).await.unwrap()
}

fn error(answer: &Node) -> (String, String, String) {
    assert_eq!(answer.attr("type"), Some("error"), "{}", answer.raw);
    let error = answer.child("error").unwrap();
    let text = error.child("text").map(|text| text.text.clone()).unwrap_or_default();
    (error.attr("type").unwrap().to_owned(), error.condition().unwrap().to_owned(), text)
}

fn message(n: usize) -> String {
    format!("<message from='{FRIEND_JID}' to='{OURS}' id='m{n}' type='chat'><body>word {n}</body></message>")
}

fn iq(kind: &str, id: &str, payload: &str) -> String {
    format!("<iq from='{FRIEND_JID}' to='{OURS}/r' id='{id}' type='{kind}'>{payload}</iq>")
}

const PING: &str = "<ping xmlns='urn:xmpp:ping'/>";
const DISCO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const VERSION: &str = "<query xmlns='jabber:iq:version'/>";

async fn arrives(world: &World, id: &str) {
    world.legacy.inbox.wait(|node| node.attr("id") == Some(id)).await.unwrap();
}

fn has_arrived(world: &World, id: &str) -> bool {
    world.legacy.inbox.all().iter().any(|node| node.attr("id") == Some(id))
}

async fn turned_away(friend: &Peer) {
    let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
    assert_ne!(stream.external(FRIEND).await.ok(), Some(Login::Success));
}

/// Inwards: so many of each kind, no iq but ping and disco, and the sender reads why.
async fn little_comes_in(world: &World, friend: &Peer, stream: &mut Session) {
    for n in 0..3 {
        stream.send(message(n)).await.unwrap();
        arrives(world, &format!("m{n}")).await;
    }
    stream.send(message(3)).await.unwrap();
    let told = ("wait".to_owned(), "policy-violation".to_owned(), WORDS.to_owned());
    assert_eq!(error(&answer(friend, "m3").await), told);
    // An error is no message: what comes of ours is heard.
    stream
        .send(format!(
            "<message from='{FRIEND_JID}' to='{OURS}' id='e1' type='error'><error type='cancel'/></message>"
        ))
        .await
        .unwrap();
    arrives(world, "e1").await;

    let presence =
        |id: &str, kind: &str| format!("<presence from='{FRIEND_JID}' to='{OURS}' id='{id}'{kind}/>");
    stream.send(presence("p1", " type='subscribe'")).await.unwrap();
    arrives(world, "p1").await;
    stream.send(presence("p2", " type='subscribe'")).await.unwrap();
    assert_eq!(error(&answer(friend, "p2").await).2, WORDS);
    stream.send(presence("p3", " type='unavailable'")).await.unwrap();
    arrives(world, "p3").await;

    for (id, payload) in [("i1", PING), ("i2", DISCO)] {
        stream.send(iq("get", id, payload)).await.unwrap();
        arrives(world, id).await;
    }
    let refused = [
        iq("get", "i3", VERSION),
        iq("set", "i4", "<query xmlns='jabber:iq:register'/>"),
        // A ping asks.
        iq("set", "i5", PING),
    ];
    for (stanza, id) in refused.iter().zip(["i3", "i4", "i5"]) {
        stream.send(stanza).await.unwrap();
        let (kind, condition, text) = error(&answer(friend, id).await);
        assert_eq!((&*kind, &*condition, &*text), ("modify", "policy-violation", WORDS), "{id}");
    }
    // What answers something else goes nowhere, and nobody is told; errors and answers to pings come through.
    stream.send(iq("result", "i6", VERSION)).await.unwrap();
    stream.send(iq("result", "i7", "")).await.unwrap();
    stream.send(iq("error", "i8", &format!("{VERSION}<error type='cancel'/>"))).await.unwrap();
    arrives(world, "i7").await;
    arrives(world, "i8").await;
    for id in ["m3", "p2", "i3", "i4", "i5", "i6"] {
        assert!(!has_arrived(world, id), "{id}");
    }
    assert!(!friend.inbox.all().iter().any(|node| node.attr("id") == Some("i6")));
}

/// Outwards: our users write as they like, and ask no more than pings and disco.
async fn our_users_write(world: &World, friend: &Peer) {
    for n in 0..9 {
        world.legacy.message(OURS, FRIEND_JID, &format!("ours {n}"));
        friend.inbox.wait_body(&format!("ours {n}")).await.unwrap();
    }
    let asks = |id: &str, payload: &str| {
        format!("<iq from='{OURS}/r' to='{FRIEND_JID}' id='{id}' type='get'>{payload}</iq>")
    };
    world.legacy.send(asks("o1", PING));
    answer(friend, "o1").await;
    world.legacy.send(asks("o2", "<vCard xmlns='vcard-temp'/>"));
    let told = world.legacy.inbox.wait(|node| node.attr("id") == Some("o2")).await.unwrap();
    let (_, condition, text) = error(&told);
    assert!(
        condition == "forbidden" && text.contains("friend.example") && text.contains("(quarantined)"),
        "{text}"
    );
    assert!(!friend.inbox.all().iter().any(|node| node.attr("id") == Some("o2")));
}

// POL-24.
#[tokio::test]
async fn a_newcomer_says_a_little_until_an_operator_lets_him_out_or_shuts_him_out() {
    let world = world().await;
    let socket = world.socket();
    let friend = peer(&world, 10, FRIEND).await;
    let answer = ask(&socket, &["quarantine", "list"]).await;
    assert_eq!(answer["domains"], Value::Array(Vec::new()));

    let mut stream = by_certificate(&friend, HALL).await;
    let seen = one(&world, FRIEND).await;
    assert_eq!((&seen["state"], &seen["rule"]), (&"waiting".into(), &"newcomers".into()), "{seen}");
    recorded(&world, &["\"admitted\"", "friend.example>hall.example", "\"quarantined\""]).await;
    little_comes_in(&world, &friend, &mut stream).await;
    our_users_write(&world, &friend).await;

    // Each refusal names the rule with its line: of what comes in, and of what our users ask.
    for reason in ["quarantined", "quarantine-rate"] {
        let told = ask(&socket, &["refusals", "--reason", reason]).await;
        for entry in told.as_array().unwrap() {
            assert_eq!(entry["rule"], "newcomers", "{entry}");
            assert!(entry["place"].as_str().unwrap().ends_with("hall.example.yaml:4:5"), "{entry}");
        }
        let reason = format!("\"reason\":\"{reason}\"");
        recorded(&world, &["\"refused\"", &reason, "\"rule\":\"newcomers\"", "hall.example.yaml:4:5\""])
            .await;
    }
    recorded(&world, &["hall.example>friend.example", "\"quarantined\"", "\"rule\":\"newcomers\""]).await;

    // Who looks sees it everywhere.
    let seen = one(&world, FRIEND).await;
    assert_eq!((&seen["refused"], &seen["quiet"]), (&2.into(), &0.into()), "{seen}");
    let told = tell(&socket, &["quarantine", "list"]).await.out;
    assert!(told.contains("friend.example") && told.contains("1 domains, 1 of them in quarantine"), "{told}");
    let question = ["policy", "explain", "--live", "--from", FRIEND, "--to", HALL];
    let told = tell(&socket, &question).await;
    assert_eq!(told.code, 0, "{}", told.out);
    assert!(
        told.out.starts_with("quarantine: ")
            && told.out.contains("messages 3/day, subscriptions 1/day, other 600/h"),
        "{}",
        told.out
    );
    world.counted("quarantine_domains", &[("state", "waiting")], 1.0).await.unwrap();
    let metrics = world.metrics().await.unwrap();
    assert!(metrics.sum("policy_verdicts_total", &[("outcome", "quarantine")]) >= 1.0);
    for (reason, count) in [("quarantine-rate", 2.0), ("quarantined", 5.0)] {
        assert_eq!(metrics.sum("stanzas_refused_total", &[("reason", reason)]), count, "{reason}");
    }
    let (_, json) = world.get("/status.json").await.unwrap();
    let status: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["quarantine"][0]["domain"], FRIEND, "{json}");

    // Approved: the stream lives on, and everything passes.
    let settled = decide(&world, "approve", "friend.example").await;
    assert_eq!((&settled["word"], &settled["seen"]), (&"approved".into(), &true.into()), "{settled}");
    for n in 4..9 {
        stream.send(message(n)).await.unwrap();
        arrives(&world, &format!("m{n}")).await;
    }
    stream.send(iq("get", "i9", VERSION)).await.unwrap();
    arrives(&world, "i9").await;
    let told = tell(&socket, &question).await.out;
    assert!(told.starts_with("allow: ") && told.contains("friend.example was approved"), "{told}");
    recorded(&world, &["quarantine-approve", "friend.example", "\"uid\""]).await;

    // Taken back: as before.
    decide(&world, "hold", "friend.example").await;
    stream.send(iq("get", "i10", VERSION)).await.unwrap();
    assert_eq!(error(&self::answer(&friend, "i10").await).2, WORDS);

    // Refused: the stream ends, nobody comes in, and our users are told.
    let settled = decide(&world, "refuse", "friend.example").await;
    assert!(settled["pairs"].as_u64().unwrap() >= 1, "{settled}");
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    turned_away(&friend).await;
    let refusals = ask(&socket, &["refusals", "--reason", "not-approved"]).await;
    assert!(refusals.to_string().contains("gatehouse quarantine"), "{refusals}");
    let told = tell(&socket, &["quarantine", "hold", "other.example"]).await;
    assert_eq!(told.code, 1);
    assert!(told.err.contains("nothing was decided about other.example"), "{}", told.err);
    let told = tell(&socket, &["quarantine", "refuse", HALL]).await;
    assert!(told.code == 1 && told.err.contains("is served here"), "{}", told.err);
}

// POL-24: who no rule names, a rule that lets somebody out, and a shadow that would.
#[tokio::test]
async fn whom_no_rule_names_is_taken_in_within_bounds_and_a_rule_lets_them_out() {
    let world = world().await;
    let unlisted = peer(&world, 12, STRANGER).await;
    let mut stream = by_certificate(&unlisted, HALL).await;
    let message = |n: usize| {
        format!("<message from='s@stranger.example' to='{OURS}' id='s{n}'><body>x</body></message>")
    };
    for n in 0..3 {
        stream.send(message(n)).await.unwrap();
    }
    arrives(&world, "s1").await;
    // Nothing is said beside the error where the operator has nothing to say.
    assert_eq!(
        error(&answer(&unlisted, "s2").await),
        ("wait".into(), "policy-violation".into(), String::new())
    );
    assert_eq!(one(&world, STRANGER).await["rule"], "default");
    // A rule of a policy that names him: the plan says so, and then it is so.
    let file = world.folder.path().join(format!("policies/{HALL}.yaml"));
    let rule = "rules:\n  - { name: known, domains: [stranger.example] }\n";
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("rules:\n", rule)).unwrap();
    let plan = tell(&world.socket(), &["reload", "--plan"]).await.out;
    assert!(plan.contains("from rule default to rule known (allow)"), "{plan}");
    assert_eq!(tell(&world.socket(), &["reload"]).await.code, 0);
    for n in 3..9 {
        stream.send(message(n)).await.unwrap();
        arrives(&world, &format!("s{n}")).await;
    }
}

// POL-21: what quarantine keeps out and a shadow would let in is told, pair by pair and stanza by stanza; and the reverse.
#[tokio::test]
async fn a_shadow_tells_whom_it_would_let_out_of_quarantine_and_whom_it_would_hold() {
    let world = world().await;
    let file = world.folder.path().join("gatehouse.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let next = "version: v1\nrules:\n  - { name: known, domains: [friend.example] }\n  - { name: held, domains: [cousin.example], verdict: quarantine }\n";
    fs::write(world.folder.path().join("policies/next.yaml"), next).unwrap();
    let policies = format!("    policies: [\"policies/{HALL}.yaml\"]\n");
    let beside = "    shadow: [policies/next.yaml]\n    shadow-federation: listed\n";
    fs::write(&file, text.replace(&policies, &format!("{policies}{beside}"))).unwrap();
    let policy = world.folder.path().join(format!("policies/{HALL}.yaml"));
    let rule = "rules:\n  - { name: free, domains: [cousin.example] }\n";
    fs::write(&policy, fs::read_to_string(&policy).unwrap().replace("rules:\n", rule)).unwrap();
    assert_eq!(tell(&world.socket(), &["reload"]).await.code, 0);

    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let mut stream = by_certificate(&friend, HALL).await;
    for n in 0..4 {
        stream.send(message(n)).await.unwrap();
    }
    error(&answer(&friend, "m3").await);
    stream.send(iq("get", "i1", VERSION)).await.unwrap();
    error(&answer(&friend, "i1").await);
    let mut other = by_certificate(&cousin, HALL).await;
    for (id, kind, payload) in [("c1", "get", VERSION), ("c2", "set", PING), ("c3", "get", PING)] {
        let ask = format!("<iq from='a@cousin.example' to='{OURS}/r' id='{id}' type='{kind}'>{payload}</iq>");
        other.send(ask).await.unwrap();
        arrives(&world, id).await;
    }
    let told = ask(&world.socket(), &["policy", "shadow"]).await;
    let found = |from: &str, what: &str, now: &str, next: &str, reason: &str| {
        let changes = told["report"]["changes"].as_array().unwrap();
        let of = |one: &&Value| {
            one["from"] == from
                && one["what"] == what
                && one["now"] == now
                && one["next"] == next
                && one["reason"] == reason
        };
        changes.iter().find(of).unwrap_or_else(|| panic!("{from} {what} {now} {next} {reason}: {told:#}"))["stanzas"].clone()
    };
    found(FRIEND, "pair", "quarantine", "allow", "quarantined");
    assert_eq!(found(FRIEND, "stanza", "deny", "allow", "quarantined"), 1);
    assert_eq!(found(FRIEND, "stanza", "deny", "allow", "quarantine-rate"), 1);
    found(COUSIN, "pair", "allow", "quarantine", "quarantined");
    assert_eq!(found(COUSIN, "stanza", "allow", "deny", "quarantined"), 2);
    let text = tell(&world.socket(), &["policy", "shadow"]).await.out;
    for words in [
        "friend.example > hall.example  would be out of quarantine, is quarantined  from rule newcomers to rule known at ",
        "cousin.example > hall.example  would be in quarantine: quarantined  from rule free to rule held at ",
        "1 would be in quarantine, 1 would be out of it",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    let metrics = world.metrics().await.unwrap();
    for change in ["frees", "holds"] {
        assert!(metrics.sum("shadow_verdicts_total", &[("change", change)]) >= 1.0, "{change}");
    }
    let mark = r#""shadow":{"verdict":"quarantine","reason":"quarantined","rule":"held"}"#;
    recorded(&world, &["\"admitted\"", "cousin.example>hall.example", mark]).await;
}

// POL-24.
#[tokio::test]
async fn what_was_decided_and_what_was_sent_outlives_a_restart() {
    let mut world = world().await;
    let (friend, unlisted) = (peer(&world, 10, FRIEND).await, peer(&world, 12, STRANGER).await);
    let mut stream = by_certificate(&friend, HALL).await;
    for n in 0..3 {
        stream.send(message(n)).await.unwrap();
        arrives(&world, &format!("m{n}")).await;
    }
    decide(&world, "refuse", STRANGER).await;
    // Also over a crash: it is on the disk before anything else happens.
    let kept = world.folder.path().join("state/quarantine.json");
    let begun = std::time::Instant::now();
    while !fs::read_to_string(&kept).is_ok_and(|text| text.contains("refused")) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "the decision is not written");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(stream);
    world = again(world).await;
    // No second helping, and no second chance.
    let mut stream = by_certificate(&friend, HALL).await;
    stream.send(message(3)).await.unwrap();
    error(&answer(&friend, "m3").await);
    let mut call = unlisted.call(HALL).unwrap().open().await.unwrap();
    assert_ne!(call.external(STRANGER).await.ok(), Some(Login::Success));
    decide(&world, "approve", FRIEND).await;
    drop(stream);
    world = again(world).await;
    let mut stream = by_certificate(&friend, HALL).await;
    stream.send(message(4)).await.unwrap();
    arrives(&world, "m4").await;

    // Days that were quiet: it lets itself out. One on which nothing came is none.
    drop(stream);
    world.gate.stop().await.unwrap();
    let policy = world.folder.path().join(format!("policies/{HALL}.yaml"));
    let text =
        fs::read_to_string(&policy).unwrap().replace("messages: 3/day", "quiet-days: 3, messages: 3/day");
    fs::write(&policy, text).unwrap();
    let kept = world.folder.path().join("state/quarantine.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&kept).unwrap()).unwrap();
    let today = jiff::Timestamp::now().as_second() / (24 * 3600);
    let party = &mut state["parties"][FRIEND];
    party.as_object_mut().unwrap().remove("decision");
    party["days"] = serde_json::json!([today - 9, today - 2]);
    party["quiet-days"] = 3.into();
    fs::write(&kept, state.to_string()).unwrap();
    world = again_started(world).await;
    let seen = one(&world, FRIEND).await;
    assert_eq!((&seen["state"], &seen["quiet"]), (&"waiting".into(), &2.into()), "{seen}");
    world.gate.stop().await.unwrap();
    state["parties"][FRIEND]["days"] = serde_json::json!([today - 9, today - 2, today - 1]);
    fs::write(&kept, state.to_string()).unwrap();
    world = again_started(world).await;
    soon("the quiet days to count", async || {
        let seen = one(&world, FRIEND).await;
        if seen["state"] == "approved" { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    recorded(&world, &["quarantine-approve", "friend.example"]).await;

    // What cannot be read is told, and lets nobody in.
    world.gate.stop().await.unwrap();
    fs::write(&kept, "{").unwrap();
    world = again_started(world).await;
    assert!(one(&world, FRIEND).await.is_null());
}

async fn again_started(mut world: World) -> World {
    world.gate = Gate::start(&world.folder.path().join("gatehouse.yaml")).await.unwrap();
    world
}

// POL-24, CLU-06: what one node decides holds on the other, and what passes on one counts there.
#[tokio::test]
async fn nodes_decide_and_count_together() {
    let (keys, redis) = (secrets(""), Redis::start(&[]));
    let plan = || {
        let mut plan = Plan::listed(HALL, POLICY).limit("rate", "6000/min");
        plan.hosted[0].federation = "quarantine".to_owned();
        plan
    };
    let first = node_of(plan(), &redis.store(), keys.path(), redis::OPEN).await;
    let second = node_of(plan(), &redis.store(), keys.path(), redis::OPEN).await;
    let friend = peer(&first, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    for n in 0..3 {
        stream.send(message(n)).await.unwrap();
        arrives(&first, &format!("m{n}")).await;
    }
    soon("the other node to hear of it", async || match one(&second, FRIEND).await {
        Value::Null => Err("nothing".to_owned()),
        _ => Ok(()),
    })
    .await;
    let there = peer(&second, 10, FRIEND).await;
    let mut other = by_certificate(&there, HALL).await;
    soon("its messages to count there", async || {
        other.send(message(9)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if there.inbox.all().iter().any(|node| node.attr("id") == Some("m9")) {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    let said = ask(&first.socket(), &["quarantine", "approve", FRIEND, "--cluster"]).await;
    assert_eq!(said["cluster"], serde_json::json!({}), "{said}");
    soon("it to be approved there", async || {
        let seen = one(&second, FRIEND).await;
        if seen["state"] == "approved" { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    for n in 10..15 {
        other.send(message(n)).await.unwrap();
        arrives(&second, &format!("m{n}")).await;
    }
    decide(&second, "refuse", FRIEND).await;
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
}
