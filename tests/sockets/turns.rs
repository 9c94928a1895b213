//! Streams of ours to the old server: so many at one time, taken in turns by registrable domain, and nothing lost ("one
//! address with a wildcard certificate opens 901 connections to the old server with default limits"). `GATEHOUSE_PAIRS` and
//! `GATEHOUSE_PLACES` play the same with other numbers, as 901 pairs, or a hoster's 1,000 domains, for 500 places.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::session::{Login, Session, Word};
use gatehouse::demo::world::{Plan, World};
use tokio::task::JoinSet;

use crate::sockets::*;

/// That many of something, unless the environment has another number.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A border that lets everybody in as often as they like: what is limited here is the way behind it.
async fn border(places: usize) -> World {
    let plan = Plan::open(HALL).limit("rate", "60000/min").limit("conn-s2s", "10000");
    let plan =
        plan.limit("conn-domain", "10000").limit("pairs-domain", "10000").limit("conn-servers", "10000");
    World::build(&plan.backend("connections", &places.to_string())).await.unwrap()
}

/// A stream for each of these domains, proven by certificate; nobody is turned away.
async fn come(peer: &Peer, domains: &[String]) -> Vec<Session> {
    let mut streams = Vec::new();
    for domain in domains {
        let mut stream = as_domain(peer.call(HALL).unwrap(), Some(domain)).open().await.unwrap();
        assert_eq!(stream.external(domain).await.unwrap(), Login::Success, "{domain}");
        streams.push(stream);
    }
    streams
}

/// So many messages of each, one after the other around the table.
async fn talk(streams: &mut [Session], domains: &[String], rounds: std::ops::Range<usize>) {
    for n in rounds {
        for (stream, domain) in streams.iter_mut().zip(domains) {
            stream.message(&format!("a@{domain}"), "j@hall.example", &format!("{domain} {n}")).await.unwrap();
        }
    }
}

