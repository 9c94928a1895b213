//! Settings in, a running gateway out.
//!
//! [`Gateway::start`] reads every file, binds every address and opens the doors last, so that what is wrong is told before
//! anybody is let in. What happens to a running gateway comes from outside: [`Gateway::reload`], [`Gateway::stop`], or both
//! from the signals of the process with [`Gateway::attend`].

pub mod accept;
pub mod admin;
pub mod bans;
pub mod control;
pub mod desk;
pub mod lifecycle;
pub mod parts;
mod places;
pub mod protocol;
pub mod reload;
pub mod secrets;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use self::accept::Entrance;
use self::admin::Admin;
use self::bans::Book;
use self::control::{Act, Control};
use self::desk::Desk;
use self::lifecycle::{Command, Lifecycle, Signals};
use self::parts::Credentials;
use self::protocol::{Answer, Plan};
use self::reload::{Current, Reloader};
use self::secrets::Secrets;
use crate::config::settings::{Encryption, Role, Settings};
use crate::dns::Resolver;
use crate::dns::steer::Steering;
use crate::limit::{Arrivals, Logins, Rates, Senders, Strangers, Streams};
use crate::metrics::{Door, Metrics};
use crate::net::listen::Listener;
use crate::policy::{Day, Finding, Place};
use crate::run::audit::Audit;
use crate::run::circuit::Circuits;
use crate::run::courier::Couriers;
use crate::run::observe::Observe;
use crate::run::registry::Registry;
use crate::run::verifier::Verifier;
use crate::run::world::{self, World};
use crate::run::{self, Tools, now};
use crate::tls::{Acceptor, Alpn, Connector};

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    tools: Arc<Tools>,
    desk: Arc<Desk>,
    listening: Vec<(Door, SocketAddr)>,
    admin: Option<Admin>,
    control: Option<Control>,
    steering: Option<Steering>,
    tasks: JoinSet<()>,
}

impl Gateway {
    /// Reads, binds, and opens the doors.
    ///
    /// # Errors
    /// Everything that is wrong, at once as far as it can be seen at once.
    pub async fn start(settings: Settings) -> Result<Self, StartFault> {
        Self::start_with(settings, Vec::new()).await
    }

    /// The same, with sockets that the supervisor listens on already (socket activation): each takes the place of the
    /// listener with its address, so that over a restart no attempt to connect is refused.
    ///
    /// # Errors
    /// Everything that is wrong, at once as far as it can be seen at once.
    pub async fn start_with(
        settings: Settings,
        handed: Vec<std::net::TcpListener>,
    ) -> Result<Self, StartFault> {
        let mut findings = parts::refused(&settings);
        let credentials = Credentials::read(&settings).map_err(|f| findings.extend(f)).ok();
        let secrets = Secrets::read(&settings).map_err(|f| findings.extend(f)).ok();
        let compiled = crate::config::policies(&settings, today()).map_err(|f| findings.extend(f)).ok();
        let (Some(credentials), Some(secrets), Some(compiled), true) =
            (credentials, secrets, compiled, findings.is_empty())
        else {
            return Err(StartFault::Configuration(findings));
        };
        for warning in &compiled.warnings {
            tracing::warn!(finding = %warning, "policy");
        }
        let policy = Arc::new(compiled.policy);
        let metrics =
            Metrics::new(settings.domains.iter().map(|d| d.name.clone())).map_err(StartFault::internal)?;
        let metrics = Arc::new(metrics);
        metrics.policy(policy.digest());
        let audit = start_audit(&settings, &metrics)?;
        let doors = bind(&settings, handed)?;
        let own: Vec<SocketAddr> = doors.iter().map(|bound| bound.address).collect();
        let acceptors = Acceptors::new(&credentials).map_err(StartFault::internal)?;
        let connector = Connector::new(credentials.connecting()).map_err(StartFault::internal)?;
        let resolver = Resolver::new(parts::resolver(&settings, own)).map_err(|fault| {
            let remedy = "name servers in `dns: { servers: [..] }`";
            StartFault::one(Finding::error(Place::whole(&settings.file), fault.to_string(), remedy))
        })?;
        let circuits = Circuits::new(parts::circuits(&settings), Arc::clone(&metrics));
        let handshakes = Arc::new(parts::handshakes(&settings));
        let world = Arc::new(World::new(
            world::Params {
                acceptor: Arc::clone(&acceptors.starttls),
                acceptor_clients: Arc::clone(&acceptors.starttls_clients),
                resolver,
                backends: parts::backends(&settings),
                clients: parts::clients(&settings),
                dial: parts::dial(&settings),
                handshake: settings.timeouts.tls,
                pace: Arc::clone(&handshakes),
                circuits: Arc::clone(&circuits),
                metrics: Arc::clone(&metrics),
            },
            connector,
        ));
        let registry = Registry::new(policy, settings.timeouts.dialback, boot()?);
        let tools = Arc::new(Tools {
            params: parts::engine(&settings),
            home: Arc::new(parts::home(&settings, secrets.keyrings())),
            outside: Arc::clone(&world) as Arc<dyn run::Outside>,
            registry: Arc::clone(&registry),
            verifier: Verifier::default(),
            couriers: Couriers::new(now()),
            rates: Rates::new(parts::rates(&settings)),
            senders: Senders::new(parts::senders(&settings), now()),
            streams: Streams::new(),
            circuits,
            handshakes,
            strangers: Strangers::new(parts::strangers(&settings)),
            logins: Arc::new(Logins::new(parts::logins(&settings))),
            registrations: parts::registrations(&settings),
            observe: Arc::new(Observe::new(Arc::clone(&metrics), audit, now())),
        });
        let steering = start_steering(&settings).await?;
        let admin = start_admin(&settings, &tools)?;
        let listening = doors.iter().map(|bound| (bound.door, bound.address)).collect();
        let socket = settings.admin.socket.clone();
        let lifecycle = Lifecycle::new(Arc::clone(&registry), parts::grace(&settings));
        let current = Current { credentials, secrets };
        let desk = Arc::new(Desk {
            tools: Arc::clone(&tools),
            lifecycle: Arc::new(lifecycle),
            reloader: Arc::new(Reloader::new(settings, current, acceptors, world, Arc::clone(&tools))),
            bans: Arc::new(Book::new(Arc::clone(&registry), metrics)),
        });
        let control = socket.map(|path| start_control(&path, &desk)).transpose()?;
        let mut gateway = Self { desk, listening, admin, control, steering, tasks: JoinSet::new(), tools };
        gateway.open(doors);
        Ok(gateway)
    }

