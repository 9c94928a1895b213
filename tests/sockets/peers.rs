//! The memory of peers (LOG-06, DNS-18): how each was proven is remembered, a change is told with before and after, and where a
//! rule says so it waits for an operator. Nobody who has not proven himself can make anything seem changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::redis;
use std::fs;
use std::time::Duration;

use crate::redis::{OPEN, Redis, node_of, secrets, soon};
use crate::sockets::*;
use crate::steering::*;
use gatehouse::demo::gate::Gate;
use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::pki::{Authority, Identity, Leaf};
use gatehouse::demo::session::{Login, Session, Word};
use gatehouse::demo::world::{Plan, World};
use serde_json::Value;
use tempfile::TempDir;

const PARTNER: &str = "partner.example";

/// One rule for the partner, who may come by any of these proofs.
fn rule(identity: &str, on_change: &str) -> String {
    format!(
        "version: v1\nrules:\n  - {{ name: partners, domains: [{PARTNER}], identity: [{identity}], on-change: {on_change} }}\n"
    )
}

fn planned(identity: &str, on_change: &str) -> Plan {
    Plan::listed(HALL, &rule(identity, on_change)).limit("rate", "6000/min")
}

/// A border with that rule, which keeps what it knows; and a second authority that it trusts.
async fn remembering(identity: &str, on_change: &str) -> (World, Authority, TempDir) {
    let state = tempfile::tempdir().unwrap();
    let lines = format!("state: \"{}\"\n", state.path().display());
    let world = World::build(&planned(identity, on_change).with(&lines)).await.unwrap();
    let other = trust_another(&world).await;
    (world, other, state)
}

async fn trust_another(world: &World) -> Authority {
    let other = Authority::new("Another Root").unwrap();
    let roots = format!("{}{}", world.authority.pem(), other.pem());
    fs::write(world.folder.path().join("pki/root.pem"), roots).unwrap();
    world.gate.reload().await.unwrap();
    other
}

async fn reload(world: &World, policy: &str) {
    fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), policy).unwrap();
    world.gate.reload().await.unwrap();
}

fn by(authority: &Authority) -> Identity {
    authority.issue(&Leaf::of(&[PARTNER])).unwrap()
}

/// The partner's server, which shows this certificate and vouches for its keys.
async fn partner(world: &World, identity: &Identity) -> Peer {
    let peer = world.peer_with(10, &[PARTNER], identity.clone(), Manner::default()).await.unwrap();
    world.names.announce(PARTNER, Some(peer.address), None).unwrap();
    peer
}

async fn opened(peer: &Peer) -> Session {
    peer.call(HALL).unwrap().open().await.unwrap()
}

/// By certificate on a new stream, with a word through it.
async fn comes(world: &World, peer: &Peer, body: &str) -> Session {
    let mut stream = opened(peer).await;
    assert_eq!(stream.external(PARTNER).await.unwrap(), Login::Success, "{body}");
    still_passes(world, &mut stream, "a@partner.example", "j@hall.example", body).await;
    stream
}

/// By dialback on a new stream, with a word through it.
async fn comes_by_dialback(world: &World, peer: &Peer, body: &str) -> Session {
    let mut stream = opened(peer).await;
    assert_eq!(stream.dialback(PARTNER, HALL).await.unwrap(), Word::Valid, "{body}");
    still_passes(world, &mut stream, "a@partner.example", "j@hall.example", body).await;
    stream
}

/// What is remembered of the pair of this direction.
async fn remembered(world: &World, direction: &str) -> Option<Value> {
    let answer = ask(&world.socket(), &["peers", "--domain", PARTNER]).await;
    let peers = answer["peers"].as_array().unwrap().clone();
    peers.into_iter().find(|peer| peer["direction"] == direction)
}

/// Both nodes trust both roots of the world and another, so that one certificate is good at either.
async fn both_trust(first: &World, second: &World, other: &Authority) {
    let roots = format!("{}{}{}", first.authority.pem(), second.authority.pem(), other.pem());
    for world in [first, second] {
        fs::write(world.folder.path().join("pki/root.pem"), &roots).unwrap();
        world.gate.reload().await.unwrap();
    }
}

