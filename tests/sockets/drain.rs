//! Drains of a gateway with live peers: everything in hand is delivered or goes back, counted stanza by stanza.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use gatehouse::demo::world::World;
use rustix::process::Signal;

use crate::sockets::*;
use crate::steering::*;

const STREAMS: usize = 8;
const EACH: usize = 400;

// Zero lost stanzas, counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stanza_is_lost_on_the_way_in() {
    let world = border().await;
    let mut streams = Vec::new();
    let mut peers = Vec::new();
    for n in 0..STREAMS {
        let friend = peer(&world, 10 + u8::try_from(n).unwrap(), FRIEND).await;
        streams.push(by_certificate(&friend, HALL).await);
        peers.push(friend);
    }
    let senders: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(s, mut stream)| {
            tokio::spawn(async move {
                for n in 0..EACH {
                    stream.message("a@friend.example", "j@hall.example", &format!("{s}-{n}")).await.unwrap();
                }
                // What was said before our closing tag is in the gateway's hand, whenever it began to drain.
                let ending = stream.close().await.unwrap();
                assert!(ending.closed);
            })
        })
        .collect();
    // In the middle of it.
    let half = STREAMS * EACH / 4;
    while world.legacy.inbox.len() < half {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let begun = Instant::now();
    world.gate.stop().await.unwrap();
    let took = begun.elapsed();
    for sender in senders {
        sender.await.unwrap();
    }
    // The gateway has written them; the legacy server has to read them still.
    for _ in 0..200 {
        if world.legacy.inbox.len() >= STREAMS * EACH {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let bodies: Vec<String> =
        world.legacy.inbox.all().iter().filter_map(|n| n.body().map(str::to_owned)).collect();
    let different: BTreeSet<&String> = bodies.iter().collect();
    eprintln!("{} sent, {} delivered, drained in {took:?}", STREAMS * EACH, bodies.len());
    assert_eq!((bodies.len(), different.len()), (STREAMS * EACH, STREAMS * EACH), "none lost, none twice");
    for s in 0..STREAMS {
        let own: Vec<_> = bodies.iter().filter(|body| body.starts_with(&format!("{s}-"))).collect();
        assert!(own.iter().enumerate().all(|(n, body)| **body == format!("{s}-{n}")), "in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stanza_is_lost_on_the_way_out() {
    let world = border().await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    for (name, to) in [("friend", &friend), ("cousin", &cousin)] {
        world.legacy.message("j@hall.example", &format!("a@{name}.example"), "first");
        to.inbox.wait_body("first").await.unwrap();
    }
    for n in 0..EACH {
        for name in ["friend", "cousin"] {
            world.legacy.message("j@hall.example", &format!("a@{name}.example"), &format!("{name}-{n}"));
        }
    }
    while friend.inbox.len() < EACH / 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.gate.stop().await.unwrap();
    // What the legacy server had not handed over it keeps or returns to its own users; the gateway has no part in it.
    let handed = {
        let text = std::fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let out = records.filter(|r| r["event"] == "ended" && r["flow"] == "s2s-out");
        out.map(|record| usize::try_from(record["stanzas"].as_u64().unwrap()).unwrap()).sum::<usize>()
    };
    let arrived = || friend.inbox.len() + cousin.inbox.len();
    for _ in 0..1000 {
        if arrived() >= handed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(handed > EACH / 2, "{handed}");
    assert_eq!(arrived(), handed, "every stanza that the gateway took was delivered");
}

// The backend goes in the middle of the drain: what it did not take goes back to whoever sent it.
#[tokio::test]
async fn what_cannot_be_delivered_goes_back_before_the_end() {
    let world = World::build(&plan().timeout("drain", "6s").timeout("close", "500ms")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "stands").await;
    world.legacy.stop().await;
    for n in 0..10 {
        // The stream may hear of the end of its backend at any of them.
        let id = format!(
            "<message from='a@friend.example' to='j@hall.example' id='b{n}'><body>b</body></message>"
        );
        if stream.send(id).await.is_err() {
            break;
        }
    }
    let begun = Instant::now();
    let (stopped, ended) = tokio::join!(world.gate.stop(), stream.close());
    stopped.unwrap();
    drop(ended);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    let bounced = friend.inbox.all().iter().filter(|n| n.attr("type") == Some("error")).count();
    assert_eq!(bounced, 10, "{:#?}", friend.inbox.all());
}

// "Hard end after the configured time": a peer that never closes holds nobody up.
#[tokio::test]
async fn a_drain_ends_when_its_time_is_over() {
    let world = World::build(&plan().timeout("drain", "2s").timeout("close", "1m")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "stands").await;
    let begun = Instant::now();
    world.gate.stop().await.unwrap();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1300) && took < Duration::from_secs(30), "{took:?}");
    let text = std::fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap();
    let ended = text.lines().find(|line| line.contains("\"event\":\"ended\"")).unwrap();
    assert!(ended.contains("\"reason\":\"shutdown\"") && ended.contains("\"stanzas\":1"), "{ended}");
}

// ------------------------------------------------------------------------------------------------ the supervisor

/// What the gateway tells its supervisor, one notice after the other.
struct Supervisor {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Supervisor {
    fn hear(&mut self, words: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let mut octets = [0; 4096];
            match self.socket.recv(&mut octets) {
                Ok(n) => {
                    let notice = String::from_utf8(octets[..n].to_vec()).unwrap();
                    self.heard.push(notice.clone());
                    if notice.contains(words) {
                        return notice;
                    }
                }
                Err(_) => assert!(Instant::now() < end, "{words} was not told; {:?}", self.heard),
            }
        }
    }
}

// Readiness and watchdog notices, reload by the supervisor.
#[test]
fn the_supervisor_hears_of_every_step() {
    let (folder, address) = prepare("");
    let path = folder.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut supervisor = Supervisor { socket, heard: Vec::new() };
    let mut command = Running::command(folder.path());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let mut running = Running::of(folder, address, command);
    supervisor.hear("READY=1");
    for _ in 0..3 {
        supervisor.hear("WATCHDOG=1");
    }
    running.signal(Signal::HUP);
    let notice = supervisor.hear("RELOADING=1");
    assert!(notice.contains("MONOTONIC_USEC="), "{notice}");
    supervisor.hear("READY=1");
    running.signal(Signal::TERM);
    supervisor.hear("STOPPING=1");
    assert_eq!(running.wait().0, 0);
}

// "A restart keeps the listening sockets so that no connection attempt is refused."
#[test]
fn a_socket_of_the_supervisor_outlives_a_restart_and_nobody_is_refused() {
    let (folder, address) = prepare("");
    let listener = std::net::TcpListener::bind(address).unwrap();
    let activated = |folder: &std::path::Path| {
        // As systemd does it: the socket is file descriptor 3, and LISTEN_PID the process itself.
        let mut command = std::process::Command::new("sh");
        command
            .arg("-c")
            .arg("export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" run --config \"$1\" 3<&0 0</dev/null")
            .arg(PROGRAM)
            .arg(folder.join("gatehouse.yaml"))
            .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
        command
    };
    let command = activated(folder.path());
    let mut running = Running::of(folder, address, command);
    assert_eq!(running.stop().0, 0);
    // Nobody serves now; whoever comes waits for the next one.
    let mut early: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let mut command = activated(running.folder.path());
    running.child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    for stream in &mut early {
        use std::io::{Read as _, Write as _};
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"<nonsense/>").unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert!(heard.contains("stream:error"), "{heard}");
    }
    running.wait_ready();
    let (code, log) = running.stop();
    assert_eq!(code, 0, "{log}");
}
