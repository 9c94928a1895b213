//! What the policy is asked, and with which proof in hand: the one place where the facts of a channel meet the rules.

use std::net::IpAddr;

use super::turn::Turn;
use crate::policy::{Federate, Identity, KeyDigest, Policy, Question, ShownKey, Tls, Verdict};
use crate::reason::{Cause, Detail, Direction};
use crate::stream::dane::Dane;
use crate::stream::{Certificate, Pair, Proof, Secured, TlsVersion, identity};

impl Turn<'_> {
    /// May the remote domain of this pair speak to us, shown this, over this channel, from there?
    pub(super) fn inbound(
        &self,
        pair: &Pair,
        identity: Identity,
        secured: Option<&Secured>,
        address: Option<IpAddr>,
    ) -> Verdict {
        let certificate = secured.and_then(|secured| secured.certificate.as_ref());
        let (tls, asked) = (tls(secured), question(pair, Direction::Inbound, certificate));
        self.policy.judge(&Question::Federate(Federate { identity, tls, address, ..asked }), &mut ())
    }

    /// May the hosted domain of this pair speak to the remote one, shown this, over such a channel?
    pub(super) fn outbound(
        &self,
        pair: &Pair,
        identity: Identity,
        tls: Tls,
        address: Option<IpAddr>,
    ) -> Verdict {
        let asked = question(pair, Direction::Outbound, None);
        self.policy.judge(&Question::Federate(Federate { identity, tls, address, ..asked }), &mut ())
    }

    /// What the channel itself proves of the remote domain of this pair, the strongest first (a key that the rule pins, what the
    /// DNS names, then the certificate), and what policy says of that; without such a proof, what it says of dialback.
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
        // DNS-12: where the domain says which certificate is its own, another is none, whoever has signed it.
        match secured.map(|secured| secured.dane) {
            Some(Dane::Proven(_)) => {
                if let Ok(proof) = Proof::by_dane(secured, &remote) {
                    return (Some(proof), judge(Identity::Dane));
                }
            }
            Some(Dane::Failed) => return (None, judge(Identity::Absent)),
            Some(Dane::Unpublished) | None => {}
        }
        match Proof::by_certificate(secured, &remote) {
            Ok(proof) => (Some(proof), judge(Identity::Certificate)),
            // What is left of identity is the name that the DNS led us to, no more than dialback shows.
            Err(_) => (None, judge(Identity::Dialback)),
        }
    }

    /// What the sender's policy says of a pair that goes out, before any cost; between two backends, what the addressee's
    /// says, too (POL-08).
    pub(super) fn verdicts(&self, pair: &Pair) -> (Verdict, Option<Verdict>) {
        match self.home.hosts(&pair.target) {
            false => (self.outbound(pair, Identity::Unproven, Tls::Unknown, None), None),
            true => {
                let (out, into) = self.policy.judge_between(&pair.sender, &pair.target);
                (out, Some(into))
            }
        }
    }
}

/// What is known of the pair and of the certificate that the remote server showed; the rest is to be filled in.
fn question<'a>(pair: &'a Pair, direction: Direction, certificate: Option<&Certificate>) -> Federate<'a> {
    let (hosted, remote) = pair.sides(direction);
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
    secured: Option<&Secured>,
) -> Option<Detail> {
    let certificate = secured.and_then(|secured| secured.certificate.as_ref());
    let failed = secured.is_some_and(|secured| secured.dane == Dane::Failed);
    let unlisted = || failed.then(|| Detail::new(Cause::TlsaMismatch, ""));
    let asked = question(pair, direction, certificate);
    policy.doubt_key(&asked).or_else(unlisted).or_else(|| identity::doubt(certificate, asked.remote))
}

fn tls(secured: Option<&Secured>) -> Tls {
    match secured.map(|s| s.version) {
        None => Tls::None,
        Some(TlsVersion::V12) => Tls::V12,
        Some(TlsVersion::V13) => Tls::V13,
    }
}
