//! What the policy says to a question in words: the same for files on the disk and for the policy in force.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::from_settings;
use crate::config::Settings;
use crate::filter::{self, Leaving, Outgoing, StanzaRefusal};
use crate::jid::{Domain, Jid};
use crate::policy::{
    ClientExplanation, Explanation, Federate, Identity, KeyDigest, OfStanza, Permit, Policy, ShownKey,
    StanzaFate, StanzaKind, Tls,
};
use crate::reason::{Class, Direction, Reason};
use crate::run::observe::capped;
use crate::xml::{Child, Head, names};

/// A question about a stanza. Direction follows from which address is hosted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Query {
    /// The sender: an address, or a domain alone. Lists may name an address.
    pub from: String,
    /// The addressee, or his domain.
    pub to: String,
    /// How the remote domain is proved: `certificate`, `dialback`, `pin` or `none`.
    pub proof: String,
    /// The key that its server shows, as in `pins`; with the proof `pin` and without a key, one that is pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The version of TLS on the stream: `1.2`, `1.3` or `none`.
    pub tls: String,
    /// The remote server's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The kind of the stanza: `message`, `presence` or `iq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The namespace of its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// On the stream of a client: `inbound`, what that sends, or `outbound`, what its server sends it; none: between servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c2s: Option<String>,
    /// The whole stanza, in place of kind and payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stanza: Option<String>,
}

/// What there is to say.
#[derive(Clone, Debug)]
pub enum Explained {
    /// The verdict, and every rule considered.
    Judged(Box<Explanation>),
    /// What patches make of it on the stream of a client.
    OfClient(Box<ClientExplanation>),
    /// Both domains are served here, and their servers cannot be told apart (POL-08): no rule is considered.
    SameBackend {
        /// In words.
        text: String,
        /// The reason's label.
        reason: &'static str,
    },
}

impl Explained {
    /// Whether it may go on, and the same as text and as data.
    pub(super) fn told(&self) -> (bool, String, serde_json::Value) {
        let (allow, text, explanation) = match self {
            Self::Judged(told) => (told.is_allow(), told.to_string(), serde_json::to_value(told)),
            Self::OfClient(told) => (told.is_allow(), told.to_string(), serde_json::to_value(told)),
            Self::SameBackend { text, reason } => {
                (false, text.clone(), Ok(serde_json::json!({ "verdict": "deny", "reason": reason })))
            }
        };
        (allow, text, explanation.unwrap_or_default())
    }
}

/// The verdict, and every rule considered.
///
/// # Errors
/// In words, where the question makes no sense to this policy.
pub fn explain(settings: &Settings, policy: &Policy, asked: &Query) -> Result<Explained, String> {
    let (sender, addressee) = (address(&asked.from)?, address(&asked.to)?);
    let (from, to) = (sender.to_domain(), addressee.to_domain());
    let sender = sender.local.is_some().then(|| sender.bare_form());
    let sender = sender.as_deref();
    let kind = kind(asked)?;
    if let Some(way) = &asked.c2s {
        return of_client(policy, (&from, &to), (way, kind), asked);
    }
    if policy.hosts(&to) && policy.hosts(&from) {
        return between(settings, policy, (&from, &to), kind, asked);
    }
    let (hosted, remote, direction) = if policy.hosts(&to) {
        (&to, &from, Direction::Inbound)
    } else if policy.hosts(&from) {
        (&from, &to, Direction::Outbound)
    } else {
        let hosted = policy.hosted().map(Domain::as_str).collect::<Vec<_>>().join(", ");
        return Err(format!("neither {from} nor {to} is hosted here; hosted are: {hosted}"));
    };
    let identity = match asked.proof.as_str() {
        "pin" => Identity::Pin,
        "dane" => Identity::Dane,
        "certificate" => Identity::Certificate,
        "posh" => Identity::Posh,
        "dialback" => Identity::Dialback,
        "none" => Identity::Absent,
        other => {
            return Err(format!(
                "\"{}\" is no proof; write pin, dane, certificate, posh, dialback or none",
                capped(other)
            ));
        }
    };
    let key = match (asked.key.as_deref(), identity) {
        (Some(key), _) => ShownKey::Digest(
            KeyDigest::parse(key)
                .map_err(|why| format!("\"{}\" is no digest of a key: {why}", capped(key)))?,
        ),
        (None, Identity::Pin) => ShownKey::Pinned,
        (None, _) => ShownKey::Unknown,
    };
    let tls = match asked.tls.as_str() {
        "1.2" => Tls::V12,
        "1.3" => Tls::V13,
        "none" => Tls::None,
        other => {
            return Err(format!("\"{}\" is no version of TLS; write 1.2, 1.3 or none", capped(other)));
        }
    };
    let question = Federate { hosted, remote, direction, identity, tls, address: asked.ip, key };
    let routes = from_settings::ways(settings);
    let proxy = routes.of(remote).and_then(|route| route.proxy.as_ref());
    Ok(Explained::Judged(Box::new(judged(policy, &question, (kind, sender), asked)?.routed(proxy))))
}

