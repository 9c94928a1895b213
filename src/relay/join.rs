//! Stanzas crossing from near to far, and what interrupts them: bounces, broken legs, a new policy, the end.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;

use crate::filter::{self, Decision, Desk, Route};
use crate::jid::{Domain, Jid};
use crate::policy::Policy;
use crate::reason::{Direction, Facing, Flow, Reason};
use crate::stream::initiating::Errand;
use crate::stream::{Answer, Pair};
use crate::xml::{Content, Edits, Frame, Framer, Head, Kind, Limits, Token, rewrite};

use super::refused::Turned;
use super::{Effect, Event, FarId, Relay, Sender, Shape, Words};

impl Relay {
    /// A stanza on the near stream.
    pub(super) fn pass(&mut self, frame: Frame, now: Instant, out: &mut Vec<Effect>) {
        let Some(near) = &self.near else { return };
        let home = &self.home;
        let desk = Desk {
            guard: &self.guard,
            direction: self.direction(),
            language: near.language.as_deref(),
            hosted: &|domain| home.hosted.contains_key(domain),
            rfc7622: &|domain| home.reads_rfc7622(domain),
        };
        match filter::inspect(frame.head(), &desk) {
            Decision::Pass { pair, edits, bare } => self.forward(frame, pair, (edits.as_deref(), bare), out),
            Decision::Bounce(reason) => self.bounce(frame.head(), reason, out),
            Decision::Drop(reason) => self.note_refused(frame.head(), reason, out),
            Decision::Unclear { answer, address } => {
                self.unclear(frame.head(), answer.as_deref(), address, out);
            }
            Decision::Fault(reason) => {
                self.note_refused(frame.head(), reason, out);
                self.near_fault(reason, now, out);
            }
        }
    }

    fn forward(
        &mut self,
        frame: Frame,
        index: usize,
        (edits, bare): (Option<&Edits>, Option<(usize, usize)>),
        out: &mut Vec<Effect>,
    ) {
        let Some(admitted) = self.guard.pair(index) else { return };
        let pair = admitted.pair();
        let rewritten = edits.map(|edits| rewrite(&frame, edits));
        let octets = rewritten.as_ref().unwrap_or(frame.octets()).len();
        let inbound = self.direction() == Direction::Inbound;
        // SM-09, XML-18: what the receiving server would refuse, with the whole stream, is refused here alone.
        if let Some((reason, measure)) = self.excess(admitted.route(), pair, &frame, edits, octets) {
            return self.turn_away(&Turned::beyond(frame.head(), reason, measure, octets), pair, out);
        }
        let leg = match admitted.route() {
            Route::Withdrawn(reason) => return self.bounce(frame.head(), reason, out),
            Route::Leg(number) => Some(FarId(number)),
            Route::Carried => None,
        };
        out.extend(inbound.then(|| Effect::Weigh(sender(&frame, edits, bare, pair))));
        let (hosted, _) = self.home.sides(pair, self.direction());
        let passed = Event::Passed { hosted: hosted.clone(), kind: frame.head().kind(), octets };
        let stanza = rewritten.unwrap_or_else(|| frame.into_octets());
        out.push(match leg {
            Some(id) => Effect::Pass(id, stanza),
            None => Effect::Carry(pair.clone(), stanza),
        });
        out.push(Effect::Note(passed));
        self.guard.count(index, octets);
    }

    /// A stanza that its sender may not send now (LIM-04). Presence is not even answered (DB-70), nor a request for a
    /// subscription (LIM-08): a room would hear as many errors as it has occupants.
    pub(super) fn too_much(&self, octets: &Bytes, reason: Reason, out: &mut Vec<Effect>) {
        match reread(octets) {
            Some(frame) if frame.head().kind() == Kind::Presence && reason.is_of_sender() => {
                self.note_refused(frame.head(), reason, out);
            }
            _ => self.undeliverable(octets, reason, out),
        }
    }

    /// The stanza goes back to its sender as an error; the other way is another stream, so a courier takes it.
    fn bounce(&self, head: &Head, reason: Reason, out: &mut Vec<Effect>) {
        self.note_refused(head, reason, out);
        out.extend(self.answer(head, reason));
    }

