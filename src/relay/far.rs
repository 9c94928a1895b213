//! A far leg between servers: what the initiating entity hears, and what its attempts come to.
//!
//! It runs one errand, over as many attempts as that takes, and judges by itself whether the policy takes the peer that it
//! has met. It knows nothing of claims, guards or other legs: what became of the errand it gives back as a [`FarOutcome`],
//! at most one a step and behind everything else.

mod attempts;
mod judged;
mod reachability;
mod see_other_host;

use self::see_other_host::Moves;
pub(super) use judged::shows;
pub(super) use reachability::silent;

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::event::{DialbackOutcome, Event, Role};
use super::life::Life;
use super::turn::Turn;
use super::{Behalf, Destination, Effect, FarId, HostedDomain, RelayParams, Side};
use crate::jid::Domain;
use crate::policy::{Identity, Tls, Verdict};
use crate::reason::{Direction, Facing, Outcome, Reason, Why};
use crate::stream::dane::Dane;
use crate::stream::fault::Due;
use crate::stream::initiating::{self, Errand, Established, Initiating, InitiatingParams};
use crate::stream::management::{Manage, Managed, Taken};
use crate::stream::{KeyAnswer, Method, Pair, Proof, Secured};
use crate::xml::{Frame, RefusedStanza, Token};

/// A leg that we opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Far {
    id: FarId,
    terms: InitiatingParams,
    life: Life<Initiating>,
    /// How the pair stands there, if it does.
    stands: Option<Stands>,
    /// Where it is connected to, and the facts of the channel.
    address: Option<IpAddr>,
    secured: Option<Secured>,
    /// What the last attempt ended with.
    last: Option<Why>,
    /// Why it ends, as far as that is known.
    reason: Reason,
    /// What came of stream management, once the pair stands.
    managed: Managed,
    /// When the last key or question went out; none: no key did.
    keyed: Option<Instant>,
    /// How often it was sent to another host.
    moves: Moves,
    /// The connection before this one broke, and is tried again at once: on the way to TLS, or inside. No longer so when that is behind.
    broken: bool,
    /// What the peer said when it ended the stream, where that matters.
    leave: Leave,
    /// Others have the turn for its place; the near leg has done nothing to end with it.
    gave_way: bool,
    /// It may go both ways, if the peer's channel proves who that is and the policy lets him in.
    both: bool,
    /// The `xml:lang` of the peer's stream.
    language: Option<String>,
}

/// A pair that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stands {
    /// How we were proven there.
    method: Method,
    /// XEP-0478: the largest stanza that it takes, in octets.
    max_octets: Option<usize>,
    /// CRT-12: when the certificate expires that the pair stands on.
    expires: Option<Instant>,
}

/// What the peer gave as the condition of its stream error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leave {
    /// It does not believe who we are.
    Doubt,
    /// Nothing had come for a while.
    Idle,
    /// Nothing that matters here.
    Other,
}

/// What came of a step, beyond the leg itself. All but the first five are its end: whoever has it forgets it.
#[derive(Debug)]
#[must_use]
pub(super) enum FarOutcome {
    /// So many stanzas were taken there.
    Acknowledged(u32),
    /// The question is answered.
    Answered(KeyAnswer),
    /// A stanza came back, to be compared with what stands.
    Back(Frame),
    /// One that the framer refused.
    Unfit(Box<RefusedStanza>),
    /// The pair stands there.
    Stands,
    /// It was on its way out, and its connection or T-close is over. The first reason is why its pair ended.
    Closed(Reason, Reason),
    /// It was to close, and nobody had answered yet.
    Dropped,
    /// No attempt is left.
    Failed(Why),
    /// It stood, and is no more.
    Lost(Lost),
}

/// How a leg that stood ended.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) reason: Reason,
    /// Our closing tag was out.
    pub(super) closing: bool,
    pub(super) leave: Leave,
    /// The stanzas that did not go out whole, oldest first.
    pub(super) unsent: Vec<Bytes>,
}

impl Far {
    /// Opens a leg to the backend of that hosted domain.
    pub(super) fn inside(id: FarId, errand: Errand, via: Option<Domain>, turn: &mut Turn<'_>) -> Box<Self> {
        let destination = Destination::Backend(via.unwrap_or_else(|| errand.to().clone()));
        Self::open(id, errand, Facing::Backend, destination, Manage::Off, turn)
    }

