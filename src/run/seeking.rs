//! Whether the servers behind look for other domains where they should: at the inside listener.
//!
//! A server that does not believe our key and never asked about it looks elsewhere, or nowhere. That is an alarm only where
//! nothing else explains it: unproven peers cause claims, and a server may refuse one for reasons of its own.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::jid::Domain;

/// What is known of it.
#[derive(Debug, Default)]
pub struct Seeking(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Hosted domains whose server has come with a question about a key, or with a pair of its own.
    found: HashSet<Domain>,
    /// Who has come to the inside listener, let in or not.
    callers: HashSet<IpAddr>,
    /// Registrable domains whose claims were not believed behind a hosted domain, as far as they are counted.
    doubts: HashMap<Domain, Vec<Box<str>>>,
}

/// A claim that the server behind did not believe, although it never asked about the key.
#[derive(Clone, Copy, Debug)]
pub struct Doubt<'a> {
    /// Whose server it is.
    pub hosted: &'a Domain,
    /// Who claimed.
    pub remote: &'a Domain,
    /// The address at which the server was called.
    pub server: Option<IpAddr>,
    /// A rule names whoever claimed: it is a partner, and not just anybody.
    pub listed: bool,
}

impl Seeking {
    /// The server of this domain has found us: it asks about a key, or brings a pair.
    pub fn found(&self, hosted: &Domain) {
        let mut state = self.held();
        state.doubts.remove(hosted);
        if !state.found.contains(hosted) {
            state.found.insert(hosted.clone());
        }
    }

    /// Whether it ever has.
    pub fn has_found(&self, hosted: &Domain) -> bool {
        self.held().found.contains(hosted)
    }

    /// Somebody has come to the inside listener, whatever became of it.
    pub fn came(&self, address: IpAddr) {
        let mut state = self.held();
        if state.callers.len() < CALLERS {
            state.callers.insert(address);
        }
    }

    /// Whether this shows that the server looks for other domains elsewhere: it never came, and one partner, or servers of two
    /// registrable domains, were not believed.
    pub fn is_elsewhere(&self, doubt: &Doubt<'_>) -> bool {
        let mut state = self.held();
        // One that comes and is turned away, or that leaves without a word, has found the way.
        if state.found.contains(doubt.hosted)
            || doubt.server.is_some_and(|server| state.callers.contains(&server))
        {
            return false;
        }
        let doubts = state.doubts.entry(doubt.hosted.clone()).or_default();
        let owner = doubt.remote.registrable();
        if doubts.len() < ENOUGH && !doubts.contains(&owner) {
            doubts.push(owner);
        }
        doubt.listed || doubts.len() >= ENOUGH
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registrable domains that are no chance.
const ENOUGH: usize = 2;

/// Addresses that are remembered: servers behind, and whoever strays among them.
const CALLERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    // One domain that no rule names must not raise an alarm about the server behind.
    #[test]
    fn one_unlisted_domain_shows_nothing_and_a_partner_or_two_unlisted_ones_do() {
        let seeking = Seeking::default();
        let hosted = domain("hall.example");
        let doubted = |remote: &str, listed| {
            let remote = domain(remote);
            let server = Some([10, 0, 0, 5].into());
            seeking.is_elsewhere(&Doubt { hosted: &hosted, remote: &remote, server, listed })
        };
        assert!(!doubted("stranger.org", false));
        assert!(!doubted("stranger.org", false), "the same once more");
        assert!(!doubted("im.stranger.org", false), "of the same owner");
        assert!(doubted("partner.org", true));
        assert!(doubted("other.net", false));
        seeking.found(&hosted);
        assert!(!doubted("other.net", false) && !doubted("partner.org", true), "it has asked us since");
    }

    // "Back-end not in `from`", "back-end demands TLS": it does come, and what is wrong is another thing.
    #[test]
    fn a_server_that_comes_and_is_turned_away_does_not_look_elsewhere() {
        let seeking = Seeking::default();
        let (hosted, remote) = (domain("hall.example"), domain("partner.org"));
        let server = Some([10, 0, 0, 5].into());
        let doubt = Doubt { hosted: &hosted, remote: &remote, server, listed: true };
        seeking.came([10, 0, 0, 6].into());
        assert!(seeking.is_elsewhere(&doubt));
        seeking.came([10, 0, 0, 5].into());
        assert!(!seeking.is_elsewhere(&doubt));
    }
}
