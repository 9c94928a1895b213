//! One stream both ways (XEP-0288, SM-08) with real servers: Prosody's `mod_s2s_bidi` of Debian 12 and 13, and ejabberd's of
//! Debian 13. Whoever calls first, one connection carries the talk, and each way has its word in counters, records and `streams`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::support::ca::{Authority, Usage};
use crate::support::client::Client;
use crate::support::release::Release;
use crate::support::scene::{Cast, HOSTED, Scene, Wishes};
use crate::support::server::{Legacy, Place, Proof, Remote, Server, Tls};
use crate::support::world::{Host, Net};
use crate::support::{ejabberd, prosody};

const FRIEND: &str = "friend.example";
const LAST: u8 = 30;

const POLICY: &str = "version: v1\ndefaults: { identity: [certificate, dialback] }\nrules:\n  \
    - { name: family, domains: [friend.example], verdict: allow }\n";

fn scene(gateway: &str) -> Scene {
    let cast = Cast { remotes: &[], legacy: Legacy::Prosody, usage: Usage::Both, policy: POLICY };
    Scene::start_with(&cast, &Wishes { zones: &[(FRIEND, LAST)], gateway, ..Wishes::default() })
}

/// A server of `friend.example` that takes part, if it is to.
fn friend(scene: &mut Scene, program: Remote, proof: Proof, takes_part: bool) -> Server {
    let words: &[(&str, &str)] = match (program.is_ejabberd(), takes_part) {
        (_, false) => &[],
        (true, true) => &[("  mod_ping: {}", "  mod_ping: {}\n  mod_s2s_bidi: {}")],
        (false, true) => &[("\"offline\",", "\"offline\", \"s2s_bidi\",")],
    };
    friend_with(scene, program, proof, words)
}

/// The same, with words of its file replaced.
fn friend_with(scene: &mut Scene, program: Remote, proof: Proof, words: &[(&str, &str)]) -> Server {
    friend_at(&scene.outsider(LAST), scene, program, proof, words)
}

/// The same on this host.
fn friend_at(host: &Host, scene: &Scene, program: Remote, proof: Proof, words: &[(&str, &str)]) -> Server {
    let unknown = Authority::new("An authority that nobody knows");
    let authority = if proof == Proof::Dialback { &unknown } else { &scene.authority };
    let leaf = authority.leaf(FRIEND, Usage::Both, host.directory());
    let roots = authority.write_root(host.directory());
    let place = Place { host, address: Scene::outside(LAST), domain: FRIEND, user: "guest" };
    let tls = Tls { leaf: &leaf, roots: &roots.to_string_lossy(), proof };
    let release = match program {
        Remote::Ejabberd | Remote::Prosody => Release::Bookworm,
        Remote::Ejabberd24 | Remote::Prosody13 => Release::Trixie,
    };
    let processes = match program.is_ejabberd() {
        true => ejabberd::remote_with(release, &place, &tls, words),
        false => prosody::remote_with(release, &place, &tls, words),
    };
    Server::new(&place, processes)
}

/// A few words each way, and a question that is answered.
fn talk(first: &mut Client, second: &mut Client) {
    for _ in 0..3 {
        let id = first.message(second.jid(), "good day");
        second.expect_message(first.jid(), &id);
        let id = second.message(first.jid(), "and to you");
        first.expect_message(second.jid(), &id);
    }
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let id = first.request("get", Some(second.jid()), ping);
    second.answer(first.jid(), "urn:xmpp:ping", "");
    first.result(&id, ping);
}

fn back(scene: &Scene, flow: &str) -> f64 {
    scene.gateway.metric("gatehouse_bidi_stanzas_total", &[("flow", flow)])
}

/// Connections of servers that have come to the gateway.
fn came(scene: &Scene) -> f64 {
    ["s2s-starttls", "s2s-direct"]
        .map(|listener| scene.gateway.metric("gatehouse_connections_total", &[("listener", listener)]))
        .iter()
        .sum()
}

