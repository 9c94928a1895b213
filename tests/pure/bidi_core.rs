//! Streams that go both ways (XEP-0288), without a socket: what is negotiated, which pairs take the way back, and what becomes of
//! those that may not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use crate::stage::*;
use gatehouse::policy::Federation;
use gatehouse::reason::{Direction, Flow, Reason};
use gatehouse::relay::{Destination, DialbackOutcome, Effect, Event, FarId, Input, Left, Load, Role, Side};
use gatehouse::stream::{Method, Pair, Secured};
use gatehouse::xml::Kind;

const ASK: &str = "<bidi xmlns='urn:xmpp:bidi'/>";
const OFFER: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";
const UNSUPPORTED: &str = "<unsupported-stanza-type ";

fn both() -> Pair {
    pair("hall.example", "friend.example")
}

fn reply(id: &str) -> String {
    format!("<message id='{id}' from='j@hall.example/h' to='r@friend.example/x'><body>hi</body></message>")
}

/// Either proof will do.
fn lenient() -> std::sync::Arc<gatehouse::policy::Policy> {
    let text = "version: v1\nrules:\n  - { name: r, domains: [friend.example], verdict: allow, identity: [certificate, dialback] }\n";
    policy(Federation::Listed, text)
}

/// A stream of `friend.example` that has asked for both ways and has its pair by dialback.
fn agreed(names: &[&str], policy: std::sync::Arc<gatehouse::policy::Policy>) -> (Stage, FarId) {
    let mut stage = inbound(relays(), policy, "friend.example", names);
    assert!(stage.said(NEAR).contains(OFFER));
    stage.hears(NEAR, ASK);
    assert_eq!(stage.said(NEAR), "", "nothing is answered");
    let far = admit(&mut stage, "friend.example", "hall.example");
    (stage, far)
}

/// Pairs whose way back was opened and closed, in order.
fn ways(stage: &mut Stage) -> Vec<(Pair, bool)> {
    let mut all = Vec::new();
    stage.effects.retain(|effect| match effect {
        Effect::WayBack(pair, open) => {
            all.push((pair.clone(), *open));
            false
        }
        _ => true,
    });
    all
}

/// Stanzas that went back, and those that go on.
fn went(stage: &mut Stage) -> (Vec<String>, Vec<String>) {
    let (mut back, mut on) = (Vec::new(), Vec::new());
    stage.effects.retain(|effect| match effect {
        Effect::Back(_, octets) => {
            back.push(text(octets).to_owned());
            false
        }
        Effect::Onward(_, octets) => {
            on.push(text(octets).to_owned());
            false
        }
        _ => true,
    });
    (back, on)
}

/// Stanzas that came back over a leg of ours.
fn inwards(stage: &mut Stage) -> Vec<(Pair, String)> {
    let mut all = Vec::new();
    stage.effects.retain(|effect| match effect {
        Effect::Inward(_, pair, stanza) => {
            all.push((pair.clone(), text(&stanza.octets).to_owned()));
            false
        }
        _ => true,
    });
    all
}

// -- the peer calls

// SM-08: after TLS and before any proof; in clear, behind a claim, twice, or where it was not offered it ends the stream.
#[test]
fn it_is_negotiated_after_tls_and_before_any_proof() {
    let mut clear = Stage::new(relays(), any(), Flow::S2sIn, None);
    clear.hears(NEAR, &header("friend.example", "hall.example"));
    assert!(!clear.said(NEAR).contains("bidi"));
    clear.hears(NEAR, ASK);
    assert!(clear.said(NEAR).contains(UNSUPPORTED));

    let mut twice = inbound(relays(), any(), "friend.example", &[]);
    twice.hears(NEAR, ASK);
    twice.hears(NEAR, ASK);
    assert!(twice.said(NEAR).contains(UNSUPPORTED));

    let mut late = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut late, "friend.example", "hall.example");
    late.said(NEAR);
    late.hears(NEAR, ASK);
    assert!(late.said(NEAR).contains(UNSUPPORTED));

    let mut claimed = inbound(relays(), any(), "friend.example", &[]);
    claimed.hears(NEAR, "<db:result from='friend.example' to='hall.example'>key</db:result>");
    claimed.said(NEAR);
    claimed.hears(NEAR, ASK);
    assert!(claimed.said(NEAR).contains(UNSUPPORTED), "a claim that is on its way is one");

    let off = gatehouse::relay::RelayParams { bidi: false, ..relays() };
    let mut off = inbound(off, any(), "friend.example", &[]);
    assert!(!off.said(NEAR).contains("bidi"));
    off.hears(NEAR, ASK);
    assert!(off.said(NEAR).contains(UNSUPPORTED));

    // A backend is asked for nothing of the kind.
    let mut inside = Stage::new(relays(), any(), Flow::S2sOut, None);
    inside.hears(NEAR, &header("hall.example", "friend.example"));
    assert!(!inside.said(NEAR).contains("bidi"));
}

