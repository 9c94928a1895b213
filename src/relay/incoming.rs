//! Stanzas of a remote server: compared with what stands, and on to the leg of their pair.
//!
//! They come on the stream that it opened, or on one of ours that goes both ways; what becomes of them is the same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::beside::{InForce, Scope};
use super::event::Event;
use super::far::Far;
use super::origin::{Origin, pair_between};
use super::patched::Patched;
use super::turn::Turn;
use super::turned::{Turned, excess};
use super::{AddressText, Effect, FarId, HeldStanza, HostedDomain, Passing, RelayParams, Sender, Takes};
use crate::filter::{self, Admitted, Context, Decision, Guard, PairRoute};
use crate::jid::Domain;
use crate::policy::{Beside, Counted, Permit, Place, RuleName};
use crate::reason::{Class, Direction, Flow, Reason};
use crate::xml::{Edits, Frame, Head, Kind, RefusedStanza, rewrite};

/// What stands on the stream that a stanza came on.
pub(super) struct Incoming<'a> {
    pub(super) guard: &'a mut Guard,
    /// The `xml:lang` of the stream.
    pub(super) language: Option<&'a str>,
    /// Where its stanzas go.
    pub(super) onwards: Onwards<'a>,
    /// What lists were asked of last.
    pub(super) asked: &'a mut Option<Asked>,
}

/// Where stanzas go that pass.
#[derive(Clone, Copy)]
pub(super) enum Onwards<'a> {
    /// To these legs, one for each pair.
    Legs(&'a BTreeMap<FarId, Box<Far>>),
    /// They came back on this leg of ours, and others carry them.
    Inward(FarId),
}

