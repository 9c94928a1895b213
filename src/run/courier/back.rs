//! Ways back over streams of peers that take them (XEP-0288). Whoever has a stanza finds the pair's courier first, then a way
//! back, and has a courier set out only where there is neither: so no stanza overtakes another (RLY-05).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::{Couriers, Key, held, lost, start};
use crate::reason::Reason;
use crate::relay::{Load, StreamLimits};
use crate::run::Tools;
use crate::run::cargo::{Brought, Cargo};
use crate::run::registry::{Phase, Registry, RelayId};
use crate::stream::Pair;

impl Couriers {
    /// The stream of a peer takes the stanzas of this pair from now on; where it finds them.
    pub fn open_back(
        &self,
        limits: &StreamLimits,
        registry: &Registry,
        pair: &Pair,
        id: RelayId,
    ) -> Arc<Cargo> {
        let cargo = Cargo::new(Arc::clone(&self.hold), limits);
        let mut back = held(&self.back);
        let ways = back.entry(pair.clone()).or_default();
        // Those whose streams broke wait for a peer that is here.
        let before: Vec<RelayId> = ways.iter().map(|(id, _)| *id).collect();
        ways.push_back((id, Arc::clone(&cargo)));
        drop(back);
        before.into_iter().for_each(|id| registry.forsake(id));
        cargo
    }
}

/// Where stanzas of this pair go back, if there is a way. The first that was there is the one, until it ends.
pub(super) fn way(couriers: &Couriers, key: &Key) -> Option<Arc<Cargo>> {
    let back = held(&couriers.back);
    let (_, cargo) = back.get(&key.pair).filter(|_| key.reports.is_none())?.front()?;
    Some(Arc::clone(cargo))
}

/// The stream of that relay takes none of this pair any more, if it did: what did not go back, and what still waits, goes on over
/// the next way back, or over a stream of our own.
pub fn carry_on(tools: &Arc<Tools>, pair: &Pair, id: RelayId, unsent: Vec<Bytes>) {
    let key = Key { pair: pair.clone(), reports: None };
    // Nobody can give anything to this pair meanwhile.
    let mut living = held(&tools.peering.couriers.living);
    let own = take_out(&tools.peering.couriers, pair, id);
    let left = own.as_ref().map(|cargo| cargo.close()).unwrap_or_default();
    let inherited = |next: &Arc<Cargo>| {
        // Others may give to it meanwhile: whoever waits here waits for all of it.
        own.iter().for_each(|own| own.inherited(Arc::clone(next), next.given()));
    };
    let all: VecDeque<_> = unsent.into_iter().map(|stanza| (Load::Own, stanza)).chain(left).collect();
    if all.is_empty() {
        return;
    }
    if tools.registry.phase() == Phase::Stopped {
        drop(living);
        all.iter().for_each(|_| lost(tools, pair, Reason::Shutdown));
        return own.iter().for_each(|own| own.is_lost());
    }
    let known = living
        .get(&key)
        .map(|courier| Arc::clone(&courier.cargo))
        .or_else(|| way(&tools.peering.couriers, &key));
    let Some(cargo) = known else {
        let next = start(tools, &mut living, &key, None, (all, Brought::default()));
        return inherited(&next);
    };
    let full = all.into_iter().filter(|(load, stanza)| cargo.offer(*load, stanza.clone()).is_err()).count();
    inherited(&cargo);
    drop(living);
    for _ in 0..full {
        lost(tools, pair, Reason::QueueFull);
    }
}

fn take_out(couriers: &Couriers, pair: &Pair, id: RelayId) -> Option<Arc<Cargo>> {
    let mut back = held(&couriers.back);
    let ways = back.get_mut(pair)?;
    let at = ways.iter().position(|(own, _)| *own == id)?;
    let (_, cargo) = ways.remove(at)?;
    if ways.is_empty() {
        back.remove(pair);
    }
    Some(cargo)
}
