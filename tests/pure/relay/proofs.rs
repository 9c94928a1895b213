//! How a remote domain is proven: certificates, what its DNS publishes, and keys.

use super::*;

// Requirements 21.2: EXTERNAL; success only when the inside leg stands, then a restart with the same names.
#[test]
fn external_succeeds_when_the_inside_leg_stands() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    assert!(stage.said(NEAR).contains("<mechanism>EXTERNAL</mechanism>"));
    stage.hears(
        NEAR,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>ZnJpZW5kLmV4YW1wbGU=</auth>",
    );
    let (far, _) = stage.connects()[0].clone();
    assert!(stage.said(NEAR).is_empty() && !stage.relay.wants_read(NEAR));
    stand(&mut stage, far, "friend.example", "hall.example");
    assert_eq!(stage.said(NEAR), "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(stage.has(|e| matches!(e, Effect::Restart(Side::Near))));
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    assert!(!stage.said(NEAR).contains("EXTERNAL"));
    stage.hears(NEAR, "<presence from='a@friend.example/1' to='b@hall.example' type='subscribe'/>");
    assert_eq!(stage.passed().len(), 1);
}

// TLS-19: where a certificate is required, a stream without one ends under TLS; where not, EXTERNAL is just not offered.
#[test]
fn a_required_certificate_that_is_missing_ends_the_stream() {
    let strict = policy(
        Federation::Listed,
        "version: v1\nrules:\n  - { name: strict, domains: [friend.example], identity: [certificate] }\n",
    );
    let mut stage = inbound(relays(), strict, "friend.example", &[]);
    assert!(stage.said(NEAR).contains("<policy-violation "));
    let mut stage = inbound(relays(), any(), "friend.example", &["other.example"]);
    let said = stage.said(NEAR);
    assert!(!said.contains("EXTERNAL") && said.contains("<dialback "));
}

/// A verifier of the key with which friend.example claims to be itself.
fn verifier() -> Stage {
    let check = gatehouse::stream::KeyCheck {
        pair: pair("friend.example", "hall.example"),
        stream: "gw-1".into(),
        key: "abc".into(),
    };
    let facing = gatehouse::reason::Facing::Public;
    let relays = std::sync::Arc::new(relays());
    Stage::of(Relay::verifier(relays, any(), facing, check, std::time::Instant::now()))
}

// A verifier asks once and answers once, by EXTERNAL never.
#[test]
fn a_verifier_asks_and_answers_once() {
    let mut stage = verifier();
    let (far, destination) = stage.connects()[0].clone();
    let (from, target) = (domain("hall.example"), domain("friend.example"));
    assert_eq!(
        destination,
        Destination::World { from, target, behalf: Behalf::Claim, posh: false, via: None }
    );
    stage.connected(far, Some(secured("", &["friend.example"])));
    let far = Side::Far(far);
    stage.hears(far, &answer("z", true));
    stage.said(far);
    stage.hears(far, "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>");
    assert_eq!(
        stage.said(far),
        "<db:verify from='hall.example' to='friend.example' id='gw-1'>abc</db:verify>"
    );
    // DB-08: an answer to another question is no answer.
    stage.hears(far, "<db:verify from='friend.example' to='hall.example' id='gw-2' type='valid'/>");
    assert!(!stage.has(|e| matches!(e, Effect::Answer(..))));
    stage.hears(far, "<db:verify from='friend.example' to='hall.example' id='gw-1' type='valid'/>");
    assert!(stage.has(|e| matches!(e, Effect::Answer(KeyAnswer::Valid, _))));
    assert!(stage.said(far).ends_with("</stream:stream>"));
    stage.wait(Duration::from_secs(6));
    assert!(stage.relay.is_done());
    assert_eq!(stage.effects.iter().filter(|e| matches!(e, Effect::Answer(..))).count(), 1);
}

// Time is up, or the gateway drains: what the authority says while its stream closes changes nothing any more.
#[test]
fn an_answer_that_comes_after_the_end_is_not_told() {
    for end in [Input::Drain, Input::Expired] {
        let mut stage = verifier();
        let (far, _) = stage.connects()[0].clone();
        stage.connected(far, Some(secured("", &["friend.example"])));
        let far = Side::Far(far);
        stage.hears(far, &answer("z", false));
        assert!(stage.said(far).contains("<db:verify "));
        stage.now += Duration::from_secs(30);
        stage.step(NEAR, end.clone());
        assert!(stage.said(far).ends_with("</stream:stream>"), "{end:?}");
        stage.hears(far, "<db:verify from='friend.example' to='hall.example' id='gw-1' type='valid'/>");
        let answers: Vec<_> = stage.effects.iter().filter(|e| matches!(e, Effect::Answer(..))).collect();
        assert!(
            matches!(answers.as_slice(), [Effect::Answer(KeyAnswer::Trouble(_), _)]),
            "{end:?}: {answers:?}"
        );
    }
}

