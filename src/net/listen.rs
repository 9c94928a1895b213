//! Listeners, and accept errors sorted by whose fault they are.
//!
//! A wildcard IPv6 listener takes IPv4 as well, whatever the system's default, and reports IPv4 peers as IPv4: rules
//! and quotas see one form of an address only. Who may come in is decided elsewhere.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain as Family, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::shortage::Shortage;
use super::tune::{Tuning, tune};

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// Binds and listens. On a host without IPv6, `[::]` means all of IPv4. Connections whose other end acknowledges
    /// nothing for the patience of `tuning` end.
    ///
    /// # Errors
    /// As the system says.
    pub fn bind(address: SocketAddr, tuning: Tuning) -> io::Result<Listener> {
        Listener::tuned(bound(address, false)?, tuning)
    }

    /// The same beside those of ours whose addresses take this one in, or are within it: all listen on the port, and whoever
    /// connects is the one's with the narrowest address that is open.
    ///
    /// # Errors
    /// As the system says; the others go on as they were. None of them may be another user's.
    pub fn bind_beside(
        address: SocketAddr,
        tuning: Tuning,
        others: &[BorrowedFd<'_>],
    ) -> io::Result<Listener> {
        // Only for this moment, and only for sockets of this user: else others could come to listen there.
        let share = |shared| others.iter().try_for_each(|other| SockRef::from(other).set_reuse_port(shared));
        let made = share(true).and_then(|()| bound(address, true));
        share(false)?;
        let made = made?;
        SockRef::from(&made).set_reuse_port(false)?;
        Listener::tuned(made, tuning)
    }

    /// Takes over a socket that somebody else bound and listens on.
    ///
    /// # Errors
    /// As the system says.
    pub fn adopt(socket: std::net::TcpListener, tuning: Tuning) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        Listener::tuned(TcpListener::from_std(socket)?, tuning)
    }

    /// What it accepts is tuned as it is.
    fn tuned(socket: TcpListener, tuning: Tuning) -> io::Result<Listener> {
        tune(&socket, tuning)?;
        Ok(Listener { socket })
    }

    /// What it accepts from now on waits so long for its other end.
    ///
    /// # Errors
    /// As the system says.
    pub fn retune(&self, tuning: Tuning) -> io::Result<()> {
        tune(&self.socket, tuning)
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// As the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for the next connection. After a fault, call again when its pause is over.
    ///
    /// # Errors
    /// What the system says, and how long to wait after it.
    pub async fn accept(&self) -> Result<(TcpStream, SocketAddr), AcceptFault> {
        let (stream, peer) = self.socket.accept().await.map_err(AcceptFault::new)?;
        Ok((stream, canonical(peer)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The address with IPv4 as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn bound(address: SocketAddr, beside: bool) -> io::Result<TcpListener> {
    match listen(address, beside) {
        Err(error) if address.ip() == IpAddr::from([0u16; 8]) && lacks_family(&error) => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), beside)
        }
        outcome => outcome,
    }
}

fn listen(address: SocketAddr, beside: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { Family::IPV4 } else { Family::IPV6 };
    let socket = Socket::new(family, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(beside)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn lacks_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// A connection that was not accepted.
#[derive(Debug)]
pub struct AcceptFault {
    /// Whose fault it is.
    pub whose: Whose,
    /// What the system said.
    pub error: io::Error,
}

/// Whose fault a failed accept is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The listener itself is broken: give it up.
    Listener,
    /// The process or the system has run out of something: wait, and tell the operator.
    Ours,
    /// The peer went away again, or its network did: go on.
    Peer,
}

impl AcceptFault {
    fn new(error: io::Error) -> AcceptFault {
        let whose = match error.raw_os_error() {
            _ if Shortage::of(&error).is_some() => Whose::Ours,
            Some(EBADF | EINVAL | ENOTSOCK) => Whose::Listener,
            // Linux hands errors of the new connection's network to accept: accept(2), "Error handling".
            _ => Whose::Peer,
        };
        AcceptFault { whose, error }
    }

    /// How long to wait before the next accept; `None`: never again.
    pub const fn pause(&self) -> Option<Duration> {
        match self.whose {
            Whose::Listener => None,
            Whose::Ours => Some(Duration::from_millis(500)),
            Whose::Peer => Some(Duration::ZERO),
        }
    }
}

impl fmt::Display for AcceptFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot accept a connection: {}", self.error)
    }
}

impl std::error::Error for AcceptFault {}

const BACKLOG: i32 = 1024;
// Linux numbers; elsewhere the kinds of std apply and the rest counts as the peer's.
const EBADF: i32 = 9;
const EINVAL: i32 = 22;
const ENOTSOCK: i32 = 88;
const EAFNOSUPPORT: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_are_sorted_by_whose_fault_they_are() {
        let table = [
            (24, Whose::Ours),  // EMFILE
            (23, Whose::Ours),  // ENFILE
            (105, Whose::Ours), // ENOBUFS
            (EBADF, Whose::Listener),
            (103, Whose::Peer), // ECONNABORTED
            (113, Whose::Peer), // EHOSTUNREACH
        ];
        for (number, whose) in table {
            let fault = AcceptFault::new(io::Error::from_raw_os_error(number));
            assert_eq!(fault.whose, whose, "{number}");
            assert_eq!(fault.pause().is_none(), whose == Whose::Listener);
        }
    }

    #[tokio::test]
    async fn a_wildcard_listener_reports_ipv4_peers_as_ipv4() {
        let listener = Listener::bind("[::]:0".parse().unwrap(), Tuning::default()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 1]));
        assert!(stream.nodelay().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_accepted_is_tuned_on_bound_and_on_adopted_sockets() {
        let patience = Duration::from_secs(9);
        let tuning = Tuning { patience, dscp: None };
        let bound = Listener::bind("127.0.0.1:0".parse().unwrap(), tuning).unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for listener in [bound, Listener::adopt(socket, tuning).unwrap()] {
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let socket = socket2::SockRef::from(&stream);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(patience));
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), 128 * 1024);
            assert!(stream.nodelay().unwrap());
        }
    }
}
