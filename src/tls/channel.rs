//! One channel of TLS on the accepting side: records are taken apart where they were read, and made where they are written from.
//!
//! A connection owns octets only while a record of it is not whole, or its socket takes none; all other space belongs to the
//! thread. The buffered interface of rustls keeps 4 KiB for each connection that was ever read, and moves what comes once more for
//! each 4 KiB of a record.
//!
//! **What it buys**, against the build before in one run of `cargo bench --bench load`: an idle session 12.5 KiB for 16.5, `echo` 0.81,
//! 64 KiB stanzas 0.81, the mix 0.97, logins 1.0 to 1.1.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::{Accepted, Acceptor, ServerConfig, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ahead::{Ahead, THREAD, too_long};
use super::made::{self, MADE, Made, WRITE};
use super::records::RECORD;

/// A channel that stands.
pub struct Channel<S> {
    ahead: Ahead<S>,
    records: Records,
    /// The records that were written last and have not all gone out: how many octets had been said late behind each, and how many it
    /// holds. While there are any, nothing more is taken.
    behind: Vec<(usize, usize)>,
    /// We have said that no more comes.
    over: bool,
}

/// The ClientHello of a connection that has just begun, and all octets that have come so far.
pub(super) struct Hello<S> {
    pub(super) ahead: Ahead<S>,
    pub(super) accepted: Accepted,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Hello<S> {
    /// Waits for it.
    ///
    /// # Errors
    /// With what has come.
    pub(super) async fn hear(mut ahead: Ahead<S>) -> Result<Self, (io::Error, Vec<u8>)> {
        let mut read = Vec::new();
        match Self::accepted(&mut ahead, &mut read).await {
            Ok(accepted) => Ok(Self { ahead, accepted, read }),
            Err(error) => Err((error, read)),
        }
    }

    async fn accepted(ahead: &mut Ahead<S>, read: &mut Vec<u8>) -> io::Result<Accepted> {
        let mut reader = Acceptor::default();
        loop {
            let before = read.len();
            more(ahead, read).await?;
            let mut rest = read.get(before..).unwrap_or_default();
            while !rest.is_empty() && reader.read_tls(&mut rest)? > 0 {
                match reader.accept() {
                    Ok(Some(accepted)) => return Ok(accepted),
                    Ok(None) => {}
                    Err((error, mut alert)) => {
                        let mut words = Vec::new();
                        // Best effort: the connection ends either way.
                        let _ = alert.write_all(&mut words);
                        ahead.say_late(&words);
                        let _ = ahead.let_go().await;
                        return Err(broken(error));
                    }
                }
            }
        }
    }

    /// Does the rest of the handshake.
    ///
    /// # Errors
    /// With the stream, which has still to let go of what was said last, and with what has come.
    pub(super) async fn shake(self, config: Arc<ServerConfig>) -> Result<Channel<S>, Broken<S>> {
        let Self { mut ahead, mut read, accepted } = self;
        drop(accepted);
        let mut records = match UnbufferedServerConnection::new(config) {
            Ok(session) => Records { session, got: Got::default() },
            Err(error) => return Err((broken(error), ahead, read)),
        };
        loop {
            match records.take_apart(&mut read, &mut ReadBuf::new(&mut []), &mut ahead) {
                Ok(done) => drop(read.drain(..done.min(read.len()))),
                Err(error) => return Err((error, ahead, read)),
            }
            if !records.session.is_handshaking() {
                read.shrink_to_fit();
                ahead.put_back(read);
                return Ok(Channel { ahead, records, behind: Vec::new(), over: false });
            }
            let outcome = match read.len() < MESSAGES {
                true => more(&mut ahead, &mut read).await,
                false => Err(too_long()),
            };
            if let Err(error) = outcome {
                return Err((error, ahead, read));
            }
        }
    }
}

/// A handshake that did not come about.
pub(super) type Broken<S> = (io::Error, Ahead<S>, Vec<u8>);

/// Reads more of a handshake.
async fn more<S>(ahead: &mut Ahead<S>, read: &mut Vec<u8>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        let mut space = [0; PART];
        let mut part = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut *ahead).poll_read(cx, &mut part))?;
        read.extend_from_slice(part.filled());
        Poll::Ready(match part.filled() {
            [] => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        })
    })
    .await
}

impl<S> Channel<S> {
    /// What was agreed on.
    pub fn session(&self) -> &CommonState {
        &self.records.session
    }

    /// Octets of what was taken last that are in records of which the transport has not taken all.
    pub fn held(&self) -> usize {
        let (gone, _) = self.ahead.late_said();
        self.behind.iter().filter(|(end, _)| *end > gone).map(|(_, octets)| octets).sum()
    }

    /// The stream under it.
    pub(super) fn ahead(&mut self) -> &mut Ahead<S> {
        &mut self.ahead
    }
}

