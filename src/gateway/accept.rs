//! From a listener to a running relay: who may come in, and what it is before the first octet of XML.
//!
//! In this order, and each before any cost of the next: the network that a listener is for, the PROXY header where one
//! is due, the arrival quotas, the policy's word on the address, TLS on direct listeners. Whoever fails is let go without
//! an octet (ACC-02 to ACC-10); whoever only comes at a moment when too many of its address have proven nothing yet waits
//! unread until some have, within bounds.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::process::{Resource, getrlimit};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::admission::Admission;
use super::known::Known;
use crate::limit::{ArrivalTicket, Line, NoEntry, Threshold, Unproven, UnprovenPlace};
use crate::metrics::{Door, Limit, Metrics};
use crate::net::listen::Listener;
use crate::net::proxy;
use crate::policy::{Arrive, Question};
use crate::reason::{Flow, Outcome, Reason};
use crate::relay::{Arrival, Relay};
use crate::run::observe::Observe;
use crate::run::pump::Pump;
use crate::run::registry::{Meta, News, Phase};
use crate::run::seldom::Seldom;
use crate::run::{Tools, now, seed};

/// What holds for who comes next: what the listener demands, and what relays lean on.
#[derive(Clone, Debug)]
pub struct Params {
    /// What it demands.
    pub admission: Arc<Admission>,
    /// What relays lean on.
    pub tools: Arc<Tools>,
}

/// Takes connections until the gateway drains, or until nobody holds the other end of `params`: then the socket closes, and who
/// is on the way in still comes in.
pub async fn serve(listener: Arc<Listener>, mut params: watch::Receiver<Params>) {
    let Params { mut admission, mut tools } = params.borrow_and_update().clone();
    let mut news = tools.registry.news();
    // Connections whose relay does not run yet; they end with a drain.
    let mut entering = JoinSet::new();
    let mut short = Seldom::default();
    let ceiling = ceiling(admission.door);
    loop {
        let accepted = tokio::select! {
            biased;
            over = news.wait_for(is_over) => {
                // The sender lives in the registry, which `tools` holds.
                let _phase = over;
                return;
            }
            changed = params.changed() => match changed {
                Ok(()) => {
                    Params { admission, tools } = params.borrow_and_update().clone();
                    continue;
                }
                Err(_closed) => break,
            },
            accepted = listener.accept() => accepted,
            Some(_entered) = entering.join_next() => continue,
        };
        match accepted {
            // Behind a trusted proxy nobody is counted yet; this bounds them too.
            Ok((_, peer)) if entering.len() >= ENTERING => {
                admission.turned_away(&tools.observe, peer, Reason::Overload);
            }
            Ok((stream, peer)) if ceiling.is_some_and(|ceiling| stream.as_raw_fd() >= ceiling) => {
                drop(stream);
                admission.turned_away(&tools.observe, peer, Reason::Overload);
                if short.may_log() {
                    tracing::warn!(
                        listener = admission.door.label(),
                        fault = "the last open files are kept for what stands",
                        "accepting pauses"
                    );
                }
                tokio::time::sleep(SHORT_OF_FILES).await;
            }
            Ok((stream, peer)) => {
                if let Some(pending) = admission.at_the_door(&tools, stream, peer) {
                    enter(&mut entering, Arc::clone(&admission), Arc::clone(&tools), pending);
                }
            }
            Err(fault) => match fault.pause() {
                Some(pause) => {
                    if pause > Duration::ZERO && short.may_log() {
                        tracing::warn!(listener = admission.door.label(), %fault, "accepting pauses");
                    }
                    tokio::time::sleep(pause).await;
                }
                None => {
                    tracing::error!(listener = admission.door.label(), %fault, "a listener is given up");
                    return;
                }
            },
        }
    }
    drop(listener);
    while entering.join_next().await.is_some() {}
}