    /// Opens a leg to a server in the world, which is asked to count what it takes if it can.
    pub(super) fn outside(
        id: FarId,
        errand: Errand,
        behalf: Behalf,
        manage: Manage,
        turn: &mut Turn<'_>,
    ) -> Box<Self> {
        let (from, target) = (errand.from().clone(), errand.to().clone());
        let posh = turn.takes_posh(&errand);
        let via = turn.policy.way_out(&from, &target);
        let destination = Destination::World { from, target, behalf, posh, via };
        Self::open(id, errand, Facing::Public, destination, manage, turn)
    }

    fn open(
        id: FarId,
        errand: Errand,
        facing: Facing,
        destination: Destination,
        manage: Manage,
        turn: &mut Turn<'_>,
    ) -> Box<Self> {
        // Whether the policy lets this errand travel in clear (`tls: none`).
        let clear = || match &errand {
            Errand::Speak(pair) => turn.outbound(pair, Identity::Dialback, Tls::None, None).is_allow(),
            Errand::Ask(check) => turn.inbound(&check.pair, Identity::Dialback, None, None).is_allow(),
        };
        let terms = InitiatingParams {
            facing,
            clear: facing == Facing::Public && clear(),
            errand,
            external: facing == Facing::Public,
            manage,
            bidi: false,
            taken: Taken::default(),
            step_time: turn.relays.timeouts.header,
            proof_time: turn.relays.timeouts.dialback,
            anew: InitiatingParams::times_anew(facing),
        };
        turn.push(Effect::Connect(id, destination));
        Box::new(Self {
            id,
            terms,
            life: Life::Open(Initiating::Dialling),
            stands: None,
            address: None,
            secured: None,
            last: None,
            reason: Reason::Finished,
            managed: Managed::default(),
            keyed: None,
            moves: Moves::default(),
            broken: false,
            leave: Leave::Other,
            gave_way: false,
            both: false,
            language: None,
        })
    }

    pub(super) fn id(&self) -> FarId {
        self.id
    }

    /// Where it was called.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether it speaks, or is to speak, for this pair.
    pub(super) fn is_for(&self, pair: &Pair) -> bool {
        self.terms.errand.is_for(pair)
    }

    /// The pair that it speaks for, if it does not only ask.
    pub(super) fn pair(&self) -> Option<&Pair> {
        match &self.terms.errand {
            Errand::Speak(pair) => Some(pair),
            Errand::Ask(_) => None,
        }
    }

    /// Whom it called.
    pub(super) fn target(&self) -> &Domain {
        self.terms.errand.to()
    }

    /// How we were proven there, once the pair stands.
    pub(super) fn method(&self) -> Option<Method> {
        self.stands.map(|stands| stands.method)
    }

    pub(super) fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    /// Whether the pair has come to stand there.
    pub(super) fn stands(&self) -> bool {
        self.stands.is_some()
    }

    /// Standing, and neither closing nor over.
    pub(super) fn is_live(&self) -> bool {
        self.stands() && self.life.is_open()
    }

    /// What came of stream management; told once.
    pub(super) fn take_managed(&mut self) -> Managed {
        std::mem::take(&mut self.managed)
    }

    /// The largest stanza that the server of this domain takes over it: by its own word, and by the operator's.
    pub(super) fn largest(&self, server: Option<&HostedDomain>, relays: &RelayParams) -> usize {
        match (self.stands.and_then(|stands| stands.max_octets), server) {
            // A peer knows best. Of one that says nothing no more is expected than others may send us.
            (Some(told), None) => told,
            (told, server) => told.unwrap_or(usize::MAX).min(relays.taken_by(server)),
        }
    }

    /// What the policy says of its pair, by what its channel shows.
    pub(super) fn verdict(&self, turn: &Turn<'_>) -> Verdict {
        self.shown(turn).1
    }

    /// What its channel proves of the domain that was called; nothing is proven inside.
    pub(super) fn server(&self, turn: &Turn<'_>) -> Option<Method> {
        if self.terms.facing == Facing::Backend {
            return None;
        }
        self.shown(turn).0.map(|proof| proof.method())
    }

    /// What the records of the domain that was called make of the certificate.
    fn dane(&self) -> Dane {
        self.secured().map(|secured| secured.dane(self.target())).unwrap_or_default()
    }

