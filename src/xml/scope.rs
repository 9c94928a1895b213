//! Namespace bindings in scope, resolved from decoded names (rules N1 to N4, H3).
//!
//! quick-xml's own resolver works on raw text and is not used. Equal namespace names share a number, so that comparing two
//! of them costs the same however long they are.

use super::content::decode_value;
use super::names::{self, Atom};
use super::{Content, Limits, Rule, Span, Violation};
use crate::reason::Reason;

/// What a stream header declared: all that elements may or may not lean on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Declared {
    /// The default namespace.
    pub content: Content,
    /// Prefix and namespace of every other declaration.
    pub prefixes: Vec<(Atom, Atom)>,
}

impl Declared {
    /// Whether negotiation elements may use this namespace through the header's prefix.
    pub(super) fn serves(namespace: &str) -> bool {
        matches!(namespace, names::STREAMS | names::DIALBACK)
    }
}

/// Which namespace, as far as rules ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The content namespace of this stream.
    Content,
    /// The stream namespace.
    Streams,
    /// Any other, none included.
    Other,
}

/// What a name resolved to.
#[derive(Clone, Copy)]
pub(super) struct Resolved {
    /// The number of the binding that first named this namespace.
    pub number: usize,
    /// What rules ask of it.
    pub meaning: Meaning,
    /// Where it was declared.
    pub origin: Origin,
}

/// Where a binding comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The element itself or one above it; or always there (`xml`, the default).
    Element,
    /// The stream header, and negotiation elements may use it.
    Header,
    /// The stream header, and nothing may use it.
    HeaderOnly,
}

struct Binding {
    prefix: Prefix,
    number: usize,
    meaning: Meaning,
    origin: Origin,
    digest: u64,
    name: Name,
}

/// A namespace name: shared text, or where it lies in the element.
enum Name {
    Atom(Atom),
    Raw(Span),
}

/// A prefix, so kept that most comparisons look at two numbers.
struct Prefix {
    digest: u64,
    text: PrefixText,
}

enum PrefixText {
    Own(Atom),
    Element(Span),
}

/// The bindings, innermost last.
#[derive(Default)]
pub(super) struct Scope {
    bindings: Vec<Binding>,
    base: usize,
    /// The binding in force as the default.
    default: usize,
}

impl Scope {
    /// Forgets everything and starts from what a stream header declared; from nothing before there is one.
    pub(super) fn begin(&mut self, declared: Option<&Declared>) {
        self.bindings.clear();
        self.bindings.reserve_exact(declared.map_or(0, |d| d.prefixes.len()) + 3);
        self.push_base(Atom::new("xml"), Atom::new(names::XML), Meaning::Other, Origin::Element);
        let (default, meaning) =
            declared.map_or(("", Meaning::Other), |d| (d.content.ns(), Meaning::Content));
        self.push_base(Atom::default(), Atom::new(default), meaning, Origin::Element);
        for (prefix, namespace) in declared.iter().flat_map(|d| &d.prefixes) {
            let origin = if Declared::serves(namespace) { Origin::Header } else { Origin::HeaderOnly };
            let meaning = match (declared, namespace.as_str()) {
                (_, names::STREAMS) => Meaning::Streams,
                (Some(d), name) if name == d.content.ns() => Meaning::Content,
                _ => Meaning::Other,
            };
            self.push_base(prefix.clone(), namespace.clone(), meaning, origin);
        }
        self.base = self.bindings.len();
        self.reset();
    }

    /// Drops what elements declared.
    pub(super) fn reset(&mut self) {
        self.bindings.truncate(self.base);
        self.default = 1;
    }

    /// Drops everything, and the memory for it: it begins anew with the next element.
    pub(super) fn rest(&mut self) {
        *self = Self::default();
    }

    /// Whether it has not begun.
    pub(super) fn rests(&self) -> bool {
        self.bindings.is_empty()
    }

