//! XML-17 to XML-19: a stanza that is legal XML and may not pass is read to its end, and ends nothing.

use gatehouse::reason::Reason as Why;
use gatehouse::xml::{Content, Framer, Kind, Limits, RefusedStanza, Rule, Token};

use super::{OPEN, in_stream, tokens, violation};

/// What a body comes to in reads of that size, header left out.
fn in_reads(limits: &Limits, body: &str, size: usize) -> Vec<Token> {
    let mut framer = Framer::new(limits.clone(), Content::Server);
    framer.feed(OPEN.as_bytes());
    assert!(matches!(framer.next(), Some(Token::Header(_))));
    let mut seen = Vec::new();
    for read in body.as_bytes().chunks(size) {
        framer.feed(read);
        assert!(framer.buffered() <= limits.element + read.len(), "bounded");
        seen.extend(tokens(&mut framer));
        assert!(framer.buffered() <= limits.element, "bounded");
    }
    assert!(framer.is_empty() && !framer.is_mid_element());
    seen
}

fn only(seen: &[Token]) -> &RefusedStanza {
    match seen {
        [Token::Refused(refused), Token::Element(next)] => {
            assert_eq!(next.octets(), "<iq id='next'/>", "what follows is read as if nothing had been there");
            refused
        }
        other => panic!("{:?}", other.iter().take(3).collect::<Vec<_>>()),
    }
}

/// Attributes of a start tag that is over a budget by itself, or not: `to` first, last or between.
fn placed(place: usize, others: &str) -> String {
    let (to, rest) =
        (" to='juliet@corp.example'", " from='romeo@friend.example/x' id='7' type='chat' xml:lang='de'");
    match place {
        0 => format!("{to}{rest}{others}"),
        1 => format!("{rest}{to}{others}"),
        _ => format!("{others}{rest}{to}"),
    }
}

fn attributes(count: usize) -> String {
    (0..count).map(|i| format!(" a{i}=''")).collect()
}

fn declarations(count: usize) -> String {
    (0..count).map(|i| format!(" xmlns:a{i}='u'")).collect()
}

type Make = fn(usize, usize) -> String;

/// Each budget: its rule, its name, the limit, and a stanza with so much of it.
const TABLE: &[(Rule, Why, usize, Make)] = &[
    (Rule::ElementSize, Why::OverStanza, 262_144, |n, place| {
        let begin = format!("<message{}><body>", placed(place, ""));
        format!("{begin}{}</body></message>", "x".repeat(n - begin.len() - "</body></message>".len()))
    }),
    (Rule::Depth, Why::OverDepth, 64, |n, place| {
        format!("<message{}>{}{}</message>", placed(place, ""), "<b>".repeat(n - 1), "</b>".repeat(n - 1))
    }),
    (Rule::Nodes, Why::OverNodes, 8192, |n, place| {
        format!("<message{}>{}</message>", placed(place, ""), "<b/>".repeat(n - 1))
    }),
    // On the start tag of the stanza itself, beside the five that are kept; and on another.
    (Rule::Attributes, Why::OverAttrs, 64, |n, place| {
        format!("<message{}/>", placed(place, &attributes(n - 5)))
    }),
    (Rule::Attributes, Why::OverAttrs, 64, |n, place| {
        format!("<message{}><x{}/></message>", placed(place, ""), attributes(n))
    }),
    (Rule::Declarations, Why::OverNsdecl, 32, |n, place| {
        format!("<message{}/>", placed(place, &declarations(n)))
    }),
    (Rule::Declarations, Why::OverNsdecl, 32, |n, place| {
        format!("<message{}><x{}/></message>", placed(place, ""), declarations(n))
    }),
    (Rule::ValueLength, Why::OverAttrValue, 8192, |n, place| {
        format!("<message{}/>", placed(place, &format!(" a='{}'", "v".repeat(n))))
    }),
    (Rule::ValueLength, Why::OverAttrValue, 8192, |n, place| {
        format!("<message{}><img src='{}'/></message>", placed(place, ""), "v".repeat(n))
    }),
    (Rule::NameLength, Why::OverName, 256, |n, place| {
        format!("<message{}/>", placed(place, &format!(" {}=''", "n".repeat(n))))
    }),
    (Rule::NameLength, Why::OverName, 256, |n, place| {
        format!("<message{}><{}/></message>", placed(place, ""), "n".repeat(n))
    }),
    (Rule::NamespaceLength, Why::OverNamespaceName, 1024, |n, place| {
        format!("<message{}><x xmlns='{}'/></message>", placed(place, ""), "u".repeat(n))
    }),
];

