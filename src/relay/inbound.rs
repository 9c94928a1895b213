//! The relay of a remote server: the stream that it opened to us, and one leg to a backend for each pair that it has proven.
//!
//! Here alone the near leg, the far legs, the claims and the guard meet. Each leg tells what came of a step; what that means
//! for the others is said in two places, [`Inbound::near_came`] and [`Inbound::far_came`], and nowhere else.

mod claims;
mod counted;
mod ends;
mod kept;
mod near;
mod parted;

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use self::counted::Counting;
pub(super) use self::kept::Sent;
use self::parted::Parted;
use super::back::WayBack;
use super::claims::Claims;
use super::event::Role;
use super::far::{Far, FarOutcome, Lost};
use super::incoming::{Asked, Incoming, Onwards};
use super::judge;
use super::leg::{OfLeg, of_leg};
use super::near::{HasNear as _, Near};
use super::origin::{Origin, pair_of, reread};
use super::snapshot::CountedPair;
use super::turn::Turn;
use super::{Arrival, Effect, FarId, Input, RelayParams, Side};
use crate::filter::{Admitted, Guard, PairRoute};
use crate::jid::Domain;
use crate::policy::{Policy, RuleName};
use crate::reason::{Class, Direction, Facing, Reason};
use crate::stream::evidence::Evidence;
use crate::stream::receiving::{self, Claim, Vouch};
use crate::stream::{Method, Pair, Secured};
use crate::xml::{Kind, Token, names};

/// A remote server, the legs to backends that its pairs have, and the gateway between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inbound {
    near: Near,
    /// Boxed: a map has room for eleven at once, and most streams have one.
    fars: BTreeMap<FarId, Box<Far>>,
    claims: Claims,
    /// Claims of domains of which it is being looked up what they publish about the certificate.
    waiting: Vec<Claim>,
    guard: Guard,
    /// Pairs whose stream is no more.
    parted: Parted,
    /// What the peer has us count.
    counting: Counting,
    /// What lists were asked of last, by this policy.
    asked: Option<Asked>,
    /// What goes back to the server on its own stream.
    back: WayBack,
    /// Names given to claims and legs.
    issued: u32,
    /// Claims and words that were refused.
    refusals: u64,
    /// Its end was told.
    told: bool,
    /// What a broken leg leaves goes back to its sender.
    draining: bool,
}

impl Inbound {
    pub(super) fn new(relays: &RelayParams, arrival: &Arrival, now: Instant) -> Self {
        Self {
            near: Near::new(relays, arrival, now),
            fars: BTreeMap::new(),
            claims: Claims::default(),
            waiting: Vec::new(),
            guard: Guard::default(),
            parted: Parted::default(),
            counting: Counting::new(arrival.seed),
            asked: None,
            back: WayBack::default(),
            issued: 0,
            refusals: 0,
            told: false,
            draining: false,
        }
    }

    /// Something happened.
    pub(super) fn step(&mut self, side: Side, input: Input, turn: &mut Turn<'_>) {
        // What it says on the way back takes no part in what may go that way.
        let back = matches!(input, Input::Back(..));
        self.one_step(side, input, turn);
        if !back {
            self.settle_back(turn);
        }
    }

    /// The way back follows what stands.
    fn settle_back(&mut self, turn: &mut Turn<'_>) {
        let reason = if self.near.is_live() { Reason::PolicyChanged } else { self.near.reason() };
        self.back.settle(&self.near, &self.guard, reason, turn);
    }

