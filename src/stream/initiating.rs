//! The initiating entity between servers: the stream that we opened, state by state.
//!
//! It runs one errand: to speak for a pair ([`Errand::Speak`]), or to ask an authoritative server about a key
//! ([`Errand::Ask`]). Whether the peer's certificate and TLS version suffice is judged by the relay when the handshake is
//! done; here is only the order of words.

mod awaiting;
mod managing;
mod params;
mod securing;

use std::time::Instant;

use bytes::Bytes;

use crate::jid::Domain;
use crate::reason::{Cause, Facing, Reason};
use crate::xml::{Frame, Header, RefusedStanza, names};

use self::awaiting::prove;
pub use self::managing::Managing;
use self::managing::stand;
pub use self::params::InitiatingParams;
use self::securing::{ended_by, open};
use super::dialback;
use super::fault::{Due, Fault};
use super::features::{self, Offered};
use super::keyring::Keyring;
use super::management::{Managed, Taken};
use super::{KeyAnswer, KeyCheck, Pair, Secured, sasl};

/// What the stream is opened for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Errand {
    /// Ask the authoritative server of the sender about this key.
    Ask(KeyCheck),
    /// Claim this pair, then carry its stanzas.
    Speak(Pair),
}

impl Errand {
    /// Who we are on this stream.
    pub fn from(&self) -> &Domain {
        match self {
            Self::Ask(check) => &check.pair.target,
            Self::Speak(pair) => &pair.sender,
        }
    }

    /// Whether it is to speak for this pair.
    pub fn is_for(&self, pair: &Pair) -> bool {
        matches!(self, Self::Speak(ours) if ours == pair)
    }

    /// The pair that is claimed, if one is.
    pub fn pair(&self) -> Option<&Pair> {
        match self {
            Self::Ask(_) => None,
            Self::Speak(pair) => Some(pair),
        }
    }

    /// Whom we called.
    pub fn to(&self) -> &Domain {
        match self {
            Self::Ask(check) => &check.pair.sender,
            Self::Speak(pair) => &pair.target,
        }
    }
}

/// What may happen to it.
#[derive(Clone, Debug)]
pub enum Input {
    /// The connection stands; with direct TLS, its facts.
    Connected(Option<Secured>),
    /// A stream header.
    Header(Header),
    /// A first-level element.
    Element(Frame),
    /// A stanza that the framer refused.
    Refused(Box<RefusedStanza>),
    /// The closing tag.
    End,
    /// The handshake is done.
    Secured(Secured),
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
    /// This key goes out now; whoever asks about it may hear `valid`.
    Await(KeyCheck),
    /// The pair stands.
    Established(Established),
    /// So many stanzas were taken.
    Acknowledged(u32),
    /// The question is answered.
    Answered(KeyAnswer),
    /// A stanza of the peer, on a stream that goes both ways; to be judged against the guard.
    Pass(Frame),
    /// One that the framer refused.
    Unfit(Box<RefusedStanza>),
    /// An answer that nobody asked for; it changed nothing (DB-08).
    Unasked,
    /// A claim or a question of the peer was refused.
    Rejected,
    /// The peer sent a stream error with this condition.
    PeerError(String),
    /// The peer closed its stream; ours is closed in answer.
    Closed,
}

/// How the pair came to stand, and what the receiving server takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Established {
    /// Whether by EXTERNAL; else by dialback.
    pub external: bool,
    /// XEP-0478: the largest stanza that it takes, in octets.
    pub max_octets: Option<usize>,
    /// What came of stream management.
    pub managed: Managed,
}

/// A step: the next state and what to do, or the end.
pub type Stepped = Result<(Initiating, Vec<Effect>), Fault>;

/// The initiating entity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Initiating {
    /// EXTERNAL is asked for; `<success/>` is due.
    Authenticating(Authenticating),
    /// The key or the question is out; its answer is due.
    Awaiting(Awaiting),
    /// No connection yet.
    Dialling,
    /// The pair stands.
    Established(EstablishedState),
    /// The response header is in; features are due.
    Featuring(Featuring),
    /// The pair stands, and stream management is asked for; its answer is due.
    Managing(Managing),
    /// Our header is out; the response header is due.
    Opening(Opening),
    /// `<starttls/>` is out; `<proceed/>` is due.
    Requesting(Requesting),
    /// `<proceed/>` is in; the handshake runs.
    Upgrading(Upgrading),
}

/// What outlives a state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Line {
    /// There is TLS. Who holds the leg knows the facts of it.
    secured: bool,
    authenticated: bool,
    /// EXTERNAL was tried on this stream, and refused.
    refused: bool,
    unasked: u8,
    /// Claims and questions of the peer that were refused.
    refusals: u8,
    /// The peer offers to use it both ways, and was told that it may.
    bidi: bool,
    /// Of what came so, since it is counted.
    taken: Taken,
}

/// The response header is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    line: Line,
    deadline: Instant,
}

/// Features are due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Featuring {
    line: Line,
    id: String,
    dialback: bool,
    deadline: Instant,
}

