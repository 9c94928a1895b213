//! The loop of one relay: reads and writes of every leg, deadlines, orders and news, each in an arm of its own.
//!
//! No arm waits: it moves what can be moved and says whether something moved. A leg is read only when what it brings has
//! room to go (law `bounded`): with one far leg the near leg waits for it; with several, none may hold up the others
//! (DB-66), and what does not fit is told to the relay, which bounces it.
//!
//! What a relay holds beside its state is in parts, each in a file that can be read alone. A part owns what it keeps, is handed what
//! else it may touch, and says what it found; it never sees the pump, and the relay hears of it from here:
//!
//! | part | what it keeps | file |
//! | --- | --- | --- |
//! | `Legs` | the near leg and those that were opened | `pump/legs.rs`, `pump/fars.rs`, `pump/far.rs` |
//! | `Turn` | the time of the round, what may still be read in this turn, effects that wait | `pump/turn.rs` |
//! | `Wakes` | the timer and what is due, who knocks, the place among the busy | `pump/wakes.rs`, `pump/wake_flag.rs` |
//! | `Mail` | orders and news | `pump/mail.rs` |
//! | `Waits` | logins that wait, look-ups, the turn to leave, who waits for an answer | `pump/waits.rs` |
//! | `Charges` | rates of pairs and senders, and how long the near leg is held for them | `pump/charges.rs` |
//! | `Places` | places among the unproven and among those who are proven | `pump/places.rs` |
//! | `CourierLanes` | lanes to couriers, what waits for room there, bounces | `pump/courier_lanes.rs`, `pump/bounces.rs` |
//! | `Backs` | pairs that go back over the near leg | `pump/back.rs` |
//! | `Settling` | counts of stanzas that may be told | `pump/settling.rs` |
//! | `Memory` | what completes an event for the log | `event_context.rs`, `event_context/memory.rs` |
//!
//! The pump's own methods are in three files: here is the loop, in `pump/arms.rs` each of its arms, in `effects.rs` what the relay
//! wants.

mod arms;
mod back;
mod bounces;
mod charges;
mod courier_lanes;
mod far;
mod fars;
mod introduced;
mod legs;
mod mail;
mod passed;
mod places;
mod settling;
mod turn;
mod waits;
mod wake_flag;
mod wakes;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::oneshot;

pub(super) use self::back::{Backs, is_against};
use self::charges::Charges;
use self::courier_lanes::CourierLanes;
pub(super) use self::far::{Awaited, Far, Sending};
pub(super) use self::introduced::Ends;
pub(super) use self::legs::Legs;
use self::mail::Mail;
use self::places::Places;
use self::settling::Settling;
use self::turn::Turn;
use self::waits::Waits;
use self::wakes::{Wakes, Woken};
use super::cargo::Cargo;
use super::event_context::Memory;
use super::inbox::Inbox;
use super::leg::Leg;
use super::registry::{Learnt, Life, Meta, Order};
use super::websocket::Frames;
use super::{BoxIo, Tools, now};
use crate::filter;
use crate::limit::UnprovenPlace;
use crate::reason::{Flow, Reason};
use crate::relay::{Effect, Input, LaneId, Relay, Side, plan};
use crate::stream::{Pair, Secured};

/// A relay and all that it moves.
pub struct Pump {
    pub(super) relay: Relay,
    pub(super) tools: Arc<Tools>,
    pub(super) meta: Meta,
    pub(super) life: Life,
    pub(super) legs: Legs,
    pub(super) turn: Turn,
    wakes: Wakes,
    mail: Mail,
    pub(super) waits: Waits,
    pub(super) charges: Charges,
    pub(super) places: Places,
    pub(super) courier_lanes: CourierLanes,
    pub(super) backs: Backs,
    pub(super) settling: Settling,
    pub(super) memory: Option<Box<Memory>>,
}

/// A relay that runs. A type of its own: an async function has room for what it is given twice.
pub struct Running(Pump);

impl Future for Running {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx).map(|()| self.0.end())
    }
}

impl Pump {
    /// A relay whose near leg has arrived. Without a channel the first octet is still due.
    pub fn arrived(
        tools: Arc<Tools>,
        relay: Relay,
        entry: (Life, Inbox<Order>),
        meta: Meta,
        io: BoxIo,
        secured: Option<Secured>,
    ) -> Self {
        let first = secured.is_none().then(|| now() + tools.params.first_byte);
        let content = plan::content(meta.flow);
        let near = Leg::arrived(io, first, content, &tools.relays.limits.before_proof, now());
        let mut pump = Self::new(tools, relay, entry, meta);
        pump.legs.near = Some(near);
        pump
    }

    /// What comes is in messages (RFC 7395).
    #[must_use]
    pub fn in_messages(mut self, frames: Arc<Frames>) -> Self {
        let limits = &self.tools.relays.limits.before_proof;
        self.legs.near = self.legs.near.take().map(|near| near.in_messages(frames, limits));
        self
    }

