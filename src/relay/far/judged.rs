//! What is made of the peer that a leg has met, by what its channel shows.

use std::time::Instant;

use super::super::back::is_remembered;
use super::super::event::Event;
use super::super::judge;
use super::super::turn::Turn;
use super::Far;
use crate::policy::{OnChange, RuleName, Verdict};
use crate::reason::{Direction, Facing, Outcome, Reason, Why};
use crate::stream::dane::{Dane, Usage};
use crate::stream::initiating::Errand;
use crate::stream::{Method, Pair, Proof};

/// Does the policy take this peer, by what the channel shows (CRT-13)?
pub(super) fn peer_taken(far: &Far, turn: &mut Turn<'_>) -> Result<(), Why> {
    if far.terms.facing == Facing::Backend {
        return Ok(());
    }
    let (proof, verdict) = far.shown(turn);
    let policy = turn.policy;
    let untrusted = |pair: &Pair, direction| {
        let detail = judge::doubt(policy, pair, direction, far.secured.as_ref());
        Why { reason: Reason::CertificateUntrusted, detail }
    };
    match &far.terms.errand {
        Errand::Speak(_) if verdict.is_allow() => Ok(()),
        Errand::Speak(pair) => {
            if verdict.reason == Reason::PeerChanged {
                shows(far, (&verdict.rule, OnChange::Hold), Outcome::Deny, turn);
            }
            let weak = verdict.reason == Reason::IdentityTooWeak;
            let why = if weak { untrusted(pair, Direction::Outbound) } else { verdict.reason.into() };
            turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
            Err(why)
        }
        // DB-24: who vouches for a key must be the domain's server by more than an address, too: the channel proves the
        // domain, or a policy file takes servers of that domain without, at its address.
        Errand::Ask(check) => {
            let taken = match proof.map(|proof| proof.method()) {
                // A certificate that names the domain, and yet not the key that is pinned, is no server of it.
                Some(Method::Certificate | Method::Dane | Method::Posh) => {
                    verdict.reason != Reason::IdentityTooWeak
                }
                Some(_) => true,
                // No record of its DNS holds for it: whatever else the rule takes.
                None if far.dane() == Dane::Failed => false,
                None => verdict.permit().is_some_and(|permit| permit.takes_unnamed_servers()),
            };
            if taken { Ok(()) } else { Err(untrusted(&check.pair, Direction::Inbound)) }
        }
    }
}

/// That the domain that was called was met as its channel shows it.
pub(in super::super) fn shows(
    far: &Far,
    (rule, on_change): (&RuleName, OnChange),
    outcome: Outcome,
    turn: &mut Turn<'_>,
) {
    let Errand::Speak(pair) = &far.terms.errand else { return };
    let method = far.server(turn).unwrap_or(Method::Dialback);
    turn.note(Event::Met {
        pair: pair.clone(),
        direction: Direction::Outbound,
        face: Box::new(judge::face(&pair.target, method, far.secured())),
        tls: far.secured().map(|secured| secured.version),
        address: far.address,
        rule: rule.clone(),
        on_change,
        outcome,
    });
}

/// CRT-12: when the peer's certificate expires, if the pair stands on that.
pub(super) fn stands_until(far: &Far, turn: &Turn<'_>) -> Option<Instant> {
    // A usage that asks for nothing besides holds as long as the record did when it was read (RFC 7671 5.1).
    let named = match far.server(turn) {
        Some(Method::Certificate | Method::Posh) => true,
        Some(Method::Dane) => far.dane() != Dane::Proven(Usage::DaneEe),
        Some(Method::Backend | Method::Dialback | Method::Pin) | None => false,
    };
    let certificate = far.secured.as_ref().and_then(|secured| secured.certificate.as_ref());
    certificate.filter(|_| named).and_then(|certificate| certificate.expires)
}

/// What the channel proves of the peer as sender of the inverse pair, and what the policy says of that; none where it may send
/// nothing at all (SM-08).
pub(super) fn back(far: &Far, turn: &Turn<'_>) -> Option<(Proof, Verdict)> {
    let Errand::Speak(pair) = &far.terms.errand else { return None };
    if !far.both || !turn.relays.bidi || far.terms.facing == Facing::Backend {
        return None;
    }
    let (proof, verdict) = turn.shown(&pair.reversed(), Direction::Inbound, far.secured(), far.address);
    // That we have called it is no proof of it: without one by its channel it comes on a stream of its own, and is asked back.
    let proof = proof?;
    let verdict = turn.recalled(verdict, proof.method(), far.secured());
    (!is_remembered(&verdict)).then_some((proof, verdict))
}

/// Whether it may send on this very stream.
pub(super) fn may_answer(far: &Far, turn: &Turn<'_>) -> bool {
    far.secured().is_some() && back(far, turn).is_some_and(|(_, verdict)| verdict.is_allow())
}
