//! From a domain to the addresses to dial, in order.
//!
//! Answers are kept for as long as the DNS says, within bounds; those who ask for the same domain at the same time
//! share one lookup (DNS-07). The guard looks at each address every time it is handed out. What cannot be found out is
//! never guessed: a lookup that failed is not a domain without records.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::dns::TlsMode;
use crate::dns::guard::Guard;
use crate::dns::order::{Rank, order};
use crate::dns::query::{Asker, QueryFault, system_servers};
use crate::dns::srv::{Candidate, Service, find};
use crate::jid::Domain;
use crate::reason::{Cause, Reason, Why};

/// What the resolver needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// The servers to ask; none: the system's.
    pub servers: Vec<SocketAddr>,
    /// Servers that must never be asked: the steering server, which answers for the backends only.
    pub never: Vec<SocketAddr>,
    /// How long one query may take (T-dns).
    pub each: Duration,
    /// How long all queries for one domain may take together.
    pub total: Duration,
    /// What may be dialled.
    pub guard: Guard,
    /// Domains whose servers the operator has named.
    pub routes: Vec<Route>,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            servers: Vec::new(),
            never: Vec::new(),
            each: Duration::from_secs(5),
            total: Duration::from_secs(15),
            guard: Guard::default(),
            routes: Vec::new(),
        }
    }
}

/// Where a domain's server is, by configuration; neither SRV nor the guard has a say (DNS-08).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The domain.
    pub domain: Domain,
    /// An IP address or a host name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How TLS begins there.
    pub mode: TlsMode,
}

/// One place to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host as the DNS or the route names it, for logs; never an identity (CRT-01).
    pub host: String,
    /// How TLS begins.
    pub mode: TlsMode,
    /// Its addresses, in the order to be tried.
    pub addresses: Vec<SocketAddr>,
}

/// Finds the servers of domains.
pub struct Resolver {
    asker: Asker,
    guard: Guard,
    routes: HashMap<Domain, Route>,
    total: Duration,
    known: Mutex<HashMap<Domain, Arc<OnceCell<Known>>>>,
    seed: AtomicU64,
    gates: Gates,
}

/// For whom something is looked up. What the world can cause has a share of the lookups, so that our own always have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// Stanzas that the gateway carries on its own: bounces, which peers cause, and what a broken stream left.
    Carried,
    /// Questions about keys, which anybody can cause.
    Claims,
    /// What our own users ask for: all that there is.
    Own,
}

/// Lookups under way: each may hold a score of sockets.
#[derive(Debug)]
struct Gates {
    all: Semaphore,
    carried: Semaphore,
    claims: Semaphore,
}

impl Gates {
    /// A place for one lookup, when there is one.
    async fn enter(
        &self,
        share: Share,
        deadline: Instant,
    ) -> Result<[Option<SemaphorePermit<'_>>; 2], DnsFault> {
        let own = match share {
            Share::Carried => Some(&self.carried),
            Share::Claims => Some(&self.claims),
            Share::Own => None,
        };
        // Their own share first: who waits for it must not hold a place of all.
        let entered = async {
            let own = match own {
                Some(gate) => gate.acquire().await.ok(),
                None => None,
            };
            [own, self.all.acquire().await.ok()]
        };
        timeout_at(deadline, entered).await.map_err(|_| DnsFault::Busy)
    }
}

/// What is known of a domain, and until when.
#[derive(Debug)]
struct Known {
    outcome: Result<Vec<Place>, DnsFault>,
    until: Instant,
}

/// A candidate with its addresses.
#[derive(Clone, Debug)]
struct Place {
    rank: Rank,
    host: String,
    addresses: Vec<SocketAddr>,
    /// Named by the operator: not the guard's business.
    routed: bool,
}

