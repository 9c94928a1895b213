//! Policies and certificates, read again: all of them, or the old ones stay in force.
//!
//! A reload reads every file, compiles the policy and runs its cases before anything is swapped (POL-10). Then the new
//! policy is published, every living relay hears of it and is judged again (POL-07), and new handshakes show the new
//! certificates (CRT-14). The configuration itself is fixed for a process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

use super::lifecycle::tell;
use super::parts::Credentials;
use super::{Acceptors, since_1970, today};
use crate::config::settings::Settings;
use crate::metrics::Reload;
use crate::policy::{Compiled, Finding, Place};
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
    /// What is in force; held while a reload runs, so that two never mix.
    current: Mutex<Credentials>,
}

impl Reloader {
    /// What these settings name is in force, with these credentials.
    pub fn new(
        settings: Settings,
        credentials: Credentials,
        acceptors: Acceptors,
        world: Arc<World>,
        tools: Arc<Tools>,
    ) -> Self {
        let reloader = Self { settings, acceptors, world, tools, current: Mutex::new(credentials.clone()) };
        reloader.tell_ends(&credentials);
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

    /// Reads everything again.
    ///
    /// # Errors
    /// Everything that is wrong; then nothing has changed.
    pub async fn reload(self: Arc<Self>) -> Result<(), Vec<Finding>> {
        // Files and cases take their time, and relays go on meanwhile.
        let this = Arc::clone(&self);
        let outcome = tokio::task::spawn_blocking(move || this.reload_now()).await;
        let outcome = outcome.unwrap_or_else(|error| Err(vec![self.internal(&error.to_string())]));
        let metrics = self.tools.observe.metrics();
        match &outcome {
            Ok(()) => {
                metrics.reloaded(Reload::Applied);
                tracing::info!(digest = self.tools.registry.policy().digest(), "reloaded");
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

    fn reload_now(&self) -> Result<(), Vec<Finding>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        tell(&states);
        self.tools.observe.reopen();
        let outcome = self.swap(&mut current);
        tell(&[NotifyState::Ready]);
        outcome
    }

    fn swap(&self, current: &mut Credentials) -> Result<(), Vec<Finding>> {
        let mut findings = Vec::new();
        let credentials = Credentials::read(&self.settings).map_err(|f| findings.extend(f)).ok();
        let compiled = crate::config::policies(&self.settings, today()).map_err(|f| findings.extend(f)).ok();
        let (Some(credentials), Some(compiled)) = (credentials, compiled) else { return Err(findings) };
        let connector =
            Connector::new(credentials.connecting()).map_err(|e| vec![self.internal(&e.to_string())])?;
        if let Err(error) = self.acceptors.show(&credentials) {
            // Half a set of certificates is worse than the old one.
            if let Err(error) = self.acceptors.show(current) {
                tracing::error!(%error, "the old certificates cannot be shown again");
            }
            return Err(vec![self.internal(&error.to_string())]);
        }
        self.world.replace(connector);
        self.tell_ends(&credentials);
        *current = credentials;
        let Compiled { policy, warnings, .. } = compiled;
        for warning in warnings {
            tracing::warn!(finding = %warning, "policy");
        }
        let registry = &self.tools.registry;
        // Cases take their time: it may be another day than when the policy was compiled.
        registry.amend(|old| Some(policy.with_bans(old.bans().clone()).on(today())));
        self.tools.observe.metrics().policy(policy.digest());
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

    /// Rules expire at midnight (UTC): then the same policy is judged by on another day.
    pub async fn follow_the_calendar(self: Arc<Self>) {
        loop {
            let into_day = since_1970().as_secs() % DAY.as_secs();
            // A second more, so that a clock that is corrected backwards does not find itself on the old day.
            tokio::time::sleep(DAY - Duration::from_secs(into_day) + Duration::from_secs(1)).await;
            let registry = &self.tools.registry;
            let today = today();
            let mut expires = false;
            registry.amend(|policy| {
                expires = policy.next_expiry().is_some_and(|day| day <= today);
                (policy.today() != today).then(|| policy.on(today))
            });
            if expires {
                tracing::warn!(day = %today, "a rule has expired");
            }
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
