//! Octets, and the header of a stream.

use super::*;

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

// H4, XML-17: "a stanza that may not pass is refused alone". A header is none, whatever its name: what of a stanza would be refused alone ends
// the stream here, after a restart too, where the larger budgets hold.
#[test]
fn h4_what_is_refused_of_a_stanza_ends_the_stream_in_its_header() {
    let many = |make: &dyn Fn(usize) -> String, count| (0..count).map(make).collect::<String>();
    let wrong = [
        " xmlns:x='a b'".to_owned(),
        format!(" xmlns:x='{}'", "u".repeat(1025)),
        many(&|nth| format!(" xmlns:a{nth}='u'"), 33),
        many(&|nth| format!(" a{nth}=''"), 65),
        format!(" {}=''", "n".repeat(257)),
        " \u{e9}=''".to_owned(),
        " a='&#x0000000000000000000000000000000000000041;'".to_owned(),
    ];
    for name in ["message", "iq", "presence", "stream:stream"] {
        for attributes in &wrong {
            let begin = format!(
                "<{name} xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'{attributes}>"
            );
            let seen = read(format!("{begin}<message/></{name}>").as_bytes());
            assert!(matches!(seen.as_slice(), [Token::Violation(_)]), "{begin}: {seen:?}");
        }
    }
}
