//! Whether a server out in the world is to be had at all, for those who remember it (CLS-07).
//!
//! What is told here concerns our own pairs: that no stream could be had with the server, or that there is one to speak
//! with. What it says of a pair, and what our policy says of it, is neither.

use crate::reason::{Facing, Reason};
use crate::stream::initiating::Errand;

use super::{Behalf, Effect, FarId, Relay, Shape};

impl Relay {
    /// On whose behalf this errand is run.
    pub(super) fn behalf(&self, errand: &Errand) -> Behalf {
        match (errand, &self.shape) {
            (Errand::Ask(_), _) => Behalf::Claim,
            (Errand::Speak(_), Shape::Courier(courier)) if courier.is_own() => Behalf::Own,
            (Errand::Speak(_), Shape::Courier(_)) => Behalf::Carried,
            (Errand::Speak(_), Shape::Serving | Shape::Verifier) => Behalf::Own,
        }
    }

    /// There is a server that speaks with us, whatever it says.
    pub(super) fn far_met(&self, id: FarId, out: &mut Vec<Effect>) {
        if self.is_our_pair(id) {
            out.push(Effect::Fared(id, Ok(())));
        }
    }

    /// No stream could be had, for this reason, as far as that is the server's.
    pub(super) fn far_missed(&self, id: FarId, reason: Reason, out: &mut Vec<Effect>) {
        if self.is_our_pair(id) && is_absence(reason) {
            out.push(Effect::Fared(id, Err(reason)));
        }
    }

    /// Our patience is over while the server has our connection and nothing stands yet.
    pub(super) fn far_late(&self, id: FarId, reason: Reason, out: &mut Vec<Effect>) {
        let waits = self.fars.get(&id).is_some_and(|far| !far.standing && far.address().is_some());
        if reason == Reason::DialbackTimeout && waits {
            self.far_missed(id, reason, out);
        }
    }

    fn is_our_pair(&self, id: FarId) -> bool {
        let terms = self.fars.get(&id).map(|far| &far.terms);
        terms.is_some_and(|t| t.facing == Facing::Public && matches!(t.errand, Errand::Speak(_)))
    }
}

/// Whether this says that the server is not to be had. That the DNS failed or that nobody takes a connection is not among
/// them: whoever looked knows that already.
fn is_absence(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BadFormat
            | Reason::BadNamespacePrefix
            | Reason::CertificateUntrusted
            | Reason::ConnectionLost
            | Reason::DialbackTimeout
            | Reason::EarlyOctets
            | Reason::Finished
            | Reason::HeaderTimeout
            | Reason::InvalidNamespace
            | Reason::InvalidXml
            | Reason::NotWellFormed
            | Reason::PeerError
            | Reason::RemoteFailed
            | Reason::RestrictedXml
            | Reason::SaslRefused
            | Reason::StanzaTimeout
            | Reason::StanzaTooBig
            | Reason::TlsFailed
            | Reason::TlsRequired
            | Reason::UnaskedAnswer
            | Reason::UnsupportedEncoding
            | Reason::UnsupportedStanzaType
            | Reason::WriteTimeout
            | Reason::WrongTransport
            | Reason::XmlBudget
    )
}
