//! `gatehouse policy learn`: a policy file from what the audit log says was used, and from the pairs that live now.

mod decided;
mod propose;
mod write;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use self::propose::{Proposal, Traffic};
use super::super::{Console, Exit, Format, Reporting, audit, control};
use crate::config;
use crate::gateway::protocol::{Answer, Request};
use crate::jid::Domain;
use crate::policy::Tls;
use crate::reason::{Direction, Flow};

/// Arguments of `policy learn`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The configuration: it names the audit log, the policy in force and the control socket
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How far back, like 24h or 30d
    #[arg(long, value_name = "TIME", value_parser = audit::time, default_value = "30d")]
    since: Duration,
    /// The hosted domain whose partners are learned; needed where there are several
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Learn also those whom a rule allows already, for a file that takes the place of all others
    #[arg(long)]
    all: bool,
    /// The control socket of the running gateway; without it, that of --config
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The file to write, which must not be there yet; without it, standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    report: Reporting,
    /// Audit files, in any order; without them, those of --config
    #[arg(value_name = "AUDIT-FILE")]
    files: Vec<PathBuf>,
}

/// A record, as far as it is needed here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record {
    time: String,
    event: String,
    flow: String,
    pair: Option<String>,
    tls: Option<String>,
    proof: Option<String>,
    server_proof: Option<String>,
    reason: String,
    stanzas: u64,
    octets: u64,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let loaded = config::load(&args.config).and_then(|(settings, _)| {
        let compiled = config::policies(&settings, super::super::today())?;
        Ok((settings, compiled.policy))
    });
    let (settings, policy) = match loaded {
        Ok(loaded) => loaded,
        Err(findings) => {
            console.complain_of(&findings);
            return Exit::Config;
        }
    };
    let hosted = match wanted(args.domain.as_deref(), policy.hosted()) {
        Ok(hosted) => hosted,
        Err(message) => {
            console.complain(message);
            return Exit::Usage;
        }
    };
    let mut seen = Seen::new(hosted.clone(), args.since);
    let files = match args.files.is_empty() {
        false => Ok(args.files.clone()),
        true => audit::files_of(&args.config),
    };
    let files = match files {
        Ok(files) => files,
        Err(message) => {
            console.complain(message);
            return Exit::Config;
        }
    };
    for file in &files {
        let read = File::open(file)
            .and_then(|open| audit::lines(BufReader::new(open), |_, octets| seen.line(octets)));
        if let Err(error) = read {
            console.complain(format_args!("{}: cannot be read: {error}", file.display()));
            return Exit::No;
        }
    }
    let socket = args.socket.as_deref().or(settings.admin.socket.as_deref());
    match living(socket) {
        Ok(answer) => seen.living(answer),
        Err(message) => console.complain(format_args!(
            "warning: {message}; what is learned comes from the audit log alone, in which a pair stands when it ends"
        )),
    }
    let policy = decided::under(&policy, &settings, socket);
    let proposal = propose::propose(&seen, &policy, args.all);
    let text = write::file(&proposal, &hosted, args.since);
    if let Err(findings) = write::prove(&text) {
        console.complain_of(&findings);
        console.complain("this is a fault of the gateway; report it");
        return Exit::Fault;
    }
    if let Some(path) = &args.output {
        let written = OpenOptions::new().write(true).create_new(true).open(path);
        if let Err(error) = written.and_then(|mut file| file.write_all(text.as_bytes())) {
            console.complain(format_args!("{}: {error}; nothing was written there", path.display()));
            return Exit::No;
        }
    }
    tell(args, &proposal, &text, console);
    Exit::Done
}

fn tell(args: &Args, proposal: &Proposal, text: &str, console: &mut Console) {
    let cases: usize = proposal.rules.iter().map(|rule| rule.cases.len()).sum();
    let words =
        format!("{} rules, {} cases, {} left out", proposal.rules.len(), cases + 1, proposal.left_out.len());
    match (args.report.format, &args.output) {
        (Format::Json, _) => {
            #[derive(serde::Serialize)]
            struct Report<'a> {
                file: Option<String>,
                text: &'a str,
                rules: usize,
                cases: usize,
                left_out: &'a [propose::LeftOut],
            }
            console.json(&Report {
                file: args.output.as_ref().map(|path| path.display().to_string()),
                text,
                rules: proposal.rules.len(),
                cases: cases + 1,
                left_out: &proposal.left_out,
            });
        }
        (Format::Text, Some(path)) => console.line(format_args!("{}: {words}", path.display())),
        (Format::Text, None) => {
            console.print(text);
            if !console.is_quiet() {
                console.complain(words);
            }
        }
    }
}

