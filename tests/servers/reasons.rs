//! What users behind the gateway read when a message does not arrive, on real Prosody, ejabberd and jabberd2; and that what
//! does not arrive costs nobody else anything.
//!
//! DB-62, DB-66, DB-68 to DB-70: the back-end is believed at once; each stanza that cannot be delivered comes back by itself,
//! with the true condition and a text in plain words.
//!
//! `GATEHOUSE_RUNS` plays what is done at once as many times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // a test asks the environment how often

use crate::support;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::support::ca::Usage;
use crate::support::scene::{Cast, Peer, Scene, Wishes};
use crate::support::server::{Legacy, Place, Proof, Remote, Server, Tls};

const ZONES: &[(&str, u8)] = &[
    ("mailonly.example", 0),
    ("refused.example", 60),
    ("plain.example", 61),
    ("banned.example", 60),
    ("denied.example", 60),
    ("expired.example", 62),
];

const POLICY: &str = r#"version: v1
defaults: { identity: [certificate, dialback], tls: "1.2" }
rules:
  - { name: strict, domains: [expired.example], identity: [certificate], verdict: allow }
  - { name: family, domains: [friend.example, refused.example, plain.example, nowhere.example, mailonly.example, banned.example], verdict: allow }
  - { name: enemies, domains: [denied.example], verdict: deny }
"#;

/// Domain, condition, and how the text goes on behind the domain.
const REASONS: &[(&str, &str, &str)] = &[
    ("nowhere.example", "remote-server-not-found", "there is no such domain"),
    ("mailonly.example", "remote-server-not-found", "it has no XMPP server in the DNS"),
    ("refused.example", "remote-server-timeout", "its server refuses the connection, or nothing reaches it"),
    ("plain.example", "remote-server-timeout", "its server offers no TLS"),
    ("expired.example", "remote-server-timeout", "its certificate expired on 20"),
    ("banned.example", "forbidden", "an operator banned this address or domain"),
    ("denied.example", "forbidden", "a deny rule names this domain"),
    ("stranger.example", "forbidden", "no rule allows this domain"),
];

/// What is read of a stanza that is larger than the peer takes.
const OVERSIZE: &str = "the stanza is larger than the receiving server takes";

