//! Moves octets, keeps time, and carries out what the relays want; decides nothing.
//!
//! One relay is one task ([`pump`]). Around it stand what a relay can ask for: [`verifier`] (ask an authoritative server
//! about a key), [`courier`] (deliver a stanza over a stream of its own), [`registry`] (who lives, which keys are awaited,
//! the policy in force) and [`observe`] (what happened, as numbers, lines and records). Sockets, TLS and the DNS come in
//! through [`Transport`], so that a relay runs the same over sockets and over pipes.

pub mod alone;
pub mod audit;
pub mod awaited;
pub mod backends;
pub mod cargo;
pub mod chain;
pub mod checkup;
pub mod circuit;
pub mod courier;
mod effects;
mod event_context;
mod failure;
pub mod fellows;
pub mod fetch;
pub mod health;
pub mod inbox;
mod io;
pub mod kept;
mod leg;
mod misnamed;
pub mod observe;
mod outbox;
pub mod parting;
pub mod posh;
mod progress;
pub mod pump;
pub mod quarantine;
pub mod refusals;
pub mod registry;
pub mod remembered;
pub mod seeking;
pub mod seldom;
pub mod sessions;
pub mod setups;
pub mod shadow;
pub mod shares;
pub mod strays;
pub mod used;
pub mod verifier;
pub mod ways;
pub mod websocket;
pub mod workers;
pub mod world;

pub use failure::Failure;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::io::{BoxIo, Io};
pub use self::progress::{ConnectStep, Progress};
use self::setups::SetUp;
use crate::jid::Domain;
use crate::limit::{
    Callbacks, Handshakes, Logins, Proven, Rates, Registrations, Senders, Streams, TurnParams, Unproven,
};
use crate::metrics::{Limit, Metrics};
use crate::net::proxy;
use crate::policy::Proxy;
use crate::reason::{Flow, Reason};
use crate::relay::plan::RelayParams;
use crate::relay::{AddressChoice, Destination, fixed};
use crate::stream::dane::Published;
use crate::stream::evidence::{Evidence, Sought};
use crate::stream::{Certificate, Pair, Secured};

/// A connection that a far leg has got.
#[derive(Debug)]
pub struct Connected {
    /// The octets.
    pub io: BoxIo,
    /// The address that answered.
    pub address: SocketAddr,
    /// The address of ours that it leads to, as far as it is known.
    pub local: Option<SocketAddr>,
    /// The facts of the channel, with direct TLS.
    pub secured: Option<Secured>,
    /// What the DNS says of its certificate under signatures.
    pub published: Arc<Published>,
    /// Its place among those that are set up with that address, where they have places.
    pub set_up: Option<SetUp>,
}

/// Something that will be.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What comes of a handshake.
pub type Handshake = Later<Result<(BoxIo, Secured), Failure>>;

/// Sockets, TLS and the DNS, as far as a relay needs them.
pub trait Transport: Send + Sync {
    /// TLS as server on this transport, of a connection of this flow. `named` is the stream's `to`, for those who send no
    /// SNI (TLS-16); `peer` is who called, whose turn it must be.
    fn secure_near(&self, io: BoxIo, flow: Flow, named: Option<Domain>, peer: Option<IpAddr>) -> Handshake;

    /// TLS as client on this transport.
    fn secure_far(&self, io: BoxIo, towards: Towards) -> Handshake;

    /// What the sender of this pair publishes about a certificate that its server shows, by the proxy of its rule if that names one. It
    /// takes no longer than a few seconds.
    fn inquire(
        &self,
        pair: Pair,
        shown: Certificate,
        sought: Sought,
        via: Option<Arc<Proxy>>,
    ) -> Later<Evidence>;

    /// The candidates of a destination, in the order to try them. `caller` is whom the connection stands in for, if it
    /// stands in for one.
    fn route(&self, destination: &Destination, caller: Option<Arc<Caller>>) -> Box<dyn RemainingCandidates>;

    /// This remote domain is there, or is to be looked for anew: that it was not found is forgotten.
    fn look_anew(&self, domain: &Domain);
}

/// Towards whom TLS is begun as client.
#[derive(Clone, Debug)]
pub struct Towards {
    /// The hosted domain, whose certificate is shown.
    pub from: Domain,
    /// The remote domain.
    pub target: Domain,
    /// What the DNS says of its servers.
    pub published: Arc<Published>,
    /// Whether a file that the domain publishes would be a proof.
    pub posh: bool,
    /// The proxy that the rule of the pair names.
    pub via: Option<Arc<Proxy>>,
}

/// The connection of a client or of a remote server, as a PROXY header tells it to the backend (BE-05).
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where it comes from, as far as that is known.
    pub from: Option<IpAddr>,
    /// Who sends, and the address of ours where that arrives.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// The name of the connection in our logs.
    pub name: String,
    /// Its channel.
    pub secured: Option<Secured>,
    /// What was verified of it.
    pub facts: Option<proxy::ProvenPeer>,
}

/// The candidates that are left of a destination.
pub trait RemainingCandidates: Send {
    /// Connects to the next candidate that takes a connection, or once more to the one that took the last; the reason
    /// of the last failure when none is left.
    fn connect(self: Box<Self>, candidate: AddressChoice) -> Connection;

    /// How far the connection has come that is made, for whoever gives up waiting for it; none where that is not told.
    fn progress(&self) -> Option<Progress> {
        None
    }
}

