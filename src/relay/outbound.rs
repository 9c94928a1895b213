//! The stream of a backend, from which all that it sends into the world comes (D9, DB-62, RLY-19).
//!
//! It opens no far leg. What the backend claims is believed at once, by the address that it calls from or because it was
//! asked back, and the only answer that it hears is `valid`. Each stanza is looked at by itself: it is handed to the courier
//! of its pair, or comes back as a report with the true reason. The stream and all its other pairs go on.

mod lanes;
mod stanzas;
mod unaddressed;

use std::time::{Duration, Instant};

use self::lanes::{Lane, Lanes, Permits};
use super::claims::{self, Claims, Pending};
use super::event::{Event, Role};
use super::leg::{OfLeg, of_leg};
use super::near::{HasNear, Near, NearOutcome, Renewal};
use super::origin::{Caller, Origin, reread};
use super::plan::KeysBy;
use super::turn::Turn;
use super::{Arrival, ClaimId, Effect, Input, LaneId, RelayParams};
use crate::jid::Domain;
use crate::reason::{Direction, Facing, Reason};
use crate::stream::receiving::{self, Claim, ClaimBasis, Ruling, Vouch};
use crate::stream::{KeyAnswer, KeyCheck, Pair};
use crate::xml::{Frame, Token};

/// A backend that has called, and the pairs that it speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outbound {
    near: Near,
    /// Claims about whose keys the backend itself is asked.
    claims: Claims,
    lanes: Lanes,
    /// Names given to claims and lanes.
    issued: u32,
    /// When it was last looked whether a far leg stands for it.
    looked: Instant,
    /// Its end was told.
    told: bool,
}

impl Outbound {
    pub(super) fn new(relays: &RelayParams, arrival: &Arrival, now: Instant) -> Self {
        Self {
            near: Near::new(relays, arrival, now),
            claims: Claims::default(),
            lanes: Lanes::default(),
            issued: 0,
            looked: now,
            told: false,
        }
    }

    /// Something happened.
    pub(super) fn step(&mut self, input: Input, turn: &mut Turn<'_>) {
        let input = match input.of_relay() {
            Err(input) => return self.near_input(input, turn),
            Ok(input) => input,
        };
        match input {
            Input::Close(reason) => self.end(reason, turn),
            Input::Drain => self.end(Reason::Shutdown, turn),
            Input::Expired => self.expire(turn),
            Input::RelayParams(_) => self.rejudge_lanes(turn),
            Input::Policy(_) => self.rejudge(turn),
            Input::Refused(octets, reason) => {
                if let Some(frame) = reread(&octets) {
                    self.origin().too_much(frame.head(), reason, turn);
                }
            }
            // A courier has no room for this, and others wait for the same stream.
            Input::Overflow(octets) => {
                self.origin().undeliverable(&octets, &Reason::QueueFull.into(), turn);
            }
            Input::Report(pair, stanza) => {
                let via = pair.target.clone();
                turn.push(Effect::Report { pair, via, stanza });
            }
            Input::Serves(serves) => self.serves(serves, turn),
            Input::Verified(claim, answer) => self.verified(claim, answer, turn),
            Input::Vouched(check, known) => {
                let vouch = match turn.relays.hosts(&check.pair.sender) {
                    _ if known => Vouch::Valid,
                    true => Vouch::Refused(Reason::HostUnknown),
                    false => Vouch::Invalid,
                };
                self.vouched(check, vouch, turn);
            }
            // Of legs, and of other relays.
            of_leg!()
            | Input::Back(..)
            | Input::Forsaken
            | Input::GoneOn(_)
            | Input::Inquired(_)
            | Input::Overtaken
            | Input::Alive
            | Input::Queue(..)
            | Input::Resumed(_)
            | Input::Settled(_)
            | Input::Tried(_)
            | Input::Withdraw(..)
            | Input::Yield => {}
        }
    }

    fn near_input(&mut self, input: OfLeg, turn: &mut Turn<'_>) {
        let outcome = match input {
            OfLeg::Secured(secured) => self.near.secure(secured, turn),
            OfLeg::Stalled => self.near.fault(Reason::StanzaTimeout, turn),
            OfLeg::Gone { reason, .. } => self.near.gone(reason, turn),
            // It was connected before there was a relay, and no certificate of a backend is judged.
            OfLeg::Connected(..) | OfLeg::Retrusted(_) | OfLeg::Unreachable(_) => None,
        };
        self.near_came(outcome, turn);
    }

