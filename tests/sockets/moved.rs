//! A domain moves to another server in one reload, with stanzas on their way in all directions: what was taken is delivered or comes
//! back, streams and clients stay where its server was until they end, and whoever comes next finds the new one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::sockets::*;
use crate::steering::{ask, tell};
use gatehouse::demo::legacy::{Habit, Legacy};
use gatehouse::demo::peer::{Manner, Welcome};
use gatehouse::demo::session::Login;
use gatehouse::demo::world::World;

/// The server that the second domain moves to.
async fn another(world: &World) -> Legacy {
    let IpAddr::V4(ip) = world.at.inside.ip() else { unreachable!() };
    let [a, b, c, _] = ip.octets();
    Legacy::start(Ipv4Addr::new(a, b, c, 13), &[ANNEX], Habit::Ejabberd, world.at.inside).await.unwrap()
}

/// Moves it there; `more` are further keys of its `backend:`.
fn moves(world: &World, to: &Legacy, more: &str) {
    let text = std::fs::read_to_string(&world.config).unwrap();
    let (hall, annex) = text.split_once(&format!("  - name: {ANNEX}")).unwrap();
    let (old, new) = (&world.legacy, to);
    let annex = annex.replacen(&format!("\"{}\"", old.c2s), &format!("\"{}\"", new.c2s), 1).replacen(
        &format!("s2s: [\"{}\"]", old.s2s),
        &format!("s2s: [\"{}\"]{more}", new.s2s),
        1,
    );
    let inside = |ip: IpAddr| format!("\"{ip}/32\"");
    let hall = hall.replace(
        &format!("from: [{}]", inside(old.s2s.ip())),
        &format!("from: [{}, {}]", inside(old.s2s.ip()), inside(new.s2s.ip())),
    );
    std::fs::write(&world.config, format!("{hall}  - name: {ANNEX}{annex}")).unwrap();
}

async fn reload(world: &World) {
    let said = ask(&world.socket(), &["reload"]).await;
    assert!(said["plan"].is_object(), "{said:#}");
}

// As the plan says: pairs stay until they end, or `close` ends them, and nothing is lost on the way.
#[tokio::test]
async fn what_comes_in_goes_to_the_old_server_until_its_stream_ends() {
    let world = border().await;
    let new = another(&world).await;
    let cousin = peer(&world, 12, COUSIN).await;
    let mut stream = by_certificate(&cousin, ANNEX).await;
    still_passes(&world, &mut stream, "c@cousin.example", "k@annex.example", "before").await;
    moves(&world, &new, "");
    let plan = ask(&world.socket(), &["reload", "--plan"]).await["plan"]["elsewhere"].to_string();
    assert!(plan.contains("annex.example: 1 pairs and 0 clients stay where its server was"), "{plan}");
    reload(&world).await;
    still_passes(&world, &mut stream, "c@cousin.example", "k@annex.example", "it stays").await;
    // DB-69: an error about what the new server has sent does not take the stream that still leads to the old one.
    let large = "x".repeat(300 << 10);
    new.send(format!(
        "<message from='k@annex.example' to='c@cousin.example' id='large'><body>{large}</body></message>"
    ));
    new.inbox.wait(|n| n.attr("id") == Some("large") && n.attr("type") == Some("error")).await.unwrap();
    assert!(!world.legacy.inbox.all().iter().any(|n| n.attr("id") == Some("large")));
    let mut fresh = by_certificate(&cousin, ANNEX).await;
    fresh.message("c@cousin.example", "k@annex.example", "it is there").await.unwrap();
    new.inbox.wait_body("it is there").await.unwrap();
    assert_eq!(tell(&world.socket(), &["close", ANNEX]).await.code, 0);
    stream.ending().await.unwrap();
    let mut next = by_certificate(&cousin, ANNEX).await;
    next.message("c@cousin.example", "k@annex.example", "so is this").await.unwrap();
    new.inbox.wait_body("so is this").await.unwrap();
    assert!(!world.legacy.inbox.all().iter().any(|n| n.raw.contains("there") || n.raw.contains("so is")));
}

// RLY-05, CLS-02: what the old server has sent, and waits for a partner that hangs, goes out in its order when that is back, together
// with what the new one sends; an error about it is read where the domain is now.
#[tokio::test]
async fn what_goes_out_is_delivered_or_comes_back_where_the_domain_is_now() {
    let world = World::build(&plan().timeout("header", "3s").timeout("queue", "20s")).await.unwrap();
    let new = another(&world).await;
    let cousin = peer(&world, 12, COUSIN).await;
    cousin.behave(|manner| manner.welcome = Welcome::Mute);
    world.legacy.message("k@annex.example", "c@cousin.example", "of the old one");
    while cousin.visits() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    moves(&world, &new, "");
    reload(&world).await;
    new.message("k@annex.example", "c@cousin.example", "of the new one");
    tokio::time::sleep(Duration::from_millis(300)).await;
    cousin.behave(|manner| *manner = Manner::default());
    let _proven = by_certificate(&cousin, ANNEX).await;
    for body in ["of the old one", "of the new one"] {
        cousin.inbox.wait_for(Duration::from_secs(20), |n| n.body() == Some(body)).await.unwrap();
    }
    let bodies: Vec<_> = cousin.inbox.all().iter().filter_map(|n| n.body().map(str::to_owned)).collect();
    assert_eq!(bodies, ["of the old one", "of the new one"]);
}

