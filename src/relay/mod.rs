//! Everything between two sockets, as one pure value.
//!
//! A [`Relay`] is one near leg (it arrived; there the gateway is the receiving entity) and the far legs it opens, one
//! for each admitted pair (there the gateway is the initiating entity). It takes inputs with a time, and gives effects;
//! it opens nothing, waits for nothing and asks no clock. `run/pump` carries the effects out.
//!
//! Two more shapes have no near leg: the *courier*, which carries stanzas that the gateway itself must deliver (a bounce,
//! or what a broken far leg left unsent), and the *verifier*, which asks an authoritative server about a dialback key.

mod event;

pub use event::{DialbackOutcome, Event, Record, Role, Said};

use bytes::Bytes;

use crate::jid::Domain;
use crate::policy::{Permit, Policy};
use crate::reason::Reason;
use crate::stream::{Answer, KeyCheck, Pair, Secured};
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

/// The name of a claim within its relay: what a verification is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId(pub u32);

/// Where a far leg leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The backend of this hosted domain, on the plain network.
    Backend(Domain),
    /// The servers that the DNS names for the target, shown the certificate of `from`.
    World {
        /// The hosted domain on whose behalf we speak.
        from: Domain,
        /// The remote domain.
        target: Domain,
    },
}

/// What may happen to a relay. All that concerns one leg comes with its side; the rest with [`Side::Near`].
#[derive(Clone, Debug)]
pub enum Input {
    /// The framer of that leg found this.
    Token(Token),
    /// The TLS handshake asked for by [`Effect::Upgrade`] is done.
    Secured(Secured),
    /// The far leg has a connection, and with direct TLS the facts of it.
    Connected(Option<Secured>),
    /// No candidate of the far leg's destination is left; the reason is that of the last attempt.
    Unreachable(Reason),
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
    /// The pair's far outbox is over its limit and this stanza did not fit.
    Overflow(Bytes),
    /// The answer to [`Effect::Verify`].
    Verified(ClaimId, Answer),
    /// The answer to [`Effect::Vouch`]: whether a live far leg of ours waits with that key.
    Vouched(KeyCheck, bool),
    /// A new policy; the relay is judged again.
    Policy(std::sync::Arc<Policy>),
    /// The time that [`Relay::deadline`] named has come.
    Expired,
    /// Orderly end: no new claims, `system-shutdown`, both streams closed.
    Drain,
    /// An operator, or the gateway itself, ends the relay for this reason.
    Close(Reason),
}

/// What the core wants done, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Octets we author: headers, negotiation, errors, closing tags.
    Send(Side, Bytes),
    /// One whole stanza in canonical form, to a far leg that stands.
    Pass(FarId, Bytes),
    /// Flush, then TLS on this leg. Octets already read in clear end the leg: [`Input::Gone`] with `EarlyOctets`.
    Upgrade(Side),
    /// A new stream on the same connection: restart the framer of this leg.
    Restart(Side),
    /// The leg is proven: from now on the framer's limits are those for proven streams.
    Widen(Side),
    /// Open this far leg.
    Connect(FarId, Destination),
    /// Close what this far leg has, and try the next candidate of its destination.
    Retry(FarId),
    /// Ask the authoritative server of the sender domain about this key, on a connection of its own.
    Verify(ClaimId, KeyCheck),
    /// Is a far leg of ours waiting with this key? Answer with [`Input::Vouched`].
    Vouch(KeyCheck),
    /// This far leg sends a key now: whoever asks about it may hear `valid`, until T-dialback after the leg is gone.
    Await(FarId, KeyCheck),
    /// The pair stands: its rates and stream count apply from now on to this far leg.
    Admitted(FarId, Permit),
    /// Have this stanza carried over a stream for this pair (a bounce, or what a broken leg left unsent).
    Carry(Pair, Bytes),
    /// The verifier's answer.
    Answer(Answer),
    /// Flush what is in the outbox, then close the leg (close_notify, FIN).
    Finish(Side),
    /// Close the leg at once; nothing more is sent.
    Cut(Side),
    /// This happened.
    Note(Event),
}
