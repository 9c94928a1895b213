//! What the policy is asked, and with which proof in hand: the one place where the facts of a channel meet the rules.

use std::net::IpAddr;

use std::sync::Arc;

use super::event::Event;
use super::turn::Turn;
use crate::jid::Domain;
use crate::policy::{
    Authority, Face, Federate, Identity, KeyDigest, Permit, Policy, Question, ShownKey, Tls, Verdict,
};
use crate::reason::{Cause, Class, Detail, Direction, Reason};
use crate::stream::dane::Dane;
use crate::stream::initiating::Errand;
use crate::stream::{Certificate, Method, Pair, Proof, Secured, TlsVersion, TrustFault, identity};

impl Turn<'_> {
    /// A stanza is about to be refused under this permit: by its rule, if it is for that.
    pub(super) fn ruled(&mut self, permit: &Permit, reason: Reason) {
        if reason.is(Class::OfRule) {
            let (rule, place) = (permit.rule().clone(), permit.place().cloned());
            self.note(Event::Ruled { rule, place, reason });
        }
    }

    /// May the remote domain of this pair speak to us, shown this, over this channel, from there?
    pub(super) fn inbound(
        &self,
        pair: &Pair,
        identity: Identity,
        secured: Option<&Secured>,
        address: Option<IpAddr>,
    ) -> Verdict {
        inbound(self.policy, pair, identity, secured, address)
    }

    /// May the remote domain of this pair speak to us, whatever it shows, from wherever it comes?
    pub(super) fn inbound_at_all(&self, pair: &Pair) -> Verdict {
        let asked = question(pair, Direction::Inbound, None);
        let asked = Federate { identity: Identity::Unproven, tls: Tls::Unknown, ..asked };
        self.policy.judge(&Question::Federate(asked), &mut ())
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
    /// DNS names, the certificate, then what a file of the domain names), and what policy says of that; without such a proof, what it says of dialback.
    pub(super) fn shown(
        &self,
        pair: &Pair,
        direction: Direction,
        secured: Option<&Secured>,
        address: Option<IpAddr>,
    ) -> (Option<Proof>, Verdict) {
        let (proof, verdict) = shown_to(self.policy, pair, direction, secured, address);
        match self.policy.shadow() {
            None => (proof, verdict),
            // What it would take for proof may be another thing than what is taken: it looks at the channel by itself.
            Some(shadow) => {
                let (_, other) = shown_to(shadow, pair, direction, secured, address);
                (proof, verdict.shadowed_by(other))
            }
        }
    }

    /// The verdict on a pair whose remote domain this proved, over that channel: whether it was proven otherwise before, and its rule
    /// has it wait for that.
    pub(super) fn recalled(&self, verdict: Verdict, method: Method, secured: Option<&Secured>) -> Verdict {
        let Some(permit) = verdict.permit() else { return verdict };
        self.policy.recall(verdict, &Arc::new(face(permit.remote(), method, secured)))
    }

    /// Whether a file that the remote domain publishes would be a proof of it; nobody is asked for one that would not.
    pub(super) fn takes_posh(&self, errand: &Errand) -> bool {
        let (pair, direction) = match errand {
            Errand::Speak(pair) => (pair, Direction::Outbound),
            Errand::Ask(check) => (&check.pair, Direction::Inbound),
        };
        let asked = Federate { tls: Tls::V13, ..question(pair, direction, None) };
        let judge =
            |identity| self.policy.judge(&Question::Federate(Federate { identity, ..asked }), &mut ());
        judge(Identity::Unproven).permit().is_some_and(|permit| permit.takes_posh())
    }

    /// What the sender's policy says of a pair that goes out, before any cost; between two backends, what the addressee's
    /// says, too (POL-08).
    pub(super) fn verdicts(&self, pair: &Pair) -> (Verdict, Option<Verdict>) {
        match self.relays.hosts(&pair.target) {
            false => (self.outbound(pair, Identity::Unproven, Tls::Unknown, None), None),
            true => {
                let (out, into) = self.policy.judge_between(&pair.sender, &pair.target);
                (out, Some(into))
            }
        }
    }
}

/// May the remote domain of this pair speak to us by that policy, shown this, over this channel, from there?
pub(super) fn inbound(
    policy: &Policy,
    pair: &Pair,
    identity: Identity,
    secured: Option<&Secured>,
    address: Option<IpAddr>,
) -> Verdict {
    let certificate = secured.and_then(|secured| secured.certificate.as_ref());
    let (tls, asked) = (tls(secured), question(pair, Direction::Inbound, certificate));
    policy.judge(&Question::Federate(Federate { identity, tls, address, ..asked }), &mut ())
}

