//! What a server behind is told of those who are brought to it for federation (`s2s-proxy-protocol: v2`): the header is read by
//! HAProxy, and by a tap in front of it octet for octet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::sockets::*;
use gatehouse::demo::session::Word;
use gatehouse::demo::world::World;
use gatehouse::demo::{bind, free};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// HAProxy, which takes connections with a PROXY header and hands them on without one. It ends with the test.
struct Receiver {
    child: Child,
    log: std::path::PathBuf,
}

impl Receiver {
    async fn start(world: &World, at: SocketAddr, server: SocketAddr) -> Self {
        let folder = world.folder.path();
        let (config, log) = (folder.join("haproxy.cfg"), folder.join("haproxy.log"));
        let text = format!(
            "global\n  log stdout format raw local0\ndefaults\n  mode tcp\n  log global\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\nfrontend federation\n  bind {at} accept-proxy\n  \
             log-format \"src=%[src] authority=%[fc_pp_authority] unique=%[fc_pp_unique_id] end\"\n  default_backend legacy\n\
             backend legacy\n  server one {server}\n"
        );
        std::fs::write(&config, text).unwrap();
        let out = std::fs::File::create(&log).unwrap();
        let child = Command::new("/usr/sbin/haproxy")
            .args(["-db", "-f"])
            .arg(&config)
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(at).await.is_err() {
            assert!(Instant::now() < end, "{}", std::fs::read_to_string(&log).unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { child, log }
    }

    /// Waits until it has told of a connection in these words.
    async fn told(&self, words: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap();
            if log.contains(words) {
                return;
            }
            assert!(Instant::now() < end, "{words} is not in {log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A header as the specification lays it out.
#[derive(Clone, Debug)]
struct Shown {
    source: SocketAddr,
    values: BTreeMap<u8, Vec<u8>>,
}

impl Shown {
    fn text(&self, kind: u8) -> Option<&str> {
        self.values.get(&kind).map(|value| std::str::from_utf8(value).unwrap())
    }

    fn read(octets: &[u8]) -> Self {
        assert_eq!(&octets[..16][12..14], [0x21, 0x11], "version 2, PROXY, TCP over IPv4");
        let source = Ipv4Addr::from(<[u8; 4]>::try_from(&octets[16..20]).unwrap());
        let port = u16::from_be_bytes(octets[24..26].try_into().unwrap());
        let (mut rest, mut values) = (&octets[28..], BTreeMap::new());
        while let [kind, high, low, more @ ..] = rest {
            let (value, behind) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            assert!(values.insert(*kind, value.to_vec()).is_none(), "a value twice");
            rest = behind;
        }
        Self { source: SocketAddr::new(IpAddr::V4(source), port), values }
    }
}

/// Hands everything on, and keeps the headers.
async fn tap(at: SocketAddr, to: SocketAddr) -> Arc<Mutex<Vec<Shown>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let IpAddr::V4(ip) = at.ip() else { panic!("IPv4") };
    let listener = bind(ip, at.port()).await.unwrap();
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut octets = vec![0; 16];
                if from.read_exact(&mut octets).await.is_err() {
                    return;
                }
                let rest = usize::from(u16::from_be_bytes(octets[14..16].try_into().unwrap()));
                octets.resize(16 + rest, 0);
                from.read_exact(&mut octets[16..]).await.unwrap();
                kept.lock().unwrap().push(Shown::read(&octets));
                let mut on = TcpStream::connect(to).await.unwrap();
                on.write_all(&octets).await.unwrap();
                let _over = tokio::io::copy_bidirectional(&mut from, &mut on).await;
            });
        }
    });
    seen
}

fn all_of<'a>(seen: &'a [Shown], domain: &str) -> Vec<&'a Shown> {
    seen.iter().filter(|shown| shown.text(0xe0) == Some(domain)).collect()
}

fn of<'a>(seen: &'a [Shown], domain: &str) -> &'a Shown {
    let [found] = all_of(seen, domain)[..] else { panic!("one connection for {domain}: {seen:?}") };
    found
}

