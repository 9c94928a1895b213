//! What relays lean on, made from settings: the first time all of it, after a reload what has changed.
//!
//! What is remembered (counts, caches, circuits) goes on where its own parameters are the same, and begins anew where they
//! are not.

use std::net::SocketAddr;
use std::sync::Arc;

use super::departed::Departed;
use super::from_settings::{self, Credentials};
use super::secrets::Secrets;
use super::{Acceptors, StartFault, boot, wall};
use crate::config::settings::Settings;
use crate::dns::{self, Resolver};
use crate::limit::Handshakes;
use crate::metrics::Metrics;
use crate::policy::{Finding, Place, Policy};
use crate::run::audit::Audit;
use crate::run::backends::Backends;
use crate::run::circuit::Circuits;
use crate::run::courier::Couriers;
use crate::run::observe::Observe;
use crate::run::posh::Files;
use crate::run::registry::Registry;
use crate::run::workers::Workers;
use crate::run::world::{self, World};
use crate::run::{Peering, Tools, Transport, now};
use crate::tls::Connector;

/// What relays lean on, and what it was made of.
#[derive(Debug)]
pub(super) struct Engine {
    settings: Arc<Settings>,
    resolver: Arc<Resolver>,
    asked: dns::Params,
    world: Arc<World>,
    tools: Arc<Tools>,
    /// What nodes that count together have in common.
    common: Option<[u8; 32]>,
    /// What was served here before.
    departed: Departed,
}

impl Engine {
    /// The first one. `own`: the addresses of our listeners.
    pub(super) fn new(
        settings: Arc<Settings>,
        (credentials, secrets): (&Credentials, &Secrets),
        (policy, acceptors): (Arc<Policy>, &Acceptors),
        (metrics, audit): (Arc<Metrics>, Option<Audit>),
        (own, workers): (Vec<SocketAddr>, Workers),
    ) -> Result<Self, StartFault> {
        let asked = from_settings::resolver(&settings, own);
        let resolver = resolver(&settings, &asked).map_err(StartFault::one)?;
        let circuits = Circuits::new(from_settings::circuits(&settings), Arc::clone(&metrics));
        let handshakes = Arc::new(from_settings::handshakes(&settings));
        let connector = Connector::new(credentials.connecting()).map_err(StartFault::internal)?;
        let observe = Arc::new(Observe::new(metrics, audit, now()));
        observe.refusals().keep(usize::try_from(settings.limits.refusals).unwrap_or(usize::MAX));
        let params = world_params(&settings, acceptors, &resolver, (&handshakes, &circuits), &observe);
        let world = Arc::new(World::new(params, connector));
        let common = common(&settings, secrets);
        let tools = Arc::new(Tools {
            params: from_settings::engine(&settings),
            relays: Arc::new(from_settings::relays(&settings, secrets.keyrings(wall::clock()))),
            transport: Arc::clone(&world) as Arc<dyn Transport>,
            registry: Registry::new(policy, settings.timeouts.dialback, boot()?),
            bounds: from_settings::bounds(&settings, common.as_ref(), handshakes),
            peering: Peering {
                verifier: Arc::default(),
                strays: Arc::default(),
                couriers: Arc::new(Couriers::new(from_settings::engine(&settings).inside_octets, now())),
                sessions: Arc::default(),
                partings: Arc::default(),
                backends: backends(&settings, &Backends::default(), &observe),
                circuits,
            },
            fetches: Arc::default(),
            workers,
            observe,
        });
        tools.bounds.proven.share(common.as_ref());
        Ok(Self { settings, resolver, asked, world, tools, common, departed: Departed::default() })
    }

    /// What relays lean on.
    pub(super) fn tools(&self) -> &Arc<Tools> {
        &self.tools
    }

