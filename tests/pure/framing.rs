//! Strict framing, one row a rule: what is accepted and in which octets it leaves, what is refused and for which reason.
//!
//! Ids without further words are the house's XML rules; requirement ids (XML-01, STR-18, LIM-01) are named where they rule.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use bytes::BufMut as _;
use gatehouse::reason::Reason as Why;
use gatehouse::xml::{Atom, Content, Edits, Frame, Framer, Kind, Limits, Rule, Token, Violation, rewrite};

#[path = "framing/refused.rs"]
mod refused_stanzas;

const OPEN: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
     xmlns:db='jabber:server:dialback' xmlns:odd='urn:odd' to='a.example' version='1.0'>";

fn tokens(framer: &mut Framer) -> Vec<Token> {
    std::iter::from_fn(|| framer.next()).collect()
}

/// Reads octets both ways, and makes sure that it comes to the same.
fn read_with(limits: Limits, octets: &[u8]) -> Vec<Token> {
    let read = |mut framer: Framer| {
        framer.feed(octets);
        tokens(&mut framer)
    };
    let seen = read(Framer::new(limits.clone(), Content::Server));
    let thorough = read(Framer::new(limits, Content::Server).without_the_short_way());
    assert_eq!(seen, thorough, "the short way and the long one: {}", String::from_utf8_lossy(octets));
    seen
}

/// Puts octets into the framer's room, which may be larger.
fn put(framer: &mut Framer, octets: &[u8]) {
    if let Some(mut room) = framer.room(octets.len() + 100) {
        room.put_slice(octets);
    }
}

/// Reads octets at once and cut at every place, and makes sure that it comes to the same.
fn read(octets: &[u8]) -> Vec<Token> {
    read_under(&Limits::default(), octets)
}

fn read_under(limits: &Limits, octets: &[u8]) -> Vec<Token> {
    let whole = read_with(limits.clone(), octets);
    for cut in 0..octets.len() {
        let (left, right) = octets.split_at(cut);
        for way in [Framer::feed, put] {
            let mut framer = Framer::new(limits.clone(), Content::Server);
            way(&mut framer, left);
            let mut seen = tokens(&mut framer);
            framer.give_back();
            way(&mut framer, right);
            seen.extend(tokens(&mut framer));
            assert_eq!(seen, whole, "cut at {cut} of {}", String::from_utf8_lossy(octets));
        }
    }
    let mut framer = Framer::new(limits.clone(), Content::Server);
    let mut seen = Vec::new();
    for octet in octets {
        framer.feed(&[*octet]);
        seen.extend(tokens(&mut framer));
    }
    assert_eq!(seen, whole, "octet by octet: {}", String::from_utf8_lossy(octets));
    whole
}

fn in_stream(body: &[u8]) -> Vec<Token> {
    in_stream_under(&Limits::default(), body)
}

fn in_stream_under(limits: &Limits, body: &[u8]) -> Vec<Token> {
    let mut seen = read_under(limits, &[OPEN.as_bytes(), body].concat());
    assert!(matches!(seen.first(), Some(Token::Header(_))), "{seen:?}");
    seen.remove(0);
    seen
}

fn frame(body: &str) -> Frame {
    match in_stream(body.as_bytes()).as_slice() {
        [Token::Element(frame)] => frame.clone(),
        other => panic!("{body}: {other:?}"),
    }
}

fn violation(seen: &[Token]) -> Violation {
    match seen.last() {
        Some(Token::Violation(violation)) => *violation,
        other => panic!("no violation: {other:?}"),
    }
}

/// Each refused body breaks the rule, as the only element and after a good one (P2), and tells the reason.
fn refused(rule: Rule, why: Why, bodies: &[&[u8]]) {
    for body in bodies {
        let told = String::from_utf8_lossy(body);
        let seen = in_stream(body);
        let found = violation(&seen);
        assert_eq!((found.rule, found.reason()), (rule, why), "{told}");
        assert_eq!(seen.len(), 1, "P1: nothing of the element passes: {told}");
        let seen = in_stream(&[b"<iq/> ", *body].concat());
        assert!(
            matches!(seen.as_slice(), [Token::Element(_), Token::Keepalive, Token::Violation(_)]),
            "P2: {told}"
        );
    }
}

/// Each body breaks the rule and is legal XML all the same (XML-17): it ends a stream that is not proven, with that reason, and
/// on a proven one it alone is refused, by its own name, and what follows is read as if it had not been there.
fn only_refused(rule: Rule, why: Why, name: Why, bodies: &[&[u8]]) {
    let unproven = Limits { skip: 0, ..Limits::default() };
    for body in bodies {
        let told = String::from_utf8_lossy(body);
        let found = violation(&in_stream_under(&unproven, body));
        assert_eq!((found.rule, found.reason()), (rule, why), "{told}");
        match in_stream(&[b"<iq/> ", *body, b" <iq id='1'/>"].concat()).as_slice() {
            [
                Token::Element(_),
                Token::Keepalive,
                Token::Refused(refused),
                Token::Keepalive,
                Token::Element(next),
            ] => {
                assert_eq!((refused.why().rule(), refused.why().reason()), (rule, name), "{told}");
                assert_eq!(refused.octets(), body.len(), "{told}");
                assert_eq!(next.octets(), "<iq id='1'/>");
            }
            other => panic!("{told}: {other:?}"),
        }
    }
}

/// Each body passes octet for octet.
fn kept(bodies: &[&str]) {
    for body in bodies {
        let frame = frame(body);
        assert_eq!(frame.octets(), body.as_bytes());
        assert!(frame.passed_as_received());
    }
}

/// Each body passes in the form beside it, which then is kept.
fn rewritten(bodies: &[(&str, &str)]) {
    for (body, canonical) in bodies {
        let frame = frame(body);
        assert_eq!(std::str::from_utf8(frame.octets()).unwrap(), *canonical);
        assert!(!frame.passed_as_received(), "{body}");
        kept(&[canonical]);
    }
}

fn refused_stream(rule: Rule, why: Why, streams: &[&[u8]]) {
    for octets in streams {
        let seen = read(octets);
        let found = violation(&seen);
        assert_eq!((found.rule, found.reason()), (rule, why), "{}", String::from_utf8_lossy(octets));
        assert_eq!(seen.len(), 1);
    }
}

