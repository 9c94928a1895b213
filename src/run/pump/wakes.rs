//! When a relay runs although nothing has come: deadlines, its place among the busy, and who knocks. It keeps time and decides
//! nothing.
//!
//! What it saves, in the order in which a turn of the loop meets it: the waker that orders, news and the timer wake says which of them
//! to look for ([`super::wake_flag`]); `due` says that no deadline of any leg needs to be asked for; `relay_due` that the relay's need not;
//! and a timer that rings a little too early is not set anew.
//!
//! **What it buys.** The first two together took a chat message echoed from 25.4 to 24.6 us of processor time: row `echo` of
//! `cargo bench --bench load`. The third is of streams with many pairs: row `pairs`. The last spares the lock on which the timers of
//! all relays hang, and lets an idle relay sleep: rows `echo` and `idle cpu`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::super::shares::{Place, Shares};
use super::wake_flag::WakeFlag;

/// What wakes one relay, and when.
pub(in crate::run) struct Wakes {
    /// What orders, news and the timer wake.
    knock: Option<Arc<WakeFlag>>,
    /// Its place among those that always have more to do.
    place: Option<Arc<Place>>,
    timer: Pin<Box<Sleep>>,
    /// When it rings.
    rings: Instant,
    /// Nothing is due before this, as far as the last turn could tell.
    due: Option<Instant>,
    /// The relay had its next deadline then; and whether anything but stanzas that pass, which put it off, has come since.
    relay_due: Option<Instant>,
    stirred: bool,
    /// The deadline that was told last: a relay that names it again at once would never let us rest.
    expired: Option<Instant>,
    /// It runs no more.
    stopped: bool,
}

/// How a turn begins.
pub(super) struct Woken {
    /// Somebody has knocked.
    pub(super) heard: bool,
    /// What knocks.
    pub(super) waker: Waker,
    /// The task is woken in another way than before.
    pub(super) anew: bool,
}

impl Wakes {
    /// Of a relay that has not run yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            knock: None,
            place: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            rings: now,
            due: None,
            relay_due: None,
            stirred: true,
            expired: None,
            stopped: false,
        }
    }

    /// A turn begins.
    pub(super) fn begin(&mut self, cx: &Context<'_>) -> Woken {
        self.place.take_if(|place| place.is_called());
        let known = self.knock.take().filter(|knock| knock.wakes(cx));
        let anew = known.is_none();
        let knock = self.knock.insert(known.unwrap_or_else(|| WakeFlag::new(cx.waker())));
        Woken { heard: knock.was_heard(), waker: Waker::from(Arc::clone(knock)), anew }
    }

    /// A turn ends with something left to do: others go first.
    pub(super) fn stand(&mut self, shares: &Arc<Shares>, task: &Waker) {
        shares.stand(&mut self.place, task);
    }

    /// The relay's next deadline may be another one.
    pub(super) fn stir(&mut self) {
        self.stirred = true;
    }

    /// Whether something may be due, which is looked for only where this says so.
    pub(super) fn may_be_due(&mut self, now: Instant) -> bool {
        // Nothing has changed since the last turn ended and told when something would be due.
        self.due.take().is_none_or(|at| at <= now)
    }

    /// That deadline of the relay has passed and is told now; whether it was told before, and stays.
    pub(super) fn repeats(&mut self, deadline: Instant) -> bool {
        self.expired.replace(deadline) == Some(deadline)
    }

    /// It runs no more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The relay's next deadline, which is asked for only where it may be another one. Of a relay with few legs it always is: to ask
    /// one with many costs as much as a stanza does. Too early costs one look.
    pub(super) fn relay_due(
        &mut self,
        many: bool,
        now: Instant,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Option<Instant> {
        if self.stirred || !many || self.relay_due.is_none_or(|due| due <= now) {
            (self.relay_due, self.stirred) = (deadline(), false);
        }
        self.relay_due
    }

    /// Waits for that time, if there is one. Where somebody has knocked it may have been the timer.
    pub(super) fn poll(
        &mut self,
        due: Option<Instant>,
        cx: &mut Context<'_>,
        now: Instant,
        heard: bool,
    ) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        if due <= now {
            return Poll::Ready(());
        }
        self.due = Some(due);
        // Most deadlines move on a little with each stanza. A timer that rings too early costs one look; to set it anew for
        // each stanza costs more, and the timers of all relays hang on one lock.
        if due < self.rings || due > self.rings + SLACK {
            self.set(due);
        } else if !heard && now < self.rings {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.rings >= due {
                return Poll::Ready(());
            }
            self.set(due);
        }
        Poll::Pending
    }

    fn set(&mut self, at: Instant) {
        self.rings = at;
        self.timer.as_mut().reset(tokio::time::Instant::from_std(at));
    }
}

/// How much later a deadline may be than the timer before it is set anew.
const SLACK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::now;

    #[tokio::test(start_paused = true)]
    async fn the_timer_is_set_anew_only_for_what_comes_sooner_or_much_later() {
        let begin = now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut wakes = Wakes::new(begin);
        let poll = |wakes: &mut Wakes, due| {
            wakes.poll(Some(at(due)), &mut Context::from_waker(Waker::noop()), now(), true)
        };
        for (due, rings) in [(100, 100), (101, 100), (130, 100), (131, 131), (90, 90)] {
            assert!(poll(&mut wakes, due).is_pending());
            assert_eq!(wakes.rings, at(rings), "{due}");
        }
        tokio::time::advance(Duration::from_secs(90)).await;
        // It rings too early for what has moved on, and is set for that.
        assert!(poll(&mut wakes, 95).is_pending());
        assert_eq!(wakes.rings, at(95));
        assert!(!wakes.may_be_due(at(94)));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(poll(&mut wakes, 95).is_ready());
        assert!(wakes.may_be_due(now()), "nobody has said when something would be due");
    }

    #[tokio::test]
    async fn a_relay_with_many_legs_is_asked_only_when_its_deadline_may_be_another() {
        let (begin, later) = (now(), now() + Duration::from_secs(9));
        let (mut wakes, mut asked) = (Wakes::new(begin), 0);
        let mut ask = |wakes: &mut Wakes, many, at| {
            let due = wakes.relay_due(many, at, || {
                asked += 1;
                Some(later)
            });
            (due, asked)
        };
        assert_eq!(ask(&mut wakes, true, begin), (Some(later), 1));
        assert_eq!(ask(&mut wakes, true, begin), (Some(later), 1));
        wakes.stir();
        assert_eq!(ask(&mut wakes, true, begin), (Some(later), 2));
        assert_eq!(ask(&mut wakes, false, begin), (Some(later), 3), "to ask one with few costs nothing");
        assert_eq!(ask(&mut wakes, true, later), (Some(later), 4), "it has passed");
    }

    #[tokio::test]
    async fn a_deadline_that_stays_when_it_was_told_is_noticed() {
        let mut wakes = Wakes::new(now());
        let (first, second) = (now(), now() + Duration::from_secs(1));
        assert_eq!([first, second, second, first].map(|at| wakes.repeats(at)), [false, false, true, false]);
    }
}
