//! The server towards a client: the stream that arrived, state by state.
//!
//! It greets, upgrades, and then says nothing of its own: what the backend offers and answers comes in as [`Input::Offered`]
//! and [`Input::Word`], already on the lists. What each state accepts from the client is table 0.3 of the requirements, and
//! the last arm refuses.

mod binding;
mod greeting;
mod trying;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::jid::Domain;
use crate::reason::{Reason, SaslCondition};
use crate::xml::{Edits, Frame, Header, Kind, escape_attr, names, rewrite};

use super::features::ClientOffer;
use super::login::Profile;
use super::{Ask, Mechanism, Own, ServerAnswer, opening_of};
use crate::stream::fault::Fault;
use crate::stream::{Secured, StreamIds};
use binding::barred;

/// What it is for its whole life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientReceivingParams {
    /// The domain for the headers of errors where the client named none of ours (STR-06).
    pub default_domain: Option<Domain>,
    /// Guesses before the stream ends (C2S-11).
    pub sasl_attempts: u8,
    /// Questions between the login and the first stanza: to bind, to resume, for a session (C2S-14).
    pub binds: u8,
    /// T-header.
    pub header_time: Duration,
    /// T-tls.
    pub tls_time: Duration,
}

/// What may happen to it.
#[derive(Clone, Debug)]
pub enum Input {
    /// A stream header, and whether clients of the domain in its `to` are served here, or why not.
    Header(Header, Result<(), Reason>),
    /// A first-level element.
    Element(Frame),
    /// White space between elements.
    Space,
    /// Text between elements, once stanzas may pass.
    Text,
    /// The closing tag.
    End,
    /// The handshake is done.
    Secured(Secured),
    /// What the backend offers, as the client may see it.
    Offered(ClientOffer),
    /// What the backend said, as the client may hear it.
    Word(ServerAnswer, Bytes),
    /// Whether the login may be tried.
    Tried(Result<(), Reason>),
    /// The deadline passed.
    Expired,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Octets to the client.
    Send(Bytes),
    /// TLS now.
    Upgrade,
    /// A new stream on this connection.
    Restart,
    /// TLS stands and the domain is ours: the backend is called (C2S-02).
    Call(Domain),
    /// This to the backend.
    Say(Ask, Bytes),
    /// May this login be tried?
    MayLogin(Mechanism, Option<String>),
    /// May an account be asked for?
    MayRegister,
    /// It may not.
    Declined(Reason),
    /// The client has an address.
    Bound,
    /// Something that servers overlook was dropped; it is counted, and the stream goes on.
    Overlooked(Reason),
    /// A stanza, to be judged.
    Pass(Frame),
    /// The client asked for what it was not offered.
    Refused(Reason),
    /// The client ended its stream with an error of this condition.
    PeerError(String),
    /// The client closed its stream.
    Closed,
}

/// A step: the next state and what to do, or the end.
pub type Stepped = Result<(ClientReceiving, Vec<Effect>), Fault>;

/// The server towards a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientReceiving {
    /// Logged in; nothing but a bind or a resumption has a place.
    Binding(Binding),
    /// Stanzas pass.
    Bound(Bound),
    /// In clear; nothing but STARTTLS has a place.
    Clear(Clear),
    /// A stream header is due.
    Greeting(Greeting),
    /// Nothing but a login has a place. Boxed: it holds much, and soon is over.
    Login(Box<Login>),
    /// `<proceed/>` is out; the handshake runs.
    Upgrading(Upgrading),
    /// The header is answered; the backend's features are due.
    Waiting(Waiting),
}

/// What outlives a state, until the login is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    ids: StreamIds,
    /// TLS stands.
    secured: bool,
    /// The domain whose certificate was shown: from then on the only `to` (STR-15).
    shown: Option<Domain>,
    /// The domain that the header under TLS named.
    domain: Option<Domain>,
    /// Who the client is, by the backend's word.
    own: Option<Own>,
}

/// A stream header is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    line: Line,
    deadline: Instant,
    /// Features that came before the client's header.
    ready: Option<Box<ClientOffer>>,
}