// TLS-07: what was asked for before TLS is forgotten with everything else; the restart of EXTERNAL keeps it.
#[test]
fn the_restart_of_external_keeps_it_and_no_stanza_goes_before_its_header() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    stage.said(NEAR);
    stage.hears(NEAR, ASK);
    stage.hears(
        NEAR,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>ZnJpZW5kLmV4YW1wbGU=</auth>",
    );
    let (far, _) = stage.connects()[0].clone();
    stand(&mut stage, far, "friend.example", "hall.example");
    assert!(stage.said(NEAR).contains("<success "));
    assert_eq!(ways(&mut stage), [], "the new stream has no header yet");
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    assert!(!stage.said(NEAR).contains("bidi"), "it is no longer to be had");
    assert_eq!(ways(&mut stage), [(both(), true)]);
    stage.step(NEAR, Input::Back(both(), reply("1").into()));
    assert_eq!(went(&mut stage), (vec![reply("1")], vec![]));
}

// SM-08: the inverse of a pair that stands goes back, judged as outbound; the pair is counted when it is used.
#[test]
fn the_inverse_of_an_admitted_pair_goes_back() {
    let (mut stage, far) = agreed(&["friend.example"], any());
    assert_eq!(ways(&mut stage), [(both(), true)]);
    let admitted = |stage: &Stage| {
        stage.notes().iter().filter(|e| matches!(e, Event::Admitted { pair, .. } if *pair == both())).count()
    };
    assert_eq!(admitted(&stage), 0);
    for id in ["1", "2"] {
        stage.step(NEAR, Input::Back(both(), reply(id).into()));
    }
    assert_eq!(went(&mut stage), (vec![reply("1"), reply("2")], vec![]));
    assert_eq!(admitted(&stage), 1);
    // LOG-06: how the domain proves itself where we speak to it is remembered, on this way too.
    let met = |e: &Effect| matches!(e, Effect::Note(Event::Met { pair, direction: Direction::Outbound, .. }) if *pair == both());
    assert_eq!(stage.effects.iter().filter(|e| met(e)).count(), 1);
    assert!(
        stage.has(|e| matches!(e, Effect::Note(Event::Admitted { server: Some(Method::Certificate), .. })))
    );
    assert_eq!(stage.relay.back().pairs()[0].passed(), (2, 2 * reply("1").len() as u64));
    let snapshot = stage.relay.snapshot(None);
    let shown: Vec<_> =
        snapshot.pairs.iter().map(|standing| (standing.pair.to_string(), standing.back)).collect();
    let (there, back) = ("friend.example>hall.example".to_owned(), "hall.example>friend.example".to_owned());
    assert_eq!(shown, [(there, false), (back, true)], "one connection, both pairs");
    // Its end is told once, and what did not go out goes on.
    let gone = Input::Gone { reason: Reason::ConnectionLost, unsent: vec![reply("2").into()] };
    stage.step(NEAR, gone);
    assert_eq!(went(&mut stage), (vec![], vec![reply("2")]));
    assert_eq!(ways(&mut stage), [(both(), false)]);
    let ended = stage.notes().iter().filter(|e| matches!(e, Event::Ended { .. })).count();
    assert_eq!(ended, 2, "one for each way");
    let _ = far;
}

// Only who asked for it gets anything back, and only once a pair stands.
#[test]
fn nothing_goes_back_unasked_or_before_a_pair_stands() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    assert_eq!(ways(&mut stage), []);
    stage.step(NEAR, Input::Back(both(), reply("1").into()));
    assert_eq!(went(&mut stage), (vec![], vec![reply("1")]));

    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    stage.hears(NEAR, ASK);
    stage.step(NEAR, Input::Back(both(), reply("1").into()));
    assert_eq!(went(&mut stage), (vec![], vec![reply("1")]));
    let (mut stage, _) = agreed(&["friend.example"], any());
    let other = pair("annex.example", "friend.example");
    stage.step(NEAR, Input::Back(other.clone(), reply("1").into()));
    assert_eq!(went(&mut stage).0, Vec::<String>::new(), "{other} is no inverse of what stands");
}

// POL-07, SM-08: each way has its own word in the policy: who may only come in gets nothing back here, and a policy that changes
// closes the way back alone.
#[test]
fn the_policy_is_asked_for_the_way_back_by_itself() {
    let one_way = "version: v1\nrules:\n  - { name: r, domains: [friend.example], verdict: allow, direction: inbound }\n";
    let (mut stage, _) = agreed(&["friend.example"], policy(Federation::Listed, one_way));
    assert_eq!(ways(&mut stage), []);

    let (mut stage, _) = agreed(&["friend.example"], any());
    stage.step(NEAR, Input::Back(both(), reply("1").into()));
    ways(&mut stage);
    stage.step(NEAR, Input::Policy(policy(Federation::Listed, one_way)));
    assert_eq!(ways(&mut stage), [(both(), false)]);
    assert!(stage.has(|e| matches!(e, Effect::Note(Event::Ended { record }) if record.pair == Some(both()))));
    assert!(stage.relay.back().is_empty() && !stage.relay.guard().is_empty(), "the way in goes on");
    stage.step(NEAR, Input::Back(both(), reply("2").into()));
    assert_eq!(went(&mut stage), (vec![reply("1")], vec![reply("2")]));
    stage.step(NEAR, Input::Policy(any()));
    assert_eq!(ways(&mut stage), [(both(), true)]);
}

