//! An audit record as it is written.

use std::net::SocketAddr;

use serde::Serialize;

use super::super::event_context::Around;
use super::super::registry::Meta;
use super::{address, capped, shown, tls};
use crate::jid::Domain;
use crate::metrics::Door;
use crate::policy::Beside;
use crate::reason::{Detail, Outcome, Reason};
use crate::relay::Record;
use crate::stream::{Method, RevocationCheck};

/// Keys in this order.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    time: String,
    stream: String,
    event: &'static str,
    flow: &'static str,
    pair: Option<String>,
    /// With A-labels, where they differ: look-alike domains must be told apart (JID-09).
    #[serde(skip_serializing_if = "Option::is_none")]
    pair_ascii: Option<String>,
    peer: Option<String>,
    tls: Option<&'static str>,
    suite: Option<&'static str>,
    proof: Option<&'static str>,
    /// Outbound, how the other server was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_proof: Option<&'static str>,
    fingerprint: Option<&'a str>,
    revocation: Option<&'static str>,
    rule: Option<&'a str>,
    /// Where that rule stands, or the patch that is named in its place; of what was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// What the policy in the shadow says of the pair, where that is otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<Mark<'a>>,
    /// The rule that looks most like the domain, where none names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<&'a str>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    stanzas: u64,
    octets: u64,
}

impl<'a> Line<'a> {
    pub(super) fn new(meta: &Meta, event: &'static str, record: &'a Record, around: &'a Around) -> Self {
        let pair = pair_of(record);
        let ascii = record.pair.as_ref().map(|p| format!("{}>{}", p.sender.to_ascii(), p.target.to_ascii()));
        Self {
            time: jiff::Timestamp::now().to_string(),
            stream: meta.id.to_string(),
            event,
            flow: meta.flow.label(),
            pair_ascii: ascii.filter(|a| Some(a) != pair.as_ref()),
            pair,
            peer: address(meta, around).map(|peer| peer.to_string()),
            tls: record.tls.map(|version| tls(Some(version))),
            suite: record.suite,
            proof: record.method.map(Method::label),
            server_proof: record.server.map(Method::label),
            fingerprint: record.fingerprint.as_deref(),
            revocation: record.revocation.map(RevocationCheck::label),
            rule: record.rule.as_ref().map(|r| r.as_str()),
            place: around.place.as_ref().map(ToString::to_string),
            shadow: record
                .beside
                .as_deref()
                .filter(|beside| {
                    // Only where a pair comes to stand is its reason that of the verdict.
                    let held = event == "admitted"
                        && (record.reason == Reason::Quarantined) != (beside.outcome == Outcome::Quarantine);
                    beside.is_allow() == is_refusal(event) || held
                })
                .map(Mark::of),
            nearest: around.nearest.as_deref(),
            reason: record.reason.label(),
            cause: around.detail.as_ref().map(|detail| detail.cause.label()),
            detail: around.detail.as_ref().map(Detail::to_string),
            stanzas: record.stanzas,
            octets: record.octets,
        }
    }
}

/// The two domains of a record: those of its pair, or those that the header of its stream named.
pub(super) fn names(record: &Record) -> (Option<String>, Option<String>) {
    let (from, to) = match &record.pair {
        Some(pair) => (Some(&pair.sender), Some(&pair.target)),
        None => (record.named.0.as_ref(), record.named.1.as_ref()),
    };
    let written = |name: &Domain| capped(name.as_str());
    (from.map(written), to.map(written))
}

/// The same in one word; a name that nobody has said is a question mark.
pub(super) fn pair_of(record: &Record) -> Option<String> {
    let unnamed = || "?".to_owned();
    match names(record) {
        _ if record.pair.is_some() => record.pair.as_ref().map(shown),
        (None, None) => None,
        (from, to) => Some(format!("{}>{}", from.unwrap_or_else(unnamed), to.unwrap_or_else(unnamed))),
    }
}

/// A connection that was ended before a stream began, as it is written.
#[derive(Debug, Serialize)]
pub(super) struct AtDoor {
    time: String,
    event: &'static str,
    /// The listener: nothing is known of a flow.
    flow: &'static str,
    peer: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl AtDoor {
    pub(super) fn new(door: Door, peer: SocketAddr, reason: Reason, detail: Option<&Detail>) -> Self {
        Self {
            time: jiff::Timestamp::now().to_string(),
            event: "refused",
            flow: door.label(),
            peer: peer.to_string(),
            reason: reason.label(),
            cause: detail.map(|detail| detail.cause.label()),
            detail: detail.map(Detail::to_string),
        }
    }
}

/// What the policy in the shadow says of a pair.
#[derive(Debug, Serialize)]
struct Mark<'a> {
    verdict: &'static str,
    reason: &'static str,
    rule: &'a str,
}

impl<'a> Mark<'a> {
    fn of(beside: &'a Beside) -> Self {
        Self { verdict: beside.outcome.label(), reason: beside.reason.label(), rule: beside.rule.as_str() }
    }
}

/// Whether a record of this kind tells that a pair was refused; the others tell of pairs that stand or stood.
fn is_refusal(event: &str) -> bool {
    event == "rejected"
}
