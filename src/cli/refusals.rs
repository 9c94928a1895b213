//! `gatehouse refusals`: what a running gateway has refused lately, each with its cause, its rule and what to do.

use std::time::Duration;

use super::control::{self, Gateway};
use super::told;
use super::{Console, Exit, Format};
use crate::gateway::protocol::{Answer, Request};

/// Arguments of `refusals`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those in which this domain takes part
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Only those with this reason or cause, like not-listed or expired
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// Go on, and tell each as it happens
    #[arg(long)]
    follow: bool,
    /// Of all nodes that share a store with that gateway
    #[arg(long, conflicts_with = "follow")]
    cluster: bool,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) fn main(args: &Args, console: &mut Console) -> Exit {
    let mut request = Request::Refusals {
        domain: args.domain.clone(),
        reason: args.reason.clone(),
        last: Some(args.last),
        after: 0,
        cluster: args.cluster,
    };
    if args.cluster {
        return control::ask(&args.gateway, &request, console);
    }
    loop {
        let refusals = match control::answer_of(&args.gateway, &request, console) {
            Ok(Answer::Refusals { refusals }) => refusals,
            Ok(Answer::Refused { message, .. }) => {
                console.complain(message);
                return Exit::No;
            }
            Ok(_) => return Exit::Fault,
            Err(exit) => return exit,
        };
        match (args.gateway.format, args.follow) {
            (Format::Json, false) => console.json(&refusals),
            (Format::Json, true) => refusals.iter().for_each(|refusal| {
                // One line each: whoever follows reads line by line.
                if let Ok(line) = serde_json::to_string(refusal) {
                    console.line(line);
                }
            }),
            (Format::Text, _) => refusals.iter().for_each(|refusal| console.print(told::text(refusal))),
        }
        if !args.follow {
            if refusals.is_empty() && args.gateway.format == Format::Text && !console.is_quiet() {
                console.line("nothing was refused");
            }
            return Exit::Done;
        }
        if let (Request::Refusals { after, last, .. }, Some(newest)) = (&mut request, refusals.last()) {
            (*after, *last) = (newest.n, None);
        }
        std::thread::sleep(AGAIN);
    }
}

/// How often whoever follows looks.
const AGAIN: Duration = Duration::from_secs(1);