// SM-08, CRT-12: the peer's certificate is judged against our target, and again when it is worth less.
#[test]
fn the_certificate_of_the_peer_is_judged_against_our_target() {
    let strict = "version: v1\ndefaults: { identity: [certificate] }\nrules:\n\
        \x20 - { name: r, domains: [friend.example], verdict: allow }\n";
    let (mut stage, _) = agreed(&["friend.example"], policy(Federation::Listed, strict));
    assert_eq!(ways(&mut stage), [(both(), true)]);
    stage.step(NEAR, Input::Back(both(), reply("1").into()));
    assert_eq!(went(&mut stage).0, [reply("1")]);
    // A policy that asks for more than the channel shows.
    let pinned =
        "version: v1\nrules:\n  - { name: r, domains: [friend.example], verdict: allow, identity: [dane] }\n";
    stage.step(NEAR, Input::Policy(policy(Federation::Listed, pinned)));
    assert_eq!(ways(&mut stage), [(both(), false)]);
    // Revoked while the stream lives.
    let (mut stage, _) = agreed(&["friend.example"], policy(Federation::Listed, strict));
    ways(&mut stage);
    let mut worthless = untrusted("", "friend.example").certificate.clone().unwrap();
    worthless.trust.default = Err(gatehouse::stream::TrustFault::Revoked);
    stage.step(NEAR, Input::Retrusted(worthless));
    assert_eq!(ways(&mut stage), [(both(), false)]);
    stage.step(NEAR, Input::Back(both(), reply("2").into()));
    assert_eq!(went(&mut stage), (vec![], vec![reply("2")]));
}

// What the peer sends against the flow is a forgery, whatever was agreed on.
#[test]
fn forged_directions_end_the_stream() {
    for forged in [
        "<message from='j@hall.example' to='r@friend.example'/>",
        "<message from='r@friend.example' to='x@friend.example'/>",
        "<message from='x@stranger.example' to='j@hall.example'/>",
    ] {
        let (mut stage, _) = agreed(&["friend.example"], any());
        stage.step(NEAR, Input::Back(both(), reply("1").into()));
        stage.hears(NEAR, forged);
        assert!(stage.said(NEAR).contains("<stream:error>"), "{forged}");
        assert!(stage.passed().is_empty() && ways(&mut stage).contains(&(both(), false)), "{forged}");
    }
}

// DB-08: nothing is asked on the stream, so answers stay answers that nobody has asked for.
#[test]
fn answers_on_the_stream_are_still_unasked() {
    let (mut stage, _) = agreed(&["friend.example"], any());
    stage.said(NEAR);
    for _ in 0..4 {
        stage.hears(NEAR, "<db:result from='friend.example' to='hall.example' type='valid'/>");
    }
    assert!(stage.said(NEAR).contains("<stream:error>"));
}

// Law `bounded`: what goes back is no larger than what others may send us.
#[test]
fn what_is_too_large_comes_back_alone() {
    let (mut stage, _) = agreed(&["friend.example"], any());
    let big = "x".repeat(relays().limits.proven.element);
    let big =
        format!("<message id='m' from='j@hall.example/h' to='r@friend.example'><body>{big}</body></message>");
    stage.step(NEAR, Input::Back(both(), big.into()));
    assert_eq!(went(&mut stage), (vec![], vec![]));
    assert!(stage.reported()[0].1.contains("policy-violation"));
    stage.step(NEAR, Input::Back(both(), reply("1").into()));
    assert_eq!(went(&mut stage).0, [reply("1")]);
}

// CLS-02: when the stream ends in good order, what comes for the pair goes on over another.
#[test]
fn a_stream_that_closes_takes_nothing_back_any_more() {
    for input in [Input::Drain, Input::Close(Reason::ClosedByOperator)] {
        let (mut stage, _) = agreed(&["friend.example"], any());
        stage.step(NEAR, Input::Back(both(), reply("1").into()));
        ways(&mut stage);
        stage.step(NEAR, input);
        assert_eq!(ways(&mut stage), [(both(), false)]);
        stage.step(NEAR, Input::Back(both(), reply("2").into()));
        assert_eq!(went(&mut stage), (vec![reply("1")], vec![reply("2")]));
    }
}

// A limit of its rule closes the way back alone.
#[test]
fn a_way_back_for_which_there_is_no_room_is_closed() {
    let (mut stage, _) = agreed(&["friend.example"], any());
    stage.step(NEAR, Input::Back(both(), reply("1").into()));
    ways(&mut stage);
    stage.step(NEAR, Input::Withdraw(both(), Reason::TooManyPairs));
    assert_eq!(ways(&mut stage)[0], (both(), false));
    assert!(stage.said(NEAR).is_empty() || !stage.said(NEAR).contains("<stream:error>"));
}

// A stream over which we speak is not idle, and a backend that ends its own quiet stream does not end it.
#[test]
fn a_stream_that_is_used_back_is_not_idle() {
    let (mut stage, far) = agreed(&["friend.example"], any());
    stage.step(NEAR, Input::Back(both(), reply("1").into()));
    stage.said(NEAR);
    stage.wait(relays().timeouts.report + Duration::from_secs(1));
    stage.hears(Side::Far(far), "</stream:stream>");
    assert_eq!(stage.said(NEAR), "");
    assert!(stage.relay.snapshot(None).pairs.iter().any(|standing| standing.back));
    stage.hears(NEAR, "<message from='r@friend.example/x' to='j@hall.example/h'/>");
    assert_eq!(stage.carried().len(), 1, "what still comes is carried");
}

// -- what goes back is counted

const SM: &str = "urn:xmpp:sm:3";