/// By the records of the drained gateway: both pairs passed stanzas.
fn recorded(scene: &mut Scene, methods: [&str; 2]) {
    let records = scene.gateway.drain();
    let pairs = [("s2s-in", format!("{FRIEND}>{HOSTED}")), ("s2s-out", format!("{HOSTED}>{FRIEND}"))];
    for ((flow, pair), method) in pairs.iter().zip(methods) {
        let found = records
            .iter()
            .find(|r| r["flow"] == *flow && r["pair"] == **pair && r["stanzas"].as_u64() >= Some(3));
        let found = found.unwrap_or_else(|| panic!("{flow} {pair}: {records:#?}"));
        assert_eq!(found["proof"], *method, "{found:#}");
        assert_eq!(found["tls"], "1.3", "{found:#}");
        // What began it tells as much: of whom it is, and over what it comes or goes.
        let begun =
            records.iter().find(|r| r["event"] == "admitted" && r["flow"] == *flow && r["pair"] == **pair);
        let begun = begun.unwrap_or_else(|| panic!("{flow} {pair}: {records:#?}"));
        let address = begun["peer"].as_str().unwrap_or_default();
        assert!(begun["tls"] == "1.3" && address.starts_with(&Scene::outside(LAST).to_string()), "{begun:#}");
        assert!(begun["fingerprint"].is_string(), "{begun:#}");
    }
}

/// The peer calls first, and the answers go back on its own stream.
fn called(program: Remote, proof: Proof) {
    let mut scene = scene("");
    let server = friend(&mut scene, program, proof, true);
    let (mut outside, mut inside) = (server.login(), scene.legacy.login());
    talk(&mut outside, &mut inside);
    assert!(back(&scene, "s2s-out") >= 3.0, "{}", scene.gateway.family("gatehouse_bidi"));
    let (code, streams) = scene.gateway.command("streams", &["streams"]);
    assert_eq!(code, Some(0), "{streams}");
    assert!(streams.contains(&format!("{HOSTED} > {FRIEND}  back")), "{streams}");
    // It was called by us at most for a question about its key.
    let handshakes = scene.gateway.metric("gatehouse_authentications_total", &[("flow", "s2s-out")]);
    assert_eq!(handshakes, 0.0, "{}", scene.gateway.family("gatehouse_authentications_total"));
    let method = if proof == Proof::Dialback { "dialback" } else { "certificate" };
    drop((outside, inside));
    recorded(&mut scene, [method, "certificate"]);
}

/// We call first, and the answers come back on our stream.
fn calling(program: Remote) {
    let mut scene = scene("");
    let server = friend(&mut scene, program, Proof::External, true);
    let (mut outside, mut inside) = (server.login(), scene.legacy.login());
    talk(&mut inside, &mut outside);
    assert!(back(&scene, "s2s-in") >= 3.0, "{}", scene.gateway.family("gatehouse_bidi"));
    assert_eq!(came(&scene), 0.0, "{}", scene.gateway.family("gatehouse_connections_total"));
    let (code, streams) = scene.gateway.command("streams", &["streams"]);
    assert_eq!(code, Some(0), "{streams}");
    assert!(streams.contains(&format!("{FRIEND} > {HOSTED}  back")), "{streams}");
    drop((outside, inside));
    recorded(&mut scene, ["certificate", "certificate"]);
}

#[test]
fn prosody_0_12_calls_by_certificate_and_is_answered_on_its_stream() {
    called(Remote::Prosody, Proof::External);
}

#[test]
fn prosody_0_12_calls_by_dialback_and_is_answered_on_its_stream() {
    called(Remote::Prosody, Proof::Dialback);
}

#[test]
fn prosody_13_calls_by_certificate_and_is_answered_on_its_stream() {
    called(Remote::Prosody13, Proof::External);
}

#[test]
fn ejabberd_24_calls_by_certificate_and_is_answered_on_its_stream() {
    called(Remote::Ejabberd24, Proof::External);
}

#[test]
fn prosody_0_12_is_called_and_answers_on_our_stream() {
    calling(Remote::Prosody);
}

#[test]
fn prosody_13_is_called_and_answers_on_our_stream() {
    calling(Remote::Prosody13);
}

#[test]
fn ejabberd_24_is_called_and_answers_on_our_stream() {
    calling(Remote::Ejabberd24);
}

// Whoever is not proven by his channel comes on a stream of his own, and is asked back (SM-08).
#[test]
fn a_server_without_a_certificate_that_counts_is_not_asked() {
    let mut scene = scene("");
    let server = friend(&mut scene, Remote::Prosody, Proof::Dialback, true);
    let (mut outside, mut inside) = (server.login(), scene.legacy.login());
    talk(&mut inside, &mut outside);
    assert_eq!(back(&scene, "s2s-in"), 0.0);
    assert!(came(&scene) > 0.0);
}

