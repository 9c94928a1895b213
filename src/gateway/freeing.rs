//! The memory of what a reload has replaced is given back where no stream waits for it.

use std::sync::Arc;
use std::time::Duration;

use super::background;

/// What many have held is given back in the background, once all others have let go of it: the memory of many rules
/// takes a while.
pub(super) fn let_go<T: Send + Sync + 'static>(old: Arc<T>) {
    tokio::spawn(async move {
        // Relays let go as soon as they have heard the news. One that does not gives it back itself.
        for _ in 0..PATIENCE {
            if Arc::strong_count(&old) == 1 {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        // Nobody waits for it.
        background::later(move || drop(old));
    });
}

/// How often, and how many times, it is looked whether others have let go.
const AGAIN: Duration = Duration::from_millis(100);
const PATIENCE: usize = 600;
