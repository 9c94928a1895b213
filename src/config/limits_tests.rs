//! Tests of the limits: words to values, and their ranges.

use super::*;

// Requirements 0.2, by name.
#[test]
fn defaults_are_those_of_the_requirements() {
    let limits = Limits::default();
    assert_eq!((limits.header, limits.preauth_element, limits.preauth_total), (4096, 16 << 10, 64 << 10));
    assert_eq!((limits.stanza, limits.depth, limits.attrs, limits.nsdecl), (262_144, 64, 64, 32));
    assert_eq!((limits.name, limits.attr_value, limits.nodes, limits.pairs), (256, 8192, 8192, 50));
    assert_eq!(
        (limits.pending_per_stream, limits.pending_per_source, limits.pending_per_domain),
        (10, 20, 4)
    );
    assert_eq!((limits.queue_stanzas, limits.queue_octets), (100, 1 << 20));
    assert_eq!(
        (limits.conn_s2s, limits.conn_c2s, limits.rate, limits.sasl_attempts),
        (20, 20, PerMinute(30), 3)
    );
    let timeouts = Timeouts::default();
    let seconds = |time: Duration| time.as_secs();
    assert_eq!((seconds(timeouts.first_byte), seconds(timeouts.header), seconds(timeouts.tls)), (5, 10, 10));
    assert_eq!((seconds(timeouts.unauth), seconds(timeouts.dialback), seconds(timeouts.queue)), (60, 30, 60));
    assert_eq!(
        (seconds(timeouts.close), seconds(timeouts.verify_idle), seconds(timeouts.idle_s2s)),
        (5, 5, 1800)
    );
    assert_eq!(
        (seconds(timeouts.keepalive), seconds(timeouts.dns), seconds(timeouts.dns_total)),
        (300, 5, 15)
    );
    assert_eq!(
        (seconds(timeouts.connect), seconds(timeouts.connect_total), seconds(timeouts.stanza)),
        (5, 20, 120)
    );
}

// Requirements 0.2, L-inside-*, L-grown and L-skip.
#[test]
fn ceilings_for_the_server_behind_are_those_of_the_requirements() {
    let limits = Limits::default();
    assert_eq!((limits.inside_stanza, limits.inside_depth, limits.inside_nodes), (10 << 20, 256, 200_000));
    assert_eq!((limits.inside_attr_value, limits.inside_attrs), (1 << 20, 256));
    assert_eq!((limits.inside_nsdecl, limits.inside_bindings, limits.bindings), (128, 512, 128));
    assert_eq!((limits.grown, limits.skip), (1 << 20, 16 << 20));
}

// XML-19: each relation by itself, at its border and one below, and both keys are named.
#[test]
fn what_is_let_in_must_be_deliverable() {
    let findings = |text: &str| {
        let (spec, findings) = crate::config::load::parse::<LimitsSpec>(text, "gatehouse.yaml");
        assert_eq!(findings, [], "{text}");
        let machine = Machine { environment: &|_| None, look_up: &|_, _| Vec::new() };
        let mut reader = ScalarReader::new("", &machine);
        let placed = Placed { line: 1, column: 1, value: spec };
        let limits = Limits::read(Some(&placed), &mut reader);
        deliverable(Some(&placed), &limits, &mut reader);
        reader.findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (fine, one_less, keys) in [
        ("stanza: 2560KiB", "stanza: 2621441B", ["inside-stanza", "stanza"]),
        ("{ grown: 10176KiB }", "grown: 10420225B", ["inside-stanza", "grown"]),
        ("inside-stanza: 1088KiB", "inside-stanza: 1087KiB", ["inside-stanza", "grown"]),
        ("depth: 248", "depth: 249", ["inside-depth", "depth"]),
        ("inside-depth: 72", "inside-depth: 71", ["inside-depth", "depth"]),
        ("nodes: 199968", "nodes: 199969", ["inside-nodes", "nodes"]),
        ("inside-attr-value: 8KiB", "inside-attr-value: 8191B", ["inside-attr-value", "attr-value"]),
        ("attrs: 128", "attrs: 129", ["inside-attrs", "attrs"]),
        ("nsdecl: 120", "nsdecl: 121", ["inside-nsdecl", "nsdecl"]),
        ("bindings: 504", "bindings: 505", ["inside-bindings", "bindings"]),
        ("inside-stanza: 16MiB", "inside-stanza: 17MiB", ["skip", "inside-stanza"]),
        ("skip: 10MiB", "skip: 9MiB", ["skip", "inside-stanza"]),
    ] {
        assert_eq!(findings(fine), Vec::<String>::new(), "{fine}");
        let found = findings(one_less);
        let named = |key: &&str| found[0].contains(&format!("`{key}`"));
        assert!(found.len() == 1 && keys.iter().all(named), "{one_less}: {found:?}");
    }
}

#[test]
fn every_default_is_within_its_range() {
    for (key, default, least, most) in Limits::KEYS {
        let number = |text: &str| {
            crate::policy::octets(text)
                .or_else(|_| count(text).map(u64::from))
                .or_else(|_| per_minute(text).map(|rate| u64::from(rate.0)))
                .or_else(|_| octets_per_second(text).map(|rate| u64::from(rate.0)))
                .or_else(|_| per_second(text).map(|rate| u64::from(rate.0)))
                .unwrap()
        };
        assert!((number(least)..=number(most)).contains(&number(default)), "{key}");
    }
    for (key, default, least, most) in Timeouts::KEYS {
        let range = duration(least).unwrap()..=duration(most).unwrap();
        assert!(range.contains(&duration(default).unwrap()), "{key}");
    }
    assert!(duration("5").unwrap_err().contains("unit"));
    assert!(duration("5 s").is_err() && duration("s").is_err() && duration("99999999999999999h").is_err());
}
