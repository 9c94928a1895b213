//! Nodes that share a store, with a real Redis and a real Valkey: what one knows all know, and whatever becomes of the store, traffic goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Stdio};

use crate::redis::*;
use crate::sockets::*;
use crate::steering::*;
use gatehouse::demo::world::World;
use serde_json::Value;

// CLU-03, CLU-05: bans hold on every node and survive the restart of all; each node knows the others, and in what they differ.
async fn what_one_node_bans_all_ban_and_each_knows_the_others(program: Program) {
    let (redis, keys) = (program.start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    let third = node(&redis.store(), keys.path(), &format!("{OPEN}explain-to-users: off\n")).await;
    let nodes = [&first, &second, &third];
    assert_eq!(tell(&first.socket(), &["ban", "spam.example", "--for", "1h"]).await.code, 0);
    assert_eq!(tell(&third.socket(), &["ban", "203.0.113.0/24", "--for", "1h"]).await.code, 0);
    are_banned(&nodes, &["203.0.113.0/24", "spam.example"]).await;
    assert_eq!(tell(&second.socket(), &["unban", "spam.example"]).await.code, 0);
    are_banned(&nodes, &["203.0.113.0/24"]).await;
    soon("each node to know the others", async || {
        for node in nodes {
            let metrics = node.metrics().await.unwrap();
            let count = metrics.sum("cluster_nodes", &[]);
            // The third says something else to its users, and nothing else is different.
            let differ = metrics.sum("cluster_mismatch", &[("what", "config")]);
            let others = ["clock", "secrets", "version"];
            let others: f64 =
                others.iter().map(|what| metrics.sum("cluster_mismatch", &[("what", what)])).sum();
            if (count, differ, others) != (3.0, 1.0, 0.0) {
                return Err(format!("{count} nodes, {differ} {others}: {}", cluster(node).await));
            }
        }
        Ok(())
    })
    .await;
    let told = cluster(&first).await;
    assert_eq!(
        (told["name"].as_str(), told["nodes"].as_array().map(Vec::len)),
        (Some("gate"), Some(3)),
        "{told}"
    );
    assert!(told["differences"].to_string().contains("has another configuration"), "{told}");
    let text = tell(&first.socket(), &["cluster"]).await.out;
    assert!(text.contains("cluster gate: 3 nodes") && text.contains("in order"), "{text}");
    soon("the nodes of one machine to have one clock", async || {
        let told = cluster(&first).await;
        let nodes = told["nodes"].as_array().unwrap();
        match nodes.iter().all(|node| node["ahead"].as_i64().unwrap().abs() < 100) {
            true => Ok(()),
            false => Err(told.to_string()),
        }
    })
    .await;
    // Who ends in good order is counted no more; and a store that says nothing holds up nobody who ends.
    third.gate.stop().await.unwrap();
    assert_eq!(redis.say(&["HLEN", "gatehouse:{gate}:nodes"]).trim(), "2");
    soon("the third to be gone", async || match first.metrics().await.unwrap().sum("cluster_nodes", &[]) {
        2.0 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    redis.signal(rustix::process::Signal::STOP);
    let begun = std::time::Instant::now();
    second.gate.stop().await.unwrap();
    let took = begun.elapsed();
    redis.signal(rustix::process::Signal::CONT);
    assert!(took < std::time::Duration::from_secs(4), "{took:?}");
    // All of them end; a node that begins afterwards knows the ban before it lets anybody in.
    drop((first, second, third));
    let again = node(&redis.store(), keys.path(), OPEN).await;
    assert_eq!(bans(&again).await, ["203.0.113.0/24"]);
    // Everything that is kept ends by itself, and bears the name.
    for key in redis.say(&["KEYS", "*"]).lines() {
        assert!(key.starts_with("gatehouse:{gate}:"), "{key}");
        assert!(redis.say(&["TTL", key]).trim().parse::<i64>().unwrap() > 0, "{key}");
    }
}

// CLU-04: "With the store gone, slow, or lying (wrong types, foreign data), traffic goes on under local limits; the state is told
// in log, metric and readiness detail; when it is back, nothing that was decided meanwhile is lost."
async fn whatever_becomes_of_the_store_traffic_goes_on_and_nothing_decided_is_lost(program: Program) {
    let (mut redis, keys) = (program.start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    let mut bystander = Bystander::of(&first, "j@hall.example").await;
    store_is(&first, None).await;
    // Killed, and with it all that it held.
    redis.kill();
    store_is(&first, Some("cannot be reached")).await;
    bystander.unharmed(&first).await;
    assert_eq!(tell(&first.socket(), &["ban", "killed.example", "--for", "1h"]).await.code, 0);
    assert_eq!(bans(&second).await.len(), 0);
    redis.revive();
    are_banned(&[&first, &second], &["killed.example"]).await;
    store_is(&first, None).await;
    // Frozen: connections stand and nothing is answered.
    redis.signal(rustix::process::Signal::STOP);
    store_is(&first, Some("cannot be reached")).await;
    bystander.unharmed(&first).await;
    assert_eq!(tell(&second.socket(), &["unban", "killed.example"]).await.code, 0);
    redis.signal(rustix::process::Signal::CONT);
    are_banned(&[&first, &second], &[]).await;
    store_is(&first, None).await;
    // Slow by five seconds.
    let port = redis.port.to_string();
    let mut slow = Command::new("redis-cli")
        .args(["-p", &port, "DEBUG", "SLEEP", "5"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    store_is(&first, Some("cannot be reached")).await;
    bystander.unharmed(&first).await;
    slow.wait().unwrap();
    store_is(&first, None).await;
    // Full.
    redis.say(&["CONFIG", "SET", "maxmemory", "1"]);
    store_is(&first, Some("refuses")).await;
    assert_eq!(tell(&first.socket(), &["ban", "full.example", "--for", "1h"]).await.code, 0);
    bystander.unharmed(&first).await;
    redis.say(&["CONFIG", "SET", "maxmemory", "0"]);
    are_banned(&[&first, &second], &["full.example"]).await;
    store_is(&first, None).await;
    // Of another type, key by key.
    for key in ["bans", "nodes", "events"] {
        let key = format!("gatehouse:{{gate}}:{key}");
        redis.say(&["DEL", &key]);
        redis.say(&["SET", &key, "something else"]);
        store_is(&first, Some("WRONGTYPE")).await;
        bystander.unharmed(&first).await;
        assert_eq!(bans(&first).await, ["full.example"]);
        redis.say(&["DEL", &key]);
        store_is(&first, None).await;
    }
    // Foreign data: told, passed over, and no reason to do without the store.
    redis.say(&["HSET", "gatehouse:{gate}:bans", "not a target", "{}"]);
    redis.say(&["HSET", "gatehouse:{gate}:nodes", "stranger", "\u{1b}[31m"]);
    redis.say(&["XADD", "gatehouse:{gate}:events", "*", "e", "nonsense"]);
    soon("foreign entries to be told", async || {
        let told = cluster(&first).await;
        match told["trouble"].as_str() {
            Some(why) if why.contains("cannot be read") => Ok(()),
            _ => Err(told.to_string()),
        }
    })
    .await;
    assert_eq!(tell(&first.socket(), &["ban", "beside.example", "--for", "1h"]).await.code, 0);
    are_banned(&[&first, &second], &["beside.example", "full.example"]).await;
    bystander.unharmed(&first).await;
}

// The rights that deploy/README.md names are enough, and no others are needed.
async fn the_rights_of_the_page_are_enough(program: Program) {
    let redis = program.start(&["--requirepass", "root"]);
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("user gate ")).expect("the line of the ACL");
    let rights: Vec<&str> = line.split_whitespace().skip(2).collect();
    assert!(!rights.iter().any(|right| right.starts_with("+@") || *right == "allkeys"), "{line}");
    let as_root =
        [&["-a", "root", "--no-auth-warning", "ACL", "SETUSER", "gate"], rights.as_slice()].concat();
    assert_eq!(redis.say(&as_root).trim(), "OK");
    let password = rights.iter().find_map(|right| right.strip_prefix('>')).expect("a password");
    let keys = secrets(password);
    let store = format!("redis://gate@127.0.0.1:{}", redis.port);
    let first = node(&store, keys.path(), "").await;
    let second = node(&store, keys.path(), "").await;
    assert_eq!(tell(&first.socket(), &["ban", "spam.example", "--for", "1h"]).await.code, 0);
    are_banned(&[&first, &second], &["spam.example"]).await;
    assert_eq!(tell(&first.socket(), &["unban", "spam.example"]).await.code, 0);
    are_banned(&[&first, &second], &[]).await;
    store_is(&first, None).await;
    let wrong = node(&store, secrets("wrong").path(), "").await;
    store_is(&wrong, Some("refuses")).await;
}

// C2S-11, CLU-03: what fails at one node counts at all, within two seconds as a rule.
async fn a_password_is_not_guessed_at_each_node_anew(program: Program) {
    let (redis, keys) = (program.start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    let events = || -> Vec<Value> {
        let row = redis.say(&["XRANGE", "gatehouse:{gate}:events", "-", "+"]);
        row.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|e| e.is_object())
            .collect()
    };
    // The two worlds have clients of different addresses, so what the one tells is told again as if it were of the other's.
    for world in [&first, &second] {
        assert!(world.login_from_outside("romeo", HALL, Some("a guess")).await.is_err());
    }
    soon("both failures to be told", async || match events().len() {
        2 => Ok(()),
        count => Err(format!("{count} events")),
    })
    .await;
    let [one, other] = &events()[..] else { panic!("{:?}", events()) };
    let (one, other) = (&one["login"], &other["login"]);
    assert_eq!((&one["account"], &one["failed"]), (&other["account"], &other["failed"]), "{one} {other}");
    assert!(
        one["account"].is_u64() && one["network"] != other["network"] && !format!("{one}").contains("romeo")
    );
    for (number, login) in (1..=9).flat_map(|number| [one, other].map(|login| (number, login))) {
        let event = serde_json::json!({ "node": format!("of {}", login["network"]), "number": number,
            "time": jiff::Timestamp::now().as_millisecond(), "login": login });
        redis.say(&["XADD", "gatehouse:{gate}:events", "*", "e", &event.to_string()]);
    }
    for world in [&first, &second] {
        soon("each node to refuse both guessers", async || {
            match world.metrics().await.unwrap().sum("bans", &[]) {
                2.0 => Ok(()),
                count => Err(format!("{count} refusals")),
            }
        })
        .await;
        assert!(world.login_from_outside("romeo", HALL, None).await.is_err());
        assert!(world.metrics().await.unwrap().sum("limited_total", &[("limit", "logins")]) > 0.0);
    }
}

// Orders reach all nodes.
#[tokio::test]
async fn streams_are_closed_on_all_nodes() {
    let (redis, keys) = (Redis::start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    let cousin = peer(&second, 10, COUSIN).await;
    let mut stream = by_certificate(&cousin, HALL).await;
    store_is(&second, None).await;
    let said = tell(&first.socket(), &["close", COUSIN, "--cluster"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    stream.ending().await.unwrap();
    let alone = World::build(&plan()).await.unwrap();
    let said = tell(&alone.socket(), &["close", COUSIN, "--cluster"]).await;
    assert!(said.code == 1 && said.err.contains("shares no store"), "{said:?}");
    assert_eq!(tell(&alone.socket(), &["cluster"]).await.code, 1);
    for words in [
        &["streams", "--cluster"][..],
        &["refusals", "--cluster"],
        &["status", "--cluster"],
        &["ban", "spam.example", "--for", "1h", "--cluster"],
        &["unban", "spam.example", "--cluster"],
    ] {
        let said = tell(&alone.socket(), words).await;
        assert!(said.code == 1 && said.err.contains("shares no store"), "{said:?}");
    }
    assert!(bans(&alone).await.is_empty());
}

// What an operator asks at one node all nodes answer; a ban is told to be with the others, or why it is not.
async fn one_node_tells_what_all_know(program: Program) {
    let (mut redis, keys) = (program.start(&[]), secrets(""));
    let first = node(&redis.store(), keys.path(), OPEN).await;
    let second = node(&redis.store(), keys.path(), OPEN).await;
    for node in [&first, &second] {
        soon("both nodes to know each other", async || {
            match node.metrics().await.unwrap().sum("cluster_nodes", &[]) {
                2.0 => Ok(()),
                count => Err(count.to_string()),
            }
        })
        .await;
    }
    let cousin = peer(&second, 10, COUSIN).await;
    let _stream = by_certificate(&cousin, HALL).await;
    let unlisted = peer(&second, 11, STRANGER).await;
    let mut refused = unlisted.call(HALL).unwrap().open().await.unwrap();
    let _no = refused.external(STRANGER).await;
    second.counted("policy_verdicts_total", &[("outcome", "deny")], 1.0).await.unwrap();
    let of_second = cluster(&second).await["nodes"][0]["node"].as_str().unwrap().to_owned();
    // Each answers once, the asked one first, and the other says what it alone knows.
    let answer = async |words: &[&str]| {
        let said = ask(&first.socket(), &[words, &["--cluster"]].concat()).await;
        assert_eq!(said["silent"], serde_json::json!([]), "{said}");
        let nodes = said["nodes"].as_array().unwrap().clone();
        assert!(nodes.len() == 2 && nodes[1]["node"].as_str() == Some(&of_second), "{said}");
        nodes.into_iter().map(|node| node["answer"].clone()).collect::<Vec<Value>>()
    };
    let streams = answer(&["streams"]).await;
    assert!(
        !streams[0].to_string().contains(COUSIN) && streams[1].to_string().contains(COUSIN),
        "{streams:?}"
    );
    let refusals = answer(&["refusals"]).await;
    assert!(
        !refusals[0].to_string().contains(STRANGER) && refusals[1].to_string().contains("not-listed"),
        "{refusals:?}"
    );
    let status = answer(&["status"]).await;
    assert!(status[1]["snapshot"].to_string().contains(COUSIN), "{status:?}");
    let text = tell(&first.socket(), &["streams", "--cluster"]).await;
    assert!(text.code == 0 && text.out.matches("== ").count() == 2 && text.out.contains(COUSIN), "{text:?}");
    // Nothing of it stays.
    for key in redis.say(&["KEYS", "*answers*"]).lines().filter(|key| !key.is_empty()) {
        assert!((1..=30).contains(&redis.say(&["TTL", key]).trim().parse::<i64>().unwrap()), "{key}");
    }
    // Nobody but an operator asks for anything that changes something, whatever the store says.
    for request in [
        serde_json::json!({ "do": "drain" }),
        serde_json::json!({ "do": "config" }),
        serde_json::json!({ "do": "ban", "target": "all.example", "seconds": 60 }),
    ] {
        let event = serde_json::json!({ "node": "nobody", "number": 1, "time": jiff::Timestamp::now().as_millisecond(),
            "ask": { "question": "0123456789abcdef".repeat(2), "request": request } });
        redis.say(&["XADD", "gatehouse:{gate}:events", "*", "e", &event.to_string()]);
    }
    let said = tell(&first.socket(), &["ban", "spam.example", "--for", "1h", "--cluster"]).await;
    assert!(said.code == 0 && said.out.contains("the other nodes are told"), "{said:?}");
    are_banned(&[&first, &second], &["spam.example"]).await;
    let forged = "gatehouse:{gate}:answers:0123456789abcdef0123456789abcdef";
    assert_eq!(redis.say(&["EXISTS", forged]).trim(), "0");
    let said = tell(&first.socket(), &["unban", "spam.example", "--cluster"]).await;
    assert!(said.code == 0 && said.out.contains("the other nodes are told"), "{said:?}");
    are_banned(&[&first, &second], &[]).await;
    // The store is gone: what is known here is told, who is silent by name; the ban holds here.
    redis.kill();
    let said = tell(&first.socket(), &["ban", "late.example", "--for", "1h", "--cluster"]).await;
    assert!(said.code == 0 && said.err.contains("when the store is back"), "{said:?}");
    assert_eq!(bans(&first).await, ["late.example"]);
    let said = tell(&first.socket(), &["streams", "--cluster"]).await;
    assert!(said.code == 0 && said.out.contains("== "), "{said:?}");
    redis.revive();
    are_banned(&[&first, &second], &["late.example"]).await;
}

crate::with_redis_and_valkey! {
    what_one_node_bans_all_ban_and_each_knows_the_others
    whatever_becomes_of_the_store_traffic_goes_on_and_nothing_decided_is_lost
    the_rights_of_the_page_are_enough
    a_password_is_not_guessed_at_each_node_anew
    one_node_tells_what_all_know
}
