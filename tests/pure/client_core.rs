//! Clients through the relay, without a socket: the dialogues of requirements 21.4, and every refusal beside them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bind;
mod bound;
mod certificates;
mod ends;
mod login;
mod opening;
mod sasl2;

use crate::stage::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatehouse::reason::{Flow, Outcome, Reason};
use gatehouse::relay::{Destination, Effect, Event, FarId, Input, LoginAttempt, Passing, Side};
use gatehouse::stream::client::Mechanism;
use gatehouse::stream::client::certified::{CertificateName, CertificateTerms, Demand};
use gatehouse::xml::{Content, Framer, Limits, Token};

const FAR: Side = Side::Far(FarId(1));

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

const SASL2: &str = "urn:xmpp:sasl:2";

const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";

const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";

const ME: &str = "alice@hall.example/4db06f";

/// What is announced before the login (SM-09).
const EARLY: &str = "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>16384</max-bytes></limits>";

fn open(attrs: &str) -> String {
    format!("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'{attrs}>")
}

fn hello() -> String {
    open(" to='hall.example' version='1.0'")
}

/// What a server inside says first.
fn greeting(id: &str, features: &str) -> String {
    format!(
        "<?xml version='1.0'?>{}<stream:features>{features}</stream:features>",
        open(&format!(" id='{id}' from='hall.example' version='1.0' xml:lang='en'"))
    )
}

fn mechanisms(names: &[&str]) -> String {
    let list: String = names.iter().map(|name| format!("<mechanism>{name}</mechanism>")).collect();
    format!("<mechanisms xmlns='{SASL}'>{list}</mechanisms>")
}

fn plain(account: &str) -> String {
    let payload = STANDARD.encode(format!("\0{account}\0secret"));
    format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{payload}</auth>")
}

fn bound_features() -> String {
    format!(
        "<bind xmlns='{BIND}'/><session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
         <sm xmlns='urn:xmpp:sm:2'/><sm xmlns='urn:xmpp:sm:3'/><csi xmlns='urn:xmpp:csi:0'/>"
    )
}

/// A client that has heard these features of its server.
fn offered(features: &str) -> Stage {
    offered_at(relays(), features)
}

fn offered_at(relays: gatehouse::relay::RelayParams, features: &str) -> Stage {
    let mut stage = Stage::new(relays, any(), Flow::C2s, Some(secured("hall.example", &[])));
    stage.hears(NEAR, &hello());
    stage.connected(FarId(1), None);
    stage.said(FAR);
    stage.hears(FAR, &greeting("B-1", features));
    stage
}

fn attempts(stage: &mut Stage) -> Vec<LoginAttempt> {
    let mut all = Vec::new();
    stage.effects.retain(|effect| match effect {
        Effect::MayLogin(attempt) => {
            all.push(attempt.clone());
            false
        }
        _ => true,
    });
    all
}

/// The client proves who it is by PLAIN, and begins its stream anew with that header.
fn logs_in(stage: &mut Stage, header: &str) {
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    stage.hears(NEAR, header);
    stage.hears(FAR, &greeting("B-2", &bound_features()));
}

/// In the middle of an exchange of RFC 6120.
fn in_an_exchange() -> Stage {
    let mut stage = offered(&mechanisms(&["SCRAM-SHA-1"]));
    stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1hbGljZSxyPXg=</auth>"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.hears(FAR, &format!("<challenge xmlns='{SASL}'>cj14</challenge>"));
    stage.said(NEAR);
    stage.said(FAR);
    stage
}

/// The client logs in with PLAIN, and its server grants it.
fn granted() -> Stage {
    let mut stage = offered(&mechanisms(&["PLAIN", "SCRAM-SHA-1"]));
    stage.hears(NEAR, &plain("alice"));
    stage.step(NEAR, Input::Tried(Ok(())));
    stage.said(FAR);
    stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
    stage
}

