//! Streams between servers that are set up at a time with one address, of those that are to carry stanzas: who waits for one to end.
//!
//! How many there may be is [`SetUpPace`]'s to say. What unproven peers cause (questions about their keys) neither waits here nor makes others
//! wait: it has turns of its own ([`crate::limit::Turns`]).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::oneshot;

use super::now;
use crate::limit::SetUpPace;

/// The addresses with which streams are being set up.
#[derive(Debug, Default)]
pub struct SetUps(Mutex<HashMap<IpAddr, Weak<Address>>>);

/// A stream that is being set up. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct SetUp {
    address: Arc<Address>,
    began: Instant,
    heard: bool,
}

/// One address.
#[derive(Debug)]
struct Address(Mutex<State>);

#[derive(Debug)]
struct State {
    pace: SetUpPace,
    waiting: VecDeque<oneshot::Sender<SetUp>>,
}

impl SetUps {
    /// Waits for a place at this address, but for a silent one not long.
    pub async fn enter(&self, address: IpAddr) -> SetUp {
        let address = self.address(address);
        let began = now();
        let mut granted = {
            let mut state = address.state();
            if state.pace.takes() {
                drop(state);
                return SetUp::new(address);
            }
            let (grant, granted) = oneshot::channel();
            state.waiting.push_back(grant);
            granted
        };
        loop {
            let until = address.state().pace.worth_waiting(began);
            match tokio::time::timeout_at(until.into(), &mut granted).await {
                Ok(Ok(place)) => return place,
                Ok(Err(_)) => break,
                Err(_late) if address.state().pace.worth_waiting(began) > now() => {}
                Err(_late) => break,
            }
        }
        granted.close();
        if let Ok(place) = granted.try_recv() {
            return place;
        }
        address.state().pace.takes_anyway();
        SetUp::new(address)
    }

    fn address(&self, address: IpAddr) -> Arc<Address> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&address).and_then(Weak::upgrade) {
            return known;
        }
        if known.len() == known.capacity() {
            known.retain(|_, address| address.strong_count() > 0);
        }
        let state = State { pace: SetUpPace::new(now()), waiting: VecDeque::new() };
        let new = Arc::new(Address(Mutex::new(state)));
        known.insert(address, Arc::downgrade(&new));
        new
    }
}

impl SetUp {
    fn new(address: Arc<Address>) -> Self {
        Self { address, began: now(), heard: false }
    }

    /// Something came from the address.
    pub fn hears(&mut self) {
        self.heard = true;
        self.address.state().pace.hears(now());
    }

    /// The stream stands.
    pub fn stands(mut self) {
        self.heard = true;
        self.address.state().pace.stood(now().saturating_duration_since(self.began));
    }
}

impl Drop for SetUp {
    fn drop(&mut self) {
        let mut granted = Vec::new();
        let mut state = self.address.state();
        state.pace.leaves(self.heard);
        while !state.waiting.is_empty() && state.pace.takes() {
            match state.waiting.pop_front().filter(|waiting| !waiting.is_closed()) {
                Some(waiting) => granted.push(waiting),
                None => state.pace.leaves(true),
            }
        }
        drop(state);
        for grant in granted {
            // Who has gone meanwhile gives it back by dropping it.
            let _gone = grant.send(Self::new(Arc::clone(&self.address)));
        }
    }
}

impl Address {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::limit::setups::{FIRST, SILENCE};

    const HOSTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    async fn full(set_ups: &SetUps) -> Vec<SetUp> {
        let mut held = Vec::new();
        for _ in 0..FIRST {
            held.push(set_ups.enter(HOSTER).await);
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_later_waits_for_one_to_end() {
        let set_ups = SetUps::default();
        let mut held = full(&set_ups).await;
        held[0].hears();
        let mut late = pin!(set_ups.enter(HOSTER));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(late.as_mut().poll(&mut cx).is_pending());
        // Another address has nothing to do with it.
        drop(set_ups.enter("192.0.2.8".parse().unwrap()).await);
        assert!(late.as_mut().poll(&mut cx).is_pending());
        held.remove(0).stands();
        assert!(matches!(late.as_mut().poll(&mut cx), Poll::Ready(_)));
    }

    // CLS-07: a server that is not there is known to be so as soon as ever.
    #[tokio::test(start_paused = true)]
    async fn a_silent_address_is_not_waited_for() {
        let set_ups = SetUps::default();
        let _held = full(&set_ups).await;
        let begun = now();
        let over = set_ups.enter(HOSTER).await;
        assert_eq!(now() - begun, SILENCE);
        // While it says something to anybody it is.
        let mut late = pin!(set_ups.enter(HOSTER));
        let mut talking = over;
        for _ in 0..20 {
            talking.hears();
            let waits = tokio::time::timeout(SILENCE / 2, late.as_mut()).await;
            assert!(waits.is_err());
        }
        assert!(tokio::time::timeout(SILENCE, late).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_no_longer_takes_no_place() {
        let set_ups = SetUps::default();
        let mut held = full(&set_ups).await;
        held[0].hears();
        {
            let mut gone = pin!(set_ups.enter(HOSTER));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(gone.as_mut().poll(&mut cx).is_pending());
            // Granted, and gone before it looks.
            drop(held.pop());
        }
        drop(held);
        assert!(set_ups.0.lock().unwrap().get(&HOSTER).unwrap().upgrade().is_none());
    }
}
