//! Everything between two sockets, as one pure value.
//!
//! A [`Relay`] is one near leg (it arrived; there the gateway is the receiving entity) and the far legs it opens, one
//! for each admitted pair (there the gateway is the initiating entity). It takes inputs with a time, and gives effects;
//! it opens nothing, waits for nothing and asks no clock. `run/pump` carries the effects out.
//!
//! Two more shapes have no near leg: the *courier*, which carries stanzas that the gateway itself must deliver (a bounce,
//! or what a broken far leg left unsent), and the *verifier*, which asks an authoritative server about a dialback key.

mod absence;
mod client;
mod courier;
mod elsewhere;
mod ends;
mod event;
mod far;
mod join;
mod judged;
mod near;
mod negotiate;
mod outbound;
pub mod plan;
mod portrait;
mod refused;
mod retrust;
mod sender;

pub use courier::Load;
pub use event::{DialbackOutcome, Event, Record, Role, Said};
pub use judged::doubt;
pub use plan::{ClientDomain, Home, HostedDomain, KeysBy, StreamLimits, Takes, Timeouts};
pub use portrait::{Logged, Portrait, Standing};
pub use sender::{Sender, Words};

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::filter::Guard;
use crate::jid::Domain;
use crate::policy::{Permit, Policy};
use crate::reason::{Detail, Direction, Facing, Flow, Reason, Why};
use crate::stream::client::Mechanism;
use crate::stream::initiating::Errand;
use crate::stream::{Answer, Certificate, KeyCheck, Pair, Secured};
use crate::xml::Token;

use client::Client;
use courier::Courier;
use far::Far;
use near::Near;
use negotiate::Pending;
use outbound::Lanes;

/// The name of a far leg within its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FarId(pub u32);

/// A leg of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The leg that arrived.
    Near,
    /// A leg that we opened.
    Far(FarId),
}

/// The name of a pair on the stream of a backend, within its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u32);

/// The name of a claim within its relay: what a verification is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId(pub u32);

/// Where a far leg leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The backend of this hosted domain, on the plain network.
    Backend(Domain),
    /// The backend of this hosted domain where it takes clients, on the plain network. The connection stands in for that
    /// of the near leg, whose addresses and channel a PROXY header may tell (BE-05).
    Client(Domain),
    /// The servers that the DNS names for the target, shown the certificate of `from`.
    World {
        /// The hosted domain on whose behalf we speak.
        from: Domain,
        /// The remote domain.
        target: Domain,
        /// Who wants it.
        behalf: Behalf,
    },
}

/// On whose behalf a server in the world is called: what the world can cause must not stand in the way of our own users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Behalf {
    /// Stanzas that the gateway carries on its own: bounces, and what a broken leg left.
    Carried,
    /// A key that somebody has shown us is to be asked about.
    Claim,
    /// A backend has asked for the pair.
    Own,
}

