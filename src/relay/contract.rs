//! What goes into a relay and what comes out: the whole of what pump and core say to each other.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::event::Event;
use super::plan::RelayParams;
use super::sender::Passing;
use crate::jid::Domain;
use crate::policy::{Permit, Policy, Proxy};
use crate::reason::{Detail, Flow, Reason, Why};
use crate::stream::client::Mechanism;
use crate::stream::evidence::{Evidence, Sought};
use crate::stream::{Certificate, KeyAnswer, KeyCheck, Pair, Secured};
use crate::xml::Token;

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
        /// Whether a file that the remote domain publishes by HTTPS would be taken as a proof of its server.
        posh: bool,
        /// The proxy that the rule of the pair names.
        via: Option<Arc<Proxy>>,
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
    /// The sender of this [`Passing`] stanza may not send it, for this reason.
    Refused(Bytes, Reason),
    /// One more stanza for a courier to carry.
    Queue(Load, Bytes),
    /// A report for a pair whose own stream may stand here (DB-69).
    Report(Pair, Bytes),
    /// A stanza of a backend for a pair whose way back over this stream is open ([`Effect::WayBack`]).
    Back(Pair, Bytes),
    /// No more can be counted for this pair, which was admitted without a leg of its own: it is taken back for this reason. Of a
    /// courier's own pair: those that have sent what it carries may not any more.
    Withdraw(Pair, Reason),
    /// Near: other reports wait for the place of this courier, which ends once nothing is left. Far: others wait for the place of
    /// this leg at the server behind, which closes in good order; what comes for its pair is carried.
    Yield,
    /// Near, of a courier: the domain that it carries to has shown itself. An attempt of which nothing is heard makes room for another
    /// (CLS-07).
    Alive,
    /// The answer to [`Effect::Serves`]: whether a far leg stands for any pair of this stream.
    Serves(bool),
    /// The answer to [`Effect::Resume`]: what its stream has left and whose that was, if there is one.
    Resumed(Option<(Left, Domain)>),
    /// Near: somebody goes on with the session of this stream, which broke, and had taken so many of what went back over it.
    GoneOn(u32),
    /// Near: nobody is likely to go on with that session any more.
    Forsaken,
    /// Near: newer stanzas of the same peer wait until all is in that this relay has of it, and the backend takes that too slowly: what
    /// has not gone in comes back.
    Overtaken,
    /// The answer to [`Effect::Settle`].
    Settled(u32),
    /// The answer to [`Effect::Verify`].
    Verified(ClaimId, KeyAnswer),
    /// The answer to [`Effect::Inquire`].
    Inquired(Evidence),
    /// The answer to [`Effect::Vouch`]: whether the key is vouched for.
    Vouched(KeyCheck, bool),
    /// The answer to [`Effect::MayLogin`] or [`Effect::MayRegister`]: whether that may be tried now.
    Tried(Result<(), Reason>),
    /// A new policy; the relay is judged again.
    Policy(Arc<Policy>),
    /// The peer's certificate on that leg, judged anew by the anchors and revocation lists that hold now (CRT-12).
    Retrusted(Certificate),
    /// What does not change often has: domains, limits, dialback secrets (keys that were made with the ones before still verify,
    /// DB-13), or the time by the wall.
    RelayParams(Arc<RelayParams>),
    /// The time that [`super::Relay::deadline`] named has come.
    Expired,
    /// Orderly end: no new claims, `system-shutdown`, both streams closed.
    Drain,
    /// An operator, or the gateway itself, ends the relay for this reason; with the side of a far leg, that leg and its
    /// pair alone (DB-66).
    Close(Reason),
}

