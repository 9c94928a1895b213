//! Stanzas, and what else a bound stream carries.

use super::*;

// C2S-16.
#[test]
fn a_foreign_from_ends_the_stream() {
    let rows = [
        "bob@hall.example",
        "bob@hall.example/4db06f",
        "alice@hall.example/other",
        "alice@evil.example/4db06f",
        "hall.example",
        "",
        "alice@hall.example/",
        "&#x62;ob@hall.example",
        "alice@hall.example@evil.example",
    ];
    for from in rows {
        let mut stage = bound();
        stage.hears(NEAR, &format!("<message from='{from}' to='bob@hall.example'/>"));
        assert_eq!(ended(&mut stage), "invalid-from", "{from}");
        assert!(stage.passed().is_empty());
        assert_eq!(stage.reasons()[0], Reason::ForgedFrom);
        assert_eq!(stage.said(FAR), "</stream:stream>", "a proper end: it was the client's own doing");
    }
}

// C2S-16.
#[test]
fn the_own_from_is_taken_off() {
    for from in [ME, "alice@hall.example", "ALICE@HALL.example", "&#x61;lice@hall.example/4db06f"] {
        let mut stage = bound();
        stage.hears(NEAR, &format!("<presence from='{from}'/>"));
        assert_eq!(stage.passed(), [(FarId(1), "<presence/>".to_owned())], "{from}");
    }
    // A prefixed attribute is another one, and travels.
    let mut stage = bound();
    stage.hears(NEAR, "<presence xmlns:x='urn:example' x:from='bob@hall.example'/>");
    assert!(stage.passed()[0].1.contains(" x:from='bob@hall.example'"));
}

#[test]
fn stanzas_pass_in_canonical_form_both_ways() {
    let mut stage = bound();
    stage.hears(NEAR, "<message   to=\"bob@hall.example\"><body><![CDATA[<&]]></body></message>");
    let canonical = "<message to=\"bob@hall.example\"><body>&lt;&amp;</body></message>";
    assert_eq!(stage.passed()[0].1.replace('\'', "\""), canonical);
    stage.hears(FAR, "<message   to=\"alice@hall.example\"><body><![CDATA[<&]]></body></message>");
    assert_eq!(stage.delivered()[0].replace('\'', "\""), canonical.replace("bob", "alice"));
}

#[test]
fn every_kind_of_stanza_passes_both_ways() {
    let mut stage = bound();
    let stanzas = [
        "<message to='x@hall.example' type='error'><error type='cancel'/></message>",
        "<presence to='x@hall.example' type='subscribe'/>",
        "<iq id='1' to='x@hall.example' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq id='1' to='x@hall.example' type='result'/>",
        "<iq id='1' to='x@hall.example' type='error'><error type='cancel'/></iq>",
        // The server's to judge, not ours: its answer keeps the count of both sides right (SM-02).
        "<iq type='get'/>",
        "<message to='a@b@c'/>",
        "<iq id='1' type='set'><query xmlns='jabber:iq:register'/></iq>",
    ];
    for stanza in stanzas {
        stage.hears(NEAR, stanza);
        assert_eq!(stage.passed(), [(FarId(1), stanza.to_owned())]);
        stage.hears(FAR, stanza);
        assert_eq!(stage.delivered(), [stanza]);
        assert_eq!(stage.said(NEAR) + &stage.said(FAR), "");
    }
}

/// RLY-07.
#[test]
fn the_language_of_a_stream_travels_with_its_stanzas() {
    let mut stage = Stage::new(relays(), any(), Flow::C2s, Some(secured("hall.example", &[])));
    stage.hears(NEAR, &hello());
    stage.connected(FarId(1), None);
    stage.hears(FAR, &greeting("B-1", &mechanisms(&["PLAIN"])));
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    stage.hears(NEAR, &open(" to='hall.example' version='1.0' xml:lang='de'"));
    stage.hears(FAR, &greeting("B-2", &bound_features()).replace("'en'", "'fr'"));
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    stage.hears(NEAR, "<message to='bob@hall.example'/><message to='bob@hall.example' xml:lang='nl'/>");
    let passed = stage.passed();
    assert_eq!(passed[0].1, "<message to='bob@hall.example' xml:lang='de'/>");
    assert_eq!(passed[1].1, "<message to='bob@hall.example' xml:lang='nl'/>");
    stage.hears(FAR, "<message to='alice@hall.example'/>");
    assert_eq!(stage.delivered(), ["<message to='alice@hall.example' xml:lang='fr'/>"]);
}

