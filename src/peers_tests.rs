use super::*;
use crate::policy::{Authority, Drift, Face, Identity};
use crate::reason::Direction;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(super) fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

pub(super) fn look(method: Identity, key: u8) -> Look {
    let face = Face {
        method,
        issuer: Some("O=An authority".into()),
        root: None,
        key: Some(KeyDigest::new([key; 32])),
    };
    Look { face, tls: "1.3".to_owned(), network: Some("192.0.2.0".to_owned()) }
}

fn sight(from: &str, look: Look) -> Sight {
    Sight {
        pair: Pair { sender: domain(from), target: domain("hall.example") },
        direction: Direction::Inbound,
        look,
        rule: "partners".to_owned(),
        hold: false,
        outcome: Outcome::Allow,
    }
}

pub(super) fn holding(look: Look, outcome: Outcome) -> Sight {
    Sight { hold: true, outcome, ..sight("partner.example", look) }
}

/// What a store holds once this node has spoken with it.
pub(super) fn meet(peers: &mut Peers, store: &mut BTreeMap<String, String>) {
    assert_eq!(peers.hear(store), 0);
    let said = peers.unsent(true, 100);
    store.extend(said.clone());
    peers.told(&said);
}

/// The same with the row of what no rule holds.
fn meet_in(row: &mut Vec<String>, peers: &mut Peers) {
    assert_eq!(peers.hear_noted(row.iter().map(String::as_str)), 0);
    let said = peers.unsent(false, 100);
    row.extend(said.iter().map(|(_, text)| text.clone()));
    peers.told(&said);
}

pub(super) fn faces(peers: &Peers) -> usize {
    peers.known().faces(&domain("hall.example"), &domain("partner.example"), Direction::Inbound).len()
}

// LOG-06: a change is told once, with before and after; two servers of one domain that take turns are no change each time.
#[test]
fn a_change_is_told_once() {
    let mut peers = Peers::default();
    let (one, other) = (look(Identity::Certificate, 1), look(Identity::Certificate, 2));
    assert_eq!(peers.saw(&sight("partner.example", one.clone()), at(0)), None, "the first is no change");
    let change = peers.saw(&sight("partner.example", other.clone()), at(1)).unwrap();
    assert_eq!((change.what, change.fate), (vec![Drift::Key], ChangeFate::Noted));
    assert_eq!((change.before, change.after), (one.clone(), other.clone()));
    for n in 2..10 {
        let shown = if n % 2 == 0 { &one } else { &other };
        assert_eq!(peers.saw(&sight("partner.example", shown.clone()), at(n)), None);
    }
    let moved = Look { tls: "1.2".to_owned(), network: Some("198.51.100.0".to_owned()), ..one.clone() };
    let change = peers.saw(&sight("partner.example", moved), at(20)).unwrap();
    assert_eq!(change.what, [Drift::Network, Drift::Tls]);
    let (listed, more) = peers.list(None, 10);
    let [peer] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((peer.first, peer.last, peer.faces.len(), more), (at(0), at(20), 2, 0));
}

#[test]
fn who_comes_from_everywhere_fills_no_log() {
    let mut peers = Peers::default();
    let told = (0..1000u32)
        .filter(|n| {
            let network = Some(std::net::Ipv4Addr::from(n << 8).to_string());
            let shown = Look { network, ..look(Identity::Certificate, 1) };
            peers.saw(&sight("partner.example", shown), at(0)).is_some()
        })
        .count();
    assert_eq!(told, 15);
}

// DNS-18: what is proven better does not slide back; what an operator has approved beside it stays.
#[test]
fn a_stronger_proof_takes_the_place_of_weaker_ones() {
    let mut peers = Peers::default();
    peers.saw(&holding(look(Identity::Dialback, 1), Outcome::Allow), at(0));
    peers.saw(&holding(look(Identity::Certificate, 2), Outcome::Allow), at(1));
    assert_eq!(faces(&peers), 1);
    peers.saw(&holding(look(Identity::Dialback, 1), Outcome::Deny), at(2)).unwrap();
    assert_eq!(peers.approve(&domain("partner.example"), None, at(3)).unwrap().len(), 1);
    assert_eq!(faces(&peers), 2);
    assert_eq!(peers.saw(&holding(look(Identity::Certificate, 2), Outcome::Allow), at(4)), None);
    assert_eq!(faces(&peers), 2);
}