/// The same as `agreed`, and the peer has both ways counted under this name.
fn counted() -> (Stage, String) {
    let (mut stage, _) = agreed(&["friend.example"], any());
    stage.hears(NEAR, &format!("<enable xmlns='{SM}' resume='true'/>"));
    let id = attribute(&stage.said(NEAR), "id");
    (stage, id)
}

fn asks() -> String {
    format!("<r xmlns='{SM}'/>")
}

fn a(count: u32) -> String {
    format!("<a xmlns='{SM}' h='{count}'/>")
}

fn back(stage: &mut Stage, ids: &[&str]) {
    for id in ids {
        stage.step(NEAR, Input::Back(both(), reply(id).into()));
    }
}

/// What goes another way again, in order.
fn again(stage: &mut Stage) -> Vec<String> {
    let mut all = Vec::new();
    stage.effects.retain(|effect| match effect {
        Effect::Again(stanzas) => {
            all.extend(stanzas.iter().map(|(_, octets)| text(octets).to_owned()));
            false
        }
        _ => true,
    });
    all
}

/// What its senders hear of stanzas that nobody knows of.
fn unknown(stage: &Stage) -> usize {
    stage.reasons().iter().filter(|reason| **reason == Reason::Unacknowledged).count()
}

fn left(stage: &Stage) -> Option<Left> {
    stage.effects.iter().find_map(|effect| match effect {
        Effect::Leave(left) => *left,
        _ => None,
    })
}

fn breaks(unsent: &[&str]) -> Input {
    Input::Gone { reason: Reason::ConnectionLost, unsent: unsent.iter().map(|id| reply(id).into()).collect() }
}

// SM-01, SM-08: the peer is asked how much it has taken, one question at a time, and is told off where that cannot be.
#[test]
fn what_goes_back_is_asked_about_and_acknowledged() {
    let (mut stage, _) = counted();
    back(&mut stage, &["1", "2", "3"]);
    assert_eq!((went(&mut stage).0.len(), stage.said(NEAR)), (3, asks()));
    stage.hears(NEAR, &a(1));
    assert_eq!(stage.said(NEAR), asks());
    stage.hears(NEAR, &a(3));
    assert_eq!(stage.said(NEAR), "");
    stage.step(NEAR, breaks(&[]));
    assert_eq!(left(&stage), Some(Left { taken: 0, sent: 3, open: 0 }));
    assert!(stage.relay.is_done() || !stage.relay.holds_back(), "nothing is left to wait for");
    // More than was sent, or less than before.
    for h in [4, 0] {
        let (mut stage, _) = counted();
        back(&mut stage, &["1", "2", "3"]);
        stage.hears(NEAR, &a(2));
        stage.hears(NEAR, &a(h));
        assert!(stage.said(NEAR).contains("<undefined-condition "), "{h}");
    }
}

// What was sent back before counting began is not counted.
#[test]
fn the_count_of_what_goes_back_begins_with_enabled() {
    let (mut stage, _) = agreed(&["friend.example"], any());
    back(&mut stage, &["0"]);
    stage.hears(NEAR, &format!("<enable xmlns='{SM}'/>"));
    stage.said(NEAR);
    back(&mut stage, &["1"]);
    stage.hears(NEAR, &a(1));
    assert_eq!(stage.said(NEAR), asks());
    stage.step(NEAR, breaks(&[]));
    assert_eq!(unknown(&stage), 0);
}

// "exactly once what was not acknowledged": whoever goes on tells what it has taken, and the rest goes another way, in its order;
// what never went out goes behind it.
#[test]
fn what_was_not_taken_goes_another_way_once_somebody_goes_on() {
    let (mut stage, _) = counted();
    back(&mut stage, &["1", "2", "3", "4"]);
    stage.hears(NEAR, &a(1));
    went(&mut stage);
    stage.step(NEAR, breaks(&["4"]));
    assert_eq!(left(&stage), Some(Left { taken: 0, sent: 3, open: 2 }));
    assert_eq!((went(&mut stage).1, unknown(&stage)), (vec![reply("4")], 0));
    assert!(stage.relay.holds_back() && !stage.relay.is_done());
    stage.step(NEAR, Input::GoneOn(2));
    assert_eq!((again(&mut stage), unknown(&stage)), (vec![reply("3")], 0));
    assert!(!stage.relay.holds_back());
    // It is told once.
    stage.step(NEAR, Input::GoneOn(1));
    assert_eq!((again(&mut stage), unknown(&stage)), (vec![], 0));
}

// "what cannot be resumed is bounced once and never sent again": in time, at the end of the gateway, where no session was promised,
// or where the peer's number cannot be.
#[test]
fn what_nobody_tells_of_comes_back_once() {
    for how in 0..4 {
        let (mut stage, _) = match how {
            3 => {
                let (mut stage, _) = agreed(&["friend.example"], any());
                stage.hears(NEAR, &format!("<enable xmlns='{SM}'/>"));
                (stage, String::new())
            }
            _ => counted(),
        };
        back(&mut stage, &["1", "2"]);
        went(&mut stage);
        stage.step(NEAR, breaks(&[]));
        assert_eq!(unknown(&stage), if how == 3 { 2 } else { 0 }, "{how}");
        match how {
            0 => {
                // As long as the session is remembered.
                stage.wait(Duration::from_secs(119));
                assert_eq!(unknown(&stage), 0);
                stage.wait(Duration::from_secs(2));
            }
            1 => stage.step(NEAR, Input::Drain),
            2 => stage.step(NEAR, Input::GoneOn(7)),
            _ => {}
        }
        assert_eq!((unknown(&stage), again(&mut stage).len()), (2, 0), "{how}");
        assert_eq!(stage.reported().len(), 2, "{how}");
        assert!(!stage.relay.holds_back(), "{how}");
        stage.step(NEAR, Input::GoneOn(1));
        assert_eq!((unknown(&stage), again(&mut stage).len()), (2, 0), "{how}");
    }
}

