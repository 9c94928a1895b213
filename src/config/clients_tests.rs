//! Tests of what clients may do, and what they must show.

use super::settings::*;
use super::tests::{SHORTEST, assemble};
use crate::stream::client::Mechanism;
use crate::stream::client::certified::{CertificateName, Demand};

fn with_backend(more: &str) -> (Settings, Vec<String>) {
    assemble(&SHORTEST.replace(
        "s2s: [\"10.0.0.5:5269\"]",
        &format!("c2s: [\"10.0.0.5:5222\"], s2s: [\"10.0.0.5:5269\"], {more}"),
    ))
}

// C2S-15.
#[test]
fn what_clients_must_show_is_said_whole_or_not_at_all() {
    let with = |clients: &str, c2s: &str| {
        let backend = format!("backend: {{ s2s: [\"10.0.0.5:5269\"]{c2s} }}");
        let text = SHORTEST.replace("backend: { s2s: [\"10.0.0.5:5269\"] }", &backend);
        assemble(&text.replace("    federation", &format!("    clients: {clients}\n    federation")))
    };
    let c2s = ", c2s: [\"10.0.0.5:5222\"]";
    let (settings, findings) =
        with("{ certificate: require, roots: staff.pem, crls: [staff.crl], match: email }", c2s);
    assert_eq!(findings, Vec::<String>::new());
    let clients = &settings.domains[0].clients;
    let terms = (clients.certificate.demand, clients.certificate.by, clients.may_register());
    assert_eq!(terms, (Demand::Require, CertificateName::Email, false));
    assert!(crate::config::trust(&settings).contains(clients.roots.as_ref().unwrap()), "it is read again");
    for (clients, c2s, words) in [
        ("{ certificate: require }", c2s, "`roots` is missing"),
        ("{ certificate: demand, roots: a }", c2s, "is not a demand for certificates"),
        ("{ certificate: request, roots: a, match: cn }", c2s, "is not a name of a certificate"),
        ("{ roots: a }", c2s, "`roots` changes nothing"),
        ("{ certificate: off, match: any }", c2s, "`match` changes nothing"),
        ("{ certificate: off, crls: [a] }", c2s, "`crls` changes nothing"),
        ("{ certificate: require, roots: a }", "", "no address for clients"),
        (
            "{ certificate: require, roots: a }",
            ", c2s: [\"10.0.0.5:5222\"], register: on",
            "no account is made",
        ),
    ] {
        let (_, findings) = with(clients, c2s);
        assert!(findings.iter().any(|finding| finding.contains(words)), "{clients}: {findings:?}");
    }
}

// C2S-05, C2S-07, CB-01, CB-02.
#[test]
fn what_clients_may_use_is_said_for_each_backend() {
    let (settings, findings) =
        with_backend("mechanisms: [SCRAM-SHA-256, ANONYMOUS], channel-binding: none, register: on");
    assert_eq!(findings, Vec::<String>::new());
    let backend = &settings.domains[0].backend;
    assert_eq!(backend.mechanisms, [Mechanism::Anonymous, Mechanism::ScramSha256].into());
    assert!(backend.register);
    let (settings, _) = with_backend("proxy-protocol: v2");
    assert!(!settings.domains[0].backend.register);
    assert!(!settings.domains[0].backend.mechanisms.contains(&Mechanism::Anonymous));
    for (wrong, said) in [
        ("mechanisms: [SCRAM-SHA-1-PLUS]", "binds to a TLS channel that ends at the gateway"),
        ("mechanisms: [GSSAPI]", "\"GSSAPI\" is no mechanism that may pass"),
        ("mechanisms: []", "nobody can log in"),
        ("channel-binding: forward", "cannot hand channel-binding data"),
        ("channel-binding: maybe", "is not a mode of channel binding"),
        ("register: perhaps", "is not a setting of in-band registration"),
    ] {
        let (_, findings) = with_backend(wrong);
        assert_eq!(findings.len(), 1, "{wrong}: {findings:?}");
        assert!(findings[0].contains(said), "{wrong}: {findings:?}");
    }
}
