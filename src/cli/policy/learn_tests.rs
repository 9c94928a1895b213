#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::gateway::protocol::{self, Stream};
use crate::policy::{self, Day, Federation, HostedSource, Place, Policy, SettledParties, Source, Sources};

fn policy(text: &str, more: &[&str]) -> Policy {
    policy_under(Federation::Any, text, more)
}

fn policy_under(federation: Federation, text: &str, more: &[&str]) -> Policy {
    let (file, findings) = config::load::parse(text, "now.yaml");
    assert_eq!(findings, []);
    let hosted = ["home.example"].iter().chain(more).map(|name| HostedSource {
        domain: Domain::parse(name).unwrap(),
        federation,
        sources: vec![0],
        place: Place::whole("gatehouse.yaml"),
    });
    let today = Day::parse("2026-11-21").unwrap();
    let sources = vec![Source::new("now.yaml", file)];
    let input = Sources { hosted: hosted.collect(), sources, today, digest: String::new() };
    policy::build(&input).0.unwrap()
}

const EMPTY: &str = "version: v1\nrules: []\n";

fn learned(lines: &[String], policy: &Policy, all: bool) -> (Proposal, String) {
    let hosted = Domain::parse("home.example").unwrap();
    let mut seen = Seen::new(hosted.clone(), Duration::from_secs(30 * 86_400));
    lines.iter().for_each(|line| seen.line(line.as_bytes()));
    let proposal = propose::propose(&seen, policy, all);
    let text = write::file(&proposal, &hosted, Duration::from_secs(30 * 86_400));
    write::prove(&text).unwrap_or_else(|findings| panic!("{findings:#?}\n{text}"));
    (proposal, text)
}

fn record(
    event: &str,
    flow: &str,
    pair: &str,
    proof: (&str, Option<&str>),
    tls: &str,
    stanzas: u64,
) -> String {
    let time = Timestamp::now();
    let mut record = serde_json::json!({ "time": time, "event": event, "flow": flow, "pair": pair, "proof": proof.0, "tls": tls,
        "reason": "not-listed", "stanzas": stanzas, "octets": stanzas * 100 });
    if let Some(server) = proof.1 {
        record["server_proof"] = server.into();
    }
    record.to_string()
}

// POL-24: what was let in to be looked at is no list of whom one knows, until somebody has said so.
#[test]
fn who_is_in_quarantine_is_learned_only_where_all_are_and_he_is_approved() {
    let cert = ("certificate", Some("certificate"));
    let lines = [record("ended", "s2s-in", "new.example>home.example", cert, "1.3", 7)];
    let now = policy_under(Federation::Quarantine, EMPTY, &[]);
    let (proposal, text) = learned(&lines, &now, false);
    assert!(proposal.rules.is_empty() && text.contains("new.example: is or was in quarantine"), "{text}");
    let (proposal, text) = learned(&lines, &now, true);
    assert!(
        proposal.rules.is_empty() && text.contains("new.example: is in quarantine inbound, and nobody"),
        "{text}"
    );
    let party = || std::collections::BTreeSet::from([Box::from("new.example")]);
    let approved = now.with_settled(SettledParties { approved: party(), ..SettledParties::default() });
    assert_eq!(learned(&lines, &approved, true).0.rules.len(), 1);
    let refused = now.with_settled(SettledParties { refused: party(), ..SettledParties::default() });
    let (proposal, text) = learned(&lines, &refused, true);
    assert!(
        proposal.rules.is_empty() && text.contains("new.example: is refused inbound: an operator"),
        "{text}"
    );
    assert_eq!(learned(&lines, &policy(EMPTY, &[]), false).0.rules.len(), 1);
}

