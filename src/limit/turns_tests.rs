use super::*;
use std::net::Ipv4Addr;

/// A network with two numbers of ours: the /24, and the host in it.
fn from(around: u16, host: u8) -> Network {
    let [a, b] = around.to_be_bytes();
    Network::of(Ipv4Addr::new(100, a, b, host).into())
}

fn about(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn params() -> TurnParams {
    TurnParams { places: 8, per_source: 3, per_domain: 2, waiting: 1000, turn: Duration::from_secs(1) }
}

/// Places, their parameters, and a clock.
struct World {
    turns: Turns,
    params: TurnParams,
    now: Instant,
}

impl World {
    fn new(params: TurnParams) -> Self {
        Self { turns: Turns::default(), params, now: Instant::now() }
    }

    fn ask(&mut self, source: Network, domain: &str) -> Turn {
        self.turns.enter(source, about(domain), &self.params, self.now).0
    }

    fn settle(&mut self) -> SettledTurns {
        self.turns.settle(&self.params, self.now)
    }

    fn wait(&mut self, millis: u64) -> SettledTurns {
        self.now += Duration::from_millis(millis);
        self.settle()
    }
}

#[test]
fn a_free_place_is_given_at_once_and_given_back() {
    let mut world = World::new(params());
    let one = world.ask(from(1, 1), "friend.example");
    assert_eq!(world.settle(), SettledTurns { granted: vec![one], ..SettledTurns::default() });
    world.turns.leave(one);
    assert_eq!((world.turns.held(), world.turns.waiting()), (0, 0));
    assert!(world.turns.counts.sources.is_empty() && world.turns.counts.both.is_empty());
    assert!(world.turns.counts.around.is_empty() && world.turns.counts.domains.is_empty());
}

// L-pending: so many of one source, so many of one network about one domain; what is more waits and is not refused.
#[test]
fn what_is_over_a_share_waits_for_its_own_kind_only() {
    let mut world = World::new(TurnParams { places: 100, ..params() });
    let source: Vec<Turn> = (0..5).map(|n| world.ask(from(1, 1), &format!("d{n}.example"))).collect();
    let domain: Vec<Turn> = (0..4).map(|n| world.ask(from(2, n), "bank.example")).collect();
    let other = world.ask(from(3, 1), "bank.example");
    let settled = world.settle();
    assert_eq!(settled.granted.len(), 3 + 2 + 1);
    assert!(settled.granted.contains(&other), "another network's askings about the domain are its own");
    world.turns.leave(source[0]);
    world.turns.leave(domain[1]);
    let mut granted = world.settle().granted;
    granted.sort();
    assert_eq!(granted, [source[3], domain[2]]);
    // However long it takes: nobody else has any use for the place.
    assert_eq!(world.wait(60_000), SettledTurns::default());
}

// LIM-06: "who asks pays": one party, with however many addresses, cannot keep others from a place.
#[test]
fn one_network_leaves_places_for_others() {
    let mut world = World::new(TurnParams { places: 40, per_source: 2, ..params() });
    for n in 0..=255 {
        world.ask(from(1, n), &format!("d{n}.example"));
    }
    assert_eq!(world.settle().granted.len(), 10, "a quarter");
    let other = world.ask(from(2, 1), "friend.example");
    assert_eq!(world.settle().granted, [other]);
}

// "Places are shared among source networks fairly": who holds most gives up the oldest, once it has had its turn.
#[test]
fn who_has_none_gets_the_oldest_place_of_who_has_most() {
    let mut world = World::new(params());
    let mut held = Vec::new();
    for network in 1..=4 {
        for n in 0..2 {
            held.push(world.ask(from(network, n), &format!("d{n}.example")));
            world.settle();
            world.now += Duration::from_millis(10);
        }
    }
    let more = world.ask(from(1, 9), "more.example");
    let new = world.ask(from(9, 1), "friend.example");
    let settled = world.settle();
    assert_eq!((settled.granted.len(), settled.ended.len()), (0, 0), "a turn is certain");
    let first = world.now - Duration::from_millis(80);
    assert_eq!(settled.again, Some(first + world.params.turn));
    let settled = world.wait(920);
    assert_eq!((settled.granted, settled.ended), (vec![new], vec![held[0]]));
    // Network 1 holds one now, as many as those who have most less one: it gains nothing by asking more.
    let settled = world.wait(2000);
    assert_eq!((settled.granted, settled.ended), (vec![more], vec![held[2]]));
    assert_eq!(world.wait(60_000).granted, [], "those that are even take nothing from each other");
}

// With 200 networks attacking at once an honest dialback of any domain stands within 2 s: with silent
// authorities, as many askings as each network may make, and all of them made anew as soon as they end.
#[test]
fn two_hundred_networks_delay_an_honest_one_by_a_turn() {
    let mut world = World::new(TurnParams::default());
    let storm = |world: &mut World, asked: &mut HashMap<Turn, u16>| {
        for network in 0..200 {
            for n in 0..20 {
                let turn = world.ask(from(network, n % 4), &format!("d{n}.silent{network}.example"));
                asked.insert(turn, network);
            }
        }
    };
    let mut asked = HashMap::new();
    storm(&mut world, &mut asked);
    world.settle();
    for round in 0..10_u16 {
        let honest = world.ask(from(1000 + round, 1), "bank.example");
        let begun = world.now;
        loop {
            let settled = world.settle();
            for ended in &settled.ended {
                // What has had its turn asks again at once.
                let network = asked[ended];
                let turn = world.ask(from(network, 1), &format!("again{round}.silent{network}.example"));
                asked.insert(turn, network);
            }
            if settled.granted.contains(&honest) {
                break;
            }
            world.now = settled.again.unwrap_or(world.now + Duration::from_millis(100));
        }
        let waited = world.now - begun;
        assert!(waited <= world.params.turn, "{waited:?} in round {round}");
        // It asks its authority and is done.
        world.turns.leave(honest);
        world.turns.came_out(from(1000 + round, 1), true, world.now);
        world.now += Duration::from_millis(137);
    }
}

// Junk keys for a domain that answers: "among claimants of one domain take turns by network", and whoever asked in vain lately
// comes after whoever did not.
#[test]
fn junk_for_one_domain_delays_an_honest_claim_of_it_by_an_answer() {
    let mut world = World::new(TurnParams { places: 40, ..TurnParams::default() });
    let mut under_way: Vec<(Turn, u16)> = Vec::new();
    let mut asked = HashMap::new();
    for network in 0..200 {
        let turn = world.ask(from(network, 1), "bank.example");
        asked.insert(turn, network);
    }
    let answer_all = |world: &mut World, under_way: &mut Vec<(Turn, u16)>, asked: &mut HashMap<Turn, u16>| {
        world.now += Duration::from_millis(50);
        for (turn, network) in under_way.drain(..) {
            world.turns.leave(turn);
            world.turns.came_out(from(network, 1), false, world.now);
            let turn = world.ask(from(network, 1), "bank.example");
            asked.insert(turn, network);
        }
        let settled = world.settle();
        under_way.extend(settled.granted.iter().filter_map(|t| asked.get(t).map(|n| (*t, *n))));
        settled
    };
    assert_eq!(
        answer_all(&mut world, &mut under_way, &mut asked).granted.len(),
        20,
        "half of all, about one domain"
    );
    for _ in 0..20 {
        answer_all(&mut world, &mut under_way, &mut asked);
    }
    for round in 0..20 {
        let honest = world.ask(from(1000 + round, 1), "bank.example");
        let settled = answer_all(&mut world, &mut under_way, &mut asked);
        assert_eq!(settled.granted.first(), Some(&honest), "{round}");
        world.turns.leave(honest);
        world.turns.came_out(from(1000 + round, 1), true, world.now);
    }
    // And who asks about another domain does not wait at all.
    let other = world.ask(from(2000, 1), "friend.example");
    assert!(world.settle().granted.contains(&other));
}

// Law `bounded`: where more wait than may, it is the network with most of them that loses its last.
#[test]
fn who_fills_the_queue_pays_for_it() {
    let mut world = World::new(TurnParams { places: 1, per_domain: 1, waiting: 10, ..params() });
    world.ask(from(1, 1), "a.example");
    world.settle();
    let crowd: Vec<Turn> = (0..9).map(|n| world.ask(from(1, 1), &format!("d{n}.example"))).collect();
    let (kept, gone) = world.turns.enter(from(2, 1), about("b.example"), &world.params, world.now);
    assert_eq!(gone, None);
    let (_, gone) = world.turns.enter(from(3, 1), about("b.example"), &world.params, world.now);
    assert_eq!(gone, crowd.last().copied());
    let (turn, gone) = world.turns.enter(from(1, 1), about("z.example"), &world.params, world.now);
    assert_eq!(gone, Some(turn), "itself");
    assert_eq!(world.wait(1000).granted, [kept]);
}

#[test]
fn the_memory_of_vain_askings_ends_and_does_not_grow() {
    let mut world = World::new(params());
    for network in 0..u16::MAX {
        world.turns.came_out(from(network, 1), false, world.now);
    }
    assert_eq!(world.turns.vain.len(), REMEMBERED);
    world.now += MEMORY + Duration::from_secs(1);
    world.turns.came_out(from(u16::MAX, 1), false, world.now);
    assert_eq!(world.turns.vain.len(), 1);
}
