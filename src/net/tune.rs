//! What the kernel is told about every connection: how long the other end may be silent to it, and how much it may hold.
//!
//! A host that vanished acknowledges nothing, and by itself Linux asks it for a quarter of an hour; the streams of those
//! who wait for it would stand for as long (CLS-04, CLS-05). And what the kernel holds unsent is lost without a trace when
//! the connection breaks, where the same octets in our own queue go back to their sender (CLS-02).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, SockRef};

/// What is the same for all connections of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// How long the other end may acknowledge nothing.
    pub patience: Duration,
    /// The mark that packets bear on their way, for the routers (RFC 2474); none: that of the system.
    pub dscp: Option<u8>,
}

/// No delay for small writes, an end for connections whose other end acknowledges nothing for this time, and little room
/// for octets that cannot be sent yet. Told to a listener, it holds for all that it accepts (tcp(7), socket options).
///
/// # Errors
/// As the system says.
pub fn tune(socket: &impl AsFd, tuning: Tuning) -> io::Result<()> {
    match tuning.dscp {
        Some(dscp) => mark(socket, dscp)?,
        // There may have been one before; and nobody asks for none.
        None => drop(mark(socket, 0)),
    }
    pace(socket, tuning)
}

/// The same for a socket of our own making, which bears its mark already, if it has one.
///
/// # Errors
/// As the system says.
pub(super) fn pace(socket: &impl AsFd, Tuning { patience, .. }: Tuning) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(patience))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    Ok(())
}

/// Packets of this socket bear this mark, from the first on where it is not connected yet.
///
/// # Errors
/// As the system says.
pub fn mark(socket: &impl AsFd, dscp: u8) -> io::Result<()> {
    let (socket, octet) = (SockRef::from(socket), u32::from(dscp) << 2);
    #[cfg(target_os = "linux")]
    if socket.domain()? == Domain::IPV6 {
        // The connections of IPv4 that it takes bear the mark where the system lets them.
        let _four = socket.set_tos_v4(octet);
        return socket.set_tclass_v6(octet);
    }
    socket.set_tos_v4(octet)
}

/// Octets that wait in the kernel beside those under way. Enough for the network to be busy while we are woken.
const UNSENT: u32 = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::{Listener, connect};
    use super::*;

    // What is called and what is accepted bear the mark, over IPv4, IPv6, and IPv4 at a socket of IPv6.
    #[tokio::test]
    async fn every_connection_bears_the_mark() {
        let shown = |socket: &tokio::net::TcpStream| {
            let (four, socket) =
                (socket.local_addr().unwrap().ip().to_canonical().is_ipv4(), SockRef::from(socket));
            if four { socket.tos_v4().unwrap() } else { socket.tclass_v6().unwrap() }
        };
        for dscp in [None, Some(46)] {
            let tuning = Tuning { patience: Duration::from_secs(9), dscp };
            let params = connect::Params { tuning, ..connect::Params::default() };
            for (bound, called) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")]
            {
                let listener = Listener::bind(bound.parse().unwrap(), tuning).unwrap();
                let at = SocketAddr::new(called.parse().unwrap(), listener.local_addr().unwrap().port());
                let ours = connect(&[at], &params).await.unwrap().stream;
                let (theirs, _) = listener.accept().await.unwrap();
                let octet = u32::from(dscp.unwrap_or_default()) << 2;
                assert_eq!((shown(&ours), shown(&theirs)), (octet, octet), "{bound}");
                // And no more, once it is told so.
                listener.retune(Tuning { dscp: None, ..tuning }).unwrap();
                let _ours = connect(&[at], &params).await.unwrap();
                assert_eq!(shown(&listener.accept().await.unwrap().0), 0, "{bound}");
            }
        }
    }
}