fn accepted_stream(streams: &[&str]) {
    for octets in streams {
        let seen = read(octets.as_bytes());
        assert!(matches!(seen.as_slice(), [Token::Header(_)]), "{octets}: {seen:?}");
    }
}

// -- octets ----------------------------------------------------------------------------------------------------------

// B1, XML-01: "no overlong forms, surrogates, values above U+10FFFF or truncated sequences".
#[test]
fn b1_only_well_formed_utf8() {
    kept(&["<message><body>\u{e9} \u{20ac} \u{1f600} \u{10ffff}</body></message>", "<message id='\u{e9}'/>"]);
    refused(
        Rule::B1,
        Why::UnsupportedEncoding,
        &[
            b"<message>\xC0\xAF</message>",
            b"<message>\xE0\x80\xAF</message>",
            b"<message>\xED\xA0\x80</message>",
            b"<message>\xF4\x90\x80\x80</message>",
            b"<message>\xE2\x82</message>",
            b"<message id='\xFF'/>",
            b"<m\x80/>",
            b"\xC3(",
            // B1 wins over B2, T2 and the end tag that does not match.
            b"<message>\x01\xFF</message>",
            b"<message a='\xFF<'/>",
            b"<message>\xFF</presence>",
        ],
    );
}

// B2, XML-02: "no NUL, no C0 except TAB LF CR, no U+FFFE/FFFF".
#[test]
fn b2_only_xml_characters() {
    kept(&["<message>\t\n \u{7f}\u{85}\u{9f}\u{fdd0}\u{fffd}\u{1fffe}</message>"]);
    refused(
        Rule::B2,
        Why::NotWellFormed,
        &[
            b"<message>\0</message>",
            b"<message>\x1F</message>",
            b"<message id='\x0B'/>",
            "<message>\u{fffe}</message>".as_bytes(),
            "<message>\u{ffff}</message>".as_bytes(),
            b"<\x01message/>",
            b"\x02",
            "\u{ffff}".as_bytes(),
        ],
    );
}

// B3: UTF-16 and UTF-32 in either order, with and without mark.
#[test]
fn b3_no_other_encoding_form() {
    refused_stream(
        Rule::B3,
        Why::UnsupportedEncoding,
        &[b"\xFE\xFF\0<", b"\xFF\xFE<\0", b"<\0s\0", b"\0<\0s", b"\0\0\0<", b"\xFF\xFE\0\0<\0\0\0", b" \0"],
    );
}

// B4, XML-04: "U+FEFF is a zero-width no-break space everywhere; before the root it is therefore stray text".
#[test]
fn b4_no_byte_order_mark() {
    kept(&["<message>\u{feff}x</message>"]);
    refused_stream(
        Rule::B4,
        Why::NotWellFormed,
        &["\u{feff}<stream:stream>".as_bytes(), " \u{feff}".as_bytes()],
    );
    refused(Rule::S1, Why::BadFormat, &["\u{feff}<iq/>".as_bytes()]);
}

// -- header ----------------------------------------------------------------------------------------------------------

const NS: &str = "xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'";

// H1, XML-03: "An XML declaration may appear only first, version 1.0, encoding absent or UTF-8; `standalone` yes or no is read and
// means nothing".
#[test]
fn h1_declaration() {
    for declaration in [
        "",
        " \r\n\t",
        "<?xml version='1.0'?>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<?xml\tversion = '1.0'\nencoding = 'utf-8' ?>",
        "<?xml version='1.0' standalone='yes'?>",
        "<?xml version='1.0' encoding='UTF-8' standalone=\"no\" ?>",
    ] {
        accepted_stream(&[&format!("{declaration}<stream:stream {NS}>")]);
    }
    refused_stream(
        Rule::H1,
        Why::NotWellFormed,
        &[
            b"<?xml version='1.1'?>",
            b"<?xml encoding='UTF-8'?>",
            b"<?xml version='1.0'encoding='UTF-8'?>",
            b"<?xml version='1.0' version='1.0'?>",
            b"<?xml version='1.0' ?x?>",
            b"<?xml version=1.0?>",
            b"<?xml version='1.0' standalone='maybe'?>",
            b"<?xml version='1.0' standalone='YES'?>",
            b"<?xml version='1.0' standalone='yes' encoding='UTF-8'?>",
            b"<?xml version='1.0' standalone='yes' standalone='no'?>",
            b"<?xml ?>",
            b"<?xml version='1.0'<",
            b"x<stream:stream>",
            b"&lt;<stream:stream>",
        ],
    );
    refused_stream(
        Rule::H1,
        Why::UnsupportedEncoding,
        &[b"<?xml version='1.0' encoding='UTF-16'?>", b"<?xml version='1.0' encoding='utf8'?>"],
    );
    refused_stream(
        Rule::X1,
        Why::RestrictedXml,
        &[
            b" <?xml version='1.0'?>",
            b"<?xml version='1.0'?><?xml version='1.0'?>",
            b"<?xml-stylesheet?>",
            b"<?xm?>",
            b"<?php?>",
            b"<!DOCTYPE x>",
            b"<!--x-->",
        ],
    );
    refused_stream(Rule::R6, Why::NotWellFormed, &[b"<![CDATA[x]]>"]);
    refused_stream(Rule::T6, Why::NotWellFormed, &[b"</stream:stream>"]);
}

// H2: STR-01, STR-02, STR-03.
#[test]
fn h2_root_and_content_namespace() {
    accepted_stream(&[
        &format!("<stream:stream {NS}>"),
        &format!("<stream:stream from='a' {NS} id='' foo='1' xml:lang='de'>"),
        "<stream:stream xmlns:stream=\"http://ether&#x78;.jabber.org/streams\" xmlns = 'jabber:server' >",
    ]);
    let streams = "http://etherx.jabber.org/streams";
    let table = [
        (Why::InvalidNamespace, "<stream:stream xmlns='jabber:server' xmlns:stream='urn:x'>".to_owned()),
        (Why::InvalidNamespace, format!("<stream:stream xmlns='jabber:client' xmlns:stream='{streams}'>")),
        (Why::InvalidNamespace, format!("<stream:stream xmlns:stream='{streams}'>")),
        (Why::InvalidNamespace, "<stream>".to_owned()),
        (Why::InvalidNamespace, format!("<stream:stream xmlns='jabber:server' xmlns:stream='{streams}/'>")),
        (Why::BadFormat, format!("<stream:streams {NS}>")),
        (Why::BadFormat, format!("<stream:error {NS}/>")),
        (Why::BadNamespacePrefix, format!("<s:stream xmlns='jabber:server' xmlns:s='{streams}'>")),
        (Why::BadNamespacePrefix, format!("<stream xmlns='{streams}'>")),
    ];
    for (why, stream) in table {
        refused_stream(Rule::H2, why, &[stream.as_bytes()]);
    }
}

