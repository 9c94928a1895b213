//! What a relay wants, carried out in the order it says.

mod logins;

use std::sync::Arc;

use bytes::Bytes;

use super::courier;
use super::event_context::Surroundings;
use super::leg::Leg;
use super::pump::{Awaited, Ends, Far, Pump, Sending, is_against};
use super::verifier::{self, VerifyRequest};
use super::{STARTTLS_SPACE, Tools, now, strays};
use crate::jid::Domain;
use crate::limit::{Leave, ProvenSlot, StreamTicket};
use crate::metrics::Limit;
use crate::policy::Permit;
use crate::reason::{Direction, Facing, Flow, Outcome, Reason};
use crate::relay::{
    ClaimId, Destination, Effect, Event, FarId, Input, Left, LoginAttempt, Passing, Side, plan,
};
use crate::stream::evidence::{Evidence, Sought};
use crate::stream::{KeyCheck, Pair};
use crate::xml::Kind;

impl Pump {
    /// Carries these out, and whatever follows from them, before anything else moves.
    pub(super) fn carry_out(&mut self, effects: &mut Vec<Effect>) {
        if self.turn.defers(effects) {
            return;
        }
        for effect in effects.drain(..) {
            self.one(effect);
        }
        while let Some(effect) = self.turn.next() {
            self.one(effect);
        }
    }

    fn one(&mut self, effect: Effect) {
        match effect {
            Effect::Send(side, octets) => self.legs.on_open(side, |leg| leg.outbox.say(octets)),
            Effect::Pass(id, stanza) => match self.charge_sender(&stanza) {
                Ok(()) => self.pass(id, stanza.octets),
                Err(reason) => self.step(Side::Near, Input::Refused(stanza.octets, reason)),
            },
            Effect::Enlist(session) => self.enlist(session),
            Effect::Leave(broke) => self.leave(broke),
            Effect::Resume(id, taken, askers) => {
                self.settling.resume(&self.tools.peering.sessions, id, taken, askers);
            }
            Effect::Settle(count) => self.settling.mark(count, &self.legs.fars),
            Effect::Recall(side, last) => self.legs.on(side, |leg| leg.outbox.recall(last)),
            Effect::Withdraw(pair, reason) => self.withdraw(&pair, reason),
            Effect::WayBack(pair, true) => self.backs.open(&self.tools, self.meta.id, pair),
            Effect::WayBack(pair, false) => self.backs.close(&pair),
            Effect::Back(pair, stanza) => self.pass_back(&pair, stanza),
            Effect::Onward(pair, stanza) => self.backs.onward(&self.tools, self.meta.id, &pair, stanza),
            Effect::Again(stanzas) => self.backs.again(&self.tools, self.meta.id, stanzas),
            Effect::Inward(id, pair, stanza) => self.inward(id, pair, stanza),
            Effect::Deliver(stanza) => self.legs.on_open(Side::Near, |leg| leg.outbox.pass(stanza)),
            Effect::MayLogin(attempt) => self.try_login(&attempt),
            Effect::MayRegister => {
                let (tools, peer) = (&self.tools, self.meta.peer);
                let leave = logins::may_register(&tools.bounds.registrations, tools.observe.metrics(), peer);
                self.step(Side::Near, Input::Tried(leave));
            }
            Effect::Speaks(id, account) => {
                if let Some(far) = self.legs.fars.get_mut(id) {
                    far.speaks(account);
                }
            }
            Effect::Behind(id, account) => {
                if let Some(far) = self.legs.fars.get_mut(id) {
                    far.goes_behind(&self.tools.peering.partings, &account);
                }
            }
            Effect::Upgrade(side) => self.upgrade(side),
            Effect::Inquire(pair, sought) => self.inquire(pair, sought),
            Effect::Restart(side) => self.legs.on(side, Leg::restart),
            Effect::Widen(side) => self.widen(side),
            Effect::LeaveUnproven => self.places.prove(now()),
            Effect::EnterClients => self.enter_clients(),
            Effect::Remember(id) => self.surroundings().remember(id),
            Effect::Found(hosted) => self.found_by(&hosted),
            Effect::Connect(id, destination) => self.connect(id, destination),
            Effect::Retry(id, candidate) => {
                let content = plan::content(self.meta.flow);
                if let Some(far) = self.legs.fars.get_mut(id) {
                    far.retry(candidate, content, &self.tools.relays.limits);
                }
            }
            Effect::Reached(id, outcome) => {
                if let Some(far) = self.legs.fars.get_mut(id) {
                    far.reached(&self.tools.peering.circuits, outcome);
                }
            }
            Effect::Verify(claim, check) => self.verify(claim, check),
            Effect::Vouch(check, others) => self.vouch(check, others),
            Effect::Await(id, check) => self.await_question(id, check),
            Effect::KeyRejected(id, remote) => self.key_rejected(id, &remote),
            Effect::Admitted(id, permit) => self.admitted(id, &permit),
            Effect::Carry(pair, stanza) => self.charge_and_carry(pair, stanza),
            Effect::OpenLane(id, pair) => self.courier_lanes.open(id, pair),
            Effect::CloseLane(id) => self.courier_lanes.close(id),
            Effect::Hand(id, stanza) => self.hand(id, stanza),
            Effect::Report { pair, via, stanza } => {
                // A pair's own stream that has brought it back does not get it again.
                let apart = self.meta.flow == Flow::S2sIn;
                courier::report(&self.tools, &pair, via, stanza, apart);
            }
            Effect::Serves => {
                let serves = self.courier_lanes.serves(&self.tools.peering.couriers);
                self.step(Side::Near, Input::Serves(serves));
            }
            Effect::Answer(answer, detail) => {
                let met = self.surroundings().met_by_verifier(answer, detail);
                self.waits.answer((answer, met));
            }
            Effect::Finish(side) => {
                if let Side::Far(id) = side
                    && let Some(far) = self.legs.fars.get_mut(id)
                {
                    far.parts(&self.tools.peering.partings);
                }
                self.legs.on(side, Leg::end);
            }
            Effect::Cut(side) => self.cut(side),
            Effect::Note(Event::Passed { hosted, kind, octets }) => {
                let metrics = self.tools.observe.metrics();
                self.turn.passed.add(hosted, kind, octets, self.meta.flow, metrics);
            }
            Effect::Note(event) => self.note(event),
        }
    }

