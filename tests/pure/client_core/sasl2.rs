//! SASL2, Bind 2 and FAST.

use super::*;

// CB-10: tls-0rtt is taken out.
#[test]
fn sasl2_lists_are_filtered_alike() {
    let mut stage = offered(&modern());
    let said = stage.said(NEAR);
    assert!(
        said.ends_with(&format!(
            "<stream:features><authentication xmlns='{SASL2}'><mechanism>SCRAM-SHA-1</mechanism>\
             <mechanism>PLAIN</mechanism><inline><sm xmlns='urn:xmpp:sm:3'/><bind xmlns='urn:xmpp:bind:0'><inline>\
             <feature var='urn:xmpp:carbons:2'/><feature var='urn:xmpp:sm:3'/></inline></bind>\
             <fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-NONE</mechanism></fast></inline></authentication>\
             {EARLY}</stream:features>"
        )),
        "{said}"
    );
}

#[test]
fn sasl2_with_bind_2_binds_at_once() {
    let inside =
        "<bind xmlns='urn:xmpp:bind:0'><tag>x</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
    let mut stage = asked(inside);
    let bound =
        "<bound xmlns='urn:xmpp:bind:0'><enabled xmlns='urn:xmpp:sm:3' id='s' location='10.0.0.5'/></bound>";
    stage.hears(FAR, &success(ME, bound));
    assert_eq!(stage.said(NEAR), success(ME, &bound.replace(" location='10.0.0.5'", "")));
    assert!(stage.relay.is_bound());
    assert!(!stage.has(|e| matches!(e, Effect::Restart(Side::Near))));
    stage.hears(FAR, "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><odd xmlns='urn:example'/></stream:features>");
    let said = stage.said(NEAR);
    assert!(said.starts_with("<stream:features>") && !said.contains("odd"), "{said}");
    stage.hears(NEAR, &format!("<presence from='{ME}'/>"));
    assert_eq!(stage.passed().len(), 1);
}

#[test]
fn sasl2_without_bind_goes_on_to_a_bind() {
    let mut stage = asked("");
    stage.hears(FAR, &success("alice@hall.example", ""));
    stage.said(NEAR);
    assert!(!stage.relay.is_bound());
    stage.hears(FAR, &format!("<stream:features>{}</stream:features>", bound_features()));
    assert!(stage.said(NEAR).contains(BIND));
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    assert!(stage.relay.is_bound());
}

