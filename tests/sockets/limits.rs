//! Limits, SASL and reloads over real sockets: what a partner may have, and what becomes of it when the policy changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use gatehouse::demo::dial;
use gatehouse::demo::peer::{Manner, Welcome};
use gatehouse::demo::session::{Greeting, Login, SASL, Session, Word};
use gatehouse::demo::world::{Plan, World};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sockets::*;

/// A rule for everybody here with these quotas.
fn quota(limits: &str) -> Plan {
    let policy = format!(
        "version: v1\nrules:\n  - {{ name: few, domains: [friend.example, \"*.friend.example\"], limits: {{ {limits} }} }}\n  \
         - {{ name: many, domains: [cousin.example] }}\n"
    );
    Plan::listed(HALL, &policy).limit("conn-s2s", "1000").limit("rate", "6000/min")
}

/// What the gateway says to an `<auth/>` with this content.
async fn answered(stream: &mut Session, attributes: &str, content: &str) -> String {
    stream.send(format!("<auth xmlns='{SASL}'{attributes}>{content}</auth>")).await.unwrap();
    let answer = stream.wire.element().await.unwrap();
    answer.condition().unwrap_or(&answer.name).to_owned()
}

// EXT-02, EXT-03, EXT-05: each malformed attempt has its condition, and the stream stays for the next.
#[tokio::test]
async fn each_bad_attempt_at_external_has_its_condition() {
    let world = World::build(&plan().limit("sasl-attempts", "5")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let long = format!("{}=", "QUFB".repeat(400));
    let external = " mechanism='EXTERNAL'";
    for (attributes, content, expected) in [
        (" mechanism='PLAIN'", "AGEAYg==", "invalid-mechanism"),
        (external, "Zm9v*mFy", "incorrect-encoding"),
        (external, "ZnJpZW5k", "invalid-authzid"),
        (external, "ZnJpZW5kLmV4YW1wbGV=", "incorrect-encoding"),
        (external, "ZnJp=ZW5kLmV4YW1wbGU", "incorrect-encoding"),
        (external, "Z nJpZW5kLmV4YW1wbGU=", "incorrect-encoding"),
        (external, long.as_str(), "incorrect-encoding"),
        (external, "YUBmcmllbmQuZXhhbXBsZQ==", "invalid-authzid"),
        (external, "<x xmlns='urn:x'/>", "malformed-request"),
    ] {
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
        assert_eq!(answered(&mut stream, attributes, content).await, expected, "{content}");
        assert_eq!(stream.external(FRIEND).await.unwrap(), Login::Success, "{content}");
    }
}

// EXT-07: "after L-sasl-attempts failures close"; `SE(policy-violation)`. Before that, dialback may continue.
#[tokio::test]
async fn the_third_failed_attempt_ends_the_stream() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
    for _ in 0..2 {
        assert_eq!(answered(&mut stream, " mechanism='EXTERNAL'", "*").await, "incorrect-encoding");
    }
    assert_eq!(stream.dialback(FRIEND, HALL).await.unwrap(), Word::Valid);
    assert_eq!(answered(&mut stream, " mechanism='EXTERNAL'", "*").await, "incorrect-encoding");
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
}

// Contract 3: `limits: { streams: N }`. The pair above the number ends alone.
#[tokio::test]
async fn a_rule_has_so_many_streams_and_no_more() {
    let world = World::build(&quota("streams: 1")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut first = by_certificate(&friend, HALL).await;
    let mut second = friend.call(HALL).unwrap().open().await.unwrap();
    let refused = match second.external(FRIEND).await {
        Ok(Login::Success) => second.ending().await.unwrap().condition,
        Ok(other) => panic!("{other:?}"),
        Err(trouble) => Some(trouble.to_string()),
    };
    assert!(refused.as_deref().is_some_and(|c| c.contains("policy-violation")), "{refused:?}");
    world.counted("limited_total", &[("limit", "streams")], 1.0).await.unwrap();
    still_passes(&world, &mut first, "a@friend.example", "j@hall.example", "the first goes on").await;
    let mut other = by_certificate(&cousin, HALL).await;
    still_passes(&world, &mut other, "c@cousin.example", "j@hall.example", "another rule").await;
    // A place that was given back is free again.
    first.close().await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut again = by_certificate(&friend, HALL).await;
        again.message("a@friend.example", "j@hall.example", "free again").await.unwrap();
        if world
            .legacy
            .inbox
            .wait_for(Duration::from_secs(1), |n| n.body() == Some("free again"))
            .await
            .is_ok()
        {
            break;
        }
        assert!(Instant::now() < until, "the place is never free again");
    }
}

