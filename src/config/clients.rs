//! What the configuration says about clients: mechanisms, channel binding, certificates, and whether listeners and backends agree.

use std::collections::BTreeSet;

use super::scalars::ScalarReader;
use super::settings::{ClientProof, HostedDomain, Listener};
use super::spec;
use crate::jid::Domain;
use crate::policy::{Finding, Placed, Scalar};
use crate::stream::client::Mechanism;
use crate::stream::client::certified::{CertificateName, CertificateTerms, Demand};
use crate::stream::client::features::may_be_let_pass;

/// The mechanisms that clients may use (C2S-05).
pub(super) fn mechanisms(list: Option<&spec::Scalars>, reader: &mut ScalarReader) -> BTreeSet<Mechanism> {
    let Some(list) = list else { return Mechanism::DEFAULT.iter().copied().collect() };
    if list.value.is_empty() {
        reader.error(list, "without a mechanism nobody can log in", "remove the key, or name a mechanism");
    }
    let mut found = BTreeSet::new();
    for word in &list.value {
        match Mechanism::parse(&word.value) {
            Some(mechanism) => {
                found.insert(mechanism);
            }
            // CB-02
            None if word.value.ends_with("-PLUS") => reader.error(
                word,
                format!("{} binds to a TLS channel that ends at the gateway, not at the backend", word.value),
                "remove it, and switch channel binding off at the backend",
            ),
            None => {
                let known: Vec<&str> = Mechanism::ALL.iter().map(|mechanism| mechanism.name()).collect();
                reader.error(
                    word,
                    format!("\"{}\" is no mechanism that may pass the gateway", word.value),
                    format!("known are: {}", known.join(", ")),
                );
            }
        }
    }
    found
}

/// Features that pass beside the usual ones (C2S-03).
pub(super) fn features(list: Option<&spec::Scalars>, reader: &mut ScalarReader) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in list.iter().flat_map(|list| &list.value) {
        match may_be_let_pass(&word.value) {
            true => {
                found.insert(word.value.clone());
            }
            false => reader.error(
                word,
                format!("features of \"{}\" are the gateway's own business", word.value),
                "remove it; see `mechanisms` and `register` for logins and accounts",
            ),
        }
    }
    found
}

/// What clients must show beside their password (C2S-15).
pub(super) fn shown(
    at: &Placed<spec::ClientsSpec>,
    takes_clients: bool,
    reader: &mut ScalarReader,
) -> ClientProof {
    let spec::ClientsSpec { certificate, roots, crls, r#match } = &at.value;
    let demands = [Demand::Off, Demand::Request, Demand::Require].map(|demand| (demand.label(), demand));
    let demand = certificate
        .as_ref()
        .and_then(|word| reader.choose(word, "a demand for certificates", &demands))
        .unwrap_or_default();
    let ways = [CertificateName::XmppAddress, CertificateName::Email, CertificateName::Any]
        .map(|by| (by.label(), by));
    let by = r#match.as_ref().and_then(|word| reader.choose(word, "a name of a certificate", &ways));
    if demand == Demand::Off {
        let idle = [
            ("roots", roots.as_ref().map(|word| reader.place(word))),
            ("crls", crls.as_ref().map(|list| reader.place(list))),
            ("match", r#match.as_ref().map(|word| reader.place(word))),
        ];
        for (key, place) in idle {
            reader.findings.extend(place.map(|place| {
                let message =
                    format!("`{key}` changes nothing while clients are not asked for a certificate");
                Finding::error(
                    place,
                    message,
                    "write `certificate: request` or `certificate: require`, or remove it",
                )
            }));
        }
        return ClientProof::default();
    }
    if !takes_clients {
        reader.error(
            at,
            "clients are to show a certificate, and the backend has no address for clients",
            "add `c2s: [\"10.0.0.5:5222\"]` to the backend, or remove `clients`",
        );
    }
    let roots = reader.needed(at, roots, "roots", "pki/staff-ca.pem").map(|word| reader.path(word));
    let crls = reader.named("crls", crls.as_ref()).iter().map(|word| reader.path(word)).collect();
    ClientProof { certificate: CertificateTerms { demand, by: by.unwrap_or_default() }, roots, crls }
}

/// CB-01 knows `none` and `forward`.
pub(super) fn channel_binding(word: &Scalar, reader: &mut ScalarReader) {
    match word.value.as_str() {
        "none" => {}
        "forward" => reader.error(
            word,
            "this version cannot hand channel-binding data to a backend",
            "write `channel-binding: none`, and switch channel binding off at the backend",
        ),
        other => reader.error(
            word,
            format!("\"{other}\" is not a mode of channel binding"),
            "write `channel-binding: none`",
        ),
    }
}

/// The domain whose certificate a listener shows to who names no server (TLS-16). With STARTTLS the stream names one.
pub(super) fn default(
    at: &Placed<spec::ListenSpec>,
    direct: bool,
    reader: &mut ScalarReader,
) -> Option<Domain> {
    let word = at.value.default.as_ref()?;
    if !direct {
        let remedy =
            "remove it: with STARTTLS the stream names the domain, and inside there is no certificate";
        reader.error(word, "`default` is for listeners with `tls: direct`", remedy);
    }
    reader.domain(word)
}

/// TLS-16: there must be a certificate of what a listener shows to who names no server.
pub(super) fn defaults(listeners: &[Listener], domains: &[HostedDomain], reader: &mut ScalarReader) {
    for listener in listeners {
        let Some(default) = &listener.default else { continue };
        if !domains.iter().any(|hosted| hosted.name == *default) {
            reader.findings.push(Finding::error(
                listener.place.clone(),
                format!("its default {default} is not one of `domains`"),
                "name a domain that is served here",
            ));
        }
    }
}

/// Clients who would find nobody, or backends that clients would never reach.
pub(super) fn agree(
    spec: &spec::FileSpec,
    listeners: &[Listener],
    domains: &[HostedDomain],
    reader: &mut ScalarReader,
) {
    let doors = spec.listen.iter().flat_map(|list| &list.value);
    let door = doors.into_iter().find(|at| {
        at.value
            .flow
            .as_ref()
            .is_some_and(|flow| matches!(flow.value.as_str(), "c2s" | "mixed" | "websocket"))
    });
    let served = domains.iter().any(|domain| !domain.backend.c2s.is_empty());
    if let (Some(at), false) = (door, served || domains.is_empty()) {
        reader.warn(
            at,
            "clients may connect here, but no backend has an address for them",
            "add `c2s: [\"10.0.0.5:5222\"]` to a backend, or remove the listener",
        );
    }
    let open = listeners.iter().any(|listener| listener.role.takes_clients());
    if served && !open {
        reader.whole_warn(
            "a backend has an address for clients, but no listener takes clients",
            "add `{ flow: c2s, address: \"[::]:5222\" }` to `listen`, or remove `c2s` from the backend",
        );
    }
}
