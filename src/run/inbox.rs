//! Orders for one relay, until it looks: a queue that holds no memory while nothing waits, as in nearly all of them.
//!
//! Whoever sends never waits: a full inbox is the sender's affair.
//!
//! **What it buys.** A channel of tokio's keeps about 1,300 octets for each relay, and to a client's nobody may ever send anything. It
//! went with other things that a login had left behind, and an idle session with all of them from 21.17 to 16.65 KiB: row `idle` of
//! `cargo bench --bench load`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

/// The end that is read. When it is gone, or was closed, nobody can send anything more.
#[derive(Debug)]
pub struct Inbox<T>(Arc<Shared<T>>);

/// The end that is written to.
#[derive(Debug)]
pub struct InboxSender<T>(Arc<Shared<T>>);

/// An order that did not get in.
#[derive(Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// There is no room.
    Full(T),
    /// Nobody will read it.
    Closed(T),
}

#[derive(Debug)]
struct Shared<T> {
    room: usize,
    state: Mutex<State<T>>,
    /// Told when nobody reads any more.
    change: Notify,
}

#[derive(Debug)]
struct State<T> {
    orders: VecDeque<T>,
    /// Who reads, and found nothing.
    reader: Option<Waker>,
    closed: bool,
}

/// An inbox with room for so many orders.
pub fn inbox<T>(room: usize) -> (InboxSender<T>, Inbox<T>) {
    let state = State { orders: VecDeque::new(), reader: None, closed: false };
    let shared = Arc::new(Shared { room, state: Mutex::new(state), change: Notify::new() });
    (InboxSender(Arc::clone(&shared)), Inbox(shared))
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.state().closed = true;
        self.change.notify_waiters();
    }

    /// The next order, whose place is free from now on.
    fn take(&self) -> Option<T> {
        let mut state = self.state();
        let order = state.orders.pop_front();
        if state.orders.is_empty() {
            state.orders = VecDeque::new();
        }
        order
    }

    /// Waits until the state is so.
    async fn until(&self, so: impl Fn(&State<T>) -> bool) {
        loop {
            let mut change = std::pin::pin!(self.change.notified());
            // Listens before it looks, or a change in between would be missed.
            change.as_mut().enable();
            if so(&self.state()) {
                return;
            }
            change.await;
        }
    }
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> InboxSender<T> {
    /// Leaves an order.
    ///
    /// # Errors
    /// The order itself, when it did not get in.
    pub fn send(&self, order: T) -> Result<(), SendError<T>> {
        let mut state = self.0.state();
        if state.closed {
            return Err(SendError::Closed(order));
        }
        if state.orders.len() >= self.0.room {
            return Err(SendError::Full(order));
        }
        state.orders.push_back(order);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.0.state().closed
    }

    /// Waits until nobody reads any more.
    pub async fn closed(&self) {
        self.0.until(|state| state.closed).await;
    }
}

impl<T> Inbox<T> {
    /// The next order.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.state();
        if !state.orders.is_empty() {
            drop(state);
            // Nobody else takes any.
            return self.take().map_or(Poll::Pending, Poll::Ready);
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Nobody tells anything from now on; what was told can still be taken.
    pub fn close(&mut self) {
        self.0.close();
    }

    /// An order that waits.
    pub fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.0.close();
        // What they hold is given back, however long tellers live.
        let left = std::mem::take(&mut self.0.state().orders);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_and_hears_all_in_order() {
        let (tx, mut inbox) = inbox(2);
        let reading = tokio::spawn(async move {
            let mut heard = Vec::new();
            while heard.len() < 2 {
                heard.push(std::future::poll_fn(|cx| inbox.poll_next(cx)).await);
            }
            heard
        });
        tokio::task::yield_now().await;
        tx.send(1).unwrap();
        tokio::task::yield_now().await;
        tx.send(2).unwrap();
        assert_eq!(reading.await.unwrap(), [1, 2]);
    }

    #[test]
    fn a_full_inbox_takes_no_more_and_an_empty_one_holds_nothing() {
        let (tx, mut inbox) = inbox(1);
        tx.send(1).unwrap();
        assert_eq!(tx.send(2), Err(SendError::Full(2)));
        assert_eq!(inbox.take(), Some(1));
        assert_eq!(inbox.0.state().orders.capacity(), 0);
        assert_eq!(tx.send(3), Ok(()));
    }

    #[tokio::test]
    async fn what_was_told_before_the_end_can_still_be_taken_and_the_end_is_noticed() {
        let (tx, mut inbox) = inbox(4);
        let other = tx.clone();
        let noticing = tokio::spawn(async move { other.closed().await });
        tokio::task::yield_now().await;
        tx.send(1).unwrap();
        assert!(!tx.is_closed());
        inbox.close();
        assert_eq!(tx.send(2), Err(SendError::Closed(2)));
        assert_eq!((inbox.take(), inbox.take()), (Some(1), None));
        noticing.await.unwrap();
        // Also for whoever asks later.
        tx.closed().await;
    }

    #[tokio::test]
    async fn what_nobody_read_is_given_back_when_the_reader_goes() {
        let (tx, inbox) = inbox(4);
        let held = Arc::new(());
        tx.send(Arc::clone(&held)).unwrap();
        drop(inbox);
        assert_eq!(Arc::strong_count(&held), 1);
        tx.closed().await;
        assert!(tx.is_closed());
    }
}
