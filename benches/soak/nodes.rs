//! What a node bears alone, and what the next ones add.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse::demo::client::Client;
use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::Session;

use crate::apart::Apart;
use crate::redis::{Redis, secrets, soon};
use crate::sockets::{FRIEND, peer};
use crate::streams::{log_in, of_one_domain, stand};
use crate::{gateway, mib, usual};

/// Streams of servers and clients of each node, and stanzas through each.
const STREAMS: usize = 1000;
const STANZAS: usize = 20_000;
const SENDERS: usize = 20;

/// A node and who is at it.
struct Node {
    apart: Apart,
    friend: Arc<Peer>,
    streams: Vec<Session>,
    clients: Vec<Client>,
    empty: u64,
    said: usize,
}

impl Node {
    async fn of(store: Option<(&Redis, &tempfile::TempDir)>) -> Self {
        let plan = of_one_domain(usual()).limit("conn-clients", "10000");
        let plan = match store {
            Some((redis, keys)) => plan.with(&format!(
                "dialback: {{ secrets: {{ world: \"{0}/world\", inside: \"{0}/inside\" }} }}\n\
                 cluster: {{ name: gate, store: \"{1}\" }}\n",
                keys.path().display(),
                redis.store()
            )),
            None => plan,
        };
        let apart = gateway(&plan).await;
        let friend = Arc::new(peer(&apart.world, 10, FRIEND).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let empty = apart.memory("VmRSS");
        Self { apart, friend, streams: Vec::new(), clients: Vec::new(), empty, said: 0 }
    }

    /// So many more of each.
    async fn grow(&mut self, many: usize) {
        let from = self.streams.len();
        self.streams.extend(stand(&self.friend, from..from + many).await);
        self.clients.extend(log_in(&self.apart.world, from..from + many).await);
    }

    fn more(&self) -> u64 {
        self.apart.memory("VmRSS").saturating_sub(self.empty)
    }

    /// Processor time of a second in which nobody says anything.
    async fn idle(&self) -> Duration {
        let before = self.apart.worked();
        tokio::time::sleep(Duration::from_secs(20)).await;
        (self.apart.worked() - before) / 20
    }

    /// Processor time of a stanza: over some of its streams, at the same time.
    async fn each(&mut self) -> Duration {
        let (before, already) = (self.apart.worked(), self.apart.world.legacy.inbox.len());
        self.said += 1;
        let round = self.said;
        let sending = self.streams.iter_mut().take(SENDERS).enumerate().map(|(s, stream)| async move {
            for n in 0..STANZAS / SENDERS {
                let body = format!("{round}-{s}-{n}");
                stream.message("a@friend.example", "j@hall.example", &body).await.unwrap();
                // The server that is played behind keeps what it gets, and is not as quick.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        futures_of(sending.collect()).await;
        let end = Instant::now() + Duration::from_secs(60);
        while self.apart.world.legacy.inbox.len() - already < STANZAS {
            assert!(
                Instant::now() < end,
                "{} of {STANZAS} arrived",
                self.apart.world.legacy.inbox.len() - already
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (self.apart.worked() - before) / u32::try_from(STANZAS).unwrap()
    }
}

/// All of them, at the same time, on this task.
async fn futures_of<F: Future<Output = ()>>(all: Vec<F>) {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

fn store_says(redis: &Redis, section: &str, key: &str) -> f64 {
    let text = redis.say(&["INFO", section]);
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{key} is not in {text}")).trim().parse().unwrap()
}

pub async fn one_and_three() {
    println!("| | streams | clients | memory more | processor, idle | of a stanza |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let told = async |name: &str, node: &mut Node| {
        let (idle, each) = (node.idle().await, node.each().await);
        println!(
            "| {name} | {} | {} | {} | {idle:.1?} a second | {each:.1?} |",
            node.streams.len(),
            node.clients.len(),
            mib(node.more())
        );
    };
    let mut alone = Node::of(None).await;
    alone.grow(STREAMS).await;
    told("one node", &mut alone).await;
    drop(alone);

    let (redis, keys) = (Redis::start(&[]), secrets(""));
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::of(Some((&redis, &keys))).await);
    }
    for node in &mut nodes {
        node.grow(STREAMS).await;
    }
    for node in &nodes {
        // The gateway that a world begins with makes room for the program, and is forgotten.
        soon("three nodes that know each other", async || {
            match node.apart.world.metrics().await.unwrap().sum("cluster_nodes", &[]) {
                3.0 => Ok(()),
                count => Err(count.to_string()),
            }
        })
        .await;
    }
    for (n, node) in nodes.iter_mut().enumerate() {
        told(&format!("node {} of three, with a store", n + 1), node).await;
    }
    let before = ["used_cpu_user", "used_cpu_sys"].map(|key| store_says(&redis, "cpu", key));
    let commands = store_says(&redis, "stats", "total_commands_processed");
    let network =
        ["total_net_input_bytes", "total_net_output_bytes"].map(|key| store_says(&redis, "stats", key));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = ["used_cpu_user", "used_cpu_sys"].map(|key| store_says(&redis, "cpu", key));
    let worked = (after[0] + after[1] - before[0] - before[1]) / 20.0 * 1000.0;
    let more = store_says(&redis, "stats", "total_commands_processed") - commands;
    let net = ["total_net_input_bytes", "total_net_output_bytes"].map(|key| store_says(&redis, "stats", key));
    println!(
        "the store: {} of memory in all, {worked:.1} ms of processor, {:.0} commands, {:.1} KiB in and {:.1} KiB out in a second",
        mib(store_says(&redis, "memory", "used_memory") as u64),
        more / 20.0,
        (net[0] - network[0]) / 20.0 / 1024.0,
        (net[1] - network[1]) / 20.0 / 1024.0
    );

    let mut lost = nodes.pop().unwrap();
    let begun = Instant::now();
    lost.apart.signal(rustix::process::Signal::KILL);
    while lost.apart.lives() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Whoever was there has heard of it by the end of the connection, and comes to one of the two that are left.
    let [first, second] = nodes.as_mut_slice() else { unreachable!() };
    tokio::join!(first.grow(STREAMS / 2), second.grow(STREAMS / 2));
    println!(
        "killed: its {STREAMS} streams and {STREAMS} clients are back at the two others after {:.1?}",
        begun.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    for (n, node) in nodes.iter_mut().enumerate() {
        told(&format!("node {} of the two that are left", n + 1), node).await;
    }
}
