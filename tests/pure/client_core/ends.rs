//! How the stream of a client ends.

use super::*;

/// A client on direct TLS, greeted; nobody inside yet.
fn arrived() -> Stage {
    let mut stage = Stage::new(relays(), any(), Flow::C2s, Some(secured("hall.example", &[])));
    stage.hears(NEAR, &hello());
    stage
}

#[test]
fn a_proper_close_is_relayed_and_awaited() {
    let mut stage = bound();
    stage.hears(NEAR, "</stream:stream>");
    assert_eq!(stage.said(FAR), "</stream:stream>");
    assert_eq!(stage.said(NEAR), "", "the server may still say something");
    stage.hears(FAR, "<a xmlns='urn:xmpp:sm:3' h='9'/><message to='alice@hall.example'/>");
    assert_eq!(stage.said(NEAR), "<a xmlns='urn:xmpp:sm:3' h='9'/>");
    assert_eq!(stage.delivered().len(), 1);
    stage.hears(FAR, "</stream:stream>");
    assert_eq!(stage.said(NEAR), "</stream:stream>");
    assert!(stage.relay.is_done());
    assert_eq!(told(&stage), [Reason::Finished]);
}

#[test]
fn a_clients_stream_error_closes_its_servers_stream() {
    let mut stage = bound();
    stage.hears(
        NEAR,
        "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
    );
    assert_eq!(stage.said(FAR), "</stream:stream>", "the error itself is not relayed");
    stage.hears(FAR, "</stream:stream>");
    assert!(stage.relay.is_done());
    assert_eq!(told(&stage), [Reason::PeerError]);
}

#[test]
fn a_server_that_does_not_close_is_not_waited_for() {
    let mut stage = bound();
    stage.hears(NEAR, "</stream:stream>");
    stage.wait(relays().timeouts.close);
    assert_eq!(stage.said(NEAR), "</stream:stream>");
    assert!(stage.has(|e| matches!(e, Effect::Cut(FAR))));
    assert!(stage.relay.is_done());
}

