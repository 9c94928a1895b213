//! A channel of TLS on the connecting side that tells how much of what it took has not gone out.
//!
//! rustls takes octets, makes records of them, and holds these until the transport takes them. Of a connection that is cut then it must be
//! known which stanza is on its way and which is not. So nothing more is taken while a record waits, and the records that go are followed.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use super::Ahead;
use super::records::{RECORD, Records};

/// A channel that stands.
pub struct FarChannel<S> {
    tls: TlsStream<Ahead<Followed<S>>>,
    /// Octets that were taken last, all at once.
    taken: usize,
    /// The full records that had gone out before those.
    before: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FarChannel<S> {
    pub(super) fn new(tls: TlsStream<Ahead<Followed<S>>>) -> Self {
        Self { tls, taken: 0, before: 0 }
    }

    /// What was agreed on.
    pub fn session(&self) -> &ClientConnection {
        self.tls.get_ref().1
    }

    /// Octets of what was taken last that are in records of which the transport has not taken all.
    pub fn held(&self) -> usize {
        if !self.session().wants_write() {
            return 0;
        }
        // All records of what is taken at once are full, except the last one.
        let gone = self.full_ones().wrapping_sub(self.before) as usize;
        self.taken.saturating_sub(gone.saturating_mul(RECORD))
    }

    fn full_ones(&self) -> u32 {
        self.tls.get_ref().0.get_ref().records.full_ones()
    }

    /// Waits until nothing is held.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session().wants_write() {
            ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
        }
        self.before = self.full_ones();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FarChannel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FarChannel<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begin(cx))?;
        // The library makes records of as much as it has room for, in one go.
        self.taken = ready!(Pin::new(&mut self.tls).poll_write_vectored(cx, slices))?;
        Poll::Ready(Ok(self.taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for FarChannel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarChannel").finish_non_exhaustive()
    }
}

/// A stream with the records that have gone out on it.
#[derive(Debug)]
pub struct Followed<S> {
    inner: S,
    records: Records,
}

impl<S> Followed<S> {
    /// Nothing has gone out yet.
    pub(super) fn new(inner: S) -> Self {
        Self { inner, records: Records::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, octets))?;
        self.records.pass(octets.get(..sent).unwrap_or(octets));
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, slices))?;
        let mut left = sent;
        for slice in slices {
            let some = left.min(slice.len());
            self.records.pass(slice.get(..some).unwrap_or_default());
            left -= some;
        }
        Poll::Ready(Ok(sent))
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
