//! Logins with SASL: what is offered, tried, answered and counted.

use super::*;

// C2S-06.
#[test]
fn what_was_not_offered_is_refused_when_used() {
    for mechanism in ["GSSAPI", "DIGEST-MD5", "ANONYMOUS", "SCRAM-SHA-256", "HT-SHA-256-NONE", "plain", ""] {
        let mut stage = offered(&mechanisms(&["PLAIN", "ANONYMOUS", "GSSAPI"]));
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>=</auth>"));
        assert_eq!(stage.said(NEAR), format!("<failure xmlns='{SASL}'><invalid-mechanism/></failure>"));
        assert_eq!(stage.said(FAR), "", "{mechanism}");
        assert_eq!(logins(&stage), [(None, None, Outcome::Deny, Reason::MechanismNotOffered)]);
    }
}

#[test]
fn base64_is_exact() {
    let long = "A".repeat(8196);
    let rows = [
        ("?", "incorrect-encoding"),
        ("AGE", "incorrect-encoding"),
        ("AGEAYg==\n", "incorrect-encoding"),
        ("AGEAYh==", "incorrect-encoding"),
        ("A=GEAYg=", "incorrect-encoding"),
        (long.as_str(), "incorrect-encoding"),
        ("<x xmlns='urn:example'/>", "malformed-request"),
    ];
    for (payload, condition) in rows {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{payload}</auth>"));
        assert_eq!(
            stage.said(NEAR),
            format!("<failure xmlns='{SASL}'><{condition}/></failure>"),
            "{payload}"
        );
        assert_eq!(stage.said(FAR), "");
    }
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>=</auth>"));
    stage.step(NEAR, Input::Tried(Ok(())));
    assert_eq!(stage.said(FAR), format!("<auth xmlns='{SASL}' mechanism='PLAIN'>=</auth>"));
}

/// C2S-09 in the middle of an exchange: the backend is told that it is over before the client hears why.
#[test]
fn a_bad_answer_ends_the_exchange_on_both_sides() {
    let mut stage = in_an_exchange();
    stage.hears(NEAR, &format!("<response xmlns='{SASL}'>???</response>"));
    assert_eq!(stage.said(FAR), format!("<abort xmlns='{SASL}'/>"));
    assert_eq!(stage.said(NEAR), "");
    assert!(!stage.relay.wants_read(NEAR));
    stage.hears(FAR, &format!("<failure xmlns='{SASL}'><aborted/></failure>"));
    assert_eq!(stage.said(NEAR), format!("<failure xmlns='{SASL}'><incorrect-encoding/></failure>"));
    // Another exchange is a new one.
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1ib2Iscj14</auth>"));
    assert_eq!(attempts(&mut stage).last().unwrap().account.as_deref(), Some("bob"));
}

#[test]
fn words_without_an_exchange_are_refused() {
    for (word, condition) in [("response", "malformed-request"), ("abort", "aborted")] {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<{word} xmlns='{SASL}'/>"));
        assert_eq!(stage.said(NEAR), format!("<failure xmlns='{SASL}'><{condition}/></failure>"));
        assert_eq!(stage.said(FAR), "");
    }
}

#[test]
fn an_abort_is_relayed() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'/>"));
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'/>"));
    stage.said(NEAR);
    stage.said(FAR);
    stage.hears(NEAR, &format!("<abort xmlns='{SASL}'/>"));
    assert_eq!(stage.said(FAR), format!("<abort xmlns='{SASL}'/>"));
    let failure = format!("<failure xmlns='{SASL}'><aborted/></failure>");
    stage.hears(FAR, &failure);
    assert_eq!(stage.said(NEAR), failure);
}

