//! From a claim to an admitted pair: claim, question, proof, permit, far claim, guard.
//!
//! The order is that of DB-20: what costs nothing is asked first. No lookup, connection or contact with a backend happens
//! for a pair that policy denies (POL-04).

use std::time::{Duration, Instant};

use crate::filter::Route;
use crate::jid::Domain;
use crate::policy::{Identity, Tls, Verdict};
use crate::reason::{Direction, Facing, Flow, Outcome, Reason, Why};
use crate::stream::initiating::Errand;
use crate::stream::receiving::{self, By, Claim, Offer, Ruling, Vouch};
use crate::stream::{Answer, KeyCheck, Method, Pair, Proof};
use crate::xml::Header;

use super::event::{DialbackOutcome, Role};
use super::near::Near;
use super::plan;
use super::{ClaimId, Effect, Event, FarId, Relay, Side};

/// A claim on its way to the guard.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) claim: Claim,
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    /// The same claim, made again meanwhile: each request gets an answer (DB-32).
    repeats: u32,
    proof: Option<Proof>,
    pub(super) far: Option<FarId>,
}

impl Pending {
    /// A claim about whose key somebody is asked.
    pub(super) fn asking(claim: Claim, since: Instant, deadline: Instant) -> Self {
        Self { claim, since, deadline, repeats: 0, proof: None, far: None }
    }

    /// Whether it is the same claim; then it gets one answer more (DB-32).
    pub(super) fn repeats_it(&mut self, claim: &Claim) -> bool {
        let same = self.claim == *claim;
        if same {
            self.repeats = self.repeats.saturating_add(1).min(MAX_REPEATS);
        }
        same
    }

    /// How many answers are due.
    pub(super) fn answers(&self) -> u32 {
        self.repeats.saturating_add(1)
    }

    pub(super) fn method(&self) -> Method {
        match (&self.proof, &self.claim.by) {
            (Some(proof), _) => proof.method(),
            (None, By::External) => Method::Certificate,
            (None, By::Key { .. }) => Method::Dialback,
        }
    }
}

impl Relay {
    /// What the answer to this header may offer (EXT-01, STR-06 to STR-09, TLS-19), and the verdict on its pair where
    /// that leaves nothing to offer.
    pub(super) fn offer(&self, header: &Header) -> (Offer, Option<(Pair, Verdict)>) {
        let name = |text: &Option<String>| {
            text.as_deref().filter(|t| !t.is_empty()).and_then(|t| Domain::parse(t).ok())
        };
        let (from, to) = (name(&header.from), name(&header.to));
        let open = Offer { external: false, dialback: true, refused: None };
        let refuse = |reason| (Offer { refused: Some(reason), ..open.clone() }, None);
        if self.flow == Flow::S2sOut {
            // STR-09: the names of an inside header decide nothing.
            return (open, None);
        }
        if let Some(to) = to.as_ref().filter(|to| !self.home.hosts(to)) {
            return refuse(self.home.absence(to));
        }
        if from.as_ref().is_some_and(|from| self.home.hosts(from)) {
            return refuse(Reason::HomeClaimed);
        }
        let secured = self.near.as_deref().and_then(Near::secured);
        // STR-07: who names nobody may use dialback only.
        let named = to.is_some();
        let to = to.or_else(|| self.home.default_domain.clone());
        let (Some(secured), Some(sender), Some(target)) = (secured, from, to) else { return (open, None) };
        let pair = Pair { sender, target };
        let (proof, by_channel) = self.shown(&pair, Direction::Inbound, Some(secured), self.peer_address());
        let by_dialback = self.judge_inbound(&pair, Identity::Dialback, Some(secured));
        let proven = proof.is_some() && by_channel.is_allow();
        let missing = !proven && by_dialback.reason == Reason::IdentityTooWeak;
        let offer = Offer {
            external: named && proven,
            dialback: by_dialback.is_allow(),
            refused: missing.then_some(Reason::CertificateUntrusted),
        };
        let denied = !offer.external && !offer.dialback;
        (offer, denied.then_some((pair, by_dialback)))
    }

    /// A pair that is refused before anybody claimed it: the peer may go away without ever asking.
    pub(super) fn note_denied(&self, pair: Pair, verdict: Verdict, out: &mut Vec<Effect>) {
        let mut record = self.record(Some(pair.clone()), None, verdict.reason);
        record.rule = Some(verdict.rule.clone());
        out.push(Effect::Note(Event::Judged { pair, verdict: verdict.into() }));
        out.push(Effect::Note(Event::Rejected { record, after: Duration::ZERO }));
    }

