use super::*;
use crate::stream::secured::{Chain, RevocationCheck, Trust};

fn root(name: &str) -> Root {
    Root { name: name.to_owned(), key: [1; 32] }
}

fn certificate(names: Vec<PresentedName>) -> Certificate {
    Certificate {
        fingerprint: "00".repeat(32),
        key: None,
        names,
        trust: Trust { default: Ok(root("CN=Root")), peers: Vec::new() },
        not_after: 0,
        expires: None,
        revocation: RevocationCheck::Off,
        issuer: String::new(),
        chain: Chain::default(),
        of_client: None,
    }
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn dns(name: &str) -> PresentedName {
    PresentedName::Dns(name.into())
}

fn srv(name: &str) -> PresentedName {
    PresentedName::Srv(name.into())
}

fn xmpp(name: &str) -> PresentedName {
    PresentedName::Xmpp(name.into())
}

fn holds(table: &[(PresentedName, &str, bool)]) {
    for (name, reference, expected) in table {
        let found = speaks_for(&certificate(vec![name.clone()]), &domain(reference));
        assert_eq!(found, *expected, "{name:?} for {reference}");
    }
}

// RFC 9525 6.3: "compared using case-insensitive ASCII comparison".
#[test]
fn dns_names_are_compared_label_by_label_without_case() {
    holds(&[
        (dns("a.example"), "a.example", true),
        (dns("A.Example"), "a.example", true),
        (dns("a.example"), "b.example", false),
        (dns("a.example"), "x.a.example", false),
        (dns("x.a.example"), "a.example", false),
        (dns("xa.example"), "a.example", false),
        (dns("a.example."), "a.example", false),
        (dns(".a.example"), "a.example", false),
        (dns(""), "a.example", false),
    ]);
}

// RFC 9525 6.3: "the wildcard ... is the complete left-most label", and stands for one label.
#[test]
fn a_wildcard_is_one_whole_left_most_label() {
    holds(&[
        (dns("*.a.example"), "x.a.example", true),
        (dns("*.A.example"), "x.a.EXAMPLE", true),
        (dns("*.a.example"), "a.example", false),
        (dns("*.a.example"), "y.x.a.example", false),
        (dns("*.*.a.example"), "y.x.a.example", false),
        (dns("x*.a.example"), "xy.a.example", false),
        (dns("*x.a.example"), "yx.a.example", false),
        (dns("x.*.example"), "x.a.example", false),
        (dns("*"), "a", false),
        (dns("*."), "a.example", false),
        (dns("**.a.example"), "x.a.example", false),
    ]);
}

// RFC 9525 6.3: U-labels of the reference are converted to A-labels first.
#[test]
fn u_labels_are_compared_as_a_labels() {
    holds(&[
        (dns("xn--bcher-kva.example"), "bücher.example", true),
        (dns("XN--BCHER-KVA.example"), "bücher.example", true),
        (dns("bücher.example"), "bücher.example", false),
        (srv("_xmpp-server.xn--bcher-kva.example"), "bücher.example", true),
        (xmpp("bücher.example"), "bücher.example", true),
        (xmpp("xn--bcher-kva.example"), "bücher.example", true),
    ]);
}

// The certificate with a NUL in it: what follows the NUL must not be cut off, what precedes it must not count.
#[test]
fn a_name_with_nul_is_void() {
    holds(&[
        (dns("a.example\0.evil.example"), "a.example", false),
        (dns("a.example\0"), "a.example", false),
        (srv("_xmpp-server.a.example\0.evil.example"), "a.example", false),
        (xmpp("a.example\0.evil.example"), "a.example", false),
    ]);
}

// RFC 4985 2: "_Service.Name"; RFC 9525 6.5: the service must be the one asked for.
// CRT-03.
#[test]
fn srv_names_vouch_for_the_server_service_only() {
    holds(&[
        (srv("_xmpp-server.a.example"), "a.example", true),
        (srv("_XMPP-Server.A.example"), "a.example", true),
        (srv("_xmpp-client.a.example"), "a.example", false),
        (srv("_imap.a.example"), "a.example", false),
        (srv("xmpp-server.a.example"), "a.example", false),
        (srv("a.example"), "a.example", false),
        (srv("_xmpp-server.*.example"), "a.example", false),
        (srv("_xmpp-server.b.example"), "a.example", false),
        (srv("_xmpp-server._tcp.a.example"), "a.example", false),
    ]);
}

// RFC 6120 13.7.1.4: an xmppAddr with a local part is a person's, not a server's.
#[test]
fn xmpp_addresses_vouch_as_bare_domains_only() {
    holds(&[
        (xmpp("a.example"), "a.example", true),
        (xmpp("A.example"), "a.example", true),
        (xmpp("romeo@a.example"), "a.example", false),
        (xmpp("a.example/resource"), "a.example", false),
        (xmpp("*.example"), "a.example", false),
        (xmpp("a.example."), "a.example", false),
        (xmpp(""), "a.example", false),
    ]);
}

// XEP-0344 2.4: the check is made for each domain against that exact domain.
#[test]
fn one_name_vouches_for_no_other_domain() {
    let certificate = certificate(vec![dns("a.example"), srv("_xmpp-server.b.example")]);
    assert!(speaks_for(&certificate, &domain("a.example")));
    assert!(speaks_for(&certificate, &domain("b.example")));
    assert!(!speaks_for(&certificate, &domain("c.example")));
}

// Expired, another name, an unknown issuer, its own issuer, none at all: each is told as what it is.
#[test]
fn why_a_certificate_does_not_prove_a_domain_is_told_in_particular() {
    let mut shown = certificate(vec![dns("b.example"), dns("*.c.example")]);
    shown.not_after = 1_793_491_200;
    shown.issuer = "CN=Old Authority".to_owned();
    let told = |certificate: Option<&Certificate>, name| {
        doubt(certificate, &domain(name)).map(|d| (d.cause, d.to_string()))
    };
    assert_eq!(told(Some(&shown), "b.example"), None);
    let (cause, words) = told(Some(&shown), "a.example").unwrap();
    assert_eq!(
        (cause, words.as_str()),
        (Cause::OtherName, "the certificate names other domains only: b.example, *.c.example")
    );
    for (fault, cause, more) in [
        (TrustFault::Expired, Cause::Expired, "expired on 2026-11-01"),
        (TrustFault::UnknownIssuer, Cause::UnknownIssuer, "issuer CN=Old Authority"),
        (TrustFault::SelfSigned, Cause::SelfSigned, "issued by itself"),
        (TrustFault::IsCa, Cause::BadCertificate, "is-ca"),
    ] {
        shown.trust.default = Err(fault);
        let (seen, words) = told(Some(&shown), "b.example").unwrap();
        assert_eq!(seen, cause);
        assert!(words.contains(more), "{words}");
    }
    assert_eq!(told(None, "b.example").unwrap().0, Cause::NoCertificate);
}

// RFC 6120 13.6: anchors configured for a peer replace the public store for that peer, both ways.
#[test]
fn anchors_of_a_peer_replace_the_default_ones() {
    let mut certificate = certificate(vec![dns("a.example")]);
    certificate.trust = Trust {
        default: Err(TrustFault::UnknownIssuer),
        peers: vec![
            (vec![domain("a.example")], Ok(root("CN=Theirs"))),
            (vec![domain("b.example")], Err(TrustFault::Expired)),
        ],
    };
    assert_eq!(trusted_for(&certificate, &domain("a.example")), Ok(()));
    assert_eq!(trusted_for(&certificate, &domain("b.example")), Err(TrustFault::Expired));
    assert_eq!(trusted_for(&certificate, &domain("c.example")), Err(TrustFault::UnknownIssuer));
    certificate.trust.default = Ok(root("CN=Root"));
    assert_eq!(trusted_for(&certificate, &domain("b.example")), Err(TrustFault::Expired));
    assert_eq!(trusted_for(&certificate, &domain("x.a.example")), Ok(()));
    // And so does the root that a path ends at.
    for (name, ends) in
        [("a.example", Some("CN=Theirs")), ("b.example", None), ("x.a.example", Some("CN=Root"))]
    {
        let found = root_for(&certificate, &domain(name));
        assert_eq!(found.map(|root| root.name.as_str()), ends, "{name}");
    }
}
