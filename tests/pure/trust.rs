//! What path validation makes of chains, and which names it lets through (CRT-01 to CRT-10).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

use std::time::Duration;

use crate::pki::*;
use gatehouse::stream::identity::{root_for, speaks_for, trusted_for};
use gatehouse::stream::secured::{Certificate, PresentedName, TrustFault};
use gatehouse::tls::keys;
use gatehouse::tls::verify::{Anchors, Revocation, TrustStore, UnknownRevocation};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CidrSubnet,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

fn describe(store: &TrustStore, chain: &[CertificateDer<'_>]) -> Certificate {
    store.describe(chain, UnixTime::now()).unwrap()
}

fn judge(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Result<(), TrustFault> {
    let mut params = leaf_params(&["a.example"]);
    change(&mut params);
    describe(&authority.trust(), &authority.sign(params).chain).trust.by_default()
}

// RFC 5280 4.2.1.12 and CRT-08: public authorities have dropped clientAuth; serverAuth alone is taken, others are not.
#[test]
fn either_usage_is_taken_and_no_other() {
    use ExtendedKeyUsagePurpose as P;
    let authority = Authority::new("root");
    let table = [
        (vec![], Ok(())),
        (vec![P::ServerAuth], Ok(())),
        (vec![P::ClientAuth], Ok(())),
        (vec![P::ServerAuth, P::ClientAuth], Ok(())),
        (vec![P::CodeSigning, P::ClientAuth], Ok(())),
        (vec![P::CodeSigning], Err(TrustFault::BadUsage)),
        (vec![P::EmailProtection, P::TimeStamping], Err(TrustFault::BadUsage)),
        (vec![P::Any], Err(TrustFault::BadUsage)),
    ];
    for (usages, expected) in table {
        let found = judge(&authority, |params| params.extended_key_usages = usages.clone());
        assert_eq!(found, expected, "{usages:?}");
    }
}

const BITS: [KeyUsagePurpose; 9] = [
    KeyUsagePurpose::DigitalSignature,
    KeyUsagePurpose::ContentCommitment,
    KeyUsagePurpose::KeyEncipherment,
    KeyUsagePurpose::DataEncipherment,
    KeyUsagePurpose::KeyAgreement,
    KeyUsagePurpose::KeyCertSign,
    KeyUsagePurpose::CrlSign,
    KeyUsagePurpose::EncipherOnly,
    KeyUsagePurpose::DecipherOnly,
];

// CRT-07, RFC 5280 4.2.1.3: "a leaf whose key usage lacks digitalSignature (TLS 1.3, ECDHE)" vouches for nothing. The bit
// alone, and all the others together without it.
#[test]
fn a_leaf_signs_handshakes_only_where_its_key_usage_says_so() {
    let authority = Authority::new("root");
    let run = |bits: Vec<KeyUsagePurpose>| judge(&authority, |params| params.key_usages = bits);
    assert_eq!(run(Vec::new()), Ok(()), "nothing said is nothing forbidden");
    for bit in BITS {
        let expected =
            if bit == KeyUsagePurpose::DigitalSignature { Ok(()) } else { Err(TrustFault::BadUsage) };
        assert_eq!(run(vec![bit]), expected, "{bit:?}");
    }
    assert_eq!(run(BITS.to_vec()), Ok(()));
    assert_eq!(run(BITS[1..].to_vec()), Err(TrustFault::BadUsage));
}

// CRT-07: "an issuer whose key usage lacks keyCertSign .. vouch[es] for nothing", as an intermediate and as an anchor.
#[test]
fn an_issuer_signs_certificates_only_where_its_key_usage_says_so() {
    let root = Authority::new("root");
    let run = |bits: Vec<KeyUsagePurpose>| {
        let mut params = authority_params("middle");
        params.key_usages = bits.clone();
        let middle = root.below(params.clone());
        let mut leaf = middle.issue(&["a.example"]);
        leaf.chain.push(middle.certificate.clone());
        let between = describe(&root.trust(), &leaf.chain).trust.by_default();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let anchor = Authority { certificate, params, key };
        let above = describe(&anchor.trust(), &anchor.issue(&["a.example"]).chain).trust.by_default();
        assert_eq!(between, above, "{bits:?}");
        above
    };
    assert_eq!(run(Vec::new()), Ok(()));
    for bit in BITS {
        let expected = if bit == KeyUsagePurpose::KeyCertSign { Ok(()) } else { Err(TrustFault::BadUsage) };
        assert_eq!(run(vec![bit]), expected, "{bit:?}");
    }
    assert_eq!(run(BITS.to_vec()), Ok(()));
    let others = BITS.into_iter().filter(|bit| *bit != KeyUsagePurpose::KeyCertSign).collect();
    assert_eq!(run(others), Err(TrustFault::BadUsage));
}

// CRT-07: an anchor that may issue nothing speaks for itself, and for nobody whom its key has signed.
#[test]
fn a_pinned_leaf_is_no_authority() {
    let digital = vec![KeyUsagePurpose::DigitalSignature];
    for (is_ca, bits) in [
        (IsCa::ExplicitNoCa, vec![]),
        (IsCa::ExplicitNoCa, digital.clone()),
        (IsCa::NoCa, vec![]),
        (IsCa::NoCa, digital),
    ] {
        let mut params = leaf_params(&["a.example"]);
        (params.is_ca, params.key_usages) = (is_ca, bits);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let pinned = Authority { certificate, params, key };
        let itself = [pinned.certificate.clone()];
        assert_eq!(describe(&pinned.trust(), &itself).trust.by_default(), Ok(()));
        let below = pinned.issue(&["b.example"]);
        assert!(describe(&pinned.trust(), &below.chain).trust.default.is_err());
    }
}

// An authority for addresses or mailboxes is none for xmppAddr, whose names no constraint of its own binds.
#[test]
fn an_authority_of_addresses_or_mail_vouches_for_no_xmpp_address() {
    let root = Authority::new("root");
    let (mail, address, all) = (
        GeneralSubtree::Rfc822Name("mail.example".into()),
        GeneralSubtree::IpAddress(CidrSubnet::V4([192, 0, 2, 0], [255, 255, 255, 0])),
        GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
    );
    let names = GeneralSubtree::DnsName("good.example".into());
    let table = [
        (vec![mail.clone()], vec![], false),
        (vec![address.clone()], vec![], false),
        (vec![], vec![mail.clone()], false),
        (vec![], vec![all.clone()], false),
        (vec![names.clone(), mail], vec![], true),
        (vec![names.clone()], vec![all], true),
        (vec![names], vec![], true),
    ];
    for (permitted, excluded, expected) in table {
        let mut middle = authority_params("middle");
        let told = format!("{permitted:?} {excluded:?}");
        middle.name_constraints =
            Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
        let middle = root.below(middle);
        let mut params = leaf_params(&[]);
        raw_names(&mut params, &[xmpp(b"good.example")]);
        let mut leaf = middle.sign(params);
        leaf.chain.push(middle.certificate.clone());
        let described = describe(&root.trust(), &leaf.chain);
        assert_eq!(described.names.len(), usize::from(expected), "{told}");
    }
}

#[test]
fn each_fault_of_a_leaf_is_told_apart() {
    let authority = Authority::new("root");
    let expired = judge(&authority, |params| params.not_after = date_time_ymd(2020, 1, 1));
    assert_eq!(expired, Err(TrustFault::Expired));
    let early = judge(&authority, |params| params.not_before = date_time_ymd(2400, 1, 1));
    assert_eq!(early, Err(TrustFault::NotYetValid));
    let is_ca = judge(&authority, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(is_ca, Err(TrustFault::IsCa));
    let unknown = Authority::new("stranger").issue(&["a.example"]);
    assert_eq!(
        describe(&authority.trust(), &unknown.chain).trust.by_default(),
        Err(TrustFault::UnknownIssuer)
    );
    let impostor = Authority::new("root").issue(&["a.example"]);
    assert_eq!(
        describe(&authority.trust(), &impostor.chain).trust.by_default(),
        Err(TrustFault::BadSignature)
    );
    let garbage = CertificateDer::from(b"garbage".to_vec());
    let described = describe(&authority.trust(), std::slice::from_ref(&garbage));
    assert_eq!((described.trust.by_default(), described.names), (Err(TrustFault::Malformed), vec![]));
    assert!(authority.trust().describe(&[], UnixTime::now()).is_none());
}

// RFC 6120 13.14: self-signed is a fact, no failure; and it becomes trust where the operator says so.
#[test]
fn a_self_signed_certificate_counts_only_as_an_anchor_of_its_peer() {
    let key = KeyPair::generate().unwrap();
    let certificate = leaf_params(&["a.example"]).self_signed(&key).unwrap().der().clone();
    let chain = [certificate];
    let authority = Authority::new("root");
    assert_eq!(describe(&authority.trust(), &chain).trust.by_default(), Err(TrustFault::SelfSigned));
    let pinned = TrustStore {
        default: authority.anchors(),
        peers: vec![(vec![domain("a.example")], Anchors::from_certificates(&chain).unwrap())],
        ..TrustStore::default()
    };
    let described = describe(&pinned, &chain);
    assert_eq!(trusted_for(&described, &domain("a.example")), Ok(()));
    assert_eq!(trusted_for(&described, &domain("b.example")), Err(TrustFault::SelfSigned));
    // And the public store no longer helps for that peer (RFC 6120 13.6).
    let public = describe(&pinned, &authority.issue(&["a.example"]).chain);
    assert!(trusted_for(&public, &domain("a.example")).is_err());
    assert_eq!(trusted_for(&public, &domain("b.example")), Ok(()));
}

// RFC 9325 4.5.
// TLS-11.
#[test]
fn weak_keys_and_broken_digests_are_refused() {
    for pem in [include_bytes!("../tls/rsa1024.pem").as_slice(), include_bytes!("../tls/sha1.pem").as_slice()]
    {
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        let anchors = Anchors::from_certificates(std::slice::from_ref(&certificate)).unwrap();
        let store = TrustStore { default: anchors, ..TrustStore::default() };
        assert_eq!(describe(&store, &[certificate]).trust.by_default(), Err(TrustFault::Weak));
    }
}

#[test]
fn a_path_leads_through_intermediates_and_ends_with_the_first_of_them() {
    let root = Authority::new("root");
    let mut middle = authority_params("middle");
    middle.not_after = date_time_ymd(2099, 1, 1);
    let middle = root.below(middle);
    let mut leaf = middle.issue(&["a.example"]);
    assert_eq!(describe(&root.trust(), &leaf.chain).trust.by_default(), Err(TrustFault::UnknownIssuer));
    leaf.chain.push(middle.certificate.clone());
    let described = describe(&root.trust(), &leaf.chain);
    assert_eq!(described.trust.by_default(), Ok(()));
    assert_eq!(described.not_after, date_time_ymd(2099, 1, 1).unix_timestamp());
    assert!(
        described.expires.is_some_and(|end| end > std::time::Instant::now() + Duration::from_secs(86400))
    );
    // A leaf is no authority.
    let fake =
        Authority { certificate: leaf.chain[0].clone(), params: leaf_params(&["a.example"]), key: leaf.key };
    let mut below = fake.issue(&["b.example"]);
    below.chain.extend([fake.certificate, middle.certificate]);
    assert!(describe(&root.trust(), &below.chain).trust.default.is_err());
}

// DNS-18: what no other authority can choose is the root of our own store: its name and its key, whatever the intermediates call
// themselves, and by the anchors of the peer where it has some (RFC 6120 13.6).
#[test]
fn a_path_is_known_by_the_root_that_it_ends_at() {
    let (one, other) = (Authority::new("One"), Authority::new("Other"));
    let shown = |root: &Authority| {
        let middle = root.below(authority_params("Of repute"));
        let mut leaf = middle.issue(&["a.example"]);
        leaf.chain.push(middle.certificate);
        leaf.chain
    };
    let store = TrustStore {
        default: Anchors::from_certificates(&[one.certificate.clone(), other.certificate.clone()]).unwrap(),
        peers: vec![(vec![domain("b.example")], other.anchors())],
        ..TrustStore::default()
    };
    for root in [&one, &other] {
        let described = describe(&store, &shown(root));
        let itself = describe(&store, std::slice::from_ref(&root.certificate));
        let found = root_for(&described, &domain("a.example")).unwrap();
        assert_eq!((Some(found.key), described.issuer.as_str()), (itself.key, "CN=Of repute"));
        let theirs = root_for(&described, &domain("b.example"));
        assert_eq!(theirs.is_some(), root.certificate == other.certificate);
    }
    let described = describe(&store, &shown(&one));
    assert!(root_for(&described, &domain("a.example")).unwrap().name.ends_with("CN=One"));
    let unknown = describe(&store, &shown(&Authority::new("One")));
    assert_eq!(root_for(&unknown, &domain("a.example")), None);
}

// RFC 5280 4.2.1.10, for dNSName by the path validator, for SRVName and xmppAddr by ours.
#[test]
fn an_authority_held_to_some_names_vouches_for_no_others() {
    let root = Authority::new("root");
    let mut middle = authority_params("middle");
    middle.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("good.example".into())],
        excluded_subtrees: vec![GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4]))],
    });
    let middle = root.below(middle);
    let run = |names: &[(u8, Vec<u8>)]| {
        let mut params = leaf_params(&[]);
        raw_names(&mut params, names);
        let mut leaf = middle.sign(params);
        leaf.chain.push(middle.certificate.clone());
        describe(&root.trust(), &leaf.chain)
    };
    let good = run(&[dns(b"a.good.example"), srv(b"_xmpp-server.good.example"), xmpp(b"good.example")]);
    assert_eq!((good.trust.by_default(), good.names.len()), (Ok(()), 3));
    assert!(run(&[dns(b"victim.example")]).trust.default.is_err());
    let sly = run(&[dns(b"a.good.example"), srv(b"_xmpp-server.victim.example"), xmpp(b"victim.example")]);
    assert!(!speaks_for(&sly, &domain("victim.example")));
    assert_eq!(sly.names, [PresentedName::Dns("a.good.example".into())]);
}

