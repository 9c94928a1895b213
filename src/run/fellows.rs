//! How it stands with the other nodes of a domain, for those who watch.

use std::sync::{Mutex, PoisonError};

/// What was said of the store last.
#[derive(Debug, Default)]
pub struct Fellows {
    trouble: Mutex<Option<String>>,
}

impl Fellows {
    /// The store that nodes share is in trouble, or none is.
    pub fn say(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// What ails the store that nodes share, in words.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