    fn shown(&self, turn: &Turn<'_>) -> (Option<Proof>, Verdict) {
        let (pair, direction) = match &self.terms.errand {
            Errand::Ask(check) => (&check.pair, Direction::Inbound),
            Errand::Speak(pair) => (pair, Direction::Outbound),
        };
        let (proof, verdict) = turn.shown(pair, direction, self.secured(), self.address);
        if direction == Direction::Inbound {
            // Who is asked about a key is not who shows it.
            return (proof, verdict);
        }
        let method = proof.as_ref().map_or(Method::Dialback, Proof::method);
        let verdict = turn.recalled(verdict, method, self.secured());
        (proof, verdict)
    }

    /// Whether the peer may send on it, too; of the session that is to be gone on with so many were taken.
    pub(super) fn go_both_ways(&mut self, both: bool, taken: Taken) {
        (self.both, self.terms.taken) = (both, taken);
    }

    /// Whether its stanzas are taken here (SM-08).
    pub(super) fn is_bidi(&self) -> bool {
        self.life.machine().is_some_and(Initiating::is_bidi)
    }

    /// How many of them were taken, as the peer counts.
    pub(super) fn taken(&self) -> Taken {
        self.life.machine().map(Initiating::taken).unwrap_or_default()
    }

    /// What its channel proves of the peer as sender, and what the policy says of that.
    pub(super) fn back(&self, turn: &Turn<'_>) -> Option<(Proof, Verdict)> {
        judged::back(self, turn)
    }

    pub(super) fn language(&self) -> Option<&str> {
        self.language.as_deref()
    }

    /// Others have the turn for its place.
    pub(super) fn gives_way(&mut self) {
        self.gave_way = true;
    }

    pub(super) fn has_given_way(&self) -> bool {
        self.gave_way
    }

    /// Its end is for this reason.
    pub(super) fn ends_for(&mut self, reason: Reason) {
        self.reason = reason;
    }