#[test]
fn what_is_held_waits_until_an_operator_says_what_it_is() {
    let (mut peers, partner) = (Peers::default(), domain("partner.example"));
    let key = |n| KeyDigest::new([n; 32]).to_string();
    peers.saw(&holding(look(Identity::Dialback, 1), Outcome::Allow), at(0));
    let change = peers.saw(&holding(look(Identity::Dialback, 2), Outcome::Deny), at(1)).unwrap();
    assert_eq!((change.fate, &change.what[..]), (ChangeFate::Held, &[Drift::Key][..]));
    assert_eq!(peers.saw(&holding(look(Identity::Dialback, 2), Outcome::Deny), at(2)), None, "told once");
    assert_eq!((peers.waiting().0, peers.list(None, 9).0[0].waiting[0].times), (1, 2));
    assert!(peers.approve(&domain("other.example"), None, at(3)).is_err());
    assert!(peers.approve(&partner, Some(&key(9)), at(3)).is_err());
    // A second face: which of the two is the partner's, only the partner knows.
    peers.saw(&holding(look(Identity::Dialback, 3), Outcome::Deny), at(4)).unwrap();
    let no = peers.approve(&partner, None, at(5)).unwrap_err();
    assert!(no.contains(&key(2)) && no.contains(&key(3)) && no.contains("--key"), "{no}");
    peers.approve(&partner, Some(&key(3)), at(6)).unwrap();
    assert_eq!((faces(&peers), peers.waiting().0), (2, 1));
    peers.dismiss(&partner, None, at(7)).unwrap();
    assert_eq!((faces(&peers), peers.waiting().0), (2, 0));
    assert!(peers.saw(&holding(look(Identity::Dialback, 2), Outcome::Deny), at(8)).is_some(), "told anew");
    // It was approved while the refusal was on its way.
    assert_eq!(peers.saw(&holding(look(Identity::Dialback, 3), Outcome::Deny), at(9)), None);
    assert_eq!(peers.list(None, 9).0[0].waiting.len(), 1);
}

#[test]
fn faces_that_wait_have_a_bound() {
    let mut peers = Peers::default();
    peers.saw(&holding(look(Identity::Dialback, 0), Outcome::Allow), at(0));
    for n in 1..=200u8 {
        peers.saw(&holding(look(Identity::Dialback, n), Outcome::Deny), at(i64::from(n)));
    }
    let peer = &peers.list(None, 9).0[0];
    assert_eq!((peer.waiting.len(), peer.faces.len()), (16, 1));
    assert_eq!(
        peer.waiting[0].look.key(),
        look(Identity::Dialback, 1).key(),
        "who came first is not pushed out"
    );
    assert_eq!(peer.unheard, 184, "and that there were more is told");
    assert!(peer.changes.len() <= 8);
    assert!(peer.pair().is_some(), "what it writes it reads");
    peers.dismiss(&domain("partner.example"), None, at(300)).unwrap();
    assert_eq!(peers.list(None, 9).0[0].unheard, 0);
}

// What an operator has forgotten waits, whatever the table says of it, while anything else is known; and until another word of his.
#[test]
fn what_is_forgotten_waits_until_it_is_approved_again() {
    let (mut peers, partner) = (Peers::default(), domain("partner.example"));
    let (kept, stolen) = (look(Identity::Certificate, 1), look(Identity::Certificate, 2));
    let keeps_out = |peers: &Peers, look: &Look| {
        peers.known().keep_out(&domain("hall.example"), &partner, Direction::Inbound, &look.face)
    };
    peers.saw(&holding(kept.clone(), Outcome::Allow), at(0));
    peers.saw(&holding(stolen.clone(), Outcome::Allow), at(1));
    let no = peers.forget(&partner, Some(&look(Identity::Certificate, 9).key()), at(2)).unwrap_err();
    assert!(no.contains("is known") && no.contains("behind `proven by`"), "{no}");
    let said = peers.forget(&partner, Some(&stolen.key()), at(2)).unwrap();
    assert_eq!((said.len(), &said[0].faces), (1, &vec![stolen.clone()]));
    assert_eq!(said[0].peer.changes.last().unwrap().fate, ChangeFate::Forgotten);
    assert!(keeps_out(&peers, &stolen) && !keeps_out(&peers, &kept), "a renewal by the table");
    assert_eq!(peers.saw(&holding(stolen.clone(), Outcome::Deny), at(3)).unwrap().fate, ChangeFate::Held);
    peers.dismiss(&partner, None, at(4)).unwrap();
    assert!(keeps_out(&peers, &stolen), "what was said of it before still holds");
    peers.saw(&holding(stolen.clone(), Outcome::Deny), at(5)).unwrap();
    peers.approve(&partner, None, at(6)).unwrap();
    assert!(!keeps_out(&peers, &stolen));
    // All of it: who comes first is believed, as at the beginning.
    assert_eq!(peers.forget(&partner, None, at(7)).unwrap()[0].faces.len(), 2);
    assert!(!keeps_out(&peers, &stolen) && faces(&peers) == 0);
    assert!(peers.forget(&partner, None, at(8)).is_err());
    let kept_on_disk = peers.to_keep().unwrap();
    assert_eq!(Peers::default().recall(kept_on_disk), 0);
    peers.saw(&holding(kept.clone(), Outcome::Allow), at(9));
    assert!(keeps_out(&peers, &stolen) && !keeps_out(&peers, &kept));
    // A node that was away and has seen it before does not bring it back.
    let (mut away, mut store) = (Peers::default(), BTreeMap::new());
    away.saw(&holding(stolen.clone(), Outcome::Allow), at(1));
    meet(&mut peers, &mut store);
    meet(&mut away, &mut store);
    assert!(keeps_out(&away, &stolen) && !keeps_out(&away, &kept));
}

