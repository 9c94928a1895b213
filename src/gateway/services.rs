//! What is open beside the relays: listeners, the steering server, the watching and the steering door.
//!
//! What a reload changes is made before anything else is swapped, and put in its place afterwards. Where the new one needs the
//! address of the old one, the old one ends first and comes back if the reload fails after all.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::admin::{self, Admin, Shown, Socket};
use super::control::{Answering, Control};
use super::doors::{self, Bound, Doors};
use super::handed::{Handed, Part};
use super::{from_settings, sockets};
use crate::config::overlap;
use crate::config::settings::{self, Http, Listener, Settings};
use crate::dns::steer::{Sockets, Steering};
use crate::metrics::Metrics;
use crate::policy::{Finding, Place};
use crate::run::Tools;
use crate::run::alone::Folder;
use crate::run::audit::{self, Audit};

/// What is open beside the relays.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) doors: Doors,
    pub(super) admin: Option<Admin>,
    pub(super) control: Option<Control>,
    pub(super) steering: Option<Steering>,
    /// The folder of what outlives a restart is ours.
    pub(super) state: Option<Folder>,
    /// Who knows what the status page shows.
    pub(super) shown: Arc<Shown>,
}

/// What a reload has made, each none where nothing changes.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    admin: Option<Option<admin::Admin>>,
    control: Option<Option<Control>>,
    steering: Option<Option<Steering>>,
    state: Option<Option<Folder>>,
    audit: Option<Option<Audit>>,
    /// The file stays, and this holds for it.
    audit_under: Option<audit::Params>,
}

impl Services {
    /// What of these settings a reload could not open, as far as that can be seen without doing it. Nothing changes.
    pub(super) fn rehearse(&self, old: &Settings, new: &Settings) -> Result<(), Vec<Finding>> {
        let mut left = self.leaving(old, new)?;
        if let Some(finding) = crossed(old, new) {
            return Err(vec![finding]);
        }
        // What is left to another one is there already, and is not touched.
        let listeners = new.listeners.iter();
        let listeners = listeners.filter(|listener| !left.has_listener(listener.address)).cloned().collect();
        let bound = self.doors.bind(&Settings { listeners, ..new.clone() }, &mut left);
        let mut findings = bound.err().unwrap_or_default();
        // What is ours already makes room by itself.
        let is_ours = |own: Option<SocketAddr>, at| own.is_some_and(|own| overlap(own, at));
        if let Some(at) = new.admin.http.as_ref().filter(|at| !makes_room(old, at)) {
            findings.extend(bind_admin(new, at, &mut left).err());
        }
        if let Some(at) = asked(new).filter(|at| !is_ours(asked(old), *at)) {
            findings.extend(bind_steering(new, at, &mut left).err());
        }
        findings.extend(rehearse_files(old, new));
        if findings.is_empty() { Ok(()) } else { Err(findings) }
    }

    /// The sockets that these settings take from one part of ours, for whichever other part they give the address to: no reload
    /// fails because two parts change places. And where we listen.
    pub(super) fn leaving(&self, old: &Settings, new: &Settings) -> Result<Handed, Vec<Finding>> {
        let mut handed = Handed::default();
        // Who moves within one port closes the old socket before it opens the new one, and must not find a copy there.
        let admin_stays = new.admin.http.as_ref().is_some_and(|at| makes_room(old, at));
        let steering_stays = asked(old).zip(asked(new)).is_some_and(|(old, new)| overlap(old, new));
        let copied = self.doors.leave_to(new, &mut handed).and_then(|()| {
            if let Some((admin, at)) = self.admin.as_ref().and_then(|admin| Some((admin, admin.address()?))) {
                handed.add_own(at, Part::Admin);
                if let Some(socket) = admin.socket().filter(|_| !admin_stays) {
                    handed.add_listener(socket.try_clone()?);
                }
            }
            if let Some(steering) = &self.steering {
                handed.add_own(steering.address(), Part::Steering);
                if !steering_stays {
                    let Sockets { tcp, udp } = steering.sockets().try_clone()?;
                    handed.add_listener(tcp);
                    handed.add_datagrams(udp);
                }
            }
            Ok(())
        });
        copied.map(|()| handed).map_err(|error| vec![uncopied(new, &error)])
    }

