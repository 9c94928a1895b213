//! The first reader: finds where a first-level element ends, octet by octet, resumable anywhere.
//!
//! It applies at once what can be told from octets alone: T1, T2, T6, X1, depth, nodes and size. Everything else waits for
//! `strict`, which sees complete elements only. No octet is looked at twice, and nothing is allocated beyond the stack of
//! open names.

use super::chars::{is_space, may_begin_name};
use super::{Limits, Rule, Span, Violation};
use crate::reason::Reason;

/// What the scan found, with the octets it takes from the front of the buffer.
pub(super) enum Found {
    /// An XML declaration.
    Declaration(usize),
    /// A complete first-level element.
    Element(usize),
    /// The start tag of the stream; with `empty` its end too.
    Header { len: usize, empty: bool },
    /// The end tag of the stream.
    Close,
    /// The start tag of a first-level element named `stream`, not to be waited out (rule S3).
    Suspect(usize),
}

/// A breach and the octet that showed it.
pub(super) struct Breach {
    pub violation: Violation,
    pub at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between first-level elements, or before the root.
    Blank,
    /// In a declaration, with this many octets of `<?xml` and its space seen.
    Declaration(usize),
    /// After `<`.
    Open,
    /// In a start tag, outside quotes.
    Tag,
    /// In an attribute value.
    Quoted(u8),
    /// In an end tag, with this many octets of the name seen.
    EndName(usize),
    /// In an end tag, after the name.
    EndSpace,
    /// After `<!`, with this many octets of `[CDATA[` seen.
    Bang(usize),
    /// In a CDATA section.
    CData,
    /// In text below the first level.
    Text,
}

/// The resumable position in the element at the front of the buffer.
pub(super) struct Scan {
    state: State,
    at: usize,
    /// Where the `<` of the tag in hand stands.
    tag: usize,
    open: Vec<Span>,
    nodes: usize,
    rooted: bool,
    /// Whether octet 0 of the stream is at the front of the buffer.
    first: bool,
}

impl Scan {
    pub(super) fn new() -> Self {
        Self { state: State::Blank, at: 0, tag: 0, open: Vec::new(), nodes: 0, rooted: false, first: true }
    }

    /// Behind a stream header that is not among the octets.
    pub(super) fn within() -> Self {
        Self { rooted: true, first: false, ..Self::new() }
    }

    /// Whether nothing is begun.
    pub(super) fn is_blank(&self) -> bool {
        self.state == State::Blank
    }

    /// Whether the stream header was found.
    pub(super) fn is_rooted(&self) -> bool {
        self.rooted
    }

    /// Whether nothing of the stream was taken yet.
    pub(super) fn is_first(&self) -> bool {
        self.first
    }

    /// Something was taken off the front of the buffer.
    pub(super) fn taken(&mut self) {
        self.state = State::Blank;
        self.at = 0;
        self.nodes = 0;
        self.first = false;
        self.open.clear();
    }

