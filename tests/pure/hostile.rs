//! Dialogues of those who mean harm, or whose timing does: order, delay and words out of place, in the pure relay.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use crate::stage::*;
use bytes::Bytes;
use gatehouse::policy::Federation;
use gatehouse::reason::{Flow, Reason};
use gatehouse::relay::{Effect, Event, Input, Load, Relay, Side, Timeouts};
use gatehouse::stream::{KeyAnswer, Pair};

const EXTERNAL: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>ZnJpZW5kLmV4YW1wbGU=</auth>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

fn denying(domains: &str) -> std::sync::Arc<gatehouse::policy::Policy> {
    let text = format!("version: v1\nrules:\n  - {{ name: no, domains: [{domains}], verdict: deny }}\n");
    policy(Federation::Any, &text)
}

fn clear() -> std::sync::Arc<gatehouse::policy::Policy> {
    let text = "version: v1\nrules:\n  - { name: clear, domains: [friend.example], tls: none }\n";
    policy(Federation::Any, text)
}

/// How many pairs were told to begin, and how many to end: the gauge of streams is their difference.
fn begun_and_ended(stage: &Stage) -> (usize, usize) {
    let notes = stage.notes();
    let begun = notes.iter().filter(|e| matches!(e, Event::Admitted { .. })).count();
    let ended = notes.iter().filter(|e| matches!(e, Event::Ended { .. })).count();
    (begun, ended)
}

// POL-07: "streams with a pair no longer allowed are closed or the pair is withdrawn"; the end of the inside leg is no
// way back in.
#[test]
fn a_pair_that_was_taken_back_stays_so_when_its_far_leg_ends() {
    for end in ["</stream:stream>", ""] {
        let mut stage = inbound(relays(), any(), "friend.example", &[]);
        let one = admit(&mut stage, "friend.example", "hall.example");
        admit(&mut stage, "rooms.friend.example", "hall.example");
        stage.step(NEAR, Input::Policy(denying("friend.example")));
        if end.is_empty() {
            stage.step(Side::Far(one), Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
        } else {
            stage.hears(Side::Far(one), end);
        }
        stage.hears(NEAR, "<message id='1' from='a@friend.example' to='b@hall.example'/>");
        let carried = stage.carried();
        assert!(carried.iter().all(|(to, _)| *to == pair("hall.example", "friend.example")), "{carried:?}");
        assert!(carried[0].1.contains("policy-violation"), "{carried:?}");
        // RLY-09, DB-70: what is never answered is not answered here.
        for stanza in ["message|error", "iq|result", "iq|error", "presence|error", "presence|unavailable"] {
            let (name, kind) = stanza.split_once('|').unwrap();
            stage.effects.clear();
            stage.hears(
                NEAR,
                &format!("<{name} id='2' from='a@friend.example' to='b@hall.example' type='{kind}'/>"),
            );
            assert_eq!(stage.carried(), [], "{stanza}");
        }
    }
}

// The rule's number of streams is a matter of one pair; the others on the stream go on.
#[test]
fn a_far_leg_beyond_a_quota_ends_alone() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    let two = admit(&mut stage, "rooms.friend.example", "hall.example");
    stage.said(NEAR);
    stage.step(Side::Far(two), Input::Close(Reason::TooManyStreams));
    assert_eq!(stage.said(NEAR), "");
    assert!(stage.said(Side::Far(two)).ends_with("</stream:stream>"));
    stage.hears(NEAR, "<message id='1' from='a@rooms.friend.example' to='b@hall.example'/>");
    assert!(stage.carried()[0].1.contains("resource-constraint"));
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
    // Alone on its stream, the stream ends with it.
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    let far = admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.step(Side::Far(far), Input::Close(Reason::TooManyStreams));
    assert!(stage.said(NEAR).contains("<policy-violation "));
}