/// SM-06, both halves: what may be resumed is not closed.
#[test]
fn a_lost_connection_is_passed_on_as_a_lost_connection() {
    let mut stage = bound();
    stage.step(NEAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    assert_eq!(stage.said(FAR), "");
    assert!(stage.has(|e| matches!(e, Effect::Finish(FAR))));
    assert!(stage.relay.is_done());
    let mut stage = bound();
    stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    assert_eq!(stage.said(NEAR), "");
    assert!(stage.has(|e| matches!(e, Effect::Finish(Side::Near))));
    assert!(stage.relay.is_done());
}

#[test]
fn a_server_that_closes_closes_the_client() {
    let mut stage = bound();
    stage.hears(FAR, "</stream:stream>");
    assert_eq!(stage.said(NEAR), "</stream:stream>");
    assert_eq!(stage.said(FAR), "</stream:stream>");
    assert!(stage.relay.is_done());
}

/// ERR-02, C2S-18.
#[test]
fn why_a_server_ended_the_stream_is_told_to_its_client() {
    let streams = "urn:ietf:params:xml:ns:xmpp-streams";
    let error = |condition: &str, more: &str| {
        format!("<stream:error><{condition} xmlns='{streams}'/>{more}</stream:error></stream:stream>")
    };
    let text = |words: &str| format!("<text xmlns='{streams}'>{words}</text>");
    let high = "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='10' send-count='8'/>";
    let rows = [
        (
            error("conflict", &text("Replaced by new connection")),
            error("conflict", &text("Replaced by new connection")),
        ),
        (error("system-shutdown", ""), error("system-shutdown", "")),
        (error("connection-timeout", ""), error("connection-timeout", "")),
        (
            error(
                "undefined-condition",
                &format!("<text xmlns='{streams}' xml:lang='en'>h is too high</text>{high}"),
            ),
            error(
                "undefined-condition",
                &format!("<text xmlns='{streams}' xml:lang='en'>h is too high</text>{high}"),
            ),
        ),
        // What is no condition of RFC 6120 is one that is not defined; what is no application condition that clients know is
        // left out.
        (error("invalid-id", "<x xmlns='urn:example'/>"), error("undefined-condition", "")),
        (
            error(
                "policy-violation",
                &text("node 10.0.0.5, &lt;inside.lan:5222&gt;, asks alice@hall.example\u{202e}"),
            ),
            error("policy-violation", &text("node ..., &lt;...&gt;, asks alice@hall.example")),
        ),
        (
            format!(
                "<stream:error><see-other-host xmlns='{streams}'>inside.lan:5222</see-other-host>{}</stream:error>",
                text("over there")
            ),
            error("internal-server-error", ""),
        ),
    ];
    for (theirs, ours) in rows {
        let mut stage = bound();
        stage.hears(FAR, &theirs);
        assert_eq!(stage.said(NEAR), ours);
        // On the way in it is told as well: before the login, behind it, and before the client's header of the new stream.
        for mut stage in [offered(&mechanisms(&["PLAIN"])), unbound(), granted()] {
            stage.said(NEAR);
            if !stage.said(FAR).is_empty() {
                stage.hears(FAR, &open(" id='B-2' from='hall.example' version='1.0'"));
            }
            stage.hears(FAR, &theirs);
            let said = stage.said(NEAR);
            assert!(said.ends_with(&ours), "{said}");
        }
    }
}

// CLS-06: whoever waits long enough is sent away, which is nobody's fault.
#[test]
fn a_server_that_has_waited_long_enough_closes_the_client_plainly() {
    for gone in [false, true] {
        for mut stage in [offered(&mechanisms(&["PLAIN"])), unbound()] {
            stage.said(NEAR);
            match gone {
                true => stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }),
                false => stage.hears(FAR, "</stream:stream>"),
            }
            assert_eq!(stage.said(NEAR), "</stream:stream>", "{gone}");
            assert_eq!(told(&stage), [Reason::Finished]);
        }
        // In the middle of a login it is a fault.
        let mut stage = offered(&mechanisms(&["PLAIN"]));
        stage.said(NEAR);
        stage.hears(NEAR, &plain("alice"));
        stage.step(NEAR, Input::Tried(Ok(())));
        match gone {
            true => stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() }),
            false => stage.hears(FAR, "</stream:stream>"),
        }
        assert_eq!(ended(&mut stage), "internal-server-error");
    }
}

#[test]
fn a_drain_tells_the_client_and_leaves_the_session() {
    let mut stage = bound();
    stage.step(NEAR, Input::Drain);
    assert_eq!(ended(&mut stage), "system-shutdown");
    assert_eq!(stage.said(FAR), "", "no closing tag: the session can be resumed elsewhere");
    assert!(stage.has(|e| matches!(e, Effect::Finish(FAR))));
    stage.hears(NEAR, "</stream:stream>");
    assert!(stage.relay.is_done());
}

#[test]
fn a_backend_that_is_down_is_told_at_once() {
    let mut stage = arrived();
    stage.said(NEAR);
    stage.step(FAR, Input::Unreachable(Reason::BackendDown.into()));
    assert_eq!(ended(&mut stage), "internal-server-error");
    assert_eq!(told(&stage), [Reason::BackendDown]);
    assert!(stage.notes().iter().any(|e| matches!(e, Event::Backend { up: false, .. })));
}

// The trouble is here: nobody is to look at the backend for it.
#[test]
fn a_connection_that_there_is_no_room_for_is_told_as_that() {
    let mut stage = arrived();
    stage.said(NEAR);
    stage.step(FAR, Input::Unreachable(Reason::NoRoom.into()));
    assert_eq!(ended(&mut stage), "resource-constraint");
    assert_eq!(told(&stage), [Reason::NoRoom]);
    assert!(!stage.notes().iter().any(|e| matches!(e, Event::Backend { .. })));
}