// XML-16, XML-17: at the limit it passes; one more, and 10 MB more, and it alone is refused, with all that an answer needs,
// wherever the addresses stand and however it is cut.
#[test]
fn each_budget_refuses_one_stanza_and_nothing_else() {
    for (row, (rule, why, limit, make)) in TABLE.iter().enumerate() {
        for place in 0..3 {
            let seen = in_stream_once(&make(*limit, place));
            assert!(matches!(seen.as_slice(), [Token::Element(_), Token::Element(_)]), "{rule:?} {seen:?}");
            let seen = in_stream_once(&make(limit + 1, place));
            kept(only(&seen), (*rule, *why, *limit, limit + 1));
            // What is beyond costs neither memory nor the stream.
            let most = match rule {
                Rule::Depth => 20_000,
                Rule::Attributes | Rule::Declarations => 700_000,
                Rule::Nodes => 2_600_000,
                _ => 10 << 20,
            };
            if row % 3 != place {
                continue;
            }
            let body = make(limit + most, place) + "<iq id='next'/>";
            let seen = in_reads(&Limits::default(), &body, 16 * 1024);
            match (*rule, seen.as_slice()) {
                // The name of an open element is remembered until its end, so these have a bound of their own.
                (Rule::NameLength, [Token::Violation(found)]) if body.contains("<n") => {
                    assert_eq!(found.rule, Rule::SkipNames);
                }
                _ => {
                    let refused = only(&seen);
                    assert_eq!(refused.octets(), body.len() - "<iq id='next'/>".len());
                    addresses(refused);
                }
            }
        }
    }
}

fn in_stream_once(body: &str) -> Vec<Token> {
    let body = format!("{body}<iq id='next'/>");
    let whole = in_reads(&Limits::default(), &body, usize::MAX);
    let sizes = if body.len() < 20_000 { [1, 7, 4096] } else { [1000, 4096, 70_000] };
    for size in sizes {
        assert!(in_reads(&Limits::default(), &body, size) == whole, "reads of {size}");
    }
    whole
}

fn kept(refused: &RefusedStanza, (rule, why, limit, found): (Rule, Why, usize, usize)) {
    assert_eq!((refused.why().rule(), refused.why().reason()), (rule, why));
    assert_eq!(refused.why().measure(), Some((limit, found)), "{rule:?}");
    addresses(refused);
}

fn addresses(refused: &RefusedStanza) {
    assert_eq!(refused.kind(), Kind::Message);
    assert_eq!(refused.from(), Some("romeo@friend.example/x"));
    assert_eq!(refused.to(), Some("juliet@corp.example"));
    assert_eq!((refused.id(), refused.type_(), refused.lang()), (Some("7"), Some("chat"), Some("de")));
}

fn one(body: &str) -> RefusedStanza {
    // Cut at every place where that is soon done.
    let seen =
        if body.len() < 500 { in_stream(body.as_bytes()) } else { in_reads(&Limits::default(), body, 500) };
    match seen.as_slice() {
        [Token::Refused(refused)] => (**refused).clone(),
        other => panic!("{body}: {other:?}"),
    }
}

const OVER: &str = "<\u{e9}/>";

