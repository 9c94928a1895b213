//! A remote server that says that it is elsewhere (RFC 6120 4.9.3.19).
//!
//! It is believed under TLS only, and whoever answers there must prove the same name: the host is where to dial, and
//! nothing else (CRT-01). After a few moves the word is an error like any other. We say it to nobody.

use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;

use super::event::Said;
use super::{Candidate, Effect, Event, FarId, Relay, Side};
use crate::jid::Domain;
use crate::reason::{Facing, Reason};
use crate::xml::{CLOSE, Element, Frame, names};

impl Relay {
    /// Whether the attempt goes on at the host that this element names.
    pub(super) fn far_moves(&mut self, id: FarId, frame: &Frame, out: &mut Vec<Effect>) -> bool {
        let Some(far) = self.fars.get_mut(&id).filter(|_| frame.is(names::STREAMS, "error")) else {
            return false;
        };
        let under_way = !far.standing && !far.is_closing() && far.secured().is_some();
        if far.terms.facing != Facing::Public || !under_way || far.moves >= MOVES {
            return false;
        }
        let Some((host, port)) = host(&frame.tree()) else { return false };
        far.moves += 1;
        far.redial(Reason::PeerError.into(), true);
        // The condition is none that we have a word for.
        let (facing, said, condition) = (Facing::Public, Said::Received, None);
        out.push(Effect::Note(Event::StreamError { facing, said, condition }));
        out.push(Effect::Send(Side::Far(id), Bytes::from_static(CLOSE)));
        out.push(Effect::Retry(id, Candidate::Elsewhere(host, port)));
        true
    }
}

/// The host and port that a stream error names, if it names one.
fn host(error: &Element) -> Option<(Box<str>, u16)> {
    let text = error.child(names::STREAM_ERRORS, "see-other-host")?.text();
    let text = text.trim_ascii();
    if let Some((six, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        six.parse::<Ipv6Addr>().ok()?;
        let port = if rest.is_empty() { PORT } else { rest.strip_prefix(':')?.parse().ok()? };
        return Some((six.into(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, PORT),
    };
    match host.parse::<IpAddr>() {
        Ok(_) => Some((host.into(), port)),
        Err(_) => Domain::parse(host).ok().map(|domain| (domain.to_ascii().into(), port)),
    }
}

/// How often one attempt is sent on.
const MOVES: u8 = 2;

/// Where none is named.
const PORT: u16 = 5269;