/// Lets it in, on the thread with the fewest relays.
fn enter(entering: &mut JoinSet<()>, admission: Arc<Admission>, tools: Arc<Tools>, pending: Pending) {
    let workers = tools.workers.clone();
    let Some((runtime, post)) = workers.fewest() else {
        return drop(entering.spawn(admission.enter(tools, pending)));
    };
    if Handle::current().id() == runtime.id() {
        entering.spawn(async move {
            admission.enter(tools, pending).await;
            drop(post);
        });
        return;
    }
    let Pending { stream, peer, local, accepted, entry } = pending;
    let moved = stream.into_std();
    let arrives = async move {
        // Its own runtime is to tell it of what comes.
        match moved.and_then(TcpStream::from_std) {
            Ok(stream) => {
                admission.enter(tools, Pending { stream, peer, local, accepted, entry }).await;
            }
            Err(error) => {
                tracing::error!(listener = admission.door.label(), %error, "a connection cannot be served");
                admission.turned_away(&tools.observe, peer, Reason::Internal);
            }
        }
        drop(post);
    };
    entering.spawn_on(arrives, runtime);
}

/// The first descriptor that callers at this door do not get: the lowest free one is always taken, so whoever has it has found
/// all below it in use. What is left is for what stands already: the way to a backend, to whom a stanza is for, and the
/// operator's doors. The backends' own door has all of them.
fn ceiling(door: Door) -> Option<i32> {
    let allowed = getrlimit(Resource::Nofile).current?;
    let allowed = i32::try_from(allowed).ok()?;
    (door != Door::Inside).then(|| allowed.saturating_sub(SPARE_FILES))
}

impl Admission {
    /// What a connection is, before it has said anything.
    pub(super) fn flow(&self) -> Flow {
        match self.door {
            Door::C2sDirect | Door::C2sStarttls | Door::Websocket => Flow::C2s,
            Door::Inside => Flow::S2sOut,
            Door::Mixed | Door::Outbound | Door::S2sDirect | Door::S2sStarttls => Flow::S2sIn,
        }
    }

    /// What the socket's own address decides, without a task.
    fn at_the_door(&self, tools: &Tools, stream: TcpStream, peer: SocketAddr) -> Option<Pending> {
        let known = |networks: &Option<Vec<IpNet>>| {
            networks.as_ref().is_none_or(|list| list.iter().any(|net| net.contains(&peer.ip())))
        };
        let pending = || {
            if !known(&self.from) || !known(&self.proxies) {
                return Err(Reason::NotFromHere);
            }
            let entry = match self.proxies {
                // Whoever is behind the proxy is counted with its network once we know who it is.
                Some(_) => Entry::Behind,
                None => self.admit(tools, peer.ip())?,
            };
            let local = stream.local_addr().ok().map(crate::net::listen::canonical);
            Ok(Pending { stream, peer, local, accepted: now(), entry })
        };
        let outcome = pending();
        match outcome {
            Ok(pending) => Some(pending),
            Err(reason) => {
                self.turned_away(&tools.observe, peer, reason);
                None
            }
        }
    }

    fn admit(&self, tools: &Tools, address: IpAddr) -> Result<Entry, Reason> {
        // LOG-01: who cannot be written down is not let in, where the operator said so.
        if tools.observe.refuses() {
            return Err(Reason::AuditFull);
        }
        let arrived = match self.arrivals.admit(address, now()) {
            Ok(arrived) => Some(arrived),
            Err(NoEntry::Full) => None,
            Err(NoEntry::Refused(reason)) => return Err(reason),
        };
        let question = Question::Arrive(Arrive { flow: self.flow(), address });
        let verdict = tools.registry.policy().judge(&question, &mut ());
        if !verdict.is_allow() {
            return Err(verdict.reason);
        }
        match arrived {
            Some(arrived) => self.settle(&tools.bounds.unproven, arrived, address),
            // Who waits has none of what unproven peers may have.
            None => {
                let (ticket, line) = self.arrivals.line_up(address, now())?;
                Ok(Entry::Waits(ticket, line))
            }
        }
    }

    /// LIM-02: as soon as it is known from where. Backends are not among the unproven.
    fn settle(
        &self,
        unproven: &Arc<Unproven>,
        (ticket, mut threshold): (ArrivalTicket, Threshold),
        address: IpAddr,
    ) -> Result<Entry, Reason> {
        if self.door == Door::Inside {
            return Ok(Entry::In(ticket, None));
        }
        // Who is turned away has used up no attempt.
        let mut unproven = unproven.admit(address, now()).inspect_err(|_| threshold.give_back())?;
        unproven.stands_at(threshold);
        Ok(Entry::In(ticket, Some(unproven)))
    }

