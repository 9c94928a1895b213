//! Stream management between servers (XEP-0198): its words, and the count of what the other side has taken.
//!
//! It is per hop (SM-01). Who sends keeps each stanza until it is acknowledged; who takes counts what it has handled. A stream
//! that broke may be gone on with over another connection: then exactly what was not taken is sent again.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::reason::StanzaCondition;
use crate::xml::{Frame, escape_attr, names};

/// What is asked of the other side, once a pair stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Manage {
    /// Nothing.
    Off,
    /// To count from here on.
    Enable,
    /// To go on with the session of this name, of a stream that broke.
    Resume(String),
}

/// How many stanzas of the other side were taken. They are counted and told and decide nothing, so two states that differ in nothing
/// else are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken(pub u32);

impl Taken {
    /// One more.
    pub fn count(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }
}

impl PartialEq for Taken {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Taken {}

impl Hash for Taken {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What came of that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Managed {
    /// What holds from here on.
    pub count: Count,
    /// Of a session that could not be gone on with: how much the other side had taken of it, if it told that.
    pub told: Option<u32>,
}

/// How the other side counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Count {
    /// Not at all.
    #[default]
    Off,
    /// From nothing, and the session may be gone on with by this.
    Anew(Option<ResumableSession>),
    /// From so many, that it had taken of the session before.
    Resumed(u32),
}

/// By what a session may be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResumableSession {
    /// Its name.
    pub id: String,
    /// For how long after its stream broke; none where that was not told.
    pub most: Option<Duration>,
}

/// A word of stream management.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Nonza {
    /// So many stanzas were taken.
    Acknowledged(u32),
    /// How many were taken?
    Asked,
    /// Counting is asked for; the session should outlive its stream.
    Enable(bool),
    /// Counting begins.
    Enabled(Option<ResumableSession>),
    /// It does not, or the session is not there; of which so many had been taken, where that is known.
    Failed(Option<u32>),
    /// The session of this name is to go on; so many of ours were taken.
    Resume(String, u32),
    /// It goes on; so many were taken.
    Resumed(String, u32),
    /// None of these, or one without what it must have.
    Unreadable,
}

/// Whether this is a word of stream management.
pub fn is_word(frame: &Frame) -> bool {
    frame.head().namespace() == names::STREAM_MANAGEMENT
}

/// Reads a word of stream management.
pub fn read(frame: &Frame) -> Nonza {
    let tree = frame.tree();
    let attr = |name: &str| tree.attr(name);
    let number = |name: &str| attr(name).and_then(|text| text.trim_ascii().parse::<u32>().ok());
    let named = |name: &str| attr(name).filter(|id| !id.is_empty() && id.len() <= LONGEST).map(str::to_owned);
    let wanted = || attr("resume").is_some_and(|text| matches!(text.trim_ascii(), "true" | "1"));
    match frame.head().name() {
        "a" => number("h").map_or(Nonza::Unreadable, Nonza::Acknowledged),
        "r" => Nonza::Asked,
        "enable" => Nonza::Enable(wanted()),
        "enabled" => {
            let most = || number("max").map(|seconds| Duration::from_secs(seconds.into()));
            Nonza::Enabled(named("id").filter(|_| wanted()).map(|id| ResumableSession { id, most: most() }))
        }
        "failed" => Nonza::Failed(number("h")),
        "resume" => {
            named("previd").zip(number("h")).map_or(Nonza::Unreadable, |(id, h)| Nonza::Resume(id, h))
        }
        "resumed" => {
            named("previd").zip(number("h")).map_or(Nonza::Unreadable, |(id, h)| Nonza::Resumed(id, h))
        }
        _ => Nonza::Unreadable,
    }
}

/// Asks that stanzas be counted.
pub fn write_enable() -> String {
    format!("<enable xmlns='{}' resume='true'/>", names::STREAM_MANAGEMENT)
}

/// Asks to go on with a session.
pub fn write_resume(id: &str, taken: u32) -> String {
    format!("<resume xmlns='{}' previd='{}' h='{taken}'/>", names::STREAM_MANAGEMENT, escape_attr(id))
}

