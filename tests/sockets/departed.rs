//! A reload takes a domain out that streams of peers go back for (XEP-0288): what its server has sent is delivered or comes back,
//! wherever it waits (CLS-02, SM-08).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use crate::reload::remove_annex;
use crate::sockets::*;
use crate::steering::ask;
use gatehouse::demo::node::Node;
use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::{Login, Session};
use gatehouse::demo::wire::Item;
use gatehouse::demo::world::World;

/// A stream of the cousin to the domain that goes, both ways; and counted, if it is to be.
async fn both_ways(world: &World, cousin: &Peer, counted: bool) -> Session {
    let mut stream = cousin.call(ANNEX).unwrap().open().await.unwrap();
    stream.send("<bidi xmlns='urn:xmpp:bidi'/>").await.unwrap();
    assert_eq!(stream.external(COUSIN).await.unwrap(), Login::Success);
    if counted {
        stream.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await.unwrap();
        assert!(stream.wire.element().await.unwrap().raw.starts_with("<enabled "));
    }
    still_passes(world, &mut stream, "c@cousin.example", "k@annex.example", "it stands").await;
    stream
}

/// A world in which such a stream stands.
async fn stands(counted: bool) -> (World, Peer, Session) {
    let world = border().await;
    let cousin = peer(&world, 12, COUSIN).await;
    let stream = both_ways(&world, &cousin, counted).await;
    (world, cousin, stream)
}

/// A reload takes the domain out.
async fn take_out(world: &World) {
    remove_annex(world);
    ask(&world.socket(), &["reload"]).await;
}

fn send(world: &World, id: &str, body: &str) {
    world.legacy.send(format!(
        "<message from='k@annex.example' to='c@cousin.example' id='{id}'><body>{body}</body></message>"
    ));
}

/// The error about the stanza of that name, which its sender reads.
async fn comes_back(world: &World, id: &str) -> Node {
    let about = |n: &Node| n.is_stanza() && n.attr("id") == Some(id) && n.attr("type") == Some("error");
    world
        .legacy
        .inbox
        .wait_for(Duration::from_secs(25), about)
        .await
        .unwrap_or_else(|_| panic!("{id} is lost"))
}

fn came_back(world: &World, id: &str) -> usize {
    world.legacy.inbox.all().iter().filter(|n| n.is_stanza() && n.attr("id") == Some(id)).count()
}

/// Reads until the stanza of that name has come.
async fn reads(stream: &mut Session, id: &str) {
    while stream.wire.element().await.unwrap().attr("id") != Some(id) {}
}

// RLY-05, CLS-02: far more than the connection takes, of which some is out, some waits to go out, and some waits for that.
#[tokio::test]
async fn what_waits_for_a_peer_that_reads_nothing_is_delivered_or_comes_back() {
    let (world, _cousin, mut stream) = stands(false).await;
    let body = "x".repeat(64 << 10);
    let names: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
    names.iter().for_each(|id| send(&world, id, &body));
    let waits = async || world.metrics().await.unwrap().sum("limited_total", &[("limit", "queue")]) > 0.0;
    let mut quiet = 0;
    let mut last = 0.0;
    while quiet < 5 && !waits().await {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let passed = world.metrics().await.unwrap().sum("octets_total", &[("flow", "s2s-out")]);
        quiet = if passed == last { quiet + 1 } else { 0 };
        last = passed;
    }
    take_out(&world).await;
    let error = comes_back(&world, "n99").await;
    assert!(error.raw.contains("missing `- name: annex.example` under `domains:`"), "{}", error.raw);
    let mut delivered = Vec::new();
    while let Ok(item) = stream.wire.next_within(Duration::from_secs(5)).await {
        match item {
            Item::Element(node) => delivered.extend(node.attr("id").map(str::to_owned)),
            Item::Header(_) => {}
            Item::Close | Item::End => break,
        }
    }
    for id in &names {
        if !delivered.contains(id) {
            comes_back(&world, id).await;
        }
        let times = delivered.iter().filter(|known| *known == id).count() + came_back(&world, id);
        assert_eq!(times, 1, "{id}");
    }
}

// SM-01, SM-08: what a peer has read and not acknowledged by the end of its stream.
#[tokio::test]
async fn what_a_peer_never_acknowledges_comes_back() {
    let (world, _cousin, mut stream) = stands(true).await;
    send(&world, "a", "read");
    reads(&mut stream, "a").await;
    take_out(&world).await;
    let ending = stream.ending().await.unwrap();
    assert_eq!(ending.condition.as_deref(), Some("host-gone"), "{ending:?}");
    drop(stream);
    comes_back(&world, "a").await;
    assert_eq!(came_back(&world, "a"), 1);
}

// The same of one that it acknowledges at the last moment: that one is delivered, and the one behind it is not.
#[tokio::test]
async fn what_a_peer_acknowledges_at_last_does_not_come_back() {
    let (world, _cousin, mut stream) = stands(true).await;
    send(&world, "a", "one");
    send(&world, "b", "two");
    reads(&mut stream, "b").await;
    take_out(&world).await;
    stream.send("<a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>").await.unwrap();
    comes_back(&world, "b").await;
    assert_eq!((came_back(&world, "a"), came_back(&world, "b")), (0, 1));
}

// SM-01: the stream is broken when the domain goes, and what it has left waits for whoever goes on with it.
#[tokio::test]
async fn what_waits_behind_a_broken_stream_comes_back() {
    let world = World::build(&plan().timeout("resume", "3s")).await.unwrap();
    let cousin = peer(&world, 12, COUSIN).await;
    let mut stream = both_ways(&world, &cousin, true).await;
    send(&world, "a", "read");
    reads(&mut stream, "a").await;
    drop(stream);
    while world.metrics().await.unwrap().sum("stream_management_total", &[("outcome", "broken")]) < 1.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Behind it.
    send(&world, "b", "waits");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(came_back(&world, "b"), 0);
    take_out(&world).await;
    comes_back(&world, "a").await;
    let error = comes_back(&world, "b").await;
    assert!(error.raw.contains("missing `- name: annex.example` under `domains:`"), "{}", error.raw);
    assert_eq!((came_back(&world, "a"), came_back(&world, "b")), (1, 1));
}

// What its server goes on sending is answered as well, and a second reload changes nothing of that.
#[tokio::test]
async fn what_is_sent_after_it_has_gone_comes_back() {
    let (world, _cousin, _stream) = stands(false).await;
    remove_annex(&world);
    for id in ["a", "b"] {
        ask(&world.socket(), &["reload"]).await;
        send(&world, id, "late");
        let error = comes_back(&world, id).await;
        assert!(error.raw.contains("missing `- name: annex.example` under `domains:`"), "{}", error.raw);
    }
}
