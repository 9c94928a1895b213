//! Sockets that others have opened for us: a supervisor, the gateway before this one, whose place this one takes, or a part of
//! ours that leaves its address to another one.
//!
//! Each takes the place of what would be opened at its address, so that over a restart no attempt to connect is refused, and
//! nobody else can come between.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::config::overlap;

/// What was handed over, until somebody wants it.
#[derive(Debug, Default)]
pub struct Handed {
    listeners: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
    /// Where this gateway listens itself, and as what.
    own: Vec<(SocketAddr, &'static str)>,
}

impl Handed {
    /// One that listens.
    pub fn add_listener(&mut self, socket: TcpListener) {
        self.listeners.push(socket);
    }

    /// One for datagrams.
    pub fn add_datagrams(&mut self, socket: UdpSocket) {
        self.datagrams.push(socket);
    }

    /// This gateway listens there itself, as that.
    pub(super) fn add_own(&mut self, at: SocketAddr, what: &'static str) {
        self.own.push((at, what));
    }

    /// Where this gateway itself is in the way of a socket at this address, and as what.
    pub(super) fn own_at(&self, at: SocketAddr) -> Option<(SocketAddr, &'static str)> {
        self.own.iter().copied().find(|(own, _)| overlap(*own, at))
    }

    /// Whether there is one that listens at this address.
    pub(super) fn has_listener(&self, at: SocketAddr) -> bool {
        self.listeners.iter().any(|socket| socket.local_addr().is_ok_and(|a| a == at))
    }

    /// The one that listens at this address.
    pub(super) fn listener(&mut self, at: SocketAddr) -> Option<TcpListener> {
        let place = self.listeners.iter().position(|socket| socket.local_addr().is_ok_and(|a| a == at))?;
        Some(self.listeners.swap_remove(place))
    }

    /// The one for datagrams at this address.
    pub(super) fn datagrams(&mut self, at: SocketAddr) -> Option<UdpSocket> {
        let place = self.datagrams.iter().position(|socket| socket.local_addr().is_ok_and(|a| a == at))?;
        Some(self.datagrams.swap_remove(place))
    }

    /// Closes what nobody wanted, and tells.
    pub(super) fn close(self) {
        let listeners = self.listeners.iter().map(TcpListener::local_addr);
        let datagrams = self.datagrams.iter().map(UdpSocket::local_addr);
        for address in listeners.chain(datagrams) {
            let address = address.map_or_else(|error| error.to_string(), |address| address.to_string());
            tracing::warn!(address, "the supervisor listens there for us, and the configuration does not");
        }
    }
}