// RFC 6120 13.7.1.2.1: these three kinds, and never the Common Name; NUL and octets beyond IA5 void a name.
#[test]
fn names_are_taken_from_the_alternative_names_only() {
    let authority = Authority::new("root");
    let mut params = leaf_params(&[]);
    raw_names(
        &mut params,
        &[
            dns(b"a.example"),
            dns(b"nul.example\0.evil.example"),
            dns("b\u{fc}cher.example".as_bytes()),
            dns(b"\xff.example"),
            srv(b"_xmpp-server.b.example"),
            srv(b"_xmpp-server.nul.example\0"),
            other(7, 0x0c, b"_xmpp-server.utf8.example"),
            xmpp("b\u{fc}cher.example".as_bytes()),
            xmpp(b"\xff.example"),
            other(5, 0x16, b"ia5.example"),
            other(9, 0x0c, b"other.example"),
            (0x81, b"romeo@mail.example".to_vec()),
            (0x86, b"xmpp:uri.example".to_vec()),
        ],
    );
    let described = describe(&authority.trust(), &authority.sign(params).chain);
    let expected = [
        PresentedName::Dns("a.example".into()),
        PresentedName::Srv("_xmpp-server.b.example".into()),
        PresentedName::Xmpp("b\u{fc}cher.example".into()),
        // For accounts alone, see below.
        PresentedName::Email("romeo@mail.example".into()),
    ];
    assert_eq!(described.names, expected);
    for name in ["nul.example", "cn.example", "utf8.example", "ia5.example", "other.example", "mail.example"]
    {
        assert!(!speaks_for(&described, &domain(name)), "{name}");
    }
    assert!(speaks_for(&described, &domain("b\u{fc}cher.example")));
    assert_eq!(described.fingerprint.len(), 64);
}

