//! `gatehouse policy`: the living gateway's own judgement, told; what its rules are used for, and the policy that is to come.

mod learn;
mod promote;
mod shadow;

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::control::Gateway;
use super::{Console, Exit, Format, Reporting};
use crate::config;
use crate::gateway::explain::{Explained, Query};
use crate::gateway::protocol::Request;
use crate::jid::Jid;
use crate::policy::{self, CaseOutcome, Day, Finding};
use crate::reason::Flow;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Tell the verdict for a stanza, its reason, and every rule considered
    #[command(
        after_help = "Example: gatehouse policy explain --config gatehouse.yaml --from a@partner.example --to b@example.com"
    )]
    Explain(ExplainArgs),
    /// Write a policy file from what the audit log says was used, and from the pairs that live now
    #[command(
        after_help = "Example: gatehouse policy learn --config gatehouse.yaml --since 30d --output policies/learned.yaml"
    )]
    Learn(learn::Args),
    /// Make what is in the shadow the policy: shows what would come of it, asks, changes the configuration, and reloads
    #[command(after_help = "Example: gatehouse policy promote --config gatehouse.yaml")]
    Promote(promote::Args),
    /// Tell what the policy in the shadow would decide otherwise: pairs, rules, stanzas, since when, how much
    #[command(after_help = "Example: gatehouse policy shadow --config gatehouse.yaml")]
    Shadow(shadow::ShadowArgs),
    /// Run the `expect` cases of policy files, each file by itself
    #[command(after_help = "Example: gatehouse policy test policies/*.yaml")]
    Test(TestArgs),
    /// List rules and cases that were not used for a while
    #[command(after_help = "Example: gatehouse policy unused --for 90d --config gatehouse.yaml")]
    Unused(shadow::UnusedArgs),
}

/// Arguments of `policy explain`. Direction follows from which address is hosted.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The configuration; with --live, the one that names the control socket
    #[arg(long, value_name = "FILE", required_unless_present = "live")]
    config: Option<PathBuf>,
    /// Ask the running gateway: what is in force may differ from the files
    #[arg(long, conflicts_with = "today")]
    live: bool,
    /// The control socket of the running gateway
    #[arg(long, value_name = "PATH", requires = "live", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The sender; of a domain alone, lists are not asked about single addresses
    #[arg(long, value_name = "JID", value_parser = address_of)]
    from: String,
    /// The addressee
    #[arg(long, value_name = "JID", value_parser = address_of)]
    to: String,
    /// How the remote domain is proved [default: certificate; with --key, pin]
    #[arg(long, value_enum)]
    proof: Option<Proof>,
    /// The key that its server shows, as in `pins`; with `--proof pin` and without it, one that is pinned
    #[arg(long, value_name = "sha256:HEX")]
    key: Option<String>,
    /// The version of TLS on the stream
    #[arg(long, value_enum, default_value_t = Version::V13)]
    tls: Version,
    /// The remote server's address; without it, a rule that asks for a network is not met
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// Ask about the stream of a client, which patches look at: what it sends (inbound, and --from is the client), or what its server
    /// sends it (outbound, and --to is)
    #[arg(long, value_enum, conflicts_with_all = ["proof", "key", "ip"])]
    c2s: Option<Way>,
    /// The kind of the stanza
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The namespace of the stanza's payload
    #[arg(long, value_name = "NAMESPACE")]
    payload: Option<String>,
    /// A file with one whole stanza, - for the standard input: what rules and patches make of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "payload"])]
    stanza: Option<PathBuf>,
    /// The day to suppose, like 2027-01-31 [default: today]
    #[arg(long, value_name = "DATE", value_parser = day_of)]
    today: Option<Day>,
    #[command(flatten)]
    report: Reporting,
}

impl ExplainArgs {
    fn proof(&self) -> Proof {
        let assumed = if self.key.is_some() { Proof::Pin } else { Proof::Certificate };
        self.proof.unwrap_or(assumed)
    }
}

/// Arguments of `policy test`.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Policy files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The day to suppose, like 2027-01-31 [default: today]
    #[arg(long, value_name = "DATE", value_parser = day_of)]
    today: Option<Day>,
    #[command(flatten)]
    report: Reporting,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Proof {
    Pin,
    Dane,
    Certificate,
    Posh,
    Dialback,
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Version {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
    None,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    Inbound,
    Outbound,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Message,
    Presence,
    Iq,
}

pub(super) fn main(command: &Command, console: &mut Console) -> Exit {
    match command {
        Command::Explain(args) => explain(args, console),
        Command::Learn(args) => learn::main(args, console),
        Command::Promote(args) => promote::main(args, console),
        Command::Shadow(args) => shadow::shadow(args, console),
        Command::Test(args) => test(args, console),
        Command::Unused(args) => shadow::unused(args, console),
    }
}

fn explain(args: &ExplainArgs, console: &mut Console) -> Exit {
    let word = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|value| value.get_name().to_owned())
    };
    let flow = if args.c2s.is_some() { Flow::C2s } else { Flow::S2sIn };
    let stanza = match args.stanza.as_deref().map(|path| read_stanza(path, flow)).transpose() {
        Ok(stanza) => stanza,
        Err(message) => {
            console.complain(message);
            return Exit::Usage;
        }
    };
    let asked = Query {
        from: args.from.clone(),
        to: args.to.clone(),
        proof: word(&|| args.proof().to_possible_value()).unwrap_or_default(),
        key: args.key.clone(),
        tls: word(&|| args.tls.to_possible_value()).unwrap_or_default(),
        ip: args.ip,
        kind: args.kind.and_then(|kind| word(&|| kind.to_possible_value())),
        payload: args.payload.clone(),
        c2s: args.c2s.and_then(|way| word(&|| way.to_possible_value())),
        stanza,
    };
    let Some(config) = args.config.as_ref().filter(|_| !args.live) else {
        let gateway =
            Gateway { socket: args.socket.clone(), config: args.config.clone(), report: args.report };
        return super::control::ask(&gateway, &Request::Explain(asked), console);
    };
    let today = args.today.unwrap_or_else(super::today);
    let loaded = config::load(config).and_then(|(settings, _)| {
        let compiled = config::policies(&settings, today)?;
        let shadow = config::shadow(&settings, today).transpose()?;
        Ok((settings, compiled.policy.with_shadow(shadow.map(|shadow| shadow.policy))))
    });
    let (settings, policy) = match loaded {
        Ok(loaded) => loaded,
        Err(findings) => {
            console.complain_of(&findings);
            return Exit::Config;
        }
    };
    match crate::gateway::explain::explain(&settings, &policy, &asked) {
        Ok(Explained::Judged(explanation)) => {
            show(args, (&*explanation, &explanation.digest), console);
            if explanation.is_allow() { Exit::Done } else { Exit::No }
        }
        Ok(Explained::OfClient(explanation)) => {
            show(args, (&*explanation, &explanation.digest), console);
            if explanation.is_allow() { Exit::Done } else { Exit::No }
        }
        Ok(Explained::SameBackend { text, .. }) => {
            console.print(text);
            Exit::No
        }
        Err(message) => {
            console.complain(format_args!("error: {message}"));
            Exit::Usage
        }
    }
}

