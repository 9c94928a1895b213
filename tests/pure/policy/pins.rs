//! Keys that rules pin.

use super::*;

const KEY: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn pinned(more: &str) -> String {
    format!("  - {{ name: keyed, domains: [k.example], {more} }}\n")
}

// DNS-18: "a domain that is pinned .. does not slide to bare dialback", nor to any certificate; `tls`, direction and network
// of the rule hold beside the key.
#[test]
fn a_pinned_domain_is_proven_by_its_key_and_by_nothing_else() {
    let day = |text: &str| Day::parse(text).unwrap();
    let policy =
        compiled(Federation::Any, &pinned(&format!("pins: [\"{KEY} until 2026-12-31\"], tls: \"1.3\"")));
    let policy = policy.on(day("2026-06-01"));
    let shown = |key: ShownKey, identity, tls, policy: &Policy| {
        let (hosted, remote) = (domain("home.example"), domain("k.example"));
        let mut reasons = Vec::new();
        for direction in [Direction::Inbound, Direction::Outbound] {
            let question =
                Federate { hosted: &hosted, remote: &remote, direction, identity, tls, address: None, key };
            reasons.push(policy.judge(&Question::Federate(question), &mut ()).reason);
        }
        assert_eq!(reasons[0], reasons[1]);
        reasons[0]
    };
    let (ours, other) = (KeyDigest::parse(KEY).unwrap(), KeyDigest::new([7; 32]));
    for identity in [Identity::Pin, Identity::Certificate, Identity::Dialback] {
        for (key, expected) in [
            (ShownKey::Digest(ours), Reason::Allowed),
            (ShownKey::Digest(other), Reason::IdentityTooWeak),
            (ShownKey::Unknown, Reason::IdentityTooWeak),
        ] {
            assert_eq!(shown(key, identity, Tls::V13, &policy), expected, "{identity:?} {key:?}");
        }
    }
    assert_eq!(shown(ShownKey::Digest(ours), Identity::Pin, Tls::V12, &policy), Reason::TlsTooOld);
    assert_eq!(shown(ShownKey::Digest(ours), Identity::Absent, Tls::V13, &policy), Reason::IdentityTooWeak);
    // The day after, the snapshot of that day denies; and the gateway is told that it must make one.
    assert_eq!(policy.next_expiry(), Some(day("2027-01-01")));
    let later = policy.on(day("2027-01-01"));
    assert_eq!(shown(ShownKey::Digest(ours), Identity::Pin, Tls::V13, &later), Reason::IdentityTooWeak);
    // Where nothing is pinned, a key alone is no proof.
    let open = compiled(Federation::Any, "  - { name: keyed, domains: [k.example] }\n");
    assert_eq!(shown(ShownKey::Digest(ours), Identity::Pin, Tls::V13, &open), Reason::IdentityTooWeak);
    assert_eq!(shown(ShownKey::Digest(ours), Identity::Certificate, Tls::V13, &open), Reason::Allowed);
}

#[test]
fn pins_that_mean_nothing_are_errors_with_their_line() {
    for (rule, words) in [
        ("pins: []".to_owned(), "`pins` is empty"),
        ("pins: [\"sha256:0011\"]".to_owned(), "64 hexadecimal digits"),
        ("pins: [\"md5:0011\"]".to_owned(), "does not begin with `sha256:`"),
        (format!("pins: [\"{KEY} til 2027-01-01\"]"), "more than its days"),
        (format!("pins: [\"{KEY} until\"]"), "more than its days"),
        (format!("pins: [\"{KEY} until 2027-02-30\"]"), "is no date"),
        (format!("pins: [\"{KEY} until 2027-01-01 until 2027-01-01\"]"), "more than its days"),
        (format!("pins: [\"{KEY} from 2027-02-01 until 2027-01-01\"]"), "before it begins"),
        (format!("pins: [\"{KEY}\", \"{KEY}\"]"), "pinned twice"),
        (format!("pins: [\"{KEY}\"], identity: [certificate]"), "proves nothing"),
        (format!("pins: [\"{KEY}\"], identity: [pin, dialback]"), "proves nothing"),
        (format!("pins: [\"{KEY}\"], tls: none"), "without TLS nobody shows a key"),
        (format!("pins: [\"{KEY}\"], verdict: deny"), "changes nothing"),
        ("identity: [pin]".to_owned(), "pins none"),
    ] {
        let found = errors(&[&format!("version: v1\nrules:\n{}", pinned(&rule))]);
        assert!(
            found.iter().any(|finding| finding.contains(words) && finding.contains(":3:")),
            "{rule}: {found:?}"
        );
    }
    let defaults = errors(&["version: v1\ndefaults: { identity: [pin] }\n"]);
    assert!(defaults[0].contains("by a rule, not by `defaults`"), "{defaults:?}");
}

#[test]
fn cases_suppose_a_pinned_key_or_a_certain_one() {
    let text = format!(
        "version: v1\nrules:\n{}expect:\n\
         \x20 - {{ from: k.example, to: home.example, identity: pin, verdict: allow, rule: keyed }}\n\
         \x20 - {{ from: k.example, to: home.example, key: \"{KEY}\", verdict: allow }}\n\
         \x20 - {{ from: k.example, to: home.example, key: \"{}\", verdict: deny, reason: identity-too-weak }}\n\
         \x20 - {{ from: k.example, to: home.example, identity: certificate, verdict: deny }}\n\
         \x20 - {{ from: k.example, to: home.example, identity: pin, today: 2027-01-01, verdict: deny }}\n",
        pinned(&format!("pins: [\"{KEY} until 2026-12-31\"]")),
        KEY.replace("ff", "fe")
    );
    let mut input = input(Federation::Listed, &[&text]);
    input.today = Day::parse("2026-06-01").unwrap();
    let compiled = compile(&input).unwrap_or_else(|findings| panic!("{findings:#?}"));
    assert_eq!(compiled.cases.len(), 5);
    let hosted = domain("home.example");
    let question = Federate {
        hosted: &hosted,
        remote: &domain("k.example"),
        direction: Direction::Inbound,
        identity: Identity::Pin,
        tls: Tls::V13,
        address: None,
        key: ShownKey::Digest(KeyDigest::new([7; 32])),
    };
    let told = Explanation::of(&compiled.policy, &question, &OfStanza::default()).to_string();
    assert!(told.contains("none of those that the rule pins: sha256:0707"), "{told}");
}
