//! From a domain to the addresses to dial, in order.
//!
//! Answers are kept for as long as the DNS says, within bounds; those who ask for the same domain at the same time
//! share one lookup (DNS-07). The guard looks at each address every time it is handed out. What cannot be found out is
//! never guessed: a lookup that failed is not a domain without records.

mod fault;
mod look;
mod memory;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use self::fault::{DnsFault, SetupFault};
pub use self::look::{Caa, Led, LookedUp};
use self::memory::Memory;
use crate::dns::TlsMode;
use crate::dns::addresses::{Addresses, MAX_ADDRESSES, addresses};
use crate::dns::gates::{Gates, Places, Share};
use crate::dns::guard::DialGuard;
use crate::dns::order::{Candidate, Rank, order};
use crate::dns::own_addresses::OwnAddresses;
use crate::dns::query::{Asker, Dnssec, Servers, Trusted, system_servers};
use crate::dns::routes::{ByDomain, Whom};
use crate::dns::srv::{Service, find};
use crate::dns::tlsa::published;
use crate::jid::Domain;
use crate::policy::Pattern;
use crate::stream::dane::Published;

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
    pub guard: DialGuard,
    /// Domains whose servers the operator has named.
    pub routes: Vec<Route>,
    /// The domains served here: where the world finds them, we would find ourselves.
    pub hosted: Vec<Domain>,
    /// How many domains may be looked up at one time.
    pub places: Places,
    /// Who looks at signatures.
    pub dnssec: Dnssec,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            servers: Vec::new(),
            never: Vec::new(),
            each: Duration::from_secs(5),
            total: Duration::from_secs(15),
            guard: DialGuard::default(),
            routes: Vec::new(),
            hosted: Vec::new(),
            places: Places::default(),
            dnssec: Dnssec::Off,
        }
    }
}

/// Where domains are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The domain, or those below it.
    pub whom: Whom,
    /// Where, if not where the DNS says.
    pub at: Option<Server>,
}

impl Route {
    /// The server of one domain.
    pub fn to(domain: Domain, at: Server) -> Self {
        Self { whom: Whom::Named(Pattern::Exact(domain)), at: Some(at) }
    }
}

/// Where a domain's server is, by configuration; neither SRV nor the guard has a say (DNS-08).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
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
    /// Named by the operator, who may well mean this machine.
    pub routed: bool,
    /// What the DNS says of its certificate under signatures.
    pub published: Arc<Published>,
}

/// Finds the servers of domains.
pub struct Resolver {
    guard: DialGuard,
    routes: ByDomain<Option<Server>>,
    total: Duration,
    ours: Memory,
    /// What unproven peers have us look up is no matter of ours: neither what fails nor what fills the memory (LIM-06).
    theirs: Memory,
    own_addresses: Arc<OwnAddresses>,
    seed: AtomicU64,
    gates: Gates,
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
    published: Arc<Published>,
}

