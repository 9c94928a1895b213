//! What waits to go out on one leg, with its frame boundaries kept.
//!
//! Stanzas stay known as stanzas until the transport has let them out, so that a connection that breaks gives back what
//! did not go out whole (requirements CLS-02, BE-11). Several complete elements go out in one write. The valve of the
//! admitted pair, if there is one, is asked before each stanza; what we author ourselves is never charged for.

mod blank;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWrite as _;

use self::blank::Blank;
use super::BoxIo;
use crate::limit::{Allowance, Rated, Shut, Valve};

/// The queue of one leg.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Octets of the first chunk that the transport has taken.
    taken: usize,
    /// Chunks at the front that the valve has let go.
    released: usize,
    /// Stanzas that the transport has taken and maybe not let out: with TLS, they may still lie in its buffer. Each with the octets that
    /// the transport had taken since its last flush when it had taken the stanza.
    unflushed: Vec<(Bytes, usize)>,
    /// Octets that the transport has taken since its last flush.
    unflushed_octets: usize,
    /// Stanzas that came in here in all, and that the transport has let out.
    given: u64,
    flushed: u64,
    dirty: bool,
    octets: usize,
    /// Those of them that we author.
    said: usize,
    stanzas: usize,
    valve: Valve,
    shut: Option<Shut>,
    /// Since when the transport has taken nothing although something waits.
    stuck: Option<Instant>,
    blank: Blank,
}

#[derive(Debug)]
struct Chunk {
    octets: Bytes,
    stanza: bool,
}

/// What came of a try to send.
#[derive(Debug, Default)]
pub struct Sent {
    /// Something went out.
    pub moved: bool,
    /// The valve has shut just now.
    pub shut: Option<Rated>,
    /// The valve has opened again after this time.
    pub waited: Option<(Rated, Duration)>,
}

impl Outbox {
    /// Octets that we author.
    pub fn say(&mut self, octets: Bytes) {
        if !octets.is_empty() {
            self.octets += octets.len();
            self.said += octets.len();
            self.chunks.push_back(Chunk { octets, stanza: false });
        }
    }

    /// One whole stanza.
    pub fn pass(&mut self, octets: Bytes) {
        self.octets += octets.len();
        self.given += 1;
        self.stanzas += 1;
        self.chunks.push_back(Chunk { octets, stanza: true });
    }

