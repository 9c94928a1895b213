//! What a relay wants, carried out in the order it says.

mod logins;
mod widen;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::awaited::AwaitTicket;
use super::backends;
use super::courier::{self, Couriers};
use super::leg::{Leg, Link};
use super::pump::{Far, Pump, Sending, back, settling};
use super::seeking::Doubt;
use super::verifier::{Ask, Learnt};
use super::{Caller, Connection, Later, STARTTLS_SPACE, now, strays, verifier};
use crate::filter;
use crate::jid::Domain;
use crate::limit::{Allowance, Place, StreamTicket};
use crate::metrics::Limit;
use crate::net::proxy;
use crate::policy::{Federation, Permit};
use crate::reason::{Detail, Direction, Facing, Flow, Outcome, Reason};
use crate::relay::{Candidate, ClaimId, Destination, Effect, Event, FarId, Input, Passing, Side, plan};
use crate::stream::evidence::{Evidence, Sought};
use crate::stream::{KeyCheck, Pair};

impl Pump {
    /// The verifier's answer goes there as soon as it is known; the stream is closed behind it.
    #[must_use]
    pub fn answering(mut self, answer: oneshot::Sender<Learnt>) -> Self {
        self.answer = Some(answer);
        self
    }

    /// Carries these out, and whatever follows from them, before anything else moves.
    pub(super) fn carry_out(&mut self, effects: &mut Vec<Effect>) {
        if self.carrying {
            return self.effects.extend(effects.drain(..));
        }
        self.carrying = true;
        for effect in effects.drain(..) {
            self.one(effect);
        }
        while let Some(effect) = self.effects.pop_front() {
            self.one(effect);
        }
        self.carrying = false;
        // Seldom does one follow from another: no relay keeps room for that.
        self.effects = VecDeque::new();
    }

    /// Legs whose connections have ended are none any more, and their places are free.
    pub(super) fn forget_closed(&mut self) {
        if self.fars.forget_closed() {
            let stands = |pair: &Pair| {
                let mut all = self.relay.guard().pairs().iter().chain(self.relay.back().pairs());
                let admitted = all.find(|admitted| admitted.pair() == pair);
                admitted.is_some_and(|admitted| !matches!(admitted.route(), filter::Route::Withdrawn(_)))
            };
            self.sending.retain(|pair, _| stands(pair));
        }
    }