/// C2S-10.
#[test]
fn a_new_login_takes_the_place_of_the_old_one() {
    let mut stage = offered(&mechanisms(&["PLAIN", "SCRAM-SHA-1"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPXg=</auth>"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'>cj14</challenge>"));
    stage.hears(NEAR, &plain("bob"));
    stage.step(NEAR, Input::Tried(Ok(())));
    assert_eq!(stage.said(FAR).matches("<auth ").count(), 2);
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    assert_eq!(logins(&stage)[0].1.as_deref(), Some("bob"));
}

/// C2S-11: a guess is told as what it was, whatever was sent behind it before its outcome was known.
#[test]
fn nothing_sent_behind_a_guess_hides_its_outcome() {
    let behind = [
        plain("mallory"),
        format!("<auth xmlns='{SASL}' mechanism='GSSAPI'/>"),
        format!("<response xmlns='{SASL}'>???</response>"),
        format!("<abort xmlns='{SASL}'/>"),
        format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'/>"),
    ];
    for behind in behind {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(FAR);
        stage.hears(NEAR, &format!("{}{behind}", plain("alice")));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(NEAR, "");
        assert_eq!(stage.said(FAR), plain("alice"), "{behind}");
        stage.said(NEAR);
        let failure = format!("<failure xmlns='{SASL}'><not-authorized/></failure>");
        stage.hears(FAR, &failure);
        assert!(stage.said(NEAR).starts_with(&failure), "{behind}");
        let guess = (Some(Mechanism::Plain), Some("alice".to_owned()), Outcome::Deny, Reason::SaslRefused);
        assert_eq!(logins(&stage), [guess], "{behind}");
    }
}

/// The server says whose login it is where the client asks to act as somebody else; until then either may be the one.
#[test]
fn a_login_on_behalf_of_another_may_be_either() {
    for (authzid, from, fits) in
        [("bob", "alice", true), ("bob", "bob", true), ("", "alice", true), ("", "bob", false)]
    {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        let payload = STANDARD.encode(format!("{authzid}\0alice\0secret"));
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{payload}</auth>"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &hello());
        stage.hears(FAR, &greeting("B-2", &bound_features()));
        stage.said(NEAR);
        let bind = bind("b1").replace("<iq ", &format!("<iq from='{from}@hall.example' "));
        stage.hears(NEAR, &bind);
        assert_eq!(!stage.said(NEAR).contains("<invalid-from "), fits, "{authzid} {from}");
    }
}

// C2S-20.
#[test]
fn failures_are_relayed_as_they_are_and_counted() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.said(NEAR);
    let failure = format!(
        "<failure xmlns='{SASL}'><not-authorized/><text xml:lang='en'>No &lt;luck&gt;.</text></failure>"
    );
    for _ in 0..2 {
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &failure);
        assert_eq!(stage.said(NEAR), failure);
    }
    stage.hears(NEAR, &plain("bob"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &failure);
    let said = stage.said(NEAR);
    assert!(said.starts_with(&failure) && said.contains("<policy-violation "), "{said}");
    let deny =
        |name: &str| (Some(Mechanism::Plain), Some(name.to_owned()), Outcome::Deny, Reason::SaslRefused);
    assert_eq!(logins(&stage), [deny("alice"), deny("alice"), deny("bob")]);
    assert_eq!(told(&stage), [Reason::TooManySasl]);
}

/// C2S-11: clients try the strongest first, and a server may know an account by one mechanism alone: each that is offered may
/// fail once. The same one fails as often as ever.
#[test]
fn every_mechanism_that_is_offered_may_be_tried_once() {
    let names = ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];
    let auth = |name: &str| match name {
        "PLAIN" => plain("alice"),
        name => format!("<auth xmlns='{SASL}' mechanism='{name}'>biwsbj1hbGljZSxyPXg=</auth>"),
    };
    let refuse = |stage: &mut Stage, name: &str, failure: &str| {
        stage.hears(NEAR, &auth(name));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<failure xmlns='{SASL}'>{failure}</failure>"));
        stage.said(NEAR)
    };
    let mut stage = offered(&mechanisms(&names));
    stage.said(NEAR);
    for name in &names[..3] {
        assert!(!refuse(&mut stage, name, "<not-authorized/>").contains("<stream:error>"), "{name}");
    }
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    assert_eq!(logins(&stage).len(), 4);
    let mut stage = offered(&mechanisms(&names));
    stage.said(NEAR);
    let said: Vec<_> = (0..3).map(|_| refuse(&mut stage, "PLAIN", "<not-authorized/>")).collect();
    assert_eq!(said.iter().filter(|said| said.contains("<policy-violation ")).count(), 1, "{said:?}");
    // A failure that no password caused is no guess: those are left afterwards, and nothing is counted against the source.
    for way in [
        "<invalid-mechanism/>",
        "<malformed-request/>",
        "<not-authorized/><text xml:lang='en'>Invalid channel binding</text>",
        "<temporary-auth-failure/>",
    ] {
        let mut stage = offered(&mechanisms(&names));
        stage.said(NEAR);
        for name in &names[..3] {
            assert!(!refuse(&mut stage, name, way).contains("<stream:error>"), "{name}");
        }
        assert!(logins(&stage).iter().all(|(.., reason)| *reason != Reason::SaslRefused), "{way}");
        for _ in 0..2 {
            assert!(!refuse(&mut stage, "PLAIN", "<not-authorized/>").contains("<stream:error>"));
        }
        assert!(refuse(&mut stage, "PLAIN", "<not-authorized/>").contains("<policy-violation "));
        // Without a password nobody goes on for ever either.
        let mut stage = offered(&mechanisms(&names));
        let said: Vec<_> = (0..4).map(|_| refuse(&mut stage, "PLAIN", way)).collect();
        assert!(
            said[3].contains("<policy-violation ") && !said[2].contains("<policy-violation "),
            "{said:?}"
        );
    }
}

