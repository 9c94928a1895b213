//! What backends send, on streams of theirs.

use super::*;

// Requirements 21.3, D9: the backend hears `valid` at once, and nothing else; the courier of its pair does the rest.
#[test]
fn a_backend_is_believed_at_once_and_its_courier_goes_to_the_peer() {
    let mut stage = Stage::new(relays(), any(), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "friend.example"));
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='hall.example' to='friend.example'>legacy-key</db:result>");
    assert_eq!(stage.said(NEAR), "<db:result from='friend.example' to='hall.example' type='valid'/>");
    let message = "<message from='j@hall.example/h' to='r@friend.example'><body>hi</body></message>";
    stage.hears(NEAR, message);
    assert_eq!(stage.handed(), [message]);
    assert!(stage.connects().is_empty(), "the stream of the backend opens nothing");

    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
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

// DB-67: dialback errors are announced on the inside listener unless no hosted domain may multiplex; in public always.
#[test]
fn the_inside_listener_announces_dialback_errors_where_it_may() {
    let greeted = |flow, multiplex: [bool; 2]| {
        let mut relays = relays();
        for (domain, multiplex) in relays.hosted.values_mut().zip(multiplex) {
            domain.multiplex = multiplex;
        }
        let mut stage = match flow {
            Flow::S2sIn => inbound(relays, any(), "friend.example", &[]),
            _ => Stage::new(relays, any(), flow, None),
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

// DB-62: a name that is not configured, or is another backend's, is believed like any other; nothing of it passes, each stanza
// comes back, and who must know hears of it.
#[test]
fn a_backend_does_not_speak_for_the_domains_of_another() {
    let mut relays = relays();
    let elsewhere = Networks::new(vec!["10.0.0.6/32".parse().unwrap()]);
    let annex = relays.hosted.get_mut(&domain("annex.example")).unwrap();
    (annex.keys_by, annex.server) = (KeysBy::Address(elsewhere), 1);
    for (name, reason) in
        [("annex.example", Reason::OtherBackend), ("conference.hall.example", Reason::NotConfigured)]
    {
        for begun in ["hall.example", name] {
            let mut stage = Stage::new(relays.clone(), any(), Flow::S2sOut, None);
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
    let mut relays = relays();
    let elsewhere = Networks::new(vec!["10.0.0.6/32".parse().unwrap()]);
    relays.hosted.values_mut().for_each(|hosted| hosted.keys_by = KeysBy::Address(elsewhere.clone()));
    for name in ["stranger.example", "conference.hall.example", "annex.example"] {
        for to in ["hall.example", "friend.example"] {
            for body in ["<body>hi</body>", "<\u{e9}t\u{e9}/>"] {
                for begun in [name, "hall.example"] {
                    let mut stage = Stage::new(relays.clone(), any(), Flow::S2sOut, None);
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
    let mut relays = relays();
    let elsewhere = Networks::new(vec!["10.0.0.6/32".parse().unwrap()]);
    let annex = relays.hosted.get_mut(&domain("annex.example")).unwrap();
    (annex.keys_by, annex.server) = (KeysBy::Address(elsewhere), 1);
    let mut asked = relays.clone();
    asked.hosted.get_mut(&domain("annex.example")).unwrap().keys_by = KeysBy::Verify;
    let deep = format!("{}{}", "<a>".repeat(300), "</a>".repeat(300));
    let uses = [
        (&relays, "<db:result from='annex.example' to='friend.example'>k</db:result>".to_owned()),
        (&asked, "<db:result from='annex.example' to='friend.example'>k</db:result>".to_owned()),
        (&relays, "<message from='a@annex.example/x' to='b@friend.example' id='1'/>".to_owned()),
        (&relays, "<iq type='result' from='a@annex.example/x' to='b@friend.example' id='1'/>".to_owned()),
        (&relays, "<presence type='unavailable' from='a@annex.example/x' to='b@friend.example'/>".to_owned()),
        (&relays, "<message from='a@annex.example/x' to='b@hall.example' id='1'/>".to_owned()),
        (&relays, format!("<message from='a@annex.example/x' to='b@friend.example' id='1'>{deep}</message>")),
    ];
    for (relays, used) in uses {
        for begun in [Some("hall.example"), Some("annex.example"), None] {
            let mut stage = Stage::new(relays.clone(), any(), Flow::S2sOut, None);
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
    let mut relays = relays();
    relays.hosted.get_mut(&domain("hall.example")).unwrap().keys_by = KeysBy::Verify;
    for (verdict, said) in [(KeyAnswer::Valid, "valid"), (KeyAnswer::Invalid, "invalid")] {
        let mut stage = Stage::new(relays.clone(), any(), Flow::S2sOut, None);
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
    relays.hosted.get_mut(&domain("hall.example")).unwrap().budget = Duration::from_secs(20);
    let mut stage = Stage::new(relays, any(), Flow::S2sOut, None);
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
        let mut stage = Stage::new(relays(), any(), Flow::S2sOut, None);
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
            let mut stage = Stage::new(relays(), any(), Flow::S2sOut, None);
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
        let mut stage = Stage::new(relays(), any(), Flow::S2sOut, None);
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
                let mut stage = Stage::new(relays(), any(), Flow::S2sOut, None);
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
    let mut stage = Stage::new(relays(), any(), Flow::S2sOut, None);
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
    let mut stage = Stage::new(relays(), policy(Federation::Listed, "version: v1\n"), Flow::S2sOut, None);
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
        let mut relays = relays();
        relays.limits.inside_pairs = 10;
        relays.hosted.get_mut(&domain("hall.example")).unwrap().keys_by = keys_by.clone();
        let mut stage = Stage::new(relays, any(), Flow::S2sOut, None);
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
    let mut stage = Stage::new(relays(), one_way("inbound"), Flow::S2sOut, None);
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
    let mut stage = Stage::new(relays(), any(), Flow::S2sOut, None);
    stage.hears(NEAR, &header("hall.example", "a.example"));
    stage.hears(NEAR, "<db:verify from='hall.example' to='b.example' id='s1'>key</db:verify>");
    stage.hears(NEAR, "<message from='ann@hall.example/x' to='bob@b.example' id='m1'/></stream:stream>");
    assert_eq!(stage.handed().len(), 1);
}

// POL-08: from one backend to another, judged by both; and never back to the same.
#[test]
fn backends_speak_with_each_other_where_both_policies_allow() {
    let mut relays = relays();
    let elsewhere = Networks::new(vec!["10.0.0.6/32".parse().unwrap()]);
    let annex = relays.hosted.get_mut(&domain("annex.example")).unwrap();
    (annex.keys_by, annex.server) = (KeysBy::Address(elsewhere), 1);
    let message = "<message from='a@hall.example/x' to='b@annex.example' id='1'>\
        <stanza-id xmlns='urn:xmpp:sid:0' by='hall.example' id='1'/>\
        <stanza-id xmlns='urn:xmpp:sid:0' by='annex.example' id='2'/></message>";
    let deny = "version: v1\nrules:\n  - { name: no, domains: [hall.example], verdict: deny }\n";
    for (policy, passes) in [(any(), 1), (policy(Federation::Any, deny), 0)] {
        let mut stage = Stage::new(relays.clone(), policy, Flow::S2sOut, None);
        stage.hears(NEAR, &header("hall.example", "annex.example"));
        stage.hears(NEAR, message);
        let handed = stage.handed();
        assert_eq!((handed.len(), stage.reported().len()), (passes, 1 - passes));
        // RLY-12: "local" means of the receiving backend.
        assert!(
            handed.iter().all(|stanza| stanza.contains("id='1'") && !stanza.contains("by='annex.example'"))
        );
    }
    let mut stage = courier(relays, any(), "hall.example", "annex.example", Load::Own);
    let (far, destination) = stage.connects()[0].clone();
    assert_eq!(destination, Destination::Backend(domain("annex.example")));
    stage.step(NEAR, Input::Queue(Load::Own, message.into()));
    stand(&mut stage, far, "hall.example", "annex.example");
    assert_eq!(stage.passed().len(), 1);
}
