//! What addresses and domains may send, alone, at once and at several nodes.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::*;
use crate::relay::AddressText;

const MINUTE: Duration = Duration::from_secs(60);
const THREADS: usize = 4;

fn senders(stanzas: u32, recipients: u32, subscriptions: u32, now: Instant) -> Senders {
    let many = |n| NonZeroU32::new(n).unwrap();
    let params =
        Params { stanzas: many(stanzas), recipients: many(recipients), subscriptions: many(subscriptions) };
    Senders::new(params, now)
}

fn from(address: &str, recipient: &str, subscribes: bool) -> Sender {
    let domain = Domain::parse(address.split_once('@').unwrap().1).unwrap();
    let words = |text: &str| AddressText::Apart(text.into());
    Sender {
        domain,
        address: words(address),
        occupant: None,
        recipient: words(recipient),
        subscribes,
        held: None,
    }
}

/// One of many in a room.
fn occupant(room: &str, nick: u32, recipient: u32) -> Sender {
    let occupant = Some(AddressText::Apart(format!("{room}/n{nick}").into()));
    Sender { occupant, ..from(room, &format!("u{recipient}@hall.example"), false) }
}

fn ask(senders: &Senders, sender: &Sender, now: Instant) -> Result<(), TooMuch> {
    senders.ask(sender, b"", &mut Tally::default(), now).map(drop)
}

fn counted(senders: &Senders) -> usize {
    senders.tables.iter().map(|table| table.counts.len()).sum()
}

/// Those who came through, where several threads ask for all of them at once.
fn race<'a>(senders: &Senders, all: &'a [Sender], now: Instant) -> Vec<&'a Sender> {
    let start = &Barrier::new(THREADS);
    let passing = move || {
        start.wait();
        all.iter().filter(|sender| ask(senders, sender, now).is_ok()).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let runners: Vec<_> = (0..THREADS).map(|_| scope.spawn(passing)).collect();
        runners.into_iter().flat_map(|runner| runner.join().unwrap()).collect()
    })
}

// LIM-04: "stanza rate .. per sender JID".
#[test]
fn one_address_sends_so_much_in_a_minute_and_its_neighbour_too() {
    let start = Instant::now();
    let senders = senders(60, 1000, 1000, start);
    let ask = |who, now| ask(&senders, &from(who, "j@hall.example", false), now);
    // A minute's worth, and ten seconds' worth that is borne.
    for _ in 0..70 {
        assert_eq!(ask("a@friend.example", start), Ok(()));
    }
    assert_eq!(ask("a@friend.example", start), Err(TooMuch::Stanzas));
    assert_eq!(ask("b@friend.example", start), Ok(()));
    let later = start + Duration::from_secs(1);
    assert_eq!(ask("a@friend.example", later), Ok(()));
    assert_eq!(ask("a@friend.example", later), Err(TooMuch::Stanzas));
}

// What a stream remembers of the last domain that it was asked about is that domain's, and of these counts.
#[test]
fn a_stream_that_goes_on_with_another_domain_or_other_counts_begins_anew() {
    let start = Instant::now();
    let (before, after) = (senders(60, 1000, 1000, start), senders(60, 1000, 1000, start));
    let [friend, other] =
        ["a@friend.example", "a@other.example"].map(|who| from(who, "j@hall.example", false));
    let mut tally = Tally::default();
    assert_eq!(before.ask(&friend, b"", &mut tally, start), Ok(Duration::ZERO));
    // Half of a minute's worth, and of what is borne, on this stream, and half on others.
    for sender in [&friend, &other].into_iter().cycle().take(2 * 35) {
        assert!(after.ask(sender, b"", &mut tally, start).is_ok());
    }
    for sender in [&friend, &other] {
        assert!((0..35).all(|_| ask(&after, sender, start) == Ok(())));
        assert_eq!(ask(&after, sender, start), Err(TooMuch::Stanzas));
        assert_eq!(after.ask(sender, b"", &mut tally, start).err(), Some(TooMuch::Stanzas));
    }
}

// "A room of 2,000 occupants and 50 local users rejoining lose nothing with defaults": each hears of each, and some history.
#[test]
fn a_large_room_loses_nothing_when_its_people_come_back() {
    let start = Instant::now();
    let senders = Senders::new(Params::default(), start);
    let mut tally = Tally::default();
    for user in 0..50 {
        for nick in 0..2_000 {
            let presence = occupant("room@rooms.example", nick, user);
            assert_eq!(senders.ask(&presence, b"", &mut tally, start), Ok(Duration::ZERO));
        }
        for nick in 0..50 {
            let said = occupant("room@rooms.example", nick, user);
            assert_eq!(senders.ask(&said, b"", &mut tally, start), Ok(Duration::ZERO));
        }
    }
}

