//! The outside as it is: sockets, TLS and the DNS.
//!
//! Candidates come from the DNS for remote domains and from the configuration for backends, and are tried one by one.
//! That nobody answered at a domain is remembered for a short time, so that each stanza that waits for it does not knock
//! again (CLS-07, LIM-06); what a server *said* is never remembered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::{BoxIo, Connected, Connection, Handshake, Outside, Route, now};
use crate::dns::{Resolver, TlsMode};
use crate::jid::Domain;
use crate::metrics::{Door, Metrics};
use crate::net;
use crate::reason::Reason;
use crate::relay::{Candidate, Destination};
use crate::stream::Secured;
use crate::tls::{Acceptor, Connector, HandshakeFault, Mode};

/// What the world is made of.
#[derive(Debug)]
pub struct Params {
    /// TLS as server on STARTTLS listeners.
    pub acceptor: Arc<Acceptor>,
    /// TLS as client.
    pub connector: Connector,
    /// Where remote domains are.
    pub resolver: Resolver,
    /// Where the backends are, in the order to try.
    pub backends: BTreeMap<Domain, Vec<SocketAddr>>,
    /// How long to dial, and from where.
    pub dial: net::connect::Params,
    /// How long a handshake may take (T-tls).
    pub handshake: Duration,
    /// Where handshakes are counted.
    pub metrics: Arc<Metrics>,
}

/// Sockets, TLS and the DNS.
#[derive(Debug)]
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    params: Fixed,
    connector: RwLock<Arc<Connector>>,
    failures: Mutex<HashMap<Domain, Failure>>,
}

#[derive(Debug)]
struct Fixed {
    acceptor: Arc<Acceptor>,
    resolver: Resolver,
    backends: BTreeMap<Domain, Vec<SocketAddr>>,
    dial: net::connect::Params,
    handshake: Duration,
    metrics: Arc<Metrics>,
}

/// Nobody answered at a domain.
#[derive(Clone, Copy, Debug)]
struct Failure {
    reason: Reason,
    until: Instant,
    pause: Duration,
}

impl World {
    /// The world as these parameters describe it.
    pub fn new(params: Params) -> Self {
        let Params { acceptor, connector, resolver, backends, dial, handshake, metrics } = params;
        Self(Arc::new(Inner {
            params: Fixed { acceptor, resolver, backends, dial, handshake, metrics },
            connector: RwLock::new(Arc::new(connector)),
            failures: Mutex::default(),
        }))
    }

    /// New certificates: they are shown from the next handshake on (CRT-14).
    pub fn replace(&self, connector: Connector) {
        *self.0.connector.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(connector);
    }
}

impl Outside for World {
    fn secure_near(&self, io: BoxIo, named: Option<Domain>) -> Handshake {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let acceptor = &inner.params.acceptor;
            let handshake = async {
                let (stream, secured) = acceptor.accept(io, named.as_ref()).await?;
                Ok((Box::new(stream) as BoxIo, secured))
            };
            inner.counted(Door::S2sStarttls, handshake).await
        })
    }

    fn secure_far(&self, io: BoxIo, from: Domain, target: Domain) -> Handshake {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.connect_tls(io, &from, &target, Mode::Starttls).await })
    }

    fn route(&self, destination: &Destination) -> Box<dyn Route> {
        Box::new(Way {
            inner: Arc::clone(&self.0),
            destination: destination.clone(),
            left: None,
            last: None,
            spent: Duration::ZERO,
            answered: false,
        })
    }
}

impl Inner {
    async fn counted(
        &self,
        door: Door,
        handshake: impl Future<Output = Result<(BoxIo, Secured), HandshakeFault>>,
    ) -> Result<(BoxIo, Secured), Reason> {
        let outcome = match tokio::time::timeout(self.params.handshake, handshake).await {
            Ok(Ok(secured)) => Ok(secured),
            Ok(Err(fault)) => {
                tracing::debug!(door = door.label(), %fault, "handshake failed");
                Err(fault.reason())
            }
            Err(_late) => Err(Reason::TlsFailed),
        };
        self.params.metrics.handshake(door, outcome.as_ref().ok().map(|(_, s)| s.version));
        outcome
    }

