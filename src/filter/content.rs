//! Kinds, types and payloads.

use std::borrow::Cow;

use crate::jid::{Domain, Jid, Plain};
use crate::policy::{Quarantine, StanzaKind, StanzaRules};
use crate::reason::Reason;
use crate::xml::{Head, Kind, names};

/// From where a stanza is looked at.
pub(super) enum Scope<'a> {
    /// By whom it is let in: what only one of its own may say is not taken from outside.
    Inbound {
        /// Who sends it.
        sender: &'a Domain,
        /// Which domains are the receiving server's.
        hosted: &'a dyn Fn(&str) -> bool,
    },
    /// By whom it is let out.
    Outbound,
}

/// What was found in a stanza.
pub(super) enum Finding {
    /// Nothing.
    Clean,
    /// These children only a local entity may write; they are cut.
    Cut(Vec<usize>),
    /// The stanza is refused.
    Refused(Reason),
    /// The stanza is dropped and never answered.
    Swallowed(Reason),
}

/// RLY-08, RLY-12 to RLY-15, and the rule's own list.
pub(super) fn judge(head: &Head, scope: &Scope<'_>, rules: &StanzaRules, to_user: bool) -> Finding {
    let Some(kind) = kind_of(head) else { return Finding::Refused(Reason::UnsupportedStanzaType) };
    if kind == StanzaKind::Iq && !is_iq(head) {
        return Finding::Refused(Reason::BadIq);
    }
    if let Some(reason) = of_kind(kind, head, rules) {
        return Finding::Refused(reason);
    }
    let mut cut = Vec::new();
    for (index, child) in head.children().enumerate() {
        if !rules.admits_payload(child.namespace()) {
            return Finding::Refused(Reason::PayloadDenied);
        }
        let Scope::Inbound { sender, hosted } = scope else { continue };
        match child.namespace() {
            names::SID if child.is_named("stanza-id") && is_ours(child.by(), *hosted, sender) => {
                cut.push(index)
            }
            names::DELAY if child.is_named("delay") && is_ours(child.from(), *hosted, sender) => {
                cut.push(index)
            }
            names::LEGACY_DELAY if child.is_named("x") && is_ours(child.from(), *hosted, sender) => {
                cut.push(index);
            }
            names::CARBONS
                if kind == StanzaKind::Message && (child.is_named("sent") || child.is_named("received")) =>
            {
                return Finding::Swallowed(Reason::CarbonForged);
            }
            namespace if is_of_home(namespace, head, to_user) => {
                return Finding::Refused(Reason::RosterPush);
            }
            _ => {}
        }
    }
    if cut.is_empty() { Finding::Clean } else { Finding::Cut(cut) }
}

/// Why these rules, and nothing else, refuse a stanza; none: they let it pass.
pub fn refusal(head: &Head, rules: &StanzaRules) -> Option<Reason> {
    if rules.is_open() {
        return None;
    }
    of_kind(kind_of(head)?, head, rules).or_else(|| {
        let refused = head.children().any(|child| !rules.admits_payload(child.namespace()));
        refused.then_some(Reason::PayloadDenied)
    })
}

fn kind_of(head: &Head) -> Option<StanzaKind> {
    match head.kind() {
        Kind::Iq => Some(StanzaKind::Iq),
        Kind::Message => Some(StanzaKind::Message),
        Kind::Presence => Some(StanzaKind::Presence),
        Kind::Other => None,
    }
}

/// What they say of its kind.
fn of_kind(kind: StanzaKind, head: &Head, rules: &StanzaRules) -> Option<Reason> {
    if !rules.admits_kind(kind) {
        return Some(Reason::KindDenied);
    }
    let queries = kind == StanzaKind::Iq && rules.quarantine().is_some();
    (queries && !is_query(head)).then_some(Reason::Quarantined)
}

/// RLY-15: what only a user's own server says to him, or a server to its own components: whoever takes such a stanza for that
/// server's word changes a roster, a block list or a privacy list, or lets somebody outside act for a user. This is the whole list.
fn is_of_home(namespace: &str, head: &Head, to_user: bool) -> bool {
    match namespace {
        names::ROSTER | names::BLOCKING | names::PRIVACY => to_user && is_set(head),
        names::ROSTER_EXCHANGE => true,
        other => other.starts_with(names::PRIVILEGE_FAMILY) || other.starts_with(names::DELEGATION_FAMILY),
    }
}

/// RLY-08.
fn is_iq(head: &Head) -> bool {
    let children = head.children().len();
    let counted = ["get", "set"].iter().any(|asks| head.is_type(asks)) && children == 1
        || head.is_type("result") && children <= 1
        || head.is_type("error");
    counted && head.id().is_some_and(|id| !id.is_empty())
}

/// Whether an iq is one that passes between us and a domain in quarantine, either way: a ping or a question of service discovery, its
/// answer, or an error, which may hold what it is about.
fn is_query(head: &Head) -> bool {
    let admits = || head.children().all(|child| Quarantine::admits_query(child.namespace()));
    head.is_type("error") || ((head.is_type("get") || head.is_type("result")) && admits())
}

fn is_set(head: &Head) -> bool {
    head.kind() == Kind::Iq && head.is_type("set")
}

/// Whether an address claims to be one of ours; most are in the `usual` domain. What is no address at all speaks for nobody,
/// and a server behind us might read it otherwise, so it counts as ours.
fn is_ours(address: Option<Cow<'_, str>>, hosted: &dyn Fn(&str) -> bool, usual: &Domain) -> bool {
    match address {
        None => false,
        Some(text) if Plain::read(text.as_bytes(), usual).is_some() => hosted(usual.as_str()),
        Some(text) => Jid::parse(&text).map_or(true, |jid| hosted(&jid.domain)),
    }
}
