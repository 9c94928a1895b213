//! What is open beside the relays: listeners, the steering server, the watching and the steering door.
//!
//! What a reload changes is made before anything else is swapped, and put in its place afterwards. Where the new one needs the
//! address of the old one, the old one ends first and comes back if the reload fails after all.

use std::sync::{Arc, OnceLock, Weak};

use super::admin;
use super::control::Control;
use super::desk::Desk;
use super::doors::{self, Doors};
use super::parts;
use crate::config::settings::{Admin, Settings};
use crate::dns::steer::Steering;
use crate::metrics::Metrics;
use crate::policy::{Finding, Place};
use crate::run::Tools;
use crate::run::audit::Audit;

/// What is open beside the relays.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) doors: Doors,
    pub(super) admin: Option<admin::Admin>,
    pub(super) control: Option<Control>,
    pub(super) steering: Option<Steering>,
    pub(super) counter: Counter,
}

/// Where the desk will stand, for whoever is opened before it.
pub(super) type Counter = Arc<OnceLock<Weak<Desk>>>;

/// What a reload has made, each none where nothing changes.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    admin: Option<Option<admin::Admin>>,
    control: Option<Option<Control>>,
    steering: Option<Option<Steering>>,
    audit: Option<Option<Audit>>,
}

impl Services {
    /// Makes what these settings change.
    ///
    /// # Errors
    /// What cannot be made; then everything is as before.
    pub(super) async fn prepare(
        &mut self,
        old: &Settings,
        new: &Settings,
        tools: &Arc<Tools>,
        desk: Option<&Arc<Desk>>,
    ) -> Result<Fresh, Vec<Finding>> {
        let mut fresh = Fresh::default();
        let outcome = self.make(&mut fresh, old, new, tools, desk).await;
        match outcome {
            Ok(()) => Ok(fresh),
            Err(finding) => {
                self.give_up(fresh, old, tools).await;
                Err(vec![finding])
            }
        }
    }

    async fn make(
        &mut self,
        fresh: &mut Fresh,
        old: &Settings,
        new: &Settings,
        tools: &Arc<Tools>,
        desk: Option<&Arc<Desk>>,
    ) -> Result<(), Finding> {
        if old.audit != new.audit {
            fresh.audit = Some(start_audit(new, tools.observe.metrics())?);
        }
        if let (true, Some(desk)) = (old.admin.socket != new.admin.socket, desk) {
            fresh.control = Some(start_control(new, desk)?);
        }
        let watching = |settings: &Settings| Admin { socket: None, ..settings.admin.clone() };
        if watching(old) != watching(new) {
            if old.admin.http == new.admin.http {
                end(self.admin.take()).await;
            }
            fresh.admin = Some(start_admin(new, tools, &self.counter)?);
        }
        let (before, after) = (parts::steering(old), parts::steering(new));
        if before != after {
            if before.map(|steering| steering.listen) == after.map(|steering| steering.listen)
                && let Some(steering) = self.steering.take()
            {
                steering.stop().await;
            }
            fresh.steering = Some(start_steering(new).await?);
        }
        Ok(())
    }

    /// Nothing comes of the reload: what it has made goes, and what had to make room for it comes back.
    pub(super) async fn give_up(&mut self, fresh: Fresh, old: &Settings, tools: &Tools) {
        let Fresh { steering, admin, control, audit } = fresh;
        if let Some(steering) = steering.flatten() {
            steering.stop().await;
        }
        drop((control, audit));
        end(admin.flatten()).await;
        if self.steering.is_none() {
            match start_steering(old).await {
                Ok(steering) => self.steering = steering,
                Err(finding) => tracing::error!(%finding, "steering is lost until the next reload"),
            }
        }
        if self.admin.is_none() {
            match start_admin(old, tools, &self.counter) {
                Ok(admin) => self.admin = admin,
                Err(finding) => tracing::error!(%finding, "the watching door is lost until the next reload"),
            }
        }
    }

    /// Puts everything in its place, and ends what was there.
    pub(super) async fn install(&mut self, fresh: Fresh, tools: &Tools) {
        let Fresh { steering, admin, control, audit } = fresh;
        if let Some(steering) = steering
            && let Some(old) = std::mem::replace(&mut self.steering, steering)
        {
            old.stop().await;
        }
        if let Some(control) = control
            && let Some(old) = std::mem::replace(&mut self.control, control)
        {
            // Who asked for this over the old one waits for the answer there.
            old.retire();
        }
        end(admin.and_then(|admin| std::mem::replace(&mut self.admin, admin))).await;
        if let Some(audit) = audit {
            let observe = Arc::clone(&tools.observe);
            // The old file is finished, which the disk may hold up.
            if tokio::task::spawn_blocking(move || observe.audit_to(audit)).await.is_err() {
                tracing::error!("the old audit file was not finished");
            }
        }
    }
}

/// Waits for the end of a watching door, which has a thread of its own.
async fn end(admin: Option<admin::Admin>) {
    if tokio::task::spawn_blocking(move || drop(admin)).await.is_err() {
        tracing::error!("the watching door did not end in good order");
    }
}

/// Opens the steering server, where there is one.
pub(super) async fn start_steering(settings: &Settings) -> Result<Option<Steering>, Finding> {
    let Some(params) = parts::steering(settings) else { return Ok(None) };
    let listen = params.listen;
    let steering = Steering::start(params).await.map_err(|error| {
        let finding = doors::unbound(Place::whole(&settings.file), listen, &error);
        Finding { message: format!("steering {}", finding.message), ..finding }
    })?;
    tracing::info!(address = %steering.address(), "steering");
    Ok(Some(steering))
}

/// Opens the audit file, where there is one.
pub(super) fn start_audit(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Option<Audit>, Finding> {
    let Some(audit) = &settings.audit else { return Ok(None) };
    Audit::open(parts::audit(audit), Arc::clone(metrics)).map(Some).map_err(|error| {
        let place = Place::whole(&audit.file.display().to_string());
        let message = format!("the audit file cannot be written: {error}");
        Finding::error(place, message, "let the gateway's user read and write there")
    })
}

/// Opens the control socket, where there is one.
pub(super) fn start_control(settings: &Settings, desk: &Arc<Desk>) -> Result<Option<Control>, Finding> {
    let Some(path) = &settings.admin.socket else { return Ok(None) };
    Control::start(path, Arc::clone(desk)).map(Some).map_err(|error| {
        let place = Place::whole(&path.display().to_string());
        let message = format!("the control socket cannot be opened: {error}");
        Finding::error(place, message, "let the gateway's user write in its folder")
    })
}

/// Opens the watching door, where there is one.
pub(super) fn start_admin(
    settings: &Settings,
    tools: &Tools,
    counter: &Counter,
) -> Result<Option<admin::Admin>, Finding> {
    let Some(address) = settings.admin.http else { return Ok(None) };
    let (observe, registry) = (Arc::clone(&tools.observe), Arc::clone(&tools.registry));
    let hosts = settings.admin.hosts.clone();
    let status = settings.admin.status.then(|| Arc::clone(counter));
    let view = admin::View { hosts, observe, registry, status };
    let admin = admin::Admin::start(address, view).map_err(|error| {
        let finding = doors::unbound(Place::whole(&settings.file), address, &error);
        Finding { message: format!("admin {}", finding.message), ..finding }
    })?;
    tracing::info!(address = %admin.address(), "admin");
    Ok(Some(admin))
}
