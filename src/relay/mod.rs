//! Everything between two sockets, as one pure value.
//!
//! A [`Relay`] takes inputs with a time, and gives effects; it opens nothing, waits for nothing and asks no clock. `run/pump`
//! carries the effects out. There are five uses, each in a file of its own, and here is only which is meant:
//!
//! | use | near leg | far legs |
//! | --- | --- | --- |
//! | `inbound` | a remote server | one to a backend for each pair that it has proven |
//! | `outbound` | a backend | none: couriers carry what it sends |
//! | `client` | a client | one to its server |
//! | `courier` | none | one, for the stanzas of one pair |
//! | `verifier` | none | one, for a question about a dialback key |
//!
//! A leg (`near`, `far`) runs its machine and tells what came of each step; it never calls the relay that has it.

mod back;
mod beside;
mod claims;
mod client;
mod contract;
mod courier;
mod event;
mod far;
pub mod fixed;
mod inbound;
mod incoming;
mod judge;
mod leg;
mod life;
mod near;
mod offer;
mod origin;
mod outbound;
mod patched;
pub mod plan;
mod sender;
mod snapshot;
mod turn;
mod turned;
mod verifier;

pub use contract::{
    AddressChoice, Arrival, Behalf, ClaimId, Destination, Effect, FarId, Input, LaneId, Left, Load,
    LoginAttempt, Side,
};
pub use event::{DialbackOutcome, Event, ManagementOutcome, Record, Role, Said, Stroke, Withheld};
pub use judge::{doubt, doubt_in_full, doubts, shown_to};
pub use plan::{ClientDomain, HostedDomain, KeysBy, RelayParams, StreamLimits, Takes, Timeouts};
pub use sender::{AddressText, HeldStanza, Passing, Sender};
pub use snapshot::{CountedPair, EstablishedPair, Logged, RelaySnapshot, Under};

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use self::client::Client;
use self::courier::Courier;
use self::inbound::Inbound;
use self::near::HasNear as _;
use self::outbound::Outbound;
use self::turn::Turn;
use self::verifier::Verifier;
use crate::filter::{Admitted, Guard};
use crate::jid::Domain;
use crate::policy::{Policy, RuleName};
use crate::reason::{Facing, Flow};
use crate::stream::{Certificate, KeyCheck, Method, Pair, Secured};
use crate::xml::Token;

/// The guard of relays for which no pair can stand.
static NOBODY: Guard = Guard::EMPTY;

/// Everything between two sockets. A clone is the same relay at the same moment, for tests that try every next input.
#[derive(Clone)]
pub struct Relay {
    relays: Arc<RelayParams>,
    policy: Arc<Policy>,
    shape: Shape,
}

/// What a relay is for. Boxed, for one is many times as large as another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shape {
    /// Serves a client.
    Client(Box<Client>),
    /// Carries stanzas for one pair.
    Courier(Box<Courier>),
    /// Serves a remote server.
    Inbound(Box<Inbound>),
    /// Serves a backend.
    Outbound(Box<Outbound>),
    /// Asks about one key.
    Verifier(Box<Verifier>),
}

/// Params and policies are swapped and never edited, so those of two equal relays are the very same.
impl PartialEq for Relay {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.relays, &other.relays)
            && Arc::ptr_eq(&self.policy, &other.policy)
            && self.shape == other.shape
    }
}

impl Eq for Relay {}

impl Hash for Relay {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.relays), Arc::as_ptr(&self.policy)).hash(state);
        self.shape.hash(state);
    }
}

impl fmt::Debug for Relay {
    /// What changes; the shared snapshots are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Relay {
    /// The relay of a connection that arrived.
    pub fn new(relays: Arc<RelayParams>, policy: Arc<Policy>, arrival: Arrival, now: Instant) -> Self {
        let shape = match arrival.flow {
            Flow::C2s => Shape::Client(Box::new(Client::new(&relays, &arrival, now))),
            Flow::S2sIn => Shape::Inbound(Box::new(Inbound::new(&relays, &arrival, now))),
            Flow::S2sOut => Shape::Outbound(Box::new(Outbound::new(&relays, &arrival, now))),
        };
        Self { relays, policy, shape }
    }

    /// CLS-03: the connection was accepted then, before a PROXY header or direct TLS; T-unauth runs from there.
    #[must_use]
    pub fn since(mut self, accepted: Instant) -> Self {
        match &mut self.shape {
            Shape::Client(client) => client.since(accepted),
            Shape::Inbound(inbound) => inbound.near_mut().started = accepted,
            Shape::Outbound(outbound) => outbound.near_mut().started = accepted,
            Shape::Courier(_) | Shape::Verifier(_) => {}
        }
        self
    }

    /// A courier for this pair, and its first effects. Its stanzas come with [`Input::Queue`]; it ends when it had nothing
    /// to carry for a while. What it cannot deliver it bounces, once. `via` is the hosted domain whose backend reports go to.
    pub fn courier(
        relays: Arc<RelayParams>,
        policy: Arc<Policy>,
        pair: Pair,
        (load, via): (Load, Option<Domain>),
        now: Instant,
    ) -> (Self, Vec<Effect>) {
        let mut out = Vec::new();
        let courier = Courier::new(pair, load, via, &mut Turn::new(&relays, &policy, now, &mut out));
        (Self { relays, policy, shape: Shape::Courier(Box::new(courier)) }, out)
    }

