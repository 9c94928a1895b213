//! After the login: the bind, and the stream on which stanzas pass (C2S-14, C2S-16, SM-02, SM-10).
//!
//! What each of the two states accepts is table 0.3 of the requirements. What servers answer goes to the server; what they
//! overlook is dropped and counted; the last arm refuses.

use bytes::Bytes;

use super::super::{Ask, Own, ServerAnswer};
use super::{
    Binding, Bound, ClientReceiving, ClientReceivingParams, Effect, Input, Stepped, bad_starttls,
    is_legacy_auth, is_management, misplaced, no_compression, unexpected, without_from,
};
use crate::reason::Reason;
use crate::stream::fault::Fault;
use crate::xml::{Frame, Kind, names};

impl Binding {
    pub(super) fn step(mut self, params: &ClientReceivingParams, input: Input) -> Stepped {
        match input {
            Input::Element(frame) => self.element(params, &frame),
            Input::Space | Input::Tried(_) => Ok((ClientReceiving::Binding(self), Vec::new())),
            Input::Word(word, octets) if self.asked => match word {
                ServerAnswer::Bound(own) => Ok(bound(own, octets)),
                // SM-05: the session is that of an account that this login was granted for.
                ServerAnswer::Resumed => Ok(bound(self.login, octets)),
                ServerAnswer::Answered => {
                    self.asked = false;
                    Ok((ClientReceiving::Binding(self), vec![Effect::Send(octets)]))
                }
                _ => Err(Fault::told(Reason::BackendFault, b"")),
            },
            _ => Err(Fault::told(Reason::BackendFault, b"")),
        }
    }

    fn element(mut self, params: &ClientReceivingParams, frame: &Frame) -> Stepped {
        let head = frame.head();
        if is_legacy_auth(frame) {
            return Err(Fault::told(Reason::LegacyAuth, b""));
        }
        let (ask, octets) = match head.kind() {
            Kind::Iq => match asked(frame) {
                Some(ask) => (ask, without_from(frame)),
                None => return misplaced(frame, Reason::NotBound),
            },
            Kind::Other if is_management(frame) && head.name() == "resume" => {
                (Ask::Resume, frame.tree().write().into())
            }
            Kind::Other if is_management(frame) && head.name() == "enable" => {
                return Ok((ClientReceiving::Binding(self), vec![unexpected(frame)]));
            }
            Kind::Other if is_client_state(frame) => {
                let say = Effect::Say(Ask::Nonza, frame.tree().write().into());
                return Ok((ClientReceiving::Binding(self), vec![say]));
            }
            _ => {
                return after_login(frame, Reason::NotBound)
                    .map(|effects| (ClientReceiving::Binding(self), effects));
            }
        };
        if head.from().is_some_and(|from| !self.login.may_say(&from)) {
            return Err(Fault::told(Reason::ForgedFrom, b""));
        }
        self.binds = self.binds.saturating_add(1);
        if self.binds > params.binds {
            return Err(Fault::told(Reason::TooManyBinds, b""));
        }
        self.asked = true;
        Ok((ClientReceiving::Binding(self), vec![Effect::Say(ask, octets)]))
    }
}

fn bound(own: Own, octets: Bytes) -> (ClientReceiving, Vec<Effect>) {
    (ClientReceiving::Bound(Bound { own }), vec![Effect::Send(octets), Effect::Bound])
}

impl Bound {
    pub(super) fn step(self, input: Input) -> Stepped {
        match input {
            Input::Element(frame) => self.element(frame),
            Input::Space | Input::Tried(_) => Ok((ClientReceiving::Bound(self), Vec::new())),
            Input::Word(ServerAnswer::Nonza, octets) => {
                Ok((ClientReceiving::Bound(self), vec![Effect::Send(octets)]))
            }
            _ => Err(Fault::told(Reason::BackendFault, b"")),
        }
    }

    fn element(self, frame: Frame) -> Stepped {
        let head = frame.head();
        if head.kind() != Kind::Other {
            return match barred(&frame) {
                Some(reason) => Err(Fault::told(reason, b"")),
                None => Ok((ClientReceiving::Bound(self), vec![Effect::Pass(frame)])),
            };
        }
        // The backend answers what has no place, a second `enable` or a resumption, and counts nothing for it (XEP-0198 3).
        let management = is_management(&frame) && matches!(head.name(), "a" | "enable" | "r" | "resume");
        if management || is_client_state(&frame) {
            let octets = frame.tree().write();
            return Ok((ClientReceiving::Bound(self), vec![Effect::Say(Ask::Nonza, octets.into())]));
        }
        if is_overlooked(&frame) {
            let overlooked = Effect::Overlooked(Reason::UnsupportedStanzaType);
            return Ok((ClientReceiving::Bound(self), vec![overlooked]));
        }
        after_login(&frame, Reason::UnsupportedStanzaType)
            .map(|effects| (ClientReceiving::Bound(self), effects))
    }
}

/// What is the same before and after the bind: a refusal of its own vocabulary, or the end.
fn after_login(frame: &Frame, reason: Reason) -> Result<Vec<Effect>, Fault> {
    match (frame.head().namespace(), frame.head().name()) {
        (names::COMPRESSION, "compress") => Ok(vec![no_compression()]),
        (names::TLS, "starttls") => Err(bad_starttls()),
        _ => misplaced(frame, reason),
    }
}

/// Table 0.3: what a server alone may say, or a client that is still logging in. Servers drop it, no stanza is made of it,
/// and nothing counts it (SM-02).
fn is_overlooked(frame: &Frame) -> bool {
    let (namespace, name) = (frame.head().namespace(), frame.head().name());
    match namespace {
        names::STREAM_MANAGEMENT | names::STREAM_MANAGEMENT_2 => {
            matches!(name, "enabled" | "failed" | "resumed")
        }
        names::STREAMS => name == "features",
        // An `auth` or `authenticate` is none of these: Prosody ends the stream.
        names::SASL | names::SASL2 => {
            matches!(name, "abort" | "challenge" | "continue" | "failure" | "response" | "success")
        }
        names::TLS => matches!(name, "failure" | "proceed"),
        _ => false,
    }
}

fn is_client_state(frame: &Frame) -> bool {
    frame.head().namespace() == names::CSI && matches!(frame.head().name(), "active" | "inactive")
}

/// What an iq asks for that has its place before the bind (C2S-14).
fn asked(frame: &Frame) -> Option<Ask> {
    let head = frame.head();
    let id = head.id().filter(|id| !id.is_empty() && head.type_().as_deref() == Some("set"))?;
    match head.only_child().map(|child| (child.namespace(), child.name()))? {
        (names::BIND, "bind") => Some(Ask::Bind(id.into_owned())),
        (names::SESSION, "session") => Some(Ask::Session(id.into_owned())),
        _ => None,
    }
}

/// Why a stanza has no place on a stream that has its address.
pub(super) fn barred(frame: &Frame) -> Option<Reason> {
    is_legacy_auth(frame).then_some(Reason::LegacyAuth)
}
