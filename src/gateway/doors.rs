//! The listeners: bound, opened, changed where they stand, and closed.
//!
//! A reload binds what is new before it closes what is gone, and a socket whose address stays is kept, whatever else of it
//! changes: whoever connects meanwhile waits in its queue. Streams outlive the listener that they came through.

use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::accept;
use super::admission::Admission;
use super::handed::{Handed, Part};
use super::web::Site;
use super::{Acceptors, from_settings};
use crate::config::overlap;
use crate::config::settings::{Callers, Encryption, Listener as Asked, Mixed, Settings};
use crate::limit::{self, Arrivals, Callbacks};
use crate::metrics::Door;
use crate::net;
use crate::net::listen::Listener;
use crate::policy::{Finding, Place};
use crate::run::{Tools, now};

/// The listeners that are open.
#[derive(Debug)]
pub(super) struct Doors {
    open: Vec<Open>,
    /// Sockets that are to close, until their tasks have let go of them: their addresses are taken so long.
    closing: Vec<(SocketAddr, Weak<Listener>)>,
    quotas: Option<(Params, Quotas)>,
    tasks: JoinSet<()>,
}

/// One of them. It closes when this goes.
#[derive(Debug)]
struct Open {
    socket: Bound,
    terms: watch::Sender<accept::Params>,
}

/// A socket that listens.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    /// The address as the configuration has it.
    asked: SocketAddr,
    /// The address as it is.
    pub(super) address: SocketAddr,
    pub(super) door: Door,
    listener: Arc<Listener>,
}

impl Bound {
    /// Whether it is the one that the configuration has at this address.
    pub(super) fn is_at(&self, asked: SocketAddr) -> bool {
        self.asked == asked
    }

    /// The same socket once more.
    pub(super) fn copy(&self) -> std::io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }
}

type Params = [limit::Params; 3];

#[derive(Clone, Debug)]
struct Quotas {
    world: Arc<Arrivals>,
    clients: Arc<Arrivals>,
    inside: Arc<Arrivals>,
}

