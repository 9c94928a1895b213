//! What a ClientHello offers, read once more where its handshake has failed: to tell what it lacks.
//!
//! The library stops at the first thing that it misses, which need not be what is wrong: a client of TLS 1.1 names no signature
//! schemes, and one that cannot do ECDHE names no groups. Nothing here decides anything.

use rustls::sign::SigningKey;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SignatureScheme};

use super::provider;
use crate::reason::{Cause, Detail};

/// What a client offers.
#[derive(Debug, Default)]
pub(super) struct Offer {
    versions: Vec<u16>,
    suites: Vec<u16>,
    groups: Vec<u16>,
    schemes: Vec<u16>,
    /// The server name that it asks for.
    pub(super) name: Option<String>,
}

impl Offer {
    /// Reads it from the first octets of a connection; none if it is not whole, or no ClientHello.
    pub(super) fn read(octets: &[u8]) -> Option<Self> {
        if let [first, _, HELLO, rest @ ..] = octets
            && *first >= 0x80
        {
            // The form of SSL 2.0, in which clients up to TLS 1.0 begin; whoever knows a newer version writes otherwise.
            let versions: Vec<u16> = words(rest.get(..2)?).collect();
            let old = versions.iter().all(|version| *version == SSL2 || (SSL3..TLS12).contains(version));
            return old.then(|| Self { versions, ..Self::default() });
        }
        let message = message(octets)?;
        let mut rest = Rest(&message);
        let version = words(rest.take(2)?).next()?;
        let (_random, _session) = (rest.take(32)?, rest.sized(1)?);
        let suites = words(rest.sized(2)?).collect();
        let _compression = rest.sized(1)?;
        let mut offer = Self { versions: vec![version], suites, ..Self::default() };
        let mut extensions = Rest(rest.sized(2).unwrap_or_default());
        while let Some(kind) = extensions.take(2) {
            let mut value = Rest(extensions.sized(2)?);
            match kind {
                [0, 0] => {
                    let mut names = Rest(value.sized(2)?);
                    if names.take(1)? == [0] {
                        offer.name = String::from_utf8(names.sized(2)?.to_ascii_lowercase()).ok();
                    }
                }
                [0, 10] => offer.groups = words(value.sized(2)?).collect(),
                [0, 13] => offer.schemes = words(value.sized(2)?).collect(),
                // It goes before the version in the old place (RFC 8446 4.2.1).
                [0, 43] => offer.versions = words(value.sized(1)?).collect(),
                _ => {}
            }
        }
        Some(offer)
    }

    /// What of it we do not have, where it can have a handshake refused; with the key of what we show, where it came so far.
    pub(super) fn lacks(&self, key: Option<&dyn SigningKey>) -> Option<Detail> {
        let lacks = |cause, what: &str| Some(Detail::new(cause, what));
        let newest =
            self.versions.iter().filter(|version| **version == SSL2 || (SSL3..=TLS13).contains(version));
        let version = match newest.max() {
            Some(&TLS13) => ProtocolVersion::TLSv1_3,
            Some(&TLS12) => ProtocolVersion::TLSv1_2,
            Some(&older) => {
                return lacks(Cause::NoCommonVersion, &format!("it offers {} at most", name(older)));
            }
            None => return lacks(Cause::NoCommonVersion, ""),
        };
        let provider = provider();
        let suites: Vec<_> = provider
            .cipher_suites
            .iter()
            .filter(|suite| suite.version().version == version)
            .filter(|suite| self.suites.iter().any(|offered| CipherSuite::from(*offered) == suite.suite()))
            .collect();
        if suites.is_empty() {
            return lacks(Cause::NoCommonSuite, "");
        }
        let has = |group: NamedGroup| self.groups.iter().any(|offered| NamedGroup::from(*offered) == group);
        if !provider.kx_groups.iter().any(|group| group.usable_for_version(version) && has(group.name())) {
            return lacks(Cause::NoCommonGroup, "");
        }
        let schemes: Vec<_> = self.schemes.iter().map(|scheme| SignatureScheme::from(*scheme)).collect();
        if schemes.is_empty() {
            return lacks(Cause::NoCommonScheme, "it names none");
        }
        let key = key?;
        // In TLS 1.2 the suite says as well what signs.
        let fits = suites.iter().any(|suite| suite.usable_for_signature_algorithm(key.algorithm()));
        if fits && key.choose_scheme(&schemes).is_some() {
            return None;
        }
        lacks(
            Cause::NoCommonScheme,
            &format!("our certificate has a key for {:?}, which it does not take", key.algorithm()),
        )
    }
}