// POL-23: a file that takes the place of all others lets nobody in whom somebody has refused since: by a rule, either way, or by a ban; nor by
// a wildcard.
#[test]
fn whom_somebody_has_refused_is_left_out_with_the_reason() {
    let cert = ("certificate", Some("certificate"));
    let mut lines = Vec::new();
    for remote in
        ["spam.example", "half.example", "held.example", "banned.example", "lapsed.example", "good.example"]
    {
        lines.push(record("ended", "s2s-in", &format!("{remote}>home.example"), cert, "1.3", 4));
        lines.push(record("ended", "s2s-out", &format!("home.example>{remote}"), cert, "1.3", 4));
    }
    for sub in ["a", "b", "c", "d"] {
        lines.push(record("ended", "s2s-in", &format!("{sub}.agency.example>home.example"), cert, "1.3", 1));
    }
    let now = policy(
        "version: v1\nrules:\n  - { name: spam, domains: [spam.example, d.agency.example], verdict: deny }\n  - { name: half, domains: \
         [half.example], verdict: deny, direction: inbound }\n  - { name: held, domains: [held.example], verdict: quarantine }\n  - { name: \
         lapsed, domains: [lapsed.example], expires: 2026-01-01 }\n",
        &[],
    );
    let domains = vec![Domain::parse("banned.example").unwrap()];
    let now = now.with_bans(crate::policy::Bans { domains, networks: Vec::new() });
    let (proposal, text) = learned(&lines, &now, true);
    for words in [
        "# - spam.example: is refused inbound: a deny rule names this domain (rule spam at now.yaml:3:5); is refused outbound: ",
        "# - half.example: is refused inbound: a deny rule names this domain (rule half at now.yaml:4:5)\n",
        "# - held.example: is in quarantine inbound, and nobody has approved it (rule held at now.yaml:5:5); ",
        "# - banned.example: is refused inbound: ",
        "# - lapsed.example: is refused inbound: the rule that would allow this has expired (rule lapsed at",
        "# - d.agency.example: is refused inbound: ",
        "domains: [\"half.example\"]\n    direction: outbound\n",
        "domains: [\"a.agency.example\", \"b.agency.example\", \"c.agency.example\"]\n",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    let names: Vec<_> = proposal.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["learned-agency.example", "learned-good.example", "learned-half.example"], "{text}");
    // Beside what is in force a ban alone is news: the rules name the others.
    let (_, text) = learned(&lines, &now, false);
    assert!(text.contains("# - banned.example: is refused inbound: "), "{text}");
    assert!(text.contains("# - spam.example: rule spam at now.yaml:3:5 names it already"), "{text}");
}

/// From whom to whom, on which flow, whether against it, how we were proven, and how the other server was.
type Living<'a> = (&'a str, &'a str, &'a str, bool, &'a str, Option<&'a str>);