/// C2S-11: what never came to the server counts as well.
#[test]
fn our_own_refusals_are_counted_too() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    for _ in 0..3 {
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='GSSAPI'/>"));
    }
    let said = stage.said(NEAR);
    assert_eq!(said.matches("<invalid-mechanism/>").count(), 3);
    assert!(said.contains("<policy-violation "), "{said}");
    assert_eq!(told(&stage), [Reason::TooManySasl]);
    assert_eq!(stage.said(FAR), "</stream:stream>");
}

/// What the server cannot do is nobody's guess at a password.
#[test]
fn a_servers_own_trouble_is_told_apart() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<failure xmlns='{SASL}'><temporary-auth-failure/></failure>"));
    assert_eq!(logins(&stage)[0].3, Reason::BackendFault);
}

#[test]
fn a_throttled_login_never_reaches_the_backend() {
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.said(NEAR);
    stage.said(FAR);
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Err(Reason::LoginThrottled)));
    let said = stage.said(NEAR);
    assert!(said.contains("<temporary-auth-failure/>") && said.contains("<policy-violation "), "{said}");
    assert!(!stage.said(FAR).contains("<auth"));
    assert_eq!(told(&stage), [Reason::LoginThrottled]);
}

#[test]
fn the_account_tried_is_read_and_nothing_else() {
    let rows: &[(&str, &str, Option<&str>)] = &[
        ("PLAIN", "\0alice\0pw", Some("alice")),
        ("PLAIN", "\0Alice\0pw", Some("alice")),
        // The password is alice's, whomever she asks to act as.
        ("PLAIN", "bob\0alice\0pw", Some("alice")),
        ("PLAIN", "\0alice@hall.example\0pw", Some("alice")),
        ("PLAIN", "\0alice@evil.example\0pw", None),
        ("PLAIN", "alice", None),
        ("PLAIN", "\0a/b\0pw", None),
        ("SCRAM-SHA-1", "n,,n=alice,r=x", Some("alice")),
        ("SCRAM-SHA-1", "y,,n=al=2Cice,r=x", Some("al,ice")),
        ("SCRAM-SHA-1", "n,a=bob,n=alice,r=x", Some("alice")),
        ("SCRAM-SHA-1", "nonsense", None),
        ("OAUTHBEARER", "n,a=alice@hall.example,\u{1}auth=Bearer x\u{1}\u{1}", Some("alice")),
        ("OAUTHBEARER", "n,,\u{1}auth=Bearer x\u{1}\u{1}", None),
    ];
    for (mechanism, payload, account) in rows {
        let mut stage = offered(&mechanisms(&["PLAIN", "SCRAM-SHA-1", "OAUTHBEARER"]));
        let payload64 = STANDARD.encode(payload);
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='{mechanism}'>{payload64}</auth>"));
        assert_eq!(attempts(&mut stage)[0].account.as_deref(), *account, "{mechanism} {payload:?}");
        // The payload itself is nowhere but in what goes to the backend (LOG-02).
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<failure xmlns='{SASL}'><not-authorized/></failure>"));
        assert!(!format!("{:?}", stage.notes()).contains("pw"));
    }
    // Without an initial response the first answer shows it.
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'/>"));
    assert!(attempts(&mut stage).is_empty());
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'/>"));
    stage.hears(NEAR, &format!("<response xmlns='{SASL}'>AGFsaWNlAHB3</response>"));
    assert_eq!(attempts(&mut stage)[0].account.as_deref(), Some("alice"));
}