    /// The framer found this.
    pub(super) fn token(&mut self, token: Token, turn: &mut Turn<'_>) {
        self.near_token(token, turn);
    }

    // -- what may be asked of it

    pub(super) fn near(&self) -> &Near {
        &self.near
    }

    pub(super) fn is_done(&self) -> bool {
        self.near.is_over()
    }

    /// L-inside-pending: what is more waits.
    pub(super) fn wants_read(&self, relays: &RelayParams) -> bool {
        self.claims.len() < relays.limits.inside_pending && self.near.wants_read()
    }

    fn origin(&self) -> Origin<'_> {
        let caller = Caller { address: self.near.address(), named: self.near.named.as_ref() };
        Origin { direction: Direction::Outbound, caller: Some(caller) }
    }

    fn issue(&mut self) -> u32 {
        self.issued = self.issued.wrapping_add(1);
        self.issued
    }

    // -- claims

    /// The backend claims a pair: it is believed at once, or as soon as it has confirmed its key (D9, DB-63).
    fn claim(&mut self, claim: Claim, turn: &mut Turn<'_>) {
        // DB-32: the same claim again is answered with the first.
        if self.claims.repeat(&claim) {
            return;
        }
        let ClaimBasis::Key { .. } = &claim.by else {
            return self.near_step(receiving::Input::Ruled(claim, Ruling::Invalid), turn);
        };
        // DB-62: it hears `valid`, and what comes for such a name is answered stanza by stanza.
        if !claim.pair.is_of_names() {
            self.near_came(Some(NearOutcome::Rejected(Reason::NoDomain)), turn);
            return self.near_step(receiving::Input::Ruled(claim, Ruling::Accepted), turn);
        }
        let hosted = turn.relays.hosted.get(&claim.pair.sender);
        let by_key = hosted.is_some_and(|hosted| matches!(hosted.keys_by, KeysBy::Verify));
        let known = self.lanes.of(&claim.pair).is_some_and(|lane| lane.keyed && lane.standing.is_ok());
        if by_key && !known {
            let deadline = turn.now + hosted.map_or(BUDGET, |hosted| hosted.budget);
            let Some(check) = claims::check(&claim) else { return };
            let id = ClaimId(self.issue());
            self.claims.put(id, Pending::new(claim, turn.now, deadline));
            return turn.push(Effect::Verify(id, check));
        }
        self.open_lane(claim.pair.clone(), false, turn);
        self.near_step(receiving::Input::Ruled(claim, Ruling::Accepted), turn);
    }

    /// The backend has said whether the key is its own. Only one that is not gets another answer than `valid`.
    fn verified(&mut self, id: ClaimId, answer: KeyAnswer, turn: &mut Turn<'_>) {
        // DB-06, DB-25: late answers find nothing.
        let Some(pending) = self.claims.take(id) else { return };
        let after = turn.since(pending.since);
        turn.dialback(Role::Verifier, Facing::Backend, claims::outcome(answer), after);
        let refused = match answer {
            KeyAnswer::Valid => None,
            KeyAnswer::Invalid => Some(Reason::DialbackInvalid),
            KeyAnswer::Trouble(reason) => Some(reason),
        };
        let ruling = match refused {
            None => {
                self.open_lane(pending.claim.pair.clone(), true, turn);
                Ruling::Accepted
            }
            Some(reason) => {
                self.report_rejected(&pending, reason, turn);
                let sender = &pending.claim.pair.sender;
                // DB-62: its own server knows nothing of that key, and another one has called.
                if answer == KeyAnswer::Invalid && self.of_another(sender, turn.relays).is_some() {
                    self.report_misnamed(&pending.claim.pair, Reason::OtherBackend, turn);
                }
                Ruling::Invalid
            }
        };
        for _ in 0..pending.answers() {
            self.near_step(receiving::Input::Ruled(pending.claim.clone(), ruling), turn);
        }
    }

    /// It speaks for a domain that is not its own.
    fn report_misnamed(&self, pair: &Pair, reason: Reason, turn: &mut Turn<'_>) {
        let via = match reason == Reason::OtherBackend {
            true => self.of_another(&pair.sender, turn.relays),
            false => self.origin().backend_of(pair, turn.relays),
        };
        turn.note(Event::Misnamed { name: pair.sender.clone(), reason, via });
    }

    /// A domain of another server than that one's which calls from there, as far as addresses tell.
    fn of_another(&self, sender: &Domain, relays: &RelayParams) -> Option<Domain> {
        let calls = |domain: &&Domain| {
            relays.calls_from(domain, self.near.address()) && !relays.is_same_server(domain.as_str(), sender)
        };
        self.near.named.as_ref().filter(calls).or_else(|| relays.hosted.keys().find(calls)).cloned()
    }

    fn report_rejected(&self, pending: &Pending, reason: Reason, turn: &mut Turn<'_>) {
        let record = self.near.record(Some(pending.claim.pair.clone()), Some(pending.method()), reason);
        turn.note(Event::Rejected { record, after: turn.since(pending.since) });
    }

    /// What was found out about a key of ours that the backend asks about.
    fn vouched(&mut self, check: KeyCheck, vouch: Vouch, turn: &mut Turn<'_>) {
        turn.dialback(Role::Authoritative, Facing::Backend, claims::outcome_of(vouch), Duration::ZERO);
        if self.claims.is_empty() && self.lanes.len() == 0 {
            self.near.answered = Some(turn.now);
        }
        self.near_step(receiving::Input::Vouched(check, vouch), turn);
    }

    // -- lanes

    /// The lane of this pair, opened or judged anew; where it is.
    fn open_lane(&mut self, pair: Pair, keyed: bool, turn: &mut Turn<'_>) -> usize {
        let most = turn.relays.limits.inside_pairs;
        if self.lanes.len() >= most {
            self.lanes.thin(turn);
            if self.lanes.proven() >= most.saturating_mul(NAMES) {
                // The backend opens another stream for what it has; this one takes what is still on its way.
                self.near_close(Reason::Finished, turn);
            }
        }
        self.near.answered = None;
        let keyed = keyed || self.lanes.is_proven(&pair);
        let standing = may_leave(&self.near, &pair, keyed, turn);
        // DB-62: whose name it is must be known, whether anything is sent in it or not.
        if standing.as_ref().is_err_and(|reason| *reason == Reason::OtherBackend) {
            self.report_misnamed(&pair, Reason::OtherBackend, turn);
        }
        let id = LaneId(self.issue());
        let at = self.lanes.put(Lane { id, pair: pair.clone(), standing, keyed });
        if let Some(lane) = self.lanes.at(at) {
            turn.push(Effect::Found(pair.sender.clone()));
            turn.push(Effect::OpenLane(lane.id, pair));
        }
        at
    }

    /// A new policy, or new params: every lane is judged again.
    fn rejudge_lanes(&mut self, turn: &mut Turn<'_>) {
        for lane in self.lanes.iter_mut() {
            lane.standing = may_leave(&self.near, &lane.pair, lane.keyed, turn);
        }
    }

    fn rejudge(&mut self, turn: &mut Turn<'_>) {
        self.rejudge_lanes(turn);
        // The ban may have come between the door and here.
        if turn.policy.bans().holds_address(self.near.address()) {
            self.near_close(Reason::Banned, turn);
        }
    }

    // -- time and the end

    /// When something is due.
    pub(super) fn deadline(&self, relays: &RelayParams) -> Option<Instant> {
        [self.near_deadline(relays), self.claims.deadline()].into_iter().flatten().min()
    }

    fn near_deadline(&self, relays: &RelayParams) -> Option<Instant> {
        let whole = self.looked.max(self.near.heard) + relays.timeouts.report;
        self.near.deadline(Some(whole), &relays.timeouts)
    }

    fn expire(&mut self, turn: &mut Turn<'_>) {
        for id in self.claims.late(turn.now) {
            self.verified(id, KeyAnswer::Trouble(Reason::DialbackTimeout), turn);
        }
        let (times, now) = (&turn.relays.timeouts, turn.now);
        if self.near_deadline(turn.relays).is_none_or(|at| at > now) {
            return;
        }
        if !self.near.is_live() {
            let outcome = self.near.late(turn);
            return self.near_came(Some(outcome), turn);
        }
        if self.near.done_asking(times).is_some_and(|at| at <= now) {
            return self.near_close(Reason::Idle, turn);
        }
        if self.looked.max(self.near.heard) + times.report <= now {
            turn.push(Effect::Serves);
            self.looked = now;
        }
        self.near_step(receiving::Input::Expired, turn);
    }

    /// Nothing has come for a while. The stream stays as long as a far leg stands for any of its pairs and T-idle-s2s lasts.
    fn serves(&mut self, serves: bool, turn: &mut Turn<'_>) {
        if !serves || self.near.heard + turn.relays.timeouts.idle <= turn.now {
            self.near_close(Reason::Idle, turn);
        }
    }

    /// The whole relay ends in good order. Its backend hears only `valid`, or nothing.
    fn end(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        self.claims.take_all();
        self.near_close(reason, turn);
    }

    /// The stream hears no more: the story is told.
    fn wind_down(&mut self, reason: Reason, turn: &mut Turn<'_>) {
        for pending in self.claims.take_all() {
            self.report_rejected(&pending, reason, turn);
        }
        if !std::mem::replace(&mut self.told, true) {
            let record = self.near.record(None, None, reason);
            turn.note(Event::Closed { record });
        }
    }
}

