//! The reading of a refused element: on to its end, with nothing of it kept but what an answer needs (requirement XML-17).
//!
//! It checks what decides where the element ends and what no stream may hold: UTF-8 and characters (B1, B2), tags and
//! attributes (T1, T2, T4, T7), end tags (T6), references (R1, R2) and restricted constructs (X1). Namespaces, names and the
//! uniqueness of attributes are not looked at, for nothing of the element is used. Octet by octet, so that the result is the
//! same however the input is cut; its memory is the stack of open names and the five attributes that are kept.

mod value;

use std::sync::Arc;

use super::chars::{is_space, may_begin_name};
use super::frame::Kind;
use super::refused::{ElementRefusal, Kept, RefusedStanza};
use super::scope::Declared;
use super::utf8::Utf8;
use super::{Content, Rule, Violation};

/// What one reading of octets came to.
pub(super) enum Skipped {
    /// The element ends after so many of them.
    Done(usize, Box<RefusedStanza>),
    /// It takes all of them, and goes on.
    More,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In text, or before the element.
    Text,
    /// After `<`.
    Open,
    /// In the name of a start tag.
    Name,
    /// In a start tag behind white space: an attribute may begin.
    Gap,
    /// Behind a value: white space is due before the next attribute.
    Valued,
    /// In the name of an attribute.
    Attribute,
    /// Between the name of an attribute and `=`.
    Named,
    /// Between `=` and the quote.
    Equals,
    /// In a value.
    Value(u8),
    /// After the `/` of an empty element.
    Slash,
    /// In a reference; in a value if there is a quote.
    Reference(Option<u8>),
    /// In an end tag, with this many octets of the name seen.
    EndName(usize),
    /// In an end tag, after the name.
    EndSpace,
    /// After `<!`, with this many octets of `[CDATA[` seen.
    Bang(usize),
    /// In a CDATA section, with this many `]` seen in a row, two at most.
    CData(u8),
}

/// What is wanted of the value at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Nothing,
    From,
    To,
    Id,
    Type,
    Lang,
    /// The namespace of the element's own prefix.
    Own,
}

/// Reads on to the end of one element.
pub(super) struct Skip {
    why: ElementRefusal,
    /// What is told where it turns out to be no stanza: such an element ends its stream.
    unless: Violation,
    content: Content,
    declared: Option<Arc<Declared>>,
    most: usize,
    state: State,
    octets: usize,
    /// The open names, each behind a space.
    open: Vec<u8>,
    depth: usize,
    utf8: Utf8,
    /// The body of the reference at hand.
    body: Vec<u8>,
    /// The name of the attribute at hand, as far as it may be one of those that are kept.
    name: Vec<u8>,
    /// The value at hand, if it is wanted.
    value: Vec<u8>,
    wanted: Wanted,
    /// The last octet of the value was a carriage return.
    returned: bool,
    kept: Kept,
    /// Which of the five were seen.
    seen: u8,
    /// Whether the element's own prefix stands for the content namespace, if the start tag says.
    own: Option<bool>,
    count: Count,
    this: InTag,
}

/// What was counted over the whole element, for whoever wants to know by how much it was over.
#[derive(Clone, Copy, Default)]
struct Count {
    depth: usize,
    nodes: usize,
    attributes: usize,
    declarations: usize,
    name: usize,
    value: usize,
    namespace: usize,
}

/// The same for the tag and the token at hand.
#[derive(Clone, Copy, Default)]
struct InTag {
    attributes: usize,
    declarations: usize,
    name: usize,
    value: usize,
    declares: bool,
}

impl Skip {
    /// A reading from the `<` of the element on. `unless` ends the stream if it is no stanza.
    pub(super) fn new(
        why: ElementRefusal,
        unless: Violation,
        content: Content,
        declared: Option<Arc<Declared>>,
        most: usize,
    ) -> Self {
        Self {
            why,
            unless,
            content,
            declared,
            most,
            state: State::Text,
            octets: 0,
            open: Vec::new(),
            depth: 0,
            utf8: Utf8::default(),
            body: Vec::new(),
            name: Vec::new(),
            value: Vec::new(),
            wanted: Wanted::Nothing,
            returned: false,
            kept: Kept::default(),
            seen: 0,
            own: None,
            count: Count::default(),
            this: InTag::default(),
        }
    }

    /// Reads these octets, which follow those that were read before.
    pub(super) fn read(&mut self, octets: &[u8]) -> Result<Skipped, Violation> {
        let mut at = 0;
        while let Some(&octet) = octets.get(at) {
            let rest = octets.get(at..).unwrap_or_default();
            let run = self.run(rest).min(self.most - self.octets);
            if run > 0 {
                self.octets += run;
                self.this.value += run;
                at += run;
                continue;
            }
            // The element may have just as many.
            if self.octets >= self.most {
                return Err(Violation::of(Rule::Skip));
            }
            self.octets += 1;
            at += 1;
            self.utf8.take(octet)?;
            if self.octet(octet)? {
                return Ok(Skipped::Done(at, Box::new(self.refused())));
            }
        }
        Ok(Skipped::More)
    }