    fn turned_away(&self, observe: &Observe, peer: SocketAddr, reason: Reason) {
        observe.metrics().arrived(self.door, Outcome::Deny);
        observe.kept_out(self.door, peer, reason);
    }

    /// CLS-03: what comes before the relay, a PROXY header or direct TLS, is within T-unauth as all that comes after it. Who
    /// waits in line has not arrived yet.
    async fn enter(self: Arc<Self>, tools: Arc<Tools>, pending: Pending) {
        let observe = Arc::clone(&tools.observe);
        let (door, mut peer, mut until) = (self.door, pending.peer, now() + self.unauth);
        let named = tokio::time::timeout_at(until.into(), self.named(&tools, pending));
        let mut pending = match named.await {
            Ok(Ok(pending)) => pending,
            Ok(Err((peer, reason))) => return self.turned_away(&observe, peer, reason),
            Err(_late) => return observe.kept_out(door, peer, Reason::NegotiationTimeout),
        };
        peer = pending.peer;
        if let Entry::Waits(..) = pending.entry {
            pending = match self.in_turn(&tools, pending).await {
                Ok(pending) => pending,
                Err(reason) => return self.turned_away(&observe, peer, reason),
            };
            until = now() + self.unauth;
        }
        if tokio::time::timeout_at(until.into(), self.come_in(tools, pending)).await.is_err() {
            observe.kept_out(door, peer, Reason::NegotiationTimeout);
        }
    }

    /// Who it is that has come, behind a proxy too, and whether there is a place.
    async fn named(&self, tools: &Tools, mut pending: Pending) -> Result<Pending, (SocketAddr, Reason)> {
        if let Entry::Behind = pending.entry {
            let told = self.behind_proxy(&mut pending.stream, pending.peer).await;
            if let Some(told) = told.map_err(|reason| (pending.peer, reason))? {
                pending.peer = crate::net::listen::canonical(told.source);
                pending.local = Some(crate::net::listen::canonical(told.destination));
            }
            let entry = self.admit(tools, pending.peer.ip());
            pending.entry = entry.map_err(|reason| (pending.peer, reason))?;
        }
        Ok(pending)
    }