// RFC 6120 13.7.2(5); CRT-09: soft-fail is something the operator says.
#[test]
fn revocation_lists_are_heeded() {
    let authority = Authority::new("root");
    let scratch = tempfile::tempdir().unwrap();
    let list = |authority: &Authority, file: &str, revoked: &[u8], next: i32| {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(next, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from_slice(revoked),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = scratch.path().join(file);
        let list = params.signed_by(&authority.issuer()).unwrap();
        if file.ends_with(".der") {
            std::fs::write(&path, list.der()).unwrap();
        } else {
            std::fs::write(&path, list.pem().unwrap()).unwrap();
        }
        path
    };
    let ours = list(&authority, "ours.pem", &[1, 2, 3], 2400);
    let others = list(&authority, "others.der", &[9], 2400);
    let stale = list(&authority, "stale.pem", &[9], 2021);
    let foreign = list(&Authority::new("foreign"), "foreign.pem", &[9], 2400);
    let leaf = authority.issue(&["a.example"]);
    use UnknownRevocation::{Accept, ByIssuer, Refuse};
    let table = [
        (&ours, Refuse, Err(TrustFault::Revoked)),
        (&ours, Accept, Err(TrustFault::Revoked)),
        (&others, Refuse, Ok(())),
        (&stale, Refuse, Err(TrustFault::RevocationUnknown)),
        (&stale, Accept, Ok(())),
        (&foreign, Refuse, Err(TrustFault::RevocationUnknown)),
        (&foreign, Accept, Ok(())),
        // The list of one authority does not disown the others; a stale list of its own does.
        (&ours, ByIssuer, Err(TrustFault::Revoked)),
        (&others, ByIssuer, Ok(())),
        (&stale, ByIssuer, Err(TrustFault::RevocationUnknown)),
        (&foreign, ByIssuer, Ok(())),
    ];
    for (path, unknown, expected) in table {
        let revocation = Some(Revocation::load(&[path], unknown).unwrap());
        let store = TrustStore { default: authority.anchors(), revocation, ..TrustStore::default() };
        assert_eq!(
            describe(&store, &leaf.chain).trust.by_default(),
            expected,
            "{} {unknown:?}",
            path.display()
        );
    }
    // CRT-09: whether somebody was asked is told for each stream; CRT-12: what was shown is judged again by newer lists.
    use gatehouse::stream::RevocationCheck::{Checked, Off, Unknown};
    let plain = describe(&authority.trust(), &leaf.chain);
    assert_eq!(plain.revocation, Off);
    let table = [
        (&others, Refuse, Checked, true),
        (&others, Accept, Checked, true),
        (&foreign, ByIssuer, Unknown, true),
        (&stale, Accept, Unknown, true),
        (&ours, ByIssuer, Unknown, false),
    ];
    for (path, unknown, expected, trusted) in table {
        let revocation = Some(Revocation::load(&[path], unknown).unwrap());
        let store = TrustStore { default: authority.anchors(), revocation, ..TrustStore::default() };
        let again = store.describe_again(&plain).unwrap();
        assert_eq!(
            (again.revocation, again.trust.default.is_ok()),
            (expected, trusted),
            "{}",
            path.display()
        );
        assert_eq!(again.fingerprint, plain.fingerprint);
    }
    // What else is wrong with a certificate does not hide that it was revoked: a pin asks neither for a path nor for its days.
    let under = |authority: &Authority, path| TrustStore {
        default: authority.anchors(),
        revocation: Some(Revocation::load(&[path], ByIssuer).unwrap()),
        ..TrustStore::default()
    };
    let unknown = Authority::new("nobody's root");
    assert_eq!(describe(&under(&unknown, &ours), &leaf.chain).trust.by_default(), Err(TrustFault::Revoked));
    assert_eq!(
        describe(&under(&unknown, &others), &leaf.chain).trust.by_default(),
        Err(TrustFault::UnknownIssuer)
    );
    let mut old = leaf_params(&["a.example"]);
    (old.not_before, old.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    let old = authority.sign(old).chain;
    assert_eq!(describe(&under(&authority, &ours), &old).trust.by_default(), Err(TrustFault::Revoked));
    assert_eq!(describe(&under(&authority, &others), &old).trust.by_default(), Err(TrustFault::Expired));
    let named_alike = Authority::new("foreign");
    assert_eq!(
        describe(&under(&named_alike, &ours), &named_alike.issue(&["a.example"]).chain).trust.by_default(),
        Ok(())
    );
    let wrong = scratch.path().join("wrong.pem");
    std::fs::write(&wrong, "no list").unwrap();
    assert!(Revocation::load(&[&wrong], Refuse).unwrap_err().to_string().contains("wrong.pem"));
}

// A chain saved by an editor on Windows, or put together from such files: no block is passed over.
#[test]
fn byte_order_marks_before_pem_blocks_are_read_over() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new("root");
    let leaf = authority.issue(&["a.example"]);
    let mark = "\u{feff}";
    let pem = |der: &[u8]| {
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")
    };
    let write = |name: &str, text: String| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (own, issuer) = (pem(&leaf.chain[0]), pem(&authority.certificate));
    let chain = write("chain.pem", format!("{mark}{own}{mark}{issuer}"));
    let key = write("key.pem", format!("{mark}{}", leaf.key.serialize_pem()));
    let plain = write("plain.pem", format!("{own}{issuer}"));
    keys::load(&chain, &key).unwrap();
    let (marked, plain) = (keys::inspect(&chain).unwrap(), keys::inspect(&plain).unwrap());
    assert_eq!(marked.names, [PresentedName::Dns("a.example".into())]);
    assert_eq!(marked.fingerprint, plain.fingerprint);
    let roots = write("roots.pem", format!("{mark}{issuer}"));
    assert!(Anchors::load(&roots).is_ok());
}

// Each fault names the file and the remedy.
#[test]
fn files_that_will_not_do_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new("root");
    let (leaf, another) = (authority.issue(&["a.example"]), authority.issue(&["b.example"]));
    let write = |name: &str, text: String| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let pem = |der: &CertificateDer<'_>| {
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")
    };
    let chain = write("chain.pem", pem(&leaf.chain[0]));
    let key = write("key.pem", leaf.key.serialize_pem());
    let wrong = write("wrong.key", another.key.serialize_pem());
    let empty = write("empty.pem", String::new());
    let absent = scratch.path().join("absent.pem");
    assert!(keys::load(&chain, &key).is_ok());
    let table = [
        (&chain, &wrong, "wrong.key", "does not belong"),
        (&chain, &empty, "empty.pem", "no private key"),
        (&chain, &absent, "absent.pem", "cannot be read"),
        (&empty, &key, "empty.pem", "no certificate"),
        (&absent, &key, "absent.pem", "correct the path"),
        (&key, &key, "key.pem", "no certificate"),
    ];
    for (chain, key, file, words) in table {
        let fault = keys::load(chain, key).unwrap_err().to_string();
        assert!(fault.contains(file) && fault.contains(words) && fault.contains("; "), "{fault}");
    }
    let inspection = keys::inspect(&chain).unwrap();
    assert_eq!(inspection.names, [PresentedName::Dns("a.example".into())]);
    assert!(inspection.not_before < inspection.not_after);
    assert_eq!(inspection.fingerprint, describe(&authority.trust(), &leaf.chain).fingerprint);
}
