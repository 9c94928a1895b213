//! Patches, with real servers: what a server behind the gateway cannot bear is kept away, or loses the part that hurts, between
//! servers and on the streams of clients, whether these count their stanzas (XEP-0198) or not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::support;
use std::fs;

use crate::support::ca::Usage;
use crate::support::raw::Raw;
use crate::support::scene::{Cast, Peer, Scene, Wishes};
use crate::support::server::{Legacy, Proof, Remote, SECOND};

const FRIEND: &str = "friend.example";
const POLICY: &str = "version: v1\nrules:\n  - { name: friends, domains: [friend.example] }\n";

const PATCHES: &str = r#"version: v1
patches:
  - name: wide-form
    reason: a form with many fields stops the server
    reference: EX-1
    owner: infra
    action: deny
    direction: inbound
    payload: "jabber:x:data"
    when: [{ element: field, depth: 2, count: 3 }]
  - { name: heavy, reason: nobody reads it, action: cut, payload: "urn:example:heavy", when: [{ attribute: size, value: big }] }
  - { name: watched, reason: to learn, action: deny, mode: shadow, payload: "urn:example:watched" }
  - { name: to-clients, reason: old clients stop, action: deny, direction: outbound, flows: [c2s], payload: "urn:example:new" }
expect:
  - { stanza: "<message><x xmlns='jabber:x:data'><field/><field/><field/></x></message>", verdict: deny, patch: wide-form }
  - { stanza: "<message><x xmlns='jabber:x:data'><field/><field/></x></message>", verdict: pass }
  - { stanza: "<message><h xmlns='urn:example:heavy' size='big'/></message>", flow: c2s, verdict: cut }
"#;

const FORM: &str =
    "<x xmlns='jabber:x:data' type='submit'><field var='a'/><field var='b'/><field var='c'/></x>";
const HEAVY: &str = "<h xmlns='urn:example:heavy' size='big'><deep/></h>";
const WATCHED: &str = "<w xmlns='urn:example:watched'/>";

fn scene(file: &std::path::Path) -> Scene {
    fs::write(file, PATCHES).unwrap();
    let peer = Peer { program: Remote::Prosody, proof: Proof::Either, domain: FRIEND };
    let gateway = format!("patches: [\"{}\"]\n", file.display());
    let cast = Cast { remotes: &[peer], legacy: Legacy::Prosody, usage: Usage::Both, policy: POLICY };
    Scene::start_with(&cast, &Wishes { gateway: &gateway, ..Wishes::default() })
}

fn hits(scene: &Scene, patch: &str, outcome: &str) -> f64 {
    scene.gateway.metric("gatehouse_patch_hits_total", &[("patch", patch), ("outcome", outcome)])
}

fn message(to: &str, id: &str, payload: &str) -> String {
    format!("<message type='chat' to='{to}' id='{id}'><body>{id}</body>{payload}</message>")
}

// POL-12.
#[test]
fn patches_act_between_servers_and_follow_a_reload() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("patches.yaml");
    let scene = scene(&file);
    let (mut friend, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    let (ours, theirs) = (inside.jid().to_owned(), friend.jid().to_owned());

    friend.send(&message(&ours, "denied", FORM));
    let (condition, text) = friend.told("denied");
    assert_eq!(condition, "policy-violation");
    assert!(text.contains("(patched)") && !text.contains("wide-form"), "{text}");
    friend.send(&message(&ours, "cut", HEAVY));
    let arrived = inside.expect_message(&theirs, "cut");
    assert!(arrived.child("body").is_some() && arrived.child("h").is_none(), "{}", arrived.outline());
    friend.send(&message(&ours, "watched", WATCHED));
    assert!(inside.expect_message(&theirs, "watched").child("w").is_some(), "a shadow does nothing");

    // Who asks beforehand reads which patches look at such stanzas, and what becomes of a whole one.
    let question = ["policy", "explain", "--from", FRIEND, "--to", "hall.example"];
    let asked = |name: &str, more: &[&str]| scene.gateway.command(name, &[&question[..], more].concat());
    let (code, said) = asked("explain", &["--kind", "message"]);
    assert!(
        code == Some(0) && said.contains("wide-form at ") && said.contains("looks at such stanzas"),
        "{said}"
    );
    assert!(!said.contains("to-clients"), "that one is for the streams of clients: {said}");
    let shown = folder.path().join("stanza.xml");
    for (name, payload, expected, words) in [
        ("explain-form", FORM, 1, "(deny): meets this stanza: a form with many fields stops the server"),
        ("explain-heavy", HEAVY, 0, "(cut): meets this stanza: nobody reads it"),
        ("explain-watched", WATCHED, 0, "(deny, in shadow mode): meets this stanza: to learn"),
        ("explain-none", "", 0, "the stanza meets none"),
    ] {
        fs::write(&shown, message("j@hall.example", "x", payload)).unwrap();
        let (code, said) = asked(name, &["--stanza", shown.to_str().unwrap()]);
        assert!(code == Some(expected) && said.contains(words), "{code:?} {said}");
        assert_eq!(
            said.starts_with("deny: a patch keeps stanzas like this one away"),
            expected == 1,
            "{said}"
        );
    }
    fs::write(&shown, "<message><body>").unwrap();
    let (code, said) = asked("explain-broken", &["--stanza", shown.to_str().unwrap()]);
    assert!(code == Some(64) && said.contains("the stanza has no end"), "{code:?} {said}");
    friend.send(&message(&ours, "light", "<h xmlns='urn:example:heavy' size='small'/>"));
    assert!(inside.expect_message(&theirs, "light").child("h").is_some());
    assert!(!inside.has_received(|e| e.has("id", "denied")));
    // The other way the first one lets pass, and the second does not.
    inside.send(&message(&theirs, "out", &format!("{FORM}{HEAVY}")));
    let arrived = friend.expect_message(&ours, "out");
    assert!(arrived.child("x").is_some() && arrived.child("h").is_none(), "{}", arrived.outline());

    let counted = [("wide-form", "deny", 1.0), ("heavy", "cut", 2.0), ("watched", "shadow-deny", 1.0)];
    for (patch, outcome, count) in counted {
        assert_eq!(
            hits(&scene, patch, outcome),
            count,
            "{patch}: {}",
            scene.gateway.family("gatehouse_patch")
        );
    }
    let refused = [("flow", "s2s-in"), ("reason", "patched")];
    assert_eq!(scene.gateway.metric("gatehouse_stanzas_refused_total", &refused), 1.0);
    let log = scene.gateway.log();
    assert!(log.contains("rule=\"wide-form\"") && log.contains("patches.yaml:3"), "the log names the patch");

    // A case that fails keeps the old patches; what a reload would change is told, and then done.
    fs::write(&file, PATCHES.replace("count: 3", "count: 4")).unwrap();
    let (code, said) = scene.gateway.command("check", &["check"]);
    assert!(code == Some(78) && said.contains("expects deny (patch wide-form), but gets pass"), "{said}");
    let (_, rest) = PATCHES.split_once("  - { name: heavy").unwrap();
    let (rest, _) = rest.split_once("expect:").unwrap();
    fs::write(
        &file,
        format!("version: v1\npatches:\n  - {{ name: heavy{}", rest.replace("mode: shadow, ", "")),
    )
    .unwrap();
    let (code, said) = scene.gateway.command("plan", &["reload", "--plan"]);
    assert!(
        code == Some(0)
            && said.contains("patch wide-form: gone")
            && said.contains("patch watched: changed, deny"),
        "{said}"
    );
    assert!(!said.contains("patch heavy"), "{said}");
    assert_eq!(scene.gateway.command("reload", &["reload"]).0, Some(0));
    friend.send(&message(&ours, "no-longer", FORM));
    assert!(inside.expect_message(&theirs, "no-longer").child("x").is_some());
    friend.send(&message(&ours, "now", WATCHED));
    assert_eq!(friend.refusal("now"), "policy-violation");
    let name = file.display().to_string();
    let (code, said) = tested(&[&name]);
    assert!(code == Some(0) && said.contains("0 passed, 0 failed"), "{said}");
    fs::write(&file, PATCHES.replace("count: 3", "count: 4")).unwrap();
    let (code, said) = tested(&[&name]);
    assert!(
        code == Some(1) && said.contains("2 passed, 1 failed") && said.contains("patches.yaml:15"),
        "{said}"
    );
}