// H3, STR-18: "a stanza that depends on one is refused".
#[test]
fn h3_header_prefixes_are_not_for_stanzas() {
    kept(&["<message><odd:x xmlns:odd='urn:y'/></message>"]);
    // Features are for us alone, and never handed on as they came: jabberd2 has such among its own.
    kept(&["<stream:features><odd:x/></stream:features>"]);
    only_refused(
        Rule::H3,
        Why::InvalidNamespace,
        Why::HeaderPrefix,
        &[
            b"<message><odd:x/></message>",
            b"<message odd:x='1'/>",
            b"<message stream:x='1'/>",
            b"<message><db:x/></message>",
            b"<message><y db:x='1'/></message>",
        ],
    );
    refused(Rule::H3, Why::InvalidNamespace, &[b"<odd:x/>", b"<db:result><odd:x/></db:result>"]);
}

// H4: "All tag rules apply to the header tag".
#[test]
fn h4_tag_rules_in_the_header() {
    for (rule, tail) in [
        (Rule::T2, "a='<'>"),
        (Rule::T4, "a=1>"),
        (Rule::T5, "a='1' a='2'>"),
        (Rule::T7, "/ >"),
        (Rule::N1, "p:a='1'>"),
        (Rule::N2, "xmlns:xmlns='urn:x'>"),
        (Rule::R1, "a='&#0;'>"),
        (Rule::T1, ">< "),
    ] {
        let seen = read(format!("<stream:stream {NS} {tail}").as_bytes());
        assert_eq!(violation(&seen).rule, rule, "{tail}");
    }
    refused_stream(Rule::N1, Why::NotWellFormed, &[b"<stream:stream xmlns='jabber:server'>"]);
}

// RFC 6120 4.7: the values of the header, decoded; old servers leave out most of them.
#[test]
fn header_values_are_decoded() {
    let header =
        |attributes: &str| match read(format!("<stream:stream {NS} {attributes}>").as_bytes()).remove(0) {
            Token::Header(header) => header,
            other => panic!("{other:?}"),
        };
    let full = header(
        "from='a&amp;b' to='c\td' id='' version='01.10' xml:lang='en' xmlns:dial='jabber:server:dialback' p:to='x' xmlns:p='u'",
    );
    assert_eq!(full.from.as_deref(), Some("a&b"));
    assert_eq!(full.to.as_deref(), Some("c d"));
    assert_eq!(full.id.as_deref(), Some(""));
    assert_eq!(full.version, Some((1, 10)));
    assert_eq!(full.lang.as_deref(), Some("en"));
    assert!(full.dialback);
    let bare = header("");
    assert_eq!((bare.from.clone(), bare.to.clone(), bare.id.clone(), bare.version), (None, None, None, None));
    assert!(!bare.dialback);
    assert_eq!(header("version='99999999999.0'").version, Some((u32::MAX, 0)));
    for odd in ["1", "1.", ".0", "a.b", "1.0.0", "+1.0", ""] {
        assert_eq!(header(&format!("version='{odd}'")).version, Some((0, 0)), "{odd}");
    }
    // What we write is what we read.
    for header in [full, bare] {
        assert_eq!(read(&header.write_open()), [Token::Header(header)]);
    }
}

// -- tags and names --------------------------------------------------------------------------------------------------

// XML-07.
#[test]
fn t1_what_follows_an_angle() {
    kept(&["<_a/>", "<message></message>"]);
    refused(
        Rule::T1,
        Why::NotWellFormed,
        &[
            b"< message/>",
            b"<1/>",
            b"<>",
            b"<-a/>",
            b"<.a/>",
            b"<&",
            b"<message><\n/></message>",
            b"<<message/>",
            b"<=",
        ],
    );
}

#[test]
fn t2_no_angle_inside_a_tag() {
    kept(&["<message id='&lt;'/>"]);
    rewritten(&[("<message id='>' to=\"a>b\"/>", "<message id='&gt;' to='a&gt;b'/>")]);
    refused(
        Rule::T2,
        Why::NotWellFormed,
        &[b"<message id='<'/>", b"<message id=\"a<", b"<message <", b"<message<b>"],
    );
}

#[test]
fn t3_names() {
    kept(&["<A_b-c.9/>", "<message><p:x-1 xmlns:p='u' p:_='1'/></message>"]);
    refused(
        Rule::T3,
        Why::NotWellFormed,
        &[
            b"<:a/>",
            b"<a:/>",
            b"<a:b:c xmlns:a='u'/>",
            b"<a:1 xmlns:a='u'/>",
            b"<message 1='1'/>",
            b"<message xmlns:='u'/>",
            b"<message :a='u'/>",
            b"<message ='u'/>",
            b"<message a:b:c='u'/>",
        ],
    );
    // XML editions disagree about names outside ASCII: they are not passed on, and end no stream that others share.
    refused(Rule::T3, Why::XmlBudget, &["<m\u{e9}/>".as_bytes()]);
    only_refused(
        Rule::T3,
        Why::XmlBudget,
        Why::NameBeyondAscii,
        &[
            "<message><\u{e9}/></message>".as_bytes(),
            "<message \u{e9}='1'/>".as_bytes(),
            "<message><a b\u{e9}='1'><c/></a ></message>".as_bytes(),
        ],
    );
    refused(Rule::T4, Why::NotWellFormed, &[b"<a&b/>", b"<a'b'/>", b"<a=b/>", b"<a;b/>"]);
}

#[test]
fn t4_attributes() {
    kept(&["<message a='1' b=\"2\"/>", "<message a=''></message>"]);
    rewritten(&[
        ("<message  a='1'/>", "<message a='1'/>"),
        ("<message a='1' />", "<message a='1'/>"),
        ("<message\na\t=\r'1'\n>x</message >", "<message a='1'>x</message>"),
        ("<message a=\"it's\"/>", "<message a='it&apos;s'/>"),
        ("<message a='\"'/>", "<message a='&quot;'/>"),
    ]);
    refused(
        Rule::T4,
        Why::NotWellFormed,
        &[
            b"<message a='1'b='2'/>",
            b"<message a b='2'/>",
            b"<message a=1/>",
            b"<message a></message>",
            b"<message a=/>",
            b"<message a=='1'/>",
            b"<message a='1'=''/>",
        ],
    );
}

