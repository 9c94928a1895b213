//! What takes too long for `tests/run`: floods, soaks and figures, against the built gateway in a process of its own.
//!
//! `tests/soak/run COMMAND..` (see `tests/soak/README.md`). Each command prints its progress and ends with a table. The
//! driver, the backend and the peers share the machine with the gateway, so that rates are lower bounds of its own.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::fn_params_excessive_bools, clippy::too_many_lines)]

#[path = "../../tests/support/apart.rs"]
mod apart;
mod flood;
mod loris;
mod nodes;
#[path = "../../tests/support/redis.rs"]
mod redis;
#[path = "../../tests/support/sockets.rs"]
mod sockets;
#[path = "../../tests/support/steering.rs"]
mod steering;
mod streams;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::Session;
use gatehouse::demo::world::{Plan, World};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use apart::Apart;
use sockets::{COUSIN, HALL, POLICY, by_certificate, peer};

type Run = fn(&tokio::runtime::Runtime);

const COMMANDS: &[(&str, &str, Run)] = &[
    (
        "silent",
        "10,000 connections that say nothing, with and without TLS begun, beside a stream that stands",
        |rt| {
            rt.block_on(flood::silent());
        },
    ),
    ("greedy", "10,000 unproven peers that send all they may, and the memory that they take", |rt| {
        rt.block_on(flood::greedy());
    }),
    ("handshakes", "full TLS handshakes for a minute, as many as there can be", |rt| {
        rt.block_on(flood::handshakes())
    }),
    ("churn", "200,000 connections that come and go, and the memory at each step", |rt| {
        rt.block_on(flood::churn())
    }),
    ("loris", "callers that are slow in every state of a stream, and when each is shown out", |rt| {
        rt.block_on(loris::every_state());
    }),
    (
        "servers",
        "2,000 streams of servers: memory of each, reload, drain under traffic, stanzas lost",
        |rt| {
            rt.block_on(streams::servers());
        },
    ),
    ("clients", "2,000 streams of clients: memory of each", |rt| rt.block_on(streams::clients())),
    (
        "nodes",
        "one node alone, then three with a store, of which one dies: memory, processor, and when all are back",
        |rt| rt.block_on(nodes::one_and_three()),
    ),
    ("quick", "what becomes of the processor when callers close at once or say one octet", |rt| {
        rt.block_on(flood::quick());
    }),
];

fn main() {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if wanted.is_empty() {
        println!("tests/soak/run COMMAND..");
        for (name, words, _) in COMMANDS {
            println!("  {name:<12} {words}");
        }
        return;
    }
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in wanted {
        let (name, words, run) = COMMANDS.iter().find(|(known, ..)| *known == name).expect("no such command");
        println!("\n== {name}: {words}");
        let begun = Instant::now();
        run(&runtime);
        println!("({name} took {} s)", begun.elapsed().as_secs());
    }
}

/// The border with the limits as they are by default.
fn usual() -> Plan {
    Plan::listed(HALL, POLICY)
}

/// The same with an end to all patience as far away as it may be: what is to be held, is held.
fn patient() -> Plan {
    usual().timeout("first-byte", "1m").timeout("header", "2m").timeout("tls", "2m").timeout("unauth", "10m")
}

/// And with places for all unproven peers.
fn hospitable() -> Plan {
    patient().limit("conn-unproven", "20000").limit("memory-unproven", "4GiB")
}

async fn gateway(plan: &Plan) -> Apart {
    Apart::build_with(plan, |text, _| text, Command::new(program())).await
}

/// The gateway: the one that was built with this, or another.
fn program() -> OsString {
    std::env::var_os("GATEHOUSE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_gatehouse").into())
}

/// A source address for the n-th caller, so many of which share one.
fn source(n: usize, share: usize) -> Ipv4Addr {
    let [_, b, c, d] = u32::try_from(n / share).unwrap().to_be_bytes();
    // Of many networks, and not where the world itself lives, which begins at 127.64.
    Ipv4Addr::new(127, 1 + b, d, c)
}

/// A stream that stands, and what a stanza takes on it.
struct Witness {
    _peer: Peer,
    stream: Session,
    words: usize,
}

impl Witness {
    async fn new(world: &World) -> Self {
        let peer = peer(world, 99, COUSIN).await;
        let stream = by_certificate(&peer, HALL).await;
        Self { _peer: peer, stream, words: 0 }
    }

    /// Sends so many stanzas, one after the other, and tells how long they took to the backend: half of them, 99 of 100,
    /// and the slowest.
    async fn latency(&mut self, world: &World, stanzas: usize) -> [Duration; 3] {
        let mut took = Vec::new();
        for _ in 0..stanzas {
            self.words += 1;
            let body = format!("w{}", self.words);
            let begun = Instant::now();
            self.stream.message("c@cousin.example", "j@hall.example", &body).await.unwrap();
            world.legacy.inbox.wait_body(&body).await.unwrap();
            took.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        took.sort_unstable();
        [took[took.len() / 2], took[took.len() * 99 / 100], took[took.len() - 1]]
    }
}

fn shown([half, most, all]: [Duration; 3]) -> String {
    format!("p50 {half:.2?}, p99 {most:.2?}, max {all:.2?}")
}

/// In KiB, with one digit behind the point.
fn kib(octets: u64) -> String {
    format!("{}.{} KiB", octets / 1024, octets % 1024 * 10 / 1024)
}

fn mib(octets: u64) -> String {
    format!("{}.{} MiB", octets >> 20, octets % (1 << 20) * 10 / (1 << 20))
}
