//! Many relays and nodes as pure values under one clock: each remote domain has a relay that came in and one that went out, each client
//! has one, and each question about a key is asked of a relay at another node than the one that made it. All nodes are restarted one by
//! one, and a third of them dies.
//!
//! The relays are the gateway's own, stepped by the octets that servers and clients send; sockets, TLS and the DNS are played here. What
//! is counted besides, for limits and for the store, is in `tests/pure/simulation.rs`. `GATEHOUSE_RELAYS=NODES,DOMAINS,CLIENTS` makes it of
//! another size; `--nocapture` prints the figures that deploy/README.md has.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::stage::*;
use gatehouse::policy::Policy;
use gatehouse::reason::{Facing, Flow};
use gatehouse::relay::{Effect, Input, Load, Relay, RelayParams, Side, Timeouts};
use gatehouse::stream::{Clock, KeyAnswer, Keyring, Keyrings, Pair, Secured};

/// What a connection is: the node that it stands at, and the relay.
struct Stands {
    node: usize,
    stage: Stage,
}

/// A remote domain: its server's stream to us, and ours to it.
struct Remote {
    name: String,
    inward: Stands,
    outward: Stands,
}

struct Fleet {
    /// What each node's relays share; its clock is off by some seconds.
    nodes: Vec<(Arc<RelayParams>, bool)>,
    policy: Arc<Policy>,
    remotes: Vec<Remote>,
    clients: Vec<Stands>,
    now: Instant,
    dice: Dice,
    /// Questions about keys that another node has made, and how many of them were answered with `valid`.
    asked: [usize; 2],
    vouched: [usize; 2],
}

/// How far the clocks of two nodes may be apart.
const SKEW: Duration = Duration::from_secs(10);

impl Fleet {
    fn of(nodes: usize, domains: usize, clients: usize) -> Self {
        let now = Instant::now();
        let node = |n: usize| {
            let off = SKEW * u32::try_from(n).unwrap() / u32::try_from(nodes.max(2) - 1).unwrap();
            (Arc::new(params_at(Clock::new(now, UNIX + off))), true)
        };
        let mut fleet = Self {
            nodes: (0..nodes).map(node).collect(),
            policy: any(),
            remotes: Vec::new(),
            clients: Vec::new(),
            now,
            dice: Dice::new(0x9E37_79B9_7F4A_7C15),
            asked: [0; 2],
            vouched: [0; 2],
        };
        for n in 0..domains {
            let name = format!("d{n}.example");
            let inward = fleet.come_in(&name);
            let outward = fleet.go_out(&name);
            fleet.remotes.push(Remote { name, inward, outward });
        }
        for n in 0..clients {
            let client = fleet.log_in(n);
            fleet.clients.push(client);
        }
        fleet
    }

    /// A living node, as equal weights of SRV records choose it.
    fn pick(&mut self) -> usize {
        loop {
            let n = self.dice.below(self.nodes.len());
            if self.nodes[n].1 {
                return n;
            }
        }
    }

    fn pick_but(&mut self, not: usize) -> usize {
        loop {
            let n = self.pick();
            if n != not {
                return n;
            }
        }
    }

    fn arrived(&mut self, node: usize, flow: Flow, secured: Option<Secured>) -> Stage {
        let mut seed = [0; 32];
        for octets in seed.chunks_mut(8) {
            octets.copy_from_slice(&self.dice.throw().to_le_bytes());
        }
        let mut stage =
            Stage::at(self.now, (self.nodes[node].0.clone(), self.policy.clone()), flow, secured, seed);
        stage.now = self.now;
        stage
    }

