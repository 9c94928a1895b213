//! Names of backends: what they lead to now, and whether that has changed.
//!
//! The system looks them up, with its `hosts` file and its resolver: the names of backends are a matter of the machine or of its
//! orchestrator, and not of the public DNS that the gateway asks about remote domains.

use std::net::{SocketAddr, ToSocketAddrs as _};

use super::settings::{Named, Settings, Target};
use crate::jid::Domain;

/// What a host name with that port leads to.
pub(super) type LookUp<'a> = &'a dyn Fn(&Domain, u16) -> Vec<SocketAddr>;

/// As the system knows it.
pub(super) fn by_the_system(host: &Domain, port: u16) -> Vec<SocketAddr> {
    let found = (host.to_ascii().as_ref(), port).to_socket_addrs();
    let mut addresses: Vec<SocketAddr> = found.into_iter().flatten().collect();
    // Those of one family stay in the order in which the system prefers them.
    addresses.dedup();
    addresses
}

/// The addresses of these targets, in order, each once. What a name led to `before` holds on while it leads nowhere.
pub(super) fn addresses(targets: &[Target], before: &[SocketAddr], look_up: LookUp<'_>) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    let mut lost = false;
    for target in targets {
        match target {
            Target::Address(address) => all.push(*address),
            Target::Host(host, port) => {
                let mut found = look_up(host, *port);
                // A name with several addresses may be told in another order each time.
                found.sort();
                lost |= found.is_empty();
                all.extend(found);
            }
        }
    }
    if lost {
        all.extend(before);
    }
    let mut once = Vec::with_capacity(all.len());
    all.retain(|address| {
        let new = !once.contains(address);
        once.extend(new.then_some(*address));
        new
    });
    all
}

/// The same settings with what the names of backends lead to now; none where nothing is different. It may take as long as
/// the system's resolver does.
pub fn looked_up_again(settings: &Settings) -> Option<Settings> {
    let mut next: Option<Settings> = None;
    for (at, domain) in settings.domains.iter().enumerate() {
        let backend = &domain.backend;
        let Named { c2s, s2s } = &backend.named;
        let again = |targets: &[Target], before: &[SocketAddr]| match targets {
            [] => before.to_vec(),
            targets => addresses(targets, before, &by_the_system),
        };
        let (c2s, s2s) = (again(c2s, &backend.c2s), again(s2s, &backend.s2s));
        if (&c2s, &s2s) == (&backend.c2s, &backend.s2s) {
            continue;
        }
        if let Some(domain) = next.get_or_insert_with(|| settings.clone()).domains.get_mut(at) {
            (domain.backend.c2s, domain.backend.s2s) = (c2s, s2s);
        }
    }
    next
}
