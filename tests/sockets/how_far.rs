//! A connection of ours that nobody waits for any longer: which address was called, and how far it came, in list, record and
//! log; for the question about a dialback key and for our own stanzas.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use gatehouse::demo::names::Manner as Answers;
use gatehouse::demo::peer::{Admit, Manner, Peer, Vouch};
use gatehouse::demo::pki::Leaf;
use gatehouse::demo::session::Word;
use gatehouse::demo::world::{Plan, World};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use crate::sockets::*;
use crate::steering::*;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
     xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' id='i1' version='1.0'>";
const FEATURES: &str =
    "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// Where a server falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    Dns,
    Connecting,
    /// So many of what it should say it has said.
    After(usize),
    AtTheEnd,
}

/// Each with the words that tell it.
const SILENCES: [(&str, Silence, &str); 7] = [
    ("dns.friend.example", Silence::Dns, "the DNS had not said where its servers are"),
    ("connect.friend.example", Silence::Connecting, "took no connection"),
    ("header.friend.example", Silence::After(0), "its stream header did not come"),
    ("features.friend.example", Silence::After(1), "its stream features did not"),
    ("proceed.friend.example", Silence::After(2), "its answer to STARTTLS did not come"),
    ("handshake.friend.example", Silence::After(3), "in the TLS handshake"),
    ("answer.friend.example", Silence::AtTheEnd, "was sent, and its answer did not come"),
];

/// A server that is silent there; what must live for it to be so.
struct Mute {
    peer: Peer,
    called: Option<SocketAddr>,
    _held: Vec<std::net::TcpStream>,
    _task: Option<JoinHandle<()>>,
    _socket: Option<TcpListener>,
}

async fn mute(world: &World, host: u8, domain: &str, silence: Silence) -> Mute {
    let end = Manner { vouch: Vouch::Silent, admit: Admit::Silent, external: false, ..Manner::default() };
    let identity = world.authority.issue(&Leaf::of(&[domain])).unwrap();
    let peer = world.peer_with(host, &[domain], identity, end).await.unwrap();
    let ip = peer.address.ip();
    let mut mute = Mute { called: None, _held: Vec::new(), _task: None, _socket: None, peer };
    match silence {
        Silence::Dns => world.names.behave(domain, Answers::Silent),
        Silence::Connecting => {
            let (socket, held) = full(ip);
            mute.called = Some(socket.local_addr().unwrap());
            (mute._socket, mute._held) = (Some(socket), held);
        }
        Silence::After(count) => {
            let listener = TcpListener::bind((ip, 0)).await.unwrap();
            mute.called = Some(listener.local_addr().unwrap());
            mute._task = Some(tokio::spawn(says(listener, count)));
        }
        Silence::AtTheEnd => mute.called = Some(mute.peer.address),
    }
    if mute.called.is_some() {
        world.names.announce(domain, mute.called, None).unwrap();
    }
    mute
}

/// A listener whose backlog is full: it takes no more connections, and refuses none.
fn full(ip: IpAddr) -> (TcpListener, Vec<std::net::TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip, 0)).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(one) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        held.push(one);
        assert!(held.len() < 10, "the backlog never fills");
    }
    (listener, held)
}

async fn says(listener: TcpListener, count: usize) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut heard = [0; 4096];
            for words in [HEADER, FEATURES, PROCEED].iter().take(count) {
                if *words == PROCEED {
                    let _starttls = stream.read(&mut heard).await;
                }
                stream.write_all(words.as_bytes()).await.unwrap();
            }
            while stream.read(&mut heard).await.is_ok_and(|octets| octets > 0) {}
        });
    }
}

/// Times so long that only the one of the test ends anything.
fn patient() -> Plan {
    ["header", "tls", "connect", "connect-total", "dns", "dns-total"]
        .into_iter()
        .fold(plan(), |plan, name| plan.timeout(name, "50s"))
}

