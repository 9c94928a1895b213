//! Strict framing, one row a rule: what is accepted and in which octets it leaves, what is refused and for which reason.
//!
//! Ids without further words are the house's XML rules; requirement ids (XML-01, STR-18, LIM-01) are named where they rule.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

mod budgets;
mod header;
mod names;
mod refused;
mod rewriting;
mod text;

use bytes::BufMut as _;
use gatehouse::reason::Reason as Why;
use gatehouse::xml::{Atom, Content, Edits, Frame, Framer, Kind, Limits, Rule, Token, Violation, rewrite};

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

const NS: &str = "xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'";

// XML-01 to XML-11: the rules by their own names.
#[test]
fn every_rule_has_a_row() {
    let rows = concat!(
        include_str!("framing/budgets.rs"),
        include_str!("framing/header.rs"),
        include_str!("framing/names.rs"),
        include_str!("framing/refused.rs"),
        include_str!("framing/rewriting.rs"),
        include_str!("framing/text.rs"),
    );
    // Those of messages are in `src/xml/messages_tests.rs` and `tests/sockets/websocket.rs`.
    let messages = |r: &Rule| matches!(r, Rule::M1 | Rule::M2 | Rule::M3);
    for rule in Rule::ALL.iter().filter(|r| !messages(r) && !matches!(r, Rule::Disagreement | Rule::Readers))
    {
        assert!(rows.contains(&format!("Rule::{rule:?}")), "no row for {}", rule.id());
    }
}
