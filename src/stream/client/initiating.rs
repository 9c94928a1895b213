//! The client towards the server inside: the stream that we open for one client, state by state.
//!
//! It says what the client asked for and hears what the server answers. An answer that nobody asked for, an address outside
//! the domain or an element out of place is the server's fault and ends the stream: nothing of it reaches the client
//! (C2S-12, C2S-13, C2S-18).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::jid::Domain;
use crate::reason::Reason;
use crate::xml::{Element, Frame, Header, Kind, Node, names};

use super::ended::Ending;
use super::features::{self, ClientOffer, Rules};
use super::login::{self, Profile};
use super::signed::{ShownMechanisms, Signed};
use super::{Ask, Granted, Mechanism, Own, ServerAnswer, Wants, opening};
use crate::stream::fault::Fault;

/// What the stream is opened for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientInitiatingParams {
    /// The hosted domain.
    pub to: Domain,
    /// The `xml:lang` of the client's stream, in which its server then speaks (C2S-02).
    pub language: Option<String>,
    /// What the client may see and use.
    pub rules: Rules,
    /// T-header, for the header and for the features.
    pub step_time: Duration,
}

/// What may happen to it.
#[derive(Clone, Debug)]
pub enum Input {
    /// The connection stands.
    Connected,
    /// A stream header.
    Header(Header),
    /// A first-level element.
    Element(Frame),
    /// The closing tag.
    End,
    /// The client asks for this, in these words.
    Say(Ask, Bytes),
    /// The deadline passed.
    Expired,
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Octets to the server.
    Send(Bytes),
    /// A new stream on this connection.
    Restart,
    /// Features, as the client may see them.
    Offered(ClientOffer),
    /// The server has vouched to the client for a list that the client was not shown (CB-09).
    Signed,
    /// A word of the server, as the client may hear it.
    Word(ServerAnswer, Bytes),
    /// A stanza for the client.
    Deliver(Frame),
    /// The server ended its stream with an error.
    PeerError(Ending),
    /// The server closed its stream.
    Closed,
}

/// A step: the next state and what to do, or the end.
pub type Stepped = Result<(ClientInitiating, Vec<Effect>), Fault>;

/// The client towards the server inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientInitiating {
    /// The login is granted; a resource is asked for or not.
    Binding(AfterLogin),
    /// Stanzas pass; whether features may still come after SASL2.
    Bound(bool),
    /// No connection yet.
    Dialling,
    /// The header is in; features are due.
    Featuring(OpeningStep),
    /// The login. Boxed: it holds much, and soon is over.
    Login(Box<LoggingIn>),
    /// Our header is out; the response header is due.
    Opening(OpeningStep),
}

/// A step of the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpeningStep {
    deadline: Instant,
    /// The login was granted.
    granted: bool,
}

impl OpeningStep {
    /// Whether nothing of the client's was said yet.
    pub fn is_first(&self) -> bool {
        !self.granted
    }
}

/// A login, and what stands beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoggingIn {
    /// The exchange that goes on.
    exchange: Option<(Profile, Mechanism, Wants)>,
    /// The id of a question about an account whose answer is due.
    registering: Option<String>,
    /// What of its lists the client was shown.
    shown: ShownMechanisms,
}

impl LoggingIn {
    /// Whether an exchange goes on.
    #[cfg(any(test, feature = "seen"))]
    pub fn is_tried(&self) -> bool {
        self.exchange.is_some()
    }

    /// Whether an answer about an account is due.
    #[cfg(any(test, feature = "seen"))]
    pub fn is_registering(&self) -> bool {
        self.registering.is_some()
    }
}

/// What was asked for after the login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AfterLogin {
    /// A resource, with this id.
    Bind(String),
    /// Nothing.
    Nothing,
    /// The session of an earlier stream.
    Resume,
    /// The session of RFC 3921, with this id.
    Session(String),
}

impl ClientInitiating {
    /// Whether this element changes nothing here and is delivered: what a step would make of it.
    pub fn delivers(&self, frame: &Frame) -> bool {
        matches!(self, Self::Bound(_)) && frame.head().kind() != Kind::Other && !binds_anew(frame)
    }

