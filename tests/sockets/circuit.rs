//! Remote servers that do not answer: one attempt for all, a pause that grows, and every stanza back exactly once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use gatehouse::demo::names;
use gatehouse::demo::peer::{Admit, Manner, Vouch, Welcome};
use gatehouse::demo::pki::{Identity, Leaf};
use gatehouse::demo::world::World;
use tokio::io::AsyncWriteExt as _;

use crate::sockets::*;

/// What `gatehouse probe` says of the domain.
async fn probe(world: &World, domain: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(["probe", domain, "--from", HALL, "--config"]).arg(&world.config);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What `gatehouse circuits` with these arguments says, and how it ends.
async fn circuits(world: &World, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.arg("circuits").args(arguments).arg("--socket").arg(world.socket());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// How often what was sent with these bodies came back so far.
fn returned(world: &World) -> usize {
    world.legacy.bounces.all().iter().filter(|n| n.attr("from") == Some("a@friend.example")).count()
}

// CLS-07: "a circuit that opens after failures and says so in metrics and in `probe` .. everything
// unsent bounced with the right condition exactly once".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_left_alone_and_found_again() {
    let world = World::build(&plan().limit("circuit-failures", "2")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let address = friend.address;
    drop(friend);
    let until = Instant::now() + Duration::from_secs(30);
    let mut sent = 0;
    // Two failures in a row; between them nobody knocks.
    while world.metrics().await.unwrap().sum("circuits_open", &[]) < 1.0 {
        world.legacy.message("j@hall.example", "a@friend.example", &format!("n{sent}"));
        sent += 1;
        while returned(&world) < sent {
            assert!(Instant::now() < until, "{sent} were sent, and {} came back", returned(&world));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(Instant::now() < until, "the circuit does not open");
    }
    let told = probe(&world, FRIEND).await;
    assert!(
        told.lines().any(|line| line.starts_with("circuit") && line.contains("open after 2 failures")),
        "{told}"
    );
    // CLS-07: "an operator can see and clear it".
    let (told, code) = circuits(&world, &[]).await;
    let line = told.lines().find(|line| line.starts_with(FRIEND)).unwrap();
    assert!(line.contains("for all  open  2 failures (remote-unreachable)") && code == Some(0), "{told}");
    let (told, code) = circuits(&world, &["--clear", FRIEND, "--format", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (told["cleared"].as_str(), told["circuits"].as_array().map(Vec::len)),
        (Some(FRIEND), Some(0))
    );
    assert_eq!(code, Some(0));
    assert_eq!(
        circuits(&world, &["--clear", FRIEND]).await.1,
        Some(1),
        "nothing is held against it any more"
    );
    assert!(world.metrics().await.unwrap().sum("circuits_open", &[]) < 1.0);
    let limited = world.metrics().await.unwrap().sum("limited_total", &[("limit", "circuit")]);
    assert!(sent < 3 || limited >= 1.0, "{sent} were sent, and {limited} did not knock");
    assert_eq!(returned(&world), sent, "each exactly once");
    for bounce in world.legacy.bounces.all() {
        assert_eq!(condition(&bounce), Some("remote-server-timeout"), "{}", bounce.raw);
    }
    // It comes back, where it was: after the pause it is found, and the circuit closes.
    let friend = world.peer(10, &[FRIEND], gatehouse::demo::peer::Manner::default()).await.unwrap();
    assert_eq!(friend.address, address);
    let until = Instant::now() + Duration::from_secs(30);
    while !friend.inbox.all().iter().any(|n| n.body() == Some("again")) {
        world.legacy.message("j@hall.example", "a@friend.example", "again");
        assert!(Instant::now() < until, "it is not found again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(world.metrics().await.unwrap().sum("circuits_open", &[]) < 1.0);
    assert!(!probe(&world, FRIEND).await.contains("circuit"));
}

/// What the gateway remembers against the domain as the partner of hall.example: whether its circuit is open, and why.
async fn remembered(world: &World, domain: &str) -> (bool, Option<String>) {
    let (socket, request) =
        (world.socket(), format!("{{\"do\":\"target\",\"domain\":\"{domain}\",\"from\":\"{HALL}\"}}\n"));
    let said = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    });
    let said: serde_json::Value = serde_json::from_str(&said.await.unwrap()).unwrap();
    (said["open"].as_bool().unwrap(), said["reason"].as_str().map(str::to_owned))
}

// CLS-07: "failures per target are remembered so that each queued stanza does not start its own attempt", in whatever way
// they fail; and the sender hears of each, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_not_to_be_had_opens_the_circuit_and_says_which() {
    // Direct TLS where something else listens.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route =
        format!("{{ domain: deaf.agency.example, target: \"{}\", tls: direct }}", deaf.local_addr().unwrap());
    let deaf = tokio::spawn(async move {
        while let Ok((mut stream, _)) = deaf.accept().await {
            let _gone = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        }
    });
    let mut plan = plan().limit("circuit-failures", "2").timeout("header", "3s").timeout("dialback", "5s");
    plan.routes.push(route);
    let world = World::build(&plan).await.unwrap();
    let manner = Manner::default;
    let silent = Manner { external: false, admit: Admit::Silent, ..manner() };
    let cases = [
        ("mute.agency.example", Manner { welcome: Welcome::Mute, ..manner() }, "remote-failed"),
        ("gone.agency.example", Manner { welcome: Welcome::HangUp, ..manner() }, "connection-lost"),
        ("clear.agency.example", Manner { starttls: false, ..manner() }, "tls-required"),
        ("rash.agency.example", Manner { with_proceed: Some("<x/>"), ..manner() }, "early-octets"),
        (
            "words.agency.example",
            Manner { welcome: Welcome::Octets(b"HTTP/1.0 400 No\r\n".to_vec()), ..manner() },
            "not-well-formed",
        ),
        ("late.agency.example", silent, "dialback-timeout"),
        // The rule takes a certificate only, and this one is nobody's whom we trust.
        ("pinned.example", manner(), "certificate-untrusted"),
    ];
    let mut peers = Vec::new();
    for (n, (domain, manner, _)) in cases.iter().enumerate() {
        let host = 20 + u8::try_from(n).unwrap();
        peers.push(world.peer(host, &[domain], manner.clone()).await.unwrap());
    }
    let pinned = peers.last().unwrap();
    pinned.show(Identity::self_signed(&Leaf::of(&[pinned.domain()])).unwrap());
    world.names.behave("lost.agency.example", names::Manner::Failing);
    let mut due: Vec<(&str, &str)> = cases.iter().map(|(domain, _, reason)| (*domain, *reason)).collect();
    due.extend([("lost.agency.example", "dns-failed"), ("deaf.agency.example", "wrong-transport")]);

    let until = Instant::now() + Duration::from_secs(60);
    let returned = || world.legacy.bounces.all().len();
    let mut sent = 0;
    let all = due.len();
    while !due.is_empty() {
        for (domain, _) in &due {
            world.legacy.message("j@hall.example", &format!("a@{domain}"), &format!("n{sent}"));
            sent += 1;
        }
        while returned() < sent {
            assert!(Instant::now() < until, "{sent} were sent, {} came back; {due:?}", returned());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut closed = Vec::new();
        for (domain, reason) in due {
            match remembered(&world, domain).await {
                (true, why) => assert_eq!(why.as_deref(), Some(reason), "{domain}"),
                (false, _) => closed.push((domain, reason)),
            }
        }
        due = closed;
    }
    assert_eq!(returned(), sent, "each exactly once");
    for bounce in world.legacy.bounces.all() {
        assert_eq!(condition(&bounce), Some("remote-server-timeout"), "{}", bounce.raw);
    }
    let open = world.metrics().await.unwrap().sum("circuits_open", &[]);
    assert!((open - all as f64).abs() < 0.5, "{open} of {all}");
    let told = probe(&world, "pinned.example").await;
    assert!(told.contains("open after 2 failures (certificate-untrusted)"), "{told}");
    deaf.abort();
}

// What a server says of a pair is its word, and is never remembered: the next claim is asked anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_no_is_there() {
    let world = World::build(&plan().limit("circuit-failures", "1")).await.unwrap();
    let refusing = Manner { external: false, admit: Admit::Never, ..Manner::default() };
    let friend = world.peer(10, &[FRIEND], refusing).await.unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    for sent in 1..=3 {
        world.legacy.message("j@hall.example", "a@friend.example", "no");
        while returned(&world) < sent {
            assert!(Instant::now() < until, "{sent} were sent, and {} came back", returned(&world));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(remembered(&world, FRIEND).await, (false, None));
    // Nor does it matter to us how it fares with its own questions.
    friend.behave(|manner| (manner.admit, manner.vouch) = (Admit::Honest, Vouch::Never));
    let mut stream = friend.call_bare(HALL).unwrap().open().await.unwrap();
    assert_ne!(stream.dialback(FRIEND, HALL).await.unwrap(), gatehouse::demo::session::Word::Valid);
    world.legacy.message("j@hall.example", "a@friend.example", "yes");
    friend.inbox.wait_body("yes").await.unwrap();
}

// CLS-07: "forgotten when the domain shows itself alive: a stream it proved .. is a reason to try at once": with times that
// would keep it away for many minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_proves_a_stream_is_tried_at_once() {
    let mut plan = plan().limit("circuit-failures", "1");
    plan.timeouts = ["retry-demand", "retry-first"].map(|key| (key, "10m".to_owned())).into();
    let world = World::build(&plan).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    drop(friend);
    let until = Instant::now() + Duration::from_secs(30);
    for sent in 1..=2 {
        world.legacy.message("j@hall.example", "a@friend.example", "lost");
        while returned(&world) < sent {
            assert!(Instant::now() < until, "{sent} were sent, and {} came back", returned(&world));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(remembered(&world, FRIEND).await.0);
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    stream.message("a@friend.example", "j@hall.example", "here I am").await.unwrap();
    world.legacy.inbox.wait_body("here I am").await.unwrap();
    world.legacy.message("j@hall.example", "a@friend.example", "welcome back");
    friend.inbox.wait_body("welcome back").await.unwrap();
    assert_eq!(remembered(&world, FRIEND).await, (false, None));
}

// "after any outage of a remote .. traffic flows both ways within 3 s of its return", with the times as shipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_the_first_that_have_something_for_it_find_it() {
    let mut plan = plan();
    plan.timeouts.clear();
    let world = World::build(&plan).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    drop(friend);
    let until = Instant::now() + Duration::from_secs(60);
    let mut sent = 0;
    while world.metrics().await.unwrap().sum("circuits_open", &[]) < 1.0 {
        world.legacy.message("j@hall.example", "a@friend.example", &format!("n{sent}"));
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(Instant::now() < until, "the circuit does not open");
    }
    let friend = peer(&world, 10, FRIEND).await;
    let back = Instant::now();
    while !friend.inbox.all().iter().any(|n| n.body() == Some("again")) {
        world.legacy.message("j@hall.example", "a@friend.example", "again");
        assert!(Instant::now() < until, "it is not found again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A wall of time would stand for a minute or more.
    assert!(back.elapsed() < Duration::from_secs(20), "{:?}", back.elapsed());
    println!("found again after {:?}", back.elapsed());
    let mut stream = by_certificate(&friend, HALL).await;
    stream.message("a@friend.example", "j@hall.example", "and the other way").await.unwrap();
    world.legacy.inbox.wait_body("and the other way").await.unwrap();
}
