//! The short way: an element that is canonical as it stands, with no prefix but `xml:lang`, recognised in one pass.
//!
//! Most traffic is of this kind, and the canonical language is where all parsers agree, so here one reading is enough. The
//! answer is yes or nothing: whatever else comes, every breach among it, is left to the scan and the strict reading, which
//! know the rules by name. What is taken here those two would take octet for octet, with the same head; fuzzing and tests
//! compare them, and one element in 1,024 is compared as it passes ([`super::Framer::compare_from`]).

use super::content::{canonical_in_text, canonical_in_value};
use super::frame::{ChildSpan, Children, Kind, Measure, Spans, Surface};
use super::names::{Atom, Common};
use super::stops::Stops;
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
    stops: Stops<'a>,
    nodes: usize,
    /// Declarations in scope.
    bindings: usize,
    /// Attributes `xml:lang`.
    langs: usize,
    /// The most attributes of an element, and the octets of the longest value.
    attributes: usize,
    longest: usize,
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
        let octets = octets.get(..limits.element).unwrap_or(octets);
        let mut reading = Reading {
            octets,
            limits,
            content,
            memory: self,
            stops: Stops::new(octets),
            nodes: 0,
            bindings: 0,
            langs: 0,
            attributes: 0,
            longest: 0,
            surface: Box::new(Surface {
                spans: Spans::default(),
                namespace: Atom::from(Common::of_content(content)),
                children: Children::new(),
                declared: None,
                measure: Measure::default(),
            }),
            values: Values::default(),
        };
        let len = reading.tags()?;
        let Reading { stops, mut surface, langs, nodes, attributes, longest, .. } = reading;
        if longest > limits.value {
            return Err(Stop::Other);
        }
        surface.measure = Measure::of(nodes, attributes, longest);
        let taken = octets.get(..len).unwrap_or_default();
        let namespaces = langs.saturating_mul(grown::OF_LANG);
        // Most elements are printable ASCII, and that is known already.
        let sound = (!stops.has_control() || !chars::has_control(taken))
            && (!stops.has_high() || chars::is_text(taken));
        if !sound || grown::beyond(taken, namespaces, limits.grown).is_some() {
            return Err(Stop::Other);
        }
        Ok((len, surface))
    }
}

impl<'a> Reading<'a> {
    /// Reads until the first-level element is complete: its length.
    fn tags(&mut self) -> Result<usize, Stop> {
        let (0, b'<') = self.stop()? else { return Err(Stop::Other) };
        let mut at = 0;
        loop {
            let end = match self.octets.get(at + 1) {
                Some(b'/') => self.end_tag(at)?,
                Some(_) => self.start_tag(at)?,
                None => return Err(Stop::Unfinished),
            };
            if self.memory.open.is_empty() {
                return Ok(end);
            }
            at = self.text()?;
        }
    }

    /// Where the next octet is that can end anything, and which one.
    #[inline(always)]
    fn stop(&mut self) -> Result<(usize, u8), Stop> {
        self.stops.next().ok_or(Stop::Unfinished)
    }