#[test]
fn another_backend_is_tried_until_one_has_spoken() {
    let mut stage = arrived();
    stage.connected(FarId(1), None);
    stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    assert!(stage.has(|e| matches!(e, Effect::Retry(FarId(1), _))));
    stage.connected(FarId(1), None);
    stage.hears(FAR, &greeting("B-1", &mechanisms(&["PLAIN"])));
    stage.said(NEAR);
    stage.effects.clear();
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.step(FAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    // A login is never sent to two of them.
    assert!(!stage.has(|e| matches!(e, Effect::Retry(..))));
    assert_eq!(ended(&mut stage), "internal-server-error");
}

#[test]
fn who_does_not_come_to_a_bind_is_not_waited_for() {
    let unauth = relays().timeouts.unauth;
    let mut stage = offered(&mechanisms(&["PLAIN"]));
    stage.said(NEAR);
    stage.wait(unauth);
    let said = stage.said(NEAR);
    assert!(said.ends_with("</stream:stream>"), "{said}");
    assert_eq!(told(&stage), [Reason::NegotiationTimeout]);
    // A bound client may be silent for as long as it likes.
    let mut stage = bound();
    assert_eq!(stage.relay.deadline(), None);
    stage.wait(unauth * 100);
    assert_eq!(stage.said(NEAR), "");
    // A backend that does not greet is given up.
    let mut stage = arrived();
    stage.connected(FarId(1), None);
    stage.said(NEAR);
    stage.wait(relays().timeouts.header);
    assert!(stage.has(|e| matches!(e, Effect::Retry(FarId(1), _))));
    stage.step(FAR, Input::Unreachable(Reason::BackendDown.into()));
    assert_eq!(ended(&mut stage), "internal-server-error");
    assert!(!stage.notes().iter().any(|e| matches!(e, Event::Backend { up: true, .. })));
    // Nor is one that greets and offers nothing.
    let mut stage = arrived();
    stage.connected(FarId(1), None);
    stage.said(NEAR);
    stage.hears(FAR, &open(" id='B-1' from='hall.example' version='1.0'"));
    stage.wait(relays().timeouts.header);
    assert_eq!(ended(&mut stage), "internal-server-error");
    assert!(!stage.has(|e| matches!(e, Effect::Retry(..))));
}

#[test]
fn the_story_is_told_once_and_counted() {
    let mut stage = bound();
    stage.hears(NEAR, "<message to='bob@hall.example'/>");
    stage.hears(FAR, "<message to='alice@hall.example'/>");
    stage.hears(NEAR, "</stream:stream>");
    stage.hears(FAR, "</stream:stream>");
    stage.step(NEAR, Input::Gone { reason: Reason::ConnectionLost, unsent: Vec::new() });
    let left: Vec<_> = stage
        .notes()
        .iter()
        .filter_map(|e| match e {
            Event::Left { hosted, record } => Some((hosted.clone(), record.stanzas)),
            _ => None,
        })
        .collect();
    assert_eq!(left, [(domain("hall.example"), 2)]);
    let passed = stage.notes().iter().filter(|e| matches!(e, Event::Passed { .. })).count();
    assert_eq!(passed, 2);
}

// A reload reaches whoever is on the way in: the deadlines of the new settings hold for a client as for a server.
#[test]
fn a_client_under_way_moves_to_the_reloaded_settings() {
    let mut stage = arrived();
    let before = stage.relay.deadline().unwrap();
    let mut next = relays();
    next.timeouts.unauth /= 2;
    let sooner = next.timeouts.unauth;
    stage.step(NEAR, Input::RelayParams(std::sync::Arc::new(next)));
    assert_eq!(before - stage.relay.deadline().unwrap(), sooner);
}

// RFC 6120 4.9.3.5: a reload that takes a domain away tells its clients so; those of other domains stay.
#[test]
fn a_client_of_a_domain_that_is_no_longer_served_is_told_that_it_is_gone() {
    let mut stage = bound();
    stage.step(NEAR, Input::RelayParams(std::sync::Arc::new(relays())));
    assert_eq!(stage.said(NEAR), "", "the same domain");
    let mut next = relays();
    next.clients.clear();
    stage.step(NEAR, Input::RelayParams(std::sync::Arc::new(next)));
    let said = stage.said(NEAR);
    assert!(said.contains("<host-gone") && said.ends_with("</stream:stream>"), "{said}");
    assert_eq!(stage.said(FAR), "</stream:stream>");
}