// LIM-03: "shaped by delaying reads .. shaping never reorders".
#[tokio::test]
async fn a_rate_slows_a_partner_and_loses_nothing() {
    for limits in ["stanzas: 5/s", "octets: 1KiB/s"] {
        let world = World::build(&quota(limits)).await.unwrap();
        let friend = peer(&world, 10, FRIEND).await;
        let cousin = peer(&world, 11, COUSIN).await;
        let mut stream = by_certificate(&friend, HALL).await;
        let mut other = by_certificate(&cousin, HALL).await;
        let begun = Instant::now();
        for n in 0..15 {
            let body = format!("{n:02} {}", "x".repeat(120));
            stream.message("a@friend.example", "j@hall.example", &body).await.unwrap();
        }
        still_passes(&world, &mut other, "c@cousin.example", "j@hall.example", "not slowed").await;
        let last = |n: &gatehouse::demo::node::Node| n.body().is_some_and(|b| b.starts_with("14 "));
        assert!(!world.legacy.inbox.all().iter().any(last), "{limits}: the slowed one was first");
        world.legacy.inbox.wait_for(Duration::from_secs(45), last).await.unwrap();
        assert!(begun.elapsed() > Duration::from_secs(1), "{limits}: {:?}", begun.elapsed());
        let all = world.legacy.inbox.all();
        let order: Vec<_> = all
            .iter()
            .filter(|n| n.attr("from") == Some("a@friend.example"))
            .filter_map(|n| n.body()?.get(..2))
            .collect();
        assert_eq!(order, (0..15).map(|n| format!("{n:02}")).collect::<Vec<_>>(), "{limits}");
        let limit = if limits.starts_with("stanzas") { "stanzas" } else { "octets" };
        world.counted("limited_total", &[("limit", limit)], 1.0).await.unwrap();
    }
}

fn rewrite(world: &World, policy: &str) {
    std::fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), policy).unwrap();
}

// POL-07: "streams with a pair no longer allowed are closed or the pair is withdrawn"; POL-10: "never fall open".
#[tokio::test]
async fn a_reload_ends_what_is_no_longer_allowed_and_nothing_else() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let mut other = by_certificate(&cousin, HALL).await;
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "before").await;
    world.legacy.message("j@hall.example", "a@friend.example", "out before");
    friend.inbox.wait_body("out before").await.unwrap();
    // What cannot be read changes nothing.
    rewrite(&world, "version: v1\nrules:\n  - { name: broken, domains: [");
    assert!(world.gate.reload().await.is_err());
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "still here").await;
    rewrite(&world, "version: v1\nrules:\n  - { name: partners, domains: [cousin.example] }\n");
    world.gate.reload().await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    still_passes(&world, &mut other, "c@cousin.example", "j@hall.example", "unharmed").await;
    let mut again = friend.call(HALL).unwrap().open().await.unwrap();
    assert_eq!(again.external(FRIEND).await.unwrap(), Login::NotOffered);
    assert_eq!(again.dialback(FRIEND, HALL).await.unwrap(), error("policy-violation"));
    world.legacy.message("j@hall.example", "a@friend.example", "out after");
    let bounce = world
        .legacy
        .bounces
        .wait_for(Duration::from_secs(10), |n| n.attr("from") == Some("a@friend.example"))
        .await;
    assert!(bounce.is_ok(), "the backend's own user hears that it did not go out");
    assert!(friend.inbox.all().iter().all(|n| n.body() != Some("out after")));
}

/// A connection that has said nothing yet.
async fn unproven(world: &World, host: u8) -> TcpStream {
    let ip = match world.at.public.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => panic!("the small world has no IPv6"),
    };
    dial(IpAddr::from([ip[0], ip[1], ip[2], host]), world.at.public).await.unwrap()
}

/// Waits until the connection is over; what was said before that.
async fn ended(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
    // A reset is an end too.
    let _outcome = end.expect("the connection goes on");
    String::from_utf8(said).unwrap()
}

