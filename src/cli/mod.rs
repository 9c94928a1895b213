//! The command line: one file for each command, one list of exit codes for all.
//!
//! A command is a file with `Args` and `main(&Args, &mut Console) -> Exit`; it is named here once in `Command` and once in
//! [`main`]. The clock is read here and handed down as a day.

mod audit;
mod check;
mod config;
mod console;
mod control;
#[cfg(feature = "demo")]
mod demo;
mod grade;
mod init;
mod log;
mod louder;
mod once;
mod peers;
mod plan;
mod policy;
mod probe;
mod quarantine;
mod refusal_text;
mod refusals;
mod restart;
mod run;
mod served;
mod settled;
mod shell;
mod talk;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub use console::Console;

use self::console::Volume;
use crate::policy::Day;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; the answer is yes.
    Done,
    /// The answer is no.
    No,
    /// Wrong use.
    Usage,
    /// No running gateway at that socket.
    NoGateway,
    /// Our fault.
    Fault,
    /// The configuration is wrong.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::Usage => 64,
            Exit::NoGateway => 69,
            Exit::Fault => 70,
            Exit::Config => 78,
        })
    }
}

/// XMPP federation gateway: TLS, proof of identity, policy and strict framing in front of a server that speaks plain TCP.
#[derive(Debug, Parser)]
#[command(name = "gatehouse", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "To begin with: gatehouse init --help\n\nExit codes: 0 done, 1 the answer is no, 64 wrong use, 69 no running gateway at that socket, \
                        70 our fault, 78 configuration."
)]
pub struct Cli {
    /// Print only what is wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    fn volume(&self) -> Volume {
        match (self.quiet, self.verbose) {
            (true, _) => Volume::Quiet,
            (_, true) => Volume::Verbose,
            (false, false) => Volume::Usual,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check audit files, and tell what they say
    #[command(subcommand, after_help = "Example: gatehouse audit verify /var/log/gatehouse/audit.jsonl")]
    Audit(audit::Command),
    /// Take nothing from an address, a network or a domain for a while
    #[command(after_help = "Example: gatehouse ban spam.example --for 24h")]
    Ban(control::BanArgs),
    /// List the bans of a running gateway
    #[command(after_help = "Example: gatehouse bans")]
    Bans(control::PlainArgs),
    /// Read everything that `run` would read and print every finding
    #[command(after_help = "Example: gatehouse check --config gatehouse.yaml")]
    Check(check::Args),
    /// List remote domains that did not answer a running gateway lately: since when, why, and the next attempt
    #[command(after_help = "Example: gatehouse circuits --clear partner.example")]
    Circuits(control::CircuitsArgs),
    /// End streams of a running gateway
    #[command(after_help = "Example: gatehouse close partner.example")]
    Close(control::CloseArgs),
    /// Tell how it stands with the nodes that share a store with a running gateway: versions, digests, differences, the store
    #[command(after_help = "Example: gatehouse cluster")]
    Cluster(control::PlainArgs),
    /// Print completions for a shell
    #[command(after_help = "Example: gatehouse completions bash > /etc/bash_completion.d/gatehouse")]
    Completions(shell::CompletionsArgs),
    /// Play a small world in one process and tell what happens in it
    #[command(after_help = "Example: gatehouse demo")]
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    /// See what is in force in a running gateway
    #[command(subcommand, after_help = "Example: gatehouse config dump")]
    Config(config::Command),
    /// Let a running gateway end in good order
    #[command(after_help = "Example: gatehouse drain")]
    Drain(control::PlainArgs),
    /// Look at a domain as the world sees it: DNS, TLS, certificate; what to publish, and what to do
    #[command(after_help = "Example: gatehouse grade example.com --config gatehouse.yaml --next next.pem")]
    Grade(grade::Args),
    /// Write a first configuration that admits nobody yet
    Init(init::Args),
    /// Have a running gateway log otherwise for a while
    #[command(after_help = "Example: gatehouse log debug --area dns --for 10m")]
    Log(louder::Args),
    /// Print the manual page
    #[command(after_help = "Example: gatehouse man | man -l -")]
    Man,
    /// Tell how remote domains were proven to a running gateway, what has changed, and approve what waits
    #[command(after_help = "Example: gatehouse peers approve partner.example")]
    Peers(peers::PeersArgs),
    /// Ask what the policy says, or test policy files
    #[command(subcommand, after_help = "Example: gatehouse policy test policies/partners.yaml")]
    Policy(policy::Command),
    /// Reach a remote domain as the gateway would, and tell how far it gets
    #[command(after_help = "Example: gatehouse probe partner.example --config gatehouse.yaml")]
    Probe(probe::Args),
    /// Tell who is in quarantine at a running gateway, and let them out or shut them out
    #[command(subcommand, after_help = "Example: gatehouse quarantine list")]
    Quarantine(quarantine::Command),
    /// Tell what was refused last: who, what, which rule or limit, and what to do
    #[command(after_help = "Example: gatehouse refusals --domain partner.example --last 5")]
    Refusals(refusals::Args),
    /// Let a running gateway read its configuration and every file that it names again
    #[command(after_help = "Example: gatehouse reload --plan")]
    Reload(control::ReloadArgs),
    /// Check the files, let a running gateway end in good order, and have it begin anew with its sockets held open
    #[command(after_help = "Example: gatehouse restart")]
    Restart(control::PlainArgs),
    /// Run the gateway in the foreground
    #[command(after_help = "Example: gatehouse run --config gatehouse.yaml")]
    Run(run::Args),
    /// Tell how a running gateway is: servers behind, certificates, pairs, refusals, rules, bans, limits
    #[command(after_help = "Example: gatehouse status --config gatehouse.yaml")]
    Status(control::StatusArgs),
    /// List the streams of a running gateway; a client's is shown without its name
    #[command(after_help = "Example: gatehouse streams --format json")]
    Streams(control::OneOrAll),
    /// Lift a ban
    #[command(after_help = "Example: gatehouse unban spam.example")]
    Unban(control::UnbanArgs),
}

/// The form of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// JSON for programs
    Json,
    /// Text for people
    #[default]
    Text,
}

