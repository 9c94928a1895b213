//! Asks authoritative servers about dialback keys, each in a task of its own; and gives their turns to look-ups of what domains publish.
//!
//! Whoever brings a key, or a certificate, has the question charged to his network, and waits his turn within his own time (LIM-06, and
//! [`crate::limit::Turns`]); no answer is kept once it is given. The answer is told, and its place free, when it is there: the
//! stream that brought it is closed behind it, and those are bounded apart. A question whose asker has gone is given up
//! (DB-06).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::inbox::InboxSender;
use super::pump::Pump;
use super::registry::{Learnt, Meta, Order, RelayId};
use super::{Later, Tools, now};
use crate::jid::Domain;
use crate::limit::{Network, SettledTurns, Turn, Turns};
use crate::metrics::Limit;
use crate::reason::{Cause, Detail, Facing, Reason};
use crate::relay::{ClaimId, Relay};
use crate::stream::dane::Dane;
use crate::stream::evidence::{Evidence, Posh, Sought};
use crate::stream::{KeyAnswer, KeyCheck};

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct VerifyRequest {
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
    pub tx: InboxSender<Order>,
}

/// Verifications and look-ups under way, and those that wait.
#[derive(Debug, Default)]
pub struct Verifier {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    turns: Turns,
    /// What each of those who wait or ask is told.
    told: HashMap<Turn, watch::Sender<Stage>>,
    /// When they are settled next without anybody's coming or going.
    alarm: Option<std::time::Instant>,
    /// Streams that close behind their answer.
    closing: usize,
}

/// How far a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Asking,
    /// It has had its turn, or there is no room for it to wait.
    Over,
}

/// Has the authoritative server asked; the answer comes as an order.
pub fn ask(tools: &Arc<Tools>, ask: VerifyRequest) {
    let tools = Arc::clone(tools);
    tokio::spawn(async move {
        let answer = tokio::select! {
            answer = answered(&tools, &ask) => answer,
            // DB-06: nobody waits for it any more.
            () = ask.tx.closed() => return,
        };
        let (answer, why) = answer;
        // A relay that has ended needs no answer; one whose inbox is full runs into T-dialback.
        let _unheard = ask.tx.send(Order::Verified(ask.claim, answer, why));
    });
}

async fn answered(tools: &Arc<Tools>, ask: &VerifyRequest) -> Learnt {
    let begun = now();
    // A backend may bring all its pairs at once; it is asked at its own address, and costs nobody else.
    if ask.facing == Facing::Backend {
        return verify(tools, ask, begun).await;
    }
    let about = ask.check.pair.sender.clone();
    let fruitful = |learnt: &Learnt| Some(learnt.0 == KeyAnswer::Valid);
    let learnt = in_turn(tools, ask.source, about, verify(tools, ask, begun), fruitful).await;
    learnt.unwrap_or((KeyAnswer::Trouble(Reason::Overload), None))
}

/// What a domain publishes about the certificate that it shows: looked up when there is a place for that, charged as a question about a
/// key is (LIM-06). Whose zone it is decides what that costs.
pub async fn inquired(
    tools: Arc<Tools>,
    source: Option<IpAddr>,
    (domain, sought): (Domain, Sought),
    looking: Later<Evidence>,
) -> Evidence {
    let fruitful = |found: &Evidence| match (found.dane, &found.posh) {
        (Dane::Proven(_), _) | (_, Posh::Proven) => Some(true),
        (Dane::Unknown(_), _) => Some(false),
        // That nothing is published is an answer.
        (Dane::Unasked | Dane::Unpublished | Dane::Failed | Dane::Unlisted, Posh::Unasked | Posh::Not(_)) => {
            None
        }
    };
    let found = in_turn(&tools, source, domain.clone(), looking, fruitful).await;
    found.unwrap_or_else(|| Evidence {
        dane: if sought.dane { Dane::Unknown(Cause::TimedOut) } else { Dane::Unasked },
        posh: match sought.posh {
            true => Posh::Not(Box::new(Detail::new(Cause::TimedOut, "no place among `verifications`"))),
            false => Posh::Unasked,
        },
        ..Evidence::none(domain)
    })
}