/// What comes of a stanza between a client and its server.
fn of_client(
    policy: &Policy,
    (from, to): (&Domain, &Domain),
    (way, kind): (&str, Option<StanzaKind>),
    asked: &Query,
) -> Result<Explained, String> {
    let (hosted, direction, word) = match way {
        "inbound" => (from, Direction::Inbound, "from"),
        "outbound" => (to, Direction::Outbound, "to"),
        other => {
            return Err(format!(
                "\"{}\" is no way of a client's stream; write inbound or outbound",
                capped(other)
            ));
        }
    };
    if !policy.hosts(hosted) {
        let all = policy.hosted().map(Domain::as_str).collect::<Vec<_>>().join(", ");
        return Err(format!("`{word}` names the client here, and {hosted} is not hosted; hosted are: {all}"));
    }
    let of = OfStanza { kind, payload: asked.payload.as_deref(), sender: None };
    let explanation = ClientExplanation::of(policy, (hosted, direction), &of, asked.stanza.as_deref())?;
    Ok(Explained::OfClient(Box::new(explanation)))
}

/// An address as peers may write it.
fn address(text: &str) -> Result<Jid<'_>, String> {
    let read = Jid::parse(text).or_else(|error| Jid::parse_rfc7622(text).map_err(|_| error));
    read.map_err(|why| {
        format!("\"{}\" is no address ({why}): write one like ada@partner.example", capped(text))
    })
}

fn judged(
    policy: &Policy,
    question: &Federate<'_>,
    (kind, sender): (Option<StanzaKind>, Option<&str>),
    asked: &Query,
) -> Result<Explanation, String> {
    match &asked.stanza {
        Some(stanza) => Explanation::of_stanza(policy, question, stanza, sender, &fate),
        None => Ok(Explanation::of(
            policy,
            question,
            &OfStanza { kind, payload: asked.payload.as_deref(), sender },
        )),
    }
}

/// What the filter makes of a stanza by the rule of its pair.
fn fate(head: &Head, permit: &Permit) -> StanzaFate {
    let rules = permit.stanzas();
    let refused = filter::refusal(head, rules);
    if refused.is_some() || permit.direction() == Direction::Inbound || rules.egress().is_none() {
        return StanzaFate { refused, leaves: None };
    }
    let kept = |words: &str| StanzaFate { refused: Some(Reason::KeptInside), leaves: Some(words.to_owned()) };
    let outgoing = Outgoing { rules, inward: None, language: None };
    match filter::inspect_outgoing(head, (None, false), &outgoing) {
        Ok(Leaving { edits, curtailed: true }) => {
            let cut = edits.map(|edits| edits.cut).unwrap_or_default();
            let named = |child: Child<'_>| match child.namespace() {
                names::SERVER | names::CLIENT => child.name().to_owned(),
                namespace => format!("{} ({namespace})", child.name()),
            };
            let children = head.children().enumerate().filter(|(index, _)| cut.contains(index));
            let without: Vec<String> = children.map(|(_, child)| named(child)).collect();
            StanzaFate { refused: None, leaves: Some(format!("passes, without {}", without.join(", "))) }
        }
        Err(StanzaRefusal::Withheld(None)) => kept("nothing leaves, and nobody is told"),
        Err(StanzaRefusal::Withheld(Some(_))) => kept("an error leaves in its place"),
        Err(StanzaRefusal::Bounce(reason)) if reason.is(Class::KeptInside) => {
            kept("nothing leaves, and its sender is told")
        }
        // What else is wrong with it no rule says.
        Ok(_) | Err(_) => StanzaFate::default(),
    }
}

fn kind(asked: &Query) -> Result<Option<StanzaKind>, String> {
    match asked.kind.as_deref() {
        None => Ok(None),
        Some("message") => Ok(Some(StanzaKind::Message)),
        Some("presence") => Ok(Some(StanzaKind::Presence)),
        Some("iq") => Ok(Some(StanzaKind::Iq)),
        Some(other) => {
            Err(format!("\"{}\" is no kind of stanza; write message, presence or iq", capped(other)))
        }
    }
}

/// POL-08: from one backend to another, by the sender's policy and then by the addressee's. What is told is the word that
/// decides.
fn between(
    settings: &Settings,
    policy: &Policy,
    (from, to): (&Domain, &Domain),
    kind: Option<StanzaKind>,
    asked: &Query,
) -> Result<Explained, String> {
    if let (Some(one), Some(other)) = (settings.domain(from), settings.domain(to))
        && !settings.may_speak(one, other)
    {
        let reason = Reason::SameBackend;
        let text = format!(
            "deny: {} ({})\n{from} and {to} cannot be told apart by the addresses of their servers: `backend`, `from` or \
             `dialback-keys: verify`\n",
            reason.words(),
            reason.label()
        );
        return Ok(Explained::SameBackend { text, reason: reason.label() });
    }
    let question = Federate::inside(from, to, Direction::Outbound);
    let mut explanation = judged(policy, &question, (kind, None), asked)?;
    if explanation.is_allow() {
        let into = judged(policy, &Federate::inside(to, from, Direction::Inbound), (kind, None), asked)?;
        let leaves = std::mem::replace(&mut explanation, into).leaves;
        explanation.leaves = leaves;
    }
    Ok(Explained::Judged(Box::new(explanation)))
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
