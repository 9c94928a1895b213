//! Clients over WebSocket through the gateway to real servers: strophe.js and xmpp.js under node, converse.js in Chromium.
//! `tests/run` installs them under `target/web`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::support;
use std::time::Duration;

use crate::support::ca::Usage;
use crate::support::client::Client;
use crate::support::programs::{Desk, GATE, jid, label};
use crate::support::repository;
use crate::support::scene::{Cast, HOSTED, Scene, Wishes};
use crate::support::server::{Legacy, PASSWORD, SECOND};

/// The listener of WebSocket alone, and the one port for everybody.
const PORTS: [(u16, &str); 2] = [(5443, "websocket"), (8443, "mixed")];

fn scene(legacy: Legacy) -> (Scene, Desk) {
    let cast = Cast { remotes: &[], legacy, usage: Usage::Server, policy: "version: v1\n" };
    let mut scene = Scene::start_with(&cast, &Wishes::default());
    let desk = Desk { host: scene.outsider(30), roots: scene.gateway.roots() };
    // The DNS of a scene has only what servers ask for.
    desk.host.knows(HOSTED, GATE);
    (scene, desk)
}

fn is_message(element: &support::client::Element, body: &str) -> bool {
    element.name == "message" && element.child("body").is_some_and(|found| found.text == body)
}

/// Runs a program that writes these words to a friend, who answers each; what it reports. Each word arrives once. The friend stays:
/// jabberd2 now and then has an `internal-server-error` for who logs in again right after leaving.
fn talk(
    with: &mut Option<Client>,
    desk: &Desk,
    (program, arguments): (&str, &[&str]),
    environment: &[(&str, &str)],
    words: &[String],
) -> serde_json::Value {
    let mut friend = with.take().unwrap();
    let roots = desk.roots.to_string_lossy();
    let environment = [&[("NODE_EXTRA_CA_CERTS", &*roots)], environment].concat();
    let mut process = desk.host.spawn(&label("web"), program, arguments, &environment);
    let expected = words.to_vec();
    let answers = std::thread::spawn(move || -> Client {
        for word in expected {
            let heard = friend
                .expect_within(&format!("{word:?}"), Duration::from_secs(100), |e| is_message(e, &word));
            friend.message(heard.attribute("from").unwrap(), &format!("back: {word}"));
        }
        friend
    });
    // A program that gives up is not waited for by its friend.
    let status = process.ended(Duration::from_secs(150));
    let log = process.log();
    let result = log.lines().find_map(|line| line.strip_prefix("RESULT "));
    assert!(
        status.success() && result.is_some(),
        "{program} {arguments:?}: {status}; it said:\n{}",
        process.tail()
    );
    let twice = with.insert(answers.join().unwrap()).so_far();
    assert!(!twice.iter().any(|e| words.iter().any(|word| is_message(e, word))), "twice: {twice:?}");
    serde_json::from_str(result.unwrap()).unwrap()
}

/// Runs one of the libraries under node.
fn by_node(
    with: &mut Option<Client>,
    desk: &Desk,
    library: &str,
    port: u16,
    words: &[String],
) -> serde_json::Value {
    let (node, script) = (repository("target/web/bin/node"), repository("tests/support/clients/web.mjs"));
    let modules = repository("target/web/node_modules");
    assert!(node.exists() && modules.exists(), "target/web is missing: tests/run makes it");
    let (node, script, modules) =
        (node.to_string_lossy(), script.to_string_lossy(), modules.to_string_lossy());
    let (address, from, to) = (format!("wss://{HOSTED}:{port}/xmpp-websocket"), jid(SECOND), jid("warden"));
    let mut arguments = vec![&*script, &*modules, library, &address, &from, PASSWORD, &to];
    arguments.extend(words.iter().map(String::as_str));
    // Where several protocols share a port a client says which it speaks, as browsers do everywhere; `ws` does so when told.
    let alpn: &[_] = if port == 5443 { &[] } else { &[("WEB_ALPN", "http/1.1")] };
    let report = talk(with, desk, (&node, &arguments), alpn, words);
    let back: Vec<String> = words.iter().map(|word| format!("back: {word}")).collect();
    assert_eq!(report["heard"], serde_json::json!(back), "{report}");
    assert!(report["jid"].as_str().unwrap().starts_with(&jid(SECOND)), "{report}");
    report
}

/// Who came in by which listener.
fn came(scene: &Scene, listener: &str) -> f64 {
    let labels = [("listener", listener), ("outcome", "allow")];
    scene.gateway.metric("gatehouse_connections_total", &labels)
}

fn said(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Login, a message each way, and an orderly end; what was cut in between goes on where it was.
fn by_libraries(legacy: Legacy, cut: bool) {
    let (scene, desk) = scene(legacy);
    let mut friend = Some(scene.legacy.login());
    for (port, listener) in PORTS {
        let before = came(&scene, listener);
        by_node(&mut friend, &desk, "strophe", port, &said(&["by strophe.js <&>"]));
        let words = ["by xmpp.js", "cut behind it", "behind the cut"];
        by_node(&mut friend, &desk, "xmppjs", port, &said(if cut { &words } else { &words[..1] }));
        let connections = if cut { 3.0 } else { 2.0 };
        let now = came(&scene, listener);
        assert!(now >= before + connections, "{listener}: {}", scene.gateway.family("gatehouse_connections"));
    }
    assert!(!scene.gateway.log().contains("panicked"));
}

// WS-01 to WS-04, SM-05, XEP-0198 5.
#[test]
fn strophe_and_xmpp_js_log_in_to_prosody_talk_and_come_back() {
    by_libraries(Legacy::Prosody, true);
}

#[test]
fn strophe_and_xmpp_js_log_in_to_ejabberd_talk_and_come_back() {
    by_libraries(Legacy::Ejabberd24, true);
}

// It has no sessions to come back to.
#[test]
fn strophe_and_xmpp_js_log_in_to_jabberd2_and_talk() {
    by_libraries(Legacy::Jabberd2Of13, false);
}

// XEP-0198 5 with a page that is loaded anew: the session is the same, and what was said right before has gone out once.
#[test]
fn converse_js_in_a_browser_logs_in_talks_and_resumes_when_the_page_is_loaded_anew() {
    let (scene, desk) = scene(Legacy::Prosody13);
    let (python, script) =
        (repository("target/clients/bin/python"), repository("tests/support/clients/converse.py"));
    let dist = repository("target/web/node_modules/converse.js/dist");
    assert!(dist.exists(), "{} is missing: tests/run makes it", dist.display());
    let (python, script, dist) = (python.to_string_lossy(), script.to_string_lossy(), dist.to_string_lossy());
    let (gate, from, to) = (GATE.to_string(), jid(SECOND), jid("warden"));
    let mut friend = Some(scene.legacy.login());
    for (port, listener) in PORTS {
        let before = came(&scene, listener);
        let address = format!("wss://{HOSTED}:{port}/xmpp-websocket");
        let words = said(&["by converse.js", "by converse.js while it loads", "by converse.js again"]);
        let arguments =
            [&*script, &*dist, &gate, &address, &from, PASSWORD, &to, &words[0], &words[1], &words[2]];
        let report = talk(&mut friend, &desk, (&python, &arguments), &[], &words);
        assert_eq!(report["resumed"], true, "{report}");
        assert!(came(&scene, listener) >= before + 2.0, "{}", scene.gateway.family("gatehouse_connections"));
    }
    assert!(!scene.gateway.log().contains("panicked"));
}