    /// Has the authoritative server asked about an unproven peer's key.
    fn verify(&mut self, claim: ClaimId, check: KeyCheck) {
        self.places.claims();
        let ask = VerifyRequest {
            facing: self.legs.facing(self.meta.flow, Side::Near),
            relay: self.meta.id,
            source: self.meta.peer.map(|p| p.ip()),
            claim,
            check,
            tx: self.life.orders().clone(),
        };
        verifier::ask(&self.tools, ask);
    }

    /// Says whether a key is one of ours.
    fn vouch(&mut self, check: KeyCheck, others: bool) {
        let facing = self.legs.facing(self.meta.flow, Side::Near);
        let vouched = self.vouches(facing, &check, others);
        if vouched {
            self.places.is_honest();
        }
        self.step(Side::Near, Input::Vouched(check, vouched));
    }

    /// A key goes out: whoever asks about it is told that it is ours.
    fn await_question(&mut self, id: FarId, check: KeyCheck) {
        let facing = self.legs.facing(self.meta.flow, Side::Far(id));
        let ticket = self.tools.registry.awaited().sent(facing, check, now());
        if let Some(far) = self.legs.fars.get_mut(id) {
            far.waits(ticket, facing, &self.tools.bounds.callbacks);
        }
    }

    /// Gives a stanza to the courier of its pair, if its sender and the pair may send so much.
    fn charge_and_carry(&mut self, pair: Pair, stanza: Passing) {
        if let Err(reason) = self.charge_sender(&stanza) {
            return self.step(Side::Near, Input::Refused(stanza.octets, reason));
        }
        let stanza = stanza.octets;
        if self.legs.near.is_some() {
            self.charges.carried(&pair, stanza.len(), self.turn.now);
        }
        // Couriers carry on nothing but what goes back to its sender.
        match self.legs.near.is_none() || courier::flow(&self.tools.relays, &pair) != self.meta.flow {
            true => {
                let outcome = self.courier_lanes.bounces.carry(&self.tools, pair, stanza);
                self.bounced(outcome);
            }
            false => self.carry_on(pair, stanza),
        }
    }

