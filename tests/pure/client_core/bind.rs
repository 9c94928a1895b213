//! Binding a resource.

use super::*;

// C2S-14.
#[test]
fn before_the_bind_only_a_bind_has_a_place() {
    let rows = [
        ("<message to='bob@hall.example'/>", "not-authorized"),
        ("<presence/>", "not-authorized"),
        ("<iq type='set' id='1'><query xmlns='jabber:iq:auth'/></iq>", "policy-violation"),
        ("<iq type='set' id='1'><unbind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "not-authorized"),
        ("<r xmlns='urn:xmpp:sm:3'/>", "not-authorized"),
        ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>", "not-authorized"),
        (
            "<iq from='bob@hall.example' type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
            "invalid-from",
        ),
    ];
    for (text, condition) in rows {
        let mut stage = unbound();
        stage.hears(NEAR, text);
        assert_eq!(ended(&mut stage), condition, "{text}");
        assert_eq!(stage.said(FAR), "</stream:stream>");
    }
}

// Table 0.3: the session of RFC 3921 and client state pass before the bind, and what the server says to them is its own.
#[test]
fn a_session_and_client_state_pass_before_the_bind() {
    let mut stage = unbound();
    let session = |id: &str| {
        format!("<iq id='{id}' type='set'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
    };
    stage.hears(NEAR, &session("s1"));
    assert_eq!(stage.said(FAR), session("s1"));
    let answer = "<iq id='s1' type='error'><error type='cancel'/></iq>";
    stage.hears(FAR, answer);
    assert_eq!(stage.said(NEAR), answer);
    stage.hears(NEAR, "<inactive xmlns='urn:xmpp:csi:0'/>");
    assert_eq!(stage.said(FAR), "<inactive xmlns='urn:xmpp:csi:0'/>");
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    assert!(stage.relay.is_bound());
    // An answer that binds is none to a session.
    let mut stage = unbound();
    stage.hears(NEAR, &session("s1"));
    stage.hears(FAR, &bind_result("s1", ME));
    assert_eq!(ended(&mut stage), "internal-server-error");
}

#[test]
fn binds_are_counted() {
    let mut stage = unbound();
    for n in 0..5 {
        let id = format!("b{n}");
        stage.hears(NEAR, &bind(&id));
        assert!(!stage.relay.wants_read(NEAR), "the answer decides");
        let error = format!("<iq type='error' id='{id}'><error type='cancel'/></iq>");
        stage.hears(FAR, &error);
        assert_eq!(stage.said(NEAR), error);
    }
    stage.hears(NEAR, &bind("b5"));
    assert_eq!(ended(&mut stage), "policy-violation");
    assert_eq!(told(&stage), [Reason::TooManyBinds]);
}

/// C2S-13.
#[test]
fn an_address_outside_the_domain_is_the_backends_fault() {
    for jid in ["alice@evil.example/x", "alice@hall.example", "hall.example/x", "", "@/"] {
        let mut stage = unbound();
        stage.hears(NEAR, &bind("b1"));
        stage.hears(FAR, &bind_result("b1", jid));
        assert_eq!(ended(&mut stage), "internal-server-error", "{jid}");
        assert_eq!(misfits(&stage), [Reason::ForeignAddress]);
        assert!(!stage.relay.is_bound());
    }
}

#[test]
fn another_id_is_no_answer_to_a_bind() {
    let mut stage = unbound();
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b2", ME));
    assert_eq!(ended(&mut stage), "internal-server-error");
}

#[test]
fn a_session_is_resumed_for_the_account_that_logged_in() {
    let mut stage = unbound();
    let resume = "<resume xmlns='urn:xmpp:sm:3' h='3' previd='s-1'/>";
    stage.hears(NEAR, resume);
    assert_eq!(stage.said(FAR), resume);
    let failed = "<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
    stage.hears(FAR, failed);
    assert_eq!(stage.said(NEAR), failed);
    assert!(!stage.relay.is_bound());
    stage.hears(NEAR, resume);
    let resumed = "<resumed xmlns='urn:xmpp:sm:3' h='2' previd='s-1'/>";
    stage.hears(FAR, resumed);
    assert_eq!(stage.said(NEAR), resumed);
    assert!(stage.relay.is_bound());
    // SM-05: which resource the session has, no word said.
    stage.hears(NEAR, "<message from='alice@hall.example/any' to='bob@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
    stage.hears(NEAR, "<message from='bob@hall.example/any' to='bob@hall.example'/>");
    assert_eq!(ended(&mut stage), "invalid-from");
}
