use super::*;
use std::future::poll_fn;

use crate::limit::TurnParams;
use crate::run::inbox::{Inbox, inbox};
use crate::run::tests::{Scripted, domain, tools};
use crate::stream::Pair;

fn asked(relay: RelayId, source: &str, sender: &str, key: &str) -> (VerifyRequest, Inbox<Order>) {
    let (tx, heard) = inbox(4);
    let pair = Pair { sender: domain(sender), target: domain("hall.example") };
    let check = KeyCheck { pair, stream: "s".into(), key: key.into() };
    let source = Some(source.parse().unwrap());
    (VerifyRequest { facing: Facing::Public, relay, source, claim: ClaimId(1), check, tx }, heard)
}

/// A world whose authoritative servers are silent, with these places.
fn silent(places: TurnParams) -> (Arc<Tools>, Vec<tokio::io::DuplexStream>) {
    let transport = Scripted::default();
    let lines = (0..100).map(|_| transport.lay(4096)).collect();
    let mut tools = tools(transport);
    Arc::get_mut(&mut tools).unwrap().params.verifications = places;
    (tools, lines)
}

/// What this one hears.
async fn hears(heard: &mut Inbox<Order>) -> KeyAnswer {
    let Order::Verified(ClaimId(1), answer, _) = poll_fn(|cx| heard.poll_next(cx)).await else {
        panic!("an answer")
    };
    answer
}

// LIM-06: "what finds no place waits its turn within its own time instead of being refused", and is told why in the end.
#[tokio::test(start_paused = true)]
async fn a_question_without_a_place_waits_within_its_own_time() {
    let (tools, _lines) = silent(TurnParams { places: 2, ..TurnParams::default() });
    let mut all = Vec::new();
    for n in 0..3 {
        let (one, heard) = asked(tools.registry.unnamed(), "192.0.2.1", &format!("d{n}.example"), "k");
        ask(&tools, one);
        all.push(heard);
    }
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tools.peering.verifier.held().turns.waiting(), 1);
    assert_eq!(hears(&mut all[2]).await, KeyAnswer::Trouble(Reason::Overload));
    assert_eq!(begun.elapsed(), tools.relays.timeouts.dialback / 10 * 9);
    let shown = tools.observe.metrics().text().unwrap();
    assert!(shown.contains("gatehouse_limited_total{limit=\"verifications\"} 1"));
    let waited =
        shown.lines().find(|l| l.starts_with("gatehouse_limited_seconds_total{limit=\"verifications\"}"));
    assert!(waited.unwrap().ends_with(" 27"), "{waited:?}");
    for heard in &mut all[..2] {
        assert_ne!(hears(heard).await, KeyAnswer::Trouble(Reason::Overload), "an authority that was silent");
    }
    tools.registry.emptied().await;
    assert!(tools.peering.verifier.held().told.is_empty());
}