// XEP-0288: the partner's own stream takes what the new server sends, as it took what the old one did.
#[tokio::test]
async fn a_stream_that_goes_both_ways_takes_what_the_new_server_sends() {
    let world = border().await;
    let new = another(&world).await;
    let cousin = peer(&world, 12, COUSIN).await;
    let mut stream = cousin.call(ANNEX).unwrap().open().await.unwrap();
    stream.send("<bidi xmlns='urn:xmpp:bidi'/>").await.unwrap();
    assert_eq!(stream.external(COUSIN).await.unwrap(), Login::Success);
    still_passes(&world, &mut stream, "c@cousin.example", "k@annex.example", "before").await;
    world.legacy.message("k@annex.example", "c@cousin.example", "of the old one");
    moves(&world, &new, "");
    reload(&world).await;
    new.message("k@annex.example", "c@cousin.example", "of the new one");
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(stream.wire.element().await.unwrap().body().map(str::to_owned));
    }
    assert_eq!(came, ["of the old one", "of the new one"]);
    assert!(cousin.inbox.is_empty());
}

// DB-62: the old server speaks for the domain no more, and whoever wrote there reads so; named in `from:`, it does as long as that
// stands.
#[tokio::test]
async fn what_the_old_server_still_sends_comes_back_unless_it_is_named() {
    let world = border().await;
    let new = another(&world).await;
    let cousin = peer(&world, 12, COUSIN).await;
    let both = format!(", from: [\"{}/32\", \"{}/32\"]", new.s2s.ip(), world.legacy.s2s.ip());
    moves(&world, &new, &both);
    let _client = world.login_from_outside("k", ANNEX, None).await.unwrap();
    let plan = ask(&world.socket(), &["reload", "--plan"]).await["plan"]["elsewhere"].to_string();
    assert!(plan.contains("1 clients") && !plan.contains("comes back"), "{plan}");
    reload(&world).await;
    world.legacy.message("k@annex.example", "c@cousin.example", "named");
    new.message("k@annex.example", "c@cousin.example", "new");
    for body in ["named", "new"] {
        cousin.inbox.wait_body(body).await.unwrap();
    }
    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, text.replace(&both, "")).unwrap();
    reload(&world).await;
    world
        .legacy
        .send("<message from='k@annex.example' to='c@cousin.example' id='late'><body>late</body></message>");
    let error =
        |n: &gatehouse::demo::node::Node| n.attr("id") == Some("late") && n.attr("type") == Some("error");
    let error = world.legacy.inbox.wait(error).await.unwrap();
    assert!(error.raw.contains("belongs to another backend"), "{}", error.raw);
    new.message("k@annex.example", "c@cousin.example", "still new");
    cousin.inbox.wait_body("still new").await.unwrap();
}

// RFC 6120: a session is its server's, and ends with it or by the operator; the next login finds the new one.
#[tokio::test]
async fn a_client_stays_with_the_old_server_until_it_is_closed() {
    let world = border().await;
    let new = another(&world).await;
    let first = world.login_from_outside("k", ANNEX, None).await.unwrap();
    moves(&world, &new, "");
    let plan = ask(&world.socket(), &["reload", "--plan"]).await["plan"]["elsewhere"].to_string();
    assert!(plan.contains("annex.example: 0 pairs and 1 clients stay where its server was"), "{plan}");
    assert!(plan.contains("what its old server still sends comes back"), "{plan}");
    reload(&world).await;
    let cousin = peer(&world, 12, COUSIN).await;
    let mut stream = by_certificate(&cousin, ANNEX).await;
    let second = world.login_from_outside("k", ANNEX, None).await.unwrap();
    stream.message("c@cousin.example", &second.address, "for the new one").await.unwrap();
    second.inbox.wait_body("for the new one").await.unwrap();
    assert!(first.inbox.is_empty());
    // What is written there is not lost in silence: it is another server's by now.
    first.say("c@cousin.example", "of the old session").await.unwrap();
    let error = first.bounce("c@cousin.example").await.unwrap();
    assert!(error.raw.contains("belongs to another backend"), "{}", error.raw);
    assert!(cousin.inbox.is_empty());
    assert_eq!(tell(&world.socket(), &["close", "k@annex.example"]).await.code, 0);
    first.thrown_out().await.unwrap();
}
