//! Clients over WebSocket (RFC 7395): a scripted one over real sockets, which keeps the rules or breaks them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use crate::sockets;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::sockets::{HALL, plan};
use crate::websocket_client::*;
use gatehouse::demo::world::{Plan, World};
use tokio::task::JoinSet;

const PASSWORD: &str = "open sesame";

async fn door(plan: &Plan, more: &str) -> (World, SocketAddr) {
    let world = World::build(plan).await.unwrap();
    let at = listen(&world, &format!("flow: websocket{more}")).await;
    (world, at)
}

/// A connection whose upgrade was granted.
async fn upgraded(world: &World, at: SocketAddr) -> Web {
    let mut web = Web::secure(world, at, HALL, &["http/1.1"]).await.unwrap();
    let (status, head, _) = web.upgrade(HALL, "").await;
    assert_eq!(status, 101, "{head}");
    web
}

/// A client that is logged in.
async fn bound(world: &World, at: SocketAddr, user: &str) -> Web {
    let mut web = upgraded(world, at).await;
    web.login(user, HALL, PASSWORD).await;
    web
}

async fn refused(world: &World, reason: &str) -> f64 {
    let labels = [("listener", "websocket"), ("reason", reason)];
    world.metrics().await.unwrap().sum("connections_refused_total", &labels)
}

// RFC 7395 3, RFC 6455 1.3: the whole of it as the texts have it.
#[tokio::test]
async fn a_client_logs_in_talks_and_leaves() {
    let (world, at) = door(&plan(), "").await;
    let mut web = Web::secure(&world, at, HALL, &["h2", "http/1.1"]).await.unwrap();
    let (status, head, _) = web
        .upgrade(HALL, "Origin: https://hall.example\r\nSec-WebSocket-Extensions: permessage-deflate\r\n")
        .await;
    assert_eq!(status, 101);
    let head = head.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    assert!(head.contains("sec-websocket-protocol: xmpp\r\n") && !head.contains("extensions"), "{head}");
    web.open(HALL).await;
    let open = web.hear().await;
    assert!(open.starts_with(&format!("<open xmlns='{FRAMING}'")) && open.ends_with("/>"), "{open}");
    assert!(open.contains("from='hall.example'") && open.contains(" id='"), "{open}");
    let features = web.hear().await;
    assert!(
        features.starts_with("<stream:features xmlns:stream='http://etherx.jabber.org/streams'>"),
        "{features}"
    );
    assert!(features.contains("PLAIN") && !features.contains("starttls"), "{features}");
    drop(web);

    let romeo = world.login("romeo", HALL).await.unwrap();
    let mut web = bound(&world, at, "juliet").await;
    web.say("<presence xmlns='jabber:client'/>").await;
    web.say("<message xmlns='jabber:client' to='romeo@hall.example' type='chat'><body>over the web</body></message>").await;
    let heard = romeo.inbox.wait_body("over the web").await.unwrap();
    assert!(heard.attr("from").unwrap().starts_with("juliet@hall.example/"), "{}", heard.raw);
    romeo.say("juliet@hall.example", "in return").await.unwrap();
    let back = web.hear_of("in return").await;
    assert!(back.starts_with("<message xmlns='jabber:client'"), "{back}");
    // A ping is answered, and counts as no stanza.
    web.frame(0x89, b"are you there").await;
    assert_eq!(web.next().await, Said::Pong(b"are you there".to_vec()));
    let streams = world.metrics().await.unwrap();
    assert_eq!(streams.sum("connections", &[("listener", "websocket")]), 1.0);
    web.say(&format!("<close xmlns='{FRAMING}'/>")).await;
    let (messages, code) = web.ending().await;
    assert_eq!(
        (messages.last().unwrap().as_str(), code),
        (format!("<close xmlns='{FRAMING}'/>").as_str(), Some(1000))
    );
}

/// What breaks the rules, and what comes of it: the condition of the stream error, and the code of the last frame.
struct Attack {
    name: &'static str,
    octets: Vec<u8>,
    condition: &'static str,
    code: u16,
}

