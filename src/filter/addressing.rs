//! `from` and `to` against the guard.

use bytes::Bytes;

use crate::jid::{AddressError, Domain, Jid, MAX_WHOLE, Plain};
use crate::reason::{Direction, Reason};
use crate::xml::{Edits, Head};

use super::{Admitted, Context};

/// What becomes of a stanza that does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StanzaRefusal {
    /// Only this stanza is refused, and its sender is told.
    Bounce(Reason),
    /// Only this stanza is refused, and nobody is told.
    Drop(Reason),
    /// Only this stanza is refused, for this address (JID-06); who hears it, if that is clear.
    Unclear {
        /// Whom to answer.
        answer: Option<String>,
        /// The address to blame.
        address: String,
    },
    /// The rule keeps it inside, and its sender hears nothing; this leaves in its place, if anything does (RLY-22).
    Withheld(Option<Bytes>),
    /// Its stream ends.
    Fault(Reason),
}

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

/// RLY-01 to RLY-03, RLY-19, JID-01 to JID-07.
pub(super) fn place(head: &Head, context: &Context<'_>) -> Result<Placed, StanzaRefusal> {
    // STR-16: before any pair stands, no stanza is looked at.
    if context.guard.is_empty() {
        return Err(StanzaRefusal::Fault(Reason::NotAuthorized));
    }
    // Most streams have one pair, and most addresses are plain.
    if let Some(usual) = context.guard.pair(0).map(Admitted::pair)
        && let Some(from) = head.from_as_spelt().and_then(|from| Plain::read(from, &usual.sender))
        && let Some(to) = head.to_as_spelt().and_then(|to| Plain::read(to, &usual.target))
    {
        return Ok(Placed { pair: 0, edits: None, bare: Some((from.bare, to.bare)), to_user: to.to_user });
    }
    place_apart(&head.from().unwrap_or_default(), &head.to().unwrap_or_default(), context)
}

/// The same for addresses in any form.
pub(super) fn place_apart(from: &str, to: &str, context: &Context<'_>) -> Result<Placed, StanzaRefusal> {
    if context.guard.is_empty() {
        return Err(StanzaRefusal::Fault(Reason::NotAuthorized));
    }
    let (sender, target) = (Address::read(from)?, Address::read(to)?);
    let Some(pair) = context.guard.find(sender.domain(), target.domain()) else {
        let reason = match context.guard.knows_sender(sender.domain()) {
            true => Reason::HostUnknown,
            // JID-03: a name of one label that nobody proved is no address of the open network.
            false if context.direction == Direction::Inbound && !sender.domain().contains('.') => {
                Reason::ImproperAddressing
            }
            false => Reason::InvalidFrom,
        };
        return Err(StanzaRefusal::Fault(reason));
    };
    // JID-06: a back-end that reads addresses as RFC 7622 has them gets those that it allows.
    let modern = (context.rfc7622)(match context.direction {
        Direction::Inbound => target.domain(),
        Direction::Outbound => sender.domain(),
    });
    let (edits, to_user) = settle((sender, from), (target, to), modern)?;
    Ok(Placed { pair, edits, bare: None, to_user })
}

/// What must be changed so that both addresses read in one way (JID-07), and whether it is for an account.
///
/// # Errors
/// JID-06: an answer to an address that reads in two ways could reach somebody else.
pub(super) fn settle(
    (sender, from): (Address<'_>, &str),
    (target, to): (Address<'_>, &str),
    modern: bool,
) -> Result<(Option<Box<Edits>>, bool), StanzaRefusal> {
    let (sender, target) = if modern { (sender.by_rfc7622(), target.by_rfc7622()) } else { (sender, target) };
    match (sender, target) {
        (Address::Clear(sender), Address::Clear(target)) => {
            let mut edits: Option<Box<Edits>> = None;
            if !sender.domain_as_received() {
                edits.get_or_insert_default().from = Some(sender.to_string());
            }
            if !target.domain_as_received() {
                edits.get_or_insert_default().to = Some(target.to_string());
            }
            Ok((edits, target.local.is_some()))
        }
        (Address::Blurred { bare, .. }, _) => {
            Err(StanzaRefusal::Unclear { answer: bare, address: from.to_owned() })
        }
        (Address::Clear(sender), Address::Blurred { .. }) => {
            Err(StanzaRefusal::Unclear { answer: Some(sender.to_string()), address: to.to_owned() })
        }
    }
}

/// An address, as far as all readers agree on it.
pub(super) enum Address<'a> {
    /// Local and resource part read differently in the two systems of canonicalisation, or not at all; the domain does not
    /// (JID-06).
    Blurred {
        domain: Domain,
        /// The address without its resource, if that is clear.
        bare: Option<String>,
        text: &'a str,
    },
    /// One reading.
    Clear(Jid<'a>),
}

impl<'a> Address<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, StanzaRefusal> {
        let improper = StanzaRefusal::Fault(Reason::ImproperAddressing);
        match Jid::parse(text) {
            Ok(jid) => Ok(Self::Clear(jid)),
            // RLY-01: a bad local part or resource is this stanza's own affair.
            Err(
                AddressError::Differs | AddressError::Local | AddressError::Resource | AddressError::TooLong,
            ) if text.len() <= MAX_WHOLE => {
                // JID-01: the first `/`, then the first `@` of what precedes it.
                let bare = text.split_once('/').map_or(text, |(bare, _)| bare);
                let name = bare.split_once('@').map_or(bare, |(_, domain)| domain);
                let domain = Domain::parse(name).map_err(|_| improper)?;
                let bare = Jid::parse(bare).ok().map(|jid| jid.to_string());
                Ok(Self::Blurred { domain, bare, text })
            }
            Err(_) => Err(improper),
        }
    }

    fn by_rfc7622(self) -> Self {
        match self {
            Self::Blurred { text, .. } => Jid::parse_rfc7622(text).map_or(self, Self::Clear),
            Self::Clear(_) => self,
        }
    }

    pub(super) fn domain(&self) -> &str {
        match self {
            Self::Blurred { domain, .. } => domain.as_str(),
            Self::Clear(jid) => &jid.domain,
        }
    }
}
