//! The transport as it is: sockets, TLS and the DNS.
//!
//! Candidates come from the DNS for remote domains and from the configuration for backends, and are tried one by one. That the
//! DNS failed or nobody answered is remembered in [`super::circuit`] (CLS-07, LIM-06); what a server *said* never is.

mod lacking;
mod published;
mod way;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use self::lacking::Lacking;
use super::circuit::{Attempt, Circuits};
use super::posh;
use super::progress::{ConnectStep, Progress};
use super::setups::{SetUp, SetUps};
use super::ways::{self, WayOut, WaysOut};
use super::{
    BoxIo, Caller, Connected, Connection, Failure, Handshake, Later, RemainingCandidates, STARTTLS_SPACE,
    Towards, Transport, now,
};
use crate::dns::{Resolver, TlsMode};
use crate::jid::Domain;
use crate::limit::Handshakes;
use crate::metrics::{Door, Limit, Metrics};
use crate::net;
use crate::policy::Proxy;
use crate::reason::{Cause, Detail, Flow, Reason};
use crate::relay::{AddressChoice, Behalf, Destination};
use crate::stream::dane::Published;
use crate::stream::evidence::{Evidence, Sought};
use crate::stream::{Certificate, Pair, Secured};
use crate::tls::{Acceptor, Ahead, Connector, HandshakeFault, Mode};

/// What the world is made of.
#[derive(Debug)]
pub struct Params {
    /// TLS as server on STARTTLS listeners for servers.
    pub acceptor: Arc<Acceptor>,
    /// TLS as server on STARTTLS listeners for clients.
    pub acceptor_clients: Arc<Acceptor>,
    /// Where remote domains are.
    pub resolver: Arc<Resolver>,
    /// Where the backends are, in the order to try.
    pub backends: BTreeMap<Domain, Vec<SocketAddr>>,
    /// Where the backends take clients, in the order to try.
    pub clients: BTreeMap<Domain, Clients>,
    /// Domains whose servers read a PROXY header on connections for federation, with what was verified.
    pub read_proxy_header: BTreeSet<Domain>,
    /// What routes say of the ways out, by remote domain.
    pub ways: WaysOut,
    /// From where the world is called, for the hosted domains that say so.
    pub sources: BTreeMap<Domain, Vec<IpAddr>>,
    /// How long to dial.
    pub dial: net::connect::Params,
    /// How long a handshake may take (T-tls).
    pub handshake: Duration,
    /// The pace at which handshakes as server begin.
    pub pace: Arc<Handshakes>,
    /// Remote domains that did not answer lately.
    pub circuits: Arc<Circuits>,
    /// Files in which domains name their certificates.
    pub posh: posh::Files,
    /// Where handshakes are counted.
    pub metrics: Arc<Metrics>,
}

/// A backend, as clients are brought to it.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Where it takes them, in the order to try.
    pub addresses: Vec<SocketAddr>,
    /// Whether it is told who they are.
    pub proxy: Option<ProxyVersion>,
}

/// Versions of the PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// The line of text.
    V1,
    /// The binary header, with what is known of the client's channel.
    V2,
}

/// Sockets, TLS and the DNS.
#[derive(Debug)]
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    params: Params,
    /// Shared with the worlds that follow.
    connector: Arc<RwLock<Arc<Connector>>>,
    /// Streams that are being set up. Shared like it.
    set_ups: Arc<SetUps>,
    lacking: Mutex<Lacking>,
}

impl World {
    /// The world as these parameters describe it, with TLS as client.
    pub fn new(params: Params, connector: Connector) -> Self {
        let connector = Arc::new(RwLock::new(Arc::new(connector)));
        Self(Arc::new(Inner { params, connector, set_ups: Arc::default(), lacking: Mutex::default() }))
    }

    /// The world as other parameters describe it. What was begun in this one goes on in it, with whatever TLS as client there
    /// will be.
    #[must_use]
    pub fn followed_by(&self, params: Params) -> Self {
        let (connector, set_ups) = (Arc::clone(&self.0.connector), Arc::clone(&self.0.set_ups));
        Self(Arc::new(Inner { params, connector, set_ups, lacking: Mutex::default() }))
    }

    /// New certificates: they are shown from the next handshake on (CRT-14).
    pub fn replace(&self, connector: Connector) {
        *self.0.connector.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(connector);
        self.0.params.posh.forget();
    }
}

