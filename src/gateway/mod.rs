//! Settings in, a running gateway out.
//!
//! [`Gateway::start`] reads every file, binds every address and opens the doors last, so that what is wrong is told before
//! anybody is let in. What happens to a running gateway comes from outside: [`Gateway::reload`], [`Gateway::stop`], or both
//! from the signals of the process with [`Gateway::attend`].

pub mod accept;
mod act;
pub mod admin;
pub mod admission;
mod background;
pub mod bans;
mod calendar;
mod certificates;
mod changes;
mod clock;
pub mod cluster;
pub mod control;
mod departed;
pub mod doctor;
mod doors;
mod engine;
pub mod explain;
mod fetching;
mod freeing;
pub mod from_settings;
mod handed;
mod known;
pub mod lifecycle;
mod lists;
pub mod loud;
mod named;
pub mod operations;
mod overview;
mod peers;
mod places;
pub mod protocol;
mod quarantine;
pub mod reading;
pub mod reload;
pub mod rules;
mod secrets;
mod services;
mod sockets;
mod successor;
mod ticks;
mod trust;
mod used;
mod wall;
mod watch;
mod web;
mod written;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

pub use self::doors::unbound;
pub use self::handed::Handed;

use self::act::Act;
use self::admin::{Shown, Shows};
use self::bans::BanList;
use self::cluster::{Cluster, Here};
use self::control::Answering;
use self::doors::Doors;
use self::engine::Engine;
use self::from_settings::Credentials;
use self::lifecycle::{Command, Lifecycle, Signals};
use self::operations::Operations;
use self::protocol::{Answer, Plan};
use self::reading::{Read, Reading};
use self::reload::{Current, Reloader, Relog};
use self::secrets::Secrets;
use self::services::Services;
use self::wall::{millis, since_1970, today, unix_seconds};
use crate::config::Seen;
use crate::config::settings::{Callers, Encryption, Settings};
use crate::metrics::{Door, Metrics};
use crate::policy::Finding;
use crate::run::workers::Workers;
use crate::run::{self, Tools, kept, now};
use crate::tls::{Acceptor, Alpn};

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    operations: Arc<Operations>,
    tasks: JoinSet<()>,
}

/// What a gateway is given beside its settings.
#[derive(Default)]
pub struct Inherited {
    /// Sockets that somebody has opened for us already (socket activation, or the gateway before this one).
    pub sockets: Handed,
    /// How a reload has the process log otherwise; without it the log stays as it began.
    pub relog: Option<Relog>,
    /// How an operator has it log otherwise for a while.
    pub louder: Option<loud::Louder>,
    /// Where relays run; without threads of their own, where the gateway does.
    pub workers: Workers,
}

impl Gateway {
    /// Reads, binds, and opens the doors.
    ///
    /// # Errors
    /// Everything that is wrong, at once as far as it can be seen at once.
    pub async fn start(settings: Settings) -> Result<Self, StartFault> {
        Self::start_with(Reading::of_settings(settings, Vec::new()), Inherited::default()).await
    }

