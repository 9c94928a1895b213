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

use super::features::{self, Offer, Rules};
use super::login::{self, Profile};
use super::{Ask, Granted, Own, Wants, Word, opening};
use crate::stream::fault::{self, Fault};

/// What the stream is opened for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The hosted domain.
    pub to: Domain,
    /// The bare address that the client gave in its header, if it did.
    pub from: Option<String>,
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
    Offered(Offer),
    /// The server has told the client a hash of what it offers (CB-09).
    Signed,
    /// A word of the server, as the client may hear it.
    Word(Word, Bytes),
    /// A stanza for the client.
    Deliver(Frame),
    /// The server sent a stream error with this condition.
    PeerError(String),
    /// The server closed its stream.
    Closed,
}

/// A step: the next state and what to do, or the end.
pub type Stepped = Result<(Posing, Vec<Effect>), Fault>;

/// The client towards the server inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Posing {
    /// The login is granted; a resource is asked for or not.
    Binding(Asked),
    /// Stanzas pass; whether features are still due after SASL2.
    Bound(bool),
    /// No connection yet.
    Dialling,
    /// The header is in; features are due.
    Featuring(Step),
    /// The login, and whether an answer about an account is due.
    Login(Option<(Profile, Wants)>, Option<String>),
    /// Our header is out; the response header is due.
    Opening(Step),
}

/// A step of the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    deadline: Instant,
    /// The login was granted.
    granted: bool,
}

impl Step {
    /// Whether nothing of the client's was said yet.
    pub fn is_first(&self) -> bool {
        !self.granted
    }
}

/// What was asked for after the login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// A resource, with this id.
    Bind(String),
    /// Nothing.
    Nothing,
    /// A session.
    Resume,
}

impl Posing {
    /// Whether this element changes nothing here and is delivered: what a step would make of it.
    pub fn delivers(&self, frame: &Frame) -> bool {
        matches!(self, Self::Bound(_)) && frame.head().kind() != Kind::Other
    }

    /// The next state for this input.
    pub fn step(self, terms: &Terms, input: Input, now: Instant) -> Stepped {
        match (self, input) {
            (Self::Dialling, Input::Connected) => Ok(open(terms, false, Vec::new(), now)),
            (Self::Dialling, _) => Err(Fault::silent(Reason::Internal)),
            // C2S-18: the condition is told, nothing else of it.
            (state, Input::Element(frame)) if frame.is(names::STREAMS, "error") => {
                let name = fault::condition(&frame.tree());
                Ok((state, vec![Effect::PeerError(name), Effect::Closed]))
            }
            (state, Input::End) => Ok((state, vec![Effect::Closed])),
            (Self::Opening(step), Input::Header(header)) => {
                // The features of a login are those of RFC 6120; a server without a version has none.
                if header.version.is_none_or(|(major, _)| major < 1) {
                    return broken();
                }
                let deadline = now + terms.step_time;
                Ok((Self::Featuring(Step { deadline, ..step }), Vec::new()))
            }
            (Self::Opening(_) | Self::Featuring(_), Input::Expired) => {
                Err(Fault::closed(Reason::BackendFault))
            }
            (Self::Featuring(step), Input::Element(frame)) if is_features(&frame) => {
                featured(terms, step.granted, &frame.tree())
            }
            (state, Input::Say(ask, octets)) => state.say(ask, octets),
            (Self::Login(exchange, registering), Input::Element(frame)) => {
                heard_in_login(terms, exchange, registering, &frame, now)
            }
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
            (Self::Login(_, registering), Ask::Auth(profile, wants)) => {
                Self::Login(Some((profile, wants)), registering)
            }
            (Self::Login(exchange @ Some(_), registering), Ask::Response | Ask::Abort) => {
                Self::Login(exchange, registering)
            }
            (Self::Login(exchange, _), Ask::Register(id)) => Self::Login(exchange, Some(id)),
            (Self::Binding(Asked::Nothing), Ask::Bind(id)) => Self::Binding(Asked::Bind(id)),
            (Self::Binding(Asked::Nothing), Ask::Resume) => Self::Binding(Asked::Resume),
            (state @ Self::Bound(_), Ask::Nonza) => state,
            _ => return Err(Fault::closed(Reason::Internal)),
        };
        Ok((next, vec![Effect::Send(octets)]))
    }
}

/// Sends our header; the response header is due.
fn open(terms: &Terms, granted: bool, mut effects: Vec<Effect>, now: Instant) -> (Posing, Vec<Effect>) {
    let header = opening(terms.from.as_deref(), Some(terms.to.as_str()), None);
    effects.push(Effect::Send(header.into()));
    (Posing::Opening(Step { deadline: now + terms.step_time, granted }), effects)
}

fn featured(terms: &Terms, granted: bool, tree: &Element) -> Stepped {
    let offer = match granted {
        false => features::before_login(tree, &terms.rules),
        true => features::after_login(tree, &terms.rules),
    };
    let next = match granted {
        false => Posing::Login(None, None),
        true => Posing::Binding(Asked::Nothing),
    };
    match offer {
        Ok(offer) => Ok((next, vec![Effect::Offered(offer)])),
        Err(reason) => Err(Fault::closed(reason)),
    }
}