    /// Nobody knows yet who this is.
    #[must_use]
    pub fn unproven(mut self, unproven: UnprovenPlace) -> Self {
        self.places = Places::of(unproven);
        self
    }

    /// A courier, with what it carries, or a verifier; and the first things that it wants.
    pub fn sent(
        tools: Arc<Tools>,
        made: (Relay, Vec<Effect>),
        entry: (Life, Inbox<Order>),
        meta: Meta,
        cargo: Option<Arc<Cargo>>,
    ) -> Self {
        let (relay, mut effects) = made;
        let mut pump = Self::new(tools, relay, entry, meta);
        pump.courier_lanes = CourierLanes::of(cargo);
        pump.carry_out(&mut effects);
        pump
    }

    /// The verifier's answer goes there as soon as it is known; the stream is closed behind it.
    #[must_use]
    pub fn answering(mut self, answer: oneshot::Sender<Learnt>) -> Self {
        self.waits.owe(answer);
        self
    }

    /// A courier takes what it carries.
    #[must_use]
    pub fn laden(mut self) -> Self {
        // What it was made for is with it before it hears any news.
        self.take_cargo(&mut Context::from_waker(Waker::noop()));
        self
    }

    /// Others wait for its place from the beginning.
    #[must_use]
    pub fn yielding(mut self) -> Self {
        self.step(Side::Near, Input::Yield);
        self
    }

    fn new(tools: Arc<Tools>, relay: Relay, (life, orders): (Life, Inbox<Order>), meta: Meta) -> Self {
        let mail = Mail::new(&tools.registry, orders);
        Self {
            relay,
            tools,
            meta,
            life,
            legs: Legs::default(),
            turn: Turn::new(now()),
            wakes: Wakes::new(now()),
            mail,
            waits: Waits::default(),
            charges: Charges::default(),
            places: Places::default(),
            courier_lanes: CourierLanes::default(),
            backs: Backs::default(),
            settling: Settling::default(),
            memory: None,
        }
    }

    /// Runs until nothing is left.
    pub fn run(self) -> Running {
        Running(self)
    }

    fn end(&mut self) {
        self.courier_lanes.lose(&self.tools);
        for order in self.mail.left() {
            if let Order::Report(report) = order {
                let (pair, stanza) = *report;
                courier_lanes::report(&self.tools, &pair, stanza);
            }
        }
        self.backs.end(&self.tools, self.meta.id);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let woken = self.wakes.begin(cx);
        if woken.anew {
            self.legs.fars.unhang();
        }
        self.turn.begin(self.near_budget());
        self.legs.begin();
        let over = self.rounds(cx, &woken);
        self.turn.end();
        self.legs.fars.rest(&self.tools.params);
        self.count_passed();
        self.courier_lanes.settle(&self.legs.fars, || (self.relay.queued(), self.relay.has_given_up()));
        self.backs.settle(self.legs.near.as_ref(), self.relay.kept_back());
        over
    }

    fn rounds(&mut self, cx: &mut Context<'_>, woken: &Woken) -> Poll<()> {
        let knock = &mut Context::from_waker(&woken.waker);
        // What was pending once in this turn wakes us when it no longer is; it need not be asked again in each round.
        let mut told = woken.heard;
        let mut due = self.wakes.may_be_due(now());
        for _ in 0..ROUNDS {
            let now = now();
            self.turn.now = now;
            told = told && (self.hear_orders(knock) | self.hear_news(knock));
            due = due && self.pass_deadlines(now);
            let mut moved = told | due | self.end_waits(cx);
            let mut next = self.legs.after(None);
            while let Some(side) = next {
                moved |= self.poll_side(side, cx, now);
                next = self.legs.after(Some(side));
            }
            // What the far legs have brought goes out in the round that brought it.
            if self.legs.near.as_ref().is_some_and(|near| !near.outbox.is_empty()) {
                moved |= self.poll_out(Side::Near, cx, now);
            }
            let carried = self.poll_bounces(cx) | self.poll_stalled(cx) | self.take_cargo(cx);
            let carried = carried | self.poll_settling(cx) | self.poll_backs(cx);
            moved |= self.weigh(cx) | carried;
            self.forget_closed();
            if self.is_over() {
                return Poll::Ready(());
            }
            if self.turn.is_spent() {
                break;
            }
            if !moved || !(told | due | carried) && self.is_settled() {
                if self.poll_timer(knock, now, woken.heard).is_pending() {
                    return Poll::Pending;
                }
                due = true;
            }
        }
        // Others want to run too, and go first.
        self.wakes.stand(self.tools.registry.shares(), knock.waker());
        Poll::Pending
    }

    /// What the near leg may bring in this turn: as much as any, where one far leg takes all of it and holds it back. What goes to several,
    /// or to couriers, is bounced where it does not fit, so they have their turn sooner.
    fn near_budget(&self) -> usize {
        let one = self.legs.fars.len() == 1 && self.charges.pairs() <= 1 && self.courier_lanes.are_none();
        if one { BUDGET } else { BUDGET_OF_MANY }
    }