    /// The error stanza that its sender gets, if it may be answered.
    fn answer(&self, head: &Head, reason: Reason) -> Option<Effect> {
        let condition = match self.direction() {
            Direction::Inbound => reason.stanza_condition(),
            Direction::Outbound => reason.backend_condition(),
        };
        let octets = filter::error_stanza(head, reason, condition)?;
        Some(Effect::Carry(pair_of(head)?.reversed(), octets))
    }

    fn note_refused(&self, head: &Head, reason: Reason, out: &mut Vec<Effect>) {
        let pair = pair_of(head);
        let hosted = pair.as_ref().map(|pair| match self.direction() {
            Direction::Inbound => pair.target.clone(),
            Direction::Outbound => pair.sender.clone(),
        });
        let hosted = hosted.filter(|domain| self.home.hosts(domain));
        out.push(Effect::Note(Event::Refused { pair, hosted, reason }));
    }

    /// A stanza that a broken far leg left: carried once more by a courier, or, where a courier already failed, bounced.
    pub(super) fn stranded(&mut self, pair: &Pair, octets: Bytes, out: &mut Vec<Effect>) {
        match self.shape {
            Shape::Courier => self.undeliverable(&octets, Reason::ConnectionLost, out),
            // There is no time left for a second try.
            _ if self.draining => self.undeliverable(&octets, Reason::Shutdown, out),
            _ => out.push(Effect::Carry(pair.clone(), octets)),
        }
    }

    /// The same for a leg that the relay has forgotten: each stanza names its pair.
    pub(super) fn left_behind(&mut self, unsent: Vec<Bytes>, out: &mut Vec<Effect>) {
        for octets in unsent {
            if let Some(pair) = reread(&octets).and_then(|frame| pair_of(frame.head())) {
                self.stranded(&pair, octets, out);
            }
        }
    }

    /// A stanza that cannot be delivered goes back, once: errors and results are never answered (RLY-09).
    fn undeliverable(&self, octets: &Bytes, reason: Reason, out: &mut Vec<Effect>) {
        let Some(frame) = reread(octets) else { return };
        let head = frame.head();
        let answerable = match head.type_().as_deref() {
            Some("error") => false,
            Some("result") => head.kind() != crate::xml::Kind::Iq,
            _ => true,
        };
        match answerable {
            true => self.bounce(head, reason, out),
            false => self.note_refused(head, reason, out),
        }
    }

    /// The far outbox has no room (DB-66, LIM-05): this stanza goes back, the others go on.
    pub(super) fn far_overflow(&mut self, octets: &Bytes, out: &mut Vec<Effect>) {
        self.undeliverable(octets, Reason::QueueFull, out);
    }

    /// A far leg that stood is no more.
    pub(super) fn far_lost(&mut self, id: FarId, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get(&id) else { return };
        let Errand::Speak(pair) = far.terms.errand.clone() else {
            self.fars.remove(&id);
            return;
        };
        let facing = far.terms.facing;
        if let Shape::Courier = self.shape {
            let closing = far.is_closing();
            self.fars.remove(&id);
            return if closing { self.go_on(pair, now, out) } else { self.give_up(reason, out) };
        }
        // A pair that was taken back stays so (POL-07), and one that has another leg keeps it.
        if self.guard.pairs().iter().any(|a| *a.pair() == pair && a.route() == Route::Leg(id.0)) {
            self.guard.reroute(&pair, Route::Carried);
        }
        let live = self.near.as_deref().is_some_and(super::near::Near::is_live);
        let others = self.guard.pairs().iter().any(|a| matches!(a.route(), Route::Leg(_)));
        if live && !others && self.claims.is_empty() {
            // CLS-06: the other half closes with a matching meaning. What still arrives until then is carried.
            let reason = match (reason, facing) {
                (Reason::Finished | Reason::Idle, _) => Reason::Finished,
                (_, Facing::Backend) => Reason::BackendDown,
                (_, Facing::Public) => Reason::RemoteFailed,
            };
            self.near_close(reason, now, out);
        }
        self.fars.remove(&id);
    }

    // -- couriers