// With 200 networks attacking at once an honest dialback of any domain stands within 2 s.
#[tokio::test(start_paused = true)]
async fn a_newcomer_has_the_place_of_one_who_has_had_his_turn() {
    let (tools, _lines) = silent(TurnParams { places: 8, ..TurnParams::default() });
    let mut crowd = Vec::new();
    for n in 0..40 {
        let source = format!("192.0.{n}.1");
        let (one, heard) = asked(tools.registry.unnamed(), &source, &format!("d{n}.example"), "k");
        ask(&tools, one);
        crowd.push(heard);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (honest, _heard) = asked(tools.registry.unnamed(), "198.51.100.1", "bank.example", "k");
    let begun = tokio::time::Instant::now();
    ask(&tools, honest);
    tokio::task::yield_now().await;
    let asks =
        || tools.peering.verifier.held().told.values().filter(|tx| *tx.borrow() == Stage::Asking).count();
    assert_eq!((asks(), tools.peering.verifier.held().told.len()), (8, 41));
    // Thirty-two wait before it, eight of them have their turn each second.
    let last = tools.peering.verifier.held().told.keys().max().copied().unwrap();
    while tools.peering.verifier.held().told.get(&last).is_none_or(|tx| *tx.borrow() != Stage::Asking) {
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hears(&mut crowd[0]).await, KeyAnswer::Trouble(Reason::Overload), "it has had its turn");
}

// DB-28: cannot connect.
#[tokio::test(start_paused = true)]
async fn an_authoritative_server_that_cannot_be_reached_is_trouble() {
    let tools = tools(Scripted::default());
    let (one, mut heard) = asked(tools.registry.unnamed(), "192.0.2.1", "friend.example", "k");
    ask(&tools, one);
    let Order::Verified(_, KeyAnswer::Trouble(reason), _) = poll_fn(|cx| heard.poll_next(cx)).await else {
        panic!("an answer")
    };
    assert_eq!(reason, Reason::RemoteUnreachable);
    tools.registry.emptied().await;
}

// DB-06: a question whose asker has gone is given up at once, and its place is free again.
#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_any_more_is_given_up() {
    let (tools, _lines) = silent(TurnParams { places: 1, ..TurnParams::default() });
    let (first, heard) = asked(tools.registry.unnamed(), "192.0.2.1", "friend.example", "k");
    let (second, waiting) = asked(tools.registry.unnamed(), "192.0.2.1", "cousin.example", "k");
    let (third, others) = asked(tools.registry.unnamed(), "192.0.2.1", "friend.example", "k");
    let begun = tokio::time::Instant::now();
    for one in [first, second, third] {
        ask(&tools, one);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(tools.peering.verifier.held().turns.waiting(), 2);
    drop(waiting);
    drop(heard);
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The third asks now.
    assert_eq!((tools.registry.living(), tools.peering.verifier.held().turns.waiting()), (1, 0));
    drop(others);
    tools.registry.emptied().await;
    assert!(begun.elapsed() < tools.relays.timeouts.dialback, "{:?}", begun.elapsed());
    let state = tools.peering.verifier.held();
    assert!(state.told.is_empty());
    assert_eq!((state.turns.held(), state.turns.waiting()), (0, 0));
}

/// A look-up that never comes to an end.
fn endless() -> Later<Evidence> {
    Box::pin(std::future::pending())
}

// LIM-06: "who asks pays": what a certificate has us look up takes its turn as a key does, and a network that fills all places with
// look-ups without end does not keep another's from being made.
#[tokio::test(start_paused = true)]
async fn look_ups_of_what_is_published_are_charged_to_the_network_that_causes_them() {
    let (tools, _lines) = silent(TurnParams { places: 8, ..TurnParams::default() });
    let look = |source: &str, name: &str, looking| {
        let sought = Sought { dane: true, posh: true };
        let source = Some(source.parse().unwrap());
        tokio::spawn(inquired(Arc::clone(&tools), source, (domain(name), sought), looking))
    };
    let crowd: Vec<_> = (0..60).map(|n| look("192.0.2.1", &format!("d{n}.example"), endless())).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = tokio::time::Instant::now();
    let proven = Evidence { posh: Posh::Proven, ..Evidence::none(domain("bank.example")) };
    let honest = look("198.51.100.1", "bank.example", Box::pin(std::future::ready(proven.clone())));
    assert_eq!(honest.await.unwrap(), proven);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Who finds no place in time is told so, and neither that there is nothing nor that it is forged.
    let last = crowd.into_iter().next_back().unwrap().await.unwrap();
    assert_eq!(last.dane, Dane::Unknown(Cause::TimedOut));
    assert!(matches!(&last.posh, Posh::Not(detail) if detail.cause == Cause::TimedOut), "{last:?}");
    let shown = tools.observe.metrics().text().unwrap();
    assert!(!shown.contains("gatehouse_limited_total{limit=\"verifications\"} 0"), "{shown}");
}
