//! How claims, pairs and streams of remote servers end.

use super::*;

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
        let mut stage = inbound(relays(), any(), "friend.example", &[]);
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
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
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
        let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
        stage.step(
            NEAR,
            Input::Queue(Load::Own, "<message from='a@hall.example' to='b@friend.example'/>".into()),
        );
        let (far, _) = stage.connects()[0].clone();
        stage.step(Side::Far(far), Input::Unreachable(reason.into()));
        assert!(stage.reported()[0].1.contains(&format!("<{condition} ")), "{reason}");
    }
}

// POL-07: a new policy takes a pair back; the stream ends when none is left.
#[test]
fn a_new_policy_judges_living_streams() {
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
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
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
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

// CLS-03: silence, a trickle and repeated dialback all meet the same end.
#[test]
fn no_traffic_extends_the_time_before_proof() {
    let mut stage = Stage::new(relays(), any(), Flow::S2sIn, None);
    stage.wait(Duration::from_secs(11));
    assert!(stage.has(|e| matches!(e, Effect::Cut(Side::Near))) && stage.said(NEAR).is_empty());
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
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
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
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
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    for _ in 0..20 {
        stage.hears(NEAR, question);
        unknown(&mut stage);
        stage.wait(Duration::from_secs(3));
    }
    assert!(stage.said(NEAR).contains("<policy-violation "));
    // A stream that claims something is no such stream: it lives by the proof of its pair.
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.hears(NEAR, question);
    unknown(&mut stage);
    stage.said(NEAR);
    stage.wait(Duration::from_secs(60));
    assert_eq!(stage.said(NEAR), "");
}

// CLS-06: a backend that ends an idle stream of ours is no fault towards the peer.
#[test]
fn a_backend_that_ends_an_idle_stream_costs_the_peer_no_error() {
    let idle = "<stream:error><connection-timeout xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    for (after, end, plain) in
        [(0, idle, true), (0, "</stream:stream>", true), (120, "", true), (0, "", false)]
    {
        let mut stage = inbound(relays(), any(), "friend.example", &[]);
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
        let mut relays = relays();
        relays.retired.insert(domain("old.example"));
        relays
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

// DB-06: every pending operation ends.
#[test]
fn a_silent_backend_ends_the_claim() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, None);
    stage.hears(Side::Far(far), &answer("L", false));
    stage.wait(Duration::from_secs(31));
    assert!(stage.said(NEAR).contains("<remote-server-timeout "));
}

// CLU-02: a node that was asked about a key may die with the question, and its server may say nothing then; so does jabberd2 as long as it
// believes that the name is not there. The claim is made anew, once to a server of the world, three times inside; and never on the same stream, where a
// server that was only slow (Prosody) takes what we write behind its first answer for unproven. Whoever never answers ends as ever.
#[test]
fn a_claim_without_an_answer_is_made_anew_on_a_new_connection() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    stage.hears(NEAR, "<db:result from='friend.example' to='hall.example'>k</db:result>");
    let (far, _) = stage.connects()[0].clone();
    let inside = (&mut stage, far, "L", "friend.example", "hall.example");
    let mut outside = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
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
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
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
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
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
