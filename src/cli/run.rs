//! `gatehouse run`: the gateway in the foreground, until a signal ends it.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::runtime::Runtime;

use super::log::Log;
use super::{Console, Exit};
use crate::config::Settings;
use crate::gateway::lifecycle::{self, Signals};
use crate::gateway::loud::Louder;
use crate::gateway::reading::Reading;
use crate::gateway::reload::Relog;
use crate::gateway::{Gateway, Handed, Inherited, StartFault};
use crate::run::workers::{self, Threads};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    // The same that `check` reads, and by the same function: what is an error there is one here.
    let reading = Reading::of(&args.config);
    let Some(settings) = reading.settings.clone() else {
        console.complain_of(&reading.findings);
        return Exit::Config;
    };
    // Before there are threads: the variables that tell of the sockets are taken out of the environment.
    let sockets = match sockets_of_the_supervisor() {
        Ok(sockets) => sockets,
        Err(error) => {
            console.complain(format_args!("the supervisor's sockets cannot be taken over: {error}"));
            return Exit::Fault;
        }
    };
    let log = match Log::start(settings.log, console) {
        Ok(log) => log,
        Err(error) => {
            console.complain(format_args!("no log: {error}"));
            return Exit::Fault;
        }
    };
    let volume = console.volume();
    let relogging = log.clone();
    let relog: Relog = Arc::new(move |wanted| relogging.change(wanted, volume));
    let turned = log.clone();
    let louder: Louder = Arc::new(move |directives| turned.turn(directives.as_deref()));
    let given = Inherited { sockets, relog: Some(relog), louder: Some(louder), ..Inherited::default() };
    let ending = serve(reading, &settings, given, console);
    log.finish();
    match ending {
        Ok(None) => Exit::Done,
        Ok(Some(anew)) => begin_anew(anew, console),
        Err(exit) => exit,
    }
}

fn serve(reading: Reading, settings: &Settings, given: Inherited, console: &mut Console) -> Ending {
    raise_open_files(settings.limits.conn_total);
    let count = settings.threads.or_else(|| std::thread::available_parallelism().ok().map(NonZero::get));
    let started = workers::runtime().and_then(|runtime| {
        let threads = Threads::beside(runtime.handle(), count.unwrap_or(1).saturating_sub(1))?;
        Ok((runtime, threads))
    });
    let (runtime, threads) = match started {
        Ok(started) => started,
        Err(error) => {
            console.complain(format_args!("the runtime cannot be started: {error}"));
            return Err(Exit::Fault);
        }
    };
    let outcome = runtime.block_on(run(reading, Inherited { workers: threads.workers(), ..given }));
    drop(threads);
    if let Ok((Some(sockets), signals)) = outcome {
        return Ok(Some(Anew { sockets, runtime, signals }));
    }
    // What is left is a look-up or a write that nobody waits for.
    runtime.shutdown_background();
    match outcome {
        Ok(_) => Ok(None),
        Err(StartFault::Configuration(findings)) => {
            console.complain_of(&findings);
            Err(Exit::Config)
        }
        Err(StartFault::Internal(error)) => {
            console.complain(error);
            Err(Exit::Fault)
        }
    }
}

/// How it ended, or with what it begins anew.
type Ending = Result<Option<Anew>, Exit>;

/// What it takes to begin anew: the listening sockets, and an ear for who wants the end instead.
struct Anew {
    sockets: Vec<OwnedFd>,
    runtime: Runtime,
    signals: Signals,
}

/// The same process with the program as it lies on the disk now and the same arguments, which gets the listening sockets as a
/// supervisor would hand them over. For the supervisor itself nothing has ended.
fn begin_anew(anew: Anew, console: &mut Console) -> Exit {
    let Anew { sockets, runtime, mut signals } = anew;
    let program = lifecycle::program();
    let count = sockets.len();
    let first = free_numbers(count);
    let mappings = (first..).zip(sockets).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1));
    command.env("LISTEN_FDS", count.to_string()).env("LISTEN_PID", std::process::id().to_string());
    command.env("LISTEN_FDS_FIRST_FD", first.to_string());
    let error = match command.fd_mappings(mappings.collect()) {
        // The end may have been asked for since the last stream ended; the other program would not hear of it.
        Ok(_) if runtime.block_on(signals.was_asked_to_stop()) => return Exit::Done,
        Ok(command) => command.exec().to_string(),
        Err(error) => error.to_string(),
    };
    console.complain(format_args!("{} cannot be begun anew: {error}", program.display()));
    Exit::Fault
}

/// The first of so many numbers under which nothing is open. What still ends in other threads closes its own numbers, and must not
/// close a socket that was put in such a place; so they are not the first ones, as a supervisor would have them.
fn free_numbers(count: usize) -> i32 {
    let open: BTreeSet<i32> = std::fs::read_dir("/proc/self/fd")
        .map(|all| all.flatten().filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_default();
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let is_free = |first: &i32| open.range(*first..first.saturating_add(count)).next().is_none();
    // Above the limit of open files there are no numbers.
    let limit = open_files().and_then(|(files, _)| files).and_then(|files| i32::try_from(files).ok());
    let last = limit.unwrap_or(i32::MAX).saturating_sub(count);
    (FIRST_NUMBER..=last).find(is_free).or_else(|| (FEWEST..=last).find(is_free)).unwrap_or(FIRST_NUMBER)
}

/// Below it a process that begins anew has its own files.
const FIRST_NUMBER: i32 = 64;

/// Below it are the streams of every process.
const FEWEST: i32 = 3;

/// Takes as many open files as the system allows: shells and containers often begin with 1,024, which is far less than the
/// connections of `limits: { conn-total }`, each with one more behind it.
fn raise_open_files(connections: u32) {
    let Some((_, allowed)) = open_files() else { return };
    // A sandbox may forbid the change: what counts is what holds afterwards.
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: allowed, maximum: allowed });
    let needed = u64::from(connections).saturating_mul(2).saturating_add(OTHER_FILES);
    if let Some(files) = open_files().and_then(|(files, _)| files).filter(|files| *files < needed) {
        tracing::warn!(files, needed, "open files may run out before `limits: {{ conn-total }}` is reached");
    }
}

/// The limit of open files and how far it may be raised, each none where there is no end. From the file, since the sandbox
/// of `deploy/gatehouse.service` forbids the system call.
fn open_files() -> Option<(Option<u64>, Option<u64>)> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let mut words = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace();
    Some((words.next()?.parse().ok(), words.next()?.parse().ok()))
}

fn sockets_of_the_supervisor() -> std::io::Result<Handed> {
    let mut sockets = listenfd::ListenFd::from_env();
    let mut handed = Handed::default();
    for at in 0..sockets.len() {
        // What is no socket for datagrams is to listen.
        match sockets.take_udp_socket(at) {
            Ok(Some(socket)) => handed.add_datagrams(socket),
            _ => sockets.take_tcp_listener(at)?.into_iter().for_each(|socket| handed.add_listener(socket)),
        }
    }
    Ok(handed)
}

async fn run(reading: Reading, given: Inherited) -> Result<(Option<Vec<OwnedFd>>, Signals), StartFault> {
    // Before the doors open: a signal in between must not end us without a drain.
    let mut signals =
        Signals::listen().map_err(|error| StartFault::Internal(format!("no signals: {error}")))?;
    let gateway = Gateway::start_with(reading, given).await?;
    let sockets = gateway.attend(&mut signals).await;
    Ok((sockets, signals))
}

/// Listeners, logs, the DNS, verifications and couriers.
const OTHER_FILES: u64 = 1024;
