//! Looks at every backend now and then as its callers would, and tells what ails it and what to do.
//!
//! The interval of each domain (`backend: { check }`) is scattered, so that many domains of one server are not looked at in
//! one moment. One failure is looked at again soon; two in a row are a backend that is down.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};

use super::from_settings;
use super::reload::Reloader;
use crate::config::settings::{HostedDomain, ProxyVersion, Settings};
use crate::net::proxy;
use crate::reason::Flow;
use crate::run::checkup::{self, CheckResult, ServerSoftware, Visit};
use crate::run::health::{BackendSide, HealthChange};
use crate::run::{now, seed};

/// Looks for as long as the gateway runs.
pub(super) async fn attend(reloader: Arc<Reloader>) {
    let mut rounds = Rounds::default();
    let mut news = reloader.tools().registry.news();
    loop {
        let (settings, tools) = (reloader.settings(), reloader.tools());
        news.mark_unchanged();
        let health = tools.observe.health();
        let patients = patients(&settings);
        health.follow(&patients.iter().map(|(side, _)| side.clone()).collect::<Vec<_>>());
        for side in rounds.follow(&patients) {
            health.forget(&side);
            if !health.is_checked(&side) {
                tools.observe.metrics().backend_gone(&side.0, side.1);
            }
        }
        rounds.set_out(&settings, patients);
        let next = rounds.next().min(now() + IDLE);
        tokio::select! {
            Some(visited) = rounds.visits.join_next() => {
                // One that was called off says nothing.
                let Ok(Visited { side, place, seen }) = visited else { continue };
                if rounds.places.get(&side) != Some(&place) {
                    continue;
                }
                rounds.under_way.remove(&side);
                let well = seen.iter().any(|seen| seen.ailment.is_none());
                tell(&side, &seen, health.note(&side, seen.clone(), THRESHOLD), &tools.observe);
                let states = health.states();
                let is_up = states.iter().any(|(of, state)| *of == side && state.as_ref().is_some_and(|s| s.up));
                let after = if !well && is_up { SOON.min(place.interval) } else { scattered(place.interval) };
                rounds.due.insert(side, now() + after);
            }
            // Whatever else is new: it may be another address.
            _ = news.changed() => {}
            () = tokio::time::sleep_until(next.into()) => {}
            () = health.doubted(), if rounds.doubt.is_none() => rounds.doubt = Some(now() + SOON),
        }
    }
}

/// Who is to be looked at when, and who is being looked at.
#[derive(Default)]
struct Rounds {
    places: HashMap<BackendSide, Place>,
    due: HashMap<BackendSide, Instant>,
    under_way: HashMap<BackendSide, AbortHandle>,
    visits: JoinSet<Visited>,
    /// Somebody doubts what is known, and all are looked at then. Not at once: what made somebody doubt may be over by then, and
    /// unproven peers must not have us knock all day.
    doubt: Option<Instant>,
}

/// Where and how one side of a backend is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    addresses: Vec<SocketAddr>,
    introduction: Option<ProxyVersion>,
    interval: Duration,
}

struct Visited {
    side: BackendSide,
    place: Place,
    seen: Vec<CheckResult>,
}

impl Rounds {
    /// These are looked at from now on; those of whom nothing is known any more, because they are elsewhere.
    fn follow(&mut self, patients: &[(BackendSide, Place)]) -> Vec<BackendSide> {
        let now_at: HashMap<&BackendSide, &Place> =
            patients.iter().map(|(side, place)| (side, place)).collect();
        let is_elsewhere = |(side, place): (&BackendSide, &Place)| {
            let now_at = now_at.get(side);
            let same = |now_at: &&&Place| {
                (&now_at.addresses, now_at.introduction) == (&place.addresses, place.introduction)
            };
            (!now_at.as_ref().is_some_and(same)).then(|| side.clone())
        };
        let moved: Vec<BackendSide> = self.places.iter().filter_map(is_elsewhere).collect();
        for side in &moved {
            self.due.remove(side);
            if let Some(visit) = self.under_way.remove(side) {
                visit.abort();
            }
        }
        // One under way goes by the interval that it began with.
        self.places.retain(|side, _| self.under_way.contains_key(side));
        for (side, place) in patients {
            self.places.entry(side.clone()).or_insert_with(|| place.clone());
        }
        moved
    }

    /// Looks at those that are due, so many at one time.
    fn set_out(&mut self, settings: &Arc<Settings>, patients: Vec<(BackendSide, Place)>) {
        if self.doubt.is_some_and(|at| at <= now()) {
            self.doubt = None;
            self.due.clear();
        }
        for (side, place) in patients {
            let is_due = self.due.get(&side).is_none_or(|at| *at <= now());
            if !is_due || self.under_way.contains_key(&side) || self.under_way.len() >= AT_ONCE {
                continue;
            }
            let (settings, of) = (Arc::clone(settings), side.clone());
            let visit = self.visits.spawn(async move {
                let seen = visit(&settings, &of).await;
                Visited { side: of, place, seen }
            });
            self.under_way.insert(side, visit);
        }
    }

