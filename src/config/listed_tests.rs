use super::tests::{SHORTEST, assemble};
use super::*;
use crate::policy::{List, Lists, Slot};

/// What is said of a list that is written so, beside a folder for what is fetched.
fn said(list: &str) -> String {
    let (_, findings) = assemble(&format!("{SHORTEST}state: s\nlists:\n  - {{ name: one, {list} }}\n"));
    findings.join("\n")
}

// POL-13: what could never be fetched is told before anybody waits for it.
#[test]
fn a_list_is_fetched_from_a_named_host_by_https_alone() {
    for url in [
        "https://lists.example/spam.txt",
        "HTTPS://Lists.Example/spam.txt?a=b",
        "https://lists.example:8443/",
        "https://lists.example:443",
        "https://b\u{fc}cher.example/x",
    ] {
        let ascii = url.is_ascii();
        assert_eq!(
            said(&format!("url: \"{url}\"")).is_empty(),
            ascii,
            "{url}: {}",
            said(&format!("url: \"{url}\""))
        );
    }
    for (url, why) in [
        ("", "cannot be read"),
        ("lists.example/x", "cannot be read"),
        ("http://lists.example/x", "not https"),
        ("https://", "cannot be read"),
        ("https:///x", "cannot be read"),
        ("https://lists.example/a b", "cannot be read"),
        ("https://lists.example:0/", "its port"),
        ("https://lists.example:99999/", "its port"),
        ("https://lists.example:/", "its port"),
        ("https://lists.example:22/", "port 22 is not dialled"),
        ("https://ada:secret@lists.example/", "login"),
        ("https://lists.example/x#part", "fragment"),
        ("https://127.0.0.1/x", "address in numbers"),
        ("https://192.0.2.1/x", "address in numbers"),
        ("https://[::1]:8443/x", "address in numbers"),
        ("https://a_b.example/x", "no name of a host"),
    ] {
        let said = said(&format!("url: \"{url}\""));
        assert!(said.starts_with("dir/g.yaml:9:23: error") && said.contains(why), "{url}: {said}");
    }
}

#[test]
fn times_of_a_list_make_sense() {
    for right in ["refresh: 5s", "refresh: 30d", "refresh: 1d, expires: 2d", "expires: 7h"] {
        assert_eq!(said(&format!("url: \"https://a.example/\", {right}")), "", "{right}");
    }
    for (wrong, why) in [
        ("refresh: 31d", "after 5 s to 30 days"),
        ("refresh: 0s", "after 5 s to 30 days"),
        ("refresh: 5x", "500ms, 30s, 5m, 1h or 2d"),
        ("expires: 0s", "held for ever"),
        ("refresh: 6h, expires: 6h", "before it is fetched anew"),
        ("expires: 1h", "before it is fetched anew, after 6h"),
    ] {
        let said = said(&format!("url: \"https://a.example/\", {wrong}"));
        assert!(said.contains(why), "{wrong}: {said}");
    }
    assert_eq!(said("file: a.txt, expires: 1s"), "");
    assert!(said("format: domains").contains("`url` as well; add `file: "), "{}", said("format: domains"));
    assert!(said("file: a.txt, refresh: 1h").contains("`refresh` without `url`"));
}

/// Each key once, and each without a value.
#[test]
fn a_key_without_a_value_is_no_word() {
    for key in ["bidi", "state", "threads", "default-domain", "explain-to-users"] {
        for nothing in ["", " ~", " null"] {
            let (settings, findings) = assemble(&format!("{SHORTEST}{key}:{nothing}\n"));
            assert_eq!(findings.len(), 1, "{key}: {findings:?}");
            assert!(findings[0].contains("a value is due here, and there is none"), "{findings:?}");
            assert_eq!(settings.state, None);
        }
    }
    // What would be needed in it is asked for; where nothing is, nothing is missing.
    for (key, why) in [
        ("audit", "`file` is missing"),
        ("cluster", "`name` is missing"),
        ("steering", "`listen` is missing"),
    ] {
        assert!(assemble(&format!("{SHORTEST}{key}:\n")).1.join("\n").contains(why), "{key}");
    }
    for key in ["limits", "timeouts", "log", "admin", "dns", "trust", "lists", "patches", "retired-domains"] {
        assert_eq!(assemble(&format!("{SHORTEST}{key}:\n")).1, Vec::<String>::new(), "{key}");
    }
    let unsigned = said("file: a.txt, verify: ~");
    assert!(unsigned.contains("`minisign` is missing"), "{unsigned}");
    let (_, findings) = assemble(&format!("{SHORTEST}state: \"\"\n"));
    assert_eq!(findings, ["dir/g.yaml:7:8: error: the path is empty; write the path of a file"]);
}

#[test]
fn truth_values_stand_for_on_and_off() {
    for (word, on) in [("on", true), ("true", true), ("off", false), ("false", false)] {
        let (settings, findings) = assemble(&format!("{SHORTEST}bidi: {word}\n"));
        assert_eq!((settings.bidi, findings), (on, Vec::new()), "{word}");
    }
}

// POL-13: what is left out of a list is told with its line.
#[test]
fn lines_that_are_left_out_are_told_with_their_place() {
    let (settings, _) = assemble(&format!("{SHORTEST}lists:\n  - {{ name: one, file: l.txt }}\n"));
    let slot = |text: &str| Lists::new(vec![Slot::of(List::read("one", text))]);
    let told = |text: &str| {
        let findings = listed::warnings(&settings.lists, &slot(text));
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(told("a.example\n"), "");
    let said = told("# x\na.example\nno domain\ncom\n_\nco.uk\n-\n");
    let places = ["dir/l.txt:3: warning", "dir/l.txt:4: warning"];
    assert!(places.iter().all(|place| said.contains(place)), "{said}");
    assert!(said.contains("is no domain, and so are 2 other lines; it is left out"), "{said}");
    assert!(said.contains("is a public suffix") && said.contains("and so is another line"), "{said}");
    let none = std::collections::BTreeSet::new();
    let unasked = listed::unasked(&settings.lists, &none).remove(0).to_string();
    assert!(unasked.starts_with("dir/g.yaml:8:5: warning: no rule asks the list \"one\""), "{unasked}");
    assert_eq!(listed::unasked(&settings.lists, &std::collections::BTreeSet::from(["one"])), []);
}

#[test]
fn a_dump_marks_what_holds_without_a_word() {
    let of = |list: &str| {
        let (settings, _) = assemble(&format!("{SHORTEST}state: s\nlists:\n  - {{ name: one, {list} }}\n"));
        let lines = dump(&settings).into_iter();
        let line =
            lines.filter(|line| line.key == "lists[one].refresh").map(|line| (line.value, line.default));
        line.collect::<Vec<_>>()
    };
    let url = "url: \"https://a.example/\"";
    assert_eq!(of(url), [("6h".to_owned(), true)]);
    assert_eq!(of(&format!("{url}, refresh: 1h")), [("1h".to_owned(), false)]);
    assert_eq!(of("file: a.txt"), [("never".to_owned(), true)]);
}
