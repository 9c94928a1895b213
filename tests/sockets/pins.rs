//! Keys that a rule pins (DNS-18): the partner is proven by its key alone, both ways, and by nothing less.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use gatehouse::demo::peer::{Manner, Peer};
use gatehouse::demo::pki::{Authority, Identity, Leaf};
use gatehouse::demo::session::{Login, Session, Word};
use gatehouse::demo::world::{Plan, World};

use crate::sockets::*;
use crate::steering::*;

const PARTNER: &str = "partner.example";

/// A border whose one rule pins these keys.
async fn pinning(pins: &[String]) -> World {
    World::build(&Plan::listed(HALL, &rule(pins)).limit("rate", "6000/min")).await.unwrap()
}

fn rule(pins: &[String]) -> String {
    let pins: Vec<String> = pins.iter().map(|pin| format!("\"{pin}\"")).collect();
    format!(
        "version: v1\nrules:\n  - name: keyed\n    domains: [{PARTNER}]\n    pins: [{}]\n",
        pins.join(", ")
    )
}

/// The same rule with a condition in place of the pins.
fn unpinned(identity: &str) -> String {
    format!("version: v1\nrules:\n  - {{ name: keyed, domains: [{PARTNER}], identity: [{identity}] }}\n")
}

async fn reload(world: &World, policy: &str) {
    std::fs::write(world.folder.path().join(format!("policies/{HALL}.yaml")), policy).unwrap();
    world.gate.reload().await.unwrap();
}

fn alone() -> Identity {
    Identity::self_signed(&Leaf::of(&["somebody.else.example"])).unwrap()
}

async fn partner(world: &World, identity: &Identity) -> Peer {
    let peer = world.peer_with(10, &[PARTNER], identity.clone(), Manner::default()).await.unwrap();
    world.names.announce(PARTNER, Some(peer.address), None).unwrap();
    peer
}

async fn opened(peer: &Peer) -> Session {
    peer.call(HALL).unwrap().open().await.unwrap()
}

// DNS-18: a certificate that is nobody's, for another name, and out of date: its key is what was agreed. EXTERNAL is offered
// to it; and where it claims by dialback, nobody is asked (DB-30).
#[tokio::test]
async fn a_self_signed_partner_is_proven_by_its_key_alone() {
    let leaf = Leaf { expired: true, ..Leaf::of(&["somebody.else.example"]) };
    let identity = Identity::self_signed(&leaf).unwrap();
    let next = alone();
    let world = pinning(&[identity.pin().unwrap(), next.pin().unwrap()]).await;
    let peer = partner(&world, &identity).await;
    for shown in [&identity, &next] {
        peer.show(shown.clone());
        let mut stream = opened(&peer).await;
        assert!(stream.offers_external());
        assert_eq!(stream.external(PARTNER).await.unwrap(), Login::Success);
        still_passes(&world, &mut stream, "a@partner.example", "j@hall.example", "by its key").await;
    }
    let mut stream = opened(&peer).await;
    assert_eq!(stream.dialback(PARTNER, HALL).await.unwrap(), Word::Valid);
    still_passes(&world, &mut stream, "a@partner.example", "j@hall.example", "without dialling").await;
    assert_eq!(peer.visits(), 0, "nobody was asked about the key");
    let labels = [("method", "pin"), ("outcome", "allow")];
    world.counted("authentications_total", &labels, 3.0).await.unwrap();
    let record = &records(&world, 1, |r| r["event"] == "admitted" && r["flow"] == "s2s-in").await[0];
    assert_eq!((&record["proof"], &record["rule"]), (&"pin".into(), &"keyed".into()), "{record}");

    world.legacy.message("j@hall.example", "a@partner.example", "out by its key");
    peer.inbox.wait_body("out by its key").await.unwrap();
    let record = &records(&world, 1, |r| r["event"] == "admitted" && r["flow"] == "s2s-out").await[0];
    assert_eq!(record["server_proof"], "pin", "how the server called was proven: {record}");
}

// "certificate of the right name with another key under a pin": from the authority that everybody trusts, a pin of that
// authority's own key, a pin that is over and one that has yet to begin. Inbound and outbound; the cause is told.
#[tokio::test]
async fn nothing_less_than_the_pinned_key_proves_a_pinned_domain() {
    let good = alone();
    let world = pinning(&[good.pin().unwrap()]).await;
    let trusted = world.authority.issue(&Leaf::of(&[PARTNER])).unwrap();
    let root = Authority::new("a root of its own").unwrap();
    let below = root.issue(&Leaf::of(&[PARTNER])).unwrap();
    let peer = partner(&world, &trusted).await;
    let over = format!("{} until 2026-01-31", good.pin().unwrap());
    let early = format!("{} from 2190-01-31", good.pin().unwrap());
    let table = [
        ("another key, trusted and named", rule(&[good.pin().unwrap()]), &trusted, "key-not-pinned"),
        ("the key of its authority", rule(&[root.pin().unwrap()]), &below, "key-not-pinned"),
        ("a pin that is over", rule(&[over]), &good, "pin-expired"),
        ("a pin that has yet to begin", rule(&[early]), &good, "pin-expired"),
    ];
    for (n, (what, policy, shown, cause)) in table.into_iter().enumerate() {
        reload(&world, &policy).await;
        peer.show(shown.clone());
        let mut stream = opened(&peer).await;
        assert!(!stream.offers_external(), "{what}");
        // DB-29, TLS-19: "Where policy is certificate-required the stream ends".
        assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"), "{what}");
        let mut call = peer.call(HALL).unwrap();
        call.greeting.from = None;
        let mut stream = call.open().await.unwrap();
        assert_eq!(stream.dialback(PARTNER, HALL).await.unwrap(), error("not-authorized"), "{what}");
        for flow in ["s2s-in", "s2s-out"] {
            if flow == "s2s-out" {
                world.legacy.message("j@hall.example", "a@partner.example", &format!("never {n}"));
            }
            let found = records(&world, 1, |r| r["flow"] == flow && r["cause"] == cause).await;
            assert!(found.iter().all(|r| r["reason"] != "allowed"), "{what}: {found:?}");
        }
        // What was learnt against the domain must not stand in the way of the next case.
        tell(&world.socket(), &["circuits", "--clear", PARTNER]).await;
    }
    assert_eq!(peer.inbox.len(), 0, "nothing was sent to a server with the wrong key");
    reload(&world, &rule(&[good.pin().unwrap()])).await;
    peer.show(good);
    assert_eq!(opened(&peer).await.external(PARTNER).await.unwrap(), Login::Success);
}

