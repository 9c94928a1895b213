//! What waits for one courier: stanzas that relays hand over, in order, bounded by their octets.
//!
//! A stanza counts from when it is handed over until the courier has it on its way, or on its way back. Relays find the
//! cargo of a pair once and hand over without another look; the courier takes many at a time.

mod brought;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

pub use self::brought::Brought;
use super::Caller;
use super::inbox::InboxSender;
use super::registry::Order;
use crate::relay::Load;
use crate::relay::plan::StreamLimits;

/// Octets that backends have waiting, of all pairs together (L-inside-queue).
#[derive(Debug)]
pub struct Hold {
    octets: AtomicUsize,
    most: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

impl Hold {
    /// Nothing waits; there is room for so many octets.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            octets: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            waiting: Mutex::default(),
        })
    }

    /// There is room for so many octets from now on.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Release);
    }

    fn fits(&self, octets: usize) -> bool {
        self.octets.load(Ordering::Acquire).saturating_add(octets) <= self.most.load(Ordering::Acquire)
    }

    fn take(&self, octets: usize) -> bool {
        let most = self.most.load(Ordering::Acquire);
        let room = |held: usize| held.checked_add(octets).filter(|held| *held <= most);
        self.octets.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_ok()
    }

    fn give_back(&self, octets: usize) {
        if octets > 0 {
            self.octets.fetch_sub(octets, Ordering::AcqRel);
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).for_each(Waker::wake);
        }
    }
}

/// What waits for one courier.
#[derive(Debug)]
pub struct Cargo {
    hold: Arc<Hold>,
    limits: [(usize, usize); 2],
    /// The courier; none where a stream of a peer takes it.
    courier: Option<InboxSender<Order>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Load, Bytes)>,
    waiting_octets: usize,
    /// Octets that wait here or with the courier.
    octets: usize,
    /// Stanzas that were handed over and are not settled.
    stanzas: usize,
    /// Stanzas that were handed over in all.
    given: u64,
    /// What of `octets` is counted in the hold.
    held: usize,
    courier: Option<Waker>,
    givers: Vec<Waker>,
    closed: bool,
    /// It was closed with something left, which goes on elsewhere or is about to.
    rest: Option<Rest>,
    gave_up: bool,
    /// Whose it is, of what remote servers have sent.
    brought: Brought,
}

impl State {
    /// How much of what was handed over is settled here.
    fn settled(&self) -> u64 {
        match &self.rest {
            Some(rest) => rest.settled,
            None if self.closed => self.given,
            None => self.given.saturating_sub(self.stanzas as u64),
        }
    }

    /// Where so many of them are settled elsewhere, and how many there are then.
    fn elsewhere(&self, given: u64) -> Option<(Arc<Cargo>, u64)> {
        let rest = self.rest.as_ref()?;
        let heir = rest.heir.as_ref()?;
        let behind = given.saturating_sub(rest.settled);
        Some((Arc::clone(&heir.cargo), heir.from.saturating_add(behind).min(heir.most)))
    }
}

/// What a cargo had when it was closed: whoever waits for it waits on (SM-01, RLY-05).
#[derive(Debug)]
struct Rest {
    /// How many were settled of those handed over.
    settled: u64,
    heir: Option<Heir>,
}

/// The cargo that has the rest now.
#[derive(Debug)]
struct Heir {
    cargo: Arc<Cargo>,
    /// It was given so many before.
    from: u64,
    /// And so many with all of them.
    most: u64,
}

/// A stanza was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The courier has ended.
    Closed(Bytes),
    /// There is no room.
    Full(Bytes),
}

impl Cargo {
    /// Nothing waits for a stream of a peer that takes it.
    pub fn new(hold: Arc<Hold>, limits: &StreamLimits) -> Arc<Self> {
        Arc::new(Self::made(hold, limits, None))
    }

    /// Nothing waits for this courier, which stands in for those.
    pub fn of(
        hold: Arc<Hold>,
        limits: &StreamLimits,
        courier: InboxSender<Order>,
        brought: Brought,
    ) -> Arc<Self> {
        let mut cargo = Self::made(hold, limits, Some(courier));
        cargo.state.get_mut().unwrap_or_else(PoisonError::into_inner).brought = brought;
        Arc::new(cargo)
    }