impl Doors {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), closing: Vec::new(), quotas: None, tasks: JoinSet::new() }
    }

    /// What is open, in the order of the configuration.
    pub(super) fn bound(&self) -> impl Iterator<Item = &Bound> {
        self.open.iter().map(|open| &open.socket)
    }

    /// Where it listens, and a copy of each socket that these settings do not want as a listener.
    pub(super) fn leave_to(&self, settings: &Settings, handed: &mut Handed) -> std::io::Result<()> {
        for bound in self.bound() {
            handed.add_own(bound.address, Part::Listener);
            if settings.listeners.iter().all(|kept| kept.address != bound.asked) {
                handed.add_listener(bound.copy()?.into());
            }
        }
        Ok(())
    }

    /// Binds what these settings want and is not open yet, or tells of all that cannot be bound. Those that were handed over
    /// are bound already.
    pub(super) fn bind(&self, settings: &Settings, handed: &mut Handed) -> Result<Vec<Bound>, Vec<Finding>> {
        let tuning = from_settings::tuning(settings);
        let (mut bound, mut findings) = (Vec::new(), Vec::new());
        for asked in &settings.listeners {
            let door = door(&asked.role);
            if let Some(same) = self.bound().find(|bound| bound.asked == asked.address) {
                bound.push(Bound { door, ..same.clone() });
                continue;
            }
            let made = match handed.listener(asked.address) {
                Some(socket) => Listener::adopt(socket, tuning),
                None => self.opened(asked, &bound, handed, tuning),
            };
            match made.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((address, listener)) => {
                    let listener = Arc::new(listener);
                    bound.push(Bound { asked: asked.address, address, door, listener });
                }
                Err(error) => findings.push(self.unbound(asked, &bound, handed, &error)),
            }
        }
        if findings.is_empty() { Ok(bound) } else { Err(findings) }
    }

    /// A new socket; beside those of ours on the same port: one that closes as this one opens, or that an earlier reload closes,
    /// one that takes this one in, or is within it, and one that was handed over, whether anybody will want it or not.
    fn opened(
        &self,
        asked: &Asked,
        new: &[Bound],
        handed: &Handed,
        tuning: net::Tuning,
    ) -> std::io::Result<Listener> {
        let ours = self.overlapping(asked.address, new);
        let ours = ours.iter().map(|(_, listener)| listener.as_fd());
        let beside: Vec<_> = ours.chain(handed.beside(asked.address).map(|(_, socket)| socket)).collect();
        match Listener::bind(asked.address, tuning) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && !beside.is_empty() => {
                Listener::bind_beside(asked.address, tuning, &beside)
            }
            made => made,
        }
    }

    /// Those of ours, these new ones among them, that listen at an address which takes this one in, or is within it.
    fn overlapping(&self, at: SocketAddr, new: &[Bound]) -> Vec<(SocketAddr, Arc<Listener>)> {
        let open = self.bound().chain(new).map(|bound| (bound.address, Arc::clone(&bound.listener)));
        let earlier = self.closing.iter().filter_map(|(at, socket)| Some((*at, socket.upgrade()?)));
        open.chain(earlier).filter(|(other, _)| overlap(*other, at)).collect()
    }

    /// The addresses of listeners that these settings do not want.
    pub(super) fn going(&self, settings: &Settings) -> Vec<SocketAddr> {
        let stays = |bound: &&Bound| settings.listeners.iter().any(|kept| kept.address == bound.asked);
        self.bound().filter(|bound| !stays(bound)).map(|bound| bound.address).collect()
    }

    /// Why that could not be opened: what overlaps it and is ours is no reason, unless another user has opened it.
    fn unbound(&self, asked: &Asked, new: &[Bound], handed: &Handed, error: &std::io::Error) -> Finding {
        let ours = self.overlapping(asked.address, new);
        let ours = ours.iter().map(|(at, listener)| (*at, listener.as_fd()));
        let anothers = ours.chain(handed.beside(asked.address)).find(|(_, socket)| is_anothers(*socket));
        match anothers.filter(|_| error.kind() == ErrorKind::AddrInUse) {
            Some((other, _)) => Finding::error(
                asked.place.clone(),
                format!(
                    "cannot listen on {} beside {other}, which the supervisor opened as another user",
                    asked.address
                ),
                "have the supervisor open both (`ListenStream=` twice and `ReusePort=yes` in the socket unit), or neither",
            ),
            None => unopened(Part::Listener, asked.place.clone(), asked.address, handed, error),
        }
    }

    /// Opens what is new, closes what is not among these, and has the rest go on under new params.
    pub(super) fn open(
        &mut self,
        sockets: Vec<Bound>,
        settings: &Settings,
        acceptors: &Acceptors,
        tools: &Arc<Tools>,
    ) {
        let quotas = self.quotas(settings, &tools.bounds.callbacks);
        let mut old = std::mem::take(&mut self.open);
        for (socket, asked) in sockets.into_iter().zip(&settings.listeners) {
            let admission = Admission {
                door: socket.door,
                from: match &asked.role {
                    Callers::Inside(from) => Some(from.clone()),
                    Callers::C2s(_) | Callers::Mixed(_) | Callers::S2s(_) | Callers::Websocket(_) => None,
                },
                clear: matches!(&asked.role, Callers::Mixed(Mixed { starttls: true, .. })),
                web: asked.role.web().map(|web| Arc::new(Site::new(web, settings))),
                at_proxy: asked.role.web().is_some_and(|web| web.at_proxy),
                proxies: asked.proxies.clone(),
                direct: acceptors.direct(&asked.role),
                default: settings.shown_at(asked).cloned(),
                arrivals: Arc::clone(match socket.door {
                    Door::C2sDirect | Door::C2sStarttls | Door::Websocket => &quotas.clients,
                    Door::Inside => &quotas.inside,
                    Door::Mixed | Door::Outbound | Door::S2sDirect | Door::S2sStarttls => &quotas.world,
                }),
                header: settings.timeouts.header,
                handshake: settings.timeouts.tls,
                unauth: settings.timeouts.unauth,
            };
            let terms = accept::Params { admission: Arc::new(admission), tools: Arc::clone(tools) };
            let at = old.iter().position(|open| Arc::ptr_eq(&open.socket.listener, &socket.listener));
            match at.map(|at| old.swap_remove(at)) {
                Some(open) => {
                    if let Err(error) = socket.listener.retune(from_settings::tuning(settings)) {
                        tracing::warn!(address = %socket.address, %error, "a listener keeps its patience and its mark");
                    }
                    // Its task may have given the socket up; then nobody hears.
                    let _heard = open.terms.send(terms);
                    self.open.push(Open { socket, terms: open.terms });
                }
                None => {
                    tracing::info!(listener = socket.door.label(), address = %socket.address, "listening");
                    let (sender, receiver) = watch::channel(terms);
                    self.tasks.spawn(accept::serve(Arc::clone(&socket.listener), receiver));
                    self.open.push(Open { socket, terms: sender });
                }
            }
        }
        self.closing.retain(|(_, socket)| socket.strong_count() > 0);
        for Open { socket, .. } in old {
            tracing::info!(listener = socket.door.label(), address = %socket.address, "no longer listening");
            self.closing.push((socket.address, Arc::downgrade(&socket.listener)));
        }
    }

    /// Counts of those who have arrived go on where their limits are the same; their sum always does.
    fn quotas(&mut self, settings: &Settings, callbacks: &Arc<Callbacks>) -> Quotas {
        let params @ [world, clients, inside] = [
            from_settings::arrivals(settings),
            from_settings::arrivals_of_clients(settings),
            from_settings::arrivals_inside(settings),
        ];
        let quotas = match self.quotas.take() {
            Some((same, quotas)) if same == params => quotas,
            Some((_, old)) => Quotas {
                world: old.world.beside(world, now()),
                clients: old.clients.beside(clients, now()),
                inside: old.inside.beside(inside, now()),
            },
            None => {
                let world = Arrivals::new(world, Arc::clone(callbacks), now());
                let clients = world.beside(clients, now());
                Quotas { world, clients, inside: Arrivals::new(inside, Arc::default(), now()) }
            }
        };
        self.quotas = Some((params, quotas.clone()));
        quotas
    }

    /// Lets go of the sockets: whoever comes is refused at once, and may try the next address, rather than wait in a queue that
    /// nobody looks at.
    pub(super) fn leave(&mut self) {
        self.open.clear();
    }

    /// Closes them all.
    pub(super) async fn shut(&mut self) {
        self.leave();
        self.tasks.shutdown().await;
    }
}

