use super::{Framer, Rule, SAMPLE, Token};
use crate::xml::{Content, Limits};

const HEADER: &[u8] =
    b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
const STANZA: &[u8] = b"<message to='a@hall.example' from='b@friend.example'><body>x</body></message>";

fn in_stream() -> Framer {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(HEADER);
    assert!(matches!(framer.next(), Some(Token::Header(_))));
    framer
}

fn is_disagreement(token: Option<Token>) -> bool {
    matches!(token, Some(Token::Violation(violation)) if violation.rule == Rule::Readers)
}

// XML-01: one in 1,024 is read both ways, wherever the first of them is, and what both find is passed on as ever.
#[test]
fn a_sample_is_read_both_ways_and_passes_as_ever() {
    for number in [0, 1, 1023, 1024, u64::MAX] {
        let mut framer = in_stream();
        framer.compare_from(number);
        let (mut compared, mut before) = (0, framer.uncompared);
        for _ in 0..SAMPLE {
            framer.feed(STANZA);
            let Some(Token::Element(frame)) = framer.next() else { panic!("no element") };
            assert_eq!(frame.octets(), STANZA);
            assert!(frame.passed_as_received());
            compared += u32::from(framer.uncompared > before || before == 1);
            before = framer.uncompared;
        }
        assert_eq!(compared, 1, "{number}");
        assert!(framer.is_empty());
    }
}

// A breach of a budget is none between the readers: the short way leaves it to the long one.
#[test]
fn what_both_ways_refuse_is_no_disagreement() {
    let mut framer = in_stream();
    framer.compare_from(0);
    let deep = format!("<message>{}{}</message>", "<a>".repeat(70), "</a>".repeat(70));
    framer.feed(deep.as_bytes());
    assert!(matches!(framer.next(), Some(Token::Refused(_))));
    framer.feed(STANZA);
    assert!(matches!(framer.next(), Some(Token::Element(_))));
}

// The stream ends, and nothing of the element passes: each thing in which they may differ, and an end that one does not see.
#[test]
fn a_disagreement_ends_the_stream() {
    let found = |octets: &[u8]| {
        let mut framer = in_stream();
        framer.canonical.element(octets, Content::Server, &framer.limits).unwrap()
    };
    let (len, surface) = found(STANZA);
    let (_, other) = found(b"<message to='c@hall.example' from='b@friend.example'><body>y</body></message> ");
    assert!(surface == other, "spans alone differ between none of the two");
    let (_, third) = found(b"<presence to='a@hall.example' from='b@friend.example'/>");
    for expected in [(len + 1, surface.clone()), (len - 1, surface.clone()), (len, third)] {
        let mut framer = in_stream();
        framer.expected = Some(expected);
        framer.feed(STANZA);
        framer.short = false;
        assert!(is_disagreement(framer.next()));
        framer.feed(STANZA);
        assert_eq!(framer.next(), None);
    }
    for octets in [
        "<message to='a@hall.example'>",
        "<message><a:b/></message>",
        "<message xmlns='&#x7f;'/>",
        "<message><!-- -->",
    ] {
        let mut framer = in_stream();
        framer.expected = Some((len, surface.clone()));
        framer.feed(octets.as_bytes());
        framer.short = false;
        assert!(is_disagreement(framer.next()), "{octets}");
        assert!(framer.next().is_none());
    }
    // One that passes only written anew is none for the short way.
    let rewritten = b"<message   to='a@hall.example'/>";
    let mut plain = in_stream().without_the_short_way();
    plain.feed(rewritten);
    let Some(Token::Element(frame)) = plain.next() else { panic!("no element") };
    let mut framer = in_stream().without_the_short_way();
    framer.expected = Some((rewritten.len(), frame.head.surface));
    framer.feed(rewritten);
    assert!(is_disagreement(framer.next()));
}