#[test]
fn t5_no_attribute_twice() {
    kept(&[
        "<message a='1' A='2' xml:lang='x' lang='y'/>",
        "<x xmlns:p='u' xmlns:q='v' p:a='1' q:a='2' a='3'/>",
        "<x xmlns='u' xmlns:p='u' p:a='1' a='2'/>",
        "<x xmlns:a='u' a='1'/>",
    ]);
    refused(
        Rule::T5,
        Why::NotWellFormed,
        &[
            b"<message a='1' a='1'/>",
            b"<message to='a' from='b' id='c' to='d'/>",
            b"<x xmlns:p='u' xmlns:q='u' p:a='1' q:a='2'/>",
            b"<x p:a='1' q:a='2' xmlns:p='u&amp;' xmlns:q='u&#38;'/>",
            b"<x xmlns:p='u' xmlns:p='v'/>",
            b"<x xmlns='u' xmlns='u'/>",
            b"<message xml:lang='a' xml:lang='b'/>",
            // One prefix of the header and one of the element.
            b"<db:result xmlns:x='jabber:server:dialback' from='a' to='b' db:k='1' x:k='2'>key</db:result>",
            b"<db:result xmlns:db='jabber:server:dialback' xmlns:x='jabber:server:dialback' db:k='1' x:k='2'/>",
        ],
    );
}

#[test]
fn t6_end_tags() {
    rewritten(&[("<message></message \t\r\n>", "<message></message>")]);
    refused(
        Rule::T6,
        Why::NotWellFormed,
        &[
            b"<message></presence>",
            b"<message></messages>",
            b"<message></mess>",
            b"<message></ message>",
            b"<message></message a='1'>",
            b"<message></message/>",
            b"<message><a></message>",
            b"<message></>",
            b"<a:x xmlns:a='u' xmlns:b='u'></b:x>",
            b"<message></stream:stream>",
            b"</stream>",
            b"</stream:streams>",
        ],
    );
}

#[test]
fn t7_place_of_the_slash() {
    kept(&["<message/>", "<message a='/'/>"]);
    refused(
        Rule::T7,
        Why::NotWellFormed,
        &[
            b"<message / ></message>",
            b"<message//>",
            b"<message /a='1'/>",
            b"<message a='1'/b='2'/>",
            b"<message a/='1'/>",
        ],
    );
}

// -- namespaces ------------------------------------------------------------------------------------------------------

#[test]
fn n1_prefixes_are_declared() {
    kept(&["<p:x p:a='1' xmlns:p='u'><p:y/></p:x>", "<message xml:lang='en'/>"]);
    refused(
        Rule::N1,
        Why::NotWellFormed,
        &[
            b"<p:x/>",
            b"<message p:a='1'/>",
            b"<message><p:x xmlns:p='u'/><p:y/></message>",
            b"<message><x xmlns:p='u'></x><y p:a=''/></message>",
        ],
    );
}

// N2, XML-08: "rebinding xml/xmlns, xmlns:p=''".
#[test]
fn n2_reserved_prefixes() {
    kept(&[
        "<message xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
        "<message><x xmlns=''/></message>",
    ]);
    refused(
        Rule::N2,
        Why::NotWellFormed,
        &[
            b"<message xmlns:xml='urn:x'/>",
            b"<message xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            b"<message xmlns='http://www.w3.org/XML/1998/namespace'/>",
            b"<message xmlns:p='http://www.w3.org/2000/xmlns/'/>",
            b"<message xmlns='http://www.w3.org/2000/xmlns/'/>",
            b"<message xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>",
            b"<message xmlns:xmlns='urn:x'/>",
            b"<message xmlns:p=''/>",
            b"<xmlns:x/>",
            b"<message xmlns:p='http://www.w3.org/XML/1998/n&#97;mespace'/>",
        ],
    );
}

// N3: decoded before any comparison, then octet by octet.
#[test]
fn n3_namespace_names_are_decoded() {
    assert_eq!(frame("<message xmlns='jabber:s&#x65;rver'/>").head().kind(), Kind::Message);
    assert_eq!(frame("<message xmlns='jabber:Server'/>").head().kind(), Kind::Other);
    assert_eq!(frame("<message xmlns='jabber:server/'/>").head().kind(), Kind::Other);
    assert_eq!(frame("<x xmlns='a&amp;b'/>").head().namespace(), "a&b");
    only_refused(
        Rule::S3,
        Why::InvalidXml,
        Why::StreamsElement,
        &[b"<message><x xmlns='http://etherx.jabber.org/stream&#115;'/></message>"],
    );
}

// N4, XML-08: "namespace names containing whitespace or control characters" are not well-formed for us.
#[test]
fn n4_characters_of_namespace_names() {
    kept(&["<x xmlns='!#$%&amp;()*+,-./09:;=?@AZ[]_az~'/>", "<x xmlns='&apos;'/>"]);
    for c in ["&quot;", "&lt;", "&gt;", "\\", "^", "`", "{", "|", "}", "\u{e9}", "\u{feff}", "&#x20AC;"] {
        refused(Rule::N4, Why::XmlBudget, &[format!("<x xmlns='a{c}b'/>").as_bytes()]);
        let inside = format!("<message><x xmlns='a{c}b'/></message>");
        only_refused(Rule::N4, Why::XmlBudget, Why::NamespaceUnfit, &[inside.as_bytes()]);
    }
    for c in [" ", "\t", "\n", "&#x20;", "&#x9;", "\u{7f}", "\u{85}"] {
        refused(Rule::N4, Why::NotWellFormed, &[format!("<x xmlns:p='{c}b'/>").as_bytes()]);
    }
}

// N5, XML-10: "A stanza or its content-namespace child written with a prefix MUST NOT be forwarded in that form".
#[test]
fn n5_no_prefix_in_the_content_namespace() {
    kept(&[
        "<message><c:message xmlns:c='jabber:client'/></message>",
        "<message xmlns='jabber:server'><body/></message>",
    ]);
    only_refused(
        Rule::N5,
        Why::BadNamespacePrefix,
        Why::PrefixedContent,
        &[
            b"<s:message xmlns:s='jabber:server'/>",
            b"<message xmlns:s='jabber:server'><s:body/></message>",
            b"<message><x xmlns='u'><s:body xmlns:s='jabber:server'/></x></message>",
        ],
    );
}

