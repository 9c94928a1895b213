//! Policies, certificates, revocation lists and secrets, read again: all of them, or the old ones stay in force.
//!
//! A reload reads every file, compiles the policy and runs its cases before anything is swapped (POL-10). Then the new
//! policy is published, every living relay hears of it and is judged again (POL-07), and new handshakes show the new
//! certificates (CRT-14), and those that peers have shown are judged by the anchors and revocation lists that hold now
//! (CRT-12). The configuration itself is fixed for a process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

use super::lifecycle::tell;
use super::parts::{self, Credentials};
use super::protocol::{Fault, Plan};
use super::secrets::Secrets;
use super::{Acceptors, since_1970, today};
use crate::config::settings::Settings;
use crate::metrics::Reload;
use crate::policy::{Compiled, Day, Finding, Place};
use crate::run::Tools;
use crate::run::world::World;
use crate::tls::Connector;

/// What a reload reads, and what it swaps.
#[derive(Debug)]
pub struct Reloader {
    settings: Settings,
    acceptors: Acceptors,
    world: Arc<World>,
    tools: Arc<Tools>,
    current: Mutex<Current>,
    /// Held while a reload runs, so that two never mix.
    one: tokio::sync::Mutex<()>,
}

/// What is in force, beside the policy.
#[derive(Clone, Debug)]
pub struct Current {
    /// Certificates and trust.
    pub credentials: Credentials,
    /// Dialback secrets.
    pub secrets: Secrets,
}

/// What was read, and is good.
#[derive(Debug)]
struct Read {
    current: Current,
    connector: Connector,
    compiled: Compiled,
}

impl Reloader {
    /// What these settings name is in force, with these credentials.
    pub fn new(
        settings: Settings,
        current: Current,
        acceptors: Acceptors,
        world: Arc<World>,
        tools: Arc<Tools>,
    ) -> Self {
        let credentials = current.credentials.clone();
        let reloader = Self {
            settings,
            acceptors,
            world,
            tools,
            current: Mutex::new(current),
            one: tokio::sync::Mutex::default(),
        };
        reloader.tell_ends(&credentials);
        // CRT-09: each record says so, too.
        if credentials.trust.revocation.is_none() {
            tracing::info!("revocation is not checked: `trust: {{ crls }}` names no list");
        }
        reloader
    }

    /// The settings of the process.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// TLS as server.
    pub fn acceptors(&self) -> &Acceptors {
        &self.acceptors
    }

