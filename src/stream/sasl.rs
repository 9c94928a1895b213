//! SASL EXTERNAL between servers, in both roles (XEP-0178, RFC 6120 6).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::jid::Domain;
use crate::reason::SaslCondition;
use crate::xml::{Element, names};

/// What an `<auth/>` asks for, as far as a server may ask (EXT-02, EXT-03, EXT-05).
///
/// `header_from` is the identity that the stream header claimed.
///
/// # Errors
/// The SASL condition to answer with; the stream stays open.
pub fn read_external(auth: &Element, header_from: &Domain) -> Result<(), SaslCondition> {
    if auth.attr("mechanism") != Some("EXTERNAL") {
        return Err(SaslCondition::InvalidMechanism);
    }
    if auth.elements().next().is_some() {
        return Err(SaslCondition::MalformedRequest);
    }
    let text = auth.text();
    // RFC 6120 6.4.2: `=` is a response of no octets; EXT-04: an absent one is taken for the same.
    if text.is_empty() || text == "=" {
        return Ok(());
    }
    // The standard engine is strict: its alphabet only, padding required, padding bits zero.
    let decoded = STANDARD.decode(text.as_bytes()).map_err(|_| SaslCondition::IncorrectEncoding)?;
    if decoded.len() > MAX_AUTHZID {
        return Err(SaslCondition::IncorrectEncoding);
    }
    let name = std::str::from_utf8(&decoded).map_err(|_| SaslCondition::InvalidAuthzid)?;
    match Domain::parse(name) {
        Ok(domain) if domain == *header_from => Ok(()),
        _ => Err(SaslCondition::InvalidAuthzid),
    }
}

/// `<auth/>` for EXTERNAL on behalf of `from` (EXT-08).
pub fn external(from: &Domain) -> String {
    format!("<auth xmlns='{}' mechanism='EXTERNAL'>{}</auth>", names::SASL, STANDARD.encode(from.as_str()))
}

/// `<success/>`.
pub fn success() -> String {
    format!("<success xmlns='{}'/>", names::SASL)
}

/// `<failure/>` with its condition.
pub fn failure(condition: SaslCondition) -> String {
    format!("<failure xmlns='{}'><{}/></failure>", names::SASL, condition.name())
}

/// The longest authorisation identity: a domainpart (JID-02).
const MAX_AUTHZID: usize = 1023;
