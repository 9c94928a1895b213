//! What each hosted domain says of federation, and who is banned for the moment.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::rules::Conditions;
use crate::jid::Domain;

/// `federation:` of a hosted domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Federation {
    /// Admits what no rule denies, under the file's defaults.
    Any,
    /// Admits what no rule denies, within bounds until it is approved.
    Quarantine,
    /// Admits only what a rule allows.
    Listed,
    /// Admits nothing.
    None,
}

impl Federation {
    /// Every setting.
    pub const ALL: &'static [Federation] = &[Self::Any, Self::Quarantine, Self::Listed, Self::None];

    /// The word in files.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Quarantine => "quarantine",
            Self::Listed => "listed",
            Self::None => "none",
        }
    }
}

/// A hosted domain, compiled.
#[derive(Clone, Debug)]
pub(super) struct Hosted {
    pub(super) domain: Domain,
    pub(super) federation: Federation,
    pub(super) defaults: Arc<Conditions>,
    /// The same for who is in quarantine.
    pub(super) held: Arc<Conditions>,
}

/// Addresses and domains an operator banned: part of the snapshot, so that living streams hear of it as of any change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    /// Networks nothing is taken from.
    pub networks: Vec<IpNet>,
    /// Domains that do not federate, with everything below them.
    pub domains: Vec<Domain>,
}

impl Bans {
    /// Whether the address is banned. An IPv4 address in IPv6 clothes is the IPv4 address.
    pub fn holds_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether the domain, or one above it, is banned.
    pub fn holds_domain(&self, domain: &Domain) -> bool {
        self.domains.iter().any(|banned| domain == banned || domain.is_below(banned))
    }
}
