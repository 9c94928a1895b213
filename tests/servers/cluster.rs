//! Several gateways for one domain, with real servers on both sides: what each node vouches for that another has made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::gateway::SECRETS;
use crate::support::nodes::{Cast, NODE, Node, Nodes};
use crate::support::scene::Peer;
use crate::support::server::{Legacy, Proof, Remote};
use crate::support::wait_for;
use rustix::process::Signal;

/// Three nodes: the world is told of the first two, the server behind is led to the third. So the world asks one of the two about
/// keys that the third has made, and the server asks the third about keys that one of the two has made.
fn cast<'a>(nodes: &'a [Node<'a>], remotes: &'a [Peer], legacy: Legacy) -> Cast<'a> {
    let caller = nodes.len() - 1;
    let (called, callers) = (&[0, 1][..caller], &[[1], [2]][caller - 1]);
    Cast { nodes, remotes, legacy, policy: POLICY, called, callers, store: false }
}

macro_rules! matrix {
    ($($name:ident: $legacy:ident, $dialback:ident and $other:ident, $certificate:ident and $fourth:ident;)*) => {$(
        #[test]
        fn $name() {
            let by = |program, proof, domain| Peer { program, proof, domain };
            crosswise(Legacy::$legacy, &[
                by(Remote::$dialback, Proof::Dialback, "friend.example"),
                by(Remote::$other, Proof::Dialback, "cousin.example"),
                by(Remote::$certificate, Proof::External, "guild.example"),
                by(Remote::$fourth, Proof::External, "abbey.example"),
            ]);
        }
    )*};
}

// CLU-01, CLU-02: each question about a key comes to another node than the one that made it, on both sides: with each server
// behind, and before it both remote servers of both releases, each by dialback and by certificate.
matrix! {
    ejabberd_23_behind_three_nodes: Ejabberd, Prosody and Ejabberd, Prosody13 and Ejabberd24;
    ejabberd_24_behind_three_nodes: Ejabberd24, Prosody13 and Ejabberd24, Prosody and Ejabberd;
    jabberd2_of_12_behind_three_nodes: Jabberd2, Prosody13 and Ejabberd24, Prosody and Ejabberd;
    jabberd2_of_13_behind_three_nodes: Jabberd2Of13, Prosody and Ejabberd, Prosody13 and Ejabberd24;
    prosody_0_12_behind_three_nodes: Prosody, Prosody and Ejabberd, Prosody13 and Ejabberd24;
    prosody_13_behind_three_nodes: Prosody13, Prosody13 and Ejabberd24, Prosody and Ejabberd;
    ejabberd_23_behind_three_nodes_by_the_other_proofs: Ejabberd, Prosody13 and Ejabberd24, Prosody and Ejabberd;
    ejabberd_24_behind_three_nodes_by_the_other_proofs: Ejabberd24, Prosody and Ejabberd, Prosody13 and Ejabberd24;
    jabberd2_of_12_behind_three_nodes_by_the_other_proofs: Jabberd2, Prosody and Ejabberd, Prosody13 and Ejabberd24;
    jabberd2_of_13_behind_three_nodes_by_the_other_proofs: Jabberd2Of13, Prosody13 and Ejabberd24, Prosody and Ejabberd;
    prosody_0_12_behind_three_nodes_by_the_other_proofs: Prosody, Prosody13 and Ejabberd24, Prosody and Ejabberd;
    prosody_13_behind_three_nodes_by_the_other_proofs: Prosody13, Prosody and Ejabberd, Prosody13 and Ejabberd24;
}

