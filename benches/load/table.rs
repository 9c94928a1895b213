//! The rows of the table, what each is to reach, and how they are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use super::scene::Who;

/// One line of the table.
pub struct Row {
    /// What the workload calls it.
    pub key: &'static str,
    /// The workload that it comes from.
    pub work: &'static str,
    title: &'static str,
    unit: &'static str,
    goal: Goal,
}

/// What is to be reached: first what must be, then what is aimed for.
#[derive(Clone, Copy)]
enum Goal {
    /// Ours, on its own, at most.
    Alone(f64, f64),
    /// Ours, on its own, at least.
    AloneAtLeast(f64, f64),
    /// Ours less HAProxy's, at most.
    Beyond(f64, f64),
    /// HAProxy's is the measure: less is better.
    Less(f64, f64),
    /// HAProxy's is the measure: more is better.
    More(f64, f64),
    /// Told, and no more.
    Shown,
}

/// All of them, in the order of the table.
pub const ROWS: &[Row] = &[
    row("echo", "echo", "chat message echoed, one a write, 128 connections", "us CPU", Goal::Less(1.05, 0.9)),
    row("big", "big c2s", "64 KiB stanzas, client to backend", "us CPU/MB", Goal::Less(0.90, 0.65)),
    row("big", "big s2s", "64 KiB stanzas, server to backend", "us CPU/MB", Goal::Less(0.90, 0.65)),
    row("mix", "mix c2s", "mix in 16 KiB records, client to backend", "us CPU/MB", Goal::Less(1.7, 1.25)),
    row("mix", "mix s2s", "mix in 16 KiB records, server to backend", "us CPU/MB", Goal::Less(1.8, 1.25)),
    row("each", "each c2s", "  one stanza a write, client to backend", "us CPU/MB", Goal::Less(0.95, 0.8)),
    row("each", "each s2s", "  one stanza a write, server to backend", "us CPU/MB", Goal::Less(0.95, 0.8)),
    row("pour", "pour", "mix, backend to client, parsed", "us CPU/MB", Goal::Less(2.0, 1.5)),
    row("rate", "rate", "chat message echoed, 2,000 a second", "us CPU", Goal::Less(0.9, 0.8)),
    row("rate", "rate median", "  its median latency", "us", Goal::Beyond(0.0, 0.0)),
    row("rate", "rate 99th", "  its 99th percentile", "us", Goal::Shown),
    row("login", "login", "full logins, ECDSA P-256", "/CPU s", Goal::More(1.8, 2.2)),
    row("login", "login rsa", "full logins, RSA-2048", "/CPU s", Goal::More(1.35, 1.5)),
    row("login", "login resumed", "resumed logins", "/CPU s", Goal::More(1.7, 2.0)),
    row("external", "external", "inbound servers by EXTERNAL", "/CPU s", Goal::More(3.0, 4.0)),
    row("handshake", "handshake", "handshake and goodbye, ECDSA P-256", "/CPU s", Goal::Shown),
    row("handshake", "handshake rsa", "handshake and goodbye, RSA-2048", "/CPU s", Goal::Shown),
    row("handshake", "handshake resumed", "TLS resumed and stream opened", "/CPU s", Goal::Shown),
    row("idle", "idle", "memory of an idle session", "KiB", Goal::Alone(13.0, 10.5)),
    row("idle", "idle cpu", "CPU while all idle", "ms/s", Goal::Alone(0.2, 0.0)),
    row("idle", "empty", "memory of the empty process", "MiB", Goal::Alone(16.0, 10.0)),
    row("silent", "silent", "CPU while visitors are silent", "ms/s", Goal::Alone(1.0, 0.1)),
    row("single", "single", "one login, alone", "ms", Goal::Alone(5.0, 2.0)),
    row("single", "nagle", "  its first answer, with Nagle less without", "ms", Goal::Alone(3.0, 1.0)),
    row("calm", "calm alone", "calm clients alone, an echo, median", "us", Goal::Shown),
    row("calm", "calm alone 99th", "  99th percentile", "us", Goal::Shown),
    row("calm", "calm", "  beside 8 that saturate, median", "us", Goal::Less(1.5, 1.0)),
    row("calm", "calm 99th", "  99th percentile", "us", Goal::Less(2.0, 1.0)),
    row("pairs", "pairs", "CPU of a message: many pairs of a stream to one", "x", Goal::Alone(1.3, 1.0)),
    row("pairs", "pairs one", "  of which with one", "us CPU", Goal::Shown),
    row("pairs", "pairs many", "  and with many", "us CPU", Goal::Shown),
    row("streams", "streams", "CPU of a message: many streams to ten", "x", Goal::Less(1.0, 0.9)),
    row("streams", "streams few", "  of which with ten", "us CPU", Goal::Shown),
    row("streams", "streams many", "  and with many", "us CPU", Goal::Shown),
    row(
        "rules",
        "rules",
        "CPU of a stanza: many rules, lists and patches to ten rules",
        "x",
        Goal::Alone(1.05, 1.0),
    ),
    row("rules", "start", "  start with them", "s", Goal::Alone(3.0, 1.0)),
    row("rules", "reload", "  reload of the rules", "s", Goal::Alone(2.0, 1.0)),
    row("rules", "rules memory", "  memory after the start", "MiB", Goal::Shown),
    row(
        "shadow",
        "shadow",
        "CPU of a stanza: another policy in the shadow to none",
        "x",
        Goal::Alone(1.15, 1.0),
    ),
    row("web", "web", "CPU of an echo: over WebSocket to without", "x", Goal::Alone(1.5, 1.15)),
    row("web", "web plain", "  of which without", "us CPU", Goal::Shown),
    row("web", "web framed", "  and over WebSocket", "us CPU", Goal::Shown),
    row(
        "reloads",
        "reloads",
        "memory, after all reloads of many rules to a tenth",
        "x",
        Goal::Alone(1.3, 1.05),
    ),
    row("reloads", "reloads memory", "  after the last of them", "MiB", Goal::Shown),
    row("reloads", "reloads 99th", "  calm clients, 99th percentile, to without", "x", Goal::Alone(3.0, 1.5)),
    row("threads", "threads", "two threads to one, echoes", "x", Goal::AloneAtLeast(1.85, 2.0)),
    row("threads", "threads mix", "  the mix from clients", "x", Goal::AloneAtLeast(1.85, 2.0)),
    row("threads", "threads login", "  logins", "x", Goal::AloneAtLeast(1.85, 2.0)),
];