impl HasNear for Outbound {
    fn near_mut(&mut self) -> &mut Near {
        &mut self.near
    }

    fn stanza(&mut self, frame: Frame, turn: &mut Turn<'_>) {
        self.pass(frame, turn);
    }

    /// What a step of the stream means for its claims and lanes.
    fn near_came(&mut self, outcome: Option<NearOutcome>, turn: &mut Turn<'_>) {
        match outcome {
            None => {}
            Some(NearOutcome::Claim(claim)) => self.claim(claim, turn),
            // Inside nothing is counted.
            Some(NearOutcome::Counting(_)) => self.near_fault(Reason::UnsupportedStanzaType, turn),
            Some(NearOutcome::Ended(reason)) => self.wind_down(reason, turn),
            Some(NearOutcome::Rejected(reason)) => {
                let record = self.near.record(None, None, reason);
                turn.note(Event::Rejected { record, after: Duration::ZERO });
            }
            // Inside nothing is encrypted and nobody logs in, so no stream begins anew.
            Some(NearOutcome::Renewed(Renewal::Restart | Renewal::Upgrade)) => {
                self.near_fault(Reason::Internal, turn);
            }
            Some(NearOutcome::Stanza(frame)) => self.stanza(frame, turn),
            Some(NearOutcome::Unfit(refused)) => self.refuse_stanza(&refused, turn),
            Some(NearOutcome::Vouch(check)) => {
                if let Err(reason) = self.near.vouch(&check, turn) {
                    self.vouched(check, Vouch::Refused(reason), turn);
                }
            }
        }
    }
}

