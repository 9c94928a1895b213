//! Words that only a server at home may say, and names that may not change once they are proven, through the pure relay.

use std::time::Instant;

use crate::stage::{NEAR, Stage, admit, answer, any, courier, header, inbound, pair, relays, secured, stand};
use gatehouse::reason::{Facing, Reason};
use gatehouse::relay::{Load, Relay, Side};
use gatehouse::stream::KeyCheck;

/// What only a user's own server says to him, or a server to its own components.
const WORDS: [(&str, &str); 8] = [
    ("privilege", "urn:xmpp:privilege:1"),
    ("privilege", "urn:xmpp:privilege:2"),
    ("privileged_iq", "urn:xmpp:privilege:2"),
    ("delegation", "urn:xmpp:delegation:1"),
    ("delegation", "urn:xmpp:delegation:2"),
    ("x", "http://jabber.org/protocol/rosterx"),
    ("query", "http://jabber.org/protocol/rosterx"),
    ("delegate", "urn:xmpp:delegation:99"),
];

// RLY-15: "is not forwarded"; `ST(service-unavailable,cancel)`. XEP-0355, XEP-0356: from one's own server only; XEP-0144:
// nobody outside proposes changes of a roster.
#[test]
fn a_word_that_only_a_server_at_home_says_does_not_come_in() {
    for to in ["b@hall.example", "hall.example"] {
        let mut stage = inbound(relays(), any(), "friend.example", &[]);
        admit(&mut stage, "friend.example", "hall.example");
        let address = format!("from='a@friend.example/1' to='{to}' id='w'");
        for (name, namespace) in WORDS {
            let word = format!("<{name} xmlns='{namespace}'/>");
            for stanza in [
                format!("<message {address}><body>x</body>{word}</message>"),
                format!("<presence {address}>{word}</presence>"),
                format!("<iq {address} type='set'>{word}</iq>"),
                format!("<iq {address} type='get'>{word}</iq>"),
            ] {
                stage.hears(NEAR, &stanza);
                assert!(stage.passed().is_empty(), "{stanza}");
                let back = stage.carried();
                // DB-70: presence to a bare address is answered only where the cause is lasting.
                if stanza.starts_with("<presence") {
                    assert!(back.is_empty(), "{stanza}");
                    continue;
                }
                assert!(back[0].1.contains("<error type='cancel'><service-unavailable "), "{stanza}");
            }
            // RLY-09.
            for stanza in [
                format!("<message {address} type='error'>{word}</message>"),
                format!("<iq {address} type='result'>{word}</iq>"),
            ] {
                stage.hears(NEAR, &stanza);
                assert!(stage.passed().is_empty() && stage.carried().is_empty(), "{stanza}");
            }
        }
        stage.hears(NEAR, &format!("<message {address}><body>x</body></message>"));
        assert_eq!(stage.passed().len(), 1, "the stream goes on");
    }
}

// RLY-15: lists of a user's own are changed by himself alone; asking for them is the server's to answer.
#[test]
fn nobody_outside_sets_a_list_of_a_user() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    let lists =
        [("query", "jabber:iq:roster"), ("query", "jabber:iq:privacy"), ("block", "urn:xmpp:blocking")];
    for (name, namespace) in lists {
        let iq = |to: &str, kind: &str| {
            format!(
                "<iq from='a@friend.example/1' to='{to}' id='l' type='{kind}'><{name} xmlns='{namespace}'/></iq>"
            )
        };
        stage.hears(NEAR, &iq("b@hall.example", "set"));
        assert!(stage.passed().is_empty());
        assert!(stage.carried()[0].1.contains("<error type='cancel'><service-unavailable "), "{namespace}");
        stage.hears(NEAR, &iq("b@hall.example", "get"));
        stage.hears(NEAR, &iq("hall.example", "set"));
        assert_eq!(stage.passed().len(), 2, "{namespace}");
    }
}

// RLY-13, and the same in the form that XEP-0203 replaced (XEP-0091): a delay of ours is not for others to write.
#[test]
fn a_delay_in_our_name_is_cut_in_the_old_form_too() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    let address = "from='a@friend.example/1' to='b@hall.example'";
    let delay = |from: &str| format!("<x xmlns='jabber:x:delay' from='{from}' stamp='20020910T23:41:07'/>");
    for (from, stays) in [
        ("hall.example", false),
        ("b@hall.example/x", false),
        ("ANNEX.example", false),
        ("@", false),
        ("friend.example", true),
        ("room@rooms.friend.example", true),
    ] {
        stage.hears(NEAR, &format!("<message {address}>{}<body>x</body></message>", delay(from)));
        assert_eq!(stage.passed()[0].1.contains("jabber:x:delay"), stays, "{from}");
    }
}