fn crosswise(legacy: Legacy, remotes: &[Peer]) {
    let scene = Nodes::start(&cast(&[NODE; 3], remotes, legacy));
    let mut inside = scene.legacy.login();
    for remote in &scene.remotes {
        let mut outside = remote.login();
        talk(&mut outside, &mut inside);
    }
    let dialback = remotes.iter().filter(|peer| peer.proof == Proof::Dialback).count() as f64;
    let all = remotes.len() as f64;
    let vouched = |node, facing| scene.count(node, OTHERS, &[("facing", facing)]);
    let (first, second, third) = (0, 1, 2);
    let public = vouched(first, "public") + vouched(second, "public");
    assert!(public >= dialback, "{public} of {dialback}");
    assert!(vouched(third, "backend") >= all, "{}", scene.nodes[third].family(OTHERS));
    assert_eq!(vouched(first, "backend") + vouched(second, "backend") + vouched(third, "public"), 0.0);
    let mut inward = 0.0;
    for node in 0..scene.nodes.len() {
        let no = [("role", "authoritative"), ("outcome", "invalid")];
        assert_eq!(scene.count(node, "gatehouse_dialback_total", &no), 0.0, "node {node}");
        let stanzas = |flow| scene.count(node, "gatehouse_stanzas_total", &[("flow", flow)]);
        assert!(if node == third { stanzas("s2s-in") } else { stanzas("s2s-out") } == 0.0, "node {node}");
        inward += stanzas("s2s-in");
    }
    assert!(inward > 0.0 && scene.count(third, "gatehouse_stanzas_total", &[("flow", "s2s-out")]) > 0.0);
}

// CLU-02: a skew of ten seconds, and a rotation of the secrets that is half done: one node makes keys by the new secret, the
// other by the old one.
#[test]
fn nodes_ten_seconds_apart_rotate_their_secrets() {
    let [world, inside] = SECRETS;
    let [new_world, new_inside] =
        ["00112233445566778899aabbccddeeff".repeat(2), "ffeeddccbbaa99887766554433221100".repeat(2)];
    let before = [format!("{world}\n{new_world}\n"), format!("{inside}\n{new_inside}\n")];
    let after = [format!("{new_world}\n{world}\n"), format!("{new_inside}\n{inside}\n")];
    let before = Node { secrets: [&before[0], &before[1]], ..NODE };
    let after = Node { secrets: [&after[0], &after[1]], clock: Some("-10s"), ..NODE };
    let scene = Nodes::start(&cast(&[before, after], &[FRIEND], Legacy::Prosody));
    talk(&mut scene.remotes[0].login(), &mut scene.legacy.login());
    assert!(scene.count(CALLED, OTHERS, &[("facing", "public")]) >= 1.0);
    assert!(scene.count(CALLER, OTHERS, &[("facing", "backend")]) >= 1.0);
}

