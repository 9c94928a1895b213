//! A small tree, for the few elements that the gateway itself reads: features, errors, dialback, SASL.
//!
//! Built from canonical octets, which passed the strict reading and are easy to cut; stanzas never need one.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::content::{decode_text, decode_value};
use super::names::{self, Atom};
use super::scope::Declared;
use super::tag::{self, Attr, Role};
use super::write::{escape_attr, escape_text};
use super::{Limits, Span};

/// An element with everything in it resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Element {
    /// The local name.
    pub name: Atom,
    /// The namespace; empty for none.
    pub namespace: Atom,
    /// Namespace, local name and value of each attribute, declarations left out.
    pub attrs: Vec<(Option<Atom>, Atom, String)>,
    /// What is in it.
    pub children: Vec<Node>,
}

/// A part of an element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Text, as much as stands together.
    Text(String),
}

impl Element {
    /// The value of an unprefixed attribute.
    pub fn attr(&self, name: &str) -> Option<&str> {
        let found = self.attrs.iter().find(|(namespace, n, _)| namespace.is_none() && n == name);
        found.map(|(_, _, value)| value.as_str())
    }

    /// Its own text, without that of its children.
    pub fn text(&self) -> Cow<'_, str> {
        if let [Node::Text(text)] = self.children.as_slice() {
            return Cow::Borrowed(text);
        }
        let own = self.children.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        own.collect()
    }

    /// The first child element of this name.
    pub fn child(&self, namespace: &str, name: &str) -> Option<&Element> {
        self.elements().find(|e| e.is(namespace, name))
    }

    /// Its child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Whether it has this expanded name.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// A copy with other children.
    pub fn with(&self, children: Vec<Node>) -> Self {
        let Self { name, namespace, attrs, .. } = self;
        Self { name: name.clone(), namespace: namespace.clone(), attrs: attrs.clone(), children }
    }

    /// The element in canonical form. It stands on its own in any stream whose header declares the prefix `stream`.
    pub fn write(&self) -> String {
        let mut out = String::with_capacity(USUAL);
        self.write_in(&mut out, None);
        out
    }

    /// `outer` is the default namespace around the element, where it is known.
    fn write_in(&self, out: &mut String, outer: Option<&str>) {
        let prefix = match self.namespace.as_str() {
            names::STREAMS => "stream:",
            // Bound for good, and no declaration may make it the default (Namespaces in XML 1.0, section 3).
            names::XML => "xml:",
            _ => "",
        };
        let lent = !prefix.is_empty();
        let inner = if lent { outer } else { Some(self.namespace.as_str()) };
        push(out, &["<", prefix, &self.name]);
        if !lent && outer != inner {
            push(out, &[" xmlns='", &escape_attr(&self.namespace), "'"]);
        }
        for (index, (namespace, name, value)) in self.attrs.iter().enumerate() {
            let value = escape_attr(value);
            match namespace.as_deref() {
                None => push(out, &[" ", name, "='", &value, "'"]),
                Some(names::XML) => push(out, &[" xml:", name, "='", &value, "'"]),
                Some(other) => {
                    let (prefix, other) = (format!("a{index}"), escape_attr(other));
                    push(
                        out,
                        &[" xmlns:", &prefix, "='", &other, "' ", &prefix, ":", name, "='", &value, "'"],
                    );
                }
            }
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for child in &self.children {
            match child {
                Node::Element(element) => element.write_in(out, inner),
                Node::Text(text) => out.push_str(&escape_text(text)),
            }
        }
        push(out, &["</", prefix, &self.name, ">"]);
    }
}

/// Builds the tree of canonical octets. `declared` is what the stream header lends; without it, `namespace` is what an
/// unprefixed first-level element without a declaration belongs to.
pub(super) fn build(octets: &[u8], declared: Option<&Declared>, namespace: &str) -> Element {
    let mut builder = Builder::within(declared, namespace);
    builder.read(std::str::from_utf8(octets).unwrap_or_default());
    builder.done
}

/// The tree of the child that lies there: its names mean what the start tag of its parent makes of them, which may declare their
/// prefixes, and another default (Namespaces in XML 1.0, section 6.1). The rest is as for [`build`].
pub(super) fn build_child(
    octets: &[u8],
    child: Range<usize>,
    declared: Option<&Declared>,
    namespace: &str,
) -> Element {
    let mut builder = Builder::within(declared, namespace);
    let text = std::str::from_utf8(octets).unwrap_or_default();
    let parent = text.split_once('>').and_then(|(tag, _)| tag.strip_prefix('<')).unwrap_or_default();
    builder.start(parent);
    builder.read(text.get(child).unwrap_or_default());
    let parent = builder.open.pop().map(|(parent, _)| parent.children).unwrap_or_default();
    parent
        .into_iter()
        .find_map(|node| if let Node::Element(child) = node { Some(child) } else { None })
        .unwrap_or_default()
}

