//! Whom a connection to a server behind stands in for, as a PROXY header may tell it (BE-05): for the first pair of a stream and for
//! every other, for what couriers carry of it, and for what has come back over a stream of ours.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::Caller;
use super::super::registry::Meta;
use super::charges::Charges;
use super::legs::Legs;
use crate::jid::Domain;
use crate::net::proxy::ProvenPeer;
use crate::policy::RuleName;
use crate::relay::{Destination, FarId, Relay, Side};
use crate::stream::{Method, Pair};

/// What a relay knows of the other ends of its legs.
pub(in crate::run) struct Ends<'a> {
    pub(in crate::run) relay: &'a Relay,
    pub(in crate::run) meta: &'a Meta,
    pub(in crate::run) legs: &'a Legs,
}

impl Ends<'_> {
    /// Whom that leg is to stand in for, if it is for somebody: a courier for who has brought it what it carries.
    pub(in crate::run) fn introduced(
        &self,
        id: FarId,
        destination: &Destination,
        brought: impl FnOnce() -> Option<Arc<Caller>>,
    ) -> Option<Arc<Caller>> {
        match destination {
            Destination::Client(_) => Some(Arc::new(self.caller(None))),
            Destination::Backend(_) => match self.relay.introduced(id) {
                Some(known) => Some(Arc::new(self.caller(Some(facts(known))))),
                None => brought(),
            },
            Destination::World { .. } => None,
        }
    }

    /// Who has sent a stanza of this pair that couriers are to carry.
    pub(super) fn brings(&self, pair: &Pair, charges: &mut Charges) -> Arc<Caller> {
        if let Some(known) = charges.caller(pair) {
            return known;
        }
        let facts = self.relay.brings(pair).map(facts);
        let caller = Arc::new(match &self.legs.near {
            Some(_) => self.caller(facts),
            None => self.called(pair, facts),
        });
        charges.name_caller(pair, &caller);
        caller
    }

    /// Who has called us.
    fn caller(&self, facts: Option<ProvenPeer>) -> Caller {
        Caller {
            from: self.meta.peer.map(|peer| peer.ip()),
            ends: self.meta.peer.zip(self.meta.local),
            name: self.meta.id.to_string(),
            secured: self.relay.channel(Side::Near).cloned(),
            facts,
        }
    }

    /// Whom we have called, and who sends something back (XEP-0288).
    fn called(&self, pair: &Pair, facts: Option<ProvenPeer>) -> Caller {
        let leg = self.legs.fars.ids().next().and_then(|id| Some((id, &self.legs.fars.get(id)?.leg)));
        let mut secured = leg.and_then(|(id, _)| self.relay.channel(Side::Far(id))).cloned();
        if let Some(secured) = &mut secured {
            // The name in that handshake is the peer's own: it is we who have sent it.
            secured.sni = Some(pair.target.to_string());
        }
        let ends: Option<(SocketAddr, SocketAddr)> = leg.and_then(|(_, leg)| leg.called.zip(leg.local));
        let from = leg.and_then(|(_, leg)| leg.called).map(|called| called.ip());
        Caller { from, ends, name: self.meta.id.to_string(), secured, facts }
    }
}

fn facts((domain, method, rule): (Domain, Method, RuleName)) -> ProvenPeer {
    ProvenPeer { domain: domain.to_string(), method: method.label().to_owned(), rule: rule.to_string() }
}
