//! The table of dialogues of clients through the pure relay; tests/servers/clients.rs plays the same one with real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/dialogues.rs"]
mod dialogues;

use crate::stage::*;
use dialogues::{At, DIALOGUES, Dialogue, Ours};
use gatehouse::reason::Flow;
use gatehouse::relay::{Effect, FarId, Input, Side};

const FAR: Side = Side::Far(FarId(1));
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";

fn open(attrs: &str) -> String {
    format!("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'{attrs}>")
}

fn offered(features: &str) -> String {
    let header = open(" id='i' from='hall.example' version='1.0'");
    format!("{header}<stream:features>{features}</stream:features>")
}

/// A client so far, whose server has said what it says until then.
fn stage(at: At) -> Stage {
    let hello = open(" to='hall.example' version='1.0'");
    let mut stage = Stage::new(relays(), any(), Flow::C2s, None);
    stage.hears(NEAR, &hello);
    if at != At::Clear {
        stage.hears(NEAR, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        stage.step(NEAR, Input::Secured(secured("", &[])));
        stage.hears(NEAR, &hello);
        stage.connected(FarId(1), None);
        let list = format!("<mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms>");
        stage.hears(FAR, &offered(&list));
    }
    if matches!(at, At::LoggedIn | At::Bound) {
        login(&mut stage);
    }
    if at == At::Bound {
        bind(&mut stage);
    }
    stage.said(NEAR);
    stage.said(FAR);
    stage.effects.clear();
    stage
}

fn login(stage: &mut Stage) {
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGFsaWNlAHB3</auth>"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    stage.hears(NEAR, &open(" to='hall.example' version='1.0'"));
    stage.hears(FAR, &offered(&format!("<bind xmlns='{BIND}'/>")));
}

fn bind(stage: &mut Stage) {
    stage.hears(NEAR, &format!("<iq type='set' id='b1'><bind xmlns='{BIND}'/></iq>"));
    let jid = "<jid>alice@hall.example/r</jid>";
    stage.hears(FAR, &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'>{jid}</bind></iq>"));
}

/// It goes on to a stanza that passes.
fn goes_on(mut stage: Stage, Dialogue { at, says, .. }: &Dialogue) {
    match at {
        // The handshake follows.
        At::Clear => return assert!(stage.has(|e| matches!(e, Effect::Upgrade(Side::Near))), "{says}"),
        At::Secured => {
            login(&mut stage);
            bind(&mut stage);
        }
        At::LoggedIn => bind(&mut stage),
        At::Bound => {}
    }
    stage.passed();
    stage.hears(NEAR, "<presence/>");
    assert_eq!(stage.passed().len(), 1, "{says}");
}

#[test]
fn the_dialogues_come_out_as_the_table_says() {
    for dialogue in DIALOGUES {
        let Dialogue { at, says, ours, why, .. } = dialogue;
        let mut stage = stage(*at);
        stage.hears(NEAR, says);
        let (near, far) = (stage.said(NEAR), stage.said(FAR));
        let passed: String = stage.passed().into_iter().map(|(_, text)| text).collect();
        let words = format!("{at:?} {says} ({why}): {near}");
        match ours {
            Ours::Answers(answer) => {
                assert!(near.contains(answer) && !near.contains("</stream:stream>"), "{words}");
                assert_eq!(format!("{far}{passed}"), "", "{words}");
                goes_on(stage, dialogue);
            }
            Ours::Passes => {
                assert_eq!((near.as_str(), format!("{far}{passed}").as_str()), ("", *says), "{words}");
                if *at == At::Bound {
                    goes_on(stage, dialogue);
                }
            }
            Ours::Drops => {
                assert_eq!((near.as_str(), format!("{far}{passed}").as_str()), ("", ""), "{words}");
                assert_eq!(stage.reasons().len(), 1, "{words}");
                goes_on(stage, dialogue);
            }
            Ours::Ends(condition) => {
                assert!(near.contains(condition) && near.ends_with("</stream:stream>"), "{words}");
                assert_eq!(passed, "", "{words}");
            }
        }
    }
}