/// Waits until so many faces are known and so many wait, inbound.
async fn knows(world: &World, faces: usize, waiting: usize) -> Value {
    for _ in 0..500 {
        if let Some(peer) = remembered(world, "inbound").await
            && peer["faces"].as_array().map(Vec::len) == Some(faces)
            && peer["waiting"].as_array().map(Vec::len) == Some(waiting)
        {
            return peer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{faces} faces, {waiting} waiting: {:?}", remembered(world, "inbound").await);
}

/// The audit records of changes, once there are so many.
async fn changes(world: &World, many: usize) -> Vec<Value> {
    let found = records(world, many, |record| record["event"] == "peer-changed").await;
    assert_eq!(found.len(), many, "{found:?}");
    found
}

async fn approve(world: &World) -> Said {
    tell(&world.socket(), &["peers", "approve", PARTNER]).await
}

/// What the user behind hears of this word that he sent.
async fn comes_back(world: &World, body: &str) -> (String, String) {
    world.legacy.send(format!(
        "<message from='j@hall.example' to='a@partner.example' id='{body}'><body>{body}</body></message>"
    ));
    let back =
        world.legacy.inbox.wait(|node| node.attr("type") == Some("error") && node.attr("id") == Some(body));
    let back = back.await.unwrap();
    (condition(&back).unwrap().to_owned(), back.raw)
}

// "A change is an event (log, audit, metric, status page) with before and after": noted, and everything passes.
#[tokio::test]
async fn a_change_is_noted_with_before_and_after_everywhere() {
    let (world, other, _state) = remembering("certificate, dialback", "note").await;
    let (first, second) = (by(&world.authority), by(&world.authority));
    let peer = partner(&world, &first).await;
    let _one = comes(&world, &peer, "as ever").await;
    let known = knows(&world, 1, 0).await;
    assert_eq!(known["faces"][0]["look"]["face"]["key"].as_str(), Some(&*first.pin().unwrap()), "{known}");
    assert_eq!(known["first"], known["faces"][0]["first"]);
    peer.show(second.clone());
    let _two = comes(&world, &peer, "renewed").await;
    peer.show(by(&other));
    let _three = comes(&world, &peer, "from another authority").await;
    peer.show(second.clone());
    let _four = comes(&world, &peer, "as before: no change").await;
    let records = changes(&world, 2).await;
    assert_eq!(records[0]["what"], serde_json::json!(["key"]));
    assert_eq!(records[1]["what"], serde_json::json!(["issuer", "key"]));
    let key = |record: &Value, when: &str| record[when]["face"]["key"].as_str().unwrap().to_owned();
    assert_eq!(key(&records[0], "before"), first.pin().unwrap());
    assert_eq!(key(&records[0], "after"), second.pin().unwrap());
    assert!(records.iter().all(|r| r["outcome"] == "noted" && r["rule"] == "partners"), "{records:?}");
    let metrics = world.metrics().await.unwrap();
    for (what, times) in [("key", 2.0), ("issuer", 1.0), ("method", 0.0), ("tls", 0.0), ("network", 0.0)] {
        assert_eq!(metrics.sum("peers_changed_total", &[("what", what)]), times, "{what}");
    }
    let (_, json) = world.get("/status.json").await.unwrap();
    let status: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["peers"][0]["state"], "noted", "{json}");
    assert!(!status["alarms"].to_string().contains("waits"), "{json}");
    let (_, page) = world.get("/status").await.unwrap();
    assert!(
        page.contains("proven in another way than before") && page.contains(&second.pin().unwrap()),
        "{page}"
    );
    let text = tell(&world.socket(), &["peers"]).await.out;
    for words in
        ["partner.example > hall.example  inbound", "proven by certificate, key sha256:", "noted", "1 pairs"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(approve(&world).await.code, 1, "nothing waits");
}

// "Inbound claims get `policy-violation` of type wait, until `gatehouse peers approve DOMAIN`": by certificate, from another
// authority; and who comes as before passes all the while.
#[tokio::test]
async fn a_certificate_of_another_authority_waits_for_an_operator() {
    let (world, other, _state) = remembering("certificate, dialback", "hold").await;
    let peer = partner(&world, &by(&world.authority)).await;
    let mut living = comes(&world, &peer, "as ever").await;
    peer.show(by(&world.authority));
    let _renewed = comes(&world, &peer, "a renewal passes").await;
    peer.show(by(&other));
    let mut stream = opened(&peer).await;
    assert_eq!(stream.external(PARTNER).await.unwrap(), Login::Failure("temporary-auth-failure".to_owned()));
    // What falls back to dialback on that stream shows the same certificate, and is the same change.
    stream.claim(PARTNER, HALL).await.unwrap();
    let answer = stream.wire.element().await.unwrap();
    assert_eq!(gatehouse::demo::session::word(&answer), error("policy-violation"), "{}", answer.raw);
    assert_eq!(answer.child("error").unwrap().attr("type"), Some("wait"), "{}", answer.raw);
    assert_eq!(peer.visits(), 0, "nobody was asked about the key");
    let held = knows(&world, 2, 1).await;
    assert_eq!(
        (&held["waiting"][0]["times"], &held["waiting"][0]["what"]),
        (&2.into(), &serde_json::json!(["issuer", "key"]))
    );
    still_passes(&world, &mut living, "a@partner.example", "j@hall.example", "lives on").await;
    // It is told where an operator looks, with what to do.
    let records = changes(&world, 2).await;
    assert_eq!(records[1]["outcome"], "held");
    world.counted("peers_waiting", &[], 1.0).await.unwrap();
    let (_, json) = world.get("/status.json").await.unwrap();
    let status: Value = serde_json::from_str(&json).unwrap();
    assert!(status["alarms"].to_string().contains("waits: `gatehouse peers`"), "{json}");
    let refusals = tell(&world.socket(), &["refusals", "--reason", "peer-changed"]).await.out;
    assert!(refusals.contains("partners at") && refusals.contains("gatehouse peers approve"), "{refusals}");
    let text = tell(&world.socket(), &["peers"]).await.out;
    assert!(
        text.contains("WAITS certificate, key sha256:")
            && text.contains("issuer \"CN=Another Root")
            && text.contains("1 with changes that wait"),
        "{text}"
    );

    let said = approve(&world).await;
    assert_eq!(
        (said.code, said.out.contains("approved partner.example > hall.example: certificate, key sha256:")),
        (0, true),
        "{said:?}"
    );
    let _approved = comes(&world, &peer, "approved").await;
    world
        .counted("authentications_total", &[("method", "certificate"), ("outcome", "allow")], 3.0)
        .await
        .unwrap();
    let done = knows(&world, 3, 0).await;
    assert_eq!(done["changes"].as_array().unwrap().last().unwrap()["fate"], "approved");
    assert_eq!(world.metrics().await.unwrap().sum("peers_waiting", &[]), 0.0);
    let audit = fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("\"peers-approve\""), "who approved it is written down");
    still_passes(&world, &mut living, "a@partner.example", "j@hall.example", "and on").await;

    // It was the wrong word after all: what was let in is known no more, and its streams end; who was known before comes back.
    let key = done["faces"][2]["look"]["face"]["key"].as_str().unwrap().to_owned();
    let said = tell(&world.socket(), &["peers", "forget", PARTNER, "--key", &key]).await;
    let word = format!("forgotten partner.example > hall.example: certificate, key {key}");
    assert_eq!((said.code, said.out.contains(&word)), (0, true), "{said:?}");
    living.ending().await.unwrap();
    let mut stream = opened(&peer).await;
    assert_eq!(stream.external(PARTNER).await.unwrap(), Login::Failure("temporary-auth-failure".to_owned()));
    knows(&world, 2, 1).await;
    let audit = fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("\"peers-forget\""), "who had it forgotten is written down");
}