/// What may happen to a relay. All that concerns one leg comes with its side; the rest with [`Side::Near`].
#[derive(Clone, Debug)]
pub enum Input {
    /// The framer of that leg found this.
    Token(Token),
    /// The TLS handshake asked for by [`Effect::Upgrade`] is done.
    Secured(Secured),
    /// The far leg has a connection to this address, and with direct TLS the facts of it.
    Connected(IpAddr, Option<Secured>),
    /// No candidate of the far leg's destination is left; the reason is that of the last attempt.
    Unreachable(Why),
    /// The connection of that leg ended (end of file, reset, failed handshake, write timeout). `unsent` are the stanzas
    /// handed over with [`Effect::Pass`] of which no octet, or not all, went out, oldest first.
    Gone {
        /// Why, as far as the socket knows.
        reason: Reason,
        /// The stanzas that did not go out whole.
        unsent: Vec<Bytes>,
    },
    /// An element of that leg was begun and not finished within T-stanza.
    Stalled,
    /// The pair's far outbox is over its limit and this stanza did not fit; on the near side, the answer to
    /// [`Effect::Hand`] where the courier has no room.
    Overflow(Bytes),
    /// The answer to [`Effect::Weigh`], if its sender may not send this stanza for this reason; there is none if it may.
    Refused(Bytes, Reason),
    /// One more stanza for a courier to carry.
    Queue(Load, Bytes),
    /// A report for a pair whose own stream may stand here (DB-69).
    Report(Pair, Bytes),
    /// Near: other reports wait for the place of this courier, which ends once nothing is left. Far: others wait for the place of
    /// this leg at the server behind, which closes in good order; what comes for its pair is carried.
    Yield,
    /// The answer to [`Effect::Serves`]: whether a far leg stands for any pair of this stream.
    Serves(bool),
    /// The answer to [`Effect::Verify`].
    Verified(ClaimId, Answer),
    /// The answer to [`Effect::Vouch`]: whether the key is vouched for.
    Vouched(KeyCheck, bool),
    /// The answer to [`Effect::Try`] or [`Effect::Apply`]: whether that may be tried now.
    Tried(Result<(), Reason>),
    /// A new policy; the relay is judged again.
    Policy(Arc<Policy>),
    /// The peer's certificate on that leg, judged anew by the anchors and revocation lists that hold now (CRT-12).
    Retrusted(Certificate),
    /// What does not change often has: domains, limits, dialback secrets (keys that were made with the ones before still verify,
    /// DB-13), or the time by the wall.
    Home(Arc<Home>),
    /// The time that [`Relay::deadline`] named has come.
    Expired,
    /// Orderly end: no new claims, `system-shutdown`, both streams closed.
    Drain,
    /// An operator, or the gateway itself, ends the relay for this reason; with the side of a far leg, that leg and its
    /// pair alone (DB-66).
    Close(Reason),
}

/// Which address a new attempt goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// This host and port, which the server that was reached has named; then those that the destination has.
    Elsewhere(Box<str>, u16),
    /// The next one that the destination has.
    Next,
    /// The one that the last attempt went to.
    Same,
}

/// What the core wants done, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Octets we author: headers, negotiation, errors, closing tags.
    Send(Side, Bytes),
    /// One whole stanza in canonical form, to a far leg that stands.
    Pass(FarId, Bytes),
    /// The stanza of the next effect, [`Effect::Pass`] or [`Effect::Carry`], is of this sender. It goes if the sender has not
    /// sent too much lately; else it goes nowhere, and comes back with [`Input::Refused`].
    Weigh(Sender),
    /// One whole stanza in canonical form, from the backend to the client of the near leg.
    Deliver(Bytes),
    /// A client is about to log in: may it try? Answer with [`Input::Tried`], at once or after a delay; until then nothing
    /// of the near leg is read, and the backend has not heard the account.
    Try(Attempt),
    /// A client asks for a new account: may it? Answer with [`Input::Tried`]; until then nothing of the near leg is read.
    Apply,
    /// Flush, then TLS on this leg. Octets already read in clear end the leg: [`Input::Gone`] with `EarlyOctets`.
    Upgrade(Side),
    /// A new stream on the same connection: restart the framer of this leg.
    Restart(Side),
    /// The leg is proven: from now on the framer's limits are those for proven streams.
    Widen(Side),
    /// Open this far leg.
    Connect(FarId, Destination),
    /// Close what this far leg has, and try again.
    Retry(FarId, Candidate),
    /// What came of calling that server for our pair: it speaks with us, or is not to be had for this reason (CLS-07).
    Fared(FarId, Result<(), Reason>),
    /// Ask the authoritative server of the sender domain about this key, on a connection of its own.
    Verify(ClaimId, KeyCheck),
    /// Is a far leg of ours waiting with this key, or, where that is true beside it, one of another node that shares our secret
    /// (CLU-02)? Answer with [`Input::Vouched`].
    Vouch(KeyCheck, bool),
    /// This far leg sends a key now: whoever asks about it may hear `valid`, until T-dialback after the leg is gone.
    Await(FarId, KeyCheck),
    /// The backend at this leg did not believe our key for that domain: has it ever asked about it (BE-01)?
    Doubted(FarId, Domain),
    /// The pair stands: its rates and stream count apply from now on to this far leg; none: its leg has ended, and couriers
    /// carry it.
    Admitted(Option<FarId>, Permit),
    /// Have this stanza carried over a stream for this pair (a bounce, or what a broken leg left unsent).
    Carry(Pair, Bytes),
    /// The backend of the near leg speaks for this pair from now on: its stanzas go to the courier of that pair.
    Lane(LaneId, Pair),
    /// Nothing more comes for this pair under this name.
    Unlane(LaneId),
    /// One whole stanza in canonical form, from the backend of the near leg to the courier of that pair. What finds no room
    /// comes back with [`Input::Overflow`].
    Hand(LaneId, Bytes),
    /// Tell a backend what became of its stanza, over a stream for this pair (DB-69).
    Report {
        /// Who could not be reached, and who wrote.
        pair: Pair,
        /// The hosted domain whose backend it is.
        via: Domain,
        /// The error.
        stanza: Bytes,
    },
    /// Nothing has come over the stream of a backend for a while: does a far leg stand for any pair of it? Answer with
    /// [`Input::Serves`].
    Serves,
    /// The verifier's answer, and what was in the way where that is known.
    Answer(Answer, Option<Box<Detail>>),
    /// Flush what is in the outbox, then close the leg (close_notify, FIN).
    Finish(Side),
    /// Close the leg at once; nothing more is sent.
    Cut(Side),
    /// This happened.
    Note(Event),
}

