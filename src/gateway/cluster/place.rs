//! Where the store is that nodes share, and what it takes to speak to it.

use crate::config::settings::{Roots, Settings};
use crate::gateway::trust::finding;
use crate::policy::{Finding, Place};
use crate::store::Params;
use crate::tls::verify::Anchors;

/// The store that nodes share, if there is one.
///
/// # Errors
/// When a file that it needs cannot be read.
pub(in crate::gateway) fn store(settings: &Settings) -> Result<Option<Params>, Finding> {
    let Some(cluster) = &settings.cluster else { return Ok(None) };
    let read = |path: &std::path::Path, what: &str| {
        std::fs::read(path).map_err(|error| {
            Finding::error(
                Place::whole(&path.display().to_string()),
                format!("the {what} cannot be read: {error}"),
                "let the gateway's user read it",
            )
        })
    };
    let password = cluster.password.as_deref().map(|path| read(path, "password of the store")).transpose()?;
    let password = password.map(|octets| String::from_utf8_lossy(&octets).trim_end().to_owned());
    let roots = match (&cluster.roots, &settings.trust.roots) {
        (Some(path), _) | (None, Roots::Pem(path)) if cluster.store.tls => {
            Anchors::load(path).map_err(|fault| finding(&fault))?;
            Some(read(path, "file of trust anchors")?)
        }
        _ => None,
    };
    let (address, name) = (cluster.store.clone(), cluster.name.clone());
    Ok(Some(Params { address, password, roots, name }))
}