fn living(pairs: &[Living<'_>]) -> Answer {
    let streams = pairs.iter().map(|(from, to, flow, back, proof, server)| Stream {
        stream: "1".to_owned(),
        kind: "courier".to_owned(),
        flow: (*flow).to_owned(),
        peer: None,
        since: Timestamp::now().to_string(),
        pairs: vec![protocol::Pair {
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            back: *back,
            proof: (*proof).to_owned(),
            server_proof: server.map(str::to_owned),
            rule: "default".to_owned(),
            address: None,
            tls: Some("1.3".to_owned()),
            fingerprint: None,
            stanzas: 5,
            octets: 500,
            managed: None,
        }],
        client: None,
    });
    Answer::Streams { streams: streams.collect(), silent: 0 }
}

// POL-23: nothing is learned that was not seen: a pair of which nobody says how its server was proven is left out, and told.
#[test]
fn a_proof_that_is_not_known_is_never_guessed() {
    let home = "home.example";
    let mut seen = Seen::new(Domain::parse(home).unwrap(), Duration::from_secs(86_400));
    seen.living(living(&[
        (home, "old.example", "s2s-out", false, "certificate", None),
        (home, "new.example", "s2s-out", false, "certificate", Some("dialback")),
        (home, "both.example", "s2s-in", true, "certificate", Some("dane")),
        ("both.example", home, "s2s-out", true, "dane", None),
        (home, "odd.example", "s2s-out", false, "certificate", Some("rumour")),
    ]));
    // A record says what the living pair does not.
    let told =
        record("admitted", "s2s-out", "home.example>told.example", ("dialback", Some("posh")), "1.3", 0);
    seen.line(told.as_bytes());
    seen.living(living(&[(home, "told.example", "s2s-out", false, "dialback", None)]));
    // A record of what went back over the stream of a server that called us.
    let back = record(
        "ended",
        "s2s-in",
        "home.example>back.example",
        ("certificate", Some("certificate")),
        "1.3",
        3,
    );
    seen.line(back.as_bytes());
    let proposal = propose::propose(&seen, &policy(EMPTY, &[]), false);
    let text = write::file(&proposal, &seen.hosted, Duration::from_secs(86_400));
    write::prove(&text).unwrap_or_else(|findings| panic!("{findings:#?}\n{text}"));
    for words in [
        "    domains: [\"new.example\"]\n    direction: outbound\n    identity: [certificate, dialback]\n",
        "    domains: [\"both.example\"]\n    identity: [dane]\n",
        "    domains: [\"told.example\"]\n    direction: outbound\n    identity: [certificate, posh]\n",
        "    domains: [\"back.example\"]\n    direction: outbound\n    identity: [certificate]\n",
        "# - old.example: 5 stanzas passed outbound, and it is not known how it was proven: the audit log tells it",
        "# - odd.example: 5 stanzas passed outbound, and it is not known",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    assert_eq!((proposal.rules.len(), proposal.left_out.len()), (4, 2), "{text}");
}

// A rule that asks lists names nobody whom they do not.
#[test]
fn a_rule_that_asks_lists_keeps_nobody_from_being_learned() {
    let cert = ("certificate", Some("certificate"));
    let lines = [record("ended", "s2s-in", "partner.example>home.example", cert, "1.3", 7)];
    let now = policy("version: v1\nrules:\n  - { name: listed, verdict: deny, lists: [spam] }\n", &[]);
    assert_eq!(learned(&lines, &now, false).0.rules.len(), 1);
}

#[test]
fn what_was_used_becomes_a_rule_and_the_rest_is_told() {
    let cert = ("certificate", Some("certificate"));
    let mut lines = vec![
        record("ended", "s2s-in", "partner.example>home.example", cert, "1.3", 7),
        record("ended", "s2s-out", "home.example>partner.example", cert, "1.3", 5),
        record("ended", "s2s-in", "old.example>home.example", ("dialback", None), "1.2", 2),
        record("ended", "s2s-in", "silent.example>home.example", cert, "1.3", 0),
        record("rejected", "s2s-in", "mallory.example>home.example", cert, "1.3", 0),
        record("ended", "s2s-in", "known.example>home.example", cert, "1.3", 9),
        record("ended", "s2s-in", "pinned.example>home.example", ("pin", None), "1.3", 9),
        record("ended", "s2s-in", "a.example>elsewhere.example", cert, "1.3", 9),
        "no record".to_owned(),
    ];
    for sub in ["a", "b", "c"] {
        lines.push(record("ended", "s2s-in", &format!("{sub}.agency.example>home.example"), cert, "1.3", 1));
    }
    let now = policy("version: v1\nrules:\n  - { name: known, domains: [known.example] }\n", &[]);
    let (proposal, text) = learned(&lines, &now, false);
    for words in [
        "  - name: learned-partner.example\n    domains: [\"partner.example\"]\n    identity: [certificate]\n    tls: \"1.3\"\n",
        "  - name: learned-old.example\n    domains: [\"old.example\"]\n    direction: inbound\n    identity: [certificate, dialback]\n    tls: \"1.2\"\n",
        "domains: [\"*.agency.example\"]\n    direction: inbound\n",
        "# partner.example: 7 stanzas in (700 octets), by certificate, last 2",
        "# - silent.example: was admitted 0 times, and no stanza passed\n",
        "# - mallory.example: was refused 1 times and never let in, last for not-listed\n",
        "# - known.example: rule known at now.yaml:3:5 names it already\n",
        "# - pinned.example: is proven by a pinned key",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    assert!(!text.contains("a.example>") && !text.contains("elsewhere"), "{text}");
    assert_eq!(proposal.rules.len(), 3, "{text}");
    // With all, the file takes the place of every other.
    let (proposal, text) = learned(&lines, &now, true);
    assert!(proposal.rules.iter().any(|rule| rule.name == "learned-known.example"), "{text}");
}

#[test]
fn a_wildcard_never_reaches_over_a_public_suffix() {
    let cert = ("certificate", Some("certificate"));
    let lines: Vec<String> = ["a.co.uk", "b.co.uk", "c.co.uk", "d.co.uk"]
        .iter()
        .map(|name| record("ended", "s2s-in", &format!("{name}>home.example"), cert, "1.3", 1))
        .collect();
    let (_, text) = learned(&lines, &policy(EMPTY, &[]), false);
    assert!(!text.contains("*."), "{text}");
}

proptest! {
    // POL-23: what is written passes `policy test` and `check`, whatever the log holds: alone, beside the policy in force, and with
    // other domains served here.
    #[test]
    fn what_is_written_always_passes(
        pairs in prop::collection::vec(
            ("([a-c]\\.)?([a-c]\\.)?(partner|agency|b\u{fc}cher|co|very-long-name-that-goes-on-and-on-and-on-and-on-and-on-a)\\.(example|uk|co\\.uk)|localhost|\\[::1\\]|\"x|home\\.example|\\PC{0,8}",
             prop::bool::ANY, 0usize..5, 0usize..6, 0usize..3, 0u64..3, 0usize..3),
            0..40),
        all: bool,
        several: bool,
    ) {
        let proofs = ["certificate", "dialback", "dane", "pin", "posh"];
        let lines: Vec<String> = pairs
            .iter()
            .map(|(remote, inbound, proof, server, tls, stanzas, event)| {
                let (flow, pair) = match inbound {
                    true => ("s2s-in", format!("{remote}>home.example")),
                    false => ("s2s-out", format!("home.example>{remote}")),
                };
                let server = (*server < 5).then(|| proofs[*server]);
                let event = ["ended", "admitted", "rejected"][*event];
                record(event, flow, &pair, (proofs[*proof], server), ["1.2", "1.3", "none"][*tls], *stanzas)
            })
            .collect();
        let now = "version: v1\nrules:\n  - { name: learned-partner.example, domains: [\"*.partner.example\"], direction: inbound, verdict: deny }\n  - { name: b, domains: [agency.example] }\n";
        let more: &[&str] = if several { &["other.example"] } else { &[] };
        let (_, text) = learned(&lines, &policy(now, more), all);
        // As the shadow of the domain: alone where it takes the place of all, beside the files in force where not.
        let (file, findings) = config::load::parse(&text, "learned.yaml");
        prop_assert_eq!(findings, []);
        let (present, _) = config::load::parse(now, "now.yaml");
        let mut sources = vec![Source::new("learned.yaml", file)];
        if !all {
            sources.push(Source::new("now.yaml", present));
        }
        let place = Place::whole("gatehouse.yaml");
        let hosted = HostedSource { domain: Domain::parse("home.example").unwrap(), federation: Federation::Listed,
            sources: (0..sources.len()).collect(), place };
        let today = Day::parse("2026-11-21").unwrap();
        let compiled = policy::compile(&Sources { hosted: vec![hosted], sources, today, digest: String::new() });
        if let Err(findings) = compiled {
            panic!("{findings:#?}\n{text}");
        }
    }
}
