//! The stream of a backend, from which all that it sends into the world comes (D9, DB-62, RLY-19).
//!
//! It opens no far leg. What the backend claims is believed at once, by the address that it calls from or because it was
//! asked back, and the only answer that it hears is `valid`. Each stanza is looked at by itself: it is handed to the courier
//! of its pair, or comes back as a report with the true reason. The stream and all its other pairs go on.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::filter::{self, Ends, Inward, Outgoing, Refusal, Route};
use crate::jid::{Domain, Plain};
use crate::policy::{Permit, Verdict};
use crate::reason::Reason;
use crate::stream::receiving::{self, By, Claim, Ruling};
use crate::stream::{Answer, KeyCheck, Pair};
use crate::xml::{Edits, Frame, rewrite};

use super::negotiate::Pending;
use super::plan::KeysBy;
use super::refused::Turned;
use super::{ClaimId, Effect, Event, LaneId, Relay};

/// A pair on the stream of a backend, and whether its stanzas may go.
#[derive(Clone, Debug)]
struct Lane {
    id: LaneId,
    pair: Pair,
    standing: Result<Permits, Reason>,
    /// It was proven by its key, not by the address.
    keyed: bool,
}

/// What lets the stanzas of a pair out, and, between two backends, in.
#[derive(Clone, Debug)]
struct Permits {
    out: Permit,
    into: Option<Permit>,
}

/// The pairs of one stream, found by their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes {
    all: Vec<Lane>,
    /// Where the lanes of a target are in `all`: one for each domain of the backend that writes there.
    by_target: HashMap<Domain, Vec<usize>>,
    /// The lane that was used last.
    last: usize,
    /// Pairs whose lanes were forgotten, and that are believed on this stream all the same: they were proven by key.
    proven: HashSet<Pair>,
}

impl Lanes {
    fn find(&self, sender: &str, target: &str) -> Option<usize> {
        let is = |at: &&usize| self.all.get(**at).is_some_and(|lane| lane.pair.sender.as_str() == sender);
        self.by_target.get(target)?.iter().find(is).copied()
    }

    /// Adds a lane, or replaces the one of the same pair; where it is.
    fn put(&mut self, lane: Lane) -> usize {
        if let Some(at) = self.find(lane.pair.sender.as_str(), lane.pair.target.as_str())
            && let Some(known) = self.all.get_mut(at)
        {
            let id = known.id;
            *known = Lane { id, ..lane };
            return at;
        }
        let at = self.all.len();
        self.by_target.entry(lane.pair.target.clone()).or_default().push(at);
        self.all.push(lane);
        at
    }

