//! Clients through the gateway to real servers: slixmpp and go-sendxmpp as people use them, and a client that breaks
//! every rule.
//!
//! Prosody, ejabberd and jabberd2 stand behind the gateway as `deploy/` sets them up. The first of two addresses that the
//! gateway has for them takes no connection, so every login here also shows that the second is tried.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::support;
use std::time::{Duration, Instant};

use crate::support::ca::{Authority, Usage};
use crate::support::dialogues::{At, DIALOGUES, Dialogue, Ours};
use crate::support::gateway::Gateway;
use crate::support::programs::{Desk, Way, jid};
use crate::support::raw::Raw;
use crate::support::release::Release;
use crate::support::scene::{Cast, HOSTED, Scene, Wishes};
use crate::support::server::{Legacy, PASSWORD, SECOND, Server};
use crate::support::{ejabberd, make_dir, prosody, wait_for};

const POLICY: &str = "version: v1\n";

pub fn scene(legacy: Legacy, wishes: &Wishes<'_>) -> (Scene, Desk) {
    let cast = Cast { remotes: &[], legacy, usage: Usage::Server, policy: POLICY };
    let mut scene = Scene::start_with(&cast, wishes);
    let desk = Desk { host: scene.outsider(30), roots: scene.gateway.roots() };
    (scene, desk)
}

/// Everything that a person does, and the mechanisms that must have been offered.
fn a_day(legacy: Legacy, mechanisms: &[&str]) -> (Scene, Desk) {
    let (scene, desk) = scene(legacy, &Wishes::default());
    let (user, other) = (jid("warden"), jid(SECOND));
    let first = desk.slixmpp(Way::Starttls, "login", &[&user, "any"]);
    let offered: Vec<&str> = first["offered"].as_array().unwrap().iter().filter_map(|m| m.as_str()).collect();
    assert_eq!(offered, mechanisms);
    for mechanism in &offered {
        let report = desk.slixmpp(Way::Starttls, "login", &[&user, mechanism]);
        assert!(report["bound"].as_str().unwrap().starts_with(&format!("{user}/")), "{report}");
        let label = mechanism.to_ascii_lowercase();
        assert!(logins(&scene.gateway, &label, "allow") >= 1.0, "{}", scene.gateway.family("gatehouse_auth"));
    }
    let (code, said) = scene.gateway.command("probe", &["probe", "--c2s", HOSTED]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("clients can log in") && said.contains(offered[0]), "{said}");
    desk.slixmpp(Way::Direct(5223), "login", &[&user, "any"]);
    desk.slixmpp(Way::Starttls, "talk", &[&user, &other]);
    let wrong = desk.try_slixmpp(Way::Starttls, "abracadabra", "login", &[&user, offered[0]]);
    assert!(wrong.unwrap_err().contains("login refused"));
    assert_eq!(logins(&scene.gateway, &offered[0].to_ascii_lowercase(), "deny"), 1.0);
    let up = scene.gateway.series("gatehouse_backend_up", &[("domain", HOSTED), ("flow", "c2s")]);
    assert_eq!(up, [1.0]);
    (scene, desk)
}

fn logins(gateway: &Gateway, mechanism: &str, outcome: &str) -> f64 {
    let labels = [("flow", "c2s"), ("domain", HOSTED), ("method", mechanism), ("outcome", outcome)];
    gateway.metric("gatehouse_authentications_total", &labels)
}

// XEP-0198 5: the connection is cut in the middle of bursts in both directions.
fn come_back(scene: &Scene, desk: &Desk) {
    let report = desk.slixmpp(Way::Starttls, "resume", &[&jid("warden"), &jid(SECOND)]);
    assert_eq!(report["messages"], 200, "{report}");
    assert!(!scene.gateway.log().contains("panicked"));
}

#[test]
fn clients_of_prosody_log_in_talk_and_come_back() {
    let (scene, desk) = a_day(Legacy::Prosody, &["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"]);
    come_back(&scene, &desk);
}

#[test]
fn clients_of_prosody_13_log_in_talk_and_come_back() {
    let (scene, desk) = a_day(Legacy::Prosody13, &["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"]);
    come_back(&scene, &desk);
}

