//! The one thread for what takes a while and for which no stream waits: reading, comparing and letting go of many rules.
//!
//! - One for all: what a reload lets go is what the next one takes. On threads that the runtime lends, each of which keeps
//!   memory of its own, what the program held after twenty reloads was up to 2.3 times what it held after two.
//! - It ends when nothing more comes, and with it goes the memory that it kept for more.
//! - It yields to the streams: where processors are short it gets a quarter of what they get.
//!
//! `cargo bench --bench load -- --only reloads` shows both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// It was not done: it panicked, or the system gave no thread.
#[derive(Debug)]
pub(super) struct Undone;

impl std::fmt::Display for Undone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "work in the background was not done: a fault of the gateway, or the system gives no thread",
        )
    }
}

/// Does this after all that was asked before.
///
/// # Errors
/// [`Undone`].
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Undone> {
    let (done, answer) = oneshot::channel();
    hand_over(Box::new(move || {
        // Who asked may have gone.
        let _unheard = done.send(work());
    }));
    answer.await.map_err(|_| Undone)
}

/// Does this some time after all that was asked before.
pub(super) fn later(work: impl FnOnce() + Send + 'static) {
    hand_over(Box::new(work));
}

type Work = Box<dyn FnOnce() + Send>;

static JOBS: Mutex<Option<Sender<Work>>> = Mutex::new(None);

fn hand_over(work: Work) {
    let mut jobs = JOBS.lock().unwrap_or_else(PoisonError::into_inner);
    let undone = match &*jobs {
        Some(sender) => sender.send(work).map_err(|unsent| unsent.0),
        None => Err(work),
    };
    // Without a thread the work is dropped, and who asked hears of it.
    if let Err(work) = undone
        && let Some(sender) = start()
    {
        let _sent = sender.send(work);
        *jobs = Some(sender);
    }
}

fn start() -> Option<Sender<Work>> {
    let (sender, jobs) = channel();
    let thread = std::thread::Builder::new().name("background".to_owned()).spawn(move || {
        // Of this thread alone, as Linux has it. Where it is not allowed, it is done as fast as all else.
        let _denied = rustix::process::nice(YIELDING);
        while let Some(work) = next(&jobs) {
            // Who asked sees that no answer comes.
            let _panicked = catch_unwind(AssertUnwindSafe(work));
        }
    });
    thread.ok().map(|_| sender)
}

/// What is to be done next; none: nothing has come for a while, and nothing will come here any more.
fn next(jobs: &Receiver<Work>) -> Option<Work> {
    jobs.recv_timeout(IDLE).ok().or_else(|| {
        // Whoever hands over holds this lock: what comes after it starts another thread.
        let mut sender = JOBS.lock().unwrap_or_else(PoisonError::into_inner);
        let last = jobs.try_recv().ok();
        if last.is_none() {
            *sender = None;
        }
        last
    })
}

/// How long it waits for more.
const IDLE: Duration = Duration::from_secs(3);

/// How nice it is: each step is a fifth less of the processor where others want it.
const YIELDING: i32 = 6;

#[cfg(test)]
mod tests {
    use super::run;

    #[tokio::test]
    async fn one_thread_does_all_and_outlives_a_panic() {
        let thread = || std::thread::current().id();
        let first = run(thread).await.unwrap();
        assert!(run(|| panic!("of this work alone")).await.is_err());
        assert_eq!(run(thread).await.unwrap(), first);
        assert_ne!(first, thread());
    }
}
