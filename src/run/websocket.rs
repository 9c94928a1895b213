//! A client's stream over WebSocket, as octets like those of any other transport (RFC 7395).
//!
//! The frames are a library's; what a message means is said below the water line ([`crate::xml::to_stream`]). Here the two are
//! joined at the seam where a leg reads and writes, so that relay, limits, deadlines and drain are those of every other stream.
//! White space of ours goes out as a ping; pings and pongs of theirs come in as white space, as many octets as they cost.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};

use super::Io;
use crate::xml::{self, Limits, Messages, Unfit, Violation};

/// What a leg and its WebSocket tell each other.
#[derive(Debug)]
pub struct Frames {
    /// Octets that a message may have, and a frame of it.
    most: AtomicUsize,
    /// Octets that have come of a message that is not whole.
    unfinished: AtomicUsize,
}

impl Frames {
    /// From now on these limits hold for messages (WS-04).
    pub(super) fn limit(&self, limits: &Limits) {
        self.most.store(limits.element.max(limits.header), Ordering::Relaxed);
    }

    /// Octets that are held of a message whose end has not come.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Relaxed)
    }
}

/// What ends a stream, found by what brings its messages.
#[derive(Debug)]
pub(super) struct Breach(pub(super) Violation);

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Breach {}

/// A WebSocket that was agreed on.
#[derive(Debug)]
pub struct Socket<S> {
    web: WebSocket<Line<S>>,
    frames: Arc<Frames>,
    messages: Messages,
    /// What the last message is on a stream, as far as it was not taken.
    held: Bytes,
    /// The limit that the library knows.
    most: usize,
    /// Octets of the transport that were read when the last message was whole.
    whole: usize,
    way: Way,
    /// What the other side hears when the connection ends.
    code: CloseCode,
    /// It was told.
    told: bool,
    /// The library holds octets that the transport did not take.
    blocked: bool,
    /// What was taken and may not have gone out: how many octets the transport had been given behind it, and how many it was. None: not
    /// all of it has been given.
    behind: VecDeque<(Option<usize>, usize)>,
    /// Octets of answers to pings since all was last taken; the library keeps what does not go.
    owed: usize,
}