/// The same with the second features; a bind is due.
fn unbound() -> Stage {
    let mut stage = granted();
    stage.hears(NEAR, &hello());
    stage.hears(FAR, &greeting("B-2", &bound_features()));
    stage.said(NEAR);
    stage.said(FAR);
    stage
}

fn bind(id: &str) -> String {
    format!("<iq type='set' id='{id}'><bind xmlns='{BIND}'/></iq>")
}

fn bind_result(id: &str, jid: &str) -> String {
    format!("<iq type='result' id='{id}'><bind xmlns='{BIND}'><jid>{jid}</jid></bind></iq>")
}

/// The same with an address; stanzas may pass.
fn bound() -> Stage {
    let mut stage = unbound();
    stage.hears(NEAR, &bind("b1"));
    stage.hears(FAR, &bind_result("b1", ME));
    stage.said(NEAR);
    stage.said(FAR);
    stage.effects.clear();
    stage
}

/// The stream error that the client heard, with which its stream ended.
fn ended(stage: &mut Stage) -> String {
    let said = stage.said(NEAR);
    assert!(said.ends_with("</stream:stream>"), "{said}");
    let (_, error) = said.split_once("<stream:error><").unwrap_or_else(|| panic!("no error: {said}"));
    error.split([' ', '/', '>']).next().unwrap().to_owned()
}

fn logins(stage: &Stage) -> Vec<(Option<Mechanism>, Option<String>, Outcome, Reason)> {
    let login = |event: &&Event| match event {
        Event::Login { mechanism, account, outcome, reason, .. } => {
            Some((*mechanism, account.clone(), *outcome, *reason))
        }
        _ => None,
    };
    stage.notes().iter().filter_map(login).collect()
}

/// How the story was told at its end.
fn told(stage: &Stage) -> Vec<Reason> {
    let reason = |event: &&Event| match event {
        Event::Left { record, .. } | Event::Closed { record } => Some(record.reason),
        _ => None,
    };
    stage.notes().iter().filter_map(reason).collect()
}

fn misfits(stage: &Stage) -> Vec<Reason> {
    let reason = |event: &&Event| match event {
        Event::BackendMisconfigured { reason, .. } => Some(*reason),
        _ => None,
    };
    stage.notes().iter().filter_map(reason).collect()
}

fn unexpected(version: u8) -> String {
    format!(
        "<failed xmlns='urn:xmpp:sm:{version}'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    )
}

fn modern() -> String {
    format!(
        "<authentication xmlns='{SASL2}'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism>\
         <mechanism>PLAIN</mechanism><inline><sm xmlns='urn:xmpp:sm:3'/><bind xmlns='urn:xmpp:bind:0'><inline>\
         <feature var='urn:xmpp:carbons:2'/><feature var='urn:xmpp:sm:3'/><feature var='urn:example:odd'/></inline>\
         </bind><fast xmlns='urn:xmpp:fast:0' tls-0rtt='true'><mechanism>HT-SHA-256-NONE</mechanism>\
         <mechanism>HT-SHA-256-EXPR</mechanism></fast><odd xmlns='urn:example'/></inline>\
         <upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade></authentication>"
    )
}

fn authenticate(mechanism: &str, inside: &str) -> String {
    let payload = STANDARD.encode("\0alice\0secret");
    format!(
        "<authenticate xmlns='{SASL2}' mechanism='{mechanism}'><initial-response>{payload}</initial-response>\
         <user-agent id='u'><software>x</software></user-agent>{inside}</authenticate>"
    )
}

/// The client has asked, and its server has heard it.
fn asked(inside: &str) -> Stage {
    let mut stage = offered(&modern());
    stage.said(NEAR);
    stage.hears(NEAR, &authenticate("PLAIN", inside));
    stage.step(NEAR, Input::Tried(Ok(())));
    let said = stage.said(FAR);
    assert_eq!(said, authenticate("PLAIN", inside));
    stage
}

fn success(identifier: &str, inside: &str) -> String {
    format!(
        "<success xmlns='{SASL2}'><authorization-identifier>{identifier}</authorization-identifier>{inside}</success>"
    )
}
