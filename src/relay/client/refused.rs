//! Stanzas on a client's stream, or from its server, that are legal XML and may not pass (requirements XML-17, XML-18).
//!
//! On a stream without management they are answered as between servers. On a managed one nothing may be dropped, answered or
//! made (SM-02). What its client sends would come again after each resumption: the stream ends with a text that says why, and the
//! session behind is closed. What the server sends has another in its place, for it would be kept for the next login, and end that
//! one, too.

use crate::reason::{Direction, Flow, Reason};
use crate::xml::{Edits, Frame, RefusedStanza};

use super::super::life::Life;
use super::super::patched::Patched;
use super::super::turned::{Fate, Turned};
use super::super::{Effect, Event, Side};
use super::{After, FAR, Step};

/// How far the stream management of a client is. Nobody takes it back once it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Managed {
    /// Nobody has asked for it, or it was refused.
    No,
    /// The client has asked, and counts from there on.
    Asked,
    /// The server has granted it.
    Yes,
}

impl Step<'_, '_> {
    /// Stream management begins when the client asks for it, and with a session that is resumed or managed from the login on.
    pub(super) fn heed_management(&mut self, octets: &[u8]) {
        // Such words are short, and written by us.
        let says = |word: &str| octets.windows(word.len()).any(|at| at == word.as_bytes());
        let managed = &mut self.client.managed;
        *managed = match *managed {
            Managed::Yes => Managed::Yes,
            _ if says("<enabled ") || says("<resumed ") => Managed::Yes,
            Managed::No if octets.starts_with(b"<enable ") => Managed::Asked,
            Managed::Asked if octets.starts_with(b"<failed ") => Managed::No,
            as_before => as_before,
        };
    }

    /// The framer of the client's leg refused this.
    pub(super) fn refuse_near(&mut self, refused: &RefusedStanza) {
        let turned = Turned::refused(refused);
        let Some(own) = self.client.own() else {
            return self.near_fault(Reason::NotBound, After::Closed);
        };
        if turned.from.as_ref().is_some_and(|from| !own.may_say(from)) {
            self.tell_unfit(&Turned { reason: Reason::ForgedFrom, measure: None, ..turned });
            return self.near_fault(Reason::ForgedFrom, After::Closed);
        }
        self.turn_away_near(&turned);
    }

    /// Its server does not take this stanza of the client.
    pub(super) fn beyond_server(
        &mut self,
        frame: &Frame,
        (reason, measure): (Reason, (usize, usize)),
        octets: usize,
    ) {
        self.turn_away_near(&Turned::beyond(frame.head(), reason, measure, octets));
    }

    /// XML-18: why the stanza, as it leaves, is more than the client's server takes.
    pub(super) fn excess(
        &self,
        frame: &Frame,
        edits: &Edits,
        octets: usize,
    ) -> Option<(Reason, (usize, usize))> {
        let to = self.client.terms.as_ref().map(|terms| &terms.to)?;
        let mut measure = frame.head().measure();
        measure.attributes += u32::from(edits.lang.is_some());
        self.turn.home.excess(to, self.turn.home.taken(to), octets, measure)
    }

    /// What the patches say of a stanza of the client (inbound), or of its server.
    pub(super) fn patched(&mut self, frame: &Frame, direction: Direction) -> Patched {
        if self.turn.policy.patches().is_none() {
            return Patched::Untouched;
        }
        let Some(hosted) = self.hosted() else { return Patched::Untouched };
        self.turn.patched(frame.head(), (Flow::C2s, direction), &hosted, None)
    }

    pub(super) fn turn_away_near(&mut self, turned: &Turned<'_>) {
        self.tell_unfit(turned);
        if self.client.managed != Managed::No {
            return self.near_fault_saying(turned.reason, &turned.words());
        }
        match turned.fate() {
            Fate::Answered if self.client.near.is_open() => {
                // RFC 6120 8.1.1.1: what has no `to` was for the account itself, and its server answers without `from`.
                if let Some(octets) = turned.error(turned.to.as_deref(), None) {
                    self.turn.send(Side::Near, octets);
                }
            }
            Fate::Replaced if self.client.far.is_open() => {
                if let Some(octets) = turned.error(None, turned.to.as_deref()) {
                    self.turn.push(Effect::Pass(FAR, octets.into()));
                }
            }
            Fate::Answered | Fate::Dropped | Fate::Replaced => {}
        }
    }

    /// The framer of the server's leg refused this.
    pub(super) fn refuse_far(&mut self, refused: &RefusedStanza) {
        if !self.client.bound || !matches!(self.client.near, Life::Open(_) | Life::Parting { .. }) {
            return;
        }
        self.turn_away_far(&Turned::refused(refused));
    }

    /// This stanza of the server does not reach its client. Where stanzas are counted, one that says nothing goes in its place: each
    /// side counts one, and once the client has acknowledged it the server has nothing left to bring again.
    pub(super) fn turn_away_far(&mut self, turned: &Turned<'_>) {
        self.tell_unfit(turned);
        if self.client.managed != Managed::No {
            let octets = turned.stand_in();
            self.count(turned.kind, octets.len());
            self.turn.push(Effect::Deliver(octets));
            return;
        }
        match turned.fate() {
            Fate::Answered if self.client.far.is_open() => {
                if let Some(octets) = turned.error(None, turned.from.as_deref()) {
                    self.turn.push(Effect::Pass(FAR, octets.into()));
                }
            }
            Fate::Replaced => {
                if let Some(octets) = turned.error(turned.from.as_deref(), turned.to.as_deref()) {
                    self.turn.push(Effect::Deliver(octets));
                }
            }
            Fate::Answered | Fate::Dropped => {}
        }
    }

    fn tell_unfit(&mut self, turned: &Turned<'_>) {
        let own = self.client.own().map(|own| own.address());
        let hosted = self.hosted();
        self.note(Event::Unfit {
            pair: None,
            hosted,
            reason: turned.reason,
            address: turned.from.as_deref().map(str::to_owned).or(own),
            measure: turned.measure,
            octets: turned.octets,
        });
    }
}