    /// A relay that asks about one key and gives [`Effect::Answer`]. `facing` is the network that the authoritative
    /// server is on; `since` is when the claim came, whose T-dialback the answer must not outlast.
    pub fn verifier(
        relays: Arc<RelayParams>,
        policy: Arc<Policy>,
        facing: Facing,
        check: KeyCheck,
        since: Instant,
    ) -> (Self, Vec<Effect>) {
        let mut out = Vec::new();
        let verifier = Verifier::new(facing, check, &mut Turn::new(&relays, &policy, since, &mut out));
        (Self { relays, policy, shape: Shape::Verifier(Box::new(verifier)) }, out)
    }

    /// Something happened at `now`; what is to be done comes back, in order.
    pub fn step(&mut self, side: Side, input: Input, now: Instant) -> Vec<Effect> {
        // A stanza passes, and that is noted.
        let mut out = Vec::with_capacity(2);
        self.step_into(side, input, now, &mut out);
        out
    }

    /// The same, behind what is there already: whoever steps often brings room for what is to be done.
    pub fn step_into(&mut self, side: Side, input: Input, now: Instant, out: &mut Vec<Effect>) {
        if let Input::Token(token) = input {
            return self.token(side, token, now, out);
        }
        if let Input::RelayParams(relays) = &input {
            self.relays.clone_from(relays);
        }
        if let Input::Policy(policy) = &input {
            self.policy.clone_from(policy);
        }
        let mut turn = Turn::new(&self.relays, &self.policy, now, out);
        match &mut self.shape {
            Shape::Client(client) => client.step(side, input, &mut turn),
            Shape::Courier(courier) => courier.step(side, input, &mut turn),
            Shape::Inbound(inbound) => inbound.step(side, input, &mut turn),
            Shape::Outbound(outbound) => outbound.step(input, &mut turn),
            Shape::Verifier(verifier) => verifier.step(side, input, &mut turn),
        }
    }

    /// [`Input::Token`], which comes more often than anything else, on a shorter way.
    pub fn token(&mut self, side: Side, token: Token, now: Instant, out: &mut Vec<Effect>) {
        let mut turn = Turn::new(&self.relays, &self.policy, now, out);
        match &mut self.shape {
            Shape::Client(client) => client.token(side, token, &mut turn),
            Shape::Courier(courier) => courier.token(side, token, &mut turn),
            Shape::Inbound(inbound) => inbound.token(side, token, &mut turn),
            Shape::Outbound(outbound) => outbound.token(token, &mut turn),
            Shape::Verifier(verifier) => verifier.token(side, token, &mut turn),
        }
    }

