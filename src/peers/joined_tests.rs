use proptest::prelude::*;

use super::tests::{at, domain, faces, holding, look, meet};
use super::*;
use crate::policy::{Drift, Face, Identity};
use crate::reason::Direction;

/// Whether the policy would have this face of the partner wait.
fn keeps_out(peers: &Peers, shown: &Look) -> bool {
    let (hosted, remote) = (domain("hall.example"), domain("partner.example"));
    peers.known().keep_out(&hosted, &remote, Direction::Inbound, &shown.face)
}

/// The partner comes so, and is judged by what the node knows.
fn comes(peers: &mut Peers, shown: &Look, second: i64) -> Option<PeerChange> {
    let outcome = if keeps_out(peers, shown) { Outcome::Deny } else { Outcome::Allow };
    peers.saw(&holding(shown.clone(), outcome), at(second))
}

fn of(method: Identity, authority: &str, key: u8) -> Look {
    let plain = look(method, key);
    Look { face: Face { issuer: Some(format!("O={authority}").into()), ..plain.face }, ..plain }
}

fn bare() -> Look {
    let plain = look(Identity::Dialback, 0);
    Look { face: Face { issuer: None, key: None, ..plain.face }, ..plain }
}

// POL-01, CLU-03: two nodes have come to know different faces of one pair (the store was down, or both saw it within a second): the
// same table judges them where they meet, in whatever order; what waits is told once, and waits at both until an operator's word.
#[test]
fn faces_that_meet_are_judged_by_the_table() {
    use Identity::{Certificate, Dane, Dialback};
    let certified = of(Certificate, "One", 1);
    let table: &[(Look, Look, usize)] = &[
        (certified.clone(), look(Dialback, 9), 1),
        (certified.clone(), bare(), 1),
        (certified.clone(), of(Certificate, "Other", 9), 1),
        (look(Dialback, 1), look(Dialback, 9), 1),
        (look(Dialback, 1), bare(), 1),
        (of(Dane, "One", 1), certified.clone(), 1),
        (certified.clone(), of(Certificate, "One", 2), 0),
        (of(Dane, "One", 1), of(Dane, "One", 2), 0),
        (look(Dialback, 1), look(Dialback, 1), 0),
    ];
    for (partner, thief, waits) in table {
        for (order, seconds) in [([0, 1, 0, 1], [0, 5]), ([1, 0, 1, 0], [0, 5]), ([0, 1, 1, 0], [5, 5])] {
            if seconds[0] == seconds[1] && partner.face.method == thief.face.method {
                continue;
            }
            let (mut nodes, mut store) = ([Peers::default(), Peers::default()], BTreeMap::new());
            assert_eq!(comes(&mut nodes[0], partner, seconds[0]), None);
            assert_eq!(comes(&mut nodes[1], thief, seconds[1]), None);
            order.iter().for_each(|n| meet(&mut nodes[*n], &mut store));
            let told: Vec<_> = nodes.iter_mut().flat_map(Peers::take_met).collect();
            assert_eq!(told.len(), *waits, "{partner} and {thief}");
            assert!(told.iter().all(|(_, change)| change.fate == ChangeFate::Held && change.after == *thief));
            for node in &mut nodes {
                assert!(!keeps_out(node, partner), "{partner} and {thief}");
                assert_eq!((keeps_out(node, thief), node.waiting().0), (*waits == 1, *waits));
                // A stream that was let in by what was known before does not make it known again.
                node.saw(&holding(thief.clone(), Outcome::Allow), at(9));
                assert_eq!((keeps_out(node, thief), node.waiting().0), (*waits == 1, *waits));
            }
            if *waits == 1 {
                nodes[1].approve(&domain("partner.example"), None, at(10)).unwrap();
                order.iter().for_each(|n| meet(&mut nodes[*n], &mut store));
                assert!(nodes.iter().all(|node| !keeps_out(node, thief) && !keeps_out(node, partner)));
                assert!(nodes.iter().all(|node| node.waiting().0 == 0));
            }
            // Nothing more is to be said.
            assert!(nodes.iter().all(|node| node.unsent(true, 9).is_empty()));
        }
    }
}