fn attacks() -> Vec<Attack> {
    let text = |name, text: &str, condition| Attack {
        name,
        octets: masked(0x81, text.as_bytes()),
        condition,
        code: 1000,
    };
    let raw = |name, octets, condition, code| Attack { name, octets, condition, code };
    let iq = "<iq xmlns='jabber:client' type='get' id='x'><ping xmlns='urn:xmpp:ping'/></iq>";
    let mut unmasked = head(0x81, iq.len(), 0);
    unmasked.extend_from_slice(iq.as_bytes());
    vec![
        text("two elements", &format!("{iq}{iq}"), "not-well-formed"),
        text("white space behind", &format!("{iq} "), "not-well-formed"),
        text("half an element", &iq[..iq.len() - 5], "not-well-formed"),
        text("nothing", "", "not-well-formed"),
        text("white space", " ", "not-well-formed"),
        text("text", "hello", "not-well-formed"),
        text("an end tag", "</stream:stream>", "not-well-formed"),
        text(
            "a header of TCP",
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='hall.example' version='1.0'>",
            "not-well-formed",
        ),
        text("a declaration", "<?xml version='1.0'?><iq xmlns='jabber:client'/>", "restricted-xml"),
        text("a comment", "<!-- --><iq xmlns='jabber:client'/>", "restricted-xml"),
        text("no namespace", "<iq type='get' id='x'><ping xmlns='urn:xmpp:ping'/></iq>", "invalid-namespace"),
        text("a prefix of the header", "<stream:features/>", "invalid-namespace"),
        text("an unknown frame element", &format!("<shut xmlns='{FRAMING}'/>"), "invalid-namespace"),
        text(
            "an open with content",
            &format!("<open xmlns='{FRAMING}' to='hall.example'><a/></open>"),
            "not-well-formed",
        ),
        text(
            "the streams namespace inside",
            "<iq xmlns='jabber:client'><stream:error/></iq>",
            "not-well-formed",
        ),
        raw("octets", masked(0x82, iq.as_bytes()), "not-well-formed", 1003),
        raw("no mask", unmasked, "bad-format", 1002),
        raw("compressed", masked(0xc1, iq.as_bytes()), "bad-format", 1002),
        raw("an unknown kind", masked(0x83, iq.as_bytes()), "bad-format", 1002),
        raw("a continuation of nothing", masked(0x80, iq.as_bytes()), "bad-format", 1002),
        raw("a ping in fragments", masked(0x09, b"x"), "bad-format", 1002),
        raw("no UTF-8", masked(0x81, b"<iq xmlns='jabber:client'>\xff</iq>"), "unsupported-encoding", 1007),
        // Said at its first octets, before its end is anywhere.
        raw("oversized", [head(0x81, 1 << 20, 0x80), vec![0; 40]].concat(), "policy-violation", 1009),
        raw(
            "as large as can be said",
            [head(0x81, usize::MAX >> 1, 0x80), vec![0; 40]].concat(),
            "policy-violation",
            1009,
        ),
    ]
}

// WS-02, WS-04: each before the login, and once stanzas pass; nothing of it reaches the server behind, and others go on.
#[tokio::test]
async fn what_breaks_the_rules_ends_its_stream_in_good_order() {
    // A client that breaks the rules does not close either: how long it is waited for is not the matter here.
    let (world, at) = door(&plan().timeout("close", "500ms"), "").await;
    let world = Arc::new(world);
    let romeo = world.login("romeo", HALL).await.unwrap();
    let mut other = bound(&world, at, "nurse").await;
    for logged_in in [false, true] {
        let mut playing = JoinSet::new();
        for attack in attacks() {
            let world = Arc::clone(&world);
            playing.spawn(async move { attack.play(&world, at, logged_in).await });
        }
        while let Some(played) = playing.join_next().await {
            played.unwrap();
        }
    }
    other.say("<message xmlns='jabber:client' to='romeo@hall.example'><body>unharmed</body></message>").await;
    romeo.inbox.wait_body("unharmed").await.unwrap();
    assert!(!romeo.inbox.all().iter().any(|heard| heard.body() == Some("behind it")));
}

impl Attack {
    async fn play(self, world: &World, at: SocketAddr, logged_in: bool) {
        let Self { name, octets, condition, code } = self;
        let mut web = match logged_in {
            true => bound(world, at, "juliet").await,
            false => {
                let mut web = upgraded(world, at).await;
                web.open(HALL).await;
                web.hear_of("<mechanism").await;
                web
            }
        };
        web.write(&octets).await;
        // What follows a breach is not read.
        web.say("<message xmlns='jabber:client' to='romeo@hall.example'><body>behind it</body></message>")
            .await;
        let (messages, found) = web.ending().await;
        let error = messages.iter().find(|message| message.starts_with("<stream:error"));
        let error = error.unwrap_or_else(|| panic!("{name}, {logged_in}: no error in {messages:?}"));
        assert!(error.contains(&format!("<{condition} ")), "{name}, {logged_in}: {error}");
        assert_eq!(messages.last().unwrap(), &format!("<close xmlns='{FRAMING}'/>"), "{name}, {logged_in}");
        assert_eq!(found, Some(code), "{name}, {logged_in}");
    }
}