/// In clear.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Clear {
    line: Line,
    to: Domain,
}

/// The handshake runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upgrading {
    line: Line,
    to: Domain,
    deadline: Instant,
}

/// The backend's features are due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    line: Line,
}

/// A login is due, or going on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Login {
    line: Line,
    offer: ClientOffer,
    exchange: Option<Exchange>,
    /// The words that wait for leave to be tried.
    held: Option<(Exchange, Ask, Bytes)>,
    /// The backend's answer is due. Nothing more of the client is read meanwhile: what came in between could take the
    /// outcome of a guess for its own (C2S-11).
    due: bool,
    /// An exchange was ended by us: what the client hears once the backend has heard of it.
    aborting: Option<SaslCondition>,
    registering: Registering,
    /// The mechanism of each guess that failed.
    guesses: Vec<Mechanism>,
    /// Logins that failed of something else than a password.
    misfits: u8,
}

/// How far a client is that wants an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Registering {
    /// It wants none.
    No,
    /// It waits for leave to ask the backend this, under this id.
    Leave(String, Bytes),
    /// The backend's answer is due.
    Due,
}

/// One exchange that the client started.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Exchange {
    profile: Profile,
    mechanism: Mechanism,
    account: Option<String>,
    /// The first payload was seen, and leave was asked.
    asked: bool,
    /// It asks to act as another account than the one whose secret it tries: whose login is granted is not certain.
    as_other: bool,
}

/// A bind or a resumption is due, or going on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Who the client is by its login.
    login: Own,
    binds: u8,
    asked: bool,
}

/// Stanzas pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    own: Own,
}

impl ClientReceiving {
    /// A connection that just arrived; `secured` on a direct TLS listener. `now` starts T-header.
    pub fn new(
        params: &ClientReceivingParams,
        ids: StreamIds,
        secured: Option<Secured>,
        now: Instant,
    ) -> Self {
        let shown = secured.as_ref().and_then(|secured| secured.shown.clone());
        let line = Line { ids, secured: secured.is_some(), shown, domain: None, own: None };
        Self::Greeting(Greeting { line, deadline: now + params.header_time, ready: None })
    }

    /// Whether this element changes nothing here and passes: what a step would make of it.
    pub fn passes(&self, frame: &Frame) -> bool {
        matches!(self, Self::Bound(_)) && frame.head().kind() != Kind::Other && barred(frame).is_none()
    }

    /// The next state for this input.
    ///
    /// # Errors
    /// The end of the stream.
    pub fn step(self, params: &ClientReceivingParams, input: Input, now: Instant) -> Stepped {
        // TLS-20, CLS-01: the client's own end has the same meaning wherever a stream is open.
        match (self, input) {
            (Self::Greeting(state), input) => state.step(params, input),
            (Self::Upgrading(state), input) => state.step(params, input, now),
            (state, Input::End) => Ok((state, vec![Effect::Closed])),
            (state, Input::Element(frame)) if frame.is(names::STREAMS, "error") => {
                let name = crate::stream::fault::condition(&frame.tree());
                Ok((state, vec![Effect::PeerError(name)]))
            }
            // Nothing is awaited there by time.
            (state, Input::Expired) => Ok((state, Vec::new())),
            (_, Input::Header(..)) => Err(Fault::told(Reason::BadFormat, b"")),
            (Self::Bound(state), Input::Text) => {
                Ok((Self::Bound(state), vec![Effect::Overlooked(Reason::BadFormat)]))
            }
            (_, Input::Text) => Err(Fault::told(Reason::BadFormat, b"")),
            (Self::Clear(state), input) => state.step(params, input, now),
            (Self::Waiting(state), input) => state.step(input),
            (Self::Login(state), input) => state.step(params, input, now),
            (Self::Binding(state), input) => state.step(params, input),
            (Self::Bound(state), input) => state.step(input),
        }
    }