impl Resolver {
    /// Reads the system's configuration if no server is given.
    pub fn new(params: Params) -> Result<Resolver, SetupFault> {
        let servers = if params.servers.is_empty() {
            system_servers().map_err(|error| SetupFault::System(error.to_string()))?
        } else {
            params.servers
        };
        if let Some(server) =
            servers.iter().find(|server| params.never.iter().any(|never| is_same(**server, *never)))
        {
            return Err(SetupFault::Steering(*server));
        }
        let asker =
            Asker::new(&servers, params.each).map_err(|error| SetupFault::System(error.to_string()))?;
        let seed = getrandom::u64().map_err(|error| SetupFault::System(error.to_string()))?;
        Ok(Resolver {
            asker,
            guard: params.guard,
            routes: params.routes.into_iter().map(|route| (route.domain.clone(), route)).collect(),
            total: params.total,
            known: Mutex::new(HashMap::new()),
            seed: AtomicU64::new(seed),
            gates: Gates {
                all: Semaphore::new(MAX_LOOKUPS),
                carried: Semaphore::new(MAX_CARRIED),
                claims: Semaphore::new(MAX_CLAIMS),
            },
        })
    }

    /// Where to dial for a domain, best first; never empty.
    pub async fn targets(&self, domain: &Domain) -> Result<Vec<Target>, DnsFault> {
        self.targets_within(domain, Share::Own).await
    }

    /// The same, with this share of the lookups.
    pub async fn targets_within(&self, domain: &Domain, share: Share) -> Result<Vec<Target>, DnsFault> {
        let cell = self.cell(domain)?;
        let deadline = Instant::now() + self.total;
        let known = match cell.get() {
            Some(known) => known,
            None => {
                // Whoever waits for a place waits for it alone: nobody shares a lookup that has not begun (DNS-07).
                let _place = self.gates.enter(share, deadline).await?;
                cell.get_or_init(|| self.look_up(domain, deadline)).await
            }
        };
        let places = known.outcome.clone()?;
        let targets: Vec<Target> = order(places, self.draw(), |place| place.rank)
            .into_iter()
            .map(|place| Target {
                host: place.host,
                mode: place.rank.mode,
                addresses: (place.addresses.into_iter())
                    .filter(|address| place.routed || self.guard.admits(*address))
                    .take(MAX_ADDRESSES)
                    .collect(),
            })
            .filter(|target| !target.addresses.is_empty())
            .collect();
        if targets.is_empty() { Err(DnsFault::Guarded) } else { Ok(targets) }
    }