    /// Reads on in `octets`, which begin with the `<` of the element in hand. `limit` is the most octets it may take.
    pub(super) fn step(
        &mut self,
        octets: &[u8],
        limit: usize,
        limits: &Limits,
    ) -> Result<Option<Found>, Breach> {
        let window = octets.get(..limit).unwrap_or(octets);
        while let Some(&octet) = window.get(self.at) {
            let found = self.advance(window, octet, limits)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        if self.at >= limit {
            // LIM-01: told at the limit, without waiting for what cannot fit.
            let rule = if self.rooted { Rule::ElementSize } else { Rule::HeaderSize };
            return Err(Breach { violation: Violation::of(rule), at: self.at.saturating_sub(1) });
        }
        Ok(None)
    }

    /// Takes at least one octet.
    fn advance(&mut self, window: &[u8], octet: u8, limits: &Limits) -> Result<Option<Found>, Breach> {
        let rest = window.get(self.at..).unwrap_or_default();
        match self.state {
            State::Text => {
                let (skip, state) = to(memchr::memchr(b'<', rest), rest, State::Open, State::Text);
                self.tag = self.at + skip.saturating_sub(1);
                self.at += skip;
                self.state = state;
            }
            State::Blank => {
                self.tag = self.at;
                self.at += 1;
                self.state = State::Open;
            }
            State::Open => return self.opened(octet, limits).map(|()| None),
            State::Tag => {
                let Some(i) = rest.iter().position(|b| matches!(b, b'>' | b'"' | b'\'' | b'<')) else {
                    self.at += rest.len();
                    return Ok(None);
                };
                self.at += i + 1;
                match rest.get(i) {
                    Some(b'>') => return Ok(self.start_tag(window)),
                    Some(&quote @ (b'"' | b'\'')) => self.state = State::Quoted(quote),
                    _ => return Err(self.breach(Rule::T2, self.at - 1)),
                }
            }
            State::Quoted(quote) => match memchr::memchr2(quote, b'<', rest) {
                Some(i) if rest.get(i) == Some(&quote) => {
                    self.at += i + 1;
                    self.state = State::Tag;
                }
                Some(i) => return Err(self.breach(Rule::T2, self.at + i)),
                None => self.at += rest.len(),
            },
            State::EndName(seen) => self.end_name(window, rest, seen)?,
            State::EndSpace => {
                self.at += 1;
                match octet {
                    b'>' => return Ok(self.end_tag()),
                    b if is_space(b) => (),
                    _ => return Err(self.breach(Rule::T6, self.at - 1)),
                }
            }
            State::Bang(seen) => self.bang(octet, seen)?,
            State::CData => {
                let Some(i) = memchr::memchr(b'>', rest) else {
                    self.at += rest.len();
                    return Ok(None);
                };
                self.at += i + 1;
                if window.get(..self.at).is_some_and(|seen| seen.ends_with(b"]]>")) {
                    self.state = State::Text;
                }
            }
            State::Declaration(seen) => return self.declaration(window, octet, seen),
        }
        Ok(None)
    }

    /// The octet after `<` (rule T1).
    fn opened(&mut self, octet: u8, limits: &Limits) -> Result<(), Breach> {
        let depth = self.open.len();
        self.state = match octet {
            b'/' if depth == 0 && !self.rooted => return Err(self.breach(Rule::T6, self.at)),
            b'/' => State::EndName(0),
            b'!' => State::Bang(0),
            b'?' if self.first && self.at == 1 => State::Declaration(2),
            b'?' => return Err(self.breach(Rule::X1, self.at)),
            b if may_begin_name(b) => {
                self.nodes += 1;
                if self.rooted && depth >= limits.depth {
                    return Err(self.breach(Rule::Depth, self.at));
                }
                if self.rooted && self.nodes > limits.nodes {
                    return Err(self.breach(Rule::Nodes, self.at));
                }
                State::Tag
            }
            _ => return Err(self.breach(Rule::T1, self.at)),
        };
        self.at += 1;
        Ok(())
    }

    /// A start tag is complete.
    fn start_tag(&mut self, window: &[u8]) -> Option<Found> {
        let len = self.at;
        self.state = State::Text;
        let empty = len.checked_sub(2).and_then(|i| window.get(i)) == Some(&b'/');
        if !self.rooted {
            self.rooted = true;
            return Some(Found::Header { len, empty });
        }
        if empty {
            return self.open.is_empty().then_some(Found::Element(len));
        }
        let inside = window.get(self.tag + 1..len).unwrap_or_default();
        let name =
            inside.iter().position(|&b| is_space(b) || matches!(b, b'/' | b'>')).unwrap_or(inside.len());
        let first_level = self.open.is_empty();
        self.open.push(Span::new(self.tag + 1, self.tag + 1 + name));
        let name = inside.get(..name).unwrap_or_default();
        (first_level && name.rsplit(|&b| b == b':').next() == Some(b"stream")).then_some(Found::Suspect(len))
    }

    /// In the name of an end tag (rule T6).
    fn end_name(&mut self, window: &[u8], rest: &[u8], seen: usize) -> Result<(), Breach> {
        let name = self.open.last().map_or(ROOT, |span| span.of(window));
        let due = name.get(seen..).unwrap_or_default();
        let here = rest.get(..due.len()).unwrap_or(rest);
        let due_here = due.get(..here.len()).unwrap_or_default();
        if here != due_here {
            let same = here.iter().zip(due_here).take_while(|(a, b)| a == b).count();
            return Err(self.breach(Rule::T6, self.at + same));
        }
        self.at += here.len();
        self.state =
            if here.len() == due.len() { State::EndSpace } else { State::EndName(seen + here.len()) };
        Ok(())
    }

    /// An end tag is complete.
    fn end_tag(&mut self) -> Option<Found> {
        let len = self.at;
        if self.open.pop().is_none() {
            return Some(Found::Close);
        }
        self.state = State::Text;
        self.open.is_empty().then_some(Found::Element(len))
    }

    /// After `<!`: a CDATA section below the first level, or a breach (rules X1, R6, S1).
    fn bang(&mut self, octet: u8, seen: usize) -> Result<(), Breach> {
        if CDATA.get(seen) != Some(&octet) {
            return Err(self.breach(Rule::X1, self.at));
        }
        if seen + 1 < CDATA.len() {
            self.state = State::Bang(seen + 1);
        } else if self.open.is_empty() {
            return Err(self.breach(if self.rooted { Rule::S1 } else { Rule::R6 }, self.at));
        } else {
            self.state = State::CData;
        }
        self.at += 1;
        Ok(())
    }

    /// In the XML declaration, which ends with the first `?>`.
    fn declaration(&mut self, window: &[u8], octet: u8, seen: usize) -> Result<Option<Found>, Breach> {
        let due = DECLARATION.get(seen);
        if due.is_some_and(|&due| due != octet) || (seen == DECLARATION.len() && !is_space(octet)) {
            // Another processing instruction.
            return Err(self.breach(Rule::X1, self.at));
        }
        if octet == b'<' {
            return Err(self.breach(Rule::H1, self.at));
        }
        self.at += 1;
        self.state = State::Declaration(seen.saturating_add(1));
        let ended = window.get(..self.at).is_some_and(|seen| seen.ends_with(b"?>"));
        Ok((ended && seen > DECLARATION.len()).then_some(Found::Declaration(self.at)))
    }

    fn breach(&self, rule: Rule, at: usize) -> Breach {
        let violation = match rule {
            // RFC 6120 11.3: before the root there is no stream level to be of bad format.
            Rule::S1 if !self.rooted => Violation::with(rule, Reason::NotWellFormed),
            _ => Violation::of(rule),
        };
        Breach { violation, at }
    }
}

/// How far to go on, and the state there: past the octet found, else to the end of what there is.
fn to(found: Option<usize>, rest: &[u8], then: State, otherwise: State) -> (usize, State) {
    found.map_or((rest.len(), otherwise), |i| (i + 1, then))
}

/// The name of the root element: the only one that `header` accepts.
const ROOT: &[u8] = b"stream:stream";
const CDATA: &[u8] = b"[CDATA[";
const DECLARATION: &[u8] = b"<?xml";
