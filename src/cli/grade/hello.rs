//! The first message of a TLS handshake, written by hand, and the server's answer: which versions and suites it takes, those among
//! them that the gateway itself does not have. Nothing is agreed upon; the handshake ends there.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A version of TLS on the wire (RFC 8446 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(pub(super) u16);

impl Version {
    pub(super) const V10: Self = Self(0x0301);
    pub(super) const V11: Self = Self(0x0302);
    pub(super) const V12: Self = Self(0x0303);
    pub(super) const V13: Self = Self(0x0304);

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V11 => "1.1",
            Self::V12 => "1.2",
            Self::V13 => "1.3",
            _ => "older than 1.0",
        }
    }

    /// RFC 8996.
    pub(super) fn is_broken(self) -> bool {
        self.0 < Self::V12.0
    }

    /// The suites that may be asked for in this version.
    pub(super) fn suites(self) -> Vec<u16> {
        match self {
            Self::V13 => MODERN.iter().chain(MODERN_BAD).map(|(suite, _)| *suite).collect(),
            _ => GOOD.iter().chain(BAD).map(|(suite, _)| *suite).collect(),
        }
    }
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It takes this version and this suite.
    Takes(Version, u16),
    /// It takes nothing of what was offered: an alert, or the end of the connection.
    Refuses,
}

/// The name of a suite, and whether RFC 9325 4 recommends it: forward secrecy by elliptic curves, and authenticated encryption.
pub(super) fn named(suite: u16) -> (String, bool) {
    let in_list = |list: &[(u16, &str)]| {
        list.iter().find(|(known, _)| *known == suite).map(|(_, name)| (*name).to_owned())
    };
    match in_list(MODERN).or_else(|| in_list(GOOD)) {
        Some(name) => (name, true),
        None => {
            (in_list(BAD).or_else(|| in_list(MODERN_BAD)).unwrap_or_else(|| format!("0x{suite:04x}")), false)
        }
    }
}

/// Says hello over a channel on which TLS is due, and hears what comes. Nothing bounds the time; whoever asks does.
///
/// # Errors
/// What came is no answer of a TLS server, in words.
pub(super) async fn ask<S>(mut stream: S, hello: &[u8]) -> Result<Heard, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    say(&mut stream, hello).await?;
    match record(&mut stream).await? {
        None => Ok(Heard::Refuses),
        Some(body) => read(&body).ok_or_else(|| "its first message of TLS cannot be read".to_owned()),
    }
}

/// The certificates that a server shows to this hello, the end entity's first. Up to TLS 1.2 they travel in clear (RFC 5246 7.4.2), so
/// they can be read where nothing can be agreed upon; that the server holds the key is not seen by that. None where it shows none.
/// Nothing bounds the time; whoever asks does.
///
/// # Errors
/// What came is no answer of a TLS server, in words.
pub(super) async fn chain<S>(mut stream: S, hello: &[u8]) -> Result<Option<Vec<Vec<u8>>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    say(&mut stream, hello).await?;
    let mut flight = Vec::new();
    while flight.len() < FLIGHT {
        let Some(body) = record(&mut stream).await? else { return Ok(None) };
        flight.extend(body);
        match shown(&flight) {
            Shown::NotYet => {}
            Shown::Nothing => return Ok(None),
            Shown::Chain(chain) => return Ok(Some(chain)),
        }
    }
    Err("its first messages of TLS are too long".to_owned())
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, hello: &[u8]) -> Result<(), String> {
    stream.write_all(hello).await.map_err(broke)?;
    stream.flush().await.map_err(broke)
}

/// What is in the next record of the handshake; none for an alert, and at the end.
async fn record<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Vec<u8>>, String> {
    let mut head = [0; 5];
    match stream.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if is_end(&error) => return Ok(None),
        Err(error) => return Err(broke(error)),
    }
    let [kind, _, _, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    match kind {
        ALERT if length <= LONGEST => Ok(None),
        HANDSHAKE if length <= LONGEST => {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.map_err(broke)?;
            Ok(Some(body))
        }
        _ => Err("what it answers is no TLS".to_owned()),
    }
}

