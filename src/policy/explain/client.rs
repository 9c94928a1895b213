//! A stanza on the stream of a client: rules are about two servers, so patches alone are asked about it.

use std::fmt;

use serde::Serialize;

use super::super::Policy;
use super::super::patches::{Action, PatchQuestion, PatchWord, stanza_of};
use super::{OfStanza, Spelled, kind_of};
use crate::jid::Domain;
use crate::reason::{Direction, Flow, Outcome, Reason};

/// What patches make of a stanza of a client, or of one that its server sends it.
#[derive(Clone, Debug, Serialize)]
pub struct ClientExplanation {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// The reason's label.
    pub reason: &'static str,
    /// The reason in words.
    pub words: &'static str,
    /// `c2s`.
    pub flow: &'static str,
    /// `inbound`, what the client sends; `outbound`, what its server sends.
    pub direction: &'static str,
    /// The domain of the account.
    pub hosted: String,
    /// The same as the DNS writes it (JID-09).
    pub hosted_ascii: String,
    /// The kind of stanza, if one was named or shown.
    pub kind: Option<&'static str>,
    /// The payload, if one was named.
    pub payload: Option<String>,
    /// Patches that look at such stanzas, or, where one was shown, those that it meets.
    pub patches: Vec<PatchWord>,
    /// What comes of it where the client has stream management, if it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed: Option<&'static str>,
    /// Whether a stanza was shown.
    #[serde(skip)]
    stanza: bool,
    /// The digest of the policy.
    pub digest: String,
}

impl ClientExplanation {
    /// What patches make of such a stanza, or of this one, on the stream of a client of that domain.
    ///
    /// # Errors
    /// What is wrong with the stanza, in words.
    pub fn of(
        policy: &Policy,
        (hosted, direction): (&Domain, Direction),
        of: &OfStanza<'_>,
        stanza: Option<&str>,
    ) -> Result<Self, String> {
        let asked = PatchQuestion { flow: Flow::C2s, direction, hosted, today: policy.today };
        let frame = stanza.map(|text| stanza_of(text, Flow::C2s)).transpose();
        let frame = frame.map_err(|why| format!("the stanza {why}"))?;
        let patches = match (policy.patches(), &frame) {
            (None, _) => Vec::new(),
            (Some(patches), Some(frame)) => patches.met_by(frame.head(), &asked),
            (Some(patches), None) => patches.looking_at(&asked, of.kind, of.payload),
        };
        let denied = patches.iter().any(|patch| patch.meets && patch.denies());
        let (outcome, reason) = match denied {
            true => (Outcome::Deny, Reason::Patched),
            false => (Outcome::Allow, Reason::Allowed),
        };
        // SM-02.
        let managed = match direction {
            Direction::Inbound => "with stream management its stream ends, and the session behind is closed",
            Direction::Outbound => "with stream management an empty stanza is sent in its place",
        };
        let kind = frame.as_ref().map(|frame| kind_of(frame.head())).or(of.kind);
        Ok(Self {
            verdict: outcome.label(),
            reason: reason.label(),
            words: reason.words(),
            flow: Flow::C2s.label(),
            direction: direction.label(),
            hosted: hosted.to_string(),
            hosted_ascii: hosted.to_ascii().into_owned(),
            kind: kind.map(super::StanzaKind::label),
            payload: of.payload.map(str::to_owned),
            patches,
            managed: denied.then_some(managed),
            stanza: frame.is_some(),
            digest: policy.digest().to_owned(),
        })
    }

    /// Whether it may go on.
    pub fn is_allow(&self) -> bool {
        self.verdict != Outcome::Deny.label()
    }
}

impl PatchWord {
    /// Whether it refuses what it meets.
    pub(super) fn denies(&self) -> bool {
        self.action == Action::Deny.label() && self.mode == "act"
    }
}

impl fmt::Display for ClientExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} ({})", self.verdict, self.words, self.reason)?;
        writeln!(f, "hosted:     {}", Spelled(&self.hosted, &self.hosted_ascii))?;
        let who =
            if self.direction == Direction::Inbound.label() { "a client sends" } else { "a client is sent" };
        write!(f, "asked:      what {who} ({})", self.direction)?;
        if let Some(kind) = self.kind {
            write!(f, ", {kind}")?;
        }
        if let Some(payload) = &self.payload {
            write!(f, ", payload {payload}")?;
        }
        writeln!(f, "; rules are not for it, patches are")?;
        match (self.patches.is_empty(), self.stanza) {
            (true, true) => writeln!(f, "patches:    the stanza meets none")?,
            (true, false) => writeln!(f, "patches:    none looks at such stanzas")?,
            (false, _) => writeln!(f, "patches:")?,
        }
        for patch in &self.patches {
            writeln!(f, "  {patch}")?;
        }
        if let Some(managed) = self.managed {
            writeln!(f, "managed:    {managed}")?;
        }
        Ok(())
    }
}