// DB-66: what one remote server says before it is proven, however much, ends its own leg.
#[test]
fn a_talkative_remote_server_ends_no_other_pair() {
    let mut stage = courier(relays(), any(), "hall.example", "mallory.example", Load::Own);
    let stanza = "<message from='b@hall.example' to='a@mallory.example' id='1'/>";
    stage.step(NEAR, Input::Queue(Load::Own, Bytes::from_static(stanza.as_bytes())));
    let (mallory, _) = stage.connects()[0].clone();
    stage.connected(mallory, Some(secured("mallory.example", &["mallory.example"])));
    stage.step(Side::Far(mallory), Input::Close(Reason::StanzaTooBig));
    assert!(stage.has(|e| matches!(e, Effect::Retry(id, _) if *id == mallory)), "the next address is tried");
    stage.step(Side::Far(mallory), Input::Unreachable(Reason::RemoteUnreachable.into()));
    let back = stage.reported();
    assert!(back.len() == 1 && back[0].0 == pair("mallory.example", "hall.example"), "{back:?}");
}

// BE-11, CLS-02: what was accepted is retried or bounced, also when the connection breaks after we have closed.
#[test]
fn what_a_closed_leg_could_not_send_is_carried() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    let far = admit(&mut stage, "friend.example", "hall.example");
    stage.hears(NEAR, "</stream:stream>");
    stage.wait(Duration::from_secs(6));
    assert!(stage.relay.is_done());
    let stanza = "<message from='a@friend.example' to='b@hall.example'/>";
    let unsent = vec![Bytes::from_static(stanza.as_bytes())];
    stage.step(Side::Far(far), Input::Gone { reason: Reason::WriteTimeout, unsent });
    assert_eq!(stage.carried(), [(pair("friend.example", "hall.example"), stanza.to_owned())]);
    stage.step(Side::Far(far), Input::Overflow(Bytes::from_static(stanza.as_bytes())));
    assert!(stage.carried()[0].1.contains("resource-constraint"));
}

#[test]
fn what_a_courier_could_not_send_after_its_end_goes_back() {
    let pair = Pair { sender: domain("friend.example"), target: domain("hall.example") };
    let now = std::time::Instant::now();
    let made = Relay::courier(std::sync::Arc::new(relays()), any(), pair, (Load::Carried, None), now);
    let mut stage = Stage::of(made);
    let far = stage.connects()[0].0;
    let stanza = "<message from='a@friend.example' to='b@hall.example'/>";
    stage.step(NEAR, Input::Queue(Load::Carried, Bytes::from_static(stanza.as_bytes())));
    stand(&mut stage, far, "friend.example", "hall.example");
    stage.hears(Side::Far(far), "</stream:stream>");
    assert!(stage.relay.is_done());
    let unsent = vec![Bytes::from_static(stanza.as_bytes())];
    stage.step(Side::Far(far), Input::Gone { reason: Reason::ConnectionLost, unsent });
    let carried = stage.carried();
    assert!(carried.len() == 1 && carried[0].1.contains("type='error'"), "{carried:?}");
}

// DB-25: an answer about a stream that was restarted finds nothing, and harms nobody.
#[test]
fn a_ruling_that_comes_between_two_streams_ends_neither() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    stage.hears(NEAR, "<db:result from='rooms.friend.example' to='hall.example'>k</db:result>");
    let Some(Effect::Verify(claim, _)) =
        stage.effects.iter().find(|e| matches!(e, Effect::Verify(..))).cloned()
    else {
        panic!("no verification")
    };
    stage.hears(NEAR, EXTERNAL);
    let far = stage.connects()[0].0;
    stand(&mut stage, far, "friend.example", "hall.example");
    assert!(stage.said(NEAR).contains("<success "));
    stage.step(NEAR, Input::Verified(claim, KeyAnswer::Valid));
    assert_eq!(stage.said(NEAR), "", "the stream that asked is no more");
    assert_eq!(stage.connects().len(), 1, "and nobody knocks at the backend for it");
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
}

// EXT-06, RLY-05: the pair stands already; EXTERNAL adds a proof, and no second leg.
#[test]
fn external_after_dialback_opens_no_second_leg() {
    // The certificate speaks for the header's `from`; the first claim comes by dialback all the same.
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    let far = admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.hears(NEAR, EXTERNAL);
    assert!(stage.said(NEAR).contains("<success "));
    assert_eq!(stage.connects().len(), 1);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert_eq!(stage.passed()[0].0, far);
    stage.hears(NEAR, "</stream:stream>");
    let (begun, ended) = begun_and_ended(&stage);
    assert_eq!(begun, ended, "the gauge of streams comes back to where it was");
}

