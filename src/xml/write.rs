//! Writes the few elements that the gateway authors, in canonical form.
//!
//! Quotes with `'`. Never used on received elements: those pass as they are or go through `rewrite`.

use std::borrow::Cow;

use bytes::Bytes;

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

fn escaped(text: &str, special: fn(u8) -> bool, write: fn(&mut Vec<u8>, char)) -> Cow<'_, str> {
    let legal = |c: char| super::chars::is_char(c);
    if !text.bytes().any(special) && text.chars().all(legal) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 16);
    text.chars().filter(|&c| legal(c)).for_each(|c| write(&mut out, c));
    Cow::Owned(String::from_utf8(out).unwrap_or_default())
}

/// Writes elements one after another.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    open: Vec<String>,
    /// Whether the last start tag still lacks its `>`.
    in_tag: bool,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins an element. `name` is one of ours, with its prefix if it has one.
    pub fn start(mut self, name: &str) -> Self {
        self.close_tag();
        self.out.push('<');
        self.out.push_str(name);
        self.open.push(name.to_owned());
        self.in_tag = true;
        self
    }

    /// Adds an attribute or a declaration to the element just begun.
    pub fn attr(mut self, name: &str, value: &str) -> Self {
        debug_assert!(self.in_tag, "attribute {name} outside a start tag");
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("='");
        self.out.push_str(&escape_attr(value));
        self.out.push('\'');
        self
    }

    /// Adds an attribute if it has a value.
    pub fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Adds text.
    pub fn text(mut self, text: &str) -> Self {
        self.close_tag();
        self.out.push_str(&escape_text(text));
        self
    }

    /// Ends the innermost open element.
    pub fn end(mut self) -> Self {
        let name = self.open.pop().unwrap_or_default();
        if self.in_tag {
            self.out.push_str("/>");
            self.in_tag = false;
        } else {
            self.out.push_str("</");
            self.out.push_str(&name);
            self.out.push('>');
        }
        self
    }

    /// Adds an element that holds nothing but its namespace, such as an error condition.
    pub fn empty(self, name: &str, namespace: &str) -> Self {
        self.start(name).attr("xmlns", namespace).end()
    }

    /// Ends what is open and hands over the octets.
    pub fn finish(mut self) -> Bytes {
        while !self.open.is_empty() {
            self = self.end();
        }
        Bytes::from(self.out)
    }

    fn close_tag(&mut self) {
        if self.in_tag {
            self.out.push('>');
            self.in_tag = false;
        }
    }
}
