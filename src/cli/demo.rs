//! `gatehouse demo`: plays the small world and tells it.

use std::io;

use super::{Console, Exit};
use crate::demo::story;
use crate::demo::teller::Teller;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stay up afterwards, and print the addresses for a client, for Prometheus and for the control socket
    #[arg(long)]
    keep: bool,
}

/// Plays it: done if every step came out as told, our fault otherwise.
pub fn main(args: &Args, console: &mut Console) -> Exit {
    let mut out = io::stdout();
    let teller = Teller::new(&mut out, console.has_colour());
    let played = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(story::play(teller, args.keep)));
    match played {
        Ok(Ok(true)) => Exit::Done,
        Ok(Ok(false)) => Exit::Fault,
        Ok(Err(trouble)) => {
            console.complain(format_args!("gatehouse demo: {trouble}"));
            Exit::Fault
        }
        Err(error) => {
            console.complain(format_args!("gatehouse demo: no runtime: {error}"));
            Exit::Fault
        }
    }
}