/// What is made of what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Messages.
    Messages,
    /// Nothing more: the other side has ended it.
    Ended,
    /// Nothing counts any more; octets are read so that our last words arrive.
    Dregs,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// On this transport, from the first octet behind the answer to the upgrade.
    pub fn new(io: S) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(Some(0))
            .max_frame_size(Some(0));
        let line = Line { io, waker: Waker::noop().clone(), read: 0, left: 0, given: 0 };
        Self {
            web: WebSocket::from_raw_socket(line, Role::Server, Some(config)),
            frames: Arc::new(Frames { most: AtomicUsize::new(0), unfinished: AtomicUsize::new(0) }),
            messages: Messages::new(),
            held: Bytes::new(),
            most: 0,
            whole: 0,
            way: Way::Messages,
            code: CloseCode::Away,
            told: false,
            blocked: false,
            behind: VecDeque::new(),
            owed: 0,
        }
    }

    /// What its leg asks and tells.
    pub fn frames(&self) -> Arc<Frames> {
        Arc::clone(&self.frames)
    }

    /// Sets the limits that hold now, and whom to wake.
    fn begin(&mut self, cx: &Context<'_>) {
        let most = self.frames.most.load(Ordering::Relaxed);
        if most != self.most {
            self.most = most;
            self.web.set_config(|config| {
                config.max_message_size = Some(most);
                config.max_frame_size = Some(most);
            });
        }
        let line = self.web.get_mut();
        line.waker.clone_from(cx.waker());
        line.left = TURN;
    }

    /// The next message as octets; none at the end.
    fn poll_message(&mut self) -> Poll<io::Result<Option<Bytes>>> {
        use tungstenite::{Error, Message, error::ProtocolError};
        let message = match self.web.read() {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.frames
                    .unfinished
                    .store(self.web.get_ref().read.wrapping_sub(self.whole), Ordering::Relaxed);
                return Poll::Pending;
            }
            message => message,
        };
        self.whole = self.web.get_ref().read;
        self.frames.unfinished.store(0, Ordering::Relaxed);
        Poll::Ready(match message {
            Ok(Message::Text(text)) => match xml::to_stream(&Bytes::from(text)) {
                Ok(octets) => Ok(Some(octets)),
                Err(violation) => Err(self.broke(violation)),
            },
            Ok(message @ (Message::Ping(_) | Message::Pong(_))) => {
                let is_asked = message.is_ping();
                let octets = message.into_data();
                if is_asked {
                    self.owed = self.owed.saturating_add(octets.len()).saturating_add(HEADER);
                }
                let cost = octets.len().saturating_add(HEADER).min(SPACE.len());
                Ok(Some(Bytes::from_static(SPACE.get(..cost).unwrap_or_default())))
            }
            Ok(Message::Binary(_) | Message::Frame(_)) => {
                Err(self.unfit(Unfit::Binary, CloseCode::Unsupported))
            }
            Ok(Message::Close(_)) => {
                // The answer; the connection ends either way.
                let _answered = self.web.flush();
                Ok(None)
            }
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(None),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ok(None),
            Err(Error::Io(error)) => Err(error),
            Err(Error::Capacity(_)) => Err(self.unfit(Unfit::TooLarge, CloseCode::Size)),
            Err(Error::Utf8(_)) => Err(self.unfit(Unfit::NotText, CloseCode::Invalid)),
            Err(_) => Err(self.unfit(Unfit::Frames, CloseCode::Protocol)),
        })
    }

    fn unfit(&mut self, unfit: Unfit, code: CloseCode) -> io::Error {
        self.code = code;
        self.broke(unfit.violation())
    }

    fn broke(&mut self, violation: Violation) -> io::Error {
        self.way = Way::Dregs;
        io::Error::other(Breach(violation))
    }

    fn poll_out(&mut self) -> Poll<io::Result<()>> {
        let flushed = self.web.flush();
        self.blocked = matches!(settled(flushed)?, Poll::Pending);
        if self.blocked {
            return Poll::Pending;
        }
        self.owed = 0;
        // All that was taken has been given.
        let given = self.web.get_ref().given;
        self.behind.iter_mut().for_each(|(end, _)| *end = end.or(Some(given)));
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> Io for Socket<S> {
    fn held(&self) -> usize {
        let Line { io, given, .. } = self.web.get_ref();
        let out = given.saturating_sub(io.held());
        self.behind.iter().filter(|(end, _)| end.is_none_or(|end| end > out)).map(|(_, octets)| octets).sum()
    }
}

/// Whether the transport took it: what the library did not get rid of it keeps.
fn settled(outcome: tungstenite::Result<()>) -> io::Result<Poll<()>> {
    use tungstenite::Error;
    match outcome {
        Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(Poll::Ready(())),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(Poll::Pending),
        Err(Error::Io(error)) => Err(error),
        // They have closed it, and hear no more.
        Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.begin(cx);
        while this.held.is_empty() {
            match this.way {
                Way::Ended => return Poll::Ready(Ok(())),
                Way::Dregs => return Pin::new(&mut this.web.get_mut().io).poll_read(cx, buf),
                // Who asks on and on and takes no answer is not read from until he does.
                Way::Messages if this.owed > OWED => std::task::ready!(this.poll_out())?,
                Way::Messages => match std::task::ready!(this.poll_message())? {
                    Some(octets) => this.held = octets,
                    None => this.way = Way::Ended,
                },
            }
        }
        let some = this.held.len().min(buf.remaining());
        buf.put_slice(this.held.get(..some).unwrap_or_default());
        this.held.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl<S: Io> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.begin(cx);
        if this.blocked {
            std::task::ready!(this.poll_out())?;
        }
        if this.held() == 0 {
            this.behind.clear();
        }
        let messages = this.messages.cut(octets).map_err(|violation| {
            tracing::error!(%violation, "what goes to a client over WebSocket is no stream of ours");
            io::Error::other(Breach(violation))
        })?;
        for message in messages {
            let message = match message {
                xml::Message::Element(text) => tungstenite::Message::text(text),
                xml::Message::Alive => tungstenite::Message::Ping(Bytes::new()),
                xml::Message::Close(text) => {
                    if this.code == CloseCode::Away {
                        this.code = CloseCode::Normal;
                    }
                    tungstenite::Message::text(text)
                }
            };
            this.blocked |= settled(this.web.write(message))?.is_pending();
        }
        let given = this.web.get_ref().given;
        this.behind.push_back(((!this.blocked).then_some(given), octets.len()));
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.begin(cx);
        self.poll_out()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.begin(cx);
        if !std::mem::replace(&mut this.told, true) {
            let frame = CloseFrame { code: this.code, reason: "".into() };
            // What does not go at once goes with the flush.
            let _blocked = settled(this.web.close(Some(frame)));
        }
        // Where they have closed it themselves there is nobody to tell.
        let _sent = std::task::ready!(this.poll_out());
        this.way = Way::Dregs;
        this.held = Bytes::new();
        Pin::new(&mut this.web.get_mut().io).poll_shutdown(cx)
    }
}

/// The transport as the library wants it: what cannot be done now says so, and wakes whoever asked last.
#[derive(Debug)]
struct Line<S> {
    io: S,
    waker: Waker,
    /// Octets read so far, and given to it.
    read: usize,
    given: usize,
    /// What may be read before others have their turn: frames without content would keep us for ever.
    left: usize,
}

impl<S: AsyncRead + Unpin> Read for Line<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.waker.wake_by_ref();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = buf.len().min(self.left);
        let mut buf = ReadBuf::new(buf.get_mut(..most).unwrap_or_default());
        match Pin::new(&mut self.io).poll_read(&mut Context::from_waker(&self.waker), &mut buf) {
            Poll::Ready(outcome) => {
                outcome?;
                let octets = buf.filled().len();
                self.read = self.read.wrapping_add(octets);
                self.left = self.left.saturating_sub(octets);
                Ok(octets)
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Line<S> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut self.io).poll_write(&mut Context::from_waker(&self.waker), octets) {
            Poll::Ready(outcome) => outcome.inspect(|octets| self.given = self.given.saturating_add(*octets)),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Octets that the library reads at once.
const READ: usize = 4096;

/// Octets of answers to pings that may wait to be taken.
const OWED: usize = 16 * 1024;

/// Octets of the transport read in one turn.
const TURN: usize = 16 * 1024;

/// Octets of the header of a short frame of a client.
const HEADER: usize = 6;

/// As much as the largest ping costs.
const SPACE: &[u8] = &[b' '; 125 + HEADER];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    use super::*;

    // Answers to pings are kept until they are taken: whoever takes none is not read from any more, and goes on when he does.
    #[tokio::test(start_paused = true)]
    async fn who_asks_on_and_on_and_takes_no_answer_is_not_read_from() {
        const WHILE: Duration = Duration::from_secs(1);
        let (ours, mut theirs) = duplex(1024);
        let mut socket = Socket::new(ours);
        socket.frames.most.store(1 << 16, Ordering::Relaxed);
        tokio::spawn(async move {
            let mut space = [0; 4096];
            while socket.read(&mut space).await.is_ok_and(|octets| octets > 0) {}
        });
        let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
        let mut sent = 0;
        while let Ok(written) = timeout(WHILE, theirs.write_all(&ping)).await {
            written.unwrap();
            sent += ping.len();
            assert!(sent < 2 * OWED, "{sent} octets of pings, and no end");
        }
        assert!(sent > OWED / 2, "{sent}");
        let (mut answers, mut heard) = ([0; 4096], 0);
        while let Ok(octets) = timeout(WHILE, theirs.read(&mut answers)).await {
            heard += octets.unwrap();
        }
        assert!(heard > sent / 2, "{heard} of {sent}");
        assert!(timeout(WHILE, theirs.write(&[0])).await.is_ok());
    }

    // CLS-02: what the other side can read whole is not held, and all else is, wherever the transport stops.
    #[tokio::test]
    async fn what_is_held_is_what_the_other_side_cannot_read() {
        // Only room is to be lacking, and no turn.
        tokio::task::unconstrained(cut_wherever_it_stops()).await;
    }

    async fn cut_wherever_it_stops() {
        const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
            xmlns:stream='http://etherx.jabber.org/streams' from='a.example' version='1.0'>";
        let stanza = format!("<message><body>{}</body></message>", "x".repeat(100));
        for room in (200..1_500).step_by(7) {
            let (ours, mut theirs) = duplex(room);
            let mut socket = Socket::new(ours);
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(matches!(Pin::new(&mut socket).poll_write(cx, HEADER.as_bytes()), Poll::Ready(Ok(_))));
            let (mut taken, mut heard) = (0, Vec::new());
            // A part is read once, so that it goes on from where it stopped.
            for part in [0, 150, 50] {
                let mut some = vec![0; part];
                if part > 0 {
                    let octets = theirs.read(&mut some).await.unwrap();
                    heard.extend_from_slice(&some[..octets]);
                    let _flushed = Pin::new(&mut socket).poll_flush(cx);
                }
                while let Poll::Ready(outcome) = Pin::new(&mut socket).poll_write(cx, stanza.as_bytes()) {
                    assert_eq!(outcome.unwrap(), stanza.len());
                    taken += 1;
                }
            }
            let held = socket.held();
            drop(socket);
            theirs.read_to_end(&mut heard).await.unwrap();
            let mut reader = WebSocket::from_raw_socket(io::Cursor::new(heard), Role::Client, None);
            let mut read = 0;
            while reader.read().is_ok() {
                read += 1;
            }
            // The header of the stream is the first.
            assert_eq!(read - 1, taken - held / stanza.len(), "room for {room}, {taken} taken, {held} held");
            assert_eq!(held % stanza.len(), 0, "room for {room}");
        }
    }
}