    /// One more stanza for a courier.
    pub(super) fn enqueue(&mut self, octets: Bytes, now: Instant, out: &mut Vec<Effect>) {
        if self.ending || self.fars.is_empty() {
            return self.undeliverable(&octets, Reason::RemoteUnreachable, out);
        }
        if self.queue.is_empty() {
            self.last = now;
        }
        let held: usize = self.queue.iter().map(Bytes::len).sum();
        let limits = &self.home.limits;
        if self.queue.len() >= limits.queue_stanzas || held + octets.len() > limits.queue_octets {
            return self.undeliverable(&octets, Reason::QueueFull, out);
        }
        self.queue.push_back(octets);
        let standing = self.fars.iter().find(|(_, far)| far.is_live()).map(|(id, _)| *id);
        if let Some(id) = standing {
            self.last = now;
            self.flush(id, out);
        }
    }

    /// The courier's far leg stands: what waited goes out in order.
    pub(super) fn flush(&mut self, id: FarId, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get(&id) else { return };
        let limit = self.largest(id, far.terms.errand.to());
        for octets in std::mem::take(&mut self.queue) {
            match octets.len() > limit {
                true => self.undeliverable(&octets, Reason::BeyondPeerLimit, out),
                false => out.push(Effect::Pass(id, octets)),
            }
        }
    }

    /// The largest stanza that the server of this domain takes over that leg: by its own word, and by the operator's.
    pub(super) fn largest(&self, id: FarId, target: &Domain) -> usize {
        let told = self.fars.get(&id).and_then(|far| far.max_octets);
        match told {
            // A peer knows best. Of one that says nothing no more is expected than others may send us.
            Some(told) if !self.home.hosts(target) => told,
            told => told.unwrap_or(usize::MAX).min(self.home.taken(target)),
        }
    }

    /// Whether the policy lets the courier speak over this leg, by what is known of it; if not, what waits goes back, and so
    /// does what comes (POL-07, POL-08).
    pub(super) fn courier_stands(&mut self, id: FarId, now: Instant, out: &mut Vec<Effect>) -> bool {
        let errand = self.fars.get(&id).filter(|far| far.standing).map(|far| far.terms.errand.clone());
        let Some(Errand::Speak(pair)) = errand.filter(|_| self.flow == Flow::S2sOut) else { return true };
        let verdict = self.outbound_verdict(&pair, Some(id));
        if verdict.is_allow() {
            return true;
        }
        let reason = verdict.reason;
        out.push(Effect::Note(Event::Judged { pair, verdict: verdict.into() }));
        self.far_close(id, now, out);
        self.give_up(reason, out);
        false
    }

    /// The courier's leg was closed because nothing had come for a while; what came since goes over another.
    pub(super) fn go_on(&mut self, pair: Pair, now: Instant, out: &mut Vec<Effect>) {
        if self.ending || self.queue.is_empty() {
            return;
        }
        let verdict = self.outbound_verdict(&pair, None);
        if self.flow == Flow::S2sOut && !verdict.is_allow() {
            return self.give_up(verdict.reason, out);
        }
        self.last = now;
        self.open_far(Errand::Speak(pair), super::plan::far(self.flow), None, now, out);
    }

    /// The courier cannot deliver: everything that waits goes back.
    pub(super) fn give_up(&mut self, reason: Reason, out: &mut Vec<Effect>) {
        self.ending = true;
        for octets in std::mem::take(&mut self.queue) {
            self.undeliverable(&octets, reason, out);
        }
    }

    // -- policy, time and the end

