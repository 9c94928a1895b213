//! Real servers on both sides: Prosody and ejabberd as remote servers, Prosody, ejabberd and jabberd2 as the plain
//! legacy server, by certificate and by dialback, in both directions; those of Debian 12 and those of Debian 13.
//!
//! The first tests leave the gateway out: they show that the servers, set up as here, understand each other, so that a
//! red cell of the matrix is the gateway's. Nothing is retried and nothing skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::ca::{Authority, Usage};
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::scene::{Cast, HOSTED, Peer, Scene, Wishes, remote};
use crate::support::server::{Legacy, Place, Proof, Remote, Server};
use crate::support::unbound::{self, Zone};
use crate::support::wait_for;
use crate::support::world::{Net, World};

macro_rules! matrix {
    ($($name:ident: $remote:ident by $proof:ident, $legacy:ident;)*) => {$(
        #[test]
        fn $name() {
            cell(Remote::$remote, Proof::$proof, Legacy::$legacy);
        }
    )*};
}

// Each version is in each role with each proof; servers of one release and of two meet.
matrix! {
    ejabberd_23_by_certificate_and_ejabberd_23_understand_each_other: Ejabberd by External, Ejabberd;
    ejabberd_23_by_certificate_and_jabberd2_of_12_understand_each_other: Ejabberd by External, Jabberd2;
    ejabberd_23_by_certificate_and_prosody_0_12_understand_each_other: Ejabberd by External, Prosody;
    ejabberd_23_by_dialback_and_ejabberd_24_understand_each_other: Ejabberd by Dialback, Ejabberd24;
    ejabberd_23_by_dialback_and_jabberd2_of_13_understand_each_other: Ejabberd by Dialback, Jabberd2Of13;
    ejabberd_23_by_dialback_and_prosody_13_understand_each_other: Ejabberd by Dialback, Prosody13;
    ejabberd_24_by_certificate_and_ejabberd_24_understand_each_other: Ejabberd24 by External, Ejabberd24;
    ejabberd_24_by_certificate_and_jabberd2_of_13_understand_each_other: Ejabberd24 by External, Jabberd2Of13;
    ejabberd_24_by_certificate_and_prosody_13_understand_each_other: Ejabberd24 by External, Prosody13;
    ejabberd_24_by_dialback_and_ejabberd_23_understand_each_other: Ejabberd24 by Dialback, Ejabberd;
    ejabberd_24_by_dialback_and_jabberd2_of_12_understand_each_other: Ejabberd24 by Dialback, Jabberd2;
    ejabberd_24_by_dialback_and_prosody_0_12_understand_each_other: Ejabberd24 by Dialback, Prosody;
    prosody_0_12_by_certificate_and_ejabberd_23_understand_each_other: Prosody by External, Ejabberd;
    prosody_0_12_by_certificate_and_jabberd2_of_12_understand_each_other: Prosody by External, Jabberd2;
    prosody_0_12_by_certificate_and_prosody_0_12_understand_each_other: Prosody by External, Prosody;
    prosody_0_12_by_dialback_and_ejabberd_24_understand_each_other: Prosody by Dialback, Ejabberd24;
    prosody_0_12_by_dialback_and_jabberd2_of_13_understand_each_other: Prosody by Dialback, Jabberd2Of13;
    prosody_0_12_by_dialback_and_prosody_13_understand_each_other: Prosody by Dialback, Prosody13;
    prosody_13_by_certificate_and_ejabberd_24_understand_each_other: Prosody13 by External, Ejabberd24;
    prosody_13_by_certificate_and_jabberd2_of_13_understand_each_other: Prosody13 by External, Jabberd2Of13;
    prosody_13_by_certificate_and_prosody_13_understand_each_other: Prosody13 by External, Prosody13;
    prosody_13_by_dialback_and_ejabberd_23_understand_each_other: Prosody13 by Dialback, Ejabberd;
    prosody_13_by_dialback_and_jabberd2_of_12_understand_each_other: Prosody13 by Dialback, Jabberd2;
    prosody_13_by_dialback_and_prosody_0_12_understand_each_other: Prosody13 by Dialback, Prosody;
}

