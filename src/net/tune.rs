//! What the kernel is told about every connection: how long the other end may be silent to it, and how much it may hold.
//!
//! A host that vanished acknowledges nothing, and by itself Linux asks it for a quarter of an hour; the streams of those
//! who wait for it would stand for as long (CLS-04, CLS-05). And what the kernel holds unsent is lost without a trace when
//! the connection breaks, where the same octets in our own queue go back to their sender (CLS-02).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;

/// No delay for small writes, an end for connections whose other end acknowledges nothing for this time, and little room
/// for octets that cannot be sent yet. Told to a listener, it holds for all that it accepts (tcp(7), socket options).
pub fn tune(socket: &impl AsFd, patience: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(patience))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    Ok(())
}

/// Octets that wait in the kernel beside those under way. Enough for the network to be busy while we are woken.
const UNSENT: u32 = 128 * 1024;
