//! The same judgement, told: every rule considered, with file and line, as text and as data.

mod client;
mod stanza;

use std::fmt;

use serde::Serialize;

pub use self::client::ClientExplanation;
use self::stanza::Whole;
pub use self::stanza::{OfStanza, StanzaFate};

use super::Policy;
use super::finding::Place;
use super::judge::{Bearing, Considered, Witness};
use super::patches::{PatchQuestion, PatchWord, stanza_of};
use super::pins::ShownKey;
use super::proxy::Proxy;
use super::question::{Federate, Identity, Question, StanzaKind, Tls};
use super::verdict::{Permit, Verdict};
use crate::reason::{Direction, Flow, Outcome, Reason};
use crate::xml::{Head, Kind};

/// A witness that writes everything down.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The rules considered, the most specific first.
    pub steps: Vec<TrailStep>,
}

/// One rule considered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrailStep {
    /// The rule.
    pub rule: String,
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// The pattern that stands for the remote domain.
    pub pattern: String,
    /// What became of it, in one word.
    pub bearing: &'static str,
    /// The same in words for people.
    pub words: String,
}

impl Witness for Trail {
    const CURIOUS: bool = true;

    fn consider(&mut self, considered: Considered<'_>) {
        let (bearing, words) = match considered.bearing {
            Bearing::Decides(outcome, reason) => {
                ("decides", format!("decides: {outcome}, {}", reason.words()))
            }
            Bearing::LessSpecific => ("less-specific", "a more specific rule decided".to_owned()),
            Bearing::OtherHosted => ("other-hosted", "is for other hosted domains".to_owned()),
            Bearing::OtherDirection => ("other-direction", "denies the other direction only".to_owned()),
            Bearing::OtherNetwork => ("other-network", "denies other networks only".to_owned()),
            Bearing::TooFewLists => ("too-few-lists", "too few lists name the domain".to_owned()),
            Bearing::Lapsed => ("lapsed", "denied until a day that is past".to_owned()),
        };
        let pattern = match considered.below {
            Some(parent) => format!("*.{parent}"),
            None if considered.by_lists => "lists".to_owned(),
            None => "the domain itself".to_owned(),
        };
        self.steps.push(TrailStep {
            rule: considered.rule.to_string(),
            place: considered.place.clone(),
            pattern,
            bearing,
            words,
        });
    }
}

impl Trail {
    /// The rule of this verdict has decided by what is known of the stanza beside its pair.
    fn decided_after_all(&mut self, verdict: &Verdict) {
        for step in self.steps.iter_mut().filter(|step| step.rule == verdict.rule.as_str()) {
            step.bearing = "decides";
            step.words = format!("decides: {}, {}", verdict.outcome, verdict.reason.words());
        }
    }
}

/// A verdict with everything that led to it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// `allow`, `deny` or `quarantine`.
    pub verdict: &'static str,
    /// The reason's label.
    pub reason: &'static str,
    /// The reason in words.
    pub words: &'static str,
    /// The rule that decided, `default` for none.
    pub rule: String,
    /// Where that rule stands.
    pub place: Option<Place>,
    /// The domain served here.
    pub hosted: String,
    /// The same as the DNS writes it (JID-09).
    pub hosted_ascii: String,
    /// The other domain.
    pub remote: String,
    /// The same as the DNS writes it (JID-09).
    pub remote_ascii: String,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// The hosted domain's federation setting.
    pub federation: Option<&'static str>,
    /// The proof supposed.
    pub proof: &'static str,
    /// The key supposed, if one was named.
    pub key: Option<String>,
    /// Why that key proves nothing, where the rule pins keys.
    pub doubt: Option<String>,
    /// The channel supposed.
    pub tls: &'static str,
    /// The address supposed.
    pub ip: Option<String>,
    /// The kind of stanza, if one was named.
    pub kind: Option<&'static str>,
    /// The payload, if one was named.
    pub payload: Option<String>,
    /// The bare address of the sender, where one was named and lists are asked about senders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Every rule considered.
    pub considered: Vec<TrailStep>,
    /// What lists say of the remote domain, and of the sender where one was named, where a rule asks them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<String>,
    /// The rule that looks most like the remote domain, where none names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// What the policy in the shadow says, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowWord>,
    /// By what bounds the remote domain is in quarantine, or what was decided about it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// What the rule makes of a change of the proof, and how the domain was proven before; none where the rule holds none and
    /// nothing is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// The proxy through which the remote domain is called; none: straight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// What names it: `rule`, or `route` where the rule says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via_by: Option<&'static str>,
    /// What of the stanza that was shown leaves, where that is not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaves: Option<String>,
    /// Patches that look at such stanzas, or, where one was shown, those that it meets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<PatchWord>,
    /// Whether a stanza was shown.
    #[serde(skip)]
    stanza: bool,
    /// The digest of the policy.
    pub digest: String,
}