/// Each has arrived once, in order.
async fn arrived(world: &World, domains: &[String], rounds: usize) {
    let until = Instant::now() + Duration::from_secs(120);
    let mut heard: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    loop {
        heard.clear();
        for stanza in world.legacy.inbox.all() {
            let (domain, n) = stanza.body().and_then(|body| body.split_once(' ')).unwrap();
            heard.entry(domain.to_owned()).or_default().push(n.parse().unwrap());
        }
        let all = domains.iter().all(|domain| heard.get(domain).is_some_and(|heard| heard.len() >= rounds));
        if all || Instant::now() >= until {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for domain in domains {
        assert_eq!(heard.get(domain), Some(&(0..rounds).collect::<Vec<_>>()), "{domain}");
    }
}

// D4: one stream for each pair, and no more than there are places; whoever has domains without end takes turns with itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_takes_turns_with_itself_and_an_honest_domain_does_not_wait_for_it() {
    let (pairs, places) = (number("GATEHOUSE_PAIRS", 30), number("GATEHOUSE_PLACES", 10));
    let world = border(places).await;
    let names: Vec<String> = (0..pairs).map(|n| format!("d{n}.wild.example")).collect();
    let wild = world.peer(10, &names.iter().map(String::as_str).collect::<Vec<_>>(), Manner::default()).await;
    let (wild, friend) = (wild.unwrap(), peer(&world, 11, FRIEND).await);
    let mut streams = come(&wild, &names).await;
    talk(&mut streams, &names, 0..2).await;

    let begun = Instant::now();
    let mut honest = friend.call_bare(HALL).unwrap().open().await.unwrap();
    assert_eq!(honest.dialback(FRIEND, HALL).await.unwrap(), Word::Valid);
    println!("an honest domain stands after {:?}", begun.elapsed());
    for n in 0..3 {
        talk(&mut streams, &names, 2 + n..3 + n).await;
        let begun = Instant::now();
        let body = format!("honest {n}");
        honest.message("a@friend.example", "j@hall.example", &body).await.unwrap();
        world.legacy.inbox.wait_body(&body).await.unwrap();
        println!("an honest message has taken {:?}", begun.elapsed());
    }
    arrived(&world, &names, 5).await;
    // The old server may be a moment late to see the end of one that gave way, and is called meanwhile.
    assert!(world.legacy.peak() <= places + 8, "{} streams at one time", world.legacy.peak());
    let open = world.metrics().await.unwrap().sum("backend_streams", &[("state", "open")]);
    assert!(open <= places as f64, "{open}");
    assert!(world.legacy.bounces.all().is_empty());
    // None of the near streams has ended for it.
    talk(&mut streams, &names, 5..6).await;
    arrived(&world, &names, 6).await;
}

// A hoster's domains are each a registrable one: they have their turns, one after the other, and nobody is turned away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hoster_of_more_domains_than_there_are_places_loses_nothing() {
    let (pairs, places) = (number("GATEHOUSE_PAIRS", 30), number("GATEHOUSE_PLACES", 10));
    let world = border(places).await;
    let names: Vec<String> = (0..pairs).map(|n| format!("customer{n}.example")).collect();
    let hoster =
        world.peer(10, &names.iter().map(String::as_str).collect::<Vec<_>>(), Manner::default()).await;
    let begun = Instant::now();
    let mut streams = come(&hoster.unwrap(), &names).await;
    println!("{pairs} domains stand after {:?}", begun.elapsed());
    talk(&mut streams, &names, 0..5).await;
    arrived(&world, &names, 5).await;
    println!("and have been heard five times after {:?}", begun.elapsed());
    // The old server may be a moment late to see the end of one that gave way, and is called meanwhile.
    assert!(world.legacy.peak() <= places + 8, "{} streams at one time", world.legacy.peak());
    world.counted("limited_total", &[("limit", "backend")], 1.0).await.unwrap();
    let (status, page) = world.get("/status.json").await.unwrap();
    assert_eq!(status, 200);
    assert!(page.contains("\"streams\":"), "{page}");
}

