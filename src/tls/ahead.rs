//! Reads ahead of TLS: what the socket has is taken in one go, however little is asked for. The space read into belongs to the
//! thread; a connection owns octets only from when they were read until they were taken, which is before its caller reads on.
//!
//! And says late what a handshake says, if it is told to: not before there is nothing to read. What comes behind a handshake
//! of TLS 1.3, the ticket, goes out with the first answer where the first words came with the end of the handshake. Where they
//! did not it goes out at once: most clients leave Nagle's algorithm on, and hold their first words back until what they said
//! last is acknowledged, which a kernel that has nothing to send puts off for 40 ms.
//!
//! **What it buys.** rustls' own buffers ask for 4 KiB at a time and keep them: five system calls for a full record, and 4 KiB for each
//! idle session. With what [`super::channel`] does in this space an idle session went from 16.5 to 12.5 KiB, and an echo and a stanza of
//! 64 KiB each cost 0.81 of before: rows `idle`, `echo` and `big` of `cargo bench --bench load`. That the first octets are read
//! and not looked at, and the ticket goes out late, took a login from 10.82 to 9.84 reads and from 11.76 to 9.78 writes (`strace -f` over
//! row `login`); row `nagle` is the wait of 40 ms.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::records::{RECORD, Records};
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
    /// Octets of white space that are passed over before the first record.
    space: usize,
    /// What is said late and has not gone out.
    late: Vec<u8>,
    /// Octets of what was said late that have.
    late_gone: usize,
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
        let (records, watch) = (Records::default(), Watch::Remembers);
        Self { inner, records, watch, held: Vec::new(), taken: 0, space: 0, late: Vec::new(), late_gone: 0 }
    }

    /// White space was on its way when the other side was told to go on: so much of it is thrown away (TLS-05).
    #[must_use]
    pub fn after_space(mut self, most: usize) -> Self {
        self.space = most;
        self
    }

    /// This goes out with what is written next, or as soon as there is nothing to read.
    pub(super) fn say_late(&mut self, octets: &[u8]) {
        self.late.extend_from_slice(octets);
    }

    /// Octets that were ever said late: those that have gone out, and those with them that have not.
    pub(super) fn late_said(&self) -> (usize, usize) {
        (self.late_gone, self.late_gone.wrapping_add(self.late.len()))
    }

    /// What is held, to be taken apart where it lies.
    pub(super) fn take_back(&mut self) -> Vec<u8> {
        let mut held = std::mem::take(&mut self.held);
        drop(held.drain(..std::mem::take(&mut self.taken).min(held.len())));
        held
    }

    /// This comes before all that is held.
    pub(super) fn put_back(&mut self, mut octets: Vec<u8>) {
        octets.append(&mut self.take_back());
        self.held = octets;
    }

    /// The handshake is done; another one ends the connection with [`io::ErrorKind::InvalidData`] (TLS-13).
    pub fn settle(&mut self, version: TlsVersion) {
        self.watch = match version {
            // None that we have a hand in is at a proxy.
            TlsVersion::AtProxy | TlsVersion::V12 => Watch::Ends,
            TlsVersion::V13 => Watch::Off,
        };
    }

    /// What was read, without white space before the first record.
    fn after_blank<'a>(&mut self, read: &'a [u8]) -> &'a [u8] {
        let blank = |octet: &&u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n');
        let some = read.iter().take(self.space).take_while(blank).count();
        let rest = read.get(some..).unwrap_or_default();
        self.space = if rest.is_empty() { self.space.saturating_sub(some) } else { 0 };
        rest
    }

    /// Whether what was read up to here may be used.
    pub(super) fn judge(&self) -> io::Result<()> {
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

impl<S: AsyncWrite + Unpin> Ahead<S> {
    /// Sends what is said late.
    pub(super) async fn let_go(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_late(cx)).await
    }

    /// The same.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.late.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.late))?;
            self.gone(sent)?;
        }
        Poll::Ready(Ok(()))
    }

    /// So many octets of `late` have gone out.
    fn gone(&mut self, sent: usize) -> io::Result<()> {
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.late.drain(..sent.min(self.late.len()));
        self.late_gone = self.late_gone.wrapping_add(sent);
        if self.late.is_empty() {
            self.late = Vec::new();
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Ahead<S> {
    /// Waits for the first octets, and keeps them; few enough that whoever then waits for his turn holds little. False: the
    /// stream has ended.
    ///
    /// # Errors
    /// When the stream fails, or what it says may not be said here.
    pub async fn begin(&mut self) -> io::Result<bool> {
        poll_fn(|cx| {
            let mut space = [MaybeUninit::uninit(); FIRST];
            let mut buf = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
            self.see(buf.filled())?;
            self.held.extend_from_slice(buf.filled());
            Poll::Ready(Ok(!self.held.is_empty()))
        })
        .await
    }

    /// These octets were read.
    fn see(&mut self, read: &[u8]) -> io::Result<()> {
        if self.watch == Watch::Off {
            return Ok(());
        }
        self.records.pass(read);
        self.judge()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Ahead<S> {
    /// Reads behind what is held, all of it at the front of this space; how many octets there are then: those of records that hold so
    /// many at most, or of the one that has begun. None of them is held any longer. The end of the stream is an error: TLS has a word for it.
    ///
    /// What is read of one record more is copied twice until that is whole: with large records as much again as is read.
    pub(super) fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [u8],
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        let held = self.take_back();
        let (Some((front, part)), taken) = (space.split_at_mut_checked(held.len()), held.len()) else {
            return Poll::Ready(Err(too_long()));
        };
        let around = FRAME * wanted.div_ceil(RECORD).max(1);
        let most = (wanted + around).saturating_sub(taken).max(lacking(&held)).min(part.len());
        let mut part = ReadBuf::new(part.get_mut(..most).unwrap_or_default());
        let Poll::Ready(outcome) = self.poll_inner(cx, &mut part) else {
            self.held = held;
            return Poll::Pending;
        };
        outcome?;
        match part.filled() {
            _ if most == 0 => Poll::Ready(Err(too_long())),
            [] => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            read => {
                self.see(read)?;
                front.copy_from_slice(&held);
                Poll::Ready(Ok(taken + read.len()))
            }
        }
    }

    /// Reads what there is. Whoever is waited for must hear what he waits for: if there is nothing, what is late goes out. If that
    /// has to wait too, we are woken for both.
    fn poll_inner(&mut self, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_read(cx, space) {
            Poll::Pending => match self.poll_late(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            },
            ready => ready,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let held = &mut *self;
            return THREAD.with_borrow_mut(|space| {
                let mut space = ReadBuf::new(space);
                ready!(held.poll_inner(cx, &mut space))?;
                let all = space.filled();
                let read = held.after_blank(all);
                if read.is_empty() && !all.is_empty() {
                    // All of it was white space: the first record is still to come.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                held.see(read)?;
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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let ahead = &mut *self;
        if ahead.late.is_empty() {
            return match bufs {
                // One record as a rule; the kernel makes less of one part than of a list of one.
                [only] => Pin::new(&mut ahead.inner).poll_write(cx, only),
                many => Pin::new(&mut ahead.inner).poll_write_vectored(cx, many),
            };
        }
        // What came late goes first, and in the same write.
        let late = std::mem::take(&mut ahead.late);
        let all: Vec<_> =
            std::iter::once(IoSlice::new(&late)).chain(bufs.iter().map(|b| IoSlice::new(b))).collect();
        let outcome = Pin::new(&mut ahead.inner).poll_write_vectored(cx, &all);
        drop(all);
        ahead.late = late;
        let sent = ready!(outcome)?;
        let of_late = sent.min(ahead.late.len());
        ahead.gone(of_late)?;
        match sent - of_late {
            // Nothing of what was asked for has gone out.
            0 => self.poll_write_vectored(cx, bufs),
            more => Poll::Ready(Ok(more)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_late(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_late(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// How many octets at least are lacking to the record that begins so, or to its header.
fn lacking(begun: &[u8]) -> usize {
    match begun {
        [_, _, _, high, low, rest @ ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(rest.len()).max(1)
        }
        _ => HEADER,
    }
}

/// More has come than a message of a handshake may have.
pub(super) fn too_long() -> io::Error {
    let error = rustls::Error::from(rustls::InvalidMessage::HandshakePayloadTooLarge);
    io::Error::new(io::ErrorKind::InvalidData, error)
}

thread_local! {
    pub(super) static THREAD: RefCell<Vec<u8>> = RefCell::new(vec![0; SPACE]);
}

/// Octets that are read at once: as many as three full records are long, and one that has begun.
const SPACE: usize = 64 * 1024;

/// Octets of the header of a record (RFC 8446 5.1).
const HEADER: usize = 5;

/// Octets around what a record holds: the header, the nonce of TLS 1.2, and the tag.
const FRAME: usize = HEADER + 8 + 16;

/// Octets that are read before a handshake has its turn: as many as rustls asks for at once.
const FIRST: usize = 4 * 1024;

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
