//! Who has proven who he is: counted by that, and no longer by the address alone (D10).
//!
//! Servers count by registrable domain, for whoever has a wildcard certificate and a DNS of his own has domains without end;
//! and by the network around, for whoever has money has registrable ones. Clients count by address, where an office is meant
//! and not a person. Rules may raise the numbers of a domain.
//!
//! Nodes that share a store count together: what the others hold, under digests that all of them make alike (`together`), counts as
//! what is held here.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::together::{Keyed, parts};
use super::{Network, held};
use crate::jid::Domain;
use crate::policy::Quotas;
use crate::reason::Reason;

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Connections of servers of one registrable domain.
    pub domain_connections: u32,
    /// Pairs of one registrable domain, over all its connections.
    pub domain_pairs: u32,
    /// Connections of servers from one network and all that lies around it ([`Network::around`]).
    pub servers: u32,
    /// Clients from one network.
    pub clients: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self { domain_connections: 50, domain_pairs: 500, servers: 2_000, clients: 5_000 }
    }
}

/// Who is here.
#[derive(Debug)]
pub struct Proven {
    params: Params,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    here: HashMap<Key, u32>,
    /// By what digests are made where other nodes count, too.
    keyed: Option<Keyed>,
    /// What those hold, by digest.
    elsewhere: HashMap<u64, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Clients(Network),
    Connections(Box<str>),
    Pairs(Box<str>),
    Servers(Network),
}

impl Key {
    fn digest(&self, keyed: Keyed) -> u64 {
        let mut hasher = keyed.hasher();
        let (kind, words) = match self {
            Self::Clients(network) => ("clients", network.0.to_string()),
            Self::Connections(domain) => ("connections", domain.to_string()),
            Self::Pairs(domain) => ("pairs", domain.to_string()),
            Self::Servers(network) => ("servers", network.0.to_string()),
        };
        for part in [kind, " ", &words] {
            hasher.write(part.as_bytes());
        }
        hasher.finish()
    }
}

impl Proven {
    /// Nobody is here yet.
    pub fn new(params: Params) -> Arc<Self> {
        Arc::new(Self { params, counts: Mutex::default() })
    }

    /// Other nodes have this secret, too, and count together with this one; or none does.
    pub fn share(&self, secret: Option<&[u8; 32]>) {
        let mut counts = held(&self.counts);
        counts.keyed = secret.map(Keyed::of);
        counts.elsewhere = HashMap::new();
    }

    /// How many are here of each that matters to so many nodes: at most so many, those that are nearest to their limits first.
    pub fn held_here(&self, nodes: u32, most: usize) -> Vec<(u64, u32)> {
        let counts = held(&self.counts);
        let Some(keyed) = counts.keyed else { return Vec::new() };
        let matters = |(key, count): (&Key, &u32)| {
            let (count, limit) = (u64::from(*count), u64::from(self.limit(key).max(1)));
            let part = count.saturating_mul(1_000_000) / limit;
            let matters = count.saturating_mul(parts(nodes).into()) >= limit;
            matters.then(|| (std::cmp::Reverse(part), key.clone(), count))
        };
        let mut all: Vec<_> = counts.here.iter().filter_map(matters).collect();
        drop(counts);
        all.sort_unstable_by_key(|(part, ..)| *part);
        all.truncate(most);
        all.into_iter()
            .map(|(_, key, count)| (key.digest(keyed), count.try_into().unwrap_or(u32::MAX)))
            .collect()
    }

    /// What all other nodes together hold now.
    pub fn held_elsewhere(&self, counts: HashMap<u64, u32>) {
        held(&self.counts).elsewhere = counts;
    }

    fn limit(&self, key: &Key) -> u32 {
        match key {
            Key::Clients(_) => self.params.clients,
            Key::Connections(_) => self.params.domain_connections,
            Key::Pairs(_) => self.params.domain_pairs,
            Key::Servers(_) => self.params.servers,
        }
    }

    /// One more client from there.
    ///
    /// # Errors
    /// [`Reason::TooManyClients`].
    pub fn client(self: &Arc<Self>, address: IpAddr) -> Result<ProvenSlot, Reason> {
        self.take(Key::Clients(Network::of(address)), self.params.clients, Reason::TooManyClients)
    }