/// The first message of a handshake, without its head, out of as many records as it takes.
fn message(octets: &[u8]) -> Option<Vec<u8>> {
    let mut records = Rest(octets);
    let mut message = Vec::new();
    loop {
        // What the library stops at wherever it stands: cut or not, the same is told of it.
        let [HANDSHAKE, TLS, _] = records.take(3)? else { return None };
        let part = records.sized(2).filter(|part| (1..=RECORD).contains(&part.len()))?;
        message.extend_from_slice(part);
        if let [HELLO, length @ ..] = message.as_slice()
            && let Some(whole) = Rest(length).sized(3)
        {
            return Some(whole.to_vec());
        }
    }
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (now, later) = self.0.split_at_checked(count)?;
        self.0 = later;
        Some(now)
    }

    /// A length of so many octets, and what is so long.
    fn sized(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.take(width)?.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
        self.take(length)
    }
}

fn words(octets: &[u8]) -> impl Iterator<Item = u16> {
    octets.chunks_exact(2).map(|two| two.iter().fold(0, |word, octet| word << 8 | u16::from(*octet)))
}

const fn name(version: u16) -> &'static str {
    match version {
        SSL2 => "SSL 2.0",
        SSL3 => "SSL 3.0",
        TLS10 => "TLS 1.0",
        _ => "TLS 1.1",
    }
}

const SSL2: u16 = 0x0002;
const SSL3: u16 = 0x0300;
const TLS10: u16 = 0x0301;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;

/// The kind of a record, and of a message in it.
const HANDSHAKE: u8 = 22;
/// The first octet of the version of a record, whichever version.
const TLS: u8 = 3;
/// The octets of the longest record: what it holds, and what encryption may add.
const RECORD: usize = 16_384 + 2048;
const HELLO: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    // What unproven peers send is read here; whatever it is, it is read to its end and no further.
    #[test]
    fn what_is_not_whole_is_no_offer() {
        let body = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0]].concat();
        let hello = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
        let (first, second) = hello.split_at(9);
        let record = |part: &[u8]| [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()][..], part].concat();
        let whole = [record(first), record(second)].concat();
        for length in 0..whole.len() {
            assert!(Offer::read(&whole[..length]).is_none(), "{length}");
        }
        let lacks = Offer::read(&whole).unwrap().lacks(None).unwrap();
        assert_eq!((lacks.cause, &*lacks.particulars), (Cause::NoCommonVersion, "it offers TLS 1.1 at most"));
        // Records that the library reads no further than their head: a version of nothing, empty ones, too long ones.
        for at in [0, 5 + 9] {
            let mut odd = whole.clone();
            odd[at + 1] = 0x5d;
            assert!(Offer::read(&odd).is_none(), "{at}");
        }
        assert!(Offer::read(&[record(first), record(&[]), record(second)].concat()).is_none());
        let padded = [&hello[..], &[0; RECORD]].concat();
        let long = |length: usize| {
            let head = [22, 3, 1, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()];
            Offer::read(&[&head[..], &padded[..length]].concat()).is_some()
        };
        assert_eq!([long(RECORD), long(RECORD + 1)], [true, false]);
        // The form of SSL 2.0; and what only looks like it.
        let old = Offer::read(&[0x80, 46, 1, 3, 1, 0, 33]).unwrap().lacks(None).unwrap();
        assert_eq!(&*old.particulars, "it offers TLS 1.0 at most");
        assert!(Offer::read(&[0x80, 46, 1, 3, 9, 0, 33]).is_none());
        assert!(Offer::read(b"<?xml version='1.0'?>").is_none());
    }
}
