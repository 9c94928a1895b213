use super::*;

const FEW: RotaParams = RotaParams { most: 4, setups: 2, stay: Duration::from_secs(1) };

/// A rota whose seats stand as soon as they are granted, and are left as soon as they are asked for.
struct Scene {
    rota: Rota<String>,
    names: HashMap<Seat, String>,
    now: Instant,
    gave_way: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        Self { rota: Rota::default(), names: HashMap::new(), now: Instant::now(), gave_way: Vec::new() }
    }

    fn asks(&mut self, name: &str) -> Seat {
        let seat = self.rota.enter(&Domain::parse(name).unwrap(), name.to_owned());
        self.names.insert(seat, name.to_owned());
        seat
    }

    fn name(&self, seat: Seat) -> String {
        self.names[&seat].clone()
    }

    /// Until nothing more can be done now.
    fn settle(&mut self, params: &RotaParams) -> Option<Instant> {
        loop {
            let seated = self.rota.settle(params, self.now);
            if seated.granted.is_empty() && seated.asked.is_empty() {
                return seated.again;
            }
            for seat in seated.granted {
                self.rota.stands(seat, self.now);
            }
            for seat in seated.asked {
                self.gave_way.push(self.name(seat));
                self.rota.leave(seat);
            }
        }
    }

    fn here(&self, name: &str) -> usize {
        self.rota.held.values().filter(|holder| holder.pair == name).count()
    }
}

#[test]
fn so_many_are_set_up_at_one_time() {
    let mut scene = Scene::new();
    let seats: Vec<_> = (0..4).map(|n| scene.asks(&format!("d{n}.com"))).collect();
    let Seated { granted, asked, again } = scene.rota.settle(&FEW, scene.now);
    assert_eq!((granted, asked, again), (seats[..2].to_vec(), vec![], None));
    scene.rota.stands(seats[0], scene.now);
    // One that comes to nothing makes room, too.
    scene.rota.leave(seats[1]);
    assert_eq!(scene.rota.settle(&FEW, scene.now).granted, seats[2..]);
    assert_eq!((scene.rota.held(), scene.rota.waiting()), (3, 0));
}

// Requirements 0.2: "the longest idle stream of the domain that holds most is closed for the next".
#[test]
fn the_longest_idle_of_the_domain_that_holds_most_gives_way_once_it_has_stood_for_a_while() {
    let mut scene = Scene::new();
    let wild: Vec<_> = (0..3).map(|n| scene.asks(&format!("w{n}.wild.com"))).collect();
    scene.asks("friend.com");
    assert_eq!(scene.settle(&FEW), None);
    for (seat, used) in [(wild[0], 30), (wild[1], 10), (wild[2], 20)] {
        scene.rota.used(seat).unwrap().at(used);
    }
    scene.asks("late.com");
    let again = scene.settle(&FEW);
    assert_eq!(again, Some(scene.now + FEW.stay), "nobody goes before it has stood for a while");
    scene.now += FEW.stay;
    assert_eq!(scene.settle(&FEW), None);
    assert_eq!(scene.gave_way, ["w1.wild.com"]);
    assert_eq!((scene.here("late.com"), scene.here("friend.com")), (1, 1));
}

#[test]
fn whoever_holds_most_takes_turns_with_itself_and_harms_nobody() {
    let mut scene = Scene::new();
    for name in ["friend.com", "other.com", "w0.wild.com", "w1.wild.com"] {
        scene.asks(name);
    }
    scene.settle(&FEW);
    for n in 2..50 {
        scene.asks(&format!("w{n}.wild.com"));
    }
    for _ in 0..60 {
        scene.now += FEW.stay;
        scene.settle(&FEW);
    }
    assert_eq!(scene.rota.waiting(), 0);
    assert!(scene.gave_way.iter().all(|name| name.ends_with(".wild.com")), "{:?}", scene.gave_way);
    assert_eq!((scene.here("friend.com"), scene.here("other.com")), (1, 1));
}

#[test]
fn a_hoster_of_many_domains_and_one_of_many_subdomains_have_their_turns() {
    let params = RotaParams { most: 100, ..RotaParams::default() };
    let mut scene = Scene::new();
    for n in 0..901 {
        scene.asks(&format!("w{n}.wild.com"));
    }
    scene.settle(&params);
    assert_eq!(scene.rota.held(), 100);
    scene.asks("friend.com");
    for n in 0..200 {
        scene.asks(&format!("customer{n}.com"));
    }
    scene.now += params.stay;
    scene.settle(&params);
    assert_eq!(scene.here("friend.com"), 1, "who holds nothing waits for nobody who waits for more");
    let wild = scene.rota.held.values().filter(|holder| &*holder.domain == "wild.com").count();
    assert_eq!(wild, 1);
    for _ in 0..3 {
        scene.now += params.stay;
        scene.settle(&params);
    }
    let served: BTreeSet<_> = scene.gave_way.iter().filter(|name| name.starts_with("customer")).collect();
    let here = scene.rota.held.values().filter(|holder| holder.domain.starts_with("customer")).count();
    assert_eq!(served.len() + here, 200, "each of the hoster's has had a stream");
}

// RLY-05: what goes over another stream must not overtake what went over this one.
#[test]
fn a_pair_whose_stream_gives_way_waits_for_its_end() {
    let params = RotaParams { most: 1, ..FEW };
    let mut scene = Scene::new();
    let first = scene.asks("friend.com");
    scene.rota.settle(&params, scene.now);
    scene.rota.stands(first, scene.now);
    scene.now += params.stay;
    let other = scene.asks("other.com");
    assert_eq!(scene.rota.settle(&params, scene.now).asked, [first]);
    let again = scene.asks("friend.com");
    let late = scene.asks("late.com");
    // More seats, and still none for that pair.
    let more = RotaParams { most: 9, setups: 9, ..params };
    assert_eq!(scene.rota.settle(&more, scene.now).granted, [other, late]);
    scene.rota.leave(first);
    assert_eq!(scene.rota.settle(&more, scene.now).granted, [again]);
    // Whoever could not be told stays.
    scene.rota.stands(again, scene.now);
    scene.now += params.stay;
    let asked = scene.rota.settle(&RotaParams { most: 2, ..more }, scene.now).asked;
    assert_eq!(asked, [again], "fewer seats after a reload");
    scene.rota.stays(again, scene.now);
    assert!(scene.rota.leaving.is_empty() && scene.rota.going == 0);
}

#[test]
fn nothing_is_kept_of_those_who_have_gone() {
    let mut scene = Scene::new();
    let mut seats: Vec<_> = (0..50).map(|n| scene.asks(&format!("d{}.com", n % 7))).collect();
    for round in 0_u64..200 {
        scene.now += FEW.stay / 3;
        scene.settle(&FEW);
        if round % 3 == 0 && !seats.is_empty() {
            let seat = seats.swap_remove(usize::try_from(round).unwrap() % seats.len());
            scene.rota.leave(seat);
        }
    }
    seats.into_iter().for_each(|seat| scene.rota.leave(seat));
    let Rota { waiting, order, queued, held, counts, setting_up, leaving, going, .. } = scene.rota;
    assert!(waiting.is_empty() && order.is_empty() && queued.is_empty() && held.is_empty());
    assert!(counts.is_empty() && leaving.is_empty());
    assert_eq!((setting_up, going), (0, 0));
}
