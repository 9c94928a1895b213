//! What files say, and what is wrong with them; their cases.

use super::*;

// POL-12: patches look at the streams of clients, too, where no rule is asked: offline, of a whole stanza or of such stanzas, each way.
#[test]
fn patches_of_client_streams_are_explained() {
    let text = "version: v1
patches:
  - { name: forms, reason: slow, action: deny, direction: inbound, flows: [c2s], payload: urn:f }
  - { name: moods, reason: odd, action: cut, direction: outbound, flows: [c2s], payload: urn:m }
  - { name: watched, reason: new, action: deny, mode: shadow, flows: [c2s], payload: urn:w }
  - { name: servers, reason: far, action: deny, direction: inbound, payload: urn:f, flows: [s2s] }
";
    let (file, findings) = load::parse(text, "p.yaml");
    assert_eq!(findings, []);
    let (patches, _, _) =
        compile_patches(&[PatchSource::new("p.yaml", file)], None, day("2026-11-21")).unwrap();
    let (policy, _) = build(&input(Federation::None, &["version: v1\nrules: []\n"]));
    let policy = policy.unwrap().with_patches(patches);
    let home = domain("home.example");
    let told = |direction, stanza: &str| {
        let told =
            ClientExplanation::of(&policy, (&home, direction), &OfStanza::default(), Some(stanza)).unwrap();
        let names: Vec<String> = told.patches.iter().map(|patch| patch.patch.clone()).collect();
        (told.is_allow(), told.reason, names.join(" "), told.to_string())
    };
    use Direction::{Inbound, Outbound};
    for (direction, payload, allow, reason, met, words) in [
        (Inbound, "urn:f", false, "patched", "forms", "its stream ends"),
        (Outbound, "urn:f", true, "allowed", "", "patches:    the stanza meets none"),
        (Outbound, "urn:m", true, "allowed", "moods", "moods at p.yaml:4:5 (cut): meets this stanza: odd"),
        (Inbound, "urn:m", true, "allowed", "", "what a client sends (inbound), message"),
        (Inbound, "urn:w", true, "allowed", "watched", "in shadow mode"),
    ] {
        let (allowed, why, names, text) =
            told(direction, &format!("<message><x xmlns='{payload}'/></message>"));
        assert_eq!((allowed, why, &*names), (allow, reason, met), "{direction:?} {payload}: {text}");
        assert!(text.contains(words), "{text}");
    }
    // Without a stanza: which look at such.
    let of = OfStanza { kind: Some(StanzaKind::Message), payload: Some("urn:f"), sender: None };
    let looking = ClientExplanation::of(&policy, (&home, Inbound), &of, None).unwrap();
    assert_eq!(looking.patches.iter().map(|patch| &*patch.patch).collect::<Vec<_>>(), ["forms"], "{looking}");
    assert!(looking.is_allow() && looking.to_string().contains("looks at such stanzas"), "{looking}");
    let broken = ClientExplanation::of(&policy, (&home, Inbound), &OfStanza::default(), Some("<message>"));
    assert!(broken.unwrap_err().starts_with("the stanza "));
}