/// C2S-12.
#[test]
fn a_word_that_nobody_asked_for_is_the_backends_fault() {
    let rows = [
        format!("<success xmlns='{SASL}'/>"),
        format!("<challenge xmlns='{SASL}'/>"),
        format!(
            "<success xmlns='{SASL2}'><authorization-identifier>{ME}</authorization-identifier></success>"
        ),
        bind_result("b1", ME),
        "<message to='alice@hall.example'/>".to_owned(),
        "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='x'/>".to_owned(),
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_owned(),
        "<stream:features/>".to_owned(),
    ];
    for text in rows {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.hears(FAR, &text);
        assert_eq!(ended(&mut stage), "internal-server-error", "{text}");
        assert!(!stage.relay.is_bound() && stage.delivered().is_empty());
        assert!(stage.relay.wants_read(NEAR), "its closing tag is awaited");
    }
}

#[test]
fn a_backends_bad_base64_is_the_backends_fault() {
    for word in ["challenge", "success"] {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.said(NEAR);
        stage.hears(FAR, &format!("<{word} xmlns='{SASL}'>???</{word}>"));
        assert_eq!(ended(&mut stage), "internal-server-error");
    }
}

#[test]
fn before_the_login_only_a_login_has_a_place() {
    let rows = [
        ("<message to='bob@hall.example'/>", "not-authorized"),
        ("<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>", "policy-violation"),
        ("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>", "not-authorized"),
        ("<r xmlns='urn:xmpp:sm:3'/>", "not-authorized"),
        ("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>", "not-authorized"),
        ("<unknown xmlns='urn:example'/>", "not-authorized"),
        ("<message xmlns='jabber:server'/>", "invalid-namespace"),
    ];
    for (text, condition) in rows {
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.said(FAR);
        stage.hears(NEAR, text);
        assert_eq!(ended(&mut stage), condition, "{text}");
        assert_eq!(stage.said(FAR), "</stream:stream>");
    }
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.said(NEAR);
    stage.hears(NEAR, "<compress xmlns='http://jabber.org/protocol/compress'/>");
    assert!(stage.said(NEAR).contains("<setup-failed/>"));
}

// SM-10, XEP-0198 3: before the login, and before the bind; with RFC 6120's logins and with XEP-0388's.
#[test]
fn stream_management_before_its_time_is_answered_and_the_stream_goes_on() {
    for version in [2, 3] {
        let enable = format!("<enable xmlns='urn:xmpp:sm:{version}' resume='true'/>");
        let resume = format!("<resume xmlns='urn:xmpp:sm:{version}' previd='x' h='0'/>");
        for offer in [mechanisms(&["PLAIN"]), modern()] {
            let mut stage = offered(&offer);
            stage.said(NEAR);
            stage.said(FAR);
            for early in [&enable, &resume, &enable] {
                stage.hears(NEAR, early);
                assert_eq!(stage.said(NEAR), unexpected(version), "{early}");
            }
            assert_eq!(stage.said(FAR), "");
            assert!(stage.relay.wants_read(NEAR));
            if offer.contains(SASL2) {
                stage.hears(NEAR, &authenticate("PLAIN", ""));
                stage.step(NEAR, Input::Tried(Ok(())));
                stage.hears(FAR, &success("alice@hall.example", ""));
                stage.hears(FAR, &format!("<stream:features>{}</stream:features>", bound_features()));
            } else {
                logs_in(&mut stage, &hello());
            }
            stage.said(NEAR);
            stage.said(FAR);
            stage.hears(NEAR, &enable);
            assert_eq!(stage.said(NEAR), unexpected(version));
            assert_eq!(stage.said(FAR), "");
            stage.hears(NEAR, &bind("b1"));
            stage.hears(FAR, &bind_result("b1", ME));
            assert!(stage.relay.is_bound());
        }
    }
    // In the middle of an exchange of RFC 6120 it disturbs nothing.
    let mut stage = in_an_exchange();
    stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(stage.said(NEAR), unexpected(3));
    stage.hears(NEAR, &format!("<response xmlns='{SASL}'>Yz1iaXdz</response>"));
    assert_eq!(stage.said(FAR), format!("<response xmlns='{SASL}'>Yz1iaXdz</response>"));
    // C2S-19: in one of XEP-0388 nothing else has a place.
    let mut stage = asked("");
    stage.hears(FAR, &format!("<challenge xmlns='{SASL2}'>cj14</challenge>"));
    stage.said(NEAR);
    stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(ended(&mut stage), "not-authorized");
}

