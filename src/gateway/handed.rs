//! Sockets that others have opened for us: a supervisor, the gateway before this one, whose place this one takes, or a part of
//! ours that leaves its address to another one.
//!
//! Each takes the place of what would be opened at its address, so that over a restart no attempt to connect is refused, and
//! nobody else can come between.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

use crate::config::overlap;

/// What was handed over, until somebody wants it.
#[derive(Debug, Default)]
pub struct Handed {
    listeners: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
    /// Where this gateway listens itself, and as what.
    own: Vec<(SocketAddr, Part)>,
}

/// A part of the gateway that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `admin: { http }`.
    Admin,
    /// One of `listen:`.
    Listener,
    /// `steering:`.
    Steering,
}

impl Part {
    /// The key of the configuration that has it.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Listener => "listen",
            Self::Steering => "steering",
        }
    }
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
    pub(super) fn add_own(&mut self, at: SocketAddr, part: Part) {
        self.own.push((at, part));
    }

    /// Where this gateway itself is in the way of what that part would open at this address, and as what. Listeners are none in
    /// each other's: they are opened beside each other.
    pub(super) fn in_the_way(&self, part: Part, at: SocketAddr) -> Option<(SocketAddr, Part)> {
        let beside = |own: Part| part == Part::Listener && own == Part::Listener;
        self.own.iter().copied().find(|(own_at, own)| overlap(*own_at, at) && !beside(*own))
    }

    /// Those that listen at an address which takes this one in, or is within it.
    pub(super) fn beside(&self, at: SocketAddr) -> impl Iterator<Item = (SocketAddr, BorrowedFd<'_>)> {
        let all =
            self.listeners.iter().filter_map(|socket| Some((socket.local_addr().ok()?, socket.as_fd())));
        all.filter(move |(other, _)| overlap(*other, at))
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