    /// The state to come back to with [`Scope::leave`].
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.bindings.len(), self.default)
    }

    /// Drops what was declared since the mark.
    pub(super) fn leave(&mut self, (len, default): (usize, usize)) {
        self.bindings.truncate(len);
        self.default = default;
    }

    /// Adds a declaration. `prefix` is empty for the default.
    pub(super) fn declare(
        &mut self,
        octets: &[u8],
        prefix: Span,
        raw: Span,
        content: Option<Content>,
        limits: &Limits,
    ) -> Result<(), Violation> {
        let name = decode_value(raw.text(octets));
        check_name(&name, limits)?;
        let spelt = prefix.of(octets);
        // Namespaces in XML 1.0, section 3, "Reserved Prefixes and Namespace Names", and section 5 for the empty name.
        let breach = match (spelt, name.as_ref()) {
            (b"xml", name) => name != names::XML,
            (b"xmlns", _) | (_, names::XML | names::XMLNS) => true,
            (prefix, "") => !prefix.is_empty(),
            _ => false,
        };
        if breach {
            return Err(Violation::of(Rule::N2));
        }
        if self.bindings.len() - self.base >= limits.bindings {
            return Err(Violation::of(Rule::Bindings));
        }
        let digest = digest(name.as_bytes());
        let meaning = match name.as_ref() {
            names::STREAMS => Meaning::Streams,
            name if content.is_some_and(|c| c.ns() == name) => Meaning::Content,
            _ => Meaning::Other,
        };
        let number = self.number_of(octets, digest, &name);
        let name = match name {
            std::borrow::Cow::Borrowed(_) => Name::Raw(raw),
            std::borrow::Cow::Owned(name) => Name::Atom(Atom::new(&name)),
        };
        if spelt.is_empty() {
            self.default = self.bindings.len();
        }
        let prefix = Prefix { digest: self::digest(spelt), text: PrefixText::Element(prefix) };
        self.bindings.push(Binding { prefix, number, meaning, origin: Origin::Element, digest, name });
        Ok(())
    }

    /// What an element without a prefix belongs to.
    pub(super) fn unprefixed(&self) -> Option<Resolved> {
        self.bindings.get(self.default).map(Binding::resolved)
    }

    /// What stands outside the first-level element as the default.
    pub(super) fn outer(&self) -> Option<Resolved> {
        self.bindings.get(1).map(Binding::resolved)
    }

    /// Octets of the name of the namespace with this number.
    pub(super) fn length(&self, octets: &[u8], number: usize) -> usize {
        self.bindings.get(number).map_or(0, |binding| binding.name.of(octets).len())
    }

    /// What a prefix stands for (rule N1 where it is nothing).
    pub(super) fn resolve(&self, octets: &[u8], prefix: &[u8]) -> Result<Resolved, Violation> {
        let sought = digest(prefix);
        let found = self
            .bindings
            .iter()
            .rev()
            .find(|b| b.prefix.digest == sought && b.prefix.text.of(octets) == prefix);
        found.map(Binding::resolved).ok_or(Violation::of(Rule::N1))
    }

    /// The name of a resolved namespace; made once for each binding.
    pub(super) fn word(&mut self, octets: &[u8], resolved: Resolved) -> Atom {
        let Some(binding) = self.bindings.get_mut(resolved.number) else { return Atom::new("") };
        match &binding.name {
            Name::Atom(word) => word.clone(),
            Name::Raw(raw) => {
                let word = Atom::new(raw.text(octets));
                binding.name = Name::Atom(word.clone());
                word
            }
        }
    }

    fn push_base(&mut self, prefix: Atom, name: Atom, meaning: Meaning, origin: Origin) {
        let digest = digest(name.as_bytes());
        let number = self.number_of(b"", digest, &name);
        let prefix = Prefix { digest: self::digest(prefix.as_bytes()), text: PrefixText::Own(prefix) };
        self.bindings.push(Binding { prefix, number, meaning, origin, digest, name: Name::Atom(name) });
    }

    /// The number of the first binding of this namespace; the next free one for a new namespace.
    fn number_of(&self, octets: &[u8], digest: u64, name: &str) -> usize {
        let same = |b: &Binding| b.digest == digest && b.name.of(octets) == name.as_bytes();
        self.bindings.iter().position(same).unwrap_or(self.bindings.len())
    }
}

impl Binding {
    fn resolved(&self) -> Resolved {
        Resolved { number: self.number, meaning: self.meaning, origin: self.origin }
    }
}

impl Name {
    fn of<'a>(&'a self, octets: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Atom(word) => word.as_bytes(),
            Self::Raw(raw) => raw.of(octets),
        }
    }
}

impl PrefixText {
    fn of<'a>(&'a self, octets: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Own(text) => text.as_bytes(),
            Self::Element(span) => span.of(octets),
        }
    }
}

/// Rule N4 and requirement XML-08 over a decoded namespace name.
fn check_name(name: &str, limits: &Limits) -> Result<(), Violation> {
    if name.len() > limits.namespace_name {
        return Err(Violation::of(Rule::NamespaceLength));
    }
    if super::chars::is_plain_namespace(name.as_bytes()) {
        return Ok(());
    }
    for c in name.chars() {
        match c {
            // XML-08 has its own answer to these.
            _ if c == ' ' || c.is_control() => {
                return Err(Violation::with(Rule::N4, Reason::NotWellFormed));
            }
            '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => return Err(Violation::of(Rule::N4)),
            '!'..='~' => (),
            _ => return Err(Violation::of(Rule::N4)),
        }
    }
    Ok(())
}

/// A number to compare before the text itself. Not secret: a collision costs a comparison, and bindings are few.
fn digest(octets: &[u8]) -> u64 {
    let mut digest = u64::try_from(octets.len()).unwrap_or(u64::MAX);
    let mut chunks = octets.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.try_into().map_or(0, u64::from_le_bytes);
        digest = (digest.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    for &b in chunks.remainder() {
        digest = (digest.rotate_left(8) ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3);
    }
    digest
}