// STR-01, WS-03: an `<open/>` is read as the header of any stream; a prefix is a spelling of its name.
#[tokio::test]
async fn an_open_is_judged_as_a_header() {
    let (world, at) = door(&plan(), "").await;
    for (open, answer) in [
        (format!("<f:open xmlns:f='{FRAMING}' to='{HALL}' version='1.0'/>"), "<mechanism"),
        (format!("<open xmlns=\"{FRAMING}\" to=\"{HALL}\" version=\"1.0\"></open>"), "<mechanism"),
        (format!("<open xmlns='{FRAMING}' to='elsewhere.example' version='1.0'/>"), "<host-unknown"),
        (format!("<open xmlns='{FRAMING}' to='annex.example' version='1.0'/>"), "<stream:error"),
        (format!("<open xmlns='{FRAMING}' to='{HALL}'/>"), "<unsupported-version"),
        (format!("<open xmlns='{FRAMING}' to='{HALL}' to='{HALL}' version='1.0'/>"), "<not-well-formed"),
        (format!("<open xmlns='{FRAMING}' p:to='{HALL}' version='1.0'/>"), "<not-well-formed"),
        (format!("<open xmlns='{FRAMING}' to='{}' version='1.0'/>", "x".repeat(5000)), "<policy-violation"),
        ("<open xmlns='jabber:client' to='hall.example' version='1.0'/>".to_owned(), "<stream:error"),
    ] {
        let mut web = upgraded(&world, at).await;
        web.say(&open).await;
        let heard = [web.hear().await, web.hear().await].concat();
        assert!(heard.starts_with("<open ") && heard.contains(answer), "{open}: {heard}");
    }
}

// RFC 6455 5.4: a message may come in parts of any size, with control frames between them; a part of one is not waited for for ever.
#[tokio::test]
async fn fragments_are_put_together_and_a_part_is_not_waited_for() {
    let (world, at) = door(&plan().timeout("stanza", "5s"), "").await;
    let romeo = world.login("romeo", HALL).await.unwrap();
    let mut web = bound(&world, at, "juliet").await;
    let message = "<message xmlns='jabber:client' to='romeo@hall.example'><body>in parts</body></message>";
    for (n, octet) in message.bytes().enumerate() {
        let last = n + 1 == message.len();
        web.frame(
            if n == 0 {
                0x01
            } else if last {
                0x80
            } else {
                0x00
            },
            &[octet],
        )
        .await;
        if n == 20 {
            web.frame(0x89, b"between").await;
        }
    }
    romeo.inbox.wait_body("in parts").await.unwrap();
    assert_eq!(web.next().await, Said::Pong(b"between".to_vec()));
    for begun in [masked(0x01, b"<message"), masked(0x81, message.as_bytes())[..40].to_vec(), vec![0x81]] {
        let mut web = bound(&world, at, "juliet").await;
        let before = std::time::Instant::now();
        web.write(&begun).await;
        let (messages, code) = web.ending().await;
        assert!(messages.iter().any(|message| message.contains("<policy-violation ")), "{messages:?}");
        assert!(before.elapsed() < Duration::from_secs(15) && code == Some(1000), "{code:?}");
    }
    // Frames without content move nothing and hold nobody up.
    let mut web = bound(&world, at, "juliet").await;
    web.frame(0x01, b"<message").await;
    for _ in 0..20_000 {
        web.write(&masked(0x00, b"")).await;
    }
    let (messages, _) = web.ending().await;
    assert!(messages.iter().any(|message| message.contains("<policy-violation ")), "{messages:?}");
}

