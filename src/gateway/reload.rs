//! The configuration and every file that it names, read again: all of it, or what was in force stays in force.
//!
//! A reload reads everything by the same function as `check` and `run` ([`super::reading`]), compiles the policy and runs its
//! cases, and binds, opens and makes whatever is new before anything is swapped (POL-10). Then all of it is published at one
//! time: every living relay is judged again (POL-07), new handshakes show the new certificates (CRT-14), those that peers have
//! shown are judged by the anchors and revocation lists that hold now (CRT-12), and listeners that are gone close. Living
//! streams stay, unless policy says otherwise or their domain is no longer served. What cannot change while a process lives
//! is refused by name.

mod foresight;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use sd_notify::NotifyState;

use super::control::Answering;
use super::doors::Bound;
use super::engine::Engine;
use super::from_settings::{self, Credentials};
use super::handed::Handed;
use super::lifecycle::{Lifecycle, tell};
use super::protocol::{Answer, Plan};
use super::reading::{self, Read, Reading};
use super::secrets::Secrets;
use super::services::{Fresh, Services};
use super::{Acceptors, background, changes, freeing, rules, today, wall};
use crate::config::Seen;
use crate::config::settings::Settings;
use crate::metrics::{Door, Reload};
use crate::policy::{CaseOutcome, Compiled, Finding, Place, Policy};
use crate::reason::Reason;
use crate::run::world::World;
use crate::run::{Tools, now};
use crate::tls::Connector;

/// What a reload reads, and what it swaps.
pub struct Reloader {
    acceptors: Acceptors,
    lifecycle: Arc<Lifecycle>,
    relog: Option<Relog>,
    operations: OnceLock<Weak<dyn Answering>>,
    current: Mutex<Current>,
    /// Held while a reload runs, so that two never mix.
    services: tokio::sync::Mutex<Services>,
}

/// Has the process log otherwise, as the configuration says.
pub type Relog = Arc<dyn Fn(crate::config::settings::Log) + Send + Sync>;

/// What is in force, beside the policy.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) settings: Arc<Settings>,
    /// What the files held.
    pub(super) seen: Seen,
    /// What files of certificates held that were refused.
    pub(super) refused: Seen,
    pub(super) credentials: Credentials,
    pub(super) secrets: Secrets,
    pub(super) engine: Engine,
    pub(super) listening: Vec<(Door, SocketAddr)>,
    /// The cases of the policy in force.
    pub(super) cases: Arc<[CaseOutcome]>,
}

/// What was read, is good, and is ready to be swapped in.
struct Ready {
    read: Read,
    secrets: Secrets,
    connector: Connector,
    engine: Engine,
    sockets: Vec<Bound>,
    fresh: Fresh,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Reloader {
    /// This is in force.
    pub(super) fn new(
        current: Current,
        services: Services,
        acceptors: Acceptors,
        lifecycle: Arc<Lifecycle>,
        relog: Option<Relog>,
    ) -> Self {
        let reloader = Self {
            acceptors,
            lifecycle,
            relog,
            operations: OnceLock::new(),
            current: Mutex::new(current),
            services: tokio::sync::Mutex::new(services),
        };
        let (settings, ends) = reloader.with(|current| {
            let ends: Vec<_> = current.credentials.ends().map(|(d, end)| (d.clone(), end)).collect();
            (Arc::clone(&current.settings), ends)
        });
        reloader.log_ends(&settings, &ends);
        // CRT-09: each record says so, too.
        if settings.trust.crls.is_empty() {
            tracing::info!("revocation is not checked: `trust: {{ crls }}` names no list");
        }
        reloader
    }

    /// Where operators' requests are dealt with, for control sockets that a reload opens.
    pub(super) fn answered_by(&self, operations: Arc<dyn Answering>) {
        // The first word holds; there is one place where requests are dealt with.
        let _known = self.operations.set(Arc::downgrade(&operations));
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.with(|current| Arc::clone(&current.settings))
    }

    /// By what nodes that share the dialback secrets write accounts down.
    pub(super) fn account_secret(&self) -> Option<[u8; 32]> {
        self.with(|current| current.secrets.for_accounts())
    }

    /// A digest of the dialback secrets, of which nothing can be learned.
    pub(super) fn secrets_digest(&self) -> String {
        self.with(|current| current.secrets.digest())
    }

    /// What is outside.
    pub(super) fn world(&self) -> Arc<World> {
        self.with(|current| Arc::clone(current.engine.world()))
    }

    /// What the relays lean on.
    pub fn tools(&self) -> Arc<Tools> {
        self.with(|current| Arc::clone(current.engine.tools()))
    }

    /// Where it listens.
    pub fn listening(&self) -> Vec<(Door, SocketAddr)> {
        self.with(|current| current.listening.clone())
    }

    /// When each certificate that is shown ends, as Unix time.
    pub fn ends(&self) -> Vec<(crate::jid::Domain, i64)> {
        self.with(|current| current.credentials.ends().map(|(domain, end)| (domain.clone(), end)).collect())
    }

    /// Hosted domains that are closed for lack of a certificate that could be shown.
    pub fn closed(&self) -> Vec<crate::jid::Domain> {
        self.with(|current| reading::closed(&current.settings, &current.credentials))
    }

    /// The cases of the policy in force.
    pub(super) fn cases(&self) -> Arc<[CaseOutcome]> {
        self.with(|current| Arc::clone(&current.cases))
    }

    /// What the files held that are in force.
    pub(super) fn seen(&self) -> Seen {
        self.with(|current| current.seen.clone())
    }

    /// What files held that were refused.
    pub(super) fn refused(&self) -> Seen {
        self.with(|current| current.refused.clone())
    }

    /// Certificates and trust in force.
    pub(super) fn credentials(&self) -> Credentials {
        self.with(|current| current.credentials.clone())
    }

    /// These files are in force as they are now.
    pub(super) fn now_seen(&self, now: &Seen, paths: &[PathBuf]) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.seen.follow(now, paths.iter().map(PathBuf::as_path));
    }

