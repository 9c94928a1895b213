//! The elements of server dialback (XEP-0220), read and written for all its roles.
//!
//! What an element means depends on the stream it came on; this file only says what it is.

use crate::jid::{AddressError, Domain};
use crate::reason::{Facing, Reason, StanzaCondition};
use crate::xml::{Element, Frame, escape_attr, escape_text, names};

use super::{KeyCheck, Pair};

/// A dialback element, understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dialback {
    /// "I speak for this pair; here is the key."
    Claim {
        /// Sender and target.
        pair: Pair,
        /// The key as text.
        key: String,
    },
    /// The answer to a claim; `pair` is the pair that was claimed.
    Claimed {
        /// Sender and target of the claim.
        pair: Pair,
        /// What became of it.
        kind: DialbackType,
    },
    /// "Is this key yours?"
    Ask(KeyCheck),
    /// The answer to that question; `pair` is the pair that was asked about.
    Asked {
        /// Sender and target of the key.
        pair: Pair,
        /// The stream id that was asked about.
        stream: String,
        /// What became of it.
        kind: DialbackType,
    },
}

/// The `type` of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialbackType {
    /// `error`, with the condition as far as we know it (DB-07).
    Error(Option<StanzaCondition>),
    /// `invalid`.
    Invalid,
    /// `valid`.
    Valid,
}

/// Why an element was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// The stream ends for this reason.
    Fault(Reason),
    /// The sender gets this dialback error; the stream goes on.
    Refused {
        /// The answer to send.
        answer: String,
        /// Why.
        reason: Reason,
    },
}

/// Whether the frame is an element of dialback (DB-01: by namespace, whatever its prefix).
pub fn is_dialback(frame: &Frame) -> bool {
    frame.is(names::DIALBACK, "result") || frame.is(names::DIALBACK, "verify")
}

/// Reads an element for which [`is_dialback`] holds. Towards a backend names count as it has spelt them, also those that are no
/// domain names ([`Domain::as_spelt`]): it is told in them that they are none.
///
/// # Errors
/// DB-02, DB-03, JID-03 and JID-05 say what each malformed element gets.
pub fn read(frame: &Frame, facing: Facing) -> Result<Dialback, Unreadable> {
    let element = frame.tree();
    let verify = element.name == "verify";
    let malformed = || Unreadable::Fault(Reason::DialbackMalformed);
    let from = element.attr("from").filter(|a| !a.is_empty()).ok_or_else(malformed)?;
    let to = element.attr("to").filter(|a| !a.is_empty()).ok_or_else(malformed)?;
    let stream = match element.attr("id") {
        Some(id) if verify && (1..=MAX_ID).contains(&id.len()) => id.to_owned(),
        _ if verify => return Err(malformed()),
        _ => String::new(),
    };
    let answer = match element.attr("type") {
        None => None,
        Some("valid") => Some(DialbackType::Valid),
        Some("invalid") => Some(DialbackType::Invalid),
        Some("error") => Some(DialbackType::Error(condition(&element))),
        Some(_) => return Err(Unreadable::Fault(Reason::BadFormat)),
    };
    let refuse = |reason: Reason| Unreadable::Refused {
        answer: write_error(verify.then_some(stream.as_str()), to, from, reason.stanza_condition()),
        reason,
    };
    let domain = |text: &str| match (domain(text), facing) {
        (Err(_), Facing::Backend) if !text.contains(['@', '/']) => {
            Domain::as_spelt(text).ok_or_else(malformed)
        }
        (named, _) => named.map_err(|why| why.map_or_else(malformed, &refuse)),
    };
    let (from_domain, to_domain) = (domain(from)?, domain(to)?);
    if let Some(kind) = answer {
        // An answer swaps the addresses of its question.
        let pair = Pair { sender: to_domain, target: from_domain };
        return Ok(match verify {
            // A question about a key goes from target to sender, so its answer comes from the sender.
            true => Dialback::Asked { pair: pair.reversed(), stream, kind },
            false => Dialback::Claimed { pair, kind },
        });
    }
    let key = element.text();
    let key = key.trim_ascii();
    if key.is_empty() || key.len() > MAX_KEY || element.elements().next().is_some() {
        return Err(refuse(Reason::DialbackBadKey));
    }
    let key = key.to_owned();
    Ok(match verify {
        true => {
            Dialback::Ask(KeyCheck { pair: Pair { sender: to_domain, target: from_domain }, stream, key })
        }
        false => Dialback::Claim { pair: Pair { sender: from_domain, target: to_domain }, key },
    })
}

/// `<db:result/>` that claims the pair with this key.
pub fn write_claim(pair: &Pair, key: &str) -> String {
    format!("<db:result from='{}' to='{}'>{}</db:result>", pair.sender, pair.target, escape_text(key))
}