    fn one_step(&mut self, side: Side, input: Input, turn: &mut Turn<'_>) {
        let input = match (side, input.of_relay()) {
            (Side::Near, Err(input)) => return self.near_input(input, turn),
            (Side::Far(id), Err(input)) => return self.far_input(id, input, turn),
            (_, Ok(input)) => input,
        };
        match (side, input) {
            (Side::Near, Input::Close(reason)) => {
                self.counting.give_back(turn);
                if reason == Reason::ClosedByOperator {
                    self.take_all_back(reason, turn);
                }
                self.end(reason, turn);
            }
            (Side::Far(id), Input::Close(reason)) => self.shut(id, reason, turn),
            (_, Input::Drain) => {
                self.draining = true;
                self.counting.give_back(turn);
                self.end(Reason::Shutdown, turn);
            }
            (_, Input::Expired) => self.expire(turn),
            (_, Input::Policy(_)) => {
                self.asked = None;
                self.parted.rejudge(turn);
                self.rejudge(turn);
            }
            (_, Input::Refused(octets, reason)) => {
                if let Some(frame) = reread(&octets) {
                    self.incoming().too_much(&frame, reason, turn);
                }
            }
            (_, Input::Report(pair, octets)) => self.report(pair, octets, turn),
            (_, Input::Resumed(found)) => {
                if let Err(reason) = self.counting.resumed(found, &self.near, turn) {
                    self.near_fault(reason, turn);
                }
            }
            (_, Input::Settled(count)) => self.counting.settled(count, &self.near, turn),
            (_, Input::GoneOn(taken)) => self.counting.gone_on(taken, turn),
            (_, Input::Forsaken) => self.counting.forsaken(turn),
            (_, Input::Overtaken) => self.parted.overtaken(turn),
            (_, Input::Back(pair, octets)) => {
                let mut sent = self.counting.sent_mut();
                self.back.pass(&mut self.near, (pair, octets), sent.as_deref_mut(), turn);
                // CLS-01: behind our closing tag nothing is asked any more.
                if let Some(sent) = sent.filter(|_| self.near.is_live()) {
                    sent.ask(turn);
                }
            }
            (_, Input::Withdraw(pair, reason)) => self.back.withdraw(&self.near, &pair, reason, turn),
            (Side::Far(id), Input::Yield) => self.give_way(id, turn),
            (_, Input::Verified(claim, answer)) => self.verified(claim, answer, turn),
            (_, Input::Inquired(found)) => self.inquired(found, turn),
            (_, Input::Vouched(check, known)) => {
                self.vouched(check, if known { Vouch::Valid } else { Vouch::Invalid }, turn);
            }
            (_, Input::Overflow(octets)) => {
                self.origin().undeliverable(&octets, &Reason::QueueFull.into(), turn);
            }
            // Of legs, and of other relays; new params are looked at when they are needed.
            (Side::Near, Input::Yield)
            | (
                _,
                of_leg!()
                | Input::RelayParams(_)
                | Input::Alive
                | Input::Queue(..)
                | Input::Serves(_)
                | Input::Tried(_),
            ) => {}
        }
    }

    /// The framer of a leg found this.
    pub(super) fn token(&mut self, side: Side, token: Token, turn: &mut Turn<'_>) {
        match side {
            Side::Near => {
                // Most of what comes changes nothing of what stands.
                let passes = matches!(&token, Token::Element(frame) if frame.head().kind() != Kind::Other);
                // What ends the stream without another word of ours before.
                if !passes && (matches!(token, Token::End | Token::Violation(_)) || is_error(&token)) {
                    self.counting.last_word(&self.near, turn);
                }
                self.near_token(token, turn);
                if !passes || !self.near.is_live() {
                    self.settle_back(turn);
                }
            }
            Side::Far(id) => {
                self.far(id, turn, |far, turn| far.token(token, turn));
                self.settle_back(turn);
            }
        }
    }

    fn near_input(&mut self, input: OfLeg, turn: &mut Turn<'_>) {
        let outcome = match input {
            OfLeg::Secured(secured) => self.near.secure(secured, turn),
            OfLeg::Stalled => return self.near_fault(Reason::StanzaTimeout, turn),
            OfLeg::Gone { reason, unsent } => {
                let broke = self.near.is_live();
                self.counting.leave(broke, unsent.len(), turn);
                if self.draining {
                    self.counting.give_back(turn);
                }
                for octets in unsent {
                    if let Some(pair) = reread(&octets).and_then(|frame| pair_of(frame.head())) {
                        turn.push(Effect::Onward(pair, octets));
                    }
                }
                self.near.gone(reason, turn)
            }
            OfLeg::Retrusted(certificate) => return self.near_retrusted(*certificate, turn),
            // It was connected before there was a relay.
            OfLeg::Connected(..) | OfLeg::Unreachable(_) => None,
        };
        self.near_came(outcome, turn);
    }

    fn far_input(&mut self, id: FarId, input: OfLeg, turn: &mut Turn<'_>) {
        match input {
            // The relay has done with the leg, and the connection broke before all was out (CLS-02, BE-11).
            OfLeg::Gone { unsent, .. } if !self.fars.contains_key(&id) => {
                for octets in unsent {
                    if let Some(pair) = reread(&octets).and_then(|frame| pair_of(frame.head())) {
                        self.stranded(&pair, octets, turn);
                    }
                }
            }
            input => self.far(id, turn, |far, turn| input.at(far, turn)),
        }
    }

    // -- what comes of the legs