// RLY-22, POL-24: a case tells question from answer: what asks tells nothing of who asks, what answers does.
#[test]
fn a_case_may_name_the_type_of_a_stanza() {
    let rules = "version: v1
rules:
  - { name: p, domains: [p.example], egress: { cut: [\"urn:x\"], presence: none, client-info: refuse } }
  - { name: q, domains: [q.example], verdict: quarantine }
expect:
";
    let out = "from: home.example, to: p.example";
    let held = "from: q.example, to: home.example";
    let rows = [
        (out, "kind: iq, payload: \"jabber:iq:version\"", "deny, reason: kept-inside"),
        (out, "kind: iq, type: get, payload: \"jabber:iq:version\"", "allow"),
        (out, "kind: iq, type: result, payload: \"jabber:iq:version\"", "deny, reason: kept-inside"),
        (out, "kind: iq, type: set, payload: \"urn:x\"", "deny, reason: kept-inside"),
        (out, "kind: iq, type: error, payload: \"urn:x\"", "allow"),
        (out, "kind: message, type: chat, payload: \"urn:x\"", "deny, reason: kept-inside"),
        (out, "kind: message, type: groupchat", "allow"),
        (out, "kind: presence", "deny, reason: kept-inside"),
        (out, "kind: presence, type: unavailable", "deny, reason: kept-inside"),
        ("from: home.example, to: room@p.example/nick", "kind: presence, type: unavailable", "allow"),
        (out, "kind: presence, type: subscribe", "allow"),
        (out, "kind: presence, type: probe", "allow"),
        (held, "kind: iq, type: get, payload: \"urn:xmpp:ping\"", "quarantine"),
        (held, "kind: iq, type: set, payload: \"urn:xmpp:ping\"", "deny, reason: quarantined"),
        (held, "kind: iq, type: result, payload: \"jabber:iq:version\"", "deny, reason: quarantined"),
        (held, "kind: iq, type: error, payload: \"jabber:iq:version\"", "quarantine"),
        (held, "kind: iq, type: result", "quarantine"),
    ];
    for (pair, stanza, verdict) in rows {
        let text = format!("{rules}  - {{ {pair}, {stanza}, verdict: {verdict} }}\n");
        let findings = compile(&input(Federation::Listed, &[&text])).err();
        assert_eq!(findings, None, "{pair}, {stanza}");
    }
    for (stanza, message, remedy) in [
        (
            "kind: iq, type: gett",
            "\"gett\" is not a type of iq",
            "did you mean `get`? write get, set, result or error",
        ),
        (
            "kind: presence, type: chat",
            "\"chat\" is not a type of presence",
            "write error, probe, subscribe, ",
        ),
        ("kind: mesage, type: chat", "\"mesage\" is not a kind of stanza", "did you mean `message`? "),
        ("type: get", "a `type` without a `kind`", "add `kind: iq`"),
    ] {
        let text = format!("{rules}  - {{ {out}, {stanza}, verdict: allow }}\n");
        let findings = compile(&input(Federation::Listed, &[&text])).err().unwrap_or_default();
        let [only] = &findings[..] else { panic!("{stanza}: {findings:#?}") };
        assert!(only.message.contains(message) && only.remedy.starts_with(remedy), "{only:?}");
    }
}

// RLY-22: what does not leave is told of one payload, offline; of the direction outbound alone, and never by a rule that could not mean it.
#[test]
fn egress_is_asked_of_what_leaves() {
    let text = "version: v1
defaults: { egress: { client-info: refuse } }
rules:
  - { name: p, domains: [p.example], egress: { cut: [\"urn:x\"], presence: plain } }
  - { name: q, domains: [q.example], tls: \"1.3\" }
  - { name: n, domains: [n.example], egress: { presence: none } }
  - { name: o, domains: [o.example], egress: { cut: [\"urn:x\"] }, identity: [certificate] }\n";
    let (policy, findings) = build(&input(Federation::Any, &[text]));
    let policy = policy.unwrap_or_else(|| panic!("{findings:#?}"));
    let asked = |remote, direction, kind, payload| {
        Ask { direction, ..from(remote) }.of(&policy).for_stanza(Some(kind), payload).reason
    };
    use Direction::{Inbound, Outbound};
    use StanzaKind::{Iq, Message, Presence};
    let rows = [
        ("p.example", Message, Some("urn:x"), Reason::KeptInside),
        ("p.example", Message, Some("urn:y"), Reason::Allowed),
        ("p.example", Message, None, Reason::Allowed),
        ("p.example", Presence, None, Reason::Allowed),
        ("p.example", Presence, Some("http://jabber.org/protocol/caps"), Reason::KeptInside),
        ("p.example", Presence, Some("http://jabber.org/protocol/muc"), Reason::Allowed),
        // The rule's own word stands in place of the defaults.
        ("p.example", Iq, Some("jabber:iq:version"), Reason::Allowed),
        ("q.example", Iq, Some("jabber:iq:version"), Reason::KeptInside),
        ("any.example", Iq, Some("jabber:iq:last"), Reason::KeptInside),
        ("n.example", Presence, None, Reason::KeptInside),
        ("n.example", Message, None, Reason::Allowed),
        ("o.example", Message, Some("urn:x"), Reason::KeptInside),
    ];
    for (remote, kind, payload, expected) in rows {
        assert_eq!(asked(remote, Outbound, kind, payload), expected, "{remote} {kind:?} {payload:?}");
        assert_eq!(asked(remote, Inbound, kind, payload), Reason::Allowed, "{remote} {kind:?} {payload:?}");
    }
    let wrong = "version: v1
rules:
  - { name: a, domains: [a.example], verdict: deny, egress: { presence: none } }
  - { name: b, domains: [b.example], direction: inbound, egress: { presence: none } }
  - { name: c, domains: [c.example], egress: { cut: [\"\", \"jabber:client\"], presence: some, client-info: no } }\n";
    let told = errors(&[wrong]);
    for words in [
        "`egress` in a rule that denies",
        "the direction inbound",
        "cannot be empty",
        "stanzas themselves",
        "\"some\"",
        "\"no\"",
    ] {
        assert!(told.iter().any(|line| line.contains(words)), "{words}: {told:#?}");
    }
}

// What stands there and says nothing was meant to say something.
#[test]
fn what_must_say_something_is_not_empty() {
    let text = "version: v1
rules:
  - { name: a, domains: [a.example], owner: \"\", ticket: \" \" }
  - { name: b, domains: [b.example], stanzas: { deny-payloads: [] } }
  - { name: c, domains: [c.example], egress: { cut: [], presence: plain } }\n";
    let told = errors(&[text]);
    for (words, at) in [
        ("`owner` is empty", "3:"),
        ("`ticket` is empty", "3:"),
        ("`deny-payloads` is empty", "4:"),
        ("`cut` is empty", "5:"),
    ] {
        let found = told.iter().any(|line| line.contains(words) && line.starts_with(&format!("0.yaml:{at}")));
        assert!(found, "{words}: {told:#?}");
    }
    assert_eq!(told.len(), 4, "{told:#?}");
    let text = "version: v1
rules: []
expect:
  - { from: a.example, to: home.example, payload: \"\", verdict: deny }
  - { from: a.example, to: home.example, lists: [], verdict: deny }
  - { from: a@a.example, to: home.example, sender-lists: [], verdict: deny }\n";
    let told = compile(&input(Federation::Listed, &[text])).unwrap_err();
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    for words in ["`payload` is empty", "`lists` is empty", "`sender-lists` is empty"] {
        assert!(told.iter().any(|line| line.contains(words)), "{words}: {told:#?}");
    }
}

// POL-09, POL-10: all findings at once, each with its line; any of them is no policy.
#[test]
fn every_finding_of_a_file_is_told_at_once() {
    let text = "rules:
  - { domains: [x.example] }
  - { name: default, domains: [] }
  - { name: a, domains: [\"*\", \"a.*.example\", 192.0.2.1] }
  - { name: a, domains: [y.example], hosted: [\"*.home.example\", away.example] }
  - { name: b, domains: [z.example, z.example], verdict: alow, tls: \"1.1\", identity: [] }
  - { name: c, domains: [c.example], networks: [192.0.2.1/24], expires: 2027-02-30 }
  - { name: d, domains: [d.example], limits: { stanzas: 50, octets: 64/s, streams: 0 } }
  - { name: e, domains: [e.example], verdict: deny, identity: [certificate], tls: \"1.3\" }
  - { name: f, domains: [f.example], verdict: deny, stanzas: { allow: [] }, limits: { streams: 1 } }
  - { name: g g, domains: [g.example], stanzas: { allow: [] } }\n";
    let found = errors(&[text]);
    let expected = [
        "0.yaml: error: the file does not say which version",
        "0.yaml:2:5: error: this rule has no name",
        "0.yaml:3:5: error: this rule names no domains",
        "0.yaml:3:13: error: \"default\" stands for",
        "0.yaml:4:26: error: \"*\" alone",
        "0.yaml:4:31: error: \"a.*.example\" is no pattern",
        "0.yaml:4:46: error: \"192.0.2.1\" is no domain",
        "0.yaml:5:13: error: two rules are called \"a\": here and at 0.yaml:4:13",
        "0.yaml:5:47: error: \"*.home.example\" is a wildcard",
        "0.yaml:5:65: error: away.example is not a hosted domain that uses this file",
        "0.yaml:6:37: error: z.example stands in this rule twice",
        "0.yaml:6:58: error: \"alow\" is not a verdict; did you mean `allow`? write allow, deny or quarantine",
        "0.yaml:6:69: error: \"1.1\" is not a version of TLS",
        "0.yaml:6:86: error: `identity` is empty",
        "0.yaml:7:49: error: \"192.0.2.1/24\" has bits set",
        "0.yaml:7:73: error: \"2027-02-30\" is no date",
        "0.yaml:8:57: error: \"50\" is no rate",
        "0.yaml:8:69: error: \"64/s\" is no rate",
        "0.yaml:8:84: error: \"0\" is no number of streams",
        "0.yaml:9:63: error: `identity` in a rule that denies",
        "0.yaml:9:83: error: `tls` in a rule that denies",
        "0.yaml:10:62: error: `stanzas` in a rule that denies",
        "0.yaml:10:85: error: `limits` in a rule that denies",
        "0.yaml:11:13: error: \"g g\" cannot be the name",
        "0.yaml:11:58: error: `allow` is empty",
    ];
    let wrong = |(found, expected): &(&String, &str)| !found.starts_with(expected);
    let wrong: Vec<_> = found.iter().zip(expected).filter(wrong).collect();
    assert!(found.len() == expected.len() && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn defaults_of_two_files_must_agree() {
    let a = "version: v1\ndefaults: { tls: \"1.3\" }\n";
    let b = "version: v1\ndefaults: { tls: \"1.2\" }\n";
    assert!(errors(&[a, b])[0].contains("these defaults and those at 0.yaml:2:11 differ"));
    let (policy, _) = build(&input(Federation::Any, &[a]));
    Ask { tls: Tls::V12, ..from("x.example") }.says(&policy.unwrap(), Reason::TlsTooOld, "default");
}

// Contract 3: a failing case keeps the old policy.
#[test]
fn a_failing_case_is_no_policy() {
    let text = "version: v1
expect:
  - { from: x.example, to: home.example, verdict: allow }
  - { from: x.example, to: home.example, verdict: deny, reason: not-listed, rule: default }
  - { from: x.example, to: y.example, verdict: deny }
  - { to: home.example }\n";
    let findings = compile(&input(Federation::Listed, &[text])).unwrap_err();
    let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "0.yaml:3:5: error: the case x.example -> home.example expects allow, but gets deny not-listed (rule \
             default); correct the rule or the case",
            "0.yaml:5:5: error: x.example is not a hosted domain; name one of the configuration's domains, or correct \
             `direction`",
            "0.yaml:6:5: error: this case has no `from`; a case needs from, to and verdict",
            "0.yaml:6:5: error: this case has no `verdict`; a case needs from, to and verdict",
        ]
    );
}

// POL-13: the same in cases.
#[test]
fn cases_suppose_lists_that_name_a_sender() {
    let run = |case: &str| {
        let text = format!(
            "version: v1\nrules:\n  - {{ name: on-lists, verdict: deny, lists: [one, two], quorum: 2 }}\n  - {{ name: ours, domains: \
             [cousin.example] }}\nexpect:\n  - {{ {case} }}\n"
        );
        let findings = match compile(&input(Federation::Any, &[&text])) {
            Ok(_) => Vec::new(),
            Err(findings) => findings,
        };
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let to = "to: home.example";
    for case in [
        "from: bad@a.example, sender-lists: [one, two], verdict: deny, reason: on-lists, rule: on-lists",
        "from: bad@a.example/x, sender-lists: [one], lists: [two], verdict: deny, reason: on-lists",
        "from: bad@a.example, sender-lists: [one], verdict: allow, rule: default",
        "from: bad@cousin.example, sender-lists: [one, two], verdict: allow, rule: ours",
        "from: a.example, lists: [one, two], verdict: deny, reason: on-lists",
    ] {
        assert_eq!(run(&format!("{case}, {to}")), "", "{case}");
    }
    for (case, told) in [
        ("from: a.example, to: home.example, sender-lists: [one], verdict: allow", "names a domain alone"),
        ("from: b@a.example, to: home.example, sender-lists: [four], verdict: allow", "no rule asks a list"),
        ("from: b@home.example, to: a.example, sender-lists: [one], verdict: allow", "of a case outbound"),
        ("from: bad@a.example, to: home.example, sender-lists: [one, two], verdict: allow", "but gets deny"),
    ] {
        assert!(run(case).contains(told), "{case}: {}", run(case));
    }
}

// A file that is tested by itself has no cases that say which domain is hosted; its rules tie all the same.
#[test]
fn rules_tie_in_a_file_without_cases() {
    for (rules, ties) in [
        ("  - { name: a, domains: [x.example] }\n  - { name: b, domains: [x.example] }\n", true),
        ("  - { name: a, verdict: deny, lists: [x] }\n  - { name: b, verdict: deny, lists: [y] }\n", true),
        ("  - { name: a, domains: [x.example] }\n  - { name: b, domains: [\"*.x.example\"] }\n", false),
    ] {
        let (file, _) = load::parse::<PolicyFile>(&format!("version: v1\nrules:\n{rules}"), "f.yaml");
        let (_, findings) = build(&stand_alone(Source::new("f.yaml", file), day("2026-11-21")));
        assert_eq!(findings.iter().any(|finding| finding.message.contains("a tie")), ties, "{rules}");
    }
    let named = errors(&["version: v1\nrules:\n  - { name: a, verdict: deny, lists: [\"\", b, b] }\n"]);
    assert!(named[0].contains("cannot be the name of a list") && named[1].contains("twice"), "{named:?}");
}