    /// When `Expired` is due, if anything is awaited here.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Greeting(state) => Some(state.deadline),
            Self::Upgrading(state) => Some(state.deadline),
            _ => None,
        }
    }

    /// Whether more may be read: not while somebody's answer decides what the next octets mean.
    pub fn wants_read(&self) -> bool {
        match self {
            Self::Upgrading(_) | Self::Waiting(_) => false,
            Self::Login(state) => state.held.is_none() && !state.due && state.registering == Registering::No,
            Self::Binding(state) => !state.asked,
            Self::Bound(_) | Self::Clear(_) | Self::Greeting(_) => true,
        }
    }

    /// The end, from outside: the octets that tell `reason` in this state. Before any header of the client nobody
    /// understands an error, so the connection is cut (CLS-03).
    pub fn fault(self, params: &ClientReceivingParams, reason: Reason) -> Fault {
        match self {
            Self::Greeting(state) => state.fault(params, reason),
            // TLS-20: no XML while a handshake runs or after it failed.
            Self::Upgrading(_) => Fault::silent(reason),
            _ => Fault::told(reason, b""),
        }
    }

    /// The same for a stanza of a client that is bound, in these words (XML-17).
    pub fn fault_saying(self, params: &ClientReceivingParams, reason: Reason, words: &str) -> Fault {
        match self {
            Self::Greeting(_) | Self::Upgrading(_) => self.fault(params, reason),
            _ => Fault::saying(reason, words),
        }
    }

    /// The end, in the words of the backend: `last` is its error and our closing tag (C2S-18). Where no client is there to read
    /// them, the state itself.
    ///
    /// # Errors
    /// The state, where no client is there.
    pub fn ended(self, last: &[u8]) -> Result<Fault, Box<Self>> {
        let octets = match self {
            Self::Binding(_) | Self::Bound(_) | Self::Login(_) | Self::Waiting(_) => last.to_vec(),
            Self::Greeting(Greeting { mut line, .. }) if line.own.is_some() => {
                let id = line.ids.issue();
                [&opening_of(line.domain.as_ref(), None, &id), last].concat()
            }
            state @ (Self::Greeting(_) | Self::Clear(_) | Self::Upgrading(_)) => return Err(Box::new(state)),
        };
        Ok(Fault { octets: octets.into(), ..Fault::silent(Reason::PeerError) })
    }

    /// Whether nothing that the client asked its server for is still to be answered, and it has been told what it may ask for.
    pub fn is_at_rest(&self) -> bool {
        match self {
            Self::Binding(state) => !state.asked,
            Self::Bound(_) => true,
            Self::Greeting(state) => state.line.own.is_some(),
            Self::Login(state) => state.exchange.is_none() && self.wants_read(),
            Self::Clear(_) | Self::Upgrading(_) | Self::Waiting(_) => false,
        }
    }

    /// Who the client is, once stanzas may pass.
    pub fn own(&self) -> Option<&Own> {
        match self {
            Self::Bound(state) => Some(&state.own),
            _ => None,
        }
    }

    /// Who the client is by the login that was granted, before stanzas may pass.
    pub fn granted(&self) -> Option<&Own> {
        match self {
            Self::Binding(state) => Some(&state.login),
            _ => None,
        }
    }

    /// The login that is being tried, as far as its words show it.
    pub fn attempt(&self) -> Option<(Mechanism, Option<&str>)> {
        let Self::Login(login) = self else { return None };
        let Login { exchange: Some(exchange), aborting: None, .. } = &**login else { return None };
        Some((exchange.mechanism, exchange.account.as_deref()))
    }
}