    /// When [`Input::Expired`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.shape {
            Shape::Client(client) => client.deadline(&self.relays),
            Shape::Courier(courier) => courier.deadline(&self.relays),
            Shape::Inbound(inbound) => inbound.deadline(&self.relays),
            Shape::Outbound(outbound) => outbound.deadline(&self.relays),
            Shape::Verifier(verifier) => verifier.deadline(&self.relays),
        }
    }

    /// Whether nothing is left to do: every leg was finished or cut.
    pub fn is_done(&self) -> bool {
        match &self.shape {
            Shape::Client(client) => client.is_done(),
            Shape::Courier(courier) => courier.is_done(),
            Shape::Inbound(inbound) => inbound.is_done(),
            Shape::Outbound(outbound) => outbound.is_done(),
            Shape::Verifier(verifier) => verifier.is_done(),
        }
    }

    /// Whether octets of that leg may be read: not while a ruling decides what they mean.
    pub fn wants_read(&self, side: Side) -> bool {
        match (&self.shape, side) {
            (Shape::Client(client), side) => client.wants_read(side),
            (Shape::Inbound(inbound), side) => inbound.wants_read(side),
            (Shape::Outbound(outbound), Side::Near) => outbound.wants_read(&self.relays),
            (Shape::Courier(courier), Side::Far(id)) => courier.has(id),
            (Shape::Verifier(verifier), Side::Far(id)) => verifier.has(id),
            (Shape::Outbound(_), Side::Far(_)) | (Shape::Courier(_) | Shape::Verifier(_), Side::Near) => {
                false
            }
        }
    }

    /// Whether stanzas for its pairs that wait to go back go on waiting although its near leg is no more.
    pub fn holds_back(&self) -> bool {
        matches!(&self.shape, Shape::Inbound(inbound) if inbound.holds_back())
    }

    /// Where it is counted what goes back over the near leg: whether there is room for more.
    pub fn room_back(&self) -> Option<bool> {
        match &self.shape {
            Shape::Inbound(inbound) => inbound.room_back(&self.relays),
            Shape::Client(_) | Shape::Courier(_) | Shape::Outbound(_) | Shape::Verifier(_) => None,
        }
    }

    /// Octets and number of what has gone back over the near leg and may have to go once more: the peer counts it and has not
    /// acknowledged it.
    pub fn kept_back(&self) -> (usize, usize) {
        match &self.shape {
            Shape::Inbound(inbound) => inbound.kept_back(),
            Shape::Client(_) | Shape::Courier(_) | Shape::Outbound(_) | Shape::Verifier(_) => (0, 0),
        }
    }

    /// Whether it is a client's, and its server has said who that is.
    pub fn is_bound(&self) -> bool {
        matches!(&self.shape, Shape::Client(client) if client.is_bound())
    }

    /// The certificate that the other end of that leg showed.
    pub fn certificate(&self, side: Side) -> Option<&Certificate> {
        self.channel(side).and_then(|secured| secured.certificate.as_ref())
    }

    /// The channel of a leg, once TLS stands there.
    pub fn channel(&self, side: Side) -> Option<&Secured> {
        match (&self.shape, side) {
            (Shape::Client(client), Side::Near) => client.secured(),
            (Shape::Inbound(inbound), side) => inbound.channel(side),
            (Shape::Outbound(outbound), Side::Near) => outbound.near().secured(),
            (Shape::Courier(courier), Side::Far(id)) if courier.has(id) => courier.channel(),
            (Shape::Verifier(verifier), Side::Far(id)) if verifier.has(id) => verifier.channel(),
            (Shape::Client(_) | Shape::Outbound(_), Side::Far(_))
            | (Shape::Courier(_) | Shape::Verifier(_), Side::Near | Side::Far(_)) => None,
        }
    }

    /// The pair that this far leg speaks for; none where it only asks.
    pub fn speaks_for(&self, id: FarId) -> Option<&Pair> {
        match &self.shape {
            Shape::Courier(courier) => courier.speaks_for(id),
            Shape::Inbound(inbound) => inbound.speaks_for(id),
            Shape::Client(_) | Shape::Outbound(_) | Shape::Verifier(_) => None,
        }
    }

    /// What was verified of whom this far leg speaks for, while its pair is on its way: the domain, how, and the rule by which it
    /// may, as the policy has it now. Only remote servers that have called are known so.
    pub fn introduced(&self, id: FarId) -> Option<(Domain, Method, RuleName)> {
        match &self.shape {
            Shape::Inbound(inbound) => inbound.introduced(id, &self.policy),
            Shape::Client(_) | Shape::Courier(_) | Shape::Outbound(_) | Shape::Verifier(_) => None,
        }
    }

    /// What was verified of whoever sends stanzas of this pair into the gateway, once they may, as [`Self::introduced`].
    pub fn brings(&self, pair: &Pair) -> Option<(Domain, Method, RuleName)> {
        match &self.shape {
            Shape::Inbound(inbound) => inbound.brings(pair),
            Shape::Courier(courier) => {
                courier.back().pairs().iter().find(|back| back.pair() == pair).map(Admitted::introduction)
            }
            Shape::Client(_) | Shape::Outbound(_) | Shape::Verifier(_) => None,
        }
    }

    /// The pair whose stanzas a courier carries.
    pub fn carries(&self) -> Option<&Pair> {
        match &self.shape {
            Shape::Courier(courier) => Some(courier.pair()),
            Shape::Client(_) | Shape::Inbound(_) | Shape::Outbound(_) | Shape::Verifier(_) => None,
        }
    }

    /// Octets and number of a courier's stanzas that wait for its leg.
    pub fn queued(&self) -> (usize, usize) {
        match &self.shape {
            Shape::Courier(courier) => courier.queued(),
            Shape::Client(_) | Shape::Inbound(_) | Shape::Outbound(_) | Shape::Verifier(_) => (0, 0),
        }
    }

    /// Whether it is a courier that could not deliver.
    pub fn has_given_up(&self) -> bool {
        matches!(&self.shape, Shape::Courier(courier) if courier.has_given_up())
    }

    /// The pairs that take the way back on a stream that goes both ways: they travel against its flow (SM-08).
    pub fn back(&self) -> &Guard {
        match &self.shape {
            Shape::Courier(courier) => courier.back(),
            Shape::Inbound(inbound) => inbound.back(),
            Shape::Client(_) | Shape::Outbound(_) | Shape::Verifier(_) => &NOBODY,
        }
    }

    /// Which flow it belongs to.
    pub fn flow(&self) -> Flow {
        match &self.shape {
            Shape::Client(_) => Flow::C2s,
            Shape::Courier(courier) => courier.flow(),
            Shape::Inbound(_) => Flow::S2sIn,
            Shape::Outbound(_) => Flow::S2sOut,
            Shape::Verifier(verifier) => verifier.flow(),
        }
    }

    /// The pairs that stand.
    pub fn guard(&self) -> &Guard {
        match &self.shape {
            Shape::Courier(courier) => courier.guard(),
            Shape::Inbound(inbound) => inbound.guard(),
            Shape::Client(_) | Shape::Outbound(_) | Shape::Verifier(_) => &NOBODY,
        }
    }
}
