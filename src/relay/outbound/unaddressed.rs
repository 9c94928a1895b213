//! Stanzas of a backend whose addresses do not name two domains (RLY-01, JID-03).
//!
//! All its users share the stream, and one of them must not end it. Servers let their users write to names that are none, and
//! many claim them and send: who has written so reads it in the name that he wrote to, as far as anybody can speak in that.

use std::borrow::Cow;

use super::super::turn::Turn;
use super::super::turned::{Fate, Turned};
use super::Outbound;
use crate::filter::{self, Ends};
use crate::jid::Domain;
use crate::reason::Reason;
use crate::stream::Pair;
use crate::xml::Head;

impl Outbound {
    /// A stanza that nothing else is wrong with.
    pub(super) fn misaddressed(&self, head: &Head, turn: &mut Turn<'_>) {
        let fate = match filter::is_answerable(head, Reason::NoDomain) {
            true => Fate::Answered,
            false => Fate::Dropped,
        };
        self.unaddressed(&Turned::plain(head), fate, turn);
    }

    /// It goes no further; its sender hears that, if that is its fate and he can be told from the stanza.
    pub(super) fn unaddressed(&self, turned: &Turned<'_>, fate: Fate, turn: &mut Turn<'_>) {
        let names_none = |address: &Option<Cow<'_, str>>| {
            address.as_deref().is_none_or(|address| Ends::read(address, address).is_err())
        };
        // The address to blame.
        let blamed = if names_none(&turned.from) { &turned.from } else { &turned.to };
        let blamed = blamed.as_deref().unwrap_or_default();
        let reason = if blamed.is_empty() { Reason::ImproperAddressing } else { Reason::NoDomain };
        let told = Turned { from: Some(blamed.into()), reason, measure: None, ..turned.clone() };
        self.origin().note_unfit(&told, None, turn);
        let Some(sender) = turned.from.as_deref().filter(|_| fate == Fate::Answered) else { return };
        let Some(pair) = self.spoken(sender, turned.to.as_deref().unwrap_or_default()) else { return };
        if let Some(octets) = self.origin().told_in_name_of(turned, &pair, (blamed, reason), turn.home) {
            turn.push(self.origin().way_back(&pair, octets.into(), turn.home));
        }
    }

    /// The pair in whose name its sender can be told: the names as they are spelt; for an addressee in whose name nobody can speak,
    /// whom the stream is for.
    fn spoken(&self, sender: &str, target: &str) -> Option<Pair> {
        let target = Domain::as_spelt(target)
            .or_else(|| self.near.asked_for.clone())
            .or_else(|| self.lanes.last().map(|(_, lane)| lane.pair.target.clone()))?;
        Some(Pair { sender: Domain::as_spelt(sender)?, target })
    }
}
