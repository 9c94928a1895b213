//! How fast octets become frames, on one core.
//!
//! Budgets (see `xml`): at least 400 MB/s on the mix, 75 MB/s where it has to be rewritten, 15 MB/s on the worst input; at
//! most 1 microsecond for a stanza of 300 octets. criterion prints MiB/s for each.
//!
//! The mix is made by a seeded generator: stanzas as servers exchange them, 765 octets on average.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a bench that cannot go on says so
#![allow(clippy::fn_params_excessive_bools, clippy::too_many_lines)]

#[path = "support/mix.rs"]
mod mix;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use gatehouse::xml::{Content, Framer, Limits, Token};
use mix::{Way, chat, mix};

const OPEN: &str =
    "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

/// The usual read of a socket.
const READ: usize = 16 * 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mix = mix(2000, Way::Servers);
    let cases: [(&str, String, usize); 16] = [
        ("mix", mix.clone(), READ),
        ("mix, rewritten", mix.replace(" to='", "  to='"), READ),
        ("mix, one octet a read", mix.clone(), 1),
        ("stanza of 300 octets", chat(300, Way::Servers).repeat(3000), READ),
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
