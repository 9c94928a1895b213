//! The way back over the stream of a remote server that takes stanzas on it (XEP-0288): for the inverses of pairs that stand there,
//! and for no others (SM-08).
//!
//! Each is judged anew as outbound, by what the channel shows of the remote domain: a pin, a record or a certificate that the rule
//! asks for is asked for here, too. What may not go back takes a stream of our own, and hears there why it may not go at all.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Effect;
use super::beside::InForce;
use super::event::Event;
use super::inbound::Sent;
use super::judge;
use super::near::Near;
use super::origin::{Origin, reread};
use super::turn::Turn;
use super::turned::Turned;
use crate::filter::{Guard, PairRoute};
use crate::policy::{OnChange, Permit, Verdict};
use crate::reason::{Direction, Outcome, Reason};
use crate::stream::{Method, Pair, Proof};

/// The pairs that go back over one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct WayBack {
    /// Those that may, and what the channel proves of the server; none: no more than the stream itself does.
    open: BTreeMap<Pair, Option<Method>>,
    /// Those of them that have sent something.
    guard: Guard,
}

impl WayBack {
    /// The pairs that have sent something.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Whether something has gone back.
    pub(super) fn is_used(&self) -> bool {
        !self.guard.is_empty()
    }

    /// The remote domains of pairs that have sent something, and what the channel proves of them.
    pub(super) fn leaning(&self) -> impl Iterator<Item = (&Pair, Method)> {
        let known = |pair: &Pair| self.open.get(pair).copied().flatten();
        self.guard.pairs().iter().filter_map(move |a| Some((a.pair(), known(a.pair())?)))
    }

    /// Opens and closes it, by what stands on the stream and what the policy says now.
    pub(super) fn settle(&mut self, near: &Near, standing: &Guard, reason: Reason, turn: &mut Turn<'_>) {
        let may = near.is_live() && near.is_bidi();
        if !may && self.open.is_empty() {
            return;
        }
        let stands = standing.pairs().iter().filter(|a| may && !matches!(a.route(), PairRoute::Withdrawn(_)));
        let mut wanted: BTreeMap<Pair, (Option<Method>, Verdict)> = stands
            .map(|admitted| admitted.pair().reversed())
            .map(|pair| {
                let (proof, verdict) = shown(near, &pair, turn);
                (pair, (proof.map(|proof| proof.method()), verdict))
            })
            .collect();
        let may_go = |verdict: &Verdict| verdict.is_allow() && !is_remembered(verdict);
        for pair in self.open.keys().cloned().collect::<Vec<_>>() {
            match wanted.remove(&pair) {
                Some((method, verdict)) if may_go(&verdict) => {
                    self.open.insert(pair.clone(), method);
                    self.renew(&pair, verdict, turn);
                }
                Some((_, verdict)) if !verdict.is_allow() => {
                    self.close(near, &pair, verdict.reason.of_standing(), turn);
                }
                _ => self.close(near, &pair, withdrawn(standing, &pair).unwrap_or(reason), turn),
            }
        }
        for (pair, (method, _)) in wanted.into_iter().filter(|(_, (_, verdict))| may_go(verdict)) {
            self.open.insert(pair.clone(), method);
            turn.push(Effect::WayBack(pair, true));
        }
    }

    /// A pair that has sent something goes on under this verdict.
    fn renew(&mut self, pair: &Pair, verdict: Verdict, turn: &mut Turn<'_>) {
        let known = self.guard.find(pair.sender.as_str(), pair.target.as_str());
        let Some(before) = known.and_then(|at| self.guard.pair(at)).map(|a| a.permit().clone()) else {
            return;
        };
        let Some(permit) = verdict.permit() else { return };
        if before.beside() != permit.beside() && permit.beside().is_some() {
            turn.note(Event::Shadowed { pair: pair.clone(), verdict: verdict.into() });
        }
        self.guard.repermit(pair, permit.clone());
        if before.quotas() != permit.quotas() || before.rule() != permit.rule() {
            turn.push(Effect::Admitted(None, permit));
        }
    }

    /// Nothing of this pair goes back any more.
    fn close(&mut self, near: &Near, pair: &Pair, reason: Reason, turn: &mut Turn<'_>) {
        let server = self.open.remove(pair).flatten();
        if let Some(admitted) = self.guard.remove(pair) {
            let mut record = near.record(Some(pair.clone()), None, reason);
            record.admitted(&admitted);
            (record.method, record.server) = (Some(Method::Certificate), server);
            turn.note(Event::Ended { record });
        }
        turn.push(Effect::WayBack(pair.clone(), false));
    }