    /// The same with what was read already.
    ///
    /// # Errors
    /// Everything that is wrong, at once as far as it can be seen at once.
    pub async fn start_with(reading: Reading, given: Inherited) -> Result<Self, StartFault> {
        let Read { settings, seen, credentials, secrets, compiled, remarks } =
            reading.bearable().map_err(StartFault::Configuration)?;
        tell(&remarks);
        let secrets = Secrets::begin(secrets).map_err(|reason| StartFault::internal(reason.label()))?;
        let cases = rules::about_pairs(&settings, compiled.cases);
        let policy = Arc::new(lists::recalled(&settings, compiled.policy));
        let metrics =
            Metrics::new(settings.domains.iter().map(|d| d.name.clone())).map_err(StartFault::internal)?;
        let metrics = Arc::new(metrics);
        metrics.policy(policy.digest());
        metrics.configuration(&seen.digest(&settings));
        // First what one gateway alone can have, and the audit file last: who finds another one there has left no trace.
        let (doors, mut handed) = (Doors::new(), given.sockets);
        let mut taken = doors.bind(&settings, &mut handed);
        let admin = settings.admin.http.as_ref();
        let admin = admin.map(|at| services::bind_admin(&settings, at, &mut handed)).transpose();
        let steered = services::asked(&settings);
        let steered = steered.map(|at| services::bind_steering(&settings, at, &mut handed)).transpose();
        handed.close();
        let (control, state) = (services::take_control(&settings), services::claim_state(&settings));
        let in_the_way =
            [admin.as_ref().err(), steered.as_ref().err(), control.as_ref().err(), state.as_ref().err()];
        let in_the_way: Vec<Finding> = in_the_way.into_iter().flatten().cloned().collect();
        match &mut taken {
            Err(findings) => findings.extend(in_the_way),
            Ok(_) if in_the_way.is_empty() => {}
            Ok(_) => taken = Err(in_the_way),
        }
        let sockets = taken.map_err(StartFault::Configuration)?;
        let (admin, steered) = (admin.map_err(StartFault::one)?, steered.map_err(StartFault::one)?);
        let (control, state) = (control.map_err(StartFault::one)?, state.map_err(StartFault::one)?);
        let audit = services::start_audit(&settings, &metrics).map_err(StartFault::one)?;
        let listening: Vec<_> = sockets.iter().map(|bound| (bound.door, bound.address)).collect();
        let own = listening.iter().map(|(_, address)| *address).collect();
        let acceptors = Acceptors::new(&credentials).map_err(StartFault::internal)?;
        let settings = Arc::new(settings);
        let engine = Engine::new(
            Arc::clone(&settings),
            (&credentials, &secrets),
            (policy, &acceptors),
            (Arc::clone(&metrics), audit),
            (own, given.workers),
        )?;
        let tools = Arc::clone(engine.tools());
        let steering = steered.map(|sockets| services::start_steering(&settings, sockets)).transpose();
        let steering = steering.map_err(StartFault::one)?.flatten();
        metrics_of(&tools);
        rules::follow(&tools, &cases, |tools| {
            if let Some(folder) = &settings.state {
                kept::recall(folder, &tools.observe);
            }
        });
        quarantine::recall(&settings, &tools);
        peers::recall(&settings, &tools);
        let shown = Arc::new(Shown::default());
        let admin = admin.map(|socket| services::start_admin(&settings, socket, &tools, &shown)).transpose();
        let admin = admin.map_err(StartFault::one)?;
        let services = Services { doors, admin, control: None, steering, state, shown: Arc::clone(&shown) };
        let registry = Arc::clone(&tools.registry);
        let lifecycle = Arc::new(Lifecycle::new(Arc::clone(&registry), from_settings::grace(&settings)));
        let current = Current {
            settings: Arc::clone(&settings),
            seen,
            refused: Seen::default(),
            credentials,
            secrets,
            engine,
            listening,
            cases,
        };
        let opening = acceptors.clone();
        let reloader =
            Arc::new(Reloader::new(current, services, acceptors, Arc::clone(&lifecycle), given.relog));
        let cluster = Cluster::begin(&settings).map_err(StartFault::one)?;
        let operations = Arc::new(Operations {
            cluster: cluster.clone(),
            loudness: loud::Loudness::new(given.louder),
            lifecycle,
            reloader: Arc::clone(&reloader),
            bans: Arc::new(BanList::new(registry, metrics)),
        });
        reloader.answered_by(operations.clone());
        shown.by(&(operations.clone() as Arc<dyn Shows>));
        let control =
            services::start_control(&settings, control, operations.clone()).map_err(StartFault::one)?;
        if let Some(cluster) = &cluster {
            // Bans that others keep for us hold from the first connection on, if the store is there.
            cluster.exchange(&(operations.clone() as Arc<dyn Here>)).await;
            peers::publish(&tools.observe, &tools.registry);
        }
        let mut services = reloader.services().await;
        services.control = control;
        services.doors.open(sockets, &settings, &opening, &tools);
        drop(services);
        let tasks = attended(&operations);
        operations.lifecycle.ready();
        Ok(Self { operations, tasks })
    }

    /// Where it listens, for each listener in the order of the configuration.
    pub fn listening(&self) -> Vec<(Door, SocketAddr)> {
        self.operations.reloader.listening()
    }