    fn one(&mut self, effect: Effect) {
        match effect {
            Effect::Send(side, octets) => {
                if let Some(leg) = self.leg(side).filter(|leg| !leg.is_closed()) {
                    leg.outbox.say(octets);
                }
            }
            Effect::Pass(id, stanza) => match self.charge_sender(&stanza) {
                Ok(()) => self.pass(id, stanza.octets),
                Err(reason) => self.step(Side::Near, Input::Refused(stanza.octets, reason)),
            },
            Effect::Enlist(session) => settling::enlist(self, session),
            Effect::Leave(broke) => settling::leave(self, broke),
            Effect::Resume(id, taken, askers) => settling::resume(self, id, taken, askers),
            Effect::Settle(count) => settling::settle(self, count),
            Effect::Recall(side, last) => {
                if let Some(leg) = self.leg(side) {
                    leg.outbox.recall(last);
                }
            }
            Effect::Withdraw(pair, id, reason) => self.withdraw(&pair, id, reason),
            Effect::WayBack(pair, open) => back::open(self, pair, open),
            Effect::Back(pair, stanza) => back::pass(self, pair, stanza),
            Effect::Onward(pair, stanza) => back::onward(self, pair, stanza),
            Effect::Again(stanzas) => back::again(self, stanzas),
            Effect::Inward(id, pair, stanza) => back::inward(self, id, pair, stanza),
            Effect::Deliver(stanza) => {
                if let Some(leg) = self.leg(Side::Near).filter(|leg| !leg.is_closed()) {
                    leg.outbox.pass(stanza);
                }
            }
            Effect::Try(attempt) => self.try_login(&attempt),
            Effect::Apply => self.apply(),
            Effect::Upgrade(side) => self.upgrade(side),
            Effect::Inquire(pair, sought) => self.inquire(pair, sought),
            Effect::Restart(side) => {
                if let Some(leg) = self.leg(side) {
                    leg.restart();
                }
            }
            Effect::Widen(side) => widen::widen(self, side),
            Effect::Connect(id, destination) => self.connect(id, destination),
            Effect::Retry(id, candidate) => self.retry(id, candidate),
            Effect::Fared(id, outcome) => self.fared(id, outcome),
            Effect::Verify(claim, check) => self.verify(claim, check),
            Effect::Vouch(check, others) => self.vouch(check, others),
            Effect::Await(id, check) => self.await_question(id, check),
            Effect::Doubted(id, remote) => self.doubted(id, &remote),
            Effect::Admitted(id, permit) => self.admitted(id, &permit),
            Effect::Carry(pair, stanza) => self.charge_and_carry(pair, stanza),
            Effect::Lane(id, pair) => {
                self.found_by(&pair.sender);
                self.lane(id, pair);
            }
            Effect::Unlane(id) => drop(self.lanes.remove(&id)),
            Effect::Hand(id, stanza) => self.hand(id, stanza),
            Effect::Report { pair, via, stanza } => {
                // A pair's own stream that has brought it back does not get it again.
                let apart = self.meta.flow == Flow::S2sIn;
                courier::report(&self.tools, &pair, via, stanza, apart);
            }
            Effect::Serves => {
                let serves = self.serves();
                self.step(Side::Near, Input::Serves(serves));
            }
            Effect::Answer(answer, detail) => {
                let learnt = (answer, self.met_by_verifier(answer, detail));
                // Whoever asked may have gone.
                let _unheard = self.answer.take().map(|tell| tell.send(learnt));
            }
            Effect::Finish(side) => self.finish(side),
            Effect::Cut(side) => self.cut(side),
            Effect::Note(Event::Passed { hosted, kind, octets }) => self.passed(hosted, kind, octets),
            Effect::Note(event) => {
                self.login_came_out(&event);
                self.shows_life(&event);
                self.tell(event);
            }
        }
    }

    /// Has the authoritative server asked about a stranger's key.
    fn verify(&mut self, claim: ClaimId, check: KeyCheck) {
        if let Some(stranger) = &self.stranger {
            stranger.claims();
        }
        let ask = Ask {
            facing: self.facing(Side::Near),
            relay: self.meta.id,
            source: self.meta.peer.map(|p| p.ip()),
            claim,
            check,
            tell: self.life.tell().clone(),
        };
        verifier::ask(&self.tools, ask);
    }

    /// Says whether a key is one of ours.
    fn vouch(&mut self, check: KeyCheck, others: bool) {
        let facing = self.facing(Side::Near);
        let vouched = self.vouches(facing, &check, others);
        if facing == Facing::Backend {
            self.found_by(&check.pair.target);
        }
        // Whoever asks about a key that we made was called by us: a hoster asks for each of its domains.
        if let Some(stranger) = self.stranger.as_mut().filter(|_| vouched) {
            stranger.is_honest();
        }
        self.step(Side::Near, Input::Vouched(check, vouched));
    }

    /// A key goes out: whoever asks about it is told that it is ours.
    fn await_question(&mut self, id: FarId, check: KeyCheck) {
        let facing = self.facing(Side::Far(id));
        let ticket = self.tools.registry.awaited().sent(facing, check, now());
        if let Some(far) = self.fars.get_mut(id) {
            far.awaited.push(ticket);
            let called = far.leg.called.filter(|_| facing == Facing::Public);
            far.callback = called.map(|address| self.tools.callbacks.expect(address.ip()));
        }
    }