/// Waits until so many connections are open at the public door.
async fn open(world: &World, count: f64) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let open = world.metrics().await.unwrap().sum("connections", &[("listener", "s2s-starttls")]);
        if (open - count).abs() < f64::EPSILON {
            return;
        }
        assert!(Instant::now() < until, "{open} are open, and not {count}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Unproven peers may take their time.
fn patient() -> Plan {
    plan()
        .timeout("first-byte", "1m")
        .timeout("header", "2m")
        .timeout("unauth", "10m")
        .timeout("close", "100ms")
}

// LIM-02: "a global cap on number"; who is proven gives the place back, and does not notice that there is none.
#[tokio::test]
async fn unproven_peers_have_so_many_places_and_proven_streams_do_not_notice() {
    let world = World::build(&patient().limit("conn-unproven", "3")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut proven = by_certificate(&friend, HALL).await;
    let mut silent = Vec::new();
    for host in 20..23 {
        silent.push(unproven(&world, host).await);
    }
    open(&world, 4.0).await;
    // Whoever comes from elsewhere gets the place of the one who waited longest; whoever has one already gets no more.
    silent.push(unproven(&world, 29).await);
    assert!(ended(&mut silent.remove(0)).await.contains("resource-constraint"), "made room");
    world.counted("limited_total", &[("limit", "unproven")], 1.0).await.unwrap();
    let mut late = unproven(&world, 29).await;
    assert_eq!(ended(&mut late).await, "", "turned away without an octet");
    world.counted("limited_total", &[("limit", "unproven")], 2.0).await.unwrap();
    still_passes(&world, &mut proven, "a@friend.example", "j@hall.example", "not noticed").await;
    // A place that was given back is free again, and the one who takes it is proven.
    drop(silent.pop());
    open(&world, 3.0).await;
    let mut second = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut second, "a@friend.example", "j@hall.example", "come in").await;
    let _third = unproven(&world, 31).await;
    open(&world, 5.0).await;
    world.legacy.message("j@hall.example", "a@friend.example", "out");
    friend.inbox.wait_body("out").await.unwrap();
}

// LIM-06: "places are shared among source networks fairly". One that holds all places keeps nobody out who has none.
#[tokio::test]
async fn idle_unproven_peers_keep_nobody_out() {
    let world = World::build(&patient().limit("conn-unproven", "12")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut idle = Vec::new();
    for _ in 0..12 {
        idle.push(unproven(&world, 20).await);
    }
    open(&world, 12.0).await;
    let mut proven = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut proven, "a@friend.example", "j@hall.example", "come in").await;
    assert!(ended(&mut idle.remove(0)).await.contains("resource-constraint"), "the one who waited longest");
    world.counted("limited_total", &[("limit", "unproven")], 1.0).await.unwrap();
    // A server that is called calls back from its own address, however many come from there meanwhile.
    world.legacy.message("j@hall.example", "a@friend.example", "out");
    friend.inbox.wait_body("out").await.unwrap();
}

// LIM-02: "a global cap on .. memory". What unproven peers hold counts while they hold it.
#[tokio::test]
async fn unproven_peers_hold_so_much_memory_and_proven_streams_do_not_notice() {
    let world = World::build(&patient().limit("memory-unproven", "1MiB")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut proven = by_certificate(&friend, HALL).await;
    // 31 connections at 32 KiB each leave 32 KiB for what they bring: eight unfinished headers of 4,000 octets, not nine.
    let mut silent = Vec::new();
    for host in 20..51 {
        silent.push(unproven(&world, host).await);
    }
    open(&world, 32.0).await;
    let greeting = Greeting::of(FRIEND, HALL).octets();
    let begun = greeting.trim_end_matches('>');
    let begun = format!("{begun}{}", " ".repeat(4000 - begun.len()));
    for stream in silent.iter_mut().take(9) {
        stream.write_all(begun.as_bytes()).await.unwrap();
    }
    world.counted("limited_total", &[("limit", "memory")], 1.0).await.unwrap();
    // One of the nine had no room: it is over, and the others go on.
    open(&world, 31.0).await;
    still_passes(&world, &mut proven, "a@friend.example", "j@hall.example", "not noticed").await;
    // Its place is free for one more, and then there is no room for another of the same address, even if that brings nothing.
    let _in = unproven(&world, 60).await;
    open(&world, 32.0).await;
    let mut late = unproven(&world, 60).await;
    assert_eq!(ended(&mut late).await, "");
    world.counted("limited_total", &[("limit", "memory")], 2.0).await.unwrap();
    // Whoever comes from elsewhere gets the place of the one who waited longest (LIM-06).
    let _newcomer = unproven(&world, 61).await;
    world.counted("limited_total", &[("limit", "unproven")], 1.0).await.unwrap();
    open(&world, 32.0).await;
    still_passes(&world, &mut proven, "a@friend.example", "j@hall.example", "nor now").await;
    // All of it is released.
    drop(silent);
    let mut second = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut second, "a@friend.example", "j@hall.example", "room again").await;
}

// Rates slow the sender by not reading; what cannot be slowed any more is refused. Both doors draw from one pace.
// One network alone may fill half of the queue, a quarter of T-tls.
#[tokio::test]
async fn handshakes_above_the_rate_wait_their_turn_or_are_refused() {
    let world = World::build(&patient().timeout("tls", "8s").limit("tls-handshakes", "1/s")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut proven = by_certificate(&friend, HALL).await;
    let begun = Instant::now();
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let call = friend.call(HALL).unwrap();
            let call = if n % 2 == 0 { world.directly(call, None).unwrap() } else { call };
            tokio::spawn(async move { call.open().await.map(|_stream| Instant::now()) })
        })
        .collect();
    still_passes(&world, &mut proven, "a@friend.example", "j@hall.example", "not slowed").await;
    let mut opened = Vec::new();
    let mut refused = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(at) => opened.push(at),
            Err(_) => refused += 1,
        }
    }
    let took = begun.elapsed();
    eprintln!("{} opened, {refused} refused, in {took:?}", opened.len());
    assert!(opened.len() >= 2 && refused > 0, "{} opened, {refused} refused", opened.len());
    // One is due at once; each further one took its second.
    let seconds = opened.len().saturating_sub(2);
    assert!(took >= Duration::from_secs(seconds.try_into().unwrap()), "{} in {took:?}", opened.len());
    let counted = world.metrics().await.unwrap().sum("limited_total", &[("limit", "handshakes")]);
    assert!(counted >= f64::from(refused) + 1.0, "{counted}");
    still_passes(&world, &mut proven, "a@friend.example", "j@hall.example", "nor now").await;
}

