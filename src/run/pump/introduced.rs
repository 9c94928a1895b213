//! Whom a connection to a server behind stands in for, as a PROXY header may tell it (BE-05): for the first pair of a stream and for
//! every other, for what couriers carry of it, and for what has come back over a stream of ours.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::Caller;
use super::Pump;
use crate::jid::Domain;
use crate::net::proxy::ProvenPeer;
use crate::policy::RuleName;
use crate::relay::{Destination, FarId, Side};
use crate::stream::{Method, Pair};

/// Whom that leg is to stand in for, if it is for somebody.
pub(in crate::run) fn introduced(pump: &Pump, id: FarId, destination: &Destination) -> Option<Arc<Caller>> {
    match destination {
        Destination::Client(_) => Some(Arc::new(caller(pump, None))),
        Destination::Backend(_) => match pump.relay.introduced(id) {
            Some(known) => Some(Arc::new(caller(pump, Some(facts(known))))),
            None => pump.carriage.cargo()?.brought().latest().cloned(),
        },
        Destination::World { .. } => None,
    }
}

/// Who has sent a stanza of this pair that couriers are to carry.
pub(super) fn brings(pump: &mut Pump, pair: &Pair) -> Arc<Caller> {
    if let Some(known) = pump.charges.caller(pair) {
        return known;
    }
    let facts = pump.relay.brings(pair).map(facts);
    let caller = Arc::new(match &pump.legs.near {
        Some(_) => caller(pump, facts),
        None => called(pump, pair, facts),
    });
    pump.charges.tell_caller(pair, &caller);
    caller
}

/// Who has called us.
fn caller(pump: &Pump, facts: Option<ProvenPeer>) -> Caller {
    Caller {
        from: pump.meta.peer.map(|peer| peer.ip()),
        ends: pump.meta.peer.zip(pump.meta.local),
        name: pump.meta.id.to_string(),
        secured: pump.relay.channel(Side::Near).cloned(),
        facts,
    }
}

/// Whom we have called, and who sends something back (XEP-0288).
fn called(pump: &Pump, pair: &Pair, facts: Option<ProvenPeer>) -> Caller {
    let leg = pump.legs.fars.ids().next().and_then(|id| Some((id, &pump.legs.fars.get(id)?.leg)));
    let mut secured = leg.and_then(|(id, _)| pump.relay.channel(Side::Far(id))).cloned();
    if let Some(secured) = &mut secured {
        // The name in that handshake is the peer's own: it is we who have sent it.
        secured.sni = Some(pair.target.to_string());
    }
    let ends: Option<(SocketAddr, SocketAddr)> = leg.and_then(|(_, leg)| leg.called.zip(leg.local));
    let from = leg.and_then(|(_, leg)| leg.called).map(|called| called.ip());
    Caller { from, ends, name: pump.meta.id.to_string(), secured, facts }
}

fn facts((domain, method, rule): (Domain, Method, RuleName)) -> ProvenPeer {
    ProvenPeer { domain: domain.to_string(), method: method.label().to_owned(), rule: rule.to_string() }
}