    fn open(&mut self, doors: Vec<Bound>) {
        let reloader = Arc::clone(&self.desk.reloader);
        let settings = reloader.settings();
        let world = Arrivals::new(parts::arrivals(settings), now());
        let clients = world.beside(parts::arrivals_of_clients(settings), now());
        let inside = Arrivals::new(parts::arrivals_inside(settings), now());
        for Bound { door, listener, from, proxies, address } in doors {
            let entrance = Entrance {
                listener,
                door,
                from,
                proxies,
                direct: reloader.acceptors().direct(door),
                arrivals: Arc::clone(match door {
                    Door::C2sDirect | Door::C2sStarttls => &clients,
                    Door::Inside => &inside,
                    Door::Mixed | Door::Outbound | Door::S2sDirect | Door::S2sStarttls => &world,
                }),
                header: settings.timeouts.header,
                handshake: settings.timeouts.tls,
                unauth: settings.timeouts.unauth,
            };
            tracing::info!(listener = door.label(), %address, "listening");
            self.tasks.spawn(entrance.serve(Arc::clone(&self.tools)));
        }
        self.tasks.spawn(Arc::clone(&reloader).follow_the_calendar());
        self.tasks.spawn(Arc::clone(&self.desk.bans).keep_time());
        self.tasks.spawn(lifecycle::keep_alive(Arc::clone(&self.tools.registry)));
        self.tasks.spawn(count_bans(Arc::clone(&self.tools)));
        self.desk.lifecycle.ready();
    }

    /// Where it listens, for each listener in the order of the configuration.
    pub fn listening(&self) -> &[(Door, SocketAddr)] {
        &self.listening
    }

    /// Where it answers `/metrics`, if it does.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Where it answers DNS questions of the backends, if it does.
    pub fn steering_address(&self) -> Option<SocketAddr> {
        self.steering.as_ref().map(Steering::address)
    }

    /// What the relays lean on.
    pub fn tools(&self) -> &Arc<Tools> {
        &self.tools
    }

    /// Where operators' requests are dealt with.
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Reads policies, certificates and secrets again: all of them, or the old ones stay.
    ///
    /// # Errors
    /// What is wrong with the new ones.
    pub async fn reload(&self) -> Result<Plan, Vec<Finding>> {
        Arc::clone(&self.desk.reloader).reload().await
    }

    /// Drains; the second time, stops now.
    pub fn stop(&self) {
        self.desk.lifecycle.stop();
    }