    /// Whether this node says that this key is ours, asked by the octets that a server asks with: in the world about a hosted domain,
    /// by the server behind about a remote one.
    fn vouches(&mut self, node: usize, facing: Facing, pair: (&str, &str), id: &str, key: &str) -> bool {
        let (ours, theirs) = pair;
        let (flow, secured) = match facing {
            Facing::Public => (Flow::S2sIn, Some(secured("hall.example", &[]))),
            Facing::Backend => (Flow::S2sOut, None),
        };
        let mut stage = self.arrived(node, flow, secured);
        stage.hears(NEAR, &header(theirs, ours));
        stage.said(NEAR);
        stage.hears(NEAR, &format!("<db:verify from='{theirs}' to='{ours}' id='{id}'>{key}</db:verify>"));
        let asked = stage.effects.iter().find_map(|effect| match effect {
            Effect::Vouch(check, others) => Some((check.clone(), *others)),
            _ => None,
        });
        let (check, others) = asked.expect("a question for those who know");
        // No leg of this node's own waits with that key, so what its ring says is all that it knows.
        stage.step(NEAR, Input::Vouched(check, others));
        let said = stage.said(NEAR);
        assert!(said.contains(&format!("id='{id}'")), "{said}");
        let valid = said.contains("type='valid'");
        assert!(valid || said.contains("type='invalid'"), "{said}");
        let place = usize::from(facing == Facing::Backend);
        self.asked[place] += 1;
        self.vouched[place] += usize::from(valid);
        valid
    }

