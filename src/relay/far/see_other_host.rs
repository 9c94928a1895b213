//! A remote server that says that it is elsewhere (RFC 6120 4.9.3.19).
//!
//! It is believed under TLS only, and whoever answers there must prove the same name: the host is where to dial, and
//! nothing else (CRT-01). After a few moves the word is an error like any other. We say it to nobody.

use std::net::{IpAddr, Ipv6Addr};

use crate::jid::Domain;
use crate::xml::{Element, Frame, names};

/// How often an attempt was sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Moves(u8);

impl Moves {
    /// The host and port that this stream error sends the attempt to, unless it was sent on too often already.
    pub(super) fn next(&mut self, error: &Frame) -> Option<(Box<str>, u16)> {
        if self.0 >= MOVES {
            return None;
        }
        let found = host(&error.tree())?;
        self.0 += 1;
        Some(found)
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
