//! From a claim to an admitted pair: claim, question, proof, permit, far claim, guard.
//!
//! The order is that of DB-20: what costs nothing is asked first. No lookup, connection or contact with a backend happens
//! for a pair that policy denies (POL-04).

use std::time::Duration;

use super::super::claims::{self, Pending};
use super::super::event::{Event, Role};
use super::super::far::Far;
use super::super::judge;
use super::super::near::HasNear as _;
use super::super::turn::Turn;
use super::super::{ClaimId, Effect, FarId, Side};
use super::Inbound;
use crate::filter::PairRoute;
use crate::policy::{OnChange, RuleName, Verdict};
use crate::reason::{Class, Direction, Facing, Outcome, Reason, Why};
use crate::stream::initiating::Errand;
use crate::stream::receiving::{self, Claim, Ruling};
use crate::stream::{KeyAnswer, Method, Pair, Proof};

impl Inbound {
    /// Somebody claims a pair.
    pub(super) fn claim(&mut self, claim: Claim, turn: &mut Turn<'_>) {
        self.near.answered = None;
        if self.stands(&claim.pair) {
            // DB-32: the pair stands already; EXTERNAL adds a proof to it, and no second leg (RLY-05).
            return self.near_step(receiving::Input::Ruled(claim, Ruling::Accepted), turn);
        }
        if self.claims.repeat(&claim) {
            return;
        }
        if self.claims.has(&claim.pair) {
            return self.turned_down(claim, Reason::SecondKey, None, turn);
        }
        // DB-20, DB-21: what the names alone decide.
        let names = match (turn.relays.hosts(&claim.pair.sender), turn.relays.hosts(&claim.pair.target)) {
            (_, false) => Some(turn.relays.absence(&claim.pair.target)),
            (true, true) => Some(Reason::HomeClaimed),
            (false, true) => None,
        };
        if let Some(reason) = names {
            return self.turned_down(claim, reason, None, turn);
        }
        let pending = self.claims.len() + self.waiting.len();
        // DNS-15: what the domain publishes about the certificate may prove it.
        if let Some(sought) =
            self.near.sought(&claim.pair, turn).filter(|_| pending < turn.relays.limits.pending)
        {
            self.near.inquire(&claim.pair, sought, turn);
            return self.waiting.push(claim);
        }
        // DB-30, CRT-11: what this very session shows speaks for exactly this sender.
        let (proof, verdict) = self.shown(&claim.pair, turn);
        if !verdict.is_allow() {
            return self.turned_down(claim, verdict.reason, Some(verdict), turn);
        }
        let limits = &turn.relays.limits;
        if self.guard.pairs().len() + pending >= limits.pairs || pending >= limits.pending {
            return self.turned_down(claim, Reason::TooManyPairs, None, turn);
        }
        let id = ClaimId(self.issue());
        let deadline = turn.now + turn.relays.timeouts.dialback;
        let (proven, check) = (proof.is_some(), claims::check(&claim));
        let mut pending = Pending::new(claim, turn.now, deadline);
        pending.proof = proof;
        self.claims.put(id, pending);
        match (proven, check) {
            (true, _) => self.connect(id, turn),
            (false, Some(check)) => turn.push(Effect::Verify(id, check)),
            // EXTERNAL is offered only where the certificate speaks for the pair.
            (false, None) => self.refuse(id, Reason::CertificateUntrusted, turn),
        }
    }

    /// Whether the pair is here, and was not taken back.
    fn stands(&self, pair: &Pair) -> bool {
        let admitted = self.guard.find(pair.sender.as_str(), pair.target.as_str());
        let admitted = admitted.and_then(|index| self.guard.pair(index));
        admitted.is_some_and(|admitted| !matches!(admitted.route(), PairRoute::Withdrawn(_)))
    }

    /// What the channel of the peer proves of the sender of this pair, and what the policy says of that.
    pub(super) fn shown(&self, pair: &Pair, turn: &Turn<'_>) -> (Option<Proof>, Verdict) {
        turn.shown(pair, Direction::Inbound, self.near.secured(), Some(self.near.address()))
    }

