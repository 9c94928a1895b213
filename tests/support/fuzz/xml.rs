//! The laws of framing as assertions over any input: run by the fuzz targets, and by `tests/pure/fuzz_corpus.rs` on stable.
//!
//! Nothing here uses the code under test to check the code under test: the canonical language has its own recogniser, and
//! the other readers are quick-xml's namespace reader and rxml.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use gatehouse::xml::{
    Atom, Content, Edits, Element, Frame, Framer, Header, Limits, Message, Messages, Node, StreamStart,
    Token, rewrite as apply, to_stream,
};

const OPEN: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
     xmlns:db='jabber:server:dialback' xmlns:odd='urn:odd'>";

/// Budgets small enough for a fuzzer to reach.
fn small() -> Limits {
    Limits {
        header: 1024,
        element: 2048,
        depth: 8,
        attributes: 12,
        declarations: 6,
        bindings: 12,
        name: 32,
        value: 256,
        namespace_name: 64,
        nodes: 48,
        grown: 3000,
        skip: 6000,
        inside: false,
    }
}

/// Budgets that no canonical form of an element under `small` can reach.
fn large() -> Limits {
    Limits { value: 1 << 20, element: 1 << 20, attributes: 64, grown: usize::MAX, ..Limits::default() }
}

/// Input that begins with `!` is a whole stream; other input stands in a stream that is open.
fn stream(data: &[u8]) -> Vec<u8> {
    match data {
        [b'!', stream @ ..] => stream.to_vec(),
        body => [OPEN.as_bytes(), body].concat(),
    }
}

/// Feeds octets in chunks of the sizes given, over and over, and asserts the bound of memory.
fn read(octets: &[u8], limits: &Limits, sizes: &[usize]) -> Vec<Token> {
    read_by(Framer::new(limits.clone(), Content::Server), octets, limits, sizes)
}

fn read_by(mut framer: Framer, octets: &[u8], limits: &Limits, sizes: &[usize]) -> Vec<Token> {
    let most = limits.element.max(limits.header);
    let mut tokens = Vec::new();
    let mut rest = octets;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, later) = rest.split_at(size.clamp(1, rest.len()));
        rest = later;
        framer.feed(chunk);
        assert!(framer.buffered() <= most + chunk.len(), "more held than the budget and one read");
        tokens.extend(std::iter::from_fn(|| framer.next()));
        assert!(framer.buffered() <= most, "more held than the budget");
    }
    if let Some(Token::End | Token::Violation(_)) = tokens.last() {
        assert!(framer.is_empty() && framer.next().is_none(), "something follows the last token");
    }
    tokens
}

fn frames(tokens: &[Token]) -> impl Iterator<Item = &Frame> {
    tokens.iter().filter_map(|token| match token {
        Token::Element(frame) => Some(frame),
        _ => None,
    })
}

fn again(octets: &[u8]) -> Frame {
    let tokens = read(&[OPEN.as_bytes(), octets].concat(), &large(), &[usize::MAX]);
    match tokens.as_slice() {
        [Token::Header(_), Token::Element(frame)] => frame.clone(),
        other => panic!("not framed again: {} {other:?}", String::from_utf8_lossy(octets)),
    }
}

/// Chunks make no difference, nor does the short way; memory is bounded, what passes is canonical, and passes again unchanged.
pub fn framer(data: &[u8]) {
    let octets = stream(data);
    let whole = read(&octets, &small(), &[usize::MAX]);
    let thorough = Framer::new(small(), Content::Server).without_the_short_way();
    assert_eq!(whole, read_by(thorough, &octets, &small(), &[usize::MAX]), "the short way and the long one");
    for number in 0..4 {
        let mut compared = Framer::new(small(), Content::Server);
        compared.compare_from(number);
        assert_eq!(
            whole,
            read_by(compared, &octets, &small(), &[usize::MAX]),
            "compared as on a living stream"
        );
    }
    let mark = octets.iter().fold(7usize, |sum, &b| sum.wrapping_mul(31).wrapping_add(usize::from(b)));
    for sizes in [&[1][..], &[2, 3], &[1 + mark % 13, 1 + mark % 5, 1 + mark % 64], &[1 + mark % 509]] {
        let cut = read(&octets, &small(), sizes);
        assert_eq!(cut, whole, "chunks of {sizes:?}");
    }
    if data.first() != Some(&b'!') {
        refused_alone(data, &whole);
    }
    for frame in frames(&whole) {
        let text = std::str::from_utf8(frame.octets()).expect("UTF-8");
        assert_eq!(canonical(text), Ok(()), "not canonical: {text}");
        if data.first() != Some(&b'!') {
            let again = again(frame.octets());
            assert_eq!(again.octets(), frame.octets(), "not idempotent");
            assert!(again.passed_as_received());
            assert_eq!(again.head(), frame.head());
        }
    }
}

