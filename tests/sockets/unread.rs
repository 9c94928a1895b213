//! Many servers at once that read nothing, while users of ours write to them: what the gateway holds for them is what its limits say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;
use std::time::{Duration, Instant};

use crate::apart::Apart;
use crate::sockets::*;
use gatehouse::demo::peer::Manner;
use gatehouse::demo::session::Login;

/// Servers that read nothing.
const PEERS: usize = 200;
/// Octets of one message, and messages to each of them: far more than the kernel takes on its own account.
const MESSAGE: usize = 32 << 10;
const MESSAGES: usize = 32;
/// Octets that backends may have waiting in all (`inside-queue-total`).
const HELD: u64 = 8 << 20;
/// Octets that each stream may have in hand besides: what was read of its next stanzas on the way in, what TLS has not let go, and
/// its own upkeep on both sides.
const EACH: u64 = 160 << 10;

// LIM-05, law `bounded`: on their own streams (XEP-0288), whether these are counted and never acknowledged (SM-01) or not.
#[tokio::test]
async fn many_who_read_nothing_hold_no_more_than_the_limits_say() {
    let plan = plan()
        .limit("conn-total", "1000")
        .limit("conn-domain", "1000")
        .limit("inside-queue", "1MiB")
        .limit("inside-queue-total", "8MiB");
    let mut apart =
        Apart::build_with(&plan, |text, _| text, Command::new(env!("CARGO_BIN_EXE_gatehouse"))).await;
    let names: Vec<String> = (0..PEERS).map(|n| format!("n{n}.agency.example")).collect();
    let domains: Vec<&str> = names.iter().map(String::as_str).collect();
    let peer = apart.world.peer(10, &domains, Manner::default()).await.unwrap();
    let mut streams = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let mut stream = as_domain(peer.call(HALL).unwrap(), Some(name)).open().await.unwrap();
        stream.send("<bidi xmlns='urn:xmpp:bidi'/>").await.unwrap();
        assert_eq!(stream.external(name).await.unwrap(), Login::Success);
        if at % 2 == 0 {
            stream.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await.unwrap();
            assert!(stream.wire.element().await.unwrap().raw.starts_with("<enabled "));
        }
        let body = format!("here {at}.");
        still_passes(&apart.world, &mut stream, &format!("a@{name}"), "j@hall.example", &body).await;
        streams.push(stream);
    }
    let before = apart.memory("VmRSS");
    let body = "x".repeat(MESSAGE);
    for name in &names {
        for _ in 0..MESSAGES {
            apart.world.legacy.message("j@hall.example", &format!("a@{name}"), &body);
        }
    }
    // All that finds room is taken, and no more: until nothing has moved for a while.
    let (mut most, mut quiet, mut last) = (before, Instant::now(), 0.0);
    let end = Instant::now() + Duration::from_secs(50);
    while quiet.elapsed() < Duration::from_secs(4) && Instant::now() < end {
        let limited = apart.world.metrics().await.unwrap().sum("octets_total", &[("flow", "s2s-out")]);
        if limited != last {
            (quiet, last) = (Instant::now(), limited);
        }
        most = most.max(apart.memory("VmRSS"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = apart.world.metrics().await.unwrap();
    assert!(metrics.sum("limited_total", &[("limit", "queue")]) > 0.0, "nothing had to wait");
    let sent = (PEERS * MESSAGES * MESSAGE) as u64;
    let (grown, most_allowed) = (most - before, HELD + EACH * PEERS as u64);
    println!(
        "{PEERS} servers that read nothing, {sent} octets for them: {grown} octets held of {most_allowed}"
    );
    assert!(grown <= most_allowed && most_allowed < sent / 4, "{grown} of {most_allowed}, {sent} sent");
    assert!(apart.lives(), "{}", apart.log());
}
