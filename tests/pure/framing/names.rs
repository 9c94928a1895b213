//! Tags, names, attributes and namespaces.

use super::*;

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