/// Whether another user has opened this socket: nobody else may then listen at an address that overlaps its own.
fn is_anothers(socket: BorrowedFd<'_>) -> bool {
    let seen = socket.try_clone_to_owned().and_then(|socket| File::from(socket).metadata());
    seen.is_ok_and(|seen| seen.uid() != rustix::process::geteuid().as_raw())
}

/// Why this part cannot listen there, which may be that this gateway itself is in the way.
pub(super) fn unopened(
    part: Part,
    place: Place,
    at: SocketAddr,
    handed: &Handed,
    error: &std::io::Error,
) -> Finding {
    match handed.in_the_way(part, at).filter(|_| error.kind() == ErrorKind::AddrInUse) {
        Some((own, other)) => Finding::error(
            place,
            format!("cannot listen on {at}: this gateway itself listens on {own}, as `{}`", other.key()),
            "run `gatehouse restart`, which closes the one before it opens the other",
        ),
        None => unbound(place, at, error),
    }
}

/// Where something cannot listen, and what to do about it.
pub fn unbound(place: Place, address: SocketAddr, error: &std::io::Error) -> Finding {
    let port = address.port();
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied if port < 1024 => format!(
            "ports below 1024 need a right: run it from the systemd unit, which has \
             `AmbientCapabilities=CAP_NET_BIND_SERVICE`, or `setcap cap_net_bind_service=+ep` the program, or set \
             `sysctl net.ipv4.ip_unprivileged_port_start={port}`; or write a higher port"
        ),
        ErrorKind::AddrNotAvailable => {
            "write an address of this machine, or wait until the network is up".to_owned()
        }
        _ => "end what holds the address (`ss -ltnup` tells), or write another one".to_owned(),
    };
    Finding::error(place, format!("cannot listen on {address}: {error}"), remedy)
}

const fn door(role: &Callers) -> Door {
    match role {
        Callers::Inside(_) => Door::Inside,
        Callers::S2s(Encryption::Direct) => Door::S2sDirect,
        Callers::S2s(Encryption::Starttls) => Door::S2sStarttls,
        Callers::C2s(Encryption::Direct) => Door::C2sDirect,
        Callers::C2s(Encryption::Starttls) => Door::C2sStarttls,
        Callers::Mixed(_) => Door::Mixed,
        Callers::Websocket(_) => Door::Websocket,
    }
}
