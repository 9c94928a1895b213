//! Verdicts and their reasons, under rules, settings and days.

use super::*;

const REASONS: &str = "  - { name: strict, domains: [s.example], identity: [certificate], tls: \"1.3\" }
  - { name: in, domains: [i.example], direction: inbound }
  - { name: net, domains: [n.example], networks: [192.0.2.0/24, \"2001:db8::/32\"] }
  - { name: old, domains: [o.example], expires: 2026-11-20 }
  - { name: last-day, domains: [l.example], expires: 2026-11-21 }
  - { name: clear, domains: [c.example], tls: none }
  - { name: no, domains: [d.example], verdict: deny }\n";

#[test]
fn proof_and_channel_have_their_reasons() {
    let policy = compiled(Federation::Listed, REASONS);
    from("s.example").says(&policy, Reason::Allowed, "strict");
    Ask { identity: Identity::Dialback, ..from("s.example") }.says(
        &policy,
        Reason::IdentityTooWeak,
        "strict",
    );
    Ask { identity: Identity::Absent, ..from("s.example") }.says(&policy, Reason::IdentityTooWeak, "strict");
    Ask { tls: Tls::V12, ..from("s.example") }.says(&policy, Reason::TlsTooOld, "strict");
    Ask { tls: Tls::Unknown, ..from("s.example") }.says(&policy, Reason::TlsTooOld, "strict");
    Ask { tls: Tls::None, ..from("i.example") }.says(&policy, Reason::TlsTooOld, "in");
    let clear = Ask { identity: Identity::Dialback, tls: Tls::None, ..from("c.example") };
    clear.says(&policy, Reason::Allowed, "clear");
}

#[test]
fn direction_and_network_have_their_reasons() {
    let policy = compiled(Federation::Listed, REASONS);
    let at = |remote: &str, ip: &str| Ask { address: Some(ip.parse().unwrap()), ..from(remote) };
    Ask { direction: Direction::Outbound, ..from("i.example") }.says(&policy, Reason::WrongDirection, "in");
    from("i.example").says(&policy, Reason::Allowed, "in");
    at("n.example", "192.0.2.9").says(&policy, Reason::Allowed, "net");
    at("n.example", "::ffff:192.0.2.9").says(&policy, Reason::Allowed, "net");
    at("n.example", "2001:db8::1").says(&policy, Reason::Allowed, "net");
    at("n.example", "198.51.100.1").says(&policy, Reason::WrongNetwork, "net");
    from("n.example").says(&policy, Reason::WrongNetwork, "net");
}

#[test]
fn a_rule_expires_after_its_last_day() {
    let policy = compiled(Federation::Listed, REASONS);
    from("o.example").says(&policy, Reason::RuleExpired, "old");
    from("l.example").says(&policy, Reason::Allowed, "last-day");
    from("l.example").says(&policy.on(day("2026-11-22")), Reason::RuleExpired, "last-day");
    assert_eq!(policy.next_expiry(), Some(day("2026-11-22")));
}

#[test]
fn settings_and_deny_rules_have_their_reasons() {
    let policy = compiled(Federation::Listed, REASONS);
    from("d.example").says(&policy, Reason::Blocked, "no");
    from("stranger.example").says(&policy, Reason::NotListed, "default");
    // POL-08, POL-01, JID-03
    from("other.example").says(&policy, Reason::HomeClaimed, "default");
    Ask { hosted: "unknown.example", ..from("s.example") }.says(&policy, Reason::HostGone, "default");
    from("a.agency.example").says(&compiled(Federation::None, WILD), Reason::FederationOff, "default");
    from("localhost").says(&compiled(Federation::Any, WILD), Reason::SingleLabel, "default");
}

// POL-07: a pair that stands is told why it ends: its domain is no longer served here, which no setting of `federation` would mend.
#[test]
fn a_pair_of_a_domain_that_was_taken_out_ends_for_that() {
    let permit = from("s.example").of(&compiled(Federation::Any, WILD)).permit().unwrap();
    let mut less = input(Federation::Any, &[]);
    less.hosted.remove(0);
    let verdict = build(&less).0.unwrap().judge_again(&permit);
    assert_eq!((verdict.is_allow(), verdict.reason), (false, Reason::HostGone));
}

// POL-06: before proof only what no proof could mend is refused.
#[test]
fn the_first_asking_refuses_only_what_no_proof_could_mend() {
    let policy = compiled(
        Federation::Listed,
        "  - { name: strict, domains: [s.example], identity: [certificate], tls: \"1.3\", networks: [192.0.2.0/24] }
  - { name: no, domains: [d.example], verdict: deny }\n",
    );
    let first = |remote: &str| Ask { identity: Identity::Unproven, tls: Tls::Unknown, ..from(remote) };
    first("s.example").says(&policy, Reason::Allowed, "strict");
    let permit = first("s.example").of(&policy).permit().unwrap();
    assert!(!permit.is_final());
    first("d.example").says(&policy, Reason::Blocked, "no");
    first("x.example").says(&policy, Reason::NotListed, "default");
    Ask { tls: Tls::V12, ..first("s.example") }.says(&policy, Reason::TlsTooOld, "strict");
    Ask { tls: Tls::None, ..first("s.example") }.says(&policy, Reason::Allowed, "strict");
    let elsewhere = Ask { address: Some("198.51.100.1".parse().unwrap()), ..first("s.example") };
    elsewhere.says(&policy, Reason::WrongNetwork, "strict");
}

#[test]
fn a_deny_rule_that_does_not_fit_is_passed_over() {
    let policy = compiled(
        Federation::Any,
        "  - { name: out, domains: [a.example], direction: outbound, verdict: deny }
  - { name: net, domains: [b.example], networks: [192.0.2.0/24], verdict: deny }
  - { name: past, domains: [c.example], expires: 2026-01-01, verdict: deny }\n",
    );
    from("a.example").says(&policy, Reason::Allowed, "default");
    Ask { direction: Direction::Outbound, ..from("a.example") }.says(&policy, Reason::Blocked, "out");
    from("b.example").says(&policy, Reason::Allowed, "default");
    Ask { address: Some("192.0.2.1".parse().unwrap()), ..from("b.example") }.says(
        &policy,
        Reason::Blocked,
        "net",
    );
    from("c.example").says(&policy, Reason::Allowed, "default");
}

// POL-07: an old permit is judged again, by another policy or on another day, and the new permit has the new terms.
#[test]
fn old_permits_are_judged_again() {
    let old = compiled(Federation::Any, "  - { name: p, domains: [p.example], expires: 2026-12-31 }\n");
    let permit = from("p.example").of(&old).permit().unwrap();
    assert!(old.judge_again(&permit).is_allow());
    assert_eq!(old.on(day("2027-01-01")).judge_again(&permit).reason, Reason::RuleExpired);
    let new = compiled(Federation::Any, "  - { name: p, domains: [p.example], verdict: deny }\n");
    assert_eq!(new.judge_again(&permit).reason, Reason::Blocked);
    let rules = "  - { name: q, domains: [p.example], stanzas: { allow: [message] } }\n";
    let renewed = compiled(Federation::Any, rules).judge_again(&permit).permit().unwrap();
    assert!(
        renewed.stanzas().admits_kind(StanzaKind::Message) && !renewed.stanzas().admits_kind(StanzaKind::Iq)
    );
}

#[test]
fn bans_are_part_of_the_snapshot() {
    let bans =
        Bans { networks: vec!["198.51.100.0/24".parse().unwrap()], domains: vec![domain("p.example")] };
    let banned = compiled(Federation::Any, WILD).with_bans(bans);
    from("p.example").says(&banned, Reason::Banned, "default");
    from("x.p.example").says(&banned, Reason::Banned, "default");
    from("xp.example").says(&banned, Reason::Allowed, "default");
    let arrive = |ip: &str| Question::Arrive(Arrive { flow: Flow::S2sIn, address: ip.parse().unwrap() });
    assert_eq!(banned.judge(&arrive("::ffff:198.51.100.7"), &mut ()).reason, Reason::Banned);
    assert!(banned.judge(&arrive("192.0.2.1"), &mut ()).is_allow());
}

#[test]
fn terms_and_quotas_come_with_the_permit() {
    let policy = compiled(
        Federation::Listed,
        "  - name: p
    domains: [p.example]
    stanzas: { allow: [message, iq], deny-payloads: [\"jabber:iq:register\"] }
    limits: { stanzas: 50/s, octets: 64KiB/s, streams: 4 }\n",
    );
    let verdict = from("p.example").of(&policy);
    let permit = verdict.permit().unwrap();
    assert_eq!(permit.quotas().stanzas.unwrap().per_second.get(), 50);
    assert_eq!(permit.quotas().octets.unwrap().per_second.get(), 65_536);
    assert_eq!(permit.quotas().streams, Some(4));
    assert!(!permit.stanzas().is_open() && !permit.stanzas().admits_payload("jabber:iq:register"));
    let for_stanza = |kind, payload| verdict.clone().for_stanza(Some(kind), payload).reason;
    assert_eq!(for_stanza(StanzaKind::Presence, None), Reason::KindDenied);
    assert_eq!(for_stanza(StanzaKind::Iq, Some("jabber:iq:register")), Reason::PayloadDenied);
    assert_eq!(for_stanza(StanzaKind::Iq, Some("urn:xmpp:ping")), Reason::Allowed);
}