// CLU-02: "A node outside the window says `invalid` and counts it, and a node whose clock is off notices by itself".
#[test]
fn a_node_whose_clock_is_an_hour_off_notices() {
    let late = Node { clock: Some("+3600s"), ..NODE };
    // Prosody asks on the stream on which it wants to be believed itself, and so nobody once that is refused.
    let friend = Peer { program: Remote::Ejabberd24, ..FRIEND };
    let scene = Nodes::start(&cast(&[NODE, late], &[friend], Legacy::Prosody));
    let (mut outside, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    // Outwards the world asks the node whose clock is right about a key of an hour from now; inwards the server asks the one
    // that is off about a key of an hour ago.
    let id = inside.message(outside.jid(), "from the future");
    inside.refusal(&id);
    outside.message(inside.jid(), "from the past");
    for (node, way) in [(CALLED, "3600 s after ours"), (CALLER, "3600 s before ours")] {
        wait_for("both nodes to notice", Duration::from_secs(60), || {
            let log = scene.nodes[node].log();
            match scene.count(node, "gatehouse_dialback_keys_astray_total", &[]) {
                count if count >= 1.0 && log.contains(way) && log.contains("one of the clocks is wrong") => {
                    Ok(())
                }
                count => Err(format!("node {node}: {count} astray")),
            }
        });
        let invalid = [("role", "authoritative"), ("outcome", "invalid")];
        assert!(scene.count(node, "gatehouse_dialback_total", &invalid) >= 1.0);
        assert_eq!(scene.count(node, OTHERS, &[]), 0.0);
    }
}

// CLU-06: "A node that dies loses ... at most what stood in its queues (L-queue a pair)", and the next one takes over by itself.
#[test]
fn a_node_that_is_killed_under_traffic_costs_at_most_what_stood_in_its_queues() {
    let mut scene = Nodes::start(&cast(&[NODE; 3], &[FRIEND], Legacy::Prosody));
    let (mut outside, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    talk(&mut outside, &mut inside);
    let passed = |scene: &Nodes, node| scene.count(node, "gatehouse_stanzas_total", &[("flow", "s2s-in")]);
    let serving = (0..2).find(|node| passed(&scene, *node) > 0.0).expect("a node that serves");
    let mut sent: Vec<String> =
        (0..100).map(|n| outside.message(inside.jid(), &format!("before {n}"))).collect();
    inside.arrived(outside.jid(), &sent[49]);
    // Dropped, it is ended by SIGKILL; the other of the two that the world is told of comes first in the list now.
    drop(scene.nodes.remove(serving));
    let (killed, before) = (Instant::now(), passed(&scene, 0));
    while passed(&scene, 0) == before {
        assert!(killed.elapsed() < Duration::from_secs(60), "the other node is not found");
        sent.push(outside.message(inside.jid(), "after"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let recovered = killed.elapsed();
    let last = outside.message(inside.jid(), "the last of them");
    inside.arrived(outside.jid(), &last);
    // The other way was never touched.
    let fin = inside.message(outside.jid(), "that is all");
    outside.arrived(inside.jid(), &fin);
    let arrived = sent.iter().filter(|id| **id == sent[49] || inside.kept(id).is_some()).count();
    let returned = sent.iter().filter(|id| outside.kept(id).is_some()).count();
    let lost = sent.len() - arrived - returned;
    eprintln!(
        "{} sent, {arrived} arrived, {returned} came back, {lost} lost; the next node after {recovered:?}",
        sent.len()
    );
    assert!(lost <= 100, "{} sent, {arrived} arrived, {returned} came back", sent.len());
}

// CLU-02, CLU-06: "recovery takes under 5 s": a node that dies with a question about a key that another has made holds up no pair. Prosody
// says nothing to a claim whose question is lost, so it is made once more, and the next node vouches for it.
#[test]
fn a_question_that_dies_with_its_node_is_asked_again() {
    let cast = Cast { called: &[0], callers: &[2, 1], ..cast(&[NODE; 3], &[FRIEND], Legacy::Prosody) };
    let mut scene = Nodes::start(&cast);
    let (mut outside, mut inside) = (scene.remotes[0].login(), scene.legacy.login());
    talk(&mut outside, &mut inside);
    // The server behind asks one node over the stream that it has there, and hears nothing; then that node is no more. Which one it
    // has chosen is its resolver's own affair.
    let asked = |node: &usize| scene.nodes[*node].command("streams", &["streams"]).1.contains(FRIEND.domain);
    let third = cast.callers.iter().copied().find(asked).unwrap();
    scene.nodes[third].signal(Signal::STOP);
    for node in (0..3).filter(|node| *node != third) {
        // That one of them carries nothing is no matter.
        let _said = scene.nodes[node].command("close", &["close", FRIEND.domain]);
    }
    let id = outside.message(inside.jid(), "with the next node");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!inside.so_far().iter().any(|heard| heard.has("id", &id)), "the question was answered");
    let killed = Instant::now();
    scene.nodes[third].kill();
    inside.arrived(outside.jid(), &id);
    let after = killed.elapsed();
    eprintln!("the pair stands {after:?} after the kill");
    assert!(after < Duration::from_secs(5), "{after:?}");
}

/// A few words each way.
fn talk(one: &mut Client, other: &mut Client) {
    for _ in 0..2 {
        let id = one.message(other.jid(), "so far so good");
        other.expect_message(one.jid(), &id);
        let id = one.request("get", Some(other.jid()), "<ping xmlns='urn:xmpp:ping'/>");
        other.answer(one.jid(), "urn:xmpp:ping", "");
        one.result(&id, "<ping xmlns='urn:xmpp:ping'/>");
        std::mem::swap(one, other);
    }
}

const FRIEND: Peer = Peer { program: Remote::Prosody, proof: Proof::Dialback, domain: "friend.example" };

/// Of two nodes, the one that the world is told of.
const CALLED: usize = 0;

/// Of two nodes, the one that the server behind is led to.
const CALLER: usize = 1;

const OTHERS: &str = "gatehouse_dialback_vouched_for_others_total";

const POLICY: &str = r#"version: v1
defaults: { identity: [certificate, dialback], tls: "1.2" }
rules:
  - { name: family, domains: [friend.example, cousin.example, guild.example, abbey.example], verdict: allow }
"#;