// C2S-08: where it is not enabled, who asks is told so, and may log in.
#[test]
fn a_question_for_an_account_is_answered_where_there_are_none() {
    let features =
        format!("{}<register xmlns='http://jabber.org/features/iq-register'/>", mechanisms(&["PLAIN"]));
    let mut stage = offered(&features);
    assert!(!stage.said(NEAR).contains("iq-register"));
    stage.said(FAR);
    for kind in ["get", "set"] {
        stage.hears(NEAR, &format!("<iq type='{kind}' id='r&lt;1'><query xmlns='jabber:iq:register'/></iq>"));
        assert_eq!(
            stage.said(NEAR),
            "<iq type='error' id='r&lt;1'><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
    }
    assert_eq!(stage.said(FAR), "");
    assert_eq!(stage.reasons(), [Reason::RegistrationOff; 2]);
    stage.hears(NEAR, &plain("alice"));
    assert_eq!(attempts(&mut stage).len(), 1);
}

// C2S-08.
#[test]
fn accounts_are_made_only_where_that_is_allowed() {
    let mut relays = relays();
    relays.clients.get_mut(&domain("hall.example")).unwrap().registration = true;
    let features =
        format!("{}<register xmlns='http://jabber.org/features/iq-register'/>", mechanisms(&["PLAIN"]));
    let mut stage = offered_at(relays, &features);
    assert!(stage.said(NEAR).contains("iq-register"));
    stage.said(FAR);
    let ask = "<iq id='r1' type='get'><query xmlns='jabber:iq:register'/></iq>";
    stage.hears(NEAR, ask);
    assert_eq!(stage.said(FAR), ask);
    let answer = "<iq id='r1' type='result'><query xmlns='jabber:iq:register'><username/></query></iq>";
    stage.hears(FAR, answer);
    assert_eq!(stage.said(NEAR), answer);
    // XEP-0077: who sends the form asks for an account, and the backend hears of it once there is leave.
    let form =
        "<iq id='r&amp;2' type='set'><query xmlns='jabber:iq:register'><username>eve</username></query></iq>";
    let applies = |stage: &mut Stage| {
        let before = stage.effects.len();
        stage.effects.retain(|effect| !matches!(effect, Effect::MayRegister));
        before - stage.effects.len()
    };
    assert_eq!(applies(&mut stage), 0);
    stage.hears(NEAR, form);
    assert_eq!((applies(&mut stage), stage.said(FAR)), (1, String::new()));
    assert!(!stage.relay.wants_read(NEAR), "nothing more is read meanwhile");
    stage.step(NEAR, Input::Tried(Err(Reason::RegistrationThrottled)));
    assert_eq!(
        stage.said(NEAR),
        "<iq type='error' id='r&amp;2'><error type='wait'>\
         <resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    );
    let refused = Reason::RegistrationThrottled;
    let told = |event: &Event| matches!(event, Event::Refused { reason, .. } if *reason == refused);
    assert_eq!(stage.notes().into_iter().filter(|event| told(event)).count(), 1);
    assert_eq!(stage.said(FAR), "");
    stage.hears(NEAR, form);
    assert_eq!(applies(&mut stage), 1);
    stage.step(NEAR, Input::Tried(Ok(())));
    assert_eq!(stage.said(FAR), form);
    stage.hears(FAR, "<iq id='r&amp;2' type='result'/>");
    assert_eq!(stage.said(NEAR), "<iq id='r&amp;2' type='result'/>");
    stage.hears(NEAR, "<iq id='r2' type='get'><query xmlns='jabber:iq:version'/></iq>");
    assert_eq!(ended(&mut stage), "not-authorized");
}

// SM-09: never more than the server takes, before the login as behind it; and how long it bears silence, which here is borne for ever.
#[test]
fn the_servers_limits_are_told_where_they_are_narrower() {
    let limits = |max: &str, more: &str| {
        format!("<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>{max}</max-bytes>{more}</limits>")
    };
    let idle = "<idle-seconds>600</idle-seconds>";
    for (theirs, early, late) in [
        (limits("10000", idle), limits("10000", ""), limits("10000", idle)),
        (limits("1000000", ""), EARLY.to_owned(), limits("262144", "")),
        (limits("many", "<idle-seconds>soon</idle-seconds>"), EARLY.to_owned(), limits("262144", "")),
    ] {
        let mut stage = offered(&format!("{}{theirs}", mechanisms(&["PLAIN"])));
        assert!(stage.said(NEAR).contains(&early), "{theirs}");
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &hello());
        stage.said(NEAR);
        stage.hears(FAR, &greeting("B-2", &format!("{}{theirs}", bound_features())));
        assert!(stage.said(NEAR).contains(&late), "{theirs}");
    }
}
