//! What is held for a leg that we opened, and for a pair that stands.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use bytes::Bytes;

use super::super::awaited::AwaitTicket;
use super::super::circuit::Circuits;
use super::super::courier::InsideTicket;
use super::super::leg::{Leg, Link};
use super::super::parting::{PartingTicket, Partings};
use super::super::seeking::{Doubt, Seeking};
use super::super::{Caller, Connection, Later, RemainingCandidates, Transport, backends, now};
use crate::jid::Domain;
use crate::limit::{Callback, Callbacks, ProvenSlot, StreamTicket, Valve};
use crate::policy::{Federation, Policy};
use crate::reason::{Detail, Facing, Reason};
use crate::relay::plan::StreamLimits;
use crate::relay::{AddressChoice, Destination};
use crate::stream::Pair;
use crate::xml::Content;

/// A leg that we opened.
pub(in crate::run) struct Far {
    pub(in crate::run) leg: Leg,
    /// The pair that it speaks for, if it does not only ask.
    pub(super) pair: Option<Pair>,
    pub(in crate::run) destination: Destination,
    pub(in crate::run) route: Option<Box<dyn RemainingCandidates>>,
    awaited: Vec<AwaitTicket>,
    /// It is to ask about a key, over a connection of its own.
    callback: Option<Callback>,
    /// Its place at a server behind, until the connection has ended.
    pub(in crate::run) place: Option<backends::BackendSlot>,
    /// A client's: what it has to do with those before and behind it that lead to the same server for one account.
    succession: Option<Succession>,
    /// What its socket wakes, where it is one of many.
    pub(super) bell: Option<Waker>,
}

/// A place at a server behind, and the wait for it.
pub(in crate::run) type Awaited = (backends::BackendSlot, Later<Result<(), Reason>>);

impl Far {
    /// A leg for that pair on its way there, as soon as it has the place that it needs at a server behind. The connection stands in for `caller`, if
    /// it stands in for one.
    pub(in crate::run) fn connecting(
        transport: &dyn Transport,
        (pair, destination): (Option<Pair>, Destination),
        caller: Option<Arc<Caller>>,
        place: Option<Awaited>,
        content: Content,
        limits: &StreamLimits,
    ) -> Self {
        let route = transport.route(&destination, caller);
        let progress = route.progress();
        let (place, connection) = match place {
            Some((place, granted)) => {
                let connection: Connection = Box::pin(async move {
                    match granted.await {
                        Ok(()) => route.connect(AddressChoice::Next).await,
                        Err(reason) => (route, Err(reason.into())),
                    }
                });
                (Some(place), connection)
            }
            None => (None, route.connect(AddressChoice::Next)),
        };
        let leg = Leg::connecting((connection, progress), content, &limits.before_proof, now());
        Self {
            leg,
            pair,
            destination,
            route: None,
            awaited: Vec::new(),
            place,
            callback: None,
            succession: None,
            bell: None,
        }
    }

    /// Another attempt, by that candidate. While the first one is still being connected to there is nothing to give up.
    pub(in crate::run) fn retry(
        &mut self,
        candidate: AddressChoice,
        content: Content,
        limits: &StreamLimits,
    ) {
        let Some(route) = self.route.take() else { return };
        let progress = route.progress();
        let connection = (route.connect(candidate), progress);
        let leg = Leg::connecting(connection, content, &limits.before_proof, now());
        self.leg = leg.after(&mut self.leg);
    }

    /// A stanza goes out on it, if it is open and, where others wait for nothing of its own, has not more than this waiting.
    ///
    /// # Errors
    /// The stanza, and whether it would have been too many.
    pub(in crate::run) fn pass(
        &mut self,
        stanza: Bytes,
        bounds: Option<&StreamLimits>,
        now: Instant,
    ) -> Result<(), (Bytes, bool)> {
        if !matches!(self.leg.link, Link::Open(_)) {
            return Err((stanza, false));
        }
        if let Some(place) = &self.place {
            place.used(now);
        }
        let outbox = &mut self.leg.outbox;
        let over = |limits: &StreamLimits| {
            outbox.stanzas() >= limits.queue_stanzas
                || outbox.octets().saturating_add(stanza.len()) > limits.queue_octets
        };
        if bounds.is_some_and(over) {
            return Err((stanza, true));
        }
        outbox.pass(stanza);
        Ok(())
    }

