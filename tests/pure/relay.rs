//! The relay without a socket: dialogues of requirements 21, and what each trouble does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use crate::stage::*;
use gatehouse::policy::{Federation, Networks};
use gatehouse::reason::{Cause, Flow, Reason};
use gatehouse::relay::{
    AddressChoice, Behalf, Destination, Effect, Event, FarId, Home, Input, KeysBy, Load, Relay, Side,
    Timeouts, Under,
};
use gatehouse::stream::dane::{Dane, Usage};
use gatehouse::stream::evidence::{Evidence, Posh, Sought};
use gatehouse::stream::{KeyAnswer, Keyring, Method, Secured, Trust, TrustFault};

// Requirements 21.1: inbound, dialback, all four roles.
// BE-04, DB-20, DB-60: neither id nor key of one side is seen on the other.
#[test]
fn an_inbound_pair_is_verified_then_claimed_inside_then_told() {
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    let greeting = stage.said(NEAR);
    assert!(
        greeting.contains("<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"),
        "{greeting}"
    );
    assert!(!greeting.contains("EXTERNAL") && !greeting.contains("starttls"));
    let id = attribute(&greeting, "id");
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>56c74c</db:result>");
    let Some(Effect::Verify(claim, check)) =
        stage.effects.iter().find(|e| matches!(e, Effect::Verify(..))).cloned()
    else {
        panic!("no verification: {:?}", stage.effects)
    };
    // DB-23: our id of the requester's current stream, the key unchanged.
    assert_eq!((check.stream.as_str(), check.key.as_str()), (id.as_str(), "56c74c"));
    assert!(stage.connects().is_empty(), "the backend is not met before the proof (BE-02)");
    stage.step(NEAR, Input::Verified(claim, KeyAnswer::Valid));
    let (far, destination) = stage.connects()[0].clone();
    assert_eq!(destination, Destination::Backend(domain("hall.example")));
    stage.connected(far, None);
    let opening = stage.said(Side::Far(far));
    assert!(
        opening.contains("from='friend.example' to='hall.example'")
            && !opening.contains("version='1.0' xml:lang")
    );
    stage.hears(Side::Far(far), &answer("L-301", false));
    let key =
        Keyring::new(b"inside secret").make(&pair("friend.example", "hall.example"), "L-301", stage.now);
    assert_eq!(
        stage.said(Side::Far(far)),
        format!("<db:result from='friend.example' to='hall.example'>{key}</db:result>")
    );
    assert!(stage.said(NEAR).is_empty(), "D3: valid only when the leg behind it stands");
    stage.hears(Side::Far(far), "<db:result from='hall.example' to='friend.example' type='valid'/>");
    assert_eq!(stage.said(NEAR), "<db:result from='hall.example' to='friend.example' type='valid'/>");
    stage.hears(
        NEAR,
        "<message from='romeo@friend.example/x' to='julia@hall.example'><body>hi</body></message>",
    );
    assert_eq!(
        stage.passed(),
        [(
            far,
            "<message from='romeo@friend.example/x' to='julia@hall.example'><body>hi</body></message>".into()
        )]
    );
}