/// One cell of the matrix. The policy takes either proof; which one is used, the remote server decides, and the
/// gateway's counters, its audit log and the remote server's own log must all say the same.
fn cell(program: Remote, proof: Proof, legacy: Legacy) {
    let peer = Peer { program, proof, domain: FRIEND };
    let mut scene = Scene::start(&Cast { remotes: &[peer], legacy, usage: Usage::Both, policy: POLICY });
    let (mut outside, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    converse(&mut outside, &mut inside);
    let method = match proof {
        Proof::Dialback => "dialback",
        Proof::Either | Proof::External => "certificate",
    };
    proved(&scene.gateway, "s2s-in", method);
    proved(&scene.gateway, "s2s-out", method);
    believed(&scene.remotes[0], program, HOSTED, method);
    drop((outside, inside));
    recorded(&mut scene.gateway, &[("s2s-in", FRIEND, method), ("s2s-out", FRIEND, method)]);
}

// The servers themselves, on the open network: what the matrix asks of them through the gateway they do directly.
#[test]
fn the_remote_servers_understand_each_other_without_the_gateway() {
    for proof in [Proof::Dialback, Proof::External] {
        let mut world = World::new();
        let resolver = Net::World.address(53);
        let peers = [
            Peer { program: Remote::Prosody, proof, domain: FRIEND },
            Peer { program: Remote::Ejabberd, proof, domain: COUSIN },
        ];
        let places = [Net::World.address(10), Net::World.address(11)];
        let dns_host = world.host("dns", &[(Net::World, 53)], resolver);
        let zones = [
            Zone { domain: FRIEND, address: Some(places[0]) },
            Zone { domain: COUSIN, address: Some(places[1]) },
        ];
        let _dns = unbound::start(&dns_host, resolver, &zones);
        let known = Authority::new("An authority that both sides know");
        let [first, second] = [(0, 10), (1, 11)].map(|(n, last)| {
            let host = world.host(&format!("remote{n}"), &[(Net::World, last)], resolver);
            remote(&host, places[n], &peers[n], &known, Usage::Both)
        });
        converse(&mut first.login(), &mut second.login());
        let method = if proof == Proof::Dialback { "dialback" } else { "certificate" };
        believed(&first, Remote::Prosody, COUSIN, method);
        believed(&second, Remote::Ejabberd, FRIEND, method);
    }
}

// The files of deploy/, on the inside network: plain TCP and dialback between the legacy servers.
#[test]
fn the_legacy_servers_understand_each_other_without_the_gateway() {
    for program in [Legacy::Ejabberd, Legacy::Jabberd2] {
        let mut world = World::new();
        let resolver = Net::Inside.address(53);
        let (first, second) = (Net::Inside.address(10), Net::Inside.address(11));
        let dns_host = world.host("dns", &[(Net::Inside, 53)], resolver);
        let zones =
            [Zone { domain: HOSTED, address: Some(first) }, Zone { domain: FRIEND, address: Some(second) }];
        let _dns = unbound::start(&dns_host, resolver, &zones);
        let host = world.host("first", &[(Net::Inside, 10)], resolver);
        let place = Place { host: &host, address: first, domain: HOSTED, user: "warden" };
        let one = Server::legacy(Legacy::Prosody, &place);
        let host = world.host("second", &[(Net::Inside, 11)], resolver);
        let place = Place { host: &host, address: second, domain: FRIEND, user: "guest" };
        let other = Server::legacy(program, &place);
        converse(&mut one.login(), &mut other.login());
    }
}

// CRT-08: certificates without clientAuth, as public authorities issue them now. The gateway takes them as proof. So does
// Prosody 0.12.3 and 13 and ejabberd 24.12; ejabberd 23.01 does not, and the gateway then proves itself by dialback.
fn server_auth_only(program: Remote, method: &str) {
    let peer = Peer { program, proof: Proof::Either, domain: FRIEND };
    let cast = Cast { remotes: &[peer], legacy: Legacy::Prosody, usage: Usage::Server, policy: POLICY };
    let mut scene = Scene::start(&cast);
    let (mut outside, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    converse(&mut outside, &mut inside);
    proved(&scene.gateway, "s2s-in", "certificate");
    proved(&scene.gateway, "s2s-out", method);
    believed(&scene.remotes[0], program, HOSTED, method);
    drop((outside, inside));
    recorded(&mut scene.gateway, &[("s2s-in", FRIEND, "certificate"), ("s2s-out", FRIEND, method)]);
}

#[test]
fn ejabberd_refuses_external_without_client_auth_and_gets_dialback() {
    server_auth_only(Remote::Ejabberd, "dialback");
}

#[test]
fn ejabberd_24_takes_external_without_client_auth() {
    server_auth_only(Remote::Ejabberd24, "certificate");
}

#[test]
fn prosody_takes_external_without_client_auth() {
    server_auth_only(Remote::Prosody, "certificate");
}

#[test]
fn prosody_13_takes_external_without_client_auth() {
    server_auth_only(Remote::Prosody13, "certificate");
}

// DB-66: jabberd2 sends the stanzas of all its targets over one stream, since steering leads them all to one address;
// each pair stands for itself, by its own proof.
#[test]
fn jabberd2_reaches_two_remote_servers_over_one_stream() {
    let remotes = [
        Peer { program: Remote::Prosody, proof: Proof::External, domain: FRIEND },
        Peer { program: Remote::Ejabberd, proof: Proof::Dialback, domain: COUSIN },
    ];
    let cast = Cast { remotes: &remotes, legacy: Legacy::Jabberd2, usage: Usage::Both, policy: POLICY };
    let mut scene = Scene::start(&cast);
    let (mut friend, mut cousin, mut inside) =
        (scene.remotes[0].login(), scene.remotes[1].login(), scene.legacy.login());
    converse(&mut friend, &mut inside);
    converse(&mut cousin, &mut inside);
    let log = scene.legacy.log();
    assert_eq!(
        log.matches("outgoing connection for").count(),
        1,
        "jabberd2 opened more than one stream:\n{log}"
    );
    assert!(
        log.contains(&format!("using connection for '{COUSIN}'")),
        "jabberd2 did not reuse its stream:\n{log}"
    );
    drop((friend, cousin, inside));
    let pairs = [
        ("s2s-in", FRIEND, "certificate"),
        ("s2s-out", FRIEND, "certificate"),
        ("s2s-in", COUSIN, "dialback"),
        ("s2s-out", COUSIN, "dialback"),
    ];
    recorded(&mut scene.gateway, &pairs);
}

// One way in, nothing out: Prosody asks about the key of a server that comes in only on a stream on which it was believed
// itself. ejabberd asks on a connection of its own; both let the message in, and the answer goes back to who wrote it.
fn one_way(legacy: Legacy) {
    let peer = Peer { program: Remote::Prosody, proof: Proof::External, domain: FRIEND };
    let policy = POLICY.replace("verdict: allow }\nexpect", "verdict: allow, direction: inbound }\nexpect");
    let scene = Scene::start(&Cast { remotes: &[peer], legacy, usage: Usage::Both, policy: &policy });
    let (mut outside, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    let id = outside.message(inside.jid(), "only in");
    inside.expect_message(outside.jid(), &id);
    let id = inside.message(outside.jid(), "not out");
    assert!(!inside.refusal(&id).is_empty());
    assert_eq!(scene.gateway.metric("gatehouse_stanzas_total", &[("flow", "s2s-out")]), 0.0);
    assert!(!scene.gateway_asked(FRIEND), "nobody was called, not even looked for");
}

#[test]
fn a_domain_that_may_only_come_in_comes_in_to_ejabberd() {
    one_way(Legacy::Ejabberd);
}

#[test]
fn a_domain_that_may_only_come_in_comes_in_to_prosody() {
    one_way(Legacy::Prosody);
}

// POL-01, POL-05: what no rule lists stays out, in both directions, before any DNS query, and each sender hears of it.
#[test]
fn a_remote_domain_that_is_not_listed_is_refused_both_ways() {
    let peer = Peer { program: Remote::Prosody, proof: Proof::External, domain: STRANGER };
    let cast = Cast { remotes: &[peer], legacy: Legacy::Prosody, usage: Usage::Both, policy: POLICY };
    let scene = Scene::start(&cast);
    let (mut outside, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    for (from, to) in [(&mut outside, inside.jid().to_owned()), (&mut inside, format!("guest@{STRANGER}"))] {
        let id = from.message(&to, "let me in");
        let condition = from.refusal(&id);
        assert!(!condition.is_empty());
    }
    for flow in ["s2s-in", "s2s-out"] {
        let labels = [("flow", flow), ("domain", HOSTED), ("outcome", "deny"), ("reason", "not-listed")];
        let denied = scene.gateway.metric("gatehouse_policy_verdicts_total", &labels);
        assert!(denied >= 1.0, "{flow}:\n{}", scene.gateway.family("gatehouse_policy_verdicts_total"));
        assert_eq!(scene.gateway.metric("gatehouse_stanzas_total", &[("flow", flow)]), 0.0);
    }
    assert!(!scene.gateway_asked(STRANGER), "the gateway asked the DNS about a domain that may not federate");
}

// RLY-18: whatever keeps a message from a remote server, the sender's own server understands the refusal and tells the
// sender, at once. COUSIN is allowed but not in the DNS; FRIEND is in the DNS but nobody listens there.
fn unreachable(legacy: Legacy) {
    let peer = Peer { program: Remote::Prosody, proof: Proof::External, domain: FRIEND };
    let mut scene = Scene::start(&Cast { remotes: &[peer], legacy, usage: Usage::Both, policy: POLICY });
    scene.remotes[0].stop();
    let mut inside = scene.legacy.login();
    for domain in [COUSIN, FRIEND] {
        let id = inside.message(&format!("guest@{domain}"), "is anybody there?");
        let condition = inside.refusal(&id);
        let fitting = [
            "remote-server-not-found",
            "remote-server-timeout",
            "service-unavailable",
            "internal-server-error",
        ];
        assert!(fitting.contains(&condition.as_str()), "{domain}: {condition}");
        assert!(scene.gateway_asked(domain), "the gateway never asked the DNS about {domain}");
    }
    assert_eq!(scene.gateway.metric("gatehouse_stanzas_total", &[("flow", "s2s-out")]), 0.0);
}

#[test]
fn ejabberd_tells_its_user_that_a_remote_server_is_out_of_reach() {
    unreachable(Legacy::Ejabberd);
}

#[test]
fn jabberd2_tells_its_user_that_a_remote_server_is_out_of_reach() {
    unreachable(Legacy::Jabberd2);
}

#[test]
fn prosody_tells_its_user_that_a_remote_server_is_out_of_reach() {
    unreachable(Legacy::Prosody);
}

// BE-11, D3: while the backend is down nothing is accepted for it, so the remote server still holds the message and
// tells its sender; once the backend is back the same gateway serves it.
fn backend_down(program: Remote) {
    let peer = Peer { program, proof: Proof::External, domain: FRIEND };
    let cast = Cast { remotes: &[peer], legacy: Legacy::Prosody, usage: Usage::Both, policy: POLICY };
    let mut scene = Scene::start_with(&cast, &Wishes { backend: ", check: 1s", ..Wishes::default() });
    let mut outside = scene.remotes[0].login();
    scene.legacy.stop();
    let id = outside.message(&format!("warden@{HOSTED}"), "is anybody there?");
    assert!(!outside.refusal(&id).is_empty());
    assert_eq!(scene.gateway.metric("gatehouse_stanzas_total", &[("flow", "s2s-in")]), 0.0);
    let up = [("domain", HOSTED), ("flow", "s2s-in")];
    wait_for("the gauge of the backend to fall", Duration::from_secs(30), || {
        match scene.gateway.series("gatehouse_backend_up", &up) {
            series if series == [0.0] => Ok(()),
            series => Err(format!("{series:?}")),
        }
    });
    scene.revive_legacy(Legacy::Prosody);
    let mut inside = scene.legacy.login();
    let id = inside.message(outside.jid(), "here again");
    outside.expect_message(inside.jid(), &id);
}

#[test]
fn ejabberd_tells_its_user_that_the_backend_is_down() {
    backend_down(Remote::Ejabberd);
}

#[test]
fn prosody_tells_its_user_that_the_backend_is_down() {
    backend_down(Remote::Prosody);
}

// Contract 4; a scrape with traffic behind it, so that every family that this traffic moves is in it.
#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let peer = Peer { program: Remote::Prosody, proof: Proof::Dialback, domain: FRIEND };
    let cast = Cast { remotes: &[peer], legacy: Legacy::Prosody, usage: Usage::Both, policy: POLICY };
    let scene = Scene::start(&cast);
    let (mut outside, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    let id = outside.message(inside.jid(), "hello");
    inside.expect_message(outside.jid(), &id);
    let scrape = scene.gateway.admin("/metrics");
    assert!(scrape.contains("gatehouse_stanzas_total{"), "{scrape}");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: tests/run sees to it");
    promtool.stdin.take().expect("a pipe").write_all(scrape.as_bytes()).expect("promtool reads");
    let done = promtool.wait_with_output().expect("promtool ends");
    let said =
        [done.stdout, done.stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned()).concat();
    assert!(done.status.success() && said.trim().is_empty(), "promtool: {said}\n{scrape}");
}

/// Everything that two users do with each other, each way.
fn converse(one: &mut Client, other: &mut Client) {
    for _ in 0..2 {
        for body in [ODD.to_owned(), long()] {
            let id = one.message(other.jid(), &body);
            let message = other.expect_message(one.jid(), &id);
            let heard = message.child("body").map(|body| body.text.as_str()).unwrap_or_default();
            assert!(heard == body, "{} octets sent, {} received: {heard:.200}", body.len(), heard.len());
        }
        let domain = other.bare().split('@').nth(1).expect("a domain").to_owned();
        one.ask("get", Some(&domain), PING);
        let about = one.ask("get", Some(&domain), DISCO);
        let identities = &about.child("query").expect("disco#info answers with a query").children;
        assert!(identities.iter().any(|i| i.name == "identity" && i.has("category", "server")), "{about:?}");
        let id = one.request("get", Some(other.jid()), PING);
        other.answer(one.jid(), "urn:xmpp:ping", "");
        one.result(&id, PING);
        subscribe(one, other);
        std::mem::swap(one, other);
    }
}

/// RFC 6121 3.1: asked, granted, and told of the other's presence.
fn subscribe(one: &mut Client, other: &mut Client) {
    let (asker, owner, desk) = (one.bare().to_owned(), other.bare().to_owned(), other.jid().to_owned());
    one.presence(&owner, "subscribe");
    other.expect(&format!("{asker} to ask for presence"), |e| {
        e.name == "presence" && e.has("type", "subscribe") && e.has("from", &asker)
    });
    other.presence(&asker, "subscribed");
    one.expect(&format!("{owner} to grant its presence"), |e| {
        e.name == "presence" && e.has("type", "subscribed") && e.has("from", &owner)
    });
    one.expect(&format!("the presence of {desk}"), |e| {
        e.name == "presence" && e.attribute("type").is_none() && e.has("from", &desk)
    });
}

/// By the gateway's counters, that flow was proved by that method and by no other.
fn proved(gateway: &Gateway, flow: &str, method: &str) {
    let family = "gatehouse_authentications_total";
    for candidate in ["certificate", "dialback"] {
        let labels = [("flow", flow), ("domain", HOSTED), ("method", candidate), ("outcome", "allow")];
        let count = gateway.metric(family, &labels);
        assert_eq!(count >= 1.0, candidate == method, "{flow} by {method}:\n{}", gateway.family(family));
    }
}

/// By the remote server's own log, that domain proved itself to it by that method.
pub fn believed(server: &Server, program: Remote, domain: &str, method: &str) {
    let line = match (program.is_ejabberd(), method) {
        (true, "certificate") => format!("Accepted inbound s2s EXTERNAL authentication {domain} ->"),
        (true, _) => format!("Accepted inbound s2s dialback authentication {domain} ->"),
        (false, "certificate") => format!("Accepting SASL EXTERNAL identity from {domain}"),
        (false, _) => format!("asking {domain} if key"),
    };
    assert!(server.log().contains(&line), "{} ({program:?}) never logged {line:?}", server.domain());
}

/// By the audit log of the drained gateway, each of these pairs passed stanzas over TLS, proved as told and no other way.
fn recorded(gateway: &mut Gateway, expected: &[(&str, &str, &str)]) {
    let records = gateway.drain();
    for (flow, remote, proof) in expected {
        let pair =
            if *flow == "s2s-in" { format!("{remote}>{HOSTED}") } else { format!("{HOSTED}>{remote}") };
        let about = |record: &&serde_json::Value| record["flow"] == *flow && record["pair"] == pair;
        let carried: Vec<_> =
            records.iter().filter(about).filter(|r| r["stanzas"].as_u64() > Some(0)).collect();
        let sound = carried.iter().all(|record| record["proof"] == *proof && record["tls"] == "1.3");
        assert!(sound && !carried.is_empty(), "{flow} {pair} by {proof}: {records:#?}");
    }
}

/// 100 KB: more than one read, less than every server's limit as configured in `deploy/`.
fn long() -> String {
    "The quick brown fox. ".repeat(5000)
}

const FRIEND: &str = "friend.example";
const COUSIN: &str = "cousin.example";
const STRANGER: &str = "stranger.example";
const PING: &str = "<ping xmlns='urn:xmpp:ping'/>";
const DISCO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";

/// Combining, right to left, joined, astral, private, byte order mark, noncharacter, controls that XML allows,
/// characters that need escaping, and `]]>`.
const ODD: &str = "e\u{301} \u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd}\u{202c} \u{1f469}\u{200d}\u{1f692} \u{1d54f} \u{10fffd} \u{feff} \u{fdd0} \
    \u{fffd} \u{7f}\u{85}\u{2028} <&>'\" ]]> \t\n.";

const POLICY: &str = r#"version: v1
defaults: { identity: [certificate, dialback], tls: "1.2" }
rules:
  - { name: family, domains: [friend.example, cousin.example], verdict: allow }
expect:
  - { from: friend.example, to: hall.example, identity: dialback, tls: "1.3", ip: 192.0.2.10, verdict: allow, rule: family }
  - { from: stranger.example, to: hall.example, identity: certificate, tls: "1.3", ip: 192.0.2.10, verdict: deny, reason: not-listed }
"#;
