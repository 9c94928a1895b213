//! What a unit of work costs the gateway, against HAProxy doing TLS to plain TCP, in one run.
//!
//! `cargo bench --bench load` takes four minutes for each of five rounds and ends in a table and a JSON file. Each round measures both, in turn,
//! each as a fresh process with one thread, the same key and the same suite; figures are processor time as the kernel
//! counts it, so that neither the generator nor a busy machine is measured. Options, after `--`: `--rounds N`,
//! `--only WORK,..`, `--ours` (leaves HAProxy out), `--quick` (a little of everything, to see that it works), `--gateway
//! FILE` (another build), `--against FILE` (another build in HAProxy's place: row by row, with a verdict), `--reloads N` (of the many
//! rules, 50 otherwise), `--idle N` (sessions that idle, 5,000 otherwise: where files, ports and memory last), `--json FILE`. HAProxy must be installed. `tests/sockets/load.rs` runs it as `--quick` does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a bench that cannot go on says so
#![allow(clippy::fn_params_excessive_bools, clippy::too_many_lines)]
#![allow(clippy::disallowed_methods)] // a bench tells the time and ends its own process

mod calm;
mod meter;
#[path = "../support/mix.rs"]
mod mix;
mod scene;
mod sink;
mod table;
mod talk;
mod web;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use scene::{Scene, Who};
use table::{ROWS, Table};
use work::Size;

/// How long anything may take. Nothing in a healthy run takes a tenth of this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of the table.
#[allow(dead_code)] // for its test
pub const LINES: usize = ROWS.len();

/// What is asked for.
pub struct Options {
    rounds: usize,
    only: Option<Vec<String>>,
    ours: bool,
    quick: bool,
    reloads: Option<usize>,
    idle: Option<usize>,
    json: PathBuf,
    gateway: PathBuf,
    against: Option<PathBuf>,
}

fn main() {
    let options = Options::read(std::env::args().skip(1));
    let table = run(&options);
    println!("\n{}", table.text());
    if options.quick {
        println!("These are figures of a quick run: they say that it works, and nothing else.");
    }
    std::fs::write(&options.json, table.json().to_string()).expect("the JSON file can be written");
    println!("All figures: {}", options.json.display());
}

/// Does all rounds, and tells how far it is.
pub fn run(options: &Options) -> Table {
    let size = options.size();
    let mut works: Vec<&str> = ROWS.iter().map(|row| row.work).collect();
    works.dedup();
    works.retain(|work| options.only.as_ref().is_none_or(|only| only.iter().any(|name| name == work)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (begun, mut table) = (Instant::now(), Table::new(options.against.is_some()));
    meter::open_files();
    let other = options.against.clone().unwrap_or_else(|| options.gateway.clone());
    let scene = Scene::set(options.gateway.clone(), other);
    let measure = if options.against.is_some() { Who::Other } else { Who::Haproxy };
    for round in 0..options.rounds {
        for work in &works {
            let known = ROWS.iter().any(|row| row.work == *work && row.is_compared()) && !options.ours;
            let compared = known || options.against.is_some();
            // Who goes first changes, so that neither always finds the machine as the other left it.
            let turns = if round % 2 == 0 { [measure, Who::Ours] } else { [Who::Ours, measure] };
            for who in turns.into_iter().filter(|who| *who == Who::Ours || compared) {
                let figures = runtime.block_on(work::run(work, &scene, who, &size));
                let shown: Vec<_> =
                    figures.iter().map(|(key, figure)| format!("{key} {figure:.2}")).collect();
                let (seconds, round, rounds) = (begun.elapsed().as_secs(), round + 1, options.rounds);
                eprintln!("[{seconds:>4} s] round {round} of {rounds}: {who:?}: {}", shown.join(", "));
                figures.into_iter().for_each(|(key, figure)| table.put(who, key, figure));
            }
        }
    }
    table
}

impl Options {
    /// A little of everything, once.
    pub fn quick() -> Self {
        let json = PathBuf::from(concat!(env!("CARGO_TARGET_TMPDIR"), "/load.json"));
        let gateway = PathBuf::from(env!("CARGO_BIN_EXE_gatehouse"));
        Self {
            rounds: 1,
            only: None,
            ours: false,
            quick: true,
            reloads: None,
            idle: None,
            json,
            gateway,
            against: None,
        }
    }

    /// As these words of the command line have it.
    pub fn read(mut words: impl Iterator<Item = String>) -> Self {
        let mut options = Self { quick: false, rounds: 5, ..Self::quick() };
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
            match word.as_str() {
                // cargo says so.
                "--bench" => {}
                "--quick" => (options.quick, options.rounds) = (true, 1),
                "--ours" => options.ours = true,
                "--rounds" => options.rounds = value().parse().expect("--rounds wants a number"),
                "--reloads" => {
                    let many = value().parse().ok().filter(|many| *many > 0);
                    options.reloads = Some(many.expect("--reloads wants a number, and not 0"));
                }
                "--idle" => {
                    let many = value().parse().ok().filter(|many| *many > 0);
                    options.idle = Some(many.expect("--idle wants a number, and not 0"));
                }
                "--only" => options.only = Some(value().split(',').map(str::to_owned).collect()),
                "--json" => options.json = PathBuf::from(value()),
                "--against" => options.against = Some(PathBuf::from(value())),
                "--gateway" => options.gateway = PathBuf::from(value()),
                other => panic!("{other} is no option: see the head of benches/load/main.rs"),
            }
        }
        options
    }

    /// How much of everything.
    pub fn size(&self) -> Size {
        let size = if self.quick { QUICK } else { full() };
        let (reloads, idle) = (self.reloads.unwrap_or(size.reloads), self.idle.unwrap_or(size.idle));
        Size { reloads, idle, ..size }
    }
}

/// Enough for steady figures.
fn full() -> Size {
    Size {
        echoes: 60_000,
        octets: 96_000_000,
        stanzas: 2_000,
        logins: Duration::from_secs(3),
        idle: 5_000,
        // Two files for each stream in the gateway, and some for itself.
        streams: 10_000.min((meter::open_files() - 200) / 2),
        // One less than a registrable domain may have (`pairs-domain`): the stream begins with another.
        pairs: 499,
        rules: 100_000,
        patches: 500,
        reloads: 50,
        watch: Duration::from_secs(5),
    }
}

/// Enough to see that it works.
const QUICK: Size = Size {
    echoes: 256,
    octets: 200_000,
    stanzas: 60,
    logins: Duration::from_millis(40),
    idle: 40,
    streams: 40,
    pairs: 4,
    rules: 100,
    patches: 5,
    reloads: 3,
    watch: Duration::from_millis(300),
};