    /// One step of a far leg, if it is there.
    fn far(
        &mut self,
        id: FarId,
        turn: &mut Turn<'_>,
        step: impl FnOnce(&mut Far, &mut Turn<'_>) -> Option<FarOutcome>,
    ) {
        let outcome = self.fars.get_mut(&id).and_then(|far| step(far, turn));
        if let Some(outcome) = outcome {
            self.far_came(id, outcome, turn);
        }
    }

    /// Our side of that leg ends.
    fn far_close(&mut self, id: FarId, turn: &mut Turn<'_>) {
        self.far(id, turn, Far::close);
    }

    fn close_fars(&mut self, turn: &mut Turn<'_>) {
        for id in self.fars.keys().copied().collect::<Vec<_>>() {
            self.far_close(id, turn);
        }
    }

    /// What a step of a far leg means for all others.
    fn far_came(&mut self, id: FarId, outcome: FarOutcome, turn: &mut Turn<'_>) {
        match outcome {
            FarOutcome::Stands => {
                if let Some(claim) = self.claims.of_leg(id) {
                    self.admit(claim, id, turn);
                }
            }
            FarOutcome::Failed(why) => {
                self.fars.remove(&id);
                if let Some(claim) = self.claims.of_leg(id) {
                    self.refuse(claim, why, turn);
                }
            }
            FarOutcome::Lost(lost) => {
                if let Some(far) = self.fars.remove(&id) {
                    self.far_lost(&far, lost, turn);
                }
            }
            FarOutcome::Closed(..) | FarOutcome::Dropped => drop(self.fars.remove(&id)),
            // Inside nothing is counted.
            FarOutcome::Acknowledged(_) => {}
            // Only a courier's leg goes both ways.
            FarOutcome::Back(_) | FarOutcome::Unfit(_) => {}
            // Only a verifier asks.
            FarOutcome::Answered(_) => self.far_close(id, turn),
        }
    }

    /// A far leg that stood is no more: its pair is carried from now on. The near stream ends with the last of them.
    fn far_lost(&mut self, far: &Far, lost: Lost, turn: &mut Turn<'_>) {
        let Some(pair) = far.pair() else { return };
        for octets in lost.unsent {
            self.stranded(pair, octets, turn);
        }
        self.carried_from(far.id(), pair);
        let others = self.guard.pairs().iter().any(|admitted| matches!(admitted.route(), PairRoute::Leg(_)));
        let lonely = !others && self.claims.is_empty() && !self.back.is_used();
        if self.near.is_live() && !far.has_given_way() && lonely {
            // CLS-06: the other half closes with a matching meaning. What still arrives until then is carried. A backend that
            // ends a stream on which nothing has come for a while has no fault, in whatever way it does so.
            let quiet = self.near.heard + turn.relays.timeouts.report <= turn.now;
            let in_order = lost.leave == super::far::Leave::Idle
                || lost.reason.is(Class::InOrder)
                || (quiet && lost.reason == Reason::ConnectionLost);
            self.near_close(if in_order { Reason::Finished } else { Reason::BackendDown }, turn);
        }
    }

    /// Others have the turn for the place of this leg at the server behind. What still comes for its pair is carried, and the
    /// near stream goes on.
    fn give_way(&mut self, id: FarId, turn: &mut Turn<'_>) {
        let Some(far) = self.fars.get_mut(&id).filter(|far| far.is_live()) else { return };
        far.gives_way();
        if let Some(pair) = far.pair().cloned() {
            self.carried_from(id, &pair);
        }
        self.far_close(id, turn);
    }

    /// The pair has no leg of its own any more. One that was taken back stays so (POL-07), and one that has another leg keeps it.
    fn carried_from(&mut self, id: FarId, pair: &Pair) {
        let own = PairRoute::Leg(id.0);
        if self.guard.pairs().iter().any(|admitted| admitted.pair() == pair && admitted.route() == own) {
            self.guard.reroute(pair, PairRoute::Carried);
        }
    }

    // -- what may be asked of it

    /// The pair that this far leg speaks for.
    pub(super) fn speaks_for(&self, id: FarId) -> Option<&Pair> {
        self.fars.get(&id).and_then(|far| far.pair())
    }

    /// What was verified of whom that leg is to speak for, if the policy lets it.
    pub(super) fn introduced(&self, id: FarId, policy: &Policy) -> Option<(Domain, Method, RuleName)> {
        let proof = self.claims.all().find(|pending| pending.far == Some(id))?.proof.as_ref()?;
        let (pair, method) = (proof.pair(), proof.method());
        let identity = judge::identity_of(method);
        let verdict = judge::inbound(policy, pair, identity, self.near.secured(), Some(self.near.address()));
        verdict.is_allow().then(|| (pair.sender.clone(), method, verdict.rule))
    }

    /// The same of whom stanzas of that pair come from, while it stands and as long as something of it is on its way.
    pub(super) fn brings(&self, pair: &Pair) -> Option<(Domain, Method, RuleName)> {
        let standing = self.guard.pairs().iter().find(|admitted| admitted.pair() == pair);
        standing.or_else(|| self.parted.find(pair)).map(Admitted::introduction)
    }

    pub(super) fn near(&self) -> &Near {
        &self.near
    }

    pub(super) fn kept_back(&self) -> (usize, usize) {
        self.counting.kept()
    }

    pub(super) fn managed(&self) -> Option<CountedPair> {
        self.counting.snapshot()
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The pairs that have sent something back.
    pub(super) fn back(&self) -> &Guard {
        self.back.guard()
    }

    pub(super) fn channel(&self, side: Side) -> Option<&Secured> {
        match side {
            Side::Near => self.near.secured(),
            Side::Far(id) => self.fars.get(&id).and_then(|far| far.secured()),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.near.is_over() && self.fars.is_empty() && !self.holds_back()
    }

    /// Whether what comes for its pairs waits, since what went before may yet be asked for.
    pub(super) fn holds_back(&self) -> bool {
        self.counting.holds_back()
    }

    /// Whether it is counted what goes back, and whether there is room for more of it.
    pub(super) fn room_back(&self, relays: &RelayParams) -> Option<bool> {
        self.counting.sent().map(|sent| sent.has_room(relays))
    }

    pub(super) fn wants_read(&self, side: Side) -> bool {
        match side {
            Side::Near => self.near.wants_read() && self.counting.wants_read(),
            Side::Far(id) => self.fars.contains_key(&id),
        }
    }

    /// What stands, for a stanza to be compared with.
    fn incoming(&mut self) -> Incoming<'_> {
        let language = self.near.language.as_deref();
        let onwards = Onwards::Legs(&self.fars);
        Incoming { guard: &mut self.guard, language, onwards, asked: &mut self.asked }
    }

    fn origin(&self) -> Origin<'static> {
        Origin { direction: Direction::Inbound, caller: None }
    }

    fn issue(&mut self) -> u32 {
        self.issued = self.issued.wrapping_add(1);
        self.issued
    }

    /// Reports, for a pair whose own stream stands here (DB-69).
    fn report(&self, pair: Pair, octets: Bytes, turn: &mut Turn<'_>) {
        match self.fars.values().find(|far| far.is_live() && far.is_for(&pair)) {
            Some(far) => turn.push(Effect::Pass(far.id(), octets.into())),
            None => {
                let via = pair.target.clone();
                turn.push(Effect::Report { pair, via, stanza: octets });
            }
        }
    }

    /// A stanza that a broken far leg left is carried once more by a courier.
    fn stranded(&self, pair: &Pair, octets: Bytes, turn: &mut Turn<'_>) {
        let back = self.parted.reason(pair).filter(|_| !self.guard.pairs().iter().any(|a| a.pair() == pair));
        match back {
            Some(reason) => self.origin().undeliverable(&octets, &reason.into(), turn),
            // There is no time left for a second try.
            None if self.draining => self.origin().undeliverable(&octets, &Reason::Shutdown.into(), turn),
            None => turn.push(Effect::Carry(pair.clone(), octets.into())),
        }
    }

    /// What a domain publishes about the certificate of the near leg is known: its header is answered, and its claims go on.
    fn inquired(&mut self, found: Evidence, turn: &mut Turn<'_>) {
        let domain = found.domain.clone();
        let outcome = self.near.inquired(found, turn);
        self.near_came(outcome, turn);
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|claim| claim.pair.sender == domain);
        self.waiting = rest;
        for claim in due {
            if self.near.is_live() {
                self.claim(claim, turn);
            }
        }
    }

    /// What was found out about a key of ours that somebody asks about.
    fn vouched(&mut self, check: crate::stream::KeyCheck, vouch: Vouch, turn: &mut Turn<'_>) {
        let outcome = super::claims::outcome_of(vouch);
        turn.dialback(Role::Authoritative, Facing::Public, outcome, std::time::Duration::ZERO);
        if self.claims.is_empty() && self.guard.is_empty() {
            self.near.answered = Some(turn.now);
        }
        self.near_step(receiving::Input::Vouched(check, vouch), turn);
    }
}

/// Whether the peer ends its stream with an error.
fn is_error(token: &Token) -> bool {
    matches!(token, Token::Element(frame) if frame.is(names::STREAMS, "error"))
}