// The thief came first at one node, and the partner was held there; the other knows the partner. That the partner waits somewhere does
// not put the thief in its place.
#[test]
fn a_partner_that_waits_at_one_node_is_known_where_they_meet() {
    let (partner, thief) = (of(Identity::Certificate, "One", 1), of(Identity::Certificate, "Other", 9));
    let (mut nodes, mut store) = ([Peers::default(), Peers::default()], BTreeMap::new());
    comes(&mut nodes[0], &partner, 0);
    comes(&mut nodes[0], &thief, 1);
    comes(&mut nodes[1], &thief, 2);
    comes(&mut nodes[1], &partner, 3);
    assert!(keeps_out(&nodes[0], &thief) && keeps_out(&nodes[1], &partner));
    [0, 1, 0, 1].iter().for_each(|n| meet(&mut nodes[*n], &mut store));
    for node in &nodes {
        assert_eq!((keeps_out(node, &partner), keeps_out(node, &thief)), (false, true));
    }
}

// DNS-18: a stronger proof that one node has seen takes the place of the weaker at all, without an alarm; and nothing but an operator's word
// has one record stand for the other: a thief with a proof that is stronger than what his node knew does not have the partner forgotten.
#[test]
fn what_was_given_up_for_a_stronger_proof_does_not_come_back() {
    let (weak, strong) = (look(Identity::Dialback, 1), of(Identity::Certificate, "One", 1));
    let (mut nodes, mut store) = ([Peers::default(), Peers::default()], BTreeMap::new());
    comes(&mut nodes[0], &weak, 0);
    [0, 1].iter().for_each(|n| meet(&mut nodes[*n], &mut store));
    assert_eq!(comes(&mut nodes[1], &strong, 5).unwrap().fate, ChangeFate::Noted);
    [0, 1, 0, 1].iter().for_each(|n| meet(&mut nodes[*n], &mut store));
    assert!(nodes.iter().all(|node| (faces(node), node.waiting().0) == (1, 0) && keeps_out(node, &weak)));
    let (mut fresh, thief) = (Peers::default(), of(Identity::Certificate, "Other", 9));
    comes(&mut fresh, &bare(), 6);
    comes(&mut fresh, &thief, 7);
    meet(&mut fresh, &mut store);
    meet(&mut nodes[0], &mut store);
    for node in [&fresh, &nodes[0]] {
        assert!(!keeps_out(node, &strong) && keeps_out(node, &thief) && keeps_out(node, &bare()));
    }
}

// Two come to one node within one moment, before the policy has heard of the first: the second is judged against it all the same.
#[test]
fn two_within_one_moment_are_judged_one_after_the_other() {
    let mut peers = Peers::default();
    peers.saw(&holding(of(Identity::Certificate, "One", 1), Outcome::Allow), at(0));
    assert!(peers.take_news());
    let change = peers.saw(&holding(bare(), Outcome::Allow), at(0)).unwrap();
    assert_eq!((change.fate, peers.waiting().0, peers.take_news()), (ChangeFate::Held, 1, true));
    assert!(change.what.contains(&Drift::Method) && keeps_out(&peers, &bare()));
}

// A face that was forgotten and comes as the first where nothing else is known is believed there; it stays so when they meet, also once an
// operator has let in another beside it.
#[test]
fn who_is_believed_as_the_first_again_stays_so() {
    let (forgotten, weaker) = (of(Identity::Dane, "One", 3), look(Identity::Dialback, 1));
    let (mut nodes, mut store) = ([Peers::default(), Peers::default()], BTreeMap::new());
    comes(&mut nodes[0], &forgotten, 0);
    nodes[0].forget(&domain("partner.example"), None, at(1)).unwrap();
    comes(&mut nodes[1], &forgotten, 2);
    comes(&mut nodes[1], &weaker, 3);
    [0, 1, 0].iter().for_each(|n| meet(&mut nodes[*n], &mut store));
    nodes[0].approve(&domain("partner.example"), None, at(4)).unwrap();
    for _ in 0..2 {
        [0, 1, 0].iter().for_each(|n| meet(&mut nodes[*n], &mut store));
        for node in &nodes {
            assert!(!keeps_out(node, &forgotten) && !keeps_out(node, &weaker));
            assert_eq!((faces(node), node.waiting().0), (2, 0));
        }
    }
}