// XML-17: of the start tag `from`, `to`, `id`, `type`, `xml:lang` are kept, decoded, "each within its limit".
#[test]
fn what_is_kept_of_the_start_tag_is_what_it_means() {
    let refused = one(&format!(
        "<iq to=\"a&amp;b\" from = 'x\ty\r\nz&#10;&#x2764;' p:to='no' xmlns:p='u' lang='no' type='ge&#116;'>{OVER}</iq>"
    ));
    assert_eq!(refused.kind(), Kind::Iq);
    assert_eq!((refused.to(), refused.from()), (Some("a&b"), Some("x y z\n\u{2764}")));
    assert_eq!((refused.type_(), refused.id(), refused.lang()), (Some("get"), None, None));
    for (stanza, kind) in [
        ("presence", Kind::Presence),
        ("presence xmlns='jabber:server'", Kind::Presence),
        ("iq xmlns='jabber:s&#101;rver'", Kind::Iq),
    ] {
        let name = stanza.split(' ').next().unwrap();
        assert_eq!(one(&format!("<{stanza}>{OVER}</{name}>")).kind(), kind);
    }
    assert_eq!(one("<s:message xmlns:s='jabber:server' to='a'></s:message>").kind(), Kind::Message);
    // An id as long as one is repeated; a longer one is left out of the error, and so is what is too long to be a language.
    for (len, kept) in [(1024, true), (1025, false), (9000, false)] {
        let id = "i".repeat(len);
        assert_eq!(one(&format!("<iq id='{id}'>{OVER}</iq>")).id(), kept.then_some(id.as_str()));
    }
    let long = "t".repeat(300);
    let refused = one(&format!("<iq type='{long}' xml:lang='{long}'>{OVER}</iq>"));
    assert!(refused.type_().is_some_and(|type_| type_.len() > 250) && refused.lang().is_none());
}

// XML-17: "one of these five twice, or `from` or `to` over 3,071 octets, is broken".
#[test]
fn addresses_that_say_two_things_or_too_much_are_broken() {
    for twice in ["from", "to", "id", "type", "xml:lang"] {
        let body = format!("<iq {twice}='a'{} {twice}='a'/>", attributes(70));
        let found = violation(&in_reads(&Limits::default(), &body, 1));
        assert_eq!((found.rule, found.reason()), (Rule::T5, Why::NotWellFormed), "{twice}");
    }
    for name in ["from", "to"] {
        let fits = format!("<iq {name}='{}'>{OVER}</iq>", "&amp;".repeat(3071));
        let refused = one_under(&fits);
        let value = if name == "to" { refused.to() } else { refused.from() };
        assert_eq!(value.map(str::len), Some(3071));
        let found = violation(&once(&format!("<iq {name}='{}'>{OVER}</iq>", "a".repeat(3072))));
        assert_eq!((found.rule, found.reason()), (Rule::AddressLength, Why::ImproperAddressing));
    }
    // Any other attribute twice is nobody's address: nothing of the element is used.
    one(&format!("<iq a='1' a='2'{}/>", attributes(70)));
}

fn once(body: &str) -> Vec<Token> {
    let mut framer = Framer::new(Limits { value: 20_000, ..Limits::default() }, Content::Server);
    framer.feed(OPEN.as_bytes());
    framer.feed(body.as_bytes());
    tokens(&mut framer).split_off(1)
}

fn one_under(body: &str) -> RefusedStanza {
    match once(body).as_slice() {
        [Token::Refused(refused)] => (**refused).clone(),
        other => panic!("{other:?}"),
    }
}