// N6: `from`, `to`, `type`, `id` are the unprefixed ones, and only those.
#[test]
fn n6_unprefixed_attributes_only() {
    let frame = frame("<message xmlns:p='jabber:server' p:from='a' p:to='b' p:id='c' p:type='d' to='e'/>");
    let head = frame.head();
    assert_eq!((head.from(), head.to().as_deref(), head.id(), head.type_()), (None, Some("e"), None, None));
}

// -- references and text ---------------------------------------------------------------------------------------------

#[test]
fn r1_references() {
    kept(&["<message a='&lt;&gt;&amp;&apos;&quot;&#9;&#10;&#13;'>&lt;&gt;&amp;&apos;&quot;&#13;</message>"]);
    rewritten(&[
        (
            "<message>&#65;&#x1F600;&#x00000000000000000000000000000041;</message>",
            "<message>A\u{1f600}A</message>",
        ),
        ("<message>&#x9;&#10;&#xD;&#60;&#x3c;&#38;</message>", "<message>\t\n&#13;&lt;&lt;&amp;</message>"),
        ("<message a='&#x9;&#xA;&#x0D;&#34;&#32;'/>", "<message a='&#9;&#10;&#13;&quot; '/>"),
        ("<message a='&#09;&#010;'/>", "<message a='&#9;&#10;'/>"),
    ]);
    for bad in [
        "&",
        "&;",
        "&amp",
        "& amp;",
        "&amp ;",
        "&#;",
        "&#x;",
        "&#X41;",
        "&#+65;",
        "&#-65;",
        "&# 65;",
        "&#x 41;",
        "&#6_5;",
        "&#x4G;",
        "&#0;",
        "&#1;",
        "&#x1F;",
        "&#xD800;",
        "&#xFFFE;",
        "&#xFFFF;",
        "&#x110000;",
        "&#99999999999;",
        "&#4294967361;",
        "&1;",
        "&a:;",
        "&&amp;",
    ] {
        refused(Rule::R1, Why::NotWellFormed, &[format!("<message>{bad}</message>").as_bytes()]);
        refused(Rule::R1, Why::NotWellFormed, &[format!("<message a='{bad}'/>").as_bytes()]);
    }
    let long = format!("<message>&#x{}41;</message>", "0".repeat(31));
    refused(Rule::R1, Why::XmlBudget, &[long.as_bytes()]);
}

// R2, XML-05. `&nbsp;` must stay unknown: a build with quick-xml's `escape-html` would resolve it.
#[test]
fn r2_only_the_five_entities() {
    for name in ["nbsp", "LT", "Amp", "x", "lol9", "a.b-c"] {
        refused(Rule::R2, Why::RestrictedXml, &[format!("<message>&{name};</message>").as_bytes()]);
        refused(Rule::R2, Why::RestrictedXml, &[format!("<message a='&{name};'/>").as_bytes()]);
    }
}

#[test]
fn r3_references_are_resolved_once() {
    kept(&["<message to='&amp;lt;'>&amp;#60;</message>"]);
    assert_eq!(frame("<message to='&amp;lt;'/>").head().to().as_deref(), Some("&lt;"));
    rewritten(&[("<message>&#38;lt;&#60;iq/></message>", "<message>&amp;lt;&lt;iq/&gt;</message>")]);
}

#[test]
fn r4_line_ends_and_white_space() {
    rewritten(&[
        ("<message a='\t\n\r\r\nx'>\r\r\n\n</message>", "<message a='    x'>\n\n\n</message>"),
        ("<message a='\r&#xA;'>\r&#xA;</message>", "<message a=' &#10;'>\n\n</message>"),
        ("<message><![CDATA[\r\r\n]]>\n</message>", "<message>\n\n\n</message>"),
    ]);
    assert_eq!(frame("<message to='a\r\nb&#xA;c'/>").head().to().as_deref(), Some("a b\nc"));
}

#[test]
fn r5_no_section_end_in_text() {
    kept(&["<message a=']]&gt;'>]]&gt; ]] ]</message>"]);
    rewritten(&[("<message a=']]>'>]]&gt;></message>", "<message a=']]&gt;'>]]&gt;&gt;</message>")]);
    refused(Rule::R5, Why::NotWellFormed, &[b"<message>]]></message>", b"<message><a>x]]]></a></message>"]);
}

// R6, XML-06: "CDATA sections are legal input and are re-emitted as escaped text".
#[test]
fn r6_cdata() {
    rewritten(&[
        (
            "<message><![CDATA[<iq/>&amp;&nbsp;]]></message>",
            "<message>&lt;iq/&gt;&amp;amp;&amp;nbsp;</message>",
        ),
        ("<message><![CDATA[]]></message>", "<message></message>"),
        ("<message>]]<![CDATA[>]]]]><![CDATA[>]]></message>", "<message>]]&gt;]]&gt;</message>"),
        ("<db:result><![CDATA[]>]]>x</db:result>", "<db:result>]&gt;x</db:result>"),
    ]);
    refused(
        Rule::X1,
        Why::RestrictedXml,
        &[b"<message><![cdata[x]]></message>", b"<message><![CDATA [", b"<message><![ CDATA["],
    );
    refused(Rule::S1, Why::BadFormat, &[b"<![CDATA[ ]]>", b"<![CDATA["]);
}

// -- restricted constructs, stream level -----------------------------------------------------------------------------

// X1, XML-05: told "at the first bytes that decide it".
#[test]
fn x1_restricted_constructs() {
    refused(
        Rule::X1,
        Why::RestrictedXml,
        &[
            b"<!-",
            b"<!D",
            b"<!d",
            b"<?",
            b"<?xml version='1.0'?>",
            b"<message><!-- -->",
            b"<message><?x?></message>",
            b"<!E",
            b"<message><!DOCTYPE x [<!ENTITY a 'b'>]>",
            b"<![I",
            b"<!>",
        ],
    );
}