// An issuer calls itself as it likes: an intermediate of the same name, under another root that is trusted as well, is another
// authority, inbound and outbound. Another intermediate under the same root is a renewal.
#[tokio::test]
async fn an_intermediate_of_the_same_name_under_another_root_waits() {
    let (world, other, _state) = remembering("certificate", "hold").await;
    let named = |root: &Authority| root.below("An Authority of Repute").unwrap();
    let shown = |root: &Authority| {
        let issuer = named(root);
        issuer.issue(&Leaf::of(&[PARTNER])).unwrap().beside(&issuer)
    };
    let peer = partner(&world, &shown(&world.authority)).await;
    for body in ["as ever", "renewed"] {
        peer.show(shown(&world.authority));
        let _passes = comes(&world, &peer, &format!("{body} in")).await;
        world.legacy.message("j@hall.example", "a@partner.example", &format!("{body} out"));
        peer.inbox.wait_body(&format!("{body} out")).await.unwrap();
        tell(&world.socket(), &["close", PARTNER]).await;
    }
    assert!(changes(&world, 2).await.iter().all(|change| change["what"] == serde_json::json!(["key"])));
    peer.show(shown(&other));
    let mut stream = opened(&peer).await;
    assert_eq!(stream.external(PARTNER).await.unwrap(), Login::Failure("temporary-auth-failure".to_owned()));
    let held = knows(&world, 2, 1).await;
    assert_eq!(held["waiting"][0]["what"], serde_json::json!(["issuer", "key"]), "{held}");
    assert_eq!(held["waiting"][0]["look"]["face"]["root"]["name"], "CN=Another Root", "{held}");
    assert_eq!(held["waiting"][0]["look"]["face"]["root"]["key"].as_str(), Some(&*other.pin().unwrap()));
    // The names of the issuers are the same: what tells them apart is shown.
    let text = tell(&world.socket(), &["peers"]).await.out;
    let waits = text.lines().find(|line| line.contains("WAITS")).unwrap();
    let root =
        format!("root \"CN=Another Root\" ({}), issuer \"O=An Authority of Repute\"", other.pin().unwrap());
    assert!(waits.contains(&root), "{text}");
    let (condition, raw) = comes_back(&world, "held").await;
    assert!(condition == "remote-server-timeout" && raw.contains("peer-changed"), "{raw}");
    assert_eq!(remembered(&world, "outbound").await.unwrap()["waiting"].as_array().map(Vec::len), Some(1));
}