/// Sends fifteen stanzas in turn over these, and waits for all of them; how long that took.
async fn fifteen(world: &World, streams: &mut [(&mut Session, &str, &str)]) -> Duration {
    let begun = Instant::now();
    for n in 0..15 {
        let turn = n % streams.len();
        let (stream, from, to) = &mut streams[turn];
        stream.message(from, to, &format!("{n:02} of fifteen")).await.unwrap();
    }
    for n in 0..15 {
        world
            .legacy
            .inbox
            .wait_for(Duration::from_secs(15), |s| s.body() == Some(&format!("{n:02} of fifteen")))
            .await
            .unwrap();
    }
    begun.elapsed()
}

// LIM-03: what a rule lets a pair send, it lets all streams of the pair together.
#[tokio::test]
async fn a_second_stream_of_a_pair_is_no_second_helping() {
    let world = World::build(&quota("stanzas: 5/s")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let (mut one, mut two) = (by_certificate(&friend, HALL).await, by_certificate(&friend, HALL).await);
    let (from, to) = ("a@friend.example", "j@hall.example");
    let took = fifteen(&world, &mut [(&mut one, from, to), (&mut two, from, to)]).await;
    assert!(took > Duration::from_secs(1), "{took:?}");
    world.counted("limited_total", &[("limit", "stanzas")], 1.0).await.unwrap();
}

// LIM-03: "per peer domain", here with two pairs of one stream: it is slowed, and nothing comes back.
#[tokio::test]
async fn a_domain_is_slowed_over_all_its_pairs() {
    let world = World::build(&plan().limit("domain-stanzas", "100/s")).await.unwrap();
    let cousin = peer(&world, 11, COUSIN).await;
    let mut stream = by_dialback(&cousin, HALL).await;
    assert_eq!(stream.dialback(COUSIN, ANNEX).await.unwrap(), Word::Valid);
    let begun = Instant::now();
    // More at once than the queue of a pair holds (L-queue), were it not slowed where it is read.
    let both: String = (0..300)
        .map(|n| {
            let to = if n % 2 == 0 { HALL } else { ANNEX };
            format!("<message from='c@cousin.example' to='j@{to}'><body>{n}</body></message>")
        })
        .collect();
    stream.send(both).await.unwrap();
    for last in ["298", "299"] {
        world.legacy.inbox.wait_for(Duration::from_secs(30), |s| s.body() == Some(last)).await.unwrap();
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1), "{took:?}");
    assert_eq!(world.legacy.inbox.len(), 300);
    world.counted("limited_total", &[("limit", "stanzas")], 1.0).await.unwrap();
    let metrics = world.metrics().await.unwrap();
    let (bounced, queue) =
        (metrics.sum("stanzas_refused_total", &[]), metrics.sum("limited_total", &[("limit", "queue")]));
    assert!(bounced < 1.0 && queue < 1.0, "{bounced} came back, {queue} times a queue was full");
}