    /// Nothing waits, and the transport has let out all it took.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && !self.dirty
    }

    /// Octets that wait.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Octets that wait and that we author.
    pub fn said(&self) -> usize {
        self.said
    }

    /// Stanzas that wait.
    pub fn stanzas(&self) -> usize {
        self.stanzas
    }

    /// Stanzas that came in here in all.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Stanzas of those that the transport has let out, in their order.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// Since when nothing moved, although something waits and no valve holds it.
    pub fn stuck(&self) -> Option<Instant> {
        self.stuck
    }

    /// Whether, and until when, the valve holds the next stanza.
    pub fn shut(&self) -> Option<Shut> {
        self.shut
    }

    /// Whoever reads it may put off a tag that it has, until more has come.
    pub fn read_with_delay(&mut self) {
        self.blank.want();
    }

    /// When white space should go out behind what went, if nothing else does before.
    pub fn blank_due(&self) -> Option<Instant> {
        self.blank.due().map(|(at, _)| at)
    }

    /// The white space goes out that is lacking behind what went.
    pub fn say_blank(&mut self) {
        if let Some((_, lacking)) = self.blank.due() {
            self.blank.given();
            self.say(Bytes::from(vec![b' '; lacking]));
        }
    }

    /// These rates apply from now on.
    pub fn shape(&mut self, valve: Valve) {
        self.valve = valve;
    }

    /// The rates that apply.
    pub fn valve(&self) -> &Valve {
        &self.valve
    }

    /// The stanzas that did not go out whole, oldest first; the outbox is empty afterwards. Of what the transport took it holds so many
    /// octets, the last ones. Of a connection that broke nobody knows how much: then all that was taken since the last flush counts as
    /// not gone out, for rather is a stanza delivered and told as not delivered than lost in silence.
    pub fn take_unsent(&mut self, held: Option<usize>) -> Vec<Bytes> {
        if let Some(held) = held {
            self.let_out(held);
        }
        let mut unsent: Vec<Bytes> =
            std::mem::take(&mut self.unflushed).into_iter().map(|(octets, _)| octets).collect();
        unsent.extend(self.chunks.drain(..).filter(|c| c.stanza).map(|c| c.octets));
        *self = Self { valve: std::mem::take(&mut self.valve), ..Self::default() };
        unsent
    }

    /// Of the last so many stanzas those that have not begun to go out go nowhere, and those that have are not given back.
    pub fn recall(&mut self, mut last: usize) {
        for index in (0..self.chunks.len()).rev() {
            if last == 0 {
                break;
            }
            let Some(chunk) = self.chunks.get_mut(index).filter(|chunk| chunk.stanza) else { continue };
            last -= 1;
            self.stanzas -= 1;
            if index == 0 && self.taken > 0 {
                chunk.stanza = false;
                self.said += chunk.octets.len() - self.taken;
            } else {
                self.octets -= chunk.octets.len();
                self.released -= usize::from(index < self.released);
                self.chunks.remove(index);
            }
        }
        self.unflushed.truncate(self.unflushed.len().saturating_sub(last));
        self.shut = None;
        self.unstick();
    }

    /// The stanzas that have not begun to go out, oldest first; what we author and what has begun goes on.
    pub fn take_waiting(&mut self) -> Vec<Bytes> {
        let begun = usize::from(self.taken > 0);
        let mut waiting = Vec::new();
        let rest: Vec<Chunk> = self.chunks.drain(begun.min(self.chunks.len())..).collect();
        for chunk in rest {
            match chunk.stanza {
                true => waiting.push(chunk.octets),
                false => self.chunks.push_back(chunk),
            }
        }
        self.stanzas -= waiting.len();
        self.octets -= waiting.iter().map(Bytes::len).sum::<usize>();
        (self.released, self.shut) = (self.released.min(begun), None);
        self.unstick();
        waiting
    }

    /// Where nothing waits any more nobody is waited for.
    fn unstick(&mut self) {
        if self.is_empty() {
            self.stuck = None;
        }
    }

    /// Sends what can be sent now.
    ///
    /// # Errors
    /// The transport's own.
    pub fn poll_send(&mut self, io: &mut BoxIo, cx: &mut Context<'_>, now: Instant) -> io::Result<Sent> {
        let mut sent = Sent::default();
        loop {
            // A transport that is never quite flushed would have us remember all that ever went through it (law `bounded`).
            if self.unflushed_octets >= UNFLUSHED && !self.poll_flush(io, cx, now, &mut sent)? {
                break;
            }
            self.release(now, &mut sent);
            if self.released == 0 {
                self.stuck = None;
                break;
            }
            match self.poll_write(io, cx) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.account(n, now);
                    self.stuck = None;
                    sent.moved = true;
                }
                Poll::Ready(Err(e)) => return Err(e),
                Poll::Pending => {
                    self.stuck.get_or_insert(now);
                    break;
                }
            }
        }
        if self.dirty {
            self.poll_flush(io, cx, now, &mut sent)?;
        }
        // Room for many is given back: most streams are idle most of the time.
        if self.chunks.is_empty() && self.chunks.capacity() > FEW {
            self.chunks = VecDeque::new();
        }
        if self.unflushed.is_empty() && self.unflushed.capacity() > FEW {
            self.unflushed = Vec::new();
        }
        Ok(sent)
    }

    /// Whether the transport has nothing left of what it took.
    fn poll_flush(
        &mut self,
        io: &mut BoxIo,
        cx: &mut Context<'_>,
        now: Instant,
        sent: &mut Sent,
    ) -> io::Result<bool> {
        match Pin::new(&mut *io).poll_flush(cx) {
            Poll::Ready(outcome) => {
                outcome?;
                self.dirty = false;
                self.flushed += self.unflushed.len() as u64;
                self.unflushed.clear();
                self.unflushed_octets = 0;
                sent.moved = true;
                if self.released == 0 {
                    self.stuck = None;
                }
                Ok(true)
            }
            Poll::Pending => {
                if self.let_out(io.held()) {
                    (sent.moved, self.stuck) = (true, None);
                }
                self.stuck.get_or_insert(now);
                Ok(false)
            }
        }
    }

    /// Of what it took since its last flush the transport holds so many octets, the last ones; whether a stanza has gone out.
    fn let_out(&mut self, held: usize) -> bool {
        let out = self.unflushed_octets.saturating_sub(held);
        let gone = self.unflushed.partition_point(|(_, end)| *end <= out);
        self.unflushed.drain(..gone);
        self.flushed += gone as u64;
        gone > 0
    }

    fn release(&mut self, now: Instant, sent: &mut Sent) {
        let mut allowed: Option<Allowance> = None;
        let mut shut = None;
        while self.released < SLICES {
            let Some(chunk) = self.chunks.get(self.released) else { break };
            if chunk.stanza && !self.valve.is_open() {
                // The valve is asked once for all that goes; what it says then is used up before it is asked again.
                let mut left = match allowed.take().map_or_else(|| self.valve.allowance(now), Ok) {
                    Ok(left) => left,
                    Err(until) => {
                        shut = Some(until);
                        break;
                    }
                };
                if !left.take(chunk.octets.len()) {
                    self.valve.charge(&left, now);
                    continue;
                }
                allowed = Some(left);
            }
            self.released += 1;
        }
        if let Some(spent) = allowed {
            self.valve.charge(&spent, now);
        }
        match (shut, self.shut) {
            (Some((until, rated)), before) => {
                if before.is_none() {
                    sent.shut = Some(rated);
                }
                let since = before.map_or(now, |before| before.since);
                self.shut = Some(Shut { since, until, rated });
            }
            (None, Some(before)) => {
                sent.waited = Some((before.rated, now.saturating_duration_since(before.since)));
                self.shut = None;
            }
            (None, None) => {}
        }
    }

    fn poll_write(&mut self, io: &mut BoxIo, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // The kernel makes less of one part than of a list of one, and no list need be made.
        if let (1, Some(only)) = (self.released, self.chunks.front()) {
            return Pin::new(io).poll_write(cx, only.octets.get(self.taken..).unwrap_or_default());
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut skip = self.taken;
        for (slice, chunk) in slices.iter_mut().zip(self.chunks.iter().take(self.released)) {
            *slice = IoSlice::new(chunk.octets.get(skip..).unwrap_or_default());
            skip = 0;
        }
        let used = slices.get(..self.released).unwrap_or_default();
        Pin::new(io).poll_write_vectored(cx, used)
    }

    fn account(&mut self, mut n: usize, now: Instant) {
        self.dirty = true;
        self.unflushed_octets = self.unflushed_octets.saturating_add(n);
        while n > 0 {
            let Some(chunk) = self.chunks.front() else { break };
            let left = chunk.octets.len() - self.taken;
            self.said -= if chunk.stanza { 0 } else { n.min(left) };
            if n < left {
                self.taken += n;
                self.octets -= n;
                break;
            }
            n -= left;
            self.octets -= left;
            self.taken = 0;
            self.released = self.released.saturating_sub(1);
            let Some(Chunk { octets, stanza }) = self.chunks.pop_front() else { break };
            self.blank.went(&octets, now);
            if stanza {
                self.stanzas -= 1;
                self.unflushed.push((octets, self.unflushed_octets - n));
            }
        }
    }
}

/// An outbox that is empty keeps room for as many elements.
const FEW: usize = 8;

/// How many elements go out in one write at most.
const SLICES: usize = 256;

/// Octets that the transport may hold before it must have flushed them.
const UNFLUSHED: usize = 16 * 1024;

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
