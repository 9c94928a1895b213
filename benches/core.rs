//! What the core costs: writing a stanza anew, judging a pair, one step of a relay, one dialback key; and, above the water line,
//! counting whom a stanza is from.
//!
//! Budgets, on one core: a stanza of 300 octets written anew in 1 microsecond; a judgement in 2, whether there are ten
//! rules or 100,000; a step of a relay that passes a stanza in 2; a dialback key made in 5, and known again in 30 (six epochs).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a bench that cannot go on says so
#![allow(clippy::fn_params_excessive_bools, clippy::too_many_lines)]

#[path = "support/mix.rs"]
mod mix;
#[path = "../tests/support/stage.rs"]
mod pure;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::Criterion;
use gatehouse::limit::{SenderParams, Senders, Tally};
use gatehouse::policy::{
    Day, Federate, Federation, Identity, PatchFile, PatchSource, Patches, Question, Tls, compile_patches,
};
use gatehouse::reason::{Direction, Facing};
use gatehouse::relay::{AddressText, Input, Sender};
use gatehouse::stream::{Clock, KeyCheck, Keyring};
use gatehouse::xml::{Content, Edits, Frame, Framer, Limits, Token, rewrite};
use mix::{Way, chat};
use pure::{NEAR, admit, any, domain, inbound, pair, policy, relays};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    rewriting(&mut criterion);
    judging(&mut criterion);
    relaying(&mut criterion);
    keys(&mut criterion);
    counting(&mut criterion);
    criterion.final_summary();
}

fn rewriting(criterion: &mut Criterion) {
    let frame = frame(&chat(300, Way::Servers));
    let address = Edits { to: Some("romeo@montague.example/desk".to_owned()), ..Edits::default() };
    let cut = Edits { cut: vec![1], ..Edits::default() };
    for (name, edits) in [("another address", address), ("without a child", cut)] {
        criterion.bench_function(&format!("rewriting/{name}"), |b| {
            b.iter(|| rewrite(black_box(&frame), &edits));
        });
    }
}

fn judging(criterion: &mut Criterion) {
    let hosted = domain("hall.example");
    for count in [10, 100_000] {
        let mut text = "version: v1\nrules:\n".to_owned();
        for n in 0..count {
            writeln!(text, "  - {{ name: r{n}, domains: [\"d{n}.example\", \"*.w{n}.example\"] }}").unwrap();
        }
        let policy = policy(Federation::Listed, &text);
        for (name, remote) in [("by name", "d7.example"), ("below a wildcard", "a.b.w7.example")] {
            let remote = domain(remote);
            let question = Question::Federate(Federate {
                hosted: &hosted,
                remote: &remote,
                direction: Direction::Inbound,
                identity: Identity::Certificate,
                tls: Tls::V13,
                address: Some([192, 0, 2, 7].into()),
                key: gatehouse::policy::ShownKey::Unknown,
            });
            assert!(policy.judge(&question, &mut ()).is_allow());
            criterion.bench_function(&format!("judging/{count} rules, {name}"), |b| {
                b.iter(|| policy.judge(black_box(&question), &mut ()));
            });
        }
    }
}

fn relaying(criterion: &mut Criterion) {
    let (few, many) = (any(), Arc::new(any().with_patches(patches(500))));
    for (name, policy) in [("", few), (", 500 patches for others", many)] {
        let mut stage = inbound(relays(), policy, "capulet.example", &[]);
        admit(&mut stage, "capulet.example", "hall.example");
        let token =
            Token::Element(frame(&chat(300, Way::Servers).replace("montague.example", "hall.example")));
        let now = stage.now;
        assert!(stage.relay.step(NEAR, Input::Token(token.clone()), now).len() == 2, "passed and noted");
        criterion.bench_function(&format!("relaying/a stanza between servers{name}"), |b| {
            b.iter(|| stage.relay.step(NEAR, Input::Token(black_box(&token).clone()), now));
        });
    }
}

/// So many patches, each about a namespace of its own.
fn patches(count: usize) -> Patches {
    let mut text = "version: v1\npatches:\n".to_owned();
    for n in 0..count {
        writeln!(
            text,
            "  - {{ name: p{n}, reason: r, action: deny, payload: \"urn:example:p{n}\", when: [{{ element: x, count: 9 }}] }}"
        )
        .unwrap();
    }
    let (file, findings) = gatehouse::config::load::parse::<PatchFile>(&text, "patches.yaml");
    assert!(findings.is_empty(), "{findings:?}");
    let day = Day::parse("2026-11-21").unwrap();
    compile_patches(&[PatchSource::new("patches.yaml", file)], None, day).unwrap().0
}

fn keys(criterion: &mut Criterion) {
    let now = Instant::now();
    let clock = Clock::new(now, Duration::from_secs(1_800_000_000));
    let ring = Keyring::shared(Facing::Public, clock, [(&b"s3cr3tf0rd14lb4ck"[..], None)]);
    let pair = pair("capulet.example", "montague.example");
    criterion.bench_function("keys/made", |b| b.iter(|| ring.make(black_box(&pair), "D60000229F", now)));
    let key = ring.make(&pair, "D60000229F", now);
    let check = KeyCheck { pair, stream: "D60000229F".to_owned(), key };
    assert!(ring.knows(&check, now));
    criterion.bench_function("keys/known again", |b| b.iter(|| ring.knows(black_box(&check), now)));
}

/// Against the limits of its sender, as [`Senders`] does it; and one rate alone as a table of buckets under a lock would.
fn counting(criterion: &mut Criterion) {
    let began = Instant::now();
    let words = |text: &str| AddressText::Apart(text.into());
    let sender = Sender {
        domain: domain("capulet.example"),
        address: words("juliet@capulet.example"),
        occupant: None,
        recipient: words("romeo@hall.example"),
        subscribes: false,
        held: None,
    };
    // Each comes as late as its rate has it, so that none is refused.
    let later = |n: &mut u32| {
        *n += 1;
        began + Duration::from_millis(10) * *n
    };
    let (senders, mut tally, mut n) = (Senders::new(SenderParams::default(), began), Tally::default(), 0);
    criterion.bench_function("counting/a stanza of a known sender", |b| {
        b.iter(|| senders.ask(black_box(&sender), b"", &mut tally, later(&mut n)).unwrap());
    });
    let (buckets, mut n) = (Mutex::new(HashMap::<Box<str>, (f64, Instant)>::new()), 0);
    criterion.bench_function("counting/one rate in a bucket under a lock", |b| {
        b.iter(|| {
            let now = later(&mut n);
            let mut buckets = buckets.lock().unwrap();
            let known = match buckets.get_mut(black_box("juliet@capulet.example")) {
                Some(known) => known,
                None => buckets.entry("juliet@capulet.example".into()).or_insert((6_000.0, now)),
            };
            let left = (known.0 + now.duration_since(known.1).as_secs_f64() * 100.0).min(6_000.0);
            *known = (left - 1.0, now);
            assert!(left >= 1.0);
        });
    });
}

/// The frame that this stanza makes.
fn frame(stanza: &str) -> Frame {
    let mut framer = Framer::new(Limits::default(), Content::Server);
    framer.feed(b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>");
    framer.feed(stanza.as_bytes());
    let found = std::iter::from_fn(|| framer.next()).find_map(|token| match token {
        Token::Element(frame) => Some(frame),
        _ => None,
    });
    found.expect("one stanza")
}