    /// The sockets for a program that takes the place of this one under these settings: those that are open, and those that it
    /// will want besides, so that nothing can keep it from them any more.
    ///
    /// # Errors
    /// What it could not have; nothing has changed.
    pub(super) fn handover(&self, old: &Settings, new: &Settings) -> Result<Vec<OwnedFd>, Vec<Finding>> {
        let mut going = self.doors.going(new);
        let open = self.admin.as_ref().filter(|_| old.admin.http != new.admin.http);
        going.extend(open.and_then(Admin::address));
        going.extend(self.steering.as_ref().filter(|_| asked(old) != asked(new)).map(Steering::address));
        // Where one of ours is in the way, it is gone by then.
        let is_free = |at: SocketAddr| !going.iter().any(|own| overlap(*own, at));
        let kept = |listener: &Listener| {
            is_free(listener.address) || self.doors.bound().any(|open| open.is_at(listener.address))
        };
        let listeners = new.listeners.iter().filter(|listener| kept(listener)).cloned().collect();
        let mut findings = Vec::new();
        let mut sockets: Vec<io::Result<OwnedFd>> = Vec::new();
        match self.doors.bind(&Settings { listeners, ..new.clone() }, &mut Handed::default()) {
            Ok(bound) => sockets.extend(bound.iter().map(Bound::copy)),
            Err(more) => findings.extend(more),
        }
        if let Some(at) = &new.admin.http {
            match self.admin.as_ref().filter(|_| old.admin.http == new.admin.http) {
                Some(admin) => {
                    sockets.extend(admin.socket().map(|socket| socket.try_clone().map(OwnedFd::from)));
                }
                // One of our sockets may be there, and is gone by then.
                None if at.socket().is_some_and(|path| is_at(old, path)) => {}
                None if at.address().is_none_or(is_free) => {
                    match bind_admin(new, at, &mut Handed::default()) {
                        Ok(Socket::Tcp(socket)) => sockets.push(Ok(socket.into())),
                        // Like the control socket it is opened by whoever comes.
                        Ok(Socket::Unix(_free)) => {}
                        Err(finding) => findings.push(finding),
                    }
                }
                None => {}
            }
        }
        if let Some(at) = asked(new) {
            let made = match self.steering.as_ref().filter(|_| asked(old) == asked(new)) {
                Some(steering) => Some(Ok(steering.sockets().try_clone())),
                None if is_free(at) => Some(bind_steering(new, at, &mut Handed::default()).map(Ok)),
                None => None,
            };
            match made {
                Some(Ok(Ok(Sockets { tcp, udp }))) => sockets.extend([Ok(tcp.into()), Ok(udp.into())]),
                Some(Ok(Err(error))) => sockets.push(Err(error)),
                Some(Err(finding)) => findings.push(finding),
                None => {}
            }
        }
        findings.extend(rehearse_files(old, new));
        if !findings.is_empty() {
            return Err(findings);
        }
        sockets.into_iter().collect::<io::Result<_>>().map_err(|error| vec![uncopied(new, &error)])
    }