    /// These files were refused as they are now.
    pub(super) fn now_refused(&self, now: &Seen, paths: &[PathBuf]) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.refused.follow(now, paths.iter().map(PathBuf::as_path));
    }

    /// New handshakes show these certificates, and all are judged by this trust.
    ///
    /// # Errors
    /// When TLS cannot be made of them; then nothing has changed.
    pub(super) fn show(&self, credentials: Credentials) -> Result<(), Finding> {
        let settings = self.settings();
        let fault = |error: rustls::Error| internal(&settings, &error.to_string());
        let connector = Connector::new(credentials.connecting()).map_err(fault)?;
        if let Err(error) = self.acceptors.show(&credentials) {
            self.show_again();
            return Err(fault(error));
        }
        self.with(|current| current.engine.world().replace(connector));
        let tools = self.tools();
        let ends: Vec<_> = credentials.ends().map(|(domain, end)| (domain.clone(), end)).collect();
        tools.registry.retrust(Arc::clone(&credentials.trust));
        self.current.lock().unwrap_or_else(PoisonError::into_inner).credentials = credentials;
        self.log_ends(&settings, &ends);
        tools.peering.circuits.renewed();
        Ok(())
    }

    /// Half a set of certificates is worse than the old one.
    fn show_again(&self) {
        if let Err(error) = self.with(|current| self.acceptors.show(&current.credentials)) {
            tracing::error!(%error, "the old certificates cannot be shown again");
        }
    }

    /// What is open beside the relays; no reload runs while it is held.
    pub(super) async fn services(&self) -> tokio::sync::MutexGuard<'_, Services> {
        self.services.lock().await
    }

    fn with<T>(&self, look: impl FnOnce(&Current) -> T) -> T {
        look(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The digest of what is in force, and the files that differ from it on the disk; an empty one where they cannot be
    /// looked at.
    pub(super) async fn digest(&self) -> (String, Vec<String>) {
        let (settings, seen) = (self.settings(), self.seen());
        let read = move || (seen.digest(&settings), seen.differing(&Seen::of(&settings)));
        let (digest, stale) = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        (digest, stale.iter().map(|path| path.display().to_string()).collect())
    }

    /// What is in force, key by key, and what differs on the disk.
    pub(super) async fn shown(self: Arc<Self>) -> Answer {
        let settings = self.settings();
        let policy = self.tools().registry.policy().digest().to_owned();
        let (digest, stale) = self.digest().await;
        if digest.is_empty() {
            return Answer::no("the files cannot be looked at");
        }
        Answer::Config {
            file: settings.file.to_string(),
            digest,
            policy,
            stale,
            closed: self.closed().iter().map(ToString::to_string).collect(),
            lines: crate::config::dump(&settings),
        }
    }

    /// Reads everything again. What came of it for those who live.
    ///
    /// # Errors
    /// Everything that is wrong; then nothing has changed.
    pub async fn reload(self: Arc<Self>) -> Result<Plan, Vec<Finding>> {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        tell(&states);
        self.tools().observe.reopen();
        let outcome = Arc::clone(&self).reload_now().await;
        tell(&[NotifyState::Ready]);
        let tools = self.tools();
        let metrics = tools.observe.metrics();
        match &outcome {
            Ok(plan) => {
                metrics.reloaded(Reload::Applied);
                for change in &plan.settings {
                    tracing::info!(change, "reloaded");
                }
                tracing::info!(digest = plan.after, closed = plan.closes.len(), "reloaded");
            }
            Err(findings) => {
                metrics.reloaded(Reload::Refused);
                for finding in findings {
                    tracing::warn!(%finding, "reload refused; what was in force stays in force");
                }
            }
        }
        outcome
    }

    /// What a reload would mean to those who live. Nothing changes.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub async fn plan(&self) -> Result<Plan, Vec<Finding>> {
        foresight::plan(self, Reading::of).await
    }

    /// The same of files that are looked at in this way.
    pub(super) async fn foreseen(&self, look: fn(&Path) -> Reading) -> Result<Plan, Vec<Finding>> {
        foresight::plan(self, look).await
    }

    /// Whether a start would go well with the files as they are; all sockets for it, and where its control socket will be.
    pub(super) async fn successor(&self) -> Result<(Vec<OwnedFd>, Option<String>), Vec<Finding>> {
        foresight::successor(self).await
    }

    async fn reload_now(self: Arc<Self>) -> Result<Plan, Vec<Finding>> {
        let mut services = self.services.lock().await;
        let read = self.read(Reading::of).await?;
        let plan = foresight::foresee(&self, &read).await?;
        let ready = self.ready(&mut services, read).await?;
        self.swap(&mut services, ready).await?;
        Ok(plan)
    }

    /// Files and cases take their time, and relays go on meanwhile.
    async fn read(&self, look: fn(&Path) -> Reading) -> Result<Read, Vec<Finding>> {
        let settings = self.settings();
        let file = Arc::clone(&settings.file);
        let read = background::run(move || look(file.as_ref().as_ref()).faultless()).await;
        let read = read.unwrap_or_else(|error| Err(vec![internal(&settings, &error.to_string())]))?;
        match changes::for_a_restart(&settings, &read.settings) {
            findings if findings.is_empty() => Ok(read),
            findings => Err(findings),
        }
    }

    /// Makes everything that is new; what fails here has changed nothing.
    async fn ready(&self, services: &mut Services, mut read: Read) -> Result<Ready, Vec<Finding>> {
        let old = self.settings();
        let lacks =
            |_: Reason| vec![internal(&old, "the system gives no random octets for a dialback secret")];
        let files = std::mem::take(&mut read.secrets);
        let secrets =
            self.with(|current| current.secrets.renewed(files, wall::clock(), now())).map_err(lacks)?;
        let connector = Connector::new(read.credentials.connecting())
            .map_err(|error| vec![internal(&old, &error.to_string())])?;
        let mut left = services.leaving(&old, &read.settings)?;
        let sockets = services.doors.bind(&read.settings, &mut left)?;
        let own = sockets.iter().map(|bound| bound.address).collect();
        let settings = Arc::new(read.settings.clone());
        let engine = self
            .with(|current| current.engine.followed_by(settings, &secrets, &self.acceptors, own))
            .map_err(|finding| vec![finding])?;
        let operations = self.operations.get().and_then(Weak::upgrade);
        let fresh = services.prepare(&old, &read.settings, engine.tools(), operations, &mut left).await?;
        Ok(Ready { read, secrets, connector, engine, sockets, fresh })
    }

    /// Names of backends lead elsewhere, or the clock was set: nothing else has changed in the settings, which were `known` when
    /// it was found out.
    pub(super) async fn readdress(&self, known: &Arc<Settings>, settings: Settings) {
        let mut services = self.services.lock().await;
        let old = self.settings();
        if !Arc::ptr_eq(&old, known) {
            // A reload came between, and has looked them up itself.
            return;
        }
        let outcome = async {
            let sockets = services.doors.bind(&settings, &mut Handed::default())?;
            let own = sockets.iter().map(|bound| bound.address).collect();
            let settings = Arc::new(settings);
            let engine = self
                .with(|current| {
                    current.engine.followed_by(Arc::clone(&settings), &current.secrets, &self.acceptors, own)
                })
                .map_err(|finding| vec![finding])?;
            let tools = Arc::clone(engine.tools());
            let fresh = services.prepare(&old, &settings, &tools, None, &mut Handed::default()).await?;
            for change in changes::settings(&old, &settings) {
                tracing::info!(change, "a name leads elsewhere");
            }
            services.doors.open(sockets, &settings, &self.acceptors, &tools);
            {
                let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                (current.settings, current.engine) = (settings, engine);
            }
            tools.registry.retool(&tools);
            services.install(fresh, &tools).await;
            Ok::<_, Vec<Finding>>(())
        };
        if let Err(findings) = outcome.await {
            for finding in findings {
                tracing::error!(%finding, "the addresses of backends stay as they were");
            }
        }
    }

    async fn swap(&self, services: &mut Services, ready: Ready) -> Result<(), Vec<Finding>> {
        let Ready { read, secrets, connector, engine, sockets, fresh } = ready;
        let Read { settings, seen, credentials, compiled, .. } = read;
        let old = self.settings();
        let Compiled { policy, cases, .. } = compiled;
        let cases = rules::about_pairs(&settings, cases);
        let tools = Arc::clone(engine.tools());
        // What decides is counted from its first moment in force.
        let (rules, about) = (policy.clone(), Arc::clone(&cases));
        rules::apart(&tools, move |tools| tools.observe.used().expect(&rules, &about)).await;
        if let Err(error) = self.acceptors.show(&credentials) {
            self.show_again();
            let about = self.cases();
            rules::apart(&self.tools(), move |tools| rules::follow(tools, &about, |_| {})).await;
            services.give_up(fresh, &old, &self.tools()).await;
            return Err(vec![internal(&old, &error.to_string())]);
        }
        let metrics = tools.observe.metrics();
        settings.domains.iter().for_each(|domain| metrics.host(&domain.name));
        let ends: Vec<_> = credentials.ends().map(|(domain, end)| (domain.clone(), end)).collect();
        self.log_ends(&settings, &ends);
        if old.log != settings.log
            && let Some(relog) = &self.relog
        {
            relog(settings.log);
        }
        if self.with(|current| !secrets.is_same(&current.secrets)) {
            tracing::info!("a dialback secret has changed; keys of the one before verify for a minute more");
        }
        engine.world().replace(connector);
        let trust = Arc::clone(&credentials.trust);
        let listening = sockets.iter().map(|bound| (bound.door, bound.address)).collect();
        services.doors.open(sockets, &settings, &self.acceptors, &tools);
        self.lifecycle.allow(from_settings::grace(&settings));
        let settings = Arc::new(settings);
        metrics.configuration(&seen.digest(&settings));
        let refused = Seen::default();
        let settings = Arc::clone(&settings);
        let next = Current { settings, seen, refused, credentials, secrets, engine, listening, cases };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
        metrics.policy(policy.digest());
        // Cases take their time: it may be another day than when the policy was compiled.
        let known = tools.observe.peers().with(|peers| peers.known());
        let make = |old: &Policy| policy.after(old).with_known(known).on(today());
        freeing::let_go(tools.registry.renew(&tools, trust, make));
        tools.peering.circuits.renewed();
        let kept = self.settings().limits.refusals;
        tools.observe.refusals().keep(usize::try_from(kept).unwrap_or(usize::MAX));
        services.install(fresh, &tools).await;
        let kept = self.settings();
        let gone = old.domains.iter().filter(|old| kept.domains.iter().all(|now| now.name != old.name));
        gone.for_each(|domain| metrics.unhost(&domain.name));
        let about = self.cases();
        let follow = move |tools: &Tools| {
            super::metrics_of(tools);
            rules::follow(tools, &about, |_| {});
        };
        rules::apart(&tools, follow).await;
        Ok(())
    }

    fn log_ends(&self, settings: &Settings, ends: &[(crate::jid::Domain, i64)]) {
        let tools = self.tools();
        for (domain, end) in ends {
            tools.observe.metrics().certificate(domain, *end);
        }
        for domain in &settings.domains {
            if !ends.iter().any(|(known, _)| *known == domain.name) {
                tracing::error!(domain = %domain.name, "a domain is closed: it has no certificate that could be shown");
            }
        }
    }
}

fn internal(settings: &Settings, error: &str) -> Finding {
    Finding::error(Place::whole(&settings.file), error, "this is a fault of the gateway; report it")
}
