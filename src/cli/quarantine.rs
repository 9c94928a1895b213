//! `quarantine list`, `approve`, `refuse` and `hold`: who waits at a running gateway, and what becomes of him.

use super::control::{self, PlainArgs, Sharing};
use super::{Console, Exit};
use crate::gateway::protocol::{Disposition, Request};

/// `quarantine ..`
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Let a domain out: from now on it is treated as if the rule allowed it
    #[command(after_help = "Example: gatehouse quarantine approve new.example")]
    Approve(SettleArgs),
    /// Put a domain back into quarantine that was let out or shut out
    #[command(after_help = "Example: gatehouse quarantine hold new.example")]
    Hold(SettleArgs),
    /// List the domains in quarantine, and those that were let out or shut out
    #[command(after_help = "Example: gatehouse quarantine list")]
    List(PlainArgs),
    /// Shut a domain out; its streams end
    #[command(after_help = "Example: gatehouse quarantine refuse spam.example")]
    Refuse(SettleArgs),
}

/// Arguments of what decides about a domain.
#[derive(Debug, clap::Args)]
pub(super) struct SettleArgs {
    /// Which: its registrable part with all below it is meant
    #[arg(value_name = "DOMAIN")]
    domain: String,
    #[command(flatten)]
    sharing: Sharing,
}

pub(super) fn main(command: &Command, console: &mut Console) -> Exit {
    let (args, word) = match command {
        Command::Approve(args) => (args, Disposition::Approved),
        Command::Hold(args) => (args, Disposition::Held),
        Command::List(args) => return control::ask(args.gateway(), &Request::Quarantine {}, console),
        Command::Refuse(args) => (args, Disposition::Refused),
    };
    let request = Request::Settle { domain: args.domain.clone(), word, cluster: args.sharing.cluster };
    control::ask(&args.sharing.gateway, &request, console)
}