    /// The addresses of a host that a server has named as its own, behind the same guard as those that the DNS names.
    pub async fn host(&self, host: &str, port: u16, share: Share) -> Result<Vec<SocketAddr>, DnsFault> {
        let deadline = Instant::now() + self.total;
        let _place = self.gates.enter(share, deadline).await?;
        let mut found = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => {
                let rank = Rank { priority: 0, weight: 0, mode: TlsMode::Starttls };
                let host = Name::from_ascii(host).map_err(|_| DnsFault::NotFound)?;
                let (places, _ttl) = self.settle(vec![Candidate { rank, host, port }], false, deadline).await;
                places?.into_iter().flat_map(|place| place.addresses).collect()
            }
        };
        found.retain(|address| self.guard.admits_port(port) && self.guard.admits(*address));
        if found.is_empty() { Err(DnsFault::Guarded) } else { Ok(found) }
    }

    /// Whether a connection that stands has come back to ourselves; see [`Guard::is_own`].
    pub fn is_own(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.guard.is_own(local, remote)
    }

    /// The place where this domain's lookup is, was or will be.
    fn cell(&self, domain: &Domain) -> Result<Arc<OnceCell<Known>>, DnsFault> {
        let now = Instant::now();
        let is_fresh = |cell: &Arc<OnceCell<Known>>| cell.get().is_none_or(|known| known.until > now);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = known.get(domain).filter(|cell| is_fresh(cell)) {
            return Ok(Arc::clone(cell));
        }
        if known.len() >= MAX_KNOWN && !known.contains_key(domain) {
            // An unfinished lookup that nobody waits for any more was abandoned.
            known.retain(|_, cell| is_fresh(cell) && (cell.initialized() || Arc::strong_count(cell) > 1));
            if known.len() >= MAX_KNOWN {
                let finished =
                    known.iter().find(|(_, cell)| cell.initialized()).map(|(domain, _)| domain.clone());
                known.remove(&finished.ok_or(DnsFault::Failed)?);
            }
        }
        let cell = Arc::new(OnceCell::new());
        known.insert(domain.clone(), Arc::clone(&cell));
        Ok(cell)
    }

    async fn look_up(&self, domain: &Domain, deadline: Instant) -> Known {
        let (outcome, ttl) = match self.routes.get(domain) {
            Some(route) => self.route(route, deadline).await,
            None => self.discover(domain, deadline).await,
        };
        let seconds = match outcome {
            Err(DnsFault::Failed | DnsFault::Timeout) => FAILURE_TTL,
            _ => ttl.clamp(MIN_TTL, MAX_TTL),
        };
        Known { outcome, until: Instant::now() + Duration::from_secs(seconds.into()) }
    }

    async fn route(&self, route: &Route, deadline: Instant) -> (Result<Vec<Place>, DnsFault>, u32) {
        let rank = Rank { priority: 0, weight: 0, mode: route.mode };
        if let Ok(ip) = route.host.parse::<IpAddr>() {
            let addresses = vec![SocketAddr::new(ip, route.port)];
            return (Ok(vec![Place { rank, host: route.host.clone(), addresses, routed: true }]), MAX_TTL);
        }
        match Name::from_ascii(&route.host) {
            Ok(host) => self.settle(vec![Candidate { rank, host, port: route.port }], true, deadline).await,
            Err(_) => (Err(DnsFault::NotFound), MAX_TTL),
        }
    }

    async fn discover(&self, domain: &Domain, deadline: Instant) -> (Result<Vec<Place>, DnsFault>, u32) {
        let found = match timeout_at(deadline, find(&self.asker, domain, self.draw())).await {
            Ok(Ok(found)) => found,
            Ok(Err(fault)) => return (Err(fault.into()), 0),
            Err(_) => return (Err(DnsFault::Timeout), 0),
        };
        match found {
            (Service::None, ttl) => (Err(DnsFault::NotFound), ttl),
            (Service::At(mut candidates), ttl) => {
                candidates.retain(|candidate| self.guard.admits_port(candidate.port));
                if candidates.is_empty() {
                    return (Err(DnsFault::Guarded), ttl);
                }
                let (outcome, lower) = self.settle(candidates, false, deadline).await;
                (outcome, ttl.min(lower))
            }
        }
    }

    /// Finds the addresses of all candidates at once. Those found in time will do; with none, it matters why.
    async fn settle(
        &self,
        candidates: Vec<Candidate>,
        routed: bool,
        deadline: Instant,
    ) -> (Result<Vec<Place>, DnsFault>, u32) {
        let mut lookups = JoinSet::new();
        for candidate in candidates {
            let asker = self.asker.clone();
            lookups.spawn(async move {
                let found = addresses(&asker, &candidate).await;
                (candidate, found)
            });
        }
        let mut places = Vec::new();
        let mut ttl = MAX_TTL;
        let mut worst = DnsFault::NotFound;
        loop {
            match timeout_at(deadline, lookups.join_next()).await {
                Ok(Some(Ok((candidate, Ok((addresses, life)))))) => {
                    ttl = ttl.min(life);
                    if !addresses.is_empty() {
                        let host = candidate.host.to_ascii().trim_end_matches('.').to_owned();
                        places.push(Place { rank: candidate.rank, host, addresses, routed });
                    }
                }
                Ok(Some(Ok((_, Err(fault))))) => worst = fault.into(),
                Ok(Some(Err(_))) => worst = DnsFault::Failed,
                Ok(None) => break,
                Err(_) => {
                    worst = DnsFault::Timeout;
                    break;
                }
            }
        }
        if places.is_empty() { (Err(worst), ttl) } else { (Ok(places), ttl) }
    }

    fn draw(&self) -> u64 {
        self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

/// Both families, taken in turns, so that a broken one costs one attempt and not eight.
async fn addresses(asker: &Asker, candidate: &Candidate) -> Result<(Vec<SocketAddr>, u32), QueryFault> {
    let (six, four) = tokio::join!(
        asker.ask(candidate.host.clone(), RecordType::AAAA),
        asker.ask(candidate.host.clone(), RecordType::A)
    );
    let ip = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let (six, four) = match (six, four) {
        (Err(fault), Err(_)) => return Err(fault),
        // One family failed: what the other says will do, unless it says nothing.
        (Err(fault), Ok(found)) | (Ok(found), Err(fault)) if found.records.is_empty() => return Err(fault),
        (six, four) => (six.ok(), four.ok()),
    };
    let ttl = six.iter().chain(&four).map(|found| found.ttl).min().unwrap_or(MIN_TTL);
    let list = |found: Option<super::query::Found>| {
        found
            .map(|found| found.records.iter().filter_map(ip).take(MAX_ADDRESSES).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let (mut six, mut four) = (list(six).into_iter(), list(four).into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair.iter().all(Option::is_none) {
            break;
        }
        turns.extend(pair.into_iter().flatten().map(|ip| SocketAddr::new(ip, candidate.port)));
    }
    turns.truncate(MAX_ADDRESSES);
    Ok((turns, ttl))
}

/// A server at a wildcard address is also at every address of this host; loopback is the one we can be sure of.
fn is_same(server: SocketAddr, never: SocketAddr) -> bool {
    server.port() == never.port()
        && (server.ip() == never.ip() || (never.ip().is_unspecified() && server.ip().is_loopback()))
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// Why there is nowhere to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsFault {
    /// As much is looked up as may be: not the domain's fault.
    Busy,
    /// The DNS answered with a failure, or with answers to other questions.
    Failed,
    /// There are addresses, and none may be dialled (DNS-05, DNS-06).
    Guarded,
    /// The domain has no XMPP service.
    NotFound,
    /// The DNS did not answer in time.
    Timeout,
}

impl DnsFault {
    /// What to count, to log and to tell the sender.
    pub fn why(self) -> Why {
        match self {
            Self::Busy => Reason::Overload.into(),
            Self::Failed => Why::because(Reason::DnsFailed, Cause::DnsTrouble),
            Self::Guarded => Why::because(Reason::RemoteUnreachable, Cause::MustNotDial),
            Self::NotFound => Why::because(Reason::RemoteNotFound, Cause::NotInDns),
            Self::Timeout => Why::because(Reason::DnsFailed, Cause::DnsTrouble),
        }
    }
}

impl From<QueryFault> for DnsFault {
    fn from(fault: QueryFault) -> DnsFault {
        match fault {
            QueryFault::Failed => DnsFault::Failed,
            QueryFault::Timeout => DnsFault::Timeout,
        }
    }
}

impl fmt::Display for DnsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "as many domains are being looked up as may be",
            Self::Failed => "the DNS answered with a failure",
            Self::Guarded => "the DNS names only addresses or ports that must not be dialled",
            Self::NotFound => "the domain has no XMPP service in the DNS",
            Self::Timeout => "the DNS did not answer in time",
        })
    }
}

