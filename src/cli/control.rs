//! `streams`, `circuits`, `close`, `ban`, `unban`, `bans`, `reload` and `drain`: a request to a running gateway over its socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Console, Exit, Format, Reporting};
use crate::gateway::protocol::{Answer, Circuit, CountedStream, OfNode, Passed, Request, Stream};

/// Which gateway, and how it is told.
#[derive(Debug, clap::Args)]
pub(super) struct Gateway {
    /// The control socket of the gateway; without it, that of --config, or /run/gatehouse/control.sock
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// The configuration of the gateway, which names its control socket
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) report: Reporting,
}

impl Gateway {
    /// The socket that is meant. A configuration is asked for nothing else, so that it may be wrong otherwise: that is when
    /// one wants to look.
    ///
    /// # Errors
    /// In words, why there is none.
    pub(super) fn socket(&self) -> Result<PathBuf, String> {
        match (&self.socket, &self.config) {
            (Some(socket), _) => Ok(socket.clone()),
            (None, None) => Ok(PathBuf::from(SOCKET)),
            (None, Some(file)) => {
                let settings = crate::config::examine(file).settings;
                let settings = settings.ok_or_else(|| format!("{} cannot be read", file.display()))?;
                let none = || format!("{} names no `admin: {{ socket: .. }}`", file.display());
                settings.admin.socket.ok_or_else(none)
            }
        }
    }
}

impl PlainArgs {
    /// Which gateway.
    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }
}

/// Arguments of commands that are about nobody in particular.
#[derive(Debug, clap::Args)]
pub(super) struct PlainArgs {
    #[command(flatten)]
    gateway: Gateway,
}