// D9: "stanzas come back at once with the text": outbound; nothing reaches the changed server, and after the operator's word the
// next stanza goes at once, whatever was held against the domain meanwhile.
#[tokio::test]
async fn stanzas_for_a_changed_server_come_back_until_an_operator_approves() {
    let (world, other, _state) = remembering("certificate", "hold").await;
    let (first, changed) = (by(&world.authority), by(&other));
    let peer = partner(&world, &first).await;
    world.legacy.message("j@hall.example", "a@partner.example", "as ever");
    peer.inbox.wait_body("as ever").await.unwrap();
    tell(&world.socket(), &["close", PARTNER]).await;
    peer.show(changed.clone());
    for n in 0..5 {
        let (condition, raw) = comes_back(&world, &format!("held {n}")).await;
        assert_eq!(condition, "remote-server-timeout", "{raw}");
        assert!(raw.contains("waits for an operator") && raw.contains("peer-changed"), "{raw}");
    }
    let held = remembered(&world, "outbound").await.unwrap();
    assert_eq!(held["waiting"].as_array().map(Vec::len), Some(1), "{held}");
    // It shows its old face again: nothing was held but the change.
    peer.show(first);
    tell(&world.socket(), &["circuits", "--clear", PARTNER]).await;
    world.legacy.message("j@hall.example", "a@partner.example", "the old face");
    peer.inbox.wait_body("the old face").await.unwrap();
    tell(&world.socket(), &["close", PARTNER]).await;
    peer.show(changed.clone());
    comes_back(&world, "held again").await;
    assert_eq!(approve(&world).await.code, 0);
    world.legacy.message("j@hall.example", "a@partner.example", "approved");
    peer.inbox.wait_body("approved").await.unwrap();
    assert!(
        !peer.inbox.all().iter().any(|node| node.raw.contains("held")),
        "nothing reached the changed server"
    );
}

// "Never a way to hold a victim by forging": who has proven nothing leaves no trace in the memory, whatever he claims and shows.
#[tokio::test]
async fn who_proves_nothing_changes_nothing() {
    let (world, other, _state) = remembering("certificate, dialback", "hold").await;
    let peer = partner(&world, &by(&world.authority)).await;
    let mut living = comes(&world, &peer, "as ever").await;
    let before = knows(&world, 1, 0).await;
    let mallory = "mallory.example";
    let shown = [
        other.issue(&Leaf::of(&[mallory])).unwrap(),
        Identity::self_signed(&Leaf::of(&[PARTNER])).unwrap(),
        Authority::new("Trusted by nobody").unwrap().issue(&Leaf::of(&[PARTNER])).unwrap(),
        other.issue(&Leaf { expired: true, ..Leaf::of(&[PARTNER]) }).unwrap(),
    ];
    let server = world.peer_with(66, &[mallory], shown[0].clone(), Manner::default()).await.unwrap();
    for identity in shown {
        server.show(identity);
        let mut stream = as_domain(server.call(HALL).unwrap(), Some(PARTNER)).open().await.unwrap();
        // Forged: the authoritative server knows nothing of the key.
        stream.send_key(PARTNER, HALL, "forged").await.unwrap();
        assert!(!matches!(stream.word().await.unwrap(), Word::Valid));
    }
    // By dialback alone, from an address that is the victim's own in no way.
    let mut bare = as_domain(server.call_bare(HALL).unwrap(), Some(PARTNER)).open().await.unwrap();
    bare.send_key(PARTNER, HALL, "forged").await.unwrap();
    assert!(!matches!(bare.word().await.unwrap(), Word::Valid));
    let after = knows(&world, 1, 0).await;
    assert_eq!(
        (&after["changes"], &after["faces"][0]["look"]),
        (&before["changes"], &before["faces"][0]["look"])
    );
    assert_eq!(after["last"], before["last"]);
    assert_eq!(world.metrics().await.unwrap().sum("peers_changed_total", &[]), 0.0);
    still_passes(&world, &mut living, "a@partner.example", "j@hall.example", "unharmed").await;
    let _again = comes(&world, &peer, "unharmed anew").await;
}

// DNS-18: a partner who was proven by certificate does not slide to dialback; one known by dialback is told apart by its key
// alone; and one that proves itself better from then on passes, and does not slide back.
#[tokio::test]
async fn a_weaker_proof_and_another_key_under_dialback_wait() {
    let (world, _other, _state) = remembering("certificate, dialback", "hold").await;
    let alone = || Identity::self_signed(&Leaf::of(&[PARTNER])).unwrap();
    let own = alone();
    let peer = partner(&world, &own).await;
    let _one = comes_by_dialback(&world, &peer, "by dialback").await;
    let _two = comes_by_dialback(&world, &peer, "again").await;
    for changed in [Some(alone()), None] {
        let mut stream = match changed {
            Some(identity) => {
                peer.show(identity);
                opened(&peer).await
            }
            None => peer.call_bare(HALL).unwrap().open().await.unwrap(),
        };
        assert_eq!(stream.dialback(PARTNER, HALL).await.unwrap(), error("policy-violation"));
    }
    let held = knows(&world, 1, 2).await;
    // Two faces wait: approving both unseen would let an attacker in behind the partner.
    let said = approve(&world).await;
    assert!(said.code == 1 && said.err.contains("--key"), "{said:?}");
    let none = tell(&world.socket(), &["peers", "approve", PARTNER, "--key", "none"]).await;
    assert_eq!(none.code, 0, "{none:?} {held}");
    let mut bare = peer.call_bare(HALL).unwrap().open().await.unwrap();
    assert_eq!(bare.dialback(PARTNER, HALL).await.unwrap(), Word::Valid);
    assert_eq!(tell(&world.socket(), &["peers", "dismiss", PARTNER]).await.code, 0);
    knows(&world, 2, 0).await;
    peer.show(by(&world.authority));
    let _better = comes(&world, &peer, "proven better").await;
    knows(&world, 1, 0).await;
    peer.show(own);
    let mut back = opened(&peer).await;
    assert_eq!(back.dialback(PARTNER, HALL).await.unwrap(), error("policy-violation"));
    let held = knows(&world, 1, 1).await;
    assert!(held["waiting"][0]["what"].to_string().contains("method"), "{held}");
}

