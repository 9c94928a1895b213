//! The stream header: read, judged (rules H1 to H4) and written.
//!
//! What `from`, `to`, `id` and the version ask for is the business of `stream`; any of them may be absent here.

use std::borrow::Cow;
use std::sync::Arc;

use super::content::decode_value;
use super::names::{self, Atom};
use super::scope::Declared;
use super::strict::{Root, Strict};
use super::tag::Role;
use super::write::push_attributes;
use super::{Content, Limits, Rule, Violation, chars};
use crate::reason::Reason;

/// A stream header (RFC 6120 4.7), decoded. One that is only written may borrow its words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header<T = String> {
    /// The content namespace.
    pub content: Content,
    /// The attribute `from`.
    pub from: Option<T>,
    /// The attribute `to`.
    pub to: Option<T>,
    /// The attribute `id`.
    pub id: Option<T>,
    /// The version, major and minor. None where the attribute is absent; (0, 0) where it is no version.
    pub version: Option<(u32, u32)>,
    /// The attribute `xml:lang`.
    pub lang: Option<T>,
    /// Whether the dialback namespace is declared, whatever the prefix.
    pub dialback: bool,
}

impl<T: AsRef<str>> Header<T> {
    /// A header that says nothing but its content namespace.
    pub fn new(content: Content) -> Self {
        Self { content, from: None, to: None, id: None, version: None, lang: None, dialback: false }
    }

    /// The header as it goes on the wire, after an XML declaration.
    pub fn write_open(&self) -> Vec<u8> {
        let mut out = String::with_capacity(USUAL);
        out.push_str("<?xml version='1.0'?><stream:stream xmlns='");
        out.push_str(self.content.ns());
        out.push_str("' xmlns:stream='");
        out.push_str(names::STREAMS);
        out.push('\'');
        if self.dialback {
            // STR-13: the prefix is spelled `db`, which some servers take for the name itself.
            out.push_str(" xmlns:db='");
            out.push_str(names::DIALBACK);
            out.push('\'');
        }
        let version = self.version.map(|(major, minor)| match (major, minor) {
            (1, 0) => Cow::Borrowed("1.0"),
            _ => Cow::Owned(format!("{major}.{minor}")),
        });
        let attributes = [
            ("from", self.from.as_ref().map(T::as_ref)),
            ("to", self.to.as_ref().map(T::as_ref)),
            ("id", self.id.as_ref().map(T::as_ref)),
            ("version", version.as_deref()),
            ("xml:lang", self.lang.as_ref().map(T::as_ref)),
        ];
        push_attributes(&mut out, &attributes);
        out.push('>');
        out.into_bytes()
    }
}

impl Header {
    /// Reads the start tag of a stream.
    pub(super) fn read(
        octets: &[u8],
        empty: bool,
        content: Content,
        strict: &mut Strict,
        limits: &Limits,
    ) -> Result<(Self, Arc<Declared>), Violation> {
        let root = strict.root(octets, empty, limits)?;
        accept(&root, octets, content)?;
        let mut header = Self::new(content);
        let mut prefixes = Vec::new();
        for attr in root.attrs {
            let value = decode_value(attr.value.text(octets));
            match (attr.role, attr.local.of(octets)) {
                (Role::Prefix, b"xml") | (Role::Default, _) => (),
                (Role::Prefix, prefix) => {
                    header.dialback |= value == names::DIALBACK;
                    prefixes.push((Atom::of(prefix), Atom::new(&value)));
                }
                (Role::Plain, b"from") => header.from = Some(value.into_owned()),
                (Role::Plain, b"to") => header.to = Some(value.into_owned()),
                (Role::Plain, b"id") => header.id = Some(value.into_owned()),
                (Role::Plain, b"version") => header.version = Some(version(&value)),
                (Role::Prefixed, b"lang") if attr.prefix(octets) == b"xml" => {
                    header.lang = Some(value.into_owned());
                }
                _ => (),
            }
        }
        Ok((header, Arc::new(Declared { content, prefixes })))
    }
}

/// Rule H2: STR-01, STR-02, STR-03.
fn accept(root: &Root<'_>, octets: &[u8], content: Content) -> Result<(), Violation> {
    if root.namespace != names::STREAMS {
        return Err(Violation::of(Rule::H2));
    }
    if root.tag.local.of(octets) != b"stream" {
        return Err(Violation::with(Rule::H2, Reason::BadFormat));
    }
    if root.tag.prefix(octets) != b"stream" {
        return Err(Violation::with(Rule::H2, Reason::BadNamespacePrefix));
    }
    if root.default != content.ns() {
        return Err(Violation::of(Rule::H2));
    }
    Ok(())
}

/// RFC 6120 4.7.5: major and minor are separate numbers, leading zeros are ignored.
fn version(text: &str) -> (u32, u32) {
    let number = |digits: &str| {
        let figures = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        figures.then(|| digits.parse().unwrap_or(u32::MAX))
    };
    text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?))).unwrap_or((0, 0))
}

/// Judges an XML declaration, `<?xml` to `?>` (rule H1, XML-03; XML 1.0 production 23).
pub(super) fn declaration(octets: &[u8]) -> Result<(), Violation> {
    // What nearly everybody writes.
    if matches!(octets, b"<?xml version='1.0'?>" | b"<?xml version=\"1.0\"?>") {
        return Ok(());
    }
    let text = chars::check(octets)?;
    let malformed = Violation::of(Rule::H1);
    let inside = text.strip_prefix("<?xml").and_then(|t| t.strip_suffix("?>")).ok_or(malformed)?;
    let (rest, version) = pseudo_attribute(inside, "version")?.ok_or(malformed)?;
    if version != "1.0" {
        return Err(malformed);
    }
    let rest = match pseudo_attribute(rest, "encoding")? {
        Some((rest, encoding)) if encoding.eq_ignore_ascii_case("UTF-8") => rest,
        Some(_) => return Err(Violation::with(Rule::H1, Reason::UnsupportedEncoding)),
        None => rest,
    };
    let rest = match pseudo_attribute(rest, "standalone")? {
        // XML-03: a stream is no document that could stand alone or not, so it means nothing.
        Some((rest, "yes" | "no")) => rest,
        Some(_) => return Err(malformed),
        None => rest,
    };
    if rest.bytes().all(chars::is_space) { Ok(()) } else { Err(malformed) }
}

/// Reads white space, `name`, `=` and a quoted value off the front; nothing where another name stands.
fn pseudo_attribute<'a>(text: &'a str, name: &str) -> Result<Option<(&'a str, &'a str)>, Violation> {
    let malformed = Violation::of(Rule::H1);
    let trim = |t: &'a str| t.trim_start_matches([' ', '\t', '\r', '\n']);
    let begun = trim(text);
    let Some(rest) = begun.strip_prefix(name) else { return Ok(None) };
    if begun.len() == text.len() {
        return Err(malformed);
    }
    let rest = trim(trim(rest).strip_prefix('=').ok_or(malformed)?);
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or(malformed)?;
    let (value, rest) = rest.get(1..).and_then(|r| r.split_once(quote)).ok_or(malformed)?;
    Ok(Some((rest, value)))
}

/// Octets of most headers that the gateway writes.
const USUAL: usize = 256;
