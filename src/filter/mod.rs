//! One stanza's head against the guard and the rules.
//!
//! [`inspect`] changes no octet, keeps no state and opens nothing. It says what becomes of a stanza between servers: it
//! passes (perhaps with edits), it is bounced to its sender, it is dropped because nothing may be answered, or its stream
//! ends. Identity and permission were settled before, by the [`Guard`]'s two tokens.

mod addressing;
mod bounce;
pub mod client;
mod content;
mod egress;
mod guard;
mod outgoing;

pub use bounce::{ErrorReply, is_answerable};
pub use content::refusal;
pub use guard::{Admitted, Guard, PairRoute, Traffic};
pub use outgoing::{Ends, Inward, Leaving, Outgoing, StanzaRefusal, inspect_outgoing};

use crate::reason::{Direction, Reason};
use crate::xml::{Edits, Head};

/// What is known of the stream that a stanza came on.
pub struct Context<'a> {
    /// The admitted pairs.
    pub guard: &'a Guard,
    /// Which way the stanza travels.
    pub direction: Direction,
    /// The `xml:lang` of the stream it came on.
    pub language: Option<&'a str>,
    /// Which domains are ours.
    pub hosted: &'a dyn Fn(&str) -> bool,
    /// Which of them have a server that reads addresses as RFC 7622 has them (JID-06).
    pub rfc7622: &'a dyn Fn(&str) -> bool,
}

/// What becomes of a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It goes back to its sender as a stanza error.
    Bounce(Reason),
    /// It goes nowhere, and nothing may be answered.
    Drop(Reason),
    /// It is refused because of an address whose local part or resource servers read differently, or not at all (JID-06).
    Unclear {
        /// Who may be answered; none: that is not clear.
        answer: Option<String>,
        /// The address, as it came.
        address: String,
    },
    /// Its stream ends.
    Fault(Reason),
    /// It passes, on the route of this admitted pair, with these edits if any.
    Pass {
        /// The index of the pair in the guard.
        pair: usize,
        /// What must be changed; none: octet for octet.
        edits: Option<Box<Edits>>,
        /// How long the bare addresses are that `from` and `to` begin with, if both are plain and stay as they are.
        bare: Option<(usize, usize)>,
    },
}

/// Judges one stanza (RLY-01 to RLY-20, JID-01 to JID-07).
pub fn inspect(head: &Head, context: &Context<'_>) -> Decision {
    let placed = match addressing::place(head, context) {
        Ok(placed) => placed,
        Err(StanzaRefusal::Bounce(reason)) => return refuse(head, reason),
        Err(refusal) => return refusal.into(),
    };
    let Some(admitted) = context.guard.pair(placed.pair) else { return Decision::Fault(Reason::HostUnknown) };
    if let PairRoute::Withdrawn(reason) = admitted.route() {
        return refuse(head, reason);
    }
    let mut edits = placed.edits;
    let scope = match context.direction {
        Direction::Inbound => {
            content::Scope::Inbound { sender: &admitted.pair().sender, hosted: context.hosted }
        }
        Direction::Outbound => content::Scope::Outbound,
    };
    match content::judge(head, &scope, admitted.permit().stanzas(), placed.to_user) {
        content::Finding::Clean => {}
        content::Finding::Cut(children) => edits.get_or_insert_default().cut = children,
        content::Finding::Refused(reason) => return refuse(head, reason),
        content::Finding::Swallowed(reason) => return Decision::Drop(reason),
    }
    // RLY-07: what the stanza leaned on travels with it when the far stream's language is another.
    if let Some(language) = context.language
        && language != crate::stream::LANGUAGE
        && head.lang().is_none()
    {
        edits.get_or_insert_default().lang = Some(language.to_owned());
    }
    let bare = placed.bare.filter(|_| edits.is_none());
    Decision::Pass { pair: placed.pair, edits, bare }
}

/// Where a stanza that is refused for what it is would have belonged: its pair's index in the guard.
///
/// # Errors
/// What becomes of it if it belongs nowhere; a forged `from` ends the stream of a refused stanza, too.
pub fn locate(from: Option<&str>, to: Option<&str>, context: &Context<'_>) -> Result<usize, Decision> {
    let placed = addressing::place_apart(from.unwrap_or_default(), to.unwrap_or_default(), context);
    placed.map(|placed| placed.pair).map_err(Decision::from)
}

impl From<StanzaRefusal> for Decision {
    fn from(refusal: StanzaRefusal) -> Self {
        match refusal {
            StanzaRefusal::Bounce(reason) => Self::Bounce(reason),
            StanzaRefusal::Drop(reason) => Self::Drop(reason),
            // Of what leaves alone.
            StanzaRefusal::Withheld(_) => Self::Drop(Reason::KeptInside),
            StanzaRefusal::Fault(reason) => Self::Fault(reason),
            StanzaRefusal::Unclear { answer, address } => Self::Unclear { answer, address },
        }
    }
}

/// RLY-09, DB-70.
fn refuse(head: &Head, reason: Reason) -> Decision {
    match is_answerable(head, reason) {
        true => Decision::Bounce(reason),
        false => Decision::Drop(reason),
    }
}