// LIM-03: "per stream", and the octets of it; the stream beside it has its own.
#[tokio::test]
async fn a_stream_is_slowed_by_itself() {
    let world = World::build(&plan().limit("stream-octets", "1KiB/s")).await.unwrap();
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 11, COUSIN).await);
    let (mut one, mut two) = (by_certificate(&friend, HALL).await, by_certificate(&cousin, HALL).await);
    let begun = Instant::now();
    one.message("a@friend.example", "j@hall.example", &"x".repeat(4096)).await.unwrap();
    one.message("a@friend.example", "j@hall.example", "behind it").await.unwrap();
    still_passes(&world, &mut two, "c@cousin.example", "j@hall.example", "not slowed").await;
    world.legacy.inbox.wait_for(Duration::from_secs(20), |s| s.body() == Some("behind it")).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
    world.counted("limited_total", &[("limit", "octets")], 1.0).await.unwrap();
}

// Seen: "a hoster calls us for sixty of its domains from one address, each with a certificate that proves it, one
// connection for each pair"; D10, L-conn: the defaults let them in, and one registrable domain has fifty connections.
#[tokio::test]
async fn a_hoster_comes_with_all_its_domains_and_a_wildcard_with_fifty_connections() {
    let names: Vec<String> = (0..60).map(|n| format!("customer{n}.example")).collect();
    let wild: Vec<String> = (0..60).map(|n| format!("d{n}.wild.example")).collect();
    let all: Vec<&str> = names.iter().chain(&wild).map(String::as_str).collect();
    let policy = "version: v1\nrules:\n  - { name: all, domains: [\"*.example\"] }\n";
    let world = World::build(&Plan::listed(HALL, policy)).await.unwrap();
    let hoster = world.peer(10, &all, Manner::default()).await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let come = async |domain: &str| {
        loop {
            assert!(Instant::now() < until, "{domain} has not come within a minute");
            let call = as_domain(hoster.call(HALL).unwrap(), Some(domain));
            let Ok(mut stream) = call.open().await else {
                // Turned away at the door, as each server is that comes too early, and tries again.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            match stream.external(domain).await {
                Ok(Login::Success) => return Ok(stream),
                other => return Err(format!("{other:?}")),
            }
        }
    };
    let mut open = Vec::new();
    for domain in &names {
        open.push(come(domain).await.unwrap());
    }
    let mut last = Ok(());
    for domain in &wild[..50] {
        open.push(come(domain).await.unwrap());
    }
    if let Ok(mut stream) = come(&wild[50]).await {
        last = stream
            .ending()
            .await
            .map(|ending| assert_eq!(ending.condition.as_deref(), Some("resource-constraint")))
            .map_err(drop);
    }
    assert_eq!(last, Ok(()));
    world.counted("limited_total", &[("limit", "domain-connections")], 1.0).await.unwrap();
    // Nobody was put out for it.
    for (n, stream) in open.iter_mut().enumerate().step_by(20) {
        let domain = names.iter().chain(&wild).nth(n).unwrap();
        still_passes(&world, stream, &format!("a@{domain}"), "j@hall.example", &format!("still {n}")).await;
    }
}