impl std::error::Error for DnsFault {}

/// Why no resolver could be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupFault {
    /// The server is the steering server, whose answers all lead back to us.
    Steering(SocketAddr),
    /// The system's configuration cannot be used.
    System(String),
}

impl fmt::Display for SetupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steering(server) => write!(
                f,
                "{server} is the gateway's own steering server; name another in `dns: {{ servers: [..] }}`"
            ),
            Self::System(error) => write!(
                f,
                "the system's DNS configuration cannot be used: {error}; name servers in `dns: {{ servers: [..] }}`"
            ),
        }
    }
}

impl std::error::Error for SetupFault {}

/// DNS-04.
const MAX_ADDRESSES: usize = 8;
/// Domains remembered.
const MAX_KNOWN: usize = 4096;
/// Domains looked up at the same time; the others wait, within their own deadline.
const MAX_LOOKUPS: usize = 256;
/// Of those, for questions about keys; and for what the gateway carries. The rest is for our own users alone.
const MAX_CLAIMS: usize = 128;
const MAX_CARRIED: usize = 64;
/// DNS-07, in seconds.
const MIN_TTL: u32 = 30;
const MAX_TTL: u32 = 3600;
/// A failure is remembered just long enough to keep a crowd from asking.
const FAILURE_TTL: u32 = 5;