/// `<proceed/>` is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requesting {
    line: Line,
    deadline: Instant,
}

/// The handshake runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upgrading {
    line: Line,
    deadline: Instant,
}

/// `<success/>` is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authenticating {
    line: Line,
    id: String,
    offered: Offered,
    dialback: bool,
    deadline: Instant,
}

/// The answer is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Awaiting {
    line: Line,
    id: String,
    offered: Offered,
    deadline: Instant,
}

/// The pair stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EstablishedState {
    line: Line,
    /// Whether words of stream management are taken, and the count is kept.
    counts: Counts,
}

/// Whether the other side counts what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Counts {
    /// It was not asked to.
    No,
    /// It was, and has not answered in time, or no.
    Unheard,
    /// It does.
    Yes,
}

impl Initiating {
    /// The next state for this input. `keys` is the realm of the leg's facing.
    ///
    /// # Errors
    /// The end of the stream.
    pub fn step(self, terms: &InitiatingParams, keys: &Keyring, input: Input, now: Instant) -> Stepped {
        match self {
            Self::Dialling => dialled(terms, input, now),
            Self::Opening(state) => state.step(terms, keys, input, now),
            Self::Featuring(state) => state.step(terms, keys, input, now),
            Self::Requesting(state) => state.step(terms, input, now),
            Self::Upgrading(state) => state.step(terms, input, now),
            Self::Authenticating(state) => state.step(terms, keys, input, now),
            Self::Awaiting(state) => state.step(terms, input, now),
            Self::Managing(state) => state.step(terms, input, now),
            Self::Established(state) => state.step(input),
        }
    }

    /// When `Expired` is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Authenticating(Authenticating { deadline, .. })
            | Self::Featuring(Featuring { deadline, .. })
            | Self::Managing(Managing { deadline, .. })
            | Self::Opening(Opening { deadline, .. })
            | Self::Requesting(Requesting { deadline, .. })
            | Self::Upgrading(Upgrading { deadline, .. })
            | Self::Awaiting(Awaiting { deadline, .. }) => Some(*deadline),
            Self::Dialling | Self::Established(_) => None,
        }
    }

    /// What is due from the other side in this state.
    pub fn due(&self, errand: &Errand) -> Due {
        match (self, errand) {
            (Self::Dialling, _) => Due::Connection,
            (Self::Opening(_), _) => Due::Header,
            (Self::Featuring(_), _) => Due::Features,
            (Self::Requesting(_), _) => Due::Proceed,
            (Self::Upgrading(_), _) => Due::Handshake,
            (Self::Authenticating(_), _) => Due::Success,
            (Self::Awaiting(_), Errand::Speak(_)) => Due::Ruling,
            (Self::Awaiting(_), Errand::Ask(_)) => Due::Answer,
            (Self::Managing(_), _) => Due::Count,
            (Self::Established(_), _) => Due::Nothing,
        }
    }

    /// Whether an attempt that ends here is to be tried once more without EXTERNAL.
    // COMPAT(ejabberd 23.01): closes the stream after `<auth/>` when our certificate holds an xmppAddr; until it is fixed there.
    pub fn died_of_external(&self) -> bool {
        match self {
            Self::Authenticating(_) => true,
            // XEP-0178 lets a receiver close after the failure, at once or a moment later.
            Self::Awaiting(awaiting) => awaiting.line.refused,
            _ => false,
        }
    }

    /// The octets that end the stream with `reason` in this state.
    pub fn fault(self, reason: Reason) -> Fault {
        match self {
            Self::Dialling | Self::Upgrading(_) => Fault::silent(reason),
            _ => Fault::told(reason, b""),
        }
    }

    /// Whether stanzas of the peer are taken here (SM-08, RLY-04).
    pub fn is_bidi(&self) -> bool {
        match self {
            Self::Established(EstablishedState { line, .. }) | Self::Managing(Managing { line, .. }) => {
                line.bidi
            }
            _ => false,
        }
    }

    /// How many of them were taken since they are counted.
    pub fn taken(&self) -> Taken {
        match self {
            Self::Established(EstablishedState { line, .. }) => line.taken,
            _ => Taken::default(),
        }
    }

    /// Whether there is TLS.
    pub fn is_secured(&self) -> bool {
        match self {
            Self::Dialling => false,
            Self::Authenticating(Authenticating { line, .. })
            | Self::Awaiting(Awaiting { line, .. })
            | Self::Established(EstablishedState { line, .. })
            | Self::Featuring(Featuring { line, .. })
            | Self::Managing(Managing { line, .. })
            | Self::Opening(Opening { line, .. })
            | Self::Requesting(Requesting { line, .. })
            | Self::Upgrading(Upgrading { line, .. }) => line.secured,
        }
    }
}

fn dialled(terms: &InitiatingParams, input: Input, now: Instant) -> Stepped {
    match input {
        Input::Connected(secured) => {
            let line = Line { secured: secured.is_some(), ..Line::default() };
            Ok(open(terms, line, Vec::new(), now))
        }
        Input::Expired => Err(Fault::silent(Reason::RemoteUnreachable)),
        _ => Err(Fault::silent(Reason::Internal)),
    }
}

