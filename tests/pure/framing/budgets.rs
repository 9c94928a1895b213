//! How much of everything (XML-16, LIM-01).

use super::*;

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
