//! The first header of a client: which domain is meant, and what is offered to it.

use super::super::opening_of;
use super::{Clear, ClientReceiving, ClientReceivingParams, Effect, Greeting, Input, Stepped, Waiting};
use crate::jid::{Domain, Jid};
use crate::reason::{Class, Reason};
use crate::stream::fault::Fault;
use crate::stream::features;
use crate::xml::Header;

impl Greeting {
    pub(super) fn step(mut self, params: &ClientReceivingParams, input: Input) -> Stepped {
        match input {
            Input::Header(header, served) => self.greet(params, &header, served),
            Input::Offered(offer) => {
                self.ready = Some(Box::new(offer));
                Ok((ClientReceiving::Greeting(self), Vec::new()))
            }
            Input::Space | Input::Tried(_) => Ok((ClientReceiving::Greeting(self), Vec::new())),
            Input::Expired => Err(self.fault(params, Reason::HeaderTimeout)),
            Input::End => Err(self.fault(params, Reason::Finished)),
            Input::Word(..) => Err(self.fault(params, Reason::BackendFault)),
            Input::Element(_) | Input::Secured(_) | Input::Text => {
                Err(self.fault(params, Reason::UnsupportedStanzaType))
            }
        }
    }

    pub(super) fn fault(mut self, params: &ClientReceivingParams, reason: Reason) -> Fault {
        if self.line.own.is_none() && reason.is(Class::Unheard) {
            return Fault::silent(reason);
        }
        let id = self.line.ids.issue();
        let domain = self.line.domain.as_ref().or(params.default_domain.as_ref());
        Fault::told(reason, &opening_of(domain, None, &id))
    }

    pub(super) fn greet(
        self,
        params: &ClientReceivingParams,
        header: &Header,
        served: Result<(), Reason>,
    ) -> Stepped {
        let Self { mut line, ready, .. } = self;
        let named = header.to.as_deref().and_then(|to| Domain::parse(to).ok()).filter(|_| served.is_ok());
        let id = line.ids.issue();
        // STR-06: never an echo of an unknown name.
        let domain = named.as_ref().or(params.default_domain.as_ref());
        // STR-15: who the client says it is decides nothing; what has the form of an address is handed back (RFC 6120 4.7.2).
        let from =
            header.from.as_deref().and_then(|from| Jid::parse(from).ok()).filter(|jid| jid.local.is_some());
        let echo = from.map(|jid| jid.to_string());
        let mut octets = opening_of(domain, echo.as_deref(), &id);
        // STR-15: after the login any other `to`, served here or not, is no longer the client's to choose.
        if line.own.as_ref().is_some_and(|own| named.as_ref() != Some(own.domain())) {
            return Err(Fault::told(Reason::NotAuthorized, &octets));
        }
        let Some(to) = named else {
            return Err(Fault::told(served.err().unwrap_or(Reason::HostUnknown), &octets));
        };
        if header.version.is_none_or(|(major, _)| major < 1) {
            return Err(Fault::told(Reason::UnsupportedVersion, &octets));
        }
        if let Some(shown) = line.shown.as_ref().filter(|shown| **shown != to) {
            return Err(Fault::of_another_certificate(shown, &octets));
        }
        if !line.secured {
            octets.extend_from_slice(features::before_tls().as_bytes());
            return Ok((ClientReceiving::Clear(Clear { line, to }), vec![Effect::Send(octets.into())]));
        }
        let mut effects = vec![Effect::Send(octets.into())];
        if line.domain.is_none() {
            line.domain = Some(to.clone());
            effects.push(Effect::Call(to));
        }
        let waiting = Waiting { line };
        match ready {
            None => Ok((ClientReceiving::Waiting(waiting), effects)),
            Some(offer) => {
                let (next, more) = waiting.offered(*offer);
                effects.extend(more);
                Ok((next, effects))
            }
        }
    }
}
