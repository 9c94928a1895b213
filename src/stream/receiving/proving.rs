//! While nothing is read on a stream that arrived: EXTERNAL is ruled on, or the handshake runs.

use std::time::Instant;

use bytes::Bytes;

use super::super::fault::Fault;
use super::super::sasl;
use super::{
    Bidi, ClaimBasis, Effect, Greeting, Input, Line, Proving, Receiving, ReceivingParams, Ruling, Stepped,
    Upgrading, send,
};
use crate::reason::{Reason, SaslCondition};
use crate::xml::CLOSE;

impl Proving {
    pub(super) fn step(self, params: &ReceivingParams, input: Input, now: Instant) -> Stepped {
        let Self { mut open, pair } = self;
        match input {
            Input::Ruled(claim, ruling) if claim.by == ClaimBasis::External && claim.pair == pair => {
                match ruling {
                    Ruling::Accepted => {
                        open.line.proven = Some(pair);
                        let greeting =
                            Greeting { line: open.line, deadline: now + params.header_time, first: false };
                        Ok((Receiving::Greeting(greeting), vec![send(sasl::success()), Effect::Restart]))
                    }
                    Ruling::Refused(reason) if reason.is_passing() => {
                        open.sasl_failed(params, SaslCondition::TemporaryAuthFailure)
                    }
                    Ruling::Refused(_) | Ruling::Invalid => {
                        open.sasl_failed(params, SaslCondition::NotAuthorized)
                    }
                }
            }
            Input::Expired => Ok((Receiving::Proving(Self { open, pair }), Vec::new())),
            Input::End => {
                Ok((Receiving::Open(open), vec![Effect::Send(Bytes::from_static(CLOSE)), Effect::Closed]))
            }
            // Dialback on the same stream may be ruled on meanwhile; its answer changes nothing here.
            Input::Ruled(..) | Input::Vouched(..) => match open.step(params, input, now)? {
                (Receiving::Open(open), effects) => Ok((Receiving::Proving(Self { open, pair }), effects)),
                other => Ok(other),
            },
            _ => Err(Fault::told(Reason::UnsupportedStanzaType, b"")),
        }
    }
}

impl Upgrading {
    pub(super) fn step(self, params: &ReceivingParams, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Secured(secured) => {
                // TLS-07: everything learned before TLS is forgotten, but the name whose certificate was shown.
                let shown = secured.shown.clone().or(self.to);
                let line = Line { secured: true, shown, bidi: Bidi::Possible, ..self.line };
                let greeting = Greeting { line, deadline: now + params.header_time, first: true };
                Ok((Receiving::Greeting(greeting), vec![Effect::Restart]))
            }
            Input::Expired => Err(Fault::silent(Reason::TlsFailed)),
            Input::Element(_) | Input::Header(..) | Input::End => Err(Fault::silent(Reason::EarlyOctets)),
            // Rulings on claims made in clear arrive too late to be told.
            Input::Ruled(..) | Input::Vouched(..) => Ok((Receiving::Upgrading(self), Vec::new())),
        }
    }
}