    /// The authoritative server has spoken, or could not be asked.
    pub(super) fn verified(&mut self, id: ClaimId, answer: KeyAnswer, turn: &mut Turn<'_>) {
        // DB-06, DB-25: late answers find nothing.
        let Some(pending) = self.claims.get_mut(id).filter(|p| p.proof.is_none()) else { return };
        let Some(check) = pending.check() else { return };
        let (outcome, after) = (claims::outcome(answer), turn.since(pending.since));
        turn.dialback(Role::Verifier, Facing::Public, outcome, after);
        match Proof::by_dialback(&check, answer) {
            Ok(proof) => {
                pending.proof = Some(proof);
                self.connect(id, turn);
            }
            Err(reason) => self.refuse(id, reason.of_asking(), turn),
        }
    }

    /// Proven: the far leg is opened and claims the pair there.
    fn connect(&mut self, id: ClaimId, turn: &mut Turn<'_>) {
        let proven = self.claims.get_mut(id).and_then(|pending| pending.proof.as_ref());
        let Some((pair, method)) = proven.map(|proof| (proof.pair().clone(), proof.method())) else { return };
        let verdict = self.recalled(&pair, method, turn);
        if verdict.reason == Reason::PeerChanged {
            return self.held(id, &pair, (method, verdict), turn);
        }
        let far = FarId(self.issue());
        let Some(pending) = self.claims.get_mut(id) else { return };
        pending.deadline = turn.now + turn.relays.timeouts.dialback;
        pending.far = Some(far);
        let errand = Errand::Speak(pending.claim.pair.clone());
        self.fars.insert(far, Far::inside(far, errand, None, turn));
    }

    /// The pair stands on the far side: the last question, then both tokens open the door.
    pub(super) fn admit(&mut self, id: ClaimId, far: FarId, turn: &mut Turn<'_>) {
        // CLS-01: behind our closing tag nothing is negotiated, and what was proven may be so no more.
        if !self.near.is_live() {
            return self.refuse(id, self.near.reason(), turn);
        }
        let Some(pending) = self.claims.get_mut(id) else { return };
        let Some(proof) = pending.proof.take() else { return };
        let (pair, since, method) = (proof.pair().clone(), pending.since, proof.method());
        let mut verdict = self.recalled(&pair, method, turn);
        if method == Method::Pin && verdict.beside.is_some() {
            // A policy in the shadow that pins no key would ask for what else the channel shows.
            verdict = verdict.with_beside(self.shown(&pair, turn).1.beside);
        }
        let Some(permit) = verdict.permit() else {
            let reason = verdict.reason;
            if reason == Reason::PeerChanged {
                self.far_close(far, turn);
                return self.held(id, &pair, (method, verdict), turn);
            }
            turn.note(Event::Judged { pair, verdict: verdict.into() });
            self.far_close(far, turn);
            return self.refuse(id, reason, turn);
        };
        let Some(pending) = self.claims.take(id) else { return };
        if self.guard.find(pair.sender.as_str(), pair.target.as_str()).is_some() {
            // It was taken back and is here again: that was another life.
            self.report_end(&pair, Reason::PolicyChanged, turn);
        }
        if self.guard.admit(proof, permit.clone(), PairRoute::Leg(far.0)).is_err() {
            return self.near_fault(Reason::Internal, turn);
        }
        let judged = verdict.reason;
        turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
        let (outcome, reason) = (Outcome::Allow, Reason::Allowed);
        turn.note(Event::Authenticated { pair: pair.clone(), method, outcome, reason });
        turn.note(self.met(&pair, method, (permit.rule(), permit.on_change()), Outcome::Allow));
        let (rule, beside, after) = (permit.rule().clone(), permit.beside().cloned(), turn.since(since));
        turn.note(Event::Admitted { pair, method, server: None, rule, reason: judged, beside, after });
        turn.push(Effect::Admitted(Some(far), permit));
        turn.push(Effect::LeaveUnproven);
        turn.push(Effect::Widen(Side::Near));
        self.near.heard = turn.now;
        self.answer(&pending, Ruling::Accepted, turn);
    }

    /// What the policy says of a pair that was proven so, and of how it was proven before.
    fn recalled(&self, pair: &Pair, method: Method, turn: &Turn<'_>) -> Verdict {
        let (identity, secured) = (judge::identity_of(method), self.near.secured());
        let verdict = turn.inbound(pair, identity, secured, Some(self.near.address()));
        turn.recalled(verdict, method, secured)
    }

