//! Whether somebody has rung since we last looked.
//!
//! News and timers are behind locks that all relays share, so those who have promised to wake us are not asked whether they
//! still do. Their promise is kept once: whoever has rung, with or without a cause, must be asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

/// Passes a wake-up on to the task, and remembers it.
pub(super) struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Bell {
    /// The bell of this task: the one there is, if it is that, and whether promises made to it may have been kept.
    pub(super) fn heard(known: &mut Option<Arc<Bell>>, cx: &Context<'_>) -> (Waker, bool) {
        match known {
            Some(bell) if bell.task.will_wake(cx.waker()) => {
                (Waker::from(Arc::clone(bell)), bell.rung.swap(false, Ordering::AcqRel))
            }
            _ => {
                let bell = Arc::new(Bell { rung: AtomicBool::new(false), task: cx.waker().clone() });
                *known = Some(Arc::clone(&bell));
                (Waker::from(bell), true)
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