// S1, XML-14: "Between first-level elements only whitespace is allowed; it is consumed, never forwarded".
#[test]
fn s1_white_space_between_elements() {
    let seen = in_stream(b" \t\r\n <iq/>\n<iq/> ");
    let kinds: Vec<_> = seen.iter().map(|t| matches!(t, Token::Keepalive)).collect();
    assert_eq!(kinds, [true, false, true, false, true]);
    refused(
        Rule::S1,
        Why::BadFormat,
        &[b"x", b"&amp;", b"&#x20;", b">", "\u{a0}".as_bytes(), "\u{2028}".as_bytes(), b"]]>"],
    );
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(OPEN.as_bytes());
    framer.feed(&[b' '; 5000]);
    assert_eq!(tokens(&mut framer).len(), 2);
    assert!(framer.is_empty());
}

// S2: whether an element has a place in the state at hand is for `stream`; what it is must be told rightly.
#[test]
fn s2_kinds() {
    for (body, kind) in [
        ("<iq/>", Kind::Iq),
        ("<message/>", Kind::Message),
        ("<presence/>", Kind::Presence),
        ("<message xmlns='jabber:client'/>", Kind::Other),
        ("<message xmlns=''/>", Kind::Other),
        ("<Message/>", Kind::Other),
        ("<db:message/>", Kind::Other),
        ("<stream:features/>", Kind::Other),
        ("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", Kind::Other),
    ] {
        assert_eq!(frame(body).head().kind(), kind, "{body}");
    }
}

// S3, XML-09: "An element in the streams namespace below depth 1 MUST be refused".
#[test]
fn s3_no_stream_elements_inside() {
    kept(&[
        "<stream:features><x xmlns='u'/></stream:features>",
        "<stream:error/>",
        "<stream xmlns='u'>x</stream>",
    ]);
    only_refused(
        Rule::S3,
        Why::InvalidXml,
        Why::StreamsElement,
        &[
            b"<message><stream:error/></message>",
            b"<message><a><stream:stream/></a></message>",
            b"<message><features xmlns='http://etherx.jabber.org/streams'/></message>",
        ],
    );
    refused(Rule::S3, Why::InvalidXml, &[b"<stream:features><stream:x/></stream:features>"]);
    refused(
        Rule::S3,
        Why::UnsupportedStanzaType,
        &[
            b"<stream:stream>",
            b"<stream:stream/>",
            b"<stream xmlns='http://etherx.jabber.org/streams'>",
            b"<s:stream xmlns:s='http://etherx.jabber.org/streams' version='1.0'>",
        ],
    );
}

#[test]
fn s4_end_of_the_stream() {
    for end in ["</stream:stream>", "</stream:stream \n>"] {
        let mut framer = Framer::new(Limits::default(), Content::Server);
        framer.feed(format!("{OPEN}<iq/>{end}<iq/>garbage<").as_bytes());
        let seen = tokens(&mut framer);
        assert!(matches!(seen.as_slice(), [Token::Header(_), Token::Element(_), Token::End]), "{seen:?}");
        framer.feed(b"<iq/>");
        assert_eq!(framer.next(), None);
        assert!(framer.is_empty());
    }
    let seen = read(format!("<stream:stream {NS}/><iq/>").as_bytes());
    assert!(matches!(seen.as_slice(), [Token::Header(_), Token::End]), "{seen:?}");
}

// S5, STR-14: "we start a new parser with no inherited namespaces, buffers or attributes".
#[test]
fn s5_restart() {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(OPEN.as_bytes());
    framer.feed(b"<auth/><iq>");
    assert!(matches!(tokens(&mut framer).as_slice(), [Token::Header(_), Token::Element(_)]));
    assert!(!framer.is_empty() && framer.is_mid_element());
    assert_eq!(framer.buffered(), 4);
    framer.restart();
    assert!(framer.is_empty() && !framer.is_mid_element());
    framer.feed(format!("<?xml version='1.0'?><stream:stream {NS}>").as_bytes());
    assert!(matches!(tokens(&mut framer).as_slice(), [Token::Header(_)]));
    assert!(framer.is_empty());
    framer.feed(b"<db:result/>");
    assert_eq!(violation(&tokens(&mut framer)).rule, Rule::N1);
}

// -- after an error --------------------------------------------------------------------------------------------------

#[test]
fn p1_the_first_breach_is_final() {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(format!("{OPEN}<iq/><message><a></b><iq/>").as_bytes());
    let seen = tokens(&mut framer);
    assert!(
        matches!(seen.as_slice(), [Token::Header(_), Token::Element(_), Token::Violation(_)]),
        "{seen:?}"
    );
    framer.feed(b"<iq/>");
    framer.feed(OPEN.as_bytes());
    assert_eq!(framer.next(), None);
    assert!(framer.is_empty() && framer.buffered() == 0 && !framer.is_mid_element());
}

// XML-13.
#[test]
fn p3_nothing_of_an_unfinished_element_passes() {
    for body in [
        "<",
        "<message",
        "<message>",
        "<message a='",
        "<message><![CDATA[<iq/>",
        "<message><body>x</body></messag",
    ] {
        assert_eq!(in_stream(body.as_bytes()), [], "{body}");
    }
}

// XML-01 to XML-11: the rules by their own names.
#[test]
fn every_rule_has_a_row() {
    let rows = concat!(include_str!("framing.rs"), include_str!("framing/refused.rs"));
    // Those of messages are in `src/xml/messages_tests.rs` and `tests/sockets/websocket.rs`.
    let messages = |r: &Rule| matches!(r, Rule::M1 | Rule::M2 | Rule::M3);
    for rule in Rule::ALL.iter().filter(|r| !messages(r) && !matches!(r, Rule::Disagreement | Rule::Readers))
    {
        assert!(rows.contains(&format!("Rule::{rule:?}")), "no row for {}", rule.id());
    }
}

// -- budgets (XML-16, LIM-01; requirements 0.2) ----------------------------------------------------------------------

/// The budget lets `fits` pass and refuses `breaks`: alone on a proven stream, with the end of one that is not.
fn budget(limits: &Limits, rule: Rule, why: Why, fits: &str, breaks: &str) {
    budget_under(&Limits { skip: 0, ..limits.clone() }, rule, why, fits, breaks);
    if limits.skip > 0 {
        budget_under(limits, rule, why, fits, breaks);
    }
}