/// Stanzas are counted from here on; by this name, and for so long, the session may be gone on with.
pub fn write_enabled(ticket: Option<(&str, Duration)>) -> String {
    let resume = ticket
        .map(|(id, most)| format!(" id='{}' resume='true' max='{}'", escape_attr(id), most.as_secs().max(1)));
    format!("<enabled xmlns='{}'{}/>", names::STREAM_MANAGEMENT, resume.unwrap_or_default())
}

/// The session goes on; so many had been taken.
pub fn write_resumed(id: &str, taken: u32) -> String {
    format!("<resumed xmlns='{}' previd='{}' h='{taken}'/>", names::STREAM_MANAGEMENT, escape_attr(id))
}

/// Nothing is counted, for this reason.
pub fn write_failed(condition: StanzaCondition) -> String {
    let (namespace, errors) = (names::STREAM_MANAGEMENT, names::STANZA_ERRORS);
    format!("<failed xmlns='{namespace}'><{} xmlns='{errors}'/></failed>", condition.name())
}

/// Asks how many were taken.
pub fn write_ask() -> String {
    format!("<r xmlns='{}'/>", names::STREAM_MANAGEMENT)
}

/// So many were taken.
pub fn write_acknowledged(taken: u32) -> String {
    format!("<a xmlns='{}' h='{taken}'/>", names::STREAM_MANAGEMENT)
}

/// What was sent and not yet acknowledged, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unacknowledged {
    waiting: VecDeque<Bytes>,
    octets: usize,
    /// The number of the last that was acknowledged.
    taken: u32,
    /// The number of the last that was out when it was asked for the last time.
    asked: u32,
    /// That question waits for its answer.
    open: bool,
    /// Since when nothing more was acknowledged, while something waits.
    since: Option<Instant>,
    /// When it is asked once more about what an answer has left open.
    again: Option<Instant>,
}

/// More was acknowledged than was sent, or less than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miscounted;

impl Unacknowledged {
    /// Nothing waits behind so many that were taken.
    pub fn behind(taken: u32) -> Self {
        Self { taken, asked: taken, ..Self::default() }
    }

    /// The last so many did not go out, and go another way.
    pub fn forget_last(&mut self, stanzas: usize) {
        for _ in 0..stanzas {
            let Some(stanza) = self.waiting.pop_back() else { return };
            self.octets = self.octets.saturating_sub(stanza.len());
        }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Octets and number of what waits.
    pub fn size(&self) -> (usize, usize) {
        (self.octets, self.waiting.len())
    }

    /// Whether another of so many octets may go out. The first always may.
    pub fn has_room(&self, octets: usize, (stanzas, most): (usize, usize)) -> bool {
        self.is_empty() || self.waiting.len() < stanzas && self.octets.saturating_add(octets) <= most
    }

    /// This goes out now.
    pub fn push(&mut self, stanza: Bytes, now: Instant) {
        self.octets = self.octets.saturating_add(stanza.len());
        self.waiting.push_back(stanza);
        self.since.get_or_insert(now);
    }

    /// The other side has taken so many of all that were sent, counted modulo 2^32. How many more those are.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn acknowledge(&mut self, taken: u32, now: Instant) -> Result<usize, Miscounted> {
        let more = usize::try_from(taken.wrapping_sub(self.taken)).unwrap_or(usize::MAX);
        if more > self.waiting.len() {
            return Err(Miscounted);
        }
        for stanza in self.waiting.drain(..more) {
            self.octets = self.octets.saturating_sub(stanza.len());
        }
        self.taken = taken;
        if more > 0 || self.waiting.is_empty() {
            self.since = (!self.waiting.is_empty()).then_some(now);
        }
        // An answer that leaves out some of what was asked about is no reason to ask at once: it would go round and round.
        let left = std::mem::take(&mut self.open) && !self.waiting.is_empty();
        self.again = (left && self.asked == self.sent()).then_some(now + AGAIN);
        Ok(more)
    }

