//! Limits, SASL and reloads over real sockets: what a partner may have, and what becomes of it when the policy changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/sockets.rs"]
mod sockets;

use std::time::{Duration, Instant};

use gatehouse::demo::session::{Login, SASL, Session, Word};
use gatehouse::demo::world::{Plan, World};

use sockets::*;

/// A rule for everybody here with these quotas.
fn quota(limits: &str) -> Plan {
    let policy = format!(
        "version: v1\nrules:\n  - {{ name: few, domains: [friend.example, \"*.friend.example\"], limits: {{ {limits} }} }}\n  \
         - {{ name: many, domains: [cousin.example] }}\n"
    );
    Plan::listed(HALL, &policy).limit("conn-s2s", "1000").limit("rate", "6000/min")
}

/// What the gateway says to an `<auth/>` with this content.
async fn answered(stream: &mut Session, attributes: &str, content: &str) -> String {
    stream.send(format!("<auth xmlns='{SASL}'{attributes}>{content}</auth>")).await.unwrap();
    let answer = stream.wire.element().await.unwrap();
    answer.condition().unwrap_or(&answer.name).to_owned()
}

// EXT-02, EXT-03, EXT-05: each malformed attempt has its condition, and the stream stays for the next.
#[tokio::test]
async fn each_bad_attempt_at_external_has_its_condition() {
    let world = World::build(&plan().limit("sasl-attempts", "5")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let long = format!("{}=", "QUFB".repeat(400));
    let external = " mechanism='EXTERNAL'";
    for (attributes, content, expected) in [
        (" mechanism='PLAIN'", "AGEAYg==", "invalid-mechanism"),
        (external, "Zm9v*mFy", "incorrect-encoding"),
        (external, "ZnJpZW5k", "invalid-authzid"),
        (external, "ZnJpZW5kLmV4YW1wbGV=", "incorrect-encoding"),
        (external, "ZnJp=ZW5kLmV4YW1wbGU", "incorrect-encoding"),
        (external, "Z nJpZW5kLmV4YW1wbGU=", "incorrect-encoding"),
        (external, long.as_str(), "incorrect-encoding"),
        (external, "YUBmcmllbmQuZXhhbXBsZQ==", "invalid-authzid"),
        (external, "<x xmlns='urn:x'/>", "malformed-request"),
    ] {
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
        assert_eq!(answered(&mut stream, attributes, content).await, expected, "{content}");
        assert_eq!(stream.external(FRIEND).await.unwrap(), Login::Success, "{content}");
    }
}

// EXT-07: "after L-sasl-attempts failures close"; `SE(policy-violation)`. Before that, dialback may continue.
#[tokio::test]
async fn the_third_failed_attempt_ends_the_stream() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
    for _ in 0..2 {
        assert_eq!(answered(&mut stream, " mechanism='EXTERNAL'", "*").await, "incorrect-encoding");
    }
    assert_eq!(stream.dialback(FRIEND, HALL).await.unwrap(), Word::Valid);
    assert_eq!(answered(&mut stream, " mechanism='EXTERNAL'", "*").await, "incorrect-encoding");
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
}

// Contract 3: `limits: { streams: N }`. The pair above the number ends alone.
#[tokio::test]
async fn a_rule_has_so_many_streams_and_no_more() {
    let world = World::build(&quota("streams: 1")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut first = by_certificate(&friend, HALL).await;
    let mut second = friend.call(HALL).unwrap().open().await.unwrap();
    let refused = match second.external(FRIEND).await {
        Ok(Login::Success) => second.ending().await.unwrap().condition,
        Ok(other) => panic!("{other:?}"),
        Err(trouble) => Some(trouble.to_string()),
    };
    assert!(refused.as_deref().is_some_and(|c| c.contains("policy-violation")), "{refused:?}");
    world.counted("limited_total", &[("limit", "streams")], 1.0).await.unwrap();
    still_passes(&world, &mut first, "a@friend.example", "j@hall.example", "the first goes on").await;
    let mut other = by_certificate(&cousin, HALL).await;
    still_passes(&world, &mut other, "c@cousin.example", "j@hall.example", "another rule").await;
    // A place that was given back is free again.
    first.close().await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut again = by_certificate(&friend, HALL).await;
        again.message("a@friend.example", "j@hall.example", "free again").await.unwrap();
        if world
            .legacy
            .inbox
            .wait_for(Duration::from_secs(1), |n| n.body() == Some("free again"))
            .await
            .is_ok()
        {
            break;
        }
        assert!(Instant::now() < until, "the place is never free again");
    }
}

