//! The loop of one relay: reads and writes of every leg, deadlines, orders and news, each in an arm of its own.
//!
//! No arm waits: it moves what can be moved and says whether something moved. A leg is read only when what it brings has
//! room to go (law `bounded`): with one far leg the near leg waits for it; with several, none may hold up the others
//! (DB-66), and what does not fit is told to the relay, which bounces it.

pub(super) mod back;
mod carriage;
mod due;
mod far;
pub(super) mod fars;
mod hand;
mod knock;
mod links;
mod measure;
mod news;
mod reading;
pub(super) mod settling;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::time::Sleep;

use self::carriage::Carriage;
pub(super) use self::far::{Far, Sending};
use self::fars::Fars;
use self::hand::{Lane, Stalled};
use self::knock::Knock;
use self::measure::{Held, Passed};
use self::news::next_news;
use self::settling::Settling;
use super::cargo::Cargo;
use super::inbox::Inbox;
use super::leg::{Leg, Link};
use super::registry::{INBOX, Life, Meta, News, Order, Phase, View};
use super::told::Memory;
use super::verifier::Learnt;
use super::websocket::Frames;
use super::{BoxIo, Later, Tools, now, shares};
use crate::limit::{Place, Stranger, Tally, Threshold, Valve};
use crate::reason::Reason;
use crate::relay::{Effect, Input, LaneId, Relay, Side, plan};
use crate::stream::evidence::Evidence;
use crate::stream::{Pair, Secured};
use crate::tls::TrustStore;

/// A relay and all that it moves.
pub struct Pump {
    pub(super) relay: Relay,
    pub(super) near: Option<Leg>,
    pub(super) fars: Fars,
    pub(super) tools: Arc<Tools>,
    pub(super) meta: Meta,
    pub(super) life: Life,
    /// What follows from effects that are being carried out.
    pub(super) effects: VecDeque<Effect>,
    pub(super) carrying: bool,
    /// Room for what the relay wants, for the length of a turn.
    spare: Vec<Effect>,
    /// The time of this round.
    pub(super) now: Instant,
    /// What may still be done for the near leg, and for all others, before other relays have their turn: octets read, and for each
    /// token as many as it costs besides.
    budget: (usize, usize),
    /// What has passed in this turn.
    passed: Passed,
    /// Couriers carry, or have carried, some of its pairs.
    pub(super) carries: bool,
    /// Its near leg is counted.
    pub(super) settling: Option<Box<Settling>>,
    /// It was, and broke: whoever goes on waits for this.
    remains: Option<watch::Sender<super::sessions::Given>>,
    /// Octets of refused stanzas were charged to the near leg's rates, which may still owe them.
    pub(super) skips: bool,
    /// Who waits for the verifier's answer.
    pub(super) answer: Option<oneshot::Sender<Learnt>>,
    /// A login that waits before it may be tried.
    pub(super) trying: Option<Pin<Box<Sleep>>>,
    /// What domains publish about the certificate of the near leg, while it is looked up.
    pub(super) inquiries: Vec<Later<Evidence>>,
    /// The rates of the stream, once it may send.
    pub(super) rates: Option<Valve>,
    /// Who may send what on it.
    pub(super) sending: HashMap<Pair, Sending>,
    /// What it has brought of one domain.
    pub(super) tally: Tally,
    /// A sender on it is above his rate: so long it should not be read.
    pub(super) slowed: Option<Instant>,
    /// The near leg is not read: a pair that couriers carry has sent as much as its rate lets it, or one sender has.
    held: Option<Held>,
    /// Stanzas on their way over couriers: those that wait for room, and a courier's own.
    carriage: Option<Box<Carriage>>,
    /// What is remembered for the log and the records.
    pub(super) memory: Option<Box<Memory>>,
    /// The pairs of a backend, and where their stanzas go.
    pub(super) lanes: HashMap<LaneId, Lane>,
    /// A stanza of a backend waits for room with the only courier that the stream has.
    stalled: Option<Box<Stalled>>,
    /// What a courier carries.
    cargo: Option<Arc<Cargo>>,
    /// What goes back over the near leg.
    pub(super) backs: Option<back::Backs>,
    /// A client's turn to leave, while the gateway drains.
    pub(super) leaving: Option<Pin<Box<Sleep>>>,
    /// Its place among strangers, until it is proven.
    pub(super) stranger: Option<Stranger>,
    /// Its places among those who are proven: by what they proved, and by their network.
    pub(super) places: [Option<Place>; 2],
    pub(super) threshold: Option<Threshold>,
    /// Its place among those that always have more to do.
    place: Option<Arc<shares::Place>>,
    orders: Inbox<Order>,
    news: Later<Option<watch::Receiver<News>>>,
    /// What orders, news and the timer wake.
    knock: Option<Arc<Knock>>,
    /// What certificates were judged by last, if that is not what their handshakes knew.
    trust: Option<Arc<TrustStore>>,
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
    stopped: bool,
    since: jiff::Timestamp,
    /// It was told to go, because there is no room for strangers.
    pub(super) unwelcome: bool,
    /// It began when others already gave back what they held, and may take its time until the end.
    late: bool,
}

