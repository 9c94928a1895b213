//! The proof on a stream that we opened: the key or the question is out; and what is said once the pair stands.

use std::time::Instant;

use bytes::Bytes;

use super::super::dialback::{Dialback, Unreadable};
use super::super::fault::Fault;
use super::super::features::Offered;
use super::super::keyring::Keyring;
use super::super::management::{self, Nonza};
use super::super::{KeyAnswer, KeyCheck, dialback, fault, features};
use super::{
    Awaiting, Counts, Effect, Errand, EstablishedState, Initiating, InitiatingParams, Input, Line,
    MAX_UNASKED, Stepped, ended_by, send, stand,
};
use crate::reason::{Cause, Facing, Reason, StanzaCondition};
use crate::xml::{CLOSE, Frame, Kind, names};

/// Dialback: the key or the question goes out (DB-50, DB-23, DB-60).
pub(super) fn prove(
    terms: &InitiatingParams,
    keys: &Keyring,
    line: Line,
    id: String,
    offered: Offered,
    dialback: bool,
    now: Instant,
) -> Stepped {
    let deadline = now + terms.answer_time();
    let effects = match &terms.errand {
        Errand::Ask(check) => vec![send(dialback::write_ask(check))],
        Errand::Speak(_) if !dialback => return Err(Fault::closed(Reason::SaslRefused)),
        // A stream without an id cannot be spoken of.
        Errand::Speak(_) if id.is_empty() => return Err(Fault::closed(Reason::RemoteFailed)),
        Errand::Speak(pair) => {
            let key = keys.make(pair, &id, now);
            let claim = dialback::write_claim(pair, &key);
            vec![Effect::Await(KeyCheck { pair: pair.clone(), stream: id.clone(), key }), send(claim)]
        }
    };
    Ok((Initiating::Awaiting(Awaiting { line, id, offered, deadline }), effects))
}

impl Line {
    /// An answer that nobody asked for: it changes nothing, and too many end the stream (DB-08).
    pub(super) fn unasked(mut self) -> Result<(Self, Vec<Effect>), Fault> {
        self.unasked = self.unasked.saturating_add(1);
        match self.unasked > MAX_UNASKED {
            true => Err(Fault::told(Reason::UnaskedAnswer, b"")),
            false => Ok((self, vec![Effect::Unasked])),
        }
    }

    /// An element of dialback on a stream whose pair stands, or is about to. Table 0.3: no claim and no question is taken on a stream
    /// that we opened. Where it goes both ways the peer may make them (XEP-0288 2.2), and hears that no other pair has room on it
    /// (DB-31), until it has asked too often.
    pub(super) fn dialback(self, frame: &Frame) -> Result<(Self, Vec<Effect>), Fault> {
        if frame.tree().attr("type").is_some() {
            return self.unasked();
        }
        if !self.bidi {
            return Err(Fault::told(Reason::UnsupportedStanzaType, b""));
        }
        match dialback::read(frame, Facing::Public) {
            Ok(Dialback::Claim { pair, .. }) => {
                self.refuses(dialback::write_refusal(&pair, Reason::TooManyPairs))
            }
            Ok(Dialback::Ask(check)) => {
                let condition = Reason::TooManyPairs.stanza_condition();
                self.refuses(dialback::write_ask_refused(&check, condition))
            }
            Ok(Dialback::Claimed { .. } | Dialback::Asked { .. }) => self.unasked(),
            Err(Unreadable::Refused { answer, .. }) => self.refuses(answer),
            Err(Unreadable::Fault(reason)) => Err(Fault::told(reason, b"")),
        }
    }

    fn refuses(mut self, answer: String) -> Result<(Self, Vec<Effect>), Fault> {
        self.refusals = self.refusals.saturating_add(1);
        match self.refusals > MAX_REFUSALS {
            true => Err(Fault::told(Reason::TooManyRefusals, b"")),
            false => Ok((self, vec![send(answer), Effect::Rejected])),
        }
    }
}