impl Transport for World {
    fn secure_near(&self, io: BoxIo, flow: Flow, named: Option<Domain>, peer: Option<IpAddr>) -> Handshake {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let (acceptor, door) = match flow {
                Flow::C2s => (&inner.params.acceptor_clients, Door::C2sStarttls),
                Flow::S2sIn | Flow::S2sOut => (&inner.params.acceptor, Door::S2sStarttls),
            };
            let metrics = &inner.params.metrics;
            let begun = now();
            // Who has no address has not come over the network.
            let peer = peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            super::turn(&inner.params.pace, peer, metrics)
                .await
                .inspect_err(|_| metrics.limited(Limit::Handshakes))?;
            let handshake = async {
                let (stream, secured) =
                    acceptor.accept_begun(Ahead::new(io).after_space(STARTTLS_SPACE), named.as_ref()).await?;
                Ok((Box::new(stream) as BoxIo, secured))
            };
            inner
                .counted(
                    door,
                    inner.params.handshake.saturating_sub(now().saturating_duration_since(begun)),
                    handshake,
                )
                .await
        })
    }

    fn secure_far(&self, io: BoxIo, towards: Towards) -> Handshake {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.connect_tls(io, &towards, Mode::Starttls).await })
    }

    fn inquire(
        &self,
        pair: Pair,
        shown: Certificate,
        sought: Sought,
        via: Option<Arc<Proxy>>,
    ) -> Later<Evidence> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.inquire(&pair, &shown, sought, via.as_deref()).await })
    }

    fn route(&self, destination: &Destination, caller: Option<Arc<Caller>>) -> Box<dyn RemainingCandidates> {
        let out = match destination {
            Destination::World { target, via, .. } => {
                ways::way_out(&self.0.params.ways, via.as_deref(), target)
            }
            Destination::Backend(_) | Destination::Client(_) => None,
        };
        Box::new(Way {
            inner: Arc::clone(&self.0),
            out,
            destination: destination.clone(),
            caller,
            left: None,
            last: None,
            spent: Duration::ZERO,
            answered: false,
            attempt: None,
            progress: Progress::default(),
        })
    }

    fn look_anew(&self, domain: &Domain) {
        self.0.params.resolver.forget_absence(domain);
    }
}

impl Inner {
    async fn counted(
        &self,
        door: Door,
        limit: Duration,
        handshake: impl Future<Output = Result<(BoxIo, Secured), HandshakeFault>>,
    ) -> Result<(BoxIo, Secured), Failure> {
        let outcome = match tokio::time::timeout(limit, handshake).await {
            Ok(Ok(secured)) => Ok(secured),
            Ok(Err(fault)) => {
                tracing::debug!(door = door.label(), %fault, "handshake failed");
                Err(Failure::new(fault.reason(), fault.detail()))
            }
            Err(_late) => {
                Err(Failure::new(Reason::TlsFailed, Detail::new(Cause::TimedOut, "the TLS handshake")))
            }
        };
        self.params.metrics.handshake(door, outcome.as_ref().ok().map(|(_, s)| s.version));
        outcome
    }

    async fn connect_tls(
        &self,
        io: BoxIo,
        towards: &Towards,
        mode: Mode,
    ) -> Result<(BoxIo, Secured), Failure> {
        let Towards { from, target, published, posh, via } = towards;
        let current = || Arc::clone(&self.connector.read().unwrap_or_else(PoisonError::into_inner));
        let connector = current();
        let handshake = async {
            let (stream, mut secured) = connector.connect(io, Some(from), (target, published), mode).await?;
            // A reload may have come meanwhile: what holds now decides (CRT-12).
            let latest = current();
            if !Arc::ptr_eq(&latest, &connector) {
                let again = |shown| latest.trust().describe_again(&shown);
                secured.certificate = secured.certificate.take().and_then(again);
            }
            Ok((Box::new(stream) as BoxIo, secured))
        };
        let (io, mut secured) = self.counted(Door::Outbound, self.params.handshake, handshake).await?;
        if *posh {
            let pair = Pair { sender: target.clone(), target: from.clone() };
            self.read_file(&mut secured, &pair, via.as_deref()).await;
        }
        Ok((io, secured))
    }
}

/// The candidates of one destination.
struct Way {
    inner: Arc<Inner>,
    destination: Destination,
    /// The way to it, where that leads through a proxy.
    out: Option<WayOut>,
    /// Whom the connection stands in for.
    caller: Option<Arc<Caller>>,
    /// None until they were asked for.
    left: Option<VecDeque<Place>>,
    last: Option<Place>,
    /// Time spent on dialling so far.
    spent: Duration,
    /// Some candidate took a connection.
    answered: bool,
    /// Others wait for what comes of this.
    attempt: Option<Attempt>,
    progress: Progress,
}

