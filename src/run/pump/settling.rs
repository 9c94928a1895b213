//! When a count may be told to a peer (SM-01): what came before has been taken behind, by the connection to the server there or,
//! of pairs without one, by that of their courier.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::super::Later;
use super::super::cargo::Cargo;
use super::super::inbox::InboxSender;
use super::super::leg::Leg;
use super::super::registry::Order;
use super::super::sessions::{FoundSession, Given, Remains, SessionTicket, Sessions};
use super::fars::Fars;
use crate::jid::Domain;
use crate::relay::{FarId, Input, Left};

/// What has become of the stanzas of a near leg, where they are counted.
#[derive(Default)]
pub(in crate::run) struct Settling {
    /// They are.
    counting: Option<Box<Counting>>,
    /// They were, and the stream broke: whoever goes on waits for this.
    remains: Option<Broken>,
}

/// What a counted stream has left that broke, until that is in.
struct Broken {
    /// Whoever goes on hears by its end that it is.
    tx: watch::Sender<Given>,
    /// It waited itself for what another had left.
    behind: Option<Later<()>>,
}

/// A near leg whose stanzas are counted.
#[derive(Default)]
struct Counting {
    /// Counts that were asked for, the oldest first; two at most.
    marks: VecDeque<Mark>,
    /// What couriers were given of it, and how far that came.
    carried: Given,
    /// Its place among those that may be gone on with.
    ticket: Option<SessionTicket>,
    /// The session of another is looked for, to be gone on with here.
    resuming: Option<Later<Option<FoundSession>>>,
    /// It goes on where another broke that still has something to deliver: until then nothing is read.
    behind: Option<Later<()>>,
}

/// A count, and what must be out before it is told.
struct Mark {
    count: u32,
    legs: Vec<(FarId, u64)>,
    carried: Vec<(Arc<Cargo>, u64)>,
}

impl Mark {
    /// Whether all is out that came before it.
    fn is_out(&mut self, fars: &Fars, cx: &mut Context<'_>) -> bool {
        self.legs.retain(|(id, given)| {
            fars.get(*id).is_some_and(|far| !far.leg.is_closed() && far.leg.outbox.flushed() < *given)
        });
        self.carried.retain(|(cargo, given)| cargo.poll_settled(*given, cx).is_pending());
        self.legs.is_empty() && self.carried.is_empty()
    }
}

impl Settling {
    /// The near leg is counted from here on, and may be gone on with, if there is a ticket for that.
    pub(in crate::run) fn begin(&mut self, ticket: Option<SessionTicket>) {
        self.counting.get_or_insert_default().ticket = ticket;
    }

    /// It is counted no more. If it broke and has left something, that may be gone on with until then; so many are kept at most.
    /// Who goes on tells the relay there when it has waited too long.
    pub(in crate::run) fn end(
        &mut self,
        broke: Option<Left>,
        until: Instant,
        most: usize,
        relay: InboxSender<Order>,
    ) {
        let Some(counting) = self.counting.take() else { return };
        if let Some((ticket, left)) = counting.ticket.zip(broke) {
            let (tx, remains) = Remains::new(counting.carried, relay);
            self.remains = Some(Broken { tx, behind: counting.behind });
            ticket.broke(left, until, most, remains);
        }
    }

    /// That session is asked for.
    pub(in crate::run) fn resume(
        &mut self,
        sessions: &Arc<Sessions>,
        id: String,
        taken: u32,
        askers: Vec<Domain>,
    ) {
        let found = Arc::clone(sessions).resume(id, taken, askers);
        self.counting.get_or_insert_default().resuming = Some(Box::pin(found));
    }

    /// A courier has been given something of the near leg.
    pub(in crate::run) fn carries(&mut self, cargo: &Arc<Cargo>) {
        let given = cargo.given();
        if let Some(counting) = &mut self.counting {
            let marks = counting.marks.iter_mut().map(|mark| &mut mark.carried);
            marks.chain([&mut counting.carried]).for_each(|list| note(list, cargo, given));
        }
        if let Some(remains) = &self.remains {
            remains.tx.send_modify(|list| note(list, cargo, given));
        }
    }

    /// That count is to be told as soon as what came before is taken behind.
    pub(in crate::run) fn mark(&mut self, count: u32, fars: &Fars) {
        let Some(counting) = &mut self.counting else { return };
        let given = |id| fars.get(id).map(|far| (id, far.leg.outbox.given()));
        let legs = fars.ids().filter_map(given).collect();
        counting.carried.retain(|(cargo, given)| !cargo.has_settled(*given));
        // Asked again before the last answer: the newest question is the one that counts.
        counting.marks.truncate(1);
        counting.marks.push_back(Mark { count, legs, carried: counting.carried.clone() });
    }

    /// Whether what it brings would overtake what another stream of the session has brought.
    pub(super) fn waits(&self) -> bool {
        self.counting.as_ref().is_some_and(|counting| counting.behind.is_some())
    }

    /// Whether whoever goes on with it waits for what goes before it.
    pub(super) fn waits_for_another(&self) -> bool {
        self.remains.as_ref().is_some_and(|remains| remains.behind.is_some())
    }

    /// Looks what has come behind, and what was found of a session; what the near side hears of it, if it hears anything. Something of
    /// what the near leg has brought may be stalled here. Of a session that is found it waits so long for what that has left.
    pub(super) fn poll(
        &mut self,
        fars: &Fars,
        stalled: bool,
        within: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Input>> {
        if let Some(remains) = &mut self.remains {
            if remains.behind.take_if(|behind| behind.as_mut().poll(cx).is_ready()).is_some() {
                return Poll::Ready(None);
            }
            if remains.behind.is_none() && !stalled && are_delivered(fars) {
                self.remains = None;
            }
        }
        let Some(counting) = &mut self.counting else { return Poll::Pending };
        if let Some(mark) = counting.marks.front_mut()
            && mark.is_out(fars, cx)
            && !stalled
        {
            let count = mark.count;
            counting.marks.pop_front();
            return Poll::Ready(Some(Input::Settled(count)));
        }
        if let Some(resuming) = &mut counting.resuming
            && let Poll::Ready(found) = resuming.as_mut().poll(cx)
        {
            counting.resuming = None;
            let behind = found.as_ref().map(|(.., remains)| remains.clone().delivered(within));
            counting.behind = behind.map(|behind| Box::pin(behind) as Later<()>);
            return Poll::Ready(Some(Input::Resumed(found.map(|(left, owner, _)| (left, owner)))));
        }
        let behind = counting.behind.take_if(|behind| behind.as_mut().poll(cx).is_ready());
        if behind.is_some() { Poll::Ready(None) } else { Poll::Pending }
    }
}

fn note(list: &mut Given, cargo: &Arc<Cargo>, given: u64) {
    match list.iter_mut().find(|(known, _)| Arc::ptr_eq(known, cargo)) {
        Some((_, last)) => *last = given,
        None => {
            // Couriers come and go, whether anybody asks or not.
            list.retain(|(cargo, given)| !cargo.has_settled(*given));
            list.push((Arc::clone(cargo), given));
        }
    }
}

/// Whether nothing waits here to go in.
fn are_delivered(fars: &Fars) -> bool {
    let out = |leg: &Leg| leg.is_closed() || leg.outbox.is_empty();
    fars.values().all(|far| out(&far.leg))
}
