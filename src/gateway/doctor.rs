//! Looks at every backend now and then as its callers would, and tells what ails it and what to do.
//!
//! The interval of each domain (`backend: { check }`) is scattered, so that many domains of one server are not looked at in
//! one moment. One failure is looked at again soon; two in a row are a backend that is down.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::parts;
use super::reload::Reloader;
use crate::config::settings::{HostedDomain, ProxyVersion, Settings};
use crate::net::proxy;
use crate::reason::Flow;
use crate::run::checkup::{self, Ailment, Seen, Visit};
use crate::run::health::{Change, Side};
use crate::run::{now, seed};

/// Looks for as long as the gateway runs.
pub(super) async fn attend(reloader: Arc<Reloader>) {
    let mut due: HashMap<Side, Instant> = HashMap::new();
    loop {
        let (settings, tools) = (reloader.settings(), reloader.tools());
        let health = tools.observe.health();
        let patients = patients(&settings);
        health.follow(&patients.iter().map(|(side, _)| side.clone()).collect::<Vec<_>>());
        due.retain(|side, _| patients.iter().any(|(patient, _)| patient == side));
        let mut visits = JoinSet::new();
        for (side, interval) in patients {
            if due.get(&side).is_some_and(|at| *at > now()) {
                continue;
            }
            if visits.len() >= AT_ONCE {
                // The others have their turn when these are done.
                break;
            }
            let settings = Arc::clone(&settings);
            visits.spawn(async move {
                let seen = visit(&settings, &side).await;
                (side, interval, seen)
            });
        }
        while let Some(visited) = visits.join_next().await {
            let Ok((side, interval, seen)) = visited else { continue };
            let well = seen.iter().any(|seen| seen.ailment.is_none());
            tell(&side, &seen, health.note(&side, seen.clone(), THRESHOLD), &tools.observe);
            let soon = !well
                && health
                    .states()
                    .iter()
                    .any(|(of, state)| *of == side && state.as_ref().is_some_and(|state| state.up));
            due.insert(side, now() + if soon { SOON.min(interval) } else { scattered(interval) });
        }
        let next = due.values().min().copied().unwrap_or_else(|| now() + IDLE).min(now() + IDLE);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = health.doubted() => {
                // Whatever made somebody doubt may be over at once; strangers must not have us knock all day.
                tokio::time::sleep(SOON).await;
                due.clear();
            }
        }
    }
}

/// Every side of every backend that is to be looked at, and how often.
fn patients(settings: &Settings) -> Vec<(Side, Duration)> {
    let of = |domain: &HostedDomain| {
        let interval = domain.backend.check?;
        let sides = [(Flow::C2s, &domain.backend.c2s), (Flow::S2sIn, &domain.backend.s2s)];
        let sides = sides.into_iter().filter(|(_, addresses)| !addresses.is_empty());
        Some(sides.map(|(flow, _)| ((domain.name.clone(), flow), interval)).collect::<Vec<_>>())
    };
    settings.domains.iter().filter_map(of).flatten().collect()
}

async fn visit(settings: &Settings, (name, flow): &Side) -> Vec<Seen> {
    let Some(domain) = settings.domains.iter().find(|domain| domain.name == *name) else { return Vec::new() };
    look(settings, domain, *flow).await
}

/// What is seen at each address of one side of a backend, in the order of the configuration.
pub async fn look(settings: &Settings, domain: &HostedDomain, flow: Flow) -> Vec<Seen> {
    let addresses: &[SocketAddr] = if flow == Flow::C2s { &domain.backend.c2s } else { &domain.backend.s2s };
    let mut all = Vec::new();
    for address in addresses {
        let version = match flow {
            Flow::C2s => domain.backend.proxy,
            Flow::S2sIn | Flow::S2sOut => domain.backend.s2s_proxy.then_some(ProxyVersion::V2),
        };
        let introduction = match version {
            // A connection of the gateway's own account (BE-05). The word LOCAL is not known everywhere: ejabberd waits for
            // ever after it, and takes an introduction of ourselves.
            Some(ProxyVersion::V1) => proxy::v1(Some(ourselves(*address))),
            Some(ProxyVersion::V2) => {
                let outgoing =
                    proxy::Outgoing { addresses: Some(ourselves(*address)), ..proxy::Outgoing::default() };
                proxy::v2(&outgoing).unwrap_or_default()
            }
            None => Vec::new(),
        };
        let dial = parts::dial(settings);
        let patience = settings.timeouts.header.min(PATIENCE);
        let visit =
            Visit { address: *address, domain: &domain.name, flow, introduction, dial: &dial, patience };
        all.push(checkup::look(&visit).await);
    }
    all
}

/// The ends that a PROXY header of our own names: no port of ours is known before the connection stands, and none matters.
fn ourselves(destination: SocketAddr) -> proxy::Addresses {
    let ip = if destination.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    proxy::Addresses { source: SocketAddr::new(ip, 1), destination }
}

fn tell((domain, flow): &Side, seen: &[Seen], change: Change, observe: &crate::run::observe::Observe) {
    match change {
        Change::None => return,
        Change::Up => tracing::info!(%domain, flow = %flow, "backend is up"),
        Change::Down | Change::Otherwise => {
            for Seen { address, ailment, words, server } in seen {
                let Some(ailment) = ailment else { continue };
                tracing::warn!(%domain, flow = %flow, %address, ailment = ailment.label(), detail = %words,
                    server = server.map(|server| server.name()), remedy = ailment.remedy(*server, *flow),
                    "backend is down: {}", ailment.words());
            }
        }
    }
    observe.metrics().backend(domain, *flow, change == Change::Up);
}

/// The interval, a fifth more or less.
fn scattered(interval: Duration) -> Duration {
    let Ok([chance, ..]) = seed() else { return interval };
    interval.mul_f64(0.8 + 0.4 * f64::from(chance) / 255.0)
}

/// What ails one side of a backend, in words, with what to do; none if nothing does.
pub fn words(seen: &Seen, flow: Flow) -> Option<String> {
    let ailment: Ailment = seen.ailment?;
    let more = if seen.words.is_empty() { String::new() } else { format!(" ({})", seen.words) };
    Some(format!("{}{more}; {}", ailment.words(), ailment.remedy(seen.server, flow)))
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
