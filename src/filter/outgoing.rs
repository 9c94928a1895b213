//! The filter for what a server of ours sends out: every domain that it names is looked at stanza by stanza.
//!
//! Who may speak for the sender, and whether the pair may stand, is settled elsewhere; here is what the addresses say, and
//! whether the rules of both sides let the stanza pass (RLY-08, RLY-12 to RLY-15, JID-01 to JID-07).

pub use super::addressing::StanzaRefusal;
use super::addressing::{self, Address};
use super::content::{self, Finding, Scope};
use super::egress::{self, Leaves};
use super::is_answerable;

use crate::jid::Domain;
use crate::policy::StanzaRules;
use crate::reason::Reason;
use crate::xml::{Edits, Head};

/// How a stanza leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// What must be changed; none: octet for octet.
    pub edits: Option<Box<Edits>>,
    /// Whether the rule kept a part of it inside (RLY-22).
    pub curtailed: bool,
}

/// Sender and target of a stanza.
pub struct Ends<'a> {
    from: (Address<'a>, &'a str),
    to: (Address<'a>, &'a str),
}

impl<'a> Ends<'a> {
    /// Reads `from` and `to`.
    ///
    /// # Errors
    /// When one of them is missing, or its domain is none (RLY-01).
    pub fn read(from: &'a str, to: &'a str) -> Result<Self, StanzaRefusal> {
        Ok(Self { from: (Address::read(from)?, from), to: (Address::read(to)?, to) })
    }

    /// The canonical domain of the sender.
    pub fn sender(&self) -> &str {
        self.from.0.domain()
    }

    /// The canonical domain of the target.
    pub fn target(&self) -> &str {
        self.to.0.domain()
    }

    /// The canonical domains, where they were not received so (JID-07), and whether it is for an account. `modern`: the server
    /// that sends it reads addresses as RFC 7622 has them.
    ///
    /// # Errors
    /// JID-06: an address that reads in two ways.
    pub fn settle(self, modern: bool) -> Result<(Option<Box<Edits>>, bool), StanzaRefusal> {
        addressing::settle(self.from, self.to, modern)
    }
}

/// What lets a stanza out.
pub struct Outgoing<'a> {
    /// What the sender's policy lets pass.
    pub rules: &'a StanzaRules,
    /// Where it goes to another server of ours: by what it is let in there (POL-08).
    pub inward: Option<Inward<'a>>,
    /// The `xml:lang` of the stream it came on.
    pub language: Option<&'a str>,
}

/// What lets a stanza in at another server of ours.
pub struct Inward<'a> {
    /// What the addressee's policy lets pass.
    pub rules: &'a StanzaRules,
    /// The domain that sends it.
    pub sender: &'a Domain,
    /// Which domains are the receiving server's own: for RLY-12 and RLY-13 "local" means of that one.
    pub hosted: &'a dyn Fn(&str) -> bool,
}

/// Whether a stanza of a pair that may stand passes, and with what edits.
///
/// # Errors
/// What becomes of it if it does not.
pub fn inspect_outgoing(
    head: &Head,
    (mut edits, to_user): (Option<Box<Edits>>, bool),
    outgoing: &Outgoing<'_>,
) -> Result<Leaving, StanzaRefusal> {
    let inward = outgoing
        .inward
        .as_ref()
        .map(|inward| (Scope::Inbound { sender: inward.sender, hosted: inward.hosted }, inward.rules));
    for (scope, rules) in std::iter::once((Scope::Outbound, outgoing.rules)).chain(inward) {
        match content::judge(head, &scope, rules, to_user) {
            Finding::Clean => {}
            Finding::Cut(children) => edits.get_or_insert_default().cut.extend(children),
            Finding::Refused(reason) if is_answerable(head, reason) => {
                return Err(StanzaRefusal::Bounce(reason));
            }
            Finding::Refused(reason) | Finding::Swallowed(reason) => return Err(StanzaRefusal::Drop(reason)),
        }
    }
    let mut curtailed = false;
    if let Some(egress) = outgoing.rules.egress() {
        match egress::judge(head, egress) {
            Leaves::Whole => {}
            Leaves::Without(children) => {
                curtailed = true;
                edits.get_or_insert_default().cut.extend(children);
            }
            Leaves::Nothing => return Err(StanzaRefusal::Withheld(None)),
            Leaves::Error(condition) => {
                return Err(StanzaRefusal::Withheld(egress::answer(head, edits.as_deref(), condition)));
            }
            Leaves::Refused => return Err(StanzaRefusal::Bounce(Reason::KeptInside)),
        }
    }
    // RLY-07: what the stanza leaned on travels with it when the far stream's language is another.
    if let Some(language) = outgoing.language
        && language != crate::stream::LANGUAGE
        && head.lang().is_none()
    {
        edits.get_or_insert_default().lang = Some(language.to_owned());
    }
    Ok(Leaving { edits, curtailed })
}
