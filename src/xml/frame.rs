//! One complete element: its octets and what the strict reading found in them.
//!
//! A [`Frame`] is made by the framer only, from an element that passed every rule, so whoever holds one need not check
//! again. A [`Head`] is ranges into the octets, decoded when asked for. What the values mean is for others to judge.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::content::{decode_canonical, refers};
use super::names::Atom;
use super::scope::Declared;
use super::{Element, Span, tree};

/// A first-level element in canonical form.
///
/// The octets of a stanza stand on their own in any stream of the same content namespace; those of other elements may
/// lean on the prefixes `stream` and `db` of the header they came under, and stream features on all of its prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    pub(super) head: Head,
    pub(super) received: Received,
}

/// How the octets of a frame came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Received {
    /// They are those that were received.
    Canonical,
    /// They were written anew from what was read.
    Rewritten,
}

impl Frame {
    /// The element, from `<` to `>`, in the canonical language.
    pub fn octets(&self) -> &Bytes {
        &self.head.octets
    }

    /// The same, without a copy, for who needs nothing else of it.
    pub fn into_octets(self) -> Bytes {
        self.head.octets
    }

    /// What was read in it.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The element as a tree. Meant for negotiation elements, which are few and small.
    pub fn tree(&self) -> Element {
        tree::build(self.octets(), self.head.surface.declared.as_deref(), self.head.namespace())
    }

    /// Whether the element has this expanded name.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        let spelt = self.head.surface.spans.name.of(self.octets());
        spelt == name.as_bytes() && self.head.namespace() == namespace
    }

    /// Whether the octets are the received ones.
    #[cfg(any(test, feature = "seen"))]
    pub fn passed_as_received(&self) -> bool {
        self.received == Received::Canonical
    }
}

/// What a first-level element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `iq` in the content namespace.
    Iq,
    /// `message` in the content namespace.
    Message,
    /// `presence` in the content namespace.
    Presence,
    /// Any other element, also one of these names in another namespace.
    Other,
}

impl Kind {
    /// The kind of a stanza in canonical form, which passed as one and is known by its first octets.
    pub fn of_stanza(octets: &[u8]) -> Self {
        match octets {
            [b'<', b'i', ..] => Self::Iq,
            [b'<', b'm', ..] => Self::Message,
            [b'<', b'p', ..] => Self::Presence,
            _ => Self::Other,
        }
    }
}

/// The decoded surface of a first-level element. Values are those of unprefixed attributes (rule N6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    pub(super) octets: Bytes,
    /// Boxed: a frame goes through many hands.
    pub(super) surface: Box<Surface>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Surface {
    pub spans: Spans,
    pub namespace: Atom,
    pub children: Children,
    pub declared: Option<Arc<Declared>>,
    pub measure: Measure,
}

/// How much an element has of what receiving servers count, in its canonical form (requirement XML-18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Measure {
    /// Elements, itself included.
    pub nodes: u32,
    /// The most attributes of one element, declarations included.
    pub attributes: u32,
    /// Octets of the longest attribute value, references as written.
    pub value: u32,
}

impl Measure {
    /// So many elements, and the most of each.
    pub(super) fn of(nodes: usize, attributes: usize, value: usize) -> Self {
        let short = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { nodes: short(nodes), attributes: short(attributes), value: short(value) }
    }

    /// One more start tag, with so many attributes.
    pub(super) fn tag(&mut self, attributes: usize) {
        self.nodes = self.nodes.saturating_add(1);
        self.attributes = self.attributes.max(u32::try_from(attributes).unwrap_or(u32::MAX));
    }

    /// One more value of so many octets.
    pub(super) fn value(&mut self, octets: usize) {
        self.value = self.value.max(u32::try_from(octets).unwrap_or(u32::MAX));
    }
}

/// Most stanzas have no more children than find room without an allocation of their own.
pub(super) type Children = SmallVec<[ChildSpan; 6]>;

/// Where things lie in the canonical octets. An absent value begins at 0, where only `<` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spans {
    pub name: Span,
    pub from: Span,
    pub to: Span,
    pub id: Span,
    pub type_: Span,
    pub lang: Span,
    /// The whole start tag.
    pub tag: Span,
    pub kind: Kind,
}

impl Default for Spans {
    fn default() -> Self {
        let none = Span::default();
        Self {
            name: none,
            from: none,
            to: none,
            id: none,
            type_: none,
            lang: none,
            tag: none,
            kind: Kind::Other,
        }
    }
}

impl Head {
    /// Stanza or not.
    pub fn kind(&self) -> Kind {
        self.surface.spans.kind
    }