/// The stanza in a file.
///
/// # Errors
/// In words, why there is none.
fn read_stanza(path: &Path, flow: Flow) -> Result<String, String> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().take(LARGEST).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text)),
    };
    let told = |what: String, remedy: &str| format!("{}: error: {what}; {remedy}", path.display());
    match read {
        Ok(octets) if u64::try_from(octets).unwrap_or(LARGEST) < LARGEST => {
            if text.starts_with('\u{feff}') {
                text.drain(..'\u{feff}'.len_utf8());
            }
            policy::is_stanza(&text, flow).map_err(|why| {
                told(format!("the stanza {why}"), "write one whole stanza, as it would stand on a stream")
            })?;
            Ok(text)
        }
        Ok(_) => Err(told("no stanza is so long".to_owned(), "write one whole stanza alone")),
        Err(error) => Err(told(
            format!("cannot be read: {error}"),
            "check the path, its permissions and that it is text",
        )),
    }
}

/// Octets of a file with a stanza.
const LARGEST: u64 = 16 << 20;

fn show<E: Serialize + ToString>(
    args: &ExplainArgs,
    (explanation, digest): (&E, &str),
    console: &mut Console,
) {
    match args.report.format {
        Format::Json => console.json(explanation),
        Format::Text => {
            let text = explanation.to_string();
            if console.is_quiet() {
                console.line(text.lines().next().unwrap_or_default());
            } else {
                console.print(text);
            }
            if console.is_verbose() {
                console.line(format_args!("policy:     {digest}"));
            }
        }
    }
}

#[derive(Serialize)]
struct TestReport {
    passed: usize,
    failed: usize,
    cases: Vec<CaseOutcome>,
    findings: Vec<Finding>,
}

fn test(args: &TestArgs, console: &mut Console) -> Exit {
    let today = args.today.unwrap_or_else(super::today);
    let mut report = TestReport { passed: 0, failed: 0, cases: Vec::new(), findings: Vec::new() };
    for path in &args.files {
        if let Some((source, findings, spoilt)) = config::patch_source(path) {
            // A case that fails is told as a case.
            let mut more = findings.clone();
            let cases = policy::try_patches(&source, today, &mut more);
            report.cases.extend(cases.into_iter().flatten());
            more.drain(..findings.len());
            config::leave_out(&mut more, &spoilt);
            report.findings.extend(findings.into_iter().chain(more));
            continue;
        }
        let (source, mut findings, spoilt) = config::policy_source(path);
        let input = policy::stand_alone(source, today);
        let (policy, mut more) = policy::build(&input);
        config::leave_out(&mut more, &spoilt);
        findings.extend(more);
        let sound = !findings.iter().any(Finding::is_error);
        if let Some(policy) = policy.filter(|_| sound) {
            report.cases.extend(policy::run_cases(&policy, &input.sources));
        }
        report.findings.extend(findings);
    }
    report.passed = report.cases.iter().filter(|case| case.passed).count();
    report.failed = report.cases.len() - report.passed;
    let broken = report.findings.iter().any(Finding::is_error);
    match args.report.format {
        Format::Json => console.json(&report),
        Format::Text => print_tests(&report, console),
    }
    match (broken, report.failed) {
        (true, _) => Exit::Config,
        (false, 0) => Exit::Done,
        (false, _) => Exit::No,
    }
}

fn print_tests(report: &TestReport, console: &mut Console) {
    console.findings(&report.findings);
    for case in &report.cases {
        let word = console.mark(if case.passed { "ok" } else { "FAILED" }, case.passed);
        match &case.finding {
            Some(finding) => console.line(format_args!("{word} {finding}")),
            None if console.is_quiet() => {}
            None => console
                .line(format_args!("{word} {}: {} -> {}: {}", case.place, case.from, case.to, case.outcome)),
        }
    }
    if !console.is_quiet() {
        console.line(format_args!("{} passed, {} failed", report.passed, report.failed));
    }
}

fn address_of(text: &str) -> Result<String, String> {
    let read = Jid::parse(text).or_else(|error| Jid::parse_rfc7622(text).map_err(|_| error));
    read.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn day_of(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "no date; write it like 2027-01-31".to_owned())
}