// Requirements 21.2: EXTERNAL; success only when the inside leg stands, then a restart with the same names.
#[test]
fn external_succeeds_when_the_inside_leg_stands() {
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    assert!(stage.said(NEAR).contains("<mechanism>EXTERNAL</mechanism>"));
    stage.hears(
        NEAR,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>ZnJpZW5kLmV4YW1wbGU=</auth>",
    );
    let (far, _) = stage.connects()[0].clone();
    assert!(stage.said(NEAR).is_empty() && !stage.relay.wants_read(NEAR));
    stand(&mut stage, far, "friend.example", "hall.example");
    assert_eq!(stage.said(NEAR), "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(stage.has(|e| matches!(e, Effect::Restart(Side::Near))));
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    assert!(!stage.said(NEAR).contains("EXTERNAL"));
    stage.hears(NEAR, "<presence from='a@friend.example/1' to='b@hall.example' type='subscribe'/>");
    assert_eq!(stage.passed().len(), 1);
}

// DB-25, TLS-07: what was claimed or proven on a stream ends with it; a restart keeps the pair of EXTERNAL alone.
#[test]
fn a_restart_forgets_what_the_old_stream_had_proven() {
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    let rooms = admit(&mut stage, "rooms.friend.example", "hall.example");
    stage.hears(NEAR, "<db:result from='late.friend.example' to='hall.example'>k</db:result>");
    let late =
        stage.effects.iter().rev().find_map(|e| if let Effect::Verify(id, _) = e { Some(*id) } else { None });
    stage.hears(NEAR, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
    let (far, _) = stage.connects()[1].clone();
    stand(&mut stage, far, "friend.example", "hall.example");
    assert!(stage.said(Side::Far(rooms)).ends_with("</stream:stream>"));
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage.said(NEAR);
    stage.step(NEAR, Input::Verified(late.unwrap(), KeyAnswer::Valid));
    assert_eq!((stage.said(NEAR).as_str(), stage.connects().len()), ("", 2), "late answers find nothing");
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
    stage.hears(NEAR, "<message from='a@rooms.friend.example' to='b@hall.example'/>");
    assert!(stage.said(NEAR).contains("<invalid-from "));
}

// TLS-07, with a rule that takes a domain in clear: a pair of the clear stream does not live on under TLS.
#[test]
fn a_pair_proven_in_clear_ends_with_the_upgrade() {
    let clear = policy(
        Federation::Listed,
        "version: v1\nrules:\n  - { name: clear, domains: [friend.example], identity: [dialback], tls: none }\n",
    );
    let mut stage = Stage::new(home(), clear, Flow::S2sIn, None);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    admit(&mut stage, "friend.example", "hall.example");
    stage.hears(NEAR, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert!(stage.relay.guard().is_empty());
    stage.step(NEAR, Input::Secured(secured("hall.example", &[])));
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage.said(NEAR);
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert!(stage.said(NEAR).contains("<not-authorized ") && stage.passed().is_empty());
}

// Requirements 21.3, D9: the backend hears `valid` at once, and nothing else; the courier of its pair does the rest.
#[test]
fn a_backend_is_believed_at_once_and_its_courier_goes_to_the_peer() {
    let mut stage = Stage::new(home(), any(), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "friend.example"));
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='hall.example' to='friend.example'>legacy-key</db:result>");
    assert_eq!(stage.said(NEAR), "<db:result from='friend.example' to='hall.example' type='valid'/>");
    let message = "<message from='j@hall.example/h' to='r@friend.example'><body>hi</body></message>";
    stage.hears(NEAR, message);
    assert_eq!(stage.handed(), [message]);
    assert!(stage.connects().is_empty(), "the stream of the backend opens nothing");

    let mut stage = courier(home(), any(), "hall.example", "friend.example", Load::Own);
    let (far, destination) = stage.connects()[0].clone();
    let (from, target) = (domain("hall.example"), domain("friend.example"));
    assert_eq!(destination, Destination::World { from, target, behalf: Behalf::Own, posh: false, via: None });
    stage.step(NEAR, Input::Queue(Load::Own, message.into()));
    stage.connected(far, None);
    let far = Side::Far(far);
    stage.said(far);
    stage.hears(far, &answer("one", true));
    stage
        .hears(far, "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>");
    assert_eq!(stage.said(far), "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    stage.hears(far, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert!(stage.has(|e| matches!(e, Effect::Upgrade(_))));
    stage.step(far, Input::Secured(secured("friend.example", &["friend.example"])));
    stage.said(far);
    stage.hears(far, &answer("rS-88", true));
    stage.hears(
        far,
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/>\
         <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits></stream:features>",
    );
    let key = Keyring::new(b"world secret").make(&pair("hall.example", "friend.example"), "rS-88", stage.now);
    assert!(stage.said(far).contains(&key), "DB-50: the id of the latest header, the world secret");
    assert!(stage.has(|e| matches!(e, Effect::Await(_, check) if check.stream == "rS-88")));
    assert!(stage.passed().is_empty(), "DB-51: no stanza leaves before `valid`");
    stage.hears(far, "<db:result from='friend.example' to='hall.example' type='valid'/>");
    assert_eq!(stage.passed().len(), 1);
    assert!(stage.has(|e| matches!(e, Effect::Note(Event::Admitted { method: Method::Dialback, .. }))));
    // SM-09: what the peer would refuse with the whole stream is refused here alone.
    let big = "x".repeat(10_001);
    let big =
        format!("<message id='m' from='j@hall.example/h' to='r@friend.example'><body>{big}</body></message>");
    stage.step(NEAR, Input::Queue(Load::Own, big.into()));
    assert!(stage.passed().is_empty());
    let reports = stage.reported();
    assert_eq!(reports[0].0, pair("friend.example", "hall.example"));
    assert!(reports[0].1.contains("policy-violation") && reports[0].1.contains("to='j@hall.example/h'"));
}

// POL-04, POL-05: a denied pair causes no lookup, no connection and no contact with a backend, on any path.
// POL-03, DB-20.
#[test]
fn a_denied_pair_costs_nothing() {
    let listed =
        policy(Federation::Listed, "version: v1\nrules:\n  - { name: ok, domains: [friend.example] }\n");
    for (sender, names) in [
        ("stranger.example", vec![]),
        ("stranger.example", vec!["stranger.example"]),
        ("xfriend.example", vec!["xfriend.example"]),
        ("sub.friend.example", vec!["sub.friend.example"]),
        ("STRANGER.Example.", vec![]),
    ] {
        let mut stage = inbound(home(), listed.clone(), sender, &names);
        assert!(!stage.said(NEAR).contains("EXTERNAL"));
        stage.hears(NEAR, &format!("<db:result from='{sender}' to='hall.example'>k</db:result>"));
        let said = stage.said(NEAR);
        assert!(said.contains("<policy-violation ") && said.contains("type='error'"), "{said}");
        stage.hears(NEAR, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
        assert!(stage.said(NEAR).contains("<invalid-mechanism/>"));
        assert!(!stage.has(|e| matches!(e, Effect::Verify(..) | Effect::Connect(..))), "{sender}");
        assert!(stage.reasons().contains(&Reason::NotListed));
    }
}

// RLY-02, RLY-03, RLY-01, STR-16: who may say what on a stream with one pair.
#[test]
fn a_stanza_of_another_pair_ends_the_stream() {
    for (stanza, condition) in [
        ("<message from='a@evil.example' to='b@hall.example'/>", "invalid-from"),
        ("<message from='a@sub.friend.example' to='b@hall.example'/>", "invalid-from"),
        ("<message from='a@xfriend.example' to='b@hall.example'/>", "invalid-from"),
        ("<message from='a@friend.example' to='b@annex.example'/>", "host-unknown"),
        ("<message from='a@friend.example' to='b@nowhere.example'/>", "host-unknown"),
        ("<message from='a@friend.example'/>", "improper-addressing"),
        ("<message to='b@hall.example'/>", "improper-addressing"),
        ("<message from='' to='b@hall.example'/>", "improper-addressing"),
        ("<message from='a@friend。example' to='b@hall.example'/>", "improper-addressing"),
    ] {
        let mut stage = inbound(home(), any(), "friend.example", &[]);
        admit(&mut stage, "friend.example", "hall.example");
        stage.said(NEAR);
        stage.hears(NEAR, stanza);
        let said = stage.said(NEAR);
        assert!(said.contains(&format!("<stream:error><{condition} ")), "{stanza}: {said}");
        assert!(said.ends_with("</stream:stream>") && stage.passed().is_empty());
    }
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert!(stage.said(NEAR).contains("<not-authorized "));
}

// RLY-08, RLY-09, RLY-12 to RLY-15.
#[test]
fn the_desk_cuts_bounces_and_drops() {
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    let address = "from='a@friend.example/1' to='b@hall.example'";
    stage.hears(
        NEAR,
        &format!(
            "<message {address}><stanza-id xmlns='urn:xmpp:sid:0' by='b@hall.example' id='1'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='room.friend.example' id='2'/>\
             <delay xmlns='urn:xmpp:delay' from='hall.example' stamp='x'/><body>x</body></message>"
        ),
    );
    let passed = stage.passed();
    assert_eq!(
        passed[0].1,
        format!(
            "<message {address}><stanza-id xmlns='urn:xmpp:sid:0' by='room.friend.example' id='2'/>\
             <body>x</body></message>"
        )
    );
    stage.hears(NEAR, &format!("<message {address}><received xmlns='urn:xmpp:carbons:2'/></message>"));
    assert!(stage.passed().is_empty() && stage.carried().is_empty());
    assert!(stage.reasons().contains(&Reason::CarbonForged));
    for (iq, condition) in [
        (
            format!("<iq {address} type='set' id='r'><query xmlns='jabber:iq:roster'/></iq>"),
            "service-unavailable",
        ),
        (format!("<iq {address} type='get' id='r'/>"), "bad-request"),
        (format!("<iq {address} type='get'><ping xmlns='urn:xmpp:ping'/></iq>"), "bad-request"),
        (format!("<iq {address} type='nonsense' id='r'><ping xmlns='urn:xmpp:ping'/></iq>"), "bad-request"),
    ] {
        stage.hears(NEAR, &iq);
        let bounces = stage.carried();
        assert_eq!(bounces[0].0, pair("hall.example", "friend.example"));
        assert!(bounces[0].1.contains(&format!("<{condition} ")), "{}", bounces[0].1);
        assert!(
            bounces[0].1.contains("from='b@hall.example'")
                && bounces[0].1.contains("to='a@friend.example/1'")
        );
    }
    // RLY-09: a result is never answered, whatever is wrong with it.
    stage.hears(NEAR, &format!("<iq {address} type='result'/>"));
    assert!(stage.carried().is_empty() && stage.passed().is_empty());
    assert!(stage.said(NEAR).ends_with("type='valid'/>"), "the stream goes on");
}

// JID-07: the canonical domain goes on; local and resource stay. RLY-07: the language travels.
#[test]
fn addresses_are_made_canonical_and_the_language_goes_with_the_stanza() {
    let mut stage = Stage::new(home(), any(), Flow::S2sIn, Some(secured("hall.example", &[])));
    stage
        .hears(NEAR, &header("friend.example", "hall.example").replace(" version", " xml:lang='de' version"));
    admit(&mut stage, "friend.example", "hall.example");
    stage.hears(NEAR, "<message from='A@FRIEND.example./Res' to='b@Hall.Example'><body>x</body></message>");
    let passed = stage.passed();
    assert!(
        passed[0].1.contains("A@friend.example/Res") && passed[0].1.contains("b@hall.example"),
        "{passed:?}"
    );
    assert!(passed[0].1.contains("xml:lang='de'") || passed[0].1.contains("xml:lang=\"de\""), "{passed:?}");
}

// DB-27: `invalid` closes a stream without other pairs, and is an error on one with.
// DB-07.
#[test]
fn an_invalid_key_closes_only_a_stream_without_other_pairs() {
    let claim = |stage: &Stage| {
        stage
            .effects
            .iter()
            .rev()
            .find_map(|e| if let Effect::Verify(id, _) = e { Some(*id) } else { None })
            .unwrap()
    };
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
    let id = claim(&stage);
    stage.step(NEAR, Input::Verified(id, KeyAnswer::Invalid));
    assert_eq!(
        stage.said(NEAR),
        "<db:result from='hall.example' to='friend.example' type='invalid'/></stream:stream>"
    );
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='third.example' to='hall.example'>k</db:result>");
    let id = claim(&stage);
    stage.step(NEAR, Input::Verified(id, KeyAnswer::Invalid));
    let said = stage.said(NEAR);
    assert!(said.contains("<forbidden ") && !said.contains("</stream:stream>"), "{said}");
}

// DB-28, DB-26, RLY-18: what each trouble is called.
// DB-52.
#[test]
fn trouble_is_told_by_its_name() {
    for (reason, condition) in [
        (Reason::RemoteNotFound, "remote-server-not-found"),
        (Reason::RemoteUnreachable, "remote-connection-failed"),
        (Reason::ProxyLogin, "remote-connection-failed"),
        (Reason::DialbackTimeout, "remote-server-timeout"),
        (Reason::DnsFailed, "remote-server-timeout"),
    ] {
        let mut stage = inbound(home(), any(), "friend.example", &[]);
        stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
        let Some(Effect::Verify(id, _)) =
            stage.effects.iter().find(|e| matches!(e, Effect::Verify(..))).cloned()
        else {
            panic!()
        };
        stage.step(NEAR, Input::Verified(id, KeyAnswer::Trouble(reason)));
        let said = stage.said(NEAR);
        assert!(said.contains(&format!("<{condition} ")), "{reason}: {said}");
    }
    // DB-26: the backend is down at the claim.
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
    let (far, _) = stage.connects()[0].clone();
    stage.step(Side::Far(far), Input::Unreachable(Reason::RemoteUnreachable.into()));
    assert!(stage.said(NEAR).contains("<error type='wait'><internal-server-error "));
    // Outbound.
    for (reason, condition) in [
        (Reason::RemoteNotFound, "remote-server-not-found"),
        (Reason::RemoteUnreachable, "remote-server-timeout"),
        (Reason::ProxyLogin, "remote-server-timeout"),
    ] {
        let mut stage = courier(home(), any(), "hall.example", "friend.example", Load::Own);
        stage.step(
            NEAR,
            Input::Queue(Load::Own, "<message from='a@hall.example' to='b@friend.example'/>".into()),
        );
        let (far, _) = stage.connects()[0].clone();
        stage.step(Side::Far(far), Input::Unreachable(reason.into()));
        assert!(stage.reported()[0].1.contains(&format!("<{condition} ")), "{reason}");
    }
}

// DB-08, only_asked_answers: an answer without its question changes nothing, and repeated it ends the stream.
#[test]
fn unasked_answers_change_nothing() {
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    stage.said(NEAR);
    for _ in 0..3 {
        stage.hears(NEAR, "<db:result from='friend.example' to='hall.example' type='valid'/>");
        assert_eq!(stage.said(NEAR), "");
    }
    assert!(!stage.has(|e| matches!(e, Effect::Connect(..) | Effect::Verify(..) | Effect::Proven(_))));
    stage.hears(NEAR, "<db:verify from='friend.example' to='hall.example' id='1' type='valid'/>");
    assert!(stage.said(NEAR).contains("<policy-violation "));
}

// DB-32: the same key while pending shares the outcome, another is refused, and a standing pair is valid again.
#[test]
fn repeated_requests_are_each_answered() {
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    stage.said(NEAR);
    let ask = "<db:result from='friend.example' to='hall.example'>k</db:result>";
    stage.hears(NEAR, ask);
    stage.hears(NEAR, ask);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>other</db:result>");
    assert!(stage.said(NEAR).contains("<not-acceptable "));
    let (far, _) = stage.connects()[0].clone();
    assert_eq!(stage.connects().len(), 1);
    stand(&mut stage, far, "friend.example", "hall.example");
    assert_eq!(stage.said(NEAR).matches("type='valid'").count(), 2);
    stage.hears(NEAR, ask);
    assert_eq!(stage.said(NEAR).matches("type='valid'").count(), 1);
    assert_eq!(stage.connects().len(), 1);
}

// DB-66: many targets on one stream are independent, and RLY-19: one that was never claimed opens its pair just so.
#[test]
fn one_failing_target_leaves_the_others_alone() {
    let text = "version: v1\nrules:\n  - { name: no, domains: [denied.example], verdict: deny }\n";
    let mut stage = Stage::new(home(), policy(Federation::Any, text), Flow::S2sOut, None);
    stage.hears(NEAR, &answer("", false));
    stage.said(NEAR);
    for peer in ["one.example", "denied.example", "two.example"] {
        stage.hears(NEAR, &format!("<db:result from='hall.example' to='{peer}'>k</db:result>"));
        let valid = format!("<db:result from='{peer}' to='hall.example' type='valid'/>");
        assert_eq!(stage.said(NEAR), valid, "and nothing else");
    }
    let peers =
        ["one.example", "denied.example", "chat.one.example", "single", "annex.example", "two.example"];
    for peer in peers {
        stage.hears(
            NEAR,
            &format!("<message id='m' from='a@hall.example/x' to='b@{peer}'><body>1</body></message>"),
        );
    }
    let handed = stage.handed();
    assert_eq!(handed.len(), 3, "{handed:?}");
    let reports = stage.reported();
    let words = [
        ("denied.example", "<forbidden ", "denied.example: a deny rule names this domain (blocked)"),
        ("single", "<forbidden ", "single: a domain of one label, which no rule names (single-label)"),
        (
            "annex.example",
            "<item-not-found ",
            "annex.example: a domain that the sending server should host itself",
        ),
    ];
    for ((to, report), (peer, condition, text)) in reports.iter().zip(words) {
        assert_eq!(*to, pair(peer, "hall.example"));
        assert!(report.contains(condition) && report.contains(text), "{report}");
        assert!(report.contains("to='a@hall.example/x'") && !report.contains("<body>"), "{report}");
    }
    assert_eq!(reports.len(), words.len());
    assert_eq!(stage.said(NEAR), "", "the stream goes on");
    assert!(stage.connects().is_empty(), "POL-04");
}

// D9: `explain-to-users: off` tells the condition alone.
#[test]
fn users_read_why_or_nothing_of_it() {
    for explain in [true, false] {
        let text = "version: v1\nrules: []\n";
        let mut stage =
            Stage::new(Home { explain, ..home() }, policy(Federation::Listed, text), Flow::S2sOut, None);
        stage.hears(NEAR, &header("hall.example", "stranger.example"));
        stage.hears(NEAR, "<message from='a@hall.example/x' to='b@stranger.example'/>");
        let report = stage.reported().remove(0).1;
        let why = "stranger.example: no rule allows this domain (not-listed)";
        assert!(report.contains("<forbidden ") && report.contains(why) == explain, "{report}");
    }
}

// DB-70: what is never answered, and presence to a bare address only where the cause is lasting.
#[test]
fn what_is_never_answered_is_not() {
    let all = [
        "<message from='a@hall.example/x' to='b@P' type='error'/>",
        "<iq from='a@hall.example/x' to='b@P' type='result' id='1'/>",
        "<iq from='a@hall.example/x' to='b@P' type='error' id='1'/>",
        "<presence from='a@hall.example/x' to='b@P' type='probe'/>",
        "<presence from='a@hall.example/x' to='b@P' type='unavailable'/>",
        "<presence from='a@hall.example' to='b@P' type='subscribed'/>",
        "<presence from='a@hall.example' to='b@P' type='unsubscribed'/>",
    ];
    let mut stage =
        Stage::new(home(), policy(Federation::Listed, "version: v1\nrules: []\n"), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "stranger.example"));
    for stanza in all {
        stage.hears(NEAR, &stanza.replace("P", "stranger.example"));
    }
    assert!(stage.reported().is_empty());
    assert_eq!(stage.reasons().len(), all.len(), "each is counted");
    // Denied is lasting; silence is not.
    let bare = "<presence from='a@hall.example/x' to='b@stranger.example'/>";
    stage.hears(NEAR, bare);
    assert_eq!(stage.reported().len(), 1);
    for (reason, to, answers) in [
        (Reason::RemoteNotFound, "b@stranger.example", 1),
        (Reason::RemoteUnreachable, "b@stranger.example", 0),
        (Reason::RemoteUnreachable, "b@stranger.example/room", 1),
    ] {
        let mut stage = courier(home(), any(), "hall.example", "stranger.example", Load::Own);
        let far = stage.connects()[0].0;
        let presence = format!("<presence from='a@hall.example/x' to='{to}'/>");
        stage.step(NEAR, Input::Queue(Load::Own, presence.into()));
        stage.step(Side::Far(far), Input::Unreachable(reason.into()));
        assert_eq!(stage.reported().len(), answers, "{reason} {to}");
    }
}

// CRT-13: a certificate that does not speak for the target ends the attempt where a certificate is required.
#[test]
fn an_untrusted_peer_is_left_for_the_next_address() {
    let strict = policy(
        Federation::Listed,
        "version: v1\nrules:\n  - { name: strict, domains: [friend.example], identity: [certificate] }\n",
    );
    let mut stage = courier(home(), strict, "hall.example", "friend.example", Load::Own);
    stage
        .step(NEAR, Input::Queue(Load::Own, "<message from='a@hall.example' to='b@friend.example'/>".into()));
    let (far, _) = stage.connects()[0].clone();
    let mut expired = untrusted("", "friend.example");
    let certificate = expired.certificate.as_mut().unwrap();
    (certificate.trust.default, certificate.not_after) = (Err(TrustFault::Expired), 1_790_812_800);
    stage.connected(far, Some(expired));
    assert!(stage.has(|e| matches!(e, Effect::Retry(_, AddressChoice::Next))));
    stage.step(Side::Far(far), Input::Unreachable(Reason::RemoteUnreachable.into()));
    let report = stage.reported().remove(0).1;
    assert!(report.contains("friend.example: its certificate expired on 2026-10-01"), "{report}");
    assert!(stage.reasons().contains(&Reason::CertificateUntrusted));
}

// TLS-19: where a certificate is required, a stream without one ends under TLS; where not, EXTERNAL is just not offered.
#[test]
fn a_required_certificate_that_is_missing_ends_the_stream() {
    let strict = policy(
        Federation::Listed,
        "version: v1\nrules:\n  - { name: strict, domains: [friend.example], identity: [certificate] }\n",
    );
    let mut stage = inbound(home(), strict, "friend.example", &[]);
    assert!(stage.said(NEAR).contains("<policy-violation "));
    let mut stage = inbound(home(), any(), "friend.example", &["other.example"]);
    let said = stage.said(NEAR);
    assert!(!said.contains("EXTERNAL") && said.contains("<dialback "));
}

// POL-07: a new policy takes a pair back; the stream ends when none is left.
#[test]
fn a_new_policy_judges_living_streams() {
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    let one = admit(&mut stage, "friend.example", "hall.example");
    let _two = admit(&mut stage, "rooms.friend.example", "hall.example");
    stage.said(NEAR);
    let first = policy(
        Federation::Any,
        "version: v1\nrules:\n  - { name: no, domains: [friend.example], verdict: deny }\n",
    );
    stage.step(NEAR, Input::Policy(first));
    assert_eq!(stage.said(NEAR), "");
    assert!(stage.said(Side::Far(one)).contains("</stream:stream>"));
    // What waits for the server behind goes no further either.
    assert!(stage.has(|e| matches!(e, Effect::Withdraw(pair, Reason::PolicyChanged) if pair.sender.as_str() == "friend.example")));
    let waiting = "<message id='0' from='a@friend.example' to='b@hall.example'/>";
    stage.step(NEAR, Input::Refused(waiting.into(), Reason::PolicyChanged));
    assert!(stage.carried()[0].1.contains("id='0'"));
    stage.hears(NEAR, "<message id='1' from='a@friend.example' to='b@hall.example'/>");
    assert!(stage.passed().is_empty() && stage.carried()[0].1.contains("policy-violation"));
    stage.hears(NEAR, "<message from='a@rooms.friend.example' to='b@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
    let both = policy(
        Federation::Any,
        "version: v1\nrules:\n  - { name: no, domains: [friend.example, '*.friend.example'], verdict: deny }\n",
    );
    stage.step(NEAR, Input::Policy(both));
    assert!(stage.said(NEAR).contains("<policy-violation "));
}

// BE-11: what a broken inside leg leaves is carried once more; the peer's stream ends so that it knows.
// CLS-06.
#[test]
fn a_broken_inside_leg_loses_nothing_in_silence() {
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    let far = admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    let stanza = "<message from='a@friend.example' to='b@hall.example'><body>1</body></message>";
    stage.hears(NEAR, stanza);
    stage.passed();
    let unsent = vec![bytes::Bytes::from(stanza)];
    stage.step(Side::Far(far), Input::Gone { reason: Reason::ConnectionLost, unsent });
    assert_eq!(stage.carried(), [(pair("friend.example", "hall.example"), stanza.to_owned())]);
    assert!(stage.said(NEAR).contains("<internal-server-error "));
    // What still comes before the peer's closing tag is carried too (CLS-01).
    stage.hears(NEAR, stanza);
    assert_eq!(stage.carried().len(), 1);
    stage.hears(NEAR, "</stream:stream>");
    assert!(stage.relay.is_done(), "{:?}", stage.relay);
}

// A courier delivers in order, and bounces each stanza once when it cannot.
// DB-51: what waits goes in order.
#[test]
fn a_courier_delivers_or_bounces_once() {
    let whom = pair("friend.example", "hall.example");
    let stanza = |id: &str| {
        format!("<message id='{id}' from='a@friend.example' to='b@hall.example'><body>1</body></message>")
    };
    let home = std::sync::Arc::new(home());
    let now = std::time::Instant::now();
    let made = Relay::courier(home.clone(), any(), whom.clone(), (Load::Carried, None), now);
    let mut stage = Stage::of(made);
    let (far, _) = stage.connects()[0].clone();
    for id in ["1", "2"] {
        stage.step(NEAR, Input::Queue(Load::Carried, stanza(id).into()));
    }
    stand(&mut stage, far, "friend.example", "hall.example");
    let passed: Vec<_> = stage.passed().into_iter().map(|(_, text)| text).collect();
    assert_eq!(passed, [stanza("1"), stanza("2")]);
    stage.wait(Duration::from_secs(11));
    assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
    stage.wait(Duration::from_secs(6));
    assert!(stage.relay.is_done());

    let mut stage = Stage::of(Relay::courier(home, any(), whom, (Load::Carried, None), now));
    let (far, _) = stage.connects()[0].clone();
    stage.step(NEAR, Input::Queue(Load::Carried, stanza("1").into()));
    stage.step(
        NEAR,
        Input::Queue(
            Load::Carried,
            "<message type='error' from='a@friend.example' to='b@hall.example'/>".into(),
        ),
    );
    stage.step(Side::Far(far), Input::Unreachable(Reason::RemoteUnreachable.into()));
    let bounces = stage.carried();
    assert_eq!(bounces.len(), 1, "errors are never answered");
    assert_eq!(bounces[0].0, pair("hall.example", "friend.example"));
    assert!(bounces[0].1.contains("type='error'") && stage.relay.is_done());
}

// A verifier asks once and answers once, by EXTERNAL never.
#[test]
fn a_verifier_asks_and_answers_once() {
    let check = gatehouse::stream::KeyCheck {
        pair: pair("friend.example", "hall.example"),
        stream: "gw-1".into(),
        key: "abc".into(),
    };
    let facing = gatehouse::reason::Facing::Public;
    let home = std::sync::Arc::new(home());
    let mut stage = Stage::of(Relay::verifier(home, any(), facing, check, std::time::Instant::now()));
    let (far, destination) = stage.connects()[0].clone();
    let (from, target) = (domain("hall.example"), domain("friend.example"));
    assert_eq!(
        destination,
        Destination::World { from, target, behalf: Behalf::Claim, posh: false, via: None }
    );
    stage.connected(far, Some(secured("", &["friend.example"])));
    let far = Side::Far(far);
    stage.hears(far, &answer("z", true));
    stage.said(far);
    stage.hears(far, "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>");
    assert_eq!(
        stage.said(far),
        "<db:verify from='hall.example' to='friend.example' id='gw-1'>abc</db:verify>"
    );
    // DB-08: an answer to another question is no answer.
    stage.hears(far, "<db:verify from='friend.example' to='hall.example' id='gw-2' type='valid'/>");
    assert!(!stage.has(|e| matches!(e, Effect::Answer(..))));
    stage.hears(far, "<db:verify from='friend.example' to='hall.example' id='gw-1' type='valid'/>");
    assert!(stage.has(|e| matches!(e, Effect::Answer(KeyAnswer::Valid, _))));
    assert!(stage.said(far).ends_with("</stream:stream>"));
    stage.wait(Duration::from_secs(6));
    assert!(stage.relay.is_done());
    assert_eq!(stage.effects.iter().filter(|e| matches!(e, Effect::Answer(..))).count(), 1);
}

// Time is up, or the gateway drains: what the authority says while its stream closes changes nothing any more.
#[test]
fn an_answer_that_comes_after_the_end_is_not_told() {
    for end in [Input::Drain, Input::Expired] {
        let check = gatehouse::stream::KeyCheck {
            pair: pair("friend.example", "hall.example"),
            stream: "gw-1".into(),
            key: "abc".into(),
        };
        let facing = gatehouse::reason::Facing::Public;
        let home = std::sync::Arc::new(home());
        let mut stage = Stage::of(Relay::verifier(home, any(), facing, check, std::time::Instant::now()));
        let (far, _) = stage.connects()[0].clone();
        stage.connected(far, Some(secured("", &["friend.example"])));
        let far = Side::Far(far);
        stage.hears(far, &answer("z", false));
        assert!(stage.said(far).contains("<db:verify "));
        stage.now += Duration::from_secs(30);
        stage.step(NEAR, end.clone());
        assert!(stage.said(far).ends_with("</stream:stream>"), "{end:?}");
        stage.hears(far, "<db:verify from='friend.example' to='hall.example' id='gw-1' type='valid'/>");
        let answers: Vec<_> = stage.effects.iter().filter(|e| matches!(e, Effect::Answer(..))).collect();
        assert!(
            matches!(answers.as_slice(), [Effect::Answer(KeyAnswer::Trouble(_), _)]),
            "{end:?}: {answers:?}"
        );
    }
}

// DB-24, CRT-13: an authoritative server without a certificate for its name is asked only where a file says so.
#[test]
fn an_unnamed_authority_is_asked_only_where_a_file_takes_it() {
    let written =
        policy(Federation::Any, "version: v1\ndefaults: { identity: [certificate, dialback] }\nrules: []\n");
    for (policy, asked) in [(any(), false), (written, true)] {
        let check = gatehouse::stream::KeyCheck {
            pair: pair("friend.example", "hall.example"),
            stream: "gw-1".into(),
            key: "abc".into(),
        };
        let home = std::sync::Arc::new(home());
        let facing = gatehouse::reason::Facing::Public;
        let mut stage = Stage::of(Relay::verifier(home, policy, facing, check, std::time::Instant::now()));
        let (far, _) = stage.connects()[0].clone();
        stage.connected(far, Some(untrusted("", "friend.example")));
        assert_eq!(stage.has(|e| matches!(e, Effect::Retry(_, AddressChoice::Next))), !asked);
        assert_eq!(stage.said(Side::Far(far)).contains("<stream:stream "), asked);
    }
}

// CLS-03: silence, a trickle and repeated dialback all meet the same end.
#[test]
fn no_traffic_extends_the_time_before_proof() {
    let mut stage = Stage::new(home(), any(), Flow::S2sIn, None);
    stage.wait(Duration::from_secs(11));
    assert!(stage.has(|e| matches!(e, Effect::Cut(Side::Near))) && stage.said(NEAR).is_empty());
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    for _ in 0..59 {
        stage.wait(Duration::from_secs(1));
        stage.hears(NEAR, " ");
    }
    stage.said(NEAR);
    stage.wait(Duration::from_secs(2));
    assert!(stage.said(NEAR).contains("<policy-violation "));
    assert!(stage.reasons().contains(&Reason::NegotiationTimeout));
    stage.wait(Duration::from_secs(6));
    assert!(stage.relay.is_done());
}

// DB-24, T-verify-idle: who came only to ask about keys is let go soon after the last answer, without an error.
#[test]
fn a_stream_that_only_asks_about_keys_is_closed_after_the_last_answer() {
    let question = "<db:verify from='friend.example' to='hall.example' id='1'>k</db:verify>";
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    for _ in 0..3 {
        stage.hears(NEAR, question);
        unknown(&mut stage);
        assert!(stage.said(NEAR).contains("type='invalid'"));
        stage.wait(Duration::from_secs(4));
        assert_eq!(stage.said(NEAR), "");
    }
    stage.wait(Duration::from_secs(2));
    assert_eq!(stage.said(NEAR), "</stream:stream>");
    // Questions do not extend T-unauth (CLS-03).
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    for _ in 0..20 {
        stage.hears(NEAR, question);
        unknown(&mut stage);
        stage.wait(Duration::from_secs(3));
    }
    assert!(stage.said(NEAR).contains("<policy-violation "));
    // A stream that claims something is no such stream: it lives by the proof of its pair.
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.hears(NEAR, question);
    unknown(&mut stage);
    stage.said(NEAR);
    stage.wait(Duration::from_secs(60));
    assert_eq!(stage.said(NEAR), "");
}

/// Nobody waits with the key that was asked about last.
fn unknown(stage: &mut Stage) {
    let asked = stage.effects.iter().rev().find_map(|effect| match effect {
        Effect::Vouch(check, others) => Some((check.clone(), *others)),
        _ => None,
    });
    let (check, others) = asked.unwrap();
    assert!(!others);
    stage.step(NEAR, Input::Vouched(check, false));
}

// DB-67: dialback errors are announced on the inside listener unless no hosted domain may multiplex; in public always.
#[test]
fn the_inside_listener_announces_dialback_errors_where_it_may() {
    let greeted = |flow, multiplex: [bool; 2]| {
        let mut home = home();
        for (domain, multiplex) in home.hosted.values_mut().zip(multiplex) {
            domain.multiplex = multiplex;
        }
        let mut stage = match flow {
            Flow::S2sIn => inbound(home, any(), "friend.example", &[]),
            _ => Stage::new(home, any(), flow, None),
        };
        if flow == Flow::S2sOut {
            stage.hears(NEAR, &header("hall.example", "friend.example"));
        }
        stage.said(NEAR)
    };
    let errors = "<errors/>";
    assert!(greeted(Flow::S2sOut, [true, true]).contains(errors));
    assert!(greeted(Flow::S2sOut, [false, true]).contains(errors));
    let silent = greeted(Flow::S2sOut, [false, false]);
    assert!(silent.contains("urn:xmpp:features:dialback") && !silent.contains(errors), "{silent}");
    assert!(greeted(Flow::S2sIn, [false, false]).contains(errors));
}

// CRT-12: a certificate that is revoked under a living stream ends it; one that is still trusted does not.
#[test]
fn a_certificate_that_is_revoked_ends_the_stream_that_stands_on_it() {
    let good = secured("hall.example", &["friend.example"]).certificate.clone().unwrap();
    let mut revoked = good.clone();
    revoked.trust = Trust { default: Err(TrustFault::Revoked), peers: Vec::new() };
    // Inbound, by the peer's certificate.
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.step(NEAR, Input::Retrusted(good.clone()));
    assert_eq!(stage.said(NEAR), "");
    stage.step(NEAR, Input::Retrusted(revoked.clone()));
    let said = stage.said(NEAR);
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/></stream:stream>");
    assert!(stage.passed().is_empty(), "also what was on its way");
    assert_eq!(stage.reasons(), [Reason::CertificateRevoked; 2]);
    // Outbound, by the certificate of the server that we called.
    let (mut stage, far) = outbound(secured("", &["friend.example"]));
    stage.step(Side::Far(far), Input::Retrusted(good));
    assert_eq!(stage.said(Side::Far(far)), "");
    stage.step(Side::Far(far), Input::Retrusted(revoked.clone()));
    let said = stage.said(Side::Far(far));
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
    // What dialback proved leans on no certificate.
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.step(NEAR, Input::Retrusted(revoked));
    assert_eq!(stage.said(NEAR), "");
}

// DNS-18: "a certificate that your own revocation lists name is refused all the same", whatever else of it a rule would take: the key
// that is pinned, outbound as inbound, on a living stream and in what the plan of a reload says before.
#[test]
fn a_revoked_certificate_is_refused_under_a_pin_both_ways() {
    let key = "07".repeat(32);
    let pinned =
        format!("version: v1\nrules: [{{ name: s, domains: [friend.example], pins: [\"sha256:{key}\"] }}]");
    let pinned = policy(Federation::Listed, &pinned);
    let shows = |worth| {
        let mut facts = secured("hall.example", &["friend.example"]);
        let certificate = facts.certificate.as_mut().unwrap();
        (certificate.key, certificate.trust.default) = (Some([7; 32]), Err(worth));
        facts
    };
    let (alone, revoked) = (TrustFault::SelfSigned, TrustFault::Revoked);
    let again = shows(revoked).certificate.clone().unwrap();
    let (mut stage, far) = outbound_under(pinned.clone(), shows(alone));
    let foreseen = [(Side::Far(far), again.clone())];
    let portrait = stage.relay.portrait_under(&Under { policy: Some(&pinned), again: &foreseen });
    let doubts: Vec<_> = portrait.pairs.iter().map(|standing| standing.doubt).collect();
    assert_eq!(doubts, [Some(Reason::CertificateRevoked)]);
    stage.step(Side::Far(far), Input::Retrusted(again));
    assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
    let mut stage = courier(home(), pinned.clone(), "hall.example", "friend.example", Load::Own);
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, Some(shows(revoked)));
    let dialback = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>";
    stage.hears(Side::Far(far), &format!("{}{dialback}", answer("one", true)));
    assert!(!stage.said(Side::Far(far)).contains("<db:result"));
    assert!(!stage.has(|e| matches!(e, Effect::Note(Event::Admitted { .. }))));
    let detail = gatehouse::relay::doubt(
        &pinned,
        &pair("hall.example", "friend.example"),
        gatehouse::reason::Direction::Outbound,
        Some(&shows(revoked)),
    );
    assert_eq!(detail.unwrap().cause, gatehouse::reason::Cause::Revoked);
}

// CRT-12: who is no longer trusted since the authorities have changed is no one who was revoked; a plan says so before. Pairs that
// stand on something else stay, on the same stream too, and so does an outbound pair that its rule takes without a certificate.
#[test]
fn other_authorities_end_what_stands_on_a_certificate_alone_and_the_plan_says_so_before() {
    let good = secured("hall.example", &["friend.example"]).certificate.clone().unwrap();
    let mut other = good.clone();
    other.trust = Trust { default: Err(TrustFault::UnknownIssuer), peers: Vec::new() };
    let doubts = |stage: &Stage, side: Side, policy: &gatehouse::policy::Policy| {
        let again = [(side, other.clone())];
        let portrait = stage.relay.portrait_under(&Under { policy: Some(policy), again: &again });
        let doubts: Vec<_> = portrait.pairs.iter().map(|standing| standing.doubt).collect();
        (doubts, portrait.closes)
    };
    let distrusted = Some(Reason::CertificateDistrusted);
    // Inbound, the one pair.
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    assert_eq!(doubts(&stage, NEAR, &any()), (vec![distrusted], true));
    stage.step(NEAR, Input::Retrusted(other.clone()));
    let said = stage.said(NEAR);
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
    assert!(stage.reasons().iter().all(|reason| *reason == Reason::CertificateDistrusted));
    // Beside one that dialback has proven.
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    admit(&mut stage, "cousin.example", "hall.example");
    stage.said(NEAR);
    assert_eq!(doubts(&stage, NEAR, &any()), (vec![distrusted, None], false));
    stage.step(NEAR, Input::Retrusted(other.clone()));
    assert_eq!(stage.said(NEAR), "");
    stage.hears(NEAR, "<message from='c@cousin.example' to='b@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert!(stage.passed().is_empty());
    // Outbound: the rule takes servers without a certificate, or it does not.
    let wide = policy(
        Federation::Listed,
        "version: v1\nrules: [{ name: s, domains: [friend.example], identity: [certificate, dialback] }]",
    );
    let (mut stage, far) = outbound_under(wide.clone(), secured("", &["friend.example"]));
    assert_eq!(doubts(&stage, Side::Far(far), &wide).0, [None]);
    stage.step(Side::Far(far), Input::Retrusted(other.clone()));
    assert_eq!(stage.said(Side::Far(far)), "");
    let strict = policy(
        Federation::Listed,
        "version: v1\nrules: [{ name: s, domains: [friend.example], identity: [certificate] }]",
    );
    // What holds now is the proof that there is now.
    stage.step(NEAR, Input::Policy(std::sync::Arc::clone(&strict)));
    assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
    let (mut stage, far) = outbound_under(strict.clone(), secured("", &["friend.example"]));
    assert_eq!(doubts(&stage, Side::Far(far), &strict), (vec![distrusted], true));
    stage.step(Side::Far(far), Input::Retrusted(other));
    let said = stage.said(Side::Far(far));
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
    assert!(stage.reasons().contains(&Reason::CertificateDistrusted), "{:?}", stage.reasons());
}

// CRT-12: outbound, too, a pair stands no longer than the certificate that it stands on.
#[test]
fn a_certificate_that_expires_ends_the_leg_that_we_opened() {
    let mut facts = secured("", &["friend.example"]);
    facts.certificate.as_mut().unwrap().expires = Some(std::time::Instant::now() + Duration::from_secs(1000));
    let (mut stage, far) = outbound(facts);
    stage.wait(Duration::from_secs(900));
    assert_eq!(stage.said(Side::Far(far)), "");
    stage.wait(Duration::from_secs(101));
    let said = stage.said(Side::Far(far));
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
}

/// A courier of the backend that stands at `friend.example`, whose server showed this on direct TLS.
fn outbound(facts: Secured) -> (Stage, FarId) {
    outbound_under(any(), facts)
}

fn outbound_under(policy: std::sync::Arc<gatehouse::policy::Policy>, facts: Secured) -> (Stage, FarId) {
    let mut stage = courier(home(), policy, "hall.example", "friend.example", Load::Own);
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, Some(facts));
    stage.hears(Side::Far(far), &answer("one", true));
    stage.hears(
        Side::Far(far),
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
    );
    stage.hears(Side::Far(far), "<db:result from='friend.example' to='hall.example' type='valid'/>");
    assert!(stage.has(|e| matches!(e, Effect::Note(Event::Admitted { .. }))));
    stage.said(Side::Far(far));
    (stage, far)
}

// DB-62: a name that is not configured, or is another backend's, is believed like any other; nothing of it passes, each stanza
// comes back, and who must know hears of it.
#[test]
fn a_backend_does_not_speak_for_the_domains_of_another() {
    let mut home = home();
    let elsewhere = Networks::new(vec!["10.0.0.6/32".parse().unwrap()]);
    let annex = home.hosted.get_mut(&domain("annex.example")).unwrap();
    (annex.keys_by, annex.server) = (KeysBy::Address(elsewhere), 1);
    for (name, reason) in
        [("annex.example", Reason::OtherBackend), ("conference.hall.example", Reason::NotConfigured)]
    {
        for begun in ["hall.example", name] {
            let mut stage = Stage::new(home.clone(), any(), Flow::S2sOut, None);
            stage.hears(NEAR, &header(begun, "friend.example"));
            stage.said(NEAR);
            for from in ["hall.example", name] {
                stage.hears(NEAR, &format!("<db:result from='{from}' to='friend.example'>k</db:result>"));
                assert_eq!(
                    stage.said(NEAR),
                    format!("<db:result from='friend.example' to='{from}' type='valid'/>")
                );
            }
            stage.hears(NEAR, &format!("<message from='a@{name}/x' to='b@friend.example' id='1'/>"));
            stage.hears(NEAR, "<message from='a@hall.example/x' to='b@friend.example' id='2'/>");
            assert_eq!(stage.handed().len(), 1, "the other pair goes on");
            let reports = stage.reported();
            assert_eq!(reports[0].0, pair("friend.example", name));
            // Only of one that is nowhere a line is missing.
            let words = match reason {
                Reason::OtherBackend => {
                    "annex.example: a domain that belongs to another backend (other-backend)<".to_owned()
                }
                _ => format!("`- name: {name}`"),
            };
            assert!(
                reports[0].1.contains("<item-not-found ") && reports[0].1.contains(&words),
                "{reports:?}"
            );
            assert_eq!(reports[0].1.contains("- name: "), reason == Reason::NotConfigured, "{reports:?}");
            let told = |e: &Effect| {
                matches!(e, Effect::Note(Event::Misnamed { name: n, reason: r, via: Some(via) })
                if n.as_str() == name && *r == reason && via.as_str() == "hall.example")
            };
            assert!(stage.has(told));
            assert_eq!(stage.said(NEAR), "");
        }
    }
}

// DB-62, DB-69: what comes from an address that is no domain's, in a name that is nobody's here or another backend's, is told and goes
// back to nobody: whoever has the name, out in the world or inside, has sent nothing.
#[test]
fn nobody_else_hears_of_what_is_sent_in_his_name() {
    let mut home = home();
    let elsewhere = Networks::new(vec!["10.0.0.6/32".parse().unwrap()]);
    home.hosted.values_mut().for_each(|hosted| hosted.keys_by = KeysBy::Address(elsewhere.clone()));
    for name in ["stranger.example", "conference.hall.example", "annex.example"] {
        for to in ["hall.example", "friend.example"] {
            for body in ["<body>hi</body>", "<\u{e9}t\u{e9}/>"] {
                for begun in [name, "hall.example"] {
                    let mut stage = Stage::new(home.clone(), any(), Flow::S2sOut, None);
                    stage.hears(NEAR, &header(begun, to));
                    stage.hears(
                        NEAR,
                        &format!("<message from='a@{name}/x' to='b@{to}' id='1'>{body}</message>"),
                    );
                    let goes = |e: &Effect| matches!(e, Effect::Carry(..) | Effect::Report { .. });
                    assert!(!stage.has(goes), "{name} {to} {body}: {:?}", stage.effects);
                    let told = |e: &Effect| matches!(e, Effect::Note(Event::Misnamed { name: n, .. }) if n.as_str() == name);
                    assert!(stage.has(told), "{name} {to} {body}");
                }
            }
        }
    }
}

// DB-62: the alarm comes with the first use of the name, whatever that is: a claim, a claim by key that its own server does not
// know, a stanza of any kind, one over a limit.
#[test]
fn each_use_of_the_name_of_another_backend_is_an_alarm_that_names_it() {
    let mut home = home();
    let elsewhere = Networks::new(vec!["10.0.0.6/32".parse().unwrap()]);
    let annex = home.hosted.get_mut(&domain("annex.example")).unwrap();
    (annex.keys_by, annex.server) = (KeysBy::Address(elsewhere), 1);
    let mut asked = home.clone();
    asked.hosted.get_mut(&domain("annex.example")).unwrap().keys_by = KeysBy::Verify;
    let deep = format!("{}{}", "<a>".repeat(300), "</a>".repeat(300));
    let uses = [
        (&home, "<db:result from='annex.example' to='friend.example'>k</db:result>".to_owned()),
        (&asked, "<db:result from='annex.example' to='friend.example'>k</db:result>".to_owned()),
        (&home, "<message from='a@annex.example/x' to='b@friend.example' id='1'/>".to_owned()),
        (&home, "<iq type='result' from='a@annex.example/x' to='b@friend.example' id='1'/>".to_owned()),
        (&home, "<presence type='unavailable' from='a@annex.example/x' to='b@friend.example'/>".to_owned()),
        (&home, "<message from='a@annex.example/x' to='b@hall.example' id='1'/>".to_owned()),
        (&home, format!("<message from='a@annex.example/x' to='b@friend.example' id='1'>{deep}</message>")),
    ];
    for (home, used) in uses {
        for begun in [Some("hall.example"), Some("annex.example"), None] {
            let mut stage = Stage::new(home.clone(), any(), Flow::S2sOut, None);
            match begun {
                Some(begun) => stage.hears(NEAR, &header(begun, "friend.example")),
                None => {
                    stage.hears(NEAR, &header("hall.example", "friend.example"));
                    stage.hears(
                        NEAR,
                        "<db:verify from='hall.example' to='friend.example' id='i'>k</db:verify>",
                    );
                }
            }
            stage.hears(NEAR, &used);
            let question = stage.effects.iter().find_map(|effect| match effect {
                Effect::Verify(claim, _) => Some(*claim),
                _ => None,
            });
            if let Some(claim) = question {
                stage.step(NEAR, Input::Verified(claim, KeyAnswer::Invalid));
            }
            let told = |e: &Effect| {
                matches!(e, Effect::Note(Event::Misnamed { name, reason: Reason::OtherBackend, via: Some(via) })
                if name.as_str() == "annex.example" && via.as_str() == "hall.example")
            };
            assert!(stage.has(told), "{used} {begun:?}");
            assert!(stage.handed().is_empty());
        }
    }
}

// DB-63, RLY-19: asked back, it may call from anywhere, and hears `valid` or `invalid` when that is known; what was not
// claimed comes back.
#[test]
fn a_backend_that_is_asked_back_is_believed_by_its_key() {
    let mut home = home();
    home.hosted.get_mut(&domain("hall.example")).unwrap().keys_by = KeysBy::Verify;
    for (verdict, said) in [(KeyAnswer::Valid, "valid"), (KeyAnswer::Invalid, "invalid")] {
        let mut stage = Stage::new(home.clone(), any(), Flow::S2sOut, None);
        stage.hears(NEAR, &header("hall.example", "friend.example"));
        stage.said(NEAR);
        stage.hears(NEAR, "<db:result from='hall.example' to='friend.example'>k</db:result>");
        let Some(Effect::Verify(claim, _)) =
            stage.effects.iter().find(|e| matches!(e, Effect::Verify(..))).cloned()
        else {
            panic!("no question")
        };
        assert_eq!(stage.said(NEAR), "");
        stage.step(NEAR, Input::Verified(claim, verdict));
        let answer = format!("<db:result from='friend.example' to='hall.example' type='{said}'/>");
        assert_eq!(stage.said(NEAR), answer);
        for to in ["friend.example", "chat.friend.example"] {
            stage.hears(NEAR, &format!("<message from='a@hall.example/x' to='b@{to}' id='1'/>"));
        }
        let passes = usize::from(verdict == KeyAnswer::Valid);
        assert_eq!(stage.handed().len(), passes);
        let back = stage.reported();
        assert!(
            back.len() == 2 - passes && back.iter().all(|(_, r)| r.contains("<item-not-found ")),
            "{back:?}"
        );
        assert_eq!(stage.said(NEAR), "", "the stream goes on");
    }
    // DB-64: it hears so while it still waits.
    home.hosted.get_mut(&domain("hall.example")).unwrap().budget = Duration::from_secs(20);
    let mut stage = Stage::new(home, any(), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "friend.example"));
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='hall.example' to='friend.example'>k</db:result>");
    stage.wait(Duration::from_secs(21));
    assert!(stage.said(NEAR).contains("type='invalid'"));
}

// D9, DB-62, DB-66: all pairs of a jabberd2 end with its stream at any answer but `valid`, and each server knows its claim by its
// own words alone: a Prosody ends its stream at an answer about another name, an ejabberd waits on.
#[test]
fn a_backend_reads_valid_in_its_own_words_whatever_it_claims() {
    let long = format!("{}example", "long.".repeat(300));
    for first in ["friend.example", "two..dots.example"] {
        let mut stage = Stage::new(home(), any(), Flow::S2sOut, None);
        stage.hears(NEAR, &header("hall.example", first));
        assert!(stage.said(NEAR).ends_with("</stream:features>"), "{first}");
        for to in [
            "xn--mnchen-3ya.example",
            "UPPER.Example",
            "trailing.example.",
            "two..dots.example",
            "-dash.example",
            "under_score.example",
            "stra\u{df}e.example",
            "full\u{ff0e}width.example",
            "[2001:db8::1]",
            "x@friend.example",
            &long,
            "friend.example",
        ] {
            stage.hears(NEAR, &format!("<db:result from='hall.example' to='{to}'>k</db:result>"));
            let valid = format!("<db:result from='{to}' to='hall.example' type='valid'/>");
            assert_eq!(stage.said(NEAR), valid);
        }
        stage.hears(NEAR, "<message from='j@hall.example/h' to='r@two..dots.example'/>");
        assert_eq!((stage.handed().len(), stage.said(NEAR).as_str()), (0, ""));
        assert_eq!(stage.reported()[0].0.sender.as_str(), "two..dots.example");
        stage.hears(NEAR, "<message from='j@hall.example/h' to='r@friend.example'/>");
        assert_eq!(stage.handed().len(), 1);
    }
}

// RLY-01, JID-02, JID-03, DB-62, DB-70: servers let their users write to what is no address. Whoever wrote to it hears so from that very
// address, claimed before or not, over a limit or not; where nobody can speak in its name, from the domain that the stream is for.
// Everybody else's stanzas go on.
#[test]
fn what_a_backend_sends_to_no_domain_comes_back_alone_with_that_word() {
    let long = format!("{}.example", "l".repeat(64));
    // With what the server reads in it, which compares that with the name of the stream that brings the word.
    let alike = [
        "foo_bar.example",
        "under_score.friend.example",
        "two..dots.example",
        ".example",
        "-dash.example",
        "dash-.example",
        "192.0.2.77",
        "[2001:db8::1]",
        "\u{1f4a9}.example",
        "xn--zzzzzz.example",
        "ideographic\u{3002}example",
        "hall\u{ff0e}example",
        long.as_str(),
    ];
    let names = alike.map(|name| (name, name)).into_iter().chain([
        ("FOO_bar.example", "foo_bar.example"),
        ("\u{1f468}\u{200d}\u{1f469}\u{fe0f}.example", "\u{1f468}\u{1f469}.example"),
        ("stra\u{df}e.example", "strasse.example"),
        ("full\u{ff0e}width.example", "full.width.example"),
    ]);
    let (nested, heap) = ("<a>".repeat(300), "</a>".repeat(300));
    for claimed in [true, false] {
        for (name, read) in names.clone() {
            let mut stage = Stage::new(home(), any(), Flow::S2sOut, None);
            stage.hears(NEAR, &header("hall.example", if claimed { name } else { "friend.example" }));
            if claimed {
                stage.hears(NEAR, &format!("<db:result from='hall.example' to='{name}'>k</db:result>"));
            }
            assert!(stage.said(NEAR).contains("type='valid'") == claimed, "{name}");
            for (n, (kind, extra, to)) in [
                ("message", "", format!("r@{name}")),
                ("message", "<body>b</body>", format!("r@{name}/phone")),
                ("iq", "<ping xmlns='urn:xmpp:ping'/>", name.to_owned()),
                ("presence", "", format!("room@{name}/nick")),
                ("message", nested.as_str(), format!("r@{name}")),
            ]
            .into_iter()
            .enumerate()
            {
                let type_ = if kind == "iq" { " type='get'" } else { "" };
                let end = if extra == nested { &heap } else { "" };
                stage.hears(
                    NEAR,
                    &format!(
                        "<{kind}{type_} id='{n}' from='j@HALL.example/h' to='{to}'>{extra}{end}</{kind}>"
                    ),
                );
                let back = stage.reported();
                assert_eq!(back.len(), 1, "{to}: {back:?}");
                let (pair, error) = &back[0];
                assert_eq!((pair.sender.as_str(), pair.target.as_str()), (read, "hall.example"));
                let ends = format!("<{kind} type='error' id='{n}' to='j@hall.example/h' from='{to}'>");
                assert!(error.starts_with(&ends), "{error}");
                assert!(error.contains("<error type='modify'><jid-malformed "), "{error}");
                assert!(
                    error.contains(&format!("{to}: the name in an address is no domain name (no-domain)")),
                    "{error}"
                );
            }
            for mute in [
                format!("<message type='error' from='j@hall.example/h' to='r@{name}'/>"),
                format!("<iq type='result' id='1' from='j@hall.example/h' to='r@{name}'/>"),
                format!("<presence type='unavailable' from='j@hall.example/h' to='r@{name}'/>"),
                format!("<presence type='probe' from='j@hall.example' to='r@{name}'/>"),
            ] {
                stage.hears(NEAR, &mute);
                assert_eq!(stage.reported(), [], "{mute}");
            }
            stage.hears(NEAR, "<message from='j@hall.example/h' to='r@friend.example'/>");
            assert_eq!((stage.handed().len(), stage.said(NEAR).as_str()), (1, ""), "{name}");
        }
    }
}

// The same where nobody can speak in the name: who hears it reads which address it was.
#[test]
fn what_a_backend_sends_to_nobody_comes_back_from_whom_the_stream_is_for() {
    for to in ["x@", "x@/r", "a b@c d.example", "x@a&amp;b.example", "x@y@z.example"] {
        let mut stage = Stage::new(home(), any(), Flow::S2sOut, None);
        stage.hears(NEAR, &header("hall.example", "friend.example"));
        stage.said(NEAR);
        stage.hears(
            NEAR,
            &format!("<message id='1' from='j@hall.example/h' to='{to}'><body>b</body></message>"),
        );
        let back = stage.reported();
        assert_eq!(back[0].0, pair("friend.example", "hall.example"), "{to}");
        assert!(back[0].1.contains(" to='j@hall.example/h' from='friend.example'>"), "{back:?}");
        assert!(back[0].1.contains(&format!("{to}: the name in an address is no domain name")), "{back:?}");
    }
}

// RLY-01, RLY-09: nobody can say who has sent a stanza without a sender, or with one that is no address: the server that wrote it hears
// so itself, under the name of its stream or of the last pair on that; nobody where there is neither. No stanza of others is lost for it.
#[test]
fn what_a_backend_sends_from_nobody_is_told_to_the_server_itself() {
    let stanza = "<message from='j@hall.example/h' to='r@friend.example'/>";
    let long = "<a>".repeat(300) + &"</a>".repeat(300);
    for sender in
        ["", "from=''", "from='x@'", "from='x@/r'", "from='a b@c d.example'", "from='x@y@z.example'"]
    {
        for (head, claims, told) in [(" from='hall.example'", "", true), ("", stanza, true), ("", "", false)]
        {
            for (kind, extra, inside, answered) in [
                ("message", "", "<body>b</body>", true),
                ("iq", " type='get'", "<ping xmlns='urn:xmpp:ping'/>", true),
                ("message", "", long.as_str(), true),
                ("message", " type='error'", "", false),
                ("iq", " type='result'", "", false),
                ("presence", " type='unavailable'", "", false),
            ] {
                let mut stage = Stage::new(home(), any(), Flow::S2sOut, None);
                stage.hears(NEAR, &format!("<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams'{head} to='friend.example' version='1.0'>"));
                stage.hears(NEAR, claims);
                stage.handed();
                stage.said(NEAR);
                stage.hears(
                    NEAR,
                    &format!("<{kind}{extra} id='1' {sender} to='r@friend.example'>{inside}</{kind}>"),
                );
                let back = stage.reported();
                let case = format!("{kind}{extra} {sender}{head}: {back:?}");
                assert_eq!(back.len(), usize::from(told && answered), "{case}");
                if let [(to, error)] = &back[..] {
                    assert_eq!(*to, pair("friend.example", "hall.example"), "{case}");
                    let ends =
                        format!("<{kind} type='error' id='1' to='hall.example' from='r@friend.example'>");
                    assert!(error.starts_with(&ends) && error.contains("<jid-malformed "), "{case}");
                }
                stage.hears(NEAR, stanza);
                assert_eq!((stage.handed().len(), stage.said(NEAR).as_str()), (1, ""), "{case}");
            }
        }
    }
}

// DB-62: a component whose name is no domain is one that cannot be configured; its users read why nothing of it passes.
#[test]
fn what_a_backend_sends_from_no_domain_comes_back_too() {
    let mut stage = Stage::new(home(), any(), Flow::S2sOut, None);
    stage.hears(NEAR, &header("conf_room.hall.example", "friend.example"));
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='conf_room.hall.example' to='friend.example'>k</db:result>");
    let valid = "<db:result from='friend.example' to='conf_room.hall.example' type='valid'/>";
    assert_eq!(stage.said(NEAR), valid);
    stage.hears(NEAR, "<message id='1' from='r@conf_room.hall.example/n' to='R@FRIEND.example'/>");
    let back = stage.reported();
    assert_eq!(back[0].0.target.as_str(), "conf_room.hall.example");
    assert!(back[0].1.contains(" to='r@conf_room.hall.example/n' from='R@friend.example'>"), "{back:?}");
    assert!(
        back[0].1.contains("r@conf_room.hall.example/n: the name in an address is no domain name"),
        "{back:?}"
    );
    assert_eq!((stage.handed().len(), stage.said(NEAR).as_str()), (0, ""));
}

// JID-07: an error goes back on a stream that was proven for the canonical name, and from no other name it would pass there.
#[test]
fn an_error_comes_from_the_name_that_its_stream_was_proven_for() {
    let mut stage = Stage::new(home(), policy(Federation::Listed, "version: v1\n"), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "xn--mnchen-3ya.example"));
    stage.hears(NEAR, "<message id='1' from='j@HALL.example/h' to='r@xn--mnchen-3ya.example/x'/>");
    let reported = stage.reported();
    let (to, error) = &reported[0];
    assert_eq!(*to, pair("m\u{fc}nchen.example", "hall.example"));
    assert!(error.contains(" to='j@hall.example/h' from='r@m\u{fc}nchen.example/x'"), "{error}");
}

// XML-19, L-inside-pairs: nothing of what is more is lost, nothing closes, and what was proven by key stays so.
#[test]
fn more_pairs_than_are_kept_at_hand_open_anew_at_their_next_stanza() {
    for keys_by in [KeysBy::Address(Networks::default()), KeysBy::Verify] {
        let mut home = home();
        home.limits.inside_pairs = 10;
        home.hosted.get_mut(&domain("hall.example")).unwrap().keys_by = keys_by.clone();
        let mut stage = Stage::new(home, any(), Flow::S2sOut, None);
        stage.hears(NEAR, &header("hall.example", "d0.example"));
        stage.said(NEAR);
        for n in 0..45 {
            stage.hears(NEAR, &format!("<db:result from='hall.example' to='d{n}.example'>k</db:result>"));
            let asked = stage.effects.iter().rev().find_map(|effect| match effect {
                Effect::Verify(claim, _) => Some(*claim),
                _ => None,
            });
            stage.effects.retain(|effect| !matches!(effect, Effect::Verify(..)));
            assert_eq!(asked.is_some(), matches!(keys_by, KeysBy::Verify));
            if let Some(claim) = asked {
                stage.step(NEAR, Input::Verified(claim, KeyAnswer::Valid));
            }
            assert!(stage.said(NEAR).contains("type='valid'"), "{n}");
        }
        for round in 0..2 {
            for n in 0..45 {
                stage.hears(
                    NEAR,
                    &format!("<message from='a@hall.example/x' to='b@d{n}.example' id='{round}'/>"),
                );
            }
        }
        assert_eq!(stage.handed().len(), 90, "{keys_by:?}");
        assert!(stage.reported().is_empty());
        assert_eq!(stage.said(NEAR), "", "the stream goes on");
    }
}

// POL-07: a new policy holds for the next stanza, on the same stream.
#[test]
fn a_new_policy_holds_for_the_next_stanza_of_a_backend() {
    let one_way = |direction: &str| {
        let rules =
            format!("rules:\n  - {{ name: in, domains: [friend.example], direction: {direction} }}\n");
        policy(Federation::Listed, &format!("version: v1\n{rules}"))
    };
    let mut stage = Stage::new(home(), one_way("inbound"), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "friend.example"));
    let message = "<message from='j@hall.example/h' to='r@friend.example'/>";
    stage.hears(NEAR, message);
    let back = stage.reported();
    assert!(
        back.len() == 1 && back[0].1.contains("<forbidden ") && back[0].1.contains("wrong-direction"),
        "{back:?}"
    );
    stage.step(NEAR, Input::Policy(one_way("both")));
    stage.hears(NEAR, message);
    assert_eq!((stage.handed().len(), stage.reported().len()), (1, 0));
    stage.step(NEAR, Input::Policy(one_way("inbound")));
    stage.hears(NEAR, message);
    assert_eq!((stage.handed().len(), stage.reported().len()), (0, 1));
    assert_eq!(stage.said(NEAR).matches("</stream:stream>").count(), 0);
}