/// A login about to be tried, for the throttle (C2S-11). It holds no password and nothing made from one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The hosted domain.
    pub hosted: Domain,
    /// By what.
    pub mechanism: Mechanism,
    /// The local part as tried, in its canonical form, where the mechanism shows it.
    pub account: Option<String>,
}

/// A connection that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Which listener it came to: [`Flow::C2s`] and [`Flow::S2sIn`] from the world, [`Flow::S2sOut`] from a backend.
    pub flow: Flow,
    /// Where it came from.
    pub address: IpAddr,
    /// The facts of the channel on a direct TLS listener.
    pub secured: Option<Secured>,
    /// Random octets, used once.
    pub seed: [u8; 32],
}

/// What a relay is for.
#[derive(Clone, Debug)]
enum Shape {
    /// Carries stanzas for one pair.
    Courier(Box<Courier>),
    /// Serves a connection that arrived.
    Serving,
    /// Asks about one key.
    Verifier,
}

/// Everything between two sockets. A clone is the same relay at the same moment, for tests that try every next input.
#[derive(Clone)]
pub struct Relay {
    home: Arc<Home>,
    policy: Arc<Policy>,
    flow: Flow,
    shape: Shape,
    /// A client's relay is all in here; what follows is for servers.
    client: Option<Box<Client>>,
    /// Boxed: clients, couriers and verifiers have none.
    near: Option<Box<Near>>,
    /// Boxed: a map has room for eleven at once, and most streams have one.
    fars: BTreeMap<FarId, Box<Far>>,
    claims: BTreeMap<ClaimId, Pending>,
    guard: Guard,
    /// The pairs of a backend.
    lanes: Lanes,
    issued: u32,
    /// Words of the near leg that were refused.
    refusals: u64,
    started: Instant,
    last: Instant,
    ending: bool,
    /// What a broken leg leaves goes back to its sender, and couriers do not wait for more.
    draining: bool,
}

impl fmt::Debug for Relay {
    /// What changes; the shared snapshots are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("flow", &self.flow)
            .field("client", &self.client)
            .field("near", &self.near)
            .field("fars", &self.fars)
            .field("claims", &self.claims)
            .field("guard", &self.guard)
            .field("shape", &self.shape)
            .field("lanes", &self.lanes)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// The relay of a connection that arrived.
    pub fn new(home: Arc<Home>, policy: Arc<Policy>, arrival: Arrival, now: Instant) -> Self {
        let flow = arrival.flow;
        if flow == Flow::C2s {
            let client = Client::new(&home, &arrival, now);
            let bare = Self::bare(home, policy, flow, Shape::Serving, None, now);
            return Self { client: Some(Box::new(client)), ..bare };
        }
        let near = Near::new(&home, &arrival, now);
        Self::bare(home, policy, flow, Shape::Serving, Some(Box::new(near)), now)
    }

