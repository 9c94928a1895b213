//! What an operator is told afterwards: refusals at hand with cause, rule and remedy, and records that say who it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::pki::{Authority, Identity, Leaf};
use gatehouse::demo::session::Word;
use gatehouse::demo::world::World;
use serde_json::Value;

use std::time::Duration;

use crate::apart::Apart;
use crate::sockets::*;
use crate::steering::*;

/// The refusals that fit, once there is one.
async fn refusals(world: &World, arguments: &[&str]) -> Vec<Value> {
    for _ in 0..500 {
        let answer = ask(&world.socket(), &[&["refusals"], arguments].concat()).await;
        let found = answer.as_array().unwrap().clone();
        if !found.is_empty() {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let all = ask(&world.socket(), &["refusals"]).await;
    panic!("nothing was refused for {arguments:?}: {all:#}");
}

/// A server of this domain that the DNS knows, with that certificate.
async fn with_certificate(world: &World, host: u8, domain: &str, identity: Identity) -> Peer {
    let peer = world.peer_with(host, &[domain], identity, Manner::default()).await.unwrap();
    world.names.announce(domain, Some(peer.address), None).unwrap();
    peer
}

// A typo in a rule's domain: the list looks right, and the partner is refused all the same.
#[tokio::test]
async fn a_partner_that_no_rule_names_is_told_with_the_rule_that_looks_like_it() {
    let world = border().await;
    let fiend = peer(&world, 10, "fiend.example").await;
    let mut stream = fiend.call_bare(HALL).unwrap().open().await.unwrap();
    assert!(matches!(stream.dialback("fiend.example", HALL).await.unwrap(), Word::Error(_)));
    let found = refusals(&world, &["--domain", "fiend.example"]).await;
    let refusal = &found[0];
    assert_eq!((&refusal["reason"], &refusal["what"]), (&"not-listed".into(), &"pair".into()));
    assert_eq!((&refusal["from"], &refusal["to"]), (&"fiend.example".into(), &HALL.into()));
    let nearest = refusal["nearest"].as_str().unwrap();
    assert!(
        nearest.starts_with("friend.example in rule partners at ") && nearest.contains(".yaml:"),
        "{nearest}"
    );
    assert!(refusal["remedy"].as_str().unwrap().contains("rule"), "{refusal}");
    let said = tell(&world.socket(), &["refusals", "--reason", "not-listed"]).await;
    assert_eq!(said.code, 0);
    assert!(said.out.contains("nearest: friend.example in rule partners"), "{}", said.out);
    // The socket is found in the configuration, too.
    let config = world.config.display().to_string();
    let by_config =
        tokio::task::spawn_blocking(move || run(&["refusals", "--config", &config])).await.unwrap();
    assert_eq!(by_config.code, 0, "{by_config:?}");
    assert!(by_config.out.contains("fiend.example"), "{by_config:?}");
    assert_eq!(run_aside(&["refusals", "--config", "/nonexistent/gatehouse.yaml"]).await.code, 78);
}

async fn run_aside(arguments: &[&str]) -> Said {
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let run = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

// Contract 6a: which rule, with file and line.
#[tokio::test]
async fn a_deny_rule_is_told_with_its_file_and_line() {
    let world = border().await;
    let spam = peer(&world, 10, "spam.friend.example").await;
    let mut stream = spam.call_bare(HALL).unwrap().open().await.unwrap();
    assert!(matches!(stream.dialback("spam.friend.example", HALL).await.unwrap(), Word::Error(_)));
    let found = refusals(&world, &["--domain", "spam.friend.example"]).await;
    assert_eq!((&found[0]["reason"], &found[0]["rule"]), (&"blocked".into(), &"banned".into()));
    let place = found[0]["place"].as_str().unwrap();
    assert!(place.contains("hall.example.yaml:8"), "{place}");
    assert!(found[0]["nearest"].is_null(), "a rule has decided: {}", found[0]);
}

// Partner's CA untrusted, certificate expired, for another name, issued by itself: outbound and inbound, each told as what it
// is; and the record names the address that was called.
#[tokio::test]
async fn what_is_wrong_with_a_partners_certificate_is_told_in_the_list_and_in_the_record() {
    let world = border().await;
    let leaf = |name: &str| Leaf::of(&[name]);
    let expired = Leaf { expired: true, ..leaf("old.friend.example") };
    let unknown = Authority::new("Somebody's Own Root").unwrap();
    let table = [
        ("old.friend.example", world.authority.issue(&expired).unwrap(), "expired", "expired on 20"),
        (
            "own.friend.example",
            unknown.issue(&leaf("own.friend.example")).unwrap(),
            "unknown-issuer",
            "Somebody's Own Root",
        ),
        (
            "alone.friend.example",
            Identity::self_signed(&leaf("alone.friend.example")).unwrap(),
            "self-signed",
            "by itself",
        ),
        (
            "other.friend.example",
            world.authority.issue(&leaf("elsewhere.example")).unwrap(),
            "other-name",
            "elsewhere.example",
        ),
    ];
    for (host, (domain, identity, cause, words)) in (10..).zip(table) {
        let peer = with_certificate(&world, host, domain, identity).await;
        world.legacy.message("j@hall.example", &format!("a@{domain}"), "out");
        let found = refusals(&world, &["--domain", domain, "--reason", cause]).await;
        let outward = found.iter().find(|r| r["flow"] == "s2s-out" && r["what"] == "pair");
        let refusal = outward.unwrap_or_else(|| panic!("{domain}: {found:?}"));
        assert_eq!(refusal["reason"], "certificate-untrusted");
        assert!(refusal["detail"].as_str().unwrap().contains(words), "{refusal}");
        assert_eq!(refusal["peer"], peer.address.to_string(), "the address called: {refusal}");
        // Where many are expired at once it is this machine's clock that is wrong.
        assert_eq!(cause == "expired", refusal["remedy"].as_str().unwrap().contains("clock"), "{refusal}");
        let record = records(&world, 1, |r| r["event"] == "rejected" && r["cause"] == cause).await;
        assert_eq!(record[0]["peer"], peer.address.to_string());
    }
}

// Partner not callable: which address, and what the system said.
#[tokio::test]
async fn a_partner_that_cannot_be_called_is_told_with_the_address_and_the_error() {
    let world = border().await;
    let closed = {
        let peer = peer(&world, 10, "gone.friend.example").await;
        peer.address
    };
    world.names.announce("gone.friend.example", Some(closed), None).unwrap();
    world.legacy.message("j@hall.example", "a@gone.friend.example", "out");
    let found = refusals(&world, &["--domain", "gone.friend.example", "--reason", "not-reached"]).await;
    let detail = found[0]["detail"].as_str().unwrap();
    assert!(detail.contains(&closed.to_string()) && detail.contains("refused"), "{detail}");
    assert!(found[0]["remedy"].as_str().unwrap().contains("firewall"), "{}", found[0]);
}

// LOG-01, in every record of a pair: also when an operator ended it.
#[tokio::test]
async fn a_pair_that_a_ban_ends_keeps_its_proof_channel_and_address_in_the_record() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut inward = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut inward, "a@friend.example", "j@hall.example", "in").await;
    world.legacy.message("j@hall.example", "a@friend.example", "out");
    friend.inbox.wait_body("out").await.unwrap();
    assert_eq!(tell(&world.socket(), &["ban", FRIEND, "--for", "1h"]).await.code, 0);
    for (pair, event) in [
        ("friend.example>hall.example", "admitted"),
        ("friend.example>hall.example", "ended"),
        ("hall.example>friend.example", "admitted"),
        ("hall.example>friend.example", "ended"),
    ] {
        let record = &records(&world, 1, |r| r["event"] == event && r["pair"] == pair).await[0];
        assert_eq!(record["proof"], "certificate", "{record}");
        assert_eq!(record["tls"], "1.3", "{record}");
        for key in ["suite", "fingerprint", "revocation", "rule"] {
            assert!(record[key].is_string(), "{key} in {record}");
        }
        let peer: std::net::SocketAddr = record["peer"].as_str().unwrap().parse().unwrap();
        assert_eq!(peer.ip(), friend.address.ip(), "never the backend's: {record}");
        if pair.starts_with("hall") {
            assert_eq!(peer, friend.address, "the address called");
        }
    }
    let file = world.folder.path().join("audit.jsonl").display().to_string();
    let said = run_aside(&["audit", "report", &file, "--since", "7d"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    for word in
        ["2 pairs", "friend.example>hall.example", "proof certificate", "rule partners", "ban: 1 times"]
    {
        assert!(said.out.contains(word), "{word} in {}", said.out);
    }
    let csv = run_aside(&["audit", "report", &file, "--format", "csv"]).await.out;
    let row = csv
        .lines()
        .find(|line| line.starts_with("pair,s2s-in,friend.example,hall.example,1,1,"))
        .unwrap_or_else(|| panic!("{csv}"));
    assert!(row.contains(",certificate,1.3,partners,"), "{row}");
}

/// What an address of the admin listener answers, head and body.
async fn get(world: &World, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(world.at.admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until the gauge of the side for servers shows this.
async fn backend_up(world: &World, value: u8) {
    let line = format!("gatehouse_backend_up{{domain=\"hall.example\",flow=\"s2s-in\"}} {value}\n");
    let mut text = String::new();
    for _ in 0..500 {
        text = get(world, "/metrics").await;
        if text.contains(&line) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the gauge does not come to {value}: {text}");
}

/// Waits until `/readyz` names no backend: each side is looked at in its own time.
async fn all_ready(world: &World) {
    let mut answer = String::new();
    for _ in 0..500 {
        answer = get(world, "/readyz").await;
        if answer.ends_with("\r\n\r\nready\n") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{answer}");
}

// One truth: gauge, /readyz and status say the same of a backend that goes and comes back, although nobody calls; and the
// gateway is ready all the same, for it answers for others.
#[tokio::test]
async fn a_backend_that_goes_is_told_with_its_address_and_error_and_is_found_again() {
    let world = World::build(&gatehouse::demo::world::Plan { check: "1s", ..plan() }).await.unwrap();
    backend_up(&world, 1).await;
    all_ready(&world).await;
    world.legacy.stop().await;
    backend_up(&world, 0).await;
    let ready = get(&world, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("backend hall.example s2s-in down: "),
        "{ready}"
    );
    assert!(ready.contains(&world.legacy.s2s.to_string()) && ready.contains("refused"), "{ready}");
    let status = ask(&world.socket(), &["status"]).await;
    let snapshot = &status["snapshot"];
    let side = snapshot["backends"]
        .as_array()
        .unwrap()
        .iter()
        .find(|b| b["domain"] == HALL && b["flow"] == "s2s-in")
        .unwrap();
    assert_eq!(side["state"], "down");
    assert!(side["addresses"][0]["trouble"].as_str().unwrap().contains("firewall"), "what to do: {side}");
    assert!(!snapshot["alarms"].as_array().unwrap().is_empty());
    world.legacy.resume().await.unwrap();
    backend_up(&world, 1).await;
    all_ready(&world).await;
}

// Wrong back-end port at run time: said by the running gateway, with the address.
#[test]
fn a_wrong_port_of_the_backend_is_told_by_the_running_gateway() {
    let mut running = Running::start("");
    let config = running.folder.path().join("gatehouse.yaml").display().to_string();
    let mut said = run(&["status", "--config", &config]);
    until("the first look", || {
        said = run(&["status", "--config", &config]);
        said.out.contains(" down")
    });
    assert!(said.out.contains("127.0.0.1:9") && said.out.contains("it takes no connection"), "{said:?}");
    assert!(said.out.contains("port in `backend:`"), "{said:?}");
    // Where it looks for other domains is not the trouble, and not said to be.
    assert!(!said.out.contains("looks for other domains elsewhere"), "{said:?}");
    let probed = run(&["probe", "--backend", "hall.example", "--config", &config]);
    assert!(probed.code == 1 && !probed.out.contains("elsewhere"), "{probed:?}");
    let (code, log) = running.stop();
    assert_eq!(code, 0);
    assert!(log.contains("backend is down") && log.contains("127.0.0.1:9"), "{log}");
}

// Contract 6a: the page, the JSON beside it and the command line show the same; read only, and nothing runs in it.
#[tokio::test]
async fn the_status_page_shows_who_federates_and_who_was_refused() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "in").await;
    let fiend = peer(&world, 11, "fiend.example").await;
    let mut other = fiend.call_bare(HALL).unwrap().open().await.unwrap();
    assert!(matches!(other.dialback("fiend.example", HALL).await.unwrap(), Word::Error(_)));
    refusals(&world, &["--domain", "fiend.example"]).await;
    let page = get(&world, "/status").await;
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'sha256-"), "{head}");
    for word in [
        "friend.example",
        "certificate",
        "partners",
        "fiend.example",
        "nearest: friend.example",
        "hall.example",
        "days",
    ] {
        assert!(body.to_lowercase().contains(word), "{word} in {body}");
    }
    let json: Value =
        serde_json::from_str(get(&world, "/status.json").await.split_once("\r\n\r\n").unwrap().1).unwrap();
    let pair = &json["pairs"][0];
    assert_eq!(
        (&pair["from"], &pair["proof"], &pair["rule"], &pair["stanzas"]),
        (&FRIEND.into(), &"certificate".into(), &"partners".into(), &1.into())
    );
    assert_eq!(json["refusals"][0]["from"], "fiend.example");
    assert!(
        json["rules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule["name"] == "partners" && rule["used"].is_string())
    );
    assert!(json["certificates"][0]["days"].as_i64().is_some());
    let said = tell(&world.socket(), &["status"]).await;
    assert!(said.out.contains("friend.example > hall.example  inbound  proof certificate"), "{}", said.out);
    assert!(get(&world, "/status?page=9999").await.starts_with("HTTP/1.1 200"));
    assert!(get(&world, "/status?page=-1&page=<script>").await.starts_with("HTTP/1.1"));
}

// Levels and areas change while it runs; a slip is told with what there is.
#[test]
fn a_running_gateway_logs_more_when_asked_and_says_what_it_does_not_know() {
    let mut running = Running::start("");
    let config = running.folder.path().join("gatehouse.yaml").display().to_string();
    let said = run(&["log", "debug", "--area", "backend", "--for", "10m", "--config", &config]);
    assert_eq!((said.code, said.out.as_str()), (0, "logging backend at debug for 600 s\n"), "{said:?}");
    let wrong = run(&["log", "debug", "--area", "moon", "--config", &config]);
    assert!(wrong.code == 1 && wrong.err.contains("dns"), "{wrong:?}");
    assert_eq!(run(&["log", "trace", "--config", &config]).code, 0);
    {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(running.address).unwrap();
        stream.write_all(b"<nonsense/>").unwrap();
        let _ended = stream.read_to_end(&mut Vec::new());
    }
    let probe = run(&["probe", "hall.example", "--backend", "--config", &config]);
    assert_eq!(probe.code, 1, "{probe:?}");
    assert!(probe.out.contains("127.0.0.1:9") && probe.out.contains("takes no connection"), "{probe:?}");
    let (code, log) = running.stop();
    assert_eq!(code, 0);
    assert!(log.contains("DEBUG"), "{log}");
}

// What a verifier met is told where the key was refused: the server that called and the one that was asked are two. Each
// member: the address of the authoritative server, the cause, and what to do, in list, record and words.
#[tokio::test]
async fn what_stood_in_the_way_of_a_verification_is_told_where_the_key_was_refused() {
    use gatehouse::demo::peer::{Vouch, Welcome};
    let world = World::build(&plan().timeout("dialback", "10s").timeout("header", "3s")).await.unwrap();
    let issue = |domain: &str| world.authority.issue(&Leaf::of(&[domain])).unwrap();
    let closed = {
        let gone = world.peer_with(40, &["nobody.example"], issue("nobody.example"), Manner::default());
        gone.await.unwrap().address
    };
    let clear = Manner { starttls: false, ..Manner::default() };
    let hangs_up = Manner { welcome: Welcome::HangUp, ..Manner::default() };
    let mute = Manner { welcome: Welcome::Mute, ..Manner::default() };
    let says = Manner { vouch: Vouch::Error("item-not-found"), ..Manner::default() };
    let table = [
        ("closed.friend.example", Manner::default(), Some(closed), "not-reached"),
        ("unknown.friend.example", Manner::default(), None, "no-such-domain"),
        ("clear.friend.example", clear, None, "no-tls"),
        ("hangs.friend.example", hangs_up, None, "cut"),
        ("mute.friend.example", mute, None, "timed-out"),
        ("says.friend.example", says, None, "peer-said"),
    ];
    for (host, (domain, manner, elsewhere, cause)) in (10..).zip(table) {
        let server = world.peer_with(host, &[domain], issue(domain), manner).await.unwrap();
        let asked = elsewhere.unwrap_or(server.address);
        if cause != "no-such-domain" {
            world.names.announce(domain, Some(asked), None).unwrap();
        }
        let mut stream = server.call_bare(HALL).unwrap().open().await.unwrap();
        let word = stream.dialback(domain, HALL).await.unwrap();
        assert!(matches!(word, Word::Error(_)), "{domain}: {word:?}");
        let found = refusals(&world, &["--domain", domain]).await;
        let refusal = found.iter().find(|r| r["flow"] == "s2s-in").unwrap_or_else(|| panic!("{found:#?}"));
        let detail = refusal["detail"].as_str().unwrap_or_default();
        assert_eq!(refusal["cause"], cause, "{refusal:#}");
        assert!(detail.contains("asking the authoritative server"), "{refusal:#}");
        assert!(cause == "no-such-domain" || detail.contains(&asked.to_string()), "{refusal:#}");
        let fits = |r: &Value| r["event"] == "rejected" && r["cause"] == cause && r["detail"] == detail;
        records(&world, 1, fits).await;
        assert!(!refusal["remedy"].as_str().unwrap().is_empty(), "{refusal:#}");
        println!("{domain}: {} / {detail}", refusal["reason"]);
    }
}

/// Plays the server behind: believes no key, and never asks.
async fn believes_nobody(listener: tokio::net::TcpListener, answer: &'static str) {
    use gatehouse::demo::session::Greeting;
    use gatehouse::demo::wire::Wire;
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut wire = Wire::new(stream);
            wire.header().await.unwrap();
            let greeting = Greeting { id: Some("L".to_owned()), ..Greeting::default() };
            wire.send(greeting.octets()).await.unwrap();
            let claim = wire.element().await.unwrap();
            let (from, to) = (claim.attr("to").unwrap().to_owned(), claim.attr("from").unwrap().to_owned());
            let answer = answer.replace("FROM", &from).replace("TO", &to);
            wire.send(answer).await.unwrap();
            let _ended = wire.item().await;
        });
    }
}

/// The alarms of the status page about where the server behind looks.
async fn said_to_look_elsewhere(world: &World) -> bool {
    let status = ask(&world.socket(), &["status"]).await;
    let alarms = status["snapshot"]["alarms"].as_array().unwrap().clone();
    alarms.iter().any(|alarm| alarm.as_str().unwrap().contains("find foreign domains at the inside listener"))
}

// "Steering not used": told for a partner, once two domains that no rule names have met it, and never while another cause is in sight.
#[tokio::test]
async fn a_server_behind_that_looks_elsewhere_is_told_and_no_unlisted_domain_makes_it_seem_so() {
    let invalid = "<db:result from='FROM' to='TO' type='invalid'/>";
    let unwanted = "<db:result from='FROM' to='TO' type='error'><error type='cancel'><policy-violation \
                    xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>";
    let open = || gatehouse::demo::world::Plan::open(HALL);
    let cases: [(_, &str, &[&str], bool); 4] = [
        (plan(), invalid, &["friend.example"], true),
        (open(), invalid, &["friend.example"], false),
        (open(), invalid, &["friend.example", "cousin.test"], true),
        (plan(), unwanted, &["friend.example"], false),
    ];
    for (plan, answer, domains, expected) in cases {
        let world = World::build(&plan).await.unwrap();
        world.legacy.stop().await;
        let listener = tokio::net::TcpListener::bind(world.legacy.s2s).await.unwrap();
        let playing = tokio::spawn(believes_nobody(listener, answer));
        for (host, domain) in (10..).zip(domains) {
            let server = peer(&world, host, domain).await;
            let mut stream = server.call_bare(HALL).unwrap().open().await.unwrap();
            assert!(matches!(stream.dialback(domain, HALL).await.unwrap(), Word::Error(_)), "{domain}");
            refusals(&world, &["--domain", domain]).await;
        }
        assert_eq!(said_to_look_elsewhere(&world).await, expected, "{domains:?} {answer}");
        playing.abort();
        let _ended = playing.await;
        // It is mended: the server comes, and nothing is said any more.
        world.legacy.resume().await.unwrap();
        let server = peer(&world, 30, "cousin.example").await;
        by_dialback(&server, HALL).await;
        assert!(!said_to_look_elsewhere(&world).await);
    }
}

/// Listens where another server has just been stopped: its socket goes a moment later.
async fn instead_of(address: std::net::SocketAddr) -> tokio::net::TcpListener {
    let begun = std::time::Instant::now();
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(5), "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// "An old server whose own verification hangs": the peer has proven who it is, by certificate or by its key, and is not blamed;
// the reason, the remedy and the record speak of the server behind.
#[tokio::test]
async fn a_server_behind_that_never_answers_is_named_and_no_peer_is_blamed() {
    let world = World::build(&plan().timeout("dialback", "5s")).await.unwrap();
    world.legacy.stop().await;
    let listener = instead_of(world.legacy.s2s).await;
    let playing = tokio::spawn(believes_nobody(listener, " "));
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let by_name = async {
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
        let login = stream.external(FRIEND).await;
        assert!(!matches!(login, Ok(gatehouse::demo::session::Login::Success)), "{login:?}");
    };
    let by_key = async {
        let mut stream = cousin.call_bare(HALL).unwrap().open().await.unwrap();
        let word = stream.dialback(COUSIN, HALL).await;
        assert!(!matches!(word, Ok(Word::Valid | Word::Invalid)), "{word:?}");
    };
    tokio::join!(by_name, by_key);
    for domain in [FRIEND, COUSIN] {
        let found = refusals(&world, &["--domain", domain]).await;
        assert_eq!(found[0]["reason"], "backend-silent", "{found:#?}");
        assert!(found[0]["remedy"].as_str().unwrap().contains("old server"), "{}", found[0]);
        let fits = |r: &Value| r["event"] == "rejected" && r["pair"] == format!("{domain}>{HALL}");
        assert_eq!(records(&world, 1, fits).await[0]["reason"], "backend-silent");
    }
    let denied = world.metrics().await.unwrap().sum("authentications_total", &[("outcome", "deny")]);
    assert!(denied.abs() < 1e-9, "nobody's proof was found wanting: {denied}");
    playing.abort();
}

// Item 6: "One line in the log for a refusal, not six": one event is one line, one entry and one audit record, whichever way
// it comes, and whatever follows from it. Who it is about is the remote domain, never the server behind; where no rule names
// it, the one that looks most like it is told.
#[tokio::test]
async fn a_refusal_is_told_once_in_each_place() {
    let plan = gatehouse::demo::world::Plan { log: "info", ..plan() };
    let apart = Apart::build(&plan).await;
    let world = &apart.world;
    let closed = peer(world, 20, "gone.friend.example").await.address;
    world.names.announce("gone.friend.example", Some(closed), None).unwrap();
    let told = async |domain: &str, times: u64| {
        let found = refusals(world, &["--domain", domain]).await;
        let found = match found.first().is_some_and(|first| first["times"] == times) {
            true => found,
            false => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                refusals(world, &["--domain", domain]).await
            }
        };
        assert_eq!(found.len(), 1, "{domain}: {found:#?}");
        assert_eq!(found[0]["times"], times, "{:#}", found[0]);
        let kept = records(world, 1, |r| {
            let is_refusal = r["event"] == "refused" || r["event"] == "rejected";
            is_refusal && r["pair"].as_str().is_some_and(|pair| pair.contains(domain))
        });
        let kept = kept.await;
        assert_eq!(kept.len(), 1, "{kept:#?}");
        let log = apart.log();
        let lines: Vec<&str> =
            log.lines().filter(|line| line.contains(domain) && !line.contains(" control action=")).collect();
        assert_eq!(lines.len(), 1, "{lines:#?}\n{log}");
        (found[0].clone(), kept[0].clone(), lines[0].to_owned())
    };
    // Outbound, refused by the policy before any call: the first stanza and those that come after it.
    for _ in 0..3 {
        world.legacy.message("j@hall.example", "a@fiend.example", "out");
    }
    apart.logged("fiend.example").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (entry, record, line) = told("fiend.example", 3).await;
    assert_eq!((&entry["reason"], &entry["flow"]), (&"not-listed".into(), &"s2s-out".into()));
    assert_eq!((&entry["from"], &entry["to"]), (&HALL.into(), &"fiend.example".into()));
    for (place, text) in [("entry", entry.to_string()), ("record", record.to_string()), ("line", line)] {
        assert!(text.contains("friend.example in rule partners at "), "{place}: {text}");
        assert!(
            !text.contains(&world.legacy.s2s.ip().to_string()),
            "{place} names the server behind: {text}"
        );
    }
    assert_eq!(record["rule"], "default");
    // Outbound, not to be reached: what waited for the leg goes back for that.
    for _ in 0..3 {
        world.legacy.message("j@hall.example", "a@gone.friend.example", "out");
    }
    let (entry, _, line) = told("gone.friend.example", 1).await;
    assert_eq!((&entry["what"], &entry["cause"]), (&"pair".into(), &"not-reached".into()));
    assert!(line.contains("pair rejected") && line.contains(&closed.to_string()), "{line}");
    // Inbound: offered nothing, it claims all the same, and goes on claiming.
    let lookalike = peer(world, 21, "cousln.example").await;
    let mut stream = lookalike.call(HALL).unwrap().open().await.unwrap();
    for _ in 0..3 {
        assert!(matches!(stream.dialback("cousln.example", HALL).await.unwrap(), Word::Error(_)));
    }
    let _closed = stream.close().await;
    let (entry, record, _) = told("cousln.example", 3).await;
    assert!(entry["nearest"].as_str().unwrap().starts_with("cousin.example"), "{entry:#}");
    assert_eq!(entry["nearest"], record["nearest"]);
    // A client whose password is wrong: its stream ends for that.
    assert!(world.login_from_outside("juliet", HALL, Some("wrong")).await.is_err());
    apart.logged("sasl-refused").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let log = apart.log();
    assert_eq!(log.matches("sasl-refused").count(), 1, "{log}");
}
