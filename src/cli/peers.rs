//! `gatehouse peers`: how remote domains were proven, and what to make of changes that wait.

use clap::{Args, Subcommand};

use super::control::{self, Gateway};
use super::{Console, Exit};
use crate::gateway::protocol::Request;

/// Arguments of `peers`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct PeersArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Only this remote domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What waits is the partner's: it passes from now on, beside what was known
    #[command(after_help = "Example: gatehouse peers approve partner.example")]
    Approve(RecogniseArgs),
    /// What waits is not the partner's: it is forgotten, and told anew if it comes again
    #[command(after_help = "Example: gatehouse peers dismiss partner.example")]
    Dismiss(RecogniseArgs),
    /// What is known is the partner's no more: it waits where anything else is known, and the domain's streams end
    #[command(after_help = "Example: gatehouse peers forget partner.example --key sha256:0011..")]
    Forget(RecogniseArgs),
}

#[derive(Debug, Args)]
struct RecogniseArgs {
    /// The remote domain
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// Only what has this key, as `peers` shows it: sha256:.., or none; to be named where more than one face waits
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) fn main(args: &PeersArgs, console: &mut Console) -> Exit {
    let (gateway, request) = match &args.what {
        None => (&args.gateway, Request::Peers { domain: args.domain.clone() }),
        Some(What::Approve(settle)) => (&settle.gateway, settle.request(true)),
        Some(What::Dismiss(settle)) => (&settle.gateway, settle.request(false)),
        Some(What::Forget(RecogniseArgs { domain, key, gateway })) => {
            (gateway, Request::Forget { domain: domain.clone(), key: key.clone() })
        }
    };
    control::ask(gateway, &request, console)
}

impl RecogniseArgs {
    fn request(&self, approve: bool) -> Request {
        Request::Recognise { domain: self.domain.clone(), key: self.key.clone(), approve }
    }
}