// "One flooding person is stopped, so is a domain inventing 10,000 resources": whatever they call themselves.
#[test]
fn who_invents_addresses_is_stopped_as_who_does_not() {
    let start = Instant::now();
    // A tenth of the defaults.
    let defaults = Params { stanzas: NonZeroU32::new(600).unwrap(), ..Params::default() };
    let passed = |sends: &dyn Fn(u32) -> Sender| {
        let senders = Senders::new(defaults, start);
        let mut tally = Tally::default();
        let asked = (0..40_000).map(|n| senders.ask(&sends(n), b"", &mut tally, start));
        u32::try_from(asked.filter(Result::is_ok).count()).unwrap()
    };
    let borne = |times: u32| defaults.stanzas.get() * times * 7 / 6;
    // As a person, who does not get more for a resource.
    assert_eq!(passed(&|_| from("a@evil.example", "j@hall.example", false)), borne(1));
    // One occupant; 10,000 of them; 10,000 accounts.
    assert_eq!(passed(&|_| occupant("a@evil.example", 1, 1)), borne(1));
    assert_eq!(passed(&|n| occupant("a@evil.example", n % 10_000, 1)), borne(20));
    let most = passed(&|n| from(&format!("a{}@evil.example", n % 10_000), "j@hall.example", false));
    assert!(most.abs_diff(borne(50)) <= AT_ONCE, "{most}");
}

// "Stanzas over a rate are slowed before they are refused", and the others on the stream are not slowed for ever.
#[test]
fn who_sends_too_fast_slows_his_stream_for_a_while_and_is_refused_then() {
    let start = Instant::now();
    let senders = Senders::new(Params::default(), start);
    let flooder = from("a@friend.example", "j@hall.example", false);
    let mut tally = Tally::default();
    let (mut now, mut slowed, mut passed) = (start, Duration::ZERO, 0);
    // As fast as the stream lets him: it is not read for as long as each stanza slows it.
    while let Ok(slow) = senders.ask(&flooder, b"", &mut tally, now) {
        slowed += slow;
        now += slow;
        passed += 1;
    }
    assert!(passed > 6_000 + 1_000, "{passed}");
    assert!(slowed >= Duration::from_secs(5) && slowed <= Duration::from_secs(10), "{slowed:?}");
    let calm = from("b@friend.example", "j@hall.example", false);
    assert_eq!(senders.ask(&calm, b"", &mut tally, now), Ok(Duration::ZERO));
    // He goes on: what of it passes slows nobody any more.
    for _ in 0..1_000 {
        now += Duration::from_millis(5);
        assert_ne!(senders.ask(&flooder, b"", &mut tally, now).unwrap_or_default(), Duration::from_millis(5));
    }
}

// LIM-04: a stream that brings stanzas of several domains in turn counts them for each.
#[test]
fn a_domain_is_counted_among_others_on_its_stream() {
    let start = Instant::now();
    let senders = senders(600, 10_000, 120, start);
    let mut tally = Tally::default();
    let ask = |tally: &mut Tally, who: String| {
        senders.ask(&from(&who, "j@hall.example", false), b"", tally, start).is_ok()
    };
    let mut passed = 0;
    for n in 0..40_000 {
        assert!(ask(&mut tally, format!("a{}@calm{}.example", n % 100, n % 400)));
        passed += u32::from(ask(&mut tally, format!("a{}@evil.example", n % 10_000)));
    }
    assert!(passed.abs_diff(600 * 50 * 7 / 6) <= AT_ONCE, "{passed}");
}

// LIM-04: "number of distinct local recipients per sender domain and period".
#[test]
fn one_domain_reaches_so_many_accounts_in_a_minute() {
    let start = Instant::now();
    let senders = senders(60_000, 3, 1000, start);
    let allows = |to, now| ask(&senders, &from("a@friend.example", to, false), now);
    for to in ["j@hall.example", "k@hall.example", "j@annex.example"] {
        assert_eq!(allows(to, start), Ok(()), "{to}");
    }
    let other = from("b@friend.example", "l@hall.example", false);
    assert_eq!(ask(&senders, &other, start), Err(TooMuch::Recipients), "the domain counts");
    assert_eq!(allows("k@hall.example", start), Ok(()), "whom it knows it may go on writing to");
    let cousin = from("c@cousin.example", "l@hall.example", false);
    assert_eq!(ask(&senders, &cousin, start), Ok(()));
    assert_eq!(allows("l@hall.example", start + MINUTE), Ok(()));
}