    /// Reads everything again. What came of it for those who live.
    ///
    /// # Errors
    /// Everything that is wrong; then nothing has changed.
    pub async fn reload(self: Arc<Self>) -> Result<Plan, Vec<Finding>> {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        tell(&states);
        self.tools.observe.reopen();
        let outcome = Arc::clone(&self).reload_now().await;
        tell(&[NotifyState::Ready]);
        let metrics = self.tools.observe.metrics();
        match &outcome {
            Ok(plan) => {
                metrics.reloaded(Reload::Applied);
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
    pub async fn plan(self: Arc<Self>) -> Result<Plan, Vec<Finding>> {
        let read = Arc::clone(&self).read().await?;
        Ok(self.foresee(&read).await)
    }

    async fn reload_now(self: Arc<Self>) -> Result<Plan, Vec<Finding>> {
        let _one = self.one.lock().await;
        let read = Arc::clone(&self).read().await?;
        let plan = self.foresee(&read).await;
        let this = Arc::clone(&self);
        let swapped = tokio::task::spawn_blocking(move || this.swap(read)).await;
        swapped.unwrap_or_else(|error| Err(vec![self.internal(&error.to_string())]))?;
        Ok(plan)
    }

    /// Files and cases take their time, and relays go on meanwhile.
    async fn read(self: Arc<Self>) -> Result<Read, Vec<Finding>> {
        let this = Arc::clone(&self);
        let read = tokio::task::spawn_blocking(move || this.read_now()).await;
        read.unwrap_or_else(|error| Err(vec![self.internal(&error.to_string())]))
    }

    async fn foresee(&self, read: &Read) -> Plan {
        let registry = &self.tools.registry;
        let before = registry.policy();
        let after = Arc::new(read.compiled.policy.with_bans(before.bans().clone()));
        let (views, silent) = registry.views(Some(&after)).await;
        let warnings = read.compiled.warnings.iter().map(Fault::from).collect();
        Plan { warnings, ..super::desk::plan(&before, &after, &views, silent) }
    }

    fn read_now(&self) -> Result<Read, Vec<Finding>> {
        let old = self.current.lock().unwrap_or_else(PoisonError::into_inner).secrets.clone();
        let mut findings = Vec::new();
        let credentials = Credentials::read(&self.settings).map_err(|f| findings.extend(f)).ok();
        let secrets = old.renewed(&self.settings).map_err(|f| findings.extend(f)).ok();
        let compiled = crate::config::policies(&self.settings, today()).map_err(|f| findings.extend(f)).ok();
        let (Some(credentials), Some(secrets), Some(compiled)) = (credentials, secrets, compiled) else {
            return Err(findings);
        };
        let connector =
            Connector::new(credentials.connecting()).map_err(|e| vec![self.internal(&e.to_string())])?;
        Ok(Read { current: Current { credentials, secrets }, connector, compiled })
    }

    fn swap(&self, read: Read) -> Result<(), Vec<Finding>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Read { current: next, connector, compiled } = read;
        if let Err(error) = self.acceptors.show(&next.credentials) {
            // Half a set of certificates is worse than the old one.
            if let Err(error) = self.acceptors.show(&current.credentials) {
                tracing::error!(%error, "the old certificates cannot be shown again");
            }
            return Err(vec![self.internal(&error.to_string())]);
        }
        self.world.replace(connector);
        self.tell_ends(&next.credentials);
        let Compiled { policy, warnings, .. } = compiled;
        for warning in warnings {
            tracing::warn!(finding = %warning, "policy");
        }
        let registry = &self.tools.registry;
        if !next.secrets.is_same(&current.secrets) {
            tracing::info!("a dialback secret has changed; the one before still verifies");
            registry.rehome(Arc::new(parts::home(&self.settings, next.secrets.keyrings())));
        }
        registry.retrust(Arc::clone(&next.credentials.trust));
        *current = next;
        self.tools.observe.metrics().policy(policy.digest());
        // Cases take their time: it may be another day than when the policy was compiled.
        registry.amend(|old| Some(policy.with_bans(old.bans().clone()).on(today())));
        self.tools.circuits.renewed();
        Ok(())
    }

    fn tell_ends(&self, credentials: &Credentials) {
        for (domain, end) in credentials.ends() {
            self.tools.observe.metrics().certificate(domain, end);
        }
    }

    fn internal(&self, error: &str) -> Finding {
        Finding::error(Place::whole(&self.settings.file), error, "this is a fault of the gateway; report it")
    }

    /// Rules expire at midnight (UTC): then the same policy is judged by on another day. The clock is looked at often, so
    /// that one that is set, or stood still while the machine slept, is followed within a minute.
    pub async fn follow_the_calendar(self: Arc<Self>) {
        loop {
            let into_day = since_1970().as_secs() % DAY.as_secs();
            let left = DAY - Duration::from_secs(into_day);
            tokio::time::sleep(left.min(Duration::from_secs(60))).await;
            self.turn_the_page(today());
        }
    }

    /// It is this day now.
    pub fn turn_the_page(&self, today: Day) {
        let mut expires = false;
        self.tools.registry.amend(|policy| {
            expires = policy.next_expiry().is_some_and(|day| day <= today);
            (policy.today() != today).then(|| policy.on(today))
        });
        if expires {
            tracing::warn!(day = %today, "a rule has expired");
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