// WS-04, LIM-01: the sizes of TCP hold for whole messages, before and after the login.
#[tokio::test]
async fn a_message_may_have_what_a_stanza_may() {
    let (world, at) = door(&plan().limit("stanza", "20KiB").limit("preauth-element", "11KiB"), "").await;
    let of = |octets: usize| {
        let (before, after) =
            ("<message xmlns='jabber:client' to='romeo@hall.example'><body>", "</body></message>");
        format!("{before}{}{after}", "x".repeat(octets - before.len() - after.len()))
    };
    let romeo = world.login("romeo", HALL).await.unwrap();
    let mut web = bound(&world, at, "juliet").await;
    web.say(&of(20 * 1024)).await;
    romeo.inbox.wait(|heard| heard.body().is_some_and(|body| body.len() > 20_000)).await.unwrap();
    // It is not read, so it cannot come back alone, as over TCP (XML-17); who sent it reads what was wrong all the same.
    let words = "the stanza is larger than the limit: 20481, and 20480 is the most (stanza)";
    let refused = [("flow", "c2s"), ("reason", "stanza")];
    web.say(&of(20 * 1024 + 1)).await;
    let (messages, code) = web.ending().await;
    assert!(code == Some(1009) && messages.concat().contains(words), "{code:?} {messages:?}");
    world.counted("stanzas_refused_total", &refused, 1.0).await.unwrap();
    // In parts as well, and on a managed stream.
    let mut web = bound(&world, at, "juliet").await;
    web.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    let whole = of(20 * 1024 + 1);
    web.frame(0x01, &whole.as_bytes()[..15_000]).await;
    web.frame(0x80, &whole.as_bytes()[15_000..]).await;
    let (messages, code) = web.ending().await;
    assert!(code == Some(1009) && messages.concat().contains(words), "{code:?} {messages:?}");
    world.counted("stanzas_refused_total", &refused, 2.0).await.unwrap();
    // Before the login nobody is told of limits.
    let mut web = upgraded(&world, at).await;
    web.open(HALL).await;
    web.hear_of("<mechanism").await;
    web.write(&head(0x81, 11 * 1024 + 1, 0x80)).await;
    web.write(&[0; 4]).await;
    assert_eq!(web.ending().await.1, Some(1009));
}

// WS-01, RFC 6455 4.2, 10.2: what is no upgrade of ours is none, and is counted.
#[tokio::test]
async fn upgrades_that_are_none_are_refused() {
    let (world, at) =
        door(&plan(), ", origins: [\"https://chat.example\", \"https://other.example:8443\"]").await;
    let good = upgrade_of("/xmpp-websocket", HALL, "");
    let with = |more: &str| upgrade_of("/xmpp-websocket", HALL, more);
    for (request, status, reason) in [
        (with("Origin: https://evil.example\r\n"), 403, "foreign-origin"),
        (with("Origin: https://hall.example\r\n"), 403, "foreign-origin"),
        (with("Origin: null\r\n"), 403, "foreign-origin"),
        (with("Origin: https://chat.example.evil.example\r\n"), 403, "foreign-origin"),
        (with("Origin: http://chat.example\r\n"), 403, "foreign-origin"),
        (with("Origin: https://chat.example\r\nOrigin: https://evil.example\r\n"), 403, "foreign-origin"),
        (good.replace("GET ", "POST "), 405, "bad-upgrade"),
        (good.replace("Upgrade: websocket", "Upgrade: h2c"), 426, "bad-upgrade"),
        (good.replace("keep-alive, Upgrade", "keep-alive"), 426, "bad-upgrade"),
        (good.replace("Version: 13", "Version: 8"), 426, "bad-upgrade"),
        (good.replace("Sec-WebSocket-Protocol: xmpp\r\n", ""), 400, "bad-upgrade"),
        (good.replace("Protocol: xmpp", "Protocol: mqtt, xmpp-framing"), 400, "bad-upgrade"),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhl"), 400, "bad-upgrade"),
        (good.replace("/xmpp-websocket", "/other"), 404, "bad-upgrade"),
        (good.replace("/xmpp-websocket", "/xmpp-websocket/"), 404, "bad-upgrade"),
        (good.replace("GET /", "GET https://hall.example/"), 400, "bad-upgrade"),
        (good.replace("Host: hall.example\r\n", ""), 400, "bad-upgrade"),
        (with("Host: other.example\r\n"), 400, "bad-upgrade"),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 400, "bad-upgrade"),
        (with("Content-Length: 5\r\n") + "hello", 400, "bad-upgrade"),
        (with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400, "bad-upgrade"),
        // Behind the answer somebody else's words would be a client's.
        (format!("{good}GET /admin HTTP/1.1\r\nHost: hall.example\r\n\r\n"), 101, "bad-upgrade"),
        (format!("{good}{}", String::from_utf8(vec![0x01, 0x02]).unwrap()), 101, "bad-upgrade"),
    ] {
        let before = refused(&world, reason).await;
        let mut web = Web::secure(&world, at, HALL, &["http/1.1"]).await.unwrap();
        let (found, head, _) = web.request(&request).await;
        assert_eq!(found, status, "{request}{head}");
        assert_eq!(web.next().await, Said::End, "{request}");
        let labels = [("listener", "websocket"), ("reason", reason)];
        world.counted("connections_refused_total", &labels, before + 1.0).await.unwrap();
    }
    for junk in [
        "\r\n\r\n\r\nGET\r\n\r\n",
        "<stream:stream xmlns='jabber:client'>\r\n\r\n",
        &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000)),
    ] {
        let mut web = Web::secure(&world, at, HALL, &["http/1.1"]).await.unwrap();
        let (status, _, _) = web.request(junk).await;
        assert!(matches!(status, 0 | 400..=431), "{status}");
    }
    for origin in ["https://chat.example", "https://other.example:8443", "HTTPS://CHAT.EXAMPLE"] {
        let mut web = Web::secure(&world, at, HALL, &[]).await.unwrap();
        assert_eq!(web.upgrade(HALL, &format!("Origin: {origin}\r\n")).await.0, 101, "{origin}");
    }
    // XEP-0368: who wants another protocol is not served one.
    assert!(Web::secure(&world, at, HALL, &["xmpp-client"]).await.is_err());
}