    /// It is taken back for this reason; what comes takes a stream of its own.
    pub(super) fn withdraw(&mut self, near: &Near, pair: &Pair, reason: Reason, turn: &mut Turn<'_>) {
        if self.open.contains_key(pair) {
            self.close(near, pair, reason, turn);
        }
    }

    /// A stanza of a backend.
    pub(super) fn pass(
        &mut self,
        near: &mut Near,
        (pair, octets): (Pair, Bytes),
        kept: Option<&mut Sent>,
        turn: &mut Turn<'_>,
    ) {
        if !near.is_live() || !self.open.contains_key(&pair) {
            return turn.push(Effect::Onward(pair, octets));
        }
        if let Err(reason) = self.admit(near, &pair, turn) {
            self.close(near, &pair, reason, turn);
            return turn.push(Effect::Onward(pair, octets));
        }
        // Law `bounded`: of a server that has not said how much it takes no more is expected than others may send us.
        let (most, found) = (turn.relays.taken(&pair.target), octets.len());
        if found > most {
            let Some(frame) = reread(&octets) else { return };
            let turned = Turned::beyond(frame.head(), Reason::BeyondPeerLimit, (most, found), found);
            let origin = Origin { direction: Direction::Outbound, caller: None };
            let now = turn.now;
            return origin.turn_away(
                &turned,
                &pair,
                |stanza| {
                    kept.into_iter().for_each(|kept| kept.push(stanza.octets.clone(), now));
                    Some(Effect::Back(pair.clone(), stanza.octets))
                },
                turn,
            );
        }
        if let Some(at) = self.guard.find(pair.sender.as_str(), pair.target.as_str()) {
            self.guard.count(at, found);
            if let Some(admitted) = self.guard.pair(at) {
                InForce::from(admitted).stands(found, turn);
            }
        }
        // A stream that is used is not idle, whoever uses it.
        near.heard = turn.now;
        kept.into_iter().for_each(|kept| kept.push(octets.clone(), turn.now));
        turn.push(Effect::Back(pair, octets));
    }

    /// The first stanza of a pair: both tokens open the door.
    fn admit(&mut self, near: &Near, pair: &Pair, turn: &mut Turn<'_>) -> Result<(), Reason> {
        if self.guard.find(pair.sender.as_str(), pair.target.as_str()).is_some() {
            return Ok(());
        }
        let (server, verdict) = shown(near, pair, turn);
        let permit: Permit = verdict.permit().ok_or(verdict.reason)?;
        let proof = Proof::by_backend(pair, |domain| turn.relays.hosts(domain))?;
        self.guard.admit(proof, permit.clone(), PairRoute::Carried)?;
        let (pair, rule, reason) = (pair.clone(), permit.rule().clone(), verdict.reason);
        let beside = permit.beside().cloned();
        turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.into() });
        // To the peer we are proven by the certificate of the server that it has called.
        let (method, server) = (Method::Certificate, server.map(|proof| proof.method()));
        let after = std::time::Duration::ZERO;
        // What it shows where it has called is remembered, and compared, as where it is called.
        turn.note(Event::Met {
            pair: pair.clone(),
            direction: Direction::Outbound,
            face: Box::new(judge::face(&pair.target, server.unwrap_or(Method::Dialback), near.secured())),
            tls: near.secured().map(|secured| secured.version),
            address: Some(near.address()),
            rule: rule.clone(),
            on_change: permit.on_change(),
            outcome: Outcome::Allow,
        });
        turn.note(Event::Admitted { pair, method, server, rule, reason, beside, after });
        turn.push(Effect::Admitted(None, permit));
        Ok(())
    }
}

/// Whether its rule holds changes of how the domain was proven. What goes back over a stream of the domain's own is not compared with
/// what was seen where we called it; so that nothing slips by, such a pair takes a stream of our own.
pub(super) fn is_remembered(verdict: &Verdict) -> bool {
    verdict.permit().is_some_and(|permit| permit.on_change() == OnChange::Hold)
}

/// Why the pair that this one is the inverse of was taken back, if it was.
fn withdrawn(standing: &Guard, pair: &Pair) -> Option<Reason> {
    let index = standing.find(pair.target.as_str(), pair.sender.as_str())?;
    match standing.pair(index)?.route() {
        PairRoute::Withdrawn(reason) => Some(reason),
        PairRoute::Carried | PairRoute::Leg(_) => None,
    }
}

/// What the channel shows of the remote domain of this pair, and what the policy says of that.
fn shown(near: &Near, pair: &Pair, turn: &Turn<'_>) -> (Option<Proof>, Verdict) {
    let (proof, verdict) = turn.shown(pair, Direction::Outbound, near.secured(), Some(near.address()));
    let method = proof.as_ref().map_or(Method::Dialback, Proof::method);
    let verdict = turn.recalled(verdict, method, near.secured());
    (proof, verdict)
}
