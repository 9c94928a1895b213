//! What nodes know of peers together: heard now and then, said as soon as there is something to say.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::run::{Tools, now};
use crate::store::{Fault, Store};

/// When it was last heard what the others know, and how many records of it could not be read; none: not yet.
#[derive(Debug, Default)]
pub(super) struct Sharing(Mutex<Option<(Instant, usize)>>);

impl Sharing {
    /// Hears what the others know, if that is due, and says what they do not know. How many records cannot be read.
    pub(super) async fn share(&self, store: &mut Store, tools: &Tools) -> Result<usize, Fault> {
        let (peers, at) = (tools.observe.peers(), now());
        let heard = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = heard.filter(|(last, _)| at.saturating_duration_since(*last) < AGAIN);
        let foreign = match recent {
            Some((_, foreign)) => foreign,
            None => {
                let heard = store.peers().await?;
                let foreign = peers.with(|peers| peers.hear(&heard));
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, foreign));
                foreign
            }
        };
        let said = peers.with(|peers| peers.untold(AT_ONCE));
        if !said.is_empty() {
            store.tell_peers(&said).await?;
            peers.with(|peers| peers.told(&said));
        }
        Ok(foreign)
    }
}

/// From hearing what the others know to hearing it again.
const AGAIN: Duration = Duration::from_secs(2);

/// Records that are said at one time.
const AT_ONCE: usize = 1000;
