//! What a rule keeps from leaving (`egress:`), with Prosody on both sides: chat states, tunes, the text of presence, the names
//! of clients; and what goes on all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::support::ca::Usage;
use crate::support::client::{Client, Element};
use crate::support::scene::{Cast, Peer, Scene};
use crate::support::server::{Legacy, Proof, Remote};

const FRIEND: &str = "friend.example";
const COUSIN: &str = "cousin.example";

const POLICY: &str = r#"version: v1
defaults: { identity: [certificate, dialback], tls: "1.2" }
rules:
  - name: discreet
    domains: [friend.example]
    egress:
      cut: ["http://jabber.org/protocol/chatstates", "http://jabber.org/protocol/tune"]
      presence: plain
      client-info: refuse
  - { name: unseen, domains: [cousin.example], egress: { presence: none } }
expect:
  - { from: hall.example, to: friend.example, kind: iq, payload: "jabber:iq:version", verdict: deny, reason: kept-inside, rule: discreet }
  - { from: friend.example, to: hall.example, kind: iq, payload: "jabber:iq:version", verdict: allow, rule: discreet }
  - { from: hall.example, to: friend.example, kind: message, verdict: allow, rule: discreet }
  - { from: hall.example, to: cousin.example, kind: presence, verdict: deny, reason: kept-inside, rule: unseen }
"#;

const TUNE: &str = "http://jabber.org/protocol/tune";

// RLY-22.
#[test]
fn what_a_rule_keeps_inside_does_not_leave() {
    let peer = |program, domain| Peer { program, proof: Proof::Either, domain };
    let remotes = [peer(Remote::Prosody, FRIEND), peer(Remote::Prosody13, COUSIN)];
    let cast = Cast { remotes: &remotes, legacy: Legacy::Prosody, usage: Usage::Both, policy: POLICY };
    let scene = Scene::start(&cast);
    let (mut friend, mut cousin) = (scene.remotes[0].login(), scene.remotes[1].login());
    let mut inside = scene.legacy.login();

    // The body goes, what is beside it does not; a chat state alone does not go at all, nor does a tune.
    let to = friend.jid().to_owned();
    let state = |name: &str| format!("<{name} xmlns='http://jabber.org/protocol/chatstates'/>");
    inside.send(&format!("<message type='chat' to='{to}' id='s1'>{}</message>", state("composing")));
    inside.send(&event(&to, "s2", TUNE, &format!("<tune xmlns='{TUNE}'><title>x</title></tune>")));
    inside.send(&event(&to, "s3", "urn:example:news", "<news xmlns='urn:example:news'/>"));
    inside.send(&format!(
        "<message type='chat' to='{to}' id='s4'><body>here</body>{}</message>",
        state("active")
    ));
    let message = friend.expect_message(inside.jid(), "s4");
    assert_eq!(message.child("body").unwrap().text, "here");
    assert!(message.child("active").is_none(), "{}", message.outline());
    friend.expect_message(inside.jid(), "s3");
    for id in ["s1", "s2"] {
        assert!(!friend.has_received(|e| e.has("id", id)), "{id} has left");
    }

    // Presence says that somebody is there, and no more.
    inside.send(&format!(
        "<presence to='{to}' id='p1'><show>away</show><status>in Rome</status>\
         <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://client.example' ver='v'/></presence>"
    ));
    let presence = friend.expect("presence", |e| e.name == "presence" && e.has("from", inside.jid()));
    assert_eq!(presence.child("show").unwrap().text, "away");
    let others = presence.children.iter().any(|child| child.name == "status" || child.name == "c");
    assert!(!others, "{}", presence.outline());

    // Who asks for the client reads what its server says for a client that is not there.
    let nobody = format!("{}/nobody", inside.bare());
    for payload in [
        "<query xmlns='jabber:iq:version'/>",
        "<time xmlns='urn:xmpp:time'/>",
        "<query xmlns='jabber:iq:last'/>",
    ] {
        let namespace = payload.split('\'').nth(1).unwrap();
        let usual = friend.request("get", Some(&nobody), payload);
        let usual = friend.told(&usual).0;
        let asked = friend.request("get", Some(inside.jid()), payload);
        inside.answer(friend.jid(), namespace, payload);
        let (condition, text) = friend.told(&asked);
        assert_eq!((condition.as_str(), text.as_str()), (usual.as_str(), ""), "{namespace}");
    }
    // Other questions are answered, and ours are not touched.
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let asked = friend.request("get", Some(inside.jid()), ping);
    inside.answer(friend.jid(), "urn:xmpp:ping", "");
    friend.result(&asked, ping);
    let version = "<query xmlns='jabber:iq:version'/>";
    let asked = inside.request("get", Some(friend.jid()), version);
    friend.answer(inside.jid(), "jabber:iq:version", version);
    inside.result(&asked, version);

    // What our user would write into another server comes back with the reason.
    let published =
        format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{TUNE}'/></pubsub>");
    let asked = inside.request("set", Some(friend.jid()), &published);
    let (condition, text) = inside.told(&asked);
    assert_eq!(condition, "policy-violation");
    assert!(text.contains("(kept-inside)") && !text.contains("discreet"), "{text}");

    unseen(&mut inside, &mut cousin);

    let withheld = |rule: &str, outcome: &str| {
        let labels = [("domain", "hall.example"), ("rule", rule), ("outcome", outcome)];
        scene.gateway.metric("gatehouse_stanzas_withheld_total", &labels)
    };
    assert_eq!(withheld("discreet", "answered"), 3.0);
    assert_eq!(withheld("discreet", "dropped"), 2.0);
    assert!(withheld("discreet", "cut") >= 2.0);
    assert!(withheld("unseen", "dropped") >= 2.0);
    let question = ["policy", "explain", "--from", "hall.example", "--to", "friend.example"];
    let question = [&question[..], &["--kind", "iq", "--payload", "jabber:iq:version"]].concat();
    let (code, said) = scene.gateway.command("explain", &question);
    assert!(code == Some(1) && said.contains("kept-inside") && said.contains("policy.yaml:"), "{said}");
}

