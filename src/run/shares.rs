//! Whose turn it is among relays that always have more to do: one at a time, and everybody else goes before them.
//!
//! A relay that has used up its share stands in line here instead of with those that have just become ready, in that of its own runtime. The line moves by
//! one when the runtime has nothing else to do and has looked at the kernel, so a calm stream waits for one share of one busy
//! stream at most, however many there are. With eight of them it waited for eight (`pump_fair_tests.rs`): 5.0 times HAProxy's
//! median then, 0.04 of it since (row `calm` of `cargo bench --bench load`). To be put back in the runtime's own queue is not enough: what becomes ready
//! goes behind all who are in it.

use std::collections::{HashMap, VecDeque};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, Id};

/// The line of each runtime in which somebody waits.
#[derive(Debug, Default)]
pub struct Shares(Mutex<HashMap<Id, Line>>);

/// Somebody's place in it.
#[derive(Debug)]
pub(super) struct Place {
    task: Waker,
    called: AtomicBool,
}

impl Place {
    /// It was its turn.
    pub(super) fn is_called(&self) -> bool {
        self.called.load(Ordering::Acquire)
    }
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Arc<Place>>,
    /// Tasks that move it: as many as there are threads, while anybody waits.
    ushers: usize,
}

impl Shares {
    fn lines(&self) -> MutexGuard<'_, HashMap<Id, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This task goes on when it is its turn. Whoever has a place already, and was woken by something else, keeps it.
    pub(super) fn stand(self: &Arc<Self>, place: &mut Option<Arc<Place>>, task: &Waker) {
        if place.as_ref().is_some_and(|place| !place.is_called()) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return task.wake_by_ref() };
        let place = place.insert(Arc::new(Place { task: task.clone(), called: AtomicBool::new(false) }));
        let mut lines = self.lines();
        let line = lines.entry(runtime.id()).or_default();
        line.waiting.push_back(Arc::clone(place));
        let lacks = line.ushers < line.waiting.len().min(runtime.metrics().num_workers());
        line.ushers += usize::from(lacks);
        drop(lines);
        if lacks {
            runtime.spawn(Usher { shares: Arc::clone(self), line: runtime.id(), waits: true });
        }
    }

    /// Whoever is next in this line goes on; whether others wait behind. The usher that finds nobody goes, and the last one takes the
    /// line with it.
    fn next(&self, id: Id) -> bool {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(&id) else { return false };
        let next = line.waiting.pop_front();
        let more = !line.waiting.is_empty();
        if !more {
            line.ushers = line.ushers.saturating_sub(1);
            if line.ushers == 0 {
                lines.remove(&id);
            }
        }
        drop(lines);
        if let Some(next) = next {
            next.called.store(true, Ordering::Release);
            next.task.wake_by_ref();
        }
        more
    }
}

/// Moves the line by one whenever everybody else has had a turn.
struct Usher {
    shares: Arc<Shares>,
    line: Id,
    waits: bool,
}

impl Future for Usher {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::take(&mut self.waits) && !self.shares.next(self.line) {
            return Poll::Ready(());
        }
        // The runtime wakes it when nobody else is ready and it has looked at the kernel.
        pin!(tokio::task::yield_now()).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Who waits, and who moves the line.
    fn left(shares: &Shares) -> (usize, usize) {
        let lines = shares.lines();
        lines
            .values()
            .fold((0, 0), |(waiting, ushers), line| (waiting + line.waiting.len(), ushers + line.ushers))
    }

    /// Takes so many shares and stands in line after each; each is written down, with the name.
    async fn takes(shares: Arc<Shares>, name: char, count: usize, log: Arc<Mutex<String>>) {
        let (mut left, mut place) = (count, None);
        std::future::poll_fn(|cx| {
            if place.as_ref().is_some_and(|place: &Arc<Place>| !place.is_called()) {
                return Poll::Pending;
            }
            log.lock().unwrap().push(name);
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            shares.stand(&mut place, cx.waker());
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn they_take_turns_and_nothing_is_left_of_the_line() {
        let (shares, log) = <(Arc<Shares>, Arc<Mutex<String>>)>::default();
        let busy =
            "abc".chars().map(|name| tokio::spawn(takes(Arc::clone(&shares), name, 4, Arc::clone(&log))));
        for busy in busy.collect::<Vec<_>>() {
            busy.await.unwrap();
        }
        assert_eq!(*log.lock().unwrap(), "abcabcabcabc");
        assert_eq!(left(&shares), (0, 0));
        assert_eq!(shares.lines().len(), 0);
    }

    #[tokio::test]
    async fn who_is_woken_by_something_else_keeps_one_place() {
        let shares = Arc::<Shares>::default();
        let mut place = None;
        for _ in 0..3 {
            shares.stand(&mut place, Waker::noop());
        }
        assert_eq!(left(&shares), (1, 1));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(place.as_ref().is_some_and(|place| place.is_called()));
        assert_eq!(left(&shares), (0, 0));
        shares.stand(&mut place, Waker::noop());
        assert!(place.is_some_and(|place| !place.is_called()));
    }

    // Threads with a runtime each have a line each: whoever has much to do on one does not keep those on another waiting.
    #[test]
    fn each_runtime_moves_its_own_line() {
        let runtimes = [(); 2].map(|()| tokio::runtime::Builder::new_current_thread().build().unwrap());
        let shares = Arc::<Shares>::default();
        let mut places = [None, None, None];
        for (at, place) in places.iter_mut().enumerate() {
            let _here = runtimes[at.min(1)].enter();
            shares.stand(place, Waker::noop());
        }
        assert_eq!(shares.lines().len(), 2);
        assert_eq!(left(&shares), (3, 2));
        let called = || places.each_ref().map(|place| place.as_ref().is_some_and(|place| place.is_called()));
        runtimes[1].block_on(async {
            while !called()[2] {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(called(), [false, true, true]);
        runtimes[0].block_on(async {
            while !called()[0] {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(shares.lines().len(), 0);
    }

    // A thread that has nothing else to do serves the line, too.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_forgotten_by_several_threads() {
        let (shares, log) = <(Arc<Shares>, Arc<Mutex<String>>)>::default();
        let busy = (0..40).map(|_| tokio::spawn(takes(Arc::clone(&shares), 'a', 500, Arc::clone(&log))));
        for busy in busy.collect::<Vec<_>>() {
            tokio::time::timeout(Duration::from_secs(60), busy).await.unwrap().unwrap();
        }
        assert_eq!(log.lock().unwrap().len(), 40 * 500);
    }
}