impl<S> fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Channel<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { ahead, records, .. } = &mut *self;
        let before = buf.filled().len();
        if records.got.give(buf) || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut held = ahead.take_back();
        if !held.is_empty() {
            ahead.judge()?;
            let outcome = records.take_apart(&mut held, buf, ahead);
            drop(held.drain(..outcome.as_ref().map_or(0, |done| *done).min(held.len())));
            ahead.put_back(held);
            if let Err(error) = outcome {
                let _in_vain = ahead.poll_late(cx);
                return Poll::Ready(Err(error));
            }
        }
        while buf.filled().len() == before && !records.got.ended {
            let outcome = THREAD.with_borrow_mut(|space| {
                // A record of as much as is wanted.
                let count = ready!(ahead.poll_more(cx, space, buf.remaining().max(PART)))?;
                let octets = space.get_mut(..count).unwrap_or_default();
                let done = records.take_apart(octets, buf, ahead)?;
                ahead.put_back(octets.get(done..).unwrap_or_default().to_vec());
                Poll::Ready(Ok::<_, io::Error>(()))
            });
            if let Err(error) = ready!(outcome) {
                // Whoever caused it should hear of it.
                let _in_vain = ahead.poll_late(cx);
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Channel<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { ahead, records, behind, .. } = &mut *self;
        if !behind.is_empty() {
            ready!(ahead.poll_late(cx))?;
            *behind = Vec::new();
        }
        MADE.with_borrow_mut(|Made { plain, sealed, ends }| {
            ends.clear();
            let (mut count, mut end) = (0, 0);
            let mut left = bufs.iter().map(|buf| &**buf).filter(|buf| !buf.is_empty()).peekable();
            let mut part: &[u8] = &[];
            while count < WRITE {
                if part.is_empty() {
                    part = left.next().unwrap_or_default();
                }
                let one = part.len() >= RECORD || left.peek().is_none();
                let space = sealed.get_mut(end..).unwrap_or_default();
                let (octets, made) = if one {
                    let (now, later) = part.split_at(part.len().min(RECORD));
                    part = later;
                    (now.len(), records.seal(now, space, ahead)?)
                } else {
                    // Small parts share a record.
                    plain.clear();
                    loop {
                        let (now, later) = part.split_at(part.len().min(RECORD - plain.len()));
                        plain.extend_from_slice(now);
                        part = later;
                        match left.next_if(|_| part.is_empty() && plain.len() < RECORD) {
                            Some(next) => part = next,
                            None => break,
                        }
                    }
                    (plain.len(), records.seal(plain, space, ahead)?)
                };
                if octets == 0 {
                    break;
                }
                (count, end) = (count + octets, end + made);
                ends.push((end, octets));
            }
            let mut rest = sealed.get(..end).unwrap_or_default();
            while !rest.is_empty() {
                match Pin::new(&mut *ahead).poll_write(cx, rest)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(sent) => rest = rest.get(sent..).unwrap_or_default(),
                    Poll::Pending => {
                        // It is sealed in its place among all others, and must go as it is.
                        let (_, said) = ahead.late_said();
                        behind.extend(made::behind(ends, end - rest.len(), said));
                        ahead.say_late(rest);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(count))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.ahead).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { ahead, records, over, .. } = &mut *self;
        if !std::mem::replace(over, true) {
            records.say_goodbye(ahead)?;
        }
        match ready!(Pin::new(ahead).poll_shutdown(cx)) {
            // Who has gone needs not be told.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}

/// Records, taken apart and made.
struct Records {
    session: UnbufferedServerConnection,
    got: Got,
}

/// What came out of them.
#[derive(Default)]
struct Got {
    /// What they held beyond what was wanted, and how much of it was taken since.
    plain: Vec<u8>,
    taken: usize,
    /// Nothing more comes: they have said so.
    ended: bool,
    /// The first fault is the last one.
    fault: Option<Error>,
}

/// What is to be done with a state.
enum Next {
    /// To go on: there may be another.
    Again,
    /// The same, if there is room.
    Read,
    /// To read or to write.
    Rest,
}

type State<'c, 'i> = ConnectionState<'c, 'i, ServerConnectionData>;

impl Records {
    /// Takes records apart until none is whole any more, or there is no room left; how many octets are done with. What is to be
    /// answered is said late.
    fn take_apart<S>(
        &mut self,
        octets: &mut [u8],
        buf: &mut ReadBuf<'_>,
        ahead: &mut Ahead<S>,
    ) -> io::Result<usize> {
        if let Some(fault) = &self.got.fault {
            return Err(broken(fault.clone()));
        }
        let mut done = 0;
        loop {
            let rest = octets.get_mut(done..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(rest);
            done += discard;
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.got.fault = Some(error.clone());
                    self.last_words(octets.get_mut(done..).unwrap_or_default(), ahead);
                    return Err(broken(error));
                }
            };
            let (discard, next) = self.got.deal(state, buf, ahead)?;
            done += discard;
            match next {
                Next::Again => {}
                Next::Read if buf.remaining() > 0 => {}
                Next::Read | Next::Rest => return Ok(done),
            }
        }
    }

    /// The alert that follows a fault. Nothing is asked for behind it: the library would find the same fault once more.
    fn last_words<S>(&mut self, rest: &mut [u8], ahead: &mut Ahead<S>) {
        while let Ok(ConnectionState::EncodeTlsData(words)) = self.session.process_tls_records(rest).state {
            // Best effort: the connection ends either way.
            if say(words, ahead).map_or(true, |record| is_alert(&record)) {
                break;
            }
        }
    }

    /// Makes a record of these octets; how long it is.
    fn seal<S>(&mut self, octets: &[u8], space: &mut [u8], ahead: &mut Ahead<S>) -> io::Result<usize> {
        if octets.is_empty() {
            return Ok(0);
        }
        self.write(ahead, |traffic| traffic.encrypt(octets, space).map_err(io::Error::other))
    }

    /// Says that no more comes.
    fn say_goodbye<S>(&mut self, ahead: &mut Ahead<S>) -> io::Result<()> {
        let mut space = [0; AROUND];
        let count =
            self.write(ahead, |traffic| traffic.queue_close_notify(&mut space).map_err(io::Error::other))?;
        ahead.say_late(space.get(..count).unwrap_or_default());
        Ok(())
    }

    /// Does this with what encrypts, once nothing is in its way.
    fn write<S, T>(
        &mut self,
        ahead: &mut Ahead<S>,
        with: impl FnOnce(&mut rustls::unbuffered::WriteTraffic<'_, ServerConnectionData>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut held = ahead.take_back();
        let mut done = 0;
        let outcome = loop {
            let rest = held.get_mut(done..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(rest);
            done += discard;
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => break with(&mut traffic),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    break Err(io::ErrorKind::BrokenPipe.into());
                }
                Ok(state) => match self.got.deal(state, &mut ReadBuf::new(&mut []), ahead) {
                    Ok((discard, _)) => done += discard,
                    Err(error) => break Err(error),
                },
                Err(error) => {
                    self.got.fault = Some(error.clone());
                    self.last_words(held.get_mut(done..).unwrap_or_default(), ahead);
                    break Err(broken(error));
                }
            }
        };
        drop(held.drain(..done.min(held.len())));
        ahead.put_back(held);
        outcome
    }
}

impl Got {
    /// Gives what is left of the last record; whether there was anything.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let left = self.plain.get(self.taken..).unwrap_or_default();
        if left.is_empty() {
            return false;
        }
        let (now, later) = left.split_at(left.len().min(buf.remaining()));
        buf.put_slice(now);
        if later.is_empty() {
            (self.plain, self.taken) = (Vec::new(), 0);
        } else {
            self.taken += now.len();
        }
        true
    }

    /// Does what a state asks for; how many octets are done with, and what comes next.
    fn deal<S>(
        &mut self,
        state: State<'_, '_>,
        buf: &mut ReadBuf<'_>,
        ahead: &mut Ahead<S>,
    ) -> io::Result<(usize, Next)> {
        match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                let mut done = 0;
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(broken)?;
                    done += record.discard;
                    let (now, later) = record.payload.split_at(record.payload.len().min(buf.remaining()));
                    buf.put_slice(now);
                    self.plain.extend_from_slice(later);
                }
                Ok((done, Next::Read))
            }
            ConnectionState::EncodeTlsData(words) => say(words, ahead).map(|_| (0, Next::Again)),
            ConnectionState::TransmitTlsData(words) => {
                words.done();
                Ok((0, Next::Again))
            }
            ConnectionState::PeerClosed => {
                self.ended = true;
                Ok((0, Next::Rest))
            }
            ConnectionState::WriteTraffic(_)
            | ConnectionState::BlockedHandshake
            | ConnectionState::Closed => Ok((0, Next::Rest)),
            // There is no early data (TLS-14).
            _ => Err(broken(Error::General("TLS has come into a state that was ruled out".to_owned()))),
        }
    }
}

/// What TLS says of its own accord goes out late.
fn say<S>(mut words: EncodeTlsData<'_, ServerConnectionData>, ahead: &mut Ahead<S>) -> io::Result<Vec<u8>> {
    let mut space = Vec::new();
    if let Err(EncodeError::InsufficientSize(lacks)) = words.encode(&mut space) {
        space.resize(lacks.required_size, 0);
        words.encode(&mut space).map_err(io::Error::other)?;
    }
    ahead.say_late(&space);
    Ok(space)
}

/// Whether this record of ours is an alert: by its type, or, sealed as in TLS 1.3, by its length: three octets and the tag.
fn is_alert(record: &[u8]) -> bool {
    matches!(record, [21, ..] | [23, _, _, 0, 19, ..])
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Octets of a handshake that are read at once.
const PART: usize = 4 * 1024;

/// Octets around what a record holds: a header, a tag, and what else there may be.
const AROUND: usize = 256;

/// Octets of a handshake that are held at most.
const MESSAGES: usize = 64 * 1024;
