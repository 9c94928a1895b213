//! Legs that we open into the world: attempts, what waits for them, and what comes back.

use super::*;

// D9: `explain-to-users: off` tells the condition alone.
#[test]
fn users_read_why_or_nothing_of_it() {
    for explain in [true, false] {
        let text = "version: v1\nrules: []\n";
        let mut stage = Stage::new(
            RelayParams { explain, ..relays() },
            policy(Federation::Listed, text),
            Flow::S2sOut,
            None,
        );
        stage.hears(NEAR, &header("hall.example", "stranger.example"));
        stage.hears(NEAR, "<message from='a@hall.example/x' to='b@stranger.example'/>");
        let report = stage.reported().remove(0).1;
        let why = "stranger.example: no rule allows this domain (not-listed)";
        assert!(report.contains("<forbidden ") && report.contains(why) == explain, "{report}");
    }
}

// CRT-13: a certificate that does not speak for the target ends the attempt where a certificate is required.
#[test]
fn an_untrusted_peer_is_left_for_the_next_address() {
    let strict = policy(
        Federation::Listed,
        "version: v1\nrules:\n  - { name: strict, domains: [friend.example], identity: [certificate] }\n",
    );
    let mut stage = courier(relays(), strict, "hall.example", "friend.example", Load::Own);
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

// A courier delivers in order, and bounces each stanza once when it cannot.
// DB-51: what waits goes in order.
#[test]
fn a_courier_delivers_or_bounces_once() {
    let whom = pair("friend.example", "hall.example");
    let stanza = |id: &str| {
        format!("<message id='{id}' from='a@friend.example' to='b@hall.example'><body>1</body></message>")
    };
    let relays = std::sync::Arc::new(relays());
    let now = std::time::Instant::now();
    let made = Relay::courier(relays.clone(), any(), whom.clone(), (Load::Carried, None), now);
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

    let mut stage = Stage::of(Relay::courier(relays, any(), whom, (Load::Carried, None), now));
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

// DB-69: a report stream that is refused is opened anew, three times within ten seconds; and one that ends with `invalid-from`
// within a second after its `valid` says it all once more.
#[test]
fn a_report_stream_is_opened_anew() {
    let report = "<message type='error' from='b@friend.example' to='a@hall.example/x' id='1'/>";
    let mut stage = courier(relays(), any(), "friend.example", "hall.example", Load::Report);
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

// BE-11, DB-69: an error that this machine has no room to send waits until it has, for as long as ten minutes: nobody else tells its
// sender what became of the stanza. What others have sent does not wait behind it.
#[test]
fn an_error_waits_for_room_and_nothing_else_does() {
    let why = || gatehouse::reason::Why::because(Reason::NoRoom, Cause::NoSockets);
    for (sender, target, load) in
        [("friend.example", "hall.example", Load::Report), ("hall.example", "friend.example", Load::Carried)]
    {
        let error = format!("<message type='error' from='b@{sender}' to='a@{target}/x' id='1'/>");
        let waiting = || {
            let mut stage = courier(relays(), any(), sender, target, load);
            stage.step(NEAR, Input::Queue(load, error.clone().into()));
            for n in 1..=300 {
                assert_eq!(stage.connects().len(), n);
                let far = stage.connects().last().unwrap().0;
                stage.step(Side::Far(far), Input::Unreachable(why()));
                assert!(!stage.relay.is_done() && stage.carried().is_empty());
                stage.wait(Duration::from_secs(1));
            }
            stage
        };
        let mut stage = waiting();
        let far = stage.connects().last().unwrap().0;
        match load {
            Load::Report => stand(&mut stage, far, sender, target),
            _ => {
                goes_along(&mut stage, far, 3);
                stage.hears(
                    Side::Far(far),
                    &format!("<db:result from='{target}' to='{sender}' type='valid'/>"),
                );
            }
        }
        assert_eq!(stage.passed(), [(far, error.clone())]);
        // It is not kept for ever.
        let mut stage = waiting();
        for _ in 300..=601 {
            let far = stage.connects().last().unwrap().0;
            stage.step(Side::Far(far), Input::Unreachable(why()));
            stage.wait(Duration::from_secs(1));
        }
        assert!(stage.relay.is_done());
        // A gateway that drains does not wait.
        let mut stage = waiting();
        let far = stage.connects().last().unwrap().0;
        stage.step(NEAR, Input::Drain);
        stage.step(Side::Far(far), Input::Unreachable(why()));
        assert!(stage.relay.is_done());
    }
    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Carried);
    stage.step(
        NEAR,
        Input::Queue(Load::Carried, "<message type='error' from='hall.example' to='friend.example'/>".into()),
    );
    let far = stage.connects().last().unwrap().0;
    stage.step(Side::Far(far), Input::Unreachable(why()));
    assert!(!stage.relay.is_done());
    stage.step(
        NEAR,
        Input::Queue(Load::Own, "<message from='a@hall.example' to='b@friend.example' id='2'/>".into()),
    );
    let far = stage.connects().last().unwrap().0;
    assert_eq!(stage.connects().len(), 2, "it is tried at once");
    stage.step(Side::Far(far), Input::Unreachable(why()));
    assert!(stage.relay.is_done());
    let reported = stage.reported();
    assert!(reported.len() == 1 && reported[0].1.contains("resource-constraint"), "{reported:?}");
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
    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
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
        assert!(!stage.has(|effect| matches!(effect, Effect::Reached(..))), "nothing is held against it");
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
            let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
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
        let mut relays = relays();
        relays.timeouts.tls = Duration::from_secs(5);
        let mut stage = courier(relays, any(), "hall.example", "friend.example", Load::Own);
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

// DB-52: the peer says that the key is invalid: what waited goes back as final, and that stream is used for nothing more.
#[test]
fn an_invalid_key_of_ours_sends_back_what_waited() {
    let mut stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
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
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    assert!(!stage.said(NEAR).contains("starttls"));
    stage.hears(NEAR, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(stage.said(NEAR), "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>");
}

// BE-01: a backend that does not believe our key, or says nothing, is doubted; one that is down is not.
#[test]
fn a_backend_that_does_not_believe_us_is_looked_into() {
    let doubts =
        |stage: &Stage| stage.effects.iter().filter(|e| matches!(e, Effect::KeyRejected(..))).count();
    let claimed = || {
        let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
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
        let stage = courier(relays(), any(), "hall.example", "friend.example", Load::Own);
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
