//! What would come of a reload or a restart with the files as they are, found out while all goes on as it is.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::super::protocol::{Plan, ToldFinding};
use super::super::reading::{Read, Reading};
use super::super::{background, changes, freeing};
use super::{Reloader, internal};
use crate::policy::Finding;

/// Whether a start would go well with the files as they are; all sockets for it, those that are open and those that it wants
/// besides, and where its control socket will be.
///
/// # Errors
/// Everything that is wrong with the files, and what it could not have.
pub(super) async fn successor(reloader: &Reloader) -> Result<(Vec<OwnedFd>, Option<String>), Vec<Finding>> {
    let services = reloader.services().await;
    let settings = reloader.settings();
    let file = Arc::clone(&settings.file);
    let read = background::run(move || Reading::of(file.as_ref().as_ref()).faultless()).await;
    let read = read.unwrap_or_else(|error| Err(vec![internal(&settings, &error.to_string())]))?;
    let sockets = services.handover(&settings, &read.settings)?;
    let socket = read.settings.admin.socket.as_ref().map(std::path::absolute);
    let socket = socket.and_then(|path| Some(path.ok()?.display().to_string()));
    Ok((sockets, socket))
}

/// What a reload would mean to those who live, of files that are looked at in this way. Nothing changes.
///
/// # Errors
/// Everything that is wrong with the files, and what could not be opened.
pub(super) async fn plan(reloader: &Reloader, look: fn(&Path) -> Reading) -> Result<Plan, Vec<Finding>> {
    let services = reloader.services().await;
    let read = reloader.read(look).await?;
    // What cannot be opened is told by the plan, too; it closes again at once.
    services.rehearse(&reloader.settings(), &read.settings)?;
    drop(services);
    let plan = foresee(reloader, &read).await?;
    freeing::let_go(Arc::new(read));
    Ok(plan)
}

/// The same of files that were read.
///
/// # Errors
/// A fault of the gateway.
pub(super) async fn foresee(reloader: &Reloader, read: &Read) -> Result<Plan, Vec<Finding>> {
    let tools = reloader.tools();
    let before = tools.registry.policy();
    let after = read.compiled.policy.after(&before);
    let after = Arc::new(after.with_known(tools.observe.peers().with(|peers| peers.known())));
    let trust = &read.credentials.trust;
    let (views, silent) = tools.registry.views_under(Some(&after), Some(trust)).await;
    let warnings = read.remarks.iter().map(ToldFinding::from).collect();
    let (old, shown) = reloader.with(|current| (Arc::clone(&current.settings), current.credentials.clone()));
    let (next, to_show, known) = (read.settings.clone(), read.credentials.clone(), Arc::clone(&old));
    // All rules and the entries of all lists are compared: of many it takes a while, in which relays go on.
    let plan = move || Plan {
        certificates: changes::certificates(&shown, &to_show),
        clients: changes::clients_that_end(&next, &views),
        elsewhere: changes::elsewhere(&old, &next, &views),
        settings: [
            changes::settings(&old, &next),
            changes::ways(&before, &after),
            changes::patches(&before, &after),
            changes::lists(&before, &after),
        ]
        .concat(),
        ..changes::pairs(&before, &after, &views, silent)
    };
    let plan = background::run(plan).await;
    let plan = plan.map_err(|error| vec![internal(&known, &error.to_string())])?;
    Ok(Plan { warnings, ..plan })
}