// POL-07: a rule that pins no more, or another key, ends what stood on the pin, on both sides.
#[tokio::test]
async fn a_reload_that_drops_the_pin_ends_living_streams() {
    let identity = alone();
    for next in [rule(&[alone().pin().unwrap()]), unpinned("certificate"), unpinned("dialback")] {
        let world = pinning(&[identity.pin().unwrap()]).await;
        let peer = partner(&world, &identity).await;
        let mut stream = by_certificate(&peer, HALL).await;
        still_passes(&world, &mut stream, "a@partner.example", "j@hall.example", "stands").await;
        world.legacy.message("j@hall.example", "a@partner.example", "stands, too");
        peer.inbox.wait_body("stands, too").await.unwrap();
        let next_pins = rule(&[alone().pin().unwrap(), identity.pin().unwrap()]);
        reload(&world, &next_pins).await;
        still_passes(&world, &mut stream, "a@partner.example", "j@hall.example", "one pin more").await;
        reload(&world, &next).await;
        let ended = stream.ending().await.unwrap();
        assert_eq!(ended.condition.as_deref(), Some("policy-violation"), "{next}");
        if !next.contains("dialback") {
            // Outbound, dialback in as many words takes any server that the DNS names.
            world.legacy.message("j@hall.example", "a@partner.example", "no more");
            records(&world, 1, |r| r["flow"] == "s2s-out" && r["event"] == "ended").await;
            assert!(!peer.inbox.all().iter().any(|node| node.body() == Some("no more")), "{next}");
        }
    }
}

// RFC 9325 3.4: what a resumed session shows is judged anew, by the pins that hold then.
#[tokio::test]
async fn a_resumed_session_is_judged_by_the_pins_of_today() {
    let identity = alone();
    let world = pinning(&[identity.pin().unwrap()]).await;
    let peer = partner(&world, &identity).await;
    let mut call = peer.call(HALL).unwrap();
    let mut tls = (*call.tls).clone();
    tls.resumption = rustls::client::Resumption::in_memory_sessions(8);
    call.tls = Arc::new(tls);
    for _ in 0..2 {
        let mut stream = call.clone().open().await.unwrap();
        assert_eq!(stream.external(PARTNER).await.unwrap(), Login::Success);
        stream.close().await.unwrap();
    }
    reload(&world, &rule(&[alone().pin().unwrap()])).await;
    let mut stream = call.clone().open().await.unwrap();
    assert!(!stream.offers_external());
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("policy-violation"));
}

// "`gatehouse probe --pin` prints the line to paste": of a domain that no rule names yet, and once the rule is written the
// probe tells that the key is what proves the server, and why its certificate would not.
#[tokio::test(flavor = "multi_thread")]
async fn the_probe_prints_the_line_that_makes_the_rule() {
    let identity = alone();
    let world = World::build(&Plan::listed(HALL, "version: v1\nrules: []\n")).await.unwrap();
    let _peer = partner(&world, &identity).await;
    let config = world.config.display().to_string();
    let probe = async |more: &[&str]| {
        let mut all = vec!["probe", PARTNER, "--config", &config];
        all.extend(more);
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        tokio::task::spawn_blocking(move || run(&all.iter().map(String::as_str).collect::<Vec<_>>()))
            .await
            .unwrap()
    };
    let said = probe(&["--pin"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let line = said.out.lines().find_map(|line| line.strip_prefix("to paste")).unwrap().trim();
    assert_eq!(line, format!("pins: [\"{}\"]", identity.pin().unwrap()));
    assert!(
        said.out.contains("not by      certificate: the certificate was issued by itself"),
        "{}",
        said.out
    );
    reload(&world, &format!("version: v1\nrules:\n  - name: keyed\n    domains: [{PARTNER}]\n    {line}\n"))
        .await;
    let said = probe(&[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("proven by   pin"), "{}", said.out);

    // A second server with a key of its own: the rule has to name both.
    let other = alone();
    let second = world.peer_with(11, &[PARTNER], other.clone(), Manner::default()).await.unwrap();
    let name = format!("two.{PARTNER}");
    world.names.srv(&format!("_xmpp-server._tcp.{PARTNER}"), 9, 0, &name, second.address.port()).unwrap();
    world.names.host(&name, second.address.ip());
    let said = probe(&["--pin"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let line = format!("pins: [\"{}\", \"{}\"]", identity.pin().unwrap(), other.pin().unwrap());
    assert!(said.out.contains(&line), "{}", said.out);
}
