//! What commands have in common that look at a domain once: its name, and a runtime for as long as they look.

use std::future::Future;

use super::{Console, Exit};
use crate::jid::Domain;

/// A domain that can federate, as the command line names it.
pub(super) fn federating(name: &str, console: &mut Console) -> Result<Domain, Exit> {
    Domain::parse(name).map_err(|_| {
        let told = "is not a domain that can federate; write it like example.com";
        console.complain(format_args!("error: {name:?} {told}"));
        Exit::Usage
    })
}

/// What comes of looking. What was begun besides and is not done is not waited for.
pub(super) fn look<T>(looking: impl Future<Output = T>, console: &mut Console) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        console.complain(format_args!("the runtime cannot be started: {error}"));
        Exit::Fault
    })?;
    let found = runtime.block_on(looking);
    runtime.shutdown_background();
    Ok(found)
}
