//! Streams in messages (RFC 7395): what a message is on a stream over TCP, and what such a stream is in messages.
//!
//! A client in a browser sends each element in a message of its own, and a header without the end that XML asks for cannot be
//! one: `<open/>` and `<close/>` stand for the two tags of the stream. [`to_stream`] turns one message into the octets that the
//! same client would write over TCP, which a [`Framer`] then judges like any others ([`Framer::alone`]); [`Messages`] cuts what
//! we write into messages. So everything behind knows one kind of stream. No I/O here, and no frames of RFC 6455.

use bytes::Bytes;

use super::framer::{Framer, Token};
use super::header::Header;
use super::scan::{Found, Scan};
use super::tag::{self, Attr, Role};
use super::write::{CLOSE, push_attributes};
use super::{Content, Limits, Rule, Violation, chars, content, names};
use crate::reason::Reason;

/// What this message is on a stream over TCP.
///
/// # Errors
/// A message that is not exactly one element ([`Rule::M1`]), or leans on a namespace that it does not declare ([`Rule::M2`]).
/// What else may be wrong with an element is the framer's to find.
pub fn to_stream(message: &Bytes) -> Result<Bytes, Violation> {
    let octets: &[u8] = message;
    if octets.first() != Some(&b'<') {
        return Err(Violation::of(Rule::M1));
    }
    let mut scan = Scan::within();
    // Where it ends is all that is asked here: a budget refuses the element later, and not always the stream.
    match scan.step(octets, octets.len().saturating_add(1), &Limits::boundless()) {
        Ok(Some(Found::Element(len))) if len == octets.len() => {}
        Err(breach) => {
            // A breach of B1 or B2 in the same octets is told first, as the framer does.
            chars::check_begun(octets.get(..=breach.at).unwrap_or_default())?;
            return Err(breach.violation);
        }
        // Half an element, or more than one; `stream` is the name of no element in a message.
        Ok(_) => return Err(Violation::of(Rule::M1)),
    }
    let Some(end) = first_tag(octets) else { return Err(Violation::of(Rule::M1)) };
    let empty = octets.get(end.saturating_sub(1)) == Some(&b'/');
    let mut attrs = Vec::new();
    // What breaks a rule or a budget here breaks it in the framer as well, which knows whether the stream goes on.
    let Ok(tag) = tag::read(octets, 1, end - usize::from(empty), &Limits::boundless(), &mut attrs) else {
        return Ok(message.clone());
    };
    let declared = |attr: &&Attr| match tag.is_prefixed() {
        true => attr.role == Role::Prefix && attr.local.of(octets) == tag.prefix(octets),
        false => attr.role == Role::Default,
    };
    let Some(namespace) = attrs.iter().find(declared) else { return Err(Violation::of(Rule::M2)) };
    if content::decode_value(namespace.value.text(octets)) != names::FRAMING {
        return Ok(match attrs.iter().any(|attr| attr.role == Role::Default) {
            true => message.clone(),
            // What has no prefix within it is in no namespace, and not in that of a header which it does not know.
            false => without_default(octets, tag.name.range().end),
        });
    }
    // Neither has content: behind the start tag, the end tag and nothing else.
    let rest = octets.get(end + 1..).unwrap_or_default();
    if !(empty || rest.starts_with(b"</")) {
        return Err(Violation::of(Rule::M1));
    }
    match tag.local.of(octets) {
        b"open" => Ok(header_of(octets, tag.prefix(octets), &attrs)),
        b"close" => Ok(Bytes::from_static(CLOSE)),
        _ => Err(Violation::of(Rule::M2)),
    }
}

/// Where the first tag ends: the place of its `>`.
fn first_tag(octets: &[u8]) -> Option<usize> {
    let mut quote = None;
    octets.iter().position(|octet| {
        match (quote, octet) {
            (None, b'>') => return true,
            (None, b'"' | b'\'') => quote = Some(*octet),
            (Some(open), octet) if open == *octet => quote = None,
            _ => {}
        }
        false
    })
}

/// The message with a declaration that says what is true of it anyway; the name of its element ends at `at`.
fn without_default(octets: &[u8], at: usize) -> Bytes {
    let (name, rest) = octets.split_at_checked(at).unwrap_or((octets, b""));
    [name, b" xmlns=''", rest].concat().into()
}

/// The start tag of a stream with the attributes of an `<open/>`, as they are written: the framer judges them.
fn header_of(octets: &[u8], prefix: &[u8], attrs: &[Attr]) -> Bytes {
    let mut out = Vec::with_capacity(octets.len() + 128);
    out.extend_from_slice(b"<stream:stream xmlns='");
    out.extend_from_slice(names::CLIENT.as_bytes());
    out.extend_from_slice(b"' xmlns:stream='");
    out.extend_from_slice(names::STREAMS.as_bytes());
    out.push(b'\'');
    for attr in attrs {
        let own = attr.local.of(octets);
        match attr.role {
            Role::Default => continue,
            Role::Prefix if own == prefix || own == b"stream" => continue,
            Role::Plain | Role::Prefix | Role::Prefixed => {}
        }
        let (name, value) = (attr.name.range(), attr.value.range());
        out.push(b' ');
        out.extend_from_slice(octets.get(name.start..=value.end).unwrap_or_default());
    }
    out.push(b'>');
    out.into()
}