/// What a proof is to the policy.
pub(super) const fn identity_of(method: Method) -> Identity {
    match method {
        Method::Certificate => Identity::Certificate,
        Method::Dane => Identity::Dane,
        Method::Pin => Identity::Pin,
        Method::Posh => Identity::Posh,
        Method::Backend | Method::Dialback => Identity::Dialback,
    }
}

/// How this remote domain is proven by that, over this channel.
pub(super) fn face(remote: &Domain, method: Method, secured: Option<&Secured>) -> Face {
    let certificate = secured.and_then(|secured| secured.certificate.as_ref());
    let issuer =
        certificate.map(|certificate| certificate.issuer.as_str()).filter(|issuer| !issuer.is_empty());
    // Other proofs do not lean on a root: what stands above the certificate is no part of them.
    let leaned_on = certificate.filter(|_| method == Method::Certificate);
    let root = leaned_on.and_then(|certificate| identity::root_for(certificate, remote));
    Face {
        method: identity_of(method),
        issuer: issuer.map(Arc::from),
        root: root.map(|root| Authority { name: root.name.as_str().into(), key: KeyDigest::new(root.key) }),
        key: certificate.and_then(|certificate| certificate.key).map(KeyDigest::new),
    }
}

/// What the channel proves of the remote domain of this pair to this policy, and what it says of that.
pub fn shown_to(
    policy: &Policy,
    pair: &Pair,
    direction: Direction,
    secured: Option<&Secured>,
    address: Option<IpAddr>,
) -> (Option<Proof>, Verdict) {
    let certificate = secured.and_then(|secured| secured.certificate.as_ref());
    let asked = Federate { tls: tls(secured), address, ..question(pair, direction, certificate) };
    let judge = |identity| policy.judge(&Question::Federate(Federate { identity, ..asked }), &mut ());
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
    match secured.map(|secured| secured.dane(&remote.sender)) {
        Some(Dane::Proven(_)) => {
            if let Ok(proof) = Proof::by_dane(secured, &remote) {
                return (Some(proof), judge(Identity::Dane));
            }
        }
        Some(Dane::Failed) => return (None, judge(Identity::Absent)),
        Some(Dane::Unasked | Dane::Unpublished | Dane::Unlisted | Dane::Unknown(_)) | None => {}
    }
    if let Ok(proof) = Proof::by_certificate(secured, &remote) {
        return (Some(proof), judge(Identity::Certificate));
    }
    match Proof::by_posh(secured, &remote) {
        Ok(proof) => (Some(proof), judge(Identity::Posh)),
        // What is left of identity is the name that the DNS led us to, no more than dialback shows.
        Err(_) => (None, judge(Identity::Dialback)),
    }
}

/// Why what stood on this certificate stands no longer, now that other authorities and revocation lists judge it (CRT-12).
pub(super) fn distrust(certificate: Option<&Certificate>, remote: &Domain) -> Reason {
    match certificate.map(|certificate| identity::trusted_for(certificate, remote)) {
        Some(Err(TrustFault::Revoked)) => Reason::CertificateRevoked,
        Some(Err(TrustFault::Expired)) => Reason::CertificateExpired,
        _ => Reason::CertificateDistrusted,
    }
}

/// The same before it comes about: why a pair whose remote domain this channel proves would end, were the certificate worth that.
pub(super) fn foreseen(
    policy: &Policy,
    (pair, direction): (&Pair, Direction),
    (secured, again): (&Secured, &Certificate),
    address: Option<IpAddr>,
    both: bool,
) -> Option<Reason> {
    // Where it proves nothing now, there is nothing to lose.
    let _proven = shown_to(policy, pair, direction, Some(secured), address).0?;
    let mut renewed = secured.clone();
    renewed.certificate = Some(again.clone());
    let (proof, verdict) = shown_to(policy, pair, direction, Some(&renewed), address);
    if proof.is_some() {
        return None;
    }
    let reason = distrust(Some(again), pair.sides(direction).1);
    if direction == Direction::Outbound && reason == Reason::CertificateDistrusted && !both {
        let shown = face(pair.sides(direction).1, Method::Dialback, Some(&renewed));
        let verdict = policy.recall(verdict, &Arc::new(shown));
        return (!verdict.is_allow()).then_some(reason);
    }
    Some(reason)
}

