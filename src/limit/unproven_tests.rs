//! Who gets a place among the unproven, who makes room for whom, and that all of it is given back.

use super::*;

fn room(connections: u32, around: u32) -> Arc<Unproven> {
    Unproven::new(Room { connections, around, octets: 1 << 30 }, Arc::default())
}

fn come(unproven: &Arc<Unproven>, from: &str) -> Result<UnprovenPlace, Reason> {
    unproven.admit(from.parse().unwrap(), Instant::now())
}

fn has_lost(unproven: &mut UnprovenPlace) -> bool {
    unproven.poll_displaced(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
}

#[test]
fn so_many_unproven_peers_and_no_more() {
    let unproven = room(2, 2);
    let mut first = come(&unproven, "192.0.2.1").unwrap();
    let _second = come(&unproven, "192.0.2.1").unwrap();
    assert!(!unproven.is_full(Instant::now()));
    assert_eq!(come(&unproven, "192.0.2.1").unwrap_err(), Reason::TooManyUnproven);
    assert!(unproven.is_full(Instant::now()), "which is told");
    assert_eq!(unproven.connections(), 2, "who is turned away takes no place");
    assert!(!has_lost(&mut first));
    drop(first);
    let _third = come(&unproven, "192.0.2.1").unwrap();
}

#[test]
fn one_part_of_the_internet_leaves_room_for_the_others() {
    let unproven = room(100, 2);
    let come = |from: &str| come(&unproven, from);
    let first = come("2001:db8:0:1::1").unwrap();
    let _second = come("2001:db8:0:1::2").unwrap();
    assert_eq!(come("2001:db8:0:1::3").unwrap_err(), Reason::TooManyUnproven);
    let _elsewhere = [come("2001:db8:1::1").unwrap(), come("192.0.2.1").unwrap(), come("192.0.2.1").unwrap()];
    assert_eq!(come("::ffff:192.0.2.1").unwrap_err(), Reason::TooManyUnproven);
    assert_eq!(unproven.connections(), 5, "who is turned away takes no place");
    drop(first);
    come("2001:db8:0:3::1").unwrap();
    assert_eq!(held(&unproven.crowd).parts.len(), 3);
}

// LIM-06: "places are shared among source networks fairly". Five networks that hold all places lose them, the longest-waiting
// first, to whoever comes from elsewhere; and within a network the address that holds most.
#[test]
fn who_holds_most_makes_room_for_who_holds_less() {
    let unproven = room(100, 25);
    let mut crowd: Vec<UnprovenPlace> =
        (0..100).map(|n| come(&unproven, &format!("198.51.{}.{}", n % 5, n % 10)).unwrap()).collect();
    let mut newcomers: Vec<UnprovenPlace> =
        (0..50).map(|n| come(&unproven, &format!("203.0.{n}.1")).unwrap()).collect();
    assert_eq!(unproven.connections(), 100);
    let lost: Vec<bool> = crowd.iter_mut().map(has_lost).collect();
    assert_eq!(lost.iter().filter(|lost| **lost).count(), 50);
    assert!(!newcomers.iter_mut().any(has_lost));
    assert!(lost.iter().take(20).all(|lost| *lost), "those who waited longest");
    // Its network holds as much as any other, and it as much as its neighbour.
    assert_eq!(come(&unproven, "198.51.0.0").unwrap_err(), Reason::TooManyUnproven);
    let _neighbour = come(&unproven, "198.51.0.99").unwrap();
    assert_eq!(unproven.connections(), 100);
    drop((crowd, newcomers));
    assert_eq!(unproven.connections(), 1, "who lost a place gives back none");
    let crowd = held(&unproven.crowd);
    assert_eq!((crowd.parts.len(), crowd.fullest.len(), crowd.expected.len()), (1, 1, 0));
}

// LIM-06: where all hold as much, it is the one who waited longest, wherever that is: newcomers have their time.
#[test]
fn among_equals_the_longest_here_makes_room() {
    let parts = (["203.0.1.1", "198.51.1.1", "192.0.2.1"], ["10.0.1.1", "10.0.2.1", "10.0.3.1"]);
    let hosts = (["192.0.2.3", "192.0.2.1", "192.0.2.2"], ["192.0.2.4", "192.0.2.5", "192.0.2.6"]);
    for (first, then) in [parts, hosts] {
        let unproven = room(3, 3);
        let mut first = first.map(|from| come(&unproven, from).unwrap());
        let mut newcomers = Vec::new();
        for (n, from) in then.iter().enumerate() {
            newcomers.push(come(&unproven, from).unwrap());
            assert_eq!(first.iter_mut().position(has_lost), Some(n), "{from}");
        }
        assert!(!newcomers.iter_mut().any(has_lost));
    }
}

// LIM-06: who is expected finds a place, and keeps it: servers that we have called, and networks of those who are proven.
#[test]
fn who_is_expected_has_a_place_however_many_come() {
    let callbacks = Arc::<Callbacks>::default();
    let unproven = Unproven::new(Room { connections: 6, around: 6, octets: 1 << 30 }, Arc::clone(&callbacks));
    let now = Instant::now();
    let friend = come(&unproven, "192.0.2.1").unwrap().prove(now);
    let called = callbacks.expect("192.0.2.2".parse().unwrap());
    let _crowd: Vec<UnprovenPlace> = (0..6).map(|_| come(&unproven, "192.0.2.3").unwrap()).collect();
    let mut expected: Vec<UnprovenPlace> =
        ["192.0.2.1", "192.0.2.1", "192.0.2.2"].iter().map(|from| come(&unproven, from).unwrap()).collect();
    assert_eq!(unproven.connections(), 6);
    let _others: Vec<_> = (0..20).map(|n| come(&unproven, &format!("203.0.{n}.1"))).collect();
    assert!(!expected.iter_mut().any(has_lost));
    drop((expected, called, friend));
    let lately = unproven.admit("192.0.2.1".parse().unwrap(), now).unwrap();
    assert!(lately.sheltered);
    let late = unproven.admit("192.0.2.1".parse().unwrap(), now + LATELY * 2).unwrap();
    assert!(!late.sheltered, "not for ever");
    // What counts is when it was here last.
    let (stays, leaves) = (come(&unproven, "192.0.2.9").unwrap().prove(now), now + LATELY * 3);
    drop(unproven.admit("192.0.2.10".parse().unwrap(), leaves));
    drop(stays);
    let there = Network::of("192.0.2.9".parse().unwrap());
    assert!(unproven.expects(&held(&unproven.crowd), there, leaves + LATELY / 2));
    assert!(!unproven.expects(&held(&unproven.crowd), Network::of("192.0.2.2".parse().unwrap()), now));
}

// LIM-02: a global cap on memory, and all of it released.
#[test]
fn so_much_memory_for_all_and_no_more() {
    let room = Room { connections: 100, around: 100, octets: 3 * COST };
    let unproven = Unproven::new(room, Arc::default());
    let mut first = come(&unproven, "192.0.2.1").unwrap();
    let mut second = come(&unproven, "192.0.2.1").unwrap();
    let full = usize::try_from(COST).unwrap();
    assert_eq!(first.hold(full), Ok(()), "exactly the ceiling");
    assert_eq!(unproven.octets(), 3 * COST);
    assert_eq!(second.hold(1), Err(Reason::UnprovenMemory));
    assert_eq!(second.hold(0), Ok(()), "less is never too much");
    assert_eq!(come(&unproven, "192.0.2.1").unwrap_err(), Reason::UnprovenMemory);
    assert_eq!((unproven.connections(), unproven.octets()), (2, 3 * COST));
    assert_eq!(first.hold(10), Ok(()));
    assert_eq!(second.hold(1), Ok(()));
    drop((first, second));
    assert_eq!((unproven.connections(), unproven.octets()), (0, 0));
}

// LIM-06: at the ceiling of the memory, too, the network with most makes room; whoever holds much counts for as many as would
// hold that. Who lost the place is counted no more from then on, and gives nothing back.
#[test]
fn who_holds_most_memory_makes_room_for_who_holds_less() {
    let room = Room { connections: 100, around: 100, octets: 12 * COST };
    let unproven = Unproven::new(room, Arc::default());
    let octets = usize::try_from(3 * COST).unwrap();
    // Two with four shares each, and four with one.
    let mut heavy = ["198.51.100.1", "198.51.101.1"].map(|from| come(&unproven, from).unwrap());
    heavy.iter_mut().for_each(|unproven| assert_eq!(unproven.hold(octets), Ok(())));
    let from = |n: u8| format!("203.0.{n}.1");
    let mut light: Vec<UnprovenPlace> = (0..4).map(|n| come(&unproven, &from(n)).unwrap()).collect();
    assert_eq!((unproven.connections(), unproven.octets()), (6, 12 * COST));
    let mut newcomer = come(&unproven, "192.0.2.1").unwrap();
    assert!(has_lost(&mut heavy[0]), "the one with most who is there longest");
    assert_eq!((unproven.connections(), unproven.octets()), (6, 9 * COST));
    assert!(unproven.is_full(Instant::now()), "which is told");
    assert_eq!(heavy[0].hold(0), Ok(()), "it is counted no more");
    // What a newcomer brings finds room as well, until its own network is the one with most.
    light.extend((4..7).map(|n| come(&unproven, &from(n)).unwrap()));
    assert_eq!(unproven.octets(), 12 * COST);
    assert_eq!(newcomer.hold(octets / 3), Ok(()));
    assert!(has_lost(&mut heavy[1]) && !has_lost(&mut newcomer));
    assert_eq!(unproven.octets(), 9 * COST);
    assert_eq!(newcomer.hold(octets / 3 * 4), Ok(()), "exactly the ceiling");
    assert_eq!(newcomer.hold(octets * 2), Err(Reason::UnprovenMemory), "nobody else holds as much");
    assert!(!light.iter_mut().any(has_lost), "they hold less");
    drop((heavy, newcomer));
    assert_eq!((unproven.connections(), unproven.octets()), (7, 7 * COST));
    drop(light);
    assert_eq!((unproven.connections(), unproven.octets()), (0, 0));
    let crowd = held(&unproven.crowd);
    assert_eq!((crowd.parts.len(), crowd.fullest.len()), (0, 0));
}
