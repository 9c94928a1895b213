//! The threads that relays run on, each with a runtime of its own.
//!
//! A relay stays on the thread it came to, with its sockets and its timers: what it reads and writes is in the caches of one
//! processor, and nobody else has to be woken for it. New ones go to the thread with the fewest, for none moves later.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::pump::LOOK;

/// Threads of our own beside that of the gateway. They end when this goes.
#[derive(Debug)]
pub struct Threads {
    workers: Workers,
    _ends: Vec<oneshot::Sender<()>>,
}

impl Threads {
    /// So many beside the runtime that has its own.
    ///
    /// # Errors
    /// When the system gives no thread, or no files for its runtime.
    pub fn beside(own: &Handle, count: usize) -> io::Result<Self> {
        let (mut runtimes, mut ends) = (vec![own.clone()], Vec::new());
        for number in 1..=count {
            let runtime = runtime()?;
            runtimes.push(runtime.handle().clone());
            let (end, ended) = oneshot::channel();
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // Never told: the other end goes.
                let _gone = runtime.block_on(ended);
                // What is left is a look-up or a write that nobody waits for.
                runtime.shutdown_background();
            })?;
            ends.push(end);
        }
        // Who is alone need not choose.
        let workers = if count == 0 { Workers::default() } else { Workers::over(runtimes) };
        Ok(Self { workers, _ends: ends })
    }

    /// These, and the one that they are beside.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }
}

/// What one thread drives.
///
/// # Errors
/// When the system gives no files for it.
pub fn runtime() -> io::Result<Runtime> {
    // Calm connections are found between the octets of busy ones.
    Builder::new_current_thread().event_interval(LOOK).enable_all().build()
}

/// Threads that relays are spread over. With none of them a relay runs where it is begun.
#[derive(Clone, Debug, Default)]
pub struct Workers(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    relays: Arc<AtomicUsize>,
}

/// A place among the relays of a thread, for as long as this lives.
#[derive(Debug)]
pub struct Post(Arc<AtomicUsize>);

impl Drop for Post {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    fn post(&self) -> Post {
        self.relays.fetch_add(1, Ordering::Relaxed);
        Post(Arc::clone(&self.relays))
    }

    fn relays(&self) -> usize {
        self.relays.load(Ordering::Relaxed)
    }
}

impl Workers {
    /// These, each of which one thread drives.
    pub fn over(runtimes: impl IntoIterator<Item = Handle>) -> Self {
        Self(runtimes.into_iter().map(|runtime| Worker { runtime, relays: Arc::default() }).collect())
    }

    /// The one with the fewest relays, and a place there. None if there are no threads to choose from.
    pub fn fewest(&self) -> Option<(&Handle, Post)> {
        self.least().map(|worker| (&worker.runtime, worker.post()))
    }

    /// A place on the thread that asks, if it is one of them.
    pub fn here(&self) -> Option<Post> {
        self.own().map(Worker::post)
    }

    /// Runs what serves who asks: beside him, as long as that thread has not many more than the one with the fewest.
    pub(super) fn spawn(&self, relay: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let least = self.least();
        let near = self.own().filter(|own| least.is_none_or(|least| own.relays() <= least.relays() + NEAR));
        match near.or(least) {
            Some(worker) => {
                let post = worker.post();
                worker.runtime.spawn(async move {
                    relay.await;
                    drop(post);
                });
            }
            None => drop(tokio::spawn(relay)),
        }
    }

    fn least(&self) -> Option<&Worker> {
        self.0.iter().min_by_key(|worker| worker.relays())
    }

    fn own(&self) -> Option<&Worker> {
        let here = Handle::try_current().ok().filter(|_| !self.0.is_empty())?.id();
        self.0.iter().find(|worker| worker.runtime.id() == here)
    }
}

/// So many more relays are no reason to have another thread woken for each stanza.
const NEAR: usize = 8;

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn two() -> (Vec<Runtime>, Workers) {
        let two: Vec<_> = (0..2).map(|_| Builder::new_current_thread().build().unwrap()).collect();
        let workers = Workers::over(two.iter().map(|runtime| runtime.handle().clone()));
        (two, workers)
    }

    fn counts(workers: &Workers) -> Vec<usize> {
        workers.0.iter().map(Worker::relays).collect()
    }

    #[test]
    fn the_thread_with_the_fewest_is_next() {
        let (runtimes, workers) = two();
        let mut posts: Vec<_> = (0..4).map(|_| workers.fewest().unwrap()).collect();
        assert_eq!(counts(&workers), [2, 2]);
        // Both of the second thread's leave.
        let second = runtimes[1].handle().id();
        posts.retain(|(runtime, _)| runtime.id() != second);
        assert_eq!(counts(&workers), [2, 0]);
        assert_eq!(workers.fewest().unwrap().0.id(), second);
        assert_eq!(counts(&workers), [2, 0]);
    }

    #[test]
    fn whoever_is_called_stays_near_until_there_are_many() {
        let (runtimes, workers) = two();
        let call = || workers.spawn(Box::pin(std::future::pending()));
        runtimes[0].block_on(async {
            assert!(workers.here().is_some());
            (0..=NEAR).for_each(|_| call());
            assert_eq!(counts(&workers), [NEAR + 1, 0]);
            call();
            assert_eq!(counts(&workers), [NEAR + 1, 1]);
            call();
            assert_eq!(counts(&workers), [NEAR + 2, 1]);
        });
        // Who asks from no runtime of ours has nobody near.
        call();
        assert_eq!(counts(&workers), [NEAR + 2, 2]);
        // What a runtime drops is not counted any more.
        drop(runtimes);
        assert_eq!(counts(&workers), [0, 0]);
    }

    #[test]
    fn each_thread_does_its_part_and_ends_with_all() {
        let own = runtime().unwrap();
        let threads = Threads::beside(own.handle(), 2).unwrap();
        let (workers, (tx, mut rx)) = (threads.workers(), unbounded_channel());
        for _ in 0..6 {
            let (runtime, post) = workers.fewest().unwrap();
            let tx = tx.clone();
            runtime.spawn(async move {
                tx.send(std::thread::current().name().unwrap_or_default().to_owned()).unwrap();
                std::future::pending::<()>().await;
                drop((post, tx));
            });
        }
        drop(tx);
        let mut names = std::collections::BTreeMap::<_, usize>::new();
        own.block_on(async {
            for _ in 0..6 {
                *names.entry(rx.recv().await.unwrap()).or_default() += 1;
            }
        });
        assert_eq!(names.remove("worker-1").zip(names.remove("worker-2")), Some((2, 2)));
        drop((own, threads));
        // Whoever still ran is gone, and with him what he held.
        assert_eq!(rx.blocking_recv(), None);
        assert_eq!(counts(&workers), [0, 0, 0]);
    }

    #[test]
    fn one_alone_does_all() {
        let own = runtime().unwrap();
        assert!(Threads::beside(own.handle(), 0).unwrap().workers().fewest().is_none());
    }

    #[tokio::test]
    async fn without_threads_all_runs_where_it_is_begun() {
        let workers = Workers::default();
        assert!(workers.fewest().is_none() && workers.here().is_none());
        let (tx, mut rx) = unbounded_channel();
        workers.spawn(Box::pin(async move { tx.send(Handle::current().id()).unwrap() }));
        assert_eq!(rx.recv().await, Some(Handle::current().id()));
    }
}
