//! The memory of peers, where many relays come to it at one time, and who must hear at once what is news of it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::peers::Peers;

/// The memory of peers.
#[derive(Debug, Default)]
pub struct Remembered {
    peers: Mutex<Peers>,
    news: Notify,
}

impl Remembered {
    /// Asks or tells it something.
    pub fn with<T>(&self, ask: impl FnOnce(&mut Peers) -> T) -> T {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = ask(&mut peers);
        if peers.take_news() {
            self.news.notify_one();
        }
        answer
    }

    /// Waits for something that the policy must know of at once.
    pub async fn news(&self) {
        self.news.notified().await;
    }
}