    /// POL-07: a new policy judges every pair again.
    pub(super) fn rejudge(&mut self, policy: std::sync::Arc<Policy>, now: Instant, out: &mut Vec<Effect>) {
        self.policy = policy;
        if let Shape::Courier = self.shape {
            let ids: Vec<_> = self.fars.keys().copied().collect();
            for id in ids {
                self.courier_stands(id, now, out);
            }
        }
        let standing: Vec<_> = self
            .guard
            .pairs()
            .iter()
            .filter(|a| !matches!(a.route(), Route::Withdrawn(_)))
            .map(|a| (a.pair().clone(), a.permit().clone(), a.route()))
            .collect();
        for (pair, permit, route) in standing {
            let verdict = self.policy.judge_again(&permit);
            match verdict.permit() {
                Some(renewed) => {
                    let changed = renewed.quotas() != permit.quotas() || renewed.rule() != permit.rule();
                    self.guard.repermit(&pair, renewed.clone());
                    let leg = match route {
                        Route::Leg(number) => Some(FarId(number)),
                        Route::Carried | Route::Withdrawn(_) => None,
                    };
                    if changed {
                        out.push(Effect::Admitted(leg, renewed));
                    }
                }
                None => {
                    out.push(Effect::Note(Event::Judged { pair: pair.clone(), verdict: verdict.into() }));
                    self.guard.reroute(&pair, Route::Withdrawn(Reason::PolicyChanged));
                    if let Route::Leg(number) = route {
                        self.far_close(FarId(number), now, out);
                    }
                }
            }
        }
        let banned = self.peer_address().is_some_and(|address| self.policy.bans().holds_address(address));
        if self.guard.is_empty() && banned {
            // Who has no pair yet is not judged again before it claims one; the ban may have come between the door and here.
            self.near_close(Reason::Banned, now, out);
        } else if !self.guard.is_empty() && self.guard.is_withdrawn() {
            self.near_close(Reason::PolicyChanged, now, out);
        }
        // What went back by the old policy may pass by the new one: the backend claims it again on another stream.
        let stale = |(pair, reason): &(Pair, Reason)| self.outbound_verdict(pair, None).reason != *reason;
        if self.guard.turned_back().iter().any(stale) {
            self.near_close(Reason::Finished, now, out);
        }
    }

    /// The whole relay ends in good order.
    pub(super) fn close(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        match self.shape {
            Shape::Serving => {
                let ids: Vec<_> = self.claims.keys().copied().collect();
                for id in ids {
                    self.refuse(id, Reason::Overload, now, out);
                }
                self.near_close(reason, now, out);
            }
            Shape::Courier if self.queue.is_empty() => self.close_fars(now, out),
            // What waits is delivered or given back within its own time.
            Shape::Courier => {}
            Shape::Verifier => {
                if !std::mem::replace(&mut self.ending, true) {
                    out.push(Effect::Answer(Answer::Trouble(Reason::Shutdown)));
                }
                self.close_fars(now, out);
            }
        }
    }

    /// A courier's stanzas that wait go back now.
    pub(super) fn give_back(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        if let (Shape::Courier, false) = (&self.shape, self.queue.is_empty()) {
            self.give_up(reason, out);
            self.close_fars(now, out);
        }
    }

    fn close_fars(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let ids: Vec<_> = self.fars.keys().copied().collect();
        for id in ids {
            self.far_close(id, now, out);
        }
    }

    /// Some deadline has come; each that is due is acted on.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let late: Vec<_> = self.claims.iter().filter(|(_, p)| p.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            // Who is proven has done his part: it is our own server that does not answer.
            let proven = self.claims.get(&id).is_some_and(|claim| claim.far.is_some());
            let reason = match (self.direction(), proven) {
                (Direction::Inbound, true) => Reason::BackendSilent,
                _ => Reason::DialbackTimeout,
            };
            self.refuse(id, reason, now, out);
        }
        self.expire_fars(now, out);
        self.expire_near(now, out);
        let times = self.home.timeouts;
        match self.shape {
            Shape::Serving => {}
            Shape::Courier if self.queue.is_empty() => {
                if self.last + self.patience() <= now && self.fars.values().any(|far| far.is_live()) {
                    self.close_fars(now, out);
                }
            }
            Shape::Courier => {
                if self.last + times.queue <= now {
                    for id in self.fars.keys() {
                        self.far_late(*id, Reason::DialbackTimeout, out);
                    }
                    self.give_up(Reason::DialbackTimeout, out);
                    self.close_fars(now, out);
                }
            }
            Shape::Verifier => {
                if self.started + times.dialback <= now && !std::mem::replace(&mut self.ending, true) {
                    out.push(Effect::Answer(Answer::Trouble(Reason::DialbackTimeout)));
                    self.close_fars(now, out);
                }
            }
        }
    }

    fn expire_near(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let times = self.home.timeouts;
        let Some(near) = &self.near else { return };
        if near.deadline(self, &times).is_none_or(|at| at > now) {
            return;
        }
        if !near.is_live() {
            // T-close: nobody closed in answer.
            let reason = match near.reason() {
                Reason::Finished => Reason::CloseTimeout,
                // Why we closed says more than that nobody answered.
                reason => reason,
            };
            self.near_over(out);
            return self.wind_down(reason, now, out);
        }
        if self.certificate_end().is_some_and(|at| at <= now) {
            return self.near_close(Reason::CertificateExpired, now, out);
        }
        if near.done_asking(&times).is_some_and(|at| at <= now) {
            return self.near_close(Reason::Idle, now, out);
        }
        if self.guard.is_empty() && self.started + times.unauth <= now {
            // A backend that opened a stream only to ask about keys, or had every pair refused, did nothing wrong.
            return match self.flow {
                Flow::S2sOut => self.near_close(Reason::Idle, now, out),
                _ => self.near_fault(Reason::NegotiationTimeout, now, out),
            };
        }
        if !self.guard.is_empty() && self.last + times.idle <= now {
            return self.near_close(Reason::Idle, now, out);
        }
        self.near_step(crate::stream::receiving::Input::Expired, now, out);
    }
}

