//! The server towards a client: the stream that arrived, state by state.
//!
//! It greets, upgrades, and then says nothing of its own: what the backend offers and answers comes in as [`Input::Offered`]
//! and [`Input::Word`], already on the lists. What each state accepts from the client is table 0.3 of the requirements, and
//! the last arm refuses.

mod trying;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::jid::{Domain, Jid};
use crate::reason::{Reason, SaslCondition};
use crate::xml::{Edits, Frame, Header, Kind, names, rewrite};

use super::features::Offer;
use super::login::Profile;
use super::{Ask, Mechanism, Own, Word, opening_of};
use crate::stream::fault::Fault;
use crate::stream::{Secured, StreamIds, features};

/// What it is for its whole life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Desk {
    /// The domain for the headers of errors where the client named none of ours (STR-06).
    pub default_domain: Option<Domain>,
    /// Failed logins before the stream ends (C2S-11).
    pub sasl_attempts: u8,
    /// Attempts to bind or resume (C2S-14).
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
    /// The closing tag.
    End,
    /// The handshake is done.
    Secured(Secured),
    /// What the backend offers, as the client may see it.
    Offered(Offer),
    /// What the backend said, as the client may hear it.
    Word(Word, Bytes),
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
    /// TLS stands and the domain is ours: the backend is called, with this `from` if the client gave one (C2S-02).
    Call(Domain, Option<String>),
    /// This to the backend.
    Say(Ask, Bytes),
    /// May this login be tried?
    Try(Mechanism, Option<String>),
    /// May an account be asked for?
    Apply,
    /// It may not.
    Declined(Reason),
    /// The client has an address.
    Bound,
    /// A stanza, to be judged.
    Pass(Frame),
    /// The client asked for what it was not offered.
    Refused(Reason),
    /// The client sent a stream error with this condition.
    PeerError(String),
    /// The client closed its stream.
    Closed,
}

/// A step: the next state and what to do, or the end.
pub type Stepped = Result<(Serving, Vec<Effect>), Fault>;

/// The server towards a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Serving {
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

/// What outlives a state.
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
    failures: u8,
    binds: u8,
}

/// A stream header is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    line: Line,
    deadline: Instant,
    /// Features that came before the client's header.
    ready: Option<Box<Offer>>,
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
    offer: Offer,
    exchange: Option<Exchange>,
    /// The words that wait for leave to be tried.
    held: Option<(Exchange, Ask, Bytes)>,
    /// The backend's answer is due. Nothing more of the client is read meanwhile: what came in between could take the
    /// outcome of a guess for its own (C2S-11).
    due: bool,
    /// An exchange was ended by us: what the client hears once the backend has heard of it.
    aborting: Option<SaslCondition>,
    registering: Registering,
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
    line: Line,
    asked: bool,
}

/// Stanzas pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    line: Line,
    own: Own,
}

impl Serving {
    /// A connection that just arrived; `secured` on a direct TLS listener. `now` starts T-header.
    pub fn new(desk: &Desk, ids: StreamIds, secured: Option<Secured>, now: Instant) -> Self {
        let shown = secured.as_ref().and_then(|secured| secured.shown.clone());
        let line =
            Line { ids, secured: secured.is_some(), shown, domain: None, own: None, failures: 0, binds: 0 };
        Self::Greeting(Greeting { line, deadline: now + desk.header_time, ready: None })
    }

    /// Whether this element changes nothing here and passes: what a step would make of it.
    pub fn passes(&self, frame: &Frame) -> bool {
        matches!(self, Self::Bound(_)) && frame.head().kind() != Kind::Other && barred(frame).is_none()
    }