/// XML-17: what follows a refused element is read as if it had not been there; where it ends is where another reader has it
/// end, with the addresses that the other reader finds; and on a stream without a proof it is the end.
fn refused_alone(data: &[u8], whole: &[Token]) {
    if !whole.iter().any(|token| matches!(token, Token::Refused(_))) {
        return;
    }
    let mut framer = Framer::new(small(), Content::Server);
    framer.feed(OPEN.as_bytes());
    assert!(matches!(framer.next(), Some(Token::Header(_))));
    let (mut left, mut begun) = (OPEN.as_bytes().to_vec(), 0);
    for (i, octet) in data.iter().enumerate() {
        framer.feed(&[*octet]);
        while let Some(token) = framer.next() {
            match token {
                // White space that stands before the element stays.
                Token::Keepalive => continue,
                Token::Refused(refused) => {
                    let element = &data[i + 1 - refused.octets()..=i];
                    assert!(data[begun..].len() >= element.len(), "longer than what was read");
                    ends_there(std::str::from_utf8(element).expect("UTF-8"), &refused);
                    left.extend_from_slice(&data[begun..i + 1 - refused.octets()]);
                }
                _ => left.extend_from_slice(&data[begun..=i]),
            }
            begun = i + 1;
        }
    }
    left.extend_from_slice(&data[begun..]);
    let passed = |tokens: &[Token]| {
        let told = |token: &&Token| !matches!(token, Token::Keepalive | Token::Refused(_));
        tokens.iter().filter(told).cloned().collect::<Vec<_>>()
    };
    let without = read(&left, &small(), &[usize::MAX]);
    assert!(!without.iter().any(|token| matches!(token, Token::Refused(_))), "refused once more");
    assert_eq!(passed(&without), passed(whole), "what stands around refused elements");

    let unproven = read(&[OPEN.as_bytes(), data].concat(), &Limits { skip: 0, ..small() }, &[usize::MAX]);
    assert!(matches!(unproven.last(), Some(Token::Violation(_))), "it ends a stream without a proof");
    let before = whole.iter().take_while(|token| !matches!(token, Token::Refused(_)));
    assert!(before.eq(unproven.iter().take(unproven.len() - 1)), "what came before it passes");
}

/// Where quick-xml has the element end, and what it finds in its start tag. It reads names and namespaces as they come, as
/// we do there.
fn ends_there(element: &str, refused: &gatehouse::xml::RefusedStanza) {
    use quick_xml::events::Event;
    let mut reader = quick_xml::reader::Reader::from_str(element);
    let mut depth = 0usize;
    loop {
        let event = reader.read_event().expect("quick-xml reads what we skip");
        if let (0, Event::Start(tag) | Event::Empty(tag)) = (depth, &event) {
            for (name, value) in [
                ("from", refused.from()),
                ("to", refused.to()),
                ("id", refused.id()),
                ("type", refused.type_()),
                ("xml:lang", refused.lang()),
            ] {
                let mut attributes = tag.attributes();
                let mut attributes = attributes.with_checks(false).flatten();
                let raw = attributes.find(|a| a.key.as_ref() == name).map(|a| a.value.into_owned());
                // Another reader of values stands in `agree`.
                let plain =
                    raw.as_ref().is_none_or(|raw| !raw.contains(['&', '\t', '\r', '\n']) && raw.len() < 256);
                assert!(!plain || raw.as_deref() == value, "{name} of {element}: {raw:?} {value:?}");
            }
        }
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            Event::Empty(_) | Event::Text(_) | Event::GeneralRef(_) | Event::CData(_) => (),
            other => panic!("skipped: {other:?}"),
        }
        if depth == 0 {
            let end = usize::try_from(reader.buffer_position()).expect("small");
            return assert_eq!(end, element.len(), "where {element} ends");
        }
    }
}