    /// Waits for the end of a drain, and puts everything away.
    pub async fn stopped(mut self) {
        self.desk.lifecycle.stopped().await;
        drop(self.control.take());
        self.tasks.shutdown().await;
        if let Some(steering) = self.steering.take() {
            steering.stop().await;
        }
        let observe = Arc::clone(&self.tools.observe);
        // The disk may be slow; the runtime's own threads need not wait for it.
        if tokio::task::spawn_blocking(move || observe.finish()).await.is_err() {
            tracing::error!("the audit file was not finished");
        }
        tracing::info!("stopped");
    }

    /// Runs on the signals of the process until it has stopped.
    pub async fn attend(self, mut signals: Signals) {
        loop {
            tokio::select! {
                command = signals.next() => match command {
                    Command::Reload => {
                        let answer = match self.reload().await {
                            Ok(plan) => Answer::Reloaded { plan },
                            Err(findings) => desk::refused(&findings),
                        };
                        self.desk.record(&Act::by_signal("reload", &answer));
                    }
                    Command::Reopen => self.tools.observe.reopen(),
                    Command::Stop => {
                        let (relays, seconds) = (self.tools.registry.living(), 0);
                        self.desk.record(&Act::by_signal("drain", &Answer::Draining { relays, seconds }));
                        self.stop();
                    }
                },
                () = self.desk.lifecycle.stopped() => break,
            }
        }
        self.stopped().await;
    }
}

/// Why a gateway did not start.
#[derive(Debug)]
pub enum StartFault {
    /// What the operator can mend.
    Configuration(Vec<Finding>),
    /// What he cannot.
    Internal(String),
}

impl StartFault {
    fn one(finding: Finding) -> Self {
        Self::Configuration(vec![finding])
    }