    /// The next state for this input.
    pub fn step(self, desk: &Desk, input: Input, now: Instant) -> Stepped {
        // TLS-20, CLS-01: the client's own end has the same meaning wherever a stream is open.
        match (self, input) {
            (Self::Greeting(state), input) => state.step(desk, input),
            (Self::Upgrading(state), input) => state.step(desk, input, now),
            (state, Input::End) => Ok((state, vec![Effect::Closed])),
            (state, Input::Element(frame)) if frame.is(names::STREAMS, "error") => {
                let name = crate::stream::fault::condition(&frame.tree());
                Ok((state, vec![Effect::PeerError(name), Effect::Closed]))
            }
            // Nothing is awaited there by time.
            (state, Input::Expired) => Ok((state, Vec::new())),
            (_, Input::Header(..)) => Err(Fault::told(Reason::BadFormat, b"")),
            (Self::Clear(state), input) => state.step(desk, input, now),
            (Self::Waiting(state), input) => state.step(input),
            (Self::Login(state), input) => state.step(desk, input, now),
            (Self::Binding(state), input) => state.step(desk, input),
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
    pub fn fault(self, desk: &Desk, reason: Reason) -> Fault {
        match self {
            Self::Greeting(state) => state.fault(desk, reason),
            // TLS-20: no XML while a handshake runs or after it failed.
            Self::Upgrading(_) => Fault::silent(reason),
            _ => Fault::told(reason, b""),
        }
    }

    /// Who the client is, once stanzas may pass.
    pub fn own(&self) -> Option<&Own> {
        match self {
            Self::Bound(state) => Some(&state.own),
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

impl Greeting {
    fn step(mut self, desk: &Desk, input: Input) -> Stepped {
        match input {
            Input::Header(header, served) => self.greet(desk, &header, served),
            Input::Offered(offer) => {
                self.ready = Some(Box::new(offer));
                Ok((Serving::Greeting(self), Vec::new()))
            }
            Input::Space | Input::Tried(_) => Ok((Serving::Greeting(self), Vec::new())),
            Input::Expired => Err(self.fault(desk, Reason::HeaderTimeout)),
            Input::End => Err(self.fault(desk, Reason::Finished)),
            Input::Word(..) => Err(self.fault(desk, Reason::BackendFault)),
            Input::Element(_) | Input::Secured(_) => Err(self.fault(desk, Reason::UnsupportedStanzaType)),
        }
    }

    fn fault(mut self, desk: &Desk, reason: Reason) -> Fault {
        match reason {
            Reason::HeaderTimeout | Reason::NegotiationTimeout | Reason::Finished
                if self.line.own.is_none() =>
            {
                Fault::silent(reason)
            }
            _ => {
                let id = self.line.ids.issue();
                let domain = self.line.domain.as_ref().or(desk.default_domain.as_ref());
                Fault::told(reason, &opening_of(domain, None, &id))
            }
        }
    }

    fn greet(self, desk: &Desk, header: &Header, served: Result<(), Reason>) -> Stepped {
        let Self { mut line, ready, .. } = self;
        let named = header.to.as_deref().and_then(|to| Domain::parse(to).ok()).filter(|_| served.is_ok());
        let from = header.from.as_deref().filter(|from| !from.is_empty());
        let id = line.ids.issue();
        // STR-06: never an echo of an unknown name.
        let domain = named.as_ref().or(desk.default_domain.as_ref());
        let echo = from.and_then(|from| Jid::parse(from).ok()).map(|jid| jid.to_string());
        let mut octets = opening_of(domain, echo.as_deref(), &id);
        // STR-15: after the login any other `to`, served here or not, is no longer the client's to choose.
        if line.own.as_ref().is_some_and(|own| named.as_ref() != Some(own.domain())) {
            return Err(Fault::told(Reason::NotAuthorized, &octets));
        }
        let Some(to) = named else {
            return Err(Fault::told(served.err().unwrap_or(Reason::HostUnknown), &octets));
        };
        if let Some(reason) = header_fault(&line, header, &to, from) {
            return Err(Fault::told(reason, &octets));
        }
        if !line.secured {
            octets.extend_from_slice(features::before_tls().as_bytes());
            return Ok((Serving::Clear(Clear { line, to }), vec![Effect::Send(octets.into())]));
        }
        let mut effects = vec![Effect::Send(octets.into())];
        if line.domain.is_none() {
            line.domain = Some(to.clone());
            let bare = from.and_then(|from| Jid::parse(from).ok()).map(|jid| jid.bare());
            effects.push(Effect::Call(to, bare));
        }
        let waiting = Waiting { line };
        match ready {
            None => Ok((Serving::Waiting(waiting), effects)),
            Some(offer) => {
                let (next, more) = waiting.offered(*offer);
                effects.extend(more);
                Ok((next, effects))
            }
        }
    }
}

/// STR-10, STR-15: what is wrong with a header to a domain that is served here.
fn header_fault(line: &Line, header: &Header, to: &Domain, from: Option<&str>) -> Option<Reason> {
    if header.version.is_none_or(|(major, _)| major < 1) {
        return Some(Reason::UnsupportedVersion);
    }
    if line.shown.as_ref().is_some_and(|shown| shown != to) {
        return Some(Reason::HostUnknown);
    }
    if let Some(own) = &line.own {
        let same = own.domain() == to && from.is_none_or(|from| own.may_say(from));
        return (!same).then_some(Reason::NotAuthorized);
    }
    match from.map(Jid::parse) {
        None => None,
        Some(Err(_)) => Some(Reason::ImproperAddressing),
        Some(Ok(from)) => (from.to_domain() != *to).then_some(Reason::ForgedFrom),
    }
}

impl Clear {
    fn step(self, desk: &Desk, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Element(frame) if frame.is(names::TLS, "starttls") => {
                let element = frame.tree();
                if !element.attrs.is_empty() || !element.children.is_empty() {
                    return Err(bad_starttls());
                }
                let deadline = now + desk.tls_time;
                let upgrading = Upgrading { line: self.line, to: self.to, deadline };
                let proceed = format!("<proceed xmlns='{}'/>", names::TLS);
                Ok((Serving::Upgrading(upgrading), vec![send(proceed), Effect::Upgrade]))
            }
            // C2S-01: no login in clear, of whatever kind.
            Input::Element(frame) if Profile::of(frame.head().namespace()).is_some() => {
                Err(Fault::told(Reason::NotBound, b""))
            }
            Input::Element(frame) => misplaced(&frame, Reason::UnsupportedStanzaType),
            Input::Space | Input::Tried(_) => Ok((Serving::Clear(self), Vec::new())),
            _ => Err(Fault::told(Reason::Internal, b"")),
        }
    }
}

impl Upgrading {
    fn step(self, desk: &Desk, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Secured(secured) => {
                // TLS-07: everything learned before TLS is forgotten, but the name whose certificate was shown.
                let shown = secured.shown.clone().or(Some(self.to));
                let line = Line { secured: true, shown, ..self.line };
                let greeting = Greeting { line, deadline: now + desk.header_time, ready: None };
                Ok((Serving::Greeting(greeting), vec![Effect::Restart]))
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
            Input::Space | Input::Tried(_) => Ok((Serving::Waiting(self), Vec::new())),
            Input::Element(frame) => misplaced(&frame, Reason::NotBound),
            _ => Err(Fault::told(Reason::BackendFault, b"")),
        }
    }

    fn offered(self, offer: Offer) -> (Serving, Vec<Effect>) {
        let features = Effect::Send(offer.text.clone().into());
        let next = match self.line.own {
            Some(_) => Serving::Binding(Binding { line: self.line, asked: false }),
            None => Serving::Login(Box::new(Login {
                line: self.line,
                offer,
                exchange: None,
                held: None,
                due: false,
                aborting: None,
                registering: Registering::No,
            })),
        };
        (next, vec![features])
    }
}

impl Binding {
    fn step(mut self, desk: &Desk, input: Input) -> Stepped {
        match input {
            Input::Element(frame) => self.element(desk, &frame),
            Input::Space | Input::Tried(_) => Ok((Serving::Binding(self), Vec::new())),
            Input::Word(word, octets) if self.asked => match word {
                Word::Bound(own) => Ok(bound(self.line, own, octets)),
                // SM-05: the session is that of an account that this login was granted for.
                Word::Resumed => match self.line.own.clone() {
                    Some(own) => Ok(bound(self.line, own, octets)),
                    None => Err(Fault::told(Reason::Internal, b"")),
                },
                Word::Refused => {
                    self.asked = false;
                    Ok((Serving::Binding(self), vec![Effect::Send(octets)]))
                }
                _ => Err(Fault::told(Reason::BackendFault, b"")),
            },
            _ => Err(Fault::told(Reason::BackendFault, b"")),
        }
    }

    fn element(mut self, desk: &Desk, frame: &Frame) -> Stepped {
        let head = frame.head();
        if is_legacy_auth(frame) {
            return Err(Fault::told(Reason::LegacyAuth, b""));
        }
        let (ask, octets) = match head.kind() {
            Kind::Iq if is_bind(frame) => {
                let id = head.id().unwrap_or_default();
                if let (Some(from), Some(own)) = (head.from(), &self.line.own)
                    && !own.may_say(&from)
                {
                    return Err(Fault::told(Reason::ForgedFrom, b""));
                }
                (Ask::Bind(id.into_owned()), without_from(frame))
            }
            Kind::Other if is_management(frame) && head.name() == "resume" => {
                (Ask::Resume, frame.tree().write().into())
            }
            _ => return misplaced(frame, Reason::NotBound),
        };
        self.line.binds = self.line.binds.saturating_add(1);
        if self.line.binds > desk.binds {
            return Err(Fault::told(Reason::TooManyBinds, b""));
        }
        self.asked = true;
        Ok((Serving::Binding(self), vec![Effect::Say(ask, octets)]))
    }
}

fn bound(line: Line, own: Own, octets: Bytes) -> (Serving, Vec<Effect>) {
    (Serving::Bound(Bound { line, own }), vec![Effect::Send(octets), Effect::Bound])
}

impl Bound {
    fn step(self, input: Input) -> Stepped {
        match input {
            Input::Element(frame) => self.element(frame),
            Input::Space | Input::Tried(_) => Ok((Serving::Bound(self), Vec::new())),
            Input::Word(Word::Nonza, octets) => Ok((Serving::Bound(self), vec![Effect::Send(octets)])),
            _ => Err(Fault::told(Reason::BackendFault, b"")),
        }
    }

    fn element(self, frame: Frame) -> Stepped {
        let head = frame.head();
        if head.kind() != Kind::Other {
            return match barred(&frame) {
                Some(reason) => Err(Fault::told(reason, b"")),
                None => Ok((Serving::Bound(self), vec![Effect::Pass(frame)])),
            };
        }
        let management = is_management(&frame) && matches!(head.name(), "enable" | "r" | "a");
        let state = head.namespace() == names::CSI && matches!(head.name(), "active" | "inactive");
        if management || state {
            let octets = frame.tree().write();
            return Ok((Serving::Bound(self), vec![Effect::Say(Ask::Nonza, octets.into())]));
        }
        misplaced(&frame, Reason::UnsupportedStanzaType)
    }
}

/// Why a stanza has no place on a stream that has its address.
fn barred(frame: &Frame) -> Option<Reason> {
    if is_legacy_auth(frame) {
        return Some(Reason::LegacyAuth);
    }
    // C2S-14: jabberd2 would bind one more address to the stream.
    let binds = frame.head().children().any(|child| child.namespace() == names::BIND);
    binds.then_some(Reason::TooManyBinds)
}

/// An element that has no place: what belongs between servers is named as such (C2S-17).
fn misplaced(frame: &Frame, reason: Reason) -> Stepped {
    let reason = match frame.head().namespace() {
        names::SERVER => Reason::InvalidNamespace,
        names::DIALBACK => Reason::UnsupportedStanzaType,
        _ if frame.head().kind() != Kind::Other => Reason::NotBound,
        _ => reason,
    };
    Err(Fault::told(reason, b""))
}

/// TLS-02 to TLS-04.
fn bad_starttls() -> Fault {
    Fault::worded(Reason::BadStarttls, &format!("<failure xmlns='{}'/>", names::TLS))
}

fn is_bind(frame: &Frame) -> bool {
    let head = frame.head();
    let only =
        head.only_child().is_some_and(|child| child.namespace() == names::BIND && child.name() == "bind");
    only && head.type_().as_deref() == Some("set") && head.id().is_some_and(|id| !id.is_empty())
}

fn is_legacy_auth(frame: &Frame) -> bool {
    let head = frame.head();
    head.kind() == Kind::Iq && head.children().any(|child| child.namespace() == names::LEGACY_AUTH)
}

fn is_management(frame: &Frame) -> bool {
    matches!(frame.head().namespace(), names::STREAM_MANAGEMENT | names::STREAM_MANAGEMENT_2)
}

fn without_from(frame: &Frame) -> Bytes {
    rewrite(frame, &Edits { remove_from: frame.head().from().is_some(), ..Edits::default() })
}

fn send(text: String) -> Effect {
    Effect::Send(text.into())
}
