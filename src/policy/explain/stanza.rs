//! What is known of the stanza that is asked about, and what the policy makes of it.

use super::super::Policy;
use super::super::question::StanzaKind;
use super::super::verdict::{Permit, Verdict};
use crate::reason::Reason;
use crate::xml::Head;

/// The stanza that is asked about, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfStanza<'a> {
    /// Its kind.
    pub kind: Option<StanzaKind>,
    /// The namespace of its payload.
    pub payload: Option<&'a str>,
    /// The address of its sender.
    pub sender: Option<&'a str>,
}

/// What becomes of a whole stanza by the rule of its pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StanzaFate {
    /// Why it is refused, or does not leave; none: it passes.
    pub refused: Option<Reason>,
    /// What of it leaves, in words, where that is not all.
    pub leaves: Option<String>,
}

/// A whole stanza, and somebody who reads such.
pub(super) struct Whole<'a> {
    pub(super) head: &'a Head,
    pub(super) read: &'a dyn Fn(&Head, &Permit) -> StanzaFate,
}

impl OfStanza<'_> {
    /// What the policy makes of it, where this is the verdict on its pair; and what of it leaves.
    pub(super) fn judged(
        &self,
        policy: &Policy,
        of_pair: Verdict,
        whole: Option<&Whole<'_>>,
    ) -> (Verdict, Option<String>) {
        let (verdict, leaves) = match (whole, of_pair.permit()) {
            (None, _) => (of_pair.for_stanza(self.kind, self.payload), None),
            (Some(_), None) => (of_pair, None),
            (Some(whole), Some(permit)) => match (whole.read)(whole.head, &permit) {
                StanzaFate { refused: None, leaves } => (of_pair, leaves),
                StanzaFate { refused: Some(reason), leaves } => {
                    (Verdict::deny(reason, of_pair.rule, of_pair.place).with_beside(of_pair.beside), leaves)
                }
            },
        };
        match self.sender {
            Some(sender) => (policy.of_sender(verdict, sender), leaves),
            None => (verdict, leaves),
        }
    }
}