// An issuer is what the peer says of itself: it cannot write the partner's key where the key stands.
#[test]
fn an_issuer_cannot_be_read_as_a_key() {
    let plain = look(Identity::Dialback, 1);
    let issuer = "CN=x\", key sha256:00, TLS 1.3";
    let forged = Look { face: Face { issuer: Some(issuer.into()), ..plain.face.clone() }, ..plain.clone() };
    let end = "TLS 1.3, network 192.0.2.0, issuer \"CN=x\\\", key sha256:00, TLS 1.3\"";
    assert_eq!(forged.to_string(), format!("dialback, key {}, {end}", plain.key()));
}

// A full store: who is held stays; those whom no rule holds make room for each other.
#[test]
fn whom_no_rule_holds_cannot_have_a_partner_forgotten() {
    let mut peers = Peers::default();
    peers.saw(&holding(look(Identity::Certificate, 1), Outcome::Allow), at(0));
    for n in 0..MOST + MOST / 2 {
        let name = format!("s{n}.example");
        peers.saw(&sight(&name, look(Identity::Certificate, 2)), at(1 + i64::try_from(n).unwrap()));
    }
    assert!(peers.list(None, usize::MAX).0.len() <= MOST);
    assert_eq!((faces(&peers), peers.waiting()), (1, (0, 0)));
    let mut all_held = Peers::default();
    for n in 0..=MOST {
        let name = format!("s{n}.example");
        let held = Sight { hold: true, ..sight(&name, look(Identity::Certificate, 2)) };
        all_held.saw(&held, at(0));
    }
    assert_eq!(all_held.waiting(), (0, 1), "the one that found no room is told");
}

#[test]
fn what_is_written_is_read_and_what_is_no_record_is_left_aside() {
    let mut peers = Peers::default();
    peers.saw(&holding(look(Identity::Certificate, 1), Outcome::Allow), at(0));
    peers.saw(&holding(look(Identity::Dialback, 2), Outcome::Deny), at(1));
    let kept = peers.to_keep().unwrap();
    assert_eq!(peers.to_keep(), None, "nothing new");
    peers.not_kept();
    assert!(peers.to_keep().is_some());
    let text = serde_json::to_string(&kept).unwrap();
    let mut read: Vec<Peer> = serde_json::from_str(&text).unwrap();
    assert_eq!(read, kept);
    let mut broken = kept[0].clone();
    "no domain".clone_into(&mut broken.from);
    read.push(broken.clone());
    let faceless = Peer { faces: Vec::new(), ..kept[0].clone() };
    let endless = Peer { faces: vec![kept[0].faces[0].clone(); 10_000], ..kept[0].clone() };
    read.extend([faceless, endless]);
    let mut again = Peers::default();
    assert_eq!(again.recall(read), 3);
    assert_eq!((again.list(None, 9).0, faces(&again)), (kept, 1));
}

