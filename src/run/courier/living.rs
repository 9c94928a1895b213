//! The couriers that live, and who of them calls at a domain: found at once, however many domains are served here.

use std::collections::{HashMap, HashSet};

use super::{Courier, Key};
use crate::jid::Domain;
use crate::stream::Pair;

/// Those that live, by what they carry.
#[derive(Debug, Default)]
pub(super) struct Living {
    all: HashMap<Key, Courier>,
    /// Of those that carry no reports: whom they call, and for whom.
    called: HashMap<Domain, HashSet<Domain>>,
}

impl Living {
    pub(super) fn get(&self, key: &Key) -> Option<&Courier> {
        self.all.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Courier> {
        self.all.get_mut(key)
    }

    pub(super) fn contains_key(&self, key: &Key) -> bool {
        self.all.contains_key(key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Courier> {
        self.all.values()
    }

    /// It lives from now on.
    pub(super) fn insert(&mut self, key: Key, courier: Courier) {
        if key.reports.is_none() {
            let Pair { sender, target } = key.pair.clone();
            self.called.entry(target).or_default().insert(sender);
        }
        self.all.insert(key, courier);
    }

    /// It has gone.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Courier> {
        if key.reports.is_none()
            && let Some(callers) = self.called.get_mut(&key.pair.target)
        {
            callers.remove(&key.pair.sender);
            if callers.is_empty() {
                self.called.remove(&key.pair.target);
            }
        }
        self.all.remove(key)
    }

    /// Those that call at this domain and carry no reports, with whom they call for.
    pub(super) fn callers<'a>(
        &'a self,
        domain: &'a Domain,
    ) -> impl Iterator<Item = (&'a Domain, &'a Courier)> {
        self.called.get(domain).into_iter().flatten().filter_map(|sender| {
            let pair = Pair { sender: sender.clone(), target: domain.clone() };
            Some((sender, self.all.get(&Key { pair, reports: None })?))
        })
    }

    /// Whether nobody lives, and nobody is called.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.called.is_empty()
    }

    /// How many live.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