// TLS-07: "everything learned from the peer before TLS (`from`, pairs, ..) MUST be discarded on success".
#[test]
fn a_pair_proven_in_clear_is_nothing_after_tls() {
    let mut stage = Stage::new(relays(), clear(), Flow::S2sIn, None);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    let far = admit(&mut stage, "friend.example", "hall.example");
    stage.hears(NEAR, "<db:result from='friend.example' to='annex.example'>k</db:result>");
    let Some(Effect::Verify(late, _)) =
        stage.effects.iter().rev().find(|e| matches!(e, Effect::Verify(..))).cloned()
    else {
        panic!("no verification")
    };
    stage.hears(NEAR, STARTTLS);
    assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"), "its inside leg is closed");
    stage.step(NEAR, Input::Verified(late, KeyAnswer::Valid));
    assert_eq!(stage.connects().len(), 1, "a claim made in clear is forgotten");
    stage.step(NEAR, Input::Secured(secured("hall.example", &[])));
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage.said(NEAR);
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert!(stage.said(NEAR).contains("<not-authorized "));
    assert!(stage.passed().is_empty() && stage.carried().is_empty());
    let (begun, ended) = begun_and_ended(&stage);
    assert_eq!((begun, ended), (1, 1));
}

// CLS-01, CLS-08: once our closing tag is out, stanzas on their way are taken, and nothing is negotiated.
#[test]
fn nothing_is_negotiated_behind_our_closing_tag() {
    for words in [
        "<db:result from='rooms.friend.example' to='hall.example'>k</db:result>",
        "<db:verify from='friend.example' to='hall.example' id='x'>k</db:verify>",
        EXTERNAL,
    ] {
        let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
        stage.step(NEAR, Input::Drain);
        stage.effects.clear();
        stage.hears(NEAR, words);
        assert!(stage.effects.is_empty(), "{words}: {:?}", stage.effects);
        assert!(stage.relay.wants_read(NEAR), "{words}");
        stage.hears(NEAR, "</stream:stream>");
        assert!(stage.has(|e| matches!(e, Effect::Finish(Side::Near))), "{words}");
    }
    let mut stage = Stage::new(relays(), any(), Flow::S2sIn, None);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage.step(NEAR, Input::Drain);
    stage.effects.clear();
    stage.hears(NEAR, STARTTLS);
    assert!(stage.effects.is_empty(), "{:?}", stage.effects);
}

// A leg that we are closing is not opened again because its server chose that moment to refuse EXTERNAL.
#[test]
fn a_leg_that_is_closing_is_not_tried_again() {
    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Carried);
    let far = stage.connects()[0].0;
    stage.connected(far, Some(secured("friend.example", &["friend.example"])));
    stage.hears(Side::Far(far), &answer("r-1", true));
    stage.hears(
        Side::Far(far),
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>",
    );
    assert!(stage.said(Side::Far(far)).contains("<auth "));
    stage.step(NEAR, Input::Drain);
    stage.hears(Side::Far(far), "</stream:stream>");
    assert!(!stage.has(|e| matches!(e, Effect::Retry(..))), "{:?}", stage.effects);
    assert!(stage.relay.is_done());
}

// One answer, one far leg: a second word about the same claim changes nothing (DB-08).
#[test]
fn a_claim_is_answered_once() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
    let Some(Effect::Verify(claim, _)) =
        stage.effects.iter().find(|e| matches!(e, Effect::Verify(..))).cloned()
    else {
        panic!("no verification")
    };
    stage.step(NEAR, Input::Verified(claim, KeyAnswer::Valid));
    stage.step(NEAR, Input::Verified(claim, KeyAnswer::Valid));
    stage.step(NEAR, Input::Verified(claim, KeyAnswer::Invalid));
    assert_eq!(stage.connects().len(), 1);
    let far = stage.connects()[0].0;
    stand(&mut stage, far, "friend.example", "hall.example");
    assert!(stage.said(NEAR).contains("type='valid'"));
}

