//! Octets in, tokens out: the read buffer, the short way and the long one, and the end of everything after the first breach.
//!
//! A push interface without I/O: dropping a future around it can hurt nothing. The buffer holds the unfinished element and
//! what the last `feed` brought, no more; a finished element is split off without a copy. Upholds `canonical_only`, and
//! `bounded` as far as octets go.

mod between;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::canonical::{Canonical, Stop};
use super::frame::{Frame, Head, Kind, Received, Surface};
use super::header::{self, Header};
use super::refused::{ElementRefusal, RefusedStanza};
use super::scan::{Breach, Found, Scan};
use super::scope::Declared;
use super::skip::{Skip, Skipped};
use super::strict::{Judged, Strict};
use super::{Content, Limits, Rule, Violation, chars};

/// What the framer tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// The stream header.
    Header(Header),
    /// A complete first-level element.
    Element(Frame),
    /// A stanza that may not pass and ends nothing, on a stream that is proven; it was read to its end (requirement XML-17).
    Refused(Box<RefusedStanza>),
    /// The end tag of the stream. What follows it is dropped (rule S4).
    End,
    /// White space between elements. One token for each run of it, told at the run's first octet; how the run is cut into
    /// reads makes no difference, so liveness is better judged by octets read.
    Keepalive,
    /// Text between elements, where it is passed over ([`Framer::pass_over_text`]): one token for each run of it, at its first
    /// octet.
    Text,
    /// The first breach of a rule. Nothing follows it (rule P1).
    Violation(Violation),
}

/// Cuts one direction of one stream into tokens.
pub struct Framer {
    limits: Limits,
    content: Content,
    buffer: BytesMut,
    scan: Scan,
    strict: Strict,
    canonical: Canonical,
    /// How many octets were there when the short way last came to no end in the element in hand, which may yet turn out to be of the
    /// kind that it takes. None: it has not begun, or is of another kind.
    promising: Option<usize>,
    /// Whether the short way is taken at all.
    short: bool,
    /// Elements lean on no declaration of the header.
    alone: bool,
    declared: Option<Arc<Declared>>,
    /// Octets of the XML declaration, which count towards the header's budget.
    declaration: usize,
    /// Whether the run of white space at hand was told.
    told: bool,
    /// Whether text between elements is passed over; and whether the run at hand was told.
    text: Option<bool>,
    course: Course,
    /// A breach behind what is held, found by what brings the octets.
    broken: Option<Violation>,
    /// The refused element that is read to its end.
    skip: Option<Box<Skip>>,
    /// Octets of refused elements that were read and not asked about yet.
    skipped: usize,
    /// How many elements the short way takes until both ways are compared again.
    uncompared: u16,
    /// What the short way found in the element in hand, where the long way is to find the same.
    expected: Option<(usize, Box<Surface>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Open,
    /// The header was its own end tag: the end is still to be told.
    Ending,
    Closed,
}

impl Framer {
    /// A framer at the beginning of a stream whose content namespace must be `content`.
    pub fn new(limits: Limits, content: Content) -> Self {
        Self {
            limits: bounded(limits),
            content,
            buffer: BytesMut::new(),
            scan: Scan::new(),
            strict: Strict::new(),
            canonical: Canonical::default(),
            promising: None,
            short: true,
            alone: false,
            declared: None,
            declaration: 0,
            told: false,
            text: None,
            course: Course::Open,
            broken: None,
            skip: None,
            skipped: 0,
            uncompared: SAMPLE,
            expected: None,
        }
    }

    /// Which of the next 1,024 elements goes both ways, the short one and the long one, which must agree: one for each number,
    /// of which the last ten bits count. After it every 1,024th does.
    pub fn compare_from(&mut self, number: u64) {
        self.uncompared = u16::try_from(number % u64::from(SAMPLE)).unwrap_or_default().saturating_add(1);
    }

    /// From now on text between elements is no breach of a rule: it is dropped, and told as [`Token::Text`]. Markup, and a
    /// reference, is none.
    pub fn pass_over_text(&mut self) {
        self.text = Some(false);
    }