    /// What the relays lean on.
    pub fn tools(&self) -> Arc<Tools> {
        self.operations.reloader.tools()
    }

    /// Where operators' requests are dealt with.
    pub fn operations(&self) -> &Arc<Operations> {
        &self.operations
    }

    /// Reads the configuration and every file that it names again: all of them, or the old ones stay.
    ///
    /// # Errors
    /// What is wrong with the new ones.
    pub async fn reload(&self) -> Result<Plan, Vec<Finding>> {
        Arc::clone(&self.operations.reloader).reload().await
    }

    /// Drains; the second time, stops now.
    pub fn stop(&self) {
        self.operations.lifecycle.stop();
    }

    /// Waits for the end of a drain, and puts everything away.
    pub async fn stopped(mut self) {
        self.operations.lifecycle.stopped().await;
        let cluster = self.operations.cluster.clone();
        let farewell = tokio::spawn(async move {
            if let Some(cluster) = cluster {
                cluster.leave().await;
            }
        });
        // By itself: what is being answered may look at the services.
        let control = self.operations.reloader.services().await.control.take();
        if let Some(control) = control {
            control.close().await;
        }
        let mut services = self.operations.reloader.services().await;
        self.tasks.shutdown().await;
        services.doors.shut().await;
        if let Some(steering) = services.steering.take() {
            steering.stop().await;
        }
        let (admin, tools) = (services.admin.take(), self.tools());
        let settings = self.operations.reloader.settings();
        // The disk may be slow; the runtime's own threads need not wait for it.
        let finished = tokio::task::spawn_blocking(move || {
            drop(admin);
            rules::keep_now(&settings, &tools);
            peers::keep_now(&settings, tools.observe.peers());
            tools.observe.finish();
        });
        if finished.await.is_err() {
            tracing::error!("the audit file was not finished");
        }
        // It has its own end, which comes soon.
        let _left = farewell.await;
        tracing::info!("stopped");
    }

    /// Runs on the signals of the process until it has stopped.
    ///
    /// What comes back are the listening sockets, where another program is to take the place of this one.
    pub async fn attend(self, signals: &mut Signals) -> Option<Vec<OwnedFd>> {
        let lifecycle = Arc::clone(&self.operations.lifecycle);
        loop {
            tokio::select! {
                command = signals.next() => match command {
                    Command::Reload => {
                        let answer = match self.reload().await {
                            Ok(plan) => Answer::Reloaded { plan },
                            Err(findings) => operations::refused(&findings),
                        };
                        self.operations.record(&Act::by_signal("reload", &answer));
                    }
                    Command::Reopen => self.tools().observe.reopen(),
                    Command::Stop => {
                        let (relays, seconds) = (self.tools().registry.living(), 0);
                        self.operations.record(&Act::by_signal("drain", &Answer::Draining { relays, seconds }));
                        self.stop();
                    }
                },
                () = self.operations.lifecycle.stopped() => break,
            }
        }
        self.stopped().await;
        lifecycle.successor()
    }
}

/// Has the metrics follow the policy in force.
fn metrics_of(tools: &Tools) {
    let policy = tools.registry.policy();
    let ends = policy
        .rules()
        .filter_map(|rule| Some((rule.name, rule.expires?.next().days().saturating_mul(24 * 3600))));
    tools.observe.metrics().rules(ends);
    tools.observe.metrics().lists(policy.lists());
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
    mixed_web: Arc<Acceptor>,
    web: Arc<Acceptor>,
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
            mixed_web: made(Encryption::Direct, ALL)?,
            web: made(Encryption::Direct, WEB)?,
        })
    }

    /// Shows these credentials from the next handshake on.
    fn show(&self, credentials: &Credentials) -> Result<(), rustls::Error> {
        self.starttls.replace(credentials.accepting(Encryption::Starttls, SERVERS))?;
        self.starttls_clients.replace(credentials.accepting(Encryption::Starttls, CLIENTS))?;
        self.direct.replace(credentials.accepting(Encryption::Direct, SERVERS))?;
        self.direct_clients.replace(credentials.accepting(Encryption::Direct, CLIENTS))?;
        self.mixed.replace(credentials.accepting(Encryption::Direct, BOTH))?;
        self.mixed_web.replace(credentials.accepting(Encryption::Direct, ALL))?;
        self.web.replace(credentials.accepting(Encryption::Direct, WEB))
    }

    /// What begins TLS with the first octet at this door, if anything does.
    fn direct(&self, role: &Callers) -> Option<Arc<Acceptor>> {
        let acceptor = match role {
            Callers::C2s(Encryption::Direct) => &self.direct_clients,
            Callers::Mixed(mixed) if mixed.web.is_some() => &self.mixed_web,
            Callers::Mixed(_) => &self.mixed,
            Callers::S2s(Encryption::Direct) => &self.direct,
            Callers::Websocket(web) if !web.at_proxy => &self.web,
            Callers::C2s(_) | Callers::Inside(_) | Callers::S2s(_) | Callers::Websocket(_) => return None,
        };
        Some(Arc::clone(acceptor))
    }
}

