use super::*;
use std::future::poll_fn;

use crate::run::inbox::{Inbox, inbox};
use crate::run::tests::{Scripted, domain, tools};
use crate::stream::Pair;

fn asked(relay: RelayId, source: &str, sender: &str, key: &str) -> (Ask, Inbox<Order>) {
    let (tell, heard) = inbox(4);
    let pair = Pair { sender: domain(sender), target: domain("hall.example") };
    let check = KeyCheck { pair, stream: "s".into(), key: key.into() };
    let source = Some(source.parse().unwrap());
    (Ask { facing: Facing::Public, relay, source, claim: ClaimId(1), check, tell }, heard)
}

fn outcome(verifier: &Verifier, tools: &Tools, ask: Ask) -> &'static str {
    match verifier.enter(tools, ask) {
        Entry::Merged => "merged",
        Entry::New(..) => "new",
        Entry::Over(_) => "over",
    }
}

#[tokio::test]
async fn identical_questions_are_asked_once_and_all_hear_the_answer() {
    let tools = tools(Scripted::default());
    let v = Verifier::default();
    let id = tools.registry.unnamed();
    let (first, _h1) = asked(id, "192.0.2.1", "friend.example", "k");
    let (second, _h2) = asked(tools.registry.unnamed(), "192.0.2.2", "friend.example", "k");
    let check = first.check.clone();
    assert_eq!(outcome(&v, &tools, first), "new");
    assert_eq!(outcome(&v, &tools, second), "merged");
    assert_eq!(v.leave(Facing::Public, &check).len(), 2);
    // Nothing is remembered once the answer is given.
    let pending = v.held();
    assert!(pending.questions.is_empty() && pending.streams.is_empty());
    assert!(pending.sources.is_empty() && pending.senders.is_empty());
}

// L-pending: per stream 10, per source IP 20, per sender domain 4.
#[tokio::test]
async fn pending_questions_are_capped_per_stream_source_and_sender() {
    let tools = tools(Scripted::default());
    let name = |n: usize| format!("d{n}.example");

    let v = Verifier::default();
    let id = tools.registry.unnamed();
    for n in 0..11 {
        let (ask, _heard) = asked(id, &format!("192.0.2.{n}"), &name(n), "k");
        assert_eq!(outcome(&v, &tools, ask), if n < 10 { "new" } else { "over" });
    }

    let v = Verifier::default();
    for n in 0..21 {
        let (ask, _heard) = asked(tools.registry.unnamed(), "192.0.2.1", &name(n), "k");
        assert_eq!(outcome(&v, &tools, ask), if n < 20 { "new" } else { "over" });
    }

    let v = Verifier::default();
    for n in 0..5 {
        let (ask, _heard) =
            asked(tools.registry.unnamed(), &format!("192.0.2.{n}"), "friend.example", &n.to_string());
        assert_eq!(outcome(&v, &tools, ask), if n < 4 { "new" } else { "over" });
    }
}

// LIM-02: many sources together must not use up every socket and lookup.
#[tokio::test]
async fn pending_questions_are_capped_in_all() {
    let tools = tools(Scripted::default());
    let v = Verifier::default();
    for n in 0..300 {
        let source = format!("2001:db8:{n:x}::1");
        let (ask, _heard) = asked(tools.registry.unnamed(), &source, &format!("d{n}.example"), "k");
        let expected = if n < tools.params.verifications { "new" } else { "over" };
        assert_eq!(outcome(&v, &tools, ask), expected, "{n}");
    }
}

// LIM-02, LIM-06: an IPv6 network is cheap to have in thousands.
#[tokio::test]
async fn the_networks_of_one_party_leave_room_for_others() {
    let tools = tools(Scripted::default());
    let v = Verifier::default();
    let share = tools.params.verifications / SHARES;
    let ask_from = |source: String, n: usize| {
        let (ask, _heard) = asked(tools.registry.unnamed(), &source, &format!("d{n}.example"), "k");
        outcome(&v, &tools, ask)
    };
    for n in 0..2 * share {
        let expected = if n < share { "new" } else { "over" };
        assert_eq!(ask_from(format!("2001:db8:0:{n:x}::1"), n), expected, "{n}");
    }
    assert_eq!(ask_from("2001:db8:1::1".to_owned(), 1000), "new");
    let (ask, _heard) = asked(tools.registry.unnamed(), "2001:db8:0:1::1", "d0.example", "k");
    v.leave(Facing::Public, &ask.check);
    assert_eq!(ask_from("2001:db8:0:ffff::1".to_owned(), 1001), "new", "what is answered makes room");
}

// DB-31, LIM-06.
#[tokio::test]
async fn a_question_over_the_cap_hears_overload_at_once() {
    let tools = tools(Scripted::default());
    let id = tools.registry.unnamed();
    for n in 0..10 {
        let (one, _heard) = asked(id, "192.0.2.1", &format!("d{n}.example"), "k");
        assert_eq!(outcome(&tools.verifier, &tools, one), "new");
    }
    let (one, mut heard) = asked(id, "192.0.2.1", "late.example", "k");
    ask(&tools, one);
    assert!(matches!(
        poll_fn(|cx| heard.poll_next(cx)).await,
        Order::Verified(ClaimId(1), Answer::Trouble(Reason::Overload))
    ));
    assert!(
        tools
            .observe
            .metrics()
            .text()
            .unwrap()
            .contains("gatehouse_limited_total{limit=\"verifications\"} 1")
    );
}

// DB-28: cannot connect.
#[tokio::test(start_paused = true)]
async fn an_authoritative_server_that_cannot_be_reached_is_trouble() {
    let tools = tools(Scripted::default());
    let (one, mut heard) = asked(tools.registry.unnamed(), "192.0.2.1", "friend.example", "k");
    ask(&tools, one);
    let Order::Verified(_, Answer::Trouble(reason)) = poll_fn(|cx| heard.poll_next(cx)).await else {
        panic!("an answer")
    };
    assert_eq!(reason, Reason::RemoteUnreachable);
    tools.registry.emptied().await;
}

// DB-06: a question whose askers have all gone is given up at once, and its places are free again.
#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_any_more_is_given_up() {
    let outside = Scripted::default();
    let _silent = outside.lay(4096);
    let tools = tools(outside);
    let (first, heard) = asked(tools.registry.unnamed(), "192.0.2.1", "friend.example", "k");
    let (second, others) = asked(tools.registry.unnamed(), "192.0.2.2", "friend.example", "k");
    ask(&tools, first);
    ask(&tools, second);
    let begun = tokio::time::Instant::now();
    drop(heard);
    // One still waits.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(tools.registry.living(), 1);
    drop(others);
    tools.registry.emptied().await;
    assert!(begun.elapsed() < tools.home.timeouts.dialback, "{:?}", begun.elapsed());
    let pending = tools.verifier.held();
    assert!(pending.questions.is_empty() && pending.streams.is_empty());
    assert!(pending.sources.is_empty() && pending.senders.is_empty());
}
