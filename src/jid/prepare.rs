//! The two generations of address preparation, side by side.
//!
//! Each function answers with the one form both generations agree on, or refuses. RFC 7622 stands on PRECIS (RFC 8265),
//! its predecessor on stringprep (RFC 3920, appendices A and B): NFKC, case folding and deletions, which legacy servers
//! still do.

use std::borrow::Cow;

use precis_profiles::UsernameCaseMapped;
use precis_profiles::precis_core::DerivedPropertyValue;
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use precis_profiles::precis_core::{FreeformClass, StringClass};
use stringprep::tables;
use unicode_normalization::UnicodeNormalization;

use super::error::AddressError;

/// The longest part of an address, in octets after mapping (JID-02).
pub(super) const MAX_PART: usize = 1023;

/// The form of a domain label both generations agree on; `label` is a U-label or about to become one.
pub(super) fn label(label: &str) -> Result<Cow<'_, str>, AddressError> {
    if is_plain_label(label) {
        return Ok(Cow::Borrowed(label));
    }
    // RFC 5892 and PRECIS derive the same letters and digits; the identifier class also checks joiners in context.
    let modern = UsernameCaseMapped::enforce(label).map_err(|_| AddressError::Domain);
    let legacy = stringprep::nameprep(label).map_err(|_| AddressError::Ambiguous);
    match (modern, legacy) {
        (Ok(modern), Ok(legacy)) if modern == legacy => Ok(modern),
        (Ok(_), _) => Err(AddressError::Ambiguous),
        // JID-05: what old servers delete or fold and new ones refuse is refused as ambiguous, for the log's sake.
        (Err(_), Ok(legacy)) if legacy != label => Err(AddressError::Ambiguous),
        (Err(error), _) => Err(error),
    }
}

/// What nameprep makes of a name, whatever it would refuse in it: servers that only look it up do so too, where a code point is one that
/// Unicode 3.2 did not know.
pub(super) fn old(name: &str) -> String {
    let kept = name.chars().filter(|&c| !tables::commonly_mapped_to_nothing(c));
    kept.flat_map(tables::case_fold_for_nfkc).nfkc().collect()
}

/// The form of a local part both generations agree on (JID-04, JID-06).
pub(super) fn local(text: &str) -> Result<Cow<'_, str>, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Local);
    }
    let traits = text.bytes().fold(0, |all, b| all | traits(b));
    if traits & FOREIGN == 0 {
        if text.len() > MAX_PART {
            return Err(AddressError::TooLong);
        }
        // Both generations only fold the case of ASCII.
        return match traits & (NOT_IN_LOCAL | CAPITAL) {
            0 => Ok(Cow::Borrowed(text)),
            CAPITAL => Ok(Cow::Owned(text.to_ascii_lowercase())),
            _ => Err(AddressError::Local),
        };
    }
    // Width mapping can make an @ or a slash of what was none (JID-04).
    let allowed = |form: &Cow<'_, str>| !form.bytes().any(|b| FORBIDDEN_LOCAL.contains(&b));
    let modern = UsernameCaseMapped::enforce(text).ok().filter(allowed);
    let legacy = stringprep::nodeprep(text).ok();
    bounded(agree(modern, legacy, AddressError::Local)?)
}

/// The form of a local part by RFC 7622 alone (JID-06).
pub(super) fn modern_local(text: &str) -> Result<Cow<'_, str>, AddressError> {
    if text.is_ascii() {
        return local(text);
    }
    let form = UsernameCaseMapped::enforce(text).map_err(|_| AddressError::Local)?;
    let forbidden = form.bytes().any(|b| FORBIDDEN_LOCAL.contains(&b));
    bounded(form).and_then(|form| if forbidden { Err(AddressError::Local) } else { Ok(form) })
}

/// The form of a resource by RFC 7622 alone (JID-06).
pub(super) fn modern_resource(text: &str) -> Result<Cow<'_, str>, AddressError> {
    if text.is_ascii() {
        return resource(text);
    }
    bounded(opaque_string(text).ok_or(AddressError::Resource)?)
}

/// How many octets at the front are ASCII that may stand in a local part.
pub(super) fn plain_local(octets: &[u8]) -> usize {
    octets.iter().position(|&b| traits(b) & (FOREIGN | NOT_IN_LOCAL) != 0).unwrap_or(octets.len())
}

/// Whether this is a resource in ASCII.
pub(super) fn is_plain_resource(octets: &[u8]) -> bool {
    let traits = octets.iter().fold(0, |all, &b| all | traits(b));
    (1..=MAX_PART).contains(&octets.len()) && traits & (FOREIGN | CONTROL) == 0
}

/// The form of a resource both generations agree on (JID-04, JID-06).
pub(super) fn resource(text: &str) -> Result<Cow<'_, str>, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Resource);
    }
    let traits = text.bytes().fold(0, |all, b| all | traits(b));
    if traits & FOREIGN == 0 {
        if text.len() > MAX_PART {
            return Err(AddressError::TooLong);
        }
        return if traits & CONTROL == 0 { Ok(Cow::Borrowed(text)) } else { Err(AddressError::Resource) };
    }
    bounded(agree(opaque_string(text), resourceprep(text), AddressError::Resource)?)
}

