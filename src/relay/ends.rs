//! How far legs end: their connections break, we close them, or their time is over.

use std::time::Instant;

use bytes::Bytes;

use crate::filter::Route;
use crate::reason::{Cause, Reason, Why};
use crate::stream::Pair;
use crate::stream::initiating::{self, Errand, Initiating};
use crate::xml::CLOSE;

use super::{Candidate, Effect, FarId, Relay, Side};

impl Relay {
    pub(super) fn far_gone(
        &mut self,
        id: FarId,
        reason: Reason,
        unsent: Vec<Bytes>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let Some(far) = self.fars.get_mut(&id) else { return };
        if far.standing {
            let pair = match &far.terms.errand {
                Errand::Speak(pair) => Some(pair.clone()),
                Errand::Ask(_) => None,
            };
            let reason = if far.closing.is_some() { Reason::Finished } else { reason };
            out.push(Effect::Cut(Side::Far(id)));
            if self.courier_of().is_some() {
                return self.far_lost_with(id, reason, unsent, now, out);
            }
            if let Some(pair) = pair {
                for octets in unsent {
                    self.stranded(&pair, octets, out);
                }
            }
            return self.far_lost(id, reason, now, out);
        }
        if far.closing.is_some() {
            out.push(Effect::Cut(Side::Far(id)));
            self.fars.remove(&id);
            // What came to a courier meanwhile goes over another leg.
            return self.courier_lost((true, Reason::Finished), Vec::new(), now, out);
        }
        match far.machine.take() {
            Some(machine) if machine.died_of_external() => self.far_again(id, Bytes::new(), out),
            // A handshake that broke is tried once more at once, before anything is refused for it.
            Some(Initiating::Upgrading(_)) if reason == Reason::TlsFailed && far.handshakes == 0 => {
                far.handshakes += 1;
                far.redial(lost(reason), far.terms.external);
                out.push(Effect::Retry(id, Candidate::Same));
            }
            _ => self.far_attempt_failed(id, lost(reason), Bytes::new(), now, out),
        }
    }

    /// Our side of the far stream ends: flushed, closing tag, theirs awaited.
    pub(super) fn far_close(&mut self, id: FarId, now: Instant, out: &mut Vec<Effect>) {
        let close = now + self.home.timeouts.close;
        let Some(far) = self.fars.get_mut(&id) else { return };
        if far.closing.is_some() {
            return;
        }
        far.closing = Some(close);
        far.claim = None;
        match &far.machine {
            Some(Initiating::Dialling | Initiating::Upgrading(_)) | None => {
                out.push(Effect::Cut(Side::Far(id)));
                self.fars.remove(&id);
            }
            Some(_) => out.push(Effect::Send(Side::Far(id), Bytes::from_static(CLOSE))),
        }
    }

    /// The pair that this far leg speaks for; none where it only asks.
    pub fn speaks_for(&self, id: FarId) -> Option<&Pair> {
        self.fars.get(&id).and_then(|far| far.terms.errand.pair())
    }

    /// Others have the turn for the place of this leg at the server behind. What still comes for its pair is carried, and the
    /// near stream goes on.
    pub(super) fn far_yields(&mut self, id: FarId, now: Instant, out: &mut Vec<Effect>) {
        let Some(far) = self.fars.get_mut(&id).filter(|far| far.is_live()) else { return };
        far.yields = true;
        let pair = far.terms.errand.pair().cloned();
        // A courier keeps what comes until this leg has ended.
        if let Some(pair) = pair.filter(|_| self.courier_of().is_none()) {
            self.carried_from(id, &pair);
        }
        self.far_close(id, now, out);
    }

    /// The pair has no leg of its own any more. One that was taken back stays so (POL-07), and one that has another leg keeps it.
    pub(super) fn carried_from(&mut self, id: FarId, pair: &Pair) {
        if self.guard.pairs().iter().any(|a| a.pair() == pair && a.route() == Route::Leg(id.0)) {
            self.guard.reroute(pair, Route::Carried);
        }
    }

    /// Deadlines of far legs.
    pub(super) fn expire_fars(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let due: Vec<_> = self
            .fars
            .iter()
            .filter(|(_, far)| far.deadline().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(far) = self.fars.get_mut(&id) else { continue };
            if far.closing.is_some() {
                let reason = far.reason;
                out.push(Effect::Finish(Side::Far(id)));
                self.courier_ended(id, reason, out);
                self.fars.remove(&id);
                self.courier_lost((true, Reason::CloseTimeout), Vec::new(), now, out);
            } else if far.expires.is_some_and(|at| at <= now) {
                self.far_fault(id, Reason::CertificateExpired, now, out);
            } else {
                self.far_step(id, initiating::Input::Expired, now, out);
            }
        }
    }
}

/// What lies behind a connection that ended before anything stood.
fn lost(reason: Reason) -> Why {
    match reason {
        Reason::TlsFailed => Why::because(reason, Cause::BadHandshake),
        Reason::ConnectionLost => Why::because(reason, Cause::Cut),
        reason => reason.into(),
    }
}
