//! Streams of remote servers: their claims and their stanzas.

use super::*;

// Requirements 21.1: inbound, dialback, all four roles.
// BE-04, DB-20, DB-60: neither id nor key of one side is seen on the other.
#[test]
fn an_inbound_pair_is_verified_then_claimed_inside_then_told() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
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

// DB-25, TLS-07: what was claimed or proven on a stream ends with it; a restart keeps the pair of EXTERNAL alone.
#[test]
fn a_restart_forgets_what_the_old_stream_had_proven() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
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
    let mut stage = Stage::new(relays(), clear, Flow::S2sIn, None);
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
        let mut stage = inbound(relays(), listed.clone(), sender, &names);
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
        let mut stage = inbound(relays(), any(), "friend.example", &[]);
        admit(&mut stage, "friend.example", "hall.example");
        stage.said(NEAR);
        stage.hears(NEAR, stanza);
        let said = stage.said(NEAR);
        assert!(said.contains(&format!("<stream:error><{condition} ")), "{stanza}: {said}");
        assert!(said.ends_with("</stream:stream>") && stage.passed().is_empty());
    }
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert!(stage.said(NEAR).contains("<not-authorized "));
}

// RLY-08, RLY-09, RLY-12 to RLY-15.
#[test]
fn the_desk_cuts_bounces_and_drops() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
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
    let mut stage = Stage::new(relays(), any(), Flow::S2sIn, Some(secured("hall.example", &[])));
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
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
    let id = claim(&stage);
    stage.step(NEAR, Input::Verified(id, KeyAnswer::Invalid));
    assert_eq!(
        stage.said(NEAR),
        "<db:result from='hall.example' to='friend.example' type='invalid'/></stream:stream>"
    );
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='third.example' to='hall.example'>k</db:result>");
    let id = claim(&stage);
    stage.step(NEAR, Input::Verified(id, KeyAnswer::Invalid));
    let said = stage.said(NEAR);
    assert!(said.contains("<forbidden ") && !said.contains("</stream:stream>"), "{said}");
}

// DB-08, only_asked_answers: an answer without its question changes nothing, and repeated it ends the stream.
#[test]
fn unasked_answers_change_nothing() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    stage.said(NEAR);
    for _ in 0..3 {
        stage.hears(NEAR, "<db:result from='friend.example' to='hall.example' type='valid'/>");
        assert_eq!(stage.said(NEAR), "");
    }
    assert!(!stage.has(|e| matches!(
        e,
        Effect::Connect(..)
            | Effect::Verify(..)
            | Effect::LeaveUnproven
            | Effect::Widen(_)
            | Effect::Remember(_)
    )));
    stage.hears(NEAR, "<db:verify from='friend.example' to='hall.example' id='1' type='valid'/>");
    assert!(stage.said(NEAR).contains("<policy-violation "));
}

// DB-32: the same key while pending shares the outcome, another is refused, and a standing pair is valid again.
#[test]
fn repeated_requests_are_each_answered() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
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
    let mut stage = Stage::new(relays(), policy(Federation::Any, text), Flow::S2sOut, None);
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
        Stage::new(relays(), policy(Federation::Listed, "version: v1\nrules: []\n"), Flow::S2sOut, None);
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
        let mut stage = courier(relays(), any(), "hall.example", "stranger.example", Load::Own);
        let far = stage.connects()[0].0;
        let presence = format!("<presence from='a@hall.example/x' to='{to}'/>");
        stage.step(NEAR, Input::Queue(Load::Own, presence.into()));
        stage.step(Side::Far(far), Input::Unreachable(reason.into()));
        assert_eq!(stage.reported().len(), answers, "{reason} {to}");
    }
}

// STR-04, STR-05, STR-11, STR-12, STR-13: what our headers and features hold, before TLS and under it.
#[test]
fn our_headers_and_features_hold_what_they_must_and_no_more() {
    let mut stage = Stage::new(relays(), any(), Flow::S2sIn, None);
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