// C2S-19: Prosody 13 writes features behind an inline resumption, behind what waited there; ejabberd 24.12 writes none.
#[test]
fn features_may_follow_an_inline_resumption() {
    let resumed = "<resumed xmlns='urn:xmpp:sm:3' h='2' previd='s'/>";
    let waiting = format!("<message from='bob@hall.example/x' to='{ME}'><body>waited</body></message>");
    let features = format!("<stream:features>{}</stream:features>", bound_features());
    for written in [true, false] {
        let mut stage = asked("<resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>");
        stage.hears(FAR, &success(ME, resumed));
        assert_eq!(stage.said(NEAR), success(ME, resumed));
        stage.hears(FAR, &format!("{waiting}<r xmlns='urn:xmpp:sm:3'/>"));
        assert_eq!(stage.delivered(), [waiting.as_str()]);
        assert_eq!(stage.said(NEAR), "<r xmlns='urn:xmpp:sm:3'/>");
        if written {
            stage.hears(FAR, &features);
            let said = stage.said(NEAR);
            assert!(said.starts_with("<stream:features>") && said.contains(BIND), "{said}");
        }
        stage.hears(NEAR, "<a xmlns='urn:xmpp:sm:3' h='1'/><presence/>");
        assert_eq!(stage.said(FAR), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
        assert_eq!(stage.passed().len(), 1);
        assert!(stage.relay.is_bound() && stage.said(NEAR).is_empty());
    }
    // XEP-0386: what cannot be resumed is bound at once, where that was asked for, or later.
    let failed = "<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
    let both = "<bind xmlns='urn:xmpp:bind:0'/><resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>";
    let mut stage = asked(both);
    let word = success(ME, &format!("<bound xmlns='urn:xmpp:bind:0'/>{failed}"));
    stage.hears(FAR, &format!("{word}{features}"));
    assert!(stage.said(NEAR).starts_with(&word));
    assert!(stage.relay.is_bound());
    let mut stage = asked("<resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>");
    stage.hears(FAR, &format!("{}{features}", success("alice@hall.example", failed)));
    assert!(!stage.relay.is_bound() && stage.said(NEAR).contains(failed));
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    assert!(stage.relay.is_bound());
}

#[test]
fn sasl2_resumes_at_once() {
    let mut stage = asked("<resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>");
    stage.hears(FAR, &success("alice@hall.example", "<resumed xmlns='urn:xmpp:sm:3' h='2' previd='s'/>"));
    assert!(stage.relay.is_bound());
    stage.said(NEAR);
    stage.hears(NEAR, "<presence from='bob@hall.example'/>");
    assert_eq!(ended(&mut stage), "invalid-from");
}

#[test]
fn what_was_not_offered_with_sasl2_is_refused_when_used() {
    let rows = [
        ("<odd xmlns='urn:example'/>", "malformed-request"),
        ("<bind xmlns='urn:xmpp:bind:0'><odd xmlns='urn:example'/></bind>", "malformed-request"),
        ("<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-EXPR'/>", "invalid-mechanism"),
        ("<initial-response>?</initial-response>", "malformed-request"),
    ];
    for (inside, condition) in rows {
        let mut stage = offered(&modern());
        stage.said(NEAR);
        stage.said(FAR);
        stage.hears(NEAR, &authenticate("PLAIN", inside));
        assert_eq!(
            stage.said(NEAR),
            format!("<failure xmlns='{SASL2}'><{condition} xmlns='{SASL}'/></failure>"),
            "{inside}"
        );
        assert_eq!(stage.said(FAR), "");
    }
    for mechanism in ["SCRAM-SHA-1-PLUS", "HT-SHA-256-EXPR", "OAUTHBEARER"] {
        let mut stage = offered(&modern());
        stage.said(NEAR);
        stage.hears(NEAR, &authenticate(mechanism, ""));
        assert!(stage.said(NEAR).contains("<invalid-mechanism "), "{mechanism}");
    }
}

#[test]
fn a_token_is_used_like_a_mechanism() {
    let mut stage = offered(&modern());
    stage.said(FAR);
    let text = authenticate("HT-SHA-256-NONE", "<fast xmlns='urn:xmpp:fast:0' count='1'/>");
    stage.hears(NEAR, &text);
    assert_eq!(attempts(&mut stage)[0].mechanism, Mechanism::HashedToken256);
    stage.step(NEAR, Input::Tried(Ok(())));
    assert_eq!(stage.said(FAR), text);
}

#[test]
fn a_sasl2_success_must_fit_what_was_asked() {
    let bound = "<bound xmlns='urn:xmpp:bind:0'/>";
    let resumed = "<resumed xmlns='urn:xmpp:sm:3' h='0' previd='s'/>";
    let rows = [
        (success(ME, bound), Reason::BackendFault),
        (success(ME, resumed), Reason::BackendFault),
        (success("alice@evil.example", ""), Reason::ForeignAddress),
        (success("hall.example", ""), Reason::ForeignAddress),
        (format!("<success xmlns='{SASL2}'/>"), Reason::BackendFault),
        (format!("<success xmlns='{SASL}'/>"), Reason::BackendFault),
        (success(ME, "<additional-data>?</additional-data>"), Reason::BackendFault),
    ];
    for (text, reason) in rows {
        let mut stage = asked("");
        stage.hears(FAR, &text);
        assert_eq!(ended(&mut stage), "internal-server-error", "{text}");
        assert_eq!(told(&stage), [reason], "{text}");
        assert!(!stage.relay.is_bound());
    }
}

/// C2S-19.
#[test]
fn no_white_space_during_a_sasl2_login() {
    let mut stage = asked("");
    stage.hears(FAR, &format!("<challenge xmlns='{SASL2}'>cj14</challenge>"));
    stage.said(NEAR);
    stage.hears(NEAR, " ");
    assert_eq!(ended(&mut stage), "not-authorized");
    let mut stage = bound();
    stage.hears(NEAR, " \n ");
    assert_eq!(stage.said(NEAR), "");
}

/// What the relay writes anew stands in any stream, in canonical form.
#[test]
fn what_is_written_anew_is_canonical() {
    let mut stage = offered(&modern());
    let mut all = stage.said(NEAR);
    stage.hears(
        NEAR,
        &format!(
            "<s:authenticate xmlns:s='{SASL2}' mechanism='PLAIN'><s:initial-response>AGFsaWNlAHB3</s:initial-response>\
             <s:user-agent id=\"a&quot;b'c\"><s:software xmlns:q='urn:q' q:k='v' xml:lang='en'>a &amp; b</s:software></s:user-agent></s:authenticate>"
        ),
    );
    stage.step(NEAR, Input::Tried(Ok(())));
    all += &stage.said(FAR);
    let body = all.split_once("<stream:features>").unwrap().1;
    let mut framer = Framer::new(Limits::default(), Content::Client);
    framer.feed(format!("{}<stream:features>{body}", hello()).as_bytes());
    let tokens: Vec<_> = std::iter::from_fn(|| framer.next()).collect();
    assert_eq!(tokens.len(), 3, "{all}");
    for token in &tokens[1..] {
        let Token::Element(frame) = token else { panic!("{token:?}") };
        assert!(frame.passed_as_received(), "{frame:?}");
    }
}