fn broke(error: std::io::Error) -> String {
    format!("the connection broke: {error}")
}

fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// ClientHello (RFC 5246 7.4.1.2, RFC 8446 4.1.2) in one record; in 1.3 without a key of ours, so that the server asks for one, which says as much.
pub(super) fn write(
    version: Version,
    suites: &[u16],
    name: &str,
    alpn: Option<&[u8]>,
    random: [u8; 32],
) -> Vec<u8> {
    let modern = version == Version::V13;
    let mut extensions = Vec::new();
    let mut extend = |kind: u16, data: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(prefixed(data));
    };
    // server_name
    let mut host = vec![0];
    host.extend(prefixed(name.as_bytes()));
    extend(0, &prefixed(&host));
    // supported_groups: x25519, P-256, P-384, P-521
    extend(10, &prefixed(&words(&[0x001d, 0x0017, 0x0018, 0x0019])));
    // signature_algorithms, old ones too: the question is what the server takes, not what is good
    extend(
        13,
        &prefixed(&words(&[
            0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203,
            0x0201,
        ])),
    );
    if let Some(alpn) = alpn {
        let length = u8::try_from(alpn.len()).unwrap_or_default();
        let mut list = vec![length];
        list.extend(alpn.iter().take(length.into()));
        extend(16, &prefixed(&list));
    }
    if modern {
        // supported_versions, key_share
        extend(43, &[2, 3, 4]);
        extend(51, &[0, 0]);
    } else {
        // ec_point_formats, extended_master_secret, renegotiation_info
        extend(11, &[1, 0]);
        extend(23, &[]);
        extend(0xff01, &[0]);
    }
    let said = if modern { Version::V12 } else { version };
    let mut body = said.0.to_be_bytes().to_vec();
    body.extend(random);
    body.push(0);
    body.extend(prefixed(&words(suites)));
    body.extend([1, 0]);
    body.extend(prefixed(&extensions));
    let mut message = vec![CLIENT_HELLO, 0];
    message.extend(prefixed(&body));
    let mut record = vec![HANDSHAKE, 3, 1];
    record.extend(prefixed(&message));
    record
}

/// ServerHello, HelloRetryRequest included.
fn read(message: &[u8]) -> Option<Heard> {
    let body = match message {
        [SERVER_HELLO, _, _, _, body @ ..] => body,
        _ => return None,
    };
    let mut version = word(body, 0)?;
    let session = usize::from(*body.get(34)?);
    let suite = word(body, 35 + session)?;
    // Behind the compression.
    let mut at = 35 + session + 3;
    if let Some(length) = word(body, at) {
        at += 2;
        let end = at + usize::from(length);
        while at + 4 <= end {
            let (kind, length) = (word(body, at)?, usize::from(word(body, at + 2)?));
            if kind == 43 {
                version = word(body, at + 4)?;
            }
            at += 4 + length;
        }
    }
    Some(Heard::Takes(Version(version), suite))
}

/// What the messages of a handshake, as far as they have come, say of certificates.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Chain(Vec<Vec<u8>>),
    Nothing,
    NotYet,
}

fn shown(flight: &[u8]) -> Shown {
    let mut rest = flight;
    while let Some((&kind, behind)) = rest.split_first() {
        let Some((message, next)) = long(behind) else { return Shown::NotYet };
        rest = next;
        match kind {
            SERVER_HELLO => {}
            CERTIFICATE => {
                let mut chain = Vec::new();
                let mut list = long(message).map(|(list, _)| list).unwrap_or_default();
                while let Some((certificate, more)) = long(list) {
                    chain.push(certificate.to_vec());
                    list = more;
                }
                return if chain.is_empty() { Shown::Nothing } else { Shown::Chain(chain) };
            }
            // Whatever else comes instead: an anonymous key exchange has no certificate.
            _ => return Shown::Nothing,
        }
    }
    Shown::NotYet
}