// T-idle-s2s: the leg of a quiet pair closes, its end is told once whether or not the peer closes in answer, and what comes while
// it closes goes over another.
#[test]
fn a_quiet_pair_of_a_backend_ends_once_and_opens_anew() {
    let message = "<message from='a@hall.example/x' to='b@friend.example'/>";
    for answered in [true, false] {
        let (mut stage, far) = outbound(secured("", &["friend.example"]));
        stage.wait(Timeouts::default().idle);
        assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
        stage.step(NEAR, Input::Queue(Load::Own, message.into()));
        if answered {
            stage.hears(Side::Far(far), "</stream:stream>");
        } else {
            stage.wait(Timeouts::default().close);
        }
        let ended = |e: &&Event| matches!(e, Event::Ended { .. });
        assert_eq!(stage.notes().into_iter().filter(ended).count(), 1, "{answered}");
        assert_eq!(stage.connects().len(), 2);
        assert!(stage.reported().is_empty());
    }
}

// Tigase writes what waits onto the connection that brought only its question, and closes.
#[test]
fn a_stanza_on_a_connection_for_a_question_is_taken() {
    let mut stage = Stage::new(home(), any(), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "a.example"));
    stage.hears(NEAR, "<db:verify from='hall.example' to='b.example' id='s1'>key</db:verify>");
    stage.hears(NEAR, "<message from='ann@hall.example/x' to='bob@b.example' id='m1'/></stream:stream>");
    assert_eq!(stage.handed().len(), 1);
}