/// The refusal in this direction, once it is there, and the record of it.
async fn told(world: &World, domain: &str, flow: &str) -> Value {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let all = ask(&world.socket(), &["refusals", "--domain", domain]).await;
        if let Some(refusal) = all.as_array().unwrap().iter().find(|r| r["flow"] == flow) {
            let text = std::fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap();
            let detail = refusal["detail"].as_str().unwrap_or_default();
            if text.lines().any(|line| line.contains(&serde_json::to_string(detail).unwrap())) {
                return refusal.clone();
            }
            assert!(Instant::now() < end, "no record says {refusal:#}: {text}");
        }
        assert!(Instant::now() < end, "{domain} was not refused: {all:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn names_address_and_step(refusal: &Value, mute: &Mute, words: &str) {
    let detail = refusal["detail"].as_str().unwrap_or_default();
    assert_eq!((&refusal["reason"], &refusal["cause"]), (&"dialback-timeout".into(), &"timed-out".into()));
    assert!(detail.contains(words), "{refusal:#}");
    if let Some(called) = mute.called {
        let peer = refusal["peer"].as_str().unwrap_or_default();
        assert!(format!("{detail} {peer}").contains(&called.to_string()), "{called}: {refusal:#}");
    }
}

// LOG-01: the server that should vouch for a key is silent, wherever that begins.
#[tokio::test]
async fn a_silent_authority_is_told_with_its_address_and_how_far_it_came() {
    let world = World::build(&patient().timeout("dialback", "4s")).await.unwrap();
    let mut all = Vec::new();
    for (host, (domain, silence, words)) in (10..).zip(SILENCES) {
        all.push((domain, mute(&world, host, domain, silence).await, words));
    }
    let mut streams = Vec::new();
    for (domain, mute, _) in &all {
        let mut stream = mute.peer.call_bare(HALL).unwrap().open().await.unwrap();
        stream.claim(domain, HALL).await.unwrap();
        streams.push(stream);
    }
    for (domain, mute, words) in &all {
        let refusal = told(&world, domain, "s2s-in").await;
        names_address_and_step(&refusal, mute, words);
        assert!(
            refusal["detail"].as_str().unwrap().contains("asking the authoritative server"),
            "{refusal:#}"
        );
    }
    for stream in &mut streams {
        let answer = stream.wire.element().await.unwrap();
        assert_eq!(
            answer.child("error").unwrap().condition(),
            Some("remote-server-timeout"),
            "{}",
            answer.raw
        );
    }
    // The page for people, and the command, have the same words.
    let page = world.get("/status").await.unwrap();
    let status = tell(&world.socket(), &["refusals", "--last", "50"]).await.out;
    for (_, mute, words) in &all {
        let at = mute.called.map(|address| address.to_string()).unwrap_or_default();
        assert!(page.0 == 200 && page.1.contains(words) && page.1.contains(&at), "{words} {at}: {}", page.1);
        assert!(status.contains(words) && status.contains(&at), "{words} {at}: {status}");
    }
}

// The receiving server is silent: our own stanzas come back, and the operator reads where they were stuck.
#[tokio::test]
async fn a_silent_receiver_is_told_with_its_address_and_how_far_it_came() {
    let plan = patient().timeout("queue", "4s").timeout("dialback", "50s");
    let world = World::build(&plan).await.unwrap();
    let mut all = Vec::new();
    for (host, (domain, silence, words)) in (10..).zip(SILENCES) {
        all.push((domain, mute(&world, host, domain, silence).await, words));
    }
    for (domain, ..) in &all {
        world.legacy.message("j@hall.example", &format!("a@{domain}"), "anybody?");
    }
    for (domain, mute, words) in &all {
        let refusal = told(&world, domain, "s2s-out").await;
        names_address_and_step(&refusal, mute, words);
    }
}

// The command that goes the same way by hand says as much.
#[tokio::test]
async fn probe_tells_the_address_and_how_far_it_came() {
    let world = World::build(&plan().timeout("unauth", "5s").timeout("header", "3s").timeout("tls", "3s"))
        .await
        .unwrap();
    let mut running = Vec::new();
    for (host, (domain, silence, words)) in (10..).zip(SILENCES) {
        let (Silence::After(_), mute) = (silence, mute(&world, host, domain, silence).await) else {
            continue;
        };
        let words = if words == "in the TLS handshake" { "in the handshake" } else { words };
        let config = world.folder.path().join("gatehouse.yaml").display().to_string();
        running.push((
            mute,
            words,
            tokio::task::spawn_blocking(move || run(&["probe", domain, "--config", &config])),
        ));
    }
    assert_eq!(running.len(), 4);
    for (mute, words, probe) in running {
        let said = probe.await.unwrap();
        let address = mute.called.unwrap().to_string();
        assert!(
            said.code != 0 && said.out.contains(words) && said.out.contains(&address),
            "{words}: {said:?}"
        );
    }
}

// A server that leaves says nothing; how far it had come is known all the same.
#[tokio::test]
async fn a_server_that_hangs_up_is_told_with_its_address_and_how_far_it_came() {
    let world = border().await;
    let steps = [
        ("header.friend.example", 0, "its stream header did not come"),
        ("features.friend.example", 1, "its stream features did not"),
        ("proceed.friend.example", 2, "its answer to STARTTLS did not come"),
    ];
    for (host, (domain, count, words)) in (10..).zip(steps) {
        let mute = mute(&world, host, domain, Silence::Dns).await;
        let listener = TcpListener::bind((mute.peer.address.ip(), 0)).await.unwrap();
        let called = listener.local_addr().unwrap();
        world.names.behave(domain, Answers::Slow(Duration::ZERO));
        world.names.announce(domain, Some(called), None).unwrap();
        let leaving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut heard = [0; 4096];
                let _header = stream.read(&mut heard).await;
                for words in [HEADER, FEATURES].iter().take(count) {
                    stream.write_all(words.as_bytes()).await.unwrap();
                }
                if count == 2 {
                    let _starttls = stream.read(&mut heard).await;
                }
            }
        });
        let mut stream = mute.peer.call_bare(HALL).unwrap().open().await.unwrap();
        let word = stream.dialback(domain, HALL).await.unwrap();
        assert!(matches!(word, Word::Error(_)), "{domain}: {word:?}");
        let refusal = told(&world, domain, "s2s-in").await;
        let detail = refusal["detail"].as_str().unwrap();
        assert_eq!(refusal["cause"], "cut", "{refusal:#}");
        assert!(detail.contains(words) && detail.contains(&called.to_string()), "{refusal:#}");
        leaving.abort();
    }
}