/// What the policy in the shadow says to the same question.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowWord {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// The reason's label.
    pub reason: &'static str,
    /// The rule that would decide, `default` for none.
    pub rule: String,
    /// Where that rule stands.
    pub place: Option<Place>,
}

impl From<Verdict> for ShadowWord {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict: verdict.outcome.label(),
            reason: verdict.reason.label(),
            rule: verdict.rule.to_string(),
            place: verdict.place,
        }
    }
}

impl Explanation {
    /// This policy judges as that of the living gateway does, and tells how.
    pub fn of(policy: &Policy, question: &Federate<'_>, stanza: &OfStanza<'_>) -> Self {
        Self::explained(policy, question, stanza, None)
    }

    fn explained(
        policy: &Policy,
        question: &Federate<'_>,
        stanza: &OfStanza<'_>,
        whole: Option<&Whole<'_>>,
    ) -> Self {
        let &OfStanza { kind, payload, sender } = stanza;
        let sender = sender.filter(|_| asks_of_senders(policy, question));
        let mut trail = Trail::default();
        let of_pair = policy.judge(&Question::Federate(*question), &mut trail);
        let of_pair = match policy.known.supposed(question) {
            Some(face) => policy.recall(of_pair, &face),
            None => of_pair,
        };
        let quarantine = quarantine_of(policy, question, &of_pair);
        let (verdict, leaves) = stanza.judged(policy, of_pair, whole);
        if verdict.reason == Reason::OnLists {
            trail.decided_after_all(&verdict);
        }
        let via = policy.way_out(question.hosted, question.remote);
        Self {
            verdict: verdict.outcome.label(),
            reason: verdict.reason.label(),
            words: verdict.reason.words(),
            rule: verdict.rule.to_string(),
            place: verdict.place.clone(),
            hosted: question.hosted.to_string(),
            hosted_ascii: question.hosted.to_ascii().into_owned(),
            remote: question.remote.to_string(),
            remote_ascii: question.remote.to_ascii().into_owned(),
            direction: question.direction.label(),
            federation: policy.federation(question.hosted).map(super::Federation::label),
            proof: match question.identity {
                Identity::Unproven => "pending",
                Identity::Absent => "none",
                Identity::Dialback => "dialback",
                Identity::Certificate => "certificate",
                Identity::Dane => "dane",
                Identity::Posh => "posh",
                Identity::Pin => "pin",
                Identity::Inside => "inside",
            },
            key: match question.key {
                ShownKey::Digest(key) => Some(key.to_string()),
                ShownKey::Unknown | ShownKey::Pinned | ShownKey::Revoked => None,
            },
            doubt: policy.doubt_key(question).map(|detail| detail.to_string()),
            tls: match question.tls {
                Tls::Unknown => "pending",
                Tls::None => "none",
                Tls::V12 => "1.2",
                Tls::V13 => "1.3",
            },
            ip: question.address.map(|address| address.to_string()),
            kind: kind.map(StanzaKind::label),
            payload: payload.map(str::to_owned),
            sender: sender.map(str::to_owned),
            considered: trail.steps,
            lists: policy.listed(question.hosted, question.remote, sender).map(|listed| {
                let open = stanza.sender.is_none() && verdict.is_allow() && asks_of_senders(policy, question);
                let more = if open { "; they may name single senders: ask with a whole address" } else { "" };
                format!("{listed}{more}")
            }),
            nearest: (verdict.reason == Reason::NotListed)
                .then(|| policy.nearest(question.remote).map(|near| near.to_string()))
                .flatten(),
            shadow: policy.shadow().map(|shadow| {
                let of_pair = shadow.judge(&Question::Federate(*question), &mut ());
                stanza.judged(shadow, of_pair, whole).0.into()
            }),
            quarantine,
            memory: memory(policy, question),
            via: via.as_ref().map(ToString::to_string),
            via_by: via.as_ref().map(|_| "rule"),
            leaves,
            patches: match policy.patches() {
                Some(patches) => patches.looking_at(&of_patches(policy, question), kind, payload),
                None => Vec::new(),
            },
            stanza: false,
            digest: policy.digest().to_owned(),
        }
    }

