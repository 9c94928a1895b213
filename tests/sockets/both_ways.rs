//! Attacks on streams that go both ways (XEP-0288, SM-08) by a peer that holds its own end of the socket: when the feature is asked for,
//! what is sent against the flow, and whose stanzas go back over which connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use crate::sockets::*;
use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::{Login, Session};
use gatehouse::demo::wire::Item;
use gatehouse::demo::world::World;

const ASK: &str = "<bidi xmlns='urn:xmpp:bidi'/>";

/// A stream under TLS that has asked for both ways, and no more.
async fn asked(peer: &Peer, hosted: &str) -> Session {
    let mut stream = peer.call(hosted).unwrap().open().await.unwrap();
    let offered = stream.features.as_ref().is_some_and(|features| features.child("bidi").is_some());
    assert!(offered, "{:?}", stream.features);
    stream.send(ASK).await.unwrap();
    stream
}

/// The same, proven by certificate.
async fn both_ways(peer: &Peer, hosted: &str) -> Session {
    let mut stream = asked(peer, hosted).await;
    assert_eq!(stream.external(peer.domain()).await.unwrap(), Login::Success);
    stream
}

/// The first stanza with this body on the stream.
async fn comes_back(stream: &mut Session, body: &str) {
    loop {
        match stream.wire.next().await.unwrap() {
            Item::Element(node) if node.raw.contains(body) => return,
            Item::Element(_) | Item::Header(_) => {}
            Item::Close | Item::End => panic!("the stream has ended before {body:?}"),
        }
    }
}

/// Nothing is said on the stream for a while but what does not hold this.
async fn nothing_comes(stream: &mut Session, body: &str) {
    while let Ok(item) = stream.wire.next_within(Duration::from_millis(700)).await {
        match item {
            Item::Element(node) => assert!(!node.raw.contains(body), "{}", node.raw),
            Item::Header(_) => {}
            Item::Close | Item::End => return,
        }
    }
}

async fn ends_with(stream: &mut Session, what: &str, condition: &str) {
    let ending = stream.ending().await.unwrap_or_else(|trouble| panic!("{what}: {trouble}"));
    assert!(format!("{ending:?}").contains(condition), "{what}: {ending:?}");
}

async fn stands(world: &World, peer: &Peer) -> Session {
    let mut stream = both_ways(peer, HALL).await;
    still_passes(world, &mut stream, "a@friend.example", "j@hall.example", "it stands").await;
    stream
}

// SM-08: "negotiate after TLS and before auth"; where it is not offered, twice, or behind a proof it ends the stream.
#[tokio::test]
async fn it_is_asked_for_after_tls_once_and_before_any_proof() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut clear = friend.call(HALL).unwrap().open_clear().await.unwrap();
    assert!(clear.features.as_ref().is_some_and(|features| features.child("bidi").is_none()));
    clear.send(ASK).await.unwrap();
    ends_with(&mut clear, "in clear", "unsupported-stanza-type").await;

    let mut twice = asked(&friend, HALL).await;
    twice.send(ASK).await.unwrap();
    ends_with(&mut twice, "twice", "unsupported-stanza-type").await;

    let mut late = by_certificate(&friend, HALL).await;
    late.send(ASK).await.unwrap();
    ends_with(&mut late, "behind a proof", "unsupported-stanza-type").await;

    // Nobody gets anything back who has not asked in time: the answer takes a stream of ours.
    let mut plain = by_certificate(&friend, HALL).await;
    still_passes(&world, &mut plain, "a@friend.example", "j@hall.example", "good day").await;
    world.legacy.message("j@hall.example", "a@friend.example", "by our own");
    friend.inbox.wait_body("by our own").await.unwrap();
    nothing_comes(&mut plain, "by our own").await;
}