/// What comes of a try to connect, and the candidates that are left after it.
pub type Connection = Later<(Box<dyn RemainingCandidates>, Result<Connected, Failure>)>;

/// Times and counts of the engine room, beside those that the relays know themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// T-first-byte: from accept to the first octet.
    pub first_byte: Duration,
    /// T-stanza: from the first octet of an element to its last; also how long a side may take no octets.
    pub stanza: Duration,
    /// T-keepalive: a proven leg on which we said nothing for so long gets a space, so that a dead connection is found.
    pub keepalive: Duration,
    /// L-preauth-total: octets that a connection may bring before a pair is proven.
    pub unproven_octets: usize,
    /// Verifications of unproven peers' keys under way (LIM-06). Each may hold a socket, and a lookup of those that the resolver has
    /// for them.
    pub verifications: TurnParams,
    /// Pairs that are served at one time by couriers that others in the world have caused.
    pub couriers: usize,
    /// L-inside-queue: octets that all backends together may have waiting.
    pub inside_octets: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(5),
            stanza: Duration::from_secs(120),
            keepalive: Duration::from_secs(300),
            unproven_octets: 64 * 1024,
            verifications: TurnParams::default(),
            couriers: fixed::COURIERS,
            inside_octets: 256 << 20,
        }
    }
}

/// What every running relay leans on. A reload makes another, in which what has not changed is the same; relays that live
/// hear of it ([`registry::News`]), and new ones begin with it.
#[derive(Clone)]
pub struct Tools {
    /// Times and sizes.
    pub params: Params,
    /// What all relays share: domains, keys, ceilings, deadlines.
    pub relays: Arc<RelayParams>,
    /// Sockets, TLS and the DNS.
    pub transport: Arc<dyn Transport>,
    /// Who lives, which keys are awaited, the policy in force.
    pub registry: Arc<registry::Registry>,
    /// What happened, as numbers, lines and records.
    pub observe: Arc<observe::Observe>,
    /// What is counted against whom.
    pub bounds: Bounds,
    /// What streams of servers have to do with each other.
    pub peering: Peering,
    /// What is in the way of lists that are fetched.
    pub fetches: Arc<fetch::Troubles>,
    /// Where relays run.
    pub workers: workers::Workers,
}

/// What is counted against addresses, networks, domains and rules: whoever asks whether somebody may have more needs these and
/// nothing else.
#[derive(Clone)]
pub struct Bounds {
    /// What each stream, domain and pair has sent lately.
    pub rates: Arc<Rates>,
    /// What each remote address has sent lately.
    pub senders: Arc<Senders>,
    /// Who is in quarantine.
    pub quarantine: Arc<quarantine::QuarantineList>,
    /// Streams per rule.
    pub streams: Arc<Streams>,
    /// The pace at which TLS handshakes begin.
    pub handshakes: Arc<Handshakes>,
    /// Connections that have proven nothing.
    pub unproven: Arc<Unproven>,
    /// Those that have, by what they proved.
    pub proven: Arc<Proven>,
    /// Servers that we have called, and that are to call back.
    pub callbacks: Arc<Callbacks>,
    /// Logins that failed.
    pub logins: Arc<Logins>,
    /// Requests for new accounts.
    pub registrations: Arc<Registrations>,
}

/// What streams of servers have to do with each other: who carries for whom, who asks about whose key, and who could not be reached.
#[derive(Clone)]
pub struct Peering {
    /// Verifications under way.
    pub verifier: Arc<verifier::Verifier>,
    /// Keys of nodes whose clocks do not go as ours does.
    pub strays: Arc<strays::Strays>,
    /// Stanzas under way without a near leg.
    pub couriers: Arc<courier::Couriers>,
    /// Counted streams that may be gone on with.
    pub sessions: Arc<sessions::Sessions>,
    /// Clients whose connections broke, while their servers still take what came over them.
    pub partings: Arc<parting::Partings>,
    /// Streams of ours to the servers behind.
    pub backends: Arc<backends::Backends>,
    /// Remote domains that did not answer lately.
    pub circuits: Arc<circuit::Circuits>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools").field("params", &self.params).finish_non_exhaustive()
    }
}

/// The time, from the runtime's clock: a test that pauses it pauses all of us.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until it is this handshake's turn; until then nothing of it is read.
///
/// # Errors
/// [`Reason::TooManyHandshakes`] when that would take too long.
pub async fn turn(pace: &Handshakes, peer: IpAddr, metrics: &Metrics) -> Result<(), Reason> {
    let wait = pace.take(peer, now())?;
    if wait > Duration::ZERO {
        metrics.limited(Limit::Handshakes);
        metrics.waited(Limit::Handshakes, wait);
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

/// Any part of this time; all of it where the kernel has no randomness.
fn part(time: Duration) -> Duration {
    let [a, b, ..] = seed().unwrap_or([u8::MAX; 32]);
    time * u32::from(u16::from_be_bytes([a, b])) / u32::from(u16::MAX)
}

/// Octets from the kernel's generator: stream ids and keys grow from them.
///
/// # Errors
/// [`Reason::Internal`] when the kernel gives none; nothing may go on without.
pub fn seed() -> Result<[u8; 32], Reason> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| Reason::Internal)?;
    Ok(seed)
}

/// Octets of white space that a client or a server may write behind its `<starttls/>` (TLS-05).
const STARTTLS_SPACE: usize = 256;

#[cfg(test)]
pub(crate) mod tests;
