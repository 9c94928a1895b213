//! What peers' and clients' chains are judged by, read from the files that the configuration names.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Settings;
use crate::config::settings::{self, Roots};
use crate::policy::{Finding, Place};
use crate::tls::verify::{Anchors, Revocation, UnknownRevocation};
use crate::tls::{KeyFault, TrustStore};

/// What peers' chains are judged by.
///
/// # Errors
/// Every file that will not do.
pub fn read_trust(settings: &Settings) -> Result<TrustStore, Vec<Finding>> {
    let mut faults = Vec::new();
    match trust(settings, &mut faults) {
        Some(trust) if faults.is_empty() => Ok(trust),
        _ => Err(faults.iter().map(finding).collect()),
    }
}

pub(super) fn trust(settings: &Settings, faults: &mut Vec<KeyFault>) -> Option<TrustStore> {
    let mut keep = |outcome: Result<Anchors, KeyFault>| outcome.map_err(|fault| faults.push(fault)).ok();
    let default = keep(match &settings.trust.roots {
        Roots::Pem(path) => Anchors::load(path),
        Roots::System => Anchors::system(),
    });
    let peers: Vec<_> = settings
        .trust
        .peers
        .iter()
        .filter_map(|peer| keep(Anchors::load(&peer.roots)).map(|anchors| (peer.domains.clone(), anchors)))
        .collect();
    let revocation = match settings.trust.crls.is_empty() {
        true => None,
        false => match Revocation::load(&settings.trust.crls, unknown(settings)) {
            Ok(revocation) => Some(revocation),
            Err(fault) => {
                faults.push(fault);
                None
            }
        },
    };
    let mut clients = BTreeMap::new();
    for domain in &settings.domains {
        let Some(roots) = &domain.clients.roots else { continue };
        match of_clients(&domain.clients, roots, unknown(settings)) {
            Ok(store) => drop(clients.insert(domain.name.clone(), store)),
            Err(fault) => faults.push(fault),
        }
    }
    Some(TrustStore { default: default?, peers, revocation, clients })
}

/// What the clients of a domain are judged by (C2S-15).
fn of_clients(
    clients: &settings::ClientProof,
    roots: &Path,
    unknown: UnknownRevocation,
) -> Result<TrustStore, KeyFault> {
    let revocation = match clients.crls.is_empty() {
        true => None,
        false => Some(Revocation::load(&clients.crls, unknown)?),
    };
    Ok(TrustStore { default: Anchors::load(roots)?, revocation, ..TrustStore::default() })
}

/// CRT-09: soft-fail only where the configuration says so, or where nobody keeps a list.
pub(super) fn unknown(settings: &Settings) -> UnknownRevocation {
    match settings.trust.unknown_revocation {
        settings::UnknownRevocation::Accept => UnknownRevocation::Accept,
        settings::UnknownRevocation::ByIssuer => UnknownRevocation::ByIssuer,
        settings::UnknownRevocation::Refuse => UnknownRevocation::Refuse,
    }
}

/// What is wrong with a file of keys or certificates, as a finding.
pub(super) fn finding(fault: &KeyFault) -> Finding {
    Finding::error(Place::whole(&fault.path.display().to_string()), fault.problem.clone(), fault.remedy)
}