    /// The local name.
    pub fn name(&self) -> &str {
        self.surface.spans.name.text(&self.octets)
    }

    /// The namespace; empty for none.
    pub fn namespace(&self) -> &str {
        self.surface.namespace.as_str()
    }

    /// The attribute `from`.
    pub fn from(&self) -> Option<Cow<'_, str>> {
        self.value(self.surface.spans.from)
    }

    /// Where its octets begin in those of the frame.
    pub fn from_at(&self) -> Option<usize> {
        self.at(self.surface.spans.from)
    }

    /// The octets of `from`, if they mean what they spell.
    pub fn from_as_spelt(&self) -> Option<&[u8]> {
        self.as_spelt(self.surface.spans.from)
    }

    /// The attribute `to`.
    pub fn to(&self) -> Option<Cow<'_, str>> {
        self.value(self.surface.spans.to)
    }

    /// Where its octets begin in those of the frame.
    pub fn to_at(&self) -> Option<usize> {
        self.at(self.surface.spans.to)
    }

    /// The octets of `to`, if they mean what they spell.
    pub fn to_as_spelt(&self) -> Option<&[u8]> {
        self.as_spelt(self.surface.spans.to)
    }

    /// The attribute `id`.
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.value(self.surface.spans.id)
    }

    /// The attribute `type`.
    pub fn type_(&self) -> Option<Cow<'_, str>> {
        self.value(self.surface.spans.type_)
    }

    /// Whether the attribute `type` is this word.
    pub fn is_type(&self, word: &str) -> bool {
        // A reference stands for nothing that is part of a word.
        self.surface.spans.type_.of(&self.octets) == word.as_bytes()
    }

    /// The attribute `xml:lang`.
    pub fn lang(&self) -> Option<Cow<'_, str>> {
        self.value(self.surface.spans.lang)
    }

    /// The direct child elements, in order.
    pub fn children(&self) -> impl ExactSizeIterator<Item = Child<'_>> {
        self.surface.children.iter().map(|span| Child { head: self, octets: &self.octets, span })
    }

    /// The direct child element, if there is just one.
    pub fn only_child(&self) -> Option<Child<'_>> {
        let mut children = self.children();
        children.next().filter(|_| children.len() == 0)
    }

    /// Octets of the element in canonical form.
    pub fn octets_len(&self) -> usize {
        self.octets.len()
    }

    /// What receiving servers count in it.
    pub fn measure(&self) -> Measure {
        self.surface.measure
    }

    fn at(&self, span: Span) -> Option<usize> {
        (!span.is_absent()).then(|| span.range().start)
    }

    fn as_spelt(&self, span: Span) -> Option<&[u8]> {
        let octets = span.of(&self.octets);
        (!span.is_absent() && !refers(octets)).then_some(octets)
    }

    fn value(&self, span: Span) -> Option<Cow<'_, str>> {
        value(&self.octets, span)
    }
}

fn value(octets: &[u8], span: Span) -> Option<Cow<'_, str>> {
    (!span.is_absent()).then(|| decode_canonical(span.text(octets)))
}

/// A direct child element of a first-level element.
#[derive(Clone, Copy, Debug)]
pub struct Child<'a> {
    head: &'a Head,
    octets: &'a [u8],
    span: &'a ChildSpan,
}

impl<'a> Child<'a> {
    /// The local name.
    pub fn name(&self) -> &'a str {
        self.span.name.text(self.octets)
    }

    /// Whether the local name is this one.
    pub fn is_named(&self, name: &str) -> bool {
        self.span.name.of(self.octets) == name.as_bytes()
    }

    /// The namespace; empty for none.
    pub fn namespace(&self) -> &'a str {
        self.span.namespace.as_str()
    }

    /// The unprefixed attribute `by`.
    pub fn by(&self) -> Option<Cow<'a, str>> {
        value(self.octets, self.span.by)
    }

    /// The unprefixed attribute `from`.
    pub fn from(&self) -> Option<Cow<'a, str>> {
        value(self.octets, self.span.from)
    }

    /// The child as a tree, by what its parent declares: for the few whose inside somebody looks at.
    pub fn tree(&self) -> Element {
        let declared = self.head.surface.declared.as_deref();
        tree::build_child(self.octets, self.range(), declared, self.head.namespace())
    }

    /// Where it lies in the octets of its frame, both tags included.
    pub fn range(&self) -> Range<usize> {
        self.span.whole.range()
    }
}

/// Where a child and its parts lie in the canonical octets. An absent value begins at 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChildSpan {
    pub whole: Span,
    pub name: Span,
    pub by: Span,
    pub from: Span,
    pub namespace: Atom,
}
