//! What the answer to a peer's header offers, and what is said to questions about keys: both judged by the near leg alone.

use std::time::Duration;

use super::Effect;
use super::event::Event;
use super::near::Near;
use super::turn::Turn;
use crate::jid::Domain;
use crate::policy::{Identity, Tls};
use crate::reason::{Direction, Facing, Reason};
use crate::stream::evidence::Sought;
use crate::stream::receiving::ServerOffer;
use crate::stream::{KeyCheck, Pair};
use crate::xml::Header;

impl Near {
    /// What the answer to this header may offer (EXT-01, STR-06 to STR-09, TLS-19). A pair that is left with nothing is told
    /// as refused: the peer may go away without ever asking.
    pub(super) fn offer(&mut self, header: &Header, turn: &mut Turn<'_>) -> ServerOffer {
        let name = |text: &Option<String>| {
            text.as_deref().filter(|t| !t.is_empty()).and_then(|t| Domain::parse(t).ok())
        };
        let (from, to) = (name(&header.from), name(&header.to));
        let open = ServerOffer { dialback: true, ..ServerOffer::default() };
        let refuse = |reason| ServerOffer { refused: Some(reason), ..open.clone() };
        if self.facing() == Facing::Backend {
            // STR-09: the names of an inside header decide nothing.
            return open;
        }
        if let Some(to) = to.as_ref().filter(|to| !turn.relays.hosts(to)) {
            return refuse(turn.relays.absence(to));
        }
        if from.as_ref().is_some_and(|from| turn.relays.hosts(from)) {
            return refuse(Reason::HomeClaimed);
        }
        let secured = self.secured();
        // STR-07: who names nobody may use dialback only.
        let named = to.is_some();
        let to = to.or_else(|| turn.relays.default_domain.clone());
        let (Some(secured), Some(sender), Some(target)) = (secured, from, to) else { return open };
        let pair = Pair { sender, target };
        let address = Some(self.address());
        let (proof, by_channel) = turn.shown(&pair, Direction::Inbound, Some(secured), address);
        let by_dialback = turn.inbound(&pair, Identity::Dialback, Some(secured), address);
        let proven = proof.is_some() && by_channel.is_allow();
        let missing = !proven && by_dialback.reason == Reason::IdentityTooWeak;
        let offer = ServerOffer {
            external: named && proven,
            dialback: by_dialback.is_allow(),
            bidi: turn.relays.bidi,
            refused: missing.then_some(Reason::CertificateUntrusted),
        };
        if !offer.external && !offer.dialback {
            // The policy in the shadow may take what the channel shows, and no less.
            let beside = by_channel.beside.filter(|beside| beside.is_allow());
            let beside = beside.or_else(|| by_dialback.beside.clone());
            let by_dialback = by_dialback.with_beside(beside);
            let mut record = self.record(Some(pair.clone()), None, by_dialback.reason);
            record.rule = Some(by_dialback.rule.clone());
            record.beside.clone_from(&by_dialback.beside);
            self.tells(&pair, by_dialback.reason);
            turn.note(Event::Judged { pair, verdict: by_dialback.into() });
            turn.note(Event::Rejected { record, after: Duration::ZERO });
        }
        offer
    }

    /// What the sender of a header may publish about its certificate, if that would make a difference to the answer.
    pub(super) fn sought_for(&self, header: &Header, turn: &Turn<'_>) -> Option<(Pair, Sought)> {
        let name = |text: &Option<String>| text.as_deref().and_then(|text| Domain::parse(text).ok());
        let target = match header.to.as_deref() {
            None | Some("") => turn.relays.default_domain.clone()?,
            Some(_) => name(&header.to)?,
        };
        let pair = Pair { sender: name(&header.from)?, target };
        self.sought(&pair, turn).map(|sought| (pair, sought))
    }

    /// The same for a pair (DNS-15): where what the channel shows is not enough by the policy, and what the sender publishes
    /// would be. A pair that policy denies whatever the proof causes no lookup (POL-04).
    pub(super) fn sought(&self, pair: &Pair, turn: &Turn<'_>) -> Option<Sought> {
        let hosted = |domain| turn.relays.hosts(domain);
        if self.facing() == Facing::Backend || hosted(&pair.sender) || !hosted(&pair.target) {
            return None;
        }
        let secured = self.secured().filter(|secured| secured.certificate.is_some())?;
        // So many domains at most have a stream looked up on their behalf.
        if secured.evidence(&pair.sender).is_some() || secured.evidence.len() >= turn.relays.limits.pairs {
            return None;
        }
        let address = Some(self.address());
        let (proof, shown) = turn.shown(pair, Direction::Inbound, Some(secured), address);
        if proof.is_some() && shown.is_allow() {
            return None;
        }
        let takes = |identity| turn.inbound(pair, identity, Some(secured), address).is_allow();
        let sought =
            Sought { dane: turn.relays.dnssec && takes(Identity::Dane), posh: takes(Identity::Posh) };
        Some(sought).filter(|sought| !sought.is_nothing())
    }

    /// Somebody asks whether a key is ours (DB-40 to DB-43, DB-61): why that is no question for us, or the same question to
    /// those who know.
    pub(super) fn vouch(&self, check: &KeyCheck, turn: &mut Turn<'_>) -> Result<(), Reason> {
        let facing = self.facing();
        // In public we are the authority for the hosted domains; inside, for all others, and for one backend towards another
        // where the very key is vouched for (DB-61).
        if facing == Facing::Public && !turn.relays.hosts(&check.pair.sender) {
            return Err(Reason::HostUnknown);
        }
        let clear = facing == Facing::Public && self.secured().is_none();
        let by = (Identity::Dialback, Tls::None, Some(self.address()));
        if clear && !turn.outbound(&check.pair, by.0, by.1, by.2).is_allow() {
            return Err(Reason::TlsRequired);
        }
        // CLU-02: a young key of a secret that nodes share is one that another node's stream waits with; whether one of ours
        // does (DB-42), others know.
        let ring = turn.relays.keys.facing(facing);
        let others = ring.is_shared() && ring.knows(check, turn.now);
        turn.push(Effect::Vouch(check.clone(), others));
        if facing == Facing::Backend {
            turn.push(Effect::Found(check.pair.target.clone()));
        }
        Ok(())
    }
}
