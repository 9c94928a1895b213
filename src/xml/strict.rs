//! The second reader: a complete element through quick-xml, under every rule that quick-xml leaves open.
//!
//! One pass judges the element, collects its head, and decides whether its octets are canonical. From the first token that
//! is not, the canonical form is written beside; so a canonical element costs no copy, and both ways end in the same
//! language (rules, section 6). What the parts mean to the protocol is for others.

mod writing;

use std::sync::Arc;

use bytes::Bytes;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::content::{canonical_in_text, reference, write_cdata, write_text};
use super::frame::{ChildSpan, Kind, Measure, Spans, Surface};
use super::names::Atom;
use super::scope::{Declared, Meaning, Origin, Resolved, Scope};
use super::tag::{Attr, Role, Tag};
use super::{Limits, Rule, Span, Violation, chars, grown, tag};
use crate::reason::Reason;

/// What an element was found to be.
pub(super) struct Judged {
    pub surface: Box<Surface>,
    /// The canonical form, where the received octets are not it.
    pub rewritten: Option<Bytes>,
}

/// An element that is open.
struct Open {
    mark: (usize, usize),
    name: Span,
    /// The number of its namespace.
    namespace: usize,
}

/// The reader, with the memory it works in. One serves a whole stream.
pub(super) struct Strict {
    scope: Scope,
    /// What the stream header declared, once there is one.
    declared: Option<Arc<Declared>>,
    attrs: Vec<Attr>,
    open: Vec<Open>,
    children: Vec<ChildSpan>,
    /// The canonical form so far, if `writing`.
    out: Vec<u8>,
    writing: bool,
    spans: Spans,
    /// The element is `<stream:features/>`.
    features: bool,
    namespace: Atom,
    measure: Measure,
    /// What its namespaces may cost elsewhere, and then its whole grown size.
    grown: usize,
}

/// Where a tag stands and what kind it is.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    empty: bool,
}

impl Strict {
    /// A reader before the stream header.
    pub(super) fn new() -> Self {
        Self {
            scope: Scope::default(),
            declared: None,
            attrs: Vec::new(),
            open: Vec::new(),
            children: Vec::new(),
            out: Vec::new(),
            writing: false,
            spans: Spans::default(),
            features: false,
            namespace: Atom::new(""),
            measure: Measure::default(),
            grown: 0,
        }
    }

    /// Takes what the stream header declared.
    pub(super) fn begin(&mut self, declared: &Arc<Declared>) {
        self.declared = Some(Arc::clone(declared));
        self.scope.rest();
    }

    /// Reads a complete first-level element.
    pub(super) fn element(&mut self, octets: &[u8], limits: &Limits) -> Result<Judged, Violation> {
        self.reset();
        let text = chars::check(octets)?;
        let mut reader = Reader::from_str(text);
        let mut start = 0;
        loop {
            let event = reader.read_event().map_err(|e| of_quick_xml(&e))?;
            let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            let first = start == 0;
            match event {
                Event::Start(_) if first || !self.open.is_empty() => {
                    self.start(octets, Place { start, end, empty: false }, limits)?;
                }
                Event::Empty(_) if first || !self.open.is_empty() => {
                    self.start(octets, Place { start, end, empty: true }, limits)?;
                }
                Event::End(_) if !self.open.is_empty() => self.end(octets, start, end),
                Event::Text(_) if !self.open.is_empty() => self.text(octets, text, start, end)?,
                Event::GeneralRef(_) if !self.open.is_empty() => self.reference(octets, start, end)?,
                Event::CData(_) if !self.open.is_empty() => self.cdata(octets, text, start, end),
                Event::Eof if self.open.is_empty() && start == octets.len() => break,
                Event::Comment(_) | Event::PI(_) | Event::DocType(_) | Event::Decl(_) => {
                    return Err(Violation::of(Rule::X1));
                }
                _ => return Err(Violation::of(Rule::Disagreement)),
            }
            start = end;
        }
        let canonical = if self.writing { self.out.as_slice() } else { octets };
        if let Some(grown) = grown::beyond(canonical, self.grown, limits.grown) {
            self.grown = grown;
            return Err(Violation::of(Rule::Grown));
        }
        let rewritten = self.writing.then(|| Bytes::from(std::mem::take(&mut self.out)));
        let surface = Surface {
            spans: self.spans,
            namespace: self.namespace.clone(),
            children: std::mem::take(&mut self.children).into(),
            declared: None,
            measure: self.measure,
        };
        Ok(Judged { surface: Box::new(surface), rewritten })
    }

