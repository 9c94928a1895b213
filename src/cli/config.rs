//! `gatehouse config dump`: what is in force in a running gateway, key by key.

use clap::Subcommand;

use super::control::{self, PlainArgs};
use super::{Console, Exit};
use crate::gateway::protocol::Request;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print every key that is in force, defaults marked; secrets and keys are named by their files
    #[command(after_help = "Example: gatehouse config dump")]
    Dump(PlainArgs),
}

pub(super) fn main(command: &Command, console: &mut Console) -> Exit {
    match command {
        Command::Dump(args) => control::ask(args.gateway(), &Request::Config {}, console),
    }
}