// CLU-03: nodes of two versions, a way back to an earlier version: what a later one says beside is passed over at each place, and what an earlier
// one did not write yet is not missed.
#[test]
fn a_record_of_another_version_is_read() {
    let mut peers = Peers::default();
    let root = Authority { name: "O=A root".into(), key: KeyDigest::new([4; 32]) };
    let mut under = look(Identity::Certificate, 1);
    under.face.root = Some(root);
    peers.saw(&holding(under, Outcome::Allow), at(0));
    peers.saw(&holding(look(Identity::Dialback, 2), Outcome::Deny), at(1));
    peers.dismiss(&domain("partner.example"), None, at(2)).unwrap();
    peers.saw(&holding(look(Identity::Dialback, 3), Outcome::Deny), at(3));
    let known = peers.to_keep().unwrap().remove(0);
    assert!(!known.waiting.is_empty() && !known.gone.is_empty() && !known.changes.is_empty());
    let text = serde_json::to_string(&known).unwrap();
    let later = text.replace('{', "{\"more\":{\"of\":[1]},");
    assert!(later.matches("more").count() > 10, "{later}");
    assert_eq!(serde_json::from_str::<Peer>(&later).unwrap(), known);
    let mut heard = Peers::default();
    assert_eq!(heard.hear(&[("partner.example>hall.example".to_owned(), later)].into()), 0);
    assert_eq!(heard.list(None, 9).0, std::slice::from_ref(&known));
    // As the first versions wrote it.
    let mut earlier: serde_json::Value = serde_json::from_str(&text).unwrap();
    for field in ["unheard", "gone"] {
        earlier.as_object_mut().unwrap().remove(field).unwrap();
    }
    earlier["faces"][0]["look"]["face"].as_object_mut().unwrap().remove("root").unwrap();
    let earlier: Peer = serde_json::from_value(earlier).unwrap();
    assert_eq!((earlier.gone.len(), &earlier.faces[0].look.face.root), (0, &None));
    let mut again = Peers::default();
    assert_eq!(again.recall(vec![earlier]), 0);
    // What comes as before has its root from then on.
    again.saw(&holding(known.faces[0].look.clone(), Outcome::Allow), at(9));
    assert_eq!(again.list(None, 9).0[0].faces[0].look, known.faces[0].look);
}

// CLU-03: what two nodes learn comes to the same, in whatever order they speak; what an operator says on one holds on both.
#[test]
fn nodes_come_to_know_the_same() {
    for order in [[0, 1, 0, 1], [1, 0, 1, 0]] {
        let (mut nodes, mut store) = ([Peers::default(), Peers::default()], BTreeMap::new());
        nodes[0].saw(&holding(look(Identity::Certificate, 1), Outcome::Allow), at(0));
        nodes[1].saw(&holding(look(Identity::Certificate, 2), Outcome::Allow), at(1));
        order.iter().for_each(|n| meet(&mut nodes[*n], &mut store));
        assert_eq!((faces(&nodes[0]), faces(&nodes[1])), (2, 2), "{order:?}");
        nodes[0].saw(&holding(look(Identity::Dialback, 3), Outcome::Deny), at(2)).unwrap();
        order.iter().for_each(|n| meet(&mut nodes[*n], &mut store));
        assert_eq!(nodes[1].waiting().0, 1);
        nodes[1].approve(&domain("partner.example"), None, at(3)).unwrap();
        order.iter().for_each(|n| meet(&mut nodes[*n], &mut store));
        assert_eq!((faces(&nodes[0]), nodes[0].waiting().0, nodes[1].waiting().0), (3, 0, 0), "{order:?}");
        // Nothing more is to be said, and a node that comes anew knows all of it.
        assert!(nodes.iter().all(|node| node.unsent(true, 9).is_empty()));
        let mut fresh = Peers::default();
        meet(&mut fresh, &mut store);
        assert_eq!(faces(&fresh), 3);
        // A node that was away brings nothing back that was settled meanwhile.
        let mut stale = Peers::default();
        stale.saw(&holding(look(Identity::Certificate, 1), Outcome::Allow), at(0));
        stale.saw(&holding(look(Identity::Dialback, 3), Outcome::Deny), at(2));
        meet(&mut stale, &mut store);
        assert_eq!((faces(&stale), stale.waiting().0), (3, 0));
        meet(&mut nodes[0], &mut store);
        assert_eq!(nodes[0].waiting().0, 0);
    }
}