fn budget_under(limits: &Limits, rule: Rule, why: Why, fits: &str, breaks: &str) {
    let read = |body: &str| {
        let framed = [OPEN.as_bytes(), body.as_bytes()].concat();
        let whole = read_with(limits.clone(), &framed);
        let mut framer = Framer::new(limits.clone(), Content::Server);
        let mut seen = Vec::new();
        for octet in framed {
            framer.feed(&[octet]);
            seen.extend(tokens(&mut framer));
            assert!(framer.buffered() <= limits.element.max(limits.header) + 1, "bounded");
        }
        assert!(seen == whole, "octet by octet");
        whole
    };
    let seen = read(fits);
    assert!(matches!(seen.as_slice(), [Token::Header(_), Token::Element(_)]), "{rule:?}: {:?}", seen.last());
    let seen = read(breaks);
    let stanza = ["<iq", "<message"].iter().any(|begin| breaks.starts_with(begin));
    match seen.last() {
        Some(Token::Refused(refused)) if limits.skip > 0 && stanza => {
            assert_eq!((refused.why().rule(), refused.octets()), (rule, breaks.len()));
            let (most, found) = refused.why().measure().unwrap();
            assert_eq!(found, most + 1, "{rule:?}");
        }
        _ => {
            let found = violation(&seen);
            assert_eq!((found.rule, found.reason()), (rule, why));
            assert!(limits.skip == 0 || !stanza);
        }
    }
}

#[test]
fn budget_of_an_element() {
    let stanza = |len: usize| format!("<message>{}</message>", "x".repeat(len - 19));
    for limits in [Limits::default(), Limits::before_proof()] {
        let most = limits.element;
        budget(&limits, Rule::ElementSize, Why::StanzaTooBig, &stanza(most), &stanza(most + 1));
    }
    assert_eq!((Limits::before_proof().element, Limits::default().element), (16_384, 262_144));
    // Told at the limit, in a tag, a value, a name and a section alike, without a further octet.
    let limits = Limits { element: 100, skip: 0, ..Limits::default() };
    for begin in ["<message>", "<message a='", "<message ", "<", "<message><![CDATA["] {
        let body = format!("{begin}{}", "x".repeat(100 - begin.len()));
        let seen = read_with(limits.clone(), format!("{OPEN}{body}").as_bytes());
        assert_eq!(violation(&seen).rule, Rule::ElementSize, "{begin}");
        let seen = read_with(limits.clone(), format!("{OPEN}{}", &body[..99]).as_bytes());
        assert_eq!(seen.len(), 1, "{begin}");
    }
}

#[test]
fn budget_of_the_header() {
    let declaration = "<?xml version='1.0'?>";
    let header = |len: usize| {
        let rest = format!("<stream:stream {NS} a=''>");
        format!("{declaration}<stream:stream {NS} a='{}'>", "x".repeat(len - declaration.len() - rest.len()))
    };
    let fits = read_with(Limits::default(), header(4096).as_bytes());
    assert!(matches!(fits.as_slice(), [Token::Header(_)]));
    let found = violation(&read_with(Limits::default(), header(4097).as_bytes()));
    assert_eq!((found.rule, found.reason()), (Rule::HeaderSize, Why::XmlBudget));
}

#[test]
fn budget_of_depth() {
    let nest = |depth: usize| format!("<iq>{}<x/>{}</iq>", "<a>".repeat(depth - 2), "</a>".repeat(depth - 2));
    budget(&Limits::default(), Rule::Depth, Why::XmlBudget, &nest(64), &nest(65));
}

#[test]
fn budget_of_nodes() {
    let wide = |nodes: usize| format!("<iq>{}</iq>", "<a/>".repeat(nodes - 1));
    budget(&Limits::default(), Rule::Nodes, Why::XmlBudget, &wide(8192), &wide(8193));
}

#[test]
fn budget_of_attributes() {
    let with = |count: usize| format!("<iq{}/>", (0..count).map(|i| format!(" a{i}=''")).collect::<String>());
    budget(&Limits::default(), Rule::Attributes, Why::XmlBudget, &with(64), &with(65));
}

#[test]
fn budget_of_declarations() {
    let with =
        |count: usize| format!("<iq{}/>", (0..count).map(|i| format!(" xmlns:a{i}='u'")).collect::<String>());
    budget(&Limits::default(), Rule::Declarations, Why::XmlBudget, &with(32), &with(33));
}

#[test]
fn budget_of_bindings() {
    let level =
        |i: usize| format!("<a{}>", (0..32).map(|j| format!(" xmlns:p{i}-{j}='u{j}'")).collect::<String>());
    let levels: String = (0..4).map(level).collect();
    let fits = format!("<iq>{levels}<x/><x/>{}</iq>", "</a>".repeat(4));
    let breaks = format!("<iq>{levels}<x xmlns='u'/>{}</iq>", "</a>".repeat(4));
    budget(&Limits::default(), Rule::Bindings, Why::XmlBudget, &fits, &breaks);
}

#[test]
fn budget_of_names_values_and_namespaces() {
    let limits = Limits::default();
    let name = |len: usize| format!("<{}/>", "n".repeat(len));
    budget(&limits, Rule::NameLength, Why::XmlBudget, &name(256), &name(257));
    let name = |len: usize| format!("<iq><{}/></iq>", "n".repeat(len));
    budget(&limits, Rule::NameLength, Why::XmlBudget, &name(256), &name(257));
    let name = |len: usize| format!("<iq {}=''/>", "n".repeat(len));
    budget(&limits, Rule::NameLength, Why::XmlBudget, &name(256), &name(257));
    let value = |len: usize| format!("<iq id='{}'/>", "v".repeat(len));
    budget(&limits, Rule::ValueLength, Why::XmlBudget, &value(8192), &value(8193));
    let namespace = |len: usize| format!("<x xmlns='{}'/>", "u".repeat(len));
    budget(&limits, Rule::NamespaceLength, Why::XmlBudget, &namespace(1024), &namespace(1025));
    let namespace = |len: usize| format!("<iq><x xmlns='{}'/></iq>", "u".repeat(len));
    budget(&limits, Rule::NamespaceLength, Why::XmlBudget, &namespace(1024), &namespace(1025));
}

#[test]
fn budgets_can_grow_after_proof() {
    let mut framer = Framer::new(Limits::before_proof(), Content::Server);
    framer.feed(OPEN.as_bytes());
    framer.next();
    framer.set_limits(Limits::default());
    framer.feed(format!("<message>{}</message>", "x".repeat(20_000)).as_bytes());
    assert!(matches!(framer.next(), Some(Token::Element(_))));
}