    /// Somebody claims a pair on the near stream.
    pub(super) fn claim(&mut self, claim: Claim, now: Instant, out: &mut Vec<Effect>) {
        if self.flow == Flow::S2sOut {
            return self.claim_outbound(claim, now, out);
        }
        if let Some(near) = &mut self.near {
            near.answered = None;
        }
        if let Some(index) = self.guard.find(claim.pair.sender.as_str(), claim.pair.target.as_str())
            && self.guard.pair(index).is_some_and(|a| !matches!(a.route(), Route::Withdrawn(_)))
        {
            // DB-32: the pair stands already; EXTERNAL adds a proof to it, and no second leg (RLY-05).
            return self.near_step(receiving::Input::Ruled(claim, Ruling::Accepted), now, out);
        }
        if let Some(pending) = self.claims.values_mut().find(|p| p.claim.pair == claim.pair) {
            if pending.repeats_it(&claim) {
                return;
            }
            return self.refused(claim, Reason::SecondKey, None, now, out);
        }
        // DB-20, DB-21: what the names alone decide.
        let names = match (self.home.hosts(&claim.pair.sender), self.home.hosts(&claim.pair.target)) {
            (_, false) => Some(Reason::HostUnknown),
            (true, true) => Some(Reason::HomeClaimed),
            (false, true) => None,
        };
        if let Some(reason) = names {
            return self.refused(claim, reason, None, now, out);
        }
        let secured = self.near.as_deref().and_then(Near::secured);
        // DB-30, CRT-11: what this very session shows speaks for exactly this sender.
        let (proof, verdict) = self.shown(&claim.pair, Direction::Inbound, secured, self.peer_address());
        if !verdict.is_allow() {
            return self.refused(claim, verdict.reason, Some(verdict), now, out);
        }
        let pending = self.claims.len();
        if self.guard.pairs().len() + pending >= self.home.limits.pairs || pending >= self.home.limits.pending
        {
            return self.refused(claim, Reason::TooManyPairs, None, now, out);
        }
        let id = ClaimId(self.issue());
        let deadline = now + self.home.timeouts.dialback;
        let check = match &claim.by {
            By::External => None,
            By::Key { stream, key } => {
                Some(KeyCheck { pair: claim.pair.clone(), stream: stream.clone(), key: key.clone() })
            }
        };
        let proven = proof.is_some();
        self.claims.insert(id, Pending { proof, ..Pending::asking(claim, now, deadline) });
        match (proven, check) {
            (true, _) => self.connect(id, now, out),
            (false, Some(check)) => out.push(Effect::Verify(id, check)),
            // EXTERNAL is offered only where the certificate speaks for the pair.
            (false, None) => self.refuse(id, Reason::CertificateUntrusted, now, out),
        }
    }

    /// DB-62: whether the server at the other end of the near leg may speak for this hosted domain.
    pub(super) fn may_call(&self, domain: &Domain) -> bool {
        self.peer_address().is_some_and(|address| self.home.may_call(domain, address))
    }

    /// The authoritative server has spoken, or could not be asked.
    pub(super) fn verified(&mut self, id: ClaimId, answer: Answer, now: Instant, out: &mut Vec<Effect>) {
        let facing = plan::near(self.flow);
        // DB-06, DB-25: late answers find nothing.
        let Some(pending) = self.claims.get_mut(&id).filter(|p| p.proof.is_none()) else { return };
        let By::Key { stream, key } = &pending.claim.by else { return };
        let check = KeyCheck { pair: pending.claim.pair.clone(), stream: stream.clone(), key: key.clone() };
        let outcome = match answer {
            Answer::Valid => DialbackOutcome::Valid,
            Answer::Invalid => DialbackOutcome::Invalid,
            Answer::Trouble(_) => DialbackOutcome::Error,
        };
        let after = now.saturating_duration_since(pending.since);
        out.push(Effect::Note(Event::Dialback { role: Role::Verifier, facing, outcome, after }));
        if self.flow == Flow::S2sOut {
            if let Some(pending) = self.claims.remove(&id) {
                self.claim_confirmed(pending, answer, now, out);
            }
            return;
        }
        match Proof::by_dialback(&check, answer) {
            Ok(proof) => {
                pending.proof = Some(proof);
                self.connect(id, now, out);
            }
            Err(reason) => self.refuse(id, verification_reason(reason), now, out),
        }
    }