// STR-07: who names nobody may ask about keys, and cannot be proven for the default domain.
#[test]
fn external_is_not_offered_to_whom_names_nobody() {
    let mut relays = relays();
    relays.default_domain = Some(domain("hall.example"));
    let mut stage = Stage::new(relays, any(), Flow::S2sIn, Some(secured("", &["friend.example"])));
    stage.hears(NEAR, &header("friend.example", ""));
    let said = stage.said(NEAR);
    assert!(said.contains("<dialback ") && !said.contains("EXTERNAL"), "{said}");
}

// STR-15: `to` names the domain whose certificate was shown. The server name may be that of an SRV target (TLS-16), and
// where it names nobody the default's certificate speaks for the default alone.
#[test]
fn the_certificate_shown_decides_and_not_the_name_asked_for() {
    let mut facts = secured("hall.example", &[]);
    facts.sni = Some("xmpp1.hosting.example".into());
    let mut stage = Stage::new(relays(), any(), Flow::S2sIn, None);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage.hears(NEAR, STARTTLS);
    stage.step(NEAR, Input::Secured(facts.clone()));
    stage.said(NEAR);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    let said = stage.said(NEAR);
    assert!(said.contains("<dialback ") && !said.contains("host-unknown"), "{said}");
    facts.sni = None;
    let mut stage = Stage::new(relays(), any(), Flow::S2sIn, Some(facts));
    stage.hears(NEAR, &header("friend.example", "annex.example"));
    assert!(stage.said(NEAR).contains("<host-unknown "));
}

// BE-11, RLY-05: a stanza that comes while a courier closes its quiet stream goes over the next one, however that one ends.
#[test]
fn what_comes_to_a_courier_that_is_closing_goes_over_another_stream() {
    let pair = Pair { sender: domain("friend.example"), target: domain("hall.example") };
    let (one, two) = (
        "<message from='a@friend.example' to='b@hall.example' id='1'/>",
        "<message from='a@friend.example' to='b@hall.example' id='2' type='error'/>",
    );
    for answered in [true, false] {
        let now = std::time::Instant::now();
        let relays = std::sync::Arc::new(relays());
        let made = Relay::courier(relays, any(), pair.clone(), (Load::Carried, None), now);
        let mut stage = Stage::of(made);
        let far = stage.connects()[0].0;
        stage.step(NEAR, Input::Queue(Load::Carried, Bytes::from_static(one.as_bytes())));
        stand(&mut stage, far, "friend.example", "hall.example");
        assert_eq!(stage.passed().len(), 1);
        stage.wait(Timeouts::default().courier);
        assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
        stage.step(NEAR, Input::Queue(Load::Carried, Bytes::from_static(two.as_bytes())));
        if answered {
            stage.hears(Side::Far(far), "</stream:stream>");
        } else {
            stage.wait(Timeouts::default().close);
        }
        let next = stage.connects()[1].0;
        stand(&mut stage, next, "friend.example", "hall.example");
        assert_eq!(stage.passed(), [(next, two.to_owned())]);
        assert!(stage.carried().is_empty());
    }
}

// CRT-12: "When a certificate in the peer's chain expires .. on a live stream, close it"; `SE(reset)`.
#[test]
fn a_certificate_that_expires_ends_what_it_proved() {
    let mut facts = secured("hall.example", &["friend.example"]);
    let life = Duration::from_secs(600);
    facts.certificate.as_mut().unwrap().expires = Some(std::time::Instant::now() + life);
    let mut stage = Stage::new(relays(), any(), Flow::S2sIn, Some(facts));
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.wait(life - Duration::from_secs(1));
    assert_eq!(stage.said(NEAR), "");
    stage.wait(Duration::from_secs(2));
    assert!(stage.said(NEAR).contains("<reset "));
    assert!(!stage.relay.is_done());
    stage.wait(Duration::from_secs(6));
    stage.wait(Duration::from_secs(6));
    assert!(stage.relay.is_done() && stage.reasons().contains(&Reason::CertificateExpired));
}