// -- head, tree, rewriting -------------------------------------------------------------------------------------------

#[test]
fn head_tells_what_is_there() {
    for spaced in ["", " "] {
        let body = format!(
            "<message from='a&amp;b'{spaced} to=\"c\" id='' type='chat' xml:lang='de'>\
             <body>x</body><s:id xmlns:s='urn:xmpp:sid:0' by='m&lt;e' from='f' s:by='y'><a/></s:id> <x xmlns=''/></message>"
        );
        let frame = frame(&body);
        let head = frame.head();
        assert_eq!(frame.passed_as_received(), spaced.is_empty());
        assert_eq!((head.name(), head.namespace(), head.kind()), ("message", "jabber:server", Kind::Message));
        assert_eq!(head.from().as_deref(), Some("a&b"));
        assert_eq!(head.to().as_deref(), Some("c"));
        assert_eq!(head.id().as_deref(), Some(""));
        assert_eq!(head.type_().as_deref(), Some("chat"));
        assert_eq!(head.lang().as_deref(), Some("de"));
        let children: Vec<_> = head.children().map(|c| (c.name(), c.namespace())).collect();
        assert_eq!(children, [("body", "jabber:server"), ("id", "urn:xmpp:sid:0"), ("x", "")]);
        let text: Vec<_> =
            head.children().map(|c| std::str::from_utf8(&frame.octets()[c.range()]).unwrap()).collect();
        let id = "<s:id xmlns:s='urn:xmpp:sid:0' by='m&lt;e' from='f' s:by='y'><a/></s:id>";
        assert_eq!(text, ["<body>x</body>", id, "<x xmlns=''/>"]);
        let id = head.children().nth(1).unwrap();
        assert_eq!((id.by().as_deref(), id.from().as_deref()), (Some("m<e"), Some("f")));
    }
}

// N2: no declaration binds the namespace of `xml` anew.
#[test]
fn what_is_written_anew_keeps_the_prefix_xml() {
    let odd = "<x xmlns='u'><xml:lang xml:lang='de'><y/></xml:lang></x>";
    let written = frame(odd).tree().write();
    assert_eq!(written, odd);
    assert_eq!(frame("<xml:lang/>").tree().write(), "<xml:lang/>");
}

#[test]
fn trees_resolve_header_prefixes() {
    let tree = frame("<db:result from='a' to='b'>k&amp;<![CDATA[e]]>y</db:result>").tree();
    assert_eq!((tree.namespace.as_str(), tree.name.as_str()), ("jabber:server:dialback", "result"));
    assert_eq!((tree.attr("from"), tree.attr("id"), &*tree.text()), (Some("a"), None, "k&ey"));
    let features = frame(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>\
         <p:x xmlns:p='u' p:a='1'/></stream:features>",
    );
    assert!(features.is("http://etherx.jabber.org/streams", "features"));
    let tree = features.tree();
    let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
    let mechanisms = tree.child(sasl, "mechanisms").unwrap();
    assert_eq!(mechanisms.child(sasl, "mechanism").unwrap().text(), "EXTERNAL");
    assert_eq!(tree.child("u", "x").unwrap().attrs, [(Some(Atom::new("u")), Atom::new("a"), "1".to_owned())]);
    assert_eq!(tree.elements().count(), 2);
    // DB-01: whatever the prefix.
    let odd = format!("<stream:stream {NS} xmlns:d='jabber:server:dialback'><d:verify id='1'/>");
    match read(odd.as_bytes()).as_slice() {
        [Token::Header(header), Token::Element(frame)] => {
            assert!(header.dialback && frame.is("jabber:server:dialback", "verify"));
            assert_eq!(frame.tree().namespace, "jabber:server:dialback");
        }
        other => panic!("{other:?}"),
    }
}

// XML-11: "it MUST be produced from what was parsed"; prefixes, declarations and order stay.
#[test]
fn canonical_form_keeps_prefixes_and_order() {
    rewritten(&[(
        "<message z='1'  a='2'><p:x  xmlns:p=\"u\" p:b='1' xmlns='v'><y/></p:x></message>",
        "<message z='1' a='2'><p:x xmlns:p='u' p:b='1' xmlns='v'><y/></p:x></message>",
    )]);
    // All before the first token that is not canonical is kept, all after it is written beside.
    rewritten(&[(
        "<message a=\"1\"><b c=\"2\">t</b><d >&#65;</d ><e f=\"3\"/>&amp;</message>",
        "<message a=\"1\"><b c=\"2\">t</b><d>A</d><e f=\"3\"/>&amp;</message>",
    )]);
}

#[test]
fn rewriting_changes_what_it_is_told_to() {
    let text = |frame: &Frame, edits: &Edits| String::from_utf8(rewrite(frame, edits).to_vec()).unwrap();
    let plain = frame("<message from='a' xmlns:p='u' p:to='x' to=\"b\"><x/>t<y>z</y><x/></message>");
    assert_eq!(text(&plain, &Edits::default()).as_bytes(), plain.octets());
    let edits = Edits {
        from: Some("<'&\"\n".to_owned()),
        to: Some("c".to_owned()),
        lang: Some("en".to_owned()),
        remove_from: false,
        cut: vec![2, 0],
    };
    assert_eq!(
        text(&plain, &edits),
        "<message from='&lt;&apos;&amp;&quot;&#10;' xmlns:p='u' p:to='x' to='c' xml:lang='en'>t<y>z</y></message>"
    );
    let edits = Edits { remove_from: true, cut: vec![1, 1, 99], ..Edits::default() };
    assert_eq!(text(&plain, &edits), "<message xmlns:p='u' p:to='x' to=\"b\"><x/>t<x/></message>");
    let empty = frame("<presence  xml:lang='a'/>");
    let edits = Edits { lang: Some("b".to_owned()), from: Some("f".to_owned()), ..Edits::default() };
    assert_eq!(text(&empty, &edits), "<presence xml:lang='b' from='f'/>");
    let edits = Edits { cut: vec![0], ..Edits::default() };
    assert_eq!(text(&frame("<iq><q><![CDATA[x]]></q></iq>"), &edits), "<iq></iq>");
}

#[test]
fn a_violation_names_its_rule() {
    let found = violation(&in_stream(b"<message><!--"));
    assert_eq!(found.to_string(), "restricted-xml (X1)");
}
