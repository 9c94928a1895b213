//! The first header on a stream that we answer: who is meant, what is offered, and what is refused at once.

use super::super::fault::Fault;
use super::super::features::{self, Offering};
use super::super::opening;
use super::{Effect, Greeting, Input, Line, Open, Receiving, ReceivingParams, ServerOffer, Stepped, Written};
use crate::jid::{AddressError, Domain};
use crate::reason::{Class, Facing, Reason};
use crate::xml::Header;

impl Greeting {
    pub(super) fn step(self, params: &ReceivingParams, input: Input) -> Stepped {
        match input {
            Input::Header(header, offer) => self.greet(params, &header, offer),
            Input::Expired => Err(Receiving::Greeting(self).fault(params, Reason::HeaderTimeout)),
            Input::End => Err(Receiving::Greeting(self).fault(params, Reason::Finished)),
            // DB-25: rulings on what was claimed on the stream before this one find nothing.
            Input::Ruled(..) | Input::Vouched(..) => Ok((Receiving::Greeting(self), Vec::new())),
            _ => Err(Receiving::Greeting(self).fault(params, Reason::UnsupportedStanzaType)),
        }
    }

    pub(super) fn greet(self, params: &ReceivingParams, header: &Header, offer: ServerOffer) -> Stepped {
        let mut line = self.line;
        let modern = header.version.is_some_and(|(major, _)| major >= 1);
        let from = domain(header.from.as_deref());
        let to = domain(header.to.as_deref());
        let known = to.as_ref().ok().cloned().flatten();
        let peer = from.as_ref().ok().cloned().flatten();
        let ours = match params.facing {
            Facing::Public => hosted_or_default(&known, params, &offer),
            // BE-02 the other way round: the legacy server may well name nobody.
            Facing::Backend => known.clone(),
        };
        let (id, answer) = greeting(params, &mut line, ours, peer.as_ref(), modern);
        let refuse = |reason: Reason| Err(Fault::told(reason, &answer));
        // STR-15: after the proof any other name, served here or not, is no longer the peer's to choose.
        if let Some(pair) = &line.proven
            && (peer.as_ref() != Some(&pair.sender) || known.as_ref() != Some(&pair.target))
        {
            return refuse(Reason::NotAuthorized);
        }
        if let Some(reason) = header_fault(params, &from, &to, &offer) {
            return refuse(reason);
        }
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        if let (Some(shown), Some(to)) = (&line.shown, &to)
            && shown != to
        {
            return Err(Fault::of_another_certificate(shown, &answer));
        }
        let mut octets = answer;
        let secure = line.secured || params.facing == Facing::Backend;
        if modern {
            let text = if !secure {
                features::before_tls()
            } else {
                features::write(Offering {
                    external: offer.external && line.proven.is_none(),
                    dialback: offer.dialback.then_some(params.dialback_errors),
                    // SM-01: it is asked for behind a proof; behind one by dialback no other features come.
                    management: params.counts && (offer.dialback || line.proven.is_some()),
                    // SM-08: behind a proof it is too late to ask.
                    bidi: offer.bidi && line.secured && line.proven.is_none(),
                    max_octets: if line.proven.is_some() { params.survived } else { params.max_octets },
                })
            };
            octets.extend_from_slice(text.as_bytes());
        }
        if let Some(reason) = offer.refused.filter(|_| line.secured) {
            return Err(Fault::told(reason, &octets));
        }
        let open = Open { line, id, from, to, offer, written: Written::default() };
        Ok((Receiving::Open(open), vec![Effect::Send(octets.into())]))
    }
}

/// STR-06 to STR-09: what is wrong with the addresses of a header; hosted names are told by the relay through `offer`.
pub(super) fn header_fault(
    params: &ReceivingParams,
    from: &Named,
    to: &Named,
    offer: &ServerOffer,
) -> Option<Reason> {
    match params.facing {
        // The names of its header decide nothing (DB-62), so that one that is none costs no pair on the stream.
        Facing::Backend => offer.refused,
        Facing::Public => match (from, to) {
            (_, Err(_)) => Some(Reason::HostUnknown),
            (_, Ok(None)) if params.default_domain.is_none() => Some(Reason::HostUnknown),
            (Err(_), _) => Some(Reason::ImproperAddressing),
            _ => offer.refused.filter(|reason| reason.is(Class::OfNames)),
        },
    }
}

pub(super) type Named = Result<Option<Domain>, AddressError>;

pub(super) fn domain(text: Option<&str>) -> Named {
    match text {
        None | Some("") => Ok(None),
        Some(text) => Domain::parse(text).map(Some),
    }
}

pub(super) fn hosted_or_default(
    to: &Option<Domain>,
    params: &ReceivingParams,
    offer: &ServerOffer,
) -> Option<Domain> {
    // STR-06: never an echo of the unknown name.
    let unknown = offer.refused.is_some_and(|reason| reason.is(Class::NotServed));
    to.clone().filter(|_| !unknown).or_else(|| params.default_domain.clone())
}

/// Our answering header, and its id.
pub(super) fn greeting(
    params: &ReceivingParams,
    line: &mut Line,
    from: Option<Domain>,
    to: Option<&Domain>,
    modern: bool,
) -> (String, Vec<u8>) {
    let id = line.ids.issue();
    let from = from.or_else(|| params.default_domain.clone());
    (id.clone(), opening(from.as_ref(), to, Some(&id), modern))
}