// A peer that comes on another stream and does not go on with this one has forgotten it: what comes for it meanwhile need not wait
// for so long.
#[test]
fn what_a_peer_has_left_that_is_there_again_waits_for_a_moment() {
    let (mut stage, _) = counted();
    back(&mut stage, &["1"]);
    went(&mut stage);
    // One that stands waits for nobody.
    stage.step(NEAR, Input::Forsaken);
    stage.step(NEAR, breaks(&[]));
    stage.wait(Duration::from_secs(20));
    stage.step(NEAR, Input::Forsaken);
    stage.wait(Duration::from_secs(9));
    stage.step(NEAR, Input::Forsaken);
    assert_eq!(unknown(&stage), 0);
    stage.wait(Duration::from_secs(2));
    assert_eq!((unknown(&stage), stage.reported().len()), (1, 1));
    assert!(!stage.relay.holds_back());
}

// The end in good order: a last question goes before our tag, and what is acknowledged behind it counts.
#[test]
fn what_is_acknowledged_behind_our_closing_tag_counts() {
    for told in [true, false] {
        let (mut stage, _) = counted();
        back(&mut stage, &["1"]);
        stage.hears(NEAR, &a(1));
        back(&mut stage, &["2"]);
        stage.said(NEAR);
        stage.step(NEAR, Input::Drain);
        let said = stage.said(NEAR);
        assert!(said.starts_with(&a(0)) && said.ends_with("</stream:stream>"), "{said}");
        if told {
            stage.hears(NEAR, &a(2));
        }
        stage.hears(NEAR, "</stream:stream>");
        assert_eq!(unknown(&stage), usize::from(!told));
    }
}

// Law `bounded`: there is room for so many that are not acknowledged, and no more is taken meanwhile.
#[test]
fn what_goes_back_waits_for_room() {
    let mut relays = relays();
    relays.limits.unacked_stanzas = 2;
    let mut stage = inbound(relays, any(), "friend.example", &["friend.example"]);
    stage.hears(NEAR, ASK);
    admit(&mut stage, "friend.example", "hall.example");
    assert_eq!(stage.relay.room_back(), None);
    stage.hears(NEAR, &format!("<enable xmlns='{SM}'/>"));
    assert_eq!(stage.relay.room_back(), Some(true));
    back(&mut stage, &["1", "2"]);
    assert_eq!(stage.relay.room_back(), Some(false));
    stage.hears(NEAR, &a(1));
    assert_eq!(stage.relay.room_back(), Some(true));
}

// Who counts and tells of it no more, or never did, is gone; what he was sent waits for whoever goes on, and nothing of it is sent twice.
#[test]
fn a_peer_that_acknowledges_nothing_on_its_own_stream_is_gone() {
    for (told, goes_on) in [(true, true), (false, true), (false, false)] {
        let (mut stage, _) = counted();
        back(&mut stage, &["1"]);
        if told {
            stage.hears(NEAR, &a(1));
        }
        back(&mut stage, &["2"]);
        let open = if told { 1 } else { 2 };
        stage.wait(relays().timeouts.acknowledgement + Duration::from_secs(2));
        assert!(stage.relay.holds_back());
        assert_eq!(left(&stage).map(|left| (left.sent, left.open)), Some((2, open)));
        // What waits to go out is kept with the rest before the connection is cut, which would give it back besides.
        let at = |wanted: &dyn Fn(&Effect) -> bool| stage.effects.iter().position(wanted).unwrap();
        let recalled = at(&|e| matches!(e, Effect::Recall(NEAR, last) if *last == open as usize));
        assert!(recalled < at(&|e| matches!(e, Effect::Cut(NEAR))));
        if goes_on {
            stage.step(NEAR, Input::GoneOn(1));
            assert_eq!((again(&mut stage), unknown(&stage)), (vec![reply("2")], 0));
        } else {
            stage.wait(relays().timeouts.resume + Duration::from_secs(1));
            assert_eq!((again(&mut stage).len(), unknown(&stage)), (0, 2));
        }
        assert!(!stage.relay.holds_back());
    }
}

// The session goes on over another stream, under its old numbers.
#[test]
fn the_count_of_what_goes_back_goes_on_with_the_session() {
    for both_ways in [true, false] {
        let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
        if both_ways {
            stage.hears(NEAR, ASK);
        }
        admit(&mut stage, "friend.example", "hall.example");
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<resume xmlns='{SM}' previd='s1' h='4'/>"));
        let friend = domain("friend.example");
        stage.step(NEAR, Input::Resumed(Some((Left { taken: 7, sent: 5, open: 2 }, friend))));
        assert_eq!(stage.said(NEAR), format!("<resumed xmlns='{SM}' previd='s1' h='7'/>"));
        if both_ways {
            back(&mut stage, &["5"]);
            assert_eq!(stage.said(NEAR), asks());
            stage.hears(NEAR, &a(5));
            assert_eq!(stage.said(NEAR), "");
        } else {
            assert_eq!(stage.relay.room_back(), None);
        }
    }
}