impl Awaiting {
    pub(super) fn step(mut self, terms: &InitiatingParams, input: Input, now: Instant) -> Stepped {
        let frame = match input {
            Input::Element(frame) if frame.head().kind() != Kind::Other => {
                return Err(Fault::told(Reason::NotAuthorized, b""));
            }
            // On its way to stand, too, a stream that goes both ways hears claims and questions of the peer.
            Input::Element(frame)
                if self.line.bidi && dialback::is_dialback(&frame) && frame.tree().attr("type").is_none() =>
            {
                let (line, refused) = self.line.dialback(&frame)?;
                return Ok((Initiating::Awaiting(Self { line, ..self }), refused));
            }
            Input::Element(frame) if dialback::is_dialback(&frame) => frame,
            // COMPAT: features may follow a header without version towards a backend; they change nothing here.
            Input::Element(frame) if frame.is(names::STREAMS, "features") => {
                let offered = features::read(&frame.tree());
                (self.offered.max_octets, self.offered.management) = (offered.max_octets, offered.management);
                return Ok((Initiating::Awaiting(self), Vec::new()));
            }
            Input::Element(frame) => return ended_by(&frame, Reason::UnsupportedStanzaType),
            Input::Expired => {
                return Err(Fault::closed(Reason::DialbackTimeout).because(Cause::TimedOut));
            }
            Input::End => return Err(Fault::closed(Reason::RemoteFailed).because(Cause::Cut)),
            _ => return Err(Fault::told(Reason::Internal, b"")),
        };
        match (dialback::read(&frame, terms.facing), &terms.errand) {
            (Ok(Dialback::Claimed { pair, kind }), Errand::Speak(ours)) if pair == *ours => match kind {
                dialback::DialbackType::Valid => Ok(stand(terms, self.line, false, self.offered, now)),
                dialback::DialbackType::Invalid => Err(Fault::closed(Reason::DialbackInvalid)),
                dialback::DialbackType::Error(_) => Err(Fault::closed(Reason::DialbackRefused)),
            },
            (Ok(Dialback::Asked { pair, stream, kind }), Errand::Ask(check))
                if pair == check.pair && stream == check.stream =>
            {
                let answer = match kind {
                    dialback::DialbackType::Valid => KeyAnswer::Valid,
                    dialback::DialbackType::Invalid => KeyAnswer::Invalid,
                    // DB-28: a server that does not know the domain is no server of that domain.
                    dialback::DialbackType::Error(Some(
                        StanzaCondition::ItemNotFound | StanzaCondition::RemoteServerNotFound,
                    )) => KeyAnswer::Trouble(Reason::RemoteNotFound),
                    dialback::DialbackType::Error(_) => KeyAnswer::Trouble(Reason::DialbackRefused),
                };
                let standing = EstablishedState { line: self.line, counts: Counts::No };
                Ok((Initiating::Established(standing), vec![Effect::Answered(answer)]))
            }
            (Ok(Dialback::Claimed { .. } | Dialback::Asked { .. }), _) => {
                let (line, unasked) = self.line.unasked()?;
                Ok((Initiating::Awaiting(Self { line, ..self }), unasked))
            }
            // Table 0.3: no questions are taken on a stream that we opened.
            (Ok(Dialback::Claim { .. } | Dialback::Ask(_)), _) => {
                Err(Fault::told(Reason::UnsupportedStanzaType, b""))
            }
            (Err(Unreadable::Fault(reason) | Unreadable::Refused { reason, .. }), _) => {
                Err(Fault::told(reason, b""))
            }
        }
    }
}

impl EstablishedState {
    pub(super) fn step(mut self, input: Input) -> Stepped {
        match input {
            Input::Element(frame) if self.line.bidi && frame.head().kind() != Kind::Other => {
                self.line.taken.count();
                Ok((Initiating::Established(self), vec![Effect::Pass(frame)]))
            }
            // SM-01: a refused stanza counts as handled.
            Input::Refused(refused) if self.line.bidi => {
                self.line.taken.count();
                Ok((Initiating::Established(self), vec![Effect::Unfit(refused)]))
            }
            Input::Refused(_) => Err(Fault::told(Reason::NotAuthorized, b"")),
            // RLY-04: nothing else is said on a stream that we opened but errors and late answers.
            Input::Element(frame) if frame.head().kind() != Kind::Other => {
                Err(Fault::told(Reason::NotAuthorized, b""))
            }
            Input::Element(frame) if dialback::is_dialback(&frame) => {
                let (line, answered) = self.line.dialback(&frame)?;
                Ok((Initiating::Established(Self { line, ..self }), answered))
            }
            Input::Element(frame) if frame.is(names::STREAMS, "error") => Ok((
                Initiating::Established(self),
                vec![
                    Effect::Send(Bytes::from_static(CLOSE)),
                    Effect::PeerError(fault::condition(&frame.tree())),
                    Effect::Closed,
                ],
            )),
            Input::Element(frame) if management::is_word(&frame) && self.counts != Counts::No => {
                match (management::read(&frame), self.counts) {
                    (Nonza::Acknowledged(taken), Counts::Yes) => {
                        Ok((Initiating::Established(self), vec![Effect::Acknowledged(taken)]))
                    }
                    (Nonza::Asked, Counts::Yes) => {
                        let taken = management::write_acknowledged(self.line.taken.0);
                        Ok((Initiating::Established(self), vec![send(taken)]))
                    }
                    // Answers that come too late.
                    (_, Counts::Unheard) => Ok((Initiating::Established(self), Vec::new())),
                    _ => Err(Fault::told(Reason::UnsupportedStanzaType, b"")),
                }
            }
            Input::Element(_) => Err(Fault::told(Reason::UnsupportedStanzaType, b"")),
            Input::End => Ok((
                Initiating::Established(self),
                vec![Effect::Send(Bytes::from_static(CLOSE)), Effect::Closed],
            )),
            Input::Expired => Ok((Initiating::Established(self), Vec::new())),
            _ => Err(Fault::told(Reason::Internal, b"")),
        }
    }
}

/// Claims and questions of the peer that are refused on one stream before it ends.
const MAX_REFUSALS: u8 = 16;
