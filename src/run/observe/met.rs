//! A remote domain that was proven: remembered, and told where that is otherwise than before (LOG-06).

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::super::registry::Meta;
use super::{Observe, capped, shown};
use crate::peers::{ChangeFate, Look, PeerChange, Peers, Sight};
use crate::policy::{Drift, OnChange};
use crate::reason::{Direction, Flow};
use crate::relay::Event;
use crate::stream::TlsVersion;

/// What has changed, in the audit log.
#[derive(Serialize)]
struct Record<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    event: &'static str,
    flow: &'static str,
    pair: String,
    rule: &'a str,
    outcome: &'static str,
    what: Vec<&'static str>,
    before: &'a Look,
    after: &'a Look,
}

/// Remembers it, and tells what has changed.
pub(super) fn note(observe: &Observe, meta: &Meta, event: &Event) {
    let Event::Met { pair, direction, face, tls, address, rule, on_change, outcome } = event else { return };
    let direction = *direction;
    let flow = match direction {
        Direction::Inbound => Flow::S2sIn,
        Direction::Outbound => Flow::S2sOut,
    };
    let look = Look {
        face: face.as_ref().clone(),
        tls: tls.map_or("none", TlsVersion::label).to_owned(),
        network: address.map(network),
    };
    let (rule, hold, outcome) = (rule.as_str().to_owned(), *on_change == OnChange::Hold, *outcome);
    let sight = Sight { pair: pair.clone(), direction, look, rule, hold, outcome };
    let now = Timestamp::now();
    let Some(change) = observe.peers.with(|peers| peers.saw(&sight, now)) else { return };
    let met = Met { flow, pair: shown(pair), rule: &sight.rule, relay: Some(meta.id.to_string()) };
    report_change(observe, &met, observe.budget.may_log(meta), &change, now);
}

/// The same of what has come to wait because other nodes know the pair otherwise.
pub(super) fn note_met(observe: &Observe) {
    for (peer, change) in observe.peers.with(Peers::take_met) {
        let flow = if peer.direction == Direction::Inbound.label() { Flow::S2sIn } else { Flow::S2sOut };
        let pair = format!("{}>{}", capped(&peer.from), capped(&peer.to));
        let met = Met { flow, pair, rule: &peer.rule, relay: None };
        report_change(observe, &met, true, &change, Timestamp::now());
    }
}

/// Whose proof it is.
struct Met<'a> {
    flow: Flow,
    pair: String,
    rule: &'a str,
    /// The relay that has met it; none where another node has.
    relay: Option<String>,
}

fn report_change(observe: &Observe, met: &Met<'_>, in_log: bool, change: &PeerChange, now: Timestamp) {
    let PeerChange { what, before, after, fate, .. } = change;
    let Met { flow, pair, rule, relay } = met;
    observe.metrics.peer_changed(what);
    let words: Vec<&str> = what.iter().copied().map(Drift::label).collect();
    if in_log {
        let (what, relay) = (words.join(","), relay.as_deref().unwrap_or("at another node"));
        match fate {
            ChangeFate::Held => {
                tracing::warn!(flow = %flow, pair, relay, rule, what, was = %before, is = %after,
                    "a peer proves itself in another way, and waits for `gatehouse peers approve`")
            }
            _ => {
                tracing::info!(flow = %flow, pair, relay, rule, what, was = %before, is = %after,
                    "a peer proves itself in another way")
            }
        }
    }
    observe.act(&Record {
        time: now.to_string(),
        stream: relay.as_deref(),
        event: "peer-changed",
        flow: flow.label(),
        pair: pair.clone(),
        rule,
        outcome: fate.label(),
        what: words,
        before,
        after,
    });
}

/// The network around an address, all of which one party may well have: an IPv6 /48, or an IPv4 /24.
fn network(address: IpAddr) -> String {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 48 };
    IpNet::new(address, length).map_or_else(|_| address.to_string(), |network| network.trunc().to_string())
}