    /// The pair was proven, otherwise than before, and waits for an operator.
    fn held(&mut self, id: ClaimId, pair: &Pair, (method, verdict): (Method, Verdict), turn: &mut Turn<'_>) {
        let (reason, rule) = (verdict.reason, verdict.rule.clone());
        turn.note(self.met(pair, method, (&rule, OnChange::Hold), Outcome::Deny));
        turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
        self.refuse_by(id, reason.into(), Some(rule), turn);
    }

    fn met(
        &self,
        pair: &Pair,
        method: Method,
        (rule, on_change): (&RuleName, OnChange),
        outcome: Outcome,
    ) -> Event {
        let secured = self.near.secured();
        Event::Met {
            pair: pair.clone(),
            direction: Direction::Inbound,
            face: Box::new(judge::face(&pair.sender, method, secured)),
            tls: secured.map(|secured| secured.version),
            address: Some(self.near.address()),
            rule: rule.clone(),
            on_change,
            outcome,
        }
    }

    /// A pending claim comes to nothing.
    pub(super) fn refuse(&mut self, id: ClaimId, why: impl Into<Why>, turn: &mut Turn<'_>) {
        self.refuse_by(id, why.into(), None, turn);
    }

    /// The same by that rule.
    fn refuse_by(&mut self, id: ClaimId, why: Why, rule: Option<RuleName>, turn: &mut Turn<'_>) {
        let Why { reason, detail } = why;
        let Some(pending) = self.claims.take(id) else { return };
        if let Some(id) = pending.far {
            self.far(id, turn, |far, turn| {
                far.key_rejected(reason, turn);
                far.close(turn)
            });
        }
        let (pair, method) = (pending.claim.pair.clone(), pending.method());
        if !reason.is(Class::Proven) {
            let (pair, outcome) = (pair.clone(), Outcome::Deny);
            turn.note(Event::Authenticated { pair, method, outcome, reason });
        }
        let mut record = self.near.record(Some(pair), Some(method), reason);
        record.detail = detail;
        record.rule = rule;
        turn.note(Event::Rejected { record, after: turn.since(pending.since) });
        self.answer(&pending, self.ruling(reason), turn);
        self.refusal(reason, turn);
    }

    /// A claim that was never pending is refused.
    fn turned_down(&mut self, claim: Claim, reason: Reason, verdict: Option<Verdict>, turn: &mut Turn<'_>) {
        if !self.near.was_told(&claim.pair, reason) {
            let (pair, method) = (claim.pair.clone(), claims::method(&claim));
            let mut record = self.near.record(Some(pair.clone()), Some(method), reason);
            if let Some(verdict) = verdict {
                record.rule = Some(verdict.rule.clone());
                record.beside.clone_from(&verdict.beside);
                turn.note(Event::Judged { pair, verdict: verdict.into() });
            }
            turn.note(Event::Rejected { record, after: Duration::ZERO });
        }
        self.near_step(receiving::Input::Ruled(claim, self.ruling(reason)), turn);
        self.refusal(reason, turn);
    }

    /// The claim is answered as often as it was made.
    fn answer(&mut self, pending: &Pending, ruling: Ruling, turn: &mut Turn<'_>) {
        for _ in 0..pending.answers() {
            self.near_step(receiving::Input::Ruled(pending.claim.clone(), ruling), turn);
        }
    }

    /// DB-27: `invalid` closes a stream on which nothing else stands or is on its way.
    fn ruling(&self, reason: Reason) -> Ruling {
        let closes = reason == Reason::DialbackInvalid && self.guard.is_empty() && self.claims.is_empty();
        if closes { Ruling::Invalid } else { Ruling::Refused(reason) }
    }

    /// Each refusal costs an answer and an audit record, and many cost a backend a connection before (LIM-06, LIM-09): who
    /// goes on and on is shown out. Pairs that only find no room are not counted, for large hosts bring them all at once.
    pub(super) fn refusal(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        if reason == Reason::TooManyPairs {
            return;
        }
        let borne = turn.relays.limits.refusals.saturating_add(turn.since(self.near.started).as_secs());
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > borne {
            self.near_close(Reason::TooManyRefusals, turn);
        }
    }
}