    /// CLS-03: the connection was accepted then, before a PROXY header or direct TLS; T-unauth runs from there.
    #[must_use]
    pub fn since(mut self, accepted: Instant) -> Self {
        self.started = accepted;
        if let Some(client) = &mut self.client {
            client.since(accepted);
        }
        self
    }

    /// A courier for this pair, and its first effects. Its stanzas come with [`Input::Queue`]; it ends when it had nothing
    /// to carry for a while. What it cannot deliver it bounces, once. `via` is the hosted domain whose backend reports go to.
    pub fn courier(
        home: Arc<Home>,
        policy: Arc<Policy>,
        pair: Pair,
        (load, via): (Load, Option<Domain>),
        now: Instant,
    ) -> (Self, Vec<Effect>) {
        let inward = load == Load::Report || home.hosts(&pair.target) && !home.hosts(&pair.sender);
        let flow = if inward { Flow::S2sIn } else { Flow::S2sOut };
        let shape = Shape::Courier(Box::new(Self::new_courier(pair, load, via)));
        let mut relay = Self::bare(home, policy, flow, shape, None, now);
        let mut out = Vec::new();
        relay.set_out(now, &mut out);
        (relay, out)
    }

    /// A relay that asks about one key and gives [`Effect::Answer`]. `facing` is the network that the authoritative
    /// server is on.
    pub fn verifier(
        home: Arc<Home>,
        policy: Arc<Policy>,
        facing: Facing,
        check: KeyCheck,
        now: Instant,
    ) -> (Self, Vec<Effect>) {
        let flow = if facing == Facing::Public { Flow::S2sOut } else { Flow::S2sIn };
        let mut relay = Self::bare(home, policy, flow, Shape::Verifier, None, now);
        let mut out = Vec::new();
        relay.open_far(Errand::Ask(check), facing, None, now, &mut out);
        (relay, out)
    }

    fn bare(
        home: Arc<Home>,
        policy: Arc<Policy>,
        flow: Flow,
        shape: Shape,
        near: Option<Box<Near>>,
        now: Instant,
    ) -> Self {
        Self {
            home,
            policy,
            flow,
            shape,
            client: None,
            near,
            fars: BTreeMap::new(),
            claims: BTreeMap::new(),
            guard: Guard::default(),
            lanes: Lanes::default(),
            issued: 0,
            refusals: 0,
            started: now,
            last: now,
            ending: false,
            draining: false,
        }
    }

    /// Something happened at `now`; what is to be done comes back, in order.
    pub fn step(&mut self, side: Side, input: Input, now: Instant) -> Vec<Effect> {
        let mut out = Vec::new();
        self.step_into(side, input, now, &mut out);
        out
    }

    /// The same, behind what is there already: whoever steps often brings room for what is to be done.
    pub fn step_into(&mut self, side: Side, input: Input, now: Instant, out: &mut Vec<Effect>) {
        if let Input::Token(token) = input {
            return self.token(side, token, now, out);
        }
        if let Some(client) = &mut self.client {
            return match input {
                Input::Home(home) => {
                    self.home = home;
                    client.rehomed(&self.home, now, out);
                }
                input => client.step(&self.home, side, input, now, out),
            };
        }
        match (side, input) {
            (Side::Near, Input::Close(reason)) => {
                self.close(reason, now, out);
                self.give_back(reason, now, out);
            }
            (Side::Far(id), Input::Close(reason)) => self.far_shut(id, reason, now, out),
            (_, Input::Drain) => {
                self.draining = true;
                self.close(Reason::Shutdown, now, out);
            }
            (_, Input::Home(home)) => {
                self.home = home;
                self.rejudge_lanes(out);
            }
            (_, Input::Expired) => self.expire(now, out),
            (_, Input::Policy(policy)) => self.rejudge(policy, now, out),
            (side, Input::Retrusted(certificate)) => self.retrusted(side, certificate, now, out),
            (_, Input::Refused(octets, reason)) => self.too_much(&octets, reason, out),
            (_, Input::Queue(load, octets)) => self.enqueue(load, octets, now, out),
            (_, Input::Report(pair, octets)) => self.report(pair, octets, out),
            (Side::Near, Input::Yield) => self.yield_asked(now, out),
            (Side::Far(id), Input::Yield) => self.far_yields(id, now, out),
            (_, Input::Serves(serves)) => self.near_serves(serves, now, out),
            (_, Input::Verified(claim, answer)) => self.verified(claim, answer, now, out),
            (_, Input::Vouched(check, known)) => self.vouched(check, known, now, out),
            // Only a client is let try.
            (_, Input::Tried(_)) => {}
            (Side::Near, input) => self.near_input(input, now, out),
            (Side::Far(id), input) => self.far_input(id, input, now, out),
        }
    }

