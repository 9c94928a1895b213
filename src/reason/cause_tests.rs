use super::*;

#[test]
fn days_are_those_of_the_calendar() {
    for (seconds, written) in [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (951_782_399, "2000-02-28"),
        (951_782_400, "2000-02-29"),
        (951_868_800, "2000-03-01"),
        (1_798_675_200, "2026-12-31"),
        (4_107_542_400, "2100-03-01"),
    ] {
        assert_eq!(day(seconds), written, "{seconds}");
    }
}

// LOG-03.
#[test]
fn what_a_peer_said_is_one_short_line() {
    let said = Detail::said("policy-violation", Some(" your domain\nis on our \u{202e}list "));
    assert_eq!(
        said.to_string(),
        "the other side said why: policy-violation: your domain\\nis on our \\u{202e}list"
    );
    let long = Detail::said(&"c".repeat(1000), Some(&"x".repeat(10_000)));
    assert!(long.particulars.chars().count() <= CONDITION + TEXT + 4);
}

#[test]
fn people_read_what_happened_and_the_label_that_the_operator_finds() {
    let expired = Some(Detail::new(Cause::Expired, "on 2026-10-01"));
    let why = Why { reason: Reason::CertificateUntrusted, detail: expired };
    assert_eq!(why.for_users(), "its certificate expired on 2026-10-01 (certificate-untrusted)");
    assert_eq!(Why::from(Reason::NotListed).for_users(), "no rule allows this domain (not-listed)");
    let said = Some(Detail::said("policy-violation", Some("<your list>")));
    let why = Why { reason: Reason::PeerPolicy, detail: said };
    assert!(!why.for_users().contains("list>"), "nothing that a peer has written");
}

#[test]
fn causes_have_labels_of_their_own() {
    let labels: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.label()).collect();
    assert_eq!(labels.len(), Cause::ALL.len());
    assert!(labels.iter().all(|label| label.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
}