// XEP-0156 3: where each domain is found, for the domains that are ours and nobody else.
#[tokio::test]
async fn the_documents_lead_to_the_listener() {
    let (world, at) = door(&plan(), ", path: /ws").await;
    for (host, address) in [
        ("hall.example", "wss://hall.example/ws"),
        ("ANNEX.example:443", "wss://annex.example/ws"),
        ("annex.example:8443", "wss://annex.example:8443/ws"),
    ] {
        let ask = |path: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: https://anybody.example\r\n\r\n")
        };
        let mut web = Web::secure(&world, at, HALL, &["http/1.1"]).await.unwrap();
        let (status, head, body) = web.request(&ask("/.well-known/host-meta")).await;
        assert!(
            status == 200 && head.to_ascii_lowercase().contains("access-control-allow-origin: *"),
            "{head}"
        );
        let link = format!("<Link rel='urn:xmpp:alt-connections:websocket' href='{address}'/>");
        assert!(body.contains(&link) && head.contains("application/xrd+xml"), "{body}");
        let mut web = Web::secure(&world, at, HALL, &["http/1.1"]).await.unwrap();
        let (status, _, body) = web.request(&ask("/.well-known/host-meta.json")).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body["links"][0]["href"].as_str()), (200, Some(address)));
    }
    // Such an answer is no attempt to come in: an office may ask as often as it has pages (`rate`).
    let (small, there) = door(&Plan::listed(HALL, sockets::POLICY).limit("rate", "10/min"), "").await;
    for _ in 0..25 {
        let mut web = Web::secure(&small, there, HALL, &["http/1.1"]).await.unwrap();
        let ask = format!("GET /.well-known/host-meta.json HTTP/1.1\r\nHost: {HALL}\r\n\r\n");
        assert_eq!(web.request(&ask).await.0, 200);
    }
    for host in
        ["elsewhere.example", "127.0.0.1", "hall.example.evil.example", "hall.example@evil.example", "x' y"]
    {
        let mut web = Web::secure(&world, at, HALL, &["http/1.1"]).await.unwrap();
        let (status, _, body) =
            web.request(&format!("GET /.well-known/host-meta HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert!(matches!(status, 400 | 404) && body.is_empty(), "{host}: {status} {body}");
    }
}

// ACC-03, ACC-08: TLS at a proxy in front, which must name the client; nobody else is taken for it.
#[tokio::test]
async fn tls_may_end_at_a_proxy_that_says_who_it_is() {
    let (world, at) = door(&plan(), ", tls: proxy, proxy-protocol: [127.0.0.0/8]").await;
    let mut web = Web::dial(at).await;
    web.write(b"PROXY TCP4 192.0.2.77 192.0.2.1 40000 443\r\n").await;
    assert_eq!(web.upgrade(HALL, "").await.0, 101);
    web.login("juliet", HALL, PASSWORD).await;
    web.say(&format!("<close xmlns='{FRAMING}'/>")).await;
    web.ending().await;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let audit = world.folder.path().join("audit.jsonl");
    while !std::fs::read_to_string(&audit).unwrap().contains("192.0.2.77") {
        assert!(std::time::Instant::now() < end, "no record of the client behind the proxy");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut web = Web::dial(at).await;
    assert_eq!(web.upgrade(HALL, "").await.0, 0, "no header, no answer");
    world.counted("connections_refused_total", &[("reason", "bad-proxy-header")], 1.0).await.unwrap();
}

/// HAProxy with TLS for clients, which speaks HTTP in clear behind and names them. It ends with the test.
struct Front(std::process::Child);

impl Front {
    async fn start(world: &World, at: SocketAddr, gateway: SocketAddr) -> Self {
        let folder = world.folder.path();
        let read = |name: &str| std::fs::read_to_string(folder.join("pki").join(name)).unwrap();
        let both = read(&format!("{HALL}.pem")) + &read(&format!("{HALL}.key"));
        std::fs::write(folder.join("front.pem"), both).unwrap();
        let config = folder.join("front.cfg");
        let text = format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  timeout tunnel 60s\n\
             frontend web\n  bind {at} ssl crt {}\n  default_backend gate\n\
             backend gate\n  server one {gateway} send-proxy-v2 source 127.0.48.10\n",
            folder.join("front.pem").display()
        );
        std::fs::write(&config, text).unwrap();
        let child = std::process::Command::new("/usr/sbin/haproxy").args(["-db", "-f"]).arg(&config).spawn();
        let front = Self(child.unwrap());
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(at).await.is_err() {
            assert!(std::time::Instant::now() < end, "HAProxy never listened");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        front
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

// WS-02, ACC-08: the same with HAProxy, which reads the upgrade as HTTP, passes messages both ways and names the client.
#[tokio::test]
async fn haproxy_ends_tls_before_it_and_names_the_client() {
    let (world, gateway) = door(&plan(), ", tls: proxy, proxy-protocol: [127.0.0.0/8]").await;
    let at = gatehouse::demo::free([127, 0, 48, 9].into(), 0).await.unwrap();
    let _front = Front::start(&world, at, gateway).await;
    let (mut juliet, mut nurse) = (bound(&world, at, "juliet").await, bound(&world, at, "nurse").await);
    let long = "x".repeat(100_000);
    juliet
        .say(&format!("<message xmlns='jabber:client' to='nurse@{HALL}'><body>{long}</body></message>"))
        .await;
    nurse.hear_of(&long).await;
    for web in [&mut juliet, &mut nurse] {
        web.say(&format!("<close xmlns='{FRAMING}'/>")).await;
        web.ending().await;
    }
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let audit = world.folder.path().join("audit.jsonl");
    let mut records = String::new();
    while records.matches("\"127.0.48.9").count() < 2 {
        assert!(std::time::Instant::now() < end, "no record of the clients behind HAProxy: {records}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        records = std::fs::read_to_string(&audit).unwrap();
    }
    assert!(!records.contains("127.0.48.10"), "{records}");
}

// CLS-03: who says nothing is not waited for, at any step.
#[tokio::test]
async fn silence_is_not_waited_for() {
    let quick = plan().timeout("first-byte", "1s").timeout("header", "3s").timeout("tls", "3s");
    let (world, at) = door(&quick, "").await;
    let began = std::time::Instant::now();
    let mut silent = Web::dial(at).await;
    assert_eq!(silent.next().await, Said::End);
    let mut web = Web::secure(&world, at, HALL, &["http/1.1"]).await.unwrap();
    assert_eq!(web.next().await, Said::End, "no request");
    let mut web = Web::secure(&world, at, HALL, &["http/1.1"]).await.unwrap();
    let (status, ..) = web.request("GET /xmpp-websocket HTTP/1.1\r\nHost: ha").await;
    assert!(matches!(status, 0 | 408), "half a request: {status}");
    let mut web = upgraded(&world, at).await;
    assert!(matches!(web.next().await, Said::End | Said::Close(_)), "no stream");
    assert!(began.elapsed() < Duration::from_secs(20));
}

// CLS-08: a drain is told as over TCP.
#[tokio::test]
async fn a_drain_is_told_and_closes() {
    let (world, at) = door(&plan(), "").await;
    let mut web = bound(&world, at, "juliet").await;
    let (ending, _) = tokio::join!(web.ending(), world.gate.stop());
    let (messages, code) = ending;
    assert!(messages.iter().any(|message| message.contains("<system-shutdown ")), "{messages:?}");
    assert_eq!(code, Some(1000));
}