// -- we call

fn features(bidi: bool) -> String {
    let bidi = if bidi { OFFER } else { "" };
    format!("<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>{bidi}</stream:features>")
}

/// A courier whose leg has met this peer; what we said behind its features.
fn called(
    facts: Secured,
    policy: std::sync::Arc<gatehouse::policy::Policy>,
    offers: bool,
) -> (Stage, FarId, String) {
    let mut stage = courier(relays(), policy, "hall.example", "friend.example", Load::Own);
    let (far, destination) = stage.connects()[0].clone();
    assert!(matches!(destination, Destination::World { .. }));
    stage.connected(far, Some(facts));
    stage.hears(Side::Far(far), &answer("one", true));
    stage.said(Side::Far(far));
    stage.hears(Side::Far(far), &features(offers));
    let said = stage.said(Side::Far(far));
    stage.hears(Side::Far(far), "<db:result from='friend.example' to='hall.example' type='valid'/>");
    (stage, far, said)
}

const ANSWER: &str =
    "<message id='a' from='r@friend.example/x' to='j@hall.example/h'><body>yes</body></message>";

// SM-08: asked for before the proof, and only where the peer offers it.
#[test]
fn it_is_asked_for_where_it_is_offered_before_any_proof() {
    let (_, _, said) = called(secured("", &["friend.example"]), any(), true);
    assert!(said.starts_with(ASK) && said.contains("<db:result "), "{said}");
    let (_, _, said) = called(secured("", &["friend.example"]), any(), false);
    assert!(said.starts_with("<db:result "), "{said}");
}

// RLY-04, SM-08: what comes back is the inverse of our pair, goes inside by other couriers, and is admitted when it comes.
#[test]
fn what_comes_back_goes_inside() {
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
    stage.effects.clear();
    stage.hears(Side::Far(far), ANSWER);
    stage.hears(Side::Far(far), ANSWER);
    let whom = both().reversed();
    // Each counts as its sender's, like what comes on a stream of its own.
    let counts = |e: &Effect| matches!(e, Effect::Inward(.., stanza) if stanza.sender.is_some());
    assert_eq!(stage.effects.iter().filter(|e| counts(e)).count(), 2);
    assert_eq!(inwards(&mut stage), [(whom.clone(), ANSWER.to_owned()), (whom.clone(), ANSWER.to_owned())]);
    let came = |e: &Effect| matches!(e, Effect::Note(Event::Admitted { pair, method: Method::Certificate, .. }) if *pair == whom);
    assert_eq!(stage.effects.iter().filter(|e| came(e)).count(), 1);
    assert!(stage.relay.snapshot(None).pairs.iter().any(|standing| standing.back && standing.pair == whom));
    stage.hears(Side::Far(far), "</stream:stream>");
    let ended = |e: &Effect| matches!(e, Effect::Note(Event::Ended { record }) if record.pair.as_ref() == Some(&whom) && record.stanzas == 2);
    assert!(stage.has(ended) && stage.relay.back().is_empty());
}

// RLY-04: without it the peer sends nothing, as ever; forged directions end the leg, and the next one goes one way.
#[test]
fn forged_directions_end_the_leg_and_the_next_goes_one_way() {
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), false);
    stage.hears(Side::Far(far), ANSWER);
    assert!(stage.said(Side::Far(far)).contains("<not-authorized "));
    for forged in [
        "<message from='j@hall.example' to='r@friend.example'/>",
        "<message from='r@friend.example' to='j@annex.example'/>",
        "<message from='x@stranger.example' to='j@hall.example'/>",
        "<message from='j@hall.example' to='j@hall.example'/>",
    ] {
        let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
        stage.effects.clear();
        stage.hears(Side::Far(far), ANSWER);
        stage.hears(Side::Far(far), forged);
        assert!(stage.said(Side::Far(far)).contains("<stream:error>"), "{forged}");
        assert_eq!(inwards(&mut stage).len(), 1, "{forged}");
    }
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
    let waiting = Input::Queue(Load::Own, reply("1").into());
    stage.hears(Side::Far(far), ANSWER);
    stage.wait(relays().timeouts.idle + Duration::from_secs(1));
    stage.step(NEAR, waiting);
    stage.hears(Side::Far(far), "<message from='x@stranger.example' to='j@hall.example'/>");
    let (next, _) = stage.connects().last().unwrap().clone();
    assert_ne!(next, far, "what waits takes another leg");
    stage.connected(next, Some(secured("", &["friend.example"])));
    stage.hears(Side::Far(next), &answer("two", true));
    stage.said(Side::Far(next));
    stage.hears(Side::Far(next), &features(true));
    assert!(!stage.said(Side::Far(next)).contains("bidi"));
}

