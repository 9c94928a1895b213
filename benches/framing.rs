//! How fast octets become frames, on one core.
//!
//! Budgets (see `xml`): at least 150 MB/s on the mix, 15 MB/s on the worst input; a rewritten mix at most
//! twice as slow as the mix; at most 3 microseconds for a stanza of 300 octets. criterion prints MiB/s for each.
//!
//! The mix is made by a seeded generator: stanzas as servers exchange them, 765 octets on average.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use gatehouse::xml::{Content, Framer, Limits, Token};

const OPEN: &str =
    "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

/// The usual read of a socket.
const READ: usize = 16 * 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mix = mix();
    let cases: [(&str, String, usize); 16] = [
        ("mix", mix.clone(), READ),
        ("mix, rewritten", mix.replace(" to='", "  to='"), READ),
        ("mix, one octet a read", mix.clone(), 1),
        ("stanza of 300 octets", stanza_of(300).repeat(3000), READ),
        ("flood of <iq/>", "<iq/>".repeat(200_000), READ),
        ("flood of <iq></iq>", "<iq></iq>".repeat(100_000), READ),
        ("flood of tiny children", format!("<iq>{}</iq>", "<a/>".repeat(8191)).repeat(30), READ),
        ("flood of tiny unknown children", format!("<iq>{}</iq>", "<zz/>".repeat(8191)).repeat(30), READ),
        ("flood of tiny descendants", format!("<iq><q>{}</q></iq>", "<a/>".repeat(8190)).repeat(30), READ),
        ("tiny elements, one octet a read", "<iq/>".repeat(100_000), 1),
        ("deep nesting", format!("{}{}", "<a>".repeat(64), "</a>".repeat(64)).repeat(2000), READ),
        ("many attributes", attributes().repeat(1000), READ),
        ("many attributes of one local name", bound().repeat(30), READ),
        ("many bindings", bindings().repeat(30), READ),
        ("references", format!("<message>{}</message>", "&#65;&amp;".repeat(10_000)).repeat(10), READ),
        ("sections", format!("<message>{}</message>", "<![CDATA[]]>".repeat(10_000)).repeat(10), READ),
    ];
    let mut group = criterion.benchmark_group("framing");
    group.sample_size(20).measurement_time(std::time::Duration::from_secs(2));
    for (name, octets, read) in &cases {
        group.throughput(Throughput::Bytes(u64::try_from(octets.len()).expect("small")));
        group.bench_function(*name, |b| b.iter(|| frame(black_box(octets.as_bytes()), *read)));
    }
    group.finish();
    criterion.final_summary();
}

/// Frames it all, and makes sure that it is a legal stream.
fn frame(octets: &[u8], read: usize) -> usize {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(OPEN.as_bytes());
    let mut frames = 0;
    for chunk in octets.chunks(read) {
        framer.feed(chunk);
        while let Some(token) = framer.next() {
            match token {
                Token::Violation(violation) => panic!("{violation}"),
                token => frames += usize::from(matches!(black_box(token), Token::Element(_))),
            }
        }
    }
    assert!(framer.is_empty());
    frames
}

/// Stanzas as servers exchange them.
fn mix() -> String {
    let mut dice = Dice(0x5EED);
    let mut out = String::new();
    let count = 2000;
    for i in 0..count {
        let (a, b) = (dice.below(5000), dice.below(5000));
        let from = format!("user{a}@capulet.example/client.{:08x}", dice.below(u32::MAX));
        let to = format!("user{b}@montague.example");
        let id = format!("{:08x}-{:04x}", dice.below(u32::MAX), dice.below(65_536));
        let write = match dice.below(10) {
            0..=4 => {
                let words = words(&mut dice, 25, 118);
                write!(
                    out,
                    "<message from='{from}' to='{to}' id='{id}' type='chat'><body>{words}</body><active xmlns='http://jabber.org/protocol/chatstates'/>\
                     <request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/><origin-id xmlns='urn:xmpp:sid:0' id='{id}'/>\
                     <stanza-id xmlns='urn:xmpp:sid:0' by='{to}' id='{i}'/></message>"
                )
            }
            5..=7 => write!(
                out,
                "<presence from='{from}' to='{to}'><priority>5</priority><show>away</show><status>{}</status>\
                 <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://client.example/' ver='{id}='/>\
                 <x xmlns='vcard-temp:x:update'><photo>{id}{id}</photo></x></presence>",
                words(&mut dice, 2, 12)
            ),
            8 => write!(
                out,
                "<iq from='{from}' to='{to}/r' id='{id}' type='get'><query xmlns='http://jabber.org/protocol/disco#info' node='{id}'/></iq>"
            ),
            _ => {
                let features: String = (0..dice.below(24) + 10)
                    .map(|n| format!("<feature var='http://jabber.org/protocol/feature#{n}'/>"))
                    .collect();
                write!(
                    out,
                    "<iq from='{from}' to='{to}/r' id='{id}' type='result'><query xmlns='http://jabber.org/protocol/disco#info'>\
                     <identity category='client' type='phone' name='Talk &amp; More'/>{features}</query></iq>"
                )
            }
        };
        write.expect("a string takes all");
    }
    eprintln!("mix: {count} stanzas, {} octets on average", out.len() / count);
    out
}

/// Some words, a few of them beyond ASCII or escaped.
fn words(dice: &mut Dice, least: u32, most: u32) -> String {
    const WORDS: [&str; 10] = [
        "but",
        "soft",
        "what",
        "light",
        "through",
        "yonder",
        "window",
        "breaks",
        "l\u{e0}",
        "&lt;it is the east&gt;",
    ];
    let count = least + dice.below(most - least);
    let mut out = String::new();
    for _ in 0..count {
        out.push_str(WORDS[usize::try_from(dice.below(10)).expect("small")]);
        out.push(' ');
    }
    out
}

fn stanza_of(len: usize) -> String {
    let begin = "<message from='juliet@capulet.example/balcony' to='romeo@montague.example' id='a1' type='chat'><body>";
    let end = "</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>";
    format!("{begin}{}{end}", "x".repeat(len - begin.len() - end.len()))
}

/// As many attributes as a tag may have, alike but for the end.
fn attributes() -> String {
    let attributes: String = (0..64).map(|i| format!(" a{i:02}=''")).collect();
    format!("<message>{}</message>", format!("<a{attributes}/>").repeat(10))
}

/// The most bindings of the longest namespace names, then tags that use each with the same local name.
fn bound() -> String {
    let level = |i: usize| {
        let declarations: String =
            (0..32).map(|j| format!(" xmlns:p{i}{j:02}='{}{i}{j:02}'", "u".repeat(60))).collect();
        format!("<a{declarations}>")
    };
    let levels: String = (0..4).map(level).collect();
    let uses: String = (0..64).map(|k| format!(" p{}{:02}:x=''", k / 32, k % 32)).collect();
    format!("{levels}{}{}", format!("<b{uses}/>").repeat(50), "</a>".repeat(4))
}

/// The most bindings, then elements that use the outermost one.
fn bindings() -> String {
    let level = |i: usize| {
        let declarations: String = (0..32).map(|j| format!(" xmlns:p{i}{j:02}='u{i}{j:02}'")).collect();
        format!("<a{declarations}>")
    };
    let levels: String = (0..4).map(level).collect();
    format!("{levels}{}{}", "<p000:b/>".repeat(5000), "</a>".repeat(4))
}

/// A small generator of numbers that are the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = u32::try_from(self.0 >> 33).unwrap_or_default();
        high % bound.max(1)
    }
}