    fn internal(error: impl fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(findings) => {
                for (n, finding) in findings.iter().enumerate() {
                    write!(f, "{}{finding}", if n == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            Self::Internal(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for StartFault {}

/// TLS as server, for each kind of listener.
#[derive(Clone, Debug)]
pub struct Acceptors {
    starttls: Arc<Acceptor>,
    starttls_clients: Arc<Acceptor>,
    direct: Arc<Acceptor>,
    direct_clients: Arc<Acceptor>,
    mixed: Arc<Acceptor>,
}

impl Acceptors {
    fn new(credentials: &Credentials) -> Result<Self, rustls::Error> {
        let made =
            |encryption, alpn: &[Alpn]| Acceptor::new(credentials.accepting(encryption, alpn)).map(Arc::new);
        Ok(Self {
            starttls: made(Encryption::Starttls, SERVERS)?,
            starttls_clients: made(Encryption::Starttls, CLIENTS)?,
            direct: made(Encryption::Direct, SERVERS)?,
            direct_clients: made(Encryption::Direct, CLIENTS)?,
            mixed: made(Encryption::Direct, BOTH)?,
        })
    }

    /// Shows these credentials from the next handshake on.
    fn show(&self, credentials: &Credentials) -> Result<(), rustls::Error> {
        self.starttls.replace(credentials.accepting(Encryption::Starttls, SERVERS))?;
        self.starttls_clients.replace(credentials.accepting(Encryption::Starttls, CLIENTS))?;
        self.direct.replace(credentials.accepting(Encryption::Direct, SERVERS))?;
        self.direct_clients.replace(credentials.accepting(Encryption::Direct, CLIENTS))?;
        self.mixed.replace(credentials.accepting(Encryption::Direct, BOTH))
    }

    /// What begins TLS with the first octet at this door, if anything does.
    fn direct(&self, door: Door) -> Option<Arc<Acceptor>> {
        match door {
            Door::C2sDirect => Some(Arc::clone(&self.direct_clients)),
            Door::Mixed => Some(Arc::clone(&self.mixed)),
            Door::S2sDirect => Some(Arc::clone(&self.direct)),
            Door::C2sStarttls | Door::Inside | Door::Outbound | Door::S2sStarttls => None,
        }
    }
}

const BOTH: &[Alpn] = &[Alpn::Client, Alpn::Server];
const CLIENTS: &[Alpn] = &[Alpn::Client];
const SERVERS: &[Alpn] = &[Alpn::Server];

/// Refusals of logins end by themselves; the gauge follows.
async fn count_bans(tools: Arc<Tools>) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        tools.observe.metrics().bans(tools.logins.bans(now()));
    }
}

/// A listener that is bound and not yet open.
struct Bound {
    door: Door,
    listener: Listener,
    from: Option<Vec<ipnet::IpNet>>,
    proxies: Option<Vec<ipnet::IpNet>>,
    address: SocketAddr,
}

/// Binds all listeners, or tells of all that cannot be bound. Those that were handed over are bound already.
fn bind(settings: &Settings, mut handed: Vec<std::net::TcpListener>) -> Result<Vec<Bound>, StartFault> {
    let patience = settings.timeouts.stanza;
    let mut bound = Vec::new();
    let mut findings = Vec::new();
    for asked in &settings.listeners {
        let (door, from) = match &asked.role {
            Role::Inside(from) => (Door::Inside, Some(from.clone())),
            Role::S2s(Encryption::Direct) => (Door::S2sDirect, None),
            Role::S2s(Encryption::Starttls) => (Door::S2sStarttls, None),
            Role::C2s(Encryption::Direct) => (Door::C2sDirect, None),
            Role::C2s(Encryption::Starttls) => (Door::C2sStarttls, None),
            Role::Mixed => (Door::Mixed, None),
        };
        let at = handed.iter().position(|socket| socket.local_addr().is_ok_and(|a| a == asked.address));
        let made = match at {
            Some(at) => Listener::adopt(handed.swap_remove(at), patience),
            None => Listener::bind(asked.address, patience),
        };
        let made = made.and_then(|l| l.local_addr().map(|address| (l, address)));
        match made {
            Ok((listener, address)) => {
                bound.push(Bound { door, listener, from, proxies: asked.proxies.clone(), address });
            }
            Err(error) => findings.push(Finding::error(
                asked.place.clone(),
                format!("cannot listen on {}: {error}", asked.address),
                "end what holds the address, or write another one",
            )),
        }
    }
    for socket in handed {
        let address = socket.local_addr().map_or_else(|e| e.to_string(), |address| address.to_string());
        tracing::warn!(address, "the supervisor listens there for us, and the configuration does not");
    }
    if findings.is_empty() { Ok(bound) } else { Err(StartFault::Configuration(findings)) }
}

async fn start_steering(settings: &Settings) -> Result<Option<Steering>, StartFault> {
    let Some(params) = parts::steering(settings) else { return Ok(None) };
    let listen = params.listen;
    let steering = Steering::start(params).await.map_err(|error| {
        let message = format!("steering cannot listen on {listen}: {error}");
        let remedy = "end what holds the address, or write another one";
        StartFault::one(Finding::error(Place::whole(&settings.file), message, remedy))
    })?;
    tracing::info!(address = %steering.address(), "steering");
    Ok(Some(steering))
}

fn start_audit(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Option<Audit>, StartFault> {
    let Some(audit) = &settings.audit else { return Ok(None) };
    Audit::open(parts::audit(audit), Arc::clone(metrics)).map(Some).map_err(|error| {
        let place = Place::whole(&audit.file.display().to_string());
        let message = format!("the audit file cannot be written: {error}");
        StartFault::one(Finding::error(place, message, "let the gateway's user read and write there"))
    })
}

fn start_control(path: &std::path::Path, desk: &Arc<Desk>) -> Result<Control, StartFault> {
    Control::start(path, Arc::clone(desk)).map_err(|error| {
        let place = Place::whole(&path.display().to_string());
        let message = format!("the control socket cannot be opened: {error}");
        StartFault::one(Finding::error(place, message, "let the gateway's user write in its folder"))
    })
}

fn start_admin(settings: &Settings, tools: &Tools) -> Result<Option<Admin>, StartFault> {
    let Some(address) = settings.admin.http else { return Ok(None) };
    let (observe, registry) = (Arc::clone(&tools.observe), Arc::clone(&tools.registry));
    let hosts = settings.admin.hosts.clone();
    let admin = Admin::start(address, hosts, observe, registry).map_err(|error| {
        let message = format!("admin cannot listen on {address}: {error}");
        let remedy = "end what holds the address, or write another one";
        StartFault::one(Finding::error(Place::whole(&settings.file), message, remedy))
    })?;
    tracing::info!(address = %admin.address(), "admin");
    Ok(Some(admin))
}

/// A number that tells this run from all others, for stream ids in logs.
fn boot() -> Result<u32, StartFault> {
    let [a, b, c, d, ..] = run::seed().map_err(StartFault::internal)?;
    Ok(u32::from_be_bytes([a, b, c, d]))
}

/// Today, UTC, by the system's clock.
fn today() -> Day {
    Day::from_unix_seconds(i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX))
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