    /// Each element stands alone, as in a message (RFC 7395): a prefix that the header declares is declared for none of them.
    /// That each declares its default namespace is [`super::to_stream`]'s to see.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// What brings the octets has found this behind those that it gave: it is told once they are read. Of a message that is too
    /// large nothing was read, and the limit is told with it.
    pub fn break_off(&mut self, violation: Violation) {
        self.broken = Some(match violation.rule {
            Rule::ElementSize => violation.unread(self.limits.element),
            _ => violation,
        });
    }

    /// Throws white space away that nothing else follows, up to `most` octets (TLS-05).
    pub fn discard_space(&mut self, most: usize) {
        if self.buffer.len() <= most && self.buffer.iter().all(|octet| chars::is_space(*octet)) {
            self.buffer.clear();
        }
    }

    /// The same framer, but every element goes through both readers, also where one is enough: for comparing the two ways.
    #[cfg(any(test, feature = "seen"))]
    #[must_use]
    pub fn without_the_short_way(mut self) -> Self {
        self.short = false;
        self
    }

    /// Takes octets as they were read. After the end or a breach they are dropped.
    pub fn feed(&mut self, octets: &[u8]) {
        if self.course == Course::Open {
            self.buffer.extend_from_slice(octets);
        }
    }

    /// Room for so many octets more, to be read straight into; what is put there is fed. None after the end or a breach.
    /// What was not used is kept until [`Framer::give_back`].
    pub fn room(&mut self, octets: usize) -> Option<impl BufMut + use<'_>> {
        if self.course != Course::Open {
            return None;
        }
        self.buffer.reserve(octets);
        Some((&mut self.buffer).limit(octets))
    }

    /// Gives back the room that nothing has come into.
    pub fn give_back(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The next token, if the octets so far make one. Drain it after each `feed`: only then is memory bounded.
    #[allow(clippy::should_implement_trait)] // the name is promised to tests from outside; it is no iterator, for more may follow None
    pub fn next(&mut self) -> Option<Token> {
        match self.course {
            Course::Open => match self.read() {
                Ok(None) if self.broken.is_some() => {
                    let violation = self.broken.take();
                    self.close();
                    violation.map(Token::Violation)
                }
                Ok(token) => {
                    if token.is_none() && self.buffer.is_empty() {
                        self.rest();
                    }
                    token
                }
                Err(violation) => {
                    self.close();
                    Some(Token::Violation(violation))
                }
            },
            Course::Ending => {
                self.close();
                Some(Token::End)
            }
            Course::Closed => None,
        }
    }

    /// Starts afresh for a new stream on the same connection (rule S5, STR-14): nothing is inherited but the limits and
    /// the content namespace. Whoever calls it has asked [`Framer::is_empty`] first.
    pub fn restart(&mut self) {
        let (short, alone, broken) = (self.short, self.alone, self.broken);
        *self = Self { short, alone, broken, ..Self::new(self.limits.clone(), self.content) };
    }

    /// Whether no octet is held and no token is left to tell (the law `no_early_octets`).
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.skip.is_none() && self.course != Course::Ending
    }

    /// Whether an element or header has begun and is not complete. Meaningful once `next` has told all it can.
    pub fn is_mid_element(&self) -> bool {
        self.course == Course::Open
            && (!self.buffer.is_empty()
                || self.skip.is_some()
                || (self.declaration > 0 && !self.scan.is_rooted()))
    }

    /// How many octets are held.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Octets of refused elements that were read since this was asked last: they are paid for as they come.
    pub fn take_skipped(&mut self) -> usize {
        std::mem::take(&mut self.skipped)
    }