// LIM-08: "presence subscription requests from a sender domain have their own rate".
#[test]
fn one_domain_asks_for_so_many_subscriptions_in_a_minute() {
    let start = Instant::now();
    let senders = senders(60_000, 1000, 2, start);
    let ask = |subscribes| ask(&senders, &from("a@friend.example", "j@hall.example", subscribes), start);
    assert_eq!((ask(true), ask(true)), (Ok(()), Ok(())));
    assert_eq!(ask(true), Err(TooMuch::Subscriptions));
    assert_eq!(ask(false), Ok(()), "what is no request goes on");
}

#[test]
fn what_is_counted_of_two_domains_or_of_two_kinds_is_apart() {
    let start = Instant::now();
    let senders = senders(1, 1, 1, start);
    for domain in ["friend.example", "cousin.example"] {
        let words = || AddressText::Apart("j@hall.example".into());
        let domain = Domain::parse(domain).unwrap();
        let (address, recipient) = (words(), words());
        let sender = Sender { domain, address, occupant: None, recipient, subscribes: true, held: None };
        assert_eq!(ask(&senders, &sender, start), Ok(()));
    }
}

// LIM-04, LIM-08: streams that send at once get no more, and no less, than one would.
#[test]
fn streams_that_meet_at_one_sender_share_what_it_may() {
    let start = Instant::now();
    let senders = senders(5_000, 1000, 700, start);
    let plain = vec![from("a@friend.example", "j@hall.example", false); 4_000];
    // A sixth more is borne of these, and of those none.
    assert_eq!(race(&senders, &plain, start).len(), 5_000 * 7 / 6);
    let subscribes = vec![from("b@friend.example", "j@hall.example", true); 500];
    assert_eq!(race(&senders, &subscribes, start).len(), 700);
}

// LIM-04: the same, where the recipients are new to all of them.
#[test]
fn streams_that_meet_at_new_recipients_share_their_number() {
    let start = Instant::now();
    let senders = senders(600_000, 1000, 1000, start);
    let to = |n: u32| from("a@friend.example", &format!("j{n}@hall.example"), false);
    let all: Vec<_> = (0..2_000).map(to).collect();
    for minute in 0..10 {
        let now = start + minute * MINUTE;
        let mut reached: HashSet<_> = race(&senders, &all, now).into_iter().collect();
        assert!(reached.iter().all(|sender| ask(&senders, sender, now).is_ok()));
        // Whoever was refused while a place was about to be given back.
        reached.extend(all.iter().filter(|sender| ask(&senders, sender, now).is_ok()));
        assert_eq!(reached.len(), 1000);
    }
}

// LIM-02: all memory is released.
#[test]
fn what_is_quiet_is_forgotten() {
    let start = Instant::now();
    let most = 2 * TABLES * usize::try_from(SWEEP).unwrap();
    let senders = senders(60_000, 1000, 1000, start);
    for n in 0..10_000_u32 {
        let sender = from(&format!("a@d{n}.example"), "j@hall.example", true);
        assert_eq!(ask(&senders, &sender, start + Duration::from_secs(n.into())), Ok(()));
    }
    assert!(counted(&senders) <= most);
    for n in 10_000..20_000_u32 {
        let sender = from(&format!("a{n}@friend.example"), &format!("j{n}@hall.example"), true);
        assert_eq!(ask(&senders, &sender, start + Duration::from_secs(n.into())), Ok(()));
    }
    assert!(counted(&senders) <= most);
}

// LIM-02: nobody gets a new bucket by making the table full.
#[test]
fn what_still_counts_is_not_forgotten() {
    let start = Instant::now();
    let senders = senders(1, 1, 1, start);
    let first = from("a@friend.example", "j@hall.example", true);
    assert_eq!(ask(&senders, &first, start), Ok(()));
    let now = start + MINUTE - Duration::from_secs(1);
    let others: Vec<_> =
        (0..5_000).map(|n| from(&format!("a@d{n}.example"), "j@hall.example", true)).collect();
    assert_eq!(race(&senders, &others, now).len(), 5_000);
    // What the first has cost its domain counts no longer.
    assert_eq!(counted(&senders), 5 * 5_001 - 1);
    assert_eq!(ask(&senders, &first, now), Err(TooMuch::Subscriptions));
    let plain = |address, recipient| from(address, recipient, false);
    let again = plain("a@friend.example", "j@hall.example");
    assert_eq!(ask(&senders, &again, now), Ok(()), "borne");
    assert_eq!(ask(&senders, &again, now), Err(TooMuch::Stanzas));
    let further = plain("b@friend.example", "k@hall.example");
    assert_eq!(ask(&senders, &further, now), Err(TooMuch::Recipients));
}

fn among(nodes: usize, stanzas: u32, recipients: u32, now: Instant) -> Vec<Senders> {
    let params = Params {
        stanzas: NonZeroU32::new(stanzas).unwrap(),
        recipients: NonZeroU32::new(recipients).unwrap(),
        subscriptions: NonZeroU32::new(120).unwrap(),
    };
    (0..nodes).map(|_| Senders::among(params, &[7; 32], now)).collect()
}