impl Incoming<'_> {
    /// A stanza has come.
    ///
    /// # Errors
    /// The stream ends for this reason.
    pub(super) fn pass(&mut self, frame: Frame, turn: &mut Turn<'_>) -> Result<(), Reason> {
        match self.compare(turn.relays, |context| filter::inspect(frame.head(), context)) {
            Decision::Pass { pair, edits, bare } => self.patch(frame, pair, edits, bare, turn),
            Decision::Bounce(reason) => {
                let words = self.words_of_quarantine(frame.head(), reason, turn.relays);
                self.ruled(frame.head(), reason, turn);
                ORIGIN.bounce_with(frame.head(), &reason.into(), words.as_deref(), turn);
                self.refused_beside(&frame, reason, turn);
            }
            Decision::Drop(reason) => {
                self.ruled(frame.head(), reason, turn);
                ORIGIN.note_refused(frame.head(), reason, turn);
                self.refused_beside(&frame, reason, turn);
            }
            Decision::Unclear { answer, address } => {
                ORIGIN.unclear(frame.head(), answer.as_deref(), address, turn);
            }
            Decision::Fault(reason) => {
                ORIGIN.note_refused(frame.head(), reason, turn);
                return Err(reason);
            }
        }
        Ok(())
    }

    /// The pair that a stanza is of, if it stands.
    fn admitted(&self, head: &Head, relays: &RelayParams) -> Option<&Admitted> {
        let place = self
            .compare(relays, |context| filter::locate(head.from().as_deref(), head.to().as_deref(), context));
        self.guard.pair(place.ok()?)
    }

    /// A stanza is about to be refused: by its rule, if it is for that.
    fn ruled(&self, head: &Head, reason: Reason, turn: &mut Turn<'_>) {
        if let Some(admitted) = self.admitted(head, turn.relays) {
            turn.ruled(admitted.permit(), reason);
        }
    }

    /// A stanza was refused: what the policy in the shadow, if there is one, would have made of it.
    fn refused_beside(&self, frame: &Frame, reason: Reason, turn: &mut Turn<'_>) {
        if turn.policy.shadow().is_none() {
            return;
        }
        let head = frame.head();
        if let Some(admitted) = self.admitted(head, turn.relays) {
            InForce::from(admitted).refused(reason, head, frame.octets().len(), turn);
        }
    }

    /// A stanza that its sender may not send now.
    pub(super) fn too_much(&self, frame: &Frame, reason: Reason, turn: &mut Turn<'_>) {
        if reason != Reason::QuarantineRate {
            return ORIGIN.too_much(frame.head(), reason, turn);
        }
        let words = self.words_of_quarantine(frame.head(), reason, turn.relays);
        let asks = frame.head().is_type("subscribe");
        self.ruled(frame.head(), reason, turn);
        // As for other limits of senders: presence is not answered, and a request only where the operator has something to say.
        match frame.head().kind() == Kind::Presence && !(asks && words.is_some()) {
            true => ORIGIN.note_refused(frame.head(), reason, turn),
            false => ORIGIN.sent_back_with(frame.head(), &reason.into(), words.as_deref(), turn),
        }
        self.refused_beside(frame, reason, turn);
    }

    /// What the rule has to say to somebody in quarantine whose stanza does not pass for this reason.
    fn words_of_quarantine(&self, head: &Head, reason: Reason, relays: &RelayParams) -> Option<Arc<str>> {
        if !reason.is(Class::OfQuarantine) {
            return None;
        }
        self.admitted(head, relays)?.permit().quarantine()?.text.clone()
    }

    /// What the filter says of a stanza, with all that it may know.
    fn compare<T>(&self, relays: &RelayParams, ask: impl FnOnce(&Context<'_>) -> T) -> T {
        ask(&Context {
            guard: self.guard,
            direction: Direction::Inbound,
            language: self.language,
            hosted: &|domain| relays.hosted.contains_key(domain),
            rfc7622: &|domain| relays.reads_rfc7622(domain),
        })
    }

    /// What would pass, and what patches say of it.
    fn patch(
        &mut self,
        frame: Frame,
        index: usize,
        mut edits: Option<Box<Edits>>,
        mut bare: Option<(usize, usize)>,
        turn: &mut Turn<'_>,
    ) {
        if let Some((rule, place)) = self.listed(&frame, index, edits.as_deref(), bare, turn) {
            turn.note(Event::Ruled { rule, place: Some(place), reason: Reason::OnLists });
            if let Some(admitted) = self.guard.pair(index)
                && self.beside_sender().is_none()
            {
                let octets = frame.octets().len();
                InForce::from(admitted).refused(Reason::OnLists, frame.head(), octets, turn);
            }
            // The world reads the condition alone (POL-05), and the operator who it was.
            let turned = Turned { reason: Reason::OnLists, ..Turned::patched(frame.head()) };
            ORIGIN.note_unfit(&turned, self.guard.pair(index).map(Admitted::pair), turn);
            return ORIGIN.answered(frame.head(), &Reason::OnLists.into(), turn);
        }
        if turn.policy.patches().is_some()
            && let Some(admitted) = self.guard.pair(index)
        {
            let way = (Flow::S2sIn, Direction::Inbound);
            match turn.patched(frame.head(), way, &admitted.pair().target, Some(admitted.pair())) {
                Patched::Untouched => {}
                Patched::Cut(children) => {
                    edits.get_or_insert_default().cut.extend(children);
                    bare = None;
                }
                Patched::Denied => return self.turn_away(&Turned::patched(frame.head()), admitted, turn),
            }
        }
        self.forward(frame, index, edits.as_deref(), bare, turn);
    }

    /// The rule by which lists refuse the sender himself (POL-13). What was found is remembered for as long as he goes on: one digest
    /// for each change of the sender on a stream.
    fn listed(
        &mut self,
        frame: &Frame,
        index: usize,
        edits: Option<&Edits>,
        bare: Option<(usize, usize)>,
        turn: &Turn<'_>,
    ) -> Option<(RuleName, Place)> {
        if !turn.policy.asks_of_addresses() {
            *self.asked = None;
            return None;
        }
        let admitted = self.guard.pair(index)?;
        let target = &admitted.pair().target;
        let sender = sender(frame, edits, bare, admitted);
        let address = std::str::from_utf8(sender.address.of(frame.octets())).ok()?;
        match &*self.asked {
            Some(asked) if asked.target == *target && *asked.address == *address => asked.listed.clone(),
            _ => {
                let listed = turn.policy.lists_against(admitted.permit(), address);
                let beside = turn.policy.beside_against(admitted.permit(), address);
                let (target, address) = (target.clone(), address.into());
                *self.asked = Some(Asked { target, address, listed: listed.clone(), beside });
                listed
            }
        }
    }

    /// The sender that was asked about last, and what the policy in the shadow says of him, where it would refuse him.
    fn beside_sender(&self) -> Option<(&str, Arc<Beside>)> {
        let asked = self.asked.as_ref()?;
        Some((&asked.address, asked.beside.clone()?))
    }

    fn forward(
        &mut self,
        frame: Frame,
        index: usize,
        edits: Option<&Edits>,
        bare: Option<(usize, usize)>,
        turn: &mut Turn<'_>,
    ) {
        let Some(admitted) = self.guard.pair(index) else { return };
        let pair = admitted.pair();
        let rewritten = edits.map(|edits| rewrite(&frame, edits));
        let octets = rewritten.as_ref().unwrap_or(frame.octets()).len();
        let server = turn.relays.hosted.get(&pair.target);
        // SM-09, XML-18: what the receiving server would refuse, with the whole stream, is refused here alone.
        let most = match admitted.route() {
            PairRoute::Withdrawn(reason) => return ORIGIN.sent_back(frame.head(), &reason.into(), turn),
            PairRoute::Leg(number) => self.onwards.largest(FarId(number), server, turn.relays),
            PairRoute::Carried => turn.relays.taken_by(server),
        };
        if let Some((reason, measure)) = excess((most, Takes::of(server)), &frame, edits, octets) {
            return self.turn_away(&Turned::beyond(frame.head(), reason, measure, octets), admitted, turn);
        }
        let in_force = InForce::from(admitted);
        match self.beside_sender().filter(|_| in_force.would_pass(frame.head())) {
            Some(word) => in_force.of_sender(word, octets, turn),
            None => in_force.passes(Scope::Whole, frame.head(), octets, turn),
        }
        let sender = Some(sender(&frame, edits, bare, admitted));
        let passed = Event::Passed { hosted: pair.target.clone(), kind: frame.head().kind(), octets };
        let stanza = Passing { octets: rewritten.unwrap_or_else(|| frame.into_octets()), sender };
        turn.push(self.onwards.take(admitted, stanza));
        if let Onwards::Legs(_) = self.onwards {
            turn.note(passed);
        }
        self.guard.count(index, octets);
    }

    /// A stanza that the framer refused.
    ///
    /// # Errors
    /// The stream ends for this reason.
    pub(super) fn refuse_stanza(
        &mut self,
        refused: &RefusedStanza,
        turn: &mut Turn<'_>,
    ) -> Result<(), Reason> {
        let turned = Turned::refused(refused);
        let place =
            self.compare(turn.relays, |context| filter::locate(refused.from(), refused.to(), context));
        match place {
            Ok(index) => {
                if let Some(admitted) = self.guard.pair(index) {
                    self.turn_away(&turned, admitted, turn);
                }
            }
            Err(Decision::Fault(reason)) => {
                ORIGIN.note_unfit(&Turned { reason, measure: None, ..turned }, None, turn);
                return Err(reason);
            }
            // It would not have passed in any case.
            Err(Decision::Unclear { answer, .. }) => {
                let pair = refused.from().zip(refused.to()).and_then(|(from, to)| pair_between(from, to));
                ORIGIN.answer_apart(&turned, pair.as_ref(), answer.as_deref(), turn);
            }
            Err(_) => ORIGIN.note_unfit(&turned, None, turn),
        }
        Ok(())
    }

    /// This stanza of that pair goes no further.
    fn turn_away(&self, turned: &Turned<'_>, admitted: &Admitted, turn: &mut Turn<'_>) {
        let instead = |stanza| match admitted.route() {
            PairRoute::Leg(_) | PairRoute::Carried => Some(self.onwards.take(admitted, stanza)),
            PairRoute::Withdrawn(_) => None,
        };
        ORIGIN.turn_away(turned, admitted.pair(), instead, turn);
    }
}

