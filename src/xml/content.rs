//! Text, attribute values and the references in them: checked, decoded, and written in canonical form.
//!
//! References are resolved once (rule R3); what comes out is data. Line ends and white space are normalised as XML 1.0,
//! sections 2.11 and 3.3.3, ask (rule R4). quick-xml has a resolver of its own, which is not used: it is looser.

use std::borrow::Cow;

use super::chars::{is_char, plain_value};
use super::{Rule, Violation};
use crate::reason::Reason;

/// What the characters between `&` and `;` stand for (rules R1 and R2).
pub(super) fn reference(body: &[u8]) -> Result<char, Violation> {
    match body {
        b"lt" => Ok('<'),
        b"gt" => Ok('>'),
        b"amp" => Ok('&'),
        b"apos" => Ok('\''),
        b"quot" => Ok('"'),
        [b'#', b'x', digits @ ..] => numeric(digits, 16),
        [b'#', digits @ ..] => numeric(digits, 10),
        _ => match super::chars::qualified(body) {
            Ok(name) if name.len == body.len() => Err(Violation::of(Rule::R2)),
            _ => Err(Violation::of(Rule::R1)),
        },
    }
}

fn numeric(digits: &[u8], radix: u32) -> Result<char, Violation> {
    if digits.is_empty() {
        return Err(Violation::of(Rule::R1));
    }
    let mut value = 0u32;
    for &b in digits {
        let digit = char::from(b).to_digit(radix).ok_or(Violation::of(Rule::R1))?;
        value = value.saturating_mul(radix).saturating_add(digit);
    }
    if digits.len() > MOST_DIGITS {
        return Err(Violation::with(Rule::R1, Reason::XmlBudget));
    }
    char::from_u32(value).filter(|&c| is_char(c)).ok_or(Violation::of(Rule::R1))
}

/// Splits the reference at the front of `octets`, which begin with `&`, into its body and the rest.
fn split_reference(octets: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let after = octets.get(1..).unwrap_or_default();
    let end = memchr::memchr3(b';', b'&', b'<', after).filter(|&i| after.get(i) == Some(&b';'));
    let end = end.ok_or(Violation::of(Rule::R1))?;
    Ok((after.get(..end).unwrap_or_default(), after.get(end + 1..).unwrap_or_default()))
}

/// The length of the reference that these octets begin with, if it stands so in canonical text.
pub(super) fn canonical_in_text(octets: &[u8]) -> Option<usize> {
    match octets {
        [b'&', b'l' | b'g', b't', b';', ..] => Some("&lt;".len()),
        [b'&', b'a', b'm', b'p', b';', ..] | [b'&', b'#', b'1', b'3', b';', ..] => Some("&amp;".len()),
        [b'&', b'a', b'p', b'o', b's', b';', ..] | [b'&', b'q', b'u', b'o', b't', b';', ..] => {
            Some("&quot;".len())
        }
        _ => None,
    }
}

/// The same in a canonical value.
pub(super) fn canonical_in_value(octets: &[u8]) -> Option<usize> {
    match octets {
        [b'&', b'#', b'9', b';', ..] => Some("&#9;".len()),
        [b'&', b'#', b'1', b'0', b';', ..] => Some("&#10;".len()),
        _ => canonical_in_text(octets),
    }
}

/// Checks a raw value (rules R1, R2), and tells whether it is in the canonical language. `<` cannot occur: rule T2.
pub(super) fn check_value(raw: &[u8]) -> Result<bool, Violation> {
    if plain_value(raw).is_none() {
        return Ok(true);
    }
    let mut canonical = true;
    let mut rest = raw;
    while let Some(i) =
        rest.iter().position(|b| matches!(b, b'&' | b'"' | b'\'' | b'>' | b'\t' | b'\n' | b'\r'))
    {
        let tail = rest.get(i..).unwrap_or_default();
        if tail.first() == Some(&b'&') {
            let (body, after) = split_reference(tail)?;
            reference(body)?;
            canonical &= canonical_in_value(tail).is_some();
            rest = after;
        } else {
            canonical = false;
            rest = tail.get(1..).unwrap_or_default();
        }
    }
    Ok(canonical)
}

/// The meaning of a raw value that passed [`check_value`].
pub(super) fn decode_value(raw: &str) -> Cow<'_, str> {
    if plain_value(raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut decoded = String::with_capacity(raw.len());
    each_char(raw, ' ', |c, _| decoded.push(c));
    Cow::Owned(decoded)
}

/// Whether something in these octets of the canonical language stands for something else. Values are short: to look at all of
/// it costs less than to stop in time.
pub(super) fn refers(octets: &[u8]) -> bool {
    octets.iter().fold(false, |found, octet| found | (*octet == b'&'))
}

/// The meaning of a value in the canonical language, where all that stands for something else is a reference.
pub(super) fn decode_canonical(value: &str) -> Cow<'_, str> {
    if refers(value.as_bytes()) { decode_value(value) } else { Cow::Borrowed(value) }
}

/// The meaning of raw text that passed the strict reading.
pub(super) fn decode_text(raw: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'&', b'\r', raw.as_bytes()).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut decoded = String::with_capacity(raw.len());
    each_char(raw, '\n', |c, _| decoded.push(c));
    Cow::Owned(decoded)
}

/// Writes the canonical form of a raw value, without its quotes.
pub(super) fn write_value(out: &mut Vec<u8>, raw: &str) {
    each_char(raw, ' ', |c, _| escape_value_char(out, c));
}

/// Writes the canonical form of raw text.
pub(super) fn write_text(out: &mut Vec<u8>, raw: &str) {
    // `"` and `'` need no escape in text, but where the sender wrote one it may stay.
    each_char(raw, '\n', |c, referred| match c {
        '"' if referred => out.extend_from_slice(b"&quot;"),
        '\'' if referred => out.extend_from_slice(b"&apos;"),
        _ => escape_text_char(out, c),
    });
}

/// Writes the canonical form of the inside of a CDATA section (XML-06).
pub(super) fn write_cdata(out: &mut Vec<u8>, raw: &str) {
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push(b'\n');
            }
            _ => escape_text_char(out, c),
        }
    }
}

/// Writes one decoded character of text. References are decimal, which every parser knows (XML-11).
pub(super) fn escape_text_char(out: &mut Vec<u8>, c: char) {
    match c {
        '<' => out.extend_from_slice(b"&lt;"),
        '>' => out.extend_from_slice(b"&gt;"),
        '&' => out.extend_from_slice(b"&amp;"),
        '\r' => out.extend_from_slice(b"&#13;"),
        _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Writes one decoded character of a value.
pub(super) fn escape_value_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"&quot;"),
        '\'' => out.extend_from_slice(b"&apos;"),
        '\t' => out.extend_from_slice(b"&#9;"),
        '\n' => out.extend_from_slice(b"&#10;"),
        _ => escape_text_char(out, c),
    }
}

/// Calls `take` with each character that `raw` means, and whether a reference stood for it. Literal line ends become
/// `line`; where that is a space, literal tabs become one too.
fn each_char(raw: &str, line: char, mut take: impl FnMut(char, bool)) {
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '&' => {
                let (body, after) = rest.split_once(';').unwrap_or((rest, ""));
                if let Ok(c) = reference(body.as_bytes()) {
                    take(c, true);
                }
                rest = after;
            }
            '\r' => {
                rest = rest.strip_prefix('\n').unwrap_or(rest);
                take(line, false);
            }
            '\n' => take(line, false),
            '\t' if line == ' ' => take(' ', false),
            _ => take(c, false),
        }
    }
}

/// More digits than this serve no character.
const MOST_DIGITS: usize = 32;