struct Builder<'a> {
    limits: Limits,
    /// Those of the tag in hand.
    attrs: Vec<Attr>,
    /// Prefixes, and what they stand for.
    bindings: SmallVec<[(&'a [u8], Atom); 4]>,
    open: SmallVec<[(Element, usize); 4]>,
    done: Element,
}

impl<'a> Builder<'a> {
    /// For an element in this scope, which was read under budgets once.
    fn within(declared: Option<&'a Declared>, namespace: &str) -> Self {
        let mut builder = Self {
            limits: Limits::boundless(),
            attrs: Vec::new(),
            bindings: SmallVec::new(),
            open: SmallVec::new(),
            done: Element::default(),
        };
        builder.bind(b"xml", names::XML);
        builder.bind(b"", declared.map_or(namespace, |d| d.content.ns()));
        for (prefix, namespace) in declared.iter().flat_map(|d| &d.prefixes) {
            builder.bindings.push((prefix.as_bytes(), namespace.clone()));
        }
        builder
    }

    /// Elements and text in the canonical language, where neither `<` nor `>` stands in a value or in text.
    fn read(&mut self, mut rest: &'a str) {
        while let Some((before, (inside, after))) =
            rest.split_once('<').and_then(|(before, tag)| Some((before, tag.split_once('>')?)))
        {
            self.text(before);
            match (inside.strip_prefix('/'), inside.strip_suffix('/')) {
                (Some(_), _) => self.end(),
                (None, Some(inside)) => {
                    self.start(inside);
                    self.end();
                }
                (None, None) => self.start(inside),
            }
            rest = after;
        }
    }

    fn bind(&mut self, prefix: &'a [u8], namespace: &str) {
        self.bindings.push((prefix, Atom::new(namespace)));
    }

    fn resolve(&self, prefix: &[u8]) -> Atom {
        let found = self.bindings.iter().rev().find(|(p, _)| *p == prefix);
        found.map(|(_, namespace)| namespace.clone()).unwrap_or_default()
    }

    /// A start tag, without `<`, `>` and the `/` of an empty element.
    fn start(&mut self, inside: &'a str) {
        let (octets, mark) = (inside.as_bytes(), self.bindings.len());
        let mut attrs = std::mem::take(&mut self.attrs);
        let Ok(tag) = tag::read(octets, 0, octets.len(), &self.limits, &mut attrs) else { return };
        let value = |attr: &Attr| decode_value(inside.get(attr.value.range()).unwrap_or_default());
        let name = |local: Span| Atom::of(local.of(octets));
        for attr in &attrs {
            match attr.role {
                Role::Default => self.bind(b"", &value(attr)),
                Role::Prefix => self.bind(attr.local.of(octets), &value(attr)),
                Role::Plain | Role::Prefixed => (),
            }
        }
        let kept = attrs.iter().filter_map(|attr| match attr.role {
            Role::Plain => Some((None, name(attr.local), value(attr).into_owned())),
            Role::Prefixed => {
                let namespace = self.resolve(attr.prefix(octets));
                Some((Some(namespace), name(attr.local), value(attr).into_owned()))
            }
            Role::Default | Role::Prefix => None,
        });
        let element = Element {
            name: name(tag.local),
            namespace: self.resolve(tag.prefix(octets)),
            attrs: kept.collect(),
            children: Vec::new(),
        };
        self.attrs = attrs;
        self.open.push((element, mark));
    }

    fn end(&mut self) {
        let Some((element, mark)) = self.open.pop() else { return };
        self.bindings.truncate(mark);
        match self.open.last_mut() {
            Some((parent, _)) => parent.children.push(Node::Element(element)),
            None => self.done = element,
        }
    }

    fn text(&mut self, raw: &str) {
        if let Some((element, _)) = self.open.last_mut().filter(|_| !raw.is_empty()) {
            element.children.push(Node::Text(decode_text(raw).into_owned()));
        }
    }
}

fn push(out: &mut String, words: &[&str]) {
    words.iter().for_each(|word| out.push_str(word));
}

/// Octets of most elements that the gateway writes.
const USUAL: usize = 512;
