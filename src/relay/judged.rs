//! What the policy is asked, and with which proof in hand: the one place where the facts of a channel meet the rules.

use std::net::IpAddr;

use crate::policy::{Federate, Identity, KeyDigest, Policy, Question, ShownKey, Tls, Verdict};
use crate::reason::{Detail, Direction, Reason};
use crate::stream::initiating::Errand;
use crate::stream::{Certificate, KeyCheck, Method, Pair, Proof, Secured, TlsVersion, identity};

use super::far::Far;
use super::{FarId, Relay};

impl Relay {
    /// The inbound question for this pair.
    pub(super) fn judge_inbound(
        &self,
        pair: &Pair,
        identity: Identity,
        secured: Option<&Secured>,
    ) -> Verdict {
        let address = self.peer_address();
        let certificate = secured.and_then(|secured| secured.certificate.as_ref());
        let question = Federate {
            identity,
            tls: tls(secured),
            address,
            ..question(pair, Direction::Inbound, certificate)
        };
        self.policy.judge(&Question::Federate(question), &mut ())
    }

    pub(super) fn judge_outbound(
        &self,
        pair: &Pair,
        identity: Identity,
        tls: Tls,
        address: Option<IpAddr>,
    ) -> Verdict {
        let question = Federate { identity, tls, address, ..question(pair, Direction::Outbound, None) };
        self.policy.judge(&Question::Federate(question), &mut ())
    }

    /// What the channel itself proves of the remote domain of this pair, the strongest first (a key that the rule pins, then
    /// the certificate), and what policy says of that; without such a proof, what it says of dialback.
    pub(super) fn shown(
        &self,
        pair: &Pair,
        direction: Direction,
        secured: Option<&Secured>,
        address: Option<IpAddr>,
    ) -> (Option<Proof>, Verdict) {
        let certificate = secured.and_then(|secured| secured.certificate.as_ref());
        let asked = Federate { tls: tls(secured), address, ..question(pair, direction, certificate) };
        let judge =
            |identity| self.policy.judge(&Question::Federate(Federate { identity, ..asked }), &mut ());
        let remote = match direction {
            Direction::Inbound => pair.clone(),
            Direction::Outbound => pair.reversed(),
        };
        let pinned = judge(Identity::Pin);
        let key = pinned.permit().and_then(|permit| permit.pinned()).map(KeyDigest::octets);
        if let Ok(proof) = Proof::by_pin(secured, &remote, key) {
            return (Some(proof), pinned);
        }
        match Proof::by_certificate(secured, &remote) {
            Ok(proof) => (Some(proof), judge(Identity::Certificate)),
            // What is left of identity is the name that the DNS led us to, no more than dialback shows.
            Err(_) => (None, judge(Identity::Dialback)),
        }
    }

    /// The outbound verdict for this pair: with a far leg by what its channel shows, without one before any cost.
    pub(super) fn outbound_verdict(&self, pair: &Pair, far: Option<FarId>) -> Verdict {
        let Some(far) = far.and_then(|id| self.fars.get(&id)) else {
            return self.judge_outbound(pair, Identity::Unproven, Tls::Unknown, None);
        };
        self.shown(pair, Direction::Outbound, far.secured(), far.address()).1
    }

    /// Whether the server of this leg may answer for the sender domain: its certificate names the domain, or a policy file
    /// takes servers of that domain without (CRT-13, DB-24), at its address.
    pub(super) fn authority_taken(&self, check: &KeyCheck, far: &Far) -> bool {
        let (proof, verdict) = self.shown(&check.pair, Direction::Inbound, far.secured(), far.address());
        match proof.map(|proof| proof.method()) {
            // A certificate that names the domain, and yet not the key that is pinned, is no server of it.
            Some(Method::Certificate) => verdict.reason != Reason::IdentityTooWeak,
            Some(_) => true,
            None => verdict.permit().is_some_and(|permit| permit.takes_unnamed_servers()),
        }
    }

    /// Whether the policy lets this errand travel in clear (`tls: none`).
    pub(super) fn clear_allowed(&self, errand: &Errand) -> bool {
        match errand {
            Errand::Speak(pair) => self.judge_outbound(pair, Identity::Dialback, Tls::None, None).is_allow(),
            Errand::Ask(check) => self.judge_inbound(&check.pair, Identity::Dialback, None).is_allow(),
        }
    }
}

/// What is known of the pair and of the certificate that the remote server showed; the rest is to be filled in.
fn question<'a>(pair: &'a Pair, direction: Direction, certificate: Option<&Certificate>) -> Federate<'a> {
    let (hosted, remote) = match direction {
        Direction::Inbound => (&pair.target, &pair.sender),
        Direction::Outbound => (&pair.sender, &pair.target),
    };
    let key = certificate.and_then(|certificate| certificate.key).map(KeyDigest::new);
    Federate {
        hosted,
        remote,
        direction,
        identity: Identity::Unproven,
        tls: Tls::Unknown,
        address: None,
        key: key.map_or(ShownKey::Unknown, ShownKey::Digest),
    }
}

/// Why nothing on the channel proves the remote domain of this pair, if nothing does: the key that is not the pinned one,
/// where the rule pins keys; else what is wrong with the certificate.
pub fn doubt(
    policy: &Policy,
    pair: &Pair,
    direction: Direction,
    certificate: Option<&Certificate>,
) -> Option<Detail> {
    let asked = question(pair, direction, certificate);
    policy.doubt_key(&asked).or_else(|| identity::doubt(certificate, asked.remote))
}

fn tls(secured: Option<&Secured>) -> Tls {
    match secured.map(|s| s.version) {
        None => Tls::None,
        Some(TlsVersion::V12) => Tls::V12,
        Some(TlsVersion::V13) => Tls::V13,
    }
}