    /// Sets other budgets, from the next octet on: the larger ones after proof.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = bounded(limits);
    }

    /// Gives memory back where nothing is in hand: most streams are idle most of the time.
    fn rest(&mut self) {
        self.buffer = BytesMut::new();
        self.canonical = Canonical::default();
        self.strict.rest();
    }

    fn close(&mut self) {
        self.course = Course::Closed;
        self.buffer = BytesMut::new();
        self.skip = None;
        self.expected = None;
    }

    fn read(&mut self) -> Result<Option<Token>, Violation> {
        loop {
            if let Some(skip) = &mut self.skip {
                return match skip.read(&self.buffer)? {
                    Skipped::Done(len, refused) => {
                        self.buffer.advance(len);
                        self.skipped = self.skipped.saturating_add(len);
                        self.skip = None;
                        self.scan.taken();
                        Ok(Some(Token::Refused(refused)))
                    }
                    Skipped::More => {
                        self.skipped = self.skipped.saturating_add(self.buffer.len());
                        self.forget_octets();
                        Ok(None)
                    }
                };
            }
            if self.scan.is_blank() {
                if self.scan.is_first() && !self.is_utf8_begun()? {
                    return Ok(None);
                }
                if let Some(token) = self.blank() {
                    return Ok(Some(token));
                }
                match self.buffer.first() {
                    None => return Ok(None),
                    Some(b'<') => (),
                    Some(_) => match self.pass_over()? {
                        Some(true) => return Ok(Some(Token::Text)),
                        Some(false) => continue,
                        None => return self.stray().map(|()| None),
                    },
                }
                self.told = false;
                self.text = self.text.map(|_| false);
                self.promising = (self.short && self.scan.is_rooted()).then_some(0);
            }
            // Twice as much as it had in vain is enough to begin anew: all that, taken together, is read no more than twice.
            if self.promising.is_some_and(|tried| tried * 2 <= self.buffer.len())
                && let Some(frame) = self.short_way()
            {
                return Ok(Some(Token::Element(frame)));
            }
            let limit = match self.scan.is_rooted() {
                true => self.limits.element,
                false => self.limits.header.saturating_sub(self.declaration),
            };
            match self.scan.step(&self.buffer, limit, &self.limits) {
                Ok(None) if self.expected.is_some() => return Err(Violation::of(Rule::Readers)),
                Ok(None) => return Ok(None),
                Ok(Some(found)) => match self.found(found) {
                    Ok(Some(token)) => return Ok(Some(token)),
                    Ok(None) => {}
                    Err(violation) => self.refuse(violation)?,
                },
                Err(Breach { violation, at }) => {
                    // A breach of B1 or B2 in the same octets is told first.
                    chars::check_begun(self.buffer.get(..=at).unwrap_or_default())?;
                    self.refuse(violation)?;
                }
            }
        }
    }

    /// Tries the short way with the element at the front. One in so many is left to the long way, which is to find the same.
    fn short_way(&mut self) -> Option<Frame> {
        let taken = self.canonical.element(&self.buffer, self.content, &self.limits);
        self.promising = matches!(taken, Err(Stop::Unfinished)).then_some(self.buffer.len());
        let (len, surface) = taken.ok()?;
        self.uncompared = self.uncompared.saturating_sub(1);
        if self.uncompared > 0 {
            return Some(self.frame(len, surface, None));
        }
        self.uncompared = SAMPLE;
        self.expected = Some((len, surface));
        None
    }

    fn found(&mut self, found: Found) -> Result<Option<Token>, Violation> {
        match found {
            Found::Declaration(len) => {
                header::declaration(self.buffer.get(..len).unwrap_or_default())?;
                self.declaration = len;
                self.take(len);
                Ok(None)
            }
            Found::Header { len, empty } => {
                let octets = self.buffer.get(..len).unwrap_or_default();
                let (header, declared) =
                    Header::read(octets, empty, self.content, &mut self.strict, &self.limits)?;
                let declared = match self.alone {
                    true => Arc::new(Declared { content: declared.content, prefixes: Vec::new() }),
                    false => declared,
                };
                self.strict.begin(&declared);
                self.declared = Some(declared);
                self.take(len);
                if empty {
                    self.course = Course::Ending;
                }
                Ok(Some(Token::Header(header)))
            }
            Found::Suspect(len) => {
                self.strict.first_tag(self.buffer.get(..len).unwrap_or_default(), &self.limits)?;
                Ok(None)
            }
            Found::Element(len) => {
                let octets = self.buffer.get(..len).unwrap_or_default();
                let short = self
                    .promising
                    .take()
                    .and_then(|_| self.canonical.element(octets, self.content, &self.limits).ok());
                let Judged { surface, rewritten } = match short {
                    Some((_, surface)) => Judged { surface, rewritten: None },
                    None => self.strict.element(octets, &self.limits)?,
                };
                if let Some((expected, found)) = self.expected.take()
                    && (expected != len || found != surface || rewritten.is_some())
                {
                    return Err(Violation::of(Rule::Readers));
                }
                Ok(Some(Token::Element(self.frame(len, surface, rewritten))))
            }
            Found::Close => {
                self.close();
                Ok(Some(Token::End))
            }
        }
    }

    /// On a proven stream what is only refused is read to its end, from its first octet on, by the one reading that knows what
    /// to keep of it; everything else ends the stream.
    fn refuse(&mut self, violation: Violation) -> Result<(), Violation> {
        if self.expected.take().is_some() {
            return Err(Violation::of(Rule::Readers));
        }
        // What is wrong with a header is no stanza's fault, whatever its name (rule H4).
        let refusal = ElementRefusal::of(violation, &self.limits)
            .filter(|_| self.declared.is_some() && self.limits.skip > 0);
        let refusal = refusal.ok_or(violation)?.with_found(match violation.rule {
            Rule::Grown => self.strict.grown(),
            _ => 0,
        });
        self.promising = None;
        self.scan.taken();
        let declared = self.declared.clone();
        let skip = Skip::new(refusal, violation, self.content, declared, self.limits.skip);
        self.skip = Some(Box::new(skip));
        Ok(())
    }

    /// Drops what is held; what it had grown to is given back.
    fn forget_octets(&mut self) {
        match self.buffer.capacity() > LARGE {
            true => self.buffer = BytesMut::new(),
            false => self.buffer.clear(),
        }
    }

    fn frame(&mut self, len: usize, mut surface: Box<Surface>, rewritten: Option<Bytes>) -> Frame {
        let received = self.take(len).freeze();
        let (octets, received) = match rewritten {
            Some(rewritten) => (rewritten, Received::Rewritten),
            None => (received, Received::Canonical),
        };
        if surface.spans.kind == Kind::Other {
            surface.declared.clone_from(&self.declared);
        }
        Frame { head: Head { octets, surface }, received }
    }

    /// Takes octets off the front of the buffer.
    fn take(&mut self, len: usize) -> BytesMut {
        self.scan.taken();
        // Nothing is left for what follows, neither octets nor room: no two need to share it.
        if len == self.buffer.capacity() {
            return std::mem::take(&mut self.buffer);
        }
        let taken = len.min(self.buffer.len());
        if taken <= LARGE {
            return self.buffer.split_to(taken);
        }
        // What follows would hold on to all the room that one large element needed.
        let rest = BytesMut::from(self.buffer.get(taken..).unwrap_or_default());
        let mut taken_whole = std::mem::replace(&mut self.buffer, rest);
        taken_whole.truncate(taken);
        taken_whole
    }
}

impl std::fmt::Debug for Framer {
    /// Tells how far it is, never what it holds: that may be anybody's words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framer")
            .field("content", &self.content)
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

/// Spans are 32 bits wide: no budget may let an element outgrow them, not even when it is written anew.
fn bounded(mut limits: Limits) -> Limits {
    limits.element = limits.element.min(MOST_OCTETS);
    limits.header = limits.header.min(MOST_OCTETS);
    limits
}

/// One in so many elements that the short way takes is read the long way too, and the two must agree. The long way costs about
/// six times as much (`cargo bench --bench framing`), so this costs half a hundredth of the reading.
const SAMPLE: u16 = 1024;

/// An element of more octets than this does not share its room with what follows.
const LARGE: usize = 64 * 1024;

/// The largest budget for octets that makes sense; writing anew makes an element at most six times longer.
const MOST_OCTETS: usize = 64 * 1024 * 1024;

#[cfg(test)]
#[path = "framer_tests.rs"]
mod tests;
