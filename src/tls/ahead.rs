//! Reads ahead of TLS: what the socket has is taken in one go, however little is asked for.
//!
//! rustls asks for 4 KiB at a time, which makes five system calls of one record. The space read into belongs to the
//! thread; a connection owns octets only from when they were read until rustls has taken them, which is before its caller
//! reads on.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::records::Records;
use crate::stream::secured::TlsVersion;

/// A stream that is read in large parts.
#[derive(Debug)]
pub struct Ahead<S> {
    inner: S,
    records: Records,
    watch: Watch,
    held: Vec<u8>,
    /// Octets of `held` that were taken.
    taken: usize,
}

/// What becomes of a handshake behind the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// It is remembered: the version is not known yet.
    Remembers,
    /// It ends the connection (TLS 1.2).
    Ends,
    /// It cannot be seen (TLS 1.3).
    Off,
}

impl<S> Ahead<S> {
    /// Nothing has been read yet.
    pub fn new(inner: S) -> Self {
        Self { inner, records: Records::default(), watch: Watch::Remembers, held: Vec::new(), taken: 0 }
    }

    /// The handshake is done; another one ends the connection with [`io::ErrorKind::InvalidData`] (TLS-13).
    pub fn settle(&mut self, version: TlsVersion) {
        self.watch = match version {
            TlsVersion::V12 => Watch::Ends,
            TlsVersion::V13 => Watch::Off,
        };
    }

    /// Whether what was read up to here may be used.
    fn judge(&self) -> io::Result<()> {
        match self.watch {
            Watch::Ends if self.records.has_begun_anew() => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "renegotiation of TLS"))
            }
            Watch::Ends | Watch::Remembers | Watch::Off => Ok(()),
        }
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Gives what is held.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let left = self.held.get(self.taken..).unwrap_or_default();
        let (now, later) = left.split_at(left.len().min(buf.remaining()));
        buf.put_slice(now);
        if later.is_empty() {
            (self.held, self.taken) = (Vec::new(), 0);
        } else {
            self.taken += now.len();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let held = &mut *self;
            return THREAD.with_borrow_mut(|space| {
                let mut space = ReadBuf::new(space);
                ready!(Pin::new(&mut held.inner).poll_read(cx, &mut space))?;
                let read = space.filled();
                if held.watch != Watch::Off {
                    held.records.pass(read);
                    held.judge()?;
                }
                let (now, later) = read.split_at(read.len().min(buf.remaining()));
                buf.put_slice(now);
                held.held.extend_from_slice(later);
                Poll::Ready(Ok(()))
            });
        }
        self.judge()?;
        self.give(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match bufs {
            // One record as a rule; the kernel makes less of one part than of a list of one.
            [only] => Pin::new(&mut self.inner).poll_write(cx, only),
            many => Pin::new(&mut self.inner).poll_write_vectored(cx, many),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

thread_local! {
    static THREAD: RefCell<Vec<u8>> = RefCell::new(vec![0; SPACE]);
}

/// Octets that are read at once: four full records.
const SPACE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// Gives what it is made of, one part for each read, and counts the reads.
    struct Parts(Vec<Vec<u8>>, usize);

    impl AsyncRead for Parts {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1 += 1;
            let Some(part) = self.0.first_mut() else { return Poll::Ready(Ok(())) };
            let now = part.len().min(buf.remaining());
            buf.put_slice(&part[..now]);
            part.drain(..now);
            if part.is_empty() {
                self.0.remove(0);
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_record_that_is_asked_for_in_small_parts_costs_one_read() {
        let record: Vec<u8> = (0..16_406u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut ahead = Ahead::new(Parts(vec![record.clone()], 0));
        let (mut space, mut got) = ([0; 4096], Vec::new());
        while got.len() < record.len() {
            let count = ahead.read(&mut space).await.unwrap();
            got.extend_from_slice(&space[..count]);
        }
        assert_eq!((got == record, ahead.get_ref().1), (true, 1));
        assert_eq!(ahead.held.capacity(), 0, "nothing is kept of what was taken");
    }

    #[tokio::test]
    async fn the_end_is_told_after_the_last_octet() {
        let mut ahead = Ahead::new(Parts(vec![b"abc".to_vec(), vec![7; SPACE + 1]], 0));
        let mut two = [0; 2];
        assert_eq!((ahead.read(&mut two).await.unwrap(), two), (2, *b"ab"));
        assert_eq!(ahead.read(&mut two).await.unwrap(), 1);
        let mut rest = Vec::new();
        ahead.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, vec![7; SPACE + 1]);
        assert_eq!(ahead.read(&mut two).await.unwrap(), 0);
    }
}