/// `presence: none`: subscriptions are made, and nobody is ever there; who would join a room is told.
fn unseen(inside: &mut Client, cousin: &mut Client) {
    let (ours, theirs) = (inside.bare().to_owned(), cousin.bare().to_owned());
    cousin.presence(&ours, "subscribe");
    inside.expect("to be asked", |e| {
        e.name == "presence" && e.has("type", "subscribe") && e.has("from", &theirs)
    });
    inside.presence(&theirs, "subscribed");
    let granted = |e: &Element| e.name == "presence" && e.has("type", "subscribed") && e.has("from", &ours);
    cousin.expect("to be granted", granted);
    inside.send("<presence><show>dnd</show></presence>");
    let room = format!("{theirs}/room");
    inside.send(&format!(
        "<presence to='{room}' id='join'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
    ));
    assert_eq!(inside.told("join").0, "policy-violation");
    inside.send(&format!("<message type='chat' to='{}' id='after'><body>now</body></message>", cousin.jid()));
    cousin.expect_message(inside.jid(), "after");
    let seen = cousin.has_received(|e| {
        e.name == "presence"
            && e.attribute("type").is_none()
            && e.attribute("from").is_some_and(|from| from.starts_with(&ours))
    });
    assert!(!seen, "presence has left");
}

/// A notification of personal eventing, as a server sends it for its user.
fn event(to: &str, id: &str, node: &str, payload: &str) -> String {
    format!(
        "<message type='headline' to='{to}' id='{id}'><event xmlns='http://jabber.org/protocol/pubsub#event'>\
         <items node='{node}'><item id='i'>{payload}</item></items></event></message>"
    )
}