    /// The same of a whole stanza: of all that stands in it, as `read` says what the rule makes of that, and of the patches that it meets.
    ///
    /// # Errors
    /// What is wrong with the stanza, in words.
    pub fn of_stanza(
        policy: &Policy,
        question: &Federate<'_>,
        stanza: &str,
        sender: Option<&str>,
        read: &dyn Fn(&Head, &Permit) -> StanzaFate,
    ) -> Result<Self, String> {
        let asked = of_patches(policy, question);
        let frame = stanza_of(stanza, asked.flow).map_err(|why| format!("the stanza {why}"))?;
        let head = frame.head();
        let of = OfStanza { kind: Some(kind_of(head)), payload: None, sender };
        let mut explanation = Self::explained(policy, question, &of, Some(&Whole { head, read }));
        explanation.stanza = true;
        explanation.patches = policy.patches().map_or_else(Vec::new, |patches| patches.met_by(head, &asked));
        if explanation.is_allow() && explanation.patches.iter().any(PatchWord::denies) {
            let reason = Reason::Patched;
            explanation.verdict = Outcome::Deny.label();
            (explanation.reason, explanation.words) = (reason.label(), reason.words());
        }
        Ok(explanation)
    }

    /// The same where routes lead to the remote domain through a proxy, unless its rule does.
    #[must_use]
    pub fn routed(mut self, proxy: Option<&Proxy>) -> Self {
        if let (None, Some(proxy)) = (&self.via, proxy) {
            (self.via, self.via_by) = (Some(proxy.to_string()), Some("route"));
        }
        self
    }

    /// Whether it may go on.
    pub fn is_allow(&self) -> bool {
        self.verdict != Outcome::Deny.label()
    }
}

/// The way of a stanza of that pair, as patches ask of it.
fn of_patches<'a>(policy: &Policy, question: &Federate<'a>) -> PatchQuestion<'a> {
    let flow = match question.direction {
        Direction::Inbound => Flow::S2sIn,
        Direction::Outbound => Flow::S2sOut,
    };
    PatchQuestion { flow, direction: question.direction, hosted: question.hosted, today: policy.today }
}

/// Whether lists are asked who writes.
fn asks_of_senders(policy: &Policy, question: &Federate<'_>) -> bool {
    let outside = question.identity != Identity::Inside;
    outside && question.direction == Direction::Inbound && policy.asks_of_addresses()
}

