//! What goes between a client and its server in a login: checked for form, never changed, and looked at for one thing only,
//! the account name that is tried (C2S-09, C2S-11, CB-03).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::jid::{Domain, Jid};
use crate::reason::SaslCondition;
use crate::xml::{Element, names};

use super::{Cause, Mechanism};

/// The two vocabularies of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// RFC 6120 6.
    Sasl,
    /// XEP-0388.
    Sasl2,
}

impl Profile {
    /// Its namespace.
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Sasl => names::SASL,
            Self::Sasl2 => names::SASL2,
        }
    }

    /// The profile of that namespace.
    pub fn of(namespace: &str) -> Option<Self> {
        match namespace {
            names::SASL => Some(Self::Sasl),
            names::SASL2 => Some(Self::Sasl2),
            _ => None,
        }
    }

    /// A failure of ours.
    pub fn failure(self, condition: SaslCondition) -> String {
        match self {
            Self::Sasl => crate::stream::sasl::failure(condition),
            Self::Sasl2 => format!(
                "<failure xmlns='{}'><{} xmlns='{}'/></failure>",
                names::SASL2,
                condition.name(),
                names::SASL
            ),
        }
    }

    /// The word that ends an exchange.
    pub fn abort(self) -> String {
        format!("<abort xmlns='{}'/>", self.namespace())
    }
}

/// The payload of an element that holds text and nothing else: none where there is no text, decoded octets otherwise.
///
/// # Errors
/// `MalformedRequest` for child elements, `IncorrectEncoding` for what is no base64 or too much of it.
pub fn payload(element: &Element) -> Result<Option<Vec<u8>>, SaslCondition> {
    if element.elements().next().is_some() {
        return Err(SaslCondition::MalformedRequest);
    }
    let text = element.text();
    if text.len() > MAX_PAYLOAD {
        return Err(SaslCondition::IncorrectEncoding);
    }
    match &*text {
        "" => Ok(None),
        "=" => Ok(Some(Vec::new())),
        // The standard engine is strict: its alphabet only, padding required, padding bits zero.
        text => STANDARD.decode(text).map(Some).map_err(|_| SaslCondition::IncorrectEncoding),
    }
}

/// What a server's `<failure/>` says that the login failed of.
pub fn cause(failure: &Element) -> Cause {
    let has =
        |names: &[&str]| failure.elements().any(|e| e.namespace == names::SASL && names.contains(&&*e.name));
    if has(&["temporary-auth-failure"]) {
        return Cause::Temporary;
    }
    // COMPAT(ejabberd to 24.12): says `not-authorized` of these, too, and what it was in the text alone. It looks at both before
    // it looks at the password.
    let text = failure.elements().find(|e| e.name == "text").map(|e| e.text().to_ascii_lowercase());
    let told =
        text.is_some_and(|text| ["channel binding", "incompatible scram"].iter().any(|w| text.contains(w)));
    match told || has(WAYS) {
        true => Cause::Way,
        false => Cause::Guess,
    }
}

/// What a client's first payload shows of who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownAccount {
    /// The account whose secret is tried, in its canonical form; none where the mechanism shows none, or where what it shows
    /// is no local part of the domain. It is this one that a guess is about, whomever it asks to act as: servers check the
    /// secret of the one, and many never look at the other.
    pub account: Option<String>,
    /// Whether it asks to act as somebody else.
    pub as_other: bool,
}

/// Reads it.
pub fn shown(mechanism: Mechanism, payload: &[u8], domain: &Domain) -> ShownAccount {
    let Some((authzid, name)) = std::str::from_utf8(payload).ok().and_then(|text| names_in(mechanism, text))
    else {
        return ShownAccount::default();
    };
    let account = local(&name, domain);
    let as_other = !authzid.is_empty() && local(&authzid, domain) != account;
    ShownAccount { account, as_other }
}

/// The authorisation identity, empty where there is none, and the name whose secret is tried.
fn names_in(mechanism: Mechanism, text: &str) -> Option<(String, String)> {
    match mechanism {
        Mechanism::Anonymous => None,
        Mechanism::Plain => {
            let mut parts = text.split('\0');
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        }
        Mechanism::HashedToken256 | Mechanism::HashedToken512 => {
            Some((String::new(), text.split('\0').next()?.to_owned()))
        }
        Mechanism::ScramSha1 | Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            let (authzid, rest) = gs2(text)?;
            let name = rest.split(',').find_map(|part| part.strip_prefix("n="))?;
            Some((unescape(authzid.unwrap_or_default()), unescape(name)))
        }
        // The token says whose it is; what goes with it is all that can be read.
        Mechanism::OauthBearer => Some((String::new(), unescape(gs2(text)?.0?))),
    }
}

/// RFC 5801 4: the authorisation identity, and what follows the header.
fn gs2(text: &str) -> Option<(Option<&str>, &str)> {
    let (_flag, rest) = text.split_once(',')?;
    let (authzid, rest) = rest.split_once(',')?;
    Some((authzid.strip_prefix("a="), rest))
}

fn unescape(name: &str) -> String {
    name.replace("=2C", ",").replace("=3D", "=")
}

/// COMPAT: some clients log in with the whole address; servers take the domain off.
fn local(name: &str, domain: &Domain) -> Option<String> {
    let local = match name.rsplit_once('@') {
        Some((local, of)) => Domain::parse(of).is_ok_and(|of| of == *domain).then_some(local)?,
        None => name,
    };
    let address = format!("{local}@{domain}");
    let jid = Jid::parse(&address).ok().filter(|jid| jid.local == Some(local))?;
    jid.local_form().map(|form| form.into_owned())
}

/// C2S-09.
const MAX_PAYLOAD: usize = 8192;

/// Conditions of RFC 6120 6.5 that say nothing about a password.
const WAYS: &[&str] = &[
    "aborted",
    "encryption-required",
    "incorrect-encoding",
    "invalid-mechanism",
    "malformed-request",
    "mechanism-too-weak",
];