// `bidi: off`, or a peer that takes no part: each way has a stream of its own, as ever.
#[test]
fn where_either_side_takes_no_part_each_way_has_a_stream() {
    for (gateway, takes_part) in [("bidi: off\n", true), ("", false)] {
        let mut scene = scene(gateway);
        let server = friend(&mut scene, Remote::Prosody, Proof::External, takes_part);
        let (mut outside, mut inside) = (server.login(), scene.legacy.login());
        talk(&mut inside, &mut outside);
        assert_eq!(back(&scene, "s2s-in") + back(&scene, "s2s-out"), 0.0);
        assert!(came(&scene) >= 1.0);
    }
}

// CLS-02: the stream that carried the answers breaks; what is written then arrives over a stream of our own, or its sender is told.
#[test]
fn what_waits_for_a_broken_way_back_goes_on_or_comes_back() {
    let mut scene = scene("");
    let server = friend(&mut scene, Remote::Prosody, Proof::External, true);
    let (mut outside, mut inside) = (server.login(), scene.legacy.login());
    talk(&mut outside, &mut inside);
    assert!(back(&scene, "s2s-out") >= 3.0);
    let (_, closed) = scene.gateway.command("close", &["close", FRIEND]);
    assert!(closed.contains("closed "), "{closed}");
    // Some of these find the stream in its end, and go on over one of ours, in their order.
    let ids: Vec<_> = (0..40).map(|n| inside.message(outside.jid(), &format!("number {n}"))).collect();
    for id in &ids {
        outside.expect_message(inside.jid(), id);
    }
    drop((outside, server));
    let id = inside.message("guest@friend.example/gone", "are you there?");
    let (condition, text) = inside.told(&id);
    assert!(condition.starts_with("remote-server-"), "{condition}: {text}");
}

/// A Prosody that takes part, counts, and has what it sends counted.
const COUNTS: [(&str, &str); 2] = [
    ("\"offline\",", "\"offline\", \"s2s_bidi\", \"smacks\","),
    ("storage = ", "smacks_enabled_s2s = true\nsmacks_max_unacked_stanzas = 1\nstorage = "),
];

// SM-01, SM-08, CLS-02: what went back over a counted stream is kept until the peer has acknowledged it. Where the line breaks before that, each
// stanza comes back to its sender, once, and none of those that were acknowledged does.
#[test]
fn what_went_back_over_a_line_that_breaks_comes_back_once() {
    for program in [Remote::Prosody, Remote::Prosody13] {
        let mut scene = scene("timeouts: { acknowledgement: 5s, resume: 10s }\n");
        let host = scene.outsider(LAST);
        let server = friend_at(&host, &scene, program, Proof::External, &COUNTS);
        let (mut outside, mut inside) = (server.login(), scene.legacy.login());
        talk(&mut outside, &mut inside);
        talk(&mut outside, &mut inside);
        assert!(back(&scene, "s2s-out") >= 6.0, "{}", scene.gateway.family("gatehouse_bidi"));
        host.plug(Net::World, false);
        let ids: Vec<_> =
            (0..20).map(|n| inside.message(outside.jid(), &format!("into the gap {n}"))).collect();
        for id in &ids {
            let (condition, text) = inside.told(id);
            assert!(condition.starts_with("remote-server-"), "{condition}: {text}");
        }
        host.plug(Net::World, true);
        let id = inside.message(outside.jid(), "and now?");
        outside.expect_message(inside.jid(), &id);
        // What the system still held when the line was given up may arrive late; nothing does twice.
        let came = outside.so_far();
        let times = |id: &String| came.iter().filter(|e| e.has("id", id)).count();
        assert!(ids.iter().all(|id| times(id) <= 1), "{came:?}");
        let labels = [("flow", "s2s-in"), ("outcome", "returned")];
        assert_eq!(scene.gateway.metric("gatehouse_stream_management_total", &labels), 20.0, "{program:?}");
    }
}

// SM-01, SM-08: a server that counts what it takes is told how much of its own was taken on the same stream.
#[test]
fn a_stream_that_is_counted_goes_both_ways() {
    let words = COUNTS;
    for program in [Remote::Prosody, Remote::Prosody13] {
        for we_call in [true, false] {
            let mut scene = scene("");
            let server = friend_with(&mut scene, program, Proof::External, &words);
            let (mut outside, mut inside) = (server.login(), scene.legacy.login());
            let (first, second, flow) = match we_call {
                true => (&mut inside, &mut outside, "s2s-in"),
                false => (&mut outside, &mut inside, "s2s-out"),
            };
            talk(first, second);
            talk(first, second);
            assert!(back(&scene, flow) >= 6.0, "{}", scene.gateway.family("gatehouse_bidi"));
            let log = server.log();
            assert!(!log.contains("ack count") && !log.contains("stream error"), "{program:?}: {log}");
        }
    }
}
