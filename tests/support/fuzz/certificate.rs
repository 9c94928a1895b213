//! The names in a certificate: read without a panic, and never worth more than what stands in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

use std::time::Duration;

use gatehouse::jid::Domain;
use gatehouse::stream::PresentedName;
use gatehouse::stream::identity::{names_speak_for, speaks_for, trusted_for};
use gatehouse::tls::TrustStore;
use gatehouse::tls::keys::inspect_chain;
use gatehouse::tls::names::{Constraints, presented};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Input that begins with `c` is a whole certificate, with `s` the contents of its alternative names, with `a` the
/// contents of an anchor's name constraints. Other input is text: a domain to ask about, then a name a line: `d`, `s` and
/// `x` for the three kinds, `p` and `e` for what an authority permits and excludes.
pub fn certificate(data: &[u8]) {
    match data {
        [b'c', whole @ ..] => raw(whole, whole),
        [b's', names @ ..] => raw(&with_names(names), names),
        [b'a', contents @ ..] => anchor(contents),
        text => {
            if let Ok(text) = std::str::from_utf8(text) {
                told(text);
            }
        }
    }
}

/// What is presented stands in these octets.
fn raw(whole: &[u8], within: &[u8]) {
    let der = CertificateDer::from(whole);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
    let described = TrustStore::default().describe(std::slice::from_ref(&der), now).expect("a chain of one");
    assert_eq!(described.fingerprint.len(), 64);
    let inspected = inspect_chain(std::slice::from_ref(&der));
    assert_eq!(inspected.is_some(), X509Certificate::from_der(whole).is_ok());
    if let Some(inspected) = inspected {
        assert_eq!(inspected.names, described.names);
        assert_eq!(inspected.fingerprint, described.fingerprint);
    } else {
        assert!(described.names.is_empty(), "an unreadable certificate presents nothing");
    }
    for name in &described.names {
        let text = self::text(name);
        assert!(
            text.is_empty() || within.windows(text.len()).any(|octets| octets == text.as_bytes()),
            "{name:?}"
        );
        assert!(
            !text.contains('\0') && (text.is_ascii() || matches!(name, PresentedName::Xmpp(_))),
            "{name:?}"
        );
        for domain in domains(text) {
            assert!(trusted_for(&described, &domain).is_err(), "nobody is trusted without an anchor");
            if speaks_for(&described, &domain) {
                justified(&described.names, &domain);
            }
        }
    }
}

/// The whole way of names that are known: into a certificate, out of it, and compared.
fn told(text: &str) {
    let mut lines = text.split('\n');
    let Some(domain) = lines.next().and_then(|line| Domain::parse(line).ok()) else { return };
    let (mut names, mut der) = (Vec::new(), Vec::new());
    let (mut permitted, mut excluded) = (Vec::new(), Vec::new());
    for (kind, name) in lines.filter_map(|line| line.split_once(' ')) {
        let ia5 = name.is_ascii() && !name.contains('\0');
        match kind {
            "d" if ia5 => names.push(PresentedName::Dns(name.to_owned())),
            "s" if ia5 => names.push(PresentedName::Srv(name.to_owned())),
            "x" if !name.contains('\0') => names.push(PresentedName::Xmpp(name.to_owned())),
            "p" if name.is_ascii() => permitted.push(name),
            "e" if name.is_ascii() => excluded.push(name),
            _ => continue,
        }
        der.extend(match kind {
            "d" => tlv(0x82, name.as_bytes()),
            "s" => tlv(0xa0, &[tlv(6, SRV_NAME), tlv(0xa0, &tlv(0x16, name.as_bytes()))].concat()),
            "x" => tlv(0xa0, &[tlv(6, XMPP_ADDR), tlv(0xa0, &tlv(0x0c, name.as_bytes()))].concat()),
            _ => Vec::new(),
        });
    }
    let whole = with_names(&der);
    let (_, certificate) = X509Certificate::from_der(&whole).expect("our own certificate");
    let found = presented(&certificate);
    if !names.is_empty() {
        assert_eq!(found, names);
    }
    for domain in found.iter().flat_map(|name| domains(self::text(name))).chain([domain]) {
        match names_speak_for(&found, &domain) {
            true => justified(&found, &domain),
            // RFC 9525 6.3: the very name, in its plain spelling, is never turned away.
            false => {
                assert!(!found.contains(&PresentedName::Dns(domain.to_ascii().into_owned())), "{domain}")
            }
        }
    }
    constrained(&found, &permitted, &excluded);
}

/// Some name says this very domain, or is a wild card for its left-most label (RFC 6120 13.7.1.2, RFC 9525 6).
fn justified(names: &[PresentedName], domain: &Domain) {
    let ascii = domain.to_ascii();
    let fits = names.iter().any(|name| match name {
        PresentedName::Dns(name) => {
            let name = name.to_ascii_lowercase();
            let star = ascii.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            name == ascii || Some(name) == star
        }
        PresentedName::Srv(name) => name.to_ascii_lowercase() == format!("_xmpp-server.{ascii}"),
        PresentedName::Xmpp(name) => Domain::parse(name).as_ref() == Ok(domain) && !name.ends_with('.'),
        PresentedName::Email(_) => false,
    });
    assert!(fits, "{names:?} speak for {domain}");
}