    /// What waits to go in for this pair comes back: nothing of it goes on that has not begun to.
    fn withdraw(&mut self, pair: &Pair, reason: Reason) {
        let mut waiting = self.legs.fars.take_waiting(pair);
        waiting.extend(self.courier_lanes.withdraw(pair));
        for stanza in waiting {
            self.step(Side::Near, Input::Refused(stanza, reason));
        }
    }

    /// Whether this stanza may go, if that depends on its sender.
    fn charge_sender(&mut self, stanza: &Passing) -> Result<(), Reason> {
        let tools = &self.tools;
        let metrics = tools.observe.metrics();
        self.charges.sender(stanza, &tools.bounds.senders, &tools.bounds.quarantine, metrics, self.turn.now)
    }

    /// The near leg is counted from here on; under this name it may be gone on with.
    fn enlist(&mut self, session: Option<(String, Domain)>) {
        let begins = |(id, owner)| self.tools.peering.sessions.begins(id, owner, self.life.orders().clone());
        self.settling.begin(session.map(begins));
    }

    /// It is counted no more; it broke and has left this, or is over.
    fn leave(&mut self, broke: Option<Left>) {
        let relays = &self.tools.relays;
        let until = self.turn.now + relays.timeouts.resume;
        self.settling.end(broke, until, relays.limits.sessions, self.life.orders().clone());
    }

    /// A stanza goes back over the near leg.
    fn pass_back(&mut self, pair: &Pair, stanza: Bytes) {
        match self.legs.near.as_mut().filter(|near| !near.is_closed()) {
            Some(near) => {
                let metrics = self.tools.observe.metrics();
                self.backs.pass(near, pair, stanza, metrics, self.turn.now);
            }
            None => self.backs.onward(&self.tools, self.meta.id, pair, stanza),
        }
    }

    /// A stanza that has come back over a leg of ours goes inside.
    fn inward(&mut self, id: FarId, pair: Pair, stanza: Passing) {
        if let Err(reason) = self.charge_sender(&stanza) {
            return self.step(Side::Far(id), Input::Refused(stanza.octets, reason));
        }
        let stanza = stanza.octets;
        self.charges.carried(&pair, stanza.len(), self.turn.now);
        let metrics = self.tools.observe.metrics();
        metrics.passed(Flow::S2sIn, &pair.target, Kind::of_stanza(&stanza), 1, stanza.len() as u64);
        metrics.went_back(Flow::S2sIn);
        self.carry_on(pair, stanza);
    }

    /// Tells what happened, and what follows from that for others.
    fn note(&mut self, event: Event) {
        let tools = Arc::clone(&self.tools);
        logins::came_out(&tools.bounds.logins, tools.observe.metrics(), &self.meta, &event);
        // CLS-07: a domain that has proven a stream is there, whatever became of the last attempts to reach it.
        if let (Flow::S2sIn, Event::Authenticated { pair, outcome: Outcome::Allow, .. }) =
            (self.meta.flow, &event)
        {
            tools.peering.circuits.alive(&pair.sender);
            tools.peering.couriers.alive(&tools.relays, &pair.sender);
            tools.transport.look_anew(&pair.sender);
        }
        let (meta, event, around) = self.surroundings().complete(event);
        tools.observe.note_with(&meta, &event, &around);
    }

    /// Lets a login go at once, after a while, or not at all (C2S-11).
    fn try_login(&mut self, attempt: &LoginAttempt) {
        let tools = &self.tools;
        match logins::may_try(&tools.bounds.logins, tools.observe.metrics(), self.meta.peer, attempt) {
            Leave::Now => self.step(Side::Near, Input::Tried(Ok(()))),
            Leave::After(wait) => self.waits.try_after(wait),
            Leave::Refused => self.step(Side::Near, Input::Tried(Err(Reason::LoginThrottled))),
        }
    }

    /// From here on this side is who it says it is, and may bring more.
    fn widen(&mut self, side: Side) {
        let tools = &self.tools;
        let number = self.life.id().number();
        let rates = || tools.bounds.rates.stream(now());
        self.legs.widen(self.meta.flow, side, &tools.relays.limits, number, rates);
    }

    /// The client takes a place among those of its address, and ends without one.
    fn enter_clients(&mut self) {
        let Some(peer) = self.meta.peer else { return };
        if let Err(reason) = self.places.client(&self.tools.bounds.proven, peer.ip()) {
            self.tools.observe.turned_away(self.meta.peer, reason);
            self.step(Side::Near, Input::Close(reason));
        }
    }

