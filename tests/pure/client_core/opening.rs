//! A whole login, and all that comes before one: TLS, the header, the features.

use super::*;

// C2S-03, CB-03.
#[test]
fn a_client_logs_in_by_starttls_and_scram() {
    let mut stage = Stage::new(relays(), any(), Flow::C2s, None);
    stage.hears(NEAR, &hello());
    let said = stage.said(NEAR);
    assert!(said.contains(" from='hall.example'") && said.contains(" version='1.0'"), "{said}");
    assert!(
        said.ends_with(&format!(
            "<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>"
        )),
        "{said}"
    );
    stage.hears(NEAR, &format!("<starttls xmlns='{TLS}'/>"));
    assert_eq!(stage.said(NEAR), format!("<proceed xmlns='{TLS}'/>"));
    assert!(stage.has(|e| matches!(e, Effect::Upgrade(Side::Near))));
    // C2S-02: nobody inside has heard of it.
    assert!(stage.connects().is_empty());
    stage.step(NEAR, Input::Secured(secured("", &[])));
    stage.hears(NEAR, &open(" to='hall.example' from='alice@hall.example' version='1.0'"));
    assert_eq!(stage.connects(), [(FarId(1), Destination::Client(domain("hall.example")))]);
    assert_eq!(stage.said(NEAR), "", "our header goes out with the features");

    stage.connected(FarId(1), None);
    let said = stage.said(FAR);
    // STR-15: who the client said it was is not passed on.
    assert!(said.contains(" to='hall.example'") && !said.contains(" from="), "{said}");
    let features = format!(
        "<starttls xmlns='{TLS}'/><compression xmlns='http://jabber.org/features/compress'><method>zlib</method>\
         </compression><auth xmlns='http://jabber.org/features/iq-auth'/>\
         <register xmlns='http://jabber.org/features/iq-register'/>\
         <address xmlns='http://affinix.com/jabber/address'>192.0.2.7</address><odd xmlns='urn:example'/>{}",
        mechanisms(&["DIGEST-MD5", "GSSAPI", "SCRAM-SHA-1", "PLAIN"])
    );
    stage.hears(FAR, &greeting("B-1", &features));
    let said = stage.said(NEAR);
    assert!(said.starts_with("<?xml ") && said.contains(" to='alice@hall.example'"), "{said}");
    let offered =
        format!("<stream:features>{}{EARLY}</stream:features>", mechanisms(&["SCRAM-SHA-1", "PLAIN"]));
    assert!(said.ends_with(&offered), "{said}");

    let first = "eSwsbj1hbGljZSxyPWZ5a28rZDJsYmJGZ09OUnY5cWt4ZGF3TA==";
    let auth = format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{first}</auth>");
    stage.hears(NEAR, &auth);
    let attempt = LoginAttempt {
        hosted: domain("hall.example"),
        mechanism: Mechanism::ScramSha1,
        account: Some("alice".into()),
    };
    assert_eq!(attempts(&mut stage), [attempt]);
    assert_eq!(stage.said(FAR), "");
    assert!(!stage.relay.wants_read(NEAR));
    stage.step(NEAR, Input::Tried(Ok(())));
    // CB-03: not one octet of the payload is changed.
    assert_eq!(stage.said(FAR), auth);
    let challenge = format!("<challenge xmlns='{SASL}'>cj1mLHM9YSxpPTQwOTY=</challenge>");
    stage.hears(FAR, &challenge);
    assert_eq!(stage.said(NEAR), challenge);
    let response = format!("<response xmlns='{SASL}'>Yz1iaXdzLHI9ZixwPXg=</response>");
    stage.hears(NEAR, &response);
    assert_eq!(stage.said(FAR), response);
    let success = format!("<success xmlns='{SASL}'>dj14</success>");
    stage.hears(FAR, &success);
    assert_eq!(stage.said(NEAR), success);
    assert!(stage.has(|e| matches!(e, Effect::Restart(Side::Near))));
    assert!(stage.has(|e| matches!(e, Effect::Restart(FAR))));
    assert!(stage.said(FAR).contains(" to='hall.example'"));
    assert_eq!(
        logins(&stage),
        [(Some(Mechanism::ScramSha1), Some("alice".into()), Outcome::Allow, Reason::Allowed)]
    );

    stage.hears(FAR, &greeting("B-2", &bound_features()));
    assert_eq!(stage.said(NEAR), "", "features wait for the client's header");
    stage.hears(NEAR, &hello());
    let said = stage.said(NEAR);
    for kept in [BIND, "urn:xmpp:sm:2", "urn:xmpp:sm:3", "urn:xmpp:csi:0", "<max-bytes>262144</max-bytes>"] {
        assert!(said.contains(kept), "{kept}: {said}");
    }
    stage.hears(NEAR, &bind("b1"));
    assert_eq!(stage.said(FAR), bind("b1"));
    assert!(!stage.relay.is_bound());
    stage.hears(FAR, &bind_result("b1", ME));
    assert_eq!(stage.said(NEAR), bind_result("b1", ME));
    assert!(stage.relay.is_bound());
    assert!(stage.has(|e| matches!(e, Effect::Widen(Side::Near))));
    assert!(stage.has(|e| matches!(e, Effect::Widen(FAR))));

    stage.hears(NEAR, &format!("<message from='{ME}' to='bob@hall.example'><body>hi</body></message>"));
    let passed = stage.passed();
    assert_eq!(passed, [(FarId(1), "<message to='bob@hall.example'><body>hi</body></message>".into())]);
    let answer = format!("<message from='bob@hall.example/x' to='{ME}'><body>ho</body></message>");
    stage.hears(FAR, &answer);
    assert_eq!(stage.delivered(), [answer]);
}