/// What comes of this once there is a place for it, charged to the network that has caused it; none: there was none in time, or it has
/// had its turn and others waited.
async fn in_turn<T>(
    tools: &Arc<Tools>,
    source: Option<IpAddr>,
    about: Domain,
    doing: impl Future<Output = T>,
    fruitful: impl FnOnce(&T) -> Option<bool>,
) -> Option<T> {
    let begun = now();
    // Who has no address has not come over the network.
    let source = Network::of(source.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let metrics = tools.observe.metrics();
    let mut place = Verifier::enter(tools, source, about.clone());
    // The rest of his time is too short to ask anybody.
    let patience = tools.relays.timeouts.dialback / 10 * 9;
    let settled = async { place.stage.wait_for(|stage| *stage != Stage::Waiting).await.map(|stage| *stage) };
    let asking = matches!(tokio::time::timeout(patience, settled).await, Ok(Ok(Stage::Asking)));
    let waited = now().saturating_duration_since(begun);
    if waited > Duration::ZERO {
        metrics.waited(Limit::Verifications, waited);
    }
    if waited > NOTABLE || !asking {
        metrics.limited(Limit::Verifications);
    }
    if !asking {
        tracing::debug!(%about, ?waited, "not asked: no place among `verifications`");
        return None;
    }
    let mut stage = place.stage.clone();
    let done = tokio::select! {
        done = doing => done,
        () = async { stage.wait_for(|stage| *stage == Stage::Over).await.map_or((), |_over| ()) } => {
            metrics.limited(Limit::Verifications);
            tracing::debug!(%about, "given up: others wait for a place among `verifications`");
            return None;
        }
    };
    if let Some(fruitful) = fruitful(&done) {
        tools.peering.verifier.held().turns.came_out(source, fruitful, now());
    }
    Some(done)
}

/// Asks, and leaves the closing of the stream to a task of its own.
async fn verify(tools: &Arc<Tools>, ask: &VerifyRequest, since: Instant) -> Learnt {
    let entry = tools.registry.enter();
    let (relays, policy) = (Arc::clone(&tools.relays), tools.registry.policy());
    let made = Relay::verifier(relays, policy, ask.facing, ask.check.clone(), since);
    let meta = Meta { id: entry.0.id(), flow: made.0.flow(), peer: None, local: None };
    let (tx, heard) = oneshot::channel();
    let running = Pump::sent(Arc::clone(tools), made, entry, meta, None).answering(tx).run();
    // The relay keeps its own deadline; this one is for a relay that never ends.
    let limit = tools.relays.timeouts.dialback * 2;
    let task = Task(tokio::spawn(async move {
        let _left = tokio::time::timeout(limit, running).await;
    }));
    // Without a word it has ended by itself, or is late.
    let learnt = heard.await.unwrap_or((KeyAnswer::Trouble(Reason::RemoteFailed), None));
    task.close(tools);
    learnt
}

/// A stream to an authoritative server; dropped, it is cut.
struct Task(JoinHandle<()>);

impl Task {
    /// It closes in all ceremony, if not too many do.
    fn close(mut self, tools: &Arc<Tools>) {
        if self.0.is_finished() {
            return;
        }
        {
            let mut state = tools.peering.verifier.held();
            if state.closing >= tools.params.verifications.places {
                return;
            }
            state.closing += 1;
        }
        let tools = Arc::clone(tools);
        tokio::spawn(async move {
            let _ended = (&mut self.0).await;
            let mut state = tools.peering.verifier.held();
            state.closing = state.closing.saturating_sub(1);
        });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A place among those who ask or wait to ask.
struct Place {
    tools: Arc<Tools>,
    turn: Turn,
    stage: watch::Receiver<Stage>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.tools.peering.verifier.held();
        state.told.remove(&self.turn);
        state.turns.leave(self.turn);
        state.settle(&self.tools);
    }
}

impl Verifier {
    fn enter(tools: &Arc<Tools>, source: Network, about: Domain) -> Place {
        let mut state = tools.peering.verifier.held();
        let (turn, gone) = state.turns.enter(source, about, &tools.params.verifications, now());
        let (tx, stage) = watch::channel(Stage::Waiting);
        state.told.insert(turn, tx);
        state.notify(gone, Stage::Over);
        state.settle(tools);
        drop(state);
        Place { tools: Arc::clone(tools), turn, stage }
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the places that can be given, and comes back when there will be more.
    fn settle(&mut self, tools: &Arc<Tools>) {
        let now = now();
        let SettledTurns { granted, ended, again } = self.turns.settle(&tools.params.verifications, now);
        self.notify(ended, Stage::Over);
        self.notify(granted, Stage::Asking);
        let Some(again) = again else { return };
        if self.alarm.is_some_and(|alarm| alarm > now && alarm <= again) {
            return;
        }
        self.alarm = Some(again);
        let tools = Arc::clone(tools);
        tokio::spawn(async move {
            tokio::time::sleep_until(again.into()).await;
            let mut state = tools.peering.verifier.held();
            if state.alarm == Some(again) {
                state.alarm = None;
                state.settle(&tools);
            }
        });
    }

    fn notify(&mut self, turns: impl IntoIterator<Item = Turn>, stage: Stage) {
        for turn in turns {
            if let Some(tx) = self.told.get(&turn) {
                tx.send_replace(stage);
            }
        }
    }
}

/// A wait that is worth a count: less is a task's own pace.
const NOTABLE: Duration = Duration::from_millis(10);

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