// DNS-18: where dialback is all that proves a partner, whoever turns its DNS to a server of his own gets nothing of what is sent.
#[tokio::test]
async fn a_forged_dns_leads_nothing_to_another_server() {
    let (world, _other, _state) = remembering("certificate, dialback", "hold").await;
    let alone = || Identity::self_signed(&Leaf::of(&[PARTNER])).unwrap();
    let own = alone();
    let peer = partner(&world, &own).await;
    world.legacy.message("j@hall.example", "a@partner.example", "as ever");
    peer.inbox.wait_body("as ever").await.unwrap();
    tell(&world.socket(), &["close", PARTNER]).await;
    peer.show(alone());
    let (condition, raw) = comes_back(&world, "forged").await;
    assert!(condition == "remote-server-timeout" && raw.contains("peer-changed"), "{raw}");
    assert_eq!(peer.inbox.len(), 1, "nothing reached the other server");
    peer.show(own);
    tell(&world.socket(), &["circuits", "--clear", PARTNER]).await;
    world.legacy.message("j@hall.example", "a@partner.example", "the partner is back");
    peer.inbox.wait_body("the partner is back").await.unwrap();
    let known = remembered(&world, "outbound").await.unwrap();
    assert_eq!(
        (known["faces"].as_array().map(Vec::len), known["waiting"].as_array().map(Vec::len)),
        (Some(1), Some(1)),
        "{known}"
    );
}

// "Small store on disk, atomic, kept over restarts": what was known and what waits is there again; a file that is none is told and
// moved aside; a disk that takes nothing holds up nobody.
#[tokio::test]
async fn what_is_known_outlives_a_restart_and_a_broken_file_is_told() {
    let (mut world, other, state) = remembering("certificate", "hold").await;
    let file = state.path().join("peers.json");
    let first = by(&world.authority);
    let peer = partner(&world, &first).await;
    let stream = comes(&world, &peer, "as ever").await;
    soon("the file", async || if file.exists() { Ok(()) } else { Err("none".to_owned()) }).await;
    peer.show(by(&other));
    let mut changed = opened(&peer).await;
    assert_ne!(changed.external(PARTNER).await.unwrap(), Login::Success);
    let before = knows(&world, 1, 1).await;
    drop((stream, changed));
    world.gate.stop().await.unwrap();
    assert!(!state.path().join("peers.json.new").exists(), "it was written beside and moved into its place");
    world.gate = Gate::start(&world.config).await.unwrap();
    let after = knows(&world, 1, 1).await;
    assert_eq!(
        (&after["first"], &after["waiting"], &after["epoch"]),
        (&before["first"], &before["waiting"], &before["epoch"])
    );
    let mut changed = opened(&peer).await;
    assert_ne!(changed.external(PARTNER).await.unwrap(), Login::Success, "held still");
    peer.show(first.clone());
    drop((comes(&world, &peer, "known still").await, changed));
    world.gate.stop().await.unwrap();
    for broken in ["{", "[1]", "{\"version\":99,\"peers\":[]}", ""] {
        fs::write(&file, broken).unwrap();
        world.gate = Gate::start(&world.config).await.unwrap();
        assert!(remembered(&world, "inbound").await.is_none());
        let aside = state.path().join("peers.json.unread");
        assert_eq!(fs::read_to_string(&aside).unwrap(), broken, "what it may still tell is not lost");
        drop(comes(&world, &peer, &format!("anew after {broken:?}")).await);
        world.gate.stop().await.unwrap();
        fs::remove_file(aside).unwrap();
    }
    // Some records of many are none, or say what only a later version knows of: the others are known, and what it may still tell is not lost.
    let text = fs::read_to_string(&file).unwrap();
    let mut kept: Value = serde_json::from_str(&text).unwrap();
    let known = kept["peers"][0].clone();
    let (mut odd, mut later) = (known.clone(), known.clone());
    odd["from"] = "no domain".into();
    later["from"] = "later.example".into();
    later["faces"][0]["look"]["face"]["method"] = "later".into();
    kept["more"] = 1.into();
    let peers = kept["peers"].as_array_mut().unwrap();
    peers[0]["faces"][0]["more"] = 1.into();
    peers.extend([odd, later]);
    let written = kept.to_string();
    fs::write(&file, &written).unwrap();
    world.gate = Gate::start(&world.config).await.unwrap();
    let read = knows(&world, 1, 0).await;
    assert_eq!((&read["first"], &read["faces"]), (&known["first"], &known["faces"]));
    assert_eq!(fs::read_to_string(state.path().join("peers.json.unread")).unwrap(), written);
    // The folder is gone: nothing can be written, and everything goes on.
    fs::remove_dir_all(state.path()).unwrap();
    drop(comes(&world, &peer, "no disk").await);
    knows(&world, 1, 0).await;
    world.gate.stop().await.unwrap();
}

