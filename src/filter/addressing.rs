//! `from` and `to` against the guard.

use crate::jid::{AddressError, Domain, Jid, Plain};
use crate::reason::{Direction, Reason};
use crate::xml::{Edits, Head};

use super::{Admitted, Desk};

/// Where a stanza belongs.
pub(super) struct Placed {
    /// The index of its pair in the guard.
    pub(super) pair: usize,
    /// The canonical domains, where they were not received so (JID-07).
    pub(super) edits: Option<Box<Edits>>,
    /// How long the bare addresses are that `from` and `to` begin with, if both are plain.
    pub(super) bare: Option<(usize, usize)>,
    /// Whether it is for an account and not for the domain itself.
    pub(super) to_user: bool,
}

/// Why it belongs nowhere.
pub(super) enum Refusal {
    /// Only this stanza is refused.
    Bounce(Reason),
    /// Only this stanza is refused, and nobody is told.
    Drop(Reason),
    /// Its stream ends.
    Fault(Reason),
}

/// RLY-01 to RLY-03, RLY-19, JID-01 to JID-07.
pub(super) fn place(head: &Head, desk: &Desk<'_>) -> Result<Placed, Refusal> {
    // STR-16: before any pair stands, no stanza is looked at.
    if desk.guard.is_empty() && desk.guard.turned_back().is_empty() {
        return Err(Refusal::Fault(Reason::NotAuthorized));
    }
    // Most streams have one pair, and most addresses are plain.
    if let Some(usual) = desk.guard.pair(0).map(Admitted::pair)
        && let Some(from) = head.from_as_spelt().and_then(|from| Plain::read(from, &usual.sender))
        && let Some(to) = head.to_as_spelt().and_then(|to| Plain::read(to, &usual.target))
    {
        return Ok(Placed { pair: 0, edits: None, bare: Some((from.bare, to.bare)), to_user: to.to_user });
    }
    let (from, to) = (head.from().unwrap_or_default(), head.to().unwrap_or_default());
    let (sender, target) = (Address::read(&from)?, Address::read(&to)?);
    let Some(pair) = desk.guard.find(sender.domain(), target.domain()) else {
        if let Some(reason) = desk.guard.is_turned_back(sender.domain(), target.domain()) {
            return Err(match sender {
                Address::Clear(_) => Refusal::Bounce(reason),
                Address::Blurred(_) => Refusal::Drop(Reason::JidMalformed),
            });
        }
        let reason = match desk.guard.knows_sender(sender.domain()) {
            true => Reason::HostUnknown,
            // JID-03: a name of one label that nobody proved is no address of the open network.
            false if desk.direction == Direction::Inbound && !sender.domain().contains('.') => {
                Reason::ImproperAddressing
            }
            false => Reason::InvalidFrom,
        };
        return Err(Refusal::Fault(reason));
    };
    match (sender, target) {
        (Address::Clear(sender), Address::Clear(target)) => {
            let mut edits: Option<Box<Edits>> = None;
            if !sender.domain_as_received() {
                edits.get_or_insert_default().from = Some(sender.to_string());
            }
            if !target.domain_as_received() {
                edits.get_or_insert_default().to = Some(target.to_string());
            }
            Ok(Placed { pair, edits, bare: None, to_user: target.local.is_some() })
        }
        // JID-06: an answer to an address that reads in two ways could reach somebody else.
        (Address::Blurred(_), _) => Err(Refusal::Drop(Reason::JidMalformed)),
        (_, Address::Blurred(_)) => Err(Refusal::Bounce(Reason::JidMalformed)),
    }
}

/// An address, as far as all readers agree on it.
enum Address<'a> {
    /// Local and resource part read differently in the two systems of canonicalisation; the domain does not (JID-06).
    Blurred(Domain),
    /// One reading.
    Clear(Jid<'a>),
}

impl<'a> Address<'a> {
    fn read(text: &'a str) -> Result<Self, Refusal> {
        match Jid::parse(text) {
            Ok(jid) => Ok(Self::Clear(jid)),
            Err(AddressError::Differs) => {
                // JID-01: the first `/`, then the first `@` of what precedes it.
                let bare = text.split_once('/').map_or(text, |(bare, _)| bare);
                let domain = bare.split_once('@').map_or(bare, |(_, domain)| domain);
                Domain::parse(domain)
                    .map(Self::Blurred)
                    .map_err(|_| Refusal::Fault(Reason::ImproperAddressing))
            }
            Err(_) => Err(Refusal::Fault(Reason::ImproperAddressing)),
        }
    }

    fn domain(&self) -> &str {
        match self {
            Self::Blurred(domain) => domain.as_str(),
            Self::Clear(jid) => &jid.domain,
        }
    }
}