// DB-24, CRT-13: an authoritative server without a certificate for its name is asked only where a file says so.
#[test]
fn an_unnamed_authority_is_asked_only_where_a_file_takes_it() {
    let written =
        policy(Federation::Any, "version: v1\ndefaults: { identity: [certificate, dialback] }\nrules: []\n");
    for (policy, asked) in [(any(), false), (written, true)] {
        let check = gatehouse::stream::KeyCheck {
            pair: pair("friend.example", "hall.example"),
            stream: "gw-1".into(),
            key: "abc".into(),
        };
        let relays = std::sync::Arc::new(relays());
        let facing = gatehouse::reason::Facing::Public;
        let mut stage = Stage::of(Relay::verifier(relays, policy, facing, check, std::time::Instant::now()));
        let (far, _) = stage.connects()[0].clone();
        stage.connected(far, Some(untrusted("", "friend.example")));
        assert_eq!(stage.has(|e| matches!(e, Effect::Retry(_, AddressChoice::Next))), !asked);
        assert_eq!(stage.said(Side::Far(far)).contains("<stream:stream "), asked);
    }
}

// CRT-12: a certificate that is revoked under a living stream ends it; one that is still trusted does not.
#[test]
fn a_certificate_that_is_revoked_ends_the_stream_that_stands_on_it() {
    let good = secured("hall.example", &["friend.example"]).certificate.clone().unwrap();
    let mut revoked = good.clone();
    revoked.trust = Trust { default: Err(TrustFault::Revoked), peers: Vec::new() };
    // Inbound, by the peer's certificate.
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.step(NEAR, Input::Retrusted(good.clone()));
    assert_eq!(stage.said(NEAR), "");
    stage.step(NEAR, Input::Retrusted(revoked.clone()));
    let said = stage.said(NEAR);
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/></stream:stream>");
    assert!(stage.passed().is_empty(), "also what was on its way");
    assert_eq!(stage.reasons(), [Reason::CertificateRevoked; 2]);
    // Outbound, by the certificate of the server that we called.
    let (mut stage, far) = outbound(secured("", &["friend.example"]));
    stage.step(Side::Far(far), Input::Retrusted(good));
    assert_eq!(stage.said(Side::Far(far)), "");
    stage.step(Side::Far(far), Input::Retrusted(revoked.clone()));
    let said = stage.said(Side::Far(far));
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
    // What dialback proved leans on no certificate.
    let mut stage = inbound(relays(), any(), "friend.example", &[]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    stage.step(NEAR, Input::Retrusted(revoked));
    assert_eq!(stage.said(NEAR), "");
}

// DNS-18: "a certificate that your own revocation lists name is refused all the same", whatever else of it a rule would take: the key
// that is pinned, outbound as inbound, on a living stream and in what the plan of a reload says before.
#[test]
fn a_revoked_certificate_is_refused_under_a_pin_both_ways() {
    let key = "07".repeat(32);
    let pinned =
        format!("version: v1\nrules: [{{ name: s, domains: [friend.example], pins: [\"sha256:{key}\"] }}]");
    let pinned = policy(Federation::Listed, &pinned);
    let shows = |worth| {
        let mut facts = secured("hall.example", &["friend.example"]);
        let certificate = facts.certificate.as_mut().unwrap();
        (certificate.key, certificate.trust.default) = (Some([7; 32]), Err(worth));
        facts
    };
    let (alone, revoked) = (TrustFault::SelfSigned, TrustFault::Revoked);
    let again = shows(revoked).certificate.clone().unwrap();
    let (mut stage, far) = outbound_under(pinned.clone(), shows(alone));
    let foreseen = [(Side::Far(far), again.clone())];
    let snapshot = stage.relay.snapshot_under(&Under { policy: Some(&pinned), again: &foreseen });
    let doubts: Vec<_> = snapshot.pairs.iter().map(|standing| standing.doubt).collect();
    assert_eq!(doubts, [Some(Reason::CertificateRevoked)]);
    stage.step(Side::Far(far), Input::Retrusted(again));
    assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
    let mut stage = courier(relays(), pinned.clone(), "hall.example", "friend.example", Load::Own);
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, Some(shows(revoked)));
    let dialback = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>";
    stage.hears(Side::Far(far), &format!("{}{dialback}", answer("one", true)));
    assert!(!stage.said(Side::Far(far)).contains("<db:result"));
    assert!(!stage.has(|e| matches!(e, Effect::Note(Event::Admitted { .. }))));
    let detail = gatehouse::relay::doubt(
        &pinned,
        &pair("hall.example", "friend.example"),
        gatehouse::reason::Direction::Outbound,
        Some(&shows(revoked)),
    );
    assert_eq!(detail.unwrap().cause, gatehouse::reason::Cause::Revoked);
}