const ALL: &[Alpn] = &[Alpn::Client, Alpn::Server, Alpn::Http];
const WEB: &[Alpn] = &[Alpn::Http];
const BOTH: &[Alpn] = &[Alpn::Client, Alpn::Server];
const CLIENTS: &[Alpn] = &[Alpn::Client];
const SERVERS: &[Alpn] = &[Alpn::Server];

fn tell(remarks: &[Finding]) {
    for finding in remarks {
        match finding.is_error() {
            true => tracing::error!(%finding, "configuration"),
            false => tracing::warn!(%finding, "configuration"),
        }
    }
}

/// All that goes on beside the connections, as long as the gateway lives.
fn attended(operations: &Arc<Operations>) -> JoinSet<()> {
    let reloader = || Arc::clone(&operations.reloader);
    let mut tasks = JoinSet::new();
    tasks.spawn(watch::files(reloader()));
    tasks.spawn(reloader().follow_the_calendar());
    tasks.spawn(clock::follow(reloader()));
    let (counted, asked, fetching, held) = (reloader(), reloader(), reloader(), reloader());
    tasks.spawn(rules::keep(move || (counted.settings(), counted.tools())));
    tasks.spawn(peers::attend(move || (asked.settings(), asked.tools())));
    tasks.spawn(Arc::clone(&operations.bans).keep_time());
    tasks.spawn(fetching::follow(move || (fetching.settings(), fetching.world(), fetching.tools())));
    tasks.spawn(quarantine::follow(move || held.tools()));
    tasks.spawn(lifecycle::keep_alive(Arc::clone(&operations.tools().registry)));
    tasks.spawn(count_bans(reloader()));
    if let Some(cluster) = &operations.cluster {
        let here: Arc<dyn Here> = operations.clone();
        tasks.spawn(cluster::attend(Arc::clone(cluster), Arc::downgrade(&here)));
    }
    tasks.spawn(doctor::attend(reloader()));
    tasks.spawn(lead_nobody_at_the_end(reloader(), Arc::clone(&operations.lifecycle)));
    tasks
}

/// A gateway that drains takes nobody new, and leads nobody to itself: whoever connects is refused, and whoever asks for the way out
/// hears nothing; both try the next node. Where another program takes its place, the doors are held open meanwhile, and so is this.
async fn lead_nobody_at_the_end(reloader: Arc<Reloader>, lifecycle: Arc<Lifecycle>) {
    if lifecycle.draining().await {
        return;
    }
    let steering = {
        let mut services = reloader.services().await;
        services.doors.leave();
        services.steering.take()
    };
    if let Some(steering) = steering {
        steering.stop().await;
    }
}

/// Refusals of logins end by themselves; the gauge follows.
async fn count_bans(reloader: Arc<Reloader>) {
    let mut tick = ticks::every(Duration::from_secs(5));
    loop {
        tick.tick().await;
        let tools = reloader.tools();
        tools.observe.metrics().bans(tools.bounds.logins.bans(now()));
    }
}

/// A number that tells this run from all others, for stream ids in logs.
fn boot() -> Result<u32, StartFault> {
    let [a, b, c, d, ..] = run::seed().map_err(StartFault::internal)?;
    Ok(u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