#[test]
fn clients_of_ejabberd_24_log_in_talk_and_come_back() {
    let (scene, desk) =
        a_day(Legacy::Ejabberd24, &["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    come_back(&scene, &desk);
}

#[test]
fn clients_of_ejabberd_log_in_talk_and_come_back() {
    let (scene, desk) = a_day(Legacy::Ejabberd, &["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    come_back(&scene, &desk);
}

#[test]
fn clients_of_jabberd2_log_in_and_talk() {
    a_day(Legacy::Jabberd2, &["PLAIN"]);
}

#[test]
fn clients_of_jabberd2_of_debian_13_log_in_and_talk() {
    a_day(Legacy::Jabberd2Of13, &["PLAIN"]);
}

// STR-15, TLS-02, TLS-05, TLS-16: clients that write a little more than they must, and log in at every server. go-xmpp writes a line
// feed behind its `<starttls/>`, XML::Stream the machine's name into its headers, loudmouth an `id` on `<starttls/>`.
#[test]
fn clients_that_write_a_little_more_send_by_starttls() {
    let (scene, desk) = scene(Legacy::Prosody, &Wishes::default());
    let mut reader = scene.legacy.login();
    let (from, to) = (jid(SECOND), jid("warden"));
    let mut arrives = |body: &str| {
        let heard = reader.expect("the message", |e| e.name == "message" && e.child("body").is_some());
        assert_eq!(heard.child("body").unwrap().text.trim(), body);
        assert!(heard.attribute("from").unwrap().starts_with(&format!("{from}/")), "{heard:?}");
    };
    desk.go_sendxmpp(Way::Direct(5223), &from, &to, "by direct TLS");
    arrives("by direct TLS");
    desk.go_sendxmpp(Way::Starttls, &from, &to, "with a line feed");
    arrives("with a line feed");
    desk.by_library("loud.c", "loudmouth-1.0", &from, &to, "with an id");
    arrives("with an id");
    desk.by_library("strophe.c", "libstrophe", &from, &to, "by libstrophe");
    arrives("by libstrophe");
    desk.by_library("gloox.cpp", "gloox", &from, &to, "by gloox");
    arrives("by gloox");
    desk.sendxmpp(&from, &to, "with a from");
    arrives("with a from");
}

pub fn base64(octets: &[u8]) -> String {
    ::base64::Engine::encode(&::base64::engine::general_purpose::STANDARD, octets)
}

/// A file with the user's address and password.
pub fn account(desk: &Desk) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let file = desk.host.directory().join("account");
    support::write(&file, &format!("{}\n{}\n", jid("warden"), support::server::PASSWORD));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file.to_string_lossy().into_owned()
}

// CB-02: with an account the probe sees what ejabberd 24.12 does to who can bind a channel, unless it is told better.
#[test]
fn the_probe_logs_in_for_real_and_sees_who_is_refused() {
    for (allow, usable) in
        [("allow_unencrypted_sasl2: true", true), ("allow_unencrypted_sasl2: false", false)]
    {
        let replace = [("allow_unencrypted_sasl2: true", allow)];
        let placed = |place: &support::server::Place<'_>| {
            Server::new(place, ejabberd::legacy_with(Release::Trixie, place, &replace))
        };
        let (scene, desk) = scene(Legacy::Ejabberd24, &Wishes { legacy: Some(&placed), ..Wishes::default() });
        let (code, said) =
            scene.gateway.command("probe", &["probe", "--c2s", HOSTED, "--account", &account(&desk)]);
        assert_eq!(code == Some(0), usable, "{said}");
        assert!(said.contains("SCRAM-SHA-512, flag n: bound as warden@hall.example/"), "{said}");
        assert_eq!(said.contains("SCRAM-SHA-512, flag y: bound as "), usable, "{said}");
        assert_eq!(said.contains("flag y: refused"), !usable, "{said}");
    }
}

// C2S-18: users read why their server threw them out.
#[test]
fn who_is_replaced_reads_why() {
    for legacy in [Legacy::Prosody, Legacy::Ejabberd] {
        let (scene, desk) = scene(legacy, &Wishes::default());
        let mut first = bound(&desk);
        first.say("<presence/>");
        first.hear("<presence");
        let _second = bound(&desk);
        let (said, _) = first.end();
        assert!(
            said.contains("<conflict ") && said.contains("eplaced by new connection"),
            "{legacy:?}: {said}"
        );
        assert!(said.ends_with("</stream:stream>"), "{legacy:?}: {said}");
        drop(scene);
    }
}

/// A client that has come so far.
fn at(desk: &Desk, place: At) -> Raw {
    match place {
        At::Clear => clear(desk),
        At::Secured => secured(desk),
        At::LoggedIn => authenticated(desk),
        At::Bound => bound(desk),
    }
}

/// It goes on until the server answers a ping.
pub fn goes_on(desk: &Desk, mut raw: Raw, place: At) {
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>";
    if place == At::Clear {
        raw.secure(&desk.roots, &[]).unwrap();
        raw.open();
        raw.hear("</stream:features>");
    }
    if matches!(place, At::Clear | At::Secured) {
        let secret = base64(format!("\0warden\0{}", support::server::PASSWORD).as_bytes());
        raw.say(&format!("{auth}{secret}</auth>"));
        raw.hear("<success");
        raw.open();
        raw.hear("</stream:features>");
    }
    if place != At::Bound {
        raw.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        raw.hear("</iq>");
    }
    raw.say("<iq type='get' id='alive' to='hall.example'><ping xmlns='urn:xmpp:ping'/></iq>");
    raw.hear("alive");
}

/// The table of dialogues, with a real server behind the gateway.
fn dialogues_with(legacy: Legacy, answer: fn(&Dialogue) -> &'static str) {
    let more = "limits: { rate: 6000/min }\n";
    let (scene, desk) = scene(legacy, &Wishes { gateway: more, ..Wishes::default() });
    for dialogue in DIALOGUES {
        let Dialogue { at: place, says, ours, .. } = dialogue;
        let mut raw = at(&desk, *place);
        raw.say(says);
        let patience = Duration::from_secs(10);
        let (words, ends) = match ours {
            Ours::Answers(words) => (*words, false),
            Ours::Passes => (answer(dialogue), false),
            Ours::Drops => ("", false),
            Ours::Ends(words) => (*words, true),
        };
        let heard = raw.hear_within(words, patience);
        assert!(heard.contains(words), "{place:?} {says}: {words} is not in {heard:?}");
        if ends {
            assert!((heard + &raw.end().0).contains("</stream:stream>"), "{says}");
        } else {
            goes_on(&desk, raw, *place);
        }
    }
    assert!(!scene.gateway.log().contains("panicked"));
    let wrong: Vec<_> =
        (0..DIALOGUES.len()).filter_map(|number| asked_directly(&scene, number, answer)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the server itself says to it, where that is not what the table says. TLS it has none here.
fn asked_directly(scene: &Scene, number: usize, answer: fn(&Dialogue) -> &'static str) -> Option<String> {
    let dialogue = &DIALOGUES[number];
    let Dialogue { at: place, says, .. } = dialogue;
    let words = answer(dialogue);
    if *place == At::Clear || says.contains("xmpp-tls") {
        return None;
    }
    let mut raw = Raw::of(scene.legacy.connect());
    raw.open();
    raw.hear("</stream:features>");
    if matches!(place, At::LoggedIn | At::Bound) {
        raw.log_in("warden");
    }
    if *place == At::Bound {
        // Prosody does not come back to a resource on which two `<enable/>` came at once.
        raw.bind(&format!("table-{number}"));
    }
    raw.say(says);
    let (awaited, silent) = if words.is_empty() { ("alive", true) } else { (words, false) };
    if silent {
        if *place == At::LoggedIn {
            raw.bind("table");
        }
        raw.say("<iq type='get' id='alive' to='hall.example'><ping xmlns='urn:xmpp:ping'/></iq>");
    }
    let heard = raw.hear_within(awaited, Duration::from_secs(5));
    let fits = heard.contains(awaited) && !(silent && heard.trim_start().get(1..3) != Some("iq"));
    (!fits).then(|| format!("{place:?} {says}: {words:?}, and was {heard:?}"))
}

#[test]
fn the_dialogues_with_prosody_come_out_as_the_table_says() {
    dialogues_with(Legacy::Prosody, |dialogue| dialogue.prosody);
}

#[test]
fn the_dialogues_with_prosody_13_come_out_as_the_table_says() {
    dialogues_with(Legacy::Prosody13, |dialogue| dialogue.prosody);
}

#[test]
fn the_dialogues_with_ejabberd_come_out_as_the_table_says() {
    dialogues_with(Legacy::Ejabberd, |dialogue| dialogue.ejabberd);
}

#[test]
fn the_dialogues_with_ejabberd_24_come_out_as_the_table_says() {
    dialogues_with(Legacy::Ejabberd24, |dialogue| dialogue.ejabberd);
}

// C2S-01, TLS-01: a client that people use, on a terminal of its own, with TLS demanded and the certificate checked.
#[test]
fn profanity_logs_in_by_starttls() {
    let (scene, desk) = scene(Legacy::Prosody, &Wishes::default());
    let mut reader = scene.legacy.login();
    desk.profanity(5222, &jid(SECOND), &jid("warden"), "by STARTTLS");
    let heard = reader.expect("the message", |e| e.name == "message" && e.child("body").is_some());
    assert_eq!(heard.child("body").unwrap().text.trim(), "by STARTTLS");
    assert!(heard.attribute("from").unwrap().starts_with(&format!("{}/", jid(SECOND))), "{heard:?}");
}

// TLS-02: "loudmouth with mcabber and irssi (an `id` on `<starttls/>`)" could not log in. On a terminal of its own, told by its FIFO
// what to do, through servers of both generations.
#[test]
fn mcabber_logs_in_by_starttls_and_sends_and_receives() {
    for legacy in [Legacy::Prosody13, Legacy::Ejabberd] {
        let (scene, desk) = scene(legacy, &Wishes::default());
        let mut friend = scene.legacy.login();
        let mut mcabber = desk.mcabber(&jid(SECOND), &jid("warden"), "by mcabber");
        let heard = friend.expect("the message", |e| e.name == "message" && e.child("body").is_some());
        assert_eq!(heard.child("body").unwrap().text, "by mcabber");
        let its = heard.attribute("from").unwrap().to_owned();
        assert!(its.starts_with(&format!("{}/mcabber", jid(SECOND))), "{its}");
        friend.message(&its, "to mcabber");
        let status = mcabber.ended(Duration::from_secs(60));
        assert!(status.success(), "mcabber: {status}; it said:\n{}", mcabber.tail());
        assert!(mcabber.log().contains("HEARD to mcabber"), "{}", mcabber.log());
        assert!(
            logins(&scene.gateway, "scram-sha-1", "allow") + logins(&scene.gateway, "plain", "allow") > 0.0
        );
    }
}

// BE-05: ejabberd reads the header in its accept loop, and its log names the client's own address.
#[test]
fn ejabberd_hears_the_clients_address_in_a_proxy_header_of_either_version() {
    for version in ["v1", "v2"] {
        let expecting = |place: &support::server::Place<'_>| {
            Server::new(
                place,
                ejabberd::legacy_with(
                    Release::Bookworm,
                    place,
                    &[("# use_proxy_protocol", "use_proxy_protocol")],
                ),
            )
        };
        let backend = format!(", proxy-protocol: {version}");
        let wishes = Wishes { backend: &backend, legacy: Some(&expecting), ..Wishes::default() };
        let (scene, desk) = scene(Legacy::Ejabberd, &wishes);
        desk.slixmpp(Way::Starttls, "login", &[&jid("warden"), "any"]);
        desk.slixmpp(Way::Direct(5223), "login", &[&jid("warden"), "any"]);
        let log = scene.legacy.log();
        let named = log.lines().filter(|line| line.contains("Accepted c2s") && line.contains("192.0.2.30"));
        assert_eq!(named.count(), 2, "{version}: {log}");
    }
}

// The same of Prosody, by the lines of its file that are marked for it.
#[test]
fn prosody_13_hears_the_clients_address_in_a_proxy_header_of_either_version() {
    for version in ["v1", "v2"] {
        let expecting = |place: &support::server::Place<'_>| {
            let marked = [("c2s_ports = { 5222 } --direct\n", ""), ("--proxy ", "")];
            Server::new(place, prosody::legacy_with(Release::Trixie, place, &marked))
        };
        let backend = format!(", proxy-protocol: {version}");
        let wishes = Wishes { backend: &backend, legacy: Some(&expecting), ..Wishes::default() };
        let (scene, desk) = scene(Legacy::Prosody13, &wishes);
        desk.slixmpp(Way::Starttls, "login", &[&jid("warden"), "any"]);
        desk.slixmpp(Way::Direct(5223), "login", &[&jid("warden"), "any"]);
        let log = scene.legacy.log();
        let named = log.lines().filter(|line| line.contains("proxied connection 192.0.2.30:"));
        assert_eq!(named.count(), 2, "{version}: {log}");
    }
}

// ACC-03 to ACC-07: the header is required, and from the balancer alone; what it tells is the address that counts.
#[test]
fn a_header_of_the_load_balancer_is_required_and_believed() {
    let (mut scene, desk) = scene(Legacy::Prosody, &Wishes::default());
    let balancer = scene.outsider(40);
    // From elsewhere, with a good header.
    let mut elsewhere = Raw::connect(&desk.host, 15222);
    elsewhere.say("PROXY TCP4 203.0.113.77 192.0.2.1 4000 5222\r\n");
    elsewhere.open();
    assert_eq!(elsewhere.end().0, "");
    for malformed in [
        "<?xml version='1.0'?><stream:stream to='hall.example' xmlns='jabber:client'>",
        "PROXY TCP4 203.0.113.77 192.0.2.1 04000 5222\r\n",
        "PROXY TCP4 203.0.113.77 192.0.2.1 70000 5222\r\n",
        "PROXY TCP4  203.0.113.77 192.0.2.1 4000 5222\r\n",
        "PROXY TCP4 203.0.113.77 192.0.2.1 4000 5222\n",
        "PROXY UDP4 203.0.113.77 192.0.2.1 4000 5222\r\n",
        "\r\n\r\n\0\r\nQUIT\n\u{1}\u{11}\0\u{c}aaaabbbbccdd",
    ] {
        let mut raw = Raw::connect(&balancer, 15222);
        raw.say(malformed);
        raw.open();
        assert_eq!(raw.end().0, "", "{malformed:?}");
    }
    let mut raw = Raw::connect(&balancer, 15222);
    raw.say("PROXY TCP4 203.0.113.77 192.0.2.1 4000 5222\r\n");
    raw.open();
    raw.hear("</stream:features>");
    raw.say("</stream:stream>");
    raw.end();
    wait_for("the told address in the audit log", Duration::from_secs(10), || {
        let records = scene.gateway.audit();
        let told = records.iter().any(|r| r["peer"].as_str().is_some_and(|p| p.starts_with("203.0.113.77:")));
        told.then_some(()).ok_or_else(|| format!("{records:?}"))
    });
}

// BE-11: not a time-out.
#[test]
fn with_all_backends_down_a_client_hears_so_at_once() {
    let (mut scene, desk) = scene(Legacy::Prosody, &Wishes::default());
    scene.legacy.stop();
    let begun = Instant::now();
    let mut raw = Raw::connect(&desk.host, 5222);
    raw.open();
    raw.hear("</stream:features>");
    raw.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    raw.hear("<proceed");
    raw.secure(&desk.roots, &[]).unwrap();
    raw.open();
    raw.hear("<internal-server-error");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    // The check of the backend looks again because of that, on another thread.
    let up = || scene.gateway.series("gatehouse_backend_up", &[("domain", HOSTED), ("flow", "c2s")]);
    let heard = Instant::now();
    while up() != [0.0] {
        assert!(heard.elapsed() < Duration::from_secs(2), "{:?}", up());
        std::thread::sleep(Duration::from_millis(5));
    }
}

// C2S-11, LIM-07: over real sockets, with numbers small enough to wait for.
#[test]
fn guesses_get_slower_and_are_refused_and_the_owner_elsewhere_is_not() {
    let more = "limits: { login-failures-account: 4, sasl-attempts: 2 }\n\
                timeouts: { login-delay: 200ms, login-delay-most: 1s, login-ban: 1m }\n";
    let (mut scene, desk) = scene(Legacy::Prosody, &Wishes { gateway: more, ..Wishes::default() });
    let home = Desk { host: scene.outsider(31), roots: desk.roots.clone() };
    let guess = || {
        let begun = Instant::now();
        let mut raw = Raw::starttls(&desk.host, &desk.roots);
        // warden, with a wrong password
        raw.say(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHdhcmRlbgBndWVzcw==</auth>",
        );
        let heard = raw.hear("</failure>");
        (heard, begun.elapsed())
    };
    let mut times = Vec::new();
    for _ in 0..4 {
        let (heard, time) = guess();
        assert!(heard.contains("<failure"), "{heard}");
        times.push(time);
    }
    assert!(times[3] >= Duration::from_millis(400), "{times:?}");
    let (heard, _) = guess();
    assert!(heard.contains("<temporary-auth-failure"), "{heard}");
    assert_eq!(scene.gateway.metric("gatehouse_bans", &[]), 1.0);
    assert!(scene.gateway.metric("gatehouse_limited_total", &[("limit", "logins")]) >= 3.0);
    home.slixmpp(Way::Starttls, "login", &[&jid("warden"), "any"]);
}

/// What a client does that no client may do.
type Misdeed = (&'static str, fn(&Desk) -> Raw, &'static str);

fn bound(desk: &Desk) -> Raw {
    Raw::bound(&desk.host, &desk.roots, "warden", "desk")
}

macro_rules! said {
    ($stage:expr, $octets:expr) => {
        |desk| {
            let mut raw = $stage(desk);
            raw.say($octets);
            raw
        }
    };
}

pub fn clear(desk: &Desk) -> Raw {
    let mut raw = Raw::connect(&desk.host, 5222);
    raw.open();
    raw.hear("</stream:features>");
    raw
}

pub fn secured(desk: &Desk) -> Raw {
    Raw::starttls(&desk.host, &desk.roots)
}

fn authenticated(desk: &Desk) -> Raw {
    Raw::login(&desk.host, &desk.roots, "warden")
}

/// Name, deed, and what the last words must hold.
const MISDEEDS: &[Misdeed] = &[
    (
        "auth before TLS",
        said!(clear, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>"),
        "<not-authorized",
    ),
    (
        "a stanza before TLS",
        said!(clear, "<message to='scribe@hall.example'><body>x</body></message>"),
        "<not-authorized",
    ),
    (
        "a stanza before login",
        said!(secured, "<message to='scribe@hall.example'><body>x</body></message>"),
        "<not-authorized",
    ),
    (
        "a stanza before the bind",
        said!(authenticated, "<message to='scribe@hall.example'><body>x</body></message>"),
        "<not-authorized",
    ),
    (
        "a login by jabber:iq:auth",
        said!(
            secured,
            "<iq type='get' id='a'><query xmlns='jabber:iq:auth'><username>warden</username></query></iq>"
        ),
        "<policy-violation",
    ),
    (
        "a foreign bare from",
        said!(bound, "<message from='scribe@hall.example' to='scribe@hall.example'><body>x</body></message>"),
        "<invalid-from",
    ),
    (
        "a foreign full from",
        said!(
            bound,
            "<message from='scribe@hall.example/pen' to='scribe@hall.example'><body>x</body></message>"
        ),
        "<invalid-from",
    ),
    (
        "another resource of one's own",
        said!(
            bound,
            "<message from='warden@hall.example/tower' to='scribe@hall.example'><body>x</body></message>"
        ),
        "<invalid-from",
    ),
    ("another domain", said!(bound, "<presence from='warden@friend.example/desk'/>"), "<invalid-from"),
    (
        "the domain itself",
        said!(
            bound,
            "<iq type='get' id='1' from='hall.example' to='scribe@hall.example'><ping xmlns='urn:xmpp:ping'/></iq>"
        ),
        "<invalid-from",
    ),
    (
        "a foreign from in entities",
        said!(
            bound,
            "<message from='scrib&#x65;@hall.example' to='scribe@hall.example'><body>x</body></message>"
        ),
        "<invalid-from",
    ),
    (
        "a stanza of the server namespace",
        said!(bound, "<message xmlns='jabber:server' to='scribe@hall.example'><body>x</body></message>"),
        "<stream:error",
    ),
    (
        "a dialback key",
        said!(
            bound,
            "<db:result xmlns:db='jabber:server:dialback' from='a.example' to='hall.example'>k</db:result>"
        ),
        "<stream:error",
    ),
    (
        "a stanza of 300 KB",
        |desk| {
            let mut raw = bound(desk);
            let body = "x".repeat(300 * 1024);
            raw.say(&format!("<message to='scribe@hall.example'><body>{body}</body></message>"));
            raw
        },
        "<policy-violation",
    ),
    ("slow octets", said!(bound, "<message to='scribe@hall.example'><bo"), "<policy-violation"),
    ("a DTD", said!(bound, "<!DOCTYPE x>"), "<restricted-xml"),
    (
        "compression",
        said!(
            secured,
            "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>"
        ),
        "<setup-failed",
    ),
    (
        "a mechanism that is not offered",
        said!(
            secured,
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1-PLUS'>cD1h</auth>"
        ),
        "<invalid-mechanism",
    ),
    (
        "a response without an exchange",
        said!(secured, "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>YQ==</response>"),
        "<malformed-request",
    ),
    (
        "base64 that is none",
        said!(secured, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>A G E</auth>"),
        "<incorrect-encoding",
    ),
];

#[test]
fn every_misdeed_of_a_client_is_refused_and_nothing_of_it_passes() {
    let more = "timeouts: { stanza: 5s }\nlimits: { rate: 6000/min }\n";
    let (scene, desk) = scene(Legacy::Prosody, &Wishes { gateway: more, ..Wishes::default() });
    let mut reader = scene.legacy.login_as(SECOND);
    let mut wrong = Vec::new();
    for (name, deed, expected) in MISDEEDS {
        let mut raw = deed(&desk);
        let heard = raw.hear_within(expected, Duration::from_secs(10));
        if !heard.contains(expected) {
            wrong.push(format!("{name}: {expected} is not in {heard:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // An attribute that is called `from` in a namespace of its own is nobody's address: the stanza passes as the client's.
    let mut honest = bound(&desk);
    honest.say(
        "<message xmlns:x='urn:x' x:from='hall.example' to='scribe@hall.example'><body>honest</body></message>",
    );
    let first = reader.expect("the one stanza that may pass", |e| e.name == "message");
    assert_eq!(first.child("body").unwrap().text, "honest");
    assert_eq!(first.attribute("from"), Some("warden@hall.example/desk"));
    let forged = scene.gateway.metric("gatehouse_stream_errors_total", &[("condition", "invalid-from")]);
    assert_eq!(forged, 6.0);
    assert!(scene.gateway.log().contains("192.0.2.30"), "the true address is logged");
}

// TLS-05, CVE-2014-8957 and its kin: nothing said in clear is read as if it had come through TLS.
#[test]
fn octets_after_starttls_end_the_connection_before_tls() {
    let (_scene, desk) = scene(Legacy::Prosody, &Wishes::default());
    let mut raw = clear(&desk);
    raw.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><iq type='get' id='1'/>");
    let (heard, _) = raw.end();
    assert!(!heard.contains("<features") && !heard.contains("<iq"), "{heard}");
}

// SM-06: a client that is gone without a closing tag leaves its session to be resumed; one that says goodbye ends it.
#[test]
fn a_half_close_ends_the_connection_in_time() {
    let (scene, desk) = scene(Legacy::Prosody, &Wishes::default());
    let mut raw = bound(&desk);
    raw.half_close();
    let begun = Instant::now();
    raw.end();
    assert!(begun.elapsed() < Duration::from_secs(10));
    wait_for("the stream to be gone", Duration::from_secs(10), || {
        let open = scene.gateway.metric("gatehouse_streams", &[("flow", "c2s")]);
        (open == 0.0).then_some(()).ok_or_else(|| open.to_string())
    });
}

// CLS-04, CLS-05: a host that vanished says nothing, not even that it is gone. Whoever writes to it learns so in T-stanza.
#[test]
fn a_client_whose_host_vanished_is_given_up() {
    let wishes = Wishes { gateway: "timeouts: { stanza: 5s }\n", ..Wishes::default() };
    let (scene, desk) = scene(Legacy::Prosody, &wishes);
    let mut gone = Raw::bound(&desk.host, &desk.roots, SECOND, "far");
    gone.say("<presence/>");
    gone.hear("<presence");
    let mut friend = scene.legacy.login();
    desk.host.unplug();
    friend.message(&format!("{}/far", jid(SECOND)), "are you there?");
    wait_for("the stream to be gone", Duration::from_secs(60), || {
        let open = scene.gateway.metric("gatehouse_streams", &[("flow", "c2s")]);
        (open == 0.0).then_some(()).ok_or_else(|| open.to_string())
    });
}

// ACC-01, XEP-0368: on the mixed listener the protocol decides, and without one there is nobody to talk to.
#[test]
fn the_mixed_listener_goes_by_the_protocol_agreed_on() {
    let (_scene, desk) = scene(Legacy::Prosody, &Wishes::default());
    for (alpn, content) in [("xmpp-client", "jabber:client"), ("xmpp-server", "jabber:server")] {
        let mut raw = Raw::connect(&desk.host, 443);
        raw.secure(&desk.roots, &[alpn]).unwrap();
        raw.say(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='{content}' xmlns:stream='http://etherx.jabber.org/streams' \
             version='1.0' from='friend.example' to='{HOSTED}'>"
        ));
        let heard = raw.hear(">");
        let heard = heard + &raw.hear(">");
        assert!(heard.contains(content), "{alpn}: {heard}");
    }
    let mut raw = Raw::connect(&desk.host, 443);
    raw.secure(&desk.roots, &[]).unwrap();
    raw.open();
    assert_eq!(raw.end().0, "");
    assert!(Raw::connect(&desk.host, 443).secure(&desk.roots, &["http/1.1"]).is_err());
}

// C2S-15: two factors in front of servers that know one: slixmpp and libstrophe by STARTTLS and by direct TLS, slixmpp's resumption (XEP-0198)
// included; with another user's certificate, with one of a foreign authority and with none nobody comes in. (Profanity 0.13, which stands on
// libstrophe, has no way to name a certificate.)
#[test]
fn clients_show_a_certificate_to_servers_that_know_of_none() {
    let folder = tempfile::tempdir().unwrap();
    let (staff, foreign) = (Authority::new("Staff"), Authority::new("Somebody else"));
    let roots = staff.write_root(folder.path());
    let abroad = make_dir(&folder.path().join("abroad"));
    let (user, other) = (jid("warden"), jid(SECOND));
    let own = staff.user(&user, folder.path());
    let others = staff.user(&other, folder.path());
    let strange = foreign.user(&user, &abroad);
    let clients = format!("    clients: {{ certificate: require, roots: \"{}\" }}\n", roots.display());
    for legacy in [Legacy::Prosody, Legacy::Ejabberd, Legacy::Jabberd2] {
        let (scene, desk) = scene(legacy, &Wishes { domain: &clients, ..Wishes::default() });
        for way in [Way::Starttls, Way::Direct(5223)] {
            let arguments = [user.as_str(), "any"];
            let report = desk.slixmpp_showing(way, &own, "login", &arguments);
            let report = report.unwrap_or_else(|log| panic!("{legacy:?} {way:?}: {log}"));
            assert!(report["bound"].as_str().unwrap().starts_with(&format!("{user}/")), "{report}");
            for wrong in [&others, &strange] {
                assert!(desk.slixmpp_showing(way, wrong, "once", &arguments).is_err(), "{legacy:?} {way:?}");
            }
            assert!(desk.try_slixmpp(way, PASSWORD, "once", &arguments).is_err(), "{legacy:?} {way:?}");
            let mut reader = scene.legacy.login_as(SECOND);
            let mail = |body| [user.as_str(), other.as_str(), body];
            // Whoever is refused has not come to the server: one of them is enough.
            if legacy == Legacy::Prosody {
                for wrong in [Some(&others), Some(&strange), None] {
                    let refused = desk.strophe_showing(way, wrong, mail("by one factor"));
                    assert!(refused.is_err(), "{way:?}");
                }
            }
            let sent = desk.strophe_showing(way, Some(&own), mail("by two factors"));
            sent.unwrap_or_else(|said| panic!("{legacy:?} {way:?}: {said}"));
            let heard = reader.expect("the message", |e| e.name == "message" && e.child("body").is_some());
            assert_eq!(heard.child("body").unwrap().text.trim(), "by two factors", "{legacy:?} {way:?}");
        }
        let log = scene.gateway.log();
        for reason in
            ["client-certificate-other", "client-certificate-untrusted", "client-certificate-missing"]
        {
            assert!(log.contains(reason), "{legacy:?}: {reason}");
        }
    }
}