    /// Gives a stanza to the courier of its pair, if its sender and the pair may send so much.
    fn charge_and_carry(&mut self, pair: Pair, stanza: Passing) {
        if let Err(reason) = self.charge_sender(&stanza) {
            return self.step(Side::Near, Input::Refused(stanza.octets, reason));
        }
        let stanza = stanza.octets;
        // LIM-03: without a leg of its own the pair is slowed here, where it is read.
        if self.near.is_some()
            && let Some(sending) = self.sending.get_mut(&pair)
        {
            (sending.carried, self.carries) = (true, true);
            let mut spent = Allowance::default();
            spent.add(stanza.len());
            sending.valve.charge(&spent, self.now);
        }
        self.carry(pair, stanza);
    }

    /// Ends a leg when all has been written to it.
    fn finish(&mut self, side: Side) {
        if let Some(leg) = self.leg(side) {
            match leg.link {
                Link::Open(_) => leg.ending = true,
                Link::Connecting(_) | Link::Upgrading(_) => leg.link = Link::Closed,
                Link::Lingering { .. } | Link::Closed => {}
            }
        }
    }

    /// Looks up what a domain publishes about the certificate of the near leg.
    fn inquire(&mut self, pair: Pair, sought: Sought) {
        let Some(shown) = self.relay.certificate(Side::Near).cloned() else {
            return self.step(Side::Near, Input::Inquired(Evidence::none(pair.sender)));
        };
        let via = self.tools.registry.policy().way_out(&pair.target, &pair.sender);
        self.inquiries.push(self.tools.outside.inquire(pair, shown, sought, via));
    }

    /// Whether that key is vouched for: a leg of ours waits with it, or another node that shares the secret made it lately.
    fn vouches(&self, facing: Facing, check: &KeyCheck, others: bool) -> bool {
        let ours = self.tools.registry.awaited().vouches(facing, check, now());
        match (ours, others) {
            (None, true) => self.tools.observe.metrics().vouched_for_another(facing),
            (None, false) => strays::look(&self.tools, facing, check),
            // A key of ours that is new here and old by its epoch: the clock was set in between.
            (Some(age), false) if age < strays::YOUNG => strays::look(&self.tools, facing, check),
            (Some(_), _) => {}
        }
        ours.is_some() || others
    }

    fn pass(&mut self, id: FarId, stanza: bytes::Bytes) {
        // What a courier carries is bounded where it waits for it.
        let bounded = self.near.is_some() && self.fars.len() > 1;
        let (stanzas, octets) = (self.tools.home.limits.queue_stanzas, self.tools.home.limits.queue_octets);
        match self.fars.get_mut(id).filter(|far| matches!(far.leg.link, Link::Open(_))) {
            Some(far) => {
                if let Some(place) = &far.place {
                    place.used(self.now);
                }
                let outbox = &mut far.leg.outbox;
                let over =
                    outbox.stanzas() >= stanzas || outbox.octets().saturating_add(stanza.len()) > octets;
                // With one far leg the near leg is not read above high water; else nothing but this holds back.
                if bounded && over {
                    self.tools.observe.metrics().limited(Limit::Queue);
                    self.step(Side::Far(id), Input::Overflow(stanza));
                } else {
                    outbox.pass(stanza);
                }
            }
            None => self.step(Side::Far(id), Input::Overflow(stanza)),
        }
    }

    fn upgrade(&mut self, side: Side) {
        let Some(leg) = self.leg(side) else { return };
        // Law no_early_octets (TLS-05, TLS-06): what came in clear must not be read as if it had come through TLS.
        if side == Side::Near {
            leg.framer.discard_space(STARTTLS_SPACE);
        }
        if leg.framer.is_empty() {
            leg.upgrade = true;
        } else {
            self.gone(side, Reason::EarlyOctets);
        }
    }

