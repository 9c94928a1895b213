//! What this machine has run out of where no connection comes about: that says nothing of the other end.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

use crate::reason::Cause;

/// What this machine has none left of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// File descriptors, of the process or of the system.
    Files,
    /// Memory for sockets.
    Memory,
    /// Ports: each connection to one address and port takes one of them (ip(7), `ip_local_port_range`).
    Ports,
}

impl Shortage {
    /// What is lacking, if a socket could not be made or accepted for it.
    pub fn of(error: &io::Error) -> Option<Shortage> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Files),
            Errno::NOBUFS | Errno::NOMEM => Some(Self::Memory),
            _ => None,
        }
    }

    /// What is lacking, if there is no port to connect there from. A machine that has no address of that family hears the same
    /// from its kernel as one whose ports are all taken.
    pub(super) fn towards(address: SocketAddr, error: &io::Error) -> Option<Shortage> {
        let ports = error.kind() == io::ErrorKind::AddrNotAvailable && source_towards(address).is_ok();
        if ports { Some(Self::Ports) } else { Self::of(error) }
    }

    /// What is lacking, if an address of this machine could not be called from.
    pub(super) fn binding(error: &io::Error) -> Option<Shortage> {
        // No port was named: the address is in use where all of its ports are.
        if error.kind() == io::ErrorKind::AddrInUse { Some(Self::Ports) } else { Self::of(error) }
    }

    /// What it is called.
    pub const fn cause(self) -> Cause {
        match self {
            Self::Files | Self::Memory => Cause::NoSockets,
            Self::Ports => Cause::NoPorts,
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "no file descriptor is left here",
            Self::Memory => "no memory is left here for a socket",
            Self::Ports => "no port is left here",
        })
    }
}

/// The address that this machine would call that one from. Nothing is sent.
///
/// # Errors
/// Where there is no way there, as the system says.
pub(super) fn source_towards(address: SocketAddr) -> io::Result<SocketAddr> {
    let any = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(address)?;
    socket.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_told_from_what_the_other_end_says() {
        let error = |errno: Errno| io::Error::from(errno);
        let near = "127.0.0.1:1".parse().unwrap();
        for (number, lacking) in [
            (Errno::MFILE, Some(Shortage::Files)),
            (Errno::NFILE, Some(Shortage::Files)),
            (Errno::NOBUFS, Some(Shortage::Memory)),
            (Errno::NOMEM, Some(Shortage::Memory)),
            (Errno::CONNREFUSED, None),
            (Errno::HOSTUNREACH, None),
        ] {
            assert_eq!(Shortage::of(&error(number)), lacking, "{number}");
            assert_eq!(Shortage::towards(near, &error(number)), lacking, "{number}");
            assert_eq!(Shortage::binding(&error(number)), lacking, "{number}");
        }
        let (in_use, not_available) = (error(Errno::ADDRINUSE), error(Errno::ADDRNOTAVAIL));
        assert_eq!(Shortage::towards(near, &not_available), Some(Shortage::Ports));
        assert_eq!(Shortage::binding(&in_use), Some(Shortage::Ports));
        // An address that the operator named and this machine does not have.
        assert_eq!(Shortage::binding(&not_available), None);
        // There is no way there that a connection could take.
        assert_eq!(Shortage::towards("255.255.255.255:1".parse().unwrap(), &not_available), None);
    }
}
