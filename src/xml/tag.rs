//! Reads the inside of a start tag, which quick-xml leaves to its user: name and attributes (rules T3, T4, T7, R1, R2).
//!
//! What the names mean is decided in `strict`, with the scope at hand.

use super::content::check_value;
use super::scope::Origin;
use super::{Limits, Rule, Span, Violation, chars};

/// One attribute as written. Spans lie in the element's octets.
#[derive(Clone, Copy)]
pub(super) struct Attr {
    /// The qualified name.
    pub name: Span,
    /// The part of the name after the colon, or all of it.
    pub local: Span,
    /// The raw value without its quotes.
    pub value: Span,
    /// What role the name gives it.
    pub role: Role,
    /// Whether name, spacing and value are in the canonical language.
    pub canonical: bool,
    /// For a prefixed attribute, once resolved: the number of its namespace, and where the prefix was declared.
    pub namespace: Option<(usize, Origin)>,
}

/// What the name of an attribute makes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// `xmlns='..'`
    Default,
    /// `xmlns:p='..'`
    Prefix,
    /// An attribute without a prefix.
    Plain,
    /// An attribute with one.
    Prefixed,
}

impl Attr {
    /// The prefix, where there is one.
    pub(super) fn prefix<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        let name = self.name.range();
        let end = self.local.range().start.saturating_sub(1);
        octets.get(name.start..end).unwrap_or_default()
    }
}

/// The name of a start tag.
pub(super) struct Tag {
    /// The qualified name.
    pub name: Span,
    /// Its part after the colon, or all of it.
    pub local: Span,
    /// Whether nothing but the canonical single spaces stands in the tag.
    pub canonical: bool,
}

impl Tag {
    /// The prefix, empty without one.
    pub(super) fn prefix<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        let name = self.name.range();
        let end = self.local.range().start.saturating_sub(1);
        octets.get(name.start..end).unwrap_or_default()
    }

    /// Whether the name has a prefix.
    pub(super) fn is_prefixed(&self) -> bool {
        self.name.range().start != self.local.range().start
    }
}

/// Reads `octets[start..end]`, the inside of a start tag without `<`, `>` and the `/` of an empty element, into `attrs`.
pub(super) fn read(
    octets: &[u8],
    start: usize,
    end: usize,
    limits: &Limits,
    attrs: &mut Vec<Attr>,
) -> Result<Tag, Violation> {
    attrs.clear();
    attrs.reserve(USUAL);
    let inside = octets.get(..end).unwrap_or_default();
    let (name, local) = name(inside, start, limits)?;
    let mut tag = Tag { name, local, canonical: true };
    let mut at = name.range().end;
    let mut declarations = 0;
    loop {
        let gap = blank(inside, at);
        match (inside.get(at + gap), gap) {
            (None, 0) => return Ok(tag),
            (None, _) => {
                tag.canonical = false;
                return Ok(tag);
            }
            (Some(b'/'), _) => return Err(Violation::of(Rule::T7)),
            (Some(_), 0) => return Err(Violation::of(Rule::T4)),
            (Some(_), _) => (),
        }
        if attrs.len() >= limits.attributes {
            return Err(Violation::of(Rule::Attributes));
        }
        let spaced = gap == 1 && inside.get(at) == Some(&b' ');
        let (mut attr, next) = attribute(inside, at + gap, limits)?;
        attr.canonical &= spaced;
        tag.canonical &= attr.canonical;
        if matches!(attr.role, Role::Default | Role::Prefix) {
            declarations += 1;
            if declarations > limits.declarations {
                return Err(Violation::of(Rule::Declarations));
            }
        }
        attrs.push(attr);
        at = next;
    }
}

/// Reads one attribute at `at`; also tells where it ends.
fn attribute(inside: &[u8], at: usize, limits: &Limits) -> Result<(Attr, usize), Violation> {
    let (name, local) = name(inside, at, limits)?;
    let before = blank(inside, name.range().end);
    let equals = name.range().end + before;
    match inside.get(equals) {
        Some(b'=') => (),
        Some(b'/') => return Err(Violation::of(Rule::T7)),
        _ => return Err(Violation::of(Rule::T4)),
    }
    let after = blank(inside, equals + 1);
    let open = equals + 1 + after;
    let quote = match inside.get(open) {
        Some(&quote @ (b'"' | b'\'')) => quote,
        _ => return Err(Violation::of(Rule::T4)),
    };
    let rest = inside.get(open + 1..).unwrap_or_default();
    let len = memchr::memchr(quote, rest).ok_or(Violation::of(Rule::T4))?;
    if len > limits.value {
        return Err(Violation::of(Rule::ValueLength));
    }
    let value_canonical = check_value(rest.get(..len).unwrap_or_default())?;
    let prefix = name.of(inside).get(..local.range().start.saturating_sub(name.range().start + 1));
    let role = match (name == local, prefix) {
        (true, _) if name.of(inside) == b"xmlns" => Role::Default,
        (true, _) => Role::Plain,
        (false, Some(b"xmlns")) => Role::Prefix,
        (false, _) => Role::Prefixed,
    };
    let value = Span::new(open + 1, open + 1 + len);
    let canonical = before == 0 && after == 0 && value_canonical;
    Ok((Attr { name, local, value, role, canonical, namespace: None }, open + 2 + len))
}

/// Reads a qualified name at `at`: all of it, and its local part.
fn name(inside: &[u8], at: usize, limits: &Limits) -> Result<(Span, Span), Violation> {
    let read = chars::qualified(inside.get(at..).unwrap_or_default())?;
    if read.len > limits.name {
        return Err(Violation::of(Rule::NameLength));
    }
    let end = at + read.len;
    let local = read.prefix.map_or(at, |prefix| at + prefix + 1);
    Ok((Span::new(at, end), Span::new(local, end)))
}

/// How many octets of white space stand at `at`.
fn blank(inside: &[u8], at: usize) -> usize {
    let rest = inside.get(at..).unwrap_or_default();
    rest.iter().position(|&b| !chars::is_space(b)).unwrap_or(rest.len())
}

/// Attributes that a tag rarely exceeds.
const USUAL: usize = 6;
