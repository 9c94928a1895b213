//! Domains that a reload has taken out: for a while it stays known where their servers are, so that what these had sent by then comes
//! back to whoever wrote it, however late it is known that it cannot go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::from_settings;
use crate::config::settings::Settings;
use crate::jid::Domain;
use crate::relay::{HostedDomain, RelayParams};
use crate::run::world;

/// Domains that were served here, and where.
#[derive(Clone, Debug, Default)]
pub(super) struct Departed(BTreeMap<Domain, Former>);

/// Where a domain's server is.
#[derive(Clone, Debug)]
struct Former {
    since: Instant,
    met: HostedDomain,
    addresses: Vec<SocketAddr>,
    /// Whether it reads a PROXY header.
    read_proxy_header: bool,
}

impl Departed {
    /// What is known behind a reload that leads from these params and these settings to others: what was known, if that is not too long
    /// ago, and the domains that go now.
    pub(super) fn followed_by(
        &self,
        relays: &RelayParams,
        old: &Settings,
        new: &Settings,
        now: Instant,
    ) -> Self {
        let serves = |domain: &Domain| new.domains.iter().any(|served| served.name == *domain);
        let mut all = self.0.clone();
        all.retain(|domain, former| now.saturating_duration_since(former.since) < KEPT && !serves(domain));
        let (mut backends, read_proxy_header) =
            (from_settings::backends(old), from_settings::read_proxy_header(old));
        for (domain, met) in relays.hosted.iter().filter(|(domain, _)| !serves(domain)) {
            let addresses = backends.remove(domain).unwrap_or_default();
            let former = Former {
                since: now,
                met: met.clone(),
                addresses,
                read_proxy_header: read_proxy_header.contains(domain),
            };
            all.insert(domain.clone(), former);
        }
        Self(all)
    }

    /// How their servers were met.
    pub(super) fn met(&self) -> BTreeMap<Domain, HostedDomain> {
        self.0.iter().map(|(domain, former)| (domain.clone(), former.met.clone())).collect()
    }

    /// A world in which they are still found.
    pub(super) fn found_in(&self, world: &mut world::Params) {
        for (domain, former) in &self.0 {
            world.backends.insert(domain.clone(), former.addresses.clone());
            if former.read_proxy_header {
                world.read_proxy_header.insert(domain.clone());
            }
        }
    }
}

/// How long they are known at least: longer than anything waits that somebody has sent.
const KEPT: Duration = Duration::from_secs(60 * 60);
