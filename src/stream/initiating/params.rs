//! What a stream that we open is for, and how long each step of it may take.

use std::time::Duration;

use super::Errand;
use crate::reason::Facing;
use crate::stream::management::{Manage, Taken};

/// What an initiating entity is for its whole life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InitiatingParams {
    /// Which network it looks at.
    pub facing: Facing,
    /// What it is for.
    pub errand: Errand,
    /// Policy lets this pair travel in clear (`tls: none`).
    pub clear: bool,
    /// EXTERNAL may be used; off after an attempt that ended in a closed stream.
    pub external: bool,
    /// What is asked of a server that offers stream management, once the pair stands.
    pub manage: Manage,
    /// The peer may send on it, too, if it offers that (SM-08). Settled when its channel stands.
    pub bidi: bool,
    /// What was taken so of the session that is to be gone on with.
    pub taken: Taken,
    /// T-header and T-tls, for each step before the proof.
    pub step_time: Duration,
    /// T-dialback, for the proof and for the question.
    pub proof_time: Duration,
    /// How often a claim may be made anew, each time when it has been unanswered for 2.5 s.
    pub anew: u8,
}

impl InitiatingParams {
    /// How often a claim is made anew: to a server of the world once; inside, where the server knows the gateway's address from its steering alone, for
    /// longer than it believes that nobody answers there. While we were away jabberd2 found no such name; it believes that for five seconds
    /// more, and throws away the question about our key without a word.
    pub const fn times_anew(facing: Facing) -> u8 {
        match facing {
            Facing::Public => 1,
            Facing::Backend => 3,
        }
    }

    /// Whether a claim that is not answered soon is made anew. It is so on a new connection, never again on its own: a server that was
    /// only slow then has two claims of one pair on one stream, and Prosody takes what follows the answer to the first for unproven as
    /// long as it has not answered the second, and ends the stream with what was written to it.
    pub fn claims_anew(&self) -> bool {
        matches!(self.errand, Errand::Speak(_)) && self.anew > 0 && self.proof_time > UNHEARD
    }

    /// The claim is made anew: the last answer is over when the first would have been.
    pub fn made_anew(&mut self) {
        self.anew = self.anew.saturating_sub(1);
        self.proof_time = self.proof_time.saturating_sub(UNHEARD);
    }

    /// How long the answer may take.
    pub(super) fn answer_time(&self) -> Duration {
        if self.claims_anew() { UNHEARD } else { self.proof_time }
    }
}

/// After this time without an answer a claim is made anew. The node of ours that was asked about it may have died with the question, and
/// some servers (Prosody) say nothing then. Longer than what `steering` answers counts, so that the next question goes to a node that
/// lives.
const UNHEARD: Duration = Duration::from_millis(2500);
