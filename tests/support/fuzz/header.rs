//! The stream header: read as another reader reads it, written as it was read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use gatehouse::reason::Reason;
use gatehouse::xml::{Content, Framer, Header, Limits, Token, names};

/// What opens a stream. Input that begins with `c` stands on a stream of clients, other input on one of servers.
pub fn header(data: &[u8]) {
    let (content, octets) = match data {
        [b'c', octets @ ..] => (Content::Client, octets),
        octets => (Content::Server, octets),
    };
    let whole = first(octets, content, usize::MAX);
    assert_eq!(first(octets, content, 1), whole, "octet by octet");
    match whole {
        None | Some(Token::Keepalive) => {}
        Some(Token::Header(header)) => read(octets, content, &header),
        Some(Token::Violation(violation)) => {
            assert!(
                violation.reason().stream_condition().is_some() || violation.reason() == Reason::BadFormat
            );
        }
        Some(other) => panic!("before a header: {other:?}"),
    }
}

fn first(octets: &[u8], content: Content, chunk: usize) -> Option<Token> {
    let mut framer = Framer::new(Limits::before_proof(), content);
    for chunk in octets.chunks(chunk) {
        framer.feed(chunk);
        assert!(framer.buffered() <= Limits::before_proof().element + chunk.len());
        while let Some(token) = framer.next() {
            // White space may come before a header.
            if token != Token::Keepalive {
                return Some(token);
            }
        }
    }
    None
}

fn read(octets: &[u8], content: Content, header: &Header) {
    assert_eq!(header.content, content);
    // Another reader finds the same, wherever it knows the construct at all.
    if let Some(theirs) = by_quick_xml(octets) {
        let ours = [&header.from, &header.to, &header.id, &header.lang].map(Option::as_deref);
        let found = [&theirs.from, &theirs.to, &theirs.id, &theirs.lang].map(Option::as_deref);
        assert_eq!(ours, found, "attributes of {}", String::from_utf8_lossy(octets));
        assert_eq!(header.version, theirs.version.as_deref().map(version));
        assert_eq!(header.dialback, theirs.dialback);
    }
    // Written and read again, it is the same header, unless it grows over its budget in the writing.
    let written = header.write_open();
    let text = std::str::from_utf8(&written).expect("UTF-8");
    let element = text.strip_prefix("<?xml version='1.0'?>").expect("a declaration");
    assert_eq!(super::xml::canonical(&format!("{element}</stream:stream>")), Ok(()), "{text}");
    if written.len() <= Limits::before_proof().header {
        match first(&written, content, usize::MAX) {
            Some(Token::Header(again)) => assert_eq!(again, *header, "{text}"),
            // The escaped form of a value may be longer than a value may be.
            Some(Token::Violation(_)) if written.len() > octets.len() => {}
            other => panic!("our own header is refused: {text} {other:?}"),
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    from: Option<String>,
    to: Option<String>,
    id: Option<String>,
    lang: Option<String>,
    version: Option<String>,
    dialback: bool,
}

/// The first start tag as quick-xml sees it; none where it reads white space otherwise than XML says.
fn by_quick_xml(octets: &[u8]) -> Option<Found> {
    use quick_xml::escape::unescape;
    use quick_xml::events::Event;
    let text = std::str::from_utf8(octets).ok()?.trim_start_matches('\u{feff}');
    let mut reader = quick_xml::reader::NsReader::from_str(text);
    let tag = loop {
        match reader.read_event().ok()? {
            Event::Start(tag) | Event::Empty(tag) => break tag,
            Event::Decl(_) | Event::Text(_) => (),
            other => panic!("before the header: {other:?}"),
        }
    };
    let mut found = Found::default();
    for attribute in tag.attributes() {
        let attribute = attribute.expect("attributes that we read");
        // XML 1.0, section 3.3.3: white space in a value becomes a space, which quick-xml leaves to others.
        let plain: String = attribute.value.replace("\r\n", " ").replace(['\t', '\r', '\n'], " ");
        let value = unescape(&plain).expect("references that we read").into_owned();
        let name: &str = attribute.key.as_ref();
        match name {
            "from" => found.from = Some(value),
            "to" => found.to = Some(value),
            "id" => found.id = Some(value),
            "version" => found.version = Some(value),
            "xml:lang" => found.lang = Some(value),
            _ if name.starts_with("xmlns:") => found.dialback |= value == names::DIALBACK,
            _ => {}
        }
    }
    Some(found)
}

/// RFC 6120 4.7.5, spelled out: digits, a dot, digits; anything else is version 0.0.
fn version(text: &str) -> (u32, u32) {
    let parts: Vec<&str> = text.splitn(2, '.').collect();
    let number = |digits: &str| -> Option<u32> {
        if digits.is_empty() {
            return None;
        }
        digits.chars().try_fold(0u32, |sum, c| {
            let digit = "0123456789".find(c).and_then(|at| u32::try_from(at).ok())?;
            Some(sum.saturating_mul(10).saturating_add(digit))
        })
    };
    match parts.as_slice() {
        [major, minor] => number(major).zip(number(minor)).unwrap_or((0, 0)),
        _ => (0, 0),
    }
}
