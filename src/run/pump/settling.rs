//! When a count may be told to a peer (SM-01): what came before has been taken behind, by the connection to the server there or,
//! of pairs without one, by that of their courier.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::super::Later;
use super::super::cargo::Cargo;
use super::super::leg::Leg;
use super::super::sessions::{Found, Given, Remains, Ticket};
use super::Pump;
use crate::jid::Domain;
use crate::relay::{FarId, Input, Left, Side};

/// A near leg whose stanzas are counted.
#[derive(Default)]
pub(in crate::run) struct Settling {
    /// Counts that were asked for, the oldest first; two at most.
    marks: VecDeque<Mark>,
    /// What couriers were given of it, and how far that came.
    carried: Given,
    /// Its place among those that may be gone on with.
    ticket: Option<Ticket>,
    /// The session of another is looked for, to be gone on with here.
    resuming: Option<Later<Option<Found>>>,
    /// It goes on where another broke that still has something to deliver: until then nothing is read.
    behind: Option<Later<()>>,
}

/// A count, and what must be out before it is told.
struct Mark {
    count: u32,
    legs: Vec<(FarId, u64)>,
    carried: Vec<(Arc<Cargo>, u64)>,
}

impl Settling {
    /// The courier of that cargo has been given so many in all, one of them from here.
    pub(super) fn carries(&mut self, cargo: &Arc<Cargo>, given: u64) {
        let lists = self.marks.iter_mut().map(|mark| &mut mark.carried).chain([&mut self.carried]);
        for list in lists {
            note(list, cargo, given);
        }
    }

    /// Whether what it brings would overtake what another stream of the session has brought.
    pub(super) fn waits(&self) -> bool {
        self.behind.is_some()
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

/// A courier has been given something of the near leg.
pub(super) fn carries(pump: &mut Pump, cargo: &Arc<Cargo>) {
    if let Some(settling) = &mut pump.settling {
        settling.carries(cargo, cargo.given());
    }
    if let Some(remains) = &pump.remains {
        remains.send_modify(|list| note(list, cargo, cargo.given()));
    }
}

/// The near leg is counted from here on; under this name it may be gone on with.
pub(in crate::run) fn enlist(pump: &mut Pump, session: Option<(String, Domain)>) {
    let tell = pump.life.tell().clone();
    let ticket = session.map(|(id, owner)| pump.tools.sessions.begins(id, owner, tell));
    pump.settling.get_or_insert_default().ticket = ticket;
}

/// It is counted no more; it broke and has left this, or is over.
pub(in crate::run) fn leave(pump: &mut Pump, broke: Option<Left>) {
    let Some(settling) = pump.settling.take() else { return };
    if let Some((ticket, left)) = settling.ticket.zip(broke) {
        let home = &pump.tools.home;
        let (tell, remains) = Remains::new(settling.carried);
        pump.remains = Some(tell);
        ticket.broke(left, pump.now + home.timeouts.resume, home.limits.sessions, remains);
    }
}

/// That count is to be told as soon as what came before is taken behind.
pub(in crate::run) fn settle(pump: &mut Pump, count: u32) {
    let given = |id| pump.fars.get(id).map(|far| (id, far.leg.outbox.given()));
    let legs: Vec<_> = pump.fars.ids().filter_map(given).collect();
    let Some(settling) = &mut pump.settling else { return };
    settling.carried.retain(|(cargo, given)| !cargo.has_settled(*given));
    // Asked again before the last answer: the newest question is the one that counts.
    settling.marks.truncate(1);
    settling.marks.push_back(Mark { count, legs, carried: settling.carried.clone() });
}

/// A session is asked for.
pub(in crate::run) fn resume(pump: &mut Pump, id: String, taken: u32, askers: Vec<Domain>) {
    let found = Arc::clone(&pump.tools.sessions).resume(id, taken, askers);
    pump.settling.get_or_insert_default().resuming = Some(Box::pin(found));
}

/// Tells the counts whose time has come, and what was found of a session.
pub(super) fn poll(pump: &mut Pump, cx: &mut Context<'_>) -> bool {
    if pump.remains.is_some() && has_delivered(pump) {
        pump.remains = None;
    }
    if pump.settling.is_none() {
        return false;
    }
    let mut moved = false;
    while let Some(mark) = pump.settling.as_mut().and_then(|settling| settling.marks.front_mut()) {
        let fars = &pump.fars;
        mark.legs.retain(|(id, given)| {
            fars.get(*id).is_some_and(|far| !far.leg.is_closed() && far.leg.outbox.flushed() < *given)
        });
        mark.carried.retain(|(cargo, given)| cargo.poll_settled(*given, cx).is_pending());
        if !mark.legs.is_empty() || !mark.carried.is_empty() || pump.stalled.is_some() {
            break;
        }
        let count = mark.count;
        if let Some(settling) = &mut pump.settling {
            settling.marks.pop_front();
        }
        pump.step(Side::Near, Input::Settled(count));
        moved = true;
    }
    let resuming = pump.settling.as_mut().and_then(|settling| settling.resuming.as_mut());
    if let Some(Poll::Ready(found)) = resuming.map(|resuming| resuming.as_mut().poll(cx)) {
        let within = pump.tools.home.timeouts.acknowledgement / 4 * 3;
        if let Some(settling) = &mut pump.settling {
            settling.resuming = None;
            let behind = found.as_ref().map(|(.., remains)| remains.clone().delivered(within));
            settling.behind = behind.map(|behind| Box::pin(behind) as Later<()>);
        }
        pump.step(Side::Near, Input::Resumed(found.map(|(left, owner, _)| (left, owner))));
        moved = true;
    }
    if let Some(settling) = &mut pump.settling
        && settling.behind.as_mut().is_some_and(|behind| behind.as_mut().poll(cx).is_ready())
    {
        settling.behind = None;
        moved = true;
    }
    moved
}

/// Whether nothing that the near leg has brought waits here to go in.
fn has_delivered(pump: &Pump) -> bool {
    let out = |leg: &Leg| leg.is_closed() || leg.outbox.is_empty();
    pump.stalled.is_none() && pump.fars.values().all(|far| out(&far.leg))
}