// POL-08: from one backend to another, judged by both; and never back to the same.
#[test]
fn backends_speak_with_each_other_where_both_policies_allow() {
    let mut home = home();
    let elsewhere = Networks::new(vec!["10.0.0.6/32".parse().unwrap()]);
    let annex = home.hosted.get_mut(&domain("annex.example")).unwrap();
    (annex.keys_by, annex.server) = (KeysBy::Address(elsewhere), 1);
    let message = "<message from='a@hall.example/x' to='b@annex.example' id='1'>\
        <stanza-id xmlns='urn:xmpp:sid:0' by='hall.example' id='1'/>\
        <stanza-id xmlns='urn:xmpp:sid:0' by='annex.example' id='2'/></message>";
    let deny = "version: v1\nrules:\n  - { name: no, domains: [hall.example], verdict: deny }\n";
    for (policy, passes) in [(any(), 1), (policy(Federation::Any, deny), 0)] {
        let mut stage = Stage::new(home.clone(), policy, Flow::S2sOut, None);
        stage.hears(NEAR, &header("hall.example", "annex.example"));
        stage.hears(NEAR, message);
        let handed = stage.handed();
        assert_eq!((handed.len(), stage.reported().len()), (passes, 1 - passes));
        // RLY-12: "local" means of the receiving backend.
        assert!(
            handed.iter().all(|stanza| stanza.contains("id='1'") && !stanza.contains("by='annex.example'"))
        );
    }
    let mut stage = courier(home, any(), "hall.example", "annex.example", Load::Own);
    let (far, destination) = stage.connects()[0].clone();
    assert_eq!(destination, Destination::Backend(domain("annex.example")));
    stage.step(NEAR, Input::Queue(Load::Own, message.into()));
    stand(&mut stage, far, "hall.example", "annex.example");
    assert_eq!(stage.passed().len(), 1);
}