#[derive(Clone, Debug)]
struct Place {
    address: SocketAddr,
    mode: TlsMode,
    /// The target that it belongs to: addresses of one are tried staggered (RFC 8305).
    target: usize,
    /// Named by the operator, who may well mean this machine.
    routed: bool,
    published: Arc<Published>,
}

impl Place {
    /// Addresses to be tried one after the other.
    fn in_turn(addresses: &[SocketAddr]) -> VecDeque<Self> {
        let place = |(target, address): (usize, &SocketAddr)| Self {
            address: *address,
            mode: TlsMode::Starttls,
            target,
            routed: true,
            published: Arc::default(),
        };
        addresses.iter().enumerate().map(place).collect()
    }
}

impl RemainingCandidates for Way {
    fn connect(mut self: Box<Self>, candidate: AddressChoice) -> Connection {
        Box::pin(async move {
            let outcome = self.go(candidate).await;
            (self as Box<dyn RemainingCandidates>, outcome)
        })
    }

    fn progress(&self) -> Option<Progress> {
        Some(self.progress.clone())
    }
}

impl Way {
    async fn go(&mut self, candidate: AddressChoice) -> Result<Connected, Failure> {
        let mut failure = Failure::from(Reason::RemoteUnreachable);
        if let AddressChoice::Elsewhere(host, port) = &candidate {
            self.progress.at(ConnectStep::LookingUp);
            match self.inner.params.resolver.host(host, *port, self.share()).await {
                Ok(addresses) => {
                    let place = |address| Place {
                        address,
                        mode: TlsMode::Starttls,
                        target: usize::MAX,
                        routed: false,
                        published: Arc::default(),
                    };
                    let named = addresses.into_iter().map(place);
                    let left = self.left.take().into_iter().flatten();
                    self.left = Some(named.chain(left).collect());
                }
                Err(fault) => tracing::debug!(host = &**host, %fault, "not followed"),
            }
        }
        if let (AddressChoice::Same, Some(place)) = (candidate, self.last.clone()) {
            // It took a connection before: what was spent on others says nothing of it.
            match self.knock(&[place], self.inner.params.dial.each).await {
                Ok(connected) => return Ok(connected),
                Err(why) => failure = why,
            }
        }
        if self.left.is_none() {
            if let Destination::World { from, target, behalf, .. } = &self.destination {
                let circuits = &self.inner.params.circuits;
                self.attempt = match self.is_apart() {
                    true => circuits.enter_apart(target, from, *behalf).await?,
                    false => circuits.enter(target, from, *behalf).await?,
                };
            }
            if matches!(self.destination, Destination::World { .. }) {
                self.progress.at(ConnectStep::LookingUp);
            }
            match self.places().await {
                Ok(places) => self.left = Some(places),
                Err(failed) => {
                    let reason = failed.reason;
                    // That there is no such service is remembered by the resolver, for as long as the DNS says; that we
                    // were too busy to look says nothing about the domain.
                    if reason == Reason::DnsFailed {
                        self.missed(reason);
                    } else if reason == Reason::NoRoom {
                        self.lacks_room(&failed);
                    }
                    self.report(Err(reason));
                    return Err(failed);
                }
            }
        }
        loop {
            let places = self.of_one_target();
            let left = self.inner.params.dial.total.saturating_sub(self.spent);
            if places.is_empty() || left.is_zero() {
                break;
            }
            match self.knock(&places, left).await {
                Ok(connected) => return Ok(connected),
                // Whether an address that was not asked is there, nobody knows.
                Err(_) if failure.reason == Reason::NoRoom => {}
                Err(why) => failure = why,
            }
            if failure.reason == Reason::ProxyLogin {
                // It is the same proxy for all of them.
                break;
            }
        }
        if failure.reason == Reason::NoRoom {
            self.lacks_room(&failure);
        }
        match self.destination {
            Destination::World { .. } => {
                // That this machine has no room for another connection says nothing of the other end.
                if !self.answered && failure.reason != Reason::NoRoom {
                    self.missed(failure.reason);
                }
                self.report(Err(failure.reason));
                Err(failure)
            }
            Destination::Backend(_) | Destination::Client(_) if failure.reason == Reason::NoRoom => {
                Err(failure)
            }
            Destination::Backend(_) | Destination::Client(_) => {
                Err(Failure { reason: Reason::BackendDown, ..failure })
            }
        }
    }