/// RFC 5280 4.2.1.10, label by label, for the names that the path validator does not know.
fn constrained(names: &[PresentedName], permitted: &[&str], excluded: &[&str]) {
    let trees = |tag: u8, names: &[&str]| {
        let trees: Vec<u8> = names.iter().flat_map(|name| tlv(0x30, &tlv(0x82, name.as_bytes()))).collect();
        if trees.is_empty() { trees } else { tlv(tag, &trees) }
    };
    let contents = [trees(0xa0, permitted), trees(0xa1, excluded)].concat();
    if contents.is_empty() || contents.len() > 0xffff {
        return;
    }
    let mut constraints = Constraints::default();
    constraints.add_anchor(&contents);
    assert!(!constraints.is_empty());
    for name in names {
        let domain = match name {
            PresentedName::Dns(_) => {
                assert!(constraints.admit(name));
                continue;
            }
            PresentedName::Srv(name) => name.split_once('.').map_or("", |(_, domain)| domain),
            PresentedName::Xmpp(name) | PresentedName::Email(name) => {
                name.rsplit_once('@').map_or(name.as_str(), |(_, domain)| domain)
            }
        };
        let Ok(domain) = Domain::parse(domain) else {
            assert!(!constraints.admit(name), "{name:?} is no domain");
            continue;
        };
        let ascii = domain.to_ascii();
        let within = |tree: &&str| {
            let tree = tree.to_ascii_lowercase();
            let tree = tree.strip_prefix('.').unwrap_or(&tree);
            let (mut name, mut tree): (Vec<_>, Vec<_>) =
                (ascii.split('.').collect(), tree.split('.').collect());
            if tree == [""] {
                return true;
            }
            name.reverse();
            tree.reverse();
            name.starts_with(&tree)
        };
        let fine = (permitted.is_empty() || permitted.iter().any(within)) && !excluded.iter().any(within);
        assert_eq!(constraints.admit(name), fine, "{name:?} under {permitted:?} but {excluded:?}");
    }
}

/// Whatever an anchor says, it binds both kinds of ours, and only takes away. One that is held to addresses of the network or of
/// mail vouches for no address of XMPP, so that kind may be bound more.
fn anchor(contents: &[u8]) {
    let mut before = Constraints::default();
    before.add_anchor(&[tlv(0xa1, &tlv(0x30, &tlv(0x82, b"bad.example")))].concat());
    let mut after = Constraints::default();
    after.add_anchor(&[tlv(0xa1, &tlv(0x30, &tlv(0x82, b"bad.example")))].concat());
    after.add_anchor(contents);
    for domain in [
        "friend.example",
        "a.friend.example",
        "bad.example",
        "x.bad.example",
        "example",
        "xn--bcher-kva.example",
    ] {
        let srv = PresentedName::Srv(format!("_xmpp-server.{domain}"));
        let xmpp = PresentedName::Xmpp(domain.to_owned());
        assert!(after.admit(&srv) || !after.admit(&xmpp), "{domain}");
        assert!(before.admit(&srv) || !after.admit(&srv), "{domain}");
    }
    assert!(!after.is_empty() && !after.admit(&PresentedName::Xmpp("bad.example".into())));
}

fn text(name: &PresentedName) -> &str {
    match name {
        PresentedName::Dns(text)
        | PresentedName::Srv(text)
        | PresentedName::Xmpp(text)
        | PresentedName::Email(text) => text,
    }
}

/// Domains that a name might be taken for.
fn domains(name: &str) -> Vec<Domain> {
    let stripped = name.strip_prefix("_xmpp-server.").or(name.strip_prefix("*.")).unwrap_or(name);
    let parent = stripped.split_once('.').map_or("", |(_, parent)| parent);
    let host = name.rsplit(['@', '/']).next().unwrap_or_default();
    let more = [format!("a.{stripped}"), format!("a.b.{stripped}"), format!("x{stripped}")];
    let all = [name, stripped, parent, host, "hall.example"].map(str::to_owned).into_iter().chain(more);
    all.filter_map(|text| Domain::parse(&text).ok()).collect()
}

/// A certificate with these alternative names, of a key and a signature that nobody looks at.
fn with_names(names: &[u8]) -> Vec<u8> {
    let algorithm = tlv(0x30, &tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
    let moment = |text: &[u8]| tlv(0x17, text);
    let validity = tlv(0x30, &[moment(b"250101000000Z"), moment(b"350101000000Z")].concat());
    let curve =
        [tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7])];
    let point = tlv(3, &[&[0, 4][..], &[7; 64]].concat());
    let key = tlv(0x30, &[tlv(0x30, &curve.concat()), point].concat());
    let extension = tlv(0x30, &[tlv(6, &[0x55, 0x1d, 0x11]), tlv(4, &tlv(0x30, names))].concat());
    let extensions = tlv(0xa3, &tlv(0x30, &extension));
    let (version, serial, name) = (tlv(0xa0, &tlv(2, &[2])), tlv(2, &[1]), tlv(0x30, &[]));
    let tbs = [version, serial, algorithm.clone(), name.clone(), validity, name, key, extensions].concat();
    tlv(0x30, &[tlv(0x30, &tbs), algorithm, tlv(3, &[0, 0])].concat())
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = contents.len();
    let length = match len {
        0..=0x7f => vec![len as u8],
        0x80..=0xff => vec![0x81, len as u8],
        0x100..=0xffff => vec![0x82, (len >> 8) as u8, len as u8],
        _ => vec![0x83, (len >> 16) as u8, (len >> 8) as u8, len as u8],
    };
    [&[tag][..], &length, contents].concat()
}

/// id-on-dnsSRV (RFC 4985) and id-on-xmppAddr (RFC 6120).
const SRV_NAME: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 7];
const XMPP_ADDR: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 8, 5];