// "While skipping, these are checked and end the stream: B1 to B3, T1, T2, T4, T6, T7, R1, R2, X1."
#[test]
fn what_no_stream_may_hold_ends_it_while_skipping_too() {
    let limits = Limits { nodes: 2, ..Limits::default() };
    let table: &[(Rule, Why, &[u8])] = &[
        (Rule::B1, Why::UnsupportedEncoding, b"\xFF"),
        (Rule::B1, Why::UnsupportedEncoding, b"\xC3("),
        (Rule::B1, Why::UnsupportedEncoding, b"\xED\xA0\x80"),
        (Rule::B1, Why::UnsupportedEncoding, b"\xF4\x90\x80\x80"),
        (Rule::B1, Why::UnsupportedEncoding, b"<x a='\xC0\xAF'/>"),
        (Rule::B2, Why::NotWellFormed, b"\x01"),
        (Rule::B2, Why::NotWellFormed, b"\xEF\xBF\xBE"),
        (Rule::B2, Why::NotWellFormed, b"<x a='\0'/>"),
        (Rule::T1, Why::NotWellFormed, b"< x/>"),
        (Rule::T1, Why::NotWellFormed, b"<1/>"),
        (Rule::T2, Why::NotWellFormed, b"<x a='<'/>"),
        (Rule::T2, Why::NotWellFormed, b"<x <"),
        (Rule::T4, Why::NotWellFormed, b"<x a='1'b='2'/>"),
        (Rule::T4, Why::NotWellFormed, b"<x a=1/>"),
        (Rule::T4, Why::NotWellFormed, b"<x a b='1'/>"),
        (Rule::T4, Why::NotWellFormed, b"<x\"y'>"),
        (Rule::T6, Why::NotWellFormed, b"<x></y>"),
        (Rule::T6, Why::NotWellFormed, b"</presence>"),
        (Rule::T6, Why::NotWellFormed, b"<x></x y>"),
        (Rule::T6, Why::NotWellFormed, b"</stream:stream>"),
        (Rule::T7, Why::NotWellFormed, b"<x / >"),
        (Rule::T7, Why::NotWellFormed, b"<x a/='1'>"),
        (Rule::R1, Why::NotWellFormed, b"&#0;"),
        (Rule::R1, Why::NotWellFormed, b"&amp "),
        (Rule::R1, Why::NotWellFormed, b"<x a='&'/>"),
        (Rule::R1, Why::XmlBudget, b"&#00000000000000000000000000000000000000000000065;"),
        (Rule::R2, Why::RestrictedXml, b"&nbsp;"),
        (Rule::R2, Why::RestrictedXml, b"<x a='&nbsp;'/>"),
        (Rule::X1, Why::RestrictedXml, b"<!-- -->"),
        (Rule::X1, Why::RestrictedXml, b"<?x?>"),
        (Rule::X1, Why::RestrictedXml, b"<!DOCTYPE x>"),
    ];
    for (rule, why, inside) in table {
        let body = [b"<message><a/><b/>", *inside, b"</message>"].concat();
        let octets = [OPEN.as_bytes(), &body].concat();
        for size in [1, 2, 3, usize::MAX] {
            let mut framer = Framer::new(limits.clone(), Content::Server);
            let mut seen = Vec::new();
            for read in octets.chunks(size) {
                framer.feed(read);
                seen.extend(tokens(&mut framer));
            }
            let found = violation(&seen);
            let told = String::from_utf8_lossy(inside);
            assert_eq!((found.rule, found.reason(), seen.len()), (*rule, *why, 2), "{told} by {size}");
        }
    }
}

// "These are not, since nothing of the element is used: T3, T5, N1 to N5, budgets." CDATA hides what looks like an end.
#[test]
fn what_only_a_reader_of_the_element_minds_is_not_looked_at() {
    for inside in [
        "<p:x q:a='1'/>",
        "<x a='1' a='2' xmlns:xml='u' xmlns:p=''/>",
        "<x 1='y'><a:b:c/></x>",
        "<x xmlns='a b'/>",
        "<x a=']]>'>]]></x >",
        "<![CDATA[</message><iq/>]]]>]]>",
        "<x a='/>' b=\"</message>\"></x\n>",
    ] {
        // Where `<` stands in a value even a refused element is broken.
        if inside.contains("</message>\"") {
            assert_eq!(
                violation(&in_stream(format!("<message>{OVER}{inside}</message>").as_bytes())).rule,
                Rule::T2
            );
            continue;
        }
        let body = format!("<message to='a'>{}{inside}</message><iq id='next'/>", "<b/>".repeat(3));
        let limits = Limits { nodes: 3, ..Limits::default() };
        for size in [1, 2, 5, usize::MAX] {
            assert_eq!(only(&in_reads(&limits, &body, size)).to(), Some("a"), "{inside}");
        }
    }
}

