//! Callers that are slow on purpose, one in each state of a stream.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatehouse::demo::dial;
use gatehouse::demo::legacy::PASSWORD;
use gatehouse::demo::session::{Greeting, SASL, STREAMS};
use gatehouse::demo::wire::{Item, Wire};
use gatehouse::demo::world::{Plan, World};

use crate::apart::Apart;
use crate::sockets::{FRIEND, HALL, by_certificate, peer};
use crate::{Witness, gateway, shown, source, usual};

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

fn short() -> Plan {
    usual()
        .timeout("first-byte", "2s")
        .timeout("header", "4s")
        .timeout("tls", "5s")
        .timeout("unauth", "10s")
        .timeout("dialback", "5s")
        .timeout("stanza", "7s")
        .timeout("close", "500ms")
}

/// One octet of this, and of `x` for ever after it, each quarter of a second, until the gateway has had enough.
async fn drip(mut wire: Wire, octets: &str) -> (Duration, String) {
    let begun = Instant::now();
    let mut octets = octets.bytes();
    let silent = octets.len() == 0;
    let mut word = "the connection ended".to_owned();
    loop {
        if !silent {
            // It may have ended in this moment, which the next look shows.
            let _ = wire.send([octets.next().unwrap_or(b'x')]).await;
        }
        match tokio::time::timeout(Duration::from_millis(250), wire.item()).await {
            Err(_) if begun.elapsed() > Duration::from_secs(60) => {
                return (begun.elapsed(), "STILL OPEN".to_owned());
            }
            Err(_) | Ok(Ok(Item::Header(_) | Item::Close)) => {}
            Ok(Ok(Item::Element(node))) => word = node.condition().unwrap_or(&node.name).to_owned(),
            Ok(Ok(Item::End) | Err(_)) => return (begun.elapsed(), word),
        }
    }
}

/// A connection of a server or a client, and how it goes on from there.
#[derive(Clone, Copy)]
struct Side {
    client: bool,
    turn: usize,
}

impl Side {
    fn header(self) -> String {
        match self.client {
            true => format!(
                "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' to='{HALL}' version='1.0'>"
            ),
            false => Greeting::of(FRIEND, HALL).octets(),
        }
    }

    async fn connect(self, world: &World) -> Wire {
        let target = if self.client { world.at.clients } else { world.at.public };
        Wire::new(dial(source(self.turn, 1).into(), target).await.unwrap())
    }

    async fn greet(self, wire: &mut Wire) {
        wire.restart();
        wire.send(self.header()).await.unwrap();
        wire.header().await.unwrap();
        wire.element().await.unwrap();
    }

    async fn greeted(self, world: &World) -> Wire {
        let mut wire = self.connect(world).await;
        self.greet(&mut wire).await;
        wire
    }

    async fn proceeding(self, world: &World) -> Wire {
        let mut wire = self.greeted(world).await;
        wire.send(STARTTLS).await.unwrap();
        assert_eq!(wire.element().await.unwrap().name, "proceed");
        wire
    }

    async fn secured(self, world: &World) -> Wire {
        let mut wire = self.proceeding(world).await;
        let identity = world.authority.issue(&gatehouse::demo::pki::Leaf::of(&[FRIEND])).unwrap();
        let tls = world.authority.client((!self.client).then_some(&identity), false).unwrap();
        wire.secure(tls, HALL).await.unwrap();
        wire
    }

    async fn again(self, world: &World) -> Wire {
        let mut wire = self.secured(world).await;
        self.greet(&mut wire).await;
        wire
    }

    async fn logged_in(self, world: &World) -> Wire {
        let mut wire = self.again(world).await;
        let plain = STANDARD.encode(format!("\0slow{}\0{PASSWORD}", self.turn));
        wire.send(format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{plain}</auth>")).await.unwrap();
        assert_eq!(wire.element().await.unwrap().name, "success");
        self.greet(&mut wire).await;
        wire
    }

    async fn bound(self, world: &World) -> Wire {
        let mut wire = self.logged_in(world).await;
        wire.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
            .await
            .unwrap();
        wire.element().await.unwrap();
        wire
    }
}

const STATES: [&str; 12] = [
    "before the header, silent",
    "in the header",
    "after the header, silent",
    "after the header, spaces",
    "in starttls",
    "before ClientHello, silent",
    "in ClientHello",
    "after TLS, silent",
    "in SASL",
    "in dialback, or logged in and silent",
    "in a stanza",
    "in the ClientHello of direct TLS",
];

/// Brings a caller into a state; how it goes on, and the deadline in seconds that it must meet.
async fn caller(world: &World, side: Side, state: usize) -> Option<(Wire, String, u64)> {
    let hello: String =
        std::iter::once('\u{16}').chain("\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{7c}\u{3}\u{3}".chars()).collect();
    Some(match state {
        0 => (side.connect(world).await, String::new(), 2),
        1 => (side.connect(world).await, side.header(), 4),
        2 => (side.greeted(world).await, String::new(), 10),
        3 => (side.greeted(world).await, " ".repeat(1000), 10),
        4 => (side.greeted(world).await, STARTTLS.replace("/>", " x='"), 7),
        5 => (side.proceeding(world).await, String::new(), 5),
        6 => (side.proceeding(world).await, hello, 5),
        7 => (side.secured(world).await, String::new(), 4),
        8 => (side.again(world).await, format!("<auth xmlns='{SASL}' mechanism='PLAIN'>QUJD"), 7),
        9 if side.client => (side.logged_in(world).await, String::new(), 10),
        9 => (side.again(world).await, format!("<db:result from='{FRIEND}' to='{HALL}'>key"), 7),
        10 if side.client => (side.bound(world).await, "<message to='a@hall.example'><body>".to_owned(), 7),
        10 => {
            let friend = peer(world, 10, FRIEND).await;
            let stream = by_certificate(&friend, HALL).await;
            (stream.wire, "<message from='a@friend.example' to='j@hall.example'><body>".to_owned(), 7)
        }
        11 if !side.client => {
            (Wire::new(dial(source(side.turn, 1).into(), world.at.direct).await.unwrap()), hello, 5)
        }
        _ => return None,
    })
}

pub async fn every_state() {
    const EACH: usize = 20;
    let apart: Apart = gateway(&short()).await;
    let world = &apart.world;
    let mut witness = Witness::new(world).await;
    println!("| state | deadline | s2s ended after | c2s ended after | last word |");
    let mut turn = 0;
    let (work, begun) = (apart.worked(), Instant::now());
    for (state, words) in STATES.iter().enumerate() {
        let mut cells = Vec::new();
        let (mut last, mut due) = (String::new(), 0);
        for client in [false, true] {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..EACH {
                turn += 1;
                if let Some((wire, octets, deadline)) = caller(world, Side { client, turn }, state).await {
                    due = deadline;
                    tasks.spawn(async move { drip(wire, &octets).await });
                }
            }
            let all = tasks.join_all().await;
            let Some(most) = all.iter().map(|(took, _)| *took).max() else {
                cells.push("-".to_owned());
                continue;
            };
            let least = all.iter().map(|(took, _)| *took).min().unwrap_or_default();
            last.clone_from(&all[0].1);
            assert!(most < Duration::from_secs(due + 5), "{words}: {most:?}");
            cells.push(format!("{least:.1?} to {most:.1?}"));
        }
        println!("| {words} | {due} s | {} | {} | {last} |", cells[0], cells[1]);
    }
    let share = (apart.worked() - work).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    println!(
        "processor meanwhile: {share:.1} %; a stanza of the stream that stands: {}",
        shown(witness.latency(world, 100).await)
    );
}
