//! Old servers that no test can install, by script: Wildfire 3.2.4, Openfire 4.7.5 and 5.2, Tigase 8.4.0.
//!
//! What each writes, waits for and gives up on was seen at the servers themselves, built from their sources, and is played by
//! `gatehouse::demo::legacy` over real sockets, through the gateway. tests/sockets/federation.rs plays its two-way messages and pings
//! with each of them as well.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use gatehouse::demo::legacy::Habit;
use gatehouse::demo::names;
use gatehouse::demo::peer::Manner;
use gatehouse::demo::world::World;

use crate::sockets::*;

const OLD: [Habit; 4] = [Habit::Openfire4, Habit::Openfire5, Habit::Tigase, Habit::Wildfire];

/// The border with this server behind it.
async fn before(habit: Habit) -> World {
    World::build(&plan().habit(habit)).await.unwrap()
}

// D4: Openfire 5.2 takes foreign domains that were proven on one stream for one another's, and cannot reach the second while it
// has a stream to the first. Two domains of one server come to it, over one stream of theirs, and to the others like it.
#[tokio::test]
async fn an_old_server_reaches_every_domain_of_a_server_that_came_to_it() {
    for habit in OLD {
        let world = before(habit).await;
        let rooms = "rooms.friend.example";
        let friend = world.peer(10, &[FRIEND, rooms], Manner::default()).await.unwrap();
        let mut stream = by_dialback(&friend, HALL).await;
        assert_eq!(stream.dialback(rooms, HALL).await.unwrap(), gatehouse::demo::session::Word::Valid);
        for from in ["a@friend.example", "room@rooms.friend.example/nick"] {
            still_passes(&world, &mut stream, from, "j@hall.example", &format!("from {from}")).await;
        }
        for to in ["a@friend.example", "room@rooms.friend.example"] {
            world.legacy.message("j@hall.example", to, &format!("to {to}"));
            friend.inbox.wait_body(&format!("to {to}")).await.unwrap_or_else(|e| panic!("{habit:?}: {e:?}"));
        }
        assert!(world.legacy.bounces.is_empty(), "{habit:?}: {:?}", world.legacy.bounces.all());
    }
}

// D9: a session outward is set up one at a time by Openfire 4.7, five at a time by Wildfire. Twenty silent partners hold up
// nobody who is well.
#[tokio::test]
async fn silent_partners_hold_up_no_message_to_a_healthy_one() {
    for habit in OLD {
        let policy = POLICY.replace("cousin.example,", "cousin.example, \"*.silent.example\",");
        let plan = gatehouse::demo::world::Plan::listed(HALL, &policy).habit(habit);
        let world = World::build(&plan).await.unwrap();
        let friend = peer(&world, 10, FRIEND).await;
        for n in 0..20 {
            let silent = format!("s{n}.silent.example");
            for name in [
                silent.clone(),
                format!("_xmpp-server._tcp.{silent}"),
                format!("_xmpps-server._tcp.{silent}"),
            ] {
                world.names.behave(&name, names::Manner::Silent);
            }
            world.legacy.message("j@hall.example", &format!("x@{silent}"), "anybody?");
        }
        let begun = Instant::now();
        world.legacy.message("j@hall.example", "r@friend.example", "good day");
        friend.inbox.wait_body("good day").await.unwrap_or_else(|e| panic!("{habit:?}: {e:?}"));
        assert!(begun.elapsed() < Duration::from_secs(5), "{habit:?}: {:?}", begun.elapsed());
    }
}

// RLY-19: Tigase writes what waits for a domain onto the connection of its question, which claimed nothing, and closes that. The
// question is open before its stream is: the peer comes first.
#[tokio::test]
async fn what_tigase_writes_on_the_connection_of_a_question_arrives() {
    let world = before(Habit::Tigase).await;
    let friend = peer(&world, 10, FRIEND).await;
    for round in 0..5 {
        let mut stream = by_certificate(&friend, HALL).await;
        for word in ["first", "second"] {
            world.legacy.message("j@hall.example", "r@friend.example", &format!("{word} {round}"));
        }
        stream.message("r@friend.example", "j@hall.example", &format!("in {round}")).await.unwrap();
        for word in ["first", "second"] {
            friend.inbox.wait_body(&format!("{word} {round}")).await.unwrap();
        }
        world.legacy.inbox.wait_body(&format!("in {round}")).await.unwrap();
        world.legacy.stop().await;
        world.legacy.resume().await.unwrap();
    }
}

// XML-11, XML-18: characters that must be written as references, which Tigase reads as decimal ones only.
#[tokio::test]
async fn tigase_reads_every_character_that_may_come_in() {
    let world = before(Habit::Tigase).await;
    let friend = peer(&world, 10, FRIEND).await;
    let mut stream = by_certificate(&friend, HALL).await;
    stream
        .send("<message from='r@friend.example' to='j@hall.example' id='a&#x9;b&#10;c'><body>a&#xD;b&#13;c&#x41;</body></message>")
        .await
        .unwrap();
    world.legacy.inbox.wait(|n| n.attr("id").is_some_and(|id| id.starts_with('a'))).await.unwrap();
    still_passes(&world, &mut stream, "r@friend.example", "j@hall.example", "and the stream goes on").await;
}

// RLY-19: Wildfire goes on to the parent of a domain that it cannot reach and sends the child's mail there; nothing of it is lost in
// silence, and the parent's pair goes on.
#[tokio::test]
async fn mail_for_a_child_on_the_parents_stream_comes_back_and_the_stream_goes_on() {
    let world = before(Habit::Wildfire).await;
    let friend = peer(&world, 10, FRIEND).await;
    world.legacy.message("j@hall.example", "r@friend.example", "before");
    friend.inbox.wait_body("before").await.unwrap();
    // No such server, as the DNS has it.
    world.legacy.message("j@hall.example", "x@nowhere.friend.example", "to the child");
    let gone = |n: &gatehouse::demo::node::Node| n.attr("from") == Some("x@nowhere.friend.example");
    let back = world.legacy.inbox.wait(gone).await;
    let back = match back {
        Ok(back) => back,
        Err(_) => world.legacy.bounces.wait(gone).await.unwrap(),
    };
    assert_eq!(condition(&back), Some("remote-server-not-found"), "{}", back.raw);
    world.legacy.message("j@hall.example", "r@friend.example", "after");
    friend.inbox.wait_body("after").await.unwrap();
}