fn agree<'a>(
    modern: Option<Cow<'a, str>>,
    legacy: Option<Cow<'a, str>>,
    neither: AddressError,
) -> Result<Cow<'a, str>, AddressError> {
    match (modern, legacy) {
        (Some(modern), Some(legacy)) if modern == legacy => Ok(modern),
        (None, None) => Err(neither),
        _ => Err(AddressError::Differs),
    }
}

fn bounded(form: Cow<'_, str>) -> Result<Cow<'_, str>, AddressError> {
    if form.len() > MAX_PART { Err(AddressError::TooLong) } else { Ok(form) }
}

/// RFC 8265 4.2, on the Unicode of today: the PRECIS tables end at Unicode 6.3, and nicknames in rooms do not. A code
/// point the tables do not know passes as itself; ignorable ones do not pass at all.
fn opaque_string(text: &str) -> Option<Cow<'_, str>> {
    let class = FreeformClass::default();
    let unknown = |c: char| class.get_value_from_char(c) == DerivedPropertyValue::Unassigned;
    if text.chars().any(|c| unknown(c) && is_reserved_ignorable(c)) {
        return None;
    }
    let known: String = text.chars().map(|c| if unknown(c) { STAND_IN } else { c }).collect();
    class.allows(known.as_str()).ok()?;
    let spaced = text.chars().map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c });
    let form: String = spaced.nfc().collect();
    Some(Cow::Owned(form))
}

/// RFC 3920 appendix B. Code points that Unicode 3.2 did not know pass as themselves: legacy servers prepare addresses
/// of stanzas as query strings (RFC 3454 7), and read such a code point as nothing but itself.
fn resourceprep(text: &str) -> Option<Cow<'_, str>> {
    let form: String = text.chars().filter(|&c| !tables::commonly_mapped_to_nothing(c)).nfkc().collect();
    let prohibited = |c: char| {
        tables::non_ascii_space_character(c)
            || tables::ascii_control_character(c)
            || tables::non_ascii_control_character(c)
            || tables::private_use(c)
            || tables::non_character_code_point(c)
            || tables::inappropriate_for_plain_text(c)
            || tables::inappropriate_for_canonical_representation(c)
            || tables::change_display_properties_or_deprecated(c)
            || tables::tagging_character(c)
    };
    if form.is_empty() || form.chars().any(prohibited) {
        return None;
    }
    // RFC 3454 6: text with a right-to-left letter holds no left-to-right one, and begins and ends with it.
    if form.chars().any(tables::bidi_r_or_al) {
        let ends = form.chars().next().is_some_and(tables::bidi_r_or_al)
            && form.chars().next_back().is_some_and(tables::bidi_r_or_al);
        if !ends || form.chars().any(tables::bidi_l) {
            return None;
        }
    }
    Some(Cow::Owned(form))
}

fn is_plain_label(label: &str) -> bool {
    label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Default_Ignorable_Code_Point that Unicode keeps reserved for characters to come.
fn is_reserved_ignorable(c: char) -> bool {
    matches!(c, '\u{2065}' | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}')
}

/// JID-04: minus `" & ' / : < > @`.
const FORBIDDEN_LOCAL: &[u8] = b"\"&'/:<>@";

/// Beyond ASCII.
const FOREIGN: u8 = 1;
/// A control character.
const CONTROL: u8 = 2;
/// Not allowed in an ASCII local part.
const NOT_IN_LOCAL: u8 = 4;
/// An upper-case letter.
const CAPITAL: u8 = 8;

/// What is to be known of an octet: addresses are read for each stanza.
fn traits(octet: u8) -> u8 {
    TRAITS.get(usize::from(octet)).copied().unwrap_or(FOREIGN)
}

const fn is_forbidden_in_local(octet: u8) -> bool {
    let mut rest = FORBIDDEN_LOCAL;
    while let Some((forbidden, others)) = rest.split_first() {
        if *forbidden == octet {
            return true;
        }
        rest = others;
    }
    false
}

const TRAITS: [u8; 256] = {
    let mut table = [0; 256];
    let mut slots: &mut [u8] = &mut table;
    let mut octet = 0u8;
    while let Some((slot, rest)) = slots.split_first_mut() {
        *slot = match octet {
            0x80..=0xff => FOREIGN,
            0..=0x1f | 0x7f => CONTROL | NOT_IN_LOCAL,
            b' ' => NOT_IN_LOCAL,
            _ if is_forbidden_in_local(octet) => NOT_IN_LOCAL,
            b'A'..=b'Z' => CAPITAL,
            _ => 0,
        };
        slots = rest;
        octet = octet.wrapping_add(1);
    }
    table
};

/// A symbol every table knows and none maps.
const STAND_IN: char = '\u{2603}';