// The page for security teams: its files are taken, and their cases come out.
#[test]
fn the_files_of_the_page_pass() {
    let page = fs::read_to_string(support::repository("deploy/security.md")).unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    for (kind, cases) in [("egress", 3), ("lists", 4), ("patches", 2)] {
        let block = page.split(&format!("```yaml {kind}\n")).nth(1).unwrap().split("```").next().unwrap();
        let file = folder.path().join(kind);
        fs::write(&file, block).unwrap();
        let (code, said) = tested(&[&file.display().to_string()]);
        assert!(code == Some(0) && said.contains(&format!("{cases} passed, 0 failed")), "{kind}: {said}");
    }
}

/// `gatehouse policy test` knows a file of patches from one of rules.
fn tested(files: &[&str]) -> (Option<i32>, String) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .args(["policy", "test"])
        .args(files)
        .output()
        .unwrap();
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
}

// POL-12, SM-02: `deny` is answered on a stream without management and ends one that a client manages; `cut` keeps the stanza, so that
// both sides go on to count the same.
#[test]
fn patches_act_on_the_streams_of_clients() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut scene = scene(&folder.path().join("patches.yaml"));
    let host = scene.outsider(30);
    let roots = scene.gateway.roots();
    let mut other = scene.legacy.login_as(SECOND);
    let to = other.jid().to_owned();
    let mut raw = Raw::bound(&host, &roots, "warden", "tower");

    raw.say(&message(&to, "denied", FORM));
    let answer = raw.hear("</message>");
    assert!(
        answer.contains("denied") && answer.contains("policy-violation") && answer.contains("(patched)"),
        "{answer}"
    );
    raw.say(&message(&to, "cut", HEAVY));
    let arrived = other.expect_message("warden@hall.example/tower", "cut");
    assert!(arrived.child("body").is_some() && arrived.child("h").is_none(), "{}", arrived.outline());
    // Its server says what its client cannot bear.
    other.send(&message("warden@hall.example/tower", "new", "<n xmlns='urn:example:new'/>"));
    assert_eq!(other.refusal("new"), "policy-violation");

    raw.say("<enable xmlns='urn:xmpp:sm:3'/>");
    raw.hear("<enabled");
    raw.say(&message(&to, "counted", HEAVY));
    let arrived = other.expect_message("warden@hall.example/tower", "counted");
    assert!(arrived.child("h").is_none());
    raw.say("<r xmlns='urn:xmpp:sm:3'/>");
    let counted = raw.hear("<a ");
    let counted = if counted.contains("h=") { counted } else { counted + &raw.hear("/>") };
    assert!(counted.contains("h='1'") || counted.contains("h=\"1\""), "{counted}");
    raw.say(&message(&to, "ends", FORM));
    let (said, _) = raw.end();
    assert!(said.contains("<policy-violation") && said.contains("</stream:stream>"), "{said}");
    assert!(!other.has_received(|e| e.has("id", "denied") || e.has("id", "ends")));
    assert_eq!(hits(&scene, "wide-form", "deny"), 2.0);
    assert_eq!(hits(&scene, "to-clients", "deny"), 1.0);
}