impl Opening {
    fn step(self, terms: &InitiatingParams, keys: &Keyring, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Header(header) => {
                let id = header.id.unwrap_or_default();
                // DB-02: a longer one could not come back in a question about our key.
                if id.len() > dialback::MAX_ID {
                    return Err(Fault::told(Reason::XmlBudget, b""));
                }
                let modern = header.version.is_some_and(|(major, _)| major >= 1);
                let dialback = header.dialback;
                if modern && terms.facing == Facing::Public {
                    let deadline = now + terms.step_time;
                    let next = Featuring { line: self.line, id, dialback, deadline };
                    return Ok((Initiating::Featuring(next), Vec::new()));
                }
                // DB-65: no version, no features; dialback is all there is. TLS-08: never in clear for that.
                let clear = terms.facing == Facing::Backend || terms.clear || self.line.secured;
                if !clear {
                    return Err(Fault::closed(Reason::TlsRequired).because(Cause::NoTls));
                }
                prove(terms, keys, self.line, id, Offered::default(), true, now)
            }
            // DB-65: an old server answers an unknown host with a stream error on a stream of its own.
            Input::Expired => Err(Fault::closed(Reason::RemoteFailed).because(Cause::TimedOut)),
            Input::End => Err(Fault::closed(Reason::Finished).because(Cause::Cut)),
            _ => Err(Fault::closed(Reason::RemoteFailed)),
        }
    }
}

impl Featuring {
    fn step(self, terms: &InitiatingParams, keys: &Keyring, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Element(frame) if frame.is(names::STREAMS, "features") => {
                let offered = features::read(&frame.tree());
                self.offered(terms, keys, offered, now)
            }
            Input::Element(frame) => ended_by(&frame, Reason::RemoteFailed),
            Input::Expired => Err(Fault::closed(Reason::RemoteFailed).because(Cause::TimedOut)),
            Input::End => Err(Fault::closed(Reason::RemoteFailed).because(Cause::Cut)),
            _ => Err(Fault::closed(Reason::RemoteFailed)),
        }
    }

    fn offered(self, terms: &InitiatingParams, keys: &Keyring, offered: Offered, now: Instant) -> Stepped {
        let Self { mut line, id, dialback, .. } = self;
        if !line.secured && (offered.starttls || !terms.clear) {
            // TLS-08: STARTTLS is tried even where somebody on the way may have cut it out of the features.
            let starttls = format!("<starttls xmlns='{}'/>", names::TLS);
            let requesting = Requesting { line, deadline: now + terms.step_time };
            return Ok((Initiating::Requesting(requesting), vec![send(starttls)]));
        }
        if line.authenticated {
            return Ok(stand(terms, line, true, offered, now));
        }
        let mut effects = Vec::new();
        // SM-08: under TLS, and before any proof.
        if terms.bidi && offered.bidi && line.secured && !line.bidi {
            line.bidi = true;
            effects.push(send(format!("<bidi xmlns='{}'/>", names::BIDI)));
        }
        let dialback = dialback || offered.dialback;
        let speak = matches!(terms.errand, Errand::Speak(_));
        if speak && offered.external && terms.external && line.secured {
            let auth = sasl::external(terms.errand.from());
            let deadline = now + terms.proof_time;
            let next = Authenticating { line, id, offered, dialback, deadline };
            effects.push(send(auth));
            return Ok((Initiating::Authenticating(next), effects));
        }
        let (next, proving) = prove(terms, keys, line, id, offered, dialback, now)?;
        effects.extend(proving);
        Ok((next, effects))
    }
}

impl Authenticating {
    fn step(self, terms: &InitiatingParams, keys: &Keyring, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Element(frame) if frame.is(names::SASL, "success") => {
                let line = Line { authenticated: true, ..self.line };
                Ok(open(terms, line, vec![Effect::Restart], now))
            }
            Input::Element(frame) if frame.is(names::SASL, "challenge") => {
                // RFC 6120 6.3.10: an empty challenge asks for the response that we already gave.
                let response = format!("<response xmlns='{}'>=</response>", names::SASL);
                Ok((Initiating::Authenticating(self), vec![send(response)]))
            }
            Input::Element(frame) if frame.is(names::SASL, "failure") => {
                // EXT-08: dialback on the same stream, if allowed.
                let line = Line { refused: true, ..self.line };
                prove(terms, keys, line, self.id, self.offered, self.dialback, now)
            }
            Input::Element(frame) => ended_by(&frame, Reason::SaslRefused),
            Input::Expired => Err(Fault::closed(Reason::SaslRefused).because(Cause::TimedOut)),
            Input::End => Err(Fault::closed(Reason::SaslRefused).because(Cause::Cut)),
            _ => Err(Fault::closed(Reason::SaslRefused)),
        }
    }
}

fn send(text: String) -> Effect {
    Effect::Send(text.into())
}

/// Answers nobody asked for before the stream ends (DB-08).
const MAX_UNASKED: u8 = 3;