// CLU-03: what no rule holds is known to all nodes, too, and a change that one has told is no change for the next; but it takes
// nobody's place in the store, and does not wake the policy.
#[test]
fn nodes_come_to_know_the_same_of_what_no_rule_holds() {
    let (mut one, mut two, mut row) = (Peers::default(), Peers::default(), Vec::new());
    let seen = |key, network: &str| {
        let look = Look { network: Some(network.to_owned()), ..look(Identity::Certificate, key) };
        sight("partner.example", look)
    };
    one.saw(&seen(1, "192.0.2.0"), at(0));
    meet_in(&mut row, &mut one);
    meet_in(&mut row, &mut two);
    assert_eq!(two.saw(&seen(1, "192.0.2.0"), at(1)), None);
    let change = two.saw(&seen(2, "192.0.2.0"), at(2)).expect("another key than at the other node");
    assert_eq!(change.what, [Drift::Key]);
    // A network alone is told once, too.
    assert!(two.saw(&seen(2, "198.51.100.0"), at(3)).is_some());
    meet_in(&mut row, &mut two);
    meet_in(&mut row, &mut one);
    assert_eq!(one.saw(&seen(2, "198.51.100.0"), at(4)), None, "it was told at the other node");
    assert_eq!(one.list(None, 9).0[0].changes, two.list(None, 9).0[0].changes);
    for node in [&mut one, &mut two] {
        meet_in(&mut row, node);
        assert!(node.unsent(true, 9).is_empty() && node.unsent(false, 9).is_empty() && !node.take_news());
    }
    // The store has lost it, and a node comes that knows nothing.
    let mut anew = Vec::new();
    one.share_anew();
    meet_in(&mut anew, &mut one);
    let mut three = Peers::default();
    meet_in(&mut anew, &mut three);
    assert_eq!((faces(&three), three.unsent(false, 9).len()), (2, 0));
    // A rule that begins to hold: it is said where such pairs are.
    three.saw(&Sight { hold: true, ..seen(2, "192.0.2.0") }, at(5));
    assert_eq!(three.hear(&BTreeMap::new()), 0);
    assert_eq!((three.unsent(true, 9).len(), three.unsent(false, 9).len()), (1, 0));
    assert_eq!(one.hear_noted(["no record", "{}"]), 2);
}

// Two nodes that know of more networks than there is room for do not go on telling each other for ever.
#[test]
fn what_finds_no_room_is_not_told_again_and_again() {
    let (mut one, mut two, mut row) = (Peers::default(), Peers::default(), Vec::new());
    for n in 0..40 {
        for (node, net) in [(&mut one, "192.0"), (&mut two, "198.51")] {
            let look = Look { network: Some(format!("{net}.{n}.0")), ..look(Identity::Certificate, n) };
            node.saw(&sight("partner.example", look), at(i64::from(n)));
        }
    }
    for _ in 0..4 {
        meet_in(&mut row, &mut one);
        meet_in(&mut row, &mut two);
    }
    assert!(one.unsent(false, 9).is_empty() && two.unsent(false, 9).is_empty());
    assert!(row.len() <= 6 && row.iter().all(|text| text.len() < 8192), "{}", row.len());
}

// Pairs that no rule holds and that make room for each other leave nothing behind that is still to be said.
#[test]
fn what_is_forgotten_is_not_to_be_told() {
    let mut peers = Peers::default();
    for n in 0..=MOST {
        peers.saw(
            &sight(&format!("s{n}.example"), look(Identity::Certificate, 2)),
            at(i64::try_from(n).unwrap()),
        );
    }
    let there = peers.list(None, usize::MAX).0.len();
    assert_eq!(peers.unsent.len(), there);
    assert_eq!(peers.unsent(false, usize::MAX).len(), there);
}

// What a store holds that is no record is passed over.
#[test]
fn a_store_holds_what_is_held_and_anything_else_is_passed_over() {
    let (mut peers, mut store) = (Peers::default(), BTreeMap::new());
    peers.saw(&sight("partner.example", look(Identity::Certificate, 1)), at(0));
    assert!(peers.unsent(true, 9).is_empty());
    peers.saw(&Sight { hold: true, ..sight("held.example", look(Identity::Certificate, 1)) }, at(0));
    meet(&mut peers, &mut store);
    let (name, text) = store.iter().next().map(|(name, text)| (name.clone(), text.clone())).unwrap();
    assert_eq!(name, "held.example>hall.example");
    let foreign: BTreeMap<String, String> = [
        ("x".to_owned(), "no record".to_owned()),
        ("other.example>hall.example".to_owned(), text.clone()),
        (name, text.replace("inbound", "sideways")),
    ]
    .into();
    let mut other = Peers::default();
    assert_eq!((other.hear(&foreign), other.list(None, 9).0.len()), (3, 0));
    // The store has lost everything: it is told again.
    meet(&mut peers, &mut BTreeMap::new());
    assert_eq!((peers.hear(&BTreeMap::new()), peers.unsent(true, 9).len()), (0, 1));
}