    /// The next candidates that are tried together, which are no candidates any more.
    fn of_one_target(&mut self) -> Vec<Place> {
        let Some(left) = &mut self.left else { return Vec::new() };
        let Some(target) = left.front().map(|place| place.target) else { return Vec::new() };
        let count = left.iter().take_while(|place| place.target == target).count();
        left.drain(..count).collect()
    }

    /// Tells those who wait for this attempt.
    fn report(&mut self, outcome: Result<(), Reason>) {
        if let Some(attempt) = self.attempt.take() {
            attempt.end(outcome);
        }
    }

    /// Connects to the first of these that answers within this time. Those that were not tried to the end are candidates again.
    async fn knock(&mut self, places: &[Place], within: Duration) -> Result<Connected, Failure> {
        // DNS-05: an address that the DNS gives may be our own in a way that only the kernel knows.
        let ours = |place: &&Place| {
            let ours = !place.routed && net::connect::is_ours(place.address);
            if ours {
                tracing::debug!(address = %place.address, "not dialled: an address of this machine");
            }
            ours
        };
        let addresses: Vec<SocketAddr> =
            places.iter().filter(|place| !ours(place)).map(|place| place.address).collect();
        let set_up = self.in_turn(&addresses).await;
        self.progress.at(ConnectStep::calling(&addresses));
        let begun = now();
        let dialled = self.dial(&addresses, within).await;
        self.spent += now().saturating_duration_since(begun);
        let net::connect::Dialled { mut stream, address, failed } = dialled?;
        let is_this = |place: &&Place| place.address == address;
        let place = places.iter().find(is_this).cloned().ok_or(Reason::RemoteUnreachable)?;
        let untried = places.iter().filter(|p| p.address != address && !failed.contains(&p.address));
        for place in untried.rev() {
            self.left.get_or_insert_default().push_front(place.clone());
        }
        self.last = Some(place.clone());
        let local = stream.local_addr().ok();
        if let Some(header) = self.introduction(local.map(|local| (local, address)))? {
            // BE-05: first and whole, before anything of the stream. It is far smaller than any socket's buffer.
            let written = tokio::time::timeout(self.inner.params.dial.each, stream.write_all(&header));
            if !matches!(written.await, Ok(Ok(()))) {
                let detail = Detail::new(Cause::TimedOut, "the PROXY header was not taken");
                return Err(Failure::new(Reason::BackendDown, detail).at(address));
            }
        }
        let Destination::World { from, target, behalf, posh, via } = self.destination.clone() else {
            let io: BoxIo = Box::new(stream);
            return Ok(Connected { io, address, local, secured: None, published: Arc::default(), set_up });
        };
        if !place.routed && local.is_some_and(|local| local.ip() == address.ip()) {
            return Err(Reason::RemoteUnreachable.into());
        }
        // What comes after this is between that server and the one for whom we call it.
        self.answered = true;
        match self.is_apart() {
            true => self.inner.params.circuits.reached(&target, &from),
            false => self.inner.params.circuits.answered(&target, None),
        }
        if behalf == Behalf::Claim {
            self.inner.params.circuits.alive(&target);
            self.inner.params.resolver.forget_absence(&target);
        }
        self.report(Ok(()));
        let io: BoxIo = Box::new(stream);
        match place.mode {
            TlsMode::Starttls => {
                Ok(Connected { io, address, local, secured: None, published: place.published, set_up })
            }
            TlsMode::Direct => {
                let published = place.published;
                self.progress.at(ConnectStep::Securing(address));
                let towards = Towards { from, target, published: Arc::clone(&published), posh, via };
                let (mut local, mut secured) =
                    (local, self.inner.connect_tls(io, &towards, Mode::Direct).await);
                // A handshake that broke is tried once more at once, before anything is refused for it, and silence is no break; where
                // TLS comes after STARTTLS the relay does so (COMPAT(Tigase 8.4): one in ten serial connects to it breaks).
                if secured
                    .as_ref()
                    .is_err_and(|failure| failure.reason == Reason::TlsFailed && !failure.is_late())
                    && let Ok(again) = self.dial(&[address], self.inner.params.dial.total).await
                {
                    local = again.stream.local_addr().ok();
                    let io: BoxIo = Box::new(again.stream);
                    secured = self.inner.connect_tls(io, &towards, Mode::Direct).await;
                }
                let (io, secured) = secured.map_err(|failure| failure.at(address))?;
                Ok(Connected { io, address, local, secured: Some(secured), published, set_up })
            }
        }
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
