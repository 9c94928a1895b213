use super::*;
use crate::policy::PolicyFile;

fn findings(text: &str) -> Vec<String> {
    let (_, findings) = parse::<PolicyFile>(text, "p.yaml");
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn positions_are_told_in_lines_and_columns() {
    let text = "version: v1\nrules:\n  - name: a\n    domains: [x.example, \"*.y.example\"]\n    tls: 1.3\n";
    let (file, findings) = parse::<PolicyFile>(text, "p.yaml");
    assert_eq!(findings, []);
    let rule = &file.rules[0];
    assert_eq!((rule.line, rule.column), (3, 5));
    let domains = rule.value.domains.as_ref().unwrap();
    assert_eq!((domains.line, domains.column), (4, 14));
    assert_eq!((domains.value[1].line, domains.value[1].column), (4, 26));
    assert_eq!(domains.value[1].value, "*.y.example");
    assert_eq!(rule.value.tls.as_ref().unwrap().value, "1.3");
}

// A file saved by an editor on Windows begins with U+FEFF; configuration and policies are read by the same hand.
#[test]
fn a_byte_order_mark_is_read_over() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("p.yaml");
    let plain = "version: v1\nrules: []\n";
    std::fs::write(&path, format!("\u{feff}{plain}")).unwrap();
    assert_eq!(read_text(&path, "p.yaml").unwrap(), plain);
    // One alone: a second is a character like any other.
    std::fs::write(&path, "\u{feff}\u{feff}").unwrap();
    assert_eq!(read_text(&path, "p.yaml").unwrap(), "\u{feff}");
    std::fs::write(&path, b"\xEF\xBB").unwrap();
    assert!(read_text(&path, "p.yaml").unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn every_mistake_is_told_in_one_run() {
    let text = "version: v1\nruls: []\nrules:\n  - name: [a]\n    domian: [x.example]\n    networks: 192.0.2.0/24\n  - 5\n  - name: b\n    name: c\nexpect: {}\n";
    assert_eq!(
        findings(text),
        [
            "p.yaml:2:1: error: `ruls` is not a key that is known here; did you mean `rules`?",
            "p.yaml:4:11: error: a single value is due here, not a list; write it without brackets or dash",
            "p.yaml:5:5: error: `domian` is not a key that is known here; did you mean `domains`?",
            "p.yaml:6:15: error: a list is due here; write [a, b] or one item a line after dashes",
            "p.yaml:7:5: error: a map is due here; write { key: value } or one key a line",
            "p.yaml:9:5: error: `name` stands here a second time; first at line 8; keep one of them",
            "p.yaml:10:9: error: a list is due here; write [a, b] or one item a line after dashes",
        ]
    );
}

#[test]
fn what_is_clever_in_yaml_is_refused() {
    for (text, words) in [
        ("a: &x 1\n", "anchor"),
        ("a: *x\n", "alias"),
        ("a: !!str 1\n", "tag"),
        ("a: { <<: {} }\n", "merge key"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("[a]: 1\n", "cannot be a key"),
        ("a: [1\n", "not YAML"),
        ("a: \"x\n", "not YAML"),
    ] {
        let found = findings(text);
        assert!(found.len() == 1 && found[0].contains(words), "{text:?}: {found:?}");
    }
}

#[test]
fn an_empty_file_is_an_empty_spec() {
    assert_eq!(findings(""), Vec::<String>::new());
    assert_eq!(findings("# nothing\n"), Vec::<String>::new());
    assert_eq!(findings("rules:\nexpect: ~\n"), Vec::<String>::new());
    assert_eq!(findings("5\n").len(), 1);
}

proptest::proptest! {
    // Policy files come from people, and from scripts of people: any text is read or refused, none panics.
    #[test]
    fn no_text_makes_it_panic(text in "[a-z:\\[\\]{}\"'&*!<>|~#,. \n-]{0,120}") {
        let _ = findings(&text);
    }

    #[test]
    fn nearly_right_files_do_not_panic(cut in 0usize..400, insert in "[:\\[\\]{}\"\n -]{0,4}") {
        let whole = "version: v1\ndefaults: { identity: [certificate, dialback], tls: \"1.2\" }\nrules:\n  - name: partners\n    domains: [partner.example, \"*.agency.example\"]\n    verdict: allow\n    stanzas: { allow: [message], deny-payloads: [\"jabber:iq:register\"] }\n    limits: { stanzas: 50/s, octets: 64KiB/s, streams: 4 }\nexpect:\n  - { from: a.example, to: b.example, verdict: deny }\n";
        let cut = cut.min(whole.len());
        let text = format!("{}{insert}{}", &whole[..cut], &whole[cut..]);
        let _ = findings(&text);
    }
}