    fn connect(&mut self, id: FarId, destination: Destination) {
        let caller = match destination {
            Destination::Client(_) => Some(self.caller(None)),
            Destination::Backend(_) => self.relay.introduced(id).map(|(domain, method, rule)| {
                let facts = proxy::Facts {
                    domain: domain.to_string(),
                    method: method.label().to_owned(),
                    rule: rule.to_string(),
                };
                self.caller(Some(facts))
            }),
            Destination::World { .. } => None,
        };
        let route = self.tools.outside.route(&destination, caller);
        let progress = route.progress();
        let (place, connection) = match self.place_behind(id, &destination) {
            Some((place, granted)) => {
                let connection: Connection = Box::pin(async move {
                    match granted.await {
                        Ok(()) => route.connect(Candidate::Next).await,
                        Err(reason) => (route, Err(reason.into())),
                    }
                });
                (Some(place), connection)
            }
            None => (None, route.connect(Candidate::Next)),
        };
        let content = plan::content(self.meta.flow);
        let leg =
            Leg::connecting((connection, progress), content, &self.tools.home.limits.before_proof, now());
        let far =
            Far { leg, destination, route: None, awaited: Vec::new(), place, callback: None, bell: None };
        self.fars.insert(id, far);
    }

    /// A place at the server behind for what speaks for a pair there, and the wait for it.
    fn place_behind(
        &self,
        id: FarId,
        destination: &Destination,
    ) -> Option<(backends::Place, Later<Result<(), Reason>>)> {
        let Destination::Backend(hosted) = destination else { return None };
        let backend = self.tools.backends.of(hosted)?;
        let pair = self.relay.speaks_for(id)?.clone();
        // Half of what a claim may take is left for the server behind.
        let patience = self.tools.home.timeouts.dialback / 2;
        Some(backend.enter(pair, (self.life.tell().clone(), id), patience))
    }

    /// CLS-07: what came of calling that server for this pair is remembered for all who want the same.
    fn fared(&mut self, id: FarId, outcome: Result<(), Reason>) {
        let Some(far) = self.fars.get_mut(id) else { return };
        // It has asked what it had to ask, or will not any more.
        far.callback = None;
        let Destination::World { from, target, .. } = &far.destination else { return };
        match outcome {
            Ok(()) => self.tools.circuits.answered(target, Some(from)),
            Err(reason) => self.tools.circuits.failed(target, Some(from), reason),
        }
    }

    /// CLS-07: a domain that has proven a stream is there, whatever became of the last attempts to reach it.
    fn shows_life(&self, event: &Event) {
        if let (Flow::S2sIn, Event::Authenticated { pair, outcome: Outcome::Allow, .. }) =
            (self.meta.flow, event)
        {
            self.tools.circuits.alive(&pair.sender);
        }
    }

    /// Whom this relay's connection to a backend stands in for.
    fn caller(&self, facts: Option<proxy::Facts>) -> Caller {
        Caller {
            ends: self.meta.peer.zip(self.meta.local),
            name: self.meta.id.to_string(),
            secured: self.near.as_ref().and_then(|leg| leg.secured.clone()),
            facts,
        }
    }

    fn retry(&mut self, id: FarId, candidate: Candidate) {
        let tools = Arc::clone(&self.tools);
        let content = plan::content(self.meta.flow);
        let Some(far) = self.fars.get_mut(id) else { return };
        // While the first candidate is still being connected to there is nothing to give up.
        let Some(route) = far.route.take() else { return };
        let progress = route.progress();
        let connection = (route.connect(candidate), progress);
        let leg = Leg::connecting(connection, content, &tools.home.limits.before_proof, now());
        far.leg = leg.after(&mut far.leg);
    }