    /// Proven: the far leg is opened and claims the pair there.
    fn connect(&mut self, id: ClaimId, now: Instant, out: &mut Vec<Effect>) {
        let Some(pending) = self.claims.get(&id) else { return };
        let pair = pending.claim.pair.clone();
        let deadline = now + self.home.timeouts.dialback;
        let far = self.open_far(Errand::Speak(pair), plan::far(self.flow), Some(id), now, out);
        if let Some(pending) = self.claims.get_mut(&id) {
            pending.deadline = deadline;
            pending.far = Some(far);
        }
    }

    /// The pair stands on the far side: the last question, then both tokens open the door.
    pub(super) fn admit(&mut self, id: ClaimId, far: FarId, now: Instant, out: &mut Vec<Effect>) {
        // CLS-01: behind our closing tag nothing is negotiated, and what was proven may be so no more.
        if let Some(near) = self.near.as_ref().filter(|near| !near.is_live()) {
            let reason = near.reason();
            return self.refuse(id, reason, now, out);
        }
        let Some(pending) = self.claims.get_mut(&id) else { return };
        let pair = pending.claim.pair.clone();
        let Some(proof) = pending.proof.take() else { return };
        let (since, by) = (pending.since, proof.method());
        let secured = self.near.as_deref().and_then(Near::secured);
        let identity = match by {
            Method::Certificate => Identity::Certificate,
            Method::Pin => Identity::Pin,
            Method::Backend | Method::Dialback => Identity::Dialback,
        };
        let verdict = self.judge_inbound(&pair, identity, secured);
        let Some(permit) = verdict.permit() else {
            out.push(Effect::Note(Event::Judged { pair, verdict: verdict.clone().into() }));
            self.far_close(far, now, out);
            return self.refuse(id, verdict.reason, now, out);
        };
        let Some(pending) = self.claims.remove(&id) else { return };
        if self.guard.find(pair.sender.as_str(), pair.target.as_str()).is_some() {
            // It was taken back and is here again: that was another life.
            self.tell_end(&pair, Reason::PolicyChanged, out);
        }
        if self.guard.admit(proof, permit.clone(), Route::Leg(far.0)).is_err() {
            return self.near_fault(Reason::Internal, now, out);
        }
        let (method, after) = (by, now.saturating_duration_since(since));
        out.push(Effect::Note(Event::Judged { pair: pair.clone(), verdict: verdict.into() }));
        let (outcome, reason) = (Outcome::Allow, Reason::Allowed);
        out.push(Effect::Note(Event::Authenticated { pair: pair.clone(), method, outcome, reason }));
        let rule = permit.rule().clone();
        out.push(Effect::Note(Event::Admitted { pair, method, server: None, rule, after }));
        out.push(Effect::Admitted(Some(far), permit));
        out.push(Effect::Widen(Side::Near));
        self.last = now;
        for _ in 0..pending.answers() {
            let claim = pending.claim.clone();
            self.near_step(receiving::Input::Ruled(claim, Ruling::Accepted), now, out);
        }
    }

    /// A pending claim comes to nothing.
    pub(super) fn refuse(&mut self, id: ClaimId, why: impl Into<Why>, now: Instant, out: &mut Vec<Effect>) {
        let Why { reason, detail } = why.into();
        let Some(pending) = self.claims.remove(&id) else { return };
        if let Some(far) = pending.far {
            self.far_doubted(far, reason, out);
            self.far_late(far, reason, out);
            self.far_close(far, now, out);
        }
        let method = pending.method();
        let pair = pending.claim.pair.clone();
        if is_proof_failure(reason) {
            let outcome = Outcome::Deny;
            out.push(Effect::Note(Event::Authenticated { pair: pair.clone(), method, outcome, reason }));
        }
        let mut record = self.record(Some(pair), Some(method), reason);
        record.detail = detail;
        let after = now.saturating_duration_since(pending.since);
        out.push(Effect::Note(Event::Rejected { record, after }));
        for _ in 0..pending.answers() {
            let ruling = self.ruling(reason);
            let claim = pending.claim.clone();
            self.near_step(receiving::Input::Ruled(claim, ruling), now, out);
        }
        self.near_refused(reason, now, out);
    }

