//! One port for everybody (`flow: mixed, tls: any`): servers and clients, STARTTLS, direct TLS and WebSocket, told apart by first
//! octets, ALPN and the namespace of the stream, and by nothing that is said later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::sockets::*;
use crate::websocket_client::{Said, Web, listen};
use gatehouse::demo::client::{Account, Client};
use gatehouse::demo::dial;
use gatehouse::demo::session::Login;
use gatehouse::demo::wire::Wire;
use gatehouse::demo::world::{Plan, World};

const PASSWORD: &str = "open sesame";

async fn port(plan: &Plan) -> (World, SocketAddr) {
    let world = World::build(plan).await.unwrap();
    let at = listen(&world, "flow: mixed, tls: any, path: /xmpp-websocket").await;
    (world, at)
}

fn header(content: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='{content}' xmlns:stream='http://etherx.jabber.org/streams' \
         to='{HALL}' from='friend.example' version='1.0'>"
    )
}

/// A wire under TLS with these protocols offered.
async fn under_tls(world: &World, at: SocketAddr, alpn: &[&str]) -> Result<Wire, String> {
    let mut wire = Wire::new(dial(at.ip(), at).await.unwrap());
    let mut config = rustls::ClientConfig::clone(&*world.authority.client(None, false).unwrap());
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    wire.secure(std::sync::Arc::new(config), HALL).await.map_err(|trouble| trouble.0)?;
    Ok(wire)
}

// ACC-01, ACC-11, XEP-0368: all five ways in at the same port, each as at a listener of its own.
#[tokio::test]
async fn everybody_comes_in_by_one_port() {
    let (world, at) = port(&plan()).await;
    let romeo = world.login("romeo", HALL).await.unwrap();
    // A client, STARTTLS.
    let account = Account { user: "juliet", domain: HALL, password: PASSWORD };
    let tls = world.authority.client(None, false).unwrap();
    let client = Client::login_over_tls(at.ip(), at, account, tls).await.unwrap();
    client.say("romeo@hall.example", "by starttls").await.unwrap();
    romeo.inbox.wait_body("by starttls").await.unwrap();
    // A client, direct TLS.
    let mut wire = under_tls(&world, at, &["xmpp-client"]).await.unwrap();
    wire.send(header("jabber:client")).await.unwrap();
    wire.header().await.unwrap();
    assert!(wire.element().await.unwrap().raw.contains("PLAIN"));
    // A client, WebSocket.
    let mut web = Web::secure(&world, at, HALL, &["http/1.1"]).await.unwrap();
    assert_eq!(web.upgrade(HALL, "").await.0, 101);
    web.login("nurse", HALL, PASSWORD).await;
    web.say("<message xmlns='jabber:client' to='romeo@hall.example'><body>by websocket</body></message>")
        .await;
    romeo.inbox.wait_body("by websocket").await.unwrap();
    // A server, STARTTLS, and one with direct TLS.
    let friend = peer(&world, 10, FRIEND).await;
    let mut call = friend.call(HALL).unwrap();
    call.target = at;
    let mut stream = call.open().await.unwrap();
    assert_eq!(stream.external(FRIEND).await.unwrap(), Login::Success);
    still_passes(&world, &mut stream, "a@friend.example", "romeo@hall.example", "server by starttls").await;
    let cousin = peer(&world, 11, COUSIN).await;
    let mut call = world.directly(cousin.call(HALL).unwrap(), None).unwrap();
    call.target = at;
    let mut stream = call.open().await.unwrap();
    assert_eq!(stream.dialback(COUSIN, HALL).await.unwrap(), gatehouse::demo::session::Word::Valid);
    still_passes(&world, &mut stream, "c@cousin.example", "romeo@hall.example", "server by direct TLS").await;
    let metrics = world.metrics().await.unwrap();
    assert!(metrics.sum("connections_total", &[("listener", "mixed"), ("outcome", "allow")]) >= 5.0);
}

// ACC-01: what was told first holds; what is said later in other words is an error of its stream.
#[tokio::test]
async fn what_a_connection_is_does_not_change() {
    let (world, at) = port(&plan()).await;
    for (alpn, content) in
        [("xmpp-server", "jabber:client"), ("xmpp-client", "jabber:server"), ("xmpp-client", "jabber:other")]
    {
        let mut wire = under_tls(&world, at, &[alpn]).await.unwrap();
        wire.send(header(content)).await.unwrap();
        let ending = wire.ending().await.unwrap();
        assert_eq!(ending.condition.as_deref(), Some("invalid-namespace"), "{alpn} {content}");
    }
    // In clear: neither a client's nor a server's, and HTTP, is answered as servers are.
    for (octets, condition) in [
        (header("jabber:other"), Some("invalid-namespace")),
        ("GET /xmpp-websocket HTTP/1.1\r\nHost: hall.example\r\n\r\n".to_owned(), Some("not-well-formed")),
        ("<stream:stream xmlns='jabber:client' to=>".to_owned(), Some("not-well-formed")),
        (format!("<stream:stream a='{}", "x".repeat(5000)), Some("policy-violation")),
    ] {
        let mut wire = Wire::new(dial(at.ip(), at).await.unwrap());
        wire.send(&octets).await.unwrap();
        assert_eq!(wire.ending().await.unwrap().condition.as_deref(), condition, "{octets}");
    }
    // Who names no protocol under TLS is none of them; who names one that is not spoken hears so.
    let mut wire = under_tls(&world, at, &[]).await.unwrap();
    let _ended = wire.ending().await;
    world
        .counted("connections_refused_total", &[("listener", "mixed"), ("reason", "wrong-transport")], 1.0)
        .await
        .unwrap();
    assert!(under_tls(&world, at, &["h2"]).await.is_err());
    // A client of STARTTLS may not become a server on the way.
    let mut wire = Wire::new(dial(at.ip(), at).await.unwrap());
    wire.send(header("jabber:client")).await.unwrap();
    wire.header().await.unwrap();
    assert!(wire.element().await.unwrap().raw.contains("starttls"));
    wire.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await.unwrap();
    wire.element().await.unwrap();
    wire.secure(world.authority.client(None, false).unwrap(), HALL).await.unwrap();
    wire.send(header("jabber:server")).await.unwrap();
    assert_eq!(wire.ending().await.unwrap().condition.as_deref(), Some("invalid-namespace"));
}

// CLS-03: nobody is waited for beyond the deadlines of any listener, and octets may come one by one within them.
#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let (world, at) =
        port(&plan().timeout("first-byte", "1s").timeout("header", "3s").timeout("tls", "2s")).await;
    for begun in ["", "<", "<stream:stream xmlns='jabber:client'", "\u{16}", "\u{16}\u{3}\u{1}"] {
        let began = Instant::now();
        let mut silent = Web::dial(at).await;
        silent.write(begun.as_bytes()).await;
        assert!(matches!(silent.next().await, Said::End), "{begun:?}");
        assert!(began.elapsed() < Duration::from_secs(8), "{begun:?}: {:?}", began.elapsed());
    }
    let mut slow = Wire::new(dial(at.ip(), at).await.unwrap());
    for octet in header("jabber:client").bytes() {
        slow.send([octet]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    slow.header().await.unwrap();
    let (timeout, lost) = ("header-timeout", world.metrics().await.unwrap());
    assert!(lost.sum("connections_refused_total", &[("listener", "mixed"), ("reason", timeout)]) >= 2.0);
}