    #[inline(always)]
    fn from(&self, at: usize) -> Result<&'a [u8], Stop> {
        self.octets.get(at..).ok_or(Stop::Other)
    }

    #[inline(always)]
    fn between(&self, from: usize, to: usize) -> Result<&'a [u8], Stop> {
        self.octets.get(from..to).ok_or(Stop::Other)
    }

    /// Text, up to the next `<`: where that is.
    #[inline(always)]
    fn text(&mut self) -> Result<usize, Stop> {
        loop {
            let (at, octet) = self.stops.next_of_text().ok_or(Stop::Unfinished)?;
            match octet {
                b'<' => return Ok(at),
                // Quotes stand for themselves.
                b'"' | b'\'' => {}
                b'&' => {
                    canonical_in_text(self.from(at)?).ok_or(Stop::Other)?;
                }
                _ => return Err(Stop::Other),
            }
        }
    }

    /// Where the end tag that begins there ends.
    #[inline(always)]
    fn end_tag(&mut self, begin: usize) -> Result<usize, Stop> {
        let Open { name, declares } = self.memory.open.pop().ok_or(Stop::Other)?;
        let (at, b'>') = self.stop()? else { return Err(Stop::Other) };
        if self.between(begin + "</".len(), at)? != name.of(self.octets) {
            return Err(Stop::Other);
        }
        self.bindings -= usize::from(declares);
        self.ended(at + 1);
        Ok(at + 1)
    }

    /// Where the start tag that begins there ends.
    #[inline(always)]
    fn start_tag(&mut self, begin: usize) -> Result<usize, Stop> {
        let depth = self.memory.open.len() + 1;
        self.nodes += 1;
        if depth > self.limits.depth || self.nodes > self.limits.nodes {
            return Err(Stop::Other);
        }
        let len = self.name(begin + 1)?;
        let (last, empty) = self.attributes(depth, begin + 1 + len)?;
        let (name, end) = (Span::new(begin + 1, begin + 1 + len), last + 1);
        let declares = !self.values.namespace.is_absent();
        match depth {
            1 => self.first_level(name, end)?,
            2 => self.child(begin, name),
            _ => {}
        }
        if empty {
            self.ended(end);
        } else {
            self.bindings += usize::from(declares);
            self.memory.open.push(Open { name, declares });
        }
        Ok(end)
    }

    /// An element has ended there, and is no longer among the open ones.
    #[inline(always)]
    fn ended(&mut self, end: usize) {
        if self.memory.open.len() == 1
            && let Some(child) = self.surface.children.last_mut()
        {
            child.whole = child.whole.until(end);
        }
    }

    /// The length of the name without a prefix that begins there.
    #[inline(always)]
    fn name(&self, at: usize) -> Result<usize, Stop> {
        let octets = self.from(at)?;
        let len = chars::short_name(octets).or_else(|| chars::plain_name(octets)).ok_or(Stop::Unfinished)?;
        let begins = octets.first().is_some_and(|&first| chars::begins_plain_name(first));
        if len > self.limits.name || !begins { Err(Stop::Other) } else { Ok(len) }
    }

    /// The attributes of a start tag behind its name: where the `>` is, and whether the element is empty.
    #[inline(always)]
    fn attributes(&mut self, depth: usize, begin: usize) -> Result<(usize, bool), Stop> {
        self.values.namespace = Span::default();
        self.memory.attrs.clear();
        let (mut seen, mut from) = (0u64, begin);
        loop {
            let (at, quote) = self.stop()?;
            let name = match (quote, self.between(from, at)?) {
                (b'>', rest @ ([] | [b'/'])) => {
                    self.attributes = self.attributes.max(self.memory.attrs.len());
                    return Ok((at, !rest.is_empty()));
                }
                (b'"' | b'\'', [b' ', name @ .., b'=']) => name,
                _ => return Err(Stop::Other),
            };
            if self.memory.attrs.len() >= self.limits.attributes {
                return Err(Stop::Other);
            }
            let end = self.value(at, quote)?;
            // Two attributes of one name are for the strict reading to refuse (rule T5). Most differ in one of these.
            let mark = name.first().zip(name.last()).map_or(0, |(a, z)| a.rotate_left(3) ^ z);
            let bit = 1u64 << ((usize::from(mark) ^ name.len()) % 64);
            if seen & bit != 0 && self.memory.attrs.iter().any(|earlier| earlier.of(self.octets) == name) {
                return Err(Stop::Other);
            }
            seen |= bit;
            self.memory.attrs.push(Span::new(from + 1, at - 1));
            self.attribute(depth, (name, from + 1), Span::new(at + 1, end))?;
            from = end + 1;
        }
    }

    /// What an attribute says that is of any interest.
    #[inline(always)]
    fn attribute(&mut self, depth: usize, (name, at): (&[u8], usize), value: Span) -> Result<(), Stop> {
        match name {
            b"xmlns" => return self.declaration(value),
            LANG => self.langs += 1,
            b"id" | b"to" | b"from" | b"type" | b"by" => {}
            _ if self.name(at)? == name.len() => return Ok(()),
            _ => return Err(Stop::Other),
        }
        let spans = &mut self.surface.spans;
        let place = match (depth, name) {
            (1, b"from") => &mut spans.from,
            (1, b"to") => &mut spans.to,
            (1, b"id") => &mut spans.id,
            (1, b"type") => &mut spans.type_,
            (1, LANG) => &mut spans.lang,
            (2, b"from") => &mut self.values.from,
            (2, b"by") => &mut self.values.by,
            _ => return Ok(()),
        };
        *place = value;
        Ok(())
    }

    /// Where the value ends that begins behind this quote.
    #[inline(always)]
    fn value(&mut self, begin: usize, quote: u8) -> Result<usize, Stop> {
        let end = loop {
            match self.stop()? {
                (at, octet) if octet == quote => break at,
                (at, b'&') => drop(canonical_in_value(self.from(at)?).ok_or(Stop::Other)?),
                _ => return Err(Stop::Other),
            }
        };
        self.longest = self.longest.max(end - begin - 1);
        // White space other than spaces stands by reference only.
        if self.stops.has_control() && self.between(begin, end)?.iter().any(|&b| b < b' ') {
            return Err(Stop::Other);
        }
        Ok(end)
    }

    /// A default namespace that no rule has anything to say about.
    fn declaration(&mut self, value: Span) -> Result<(), Stop> {
        let name = value.of(self.octets);
        let common = Common::of(name);
        let plain = common.is_some() || chars::is_plain_namespace(name);
        let plain = plain && name.len() <= self.limits.namespace_name;
        let bound = self.limits.declarations > 0 && self.bindings < self.limits.bindings;
        // Those that are reserved are among the common ones.
        if !plain || !bound || common.is_some_and(Common::is_reserved) {
            return Err(Stop::Other);
        }
        self.values.namespace = value;
        self.values.common = common;
        Ok(())
    }

    fn first_level(&mut self, name: Span, end: usize) -> Result<(), Stop> {
        let mut of_content = true;
        if !self.values.namespace.is_absent() {
            self.surface.namespace = self.declared();
            of_content = self.surface.namespace == self.content.ns();
        }
        let kind = match name.of(self.octets) {
            // Not to be waited for (rule S3), and never an element of use.
            b"stream" => return Err(Stop::Other),
            _ if !of_content => Kind::Other,
            b"iq" => Kind::Iq,
            b"message" => Kind::Message,
            b"presence" => Kind::Presence,
            _ => Kind::Other,
        };
        let spans = &mut self.surface.spans;
        spans.name = name;
        spans.kind = kind;
        spans.tag = Span::new(0, end);
        Ok(())
    }

    fn child(&mut self, begin: usize, name: Span) {
        let namespace = match self.values.namespace.is_absent() {
            true => self.surface.namespace.clone(),
            false => self.declared(),
        };
        let (by, from) = (std::mem::take(&mut self.values.by), std::mem::take(&mut self.values.from));
        self.surface.children.push(ChildSpan { whole: Span::new(begin, begin), name, by, from, namespace });
    }

    /// The namespace that the start tag in hand declares.
    fn declared(&self) -> Atom {
        let Values { namespace, common, .. } = self.values;
        common.map_or_else(|| Atom::of(namespace.of(self.octets)), Atom::from)
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