    /// BE-01: a backend that refuses a key about which it never asked us asks somebody else, unless another cause is in sight.
    fn doubted(&self, id: FarId, remote: &Domain) {
        let Some(far) = self.fars.get(id) else { return };
        let Destination::Backend(hosted) = &far.destination else { return };
        // It says itself that it does not want that domain.
        let unwanted = far.leg.detail.as_deref().is_some_and(Detail::is_ban);
        let listed = self.tools.registry.policy().federation(hosted) == Some(Federation::Listed);
        let server = far.leg.called.map(|address| address.ip());
        let doubt = Doubt { hosted, remote, server, listed };
        if !unwanted
            && !far.awaited.iter().any(AwaitTicket::is_asked)
            && self.tools.observe.seeking().is_elsewhere(&doubt)
        {
            let (hosted, reason) = (hosted.clone(), Reason::BackendAsksElsewhere);
            self.tools.observe.note(&self.meta, &Event::Misfit { hosted, reason });
        }
    }

    /// The server of this domain has come to us, as it should.
    fn found_by(&self, hosted: &Domain) {
        // Only names of ours are remembered.
        if self.tools.observe.metrics().knows(hosted) {
            self.tools.observe.seeking().found(hosted);
        }
    }

    fn admitted(&mut self, id: Option<FarId>, permit: &Permit) {
        let tools = Arc::clone(&self.tools);
        tools.quarantine.seen(permit);
        let stream = self.rates.get_or_insert_with(|| tools.rates.stream(now()));
        let valve = tools.rates.valve(permit, stream, now());
        let pair = match permit.direction() {
            Direction::Inbound => Pair { sender: permit.remote().clone(), target: permit.hosted().clone() },
            Direction::Outbound => Pair { sender: permit.hosted().clone(), target: permit.remote().clone() },
        };
        if id.is_none() && back::is_against(self, permit) {
            return back::admitted(self, permit, pair);
        }
        // Judged again after a reload: the old place is given back first.
        let before = self.sending.remove(&pair);
        let Some((id, far)) = id.and_then(|id| self.fars.get_mut(id).map(|far| (id, far))) else {
            // There is no leg to close alone: its place stays counted where it was.
            if let Some(before) = before {
                self.sending.insert(pair, Sending { valve, ..before });
            }
            return;
        };
        drop(before);
        far.leg.outbox.shape(valve.clone());
        match self.counted(permit) {
            Ok(counted) => {
                let inbound = permit.direction() == Direction::Inbound;
                let tell = || self.life.tell().clone();
                let inside = inbound.then(|| Couriers::stands(&tools, &pair, self.meta.id, tell()));
                let sending = Sending { valve, carried: false, _counted: counted, _inside: inside };
                self.sending.insert(pair, sending);
            }
            Err(reason) => {
                tools.observe.turned_away(self.meta.peer, reason);
                self.step(Side::Far(id), Input::Close(reason));
            }
        }
    }

    /// The pair's place under its rule, and, where a server has come to us, its own and its connection's in what its registrable
    /// domain and its network may have (D10).
    fn counted(&mut self, permit: &Permit) -> Result<(StreamTicket, Option<Place>), Reason> {
        let tools = Arc::clone(&self.tools);
        let mut place = None;
        if permit.direction() == Direction::Inbound && self.meta.flow == Flow::S2sIn && self.near.is_some() {
            let (remote, quotas) = (permit.remote(), permit.quotas());
            if self.places.iter().all(Option::is_none) {
                self.places = tools.proven.server(remote, self.meta.peer.map(|peer| peer.ip()), quotas)?;
            }
            place = Some(tools.proven.pair(remote, quotas)?);
        }
        Ok((tools.streams.admit(permit.rule(), permit.quotas())?, place))
    }

    /// Ends a leg at once. Stanzas that wait there are given back: what was accepted is not lost in silence.
    fn cut(&mut self, side: Side) {
        let Some(leg) = self.leg(side) else { return };
        leg.link = Link::Closed;
        leg.upgrade = false;
        let unsent = leg.outbox.take_unsent();
        if !unsent.is_empty() {
            self.step(side, Input::Gone { reason: Reason::ConnectionLost, unsent });
        }
    }
}