/// What there is to say of quarantine, where the rule that decides is about it.
fn quarantine_of(policy: &Policy, question: &Federate<'_>, verdict: &Verdict) -> Option<String> {
    if let Some(bounds) = verdict.permit().as_ref().and_then(Permit::quarantine) {
        return Some(bounds.to_string());
    }
    let held = match policy.rules.list.iter().find(|rule| rule.name == verdict.rule) {
        Some(rule) => rule.outcome == Outcome::Quarantine,
        None => policy.federation(question.hosted) == Some(super::Federation::Quarantine),
    };
    let party = question.remote.registrable();
    let (approved, refused) = (&policy.settled().approved, &policy.settled().refused);
    if held && verdict.is_allow() && approved.contains(&party) {
        return Some(format!("{party} was approved"));
    }
    let said = verdict.reason == Reason::NotApproved && refused.contains(&party);
    said.then(|| format!("{party} was refused"))
}
/// What is remembered of the pair that is asked about, and what its rule makes of a change.
fn memory(policy: &Policy, asked: &Federate<'_>) -> Option<String> {
    let (identity, tls) = (Identity::Unproven, Tls::Unknown);
    let verdict = policy.judge(&Question::Federate(Federate { identity, tls, ..*asked }), &mut ());
    let on_change = verdict.permit().map(|permit| permit.on_change()).unwrap_or_default();
    policy.known.told(asked, on_change)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} ({})", self.verdict, self.words, self.reason)?;
        match &self.place {
            Some(place) => writeln!(f, "rule:       {} at {place}", self.rule)?,
            None => writeln!(f, "rule:       {}, no rule decided", self.rule)?,
        }
        writeln!(f, "hosted:     {}", Spelled(&self.hosted, &self.hosted_ascii))?;
        writeln!(f, "remote:     {}", Spelled(&self.remote, &self.remote_ascii))?;
        writeln!(f, "direction:  {}", self.direction)?;
        writeln!(f, "federation: {}", self.federation.unwrap_or("not a hosted domain"))?;
        if self.proof == "inside" {
            write!(f, "supposed:   both are served here: conditions on TLS, proof and network do not apply")?;
        } else {
            write!(f, "supposed:   proof {}, TLS {}", self.proof, self.tls)?;
        }
        if let Some(key) = &self.key {
            write!(f, ", key {key}")?;
        }
        match &self.ip {
            _ if self.proof == "inside" => {}
            Some(ip) => write!(f, ", address {ip}")?,
            None => write!(f, ", address unknown")?,
        }
        if let Some(kind) = self.kind {
            write!(f, ", {kind}")?;
        }
        if let Some(payload) = &self.payload {
            write!(f, ", payload {payload}")?;
        }
        if let Some(sender) = &self.sender {
            write!(f, ", sender {sender}")?;
        }
        writeln!(f)?;
        if let Some(doubt) = &self.doubt {
            writeln!(f, "pins:       {doubt}")?;
        }
        if let Some(lists) = &self.lists {
            writeln!(f, "lists:      {lists}")?;
        }
        if let Some(quarantine) = &self.quarantine {
            writeln!(f, "quarantine: {quarantine}")?;
        }
        if let (Some(via), Some(by)) = (&self.via, self.via_by) {
            writeln!(f, "via:        {via}, by the {by}")?;
        }
        if let Some(memory) = &self.memory {
            writeln!(f, "memory:     {memory}")?;
        }
        if let Some(nearest) = &self.nearest {
            writeln!(f, "nearest:    {nearest}; a name misspelt?")?;
        }
        if self.considered.is_empty() {
            writeln!(f, "considered: no rule")?;
        } else {
            writeln!(f, "considered:")?;
        }
        for step in &self.considered {
            writeln!(f, "  {} at {} ({}): {}", step.rule, step.place, step.pattern, step.words)?;
        }
        if let Some(leaves) = &self.leaves {
            writeln!(f, "egress:     {leaves}")?;
        }
        match (self.patches.is_empty(), self.stanza) {
            (true, true) => writeln!(f, "patches:    the stanza meets none")?,
            (true, false) => {}
            (false, _) => writeln!(f, "patches:")?,
        }
        for patch in &self.patches {
            writeln!(f, "  {patch}")?;
        }
        if let Some(ShadowWord { verdict, reason, rule, place }) = &self.shadow {
            write!(f, "shadow:     {verdict}, {reason} (rule {rule}")?;
            match place {
                Some(place) => writeln!(f, " at {place})")?,
                None => writeln!(f, ")")?,
            }
        }
        Ok(())
    }
}

fn kind_of(head: &Head) -> StanzaKind {
    match head.kind() {
        Kind::Message => StanzaKind::Message,
        Kind::Presence => StanzaKind::Presence,
        Kind::Iq | Kind::Other => StanzaKind::Iq,
    }
}

/// Both spellings where they differ.
struct Spelled<'a>(&'a str, &'a str);

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 { f.write_str(self.0) } else { write!(f, "{} ({})", self.0, self.1) }
    }
}