// SM-08: "send back only inverses of authorised pairs": not before a proof, not for whom the rule lets only in, not for another hosted
// domain, and for no other remote domain of the same server.
#[tokio::test]
async fn only_the_inverse_of_what_stands_goes_back() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut unproven = asked(&friend, HALL).await;
    world.legacy.message("j@hall.example", "a@friend.example", "too soon");
    friend.inbox.wait_body("too soon").await.unwrap();
    nothing_comes(&mut unproven, "too soon").await;

    let mut stream = stands(&world, &friend).await;
    // Our own stream of before carries what comes until it ends.
    let _closed = world.gate.reload().await;
    world.legacy.message("j@hall.example", "a@friend.example", "which way");
    let by_us = friend.inbox.wait_body("which way");
    tokio::select! {
        () = comes_back(&mut stream, "which way") => {}
        came = by_us => drop(came.unwrap()),
    }
    let cousin = peer(&world, 12, COUSIN).await;
    world.legacy.message("j@annex.example", "a@cousin.example", "not on that one");
    cousin.inbox.wait_body("not on that one").await.unwrap();
    nothing_comes(&mut stream, "not on that one").await;
}

// The inverse of a pair that was refused is as refused, and a stanza that goes back goes to whom it is for.
#[tokio::test]
async fn what_goes_back_comes_on_the_stream_of_who_has_proven_himself() {
    let world = border().await;
    let (friend, cousin) = (peer(&world, 10, FRIEND).await, peer(&world, 12, COUSIN).await);
    let mut stream = stands(&world, &friend).await;
    let mut other = both_ways(&cousin, HALL).await;
    still_passes(&world, &mut other, "a@cousin.example", "j@hall.example", "so does this").await;
    world.legacy.message("j@hall.example", "a@friend.example", "for the friend");
    comes_back(&mut stream, "for the friend").await;
    nothing_comes(&mut other, "for the friend").await;

    // A claim on the same stream for a domain that is not listed brings nothing of it back.
    stream.claim(STRANGER, HALL).await.unwrap();
    world.legacy.message("j@hall.example", "a@stranger.example", "not for you");
    world.legacy.bounces.wait(|n| n.attr("from") == Some("a@stranger.example")).await.unwrap();
    nothing_comes(&mut stream, "not for you").await;
}

// RLY-02, SM-08: what comes against the flow is a forgery, whatever was agreed on; and a wrong `from` is one in any direction.
#[tokio::test]
async fn a_forged_direction_ends_the_stream_and_passes_nothing() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    for forged in [
        "<message from='j@hall.example/h' to='a@friend.example'><body>forged</body></message>",
        "<message from='j@hall.example/h' to='j@hall.example'><body>forged</body></message>",
        "<message from='a@friend.example' to='b@friend.example'><body>forged</body></message>",
        "<message from='a@cousin.example' to='j@hall.example'><body>forged</body></message>",
        "<message from='a@friend.example' to='j@annex.example'><body>forged</body></message>",
    ] {
        let mut stream = stands(&world, &friend).await;
        stream.send(forged).await.unwrap();
        let ended = stream.ending().await;
        assert!(ended.is_ok(), "{forged}: {ended:?}");
    }
    let forged = |n: &gatehouse::demo::node::Node| n.raw.contains("forged");
    assert!(!world.legacy.inbox.all().iter().any(forged) && !friend.inbox.all().iter().any(forged));
}

// XEP-0288 4, DB-22: a key is never verified on the connection that carried it: who asks us there about a key hears of his own question
// alone, and an answer there that nobody asked for proves nobody.
#[tokio::test]
async fn no_key_is_verified_on_the_connection_that_carried_it() {
    let world = border().await;
    let friend = world.old_peer(10, &[FRIEND]).await.unwrap();
    let mut stream = friend.call_bare(HALL).unwrap().open().await.unwrap();
    stream.send(ASK).await.unwrap();
    let visits = friend.visits();
    // A key of which the authoritative server knows nothing, vouched for on the same connection.
    let id = stream.id.clone();
    stream.send_key(FRIEND, HALL, "made-up").await.unwrap();
    let answer = format!("<db:verify from='{FRIEND}' to='{HALL}' id='{id}' type='valid'/>");
    stream.send(answer.repeat(2)).await.unwrap();
    stream
        .send("<message from='a@friend.example' to='j@hall.example'><body>unproven</body></message>")
        .await
        .unwrap();
    let _ended = stream.ending().await;
    assert!(!world.legacy.inbox.all().iter().any(|n| n.raw.contains("unproven")));
    // Where anybody was asked at all, that was over a connection of ours.
    assert!(friend.visits() <= visits + 1);
}