/// What is known of the pair and of the certificate that the remote server showed; the rest is to be filled in.
fn question<'a>(pair: &'a Pair, direction: Direction, certificate: Option<&Certificate>) -> Federate<'a> {
    let (hosted, remote) = pair.sides(direction);
    let key = certificate.and_then(|certificate| certificate.key).map(KeyDigest::new);
    // What was revoked is refused before it is anybody's key: a rule that pins it must not take it for whatever else it shows.
    let revoked = certificate.is_some_and(|certificate| identity::is_revoked(certificate, remote));
    let key = key.map_or(ShownKey::Unknown, ShownKey::Digest);
    Federate { key: if revoked { ShownKey::Revoked } else { key }, ..Federate::of(hosted, remote, direction) }
}

/// Why nothing on the channel proves the remote domain of this pair, if nothing does that the rule takes: the key that is not the
/// pinned one, where the rule pins keys; what the domain publishes, where the rule takes nothing less; else what is wrong with the
/// certificate.
pub fn doubt(
    policy: &Policy,
    pair: &Pair,
    direction: Direction,
    secured: Option<&Secured>,
) -> Option<Detail> {
    let certificate = secured.and_then(|secured| secured.certificate.as_ref());
    let asked = question(pair, direction, certificate);
    let dane = secured.map(|secured| secured.dane(asked.remote)).unwrap_or_default();
    let takes = |identity| takes(policy, asked, secured, identity);
    // Without a certificate there is nothing that a domain could name.
    let named = certificate.is_some() && (dane == Dane::Failed || !takes(Identity::Certificate));
    let unlisted =
        || dane.doubt().or_else(|| (dane == Dane::Unasked).then(|| Detail::new(Cause::NoTlsa, "")));
    let posh =
        || secured.and_then(|secured| secured.evidence(asked.remote)).and_then(|found| found.posh.doubt());
    policy
        .doubt_key(&asked)
        .or_else(|| unlisted().filter(|_| named))
        .or_else(posh)
        .or_else(|| identity::doubt(certificate, asked.remote))
}

/// Whether the rule for this takes such a proof.
fn takes(policy: &Policy, asked: Federate<'_>, secured: Option<&Secured>, identity: Identity) -> bool {
    let asked = Federate { identity, tls: tls(secured), ..asked };
    policy.judge(&Question::Federate(asked), &mut ()).reason != Reason::IdentityTooWeak
}

/// The same for operators: with each other proof that was looked for, and why it does not count.
pub fn doubt_in_full(
    policy: &Policy,
    pair: &Pair,
    direction: Direction,
    secured: Option<&Secured>,
) -> Option<Detail> {
    let mut first = doubt(policy, pair, direction, secured)?;
    let remote = pair.sides(direction).1;
    if secured.is_some_and(|secured| secured.evidence(remote).is_some()) {
        for (proof, other) in doubts(policy, pair, direction, secured) {
            if other != first {
                let told = if first.particulars.is_empty() { "" } else { "; " };
                first.particulars = format!("{}{told}not by {proof}: {other}", first.particulars).into();
            }
        }
    }
    Some(first)
}

/// Each proof that was tried on this channel and does not count, by the word that a rule has for it, with the reason.
pub fn doubts(
    policy: &Policy,
    pair: &Pair,
    direction: Direction,
    secured: Option<&Secured>,
) -> Vec<(&'static str, Detail)> {
    let certificate = secured.and_then(|secured| secured.certificate.as_ref());
    let asked = question(pair, direction, certificate);
    let evidence = secured.and_then(|secured| secured.evidence(asked.remote));
    let takes = |identity| takes(policy, asked, secured, identity);
    let dane = match evidence.map(|found| found.dane).unwrap_or_default() {
        // Where nothing less will do, that there is nothing to compare with is the reason.
        Dane::Unasked => (certificate.is_some() && takes(Identity::Dane) && !takes(Identity::Certificate))
            .then(|| Detail::new(Cause::NoTlsa, "")),
        looked_at => looked_at.doubt(),
    };
    let all = [
        ("pin", policy.doubt_key(&asked)),
        ("dane", dane),
        ("certificate", identity::doubt(certificate, asked.remote)),
        ("posh", evidence.and_then(|found| found.posh.doubt())),
    ];
    all.into_iter().filter_map(|(proof, doubt)| Some((proof, doubt?))).collect()
}

fn tls(secured: Option<&Secured>) -> Tls {
    match secured.map(|s| s.version) {
        None => Tls::None,
        Some(TlsVersion::AtProxy | TlsVersion::V12) => Tls::V12,
        Some(TlsVersion::V13) => Tls::V13,
    }
}