    /// When something is due on it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let machine = self.life.machine().and_then(Initiating::deadline);
        let expires = self.stands.and_then(|stands| stands.expires);
        self.life.until().or_else(|| machine.into_iter().chain(expires).min())
    }

    /// What is due from the other side.
    pub(super) fn due(&self) -> Due {
        self.life.machine().map_or(Due::Nothing, |machine| machine.due(&self.terms.errand))
    }

    fn side(&self) -> Side {
        Side::Far(self.id)
    }

    fn is_closing(&self) -> bool {
        self.life.is_closing()
    }

    // -- what happens on it

    /// There is a connection, with direct TLS over a channel.
    pub(super) fn connected(
        &mut self,
        address: IpAddr,
        secured: Option<Secured>,
        turn: &mut Turn<'_>,
    ) -> Option<FarOutcome> {
        self.address = Some(address);
        self.secured.clone_from(&secured);
        if secured.is_some()
            && let Err(why) = judged::peer_taken(self, turn)
        {
            return self.attempt_failed(why, Bytes::new(), turn);
        }
        self.secured_at_last();
        self.terms.bidi = judged::may_answer(self, turn);
        self.step(initiating::Input::Connected(secured), turn)
    }

    /// The handshake is done.
    pub(super) fn secure(&mut self, secured: Secured, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        self.secured = Some(secured.clone());
        self.secured_at_last();
        match judged::peer_taken(self, turn) {
            Ok(()) => {
                self.terms.bidi = judged::may_answer(self, turn);
                self.step(initiating::Input::Secured(secured), turn)
            }
            Err(why) => self.attempt_failed(why, Bytes::new(), turn),
        }
    }

    /// The framer found this.
    pub(super) fn token(&mut self, token: Token, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        let input = match token {
            Token::Violation(violation) => return self.breaks(violation.reason(), turn),
            Token::Keepalive | Token::Text => return None,
            Token::Refused(refused) if self.is_bidi() => initiating::Input::Refused(refused),
            // RLY-04: on a stream that we opened the other side sends no stanza of any kind, but where we have asked for them.
            Token::Refused(_) => return self.fault(Reason::NotAuthorized, turn),
            Token::Header(header) => {
                self.language.clone_from(&header.lang);
                initiating::Input::Header(header)
            }
            Token::Element(frame) if self.moves_on(&frame, turn) => return None,
            Token::Element(frame) => initiating::Input::Element(frame),
            Token::End => initiating::Input::End,
        };
        self.step(input, turn)
    }

    /// Its deadline has come, if it has.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        if self.deadline().is_none_or(|at| at > turn.now) {
            return None;
        }
        if self.is_closing() {
            turn.push(Effect::Finish(self.side()));
            return Some(FarOutcome::Closed(self.reason, Reason::CloseTimeout));
        }
        if self.stands.and_then(|stands| stands.expires).is_some_and(|at| at <= turn.now) {
            return self.fault(Reason::CertificateExpired, turn);
        }
        self.step(initiating::Input::Expired, turn)
    }

    /// One step of the initiating entity.
    fn step(&mut self, input: initiating::Input, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        let machine = self.life.take()?;
        let again = attempts::Again::after(&machine, &input).filter(|_| !self.is_closing());
        let due = machine.due(&self.terms.errand);
        let keys = turn.relays.keys.facing(self.terms.facing);
        match machine.step(&self.terms, keys, input, turn.now) {
            Ok((next, effects)) => {
                self.life.put(next);
                // One at most, and the last.
                let mut outcome = None;
                for effect in effects {
                    outcome = self.act(effect, turn);
                }
                outcome
            }
            Err(fault) => self.ended(fault.waiting_for(due), again, turn),
        }
    }

    fn act(&mut self, effect: initiating::Effect, turn: &mut Turn<'_>) -> Option<FarOutcome> {
        let facing = self.terms.facing;
        match effect {
            initiating::Effect::Acknowledged(taken) => return Some(FarOutcome::Acknowledged(taken)),
            initiating::Effect::Pass(frame) => return Some(FarOutcome::Back(frame)),
            initiating::Effect::Unfit(refused) => return Some(FarOutcome::Unfit(refused)),
            initiating::Effect::Answered(answer) => return Some(FarOutcome::Answered(answer)),
            initiating::Effect::Established(established) => {
                self.established(established, turn);
                return Some(FarOutcome::Stands);
            }
            initiating::Effect::Closed => {
                turn.push(Effect::Finish(self.side()));
                return Some(self.lost(self.reason, Vec::new()));
            }
            initiating::Effect::Send(octets) => {
                if !self.is_closing() {
                    turn.send(self.side(), octets);
                }
            }
            initiating::Effect::Upgrade => turn.push(Effect::Upgrade(self.side())),
            initiating::Effect::Restart => turn.push(Effect::Restart(self.side())),
            initiating::Effect::Await(check) => {
                self.keyed = Some(turn.now);
                turn.push(Effect::Await(self.id, check));
            }
            initiating::Effect::Unasked => {
                turn.dialback(Role::Initiating, facing, DialbackOutcome::Unasked, std::time::Duration::ZERO)
            }
            initiating::Effect::Rejected => {
                turn.dialback(Role::Receiving, facing, DialbackOutcome::Error, std::time::Duration::ZERO)
            }
            initiating::Effect::PeerError(name) => {
                self.reason = Reason::PeerError;
                self.leave = match name.as_str() {
                    "connection-timeout" => Leave::Idle,
                    "invalid-from" => Leave::Doubt,
                    _ => Leave::Other,
                };
                turn.heard_error(facing, &name);
            }
        }
        None
    }

    /// The pair stands there (D3, DB-26).
    fn established(&mut self, established: Established, turn: &mut Turn<'_>) {
        let method = if established.external { Method::Certificate } else { Method::Dialback };
        let (max_octets, expires) = (established.max_octets, judged::stands_until(self, turn));
        self.stands = Some(Stands { method, max_octets, expires });
        self.managed = established.managed;
        self.broken = false;
        let facing = self.terms.facing;
        if let Some(asked) = self.keyed {
            let after = turn.since(asked);
            turn.dialback(Role::Initiating, facing, DialbackOutcome::Valid, after);
        }
        reachability::met(self, turn);
        turn.push(Effect::Widen(self.side()));
        let Errand::Speak(pair) = &self.terms.errand else { return };
        if facing == Facing::Public {
            turn.push(Effect::Remember(self.id));
            let (outcome, reason) = (Outcome::Allow, Reason::Allowed);
            turn.note(Event::Authenticated { pair: pair.clone(), method, outcome, reason });
        } else if turn.relays.hosts(&pair.target) {
            turn.note(Event::Backend { hosted: pair.target.clone(), up: true });
        }
    }
}