    /// Looks up what a domain publishes about the certificate of the near leg.
    fn inquire(&mut self, pair: Pair, sought: Sought) {
        let Some(shown) = self.relay.certificate(Side::Near).cloned() else {
            return self.step(Side::Near, Input::Inquired(Evidence::none(pair.sender)));
        };
        let via = self.tools.registry.policy().way_out(&pair.target, &pair.sender);
        let (tools, source) = (Arc::clone(&self.tools), self.meta.peer.map(|peer| peer.ip()));
        let whom = (pair.sender.clone(), sought);
        let looking = self.tools.transport.inquire(pair, shown, sought, via);
        self.waits.inquire(Box::pin(verifier::inquired(tools, source, whom, looking)));
    }

    /// Whether that key is vouched for: a leg of ours waits with it, or another node that shares the secret made it lately.
    fn vouches(&self, facing: Facing, check: &KeyCheck, others: bool) -> bool {
        let Tools { relays, observe, peering, registry, .. } = &*self.tools;
        let ours = registry.awaited().vouches(facing, check, now());
        match (ours, others) {
            (None, true) => observe.metrics().vouched_for_another(facing),
            (None, false) => peering.strays.look(relays, observe, facing, check),
            // A key of ours that is new here and old by its epoch: the clock was set in between.
            (Some(age), false) if age < strays::YOUNG => peering.strays.look(relays, observe, facing, check),
            (Some(_), _) => {}
        }
        ours.is_some() || others
    }

    fn pass(&mut self, id: FarId, stanza: Bytes) {
        // With one far leg the near leg is not read above high water; else nothing but this holds back. What a courier carries is
        // bounded where it waits for it.
        let bounded = self.legs.near.is_some() && self.legs.fars.len() > 1;
        let bounds = bounded.then_some(&self.tools.relays.limits);
        let passed = match self.legs.fars.get_mut(id) {
            Some(far) => far.pass(stanza, bounds, self.turn.now),
            None => Err((stanza, false)),
        };
        if let Err((stanza, over)) = passed {
            if over {
                self.tools.observe.metrics().limited(Limit::Queue);
            }
            self.step(Side::Far(id), Input::Overflow(stanza));
        }
    }

    fn upgrade(&mut self, side: Side) {
        let Some(leg) = self.legs.get_mut(side) else { return };
        // Law no_early_octets (TLS-05, TLS-06): what came in clear must not be read as if it had come through TLS.
        if side == Side::Near {
            leg.framer.discard_space(STARTTLS_SPACE);
        }
        if leg.framer.is_empty() {
            leg.upgrades();
        } else {
            self.gone(side, Reason::EarlyOctets);
        }
    }

    fn connect(&mut self, id: FarId, destination: Destination) {
        let ends = Ends { relay: &self.relay, meta: &self.meta, legs: &self.legs };
        let brought = || self.courier_lanes.cargo()?.brought().latest().cloned();
        let caller = ends.introduced(id, &destination, brought);
        let pair = self.relay.speaks_for(id).cloned();
        let place = self.place_behind(id, &destination);
        let (transport, limits) = (&*self.tools.transport, &self.tools.relays.limits);
        let content = plan::content(self.meta.flow);
        let far = Far::connecting(transport, (pair, destination), caller, place, content, limits);
        self.legs.fars.insert(id, far);
    }

    /// A place at the server behind for what speaks for a pair there, and the wait for it.
    fn place_behind(&self, id: FarId, destination: &Destination) -> Option<Awaited> {
        let Destination::Backend(hosted) = destination else { return None };
        let backend = self.tools.peering.backends.of(hosted)?;
        let pair = self.relay.speaks_for(id)?.clone();
        // Half of what a claim may take is left for the server behind.
        let patience = self.tools.relays.timeouts.dialback / 2;
        Some(backend.enter(pair, (self.life.orders().clone(), id), patience))
    }

