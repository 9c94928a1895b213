//! A large policy: 100,000 rules, 1,000,000 entries of lists and 500 patches are read at a start, held in memory, and reloaded. By default a
//! hundredth of it, so that the way is walked by every run; `GATEHOUSE_SIZES=full cargo test --release --test pure sizes -- --nocapture` takes all
//! of it and holds the start to 3 s.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the clock

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::steering::*;

/// Rules, entries of lists, patches.
struct Sizes([usize; 3]);

impl Sizes {
    fn write(&self, folder: &Path) {
        let [rules, entries, patches] = self.0;
        let mut text = String::from("version: v1\nrules:\n");
        for n in 0..rules {
            writeln!(text, "  - {{ name: r{n}, domains: [p{n}.example] }}").unwrap();
        }
        if entries > 0 {
            text += "  - { name: on-lists, verdict: deny, lists: [many, digests], quorum: 1 }\n";
        }
        fs::write(folder.join("policy.yaml"), text).unwrap();
        let names: String = (0..entries / 2).map(|n| format!("d{n}.host{}.example\n", n % 977)).collect();
        fs::write(folder.join("many.txt"), names).unwrap();
        let digests: String = (0..entries / 2).map(|n| format!("{n:064x}\n")).collect();
        fs::write(folder.join("digests.txt"), digests).unwrap();
        let mut text = String::from("version: v1\npatches:\n");
        for n in 0..patches {
            writeln!(
                text,
                "  - {{ name: p{n}, reason: to measure, action: deny, payload: \"urn:example:{n}\", when: [{{ element: x, depth: 2, count: 3 }}] }}"
            )
            .unwrap();
        }
        fs::write(folder.join("patches.yaml"), text).unwrap();
    }
}

/// Kilobytes of memory of a process, now and at most so far.
fn memory(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// How long it takes until it takes connections, and its memory then.
fn started(sizes: &Sizes, most: Duration) -> (Duration, u64, u64) {
    let (folder, address) = prepare("");
    sizes.write(folder.path());
    let file = folder.path().join("gatehouse.yaml");
    let mut text = fs::read_to_string(&file).unwrap();
    if sizes.0[1] > 0 {
        text += "lists:\n  - { name: many, file: many.txt }\n  - { name: digests, file: digests.txt, format: jid-sha256 }\n";
    }
    if sizes.0[2] > 0 {
        text += "patches: [patches.yaml]\n";
    }
    fs::write(&file, text).unwrap();
    let begun = Instant::now();
    let mut child = Running::command(folder.path()).stderr(Stdio::null()).spawn().unwrap();
    let socket = folder.path().join("control.sock");
    while UnixStream::connect(&socket).is_err() || TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < most, "not started within {most:?}");
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = begun.elapsed();
    let (now, peak) = memory(child.id());
    // All of it is in force: a name of a list is kept out, and one of a rule is not.
    let said = |from: &str| {
        let question = ["policy", "explain", "--live", "--socket", socket.to_str().unwrap(), "--from", from];
        run(&[&question[..], &["--to", "hall.example", "--payload", "urn:example:1"]].concat()).out
    };
    if sizes.0[1] > 0 {
        assert!(said("x.d7.host7.example").contains("(on-lists)"), "{}", said("x.d7.host7.example"));
    }
    let known = said("p9.example");
    assert!(known.contains("rule:       r9 at "), "{known}");
    assert_eq!(known.contains("p1 at "), sizes.0[2] > 0, "{known}");
    child.kill().unwrap();
    child.wait().unwrap();
    (took, now, peak)
}

#[test]
fn a_large_policy_is_in_force_in_time_and_in_little_memory() {
    let full = std::env::var("GATEHOUSE_SIZES").is_ok_and(|word| word == "full");
    let of = if full { 1 } else { 100 };
    let sizes = Sizes([100_000 / of, 1_000_000 / of, 500 / of.min(50)]);
    let (optimized, patience) = (cfg!(not(debug_assertions)), Duration::from_secs(300));
    let (least, small, _) = started(&Sizes([10, 0, 0]), patience);
    let (took, now, peak) = started(&sizes, patience);
    println!(
        "{:?} rules, entries, patches: started in {} ms, with 10 rules in {} ms; {} MiB resident, {} MiB at most, with 10 rules {} MiB",
        sizes.0,
        took.as_millis(),
        least.as_millis(),
        now >> 10,
        peak >> 10,
        small >> 10,
    );
    if full && optimized {
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    // A rule takes a kilobyte or so, a digest 32 octets, a domain its letters and four.
    let most = (small << 10)
        + 2_000 * sizes.0[0] as u64
        + 60 * sizes.0[1] as u64
        + 4_000 * sizes.0[2] as u64
        + (32 << 20);
    assert!((now << 10) < 2 * most, "{now} KiB resident, {} KiB are enough", most >> 10);
}