// POL-07: a rule that begins to hold knows what was noted until then: the living streams and the newest face stay.
#[tokio::test]
async fn a_rule_that_begins_to_hold_knows_the_newest_face() {
    let (world, other, _state) = remembering("certificate", "note").await;
    let peer = partner(&world, &by(&world.authority)).await;
    let _one = comes(&world, &peer, "first").await;
    peer.show(by(&other));
    let mut living = comes(&world, &peer, "noted").await;
    reload(&world, &rule("certificate", "hold")).await;
    still_passes(&world, &mut living, "a@partner.example", "j@hall.example", "lives on").await;
    let _two = comes(&world, &peer, "known").await;
    peer.show(by(&Authority::new("Another Root").unwrap()));
    // And what was held passes where the rule holds no more.
    let third = Authority::new("A third").unwrap();
    let roots = format!("{}{}{}", world.authority.pem(), other.pem(), third.pem());
    fs::write(world.folder.path().join("pki/root.pem"), roots).unwrap();
    world.gate.reload().await.unwrap();
    peer.show(by(&third));
    let mut held = opened(&peer).await;
    assert_ne!(held.external(PARTNER).await.unwrap(), Login::Success);
    knows(&world, 2, 1).await;
    reload(&world, &rule("certificate", "note")).await;
    let _three = comes(&world, &peer, "holds no more").await;
    knows(&world, 3, 0).await;
}

// "`policy explain` says it": what the rule makes of a change, and what is remembered; asked of the running policy it supposes the
// rest to be as before.
#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_tells_what_is_remembered() {
    let (world, _other, _state) = remembering("certificate, dialback", "hold").await;
    let peer = partner(&world, &by(&world.authority)).await;
    let _one = comes(&world, &peer, "as ever").await;
    let config = world.config.display().to_string();
    let words = ["policy", "explain", "--from", "a@partner.example", "--to", "j@hall.example"];
    let said = tell(&world.socket(), &[&words[..], &["--live", "--proof", "certificate"]].concat()).await;
    assert!(
        said.code == 0
            && said.out.contains("memory:     on-change: hold; proven before by certificate, key sha256:"),
        "{said:?}"
    );
    let said = tell(&world.socket(), &[&words[..], &["--live", "--proof", "dialback"]].concat()).await;
    assert!(said.code == 1 && said.out.contains("(peer-changed)"), "{said:?}");
    let offline = [&words[..], &["--config", &config]].concat();
    let offline: Vec<String> = offline.into_iter().map(str::to_owned).collect();
    let said =
        tokio::task::spawn_blocking(move || run(&offline.iter().map(String::as_str).collect::<Vec<_>>()));
    let said = said.await.unwrap();
    assert!(
        said.code == 0 && said.out.contains("on-change: hold; nothing is remembered of this pair here"),
        "{said:?}"
    );
}

// A rule in the shadow that would hold a change says so, and holds nothing.
#[tokio::test]
async fn a_rule_in_the_shadow_tells_what_it_would_hold() {
    let (world, other, _state) = remembering("certificate", "note").await;
    let (file, line) = (&world.config, format!("    policies: [\"policies/{HALL}.yaml\"]\n"));
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(&line), "{text}");
    fs::write(world.folder.path().join("policies/next.yaml"), rule("certificate", "hold")).unwrap();
    fs::write(file, text.replace(&line, &format!("{line}    shadow: [policies/next.yaml]\n"))).unwrap();
    world.gate.reload().await.unwrap();
    let peer = partner(&world, &by(&world.authority)).await;
    let _one = comes(&world, &peer, "as ever").await;
    reload(&world, &rule("certificate", "note")).await;
    peer.show(by(&other));
    let _two = comes(&world, &peer, "passes").await;
    let said = ask(&world.socket(), &["policy", "shadow"]).await;
    assert!(said.to_string().contains("peer-changed"), "{said}");
}