    /// The next state for this input.
    ///
    /// # Errors
    /// The end of the stream.
    pub fn step(self, terms: &ClientInitiatingParams, input: Input, now: Instant) -> Stepped {
        match (self, input) {
            (Self::Dialling, Input::Connected) => Ok(open(terms, false, Vec::new(), now)),
            (Self::Dialling, _) => Err(Fault::silent(Reason::Internal)),
            (state, Input::Element(frame)) if frame.is(names::STREAMS, "error") => {
                let ending = Ending::read(&frame.tree());
                Ok((state, vec![Effect::PeerError(ending)]))
            }
            (state, Input::End) => Ok((state, vec![Effect::Closed])),
            (Self::Opening(step), Input::Header(header)) => {
                // The features of a login are those of RFC 6120; a server without a version has none.
                if header.version.is_none_or(|(major, _)| major < 1) {
                    return broken();
                }
                let deadline = now + terms.step_time;
                Ok((Self::Featuring(OpeningStep { deadline, ..step }), Vec::new()))
            }
            (Self::Opening(_) | Self::Featuring(_), Input::Expired) => {
                Err(Fault::closed(Reason::BackendFault))
            }
            (Self::Featuring(step), Input::Element(frame)) if is_features(&frame) => {
                featured(terms, step.granted, &frame.tree())
            }
            (state, Input::Say(ask, octets)) => state.say(ask, octets),
            (Self::Login(login), Input::Element(frame)) => heard_in_login(terms, *login, &frame, now),
            (Self::Binding(asked), Input::Element(frame)) => heard_in_binding(terms, asked, &frame),
            (Self::Bound(due), Input::Element(frame)) => heard_when_bound(terms, due, frame),
            // Nothing is awaited there by time.
            (state, Input::Expired) => Ok((state, Vec::new())),
            _ => broken(),
        }
    }

    /// When `Expired` is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Opening(step) | Self::Featuring(step) => Some(step.deadline),
            _ => None,
        }
    }

    /// The octets that end the stream with `reason` in this state.
    pub fn fault(self, reason: Reason) -> Fault {
        match self {
            Self::Dialling => Fault::silent(reason),
            _ => Fault::told(reason, b""),
        }
    }

    /// Whether stanzas may pass.
    pub fn is_bound(&self) -> bool {
        matches!(self, Self::Bound(_))
    }

    /// What the client asked goes out, and is remembered where it has an answer.
    fn say(self, ask: Ask, octets: Bytes) -> Stepped {
        let next = match (self, ask) {
            (Self::Login(mut login), ask) => {
                match ask {
                    Ask::Auth(profile, mechanism, wants) => {
                        login.exchange = Some((profile, mechanism, wants))
                    }
                    Ask::Response | Ask::Abort if login.exchange.is_some() => {}
                    Ask::Register(id) => login.registering = Some(id),
                    _ => return Err(Fault::closed(Reason::Internal)),
                }
                Self::Login(login)
            }
            (Self::Binding(AfterLogin::Nothing), Ask::Bind(id)) => Self::Binding(AfterLogin::Bind(id)),
            (Self::Binding(AfterLogin::Nothing), Ask::Resume) => Self::Binding(AfterLogin::Resume),
            (Self::Binding(AfterLogin::Nothing), Ask::Session(id)) => Self::Binding(AfterLogin::Session(id)),
            (state @ (Self::Binding(AfterLogin::Nothing) | Self::Bound(_)), Ask::Nonza) => state,
            _ => return Err(Fault::closed(Reason::Internal)),
        };
        Ok((next, vec![Effect::Send(octets)]))
    }
}

/// Sends our header; the response header is due.
fn open(
    terms: &ClientInitiatingParams,
    granted: bool,
    mut effects: Vec<Effect>,
    now: Instant,
) -> (ClientInitiating, Vec<Effect>) {
    // STR-15: no `from`; who it is the server learns in the login.
    let header = opening(None, Some(terms.to.as_str()), None, terms.language.as_deref());
    effects.push(Effect::Send(header.into()));
    (ClientInitiating::Opening(OpeningStep { deadline: now + terms.step_time, granted }), effects)
}