// BE-05: a stream brings as many pairs as it likes, and the server behind hears as much of each.
#[tokio::test]
async fn the_second_pair_of_a_stream_is_introduced_like_the_first() {
    let world = border().await;
    let IpAddr::V4(ip) = world.legacy.s2s.ip() else { panic!("IPv4") };
    let (at, receiver_at) = (free(ip, 0).await.unwrap(), free(ip, 0).await.unwrap());
    let _receiver = Receiver::start(&world, receiver_at, world.legacy.s2s).await;
    let seen = tap(at, receiver_at).await;
    tell(&world, at).await;
    for by_name in [true, false] {
        seen.lock().unwrap().clear();
        let cousin = peer(&world, 11 + u8::from(by_name), COUSIN).await;
        let mut stream = match by_name {
            true => by_certificate(&cousin, HALL).await,
            false => by_dialback(&cousin, HALL).await,
        };
        still_passes(&world, &mut stream, "c@cousin.example", "j@hall.example", "the first").await;
        assert_eq!(stream.dialback(COUSIN, ANNEX).await.unwrap(), Word::Valid);
        still_passes(&world, &mut stream, "c@cousin.example", "j@annex.example", "the second").await;
        let shown = seen.lock().unwrap().clone();
        let [first, second] = all_of(&shown, COUSIN)[..] else { panic!("two pairs: {shown:?}") };
        assert_eq!((first.text(0xe2), second.text(0xe2)), (Some("partners"), Some("annex-partners")));
        assert_eq!(first.text(0xe1), Some(if by_name { "certificate" } else { "dialback" }));
        assert!(second.text(0xe1).is_some());
        assert_eq!(first.source, second.source);
        // AUTHORITY, UNIQUE_ID, SSL, and ALPN where there was one.
        for kind in [0x01, 0x02, 0x05, 0x20] {
            assert_eq!(first.values.get(&kind), second.values.get(&kind), "{kind:#x} of {shown:?}");
        }
        assert!([0x02, 0x05, 0x20].iter().all(|kind| second.values.contains_key(kind)), "{shown:?}");
        drop(stream);
        cousin.stop().await;
    }
}

/// The servers behind are told from now on, at this address.
async fn tell(world: &World, at: SocketAddr) {
    let text = std::fs::read_to_string(&world.config).unwrap();
    let usual = format!("s2s: [\"{}\"]", world.legacy.s2s);
    assert!(text.contains(&usual));
    let told = format!("s2s: [\"{at}\"], s2s-proxy-protocol: v2");
    std::fs::write(&world.config, text.replace(&usual, &told)).unwrap();
    world.gate.reload().await.unwrap();
}

// BE-05, PROXY protocol 2.2: who it is, how that was proven, and by which rule, to a receiver that speaks the protocol.
#[tokio::test]
async fn the_server_behind_is_told_who_was_verified_how_and_by_which_rule() {
    let world = border().await;
    let IpAddr::V4(ip) = world.legacy.s2s.ip() else { panic!("IPv4") };
    let (at, receiver_at) = (free(ip, 0).await.unwrap(), free(ip, 0).await.unwrap());
    let receiver = Receiver::start(&world, receiver_at, world.legacy.s2s).await;
    let seen = tap(at, receiver_at).await;
    tell(&world, at).await;

    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "by certificate").await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut other = by_dialback(&cousin, HALL).await;
    still_passes(&world, &mut other, "c@cousin.example", "j@hall.example", "by dialback").await;

    let shown = seen.lock().unwrap().clone();
    let (first, second) = (of(&shown, FRIEND), of(&shown, COUSIN));
    assert_eq!((first.text(0xe1), first.text(0xe2)), (Some("certificate"), Some("partners")));
    assert_eq!((second.text(0xe1), second.text(0xe2)), (Some("dialback"), Some("partners")));
    // AUTHORITY, UNIQUE_ID, SSL and the checksum as the specification has them.
    assert_eq!(first.text(0x02), Some(HALL));
    let unique = first.text(0x05).unwrap().to_owned();
    let tls = &first.values[&0x20];
    assert_eq!(tls[0] & 0x01, 0x01, "over TLS: {tls:?}");
    assert!(tls[5..].starts_with(b"\x21\x00\x07TLSv1.3"), "{tls:?}");
    assert!(first.values.contains_key(&0x03));
    let from = first.source.ip();
    assert_ne!(from, second.source.ip());
    drop((stream, other));
    receiver.told(&format!("src={from} authority={HALL} unique={unique} end")).await;

    // What was refused is told to nobody; what the gateway opens of its own accord has no facts.
    let unlisted = peer(&world, 12, STRANGER).await;
    let mut refused = unlisted.call_bare(HALL).unwrap().open().await.unwrap();
    refused.dialback(STRANGER, HALL).await.unwrap();
    let shown = seen.lock().unwrap().clone();
    assert!(!shown.iter().any(|shown| shown.text(0xe0) == Some(STRANGER)), "{shown:?}");
}