    /// Makes what these settings change.
    ///
    /// # Errors
    /// What cannot be made; then everything is as before.
    pub(super) async fn prepare(
        &mut self,
        old: &Settings,
        new: &Settings,
        tools: &Arc<Tools>,
        operations: Option<Arc<dyn Answering>>,
        left: &mut Handed,
    ) -> Result<Fresh, Vec<Finding>> {
        let mut fresh = Fresh::default();
        let outcome = self.make(&mut fresh, (old, new), tools, operations, left).await;
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
        (old, new): (&Settings, &Settings),
        tools: &Arc<Tools>,
        operations: Option<Arc<dyn Answering>>,
        left: &mut Handed,
    ) -> Result<(), Finding> {
        if let Some(finding) = crossed(old, new) {
            return Err(finding);
        }
        if let (true, Some(operations)) = (old.admin.socket != new.admin.socket, operations) {
            fresh.control = Some(start_control(new, take_control(new)?, operations)?);
        }
        let watching = |settings: &Settings| settings::Admin { socket: None, ..settings.admin.clone() };
        if watching(old) != watching(new) {
            if new.admin.http.as_ref().is_some_and(|at| makes_room(old, at)) {
                end(self.admin.take()).await;
            }
            fresh.admin = Some(match &new.admin.http {
                Some(at) => {
                    let socket = bind_admin(new, at, left)?;
                    Some(start_admin(new, socket, tools, &self.shown)?)
                }
                None => None,
            });
        }
        let (before, after) = (from_settings::steering(old), from_settings::steering(new));
        if before != after {
            if asked(old).zip(asked(new)).is_some_and(|(old, new)| overlap(old, new))
                && let Some(steering) = self.steering.take()
            {
                steering.stop().await;
            }
            fresh.steering = Some(match asked(new) {
                Some(at) => start_steering(new, bind_steering(new, at, left)?)?,
                None => None,
            });
        }
        if old.state != new.state {
            fresh.state = Some(claim_state(new)?);
        }
        // Last: it writes down that it begins.
        let new_settings = new;
        match (&old.audit, &new.audit) {
            (old, new) if old == new => {}
            (Some(old), Some(new)) if old.file == new.file => {
                fresh.audit_under = Some(from_settings::audit(new))
            }
            _ => fresh.audit = Some(start_audit(new_settings, tools.observe.metrics())?),
        }
        Ok(())
    }

    /// Nothing comes of the reload: what it has made goes, and what had to make room for it comes back.
    pub(super) async fn give_up(&mut self, fresh: Fresh, old: &Settings, tools: &Tools) {
        let Fresh { steering, admin, control, state, audit, audit_under: _ } = fresh;
        if let Some(steering) = steering.flatten() {
            steering.stop().await;
        }
        drop((control, state));
        // Its lock goes with it, so that the next reload may have the file.
        if let Some(audit) = audit.flatten()
            && tokio::task::spawn_blocking(move || audit.finish()).await.is_err()
        {
            tracing::error!("the new audit file was not finished");
        }
        end(admin.flatten()).await;
        if let (None, Some(at)) = (&self.steering, asked(old)) {
            let back = bind_steering(old, at, &mut Handed::default());
            match back.and_then(|sockets| start_steering(old, sockets)) {
                Ok(steering) => self.steering = steering,
                Err(finding) => tracing::error!(%finding, "steering is lost until the next reload"),
            }
        }
        if let (None, Some(at)) = (&self.admin, &old.admin.http) {
            let back = bind_admin(old, at, &mut Handed::default());
            match back.and_then(|socket| start_admin(old, socket, tools, &self.shown)) {
                Ok(admin) => self.admin = Some(admin),
                Err(finding) => tracing::error!(%finding, "the watching door is lost until the next reload"),
            }
        }
    }

