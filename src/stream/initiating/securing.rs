//! From `<starttls/>` to the handshake, on a stream that we opened.

use std::time::Instant;

use super::super::fault::{self, Fault};
use super::{Effect, Initiating, Input, Line, Requesting, Stepped, Terms, Upgrading, ended_by, open};
use crate::reason::{Cause, Reason};
use crate::xml::names;

impl Requesting {
    pub(super) fn step(self, terms: &Terms, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Element(frame) if frame.is(names::TLS, "proceed") => {
                let upgrading = Upgrading { line: self.line, deadline: now + terms.step_time };
                Ok((Initiating::Upgrading(upgrading), vec![Effect::Upgrade]))
            }
            // TLS-08: it was asked although it had offered nothing, and ends the stream at a word that it does not know.
            Input::Element(frame)
                if frame.is(names::STREAMS, "error")
                    && ["not-authorized", "unsupported-stanza-type"]
                        .contains(&fault::condition(&frame.tree()).as_str()) =>
            {
                Err(Fault::closed(Reason::TlsRequired).because(Cause::NoTls))
            }
            Input::Element(frame) if frame.is(names::STREAMS, "error") => {
                ended_by(&frame, Reason::TlsRequired)
            }
            Input::Element(_) => Err(Fault::told(Reason::TlsRequired, b"").because(Cause::NoTls)),
            Input::Expired => Err(Fault::closed(Reason::RemoteFailed).because(Cause::TimedOut)),
            _ => Err(Fault::closed(Reason::TlsRequired).because(Cause::NoTls)),
        }
    }
}

impl Upgrading {
    pub(super) fn step(self, terms: &Terms, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Secured(secured) => {
                // TLS-06: features, from and id learned before TLS are forgotten.
                let line = Line { secured: Some(secured), ..self.line };
                Ok(open(terms, line, vec![Effect::Restart], now))
            }
            Input::Expired => Err(Fault::silent(Reason::TlsFailed).because(Cause::TimedOut)),
            _ => Err(Fault::silent(Reason::EarlyOctets)),
        }
    }
}
