//! Places at a door of the operator: whoever says nothing keeps nobody else out.
//!
//! A door takes every caller. Where all its places are taken, one of those goes who have asked for nothing yet, or else of those
//! who have been answered: whoever has been silent the longest. One whose request is being answered never does. What a caller is asked, and how long it may be silent at all, is the door's affair.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::{AbortHandle, JoinSet};

/// The callers at one door.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    turn: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    taken: Vec<(Caller, AbortHandle)>,
}

/// One caller, as its task tells of it.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    turn: Arc<AtomicU64>,
    /// Whose turn it was when it came, or, above [`ANSWERED`], when it was last answered; [`BUSY`] while it is.
    heard: Arc<AtomicU64>,
}

impl Places {
    /// So many at one time.
    pub(super) fn new(most: usize) -> Self {
        Self { most, turn: Arc::default(), tasks: JoinSet::new(), taken: Vec::new() }
    }

    /// Gives a place to one more; waits only while every caller is being answered.
    pub(super) async fn seat<T>(&mut self, task: impl FnOnce(Caller) -> T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        self.taken.retain(|(_, task)| !task.is_finished());
        while self.taken.len() >= self.most {
            let silent = self.taken.iter().enumerate().map(|(at, (caller, _))| (caller.heard(), at)).min();
            match silent.filter(|(heard, _)| *heard != BUSY) {
                Some((_, at)) => self.taken.swap_remove(at).1.abort(),
                None => {
                    let _ended = self.tasks.join_next().await;
                    self.taken.retain(|(_, task)| !task.is_finished());
                }
            }
        }
        let came = self.turn.fetch_add(1, Ordering::Relaxed);
        let caller = Caller { turn: Arc::clone(&self.turn), heard: Arc::new(came.into()) };
        let task = self.tasks.spawn(task(caller.clone()));
        self.taken.push((caller, task));
    }

    /// Waits for the end of all who have a place.
    pub(super) async fn emptied(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Callers who have a place.
    #[cfg(test)]
    fn taken(&mut self) -> usize {
        self.taken.retain(|(_, task)| !task.is_finished());
        self.taken.len()
    }
}

impl Caller {
    /// Its request is being answered.
    pub(super) fn speaks(&self) {
        self.heard.store(BUSY, Ordering::Relaxed);
    }

    /// It has been answered, and is silent from now on.
    pub(super) fn waits(&self) {
        self.heard.store(ANSWERED | self.turn.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }
}

/// No turn comes near it.
const ANSWERED: u64 = 1 << 62;

/// No turn is this one.
const BUSY: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::mpsc;

    use super::*;

    /// Tells who it was when it goes.
    struct Gone(u32, mpsc::UnboundedSender<u32>);

    impl Drop for Gone {
        fn drop(&mut self) {
            let _sent = self.1.send(self.0);
        }
    }

    #[tokio::test]
    async fn whoever_is_silent_the_longest_goes_and_who_is_answered_stays() {
        let mut places = Places::new(3);
        let (tell, mut gone) = mpsc::unbounded_channel();
        let mut callers = Vec::new();
        for n in 0..3 {
            let guard = Gone(n, tell.clone());
            places
                .seat(|caller| {
                    callers.push(caller);
                    async move {
                        let _guard = guard;
                        pending::<()>().await;
                    }
                })
                .await;
        }
        callers[0].speaks();
        callers[1].waits();
        for n in 3..6 {
            let guard = Gone(n, tell.clone());
            places
                .seat(|_| async move {
                    let _guard = guard;
                    pending::<()>().await;
                })
                .await;
            tokio::task::yield_now().await;
        }
        let mut left = Vec::new();
        for _ in 0..3 {
            left.push(gone.recv().await.unwrap());
        }
        assert_eq!(left, [2, 3, 4], "who asked once goes after those who never did");
        assert_eq!(places.taken(), 3);
    }

    #[tokio::test]
    async fn where_all_are_answered_the_next_one_waits_for_the_first_to_end() {
        let mut places = Places::new(1);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        places
            .seat(|caller| async move {
                caller.speaks();
                let _ended = ended.await;
            })
            .await;
        tokio::task::yield_now().await;
        let mut next = std::pin::pin!(places.seat(|_| async {}));
        let waiting = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx).is_pending()));
        assert!(waiting.await);
        end.send(()).unwrap();
        next.await;
    }
}