// SM-07: compression is never offered; who asks is refused, and the stream goes on.
#[test]
fn compression_is_refused_and_harms_nothing() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.hears(
        NEAR,
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
    );
    assert!(stage.said(NEAR).contains("<setup-failed/>"));
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
}

// CLS-03: "T-unauth run[s] from accept .. none is extended by traffic (trickled bytes, whitespace, repeated dialback)".
#[test]
fn one_budget_of_time_runs_from_accept_whatever_comes() {
    let now = std::time::Instant::now();
    for flow in [Flow::S2sIn, Flow::C2s] {
        let unauth = Timeouts::default().unauth;
        let arrival = gatehouse::relay::Arrival {
            flow,
            address: [192, 0, 2, 7].into(),
            secured: Some(secured("hall.example", &[])),
            seed: [7; 32],
        };
        // It was accepted 50 seconds ago; the PROXY header and the handshake took so long.
        let relay = Relay::new(std::sync::Arc::new(relays()), any(), arrival, now);
        let mut stage = Stage::of((relay.since(now - Duration::from_secs(50)), Vec::new()));
        if flow == Flow::S2sIn {
            stage.hears(NEAR, &header("friend.example", "hall.example"));
            stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>key</db:result>");
        }
        for _ in 0..9 {
            stage.wait(Duration::from_secs(1));
            stage.hears(NEAR, " ");
            assert!(!stage.has(|e| matches!(e, Effect::Cut(Side::Near))), "{flow}");
        }
        assert!(stage.relay.deadline().is_some_and(|at| at <= now + unauth - Duration::from_secs(50)));
        stage.wait(Duration::from_secs(2));
        let over = stage.reasons().contains(&Reason::NegotiationTimeout)
            || stage.reasons().contains(&Reason::HeaderTimeout);
        assert!(over, "{flow}: {:?}", stage.reasons());
    }
}

// CLS-04: "Merely idle: clean close after T-idle-s2s". White space says that somebody is there, and not that anybody speaks.
#[test]
fn white_space_does_not_keep_an_idle_stream_open() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    let idle = Timeouts::default().idle;
    stage.wait(idle - Duration::from_secs(60));
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    stage.said(NEAR);
    for _ in 0..5 {
        stage.wait(idle / 6);
        stage.hears(NEAR, " ");
        assert_eq!(stage.said(NEAR), "");
    }
    stage.wait(idle / 6);
    assert_eq!(stage.said(NEAR), "</stream:stream>");
}