// DB-69: a report stream that is refused is opened anew, three times within ten seconds; and one that ends with `invalid-from`
// within a second after its `valid` says it all once more.
#[test]
fn a_report_stream_is_opened_anew() {
    let report = "<message type='error' from='b@friend.example' to='a@hall.example/x' id='1'/>";
    let mut stage = courier(home(), any(), "friend.example", "hall.example", Load::Report);
    stage.step(NEAR, Input::Queue(Load::Report, report.into()));
    for n in 0..3 {
        let far = stage.connects().last().unwrap().0;
        assert_eq!(stage.connects().len(), n + 1);
        stage.step(Side::Far(far), Input::Unreachable(Reason::BackendDown.into()));
        assert!(!stage.relay.is_done());
        stage.wait(Duration::from_secs(4));
    }
    let far = stage.connects().last().unwrap().0;
    stand(&mut stage, far, "friend.example", "hall.example");
    assert_eq!(stage.passed().len(), 1);
    stage.hears(
        Side::Far(far),
        "<stream:error><invalid-from xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    );
    stage.wait(Duration::from_secs(4));
    let again = stage.connects().last().unwrap().0;
    assert_ne!(far, again);
    stand(&mut stage, again, "friend.example", "hall.example");
    assert_eq!(stage.passed(), [(again, report.to_owned())]);
    // Nothing comes for a minute, or somebody else needs the place.
    stage.step(NEAR, Input::Yield);
    assert!(stage.said(Side::Far(again)).ends_with("</stream:stream>"));
}

/// A server in the world goes so many steps with us: it takes the connection, greets us, and offers dialback.
fn goes_along(stage: &mut Stage, far: FarId, steps: usize) {
    if steps > 0 {
        stage.connected(far, Some(secured("", &["friend.example"])));
    }
    let features = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>";
    for said in [answer("one", true).as_str(), features].into_iter().take(steps.saturating_sub(1)) {
        stage.hears(Side::Far(far), said);
    }
}

/// A stanza that waits for a server that says nothing more once it has gone so far.
fn hangs(steps: usize) -> (Stage, FarId) {
    let mut stage = courier(home(), any(), "hall.example", "friend.example", Load::Own);
    let stanza = "<message from='a@hall.example' to='b@friend.example'/>";
    stage.step(NEAR, Input::Queue(Load::Own, stanza.into()));
    let (far, _) = stage.connects()[0].clone();
    goes_along(&mut stage, far, steps);
    (stage, far)
}

// CLS-07: "a stream it proved .. is a reason to try at once, once": in place of an attempt of which nothing is heard, wherever it
// hangs; what waits goes over the next one.
#[test]
fn a_sign_of_life_takes_the_place_of_an_attempt_that_hangs() {
    for steps in 0..=3 {
        let (mut stage, far) = hangs(steps);
        stage.wait(Duration::from_secs(5));
        stage.step(NEAR, Input::Alive);
        let (again, _) = stage.connects().last().unwrap().clone();
        assert_ne!(far, again, "{steps}");
        assert!(stage.has(|effect| matches!(effect, Effect::Cut(Side::Far(id)) if *id == far)), "{steps}");
        assert!(!stage.has(|effect| matches!(effect, Effect::Fared(..))), "nothing is held against it");
        // What the old one still says is heard no more.
        stage.hears(Side::Far(far), "<db:result from='friend.example' to='hall.example' type='valid'/>");
        assert!(stage.passed().is_empty());
        goes_along(&mut stage, again, 3);
        stage.hears(Side::Far(again), "<db:result from='friend.example' to='hall.example' type='valid'/>");
        let passed = stage.passed();
        assert_eq!((passed.len(), passed[0].0), (1, again), "{steps}: once");
        // Nothing follows from another sign.
        stage.step(NEAR, Input::Alive);
        assert_eq!(stage.connects().len(), 2);
    }
}

// An attempt of which something was heard just now is given a moment, and one that goes on is none that hangs; a domain that comes
// and goes does not keep every attempt from its end.
#[test]
fn an_attempt_that_goes_on_is_left_alone() {
    let (mut stage, far) = hangs(2);
    stage.step(NEAR, Input::Alive);
    assert_eq!(stage.connects().len(), 1, "it was heard just now");
    stage.hears(
        Side::Far(far),
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
    );
    stage.wait(Duration::from_secs(5));
    assert_eq!(stage.connects().len(), 1, "it went on after the sign");
    let (mut stage, _) = hangs(2);
    stage.step(NEAR, Input::Alive);
    stage.wait(Duration::from_millis(900));
    assert_eq!(stage.connects().len(), 1);
    stage.wait(Duration::from_millis(200));
    assert_eq!(stage.connects().len(), 2, "nothing was heard for a moment");
    for _ in 0..60 {
        stage.step(NEAR, Input::Alive);
        stage.wait(Duration::from_millis(500));
    }
    let attempts = stage.connects().len();
    assert!((4..=16).contains(&attempts), "{attempts} in half a minute");
}

// EXT-08, XEP-0178: however a server takes its leave after a failure of EXTERNAL, dialback is tried on a new connection.
#[test]
fn a_server_may_leave_after_external_failed_in_any_way() {
    let failure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>";
    let error = "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    for leave in ["</stream:stream>", "", error, &format!("{error}</stream:stream>")] {
        for pause in [false, true] {
            let mut stage = courier(home(), any(), "hall.example", "friend.example", Load::Own);
            let (far, _) = stage.connects()[0].clone();
            stage.connected(far, Some(secured("", &["friend.example"])));
            let side = Side::Far(far);
            stage.hears(side, &answer("one", true));
            stage.hears(
                side,
                "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
                 </mechanisms><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
            );
            assert!(stage.said(side).contains("<auth "));
            stage.hears(side, failure);
            if pause {
                stage.wait(Duration::from_millis(50));
            }
            if leave.is_empty() {
                stage.step(side, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
            } else {
                stage.hears(side, leave);
            }
            assert!(stage.has(|e| matches!(e, Effect::Retry(_, AddressChoice::Same))), "{leave}");
            stage.connected(far, Some(secured("", &["friend.example"])));
            stage.hears(side, &answer("two", true));
            stage.said(side);
            stage.hears(
                side,
                "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
                 </mechanisms><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
            );
            assert!(stage.said(side).contains("<db:result "), "{leave}");
        }
    }
}

// "one broken TLS handshake with a peer is tried once more at once, before anything is refused for it", in whatever way STARTTLS
// breaks; one in ten of Tigase's does. What the peer says in a word of its own is no break, nor is silence, for which whoever waits would
// wait twice. Each candidate has a try more of its own.
#[test]
fn a_broken_handshake_is_tried_once_more() {
    let proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    let gone =
        |reason| move |stage: &mut Stage, side| stage.step(side, Input::Gone { reason, unsent: Vec::new() });
    let silent = |stage: &mut Stage, _| stage.wait(Duration::from_secs(61));
    let after = |seconds| {
        move |stage: &mut Stage, side| {
            stage.wait(Duration::from_secs(seconds));
            stage.step(side, Input::Gone { reason: Reason::TlsFailed, unsent: Vec::new() });
        }
    };
    let hears = |said: &'static str| move |stage: &mut Stage, side| stage.hears(side, said);
    type Break<'a> = &'a dyn Fn(&mut Stage, Side);
    let again = [AddressChoice::Same, AddressChoice::Next, AddressChoice::Same];
    let never = [AddressChoice::Next, AddressChoice::Next, AddressChoice::Next];
    let ways: [(&str, &str, Break<'_>, _); 14] = [
        ("its handshake breaks", proceed, &gone(Reason::TlsFailed), &again),
        ("cut in the handshake", proceed, &gone(Reason::ConnectionLost), &again),
        ("words behind proceed", proceed, &gone(Reason::EarlyOctets), &again),
        ("its handshake breaks late", proceed, &after(4), &again),
        ("its handshake takes longer than it may", proceed, &after(5), &never),
        ("silent in the handshake", proceed, &silent, &never),
        ("silent to starttls", "", &silent, &never),
        ("cut instead of proceed", "", &gone(Reason::ConnectionLost), &again),
        ("closed instead of proceed", "", &hears("</stream:stream>"), &again),
        ("no XML instead of proceed", "", &hears("\u{16}<>HTTP/1.1 400 Bad Request"), &again),
        ("no end of a word", "", &|stage, side| stage.step(side, Input::Stalled), &never),
        ("ended by us", "", &|stage, side| stage.step(side, Input::Close(Reason::BackendSlow)), &never),
        ("failure", "", &hears("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), &never),
        (
            "stream error",
            "",
            &hears(
                "<stream:error><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
            ),
            &never,
        ),
    ];
    for (name, said, breaks, expected) in ways {
        let mut home = home();
        home.timeouts.tls = Duration::from_secs(5);
        let mut stage = courier(home, any(), "hall.example", "friend.example", Load::Own);
        let (far, _) = stage.connects()[0].clone();
        let side = Side::Far(far);
        let mut tried = Vec::new();
        for _ in 0..3 {
            stage.connected(far, None);
            stage.hears(side, &answer("one", true));
            let starttls =
                "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
            stage.hears(side, starttls);
            assert!(stage.said(side).contains("<starttls "), "{name}");
            stage.hears(side, said);
            stage.effects.clear();
            breaks(&mut stage, side);
            tried.extend(stage.effects.iter().find_map(|e| match e {
                Effect::Retry(_, candidate) => Some(candidate.clone()),
                _ => None,
            }));
        }
        assert_eq!(&tried, expected, "{name}");
    }
}

// CLS-06: a backend that ends an idle stream of ours is no fault towards the peer.
#[test]
fn a_backend_that_ends_an_idle_stream_costs_the_peer_no_error() {
    let idle = "<stream:error><connection-timeout xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    for (after, end, plain) in
        [(0, idle, true), (0, "</stream:stream>", true), (120, "", true), (0, "", false)]
    {
        let mut stage = inbound(home(), any(), "friend.example", &[]);
        let far = admit(&mut stage, "friend.example", "hall.example");
        stage.said(NEAR);
        stage.wait(Duration::from_secs(after));
        if end.is_empty() {
            stage.step(Side::Far(far), Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
        } else {
            stage.hears(Side::Far(far), end);
        }
        let said = stage.said(NEAR);
        assert_eq!(said == "</stream:stream>", plain, "{end}: {said}");
    }
}

// STR-06: a domain that was served here once is gone, and not merely unknown; the header of the error does not name it.
#[test]
fn a_retired_domain_is_gone() {
    let retired = || {
        let mut home = home();
        home.retired.insert(domain("old.example"));
        home
    };
    for (to, condition) in [("old.example", "<host-gone "), ("other.example", "<host-unknown ")] {
        let mut stage = Stage::new(retired(), any(), Flow::S2sIn, None);
        stage.hears(NEAR, &header("friend.example", to));
        let said = stage.said(NEAR);
        assert!(said.contains(condition) && !said.contains(to), "{said}");
        let mut stage = Stage::new(retired(), any(), Flow::C2s, None);
        stage.hears(NEAR, &header("", to).replace("jabber:server'", "jabber:client'"));
        let said = stage.said(NEAR);
        assert!(said.contains(condition) && !said.contains(to), "{said}");
    }
}

// DB-30, CRT-11: a certificate that names the other sender domain, too, spares the question; one that does not, does not.
#[test]
fn a_certificate_that_covers_a_second_domain_spares_the_question() {
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example", "rooms.friend.example"]);
    stage.hears(NEAR, "<db:result from='rooms.friend.example' to='hall.example'>k</db:result>");
    assert!(!stage.has(|e| matches!(e, Effect::Verify(..))));
    let (far, _) = stage.connects()[0].clone();
    stand(&mut stage, far, "rooms.friend.example", "hall.example");
    assert!(stage.said(NEAR).contains("type='valid'"));
    let methods: Vec<_> = stage
        .notes()
        .into_iter()
        .filter_map(|event| if let Event::Admitted { method, .. } = event { Some(*method) } else { None })
        .collect();
    assert_eq!(methods, [Method::Certificate]);
    stage.hears(NEAR, "<db:result from='bar.friend.example' to='hall.example'>k</db:result>");
    assert!(stage.has(|e| matches!(e, Effect::Verify(..))));
}

// EXT-04: without an initial response the name is that of the header, as with an empty one.
#[test]
fn external_needs_no_initial_response() {
    for response in ["", "="] {
        let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
        stage.said(NEAR);
        stage.hears(
            NEAR,
            &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{response}</auth>"),
        );
        let (far, _) = stage.connects()[0].clone();
        stand(&mut stage, far, "friend.example", "hall.example");
        assert_eq!(stage.said(NEAR), "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "{response}");
    }
}

// STR-04, STR-05, STR-11, STR-12, STR-13: what our headers and features hold, before TLS and under it.
#[test]
fn our_headers_and_features_hold_what_they_must_and_no_more() {
    let mut stage = Stage::new(home(), any(), Flow::S2sIn, None);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    let clear = stage.said(NEAR);
    for part in [
        " from='hall.example'",
        " to='friend.example'",
        " version='1.0'",
        " xml:lang='en'",
        " xmlns:db='jabber:server:dialback'",
    ] {
        assert!(clear.contains(part), "{part}: {clear}");
    }
    assert!(clear.contains("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"));
    assert!(!clear.contains("mechanisms") && !clear.contains("<dialback"), "{clear}");
    stage.hears(NEAR, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    // TLS-02, STR-14: the answer, and not an octet more before the handshake.
    assert_eq!(stage.said(NEAR), "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    stage.step(NEAR, Input::Secured(secured("hall.example", &[])));
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    let secure = stage.said(NEAR);
    assert!(!secure.contains("starttls") && !secure.contains("mechanisms"), "{secure}");
    assert!(secure.contains("<errors/>") && secure.contains("<max-bytes>"), "{secure}");
    // SM-08: after TLS, and not before.
    assert!(secure.contains("<bidi xmlns='urn:xmpp:features:bidi'/>") && !clear.contains("bidi"), "{secure}");
    let ids = [attribute(&clear, "id"), attribute(&secure, "id")];
    assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() >= 22 && !id.contains(' ')), "{ids:?}");
}

// DB-52: the peer says that the key is invalid: what waited goes back as final, and that stream is used for nothing more.
#[test]
fn an_invalid_key_of_ours_sends_back_what_waited() {
    let mut stage = courier(home(), any(), "hall.example", "friend.example", Load::Own);
    let (far, _) = stage.connects()[0].clone();
    stage.step(
        NEAR,
        Input::Queue(Load::Own, "<message id='1' from='j@hall.example' to='r@friend.example'/>".into()),
    );
    stage.connected(far, Some(secured("", &["friend.example"])));
    stage.hears(Side::Far(far), &answer("one", true));
    let features = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>";
    stage.hears(Side::Far(far), features);
    stage.hears(Side::Far(far), "<db:result from='friend.example' to='hall.example' type='invalid'/>");
    let back = stage.reported();
    assert_eq!(back.len(), 1);
    assert!(back[0].1.contains("<error type='cancel'><internal-server-error "), "{}", back[0].1);
    assert!(stage.said(Side::Far(far)).contains("</stream:stream>") && stage.passed().is_empty());
    assert_eq!(stage.connects().len(), 1);
}

// TLS-04: on direct TLS there is no STARTTLS to be had.
#[test]
fn a_channel_that_began_with_tls_takes_no_starttls() {
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    assert!(!stage.said(NEAR).contains("starttls"));
    stage.hears(NEAR, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(stage.said(NEAR), "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>");
}

// BE-01: a backend that does not believe our key, or says nothing, is doubted; one that is down is not.
#[test]
fn a_backend_that_does_not_believe_us_is_looked_into() {
    let doubts = |stage: &Stage| stage.effects.iter().filter(|e| matches!(e, Effect::Doubted(..))).count();
    let claimed = || {
        let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
        stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
        let (far, _) = stage.connects()[0].clone();
        (stage, far)
    };
    let (mut stage, far) = claimed();
    stage.connected(far, None);
    stage.hears(Side::Far(far), &answer("L-301", false));
    stage.hears(Side::Far(far), "<db:result from='hall.example' to='friend.example' type='invalid'/>");
    assert_eq!(doubts(&stage), 1);
    let (mut stage, far) = claimed();
    stage.connected(far, None);
    stage.hears(Side::Far(far), &answer("L-301", false));
    stage.wait(Duration::from_secs(31));
    assert_eq!(doubts(&stage), 1);
    let (mut stage, far) = claimed();
    stage.step(Side::Far(far), Input::Unreachable(Reason::BackendDown.into()));
    assert_eq!(doubts(&stage), 0);
}

// See-other-host (ERR table, 19): followed under TLS only, to whoever proves the same name, and twice at most.
#[test]
fn a_server_that_is_elsewhere_is_followed_under_tls_and_not_for_ever() {
    let moved = |to: &str| {
        format!(
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{to}</see-other-host></stream:error>"
        )
    };
    let retries = |stage: &Stage| -> Vec<AddressChoice> {
        let retry =
            |e: &Effect| if let Effect::Retry(_, candidate) = e { Some(candidate.clone()) } else { None };
        stage.effects.iter().filter_map(retry).collect()
    };
    let called = || {
        let stage = courier(home(), any(), "hall.example", "friend.example", Load::Own);
        let (far, _) = stage.connects()[0].clone();
        (stage, far)
    };
    // In clear anybody may have said it.
    let (mut stage, far) = called();
    stage.connected(far, None);
    stage.hears(Side::Far(far), &answer("one", true));
    stage.hears(Side::Far(far), &moved("other.example"));
    assert_eq!(retries(&stage), [AddressChoice::Next]);
    let (mut stage, far) = called();
    for to in ["other.example:5270", "[2001:db8::7]:5280", "third.example"] {
        stage.connected(far, Some(secured("", &["friend.example"])));
        stage.hears(Side::Far(far), &answer("one", true));
        stage.hears(Side::Far(far), &moved(to));
    }
    let elsewhere = |host: &str, port| AddressChoice::Elsewhere(host.into(), port);
    assert_eq!(
        retries(&stage),
        [elsewhere("other.example", 5270), elsewhere("2001:db8::7", 5280), AddressChoice::Next]
    );
    // CRT-01: the name to prove is still the one that was called.
    let (mut stage, far) = called();
    stage.connected(far, Some(secured("", &["friend.example"])));
    stage.hears(Side::Far(far), &answer("one", true));
    stage.hears(Side::Far(far), &moved("other.example"));
    stage.said(Side::Far(far));
    stage.connected(far, Some(secured("", &["other.example"])));
    assert_eq!(stage.said(Side::Far(far)), "", "nothing is said to it");
    assert_eq!(retries(&stage), [elsewhere("other.example", 5269), AddressChoice::Next]);
    // What names no host is an error like any other.
    for to in ["", "a b", "other.example:x", "[::1", "192.0.2.1:99999"] {
        let (mut stage, far) = called();
        stage.connected(far, Some(secured("", &["friend.example"])));
        stage.hears(Side::Far(far), &answer("one", true));
        stage.hears(Side::Far(far), &moved(to));
        assert_eq!(retries(&stage), [AddressChoice::Next], "{to}");
    }
}

// DB-06: every pending operation ends.
#[test]
fn a_silent_backend_ends_the_claim() {
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, None);
    stage.hears(Side::Far(far), &answer("L", false));
    stage.wait(Duration::from_secs(31));
    assert!(stage.said(NEAR).contains("<remote-server-timeout "));
}

// CLU-02: a node that was asked about a key may die with the question, and its server may say nothing then; so does jabberd2 as long as it
// believes that the name is not there. The claim is made anew, once to a stranger, three times inside; and never on the same stream, where a
// server that was only slow (Prosody) takes what we write behind its first answer for unproven. Whoever never answers ends as ever.
#[test]
fn a_claim_without_an_answer_is_made_anew_on_a_new_connection() {
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
    let (far, _) = stage.connects()[0].clone();
    let inside = (&mut stage, far, "L", "friend.example", "hall.example");
    let mut outside = courier(home(), any(), "hall.example", "friend.example", Load::Own);
    let (to_world, _) = outside.connects()[0].clone();
    for (stage, far, id, from, to) in
        [inside, (&mut outside, to_world, "W", "hall.example", "friend.example")]
    {
        let side = Side::Far(far);
        let world = id == "W";
        let claims = |stage: &mut Stage, id: &str| {
            stage.connected(far, world.then(|| secured("", &["friend.example"])));
            stage.hears(side, &answer(id, world));
            if world {
                stage.hears(
                    side,
                    "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
                );
            }
            let said = stage.said(side);
            said[said.find("<db:result ").expect("a claim")..].to_owned()
        };
        let same = |effect: &&Effect| matches!(effect, Effect::Retry(_, AddressChoice::Same));
        let anew = |stage: &Stage| stage.effects.iter().filter(same).count();
        let times = if world { 1 } else { 3 };
        let mut last = claims(stage, id);
        for time in 1..=times {
            stage.wait(Duration::from_secs(2));
            assert_eq!(anew(stage), time - 1, "an answer may take a moment");
            stage.wait(Duration::from_secs(1));
            assert_eq!((stage.said(side).as_str(), anew(stage)), ("</stream:stream>", time), "time {time}");
            let next = claims(stage, &format!("{id}{time}"));
            assert_ne!(next, last, "a key is bound to its stream (DB-12)");
            last = next;
        }
        stage.wait(Duration::from_secs(15));
        assert_eq!((stage.said(side).as_str(), anew(stage)), ("", times), "no more often");
        stage.hears(side, &format!("<db:result from='{to}' to='{from}' type='valid'/>"));
        assert!(stage.has(|e| matches!(e, Effect::Note(note) if format!("{note:?}").contains("Valid"))));
    }
}

// Drain: system-shutdown, and what is still on its way is taken.
#[test]
fn a_drained_stream_takes_what_is_still_on_its_way() {
    let mut stage = inbound(home(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.step(NEAR, Input::Drain);
    assert!(stage.said(NEAR).contains("<system-shutdown "));
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
    stage.hears(NEAR, "</stream:stream>");
    stage.wait(Duration::from_secs(6));
    assert!(stage.relay.is_done());
    let ended = stage.notes().into_iter().any(
        |e| matches!(e, Event::Ended { record } if record.reason == Reason::Shutdown && record.stanzas == 1),
    );
    assert!(ended);
}

// D4, requirements 0.2: a stream to the server behind that gives way to others is closed in good order, the peer's own goes on, and
// what it brings meanwhile is carried; at the end of the last one, too, nothing ends with it.
#[test]
fn a_leg_that_gives_way_ends_and_its_near_stream_does_not() {
    let mut stage = inbound(home(), any(), "friend.example", &["friend.example"]);
    let far = admit(&mut stage, "friend.example", "hall.example");
    stage.step(Side::Far(far), Input::Yield);
    let message = "<message from='a@friend.example' to='b@hall.example'/>";
    stage.hears(NEAR, message);
    assert_eq!(stage.carried(), [(pair("friend.example", "hall.example"), message.to_owned())]);
    // Asked twice, it closes once; and the other side closes, too.
    stage.step(Side::Far(far), Input::Yield);
    let said = stage.said(Side::Far(far));
    assert!(said.ends_with("</stream:stream>") && said.matches("</stream:stream>").count() == 1, "{said}");
    stage.hears(Side::Far(far), "</stream:stream>");
    stage.hears(NEAR, message);
    assert_eq!(stage.carried().len(), 1);
    assert!(!stage.said(NEAR).contains("</stream:stream>"));
}

/// A peer with a certificate that nobody knows, under a rule with this condition, and its header.
fn named_by_itself(identity: &str, dnssec: bool) -> Stage {
    let text = format!(
        "version: v1\nrules:\n  - {{ name: published, domains: [friend.example, cousin.example], identity: [{identity}] }}\n"
    );
    let shown = Some(untrusted("hall.example", "nobody.example"));
    let home = Home { dnssec, ..home() };
    let mut stage = Stage::new(home, policy(Federation::Listed, &text), Flow::S2sIn, shown);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage
}

fn inquiries(stage: &Stage) -> Vec<(String, Sought)> {
    let asked = stage.effects.iter().filter_map(|effect| match effect {
        Effect::Inquire(pair, sought) => Some((pair.to_string(), *sought)),
        _ => None,
    });
    asked.collect()
}

fn dane(domain_name: &str, dane: Dane) -> Evidence {
    Evidence { dane, ..Evidence::none(domain(domain_name)) }
}

// DNS-15: "such a proof enables EXTERNAL": the header waits for it, and for it alone. Without it a rule that takes nothing less ends
// the stream (DNS-18).
#[test]
fn a_header_waits_for_what_its_domain_publishes() {
    let proven = Dane::Proven(Usage::DaneEe);
    for (found, external) in [
        (dane("friend.example", proven), true),
        (dane("friend.example", Dane::Unlisted), false),
        (dane("friend.example", Dane::Unpublished), false),
        (dane("friend.example", Dane::Unknown(Cause::DnsBogus)), false),
    ] {
        let mut stage = named_by_itself("dane", true);
        let sought = Sought { dane: true, posh: false };
        assert_eq!(inquiries(&stage), [("friend.example>hall.example".to_owned(), sought)]);
        assert!(stage.said(NEAR).is_empty() && !stage.relay.wants_read(NEAR));
        // What is found of another domain, asked for or not, answers nothing.
        stage.step(NEAR, Input::Inquired(dane("cousin.example", proven)));
        assert!(stage.said(NEAR).is_empty() && !stage.relay.wants_read(NEAR));
        stage.step(NEAR, Input::Inquired(found.clone()));
        let said = stage.said(NEAR);
        assert_eq!(said.contains("<mechanism>EXTERNAL</mechanism>"), external, "{found:?}: {said}");
        assert_eq!(said.contains("<policy-violation "), !external, "{found:?}: {said}");
        // Once more, late: nothing.
        stage.step(NEAR, Input::Inquired(dane("friend.example", proven)));
        assert!(stage.said(NEAR).is_empty());
    }
    // By POSH, where that is named; then nothing of the DNS is asked without signatures.
    let mut stage = named_by_itself("posh", false);
    assert_eq!(inquiries(&stage)[0].1, Sought { dane: false, posh: true });
    stage.step(
        NEAR,
        Input::Inquired(Evidence { posh: Posh::Proven, ..dane("friend.example", Dane::Unasked) }),
    );
    assert!(stage.said(NEAR).contains("<mechanism>EXTERNAL</mechanism>"));
}

// Each wait has its end: what was not found in time is not there, and the peer is not late meanwhile.
#[test]
fn what_is_not_found_in_time_is_not_waited_for() {
    let mut stage = named_by_itself("dane, dialback", true);
    let begun = stage.now;
    let times = Timeouts::default();
    assert_eq!(stage.relay.deadline(), Some(begun + times.dialback), "not T-header: the header is here");
    stage.now = begun + times.dialback;
    stage.step(NEAR, Input::Expired);
    let said = stage.said(NEAR);
    assert!(said.contains("urn:xmpp:features:dialback") && !said.contains("EXTERNAL"), "{said}");
    assert!(stage.relay.wants_read(NEAR));
}

// POL-04: no lookup where it would change nothing: the pair is denied, the certificate is enough, there is none, or no rule takes it.
#[test]
fn nothing_is_looked_up_that_would_change_nothing() {
    let stranger = "version: v1\nrules: []\n";
    let open = "version: v1\nrules:\n  - { name: open, domains: [friend.example] }\n";
    let posh = "version: v1\nrules:\n  - { name: filed, domains: [friend.example], identity: [posh] }\n";
    let known = || secured("hall.example", &["friend.example"]);
    for (what, text, dnssec, shown) in [
        ("no rule", stranger, true, untrusted("hall.example", "nobody.example")),
        ("a good certificate", open, true, known()),
        ("a good certificate, and a file would do", posh, true, known()),
        ("no certificate", posh, true, secured("hall.example", &[])),
        ("nobody looks at signatures, and no file", open, false, untrusted("hall.example", "nobody.example")),
    ] {
        let home = Home { dnssec, ..home() };
        let mut stage = Stage::new(home, policy(Federation::Listed, text), Flow::S2sIn, Some(shown));
        stage.hears(NEAR, &header("friend.example", "hall.example"));
        assert!(inquiries(&stage).is_empty(), "{what}");
        assert!(!stage.said(NEAR).is_empty(), "{what}");
    }
}

// DB-30, CRT-11: each domain on a stream is proven by what it publishes itself, and what one publishes is nothing for another.
#[test]
fn a_claim_waits_for_what_its_own_domain_publishes() {
    let mut stage = named_by_itself("dane", true);
    stage.step(NEAR, Input::Inquired(dane("friend.example", Dane::Proven(Usage::DaneEe))));
    stage.said(NEAR);
    for _ in 0..2 {
        stage.hears(NEAR, "<db:result from='cousin.example' to='hall.example'>k</db:result>");
    }
    let sought = Sought { dane: true, posh: false };
    assert_eq!(inquiries(&stage)[1..], [("cousin.example>hall.example".to_owned(), sought)], "asked once");
    assert!(stage.connects().is_empty() && stage.said(NEAR).is_empty());
    stage.step(NEAR, Input::Inquired(dane("cousin.example", Dane::Unlisted)));
    let said = stage.said(NEAR);
    assert_eq!(said.matches("<not-authorized ").count(), 2, "{said}");
    assert!(!stage.has(|effect| matches!(effect, Effect::Verify(..))), "nothing less is tried");
    let mut stage = named_by_itself("dane, dialback", true);
    stage.step(NEAR, Input::Inquired(dane("friend.example", Dane::Unpublished)));
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='cousin.example' to='hall.example'>k</db:result>");
    stage.step(NEAR, Input::Inquired(dane("cousin.example", Dane::Proven(Usage::DaneEe))));
    assert!(!stage.has(|effect| matches!(effect, Effect::Verify(..))), "nobody is asked about the key");
    let (far, _) = stage.connects()[0].clone();
    stand(&mut stage, far, "cousin.example", "hall.example");
    assert!(stage.said(NEAR).contains("type='valid'"));
}
