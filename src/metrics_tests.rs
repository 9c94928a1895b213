use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

/// A rule's name can come from a policy only; this one is `default`.
fn rule() -> RuleName {
    crate::policy::build(&crate::policy::Sources {
        hosted: Vec::new(),
        sources: Vec::new(),
        today: crate::policy::Day::parse("2027-01-01").unwrap(),
        digest: "d".into(),
    })
    .0
    .unwrap()
    .rule_names()
    .next()
    .unwrap()
    .clone()
}

fn moved() -> Metrics {
    let home = Domain::parse("hall.example").unwrap();
    let m = Metrics::new([home.clone()]).unwrap();
    let rule = rule();
    for flow in Flow::ALL {
        m.judged(*flow, &home, &rule, Outcome::Deny, Reason::NotListed);
        m.authenticated(*flow, &home, Method::Dialback, Outcome::Allow);
        m.stream_began(*flow, &home);
        m.passed(*flow, &home, Kind::Message, 1, 300);
        m.refused(*flow, None, Reason::InvalidFrom);
        m.stream_error(*flow, Facing::Public, Said::Sent, None);
        m.negotiated(*flow, Outcome::Allow, Duration::from_millis(20));
        m.backend(&home, *flow, true);
    }
    for door in [
        Door::C2sDirect,
        Door::C2sStarttls,
        Door::Inside,
        Door::Mixed,
        Door::Outbound,
        Door::S2sDirect,
        Door::S2sStarttls,
        Door::Websocket,
    ] {
        m.arrived(door, Outcome::Allow);
        m.opened(door);
        m.handshake(door, Some(TlsVersion::V13));
    }
    m.patched(Flow::C2s, &rule, Stroke::Shadow(crate::policy::Action::Cut));
    m.managed(Flow::S2sOut, ManagementOutcome::Resent, 2);
    m.withheld(&home, &rule, Withheld::Dropped);
    m.dialback(Role::Verifier, Facing::Public, DialbackOutcome::Valid, Duration::from_millis(3));
    m.waited(Limit::Octets, Duration::from_millis(10));
    m.certificate(&home, 1_900_000_000);
    m.reloaded(Reload::Refused);
    m.policy("abc");
    m.bans(2);
    m.logged_in(&home, "scram-sha-256", Outcome::Deny);
    m.audited();
    m
}

/// The contract's families, section 4, less what only the control socket moves.
const FAMILIES: [&str; 31] = [
    "build_info",
    "connections_total",
    "connections",
    "streams",
    "tls_handshakes_total",
    "authentications_total",
    "policy_verdicts_total",
    "stanzas_total",
    "stanzas_refused_total",
    "stanzas_withheld_total",
    "stream_management_total",
    "patch_hits_total",
    "octets_total",
    "stream_errors_total",
    "dialback_total",
    "dialback_seconds",
    "limited_total",
    "limited_seconds_total",
    "negotiation_seconds",
    "backend_up",
    "certificate_not_after_seconds",
    "certificate_not_after_timestamp_seconds",
    "log_lines_left_out_total",
    "log_lines_lost_total",
    "reloads_total",
    "circuits",
    "circuits_open",
    "policy_info",
    "bans",
    "audit_records_total",
    "audit_records_lost_total",
];

#[test]
fn every_family_of_the_contract_is_there_with_help() {
    let text = moved().text().unwrap();
    for family in FAMILIES {
        assert!(text.contains(&format!("# HELP gatehouse_{family} ")), "{family} is missing:\n{text}");
    }
}

// Conventions: what any process tells, under the names that dashboards know, and when it began.
#[test]
fn the_process_tells_of_itself_under_the_usual_names() {
    let text = moved().text().unwrap();
    for family in [
        "start_time_seconds",
        "cpu_seconds_total",
        "resident_memory_bytes",
        "virtual_memory_bytes",
        "open_fds",
        "max_fds",
        "threads",
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("process_{family} ")));
        let value: f64 = line.unwrap_or_else(|| panic!("process_{family} in {text}")).parse().unwrap();
        assert!(value > 0.0 || family == "cpu_seconds_total", "{family}: {value}");
    }
}

#[test]
fn rules_with_an_end_are_shown_and_those_that_are_gone_are_not() {
    let m = moved();
    let rule = rule();
    m.rules(std::iter::once((&rule, 1_800_000_000)));
    assert!(
        m.text().unwrap().contains("gatehouse_rule_expires_timestamp_seconds{rule=\"default\"} 1800000000"),
        "{}",
        m.text().unwrap()
    );
    m.rules(std::iter::empty());
    assert!(!m.text().unwrap().contains("gatehouse_rule_expires_timestamp_seconds{"));
}

#[test]
fn promtool_finds_nothing_to_say() {
    let text = moved().text().unwrap();
    let Ok(mut tool) = Command::new("promtool")
        .args(["check", "metrics", "--extended"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        panic!("promtool is needed for this test (Debian package `prometheus`)");
    };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.is_empty(), "{said}");
}

// Law closed_words: no label ever comes from a peer.
#[test]
fn a_domain_that_is_not_hosted_is_counted_without_its_name() {
    let m = moved();
    let foreign = Domain::parse("nobody.example").unwrap();
    m.judged(Flow::S2sIn, &foreign, &rule(), Outcome::Deny, Reason::HostUnknown);
    let text = m.text().unwrap();
    assert!(!text.contains("nobody"), "{text}");
    assert!(text.contains(r#"domain="none",flow="s2s-in",outcome="deny",reason="host-unknown""#), "{text}");
}

#[test]
fn only_the_policy_in_force_is_shown() {
    let m = moved();
    m.policy("def");
    m.policy("def");
    let text = m.text().unwrap();
    assert!(text.contains(r#"gatehouse_policy_info{digest="def"} 1"#), "{text}");
    assert!(!text.contains("abc"), "{text}");
}