    async fn connect_tls(
        &self,
        io: BoxIo,
        from: &Domain,
        target: &Domain,
        mode: Mode,
    ) -> Result<(BoxIo, Secured), Reason> {
        let connector = Arc::clone(&self.connector.read().unwrap_or_else(PoisonError::into_inner));
        let handshake = async {
            let (stream, secured) = connector.connect(io, Some(from), target, mode).await?;
            Ok((Box::new(stream) as BoxIo, secured))
        };
        self.counted(Door::Outbound, handshake).await
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Domain, Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed_lately(&self, domain: &Domain) -> Option<Reason> {
        let now = now();
        self.failures().get(domain).filter(|f| f.until > now).map(|f| f.reason)
    }

    fn remember(&self, domain: &Domain, reason: Reason) {
        let now = now();
        let mut failures = self.failures();
        if failures.len() >= REMEMBERED {
            failures.retain(|_, f| f.until > now);
        }
        if failures.len() >= REMEMBERED {
            return;
        }
        let pause = failures.get(domain).map_or(PAUSE, |f| (f.pause * 2).min(LONGEST));
        failures.insert(domain.clone(), Failure { reason, until: now + pause, pause });
    }
}

/// The candidates of one destination.
struct Way {
    inner: Arc<Inner>,
    destination: Destination,
    /// None until they were asked for.
    left: Option<VecDeque<Place>>,
    last: Option<Place>,
    /// Time spent on dialling so far.
    spent: Duration,
    /// Some candidate took a connection.
    answered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    address: SocketAddr,
    mode: TlsMode,
}

impl Route for Way {
    fn connect(mut self: Box<Self>, candidate: Candidate) -> Connection {
        Box::pin(async move {
            let outcome = self.go(candidate).await;
            (self as Box<dyn Route>, outcome)
        })
    }
}

impl Way {
    async fn go(&mut self, candidate: Candidate) -> Result<Connected, Reason> {
        let mut reason = Reason::RemoteUnreachable;
        if let (Candidate::Same, Some(place)) = (candidate, self.last) {
            match self.knock(place).await {
                Ok(connected) => return Ok(connected),
                Err(why) => reason = why,
            }
        }
        if self.left.is_none() {
            self.left = Some(self.places().await?);
        }
        while let Some(place) = self.left.as_mut().and_then(VecDeque::pop_front) {
            if self.spent >= self.inner.params.dial.total {
                break;
            }
            match self.knock(place).await {
                Ok(connected) => {
                    self.last = Some(place);
                    self.answered = true;
                    if let Destination::World { target, .. } = &self.destination {
                        self.inner.failures().remove(target);
                    }
                    return Ok(connected);
                }
                Err(why) => reason = why,
            }
        }
        match &self.destination {
            Destination::World { target, .. } => {
                if !self.answered {
                    self.inner.remember(target, reason);
                }
                Err(reason)
            }
            Destination::Backend(_) | Destination::Client(_) => Err(Reason::BackendDown),
        }
    }

    async fn places(&self) -> Result<VecDeque<Place>, Reason> {
        match &self.destination {
            // No addresses for clients are told to this world.
            Destination::Client(_) => Err(Reason::BackendDown),
            Destination::Backend(domain) => {
                let addresses = self.inner.params.backends.get(domain).ok_or(Reason::BackendDown)?;
                Ok(addresses.iter().map(|a| Place { address: *a, mode: TlsMode::Starttls }).collect())
            }
            Destination::World { target, .. } => {
                if let Some(reason) = self.inner.failed_lately(target) {
                    return Err(reason);
                }
                let targets = self.inner.params.resolver.targets(target).await.map_err(|fault| {
                    tracing::debug!(domain = %target, %fault, "no target");
                    fault.reason()
                })?;
                let places = targets
                    .iter()
                    .flat_map(|t| t.addresses.iter().map(|a| Place { address: *a, mode: t.mode }));
                Ok(places.collect())
            }
        }
    }

    async fn knock(&mut self, place: Place) -> Result<Connected, Reason> {
        let begun = now();
        let dialled = net::connect(&[place.address], &self.inner.params.dial).await;
        self.spent += now().saturating_duration_since(begun);
        let (stream, address) = dialled.map_err(|fault| {
            tracing::debug!(%fault, "not connected");
            fault.reason()
        })?;
        let Destination::World { from, target } = &self.destination else {
            return Ok(Connected { io: Box::new(stream), address: address.ip(), secured: None });
        };
        self.not_ourselves(&stream, address)?;
        let io: BoxIo = Box::new(stream);
        match place.mode {
            TlsMode::Starttls => Ok(Connected { io, address: address.ip(), secured: None }),
            TlsMode::Direct => {
                let (io, secured) = self.inner.connect_tls(io, from, target, Mode::Direct).await?;
                Ok(Connected { io, address: address.ip(), secured: Some(secured) })
            }
        }
    }

    /// DNS-05: a name that leads back to a wildcard listener of our own is seen only once the connection stands.
    fn not_ourselves(&self, stream: &TcpStream, remote: SocketAddr) -> Result<(), Reason> {
        let local = stream.local_addr().map_err(|_| Reason::RemoteUnreachable)?;
        if self.inner.params.resolver.is_own(local, remote) { Err(Reason::RemoteUnreachable) } else { Ok(()) }
    }
}

/// How long a domain that did not answer is left alone at first.
const PAUSE: Duration = Duration::from_secs(2);

/// How long at most.
const LONGEST: Duration = Duration::from_secs(60);

/// Domains that are remembered.
const REMEMBERED: usize = 10_000;

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