impl Onwards<'_> {
    /// The stanza of a pair, to its leg, or to a courier where the pair has none here.
    fn take(self, admitted: &Admitted, stanza: Passing) -> Effect {
        match (self, admitted.route()) {
            (Self::Inward(id), _) => Effect::Inward(id, admitted.pair().clone(), stanza),
            (Self::Legs(_), PairRoute::Leg(number)) => Effect::Pass(FarId(number), stanza),
            (Self::Legs(_), PairRoute::Carried | PairRoute::Withdrawn(_)) => {
                Effect::Carry(admitted.pair().clone(), stanza)
            }
        }
    }

    /// The largest stanza that is taken over that leg.
    fn largest(self, id: FarId, server: Option<&HostedDomain>, relays: &RelayParams) -> usize {
        let leg = match self {
            Self::Legs(fars) => fars.get(&id),
            Self::Inward(_) => None,
        };
        leg.map_or_else(|| relays.taken_by(server), |far| far.largest(server, relays))
    }
}

/// What lists were asked of last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    target: Domain,
    /// The bare address of the sender.
    address: Box<str>,
    /// The rule by which he is refused, and where it stands.
    listed: Option<(RuleName, Place)>,
    /// The word of the policy in the shadow, where that would refuse him.
    beside: Option<Arc<Beside>>,
}

