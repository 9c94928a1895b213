//! The program that is to take the place of this one: whether it could, found out while this one still serves.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::lifecycle;
use crate::run::now;

/// What the program as it lies on the disk now says against living by this configuration, in words; none if nothing does. It
/// may be another version than this one: the files are good for both, or all stays as it is.
pub(super) async fn objection(file: &str) -> Option<String> {
    let program = lifecycle::program();
    if let Some(why) = lifecycle::unfit(&program) {
        return Some(why);
    }
    let file = file.to_owned();
    let asked = tokio::task::spawn_blocking(move || ask(&program, &file)).await;
    asked.unwrap_or_else(|error| Some(error.to_string()))
}

fn ask(program: &Path, file: &str) -> Option<String> {
    let shown = program.display();
    let mut command = Command::new(program);
    command.args(["--quiet", "check", "--config", file]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Some(format!("{shown} cannot be begun anew: {error}")),
    };
    let words = child.stdout.take().map(|out| {
        std::thread::spawn(move || {
            let mut words = String::new();
            // Half a word is better than none.
            let _read = out.take(LONGEST).read_to_string(&mut words);
            words
        })
    });
    let Some(code) = ended(&mut child) else {
        // It may have ended just now.
        let _killed = child.kill().and_then(|()| child.wait());
        return Some(format!(
            "{shown} has not read {file} within {} s, and was not waited for",
            PATIENCE.as_secs()
        ));
    };
    if code == Some(0) {
        return None;
    }
    let words = words.and_then(|words| words.join().ok()).unwrap_or_default();
    let code = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with {code}"));
    Some(format!("{words}{shown}, which would take over, will not live by {file}: its `check` ended {code}"))
}

/// How it ended, as soon as it has.
fn ended(child: &mut Child) -> Option<Option<i32>> {
    let end = now() + PATIENCE;
    while now() < end {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code()),
            Ok(None) => std::thread::sleep(LOOK),
            Err(_) => return None,
        }
    }
    None
}

/// How long it may read: a hundred thousand rules take a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Octets of its words that are told.
const LONGEST: u64 = 16 * 1024;