/// The head is what quick-xml finds; the tree is what rxml finds, in the received and in the emitted octets.
pub fn readers_agree(data: &[u8]) {
    let octets = [OPEN.as_bytes(), data].concat();
    let mut framer = Framer::new(small(), Content::Server);
    let mut begun = 0;
    for (i, octet) in octets.iter().enumerate() {
        framer.feed(&[*octet]);
        while let Some(token) = framer.next() {
            if let Token::Element(frame) = &token {
                agree(&octets[begun..=i], frame);
            }
            begun = i + 1;
        }
    }
}

fn agree(received: &[u8], frame: &Frame) {
    let emitted = std::str::from_utf8(frame.octets()).expect("UTF-8");
    let (surface, children) = by_quick_xml(emitted);
    let head = frame.head();
    let own = |value: Option<std::borrow::Cow<'_, str>>| value.map(|v| v.into_owned());
    let ours = Surface {
        name: head.name().to_owned(),
        namespace: head.namespace().to_owned(),
        from: own(head.from()),
        to: own(head.to()),
        id: own(head.id()),
        type_: own(head.type_()),
        lang: own(head.lang()),
        by: surface.by.clone(),
    };
    assert_eq!(ours, surface, "head of {emitted}");
    let ours: Vec<_> = head
        .children()
        .map(|c| (c.name().to_owned(), c.namespace().to_owned(), own(c.by()), own(c.from())))
        .collect();
    let theirs: Vec<_> = children
        .iter()
        .map(|c| (c.name.clone(), c.namespace.clone(), c.by.clone(), c.from.clone()))
        .collect();
    assert_eq!(ours, theirs, "children of {emitted}");

    let tree = frame.tree();
    assert_eq!(by_rxml(emitted), Ok(sorted(tree.clone())), "rxml on what we send: {emitted}");
    let received = std::str::from_utf8(received).expect("UTF-8");
    if !beyond_rxml(received) {
        assert_eq!(by_rxml(received.trim_start()), Ok(sorted(tree)), "rxml on what we received: {received}");
    }
}

/// The known gaps of rxml 0.14 that an accepted element can meet: a lone CR, and more than eight characters in a reference.
fn beyond_rxml(received: &str) -> bool {
    let long = |body: &str| body.split(';').next().is_some_and(|name| name.len() > 8);
    received.contains('\r') || received.split('&').skip(1).any(long)
}

#[derive(Debug, Default, PartialEq)]
struct Surface {
    name: String,
    namespace: String,
    from: Option<String>,
    to: Option<String>,
    id: Option<String>,
    type_: Option<String>,
    lang: Option<String>,
    by: Option<String>,
}