// SM-09: "keep our limit ≤ the legacy server's", "local sender: `ST(policy-violation,modify)`". Behind EXTERNAL what is told is
// what the stream survives: a Prosody 13 loses what is more without a word to anybody, and opens another stream each time.
#[test]
fn the_smaller_limit_is_kept_and_told_and_behind_external_what_the_stream_survives() {
    for theirs in [20_000, 1_000_000] {
        let mut relays = relays();
        relays.hosted.get_mut(&domain("hall.example")).unwrap().max_octets = Some(theirs);
        let told = |octets: usize| format!("<max-bytes>{octets}</max-bytes>");
        let (least, survived) = (relays.limits.proven.element.min(theirs), relays.limits.proven.skip);
        let mut proven = inbound(relays.clone(), any(), "friend.example", &["friend.example"]);
        assert!(proven.said(NEAR).contains(&told(least)));
        proven.hears(NEAR, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
        let far = proven.connects()[0].0;
        stand(&mut proven, far, "friend.example", "hall.example");
        proven.said(NEAR);
        proven.hears(NEAR, &header("friend.example", "hall.example"));
        let features = proven.said(NEAR);
        assert!(features.contains(&told(survived)), "{features}");
        let mut stage = inbound(relays, any(), "friend.example", &[]);
        let features = stage.said(NEAR);
        assert!(features.contains(&told(least)), "{features}");
        let far = admit(&mut stage, "friend.example", "hall.example");
        let message = |octets: usize| {
            let (head, tail) =
                ("<message from='a@friend.example' to='b@hall.example'><body>", "</body></message>");
            format!("{head}{}{tail}", "x".repeat(octets - head.len() - tail.len()))
        };
        stage.hears(NEAR, &message(20_000));
        assert_eq!(stage.passed(), [(far, message(20_000))], "exactly the limit");
        stage.hears(NEAR, &message(20_001));
        if theirs < 20_001 {
            assert_eq!(stage.passed(), []);
            // LIM-04: the answer counts as the sender's, whose words are not those of the answer.
            let by_him = |e: &Effect| matches!(e, Effect::Carry(_, stanza) if stanza.sender.as_ref().is_some_and(|by| by.address.of(b"") == b"a@friend.example"));
            assert!(stage.has(by_him));
            let (back, bounce) = stage.carried().remove(0);
            assert_eq!(back, pair("hall.example", "friend.example"));
            assert!(bounce.contains("<error type='modify'><policy-violation"), "{bounce}");
        } else {
            assert_eq!(stage.passed(), [(far, message(20_001))]);
        }
    }
}

// BE-11, CLS-02: what was accepted is delivered or comes back, however long its canonical form is.
#[test]
fn a_stanza_that_grew_in_canonical_form_comes_back_too() {
    // XML-18: its server takes more than others may send, so it is let through.
    let mut relays = relays();
    relays.hosted.values_mut().for_each(|hosted| hosted.max_octets = Some(1 << 20));
    let mut stage = inbound(relays, any(), "friend.example", &[]);
    let far = admit(&mut stage, "friend.example", "hall.example");
    let body = "&".repeat(100_000);
    stage.hears(NEAR, &format!("<message id='1' from='a@friend.example' to='b@hall.example'><body><![CDATA[{body}]]></body></message>"));
    let (_, grown) = stage.passed().remove(0);
    assert!(grown.len() > gatehouse::xml::Limits::default().element);
    stage.step(Side::Far(far), Input::Overflow(grown.into()));
    let carried = stage.carried();
    assert!(carried.len() == 1 && carried[0].1.contains("resource-constraint"), "{carried:?}");
}

// POL-07: a courier that has been speaking stops like everybody else.
#[test]
fn a_courier_is_judged_again() {
    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
    let far = stage.connects()[0].0;
    stage.connected(far, Some(secured("", &["friend.example"])));
    let side = Side::Far(far);
    stage.hears(side, &format!("{}<stream:features/>", answer("z", true)));
    stage.hears(side, "<db:result from='friend.example' to='hall.example' type='valid'/>");
    let stanza = "<message from='b@hall.example' to='a@friend.example'/>";
    stage.step(NEAR, Input::Queue(Load::Own, Bytes::from_static(stanza.as_bytes())));
    assert_eq!(stage.passed().len(), 1);
    stage.step(NEAR, Input::Policy(any()));
    stage.step(NEAR, Input::Queue(Load::Own, Bytes::from_static(stanza.as_bytes())));
    assert_eq!(stage.passed().len(), 1);
    stage.step(NEAR, Input::Policy(denying("friend.example")));
    assert!(stage.said(side).ends_with("</stream:stream>"));
    stage.step(NEAR, Input::Queue(Load::Own, Bytes::from_static(stanza.as_bytes())));
    assert!(stage.passed().is_empty());
    let back = stage.reported();
    assert!(back.len() == 1 && back[0].1.contains("type='error'"), "{back:?}");
}

// POL-07: what a remote server has sent and a courier still holds goes no further once it may not speak to us.
#[test]
fn a_courier_brings_nothing_in_of_a_server_that_is_shut_out() {
    for stands in [true, false] {
        let mut stage = courier(relays(), any(), "friend.example", "hall.example", Load::Admitted);
        let far = stage.connects()[0].0;
        let side = Side::Far(far);
        let stanza = "<message id='1' from='a@friend.example' to='b@hall.example'/>";
        if stands {
            stage.connected(far, None);
            stage.hears(side, &format!("{}<stream:features/>", answer("z", true)));
            stage.hears(side, "<db:result from='hall.example' to='friend.example' type='valid'/>");
        }
        stage.step(NEAR, Input::Queue(Load::Admitted, Bytes::from_static(stanza.as_bytes())));
        assert_eq!(stage.passed().len(), usize::from(stands));
        stage.step(NEAR, Input::Policy(any()));
        assert!(!stage.has(|e| matches!(e, Effect::Withdraw(..))));
        stage.step(NEAR, Input::Policy(denying("friend.example")));
        assert!(stage.has(|e| matches!(e, Effect::Withdraw(..))));
        stage.step(NEAR, Input::Queue(Load::Admitted, Bytes::from_static(stanza.as_bytes())));
        let back = stage.carried();
        assert_eq!(back.len(), if stands { 1 } else { 2 }, "{back:?}");
        assert!(
            back.iter().all(|(to, stanza)| *to == pair("hall.example", "friend.example")
                && stanza.contains("type='error'"))
        );
        assert!(stage.passed().is_empty());
    }
}

// POL-03: at each outbound open; in clear, too, an address that is denied or banned is no way out.
#[test]
fn a_courier_in_clear_heeds_the_address() {
    let text = "version: v1\nrules:\n  - { name: clear, domains: [\"*.friend.example\"], tls: none }\n  \
                - { name: not-there, domains: [im.friend.example], networks: [192.0.2.9], verdict: deny }\n";
    for (text, passes) in [(text.to_owned(), 0), (text.replace("192.0.2.9", "192.0.2.99"), 1)] {
        let mut stage =
            courier(relays(), policy(Federation::Any, &text), "hall.example", "im.friend.example", Load::Own);
        let far = stage.connects()[0].0;
        let stanza = "<message from='b@hall.example' to='a@im.friend.example'/>";
        stage.step(NEAR, Input::Queue(Load::Own, Bytes::from_static(stanza.as_bytes())));
        // The stage connects to 192.0.2.9.
        stage.connected(far, None);
        stage.hears(Side::Far(far), &answer("z", false));
        stage.hears(Side::Far(far), "<db:result from='im.friend.example' to='hall.example' type='valid'/>");
        assert_eq!(stage.passed().len(), passes);
        assert_eq!(stage.reported().len(), 1 - passes);
    }
}

// A rule for a peer's networks holds for its authoritative server as well, and does not keep that from being asked at all.
#[test]
fn an_authority_is_asked_within_the_networks_of_its_rule() {
    for (network, asked) in [("192.0.2.9", true), ("192.0.2.99", false)] {
        let text = format!(
            "version: v1\nrules:\n  - {{ name: n, domains: [friend.example], identity: [dialback], networks: [{network}] }}\n"
        );
        let check = gatehouse::stream::KeyCheck {
            pair: pair("friend.example", "hall.example"),
            stream: "gw-1".into(),
            key: "abc".into(),
        };
        let (relays, facing) = (std::sync::Arc::new(relays()), gatehouse::reason::Facing::Public);
        let policy = policy(Federation::Listed, &text);
        let mut stage = Stage::of(Relay::verifier(relays, policy, facing, check, std::time::Instant::now()));
        let (far, _) = stage.connects()[0].clone();
        stage.connected(far, Some(untrusted("", "friend.example")));
        assert_eq!(stage.said(Side::Far(far)).contains("<stream:stream "), asked, "{network}");
    }
}

// LIM-06, LIM-09: a peer that is refused all the time costs the backend a bounded number of connections, and the audit log a
// bounded number of records, also on a stream where a pair stands.
#[test]
fn who_is_refused_again_and_again_is_shown_out() {
    let names = ["friend.example", "rooms.friend.example"];
    let claim = "<db:result from='rooms.friend.example' to='annex.example'>k</db:result>";
    let denied = "<db:result from='friend.example' to='nowhere.example'>k</db:result>";
    let refuse = |stage: &mut Stage| {
        let before = stage.connects().len();
        stage.hears(NEAR, claim);
        if let Some((id, _)) = stage.connects().get(before) {
            stage.step(Side::Far(*id), Input::Unreachable(Reason::BackendDown.into()));
        }
        stage.hears(NEAR, denied);
    };
    let mut stage = inbound(relays(), any(), "friend.example", &names);
    admit(&mut stage, "friend.example", "hall.example");
    for _ in 0..1000 {
        refuse(&mut stage);
    }
    assert!(stage.connects().len() < 60, "{}", stage.connects().len());
    assert!(stage.reasons().len() < 110, "{}", stage.reasons().len());
    assert!(stage.said(NEAR).contains("<policy-violation "));
    // One that is refused now and then is not, nor one that brings more pairs at once than there is room for.
    let mut stage = inbound(relays(), any(), "friend.example", &names);
    admit(&mut stage, "friend.example", "hall.example");
    for _ in 0..500 {
        refuse(&mut stage);
        stage.wait(Duration::from_secs(2));
    }
    let mut crowded = relays();
    crowded.limits.pairs = 1;
    let mut full = inbound(crowded, any(), "friend.example", &names);
    admit(&mut full, "friend.example", "hall.example");
    for _ in 0..1000 {
        full.hears(NEAR, claim);
    }
    for stage in [&mut stage, &mut full] {
        stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
        assert_eq!(stage.passed().len(), 1);
    }
    // A backend may ask for as many as its users name.
    let mut stage = Stage::new(relays(), denying("evil.example"), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "evil.example"));
    for _ in 0..1000 {
        stage.hears(NEAR, "<db:result from='hall.example' to='evil.example'>k</db:result>");
    }
    assert!(!stage.said(NEAR).contains("</stream:stream>"));
}