/// Octets behind their length in three of them, and what comes after.
fn long(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[high, middle, low], behind) = octets.split_first_chunk::<3>()?;
    behind.split_at_checked(usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?)
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]))
}

fn words(all: &[u16]) -> Vec<u8> {
    all.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// With their length in two octets before them; nothing here is longer than that can say.
fn prefixed(octets: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    out.extend(octets);
    out
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
/// Octets of a handshake in which the certificates must have come.
const FLIGHT: usize = 64 << 10;
/// Octets of a record (RFC 5246 6.2.3).
const LONGEST: usize = 16_384 + 2048;

/// The suites of TLS 1.3.
const MODERN: &[(u16, &str)] = &[
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0x1304, "TLS_AES_128_CCM_SHA256"),
];

/// Those of TLS 1.3 that nobody should take: a short tag (RFC 8446 B.4), and no encryption at all (RFC 9150).
const MODERN_BAD: &[(u16, &str)] =
    &[(0x1305, "TLS_AES_128_CCM_8_SHA256"), (0xc0b4, "TLS_SHA256_SHA256"), (0xc0b5, "TLS_SHA384_SHA384")];

/// Those of TLS 1.2 that RFC 9325 4.2 recommends, ChaCha20 (RFC 7905) and, as good, CCM with a tag of full length (RFC 7251).
const GOOD: &[(u16, &str)] = &[
    (0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (0xc02f, "ECDHE-RSA-AES128-GCM-SHA256"),
    (0xc030, "ECDHE-RSA-AES256-GCM-SHA384"),
    (0xcca8, "ECDHE-RSA-CHACHA20-POLY1305"),
    (0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (0xc0ad, "ECDHE-ECDSA-AES256-CCM"),
    (0xc0ac, "ECDHE-ECDSA-AES128-CCM"),
];

/// Others that servers are known to take, by the names of OpenSSL.
const BAD: &[(u16, &str)] = &[
    (0x009e, "DHE-RSA-AES128-GCM-SHA256"),
    (0x009f, "DHE-RSA-AES256-GCM-SHA384"),
    (0xccaa, "DHE-RSA-CHACHA20-POLY1305"),
    (0xc023, "ECDHE-ECDSA-AES128-SHA256"),
    (0xc024, "ECDHE-ECDSA-AES256-SHA384"),
    (0xc027, "ECDHE-RSA-AES128-SHA256"),
    (0xc028, "ECDHE-RSA-AES256-SHA384"),
    (0xc009, "ECDHE-ECDSA-AES128-SHA"),
    (0xc00a, "ECDHE-ECDSA-AES256-SHA"),
    (0xc013, "ECDHE-RSA-AES128-SHA"),
    (0xc014, "ECDHE-RSA-AES256-SHA"),
    (0x0067, "DHE-RSA-AES128-SHA256"),
    (0x006b, "DHE-RSA-AES256-SHA256"),
    (0x0033, "DHE-RSA-AES128-SHA"),
    (0x0039, "DHE-RSA-AES256-SHA"),
    (0x009c, "AES128-GCM-SHA256"),
    (0x009d, "AES256-GCM-SHA384"),
    (0x003c, "AES128-SHA256"),
    (0x003d, "AES256-SHA256"),
    (0x002f, "AES128-SHA"),
    (0x0035, "AES256-SHA"),
    (0x0041, "CAMELLIA128-SHA"),
    (0x0084, "CAMELLIA256-SHA"),
    (0xc008, "ECDHE-ECDSA-DES-CBC3-SHA"),
    (0xc012, "ECDHE-RSA-DES-CBC3-SHA"),
    (0x000a, "DES-CBC3-SHA"),
    (0xc007, "ECDHE-ECDSA-RC4-SHA"),
    (0xc011, "ECDHE-RSA-RC4-SHA"),
    (0x0005, "RC4-SHA"),
    (0x0004, "RC4-MD5"),
    (0x0018, "ADH-RC4-MD5"),
    (0x0034, "ADH-AES128-SHA"),
    (0x003a, "ADH-AES256-SHA"),
    (0xc018, "AECDH-AES128-SHA"),
    (0xc019, "AECDH-AES256-SHA"),
    (0x0002, "NULL-SHA"),
    (0x003b, "NULL-SHA256"),
    (0xc0af, "ECDHE-ECDSA-AES256-CCM8"),
    (0xc0a3, "DHE-RSA-AES256-CCM8"),
    (0xc09f, "DHE-RSA-AES256-CCM"),
    (0xc05d, "ECDHE-ECDSA-ARIA256-GCM-SHA384"),
    (0xc061, "ECDHE-ARIA256-GCM-SHA384"),
    (0xc053, "DHE-RSA-ARIA256-GCM-SHA384"),
    (0x00a7, "ADH-AES256-GCM-SHA384"),
    (0xc0ae, "ECDHE-ECDSA-AES128-CCM8"),
    (0xc0a2, "DHE-RSA-AES128-CCM8"),
    (0xc09e, "DHE-RSA-AES128-CCM"),
    (0xc05c, "ECDHE-ECDSA-ARIA128-GCM-SHA256"),
    (0xc060, "ECDHE-ARIA128-GCM-SHA256"),
    (0xc052, "DHE-RSA-ARIA128-GCM-SHA256"),
    (0x00a6, "ADH-AES128-GCM-SHA256"),
    (0xc073, "ECDHE-ECDSA-CAMELLIA256-SHA384"),
    (0xc077, "ECDHE-RSA-CAMELLIA256-SHA384"),
    (0x00c4, "DHE-RSA-CAMELLIA256-SHA256"),
    (0x006d, "ADH-AES256-SHA256"),
    (0x00c5, "ADH-CAMELLIA256-SHA256"),
    (0xc072, "ECDHE-ECDSA-CAMELLIA128-SHA256"),
    (0xc076, "ECDHE-RSA-CAMELLIA128-SHA256"),
    (0x00be, "DHE-RSA-CAMELLIA128-SHA256"),
    (0x006c, "ADH-AES128-SHA256"),
    (0x00bf, "ADH-CAMELLIA128-SHA256"),
    (0x0088, "DHE-RSA-CAMELLIA256-SHA"),
    (0x0089, "ADH-CAMELLIA256-SHA"),
    (0x0045, "DHE-RSA-CAMELLIA128-SHA"),
    (0x0046, "ADH-CAMELLIA128-SHA"),
    (0xc0a1, "AES256-CCM8"),
    (0xc09d, "AES256-CCM"),
    (0xc051, "ARIA256-GCM-SHA384"),
    (0xc0a0, "AES128-CCM8"),
    (0xc09c, "AES128-CCM"),
    (0xc050, "ARIA128-GCM-SHA256"),
    (0x00c0, "CAMELLIA256-SHA256"),
    (0x00ba, "CAMELLIA128-SHA256"),
    (0xc006, "ECDHE-ECDSA-NULL-SHA"),
    (0xc010, "ECDHE-RSA-NULL-SHA"),
    (0xc015, "AECDH-NULL-SHA"),
    (0x0001, "NULL-MD5"),
    (0x0007, "IDEA-CBC-SHA"),
    (0x0096, "SEED-SHA"),
    (0x009a, "DHE-RSA-SEED-SHA"),
    (0x009b, "ADH-SEED-SHA"),
    (0x0009, "DES-CBC-SHA"),
    (0x0015, "DHE-RSA-DES-CBC-SHA"),
    (0x0016, "DHE-RSA-DES-CBC3-SHA"),
    (0x001a, "ADH-DES-CBC-SHA"),
    (0x001b, "ADH-DES-CBC3-SHA"),
    (0x0003, "EXP-RC4-MD5"),
    (0x0006, "EXP-RC2-CBC-MD5"),
    (0x0008, "EXP-DES-CBC-SHA"),
    (0x0014, "EXP-DHE-RSA-DES-CBC-SHA"),
    (0x0017, "EXP-ADH-RC4-MD5"),
    (0x0019, "EXP-ADH-DES-CBC-SHA"),
    (0xc016, "AECDH-RC4-SHA"),
    (0xc017, "AECDH-DES-CBC3-SHA"),
    (0xc07a, "CAMELLIA128-GCM-SHA256"),
    (0xc07b, "CAMELLIA256-GCM-SHA384"),
    (0xc07c, "DHE-RSA-CAMELLIA128-GCM-SHA256"),
    (0xc07d, "DHE-RSA-CAMELLIA256-GCM-SHA384"),
    (0xc084, "ADH-CAMELLIA128-GCM-SHA256"),
    (0xc085, "ADH-CAMELLIA256-GCM-SHA384"),
    (0xc086, "ECDHE-ECDSA-CAMELLIA128-GCM-SHA256"),
    (0xc087, "ECDHE-ECDSA-CAMELLIA256-GCM-SHA384"),
    (0xc08a, "ECDHE-RSA-CAMELLIA128-GCM-SHA256"),
    (0xc08b, "ECDHE-RSA-CAMELLIA256-GCM-SHA384"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_as_far_as_they_have_come() {
        let hello = [SERVER_HELLO, 0, 0, 2, 3, 1];
        let message = [CERTIFICATE, 0, 0, 13, 0, 0, 10, 0, 0, 3, 1, 2, 3, 0, 0, 1, 9];
        let whole = [&hello[..], &message].concat();
        for length in 0..whole.len() {
            assert_eq!(shown(&whole[..length]), Shown::NotYet, "{length}");
        }
        assert_eq!(shown(&whole), Shown::Chain(vec![vec![1, 2, 3], vec![9]]));
        for none in
            [&[CERTIFICATE, 0, 0, 3, 0, 0, 0][..], &[CERTIFICATE, 0, 0, 0], &[12, 0, 0, 0], &[14, 0, 0, 0]]
        {
            assert_eq!(shown(&[&hello[..], none].concat()), Shown::Nothing, "{none:?}");
        }
        // A list that says it is longer than its message, and a certificate that is.
        for cut in [&[CERTIFICATE, 0, 0, 4, 0, 0, 9, 1][..], &[CERTIFICATE, 0, 0, 7, 0, 0, 4, 0, 0, 9, 1]] {
            assert_eq!(shown(&[&hello[..], cut].concat()), Shown::Nothing, "{cut:?}");
        }
    }

    #[test]
    fn answers_are_read_or_refused_and_never_a_fault() {
        let mut old = vec![SERVER_HELLO, 0, 0, 38, 3, 2];
        old.extend([7; 32]);
        old.extend([0, 0xc0, 0x13, 0]);
        assert_eq!(read(&old), Some(Heard::Takes(Version::V11, 0xc013)));
        let mut modern = vec![SERVER_HELLO, 0, 0, 0, 3, 3];
        modern.extend([7; 32]);
        modern.extend([2, 9, 9, 0x13, 0x02, 0, 0, 12, 0, 51, 0, 2, 0, 29, 0, 43, 0, 2, 3, 4]);
        assert_eq!(read(&modern), Some(Heard::Takes(Version::V13, 0x1302)));
        for length in 0..modern.len() {
            let _read = read(modern.get(..length).unwrap_or_default());
        }
        assert_eq!(read(&modern[..20]), None);
        assert_eq!(read(&[11, 0, 0, 0]), None);
        assert_eq!(named(0x1301), ("TLS_AES_128_GCM_SHA256".to_owned(), true));
        assert_eq!(named(0x000a), ("DES-CBC3-SHA".to_owned(), false));
        assert_eq!(named(0xfefe), ("0xfefe".to_owned(), false));
    }
}