    /// The world, to show it another connector.
    pub(super) fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The one that follows, by these settings.
    ///
    /// # Errors
    /// When name servers cannot be asked as the settings want it.
    pub(super) fn followed_by(
        &self,
        settings: Arc<Settings>,
        secrets: &Secrets,
        acceptors: &Acceptors,
        own: Vec<SocketAddr>,
    ) -> Result<Self, Finding> {
        let asked = from_settings::resolver(&settings, own);
        let resolver = match asked == self.asked {
            true => Arc::clone(&self.resolver),
            false => resolver(&settings, &asked)?,
        };
        let (old, last) = (&self.tools, &*self.settings);
        let common = common(&settings, secrets);
        let circuits = match from_settings::circuits(&settings) {
            params if params == from_settings::circuits(last) => Arc::clone(&old.peering.circuits),
            params => Circuits::new(params, Arc::clone(old.observe.metrics())),
        };
        let bounds = from_settings::bounds_after(
            &old.bounds,
            (last, self.common.as_ref()),
            (&settings, common.as_ref()),
        );
        let departed = self.departed.followed_by(&old.relays, last, &settings, now());
        let mut params =
            world_params(&settings, acceptors, &resolver, (&bounds.handshakes, &circuits), &old.observe);
        departed.found_in(&mut params);
        let mut relays = from_settings::relays(&settings, secrets.keyrings(wall::clock()));
        relays.departed = departed.met();
        old.peering.couriers.resize(from_settings::engine(&settings).inside_octets);
        let world = Arc::new(self.world.followed_by(params));
        let tools = Tools {
            params: from_settings::engine(&settings),
            relays: Arc::new(relays),
            transport: Arc::clone(&world) as Arc<dyn Transport>,
            registry: Arc::clone(&old.registry),
            bounds,
            peering: Peering {
                verifier: Arc::clone(&old.peering.verifier),
                strays: Arc::clone(&old.peering.strays),
                couriers: Arc::clone(&old.peering.couriers),
                sessions: Arc::clone(&old.peering.sessions),
                partings: Arc::clone(&old.peering.partings),
                backends: backends(&settings, &old.peering.backends, &old.observe),
                circuits,
            },
            fetches: Arc::clone(&old.fetches),
            workers: old.workers.clone(),
            observe: Arc::clone(&old.observe),
        };
        if common != self.common || !Arc::ptr_eq(&tools.bounds.proven, &old.bounds.proven) {
            tools.bounds.proven.share(common.as_ref());
        }
        Ok(Self { resolver, asked, world, tools: Arc::new(tools), settings, common, departed })
    }
}

/// What nodes that share a store make digests of counts with.
fn common(settings: &Settings, secrets: &Secrets) -> Option<[u8; 32]> {
    settings.cluster.as_ref().and_then(|_| secrets.for_counts())
}

/// Streams of ours to the servers behind.
fn backends(settings: &Settings, before: &Backends, observe: &Observe) -> Arc<Backends> {
    Arc::new(Backends::new(&from_settings::streams_behind(settings), before, observe.metrics()))
}

fn resolver(settings: &Settings, asked: &dns::Params) -> Result<Arc<Resolver>, Finding> {
    Resolver::new(asked.clone()).map(Arc::new).map_err(|fault| {
        let remedy = "name servers in `dns: { servers: [..] }`";
        Finding::error(Place::whole(&settings.file), fault.to_string(), remedy)
    })
}

fn world_params(
    settings: &Settings,
    acceptors: &Acceptors,
    resolver: &Arc<Resolver>,
    (pace, circuits): (&Arc<Handshakes>, &Arc<Circuits>),
    observe: &Observe,
) -> world::Params {
    world::Params {
        acceptor: Arc::clone(&acceptors.starttls),
        acceptor_clients: Arc::clone(&acceptors.starttls_clients),
        resolver: Arc::clone(resolver),
        backends: from_settings::backends(settings),
        clients: from_settings::clients(settings),
        read_proxy_header: from_settings::read_proxy_header(settings),
        ways: from_settings::ways(settings),
        sources: from_settings::sources(settings),
        dial: from_settings::dial(settings),
        handshake: settings.timeouts.tls,
        pace: Arc::clone(pace),
        circuits: Arc::clone(circuits),
        posh: Files::default(),
        metrics: Arc::clone(observe.metrics()),
    }
}
