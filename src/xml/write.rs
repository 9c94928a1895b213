//! What the few elements that the gateway authors need to be in canonical form: escaped text and values, the end tag.
//!
//! Never used on received elements: those pass as they are or go through `rewrite`.

use std::borrow::Cow;

use super::content::{escape_text_char, escape_value_char};

/// The end tag of a stream.
pub const CLOSE: &[u8] = b"</stream:stream>";

/// Text as it stands in an element. Characters that XML does not have are left out.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    escaped(text, |b| matches!(b, b'<' | b'>' | b'&' | b'\r'), escape_text_char)
}

/// Text as it stands in an attribute value. Characters that XML does not have are left out.
pub fn escape_attr(text: &str) -> Cow<'_, str> {
    let special = |b| matches!(b, b'<' | b'>' | b'&' | b'\r' | b'"' | b'\'' | b'\t' | b'\n');
    escaped(text, special, escape_value_char)
}

/// Those of these attributes that have a value, each behind a blank.
pub(super) fn push_attributes(out: &mut String, attributes: &[(&str, Option<&str>)]) {
    for (name, value) in attributes {
        if let Some(value) = value {
            out.push(' ');
            out.push_str(name);
            out.push_str("='");
            out.push_str(&escape_attr(value));
            out.push('\'');
        }
    }
}

fn escaped(text: &str, special: fn(u8) -> bool, write: fn(&mut Vec<u8>, char)) -> Cow<'_, str> {
    let legal = |c: char| super::chars::is_char(c);
    // Most of what the gateway says: nothing in it is special, nor illegal.
    if text.is_ascii() && super::chars::plain_value(text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    if !text.bytes().any(special) && text.chars().all(legal) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    text.chars().filter(|&c| legal(c)).for_each(|c| write(&mut out, c));
    Cow::Owned(String::from_utf8(out).unwrap_or_default())
}