/// The element's surface and its children's, as quick-xml's namespace reader sees them.
fn by_quick_xml(element: &str) -> (Surface, Vec<Surface>) {
    use quick_xml::escape::unescape;
    use quick_xml::events::Event;
    use quick_xml::name::ResolveResult;
    let document = format!("{OPEN}{element}</stream:stream>");
    let mut reader = quick_xml::reader::NsReader::from_str(&document);
    let mut found = Vec::new();
    let mut depth = 0;
    loop {
        let (namespace, event) = reader.read_resolved_event().expect("quick-xml reads what we send");
        let namespace = match namespace {
            ResolveResult::Bound(name) => unescape(name.as_ref()).expect("escapes").into_owned(),
            ResolveResult::Unbound => String::new(),
            ResolveResult::Unknown(prefix) => panic!("unknown prefix {prefix:?}"),
        };
        match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                if depth == 1 || depth == 2 {
                    let value = |name: &str| {
                        let attribute = tag.try_get_attribute(name).expect("attributes")?;
                        Some(unescape(&attribute.value).expect("escapes").into_owned())
                    };
                    let surface = Surface {
                        name: tag.local_name().as_ref().to_owned(),
                        namespace,
                        from: value("from"),
                        to: value("to"),
                        id: value("id"),
                        type_: value("type"),
                        lang: value("xml:lang"),
                        by: value("by"),
                    };
                    found.push((depth, surface));
                }
                depth += usize::from(matches!(event, Event::Start(_)));
            }
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            Event::Text(_) | Event::GeneralRef(_) => (),
            other => panic!("not in the canonical language: {other:?}"),
        }
    }
    let (first, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|(depth, _)| *depth == 1);
    let first = first.into_iter().next().expect("one element").1;
    (first, rest.into_iter().map(|(_, surface)| surface).collect())
}

/// The element's tree as rxml sees it.
fn by_rxml(element: &str) -> Result<Element, String> {
    let root = document_by_rxml(&format!("{OPEN}{element}</stream:stream>"))?;
    match root.children.as_slice() {
        [Node::Element(only)] => Ok(only.clone()),
        other => Err(format!("not one element: {other:?}")),
    }
}

/// The root of a document as rxml sees it.
fn document_by_rxml(document: &str) -> Result<Element, String> {
    use rxml::{Event, Parse};
    let mut parser = rxml::Parser::new();
    let mut octets = document.as_bytes();
    let mut open: Vec<Element> = Vec::new();
    loop {
        match parser.parse(&mut octets, true).map_err(|e| format!("{e:?}"))? {
            Some(Event::StartElement(_, (namespace, name), attrs)) => {
                let attrs = attrs.iter().map(|((namespace, name), value)| {
                    let namespace = namespace.is_some().then(|| Atom::new(namespace.as_str()));
                    (namespace, Atom::new(name), value.clone())
                });
                let (name, namespace) = (Atom::new(&name), Atom::new(namespace.as_str()));
                open.push(sorted(Element { name, namespace, attrs: attrs.collect(), children: Vec::new() }));
            }
            Some(Event::EndElement(_)) => {
                let element = open.pop().ok_or("unbalanced")?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(Node::Element(element)),
                    None if octets.is_empty() => return Ok(element),
                    None => return Err(format!("something behind it: {} octets", octets.len())),
                }
            }
            Some(Event::Text(_, text)) => {
                let children = &mut open.last_mut().ok_or("text outside")?.children;
                match children.last_mut() {
                    Some(Node::Text(last)) => last.push_str(&text),
                    _ => children.push(Node::Text(text)),
                }
            }
            Some(Event::XmlDeclaration(..)) => (),
            None => return Err("cut".to_owned()),
        }
    }
}

/// The same tree with attributes in an order that does not depend on the reader, and without empty text.
/// Messages of a client (RFC 7395), parted by the octet 1: each that passes is a document of its own, and means in the stream what it
/// means alone; what goes out as a message comes in as it was. Where a stream begins in clear, its cuts do not tell whose it is.
pub fn messages(data: &[u8]) {
    let limits = small();
    let mut framer = Framer::new(limits.clone(), Content::Client).alone();
    let mut out = Messages::new();
    let open = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a.example' version='1.0'/>";
    let sent = data.split(|octet| *octet == 1).map(|part| part.to_vec());
    for message in std::iter::once(open.as_bytes().to_vec()).chain(sent) {
        let bytes = bytes::Bytes::from(message.clone());
        let octets = match to_stream(&bytes) {
            Ok(octets) => octets,
            Err(violation) => {
                framer.break_off(violation);
                let told: Vec<Token> = std::iter::from_fn(|| framer.next()).collect();
                assert_eq!(told, [Token::Violation(violation)], "one breach, and nothing else");
                return;
            }
        };
        framer.feed(&octets);
        let tokens: Vec<Token> = std::iter::from_fn(|| framer.next()).collect();
        assert_eq!(tokens.len(), 1, "one message, one token: {tokens:?}");
        assert!(!framer.is_mid_element(), "nothing is left of a message");
        match &tokens[0] {
            Token::Element(frame) => {
                let text = std::str::from_utf8(&message).expect("UTF-8");
                if !beyond_rxml(text) {
                    assert_eq!(
                        document_by_rxml(text),
                        Ok(sorted(frame.tree())),
                        "alone and in the stream: {text}"
                    );
                }
                carried(&mut out, frame);
            }
            Token::Header(_) => assert_eq!(message, open.as_bytes(), "a second header"),
            Token::Refused(_) => {}
            Token::Violation(_) | Token::End => return,
            other => panic!("not in a message: {other:?}"),
        }
    }
    let mut whole = StreamStart::new(&limits);
    let at_once = whole.feed(data);
    let mut cut = StreamStart::new(&limits);
    let by_one = data.iter().find_map(|octet| cut.feed(&[*octet]));
    assert_eq!(by_one, at_once, "cuts do not tell");
}