/// Who sends this to whom, as far as it is limited for each address. RLY-20: a full address counts as its bare one; but a room is
/// one bare address, so of presence and of what is said in a room the full one is told, too.
/// What the desk wrote anew is canonical there, and what it left is canonical as it came.
fn sender(frame: &Frame, edits: Option<&Edits>, bare: Option<(usize, usize)>, pair: &Pair) -> Sender {
    let head = frame.head();
    fn whole<'a>(anew: Option<&'a String>, came: Option<Cow<'a, str>>) -> Cow<'a, str> {
        anew.map(|anew| Cow::Borrowed(anew.as_str())).or(came).unwrap_or_default()
    }
    let apart = |anew: Option<&String>, came: Option<Cow<'_, str>>| {
        let whole = whole(anew, came);
        Words::Apart(whole.split_once('/').map_or(&*whole, |(bare, _)| bare).into())
    };
    let within = |at: Option<usize>, len: usize| at.map(|at| Words::Within(at..at + len));
    let (address, recipient) = match bare {
        Some((from, to)) => (within(head.from_at(), from), within(head.to_at(), to)),
        None => (None, None),
    };
    let of_many = match head.kind() {
        Kind::Presence => true,
        Kind::Message => head.is_type("groupchat"),
        Kind::Iq | Kind::Other => false,
    };
    let written = || edits.and_then(|e| e.from.as_ref());
    let occupant =
        of_many.then(|| match bare.and_then(|_| within(head.from_at(), head.from_as_spelt()?.len())) {
            Some(whole) => whole,
            None => Words::Apart(whole(written(), head.from()).into()),
        });
    Sender {
        domain: pair.sender.clone(),
        address: address.unwrap_or_else(|| apart(written(), head.from())),
        occupant,
        recipient: recipient.unwrap_or_else(|| apart(edits.and_then(|e| e.to.as_ref()), head.to())),
        subscribes: head.kind() == Kind::Presence && head.is_type("subscribe"),
    }
}

/// The two domains of a stanza, if both are domains.
pub(super) fn pair_of(head: &Head) -> Option<Pair> {
    let domain = |address: Option<Cow<'_, str>>| -> Option<Domain> {
        let text = address?;
        if let Ok(jid) = Jid::parse(&text) {
            return Some(jid.to_domain());
        }
        let bare = text.split_once('/').map_or(&*text, |(bare, _)| bare);
        Domain::parse(bare.split_once('@').map_or(bare, |(_, domain)| domain)).ok()
    };
    Some(Pair { sender: domain(head.from())?, target: domain(head.to())? })
}

/// A stanza that we wrote or passed, read once more; only on the way back, never on the way there. It kept its budgets when
/// it came, and may be longer now: the canonical form of a CDATA section is.
fn reread(octets: &Bytes) -> Option<Frame> {
    const ALL: usize = usize::MAX;
    let limits = Limits {
        element: ALL,
        depth: ALL,
        attributes: ALL,
        declarations: ALL,
        bindings: ALL,
        name: ALL,
        value: ALL,
        namespace_name: ALL,
        nodes: ALL,
        ..Limits::default()
    };
    let mut framer = Framer::new(limits, Content::Server);
    framer.feed(&crate::stream::opening(None, None, None, true));
    framer.feed(octets);
    std::iter::from_fn(|| framer.next()).find_map(|token| match token {
        Token::Element(frame) => Some(frame),
        _ => None,
    })
}