// "Shared through the cluster store where there is one": what one node knows holds on the other, and so does what an operator says.
#[tokio::test]
async fn nodes_share_what_they_know_of_peers() {
    let (mut redis, keys) = (Redis::start(&[]), secrets(""));
    let node = async || node_of(planned("certificate", "hold"), &redis.store(), keys.path(), OPEN).await;
    let (first, second) = (node().await, node().await);
    let (own, others) = (trust_another(&first).await, Authority::new("unused").unwrap());
    drop(others);
    both_trust(&first, &second, &own).await;
    let identity = by(&first.authority);
    let (at_first, at_second) = (partner(&first, &identity).await, partner(&second, &identity).await);
    let _one = comes(&first, &at_first, "known to one").await;
    knows(&second, 1, 0).await;
    let changed = by(&own);
    at_second.show(changed.clone());
    let mut held = opened(&at_second).await;
    assert_ne!(held.external(PARTNER).await.unwrap(), Login::Success, "the other node holds it");
    knows(&first, 1, 1).await;
    first.counted("peers_waiting", &[], 1.0).await.unwrap();
    assert_eq!(approve(&first).await.code, 0);
    knows(&second, 2, 0).await;
    soon("the other node to let it pass", async || {
        let mut stream = opened(&at_second).await;
        match stream.external(PARTNER).await.unwrap() {
            Login::Success => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // The store loses everything and a third node comes: it hears all of it from those who were there.
    redis.kill();
    at_first.show(changed);
    let _two = comes(&first, &at_first, "without the store").await;
    redis.revive();
    soon("the store to know it again", async || {
        match redis.say(&["HLEN", "gatehouse:{gate}:peers"]).trim() {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    let third = node_of(planned("certificate", "hold"), &redis.store(), keys.path(), OPEN).await;
    knows(&third, 2, 0).await;
    assert!(redis.say(&["TTL", "gatehouse:{gate}:peers"]).trim().parse::<i64>().unwrap() > 0);
    // What the store holds that is no record is told, and passed over.
    redis.say(&["HSET", "gatehouse:{gate}:peers", "x", "no record"]);
    soon("the foreign record to be told", async || match redis::cluster(&first).await["trouble"].as_str() {
        Some(trouble) if trouble.contains("cannot be read") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    knows(&first, 2, 0).await;
}

// CLU-03, DNS-18: while the store is away one node holds what another, which has never seen the partner, believes as the first. Where
// they meet again nothing is let in by that: it waits at both, and who was known passes at both.
#[tokio::test]
async fn what_one_node_holds_is_not_let_in_where_nodes_meet() {
    let (mut redis, keys) = (Redis::start(&[]), secrets(""));
    let node = async || node_of(planned("certificate", "hold"), &redis.store(), keys.path(), OPEN).await;
    let (first, second) = (node().await, node().await);
    let other = Authority::new("Another Root").unwrap();
    both_trust(&first, &second, &other).await;
    let (own, thief) = (by(&first.authority), by(&other));
    let (at_first, at_second) = (partner(&first, &own).await, partner(&second, &thief).await);
    redis.kill();
    let _one = comes(&first, &at_first, "the partner").await;
    at_first.show(thief.clone());
    let mut held = opened(&at_first).await;
    assert_ne!(held.external(PARTNER).await.unwrap(), Login::Success);
    knows(&first, 1, 1).await;
    let mut two = comes(&second, &at_second, "the first that this node sees").await;
    knows(&second, 1, 0).await;
    redis.revive();
    soon("the nodes to meet", async || {
        let waiting = remembered(&second, "inbound").await.map(|peer| peer["waiting"].to_string());
        match waiting.as_deref() {
            Some("[]") | None => Err("nothing waits at the second node".to_owned()),
            Some(_) => Ok(()),
        }
    })
    .await;
    for (world, peer) in [(&first, &at_first), (&second, &at_second)] {
        let known = knows(world, 1, 1).await;
        let key = |face: &Value| face["look"]["face"]["key"].as_str().unwrap().to_owned();
        assert_eq!(key(&known["faces"][0]), own.pin().unwrap(), "{known}");
        assert_eq!(key(&known["waiting"][0]), thief.pin().unwrap(), "{known}");
        peer.show(thief.clone());
        let mut held = opened(peer).await;
        assert_ne!(held.external(PARTNER).await.unwrap(), Login::Success, "{known}");
        peer.show(own.clone());
        let _passes = comes(world, peer, "who was known").await;
        world.counted("peers_waiting", &[], 1.0).await.unwrap();
    }
    // What stood on it where it was believed stands no more, and it is told once: where it was held.
    assert_eq!(two.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
    records(&second, 1, |r| r["event"] == "ended" && r["reason"] == "peer-changed").await;
    let told = changes(&first, 1).await;
    assert_eq!(told[0]["outcome"], "held", "{told:?}");
    assert_eq!(changes(&second, 0).await, Vec::<Value>::new());
    assert_eq!(approve(&second).await.code, 0);
    knows(&first, 2, 0).await;
}

// What no rule holds is shared, too: a change that was told at one node is none at the next; a store that has lost everything hears it
// again, and a node without any memory from the store.
#[tokio::test]
async fn nodes_share_what_no_rule_holds() {
    let (mut redis, keys) = (Redis::start(&[]), secrets(""));
    let node = async || node_of(planned("certificate", "note"), &redis.store(), keys.path(), OPEN).await;
    let (first, second) = (node().await, node().await);
    let other = Authority::new("Another Root").unwrap();
    both_trust(&first, &second, &other).await;
    let identity = by(&first.authority);
    let (at_first, at_second) = (partner(&first, &identity).await, partner(&second, &identity).await);
    let _one = comes(&first, &at_first, "known to one").await;
    knows(&second, 1, 0).await;
    let changed = by(&other);
    at_second.show(changed.clone());
    let _two = comes(&second, &at_second, "passes").await;
    let told = changes(&second, 1).await;
    assert!(told[0].to_string().contains("key"), "{told:?}");
    knows(&first, 2, 0).await;
    at_first.show(changed);
    let _three = comes(&first, &at_first, "no news").await;
    assert_eq!(changes(&first, 0).await, Vec::<Value>::new());
    assert_eq!(redis.say(&["HLEN", "gatehouse:{gate}:peers"]).trim(), "0", "no rule holds it");
    redis.kill();
    redis.revive();
    soon("the store to know it again", async || {
        match redis.say(&["XLEN", "gatehouse:{gate}:peers-noted"]).trim() {
            "0" => Err("nothing".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let third = node_of(planned("certificate", "note"), &redis.store(), keys.path(), OPEN).await;
    knows(&third, 2, 0).await;
    let ends = redis.say(&["TTL", "gatehouse:{gate}:peers-noted"]).trim().parse::<i64>().unwrap();
    assert!(ends > 0);
    // What is no record there is told, and passed over.
    redis.say(&["XADD", "gatehouse:{gate}:peers-noted", "*", "e", "no record"]);
    redis::store_is(&first, None).await;
    knows(&third, 2, 0).await;
}

// What an operator has written wrong is told in his own words, with what to write: of whatever command it is an argument.
#[tokio::test]
async fn a_wrong_argument_is_told_with_what_to_write() {
    let world = World::build(&planned("certificate", "hold")).await.unwrap();
    let long = "x".repeat(2000);
    for (words, said) in [
        (&["peers", "approve", PARTNER, "--key", "zz"][..], "\"zz\" is no digest of a key"),
        (&["peers", "dismiss", PARTNER, "--key", "z\"z"], "is no digest of a key"),
        (&["peers", "approve", PARTNER, "--key", &long], "is no digest of a key"),
        (
            &["peers", "approve", PARTNER],
            "nothing of partner.example waits: `gatehouse peers --domain partner.example`",
        ),
        (
            &["peers", "approve", PARTNER, "--key", "none"],
            "with the key none waits: write it as `gatehouse peers",
        ),
        (&["peers", "approve", "a b"], "\"a b\" is no domain"),
        (&["peers", "dismiss", ""], "\"\" is no domain"),
        (&["peers", "--domain", "a b"], "\"a b\" is no domain"),
        (&["ban", "a b", "--for", "1h"], "\"a b\" is no address, network or domain: write"),
        (&["ban", "192.0.2.1/24", "--for", "1h"], "\"192.0.2.1/24\" has bits set beyond its prefix"),
        (&["unban", "a b/c"], "\"a b/c\" is no address, network or domain: write"),
        (&["circuits", "--clear", "a b"], "\"a b\" is no domain"),
        (&["quarantine", "approve", "a b"], "\"a b\" is no domain"),
        (
            &["policy", "explain", "--live", "--from", PARTNER, "--to", HALL, "--key", "zz"],
            "\"zz\" is no digest of a key",
        ),
    ] {
        let told = tell(&world.socket(), words).await;
        assert!(told.code != 0 && told.err.contains(said), "{words:?}: {told:?}");
        assert!(words.contains(&"z\"z") || !told.err.contains('\\'), "{words:?}: {}", told.err);
        assert!(told.err.len() < 600, "{words:?}: {}", told.err);
    }
}

// A rule that holds and nowhere to keep it, a word that is none, and a rule that denies.
#[test]
fn what_changes_nothing_or_is_forgotten_is_told_before_it_runs() {
    let check = |policy: &str, more: &str| {
        let (folder, _address) = prepare("");
        fs::write(folder.path().join("policy.yaml"), policy).unwrap();
        let file = folder.path().join("gatehouse.yaml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}{more}")).unwrap();
        run(&["check", "--config", file.to_str().unwrap()])
    };
    let forgets = "how domains were proven is forgotten at each start";
    let said = check(&rule("certificate", "hold"), "");
    assert!(format!("{}{}", said.out, said.err).contains(forgets), "{said:?}");
    let said = check(&rule("certificate", "hold"), "state: .\n");
    assert!(!format!("{}{}", said.out, said.err).contains(forgets), "{said:?}");
    let said = check(&rule("certificate", "keep"), "");
    assert!(
        said.code == 78 && format!("{}{}", said.out, said.err).contains("write note or hold"),
        "{said:?}"
    );
    let deny = "version: v1\nrules:\n  - { name: p, domains: [a.example], verdict: deny, on-change: hold }\n";
    let said = check(deny, "");
    assert!(
        said.code == 78 && format!("{}{}", said.out, said.err).contains("`on-change` in a rule that denies"),
        "{said:?}"
    );
}