impl Clear {
    fn step(self, params: &ClientReceivingParams, input: Input, now: Instant) -> Stepped {
        match input {
            // TLS-02: known by its name; what else is written in it means nothing.
            Input::Element(frame) if frame.is(names::TLS, "starttls") => {
                let deadline = now + params.tls_time;
                let upgrading = Upgrading { line: self.line, to: self.to, deadline };
                let proceed = format!("<proceed xmlns='{}'/>", names::TLS);
                Ok((ClientReceiving::Upgrading(upgrading), vec![send(proceed), Effect::Upgrade]))
            }
            // C2S-01: no login in clear, of whatever kind.
            Input::Element(frame) if Profile::of(frame.head().namespace()).is_some() => {
                Err(Fault::told(Reason::NotBound, b""))
            }
            Input::Element(frame) => misplaced(&frame, Reason::UnsupportedStanzaType),
            Input::Space | Input::Tried(_) => Ok((ClientReceiving::Clear(self), Vec::new())),
            _ => Err(Fault::told(Reason::Internal, b"")),
        }
    }
}

impl Upgrading {
    fn step(self, params: &ClientReceivingParams, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Secured(secured) => {
                // TLS-07: everything learned before TLS is forgotten, but the name whose certificate was shown.
                let shown = secured.shown.clone().or(Some(self.to));
                let line = Line { secured: true, shown, ..self.line };
                let greeting = Greeting { line, deadline: now + params.header_time, ready: None };
                Ok((ClientReceiving::Greeting(greeting), vec![Effect::Restart]))
            }
            Input::Expired => Err(Fault::silent(Reason::TlsFailed)),
            _ => Err(Fault::silent(Reason::EarlyOctets)),
        }
    }
}

impl Waiting {
    fn step(self, input: Input) -> Stepped {
        match input {
            Input::Offered(offer) => Ok(self.offered(offer)),
            Input::Space | Input::Tried(_) => Ok((ClientReceiving::Waiting(self), Vec::new())),
            Input::Element(frame) => misplaced(&frame, Reason::NotBound),
            _ => Err(Fault::told(Reason::BackendFault, b"")),
        }
    }

    fn offered(self, offer: ClientOffer) -> (ClientReceiving, Vec<Effect>) {
        let features = Effect::Send(offer.text.clone().into());
        let next = match self.line.own {
            Some(login) => ClientReceiving::Binding(Binding { login, binds: 0, asked: false }),
            None => ClientReceiving::Login(Box::new(Login {
                line: self.line,
                offer,
                exchange: None,
                held: None,
                due: false,
                aborting: None,
                registering: Registering::No,
                guesses: Vec::new(),
                misfits: 0,
            })),
        };
        (next, vec![features])
    }
}

/// An element that has no place: what belongs between servers is named as such (C2S-17).
fn misplaced<T>(frame: &Frame, reason: Reason) -> Result<T, Fault> {
    let reason = match frame.head().namespace() {
        names::SERVER => Reason::InvalidNamespace,
        names::DIALBACK => Reason::UnsupportedStanzaType,
        _ if frame.head().kind() != Kind::Other => Reason::NotBound,
        _ => reason,
    };
    Err(Fault::told(reason, b""))
}

/// TLS-03, TLS-04.
fn bad_starttls() -> Fault {
    Fault::worded(Reason::BadStarttls, &format!("<failure xmlns='{}'/>", names::TLS))
}

fn is_legacy_auth(frame: &Frame) -> bool {
    let head = frame.head();
    head.kind() == Kind::Iq && head.children().any(|child| child.namespace() == names::LEGACY_AUTH)
}

fn is_management(frame: &Frame) -> bool {
    matches!(frame.head().namespace(), names::STREAM_MANAGEMENT | names::STREAM_MANAGEMENT_2)
}

/// SM-10: it has no place yet, and the stream goes on.
fn unexpected(frame: &Frame) -> Effect {
    send(format!(
        "<failed xmlns='{}'><unexpected-request xmlns='{}'/></failed>",
        escape_attr(frame.head().namespace()),
        names::STANZA_ERRORS
    ))
}

/// SM-07: compression is never offered.
fn no_compression() -> Effect {
    send(format!("<failure xmlns='{}'><setup-failed/></failure>", names::COMPRESSION))
}

fn without_from(frame: &Frame) -> Bytes {
    rewrite(frame, &Edits { remove_from: frame.head().from().is_some(), ..Edits::default() })
}

fn send(text: String) -> Effect {
    Effect::Send(text.into())
}