fn featured(terms: &ClientInitiatingParams, granted: bool, tree: &Element) -> Stepped {
    let offer = match granted {
        false => features::before_login(tree, &terms.rules),
        true => features::after_login(tree, &terms.rules),
    };
    let offer = offer.map_err(Fault::closed)?;
    let next = match granted {
        false => ClientInitiating::Login(Box::new(LoggingIn {
            shown: offer.shown.clone(),
            ..LoggingIn::default()
        })),
        true => ClientInitiating::Binding(AfterLogin::Nothing),
    };
    Ok((next, vec![Effect::Offered(offer)]))
}

fn heard_in_login(
    terms: &ClientInitiatingParams,
    mut login: LoggingIn,
    frame: &Frame,
    now: Instant,
) -> Stepped {
    if login.registering.as_ref().is_some_and(|id| answers(frame, id)) {
        login.registering = None;
        let word = Effect::Word(ServerAnswer::Registered, frame.octets().clone());
        return Ok((ClientInitiating::Login(Box::new(login)), vec![word]));
    }
    let Some((profile, mechanism, wants)) = login.exchange else { return broken() };
    if frame.head().namespace() != profile.namespace() {
        return broken();
    }
    let tree = frame.tree();
    let octets = Bytes::from(without_location(&tree).write());
    match (profile, tree.name.as_str()) {
        (_, "challenge") => {
            let Ok(message) = login::payload(&tree) else { return broken() };
            let mut effects = vec![Effect::Word(ServerAnswer::Challenge, octets)];
            if login.shown.signed(profile, mechanism, &message.unwrap_or_default()) == Signed::Other {
                effects.push(Effect::Signed);
            }
            Ok((ClientInitiating::Login(Box::new(login)), effects))
        }
        (_, "failure") => {
            login.exchange = None;
            let effects = vec![Effect::Word(ServerAnswer::Failure(login::cause(&tree)), octets)];
            Ok((ClientInitiating::Login(Box::new(login)), effects))
        }
        (Profile::Sasl, "success") if login::payload(&tree).is_ok() => {
            let word = Effect::Word(ServerAnswer::Success(Granted::Restart), octets);
            Ok(open(terms, true, vec![word, Effect::Restart], now))
        }
        (Profile::Sasl2, "success") => succeeded(terms, wants, &tree, now),
        _ => broken(),
    }
}

/// C2S-13, C2S-19: a SASL2 success says who the client is, and what came with the login.
fn succeeded(terms: &ClientInitiatingParams, wants: Wants, tree: &Element, now: Instant) -> Stepped {
    let data = tree.child(names::SASL2, "additional-data");
    if data.is_some_and(|data| login::payload(data).is_err()) {
        return broken();
    }
    let Some(identifier) = tree.child(names::SASL2, "authorization-identifier").map(Element::text) else {
        return broken();
    };
    let resumed = tree.child(names::STREAM_MANAGEMENT, "resumed").is_some();
    let bound = tree.child(names::BIND2, "bound").is_some();
    if (resumed && !wants.resume) || (bound && !wants.bind) || (resumed && bound) {
        return broken();
    }
    let own = match bound {
        true => Own::by_bind(&identifier, &terms.to),
        false => Own::by_identifier(&identifier, &terms.to),
    };
    let own = own.map_err(Fault::closed)?;
    let (next, granted) = match (bound, resumed) {
        (false, false) => {
            let deadline = now + terms.step_time;
            (ClientInitiating::Featuring(OpeningStep { deadline, granted: true }), Granted::Open(own))
        }
        // XEP-0388 2.6: features follow. COMPAT: ejabberd 24.12 writes none behind a resumption, Prosody 13 writes them behind
        // what waited there; so stanzas may pass, and features may come.
        _ => (ClientInitiating::Bound(true), Granted::Bound(own)),
    };
    let known = |node: &Node| match node {
        Node::Element(e) => WITH_SUCCESS.contains(&e.namespace.as_str()),
        Node::Text(_) => false,
    };
    let kept = tree.with(tree.children.iter().filter(|node| known(node)).cloned().collect());
    let octets = without_location(&kept).write();
    Ok((next, vec![Effect::Word(ServerAnswer::Success(granted), octets.into())]))
}