const fn row(
    work: &'static str,
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    goal: Goal,
) -> Row {
    Row { key, work, title, unit, goal }
}

impl Row {
    /// Whether HAProxy does this too.
    pub fn is_compared(&self) -> bool {
        !matches!(self.work, "pairs" | "rules" | "shadow" | "web" | "reloads")
    }
}

/// The figures of all rounds: by row, those of the measure and ours.
#[derive(Default)]
pub struct Table {
    figures: BTreeMap<&'static str, [Vec<f64>; 2]>,
    /// The measure is another build, for every row.
    against: bool,
}

impl Table {
    /// No figures yet; the measure is HAProxy, or another build.
    pub fn new(against: bool) -> Self {
        Self { figures: BTreeMap::new(), against }
    }

    /// One more figure.
    pub fn put(&mut self, who: Who, key: &'static str, figure: f64) {
        let [theirs, ours] = self.figures.entry(key).or_default();
        if who == Who::Ours { ours.push(figure) } else { theirs.push(figure) }
    }

    /// The rows of which there are figures, with what is compared: for each round one, and the middle of them.
    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        ROWS.iter().filter_map(move |row| {
            let [theirs, ours] = self.figures.get(row.key)?;
            let pairs = theirs.iter().zip(ours);
            let (word, compared): (_, Vec<f64>) = match row.goal {
                _ if self.against => ("x", pairs.map(times).collect()),
                Goal::Alone(..) | Goal::AloneAtLeast(..) => ("", ours.clone()),
                // With `--ours` there is nothing that these could be held against.
                _ if theirs.is_empty() => ("", ours.clone()),
                Goal::Beyond(..) => ("+", pairs.map(|(theirs, ours)| ours - theirs).collect()),
                Goal::Less(..) | Goal::More(..) | Goal::Shown => ("x", pairs.map(times).collect()),
            };
            Some(Line { row, theirs, ours, word, compared, against: self.against })
        })
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let measure = if self.against { "other" } else { "HAProxy" };
        let head = ["", measure, "ours", "unit", "compared", "spread", "must", "aim", ""];
        let [title, theirs, ours, unit, compared, spread, must, aim, verdict] = head;
        let _ = writeln!(
            out,
            "{title:<52}{theirs:>10}{ours:>10} {unit:<10}{compared:>9}  {spread:<15}{must:>7}{aim:>7}  {verdict}"
        );
        for line in self.lines() {
            let Line { row, theirs, ours, word, compared, .. } = &line;
            let figure = |of: &[f64]| if of.is_empty() { "-".to_owned() } else { short(middle(of)) };
            let (least, most) = ends(compared);
            let (must, aim) = match row.goal {
                _ if self.against => (String::new(), String::new()),
                Goal::Alone(must, aim) | Goal::Beyond(must, aim) | Goal::Less(must, aim) => {
                    (format!("<={must}"), format!("<={aim}"))
                }
                Goal::AloneAtLeast(must, aim) | Goal::More(must, aim) => {
                    (format!(">={must}"), format!(">={aim}"))
                }
                Goal::Shown => (String::new(), String::new()),
            };
            let middle = format!("{word}{}", short(middle(compared)));
            let spread = format!("{}..{}", short(least), short(most));
            let _ = writeln!(
                out,
                "{:<52}{:>10}{:>10} {:<10}{middle:>9}  {spread:<15}{must:>7}{aim:>7}  {}",
                row.title,
                figure(theirs),
                figure(ours),
                row.unit,
                line.verdict()
            );
        }
        out
    }

    /// As JSON, with every figure.
    pub fn json(&self) -> serde_json::Value {
        let rows: Vec<_> = self
            .lines()
            .map(|line| {
                let (least, most) = ends(&line.compared);
                json!({
                    "key": line.row.key, "title": line.row.title.trim(), "unit": line.row.unit,
                    (if self.against { "other" } else { "haproxy" }): line.theirs, "gatehouse": line.ours, "compared": line.compared,
                    "median": middle(&line.compared), "least": least, "most": most, "verdict": line.verdict(),
                })
            })
            .collect();
        json!({ "rows": rows, "machine": super::meter::machine() })
    }

    /// The rows that lack a figure.
    #[allow(dead_code)] // for its test
    pub fn missing(&self) -> Vec<&'static str> {
        let lacks = |row: &&Row| {
            self.figures
                .get(row.key)
                .is_none_or(|[theirs, ours]| ours.is_empty() || (row.is_compared() && theirs.is_empty()))
        };
        ROWS.iter().filter(lacks).map(|row| row.key).collect()
    }
}

