//! References and text, what XML has and a stream may not, and what comes after an error.

use super::*;

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
