//! The short way: an element that is canonical as it stands, with no prefix but `xml:lang`, recognised in one pass.
//!
//! Most traffic is of this kind, and the canonical language is where all parsers agree, so here one reading is enough. The
//! answer is yes or nothing: whatever else comes, every breach among it, is left to the scan and the strict reading, which
//! know the rules by name. What is taken here those two would take octet for octet, with the same head; fuzzing and tests
//! compare them, and one element in 1,024 is compared as it passes ([`super::Framer::compare_from`]).

use super::content::{canonical_in_text, canonical_in_value};
use super::frame::{Children, Kind, Lies, Measure, Spans, Surface};
use super::names::{self, Common, Word};
use super::{Content, Limits, Span, chars, grown};

/// Why an element is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its end is not there yet.
    Unfinished,
    /// It is not of the kind that is read here.
    Other,
}

/// The memory of the reading. One serves a whole stream.
#[derive(Default)]
pub(super) struct Canonical {
    open: Vec<Open>,
    attrs: Vec<Span>,
}

/// An element that is open.
struct Open {
    name: Span,
    /// It declares a default namespace.
    declares: bool,
}

/// One reading, from `<` to `>`.
struct Reading<'a> {
    octets: &'a [u8],
    limits: &'a Limits,
    content: Content,
    memory: &'a mut Canonical,
    at: usize,
    nodes: usize,
    /// Declarations in scope.
    bindings: usize,
    /// Attributes `xml:lang`.
    langs: usize,
    surface: Box<Surface>,
    values: Values,
}

/// Attributes of the start tag in hand. None of their values begins at 0.
///
/// What is written here, and in the surface, stays where it is: processors are slow to read at once in wider pieces what
/// has just been written in narrow ones.
#[derive(Default)]
struct Values {
    namespace: Span,
    /// The namespace, if it is a common one.
    common: Option<Common>,
    by: Span,
    from: Span,
}

impl Canonical {
    /// Reads the first-level element at the front of `octets`: its length, and what it is.
    pub(super) fn element(
        &mut self,
        octets: &[u8],
        content: Content,
        limits: &Limits,
    ) -> Result<(usize, Box<Surface>), Stop> {
        let taken = self.read(octets, content, limits);
        if taken.is_err() {
            // An element that never ends must not hold more than its own octets: a child is far larger than `<a/>`.
            *self = Self::default();
        }
        taken
    }

    fn read(
        &mut self,
        octets: &[u8],
        content: Content,
        limits: &Limits,
    ) -> Result<(usize, Box<Surface>), Stop> {
        // What has a prefix is not read here: nothing need be made ready for it.
        if octets.starts_with(b"<stream:") || octets.starts_with(b"</") {
            return Err(Stop::Other);
        }
        self.open.clear();
        let mut reading = Reading {
            octets: octets.get(..limits.element).unwrap_or(octets),
            limits,
            content,
            memory: self,
            at: 0,
            nodes: 0,
            bindings: 0,
            langs: 0,
            surface: Box::new(Surface {
                spans: Spans::default(),
                namespace: Word::new(content.ns()),
                children: Children::new(),
                declared: None,
                measure: Measure::default(),
            }),
            values: Values::default(),
        };
        reading.tags()?;
        let Reading { at, surface, langs, .. } = reading;
        let taken = octets.get(..at).unwrap_or_default();
        let namespaces = langs.saturating_mul(grown::OF_LANG);
        if !chars::is_canonical(taken) || grown::beyond(taken, namespaces, limits.grown).is_some() {
            return Err(Stop::Other);
        }
        Ok((at, surface))
    }
}

impl<'a> Reading<'a> {
    /// Reads until the first-level element is complete.
    fn tags(&mut self) -> Result<(), Stop> {
        loop {
            // An octet `<` is at hand.
            if self.ahead(1)? == b'/' {
                self.end_tag()?;
            } else {
                self.start_tag()?;
            }
            if self.memory.open.is_empty() {
                return Ok(());
            }
            self.text()?;
        }
    }

    fn ahead(&self, distance: usize) -> Result<u8, Stop> {
        self.octets.get(self.at + distance).copied().ok_or(Stop::Unfinished)
    }

