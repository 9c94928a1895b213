//! The transports of a leg, and what each of them holds.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::net::Begun;
use crate::tls::{Channel, FarChannel};

/// Octets in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Octets of those that it took last of which the other side cannot make anything yet: the transport has them, or the part of a record
    /// or of a message that they lack. What it took before those is with the kernel.
    fn held(&self) -> usize;
}

/// A transport, plain or TLS.
pub type BoxIo = Box<dyn Io>;

impl fmt::Debug for dyn Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}

impl Io for BoxIo {
    fn held(&self) -> usize {
        (**self).held()
    }
}

impl Io for TcpStream {
    fn held(&self) -> usize {
        0
    }
}

impl Io for Begun<TcpStream> {
    fn held(&self) -> usize {
        0
    }
}

/// TLS is spoken over what holds nothing itself.
impl<S: Io> Io for Channel<S> {
    fn held(&self) -> usize {
        Self::held(self)
    }
}

impl<S: Io> Io for FarChannel<S> {
    fn held(&self) -> usize {
        Self::held(self)
    }
}

#[cfg(test)]
impl Io for tokio::io::DuplexStream {
    fn held(&self) -> usize {
        0
    }
}