// CRT-12: who is no longer trusted since the authorities have changed is no one who was revoked; a plan says so before. Pairs that
// stand on something else stay, on the same stream too, and so does an outbound pair that its rule takes without a certificate.
#[test]
fn other_authorities_end_what_stands_on_a_certificate_alone_and_the_plan_says_so_before() {
    let good = secured("hall.example", &["friend.example"]).certificate.clone().unwrap();
    let mut other = good.clone();
    other.trust = Trust { default: Err(TrustFault::UnknownIssuer), peers: Vec::new() };
    let doubts = |stage: &Stage, side: Side, policy: &gatehouse::policy::Policy| {
        let again = [(side, other.clone())];
        let snapshot = stage.relay.snapshot_under(&Under { policy: Some(policy), again: &again });
        let doubts: Vec<_> = snapshot.pairs.iter().map(|standing| standing.doubt).collect();
        (doubts, snapshot.closes)
    };
    let distrusted = Some(Reason::CertificateDistrusted);
    // Inbound, the one pair.
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    stage.said(NEAR);
    assert_eq!(doubts(&stage, NEAR, &any()), (vec![distrusted], true));
    stage.step(NEAR, Input::Retrusted(other.clone()));
    let said = stage.said(NEAR);
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
    assert!(stage.reasons().iter().all(|reason| *reason == Reason::CertificateDistrusted));
    // Beside one that dialback has proven.
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
    admit(&mut stage, "friend.example", "hall.example");
    admit(&mut stage, "cousin.example", "hall.example");
    stage.said(NEAR);
    assert_eq!(doubts(&stage, NEAR, &any()), (vec![distrusted, None], false));
    stage.step(NEAR, Input::Retrusted(other.clone()));
    assert_eq!(stage.said(NEAR), "");
    stage.hears(NEAR, "<message from='c@cousin.example' to='b@hall.example'/>");
    assert_eq!(stage.passed().len(), 1);
    stage.hears(NEAR, "<message from='a@friend.example' to='b@hall.example'/>");
    assert!(stage.passed().is_empty());
    // Outbound: the rule takes servers without a certificate, or it does not.
    let wide = policy(
        Federation::Listed,
        "version: v1\nrules: [{ name: s, domains: [friend.example], identity: [certificate, dialback] }]",
    );
    let (mut stage, far) = outbound_under(wide.clone(), secured("", &["friend.example"]));
    assert_eq!(doubts(&stage, Side::Far(far), &wide).0, [None]);
    stage.step(Side::Far(far), Input::Retrusted(other.clone()));
    assert_eq!(stage.said(Side::Far(far)), "");
    let strict = policy(
        Federation::Listed,
        "version: v1\nrules: [{ name: s, domains: [friend.example], identity: [certificate] }]",
    );
    // What holds now is the proof that there is now.
    stage.step(NEAR, Input::Policy(std::sync::Arc::clone(&strict)));
    assert!(stage.said(Side::Far(far)).ends_with("</stream:stream>"));
    let (mut stage, far) = outbound_under(strict.clone(), secured("", &["friend.example"]));
    assert_eq!(doubts(&stage, Side::Far(far), &strict), (vec![distrusted], true));
    stage.step(Side::Far(far), Input::Retrusted(other));
    let said = stage.said(Side::Far(far));
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
    assert!(stage.reasons().contains(&Reason::CertificateDistrusted), "{:?}", stage.reasons());
}

// CRT-12: outbound, too, a pair stands no longer than the certificate that it stands on.
#[test]
fn a_certificate_that_expires_ends_the_leg_that_we_opened() {
    let mut facts = secured("", &["friend.example"]);
    facts.certificate.as_mut().unwrap().expires = Some(std::time::Instant::now() + Duration::from_secs(1000));
    let (mut stage, far) = outbound(facts);
    stage.wait(Duration::from_secs(900));
    assert_eq!(stage.said(Side::Far(far)), "");
    stage.wait(Duration::from_secs(101));
    let said = stage.said(Side::Far(far));
    assert!(said.contains("<reset ") && said.ends_with("</stream:stream>"), "{said}");
}