/// C2S-02: servers answer their users in the language of the stream header; one that says none has the server's own.
#[test]
fn the_server_hears_the_language_of_its_client() {
    let long = "x".repeat(36);
    for (tag, heard) in [
        (Some("de"), Some("de")),
        (Some("zh-Hant-TW"), Some("zh-Hant-TW")),
        (None, None),
        (Some(""), None),
        (Some(&long), None),
    ] {
        let lang = |tag: Option<&str>| tag.map(|tag| format!(" xml:lang='{tag}'")).unwrap_or_default();
        let mut stage = Stage::new(relays(), any(), Flow::C2s, Some(secured("hall.example", &[])));
        let header = open(&format!(" to='hall.example' version='1.0'{}", lang(tag)));
        stage.hears(NEAR, &header);
        stage.connected(FarId(1), None);
        let written = open(&format!(" to='hall.example' version='1.0'{}", lang(heard)));
        assert_eq!(stage.said(FAR), format!("<?xml version='1.0'?>{written}"), "{tag:?}");
        stage.hears(FAR, &greeting("B-1", &mechanisms(&["PLAIN"])));
        logs_in(&mut stage, &header);
        stage.hears(NEAR, &bind("b1"));
        stage.hears(FAR, &bind_result("b1", ME));
        let stanza = "<message to='bob@hall.example'/>";
        stage.hears(NEAR, stanza);
        // What the server's stream says already is not written on each stanza.
        let passed = stage.passed().remove(0).1;
        if heard == tag {
            assert_eq!(passed, stanza, "{tag:?}");
        } else {
            assert_eq!(passed, format!("<message to='bob@hall.example'{}/>", lang(tag)), "{tag:?}");
        }
    }
}

// C2S-17.
#[test]
fn what_has_no_place_on_a_bound_stream_ends_it() {
    let rows = [
        ("<unknown xmlns='urn:example'/>", "unsupported-stanza-type"),
        ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>", "unsupported-stanza-type"),
        ("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>", "unsupported-stanza-type"),
        ("<message xmlns='jabber:server' to='bob@hall.example'/>", "invalid-namespace"),
        ("<result xmlns='jabber:server:dialback'/>", "unsupported-stanza-type"),
        ("<iq type='set' id='1'><query xmlns='jabber:iq:auth'/></iq>", "policy-violation"),
        ("<message><!-- x --></message>", "restricted-xml"),
        ("a &amp; b", "bad-format"),
        ("<![CDATA[x]]>", "bad-format"),
    ];
    for (text, condition) in rows {
        let mut stage = bound();
        stage.hears(NEAR, text);
        assert_eq!(ended(&mut stage), condition, "{text}");
        assert!(stage.passed().is_empty());
    }
}

// Table 0.3: what servers drop is dropped and counted, nobody hears of it, and no count of SM-02 changes.
#[test]
fn what_servers_overlook_on_a_bound_stream_is_dropped_and_counted() {
    let rows = [
        ("<enabled xmlns='urn:xmpp:sm:3' id='x'/>", Reason::UnsupportedStanzaType),
        ("<enabled xmlns='urn:xmpp:sm:2'/>", Reason::UnsupportedStanzaType),
        ("<failed xmlns='urn:xmpp:sm:3'/>", Reason::UnsupportedStanzaType),
        ("<resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>", Reason::UnsupportedStanzaType),
        ("<stream:features/>", Reason::UnsupportedStanzaType),
        ("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", Reason::UnsupportedStanzaType),
        ("<abort xmlns='urn:xmpp:sasl:2'/>", Reason::UnsupportedStanzaType),
        ("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>YQ==</response>", Reason::UnsupportedStanzaType),
        ("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", Reason::UnsupportedStanzaType),
        ("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", Reason::UnsupportedStanzaType),
        ("text, and \u{e4}", Reason::BadFormat),
    ];
    for (text, reason) in rows {
        let mut stage = bound();
        for _ in 0..2 {
            stage.hears(NEAR, text);
            stage.hears(NEAR, "<presence/>");
        }
        assert_eq!(stage.passed().len(), 2, "{text}");
        assert_eq!((stage.said(NEAR), stage.said(FAR)), (String::new(), String::new()), "{text}");
        assert_eq!(stage.reasons(), [reason; 2], "{text}");
        assert!(stage.relay.is_bound() && stage.relay.wants_read(NEAR));
    }
    // Everywhere else text is a breach.
    for mut stage in [offered(&mechanisms(&["PLAIN"])), unbound()] {
        stage.said(NEAR);
        stage.hears(NEAR, "text");
        assert_eq!(ended(&mut stage), "bad-format");
    }
}