    /// The remote server comes to some node, proves its domain there by certificate or by a key of its own, and the server behind asks
    /// another node about the key that it is shown.
    fn come_in(&mut self, name: &str) -> Stands {
        let node = self.pick();
        let certificate = self.dice.throw().is_multiple_of(2);
        let names: &[&str] = if certificate { &[name] } else { &[] };
        let mut stage = self.arrived(node, Flow::S2sIn, Some(secured("hall.example", names)));
        stage.hears(NEAR, &header(name, "hall.example"));
        stage.said(NEAR);
        if certificate {
            stage.hears(NEAR, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
        } else {
            stage.hears(NEAR, &format!("<db:result from='{name}' to='hall.example'>of-{name}</db:result>"));
            let asks = stage.effects.iter().find_map(|effect| match effect {
                Effect::Verify(claim, check) => Some((*claim, check.key.clone())),
                _ => None,
            });
            let (claim, key) = asks.expect("a verification");
            assert_eq!(key, format!("of-{name}"));
            stage.step(NEAR, Input::Verified(claim, KeyAnswer::Valid));
        }
        let (far, _) = stage.connects()[0];
        let id = format!("L{}", self.dice.throw());
        stage.connected(far, None);
        stage.said(Side::Far(far));
        stage.hears(Side::Far(far), &answer(&id, false));
        let key = key_in(&stage.said(Side::Far(far)));
        let other = self.pick_but(node);
        assert!(self.vouches(other, Facing::Backend, (name, "hall.example"), &id, &key), "{name}");
        stage.hears(Side::Far(far), &format!("<db:result from='hall.example' to='{name}' type='valid'/>"));
        let said = stage.said(NEAR);
        if certificate {
            assert!(said.contains("<success "), "{said}");
            stage.hears(NEAR, &header(name, "hall.example"));
        } else {
            assert!(said.contains("type='valid'"), "{said}");
        }
        stage.rest();
        Stands { node, stage }
    }

    /// The server behind has something for the remote domain and is led to some node, which calls the remote server and shows it a key;
    /// the remote server asks another node about it.
    fn go_out(&mut self, name: &str) -> Stands {
        let node = self.pick();
        let (mut stage, id, key) = self.half_out(node, name);
        let other = self.pick_but(node);
        assert!(self.vouches(other, Facing::Public, ("hall.example", name), &id, &key), "{name}");
        let (far, _) = stage.connects()[0];
        stage.hears(Side::Far(far), &format!("<db:result from='{name}' to='hall.example' type='valid'/>"));
        assert_eq!(stage.passed().len(), 1, "what it was called for");
        stage.rest();
        Stands { node, stage }
    }

    /// The same until the remote server has the key: id of the stream, and key.
    fn half_out(&mut self, node: usize, name: &str) -> (Stage, String, String) {
        let pair = pair("hall.example", name);
        let (relays, policy) = (self.nodes[node].0.clone(), self.policy.clone());
        let made = Relay::courier(relays, policy, pair, (Load::Own, None), self.now);
        let mut stage = Stage::of(made);
        stage.now = self.now;
        stage.step(NEAR, Input::Queue(Load::Own, outward(name).into()));
        let (far, _) = stage.connects()[0];
        let side = Side::Far(far);
        stage.connected(far, Some(secured(name, &[name])));
        stage.said(side);
        let id = format!("R{}", self.dice.throw());
        stage.hears(side, &answer(&id, true));
        let features = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>";
        stage.hears(side, features);
        let key = key_in(&stage.said(side));
        (stage, id, key)
    }

    /// A client logs in at some node, by the dialogue of requirements 21.4.
    fn log_in(&mut self, n: usize) -> Stands {
        let node = self.pick();
        let mut stage = self.arrived(node, Flow::C2s, Some(secured("hall.example", &[])));
        let hello = open(HELLO);
        stage.hears(NEAR, &hello);
        let (far, _) = stage.connects()[0];
        let side = Side::Far(far);
        stage.connected(far, None);
        stage.hears(side, &greeting("B-1", MECHANISMS));
        stage.hears(
            NEAR,
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>",
        );
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(side, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        stage.hears(NEAR, &hello);
        stage.hears(side, &greeting("B-2", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"));
        stage.hears(NEAR, "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        let jid = format!("alice@hall.example/{n}");
        let bound = format!(
            "<iq type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{jid}</jid></bind></iq>"
        );
        stage.hears(side, &bound);
        assert!(
            stage.delivered().iter().any(|stanza| stanza.contains(&jid)) || stage.said(NEAR).contains(&jid)
        );
        stage.rest();
        Stands { node, stage }
    }

    /// A stanza on every stream; how many came out on the other side.
    fn say(&mut self) -> usize {
        let mut passed = 0;
        for remote in &mut self.remotes {
            let name = &remote.name;
            let inward = &mut remote.inward.stage;
            inward.now = self.now;
            inward.wake(&header(name, "hall.example"));
            inward.hears(
                NEAR,
                &format!("<message from='a@{name}/x' to='j@hall.example'><body>in</body></message>"),
            );
            passed += inward.passed().len();
            let out = &mut remote.outward.stage;
            out.now = self.now;
            out.step(NEAR, Input::Queue(Load::Own, outward(name).into()));
            passed += out.passed().len();
            inward.rest();
            out.rest();
        }
        for client in &mut self.clients {
            client.stage.now = self.now;
            client.stage.wake(&open(HELLO));
            client.stage.hears(NEAR, "<message to='b@hall.example'><body>up</body></message>");
            passed += client.stage.passed().len();
            client.stage.rest();
        }
        passed
    }

    /// Whoever stood at a node that does not live comes again, to another. How many streams and clients went.
    fn move_on(&mut self) -> Moved {
        let mut moved = Moved::default();
        let gone: Vec<bool> = self.nodes.iter().map(|(_, lives)| !lives).collect();
        for n in 0..self.remotes.len() {
            let name = self.remotes[n].name.clone();
            if gone[self.remotes[n].inward.node] {
                self.remotes[n].inward = self.come_in(&name);
                moved.streams += 1;
            }
            if gone[self.remotes[n].outward.node] {
                self.remotes[n].outward = self.go_out(&name);
                moved.streams += 1;
            }
        }
        for n in 0..self.clients.len() {
            if gone[self.clients[n].node] {
                self.clients[n] = self.log_in(n);
                moved.clients += 1;
            }
        }
        moved
    }

    /// Everybody at this node is shown out in good order, as by `gatehouse drain`; each relay says so to whom it has.
    fn drain(&mut self, node: usize) {
        let all = self.remotes.iter_mut().flat_map(|remote| [&mut remote.inward, &mut remote.outward]);
        for stands in all.chain(&mut self.clients).filter(|stands| stands.node == node) {
            stands.stage.now = self.now;
            stands.stage.step(NEAR, Input::Drain);
            // What the server behind has sent last may still be on its way to a courier.
            stands.stage.wait(Duration::from_secs(5));
            let ended = |effect: &Effect| match effect {
                Effect::Send(_, octets) => octets.ends_with(b"</stream:stream>"),
                _ => false,
            };
            assert!(stands.stage.has(ended), "{:?}", stands.stage.effects);
        }
    }

    /// How many clients stand at the emptiest living node, at each on average, and at the fullest.
    fn load(&self) -> (usize, usize, usize) {
        let mut counts = vec![0; self.nodes.len()];
        self.clients.iter().for_each(|client| counts[client.node] += 1);
        let living: Vec<usize> = (0..counts.len()).filter(|n| self.nodes[*n].1).map(|n| counts[n]).collect();
        let sum: usize = living.iter().sum();
        (*living.iter().min().unwrap(), sum / living.len(), *living.iter().max().unwrap())
    }

    fn streams(&self) -> usize {
        self.remotes.len() * 2 + self.clients.len()
    }
}

#[derive(Default)]
struct Moved {
    streams: usize,
    clients: usize,
}

/// What the relays of a node share: secrets that all nodes have, and this clock.
fn params_at(clock: Clock) -> RelayParams {
    let ring = |facing, secret: &'static [u8]| Keyring::shared(facing, clock, [(secret, None)]);
    RelayParams {
        keys: Keyrings { world: ring(Facing::Public, WORLD), inside: ring(Facing::Backend, INSIDE) },
        ..relays()
    }
}

/// The key in the `db:result` of what was sent.
fn key_in(said: &str) -> String {
    let (_, rest) = said.split_once("<db:result ").unwrap_or_else(|| panic!("no key in {said}"));
    let key = rest.split_once('>').unwrap().1.split('<').next().unwrap().to_owned();
    assert_eq!(key.len(), 64, "{said}");
    key
}

fn outward(name: &str) -> String {
    format!("<message from='j@hall.example/h' to='a@{name}'><body>out</body></message>")
}

fn open(attributes: &str) -> String {
    format!(
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'{attributes}>"
    )
}

/// What the server behind says first to a client.
fn greeting(id: &str, features: &str) -> String {
    let header = open(&format!(" id='{id}' from='hall.example' version='1.0'"));
    format!("{header}<stream:features>{features}</stream:features>")
}

fn sizes() -> [usize; 3] {
    match std::env::var("GATEHOUSE_RELAYS") {
        Ok(text) => {
            let words: Vec<usize> = text.split(',').map(|word| word.trim().parse().unwrap()).collect();
            words.try_into().expect("NODES,DOMAINS,CLIENTS")
        }
        Err(_) => [50, 500, 2_500],
    }
}

/// What this process has in memory, in octets.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

// CLU-01, CLU-02, CLU-06: every stream is a relay; each key is vouched for by a relay at another node, clocks up to ten seconds apart;
// after a restart of all nodes one by one and the loss of a third everybody is back and every stanza passes.
#[test]
fn a_fleet_of_relays_restarts_and_loses_a_third() {
    let [many, domains, clients] = sizes();
    let (before, begun) = (resident(), Instant::now());
    let mut fleet = Fleet::of(many, domains, clients);
    let (streams, took) = (fleet.streams(), begun.elapsed());
    let each = (resident() - before) / streams;
    let load = fleet.load();
    eprintln!(
        "{many} nodes, {domains} domains, {clients} clients: {streams} relays stand after {took:?}, {:?} and {each} octets each; \
         {} to {} clients a node",
        took / u32::try_from(streams).unwrap(),
        load.0,
        load.2
    );
    assert_eq!(fleet.asked, [domains; 2], "each domain once in the world and once inside");
    assert_eq!(fleet.vouched, fleet.asked);
    let begun = Instant::now();
    assert_eq!(fleet.say(), streams, "a stanza on each");
    eprintln!("a stanza on each: {:?} each", begun.elapsed() / u32::try_from(streams).unwrap());

    // All nodes, one after the other, half a minute apart: shown out, and back at another.
    let mut moved = Moved::default();
    for n in 0..many {
        fleet.now += Duration::from_secs(30);
        fleet.drain(n);
        fleet.nodes[n].1 = false;
        let went = fleet.move_on();
        moved = Moved { streams: moved.streams + went.streams, clients: moved.clients + went.clients };
        fleet.nodes[n].1 = true;
    }
    let load = fleet.load();
    eprintln!(
        "restarted one by one: {} streams of servers and {} clients moved; then {} to {} clients a node, {} on average",
        moved.streams, moved.clients, load.0, load.2, load.1
    );
    assert!(moved.clients >= clients * 9 / 10 && moved.clients <= clients * 3);
    assert_eq!(fleet.vouched, fleet.asked);
    assert_eq!(fleet.say(), streams, "a stanza on each");

    // A third dies at once. Keys that its nodes have shown just before are vouched for by the living all the same.
    let dead = many / 3;
    let shown: Vec<(String, String, String)> = (0..dead.min(domains))
        .map(|n| {
            let name = fleet.remotes[n].name.clone();
            let (_, id, key) = fleet.half_out(n, &name);
            (name, id, key)
        })
        .collect();
    fleet.nodes[..dead].iter_mut().for_each(|node| node.1 = false);
    fleet.now += Duration::from_secs(20);
    for (name, id, key) in &shown {
        let node = fleet.pick();
        assert!(fleet.vouches(node, Facing::Public, ("hall.example", name), id, key), "{name}");
    }
    let before = load;
    let begun = Instant::now();
    let went = fleet.move_on();
    let (took, load) = (begun.elapsed(), fleet.load());
    eprintln!(
        "{dead} of {many} died: {} streams of servers and {} clients are back after {took:?} of work; {} clients a node on average for {}, \
         {} at most",
        went.streams, went.clients, load.1, before.1, load.2
    );
    assert!(went.streams + went.clients > 0);
    assert_eq!(fleet.vouched, fleet.asked);
    assert_eq!(fleet.say(), streams, "a stanza on each");
}

// CLU-02: what no relay of another node may vouch for: a key that is old, one of a node an hour off, one of the other realm, and one of
// another stream.
#[test]
fn no_relay_vouches_for_a_key_that_is_old_or_of_another_place() {
    let mut fleet = Fleet::of(3, 1, 0);
    let name = fleet.remotes[0].name.clone();
    let (_, id, key) = fleet.half_out(0, &name);
    let hall = "hall.example";
    assert!(fleet.vouches(1, Facing::Public, (hall, &name), &id, &key));
    assert!(!fleet.vouches(1, Facing::Public, (hall, &name), "R-other", &key));
    assert!(!fleet.vouches(1, Facing::Public, (hall, "other.example"), &id, &key));
    // The same words inside: the server behind asks about a key that was made for the world.
    let inside = fleet.nodes[0].0.keys.world.make(
        &Pair { sender: domain(&name), target: domain(hall) },
        "L-1",
        fleet.now,
    );
    assert!(!fleet.vouches(1, Facing::Backend, (&name, hall), "L-1", &inside));
    fleet.now += Timeouts::default().dialback + SKEW * 5;
    assert!(!fleet.vouches(1, Facing::Public, (hall, &name), &id, &key), "it is old");
    // A node an hour ahead makes keys that nobody else knows, and knows nobody else's.
    fleet.nodes[2].0 = Arc::new(params_at(Clock::new(fleet.now, UNIX + Duration::from_secs(7_200))));
    let (_, id, key) = fleet.half_out(2, &name);
    assert!(!fleet.vouches(1, Facing::Public, (hall, &name), &id, &key));
    let (_, id, key) = fleet.half_out(1, &name);
    assert!(!fleet.vouches(2, Facing::Public, (hall, &name), &id, &key));
    // While versions are mixed: a node of before there were epochs, with the same secrets, vouches for what it remembers and is
    // vouched for by nobody else.
    let keys = Keyrings { world: Keyring::new(WORLD), inside: Keyring::new(INSIDE) };
    fleet.nodes[2].0 = Arc::new(RelayParams { keys, ..relays() });
    let (_, id, key) = fleet.half_out(2, &name);
    assert!(!fleet.vouches(1, Facing::Public, (hall, &name), &id, &key));
    let (_, id, key) = fleet.half_out(1, &name);
    assert!(!fleet.vouches(2, Facing::Public, (hall, &name), &id, &key));
    assert!(fleet.vouches(0, Facing::Public, (hall, &name), &id, &key));
}

const HELLO: &str = " to='hall.example' version='1.0'";
const UNIX: Duration = Duration::from_secs(1_800_000_000);
const WORLD: &[u8] = b"0123456789abcdef0123456789abcdef";
const INSIDE: &[u8] = b"fedcba9876543210fedcba9876543210";
const MECHANISMS: &str =
    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>";