    fn rest(&self) -> &'a [u8] {
        self.octets.get(self.at..).unwrap_or_default()
    }

    /// Text, up to the next `<`.
    fn text(&mut self) -> Result<(), Stop> {
        loop {
            let rest = self.rest();
            // Most tags follow each other.
            let len = match rest.first() {
                Some(b'<') => return Ok(()),
                _ => chars::plain_text(rest).ok_or(Stop::Unfinished)?,
            };
            if self.memory.open.len() == 1 && !self.surface.spans.text {
                let plain = rest.get(..len).unwrap_or_default();
                self.surface.spans.text = plain.iter().any(|&b| !chars::is_space(b));
            }
            self.at += len;
            match rest.get(len) {
                Some(b'<') => return Ok(()),
                Some(b'&') => {
                    let reference = rest.get(len..).unwrap_or_default();
                    self.at += canonical_in_text(reference).ok_or(Stop::Other)?;
                    let visible = !reference.starts_with(b"&#13;");
                    self.surface.spans.text |= visible && self.memory.open.len() == 1;
                }
                _ => return Err(Stop::Other),
            }
        }
    }

    fn end_tag(&mut self) -> Result<(), Stop> {
        let Open { name, declares } = self.memory.open.pop().ok_or(Stop::Other)?;
        let begin = self.at + "</".len();
        let end = begin + name.range().len();
        let written = self.octets.get(begin..=end).ok_or(Stop::Unfinished)?;
        if written.split_last() != Some((&b'>', name.of(self.octets))) {
            return Err(Stop::Other);
        }
        self.at = end + 1;
        self.bindings -= usize::from(declares);
        self.ended();
        Ok(())
    }

    fn start_tag(&mut self) -> Result<(), Stop> {
        let begin = self.at;
        let depth = self.memory.open.len() + 1;
        self.nodes += 1;
        if depth > self.limits.depth || self.nodes > self.limits.nodes {
            return Err(Stop::Other);
        }
        self.at += 1;
        let name = self.name()?;
        self.attributes(depth)?;
        let empty = self.ahead(0)? == b'/';
        if empty && self.ahead(1)? != b'>' {
            return Err(Stop::Other);
        }
        self.at += 1 + usize::from(empty);
        let declares = !self.values.namespace.is_absent();
        match depth {
            1 => self.first_level(name)?,
            2 => self.child(begin, name),
            _ => {}
        }
        if empty {
            self.ended();
        } else {
            self.bindings += usize::from(declares);
            self.memory.open.push(Open { name, declares });
        }
        Ok(())
    }

    /// An element has ended, and is no longer among the open ones.
    fn ended(&mut self) {
        if let (1, Some(child)) = (self.memory.open.len(), self.surface.children.last_mut()) {
            child.whole = child.whole.until(self.at);
        }
    }

    /// A name without a prefix.
    fn name(&mut self) -> Result<Span, Stop> {
        let first = self.ahead(0)?;
        let len = chars::plain_name(self.rest()).ok_or(Stop::Unfinished)?;
        if len > self.limits.name || !chars::begins_plain_name(first) {
            return Err(Stop::Other);
        }
        let name = Span::new(self.at, self.at + len);
        self.at += len;
        Ok(name)
    }

    /// The attributes of a start tag, up to what ends it.
    fn attributes(&mut self, depth: usize) -> Result<(), Stop> {
        self.values.namespace = Span::default();
        let mut seen = 0u64;
        self.memory.attrs.clear();
        loop {
            match self.ahead(0)? {
                b'>' | b'/' => {
                    self.surface.measure.tag(self.memory.attrs.len());
                    return Ok(());
                }
                b' ' => self.at += 1,
                _ => return Err(Stop::Other),
            }
            if self.memory.attrs.len() >= self.limits.attributes {
                return Err(Stop::Other);
            }
            let is_lang = self.ahead(0)? == b'x' && self.rest().starts_with(LANG);
            let name = if is_lang {
                self.at += LANG.len();
                self.langs += 1;
                Span::new(self.at - LANG.len(), self.at)
            } else {
                self.name()?
            };
            let value = self.value()?;
            let spelt = name.of(self.octets);
            // Two attributes of one name are for the strict reading to refuse (rule T5). Most differ in one of these.
            let mark = spelt.first().zip(spelt.last()).map_or(0, |(a, z)| a.rotate_left(3) ^ z);
            let bit = 1u64 << ((usize::from(mark) ^ name.len()) % 64);
            if seen & bit != 0 && self.memory.attrs.iter().any(|earlier| earlier.of(self.octets) == spelt) {
                return Err(Stop::Other);
            }
            seen |= bit;
            self.memory.attrs.push(name);
            if spelt == b"xmlns" {
                self.declaration(value)?;
            } else if let Some(place) = self.place(depth, name) {
                *place = value;
            }
        }
    }

    /// Where the value of this attribute is kept, if it is.
    fn place(&mut self, depth: usize, name: Span) -> Option<&mut Span> {
        let spans = &mut self.surface.spans;
        match (depth, name.of(self.octets)) {
            (1, b"from") => Some(&mut spans.from),
            (1, b"to") => Some(&mut spans.to),
            (1, b"id") => Some(&mut spans.id),
            (1, b"type") => Some(&mut spans.type_),
            (1, LANG) => Some(&mut spans.lang),
            (2, b"from") => Some(&mut self.values.from),
            (2, b"by") => Some(&mut self.values.by),
            _ => None,
        }
    }

    /// The rest of an attribute after its name.
    fn value(&mut self) -> Result<Span, Stop> {
        let quote = self.ahead(1)?;
        if self.ahead(0)? != b'=' || !matches!(quote, b'"' | b'\'') {
            return Err(Stop::Other);
        }
        self.at += 2;
        let begin = self.at;
        loop {
            let rest = self.rest();
            let len = chars::plain_value(rest).ok_or(Stop::Unfinished)?;
            self.at += len;
            match rest.get(len) {
                Some(&b) if b == quote => break,
                Some(b'&') => {
                    let reference = rest.get(len..).unwrap_or_default();
                    self.at += canonical_in_value(reference).ok_or(Stop::Other)?;
                }
                _ => return Err(Stop::Other),
            }
        }
        let value = Span::new(begin, self.at);
        self.at += 1;
        self.surface.measure.value(value.len());
        if value.len() > self.limits.value { Err(Stop::Other) } else { Ok(value) }
    }

    /// A default namespace that no rule has anything to say about.
    fn declaration(&mut self, value: Span) -> Result<(), Stop> {
        let name = value.of(self.octets);
        let common = Common::of(name);
        let plain = common.is_some() || chars::is_plain_namespace(name);
        let plain = plain && name.len() <= self.limits.namespace_name;
        let bound = self.limits.declarations > 0 && self.bindings < self.limits.bindings;
        let reserved = [names::STREAMS, names::XML, names::XMLNS].iter().any(|r| r.as_bytes() == name);
        if !plain || !bound || reserved {
            return Err(Stop::Other);
        }
        self.values.namespace = value;
        self.values.common = common;
        Ok(())
    }

    fn first_level(&mut self, name: Span) -> Result<(), Stop> {
        if !self.values.namespace.is_absent() {
            self.surface.namespace = self.declared();
        }
        let kind = match name.of(self.octets) {
            // Not to be waited for (rule S3), and never an element of use.
            b"stream" => return Err(Stop::Other),
            _ if self.surface.namespace != self.content.ns() => Kind::Other,
            b"iq" => Kind::Iq,
            b"message" => Kind::Message,
            b"presence" => Kind::Presence,
            _ => Kind::Other,
        };
        let spans = &mut self.surface.spans;
        spans.name = name;
        spans.kind = kind;
        spans.tag = Span::new(0, self.at);
        Ok(())
    }

    fn child(&mut self, begin: usize, name: Span) {
        let namespace = match self.values.namespace.is_absent() {
            true => self.surface.namespace.clone(),
            false => self.declared(),
        };
        let (by, from) = (std::mem::take(&mut self.values.by), std::mem::take(&mut self.values.from));
        self.surface.children.push(Lies { whole: Span::new(begin, begin), name, by, from, namespace });
    }

    /// The namespace that the start tag in hand declares.
    fn declared(&self) -> Word {
        let Values { namespace, common, .. } = self.values;
        common.map_or_else(|| Word::of(namespace.of(self.octets)), Word::from)
    }
}

/// The one prefixed attribute that is common.
const LANG: &[u8] = b"xml:lang";

#[cfg(test)]
mod tests {
    use super::*;

    // LIM-02: what waits for its end costs its octets and nothing else.
    #[test]
    fn what_is_not_taken_leaves_nothing_behind() {
        let children = format!("<iq>{}", "<a b=''/>".repeat(1000));
        for (end, stop) in [("", Stop::Unfinished), ("<!-- -->", Stop::Other)] {
            let mut memory = Canonical::default();
            let octets = format!("{children}{end}");
            let taken = memory.element(octets.as_bytes(), Content::Server, &Limits::default());
            assert!(taken.is_err_and(|why| why == stop), "{end}");
            assert_eq!(memory.open.capacity() + memory.attrs.capacity(), 0, "{end}");
        }
    }
}