    /// Puts everything in its place, and ends what was there.
    pub(super) async fn install(&mut self, fresh: Fresh, tools: &Tools) {
        let Fresh { steering, admin, control, state, audit, audit_under } = fresh;
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
        if let Some(state) = state {
            self.state = state;
        }
        if let Some(params) = audit_under {
            tools.observe.audit_under(&params);
        }
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

/// Where the steering server is asked, where there is one.
pub(super) fn asked(settings: &Settings) -> Option<SocketAddr> {
    from_settings::steering(settings).map(|params| params.listen)
}

/// Binds the address of the steering server, unless that was handed over.
pub(super) fn bind_steering(
    settings: &Settings,
    at: SocketAddr,
    handed: &mut Handed,
) -> Result<Sockets, Finding> {
    let bound = match (handed.listener(at), handed.datagrams(at)) {
        (Some(tcp), Some(udp)) => Ok(Sockets { tcp, udp }),
        (None, None) => Sockets::bind(at),
        (Some(tcp), None) => UdpSocket::bind(at).map(|udp| Sockets { tcp, udp }),
        (None, Some(udp)) => TcpListener::bind(at).map(|tcp| Sockets { tcp, udp }),
    };
    bound.map_err(|error| unopened(Part::Steering, settings, (at, handed), &error))
}

fn unopened(
    part: Part,
    settings: &Settings,
    (at, handed): (SocketAddr, &Handed),
    error: &io::Error,
) -> Finding {
    let finding = doors::unopened(part, Place::whole(&settings.file), at, handed, error);
    Finding { message: format!("{} {}", part.key(), finding.message), ..finding }
}

/// Starts the steering server, where there is one.
pub(super) fn start_steering(settings: &Settings, sockets: Sockets) -> Result<Option<Steering>, Finding> {
    let Some(params) = from_settings::steering(settings) else { return Ok(None) };
    let listen = params.listen;
    let steering = Steering::start_at(sockets, params)
        .map_err(|error| unopened(Part::Steering, settings, (listen, &Handed::default()), &error))?;
    tracing::info!(address = %steering.address(), "steering");
    Ok(Some(steering))
}

/// What of the files that nobody else may use could not be had.
fn rehearse_files(old: &Settings, new: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    // One of our sockets may be there, which makes room.
    let is_ours = new.admin.socket.as_deref().is_some_and(|path| is_at(old, path));
    if old.admin.socket != new.admin.socket && !is_ours {
        findings.extend(take_control(new).err());
    }
    if old.state != new.state {
        findings.extend(claim_state(new).err());
    }
    if let Some(audit) = &new.audit
        && old.audit.as_ref().is_none_or(|old| old.file != audit.file)
    {
        findings.extend(Audit::rehearse(&audit.file).err().map(|error| unwritten(audit, &error)));
    }
    findings
}

/// Has the folder of what outlives a restart for ourselves, where there is one.
pub(super) fn claim_state(settings: &Settings) -> Result<Option<Folder>, Finding> {
    let Some(folder) = &settings.state else { return Ok(None) };
    Folder::claim(folder).map(Some).map_err(|error| {
        let place = Place::whole(&folder.display().to_string());
        let message = format!("the folder of what outlives a restart cannot be used: {error}");
        Finding::error(place, message, "end that one, or give this one a folder of its own (`state:`)")
    })
}

/// Opens the audit file, where there is one.
pub(super) fn start_audit(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Option<Audit>, Finding> {
    let Some(audit) = &settings.audit else { return Ok(None) };
    Audit::open(from_settings::audit(audit), Arc::clone(metrics))
        .map(Some)
        .map_err(|error| unwritten(audit, &error))
}

fn unwritten(audit: &settings::Audit, error: &io::Error) -> Finding {
    let place = Place::whole(&audit.file.display().to_string());
    let remedy = match error.kind() {
        io::ErrorKind::ResourceBusy => "end that one, or give this one a file of its own (`audit: { file }`)",
        _ => "let the gateway's user read and write there",
    };
    Finding::error(place, format!("the audit file cannot be written: {error}"), remedy)
}

/// Makes sure of the place of the control socket, where there is one.
pub(super) fn take_control(settings: &Settings) -> Result<Option<sockets::SocketFile>, Finding> {
    let Some(path) = &settings.admin.socket else { return Ok(None) };
    sockets::SocketFile::take(path, FOR_US_ALONE).map(Some).map_err(|error| uncontrolled(settings, &error))
}

/// Opens the control socket, where there is one.
pub(super) fn start_control(
    settings: &Settings,
    place: Option<sockets::SocketFile>,
    operations: Arc<dyn Answering>,
) -> Result<Option<Control>, Finding> {
    let opened = place.map(|place| Control::start(place, operations)).transpose();
    opened.map_err(|error| uncontrolled(settings, &error))
}

fn uncontrolled(settings: &Settings, error: &io::Error) -> Finding {
    let path = settings.admin.socket.as_ref().map(|path| path.display().to_string());
    let message = format!("the control socket cannot be opened: {error}");
    let remedy = sockets::remedy(error, "admin: { socket }");
    Finding::error(Place::whole(&path.unwrap_or_default()), message, remedy)
}

/// Whether the watching door of the old settings ends before one opens there.
fn makes_room(old: &Settings, at: &Http) -> bool {
    match (&old.admin.http, at) {
        (Some(Http::Address(old)), Http::Address(at)) => overlap(*old, *at),
        (Some(Http::Socket(old)), Http::Socket(at)) => old == at,
        _ => false,
    }
}

/// Whether one of the two doors of these settings is at this path.
fn is_at(settings: &Settings, path: &Path) -> bool {
    let http = settings.admin.http.as_ref().and_then(Http::socket);
    [settings.admin.socket.as_deref(), http].contains(&Some(path))
}

/// The doors of these settings that would open where the other one answers: the way back from there would be lost.
fn crossed(old: &Settings, new: &Settings) -> Option<Finding> {
    let http = |settings: &Settings| settings.admin.http.as_ref().and_then(Http::socket).map(Path::to_owned);
    let control = new.admin.socket.clone().filter(|path| http(old).as_ref() == Some(path));
    let path = control.or_else(|| http(new).filter(|path| old.admin.socket.as_ref() == Some(path)))?;
    let place = Place::whole(&path.display().to_string());
    let message = "this gateway itself answers there, at its other door";
    Some(Finding::error(
        place,
        message,
        "run `gatehouse restart`, which closes the one before it opens the other",
    ))
}

/// Binds the address of the watching door, unless that was handed over, or makes sure of the place of its socket.
pub(super) fn bind_admin(settings: &Settings, at: &Http, handed: &mut Handed) -> Result<Socket, Finding> {
    let bound = match at {
        Http::Address(at) => handed.listener(*at).map_or_else(|| TcpListener::bind(at), Ok).map(Socket::Tcp),
        Http::Socket(path) => sockets::SocketFile::take(path, FOR_OUR_GROUP).map(Socket::Unix),
    };
    bound.map_err(|error| unwatched(settings, (at, handed), &error))
}

fn unwatched(settings: &Settings, (at, handed): (&Http, &Handed), error: &io::Error) -> Finding {
    match at {
        Http::Address(at) => unopened(Part::Admin, settings, (*at, handed), error),
        Http::Socket(path) => {
            let message = format!("the socket of the watching door cannot be opened: {error}");
            let remedy = sockets::remedy(error, "admin: { http }");
            Finding::error(Place::whole(&path.display().to_string()), message, remedy)
        }
    }
}

/// Opens the watching door.
pub(super) fn start_admin(
    settings: &Settings,
    socket: Socket,
    tools: &Tools,
    shown: &Arc<Shown>,
) -> Result<Admin, Finding> {
    let (observe, registry) = (Arc::clone(&tools.observe), Arc::clone(&tools.registry));
    let hosts = settings.admin.hosts.clone();
    let status = settings.admin.status.then(|| Arc::clone(shown));
    let view = admin::View { hosts, observe, registry, status };
    let admin = Admin::start(socket, view).map_err(|error| match &settings.admin.http {
        Some(at) => unwatched(settings, (at, &Handed::default()), &error),
        None => Finding::error(Place::whole(&settings.file), error.to_string(), "report it"),
    })?;
    tracing::info!(address = %admin.at(), "admin");
    Ok(admin)
}

fn uncopied(settings: &Settings, error: &io::Error) -> Finding {
    let message = format!("the sockets cannot be handed over: {error}");
    Finding::error(Place::whole(&settings.file), message, "raise the limit of open files")
}

/// The mode of a control socket: our user, and root.
const FOR_US_ALONE: u32 = 0o600;

/// The mode of the watching door's socket: a scraper may be of our group.
const FOR_OUR_GROUP: u32 = 0o660;