// What `backend: { connections }` says holds from a reload on: who is too many gives way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_places_after_a_reload_are_fewer_streams() {
    let world = border(20).await;
    let names: Vec<String> = (0..20).map(|n| format!("customer{n}.example")).collect();
    let hoster =
        world.peer(10, &names.iter().map(String::as_str).collect::<Vec<_>>(), Manner::default()).await;
    let mut streams = come(&hoster.unwrap(), &names).await;
    let file = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, file.replace("connections: 20", "connections: 10")).unwrap();
    world.gate.reload().await.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while world.metrics().await.unwrap().sum("backend_streams", &[("state", "open")]) > 10.0 {
        assert!(Instant::now() < until, "more streams than places after a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    talk(&mut streams, &names, 0..2).await;
    arrived(&world, &names, 2).await;
}

// L-queue, LIM-05, CLS-02: pairs of one stream that wait for their place behind it have so much waiting, and what is more comes
// back. Each stanza is delivered or returned, and once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_room_before_a_place_is_free_comes_back() {
    const ROUNDS: usize = 40;
    let plan = Plan::open(HALL).limit("queue-stanzas", "3").backend("connections", "10");
    let world = World::build(&plan).await.unwrap();
    let names: Vec<String> = (0..20).map(|n| format!("customer{n}.example")).collect();
    let hoster = world
        .peer(10, &names.iter().map(String::as_str).collect::<Vec<_>>(), Manner::default())
        .await
        .unwrap();
    let mut stream = as_domain(hoster.call_bare(HALL).unwrap(), Some(&names[0])).open().await.unwrap();
    for name in &names {
        assert_eq!(stream.dialback(name, HALL).await.unwrap(), Word::Valid, "{name}");
    }
    let mut sent = BTreeMap::new();
    for round in 0..ROUNDS {
        for name in &names {
            let id = format!("{name}-{round}");
            let message =
                format!("<message from='a@{name}' to='j@hall.example' id='{id}'><body>{id}</body></message>");
            stream.send(message).await.unwrap();
            sent.insert(id, (0, 0));
        }
    }
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        sent.values_mut().for_each(|seen| *seen = (0, 0));
        for (stanzas, is_back) in [(world.legacy.inbox.all(), false), (hoster.inbox.all(), true)] {
            for stanza in stanzas {
                let id = stanza.attr("id").unwrap();
                let (delivered, returned) = sent.get_mut(id).unwrap();
                assert_eq!(stanza.attr("type") == Some("error"), is_back, "{}", stanza.raw);
                *(if is_back { returned } else { delivered }) += 1;
            }
        }
        if sent.values().all(|(delivered, returned)| delivered + returned > 0) {
            break;
        }
        let missing: Vec<_> = sent.iter().filter(|(_, seen)| **seen == (0, 0)).map(|(id, _)| id).collect();
        assert!(Instant::now() < until, "neither delivered nor returned: {missing:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(sent.values().all(|(delivered, returned)| delivered + returned == 1), "{sent:?}");
    let returned: usize = sent.values().map(|(_, returned)| returned).sum();
    println!("{returned} of {} came back", sent.len());
    assert!(returned > 0, "the queues were never full");
    assert_eq!(refused(&world, "queue-full").await, returned as f64);
    // The stream goes on, and so do all its pairs.
    for name in &names {
        still_passes(&world, &mut stream, &format!("a@{name}"), "j@hall.example", &format!("{name} goes on"))
            .await;
    }
}

// Requirements 0.2: "An office of 500 people behind one address, or a hoster with 1,000 domains, comes back after a restart within a
// minute with the defaults." Played with `GATEHOUSE_CLIENTS` and `GATEHOUSE_PAIRS` of them; whoever is turned away comes again, as
// servers and clients do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_office_and_a_hoster_come_back_with_all_limits_as_shipped() {
    let (people, domains) = (number("GATEHOUSE_CLIENTS", 60), number("GATEHOUSE_PAIRS", 80));
    let world = Arc::new(World::build(&Plan::open(HALL)).await.unwrap());
    let names: Vec<String> = (0..domains).map(|n| format!("customer{n}.example")).collect();
    let hoster =
        world.peer(10, &names.iter().map(String::as_str).collect::<Vec<_>>(), Manner::default()).await;
    let hoster = Arc::new(hoster.unwrap());
    let (begun, until) = (Instant::now(), Instant::now() + Duration::from_secs(120));
    let again = move |whom: String| async move {
        assert!(Instant::now() < until, "{whom} has not come back in time");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let (mut servers, mut office) = (JoinSet::new(), JoinSet::new());
    for name in names.clone() {
        let hoster = Arc::clone(&hoster);
        servers.spawn(async move {
            loop {
                let call = as_domain(hoster.call(HALL).unwrap(), Some(&name));
                if let Ok(mut stream) = call.open().await
                    && matches!(stream.external(&name).await, Ok(Login::Success))
                {
                    return (name, stream);
                }
                again(name.clone()).await;
            }
        });
    }
    for n in 0..people {
        let world = Arc::clone(&world);
        office.spawn(async move {
            let user = format!("u{n}");
            loop {
                match world.login_from_outside(&user, HALL, None).await {
                    Ok(client) => return client,
                    Err(_turned_away) => again(user.clone()).await,
                }
            }
        });
    }
    let (servers, office) = tokio::join!(servers.join_all(), office.join_all());
    println!("{people} people and {domains} domains are back after {:?}", begun.elapsed());
    let (names, mut streams): (Vec<String>, Vec<Session>) = servers.into_iter().unzip();
    talk(&mut streams, &names, 0..1).await;
    arrived(&world, &names, 1).await;
    assert_eq!(office.len(), people);
}
