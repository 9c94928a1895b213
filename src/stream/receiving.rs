//! The receiving entity between servers: the stream that arrived, state by state.
//!
//! It greets, offers, upgrades, takes claims and hands stanzas on; whether a claim is believed is ruled elsewhere and comes
//! back as a [`Ruling`]. What each state accepts is table 0.3 of the requirements, and the last arm refuses.

mod both;
mod greeting;
mod proving;
mod written;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::jid::Domain;
use crate::reason::{Class, Facing, Reason, SaslCondition};
use crate::xml::{CLOSE, Element, Frame, Header, Kind, names};

use self::both::Bidi;
use self::greeting::greeting;
use self::written::Written;
use super::dialback::{self, Dialback, Unreadable};
use super::fault::{self, Fault};
use super::management::{self, Nonza};
use super::{KeyCheck, Pair, Secured, StreamIds, sasl};

/// What the relay lets this stream offer, judged for the header's pair before the header is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ServerOffer {
    /// EXTERNAL: the certificate speaks for the header's `from`, and policy would let the pair in by it (EXT-01).
    pub external: bool,
    /// Dialback.
    pub dialback: bool,
    /// The stream may go both ways (SM-08).
    pub bidi: bool,
    /// The stream ends with this once it is under TLS (TLS-19: a certificate is required, and there is none).
    pub refused: Option<Reason>,
}

/// What a receiving entity is for its whole life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReceivingParams {
    /// Which network it looks at.
    pub facing: Facing,
    /// The domain for headers and errors where the peer named none of ours (STR-06, STR-07).
    pub default_domain: Option<Domain>,
    /// Whether stanzas are counted for those who ask (SM-01).
    pub counts: bool,
    /// Whether multiplexed targets are welcome (DB-67).
    pub dialback_errors: bool,
    /// The largest stanza that may pass, in octets: what is announced before a proof (SM-09).
    pub max_octets: usize,
    /// The largest element that does not end a proven stream, in octets: what is announced behind a proof.
    pub survived: usize,
    /// Failed SASL attempts before the stream ends (EXT-07).
    pub sasl_attempts: u8,
    /// Questions about keys answered on one stream (DB-43); more are not heard.
    pub questions: u16,
    /// T-header.
    pub header_time: Duration,
    /// T-tls.
    pub tls_time: Duration,
}

/// What may happen to it.
#[derive(Clone, Debug)]
pub enum Input {
    /// A stream header, with what the relay lets us offer in answer.
    Header(Header, ServerOffer),
    /// A first-level element.
    Element(Frame),
    /// The closing tag.
    End,
    /// The handshake is done.
    Secured(Secured),
    /// What became of a claim.
    Ruled(Claim, Ruling),
    /// What became of a question about a key.
    Vouched(KeyCheck, Vouch),
    /// The deadline passed.
    Expired,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Octets to the peer.
    Send(Bytes),
    /// TLS now.
    Upgrade,
    /// A new stream on this connection.
    Restart,
    /// Somebody claims a pair.
    Claim(Claim),
    /// Somebody asks about a key that should be ours.
    Vouch(KeyCheck),
    /// The peer says something about counting.
    Counting(Nonza),
    /// A stanza, to be judged against the guard.
    Pass(Frame),
    /// An answer that nobody asked for; it changed nothing (DB-08).
    Unasked,
    /// A dialback element or SASL attempt was refused here, without a claim.
    Refused(Reason),
    /// The peer sent a stream error with this condition.
    PeerError(String),
    /// The peer closed its stream; ours is closed in answer.
    Closed,
}

/// "I speak for this pair", not yet believed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// Sender and target.
    pub pair: Pair,
    /// By what.
    pub by: ClaimBasis,
}

/// What a claim leans on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClaimBasis {
    /// SASL EXTERNAL.
    External,
    /// A dialback key sent on the stream with this id of ours.
    Key {
        /// The id.
        stream: String,
        /// The key.
        key: String,
    },
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// The pair stands.
    Accepted,
    /// The key is not valid, and no other pair stands on this stream (DB-27): say so and close.
    Invalid,
    /// It does not stand, for this reason.
    Refused(Reason),
}

/// What became of a question about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vouch {
    /// It is ours, and a stream of ours waits with it.
    Valid,
    /// It is not.
    Invalid,
    /// The question is not for us, for this reason.
    Refused(Reason),
}

