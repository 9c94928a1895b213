//! What waits for a courier's leg, and when the leg of reports is tried again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Stanzas in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    waiting: VecDeque<Bytes>,
    octets: usize,
    /// Reports: what went out in the first second, and its octets.
    young: (Vec<Bytes>, usize),
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Octets and number of what waits.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.octets, self.waiting.len())
    }

    /// Whether one more of so many octets fits.
    pub(super) fn has_room(&self, octets: usize, stanzas: usize, most: usize) -> bool {
        self.waiting.len() < stanzas && self.octets.saturating_add(octets) <= most
    }

    pub(super) fn push(&mut self, octets: Bytes) {
        self.octets = self.octets.saturating_add(octets.len());
        self.waiting.push_back(octets);
    }

    pub(super) fn take(&mut self) -> VecDeque<Bytes> {
        self.octets = 0;
        std::mem::take(&mut self.waiting)
    }

    /// These come first again, in their order.
    pub(super) fn put_back(&mut self, stanzas: Vec<Bytes>) {
        for stanza in stanzas.into_iter().rev() {
            self.octets = self.octets.saturating_add(stanza.len());
            self.waiting.push_front(stanza);
        }
    }

    /// This went out while the other side might still say that it does not believe us. At the most so many octets are kept of that, as
    /// of what waits: the rest has gone out, and comes back no more.
    pub(super) fn remember(&mut self, octets: Bytes, most: usize) {
        let kept = self.young.1.saturating_add(octets.len());
        if kept <= most {
            self.young.0.push(octets);
            self.young.1 = kept;
        }
    }

    /// It is believed.
    pub(super) fn forget(&mut self) {
        self.young = Default::default();
    }

    /// It is not: what went out waits again.
    pub(super) fn recall(&mut self) {
        let (young, _) = std::mem::take(&mut self.young);
        self.put_back(young);
    }
}

/// DB-69: a report stream that was refused, or ended before its `valid`, is opened anew, three times within ten seconds; one that this
/// machine had no room for is not refused by anybody, and is opened when there is room again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Tries {
    failed: u8,
    /// When the first of them failed.
    first: Option<Instant>,
    /// Since when there has been no room for one.
    without_room: Option<Instant>,
    /// The next attempt.
    pub(super) next: Option<Instant>,
}

impl Tries {
    /// Whether there is no leg because the next attempt is not due yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.next.is_some()
    }

    /// The attempt begins, or there will be none.
    pub(super) fn begun(&mut self) {
        self.next = None;
    }

    /// There is to be another attempt then.
    pub(super) fn wait_until(&mut self, at: Instant) {
        self.next = Some(at);
    }

    /// The leg has stood: what failed long ago no longer counts.
    pub(super) fn stood(&mut self, now: Instant) {
        self.without_room = None;
        if self.first.is_none_or(|first| first + WITHIN <= now) {
            (self.failed, self.first) = (0, None);
        }
    }

    /// Another attempt has failed. Whether there will be one more.
    pub(super) fn again(&mut self, now: Instant) -> bool {
        self.without_room = None;
        let first = *self.first.get_or_insert(now);
        let pause = AGAIN.get(usize::from(self.failed)).filter(|_| now < first + WITHIN);
        if let Some(pause) = pause {
            self.failed = self.failed.saturating_add(1);
            self.next = Some(now + *pause);
        }
        pause.is_some()
    }

    /// This machine had no room for another attempt, which says nothing of the other end. Whether there will be one more.
    pub(super) fn lacking(&mut self, now: Instant) -> bool {
        let since = *self.without_room.get_or_insert(now);
        let waits = now < since + ROOM;
        if waits {
            self.next = Some(now + ROOM_PAUSE);
        }
        waits
    }
}

/// The pauses before a report stream is opened anew, and the time within which.
const AGAIN: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(4)];
const WITHIN: Duration = Duration::from_secs(10);

/// How long an answer of the gateway's own waits for room, and how often that is looked for.
const ROOM: Duration = Duration::from_secs(600);
const ROOM_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    // DB-69: "bounded by L-inside-queue".
    #[test]
    fn no_more_is_remembered_of_what_went_out_than_may_wait() {
        let mut queue = Queue::default();
        for _ in 0..1000 {
            queue.remember(Bytes::from_static(b"<message/>"), 35);
        }
        queue.recall();
        assert_eq!(queue.size(), (30, 3));
        queue.forget();
        queue.remember(Bytes::from_static(b"<message/>"), 35);
        queue.recall();
        assert_eq!(queue.size(), (40, 4));
    }
}
