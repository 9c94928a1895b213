//! What time, a new policy and the end do to the stream of a remote server and to its pairs.

use std::time::Instant;

use super::super::claims::Pending;
use super::super::event::Event;
use super::super::far::Far;
use super::super::judge;
use super::super::leg::OfLeg;
use super::super::near::HasNear as _;
use super::super::turn::Turn;
use super::super::{Effect, FarId, RelayParams};
use super::Inbound;
use crate::filter::PairRoute;
use crate::jid::Domain;
use crate::reason::Reason;
use crate::stream::dane::{Dane, Usage};
use crate::stream::evidence::Evidence;
use crate::stream::{Certificate, Method, Pair, receiving};

impl Inbound {
    /// When something is due.
    pub(in super::super) fn deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let fars = self.fars.values().filter_map(|far| far.deadline()).min();
        [self.near_deadline(relays), self.claims.deadline(), self.counting.deadline(relays), fars]
            .into_iter()
            .flatten()
            .min()
    }

    fn near_deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let times = &relays.timeouts;
        let whole = match self.guard.is_empty() {
            true => self.near.started + times.unauth,
            false => self.near.heard + times.idle,
        };
        self.near.deadline([Some(whole), self.certificate_end()].into_iter().flatten().min(), times)
    }

    /// CRT-12: when the certificate that proved a pair here expires.
    fn certificate_end(&self) -> Option<Instant> {
        let secured = self.near.secured()?;
        let leans = |remote: &Domain, method| match method {
            Method::Certificate | Method::Posh => true,
            // A usage that asks for nothing besides holds as long as the record did when it was read (RFC 7671 5.1).
            Method::Dane => secured.dane(remote) != Dane::Proven(Usage::DaneEe),
            Method::Backend | Method::Dialback | Method::Pin => false,
        };
        let mut here = self.guard.pairs().iter().map(|a| (&a.pair().sender, a.method()));
        let mut back = self.back.leaning().map(|(pair, method)| (&pair.target, method));
        let leaning = here.any(|(remote, method)| leans(remote, method))
            || back.any(|(remote, method)| leans(remote, method));
        secured.certificate.as_ref().filter(|_| leaning)?.expires
    }

    /// Some deadline has come; each that is due is acted on.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        for id in self.claims.late(turn.now) {
            // Who is proven has done his part: it is our own server that does not answer.
            let proven = self.claims.get_mut(id).is_some_and(|claim| claim.far.is_some());
            let reason = if proven { Reason::BackendSilent } else { Reason::DialbackTimeout };
            self.refuse(id, reason, turn);
        }
        for id in self.fars.keys().copied().collect::<Vec<_>>() {
            self.far(id, turn, Far::expire);
        }
        for domain in self.near.late_inquiries(turn.now) {
            self.inquired(Evidence::none(domain), turn);
        }
        if let Err(reason) = self.counting.expire(&self.near, turn) {
            self.near_input(OfLeg::Gone { reason, unsent: Vec::new() }, turn);
        }
        self.expire_near(turn);
    }

    fn expire_near(&mut self, turn: &mut Turn<'_>) {
        let (times, now) = (&turn.relays.timeouts, turn.now);
        if self.near_deadline(turn.relays).is_none_or(|at| at > now) {
            return;
        }
        if !self.near.is_live() {
            let outcome = self.near.late(turn);
            return self.near_came(Some(outcome), turn);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let paired = !self.guard.is_empty();
        if due(self.certificate_end()) {
            self.near_close(Reason::CertificateExpired, turn);
        } else if due(self.near.done_asking(times)) || paired && self.near.heard + times.idle <= now {
            self.near_close(Reason::Idle, turn);
        } else if !paired && self.near.started + times.unauth <= now {
            self.near_fault(Reason::NegotiationTimeout, turn);
        } else {
            self.near_step(receiving::Input::Expired, turn);
        }
    }

    /// The whole relay ends in good order.
    pub(super) fn end(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        for id in self.claims.ids() {
            self.refuse(id, Reason::Overload, turn);
        }
        self.near_close(reason, turn);
    }

    /// A far leg is at a limit: it ends with its pair, and the others go on (DB-66). Before the pair stands it is one
    /// more attempt that failed.
    pub(super) fn shut(&mut self, id: FarId, reason: Reason, turn: &mut Turn<'_>) {
        let Some(far) = self.fars.get(&id) else { return };
        let Some(pair) = far.pair().filter(|_| far.stands()).cloned() else {
            return self.far(id, turn, |far, turn| far.fault(reason, turn));
        };
        self.guard.reroute(&pair, PairRoute::Withdrawn(reason));
        self.far_close(id, turn);
        if self.guard.is_withdrawn() && self.claims.is_empty() {
            self.near_close(reason, turn);
        }
    }

    /// POL-07: a new policy judges every pair again.
    pub(super) fn rejudge(&mut self, turn: &mut Turn<'_>) {
        let standing: Vec<_> = self
            .guard
            .pairs()
            .iter()
            .filter(|a| !matches!(a.route(), PairRoute::Withdrawn(_)))
            .map(|a| (a.pair().clone(), a.permit().clone(), a.route()))
            .collect();
        let mut withdrawn = None;
        for (pair, permit, route) in standing {
            let leg = match route {
                PairRoute::Leg(number) => Some(FarId(number)),
                PairRoute::Carried | PairRoute::Withdrawn(_) => None,
            };
            let mut verdict = turn.policy.judge_again(&permit);
            if permit.pinned().is_some() && verdict.beside.is_some() {
                verdict = verdict.with_beside(self.shown(&pair, turn).1.beside);
            }
            if let Some(renewed) = verdict.permit() {
                let changed = renewed.quotas() != permit.quotas() || renewed.rule() != permit.rule();
                if renewed.beside() != permit.beside() && renewed.beside().is_some() {
                    turn.note(Event::Shadowed { pair: pair.clone(), verdict: verdict.into() });
                }
                self.guard.repermit(&pair, renewed.clone());
                if changed {
                    turn.push(Effect::Admitted(leg, renewed));
                }
                continue;
            }
            let reason = verdict.reason.of_standing();
            withdrawn.get_or_insert(reason);
            turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
            self.take_back(&pair, leg, reason, turn);
        }
        if self.guard.is_empty() {
            // Who has no pair yet is not judged again before it claims one; the ban may have come between the door and here.
            if turn.policy.bans().holds_address(self.near.address()) {
                self.near_close(Reason::Banned, turn);
            }
        } else if self.guard.is_withdrawn() {
            self.near_close(withdrawn.unwrap_or(Reason::PolicyChanged), turn);
        }
    }

    /// POL-07: the pair stands no longer, and what it brought and still waits goes no further.
    fn take_back(&mut self, pair: &Pair, leg: Option<FarId>, reason: Reason, turn: &mut Turn<'_>) {
        self.guard.reroute(pair, PairRoute::Withdrawn(reason));
        turn.push(Effect::Withdraw(pair.clone(), reason));
        if let Some(id) = leg {
            self.far_close(id, turn);
        }
    }

    /// The operator ends the stream, and every pair with it.
    pub(super) fn take_all_back(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        let standing: Vec<_> = self.guard.pairs().iter().map(|a| (a.pair().clone(), a.route())).collect();
        for (pair, route) in standing {
            match route {
                PairRoute::Leg(number) => self.take_back(&pair, Some(FarId(number)), reason, turn),
                PairRoute::Carried => self.take_back(&pair, None, reason, turn),
                PairRoute::Withdrawn(_) => {}
            }
        }
    }

    /// CRT-12: the certificate of the peer is worth this now.
    pub(super) fn near_retrusted(&mut self, certificate: Certificate, turn: &mut Turn<'_>) {
        self.near.show(certificate);
        let leaning = self.guard.pairs().iter().map(|a| (a.pair(), a.method())).chain(self.parted.all());
        let claimed = self.claims.all().map(|pending| (&pending.claim.pair, pending.method()));
        let lost: Vec<_> = leaning
            .chain(claimed)
            .filter(|(_, method)| !matches!(method, Method::Backend | Method::Dialback))
            .filter(|(pair, _)| self.shown(pair, turn).0.is_none())
            .map(|(pair, _)| pair.clone())
            .collect();
        let Some(first) = lost.first() else { return };
        let shown = self.near.secured().and_then(|secured| secured.certificate.as_ref());
        let reason = judge::distrust(shown, &first.sender);
        let claimed = self.claims.all().any(|pending| lost.contains(&pending.claim.pair));
        // What is still on its way comes from nobody that we know.
        self.parted.distrust(&lost, reason, turn);
        for pair in &lost {
            let route = self.guard.pairs().iter().find(|a| a.pair() == pair).map(|a| a.route());
            let leg = match route {
                Some(PairRoute::Leg(number)) => Some(FarId(number)),
                Some(PairRoute::Carried | PairRoute::Withdrawn(_)) | None => None,
            };
            self.take_back(pair, leg, reason, turn);
        }
        // Pairs that dialback has proven, or a pin, lean on no authority.
        if claimed || self.guard.is_withdrawn() {
            self.near_close(reason, turn);
        }
    }

    /// The stream ends and another begins on the same connection: what was proven or claimed on the old one ends with
    /// it (TLS-07, DB-25), but the pair that EXTERNAL has just proven (EXT-06).
    pub(super) fn forget(&mut self, turn: &mut Turn<'_>) {
        self.counting.leave(false, 0, turn);
        let kept = self.near.proven().cloned();
        self.abandon_waiting(Reason::Finished, turn);
        for pending in self.claims.take_all() {
            self.report_abandoned(&pending, Reason::Finished, turn);
            if let Some(far) = pending.far {
                self.far_close(far, turn);
            }
        }
        let ended: Vec<_> = self.guard.pairs().iter().map(|a| (a.pair().clone(), a.route())).collect();
        for (pair, route) in ended.into_iter().filter(|(pair, _)| Some(pair) != kept.as_ref()) {
            self.report_end(&pair, Reason::Finished, turn);
            if let PairRoute::Leg(number) = route {
                self.far_close(FarId(number), turn);
            }
        }
    }

    /// The near stream hears no more: claims end, far legs are flushed and closed, the story is told.
    pub(super) fn wind_down(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        self.counting.leave(false, 0, turn);
        self.abandon_waiting(reason, turn);
        for pending in self.claims.take_all() {
            self.report_abandoned(&pending, reason, turn);
        }
        self.report_ends(reason, turn);
        self.close_fars(turn);
    }

    /// Claims that were not looked at yet, and that nobody waits for any more.
    fn abandon_waiting(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        for claim in std::mem::take(&mut self.waiting) {
            self.report_abandoned(&Pending::new(claim, turn.now, turn.now), reason, turn);
        }
    }

    /// A claim that nobody waits for any more.
    fn report_abandoned(&self, pending: &Pending, reason: Reason, turn: &mut Turn<'_>) {
        let record = self.near.record(Some(pending.claim.pair.clone()), Some(pending.method()), reason);
        turn.note(Event::Rejected { record, after: turn.since(pending.since) });
    }

    /// One audit record for each pair that ends, or one for a stream that never came to a pair.
    fn report_ends(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        if self.guard.is_empty() {
            let record = self.near.record(None, None, reason);
            return turn.note(Event::Closed { record });
        }
        let ended: Vec<_> = self.guard.pairs().iter().map(|a| a.pair().clone()).collect();
        for pair in ended {
            self.report_end(&pair, reason, turn);
        }
    }

    /// The pair ends: it leaves the guard and is told.
    pub(super) fn report_end(&mut self, pair: &Pair, reason: Reason, turn: &mut Turn<'_>) {
        let mut record = self.near.record(Some(pair.clone()), None, reason);
        if let Some(admitted) = self.guard.remove(pair) {
            record.admitted(&admitted);
            // What was taken back has ended for that, whatever ended its stream.
            if let PairRoute::Withdrawn(reason) = admitted.route() {
                record.reason = reason;
            }
            self.parted.push(admitted);
        }
        turn.note(Event::Ended { record });
    }
}