impl Resolver {
    /// Reads the system's configuration if no server is given.
    ///
    /// # Errors
    /// When the system's configuration, its randomness or the trust anchors cannot be read, or a server may not be asked.
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
        if let Some(far) =
            servers.iter().find(|server| params.dnssec == Dnssec::Resolver && !is_near(server.ip()))
        {
            return Err(SetupFault::Far(*far));
        }
        let trusted = Trusted::of(&params.dnssec).map_err(SetupFault::Anchors)?;
        let asked = || {
            Servers::new(&servers, params.each, &trusted)
                .map_err(|error| SetupFault::System(error.to_string()))
        };
        let memory = || Ok(Memory { servers: asked()?, known: Mutex::default() });
        let seed = getrandom::u64().map_err(|error| SetupFault::System(error.to_string()))?;
        Ok(Resolver {
            guard: params.guard,
            routes: params.routes.into_iter().map(|route| (route.whom, route.at)).collect(),
            total: params.total,
            ours: memory()?,
            theirs: memory()?,
            own_addresses: OwnAddresses::new(params.hosted, asked()?),
            seed: AtomicU64::new(seed),
            gates: Gates::new(params.places),
        })
    }

    /// Where to dial for a domain, best first; never empty.
    ///
    /// # Errors
    /// Why there is nowhere to dial.
    pub async fn targets(&self, domain: &Domain) -> Result<Vec<Target>, DnsFault> {
        self.targets_within(domain, Share::Own).await
    }

    /// The same, with this share of the lookups.
    ///
    /// # Errors
    /// Why there is nowhere to dial.
    pub async fn targets_within(&self, domain: &Domain, share: Share) -> Result<Vec<Target>, DnsFault> {
        self.targets_timed(domain, share).await.0
    }

    /// The same, and how long it waited for a place among the lookups.
    pub async fn targets_timed(
        &self,
        domain: &Domain,
        share: Share,
    ) -> (Result<Vec<Target>, DnsFault>, Duration) {
        let mut waited = Duration::ZERO;
        (self.find(domain, share, &mut waited).await, waited)
    }

    async fn find(
        &self,
        domain: &Domain,
        share: Share,
        waited: &mut Duration,
    ) -> Result<Vec<Target>, DnsFault> {
        self.own_addresses.refresh().await;
        let places = self.places(domain, share, waited).await?;
        let targets: Vec<Target> = order(places, self.draw(), |place| place.rank)
            .into_iter()
            .map(|place| Target {
                host: place.host,
                mode: place.rank.mode,
                addresses: (place.addresses.into_iter())
                    .filter(|address| place.routed || self.admits(*address))
                    .take(MAX_ADDRESSES)
                    .collect(),
                routed: place.routed,
                published: place.published,
            })
            .filter(|target| !target.addresses.is_empty())
            .collect();
        if targets.is_empty() { Err(DnsFault::Guarded) } else { Ok(targets) }
    }

    /// What all servers of a domain have published about their certificates, whether they may be dialled or not (DNS-15).
    ///
    /// # Errors
    /// Why that is not known.
    pub async fn published(&self, domain: &Domain, share: Share) -> Result<Vec<Arc<Published>>, DnsFault> {
        let places = self.places(domain, share, &mut Duration::default()).await?;
        Ok(places.into_iter().map(|place| place.published).collect())
    }

    /// The candidates of a domain, before the guard has looked at them.
    async fn places(
        &self,
        domain: &Domain,
        share: Share,
        waited: &mut Duration,
    ) -> Result<Vec<Place>, DnsFault> {
        let memory = self.memory(share);
        let cell = memory.cell(domain)?;
        let known = match cell.get() {
            Some(known) => known,
            None => {
                // Whoever waits for a place waits for it alone: nobody shares a lookup that has not begun (DNS-07), and
                // no clock of it runs before.
                let (_place, time) =
                    self.gates.enter(share, self.total).await.inspect_err(|_| *waited = self.total)?;
                *waited = time;
                let asker = memory.servers.asker();
                let look_up = || self.look_up((&asker, share), domain, Instant::now() + self.total);
                cell.get_or_init(look_up).await
            }
        };
        known.outcome.clone()
    }

    /// The addresses of a host that a server has named as its own, behind the same guard as those that the DNS names.
    ///
    /// # Errors
    /// Why there is nowhere to dial.
    pub async fn host(&self, host: &str, port: u16, share: Share) -> Result<Vec<SocketAddr>, DnsFault> {
        self.own_addresses.refresh().await;
        let _place = self.gates.enter(share, self.total).await?;
        let (asker, deadline) = (self.memory(share).servers.asker(), Instant::now() + self.total);
        let mut found = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => {
                let rank = Rank { priority: 0, weight: 0, mode: TlsMode::Starttls };
                let host = Name::from_ascii(host).map_err(|_| DnsFault::NotFound)?;
                let (places, _ttl) = settle(
                    &asker,
                    vec![Candidate { rank, host, port, secure: false, itself: false }],
                    false,
                    deadline,
                )
                .await;
                places?.into_iter().flat_map(|place| place.addresses).collect()
            }
        };
        found.retain(|address| self.guard.admits_port(port) && self.admits(*address));
        if found.is_empty() { Err(DnsFault::Guarded) } else { Ok(found) }
    }

    /// The addresses of a host that the operator has named: no guard has a say.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn named(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DnsFault> {
        let server = Server { host: host.to_owned(), port, mode: TlsMode::Starttls };
        let places = routed(&self.ours.servers.asker(), &server, Instant::now() + self.total).await.0?;
        Ok(places.into_iter().flat_map(|place| place.addresses).collect())
    }

    /// The domain has shown itself, or an operator knows better: that it was not found is forgotten (CLS-07).
    pub fn forget_absence(&self, domain: &Domain) {
        self.ours.forget_absence(domain);
        self.theirs.forget_absence(domain);
    }

    /// Whether the DNS may lead us there.
    fn admits(&self, address: SocketAddr) -> bool {
        self.guard.admits(address) && !self.own_addresses.has(address.ip())
    }

    fn memory(&self, share: Share) -> &Memory {
        match share {
            Share::Claims => &self.theirs,
            Share::Carried | Share::Own => &self.ours,
        }
    }

    async fn look_up(&self, (asker, share): (&Asker, Share), domain: &Domain, deadline: Instant) -> Known {
        let (outcome, ttl) = match self.routes.of(domain) {
            Some(Some(server)) => routed(asker, server, deadline).await,
            Some(None) | None => self.discover(asker, domain, deadline).await,
        };
        let seconds = match outcome {
            Err(DnsFault::Bogus | DnsFault::Failed | DnsFault::NoRoom | DnsFault::Timeout) => FAILURE_TTL,
            Err(DnsFault::TooMuch) => MIN_TTL,
            Err(DnsFault::NoDomain | DnsFault::NotFound) if share == Share::Claims => ABSENCE_TTL,
            Ok(_) if ttl == 0 => ABSENCE_TTL,
            _ => ttl.clamp(MIN_TTL, MAX_TTL),
        };
        Known { outcome, until: Instant::now() + Duration::from_secs(seconds.into()) }
    }

    async fn discover(
        &self,
        asker: &Asker,
        domain: &Domain,
        deadline: Instant,
    ) -> (Result<Vec<Place>, DnsFault>, u32) {
        let found = match timeout_at(deadline, find(asker, domain, self.draw())).await {
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
                // Without a record the domain itself is asked: if it is not there, there is no such domain.
                let itself = candidates.iter().all(|candidate| is_itself(&candidate.host, domain));
                let (outcome, lower) = settle(asker, candidates, false, deadline).await;
                let outcome = outcome.map_err(|fault| match fault {
                    DnsFault::NoDomain if !itself => DnsFault::NotFound,
                    fault => fault,
                });
                (outcome, ttl.max(MIN_TTL).min(lower))
            }
        }
    }

    fn draw(&self) -> u64 {
        self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

async fn routed(asker: &Asker, server: &Server, deadline: Instant) -> (Result<Vec<Place>, DnsFault>, u32) {
    let rank = Rank { priority: 0, weight: 0, mode: server.mode };
    if let Ok(ip) = server.host.parse::<IpAddr>() {
        let addresses = vec![SocketAddr::new(ip, server.port)];
        let place =
            Place { rank, host: server.host.clone(), addresses, routed: true, published: Arc::default() };
        return (Ok(vec![place]), MAX_TTL);
    }
    match Name::from_ascii(&server.host) {
        Ok(host) => {
            let (outcome, ttl) = settle(
                asker,
                vec![Candidate { rank, host, port: server.port, secure: false, itself: false }],
                true,
                deadline,
            )
            .await;
            let missing = |fault| if fault == DnsFault::NoDomain { DnsFault::NotFound } else { fault };
            (outcome.map_err(missing), ttl)
        }
        Err(_) => (Err(DnsFault::NotFound), MAX_TTL),
    }
}

/// Finds the addresses of all candidates at once. Those found in time will do; with none, it matters why. Once there is one to dial,
/// the others have a short time left (RFC 8305 3); what is not complete has no time to live.
async fn settle(
    asker: &Asker,
    candidates: Vec<Candidate>,
    routed: bool,
    deadline: Instant,
) -> (Result<Vec<Place>, DnsFault>, u32) {
    let mut lookups = JoinSet::new();
    for candidate in candidates {
        let asker = asker.clone();
        lookups.spawn(async move {
            let found = match addresses(&asker, &candidate).await {
                Ok(found) => {
                    let led = candidate.secure || candidate.itself;
                    let secure = led && found.secure && !found.addresses.is_empty();
                    published(&asker, &candidate, secure).await.map(|published| (found, published))
                }
                Err(fault) => Err(fault),
            };
            (candidate, found)
        });
    }
    let mut places = Vec::new();
    let mut ttl = MAX_TTL;
    let mut worst = DnsFault::NotFound;
    let mut until = deadline;
    loop {
        match timeout_at(until, lookups.join_next()).await {
            Ok(Some(Ok((candidate, Ok((Addresses { addresses, ttl: life, gone, .. }, published)))))) => {
                ttl = ttl.min(life.max(MIN_TTL));
                if gone && worst == DnsFault::NotFound {
                    worst = DnsFault::NoDomain;
                }
                if !addresses.is_empty() {
                    until = until.min(Instant::now() + GRACE);
                    let host = candidate.host.to_ascii().trim_end_matches('.').to_owned();
                    let published = Arc::new(published);
                    places.push(Place { rank: candidate.rank, host, addresses, routed, published });
                }
            }
            Ok(Some(Ok((_, Err(fault))))) => worst = fault.into(),
            Ok(Some(Err(_))) => worst = DnsFault::Failed,
            Ok(None) => break,
            Err(_) => {
                (worst, ttl) = (DnsFault::Timeout, 0);
                break;
            }
        }
    }
    if places.is_empty() { (Err(worst), ttl) } else { (Ok(places), ttl) }
}

/// Whether this host is the domain by its own name.
fn is_itself(host: &Name, domain: &Domain) -> bool {
    host.to_ascii().trim_end_matches('.').eq_ignore_ascii_case(&domain.to_ascii())
}

/// Whether there are trust anchors to validate from, where they are a file's.
///
/// # Errors
/// What is wrong with the file.
pub fn check_anchors(dnssec: &Dnssec) -> Result<(), String> {
    Trusted::of(dnssec).map(|_| ())
}

/// Whether a resolver there may be believed that it has validated: nobody is on the way but our own (DNS-09).
pub fn is_near(server: IpAddr) -> bool {
    match server.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
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

/// Domains remembered.
const MAX_KNOWN: usize = 4096;
/// DNS-07, in seconds.
const MIN_TTL: u32 = 30;
const MAX_TTL: u32 = 3600;
/// What the other candidates of a domain have left once one is known: as long as the two services have.
const GRACE: Duration = Duration::from_millis(500);
/// A failure is remembered just long enough to keep a crowd from asking.
const FAILURE_TTL: u32 = 1;
/// So is, where a domain claims, that it is absent: its claim shows that it is back (CLS-07), whatever its zone says of that.
const ABSENCE_TTL: u32 = 2;