/// A gateway that is asked for itself, or for all that share a store with it.
#[derive(Debug, clap::Args)]
pub(super) struct OneOrAll {
    /// Of all nodes that share a store with that gateway
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// A gateway that is told something which others hear of by the store.
#[derive(Debug, clap::Args)]
pub(super) struct Sharing {
    /// Wait until the store has it that other nodes share with that gateway, and tell
    #[arg(long)]
    pub(super) cluster: bool,
    #[command(flatten)]
    pub(super) gateway: Gateway,
}

/// Arguments of `circuits`.
#[derive(Debug, clap::Args)]
pub(super) struct CircuitsArgs {
    /// Forget what is held against this remote domain, so that it is tried at once
    #[arg(long, value_name = "DOMAIN")]
    clear: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

/// Arguments of `close`.
#[derive(Debug, clap::Args)]
pub(super) struct CloseArgs {
    /// The name of a stream, a domain (all streams between servers that carry it), or the address of a client
    #[arg(value_name = "STREAM|DOMAIN|JID")]
    target: String,
    /// On all nodes that share a store with that gateway
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// Arguments of `ban`.
#[derive(Debug, clap::Args)]
pub(super) struct BanArgs {
    /// Whom: an address, a network, or a domain with all below it
    #[arg(value_name = "ADDRESS|NETWORK|DOMAIN")]
    target: String,
    /// For how long, like 30m or 24h
    #[arg(long = "for", value_name = "TIME", value_parser = crate::config::duration)]
    time: Duration,
    #[command(flatten)]
    sharing: Sharing,
}

/// Arguments of `unban`.
#[derive(Debug, clap::Args)]
pub(super) struct UnbanArgs {
    /// Whom
    #[arg(value_name = "ADDRESS|NETWORK|DOMAIN")]
    target: String,
    #[command(flatten)]
    sharing: Sharing,
}

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    /// Only tell which streams would end and which verdicts would change
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) fn streams(args: &OneOrAll, console: &mut Console) -> Exit {
    ask(&args.gateway, &Request::Streams { cluster: args.cluster }, console)
}

pub(super) fn circuits(args: &CircuitsArgs, console: &mut Console) -> Exit {
    ask(&args.gateway, &Request::Circuits { clear: args.clear.clone() }, console)
}

pub(super) fn cluster(args: &PlainArgs, console: &mut Console) -> Exit {
    ask(&args.gateway, &Request::Cluster {}, console)
}

pub(super) fn bans(args: &PlainArgs, console: &mut Console) -> Exit {
    ask(&args.gateway, &Request::Bans {}, console)
}

pub(super) fn drain(args: &PlainArgs, console: &mut Console) -> Exit {
    ask(&args.gateway, &Request::Drain {}, console)
}

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Which page of the pairs
    #[arg(long, value_name = "N", default_value_t = 1)]
    page: usize,
    #[command(flatten)]
    of: OneOrAll,
}

pub(super) fn status(args: &StatusArgs, console: &mut Console) -> Exit {
    ask(&args.of.gateway, &Request::Status { page: args.page, cluster: args.of.cluster }, console)
}

pub(super) fn close(args: &CloseArgs, console: &mut Console) -> Exit {
    ask(&args.gateway, &Request::Close { target: args.target.clone(), cluster: args.cluster }, console)
}

pub(super) fn ban(args: &BanArgs, console: &mut Console) -> Exit {
    // A part of a second counts as a whole one.
    let seconds = args.time.as_millis().div_ceil(1000);
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    ask(
        &args.sharing.gateway,
        &Request::Ban { target: args.target.clone(), seconds, cluster: args.sharing.cluster },
        console,
    )
}

pub(super) fn unban(args: &UnbanArgs, console: &mut Console) -> Exit {
    ask(
        &args.sharing.gateway,
        &Request::Unban { target: args.target.clone(), cluster: args.sharing.cluster },
        console,
    )
}

pub(super) fn reload(args: &ReloadArgs, console: &mut Console) -> Exit {
    ask(&args.gateway, &Request::Reload { plan: args.plan }, console)
}

/// Has a running gateway answer, and prints what it says.
pub(super) fn ask(gateway: &Gateway, request: &Request, console: &mut Console) -> Exit {
    let answer = match answer_of(gateway, request, console) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    show(gateway, &answer, console);
    match answer {
        // No verdict: the question makes no sense there.
        Answer::Refused { .. } if matches!(request, Request::Explain(_)) => Exit::Usage,
        Answer::Refused { .. } | Answer::Explained { allow: false, .. } => Exit::No,
        _ => Exit::Done,
    }
}

/// Prints an answer as it was asked for.
pub(super) fn show(gateway: &Gateway, answer: &Answer, console: &mut Console) {
    match (gateway.report.format, answer) {
        (Format::Json, Answer::Explained { explanation, .. }) => console.json(explanation),
        (Format::Json, answer) => console.json(answer),
        (Format::Text, answer) => print(answer, console),
    }
}

/// What the gateway that is meant answers; or how the command ends, which was said why.
pub(super) fn answer_of(gateway: &Gateway, request: &Request, console: &mut Console) -> Result<Answer, Exit> {
    let socket = gateway.socket().map_err(|message| {
        console.complain(message);
        Exit::Config
    })?;
    talk(&socket, request).map_err(|message| {
        console.complain(format_args!("{}: {message}", socket.display()));
        if gateway.config.is_some() {
            console.complain("if the file names another `admin: { socket }` than the running gateway has, name that with --socket");
        }
        Exit::NoGateway
    })
}

/// One request, and its answer.
///
/// # Errors
/// In words, why there is none.
pub(super) fn talk(socket: &Path, request: &Request) -> Result<Answer, String> {
    let mut stream =
        UnixStream::connect(socket).map_err(|error| format!("no running gateway answers there: {error}"))?;
    let broken = |error: std::io::Error| format!("the gateway does not answer: {error}");
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut heard = Vec::new();
    BufReader::new(stream).take(LONGEST).read_until(b'\n', &mut heard).map_err(broken)?;
    serde_json::from_slice(&heard).map_err(|error| format!("this is no answer of a gateway: {error}"))
}

fn print(answer: &Answer, console: &mut Console) {
    if let Answer::Refused { message, findings } = answer {
        for finding in findings {
            console.complain(&finding.text);
        }
        return console.complain(message);
    }
    if console.is_quiet() {
        return;
    }
    match answer {
        Answer::Streams { streams, silent } => print_streams(streams, *silent, console),
        Answer::Circuits { circuits, cleared } => {
            if let Some(domain) = cleared {
                console.line(format_args!("nothing is held against {domain} any more"));
            }
            for circuit in circuits {
                print_circuit(circuit, console);
            }
            console.line(format_args!("{} circuits", circuits.len()));
        }
        Answer::Closed { streams, cluster } => {
            for stream in streams {
                console.line(format_args!("closed {stream}"));
            }
            if *cluster {
                console.line("the other nodes are told");
            }
        }
        Answer::Cluster { cluster } => console.print(crate::status::text::cluster(cluster)),
        Answer::Banned { target, seconds, pairs, connections, cluster } => {
            console.line(format_args!(
                "{target} is banned for {seconds} s; {pairs} pairs and {connections} other connections end"
            ));
            print_passed(cluster.as_ref(), console);
        }
        Answer::Unbanned { target, cluster } => {
            console.line(format_args!("{target} is no longer banned"));
            print_passed(cluster.as_ref(), console);
        }
        Answer::Nodes { nodes, silent } => {
            for OfNode { node, host, answer } in nodes {
                console.line(format_args!("== {host} ({node})"));
                print(answer, console);
            }
            print_silent(silent, console);
        }
        Answer::Bans { bans } => {
            for ban in bans {
                console.line(format_args!("{:<40} {} s more, by user {}", ban.target, ban.seconds, ban.uid));
            }
            console.line(format_args!("{} bans", bans.len()));
        }
        Answer::Quarantine { domains } => super::settled::print(domains, console),
        Answer::Settled { domain, word, seen, pairs, overruled, cluster } => {
            super::settled::print_settled(domain, *word, (*seen, *pairs), overruled.as_deref(), console);
            print_passed(cluster.as_ref(), console);
        }
        Answer::Reloaded { plan } => {
            super::plan::print(plan, console);
            console.line("reloaded");
        }
        Answer::Planned { plan } => {
            super::plan::print(plan, console);
            console.line("nothing was changed");
        }
        Answer::Restarting { relays, seconds, .. } => {
            console.line(format_args!("restarting: {relays} streams end first, within {seconds} s"));
        }
        Answer::Config { .. } => print_config(answer, console),
        Answer::Explained { text, .. } => console.print(text),
        Answer::Draining { relays, seconds } => {
            console.line(format_args!("draining: {relays} streams, {seconds} s at most"));
        }
        Answer::Logging { level, area, seconds } => {
            let area = area.as_deref().unwrap_or("everything");
            let time = seconds.map(|seconds| format!(" for {seconds} s")).unwrap_or_default();
            console.line(format_args!("logging {area} at {level}{time}"));
        }
        Answer::Status { snapshot } => console.print(crate::status::text::write(snapshot)),
        Answer::Refusals { refusals } => {
            if refusals.is_empty() {
                console.line("nothing was refused");
            }
            refusals.iter().for_each(|refusal| console.print(super::refusal_text::text(refusal)));
        }
        Answer::Peers { peers, more, kept } => console.print(super::refusal_text::peers(peers, *more, *kept)),
        Answer::Recognised { faces, approved, .. } => {
            let word = if *approved { "approved" } else { "dismissed" };
            console.print(super::refusal_text::settled(faces, word));
        }
        Answer::Forgotten { faces, streams } => {
            console.print(super::refusal_text::settled(faces, "forgotten"));
            console.line(format_args!("{streams} streams ended here"));
        }
        Answer::Refused { .. } | Answer::Shadow { .. } | Answer::Unused { .. } | Answer::Target { .. } => {}
    }
}

fn print_passed(passed: Option<&Passed>, console: &mut Console) {
    match passed {
        Some(Passed { trouble: None }) => console.line("the other nodes are told"),
        Some(Passed { trouble: Some(why) }) => {
            console.complain(format_args!("the other nodes hear of it when the store is back: {why}"));
        }
        None => {}
    }
}

pub(super) fn print_silent(silent: &[String], console: &mut Console) {
    for host in silent {
        console.complain(format_args!("{host} did not answer in time"));
    }
}

fn print_config(answer: &Answer, console: &mut Console) {
    let Answer::Config { file, digest, policy, stale, closed, lines } = answer else { return };
    console.line(format_args!("# {file}, digest {digest}, policy {policy}"));
    for line in lines {
        let mark = if line.default { "   # default" } else { "" };
        console.line(format_args!("{}: {}{mark}", line.key, line.value));
    }
    for file in stale {
        console.line(format_args!("# differs on the disk: {file}"));
    }
    for domain in closed {
        console.line(format_args!("# closed, for lack of a certificate: {domain}"));
    }
}

fn print_streams(streams: &[Stream], silent: usize, console: &mut Console) {
    for stream in streams {
        print_stream(stream, console);
    }
    let pairs: usize = streams.iter().map(|stream| stream.pairs.len()).sum();
    console.line(format_args!("{} streams, {pairs} pairs", streams.len()));
    if silent > 0 {
        console.line(format_args!("{silent} did not answer"));
    }
}

fn print_stream(stream: &Stream, console: &mut Console) {
    let peer = stream.peer.as_deref().unwrap_or("-");
    let head =
        format!("{}  {}  {}  from {peer}  since {}", stream.stream, stream.flow, stream.kind, stream.since);
    console.line(head);
    if let Some(client) = &stream.client {
        console.line(format_args!(
            "    {}  TLS {}  {} stanzas  {} octets",
            client.jid,
            client.tls.as_deref().unwrap_or("none"),
            client.stanzas,
            client.octets
        ));
    }
    for pair in &stream.pairs {
        let tls = pair.tls.as_deref().unwrap_or("none");
        console.line(format_args!(
            "    {} > {}{}  proof {}  TLS {tls}  rule {}  {} stanzas  {} octets{}",
            pair.from,
            pair.to,
            if pair.back { "  back" } else { "" },
            pair.proof,
            pair.rule,
            pair.stanzas,
            pair.octets,
            pair.managed.map(counted).unwrap_or_default()
        ));
        if console.is_verbose() {
            let (address, print) = (pair.address.as_deref(), pair.fingerprint.as_deref());
            console.line(format_args!(
                "        address {}  certificate {}",
                address.unwrap_or("-"),
                print.unwrap_or("none")
            ));
        }
    }
}

/// What stream management makes of a pair.
fn counted(managed: CountedStream) -> String {
    let resumes = if managed.resumes { "resumable" } else { "counted" };
    format!("  {resumes}, {} not acknowledged", managed.unacknowledged)
}

fn print_circuit(circuit: &Circuit, console: &mut Console) {
    let hosted = circuit.hosted.as_deref().unwrap_or("all");
    console.line(format_args!(
        "{}  for {hosted}  {}  {} failures ({})  since {} s  next attempt {}  not tried {} times",
        circuit.domain,
        circuit.state,
        circuit.failures,
        circuit.reason,
        circuit.since,
        match circuit.next.div_ceil(1000) {
            0 => "with the next stanza".to_owned(),
            seconds => format!("with the first stanza in {seconds} s"),
        },
        circuit.untried
    ));
}

/// Where `deploy/gatehouse.service` has it.
const SOCKET: &str = "/run/gatehouse/control.sock";

/// How long the gateway may take: a reload reads files and asks every stream.
const PATIENCE: Duration = Duration::from_secs(60);

/// Octets of an answer.
const LONGEST: u64 = 256 << 20;