/// A step: the next state and what to do, or the end.
pub type Stepped = Result<(Receiving, Vec<Effect>), Fault>;

/// The receiving entity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Receiving {
    /// A stream header is due.
    Greeting(Greeting),
    /// The header is answered; negotiation and stanzas.
    Open(Open),
    /// EXTERNAL is claimed and being ruled on; nothing is read meanwhile.
    Proving(Proving),
    /// `<proceed/>` is out; the handshake runs.
    Upgrading(Upgrading),
}

/// What outlives a state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    ids: StreamIds,
    /// There is TLS. Who holds the leg knows the facts of it.
    secured: bool,
    /// The domain whose certificate was shown: from then on the only `to` (STR-15).
    shown: Option<Domain>,
    /// The pair that EXTERNAL proved.
    proven: Option<Pair>,
    failures: u8,
    questions: u16,
    unasked: u8,
    /// Whether the peer takes stanzas on it (XEP-0288).
    bidi: Bidi,
}

/// A stream header is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    line: Line,
    deadline: Instant,
    first: bool,
}

/// Negotiation and stanzas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    line: Line,
    id: String,
    from: Option<Domain>,
    to: Option<Domain>,
    offer: ServerOffer,
    written: Written,
}

/// EXTERNAL is being ruled on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proving {
    open: Open,
    pair: Pair,
}

/// The handshake runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upgrading {
    line: Line,
    to: Option<Domain>,
    deadline: Instant,
}

impl Receiving {
    /// A connection that just arrived; `secured` on a direct TLS listener. `now` starts T-header.
    pub fn new(params: &ReceivingParams, ids: StreamIds, secured: Option<Secured>, now: Instant) -> Self {
        let shown = secured.as_ref().and_then(|secured| secured.shown.clone());
        let line = Line {
            ids,
            secured: secured.is_some(),
            shown,
            proven: None,
            failures: 0,
            questions: 0,
            unasked: 0,
            bidi: Bidi::Possible,
        };
        Self::Greeting(Greeting { line, deadline: now + params.header_time, first: true })
    }

    /// Whether this element changes nothing here and passes: what a step would make of it.
    pub fn passes(&self, frame: &Frame) -> bool {
        matches!(self, Self::Open(_)) && frame.head().kind() != Kind::Other
    }

    /// The next state for this input.
    ///
    /// # Errors
    /// The end of the stream.
    pub fn step(self, params: &ReceivingParams, input: Input, now: Instant) -> Stepped {
        match self {
            Self::Greeting(state) => state.step(params, input),
            Self::Open(state) => state.step(params, input, now),
            Self::Proving(state) => state.step(params, input, now),
            Self::Upgrading(state) => state.step(params, input, now),
        }
    }

    /// When `Expired` is due, if anything is awaited here.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Greeting(state) => Some(state.deadline),
            Self::Upgrading(state) => Some(state.deadline),
            Self::Open(_) | Self::Proving(_) => None,
        }
    }

    /// Whether more may be read: not while a ruling decides what the next octets mean.
    pub fn wants_read(&self) -> bool {
        !matches!(self, Self::Proving(_) | Self::Upgrading(_))
    }

    /// The end, from outside: the octets that tell `reason` in this state. Before any header of the peer nobody
    /// understands an error, so the connection is cut (CLS-03).
    pub fn fault(self, params: &ReceivingParams, reason: Reason) -> Fault {
        match self {
            Self::Greeting(Greeting { mut line, first, .. }) => match first && reason.is(Class::Unheard) {
                true => Fault::silent(reason),
                false => Fault::told(reason, &greeting(params, &mut line, None, None, true).1),
            },
            // TLS-20: no XML while a handshake runs or after it failed.
            Self::Upgrading(_) => Fault::silent(reason),
            Self::Open(_) | Self::Proving(_) => Fault::told(reason, b""),
        }
    }

    /// The identity that the last header claimed, the domain it spoke to, and our id for that stream.
    pub fn names(&self) -> Option<(Option<&Domain>, Option<&Domain>, &str)> {
        match self {
            Self::Open(open) | Self::Proving(Proving { open, .. }) => {
                Some((open.from.as_ref(), open.to.as_ref(), &open.id))
            }
            Self::Greeting(_) | Self::Upgrading(_) => None,
        }
    }

    /// Whether the peer takes stanzas on it now, for the inverses of pairs that stand here (SM-08): not before the header of a stream
    /// that begins anew is answered.
    pub fn is_bidi(&self) -> bool {
        matches!(self, Self::Open(open) if open.line.bidi == Bidi::Agreed)
    }

    /// The pair that EXTERNAL has proven.
    pub fn proven(&self) -> Option<&Pair> {
        self.line().proven.as_ref()
    }

    fn line(&self) -> &Line {
        match self {
            Self::Greeting(Greeting { line, .. })
            | Self::Open(Open { line, .. })
            | Self::Proving(Proving { open: Open { line, .. }, .. })
            | Self::Upgrading(Upgrading { line, .. }) => line,
        }
    }

    /// Whether there is TLS.
    pub fn is_secured(&self) -> bool {
        self.line().secured
    }
}

