//! `gatehouse policy promote`: what is in the shadow becomes the policy, by the ordinary reload and after its plan.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::{Console, Exit, Format, Reporting, control};
use crate::config::{self, Rewrite};
use crate::gateway::protocol::{Answer, Plan, Request};

/// Arguments of `policy promote`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The configuration of the running gateway, which is changed
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The control socket of the gateway; without it, that of --config
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    report: Reporting,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    promoted: bool,
    files: Vec<String>,
    plan: &'a Plan,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let rewrites = match config::promotion(&args.config) {
        Ok(rewrites) => rewrites,
        Err(findings) => {
            console.complain_of(&findings);
            return Exit::Config;
        }
    };
    let gateway = control::Gateway {
        config: args.socket.is_none().then(|| args.config.clone()),
        socket: args.socket.clone(),
        report: args.report,
    };
    let plan = match control::answer_of(&gateway, &Request::Promotion {}, console) {
        Ok(Answer::Planned { plan }) => plan,
        Ok(other) => return refused(&other, console),
        Err(exit) => return exit,
    };
    let files: Vec<String> = rewrites.iter().map(|rewrite| rewrite.path.display().to_string()).collect();
    if args.report.format == Format::Text && !console.is_quiet() {
        super::super::plan::print(&plan, console);
        files.iter().for_each(|file| console.line(format_args!("changes {file}")));
    }
    if !args.yes && !is_wanted() {
        let report = Report { promoted: false, files, plan: &plan };
        match args.report.format {
            Format::Json => console.json(&report),
            Format::Text => console.line("nothing was changed; --yes promotes without asking"),
        }
        return Exit::No;
    }
    if let Err(message) = put(&rewrites) {
        console.complain(message);
        return Exit::No;
    }
    match control::answer_of(&gateway, &Request::Reload { plan: false }, console) {
        Ok(Answer::Reloaded { plan: done }) if done.after == plan.after => {
            match args.report.format {
                Format::Json => console.json(&Report { promoted: true, files, plan: &done }),
                Format::Text => console.line("promoted: what was in the shadow is the policy"),
            }
            Exit::Done
        }
        outcome => {
            take_back(&rewrites, console);
            match outcome {
                Ok(Answer::Reloaded { .. }) => {
                    // It reads other files, or they changed meanwhile: what it has taken over is as it was.
                    let again = control::answer_of(&gateway, &Request::Reload { plan: false }, console);
                    console.complain(format_args!(
                        "the gateway does not live by {}: it reads another configuration, or its files changed meanwhile",
                        args.config.display()
                    ));
                    again.err().unwrap_or(Exit::No)
                }
                Ok(other) => refused(&other, console),
                Err(exit) => exit,
            }
        }
    }
}

fn refused(answer: &Answer, console: &mut Console) -> Exit {
    if let Answer::Refused { message, findings } = answer {
        findings.iter().for_each(|finding| console.complain(&finding.text));
        console.complain(message);
    }
    Exit::No
}

/// Asks whoever sits there; nobody is a no.
fn is_wanted() -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    let mut said = String::new();
    let asked = write!(io::stderr(), "Make it the policy? [y/N] ")
        .and_then(|()| io::stdin().lock().read_line(&mut said));
    asked.is_ok() && matches!(said.trim(), "y" | "yes")
}

/// Writes every file, or none.
fn put(rewrites: &[Rewrite]) -> Result<(), String> {
    for (done, rewrite) in rewrites.iter().enumerate() {
        let is_same = fs::read_to_string(&rewrite.path).is_ok_and(|now| now.ends_with(&rewrite.before));
        let outcome = match is_same {
            true => replace(&rewrite.path, &rewrite.after).map_err(|error| error.to_string()),
            false => Err("it has changed since it was read".to_owned()),
        };
        if let Err(error) = outcome {
            for written in rewrites.iter().take(done) {
                // What cannot be put back is told by the reload, which reads it.
                let _left = replace(&written.path, &written.before);
            }
            return Err(format!("{}: {error}; nothing was changed", rewrite.path.display()));
        }
    }
    Ok(())
}

fn take_back(rewrites: &[Rewrite], console: &mut Console) {
    for rewrite in rewrites {
        match replace(&rewrite.path, &rewrite.before) {
            Ok(()) => console.complain(format_args!("{} is as it was", rewrite.path.display())),
            Err(error) => console.complain(format_args!(
                "{} is changed, and cannot be put back: {error}",
                rewrite.path.display()
            )),
        }
    }
}

/// Puts this text into the file, all of it or nothing, with the owner and the permissions that the file has.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let was = fs::metadata(&path)?;
    let beside = PathBuf::from(format!("{}.new", path.display()));
    let put = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (was.uid(), was.gid()) {
            chown(&beside, Some(was.uid()), Some(was.gid()))?;
        }
        fs::set_permissions(&beside, was.permissions())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    put().inspect_err(|_| {
        // Best effort: half a file is of no use to anybody.
        let _left = fs::remove_file(&beside);
    })
}