    /// Reads a start tag alone: a first-level element that is not to be waited for (rule S3).
    pub(super) fn first_tag(&mut self, octets: &[u8], limits: &Limits) -> Result<(), Violation> {
        self.reset();
        chars::check(octets)?;
        self.start(octets, Place { start: 0, end: octets.len(), empty: false }, limits)
    }

    /// Reads the start tag of the stream; the attributes are then in [`Strict::attrs`], the namespaces in the scope.
    pub(super) fn root(
        &mut self,
        octets: &[u8],
        empty: bool,
        limits: &Limits,
    ) -> Result<Root<'_>, Violation> {
        self.reset();
        let text = chars::check(octets)?;
        let mut reader = Reader::from_str(text);
        match (reader.read_event().map_err(|e| of_quick_xml(&e))?, empty) {
            (Event::Start(_), false) | (Event::Empty(_), true) => (),
            _ => return Err(Violation::of(Rule::Disagreement)),
        }
        let (tag, resolved) = self.names(octets, Place { start: 0, end: octets.len(), empty }, limits)?;
        let namespace = self.scope.word(octets, resolved);
        let default = self.scope.unprefixed().map(|d| self.scope.word(octets, d)).unwrap_or(Atom::new(""));
        Ok(Root { tag, namespace, default, attrs: &self.attrs })
    }

    /// Gives back the memory that no element in hand needs.
    pub(super) fn rest(&mut self) {
        self.attrs = Vec::new();
        self.open = Vec::new();
        self.children = Vec::new();
        self.out = Vec::new();
        self.scope.rest();
    }

    fn reset(&mut self) {
        match self.scope.rests() {
            true => self.scope.begin(self.declared.as_deref()),
            false => self.scope.reset(),
        }
        self.open.clear();
        self.children.clear();
        self.out.clear();
        self.writing = false;
        self.spans = Spans::default();
        self.features = false;
        self.measure = Measure::default();
        self.grown = 0;
    }

    /// The grown size of an element that was refused for it.
    pub(super) fn grown(&self) -> usize {
        self.grown
    }

    /// Reads a tag's names and attributes and resolves them (rules T3, T4, T5, T7, N1, N2, N4).
    fn names(&mut self, octets: &[u8], place: Place, limits: &Limits) -> Result<(Tag, Resolved), Violation> {
        let inside_end = place.end - 1 - usize::from(place.empty);
        let tag = tag::read(octets, place.start + 1, inside_end, limits, &mut self.attrs)?;
        let content = self.declared.as_ref().map(|declared| declared.content);
        for attr in &self.attrs {
            let prefix = match attr.role {
                Role::Default => Span::default(),
                Role::Prefix => attr.local,
                Role::Plain | Role::Prefixed => continue,
            };
            self.scope.declare(octets, prefix, attr.value, content, limits)?;
        }
        let resolved = match tag.prefix(octets) {
            b"" => self.scope.unprefixed().ok_or(Violation::of(Rule::N1))?,
            b"xmlns" => return Err(Violation::of(Rule::N2)),
            prefix => self.scope.resolve(octets, prefix)?,
        };
        self.no_attribute_twice(octets)?;
        self.prefixes_in_use(octets, &tag, limits)?;
        Ok((tag, resolved))
    }

    /// Rule T5, and N1 for attributes. Most names are told apart by one bit each.
    fn no_attribute_twice(&mut self, octets: &[u8]) -> Result<(), Violation> {
        for attr in &mut self.attrs {
            if attr.role == Role::Prefixed {
                let resolved = self.scope.resolve(octets, attr.prefix(octets))?;
                attr.namespace = Some((resolved.number, resolved.origin));
            }
        }
        let mut seen = 0u64;
        for (i, attr) in self.attrs.iter().enumerate() {
            let local = attr.local.of(octets);
            let bit =
                1u64.rotate_left(local.iter().fold(0u32, |sum, &b| sum.rotate_left(5) ^ u32::from(b)) % 64);
            let twice = |earlier: &Attr| {
                // By the name alone, wherever it was declared: the header may lend one prefix of the two.
                let number = |attr: &Attr| attr.namespace.map(|(number, _)| number);
                (earlier.role, number(earlier)) == (attr.role, number(attr))
                    && earlier.local.of(octets) == local
            };
            if seen & bit != 0 && self.attrs.iter().take(i).any(twice) {
                return Err(Violation::of(Rule::T5));
            }
            seen |= bit;
        }
        Ok(())
    }

    /// XML-18: whoever writes the element anew declares each prefix that it uses on it.
    fn prefixes_in_use(&self, octets: &[u8], tag: &Tag, limits: &Limits) -> Result<(), Violation> {
        if !tag.is_prefixed() && self.attrs.iter().all(|attr| attr.role != Role::Prefixed) {
            return Ok(());
        }
        let own = tag.prefix(octets);
        let mut attributes = 0;
        let mut prefixes = usize::from(!matches!(own, b"" | b"xml"));
        for (i, attr) in self.attrs.iter().enumerate() {
            attributes += usize::from(matches!(attr.role, Role::Plain | Role::Prefixed));
            if attr.role != Role::Prefixed {
                continue;
            }
            let prefix = attr.prefix(octets);
            let earlier = |other: &Attr| other.role == Role::Prefixed && other.prefix(octets) == prefix;
            let known = prefix == own || prefix == b"xml" || self.attrs.iter().take(i).any(earlier);
            prefixes += usize::from(!known);
        }
        if prefixes > limits.declarations {
            return Err(Violation::of(Rule::Declarations));
        }
        if attributes + prefixes > limits.attributes {
            return Err(Violation::of(Rule::Attributes));
        }
        Ok(())
    }

    /// XML-18: what the namespaces of this tag may cost where it is written anew.
    fn grow(&mut self, octets: &[u8], tag: &Tag, resolved: Resolved) {
        let parent = self.open.last().map(|open| open.namespace);
        let parent = parent.or_else(|| self.scope.outer().map(|outer| outer.number));
        if parent != Some(resolved.number) {
            let prefix = tag.prefix(octets);
            let declares = |attr: &Attr| match attr.role {
                Role::Default => prefix.is_empty(),
                Role::Prefix => attr.local.of(octets) == prefix,
                Role::Plain | Role::Prefixed => false,
            };
            if !self.attrs.iter().any(declares) {
                let more = grown::of_element(self.scope.length(octets, resolved.number));
                self.grown = self.grown.saturating_add(more);
            }
        }
        for (number, _) in self.attrs.iter().filter_map(|attr| attr.namespace) {
            let more = grown::of_attribute(self.scope.length(octets, number));
            self.grown = self.grown.saturating_add(more);
        }
    }

    /// A start tag or an empty element.
    fn start(&mut self, octets: &[u8], place: Place, limits: &Limits) -> Result<(), Violation> {
        let depth = self.open.len() + 1;
        let mark = self.scope.mark();
        let (tag, resolved) = self.names(octets, place, limits)?;
        let local = tag.local.of(octets);
        match resolved.meaning {
            Meaning::Streams if depth > 1 => return Err(Violation::of(Rule::S3)),
            Meaning::Streams if local == b"stream" => {
                return Err(Violation::with(Rule::S3, Reason::UnsupportedStanzaType));
            }
            Meaning::Content if tag.is_prefixed() => return Err(Violation::of(Rule::N5)),
            _ => (),
        }
        if depth == 1 && resolved.meaning == Meaning::Content {
            self.spans.kind = match local {
                b"iq" => Kind::Iq,
                b"message" => Kind::Message,
                b"presence" => Kind::Presence,
                _ => Kind::Other,
            };
        }
        if depth == 1 {
            self.features = resolved.meaning == Meaning::Streams && local == b"features";
        }
        self.lean_on_header(resolved)?;
        self.grow(octets, &tag, resolved);
        let begin = self.position(place.start);
        let tag_end = self.write_tag(octets, place, &tag);
        self.measure.tag(self.attrs.len());
        self.attrs.iter().for_each(|attr| self.measure.value(attr.value.len()));
        if depth == 2 {
            self.child(octets, &tag, resolved, begin);
        }
        if depth == 1 {
            self.namespace = self.scope.word(octets, resolved);
            self.first_level(octets, &tag, tag_end);
        }
        if place.empty {
            self.scope.leave(mark);
            self.ended(depth, place.end);
        } else {
            self.open.push(Open { mark, name: tag.name, namespace: resolved.number });
        }
        Ok(())
    }

    /// STR-18: a stanza leans on nothing that only the stream header declares; other elements on two prefixes at most, and
    /// stream features on any.
    fn lean_on_header(&self, element: Resolved) -> Result<(), Violation> {
        let allowed = |origin| match origin {
            Origin::Element => true,
            Origin::Header => self.spans.kind == Kind::Other,
            // Features are read and written anew, never passed on; jabberd2 writes `<ack:ack/>` among them.
            Origin::HeaderOnly => self.features,
        };
        let attributes = self.attrs.iter().filter_map(|a| a.namespace).all(|(_, origin)| allowed(origin));
        if allowed(element.origin) && attributes { Ok(()) } else { Err(Violation::of(Rule::H3)) }
    }

    /// Takes a direct child into the head. Its tag was written from `begin` on, and its values were moved there.
    fn child(&mut self, octets: &[u8], tag: &Tag, resolved: Resolved, begin: usize) {
        let value = |name: &[u8]| {
            let mut attrs = self.attrs.iter();
            let attr = attrs.find(|attr| attr.role == Role::Plain && attr.local.of(octets) == name);
            attr.map_or_else(Span::default, |attr| attr.value)
        };
        let name = tag.local.moved(tag.name.range().start, begin + 1);
        let child = ChildSpan {
            whole: Span::new(begin, begin),
            name,
            by: value(b"by"),
            from: value(b"from"),
            namespace: self.scope.word(octets, resolved),
        };
        self.children.push(child);
    }

    /// Takes the values of the first-level element's attributes into the head.
    fn first_level(&mut self, octets: &[u8], tag: &Tag, tag_end: usize) {
        // The first-level tag begins at 0 in both forms, and its name is canonical as it stands.
        self.spans.name = tag.local;
        self.spans.tag = Span::new(0, tag_end);
        for attr in &self.attrs {
            match (attr.role, attr.local.of(octets)) {
                (Role::Plain, b"from") => self.spans.from = attr.value,
                (Role::Plain, b"to") => self.spans.to = attr.value,
                (Role::Plain, b"id") => self.spans.id = attr.value,
                (Role::Plain, b"type") => self.spans.type_ = attr.value,
                (Role::Prefixed, b"lang") if attr.prefix(octets) == b"xml" => self.spans.lang = attr.value,
                _ => (),
            }
        }
    }

    /// An element of this depth has ended.
    fn ended(&mut self, depth: usize, input: usize) {
        let end = self.position(input);
        if let (2, Some(child)) = (depth, self.children.last_mut()) {
            child.whole = child.whole.until(end);
        }
    }

    fn end(&mut self, octets: &[u8], start: usize, end: usize) {
        let depth = self.open.len();
        let Some(Open { mark, name, .. }) = self.open.pop() else { return };
        if name.range().len() + 3 == end - start {
            self.pass(octets, start, end);
        } else {
            self.write_from(octets, start);
            self.out.extend_from_slice(b"</");
            self.out.extend_from_slice(name.of(octets));
            self.out.push(b'>');
        }
        self.scope.leave(mark);
        self.ended(depth, end);
    }

    fn text(&mut self, octets: &[u8], all: &str, start: usize, end: usize) -> Result<(), Violation> {
        let raw = octets.get(start..end).unwrap_or_default();
        if memchr::memchr2(b'>', b'\r', raw).is_none() {
            self.pass(octets, start, end);
            return Ok(());
        }
        if memchr::memmem::find(raw, b"]]>").is_some() {
            return Err(Violation::of(Rule::R5));
        }
        self.write_from(octets, start);
        write_text(&mut self.out, all.get(start..end).unwrap_or_default());
        Ok(())
    }

    fn reference(&mut self, octets: &[u8], start: usize, end: usize) -> Result<(), Violation> {
        let raw = octets.get(start..end).unwrap_or_default();
        let body = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
        let c = reference(body)?;
        if canonical_in_text(raw).is_some() {
            self.pass(octets, start, end);
        } else {
            self.write_from(octets, start);
            super::content::escape_text_char(&mut self.out, c);
        }
        Ok(())
    }

    fn cdata(&mut self, octets: &[u8], all: &str, start: usize, end: usize) {
        self.write_from(octets, start);
        let raw = all.get(start + "<![CDATA[".len()..end.saturating_sub("]]>".len())).unwrap_or_default();
        write_cdata(&mut self.out, raw);
    }
}

/// The start tag of a stream, read and resolved.
pub(super) struct Root<'a> {
    pub tag: Tag,
    pub namespace: Atom,
    pub default: Atom,
    pub attrs: &'a [Attr],
}

/// Checks that quick-xml's complaint gets the rule's id. The scan has seen to everything but references.
fn of_quick_xml(error: &quick_xml::Error) -> Violation {
    use quick_xml::errors::IllFormedError;
    match error {
        quick_xml::Error::IllFormed(IllFormedError::UnclosedReference) => Violation::of(Rule::R1),
        _ => Violation::of(Rule::Disagreement),
    }
}