/// How a command reports.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Reporting {
    /// The form of the report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command that the arguments name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; everything else, no command at all included, is wrong use.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return if error.print().is_ok() { exit } else { Exit::Fault };
        }
    };
    let mut console = Console::new(cli.volume());
    let exit = match &cli.command {
        Command::Audit(command) => audit::main(command, &mut console),
        Command::Ban(args) => control::ban(args, &mut console),
        Command::Bans(args) => control::bans(args, &mut console),
        Command::Check(args) => check::main(args, &mut console),
        Command::Circuits(args) => control::circuits(args, &mut console),
        Command::Close(args) => control::close(args, &mut console),
        Command::Cluster(args) => control::cluster(args, &mut console),
        Command::Completions(args) => shell::completions(args, &mut console),
        Command::Config(command) => config::main(command, &mut console),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::main(args, &mut console),
        Command::Drain(args) => control::drain(args, &mut console),
        Command::Grade(args) => grade::main(args, &mut console),
        Command::Init(args) => init::main(args, &mut console),
        Command::Log(args) => louder::main(args, &mut console),
        Command::Man => shell::man(&mut console),
        Command::Peers(args) => peers::main(args, &mut console),
        Command::Policy(command) => policy::main(command, &mut console),
        Command::Probe(args) => probe::main(args, &mut console),
        Command::Quarantine(command) => quarantine::main(command, &mut console),
        Command::Refusals(args) => refusals::main(args, &mut console),
        Command::Reload(args) => control::reload(args, &mut console),
        Command::Restart(args) => restart::main(args, &mut console),
        Command::Run(args) => run::main(args, &mut console),
        Command::Status(args) => control::status(args, &mut console),
        Command::Streams(args) => control::streams(args, &mut console),
        Command::Unban(args) => control::unban(args, &mut console),
    };
    console.finish(exit)
}

fn command() -> clap::Command {
    Cli::command()
}

/// Today, UTC, by the system's clock.
fn today() -> Day {
    Day::from_unix_seconds(unix_seconds())
}

/// Seconds since 1970, by the system's clock.
#[allow(clippy::disallowed_methods)] // the one place of this room
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "readme_tests.rs"]
mod readme_tests;
