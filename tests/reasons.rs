//! What users behind the gateway read when a message does not arrive, on real Prosody, ejabberd and jabberd2; and that what
//! does not arrive costs nobody else anything.
//!
//! DB-62, DB-66, DB-68 to DB-70: the back-end is believed at once; each stanza that cannot be delivered comes back by itself,
//! with the true condition and a text in plain words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use support::ca::{Authority, Usage};
use support::client::Client;
use support::prosody;
use support::release::Release;
use support::scene::{Cast, Peer, Scene, Wishes};
use support::server::{Legacy, Place, Proof, Remote, Server, Tls};
use support::world::Host;

/// A server that never heard of TLS: a header, features without it, and nothing more.
fn without_tls(host: &Host, last: u8) {
    let address = SocketAddr::from((Scene::outside(last), 5269));
    let listener = host.within(move || TcpListener::bind(address)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut heard = [0; 1024];
            let _ = stream.read(&mut heard);
            let _ = stream.write_all(
                b"<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
                  xmlns:stream='http://etherx.jabber.org/streams' id='x' from='plain.example' version='1.0'>\
                  <stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
            );
            let _ = stream.read(&mut heard);
        }
    });
}

const ZONES: &[(&str, u8)] =
    &[("refused.example", 60), ("plain.example", 61), ("banned.example", 60), ("denied.example", 60)];

const POLICY: &str = r#"version: v1
rules:
  - { name: family, domains: [friend.example, refused.example, plain.example, nowhere.example, banned.example, "*.many.example"], verdict: allow }
  - { name: enemies, domains: [denied.example], verdict: deny }
"#;

/// Domain, the conditions that fit, and a word that the text must hold beside the domain.
const REASONS: &[(&str, &[&str], &str)] = &[
    ("nowhere.example", &["remote-server-not-found"], "no such domain"),
    ("refused.example", &["remote-server-not-found", "remote-server-timeout"], "refused"),
    ("plain.example", &["remote-server-not-found", "remote-server-timeout", "policy-violation"], "TLS"),
    ("denied.example", &["forbidden", "not-allowed", "policy-violation"], "enemies"),
    ("stranger.example", &["forbidden", "not-allowed", "policy-violation"], "not-listed"),
];

fn reasons(legacy: Legacy) {
    let friend = Peer { program: Remote::Prosody, proof: Proof::External, domain: "friend.example" };
    let cast = Cast { remotes: &[friend], legacy, usage: Usage::Both, policy: POLICY };
    let mut scene = Scene::start_with(&cast, &Wishes { zones: ZONES, ..Wishes::default() });
    // A host without a server, and one with a server that has no TLS.
    let _closed = scene.outsider(60);
    without_tls(&scene.outsider(61), 61);
    let (mut inside, mut outside) = (scene.legacy.login(), scene.remotes[0].login());
    // All at once, with mail for a healthy server around each.
    let mut asked = Vec::new();
    let mut good = Vec::new();
    for (domain, ..) in REASONS {
        asked.push(inside.message(&format!("x@{domain}"), "is anybody there?"));
        good.push(inside.message(outside.jid(), "good day"));
    }
    for id in &good {
        outside.expect_message(inside.jid(), id);
    }
    let mut wrong = Vec::new();
    for ((domain, conditions, word), id) in REASONS.iter().zip(&asked) {
        let (condition, text) = inside.told(id);
        if !conditions.contains(&condition.as_str()) || !text.contains(word) || !text.contains(domain) {
            wrong.push(format!("{domain}: {condition}, {text:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn users_of_ejabberd_read_why_a_message_did_not_arrive() {
    reasons(Legacy::Ejabberd);
}

#[test]
fn users_of_ejabberd_24_read_why_a_message_did_not_arrive() {
    reasons(Legacy::Ejabberd24);
}

#[test]
fn users_of_jabberd2_read_why_a_message_did_not_arrive() {
    reasons(Legacy::Jabberd2);
}

#[test]
fn users_of_prosody_read_why_a_message_did_not_arrive() {
    reasons(Legacy::Prosody);
}

#[test]
fn users_of_prosody_13_read_why_a_message_did_not_arrive() {
    reasons(Legacy::Prosody13);
}

/// So many good domains at one server, and the users that wait there.
fn many(scene: &mut Scene, count: usize) -> (Server, Vec<Client>) {
    let domains: Vec<String> = (0..count).map(|n| format!("d{n}.many.example")).collect();
    let host = scene.outsider(70);
    let authority = Authority::new("An authority that nobody knows");
    let (leaf, roots) = (
        authority.leaf("many.example", Usage::Both, host.directory()),
        authority.write_root(host.directory()),
    );
    let place = Place { host: &host, address: Scene::outside(70), domain: "many.example", user: "guest" };
    let tls = Tls { leaf: &leaf, roots: &roots.to_string_lossy(), proof: Proof::Dialback };
    let server = Server::new(&place, prosody::remote_of_many(Release::Bookworm, &place, &tls, &domains));
    let users = domains.iter().map(|domain| server.login_to("guest", domain)).collect();
    (server, users)
}

/// All domains at once, the bad ones at the beginning, in the middle and at the end.
fn at_once(legacy: Legacy, count: usize) {
    let names: Vec<String> = (0..count).map(|n| format!("d{n}.many.example")).collect();
    let mut zones: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 70)).collect();
    zones.extend(ZONES);
    let cast = Cast { remotes: &[], legacy, usage: Usage::Both, policy: POLICY };
    let mut scene = Scene::start_with(&cast, &Wishes { zones: &zones, ..Wishes::default() });
    let _closed = scene.outsider(60);
    let (_server, mut users) = many(&mut scene, count);
    let mut inside = scene.legacy.login();
    let bad = [(0, "nowhere.example"), (count / 2, "denied.example"), (count - 1, "refused.example")];
    let (mut sent, mut refused) = (Vec::new(), Vec::new());
    for n in 0..count {
        if let Some((_, domain)) = bad.iter().find(|(at, _)| *at == n) {
            refused.push((*domain, inside.message(&format!("x@{domain}"), "is anybody there?")));
        }
        sent.push(inside.message(users[n].jid(), "good day"));
    }
    for (user, id) in users.iter_mut().zip(&sent) {
        user.expect_message(inside.jid(), id);
    }
    for (domain, id) in refused {
        let (condition, text) = inside.told(&id);
        assert!(text.contains(domain), "{domain}: {condition}, {text:?}");
    }
}

#[test]
fn jabberd2_as_shipped_reaches_thirty_domains_at_once_with_bad_ones_among_them() {
    at_once(Legacy::Jabberd2, 30);
}

#[test]
fn jabberd2_as_shipped_reaches_two_hundred_domains_at_once() {
    at_once(Legacy::Jabberd2, 200);
}