// SM-08: nobody is asked who is not proven by his channel, or may not come in: that takes a stream of his own, and a question.
#[test]
fn it_is_not_asked_for_where_the_peer_may_not_come_in_by_its_channel() {
    let (mut stage, far, said) = called(untrusted("", "friend.example"), lenient(), true);
    assert!(!said.contains("bidi"), "{said}");
    stage.hears(Side::Far(far), ANSWER);
    assert!(inwards(&mut stage).is_empty() && stage.said(Side::Far(far)).contains("<stream:error>"));
    let out = "version: v1\nrules:\n  - { name: r, domains: [friend.example], verdict: allow, direction: outbound }\n";
    let (_, _, said) = called(secured("", &["friend.example"]), policy(Federation::Listed, out), true);
    assert!(!said.contains("bidi"), "{said}");
    let off = gatehouse::relay::RelayParams { bidi: false, ..relays() };
    let mut stage = courier(off, any(), "hall.example", "friend.example", Load::Own);
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, Some(secured("", &["friend.example"])));
    stage.hears(Side::Far(far), &answer("one", true));
    stage.said(Side::Far(far));
    stage.hears(Side::Far(far), &features(true));
    assert!(!stage.said(Side::Far(far)).contains("bidi"));
    // What unproven peers cause us to call has one way.
    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Carried);
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, Some(secured("", &["friend.example"])));
    stage.hears(Side::Far(far), &answer("one", true));
    stage.said(Side::Far(far));
    stage.hears(Side::Far(far), &features(true));
    assert!(!stage.said(Side::Far(far)).contains("bidi"));
}

// A pair whose rule holds changes of how its domain was proven is compared with what was seen where it was called, or called: over a
// stream that goes the other way it would slip by, in both directions.
#[test]
fn a_domain_whose_changes_are_held_has_a_stream_for_each_way() {
    for (more, both_ways) in [("", true), (", on-change: note", true), (", on-change: hold", false)] {
        let rule = format!(
            "version: v1\nrules:\n  - {{ name: r, domains: [friend.example], verdict: allow, identity: [certificate, dialback]{more} }}\n"
        );
        let rule = policy(Federation::Listed, &rule);
        let (mut stage, _) = agreed(&["friend.example"], rule.clone());
        assert_eq!(!ways(&mut stage).is_empty(), both_ways, "{more}");
        stage.step(NEAR, Input::Back(both(), reply("1").into()));
        let (back, on) = went(&mut stage);
        assert_eq!((back.len(), on.len()), if both_ways { (1, 0) } else { (0, 1) }, "{more}");
        let (_, _, said) = called(secured("", &["friend.example"]), rule, true);
        assert_eq!(said.contains("bidi"), both_ways, "{more}: {said}");
    }
}

const CLAIM: &str = "<db:result from='im.friend.example' to='hall.example'>0123</db:result>";
const QUESTION: &str = "<db:verify from='friend.example' to='hall.example' id='one'>0123</db:verify>";

// Table 0.3: on a stream of ours that goes one way a peer claims nothing and asks nothing.
#[test]
fn a_claim_on_a_stream_of_ours_that_goes_one_way_ends_it() {
    for word in [CLAIM, QUESTION] {
        let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), false);
        stage.said(Side::Far(far));
        stage.hears(Side::Far(far), word);
        let said = stage.said(Side::Far(far));
        assert!(said.contains("<unsupported-stanza-type "), "{word}: {said}");
        assert!(!said.contains("<db:"), "{said}");
    }
}

// DB-31, DB-40, SM-08: on one that goes both ways the peer hears that no other pair has room there, and what stands goes on; whoever asks
// without end loses the stream.
#[test]
fn a_claim_on_a_stream_of_ours_that_goes_both_ways_is_refused() {
    const REFUSED: &str =
        "<error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
    stage.said(Side::Far(far));
    for n in 0..8 {
        stage.hears(Side::Far(far), CLAIM);
        let answer = format!(
            "<db:result from='hall.example' to='im.friend.example' type='error'>{REFUSED}</db:result>"
        );
        assert_eq!(stage.said(Side::Far(far)), answer, "{n}");
        stage.hears(Side::Far(far), QUESTION);
        let answer = format!(
            "<db:verify from='hall.example' to='friend.example' id='one' type='error'>{REFUSED}</db:verify>"
        );
        assert_eq!(stage.said(Side::Far(far)), answer, "{n}");
        stage.hears(Side::Far(far), ANSWER);
        assert_eq!(inwards(&mut stage).len(), 1, "{n}");
    }
    let told = |e: &Effect| {
        matches!(
            e,
            Effect::Note(Event::Dialback { role: Role::Receiving, outcome: DialbackOutcome::Error, .. })
        )
    };
    assert_eq!(stage.effects.iter().filter(|e| told(e)).count(), 16);
    stage.hears(Side::Far(far), CLAIM);
    assert!(stage.said(Side::Far(far)).contains("<policy-violation "), "the 17th");
}

// DB-02: what cannot be understood is answered as on a stream that arrived, and answers that nobody asked for change nothing (DB-08).
#[test]
fn a_broken_claim_on_a_stream_of_ours_is_told_what_is_wrong() {
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
    stage.said(Side::Far(far));
    stage.hears(Side::Far(far), "<db:result from='im.friend.example' to='hall.example'/>");
    assert!(stage.said(Side::Far(far)).contains("<bad-request "));
    for _ in 0..3 {
        stage.hears(Side::Far(far), "<db:result from='friend.example' to='hall.example' type='valid'/>");
        assert_eq!(stage.said(Side::Far(far)), "");
    }
    stage.hears(Side::Far(far), "<db:result to='hall.example'>0123</db:result>");
    assert!(stage.said(Side::Far(far)).contains("<improper-addressing "));
}