    /// When somebody is due who is not being looked at.
    fn next(&self) -> Instant {
        let due = self.due.iter().filter(|(side, _)| !self.under_way.contains_key(*side)).map(|(_, at)| *at);
        due.chain(self.doubt).min().unwrap_or_else(|| now() + IDLE)
    }
}

/// Every side of every backend that is to be looked at, where and how often.
fn patients(settings: &Settings) -> Vec<(BackendSide, Place)> {
    let of = |domain: &HostedDomain| {
        let interval = domain.backend.check?;
        let sides = [Flow::C2s, Flow::S2sIn].into_iter().map(|flow| {
            let (addresses, introduction) = place(domain, flow);
            ((domain.name.clone(), flow), Place { addresses: addresses.to_vec(), introduction, interval })
        });
        Some(sides.filter(|(_, place)| !place.addresses.is_empty()).collect::<Vec<_>>())
    };
    settings.domains.iter().filter_map(of).flatten().collect()
}

/// The addresses of one side of a backend, and the introduction that it wants.
fn place(domain: &HostedDomain, flow: Flow) -> (&[SocketAddr], Option<ProxyVersion>) {
    match flow {
        Flow::C2s => (&domain.backend.c2s, domain.backend.proxy),
        Flow::S2sIn | Flow::S2sOut => {
            (&domain.backend.s2s, domain.backend.s2s_proxy.then_some(ProxyVersion::V2))
        }
    }
}

async fn visit(settings: &Settings, (name, flow): &BackendSide) -> Vec<CheckResult> {
    let Some(domain) = settings.domains.iter().find(|domain| domain.name == *name) else { return Vec::new() };
    look(settings, domain, *flow).await
}

/// What is seen at each address of one side of a backend, in the order of the configuration.
pub async fn look(settings: &Settings, domain: &HostedDomain, flow: Flow) -> Vec<CheckResult> {
    let (addresses, version) = place(domain, flow);
    let mut all = Vec::new();
    for address in addresses {
        let introduction = match version {
            // A connection of the gateway's own account (BE-05). The word LOCAL is not known everywhere: ejabberd waits for
            // ever after it, and takes an introduction of ourselves.
            Some(ProxyVersion::V1) => proxy::v1(Some(ourselves(*address))),
            Some(ProxyVersion::V2) => {
                let outgoing = proxy::OutgoingHeader {
                    addresses: Some(ourselves(*address)),
                    ..proxy::OutgoingHeader::default()
                };
                proxy::v2(&outgoing).unwrap_or_default()
            }
            None => Vec::new(),
        };
        let dial = from_settings::dial(settings);
        let patience = settings.timeouts.header.min(PATIENCE);
        let server = domain.backend.server.and_then(ServerSoftware::named);
        let domain = &domain.name;
        let visit = Visit { address: *address, domain, flow, introduction, dial: &dial, patience, server };
        all.push(checkup::look(&visit).await);
    }
    all
}

/// The ends that a PROXY header of our own names: no port of ours is known before the connection stands, and none matters.
fn ourselves(destination: SocketAddr) -> proxy::Addresses {
    let ip = if destination.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    proxy::Addresses { source: SocketAddr::new(ip, 1), destination }
}

fn tell(
    (domain, flow): &BackendSide,
    seen: &[CheckResult],
    change: HealthChange,
    observe: &crate::run::observe::Observe,
) {
    match change {
        HealthChange::None => return,
        HealthChange::Up | HealthChange::Remarked => {
            if change == HealthChange::Up {
                tracing::info!(%domain, flow = %flow, "backend is up");
            }
            for one in seen {
                if let Some(remark) = one.remark(*flow) {
                    tracing::info!(%domain, flow = %flow, address = %one.address,
                        server = one.server.map(|server| server.name()), "backend answers: {remark}");
                }
            }
        }
        HealthChange::Down | HealthChange::Otherwise => {
            for CheckResult { address, ailment, words, server, .. } in seen {
                let Some(ailment) = ailment else { continue };
                tracing::warn!(%domain, flow = %flow, %address, ailment = ailment.label(), detail = %words,
                    server = server.map(|server| server.name()), remedy = ailment.remedy(*server, *flow),
                    "backend is down: {}", ailment.words());
            }
        }
    }
    observe.metrics().backend(domain, *flow, matches!(change, HealthChange::Up | HealthChange::Remarked));
}

/// The interval, a fifth more or less.
fn scattered(interval: Duration) -> Duration {
    let Ok([chance, ..]) = seed() else { return interval };
    interval.mul_f64(0.8 + 0.4 * f64::from(chance) / 255.0)
}

/// Failures in a row that make a backend count as down.
const THRESHOLD: u32 = 2;

/// When one failure, or a doubt, is looked at again.
const SOON: Duration = Duration::from_secs(2);

/// How long a server may take for its words.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the configuration is looked at again although nothing is due.
const IDLE: Duration = Duration::from_secs(5);

/// Visits at one time.
const AT_ONCE: usize = 16;