    /// One more connection of the server of this domain, from there.
    ///
    /// # Errors
    /// [`Reason::TooManyOfDomain`], [`Reason::TooManyServers`].
    pub fn server(
        self: &Arc<Self>,
        domain: &Domain,
        address: Option<IpAddr>,
        quotas: &Quotas,
    ) -> Result<[Option<ProvenSlot>; 2], Reason> {
        let most = quotas.connections.unwrap_or(self.params.domain_connections);
        let domain = self.take(Key::Connections(domain.registrable()), most, Reason::TooManyOfDomain)?;
        let around = address.map(|address| Key::Servers(Network::of(address).around()));
        let around =
            around.map(|key| self.take(key, self.params.servers, Reason::TooManyServers)).transpose()?;
        Ok([Some(domain), around])
    }

    /// One more pair of this domain.
    ///
    /// # Errors
    /// [`Reason::TooManyPairsOfDomain`].
    pub fn pair(self: &Arc<Self>, domain: &Domain, quotas: &Quotas) -> Result<ProvenSlot, Reason> {
        let most = quotas.pairs.unwrap_or(self.params.domain_pairs);
        self.take(Key::Pairs(domain.registrable()), most, Reason::TooManyPairsOfDomain)
    }

    fn take(self: &Arc<Self>, key: Key, most: u32, reason: Reason) -> Result<ProvenSlot, Reason> {
        let mut counts = held(&self.counts);
        let count = counts.here.get(&key).copied().unwrap_or_default();
        let elsewhere = match counts.keyed {
            Some(keyed) if !counts.elsewhere.is_empty() => counts.elsewhere.get(&key.digest(keyed)).copied(),
            _ => None,
        };
        if count.saturating_add(elsewhere.unwrap_or_default()) >= most {
            return Err(reason);
        }
        counts.here.insert(key.clone(), count + 1);
        drop(counts);
        Ok(ProvenSlot { proven: Arc::clone(self), key })
    }
}

/// A place in one of the counts.
#[derive(Debug)]
pub struct ProvenSlot {
    proven: Arc<Proven>,
    key: Key,
}

