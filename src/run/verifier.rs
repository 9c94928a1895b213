//! Asks authoritative servers about dialback keys, each in a task of its own.
//!
//! Identical questions are asked once. What one stream, one source address or one sender domain may have under way is
//! capped (L-pending, LIM-06), and so is what comes from one part of the Internet; no answer is kept once it is given. A
//! question whose askers have all gone is given up (DB-06).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::inbox::Teller;
use super::pump::Pump;
use super::registry::{Meta, Order, RelayId};
use super::{Tools, now};
use crate::jid::Domain;
use crate::limit::Network;
use crate::metrics::Limit;
use crate::reason::{Facing, Reason};
use crate::relay::{ClaimId, Relay};
use crate::stream::{Answer, KeyCheck};

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// The realm: the network that the claim came from.
    pub facing: Facing,
    /// Who asks.
    pub relay: RelayId,
    /// The address that the claim came from.
    pub source: Option<IpAddr>,
    /// The claim.
    pub claim: ClaimId,
    /// The key.
    pub check: KeyCheck,
    /// Where the answer goes.
    pub tell: Teller<Order>,
}

impl Ask {
    fn answer(self, answer: Answer) {
        // A relay that has ended needs no answer; one whose inbox is full runs into T-dialback.
        let _unheard = self.tell.tell(Order::Verified(self.claim, answer));
    }

    fn network(&self) -> Option<Network> {
        self.source.map(Network::of)
    }
}

/// Verifications under way.
#[derive(Debug, Default)]
pub struct Verifier {
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    questions: HashMap<(Facing, KeyCheck), Vec<Ask>>,
    streams: HashMap<RelayId, usize>,
    sources: HashMap<Network, usize>,
    /// The networks around those.
    regions: HashMap<Network, usize>,
    senders: HashMap<Domain, usize>,
}

/// Has the authoritative server asked; the answer comes as an order.
pub fn ask(tools: &Arc<Tools>, ask: Ask) {
    match tools.verifier.enter(tools, ask) {
        Entry::Merged => {}
        Entry::New(facing, check) => {
            let tools = Arc::clone(tools);
            tokio::spawn(async move {
                tokio::select! {
                    answer = verify(&tools, facing, check.clone()) => {
                        for ask in tools.verifier.leave(facing, &check) {
                            ask.answer(answer);
                        }
                    }
                    () = tools.verifier.abandoned(facing, &check) => {}
                }
            });
        }
        Entry::Over(ask) => {
            tools.observe.metrics().limited(Limit::Verifications);
            ask.answer(Answer::Trouble(Reason::Overload));
        }
    }
}

async fn verify(tools: &Arc<Tools>, facing: Facing, check: KeyCheck) -> Answer {
    let entry = tools.registry.enter();
    let made = Relay::verifier(Arc::clone(&tools.home), tools.registry.policy(), facing, check, now());
    let meta = Meta { id: entry.0.id(), flow: made.0.flow(), peer: None, local: None };
    let running = Pump::sent(Arc::clone(tools), made, entry, meta).run();
    // The relay keeps its own deadline; this one is for a relay that never ends.
    match tokio::time::timeout(tools.home.timeouts.dialback * 2, running).await {
        Ok(left) => left.answer.unwrap_or(Answer::Trouble(Reason::RemoteFailed)),
        Err(_late) => Answer::Trouble(Reason::DialbackTimeout),
    }
}

enum Entry {
    Merged,
    New(Facing, KeyCheck),
    Over(Ask),
}

impl Verifier {
    fn enter(&self, tools: &Tools, ask: Ask) -> Entry {
        let mut pending = self.held();
        // One party with many networks must not keep all others out.
        let share = (tools.params.verifications / SHARES).max(tools.params.pending_per_source);
        let over = match ask.facing {
            Facing::Public => {
                pending.questions.len() >= tools.params.verifications
                    || full(&pending.streams, &ask.relay, tools.home.limits.pending)
                    || ask
                        .network()
                        .is_some_and(|n| full(&pending.sources, &n, tools.params.pending_per_source))
                    || ask.network().is_some_and(|n| full(&pending.regions, &n.around(), share))
                    || full(&pending.senders, &ask.check.pair.sender, tools.params.pending_per_sender)
            }
            // A backend may bring all its pairs at once; it is asked at its own address, and costs nobody else.
            Facing::Backend => full(&pending.streams, &ask.relay, tools.home.limits.pairs),
        };
        if over {
            return Entry::Over(ask);
        }
        *pending.streams.entry(ask.relay).or_default() += 1;
        if let Some(network) = ask.network() {
            *pending.sources.entry(network).or_default() += 1;
            *pending.regions.entry(network.around()).or_default() += 1;
        }
        *pending.senders.entry(ask.check.pair.sender.clone()).or_default() += 1;
        let question = (ask.facing, ask.check.clone());
        match pending.questions.get_mut(&question) {
            Some(asks) => {
                asks.push(ask);
                Entry::Merged
            }
            None => {
                pending.questions.insert(question.clone(), vec![ask]);
                Entry::New(question.0, question.1)
            }
        }
    }

    /// DB-06: waits until nobody who asks this is there any more; then the question has left.
    async fn abandoned(&self, facing: Facing, check: &KeyCheck) {
        loop {
            let waiting = {
                let mut pending = self.held();
                let asks = pending.questions.get(&(facing, check.clone()));
                let Some(ask) = asks.and_then(|asks| asks.iter().find(|ask| !ask.tell.is_closed())) else {
                    Self::remove(&mut pending, facing, check);
                    return;
                };
                ask.tell.clone()
            };
            waiting.closed().await;
        }
    }

    fn leave(&self, facing: Facing, check: &KeyCheck) -> Vec<Ask> {
        Self::remove(&mut self.held(), facing, check)
    }

    fn remove(pending: &mut Pending, facing: Facing, check: &KeyCheck) -> Vec<Ask> {
        let asks = pending.questions.remove(&(facing, check.clone())).unwrap_or_default();
        for ask in &asks {
            less(&mut pending.streams, &ask.relay);
            if let Some(network) = ask.network() {
                less(&mut pending.sources, &network);
                less(&mut pending.regions, &network.around());
            }
            less(&mut pending.senders, &ask.check.pair.sender);
        }
        asks
    }

    fn held(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn full<K: Hash + Eq>(counts: &HashMap<K, usize>, key: &K, most: usize) -> bool {
    counts.get(key).is_some_and(|n| *n >= most)
}

fn less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(n) = counts.get_mut(key) {
        *n -= 1;
        if *n == 0 {
            counts.remove(key);
        }
    }
}

/// How much of all verifications the networks around one address may have: one of so many parts.
const SHARES: usize = 4;

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
