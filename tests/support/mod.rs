//! What tests with real servers stand on: network namespaces, a DNS server, a certificate authority, the servers
//! themselves on either side, the built gateway between them, and a small client.
//!
//! Everything lives in namespaces of this process without a way out. Whatever is started is ended by its id when its
//! owner is dropped; every wait has a deadline, and a failed one says what was waited for. When a test panics, each
//! process prints the tail of its log on its way out. `GATEHOUSE_KEEP=1` then also keeps the world's files and says
//! where; `GATEHOUSE_TIMES=1` tells how long each server took to start.

// Each test binary takes the pieces it needs.
#![allow(dead_code)]

pub mod ca;
pub mod client;
pub mod dialogues;
pub mod dice;
pub mod ejabberd;
pub mod gateway;
pub mod growth;
pub mod jabberd2;
pub mod nodes;
pub mod programs;
pub mod prosody;
pub mod raw;
pub mod release;
pub mod scene;
pub mod scram;
pub mod server;
pub mod unbound;
pub mod world;
pub mod zones;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Polls until `poll` gives a value; panics at the deadline with `what` and the last thing `poll` had to say.
pub fn wait_for<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match poll() {
            Ok(value) => return value,
            Err(last) if start.elapsed() >= limit => panic!("waited {limit:?} for {what}; last: {last}"),
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}

/// How many processes there are for each processor; one at least.
pub fn crowd() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").expect("the kernel tells");
    let load: f64 = load.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    (load / std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)).max(1.0)
}

/// A file of the repository, by its path from the root.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Fills the `@NAME@` places of a template of the repository and writes the result.
///
/// A place without a value, or a value without a place, is a mistake in the test and panics.
pub fn fill(template: &str, values: &[(&str, &str)], target: &Path) {
    let mut text = fs::read_to_string(repository(template)).unwrap_or_else(|e| panic!("{template}: {e}"));
    for (name, value) in values {
        let place = format!("@{name}@");
        assert!(text.contains(&place), "{template} has no place for {place}");
        text = text.replace(&place, value);
    }
    for (number, line) in text.lines().enumerate() {
        let left = line
            .split('@')
            .skip(1)
            .step_by(2)
            .any(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
        assert!(!left, "{template}:{}: a place is left unfilled: {line}", number + 1);
    }
    write(target, &text);
}

/// A text with places of the system moved into the folder of a test, as far as they are in it.
pub fn moved(text: String, places: &[(&str, &str)]) -> String {
    places.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

/// Writes a file, naming it if that fails.
pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Makes a directory and its parents, naming it if that fails.
pub fn make_dir(path: &Path) -> PathBuf {
    fs::create_dir_all(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path.to_owned()
}