// LIM-04: "per sender JID, and number of distinct local recipients": `ST(policy-violation,wait)`. LIM-08: `DROP`.
#[tokio::test]
async fn what_one_address_sends_too_much_of_comes_back_alone() {
    let plan =
        plan().limit("sender-stanzas", "3/min").limit("recipients", "4/min").limit("subscriptions", "1/min");
    let world = World::build(&plan).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut stream = by_certificate(&friend, HALL).await;
    let mut other = by_certificate(&cousin, HALL).await;
    let returned = async |id: &str| {
        let back =
            friend.inbox.wait_for(Duration::from_secs(10), |n| n.attr("id") == Some(id)).await.unwrap();
        let kind = back.child("error").unwrap().attr("type").unwrap().to_owned();
        (condition(&back).unwrap().to_owned(), kind)
    };
    let refusal = ("policy-violation".to_owned(), "wait".to_owned());
    let chat = |from: &str, to: &str, id: &str| {
        format!(
            "<message from='{from}@friend.example/r-{id}' to='{to}@hall.example' id='{id}'><body>{id}</body></message>"
        )
    };
    for id in ["a1", "a2", "a3", "a4"] {
        stream.send(chat("a", "j", id)).await.unwrap();
    }
    assert_eq!(returned("a4").await, refusal);
    // The neighbour may still write, to four accounts in all.
    for (n, to) in ["k", "l", "m", "n"].iter().enumerate() {
        stream.send(chat(&format!("b{n}"), to, &format!("b-{to}"))).await.unwrap();
    }
    assert_eq!(returned("b-n").await, refusal);
    for id in ["a3", "b-m"] {
        world.legacy.inbox.wait_body(id).await.unwrap();
    }
    // One request, and the second is not even answered.
    for (who, id) in [("d", "s1"), ("e", "s2")] {
        let asked =
            format!("<presence from='{who}@friend.example' to='j@hall.example' type='subscribe' id='{id}'/>");
        stream.send(asked).await.unwrap();
    }
    // DB-70: presence above the rate is dropped, and what is said in a room comes back; each occupant counts for himself.
    for (nick, id) in [("x", "p1"), ("x", "p2"), ("x", "p3"), ("x", "p4"), ("y", "p5")] {
        let there = format!("<presence from='room@friend.example/{nick}' to='j@hall.example' id='{id}'/>");
        stream.send(there).await.unwrap();
    }
    let said = "<message from='room@friend.example/x' to='j@hall.example' id='g1' type='groupchat'><body>g</body></message>";
    stream.send(said).await.unwrap();
    assert_eq!(returned("g1").await, refusal);
    still_passes(&world, &mut stream, "f@friend.example", "j@hall.example", "behind them").await;
    let here: Vec<_> = world.legacy.inbox.all();
    let got = |id: &str| here.iter().any(|n| n.attr("id") == Some(id));
    assert!(got("s1") && !got("s2") && !got("a4") && !got("b-n"));
    assert!(got("p3") && !got("p4") && got("p5") && !got("g1"));
    assert!(friend.inbox.all().iter().all(|n| !matches!(n.attr("id"), Some("s2" | "p4"))));
    for limit in ["senders", "recipients", "subscriptions"] {
        world.counted("limited_total", &[("limit", limit)], 1.0).await.unwrap();
    }
    still_passes(&world, &mut other, "c@cousin.example", "z@hall.example", "another domain").await;
}

/// So many requests that are answered with an error.
fn refusable(n: usize) -> String {
    (0..n)
        .map(|n| {
            format!(
                "<iq type='set' id='q{n}' from='a@friend.example/r' to='j@hall.example'>\
                 <query xmlns='jabber:iq:roster'/></iq>"
            )
        })
        .collect()
}

// LIM-05, L-queue: who causes more errors than wait for its server is read no faster than that takes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bounces_than_a_queue_holds_all_come_back() {
    let world = World::build(&plan().limit("queue-stanzas", "5")).await.unwrap();
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    stream.send(refusable(300)).await.unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let back = || {
        let all = friend.inbox.all();
        let ids = all.iter().filter(|n| n.attr("type") == Some("error")).filter_map(|n| n.attr("id"));
        ids.map(str::to_owned).collect::<Vec<_>>()
    };
    while back().len() < 300 {
        assert!(Instant::now() < until, "{} came back", back().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(back(), (0..300).map(|n| format!("q{n}")).collect::<Vec<_>>(), "each once, and in order");
    still_passes(&world, &mut stream, "a@friend.example", "j@hall.example", "still here").await;
}

// CLS-02: "never lost silently": a peer that takes none of its errors does not go on causing them on that stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_no_bounces_learns_it_by_the_end_of_its_stream() {
    let world = World::build(&plan().limit("queue-stanzas", "5").timeout("header", "3s")).await.unwrap();
    let mute = Manner { welcome: Welcome::Mute, ..Manner::default() };
    let friend = world.peer(10, &[FRIEND], mute).await.unwrap();
    let mut bystander = Bystander::of(&world, "j@hall.example").await;
    let mut stream = by_certificate(&friend, HALL).await;
    stream.send(refusable(20)).await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("resource-constraint"));
    assert!(refused(&world, "queue-full").await >= 1.0);
    bystander.unharmed(&world).await;
}
