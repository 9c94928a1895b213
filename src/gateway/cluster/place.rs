//! Where the store is that nodes share, and what it takes to speak to it.

use crate::config::settings::{Roots, Settings};
use crate::gateway::trust::finding;
use crate::policy::{Finding, Place};
use crate::store::Params;
use crate::tls::keys::without_marks;
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
    let password = password.map(|octets| {
        let text = String::from_utf8_lossy(&octets);
        // Editors on Windows begin a file with a byte order mark; it says nothing.
        text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end().to_owned()
    });
    let roots = match (&cluster.roots, &settings.trust.roots) {
        (Some(path), _) | (None, Roots::Pem(path)) if cluster.store.tls => {
            Anchors::load(path).map_err(|fault| finding(&fault))?;
            Some(without_marks(read(path, "file of trust anchors")?))
        }
        _ => None,
    };
    let (address, name) = (cluster.store.clone(), cluster.name.clone());
    Ok(Some(Params { address, password, roots, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Editors on Windows begin a file with a byte order mark; it is neither part of a password nor does it hide an anchor.
    #[test]
    fn what_the_store_needs_is_read_over_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let root = rcgen::generate_simple_self_signed(vec!["store.example".to_owned()]).unwrap().cert.pem();
        let config = "version: v1\ndomains:\n  - { name: one.example, backend: { s2s: [\"10.0.0.5:5269\"] }, federation: none, \
                      certificate: { chain: c, key: k } }\n\
                      cluster: { name: gate, store: \"rediss://gate@store.example:6380\", password: word, roots: root }\n";
        let file = folder.path().join("gatehouse.yaml");
        std::fs::write(&file, config).unwrap();
        for mark in ["", "\u{feff}"] {
            std::fs::write(folder.path().join("word"), format!("{mark}pa ss\r\n")).unwrap();
            std::fs::write(folder.path().join("root"), format!("{mark}{root}")).unwrap();
            let settings = crate::config::examine(&file).settings.unwrap();
            let params = store(&settings).unwrap().unwrap();
            assert_eq!(params.password.as_deref(), Some("pa ss"));
            assert_eq!(params.roots.as_deref(), Some(root.as_bytes()));
        }
    }
}