fn heard_in_login(
    terms: &Terms,
    exchange: Option<(Profile, Wants)>,
    registering: Option<String>,
    frame: &Frame,
    now: Instant,
) -> Stepped {
    if let Some(id) = &registering
        && answers(frame, id)
    {
        let word = Effect::Word(Word::Registered, frame.octets().clone());
        return Ok((Posing::Login(exchange, None), vec![word]));
    }
    let Some((profile, wants)) = exchange else { return broken() };
    if frame.head().namespace() != profile.namespace() {
        return broken();
    }
    let tree = frame.tree();
    let octets = Bytes::from(without_location(&tree).write());
    match (profile, tree.name.as_str()) {
        (_, "challenge") => {
            let Ok(message) = login::payload(&tree) else { return broken() };
            let mut effects = vec![Effect::Word(Word::Challenge, octets)];
            if message.is_some_and(|message| login::signs_offer(&message)) {
                effects.push(Effect::Signed);
            }
            Ok((Posing::Login(exchange, registering), effects))
        }
        (_, "failure") => {
            let temporary = tree.child(names::SASL, "temporary-auth-failure").is_some();
            let effects = vec![Effect::Word(Word::Failure { temporary }, octets)];
            Ok((Posing::Login(None, registering), effects))
        }
        (Profile::Sasl, "success") if login::payload(&tree).is_ok() => {
            let word = Effect::Word(Word::Success(Granted::Restart), octets);
            Ok(open(terms, true, vec![word, Effect::Restart], now))
        }
        (Profile::Sasl2, "success") => succeeded(terms, wants, &tree, now),
        _ => broken(),
    }
}

/// C2S-13, C2S-19: a SASL2 success says who the client is, and what came with the login.
fn succeeded(terms: &Terms, wants: Wants, tree: &Element, now: Instant) -> Stepped {
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
            (Posing::Featuring(Step { deadline, granted: true }), Granted::Open(own))
        }
        // No features follow a resumption (XEP-0198 9.2).
        (bound, _) => (Posing::Bound(bound), Granted::Bound(own)),
    };
    let known = |node: &Node| match node {
        Node::Element(e) => WITH_SUCCESS.contains(&e.namespace.as_str()),
        Node::Text(_) => false,
    };
    let kept = tree.with(tree.children.iter().filter(|node| known(node)).cloned().collect());
    let octets = without_location(&kept).write();
    Ok((next, vec![Effect::Word(Word::Success(granted), octets.into())]))
}

fn heard_in_binding(terms: &Terms, asked: Asked, frame: &Frame) -> Stepped {
    let head = frame.head();
    let manages = is_management(frame);
    let (next, word, octets) = match asked {
        Asked::Bind(id) if answers(frame, &id) => {
            let octets = frame.octets().clone();
            if head.type_().as_deref() == Some("error") {
                (Posing::Binding(Asked::Nothing), Word::Refused, octets)
            } else {
                let tree = frame.tree();
                let address = tree
                    .child(names::BIND, "bind")
                    .and_then(|bind| bind.child(names::BIND, "jid"))
                    .map(Element::text)
                    .unwrap_or_default();
                let own = Own::by_bind(&address, &terms.to).map_err(Fault::closed)?;
                (Posing::Bound(false), Word::Bound(own), octets)
            }
        }
        Asked::Resume if manages && head.name() == "resumed" => {
            (Posing::Bound(false), Word::Resumed, frame.tree().write().into())
        }
        Asked::Resume if manages && head.name() == "failed" => {
            (Posing::Binding(Asked::Nothing), Word::Refused, frame.tree().write().into())
        }
        _ => return broken(),
    };
    Ok((next, vec![Effect::Word(word, octets)]))
}

fn heard_when_bound(terms: &Terms, due: bool, frame: Frame) -> Stepped {
    let head = frame.head();
    if head.kind() != Kind::Other {
        return Ok((Posing::Bound(due), vec![Effect::Deliver(frame)]));
    }
    if is_management(&frame) && matches!(head.name(), "a" | "enabled" | "failed" | "r") {
        let octets = without_location(&frame.tree()).write();
        return Ok((Posing::Bound(due), vec![Effect::Word(Word::Nonza, octets.into())]));
    }
    if due && is_features(&frame) {
        let offer = features::after_login(&frame.tree(), &terms.rules).map_err(Fault::closed)?;
        return Ok((Posing::Bound(false), vec![Effect::Word(Word::Nonza, offer.text.into())]));
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

/// Whether it is the result or error of the iq with this id.
fn answers(frame: &Frame, id: &str) -> bool {
    let head = frame.head();
    head.kind() == Kind::Iq
        && head.id().as_deref() == Some(id)
        && matches!(head.type_().as_deref(), Some("result" | "error"))
}

/// What may come with a SASL2 success.
const WITH_SUCCESS: &[&str] = &[names::SASL2, names::BIND2, names::STREAM_MANAGEMENT, names::FAST];