impl Drop for ProvenSlot {
    fn drop(&mut self) {
        let counts = &mut held(&self.proven.counts).here;
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
                if counts.capacity() > 64 && counts.len() < counts.capacity() / 4 {
                    counts.shrink_to_fit();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    #[test]
    fn what_one_party_has_registered_counts_as_one() {
        for (name, registered) in [
            ("friend.com", "friend.com"),
            ("a.b.friend.com", "friend.com"),
            ("chat.friend.co.uk", "friend.co.uk"),
            // The private part of the list: one party each.
            ("chat.friend.github.io", "friend.github.io"),
            ("github.io", "github.io"),
            ("co.uk", "co.uk"),
            ("xn--e1afmkfd.xn--80adxhks", "xn--e1afmkfd.xn--80adxhks"),
            ("a.xn--e1afmkfd.xn--80adxhks", "xn--e1afmkfd.xn--80adxhks"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(&*domain(name).registrable(), registered, "{name}");
        }
    }

    // "One address with a wildcard certificate opens 901 connections to the old server with default limits."
    #[test]
    fn a_wildcard_certificate_is_no_second_helping_and_a_hoster_is_none() {
        let proven = Proven::new(Params::default());
        let quotas = Quotas::default();
        let address = |n: u32| Some(IpAddr::from([192, 0, 2, (n % 200) as u8]));
        let server = |name: String, n| proven.server(&domain(&name), address(n), &quotas);
        let wild: Vec<_> = (0..901).filter_map(|n| server(format!("d{n}.wild.com"), n).ok()).collect();
        assert_eq!(wild.len(), 50);
        let hoster: Vec<_> = (0..1_000).filter_map(|n| server(format!("customer{n}.com"), n).ok()).collect();
        assert_eq!(hoster.len(), 1_000);
        // Nor has a network room for all the domains there are.
        let more: Vec<_> = (0..2_000).filter_map(|n| server(format!("more{n}.com"), n).ok()).collect();
        assert_eq!(more.len(), 950);
        assert_eq!(server("late.com".to_owned(), 1).unwrap_err(), Reason::TooManyServers);
        let elsewhere = proven.server(&domain("late.com"), Some([198, 51, 100, 1].into()), &quotas);
        assert!(elsewhere.is_ok());
        drop((wild, hoster, more, elsewhere));
        assert!(held(&proven.counts).here.is_empty());
    }

    #[test]
    fn a_rule_may_raise_the_numbers_of_a_domain() {
        let proven = Proven::new(Params { domain_connections: 1, domain_pairs: 1, ..Params::default() });
        let (usual, raised) =
            (Quotas::default(), Quotas { connections: Some(2), pairs: Some(2), ..Quotas::default() });
        let friend = domain("chat.friend.com");
        let _one = (proven.server(&friend, None, &usual).unwrap(), proven.pair(&friend, &usual).unwrap());
        assert_eq!(proven.server(&friend, None, &usual).unwrap_err(), Reason::TooManyOfDomain);
        assert_eq!(proven.pair(&friend, &usual).unwrap_err(), Reason::TooManyPairsOfDomain);
        let _two = (proven.server(&friend, None, &raised).unwrap(), proven.pair(&friend, &raised).unwrap());
        assert_eq!(proven.pair(&friend, &raised).unwrap_err(), Reason::TooManyPairsOfDomain);
    }

    #[test]
    fn one_address_has_as_many_clients_as_an_office() {
        let proven = Proven::new(Params { clients: 2, ..Params::default() });
        let client = |address: &str| proven.client(address.parse().unwrap());
        let first = client("192.0.2.1").unwrap();
        let _second = client("192.0.2.1").unwrap();
        assert_eq!(client("192.0.2.1").unwrap_err(), Reason::TooManyClients);
        let _other = client("192.0.2.2").unwrap();
        drop(first);
        let _third = client("192.0.2.1").unwrap();
    }

    // CLU-03: what the others hold counts as what is held here, and only where they mean the same.
    #[test]
    fn nodes_with_one_secret_count_together() {
        let params = Params { domain_connections: 50, domain_pairs: 500, servers: 2_000, clients: 50 };
        let secret = [7; 32];
        let node = |secret: &[u8; 32]| {
            let node = Proven::new(params);
            node.share(Some(secret));
            node
        };
        let (one, other, foreign) = (node(&secret), node(&secret), node(&[8; 32]));
        let quotas = Quotas::default();
        let server = |node: &Arc<Proven>| node.server(&domain("friend.com"), None, &quotas);
        let mut places: Vec<_> = (0..30).map(|_| server(&one).unwrap()).collect();
        let _clients: Vec<_> = (0..30).map(|_| one.client([192, 0, 2, 1].into()).unwrap()).collect();
        let _few = one.client([192, 0, 2, 2].into()).unwrap();
        let told = one.held_here(2, 10);
        assert_eq!(told.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [30, 30], "{told:?}");
        assert_eq!(one.held_here(2, 1).len(), 1);
        assert_eq!(one.held_here(50, 10).len(), 3, "the more nodes, the less each may keep to itself");
        for node in [&other, &foreign] {
            node.held_elsewhere(told.iter().copied().collect());
        }
        let here: Vec<_> = (0..50).map_while(|_| server(&other).ok()).collect();
        assert_eq!(here.len(), 20);
        assert_eq!(server(&other).unwrap_err(), Reason::TooManyOfDomain);
        assert_eq!((0..50).map_while(|_| server(&foreign).ok()).count(), 50);
        let clients: Vec<_> = (0..50).map_while(|_| other.client([192, 0, 2, 1].into()).ok()).collect();
        assert_eq!(clients.len(), 20);
        assert!(other.client([192, 0, 2, 3].into()).is_ok());
        // They go there, and there is room here.
        places.clear();
        other.held_elsewhere(one.held_here(2, 10).into_iter().collect());
        assert!(server(&other).is_ok());
        assert!(Proven::new(params).held_here(1, 10).is_empty());
    }
}
