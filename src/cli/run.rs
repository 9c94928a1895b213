//! `gatehouse run`: the gateway in the foreground, until a signal ends it.

use std::net::TcpListener;
use std::path::PathBuf;

use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use super::{Console, Exit};
use crate::config::settings::{Log, LogFormat, LogLevel};
use crate::config::{self, Settings};
use crate::gateway::lifecycle::Signals;
use crate::gateway::{Gateway, StartFault};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let (settings, warnings) = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(findings) => {
            console.complain_of(&findings);
            return Exit::Config;
        }
    };
    log_to_stderr(settings.log, console);
    for warning in &warnings {
        tracing::warn!(finding = %warning, "configuration");
    }
    // Before there are threads: the variables that tell of the sockets are taken out of the environment.
    let handed = match sockets_of_the_supervisor() {
        Ok(handed) => handed,
        Err(error) => {
            console.complain(format_args!("the supervisor's sockets cannot be taken over: {error}"));
            return Exit::Fault;
        }
    };
    let runtime = match runtime(settings.threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            console.complain(format_args!("the runtime cannot be started: {error}"));
            return Exit::Fault;
        }
    };
    let outcome = runtime.block_on(run(settings, handed));
    // What is left is a look-up or a write that nobody waits for.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => Exit::Done,
        Err(StartFault::Configuration(findings)) => {
            console.complain_of(&findings);
            Exit::Config
        }
        Err(StartFault::Internal(error)) => {
            console.complain(error);
            Exit::Fault
        }
    }
}

/// One thread needs no other to hand work to, so the main thread does it all.
fn runtime(threads: Option<usize>) -> std::io::Result<Runtime> {
    let mut builder = match threads {
        Some(1) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

fn sockets_of_the_supervisor() -> std::io::Result<Vec<TcpListener>> {
    let mut sockets = listenfd::ListenFd::from_env();
    (0..sockets.len()).filter_map(|at| sockets.take_tcp_listener(at).transpose()).collect()
}

async fn run(settings: Settings, handed: Vec<TcpListener>) -> Result<(), StartFault> {
    // Before the doors open: a signal in between must not end us without a drain.
    let signals = Signals::listen().map_err(|error| StartFault::Internal(format!("no signals: {error}")))?;
    let gateway = Gateway::start_with(settings, handed).await?;
    gateway.attend(signals).await;
    Ok(())
}

/// One event a line on standard error, as the configuration says; `-q` and `-v` say it louder.
fn log_to_stderr(log: Log, console: &mut Console) {
    let level = match (console.is_quiet(), console.is_verbose()) {
        (true, _) => LogLevel::Error,
        (_, true) => log.level.max(LogLevel::Debug),
        _ => log.level,
    };
    // Our own events at that level; of others only what is wrong with them.
    let filter = EnvFilter::new(format!("error,gatehouse={}", level.label()));
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let set = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines.with_ansi(console.has_coloured_errors()).try_init(),
    };
    if let Err(error) = set {
        console.complain(format_args!("no log: {error}"));
    }
}
