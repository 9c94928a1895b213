//! The relay without a socket: dialogues of requirements 21, and what each trouble does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backends;
mod couriers;
mod ends;
mod inbound;
mod proofs;

use crate::stage::*;
use gatehouse::policy::{Federation, Networks};
use gatehouse::reason::{Cause, Flow, Reason};
use gatehouse::relay::{
    AddressChoice, Behalf, Destination, Effect, Event, FarId, Input, KeysBy, Load, Relay, RelayParams, Side,
    Timeouts, Under,
};
use gatehouse::stream::dane::{Dane, Usage};
use gatehouse::stream::evidence::{Evidence, Posh, Sought};
use gatehouse::stream::{KeyAnswer, Keyring, Method, Secured, Trust, TrustFault};
use std::time::Duration;

/// Nobody waits with the key that was asked about last.
fn unknown(stage: &mut Stage) {
    let asked = stage.effects.iter().rev().find_map(|effect| match effect {
        Effect::Vouch(check, others) => Some((check.clone(), *others)),
        _ => None,
    });
    let (check, others) = asked.unwrap();
    assert!(!others);
    stage.step(NEAR, Input::Vouched(check, false));
}

/// A courier of the backend that stands at `friend.example`, whose server showed this on direct TLS.
fn outbound(facts: Secured) -> (Stage, FarId) {
    outbound_under(any(), facts)
}

fn outbound_under(policy: std::sync::Arc<gatehouse::policy::Policy>, facts: Secured) -> (Stage, FarId) {
    let mut stage = courier(relays(), policy, "hall.example", "friend.example", Load::Own);
    let (far, _) = stage.connects()[0].clone();
    stage.connected(far, Some(facts));
    stage.hears(Side::Far(far), &answer("one", true));
    stage.hears(
        Side::Far(far),
        "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
    );
    stage.hears(Side::Far(far), "<db:result from='friend.example' to='hall.example' type='valid'/>");
    assert!(stage.has(|e| matches!(e, Effect::Note(Event::Admitted { .. }))));
    stage.said(Side::Far(far));
    (stage, far)
}
