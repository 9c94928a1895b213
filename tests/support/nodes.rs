//! Several gateways before one legacy server: who is called and who is asked is decided here, so that every question about a
//! key comes to another node than the one that made it.

use std::net::SocketAddr;
use std::time::Duration;

use super::ca::{Authority, Usage};
use super::gateway::{Gateway, Hosted, SECRETS, Setup, Stand};
use super::scene::{HOSTED, Peer, address, last, legacy, remote};
use super::server::{Legacy, Server};
use super::unbound::{self, Zone};
use super::world::{Host, Net, Process, World};

/// One node.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    /// Its dialback secrets: world, inside.
    pub secrets: [&'a str; 2],
    /// Its clock, as libfaketime has it: `+3600s`; none for the true time.
    pub clock: Option<&'a str>,
    /// More lines of its `gatehouse.yaml`.
    pub more: &'a str,
}

/// A node like all others.
pub const NODE: Node<'static> = Node { secrets: SECRETS, clock: None, more: "" };

/// What a scene of several nodes is made of.
pub struct Cast<'a> {
    /// The nodes; the first has the last number 1.
    pub nodes: &'a [Node<'a>],
    /// The servers on the open network.
    pub remotes: &'a [Peer],
    /// The server behind.
    pub legacy: Legacy,
    /// The policy file of each node.
    pub policy: &'a str,
    /// Which nodes, by their places, the DNS of the open network names for the hosted domain.
    pub called: &'a [usize],
    /// Which nodes, by their places, the server behind asks for addresses, and so is led to: the first that answers.
    pub callers: &'a [usize],
    /// Whether they share a store, a Redis on the inside.
    pub store: bool,
}

/// A running scene. Processes end before their networks go: the order of the fields.
pub struct Nodes {
    /// The servers on the open network.
    pub remotes: Vec<Server>,
    /// The server behind.
    pub legacy: Server,
    /// The gateways.
    pub nodes: Vec<Gateway>,
    store: Option<(Process, Host)>,
    _dns: Process,
    _hosts: Vec<Host>,
    _world: World,
}

impl Nodes {
    /// Builds the networks and starts everybody.
    pub fn start(cast: &Cast<'_>) -> Self {
        let mut world = World::new();
        let known = Authority::new("An authority that both sides know");
        let resolver = Net::World.address(53);
        let called = cast.called.iter().map(|node| Net::World.address(number(*node)));
        let mut zones: Vec<_> =
            called.map(|address| Zone { domain: HOSTED, address: Some(address) }).collect();
        let remotes = cast.remotes.iter().enumerate();
        zones.extend(remotes.map(|(n, peer)| Zone { domain: peer.domain, address: Some(address(n)) }));
        let dns_host = world.host("dns", &[(Net::World, 53)], resolver);
        let dns = unbound::start(&dns_host, resolver, &zones);
        let mut hosts = Vec::new();
        let mut nodes = Vec::new();
        let place = Net::Inside.address(STORE);
        let store = cast.store.then(|| {
            let host = world.host("store", &[(Net::Inside, STORE)], resolver);
            let bound = place.to_string();
            let words = ["--port", "6379", "--bind", &bound, "--protected-mode", "no", "--save", ""];
            let mut process = host.spawn("redis", "redis-server", &words, &[]);
            process.listening(&host, SocketAddr::new(place.into(), 6379), Duration::from_secs(10));
            (process, host)
        });
        let shares = match cast.store {
            true => format!("cluster: {{ name: gate, store: \"redis://{place}:6379\" }}\n"),
            false => String::new(),
        };
        for (n, node) in cast.nodes.iter().enumerate() {
            let last = number(n);
            let door =
                world.host(&format!("node{last}"), &[(Net::World, last), (Net::Inside, last)], resolver);
            let hosted = Hosted {
                domain: HOSTED,
                leaf: &known.leaf(HOSTED, Usage::Both, door.directory()),
                backend: Net::Inside.address(10),
                federation: "listed",
                backend_more: "",
                more: "",
            };
            let roots = known.write_root(door.directory());
            let setup = Setup {
                hosted: &[hosted],
                roots: &roots,
                dns: resolver,
                policy: cast.policy,
                more: &format!("{shares}{}", node.more),
            };
            let preload = faketime();
            let fake = [
                ("LD_PRELOAD", preload.as_str()),
                ("FAKETIME", node.clock.unwrap_or_default()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ];
            let stand = Stand {
                last,
                secrets: node.secrets,
                environment: if node.clock.is_some() { &fake } else { &[] },
            };
            nodes.push(Gateway::start_at(&door, &setup, &stand));
            hosts.push(door);
        }
        let callers: Vec<_> = cast.callers.iter().map(|node| Net::Inside.address(number(*node))).collect();
        let home = world.host("legacy", &[(Net::Inside, 10)], callers[0]);
        home.asks(&callers);
        let legacy = legacy(&home, cast.legacy);
        let remotes = cast.remotes.iter().enumerate().map(|(n, peer)| {
            let host = world.host(&format!("remote{n}"), &[(Net::World, last(n))], resolver);
            remote(&host, address(n), peer, &known, Usage::Both)
        });
        let remotes = remotes.collect();
        Self { remotes, legacy, nodes, store, _dns: dns, _hosts: hosts, _world: world }
    }

    /// Pulls the plug of the store, or puts it in again.
    pub fn plug_store(&self, up: bool) {
        self.store.as_ref().expect("a store").1.plug(Net::Inside, up);
    }

    /// What a family of one node counts with these labels.
    pub fn count(&self, node: usize, family: &str, labels: &[(&str, &str)]) -> f64 {
        self.nodes[node].metric(family, labels)
    }
}

/// The last number of the address of the store.
const STORE: u8 = 20;

fn number(node: usize) -> u8 {
    u8::try_from(node + 1).expect("few nodes")
}

/// libfaketime, from the Debian package of that name.
fn faketime() -> String {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten().map(|entry| entry.path());
    let mut places = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let place = places.find(|place| place.exists()).expect("libfaketime: tests/run installs it");
    place.to_string_lossy().into_owned()
}