// LIM-03: "shaped by delaying reads .. shaping never reorders".
#[tokio::test]
async fn a_rate_slows_a_partner_and_loses_nothing() {
    for limits in ["stanzas: 5/s", "octets: 1KiB/s"] {
        let world = World::build(&quota(limits)).await.unwrap();
        let friend = peer(&world, 10, FRIEND).await;
        let cousin = peer(&world, 11, COUSIN).await;
        let mut stream = by_certificate(&friend, HALL).await;
        let mut other = by_certificate(&cousin, HALL).await;
        let begun = Instant::now();
        for n in 0..15 {
            let body = format!("{n:02} {}", "x".repeat(120));
            stream.message("a@friend.example", "j@hall.example", &body).await.unwrap();
        }
        still_passes(&world, &mut other, "c@cousin.example", "j@hall.example", "not slowed").await;
        let last = |n: &gatehouse::demo::node::Node| n.body().is_some_and(|b| b.starts_with("14 "));
        assert!(!world.legacy.inbox.all().iter().any(last), "{limits}: the slowed one was first");
        world.legacy.inbox.wait_for(Duration::from_secs(45), last).await.unwrap();
        assert!(begun.elapsed() > Duration::from_secs(1), "{limits}: {:?}", begun.elapsed());
        let all = world.legacy.inbox.all();
        let order: Vec<_> = all
            .iter()
            .filter(|n| n.attr("from") == Some("a@friend.example"))
            .filter_map(|n| n.body()?.get(..2))
            .collect();
        assert_eq!(order, (0..15).map(|n| format!("{n:02}")).collect::<Vec<_>>(), "{limits}");
        let limit = if limits.starts_with("stanzas") { "stanzas" } else { "octets" };
        world.counted("limited_total", &[("limit", limit)], 1.0).await.unwrap();
    }
}

fn rewrite(world: &World, policy: &str) {
    std::fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), policy).unwrap();
}

// POL-07: "streams with a pair no longer allowed are closed or the pair is withdrawn"; POL-10: "never fall open".
#[tokio::test]
async fn a_reload_ends_what_is_no_longer_allowed_and_nothing_else() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let mut other = by_certificate(&cousin, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "before").await;
    world.legacy.message("j@hall.example", "a@friend.example", "out before");
    friend.inbox.wait_body("out before").await.unwrap();
    // What cannot be read changes nothing.
    rewrite(&world, "version: v1\nrules:\n  - { name: broken, domains: [");
    assert!(world.gate.reload().await.is_err());
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "still here").await;
    rewrite(&world, "version: v1\nrules:\n  - { name: partners, domains: [cousin.example] }\n");
    world.gate.reload().await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    still_passes(&world, &mut other, "c@cousin.example", "j@hall.example", "unharmed").await;
    let mut again = friend.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(again.external(FRIEND).await.unwrap(), Login::NotOffered);
    assert_eq!(again.dialback(FRIEND, HALL).await.unwrap(), error("policy-violation"));
    world.legacy.message("j@hall.example", "a@friend.example", "out after");
    let bounce = world
        .legacy
        .bounces
        .wait_for(Duration::from_secs(10), |n| n.attr("from") == Some("a@friend.example"))
        .await;
    assert!(bounce.is_ok(), "the backend's own user hears that it did not go out");
    assert!(friend.inbox.all().iter().all(|n| n.body() != Some("out after")));
}