// Before the pair stands nobody may send anything, asked or not.
#[test]
fn a_stanza_before_the_proof_ends_the_attempt() {
    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, Some(secured("", &["friend.example"])));
    stage.hears(Side::Far(far), &answer("one", true));
    stage.hears(Side::Far(far), &features(true));
    stage.said(Side::Far(far));
    stage.hears(Side::Far(far), ANSWER);
    assert!(inwards(&mut stage).is_empty() && stage.said(Side::Far(far)).contains("<not-authorized "));
}

// POL-07: a policy that shuts the peer out ends the stream on which he may answer, and what he has under way comes back.
#[test]
fn a_policy_that_shuts_the_peer_out_ends_the_stream() {
    let out = "version: v1\nrules:\n  - { name: r, domains: [friend.example], verdict: allow, direction: outbound }\n";
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
    stage.hears(Side::Far(far), ANSWER);
    inwards(&mut stage);
    stage.step(NEAR, Input::Policy(policy(Federation::Listed, out)));
    assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
    stage.hears(Side::Far(far), ANSWER);
    assert!(inwards(&mut stage).is_empty());
    assert_eq!(stage.carried().len(), 1, "who wrote it hears that it did not arrive");
    // Nor where he has not answered yet.
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
    stage.step(NEAR, Input::Policy(policy(Federation::Listed, out)));
    assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
}

// LIM-04, DB-70: what a sender may not send comes back to him, and not to our users.
#[test]
fn what_comes_back_too_fast_comes_back_to_its_sender() {
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
    stage.hears(Side::Far(far), ANSWER);
    stage.step(Side::Far(far), Input::Refused(ANSWER.into(), Reason::SenderTooFast));
    let back = stage.carried();
    assert_eq!(back[0].0, both());
    assert!(back[0].1.contains("to='r@friend.example/x'"), "{}", back[0].1);
    assert_eq!(Kind::of_stanza(back[0].1.as_bytes()), Kind::Message);
}

// XML-17: what the framer refuses on such a stream is refused alone.
#[test]
fn a_refused_stanza_is_refused_alone() {
    let (mut stage, far, _) = called(secured("", &["friend.example"]), any(), true);
    stage.hears(Side::Far(far), ANSWER);
    let big = "x".repeat(relays().limits.proven.element + 1);
    let big = format!(
        "<message id='b' from='r@friend.example/x' to='j@hall.example/h'><body>{big}</body></message>"
    );
    stage.hears(Side::Far(far), &big);
    stage.hears(Side::Far(far), ANSWER);
    assert_eq!(inwards(&mut stage).len(), 2);
    assert!(stage.carried()[0].1.contains("policy-violation"));
}

// SM-01, SM-08: what the peer sends back is counted from `<enabled/>` on, refused or not; the count goes with the session to its next
// stream, so that nothing is sent twice.
#[test]
fn what_comes_back_is_counted_and_the_count_outlives_the_stream() {
    const FEATURES: &str = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>\
        <bidi xmlns='urn:xmpp:features:bidi'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>";
    const ASKED: &str = "<r xmlns='urn:xmpp:sm:3'/>";
    let counted = |stage: &mut Stage, far: FarId| {
        stage.said(Side::Far(far));
        stage.hears(Side::Far(far), ASKED);
        attribute(&stage.said(Side::Far(far)), "h")
    };
    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, Some(secured("", &["friend.example"])));
    stage.hears(Side::Far(far), &answer("one", true));
    stage.hears(Side::Far(far), FEATURES);
    stage.hears(Side::Far(far), "<db:result from='friend.example' to='hall.example' type='valid'/>");
    assert!(stage.said(Side::Far(far)).contains("<enable "));
    // The pair stands and the peer speaks at once; that is behind no `<enabled/>` and is not counted.
    stage.hears(Side::Far(far), ANSWER);
    stage.hears(Side::Far(far), "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>");
    assert_eq!(counted(&mut stage, far), "0");
    stage.hears(Side::Far(far), ANSWER);
    let name = "<message from='r@friend.example/x' to='j@hall.example/h'><\u{e9}/></message>";
    stage.hears(Side::Far(far), name);
    assert_eq!(counted(&mut stage, far), "2", "a refused stanza counts as handled");
    assert_eq!(inwards(&mut stage).len(), 2);
    // The connection breaks with something of ours unacknowledged: the session goes on over another.
    stage.step(NEAR, Input::Queue(Load::Own, reply("1").into()));
    let gone = Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() };
    stage.step(Side::Far(far), gone);
    stage.wait(Duration::from_secs(1));
    let (next, _) = stage.connects().last().unwrap().clone();
    assert_ne!(next, far);
    stage.connected(next, Some(secured("", &["friend.example"])));
    stage.hears(Side::Far(next), &answer("two", true));
    stage.said(Side::Far(next));
    stage.hears(Side::Far(next), FEATURES);
    assert!(stage.said(Side::Far(next)).starts_with(ASK));
    stage.hears(Side::Far(next), "<db:result from='friend.example' to='hall.example' type='valid'/>");
    assert!(stage.said(Side::Far(next)).contains("previd='s1' h='2'"));
    stage.hears(Side::Far(next), "<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='1'/>");
    stage.hears(Side::Far(next), ANSWER);
    assert_eq!(counted(&mut stage, next), "3");
    assert_eq!(inwards(&mut stage).len(), 1);
}