    /// [`Input::Token`], which comes more often than anything else, on a shorter way.
    pub fn token(&mut self, side: Side, token: Token, now: Instant, out: &mut Vec<Effect>) {
        match (&mut self.client, side) {
            (Some(client), side) => client.token(&self.home, side, token, now, out),
            (None, Side::Near) => self.near_token(token, now, out),
            (None, Side::Far(id)) => self.far_token(id, token, now, out),
        }
    }

    /// When [`Input::Expired`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        if let Some(client) = &self.client {
            return client.deadline(&self.home);
        }
        let times = &self.home.timeouts;
        let near = self.near.as_ref().and_then(|near| near.deadline(self, times));
        let claims = self.claims.values().map(|pending| pending.deadline).min();
        let fars = self.fars.values().filter_map(|far| far.deadline()).min();
        let own = match self.shape {
            Shape::Serving => None,
            Shape::Courier(_) => self.courier_deadline(),
            Shape::Verifier if self.ending || self.fars.is_empty() => None,
            Shape::Verifier => Some(self.started + times.dialback),
        };
        [near, claims, fars, own].into_iter().flatten().min()
    }

    /// Whether nothing is left to do: every leg was finished or cut.
    pub fn is_done(&self) -> bool {
        if let Some(client) = &self.client {
            return client.is_done();
        }
        let waits = self.courier_of().is_some_and(Courier::is_waiting);
        self.near.as_deref().is_none_or(Near::is_over) && self.fars.is_empty() && !waits
    }

    /// Whether octets of that leg may be read: not while a ruling decides what they mean.
    pub fn wants_read(&self, side: Side) -> bool {
        if let Some(client) = &self.client {
            return client.wants_read(side);
        }
        match side {
            // L-inside-pending: what is more waits.
            Side::Near
                if self.flow == Flow::S2sOut && self.claims.len() >= self.home.limits.inside_pending =>
            {
                false
            }
            Side::Near => self.near.as_deref().is_some_and(Near::wants_read),
            Side::Far(id) => self.fars.contains_key(&id),
        }
    }

    /// Whether it is a client's, and its server has said who that is.
    pub fn is_bound(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.is_bound())
    }

    /// The certificate that the other end of that leg showed.
    pub fn certificate(&self, side: Side) -> Option<&Certificate> {
        self.channel(side).and_then(|secured| secured.certificate.as_ref())
    }

    /// The channel of a leg, once TLS stands there.
    pub fn channel(&self, side: Side) -> Option<&Secured> {
        match side {
            Side::Near if self.client.is_some() => self.client.as_ref().and_then(|client| client.secured()),
            Side::Near => self.near.as_deref().and_then(Near::secured),
            Side::Far(id) => self.fars.get(&id).and_then(|far| far.secured()),
        }
    }

    /// Octets and number of a courier's stanzas that wait for its leg.
    pub fn queued(&self) -> (usize, usize) {
        self.courier_of().map_or((0, 0), |courier| (courier.octets, courier.queue.len()))
    }

    /// Whether it is a courier that could not deliver.
    pub fn has_given_up(&self) -> bool {
        matches!(self.shape, Shape::Courier(_)) && self.ending
    }

    /// Which flow it belongs to.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// The pairs that stand.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    fn direction(&self) -> Direction {
        plan::direction(self.flow)
    }

    fn issue(&mut self) -> u32 {
        self.issued = self.issued.wrapping_add(1);
        self.issued
    }
}
