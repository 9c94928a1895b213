//! A small tree, for the few elements that the gateway itself reads: features, errors, dialback, SASL.
//!
//! Built from canonical octets that passed the strict reading; stanzas never need one.

use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::Limits;
use super::content::{decode_text, decode_value};
use super::names;
use super::scope::Declared;
use super::tag::{self, Attr, Role};
use super::write::{escape_attr, escape_text};

/// An element with everything in it resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Element {
    /// The local name.
    pub name: String,
    /// The namespace; empty for none.
    pub namespace: String,
    /// Namespace, local name and value of each attribute, declarations left out.
    pub attrs: Vec<(Option<String>, String, String)>,
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
    pub fn text(&self) -> String {
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
        let mut out = String::new();
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
        out.push('<');
        out.push_str(prefix);
        out.push_str(&self.name);
        if !lent && outer != inner {
            out.push_str(&format!(" xmlns='{}'", escape_attr(&self.namespace)));
        }
        for (index, (namespace, name, value)) in self.attrs.iter().enumerate() {
            let value = escape_attr(value);
            match namespace.as_deref() {
                None => out.push_str(&format!(" {name}='{value}'")),
                Some(names::XML) => out.push_str(&format!(" xml:{name}='{value}'")),
                Some(other) => {
                    out.push_str(&format!(
                        " xmlns:a{index}='{}' a{index}:{name}='{value}'",
                        escape_attr(other)
                    ));
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
        out.push_str(&format!("</{prefix}{}>", self.name));
    }

    fn push_text(&mut self, text: &str) {
        match self.children.last_mut() {
            Some(Node::Text(last)) => last.push_str(text),
            _ => self.children.push(Node::Text(text.to_owned())),
        }
    }
}

/// Builds the tree of canonical octets. `declared` is what the stream header lends; without it, `namespace` is what an
/// unprefixed first-level element without a declaration belongs to.
pub(super) fn build(octets: &[u8], declared: Option<&Declared>, namespace: &str) -> Element {
    let text = std::str::from_utf8(octets).unwrap_or_default();
    let mut builder = Builder { octets, bindings: Vec::new(), open: Vec::new(), done: Element::default() };
    builder.bind("xml", names::XML);
    builder.bind("", declared.map_or(namespace, |d| d.content.ns()));
    for (prefix, namespace) in declared.iter().flat_map(|d| &d.prefixes) {
        builder.bind(prefix, namespace);
    }
    let mut reader = Reader::from_str(text);
    let mut start = 0;
    while let Ok(event) = reader.read_event() {
        let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        match event {
            Event::Start(_) => builder.start(start, end - 1),
            Event::Empty(_) => {
                builder.start(start, end - 2);
                builder.end();
            }
            Event::End(_) => builder.end(),
            Event::Text(_) | Event::GeneralRef(_) => {
                builder.text(&decode_text(text.get(start..end).unwrap_or_default()));
            }
            _ => break,
        }
        start = end;
    }
    builder.done
}

struct Builder<'a> {
    octets: &'a [u8],
    bindings: Vec<(String, String)>,
    open: Vec<(Element, usize)>,
    done: Element,
}

impl Builder<'_> {
    fn bind(&mut self, prefix: &str, namespace: &str) {
        self.bindings.push((prefix.to_owned(), namespace.to_owned()));
    }

    fn resolve(&self, prefix: &[u8]) -> String {
        let found = self.bindings.iter().rev().find(|(p, _)| p.as_bytes() == prefix);
        found.map(|(_, namespace)| namespace.clone()).unwrap_or_default()
    }

    fn start(&mut self, start: usize, inside_end: usize) {
        let mark = self.bindings.len();
        let len = self.octets.len();
        let limits =
            Limits { name: len, value: len, attributes: len, declarations: len, ..Limits::default() };
        let mut attrs = Vec::new();
        let Ok(tag) = tag::read(self.octets, start + 1, inside_end, &limits, &mut attrs) else { return };
        let value = |attr: &Attr| decode_value(attr.value.text(self.octets)).into_owned();
        let local = |attr: &Attr| attr.local.text(self.octets).to_owned();
        for attr in &attrs {
            match attr.role {
                Role::Default => self.bindings.push((String::new(), value(attr))),
                Role::Prefix => self.bindings.push((local(attr), value(attr))),
                Role::Plain | Role::Prefixed => (),
            }
        }
        let attrs = attrs.iter().filter_map(|attr| match attr.role {
            Role::Plain => Some((None, local(attr), value(attr))),
            Role::Prefixed => Some((Some(self.resolve(attr.prefix(self.octets))), local(attr), value(attr))),
            Role::Default | Role::Prefix => None,
        });
        let element = Element {
            name: tag.local.text(self.octets).to_owned(),
            namespace: self.resolve(tag.prefix(self.octets)),
            attrs: attrs.collect(),
            children: Vec::new(),
        };
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

    fn text(&mut self, text: &str) {
        if let Some((element, _)) = self.open.last_mut() {
            element.push_text(text);
        }
    }
}