    /// A backend has refused a key.
    fn key_rejected(&self, id: FarId, remote: &Domain) {
        let Some(far) = self.legs.fars.get(id) else { return };
        let (seeking, policy) = (self.tools.observe.seeking(), self.tools.registry.policy());
        if let Some(hosted) = far.asks_elsewhere(remote, seeking, &policy).cloned() {
            let event = Event::BackendMisconfigured { hosted, reason: Reason::BackendAsksElsewhere };
            self.tools.observe.note(&self.meta, &event);
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
        tools.bounds.quarantine.seen(permit);
        let valve = self.charges.valve(&tools.bounds.rates, permit, now());
        let pair = match permit.direction() {
            Direction::Inbound => Pair { sender: permit.remote().clone(), target: permit.hosted().clone() },
            Direction::Outbound => Pair { sender: permit.hosted().clone(), target: permit.remote().clone() },
        };
        if id.is_none() && is_against(self.meta.flow, permit) {
            return self.admitted_back(permit, pair);
        }
        // Judged again after a reload: the old place is given back first.
        let before = self.charges.end(&pair);
        let Some((id, far)) = id.and_then(|id| self.legs.fars.get_mut(id).map(|far| (id, far))) else {
            // There is no leg to close alone: its place stays counted where it was.
            if let Some(before) = before {
                self.charges.begin(pair, Sending { valve, caller: None, ..before });
            }
            return;
        };
        drop(before);
        far.leg.outbox.shape(valve.clone());
        match self.counted(permit) {
            Ok(counted) => {
                let inbound = permit.direction() == Direction::Inbound;
                let tx = || self.life.orders().clone();
                let inside =
                    inbound.then(|| tools.peering.couriers.stands(&tools.relays, &pair, self.meta.id, tx()));
                let sending =
                    Sending { valve, carried: false, caller: None, _counted: counted, _inside: inside };
                self.charges.begin(pair, sending);
            }
            Err(reason) => {
                tools.observe.turned_away(self.meta.peer, reason);
                self.step(Side::Far(id), Input::Close(reason));
            }
        }
    }

    /// The pair's place under its rule, and, where a server has come to us, its own and its connection's in what its registrable
    /// domain and its network may have (D10).
    fn counted(&mut self, permit: &Permit) -> Result<(StreamTicket, Option<ProvenSlot>), Reason> {
        let tools = &self.tools;
        let mut place = None;
        if permit.direction() == Direction::Inbound
            && self.meta.flow == Flow::S2sIn
            && self.legs.near.is_some()
        {
            let address = self.meta.peer.map(|peer| peer.ip());
            place =
                Some(self.places.server(&tools.bounds.proven, permit.remote(), address, permit.quotas())?);
        }
        Ok((tools.bounds.streams.admit(permit.rule(), permit.quotas())?, place))
    }

    /// Ends a leg at once. Stanzas that wait there are given back: what was accepted is not lost in silence.
    pub(super) fn cut(&mut self, side: Side) {
        let unsent = self.legs.get_mut(side).map(Leg::cut).unwrap_or_default();
        if !unsent.is_empty() {
            self.step(side, Input::Gone { reason: Reason::ConnectionLost, unsent });
        }
    }

    /// A pair that travels against the flow was admitted: its rates apply, and it counts under its rule.
    fn admitted_back(&mut self, permit: &Permit, pair: Pair) {
        let tools = Arc::clone(&self.tools);
        let inbound = permit.direction() == Direction::Inbound;
        let valve = tools.bounds.rates.valve(permit, &tools.bounds.rates.stream(now()), now());
        // Judged again after a reload: the old place is given back first.
        drop(self.charges.end(&pair));
        if !inbound {
            self.backs.unrate(&pair);
        }
        let counted = tools.bounds.streams.admit(permit.rule(), permit.quotas()).and_then(|ticket| {
            let place =
                inbound.then(|| tools.bounds.proven.pair(permit.remote(), permit.quotas())).transpose()?;
            Ok((ticket, place))
        });
        match counted {
            Ok(counted) if inbound => {
                let sending =
                    Sending { valve, carried: true, caller: None, _counted: counted, _inside: None };
                self.charges.begin(pair, sending);
            }
            Ok((ticket, _)) => self.backs.rate(&pair, valve, ticket),
            Err(reason) => {
                tools.observe.turned_away(self.meta.peer, reason);
                self.step(Side::Near, Input::Withdraw(pair, reason));
            }
        }
    }

    /// What stands around an event of this relay.
    fn surroundings(&mut self) -> Surroundings<'_> {
        Surroundings {
            relay: &self.relay,
            meta: self.meta,
            legs: &self.legs,
            backs: &self.backs,
            memory: &mut self.memory,
            relays: &self.tools.relays,
            registry: &self.tools.registry,
        }
    }
}
