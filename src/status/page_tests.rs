use super::super::{Backend, List, Pair, Peer, Quarantined, Rule, Shadow, ShadowChange};
use super::*;
use crate::run::refusals::RefusalRecord;

fn snapshot() -> Snapshot {
    let evil = "<script>alert('x')</script>\"&";
    Snapshot {
        version: "0.1.0".to_owned(),
        phase: "running".to_owned(),
        policy: "0123456789abcdef".to_owned(),
        alarms: vec![format!("backend {evil} is down")],
        backends: vec![Backend {
            domain: "hall.example".to_owned(),
            state: "up".to_owned(),
            ..Backend::default()
        }],
        pairs: vec![Pair { from: evil.to_owned(), to: "hall.example".to_owned(), ..Pair::default() }],
        all_pairs: 10_000,
        page: 2,
        pages: 100,
        refusals: vec![RefusalRecord {
            from: Some(evil.to_owned()),
            detail: Some(evil.to_owned()),
            ..RefusalRecord::default()
        }],
        rules: vec![Rule {
            name: "partners".to_owned(),
            expires: Some("2026-01-01".to_owned()),
            expired: true,
            ..Rule::default()
        }],
        peers: vec![Peer {
            after: evil.to_owned(),
            at: "2026-01-01T00:00:00Z".to_owned(),
            ..Peer::default()
        }],
        lists: vec![List { name: "spammers".to_owned(), note: Some(evil.to_owned()), ..List::default() }],
        quarantine: vec![Quarantined { domain: evil.to_owned(), ..Quarantined::default() }],
        shadow: Some(Shadow {
            changes: vec![ShadowChange { from: evil.to_owned(), ..ShadowChange::default() }],
            ..Shadow::default()
        }),
        ..Snapshot::default()
    }
}

// Everything that comes from outside is text, wherever it stands.
#[test]
fn nothing_that_a_peer_has_said_becomes_markup() {
    let page = write(&snapshot());
    assert!(!page.contains("<script") && !page.contains("alert('x')"), "{page}");
    assert_eq!(
        page.matches("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;").count(),
        8,
        "{page}"
    );
}

// Headings, names of tables and columns, a way past the navigation: what a reader without eyes or mouse needs.
#[test]
fn the_page_says_what_its_parts_are() {
    let page = write(&snapshot());
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    assert_eq!(
        (page.matches("<h1").count(), page.matches("<main").count(), page.matches("<title>").count()),
        (1, 1, 1)
    );
    for (id, _) in SECTIONS {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")), "{id}");
        assert!(page.contains(&format!("<section aria-labelledby=\"{id}\">")), "{id}");
    }
    assert_eq!(page.matches("<table ").count(), page.matches("<caption>").count());
    assert_eq!(page.matches("<table ").count(), page.matches("tabindex=\"0\"").count());
    assert!(page.contains("<a class=\"skip\" href=\"#main\">"));
    assert!(page.contains("href=\"?page=1#federation\"") && page.contains("href=\"?page=3#federation\""));
    assert!(page.contains("2026-01-01 (expired)"), "not by colour alone");
    // Every element that is opened is closed, in order.
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1).map(|part| part.split('>').next().unwrap_or_default()) {
        let name = tag.split_whitespace().next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{page}"),
            None if name == "meta" || name.starts_with('!') => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let page = write(&snapshot());
    for word in [
        "<script",
        "src=",
        "<link",
        "<img",
        "<form",
        "onclick",
        "onload",
        "javascript:",
        "style=",
        "http:",
        "https:",
    ] {
        let found = page.find(word).map(|at| page.get(at..at + 40));
        assert!(found.is_none(), "{word}: {found:?}");
    }
    let policy = content_security_policy();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'"));
}