    /// Waits in line until there is a place, for as long as it is worth it.
    async fn in_turn(&self, tools: &Tools, pending: Pending) -> Result<Pending, Reason> {
        let Pending { stream, peer, entry, .. } = pending;
        let Entry::Waits(ticket, mut line) = entry else { return Err(Reason::Internal) };
        let since = now();
        let granted = loop {
            let until = line.patience(since, now());
            match tokio::time::timeout_at(until.into(), line.place()).await {
                Ok(granted) => break granted,
                Err(_late) if line.patience(since, now()) > now() => line.look(now()),
                Err(_late) => break Err(Reason::TooManyConnections),
            }
        };
        let metrics = tools.observe.metrics();
        metrics.waited(Limit::Connections, now().saturating_duration_since(since));
        let threshold = granted?;
        metrics.limited(Limit::Connections);
        let closed = {
            let mut ready = std::pin::pin!(stream.ready(Interest::READABLE));
            let now = std::future::poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx)));
            matches!(now.await, Poll::Ready(Ok(ready)) if ready.is_read_closed())
        };
        if closed {
            return Err(Reason::ConnectionLost);
        }
        let entry = self.settle(&tools.bounds.unproven, (ticket, threshold), peer.ip())?;
        Ok(Pending { stream, entry, accepted: now(), ..pending })
    }

    async fn come_in(self: Arc<Self>, tools: Arc<Tools>, pending: Pending) {
        let metrics = Arc::clone(tools.observe.metrics());
        let Pending { stream, peer, local, accepted, entry } = pending;
        let Entry::In(ticket, mut unproven) = entry else { return };
        metrics.arrived(self.door, Outcome::Allow);
        if self.door == Door::Inside {
            tools.observe.seeking().came(peer.ip());
        }
        let connection = OpenConnection::new(metrics, self.door, ticket);
        // Another may need its place more, even now.
        let known = tokio::select! {
            known = self.known(&tools, stream, peer.ip()) => known,
            () = displaced(&mut unproven) => Err(Reason::TooManyUnproven.into()),
        };
        let known = match known {
            Ok(Some(known)) => known,
            Ok(None) => {
                // An office of pages that ask where the WebSocket is must not lock itself out.
                return unproven.into_iter().for_each(|mut unproven| unproven.is_answered());
            }
            Err(failure) => return tools.observe.kept_out(self.door, peer, failure),
        };
        let ends = (peer, local);
        if let Err(reason) = self.start(&tools, known, (ends, accepted), (connection, unproven)) {
            tracing::error!(
                listener = self.door.label(),
                reason = reason.label(),
                "a connection cannot be served"
            );
        }
    }

    /// The ends that the proxy tells; none with UNKNOWN or LOCAL, which mean the socket's own.
    async fn behind_proxy(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<Option<proxy::Addresses>, Reason> {
        match tokio::time::timeout(self.header, proxy::read(stream)).await {
            Ok(Ok(header)) => Ok(header.addresses),
            Ok(Err(fault)) => {
                tracing::debug!(listener = self.door.label(), proxy = %peer, %fault, "no PROXY header");
                Err(Reason::BadProxyHeader)
            }
            Err(_late) => Err(Reason::BadProxyHeader),
        }
    }

    fn start(
        &self,
        tools: &Arc<Tools>,
        Known { flow, io, secured, frames }: Known,
        ((peer, local), accepted): ((SocketAddr, Option<SocketAddr>), Instant),
        (connection, unproven): (OpenConnection, Option<UnprovenPlace>),
    ) -> Result<(), Reason> {
        let arrival = Arrival { flow, address: peer.ip(), secured: secured.clone(), seed: seed()? };
        let entry = tools.registry.enter();
        let meta = Meta { id: entry.0.id(), flow, peer: Some(peer), local };
        let relay =
            Relay::new(Arc::clone(&tools.relays), tools.registry.policy(), arrival, now()).since(accepted);
        let pump = Pump::arrived(Arc::clone(tools), relay, entry, meta, io, secured);
        let pump = match frames {
            Some(frames) => pump.in_messages(frames),
            None => pump,
        };
        let pump = match unproven {
            Some(unproven) => pump.unproven(unproven),
            None => pump,
        };
        // Boxed, or the task would have room for it twice: before and after the first poll.
        let running = Box::pin(pump.run());
        let post = tools.workers.here();
        // A task of its own: it outlives the listener while the gateway drains.
        tokio::spawn(async move {
            running.await;
            drop((connection, post));
        });
        Ok(())
    }
}

/// A connection that may come in so far.
#[derive(Debug)]
struct Pending {
    stream: TcpStream,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    accepted: Instant,
    entry: Entry,
}

/// How far a connection has come. Backends are not among the unproven.
#[derive(Debug)]
enum Entry {
    /// Behind a proxy: not counted yet.
    Behind,
    /// It has a place.
    In(ArrivalTicket, Option<UnprovenPlace>),
    /// It waits for one.
    Waits(ArrivalTicket, Line),
}

/// A connection that is in, for as long as this lives.
#[derive(Debug)]
struct OpenConnection {
    metrics: Arc<Metrics>,
    door: Door,
    _ticket: ArrivalTicket,
}

impl OpenConnection {
    fn new(metrics: Arc<Metrics>, door: Door, ticket: ArrivalTicket) -> Self {
        metrics.opened(door);
        Self { metrics, door, _ticket: ticket }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.closed(self.door);
    }
}

/// Waits until another gets the place of this unproven peer; for who is none, for ever.
async fn displaced(unproven: &mut Option<UnprovenPlace>) {
    match unproven {
        Some(unproven) => unproven.displaced().await,
        None => std::future::pending().await,
    }
}

/// Open files that callers from the world do not get.
const SPARE_FILES: i32 = 16;

/// Whether nobody new comes in any more.
fn is_over(news: &News) -> bool {
    matches!(news.phase, Phase::Draining(_) | Phase::Closing(_) | Phase::Stopped)
}

/// How long a door stays shut when they are all that is left.
const SHORT_OF_FILES: Duration = Duration::from_millis(500);

/// Connections of one listener that may be on their way to a relay.
const ENTERING: usize = 4096;
