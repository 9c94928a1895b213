use bytes::Bytes;

use super::{Message, Messages, to_stream};
use crate::reason::Reason;
use crate::xml::{Content, Framer, Header, Limits, Rule, Token};

fn turned(message: &str) -> Result<String, (Rule, Reason)> {
    let octets = to_stream(&Bytes::copy_from_slice(message.as_bytes()));
    let octets = octets.map_err(|violation| (violation.rule, violation.reason()))?;
    Ok(String::from_utf8(octets.to_vec()).unwrap())
}

/// What the stream of a client hears of these messages; the first of them opens it.
fn heard(messages: &[&str]) -> Vec<Token> {
    let mut framer = Framer::new(Limits::default(), Content::Client).alone();
    let mut tokens = Vec::new();
    for message in messages {
        match to_stream(&Bytes::copy_from_slice(message.as_bytes())) {
            Ok(octets) => framer.feed(&octets),
            Err(violation) => framer.break_off(violation),
        }
        tokens.extend(std::iter::from_fn(|| framer.next()));
    }
    tokens
}

const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>";

// RFC 7395 3.3.2, WS-03: `<open/>` stands for the header, `<close/>` for the end.
#[test]
fn open_and_close_are_the_tags_of_a_stream() {
    let open = "<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" to=\"example.com\" from='a@example.com' version='1.0' xml:lang='de'/>";
    let tokens = heard(&[open, "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"]);
    let expected: Header = Header {
        to: Some("example.com".into()),
        from: Some("a@example.com".into()),
        version: Some((1, 0)),
        lang: Some("de".into()),
        ..Header::new(Content::Client)
    };
    assert_eq!(tokens, [Token::Header(expected), Token::End]);
    // A prefix is a spelling: the name and its namespace are the same.
    let prefixed =
        "<f:open xmlns:f='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'></f:open>";
    assert_eq!(heard(&[prefixed]), heard(&[OPEN]));
    let odd =
        "<stream:open xmlns:stream='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>";
    assert_eq!(heard(&[odd]), heard(&[OPEN]));
}

// WS-02: each message is exactly one element, beginning with `<`.
#[test]
fn a_message_is_one_element() {
    for message in [
        "",
        " ",
        " <iq xmlns='jabber:client'/>",
        "\u{FEFF}<iq xmlns='jabber:client'/>",
        "<iq xmlns='jabber:client'/> ",
        "<iq xmlns='jabber:client'/><iq xmlns='jabber:client'/>",
        "<iq xmlns='jabber:client'></iq><message xmlns='jabber:client'/>",
        "<iq xmlns='jabber:client'>",
        "<iq xmlns='jabber:client'",
        "<iq xmlns='jabber:client'></i",
        "text",
        "</stream:stream>",
        "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' to='example.com' version='1.0'>",
        "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com'><a/></open>",
        "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com'>x</open>",
        "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'><iq xmlns='jabber:client'/></close>",
    ] {
        let (rule, reason) = turned(message).unwrap_err();
        assert_eq!((rule, reason), (Rule::M1, Reason::NotWellFormed), "{message}");
    }
    for (message, why) in [
        ("<?xml version='1.0'?><open xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>", Reason::RestrictedXml),
        ("<!-- --><iq xmlns='jabber:client'/>", Reason::RestrictedXml),
        ("<iq xmlns='jabber:client'></message>", Reason::NotWellFormed),
        ("<<iq xmlns='jabber:client'/>", Reason::NotWellFormed),
    ] {
        assert_eq!(turned(message).unwrap_err().1, why, "{message}");
    }
}

// RFC 7395 3.3.3, WS-02: no message leans on another's declarations.
#[test]
fn a_message_declares_its_own_namespaces() {
    for message in [
        "<message to='b@example.com'/>",
        "<stream:features/>",
        "<open to='example.com'/>",
        "<x:open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com'/>",
        "<shut xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
    ] {
        let (rule, reason) = turned(message).unwrap_err();
        assert_eq!((rule, reason), (Rule::M2, Reason::InvalidNamespace), "{message}");
    }
    // What the header declares is declared for nothing in a message.
    let tokens = heard(&[OPEN, "<message xmlns='jabber:client'><stream:x/></message>"]);
    assert!(matches!(&tokens[1..], [Token::Violation(v)] if v.rule == Rule::N1), "{tokens:?}");
    let declared = OPEN.replace(" to=", " xmlns:p='urn:p' to=");
    let tokens = heard(&[&declared, "<message xmlns='jabber:client'><p:x/></message>"]);
    assert!(matches!(&tokens[1..], [Token::Violation(v)] if v.rule == Rule::N1), "{tokens:?}");
    let own = "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let tokens = heard(&[OPEN, own]);
    assert!(
        matches!(&tokens[1..], [Token::Element(frame)] if frame.is("http://etherx.jabber.org/streams", "error")),
        "{tokens:?}"
    );
}