    /// How many octets at the front change nothing but how far it is.
    fn run(&self, octets: &[u8]) -> usize {
        let plain = |b: u8| matches!(b, b' '..=b'~' | b'\t' | b'\n');
        let inner = match self.state {
            State::Text if self.depth > 0 => octets.iter().position(|&b| !plain(b) || b == b'<' || b == b'&'),
            State::CData(0) => octets.iter().position(|&b| !plain(b) || b == b']'),
            State::Value(quote) if self.wanted == Wanted::Nothing => {
                octets.iter().position(|&b| !plain(b) || b == quote || b == b'<' || b == b'&')
            }
            _ => return 0,
        };
        if self.utf8.is_inside() { 0 } else { inner.unwrap_or(octets.len()) }
    }

    /// Takes one octet, and tells whether the element is complete.
    fn octet(&mut self, octet: u8) -> Result<bool, Violation> {
        match self.state {
            State::Text => match octet {
                b'<' => self.state = State::Open,
                b'&' => self.refer(None),
                _ => {}
            },
            State::Open => self.opened(octet)?,
            State::Name | State::Gap | State::Valued | State::Slash => return self.in_tag(octet),
            State::Attribute | State::Named | State::Equals => self.in_attribute(octet)?,
            State::Value(quote) => self.in_value(octet, quote)?,
            State::Reference(quote) => self.in_reference(octet, quote)?,
            State::EndName(seen) => return self.end_name(octet, seen),
            State::EndSpace => match octet {
                b'>' => return Ok(self.leave()),
                b if is_space(b) => {}
                _ => return Err(Violation::of(Rule::T6)),
            },
            State::Bang(seen) => {
                if CDATA.get(seen) != Some(&octet) {
                    return Err(Violation::of(Rule::X1));
                }
                self.state = if seen + 1 == CDATA.len() { State::CData(0) } else { State::Bang(seen + 1) };
            }
            State::CData(brackets) => {
                self.state = match (octet, brackets) {
                    (b'>', 2) => State::Text,
                    (b']', brackets) => State::CData((brackets + 1).min(2)),
                    _ => State::CData(0),
                };
            }
        }
        Ok(false)
    }

    /// The octet after `<` (rules T1 and X1).
    fn opened(&mut self, octet: u8) -> Result<(), Violation> {
        self.state = match octet {
            b'/' => State::EndName(0),
            b'!' => State::Bang(0),
            b'?' => return Err(Violation::of(Rule::X1)),
            b if may_begin_name(b) => {
                self.depth += 1;
                self.count.nodes += 1;
                self.count.depth = self.count.depth.max(self.depth);
                self.this = InTag { name: 1, ..InTag::default() };
                self.push(b' ')?;
                self.push(octet)?;
                State::Name
            }
            _ => return Err(Violation::of(Rule::T1)),
        };
        Ok(())
    }

    fn push(&mut self, octet: u8) -> Result<(), Violation> {
        if self.open.len() >= MOST_OPEN {
            return Err(Violation::of(Rule::SkipNames));
        }
        self.open.push(octet);
        Ok(())
    }

    /// The innermost open name.
    fn innermost(&self) -> &[u8] {
        let start = memchr::memrchr(b' ', &self.open).map_or(0, |space| space + 1);
        self.open.get(start..).unwrap_or_default()
    }

    /// In a start tag, outside its attributes.
    fn in_tag(&mut self, octet: u8) -> Result<bool, Violation> {
        match (self.state, octet) {
            (_, b'<') => return Err(Violation::of(Rule::T2)),
            (_, b'>') => {
                let empty = self.state == State::Slash;
                self.start_tag()?;
                self.state = State::Text;
                return Ok(empty && self.leave());
            }
            (State::Slash, _) => return Err(Violation::of(Rule::T7)),
            (State::Name, b) if is_name(b) => {
                self.this.name += 1;
                self.push(b)?;
            }
            (State::Gap, b) if is_name(b) => {
                self.this.attributes += 1;
                (self.this.value, self.this.name) = (0, 0);
                self.name.clear();
                self.state = State::Attribute;
                self.attribute_name(b);
            }
            (_, b'/') => self.state = State::Slash,
            (_, b) if is_space(b) => {
                self.note_name();
                self.state = State::Gap;
            }
            _ => return Err(Violation::of(Rule::T4)),
        }
        Ok(false)
    }

    fn note_name(&mut self) {
        self.count.name = self.count.name.max(self.this.name);
    }

    fn attribute_name(&mut self, octet: u8) {
        self.this.name += 1;
        if self.name.len() < MOST_NAME {
            self.name.push(octet);
        }
    }