#[test]
fn nothing_but_starttls_is_taken_in_clear() {
    let rows: &[(&str, &str)] = &[
        ("<message to='bob@hall.example'/>", "not-authorized"),
        ("<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>", "not-authorized"),
        (&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGEAYg==</auth>"), "not-authorized"),
        (&format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'/>"), "not-authorized"),
        ("<compress xmlns='http://jabber.org/protocol/compress'/>", "unsupported-stanza-type"),
        ("<enable xmlns='urn:xmpp:sm:3'/>", "unsupported-stanza-type"),
        ("<unknown xmlns='urn:example'/>", "unsupported-stanza-type"),
        ("<message xmlns='jabber:server' to='bob@hall.example'/>", "invalid-namespace"),
        (
            "<result xmlns='jabber:server:dialback' from='a.example' to='hall.example'/>",
            "unsupported-stanza-type",
        ),
    ];
    for (text, condition) in rows {
        let mut stage = Stage::new(relays(), any(), Flow::C2s, None);
        stage.hears(NEAR, &hello());
        stage.said(NEAR);
        stage.hears(NEAR, text);
        assert_eq!(ended(&mut stage), *condition, "{text}");
        assert!(stage.connects().is_empty());
    }
}

// TLS-02: known by its name. Loudmouth writes an `id`.
#[test]
fn a_starttls_is_known_by_its_name() {
    for text in [
        format!("<starttls xmlns='{TLS}'><required/></starttls>"),
        format!("<starttls xmlns='{TLS}' id='5'/>"),
        format!("<starttls xmlns='{TLS}' xml:lang='en'>\n </starttls>"),
    ] {
        let mut stage = Stage::new(relays(), any(), Flow::C2s, None);
        stage.hears(NEAR, &hello());
        stage.said(NEAR);
        stage.hears(NEAR, &text);
        assert_eq!(stage.said(NEAR), format!("<proceed xmlns='{TLS}'/>"), "{text}");
        assert!(stage.has(|e| matches!(e, Effect::Upgrade(Side::Near))));
    }
}

// TLS-03, TLS-04.
#[test]
fn a_starttls_that_is_late_is_refused() {
    for mut stage in [offered(&mechanisms(&["PLAIN"])), unbound(), bound()] {
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<starttls xmlns='{TLS}'/>"));
        assert_eq!(stage.said(NEAR), format!("<failure xmlns='{TLS}'/></stream:stream>"));
    }
}

#[test]
fn a_header_that_does_not_fit_is_answered_and_refused() {
    let rows = [
        (open(" to='nowhere.example' version='1.0'"), "host-unknown"),
        (open(" version='1.0'"), "host-unknown"),
        (open(" to='not a domain' version='1.0'"), "host-unknown"),
        // Federated only: no client is served there.
        (open(" to='annex.example' version='1.0'"), "host-unknown"),
        (open(" to='hall.example'"), "unsupported-version"),
        (open(" to='hall.example' version='0.9'"), "unsupported-version"),
    ];
    for (header, condition) in rows {
        for direct in [None, Some(secured("", &[]))] {
            let mut stage = Stage::new(relays(), any(), Flow::C2s, direct);
            stage.hears(NEAR, &header);
            let said = stage.said(NEAR);
            assert!(said.contains("<stream:stream ") && !said.contains("nowhere"), "{said}");
            assert!(said.contains(&format!("<{condition} ")), "{header}: {said}");
            assert!(stage.connects().is_empty());
        }
    }
    let mut stage = Stage::new(relays(), any(), Flow::C2s, None);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    assert_eq!(ended(&mut stage), "invalid-namespace");
}

/// STR-15.
#[test]
fn the_header_names_the_domain_whose_certificate_was_shown() {
    let mut relays = relays();
    relays.clients.insert(domain("annex.example"), Default::default());
    // Whatever the client asked for: without a name it is the default that was shown.
    for asked in [Some("annex.example"), Some("hall.example"), None] {
        let mut facts = secured("annex.example", &[]);
        facts.sni = asked.map(str::to_owned);
        let mut stage = Stage::new(relays.clone(), any(), Flow::C2s, Some(facts));
        stage.hears(NEAR, &hello());
        let said = stage.said(NEAR);
        assert!(said.contains("<host-unknown ") && said.contains(" that of annex.example</text>"), "{said}");
    }
    let mut stage = Stage::new(relays, any(), Flow::C2s, None);
    stage.hears(NEAR, &hello());
    stage.hears(NEAR, &format!("<starttls xmlns='{TLS}'/>"));
    stage.step(NEAR, Input::Secured(secured("", &[])));
    stage.said(NEAR);
    stage.hears(NEAR, &open(" to='annex.example' version='1.0'"));
    assert_eq!(ended(&mut stage), "host-unknown");
    assert!(stage.connects().is_empty());
}

/// STR-15: whatever a client writes there decides nothing, in any header. XML::Stream writes the machine's name.
#[test]
fn the_from_of_a_header_is_neither_judged_nor_passed_on() {
    for from in ["localhost", "@", "", "eve@evil.example", "bob@hall.example", "hall.example"] {
        let header = open(&format!(" to='hall.example' from='{from}' version='1.0'"));
        let mut stage = Stage::new(relays(), any(), Flow::C2s, None);
        stage.hears(NEAR, &header);
        stage.hears(NEAR, &format!("<starttls xmlns='{TLS}'/>"));
        stage.step(NEAR, Input::Secured(secured("", &[])));
        stage.hears(NEAR, &header);
        stage.connected(FarId(1), None);
        stage.hears(FAR, &greeting("B-1", &mechanisms(&["PLAIN"])));
        logs_in(&mut stage, &header);
        let said = stage.said(NEAR);
        assert!(said.contains(BIND) && !said.contains("<stream:error"), "{from}: {said}");
        let inside = stage.said(FAR);
        assert_eq!(inside.matches("<stream:stream").count(), 2);
        assert!(!inside.contains(" from="), "{from}: {inside}");
    }
    // Whether the other name is one of ours, or none at all.
    for to in [" to='annex.example'", " to='nowhere.example'", " to='not a domain'", ""] {
        let mut stage = granted();
        stage.said(NEAR);
        stage.hears(NEAR, &open(&format!("{to} version='1.0'")));
        assert_eq!(ended(&mut stage), "not-authorized", "{to}");
    }
}

// C2S-04.
#[test]
fn features_that_would_break_every_login_are_the_operators_to_mend() {
    let rows = [
        (
            format!("<starttls xmlns='{TLS}'><required/></starttls>{}", mechanisms(&["PLAIN"])),
            Reason::BackendWantsTls,
        ),
        (mechanisms(&["DIGEST-MD5", "GSSAPI", "X-OAUTH2"]), Reason::NoMechanism),
        (String::new(), Reason::NoMechanism),
        // What another namespace calls a mechanism is none.
        (
            format!(
                "<mechanisms xmlns='{SASL}'><mechanism xmlns='urn:example'>PLAIN</mechanism></mechanisms>"
            ),
            Reason::NoMechanism,
        ),
        (mechanisms(&["SCRAM-SHA-1-PLUS"]), Reason::BackendBindsChannel),
    ];
    for (features, reason) in rows {
        let mut stage = offered(&features);
        assert_eq!(ended(&mut stage), "internal-server-error", "{features}");
        assert_eq!(misfits(&stage), [reason]);
        assert_eq!(told(&stage), [reason]);
        assert!(!reason.words().is_empty());
    }
}

/// CB-02: those that cannot bind a channel may still log in; the operator hears of the others.
/// CB-04: nothing is announced that does not work on this connection.
#[test]
fn channel_binding_is_taken_out_and_told() {
    let features = format!(
        "{}<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
         </sasl-channel-binding>",
        mechanisms(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])
    );
    let mut stage = offered(&features);
    let said = stage.said(NEAR);
    assert!(said.contains(&mechanisms(&["SCRAM-SHA-256"])), "{said}");
    assert!(!said.contains("PLUS") && !said.contains("channel"), "{said}");
    assert_eq!(misfits(&stage), [Reason::BackendOffersBinding]);
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256-PLUS'>cD1h</auth>"));
    assert!(stage.said(NEAR).contains("<invalid-mechanism/>"));
    assert_eq!(stage.said(FAR), "");
}

/// What a server's first message of SCRAM-SHA-1 holds that signs this list (XEP-0474 6.1).
fn signed(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let hash = aws_lc_rs::digest::digest(sha1, names.join("\u{1e}").as_bytes());
    format!("r=abc,s=cw==,i=4096,h={}", STANDARD.encode(hash))
}

/// CB-09: a server that signs its list breaks the logins of those who check it, where it vouches for more than they see. Nothing
/// is told where it vouches for what they see: that would be a false alarm.
#[test]
fn a_signed_list_of_mechanisms_is_told_where_it_is_not_the_one_that_was_shown() {
    let whole = ["SCRAM-SHA-1", "X-OAUTH2"];
    for (offer, message, expected) in [
        (&whole[..], signed(&whole), vec![Reason::BackendSignsOffer]),
        (&whole[..1], signed(&whole[..1]), vec![]),
        // Its list is longer, and it signs what a client of this stream sees.
        (&whole[..], signed(&whole[..1]), vec![]),
        (&whole[..], "r=abc,s=cw==,i=4096".to_owned(), vec![]),
    ] {
        let mut stage = offered(&mechanisms(offer));
        for _ in 0..2 {
            stage.hears(
                NEAR,
                &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPWE=</auth>"),
            );
            stage.step(NEAR, Input::Tried(Ok(())));
            let challenge = format!("<challenge xmlns='{SASL}'>{}</challenge>", STANDARD.encode(&message));
            stage.said(NEAR);
            stage.hears(FAR, &challenge);
            // CB-03: what goes on is not touched.
            assert_eq!(stage.said(NEAR), challenge);
        }
        let told: Vec<_> = expected.iter().chain(&expected).copied().collect();
        assert_eq!(misfits(&stage), told, "{offer:?} {message}");
    }
}

/// C2S-03: unknown features stay inside unless the operator names them; what the gateway decides is never named.
#[test]
fn features_that_the_operator_names_pass_after_the_login() {
    use gatehouse::stream::client::features::{Rules, after_login, before_login, may_be_let_pass};
    let shown = |features: &[&str]| {
        let rules = Rules {
            mechanisms: [Mechanism::Plain].into(),
            registration: false,
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
            max_octets: 1000,
            early_octets: 500,
        };
        let mut framer = Framer::new(Limits::default(), Content::Client);
        let features = format!("<x xmlns='urn:example:x'/>{}", mechanisms(&["PLAIN"]));
        framer.feed(greeting("i", &features).as_bytes());
        let mut tokens = std::iter::from_fn(|| framer.next());
        let frame = tokens.find_map(|t| if let Token::Element(frame) = t { Some(frame) } else { None });
        let tree = frame.unwrap().tree();
        let early = before_login(&tree, &rules).unwrap().text;
        assert!(!early.contains("urn:example:x"), "{early}");
        after_login(&tree, &rules).unwrap().text
    };
    assert!(!shown(&[]).contains("urn:example:x"));
    let said = shown(&["urn:example:x"]);
    assert!(said.contains("<x xmlns='urn:example:x'/>") && !said.contains("mechanisms"), "{said}");
    // C2S-15: the backend has no way to be told of a login by certificate.
    assert_eq!(Mechanism::parse("EXTERNAL"), None);
    for never in [TLS, SASL, "http://jabber.org/features/iq-auth", "http://jabber.org/features/compress", ""]
    {
        assert!(!may_be_let_pass(never), "{never}");
    }
}

/// LOG-04: where a client is is told in logs and PROXY headers, never in a stream.
#[test]
fn the_clients_address_is_in_no_stream() {
    let mut stage = bound();
    stage.hears(NEAR, "<message to='bob@friend.example'><body>hi</body></message><presence/>");
    let passed: String = stage.passed().into_iter().map(|(_, text)| text).collect();
    assert!(passed.contains("<presence"), "{passed}");
    for effect in &stage.effects {
        if let Effect::Send(_, octets) | Effect::Pass(_, Passing { octets, .. }) | Effect::Deliver(octets) =
            effect
        {
            assert!(!text(octets).contains("192.0.2.7"), "{}", text(octets));
        }
    }
    assert!(!passed.contains("192.0.2.7"), "{passed}");
}

#[test]
fn the_operators_list_decides() {
    let mut relays = relays();
    relays.clients.get_mut(&domain("hall.example")).unwrap().mechanisms = [Mechanism::ScramSha256].into();
    let mut stage = offered_at(relays, &mechanisms(&["PLAIN", "SCRAM-SHA-256", "ANONYMOUS"]));
    assert!(stage.said(NEAR).contains(&mechanisms(&["SCRAM-SHA-256"])));
    stage.hears(NEAR, &plain("alice"));
    assert!(stage.said(NEAR).contains("<invalid-mechanism/>"));
    assert_eq!(stage.said(FAR), "");
}
