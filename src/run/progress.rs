//! How far a connection of ours has come while it is made, for whoever gives up waiting for it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How far it has come. Written where it is made, read where it is waited for.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<ConnectStep>>);

/// What is being done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConnectStep {
    /// It has not begun.
    #[default]
    Waiting,
    /// The DNS is asked for the servers of the domain.
    LookingUp,
    /// As many streams as it can do with are being set up with this address ([`super::setups`]).
    InTurn(SocketAddr),
    /// These addresses are called, the first of them, and so many others.
    Calling(SocketAddr, usize),
    /// TLS from the first octet, with the server at this address.
    Securing(SocketAddr),
}

impl Progress {
    /// This is done from now on.
    pub fn at(&self, step: ConnectStep) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// What is being done.
    pub fn step(&self) -> ConnectStep {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ConnectStep {
    /// The calling of these addresses.
    pub fn calling(addresses: &[SocketAddr]) -> Self {
        match addresses {
            [] => Self::Waiting,
            [first, others @ ..] => Self::Calling(*first, others.len()),
        }
    }

    /// Whether anybody is called yet: what waits for its turn here hangs by nobody else's fault.
    pub fn is_call(&self) -> bool {
        match self {
            Self::Waiting | Self::LookingUp | Self::InTurn(_) => false,
            Self::Calling(..) | Self::Securing(_) => true,
        }
    }

    /// The address that is called.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Waiting | Self::LookingUp => None,
            Self::InTurn(address) | Self::Calling(address, _) | Self::Securing(address) => Some(*address),
        }
    }
}

/// How far, behind "it was not done in time".
impl fmt::Display for ConnectStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("nobody was called yet"),
            Self::LookingUp => f.write_str("the DNS had not said where its servers are"),
            Self::InTurn(address) => write!(f, "{address} was busy with other streams of ours"),
            Self::Calling(address, 0) => write!(f, "{address} took no connection"),
            Self::Calling(address, others) => write!(f, "{address} and {others} more took no connection"),
            Self::Securing(address) => write!(f, "in the TLS handshake with {address}"),
        }
    }
}