/// A relay that runs. A type of its own: an async function has room for what it is given twice.
pub struct Running(Pump);

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
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
        let mut near = Leg::arrived(io, first, content, &tools.home.limits.before_proof, now());
        near.secured = secured;
        let mut pump = Self::new(tools, relay, entry, meta);
        pump.near = Some(near);
        pump
    }

    /// What comes is in messages (RFC 7395).
    #[must_use]
    pub fn in_messages(mut self, frames: Arc<Frames>) -> Self {
        let limits = &self.tools.home.limits.before_proof;
        self.near = self.near.take().map(|near| near.in_messages(frames, limits));
        self
    }

    /// Nobody knows yet who this is.
    #[must_use]
    pub fn strange(mut self, stranger: Stranger) -> Self {
        self.stranger = Some(stranger);
        self
    }

    /// A courier or verifier, with the first things that it wants.
    pub fn sent(
        tools: Arc<Tools>,
        made: (Relay, Vec<Effect>),
        entry: (Life, Inbox<Order>),
        meta: Meta,
    ) -> Self {
        let (relay, mut effects) = made;
        let mut pump = Self::new(tools, relay, entry, meta);
        pump.carry_out(&mut effects);
        pump
    }

    fn new(tools: Arc<Tools>, relay: Relay, (life, orders): (Life, Inbox<Order>), meta: Meta) -> Self {
        let mut news = tools.registry.news();
        // The relay was made under the policy of a moment ago; it hears of any change since, and of a drain under way.
        news.mark_changed();
        let late = matches!(tools.registry.phase(), Phase::Closing(_));
        Self {
            relay,
            near: None,
            fars: Fars::default(),
            tools,
            meta,
            life,
            effects: VecDeque::new(),
            carrying: false,
            spare: Vec::new(),
            now: now(),
            budget: (BUDGET, BUDGET),
            passed: Passed::default(),
            carries: false,
            settling: None,
            remains: None,
            skips: false,
            answer: None,
            trying: None,
            inquiries: Vec::new(),
            rates: None,
            sending: HashMap::new(),
            tally: Tally::default(),
            slowed: None,
            held: None,
            carriage: None,
            memory: None,
            lanes: HashMap::new(),
            stalled: None,
            cargo: None,
            backs: None,
            leaving: None,
            stranger: None,
            places: [None, None],
            threshold: None,
            place: None,
            orders,
            news: next_news(news),
            knock: None,
            trust: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            rings: now(),
            due: None,
            relay_due: None,
            stirred: true,
            expired: None,
            stopped: false,
            since: jiff::Timestamp::now(),
            unwelcome: false,
            late,
        }
    }

    /// Runs until nothing is left.
    pub fn run(self) -> Running {
        Running(self)
    }

    fn end(&mut self) {
        self.orders.close();
        self.lose_waiting();
        self.lose_stalled();
        self.pass_on_reports();
        back::end(self);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let knock = match self.knock.take().filter(|knock| knock.wakes(cx)) {
            Some(knock) => knock,
            None => {
                self.fars.unhang();
                Knock::new(cx.waker())
            }
        };
        let knock = self.knock.insert(knock);
        let heard = knock.was_heard();
        let knock = Waker::from(Arc::clone(knock));
        self.place.take_if(|place| place.is_called());
        self.budget = (BUDGET, BUDGET);
        if let Some(near) = &mut self.near {
            near.quiet = false;
        }
        self.fars.begin();
        let over = self.turn(cx, heard, &mut Context::from_waker(&knock));
        self.spare = Vec::new();
        self.fars.rest(&self.tools.params);
        self.tell_passed();
        self.settle_cargo();
        back::settle(self);
        over
    }

    fn turn(&mut self, cx: &mut Context<'_>, heard: bool, knock: &mut Context<'_>) -> Poll<()> {
        // What was pending once in this turn wakes us when it no longer is; it need not be asked again in each round.
        let mut told = heard;
        // Nothing has changed since the last turn ended and told when something would be due.
        let mut due = self.due.take().is_none_or(|at| at <= now());
        for _ in 0..ROUNDS {
            let now = now();
            self.now = now;
            told = told && (self.poll_orders(knock) | self.poll_news(knock));
            due = due && self.poll_due(now);
            let mut moved =
                told | due | self.poll_trying(cx) | self.poll_inquiries(cx) | self.poll_leaving(cx);
            let mut next = self.side_after(None);
            while let Some(side) = next {
                moved |= self.poll_side(side, cx, now);
                next = self.side_after(Some(side));
            }
            // What the far legs have brought goes out in the round that brought it.
            if self.near.as_ref().is_some_and(|near| !near.outbox.is_empty()) {
                moved |= self.poll_out(Side::Near, cx, now);
            }
            let carried = self.poll_carriage(cx) | self.poll_stalled(cx) | self.poll_cargo(cx);
            let carried = carried | settling::poll(self, cx) | back::poll(self, cx);
            moved |= self.weigh() | carried;
            self.forget_closed();
            if self.is_over() {
                return Poll::Ready(());
            }
            if self.budget.0 == 0 || self.budget.1 == 0 {
                break;
            }
            if !moved || !(told | due | carried) && self.is_settled() {
                if self.poll_timer(knock, now, heard).is_pending() {
                    return Poll::Pending;
                }
                due = true;
            }
        }
        // Others want to run too, and go first.
        self.tools.registry.shares().stand(&mut self.place, knock.waker());
        Poll::Pending
    }

    fn is_over(&mut self) -> bool {
        if self.stopped {
            return true;
        }
        if !self.relay.is_done() || self.is_waiting_for_couriers() || self.stalled.is_some() {
            return false;
        }
        self.near.iter_mut().for_each(links::end);
        let ids: Vec<_> = self.fars.ids().collect();
        for id in ids {
            self.fars.get_mut(id).into_iter().for_each(|far| links::end(&mut far.leg));
        }
        self.near.iter().chain(self.fars.values().map(|f| &f.leg)).all(Leg::is_closed)
    }

    /// Whether another round could move nothing: every leg has been read to the end and has nothing to send.
    fn is_settled(&self) -> bool {
        let mut legs = self.near.iter().chain(self.fars.awake().map(|f| &f.leg));
        // One that was just begun wakes nobody before it was looked at.
        self.inquiries.is_empty() && legs.all(Leg::is_settled)
    }

    /// The legs that do not rest, in their order, one after the other; they may come and go meanwhile.
    fn side_after(&self, side: Option<Side>) -> Option<Side> {
        let far = match side {
            None if self.near.is_some() => return Some(Side::Near),
            None | Some(Side::Near) => self.fars.after(None),
            Some(Side::Far(id)) => self.fars.after(Some(id)),
        };
        far.map(Side::Far)
    }

    pub(super) fn leg(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Near => self.near.as_mut(),
            Side::Far(id) => self.fars.get_mut(id).map(|f| &mut f.leg),
        }
    }

    /// Tells the relay, and carries out what it wants.
    pub(super) fn step(&mut self, side: Side, input: Input) {
        self.stirred = true;
        let mut effects = std::mem::take(&mut self.spare);
        self.relay.step_into(side, input, self.now, &mut effects);
        self.carry_out(&mut effects);
        self.spare = effects;
    }

    /// The connection of this leg has ended, and the relay hears what did not go out.
    pub(super) fn gone(&mut self, side: Side, reason: Reason) {
        let Some(leg) = self.leg(side) else { return };
        leg.link = Link::Closed;
        leg.upgrade = false;
        let unsent = leg.outbox.take_unsent();
        self.step(side, Input::Gone { reason, unsent });
    }

    fn poll_orders(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        // At most one inbox full, so that a busy courier still writes.
        for _ in 0..INBOX {
            let Poll::Ready(order) = self.orders.poll_next(cx) else { break };
            moved = true;
            match order {
                Order::Verified(claim, answer, why) => self.verified(claim, answer, why),
                Order::Report(report) => {
                    let (pair, stanza) = *report;
                    self.step(Side::Near, Input::Report(pair, stanza));
                }
                Order::Yield => self.step(Side::Near, Input::Yield),
                Order::GiveWay(id) => self.step(Side::Far(id), Input::Yield),
                Order::Supersede => self.gone(Side::Near, Reason::ConnectionLost),
                Order::GoneOn(taken) => self.step(Side::Near, Input::GoneOn(taken)),
                Order::Forsaken => self.step(Side::Near, Input::Forsaken),
                Order::Close(reason) => self.step(Side::Near, Input::Close(reason)),
                Order::Describe(under, trust, tell) => {
                    let portrait = self.portrait(under.as_deref(), trust.as_deref());
                    // Whoever asked may have lost patience.
                    let _told = tell.send(View { meta: self.meta, since: self.since, portrait });
                }
            }
        }
        moved
    }

    fn poll_side(&mut self, side: Side, cx: &mut Context<'_>, now: Instant) -> bool {
        let bell = match side {
            Side::Near => None,
            Side::Far(id) => self.fars.bell(id, cx.waker()),
        };
        #[cfg(test)]
        tests::looked_at(side);
        match bell {
            None => self.poll_leg(side, cx, now),
            Some(bell) => self.poll_leg(side, &mut Context::from_waker(&bell), now),
        }
    }

    fn poll_leg(&mut self, side: Side, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        if let Some(found) = self.leg(side).and_then(|leg| leg.poll_link(cx)) {
            self.found(side, found);
            moved = true;
        }
        match side {
            Side::Near => {
                moved |= self.poll_out(side, cx, now);
                moved |= self.poll_in(side, cx, now);
            }
            // Read first: what is written to a server that has closed already is lost in silence (CLS-02).
            Side::Far(_) => {
                moved |= self.poll_in(side, cx, now);
                moved |= self.poll_out(side, cx, now);
            }
        }
        moved
    }

    fn poll_out(&mut self, side: Side, cx: &mut Context<'_>, now: Instant) -> bool {
        // Whoever has a stanza finds it counted.
        self.tell_passed();
        let (stanza, close) = (self.tools.params.stanza, self.tools.home.timeouts.close);
        let mut moved = false;
        let hurry = self.patience(side);
        if let Some(leg) = self.leg(side) {
            leg.hurry(hurry);
        }
        match self.leg(side).map(|leg| leg.poll_out(cx, now, stanza, close)) {
            None => return false,
            Some(Err(reason)) => {
                self.gone(side, reason);
                return true;
            }
            Some(Ok(sent)) => {
                moved |= sent.moved;
                if let Some(rated) = sent.shut {
                    self.tools.observe.metrics().limited(measure::limit(rated));
                }
                if let Some((rated, time)) = sent.waited {
                    self.tools.observe.metrics().waited(measure::limit(rated), time);
                }
            }
        }
        moved | self.start_upgrade(side)
    }
}

/// Octets that one relay reads from either side before others may run, tokens counted in: with [`LOOK`] no stream keeps the threads
/// from those that have just become ready for more than 1 MiB, or for more than a millisecond; with [`shares`], for more than this.
pub const BUDGET: usize = 64 * 1024;

/// How many relays run before the runtime looks at the kernel for others that are ready.
pub const LOOK: u32 = 8;

/// How often the arms are tried before others may run.
const ROUNDS: usize = 8;

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
