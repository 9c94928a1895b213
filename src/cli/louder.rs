//! `gatehouse log`: has a running gateway log otherwise for a while.

use std::time::Duration;

use super::control::{self, Gateway};
use super::{Console, Exit};
use crate::gateway::protocol::Request;

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// error, warn, info, debug or trace
    #[arg(value_name = "LEVEL")]
    level: String,
    /// Only in this area: audit, backend, config, control, dns, listeners, streams or tls
    #[arg(long, value_name = "AREA")]
    area: Option<String>,
    /// For how long, like 10m; without it until the next word, reload or restart
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    time: Option<Duration>,
    #[command(flatten)]
    gateway: Gateway,
}

/// A time that passes: in none, nothing would be done, and a word that is obeyed would have come to nothing.
fn lasting(text: &str) -> Result<Duration, String> {
    match crate::config::duration(text) {
        Ok(time) if time.is_zero() => Err("in no time nothing is logged; write it like 10m".to_owned()),
        time => time,
    }
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let (level, area) = (args.level.clone(), args.area.clone());
    let seconds = args.time.map(|time| time.as_secs().max(1));
    control::ask(&args.gateway, &Request::Log { level, area, seconds }, console)
}