    /// The number of the last that was sent.
    pub fn sent(&self) -> u32 {
        self.taken.wrapping_add(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX))
    }

    /// Whether the other side should be asked now; if so it is taken as asked.
    pub fn asks(&mut self, now: Instant) -> bool {
        let news = self.asked != self.sent() || self.again.is_some_and(|at| at <= now);
        let asks = !self.waiting.is_empty() && !self.open && news;
        if asks {
            (self.open, self.asked, self.again) = (true, self.sent(), None);
        }
        asks
    }

    /// The stream is about to be closed: whether the last question does not cover all.
    pub fn asks_at_last(&mut self) -> bool {
        let covered = self.waiting.is_empty() || self.open && self.asked == self.sent();
        (self.open, self.asked, self.again) = (true, self.sent(), None);
        !covered
    }

    /// When it is time to ask again; and when nothing was acknowledged for so long that nobody can be there.
    pub fn deadlines(&self, patience: Duration) -> (Option<Instant>, Option<Instant>) {
        (self.again, self.since.map(|at| at + patience))
    }

    /// The session goes on over another stream: what waits goes out once more, in its order and under its old numbers.
    pub fn resend(&mut self, now: Instant) -> Vec<Bytes> {
        (self.open, self.asked, self.again) = (false, self.taken, None);
        self.since = (!self.waiting.is_empty()).then_some(now);
        self.waiting.iter().cloned().collect()
    }

    /// What waits, which nobody will acknowledge any more.
    pub fn take(&mut self) -> Vec<Bytes> {
        let waiting = std::mem::take(&mut self.waiting).into();
        *self = Self::default();
        waiting
    }
}

/// Octets of a session's name that are remembered (XEP-0198 3).
const LONGEST: usize = 4000;

/// After an answer that left something out, the next question waits for so long.
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(stanzas: usize, now: Instant) -> Unacknowledged {
        let mut all = Unacknowledged::default();
        (0..stanzas).for_each(|n| all.push(format!("<message id='{n}'/>").into(), now));
        all
    }

    // SM-01, against a count that is kept beside: every order of sending and acknowledging up to four stanzas, also where the
    // number begins anew.
    #[test]
    fn the_count_is_right_in_every_order_and_across_its_end() {
        let now = Instant::now();
        for start in [0, u32::MAX - 1] {
            let mut open =
                vec![(Unacknowledged { taken: start, asked: start, ..Default::default() }, 0_u32, 0_u32)];
            let mut looked = 0;
            while let Some((all, out, taken)) = open.pop() {
                looked += 1;
                assert_eq!(all.size().1, (out - taken) as usize);
                if out < 4 {
                    let mut next = all.clone();
                    next.push("<message/>".into(), now);
                    open.push((next, out + 1, taken));
                }
                for h in 0..=5_u32 {
                    let mut next = all.clone();
                    let may = (taken..=out).contains(&h);
                    let came = next.acknowledge(start.wrapping_add(h), now);
                    assert_eq!(came.is_ok(), may, "{h} of {out}, {taken} before");
                    if may && h > taken {
                        open.push((next, out, h));
                    } else if !may {
                        assert_eq!(next, all, "what cannot be changes nothing");
                    }
                }
            }
            assert!(looked > 50, "{looked}");
        }
    }

    #[test]
    fn one_question_is_open_at_a_time_and_none_goes_round_and_round() {
        let now = Instant::now();
        let mut all = sent(2, now);
        assert!(all.asks(now) && !all.asks(now));
        all.push("<message/>".into(), now);
        assert!(!all.asks(now), "one is open");
        all.acknowledge(2, now).unwrap();
        assert!(all.asks(now), "the third was sent after the question");
        all.acknowledge(2, now).unwrap();
        assert!(!all.asks(now), "the answer left it out");
        assert!(all.asks(now + AGAIN));
        all.acknowledge(3, now).unwrap();
        assert!(!all.asks(now + AGAIN) && all.is_empty());
        assert_eq!(all.deadlines(AGAIN), (None, None));
    }

    #[test]
    fn what_was_not_taken_goes_out_again_under_its_old_numbers() {
        let now = Instant::now();
        let mut all = sent(3, now);
        assert!(all.asks(now));
        all.acknowledge(1, now).unwrap();
        assert_eq!(all.resend(now).len(), 2);
        assert!(all.asks(now));
        assert_eq!(all.acknowledge(4, now), Err(Miscounted));
        assert_eq!(all.acknowledge(3, now), Ok(2));
    }
}
