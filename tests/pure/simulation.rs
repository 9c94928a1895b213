//! A fleet past any machine here, as pure values under one clock: 50 nodes, 100,000 remote domains, 1,000,000 clients. What nodes vouch
//! for of each other, what a restart of all of them one by one moves, what the loss of a third does, and what the store is told.
//!
//! The keys, the counts of senders and those of proven domains are the gateway's own; a connection is the node that it stands on. What
//! relays do of it, each a value, is in `tests/pure/fleet.rs`. With
//! `GATEHOUSE_FLEET=NODES,DOMAINS,CLIENTS` it is of another size; `--nocapture` prints the figures that deploy/README.md has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse::jid::Domain;
use gatehouse::limit::{Proven, ProvenParams, ProvenSlot, SenderParams, Senders, Tally};
use gatehouse::policy::Quotas;
use gatehouse::reason::Facing;
use gatehouse::relay::{AddressText, Sender};
use gatehouse::stream::{Clock, KeyCheck, Keyring, Pair};

use crate::dice::Dice;

/// A node: what it makes and knows keys by, by a clock of its own, and what it counts.
struct Node {
    world: Keyring,
    inside: Keyring,
    senders: Senders,
    proven: Arc<Proven>,
    lives: bool,
}

/// All of them, and which node each domain and each client is at.
struct Fleet {
    nodes: Vec<Node>,
    domains: Vec<(Domain, u16)>,
    clients: Vec<u16>,
    dice: Dice,
    now: Instant,
}

/// How many stand at a node.
struct Load {
    least: usize,
    mean: usize,
    most: usize,
}

impl Fleet {
    fn of(nodes: usize, domains: usize, clients: usize, now: Instant) -> Self {
        let node = |n: usize| {
            // Each clock is off by up to five seconds, so that two are apart by up to ten.
            let skew = Duration::from_millis(10_000 * n as u64 / nodes.max(2) as u64);
            let clock = Clock::new(now, Duration::from_secs(1_800_000_000 - 5) + skew);
            let ring = |facing| Keyring::shared(facing, clock, [(SECRET, None)]);
            let proven = Proven::new(ProvenParams::default());
            proven.share(Some(&[7; 32]));
            let senders = Senders::among(SenderParams::default(), &[7; 32], now);
            Node { world: ring(Facing::Public), inside: ring(Facing::Backend), senders, proven, lives: true }
        };
        let mut fleet = Self {
            nodes: (0..nodes).map(node).collect(),
            domains: Vec::new(),
            clients: Vec::new(),
            dice: Dice::new(0x9E37_79B9_7F4A_7C15),
            now,
        };
        for n in 0..domains {
            let place = fleet.pick();
            fleet.domains.push((Domain::parse(&format!("d{n}.example")).unwrap(), place));
        }
        fleet.clients = (0..clients).map(|_| fleet.pick()).collect();
        fleet
    }

    /// A living node, as equal weights of SRV records choose it.
    fn pick(&mut self) -> u16 {
        loop {
            let n = self.dice.below(self.nodes.len());
            if self.nodes[n].lives {
                return n as u16;
            }
        }
    }

    /// Whoever stands at a node that does not live goes to another. How many domains and clients went.
    fn move_on(&mut self) -> (usize, usize) {
        let mut moved = (0, 0);
        for n in 0..self.domains.len() {
            if !self.nodes[usize::from(self.domains[n].1)].lives {
                self.domains[n].1 = self.pick();
                moved.0 += 1;
            }
        }
        for n in 0..self.clients.len() {
            if !self.nodes[usize::from(self.clients[n])].lives {
                self.clients[n] = self.pick();
                moved.1 += 1;
            }
        }
        moved
    }

    fn load(&self, places: impl Iterator<Item = u16>) -> Load {
        let mut counts = vec![0; self.nodes.len()];
        places.for_each(|node| counts[usize::from(node)] += 1);
        let living: Vec<usize> =
            (0..counts.len()).filter(|n| self.nodes[*n].lives).map(|n| counts[n]).collect();
        let sum: usize = living.iter().sum();
        Load {
            least: *living.iter().min().unwrap(),
            mean: sum / living.len(),
            most: *living.iter().max().unwrap(),
        }
    }

    /// The node of each domain in this part of all makes a key, and another living one is asked so much later: how many it vouches for.
    fn asked(&mut self, part: usize, later: Duration, facing: Facing) -> (usize, usize) {
        let hall = Domain::parse("hall.example").unwrap();
        let (mut asked, mut vouched) = (0, 0);
        for n in (0..self.domains.len()).step_by(part) {
            let (domain, place) = self.domains[n].clone();
            let pair = Pair { sender: hall.clone(), target: domain };
            let stream = format!("s{n}");
            let key = self.nodes[usize::from(place)].world.make(&pair, &stream, self.now);
            let asks = loop {
                let other = self.pick();
                if other != place {
                    break usize::from(other);
                }
            };
            let ring = match facing {
                Facing::Public => &self.nodes[asks].world,
                Facing::Backend => &self.nodes[asks].inside,
            };
            asked += 1;
            vouched += usize::from(ring.knows(&KeyCheck { pair, stream, key }, self.now + later));
        }
        (asked, vouched)
    }

