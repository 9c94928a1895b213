//! What was read, as a head, as a tree, and written anew.

use super::*;

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
