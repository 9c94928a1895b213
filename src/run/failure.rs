//! That a connection or a handshake failed, and what is known of it beside the reason.

use std::io;
use std::net::SocketAddr;

use crate::reason::{Cause, Detail, Reason};

/// Why something that was tried outside came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason: what is counted, and what the other side hears.
    pub reason: Reason,
    /// What it was in particular. Boxed: most of the time there is none.
    pub detail: Option<Box<Detail>>,
    /// The address that was called, if one was.
    pub address: Option<SocketAddr>,
}

impl Failure {
    /// A reason, and what it was in particular.
    pub fn new(reason: Reason, detail: Detail) -> Self {
        Self { reason, detail: Some(Box::new(detail)), address: None }
    }

    /// Whether nothing had come in time.
    pub fn is_late(&self) -> bool {
        self.detail.as_ref().is_some_and(|detail| detail.cause == Cause::TimedOut)
    }

    /// The same, at this address.
    #[must_use]
    pub fn at(self, address: SocketAddr) -> Self {
        Self { address: Some(address), ..self }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None, address: None }
    }
}

/// What an error of a connection that stood is.
pub(super) fn lost(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::InvalidData => Reason::TlsFailed,
        _ => Reason::ConnectionLost,
    }
}
