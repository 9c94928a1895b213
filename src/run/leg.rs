//! One leg: a transport, the framer that cuts what it brings, and the outbox of what it takes.
//!
//! A leg moves octets between buffers and never waits; the loop in [`super::pump`] asks it when its time has come. It
//! holds memory only while an element is incomplete or the other end takes no octets.

mod out;
mod timers;

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio_util::io::poll_read_buf;

pub(super) use self::timers::Due;
use super::failure::lost;
use super::outbox::Outbox;
use super::progress::{ConnectStep, Progress};
use super::setups::SetUp;
use super::websocket::{Breach, Frames};
use super::{BoxIo, Connection, Failure, Handshake, RemainingCandidates};
use crate::reason::{Cause, Detail, Reason, Why};
use crate::stream::Secured;
use crate::stream::dane::Published;
use crate::xml::{Content, Framer, Limits, Token};

/// One leg.
pub(super) struct Leg {
    pub(super) link: Link,
    pub(super) framer: Framer,
    pub(super) outbox: Outbox,
    /// What comes as soon as the outbox is empty.
    next: Next,
    /// How long its other side may take no octets, where that is less than usual.
    patience: Option<Duration>,
    /// The `to` of the last stream header, for the choice of a certificate.
    pub(super) named: Option<String>,
    /// The first octet must come before this.
    first: Option<Instant>,
    /// An element has begun then, and is not complete.
    begun: Option<Instant>,
    /// Octets that came before the leg was proven; none once it is.
    unproven: Option<usize>,
    /// When we said something last.
    spoke: Instant,
    /// The last read brought so much that the next one goes straight to the framer. One that brings little would have its
    /// stanzas hold on to all the room.
    bulk: bool,
    /// It had nothing to read in this turn of the loop, and wakes us when it has.
    pub(super) quiet: bool,
    /// Since when we do not read although we could: that time is not the other side's.
    held: Option<Instant>,
    /// What was found out about its trouble: by us, or in the other side's own words.
    pub(super) detail: Option<Box<Detail>>,
    /// The address that was called.
    pub(super) called: Option<SocketAddr>,
    /// The address of ours that it was called from, as far as it is known.
    pub(super) local: Option<SocketAddr>,
    /// How far the connection has come, until it is there.
    progress: Option<Progress>,
    /// Its place among those that are set up with the same address, until it is proven. Boxed: most have none.
    set_up: Option<Box<SetUp>>,
    /// The last channel of this attempt, or of the one before it.
    pub(super) shown: Option<Secured>,
    /// What the DNS says of its certificate, until TLS begins.
    pub(super) published: Option<Arc<Published>>,
    /// What brings its octets in messages, where they come so.
    frames: Option<Arc<Frames>>,
    /// The other side has ended the connection, or it failed: what the kernel holds may never arrive.
    broken: bool,
}

/// What comes when all is out that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It goes on as it is.
    Same,
    /// TLS.
    Upgrade,
    /// The end. All must be out by then, once something has been tried to be sent.
    End(Option<Instant>),
}

/// How far the transport is.
pub(super) enum Link {
    /// We are connecting.
    Connecting(Connection),
    /// Octets go both ways.
    Open(BoxIo),
    /// The handshake runs.
    Upgrading(Handshake),
    /// All is said; the other side may still read it.
    Lingering { io: BoxIo, until: Instant, left: usize, shut: bool },
    /// There is nothing any more.
    Closed,
}

/// What was found out about the transport.
pub(super) enum Found {
    /// A connection, or that there is none.
    Connected(Box<dyn RemainingCandidates>, Result<(IpAddr, Option<Secured>), Why>),
    /// The handshake is done.
    Secured(Secured),
    /// The handshake failed.
    Failed(Reason),
}

impl Leg {
    /// A leg that arrived. In clear, its first octet must come before `first`.
    pub(super) fn arrived(
        io: BoxIo,
        first: Option<Instant>,
        content: Content,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        Self { first, ..Self::new(Link::Open(io), content, limits, now) }
    }