    /// How many tokens this leg may bring before the others have their turn: where its stanzas go to several legs, no more than each may
    /// hold, for what one of them takes at once is not too much for it (LIM-05).
    fn most_tokens(&self, side: Side) -> usize {
        match side == Side::Near && self.legs.fars.len() > 1 {
            true => TOKENS.min(self.tools.relays.limits.queue_stanzas),
            false => TOKENS,
        }
    }

    fn is_over(&mut self) -> bool {
        if self.wakes.is_stopped() {
            return true;
        }
        let waits = self.courier_lanes.is_waiting() || self.settling.waits_for_another();
        self.relay.is_done() && !waits && self.legs.end()
    }

    /// Whether another round could move nothing.
    fn is_settled(&self) -> bool {
        // A look-up that was just begun wakes nobody before it was looked at.
        !self.waits.are_inquiring() && self.legs.are_settled()
    }

    /// Tells the relay, and carries out what it wants.
    pub(super) fn step(&mut self, side: Side, input: Input) {
        self.wakes.stir();
        let mut effects = self.turn.spare();
        self.relay.step_into(side, input, self.turn.now, &mut effects);
        self.carry_out(&mut effects);
        self.turn.keep(effects);
    }

    /// The connection of this leg has ended, and the relay hears what did not go out.
    pub(super) fn gone(&mut self, side: Side, reason: Reason) {
        if let Some(leg) = self.legs.get_mut(side) {
            let unsent = leg.cut();
            self.step(side, Input::Gone { reason, unsent });
        }
    }

    /// Legs whose connections have ended are none any more, and their places are free.
    fn forget_closed(&mut self) {
        // D10: a server whose connection is over has none, however long the server behind takes to close its own. Its pairs count until
        // then.
        if self.meta.flow == Flow::S2sIn && self.legs.near.as_ref().is_some_and(Leg::is_closed) {
            self.places.give_up();
        }
        if self.legs.fars.forget_closed() {
            let stands = |pair: &Pair| {
                let mut all = self.relay.guard().pairs().iter().chain(self.relay.back().pairs());
                let admitted = all.find(|admitted| admitted.pair() == pair);
                admitted.is_some_and(|admitted| !matches!(admitted.route(), filter::PairRoute::Withdrawn(_)))
            };
            self.charges.keep(stands);
        }
    }

    /// Where bounces of the near leg go nowhere, more would come: it ends.
    pub(super) fn bounced(&mut self, outcome: Result<(), Reason>) {
        if let Err(reason) = outcome
            && self.legs.near.is_some()
        {
            self.step(Side::Near, Input::Close(reason));
        }
    }

    /// A stanza goes to the courier of a pair that stands and has no leg of its own.
    pub(super) fn carry_on(&mut self, pair: Pair, stanza: Bytes) {
        // What comes back over a courier's leg is of one pair.
        let alone = self.charges.pairs() == 1 || self.legs.near.is_none();
        let ends = Ends { relay: &self.relay, meta: &self.meta, legs: &self.legs };
        let caller = ends.brings(&pair, &mut self.charges);
        match self.courier_lanes.carry(&self.tools, (pair, &caller), alone, stanza) {
            Ok(Some(cargo)) => self.settling.carries(&cargo),
            Ok(None) => {}
            Err(stanza) => self.step(Side::Near, Input::Refused(stanza, Reason::QueueFull)),
        }
    }

    /// A stanza of a backend goes to the courier of its pair.
    pub(super) fn hand(&mut self, id: LaneId, stanza: Bytes) {
        if let Err(stanza) = self.courier_lanes.hand(&self.tools, id, stanza) {
            self.step(Side::Near, Input::Overflow(stanza));
        }
    }

    /// Counts what has passed.
    pub(super) fn count_passed(&mut self) {
        self.turn.passed.count(self.meta.flow, self.tools.observe.metrics());
    }
}

/// Octets that one relay reads from either side before others may run, tokens counted in: with [`LOOK`] no stream keeps the threads
/// from those that have just become ready for more than 1 MiB, or for more than a millisecond; with [`super::shares`], for more than
/// this.
///
/// **What it buys.** What one turn brings goes out in one write, and wakes who reads it once: with 160 KiB for 64 the mix in large records
/// costs 0.91 (row `mix`, seven rounds with `--against`). With 320 KiB it would be 0.95 of this, and calm streams beside busy ones, which
/// wait 0.7 ms now and 0.3 with 64 KiB, 1.0 (row `calm`).
pub const BUDGET: usize = 160 * 1024;

/// The same of a near leg whose stanzas go several ways.
const BUDGET_OF_MANY: usize = 64 * 1024;

/// Tokens that one leg brings at once.
const TOKENS: usize = 256;

/// How many relays run before the runtime looks at the kernel for others that are ready.
pub const LOOK: u32 = 3;

/// How often the arms are tried before others may run.
const ROUNDS: usize = 8;

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