/// Which address a new attempt goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddressChoice {
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
    /// A stanza, to a far leg that stands.
    Pass(FarId, Passing),
    /// The stanzas of the near leg are counted from here on (SM-01); with the name under which the stream may be gone on with, and the
    /// domain that may.
    Enlist(Option<(String, Domain)>),
    /// They are counted no more: the connection broke and has left this, or the stream is over.
    Leave(Option<Left>),
    /// A stream of this name, of one of these domains, is to be gone on with here, whose peer has taken so many of what went back over it.
    /// Answer with [`Input::Resumed`].
    Resume(String, u32, Vec<Domain>),
    /// Answer with [`Input::Settled`] as soon as all that was handed over before this is taken behind.
    Settle(u32),
    /// Of the last so many stanzas that this leg was given goes nowhere what has not begun to go out: they have come back.
    Recall(Side, usize),
    /// What waits to go in for this pair goes no further, on whatever leg, also on one that is about to close: it comes back with
    /// [`Input::Refused`].
    Withdraw(Pair, Reason),
    /// Stanzas of this pair, the inverse of one that stands, may come with [`Input::Back`] from now on, or may no more.
    WayBack(Pair, bool),
    /// One whole stanza of this pair in canonical form, back over the near leg, whose peer has agreed to that.
    Back(Pair, Bytes),
    /// The way back was no way for this stanza: it takes another, before all that still waits for its pair.
    Onward(Pair, Bytes),
    /// The same of some that are known not to have been taken, in their order: before all others that have come back from this relay.
    Again(Vec<(Pair, Bytes)>),
    /// A stanza that the peer has sent back over this far leg; couriers carry it to the backend.
    Inward(FarId, Pair, Passing),
    /// One whole stanza in canonical form, from the backend to the client of the near leg.
    Deliver(Bytes),
    /// A client is about to log in: may it try? Answer with [`Input::Tried`], at once or after a delay; until then nothing
    /// of the near leg is read, and the backend has not heard the account.
    MayLogin(LoginAttempt),
    /// The client of the near leg speaks for this account over this far leg from now on: what the leg still has to deliver when it ends
    /// goes before who comes back for the account ([`Effect::Behind`]).
    Speaks(FarId, String),
    /// What goes to this far leg from now on goes behind what others that end still have to deliver of this account (SM-05).
    Behind(FarId, String),
    /// A client asks for a new account: may it? Answer with [`Input::Tried`]; until then nothing of the near leg is read.
    MayRegister,
    /// Flush, then TLS on this leg. Octets already read in clear end the leg: [`Input::Gone`] with `EarlyOctets`.
    Upgrade(Side),
    /// A new stream on the same connection: restart the framer of this leg.
    Restart(Side),
    /// The leg is proven: its framer has the limits of proven streams from now on, its outbox the rates of them, and where it leads to a server
    /// behind, its place there stands and the candidates that are left are given up.
    Widen(Side),
    /// The near leg holds its place no more among the unproven.
    LeaveUnproven,
    /// The near leg takes a place among the clients of its address. Where there is none, [`Input::Close`] follows.
    EnterClients,
    /// Where this far leg was called, and the channel to it, is kept until its pair ends: it tells then how the server was proven.
    Remember(FarId),
    /// Somebody at the inside listener speaks for this domain (BE-01).
    Found(Domain),
    /// Open this far leg.
    Connect(FarId, Destination),
    /// Close what this far leg has, and try again.
    Retry(FarId, AddressChoice),
    /// What came of calling that server for our pair: it speaks with us, or is not to be had for this reason (CLS-07).
    Reached(FarId, Result<(), Reason>),
    /// Ask the authoritative server of the sender domain about this key, on a connection of its own.
    Verify(ClaimId, KeyCheck),
    /// What does the sender of this pair publish about the certificate that the near leg shows? Answer with [`Input::Inquired`]; until
    /// then nothing of the near leg is read, or a claim waits.
    Inquire(Pair, Sought),
    /// Is a far leg of ours waiting with this key, or, where that is true beside it, one of another node that shares our secret
    /// (CLU-02)? Answer with [`Input::Vouched`].
    Vouch(KeyCheck, bool),
    /// This far leg sends a key now: whoever asks about it may hear `valid`, until T-dialback after the leg is gone.
    Await(FarId, KeyCheck),
    /// The backend at this leg did not believe our key for that domain: has it ever asked about it (BE-01)?
    KeyRejected(FarId, Domain),
    /// The pair stands: its rates and stream count apply from now on to this far leg; none: it has no leg of its own, for that has
    /// ended, or the pair is the inverse of one that has a leg.
    Admitted(Option<FarId>, Permit),
    /// Have this stanza carried over a stream for this pair (a bounce, or what a broken leg left unsent).
    Carry(Pair, Passing),
    /// The backend of the near leg speaks for this pair from now on: its stanzas go to the courier of that pair.
    OpenLane(LaneId, Pair),
    /// Nothing more comes for this pair under this name.
    CloseLane(LaneId),
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
    Answer(KeyAnswer, Option<Box<Detail>>),
    /// Flush what is in the outbox, then close the leg (close_notify, FIN).
    Finish(Side),
    /// Close the leg at once; nothing more is sent.
    Cut(Side),
    /// This happened.
    Note(Event),
}

/// What is left of a counted stream that broke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    /// So many stanzas of the peer had been taken.
    pub taken: u32,
    /// So many had gone back to it.
    pub sent: u32,
    /// So many of those it had not acknowledged.
    pub open: u32,
}

impl Left {
    /// Nothing has gone back.
    pub fn taken(taken: u32) -> Self {
        Self { taken, ..Self::default() }
    }
}

/// A login about to be tried, for the throttle (C2S-11). It holds no password and nothing made from one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoginAttempt {
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

/// What a courier carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// What a remote server sends for a pair that stands and has no stream of its own to the server behind any more: it broke, or
    /// gave way to others.
    Admitted,
    /// What the gateway itself must deliver: a bounce.
    Carried,
    /// What a backend sends.
    Own,
    /// An error that the gateway wrote about a stanza of the backend that it goes to.
    Report,
}

impl Load {
    /// Whether others in the world cause it: bounded by L-queue. What is a backend's is bounded by octets alone.
    pub const fn is_of_the_world(self) -> bool {
        matches!(self, Self::Admitted | Self::Carried)
    }
}
