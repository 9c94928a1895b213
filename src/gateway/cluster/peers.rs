//! What nodes know of peers together: heard now and then, said as soon as there is something to say.
//!
//! What rules hold stands in the store for as long as anybody holds it, and all of it is heard each time. What no rule holds may be
//! every domain there is: of that each change is an entry of a row that forgets, and each node hears what it has not heard yet.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::run::{Tools, now};
use crate::store::{Store, StoreFault};

/// What was heard of the others.
#[derive(Debug, Default)]
pub(super) struct Sharing(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    /// When all was heard that rules hold; none: not yet.
    heard: Option<Instant>,
    /// How many records of it could not be read.
    foreign: usize,
    /// How far the row of the rest was heard.
    after: Option<String>,
    /// Whether it was heard to its end once: before that nobody says what others may have said.
    at_its_end: bool,
}

impl Sharing {
    /// Hears what the others know, if that is due, and says what they do not know. How many records cannot be read.
    pub(super) async fn share(&self, store: &mut Store, tools: &Tools) -> Result<usize, StoreFault> {
        let (peers, at) = (tools.observe.peers(), now());
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let recent = state.heard.is_some_and(|last| at.saturating_duration_since(last) < AGAIN);
        let mut unread = 0;
        if !recent {
            let heard = store.peers().await?;
            state.foreign = peers.with(|peers| peers.hear(&heard));
        }
        if !recent || !state.at_its_end {
            unread = hear_noted(&mut state, store, tools).await?;
            state.heard = Some(at);
        }
        tools.observe.log_met();
        let foreign = state.foreign + unread;
        let at_its_end = state.at_its_end;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
        let held = peers.with(|peers| peers.unsent(true, AT_ONCE));
        let noted = if at_its_end { peers.with(|peers| peers.unsent(false, AT_ONCE)) } else { Vec::new() };
        if !held.is_empty() || !noted.is_empty() {
            store.share_peers(&held, &noted).await?;
            peers.with(|peers| {
                peers.told(&held);
                peers.told(&noted);
            });
        }
        Ok(foreign)
    }
}

/// Hears the row from where it was left. How many records cannot be read.
async fn hear_noted(state: &mut State, store: &mut Store, tools: &Tools) -> Result<usize, StoreFault> {
    let peers = tools.observe.peers();
    let row = store.noted(state.after.as_deref()).await?;
    // The last entry that was heard is to be there still: where it is not, the store has lost what it was told.
    let (fresh, lost) = match &state.after {
        None => (row.entries.as_slice(), false),
        Some(after) => match row.entries.split_first() {
            Some(((name, _), rest)) if name == after => (rest, false),
            _ => (&[][..], true),
        },
    };
    if lost {
        (state.after, state.at_its_end) = (None, false);
        peers.with(|peers| peers.share_anew());
        return Ok(0);
    }
    let unread = peers.with(|peers| peers.hear_noted(fresh.iter().map(|(_, text)| text.as_str())));
    if let Some((name, _)) = fresh.last() {
        state.after = Some(name.clone());
    }
    state.at_its_end = row.is_all;
    Ok(unread)
}

/// From hearing what the others know to hearing it again.
const AGAIN: Duration = Duration::from_secs(2);

/// Records that are said at one time.
const AT_ONCE: usize = 1000;