    fn made(hold: Arc<Hold>, limits: &StreamLimits, courier: Option<InboxSender<Order>>) -> Self {
        let limits = [(limits.queue_stanzas, limits.queue_octets), (usize::MAX, limits.inside_queue)];
        Self { hold, limits, courier, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// L-queue for what others in the world can cause, L-inside-queue for what is a backend's. One stanza always has room.
    fn has_room(&self, state: &State, load: Load, octets: usize) -> bool {
        let [carried, inside] = self.limits;
        let (stanzas, most) = if load.is_of_the_world() { carried } else { inside };
        state.stanzas == 0 || state.stanzas < stanzas && state.octets.saturating_add(octets) <= most
    }

    /// What is handed over next is that one's.
    pub fn brings(&self, caller: &Arc<Caller>) {
        let mut state = self.state();
        if state.stanzas == 0 {
            state.brought.forget();
        }
        state.brought.add(caller);
    }

    /// Whose it is, as far as that is known.
    pub fn brought(&self) -> Brought {
        self.state().brought.clone()
    }

    /// Whether something that may have come from such an address is not settled.
    pub fn is_from(&self, such: impl FnMut(IpAddr) -> bool) -> bool {
        let state = self.state();
        state.stanzas > 0 && state.brought.is_from(such)
    }

    /// Has the courier send back what it has not delivered. Whether it could be told.
    pub fn take_back(&self) -> bool {
        if let Some((heir, _)) = self.state().elsewhere(u64::MAX) {
            return heir.take_back();
        }
        self.courier.as_ref().is_some_and(|tx| tx.send(Order::Overtaken).is_ok())
    }

    /// Hands a stanza over.
    ///
    /// # Errors
    /// The stanza itself, when it was not taken.
    pub fn offer(&self, load: Load, stanza: Bytes) -> Result<(), NotTaken> {
        let mut state = self.state();
        if state.closed {
            return Err(NotTaken::Closed(stanza));
        }
        let octets = stanza.len();
        let counted = !load.is_of_the_world();
        if !self.has_room(&state, load, octets) || counted && !self.hold.take(octets) {
            return Err(NotTaken::Full(stanza));
        }
        state.octets += octets;
        state.stanzas += 1;
        state.given += 1;
        state.held += if counted { octets } else { 0 };
        state.waiting_octets += octets;
        state.waiting.push_back((load, stanza));
        let courier = state.courier.take();
        drop(state);
        if let Some(courier) = courier {
            courier.wake();
        }
        Ok(())
    }

    /// Stanzas that were handed over in all.
    pub fn given(&self) -> u64 {
        self.state().given
    }

    /// Whether so many of them are settled: on their way beyond the courier, or on their way back.
    pub fn has_settled(&self, given: u64) -> bool {
        let state = self.state();
        if state.settled() >= given {
            return true;
        }
        let elsewhere = state.elsewhere(given);
        drop(state);
        elsewhere.is_some_and(|(heir, given)| heir.has_settled(given))
    }

    /// The same, and who asks is woken when more are.
    pub fn poll_settled(&self, given: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.settled() >= given {
            return Poll::Ready(());
        }
        if let Some((heir, given)) = state.elsewhere(given) {
            drop(state);
            return heir.poll_settled(given, cx);
        }
        if !state.givers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.givers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until there may be room, or the courier has ended.
    pub async fn room(self: Arc<Self>, load: Load, octets: usize) {
        std::future::poll_fn(|cx| self.poll_room(load, octets, cx)).await;
    }

    fn poll_room(&self, load: Load, octets: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        let room = self.has_room(&state, load, octets);
        if state.closed || room && self.hold.fits(octets) {
            return Poll::Ready(());
        }
        state.givers.push(cx.waker().clone());
        drop(state);
        if room {
            let mut waiting = self.hold.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(cx.waker().clone());
            // Some may have been given back just before.
            if self.hold.fits(octets) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// What waits, for the courier; so many stanzas at most.
    pub fn take(&self, most: usize, cx: &mut Context<'_>) -> Vec<(Load, Bytes)> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.courier = Some(cx.waker().clone());
            return Vec::new();
        }
        let some = state.waiting.len().min(most);
        let taken: Vec<(Load, Bytes)> = state.waiting.drain(..some).collect();
        state.waiting_octets -= taken.iter().map(|(_, stanza)| stanza.len()).sum::<usize>();
        if state.waiting.is_empty() && state.waiting.capacity() > FEW {
            state.waiting = VecDeque::new();
        }
        taken
    }

    /// The courier has so many octets and stanzas of what it took on its hands; the rest is on its way.
    pub fn settle(&self, octets: usize, stanzas: usize, gave_up: bool) {
        let mut state = self.state();
        let left = (state.waiting_octets + octets).min(state.octets);
        state.gave_up |= gave_up;
        state.stanzas = (state.waiting.len() + stanzas).min(state.stanzas);
        if left == state.octets {
            return;
        }
        state.octets = left;
        let freed = state.held.saturating_sub(left);
        state.held -= freed;
        let givers = std::mem::take(&mut state.givers);
        drop(state);
        self.hold.give_back(freed);
        givers.into_iter().for_each(Waker::wake);
    }

    /// Whether the courier could not deliver what it held.
    pub fn has_given_up(&self) -> bool {
        self.state().gave_up
    }

    /// Nothing is taken any more; what nobody took. Until that is [inherited](Cargo::inherited) or [lost](Cargo::is_lost) it is not settled.
    pub fn close(&self) -> VecDeque<(Load, Bytes)> {
        let mut state = self.state();
        state.closed = true;
        let waiting = state.waiting.len() as u64;
        if waiting > 0 {
            state.rest = Some(Rest { settled: state.given.saturating_sub(waiting), heir: None });
        }
        let (freed, left) = (std::mem::take(&mut state.held), std::mem::take(&mut state.waiting));
        (state.octets, state.waiting_octets) = (0, 0);
        let givers = std::mem::take(&mut state.givers);
        drop(state);
        self.hold.give_back(freed);
        givers.into_iter().for_each(Waker::wake);
        left
    }

    /// What was left when it was closed goes on there, which was given so many before, and has all of it now.
    pub fn inherited(&self, cargo: Arc<Cargo>, from: u64) {
        let most = cargo.given();
        let mut state = self.state();
        let Some(rest) = &mut state.rest else { return };
        rest.heir = Some(Heir { cargo, from, most });
        let givers = std::mem::take(&mut state.givers);
        drop(state);
        // They wait there from now on.
        givers.into_iter().for_each(Waker::wake);
    }

    /// What was left when it was closed goes nowhere, and was told as that.
    pub fn is_lost(&self) {
        let mut state = self.state();
        state.rest = None;
        let givers = std::mem::take(&mut state.givers);
        drop(state);
        givers.into_iter().for_each(Waker::wake);
    }
}

/// An empty cargo keeps room for as many stanzas.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn cargo(most: usize, inside: usize) -> (Arc<Hold>, Arc<Cargo>) {
        let hold = Hold::new(most);
        let limits =
            StreamLimits { inside_queue: inside, queue_stanzas: 2, queue_octets: 100, ..Default::default() };
        (Arc::clone(&hold), Cargo::new(hold, &limits))
    }

    fn stanza(octets: usize) -> Bytes {
        vec![b'x'; octets].into()
    }

    fn taken(cargo: &Cargo) -> usize {
        cargo.take(100, &mut Context::from_waker(Waker::noop())).len()
    }

    #[test]
    fn what_is_a_backends_is_bounded_by_octets_and_not_by_number() {
        let (_, cargo) = cargo(10_000, 1000);
        for _ in 0..100 {
            cargo.offer(Load::Own, stanza(10)).unwrap();
        }
        assert!(matches!(cargo.offer(Load::Own, stanza(1)), Err(NotTaken::Full(_))));
        assert_eq!(taken(&cargo), 100);
        assert!(cargo.offer(Load::Own, stanza(1)).is_err(), "the courier still has them");
        cargo.settle(500, 50, false);
        assert!(cargo.offer(Load::Own, stanza(500)).is_ok());
    }

    #[test]
    fn what_others_can_cause_is_bounded_by_number_too() {
        let (_, cargo) = cargo(10_000, 1000);
        cargo.offer(Load::Carried, stanza(1)).unwrap();
        cargo.offer(Load::Carried, stanza(1)).unwrap();
        assert!(matches!(cargo.offer(Load::Carried, stanza(1)), Err(NotTaken::Full(_))));
    }

    // SM-01: a stanza is settled when all before it are.
    #[test]
    fn whoever_waits_for_what_it_handed_over_is_woken_when_that_is_on_its_way() {
        let (_, cargo) = cargo(10_000, 1000);
        let mut cx = Context::from_waker(Waker::noop());
        cargo.offer(Load::Own, stanza(10)).unwrap();
        let first = cargo.given();
        cargo.offer(Load::Own, stanza(10)).unwrap();
        assert!(cargo.poll_settled(first, &mut cx).is_pending());
        assert_eq!(taken(&cargo), 2);
        assert!(!cargo.has_settled(first), "the courier has both");
        cargo.settle(10, 1, false);
        assert!(cargo.poll_settled(first, &mut cx).is_ready() && !cargo.has_settled(cargo.given()));
        cargo.settle(0, 0, false);
        assert!(cargo.has_settled(cargo.given()));
    }

    // SM-01, RLY-05: what a courier leaves when it ends is not delivered yet.
    #[test]
    fn whoever_waits_for_what_is_left_waits_where_that_goes_on() {
        let (hold, first) = cargo(10_000, 1000);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            first.offer(Load::Own, stanza(10)).unwrap();
        }
        assert_eq!(first.take(1, &mut cx).len(), 1);
        first.settle(0, 0, false);
        let left = first.close();
        assert!(left.len() == 2 && first.has_settled(1) && !first.has_settled(2), "one of three is out");
        assert!(first.poll_settled(2, &mut cx).is_pending(), "nobody has them yet");
        let second = Cargo::new(Arc::clone(&hold), &StreamLimits::default());
        second.offer(Load::Own, stanza(10)).unwrap();
        let before = second.given();
        left.into_iter().for_each(|(load, stanza)| second.offer(load, stanza).unwrap());
        first.inherited(Arc::clone(&second), before);
        second.offer(Load::Own, stanza(10)).unwrap();
        assert!(!first.has_settled(2) && first.poll_settled(3, &mut cx).is_pending());
        assert_eq!(second.take(2, &mut cx).len(), 2);
        second.settle(0, 0, false);
        assert!(first.has_settled(2) && !first.has_settled(3));
        // Once more, and there they are told as lost.
        let left = second.close();
        let third = Cargo::new(hold, &StreamLimits::default());
        left.into_iter().for_each(|(load, stanza)| third.offer(load, stanza).unwrap());
        second.inherited(Arc::clone(&third), 0);
        assert!(first.poll_settled(3, &mut cx).is_pending() && !second.has_settled(4));
        assert_eq!(third.close().len(), 2);
        assert!(!first.has_settled(3));
        third.is_lost();
        assert!(first.poll_settled(3, &mut cx).is_ready() && second.has_settled(4));
    }

    #[test]
    fn all_together_have_a_ceiling_and_whoever_waits_hears_when_there_is_room() {
        let (hold, one) = cargo(100, 1000);
        let limits = StreamLimits::default();
        let other = Cargo::new(Arc::clone(&hold), &limits);
        one.offer(Load::Own, stanza(100)).unwrap();
        assert!(matches!(other.offer(Load::Report, stanza(1)), Err(NotTaken::Full(_))));
        let mut wait = std::pin::pin!(Arc::clone(&other).room(Load::Report, 1));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        assert_eq!(taken(&one), 1);
        one.settle(0, 0, false);
        assert!(wait.as_mut().poll(&mut cx).is_ready());
        assert_eq!(hold.octets.load(Ordering::Relaxed), 0);
        other.offer(Load::Report, stanza(50)).unwrap();
        assert_eq!(other.close().len(), 1);
        assert_eq!(hold.octets.load(Ordering::Relaxed), 0);
        assert!(matches!(other.offer(Load::Own, stanza(1)), Err(NotTaken::Closed(_))));
    }
}