    /// A claim that was never pending is refused.
    fn refused(
        &mut self,
        claim: Claim,
        reason: Reason,
        verdict: Option<Verdict>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let method = match claim.by {
            By::External => Method::Certificate,
            By::Key { .. } => Method::Dialback,
        };
        let mut record = self.record(Some(claim.pair.clone()), Some(method), reason);
        if let Some(verdict) = verdict {
            record.rule = Some(verdict.rule.clone());
            out.push(Effect::Note(Event::Judged { pair: claim.pair.clone(), verdict: verdict.into() }));
        }
        out.push(Effect::Note(Event::Rejected { record, after: Duration::ZERO }));
        let ruling = self.ruling(reason);
        self.near_step(receiving::Input::Ruled(claim, ruling), now, out);
        self.near_refused(reason, now, out);
    }

    /// DB-27: `invalid` closes a stream on which nothing else stands or is on its way.
    fn ruling(&self, reason: Reason) -> Ruling {
        match reason {
            Reason::DialbackInvalid if self.guard.is_empty() && self.claims.is_empty() => Ruling::Invalid,
            other => Ruling::Refused(other),
        }
    }

    /// Somebody asks on the near stream whether a key is ours (DB-40 to DB-43, DB-61).
    pub(super) fn vouch(&mut self, check: KeyCheck, now: Instant, out: &mut Vec<Effect>) {
        let facing = plan::near(self.flow);
        // In public we are the authority for the hosted domains; inside, for all others, and for one backend towards another
        // where the very key is vouched for (DB-61).
        let ours = facing == Facing::Backend || self.home.hosts(&check.pair.sender);
        let clear = facing == Facing::Public && self.near.as_deref().and_then(Near::secured).is_none();
        let refusal = if !ours {
            Some(Reason::HostUnknown)
        } else if clear
            && !self
                .judge_outbound(&check.pair, Identity::Dialback, Tls::None, self.peer_address())
                .is_allow()
        {
            Some(Reason::TlsRequired)
        } else {
            None
        };
        if let Some(reason) = refusal {
            return self.vouch_told(check, Vouch::Refused(reason), now, out);
        }
        // CLU-02: a young key of a secret that nodes share is one that another node's stream waits with; whether one of ours
        // does (DB-42), others know.
        let ring = self.home.keys.facing(facing);
        let others = ring.is_shared() && ring.knows(&check, now);
        out.push(Effect::Vouch(check, others));
    }

    /// Whether that key is vouched for.
    pub(super) fn vouched(&mut self, check: KeyCheck, known: bool, now: Instant, out: &mut Vec<Effect>) {
        let vouch = match plan::near(self.flow) {
            _ if known => Vouch::Valid,
            Facing::Backend if self.home.hosts(&check.pair.sender) => Vouch::Refused(Reason::HostUnknown),
            Facing::Backend | Facing::Public => Vouch::Invalid,
        };
        self.vouch_told(check, vouch, now, out);
    }

    fn vouch_told(&mut self, check: KeyCheck, vouch: Vouch, now: Instant, out: &mut Vec<Effect>) {
        let outcome = match vouch {
            Vouch::Valid => DialbackOutcome::Valid,
            Vouch::Invalid => DialbackOutcome::Invalid,
            Vouch::Refused(_) => DialbackOutcome::Error,
        };
        let (role, facing, after) = (Role::Authoritative, plan::near(self.flow), Duration::ZERO);
        out.push(Effect::Note(Event::Dialback { role, facing, outcome, after }));
        if let Some(near) = self
            .near
            .as_mut()
            .filter(|_| self.claims.is_empty() && self.guard.is_empty() && self.lanes.len() == 0)
        {
            near.answered = Some(now);
        }
        self.near_step(receiving::Input::Vouched(check, vouch), now, out);
    }

    pub(super) fn peer_address(&self) -> Option<std::net::IpAddr> {
        self.near.as_deref().map(Near::address)
    }
}

/// DB-28: how trouble in asking the authoritative server is told.
fn verification_reason(reason: Reason) -> Reason {
    match reason {
        Reason::RemoteUnreachable => Reason::VerifyUnreachable,
        other => other,
    }
}

/// Whether the claim failed for want of proof, and not for what came after it.
fn is_proof_failure(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::BackendDown
            | Reason::BackendFault
            | Reason::BackendSilent
            | Reason::TooManyPairs
            | Reason::SecondKey
    )
}

/// Repeated requests that are each answered.
const MAX_REPEATS: u32 = 10;