/// Whether stanzas of this pair may leave for its courier, as far as that can be said before any cost (POL-04).
fn may_leave(near: &Near, pair: &Pair, keyed: bool, turn: &mut Turn<'_>) -> Result<Permits, Reason> {
    let relays = turn.relays;
    let Some(sender) = relays.hosted.get(&pair.sender) else { return Err(Reason::NotConfigured) };
    if !relays.may_call(&pair.sender, near.address()) {
        return Err(Reason::OtherBackend);
    }
    if matches!(sender.keys_by, KeysBy::Verify) && !keyed {
        return Err(Reason::HostUnknown);
    }
    if relays.hosts(&pair.target) && is_calling(near, &pair.sender, &pair.target, relays) {
        return Err(Reason::SameBackend);
    }
    let (out, into) = turn.verdicts(pair);
    for verdict in std::iter::once(&out).chain(&into).filter(|verdict| !verdict.is_allow()) {
        turn.note(Event::Judged { pair: pair.clone(), verdict: verdict.clone().into() });
    }
    let permit = |verdict: crate::policy::Verdict| verdict.permit().ok_or(verdict.reason);
    Ok(Permits { out: permit(out)?, into: into.map(permit).transpose()? })
}

/// Whether the target belongs to the server that calls: what comes from a backend never goes to the same one.
fn is_calling(near: &Near, sender: &Domain, target: &Domain, relays: &RelayParams) -> bool {
    relays.is_same_server(sender.as_str(), target) || relays.calls_from(target, near.address())
}

/// Of pairs that were proven by key and are forgotten so many times the names are kept: a name is small beside what a pair
/// holds.
const NAMES: usize = 10;

/// How long a backend's own claim may take where nothing else is known.
const BUDGET: Duration = Duration::from_secs(30);