fn reasons(legacy: Legacy) {
    let friend = Peer { program: Remote::Prosody, proof: Proof::External, domain: "friend.example" };
    let cast = Cast { remotes: &[friend], legacy, usage: Usage::Both, policy: POLICY };
    let mut scene = Scene::start_with(&cast, &Wishes { zones: ZONES, ..Wishes::default() });
    // A host without a server, one with a server that has no TLS, and one whose certificate has expired.
    let _closed = scene.outsider(60);
    let host = scene.outsider(61);
    let place = Place { host: &host, address: Scene::outside(61), domain: "plain.example", user: "guest" };
    let _plain = Server::legacy(Legacy::Prosody, &place);
    let host = scene.outsider(62);
    let place = Place { host: &host, address: Scene::outside(62), domain: "expired.example", user: "guest" };
    let leaf = scene.authority.expired_leaf("expired.example", host.directory());
    let roots = scene.gateway.roots();
    let tls = Tls { leaf: &leaf, roots: &roots.to_string_lossy(), proof: Proof::Either };
    let _expired = Server::remote(Remote::Prosody, &place, &tls);
    let (code, said) = scene.gateway.command("ban", &["ban", "banned.example", "--for", "1h"]);
    assert_eq!(code, Some(0), "{said}");
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
    for ((domain, expected, words), id) in REASONS.iter().zip(&asked) {
        let (condition, text) = inside.told(id);
        if condition != *expected || !text.starts_with(&format!("{domain}: {words}")) {
            wrong.push(format!("{domain}: {condition}, {text:?}"));
        }
    }
    // What is larger than the peer takes; servers write six octets for each of these.
    inside.send(&format!(
        "<message type='chat' id='large' to='{}'><body>{}</body></message>",
        outside.jid(),
        "'".repeat(60_000)
    ));
    let (condition, text) = inside.told("large");
    if condition != "policy-violation" || !text.contains(OVERSIZE) {
        wrong.push(format!("over the size: {condition}, {text:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// deploy/README.md says what is read.
#[test]
fn the_page_about_servers_says_what_users_read() {
    let page = std::fs::read_to_string(support::repository("deploy/README.md")).unwrap();
    for (_, condition, words) in REASONS {
        let row = |line: &&str| line.contains(condition) && line.contains(words.trim_end_matches(" 20"));
        assert!(page.lines().any(|line| row(&line)), "deploy/README.md does not say {condition}, {words}");
    }
    assert!(page.lines().any(|line| line.contains("policy-violation") && line.contains(OVERSIZE)));
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

/// All domains at once, the bad ones at the beginning, in the middle and at the end; and each of the good ones answers. They
/// share one address, as a hoster's do, and all limits are as shipped (D10, L-conn). So many times, each with a gateway and a
/// server behind it that have just started and know nobody.
fn at_once(legacy: Legacy, count: usize, runs: usize, more: &str) {
    const SILENT: u8 = 63;
    // One server stands for all the domains: with several such crowds at once it does not answer in time, and they are refused as is right.
    static CROWD: Mutex<()> = Mutex::new(());
    let _alone = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<String> = (0..count).map(|n| format!("d{n}.example")).collect();
    let mut zones: Vec<(&str, u8)> =
        names.iter().map(|name| (name.as_str(), support::scene::HOSTER)).collect();
    zones.extend(ZONES);
    zones.push(("silent.example", SILENT));
    let policy = POLICY
        .replace("nowhere.example,", &format!("nowhere.example, silent.example, {},", names.join(", ")));
    let cast = Cast { remotes: &[], legacy, usage: Usage::Both, policy: &policy };
    let mut scene = Scene::start_with(&cast, &Wishes { zones: &zones, gateway: more, ..Wishes::default() });
    let silent = scene.outsider(SILENT);
    let silent = silent.within(|| TcpListener::bind((Scene::outside(SILENT), 5269))).unwrap();
    // It takes every connection, says nothing and reads nothing.
    thread::spawn(move || silent.incoming().collect::<Vec<_>>());
    let (_server, mut users) = scene.hoster(&names);
    for run in 0..runs {
        if run > 0 {
            scene.legacy.end();
            scene.gateway.kill();
            scene.gateway.again();
            scene.revive_legacy(legacy);
        }
        let mut inside = scene.legacy.login();
        let bad = [
            (0, "nowhere.example", "there is no such domain"),
            (count / 2, "denied.example", "a deny rule names this domain"),
            (count - 1, "silent.example", "its server did not answer in time"),
        ];
        let (mut sent, mut refused) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        for (n, user) in users.iter().enumerate() {
            if let Some((_, domain, words)) = bad.iter().find(|(at, ..)| *at == n) {
                let id = inside.message(&format!("x@{domain}"), "is anybody there?");
                refused.push((*domain, *words, id));
            }
            sent.push(inside.message(user.jid(), "good day"));
        }
        let mut answers = Vec::new();
        for (user, id) in users.iter_mut().zip(&sent) {
            user.expect_message(inside.jid(), id);
            answers.push(user.message(inside.jid(), "good day to you"));
        }
        for (user, id) in users.iter().zip(&answers) {
            inside.arrived(user.jid(), id);
        }
        eprintln!("{legacy:?}, run {run}: {count} domains have answered after {:?}", begun.elapsed());
        for (domain, words, id) in refused {
            let (condition, text) = inside.told(&id);
            assert!(text.starts_with(&format!("{domain}: {words}")), "{domain}: {condition}, {text:?}");
        }
    }
}

/// So many runs, unless `GATEHOUSE_RUNS` has another number.
fn runs(usual: usize) -> usize {
    std::env::var("GATEHOUSE_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn jabberd2_as_shipped_reaches_thirty_domains_at_once_with_bad_ones_among_them() {
    at_once(Legacy::Jabberd2, 27, runs(3), "");
}

#[test]
fn jabberd2_as_shipped_reaches_two_hundred_domains_at_once() {
    at_once(Legacy::Jabberd2, 200, runs(1), "");
}

// L-inside-pairs: "nothing of what is more is lost, nothing closes".
#[test]
fn jabberd2_reaches_more_domains_than_are_kept_at_hand() {
    at_once(Legacy::Jabberd2, 60, runs(1), "limits: { inside-pairs: 10 }\n");
}

#[test]
fn prosody_reaches_two_hundred_domains_of_one_hoster_at_once() {
    at_once(Legacy::Prosody, 200, runs(1), "");
}

#[test]
fn ejabberd_reaches_two_hundred_domains_of_one_hoster_at_once() {
    at_once(Legacy::Ejabberd, 200, runs(1), "");
}