impl Open {
    fn step(self, params: &ReceivingParams, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Element(frame) => self.element(params, frame, now),
            Input::Ruled(Claim { pair, by: ClaimBasis::Key { .. } }, ruling) => {
                self.ruled(params, &pair, ruling)
            }
            Input::Vouched(check, vouch) => {
                let text = match vouch {
                    Vouch::Valid => dialback::write_asked(&check, true),
                    Vouch::Invalid => dialback::write_asked(&check, false),
                    Vouch::Refused(reason) => dialback::write_ask_refused(&check, reason.stanza_condition()),
                };
                self.stay(vec![send(text)])
            }
            Input::End => self.stay(vec![Effect::Send(Bytes::from_static(CLOSE)), Effect::Closed]),
            // Nothing is awaited here; a ruling for EXTERNAL, a header or a handshake has no place.
            Input::Expired => self.stay(Vec::new()),
            Input::Header(..) => self.fault(Reason::BadFormat),
            Input::Ruled(..) | Input::Secured(_) => self.fault(Reason::Internal),
        }
    }

    fn element(self, params: &ReceivingParams, frame: Frame, now: Instant) -> Stepped {
        if frame.head().kind() != Kind::Other {
            return self.stay(vec![Effect::Pass(frame)]);
        }
        let clear = !self.line.secured;
        let public = params.facing == Facing::Public;
        match (frame.head().namespace(), frame.head().name()) {
            (names::TLS, "starttls") => self.starttls(params, now),
            (names::SASL, "auth") if public && clear => {
                self.sasl_failed(params, SaslCondition::EncryptionRequired)
            }
            (names::SASL, "auth") if public => self.auth(params, &frame.tree()),
            (names::SASL, "abort") if public => self.sasl_failed(params, SaslCondition::Aborted),
            // No exchange is under way. Servers overlook it (Prosody) or answer this (ejabberd), and go on.
            (names::SASL, "response") if public && !clear => {
                self.sasl_failed(params, SaslCondition::NotAuthorized)
            }
            (names::DIALBACK, "result" | "verify") => self.dialback(params, &frame),
            (names::BIDI, "bidi") => self.go_both_ways(),
            (names::STREAMS, "error") => {
                let name = fault::condition(&frame.tree());
                self.stay(vec![
                    Effect::Send(Bytes::from_static(CLOSE)),
                    Effect::PeerError(name),
                    Effect::Closed,
                ])
            }
            (names::STREAM_MANAGEMENT, _) if params.counts => {
                self.stay(vec![Effect::Counting(management::read(&frame))])
            }
            // SM-01: stream management is per hop, and a backend is not offered any.
            (namespace @ names::STREAM_MANAGEMENT, "enable") => self.stay(vec![send(format!(
                "<failed xmlns='{namespace}'><feature-not-implemented xmlns='{}'/></failed>",
                names::STANZA_ERRORS
            ))]),
            // SM-07: compression is never offered.
            (names::COMPRESSION, "compress") => self.stay(vec![send(format!(
                "<failure xmlns='{}'><setup-failed/></failure>",
                names::COMPRESSION
            ))]),
            _ => self.fault(Reason::UnsupportedStanzaType),
        }
    }

    /// TLS-02 to TLS-04: known by its name; what else is written in it means nothing.
    fn starttls(self, params: &ReceivingParams, now: Instant) -> Stepped {
        if params.facing == Facing::Backend || self.line.secured {
            return Err(Fault::worded(Reason::BadStarttls, &format!("<failure xmlns='{}'/>", names::TLS)));
        }
        let upgrading = Upgrading { line: self.line, to: self.to, deadline: now + params.tls_time };
        let proceed = format!("<proceed xmlns='{}'/>", names::TLS);
        Ok((Receiving::Upgrading(upgrading), vec![send(proceed), Effect::Upgrade]))
    }

    fn auth(mut self, params: &ReceivingParams, element: &Element) -> Stepped {
        self.line.claims();
        let (Some(from), Some(to)) = (self.from.clone(), self.to.clone()) else {
            return self.sasl_failed(params, SaslCondition::InvalidMechanism);
        };
        if !self.offer.external || self.line.proven.is_some() {
            return self.sasl_failed(params, SaslCondition::InvalidMechanism);
        }
        if let Err(condition) = sasl::read_external(element, &from) {
            return self.sasl_failed(params, condition);
        }
        let pair = Pair { sender: from, target: to };
        let claim = Claim { pair: pair.clone(), by: ClaimBasis::External };
        Ok((Receiving::Proving(Proving { open: self, pair }), vec![Effect::Claim(claim)]))
    }

    /// EXT-07: the stream stays open for dialback until the attempts are used up.
    fn sasl_failed(mut self, params: &ReceivingParams, condition: SaslCondition) -> Stepped {
        self.line.failures = self.line.failures.saturating_add(1);
        if self.line.failures >= params.sasl_attempts {
            return Err(Fault::told(Reason::TooManySasl, sasl::failure(condition).as_bytes()));
        }
        self.stay(vec![send(sasl::failure(condition)), Effect::Refused(Reason::SaslRefused)])
    }

    fn dialback(mut self, params: &ReceivingParams, frame: &Frame) -> Stepped {
        match dialback::read(frame, params.facing) {
            Ok(Dialback::Claim { pair, key }) => {
                self.written.note(frame, &pair);
                self.line.claims();
                let by = ClaimBasis::Key { stream: self.id.clone(), key };
                self.stay(vec![Effect::Claim(Claim { pair, by })])
            }
            Ok(Dialback::Ask(check)) => {
                // One more than the limit says all: the count stops there, and is told once.
                if self.line.questions > params.questions {
                    return self.stay(Vec::new());
                }
                self.line.questions = self.line.questions.saturating_add(1);
                if self.line.questions > params.questions {
                    return self.stay(vec![Effect::Refused(Reason::TooManyPairs)]);
                }
                self.stay(vec![Effect::Vouch(check)])
            }
            // DB-08: we never send a question on a stream that arrived, so no answer can be asked for here.
            Ok(Dialback::Claimed { .. } | Dialback::Asked { .. }) => {
                self.line.unasked = self.line.unasked.saturating_add(1);
                if self.line.unasked > MAX_UNASKED {
                    return self.fault(Reason::UnaskedAnswer);
                }
                self.stay(vec![Effect::Unasked])
            }
            Err(Unreadable::Fault(reason) | Unreadable::Refused { reason, .. })
                if params.facing == Facing::Backend
                    && let Some(valid) = dialback::write_humoured(frame) =>
            {
                self.stay(vec![send(valid), Effect::Refused(reason)])
            }
            Err(Unreadable::Fault(reason)) => self.fault(reason),
            Err(Unreadable::Refused { answer, reason }) => {
                self.stay(vec![send(answer), Effect::Refused(reason)])
            }
        }
    }

    fn ruled(mut self, params: &ReceivingParams, pair: &Pair, ruling: Ruling) -> Stepped {
        let written = self.written.take(pair);
        let claimed = |valid: bool| match &written {
            Some((from, to)) => dialback::write_claimed_as((from, to), valid),
            None => dialback::write_claimed(pair, valid),
        };
        match ruling {
            Ruling::Accepted => self.stay(vec![send(claimed(true))]),
            Ruling::Refused(reason) => self.stay(vec![send(dialback::write_refusal(pair, reason))]),
            // D9: the stream of a backend and its other pairs go on.
            Ruling::Invalid if params.facing == Facing::Backend => self.stay(vec![send(claimed(false))]),
            Ruling::Invalid => Err(Fault::worded(Reason::DialbackInvalid, &claimed(false))),
        }
    }

    fn stay(self, effects: Vec<Effect>) -> Stepped {
        Ok((Receiving::Open(self), effects))
    }

    fn fault(self, reason: Reason) -> Stepped {
        Err(Fault::told(reason, b""))
    }
}

fn send(text: String) -> Effect {
    Effect::Send(text.into())
}

/// Answers nobody asked for before the stream ends (DB-08).
const MAX_UNASKED: u8 = 3;