fn looks() -> Vec<Look> {
    use Identity::{Certificate, Dane, Dialback};
    vec![
        look(Dialback, 1),
        look(Dialback, 2),
        bare(),
        of(Certificate, "One", 3),
        of(Certificate, "One", 4),
        of(Certificate, "Other", 5),
        of(Dane, "One", 3),
    ]
}

fn record(peers: &Peers) -> Option<Peer> {
    peers.all.values().next().cloned()
}

/// Three nodes to which this has happened, and their store.
fn lived(deeds: Vec<(usize, usize, bool)>) -> ([Peers; 3], BTreeMap<String, String>) {
    let mut nodes = [Peers::default(), Peers::default(), Peers::default()];
    let (mut store, partner, looks) = (BTreeMap::new(), domain("partner.example"), looks());
    for (second, (node, deed, apart)) in deeds.into_iter().enumerate() {
        let second = i64::try_from(second).unwrap();
        let (node, key) = (&mut nodes[node], looks[deed % looks.len()].key());
        match deed {
            0..7 => {
                comes(node, &looks[deed], second);
            }
            7 | 8 => drop(node.approve(&partner, apart.then_some(&key), at(second))),
            9 => drop(node.dismiss(&partner, None, at(second))),
            10 | 11 => drop(node.forget(&partner, apart.then_some(&key), at(second))),
            _ => meet(node, &mut store),
        }
    }
    (nodes, store)
}

fn deeds() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
    proptest::collection::vec((0..3usize, 0..14usize, any::<bool>()), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    // Whatever the nodes have seen and been told: joined either way it comes to the same, once or twice.
    #[test]
    fn it_does_not_matter_who_says_it_first(deeds in deeds()) {
        let (nodes, _) = lived(deeds);
        let records: Vec<Peer> = nodes.iter().filter_map(record).collect();
        for (one, other) in records.iter().flat_map(|one| records.iter().map(move |other| (one, other))) {
            let joined = one.join(other).0;
            prop_assert_eq!(&joined, &other.join(one).0);
            prop_assert_eq!(&joined, &joined.join(&joined).0);
            prop_assert!(joined.pair().is_some(), "what it writes it reads");
        }
    }

    // And nothing that was said is said anew.
    #[test]
    fn what_is_known_together_stays_so(deeds in deeds()) {
        let (nodes, _) = lived(deeds);
        let records: Vec<Peer> = nodes.iter().filter_map(record).collect();
        for (one, other) in records.iter().flat_map(|one| records.iter().map(move |other| (one, other))) {
            let joined = one.join(other).0;
            prop_assert!(!joined.join(one).0.adds_to(&joined) && !joined.join(other).0.adds_to(&joined));
            prop_assert!(!one.join(one).0.adds_to(one) && !one.adds_to(&one.join(one).0));
        }
    }

    // When all have spoken, all know the same.
    #[test]
    fn nodes_that_have_spoken_know_the_same(deeds in deeds()) {
        let (mut nodes, mut store) = lived(deeds);
        for _ in 0..4 {
            nodes.iter_mut().for_each(|node| meet(node, &mut store));
        }
        let looks = looks();
        let known = |peers: &Peers| looks.iter().map(|look| keeps_out(peers, look)).collect::<Vec<_>>();
        for node in &nodes[1..] {
            prop_assert_eq!(known(&nodes[0]), known(node));
            prop_assert_eq!(nodes[0].waiting(), node.waiting());
            prop_assert!(node.unsent(true, 9).is_empty());
        }
    }
}
