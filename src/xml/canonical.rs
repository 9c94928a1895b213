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
}

/// An element that is open.
struct Open {
    name: Span,
    /// The same in one word.
    word: u64,
    /// Declarations in scope outside of it.
    bindings: usize,
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
    #[inline(always)]
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
            if octet == b'<' {
                return Ok(at);
            }
            // Quotes stand for themselves.
            if octet == b'>' || octet == b'&' && !self.refers(at)? {
                return Err(Stop::Other);
            }
        }
    }

    /// Whether this `&` begins what stands so in canonical text.
    #[inline(always)]
    fn refers(&self, at: usize) -> Result<bool, Stop> {
        let word = self.word(at, 4);
        Ok(word == LT || word == GT || canonical_in_text(self.from(at)?).is_some())
    }

    /// Where the end tag that begins there ends.
    #[inline(always)]
    fn end_tag(&mut self, begin: usize) -> Result<usize, Stop> {
        let Open { name, word, bindings } = self.memory.open.pop().ok_or(Stop::Other)?;
        let (at, b'>') = self.stop()? else { return Err(Stop::Other) };
        let from = begin + "</".len();
        let same = at - from == name.len() && self.word(from, name.len()) == word;
        // What is longer than a word is compared as a whole.
        if !same || name.len() > 8 && self.between(from, at)? != name.of(self.octets) {
            return Err(Stop::Other);
        }
        self.bindings = bindings;
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
            let (word, bindings) = (self.word(begin + 1, len), self.bindings);
            self.memory.open.push(Open { name, word, bindings });
            self.bindings += usize::from(declares);
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
        let (mut seen, mut shared, mut count, mut from) = (0u64, 0, 0, begin);
        loop {
            let (at, quote) = self.stop()?;
            let name = match (quote, self.between(from, at)?) {
                (b'>', rest @ ([] | [b'/'])) => {
                    self.attributes = self.attributes.max(count);
                    // Two attributes of one name are for the strict reading to refuse (rule T5). Most have a bit of their own.
                    if shared != 0 && Self::has_twins(self.between(begin, at)?) {
                        return Err(Stop::Other);
                    }
                    return Ok((at, !rest.is_empty()));
                }
                (b'"' | b'\'', [b' ', name @ .., b'=']) => name,
                _ => return Err(Stop::Other),
            };
            count += 1;
            if count > self.limits.attributes {
                return Err(Stop::Other);
            }
            let end = self.value(at, quote)?;
            let word = self.word(from + 1, name.len());
            let bit = 1 << (word.wrapping_mul(SPREAD) >> 58);
            shared |= seen & bit;
            seen |= bit;
            self.attribute(depth, (word, from + 1, name.len()), Span::new(at + 1, end))?;
            from = end + 1;
        }
    }

    /// A name of so many octets in one word, with nothing behind it: no two names of as many as fit have the same. All that
    /// are longer have one that no other has. A character that is none is found elsewhere.
    #[inline(always)]
    fn word(&self, at: usize, len: usize) -> u64 {
        if len > 8 {
            return LONG;
        }
        let word = match self.octets.get(at..at + 8).and_then(<[u8]>::as_array) {
            Some(word) => *word,
            None => begun(self.octets.get(at..)),
        };
        u64::from_le_bytes(word) & (u64::MAX >> (8_usize.wrapping_sub(len) * 8 % 64))
    }

    /// Whether two of these attributes, which were read, have one name.
    #[cold]
    fn has_twins(attributes: &[u8]) -> bool {
        let mut rest = attributes;
        let mut names = Vec::new();
        while let Some(equals) = memchr::memchr(b'=', rest) {
            names.push(rest.get(..equals));
            let Some((quote, value)) = rest.get(equals + 1..).and_then(<[u8]>::split_first) else { break };
            let end = memchr::memchr(*quote, value).unwrap_or(value.len());
            rest = value.get(end + 1..).unwrap_or_default();
        }
        names.sort_unstable();
        names.windows(2).any(|two| two.first() == two.last())
    }

    /// What an attribute says that is of any interest.
    #[inline(always)]
    fn attribute(
        &mut self,
        depth: usize,
        (word, at, len): (u64, usize, usize),
        value: Span,
    ) -> Result<(), Stop> {
        match word {
            XMLNS => return self.declaration(value),
            LANG => self.langs += 1,
            ID | TO | FROM | TYPE | BY => {}
            _ if self.name(at)? == len => return Ok(()),
            _ => return Err(Stop::Other),
        }
        let spans = &mut self.surface.spans;
        let place = match (depth, word) {
            (1, FROM) => &mut spans.from,
            (1, TO) => &mut spans.to,
            (1, ID) => &mut spans.id,
            (1, TYPE) => &mut spans.type_,
            (1, LANG) => &mut spans.lang,
            (2, FROM) => &mut self.values.from,
            (2, BY) => &mut self.values.by,
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
    #[inline(always)]
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

    #[inline(always)]
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

    #[inline(always)]
    fn child(&mut self, begin: usize, name: Span) {
        let namespace = match self.values.namespace.is_absent() {
            true => self.surface.namespace.clone(),
            false => self.declared(),
        };
        let (by, from) = (std::mem::take(&mut self.values.by), std::mem::take(&mut self.values.from));
        self.surface.children.push(ChildSpan { whole: Span::new(begin, begin), name, by, from, namespace });
    }

    /// The namespace that the start tag in hand declares.
    #[inline(always)]
    fn declared(&self) -> Atom {
        let Values { namespace, common, .. } = self.values;
        common.map_or_else(|| Atom::of(namespace.of(self.octets)), Atom::from)
    }
}

/// The names that say something, each in one word.
const XMLNS: u64 = u64::from_le_bytes(*b"xmlns\0\0\0");
const FROM: u64 = u64::from_le_bytes(*b"from\0\0\0\0");
const TO: u64 = u64::from_le_bytes(*b"to\0\0\0\0\0\0");
const ID: u64 = u64::from_le_bytes(*b"id\0\0\0\0\0\0");
const TYPE: u64 = u64::from_le_bytes(*b"type\0\0\0\0");
const BY: u64 = u64::from_le_bytes(*b"by\0\0\0\0\0\0");
/// The one prefixed attribute that is common.
const LANG: u64 = u64::from_le_bytes(*b"xml:lang");

/// What is longer than a word: no octet of a name in ASCII is like these.
const LONG: u64 = u64::MAX;

/// The references that are common.
const LT: u64 = u64::from_le_bytes(*b"&lt;\0\0\0\0");
const GT: u64 = u64::from_le_bytes(*b"&gt;\0\0\0\0");

/// Tells the names apart that often stand in one tag: the top six bits of a word times this differ.
const SPREAD: u64 = 0x7D55_C3FC_6593_175B;

/// The octets of a word of which less than eight are there.
#[cold]
fn begun(octets: Option<&[u8]>) -> [u8; 8] {
    let mut word = [0; 8];
    word.iter_mut().zip(octets.unwrap_or_default()).for_each(|(to, from)| *to = *from);
    word
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