/// What goes out in a message is the same for who reads it there.
fn carried(out: &mut Messages, frame: &Frame) {
    let header = Header::<String>::new(Content::Client).write_open();
    let cut = out.cut(&[&header, &frame.octets()[..]].concat()).expect("we write well");
    let [Message::Element(_), Message::Element(text)] = cut.as_slice() else {
        panic!("not two messages: {cut:?}")
    };
    assert_eq!(document_by_rxml(text), Ok(sorted(frame.tree())), "as a message: {text}");
}

fn sorted(mut element: Element) -> Element {
    element.attrs.sort();
    element.children.retain(|node| !matches!(node, Node::Text(text) if text.is_empty()));
    for node in &mut element.children {
        if let Node::Element(child) = node {
            *child = sorted(std::mem::take(child));
        }
    }
    element
}

/// Edits give canonical octets with the head that was asked for, and leave alone what they do not name.
///
/// The first line of the input tells the edits: `from;to;lang;remove;cut,cut`; empty fields change nothing.
pub fn rewrite(data: &[u8]) {
    let line = data.split(|&b| b == b'\n').next().unwrap_or_default();
    let body = data.get(line.len() + 1..).unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let mut fields = line.split(';');
    let mut field = || fields.next().filter(|f| !f.is_empty()).map(str::to_owned);
    let (from, to, lang, remove) = (field(), field(), field(), field());
    let cut: Vec<usize> = field().iter().flat_map(|f| f.split(',')).filter_map(|n| n.parse().ok()).collect();
    let edits = Edits { from, to, lang, remove_from: remove.is_some(), cut };
    for frame in frames(&read(&[OPEN.as_bytes(), body].concat(), &small(), &[usize::MAX])) {
        edited(frame, &edits);
    }
}

fn edited(frame: &Frame, edits: &Edits) {
    let octets = apply(frame, edits);
    let text = std::str::from_utf8(&octets).expect("UTF-8");
    assert_eq!(canonical(text), Ok(()), "not canonical: {text}");
    let after = again(&octets);
    assert!(after.passed_as_received());
    let (old, new) = (frame.head(), after.head());
    let asked = |edit: &Option<String>| {
        edit.as_ref().map(|value| value.chars().filter(|&c| legal(c)).collect::<String>())
    };
    let keep = |value: Option<std::borrow::Cow<'_, str>>| value.map(|v| v.into_owned());
    let expected = asked(&edits.from).or_else(|| keep(old.from()).filter(|_| !edits.remove_from));
    assert_eq!(keep(new.from()), expected);
    assert_eq!(keep(new.to()), asked(&edits.to).or_else(|| keep(old.to())));
    assert_eq!(keep(new.lang()), asked(&edits.lang).or_else(|| keep(old.lang())));
    assert_eq!((new.name(), new.namespace(), new.kind()), (old.name(), old.namespace(), old.kind()));
    assert_eq!((new.id(), new.type_()), (old.id(), old.type_()));
    let kept: Vec<_> = old
        .children()
        .enumerate()
        .filter(|(i, _)| !edits.cut.contains(i))
        .map(|(_, c)| &frame.octets()[c.range()])
        .collect();
    let left: Vec<_> = new.children().map(|c| &after.octets()[c.range()]).collect();
    assert_eq!(left, kept, "children of {text}");

    // Attributes and text that no edit names stay.
    let rest = |element: Element| {
        let named = |(namespace, name, _): &(Option<Atom>, Atom, String)| {
            matches!(
                (namespace.as_deref(), name.as_str()),
                (None, "from" | "to") | (Some("http://www.w3.org/XML/1998/namespace"), "lang")
            )
        };
        let attrs: Vec<_> = element.attrs.iter().filter(|a| !named(a)).cloned().collect();
        (attrs, element.text().into_owned())
    };
    assert_eq!(rest(after.tree()), rest(frame.tree()));
}