// RLY-02, RLY-03: of many pairs on one stream each finds its own way, in whatever order they came and come; one that is claimed
// again stands once.
#[test]
fn each_of_many_pairs_on_a_stream_finds_its_own_way() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    let name = |n: usize| format!("d{}.friend.example", n * 7 % 40);
    let mut ways = std::collections::BTreeMap::new();
    for n in 0..40 {
        ways.insert(name(n), admit(&mut stage, &name(n), "hall.example"));
    }
    assert_eq!((ways.len(), stage.relay.guard().pairs().len()), (40, 40));
    for n in 0..40 {
        let domain = format!("d{n}.friend.example");
        stage.hears(
            NEAR,
            &format!("<message from='a@{domain}' to='b@hall.example'><body>{n}</body></message>"),
        );
        assert_eq!(stage.passed()[0].0, ways[&domain], "{domain}");
    }
    // Neighbours in any order of names were not proven.
    for other in ["d.friend.example", "d40.friend.example", "d0.friend.example.org", "a.example", "z.example"]
    {
        assert_eq!(stage.relay.guard().find(other, "hall.example"), None);
        assert!(!stage.relay.guard().knows_sender(other));
    }
    for n in 0..40 {
        assert!(stage.relay.guard().knows_sender(&name(n)));
        assert_eq!(stage.relay.guard().find(&name(n), "annex.example"), None);
    }
}

// STR-15: "after authentication `to`, and on s2s `from`, MUST stay what was authenticated"; post-auth `SE(not-authorized)`,
// whether the other name is served here or is none at all.
#[test]
fn a_header_after_external_keeps_its_names() {
    for (from, to) in [
        ("friend.example", "annex.example"),
        ("friend.example", "nowhere.example"),
        ("friend.example", "not a domain"),
        ("friend.example", ""),
        ("cousin.example", "hall.example"),
        ("hall.example", "hall.example"),
        ("not a domain", "hall.example"),
        ("", "hall.example"),
    ] {
        let mut stage = inbound(relays(), any(), "friend.example", &["friend.example", "cousin.example"]);
        stage.hears(NEAR, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
        let (far, _) = stage.connects()[0].clone();
        stand(&mut stage, far, "friend.example", "hall.example");
        stage.said(NEAR);
        stage.hears(NEAR, &header(from, to));
        let said = stage.said(NEAR);
        assert!(said.contains("<stream:error><not-authorized "), "{from} {to}: {said}");
    }
}

// DB-02: "`id` ≤ 256 bytes", wherever the id of a peer's stream is read: with TLS or without, with features or without, from
// the world and from a backend.
#[test]
fn a_stream_id_is_as_long_as_a_question_about_it_may_be() {
    let ids = ["i".repeat(256), "i".repeat(257)];
    // Outbound: the backend's users wait.
    for modern in [true, false] {
        let judged = ids.each_ref().map(|id| {
            let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
            let (far, _) = stage.connects()[0].clone();
            stage.connected(far, Some(secured("", &["friend.example"])));
            stage.said(Side::Far(far));
            stage.hears(Side::Far(far), &answer(id, modern));
            stage.said(Side::Far(far))
        });
        assert!(!judged[0].contains("stream:error"), "{}", judged[0]);
        assert!(judged[1].contains("<stream:error><policy-violation "), "{}", judged[1]);
    }
    // To a backend, for a pair of a peer.
    let judged = ids.each_ref().map(|id| {
        let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
        stage.hears(NEAR, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
        let (far, _) = stage.connects()[0].clone();
        stage.connected(far, None);
        stage.said(Side::Far(far));
        stage.hears(Side::Far(far), &answer(id, false));
        stage.said(Side::Far(far))
    });
    assert!(judged[0].contains("<db:result ") && !judged[1].contains("<db:result "), "{judged:?}");
    // A question to an authority.
    let judged = ids.each_ref().map(|id| {
        let pair = pair("friend.example", "hall.example");
        let check = KeyCheck { pair, stream: "gw-1".into(), key: "abc".into() };
        let relays = std::sync::Arc::new(relays());
        let mut stage = Stage::of(Relay::verifier(relays, any(), Facing::Public, check, Instant::now()));
        let (far, _) = stage.connects()[0].clone();
        stage.connected(far, Some(secured("", &["friend.example"])));
        stage.said(Side::Far(far));
        stage.hears(Side::Far(far), &answer(id, false));
        stage.said(Side::Far(far)).contains("<db:verify ")
    });
    assert_eq!(judged, [true, false]);
    assert_eq!(Reason::XmlBudget.stream_condition().map(|c| c.name()), Some("policy-violation"));
}
