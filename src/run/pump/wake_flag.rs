//! Whether something other than octets has come to a relay: orders, news, or the time.
//!
//! Where they wait is behind locks and far from what a stanza touches, so a turn of the loop does not look there: whoever
//! brings them knocks, and then all of them are looked at.
//!
//! **What it buys.** With what [`super::wakes`] spares besides, a chat message echoed cost 24.6 us of processor time for 25.4 (seven
//! runs in turn with the build before): row `echo` of `cargo bench --bench load`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Wakes the task, and leaves word that it did.
#[derive(Debug)]
pub(super) struct WakeFlag {
    task: Waker,
    heard: AtomicBool,
}

impl WakeFlag {
    /// Nobody has been asked to knock yet, which is as good as a knock.
    pub(super) fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Self { task: task.clone(), heard: AtomicBool::new(true) })
    }

    /// Whether it wakes this task.
    pub(super) fn wakes(&self, cx: &Context<'_>) -> bool {
        self.task.will_wake(cx.waker())
    }

    /// Whether somebody has knocked since this was last asked.
    pub(super) fn was_heard(&self) -> bool {
        // The common answer writes nothing.
        self.heard.load(Ordering::Acquire) && self.heard.swap(false, Ordering::AcqRel)
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.heard.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