    /// It waits with a key: whoever asks about that is told that it is ours. A server in public that was called is to call back.
    pub(in crate::run) fn waits(&mut self, ticket: AwaitTicket, facing: Facing, callbacks: &Arc<Callbacks>) {
        self.awaited.push(ticket);
        let called = self.leg.called.filter(|_| facing == Facing::Public);
        self.callback = called.map(|address| callbacks.expect(address.ip()));
    }

    /// It speaks for that account from now on: what it still has to deliver when it ends goes before who comes back for the account.
    pub(in crate::run) fn speaks(&mut self, account: String) {
        self.succession = Some(Succession::Speaks(account));
    }

    /// What goes out over it from now on goes behind what others of that account, which end, still have to deliver (SM-05).
    pub(in crate::run) fn goes_behind(&mut self, partings: &Partings, account: &str) {
        if let Some(over) = partings.behind(account) {
            self.succession = Some(Succession::Behind(over));
        }
    }

    /// Whether nothing may go out over it yet, because others go before.
    pub(super) fn is_behind(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Succession::Behind(over)) = &mut self.succession else { return false };
        let waits = over.as_mut().poll(cx).is_pending();
        if !waits {
            self.succession = None;
        }
        waits
    }

    /// It ends as soon as all is out.
    pub(in crate::run) fn parts(&mut self, partings: &Arc<Partings>) {
        if let Some(Succession::Speaks(account)) =
            self.succession.take_if(|own| matches!(own, Succession::Speaks(_)))
        {
            self.succession = Some(Succession::Parts { _ticket: partings.begins(account) });
        }
    }

    /// CLS-07: what came of calling that server for this pair is remembered for all who want the same.
    pub(in crate::run) fn reached(&mut self, circuits: &Circuits, outcome: Result<(), Reason>) {
        // It has asked what it had to ask, or will not any more.
        self.callback = None;
        let Destination::World { from, target, .. } = &self.destination else { return };
        match outcome {
            Ok(()) => circuits.answered(target, Some(from)),
            Err(reason) => circuits.failed(target, Some(from), reason),
        }
    }

    /// BE-01: a backend that refuses a key about which it never asked us asks somebody else, unless another cause is in sight. The
    /// domain whose backend it is, if it looks so.
    pub(in crate::run) fn asks_elsewhere(
        &self,
        remote: &Domain,
        seeking: &Seeking,
        policy: &Policy,
    ) -> Option<&Domain> {
        let Destination::Backend(hosted) = &self.destination else { return None };
        // It says itself that it does not want that domain.
        let unwanted = self.leg.detail.as_deref().is_some_and(Detail::is_ban);
        if unwanted || self.awaited.iter().any(AwaitTicket::is_asked) {
            return None;
        }
        let listed = policy.federation(hosted) == Some(Federation::Listed);
        let server = self.leg.called.map(|address| address.ip());
        seeking.is_elsewhere(&Doubt { hosted, remote, server, listed }).then_some(hosted)
    }
}

/// A client's leg among those of its account.
enum Succession {
    /// It speaks for this account.
    Speaks(String),
    /// It ends, and who comes back for the account waits for that.
    Parts { _ticket: PartingTicket },
    /// It goes behind those that end.
    Behind(Later<()>),
}

/// What a pair that stands may send.
pub(in crate::run) struct Sending {
    pub(in crate::run) valve: Valve,
    /// Its far leg has ended; couriers carry it.
    pub(in crate::run) carried: bool,
    /// Whom couriers are told it comes from, once they have carried something of it.
    pub(in crate::run) caller: Option<Arc<Caller>>,
    /// Its place in the count of its rule, and in that of the peer's registrable domain.
    pub(in crate::run) _counted: (StreamTicket, Option<ProvenSlot>),
    /// Inbound: reports of the pair take its stream (DB-69).
    pub(in crate::run) _inside: Option<InsideTicket>,
}