struct Line<'a> {
    row: &'a Row,
    theirs: &'a [f64],
    ours: &'a [f64],
    word: &'static str,
    compared: Vec<f64>,
    against: bool,
}

impl Line<'_> {
    fn verdict(&self) -> &'static str {
        let found = middle(&self.compared);
        if self.against {
            // A difference is one that every round has seen, and that is worth a word.
            let (least, most) = ends(&self.compared);
            let more_is_better = matches!(self.row.goal, Goal::AloneAtLeast(..) | Goal::More(..))
                || matches!(self.row.unit, "/CPU s");
            return match (least > 1.0 && found > 1.03, most < 1.0 && found < 0.97) {
                (false, false) => "as before",
                (more, _) if more == more_is_better => "better",
                _ => "WORSE",
            };
        }
        let (is_enough, is_aim) = match self.row.goal {
            Goal::Beyond(..) | Goal::Less(..) | Goal::More(..) if self.theirs.is_empty() => return "",
            Goal::Alone(must, aim) | Goal::Beyond(must, aim) | Goal::Less(must, aim) => {
                (found <= must, found <= aim)
            }
            Goal::AloneAtLeast(must, aim) | Goal::More(must, aim) => (found >= must, found >= aim),
            Goal::Shown => return "",
        };
        match (is_enough, is_aim) {
            (_, true) => "aim reached",
            (true, false) => "reached",
            (false, false) => "NOT REACHED",
        }
    }
}

/// How many times theirs ours is. What is less than the table can show counts as the least that it shows: none at all, or a
/// difference on the other side of nothing, has no ratio.
fn times((theirs, ours): (&f64, &f64)) -> f64 {
    const LEAST: f64 = 0.01;
    ours.max(LEAST) / theirs.max(LEAST)
}

fn middle(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ends(of: &[f64]) -> (f64, f64) {
    of.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| (least.min(*x), most.max(*x)))
}

fn short(figure: f64) -> String {
    match figure.abs() {
        0.0..10.0 => format!("{figure:.2}"),
        10.0..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}