// DB-30, CRT-11: a certificate that names the other sender domain, too, spares the question; one that does not, does not.
#[test]
fn a_certificate_that_covers_a_second_domain_spares_the_question() {
    let mut stage = inbound(relays(), any(), "friend.example", &["friend.example", "rooms.friend.example"]);
    stage.hears(NEAR, "<db:result from='rooms.friend.example' to='hall.example'>k</db:result>");
    assert!(!stage.has(|e| matches!(e, Effect::Verify(..))));
    let (far, _) = stage.connects()[0].clone();
    stand(&mut stage, far, "rooms.friend.example", "hall.example");
    assert!(stage.said(NEAR).contains("type='valid'"));
    let methods: Vec<_> = stage
        .notes()
        .into_iter()
        .filter_map(|event| if let Event::Admitted { method, .. } = event { Some(*method) } else { None })
        .collect();
    assert_eq!(methods, [Method::Certificate]);
    stage.hears(NEAR, "<db:result from='bar.friend.example' to='hall.example'>k</db:result>");
    assert!(stage.has(|e| matches!(e, Effect::Verify(..))));
}

// EXT-04: without an initial response the name is that of the header, as with an empty one.
#[test]
fn external_needs_no_initial_response() {
    for response in ["", "="] {
        let mut stage = inbound(relays(), any(), "friend.example", &["friend.example"]);
        stage.said(NEAR);
        stage.hears(
            NEAR,
            &format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{response}</auth>"),
        );
        let (far, _) = stage.connects()[0].clone();
        stand(&mut stage, far, "friend.example", "hall.example");
        assert_eq!(stage.said(NEAR), "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "{response}");
    }
}

/// A peer with a certificate that nobody knows, under a rule with this condition, and its header.
fn named_by_itself(identity: &str, dnssec: bool) -> Stage {
    let text = format!(
        "version: v1\nrules:\n  - {{ name: published, domains: [friend.example, cousin.example], identity: [{identity}] }}\n"
    );
    let shown = Some(untrusted("hall.example", "nobody.example"));
    let relays = RelayParams { dnssec, ..relays() };
    let mut stage = Stage::new(relays, policy(Federation::Listed, &text), Flow::S2sIn, shown);
    stage.hears(NEAR, &header("friend.example", "hall.example"));
    stage
}

fn inquiries(stage: &Stage) -> Vec<(String, Sought)> {
    let asked = stage.effects.iter().filter_map(|effect| match effect {
        Effect::Inquire(pair, sought) => Some((pair.to_string(), *sought)),
        _ => None,
    });
    asked.collect()
}

fn dane(domain_name: &str, dane: Dane) -> Evidence {
    Evidence { dane, ..Evidence::none(domain(domain_name)) }
}

// DNS-15: "such a proof enables EXTERNAL": the header waits for it, and for it alone. Without it a rule that takes nothing less ends
// the stream (DNS-18).
#[test]
fn a_header_waits_for_what_its_domain_publishes() {
    let proven = Dane::Proven(Usage::DaneEe);
    for (found, external) in [
        (dane("friend.example", proven), true),
        (dane("friend.example", Dane::Unlisted), false),
        (dane("friend.example", Dane::Unpublished), false),
        (dane("friend.example", Dane::Unknown(Cause::DnsBogus)), false),
    ] {
        let mut stage = named_by_itself("dane", true);
        let sought = Sought { dane: true, posh: false };
        assert_eq!(inquiries(&stage), [("friend.example>hall.example".to_owned(), sought)]);
        assert!(stage.said(NEAR).is_empty() && !stage.relay.wants_read(NEAR));
        // What is found of another domain, asked for or not, answers nothing.
        stage.step(NEAR, Input::Inquired(dane("cousin.example", proven)));
        assert!(stage.said(NEAR).is_empty() && !stage.relay.wants_read(NEAR));
        stage.step(NEAR, Input::Inquired(found.clone()));
        let said = stage.said(NEAR);
        assert_eq!(said.contains("<mechanism>EXTERNAL</mechanism>"), external, "{found:?}: {said}");
        assert_eq!(said.contains("<policy-violation "), !external, "{found:?}: {said}");
        // Once more, late: nothing.
        stage.step(NEAR, Input::Inquired(dane("friend.example", proven)));
        assert!(stage.said(NEAR).is_empty());
    }
    // By POSH, where that is named; then nothing of the DNS is asked without signatures.
    let mut stage = named_by_itself("posh", false);
    assert_eq!(inquiries(&stage)[0].1, Sought { dane: false, posh: true });
    stage.step(
        NEAR,
        Input::Inquired(Evidence { posh: Posh::Proven, ..dane("friend.example", Dane::Unasked) }),
    );
    assert!(stage.said(NEAR).contains("<mechanism>EXTERNAL</mechanism>"));
}

// Each wait has its end: what was not found in time is not there, and the peer is not late meanwhile.
#[test]
fn what_is_not_found_in_time_is_not_waited_for() {
    let mut stage = named_by_itself("dane, dialback", true);
    let begun = stage.now;
    let times = Timeouts::default();
    assert_eq!(stage.relay.deadline(), Some(begun + times.dialback), "not T-header: the header is here");
    stage.now = begun + times.dialback;
    stage.step(NEAR, Input::Expired);
    let said = stage.said(NEAR);
    assert!(said.contains("urn:xmpp:features:dialback") && !said.contains("EXTERNAL"), "{said}");
    assert!(stage.relay.wants_read(NEAR));
}

// POL-04: no lookup where it would change nothing: the pair is denied, the certificate is enough, there is none, or no rule takes it.
#[test]
fn nothing_is_looked_up_that_would_change_nothing() {
    let no_rule = "version: v1\nrules: []\n";
    let open = "version: v1\nrules:\n  - { name: open, domains: [friend.example] }\n";
    let posh = "version: v1\nrules:\n  - { name: filed, domains: [friend.example], identity: [posh] }\n";
    let known = || secured("hall.example", &["friend.example"]);
    for (what, text, dnssec, shown) in [
        ("no rule", no_rule, true, untrusted("hall.example", "nobody.example")),
        ("a good certificate", open, true, known()),
        ("a good certificate, and a file would do", posh, true, known()),
        ("no certificate", posh, true, secured("hall.example", &[])),
        ("nobody looks at signatures, and no file", open, false, untrusted("hall.example", "nobody.example")),
    ] {
        let relays = RelayParams { dnssec, ..relays() };
        let mut stage = Stage::new(relays, policy(Federation::Listed, text), Flow::S2sIn, Some(shown));
        stage.hears(NEAR, &header("friend.example", "hall.example"));
        assert!(inquiries(&stage).is_empty(), "{what}");
        assert!(!stage.said(NEAR).is_empty(), "{what}");
    }
}

// DB-30, CRT-11: each domain on a stream is proven by what it publishes itself, and what one publishes is nothing for another.
#[test]
fn a_claim_waits_for_what_its_own_domain_publishes() {
    let mut stage = named_by_itself("dane", true);
    stage.step(NEAR, Input::Inquired(dane("friend.example", Dane::Proven(Usage::DaneEe))));
    stage.said(NEAR);
    for _ in 0..2 {
        stage.hears(NEAR, "<db:result from='cousin.example' to='hall.example'>k</db:result>");
    }
    let sought = Sought { dane: true, posh: false };
    assert_eq!(inquiries(&stage)[1..], [("cousin.example>hall.example".to_owned(), sought)], "asked once");
    assert!(stage.connects().is_empty() && stage.said(NEAR).is_empty());
    stage.step(NEAR, Input::Inquired(dane("cousin.example", Dane::Unlisted)));
    let said = stage.said(NEAR);
    assert_eq!(said.matches("<not-authorized ").count(), 2, "{said}");
    assert!(!stage.has(|effect| matches!(effect, Effect::Verify(..))), "nothing less is tried");
    let mut stage = named_by_itself("dane, dialback", true);
    stage.step(NEAR, Input::Inquired(dane("friend.example", Dane::Unpublished)));
    stage.said(NEAR);
    stage.hears(NEAR, "<db:result from='cousin.example' to='hall.example'>k</db:result>");
    stage.step(NEAR, Input::Inquired(dane("cousin.example", Dane::Proven(Usage::DaneEe))));
    assert!(!stage.has(|effect| matches!(effect, Effect::Verify(..))), "nobody is asked about the key");
    let (far, _) = stage.connects()[0].clone();
    stand(&mut stage, far, "cousin.example", "hall.example");
    assert!(stage.said(NEAR).contains("type='valid'"));
}