// L-skip, and the stack of 64 KiB of open names.
#[test]
fn reading_on_has_bounds() {
    let limits = Limits { element: 1000, skip: 5000, ..Limits::default() };
    let stanza = |len: usize| format!("<message>{}</message>", "x".repeat(len - 19));
    let seen = in_reads(&limits, &(stanza(5000) + "<iq id='next'/>"), 64);
    assert_eq!(only(&seen).octets(), 5000);
    let found = violation(&in_reads(&limits, &stanza(5001), 64));
    assert_eq!((found.rule, found.reason()), (Rule::Skip, Why::StanzaTooBig));
    let found = violation(&in_reads(&Limits::default(), &"<message>".repeat(10_000), 4096));
    assert_eq!((found.rule, found.reason()), (Rule::SkipNames, Why::XmlBudget));
    // T-stanza: such an element is unfinished like any other.
    let mut framer = Framer::new(limits, Content::Server);
    framer.feed(format!("{OPEN}{}", &stanza(5000)[..3000]).as_bytes());
    assert_eq!(tokens(&mut framer).len(), 1);
    assert!(framer.is_mid_element() && !framer.is_empty() && framer.buffered() == 0);
    assert_eq!((framer.take_skipped(), framer.take_skipped()), (3000, 0));
    framer.feed(b"xx");
    assert_eq!((framer.next(), framer.take_skipped()), (None, 2));
}

// XML-18, by the letter: "canonical octets; plus, for each element whose namespace is neither its parent's nor declared on it, 9
// and its length; plus, for each prefixed attribute, 25 and the length of its namespace; plus 5 for each raw quote in text".
#[test]
fn the_grown_size_is_counted_by_the_reading_that_judges() {
    let grown = |body: &str| {
        let least = body.len();
        let fits = |most: usize| {
            let seen = super::read_with(
                Limits { grown: most, ..Limits::default() },
                format!("{OPEN}{body}").as_bytes(),
            );
            match &seen[1] {
                Token::Element(_) => true,
                Token::Refused(refused) => {
                    let why = refused.why();
                    assert_eq!((why.rule(), why.reason()), (Rule::Grown, Why::OverGrown));
                    assert!(why.measure().unwrap().1 > most);
                    false
                }
                other => panic!("{other:?}"),
            }
        };
        (least..least + 2000).find(|most| fits(*most)).unwrap() - least
    };
    for (body, more) in [
        ("<message><body>plain</body></message>", 0),
        ("<message a=\"'\"><body>it's \"x\"</body>'</message>", 5 + 4 * 5),
        ("<message><body>&apos;&quot;</body></message>", 0),
        ("<message><x xmlns='urn:x'><y/><z/></x></message>", 0),
        ("<message xmlns:p='urn:x'><p:y/><p:y><p:z/></p:y></message>", 2 * (9 + 5)),
        ("<message><p:y xmlns:p='urn:x'/></message>", 0),
        ("<message xmlns:p='urn:x' p:a='1'><y p:a='' p:b=''/></message>", 3 * (25 + 5)),
        ("<message xml:lang='de'/>", 25 + 36),
        ("<message><x xmlns='urn:x'><y xmlns='jabber:server'/></x></message>", 0),
    ] {
        assert_eq!(grown(body), more, "{body}");
    }
    // What is let in at the default fits into what the server behind may say, with room for a wrapping.
    assert!(Limits::default().grown + (64 << 10) <= Limits::inside().element);
}