// DB-43: what is dropped above the limit is told once.
#[test]
fn questions_above_the_limit_are_told_once() {
    let mut few = relays();
    few.limits.questions = 3;
    let mut stage = inbound(few, any(), "friend.example", &[]);
    stage.said(NEAR);
    for _ in 0..1000 {
        stage.hears(NEAR, "<db:verify from='friend.example' to='hall.example' id='x'>k</db:verify>");
    }
    let asked = stage.effects.iter().filter_map(|e| match e {
        Effect::Vouch(check, _) => Some(check.clone()),
        _ => None,
    });
    for check in asked.collect::<Vec<_>>() {
        stage.step(NEAR, Input::Vouched(check, false));
    }
    assert_eq!(stage.said(NEAR).matches("type='invalid'").count(), 3);
    assert_eq!(stage.reasons(), [Reason::TooManyPairs]);
}

// POL-07: a ban that comes while somebody is on his way in finds him without a pair.
#[test]
fn a_ban_finds_who_has_no_pair_yet() {
    let ban = |network: &str| {
        let networks = vec![network.parse().unwrap()];
        let bans = gatehouse::policy::Bans { networks, ..Default::default() };
        Input::Policy(std::sync::Arc::new(any().with_bans(bans)))
    };
    for flow in [Flow::S2sIn, Flow::C2s] {
        for (network, banned) in [("192.0.2.0/24", true), ("198.51.100.0/24", false)] {
            let mut stage = Stage::new(relays(), any(), flow, Some(secured("hall.example", &[])));
            stage.step(NEAR, ban(network));
            assert_eq!(stage.said(NEAR).contains("<policy-violation "), banned, "{flow} {network}");
        }
    }
}

// CRT-12, CLS-01: a claim that was on its way when its proof was lost opens nothing, not even until the other side has closed.
#[test]
fn a_claim_whose_certificate_was_revoked_opens_nothing() {
    for revoked in [true, false] {
        let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
        stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
        let far = stage.connects()[0].0;
        stage.connected(far, None);
        stage.hears(Side::Far(far), &answer("L-301", false));
        if revoked {
            let now = untrusted("hall.example", "friend.example").certificate.clone().unwrap();
            stage.step(NEAR, Input::Retrusted(now));
        }
        stage.hears(Side::Far(far), "<db:result from='hall.example' to='friend.example' type='valid'/>");
        stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
        assert_eq!(stage.passed().len(), usize::from(!revoked));
        assert_eq!(begun_and_ended(&stage).0, usize::from(!revoked));
    }
}