    /// A leg that we open.
    pub(super) fn connecting(
        (connection, progress): (Connection, Option<Progress>),
        content: Content,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        Self { progress, ..Self::new(Link::Connecting(connection), content, limits, now) }
    }

    /// How far it has come, while a connection is made.
    pub(super) fn step(&self) -> Option<ConnectStep> {
        self.progress.as_ref().map(Progress::step)
    }

    /// Whether its connection is yet to be called for.
    pub(super) fn is_ahead_of_call(&self) -> bool {
        self.step().is_some_and(|step| !step.is_call())
    }

    /// That nobody waits any longer for the connection that is made.
    pub(super) fn given_up(&self) -> Option<Detail> {
        self.step().map(|step| Detail::new(Cause::TimedOut, step.to_string()))
    }

    /// The address that is called, or was.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.step().and_then(|step| step.address()).or(self.called)
    }

    fn new(link: Link, content: Content, limits: &Limits, now: Instant) -> Self {
        Self {
            link,
            framer: Framer::new(limits.clone(), content),
            outbox: Outbox::default(),
            next: Next::Same,
            patience: None,
            named: None,
            first: None,
            begun: None,
            unproven: Some(0),
            spoke: now,
            bulk: false,
            quiet: false,
            held: None,
            detail: None,
            called: None,
            local: None,
            progress: None,
            set_up: None,
            shown: None,
            published: None,
            frames: None,
            broken: false,
        }
    }

    /// What it brings comes in messages, each element in one of its own (RFC 7395).
    pub(super) fn in_messages(mut self, frames: Arc<Frames>, limits: &Limits) -> Self {
        frames.limit(limits);
        self.framer = self.framer.alone();
        self.frames = Some(frames);
        self
    }

    /// Octets that are held of what has begun to come.
    pub(super) fn buffered(&self) -> usize {
        self.framer.buffered() + self.unfinished()
    }

    /// Octets that are held of a message that is not whole.
    fn unfinished(&self) -> usize {
        self.frames.as_ref().map_or(0, |frames| frames.unfinished())
    }

    /// Takes the place of another attempt, whose trouble is not forgotten.
    pub(super) fn after(self, before: &mut Self) -> Self {
        Self { detail: before.detail.take(), called: before.called, shown: before.shown.take(), ..self }
    }

    /// Remembers what is known of a failure; its reason.
    fn failed(&mut self, failure: Failure) -> Reason {
        self.detail = failure.detail.or(self.detail.take());
        self.called = failure.address.or(self.called);
        failure.reason
    }

    /// The connection broke; why, and whether TLS knows more. What messages may not be ends the stream in good order, as what
    /// the framer finds: one octet was read.
    fn broke(&mut self, error: &io::Error) -> Result<usize, Reason> {
        if let Some(Breach(violation)) = error.get_ref().and_then(|error| error.downcast_ref()) {
            self.framer.break_off(*violation);
            return Ok(1);
        }
        self.breaks();
        if let Some(detail) = crate::tls::late(error) {
            self.detail = Some(Box::new(detail));
        }
        Err(lost(error))
    }

    /// Whether it has come to its end.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.link, Link::Closed)
    }

    /// Whether octets of the stream may be read.
    pub(super) fn is_readable(&self) -> bool {
        matches!(self.link, Link::Open(_)) && self.next == Next::Same
    }

    /// Whether it ends as soon as all is out.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.next, Next::End(_))
    }

    /// Whether TLS is to begin now: all is out that goes before.
    pub(super) fn is_upgrade_due(&self) -> bool {
        self.next == Next::Upgrade && self.outbox.is_empty() && matches!(self.link, Link::Open(_))
    }

    /// TLS begins as soon as all is out, unless it ends then.
    pub(super) fn upgrades(&mut self) {
        if self.next == Next::Same {
            self.next = Next::Upgrade;
        }
    }

    /// The transport to begin TLS on; the leg has none until that is done.
    pub(super) fn take_transport(&mut self) -> Option<BoxIo> {
        self.next = Next::Same;
        match std::mem::replace(&mut self.link, Link::Closed) {
            Link::Open(io) => Some(io),
            _ => None,
        }
    }

    /// Whether it has been read to the end, in this turn, and has nothing to send or to begin.
    pub(super) fn is_settled(&self) -> bool {
        self.quiet && self.is_readable() && self.outbox.is_empty()
    }

    /// Whether it waits for nothing but its next octet, or for the time to say something.
    pub(super) fn rests(&self) -> bool {
        let waits = self.first.is_some() || self.begun.is_some();
        self.is_settled() && !waits && self.unproven.is_none() && self.outbox.shut().is_none()
    }

    /// Whether more waits to go out than should.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.octets() > HIGH_WATER
    }

    /// Whether more of what we say ourselves waits to go out than should: more would come of what is read.
    pub(super) fn is_choked(&self) -> bool {
        self.outbox.said() > HIGH_WATER
    }

    /// Waits on connecting and on the handshake.
    pub(super) fn poll_link(&mut self, cx: &mut Context<'_>) -> Option<Found> {
        if matches!(self.link, Link::Connecting(_) | Link::Upgrading(_)) {
            self.quiet = false;
        }
        match &mut self.link {
            Link::Connecting(connection) => {
                let Poll::Ready((route, outcome)) = connection.as_mut().poll(cx) else { return None };
                self.progress = None;
                Some(Found::Connected(
                    route,
                    match outcome {
                        Ok(connected) => {
                            self.link = Link::Open(connected.io);
                            self.called = Some(connected.address);
                            self.local = connected.local;
                            self.published = Some(connected.published);
                            self.set_up = connected.set_up.map(Box::new);
                            self.shown = connected.secured.clone().or(self.shown.take());
                            Ok((connected.address.ip(), connected.secured))
                        }
                        Err(failure) => {
                            self.link = Link::Closed;
                            let detail = failure.detail.as_deref().cloned();
                            Err(Why { reason: self.failed(failure), detail })
                        }
                    },
                ))
            }
            Link::Upgrading(handshake) => {
                let Poll::Ready(outcome) = handshake.as_mut().poll(cx) else { return None };
                Some(match outcome {
                    Ok((io, secured)) => {
                        self.link = Link::Open(io);
                        self.shown = Some(secured.clone());
                        Found::Secured(secured)
                    }
                    Err(failure) => Found::Failed(self.failed(failure)),
                })
            }
            Link::Open(_) | Link::Lingering { .. } | Link::Closed => None,
        }
    }

    /// Reads once, into the framer. The number of octets; 0 at the end of the file.
    pub(super) fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Reason>> {
        let Link::Open(io) = &mut self.link else { return Poll::Pending };
        if self.quiet {
            return Poll::Pending;
        }
        // What a large element has still to come is its own: nothing small would hold on to so much.
        let most = if self.framer.buffered() >= READ { LARGE_READ } else { READ };
        let room = if self.bulk { self.framer.room(most) } else { None };
        if let Some(read) = room.map(|mut room| poll_read_buf(Pin::new(&mut *io), cx, &mut room)) {
            self.bulk = matches!(read, Poll::Ready(Ok(octets)) if octets >= BULK);
            self.quiet = read.is_pending();
            if self.quiet {
                self.framer.give_back();
            }
            return read.map(|read| read.or_else(|e| self.broke(&e)));
        }
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buf = ReadBuf::uninit(&mut space);
        match Pin::new(io).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {
                let octets = buf.filled();
                self.bulk = self.unproven.is_none() && octets.len() >= BULK;
                // ACC-11: a ClientHello where a stream header is due.
                if self.first.take().is_some() && octets.first() == Some(&TLS_HANDSHAKE) {
                    return Poll::Ready(Err(Reason::WrongTransport));
                }
                self.framer.feed(octets);
                if let Some(total) = &mut self.unproven {
                    *total = total.saturating_add(octets.len());
                }
                if let Some(set_up) = &mut self.set_up {
                    set_up.hears();
                }
                Poll::Ready(Ok(octets.len()))
            }
            Poll::Ready(Err(e)) => Poll::Ready(self.broke(&e)),
            Poll::Pending => {
                self.quiet = true;
                Poll::Pending
            }
        }
    }

    /// The next token.
    pub(super) fn next(&mut self, now: Instant) -> Option<Token> {
        let token = self.framer.next();
        if token.is_some() {
            self.begun = None;
        }
        self.look(now);
        if let Some(Token::Header(header)) = &token {
            self.named.clone_from(&header.to);
        }
        token
    }

    /// Looks whether an element has begun and is not complete.
    pub(super) fn look(&mut self, now: Instant) {
        if !self.framer.is_mid_element() && self.unfinished() == 0 {
            self.begun = None;
        } else if self.begun.is_none() {
            self.begun = Some(now);
        }
    }

    /// Tells whether we read now; while we do not, an unfinished element is not the other side's fault.
    pub(super) fn reading(&mut self, reads: bool, now: Instant) {
        if !reads {
            self.held.get_or_insert(now);
        } else if let Some(since) = self.held.take() {
            self.begun = self.begun.map(|b| b + now.saturating_duration_since(since));
        }
    }

    /// The leg is proven: what it may bring is counted by element only.
    pub(super) fn proven(&mut self, limits: &Limits) {
        self.framer.set_limits(limits.clone());
        if let Some(frames) = &self.frames {
            frames.limit(limits);
        }
        self.unproven = None;
        if let Some(set_up) = self.set_up.take() {
            set_up.stands();
        }
    }

    /// Whether more has come than an unproven connection may bring (L-preauth-total).
    pub(super) fn is_excessive(&self, most: usize) -> bool {
        self.unproven.is_some_and(|total| total > most)
    }

    /// Ends it when all is said, or before it is begun.
    pub(super) fn end(&mut self) {
        self.set_up = None;
        match self.link {
            Link::Open(_) if self.is_ending() => {}
            Link::Open(_) => self.next = Next::End(None),
            Link::Connecting(_) | Link::Upgrading(_) => self.link = Link::Closed,
            Link::Lingering { .. } | Link::Closed => {}
        }
    }

    /// The other side has ended the connection, or it failed.
    pub(super) fn breaks(&mut self) {
        self.broken = true;
    }

    /// Its connection is no more; the stanzas that did not go out, oldest first.
    pub(super) fn cut(&mut self) -> Vec<Bytes> {
        let held = match &self.link {
            Link::Open(io) | Link::Lingering { io, .. } if !self.broken => Some(io.held()),
            _ => None,
        };
        self.link = Link::Closed;
        self.set_up = None;
        if self.next == Next::Upgrade {
            self.next = Next::Same;
        }
        self.outbox.take_unsent(held)
    }

    /// A fresh stream on the same connection.
    pub(super) fn restart(&mut self) {
        self.framer.restart();
        self.begun = None;
    }
}

/// Reading from the other side stops above this (one frame more can be held): nearly what one turn brings, which is to go out in one write.
const HIGH_WATER: usize = 128 * 1024;

/// Octets of one read.
const READ: usize = 16 * 1024;

/// Octets of one read where as many as in one read before belong to an element that is not complete: that is moved, and looked at, less
/// often. Stanzas of 64 KiB cost 0.85 to 0.86 of what they cost otherwise, 0.95 in a build with link-time optimisation (row `big`).
const LARGE_READ: usize = 3 * READ;

/// Octets of a read that promise as many in the next one.
const BULK: usize = READ / 2;

/// The content type of a TLS record that holds a ClientHello (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
