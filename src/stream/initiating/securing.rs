//! From `<starttls/>` to the handshake, on a stream that we opened.

use std::time::Instant;

use super::super::fault::{self, Fault};
use super::super::opening;
use super::{Effect, Initiating, InitiatingParams, Input, Line, Opening, Requesting, Stepped, Upgrading};
use crate::reason::{Cause, Facing, Reason};
use crate::xml::{Frame, names};

impl Requesting {
    pub(super) fn step(self, terms: &InitiatingParams, input: Input, now: Instant) -> Stepped {
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
    pub(super) fn step(self, terms: &InitiatingParams, input: Input, now: Instant) -> Stepped {
        match input {
            Input::Secured(_) => {
                // TLS-06: features, from and id learned before TLS are forgotten.
                let line = Line { secured: true, bidi: false, ..self.line };
                Ok(open(terms, line, vec![Effect::Restart], now))
            }
            Input::Expired => Err(Fault::silent(Reason::TlsFailed).because(Cause::TimedOut)),
            _ => Err(Fault::silent(Reason::EarlyOctets)),
        }
    }
}

/// Sends our header; the response header is due.
pub(super) fn open(
    terms: &InitiatingParams,
    line: Line,
    mut effects: Vec<Effect>,
    now: Instant,
) -> (Initiating, Vec<Effect>) {
    // COMPAT: towards a backend we open as the oldest servers do, without a version, so that no features are due and
    // the key goes out at once; all servers tried take that (legacy servers, "What they do on the wire").
    let modern = terms.facing == Facing::Public;
    effects
        .push(Effect::Send(opening(Some(terms.errand.from()), Some(terms.errand.to()), None, modern).into()));
    (Initiating::Opening(Opening { line, deadline: now + terms.step_time }), effects)
}

/// The element that came instead of the one that was due: a stream error ends the attempt as the peer's own word.
pub(super) fn ended_by(frame: &Frame, otherwise: Reason) -> Stepped {
    if frame.is(names::STREAMS, "error") {
        let tree = frame.tree();
        let condition = fault::condition(&tree);
        let reason = match condition.as_str() {
            // DB-28, DB-65: the server does not know the domain that we called.
            "host-unknown" | "host-gone" => Reason::RemoteNotFound,
            "policy-violation" => Reason::PeerPolicy,
            _ => Reason::PeerError,
        };
        return Err(Fault::closed(reason).said(&condition, fault::text(&tree).as_deref()));
    }
    Err(Fault::told(otherwise, b""))
}
