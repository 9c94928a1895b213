//! Stanzas of a backend whose addresses do not name two domains (RLY-01, JID-03).
//!
//! All its users share the stream, and one of them must not end it. Servers let their users write to names that are none, and
//! many claim them and send: who has written so reads it in the name that he wrote to, as far as anybody can speak in that.

use std::borrow::Cow;

use super::super::RelayParams;
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

    /// It goes no further; its sender hears that, if that is its fate: where the stanza does not tell who that is, the server itself.
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
        if fate != Fate::Answered {
            return;
        }
        let sender = turned.from.as_deref().unwrap_or_default();
        let target = turned.to.as_deref().unwrap_or_default();
        let Some(pair) = self.spoken(sender, target, turn.relays) else { return };
        if let Some(octets) = self.origin().error_in_name_of(turned, &pair, (blamed, reason), turn.relays) {
            let answer = self.origin().way_back(&pair, octets.into(), turn.relays);
            answer.into_iter().for_each(|effect| turn.push(effect));
        }
    }

    /// The pair in whose name its sender can be told: the names as the backend reads what it has written; for an addressee in whose
    /// name nobody can speak, whom the stream is for; for a sender who is missing or no address, whom it comes from. What it reads as a domain that is served here is told as it is spelt.
    fn spoken(&self, sender: &str, target: &str, relays: &RelayParams) -> Option<Pair> {
        let target = Domain::as_read(target)
            .filter(|target| !relays.hosts(target))
            .or_else(|| Domain::as_spelt(target))
            .or_else(|| self.near.asked_for.clone())
            .or_else(|| self.lanes.last().map(|(_, lane)| lane.pair.target.clone()))?;
        let sender = Domain::as_read(sender)
            .or_else(|| self.near.named.clone())
            .or_else(|| self.lanes.last().map(|(_, lane)| lane.pair.sender.clone()))?;
        Some(Pair { sender, target })
    }
}
