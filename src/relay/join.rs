//! Stanzas crossing from near to far, and what interrupts them: bounces, broken legs, a new policy, the end.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;

use crate::filter::{self, Decision, Desk, Route};
use crate::jid::{Domain, Jid};
use crate::policy::Policy;
use crate::reason::{Direction, Facing, Flow, Reason, Why};
use crate::stream::initiating::Errand;
use crate::stream::{Answer, Pair};
use crate::xml::{Content, Edits, Frame, Framer, Head, Kind, Limits, Token, rewrite};

use super::refused::Turned;
use super::{Effect, Event, FarId, Relay, Sender, Shape, Words};

impl Relay {
    /// A stanza on the near stream.
    pub(super) fn pass(&mut self, frame: Frame, now: Instant, out: &mut Vec<Effect>) {
        if self.flow == Flow::S2sOut {
            return self.pass_outbound(frame, now, out);
        }
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
            Decision::Bounce(reason) => self.bounce(frame.head(), &reason.into(), out),
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
        // SM-09, XML-18: what the receiving server would refuse, with the whole stream, is refused here alone.
        if let Some((reason, measure)) = self.excess(admitted.route(), pair, &frame, edits, octets) {
            return self.turn_away(&Turned::beyond(frame.head(), reason, measure, octets), pair, out);
        }
        let leg = match admitted.route() {
            Route::Withdrawn(reason) => return self.bounce(frame.head(), &reason.into(), out),
            Route::Leg(number) => Some(FarId(number)),
            Route::Carried => None,
        };
        out.push(Effect::Weigh(sender(&frame, edits, bare, pair)));
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
            _ => self.undeliverable(octets, &reason.into(), out),
        }
    }

    /// The stanza goes back to its sender as an error; the other way is another stream, so a courier takes it.
    pub(super) fn bounce(&self, head: &Head, why: &Why, out: &mut Vec<Effect>) {
        self.note_refused(head, why.reason, out);
        out.extend(self.answer(head, why));
    }

    /// The same, if it may be answered at all (RLY-09, DB-70).
    pub(super) fn sent_back(&self, head: &Head, why: &Why, out: &mut Vec<Effect>) {
        match filter::is_answerable(head, why.reason) {
            true => self.bounce(head, why, out),
            false => self.note_refused(head, why.reason, out),
        }
    }

    /// The error stanza that its sender gets. Who sent it from inside reads why; the world reads the condition alone
    /// (POL-05).
    fn answer(&self, head: &Head, why: &Why) -> Option<Effect> {
        let reason = why.reason;
        let pair = pair_of(head)?;
        if self.direction() == Direction::Inbound {
            let stanza = filter::error_stanza(head, reason, reason.stanza_condition())?;
            return Some(Effect::Carry(pair.reversed(), stanza));
        }
        let words = match (self.home.explain, reason) {
            (false, _) => "this could not be delivered".to_owned(),
            (true, Reason::NotConfigured | Reason::OtherBackend) => {
                let name = &pair.sender;
                format!(
                    "{name}: {}: the operator of the gateway is missing `- name: {name}` under `domains:` ({})",
                    reason.words(),
                    reason.label()
                )
            }
            (true, _) => format!("{}: {}", pair.target, why.for_users()),
        };
        let (id, from, to) = (head.id(), head.to(), head.from());
        let answer = filter::Answer {
            id: id.as_deref(),
            from: from.as_deref(),
            to: to.as_deref(),
            text: Some(&words),
        };
        let stanza = answer.write(head.kind(), reason, reason.backend_condition())?;
        Some(self.way_back(&pair, stanza))
    }

    /// How an error about a stanza of this pair goes back.
    pub(super) fn way_back(&self, pair: &Pair, stanza: Bytes) -> Effect {
        match (self.direction(), self.backend_of(pair)) {
            (Direction::Outbound, Some(via)) => Effect::Report { pair: pair.reversed(), via, stanza },
            _ => Effect::Carry(pair.reversed(), stanza),
        }
    }

    pub(super) fn note_refused(&self, head: &Head, reason: Reason, out: &mut Vec<Effect>) {
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
            Shape::Courier(_) => self.undeliverable(&octets, &Reason::ConnectionLost.into(), out),
            // There is no time left for a second try.
            _ if self.draining => self.undeliverable(&octets, &Reason::Shutdown.into(), out),
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

    /// A stanza that cannot be delivered goes back, once.
    pub(super) fn undeliverable(&self, octets: &Bytes, why: &Why, out: &mut Vec<Effect>) {
        let Some(frame) = reread(octets) else { return };
        self.sent_back(frame.head(), why, out);
    }

    /// The far outbox has no room (DB-66, LIM-05): this stanza goes back, the others go on.
    pub(super) fn far_overflow(&mut self, octets: &Bytes, out: &mut Vec<Effect>) {
        self.undeliverable(octets, &Reason::QueueFull.into(), out);
    }

    /// A far leg that stood is no more.
    pub(super) fn far_lost(&mut self, id: FarId, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        self.far_lost_with(id, reason, Vec::new(), now, out);
    }

    /// The same, with what a courier had given it and did not go out.
    pub(super) fn far_lost_with(
        &mut self,
        id: FarId,
        reason: Reason,
        unsent: Vec<Bytes>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let Some(far) = self.fars.get(&id) else { return };
        let Errand::Speak(pair) = far.terms.errand.clone() else {
            self.fars.remove(&id);
            return;
        };
        let (facing, closing, idled, yields) = (far.terms.facing, far.is_closing(), far.idled, far.yields);
        if self.courier_of().is_some() {
            self.courier_ended(id, reason, out);
            self.fars.remove(&id);
            return self.courier_lost((closing, reason), unsent, now, out);
        }
        self.carried_from(id, &pair);
        let live = self.near.as_deref().is_some_and(super::near::Near::is_live);
        let others = self.guard.pairs().iter().any(|a| matches!(a.route(), Route::Leg(_)));
        if live && !yields && !others && self.claims.is_empty() {
            // CLS-06: the other half closes with a matching meaning. What still arrives until then is carried. A backend that
            // ends a stream on which nothing has come for a while has no fault, in whatever way it does so.
            let quiet = self.last + self.home.timeouts.report <= now;
            let reason = match (reason, facing) {
                (Reason::Finished | Reason::Idle, _) => Reason::Finished,
                (Reason::ConnectionLost, Facing::Backend) if quiet => Reason::Finished,
                (_, Facing::Backend) if idled => Reason::Finished,
                (_, Facing::Backend) => Reason::BackendDown,
                (_, Facing::Public) => Reason::RemoteFailed,
            };
            self.near_close(reason, now, out);
        }
        self.fars.remove(&id);
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

    // -- policy, time and the end

    /// POL-07: a new policy judges every pair again.
    pub(super) fn rejudge(&mut self, policy: std::sync::Arc<Policy>, now: Instant, out: &mut Vec<Effect>) {
        self.policy = policy;
        if self.courier_of().is_some() {
            let ids: Vec<_> = self.fars.keys().copied().collect();
            for id in ids {
                self.courier_stands(id, now, out);
            }
            return;
        }
        self.rejudge_lanes(out);
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
    }

    /// The whole relay ends in good order.
    pub(super) fn close(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        match &self.shape {
            Shape::Serving => {
                let ids: Vec<_> = self.claims.keys().copied().collect();
                for id in ids {
                    match self.flow {
                        // Its backend hears only `valid`, or nothing.
                        Flow::S2sOut => drop(self.claims.remove(&id)),
                        _ => self.refuse(id, Reason::Overload, now, out),
                    }
                }
                self.near_close(reason, now, out);
            }
            // What waits is delivered or given back within its own time; and what a backend sends may still be on its way.
            Shape::Courier(courier) if !courier.queue.is_empty() => {}
            Shape::Courier(courier) if courier.is_own() && self.draining => self.last = now,
            Shape::Courier(_) => self.close_fars_for(reason, now, out),
            Shape::Verifier => {
                if !std::mem::replace(&mut self.ending, true) {
                    out.push(Effect::Answer(Answer::Trouble(Reason::Shutdown), None));
                }
                self.close_fars(now, out);
            }
        }
    }

    /// A courier's stanzas that wait go back now.
    pub(super) fn give_back(&mut self, reason: Reason, now: Instant, out: &mut Vec<Effect>) {
        if self.courier_of().is_some_and(|courier| !courier.queue.is_empty()) {
            self.give_up(&reason.into(), out);
            self.close_fars(now, out);
        }
    }

    /// Some deadline has come; each that is due is acted on.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let late: Vec<_> = self.claims.iter().filter(|(_, p)| p.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            if self.flow == Flow::S2sOut {
                self.verified(id, Answer::Trouble(Reason::DialbackTimeout), now, out);
                continue;
            }
            // Who is proven has done his part: it is our own server that does not answer.
            let proven = self.claims.get(&id).is_some_and(|claim| claim.far.is_some());
            let reason = if proven { Reason::BackendSilent } else { Reason::DialbackTimeout };
            self.refuse(id, reason, now, out);
        }
        self.expire_fars(now, out);
        self.expire_near(now, out);
        let times = self.home.timeouts;
        match self.shape {
            Shape::Serving => {}
            Shape::Courier(_) => self.expire_courier(now, out),
            Shape::Verifier => {
                if self.started + times.dialback <= now && !std::mem::replace(&mut self.ending, true) {
                    out.push(Effect::Answer(Answer::Trouble(Reason::DialbackTimeout), None));
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
        if self.flow == Flow::S2sOut && near.is_quiet(self.last, &times, now) {
            out.push(Effect::Serves);
            self.near_looked(now);
        } else if self.flow != Flow::S2sOut && self.guard.is_empty() && self.started + times.unauth <= now {
            return self.near_fault(Reason::NegotiationTimeout, now, out);
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
