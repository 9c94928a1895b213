//! A remote server that says that it is elsewhere (RFC 6120 4.9.3.19).
//!
//! It is believed under TLS only, and whoever answers there must prove the same name: the host is where to dial, and
//! nothing else (CRT-01). After a few moves the word is an error like any other. We say it to nobody.

use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;

use super::super::event::{Event, Said};
use super::super::turn::Turn;
use super::super::{AddressChoice, Effect};
use super::Far;
use crate::jid::Domain;
use crate::reason::{Facing, Reason};
use crate::xml::{CLOSE, Element, Frame, names};

impl Far {
    /// Whether the attempt goes on at the host that this element names.
    pub(super) fn moves_on(&mut self, frame: &Frame, turn: &mut Turn<'_>) -> bool {
        let facing = self.terms.facing;
        if facing != Facing::Public || !frame.is(names::STREAMS, "error") {
            return false;
        }
        let under_way = !self.stands() && !self.is_closing() && self.secured.is_some();
        if !under_way || self.moves >= MOVES {
            return false;
        }
        let Some((host, port)) = host(&frame.tree()) else { return false };
        self.moves += 1;
        self.redial(Reason::PeerError.into(), true);
        // The condition is none that we have a word for.
        turn.note(Event::StreamError { facing, said: Said::Received, condition: None });
        turn.send(self.side(), Bytes::from_static(CLOSE));
        turn.push(Effect::Retry(self.id, AddressChoice::Elsewhere(host, port)));
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
