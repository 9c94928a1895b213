//! Certificates that are worth less than they were: expired, revoked, or no longer trusted, while their streams go on
//! (CRT-12).

use std::time::Instant;

use crate::filter::Route;
use crate::reason::{Direction, Reason};
use crate::stream::{Certificate, Method};

use super::near::Near;
use super::{Effect, FarId, Relay, Side};

impl Relay {
    /// CRT-12: a pair that stands on the peer's certificate stands no longer than that.
    pub(super) fn stand_until(&mut self, id: FarId) {
        let named = self.far_shown(id) == Some(Method::Certificate);
        if let Some(far) = self.fars.get_mut(&id) {
            let certificate = far.secured.as_ref().and_then(|secured| secured.certificate.as_ref());
            far.expires = certificate.filter(|_| named && far.standing).and_then(|c| c.expires);
        }
    }

    /// CRT-12: the certificate of that leg is worth this now.
    pub(super) fn retrusted(
        &mut self,
        side: Side,
        certificate: Certificate,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        match side {
            Side::Near => {
                let Some(near) = &mut self.near else { return };
                near.show(certificate);
                let leaning = self.guard.pairs().iter().map(|a| (a.pair(), a.method()));
                let claimed = self.claims.values().map(|pending| (&pending.claim.pair, pending.method()));
                let lost: Vec<_> = leaning
                    .chain(claimed)
                    .filter(|(_, method)| matches!(method, Method::Certificate | Method::Pin))
                    .map(|(pair, _)| pair.clone())
                    .collect();
                let address = self.peer_address();
                let secured = self.near.as_deref().and_then(Near::secured);
                let lost: Vec<_> = lost
                    .into_iter()
                    .filter(|pair| self.shown(pair, Direction::Inbound, secured, address).0.is_none())
                    .collect();
                // What is still on its way comes from nobody that we know.
                for pair in &lost {
                    self.guard.reroute(pair, Route::Withdrawn(Reason::CertificateRevoked));
                }
                if !lost.is_empty() {
                    self.near_close(Reason::CertificateRevoked, now, out);
                }
            }
            Side::Far(id) => {
                let before = self.far_shown(id);
                let Some(far) = self.fars.get_mut(&id) else { return };
                far.show(certificate);
                self.stand_until(id);
                if before.is_some() && self.far_shown(id).is_none() {
                    self.far_fault(id, Reason::CertificateRevoked, now, out);
                }
            }
        }
    }
}
