//! Octets to frames: cuts a stream into first-level elements, refuses what is not strict XML, and yields canonical octets.
//!
//! An element in the canonical language, where all parsers agree, is recognised in one pass. Two independent readers judge
//! each other one: [`Framer`]'s scan finds where it ends, and a second pass with quick-xml reads it under every rule of the
//! house. What passes has exactly one meaning for every parser behind us (the law
//! `canonical_only`). This room knows no domain, no role and no policy; which elements have a place in which state of a
//! stream (rule S2) is the business of `stream`. It does no I/O, and its memory is bounded by [`Limits`].

mod canonical;
mod chars;
mod content;
mod frame;
mod framer;
mod grown;
mod header;
mod messages;
pub mod names;
mod opening;
mod refused;
mod rewrite;
mod scan;
mod scope;
mod skip;
mod stops;
mod strict;
mod tag;
mod tree;
mod utf8;
mod violation;
mod write;

pub use frame::{Child, Frame, Head, Kind, Measure};
pub use framer::{Framer, Token};
pub use header::Header;
pub use messages::{Message, Messages, Unfit, to_stream};
pub use names::Atom;
pub use opening::StreamStart;
pub use refused::{ElementRefusal, RefusedStanza};
pub use rewrite::{Edits, rewrite};
pub use tree::{Element, Node};
pub use violation::{Rule, Violation};
pub use write::{CLOSE, escape_attr, escape_text};

/// Octets of a namespace name, before a proof and behind it, on either side: no key of the configuration sets it.
pub const NAMESPACE_NAME: usize = 1024;

/// Budgets for one stream in one direction (requirements, section 0.2). Octets are counted as received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Octets of the stream header with its declaration.
    pub header: usize,
    /// Octets of a first-level element, from `<` to `>`.
    pub element: usize,
    /// Depth below the stream; a stanza has depth 1.
    pub depth: usize,
    /// Attributes of one element, declarations included.
    pub attributes: usize,
    /// Namespace declarations of one element.
    pub declarations: usize,
    /// Namespace bindings in scope, those of the stream header not counted.
    pub bindings: usize,
    /// Octets of a qualified name.
    pub name: usize,
    /// Octets of an attribute value.
    pub value: usize,
    /// Octets of a namespace name.
    pub namespace_name: usize,
    /// Elements in one first-level element, itself included.
    pub nodes: usize,
    /// Octets of an element as it may be written by who stores and wraps it (requirement XML-18).
    pub grown: usize,
    /// Octets of a refused element that are read on to its end (requirement XML-17). 0: it ends the stream, as before a proof.
    pub skip: usize,
    /// Whether these are the ceilings for the server behind us, whose limits have names of their own (L-inside-*).
    pub inside: bool,
}

impl Default for Limits {
    /// The budgets of a stream that has proven who speaks.
    fn default() -> Self {
        Self {
            header: 4096,
            element: 256 * 1024,
            depth: 64,
            attributes: 64,
            declarations: 32,
            bindings: 128,
            name: 256,
            value: 8192,
            namespace_name: NAMESPACE_NAME,
            nodes: 8192,
            grown: 1024 * 1024,
            skip: 16 * 1024 * 1024,
            inside: false,
        }
    }
}

impl Limits {
    /// The budgets before proof (LIM-02).
    pub fn before_proof() -> Self {
        Self::default().unproven(16 * 1024)
    }

    /// What of these budgets holds before proof: an element has so many octets, one that is refused ends the stream, and all others are
    /// those behind it.
    #[must_use]
    pub fn unproven(self, element: usize) -> Self {
        Self { element, skip: 0, ..self }
    }

    /// No ceilings at all, for octets that are bounded already: what we write ourselves, and what was read whole.
    pub fn boundless() -> Self {
        Self {
            header: usize::MAX,
            element: usize::MAX,
            depth: usize::MAX,
            attributes: usize::MAX,
            declarations: usize::MAX,
            bindings: usize::MAX,
            name: usize::MAX,
            value: usize::MAX,
            namespace_name: usize::MAX,
            nodes: usize::MAX,
            grown: usize::MAX,
            skip: 0,
            inside: false,
        }
    }

    /// The ceilings for what the server behind us says: several times those for the world (L-inside-*). How it may grow is
    /// not asked, for it goes to its readers as it is.
    pub fn inside() -> Self {
        Self {
            header: 4096,
            element: 10 * 1024 * 1024,
            depth: 256,
            attributes: 256,
            declarations: 128,
            bindings: 512,
            name: 256,
            value: 1024 * 1024,
            namespace_name: NAMESPACE_NAME,
            nodes: 200_000,
            grown: usize::MAX,
            skip: 16 * 1024 * 1024,
            inside: true,
        }
    }
}

/// The content namespace of a stream (RFC 6120 4.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// `jabber:client`.
    Client,
    /// `jabber:server`.
    Server,
}

impl Content {
    /// Its name.
    pub const fn ns(self) -> &'static str {
        match self {
            Self::Client => names::CLIENT,
            Self::Server => names::SERVER,
        }
    }
}

/// A range of octets. Elements are shorter than 4 GiB: the framer sees to it.
///
/// Both ends in one number, so that both are written and read at once: a processor waits when it has to read in one wide
/// piece what has just been written in two.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Span(u64);

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self((end as u64) << 32 | start as u64 & u64::from(u32::MAX))
    }

    fn range(self) -> std::ops::Range<usize> {
        let long = |n: u64| usize::try_from(n & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        long(self.0)..long(self.0 >> 32)
    }

    /// Whether it begins at 0, where only `<` can be: the sign of what is not there.
    fn is_absent(self) -> bool {
        self.range().start == 0
    }

    fn len(self) -> usize {
        self.range().len()
    }

    /// The same with another end.
    fn until(self, end: usize) -> Self {
        Self::new(self.range().start, end)
    }

    /// The same octets, where what began at `from` begins at `to`.
    fn moved(self, from: usize, to: usize) -> Self {
        let moved = |at: usize| (at + to).saturating_sub(from);
        let std::ops::Range { start, end } = self.range();
        Self::new(moved(start), moved(end))
    }

    fn of(self, octets: &[u8]) -> &[u8] {
        octets.get(self.range()).unwrap_or_default()
    }

    fn text(self, octets: &[u8]) -> &str {
        std::str::from_utf8(self.of(octets)).unwrap_or_default()
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.range().fmt(f)
    }
}
