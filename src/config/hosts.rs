//! Names of backends, and what they lead to.
//!
//! The system looks them up, with its `hosts` file and its resolver: the names of backends are a matter of the machine or of its
//! orchestrator, and not of the public DNS that the gateway asks about remote domains.

use std::net::{SocketAddr, ToSocketAddrs as _};

use crate::jid::Domain;

/// A server that a route names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrittenTarget {
    /// An address.
    Address(SocketAddr),
    /// A host to look up, and a port.
    Host(Domain, u16),
}

/// The addresses of a backend as they are written; each list empty where no name is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenTargets {
    /// Those for clients.
    pub c2s: Vec<WrittenTarget>,
    /// Those for federation.
    pub s2s: Vec<WrittenTarget>,
}

impl WrittenTargets {
    /// These targets, if a name is among them.
    pub(super) fn those(targets: Vec<WrittenTarget>) -> Vec<WrittenTarget> {
        let named = targets.iter().any(|target| matches!(target, WrittenTarget::Host(..)));
        if named { targets } else { Vec::new() }
    }
}

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
pub(super) fn addresses(
    targets: &[WrittenTarget],
    before: &[SocketAddr],
    look_up: LookUp<'_>,
) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    let mut lost = false;
    for target in targets {
        match target {
            WrittenTarget::Address(address) => all.push(*address),
            WrittenTarget::Host(host, port) => {
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