/// The answer `valid` or `invalid` to the claim of that pair.
pub fn write_claimed(pair: &Pair, valid: bool) -> String {
    format!("<db:result from='{}' to='{}' type='{}'/>", pair.target, pair.sender, word(valid))
}

/// `valid` for a claim of a backend that names what is no domain, in its own words: with any other answer some end their stream,
/// and all its pairs with it (D9, DB-62). Nothing passes for it.
pub fn write_humoured(frame: &Frame) -> Option<String> {
    let element = frame.tree();
    let (from, to) = (element.attr("from")?, element.attr("to")?);
    let is_claim = frame.is(names::DIALBACK, "result") && element.attr("type").is_none();
    let (names_both, is_none) = (!from.is_empty() && !to.is_empty(), |name: &str| domain(name).is_err());
    (is_claim && names_both && (is_none(from) || is_none(to)))
        .then(|| format!("<db:result from='{}' to='{}' type='valid'/>", escape_attr(to), escape_attr(from)))
}

/// The same for the names as the claim has written them: some know it by no others.
pub fn write_claimed_as((from, to): (&str, &str), valid: bool) -> String {
    format!("<db:result from='{}' to='{}' type='{}'/>", escape_attr(to), escape_attr(from), word(valid))
}

/// The dialback error for the claim of that pair for this reason, which may have another type of error than its condition has.
pub fn write_refusal(pair: &Pair, reason: Reason) -> String {
    let (from, to) = (pair.target.as_str(), pair.sender.as_str());
    write_error_of(None, from, to, (reason.kind_of_error(), reason.stanza_condition()))
}

/// `<db:verify/>` that asks the authoritative server of the sender about a key (DB-23).
pub fn write_ask(check: &KeyCheck) -> String {
    format!(
        "<db:verify from='{}' to='{}' id='{}'>{}</db:verify>",
        check.pair.target,
        check.pair.sender,
        escape_attr(&check.stream),
        escape_text(&check.key)
    )
}

/// The answer to a question about a key (DB-41).
pub fn write_asked(check: &KeyCheck, valid: bool) -> String {
    format!(
        "<db:verify from='{}' to='{}' id='{}' type='{}'/>",
        check.pair.sender,
        check.pair.target,
        escape_attr(&check.stream),
        word(valid)
    )
}

/// The dialback error for a question about a key (DB-40).
pub fn write_ask_refused(check: &KeyCheck, condition: StanzaCondition) -> String {
    write_error(Some(&check.stream), check.pair.sender.as_str(), check.pair.target.as_str(), condition)
}

fn write_error(verify: Option<&str>, from: &str, to: &str, condition: StanzaCondition) -> String {
    write_error_of(verify, from, to, (condition.kind(), condition))
}

fn write_error_of(
    verify: Option<&str>,
    from: &str,
    to: &str,
    (kind, condition): (&str, StanzaCondition),
) -> String {
    let (name, id) = match verify {
        Some(id) => ("db:verify", format!(" id='{}'", escape_attr(id))),
        None => ("db:result", String::new()),
    };
    format!(
        "<{name} from='{}' to='{}'{id} type='error'><error type='{}'><{} xmlns='{}'/></error></{name}>",
        escape_attr(from),
        escape_attr(to),
        kind,
        condition.name(),
        names::STANZA_ERRORS
    )
}

/// A bare domain. `Err(None)`: the address is no bare domain at all; `Err(Some(..))`: a domain that we do not take.
fn domain(text: &str) -> Result<Domain, Option<Reason>> {
    if text.contains(['@', '/']) {
        return Err(None);
    }
    Domain::parse(text).map_err(|why| match why {
        AddressError::Empty | AddressError::TooLong => None,
        _ => Some(Reason::InvalidFrom),
    })
}

fn condition(element: &Element) -> Option<StanzaCondition> {
    let error = element.elements().find(|e| e.name == "error")?;
    let name = &error.elements().find(|e| e.namespace == names::STANZA_ERRORS && e.name != "text")?.name;
    [
        StanzaCondition::ItemNotFound,
        StanzaCondition::RemoteServerNotFound,
        StanzaCondition::RemoteConnectionFailed,
        StanzaCondition::RemoteServerTimeout,
        StanzaCondition::PolicyViolation,
        StanzaCondition::NotAuthorized,
        StanzaCondition::Forbidden,
        StanzaCondition::ResourceConstraint,
        StanzaCondition::NotAcceptable,
        StanzaCondition::InternalServerError,
        StanzaCondition::BadRequest,
    ]
    .into_iter()
    .find(|c| name == c.name())
}

const fn word(valid: bool) -> &'static str {
    if valid { "valid" } else { "invalid" }
}

/// The longest stream id in a question, and so in a header that is answered with a key, in octets (DB-02).
pub(super) const MAX_ID: usize = 256;
/// The longest key, in octets (DB-02).
const MAX_KEY: usize = 1024;