/// Every node hears what every other has counted, so long ago.
fn exchange(nodes: &[Senders], ago: Duration, now: Instant) {
    let told: Vec<_> = nodes.iter().map(|node| node.unsent(nodes.len() as u32, now - ago)).collect();
    for (n, node) in nodes.iter().enumerate() {
        let others = told.iter().enumerate().filter(|(other, _)| *other != n);
        others.for_each(|(_, counts)| node.seen_elsewhere(counts, ago, now));
    }
}

// CLU-03: "a sender who spreads over three nodes meets the limit as a sum", within what is not told yet.
#[test]
fn who_spreads_over_three_nodes_is_one_sender() {
    let start = Instant::now();
    let nodes = among(3, 6_000, 10_000, start);
    let sender = from("a@friend.example", "j@hall.example", false);
    let second = Duration::from_secs(1);
    let passed =
        |node: &Senders, many: u32, now| (0..many).filter(|_| ask(node, &sender, now).is_ok()).count();
    // Three minutes, at each node as much as one node would bear.
    let mut all = 0;
    for at in 0..180 {
        let now = start + second * at;
        all += nodes.iter().map(|node| passed(node, 100, now)).sum::<usize>();
        exchange(&nodes, Duration::from_millis(500), now + second / 2);
    }
    let alone = 6_000 + 1_000 + 179 * 100;
    // What was on the way, and a sixteenth of a minute's worth that need not be told.
    assert!(all >= alone && all <= alone + alone / 16 + 700, "{all} where one node lets {alone} pass");
    // The others of the domain are not slower for it, and a node that hears nothing judges by itself.
    let calm = from("b@friend.example", "j@hall.example", false);
    assert!(nodes.iter().all(|node| ask(node, &calm, start + second * 180).is_ok()));
    let later = start + second * 400;
    assert_eq!(passed(&nodes[0], 10_000, later), 7_000);
}

#[test]
fn subscriptions_and_recipients_of_a_domain_are_counted_together() {
    let start = Instant::now();
    let nodes = among(3, 6_000, 96, start);
    let mut subscribed = 0;
    for n in 0..200 {
        let sender = from(&format!("a{n}@friend.example"), "j@hall.example", true);
        subscribed += u32::from(ask(&nodes[n % 3], &sender, start).is_ok());
        exchange(&nodes, Duration::ZERO, start);
    }
    assert!(subscribed.abs_diff(120) <= 12, "{subscribed}");
    // The same recipient counts once, whichever node it was reached by.
    let reaches = |node: &Senders, n: u32| {
        ask(node, &from("a@cousin.example", &format!("j{n}@hall.example"), false), start).is_ok()
    };
    for n in 0..90 {
        assert!(nodes.iter().all(|node| reaches(node, n)));
        exchange(&nodes, Duration::ZERO, start);
    }
    let more = (90..200).filter(|n| {
        exchange(&nodes, Duration::ZERO, start);
        reaches(&nodes[*n as usize % 3], *n)
    });
    let more = more.count();
    assert!((6..=18).contains(&more), "{more}");
}

// CLU-04: whatever a store holds, in a while it is over; what is old changes nothing.
#[test]
fn what_others_say_is_bounded_and_over_in_a_while() {
    let start = Instant::now();
    let nodes = among(2, 60, 100, start);
    let now = start + Duration::from_secs(300);
    let sender = from("a@friend.example", "j@hall.example", false);
    (0..60).for_each(|_| ask(&nodes[0], &sender, now).unwrap());
    let told = nodes[0].unsent(2, now);
    assert!(!told.taken.is_empty());
    nodes[1].seen_elsewhere(&told, Duration::from_secs(90), now);
    assert_eq!((0..90).filter(|_| ask(&nodes[1], &sender, now).is_ok()).count(), 70);
    let lies = Counts { taken: told.taken.iter().map(|(digest, _)| (*digest, u64::MAX)).collect(), ..told };
    let later = now + Duration::from_secs(300);
    nodes[1].seen_elsewhere(&lies, Duration::ZERO, later);
    assert_eq!(ask(&nodes[1], &sender, later), Err(TooMuch::Stanzas));
    assert_eq!(ask(&nodes[1], &sender, later + Duration::from_secs(131)), Ok(()));
    // Nobody shares: nothing is noted, and nothing is believed.
    let alone = senders(60, 100, 100, start);
    alone.seen_elsewhere(&lies, Duration::ZERO, later);
    assert_eq!(ask(&alone, &sender, later), Ok(()));
    assert!(alone.unsent(3, later).is_empty());
}