    /// Every node tells what matters and hears the others. What was told: entries of the loudest node and octets of all.
    fn exchange(&self) -> (usize, usize) {
        let nodes = self.nodes.len() as u32;
        let told: Vec<_> = self.nodes.iter().map(|node| node.senders.unsent(nodes, self.now)).collect();
        let held: Vec<_> = self.nodes.iter().map(|node| node.proven.held_here(nodes, 500)).collect();
        let sizes =
            told.iter().zip(&held).map(|(told, held)| told.taken.len() + told.reached.len() + held.len());
        // As JSON has them: a digest has up to 20 digits, a count of nanoseconds 11, a comma and two brackets each.
        let octets: usize = told
            .iter()
            .zip(&held)
            .map(|(told, held)| told.taken.len() * 35 + told.reached.len() * 44 + held.len() * 26)
            .sum();
        let mut sum: HashMap<u64, u32> = HashMap::new();
        held.iter().flatten().for_each(|(digest, count)| *sum.entry(*digest).or_default() += count);
        for (n, node) in self.nodes.iter().enumerate() {
            let others = told.iter().enumerate().filter(|(other, _)| *other != n);
            others.for_each(|(_, counts)| node.senders.seen_elsewhere(counts, Duration::ZERO, self.now));
            let mut elsewhere = sum.clone();
            for (digest, count) in &held[n] {
                *elsewhere.get_mut(digest).unwrap() -= count;
            }
            node.proven.held_elsewhere(elsewhere);
        }
        (sizes.max().unwrap_or(0), octets)
    }
}

fn sender(domain: &Domain) -> Sender {
    let words = |text: String| AddressText::Apart(text.into());
    Sender {
        domain: domain.clone(),
        address: words(format!("a@{domain}")),
        occupant: None,
        recipient: words("j@hall.example".to_owned()),
        subscribes: false,
        held: None,
    }
}

fn sizes() -> [usize; 3] {
    match std::env::var("GATEHOUSE_FLEET") {
        Ok(text) => {
            let words: Vec<usize> = text.split(',').map(|word| word.trim().parse().unwrap()).collect();
            words.try_into().expect("NODES,DOMAINS,CLIENTS")
        }
        Err(_) => [50, 100_000, 1_000_000],
    }
}

// CLU-01, CLU-02, CLU-06: keys are vouched for across nodes whose clocks are up to ten seconds apart, through a restart of all nodes one
// by one and the loss of a third; what moves is what stood at the nodes that went.
#[test]
fn a_fleet_of_fifty_nodes_restarts_and_loses_a_third() {
    let [many, domains, clients] = sizes();
    let mut fleet = Fleet::of(many, domains, clients, Instant::now());
    // One question in twenty: each is dozens of HMACs.
    let part = (domains / 5_000).max(1);
    let begun = Instant::now();
    let (asked, vouched) = fleet.asked(part, Duration::from_secs(5), Facing::Public);
    let each = begun.elapsed() / u32::try_from(asked).unwrap();
    assert_eq!(vouched, asked, "each key of another node is vouched for");
    eprintln!("{asked} keys vouched for at another node, {each:?} for both its making and the answer");
    for (later, facing) in [(75, Facing::Public), (0, Facing::Backend)] {
        let (asked, vouched) = fleet.asked(part * 10, Duration::from_secs(later), facing);
        assert!(asked > 0 && vouched == 0, "{vouched} of {asked} keys that are old, or of the other realm");
    }
    // All of them, one after the other, half a minute apart.
    let (mut moved, mut worst) = ((0, 0), 0);
    for n in 0..many {
        fleet.now += Duration::from_secs(30);
        fleet.nodes[n].lives = false;
        let went = fleet.move_on();
        worst = worst.max(went.0 + went.1);
        moved = (moved.0 + went.0, moved.1 + went.1);
        fleet.nodes[n].lives = true;
    }
    let load = fleet.load(fleet.clients.iter().copied());
    eprintln!(
        "restarted one by one: {} domains and {} clients moved, {worst} at most at one time; then {} to {} clients a node, {} on average",
        moved.0, moved.1, load.least, load.most, load.mean
    );
    // The last one has nobody until somebody comes; nobody has more than twice its part, for who moves spreads over all.
    assert!(load.most <= load.mean * 2 + 100, "{}", load.most);
    assert!(moved.1 >= clients * 9 / 10 && moved.1 <= clients * 3);
    let (asked, vouched) = fleet.asked(part, Duration::from_secs(5), Facing::Public);
    assert_eq!(vouched, asked);
    // A third dies at once; keys that its nodes have made just before are vouched for by the living.
    let dead = many / 3;
    let keys: Vec<(KeyCheck, usize)> = (0..1_000)
        .map(|n| {
            let pair = Pair {
                sender: Domain::parse("hall.example").unwrap(),
                target: fleet.domains[n % domains].0.clone(),
            };
            let stream = format!("k{n}");
            let key = fleet.nodes[n % dead.max(1)].world.make(&pair, &stream, fleet.now);
            (KeyCheck { pair, stream, key }, dead + n % (many - dead))
        })
        .collect();
    let before = fleet.load(fleet.clients.iter().copied());
    fleet.nodes[..dead].iter_mut().for_each(|node| node.lives = false);
    let (lost_domains, lost_clients) = fleet.move_on();
    let later = fleet.now + Duration::from_secs(20);
    assert!(keys.iter().all(|(check, node)| fleet.nodes[*node].world.knows(check, later)));
    let after = fleet.load(fleet.clients.iter().copied());
    eprintln!(
        "{dead} of {many} lost: {lost_domains} domains and {lost_clients} clients moved; {} clients a node on average for {} before, {} at most",
        after.mean, before.mean, after.most
    );
    assert_eq!(fleet.load(fleet.domains.iter().map(|(_, node)| *node)).mean, domains / (many - dead));
    assert!(after.most <= before.most + before.mean * dead / (many - dead) * 2 + 100, "{}", after.most);
}

