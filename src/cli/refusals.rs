//! `gatehouse refusals`: what a running gateway has refused lately, each with its cause, its rule and what to do.

use std::time::Duration;

use super::control::{self, Gateway};
use super::refusal_text;
use super::{Console, Exit, Format};
use crate::gateway::protocol::{Answer, Request};
use crate::reason::{Cause, Reason};

/// Arguments of `refusals`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those in which this domain takes part
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Only those with this reason or cause, like not-listed or expired
    #[arg(long, value_name = "REASON", value_parser = reason)]
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
        match (args.gateway.report.format, args.follow) {
            (Format::Json, false) => console.json(&refusals),
            (Format::Json, true) => refusals.iter().for_each(|refusal| {
                // One line each: whoever follows reads line by line.
                if let Ok(line) = serde_json::to_string(refusal) {
                    console.line(line);
                }
            }),
            (Format::Text, _) => {
                refusals.iter().for_each(|refusal| console.print(refusal_text::text(refusal)))
            }
        }
        if !args.follow {
            if refusals.is_empty() && args.gateway.report.format == Format::Text && !console.is_quiet() {
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

/// One of the words by which refusals are told: of another one there will never be any, and that would look like good news.
fn reason(text: &str) -> Result<String, String> {
    let words = || Reason::ALL.iter().map(|r| r.label()).chain(Cause::ALL.iter().map(|c| c.label()));
    if words().any(|word| word == text) {
        return Ok(text.to_owned());
    }
    let far = |word: &'static str| (strsim::damerau_levenshtein(text, word), word);
    // A word that is far too long costs no comparison.
    let near = words().filter(|word| word.len().abs_diff(text.len()) <= word.len() / 3);
    match near.map(far).filter(|(far, word)| *far <= word.len() / 3).min() {
        Some((_, word)) => Err(format!("nothing is refused for that; did you mean `{word}`?")),
        None => {
            let all: std::collections::BTreeSet<_> = words().collect();
            Err(format!(
                "nothing is refused for that; the words are {}",
                all.into_iter().collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

/// How often whoever follows looks.
const AGAIN: Duration = Duration::from_secs(1);