fn wanted<'a>(named: Option<&str>, mut hosted: impl Iterator<Item = &'a Domain>) -> Result<Domain, String> {
    let Some(name) = named else {
        let first = hosted.next().cloned();
        return match (first, hosted.next()) {
            (Some(only), None) => Ok(only),
            _ => Err("several domains are served here: name one with --domain, for each has its own list"
                .to_owned()),
        };
    };
    let domain = Domain::parse(name).map_err(|error| format!("\"{name}\" is no domain: {error}"))?;
    match hosted.any(|hosted| *hosted == domain) {
        true => Ok(domain),
        false => Err(format!("{domain} is not served here")),
    }
}

fn living(socket: Option<&Path>) -> Result<Answer, String> {
    let socket = socket.ok_or_else(|| "no control socket is named".to_owned())?;
    control::talk(socket, &Request::Streams { cluster: false })
        .map_err(|message| format!("{}: {message}", socket.display()))
}

/// What was seen of the pairs of one hosted domain.
#[derive(Debug)]
struct Seen {
    hosted: Domain,
    begin: Option<Timestamp>,
    /// By remote domain.
    traffic: BTreeMap<Domain, Traffic>,
    /// What was refused, and never let in: by remote domain, the reason that was given last and how often.
    refused: BTreeMap<Domain, (String, u64)>,
    /// Pairs whose words are no domains.
    unreadable: u64,
}

impl Seen {
    fn new(hosted: Domain, since: Duration) -> Self {
        Self {
            hosted,
            begin: Timestamp::now().checked_sub(since).ok(),
            traffic: BTreeMap::new(),
            refused: BTreeMap::new(),
            unreadable: 0,
        }
    }

    /// A line of the audit log.
    fn line(&mut self, octets: &[u8]) {
        let Ok(record) = serde_json::from_slice::<Record>(octets) else { return };
        let at = record.time.parse::<Timestamp>().ok();
        if self.begin.is_some_and(|begin| at.is_none_or(|at| at < begin)) {
            return;
        }
        let Some((remote, direction)) = self.pair(record.pair.as_deref(), &record.flow) else { return };
        match record.event.as_str() {
            "admitted" | "ended" => {
                let proof = match direction {
                    Direction::Inbound => record.proof.as_deref(),
                    // Outbound it is the other server that has to prove itself.
                    // Where the record names none, dialback was all that was asked of it.
                    Direction::Outbound => Some(record.server_proof.as_deref().unwrap_or("dialback")),
                };
                let tls = tls_of(record.tls.as_deref());
                let way = self.traffic.entry(remote).or_default().way(direction);
                way.times += u64::from(record.event == "admitted");
                // The end tells of the whole life; what is learned of the proof is told at the beginning, too.
                way.note(proof, Some(tls), (record.stanzas, record.octets), &record.time);
            }
            "rejected" => {
                let refused = self.refused.entry(remote).or_default();
                *refused = (record.reason, refused.1 + 1);
            }
            _ => {}
        }
    }

    /// What lives now.
    fn living(&mut self, answer: Answer) {
        let Answer::Streams { streams, .. } = answer else { return };
        let now = Timestamp::now().to_string();
        for stream in streams {
            for pair in stream.pairs {
                let name = format!("{}>{}", pair.from, pair.to);
                let Some((remote, direction)) = self.pair(Some(&name), &stream.flow) else { continue };
                let proof = match direction {
                    Direction::Inbound => Some(pair.proof.as_str()),
                    // None is told by a gateway of an earlier version.
                    Direction::Outbound => pair.server_proof.as_deref(),
                };
                let way = self.traffic.entry(remote).or_default().way(direction);
                way.times = way.times.max(1);
                way.note(proof, Some(tls_of(pair.tls.as_deref())), (pair.stanzas, pair.octets), &now);
            }
        }
    }

    /// The remote domain of a pair with our hosted domain, and which way it goes.
    fn pair(&mut self, pair: Option<&str>, flow: &str) -> Option<(Domain, Direction)> {
        let (from, to) = pair?.split_once('>')?;
        // A stream may carry pairs both ways (XEP-0288): which way one goes is told by who is who.
        if ![Flow::S2sIn, Flow::S2sOut].iter().any(|s2s| s2s.label() == flow) {
            return None;
        }
        let (direction, remote) = match self.hosted.as_str() {
            hosted if hosted == to => (Direction::Inbound, from),
            hosted if hosted == from => (Direction::Outbound, to),
            _ => return None,
        };
        let remote = Domain::parse(remote).ok();
        self.unreadable += u64::from(remote.is_none());
        Some((remote?, direction))
    }
}

fn tls_of(label: Option<&str>) -> Tls {
    match label {
        Some("1.3") => Tls::V13,
        Some("1.2") => Tls::V12,
        _ => Tls::None,
    }
}

#[cfg(test)]
#[path = "learn_tests.rs"]
mod tests;
