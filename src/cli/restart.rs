//! `gatehouse restart`: has the gateway begin anew, and says so when it has.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::control::{self, PlainArgs};
use super::{Console, Exit, Format};
use crate::gateway::protocol::{Answer, Request};
use crate::run::now;

pub(super) fn main(args: &PlainArgs, console: &mut Console) -> Exit {
    let gateway = args.gateway();
    let socket = match gateway.socket() {
        Ok(socket) => socket,
        Err(message) => {
            console.complain(message);
            return Exit::Config;
        }
    };
    // By this the program that comes is told from the one that goes.
    let before = started(&socket);
    let answer = match control::answer_of(gateway, &Request::Restart {}, console) {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    control::show(gateway, &answer, console);
    let Answer::Restarting { seconds, socket: next, .. } = answer else { return Exit::No };
    let Some(next) = next else {
        console.complain("its configuration names no control socket any more: nothing tells when it is back");
        return Exit::Done;
    };
    // The way that was asked for leads there as well, unless another one is in force from now on.
    let next = if is_same(&socket, Path::new(&next)) { socket } else { PathBuf::from(next) };
    let end = now() + Duration::from_secs(seconds) + PATIENCE;
    match waited(&next, before.as_deref(), end) {
        true => {
            if gateway.report.format == Format::Text && !console.is_quiet() {
                console.line("restarted");
            }
            Exit::Done
        }
        false => {
            console.complain(format_args!(
                "{}: the gateway did not come back; its log says why",
                next.display()
            ));
            Exit::NoGateway
        }
    }
}

/// Whether another start than this one answers before the time is over.
fn waited(socket: &Path, before: Option<&str>, end: Instant) -> bool {
    while now() < end {
        if started(socket).is_some_and(|at| before != Some(&at)) {
            return true;
        }
        std::thread::sleep(AGAIN);
    }
    false
}

/// When the gateway that answers there began.
fn started(socket: &Path) -> Option<String> {
    match control::talk(socket, &Request::Status { page: 1, cluster: false }) {
        Ok(Answer::Status { snapshot }) => Some(snapshot.started),
        _ => None,
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
    whole(one) == whole(other)
}

/// How long it may take to begin anew, when the streams have ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether it has.
const AGAIN: Duration = Duration::from_millis(50);
