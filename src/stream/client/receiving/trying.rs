//! Logging in: what a client may say in an exchange, and what the backend's answers make of it (C2S-05 to C2S-12, C2S-19).

use std::time::Instant;

use bytes::Bytes;

use super::super::features::goes_with_bind;
use super::super::login::{self, Profile, ShownAccount};
use super::super::{Ask, Cause, Granted, Mechanism, Own, ServerAnswer, Wants};
use super::{
    Bound, ClientReceiving, ClientReceivingParams, Effect, Exchange, Greeting, Input, Login, Registering,
    Stepped, Waiting, bad_starttls, is_legacy_auth, is_management, misplaced, no_compression, send,
    unexpected, without_from,
};
use crate::reason::{Reason, SaslCondition};
use crate::stream::fault::Fault;
use crate::xml::{Element, Frame, Kind, escape_attr, names};

impl Login {
    pub(super) fn step(mut self, params: &ClientReceivingParams, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Element(frame) => self.element(params, &frame),
            // C2S-19.
            Input::Space if self.is_in_sasl2() => Err(Fault::told(Reason::NotBound, b"")),
            Input::Space => self.stay(Vec::new()),
            Input::Tried(result) => match (self.held.take(), result) {
                (None, result) => self.applied(result),
                // The backend ended the exchange while leave was asked.
                (Some((_, Ask::Response, _)), Ok(())) if self.exchange.is_none() => self.stay(Vec::new()),
                (Some((exchange, ask, octets)), Ok(())) => {
                    self.exchange = Some(exchange);
                    self.say(ask, octets, Vec::new())
                }
                (Some((exchange, ..)), Err(reason)) => {
                    let condition = match reason == Reason::ClientCertificateOther {
                        true => SaslCondition::NotAuthorized,
                        false => SaslCondition::TemporaryAuthFailure,
                    };
                    let failure = exchange.profile.failure(condition);
                    Err(Fault::told(reason, failure.as_bytes()))
                }
            },
            Input::Word(word, octets) => self.word(params, word, octets, now),
            _ => Err(Fault::told(Reason::BackendFault, b"")),
        }
    }

    fn is_in_sasl2(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.profile == Profile::Sasl2)
    }

    fn element(self, params: &ClientReceivingParams, frame: &Frame) -> Stepped {
        let head = frame.head();
        if head.kind() != Kind::Other {
            return self.stanza(frame);
        }
        match (head.namespace(), head.name()) {
            (names::TLS, "starttls") => Err(bad_starttls()),
            // C2S-19: nothing but its own vocabulary has a place in a SASL2 login.
            (namespace, _) if namespace != names::SASL2 && self.is_in_sasl2() => {
                misplaced(frame, Reason::NotBound)
            }
            (names::COMPRESSION, "compress") => self.stay(vec![no_compression()]),
            (_, "enable" | "resume") if is_management(frame) => self.stay(vec![unexpected(frame)]),
            (names::SASL, "auth") => self.auth(params, &frame.tree()),
            (names::SASL2, "authenticate") if self.offer.sasl2.is_some() => self.auth(params, &frame.tree()),
            (names::SASL, "response" | "abort") => self.reply(params, Profile::Sasl, &frame.tree()),
            (names::SASL2, "response" | "abort") if self.offer.sasl2.is_some() => {
                self.reply(params, Profile::Sasl2, &frame.tree())
            }
            _ => misplaced(frame, Reason::NotBound),
        }
    }

    /// C2S-08: an account may be asked for where that is allowed; legacy logins never.
    fn stanza(mut self, frame: &Frame) -> Stepped {
        let head = frame.head();
        if is_legacy_auth(frame) {
            return Err(Fault::told(Reason::LegacyAuth, b""));
        }
        let only = head.only_child().is_some_and(|child| child.namespace() == names::REGISTER);
        let asks = matches!(head.type_().as_deref(), Some("get" | "set"));
        match head.id() {
            _ if self.is_in_sasl2() => Err(Fault::told(Reason::NotBound, b"")),
            Some(id) if !self.offer.registration && only && asks && !id.is_empty() => {
                let reason = Reason::RegistrationOff;
                self.stay(vec![refusal(&id, reason), Effect::Declined(reason)])
            }
            Some(id) if only && asks && !id.is_empty() => {
                let (id, octets) = (id.into_owned(), without_from(frame));
                // To be shown the form costs nobody anything.
                let asks_leave = head.type_().as_deref() == Some("set");
                self.registering = if asks_leave {
                    Registering::Leave(id.clone(), octets.clone())
                } else {
                    Registering::Due
                };
                let effect =
                    if asks_leave { Effect::MayRegister } else { Effect::Say(Ask::Register(id), octets) };
                self.stay(vec![effect])
            }
            _ => Err(Fault::told(Reason::NotBound, b"")),
        }
    }

    /// Whether an account may be asked for. Who may not now, may later: the stream goes on (XEP-0077 5, RFC 6120 8.3.3.18).
    fn applied(mut self, leave: Result<(), Reason>) -> Stepped {
        match (std::mem::replace(&mut self.registering, Registering::No), leave) {
            (Registering::Leave(id, octets), Ok(())) => {
                self.registering = Registering::Due;
                self.stay(vec![Effect::Say(Ask::Register(id), octets)])
            }
            (Registering::Leave(id, _), Err(reason)) => {
                self.stay(vec![refusal(&id, reason), Effect::Declined(reason)])
            }
            (registering, _) => {
                self.registering = registering;
                self.stay(Vec::new())
            }
        }
    }

    fn auth(mut self, params: &ClientReceivingParams, element: &Element) -> Stepped {
        let profile = Profile::of(&element.namespace).unwrap_or(Profile::Sasl);
        let mechanism = element.attr("mechanism").and_then(Mechanism::parse);
        // C2S-06: hiding alone is not enforcement.
        let offered = |mechanism: &Mechanism| match (profile, &self.offer.sasl2) {
            (Profile::Sasl, _) => self.offer.sasl.contains(mechanism),
            (Profile::Sasl2, Some(inline)) => {
                inline.mechanisms.contains(mechanism) || inline.tokens.contains(mechanism)
            }
            (Profile::Sasl2, None) => false,
        };
        let Some(mechanism) = mechanism.filter(offered) else {
            return self.refuse(params, profile, SaslCondition::InvalidMechanism);
        };
        let read = match profile {
            Profile::Sasl => login::payload(element).map(|payload| {
                let text = element.text();
                let octets =
                    format!("<auth xmlns='{}' mechanism='{}'>{text}</auth>", names::SASL, mechanism.name());
                (payload, Wants::default(), octets)
            }),
            Profile::Sasl2 => self.authenticate(element),
        };
        let (payload, wants, octets) = match read {
            Ok(read) => read,
            Err(condition) => return self.refuse(params, profile, condition),
        };
        let exchange = Exchange { profile, mechanism, account: None, asked: false, as_other: false };
        let ask = Ask::Auth(profile, mechanism, wants);
        match payload {
            Some(payload) => self.try_out(exchange, &payload, ask, octets),
            None => {
                self.exchange = Some(exchange);
                self.say(ask, octets.into(), Vec::new())
            }
        }
    }

    /// C2S-19: what goes with a SASL2 login must have been offered with it.
    fn authenticate(&self, element: &Element) -> Result<(Option<Vec<u8>>, Wants, String), SaslCondition> {
        let inline = self.offer.sasl2.as_ref().ok_or(SaslCondition::InvalidMechanism)?;
        let (mut payload, mut wants) = (None, Wants::default());
        for child in element.elements() {
            match (child.namespace.as_str(), child.name.as_str()) {
                (names::SASL2, "initial-response") if payload.is_none() => {
                    payload = Some(login::payload(child)?.unwrap_or_default());
                }
                (names::SASL2, "user-agent") => {}
                (names::BIND2, "bind") if inline.bind && child.elements().all(goes_with_bind) => {
                    wants.bind = true
                }
                (names::STREAM_MANAGEMENT, "resume") if inline.resume => wants.resume = true,
                (names::FAST, "request-token") => {
                    let token = child.attr("mechanism").and_then(Mechanism::parse);
                    if !token.is_some_and(|token| inline.tokens.contains(&token)) {
                        return Err(SaslCondition::InvalidMechanism);
                    }
                }
                (names::FAST, "fast") if !inline.tokens.is_empty() => {}
                _ => return Err(SaslCondition::MalformedRequest),
            }
        }
        Ok((payload, wants, element.write()))
    }

    /// C2S-10: an answer or an abort needs an exchange of its own vocabulary.
    fn reply(mut self, params: &ClientReceivingParams, profile: Profile, element: &Element) -> Stepped {
        let aborts = element.name == "abort";
        let exchange = match &self.exchange {
            Some(exchange) if exchange.profile == profile => exchange.clone(),
            _ if aborts => return self.refuse(params, profile, SaslCondition::Aborted),
            _ => return self.refuse(params, profile, SaslCondition::MalformedRequest),
        };
        if aborts {
            return self.say(Ask::Abort, profile.abort().into(), Vec::new());
        }
        let payload = match login::payload(element) {
            Ok(payload) => payload.unwrap_or_default(),
            Err(condition) => return self.refuse(params, profile, condition),
        };
        let octets = format!("<response xmlns='{}'>{}</response>", profile.namespace(), element.text());
        if exchange.asked {
            return self.say(Ask::Response, octets.into(), Vec::new());
        }
        self.exchange = Some(exchange.clone());
        self.try_out(exchange, &payload, Ask::Response, octets)
    }

    /// The first payload shows the account: leave is asked before the backend hears it (C2S-11).
    fn try_out(mut self, mut exchange: Exchange, payload: &[u8], ask: Ask, octets: String) -> Stepped {
        let shown = self.line.domain.as_ref().map(|domain| login::shown(exchange.mechanism, payload, domain));
        let ShownAccount { account, as_other } = shown.unwrap_or_default();
        (exchange.asked, exchange.as_other) = (true, as_other);
        exchange.account.clone_from(&account);
        let mechanism = exchange.mechanism;
        self.held = Some((exchange, ask, octets.into()));
        self.stay(vec![Effect::MayLogin(mechanism, account)])
    }

    /// A refusal of ours. An exchange that is under way is ended with the backend first.
    fn refuse(
        mut self,
        params: &ClientReceivingParams,
        profile: Profile,
        condition: SaslCondition,
    ) -> Stepped {
        let reason = match condition {
            SaslCondition::InvalidMechanism => Reason::MechanismNotOffered,
            _ => Reason::LoginUnfit,
        };
        if let Some(exchange) = &self.exchange {
            let abort = exchange.profile.abort();
            self.aborting = Some(condition);
            return self.say(Ask::Abort, abort.into(), vec![Effect::Refused(reason)]);
        }
        let effects = vec![Effect::Refused(reason)];
        self.failed(params, None, profile.failure(condition).into(), effects)
    }

    /// C2S-11: one failure more; with a mechanism, a guess. Every mechanism that is offered may fail once: clients try the
    /// strongest first, and a server may know an account by one of them alone.
    fn failed(
        mut self,
        params: &ClientReceivingParams,
        guess: Option<Mechanism>,
        failure: Bytes,
        mut effects: Vec<Effect>,
    ) -> Stepped {
        let guesses = usize::from(params.sasl_attempts);
        let most = guesses.max(self.offer.ways());
        let over = match guess {
            Some(mechanism) => {
                self.guesses.push(mechanism);
                let same = self.guesses.iter().filter(|guess| **guess == mechanism).count();
                same >= guesses || self.guesses.len() >= most
            }
            None => {
                self.misfits = self.misfits.saturating_add(1);
                usize::from(self.misfits) >= most
            }
        };
        if over {
            return Err(Fault::told(Reason::TooManySasl, &failure));
        }
        effects.insert(0, Effect::Send(failure));
        self.stay(effects)
    }

    fn word(
        mut self,
        params: &ClientReceivingParams,
        word: ServerAnswer,
        octets: Bytes,
        now: Instant,
    ) -> Stepped {
        let Some(exchange) = self.exchange.clone() else {
            return match word {
                ServerAnswer::Registered if self.registering == Registering::Due => {
                    self.registering = Registering::No;
                    self.stay(vec![Effect::Send(octets)])
                }
                _ => Err(Fault::told(Reason::BackendFault, b"")),
            };
        };
        self.due = match (&word, self.aborting) {
            (ServerAnswer::Registered, _) => self.due,
            (word, aborting) => *word == ServerAnswer::Challenge && aborting.is_some(),
        };
        match (word, self.aborting) {
            (ServerAnswer::Registered, None) if self.registering == Registering::Due => {
                self.registering = Registering::No;
                self.stay(vec![Effect::Send(octets)])
            }
            (ServerAnswer::Challenge, Some(_)) => self.stay(Vec::new()),
            (ServerAnswer::Failure(_), Some(condition)) => {
                (self.exchange, self.aborting) = (None, None);
                self.failed(params, None, exchange.profile.failure(condition).into(), Vec::new())
            }
            (ServerAnswer::Challenge, None) => self.stay(vec![Effect::Send(octets)]),
            (ServerAnswer::Failure(cause), None) => {
                self.exchange = None;
                let guess = (cause == Cause::Guess).then_some(exchange.mechanism);
                self.failed(params, guess, octets, Vec::new())
            }
            (ServerAnswer::Success(granted), None) => {
                Ok(self.granted(params, exchange, granted, octets, now))
            }
            _ => Err(Fault::told(Reason::BackendFault, b"")),
        }
    }

    /// C2S-12, C2S-13: the backend's own word, in an exchange that this client started.
    fn granted(
        self,
        params: &ClientReceivingParams,
        exchange: Exchange,
        granted: Granted,
        octets: Bytes,
        now: Instant,
    ) -> (ClientReceiving, Vec<Effect>) {
        let mut line = self.line;
        let send = Effect::Send(octets);
        match granted {
            Granted::Restart => {
                let account = exchange.account.filter(|_| !exchange.as_other);
                line.own = line.domain.as_ref().map(|domain| Own::by_login(account, domain));
                let deadline = now + params.header_time;
                (
                    ClientReceiving::Greeting(Greeting { line, deadline, ready: None }),
                    vec![send, Effect::Restart],
                )
            }
            Granted::Open(own) => {
                line.own = Some(own);
                (ClientReceiving::Waiting(Waiting { line }), vec![send])
            }
            Granted::Bound(own) => (ClientReceiving::Bound(Bound { own }), vec![send, Effect::Bound]),
        }
    }

    /// This goes to the backend, whose answer is due.
    fn say(mut self, ask: Ask, octets: Bytes, mut effects: Vec<Effect>) -> Stepped {
        self.due = true;
        effects.push(Effect::Say(ask, octets));
        self.stay(effects)
    }

    fn stay(self, effects: Vec<Effect>) -> Stepped {
        Ok((ClientReceiving::Login(Box::new(self)), effects))
    }
}

/// The answer to a question about an account.
fn refusal(id: &str, reason: Reason) -> Effect {
    let condition = reason.stanza_condition();
    send(format!(
        "<iq type='error' id='{}'><error type='{}'><{} xmlns='{}'/></error></iq>",
        escape_attr(id),
        condition.kind(),
        condition.name(),
        names::STANZA_ERRORS,
    ))
}