    /// Forgets all of them: each opens again by itself at its next stanza, and what was proven stays so.
    fn thin(&mut self, out: &mut Vec<Effect>) {
        let Self { all, mut proven, .. } = std::mem::take(self);
        for lane in all {
            out.push(Effect::Unlane(lane.id));
            if lane.keyed {
                proven.insert(lane.pair);
            }
        }
        self.proven = proven;
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

impl Relay {
    /// The backend claims a pair: it is believed at once, or as soon as it has confirmed its key (D9, DB-63).
    pub(super) fn claim_outbound(&mut self, claim: Claim, now: Instant, out: &mut Vec<Effect>) {
        let pair = &claim.pair;
        // DB-32: the same claim again is answered with the first.
        if self.claims.values_mut().any(|pending| pending.repeats_it(&claim)) {
            return;
        }
        let asks = self.believes_keys(&pair.sender)
            && !self.lane(pair).is_some_and(|lane| lane.keyed && lane.standing.is_ok());
        let By::Key { stream, key } = &claim.by else {
            return self.near_step(receiving::Input::Ruled(claim, Ruling::Invalid), now, out);
        };
        if asks {
            let check = KeyCheck { pair: pair.clone(), stream: stream.clone(), key: key.clone() };
            let id = ClaimId(self.issue());
            let budget = self.home.hosted.get(&pair.sender).map_or(BUDGET, |hosted| hosted.budget);
            self.claims.insert(id, Pending::asking(claim, now, now + budget));
            return out.push(Effect::Verify(id, check));
        }
        self.open_lane(claim.pair.clone(), false, now, out);
        self.near_step(receiving::Input::Ruled(claim, Ruling::Accepted), now, out);
    }

    /// The backend has said whether the key is its own. Only one that is not gets another answer than `valid`.
    pub(super) fn claim_confirmed(
        &mut self,
        pending: Pending,
        answer: Answer,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let ruling = match answer {
            Answer::Valid => {
                self.open_lane(pending.claim.pair.clone(), true, now, out);
                Ruling::Accepted
            }
            Answer::Invalid | Answer::Trouble(_) => {
                let reason = match answer {
                    Answer::Trouble(reason) => reason,
                    _ => Reason::DialbackInvalid,
                };
                let record = self.record(Some(pending.claim.pair.clone()), Some(pending.method()), reason);
                let after = now.saturating_duration_since(pending.since);
                out.push(Effect::Note(Event::Rejected { record, after }));
                Ruling::Invalid
            }
        };
        for _ in 0..pending.answers() {
            self.near_step(receiving::Input::Ruled(pending.claim.clone(), ruling), now, out);
        }
    }

    /// A stanza on the stream of a backend.
    pub(super) fn pass_outbound(&mut self, frame: Frame, now: Instant, out: &mut Vec<Effect>) {
        // Most stanzas are of the pair of the one before, and most addresses are plain.
        if let Some(lane) = self.lanes.all.get(self.lanes.last)
            && let Some(from) = frame.head().from_as_spelt()
            && Plain::read(from, &lane.pair.sender).is_some()
            && let Some(to) = frame.head().to_as_spelt().and_then(|to| Plain::read(to, &lane.pair.target))
        {
            return self.hand(self.lanes.last, frame, (None, to.to_user), out);
        }
        let found = {
            let (from, to) = (frame.head().from(), frame.head().to());
            let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
            Ends::read(&from, &to).map(|ends| {
                let known = self.lanes.find(ends.sender(), ends.target());
                let pair = match known {
                    Some(_) => None,
                    None => Pair::read(ends.sender(), ends.target()),
                };
                let modern = self.home.reads_rfc7622(ends.sender());
                (known, pair, ends.settle(modern))
            })
        };
        match found {
            Ok((known, pair, settled)) => {
                let lane = match (known, pair) {
                    (Some(lane), _) => lane,
                    (None, Some(pair)) => self.open_lane(pair, false, now, out),
                    (None, None) => return self.unaddressed(&Turned::plain(frame.head()), out),
                };
                match settled {
                    Ok(settled) => self.hand(lane, frame, settled, out),
                    Err(refusal) => self.refused_outbound(&frame, refusal, out),
                }
            }
            Err(refusal) => self.refused_outbound(&frame, refusal, out),
        }
    }

    fn refused_outbound(&mut self, frame: &Frame, refusal: Refusal, out: &mut Vec<Effect>) {
        match refusal {
            Refusal::Bounce(reason) if filter::is_answerable(frame.head(), reason) => {
                self.bounce(frame.head(), &reason.into(), out);
            }
            Refusal::Bounce(reason) | Refusal::Drop(reason) => self.note_refused(frame.head(), reason, out),
            Refusal::Unclear { answer, address } => {
                self.unclear(frame.head(), answer.as_deref(), address, out);
            }
            Refusal::Fault(_) => self.unaddressed(&Turned::plain(frame.head()), out),
        }
    }

    /// A stanza of the backend without addresses that name two domains: all its users share the stream, and one of them must
    /// not end it. There is nobody in whose name it could be answered.
    fn unaddressed(&self, turned: &Turned<'_>, out: &mut Vec<Effect>) {
        // The address to blame.
        let names_none = |address: &Option<Cow<'_, str>>| {
            address.as_deref().is_none_or(|address| Ends::read(address, address).is_err())
        };
        let blamed = if names_none(&turned.from) { &turned.from } else { &turned.to };
        let blamed = Some(Cow::Borrowed(blamed.as_deref().unwrap_or_default()));
        let (id, type_) = (turned.id.clone(), turned.type_.clone());
        let (kind, octets) = (turned.kind, turned.octets);
        let reason = Reason::ImproperAddressing;
        let turned = Turned { kind, from: blamed, to: None, id, type_, reason, measure: None, octets };
        self.note_unfit(&turned, None, out);
    }

    /// A stanza of the backend that the framer refused (XML-17): it comes back alone.
    pub(super) fn refuse_outbound(&mut self, turned: &Turned<'_>, now: Instant, out: &mut Vec<Effect>) {
        let (from, to) =
            (turned.from.as_deref().unwrap_or_default(), turned.to.as_deref().unwrap_or_default());
        let Some(pair) = Ends::read(from, to).ok().and_then(|ends| Pair::read(ends.sender(), ends.target()))
        else {
            return self.unaddressed(turned, out);
        };
        if self.lane(&pair).is_none() {
            self.open_lane(pair.clone(), false, now, out);
        }
        self.turn_away(turned, &pair, out);
    }

    /// The lane of a pair whose stanzas may go.
    pub(super) fn lane_of(&self, pair: &Pair) -> Option<LaneId> {
        self.lane(pair).filter(|lane| lane.standing.is_ok()).map(|lane| lane.id)
    }

    /// Hands a stanza to the courier of its pair, or sends it back.
    fn hand(&mut self, at: usize, frame: Frame, settled: (Option<Box<Edits>>, bool), out: &mut Vec<Effect>) {
        self.lanes.last = at;
        let Some(lane) = self.lanes.all.get(at) else { return };
        let permits = match &lane.standing {
            Ok(permits) => permits,
            Err(reason) => {
                let reason = *reason;
                if matches!(reason, Reason::NotConfigured | Reason::OtherBackend) {
                    let name = lane.pair.sender.clone();
                    out.push(Effect::Note(Event::Misnamed {
                        name,
                        reason,
                        via: self.backend_of(&lane.pair),
                    }));
                }
                return self.sent_back(frame.head(), &reason.into(), out);
            }
        };
        let receiver = &lane.pair.target;
        let hosted = |domain: &str| self.home.is_same_server(domain, receiver);
        let outgoing = Outgoing {
            rules: permits.out.stanzas(),
            inward: permits.into.as_ref().map(|permit| Inward {
                rules: permit.stanzas(),
                sender: &lane.pair.sender,
                hosted: &hosted,
            }),
            language: self.near.as_deref().and_then(|near| near.language.as_deref()),
        };
        match filter::inspect_outgoing(frame.head(), settled, &outgoing) {
            Ok(edits) => {
                let id = lane.id;
                let rewritten = edits.as_deref().map(|edits| rewrite(&frame, edits));
                let octets = rewritten.as_ref().unwrap_or(frame.octets()).len();
                // XML-18: what another backend does not take; a peer tells by itself, when it is called.
                let inward = permits.into.is_some();
                let excess = self.excess(Route::Carried, &lane.pair, &frame, edits.as_deref(), octets);
                if let Some((reason, measure)) = excess.filter(|_| inward) {
                    let pair = lane.pair.clone();
                    return self.turn_away(
                        &Turned::beyond(frame.head(), reason, measure, octets),
                        &pair,
                        out,
                    );
                }
                let stanza = rewritten.unwrap_or_else(|| frame.into_octets());
                out.push(Effect::Hand(id, stanza));
            }
            Err(Refusal::Bounce(reason)) => self.bounce(frame.head(), &reason.into(), out),
            Err(Refusal::Drop(reason) | Refusal::Fault(reason)) => {
                self.note_refused(frame.head(), reason, out);
            }
            // Addresses were settled before.
            Err(Refusal::Unclear { .. }) => {}
        }
    }

    /// The lane of this pair, opened or judged anew; where it is.
    fn open_lane(&mut self, pair: Pair, keyed: bool, now: Instant, out: &mut Vec<Effect>) -> usize {
        if self.lanes.len() >= self.home.limits.inside_pairs {
            self.lanes.thin(out);
            if self.lanes.proven.len() >= self.home.limits.inside_pairs.saturating_mul(NAMES) {
                // The backend opens another stream for what it has; this one takes what is still on its way.
                self.near_close(Reason::Finished, now, out);
            }
        }
        if let Some(near) = &mut self.near {
            near.answered = None;
        }
        let known = self.lane(&pair).is_some_and(|lane| lane.keyed) || self.lanes.proven.contains(&pair);
        let keyed = keyed || known;
        let standing = self.may_leave(&pair, keyed, out);
        let id = LaneId(self.issue());
        let at = self.lanes.put(Lane { id, pair: pair.clone(), standing, keyed });
        if let Some(lane) = self.lanes.all.get(at) {
            out.push(Effect::Lane(lane.id, pair));
        }
        at
    }

    fn lane(&self, pair: &Pair) -> Option<&Lane> {
        self.lanes.find(pair.sender.as_str(), pair.target.as_str()).and_then(|at| self.lanes.all.get(at))
    }

    /// Whether stanzas of this pair may leave for its courier, as far as that can be said before any cost (POL-04).
    fn may_leave(&self, pair: &Pair, keyed: bool, out: &mut Vec<Effect>) -> Result<Permits, Reason> {
        let Some(sender) = self.home.hosted.get(&pair.sender) else { return Err(Reason::NotConfigured) };
        if !self.may_call(&pair.sender) {
            return Err(Reason::OtherBackend);
        }
        if matches!(sender.keys_by, KeysBy::Verify) && !keyed {
            return Err(Reason::HostUnknown);
        }
        if self.home.hosts(&pair.target) && self.is_calling(&pair.sender, &pair.target) {
            return Err(Reason::SameBackend);
        }
        let (out_verdict, into) = self.verdicts(pair);
        for verdict in std::iter::once(&out_verdict).chain(&into) {
            if !verdict.is_allow() {
                let (pair, verdict) = (pair.clone(), verdict.clone().into());
                out.push(Effect::Note(Event::Judged { pair, verdict }));
            }
        }
        let refusal = into.as_ref().map_or(Reason::Internal, |verdict| verdict.reason);
        let Some(out_permit) = out_verdict.permit() else { return Err(out_verdict.reason) };
        match into.map(|verdict| verdict.permit()) {
            None => Ok(Permits { out: out_permit, into: None }),
            Some(Some(permit)) => Ok(Permits { out: out_permit, into: Some(permit) }),
            Some(None) => Err(refusal),
        }
    }

    /// What the sender's policy says of a pair that goes out, before any cost; between two backends, what the addressee's
    /// says, too (POL-08).
    pub(super) fn verdicts(&self, pair: &Pair) -> (Verdict, Option<Verdict>) {
        match self.home.hosts(&pair.target) {
            false => (self.outbound_verdict(pair, None), None),
            true => {
                let (out, into) = self.policy.judge_between(&pair.sender, &pair.target);
                (out, Some(into))
            }
        }
    }

    /// Whether the target belongs to the server that calls: what comes from a backend never goes to the same one.
    fn is_calling(&self, sender: &Domain, target: &Domain) -> bool {
        self.home.is_same_server(sender.as_str(), target)
            || self.peer_address().is_some_and(|address| self.home.calls_from(target, address))
    }

    fn believes_keys(&self, sender: &Domain) -> bool {
        matches!(self.home.hosted.get(sender).map(|hosted| &hosted.keys_by), Some(KeysBy::Verify))
    }

    /// The hosted domain whose backend has sent this: reports go there (DB-69).
    pub(super) fn backend_of(&self, pair: &Pair) -> Option<Domain> {
        if self.home.hosts(&pair.sender) && (self.near.is_none() || self.may_call(&pair.sender)) {
            return Some(pair.sender.clone());
        }
        let named = self.near.as_deref().and_then(|near| near.named.clone());
        if let Some(named) = named.filter(|named| self.may_call(named)) {
            return Some(named);
        }
        let address = self.peer_address()?;
        let callers = self.home.hosted.keys().filter(|domain| self.home.calls_from(domain, address));
        // A component lies below its server's domain, or beside it.
        let related = |domain: &&Domain| {
            pair.sender.is_below(domain) || domain.parent().is_some_and(|p| Some(p) == pair.sender.parent())
        };
        callers.clone().find(related).or_else(|| callers.clone().next()).cloned()
    }

    /// A new policy, or a new home: every lane is judged again.
    pub(super) fn rejudge_lanes(&mut self, out: &mut Vec<Effect>) {
        let mut lanes = std::mem::take(&mut self.lanes);
        for lane in &mut lanes.all {
            lane.standing = self.may_leave(&lane.pair, lane.keyed, out);
        }
        self.lanes = lanes;
    }

    /// A courier has no room for this, and others wait for the same stream.
    pub(super) fn no_room(&mut self, octets: &Bytes, out: &mut Vec<Effect>) {
        self.undeliverable(octets, &Reason::QueueFull.into(), out);
    }
}

impl Pair {
    /// The pair of these two names, if both are domains.
    fn read(sender: &str, target: &str) -> Option<Self> {
        Some(Self { sender: Domain::parse(sender).ok()?, target: Domain::parse(target).ok()? })
    }
}

/// Of pairs that were proven by key and are forgotten so many times the names are kept: a name is small beside what a pair
/// holds.
const NAMES: usize = 10;

/// How long a backend's own claim may take where nothing else is known.
const BUDGET: Duration = Duration::from_secs(30);