fn heard_in_binding(terms: &ClientInitiatingParams, asked: AfterLogin, frame: &Frame) -> Stepped {
    let head = frame.head();
    let manages = is_management(frame);
    let (next, word, octets) = match asked {
        AfterLogin::Bind(id) if answers(frame, &id) => {
            let octets = frame.octets().clone();
            if head.type_().as_deref() == Some("error") {
                (ClientInitiating::Binding(AfterLogin::Nothing), ServerAnswer::Answered, octets)
            } else {
                let tree = frame.tree();
                let address = tree
                    .child(names::BIND, "bind")
                    .and_then(|bind| bind.child(names::BIND, "jid"))
                    .map(Element::text)
                    .unwrap_or_default();
                let own = Own::by_bind(&address, &terms.to).map_err(Fault::closed)?;
                (ClientInitiating::Bound(false), ServerAnswer::Bound(own), octets)
            }
        }
        AfterLogin::Resume if manages && head.name() == "resumed" => {
            (ClientInitiating::Bound(false), ServerAnswer::Resumed, frame.tree().write().into())
        }
        AfterLogin::Resume if manages && head.name() == "failed" => (
            ClientInitiating::Binding(AfterLogin::Nothing),
            ServerAnswer::Answered,
            frame.tree().write().into(),
        ),
        AfterLogin::Session(id) if answers(frame, &id) && !binds_anew(frame) => {
            (ClientInitiating::Binding(AfterLogin::Nothing), ServerAnswer::Answered, frame.octets().clone())
        }
        _ => return broken(),
    };
    Ok((next, vec![Effect::Word(word, octets)]))
}

fn heard_when_bound(terms: &ClientInitiatingParams, due: bool, frame: Frame) -> Stepped {
    let head = frame.head();
    // C2S-13: who the client is was said, and policed by that; jabberd2 binds one stream to several addresses if asked.
    if binds_anew(&frame) {
        return broken();
    }
    if head.kind() != Kind::Other {
        return Ok((ClientInitiating::Bound(due), vec![Effect::Deliver(frame)]));
    }
    if is_management(&frame) && matches!(head.name(), "a" | "enabled" | "failed" | "r") {
        let octets = without_location(&frame.tree()).write();
        return Ok((ClientInitiating::Bound(due), vec![Effect::Word(ServerAnswer::Nonza, octets.into())]));
    }
    if due && is_features(&frame) {
        let offer = features::after_login(&frame.tree(), &terms.rules).map_err(Fault::closed)?;
        return Ok((
            ClientInitiating::Bound(false),
            vec![Effect::Word(ServerAnswer::Nonza, offer.text.into())],
        ));
    }
    broken()
}

/// The server broke the protocol.
fn broken() -> Stepped {
    Err(Fault { reason: Reason::BackendFault, ..Fault::told(Reason::UnsupportedStanzaType, b"") })
}

/// SM-04: where a session lives inside is nobody's business outside.
fn without_location(element: &Element) -> Element {
    let manages = |e: &Element| {
        e.name == "enabled"
            && matches!(e.namespace.as_str(), names::STREAM_MANAGEMENT | names::STREAM_MANAGEMENT_2)
    };
    let children = element.children.iter().map(|node| match node {
        Node::Element(child) => Node::Element(without_location(child)),
        Node::Text(text) => Node::Text(text.clone()),
    });
    let mut copy = element.with(children.collect());
    if manages(element) {
        copy.attrs.retain(|(namespace, name, _)| namespace.is_some() || name != "location");
    }
    copy
}

fn is_features(frame: &Frame) -> bool {
    frame.is(names::STREAMS, "features")
}

fn is_management(frame: &Frame) -> bool {
    matches!(frame.head().namespace(), names::STREAM_MANAGEMENT | names::STREAM_MANAGEMENT_2)
}

/// Whether it is a result that binds the stream to an address.
fn binds_anew(frame: &Frame) -> bool {
    let head = frame.head();
    head.kind() == Kind::Iq
        && head.type_().as_deref() == Some("result")
        && head.children().any(|child| child.namespace() == names::BIND)
}

/// Whether it is the result or error of the iq with this id.
fn answers(frame: &Frame, id: &str) -> bool {
    let head = frame.head();
    head.kind() == Kind::Iq
        && head.id().as_deref() == Some(id)
        && matches!(head.type_().as_deref(), Some("result" | "error"))
}

/// What may come with a SASL2 success.
const WITH_SUCCESS: &[&str] = &[names::SASL2, names::BIND2, names::STREAM_MANAGEMENT, names::FAST];
