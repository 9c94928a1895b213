//! Clients over WebSocket through the gateway to a real Prosody: strophe.js and xmpp.js under node, converse.js in Chromium.
//! `tests/run` installs them under `target/web`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::ca::Usage;
use support::programs::{Desk, GATE, jid};
use support::repository;
use support::scene::{Cast, HOSTED, Scene, Wishes};
use support::server::{Legacy, PASSWORD, SECOND};

fn scene(legacy: Legacy) -> (Scene, Desk) {
    let cast = Cast { remotes: &[], legacy, usage: Usage::Server, policy: "version: v1\n" };
    let mut scene = Scene::start_with(&cast, &Wishes::default());
    let desk = Desk { host: scene.outsider(30), roots: scene.gateway.roots() };
    (scene, desk)
}

/// Runs a program that writes these words to a friend, who answers each; what it reports.
fn talk(
    scene: &Scene,
    desk: &Desk,
    program: &str,
    arguments: &[&str],
    words: &[String],
) -> serde_json::Value {
    let mut friend = scene.legacy.login();
    let roots = desk.roots.to_string_lossy();
    let home = desk.host.directory().to_string_lossy().into_owned();
    let environment = [("NODE_EXTRA_CA_CERTS", &*roots), ("HOME", &home)];
    let mut process = desk.host.spawn("web", program, arguments, &environment);
    for word in words {
        let heard = friend.expect_within(&format!("{word:?}"), Duration::from_secs(100), |e| {
            e.name == "message" && e.child("body").is_some_and(|body| body.text == *word)
        });
        friend.message(heard.attribute("from").unwrap(), &format!("back: {word}"));
    }
    let status = process.ended(Duration::from_secs(120));
    let log = process.log();
    let result = log.lines().find_map(|line| line.strip_prefix("RESULT "));
    assert!(
        status.success() && result.is_some(),
        "{program} {arguments:?}: {status}; it said:\n{}",
        process.tail()
    );
    serde_json::from_str(result.unwrap()).unwrap()
}

fn by_node(scene: &Scene, desk: &Desk, library: &str, port: u16, words: &[String]) -> serde_json::Value {
    let (script, modules) =
        (repository("tests/support/clients/web.mjs"), repository("target/web/node_modules"));
    assert!(modules.exists(), "{} is missing: tests/run makes it", modules.display());
    let (script, modules) = (script.to_string_lossy(), modules.to_string_lossy());
    let (address, from, to) = (format!("wss://{HOSTED}:{port}/xmpp-websocket"), jid(SECOND), jid("warden"));
    let arguments = [&*script, &*modules, library, &address, &from, PASSWORD, &to, &words[0]];
    talk(scene, desk, "/usr/bin/env", &[&["node"], &arguments[..]].concat(), words)
}

fn said(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

// WS-01 to WS-04, SM-05: login, a message each way, and an orderly end; xmpp.js loses its connection in between and resumes.
#[test]
fn strophe_and_xmpp_js_log_in_talk_and_come_back() {
    let (scene, desk) = scene(Legacy::Prosody);
    let report = by_node(&scene, &desk, "strophe", 5443, &said(&["by strophe <&>"]));
    assert!(report["jid"].as_str().unwrap().starts_with(&jid(SECOND)), "{report}");
    let report = by_node(&scene, &desk, "xmppjs", 5443, &said(&["by xmpp.js", "by xmpp.js again"]));
    assert!(report["from"].as_str().unwrap().starts_with(&jid("warden")), "{report}");
    // The same on the one port for everybody.
    by_node(&scene, &desk, "strophe", 8443, &said(&["on one port"]));
    let opened = scene
        .gateway
        .metric("gatehouse_connections_total", &[("listener", "websocket"), ("outcome", "allow")]);
    assert!(opened >= 3.0, "{}", scene.gateway.family("gatehouse_connections"));
    assert!(!scene.gateway.log().contains("panicked"));
}

// XEP-0198 5 with a page that is loaded anew: the session is the same, and nothing is lost.
#[test]
fn converse_js_in_a_browser_logs_in_talks_and_resumes_when_the_page_is_loaded_anew() {
    let (scene, desk) = scene(Legacy::Prosody13);
    let (python, script) =
        (repository("target/clients/bin/python"), repository("tests/support/clients/converse.py"));
    let dist = repository("target/web/node_modules/converse.js/dist");
    assert!(dist.exists(), "{} is missing: tests/run makes it", dist.display());
    let (python, script, dist) = (python.to_string_lossy(), script.to_string_lossy(), dist.to_string_lossy());
    let (gate, address) = (GATE.to_string(), format!("wss://{HOSTED}:5443/xmpp-websocket"));
    let words = said(&["by converse", "by converse again"]);
    let arguments = [&*script, &*dist, &gate, &address, &jid(SECOND), PASSWORD, &jid("warden"), &words[0]];
    let report = talk(&scene, &desk, &python, &arguments, &words);
    assert_eq!(report["resumed"], true, "{report}");
    assert!(!scene.gateway.log().contains("panicked"));
}
