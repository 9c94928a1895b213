//! Streams of ours to the servers behind: how many each has at one time, and whose turn it is.
//!
//! Every stream to a server behind that carries stanzas has a seat there ([`crate::limit::Rota`]), from before it is dialled until
//! its connection has ended. Who finds none waits, for half of what its claim may take, and hears then that there was none. A
//! stream whose seat others should have is told so by an order, closes in good order, and is opened anew at its pair's next
//! stanza ([`super::courier`]). A question about a key is none of these: it carries nothing, and servers behind ask for it
//! themselves.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::inbox::InboxSender;
use super::registry::Order;
use super::{Later, now};
use crate::jid::Domain;
use crate::limit::{LastUsed, Rota, RotaParams, Seat, Seated};
use crate::metrics::{Limit, Metrics};
use crate::reason::Reason;
use crate::relay::FarId;
use crate::stream::Pair;

/// The servers behind, by the domains they serve.
#[derive(Debug, Default)]
pub struct Backends(BTreeMap<Domain, Arc<Backend>>);

/// One server behind.
#[derive(Debug)]
pub struct Backend {
    /// The domain that it goes by.
    name: Domain,
    began: Instant,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    params: RotaParams,
    rota: Rota<Pair>,
    holders: HashMap<Seat, SeatHolder>,
    /// When it is settled next without anybody's coming or going.
    alarm: Option<Instant>,
}

/// Whom a seat belongs to.
#[derive(Debug)]
struct SeatHolder {
    /// Waits for it.
    granted: Option<oneshot::Sender<()>>,
    /// Is asked to give way.
    holder: (InboxSender<Order>, FarId),
}

/// How many streams each server takes, by all domains it serves, of which the first has most to say.
pub type Servers = BTreeMap<Domain, (Domain, usize)>;

impl Backends {
    /// These servers, each by its domains: the name it is known by, and how many streams it takes. What is open to those that
    /// were known `before` stays counted.
    pub fn new(servers: &Servers, before: &Self, metrics: &Arc<Metrics>) -> Self {
        let mut known: HashMap<&Domain, Arc<Backend>> = HashMap::new();
        let all = servers.iter().map(|(domain, (name, most))| {
            let backend = known.entry(name).or_insert_with(|| {
                let same = servers.iter().filter(|(_, (other, _))| other == name).map(|(domain, _)| domain);
                let old = same.filter_map(|domain| before.0.get(domain)).next();
                old.map_or_else(|| Arc::new(Backend::new(name.clone(), Arc::clone(metrics))), Arc::clone)
            });
            backend.resize(*most);
            (domain.clone(), Arc::clone(backend))
        });
        Self(all.collect())
    }

    /// The server of this domain.
    pub fn of(&self, hosted: &Domain) -> Option<&Arc<Backend>> {
        self.0.get(hosted)
    }
}

impl Backend {
    fn new(name: Domain, metrics: Arc<Metrics>) -> Self {
        let params = RotaParams::default();
        let state = State { params, rota: Rota::default(), holders: HashMap::new(), alarm: None };
        Self { name, began: now(), metrics, state: Mutex::new(state) }
    }

    /// It takes so many streams from now on.
    fn resize(self: &Arc<Self>, most: usize) {
        let mut state = self.held();
        let before = std::mem::replace(&mut state.params.most, most);
        if before != most {
            self.settle(&mut state);
        }
    }

    /// Asks for a seat for this pair, whose sender is not of this server; the holder is told when it should give way. The wait ends
    /// with the reason when there was none for so long.
    pub fn enter(
        self: &Arc<Self>,
        pair: Pair,
        holder: (InboxSender<Order>, FarId),
        patience: Duration,
    ) -> (BackendSlot, Later<Result<(), Reason>>) {
        let (tx, granted) = oneshot::channel();
        let mut state = self.held();
        let seat = state.rota.enter(&pair.sender.clone(), pair);
        state.holders.insert(seat, SeatHolder { granted: Some(tx), holder });
        self.settle(&mut state);
        drop(state);
        let begun = now();
        let backend = Arc::clone(self);
        let wait = async move {
            let granted = matches!(tokio::time::timeout(patience, granted).await, Ok(Ok(())));
            let waited = now().saturating_duration_since(begun);
            if waited > NOTABLE || !granted {
                backend.metrics.limited(Limit::Backend);
                backend.metrics.waited(Limit::Backend, waited);
            }
            match granted {
                true => Ok(()),
                // Where seats are free it is those being set up that hang.
                false if backend.has_room() => Err(Reason::BackendSilent),
                false => Err(Reason::TooManyToBackend),
            }
        };
        (BackendSlot { backend: Arc::clone(self), seat, used: None }, Box::pin(wait))
    }

    fn has_room(&self) -> bool {
        let state = self.held();
        state.rota.held() < state.params.most
    }

    /// Streams that are open or being opened, and those that wait to be.
    pub fn streams(&self) -> (usize, usize) {
        let state = self.held();
        (state.rota.held(), state.rota.waiting())
    }

    /// Gives and asks for the seats that can be given or asked for, and comes back when there will be more.
    fn settle(self: &Arc<Self>, state: &mut State) {
        let now = now();
        let Seated { granted, asked, mut again } = state.rota.settle(&state.params, now);
        self.metrics.backend_streams(&self.name, state.rota.held(), state.rota.waiting());
        for seat in granted {
            let tx = state.holders.get_mut(&seat).and_then(|holder| holder.granted.take());
            // Whoever does not wait any more leaves with his place.
            let _gone = tx.map(|tx| tx.send(()));
        }
        for seat in asked {
            let Some(holder) = state.holders.get(&seat) else { continue };
            let (tx, far) = &holder.holder;
            // One that has ended leaves; one with a full inbox is at work.
            if tx.send(Order::GiveWay(*far)).is_err() && !tx.is_closed() {
                state.rota.stays(seat, now);
                again = again.into_iter().chain([now + state.params.stay]).min();
            }
        }
        let Some(again) = again else { return };
        if state.alarm.is_some_and(|alarm| alarm > now && alarm <= again) {
            return;
        }
        state.alarm = Some(again);
        let backend = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(again.into()).await;
            if let Some(backend) = backend.upgrade() {
                backend.settle(&mut backend.held());
            }
        });
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A seat at a server behind, or a place among those who wait for one.
#[derive(Debug)]
pub struct BackendSlot {
    backend: Arc<Backend>,
    seat: Seat,
    /// Once the stream stands.
    used: Option<LastUsed>,
}

impl BackendSlot {
    /// The stream stands: others may have the seat when their turn comes.
    pub fn stands(&mut self, now: Instant) {
        let mut state = self.backend.held();
        state.rota.stands(self.seat, now);
        self.used = state.rota.used(self.seat);
        self.backend.settle(&mut state);
        drop(state);
        self.used(now);
    }

    /// Something is written on the stream.
    pub fn used(&self, now: Instant) {
        if let Some(used) = &self.used {
            let since = now.saturating_duration_since(self.backend.began);
            used.at(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for BackendSlot {
    fn drop(&mut self) {
        let mut state = self.backend.held();
        state.holders.remove(&self.seat);
        state.rota.leave(self.seat);
        self.backend.settle(&mut state);
    }
}

/// A shorter wait is none.
const NOTABLE: Duration = Duration::from_millis(10);