    /// In an attribute, before its value (rule T4).
    fn in_attribute(&mut self, octet: u8) -> Result<(), Violation> {
        self.state = match (self.state, octet) {
            (_, b'<') => return Err(Violation::of(Rule::T2)),
            (State::Attribute, b) if is_name(b) => {
                self.attribute_name(b);
                State::Attribute
            }
            (State::Attribute | State::Named, b'=') => State::Equals,
            (State::Attribute | State::Named, b) if is_space(b) => State::Named,
            (State::Attribute | State::Named, b'/') => return Err(Violation::of(Rule::T7)),
            (State::Equals, quote @ (b'"' | b'\'')) => {
                self.begin_value()?;
                State::Value(quote)
            }
            (State::Equals, b) if is_space(b) => State::Equals,
            _ => return Err(Violation::of(Rule::T4)),
        };
        Ok(())
    }

    /// A value begins: is it one of those that are kept?
    fn begin_value(&mut self) -> Result<(), Violation> {
        self.note_name();
        self.returned = false;
        self.value.clear();
        self.this.declares = self.name == b"xmlns" || self.name.starts_with(b"xmlns:");
        self.this.declarations += usize::from(self.this.declares);
        self.wanted = if self.depth == 1 { self.wants() } else { Wanted::Nothing };
        let bit = match self.wanted {
            Wanted::From => 1,
            Wanted::To => 2,
            Wanted::Id => 4,
            Wanted::Type => 8,
            Wanted::Lang => 16,
            Wanted::Own | Wanted::Nothing => 0,
        };
        if self.seen & bit != 0 {
            // Which of the two would be answered?
            return Err(Violation::of(Rule::T5));
        }
        self.seen |= bit;
        Ok(())
    }

    /// A start tag is complete. The first one tells whether the element is a stanza.
    fn start_tag(&mut self) -> Result<(), Violation> {
        self.note_name();
        let (count, this) = (&mut self.count, &self.this);
        count.attributes = count.attributes.max(this.attributes);
        count.declarations = count.declarations.max(this.declarations);
        if self.count.nodes > 1 {
            return Ok(());
        }
        let (prefix, local) = (prefix_of(self.innermost()), local_of(self.innermost()));
        let content = self.own.unwrap_or_else(|| {
            let declared = self.declared.iter().flat_map(|declared| &declared.prefixes);
            let lent = |(known, namespace): &(super::Atom, super::Atom)| {
                known.as_bytes() == prefix && *namespace == self.content.ns()
            };
            prefix.is_empty() || declared.into_iter().any(lent)
        });
        self.kept.kind = match local {
            b"iq" if content => Kind::Iq,
            b"message" if content => Kind::Message,
            b"presence" if content => Kind::Presence,
            // Nothing else is shared by many people, and nobody could be answered.
            _ => return Err(self.unless),
        };
        Ok(())
    }

    /// In the name of an end tag (rule T6).
    fn end_name(&mut self, octet: u8, seen: usize) -> Result<bool, Violation> {
        let due = self.innermost().get(seen);
        self.state = match octet {
            b if due == Some(&b) => State::EndName(seen + 1),
            _ if due.is_some() => return Err(Violation::of(Rule::T6)),
            b'>' => return Ok(self.leave()),
            b if is_space(b) => State::EndSpace,
            _ => return Err(Violation::of(Rule::T6)),
        };
        Ok(false)
    }

    /// An element has ended; tells whether it was the whole one.
    fn leave(&mut self) -> bool {
        let start = memchr::memrchr(b' ', &self.open).unwrap_or(0);
        self.open.truncate(start);
        self.depth = self.depth.saturating_sub(1);
        self.state = State::Text;
        self.depth == 0
    }

    fn refused(&mut self) -> RefusedStanza {
        let counted = match self.why.rule() {
            Rule::ElementSize => self.octets,
            Rule::Depth => self.count.depth,
            Rule::Nodes => self.count.nodes,
            Rule::Attributes => self.count.attributes,
            Rule::Declarations => self.count.declarations,
            Rule::NameLength => self.count.name,
            Rule::ValueLength => self.count.value,
            Rule::NamespaceLength => self.count.namespace,
            _ => 0,
        };
        RefusedStanza::new(std::mem::take(&mut self.kept), self.why.with_found(counted), self.octets)
    }
}

/// What may stand in a name as far as it decides where the name ends (rule T3 is not applied).
fn is_name(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-' | b'.' | b':' | 0x80..)
}

fn prefix_of(name: &[u8]) -> &[u8] {
    name.iter().position(|&b| b == b':').and_then(|colon| name.get(..colon)).unwrap_or_default()
}

fn local_of(name: &[u8]) -> &[u8] {
    let colon = name.iter().position(|&b| b == b':');
    colon.map_or(name, |colon| name.get(colon + 1..).unwrap_or_default())
}

const CDATA: &[u8] = b"[CDATA[";

/// Octets of open names (XML-17).
const MOST_OPEN: usize = 64 * 1024;

/// Octets of `from` and `to` (RFC 7622 3.1).
const MOST_ADDRESS: usize = 3071;

/// Octets of an `id` that an error repeats (XML-17).
const MOST_ID: usize = 1024;

/// Octets of a type, a language or a namespace that means something here.
const MOST_WORD: usize = 256;

/// Octets of the name of an attribute that can be told from others.
const MOST_NAME: usize = 512;

/// Octets of a reference that can be right: `#x` and 32 digits.
const MOST_BODY: usize = 40;