// XML-18: "Per element, attributes plus one declaration for each distinct prefix in use are held against L-attrs, and those
// prefixes against L-nsdecl." Seen: 32 + 33 short ones of nested elements become 33 + 33 on one.
#[test]
fn prefixes_in_use_count_as_the_declarations_that_they_become() {
    let outer: String = (0..32).map(|i| format!(" xmlns:p{i}='u{i}'")).collect();
    let inner = |plain: usize, prefixes: usize| {
        let used: String = (0..prefixes).map(|i| format!(" p{i}:a=''")).collect();
        format!("<message><x{outer}><y{}{used}/></x></message>", attributes(plain))
    };
    assert!(matches!(in_stream_once(&inner(0, 32)).as_slice(), [Token::Element(_), ..]));
    let seen = in_stream_once(&inner(1, 32));
    assert_eq!(only(&seen).why().reason(), Why::OverAttrs);
    // `xml` is declared nowhere, and a prefix that is used twice is declared once.
    let lang = |more: &str| {
        format!("<message><x{outer}><y xml:lang='de' p0:a='' p0:b=''{}{more}/></x></message>", attributes(60))
    };
    assert!(matches!(in_stream_once(&lang("")).as_slice(), [Token::Element(_), ..]));
    assert_eq!(only(&in_stream_once(&lang(" c=''"))).why().reason(), Why::OverAttrs);
    let wide = |prefixes: usize| {
        let used: String = (0..prefixes).map(|i| format!(" p{i}:a=''")).collect();
        format!("<message><x{outer}><q:y xmlns:q='v' q:c=''{used}/></x></message><iq id='next'/>")
    };
    let limits = Limits { attributes: 200, ..Limits::default() };
    assert!(matches!(in_reads(&limits, &wide(31), 9).as_slice(), [Token::Element(_), ..]));
    assert_eq!(only(&in_reads(&limits, &wide(32), 9)).why().reason(), Why::OverNsdecl);
}

// L-inside-*: several times the world's, and their limits have names of their own.
#[test]
fn ceilings_for_the_server_behind_are_higher_and_named_apart() {
    let inside = Limits::inside();
    let roster = |items: usize| {
        let item =
            "<item jid='contact@a.example' name='Some One' subscription='both'><group>Friends</group></item>";
        format!(
            "<iq type='result' id='r'><query xmlns='jabber:iq:roster'>{}</query></iq>",
            item.repeat(items)
        )
    };
    let large = roster(90_000);
    assert!(large.len() > 8 << 20 && large.len() < 10 << 20);
    assert!(matches!(in_reads(&inside, &large, 16 * 1024).as_slice(), [Token::Element(_)]));
    let photo = format!(
        "<iq type='result'><vCard xmlns='vcard-temp'><PHOTO a='{}'/></vCard></iq>",
        "A".repeat(1 << 20)
    );
    assert!(matches!(in_reads(&inside, &photo, 16 * 1024).as_slice(), [Token::Element(_)]));
    for (body, why) in [
        (roster(101_000), Why::OverInsideNodes),
        (photo.replace("='AA", "='AAA"), Why::OverInsideAttrValue),
        (format!("<iq>{}</iq>", "x".repeat(10 << 20)), Why::OverInsideStanza),
        (format!("<iq{}/>", attributes(257)), Why::OverInsideAttrs),
        (format!("<iq{}/>", declarations(129)), Why::OverInsideNsdecl),
        (format!("<iq>{}{}</iq>", "<a>".repeat(256), "</a>".repeat(256)), Why::OverInsideDepth),
    ] {
        let body = body + "<iq id='next'/>";
        assert_eq!(only(&in_reads(&inside, &body, 16 * 1024)).why().reason(), why);
    }
}

// What one large element needed is given back when it is gone, also where the next one has begun behind it.
#[test]
fn room_of_a_large_element_is_given_back() {
    let mut framer = Framer::new(Limits::inside(), Content::Client);
    framer.feed(OPEN.replace("jabber:server'", "jabber:client'").as_bytes());
    framer.next();
    let body = format!("<message><body>{}</body></message><mess", "x".repeat(5 << 20));
    for read in body.as_bytes().chunks(16 * 1024) {
        framer.feed(read);
        while let Some(token) = framer.next() {
            let Token::Element(frame) = token else { panic!("{token:?}") };
            // Nobody else holds its octets: they go when it goes.
            assert!(frame.into_octets().try_into_mut().is_ok());
        }
    }
    assert_eq!(framer.buffered(), 5);
}