// SM-10, C2S-16: the server answers, and the stream goes on.
#[test]
fn a_resumption_or_a_second_enable_or_bind_on_a_bound_stream_is_the_servers_to_answer() {
    for ask in [
        "<resume xmlns='urn:xmpp:sm:3' h='0' previd='x'/>",
        "<resume xmlns='urn:xmpp:sm:2' h='0' previd='x'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
    ] {
        let mut stage = bound();
        stage.hears(NEAR, ask);
        assert_eq!(stage.said(FAR), ask);
        stage.hears(FAR, &unexpected(3));
        assert_eq!(stage.said(NEAR), unexpected(3));
        stage.hears(NEAR, "<presence/>");
        assert_eq!(stage.passed().len(), 1);
    }
    for ask in [
        bind("b2"),
        format!("<iq type='set' id='b2'><unbind xmlns='{BIND}'><resource>x</resource></unbind></iq>"),
    ] {
        let mut stage = bound();
        stage.hears(NEAR, &ask);
        assert_eq!(stage.passed(), [(FarId(1), ask)]);
        let refusal = format!(
            "<iq type='error' id='b2'><bind xmlns='{BIND}'/><error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
        stage.hears(FAR, &refusal);
        assert_eq!(stage.delivered(), [refusal]);
        // C2S-13: who the client is was said; jabberd2 would bind one more address to the stream.
        stage.hears(FAR, &bind_result("b2", "alice@hall.example/other"));
        assert!(stage.delivered().is_empty());
        assert_eq!(ended(&mut stage), "internal-server-error");
    }
}

// SM-03: on a managed stream stopped by the end of the stream, never dropped or answered. XML-17: with a text that names the
// limit, and the session behind is closed, so that no resumption brings the stanza back.
#[test]
fn a_stanza_above_the_limit_ends_a_managed_stream() {
    let over = [
        format!("<message to='bob@hall.example'><body>{}</body></message>", "x".repeat(300 * 1024)),
        format!("<message to='bob@hall.example'>{}</message>", "<a/>".repeat(9000)),
        "<presence><\u{e9}/></presence>".to_owned(),
    ];
    for (stanza, words) in over.iter().zip([
        ", and 262144 is the most (stanza)",
        ": 9001, and 8192 is the most (nodes)",
        "(name-beyond-ascii)",
    ]) {
        for how in ["enable", "resumed", "refused"] {
            let mut stage = bound();
            stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
            match how {
                "resumed" => stage.hears(FAR, "<enabled xmlns='urn:xmpp:sm:3' id='s' resume='true'/>"),
                "refused" => stage.hears(FAR, "<failed xmlns='urn:xmpp:sm:3'/>"),
                _ => {}
            }
            stage.effects.clear();
            stage.hears(NEAR, stanza);
            assert!(stage.passed().is_empty());
            if how == "refused" {
                assert!(
                    stage.said(NEAR).starts_with("<message type='error'") || stanza.starts_with("<presence")
                );
                continue;
            }
            let said = stage.said(NEAR);
            assert!(said.starts_with("<stream:error><policy-violation"), "{said}");
            assert!(
                said.contains("<text ") && said.contains(words) && said.ends_with("</stream:stream>"),
                "{said}"
            );
            assert_eq!(stage.said(FAR), "</stream:stream>", "the session is closed, not left to be resumed");
        }
    }
}

// XML-17: on a stream without management it alone comes back, by kind, and the stream goes on.
#[test]
fn a_refused_stanza_of_a_client_comes_back_and_the_stream_goes_on() {
    let mut stage = bound();
    let odd = "<\u{e9}/>";
    for (stanza, said, passed) in [
        (
            format!("<message to='b@hall.example' id='1' type='chat'>{odd}</message>"),
            "<message type='error' id='1' from='b@hall.example'><error type='modify'><not-acceptable ",
            "",
        ),
        (
            format!("<iq type='get' id='2'>{odd}</iq>"),
            "<iq type='error' id='2'><error type='modify'><not-acceptable ",
            "",
        ),
        (
            format!("<iq type='result' id='3' to='c@friend.example/x'>{odd}</iq>"),
            "",
            "<iq type='error' id='3' to='c@friend.example/x'><error type='modify'><not-acceptable ",
        ),
        (format!("<message to='b@hall.example' type='error'>{odd}</message>"), "", ""),
        (format!("<iq type='error' id='4'>{odd}</iq>"), "", ""),
        (format!("<presence to='room@muc.example/nick'>{odd}</presence>"), "", ""),
        (
            format!("<presence to='b@hall.example' type='subscribe'>{odd}</presence>"),
            "<presence type='error' from='b@hall.example'><error type='modify'><not-acceptable ",
            "",
        ),
        (
            format!(
                "<message to='b@hall.example'{}/>",
                (0..70).map(|i| format!(" a{i}=''")).collect::<String>()
            ),
            "<message type='error' from='b@hall.example'><error type='modify'><policy-violation ",
            "",
        ),
    ] {
        stage.hears(NEAR, &stanza);
        let (answer, went) = (stage.said(NEAR), stage.passed());
        assert_eq!(answer.is_empty(), said.is_empty(), "{stanza}: {answer}");
        assert!(answer.starts_with(said), "{stanza}: {answer}");
        let went = went.first().map(|(_, octets)| octets.clone()).unwrap_or_default();
        assert!(went.starts_with(passed) && went.is_empty() == passed.is_empty(), "{stanza}: {went}");
        assert_eq!(answer.contains("stanza-too-big"), said.contains("policy-violation"), "{answer}");
        stage.hears(NEAR, "<message to='b@hall.example'><body>fine</body></message>");
        assert_eq!(stage.passed().len(), 1);
    }
    // A forged sender ends it, refused or not.
    stage.hears(NEAR, &format!("<message from='mallory@hall.example' to='b@hall.example'>{odd}</message>"));
    assert_eq!(ended(&mut stage), "invalid-from");
}

// XML-17: "a text that names the limit", of each limit, and what was found: where it comes back alone, and where it ends a managed
// stream; from a client, and from the server behind.
#[test]
fn who_sent_too_much_reads_the_limit_and_how_much_it_was() {
    let many = |n: usize, one: &dyn Fn(usize) -> String| (0..n).map(one).collect::<String>();
    let attributes = |n: usize| format!("<x{}/>", many(n, &|i| format!(" a{i}=''")));
    let nested = |n: usize| format!("{}{}", "<b>".repeat(n - 1), "</b>".repeat(n - 1));
    let over = [
        ("depth", 64, nested(65)),
        ("nodes", 8192, "<b/>".repeat(8192)),
        ("attrs", 64, attributes(65)),
        ("nsdecl", 32, format!("<x{}/>", many(33, &|i| format!(" xmlns:p{i}='u'")))),
        ("attr-value", 8192, format!("<x a='{}'/>", "v".repeat(8193))),
        ("name", 256, format!("<{}/>", "n".repeat(257))),
        ("namespace-name", 1024, format!("<x xmlns='{}'/>", "n".repeat(1025))),
        ("stanza", 262_144, format!("<body>{}</body>", "x".repeat(262_144))),
        ("grown", 1_048_576, format!("<body>{}</body>", "'".repeat(200_000))),
    ];
    let rows = [NEAR, FAR].into_iter().flat_map(|side| over.iter().map(move |row| (side, row)));
    for (side, (label, most, inside)) in rows {
        let from = if side == FAR { " from='c@friend.example'" } else { "" };
        let stanza = format!("<message to='alice@hall.example'{from} id='1'>{inside}</message>");
        for managed in [false, true] {
            let mut stage = bound();
            if managed {
                stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
                stage.effects.clear();
            }
            stage.hears(side, &stanza);
            if (side, managed) == (FAR, true) {
                // SM-02: what its server says has another in its place, and the stream goes on; the log alone tells the limit.
                let stood_in = stage.delivered();
                assert_eq!(
                    stood_in,
                    ["<message to='alice@hall.example' from='c@friend.example'/>"],
                    "{label}"
                );
                let told = stage.effects.iter().any(|effect| {
                    let told = format!("{effect:?}");
                    told.contains("Unfit") && told.contains(&format!("measure: Some(({most}, "))
                });
                assert!(told && stage.said(NEAR).is_empty(), "{label}: {:?}", stage.effects);
                continue;
            }
            let said = match (side, managed) {
                (FAR, false) => stage.passed().remove(0).1,
                _ => stage.said(NEAR),
            };
            let text =
                said.split_once("xml:lang='en'>").unwrap_or_else(|| panic!("{label}, {side:?}: {said}")).1;
            let text = text.split('<').next().unwrap();
            let (found, rest) = text.split_once(": ").unwrap().1.split_once(", and ").unwrap();
            assert!(found.parse::<usize>().unwrap() > *most, "{text}");
            assert_eq!(rest, format!("{most} is the most ({label})"));
            assert_eq!(said.contains("<stream:error>"), managed, "{said}");
        }
    }
}

// The same from the server behind: whoever sent it hears it from there, and whoever waits for an answer has one.
#[test]
fn a_refused_stanza_of_the_server_behind_comes_back_to_it() {
    let odd = "<\u{e9}/>";
    let mut stage = bound();
    stage.hears(
        FAR,
        &format!("<message from='c@friend.example' to='alice@hall.example' id='1'>{odd}</message>"),
    );
    let (delivered, passed) = (stage.delivered(), stage.passed());
    assert!(delivered.is_empty() && passed.len() == 1, "{delivered:?}");
    assert!(passed[0].1.starts_with("<message type='error' id='1' to='c@friend.example'>"), "{passed:?}");
    stage.hears(FAR, &format!("<presence from='c@friend.example'>{odd}</presence>"));
    assert!(stage.delivered().is_empty() && stage.passed().is_empty());
    stage.hears(FAR, &format!("<iq type='result' from='c@friend.example' id='2'>{odd}</iq>"));
    let delivered = stage.delivered();
    assert!(delivered[0].starts_with("<iq type='error' id='2' from='c@friend.example'>"), "{delivered:?}");
}

/// Each of these stanzas of the server has one in its place, of the same count, that begins so and holds nothing of that; the next one
/// passes as it is.
fn keeps_the_count(stage: &mut Stage, rows: &[(String, &str)], harmful: &str) {
    stage.effects.clear();
    for (stanza, expected) in rows {
        stage.hears(FAR, stanza);
        let (delivered, passed) = (stage.delivered(), stage.passed());
        assert_eq!((delivered.len(), passed.len()), (1, 0), "{stanza}: {delivered:?} {passed:?}");
        assert!(delivered[0].starts_with(expected) && !delivered[0].contains(harmful), "{delivered:?}");
    }
    stage.hears(FAR, "<message from='c@friend.example'><body>y</body></message>");
    assert!(stage.delivered()[0].contains("<body>y</body>"));
    assert_eq!(stage.said(NEAR), "");
}

/// What takes the place of a stanza of each kind that holds this, with the same count.
fn in_their_place(odd: &str) -> Vec<(String, &'static str)> {
    let from = "from='c@friend.example'";
    vec![
        (
            format!("<message {from} id='1'><body>x</body>{odd}</message>"),
            "<message from='c@friend.example'/>",
        ),
        (format!("<message {from} type='error'>{odd}</message>"), "<message from='c@friend.example'/>"),
        (format!("<presence {from}>{odd}</presence>"), "<message from='c@friend.example'/>"),
        (
            format!("<iq type='result' {from} id='2'>{odd}</iq>"),
            "<iq type='error' id='2' from='c@friend.example'>",
        ),
        (
            format!("<iq type='get' {from} id='3'>{odd}</iq>"),
            "<iq type='get' id='3' from='c@friend.example'><policy-violation ",
        ),
    ]
}

// XML-17, SM-02: of a client with stream management it would be kept for the next login, and end each of them: one of the same count goes
// in its place, by kind, whether the server has granted the client's wish already or not.
#[test]
fn a_refused_stanza_of_the_server_behind_keeps_the_count_of_a_managed_stream() {
    let (from, odd) = ("from='c@friend.example'", "<\u{e9}/>");
    let attributes: String = (0..70).map(|i| format!(" a{i}=''")).collect();
    let mut rows = in_their_place(odd);
    rows.extend([
        (format!("<message {from}{attributes}/>"), "<message from='c@friend.example'/>"),
        (
            format!("<iq type='set' {from} id='{}'>{odd}</iq>", "i".repeat(1025)),
            "<iq type='set' from='c@friend.example'><policy-violation ",
        ),
    ]);
    for granted in [false, true] {
        let mut stage = bound();
        stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
        if granted {
            stage.hears(FAR, "<enabled xmlns='urn:xmpp:sm:3' resume='true' id='s'/>");
        }
        keeps_the_count(&mut stage, &rows, "\u{e9}");
    }
}

// SM-02, POL-12: what a patch denies of the server would be kept for the next login and end each of them. Where stanzas are counted
// one of the same count goes in its place: nothing of the denied one, an error for an answer, and a question that its sender hears refused.
#[test]
fn what_a_patch_denies_of_the_server_keeps_the_count() {
    let text = "version: v1\npatches:\n  - { name: p, reason: r, action: deny, direction: outbound, flows: [c2s], payload: urn:x }\n";
    let (file, findings) = gatehouse::config::load::parse(text, "p.yaml");
    assert!(findings.is_empty(), "{findings:?}");
    let source = gatehouse::policy::PatchSource::new("p.yaml", file);
    let today = gatehouse::policy::Day::parse("2026-11-21").unwrap();
    let (patches, _, _) = gatehouse::policy::compile_patches(&[source], None, today).unwrap();
    let (from, odd) = ("from='c@friend.example'", "<x xmlns='urn:x'/>");
    let mut rows = in_their_place(odd);
    rows.push((
        format!("<presence {from} type='subscribe'>{odd}</presence>"),
        "<message from='c@friend.example'/>",
    ));
    for asked in [false, true] {
        let mut stage = bound();
        let policy = std::sync::Arc::new(any().with_patches(patches.clone()));
        stage.step(NEAR, Input::Policy(policy));
        stage.hears(NEAR, "<enable xmlns='urn:xmpp:sm:3'/>");
        if !asked {
            stage.hears(FAR, "<enabled xmlns='urn:xmpp:sm:3' resume='true' id='s'/>");
        }
        keeps_the_count(&mut stage, &rows, "urn:x");
    }
}

// SM-02, SM-04, SM-10.
#[test]
fn stream_management_and_client_state_pass_in_order() {
    let mut stage = bound();
    for ns in ["urn:xmpp:sm:2", "urn:xmpp:sm:3"] {
        for name in ["enable", "r"] {
            stage.hears(NEAR, &format!("<{name} xmlns='{ns}'/>"));
            assert_eq!(stage.said(FAR), format!("<{name} xmlns='{ns}'/>"));
        }
        stage.hears(FAR, &format!("<a xmlns='{ns}' h='4'/>"));
        assert_eq!(stage.said(NEAR), format!("<a xmlns='{ns}' h='4'/>"));
        stage.hears(FAR, &format!("<enabled xmlns='{ns}' id='s-1' location='10.0.0.5:5222' resume='true'/>"));
        assert_eq!(stage.said(NEAR), format!("<enabled xmlns='{ns}' id='s-1' resume='true'/>"));
    }
    stage.effects.clear();
    stage.hears(NEAR, "<presence/><inactive xmlns='urn:xmpp:csi:0'/><message/><r xmlns='urn:xmpp:sm:3'/>");
    let order: Vec<_> = stage
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Pass(_, Passing { octets, .. }) | Effect::Send(FAR, octets) => {
                Some(text(octets).to_owned())
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        order,
        ["<presence/>", "<inactive xmlns='urn:xmpp:csi:0'/>", "<message/>", "<r xmlns='urn:xmpp:sm:3'/>"]
    );
}
