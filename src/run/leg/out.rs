//! What goes out, and how a connection is closed behind it.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::super::failure::lost;
use super::super::outbox::Sent;
use super::{Leg, Link, Next};
use crate::reason::Reason;

impl Leg {
    /// Sends what can be sent, and closes when all is said.
    pub(in crate::run) fn poll_out(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        stanza: Duration,
        close: Duration,
    ) -> Result<Sent, Reason> {
        if let Next::End(by) = &mut self.next {
            // Who takes an octet a minute would else keep his place for as long as he likes.
            by.get_or_insert(now + stanza);
        }
        if let Link::Open(io) = &mut self.link {
            let sent = match self.outbox.is_empty() {
                true => Sent::default(),
                false => match self.outbox.poll_send(io, cx, now) {
                    Ok(sent) => sent,
                    Err(error) => {
                        self.breaks();
                        return Err(lost(&error));
                    }
                },
            };
            if sent.moved {
                self.spoke = now;
            }
            if !(self.is_ending() && self.outbox.is_empty()) {
                return Ok(sent);
            }
            if let Link::Open(io) = std::mem::replace(&mut self.link, Link::Closed) {
                self.link = Link::Lingering { io, until: now + close, left: LINGER, shut: false };
            }
        }
        Ok(Sent { moved: self.poll_linger(cx), ..Sent::default() })
    }

    /// Closes our half, then throws away what still comes: a socket closed on unread octets would answer them with a
    /// reset, and the reset can overtake our last words.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> bool {
        let Link::Lingering { io, left, shut, .. } = &mut self.link else { return false };
        let mut moved = false;
        if !*shut {
            match Pin::new(&mut *io).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => {
                    *shut = true;
                    moved = true;
                }
                Poll::Ready(Err(_)) => {
                    self.link = Link::Closed;
                    return true;
                }
                Poll::Pending => return false,
            }
        }
        let mut space = [MaybeUninit::uninit(); 1024];
        loop {
            let mut buf = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && *left > 0 => {
                    *left = left.saturating_sub(buf.filled().len());
                    moved = true;
                }
                Poll::Ready(_) => {
                    self.link = Link::Closed;
                    return true;
                }
                Poll::Pending => return moved,
            }
        }
    }
}

/// Octets thrown away before a closed connection is given up.
const LINGER: usize = 64 * 1024;