/// As what a stanza counts where its domain is in quarantine.
fn held(head: &Head, permit: &Permit) -> Option<HeldStanza> {
    let bounds = Arc::clone(permit.quarantine()?);
    let counted = match head.kind() {
        Kind::Message if !head.is_type("error") => Counted::Message,
        Kind::Presence if head.is_type("subscribe") => Counted::Subscription,
        Kind::Iq | Kind::Message | Kind::Presence | Kind::Other => Counted::Other,
    };
    Some(HeldStanza { counted, bounds })
}

/// What a remote server sends comes from outside.
pub(super) const ORIGIN: Origin<'static> = Origin { direction: Direction::Inbound, caller: None };

/// Who sends this to whom, as far as it is limited for each address. RLY-20: a full address counts as its bare one; but a room is
/// one bare address, so of presence and of what is said in a room the full one is told, too.
/// What the filter wrote anew is canonical there, and what it left is canonical as it came.
fn sender(frame: &Frame, edits: Option<&Edits>, bare: Option<(usize, usize)>, admitted: &Admitted) -> Sender {
    let head = frame.head();
    fn whole<'a>(anew: Option<&'a String>, came: Option<Cow<'a, str>>) -> Cow<'a, str> {
        anew.map(|anew| Cow::Borrowed(anew.as_str())).or(came).unwrap_or_default()
    }
    let apart = |anew: Option<&String>, came: Option<Cow<'_, str>>| {
        let whole = whole(anew, came);
        AddressText::Apart(whole.split_once('/').map_or(&*whole, |(bare, _)| bare).into())
    };
    let within = |at: Option<usize>, len: usize| at.map(|at| AddressText::Within(at..at + len));
    let (address, recipient) = match bare {
        Some((from, to)) => (within(head.from_at(), from), within(head.to_at(), to)),
        None => (None, None),
    };
    let of_many = match head.kind() {
        Kind::Presence => true,
        Kind::Message => head.is_type("groupchat"),
        Kind::Iq | Kind::Other => false,
    };
    let written = || edits.and_then(|e| e.from.as_ref());
    let occupant =
        of_many.then(|| match bare.and_then(|_| within(head.from_at(), head.from_as_spelt()?.len())) {
            Some(whole) => whole,
            None => AddressText::Apart(whole(written(), head.from()).into()),
        });
    Sender {
        domain: admitted.pair().sender.clone(),
        address: address.unwrap_or_else(|| apart(written(), head.from())),
        occupant,
        recipient: recipient.unwrap_or_else(|| apart(edits.and_then(|e| e.to.as_ref()), head.to())),
        subscribes: head.kind() == Kind::Presence && head.is_type("subscribe"),
        held: held(head, admitted.permit()),
    }
}