/// The production `Char`, spelled as XML 1.0, section 2.2 does.
fn legal(c: char) -> bool {
    let c = u32::from(c);
    c == 0x9
        || c == 0xA
        || c == 0xD
        || (0x20..=0xD7FF).contains(&c)
        || (0xE000..=0xFFFD).contains(&c)
        || c >= 0x10000
}

/// A recogniser of the canonical language (rules, section 6), independent of the code that writes it.
pub fn canonical(text: &str) -> Result<(), String> {
    let mut rest = text;
    let mut open: Vec<&str> = Vec::new();
    loop {
        let before = rest;
        if let Some(tag) = rest.strip_prefix("</") {
            let name = open.pop().ok_or("an end without a start")?;
            rest = tag
                .strip_prefix(name)
                .and_then(|t| t.strip_prefix('>'))
                .ok_or(format!("end tag at {before:?}"))?;
        } else if let Some(tag) = rest.strip_prefix('<') {
            let (name, mut tag) = name(tag)?;
            while let Some(attribute) = tag.strip_prefix(' ') {
                let (_, value) = self::name(attribute)?;
                tag = quoted(value.strip_prefix('=').ok_or("no value")?)?;
            }
            rest = match tag.strip_prefix("/>") {
                Some(rest) => rest,
                None => {
                    open.push(name);
                    tag.strip_prefix('>').ok_or(format!("start tag at {before:?}"))?
                }
            };
        } else if open.is_empty() {
            return Err(format!("text outside: {before:?}"));
        } else {
            let len = rest.find('<').unwrap_or(rest.len());
            characters(&rest[..len], "<>\r", &["&lt;", "&gt;", "&amp;", "&apos;", "&quot;", "&#13;"])?;
            rest = &rest[len..];
        }
        if open.is_empty() {
            return if rest.is_empty() { Ok(()) } else { Err(format!("more than one element: {rest:?}")) };
        }
        if rest.is_empty() {
            return Err("cut".to_owned());
        }
    }
}

fn name(text: &str) -> Result<(&str, &str), String> {
    let len = text.find(|c: char| !(c.is_ascii_alphanumeric() || "._-:".contains(c))).unwrap_or(text.len());
    let (name, rest) = text.split_at(len);
    let part = |p: &str| p.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if name.split(':').count() <= 2 && name.split(':').all(part) {
        Ok((name, rest))
    } else {
        Err(format!("name {name:?}"))
    }
}

fn quoted(text: &str) -> Result<&str, String> {
    let quote = text.chars().next().filter(|c| "'\"".contains(*c)).ok_or("no quote")?;
    let (value, rest) = text[1..].split_once(quote).ok_or("no end quote")?;
    let references = ["&lt;", "&gt;", "&amp;", "&apos;", "&quot;", "&#9;", "&#10;", "&#13;"];
    characters(value, "<>\"'\t\n\r", &references)?;
    Ok(rest)
}

fn characters(text: &str, never: &str, references: &[&str]) -> Result<(), String> {
    for (i, c) in text.char_indices() {
        let fine = match c {
            '&' => references.iter().any(|r| text[i..].starts_with(r)),
            c => legal(c) && !never.contains(c),
        };
        if !fine {
            return Err(format!("{c:?} in {text:?}"));
        }
    }
    Ok(())
}