// CLU-03: what the store is told grows with who matters, not with who is there; who spreads over all nodes meets the limit as a sum.
#[test]
fn a_fleet_counts_together_and_tells_only_what_matters() {
    let [many, domains, _] = sizes();
    for nodes in [3, 10, many] {
        let mut fleet = Fleet::of(nodes, domains, 0, Instant::now());
        let mut quiet: usize = 0;
        for (domain, node) in &fleet.domains {
            let asks = fleet.nodes[usize::from(*node)].senders.ask(
                &sender(domain),
                b"",
                &mut Tally::default(),
                fleet.now,
            );
            quiet += usize::from(asks.is_ok());
        }
        assert_eq!(quiet, domains);
        let (entries, octets) = fleet.exchange();
        eprintln!(
            "{nodes} nodes, {domains} domains that say something: {entries} entries of a node, {octets} octets in all"
        );
        assert!(entries <= 1_500 && octets <= nodes * 60_000);
        // Five domains flood every node, with three times what one address may send in all.
        let loud: Vec<Sender> =
            (0..5).map(|n| sender(&Domain::parse(&format!("loud{n}.example")).unwrap())).collect();
        let (mut passed, mut most) = (0_usize, (0, 0));
        // A minute's worth, ten seconds' worth that is borne, and what six seconds bring.
        let (rounds, alone) = (12, 6_000 + 1_000 + 600);
        let each_round = 3 * alone / (rounds * nodes) + 1;
        for _ in 0..rounds {
            for node in &fleet.nodes {
                for sender in &loud {
                    let asks = |_| node.senders.ask(sender, b"", &mut Tally::default(), fleet.now).is_ok();
                    passed += (0..each_round).filter(|n| asks(*n)).count();
                }
            }
            let told = fleet.exchange();
            most = (most.0.max(told.0), most.1.max(told.1));
            fleet.now += Duration::from_millis(500);
        }
        let each = passed / loud.len();
        eprintln!(
            "{nodes} nodes, 5 senders flood all: {each} of {} stanzas of each pass in 6 s, where one node lets {alone}; {} entries of a node, {} octets in all at most",
            each_round * nodes * rounds,
            most.0,
            most.1
        );
        // A sixteenth need not be told, and each exchange is half a second late.
        assert!(each >= 6_500 && each <= alone + 6_000 / 16 + 2 * each_round * nodes, "{each}");
        // Connections: as many as a registrable domain may have, over all nodes.
        let quotas = Quotas::default();
        let domain = Domain::parse("spread.example").unwrap();
        let mut places: Vec<[Option<ProvenSlot>; 2]> = Vec::new();
        for n in 0..120 {
            let address = IpAddr::from([192, 0, 2, (n % 200) as u8]);
            places.extend(fleet.nodes[n % nodes].proven.server(&domain, Some(address), &quotas).ok());
            fleet.exchange();
        }
        eprintln!("{nodes} nodes: {} connections of one domain, where 50 may be", places.len());
        assert!((50..=50 + 50 / 16 + nodes).contains(&places.len()), "{}", places.len());
    }
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