/// What came where a message of text was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A message of octets (WS-02).
    Binary,
    /// Frames that break RFC 6455: no mask, reserved bits, an order that is none.
    Frames,
    /// Text that is not UTF-8.
    NotText,
    /// More than may be in one message (WS-04).
    TooLarge,
}

impl Unfit {
    /// The breach that it is on the stream.
    pub const fn violation(self) -> Violation {
        match self {
            Self::Binary => Violation::with(Rule::M3, Reason::NotWellFormed),
            Self::Frames => Violation::of(Rule::M3),
            Self::NotText => Violation::of(Rule::B1),
            Self::TooLarge => Violation::of(Rule::ElementSize),
        }
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// One element.
    Element(String),
    /// White space between elements, which no message can be: the other side is to know that we are here.
    Alive,
    /// The last one: the end of the stream.
    Close(String),
}

/// Cuts what we write to a client into messages.
#[derive(Debug)]
pub struct Messages {
    framer: Framer,
}

impl Default for Messages {
    fn default() -> Self {
        Self { framer: Framer::new(Limits::boundless(), Content::Client) }
    }
}

impl Messages {
    /// Nothing was written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The messages that these octets, and those before, make. Each stream on the connection begins with an XML declaration, and
    /// nothing else of ours has one.
    ///
    /// # Errors
    /// What we write ourselves breaks a rule: a fault of ours.
    pub fn cut(&mut self, octets: &[u8]) -> Result<Vec<Message>, Violation> {
        let mut found = Vec::new();
        let mut rest = octets;
        while let Some(at) = memchr::memmem::find(rest, DECLARATION) {
            let (before, from) = rest.split_at(at);
            self.feed(before, &mut found)?;
            self.framer = Framer::new(Limits::boundless(), Content::Client);
            let (declaration, behind) = from.split_at(DECLARATION.len());
            self.framer.feed(declaration);
            rest = behind;
        }
        self.feed(rest, &mut found)?;
        Ok(found)
    }

    fn feed(&mut self, octets: &[u8], found: &mut Vec<Message>) -> Result<(), Violation> {
        self.framer.feed(octets);
        while let Some(token) = self.framer.next() {
            found.push(match token {
                Token::Header(header) => Message::Element(open(&header)),
                Token::Element(frame) => Message::Element(whole(frame.octets())),
                Token::Keepalive | Token::Text => Message::Alive,
                Token::End => Message::Close(format!("<close xmlns='{}'/>", names::FRAMING)),
                Token::Violation(violation) => return Err(violation),
                // Nothing is beyond these limits.
                Token::Refused(_) => return Err(Violation::of(Rule::ElementSize)),
            });
        }
        Ok(())
    }
}

/// The header of a stream as a message.
fn open(header: &Header) -> String {
    let mut out = format!("<open xmlns='{}'", names::FRAMING);
    let version = header.version.map(|(major, minor)| format!("{major}.{minor}"));
    let attributes = [
        ("from", header.from.as_deref()),
        ("to", header.to.as_deref()),
        ("id", header.id.as_deref()),
        ("version", version.as_deref()),
        ("xml:lang", header.lang.as_deref()),
    ];
    push_attributes(&mut out, &attributes);
    out.push_str("/>");
    out
}

/// An element with the namespaces that it leaned on: the content namespace, or that of the prefix `stream`.
fn whole(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    let Some(end) = first_tag(octets) else { return text.into_owned() };
    let inside = text.get(..end).unwrap_or_default().trim_end_matches('/');
    let mut attrs = Vec::new();
    let Ok(tag) = tag::read(octets, 1, inside.len(), &Limits::boundless(), &mut attrs) else {
        return text.into_owned();
    };
    let (name, prefix) = (tag.name.range().end, tag.prefix(octets));
    let declares = |attr: &Attr| match prefix {
        b"" => attr.role == Role::Default,
        prefix => attr.role == Role::Prefix && attr.local.of(octets) == prefix,
    };
    if attrs.iter().any(declares) {
        return text.into_owned();
    }
    let declaration = match prefix {
        b"" => format!(" xmlns='{}'", names::CLIENT),
        _ => format!(" xmlns:stream='{}'", names::STREAMS),
    };
    let (head, rest) = text.split_at_checked(name).unwrap_or((&text, ""));
    [head, &declaration, rest].concat()
}

/// How each stream of ours begins.
const DECLARATION: &[u8] = b"<?xml version='1.0'?>";

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