// Namespaces 1.0, 6.2: without a default namespace of its own a message has none, whatever the header's is.
#[test]
fn what_has_no_namespace_in_a_message_has_none_in_the_stream() {
    let tokens = heard(&[OPEN, "<x:a xmlns:x='urn:x'><x:b/><c/></x:a>"]);
    let [_, Token::Element(frame)] = tokens.as_slice() else { panic!("{tokens:?}") };
    let spaces: Vec<_> = frame.head().children().map(|child| child.namespace().to_owned()).collect();
    assert_eq!((frame.head().namespace(), spaces), ("urn:x", vec!["urn:x".to_owned(), String::new()]));
}

// The rules of the framer hold for what a message has in it, budgets as well.
#[test]
fn what_else_is_wrong_is_the_framers_to_find() {
    let twice = OPEN.replace(" to=", " to='a.example' to=");
    let tokens = heard(&[&twice]);
    assert!(matches!(&tokens[..], [Token::Violation(v)] if v.rule == Rule::T5), "{tokens:?}");
    let deep = format!("<message xmlns='jabber:client'>{}{}</message>", "<a>".repeat(70), "</a>".repeat(70));
    let tokens = heard(&[OPEN, &deep, "<presence xmlns='jabber:client'/>"]);
    assert!(matches!(&tokens[1..], [Token::Refused(_), Token::Element(_)]), "{tokens:?}");
    // A second `<open/>` where none is due.
    let tokens = heard(&[OPEN, OPEN]);
    assert!(matches!(&tokens[1..], [Token::Violation(v)] if v.rule == Rule::S3), "{tokens:?}");
    // Nothing is read behind a breach.
    let tokens = heard(&[OPEN, "<a/>", "<presence xmlns='jabber:client'/>"]);
    assert!(matches!(&tokens[1..], [Token::Violation(v)] if v.rule == Rule::M2), "{tokens:?}");
}

fn sent(pieces: &[&str]) -> Vec<Message> {
    let mut messages = Messages::new();
    pieces.iter().flat_map(|piece| messages.cut(piece.as_bytes()).unwrap()).collect()
}

// RFC 7395 3.4, 3.7, 3.8, WS-03: the way out, a restart and white space with it.
#[test]
fn what_we_write_is_cut_into_messages() {
    let header: Header = Header {
        from: Some("example.com".into()),
        id: Some("1'2".into()),
        version: Some((1, 0)),
        ..Header::new(Content::Client)
    };
    let header = String::from_utf8(header.write_open()).unwrap();
    let open =
        "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' from='example.com' id='1&apos;2' version='1.0'/>";
    let element = |text: &str| Message::Element(text.to_owned());
    let close = || Message::Close("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>".to_owned());
    let features = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>";
    let all = format!(
        "{header}{features}<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>{header}<message to='a'><body>x</body></message> \
         <presence/></stream:stream>"
    );
    let whole = sent(&[&all]);
    assert_eq!(
        whole,
        [
            element(open),
            element(
                &features
                    .replace("features><b", "features xmlns:stream='http://etherx.jabber.org/streams'><b")
            ),
            element("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
            element(open),
            element("<message xmlns='jabber:client' to='a'><body>x</body></message>"),
            Message::Alive,
            element("<presence xmlns='jabber:client'/>"),
            close(),
        ]
    );
    // However it is handed over, as long as a declaration is not torn, as nothing that we write is.
    let (left, right) = all.split_at(all.len() - 40);
    assert_eq!(sent(&[left, right]), whole);
    // What went out comes in again as it was.
    let back: Vec<Token> = heard(&[open, "<message xmlns='jabber:client' to='a'><body>x</body></message>"]);
    assert!(
        matches!(&back[1..], [Token::Element(frame)] if frame.head().to().as_deref() == Some("a")),
        "{back:?}"
    );
}
